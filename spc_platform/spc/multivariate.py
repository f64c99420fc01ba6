"""Charts of vectors: Hotelling T2 for individuals and subgroups, its parts by variable, generalized variance, MEWMA.

Sources: Montgomery, Introduction to Statistical Quality Control (chapter 11); Tracy, Young, Mason, Journal of Quality
Technology 24 (1992) 88-95; Sullivan, Woodall, JQT 28 (1996) 398-408; Runger, Alt, Montgomery, Communications in
Statistics 25 (1996) 2203-2213; Lowry, Woodall, Champ, Rigdon, Technometrics 34 (1992) 46-53. All charts of one call have
the same number of variables; kernels are flat over charts and loop over variables only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special
from scipy.special import ndtr

from spc_platform.errors import ContractError
from spc_platform.spc.covariance import (
    BAD_MULTIVARIATE,
    Method,
    VectorParameters,
    VectorSubgroups,
    check_covariance,
    covariance_problems,
    entering,
    known_parameters,
    span_of,
    t2_parameters,
    t2_subgroup_parameters,
    vector_subgroups,
    whitened,
)
from spc_platform.spc.scored import ScoredPoints, normal_score
from spc_platform.spc.sequence import Flags, Floats, Ints, Spans
from spc_platform.spc.time_weighted import recursion

__all__ = [
    "Method",
    "Phase",
    "VectorParameters",
    "VectorSubgroups",
    "check_covariance",
    "covariance_problems",
    "generalized_variance_panel",
    "known_parameters",
    "mewma_panel",
    "t2_contributions",
    "t2_panel",
    "t2_parameters",
    "t2_statistic",
    "t2_subgroup_parameters",
    "vector_subgroups",
]

Phase = Literal["phase_1", "phase_2", "known"]


def t2_statistic(
    x: Floats, n: Floats | float, spans: Spans, parameters: VectorParameters, remainder: Floats | float = 0.0
) -> Floats:
    """T2 of each vector, n (x - mean)' S^-1 (x - mean); NaN where a variable is NaN.

    ``x`` (N, p) observations or subgroup means, ``n`` their sizes, ``remainder`` what rounding took from the means, one chart
    of ``parameters`` per span. Computed on standardised variables by a Cholesky factor: neither offset nor unit costs digits.
    """
    y, _ = whitened(x, spans, parameters, remainder)
    with np.errstate(invalid="ignore"):
        return np.asarray(n * np.sum(y * y, axis=1), dtype=np.float64)


def t2_panel(
    x: Floats,
    n: Floats | float,
    spans: Spans,
    parameters: VectorParameters,
    phase: Phase,
    k: float = 3.0,
    alpha: float | None = None,
    included: Flags | None = None,
    variables: Sequence[str] | None = None,
    charts: Sequence[str] | None = None,
    remainder: Floats | float = 0.0,
) -> ScoredPoints:
    """T2 points with the limit of their phase.

    ``x`` (N, p), ``n`` (N or one) sizes, one chart per span; ``alpha`` is the false alarm rate, by default 2 Phi(-k). The
    upper limit is the 1 - alpha quantile of the distribution of T2, the centre line its median; there is no lower limit.
    individuals, phase_1: (m-1)^2/m Beta(p/2, (f-p-1)/2) with f = m, or 2(m-1)^2/(3m-4) for successive differences
    (Sullivan, Woodall 1996: an approximation); phase_2: (m+1)/m p nu/(nu-p+1) F(p, nu-p+1), which for the covariance is
    p(m+1)(m-1)/(m(m-p)) F(p, m-p). Subgroups of N values in all: (1 -+ n_i/N) p nu/(nu-p+1) F(p, nu-p+1), minus in
    phase_1, with the point's own n_i: exact for unequal sizes, and for equal ones p(m-+1)(n-1)/(mn-m-p+1) F. known: chi2
    with p degrees of freedom. In phase_1 a point that is not ``included`` in the parameters is judged as a new one.
    A chart of a single subgroup has no phase_1 limit: NaN.
    ``z`` is the two-sided normal score of the upper tail: z > k exactly where T2 lies above the limit of that k; at most 37.5.
    Raises ``ContractError``: SPC-322 (``check_covariance``), SPC-323 (unknown phase, alpha outside (0, 1), infinite x).
    """
    entering(x, None)
    check_covariance(parameters, variables, charts)
    rate = float(2.0 * ndtr(-k)) if alpha is None else alpha
    if not 0.0 < rate < 1.0:
        raise ContractError(
            f"alpha must lie between 0 and 1, got {rate:g}; leave it out to take it from k", code=BAD_MULTIVARIATE
        )
    if phase not in ("phase_1", "phase_2", "known"):
        raise ContractError(f"no phase {phase!r}; use phase_1, phase_2 or known", code=BAD_MULTIVARIATE)
    value = t2_statistic(x, n, spans, parameters, remainder)
    is_new = np.full(len(x), phase != "phase_1") if included is None or phase != "phase_1" else ~included
    law = _law(np.broadcast_to(np.asarray(n, dtype=np.float64), value.shape), spans, parameters, is_new, phase)
    ucl, cl = law.quantile(rate), law.quantile(0.5)
    nothing = np.full(value.shape, np.nan)
    above = law.log_tail(value) - np.log(2.0)
    return ScoredPoints(value, cl, nothing, ucl, nothing, normal_score(np.zeros_like(above), above))


@dataclass(frozen=True)
class _Law:
    """Distribution of T2: ``factor`` (N) times F(p, second), or times Beta(p/2, second/2), per chart; or chi2(p).

    ``of_f`` and ``of_beta`` (G) are the second parameters of new points and of points that entered; ``entered`` (N) chooses.
    """

    factor: Floats
    p: int
    chart: Ints
    of_f: Floats
    of_beta: Floats | None
    entered: Flags

    def quantile(self, tail: float) -> Floats:
        # one quantile per chart: its points share the degrees of freedom
        second = _positive(self.of_f)
        # far out F is large and second / (second + p F) keeps its digits
        rest = special.betaincinv(second / 2.0, self.p / 2.0, tail)
        base = (second * (1.0 - rest) / (self.p * rest))[self.chart]
        if self.of_beta is not None:
            beta = special.betainccinv(self.p / 2.0, _positive(self.of_beta) / 2.0, tail)
            base = np.where(self.entered, beta[self.chart], base)
        return np.asarray(self.factor * base, dtype=np.float64)

    def log_tail(self, value: Floats) -> Floats:
        scaled = value / self.factor
        second = _positive(self.of_f)[self.chart]
        rest = second / (self.p * scaled + second)
        if self.of_beta is not None:
            second = np.where(self.entered, _positive(self.of_beta)[self.chart], second)
            rest = np.where(self.entered, np.maximum(1.0 - scaled, 0.0), rest)
        return _log(np.asarray(special.betainc(second / 2.0, self.p / 2.0, rest), dtype=np.float64))


@dataclass(frozen=True)
class _KnownLaw:
    """Distribution of T2 with known parameters: chi-squared with p degrees of freedom at N points."""

    rows: int
    p: int

    def quantile(self, tail: float) -> Floats:
        return np.full(self.rows, 2.0 * float(special.gammainccinv(self.p / 2.0, tail)))

    def log_tail(self, value: Floats) -> Floats:
        return _log(np.asarray(special.gammaincc(self.p / 2.0, value / 2.0), dtype=np.float64))


def _positive(df: Floats) -> Floats:
    return np.where(df > 0, df, np.nan)


def _log(tail: Floats) -> Floats:
    # a tail that underflows would give an infinite score
    return np.asarray(np.log(np.maximum(tail, np.finfo(float).tiny)), dtype=np.float64)


def _law(n: Floats, spans: Spans, parameters: VectorParameters, is_new: Flags, phase: Phase) -> _Law | _KnownLaw:
    chart, p = span_of(spans), parameters.mean.shape[1]
    if phase == "known":
        return _KnownLaw(len(n), p)
    total, nu = parameters.total[chart], parameters.nu[chart]
    if np.isinf(total).any():
        raise ContractError("known parameters have the phase 'known'; name it", code=BAD_MULTIVARIATE)
    of_f = p * nu / (nu - p + 1.0)
    second = parameters.nu - p + 1.0
    if parameters.is_subgrouped:
        share = n / total
        factor = np.where(is_new, 1.0 + share, np.where(share < 1.0, 1.0 - share, np.nan)) * of_f
        return _Law(factor, p, chart, second, None, ~is_new)
    factor = np.where(is_new, (1.0 + 1.0 / total) * of_f, (total - 1.0) ** 2 / total)
    return _Law(factor, p, chart, second, parameters.beta_df - p - 1.0, ~is_new)


def t2_contributions(
    x: Floats, n: Floats | float, spans: Spans, parameters: VectorParameters, remainder: Floats | float = 0.0
) -> Floats:
    """What each variable adds to T2: d_j = T2 - T2 without variable j; (N, p), each at least 0.

    A variable with a d_j above chi2(1 - alpha; 1) is worth a look (Runger, Alt, Montgomery 1996). By the inverse of a
    partitioned matrix d_j = n (S^-1 d)_j^2 / (S^-1)_jj, so no submatrix is inverted. Contributions do not add up to T2.
    """
    y, inverse = whitened(x, spans, parameters, remainder)
    chart = span_of(spans)
    solved = np.stack([np.sum(y * inverse[chart, :, j], axis=1) for j in range(x.shape[1])], axis=1)
    size = np.broadcast_to(np.asarray(n, dtype=np.float64), (len(x),))[:, None]
    return np.asarray(size * solved**2 / np.sum(inverse**2, axis=1)[chart], dtype=np.float64)


def generalized_variance_panel(
    subgroups: VectorSubgroups, spans: Spans, parameters: VectorParameters, k: float = 3.0, *, unbiased: bool = True
) -> ScoredPoints:
    """Panel of |S_i|, the determinant of each subgroup's covariance, with cl = b1 |Sigma| and error sqrt(b2) |Sigma|.

    b1 = prod(n-i)/(n-1)^p, b2 = prod(n-i) [prod(n-i+2) - prod(n-i)]/(n-1)^2p, i = 1..p, at each subgroup's own n
    (Montgomery 11.5). |Sigma| is |S| / b3 with b3 = prod(nu-i+1)/nu^p, which makes it unbiased; ``unbiased=False`` divides by
    b1 of the point's n, Montgomery's text. Known parameters are taken as they are. lcl >= 0. A subgroup with n <= p has no
    determinant: NaN. ``z`` is (value - cl) / error. Raises ``ContractError`` SPC-322 (``check_covariance``).
    """
    check_covariance(parameters)
    p, chart = parameters.mean.shape[1], span_of(spans)
    n = np.where(subgroups.n > p, subgroups.n, np.nan)
    value = np.linalg.det(np.where(np.isfinite(n), subgroups.scatter.T, 0.0).T / np.nan_to_num(n - 1.0, nan=1.0)[:, None, None])
    value = np.where(np.isfinite(n), value, np.nan)
    order = np.arange(1, p + 1)
    falling = np.prod((n[:, None] - order) / (n[:, None] - 1.0), axis=1)
    rising = np.prod((n[:, None] - order + 2.0) / (n[:, None] - 1.0), axis=1)
    sigma = np.linalg.det(parameters.covariance)[chart]
    nu = parameters.nu[chart]
    if not np.isinf(nu).any():
        sigma = sigma / (np.prod((nu[:, None] - order + 1.0) / nu[:, None], axis=1) if unbiased else falling)
    cl, error = falling * sigma, np.sqrt(falling * (rising - falling)) * sigma
    lcl = np.maximum(cl - k * error, 0.0)
    return ScoredPoints(value, cl, lcl, cl + k * error, error, (value - cl) / np.where(error > 0, error, np.nan))


def mewma_panel(
    x: Floats,
    is_first: Flags,
    spans: Spans,
    parameters: VectorParameters,
    weight: float,
    limit: float,
    n: Floats | float = 1.0,
    *,
    exact: bool = True,
    k: float = 3.0,
    variables: Sequence[str] | None = None,
    charts: Sequence[str] | None = None,
    remainder: Floats | float = 0.0,
) -> ScoredPoints:
    """MEWMA points T2_i = w_i' Cov(w_i)^-1 w_i with w_i = r (x_i - mean) + (1 - r) w_{i-1}, 0 before each segment.

    ``x`` (N, p) observations or subgroup means of sizes ``n``; ``is_first`` (N) starts of segments, at which w restarts;
    ``weight`` r in (0, 1]; ``limit`` the h of the wanted run length. ``exact`` uses the covariance at each i,
    r^2 sum (1-r)^2(i-j) / n_j S, for equal sizes r/(2-r) [1 - (1-r)^2i] S/n; otherwise its limit r/(2-r) S/n_i. With
    r = 1 it is T2. A vector with NaN has no point and does not enter: w goes on at the next one. cl is 0 and there is no
    lower limit; ``z`` is T2/h scaled to k at the limit, good for the test against the limit only.
    Raises ``ContractError``: SPC-322 (``check_covariance``), SPC-323 (weight outside (0, 1], limit not above 0, infinite x).
    """
    if not 0.0 < weight <= 1.0 or not limit > 0.0:
        raise ContractError(
            f"a MEWMA needs a weight in (0, 1] and a limit above 0, got {weight:g} and {limit:g}; common are 0.1 and the limit "
            "of the wanted run length",
            code=BAD_MULTIVARIATE,
        )
    observed = np.flatnonzero(entering(x, None))
    check_covariance(parameters, variables, charts)
    y, _ = whitened(x, spans, parameters, remainder)
    segment = np.cumsum(is_first)[observed]
    first = np.diff(segment, prepend=-1) != 0
    size = np.broadcast_to(np.asarray(n, dtype=np.float64), (len(x),))[observed]
    w = np.stack([recursion(weight * y[observed, j], first, 1.0 - weight) for j in range(x.shape[1])], axis=1)
    spread = recursion(weight**2 / size, first, (1.0 - weight) ** 2) if exact else weight / (2.0 - weight) / size
    value = np.full(len(x), np.nan)
    value[observed] = np.sum(w * w, axis=1) / spread
    nothing = np.full(len(x), np.nan)
    ucl = np.where(np.isfinite(value), limit, np.nan)
    return ScoredPoints(value, ucl * 0.0, nothing, ucl, nothing, value / limit * k)

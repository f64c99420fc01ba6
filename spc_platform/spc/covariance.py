"""Mean and covariance of vectors: estimated from individuals or within subgroups, checked, and taken off the data.

Sources: Sullivan, Woodall, Journal of Quality Technology 28 (1996) 398-408 (successive differences); Montgomery, Introduction
to Statistical Quality Control (11.3). All charts of one call have the same number of variables; kernels are flat over
charts and loop over variables only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from spc_platform.errors import ContractError
from spc_platform.spc.sequence import Flags, Floats, Ints, Spans

Method = Literal["covariance", "successive_differences"]

SINGULAR = "SPC-322"
BAD_MULTIVARIATE = "SPC-323"

SMALLEST_EIGENVALUE = 1e-10
"""Of the correlation matrix, relative to its largest: below it T2 would have fewer than six correct digits."""


@dataclass(frozen=True)
class VectorParameters:
    """Centre and covariance of G charts of p variables.

    ``mean`` (G, p) and ``covariance`` (G, p, p) in the units of the variables; ``total`` (G) observations behind the mean;
    ``nu`` (G) degrees of freedom of the covariance; ``beta_df`` (G) the number that stands for m in the second shape of the
    phase I beta of individuals, (beta_df - p - 1) / 2: m itself, or 2(m-1)^2/(3m-4) for successive differences.
    ``is_subgrouped``: the covariance comes from within subgroups, independent of their means. ``remainder`` (G, p) is what
    rounding took from ``mean``: without it a common offset of 1e9 would cost T2 digits.
    """

    mean: Floats
    covariance: Floats
    total: Floats
    nu: Floats
    beta_df: Floats
    is_subgrouped: bool
    remainder: Floats | float = 0.0


def known_parameters(mean: Floats, covariance: Floats) -> VectorParameters:
    """Historical parameters: ``mean`` (G, p), ``covariance`` (G, p, p), taken as exact (T2 limits are chi-squared)."""
    endless = np.full(len(mean), np.inf)
    return VectorParameters(np.asarray(mean, float), np.asarray(covariance, float), endless, endless, endless, False)


def t2_parameters(
    x: Floats, spans: Spans, included: Flags | None = None, method: Method = "covariance", is_first: Flags | None = None
) -> VectorParameters:
    """Mean and covariance of individual vectors, one chart per span.

    ``x`` (N, p); a row with NaN in any variable does not enter, nor one that is not ``included``. ``covariance`` divides
    by m - 1. ``successive_differences`` is V'V / (2 pairs) over adjacent rows that both enter and lie in one segment of
    ``is_first`` (default: the span); its degrees of freedom 2 q^2 / (2q + a), with q pairs of which a follow one another
    directly, are 2(m-1)^2/(3m-4) for an unbroken series (Sullivan, Woodall 1996). An unknown method or an infinite value
    raises ``ContractError`` (SPC-323). Spans without rows give NaN; ``check_covariance`` names what is wrong with them.
    """
    used = entering(x, included)
    if method == "covariance":
        m, mean, remainder, scatter = _moments(x, used, spans)
        with np.errstate(invalid="ignore", divide="ignore"):
            covariance = scatter / (m - 1.0)[:, None, None]
        return VectorParameters(mean, covariance, m, m - 1.0, m, False, remainder)
    if method != "successive_differences":
        raise ContractError(
            f"no covariance estimator {method!r}; use covariance or successive_differences", code=BAD_MULTIVARIATE
        )
    m, mean, remainder, _ = _moments(x, used, spans)
    first = np.zeros(len(x), dtype=np.bool_)
    first[spans.starts] = True
    first |= False if is_first is None else is_first
    before = np.concatenate((x[:1], x[:-1]))
    pair = used & np.concatenate((used[:1], used[:-1])) & ~first
    step = np.where(pair[:, None], x - before, 0.0)
    adjacent = pair & np.concatenate((pair[:1], pair[:-1]))
    q, a = spans.count(pair).astype(np.float64), spans.count(adjacent).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        covariance = _products(step, spans) / (2.0 * q)[:, None, None]
        nu = 2.0 * q * q / (2.0 * q + a)
    return VectorParameters(mean, covariance, m, nu, nu, False, remainder)


@dataclass(frozen=True)
class VectorSubgroups:
    """S subgroups of p variables: ``mean`` (S, p), size ``n`` (S), sum of products about the mean ``scatter`` (S, p, p).

    ``remainder`` (S, p) is what rounding took from ``mean``.
    """

    mean: Floats
    n: Floats
    scatter: Floats
    remainder: Floats | float = 0.0


def vector_subgroups(values: Floats, subgroup_spans: Spans) -> VectorSubgroups:
    """Mean, size and scatter of each subgroup of vectors; ``values`` (N, p), rows with NaN do not enter.

    An infinite value raises ``ContractError`` (SPC-323).
    """
    n, mean, remainder, scatter = _moments(values, entering(values, None), subgroup_spans)
    return VectorSubgroups(mean, n, scatter, remainder)


def t2_subgroup_parameters(subgroups: VectorSubgroups, spans: Spans, included: Flags | None = None) -> VectorParameters:
    """Grand mean (weighted by size) and pooled covariance within subgroups, one chart per span of subgroups.

    S = sum of scatters / sum(n_i - 1): for equal sizes the mean of the subgroups' covariance matrices. Subgroups that are
    empty or not ``included`` do not enter.
    """
    used = (subgroups.n > 0) & (True if included is None else included)
    n = np.where(used, subgroups.n, 0.0)
    total, nu = spans.total(n), spans.total(np.maximum(n - 1.0, 0.0))
    anchor = _anchor(subgroups.mean, used, spans)
    offset = np.where(used[:, None], subgroups.mean - anchor[span_of(spans)] + subgroups.remainder, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean, remainder = _sum(anchor, np.add.reduceat(n[:, None] * offset, spans.starts, axis=0) / total[:, None])
        scatter = np.where(used[:, None, None], subgroups.scatter, 0.0)
        covariance = np.add.reduceat(scatter, spans.starts, axis=0) / nu[:, None, None]
    return VectorParameters(mean, covariance, total, nu, nu, True, remainder)


def covariance_problems(parameters: VectorParameters, variables: Sequence[str]) -> dict[int, str]:
    """What makes the covariance of a chart unusable, by the chart's index; charts that are fine are not in it.

    Too few observations, a variable that is constant, or collinear variables; ``variables`` (p) names them in the text.
    """
    p = parameters.mean.shape[1]
    names = np.asarray(variables)
    # with m = p + 1 individuals every T2 is the same number: there is no phase I limit
    few = ~(parameters.nu >= p) | (~(parameters.beta_df > p + 1) & (not parameters.is_subgrouped))
    variance = np.diagonal(parameters.covariance, axis1=1, axis2=2)
    constant = ~(variance > 0)
    found = {
        int(chart): f"{parameters.nu[chart]:.4g} degrees of freedom cannot give a covariance of the {p} variables "
        f"{', '.join(names)}; take more observations or fewer variables"
        for chart in np.flatnonzero(few)
    }
    for chart in np.flatnonzero(constant.any(axis=1) & ~few):
        found[int(chart)] = f"{', '.join(names[constant[chart]])} does not vary; leave it out or correct its source"
    fine = np.flatnonzero(~few & ~constant.any(axis=1))
    value, vector = np.linalg.eigh(_correlation(parameters.covariance[fine])[0])
    for row in np.flatnonzero(value[:, 0] < SMALLEST_EIGENVALUE * value[:, -1]):
        share = np.abs(vector[row, :, 0])
        tied = names[share > 0.1 * share.max()]
        found[int(fine[row])] = f"{', '.join(tied)} are collinear (one follows from the others); leave one of them out"
    return dict(sorted(found.items()))


def check_covariance(
    parameters: VectorParameters, variables: Sequence[str] | None = None, charts: Sequence[str] | None = None
) -> None:
    """Raise ``ContractError`` (SPC-322) that names the first charts whose covariance cannot be inverted, and the remedy."""
    names = list(variables) if variables is not None else [f"variable {j + 1}" for j in range(parameters.mean.shape[1])]
    problems = covariance_problems(parameters, names)
    if problems:
        shown = [f"{charts[g] if charts is not None else f'chart {g + 1}'}: {text}" for g, text in list(problems.items())[:5]]
        more = f" (and {len(problems) - 5} more charts)" if len(problems) > 5 else ""
        raise ContractError("no T2 can be computed; " + "; ".join(shown) + more, code=SINGULAR)


def span_of(spans: Spans) -> Ints:
    """Number of the span of each row."""
    return np.repeat(np.arange(len(spans.starts)), spans.sizes)


def entering(x: Floats, included: Flags | None) -> Flags:
    """Rows of ``x`` (N, p) without a missing variable that are ``included``; infinity raises ``ContractError`` SPC-323."""
    endless = np.argwhere(np.isinf(x))
    if len(endless):
        row, variable = endless[0]
        raise ContractError(
            f"infinite value in row {row}, variable {variable + 1}; correct it at its source or leave the row out",
            code=BAD_MULTIVARIATE,
        )
    observed = np.asarray(np.isfinite(x).all(axis=1), dtype=np.bool_)
    return observed if included is None else observed & included


def _anchor(x: Floats, used: Flags, spans: Spans) -> Floats:
    """First used row of each span: sums about it lose no digits to a common offset. NaN where none is used."""
    row = np.minimum.reduceat(np.where(used, np.arange(len(x)), len(x)), spans.starts)
    return np.where((row < len(x))[:, None], x[np.minimum(row, len(x) - 1)], np.nan)


def _sum(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Sum, rounded, and what the rounding took (Knuth's two-sum)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _moments(x: Floats, used: Flags, spans: Spans) -> tuple[Floats, Floats, Floats, Floats]:
    """Number, mean (G, p), its remainder and sum of products about the mean (G, p, p) of the used rows of each span."""
    chart, m = span_of(spans), spans.count(used).astype(np.float64)
    anchor = _anchor(x, used, spans)
    offset = np.where(used[:, None], x - anchor[chart], 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        shift = np.add.reduceat(offset, spans.starts, axis=0) / m[:, None]
    about = np.where(used[:, None], offset - shift[chart], 0.0)
    return m, *_sum(anchor, shift), _products(about, spans)


def _products(v: Floats, spans: Spans) -> Floats:
    """Sum of v v' of each span, (G, p, p); variable by variable, so that no row holds a matrix."""
    p = v.shape[1]
    out = np.empty((len(spans.starts), p, p))
    for i in range(p):
        for j in range(i + 1):
            out[:, i, j] = out[:, j, i] = spans.total(v[:, i] * v[:, j])
    return out


def _correlation(covariance: Floats) -> tuple[Floats, Floats]:
    """Correlation matrices and standard deviations of covariance matrices."""
    s = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    return covariance / s[:, :, None] / s[:, None, :], s


def whitened(x: Floats, spans: Spans, parameters: VectorParameters, remainder: Floats | float) -> tuple[Floats, Floats]:
    """L^-1 of each standardised deviation (N, p), and L^-1 itself (G, p, p), with L L' the correlation of its chart."""
    check_covariance(parameters)
    correlation, s = _correlation(parameters.covariance)
    lower = np.linalg.cholesky(correlation)
    inverse = np.linalg.solve(lower, np.broadcast_to(np.eye(x.shape[1]), lower.shape))
    chart = span_of(spans)
    taken = np.broadcast_to(parameters.remainder, parameters.mean.shape)[chart]
    d = (x - parameters.mean[chart] + (remainder - taken)) / s[chart]
    y = np.empty_like(d)
    for j in range(x.shape[1]):
        known = sum((lower[chart, j, i] * y[:, i] for i in range(j)), start=np.zeros(len(x)))
        y[:, j] = (d[:, j] - known) / lower[chart, j, j]
    return y, inverse

"""Distributions of parts by maximum likelihood: normal, lognormal, Weibull, gamma and Johnson's, and how well they fit.

Two parameters by default; lognormal, Weibull and gamma take a threshold on request. ``fit_many`` fits thousands of
charts in one go; Johnson's and the threshold are for single studies (``fit``).
Sources: those of ``shape_equations``, ``johnson`` and ``goodness_of_fit``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

from spc_platform.errors import ContractError
from spc_platform.spc.goodness_of_fit import anderson_darling, p_of_gamma, p_of_normal, p_of_weibull
from spc_platform.spc.johnson import fit_johnson
from spc_platform.spc.sequence import Flags, Floats, Spans
from spc_platform.spc.shape_equations import FITTERS, relative_logs, rows_of

DISTRIBUTIONS = ("normal", "lognormal", "weibull", "gamma")
"""Distributions that ``fit_many`` knows and a site may declare; ``fit`` knows ``johnson`` as well."""

POSITIVE = ("lognormal", "weibull", "gamma")
LOW, MIDDLE, HIGH = 0.00135, 0.5, 0.99865
"""ISO 22514: the percentiles that stand for mean - 3 sigma, mean and mean + 3 sigma."""

ENOUGH_FOR_TAILS = 2000


@dataclass(frozen=True)
class Fits:
    """Fits of one distribution to many charts; one entry per chart, NaN where no fit exists.

    ``location`` and ``scale`` are in the unit of the values (lognormal: scale is exp(mean of logs); normal: location
    is the mean, scale the maximum-likelihood sigma), ``shape`` has no unit (lognormal: sigma of the logs; normal: NaN).
    """

    distribution: str
    shape: Floats
    location: Floats
    scale: Floats
    n: Floats
    log_likelihood: Floats
    anderson_darling: Floats
    p_value: Floats
    smallest: Floats
    largest: Floats

    def quantile(self, share: float) -> Floats:
        """Value below which ``share`` of the fitted distribution lies."""
        return _quantile(self.distribution, self.shape, self.location, self.scale, share)

    def below(self, value: Floats) -> Floats:
        """Share of the fitted distribution below ``value``; keeps its digits when it is tiny."""
        return np.exp(_log_shares(self.distribution, value, self.shape, self.location, self.scale)[0])

    def above(self, value: Floats) -> Floats:
        """Share of the fitted distribution above ``value``; keeps its digits when it is tiny."""
        return np.exp(_log_shares(self.distribution, value, self.shape, self.location, self.scale)[1])

    @property
    def is_extrapolated(self) -> Flags:
        """True where a tail percentile lies outside the values, or fewer than 2,000 values support it."""
        outside = (self.quantile(LOW) < self.smallest) | (self.quantile(HIGH) > self.largest)
        return np.asarray(outside | (self.n < ENOUGH_FOR_TAILS), dtype=np.bool_)


@dataclass(frozen=True)
class Fit:
    """Fit of one distribution to the values of one study.

    ``parameters`` by name in the convention of scipy's ``scipy_name``; ``p_value`` is None where no law of the
    statistic is published (a third parameter), and ``p_value_source`` says which was used.
    """

    distribution: str
    parameters: dict[str, float]
    n: int
    log_likelihood: float
    aic: float
    anderson_darling: float
    p_value: float | None
    p_value_source: str
    smallest: float
    largest: float
    scipy_name: str
    scipy_arguments: tuple[float, ...]

    def quantile(self, share: float) -> float:
        """Value below which ``share`` of the fitted distribution lies."""
        return float(self._law.isf(1.0 - share) if share > MIDDLE else self._law.ppf(share))

    def below(self, value: float) -> float:
        """Share of the fitted distribution below ``value``."""
        return float(self._law.cdf(value))

    def above(self, value: float) -> float:
        """Share of the fitted distribution above ``value``."""
        return float(self._law.sf(value))

    @property
    def is_extrapolated(self) -> bool:
        """True when a tail percentile lies outside the values, or fewer than 2,000 values support it."""
        outside = self.quantile(LOW) < self.smallest or self.quantile(HIGH) > self.largest
        return outside or self.n < ENOUGH_FOR_TAILS

    @property
    def _law(self) -> Any:
        return getattr(stats, self.scipy_name)(*self.scipy_arguments)


def fit_many(values: Floats, spans: Spans, distribution: str) -> Fits:
    """Fit of ``distribution`` (normal, lognormal, weibull, gamma) to the values of each span, all at once.

    ``values``: finite, ascending within each span. A span with fewer than two different values, or with a value
    that is not positive where the distribution needs it, has NaN in every figure. Raises ``ContractError`` SPC-348
    for another distribution.

    >>> found = fit_many(np.array([1.0, 2.0, 4.0]), Spans(np.array([0]), 3), "lognormal")
    >>> found.scale.round(6).tolist(), found.shape.round(6).tolist()
    ([2.0], [0.565952])
    """
    if distribution not in DISTRIBUTIONS:
        raise _unknown(distribution, DISTRIBUTIONS)
    smallest, largest = values[spans.starts], values[spans.ends]
    usable = (smallest < largest) & ((smallest > 0) if distribution in POSITIVE else True)
    # unusable spans are fitted as 1, 2, 2, ... so that no warning arises, and masked afterwards
    is_start = np.zeros(spans.rows, dtype=np.bool_)
    is_start[spans.starts] = True
    safe = np.where(spans.expand(usable), values, np.where(is_start, 1.0, 2.0))
    n = spans.sizes.astype(np.float64)
    with np.errstate(all="ignore"):
        shape, location, scale = FITTERS[distribution](safe, spans, n)
        each = [rows_of(spans, part) for part in (shape, location, scale)]
        likelihood = spans.total(_log_density(distribution, safe, *each))
        spread = np.sqrt(n / np.maximum(n - 1.0, 1.0))
        # the published laws of A^2 for normal values are those of the sample s, n - 1
        tested = _with_sample_s(distribution, shape, location, scale, spread)
        a2 = anderson_darling(*_log_shares(distribution, safe, *(rows_of(spans, part) for part in tested)), spans)
        p = _p_value(distribution, a2, n, shape)
    figures = (shape, location, scale, likelihood, a2, p)
    shape, location, scale, likelihood, a2, p = (np.where(usable & np.isfinite(scale), each, np.nan) for each in figures)
    return Fits(distribution, shape, location, scale, n, likelihood, a2, p, smallest, largest)


def fit(values: npt.ArrayLike, distribution: str, *, threshold: bool = False) -> Fit:
    """Fit of one distribution to the values of a study by maximum likelihood, with its fit statistics.

    ``distribution``: normal, lognormal, weibull, gamma or johnson (families SU, SB and SL chosen by quantiles, see
    ``fit_johnson``). ``threshold``: a third parameter for lognormal, weibull and gamma, at the interior maximum of
    the profile likelihood. Raises ``ContractError``: SPC-347 for a value that is missing, infinite or, without a
    threshold, not positive (names the row); SPC-348 for an unknown distribution; SPC-349 when no maximum exists
    (all values equal, fewer than 3, likelihood without an interior maximum).

    >>> found = fit([1.0, 2.0, 4.0], "lognormal")
    >>> round(found.parameters["scale"], 6)
    2.0
    """
    known = (*DISTRIBUTIONS, "johnson")
    if distribution not in known:
        raise _unknown(distribution, known)
    if threshold and distribution not in POSITIVE:
        raise ContractError(
            f"a {distribution} distribution has no threshold of its own; ask without one, or for {', '.join(POSITIVE)}",
            code="SPC-348",
        )
    data = checked(values, distribution, positive=distribution in POSITIVE and not threshold)
    if distribution == "johnson":
        return _johnson(data)
    location = _threshold(data, distribution) if threshold else 0.0
    found = fit_many(data - location, Spans(np.array([0]), len(data)), distribution)
    return _single(found, location, data, threshold=threshold)


def best_fit(values: npt.ArrayLike, distributions: Sequence[str] = DISTRIBUTIONS) -> list[Fit]:
    """Fits of all ``distributions`` that the values allow, the smallest Anderson-Darling statistic first.

    Johnson's is not among them by default: its four parameters follow any sample, noise included.

    A distribution that cannot be fitted (values not positive, no maximum) is left out; when none is left, the first
    error is raised. Source of the criterion: Stephens (1974); Minitab's individual distribution identification.
    """
    found: list[Fit] = []
    refused: list[ContractError] = []
    for name in distributions:
        try:
            found.append(fit(values, name))
        except ContractError as error:
            refused.append(error)
    if not found and refused:
        raise refused[0]
    return sorted(found, key=lambda each: each.anderson_darling)


def checked(values: npt.ArrayLike, what: str, *, positive: bool, at_least: int = 3) -> Floats:
    """The values in ascending order, or ``ContractError`` SPC-347, SPC-349 that names the row (1-based) and remedy."""
    data = np.asarray(values, dtype=np.float64).ravel()
    bad = np.flatnonzero(~np.isfinite(data))
    if bad.size:
        raise ContractError(
            f"row {bad[0] + 1}: value {data[bad[0]]} is missing or infinite; leave the row out ({bad.size} such rows)",
            code="SPC-347",
        )
    bad = np.flatnonzero(data <= 0) if positive else bad
    if bad.size:
        raise ContractError(
            f"row {bad[0] + 1}: value {data[bad[0]]:g} is not positive, which {what} needs ({bad.size} such rows); "
            "add an offset to values and limits, fit a threshold, or use the Johnson or normal distribution",
            code="SPC-347",
        )
    if len(data) < at_least or data.min() == data.max():
        raise ContractError(
            f"{len(data)} values, {len(np.unique(data))} of them different, do not determine {what}; "
            f"give at least {at_least} values that differ",
            code="SPC-349",
        )
    return np.sort(data)


def _unknown(distribution: str, known: Sequence[str]) -> ContractError:
    return ContractError(f"unknown distribution {distribution!r}; use one of {', '.join(known)}", code="SPC-348")


def _log_density(distribution: str, x: Floats, shape: Floats, location: Floats, scale: Floats) -> Floats:
    if distribution == "normal":
        z = (x - location) / scale
        return np.asarray(-0.5 * z * z - np.log(scale) - 0.5 * np.log(2.0 * np.pi), dtype=np.float64)
    logs = relative_logs(x, scale)
    if distribution == "lognormal":
        z = logs / shape
        return np.asarray(-0.5 * z * z - np.log(x * shape) - 0.5 * np.log(2.0 * np.pi), dtype=np.float64)
    if distribution == "weibull":
        return np.asarray(np.log(shape / x) + shape * logs - np.exp(shape * logs), dtype=np.float64)
    return np.asarray(shape * logs - x / scale - special.gammaln(shape) - np.log(x), dtype=np.float64)


def _log_shares(distribution: str, x: Floats, shape: Floats, location: Floats, scale: Floats) -> tuple[Floats, Floats]:
    """Logarithms of F(x) and 1 - F(x); NaN stays NaN, and a value of a positive distribution at or below 0 has F = 0."""
    with np.errstate(all="ignore"):
        if distribution == "normal":
            z = (x - location) / scale
            return special.log_ndtr(z), special.log_ndtr(-z)
        inside = np.where(x > 0, x, np.nan)
        logs = relative_logs(inside, scale)
        if distribution == "lognormal":
            low, high = special.log_ndtr(logs / shape), special.log_ndtr(-logs / shape)
        elif distribution == "weibull":
            hazard = np.exp(shape * logs)
            low, high = np.log(-np.expm1(-hazard)), -hazard
        else:
            low, high = np.log(special.gammainc(shape, inside / scale)), np.log(special.gammaincc(shape, inside / scale))
        outside = (x <= 0) & np.isfinite(scale)
        return np.where(outside, -np.inf, low), np.where(outside, 0.0, high)


def _quantile(distribution: str, shape: Floats, location: Floats, scale: Floats, share: float) -> Floats:
    upper = share > MIDDLE
    if distribution == "weibull":
        hazard = -np.log(1.0 - share) if upper else -np.log1p(-share)
        return np.asarray(scale * hazard ** (1.0 / shape), dtype=np.float64)
    if distribution == "gamma":
        inverse = special.gammainccinv(shape, 1.0 - share) if upper else special.gammaincinv(shape, share)
        return np.asarray(scale * inverse, dtype=np.float64)
    z = float(special.ndtri(share))
    if distribution == "lognormal":
        return np.asarray(scale * np.exp(shape * z), dtype=np.float64)
    return np.asarray(location + scale * z, dtype=np.float64)


def _with_sample_s(
    distribution: str, shape: Floats, location: Floats, scale: Floats, spread: Floats
) -> tuple[Floats, Floats, Floats]:
    if distribution == "normal":
        return shape, location, scale * spread
    return (shape * spread, location, scale) if distribution == "lognormal" else (shape, location, scale)


def _p_value(distribution: str, a2: Floats, n: Floats, shape: Floats) -> Floats:
    if distribution == "weibull":
        return p_of_weibull(a2, n)
    return p_of_gamma(a2, shape) if distribution == "gamma" else p_of_normal(a2, n)


_SCIPY = {"normal": "norm", "lognormal": "lognorm", "weibull": "weibull_min", "gamma": "gamma"}
_P_SOURCES = {
    "normal": "D'Agostino and Stephens (1986)",
    "lognormal": "D'Agostino and Stephens (1986)",
    "weibull": "MIL-HDBK-17-1F",
    "gamma": "Lockhart and Stephens (1985), asymptotic",
}
_NO_LAW = "none published for a third parameter"


def _single(found: Fits, location: float, data: Floats, *, threshold: bool) -> Fit:
    shape, scale = float(found.shape[0]), float(found.scale[0])
    place = float(found.location[0]) + location
    parameters = {"scale": scale, "location": place}
    if found.distribution != "normal":
        parameters = {"shape": shape, **parameters}
    likelihood, free = float(found.log_likelihood[0]), 3 if threshold else 2
    return Fit(
        distribution=found.distribution,
        parameters=parameters,
        n=len(data),
        log_likelihood=likelihood,
        aic=2.0 * free - 2.0 * likelihood,
        anderson_darling=float(found.anderson_darling[0]),
        p_value=None if threshold else float(found.p_value[0]),
        p_value_source=_NO_LAW if threshold else _P_SOURCES[found.distribution],
        smallest=float(data[0]),
        largest=float(data[-1]),
        scipy_name=_SCIPY[found.distribution],
        scipy_arguments=(place, scale) if found.distribution == "normal" else (shape, place, scale),
    )


def _johnson(data: Floats) -> Fit:
    family, (gamma, delta, xi, lam) = fit_johnson(data)
    name = {"su": "johnsonsu", "sb": "johnsonsb", "sl": "lognorm"}[family]
    arguments = (1.0 / delta, xi, float(np.exp(-gamma / delta))) if family == "sl" else (gamma, delta, xi, lam)
    law = getattr(stats, name)(*arguments)
    likelihood = float(np.sum(law.logpdf(data)))
    a2 = anderson_darling(law.logcdf(data), law.logsf(data), Spans(np.array([0]), len(data)))
    return Fit(
        distribution=f"johnson_{family}",
        parameters={"gamma": gamma, "delta": delta, "xi": xi, "lambda": lam},
        n=len(data),
        log_likelihood=likelihood,
        aic=(6.0 if family == "sl" else 8.0) - 2.0 * likelihood,
        anderson_darling=float(a2[0]),
        p_value=float(p_of_normal(a2, np.array([float(len(data))]))[0]),
        p_value_source="of the transformed values as normal (as Minitab; too large, since four parameters were fitted)",
        smallest=float(data[0]),
        largest=float(data[-1]),
        scipy_name=name,
        scipy_arguments=arguments,
    )


def _threshold(data: Floats, distribution: str) -> float:
    """Threshold at the interior local maximum of the profile likelihood: the far end is normal, the near end infinite."""
    spans, spread = Spans(np.array([0]), len(data)), float(data[-1] - data[0])

    def lost(log_distance: float) -> float:
        found = fit_many(data - (data[0] - spread * np.exp(log_distance)), spans, distribution)
        return -float(found.log_likelihood[0])

    grid = np.linspace(np.log(1e-5), np.log(1e3), 80)
    profile = np.array([lost(float(each)) for each in grid])
    inner = np.flatnonzero((profile[1:-1] < profile[:-2]) & (profile[1:-1] <= profile[2:])) + 1
    if not inner.size:
        raise ContractError(
            f"the likelihood of a {distribution} distribution with threshold has no interior maximum on these {len(data)} "
            "values; fit it without a threshold, or use the Johnson or normal distribution",
            code="SPC-349",
        )
    best = int(inner[np.argmin(profile[inner])])
    found = optimize.minimize_scalar(lost, bounds=(grid[best - 1], grid[best + 1]), method="bounded", options={"xatol": 1e-11})
    return float(data[0] - spread * np.exp(found.x))

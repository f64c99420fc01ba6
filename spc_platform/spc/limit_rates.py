"""Exact false alarm rates of control limits, under the distribution that each statistic has when nothing is wrong."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import betaln, log_ndtr, ndtr, roots_legendre
from scipy.stats import beta, binom, chi, geom, poisson

from spc_platform.errors import ContractError
from spc_platform.spc.constants import c4, c5, d2, d3, median_error
from spc_platform.spc.sequence import Floats

NORMAL = ("x", "xbar", "z", "t")
"""Statistics that are normal in control, or whose limits are quantiles at Phi(-k) and Phi(k)."""

_EDGE = 12.0
_NODES = 400


def limit_alarm_rate(statistic: str, n: npt.ArrayLike, k: npt.ArrayLike = 3.0, centre: npt.ArrayLike | None = None) -> Floats:
    """Probability that one point lies beyond its k-sigma limits although the process is in control.

    ``statistic``: x, xbar, median, z, t (normal values or quantile limits), r, s, mr (of normal values; ``n``: values or span),
    p, np, c, u, g (``n``: size or opportunity). ``centre``: of counts, p of p and np, the mean count of c and g, the mean rate
    of u. Arrays of one shape, or one value for all. A limit that does not exist (below 0) raises no alarm. Laws: normal,
    range (Tippett 1925), chi, binomial, Poisson, geometric. n below 2 of a dispersion gives NaN.
    Raises ``ContractError`` SPC-317 for an unknown statistic, for counts without a centre, for k <= 0 and for n below 1.

    >>> [round(float(limit_alarm_rate(name, 5)), 6) for name in ("xbar", "r", "s")]
    [0.0027, 0.004603, 0.003899]
    >>> round(float(limit_alarm_rate("c", 1, centre=16.0)), 6)
    0.002282
    """
    size, width = np.asarray(n, dtype=np.float64), np.asarray(k, dtype=np.float64)
    if np.any(size < 1) or np.any(width <= 0):
        raise ContractError("a rate of alarms needs n of at least 1 and k above 0; correct n or k", code="SPC-317")
    if statistic in NORMAL:
        return np.asarray(2.0 * ndtr(-width) + 0.0 * size)
    if statistic in _OF_NORMAL:
        return _per_pair(_OF_NORMAL[statistic], size, width)
    if statistic not in ("p", "np", "c", "u", "g"):
        raise ContractError(f"no rate of alarms is known for the statistic {statistic!r}; leave it out", code="SPC-317")
    if centre is None:
        raise ContractError(f"the rate of alarms of {statistic} depends on its centre; give centre", code="SPC-317")
    return _of_counts(statistic, size, width, np.asarray(centre, dtype=np.float64))


def _of_counts(statistic: str, n: Floats, k: Floats, centre: Floats) -> Floats:
    law: Any
    if statistic in ("p", "np"):
        law, mean, variance = binom(n, centre), n * centre, n * centre * (1.0 - centre)
    elif statistic == "g":
        # counted before the event, from 0 on
        law, mean, variance = geom(1.0 / (1.0 + centre), loc=-1), centre, centre * (centre + 1.0)
    else:
        mean = centre * n if statistic == "u" else centre
        law, variance = poisson(mean), mean
    half = k * np.sqrt(variance)
    return np.asarray(law.sf(np.floor(mean + half)) + law.cdf(np.ceil(mean - half) - 1.0) + 0.0 * n)


def _per_pair(rate: Callable[[int, float], float], n: Floats, k: Floats) -> Floats:
    """The rate of each distinct pair of n and k, laid out on all of them."""
    sizes, widths = np.broadcast_arrays(n, k)
    pairs, place = np.unique(np.stack((sizes.ravel(), widths.ravel()), axis=1), axis=0, return_inverse=True)
    rates = np.array([rate(int(size), float(width)) for size, width in pairs.tolist()])
    return np.asarray(rates[place.ravel()].reshape(sizes.shape), dtype=np.float64)


@lru_cache(maxsize=4096)
def _range_rate(n: int, k: float) -> float:
    if n < 2:
        return float("nan")
    low, high = float(d2(n) - k * d3(n)), float(d2(n) + k * d3(n))
    return 1.0 - _range_below(n, high) + (_range_below(n, low) if low > 0 else 0.0)


def _range_below(n: int, width: float) -> float:
    """P(R <= w) = n Int phi(x) (Phi(x + w) - Phi(x))^(n - 1) dx."""
    node, weight = roots_legendre(_NODES)
    x = _EDGE * node
    share = np.where(x > 0, ndtr(-x) - ndtr(-x - width), ndtr(x + width) - ndtr(x))
    density = np.exp(-0.5 * x * x) / np.sqrt(2.0 * np.pi)
    return float(n * np.sum(_EDGE * weight * density * share ** (n - 1)))


@lru_cache(maxsize=4096)
def _deviation_rate(n: int, k: float) -> float:
    if n < 2:
        return float("nan")
    root = np.sqrt(n - 1.0)
    low, high = float(c4(n) - k * c5(n)), float(c4(n) + k * c5(n))
    return float(chi.sf(high * root, n - 1) + (chi.cdf(low * root, n - 1) if low > 0 else 0.0))


@lru_cache(maxsize=4096)
def _median_rate(n: int, k: float) -> float:
    """Twice P(median <= -k e(n)): order statistic for odd n, mean of the middle two for even n (Desu and Rodine 1969)."""
    edge = -k * float(median_error(n))
    if n % 2:
        middle = (n + 1) / 2.0
        return float(2.0 * beta.cdf(ndtr(edge), middle, middle))
    half = n / 2.0
    node, weight = roots_legendre(_NODES)
    x = edge - _EDGE * (node + 1.0) / 2.0
    density = np.exp(-0.5 * x * x) / np.sqrt(2.0 * np.pi)
    inner = np.exp(half * log_ndtr(-x)) - np.exp(half * log_ndtr(-(2.0 * edge - x)))
    law = np.exp((half - 1.0) * log_ndtr(x) - betaln(half, half)) * inner * density
    return float(2.0 * 2.0 * np.sum(_EDGE / 2.0 * weight * law))


_OF_NORMAL: dict[str, Callable[[int, float], float]] = {
    "r": _range_rate,
    "mr": _range_rate,
    "s": _deviation_rate,
    "median": _median_rate,
}

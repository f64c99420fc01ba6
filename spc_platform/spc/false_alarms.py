"""How often rule 1 alarms without a cause when an assumption of the chart fails.

These are effect sizes: with thousands of charts every deviation is significant somewhere, but only those matter that
change what the chart does. All functions take and return arrays per chart.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, ndtr
from scipy.stats import binom, gamma, poisson, t

from spc_platform.spc.constants import d2
from spc_platform.spc.sequence import Flags, Floats, Ints

_PHASES = 32
_REACH = 9.0


def nominal(k: npt.ArrayLike = 3.0) -> Floats:
    """2 Phi(-k): the rate when every assumption holds.

    >>> round(float(nominal()), 7)
    0.0026998
    """
    return np.asarray(2.0 * ndtr(-np.asarray(k, dtype=np.float64)), dtype=np.float64)


def of_autocorrelation(lag1: npt.ArrayLike, k: npt.ArrayLike = 3.0) -> Floats:
    """Rate on a chart whose sigma comes from moving ranges, 2 Phi(-k sqrt(1 - r1)).

    Exact for any stationary normal series with autocorrelation r1 at lag 1, because E(MR) = 2 sigma sqrt((1 - r1) / pi).

    >>> [round(float(of_autocorrelation(phi)), 3) for phi in (0.5, 0.8, 0.9)]
    [0.034, 0.18, 0.343]
    """
    r1 = np.minimum(np.asarray(lag1, dtype=np.float64), 1.0)
    return np.asarray(2.0 * ndtr(-np.asarray(k) * np.sqrt(1.0 - r1)), dtype=np.float64)


def of_variance_ratio(ratio: npt.ArrayLike, k: npt.ArrayLike = 3.0) -> Floats:
    """Rate when the statistic's variance is ``ratio`` times what the limits suppose, 2 Phi(-k / sqrt(ratio)).

    >>> round(float(of_variance_ratio(4.0)), 4)
    0.1336
    """
    given = np.asarray(ratio, dtype=np.float64)
    with np.errstate(divide="ignore"):
        return np.asarray(2.0 * ndtr(-np.asarray(k) / np.sqrt(np.maximum(given, 0.0))), dtype=np.float64)


def of_shape(
    skewness: npt.ArrayLike, kurtosis_excess: npt.ArrayLike, k: npt.ArrayLike = 3.0, *, moving: Flags | bool = True
) -> Floats:
    """Rate when the charted statistic itself has this skewness and excess kurtosis (of means: g1 / sqrt n, g2 / n).

    Skewness: a gamma distribution of that skewness, where ``moving`` with the sigma that moving ranges of gamma values
    give (Gini's mean difference; exponential: UCL = mu + 2.66 mu, rate 2.6 %). Kurtosis beyond the gamma's 1.5 g1²:
    a Student t of that kurtosis. The larger of the two; NaN stays NaN.

    >>> round(float(of_shape(2.0, 6.0)), 4)
    0.0258
    """
    g1 = np.abs(np.asarray(skewness, dtype=np.float64))
    width = np.asarray(k, dtype=np.float64)
    a = 4.0 / np.maximum(g1, 1e-2) ** 2
    gini = np.exp(gammaln(a + 0.5) - gammaln(a + 1.0)) / np.sqrt(np.pi)
    half = width * np.where(moving, 2.0 * gini * np.sqrt(a) / float(d2(2)), 1.0) * np.sqrt(a)
    skewed = gamma.sf(a + half, a) + gamma.cdf(a - half, a)
    excess = np.asarray(kurtosis_excess, dtype=np.float64) - 1.5 * g1**2
    nu = 4.0 + 6.0 / np.maximum(excess, 1e-6)
    heavy = 2.0 * t.sf(width * np.sqrt(nu / (nu - 2.0)), nu)
    worse = np.maximum(np.where(g1 > 1e-2, skewed, nominal(width)), np.where(excess > 1e-6, heavy, nominal(width)))
    return np.asarray(np.where(np.isfinite(g1 + excess), worse, np.nan), dtype=np.float64)


def of_step(step_ratio: Floats, n: Ints, k: npt.ArrayLike = 3.0) -> Floats:
    """Highest rate when normal values are rounded to a step of ``step_ratio`` standard deviations before they are charted.

    ``n`` is the subgroup size, 1 for individuals with moving ranges; sigma is mean range / d2 of the rounded values.
    Exact distribution of the rounded mean, at the worst of 32 places of the process mean between two steps: the rate
    swings with that place, and a drift of a tenth of sigma moves it. NaN for a NaN step.

    >>> of_step(np.array([1.5, 1e-3]), np.array([5, 1])).round(4).tolist()
    [0.0123, 0.0027]
    """
    width = np.broadcast_to(np.asarray(k, dtype=np.float64), step_ratio.shape)
    rate = np.where(np.isfinite(step_ratio), nominal(width), np.nan)
    # below a quarter of a standard deviation rounding changes no digit that matters, and beyond 6 every value is equal
    coarse = np.isfinite(step_ratio) & (step_ratio > 0.25)
    ratio = np.minimum(step_ratio, 6.0)
    for size in np.unique(n[coarse]):
        chosen = np.flatnonzero(coarse & (n == size))
        # hundredths of a step ratio are finer than any step is known; distinct ratios are few
        rounded, back = np.unique(np.round(ratio[chosen], 2), return_inverse=True)
        keys, place = np.unique(np.stack([rounded[back], width[chosen]]), axis=1, return_inverse=True)
        rate[chosen] = _rounded_rates(keys[0], int(size), keys[1])[place.ravel()]
    return rate


def _rounded_rates(step: Floats, n: int, k: Floats) -> Floats:
    levels = int(np.ceil(_REACH / step.min())) + 1
    grid = np.arange(-levels, levels + 1, dtype=np.float64)
    phase = np.arange(_PHASES) / _PHASES
    offset = phase[None, :, None]
    size = step[:, None, None]
    upper, lower = ndtr((grid + 0.5 - offset) * size), ndtr((grid - 0.5 - offset) * size)
    share = upper - lower
    pair = max(n, 2)
    mean_range = np.sum(1.0 - upper**pair - (1.0 - upper) ** pair, axis=-1)
    sigma = mean_range / float(d2(pair))
    centre = np.sum(share * grid, axis=-1)
    # distribution of the sum of n rounded values by its characteristic function
    length = n * (len(grid) - 1) + 1
    total = np.fft.irfft(np.fft.rfft(share, length, axis=-1) ** n, length, axis=-1)
    mean = (np.arange(length) - n * levels) / n
    beyond = np.abs(mean - centre[..., None]) > (k[:, None] * sigma / np.sqrt(n))[..., None] * (1.0 + 1e-9)
    return np.asarray(np.clip(np.sum(np.where(beyond, total, 0.0), axis=-1).max(axis=-1), 0.0, 1.0), dtype=np.float64)


def of_count(size: Floats, rate: Floats, binomial: Flags, k: npt.ArrayLike = 3.0) -> Floats:
    """Exact rate of a p or np chart (``binomial``) or c or u chart whose limits suppose a normal count.

    ``size``: parts or area of a typical sample; ``rate``: events per part or area.

    >>> of_count(np.array([50.0]), np.array([0.01]), np.array([True])).round(4).tolist()
    [0.0138]
    """
    expected = size * rate
    error = np.sqrt(expected * np.where(binomial, np.maximum(1.0 - rate, 0.0), 1.0))
    upper = np.floor(expected + np.asarray(k) * error + 1e-9)
    lower = np.ceil(expected - np.asarray(k) * error - 1e-9) - 1.0
    whole = np.maximum(np.round(size), 1.0)
    share = np.clip(expected / whole, 0.0, 1.0)
    tails: dict[bool, Callable[[], Floats]] = {
        True: lambda: binom.sf(upper, whole, share) + np.where(lower >= 0, binom.cdf(lower, whole, share), 0.0),
        False: lambda: poisson.sf(upper, expected) + np.where(lower >= 0, poisson.cdf(lower, expected), 0.0),
    }
    return np.asarray(np.where(np.isfinite(expected), np.where(binomial, tails[True](), tails[False]()), np.nan))

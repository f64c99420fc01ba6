"""What the samples behind a chart say about its assumptions: dependence, shape, gauge step, spread between subgroups.

Kernels over values that are flat over all charts; ``chart`` says to which chart each value belongs. A chart that has
too little for a figure gets NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.special import chdtrc, fdtr, fdtrc, log_ndtr, ndtr

from spc_platform.spc.goodness_of_fit import p_of_normal
from spc_platform.spc.sequence import Flags, Floats, Ints

LAGS = 10
"""Lags of the Ljung-Box statistic: min(10, n/5) (Hyndman and Athanasopoulos, Forecasting, 3rd ed., 5.4)."""

_SAME_STEP = 1e-3
_FINEST_STEP = 1e-3


@dataclass(frozen=True)
class Members:
    """Which chart each value belongs to: ``chart`` (never decreasing) from 0 to ``charts`` - 1."""

    chart: Ints
    charts: int

    def total(self, values: Floats) -> Floats:
        """Sum per chart, 0 for a chart without values."""
        return np.bincount(self.chart, weights=values, minlength=self.charts).astype(np.float64)

    def sizes(self) -> Ints:
        return np.bincount(self.chart, minlength=self.charts).astype(np.int64)

    def starts(self) -> Ints:
        """First value of each chart that has one."""
        return np.flatnonzero(np.diff(self.chart, prepend=-1))

    def kept(self, keep: Flags) -> Members:
        return Members(self.chart[keep], self.charts)

    def extreme(self, values: Floats, *, largest: bool) -> Floats:
        """Largest or smallest value per chart; NaN for a chart without values."""
        result = np.full(self.charts, np.nan)
        starts = self.starts()
        if starts.size:
            result[self.chart[starts]] = (np.maximum if largest else np.minimum).reduceat(values, starts)
        return result

    def centred(self, values: Floats) -> tuple[Floats, Floats]:
        """Each value minus its chart's mean, and the means; corrected twice, so a large offset costs no digits."""
        starts = self.starts()
        origin = np.full(self.charts, np.nan)
        origin[self.chart[starts]] = values[starts]
        mean = origin
        size = self.sizes()
        for _ in range(2):
            mean = mean + _ratio(self.total(values - mean[self.chart]), size)
        return values - mean[self.chart], mean


def _ratio(above: Floats | Ints, below: Floats | Ints) -> Floats:
    """Divide; NaN where the divisor is not above 0."""
    divisor = np.where(np.asarray(below) > 0, below, np.nan)
    return np.asarray(above / divisor, dtype=np.float64)


def _in_order(value: Floats, members: Members) -> Floats:
    """The finite values, ascending within each chart."""
    rows = pl.DataFrame({"chart": members.chart, "value": value})
    return rows.select(pl.col("value").sort().over("chart"))["value"].to_numpy()


@dataclass(frozen=True)
class Autocorrelation:
    """Per chart: autocorrelation at lag 1 with its two-sided p, Ljung-Box Q over ``lags`` lags with its p."""

    lag1: Floats
    p: Floats
    ljung_box: Floats
    ljung_box_p: Floats
    lags: Ints


def autocorrelation(value: Floats, is_first: Flags, members: Members) -> Autocorrelation:
    """Autocorrelation of each chart's values about the chart's mean, over pairs inside a segment only.

    ``value``: one per point in time order, NaN where nothing was observed (such a point makes no pair). r_k = sum of
    products of pairs at lag k / sum of squares; z_k = r_k sqrt(n (n + 2) / pairs_k); Q = sum of z_k^2 over
    min(10, n/5) lags against chi-square (Ljung and Box 1978; with one gapless segment exactly theirs). NaN for fewer
    than 5 values or values that are all equal.
    """
    seen = np.isfinite(value)
    deviation = np.zeros_like(value)
    kept = members.kept(seen)
    deviation[seen], _ = kept.centred(value[seen])
    n = kept.sizes()
    square = members.total(deviation * deviation)
    usable = (n >= 5) & (square > 0)
    lags = np.where(usable, np.clip(n // 5, 1, LAGS), 0)
    segment = np.cumsum(is_first)
    lag1, z1, q = np.full(members.charts, np.nan), np.full(members.charts, np.nan), np.zeros(members.charts)
    for lag in range(1, int(lags.max(initial=0)) + 1):
        pair = (segment[lag:] == segment[:-lag]) & seen[lag:] & seen[:-lag]
        pairs = Members(members.chart[lag:], members.charts)
        r = _ratio(pairs.total(np.where(pair, deviation[lag:] * deviation[:-lag], 0.0)), np.where(usable, square, 0.0))
        z = r * np.sqrt(_ratio(n * (n + 2.0), pairs.total(pair.astype(np.float64))))
        q += np.where((lag <= lags) & np.isfinite(z), z * z, 0.0)
        if lag == 1:
            lag1, z1 = np.where(np.isfinite(z), r, np.nan), z
    judged = usable & np.isfinite(z1)
    q = np.where(judged, q, np.nan)
    return Autocorrelation(lag1, 2.0 * ndtr(-np.abs(z1)), q, chdtrc(np.maximum(lags, 1), q), lags)


@dataclass(frozen=True)
class Shape:
    """Per chart: n, mean, s (n - 1), skewness g1, excess kurtosis g2, Anderson-Darling A² for a normal and its p."""

    n: Ints
    mean: Floats
    s: Floats
    skewness: Floats
    kurtosis_excess: Floats
    anderson_darling: Floats
    p: Floats


def shape(value: Floats, members: Members) -> Shape:
    """Moments and the Anderson-Darling statistic of finite values per chart.

    A² = -n - sum (2i - 1)(ln F(z_i) + ln(1 - F(z_(n+1-i)))) / n with mean and s estimated; p by D'Agostino and
    Stephens (1986), table 4.9, from A²(1 + 0.75/n + 2.25/n²). Fewer than 8 values or equal values: NaN.
    """
    ordered = _in_order(value, members)
    deviation, mean = members.centred(ordered)
    n = members.sizes()
    square = members.total(deviation**2)
    variance = _ratio(square, n)
    skewness = _ratio(members.total(deviation**3), n) / np.where(variance > 0, variance, np.nan) ** 1.5
    kurtosis = _ratio(members.total(deviation**4), n) / np.where(variance > 0, variance, np.nan) ** 2 - 3.0
    s = np.sqrt(_ratio(square, n - 1))
    enough = (n >= 8) & (s > 0)
    first = np.concatenate([[0], np.cumsum(n)[:-1]]).astype(np.int64)
    rank = np.arange(len(value)) - first[members.chart]
    mirrored = first[members.chart] + n[members.chart] - 1 - rank
    z = deviation / np.where(enough, s, np.nan)[members.chart]
    terms = (2.0 * rank + 1.0) * (log_ndtr(z) + log_ndtr(-z[mirrored]))
    a2 = np.where(enough, -n - _ratio(members.total(np.where(np.isfinite(terms), terms, 0.0)), n), np.nan)
    return Shape(n, mean, s, skewness, kurtosis, a2, p_of_normal(a2, np.maximum(n, 1).astype(np.float64)))


def common_step(value: Floats, members: Members) -> Floats:
    """Greatest spacing of which all differences of a chart's finite values are multiples; NaN where none is visible.

    Euclid's algorithm on the gaps between sorted distinct values, for all charts at once: the smallest gap is tried, and
    while a gap is not a multiple of it (to 0.1 %), the smallest remainder takes its place. A step below a thousandth of
    the standard deviation cannot matter to a chart and counts as none, as in values without a grid.
    """
    ordered = _in_order(value, members)
    deviation, _ = members.centred(ordered)
    s = np.sqrt(_ratio(members.total(deviation**2), members.sizes()))
    noise = 16.0 * np.finfo(np.float64).eps * members.extreme(np.abs(ordered), largest=True)
    gap = np.diff(ordered)
    real = (members.chart[1:] == members.chart[:-1]) & (gap > noise[members.chart[1:]])
    gap, gaps = gap[real], Members(members.chart[1:][real], members.charts)
    step = gaps.extreme(gap, largest=False)
    while True:
        tried = step[gaps.chart]
        remainder = np.abs(gap - tried * np.round(gap / tried))
        off = remainder > np.maximum(_SAME_STEP * tried, noise[gaps.chart])
        if not off.any():
            break
        smaller = gaps.kept(off).extreme(remainder[off], largest=False)
        step = np.where(np.isfinite(smaller), smaller, step)
        # a chart whose step has become immaterial leaves the search
        material = (step > _FINEST_STEP * s)[gaps.chart]
        gap, gaps = gap[material], gaps.kept(material)
    return np.where(step > _FINEST_STEP * s, step, np.nan)


@dataclass(frozen=True)
class Dispersion:
    """A ratio that is 1 when the assumption holds, its degrees of freedom and two-sided p."""

    ratio: Floats
    freedom: Floats
    p: Floats


def between_within(mean: Floats, n: Floats, members: Members, within_variance: Floats, within_freedom: Floats) -> Dispersion:
    """Variance of subgroup means against what the variance within subgroups explains (one-way ANOVA's F), per chart.

    ``within_variance`` and ``within_freedom``: pooled variance within subgroups and its degrees of freedom, per chart.
    Far below 1: each subgroup holds several streams (stratification); far above: subgroups differ by more than their
    parts. p is twice the smaller tail of F(k - 1, within_freedom). NaN without dispersion or for one subgroup.
    """
    weight = members.total(n)
    starts = members.starts()
    origin = np.full(members.charts, np.nan)
    origin[members.chart[starts]] = mean[starts]
    centre = origin + _ratio(members.total(n * (mean - origin[members.chart])), weight)
    freedom = members.sizes().astype(np.float64) - 1.0
    between = _ratio(members.total(n * (mean - centre[members.chart]) ** 2), freedom)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = between / np.where((within_variance > 0) & (within_freedom > 0), within_variance, np.nan)
        p = 2.0 * np.minimum(fdtr(freedom, within_freedom, ratio), fdtrc(freedom, within_freedom, ratio))
    return Dispersion(ratio, freedom, np.where(np.isfinite(ratio), np.minimum(p, 1.0), np.nan))


def count_dispersion(count: Floats, size: Floats, members: Members, *, binomial: Flags) -> Dispersion:
    """Variance of counts against the binomial (``binomial``, per chart) or Poisson variance, per chart.

    sum (x - n p)^2 / (n p q) or sum (x - n u)^2 / (n u), over k - 1, against chi-square with k - 1 degrees of freedom
    (index of dispersion, Fisher 1925). p is two-sided. NaN when no event, or nothing but events, was counted.
    """
    rate = _ratio(members.total(count), members.total(size))
    spread = rate * np.where(binomial, 1.0 - rate, 1.0)
    expected, unit = size * rate[members.chart], size * spread[members.chart]
    freedom = members.sizes().astype(np.float64) - 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = np.where(spread > 0, members.total(np.where(unit > 0, (count - expected) ** 2 / unit, 0.0)), np.nan)
        ratio = _ratio(statistic, freedom)
        upper = chdtrc(freedom, statistic)
    return Dispersion(ratio, freedom, np.where(np.isfinite(ratio), 2.0 * np.minimum(upper, 1.0 - upper), np.nan))


def hugging_share(z: Floats, members: Members) -> Floats:
    """Share of a chart's points within one standard error of the centre; 0.6827 is expected (Nelson's test 7 counts it).

    >>> hugging_share(np.array([0.2, -0.9, 1.4, 0.1]), Members(np.zeros(4, dtype=np.int64), 1)).tolist()
    [0.75]
    """
    seen = np.isfinite(z)
    kept = members.kept(seen)
    return _ratio(kept.total((np.abs(z[seen]) < 1.0).astype(np.float64)), kept.sizes())

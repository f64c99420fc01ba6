"""Do laboratories, gauges or instruments agree: two on the same items, or many on several materials.

Sources: ISO 5725-2:1994 (repeatability, reproducibility, Mandel's h and k, Cochran's and Grubbs' critical values);
ASTM E691; Bland and Altman, Lancet i (1986) 307; Linnet, Clinical Chemistry 39 (1993) 424 (Deming line, jackknife);
Youden, Industrial Quality Control 15 (1959) 24; Lin, Biometrics 45 (1989) 255 (concordance).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from spc_platform.errors import ContractError
from spc_platform.spc.gauge_design import Labels
from spc_platform.spc.mean_tests import paired_t
from spc_platform.spc.results import Interval, Record, TestResult, centred, confident, number, sample, text_list
from spc_platform.spc.sequence import Floats


@dataclass(frozen=True)
class TwoLaboratories(Record):
    """Agreement of two laboratories on the same items.

    ``bias``: paired t of first - second. ``agreement_low/high``: Bland-Altman limits, bias -+ z s_d, each with its t
    interval. ``proportional_slope``: line of the difference on the mean, is the bias the same at every size. Deming line
    second = intercept + slope first. ``random_sd``, ``systematic_sd``: Youden's split of the scatter into the error of one
    measurement (s_d / sqrt 2) and what both laboratories share.
    """

    n: int
    bias: TestResult
    sd_of_differences: float
    agreement_low: float
    agreement_high: float
    agreement_low_interval: Interval
    agreement_high_interval: Interval
    proportional_slope: float
    proportional_p_value: float
    deming_slope: float
    deming_intercept: float
    deming_slope_interval: Interval
    deming_intercept_interval: Interval
    error_ratio: float
    correlation: float
    concordance: float
    random_sd: float
    systematic_sd: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Material(Record):
    """Precision of one material (level) over all laboratories."""

    material: str
    n_laboratories: int
    n_replicates: int
    mean: float
    repeatability_sd: float
    between_sd: float
    reproducibility_sd: float
    sd_of_means: float
    repeatability_limit: float
    reproducibility_limit: float
    is_between_negative: bool


@dataclass(frozen=True)
class Consistency(Record):
    """Mandel's statistics of one laboratory on one material: h of its mean, k of its spread, against critical values."""

    laboratory: str
    material: str
    mean: float
    standard_deviation: float
    h: float
    k: float
    is_h_beyond: bool
    is_k_beyond: bool


@dataclass(frozen=True)
class Interlaboratory(Record):
    """Result of an interlaboratory study; critical values at the 1 % level unless asked otherwise."""

    materials: tuple[Material, ...]
    consistency: tuple[Consistency, ...]
    alpha: float
    h_critical: float
    k_critical: float
    notes: tuple[str, ...]


def _deming(x: Floats, y: Floats, ratio: float) -> tuple[float, float]:
    """Slope and intercept with ``ratio`` = error variance of y over that of x."""
    sxx, syy, sxy = float(x.var(ddof=1)), float(y.var(ddof=1)), float(np.cov(x, y)[0, 1])
    gap = syy - ratio * sxx
    root = math.sqrt(gap * gap + 4.0 * ratio * sxy * sxy)
    # of the two equal forms the one without a difference of near numbers
    slope = (gap + root) / (2.0 * sxy) if gap >= 0 else 2.0 * ratio * sxy / (root - gap)
    return slope, float(y.mean()) - slope * float(x.mean())


def compare_two_laboratories(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    error_ratio: float = 1.0,
    names: tuple[str, str] = ("first", "second"),
    confidence: float = 0.95,
) -> TwoLaboratories:
    """Compare two laboratories or gauges that measured the same items, row by row.

    ``first``, ``second``: 3 or more values in one unit, in the same order of items. ``error_ratio``: error variance of
    ``second`` over that of ``first`` for the Deming line, whose intervals are jackknifed. Errors: SPC-360, 361, 362 (items
    or differences that do not vary), 364 (lengths), 365.

    >>> found = compare_two_laboratories([1.0, 2.0, 3.0, 4.0], [1.1, 2.3, 2.9, 4.3])
    >>> round(found.bias.estimate, 3), round(found.agreement_low, 4), round(found.agreement_high, 4)
    (-0.15, -0.5253, 0.2253)
    """
    a, b = sample(first, names[0], 3, keep_order=True), sample(second, names[1], 3, keep_order=True)
    bias = paired_t(a, b, names=names, confidence=confident(confidence))
    number(error_ratio, "the ratio of error variances", positive=True)
    order = np.lexsort((b, a))
    shift, (x, y) = centred(a[order], b[order])
    difference, middle, n = x - y, (x + y) / 2.0, a.size
    if not (np.ptp(x) > 0 and np.ptp(y) > 0 and np.ptp(difference) > 0):
        raise ContractError(
            f"{names[0]!r} and {names[1]!r}: the items or the differences do not vary, so agreement has no scale; "
            "choose items over the range of use and measure with a finer resolution",
            code="SPC-362",
        )
    sd, z = float(difference.std(ddof=1)), float(stats.norm.ppf(0.5 + confidence / 2.0))
    mean = float(difference.mean())
    quantile = float(stats.t.ppf(0.5 + confidence / 2.0, n - 1))
    half = quantile * sd * math.sqrt(1.0 / n + z * z / (2.0 * (n - 1)))
    low, high = mean - z * sd, mean + z * sd
    slope, intercept = _deming(x, y, error_ratio)
    slopes, intercepts = _jackknife(x, y, error_ratio, shift)
    trend = stats.linregress(middle, difference)
    v, w = float(x.var()), float(y.var())
    shared = float(np.cov(x, y)[0, 1])
    random_sd = sd / math.sqrt(2.0)
    return TwoLaboratories(
        n=n,
        bias=bias,
        sd_of_differences=sd,
        agreement_low=low,
        agreement_high=high,
        agreement_low_interval=Interval(low - half, low + half, confidence, "t, Bland-Altman"),
        agreement_high_interval=Interval(high - half, high + half, confidence, "t, Bland-Altman"),
        proportional_slope=float(trend.slope),
        proportional_p_value=float(trend.pvalue),
        deming_slope=slope,
        deming_intercept=intercept + shift * (1.0 - slope),
        deming_slope_interval=_around(slope, slopes, quantile, confidence),
        deming_intercept_interval=_around(intercept + shift * (1.0 - slope), intercepts, quantile, confidence),
        error_ratio=error_ratio,
        correlation=float(np.corrcoef(x, y)[0, 1]),
        concordance=2.0 * shared * (n - 1) / n / (v + w + mean * mean),
        random_sd=random_sd,
        systematic_sd=math.sqrt(max(shared, 0.0)),
        notes=("the shared scatter holds the differences between the items themselves unless one item was sent round",),
    )


def _jackknife(x: Floats, y: Floats, ratio: float, shift: float) -> tuple[Floats, Floats]:
    """Pseudo-values of slope and intercept, each item left out once."""
    n = x.size
    whole = _deming(x, y, ratio)
    kept = ~np.eye(n, dtype=np.bool_)
    without = np.array([_deming(x[row], y[row], ratio) for row in kept])
    slope = n * whole[0] - (n - 1) * without[:, 0]
    intercept = n * whole[1] - (n - 1) * without[:, 1]
    return slope, intercept + shift * (1.0 - slope)


def _around(value: float, pseudo: Floats, quantile: float, confidence: float) -> Interval:
    half = quantile * float(pseudo.std(ddof=1)) / math.sqrt(pseudo.size)
    return Interval(value - half, value + half, confidence, "jackknife")


def mandel_critical(laboratories: int, replicates: int, alpha: float = 0.01) -> tuple[float, float]:
    """Critical |h| and k of ISO 5725-2 for p laboratories with n replicates.

    h = (p - 1) t / sqrt(p (t^2 + p - 2)) with t of 1 - alpha/2 and p - 2 df; k = sqrt(p / (1 + (p - 1) / F)) with F of
    1 - alpha and (n - 1, (p - 1)(n - 1)) df. Errors: SPC-361 for fewer than 3 laboratories or 2 replicates.

    >>> [round(value, 2) for value in mandel_critical(9, 3)]
    [2.13, 1.98]
    """
    if laboratories < 3 or replicates < 2:
        raise ContractError(
            f"{laboratories} laboratories with {replicates} replicates: Mandel's h and k need 3 and 2; "
            "compare two laboratories item by item instead",
            code="SPC-361",
        )
    p, n = laboratories, replicates
    t = float(stats.t.ppf(1.0 - alpha / 2.0, p - 2))
    f = float(stats.f.ppf(1.0 - alpha, n - 1, (p - 1) * (n - 1)))
    return (p - 1) * t / math.sqrt(p * (t * t + p - 2)), math.sqrt(p / (1.0 + (p - 1) / f))


def interlaboratory(values: npt.ArrayLike, laboratories: Labels, materials: Labels, *, alpha: float = 0.01) -> Interlaboratory:
    """Repeatability and reproducibility of a method from a balanced interlaboratory study (ISO 5725-2).

    ``values``, ``laboratories``, ``materials``: one entry per measurement, any order; 3 or more laboratories, the same
    number (2 or more) of replicates in each cell. s_r^2 = mean of the cell variances, s_L^2 = s_mean^2 - s_r^2 / n (not
    below 0, flagged), s_R^2 = s_r^2 + s_L^2; limits are 2.8 s as ISO 5725-6 rounds 1.96 sqrt 2. Errors: SPC-360, 361, 363
    (cell), 364, 365.
    """
    data = sample(values, "measured values", 1, keep_order=True)
    confident(1.0 - alpha)
    laboratory, laboratory_index = np.unique(text_list(laboratories, "laboratory", data.size), return_inverse=True)
    material, material_index = np.unique(text_list(materials, "material", data.size), return_inverse=True)
    p, q = laboratory.size, material.size
    counts = np.bincount(material_index * p + laboratory_index, minlength=p * q)
    n = int(np.bincount(counts).argmax())
    odd = np.flatnonzero(counts != n)
    if odd.size:
        raise ContractError(
            f"laboratory {laboratory[odd[0] % p]}, material {material[odd[0] // p]}: {counts[odd[0]]} values where the other "
            f"cells hold {n}; leave that laboratory out or complete the cell",
            code="SPC-363",
        )
    h_critical, k_critical = mandel_critical(p, n, alpha)
    cube = data[np.lexsort((data, laboratory_index, material_index))].reshape(q, p, n)
    shift = cube[:, :1, :1]
    cube = cube - shift
    mean, sd = cube.mean(axis=2), cube.std(axis=2, ddof=1)
    repeatability = np.sqrt(np.mean(sd**2, axis=1))
    sd_of_means = mean.std(axis=1, ddof=1)
    between = sd_of_means**2 - repeatability**2 / n
    reproducibility = np.sqrt(repeatability**2 + np.maximum(between, 0.0))
    with np.errstate(invalid="ignore", divide="ignore"):
        h = (mean - mean.mean(axis=1, keepdims=True)) / sd_of_means[:, None]
        k = sd / repeatability[:, None]
    limit = 2.8
    return Interlaboratory(
        materials=tuple(
            Material(
                material=str(material[i]),
                n_laboratories=p,
                n_replicates=n,
                mean=float(shift[i, 0, 0] + mean[i].mean()),
                repeatability_sd=float(repeatability[i]),
                between_sd=math.sqrt(max(float(between[i]), 0.0)),
                reproducibility_sd=float(reproducibility[i]),
                sd_of_means=float(sd_of_means[i]),
                repeatability_limit=limit * float(repeatability[i]),
                reproducibility_limit=limit * float(reproducibility[i]),
                is_between_negative=bool(between[i] < 0),
            )
            for i in range(q)
        ),
        consistency=tuple(
            Consistency(
                laboratory=str(laboratory[j]),
                material=str(material[i]),
                mean=float(shift[i, 0, 0] + mean[i, j]),
                standard_deviation=float(sd[i, j]),
                h=float(h[i, j]),
                k=float(k[i, j]),
                is_h_beyond=bool(abs(h[i, j]) > h_critical),
                is_k_beyond=bool(k[i, j] > k_critical),
            )
            for i in range(q)
            for j in range(p)
        ),
        alpha=alpha,
        h_critical=h_critical,
        k_critical=k_critical,
        notes=("a laboratory beyond a critical value is looked into, never dropped for that alone",),
    )

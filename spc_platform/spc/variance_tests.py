"""Tests of variances: F, Bartlett, Levene and Brown-Forsythe."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from spc_platform.spc.results import (
    Effect,
    Interval,
    TestResult,
    centred,
    confident,
    described,
    named_groups,
    number,
    sample,
    sided,
    variance,
)
from spc_platform.spc.sequence import Floats

NORMALITY = "values independent and normal: these tests take skewness for a difference; Levene's test does not"
FLAT = "no statistic: the values of {} do not vary; measure with a finer resolution"


def f_test(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    null_value: float = 1.0,
    *,
    names: tuple[str, str] = ("first", "second"),
    alternative: str = "two-sided",
    confidence: float = 0.95,
) -> TestResult:
    """Test whether the ratio of two variances is ``null_value``: F = (s1^2 / s2^2) / ratio with (n1 - 1, n2 - 1) df.

    Estimate and effect: the variance ratio with its exact interval under normality. 2 or more values each; a group that
    does not vary gives no statistic, with a reason. Errors: SPC-360, 361, 365. Source: NIST e-Handbook 1.3.5.9.

    >>> result = f_test([1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 4.0, 6.0, 8.0, 10.0])
    >>> result.statistic, result.df, round(result.p_value, 6)
    (0.25, (4.0, 4.0), 0.208)
    """
    a, b = sample(first, names[0], 2), sample(second, names[1], 2)
    side, confidence = sided(alternative), confident(confidence)
    number(null_value, "the hypothetical ratio of variances", positive=True)
    v, w = variance(a), variance(b)
    df1, df2 = float(a.size - 1), float(b.size - 1)
    samples = (described(names[0], a), described(names[1], b))
    ratio = v / w if v > 0 and w > 0 else math.nan
    f = ratio / null_value
    lower, upper = float(stats.f.cdf(f, df1, df2)), float(stats.f.sf(f, df1, df2))
    tail = (1.0 - confidence) / (2.0 if side == "two-sided" else 1.0)
    low = ratio / float(stats.f.isf(tail, df1, df2)) if side != "less" else 0.0
    high = ratio / float(stats.f.ppf(tail, df1, df2)) if side != "greater" else math.inf
    flat = next((name for name, spread in zip(names, (v, w), strict=True) if not spread > 0), None)
    return TestResult(
        test="F test of two variances",
        statistic_name="F",
        statistic=f,
        df=(df1, df2),
        p_value={"two-sided": min(1.0, 2.0 * min(lower, upper)), "less": lower, "greater": upper}[side]
        if flat is None
        else math.nan,
        alternative=side,
        estimate_name=f"variance of {names[0]} / variance of {names[1]}",
        estimate=ratio,
        interval=Interval(low, high, confidence, "F") if flat is None else None,
        samples=samples,
        null_value=null_value,
        effects=(Effect("variance_ratio", ratio, low, high, "F"),) if flat is None else (),
        notes=(NORMALITY,),
        reason=None if flat is None else FLAT.format(flat),
    )


def bartlett(groups: Mapping[str, npt.ArrayLike], *, confidence: float = 0.95) -> TestResult:
    """Test whether all variances are equal, most sharply where values are normal (chi-square, k - 1 df).

    2 or more groups of 2 or more values; a group that does not vary gives no statistic, with a reason. Estimate: largest
    over smallest variance. Errors: SPC-360, 361, 365. Source: NIST e-Handbook 1.3.5.7.
    """
    data, parts, flat = _spreading(groups, 2)
    confident(confidence)
    statistic, p_value = (math.nan, math.nan) if flat else map(float, stats.bartlett(*parts))
    return _of_many("Bartlett", "chi square", (statistic, p_value), (float(len(data) - 1),), data, flat, NORMALITY)


def levene(
    groups: Mapping[str, npt.ArrayLike], *, centre: Literal["median", "mean"] = "median", confidence: float = 0.95
) -> TestResult:
    """Test whether all variances are equal by an ANOVA of the distances from each group's centre.

    ``centre``: median (Brown and Forsythe 1974, robust, default) or mean (Levene 1960). 2 or more groups of 3 or more
    values (pairs have equal distances). Estimate: largest over smallest variance. Errors: SPC-360, 361, 365. Source: NIST
    e-Handbook 1.3.5.10.

    >>> result = levene({"A": [1.0, 2.0, 4.0], "B": [1.0, 5.0, 9.0]})
    >>> round(result.statistic, 6), result.df
    (1.315789, (1.0, 4.0))
    """
    data, parts, flat = _spreading(groups, 3)
    confident(confidence)
    distances = [np.abs(part - (np.median(part) if centre == "median" else part.mean())) for part in parts]
    if not any(np.ptp(distance) > 0 for distance in distances):
        flat = flat or "all groups (their distances from the centre)"
        statistic, p_value = math.nan, math.nan
    else:
        flat = None
        statistic, p_value = map(float, stats.levene(*parts, center=centre))
    total = sum(part.size for part in parts)
    df = (float(len(data) - 1), float(total - len(data)))
    name = "Levene (median, Brown-Forsythe)" if centre == "median" else "Levene (mean)"
    return _of_many(name, "F", (statistic, p_value), df, data, flat, "values independent; no normality needed")


def _spreading(groups: Mapping[str, npt.ArrayLike], at_least: int) -> tuple[dict[str, Floats], tuple[Floats, ...], str | None]:
    data = named_groups(groups, at_least)
    _, parts = centred(*data.values())
    return data, parts, next((name for name, part in zip(data, parts, strict=True) if not np.ptp(part) > 0), None)


def _of_many(
    test: str,
    statistic_name: str,
    outcome: tuple[float, float],
    df: tuple[float, ...],
    data: dict[str, Floats],
    flat: str | None,
    note: str,
) -> TestResult:
    variances = [variance(values) for values in data.values()]
    ratio = max(variances) / min(variances) if min(variances) > 0 else math.nan
    return TestResult(
        test=test,
        statistic_name=statistic_name,
        statistic=outcome[0],
        df=df,
        p_value=outcome[1],
        alternative="two-sided",
        estimate_name="largest variance / smallest variance",
        estimate=ratio,
        interval=None,
        samples=tuple(described(name, values) for name, values in data.items()),
        null_value=1.0,
        effects=(Effect("variance_ratio", ratio),),
        notes=(note,),
        reason=None if flat is None else FLAT.format(flat),
    )

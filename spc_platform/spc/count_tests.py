"""Tests of proportions and of rates: exact p-values, score intervals.

Sources: Clopper and Pearson, Biometrika 26 (1934) 404; Newcombe, Statistics in Medicine 17 (1998) 873 (hybrid score
interval of a difference); Katz et al., Biometrics 34 (1978) 469 (risk ratio); Fisher 1935 (conditional odds ratio);
Przyborowski and Wilenski, Biometrika 31 (1940) 313 (two Poisson counts are binomial given their sum).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
from scipy import stats

from spc_platform.errors import ContractError
from spc_platform.spc.results import Effect, Interval, Sample, TestResult, confident, module, number, sided

Counts = tuple[int, int]
"""Units of interest and units looked at."""


def _counted(count: float, n: float, name: str) -> Counts:
    """Both as whole numbers; ``ContractError`` SPC-367 for counts that no inspection can give."""
    for what, value in (("count", count), ("number of units", n)):
        if not (math.isfinite(value) and float(value).is_integer() and value >= 0):
            raise ContractError(
                f"group {name!r}: {what} {value} is no whole number from 0 on; give counts, not shares", code="SPC-367"
            )
    if n < 1 or count > n:
        raise ContractError(
            f"group {name!r}: {count} of {n} units; a unit counts once, check which column is which", code="SPC-367"
        )
    return int(count), int(n)


def _sample(name: str, count: int, n: int) -> Sample:
    return Sample(name, n, mean=count / n)


def one_proportion(
    count: int, n: int, null_value: float, *, name: str = "units", alternative: str = "two-sided", confidence: float = 0.95
) -> TestResult:
    """Test whether a proportion is ``null_value`` by the exact binomial; estimate with Clopper-Pearson's interval.

    The two-sided p-value adds up all counts that are no more likely than the observed one. Effects: the proportion with
    Wilson's interval, the difference to the hypothesis. Errors: SPC-365, 367 (impossible counts).

    >>> result = one_proportion(8, 20, 0.2)
    >>> round(result.estimate, 3), round(result.p_value, 6)
    (0.4, 0.043672)
    """
    count, n = _counted(count, n, name)
    side, confidence = sided(alternative), confident(confidence)
    if not 0.0 <= null_value <= 1.0:
        raise ContractError(f"hypothetical proportion {null_value} is not between 0 and 1; give a share", code="SPC-365")
    found = stats.binomtest(count, n, null_value, alternative=side)
    exact, wilson = found.proportion_ci(confidence, "exact"), found.proportion_ci(confidence, "wilson")
    share = count / n
    return TestResult(
        test="exact binomial",
        statistic_name="count",
        statistic=float(count),
        df=(),
        p_value=float(found.pvalue),
        alternative=side,
        estimate_name="proportion",
        estimate=share,
        interval=Interval(float(exact.low), float(exact.high), confidence, "Clopper-Pearson"),
        samples=(_sample(name, count, n),),
        null_value=null_value,
        effects=(
            Effect("proportion", share, float(wilson.low), float(wilson.high), "Wilson"),
            Effect(
                "difference",
                share - null_value,
                float(exact.low) - null_value,
                float(exact.high) - null_value,
                "Clopper-Pearson",
            ),
        ),
        notes=("units independent with one proportion",),
    )


def two_proportions(
    first: Counts,
    second: Counts,
    *,
    method: Literal["fisher", "score"] = "fisher",
    names: tuple[str, str] = ("first", "second"),
    alternative: str = "two-sided",
    confidence: float = 0.95,
) -> TestResult:
    """Test whether two proportions are equal: Fisher's exact p-value (default) or the pooled score z test.

    ``first``, ``second``: (count, units). Estimate: risk difference with Newcombe's interval; effects: the same, risk
    ratio (Katz's log interval), odds ratio (conditional estimate, exact interval as Fisher's test), Cohen's h. No or
    only counted units in both groups give no z, with a reason. Errors: SPC-365, 367.

    >>> result = two_proportions((1, 9), (11, 12))
    >>> round(result.p_value, 6)
    0.000371
    """
    (c, n), (d, m) = (_counted(*counts, name) for counts, name in zip((first, second), names, strict=True))
    side, confidence = sided(alternative), confident(confidence)
    p, q, pooled = c / n, d / m, (c + d) / (n + m)
    error = math.sqrt(pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m))
    z = (p - q) / error if error > 0 else math.nan
    if method == "fisher":
        p_value = float(stats.fisher_exact(np.array([[c, n - c], [d, m - d]]), alternative=side).pvalue)
    else:
        p_value = {"two-sided": 2.0 * stats.norm.sf(abs(z)), "less": stats.norm.cdf(z), "greater": stats.norm.sf(z)}[side]
    low, high = module("proportion").confint_proportions_2indep(
        c, n, d, m, method="newcomb", compare="diff", alpha=1.0 - confidence
    )
    h = 2.0 * (math.asin(math.sqrt(p)) - math.asin(math.sqrt(q)))
    half = float(stats.norm.ppf(0.5 + confidence / 2.0)) * math.sqrt(1.0 / n + 1.0 / m)
    return TestResult(
        test="Fisher exact" if method == "fisher" else "score test of two proportions",
        statistic_name="z",
        statistic=z,
        df=(),
        p_value=float(p_value),
        alternative=side,
        estimate_name=f"proportion of {names[0]} - proportion of {names[1]}",
        estimate=p - q,
        interval=Interval(float(low), float(high), confidence, "Newcombe"),
        samples=(_sample(names[0], c, n), _sample(names[1], d, m)),
        effects=(
            Effect("risk_difference", p - q, float(low), float(high), "Newcombe"),
            *_ratio_effects((c, n), (d, m), confidence),
            Effect("cohen_h", h, h - half, h + half, "arcsine"),
        ),
        notes=("units independent with one proportion per group",),
        reason=None if error > 0 else "no z: no unit or every unit counts in both groups",
    )


def _ratio_effects(first: Counts, second: Counts, confidence: float) -> tuple[Effect, ...]:
    (c, n), (d, m) = first, second
    if c + d == 0:
        return (Effect("risk_ratio", math.nan), Effect("odds_ratio", math.nan))
    risk = stats.contingency.relative_risk(c, n, d, m)
    ends = risk.confidence_interval(confidence)
    odds = stats.contingency.odds_ratio(np.array([[c, n - c], [d, m - d]]), kind="conditional")
    odds_ends = odds.confidence_interval(confidence)
    return (
        Effect("risk_ratio", float(risk.relative_risk), float(ends.low), float(ends.high), "Katz log"),
        Effect("odds_ratio", float(odds.statistic), float(odds_ends.low), float(odds_ends.high), "exact conditional"),
    )


def many_proportions(groups: Mapping[str, Counts], *, confidence: float = 0.95) -> TestResult:
    """Test whether several proportions are equal (Pearson's chi-square without correction, k - 1 df).

    Estimate and effect: Cramer's V. Expected counts below 5 are noted. No or only counted units give no statistic, with a
    reason. Errors: SPC-361 (fewer than 2 groups), 365, 367.

    >>> result = many_proportions({"A": (10, 100), "B": (20, 100), "C": (30, 100)})
    >>> result.statistic, result.df
    (12.5, (2.0,))
    """
    if len(groups) < 2:
        raise ContractError(f"{len(groups)} group(s) given, proportions of at least 2 are compared", code="SPC-361")
    confident(confidence)
    counted = {name: _counted(*counts, name) for name, counts in groups.items()}
    table = np.array([[count, n - count] for count, n in counted.values()], dtype=np.float64)
    is_flat = bool((table.sum(axis=0) == 0).any())
    notes = ["units independent with one proportion per group"]
    statistic, p_value = math.nan, math.nan
    if not is_flat:
        found = stats.chi2_contingency(table, correction=False)
        statistic, p_value = float(found.statistic), float(found.pvalue)
        if found.expected_freq.min() < 5.0:
            notes.append(f"smallest expected count {found.expected_freq.min():.3g} is below 5: the chi-square is rough")
    v = math.sqrt(statistic / table.sum())
    return TestResult(
        test="chi-square of proportions",
        statistic_name="chi square",
        statistic=statistic,
        df=(float(len(groups) - 1),),
        p_value=p_value,
        alternative="two-sided",
        estimate_name="Cramer's V",
        estimate=v,
        interval=None,
        samples=tuple(_sample(name, *counts) for name, counts in counted.items()),
        effects=(Effect("cramer_v", v),),
        notes=tuple(notes),
        reason="no statistic: no unit or every unit counts in all groups" if is_flat else None,
    )


def two_rates(
    first: tuple[int, float],
    second: tuple[int, float],
    *,
    null_value: float = 1.0,
    names: tuple[str, str] = ("first", "second"),
    alternative: str = "two-sided",
    confidence: float = 0.95,
) -> TestResult:
    """Test whether the ratio of two Poisson rates is ``null_value``, exactly: given the sum, a count is binomial.

    ``first``, ``second``: (events, exposure), exposures in one unit. Estimate: rate ratio with the exact conditional
    interval (NaN or infinite where a count is 0); effect: rate difference, its interval
    put together from the exact ones of both rates (MOVER, Zou and Donner 2008). No events at all give
    no p-value, with a reason. Errors: SPC-365, 367.

    >>> result = two_rates((30, 10.0), (15, 10.0))
    >>> result.estimate, round(result.p_value, 6)
    (2.0, 0.035698)
    """
    side, confidence = sided(alternative), confident(confidence)
    number(null_value, "the hypothetical ratio of rates", positive=True)
    (c, s), (d, t) = ((_events(*pair, name), float(pair[1])) for pair, name in zip((first, second), names, strict=True))
    common = {
        "test": "exact Poisson rates",
        "statistic_name": "events",
        "statistic": float(c),
        "df": (),
        "alternative": side,
        "estimate_name": f"rate of {names[0]} / rate of {names[1]}",
        "samples": (Sample(names[0], c, mean=c / s), Sample(names[1], d, mean=d / t)),
        "null_value": null_value,
        "notes": ("events independent at constant rates; n of a sample is its events, mean its rate",),
    }
    if c + d == 0:
        return TestResult(p_value=math.nan, estimate=math.nan, interval=None, reason="no p-value: no events", **common)  # type: ignore[arg-type]
    found = stats.binomtest(c, c + d, null_value * s / (null_value * s + t), alternative=side)
    share = found.proportion_ci(confidence, "exact")
    low, high = (float(end) / (1.0 - float(end)) * t / s if end < 1.0 else math.inf for end in (share.low, share.high))
    (c_low, c_high), (d_low, d_high) = (_garwood(*pair, confidence) for pair in ((c, s), (d, t)))
    difference = c / s - d / t
    below = difference - math.hypot(c / s - c_low, d_high - d / t)
    above = difference + math.hypot(c_high - c / s, d / t - d_low)
    return TestResult(
        p_value=float(found.pvalue),
        estimate=c / s / (d / t) if d else math.inf,
        interval=Interval(low, high, confidence, "exact conditional"),
        effects=(
            Effect("rate_ratio", c / s / (d / t) if d else math.inf, low, high, "exact conditional"),
            Effect("rate_difference", difference, below, above, "MOVER of exact limits"),
        ),
        **common,  # type: ignore[arg-type]
    )


def _garwood(events: int, exposure: float, confidence: float) -> tuple[float, float]:
    """Exact limits of one Poisson rate (Garwood, Biometrika 28 (1936) 437)."""
    tail = (1.0 - confidence) / 2.0
    low = float(stats.chi2.ppf(tail, 2 * events)) / 2.0 if events else 0.0
    return low / exposure, float(stats.chi2.isf(tail, 2 * (events + 1))) / 2.0 / exposure


def _events(count: float, exposure: float, name: str) -> int:
    if not (math.isfinite(count) and float(count).is_integer() and count >= 0):
        raise ContractError(
            f"group {name!r}: {count} events is no whole number from 0 on; give counts, not rates", code="SPC-367"
        )
    if not (math.isfinite(exposure) and exposure > 0):
        raise ContractError(
            f"group {name!r}: exposure {exposure} is not above 0; give the time or area looked at", code="SPC-367"
        )
    return int(count)

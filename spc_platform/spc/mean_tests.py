"""Tests of means: Student, Welch, paired, analysis of variance with all pairs, each with effect size and intervals.

Statistics and p-values come from SciPy and statsmodels on values from which a common shift was taken. Sources of what is
added: noncentral intervals of d and eta squared, Steiger, Psychological Methods 9 (2004) 164; d without equal variances,
Bonett, Psychological Methods 13 (2008) 99; bias of d, Hedges, J. Educational Statistics 6 (1981) 107.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats
from scipy.special import gammaln

from spc_platform.errors import ContractError
from spc_platform.spc.results import (
    Alternative,
    Comparison,
    Effect,
    Interval,
    TestResult,
    centred,
    confident,
    described,
    module,
    named_groups,
    number,
    sample,
    sided,
)
from spc_platform.spc.sequence import Floats

NO_VARIATION = "no statistic: {} do not vary, so nothing tells a difference from chance; measure with a finer resolution"
NORMAL = "values independent and, in small samples, normal"
EQUAL_VARIANCES = "equal variances of the groups"


def _root(below: Callable[[float], float], start: float, step: float) -> float:
    """Where a falling function passes 0, searched outwards from ``start``; NaN where it cannot be computed."""
    low, high = start - step, start + step
    while below(low) < 0:
        low -= 2.0 * (high - low)
    while below(high) > 0:
        high += 2.0 * (high - low)
    return _between(below, low, high)


def _between(below: Callable[[float], float], low: float, high: float) -> float:
    try:
        return float(optimize.brentq(below, low, high, xtol=1e-13, rtol=1e-13))
    except ValueError:  # SciPy's noncentral distributions give NaN where the effect is thousands of standard deviations
        return math.nan


def noncentral_t_interval(t: float, df: float, confidence: float) -> tuple[float, float]:
    """Interval of the noncentrality of an observed t; divided by the root of the effective n it is that of Cohen's d.

    >>> [round(end, 4) for end in noncentral_t_interval(2.0, 10.0, 0.95)]
    [-0.1835, 4.1011]
    """
    tail = (1.0 - confidence) / 2.0

    def end(probability: float) -> float:
        return _root(lambda nc: float(stats.nct.cdf(t, df, nc)) - probability, t, 2.0 + abs(t))

    return end(1.0 - tail), end(tail)


def noncentral_f_interval(f: float, df1: float, df2: float, confidence: float) -> tuple[float, float]:
    """Interval of the noncentrality of an observed F; an end is 0 where F is too small for a positive one.

    The noncentralities at which the observed ``f`` is the upper and the lower tail's quantile (Steiger, Psychological
    Methods 9 (2004) 164).
    """
    tail = (1.0 - confidence) / 2.0

    def end(probability: float) -> float:
        if stats.f.cdf(f, df1, df2) <= probability:
            return 0.0
        high = max(1.0, f * df1)
        while stats.ncf.cdf(f, df1, df2, high) > probability:
            high *= 2.0
        return _between(lambda nc: float(stats.ncf.cdf(f, df1, df2, nc)) - probability, 1e-12, high)

    return end(1.0 - tail), end(tail)


def hedges_factor(df: float) -> float:
    """What takes the bias off Cohen's d: Gamma(df/2) / (sqrt(df/2) Gamma((df-1)/2)); NaN for a single degree of freedom.

    >>> round(hedges_factor(10.0), 6)
    0.922746
    """
    if df <= 1:
        return math.nan
    return math.exp(float(gammaln(df / 2.0) - gammaln((df - 1.0) / 2.0)) - 0.5 * math.log(df / 2.0))


def _d_effects(name: str, t: float, df: float, root_n: float, confidence: float) -> tuple[Effect, ...]:
    """Cohen's d = t / root_n and Hedges' g, with noncentral t intervals."""
    low, high = noncentral_t_interval(t, df, confidence)
    d, factor = t / root_n, hedges_factor(df)
    return (
        Effect(name, d, low / root_n, high / root_n, "noncentral t"),
        Effect("hedges_g", d * factor, low / root_n * factor, high / root_n * factor, "noncentral t"),
    )


def one_sample_t(
    values: npt.ArrayLike,
    null_value: float = 0.0,
    *,
    name: str = "values",
    alternative: str = "two-sided",
    confidence: float = 0.95,
) -> TestResult:
    """Test whether the mean of one group is ``null_value`` (Student 1908); estimate: the mean, effect: Cohen's d.

    ``values``: 2 or more, in the unit of ``null_value``. Equal values give no statistic, with a reason. Errors: SPC-360,
    361, 365.

    >>> result = one_sample_t([5.1, 4.9, 5.3, 5.2], 5.0)
    >>> round(result.statistic, 5), result.df, round(result.p_value, 5)
    (1.46385, (3.0,), 0.23944)
    """
    data, side = sample(values, name, 2), sided(alternative)
    number(null_value, "the hypothetical mean")
    return _on_mean(
        "one-sample t", data - null_value, null_value, (described(name, data),), side, confident(confidence), "mean"
    )


def paired_t(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    null_value: float = 0.0,
    *,
    names: tuple[str, str] = ("first", "second"),
    alternative: str = "two-sided",
    confidence: float = 0.95,
) -> TestResult:
    """Test whether pairs differ by ``null_value`` on average; row i of ``first`` belongs to row i of ``second``.

    Estimate: mean of first - second; effect: d of the differences (d_z). Errors: SPC-360, 361, 364 (lengths), 365.
    """
    a, b = (sample(values, name, 2, keep_order=True) for values, name in zip((first, second), names, strict=True))
    if a.size != b.size:
        raise ContractError(
            f"{names[0]!r} has {a.size} values and {names[1]!r} {b.size}; pairs need one of each per row", code="SPC-364"
        )
    number(null_value, "the hypothetical difference")
    samples = (described(names[0], np.sort(a)), described(names[1], np.sort(b)))
    shifted = np.sort(a - b - null_value)
    return _on_mean("paired t", shifted, null_value, samples, sided(alternative), confident(confidence), "mean difference")


def _on_mean(
    test: str,
    deviations: Floats,
    null_value: float,
    samples: tuple[object, ...],
    side: Alternative,
    confidence: float,
    estimate_name: str,
) -> TestResult:
    """Student's t of deviations from the hypothesis against 0."""
    shift, (parts,) = centred(deviations)
    mean, n = shift + float(parts.mean()), parts.size
    error = float(parts.std(ddof=1)) / math.sqrt(n)
    common = {"estimate_name": estimate_name, "estimate": mean + null_value, "samples": samples, "null_value": null_value}
    if not error > 0:
        return _without_variation(test, "t", side, common)
    found = stats.ttest_1samp(parts, -shift, alternative=side)
    ends = found.confidence_interval(confidence)
    t, df = float(found.statistic), float(found.df)
    return TestResult(
        test=test,
        statistic_name="t",
        statistic=t,
        df=(df,),
        p_value=float(found.pvalue),
        alternative=side,
        interval=Interval(float(ends.low) + shift + null_value, float(ends.high) + shift + null_value, confidence, "t"),
        effects=_d_effects("cohen_d", t, df, math.sqrt(n), confidence),
        notes=(NORMAL,),
        **common,  # type: ignore[arg-type]
    )


def _without_variation(test: str, statistic_name: str, side: Alternative, common: Mapping[str, object]) -> TestResult:
    return TestResult(
        test=test,
        statistic_name=statistic_name,
        statistic=math.nan,
        df=(),
        p_value=math.nan,
        alternative=side,
        interval=None,
        reason=NO_VARIATION.format("the values within the groups"),
        **common,  # type: ignore[arg-type]
    )


def two_sample_t(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    null_value: float = 0.0,
    *,
    equal_variances: bool = False,
    names: tuple[str, str] = ("first", "second"),
    alternative: str = "two-sided",
    confidence: float = 0.95,
) -> TestResult:
    """Test whether two means differ by ``null_value``: Welch (default) or, with ``equal_variances``, Student's pooled t.

    Estimate: mean of first - second with its interval. Effects: pooled Cohen's d and Hedges' g (noncentral t interval), or
    d over the root mean variance (Bonett's interval) under Welch. 2 or more values each; no variation in both gives no
    statistic, with a reason. Errors: SPC-360, 361, 365. Source: Welch, Biometrika 34 (1947) 28.

    >>> result = two_sample_t([1.0, 2.0, 3.0, 4.0], [3.0, 4.0, 6.0, 8.0])
    >>> round(result.statistic, 5), round(result.df[0], 4), round(result.p_value, 5)
    (-2.14358, 4.8243, 0.08694)
    """
    a, b = sample(first, names[0], 2), sample(second, names[1], 2)
    side, confidence = sided(alternative), confident(confidence)
    number(null_value, "the hypothetical difference")
    _, (x, y) = centred(a, b)
    common = {
        "estimate_name": f"mean of {names[0]} - mean of {names[1]}",
        "estimate": float(x.mean()) - float(y.mean()),
        "samples": (described(names[0], a), described(names[1], b)),
        "null_value": null_value,
    }
    test = "two-sample t" if equal_variances else "Welch t"
    if not (np.ptp(x) > 0 or np.ptp(y) > 0):
        return _without_variation(test, "t", side, common)
    found = stats.ttest_ind(x - null_value, y, equal_var=equal_variances, alternative=side)
    ends = found.confidence_interval(confidence)
    t, df = float(found.statistic), float(found.df)
    if equal_variances:
        effects = _d_effects("cohen_d", t, df, math.sqrt(x.size * y.size / (x.size + y.size)), confidence)
    else:
        effects = (_bonett_d(x, y, null_value, confidence),)
    return TestResult(
        test=test,
        statistic_name="t",
        statistic=t,
        df=(df,),
        p_value=float(found.pvalue),
        alternative=side,
        interval=Interval(
            float(ends.low) + null_value, float(ends.high) + null_value, confidence, "t" if equal_variances else "Welch"
        ),
        effects=effects,
        notes=(NORMAL, EQUAL_VARIANCES) if equal_variances else (NORMAL,),
        **common,  # type: ignore[arg-type]
    )


def _bonett_d(x: Floats, y: Floats, null_value: float, confidence: float) -> Effect:
    v, w = float(x.var(ddof=1)), float(y.var(ddof=1))
    whole = (v + w) / 2.0
    d = (float(x.mean()) - float(y.mean()) - null_value) / math.sqrt(whole)
    spread = (
        d**2 * (v**2 / (x.size - 1) + w**2 / (y.size - 1)) / (8.0 * whole**2) + (v / (x.size - 1) + w / (y.size - 1)) / whole
    )
    half = float(stats.norm.ppf(0.5 + confidence / 2.0)) * math.sqrt(spread)
    return Effect("cohen_d", d, d - half, d + half, "Bonett 2008")


def one_way_anova(groups: Mapping[str, npt.ArrayLike], *, equal_variances: bool = True, confidence: float = 0.95) -> TestResult:
    """Test whether all means are equal, and which pairs differ: Fisher with Tukey-Kramer, or Welch with Games-Howell.

    ``groups``: 2 or more groups of 2 or more values. Estimate: eta squared with its noncentral F interval; effects: omega
    squared; comparisons: all pairs with simultaneous intervals and adjusted p-values. Sums are taken after a shift, so an
    offset of 1e12 costs no digit beyond those that the values themselves lost. No variation within the groups gives no
    statistic, with a reason. Errors: SPC-360, 361, 365. Sources: Tukey 1949, Kramer 1956, Games and Howell 1976.

    >>> result = one_way_anova({"A": [1.0, 2.0, 3.0], "B": [2.0, 3.0, 4.0], "C": [6.0, 7.0, 8.0]})
    >>> round(result.statistic, 6), result.df, round(result.p_value, 8)
    (21.0, (2.0, 6.0), 0.00195312)
    """
    data, confidence = named_groups(groups, 2), confident(confidence)
    _, parts = centred(*data.values())
    total, k = sum(part.size for part in parts), len(parts)
    means = np.array([part.mean() for part in parts])
    sizes = np.array([part.size for part in parts], dtype=np.float64)
    grand = float(np.sum(means * sizes)) / total
    between = float(np.sum(sizes * (means - grand) ** 2))
    within = math.fsum(float(np.sum((part - mean) ** 2)) for part, mean in zip(parts, means, strict=True))
    eta = between / (between + within) if between + within > 0 else math.nan
    test = "one-way ANOVA" if equal_variances else "Welch ANOVA"
    common = {
        "estimate_name": "eta squared",
        "estimate": eta,
        "samples": tuple(described(name, values) for name, values in data.items()),
    }
    flat = [name for name, part in zip(data, parts, strict=True) if not np.ptp(part) > 0]
    if not within > 0 or (flat and not equal_variances):
        return _without_variation(test, "F", "two-sided", common)
    if equal_variances:
        df1, df2 = float(k - 1), float(total - k)
        f = (between / df1) / (within / df2)
        p_value = float(stats.f.sf(f, df1, df2))
    else:
        found = module("oneway").anova_oneway(list(parts), use_var="unequal", welch_correction=True)
        f, p_value = float(found.statistic), float(found.pvalue)
        df1, df2 = float(found.df_num), float(found.df_denom)
    low, high = (nc / (nc + total) for nc in noncentral_f_interval(f, df1, df2, confidence))
    mean_square = within / (total - k)
    omega = (between - (k - 1) * mean_square) / (between + within + mean_square)
    return TestResult(
        test=test,
        statistic_name="F",
        statistic=f,
        df=(df1, df2),
        p_value=p_value,
        alternative="two-sided",
        interval=Interval(low, high, confidence, "noncentral F"),
        effects=(Effect("eta_squared", eta, low, high, "noncentral F"), Effect("omega_squared", omega)),
        comparisons=all_pairs(list(data), parts, equal_variances=equal_variances, confidence=confidence),
        notes=(NORMAL, EQUAL_VARIANCES) if equal_variances else (NORMAL,),
        details={
            "sum_of_squares_between": between,
            "sum_of_squares_within": within,
            "mean_square_between": between / (k - 1),
            "mean_square_within": mean_square,
            "r_squared": eta,
            "residual_sd": math.sqrt(mean_square),
        },
        **common,  # type: ignore[arg-type]
    )


def all_pairs(
    names: Sequence[str], groups: Sequence[Floats], *, equal_variances: bool = True, confidence: float = 0.95
) -> tuple[Comparison, ...]:
    """Differences of all pairs of means with simultaneous intervals: Tukey-Kramer, or Games-Howell without equal variances.

    ``groups``: values of each group, about one common shift. Sources: Kramer, Biometrics 12 (1956) 307; Games and Howell, J.
    Educational Statistics 1 (1976) 113; both by the studentized range.
    """
    sizes = np.array([group.size for group in groups], dtype=np.float64)
    means = np.array([group.mean() for group in groups])
    variances = np.array([group.var(ddof=1) for group in groups])
    pooled = float(np.sum(variances * (sizes - 1.0)) / np.sum(sizes - 1.0))
    quantiles: dict[float, float] = {}
    pairs = []
    for i, j in combinations(range(len(groups)), 2):
        if equal_variances:
            squares, df = pooled * (1.0 / sizes[i] + 1.0 / sizes[j]), float(np.sum(sizes - 1.0))
        else:
            v, w = variances[i] / sizes[i], variances[j] / sizes[j]
            squares, df = v + w, float((v + w) ** 2 / (v**2 / (sizes[i] - 1.0) + w**2 / (sizes[j] - 1.0)))
        error = math.sqrt(squares / 2.0)
        if df not in quantiles:
            quantiles[df] = float(stats.studentized_range.ppf(confidence, len(groups), df))
        difference = float(means[i] - means[j])
        p_value = float(stats.studentized_range.sf(abs(difference) / error, len(groups), df))
        half = quantiles[df] * error
        pairs.append(Comparison(names[i], names[j], difference, difference - half, difference + half, p_value))
    return tuple(pairs)

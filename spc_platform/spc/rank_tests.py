"""Tests by ranks: Mann-Whitney with the Hodges-Lehmann shift, Kruskal-Wallis.

Source: Hollander, Wolfe and Chicken, Nonparametric Statistical Methods, 3rd ed. (2014), chapters 4 and 6.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy import stats

from spc_platform.spc.results import (
    Effect,
    Interval,
    TestResult,
    confident,
    described,
    named_groups,
    number,
    sample,
    sided,
)
from spc_platform.spc.sequence import Floats

EXACT_BELOW = 50
"""Both groups smaller than this and no ties: the exact distribution of U; else the normal one with continuity correction."""

MOST_DIFFERENCES = 20_000_000
"""Above this many pairs the shift and its interval are left out: they need every pairwise difference in memory."""


def u_distribution(n: int, m: int) -> Floats:
    """P(U = 0), ..., P(U = n m) of Mann and Whitney's U without ties, by adding one rank after the other.

    >>> u_distribution(2, 2).round(4).tolist()
    [0.1667, 0.1667, 0.3333, 0.1667, 0.1667]
    """
    highest = n * (n + 1) // 2 + n * m
    ways = np.zeros((n + 1, highest + 1))
    ways[0, 0] = 1.0
    for rank in range(1, n + m + 1):
        ways[1:, rank:] += ways[:-1, : highest + 1 - rank]
    counts = ways[n, n * (n + 1) // 2 :]
    return np.asarray(counts / counts.sum(), dtype=np.float64)


def mann_whitney(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    null_value: float = 0.0,
    *,
    names: tuple[str, str] = ("first", "second"),
    alternative: str = "two-sided",
    confidence: float = 0.95,
) -> TestResult:
    """Test whether two groups differ by a shift of ``null_value``; U counts the pairs in which ``first`` is larger.

    Estimate: Hodges-Lehmann shift (median of all differences first - second) with the interval of ordered differences; its
    attained confidence is in ``details``. Effects: rank-biserial correlation 2 U / (n m) - 1 and the probability of
    superiority, with DeLong's normal interval. Exact without ties below 50 values each. Errors: SPC-360, 361, 365.

    >>> result = mann_whitney([1.1, 2.2, 3.3], [2.0, 4.0, 6.0, 8.0])
    >>> result.statistic, round(result.p_value, 6)
    (2.0, 0.228571)
    """
    a, b = sample(first, names[0], 1), sample(second, names[1], 1)
    side, confidence = sided(alternative), confident(confidence)
    number(null_value, "the hypothetical shift")
    x, y = a - null_value, b  # no common shift here: rounding it could make or break ties
    n, m = x.size, y.size
    everything = np.concatenate([x, y])
    has_ties = bool(np.unique(everything).size < everything.size)
    is_exact = not has_ties and max(n, m) < EXACT_BELOW
    common = {
        "test": "Mann-Whitney",
        "statistic_name": "U",
        "df": (),
        "alternative": side,
        "estimate_name": f"shift of {names[0]} against {names[1]} (Hodges-Lehmann)",
        "samples": (described(names[0], a), described(names[1], b)),
        "null_value": null_value,
    }
    if not np.ptp(everything) > 0:
        reason = "no p-value: all values are equal, so all ranks are tied"
        return TestResult(statistic=n * m / 2.0, p_value=math.nan, estimate=null_value, interval=None, reason=reason, **common)  # type: ignore[arg-type]
    found = stats.mannwhitneyu(x, y, alternative=side, method="exact" if is_exact else "asymptotic")
    u = float(found.statistic)
    shift, interval, attained = _shift(x, y, null_value, side, confidence, is_exact=is_exact)
    return TestResult(
        statistic=u,
        p_value=float(found.pvalue),
        estimate=shift,
        interval=interval,
        effects=_superiority(x, y, u, confidence),
        notes=("values independent; the shift supposes equal shapes", "exact" if is_exact else "normal approximation"),
        details={"attained_confidence": attained},
        reason=None if interval else f"no shift: {n} x {m} pairs exceed {MOST_DIFFERENCES}",
        **common,  # type: ignore[arg-type]
    )


def _shift(
    x: Floats, y: Floats, null_value: float, side: str, confidence: float, *, is_exact: bool
) -> tuple[float, Interval | None, float]:
    n, m = x.size, y.size
    if n * m > MOST_DIFFERENCES:
        return math.nan, None, math.nan
    differences = np.sort((x[:, None] - y[None, :]).ravel()) + null_value
    tails = 2.0 if side == "two-sided" else 1.0
    tail = (1.0 - confidence) / tails
    if is_exact:
        cumulative = np.cumsum(u_distribution(n, m))
        cut = max(1, int(np.searchsorted(cumulative, tail, side="left")))
        attained = 1.0 - tails * float(cumulative[cut - 1])
    else:
        _, ties = np.unique(np.concatenate([x, y]), return_counts=True)
        total = n + m
        spread = math.sqrt(n * m / 12.0 * (total + 1.0 - float(np.sum(ties**3.0 - ties)) / (total * (total - 1.0))))
        cut = max(1, math.floor(n * m / 2.0 + float(stats.norm.ppf(tail)) * spread))
        attained = confidence
    low = float(differences[cut - 1]) if side != "less" else -math.inf
    high = float(differences[n * m - cut]) if side != "greater" else math.inf
    return float(np.median(differences)), Interval(low, high, confidence, "ordered differences"), attained


def _superiority(x: Floats, y: Floats, u: float, confidence: float) -> tuple[Effect, ...]:
    """Share of pairs in which x is larger (ties half), and the rank-biserial correlation; DeLong's variance of the share."""
    n, m = x.size, y.size
    share = u / (n * m)
    over_y = (np.searchsorted(y, x, "left") + np.searchsorted(y, x, "right")) / (2.0 * m)
    over_x = 1.0 - (np.searchsorted(x, y, "left") + np.searchsorted(x, y, "right")) / (2.0 * n)
    if min(n, m) < 2:
        low, high = math.nan, math.nan
    else:
        half = float(stats.norm.ppf(0.5 + confidence / 2.0)) * math.sqrt(over_y.var(ddof=1) / n + over_x.var(ddof=1) / m)
        low, high = max(0.0, share - half), min(1.0, share + half)
    return (
        Effect("rank_biserial", 2.0 * share - 1.0, 2.0 * low - 1.0, 2.0 * high - 1.0, "DeLong"),
        Effect("probability_of_superiority", share, low, high, "DeLong"),
    )


def kruskal_wallis(groups: Mapping[str, npt.ArrayLike], *, confidence: float = 0.95) -> TestResult:
    """Test whether groups come from one distribution, by ranks, corrected for ties (chi-square, k - 1 df).

    2 or more groups. Estimate and effect: epsilon squared H / (N - 1), 0 to 1. All values equal give no statistic, with a
    reason. Errors: SPC-360, 361, 365.

    >>> result = kruskal_wallis({"A": [1.0, 2.0, 3.0], "B": [4.0, 5.0, 6.0]})
    >>> round(result.statistic, 6), result.df, round(result.p_value, 6)
    (3.857143, (1.0,), 0.049535)
    """
    data = named_groups(groups, 1)
    confident(confidence)
    everything = np.concatenate(list(data.values()))
    is_flat = not np.ptp(everything) > 0
    statistic, p_value = (math.nan, math.nan) if is_flat else map(float, stats.kruskal(*data.values()))
    epsilon = statistic / (everything.size - 1)
    return TestResult(
        test="Kruskal-Wallis",
        statistic_name="H",
        statistic=statistic,
        df=(float(len(data) - 1),),
        p_value=p_value,
        alternative="two-sided",
        estimate_name="epsilon squared",
        estimate=epsilon,
        interval=None,
        samples=tuple(described(name, values) for name, values in data.items()),
        effects=(Effect("epsilon_squared", epsilon),),
        notes=("values independent; chi-square approximation, good from 5 values per group",),
        reason="no statistic: all values are equal, so all ranks are tied" if is_flat else None,
    )

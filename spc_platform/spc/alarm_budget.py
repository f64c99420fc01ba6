"""The alarm budget of a plant: false alarms that its rules cost, signals that are more than chance, shifts by size."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.special import ndtr, ndtri
from scipy.stats import false_discovery_control, poisson

from spc_platform.contracts.alarms import SPC_ALARM_BUDGET
from spc_platform.contracts.charts import CHARTS
from spc_platform.errors import ContractError
from spc_platform.site.model import Site
from spc_platform.spc.charting import MOVING_AVERAGE_SPAN, SETTINGS
from spc_platform.spc.limit_rates import NORMAL, limit_alarm_rate
from spc_platform.spc.rule_sets import RULE_SETS, Rule, allowed, custom_rules
from spc_platform.spc.run_lengths import average_run_length, is_exact, simulated_run_length
from spc_platform.spc.sequence import CHART, Flags, Floats
from spc_platform.spc.weighted_run_lengths import cusum_run_length, ewma_run_length, moving_average_run_length

REPLICATIONS = 100_000
SEED = 1

DEFAULTS = {name: SETTINGS[name] for name in ("weight", "reference", "decision", "head_start")} | {"span": MOVING_AVERAGE_SPAN}
"""Parameters of time-weighted charts where a chart gives none."""

_COUNTS = ("p", "np", "c", "u", "g")
_KEYS = ["chart", "rule_set", "k", *DEFAULTS]
_PLOTS_VALUES = ("x", "xbar", "z")
"""Statistics of which each point is independent and normal, with the standard error sigma / sqrt(n)."""

Sets = Mapping[str, tuple[Rule, ...]]


def false_alarm_rates(charts: pl.DataFrame, sets: Sets = RULE_SETS) -> pl.DataFrame:
    """``charts`` with what the rules of the location panel cost in control, per point: 1 / ARL0.

    ``charts``: one row per chart with chart, rule_set, and optionally k (3), weight, span, reference, decision and head_start
    (null: ``DEFAULTS``). Adds false_alarm_rate, arl0, standard_error (of arl0) and method: exact (Markov chain or integral
    equation), simulated (trends and alternations together with zones, moving averages: seeded), or approximate (run rules of
    counts by normal theory). Each distinct combination is computed once. Raises ``ContractError`` SPC-319 for a chart or a
    rule set that does not exist, for k <= 0, and for a chart that leaves every rule out.

    >>> false_alarm_rates(pl.DataFrame({"chart": ["i_mr"], "rule_set": ["western_electric"]}))["arl0"].round(2).to_list()
    [91.75]
    """
    missing = [pl.lit(None, dtype=pl.Float64).alias(name) for name in ("k", *DEFAULTS) if name not in charts.columns]
    filled = charts.with_columns(missing).with_columns(
        pl.col(name).cast(pl.Float64).fill_null(value) for name, value in {"k": 3.0, **DEFAULTS}.items()
    )
    distinct = filled.select(_KEYS).unique(maintain_order=True)
    figures = [_run_length(sets, **row) for row in distinct.iter_rows(named=True)]
    known = distinct.with_columns(
        arl0=pl.Series([figure[0] for figure in figures], dtype=pl.Float64),
        standard_error=pl.Series([figure[1] for figure in figures], dtype=pl.Float64),
        method=pl.Series([figure[2] for figure in figures], dtype=pl.String),
    ).with_columns(false_alarm_rate=1.0 / pl.col("arl0"))
    added = ["arl0", "standard_error", "method", "false_alarm_rate"]
    return charts.hstack(filled.select(_KEYS).join(known, on=_KEYS, how="left", maintain_order="left").select(added))


def alarm_budget(charts: pl.DataFrame, plant_budget: float = 1.0, sets: Sets = RULE_SETS) -> pl.DataFrame:
    """Expected false alarms per chart and day, of the whole plant, and the width k that would meet a budget.

    ``charts`` as for ``false_alarm_rates`` with points_per_day; ``plant_budget``: false alarms per day for all charts together.
    Adds the columns of ``false_alarm_rates``, expected_false_alarms_per_day, expected_plant_per_day (their sum) and
    k_for_budget: the width at which the control limits alone (rule 1) of all charts cost the budget.
    Raises ``ContractError`` SPC-319 for a budget or points_per_day that cannot be.

    >>> plant = pl.DataFrame({"chart": ["i_mr"] * 2, "rule_set": ["limits_only"] * 2, "points_per_day": [1440.0, 60.0]})
    >>> alarm_budget(plant, 1.0).select(pl.col("expected_plant_per_day", "k_for_budget").round(3)).row(0)
    (4.05, 3.403)
    """
    rates = false_alarm_rates(charts, sets).with_columns(
        expected_false_alarms_per_day=pl.col("points_per_day") * pl.col("false_alarm_rate")
    )
    return rates.with_columns(
        expected_plant_per_day=pl.col("expected_false_alarms_per_day").sum(),
        k_for_budget=pl.lit(width_for_budget(rates["points_per_day"].to_numpy(), plant_budget)),
    )


def width_for_budget(points_per_day: npt.ArrayLike, plant_budget: float) -> float:
    """Width k at which two-sided limits cost ``plant_budget`` false alarms a day: sum of points * 2 Phi(-k) = budget.

    >>> round(width_for_budget(5000 * 1440.0, 1.0), 2)
    5.27
    """
    points = np.asarray(points_per_day, dtype=np.float64)
    if not np.all(np.isfinite(points) & (points >= 0)) or not 0 < plant_budget < np.inf:
        raise ContractError(
            f"a budget of {plant_budget:g} alarms a day for points_per_day from {points.min(initial=np.inf):g}: give a budget "
            "above 0 and points_per_day of at least 0",
            code="SPC-319",
        )
    total = float(points.sum())
    return float(-ndtri(plant_budget / (2.0 * total))) if total > plant_budget else 0.0


def p_of_z(z: Floats) -> Floats:
    """Two-sided p of standardized values, 2 Phi(-|z|)."""
    return np.asarray(2.0 * ndtr(-np.abs(z)), dtype=np.float64)


def false_discovery(p: Floats, q: float = 0.05, *, dependent: bool = False) -> tuple[Floats, Flags]:
    """Adjusted p and whether it is kept, so that at most a share ``q`` of what is kept is expected to be chance.

    Benjamini and Hochberg, J. Royal Statistical Society B 57 (1995) 289; ``dependent``: Benjamini and Yekutieli, Annals of
    Statistics 29 (2001) 1165, valid for any dependence. NaN stays NaN, is not kept, and does not count as a test.
    Raises ``ContractError`` SPC-319 for a p or q outside 0 to 1.

    >>> adjusted, kept = false_discovery(np.array([0.01, 0.04, 0.03, 0.5]))
    >>> adjusted.round(4).tolist(), kept.tolist()
    ([0.04, 0.0533, 0.0533, 0.5], [True, False, False, False])
    """
    tested = np.isfinite(p)
    bad = np.flatnonzero((p < 0) | (p > 1) | np.isinf(p))
    if len(bad) or not 0 < q < 1:
        where = f"row {int(bad[0])}: p is {p[bad[0]]:g}" if len(bad) else f"q is {q:g}"
        raise ContractError(f"{where}; probabilities lie between 0 and 1, correct it", code="SPC-319")
    adjusted = np.full(len(p), np.nan)
    if tested.any():
        adjusted[tested] = false_discovery_control(p[tested], method="by" if dependent else "bh")
    return adjusted, tested & (adjusted <= q)


def rank_by_shift(points: pl.DataFrame) -> pl.DataFrame:
    """Estimated shift of each chart since its likeliest last change, the largest first.

    ``points``: SPC_POINTS; the location points with a z count, of the newest limit version of each chart, where points are
    independent means or values (statistics x, xbar, z). The change is where (sum since of (value - cl) n / sigma)^2 / (sum of
    n) is largest, its maximum likelihood estimate (Samuel, Pignatiello and Calvin, Quality Engineering 10 (1998) 521).
    Returns CHART, shift_sigma (in sigma of a value, + above), shift_standard_error (1 / sqrt of the values since), since (first
    point after the change), rank from 1.
    """
    rows = points.filter(
        (pl.col("panel") == "location") & pl.col("statistic").is_in(_PLOTS_VALUES) & pl.col("z").is_not_null()
    ).sort(*CHART, "subgroup_at", "subgroup_id")
    rows = rows.filter(pl.col("limit_version") == pl.col("limit_version").last().over(CHART))
    # limits of a between/within chart stand on the sigma of the means, so a mean is one value
    size = pl.when(pl.col("chart").is_in(["i_mr_r", "i_mr_s"])).then(1.0).otherwise(pl.col("n_observed").cast(pl.Float64))
    later = rows.with_columns(
        total=(pl.col("z") * size.sqrt()).cum_sum(reverse=True).over(CHART), values=size.cum_sum(reverse=True).over(CHART)
    ).with_columns(score=pl.col("total") ** 2 / pl.col("values"))
    last = later.filter(pl.col("score") == pl.col("score").max().over(CHART)).unique(CHART, keep="first", maintain_order=True)
    shifts = last.select(
        *CHART,
        shift_sigma=pl.col("total") / pl.col("values"),
        shift_standard_error=1.0 / pl.col("values").sqrt(),
        since="subgroup_at",
    )
    ranked = shifts.sort(pl.col("shift_sigma").abs(), *CHART, descending=[True, False, False])
    return ranked.with_columns(rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int64))


def plant_alarm_budget(points: pl.DataFrame, violations: pl.DataFrame, site: Site, q: float = 0.05) -> pl.DataFrame:
    """SPC_ALARM_BUDGET of every chart that the site declares, over the window of ``points``.

    ``points``: SPC_POINTS and ``violations``: SPC_VIOLATIONS of the same production dates; days are counted from the first to
    the last of them. Expected alarms add up over panels: run rules of the location by ``false_alarm_rates``, limits of
    spreads and counts by their own distribution at the chart's usual n (``limit_alarm_rate``). Observed: flagged points, those
    that follow each other on a panel as one. p: twice the smaller of P(Poisson(expected) >= observed) and the chance of a z
    as large as the largest among the location's points; adjusted over all charts (``false_discovery``). Time-weighted charts
    and counts have no z of independent normal points, so only their number of alarms counts, and their shift is empty.
    Raises ``ContractError`` SPC-319.
    """
    charts = _declared(site)
    judged = points.filter(pl.col("limit_version").is_not_null())
    days = max(_days(points), 1)
    panels = _per_panel(judged, violations)
    rates = _with_panels(charts, panels)
    budget = rates.with_columns(
        points_per_day=pl.col("points") / days,
        expected_false_alarms_per_day=pl.col("expected") / days,
        observed_signals_per_day=pl.col("observed") / days,
    )
    adjusted, kept = false_discovery(_p_values(budget), q)
    budget = budget.with_columns(
        p_value_adjusted=pl.Series(adjusted, nan_to_null=True), is_discovery=pl.Series(kept, dtype=pl.Boolean)
    ).join(rank_by_shift(points).drop("rank", "since"), on=CHART, how="left", maintain_order="left")
    order = [pl.col("is_discovery"), pl.col("shift_sigma").abs().fill_null(-1.0), *(pl.col(name) for name in CHART)]
    ranked = budget.sort(order, descending=[True, True, False, False])
    return SPC_ALARM_BUDGET.conform(ranked.with_columns(rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int64)))


@lru_cache(maxsize=1024)
def _cached_rules(rules: tuple[Rule, ...], k: float) -> tuple[float, float, str]:
    if is_exact(rules):
        return average_run_length(rules, width=k), 0.0, "exact"
    mean, error = simulated_run_length(rules, REPLICATIONS, SEED, width=k)
    return mean, error, "simulated"


@lru_cache(maxsize=1024)
def _cached_moving_average(span: int, k: float) -> tuple[float, float]:
    return moving_average_run_length(span, k, 0.0, REPLICATIONS, SEED)


def _run_length(
    sets: Sets,
    chart: str,
    rule_set: str,
    k: float,
    weight: float,
    span: float,
    reference: float,
    decision: float,
    head_start: float,
) -> tuple[float, float, str]:
    """In-control run length of a chart's location, its standard error, and the method."""
    if chart not in CHARTS or rule_set not in sets or not k > 0:
        raise ContractError(
            f"no alarm budget for chart {chart!r} with rule set {rule_set!r} and k {k:g}; known charts: {', '.join(CHARTS)}; "
            f"known rule sets: {', '.join(sets)}; k lies above 0",
            code="SPC-319",
        )
    if chart == "ewma":
        return ewma_run_length(weight, k), 0.0, "exact"
    if chart == "cusum":
        return cusum_run_length(reference, decision, 0.0, head_start), 0.0, "exact"
    if chart == "moving_average":
        return *_cached_moving_average(int(span), k), "simulated"
    panel = CHARTS[chart].panels[0]
    rules, _ = allowed(sets[rule_set], panel.tests)
    if not rules:
        raise ContractError(
            f"chart {chart!r} takes none of the rules of {rule_set!r}; it takes the tests {', '.join(panel.tests)}",
            code="SPC-319",
        )
    mean, error, method = _cached_rules(rules, k)
    return mean, error, "approximate" if CHARTS[chart].data != "values" else method


def _declared(site: Site) -> pl.DataFrame:
    """The site's charts with their rules' cost on the location panel."""
    characteristics = site["characteristics"]
    kept = [*CHART, "chart", "rule_set", *(name for name in DEFAULTS if name in characteristics.columns)]
    sets = RULE_SETS | (custom_rules(site["rules"]) if "rules" in site.tables else {})
    charts = characteristics.select(kept).sort(CHART).with_columns(k=pl.lit(site.policies.baseline.k))
    return false_alarm_rates(charts, sets)


def _days(points: pl.DataFrame) -> int:
    """Production dates from the first to the last of the points."""
    if points.is_empty():
        return 0
    first, last = points.select(first=pl.col("production_date").min(), last=pl.col("production_date").max()).row(0)
    return int((last - first).days) + 1


def _per_panel(judged: pl.DataFrame, violations: pl.DataFrame) -> pl.DataFrame:
    """Points, alarms, usual n, centre and largest |z| of each panel of each chart."""
    flagged = violations.select("subgroup_id", "panel").unique().with_columns(flagged=pl.lit(value=True))
    rows = judged.join(flagged, on=["subgroup_id", "panel"], how="left").sort(*CHART, "panel", "subgroup_at", "subgroup_id")
    now = pl.col("flagged").fill_null(value=False)
    before = now.shift(fill_value=False).over([*CHART, "panel"])
    return rows.group_by(*CHART, "panel", maintain_order=True).agg(
        statistic=pl.col("statistic").last(),
        points=pl.len(),
        alarms=(now & ~before).sum(),
        n=pl.col("n_observed").median().round(),
        centre=pl.col("cl").last(),
        largest=pl.col("z").abs().max(),
    )


def _with_panels(charts: pl.DataFrame, panels: pl.DataFrame) -> pl.DataFrame:
    """Charts with points, expected and observed alarms over their panels, and arl0 over all panels."""
    k = charts.select(*CHART, "chart", "k", location_rate="false_alarm_rate")
    rows = panels.join(k, on=CHART, how="inner", maintain_order="left")
    # a CUSUM's run length is that of both sides, so its lower panel adds nothing; limits of spreads stand for themselves
    is_main = pl.col("panel").is_in(["location", "upper"])
    limit_rate = pl.Series("limit_rate", _limit_rates(rows), nan_to_null=True)
    nominal = pl.Series("nominal", limit_alarm_rate("x", 1, rows["k"].to_numpy()) if rows.height else [], dtype=pl.Float64)
    # Laney's limits are as wide as the counts vary, so the law of a count does not give their rate
    is_count = pl.col("statistic").is_in(_COUNTS) & ~pl.col("chart").str.starts_with("laney")
    rate = (
        pl.when(is_main & is_count)
        # run rules by normal theory, the limits by the law of the count
        .then((pl.col("location_rate") - pl.col("nominal")).clip(lower_bound=0.0) + pl.col("limit_rate"))
        .when(is_main)
        .then("location_rate")
        .when(pl.col("panel") == "lower")
        .then(0.0)
        .otherwise("limit_rate")
    )
    summed = (
        rows.with_columns(limit_rate, nominal)
        .with_columns(rate=rate)
        .group_by(CHART)
        .agg(
            points=pl.col("points").filter(is_main).sum(),
            expected=(pl.col("points") * pl.col("rate")).sum(),
            observed=pl.col("alarms").sum(),
            rate=pl.col("rate").sum(),
            largest=pl.col("largest").filter(is_main & pl.col("statistic").is_in(_PLOTS_VALUES)).max(),
        )
    )
    joined = charts.join(summed, on=CHART, how="left", maintain_order="left").with_columns(
        pl.col("points", "expected", "observed").fill_null(0)
    )
    # an error of the run length carries over to the rate of all panels
    total = pl.coalesce(pl.when(pl.col("rate") > 0).then("rate"), "false_alarm_rate")
    return joined.with_columns(
        arl0=1.0 / total,
        standard_error=pl.col("standard_error") * (pl.col("false_alarm_rate") / total) ** 2,
    )


def _limit_rates(rows: pl.DataFrame) -> Floats:
    """Exact rate of the limits of each panel at its usual n; NaN for statistics whose rate the rules give."""
    rates = np.full(rows.height, np.nan)
    statistic = rows["statistic"].to_numpy()
    n, k, centre = (rows[name].cast(pl.Float64).to_numpy() for name in ("n", "k", "centre"))
    for name in sorted(set(statistic.tolist()) & {"r", "s", "mr", "median", *NORMAL, *_COUNTS}):
        at = np.flatnonzero(statistic == name)
        # the centre of np is n p
        mean = centre[at] / n[at] if name == "np" else centre[at]
        rates[at] = limit_alarm_rate(name, n[at], k[at], mean)
    return rates


def _p_values(charts: pl.DataFrame) -> Floats:
    points, expected, observed = (charts[name].cast(pl.Float64).to_numpy() for name in ("points", "expected", "observed"))
    largest = charts["largest"].cast(pl.Float64).to_numpy()
    many = poisson.sf(observed - 1.0, expected)
    # 1 - (1 - p)^N without the digits that a small p would lose
    large = -np.expm1(points * np.log1p(-np.minimum(p_of_z(largest), 1.0 - 1e-16)))
    both = np.where(np.isnan(large), many, np.minimum(2.0 * np.fmin(many, large), 1.0))
    return np.where(points > 0, both, np.nan)

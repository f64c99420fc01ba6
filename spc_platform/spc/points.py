"""Points of control charts, each judged by the limit version in force at its time, and the rules they trigger."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import numpy as np
import polars as pl

from spc_platform.contracts.charts import TIME_WEIGHTED
from spc_platform.contracts.spc import SPC_POINTS, SPC_VIOLATIONS
from spc_platform.site.model import Site
from spc_platform.spc.charting import MOVING_RANGE_SPAN, chart_points, chart_signals, window_members
from spc_platform.spc.rule_sets import RULE_SETS, Rule, custom_rules
from spc_platform.spc.sequence import CHART, chart_order, first_of_segment

_SEGMENT = ["chart_index", "limit_version", "specification_version", "restart"]


def judge(
    subgroups: pl.DataFrame, limits: pl.DataFrame, site: Site, production_date: date, since: date | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Points and violations of one production date, or of all from ``since`` to it: (SPC_POINTS, SPC_VIOLATIONS).

    ``subgroups``: SPC_SUBGROUPS (and counted ones, see ``spc.counts.samples``) of the date and of the
    ``policies.carry_days`` before it, at least 15 points of each chart where they exist: run windows and moving ranges
    reach back into them. Windows never cross a change of limit version or specification version, nor a gap above
    ``policies.rule_reset_gap_h``; EWMA, CUSUM and moving averages start anew every ``policies.carry_days`` production dates,
    so that a date can be judged from its window alone. A masked value is judged like any other. Points without a version
    in force have null limits and trigger nothing. Which tests act on which panel: ``contracts.charts``.
    """
    ordered = chart_order(subgroups.filter(pl.col("production_date") <= production_date), site)
    if ordered.is_empty():
        return SPC_POINTS.empty(), SPC_VIOLATIONS.empty()
    judged = _in_force(ordered, limits).with_columns(restart=_restart(site))
    judged = judged.with_columns(_masked_within=_masked_within(judged))
    is_first = first_of_segment(judged, _SEGMENT, site.policies.rule_reset_gap_h)
    points = chart_points(judged.with_columns(segment=pl.Series(is_first).cum_sum().cast(pl.Int64)))
    points = points.with_columns(
        n_masked=pl.when(pl.col("statistic") == "mr").then("_masked_within").otherwise("n_masked"),
        is_baseline=pl.col("subgroup_at").is_between("baseline_from", "baseline_to").fill_null(value=False),
    )
    points = points.with_columns(is_reported=pl.col("production_date") >= (since or production_date))
    violations = _violations(points, site_rule_sets(site))
    points = points.filter("is_reported")
    triggered = violations.group_by("subgroup_id", "panel", maintain_order=True).agg(rules=pl.col("rule").str.join(";"))
    points = points.join(triggered, on=["subgroup_id", "panel"], how="left")
    return SPC_POINTS.conform(points), SPC_VIOLATIONS.conform(violations)


def _restart(site: Site) -> pl.Expr:
    """Number of the period in which a chart with a memory runs on; constant for the others."""
    day = (pl.col("production_date") - pl.lit(site.first_production_date)).dt.total_days()
    return pl.when(pl.col("chart").is_in(list(TIME_WEIGHTED))).then(day.floordiv(site.policies.carry_days))


def site_rule_sets(site: Site) -> dict[str, tuple[Rule, ...]]:
    """The published rule sets and the site's own."""
    return RULE_SETS | custom_rules(site["rules"])


def _in_force(ordered: pl.DataFrame, limits: pl.DataFrame) -> pl.DataFrame:
    """Each subgroup with the limit version in force at its time; null columns when none was.

    A version of another kind of chart is not in force: its centre and sigma mean something else.
    """
    version = ["limit_version", "mu", "sigma", "sigma_means", "k", "baseline_from", "baseline_to", "effective_to"]
    # both sides are sorted by time within a chart, which polars cannot verify for a grouped join
    joined = ordered.join_asof(
        limits.select(*CHART, "chart", "effective_from", *version).sort(*CHART, "effective_from"),
        left_on="subgroup_at",
        right_on="effective_from",
        by=[*CHART, "chart"],
        strategy="backward",
        check_sortedness=False,
    )
    ended = (pl.col("subgroup_at") >= pl.col("effective_to")).fill_null(value=False)
    return joined.with_columns(pl.when(~ended).then(pl.col(name)).alias(name) for name in version)


def _masked_within(judged: pl.DataFrame) -> pl.Series:
    """Masked values among the last ``span`` samples, on which a moving range that ends at the row rests."""
    total = np.concatenate(([0], np.cumsum(judged["n_masked"].to_numpy())))
    after = np.arange(1, judged.height + 1)
    span = judged["span"].fill_null(MOVING_RANGE_SPAN).to_numpy()
    return pl.Series(total[after] - total[np.maximum(after - span, 0)])


def _violations(points: pl.DataFrame, rule_sets: Mapping[str, tuple[Rule, ...]]) -> pl.DataFrame:
    """Violations of the points that are reported, rules in the order of their set."""
    signals = chart_signals(points, rule_sets)
    signals = signals.filter(points["is_reported"][signals["point"]])
    kept = ["subgroup_id", "subgroup_at", "panel", "z", "limit_version", "production_date"]
    flagged = points.select(*CHART, *kept)[signals["point"]]
    windows = window_members(signals, points["subgroup_id"]).list.join(";")
    named = signals.select("rule_set", "rule", "rule_text", "side")
    return pl.concat([flagged, named], how="horizontal").with_columns(window_subgroup_ids=windows)

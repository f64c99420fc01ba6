"""Points of control charts, each judged by the limit version in force at its time, and the rules they trigger."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl

from spc_platform.contracts.spc import SPC_POINTS, SPC_VIOLATIONS
from spc_platform.site.model import Site
from spc_platform.spc.limits import control_limits
from spc_platform.spc.rules import RULE_SETS, SIDES, Rule, Signals, evaluate
from spc_platform.spc.sequence import CHART, chart_order, first_of_segment
from spc_platform.spc.sigma import moving_range

LOCATION = {"xbar_r": "xbar", "xbar_s": "xbar", "i_mr": "x"}
DISPERSION = {"xbar_r": "r", "xbar_s": "s", "i_mr": "mr"}
"""Statistic of each panel by kind of chart."""

_COLUMN = {"xbar": "mean", "x": "mean", "r": "range", "s": "s", "mr": "moving_range"}
_SEGMENT = ["chart_index", "limit_version", "specification_version"]


def judge(
    subgroups: pl.DataFrame, limits: pl.DataFrame, site: Site, production_date: date
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Points and violations of one production date: (SPC_POINTS, SPC_VIOLATIONS).

    ``subgroups``: SPC_SUBGROUPS of the date and of the ``policies.carry_days`` before it, at least 15 points of each
    chart where they exist: run windows and moving ranges reach back into them. Windows never cross a change of limit
    version or specification version, nor a gap above ``policies.rule_reset_gap_h``. A masked value is judged like any
    other. Points without a version in force have null limits and trigger nothing. Run rules act on the location panel;
    a dispersion panel knows the limits only, because successive ranges of one chart are not normal.
    """
    ordered = chart_order(subgroups.filter(pl.col("production_date") <= production_date), site)
    if ordered.is_empty():
        return SPC_POINTS.empty(), SPC_VIOLATIONS.empty()
    judged = _in_force(ordered, limits)
    is_first = first_of_segment(judged, _SEGMENT, site.policies.rule_reset_gap_h)
    judged = judged.with_columns(segment=pl.Series(is_first).cum_sum(), moving_range=moving_range(judged, is_first))
    location = _panel(judged, "location", LOCATION)
    dispersion = _panel(judged, "dispersion", DISPERSION)
    violations = pl.concat(
        [_violations(location, production_date, run_rules=True), _violations(dispersion, production_date, run_rules=False)]
    )
    points = pl.concat([location, dispersion]).filter(pl.col("production_date") == production_date)
    triggered = violations.group_by("subgroup_id", "panel", maintain_order=True).agg(rules=pl.col("rule").str.join(";"))
    points = points.join(triggered, on=["subgroup_id", "panel"], how="left")
    return SPC_POINTS.conform(points), SPC_VIOLATIONS.conform(violations)


def _in_force(ordered: pl.DataFrame, limits: pl.DataFrame) -> pl.DataFrame:
    """Each subgroup with the limit version in force at its time; null columns when none was."""
    version = ["limit_version", "mu", "sigma", "k", "baseline_from", "baseline_to", "effective_to"]
    # both sides are sorted by time within a chart, which polars cannot verify for a grouped join
    joined = ordered.join_asof(
        limits.select(*CHART, "effective_from", *version).sort(*CHART, "effective_from"),
        left_on="subgroup_at",
        right_on="effective_from",
        by=CHART,
        strategy="backward",
        check_sortedness=False,
    )
    ended = (pl.col("subgroup_at") >= pl.col("effective_to")).fill_null(value=False)
    return joined.with_columns(pl.when(~ended).then(pl.col(name)).alias(name) for name in version)


def _panel(judged: pl.DataFrame, panel: str, statistics: dict[str, str]) -> pl.DataFrame:
    """Rows of one panel with value, limits and z, in chart and time order; rows without a value are left out."""
    rows = judged.with_columns(
        panel=pl.lit(panel),
        statistic=pl.col("chart").replace_strict(statistics, return_dtype=pl.String),
    )
    value = pl.coalesce(
        pl.when(pl.col("statistic") == statistic).then(_COLUMN[statistic]) for statistic in sorted(set(statistics.values()))
    )
    rows = rows.with_columns(value=value)
    if panel == "dispersion":
        # a moving range rests on two values, its own and the one before
        pair = pl.col("statistic") == "mr"
        rows = rows.with_columns(
            n_observed=pl.when(pair).then(2).otherwise("n_observed"),
            n_masked=pl.when(pair).then(pl.col("n_masked") + pl.col("n_masked").shift(fill_value=0)).otherwise("n_masked"),
        )
    rows = rows.filter(pl.col("value").is_not_null())
    derived = {
        statistic: control_limits(statistic, pl.col("n_observed"), pl.col("mu"), pl.col("sigma"), pl.col("k"))
        for statistic in sorted(set(statistics.values()))
    }
    rows = rows.with_columns(
        pl.coalesce(pl.when(pl.col("statistic") == name).then(getattr(limit, column)) for name, limit in derived.items()).alias(
            column
        )
        for column in ("cl", "lcl", "ucl", "standard_error")
    )
    in_baseline = pl.col("subgroup_at").is_between("baseline_from", "baseline_to").fill_null(value=False)
    z = pl.when(pl.col("standard_error") > 0).then((pl.col("value") - pl.col("cl")) / pl.col("standard_error"))
    return rows.with_columns(z=z, is_baseline=in_baseline)


def _violations(panel: pl.DataFrame, production_date: date, *, run_rules: bool) -> pl.DataFrame:
    """Violations of one panel that are flagged on the production date, rules in the order of their set."""
    frames = [
        _of_rule_set(panel, name, rules if run_rules else rules[:1], production_date) for name, rules in RULE_SETS.items()
    ]
    return pl.concat(frames)


def _of_rule_set(panel: pl.DataFrame, rule_set: str, rules: tuple[Rule, ...], production_date: date) -> pl.DataFrame:
    rows = panel.filter((pl.col("rule_set") == rule_set) & pl.col("z").is_not_null())
    is_first = rows["segment"].diff().fill_null(1).to_numpy() != 0
    signals = evaluate(rows["z"].to_numpy(), is_first, rules, rows["k"].to_numpy())
    today = (rows["production_date"] == production_date).to_numpy()[signals.point]
    signals = Signals(signals.point[today], signals.window_first[today], signals.rule[today], signals.side[today])
    named = {
        "rule_set": pl.repeat(rule_set, len(signals.point), eager=True, dtype=pl.String),
        "rule": pl.Series([rule.name for rule in rules], dtype=pl.String)[signals.rule],
        "rule_text": pl.Series([rule.text for rule in rules], dtype=pl.String)[signals.rule],
        "side": pl.Series(SIDES)[signals.side],
        "window_subgroup_ids": _windows(rows["subgroup_id"], signals),
    }
    kept = ["subgroup_id", "subgroup_at", "panel", "z", "limit_version", "production_date"]
    return rows.select(*CHART, *kept)[signals.point].with_columns(**named)


def _windows(subgroup_id: pl.Series, signals: Signals) -> pl.Series:
    """Ids of each signal's window in time order, joined by ``;``."""
    length = signals.point - signals.window_first + 1
    signal = np.repeat(np.arange(len(length)), length)
    within = np.arange(len(signal)) - np.repeat(np.cumsum(length) - length, length)
    members = pl.DataFrame({"signal": signal, "id": subgroup_id[np.repeat(signals.window_first, length) + within]})
    return members.group_by("signal", maintain_order=True).agg(pl.col("id").str.join(";"))["id"]

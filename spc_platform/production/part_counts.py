"""Part counters of machines to production counts, and which count is in force where the MES counts too.

A part counts when its reading is read: what rose across a pause counts at the reading that ends the pause, marked
``across_gap``. Whose count is in force is the site's word (``part_counters.in_force``); the other is kept beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import reduce

import polars as pl

from spc_platform.contracts.part_counts import COUNT_COMPARISON, PART_COUNT, PART_COUNTER_DELTA
from spc_platform.contracts.table import UTC
from spc_platform.production.calendar import assign_shift, shift_calendar
from spc_platform.production.counters import counter_deltas
from spc_platform.site.model import Site

SOURCE = "part_counters"
REFUSED = ("jump", "impossible", "backward")
"""Rules of readings that count nothing because they cannot be right."""

_TICK = pl.duration(microseconds=1)
_INSTANT = "%Y-%m-%dT%H:%M:%S%.6fZ"
_SHIFT = ["equipment_id", "_day", "_shift"]
_TOLD = ["good_quantity", "scrap_quantity", "rework_quantity"]


@dataclass(frozen=True)
class PartCounts:
    """Of one production date: counts of all sources, deltas of the counters, the comparison per shift."""

    counts: pl.DataFrame
    deltas: pl.DataFrame
    comparison: pl.DataFrame


def part_counts(
    production_count: pl.DataFrame,
    telemetry: pl.DataFrame,
    intervals: pl.DataFrame,
    site: Site,
    production_date: date,
    as_of: datetime,
) -> PartCounts:
    """Count the parts of a production date by MES and counters: PART_COUNT, PART_COUNTER_DELTA, COUNT_COMPARISON.

    ``production_count`` holds the core rows of the date and of those beside it, ``telemetry`` the readings of the site's
    part counters (stream_id, observed_at, value) of ``state_carry_days`` dates before the date until the one after it,
    ``intervals`` the STATE_INTERVAL rows of the date and the one before, which name the product then in force. A counter
    that was silent for longer than that begins anew (``first``). Readings after ``as_of`` (aware) are left out.

    Good parts are those of a counter of good parts, or all parts less scrap; scrap likewise. A part that is scrapped after
    it was counted lowers the good ones before it in its shift, never below none. What each source counted is compared per
    shift; a count on a border belongs to the shift that ends, as in ``oee_elements``.
    """
    counters = site["part_counters"]
    production_count, telemetry, intervals = (
        frame.cast({pl.Categorical: pl.String}) for frame in (production_count, telemetry, intervals)
    )
    first, last = production_date - timedelta(days=1), production_date + timedelta(days=1)
    calendar = shift_calendar(site, first, last)
    deltas = _deltas(telemetry, counters, site, as_of)
    machine = _quantities(_placed(deltas, "end_at", calendar), intervals, counters)
    told = _placed(production_count, "counted_at", calendar).with_columns(rules=pl.lit(None, pl.String))
    wins = _winners(told, machine, counters)
    counts = pl.concat(
        [
            told.with_columns(count_source=pl.lit("mes")),
            machine.with_columns(count_source=pl.lit("counter")),
        ],
        how="diagonal_relaxed",
    )
    units = pl.col("equipment_id").is_in(counters["equipment_id"].implode())
    counts = counts.join(wins, on=_SHIFT, how="left", nulls_equal=True).with_columns(
        in_force=~units | (pl.col("count_source") == pl.col("_wins")),
        production_date=site.production_date(pl.col("counted_at")),
    )
    today = pl.col("production_date") == production_date
    lines = site.work_centers()
    kept = counts.filter(today).drop("work_center_id", strict=False).join(lines, on="equipment_id", how="left")
    compared = _comparison(told, machine, deltas, wins, counters, calendar).join(lines, on="equipment_id", how="left")
    return PartCounts(
        PART_COUNT.conform(assign_shift(kept, "counted_at", calendar)),
        PART_COUNTER_DELTA.conform(deltas.filter(today)),
        COUNT_COMPARISON.conform(compared.filter(pl.col("_day") == production_date).rename({"_day": "production_date"})),
    )


def with_count_quality(elements: pl.DataFrame, comparison: pl.DataFrame) -> pl.DataFrame:
    """OEE_ELEMENTS with codes of their counts in data_quality: COUNTED_BY_COUNTER, COUNTS_DISAGREE, COUNT_ACROSS_GAP."""
    codes = {
        "COUNTED_BY_COUNTER": pl.col("in_force") == "counter",
        "COUNTS_DISAGREE": ~pl.col("agrees"),
        "COUNT_ACROSS_GAP": (pl.col("across_gap") > 0) & (pl.col("in_force") == "counter"),
    }
    keys = ["equipment_id", "shift_id", "production_date"]
    told = comparison.select(*keys, *(holds.alias(name) for name, holds in codes.items()))
    parts = ["data_quality", *(pl.when(name).then(pl.lit(name)) for name in codes)]
    joined = elements.join(told, on=keys, how="left")
    quality = pl.concat_str(parts, separator=";", ignore_nulls=True)
    return joined.with_columns(data_quality=pl.when(quality != "").then(quality)).select(elements.columns)


def _deltas(telemetry: pl.DataFrame, counters: pl.DataFrame, site: Site, as_of: datetime) -> pl.DataFrame:
    """Rows of PART_COUNTER_DELTA of all dates, for every set of parameters that the site's counters have."""
    read = telemetry.filter(pl.col("observed_at") <= pl.lit(as_of).cast(UTC))
    rules = ["maximum", "shortest_cycle_s", "max_gap_s"]
    found = [PART_COUNTER_DELTA.empty().drop("equipment_id", "counts", "parts", "production_date")]
    for (maximum, cycle, gap), group in counters.group_by(rules, maintain_order=True):
        readings = read.join(group.select("stream_id"), on="stream_id", how="semi")
        deltas = counter_deltas(
            readings.select(pl.col("stream_id").cast(pl.String), "value", at="observed_at"),
            maximum=maximum,
            max_gap_s=gap,
            max_rate=None if cycle is None else 1 / cycle,
            keep_impossible=True,
        )
        found.append(deltas)
    declared = counters.select("stream_id", "equipment_id", "counts", "parts_per_count", "material_definition_id")
    parts = (pl.col("delta") * pl.col("parts_per_count").fill_null(1)).fill_null(0.0).round().cast(pl.Int64)
    return (
        pl.concat(found, how="diagonal_relaxed")
        .join(declared, on="stream_id")
        .with_columns(parts=parts, production_date=site.production_date(pl.col("end_at")))
    )


def _placed(rows: pl.DataFrame, at: str, calendar: pl.DataFrame) -> pl.DataFrame:
    """Rows with ``_day`` and ``_shift`` of the shift that holds the last microsecond before the instant; null outside all."""
    named = calendar.with_columns(shift_id=pl.concat_str("production_date", "shift_id", separator=" "))
    before = rows.select("equipment_id", _at=pl.col(at) - _TICK)
    shift = assign_shift(before, "_at", named)["shift_id"]
    within = rows.with_columns(_instance=shift)
    # The microsecond before a shift's first instant is in none, or in the one that ends: a count there opens the shift.
    opens = assign_shift(rows.select("equipment_id", _at=pl.col(at)), "_at", named)["shift_id"]
    return (
        within.with_columns(_instance=pl.coalesce("_instance", opens))
        .with_columns(
            _day=pl.col("_instance").str.slice(0, 10).str.to_date(strict=False), _shift=pl.col("_instance").str.slice(11)
        )
        .drop("_instance")
    )


def _quantities(deltas: pl.DataFrame, intervals: pl.DataFrame, counters: pl.DataFrame) -> pl.DataFrame:
    """Counts of the counters, one row per work unit and instant at which any of its counters counted."""
    counted = deltas.filter(pl.col("parts") > 0)
    gap = pl.when("across_gap").then(pl.lit(":across_gap")).otherwise(pl.lit(""))
    sums = {
        name: pl.col("parts").filter(pl.col("counts") == name).sum().alias(f"_{name}") for name in ("good", "total", "scrap")
    }
    rows = (
        counted.sort("stream_id", "end_at")
        .group_by(*_SHIFT, "end_at", maintain_order=True)
        .agg(
            *sums.values(),
            rules=pl.concat_str("stream_id", pl.lit(":"), "rule", gap).str.join(";"),
            _default=pl.col("material_definition_id").drop_nulls().first(),
        )
        .sort(*_SHIFT, "end_at")
    )
    has = counters.group_by("equipment_id").agg(_has=pl.col("counts").unique())
    rows = rows.join(has, on="equipment_id", how="left")
    told = pl.col("_has").list
    cumulated = {name: pl.col(f"_{name}").cum_sum().over(_SHIFT, order_by="end_at") for name in sums}
    # What the other counter will have taken away by the end of the shift is none of the parts counted before.
    less = {name: _lasting(cumulated["total"] - cumulated[name]) for name in ("good", "scrap")}
    rows = rows.with_columns(
        good_quantity=pl.when(told.contains("good")).then("_good").otherwise(less["scrap"]),
        scrap_quantity=pl.when(told.contains("scrap"))
        .then("_scrap")
        .when(told.contains("good"))
        .then(less["good"])
        .otherwise(0),
        rework_quantity=pl.lit(0),
    ).filter(pl.sum_horizontal(_TOLD) > 0)
    product = _product(rows.select("equipment_id", "end_at"), intervals)
    return rows.with_columns(
        counted_at="end_at",
        source_id=pl.lit(SOURCE),
        record_id=pl.concat_str("equipment_id", pl.lit("@"), pl.col("end_at").dt.strftime(_INSTANT)),
        material_definition_id=pl.coalesce(product, "_default"),
        job_order_id=pl.lit(None, pl.String),
        reason_code=pl.lit(None, pl.String),
    ).select(
        *_SHIFT,
        "counted_at",
        "source_id",
        "record_id",
        "material_definition_id",
        "job_order_id",
        "reason_code",
        "rules",
        *_TOLD,
    )


def _lasting(cumulated: pl.Expr) -> pl.Expr:
    """Increments of a difference that may fall, as far as it has not fallen again by the end of the shift."""
    kept = pl.max_horizontal(cumulated, pl.lit(0)).cum_min(reverse=True).over(_SHIFT, order_by="end_at")
    return kept - kept.shift(1, fill_value=0).over(_SHIFT, order_by="end_at")


def _product(rows: pl.DataFrame, intervals: pl.DataFrame) -> pl.Series:
    """Product that was being made just before each instant; null without a work order and outside operation time."""
    made = intervals.select("equipment_id", "start_at", "end_at", "material_definition_id")
    found = (
        rows.with_row_index("_row")
        .sort("end_at")
        .join_asof(
            made.rename({"end_at": "_until"}).sort("start_at"),
            left_on="end_at",
            right_on="start_at",
            by="equipment_id",
            strategy="backward",
            allow_exact_matches=False,
            check_sortedness=False,
        )
        .sort("_row")
    )
    held = pl.when(pl.col("_until") >= pl.col("end_at")).then("material_definition_id")
    return found.select(held.alias("material_definition_id")).to_series()


def _winners(told: pl.DataFrame, machine: pl.DataFrame, counters: pl.DataFrame) -> pl.DataFrame:
    """Whose count is in force in each shift of a work unit with counters: ``_wins``."""
    shifts = pl.concat([frame.select(_SHIFT) for frame in (told, machine)])
    spoke = told.select(*_SHIFT, _told=pl.lit(value=True)).unique()
    declared = counters.group_by("equipment_id").agg(_rule=pl.col("in_force").first())
    mes = (pl.col("_rule") == "mes") | ((pl.col("_rule") == "mes_else_counter") & pl.col("_told").fill_null(value=False))
    return (
        shifts.unique()
        .join(declared, on="equipment_id")
        .join(spoke, on=_SHIFT, how="left", nulls_equal=True)
        .select(*_SHIFT, _wins=pl.when(mes).then(pl.lit("mes")).otherwise(pl.lit("counter")))
    )


def _comparison(
    told: pl.DataFrame,
    machine: pl.DataFrame,
    deltas: pl.DataFrame,
    wins: pl.DataFrame,
    counters: pl.DataFrame,
    calendar: pl.DataFrame,
) -> pl.DataFrame:
    """One row per work unit with counters and shift in which either source said anything."""
    by_mes, by_counter = (
        frame.join(counters.select("equipment_id").unique(), on="equipment_id", how="semi")
        .group_by(_SHIFT)
        .agg(pl.col(f"{name}_quantity").sum().alias(f"{source}_{name}") for name in names)
        for source, frame, names in (("mes", told, ("good", "scrap", "rework")), ("counter", machine, ("good", "scrap")))
    )
    readings = (
        _placed(deltas, "end_at", calendar)
        .group_by(_SHIFT)
        .agg(
            across_gap=pl.col("parts").filter("across_gap").sum(),
            refused=pl.col("rule").is_in(list(REFUSED)).sum().cast(pl.Int64),
        )
    )
    whole = reduce(lambda left, right: left.join(right, on=_SHIFT, how="full", coalesce=True), [by_mes, by_counter, readings])
    quantities = [name for name in whole.columns if name not in _SHIFT]
    produced = {source: pl.sum_horizontal(pl.col(f"^{source}_.*$").exclude(_SHIFT)) for source in ("mes", "counter")}
    counting = told.select("equipment_id").unique().with_columns(_both=pl.lit(value=True))
    declared = counters.group_by("equipment_id").agg(_rule=pl.col("in_force").first())
    return (
        whole.filter(pl.col("_shift").is_not_null())
        .with_columns(pl.col(quantities).fill_null(0))
        .join(declared, on="equipment_id")
        .join(wins, on=_SHIFT, how="left")
        .join(counting, on="equipment_id", how="left")
        .with_columns(difference=produced["counter"] - produced["mes"])
        .with_columns(
            agrees=(pl.col("difference") == 0) | pl.col("_both").is_null(),
            in_force=pl.coalesce("_wins", pl.when(pl.col("_rule") == "mes").then(pl.lit("mes")).otherwise(pl.lit("counter"))),
            shift_id="_shift",
        )
    )

"""Rules that the tables of a site folder obey, alone and among each other, and a summary for ``spc doctor``.

Each rule is rows that break it, what is wrong with such a row, and what to do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import time

import polars as pl

from spc_platform.contracts.charts import CHARTS, Chart
from spc_platform.contracts.site import EQUIPMENT_LEVELS, SITE_TABLES
from spc_platform.errors import ContractError, SiteError
from spc_platform.production.signals import check_state_rules
from spc_platform.site.files import LINE, Problems
from spc_platform.site.model import Site
from spc_platform.spc.rule_sets import RULE_SETS, custom_rules

LARGEST_RANGE_SUBGROUP = 25
"""The range of more than 25 values wastes most of them: a site's R panel takes no more."""
CHART_SUBGROUPINGS = {"values": ("consecutive", "key"), "counts": ("shift",), "events": ("event",)}
"""How a site's samples come to be, by kind of data; charts of single values take individual."""
FILE_ONLY = ("z_mr",)
"""Charts of several parts on one chart: a site has one chart per characteristic, so they are made from files only."""
ANY_WORK_CENTER = "*"
DAY_MIN = 24 * 60

_CLOCK = r"^([01]\d|2[0-3]):[0-5]\d$"
_REMEDIES = {
    "MISSING": "fill it in",
    "NOT_FINITE": "write a finite number or leave it empty where that is allowed",
    "BELOW": "raise it",
    "NOT_ABOVE": "raise it",
    "ABOVE": "lower it",
}

_FOREVER = pl.lit("9999-12-31").str.to_datetime("%Y-%m-%d", time_unit="us", time_zone="UTC")
_EVER = pl.lit("0001-01-01").str.to_datetime("%Y-%m-%d", time_unit="us", time_zone="UTC")


@dataclass(frozen=True, slots=True)
class _Tables:
    """The frames under check; each carries LINE."""

    frames: Mapping[str, pl.DataFrame]
    problems: Problems

    def __getitem__(self, name: str) -> pl.DataFrame:
        return self.frames[name]

    def refuse(self, name: str, bad: pl.Expr, wrong: pl.Expr, remedy: str) -> None:
        """Every row of table ``name`` for which ``bad`` holds is a problem."""
        rows = self.frames[name].filter(bad.fill_null(value=False))
        self.problems.add_rows(f"{name}.csv", rows, wrong, remedy)

    def refuse_rows(self, name: str, rows: pl.DataFrame, wrong: pl.Expr, remedy: str) -> None:
        self.problems.add_rows(f"{name}.csv", rows, wrong, remedy)

    def refer(self, name: str, column: str, known: pl.Series, what: str, remedy: str) -> None:
        """Every filled value of ``column`` must be among ``known``."""
        unknown = pl.col(column).is_not_null() & ~pl.col(column).is_in(known.drop_nulls().implode())
        self.refuse(name, unknown, pl.format('{} "{}" is not {}', pl.lit(column), pl.col(column), pl.lit(what)), remedy)


def check_tables(frames: Mapping[str, pl.DataFrame], day_start: time | None, problems: Problems) -> None:
    """Add a problem for every row of the site tables that breaks a rule. Frames carry the column LINE."""
    tables = _Tables(frames, problems)
    for name in SITE_TABLES:
        _check_contract(tables, name)
    _check_equipment(tables)
    _check_rules(tables)
    _check_characteristics(tables)
    _check_multivariate(tables)
    _check_specifications(tables)
    _check_streams(tables)
    _check_products(tables)
    _check_routings(tables)
    _check_states(tables)
    _check_state_rules(tables)
    _check_calendar(tables)
    _check_shifts(tables, day_start)
    _check_breaks(tables)


def _check_contract(tables: _Tables, name: str) -> None:
    table = SITE_TABLES[name]
    reasons = table.with_reasons(tables[name]).filter(pl.col("reasons").is_not_null())
    broken = reasons.with_columns(_reason=pl.col("reasons").str.split(";")).explode("_reason")
    broken = broken.with_columns(pl.col("_reason").str.split_exact(":", 1).struct.rename_fields(["_column", "_rule"]))
    for (column, rule), rows in broken.unnest("_reason").group_by("_column", "_rule", maintain_order=True):
        unread = [line for file, cell, line in tables.problems.unread if file == f"{name}.csv" and cell == column]
        rows = rows.filter(~pl.col(LINE).is_in(unread))
        allowed = table.by_name[str(column)].isin
        remedy = f"use one of {', '.join(allowed)}" if allowed and rule == "NOT_ALLOWED" else _remedy(str(rule))
        words = "is empty" if rule == "MISSING" else f"is {str(rule).replace('_', ' ').lower()}"
        value = pl.col(str(column)).cast(pl.String).fill_null("")
        tables.refuse_rows(name, rows, pl.format('{} "{}" {}', pl.lit(column), value, pl.lit(words)), remedy)
    twice = pl.struct(table.key).is_duplicated() & ~pl.struct(table.key).is_first_distinct()
    key = pl.concat_str([pl.col(column).cast(pl.String) for column in table.key], separator=", ", ignore_nulls=True)
    tables.refuse(
        name, twice, pl.format("{} {} stands twice", pl.lit(" + ".join(table.key)), key), "remove or rename one of the rows"
    )


def _remedy(rule: str) -> str:
    return next(remedy for start, remedy in _REMEDIES.items() if rule.startswith(start))


def _check_equipment(tables: _Tables) -> None:
    equipment = tables["equipment"]
    remedy = "name an equipment_id of equipment.csv"
    tables.refer("equipment", "parent_equipment_id", equipment["equipment_id"], "in equipment.csv", remedy)
    depth = pl.col("equipment_level").replace_strict(list(EQUIPMENT_LEVELS), range(len(EQUIPMENT_LEVELS)), default=None)
    is_site = pl.col("equipment_level") == "site"
    orphan = ~is_site & pl.col("parent_equipment_id").is_null()
    tables.refuse(
        "equipment", orphan, pl.format("{} has no parent_equipment_id", "equipment_id"), "name the equipment it belongs to"
    )
    rooted = is_site & pl.col("parent_equipment_id").is_not_null()
    tables.refuse("equipment", rooted, pl.format("site {} has a parent", "equipment_id"), "leave parent_equipment_id empty")
    parents = equipment.unique("equipment_id", keep="first").select(
        parent_equipment_id="equipment_id", parent_level="equipment_level", parent_depth=depth
    )
    joined = equipment.with_columns(depth=depth).join(parents, on="parent_equipment_id")
    level = pl.col("equipment_level")
    fits = (
        pl.when(level == "work_unit")
        .then(pl.col("parent_level") == "work_center")
        .otherwise(pl.col("parent_depth") < pl.col("depth"))
    )
    wrong = pl.format("{} {} has a parent of level {}", "equipment_level", "equipment_id", "parent_level")
    remedy = "a work_unit belongs to a work_center, a work_center to an area or site, an area to a site"
    tables.refuse_rows("equipment", joined.filter(~fits), wrong, remedy)
    if equipment.height and equipment.filter(is_site).is_empty():
        tables.problems.add("equipment.csv", 0, "has no row of level site", "add one")


def _work_units(tables: _Tables) -> pl.Series:
    return tables["equipment"].filter(pl.col("equipment_level") == "work_unit")["equipment_id"]


def _check_work_unit(tables: _Tables, name: str) -> None:
    remedy = "name an equipment_id of level work_unit"
    tables.refer(name, "equipment_id", _work_units(tables), "a work_unit of equipment.csv", remedy)


def _check_rules(tables: _Tables) -> None:
    """A site's own run rules: each must be a rule, its set's name must be free, and a date must be judged from its window."""
    wrong = pl.format('reset "signal" of rule {} reaches back without end', "rule")
    remedy = "leave reset empty: a plant is judged date by date (files may use it: `spc analyze`)"
    tables.refuse("rules", pl.col("reset") == "signal", wrong, remedy)
    try:
        custom_rules(tables["rules"])
    except ContractError as error:
        for problem in error.args[0].partition("] ")[2].split("; rules row "):
            tables.problems.add("rules.csv", 0, f"row {problem.removeprefix('rules row ')}", "correct the row")


def _check_characteristics(tables: _Tables) -> None:
    name = "characteristics"
    _check_work_unit(tables, name)
    known = sorted({*RULE_SETS, *tables["rules"]["rule_set"].drop_nulls()})
    tables.refer(name, "rule_set", pl.Series(known, dtype=pl.String), "a rule set", f"use one of {', '.join(known)}")
    _check_charts(tables)
    half = pl.col("hampel_window").is_null() != pl.col("hampel_multiplier").is_null()
    wrong = pl.lit("only one of hampel_window and hampel_multiplier is given")
    tables.refuse(name, half, wrong, "give both, or none for no Hampel mask")
    wrong = pl.format("hampel_window {} is even", "hampel_window")
    tables.refuse(name, pl.col("hampel_window") % 2 == 0, wrong, "use an odd number, so that the window has a middle")
    _check_sensor(tables, name)
    units = tables[name].filter(pl.col("unit").n_unique().over("characteristic_id") > 1)
    wrong = pl.format("{} has several units, here {}", "characteristic_id", "unit")
    tables.refuse_rows(name, units, wrong, "use one unit on all work units")


def _check_charts(tables: _Tables) -> None:
    """Estimator, subgrouping, size and counted parts must fit the kind of chart."""
    name, chart, size = "characteristics", pl.col("chart"), pl.col("subgroup_size")
    for kind in CHARTS.values():
        bad = (chart == kind.name) & ~pl.col("estimator").is_in(list(kind.estimators))
        wrong = pl.format("estimator {} does not fit chart {}", "estimator", "chart")
        tables.refuse(name, bad, wrong, f"use one of {', '.join(kind.estimators)}")
        low, high = kind.sizes
        if kind.data == "values" and any(panel.statistic == "r" for panel in kind.panels):
            high = LARGEST_RANGE_SUBGROUP
        bad = (chart == kind.name) & ~size.is_between(low, high if high is not None else 2**31)
        wrong = pl.format("subgroup_size {} does not fit chart {}", "subgroup_size", "chart")
        tables.refuse(name, bad, wrong, f"use {low} to {high}" if high else f"use {low} or more")
        allowed = _subgroupings(kind)
        bad = (chart == kind.name) & ~pl.col("subgrouping").is_in(list(allowed))
        wrong = pl.format("subgrouping {} does not fit chart {}", "subgrouping", "chart")
        tables.refuse(name, bad, wrong, f"use one of {', '.join(allowed)}")
        needs = kind.data in ("counts", "events")
        is_counted = pl.col("counted").is_not_null() & (pl.col("counted") != "energy")
        bad = (chart == kind.name) & ((is_counted != needs) | (needs & (pl.col("counted") == "energy").fill_null(value=False)))
        wrong = pl.format("counted {} does not fit chart {}", pl.col("counted").fill_null("(empty)"), "chart")
        tables.refuse(name, bad, wrong, "name what is counted" if needs else "leave it empty: the chart takes measured values")
    elsewhere = [*FILE_ONLY, *(kind.name for kind in CHARTS.values() if kind.data == "vectors")]
    wrong = pl.format("chart {} is no chart of one characteristic", "chart")
    remedy = "put T² and MEWMA charts into multivariate.csv; make Z-MR charts from files with `spc analyze`"
    tables.refuse(name, chart.is_in(elsewhere), wrong, remedy)
    is_energy = pl.col("counted") == "energy"
    wrong = pl.format("energy with subgrouping {} in unit {}", "subgrouping", "unit")
    remedy = "a shift has one value of kWh per good part: use subgrouping individual and unit kW.h"
    tables.refuse(name, is_energy & ((pl.col("subgrouping") != "individual") | (pl.col("unit") != "kW.h")), wrong, remedy)
    single = (size == 1) & (pl.col("subgrouping") != "individual") & (pl.col("counted").is_null())
    tables.refuse(name, single, pl.lit("subgroup_size 1 is no subgroup"), "use subgrouping individual")
    single = (size > 1) & (pl.col("subgrouping") == "individual")
    tables.refuse(name, single, pl.format("subgroup_size {} with subgrouping individual", "subgroup_size"), "use 1")


def _subgroupings(kind: Chart) -> tuple[str, ...]:
    if kind.data == "values" and kind.sizes == (1, 1):
        return ("individual",)
    either = ("individual",) if kind.data == "values" and kind.sizes[0] == 1 else ()
    return (*CHART_SUBGROUPINGS.get(kind.data, ()), *either)


def _check_multivariate(tables: _Tables) -> None:
    """A multivariate chart has at least two characteristics of one work unit, and one kind, baseline and weight."""
    name = "multivariate"
    _check_work_unit(tables, name)
    measured = tables["characteristics"].filter(pl.col("counted").is_null()).select("characteristic_id", "equipment_id")
    unknown = tables[name].join(measured, on=["characteristic_id", "equipment_id"], how="anti")
    wrong = pl.format("{} is not measured on {}", "characteristic_id", "equipment_id")
    tables.refuse_rows(name, unknown, wrong, "name a characteristic of characteristics.csv with that work unit")
    alone = tables[name].filter(pl.len().over("chart_id") < 2)
    tables.refuse_rows(name, alone, pl.format("chart {} has one characteristic", "chart_id"), "a chart of vectors needs two")
    kinds = pl.struct("equipment_id", "chart", "baseline", "weight").n_unique().over("chart_id") > 1
    wrong = pl.format("chart {} has rows that differ in work unit, chart, baseline or weight", "chart_id")
    tables.refuse_rows(name, tables[name].filter(kinds), wrong, "write the same in every row of the chart")
    short = tables[name].filter(pl.col("baseline") <= pl.len().over("chart_id") + 1)
    wrong = pl.format("baseline {} of chart {} cannot carry a covariance", "baseline", "chart_id")
    tables.refuse_rows(name, short, wrong, "use at least ten parts per characteristic")


def _check_sensor(tables: _Tables, name: str) -> None:
    wrong = pl.format("sensor_min {} is not below sensor_max {}", "sensor_min", "sensor_max")
    tables.refuse(name, pl.col("sensor_min") >= pl.col("sensor_max"), wrong, "correct the sensor's range")


def _check_window(tables: _Tables, name: str) -> None:
    wrong = pl.lit("effective_to is not after effective_from")
    tables.refuse(
        name, pl.col("effective_to") <= pl.col("effective_from"), wrong, "correct the dates (effective_to is exclusive)"
    )


def _check_overlap(tables: _Tables, name: str, keys: list[str], remedy: str = "") -> None:
    """Windows [effective_from, effective_to) of the same key must not overlap; empty is since ever, or for ever."""
    begun = tables[name].with_columns(pl.col("effective_from").fill_null(_EVER))
    ordered = begun.sort(*keys, "effective_from", nulls_last=True)
    end = pl.col("effective_to").fill_null(_FOREVER)
    before, line = end.cum_max().shift().over(keys), pl.col(LINE).shift().over(keys)
    rows = ordered.with_columns(before=before, before_line=line).filter(pl.col("effective_from") < pl.col("before"))
    wrong = pl.format(
        "{} is in force at the same time as the row on line {}",
        pl.concat_str([pl.col(key).cast(pl.String) for key in keys], separator=" on "),
        "before_line",
    )
    tables.refuse_rows(name, rows, wrong, remedy or "end the earlier one: its effective_to is this effective_from")


def _check_specifications(tables: _Tables) -> None:
    name = "specifications"
    characteristics = tables["characteristics"]
    remedy = "name a characteristic_id of characteristics.csv"
    tables.refer(name, "characteristic_id", characteristics["characteristic_id"], "in characteristics.csv", remedy)
    lsl, target, usl = pl.col("lsl"), pl.col("target"), pl.col("usl")
    # A missing limit leaves its comparison null, and null | true is true: one-sided rows are judged on what they have.
    disordered = (lsl >= usl) | (lsl >= target) | (target >= usl)
    shown = [value.cast(pl.String).fill_null("none") for value in (lsl, target, usl)]
    wrong = pl.format("lsl {}, target {}, usl {} do not rise", *shown)
    tables.refuse(name, disordered, wrong, "they must rise: lsl < target < usl")
    wrong = pl.lit("neither lsl nor usl is given")
    tables.refuse(name, lsl.is_null() & usl.is_null(), wrong, "give at least one")
    units = characteristics.unique("characteristic_id", keep="first").select("characteristic_id", expected="unit")
    rows = tables[name].join(units, on="characteristic_id").filter(pl.col("unit") != pl.col("expected"))
    wrong = pl.format("unit {} differs from the characteristic's, {}", "unit", "expected")
    tables.refuse_rows(name, rows, wrong, "write the limits in the characteristic's unit")
    _check_window(tables, name)
    _check_overlap(tables, name, ["characteristic_id"])


def _check_streams(tables: _Tables) -> None:
    _check_work_unit(tables, "streams")
    _check_sensor(tables, "streams")


def _check_products(tables: _Tables) -> None:
    _check_work_unit(tables, "products")
    _check_window(tables, "products")
    _check_overlap(tables, "products", ["material_definition_id", "equipment_id"])


def _check_routings(tables: _Tables) -> None:
    _check_work_unit(tables, "routings")
    remedy = "name a material_definition_id of products.csv, or add the product there"
    tables.refer("routings", "material_definition_id", tables["products"]["material_definition_id"], "in products.csv", remedy)
    _check_window(tables, "routings")
    _check_overlap(tables, "routings", ["material_definition_id", "segment_id"])
    _check_overlap(tables, "routings", ["material_definition_id", "sequence"], "give each operation its own place in the route")


def _check_states(tables: _Tables) -> None:
    same = pl.struct("time_element", "priority").n_unique().over("state") > 1
    wrong = pl.format("state {} has several time elements or priorities, here {} and {}", "state", "time_element", "priority")
    rows = tables["states"].filter(same)
    tables.refuse_rows("states", rows, wrong, "give the state the same time_element and priority in every row")


def _check_state_rules(tables: _Tables) -> None:
    """A site without the table has none; one with it must say a known state in each row, and which row speaks first."""
    rules = tables["state_rules"]
    if rules.is_empty():
        return
    try:
        check_state_rules(rules)
    except SiteError as error:
        for problem in error.args[0].partition("state_rules: ")[2].removesuffix(". Correct the rows.").split("; "):
            row = re.match(r"row (\d+): ", problem)
            line = rules[LINE][int(row[1]) - 1] if row else 0
            tables.problems.add("state_rules.csv", line, problem[row.end() :] if row else problem, "correct the row")


def _check_calendar(tables: _Tables) -> None:
    remedy = "name an equipment_id of equipment.csv"
    tables.refer("calendar", "equipment_id", tables["equipment"]["equipment_id"], "in equipment.csv", remedy)
    wrong = pl.lit("end_at is not after start_at")
    tables.refuse("calendar", pl.col("end_at") <= pl.col("start_at"), wrong, "correct the times (end_at is exclusive)")


def _minutes(column: str) -> pl.Expr:
    """Minutes after midnight of an HH:MM text; null when it is not one."""
    text = pl.when(pl.col(column).str.contains(_CLOCK)).then(pl.col(column))
    return text.str.slice(0, 2).cast(pl.Int64) * 60 + text.str.slice(3, 2).cast(pl.Int64)


def _length(start: pl.Expr, end: pl.Expr) -> pl.Expr:
    """Minutes from start to end on a clock; equal times are a whole day."""
    return (end - start - 1) % DAY_MIN + 1


def _check_clock(tables: _Tables, name: str) -> None:
    for column in ("start_local", "end_local"):
        bad = pl.col(column).is_not_null() & ~pl.col(column).str.contains(_CLOCK)
        tables.refuse(name, bad, pl.format('{} is "{}"', pl.lit(column), column), "write HH:MM, from 00:00 to 23:59")
    centers = tables["equipment"].filter(pl.col("equipment_level") == "work_center")["equipment_id"]
    known = pl.concat([centers, pl.Series("equipment_id", [ANY_WORK_CENTER], dtype=pl.String)])
    tables.refer(name, "work_center_id", known, "a work_center of equipment.csv", "name a line, or * for every line")


def _check_shifts(tables: _Tables, day_start: time | None) -> None:
    name = "shifts"
    _check_clock(tables, name)
    _check_window(tables, name)
    weekdays = pl.col("weekdays")
    repeated = weekdays.str.split("").list.n_unique() < weekdays.str.split("").list.len()
    bad = ~weekdays.str.contains(r"^[1-7]+$") | repeated
    tables.refuse(
        name,
        bad,
        pl.format('weekdays is "{}"', "weekdays"),
        "write each day at most once, 1 = Monday to 7 = Sunday, e.g. 12345",
    )
    if day_start is None:
        return
    day_start_min = day_start.hour * 60 + day_start.minute
    start = (_minutes("start_local") - day_start_min) % DAY_MIN
    placed = tables[name].with_columns(
        from_min=start,
        to_min=start + _length(_minutes("start_local"), _minutes("end_local")),
    )
    wrong = pl.format("shift {} from {} to {} crosses the start of the production day", "shift_id", "start_local", "end_local")
    rows = placed.filter(pl.col("to_min") > DAY_MIN)
    tables.refuse_rows(name, rows, wrong, f"split it, or change day_start ({day_start:%H:%M}) in site.toml")
    _check_shift_overlap(tables, placed)


def _check_shift_overlap(tables: _Tables, placed: pl.DataFrame) -> None:
    """Two shifts of one line must not cover the same time: an event would belong to both.

    A line's own rule replaces the rule of the same shift for every line. Weekdays are those of the production date.
    """
    days = placed.filter(pl.col("weekdays").str.contains(r"^[1-7]+$")).with_columns(
        weekday=pl.col("weekdays").str.extract_all(r"[1-7]"),
        from_at=pl.col("effective_from").fill_null(_EVER),
        to_at=pl.col("effective_to").fill_null(_FOREVER),
    )
    days = days.explode("weekday")
    pairs = days.join(days, on="weekday", suffix="_b").filter(pl.col(LINE) > pl.col(f"{LINE}_b"))
    center, other = pl.col("work_center_id"), pl.col("work_center_id_b")
    same_line = (center == other) | (
        ((center == ANY_WORK_CENTER) | (other == ANY_WORK_CENTER)) & (pl.col("shift_id") != pl.col("shift_id_b"))
    )
    overlap = (
        same_line
        & (pl.col("from_min") < pl.col("to_min_b"))
        & (pl.col("from_min_b") < pl.col("to_min"))
        & (pl.col("from_at") < pl.col("to_at_b"))
        & (pl.col("from_at_b") < pl.col("to_at"))
    )
    rows = pairs.filter(overlap).unique([LINE, f"{LINE}_b"], maintain_order=True)
    wrong = pl.format("shift {} overlaps shift {} of line {}", "shift_id", "shift_id_b", f"{LINE}_b")
    tables.refuse_rows("shifts", rows, wrong, "change the times, weekdays or effective dates")


def _check_breaks(tables: _Tables) -> None:
    name = "breaks"
    _check_clock(tables, name)
    tables.refer(name, "shift_id", tables["shifts"]["shift_id"], "in shifts.csv", "name a shift_id of shifts.csv")
    shifts = tables["shifts"].select(
        "shift_id",
        shift_center="work_center_id",
        shift_from=_minutes("start_local"),
        shift_length=_length(_minutes("start_local"), _minutes("end_local")),
    )
    center, other = pl.col("work_center_id"), pl.col("shift_center")
    same_line = (center == other) | (center == ANY_WORK_CENTER) | (other == ANY_WORK_CENTER)
    start = (_minutes("start_local") - pl.col("shift_from")) % DAY_MIN
    end = start + _length(_minutes("start_local"), _minutes("end_local"))
    rows = tables[name].join(shifts, on="shift_id").filter(same_line & (end > pl.col("shift_length")))
    wrong = pl.format("break from {} to {} is not inside shift {}", "start_local", "end_local", "shift_id")
    tables.refuse_rows(name, rows.unique(LINE, maintain_order=True), wrong, "correct its times")


@dataclass(frozen=True, slots=True)
class Finding:
    """A line of the summary of a site: ``level`` is info or warning."""

    level: str
    text: str

    def __str__(self) -> str:
        return self.text if self.level == "info" else f"{self.level}: {self.text}"


def describe(site: Site) -> list[Finding]:
    """Summarise a valid site: rows per table, sources, and what is allowed but looks forgotten."""
    counts = [Finding("info", f"{name}: {site[name].height} rows") for name in SITE_TABLES]
    sources = [
        Finding("info", f"source {source.source_id}: {source.kind}, {', '.join(item.name for item in source.resources)}")
        for source in site.sources
    ]
    characteristics, specifications = site["characteristics"], site["specifications"]
    units = site.work_centers()["equipment_id"]
    gaps = {
        "characteristic without specification (no capability)": _missing(
            characteristics["characteristic_id"], specifications["characteristic_id"]
        ),
        "work unit without characteristic": _missing(units, characteristics["equipment_id"]),
        "work unit without product (no OEE effectiveness)": _missing(units, site["products"]["equipment_id"]),
    }
    warnings = [Finding("warning", f"{what}: {', '.join(names)}") for what, names in gaps.items() if names]
    if not site.sources:
        warnings.append(Finding("warning", "sources.toml names no source: nothing will be ingested"))
    return [*counts, *sources, *warnings]


def _missing(wanted: pl.Series, given: pl.Series) -> list[str]:
    return sorted({*wanted.to_list()} - {*given.to_list()})

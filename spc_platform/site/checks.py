"""Rules that the tables of a site folder obey, alone and among each other.

Each rule is rows that break it, what is wrong with such a row, and what to do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import time

import polars as pl

from spc_platform.contracts.charts import CHARTS, Chart
from spc_platform.contracts.site import EQUIPMENT_LEVELS, SITE_TABLES
from spc_platform.errors import ContractError, SiteError
from spc_platform.production.signals import check_state_rules
from spc_platform.site.calendar_checks import check_breaks, check_calendar, check_shifts
from spc_platform.site.checked_tables import CheckedTables, check_overlap, check_window
from spc_platform.site.files import LINE, Problems
from spc_platform.spc.rule_sets import RULE_SETS, custom_rules

LARGEST_RANGE_SUBGROUP = 25
"""The range of more than 25 values wastes most of them: a site's R panel takes no more."""
CHART_SUBGROUPINGS = {"values": ("consecutive", "key"), "counts": ("shift",), "events": ("event",)}
"""How a site's samples come to be, by kind of data; charts of single values take individual."""
FILE_ONLY = ("z_mr",)
"""Charts of several parts on one chart: a site has one chart per characteristic, so they are made from files only."""
_REMEDIES = {
    "MISSING": "fill it in",
    "NOT_FINITE": "write a finite number or leave it empty where that is allowed",
    "BELOW": "raise it",
    "NOT_ABOVE": "raise it",
    "ABOVE": "lower it",
}


def check_tables(frames: Mapping[str, pl.DataFrame], day_start: time | None, problems: Problems) -> None:
    """Add a problem for every row of the site tables that breaks a rule. Frames carry the column LINE."""
    tables = CheckedTables(frames, problems)
    for name in SITE_TABLES:
        _check_contract(tables, name)
    _check_equipment(tables)
    _check_rules(tables)
    _check_characteristics(tables)
    _check_multivariate(tables)
    _check_specifications(tables)
    _check_streams(tables)
    _check_part_counters(tables)
    _check_products(tables)
    _check_routings(tables)
    _check_states(tables)
    _check_state_rules(tables)
    check_calendar(tables)
    check_shifts(tables, day_start)
    check_breaks(tables)


def _check_contract(tables: CheckedTables, name: str) -> None:
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


def _check_equipment(tables: CheckedTables) -> None:
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


def _work_units(tables: CheckedTables) -> pl.Series:
    return tables["equipment"].filter(pl.col("equipment_level") == "work_unit")["equipment_id"]


def _check_work_unit(tables: CheckedTables, name: str) -> None:
    remedy = "name an equipment_id of level work_unit"
    tables.refer(name, "equipment_id", _work_units(tables), "a work_unit of equipment.csv", remedy)


def _check_rules(tables: CheckedTables) -> None:
    """A site's own run rules: each must be a rule, its set's name must be free, and a date must be judged from its window."""
    wrong = pl.format('reset "signal" of rule {} reaches back without end', "rule")
    remedy = "leave reset empty: a plant is judged date by date (files may use it: `spc analyze`)"
    tables.refuse("rules", pl.col("reset") == "signal", wrong, remedy)
    try:
        custom_rules(tables["rules"])
    except ContractError as error:
        for problem in error.args[0].partition("] ")[2].split("; rules row "):
            tables.problems.add("rules.csv", 0, f"row {problem.removeprefix('rules row ')}", "correct the row")


def _check_characteristics(tables: CheckedTables) -> None:
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


def _check_charts(tables: CheckedTables) -> None:
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


def _check_multivariate(tables: CheckedTables) -> None:
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


def _check_sensor(tables: CheckedTables, name: str) -> None:
    wrong = pl.format("sensor_min {} is not below sensor_max {}", "sensor_min", "sensor_max")
    tables.refuse(name, pl.col("sensor_min") >= pl.col("sensor_max"), wrong, "correct the sensor's range")


def _check_specifications(tables: CheckedTables) -> None:
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
    check_window(tables, name)
    check_overlap(tables, name, ["characteristic_id"])


def _check_streams(tables: CheckedTables) -> None:
    _check_work_unit(tables, "streams")
    _check_sensor(tables, "streams")


def _check_part_counters(tables: CheckedTables) -> None:
    name = "part_counters"
    _check_work_unit(tables, name)
    tables.refer(name, "stream_id", tables["streams"]["stream_id"], "in streams.csv", "name a stream of streams.csv")
    remedy = "name a material_definition_id of products.csv, or add the product there"
    tables.refer(name, "material_definition_id", tables["products"]["material_definition_id"], "in products.csv", remedy)
    rows = tables[name]
    several = rows.filter(pl.struct("equipment_id", "counts").is_duplicated())
    tables.refuse_rows(
        name,
        several,
        pl.format("{} has two counters of {} parts", "equipment_id", "counts"),
        "leave one: their parts would add up",
    )
    mixed = rows.filter(pl.col("in_force").n_unique().over("equipment_id") > 1)
    tables.refuse_rows(
        name, mixed, pl.format("the counters of {} say different in_force", "equipment_id"), "give all of them the same"
    )
    three = rows.filter(pl.col("counts").n_unique().over("equipment_id") > 2)
    tables.refuse_rows(
        name,
        three,
        pl.format("{} has counters of good, total and scrap", "equipment_id"),
        "leave out one: it follows from the others",
    )


def _check_products(tables: CheckedTables) -> None:
    _check_work_unit(tables, "products")
    check_window(tables, "products")
    check_overlap(tables, "products", ["material_definition_id", "equipment_id"])


def _check_routings(tables: CheckedTables) -> None:
    _check_work_unit(tables, "routings")
    remedy = "name a material_definition_id of products.csv, or add the product there"
    tables.refer("routings", "material_definition_id", tables["products"]["material_definition_id"], "in products.csv", remedy)
    check_window(tables, "routings")
    check_overlap(tables, "routings", ["material_definition_id", "segment_id"])
    check_overlap(tables, "routings", ["material_definition_id", "sequence"], "give each operation its own place in the route")


def _check_states(tables: CheckedTables) -> None:
    same = pl.struct("time_element", "priority").n_unique().over("state") > 1
    wrong = pl.format("state {} has several time elements or priorities, here {} and {}", "state", "time_element", "priority")
    rows = tables["states"].filter(same)
    tables.refuse_rows("states", rows, wrong, "give the state the same time_element and priority in every row")


def _check_state_rules(tables: CheckedTables) -> None:
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

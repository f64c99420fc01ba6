"""Splits current raw rows into rows that keep every rule and rows that are refused, with every reason.

Nothing is repaired by guess: a unit is converted only by a registered rule, a missing one refuses the row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

import polars as pl

from spc_platform.contracts import LAKE_TABLES
from spc_platform.contracts.core import CORE_TABLES
from spc_platform.contracts.raw import EVENT_TIME, LINEAGE, PAYLOAD
from spc_platform.contracts.table import Column
from spc_platform.contracts.units import conversion_table
from spc_platform.production.calendar import assign_shift
from spc_platform.site.model import Site

Rule = tuple[str, pl.Expr]
"""Reason code and an expression that is true for a row that breaks the rule."""


@dataclass(frozen=True, slots=True)
class _Recipe:
    """What is particular about one table.

    ``look_up`` adds columns of the site (named with a leading underscore) to current raw rows, ``rules``
    judges them, ``complete`` turns accepted rows into rows of the core table.
    """

    look_up: Callable[[pl.DataFrame, Site], pl.DataFrame]
    rules: Callable[[Site], list[Rule]]
    complete: Callable[[pl.DataFrame, Site, pl.DataFrame], pl.DataFrame]


def accept(table: str, raw: pl.DataFrame, site: Site, calendar: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split the current rows of a raw table into (accepted, rejected).

    ``table`` is a core table's name, ``raw`` a frame of its raw table, ``calendar`` a SHIFT_CALENDAR frame
    of the same production date. Superseded and deleted rows are in neither result: they stay in raw.
    Accepted rows conform to the core table, with value and unit in the site's unit; rejected rows are
    raw rows, unchanged, with every reason. Current rows = accepted + rejected.
    """
    core, recipe = CORE_TABLES[table], _RECIPES[table]
    current = raw.filter(pl.col("is_current") & ~pl.col("is_deleted"))
    looked_up = recipe.look_up(current, site)
    rules = [*_column_rules(table), *recipe.rules(site), *_time_rules(EVENT_TIME[f"raw_{table}"], site, looked_up.columns)]
    judged = looked_up.with_columns(reasons=_reasons(rules))
    refused = judged["reasons"].is_not_null()
    accepted = recipe.complete(judged.filter(~refused), site, calendar)
    rejected = current.with_columns(judged["reasons"]).filter(refused)
    return core.conform(accepted), LAKE_TABLES[f"{table}_rejected"].conform(rejected)


def _reasons(rules: list[Rule]) -> pl.Expr:
    broken = [pl.when(bad.fill_null(value=False)).then(pl.lit(code)) for code, bad in rules]
    joined = pl.concat_str([pl.col("decode_error"), *broken], separator=";", ignore_nulls=True)
    return pl.when(joined != "").then(joined)


def _column_rules(table: str) -> list[Rule]:
    """Rules of the contract for the columns that a source delivers."""
    columns = (*LINEAGE, *PAYLOAD[f"raw_{table}"])
    return [rule for column in columns for rule in _rules_of(column)]


def _rules_of(column: Column) -> list[Rule]:
    rules = dict(column.violation_rules())
    if not column.nullable and column.dtype == pl.String:
        rules[f"{column.name}:MISSING"] = _is_blank(column.name)
    # A cell that could not be read is empty, too; its decode error already says why.
    unread = pl.col("decode_error").str.contains(rf"(^|;){column.name}:").fill_null(value=False)
    return [(reason, bad & ~unread) for reason, bad in rules.items()]


def _is_blank(column: str) -> pl.Expr:
    return pl.col(column).is_null() | (pl.col(column).str.strip_chars() == "")


def _time_rules(at: str, site: Site, columns: list[str]) -> list[Rule]:
    """Event times that cannot be: long before the site existed, or after their own recording."""
    policies = site.policies
    first = datetime.combine(site.first_production_date, time(), UTC) - timedelta(days=policies.horizon_days)
    happened = (
        pl.col(at) - pl.duration(microseconds=pl.col("_clock_offset_us")) if "_clock_offset_us" in columns else pl.col(at)
    )
    latest = pl.col("updated_at") + pl.duration(microseconds=round(policies.clock_skew_s * 1e6))
    return [(f"{at}:BEFORE_HORIZON", pl.col(at) < first), (f"{at}:AFTER_RECORDING", happened > latest)]


def _unknown(column: str, known: pl.Series) -> Rule:
    return f"{column}:UNKNOWN", ~_is_blank(column) & ~pl.col(column).is_in(known.unique().implode())


def _look_up_unit(frame: pl.DataFrame) -> pl.DataFrame:
    """Add ``_factor`` and ``_offset`` from ``unit`` to ``_unit``, and the value in that unit."""
    conversions = conversion_table().rename({"factor": "_factor", "offset": "_offset"})
    joined = frame.join(
        conversions, left_on=["unit", "_unit"], right_on=["unit_from", "unit_to"], how="left", maintain_order="left"
    )
    in_unit = pl.when(pl.col("unit") == pl.col("_unit")).then(pl.col("value"))
    return joined.with_columns(_value=in_unit.otherwise(pl.col("value") * pl.col("_factor") + pl.col("_offset")))


def _unit_rules() -> list[Rule]:
    differs = ~_is_blank("unit") & (pl.col("unit") != pl.col("_unit"))
    outside = (pl.col("_value") < pl.col("_sensor_min")) | (pl.col("_value") > pl.col("_sensor_max"))
    return [
        ("unit:NOT_CONVERTIBLE", differs & pl.col("_factor").is_null()),
        ("value:OUT_OF_SENSOR_RANGE", outside & pl.col("_value").is_finite()),
    ]


def _in_site_unit(frame: pl.DataFrame) -> pl.DataFrame:
    converted = pl.when(pl.col("unit") != pl.col("_unit")).then(pl.format("{}>{}", "unit", "_unit"))
    return frame.with_columns(value="_value", unit="_unit", unit_conversion=converted)


def _with_work_center(frame: pl.DataFrame, site: Site) -> pl.DataFrame:
    return frame.join(site.work_centers(), on="equipment_id", how="left", maintain_order="left")


def _look_up_measurement(frame: pl.DataFrame, site: Site) -> pl.DataFrame:
    charts = site["characteristics"].select(
        "characteristic_id", "equipment_id", _unit="unit", _sensor_min="sensor_min", _sensor_max="sensor_max", _charted=True
    )
    joined = frame.join(charts, on=["characteristic_id", "equipment_id"], how="left", maintain_order="left")
    return _look_up_unit(joined)


def _measurement_rules(site: Site) -> list[Rule]:
    characteristics = site["characteristics"]["characteristic_id"]
    units = site.work_centers()["equipment_id"]
    known = pl.col("characteristic_id").is_in(characteristics.unique().implode()) & pl.col("equipment_id").is_in(
        units.implode()
    )
    return [
        _unknown("characteristic_id", characteristics),
        _unknown("equipment_id", units),
        ("characteristic_id:NOT_AT_EQUIPMENT", known & pl.col("_charted").is_null()),
        *_unit_rules(),
    ]


def _complete_measurement(frame: pl.DataFrame, site: Site, calendar: pl.DataFrame) -> pl.DataFrame:
    specified = with_specification(_in_site_unit(frame), site)
    return assign_shift(_with_work_center(specified, site), "measured_at", calendar)


def with_specification(frame: pl.DataFrame, site: Site) -> pl.DataFrame:
    """Add ``specification_version``, the one in force at ``measured_at`` ([effective_from, effective_to)), or null."""
    versions = site["specifications"].select(
        "characteristic_id", "effective_from", _effective_to="effective_to", specification_version="version"
    )
    joined = frame.sort("measured_at").join_asof(
        versions.sort("effective_from"),
        left_on="measured_at",
        right_on="effective_from",
        by="characteristic_id",
        strategy="backward",
        check_sortedness=False,
    )
    ended = pl.col("measured_at") >= pl.col("_effective_to")
    in_force = pl.when(~ended.fill_null(value=False)).then(pl.col("specification_version"))
    return joined.with_columns(specification_version=in_force).drop("effective_from", "_effective_to", strict=False)


def _look_up_telemetry(frame: pl.DataFrame, site: Site) -> pl.DataFrame:
    streams = site["streams"].select(
        "stream_id",
        "equipment_id",
        _unit="unit",
        _sensor_min="sensor_min",
        _sensor_max="sensor_max",
        _clock_offset_us=(pl.col("clock_offset_s") * 1e6).round().cast(pl.Int64),
    )
    return _look_up_unit(frame.join(streams, on="stream_id", how="left", maintain_order="left"))


def _telemetry_rules(site: Site) -> list[Rule]:
    return [_unknown("stream_id", site["streams"]["stream_id"]), *_unit_rules()]


def _complete_telemetry(frame: pl.DataFrame, _site: Site, _calendar: pl.DataFrame) -> pl.DataFrame:
    return _in_site_unit(frame)


def _as_delivered(frame: pl.DataFrame, _site: Site) -> pl.DataFrame:
    return frame


_END_BEFORE_START: Rule = ("end_at:BEFORE_START", pl.col("end_at") < pl.col("start_at"))


def _state_rules(site: Site) -> list[Rule]:
    return [
        _unknown("equipment_id", site.work_centers()["equipment_id"]),
        _unknown("state", site["states"]["source_state"]),
        _unknown("reason_code", site["reasons"]["reason_code"]),
        _END_BEFORE_START,
    ]


def _complete_state(frame: pl.DataFrame, site: Site, _calendar: pl.DataFrame) -> pl.DataFrame:
    states = site["states"].select(state="source_state", _state="state")
    mapped = frame.join(states, on="state", how="left", maintain_order="left").with_columns(state="_state")
    return _with_work_center(mapped, site)


def _count_rules(site: Site) -> list[Rule]:
    return [
        _unknown("equipment_id", site.work_centers()["equipment_id"]),
        _unknown("material_definition_id", site["products"]["material_definition_id"]),
        _unknown("reason_code", site["reasons"]["reason_code"]),
    ]


def _complete_count(frame: pl.DataFrame, site: Site, calendar: pl.DataFrame) -> pl.DataFrame:
    return assign_shift(_with_work_center(frame, site), "counted_at", calendar)


def _order_rules(site: Site) -> list[Rule]:
    lines = site["equipment"].filter(pl.col("equipment_level") == "work_center")["equipment_id"]
    return [
        _unknown("work_center_id", lines),
        _unknown("material_definition_id", site["products"]["material_definition_id"]),
        _END_BEFORE_START,
    ]


def _order_event_rules(site: Site) -> list[Rule]:
    lines = site["equipment"].filter(pl.col("equipment_level") == "work_center")["equipment_id"]
    return [
        _unknown("work_center_id", lines),
        _unknown("material_definition_id", site["products"]["material_definition_id"]),
        _unknown("reason_code", site["reasons"]["reason_code"]),
    ]


def _look_up_segment(frame: pl.DataFrame, site: Site) -> pl.DataFrame:
    routed = site["routings"].select("material_definition_id", "segment_id", _routed=True)
    return frame.join(routed, on=["material_definition_id", "segment_id"], how="left", maintain_order="left")


def _segment_rules(site: Site) -> list[Rule]:
    products, routings = site["products"]["material_definition_id"], site["routings"]
    of_a_serial = (pl.col("item_kind") == "serial") & (pl.col("quantity") != 1)
    rules = [
        _unknown("equipment_id", site.work_centers()["equipment_id"]),
        _unknown("material_definition_id", products),
        ("quantity:NOT_ONE_FOR_SERIAL", of_a_serial),
    ]
    if routings.is_empty():
        return rules
    known = pl.col("segment_id").is_in(routings["segment_id"].unique().implode())
    has_route = pl.col("material_definition_id").is_in(routings["material_definition_id"].unique().implode())
    return [
        *rules,
        _unknown("segment_id", routings["segment_id"]),
        ("segment_id:NOT_IN_ROUTE", known & has_route & pl.col("_routed").is_null()),
    ]


def _link_rules(site: Site) -> list[Rule]:
    return [
        _unknown("equipment_id", site.work_centers()["equipment_id"]),
        # A part that was reworked and kept its number came of itself.
        ("child_id:SELF_LINK", (pl.col("child_id") == pl.col("parent_id")) & (pl.col("link_type") != "reworked")),
    ]


def _signal_rules(site: Site) -> list[Rule]:
    return [_unknown("equipment_id", site.work_centers()["equipment_id"])]


def _unchanged(frame: pl.DataFrame, _site: Site, _calendar: pl.DataFrame) -> pl.DataFrame:
    return frame


_RECIPES: dict[str, _Recipe] = {
    "measurement": _Recipe(_look_up_measurement, _measurement_rules, _complete_measurement),
    "telemetry": _Recipe(_look_up_telemetry, _telemetry_rules, _complete_telemetry),
    "equipment_state": _Recipe(_as_delivered, _state_rules, _complete_state),
    "production_count": _Recipe(_as_delivered, _count_rules, _complete_count),
    "work_order": _Recipe(_as_delivered, _order_rules, _unchanged),
    "work_order_event": _Recipe(_as_delivered, _order_event_rules, _unchanged),
    "segment_event": _Recipe(_look_up_segment, _segment_rules, _unchanged),
    "material_link": _Recipe(_as_delivered, _link_rules, _unchanged),
    "signal_event": _Recipe(_as_delivered, _signal_rules, _unchanged),
}

"""A row that breaks a rule is refused with every reason; none is lost and nothing is guessed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from spc_platform.contracts import LAKE_TABLES
from spc_platform.contracts.production import SHIFT_CALENDAR
from spc_platform.contracts.site import SITE_TABLES
from spc_platform.prepare.quarantine import accept
from spc_platform.production.calendar import shift_calendar
from spc_platform.site.model import Site
from spc_platform_tests.unit.prepare_frames import DAY, ROWS, SIX, raw, site_with, small_site

NO_SHIFTS = SHIFT_CALENDAR.empty()


def refuse(table: str, row: dict[str, Any]) -> str:
    """Reasons for refusing a row that stands beside a good one."""
    rows = raw(table, {}, row)
    accepted, rejected = accept(table, rows, small_site(), NO_SHIFTS)
    assert accepted["record_id"].to_list() == ["r0000"]
    assert_frame_equal(rejected.drop("reasons"), rows.filter(record_id="r0001"))
    return str(rejected["reasons"].item())


@pytest.mark.parametrize("table", ROWS)
def test_a_good_row_is_accepted_and_conforms_to_the_contract(table: str) -> None:
    accepted, rejected = accept(table, raw(table, {}), small_site(), NO_SHIFTS)
    assert accepted.schema == LAKE_TABLES[table].schema
    assert rejected.schema == LAKE_TABLES[f"{table}_rejected"].schema
    assert (accepted.height, rejected.height) == (1, 0)
    LAKE_TABLES[table].pandera_schema().validate(accepted)


@pytest.mark.parametrize("table", ROWS)
def test_an_empty_raw_table_gives_two_empty_tables(table: str) -> None:
    accepted, rejected = accept(table, LAKE_TABLES[f"raw_{table}"].empty(), small_site(), NO_SHIFTS)
    assert (accepted.height, rejected.height) == (0, 0)


REFUSED = [
    ("measurement", {"value": float("nan")}, "value:NOT_FINITE"),
    ("measurement", {"value": float("-inf")}, "value:NOT_FINITE"),
    ("measurement", {"value": None}, "value:MISSING"),
    ("measurement", {"unit": None}, "unit:MISSING"),
    ("measurement", {"unit": " "}, "unit:MISSING"),
    ("measurement", {"unit": "kPa"}, "unit:NOT_CONVERTIBLE"),
    ("measurement", {"value": -0.1}, "value:OUT_OF_SENSOR_RANGE"),
    ("measurement", {"value": 4.0, "unit": "in"}, "value:OUT_OF_SENSOR_RANGE"),
    ("measurement", {"characteristic_id": "SHAFT-LEN"}, "characteristic_id:UNKNOWN"),
    ("measurement", {"equipment_id": "L1"}, "equipment_id:UNKNOWN"),
    (
        "measurement",
        {"measured_at": None, "decode_error": "measured_at:TIMESTAMP_WITHOUT_ZONE"},
        "measured_at:TIMESTAMP_WITHOUT_ZONE",
    ),
    ("measurement", {"measured_at": datetime(2016, 1, 1, tzinfo=UTC)}, "measured_at:BEFORE_HORIZON"),
    ("measurement", {"measured_at": SIX + timedelta(minutes=6, seconds=1)}, "measured_at:AFTER_RECORDING"),
    ("measurement", {"value": float("nan"), "decode_error": "value:NOT_FINITE"}, "value:NOT_FINITE"),
    (
        "measurement",
        {"value": float("nan"), "unit": None, "characteristic_id": "X", "decode_error": "serial_number:NOT_A_TEXT"},
        "serial_number:NOT_A_TEXT;value:NOT_FINITE;unit:MISSING;characteristic_id:UNKNOWN",
    ),
    ("telemetry", {"stream_id": "L9-TEMP"}, "stream_id:UNKNOWN"),
    ("telemetry", {"unit": "rpm"}, "unit:NOT_CONVERTIBLE"),
    ("telemetry", {"unit": None}, "unit:MISSING"),
    ("telemetry", {"value": 120.5}, "value:OUT_OF_SENSOR_RANGE"),
    ("telemetry", {"value": float("nan")}, "value:NOT_FINITE"),
    ("equipment_state", {"equipment_id": "L2-LATHE"}, "equipment_id:UNKNOWN"),
    ("equipment_state", {"state": "DANCING"}, "state:UNKNOWN"),
    ("equipment_state", {"reason_code": "MOON"}, "reason_code:UNKNOWN"),
    ("equipment_state", {"end_at": SIX - timedelta(seconds=1)}, "end_at:BEFORE_START"),
    ("production_count", {"material_definition_id": "GEAR"}, "material_definition_id:UNKNOWN"),
    ("production_count", {"reason_code": "MOON"}, "reason_code:UNKNOWN"),
    ("production_count", {"good_quantity": -1, "scrap_quantity": None}, "good_quantity:BELOW_0;scrap_quantity:MISSING"),
    ("work_order", {"work_center_id": "L1-LATHE"}, "work_center_id:UNKNOWN"),
    ("work_order_event", {"event_type": "forgotten"}, "event_type:NOT_ALLOWED"),
    ("work_order_event", {"job_order_id": None}, "job_order_id:MISSING"),
    ("work_order_event", {"work_center_id": "L9"}, "work_center_id:UNKNOWN"),
    ("work_order_event", {"material_definition_id": "GEAR"}, "material_definition_id:UNKNOWN"),
    ("work_order_event", {"planned_quantity": -1.0}, "planned_quantity:BELOW_0"),
    ("work_order_event", {"reason_code": "MOON"}, "reason_code:UNKNOWN"),
    ("work_order_event", {"occurred_at": SIX + timedelta(hours=1)}, "occurred_at:AFTER_RECORDING"),
    ("segment_event", {"equipment_id": "L2-LATHE"}, "equipment_id:UNKNOWN"),
    ("segment_event", {"item_id": " "}, "item_id:MISSING"),
    ("segment_event", {"quantity": 0.0}, "quantity:NOT_ABOVE_0"),
    ("segment_event", {"quantity": None}, "quantity:MISSING"),
    ("segment_event", {"item_kind": "serial"}, "quantity:NOT_ONE_FOR_SERIAL"),
    ("segment_event", {"item_kind": "pallet"}, "item_kind:NOT_ALLOWED"),
    ("segment_event", {"occurred_at": SIX + timedelta(hours=1)}, "occurred_at:AFTER_RECORDING"),
    ("material_link", {"child_id": "SUP-1"}, "child_id:SELF_LINK"),
    ("material_link", {"parent_id": None}, "parent_id:MISSING"),
    ("material_link", {"equipment_id": "L2-LATHE"}, "equipment_id:UNKNOWN"),
    ("material_link", {"quantity": -2.0}, "quantity:NOT_ABOVE_0"),
    ("material_link", {"link_type": "glued"}, "link_type:NOT_ALLOWED"),
    ("material_link", {"occurred_at": SIX + timedelta(hours=1)}, "occurred_at:AFTER_RECORDING"),
    ("signal_event", {"equipment_id": "L2-LATHE"}, "equipment_id:UNKNOWN"),
    ("signal_event", {"signal": "mood"}, "signal:NOT_ALLOWED"),
    ("signal_event", {"value": " "}, "value:MISSING"),
    ("signal_event", {"occurred_at": SIX + timedelta(hours=1)}, "occurred_at:AFTER_RECORDING"),
    ("work_order", {"material_definition_id": "GEAR"}, "material_definition_id:UNKNOWN"),
    ("work_order", {"end_at": SIX - timedelta(hours=1)}, "end_at:BEFORE_START"),
]


@pytest.mark.parametrize(("table", "row", "reasons"), REFUSED)
def test_a_broken_row_is_refused_unchanged_with_every_reason(table: str, row: dict[str, Any], reasons: str) -> None:
    assert refuse(table, row) == reasons


def test_a_characteristic_of_another_work_unit_is_refused() -> None:
    equipment = [
        {"equipment_id": "plant-1", "equipment_level": "site", "parent_equipment_id": None},
        {"equipment_id": "L1", "equipment_level": "work_center", "parent_equipment_id": "plant-1"},
        {"equipment_id": "L1-LATHE", "equipment_level": "work_unit", "parent_equipment_id": "L1"},
        {"equipment_id": "L1-MILL", "equipment_level": "work_unit", "parent_equipment_id": "L1"},
    ]
    site = site_with(equipment=equipment)
    _, rejected = accept("measurement", raw("measurement", {"equipment_id": "L1-MILL"}), site, NO_SHIFTS)
    assert rejected["reasons"].to_list() == ["characteristic_id:NOT_AT_EQUIPMENT"]


def test_a_registered_unit_is_converted_exactly_and_the_conversion_is_noted() -> None:
    # 1 inch is 25.4 mm by definition.
    accepted, _ = accept("measurement", raw("measurement", {"value": 0.984375, "unit": "in"}), small_site(), NO_SHIFTS)
    assert accepted.select("value", "unit", "unit_conversion").row(0) == (0.984375 * 25.4, "mm", "in>mm")


def test_a_unit_with_an_offset_is_converted_exactly() -> None:
    # 0 degC is 273.15 K by definition.
    accepted, _ = accept("telemetry", raw("telemetry", {"value": 300.0, "unit": "K"}), small_site(), NO_SHIFTS)
    assert accepted.select("value", "unit", "unit_conversion").row(0) == (300.0 - 273.15, "degC", "K>degC")


def test_a_row_in_the_sites_unit_is_left_alone() -> None:
    accepted, _ = accept("measurement", raw("measurement", {"value": 24.987654321}), small_site(), NO_SHIFTS)
    assert accepted.select("value", "unit", "unit_conversion").row(0) == (24.987654321, "mm", None)


def test_superseded_and_deleted_rows_are_neither_accepted_nor_rejected() -> None:
    rows = raw("measurement", {}, {"is_current": False}, {"is_deleted": True}, {"is_current": False, "value": None})
    accepted, rejected = accept("measurement", rows, small_site(), NO_SHIFTS)
    assert accepted["record_id"].to_list() == ["r0000"]
    assert rejected.is_empty()


def test_a_source_state_becomes_the_sites_state() -> None:
    states = [
        {"source_state": "ACTIVE", "state": "RUN"},
        {"source_state": "INTERRUPTED", "state": "STOP", "time_element": "ADET"},
    ]
    rows = raw("equipment_state", {"state": "ACTIVE"}, {"state": "INTERRUPTED", "start_at": SIX + timedelta(seconds=1)})
    accepted, _ = accept("equipment_state", rows, site_with(states=states), NO_SHIFTS)
    assert accepted["state"].to_list() == ["RUN", "STOP"]
    assert accepted["work_center_id"].to_list() == ["L1", "L1"]


def test_the_specification_in_force_judges_and_its_end_is_respected() -> None:
    specifications = [
        {"version": 1, "effective_from": SIX, "effective_to": SIX + timedelta(hours=1)},
        {"version": 2, "effective_from": SIX + timedelta(hours=2), "effective_to": None},
    ]
    hours = [-1, 0, 0.5, 1, 1.5, 2, 3]
    times = [SIX + timedelta(hours=hour) for hour in hours]
    rows = raw("measurement", *({"measured_at": at, "updated_at": at} for at in times))
    accepted, _ = accept("measurement", rows, site_with(specifications=specifications), NO_SHIFTS)
    assert accepted["specification_version"].to_list() == [None, 1, 1, None, None, 2, 2]


def test_measurements_and_counts_carry_the_shift_of_the_calendar() -> None:
    calendar = shift_calendar(small_site(), DAY, DAY)
    # The early shift ends where the late one begins, 14:00 in Berlin.
    times = [SIX, SIX + timedelta(hours=8, seconds=-1), SIX + timedelta(hours=8), SIX + timedelta(hours=20)]
    for table, at in (("measurement", "measured_at"), ("production_count", "counted_at")):
        rows = raw(table, *({at: time, "updated_at": time} for time in times))
        accepted, _ = accept(table, rows, small_site(), calendar)
        assert accepted["shift_id"].to_list() == ["EARLY", "EARLY", "LATE", "NIGHT"]
    sunday = raw("measurement", {"measured_at": SIX + timedelta(days=4), "updated_at": SIX + timedelta(days=4)})
    accepted, _ = accept("measurement", sunday, small_site(), shift_calendar(small_site(), DAY, DAY + timedelta(days=4)))
    assert accepted["shift_id"].to_list() == [None]


def test_a_declared_station_clock_ahead_is_not_taken_for_the_future() -> None:
    rows = raw("telemetry", {"observed_at": SIX + timedelta(minutes=20)})
    assert accept("telemetry", rows, small_site(), NO_SHIFTS)[1]["reasons"].to_list() == ["observed_at:AFTER_RECORDING"]
    ahead = site_with(streams=[{"clock_offset_s": 1200.0}])
    accepted, _ = accept("telemetry", rows, ahead, NO_SHIFTS)
    # Source time is never overwritten.
    assert accepted["observed_at"].to_list() == [SIX + timedelta(minutes=20)]


def test_current_rows_are_accepted_plus_rejected() -> None:
    broken = [row for table, row, _ in REFUSED if table == "measurement"]
    rows = raw("measurement", *({} for _ in range(7)), *broken, {"is_deleted": True})
    accepted, rejected = accept("measurement", rows, small_site(), NO_SHIFTS)
    assert (accepted.height, rejected.height) == (7, len(broken))
    both = pl.concat([accepted["record_id"], rejected["record_id"]])
    assert sorted(both) == sorted(rows.filter("is_current", ~pl.col("is_deleted"))["record_id"])


def routed_site() -> Site:
    site = small_site()
    route = {"material_definition_id": ["SHAFT"], "segment_id": ["turning"], "sequence": [1], "equipment_id": ["L1-LATHE"]}
    routings = SITE_TABLES["routings"].conform(
        pl.DataFrame(route).with_columns(description=None, effective_from=None, effective_to=None)
    )
    gear = site["products"].head(1).with_columns(material_definition_id=pl.lit("GEAR"))
    return replace(site, tables={**site.tables, "routings": routings, "products": pl.concat([site["products"], gear])})


def test_an_operation_outside_the_routings_is_refused_where_the_site_has_routings() -> None:
    rows = raw("segment_event", {}, {"segment_id": "dancing"}, {"segment_id": None})
    _, rejected = accept("segment_event", rows, routed_site(), NO_SHIFTS)
    assert rejected["reasons"].to_list() == ["segment_id:UNKNOWN", "segment_id:MISSING"]
    _, without = accept("segment_event", rows, small_site(), NO_SHIFTS)
    assert without["reasons"].to_list() == ["segment_id:MISSING"]


def test_an_operation_must_be_one_of_the_products_own_route_unless_it_has_none() -> None:
    site = routed_site()
    milling = site["routings"].with_columns(segment_id=pl.lit("milling"), sequence=pl.lit(2, dtype=pl.Int64))
    other = milling.with_columns(material_definition_id=pl.lit("GEAR"))
    both = replace(site, tables={**site.tables, "routings": pl.concat([site["routings"], other])})
    rows = raw("segment_event", {"segment_id": "milling"})
    assert accept("segment_event", rows, both, NO_SHIFTS)[1]["reasons"].to_list() == ["segment_id:NOT_IN_ROUTE"]
    free = raw("segment_event", {"segment_id": "turning", "material_definition_id": "GEAR"})
    assert accept("segment_event", free, site, NO_SHIFTS)[1].is_empty()


def test_a_part_that_kept_its_number_in_rework_came_of_itself() -> None:
    rows = raw("material_link", {"child_id": "SUP-1", "link_type": "reworked"})
    assert accept("material_link", rows, small_site(), NO_SHIFTS)[1].is_empty()


def test_events_of_an_order_that_nobody_announced_are_accepted() -> None:
    rows = raw("work_order_event", {"job_order_id": "WO-NOBODY-KNOWS"})
    accepted, rejected = accept("work_order_event", rows, small_site(), NO_SHIFTS)
    assert (accepted.height, rejected.height) == (1, 0)

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from spc_platform.contracts.production import SHIFT_CALENDAR
from spc_platform.errors import SiteError
from spc_platform.production.calendar import assign_shift, planned_downtime, shift_calendar
from spc_platform_tests.unit.production_site import ALL_WEEK, EARLY, LATE, NIGHT, local, site, utc

DAY = date(2026, 3, 10)
LONG_AGO = utc(2026, 1, 1)


def shift(calendar: pl.DataFrame, unit: str, shift_id: str, day: date) -> dict[str, object]:
    found = calendar.filter(
        (pl.col("equipment_id") == unit) & (pl.col("shift_id") == shift_id) & (pl.col("production_date") == day)
    )
    return found.row(0, named=True)


def test_the_calendar_keeps_its_contract_and_covers_every_unit_and_date():
    calendar = shift_calendar(site("Europe/Berlin"), date(2026, 3, 9), date(2026, 3, 11))
    assert calendar.schema == SHIFT_CALENDAR.schema
    SHIFT_CALENDAR.pandera_schema().validate(calendar)
    assert calendar.height == 3 * 3 * 3
    assert calendar["duration_s"].unique().to_list() == [28800.0]


@pytest.mark.parametrize(
    ("zone", "day", "hours", "start", "end"),
    [
        # Berlin: 2026-03-29 02:00 CET -> 03:00 CEST; 2026-10-25 03:00 CEST -> 02:00 CET
        ("Europe/Berlin", date(2026, 3, 28), 7, utc(2026, 3, 28, 21), utc(2026, 3, 29, 4)),
        ("Europe/Berlin", date(2026, 10, 24), 9, utc(2026, 10, 24, 20), utc(2026, 10, 25, 5)),
        # New York: 2026-03-08 02:00 EST -> 03:00 EDT; 2026-11-01 02:00 EDT -> 01:00 EST
        ("America/New_York", date(2026, 3, 7), 7, utc(2026, 3, 8, 3), utc(2026, 3, 8, 10)),
        ("America/New_York", date(2026, 10, 31), 9, utc(2026, 11, 1, 2), utc(2026, 11, 1, 11)),
    ],
)
def test_a_night_shift_on_a_clock_change_lasts_7_or_9_hours(zone, day, hours, start, end):
    night = shift(shift_calendar(site(zone), day, day), "CNC", "night", day)
    assert (night["start_at"], night["end_at"], night["duration_s"]) == (start, end, hours * 3600.0)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York"])
def test_shifts_round_the_clock_leave_no_hole_over_a_year(zone):
    calendar = shift_calendar(site(zone), date(2026, 1, 1), date(2026, 12, 31)).filter(pl.col("equipment_id") == "CNC")
    gaps = calendar.select(gap=pl.col("start_at") - pl.col("end_at").shift(1)).drop_nulls()
    assert gaps["gap"].unique().to_list() == [timedelta(0)]
    assert calendar["duration_s"].sum() == 365 * 86400


@pytest.mark.parametrize("day", [date(2026, 3, 28), date(2026, 10, 24)])
def test_shifts_that_meet_at_a_skipped_or_doubled_time_still_touch(day):
    first = ("a", "*", "22:00", "02:30", ALL_WEEK, None, None)
    second = ("b", "*", "02:30", "06:00", ALL_WEEK, None, None)
    calendar = shift_calendar(site("Europe/Berlin", shifts=[first, second]), day, day)
    a, b = shift(calendar, "CNC", "a", day), shift(calendar, "CNC", "b", day)
    assert a["end_at"] == b["start_at"]
    assert a["duration_s"] + b["duration_s"] == (7 if day.month == 3 else 9) * 3600


def test_a_night_shift_belongs_to_the_date_on_which_it_began():
    night = shift(shift_calendar(site("Europe/Berlin"), DAY, DAY), "CNC", "night", DAY)
    assert night["end_at"] == local("Europe/Berlin", 2026, 3, 11, 6)


def test_a_shift_that_starts_after_midnight_belongs_to_the_production_day_before_in_date_and_weekday():
    friday = date(2026, 3, 13)
    rule = ("small hours", "*", "02:00", "06:00", "5", None, None)
    calendar = shift_calendar(site("Europe/Berlin", shifts=[rule]), date(2026, 3, 9), date(2026, 3, 15))
    assert calendar["production_date"].unique().to_list() == [friday]
    assert calendar["start_at"].unique().to_list() == [local("Europe/Berlin", 2026, 3, 14, 2)]
    plant = site("Europe/Berlin", shifts=[rule])
    assert calendar.select(plant.production_date(pl.col("start_at")).unique()).item() == friday


def test_weekdays_and_effective_dates_limit_a_rule():
    rule = ("day", "*", "08:00", "16:00", "12345", utc(2026, 3, 11), utc(2026, 3, 17))
    calendar = shift_calendar(site(shifts=[rule]), date(2026, 3, 9), date(2026, 3, 20))
    assert calendar["production_date"].unique().sort().to_list() == [date(2026, 3, d) for d in (11, 12, 13, 16)]


def test_the_rule_of_a_line_replaces_the_rule_for_every_line():
    own = ("early", "L2", "07:00", "13:00", "2", None, None)
    calendar = shift_calendar(site(shifts=[EARLY, own]), DAY, date(2026, 3, 11))
    assert shift(calendar, "VISION", "early", DAY)["start_at"] == utc(2026, 3, 10, 7)
    assert shift(calendar, "CNC", "early", DAY)["start_at"] == utc(2026, 3, 10, 6)
    assert calendar.filter(pl.col("equipment_id") == "VISION").height == 1


def test_overlapping_shifts_are_refused_with_their_names():
    clash = ("second", "*", "13:00", "20:00", ALL_WEEK, None, None)
    with pytest.raises(SiteError, match=r"shifts\.csv: shifts early and second of L1 overlap on production date 2026-03-10"):
        shift_calendar(site(shifts=[EARLY, clash]), DAY, DAY)


@pytest.mark.parametrize(
    ("scope", "units"), [("PLANT", ["PRESS", "CNC", "VISION"]), ("L1", ["CNC", "PRESS"]), ("CNC", ["CNC"])]
)
def test_a_holiday_removes_the_shifts_of_what_it_names(scope, units):
    entry = ("h", scope, "holiday", utc(2026, 3, 10, 6), utc(2026, 3, 10, 22), LONG_AGO, "")
    calendar = shift_calendar(site(calendar=[entry]), DAY, DAY)
    left = calendar.filter(pl.col("equipment_id").is_in(units))["shift_id"].unique().to_list()
    assert left == ["night"]
    assert calendar.height == 9 - 2 * len(units)


def test_a_partial_holiday_trims_a_shift_and_a_hole_shortens_it():
    trims = ("t", "CNC", "no_production", utc(2026, 3, 10, 4), utc(2026, 3, 10, 8), LONG_AGO, "")
    hole = ("h", "CNC", "holiday", utc(2026, 3, 10, 16), utc(2026, 3, 10, 17), LONG_AGO, "")
    calendar = shift_calendar(site(calendar=[trims, hole]), DAY, DAY)
    early, late = shift(calendar, "CNC", "early", DAY), shift(calendar, "CNC", "late", DAY)
    assert (early["start_at"], early["duration_s"]) == (utc(2026, 3, 10, 8), 6 * 3600.0)
    assert (late["start_at"], late["end_at"], late["duration_s"]) == (utc(2026, 3, 10, 14), utc(2026, 3, 10, 22), 7 * 3600.0)


def test_breaks_and_maintenance_that_overlap_are_counted_once():
    pause = ("early", "*", "09:00", "09:30", "")
    service = ("m", "CNC", "planned_maintenance", utc(2026, 3, 10, 9, 15), utc(2026, 3, 10, 11), LONG_AGO, "")
    plant = site(breaks=[pause], calendar=[service])
    down = planned_downtime(plant, DAY, DAY).filter(pl.col("equipment_id") == "CNC")
    assert down.select("start_at", "end_at", "kind").rows() == [
        (utc(2026, 3, 10, 9), utc(2026, 3, 10, 9, 15), "break"),
        (utc(2026, 3, 10, 9, 15), utc(2026, 3, 10, 11), "planned_maintenance"),
    ]
    calendar = shift_calendar(plant, DAY, DAY)
    assert shift(calendar, "CNC", "early", DAY)["planned_down_s"] == 2 * 3600.0
    assert shift(calendar, "PRESS", "early", DAY)["planned_down_s"] == 1800.0


def test_maintenance_recorded_after_its_start_counts_from_its_recording_on():
    late = ("m", "L1", "planned_maintenance", utc(2026, 3, 10, 7), utc(2026, 3, 10, 10), utc(2026, 3, 10, 9), "")
    after = ("n", "L1", "planned_maintenance", utc(2026, 3, 10, 15), utc(2026, 3, 10, 16), utc(2026, 3, 10, 16), "")
    down = planned_downtime(site(calendar=[late, after]), DAY, DAY).filter(pl.col("equipment_id") == "CNC")
    assert down.select("start_at", "end_at").rows() == [(utc(2026, 3, 10, 9), utc(2026, 3, 10, 10))]


@pytest.mark.parametrize(
    ("day", "start"),
    [
        (DAY, local("Europe/Berlin", 2026, 3, 11, 2, 30)),
        (date(2026, 3, 28), utc(2026, 3, 29, 1, 30)),  # 02:30 is skipped: taken in CET, shown as 03:30
        (date(2026, 10, 24), utc(2026, 10, 25, 0, 30)),  # 02:30 comes twice: the first one, CEST
    ],
)
def test_a_break_after_midnight_keeps_its_length_in_every_night(day, start):
    plant = site("Europe/Berlin", shifts=[NIGHT], breaks=[("night", "L1", "02:30", "03:00", "")])
    down = planned_downtime(plant, day, day)
    assert down["equipment_id"].to_list() == ["CNC", "PRESS"]
    assert down["start_at"].unique().to_list() == [start]
    assert (down["end_at"] - down["start_at"]).dt.total_minutes().to_list() == [30, 30]


def test_a_break_across_midnight_is_one_break():
    down = planned_downtime(site(breaks=[("night", "L2", "23:45", "00:15", "")]), DAY, DAY)
    assert down.rows() == [("VISION", utc(2026, 3, 10, 23, 45), utc(2026, 3, 11, 0, 15), "break")]


def test_planned_downtime_never_reaches_outside_operation_time():
    weekend = ("m", "PLANT", "planned_maintenance", utc(2026, 3, 10), utc(2026, 3, 12), LONG_AGO, "")
    closed = ("h", "CNC", "holiday", utc(2026, 3, 10, 6), utc(2026, 3, 10, 12), LONG_AGO, "")
    down = planned_downtime(site(shifts=[EARLY], calendar=[weekend, closed]), DAY, DAY)
    assert down.select("equipment_id", "start_at", "end_at").rows() == [
        ("CNC", utc(2026, 3, 10, 12), utc(2026, 3, 10, 14)),
        ("PRESS", utc(2026, 3, 10, 6), utc(2026, 3, 10, 14)),
        ("VISION", utc(2026, 3, 10, 6), utc(2026, 3, 10, 14)),
    ]


def test_an_instant_on_a_border_belongs_to_the_shift_that_begins():
    calendar = shift_calendar(site(shifts=[EARLY, LATE]), DAY, DAY)
    at = [
        utc(2026, 3, 10, 14),
        datetime(2026, 3, 10, 13, 59, 59, 999999, tzinfo=UTC),
        utc(2026, 3, 10, 22),
        utc(2026, 3, 10, 5, 59),
        None,
        utc(2026, 3, 10, 7),
        utc(2026, 3, 10, 7),
    ]
    frame = pl.DataFrame(
        {"equipment_id": ["CNC"] * 5 + ["nobody", None], "at": at},
        schema={"equipment_id": pl.String, "at": pl.Datetime("us", "UTC")},
    )
    assigned = assign_shift(frame, "at", calendar)
    assert assigned["shift_id"].to_list() == ["late", "early", None, None, None, None, None]
    assert assigned.select("equipment_id", "at").equals(frame)
    assert assign_shift(frame.clear(), "at", calendar).columns == ["equipment_id", "at", "shift_id"]


def test_a_site_without_shifts_has_an_empty_calendar():
    assert shift_calendar(site(shifts=[]), DAY, DAY).equals(SHIFT_CALENDAR.empty())

from __future__ import annotations

from datetime import date

import polars as pl
import pytest

from spc_platform.contracts.core import EQUIPMENT_STATE_REJECTED
from spc_platform.contracts.production import DOWNTIME_EVENT, STATE_INTERVAL
from spc_platform.production.calendar import shift_calendar
from spc_platform.production.states import downtime_events, state_intervals
from spc_platform.site.model import Policies
from spc_platform_tests.unit.production_site import EARLY, LATE, NIGHT, REASONS, local, orders, site, states, utc

DAY = date(2026, 3, 10)
LATER = utc(2026, 3, 12)
LONG_AGO = utc(2026, 1, 1)
NO_ORDERS = orders()


def at(hour: int, minute: int = 0, second: int = 0, day: int = 10):
    return utc(2026, 3, day, hour, minute, second)


def pieces(records, plant, *, work_order=NO_ORDERS, day=DAY, as_of=LATER, unit="CNC") -> pl.DataFrame:
    frame = state_intervals(records, work_order, plant, day, as_of)
    assert frame.schema == STATE_INTERVAL.schema
    STATE_INTERVAL.pandera_schema().validate(frame)
    return frame.filter(pl.col("equipment_id") == unit)


def spans(frame: pl.DataFrame, *columns: str) -> list[tuple[object, ...]]:
    return frame.select("start_at", "end_at", *columns).rows()


def test_a_state_lasts_until_the_next_begins_and_a_unit_without_records_is_unknown():
    records = states(("RUN", at(6)), ("SETUP", at(9)), ("RUN", at(10)), ("IDLE", at(13), at(14)))
    plant = site(shifts=[EARLY])
    assert spans(pieces(records, plant), "time_element", "stop_class", "event_duration_s") == [
        (at(6), at(9), "APT", None, 10800.0),
        (at(9), at(10), "AUST", "setup", 3600.0),
        (at(10), at(13), "APT", None, 10800.0),
        (at(13), at(14), "ADOT", "no_order", 3600.0),
    ]
    assert spans(pieces(records, plant, unit="PRESS"), "state", "time_element", "stop_class", "event_id") == [
        (at(6), at(14), "UNKNOWN", "UNKNOWN", "unknown", None)
    ]


def test_a_gap_between_events_is_unknown_and_has_no_event():
    records = states(("RUN", at(6), at(7)), ("RUN", at(8), at(14)))
    gap = pieces(records, site(shifts=[EARLY])).filter(pl.col("event_id").is_null())
    assert spans(gap, "time_element", "event_duration_s", "is_open") == [(at(7), at(8), "UNKNOWN", None, False)]


def test_an_open_state_is_clipped_at_as_of_and_nothing_lies_beyond():
    frame = pieces(states(("RUN", at(6)), ("STOP", at(10), None, "tool")), site(shifts=[EARLY, LATE]), as_of=at(12, 30))
    assert spans(frame, "is_open", "event_duration_s") == [(at(6), at(10), False, 14400.0), (at(10), at(12, 30), True, 9000.0)]


def test_an_event_that_ends_after_as_of_is_open_then_and_closed_later():
    records = states(("STOP", at(10), at(13), "tool"))
    plant = site(shifts=[EARLY])
    early = downtime_events(records, plant, DAY, at(11))
    late = downtime_events(records, plant, DAY, LATER)
    assert early.select("end_at", "duration_s", "is_open").rows() == [(at(11), 3600.0, True)]
    assert late.select("end_at", "duration_s", "is_open").rows() == [(at(13), 10800.0, False)]


def test_before_the_first_shift_nothing_is_known():
    assert pieces(states(("RUN", at(6))), site(), as_of=at(5)).is_empty()


def test_of_overlapping_states_the_higher_priority_is_in_force_and_the_lower_comes_back():
    records = states(("RUN", at(6), at(14)), ("STOP", at(8), at(9), "tool"))
    assert spans(pieces(records, site(shifts=[EARLY])), "state", "event_id") == [
        (at(6), at(8), "RUN", "mes:0000"),
        (at(8), at(9), "STOP", "mes:0001"),
        (at(9), at(14), "RUN", "mes:0000"),
    ]


def test_at_equal_priority_the_later_start_and_then_the_higher_record_id_is_in_force():
    records = states(
        ("STOP", at(6), at(14), "tool", "z"), ("STOP", at(8), at(10), "jam", "a"), ("STOP", at(8), at(9), "waiting", "b")
    )
    assert spans(pieces(records, site(shifts=[EARLY])), "event_id") == [
        (at(6), at(8), "mes:z"),
        (at(8), at(9), "mes:b"),
        (at(9), at(10), "mes:a"),
        (at(10), at(14), "mes:z"),
    ]


def test_overlapping_stops_never_take_more_time_than_there_is():
    records = states(*(("STOP", at(6 + n % 3, n), at(12, n), "tool") for n in range(30)))
    frame = pieces(records, site(shifts=[EARLY]))
    assert frame["duration_s"].sum() == 8 * 3600.0
    assert frame.filter(pl.col("time_element") == "ADET")["duration_s"].sum() == 6 * 3600.0 + 29 * 60


def test_a_micro_stop_split_at_a_shift_edge_keeps_one_event_and_its_class():
    records = states(("RUN", at(6)), ("STOP", at(13, 58), None, "jam"), ("RUN", at(14, 1)), ("RUN", at(21)))
    stop = pieces(records, site(shifts=[EARLY, LATE])).filter(pl.col("state") == "STOP")
    assert stop.select("shift_id", "duration_s", "event_duration_s", "stop_class", "event_id").rows() == [
        ("early", 120.0, 180.0, "micro_stop", "mes:0001"),
        ("late", 60.0, 180.0, "micro_stop", "mes:0001"),
    ]


def test_a_breakdown_split_at_a_shift_edge_is_not_two_micro_stops():
    # 4 min before and 2 min after the edge: 6 min in all, more than the 5 min of a micro stop
    records = states(("STOP", at(13, 56), at(14, 2), "tool"))
    stop = pieces(records, site(shifts=[EARLY, LATE])).filter(pl.col("state") == "STOP")
    assert stop["stop_class"].to_list() == ["breakdown", "breakdown"]
    assert stop["duration_s"].to_list() == [240.0, 120.0]


@pytest.mark.parametrize(("seconds", "stop_class"), [(299, "micro_stop"), (300, "breakdown")])
def test_the_shortest_breakdown_lasts_exactly_the_threshold(seconds, stop_class):
    records = states(("STOP", at(8), at(8, seconds // 60, seconds % 60), "tool"))
    stop = downtime_events(records, site(), DAY, LATER)
    assert stop.select("stop_class", "duration_s").row(0) == (stop_class, float(seconds))


def test_the_night_shift_keeps_what_happened_after_midnight():
    records = states(("RUN", at(22)), ("STOP", at(3, day=11), None, "tool"), ("RUN", at(4, day=11)))
    plant = site(shifts=[NIGHT])
    frame = pieces(records, plant)
    assert spans(frame, "time_element") == [
        (at(22), at(3, day=11), "APT"),
        (at(3, day=11), at(4, day=11), "ADET"),
        (at(4, day=11), at(6, day=11), "APT"),
    ]
    assert frame["production_date"].unique().to_list() == [DAY]
    stop = downtime_events(records, plant, DAY, LATER)
    assert stop.select("shift_id", "start_at", "production_date").row(0) == ("night", at(3, day=11), DAY)
    assert downtime_events(records, plant, date(2026, 3, 11), LATER).is_empty()


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", date(2026, 3, 28), 7),
        ("Europe/Berlin", date(2026, 10, 24), 9),
        ("America/New_York", date(2026, 3, 7), 7),
        ("America/New_York", date(2026, 10, 31), 9),
    ],
)
def test_a_night_of_a_clock_change_holds_7_or_9_hours_of_states(zone, day, hours):
    start = local(zone, day.year, day.month, day.day, 22)
    frame = pieces(states(("RUN", start)), site(zone, shifts=[NIGHT]), day=day, as_of=utc(2026, 12, 1))
    assert frame.select("time_element", "duration_s").rows() == [("APT", hours * 3600.0)]


def test_a_state_carried_over_from_days_before_is_in_force_within_the_carry_only():
    records = states(("RUN", at(12, day=7)))
    plant = site(shifts=[EARLY], policies=Policies(state_carry_days=3))
    assert pieces(records, plant)["time_element"].to_list() == ["APT"]
    assert pieces(records, plant, day=date(2026, 3, 11))["time_element"].to_list() == ["UNKNOWN"]


def test_the_next_date_ends_an_event_of_this_one():
    records = states(("STOP", at(5, day=11), None, "tool"), ("RUN", at(9, day=11)))
    assert downtime_events(records, site(), DAY, LATER).select("duration_s", "is_open").row(0) == (4 * 3600.0, False)


def test_planned_downtime_counts_whatever_the_state():
    service = ("m", "CNC", "planned_maintenance", at(9), at(10), LONG_AGO, "")
    plant = site(shifts=[EARLY], breaks=[("early", "*", "12:00", "12:30", "")], calendar=[service])
    records = states(("RUN", at(6)), ("STOP", at(9), at(9, 2), "jam"), ("RUN", at(9, 2), at(14)))
    assert spans(pieces(records, plant), "state", "time_element", "stop_class") == [
        (at(6), at(9), "RUN", "APT", None),
        (at(9), at(9, 2), "STOP", "PDT", "planned"),
        (at(9, 2), at(10), "RUN", "PDT", "planned"),
        (at(10), at(12), "RUN", "APT", None),
        (at(12), at(12, 30), "RUN", "PDT", "planned"),
        (at(12, 30), at(14), "RUN", "APT", None),
    ]


def test_maintenance_recorded_after_its_start_is_delay_until_it_was_recorded():
    service = ("m", "CNC", "planned_maintenance", at(9), at(11), at(10), "")
    records = states(("RUN", at(6)), ("STOP", at(9), at(11), "service"), ("RUN", at(11), at(14)))
    stop = pieces(records, site(shifts=[EARLY], calendar=[service])).filter(pl.col("state") == "STOP")
    assert spans(stop, "time_element", "stop_class") == [
        (at(9), at(10), "ADET", "breakdown"),
        (at(10), at(11), "PDT", "planned"),
    ]


def test_a_reason_overrides_the_element_of_its_state():
    frame = pieces(states(("STOP", at(6), at(14), "waiting")), site(shifts=[EARLY]))
    assert frame.select("state", "time_element", "stop_class").rows() == [("STOP", "ADOT", "no_order")]


def test_a_holiday_takes_its_time_out_of_a_stop_but_not_out_of_the_event():
    closed = ("h", "CNC", "holiday", at(8), at(10), LONG_AGO, "")
    frame = pieces(states(("STOP", at(7), at(11), "tool")), site(shifts=[EARLY], calendar=[closed]))
    assert spans(frame, "time_element", "event_duration_s") == [
        (at(6), at(7), "UNKNOWN", None),
        (at(7), at(8), "ADET", 14400.0),
        (at(10), at(11), "ADET", 14400.0),
        (at(11), at(14), "UNKNOWN", None),
    ]


def test_pieces_are_split_where_the_product_changes():
    work_order = orders(("A", "shaft", at(5)), ("B", "gear", at(10), at(12)))
    frame = pieces(states(("RUN", at(6), at(14))), site(shifts=[EARLY]), work_order=work_order)
    assert spans(frame, "material_definition_id", "event_id", "event_duration_s") == [
        (at(6), at(10), "shaft", "mes:0000", 28800.0),
        (at(10), at(12), "gear", "mes:0000", 28800.0),
        (at(12), at(14), None, "mes:0000", 28800.0),
    ]
    assert pieces(states(unit="VISION"), site(shifts=[EARLY]), work_order=work_order, unit="VISION")[
        "material_definition_id"
    ].to_list() == [None]


def test_of_two_orders_at_once_the_later_one_names_the_product():
    work_order = orders(("A", "shaft", at(5), at(14)), ("B", "gear", at(8), at(9)))
    frame = pieces(states(("RUN", at(6), at(14))), site(shifts=[EARLY]), work_order=work_order)
    assert frame["material_definition_id"].to_list() == ["shaft", "gear", "shaft"]


def test_downtime_lists_each_stop_once_with_its_loss():
    records = states(
        ("RUN", at(6)),
        ("STOP", at(8), at(8, 2), "jam"),
        ("SETUP", at(9), at(10)),
        ("IDLE", at(22, day=10), at(23)),
        ("STOP", at(5), at(7), "tool"),
        ("STOP", at(11), at(12), "service"),
    )
    service = ("m", "CNC", "planned_maintenance", at(11), at(12), LONG_AGO, "")
    plant = site(shifts=[EARLY], calendar=[service])
    events = downtime_events(records, plant, DAY, LATER)
    assert events.schema == DOWNTIME_EVENT.schema
    DOWNTIME_EVENT.pandera_schema().validate(events)
    assert events.select("event_id", "shift_id", "time_element", "stop_class", "loss_category", "duration_s").rows() == [
        ("mes:0001", "early", "ADET", "micro_stop", "minor_stoppage", 120.0),
        ("mes:0002", "early", "AUST", "setup", None, 3600.0),
        ("mes:0005", "early", "PDT", "planned", None, 3600.0),
        ("mes:0003", None, "ADOT", "planned", None, 3600.0),
    ]
    before = downtime_events(records, plant, date(2026, 3, 9), LATER)
    assert before.select("event_id", "shift_id", "stop_class").rows() == [("mes:0004", None, "breakdown")]


@pytest.mark.parametrize(
    ("recorded", "found"),
    [(LONG_AGO, ("PDT", "planned")), (at(11, 30), ("ADET", "breakdown")), (at(13), ("ADET", "breakdown"))],
)
def test_a_service_is_a_loss_unless_the_calendar_planned_all_of_it(recorded, found):
    service = ("m", "CNC", "planned_maintenance", at(11), at(12), recorded, "")
    records = states(("STOP", at(11), at(12), "service"))
    assert downtime_events(records, site(calendar=[service]), DAY, LATER).select("time_element", "stop_class").row(0) == found


def test_a_break_recorded_as_a_stop_is_no_breakdown():
    plant = site(breaks=[("early", "*", "09:00", "09:30", "")])
    records = states(("STOP", at(9), at(9, 30)), ("STOP", at(11), at(11, 30)))
    assert downtime_events(records, plant, DAY, LATER)["stop_class"].to_list() == ["planned", "breakdown"]


def test_a_stop_of_a_state_that_the_site_does_not_map_is_unknown():
    frame = pieces(states(("ODD", at(6), at(14))), site(shifts=[EARLY], reasons=REASONS))
    assert frame.select("state", "time_element", "stop_class", "event_id").rows() == [("ODD", "UNKNOWN", "unknown", "mes:0000")]


def test_the_pieces_of_each_shift_add_up_to_its_calendar():
    plant = site("Europe/Berlin", breaks=[("late", "L1", "18:00", "18:30", "")])
    records = states(("RUN", at(3)), ("STOP", at(7, 3, 20), None, "jam"), ("RUN", at(7, 5, 1)))
    frame = state_intervals(records, NO_ORDERS, plant, DAY, LATER)
    sums = frame.group_by("equipment_id", "shift_id").agg(
        pl.col("duration_s").sum(), planned=pl.col("duration_s").filter(pl.col("time_element") == "PDT").sum()
    )
    joined = shift_calendar(plant, DAY, DAY).join(sums, on=["equipment_id", "shift_id"])
    assert joined.height == 9
    assert joined["duration_s"].to_list() == joined["duration_s_right"].to_list()
    assert joined["planned_down_s"].to_list() == joined["planned"].to_list()


def refused(*rows: tuple[object, ...], reasons: str = "state:UNKNOWN") -> pl.DataFrame:
    """Refused equipment_state from (state, start, end, record_id), the last two optional."""
    told = [
        (row[0], row[1], row[2] if len(row) > 2 else None, None, row[3] if len(row) > 3 else f"bad{n}")
        for n, row in enumerate(rows)
    ]
    frame = states(*told).with_columns(reasons=pl.lit(reasons))
    missing = {name: pl.lit(None, kind) for name, kind in EQUIPMENT_STATE_REJECTED.schema.items() if name not in frame.columns}
    return EQUIPMENT_STATE_REJECTED.conform(frame.with_columns(**missing))


def with_refused(records, bad, *, as_of=LATER) -> pl.DataFrame:
    frame = state_intervals(records, NO_ORDERS, site(shifts=[EARLY]), DAY, as_of, bad)
    STATE_INTERVAL.pandera_schema().validate(frame)
    return frame.filter(pl.col("equipment_id") == "CNC")


def test_a_refused_record_ends_the_open_state_and_leaves_it_unknown_until_the_next_record():
    records = states(("RUN", at(6)), ("RUN", at(9)))
    frame = with_refused(records, refused(("UNAVAILABLE", at(7, 30))))
    assert spans(frame, "time_element", "stop_class", "event_id", "unknown_reason") == [
        (at(6), at(7, 30), "APT", None, "mes:0000", None),
        (at(7, 30), at(9), "UNKNOWN", "unknown", "mes:bad0", "state:UNKNOWN"),
        (at(9), at(14), "APT", None, "mes:0001", None),
    ]
    assert frame["duration_s"].sum() == 8 * 3600


def test_a_refused_record_takes_nothing_from_a_state_whose_end_is_recorded():
    records = states(("RUN", at(6), at(10)))
    frame = with_refused(records, refused(("UNAVAILABLE", at(9))))
    assert spans(frame, "time_element", "unknown_reason") == [
        (at(6), at(10), "APT", None),
        (at(10), at(14), "UNKNOWN", "state:UNKNOWN"),
    ]


def test_a_refused_record_lasts_no_longer_than_its_own_end_and_than_the_next_record():
    records = states(("RUN", at(6)), ("RUN", at(9), at(10)))
    bad = refused(("X", at(7), at(8)), ("Y", at(8, 30), at(13)))
    assert spans(with_refused(records, bad), "time_element", "event_id", "unknown_reason") == [
        (at(6), at(7), "APT", "mes:0000", None),
        (at(7), at(8), "UNKNOWN", "mes:bad0", "state:UNKNOWN"),
        (at(8), at(8, 30), "UNKNOWN", None, None),
        (at(8, 30), at(9), "UNKNOWN", "mes:bad1", "state:UNKNOWN"),
        (at(9), at(10), "APT", "mes:0001", None),
        (at(10), at(14), "UNKNOWN", None, None),
    ]


def test_a_refused_end_before_start_ends_the_state_before_it_and_has_no_end_of_its_own():
    bad = refused(("STOP", at(8), at(7)), reasons="end_at:BEFORE_START")
    frame = with_refused(states(("RUN", at(6))), bad, as_of=at(12))
    assert spans(frame, "time_element", "unknown_reason", "is_open") == [
        (at(6), at(8), "APT", None, False),
        (at(8), at(12), "UNKNOWN", "end_at:BEFORE_START", True),
    ]


@pytest.mark.parametrize(
    "reasons",
    ["equipment_id:UNKNOWN", "start_at:AFTER_RECORDING", "state:UNKNOWN;start_at:BEFORE_HORIZON", "start_at:NOT_A_TIME"],
)
def test_a_refused_record_of_which_unit_or_time_is_in_doubt_ends_nothing(reasons):
    records = states(("RUN", at(6)))
    assert with_refused(records, refused(("X", at(8)), reasons=reasons)).equals(with_refused(records, None))


def test_a_refused_record_that_ends_as_it_begins_or_begins_with_an_accepted_one_changes_nothing():
    records = states(("RUN", at(6)), ("STOP", at(8), None, "tool"))
    bad = refused(("X", at(7), at(7)), ("Y", at(8)))
    assert with_refused(records, bad).equals(with_refused(records, None))


def test_a_refused_record_ends_an_open_stop_in_the_list_of_stops_too():
    records = states(("STOP", at(8), None, "tool"), ("RUN", at(9)))
    stops = downtime_events(records, site(shifts=[EARLY]), DAY, LATER, refused(("X", at(8, 2))))
    assert stops.select("end_at", "duration_s", "stop_class", "state").rows() == [(at(8, 2), 120.0, "micro_stop", "STOP")]

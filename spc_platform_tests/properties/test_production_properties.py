from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from spc_platform.contracts.production import STATE_INTERVAL
from spc_platform.production.calendar import operation_time, planned_downtime, shift_calendar
from spc_platform.production.oee import oee_elements
from spc_platform.production.states import state_intervals
from spc_platform.site.model import Site
from spc_platform_tests.unit.production_site import EARLY, LATE, NIGHT, STATES, counts, orders, site, states, utc

DAY = date(2026, 3, 28)  # its night shift loses an hour in Berlin
DAWN = utc(2026, 3, 28, 5)
MINUTES = 23 * 60
NO_ORDERS = orders()
PRIORITY = {state: priority for _, state, _, priority in STATES}
ELEMENT = {state: element for _, state, element, _ in STATES}

minute = st.integers(-200, MINUTES + 100)
event = st.tuples(st.sampled_from(["RUN", "SETUP", "STOP", "IDLE"]), minute, st.none() | st.integers(1, 400))
events = st.lists(event, max_size=14)
entry = st.tuples(
    st.sampled_from(["holiday", "no_production", "planned_maintenance", "break"]),
    st.sampled_from(["PLANT", "L1", "CNC"]),
    minute,
    st.integers(1, 300),
    st.integers(-100, 200),
)
entries = st.lists(entry, max_size=4)
few = settings(max_examples=25, deadline=None)


def moment(after: int) -> datetime:
    return DAWN + timedelta(minutes=after)


def records(drawn: list[tuple[str, int, int | None]]) -> pl.DataFrame:
    return states(
        *((state, moment(start), None if length is None else moment(start + length)) for state, start, length in drawn)
    )


def plant(drawn: list[tuple[str, str, int, int, int]]) -> Site:
    calendar: list[Any] = [
        (f"e{number}", scope, kind, moment(start), moment(start + length), moment(start + lag), "")
        for number, (kind, scope, start, length, lag) in enumerate(drawn)
    ]
    return site(
        "Europe/Berlin",
        shifts=[EARLY, LATE, NIGHT],
        breaks=[("night", "*", "01:45", "02:15", ""), ("early", "L1", "09:00", "09:20", "")],
        calendar=calendar,
        products=[("shaft", "CNC", 45.0, utc(2026, 1, 1), None)],
    )


def minute_by_minute(drawn: list[tuple[str, int, int | None]], until: int) -> list[str]:
    """Element of each minute, by asking every event about every minute."""
    known = [(*row, f"{number:04d}") for number, row in enumerate(drawn) if row[1] < until]
    starts = sorted({start for _, start, _, _ in known})
    found = []
    for now in range(until):
        active = []
        for state, start, length, record_id in known:
            following = [other for other in starts if other > start]
            end = start + length if length is not None else (following[0] if following else until)
            if start <= now < end:
                active.append((PRIORITY[state], start, record_id, ELEMENT[state]))
        found.append(max(active)[3] if active else "UNKNOWN")
    return found


@few
@given(events, st.integers(1, MINUTES))
def test_every_minute_has_the_element_of_the_state_in_force(drawn, until):
    bare = site("Europe/Berlin")
    frame = state_intervals(records(drawn), NO_ORDERS, bare, DAY, moment(until)).filter(pl.col("equipment_id") == "CNC")
    found: list[str] = []
    for row in frame.sort("start_at").iter_rows(named=True):
        found += [row["time_element"]] * round(row["duration_s"] / 60)
    assert found == minute_by_minute(drawn, until)


@few
@given(events, entries, st.integers(-60, MINUTES + 60))
def test_pieces_partition_the_operation_time_of_every_unit_exactly(drawn, calendar, until):
    here = plant(calendar)
    as_of = moment(until)
    frame = state_intervals(records(drawn), NO_ORDERS, here, DAY, as_of)
    STATE_INTERVAL.pandera_schema().validate(frame)
    assert frame.filter(pl.col("end_at") <= pl.col("start_at")).is_empty()
    overlap = frame.with_columns(_next=pl.col("start_at").shift(-1).over("equipment_id", order_by="start_at"))
    assert overlap.filter(pl.col("_next") < pl.col("end_at")).is_empty()
    planned = operation_time(here, DAY, DAY).with_columns(end_at=pl.min_horizontal("end_at", pl.lit(as_of)))
    span = (pl.col("end_at") - pl.col("start_at")).sum()
    keys = ["equipment_id", "shift_id"]
    expected = planned.filter(pl.col("start_at") < pl.col("end_at")).group_by(keys).agg(span)
    assert frame.group_by(keys).agg(span).sort(keys).equals(expected.sort(keys))
    down = frame.filter(pl.col("time_element") == "PDT").select(span).item()
    calendar_down = planned_downtime(here, DAY, DAY).with_columns(end_at=pl.min_horizontal("end_at", pl.lit(as_of)))
    assert down == calendar_down.filter(pl.col("start_at") < pl.col("end_at")).select(span).item()


@few
@given(events, entries, st.integers(1, MINUTES))
def test_elements_add_up_to_the_shift_calendar(drawn, calendar, until):
    here = plant(calendar)
    produced = counts(("shaft", moment(30), 3, 1, 0), ("shaft", moment(600), 7, 0, 2))
    late = moment(MINUTES + 600)
    frame = oee_elements(state_intervals(records(drawn), NO_ORDERS, here, DAY, late), produced, here, DAY, late)
    assert frame.select(
        (pl.col("pot_s") == pl.sum_horizontal("pdt_s", "apt_s", "aust_s", "adet_s", "adot_s", "unknown_s")).all(),
        (pl.col("pbt_s") == pl.col("pot_s") - pl.col("pdt_s")).all(),
        (pl.col("minor_stop_s") <= pl.col("adet_s")).all(),
    ).row(0) == (True, True, True)
    shifts = shift_calendar(here, DAY, DAY)
    assert frame["pot_s"].sum() == shifts["duration_s"].sum()
    assert frame["pdt_s"].sum() == shifts["planned_down_s"].sum()


@few
@given(events, entries, st.integers(0, 2**16))
def test_any_row_order_gives_the_same_frame(drawn, calendar, seed):
    here = plant(calendar)
    shuffled = Site(
        **{
            **{name: getattr(here, name) for name in here.__dataclass_fields__},
            "tables": {name: frame.sample(fraction=1, shuffle=True, seed=seed) for name, frame in here.tables.items()},
        }
    )
    work_order = orders(("A", "shaft", moment(-10)), ("B", "gear", moment(100), moment(500)), ("C", "shaft", moment(100)))
    as_of = moment(MINUTES)
    ordered = state_intervals(records(drawn), work_order, here, DAY, as_of)
    mixed = [frame.sample(fraction=1, shuffle=True, seed=seed) for frame in (records(drawn), work_order)]
    assert state_intervals(*mixed, shuffled, DAY, as_of).equals(ordered)
    assert oee_elements(ordered.reverse(), counts(), shuffled, DAY, as_of).equals(
        oee_elements(ordered, counts(), here, DAY, as_of)
    )

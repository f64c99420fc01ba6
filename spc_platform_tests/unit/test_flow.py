from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from spc_platform.contracts.performance import BOTTLENECK, FLOW_INTERVAL
from spc_platform.contracts.production import STATE_INTERVAL
from spc_platform.errors import ContractError
from spc_platform.production.flow import bottlenecks, flow_intervals, neighbours
from spc_platform.production.states import state_intervals
from spc_platform_tests.unit.production_site import EARLY, LATE, NIGHT, orders, site, states, utc

DAY = date(2026, 3, 10)
START = utc(2026, 3, 10, 6)
STATE = {"APT": "RUN", "AUST": "SETUP", "ADET": "STOP", "ADOT": "IDLE", "PDT": "STOP", "UNKNOWN": "UNKNOWN"}


def at(minute: float) -> datetime:
    return START + timedelta(minutes=minute)


def did(*rows: tuple[str, str, float, float], shift_minutes: int = 480) -> pl.DataFrame:
    """State intervals from (unit, element, start minute, end minute); the first letter of a unit names its line."""
    filled = [
        {
            **dict.fromkeys(STATE_INTERVAL.names),
            "equipment_id": unit,
            "work_center_id": unit[0],
            "shift_id": "early" if start < shift_minutes else "late",
            "state": STATE[element],
            "time_element": element,
            "start_at": at(start),
            "end_at": at(end),
            "production_date": DAY,
        }
        for unit, element, start, end in rows
    ]
    return pl.DataFrame(filled, schema=STATE_INTERVAL.schema)


def route(*rows: tuple[str, int, str | None]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=["material_definition_id", "sequence", "equipment_id"], orient="row")


LINE = neighbours(route(("shaft", 10, "M1"), ("shaft", 20, "M2"), ("shaft", 30, "M3")))


def explained(frame: pl.DataFrame, pairs: pl.DataFrame = LINE, **kept: Any) -> list[tuple[Any, ...]]:
    found = flow_intervals(frame, pairs)
    FLOW_INTERVAL.pandera_schema().validate(found)
    minute = (pl.col("start_at", "end_at") - START).dt.total_minutes()
    return found.select("equipment_id", "flow_state", minute).rows()


def test_neighbours_follow_the_route_and_parallel_units_all_feed_the_next_place():
    found = neighbours(
        route(("a", 1, "M1"), ("a", 2, "M2"), ("a", 2, "M3"), ("a", 5, "M4"), ("a", 6, "M4"), ("b", 1, "M1"), ("b", 2, "M4"))
    )
    assert found.rows() == [("M1", "M2"), ("M1", "M3"), ("M1", "M4"), ("M2", "M4"), ("M3", "M4")]


def test_a_route_without_a_place_is_refused():
    with pytest.raises(ContractError, match=r"SPC-628.*shaft, sequence=10, equipment_id=None"):
        neighbours(route(("shaft", 10, None)))


def test_a_unit_starves_below_a_stop_and_is_blocked_above_one():
    """M2 is down 10-20. M3 idles 5-25: starved from 10 to 20. M1 idles 15-30: blocked from 15 to 20."""
    frame = did(
        ("M1", "APT", 0, 15),
        ("M1", "ADOT", 15, 30),
        ("M2", "APT", 0, 10),
        ("M2", "ADET", 10, 20),
        ("M2", "APT", 20, 30),
        ("M3", "APT", 0, 5),
        ("M3", "ADOT", 5, 25),
        ("M3", "APT", 25, 30),
    )
    expected = [
        ("M1", "blocked", 15, 20),
        ("M1", "idle", 20, 30),
        ("M3", "idle", 5, 10),
        ("M3", "starved", 10, 20),
        ("M3", "idle", 20, 25),
    ]
    assert explained(frame) == expected
    assert explained(frame.sample(fraction=1, shuffle=True, seed=4)) == expected


def test_a_unit_between_two_stops_is_both_and_a_unit_two_places_away_is_not_explained():
    frame = did(("M1", "ADET", 0, 20), ("M2", "ADOT", 0, 30), ("M3", "AUST", 10, 30))
    assert explained(frame) == [("M2", "starved", 0, 10), ("M2", "starved_and_blocked", 10, 20), ("M2", "blocked", 20, 30)]
    assert explained(did(("M1", "ADET", 0, 20), ("M2", "ADOT", 0, 20), ("M3", "ADOT", 0, 20)))[1] == ("M3", "idle", 0, 20)


def test_one_of_two_parallel_feeders_keeps_a_unit_from_starving():
    pairs = neighbours(route(("a", 1, "M1"), ("a", 1, "M2"), ("a", 2, "M3")))
    frame = did(("M1", "ADET", 0, 20), ("M2", "ADET", 10, 30), ("M3", "ADOT", 0, 30))
    assert explained(frame, pairs) == [("M3", "idle", 0, 10), ("M3", "starved", 10, 20), ("M3", "idle", 20, 30)]


def test_stops_that_touch_are_one_and_planned_downtime_of_a_neighbour_explains_nothing():
    frame = did(("M1", "ADET", 0, 10), ("M1", "AUST", 10, 20), ("M1", "PDT", 20, 30), ("M2", "ADOT", 0, 30))
    assert explained(frame) == [("M2", "starved", 0, 20), ("M2", "idle", 20, 30)]
    on_break = did(("M2", "PDT", 0, 30)).with_columns(state=pl.lit("IDLE"))
    assert explained(on_break) == [], "idle in a planned break is no idle time"
    assert explained(did(("M2", "ADOT", 0, 30)), LINE.clear()) == [("M2", "idle", 0, 30)]


def judged(frame: pl.DataFrame) -> dict[tuple[str, str], tuple[float, float, float, float, bool]]:
    found = bottlenecks(frame)
    BOTTLENECK.pandera_schema().validate(found)
    return {
        (row["equipment_id"], row["shift_id"]): (
            *(row[name] / 60 for name in ("active_s", "momentary_s", "sole_s", "shifting_s")),
            row["is_bottleneck"],
        )
        for row in found.iter_rows(named=True)
    }


def test_the_bottleneck_shifts_where_two_longest_active_periods_overlap():
    """Roser 2002: M1 active 0-10, M2 8-20, M3 5-7. M1 is longest until M2 begins; 8-10 is the shift; M3 never counts."""
    frame = did(("M1", "APT", 0, 6), ("M1", "ADET", 6, 10), ("M1", "ADOT", 10, 20), ("M2", "APT", 8, 20), ("M3", "AUST", 5, 7))
    assert judged(frame) == {
        ("M1", "early"): (10, 8, 8, 2, False),
        ("M2", "early"): (12, 12, 10, 2, True),
        ("M3", "early"): (2, 0, 0, 0, False),
    }


def test_an_active_period_runs_on_over_a_shift_edge_and_planned_downtime_ends_it():
    """M1 470-490 (20 min), M2 468-483 (15), M3 460-474 and, after a break, 476-490 (14 each). Longest: M3 460-468,
    M2 468-470, M1 470-490. M3's second period never is, though without the break its 30 minutes would rule all."""
    frame = did(
        ("M1", "APT", 470, 480),
        ("M1", "APT", 480, 490),
        ("M2", "APT", 468, 480),
        ("M2", "APT", 480, 483),
        ("M3", "APT", 460, 474),
        ("M3", "PDT", 474, 476),
        ("M3", "APT", 476, 480),
        ("M3", "APT", 480, 490),
    )
    found = judged(frame)
    assert found == {
        ("M3", "early"): (18, 8, 8, 6, True),
        ("M2", "early"): (12, 2, 0, 12, False),
        ("M1", "early"): (10, 10, 0, 10, False),
        ("M1", "late"): (10, 10, 7, 3, True),
        ("M2", "late"): (3, 0, 0, 3, False),
        ("M3", "late"): (10, 0, 0, 0, False),
    }


def test_lines_are_judged_apart_and_equal_periods_go_to_the_first_unit():
    frame = did(("A2", "APT", 0, 10), ("A1", "APT", 0, 10), ("B1", "APT", 0, 5), ("B2", "ADOT", 0, 5))
    assert judged(frame) == {
        ("A1", "early"): (10, 10, 10, 0, True),
        ("A2", "early"): (10, 0, 0, 0, False),
        ("B1", "early"): (5, 5, 5, 0, True),
        ("B2", "early"): (0, 0, 0, 0, False),
    }
    assert bottlenecks(frame.sample(fraction=1, shuffle=True, seed=9)).equals(bottlenecks(frame))


def test_nothing_is_nobodys_bottleneck():
    assert bottlenecks(STATE_INTERVAL.empty()).is_empty()
    assert flow_intervals(STATE_INTERVAL.empty(), LINE).is_empty()
    assert judged(did(("M1", "ADOT", 0, 10))) == {("M1", "early"): (0, 0, 0, 0, False)}


def test_the_night_of_a_clock_change_is_seven_hours_of_bottleneck():
    """Berlin, production date 2026-03-28: CNC runs through, PRESS idles; the day is 23 hours, its night shift 7."""
    where = site("Europe/Berlin", shifts=[EARLY, LATE, NIGHT])
    began, after = utc(2026, 3, 28), utc(2026, 3, 30)
    records = pl.concat([states(("RUN", began)), states(("IDLE", began), unit="PRESS")])
    frame = state_intervals(records, orders(("A", "shaft", began)), where, date(2026, 3, 28), after)
    found = bottlenecks(frame).filter(work_center_id="L1", equipment_id="CNC")
    assert found.select("shift_id", "sole_s", "is_bottleneck").rows() == [
        ("early", 28800.0, True),
        ("late", 28800.0, True),
        ("night", 25200.0, True),
    ]

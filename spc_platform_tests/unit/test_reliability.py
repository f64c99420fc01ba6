from __future__ import annotations

import math
from datetime import date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from spc_platform.contracts.performance import RELIABILITY
from spc_platform.contracts.production import DOWNTIME_EVENT, STATE_INTERVAL
from spc_platform.errors import ContractError
from spc_platform.production.reliability import failures, reliability
from spc_platform.production.states import downtime_events, state_intervals
from spc_platform.site.model import Policies
from spc_platform_tests.unit.production_site import EARLY, LATE, NIGHT, orders, site, states, utc

MONDAY = date(2026, 3, 9)
LATER = utc(2026, 3, 20)
REASONS = [("jam", "", None, "minor_stoppage"), ("tool", "", None, "breakdown"), ("adjust", "", None, "setup_and_adjustment")]
ORDER = orders(("A", "shaft", utc(2026, 3, 1)))


def at(hour: int, minute: int = 0, second: int = 0, day: int = 9) -> datetime:
    return utc(2026, 3, day, hour, minute, second)


def watched(
    records: pl.DataFrame, where, first: date, last: date, as_of: datetime = LATER
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Downtime events and state intervals of the dates, each made on its own as the assets make them."""
    days = pl.date_range(first, last, eager=True).to_list()
    return (
        pl.concat([downtime_events(records, where, day, as_of) for day in days]),
        pl.concat([state_intervals(records, ORDER, where, day, as_of) for day in days]),
    )


def estimate(records: pl.DataFrame, where, first: date, last: date, as_of: datetime = LATER) -> dict[str, Any]:
    found = reliability(*watched(records, where, first, last, as_of), where, first, last)
    RELIABILITY.pandera_schema().validate(found)
    return found.filter(equipment_id="CNC").row(0, named=True)


def plant(*shifts: Any, confidence: float = 0.95, **tables: Any):
    return site(
        shifts=list(shifts) or [EARLY, LATE, NIGHT], reasons=REASONS, policies=Policies(confidence=confidence), **tables
    )


def until(end: datetime, *rows: tuple[Any, ...]) -> pl.DataFrame:
    return states(*rows).with_columns(end_at=pl.coalesce("end_at", pl.lit(end)))


def test_operating_time_over_failures_and_repairs_by_hand():
    """Early shift, 480 min: stops of 20 and 40 min, a 2-min jam, setup 30, adjusting 10 min. APT = 480 - 102 = 378.
    MTBF 189, MTTR 30, availability 189/219. Up to the second failure at 10:00: 240 - 20 - 2 - 30 - 10 = 178, MTTF 89."""
    records = until(
        at(14),
        ("RUN", at(6)),
        ("STOP", at(7), at(7, 20), "tool"),
        ("STOP", at(8), at(8, 2), "jam"),
        ("SETUP", at(8, 30), at(9)),
        ("STOP", at(9, 10), at(9, 20), "adjust"),
        ("STOP", at(10), at(10, 40), "tool"),
    )
    row = estimate(records, plant(EARLY), MONDAY, MONDAY)
    assert (row["operating_s"] / 60, row["failures"], row["repair_s"] / 60) == (378, 2, 60)
    assert (row["mtbf_s"] / 60, row["mttr_s"] / 60, row["mttf_s"] / 60) == (189, 30, 89)
    assert row["availability"] == pytest.approx(189 / 219, rel=1e-15)
    assert row["reason"] is None


def intervals(*hours: float, unit: str = "CNC") -> pl.DataFrame:
    """State intervals of production, one a day, of the given lengths in hours (of which a day may have too many)."""
    rows = [
        {**dict.fromkeys(STATE_INTERVAL.names), "equipment_id": unit, "time_element": "APT", "start_at": at(0, day=1)}
        | {"end_at": at(0, day=1) + timedelta(hours=length), "production_date": MONDAY}
        for length in hours
    ]
    return pl.DataFrame(rows, schema=STATE_INTERVAL.schema)


def breakdowns(*minutes: float) -> pl.DataFrame:
    rows = [
        {**dict.fromkeys(DOWNTIME_EVENT.names), "equipment_id": "CNC", "event_id": f"e{n}", "stop_class": "breakdown"}
        | {"start_at": at(n), "end_at": at(n) + timedelta(minutes=length), "is_open": False, "production_date": MONDAY}
        for n, length in enumerate(minutes)
    ]
    return pl.DataFrame(rows, schema=DOWNTIME_EVENT.schema)


def test_the_limits_of_the_nist_handbook_example():
    """NIST/SEMATECH e-Handbook 8.4.5.1: 800 h with 2 failures: MTBF 400 h, 90 % interval (127, 2251) h."""
    row = reliability(breakdowns(10, 20), intervals(800), plant(confidence=0.9), MONDAY, MONDAY).row(0, named=True)
    assert row["mtbf_s"] / 3600 == 400
    assert (round(row["mtbf_low_s"] / 3600), round(row["mtbf_high_s"] / 3600)) == (127, 2251)


def test_without_a_failure_there_is_a_lower_limit_and_no_mean():
    """Zero failures in T: P(none) = exp(-T/MTBF) = α/2, so the limit is T / -ln(α/2) in closed form."""
    row = reliability(breakdowns(), intervals(100), plant(), MONDAY, MONDAY).row(0, named=True)
    assert row["mtbf_low_s"] == pytest.approx(360_000 / -math.log(0.025), rel=1e-12)
    assert [row[name] for name in ("mtbf_s", "mtbf_high_s", "mttf_s", "mttr_s", "availability")] == [None] * 5
    assert row["reason"] == "NO_FAILURE"


def test_limits_of_one_repair_have_the_quantiles_of_an_exponential():
    """One repair of length t: χ² with 2 degrees is 2t/θ, so the limits are t / -ln(α/2) and t / -ln(1 - α/2)."""
    row = reliability(breakdowns(60), intervals(10), plant(), MONDAY, MONDAY).row(0, named=True)
    assert row["mttr_low_s"] == pytest.approx(3600 / -math.log(0.025), rel=1e-12)
    assert row["mttr_high_s"] == pytest.approx(3600 / -math.log(0.975), rel=1e-12)


def test_a_breakdown_over_three_shifts_and_two_dates_is_one_failure_on_the_date_on_which_it_began():
    tuesday, wednesday = date(2026, 3, 10), date(2026, 3, 11)
    records = until(at(6, day=12), ("RUN", at(6)), ("STOP", at(21), at(15, day=10), "tool"))
    row = estimate(records, plant(), MONDAY, tuesday)
    assert (row["failures"], row["repair_s"], row["mttr_s"]) == (1, 18 * 3600.0, 18 * 3600.0)
    assert row["operating_s"] == (15 + 15) * 3600.0
    after = estimate(records, plant(), tuesday, wednesday)
    assert (after["failures"], after["reason"]) == (0, "NO_FAILURE")


def test_an_open_stop_is_a_failure_but_no_repair():
    records = states(
        ("RUN", at(6), at(8)), ("STOP", at(8), at(8, 30), "tool"), ("RUN", at(8, 30), at(12)), ("STOP", at(12), None, "tool")
    )
    row = estimate(records, plant(EARLY), MONDAY, MONDAY, as_of=at(13))
    assert (row["failures"], row["open_failures"], row["mttr_s"], row["mtbf_s"]) == (2, 1, 1800.0, 2.75 * 3600)
    alone = estimate(states(("RUN", at(6), at(12)), ("STOP", at(12), None, "tool")), plant(EARLY), MONDAY, MONDAY, as_of=at(13))
    assert (alone["mttr_s"], alone["availability"], alone["reason"]) == (None, None, "NO_REPAIR_ENDED")


def test_planned_stops_and_nights_without_a_shift_are_no_failures():
    records = until(at(14), ("RUN", at(6)), ("STOP", at(9), at(9, 30), "tool"), ("STOP", at(15), at(20), "tool"))
    where = plant(EARLY, breaks=[("early", "*", "09:00", "09:30", "")])
    row = estimate(records, where, MONDAY, MONDAY)
    assert (row["failures"], row["operating_s"]) == (0, 7.5 * 3600)


def test_a_unit_that_never_ran_has_reasons_instead_of_figures():
    row = estimate(states(("STOP", at(6), at(14), "tool")), plant(EARLY), MONDAY, MONDAY)
    assert [row[name] for name in ("mtbf_s", "mtbf_low_s", "mttf_s", "availability")] == [None] * 4
    assert (row["failures"], row["mttr_s"], row["reason"]) == (1, 8 * 3600.0, "NEVER_RAN")


def test_a_stop_delivered_open_and_later_ended_counts_once_and_row_order_does_not_matter():
    where = plant(EARLY)
    records = until(at(14), ("RUN", at(6)), ("STOP", at(8), at(8, 30), "tool"))
    ended, runs = watched(records, where, MONDAY, MONDAY)
    early = ended.with_columns(is_open=pl.lit(value=True), end_at=pl.lit(at(8, 10)), as_of=pl.lit(at(8, 10)))
    both = pl.concat([ended, early.select(ended.columns)])
    expected = reliability(ended, runs, where, MONDAY, MONDAY)
    assert failures(both, where).height == 1
    assert reliability(both, runs.sample(fraction=1, shuffle=True, seed=7), where, MONDAY, MONDAY).equals(expected)
    assert reliability(both.clear(), runs.clear(), where, MONDAY, MONDAY).is_empty()


def test_operating_time_of_a_clock_change_is_what_the_clock_really_gave():
    """Berlin, production date 2026-03-28: 23 hours, one failure of 1 hour."""
    where = site("Europe/Berlin", shifts=[EARLY, LATE, NIGHT], reasons=REASONS)
    day = date(2026, 3, 28)
    records = until(
        utc(2026, 3, 30), ("RUN", utc(2026, 3, 28)), ("STOP", utc(2026, 3, 29, 0, 30), utc(2026, 3, 29, 1, 30), "tool")
    )
    row = estimate(records, where, day, day, as_of=utc(2026, 4, 1))
    assert (row["operating_s"], row["mtbf_s"], row["mttr_s"]) == (22 * 3600.0, 22 * 3600.0, 3600.0)


def test_a_window_that_ends_before_it_begins_is_refused():
    with pytest.raises(ContractError, match=r"SPC-627.*2026-03-09 to 2026-03-08"):
        reliability(breakdowns(), intervals(), plant(), MONDAY, date(2026, 3, 8))

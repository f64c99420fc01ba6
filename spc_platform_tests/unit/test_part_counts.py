"""Part counters to counts: every edge by hand, whose count is in force, and how both are compared."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import polars as pl
import pytest

from spc_platform.contracts.core import TELEMETRY
from spc_platform.contracts.part_counts import COUNT_COMPARISON, PART_COUNT, PART_COUNTER_DELTA
from spc_platform.contracts.production import STATE_INTERVAL
from spc_platform.production.counters import counter_deltas
from spc_platform.production.oee import oee_elements
from spc_platform.production.part_counts import PartCounts, part_counts, with_count_quality
from spc_platform.production.states import state_intervals
from spc_platform_tests.unit.production_site import counts, orders, site, states, utc

DAY = date(2026, 3, 10)
AS_OF = utc(2026, 3, 12)


def at(hour: int, minute: int = 0, second: int = 0, day: int = 10) -> datetime:
    return utc(2026, 3, day, hour, minute, second)


def counter(stream="CNC.parts", counts="good", in_force="counter", unit="CNC", **cells):
    names = ("maximum", "parts_per_count", "shortest_cycle_s", "max_gap_s", "material_definition_id")
    return (stream, unit, counts, in_force, *(cells.get(name) for name in names))


def readings(*rows: tuple[datetime, float], stream="CNC.parts") -> pl.DataFrame:
    frame = pl.DataFrame(rows, schema={"observed_at": TELEMETRY.schema["observed_at"], "value": pl.Float64}, orient="row")
    return frame.with_columns(stream_id=pl.lit(stream)).select("stream_id", "observed_at", "value")


def made(read, *counters, mes=None, intervals=None, day=DAY) -> PartCounts:
    found = part_counts(
        counts() if mes is None else mes,
        read,
        STATE_INTERVAL.empty() if intervals is None else intervals,
        site(part_counters=list(counters)),
        day,
        AS_OF,
    )
    PART_COUNT.pandera_schema().validate(found.counts)
    PART_COUNTER_DELTA.pandera_schema().validate(found.deltas)
    COUNT_COMPARISON.pandera_schema().validate(found.comparison)
    return found


def good(found: PartCounts) -> list[tuple[datetime, int]]:
    return found.counts.filter("in_force").select("counted_at", "good_quantity").rows()


def rules(found: PartCounts) -> list[tuple[str, int]]:
    return found.deltas.select("rule", "parts").rows()


def test_a_counter_that_rolls_over_counts_through_zero():
    found = made(readings((at(7), 9998), (at(7, 5), 3), (at(7, 6), 5)), counter(maximum=9999))
    assert rules(found) == [("first", 0), ("rollover", 5), ("step", 2)]
    assert good(found) == [(at(7, 5), 5), (at(7, 6), 2)]
    assert found.counts["rules"].to_list() == ["CNC.parts:rollover", "CNC.parts:step"]


def test_a_counter_that_is_reset_counts_from_zero():
    found = made(readings((at(7), 500), (at(7, 5), 7), (at(7, 6), 9)), counter())
    assert rules(found) == [("first", 0), ("reset", 7), ("step", 2)]


def test_noise_that_steps_back_is_counted_once():
    found = made(readings((at(7), 100), (at(7, 1), 104), (at(7, 2), 103), (at(7, 3), 104), (at(7, 4), 106)), counter())
    assert rules(found) == [("first", 0), ("step", 4), ("backward", 0), ("recovering", 0), ("step", 2)]
    assert sum(parts for _, parts in good(found)) == 106 - 100
    assert found.comparison["refused"].to_list() == [1]


def test_readings_delivered_twice_and_in_any_order_give_the_same_counts():
    read = readings(*((at(7, minute), 100 + 3 * minute) for minute in range(30)))
    twice = pl.concat([read, read.sample(12, seed=1)]).sample(fraction=1.0, shuffle=True, seed=2)
    first, again = made(read, counter()), made(twice, counter())
    assert good(first) == [(at(7, minute), 3) for minute in range(1, 30)]
    for name in ("counts", "deltas", "comparison"):
        assert getattr(again, name).equals(getattr(first, name))


def test_parts_across_a_gap_over_a_shift_border_count_where_they_are_read():
    """Silent from 13:50 to 14:20: when the six parts were made is not known, so the row says so."""
    found = made(readings((at(13, 49), 10), (at(13, 50), 12), (at(14, 20), 18), (at(14, 21), 19)), counter(max_gap_s=600.0))
    assert rules(found) == [("first", 0), ("step", 2), ("gap", 6), ("step", 1)]
    assert found.comparison.select("shift_id", "counter_good", "across_gap").rows() == [("early", 2, 0), ("late", 7, 6)]
    assert found.counts["rules"].to_list() == ["CNC.parts:step", "CNC.parts:gap:across_gap", "CNC.parts:step"]


def test_a_reading_on_the_border_belongs_to_the_shift_that_ends():
    found = made(readings((at(13, 59), 10), (at(14), 12), (at(14, 0, 1), 13)), counter())
    assert found.comparison.select("shift_id", "counter_good").rows() == [("early", 2), ("late", 1)]
    # also where the border is that of two production dates
    night = readings((at(5, 59, day=11), 10), (at(6, day=11), 12), (at(6, 1, day=11), 13))
    ends, begins = (made(night, counter(), day=day) for day in (DAY, DAY + timedelta(days=1)))
    assert ends.comparison.select("shift_id", "counter_good").rows() == [("night", 2)]
    assert begins.comparison.select("shift_id", "counter_good").rows() == [("early", 1)]


def test_a_counter_goes_on_from_the_last_reading_of_an_earlier_date():
    found = made(readings((at(20, day=8), 40), (at(7), 43)), counter(max_gap_s=3600.0))
    assert rules(found) == [("gap", 3)]


def test_a_rise_faster_than_any_part_can_be_made_is_a_jump_and_counts_nothing():
    """A control that shows 0 when it is switched on and then what it counted in earlier weeks."""
    found = made(readings((at(7), 0), (at(7, 0, 1), 3015), (at(7, 1), 3017)), counter(shortest_cycle_s=20.0))
    assert rules(found) == [("first", 0), ("jump", 0), ("step", 2)]
    assert found.comparison["refused"].to_list() == [1]


def test_a_spike_counts_neither_up_nor_down():
    found = made(readings((at(7), 10), (at(7, 1), 3000), (at(7, 2), 11), (at(7, 3), 12)), counter(shortest_cycle_s=20.0))
    assert rules(found) == [("first", 0), ("jump", 0), ("jump", 0), ("step", 1)]


def test_an_impossible_reading_is_a_row_and_stops_nothing():
    read = readings((at(7), 10), (at(7, 1), -1), (at(7, 2), float("nan")), (at(7, 3), 12000), (at(7, 4), 12))
    found = made(read, counter(maximum=9999))
    assert rules(found) == [("first", 0), ("impossible", 0), ("impossible", 0), ("impossible", 0), ("step", 2)]


def test_a_count_may_mean_several_parts():
    assert good(made(readings((at(7), 10), (at(7, 1), 12)), counter(parts_per_count=4))) == [(at(7, 1), 8)]


def test_good_parts_are_all_parts_less_scrap():
    """The third part is found to be scrap a minute after it was counted."""
    read = pl.concat(
        [
            readings((at(7), 0), (at(7, 1), 1), (at(7, 2), 2), (at(7, 3), 3), (at(7, 5), 4), stream="all"),
            readings((at(7), 0), (at(7, 4), 1), stream="scrap"),
        ]
    )
    found = made(read, counter("all", "total"), counter("scrap", "scrap")).counts
    told = found.select("counted_at", "good_quantity", "scrap_quantity").rows()
    assert told == [(at(7, 1), 1, 0), (at(7, 2), 1, 0), (at(7, 4), 0, 1), (at(7, 5), 1, 0)]
    assert found.select(pl.sum("good_quantity") + pl.sum("scrap_quantity")).item() == 4


def test_scrap_is_all_parts_less_good_ones():
    read = pl.concat(
        [
            readings((at(7), 0), (at(7, 1), 5), stream="all"),
            readings((at(7), 0), (at(7, 2), 3), stream="good"),
        ]
    )
    found = made(read, counter("all", "total"), counter("good", "good")).counts
    assert found.select(pl.sum("good_quantity"), pl.sum("scrap_quantity")).row(0) == (3, 2)


@pytest.mark.parametrize(
    ("in_force", "early", "late"),
    [
        ("counter", ("counter", 3), ("counter", 2)),
        ("mes", ("mes", 4), ("mes", 0)),
        ("mes_else_counter", ("mes", 4), ("counter", 2)),
    ],
)
def test_the_site_says_whose_count_is_in_force(in_force, early, late):
    """The MES counted 4 in the early shift and nothing in the late one; the counter 3 and 2."""
    found = made(
        readings((at(7), 10), (at(8), 13), (at(15), 15)), counter(in_force=in_force), mes=counts(("A", at(9), 4, 0, 0))
    )
    shift = pl.when(pl.col("counted_at") < at(14)).then(pl.lit("early")).otherwise(pl.lit("late"))
    in_oee = dict(found.counts.filter("in_force").group_by(shift).agg(pl.sum("good_quantity")).rows())
    assert (in_oee.get("early", 0), in_oee.get("late", 0)) == (early[1], late[1])
    told = found.comparison.select("shift_id", "in_force", "mes_good", "counter_good", "difference", "agrees").rows()
    assert told == [("early", early[0], 4, 3, -1, False), ("late", late[0], 0, 2, 2, False)]
    assert found.counts.height == 3, "the count that is not in force is kept"


def test_a_unit_without_counter_counts_by_the_mes_and_is_not_compared():
    found = made(readings((at(7), 1)), counter(), mes=counts(("A", at(9), 4, 0, 0), unit="PRESS"))
    assert found.counts.select("equipment_id", "count_source", "in_force").rows() == [("PRESS", "mes", True)]
    assert "PRESS" not in found.comparison["equipment_id"].to_list()


def test_the_counter_feeds_oee_with_the_product_of_the_order_in_force():
    plant = site(part_counters=[counter(max_gap_s=600.0)], products=[("A", "CNC", 60.0, utc(2026, 1, 1), None)])
    intervals = state_intervals(states(("RUN", at(6), at(14))), orders(("O1", "A", at(6), at(14))), plant, DAY, AS_OF)
    read = readings((at(6, 30), 10), (at(6, 31), 12), (at(9), 20))
    found = part_counts(counts(), read, intervals, plant, DAY, AS_OF)
    assert found.counts["material_definition_id"].to_list() == ["A", "A"]
    elements = oee_elements(intervals, found.counts.filter("in_force"), plant, DAY, AS_OF)
    row = with_count_quality(elements, found.comparison).filter(pl.col("pq") > 0).row(0, named=True)
    assert (row["equipment_id"], row["shift_id"], row["material_definition_id"]) == ("CNC", "early", "A")
    assert (row["pq"], row["gq"], row["pri_s"]) == (10, 10, 60.0)
    assert row["data_quality"] == "COUNTED_BY_COUNTER;COUNT_ACROSS_GAP"


def test_readings_after_as_of_are_not_known_yet():
    found = part_counts(
        counts(),
        readings((at(7), 1), (at(8), 2), (at(9), 3)),
        STATE_INTERVAL.empty(),
        site(part_counters=[counter()]),
        DAY,
        at(8),
    )
    assert good(found) == [(at(8), 1)]


def test_a_rate_that_no_counter_can_have_is_refused():
    with pytest.raises(Exception, match=r"max_rate is 0"):
        counter_deltas(readings((at(7), 1)).rename({"observed_at": "at"}), max_rate=0)

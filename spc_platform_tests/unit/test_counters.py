"""Cumulative counters to deltas: rollover, reset, steps back, gaps, stale snapshots, any order of delivery."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

from spc_platform.contracts.signals import COUNTER_DELTA
from spc_platform.errors import SiteError
from spc_platform.production.counters import counter_deltas
from spc_platform_tests.unit.production_site import utc

START = utc(2026, 3, 10, 6)


def read(*values, stream="A", every=60) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "stream_id": stream,
            "at": [START + timedelta(seconds=every * place) for place in range(len(values))],
            "value": pl.Series(values, dtype=pl.Float64),
        }
    )


def found(frame, **options) -> list[tuple[str, float | None]]:
    deltas = counter_deltas(frame, **options)
    COUNTER_DELTA.pandera_schema().validate(deltas)
    return deltas.select("rule", "delta").rows()


def test_a_counter_counts_what_it_rose():
    assert found(read(10, 12, 12, 15)) == [("first", None), ("step", 2), ("unchanged", 0), ("step", 3)]


def test_a_declared_maximum_rolls_over_through_zero():
    # 9998 -> 9999 -> 0 -> 1 -> 2 -> 3: five parts
    assert found(read(9998, 3), maximum=9999) == [("first", None), ("rollover", 5)]
    # a meter of 0 to below 1000 kWh has no step of one
    assert found(read(999.5, 0.25), maximum=1000, step=0) == [("first", None), ("rollover", 0.75)]


def test_a_fall_far_from_the_maximum_is_a_reset_and_counts_from_zero():
    assert found(read(500, 7, 9), maximum=9999) == [("first", None), ("reset", 7), ("step", 2)]
    assert found(read(9998, 3)) == [("first", None), ("reset", 3)]


def test_a_step_back_is_flagged_and_counted_once():
    rules = found(read(100, 104, 102, 104, 107))
    assert rules == [("first", None), ("step", 4), ("backward", 0), ("recovering", 0), ("step", 3)]
    assert sum(delta or 0 for _, delta in rules) == 107 - 100


def test_a_rollover_out_of_a_step_back_counts_from_the_highest_reading():
    assert found(read(9990, 9995, 9994, 4), maximum=9999)[-1] == ("rollover", 9)


def test_a_missing_reading_is_bridged_and_marked():
    frame = counter_deltas(read(10, None, 15, 16))
    assert frame.select("rule", "delta", "across_gap").rows() == [
        ("first", None, False),
        ("no_value", None, False),
        ("gap", 5, True),
        ("step", 1, False),
    ]
    assert frame["start_at"][2] == START


def test_a_long_pause_is_a_gap_whose_parts_still_count():
    frame = pl.concat([read(10, 11), read(14).with_columns(pl.col("at") + timedelta(hours=2))])
    frame = frame.with_row_index().with_columns(pl.col("at") + pl.duration(seconds="index")).drop("index")
    assert found(frame, max_gap_s=600) == [("first", None), ("step", 1), ("gap", 3)]


def test_a_stale_snapshot_counts_nothing():
    frame = read(3, 10, 12).with_columns(received_at=pl.col("at"))
    frame = frame.with_columns(received_at=pl.when(pl.col("value") == 3).then(pl.col("at") + timedelta(days=2)).otherwise("at"))
    assert found(frame, stale_after_s=3600) == [("stale", None), ("first", None), ("step", 2)]


def test_counters_of_several_streams_do_not_touch():
    frame = pl.concat([read(100, 101, stream="A"), read(1, 5, stream="B")])
    assert found(frame) == [("first", None), ("step", 1), ("first", None), ("step", 4)]


def test_order_and_repetition_change_nothing():
    frame = pl.concat([read(100, 104, 102, 9, 12, None, 13, stream=stream) for stream in "ABC"])
    first = counter_deltas(frame, maximum=9999, max_gap_s=90)
    again = pl.concat([frame, frame.sample(8, seed=1)]).sample(fraction=1.0, shuffle=True, seed=2)
    assert counter_deltas(again, maximum=9999, max_gap_s=90).equals(first)


def test_what_is_no_reading_is_refused_with_its_place():
    for bad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(SiteError, match=r"SPC-418.*A reads .* at 2026-03-10T06:01:00"):
            counter_deltas(read(10, bad))
    with pytest.raises(SiteError, match=r"SPC-418.*maximum 9999"):
        counter_deltas(read(10, 10000), maximum=9999)
    with pytest.raises(SiteError, match=r"SPC-417.*edge"):
        counter_deltas(read(10), maximum=9999, edge=2)

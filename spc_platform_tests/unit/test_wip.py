"""Work in process by hand: balances, gaps and doublings in the events, ages, and Little's law."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from spc_platform.contracts.operations import SEGMENT_EVENT_PAYLOAD
from spc_platform.contracts.orders import WIP_AGE, WIP_FINDING, WIP_FLOW, WIP_INTERVAL
from spc_platform.contracts.validate import rule_failures
from spc_platform.production.wip import WorkInProcess, wip_ages, wip_at, wip_flow, wip_over_time, work_in_process
from spc_platform_tests.unit.production_site import site, utc

SCHEMA = {column.name: column.dtype for column in SEGMENT_EVENT_PAYLOAD}
SITE = site()
UNITS = {"turn": "CNC", "press": "PRESS", "look": "VISION"}


def at(minutes: float) -> datetime:
    return utc(2026, 1, 5, 8) + timedelta(minutes=minutes)


def events(*rows: tuple[Any, ...], kind: str = "serial") -> pl.DataFrame:
    """From (item, segment, event_type, minute, quantity = 1)."""
    filled = [
        dict.fromkeys(SCHEMA)
        | {
            "item_id": row[0],
            "item_kind": kind,
            "segment_id": row[1],
            "event_type": row[2],
            "occurred_at": at(row[3]),
            "quantity": float(row[4]) if len(row) > 4 else 1.0,
            "equipment_id": UNITS[row[1]] if row[2] == "started" else None,
        }
        for row in rows
    ]
    return pl.DataFrame(filled, schema=SCHEMA)


def resolved(log: pl.DataFrame, as_of: float = 600) -> WorkInProcess:
    found = work_in_process(log, SITE, at(as_of))
    for table, frame in ((WIP_INTERVAL, found.intervals), (WIP_FINDING, found.findings)):
        assert not rule_failures(table, frame)
    return found


def stays(found: WorkInProcess) -> list[tuple[Any, ...]]:
    """(item, segment, place, from minute, to minute, quantity)."""
    minute = [((pl.col(name) - pl.lit(at(0))).dt.total_seconds() / 60).alias(name) for name in ("start_at", "end_at")]
    return (
        found.intervals.select("item_id", "segment_id", "place", *minute, "quantity")
        .sort("start_at", "end_at", "item_id")
        .rows()
    )


def findings(found: WorkInProcess) -> list[tuple[Any, ...]]:
    return found.findings.select("item_id", "segment_id", "finding", "quantity", "balance").rows()


WHOLE = [
    ("S1", "turn", "queued", 0), ("S1", "turn", "started", 10), ("S1", "turn", "finished", 30),
    ("S1", "press", "queued", 40), ("S1", "press", "started", 50), ("S1", "press", "finished", 55),
]  # fmt: skip
ROUTE = [
    ("S1", "turn", "queue", 0, 10, 1), ("S1", "turn", "in_process", 10, 30, 1),
    ("S1", "press", "queue", 30, 50, 1), ("S1", "press", "in_process", 50, 55, 1),
]  # fmt: skip


def test_a_part_through_two_operations() -> None:
    """Transport from 30 to 40 counts to the queue of the press."""
    found = resolved(events(*WHOLE))
    assert stays(found) == ROUTE
    assert findings(found) == []
    assert set(found.intervals["work_center_id"]) == {"L1"}


def test_the_queue_is_inferred_where_the_source_sends_none() -> None:
    found = resolved(events(*WHOLE[:3], *WHOLE[4:]))
    assert stays(found) == ROUTE
    assert findings(found) == []


def test_any_order_of_delivery_and_repeats_give_the_same_rows() -> None:
    log = pl.concat([events(*WHOLE), events(*WHOLE[:2])])
    first, second = resolved(log), resolved(log.sample(fraction=1.0, shuffle=True, seed=9))
    assert first.intervals.equals(second.intervals)
    assert first.findings.equals(second.findings)
    assert stays(first) == ROUTE
    assert findings(first) == [("S1", "turn", "REPEATED", 1.0, None), ("S1", "turn", "REPEATED", 1.0, None)]


def test_events_of_one_instant_leave_the_earlier_operation_first() -> None:
    found = resolved(
        events(
            ("S1", "turn", "started", 0),
            ("S1", "press", "queued", 10),
            ("S1", "press", "started", 10),
            ("S1", "turn", "finished", 10),
        )
    )
    assert stays(found) == [("S1", "turn", "in_process", 0, 10, 1), ("S1", "press", "in_process", 10, 600, 1)]
    assert findings(found) == []


def test_at_one_instant_a_return_to_an_earlier_operation_comes_last() -> None:
    """The press was visited before the lathe; at 20 the lathe finishes and the press starts again."""
    log = events(
        ("S1", "press", "started", 0),
        ("S1", "press", "finished", 5),
        ("S1", "turn", "started", 6),
        ("S1", "turn", "finished", 20),
        ("S1", "press", "started", 20),
    )
    found = resolved(log)
    assert findings(found) == []
    assert stays(found)[-2:] == [("S1", "turn", "in_process", 6, 20, 1), ("S1", "press", "in_process", 20, 600, 1)]


def test_a_missing_start_takes_no_time_in_process() -> None:
    found = resolved(events(WHOLE[0], WHOLE[2]))
    assert stays(found) == [("S1", "turn", "queue", 0, 30, 1)]
    assert findings(found) == [("S1", "turn", "MISSING_START", 1.0, -1.0)]


def test_a_missing_finish_ends_when_the_part_turns_up_elsewhere() -> None:
    found = resolved(events(*WHOLE[:2], *WHOLE[3:]))
    assert stays(found)[1] == ("S1", "turn", "in_process", 10, 40, 1)
    assert stays(found)[2] == ("S1", "press", "queue", 40, 50, 1)
    assert findings(found) == [("S1", "turn", "MISSING_FINISH", 1.0, None)]


def test_double_events_count_once_and_no_balance_is_negative() -> None:
    double = [("S1", "turn", "started", 12), ("S1", "turn", "finished", 31)]
    found = resolved(events(*WHOLE[:3], *double))
    assert stays(found) == ROUTE[:2]
    assert findings(found) == [("S1", "turn", "DOUBLE_START", 1.0, None), ("S1", "turn", "DOUBLE_FINISH", 1.0, -1.0)]


def test_scrap_leaves_and_scrap_of_the_unknown_is_named() -> None:
    log = pl.concat(
        [
            events(
                ("LOT", "turn", "queued", 0, 100),
                ("LOT", "turn", "started", 5, 100),
                ("LOT", "turn", "scrapped", 10, 7),
                ("LOT", "turn", "finished", 20, 93),
                kind="lot",
            ),
            events(("S9", "look", "scrapped", 3)),
        ]
    )
    found = resolved(log)
    assert stays(found) == [
        ("LOT", "turn", "queue", 0, 5, 100),
        ("LOT", "turn", "in_process", 5, 10, 100),
        ("LOT", "turn", "in_process", 10, 20, 93),
    ]
    assert findings(found) == [("S9", "look", "UNKNOWN_SCRAP", 1.0, -1.0)]


def test_a_lot_in_parts_lies_at_two_operations_at_once() -> None:
    """Of 100 parts 60 are finished at 20 and start on the press at 25, while 40 stay on the lathe until 40."""
    log = events(
        ("LOT", "turn", "started", 0, 100), ("LOT", "turn", "finished", 20, 60), ("LOT", "press", "started", 25, 60),
        ("LOT", "turn", "finished", 40, 40), ("LOT", "press", "finished", 50, 60), kind="lot",
    )  # fmt: skip
    assert stays(resolved(log)) == [
        ("LOT", "turn", "in_process", 0, 20, 100),
        ("LOT", "press", "queue", 20, 25, 60),
        ("LOT", "turn", "in_process", 20, 40, 40),
        ("LOT", "press", "in_process", 25, 50, 60),
    ]


def test_a_rework_loop_returns_to_an_operation() -> None:
    log = events(
        *WHOLE[:3],
        ("S1", "press", "started", 50),
        ("S1", "press", "sent_to_rework", 60),
        ("S1", "turn", "started", 70),
        ("S1", "turn", "finished", 80),
    )
    found = resolved(log)
    rework = found.intervals.filter("is_rework").select("segment_id", "place").rows()
    assert rework == [("press", "queue"), ("turn", "in_process")] or rework == [("turn", "in_process"), ("press", "queue")]
    assert stays(found)[-2:] == [("S1", "press", "queue", 60, 70, 1), ("S1", "turn", "in_process", 70, 80, 1)]
    assert findings(found) == []


def test_what_is_where_and_how_old() -> None:
    log = events(
        ("S1", "turn", "queued", 0),
        ("S2", "turn", "queued", 200),
        ("S2", "turn", "started", 210),
        *[("S3", *row[1:3], row[3] + 5) for row in WHOLE],
    )
    here = wip_at(log, SITE, at(220))
    assert here.select("item_id", "segment_id", "place", "age_s").rows() == [
        ("S2", "turn", "in_process", 600.0),
        ("S1", "turn", "queue", 13200.0),
    ]
    between = wip_at(log, SITE, at(37))
    assert between.select("item_id", "segment_id", "place", "age_s").rows() == [
        ("S3", "press", "queue", 120.0),
        ("S1", "turn", "queue", 2220.0),
    ]
    ages = wip_ages(here, at(220))
    assert not rule_failures(WIP_AGE, ages)
    assert ages.select("place", "age_from_s", "age_to_s", "n_items", "oldest_s").rows() == [
        ("in_process", 0.0, 3600.0, 1, 600.0),
        ("queue", 3600.0, 28800.0, 1, 13200.0),
    ]


def many(n: int = 300, seed: int = 4) -> pl.DataFrame:
    """Parts that pass two operations after random waits, from minute 0 on."""
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(2.0, n))
    waits = rng.exponential(5.0, (n, 4))
    rows = []
    for number in range(n):
        times = arrivals[number] + np.concatenate([[0.0], np.cumsum(waits[number])])
        for (segment, kind), minute in zip(
            [("turn", "queued"), ("turn", "started"), ("turn", "finished"), ("press", "started"), ("press", "finished")],
            times,
            strict=True,
        ):
            rows.append((f"S{number}", segment, kind, round(float(minute), 3)))
    return events(*rows)


def flow_times(log: pl.DataFrame) -> pl.DataFrame:
    return log.group_by("item_id").agg(a=pl.col("occurred_at").min(), d=pl.col("occurred_at").max())


def test_littles_law_is_exact_over_a_period_that_begins_and_ends_empty() -> None:
    """L, lambda and W each computed from the events alone."""
    log = many()
    items = flow_times(log)
    found = wip_flow(resolved(log, 2000).intervals, at(0), at(2000))
    assert not rule_failures(WIP_FLOW, found)
    row = found.row(0, named=True)
    spent = (items["d"] - items["a"]).dt.total_microseconds().sum() / 1e6
    assert (row["n_items"], row["departed"], row["before_wip"], row["unfinished_wip"]) == (300, 300.0, 0.0, 0.0)
    assert row["mean_flow_time_s"] == pytest.approx(spent / 300, rel=1e-12)
    assert row["mean_wip"] == pytest.approx(spent / 120_000, rel=1e-12)
    assert row["mean_wip"] == pytest.approx(row["little_wip"], rel=1e-12)


def test_littles_law_with_the_terms_of_both_edges() -> None:
    """From minute 100 to 400 against the area under the number of parts, counted at the events."""
    log = many()
    items = flow_times(log)
    start, end = at(100), at(400)
    row = wip_flow(resolved(log, 2000).intervals, start, end).row(0, named=True)
    clipped = [max(0.0, (min(d, end) - max(a, start)).total_seconds()) for a, d in items.select("a", "d").rows()]
    assert row["mean_wip"] == pytest.approx(sum(clipped) / 18_000, rel=1e-12)
    gone = [(a, d) for a, d in items.select("a", "d").rows() if start < d <= end]
    assert row["n_items"] == len(gone)
    early = sum(max(0.0, (start - a).total_seconds()) for a, _ in gone)
    assert row["before_wip"] == pytest.approx(early / 18_000, rel=1e-12)
    assert row["unfinished_wip"] > 0
    assert abs(row["residual"]) < 1e-12


def test_the_step_function_ends_at_zero_and_never_falls_below() -> None:
    steps = wip_over_time(resolved(many(), 2000).intervals)
    assert steps["quantity"].min() == 0.0
    assert steps.group_by("segment_id", "place").agg(pl.col("n_items").sort_by("at").last())["n_items"].to_list() == [
        0,
        0,
        0,
        0,
    ]


def test_nonsense_never_gives_a_negative_balance() -> None:
    """Events drawn at random: quantities stay positive and intervals of a place do not overlap."""
    rng = np.random.default_rng(11)
    kinds = ["queued", "started", "finished", "scrapped", "sent_to_rework", "moved"]
    log = events(
        *(
            (
                f"L{rng.integers(8)}",
                ["turn", "press", "look"][rng.integers(3)],
                kinds[rng.integers(6)],
                int(rng.integers(300)),
                int(rng.integers(1, 9)),
            )
            for _ in range(600)
        ),
        kind="lot",
    )
    found = resolved(log)
    assert found.intervals["quantity"].min() > 0
    later = found.intervals.sort("start_at").with_columns(
        _next=pl.col("start_at").shift(-1).over("item_id", "segment_id", "place")
    )
    assert later.filter(pl.col("_next") < pl.col("end_at")).is_empty()


def test_without_events_there_is_nothing() -> None:
    empty = events()
    assert resolved(empty).intervals.equals(WIP_INTERVAL.empty())
    assert wip_at(empty, SITE, at(0)).is_empty()
    assert wip_flow(resolved(empty).intervals, at(0), at(1)).is_empty()

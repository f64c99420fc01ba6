"""The log of operations: the chain by its published rule, tampering, the plant as known at a time, and explanations."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest

from spc_platform.contracts.events import CONTRIBUTION, FIGURE_CHANGE, OPERATIONS_EVENT
from spc_platform.contracts.validate import rule_failures
from spc_platform.errors import ContractError
from spc_platform.production.event_log import (
    EVENT_FIELDS,
    as_known_at,
    heads,
    new_events,
    operations_events,
    recorded_at,
    verify_chain,
)
from spc_platform.production.explanation import Cell, Explanation, explain
from spc_platform_tests.unit.prepare_frames import DAY, SIX, raw, small_site

PAGE = "0" * 64
RECEIVED = {PAGE: SIX + timedelta(hours=30), "f" * 64: SIX + timedelta(hours=31)}


def after(minutes: float) -> datetime:
    return SIX + timedelta(minutes=minutes)


def tables() -> dict[str, pl.DataFrame]:
    """A day of one lathe: a stop that is sent open and closed later, a count that comes late and one that is corrected."""
    state = {"equipment_id": "L1-LATHE"}
    return {
        "raw_equipment_state": raw(
            "equipment_state",
            state | {"record_id": "e1", "state": "RUN", "start_at": after(0), "end_at": after(60), "updated_at": after(60)},
            state | {"record_id": "e2", "state": "STOP", "start_at": after(60), "updated_at": after(61), "is_current": False},
            state
            | {
                "record_id": "e2",
                "revision": 2,
                "state": "STOP",
                "start_at": after(60),
                "end_at": after(90),
                "updated_at": after(95),
            },
            state | {"record_id": "e3", "state": "RUN", "start_at": after(90), "updated_at": after(91)},
        ),
        "raw_production_count": raw(
            "production_count",
            {"record_id": "c1", "counted_at": after(30), "updated_at": after(31), "good_quantity": 40, "scrap_quantity": 2},
            {"record_id": "c2", "counted_at": after(40), "updated_at": after(300), "good_quantity": 7, "scrap_quantity": 0},
            {
                "record_id": "c3",
                "counted_at": after(50),
                "updated_at": after(51),
                "good_quantity": 9,
                "scrap_quantity": 0,
                "is_current": False,
            },
            {
                "record_id": "c3",
                "revision": 2,
                "counted_at": after(50),
                "updated_at": after(310),
                "good_quantity": 8,
                "scrap_quantity": 1,
            },
            {
                "record_id": "c4",
                "counted_at": after(55),
                "updated_at": after(56),
                "good_quantity": 3,
                "scrap_quantity": 0,
                "is_current": False,
            },
            {
                "record_id": "c4",
                "revision": 2,
                "counted_at": after(55),
                "updated_at": after(320),
                "good_quantity": 3,
                "scrap_quantity": 0,
                "is_deleted": True,
            },
        ),
        "raw_work_order": raw("work_order", {"record_id": "w1", "updated_at": after(1)}),
    }


def log() -> pl.DataFrame:
    return operations_events(tables(), RECEIVED)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_the_log_holds_every_revision_in_the_order_of_recording() -> None:
    found = log()
    assert not rule_failures(OPERATIONS_EVENT, found)
    assert found.height == 4 + 6 + 1
    assert found["sequence"].to_list() == list(range(1, 12))
    assert found["recorded_at"].is_sorted()
    assert found.filter(record_id="e2").select("revision", "effective_at").rows() == [(1, after(60)), (2, after(60))]
    assert found.filter(event_type="work_order")["equipment_id"].to_list() == ["L1"]


def test_ids_and_chain_follow_the_published_rule() -> None:
    """Computed again with json and hashlib alone."""
    previous = digest(f"operations_event\n{DAY}")
    for row in log().iter_rows(named=True):
        content = {
            name: row[name].strftime("%Y-%m-%dT%H:%M:%S.%fZ") if isinstance(row[name], datetime) else row[name]
            for name in EVENT_FIELDS
        }
        assert row["event_id"] == digest(json.dumps(content, separators=(",", ":"), ensure_ascii=False))
        assert row["prev_hash"] == previous
        previous = digest(f"{previous}\n{row['sequence']}\n{row['event_id']}")
        assert row["chain_hash"] == previous
        payload = json.loads(row["payload"])
        assert row["payload"] == json.dumps(payload, separators=(",", ":"))
    assert heads(log()) == {DAY: previous}


def test_order_page_and_batching_do_not_change_a_byte() -> None:
    shuffled = {name: frame.sample(fraction=1.0, shuffle=True, seed=2) for name, frame in reversed(tables().items())}
    other_page = {
        name: frame.with_columns(page_sha256=pl.lit("f" * 64), page_row=pl.col("page_row") + 5)
        for name, frame in shuffled.items()
    }
    assert operations_events(other_page, RECEIVED).equals(log())


def problems(frame: pl.DataFrame, expected: Any = None) -> list[tuple[int, str]]:
    return [(row["sequence"], row["problem"]) for row in verify_chain(frame, expected).iter_rows(named=True)]


def test_a_whole_log_has_no_problem_in_any_row_order() -> None:
    assert problems(log().sample(fraction=1.0, shuffle=True, seed=1), heads(log())) == []
    assert problems(OPERATIONS_EVENT.empty()) == []


def test_an_altered_event_is_found() -> None:
    forged = log().with_columns(payload=pl.when(pl.col("sequence") == 4).then(pl.lit("{}")).otherwise("payload"))
    assert problems(forged) == [(4, "ALTERED")]


def test_an_altered_event_with_a_new_id_breaks_the_chain() -> None:
    row = log().filter(sequence=4).with_columns(payload=pl.lit("{}")).row(0, named=True)
    content = {
        name: row[name].strftime("%Y-%m-%dT%H:%M:%S.%fZ") if isinstance(row[name], datetime) else row[name]
        for name in EVENT_FIELDS
    }
    forged_id = digest(json.dumps(content, separators=(",", ":")))
    chosen = pl.col("sequence") == 4
    forged = log().with_columns(
        payload=pl.when(chosen).then(pl.lit("{}")).otherwise("payload"),
        event_id=pl.when(chosen).then(pl.lit(forged_id)).otherwise("event_id"),
    )
    assert problems(forged) == [(4, "BROKEN")]


def test_a_missing_event_is_found() -> None:
    assert problems(log().filter(pl.col("sequence") != 3)) == [(4, "BROKEN"), (4, "MISSING")]


def test_events_cut_off_at_the_end_are_found_by_the_head_that_was_kept() -> None:
    cut = log().head(9)
    assert problems(cut) == []
    assert problems(cut, heads(log())) == [(9, "HEAD")]
    assert problems(cut.clear(), heads(log())) == [(0, "HEAD")]


def test_exchanged_events_are_found() -> None:
    swapped = log().with_columns(sequence=pl.col("sequence").replace({5: 6, 6: 5}))
    assert {problem for _, problem in problems(swapped)} == {"BROKEN", "REORDERED"}


def test_a_later_landing_adds_events_and_loses_none() -> None:
    early = {name: frame.filter(pl.col("updated_at") < after(200)) for name, frame in tables().items()}
    added, lost = new_events(operations_events(early, RECEIVED), log())
    assert sorted(added["record_id"].to_list()) == ["c2", "c3", "c4"]
    assert lost.is_empty()


def test_recorded_is_what_the_source_wrote_or_when_the_page_came() -> None:
    frame = tables()["raw_work_order"]
    assert recorded_at(frame, {})[0] == after(1)
    assert recorded_at(frame, RECEIVED, by="receipt")[0] == after(30 * 60)
    untimed = frame.with_columns(updated_at=pl.lit(None, pl.Datetime("us", "UTC")))
    assert recorded_at(untimed, RECEIVED)[0] == after(30 * 60)
    with pytest.raises(ContractError, match="SPC-630"):
        recorded_at(untimed, {})


def test_tables_of_measurements_are_no_operations() -> None:
    with pytest.raises(ContractError, match="SPC-631"):
        operations_events({"raw_telemetry": raw("telemetry", {})}, RECEIVED)


def test_a_table_as_known_at_a_time_has_the_revisions_of_then() -> None:
    counts = tables()["raw_production_count"]
    then = as_known_at(counts, RECEIVED, after(305))
    assert then.select("record_id", "revision", "is_current").sort("record_id").rows() == [
        ("c1", 1, True),
        ("c2", 1, True),
        ("c3", 1, True),
        ("c4", 1, True),
    ]
    assert then.schema == counts.schema
    now = as_known_at(counts, RECEIVED, after(1000))
    assert now.sort("record_id", "revision").equals(counts.sort("record_id", "revision"))
    assert as_known_at(counts, RECEIVED, after(29 * 60), by="receipt").is_empty()


def test_a_record_that_moved_to_another_date_is_current_where_it_was_known() -> None:
    moved = {"record_id": "c1", "counted_at": after(30)}
    counts = raw(
        "production_count",
        moved | {"updated_at": after(31), "is_current": False},
        moved
        | {"revision": 2, "updated_at": after(600), "counted_at": after(60 * 24), "production_date": DAY + timedelta(days=1)},
    )
    assert as_known_at(counts, RECEIVED, after(500)).select("revision", "is_current").rows() == [(1, True)]
    assert as_known_at(counts, RECEIVED, after(700)).select("revision", "is_current").sort("revision").rows() == [
        (1, False),
        (2, True),
    ]


# --- explanations


def explained(first: float, second: float, **options: Any) -> Explanation:
    cell = Cell("L1-LATHE", DAY, "EARLY")
    found = explain(
        tables(),
        RECEIVED,
        small_site(),
        cell,
        (after(first), after(options.pop("as_of_1", first))),
        (after(second), after(options.pop("as_of_2", second))),
        **options,
    )
    assert not rule_failures(CONTRIBUTION, found.contributions)
    assert not rule_failures(FIGURE_CHANGE, found.figures)
    return found


def change(found: Explanation, figure: str) -> Any:
    return found.figures.filter(figure=figure)["difference"].item()


def test_late_and_corrected_counts_explain_the_parts() -> None:
    """c2 brings 7 good parts, c3 turns one good part into scrap, c4 takes back 3: +7 -1 -3 good, +1 scrap."""
    found = explained(250, 400, as_of_1=400)
    rows = {row["record_id"]: row for row in found.contributions.iter_rows(named=True)}
    assert {name: (rows[name]["gq"], rows[name]["sq"], rows[name]["pq"]) for name in rows} == {
        "c2": (7, 0, 7),
        "c3": (-1, 1, 0),
        "c4": (-3, 0, -3),
    }
    assert (change(found, "gq"), change(found, "sq"), change(found, "pq"), change(found, "apt_s")) == (3, 1, 4, 0)
    assert rows["c4"]["is_deleted"]
    assert set(found.contributions["cause"]) == {"event"}


def test_every_second_of_the_difference_goes_to_one_cause() -> None:
    """Known at 80 the stop that began at 60 is open; known at 100 it ended at 90 and a run began: ten minutes of each."""
    found = explained(80, 100)
    rows = {(row["cause"], row["record_id"]): row for row in found.contributions.iter_rows(named=True)}
    assert rows["event", "e3"]["apt_s"] == 600.0
    assert rows["event", "e2"]["adet_s"] == 600.0
    sums = {
        name: found.contributions[name].sum() for name in ("pot_s", "apt_s", "adet_s", "minor_stop_s", "unknown_s", "pdt_s")
    }
    assert sums == {name: change(found, name) for name in sums}
    assert change(found, "pot_s") == 1200.0


def test_what_is_recorded_at_the_instant_is_known_then() -> None:
    """c2 was recorded at 300: known at 300, and no news after it."""
    assert "c2" in as_known_at(tables()["raw_production_count"], RECEIVED, after(300))["record_id"].to_list()
    found = explained(300, 400, as_of_1=400)
    assert sorted(found.contributions["record_id"].to_list()) == ["c3", "c4"]


def test_a_state_that_turns_out_shorter_explains_the_gap_that_it_leaves() -> None:
    """The run of 0 to 60 is corrected to end at 40: twenty minutes of run become unknown, by that record."""
    short = {"equipment_id": "L1-LATHE", "state": "RUN", "record_id": "e1", "start_at": after(0)}
    corrected = raw("equipment_state", short | {"revision": 2, "end_at": after(40), "updated_at": after(500)})
    given = tables() | {"raw_equipment_state": pl.concat([tables()["raw_equipment_state"], corrected])}
    times = [(after(minutes), after(480)) for minutes in (490, 510)]
    found = explain(given, RECEIVED, small_site(), Cell("L1-LATHE", DAY, "EARLY"), times[0], times[1])
    (row,) = found.contributions.iter_rows(named=True)
    assert (row["cause"], row["record_id"], row["revision"]) == ("event", "e1", 2)
    assert (row["apt_s"], row["unknown_s"], row["pot_s"]) == (-1200.0, 1200.0, 0.0)


def test_the_same_time_twice_has_nothing_to_explain() -> None:
    found = explained(400, 400)
    assert found.contributions.is_empty()
    assert (
        found.figures.drop_nulls("difference")["difference"].to_list() == [0.0] * found.figures.drop_nulls("difference").height
    )


def test_questions_without_an_answer_are_refused() -> None:
    with pytest.raises(ContractError, match="SPC-632"):
        explained(400, 300)
    with pytest.raises(ContractError, match="SPC-633"):
        explain(tables(), RECEIVED, small_site(), Cell("L9", DAY), (after(1), after(1)), (after(2), after(2)))

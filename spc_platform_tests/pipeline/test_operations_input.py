"""Records of orders, operations and materials as they should not come: impossible, twice, out of order, cut otherwise."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from spc_platform.contracts.events import OPERATIONS_EVENT_TYPES
from spc_platform.engine import STEPS, Workspace, run_range
from spc_platform.engine.steps import operations
from spc_platform_tests.orchestration.scripted_mes import land, text, workspace
from spc_platform_tests.pipeline.conftest import FOURTEEN_DATES, Finished

MONDAY, TUESDAY = FOURTEEN_DATES[:2]
SIX = datetime(2026, 3, 23, 5, tzinfo=UTC)
"""Six o'clock in Berlin, when the production date begins."""
PRODUCTION = [step for step in STEPS if step.group in ("raw", "core", "production")]
OF_EVENTS = [
    step
    for step in PRODUCTION
    if step.name in {"raw", "shift_calendar", "segment_event", "material_link", "operations_event", "wip", "lot_genealogy"}
]
Record = dict[str, Any]
Partition = tuple[str, date | None]


def moved(name: str, event: str, minute: int, quantity: float = 10, rev: int = 1, **fields: Any) -> Record:
    """A record of /api/v1/segment-events, written three seconds later, each revision an hour after the one before."""
    at = SIX + timedelta(minutes=minute)
    return {
        "id": name, "rev": rev, "updated_at": text(at + timedelta(seconds=3, hours=rev - 1)), "deleted": False,
        "item": "L1", "kind": "lot", "operation": "turning", "station": "A10", "event": event, "at": text(at),
        "quantity": quantity, "order": "O1", "product": "HSG-100",
    } | fields  # fmt: skip


def linked(name: str, parent: str, child: str, minute: int, **fields: Any) -> Record:
    """A record of /api/v1/material-links."""
    at = SIX + timedelta(minutes=minute)
    return {
        "id": name, "rev": 1, "updated_at": text(at + timedelta(seconds=3)), "deleted": False, "parent": parent,
        "child": child, "type": "consumed", "quantity": 1.0, "at": text(at), "station": "A10", "order": "O1",
    } | fields  # fmt: skip


GOOD = [
    moved("s1", "queued", 0, station=None),
    moved("s2", "started", 10),
    moved("s3", "scrapped", 20, quantity=1),
    moved("s4", "finished", 30, quantity=9),
]


def made(folder: Path, *pages: list[Record], links: tuple[list[Record], ...] = ()) -> Workspace:
    """A workspace of Monday in which the pages were landed one after the other and its tables made."""
    plant = workspace(folder)
    for page in pages:
        land(plant, page, resource="segment-events")
    for page in links:
        land(plant, page, resource="material-links")
    run_range(plant, [MONDAY], steps=OF_EVENTS)
    return plant


def stays(plant: Workspace) -> list[tuple[Any, ...]]:
    """Operation, place, quantity, first and last minute of every stay of an item."""
    frame = plant.lake.read("wip_interval").sort("start_at", "place")
    minutes = [(pl.col(name) - SIX).dt.total_minutes() for name in ("start_at", "end_at")]
    return frame.select("segment_id", "place", "quantity", *minutes).rows()


def reasons(plant: Workspace, table: str) -> dict[str, str]:
    return dict(plant.lake.read(f"{table}_rejected", MONDAY).select("record_id", "reasons").rows())


def logged(plant: Workspace) -> list[tuple[str, int]]:
    return plant.lake.read("operations_event", MONDAY).select("record_id", "revision").rows()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return made(tmp_path_factory.mktemp("good"), GOOD)


def test_a_lot_waits_is_worked_on_and_leaves(good: Workspace) -> None:
    """The fixture that the other tests compare with, by hand."""
    assert stays(good) == [
        ("turning", "queue", 10.0, 0, 10),
        ("turning", "in_process", 10.0, 10, 20),
        ("turning", "in_process", 9.0, 20, 30),
    ]
    assert good.lake.read("wip_finding").is_empty()


IMPOSSIBLE: dict[str, tuple[Record, str]] = {
    "future": (
        moved("bad", "finished", 25, at=text(SIX + timedelta(hours=3)), updated_at=text(SIX + timedelta(minutes=25))),
        "occurred_at:AFTER_RECORDING",
    ),
    "unknown station": (moved("bad", "finished", 25, station="A99"), "equipment_id:UNKNOWN"),
    "unknown operation": (moved("bad", "finished", 25, operation="painting"), "segment_id:UNKNOWN"),
    "unknown product": (moved("bad", "finished", 25, product="HSG-999"), "material_definition_id:UNKNOWN"),
    "operation of another product": (moved("bad", "finished", 25, operation="milling"), "segment_id:NOT_IN_ROUTE"),
    "no parts": (moved("bad", "finished", 25, quantity=0), "quantity:NOT_ABOVE_0"),
    "two of one serial number": (moved("bad", "finished", 25, quantity=2, kind="serial"), "quantity:NOT_ONE_FOR_SERIAL"),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_an_impossible_event_is_refused_moves_nothing_and_is_in_the_log(good: Workspace, tmp_path: Path, case: str) -> None:
    record, reason = IMPOSSIBLE[case]
    plant = made(tmp_path, [*GOOD, record])
    assert reasons(plant, "segment_event") == {"bad": reason}
    assert stays(plant) == stays(good)
    assert ("bad", 1) in logged(plant), "what was told is kept, right or wrong"


def test_an_event_that_cannot_be_read_is_refused_with_the_cell(good: Workspace, tmp_path: Path) -> None:
    plant = made(tmp_path, [*GOOD, moved("bad", "finished", 25, quantity="many")])
    assert list(reasons(plant, "segment_event")) == ["bad"]
    assert reasons(plant, "segment_event")["bad"].startswith("quantity:")
    assert stays(plant) == stays(good)


def test_events_that_come_twice_and_out_of_order_change_no_byte(good: Workspace, tmp_path: Path) -> None:
    plant = made(tmp_path, [GOOD[3], GOOD[1]], [GOOD[2], GOOD[3], GOOD[0]], [GOOD[1]])
    assert digests(plant, [MONDAY]) == digests(good, [MONDAY])
    assert len(logged(plant)) == 4


def test_the_same_event_under_another_record_counts_once_and_is_named(good: Workspace, tmp_path: Path) -> None:
    plant = made(tmp_path, [*GOOD, moved("s4-again", "finished", 30, quantity=9)])
    assert stays(plant) == stays(good)
    assert plant.lake.read("wip_finding").select("finding", "quantity").rows() == [("REPEATED", 9.0)]


def test_a_finish_without_a_start_takes_the_lot_out_of_the_queue(tmp_path: Path) -> None:
    plant = made(tmp_path, [GOOD[0], moved("s4", "finished", 30)])
    assert stays(plant) == [("turning", "queue", 10.0, 0, 30)]
    finding = plant.lake.read("wip_finding").row(0, named=True)
    assert (finding["finding"], finding["quantity"], finding["balance"]) == ("MISSING_START", 10.0, -10.0)
    assert plant.verdicts.failed() == []


def test_a_finish_of_what_never_came_is_never_negative(tmp_path: Path) -> None:
    plant = made(tmp_path, [moved("s4", "finished", 30)])
    assert stays(plant) == []
    assert plant.lake.read("wip_finding")["finding"].to_list() == ["MISSING_START"]


def test_a_late_start_mends_what_was_assumed(good: Workspace, tmp_path: Path) -> None:
    plant = made(tmp_path, [GOOD[0], GOOD[2], GOOD[3]])
    assert plant.lake.read("wip_finding").height > 0
    land(plant, [GOOD[1]], resource="segment-events")
    run_range(plant, [MONDAY], steps=OF_EVENTS)
    assert digests(plant, [MONDAY]) == digests(good, [MONDAY])


def test_a_withdrawn_event_leaves_the_lot_and_stays_in_the_log(good: Workspace, tmp_path: Path) -> None:
    wrong = moved("w", "started", 5, quantity=4)
    plant = made(tmp_path, [*GOOD, wrong], [moved("w", "started", 5, quantity=4, rev=2, deleted=True)])
    assert [row[:4] for row in stays(plant)] == [row[:4] for row in stays(good)]
    assert [each for each in logged(plant) if each[0] == "w"] == [("w", 1), ("w", 2)]


def test_a_material_that_is_its_own_parent_is_refused_and_one_that_was_reworked_is_not(tmp_path: Path) -> None:
    plant = made(
        tmp_path,
        links=([linked("own", "L1", "L1", 5), linked("again", "L2", "L2", 6, type="reworked"), linked("ok", "C1", "L1", 1)],),
    )
    assert reasons(plant, "material_link") == {"own": "child_id:SELF_LINK"}
    assert sorted(plant.lake.read("lot_genealogy")["record_id"]) == ["again", "ok"]


def test_the_link_that_closes_a_cycle_is_refused_told_and_warned_of(tmp_path: Path) -> None:
    ring = [linked("ab", "A", "B", 1), linked("bc", "B", "C", 2), linked("ca", "C", "A", 3)]
    plant = made(tmp_path, links=(ring[::-1],))
    refused = plant.lake.read("lot_genealogy_refused").row(0, named=True)
    assert (refused["record_id"], refused["reasons"], refused["cycle_items"]) == ("ca", "child_id:CYCLE", "A>B>C>A")
    assert plant.lake.read("lot_genealogy")["record_id"].to_list() == ["ab", "bc"]
    assert [(table, check) for table, check, _, _ in plant.verdicts.failed()] == [("lot_genealogy", "links_refused")]


def test_parts_sent_to_rework_at_the_end_of_a_date_are_good_when_the_next_one_finishes_them(tmp_path: Path) -> None:
    """Sent back at 05:40, ten minutes before they are counted; good at 06:20: the final yield is that of the earlier date."""
    plant = workspace(tmp_path)
    sent, done = 24 * 60 - 20, 24 * 60 + 20
    lot = [moved("q", "queued", 0, station=None), moved("s", "started", 10), moved("r", "sent_to_rework", sent, quantity=2)]
    land(plant, [*lot, moved("a", "started", sent + 1, quantity=2)], resource="segment-events")
    land(plant, [moved("f", "finished", done)], resource="segment-events")
    at = SIX + timedelta(minutes=sent + 10)
    count = {
        "id": "c",
        "rev": 1,
        "updated_at": text(at),
        "deleted": False,
        "station": "A10",
        "product": "HSG-100",
        "order": "O1",
    }
    land(plant, [count | {"counted_at": text(at), "good": 8, "scrap": 0, "rework": 2}], resource="production-counts")
    run_range(plant, [MONDAY, TUESDAY], steps=PRODUCTION)
    day = (pl.col("equipment_id") == "A10") & (pl.col("period") == "day") & (pl.col("scope") == "all")
    row = plant.lake.read("oee_rollup", MONDAY).filter(day).row(0, named=True)
    assert (row["gq"], row["rq"], row["reworked_good"]) == (8, 2, 2)
    assert (row["first_pass_yield"], row["final_yield"]) == (0.8, 1.0)


# --- the same records in other pages


def digests(plant: Workspace, dates: list[date]) -> dict[Partition, str]:
    """sha256 of the file of every partition of the tables of operations that was made."""
    partitions = [
        (table, day) for step in operations.STEPS for table in step.outputs for day in (dates if step.partitioned else (None,))
    ]
    found = {(table, day): plant.lake.manifest(table, day) for table, day in partitions}
    return {partition: manifest.sha256 for partition, manifest in found.items() if manifest is not None}


def told(finished: Finished) -> dict[str, list[Record]]:
    """What the plant told of two dates, by resource, in the order of its pages; of telemetry the meters alone."""
    ledger, landing = finished.workspace.ledger, finished.workspace.landing
    found: dict[str, list[Record]] = {}
    for table in (*(f"raw_{name}" for name in OPERATIONS_EVENT_TYPES), "raw_telemetry"):
        pages = {(page.origin, page.sha256): page.resource for day in (MONDAY, TUESDAY) for page in ledger.pages(table, day)}
        for (_, digest), resource in sorted(pages.items()):
            records = json.loads(landing.read(digest))["data"]
            found.setdefault(resource, []).extend(
                each for each in records if resource != "telemetry" or each["signal"].endswith(".energy")
            )
    return found


def pages_of(records: list[Record], size: int) -> Iterator[list[Record]]:
    for first in range(0, len(records), size):
        yield records[first : first + size]


def test_page_order_cuts_batches_and_row_order_change_no_byte_of_any_table(finished: Finished, tmp_path: Path) -> None:
    records = told(finished)
    assert sum(map(len, records.values())) > 8000
    straight, shuffled = workspace(tmp_path / "straight"), workspace(tmp_path / "shuffled")
    for resource, known in records.items():
        land(straight, *pages_of(known, 1000), resource=resource)
    rng = random.Random(22400)
    for resource in rng.sample(sorted(records), len(records)):
        known = rng.sample(records[resource], len(records[resource]))
        half = len(known) // 2
        # Two batches, the second of which tells a part of the first once more.
        land(shuffled, *pages_of(known[half:], 137), resource=resource)
        land(shuffled, *pages_of(known[: half + 100], 411), resource=resource)
    for plant in (straight, shuffled):
        run_range(plant, [MONDAY, TUESDAY], steps=PRODUCTION)
    expected = digests(straight, [MONDAY, TUESDAY])
    assert len(expected) == 11 * 2 + 5
    assert digests(shuffled, [MONDAY, TUESDAY]) == expected
    for table in ("operations_event", "oee_rollup", "oee_loss", "energy_interval", "bottleneck", "reliability"):
        assert straight.lake.read(table, TUESDAY).height > 0, table
    for table in ("work_order_status", "wip_interval", "lot_genealogy"):
        assert straight.lake.read(table).height > 0, table

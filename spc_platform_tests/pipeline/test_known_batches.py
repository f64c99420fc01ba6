"""Late, corrected and deleted records in any order and in any batches: the views as known at a time do not differ in a byte."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from spc_platform.contracts import LAKE_TABLES
from spc_platform.engine import STEPS, Workspace, run_range
from spc_platform.engine.history import verify_event_log
from spc_platform.engine.known import KNOWN_GROUPS, known_table
from spc_platform.lake.landing import land_source
from spc_platform.production.view_changes import ASIDE
from spc_platform.settings import Settings
from spc_platform.site.scaffold import scaffold
from spc_platform.sources import open_source

DAY = date(2026, 1, 7)
DATES = [DAY - timedelta(days=1), DAY, DAY + timedelta(days=1)]
START = datetime(2026, 1, 7, 5, tzinfo=UTC)
NEEDED = tuple(step for step in STEPS if step.group in ("raw", *KNOWN_GROUPS))
VIEWS = (
    "state_interval", "downtime_event", "oee_elements", "oee_loss", "oee_rollup", "reliability", "production_count",
    "segment_event", "wip_interval", "operations_event",
)  # fmt: skip
RESOURCE = """
[[source.resource]]
name = "{name}"
tables = ["raw_{name}"]
format = "csv"
path = "{name}-*.csv"

[source.resource.fields]
record_id = "id"
revision = "rev"
is_deleted = "gone"
updated_at = "written"
{fields}
"""
COLUMNS = {
    "equipment_state": ("equipment_id", "state", "start_at", "end_at"),
    "production_count": (
        "equipment_id",
        "material_definition_id",
        "counted_at",
        "good_quantity",
        "scrap_quantity",
        "rework_quantity",
    ),
    "signal_event": ("equipment_id", "signal", "value", "occurred_at"),
    "segment_event": ("item_id", "item_kind", "segment_id", "equipment_id", "event_type", "occurred_at", "quantity"),
}
Row = dict[str, str]


def at(minutes: float) -> str:
    return (START + timedelta(minutes=minutes)).isoformat().replace("+00:00", "Z")


def record(name: str, written: float, cells: Mapping[str, object], *, rev: int = 1, gone: bool = False) -> Row:
    head = {"id": name, "rev": str(rev), "gone": str(gone).lower(), "written": at(written)}
    return head | {column: str(value) for column, value in cells.items()}


def records() -> dict[str, list[Row]]:
    """A shift of forty states, counts and moves; every fifth came an hour late, every seventh was corrected, one deleted."""
    rows: dict[str, list[Row]] = {name: [] for name in COLUMNS}
    for number in range(40):
        begin = 12.0 * number
        late = 60.0 if number % 5 == 0 else 0.5
        state = {"equipment_id": "L1-LATHE", "state": "STOP" if number % 3 == 0 else "RUN", "start_at": at(begin)}
        rows["equipment_state"].append(record(f"s{number}", begin + 12 + late, state | {"end_at": at(begin + 12)}))
        count = {
            "equipment_id": "L1-LATHE",
            "material_definition_id": "SHAFT",
            "counted_at": at(begin + 5),
            "scrap_quantity": 0,
            "rework_quantity": 0,
        }
        rows["production_count"].append(record(f"c{number}", begin + 5 + late, count | {"good_quantity": number}))
        move = {"item_id": f"I{number}", "item_kind": "lot", "segment_id": "turn", "equipment_id": "L1-LATHE", "quantity": 4}
        for kind, minute in (("started", 1), ("finished", 9)):
            told = move | {"event_type": kind, "occurred_at": at(begin + minute)}
            rows["segment_event"].append(record(f"m{number}-{kind}", begin + minute + late, told))
        if number % 7 == 0:
            shorter, more = state | {"end_at": at(begin + 8)}, count | {"good_quantity": number + 1}
            rows["equipment_state"].append(record(f"s{number}", begin + 200, shorter, rev=2))
            rows["production_count"].append(record(f"c{number}", begin + 200, more, rev=2))
    gone = {"equipment_id": "L1-LATHE", "state": "RUN", "start_at": at(240)}
    rows["equipment_state"].append(record("s20", 500, gone, rev=2, gone=True))
    # a count that was put on the day before, and corrected to this one
    other = {
        "equipment_id": "L1-LATHE",
        "material_definition_id": "SHAFT",
        "good_quantity": 9,
        "scrap_quantity": 0,
        "rework_quantity": 0,
    }
    rows["production_count"].append(record("moved", 100, other | {"counted_at": at(-600)}))
    rows["production_count"].append(record("moved", 400, other | {"counted_at": at(33)}, rev=2))
    for minute in range(0, 480, 48):
        word = {"equipment_id": "L1-LATHE", "signal": "alarm", "occurred_at": at(minute)}
        rows["signal_event"].append(record(f"w{minute}", minute + 90, word | {"value": "FAULT" if minute % 96 else "NORMAL"}))
    return rows


def same_names(table: str) -> str:
    return "\n".join(f'{column} = "{column}"' for column in COLUMNS[table])


def landed(folder: Path, batches: list[list[tuple[str, Row]]], run_after: set[int]) -> Workspace:
    """A plant that received the batches one after the other, each as files of its own."""
    site, drop = folder / "site", folder / "drop"
    scaffold(site, "plant-1")
    drop.mkdir()
    head = f'[[source]]\nsource_id = "mes"\nkind = "files"\nroot = "{drop}"\n'
    (site / "sources.toml").write_text(head + "".join(RESOURCE.format(name=name, fields=same_names(name)) for name in COLUMNS))
    workspace = Workspace.open(Settings(site=site, data=folder / "data"))
    source = open_source(workspace.site.source("mes"), workspace.settings)
    for number, batch in enumerate(batches):
        for name, columns in COLUMNS.items():
            here = [row for table, row in batch if table == name]
            names = ["id", "rev", "gone", "written", *columns]
            lines = [",".join(names), *(",".join(row.get(column, "") for column in names) for row in here)]
            if here:
                (drop / f"{name}-{number:03}.csv").write_text("\n".join(lines) + "\n")
        land_source(source, workspace.site, workspace.landing, workspace.ledger)
        if number in run_after:
            run_range(workspace, DATES, steps=NEEDED)
    run_range(workspace, DATES, steps=NEEDED)
    return workspace


def everything() -> list[tuple[str, Row]]:
    return [(name, row) for name, rows in records().items() for row in rows]


def in_random_batches(seed: int) -> list[list[tuple[str, Row]]]:
    chance = random.Random(seed)
    rows = everything()
    chance.shuffle(rows)
    edges = sorted(chance.sample(range(1, len(rows)), 4))
    return [rows[first:last] for first, last in zip([0, *edges], [*edges, len(rows)], strict=True)]


def view(workspace: Workspace, table: str, minutes: float) -> pl.DataFrame:
    day = DAY if LAKE_TABLES[table].partitioned else None
    frame = known_table(workspace, table, START + timedelta(minutes=minutes), day).frame
    return frame.drop([name for name in ASIDE if name != "as_of"], strict=False)


@pytest.fixture(scope="module")
def at_once(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return landed(tmp_path_factory.mktemp("at_once"), [everything()], set())


@pytest.fixture(scope="module")
def views(at_once: Workspace) -> dict[tuple[str, float], pl.DataFrame]:
    return {(table, minutes): view(at_once, table, minutes) for table in VIEWS for minutes in (150.5, 420.0)}


def test_the_two_times_tell_different_things(views: dict[tuple[str, float], pl.DataFrame], at_once: Workspace) -> None:
    assert at_once.known_until() > START + timedelta(minutes=480)
    for table in VIEWS:
        assert views[table, 420.0].height, table
        assert not views[table, 150.5].equals(views[table, 420.0]), table


@pytest.mark.parametrize("seed", range(2))
def test_order_and_batches_of_late_records_do_not_change_a_view(
    seed: int, views: dict[tuple[str, float], pl.DataFrame], tmp_path: Path
) -> None:
    workspace = landed(tmp_path, in_random_batches(seed), {seed})
    for (table, minutes), expected in views.items():
        assert view(workspace, table, minutes).equals(expected), (table, minutes)
    assert verify_event_log(workspace).is_empty()


@pytest.mark.parametrize("minutes", [144.5, 400.0])
def test_a_view_is_what_a_lake_of_that_time_held(minutes: float, at_once: Workspace, tmp_path: Path) -> None:
    """Only the records that had been written by then are landed, the last of them at that very minute."""
    then = [(table, row) for table, row in everything() if row["written"] <= at(minutes)]
    assert max(row["written"] for _, row in then) == at(minutes)
    workspace = landed(tmp_path, [then], set())
    for table in VIEWS:
        held = workspace.lake.read(table, DAY if LAKE_TABLES[table].partitioned else None)
        expected = held.drop([name for name in ASIDE if name != "as_of"], strict=False)
        assert view(at_once, table, minutes).equals(expected), table

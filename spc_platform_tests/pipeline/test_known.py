"""Every production table as known in the night, asked for when the rest had landed: byte for byte what was made then."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import copytree

import polars as pl
import pytest
from typer.testing import CliRunner

from spc_platform.cli.main import app
from spc_platform.contracts import LAKE_TABLES
from spc_platform.engine import STEPS, Workspace, run_range
from spc_platform.engine.known import KNOWN_GROUPS, KNOWN_TABLES, known_table
from spc_platform.engine.known_changes import DELTAS, known_changes
from spc_platform.errors import ContractError
from spc_platform.plant import Plant, PlantServer
from spc_platform.plant.process import FIRST_DATE
from spc_platform.settings import Settings
from spc_platform_tests.pipeline.conftest import SITE, land

NIGHT = datetime(2026, 3, 24, 0, 30, tzinfo=UTC)
"""Half past one in the night of the first production date: the late shift is over, the night shift runs."""
HOURS = 30.0
NEEDED = [step for step in STEPS if step.group in ("raw", *KNOWN_GROUPS)]
DATES = [FIRST_DATE, FIRST_DATE + timedelta(days=1)]
LATER = datetime(2100, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Twice:
    """One workspace, and the tables of the first production date as they were made in the night."""

    workspace: Workspace
    night: dict[str, pl.DataFrame]
    newest: datetime


def night_tables(workspace: Workspace) -> dict[str, pl.DataFrame]:
    return {name: workspace.lake.read(name, FIRST_DATE if LAKE_TABLES[name].partitioned else None) for name in KNOWN_TABLES}


def site_without_measurements(folder: Path) -> Path:
    copytree(SITE, folder / "site")
    sources = folder / "site" / "sources.toml"
    head, *resources = sources.read_text().split("[[source.resource]]")
    kept = [each for each in resources if not re.search(r'name = "measurements"', each)]
    sources.write_text("[[source.resource]]".join([head, *kept]))
    return folder / "site"


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory, plant: Plant) -> Twice:
    """Landed and made in the night, then again thirty hours later."""
    folder = tmp_path_factory.mktemp("known")
    with PlantServer(plant=plant, now=NIGHT) as server:
        settings = Settings(site=site_without_measurements(folder), data=folder / "data", source_url={"mes": server.url})
        workspace = Workspace.open(settings)
        land(workspace)
        run_range(workspace, [FIRST_DATE], steps=NEEDED)
        night, newest = night_tables(workspace), workspace.ledger.newest()
        assert newest is not None
        server.clock.advance(HOURS)
        land(workspace)
        run_range(workspace, DATES, steps=NEEDED)
    return Twice(workspace, night, newest)


def asked(workspace: Workspace, table: str, at: datetime) -> pl.DataFrame:
    return known_table(workspace, table, at, FIRST_DATE if LAKE_TABLES[table].partitioned else None).frame


@pytest.mark.parametrize("table", KNOWN_TABLES)
def test_a_table_of_the_night_comes_back_exactly(twice: Twice, table: str) -> None:
    assert asked(twice.workspace, table, twice.newest).equals(twice.night[table])


def test_the_night_knew_less(twice: Twice) -> None:
    """Else the test above would compare nothing."""
    now = night_tables(twice.workspace)
    same = {name for name in KNOWN_TABLES if now[name].equals(twice.night[name])}
    assert {"state_interval", "oee_elements", "downtime_event", "oee_rollup", "operations_event"}.isdisjoint(same)


@pytest.mark.parametrize("table", KNOWN_TABLES)
def test_known_now_is_what_the_lake_holds(twice: Twice, table: str) -> None:
    held = twice.workspace.lake.read(table, FIRST_DATE if LAKE_TABLES[table].partitioned else None)
    assert asked(twice.workspace, table, LATER).equals(held)


def test_before_anything_was_received_nothing_is_known(twice: Twice) -> None:
    """All pages were received today; the plant's records are of March."""
    today = min(page.received_at for page in twice.workspace.ledger.pages("raw_production_count", FIRST_DATE))
    for table in ("production_count", "oee_elements", "operations_event"):
        before = known_table(twice.workspace, table, today - timedelta(seconds=1), FIRST_DATE, clock="receipt")
        assert before.frame.is_empty(), table


@pytest.mark.parametrize("table", ["oee_elements", "production_count", "work_order_status", "operations_event"])
def test_by_receipt_of_every_page_all_is_known(twice: Twice, table: str) -> None:
    partitioned = LAKE_TABLES[table].partitioned
    found = known_table(twice.workspace, table, LATER, FIRST_DATE if partitioned else None, clock="receipt")
    assert found.frame.equals(twice.workspace.lake.read(table, FIRST_DATE if partitioned else None))


def test_contributions_of_late_events_add_up_to_the_cells_that_changed(twice: Twice) -> None:
    changes = known_changes(twice.workspace, known_table(twice.workspace, "oee_elements", NIGHT, FIRST_DATE))
    assert set(changes.rows["change"]) <= {"added", "changed"}
    now = twice.workspace.lake.read("oee_elements", FIRST_DATE)
    units = changes.rows["equipment_id"].unique().sort()
    assert len(units) > 5
    for unit in units:
        brought = changes.causes.filter(equipment_id=unit)
        for name in DELTAS:
            then, after = (float(frame.filter(equipment_id=unit)[name].sum()) for frame in (changes.known.frame, now))
            assert brought[name].sum() == pytest.approx(after - then, abs=1e-6), (unit, name)
    assert changes.causes.filter(pl.col("cause") == "event")["recorded_at"].min() > NIGHT  # type: ignore[operator]


def test_rows_that_changed_name_the_records_that_changed_them(twice: Twice) -> None:
    """An order that ran in the night: the events of its life that were written later, and no order that did not change."""
    changes = known_changes(twice.workspace, known_table(twice.workspace, "work_order_status", NIGHT))
    orders = set(changes.rows["job_order_id"])
    lifecycle = changes.causes.filter(event_type="work_order_event")
    raw = twice.workspace.read_all("raw_work_order_event")
    told = raw.join(lifecycle, on=["source_id", "record_id"], how="semi")
    late = raw.filter((pl.col("updated_at") > NIGHT) & pl.col("job_order_id").is_in(list(orders)))
    assert set(told["job_order_id"]) <= orders
    assert set(told["record_id"]) == set(late["record_id"])
    assert lifecycle.height > 5


def test_a_view_of_now_has_no_changes(twice: Twice) -> None:
    for table in ("oee_elements", "energy_by_state", "wip_interval"):
        found = known_table(twice.workspace, table, LATER, FIRST_DATE if LAKE_TABLES[table].partitioned else None)
        changes = known_changes(twice.workspace, found)
        assert changes.rows.is_empty()
        assert changes.cells.is_empty()
        assert changes.causes.is_empty()


def spc(monkeypatch: pytest.MonkeyPatch, twice: Twice, *words: str) -> str:
    monkeypatch.setenv("SPC_SITE", str(twice.workspace.settings.site))
    monkeypatch.setenv("SPC_DATA", str(twice.workspace.settings.data))
    found = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.output


def late_events(twice: Twice) -> list[dict[str, str]]:
    log = twice.workspace.lake.read("operations_event", FIRST_DATE)
    return log.filter(pl.col("recorded_at") > NIGHT).select("record_id").to_dicts()


ASKED = ("known", "--at", NIGHT.isoformat(), "--date", "2026-03-23", "--table")


def test_known_on_the_command_line(twice: Twice, monkeypatch: pytest.MonkeyPatch) -> None:
    document = json.loads(spc(monkeypatch, twice, *ASKED, "oee_elements", "--format", "json"))
    assert document["as_of"] == "2026-03-24T00:30:00.000000Z"
    view = known_table(twice.workspace, "oee_elements", NIGHT, FIRST_DATE).frame
    assert [row["pq"] for row in document["rows"]] == view["pq"].to_list()
    assert "oee_elements" in spc(monkeypatch, twice, *ASKED, "oee_elements")


@pytest.mark.parametrize("table", ["oee_elements", "energy_by_state", "oee_rollup", "downtime_event", "operations_event"])
def test_differences_on_the_command_line(twice: Twice, monkeypatch: pytest.MonkeyPatch, table: str) -> None:
    document = json.loads(spc(monkeypatch, twice, *ASKED, table, "--diff", "--format", "json"))
    assert document["differences"]
    assert document["causes"]
    changed = [row for row in document["differences"] if row["change"] == "changed"]
    assert all(row["cells"] for row in changed)
    if table == "operations_event":
        assert {row["record_id"] for row in document["causes"]} >= {row["record_id"] for row in late_events(twice)}
    assert all(cell["known"] != cell["present"] for row in changed for cell in row["cells"])
    assert bool(document["late_readings"]) == (table == "energy_by_state")
    text = spc(monkeypatch, twice, *ASKED, table, "--diff")
    assert "what changed since" in text


@pytest.mark.parametrize(("table", "words", "code"), [
    ("spc_limits", [], "SPC-650"),
    ("oee_shift", [], "SPC-650"),
    ("oee_elements", [], "SPC-651"),
    ("work_order_status", ["--date", "2026-03-23"], "SPC-651"),
    ("oee_elements", ["--date", "2026-05-01"], "SPC-651"),
    ("oee_elements", ["--date", "2026-03-23", "--clock", "wall"], "SPC-634"),
])  # fmt: skip
def test_questions_that_cannot_be_answered(
    twice: Twice, monkeypatch: pytest.MonkeyPatch, table: str, words: list[str], code: str
) -> None:
    with pytest.raises(ContractError, match=code):
        spc(monkeypatch, twice, "known", "--at", "2026-03-24T00:30", "--table", table, *words)

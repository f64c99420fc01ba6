"""Every production table as known in the night, asked for when the rest had landed: byte for byte what was made in the night."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import copytree

import polars as pl
import pytest

from spc_platform.contracts import LAKE_TABLES
from spc_platform.engine import STEPS, Workspace, run_range
from spc_platform.engine.known import KNOWN_GROUPS, KNOWN_TABLES, known_table
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

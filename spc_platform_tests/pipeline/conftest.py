"""A finished workspace over the embedded plant, made once for all test processes, and small ones for faults."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from shutil import copytree
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from spc_platform.engine import Workspace, run_range
from spc_platform.lake.files import locked
from spc_platform.lake.landing import LandingReport, land_source
from spc_platform.plant import Plant, PlantServer
from spc_platform.plant.process import DEFAULT_NOW, FIRST_DATE
from spc_platform.plant.simulation import TRUTHS
from spc_platform.settings import REPOSITORY, Settings
from spc_platform.sources import open_source

SITE = REPOSITORY / "data" / "site"
FOURTEEN_DATES = [FIRST_DATE + timedelta(days=number) for number in range(14)]
TRUTH_NAMES = (*TRUTHS, "special_causes", "oee_elements", "order_lifecycle", "event_defects")
BERLIN = ZoneInfo("Europe/Berlin")


@dataclass(frozen=True)
class Finished:
    """A workspace whose figures are made, and what the plant says is true."""

    workspace: Workspace
    truths: dict[str, pl.DataFrame]

    def table(self, name: str) -> pl.DataFrame:
        return self.workspace.read_all(name)

    def truth(self, name: str) -> pl.DataFrame:
        return self.truths[name]


def _settings(data: Path, url: str = "http://127.0.0.1:9", site: Path = SITE) -> Settings:
    return Settings(site=site, data=data, source_url={"mes": url})


def _build(folder: Path) -> None:
    plant = Plant()
    plant.now = DEFAULT_NOW
    with PlantServer(plant=plant) as server:
        workspace = Workspace.open(_settings(folder / "data", server.url))
        land(workspace)
    run_range(workspace, FOURTEEN_DATES)
    (folder / "truth").mkdir()
    for name in TRUTH_NAMES:
        plant.truth(name).write_parquet(folder / "truth" / f"{name}.parquet")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Fourteen production dates, landed over HTTP and run without an orchestrator; read it, never write to it."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "finished"
    shared.mkdir(exist_ok=True)
    with locked(shared / "lock", 300.0, "the finished workspace"):
        if not (shared / "done").exists():
            _build(shared)
            (shared / "done").touch()
    truths = {name: pl.read_parquet(shared / "truth" / f"{name}.parquet") for name in TRUTH_NAMES}
    return Finished(Workspace.open(_settings(shared / "data")), truths)


def land(workspace: Workspace) -> LandingReport:
    source = open_source(workspace.site.source("mes"), workspace.settings)
    return land_source(source, workspace.site, workspace.landing, workspace.ledger)


def morning_after(production_date: date) -> datetime:
    """Half past six on the morning on which a production date ends."""
    return datetime.combine(production_date + timedelta(days=1), datetime.min.time(), tzinfo=BERLIN).replace(hour=6, minute=30)


@pytest.fixture(scope="session")
def plant() -> Plant:
    """The plant's records, generated once per process."""
    return Plant()


@pytest.fixture(scope="session")
def brisk_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded plant's site folder with small pages and short waits, so that faults hit in mid-walk and pass quickly."""
    folder = tmp_path_factory.mktemp("site") / "brisk"
    copytree(SITE, folder)
    sources = folder / "sources.toml"
    text = sources.read_text()
    text = re.sub(r"page_size = \d+", "page_size = 400", text)
    text = re.sub(r"requests_per_s = \d+", "requests_per_s = 0\nbackoff_s = 0.01\nbackoff_max_s = 0.02", text)
    text = re.sub(r"breaker_failures = \d+", "breaker_failures = 50", text)
    sources.write_text(text)
    return folder


MakeServer = Callable[..., Any]


@pytest.fixture
def serve(plant: Plant) -> MakeServer:
    """Context manager of a server whose clock stands on the morning after ``until``; options as for PlantServer."""

    @contextmanager
    def running(until: date = FIRST_DATE, **options: Any) -> Iterator[PlantServer]:
        with PlantServer(plant=options.pop("plant", plant), now=morning_after(until), **options) as server:
            yield server

    return running


@pytest.fixture
def opened(brisk_site: Path) -> Callable[..., Workspace]:
    """Opens a workspace of the brisk site in a folder, reading from a URL."""

    def workspace(data: Path, url: str) -> Workspace:
        return Workspace.open(_settings(data, url, brisk_site))

    return workspace

"""Data folders for benchmarks: the embedded plant landed once, a fresh copy for every run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from shutil import copytree, rmtree

from spc_platform.cli.demo import DEMO_DATES, running_plant
from spc_platform.engine import Workspace
from spc_platform.lake.landing import LandingReport, land_source
from spc_platform.settings import REPOSITORY, Settings
from spc_platform.sources import open_source

SITE = REPOSITORY / "data" / "site"


@contextmanager
def plant() -> Iterator[None]:
    """The embedded plant in a process of its own; settings made inside read from it."""
    before = os.environ.get("SPC_SOURCE_URL")
    try:
        with running_plant(Settings()):
            yield
    finally:
        os.environ.pop("SPC_SOURCE_URL", None)
        if before is not None:
            os.environ["SPC_SOURCE_URL"] = before


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="spc-bench-")


def scratch(name: str) -> Path:
    """A folder that is gone when the process ends."""
    return Path(_scratch().name) / name


def settings(data: Path) -> Settings:
    return Settings(site=SITE, data=data)


def land(data: Path) -> LandingReport:
    workspace = Workspace.open(settings(data))
    source = open_source(workspace.site.source("mes"), workspace.settings)
    return land_source(source, workspace.site, workspace.landing, workspace.ledger)


@cache
def _landed() -> Path:
    data = scratch("landed")
    with plant():
        land(data)
    return data


@contextmanager
def landed_workspace(name: str) -> Iterator[Workspace]:
    """A workspace whose landing area is filled and whose lake is empty; removed afterwards."""
    data = scratch(name)
    copytree(_landed(), data)
    try:
        yield Workspace.open(settings(data))
    finally:
        rmtree(data)


def dates(count: int = DEMO_DATES) -> list[date]:
    first = Workspace.open(settings(_landed())).site.first_production_date
    return [first + timedelta(days=offset) for offset in range(count)]

"""A small site whose sources are subscriptions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from spc_platform.collect.readings import Recorder, tags_of
from spc_platform.contracts.site import SITE_TABLES
from spc_platform.site.loader import load_site
from spc_platform.site.model import Resource, Site, Source
from spc_platform.site.scaffold import scaffold

RESOURCES = (
    Resource("telemetry", ("raw_telemetry",), "json_records", mutable=False),
    Resource("signals", ("raw_signal_event",), "json_records", mutable=False),
    Resource("measurements", ("raw_measurement",), "json_records", mutable=False),
)


def subscription(kind: str = "opcua", source_id: str = "line1", **given: Any) -> Source:
    """A source of a kind that feeds streams, signals and measurements."""
    return Source(source_id=source_id, kind=kind, resources=RESOURCES, **given)  # type: ignore[arg-type]


def tag_rows(*rows: dict[str, Any]) -> pl.DataFrame:
    """Rows of the table ``tags``; what a row leaves out is empty."""
    table = SITE_TABLES["tags"]
    return pl.DataFrame([{name: row.get(name) for name in table.names} for row in rows], schema=table.schema, orient="row")


@pytest.fixture
def plain_site(tmp_path: Path) -> Site:
    """The site that `spc init` writes."""
    scaffold(tmp_path / "plain", "plain")
    return load_site(tmp_path / "plain")


@pytest.fixture
def recorder(plain_site: Site) -> Callable[..., Recorder]:
    """Makes a recorder of tag rows of source ``line1``; a row names ``address``, ``record``, ``name`` and what it needs."""

    def make(*rows: dict[str, Any], source: Source | None = None) -> Recorder:
        source = source or subscription()
        defaults = {"source_id": source.source_id, "equipment_id": "L1-LATHE"}
        plain_site.tables["tags"] = tag_rows(*({**defaults, **row} for row in rows))
        return Recorder(source, tags_of(plain_site, source))

    return make

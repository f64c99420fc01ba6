"""A MES of which a test says every page, in the form of the embedded plant's, and a workspace of the demonstration site."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from spc_platform.engine import Workspace
from spc_platform.lake.landing import LandingReport, land_source
from spc_platform.settings import REPOSITORY, Settings
from spc_platform.site.model import Resource, Source
from spc_platform.sources.base import Page

SITE = REPOSITORY / "data" / "site"
CHARACTERISTIC, STATION, UNIT = "A10.bore_diameter", "A10", "mm"


def workspace(data: Path) -> Workspace:
    return Workspace.open(Settings(site=SITE, data=data, source_url={"mes": "http://127.0.0.1:9"}))


def text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def measurement(record_id: str, at: datetime, value: float = 42.0, rev: int = 1, **fields: Any) -> dict[str, Any]:
    """A record of /api/v1/measurements; a later revision is written an hour later."""
    return {
        "id": record_id, "rev": rev, "updated_at": text(at + timedelta(hours=rev)), "deleted": False,
        "characteristic": CHARACTERISTIC, "station": STATION, "measured_at": text(at), "value": value, "unit": UNIT,
        "serial": f"S-{record_id}", "lot": "L1", "order": "O1", "sample": None,
    } | fields  # fmt: skip


def state(record_id: str, name: str, start: datetime, end: datetime | None, rev: int = 1) -> dict[str, Any]:
    """A record of /api/v1/equipment-states, written when the state ended (or began, while it lasts)."""
    return {
        "id": record_id, "rev": rev, "updated_at": text((end or start) + timedelta(minutes=rev)), "deleted": False,
        "station": STATION, "state": name, "reason": None, "start": text(start), "end": None if end is None else text(end),
    }  # fmt: skip


class ScriptedMes:
    """A source that gives the same pages of one resource on every walk."""

    def __init__(self, config: Source, resource: str, *pages: list[dict[str, Any]]) -> None:
        self.config = config
        self.resource = resource
        self.pages = pages

    def walk(self, resource: Resource, watermark: str | None) -> Iterator[Page]:
        for number, records in enumerate(self.pages if resource.name == self.resource else ()):
            body = json.dumps({"data": records, "next_cursor": None, "next": None}).encode()
            yield Page(self.config.source_id, resource.name, body, "scripted", str(number), datetime(2026, 4, 6, tzinfo=UTC))

    def has_news(self, resource: Resource, watermark: str | None) -> str | None:
        return None


def land(plant: Workspace, *pages: list[dict[str, Any]], resource: str = "measurements") -> LandingReport:
    source: Any = ScriptedMes(plant.site.source("mes"), resource, *pages)
    return land_source(source, plant.site, plant.landing, plant.ledger)

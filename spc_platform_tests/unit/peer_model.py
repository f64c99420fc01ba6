"""A peer that knows its own truth: records are inserted, corrected, moved and deleted, and given out page by page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from spc_platform.site.model import Resource
from spc_platform.site.model import Source as SourceConfig
from spc_platform.sources.base import Page
from spc_platform_tests.unit.lake_plant import CONFIG, MEASUREMENTS, MONDAY, at, measurement

BEGIN = datetime(2026, 3, 5, tzinfo=UTC)
OVERLAP_S = 600.0
RESOURCE = replace(MEASUREMENTS, overlap_s=OVERLAP_S)
WINDOWED = replace(RESOURCE, deletions="window", least_window_share=0.0)


def day(number: int) -> date:
    return MONDAY + timedelta(days=number)


def iso(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


@dataclass
class Peer:
    """Records by id as the peer shows them now; each change takes a minute of its clock."""

    resource: Resource = RESOURCE
    page_size: int = 3
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    now: datetime = BEGIN
    walks: int = 0
    asked_since: list[str | None] = field(default_factory=list)

    @property
    def config(self) -> SourceConfig:
        return replace(CONFIG, resources=(self.resource,))

    def put(self, name: str, number: int, value: float, *, late_s: float = 0.0) -> None:
        """Insert, correct or move a record onto a production date; it shows ``late_s`` after it was written."""
        self.now += timedelta(minutes=1)
        rev = self.records.get(name, {"rev": 0})["rev"] + 1
        written = iso(self.now - timedelta(seconds=late_s))
        self.records[name] = measurement(name, at(day(number), 8), value, rev, updated_at=written, deleted=False)

    def flag_deleted(self, name: str) -> None:
        self.now += timedelta(minutes=1)
        if name in self.records:
            old = self.records[name]
            self.records[name] = {**old, "rev": old["rev"] + 1, "updated_at": iso(self.now), "deleted": True}

    def drop(self, name: str) -> None:
        """Delete without a word."""
        self.now += timedelta(minutes=1)
        self.records.pop(name, None)

    def truth(self) -> dict[str, tuple[str, float]]:
        """Records in force: when measured and value."""
        return {name: (row["measured_at"], row["value"]) for name, row in self.records.items() if not row["deleted"]}

    def since(self, watermark: str | None) -> list[dict[str, Any]]:
        """Records written since the watermark less the overlap, oldest first."""
        first = "" if watermark is None else iso(datetime.fromisoformat(watermark) - timedelta(seconds=self.resource.overlap_s))
        return sorted(
            (row for row in self.records.values() if row["updated_at"] >= first), key=lambda row: (row["updated_at"], row["id"])
        )

    def walk(self, resource: Resource, watermark: str | None) -> Iterator[Page]:
        self.walks += 1
        self.asked_since.append(watermark)
        rows = self.since(watermark)
        for start in range(0, max(len(rows), 1), self.page_size):
            body = json.dumps({"data": rows[start : start + self.page_size]}).encode()
            yield Page("mes", resource.name, body, f"walk {self.walks} from {start}", str(start), self.now)

    def has_news(self, resource: Resource, watermark: str | None) -> str | None:
        return None

"""Figures of walks over sources, added up over all processes: requests and their times, retries, pages, records, bytes.

A walk counts in memory and is added to the shared state file by one statement at its end, so that the counters of
processes that live for one walk survive them.
"""

from __future__ import annotations

import bisect
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from spc_platform.observe.traces import span

if TYPE_CHECKING:
    from spc_platform.sources.resilience import StateFile

BOUNDS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the classes of request times in s; slower ones are the last class."""
_Item = TypeVar("_Item")


@dataclass
class WalkFigures:
    """Sums over walks of one resource; a walk that failed counts what it did until then. Times are None where unknown."""

    walks: int = 0
    failures: int = 0
    requests: int = 0
    request_seconds: float = 0.0
    retries: int = 0
    pages: int = 0
    records: int = 0
    new_records: int = 0
    bytes: int = 0
    last_success_at: float | None = None
    last_failure_at: float | None = None
    newest_at: float | None = None
    received_at: float | None = None
    times: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))

    def page(self, size: int, records: int, new_records: int, received_at: datetime, newest_at: datetime | None) -> None:
        """A page landed; ``newest_at`` is the source's own time of its newest record."""
        self.pages += 1
        self.bytes += size
        self.records += records
        self.new_records += new_records
        if newest_at is not None:
            self.newest_at = max(newest_at.timestamp(), self.newest_at or 0.0)
            self.received_at = received_at.timestamp()

    def end(self, *, is_success: bool) -> None:
        """The walk is over."""
        self.walks = 1
        now = datetime.now(UTC).timestamp()
        if is_success:
            self.last_success_at = now
        else:
            self.failures, self.last_failure_at = 1, now


_SUMS = tuple(each.name for each in fields(WalkFigures) if each.default in (0, 0.0))
_LATEST = tuple(each.name for each in fields(WalkFigures) if each.default is None)
_CLASSES = tuple(f"class_{number}" for number in range(len(BOUNDS_S) + 1))
_COLUMNS = (*_SUMS, *_LATEST, *_CLASSES)
SCHEMA = (
    "CREATE TABLE IF NOT EXISTS walk_figures (source_id TEXT, resource TEXT, "
    + ", ".join(f"{name} REAL NOT NULL DEFAULT 0" for name in (*_SUMS, *_CLASSES))
    + "".join(f", {name} REAL" for name in _LATEST)
    + ", PRIMARY KEY (source_id, resource));"
)
_ADD = (
    f"INSERT INTO walk_figures (source_id, resource, {', '.join(_COLUMNS)}) VALUES (?, ?{', ?' * len(_COLUMNS)})"
    " ON CONFLICT (source_id, resource) DO UPDATE SET "
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in (*_SUMS, *_CLASSES))
    + "".join(f", {name} = coalesce(excluded.{name}, {name})" for name in _LATEST)
)
_CURRENT: ContextVar[WalkFigures | None] = ContextVar("figures of the walk that is under way", default=None)


@contextmanager
def walking() -> Iterator[WalkFigures]:
    """Figures to which the requests of a walk are added while the context lasts."""
    figures = WalkFigures()
    reset = _CURRENT.set(figures)
    try:
        yield figures
    finally:
        _CURRENT.reset(reset)


@contextmanager
def timed_request() -> Iterator[None]:
    """Times one request of the walk under way, whether it succeeds or not."""
    began = time.monotonic()
    try:
        with span("request"):
            yield
    finally:
        figures = _CURRENT.get()
        if figures is not None:
            took = time.monotonic() - began
            figures.requests += 1
            figures.request_seconds += took
            figures.times[bisect.bisect_left(BOUNDS_S, took)] += 1


def each_timed(items: Iterable[_Item]) -> Iterator[_Item]:
    """The items, each of which is fetched by one request that is timed."""
    iterator = iter(items)
    while True:
        with timed_request():
            item = next(iterator, None)
        if item is None:
            return
        yield item


def count_retry() -> None:
    """A request of the walk under way is made again."""
    figures = _CURRENT.get()
    if figures is not None:
        figures.retries += 1


def add_figures(file: StateFile, source_id: str, resource: str, walk: WalkFigures) -> None:
    """Add a walk to what all processes counted so far."""
    file.execute(_ADD, source_id, resource, *(getattr(walk, name) for name in (*_SUMS, *_LATEST)), *walk.times)


def all_figures(file: StateFile) -> dict[tuple[str, str], WalkFigures]:
    """Sums by source and resource."""
    found = {}
    for source_id, resource, *values in file.rows(f"SELECT source_id, resource, {', '.join(_COLUMNS)} FROM walk_figures"):
        plain = len(_SUMS) + len(_LATEST)
        named = dict(zip((*_SUMS, *_LATEST), values[:plain], strict=True))
        found[source_id, resource] = WalkFigures(**named, times=[int(value) for value in values[plain:]])
    return found

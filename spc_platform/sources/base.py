"""The small protocol behind which every source stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol, runtime_checkable

from spc_platform.errors import SpcError
from spc_platform.prepare.clock import ClockExchange
from spc_platform.site.model import Resource
from spc_platform.site.model import Source as SourceConfig


@dataclass(frozen=True, slots=True)
class Page:
    """What a source said in one answer, unchanged.

    ``body`` is the answer's bytes; ``origin`` says which request or file gave it (secrets removed);
    ``position`` is the source's own mark of progress, e.g. a cursor or a file name. No record is believed to be written
    after ``credible_until``, the source's own time in this answer with some tolerance; None when it did not say.
    ``clock`` is what the answer says of the source's clock.
    """

    source_id: str
    resource: str
    body: bytes
    origin: str
    position: str
    received_at: datetime
    credible_until: datetime | None = None
    clock: ClockExchange | None = None


class Source(Protocol):
    """Pulls pages, oldest first. Holds no state of its own between walks."""

    config: SourceConfig

    def walk(self, resource: Resource, watermark: str | None) -> Iterator[Page]:
        """Pages of all records written since ``watermark`` (all records when it is None), one at a time.

        Raises TransientError when the deadline passed or a breaker is open, PermanentError when trying
        again cannot help.
        """

    def has_news(self, resource: Resource, watermark: str | None) -> str | None:
        """A token that names the newest unread change, or None. One short request, no retries."""


@runtime_checkable
class WatermarkKeeper(Protocol):
    """A source that says itself where its next walk begins; for others, landing concludes it from the pages."""

    def next_watermark(self, resource: Resource) -> str | None:
        """The watermark that holds once every page which the last walk over ``resource`` gave has landed; None leaves it."""


@runtime_checkable
class WindowReader(Protocol):
    """A source that can give again what it gave before; others are walked anew from an earlier watermark, or in full."""

    def walk_window(self, resource: Resource, since: datetime | None) -> Iterator[Page]:
        """Pages of all records written since an instant (all records when it is None), whatever was read before."""


@runtime_checkable
class CountsKeeper(Protocol):
    """A source that may count its records itself, so that they need not be read again to be compared."""

    def counts(self, resource: Resource, first: date, last: date) -> dict[date, int] | None:
        """Records in force per production date from ``first`` to ``last``; None when it does not count this resource."""


@runtime_checkable
class Refuser(Protocol):
    """A source whose pages stand for themselves: one that cannot be read does not stop the others.

    Its walk raises at its end, with what could not be read; what came before is read, and ``next_watermark`` holds.
    """

    def refuse(self, page: Page, error: SpcError) -> None:
        """Take note that a page of the walk under way landed and cannot be read."""

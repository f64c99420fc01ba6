"""What the collector has spooled, as pages to land: the source behind every subscription."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from spc_platform.collect.spool import Spool
from spc_platform.errors import ContractError
from spc_platform.settings import Settings
from spc_platform.site.model import Resource
from spc_platform.site.model import Source as SourceConfig
from spc_platform.sources.base import Page

PAGE_RECORDS = 5_000


class SpooledSource:
    """Pages of a collected source: JSON objects with an array ``records``, oldest first.

    The watermark is the sequence number of the last landed record. Records up to it leave the spool when the next walk
    begins, since by then the ledger holds the watermark and the pages.
    """

    def __init__(self, config: SourceConfig, settings: Settings) -> None:
        self.config = config
        self._spool = Spool(settings.spool_root, config.source_id)

    def walk(self, resource: Resource, watermark: str | None) -> Iterator[Page]:
        """Pages of the records behind the watermark. Raises ContractError for a watermark that is no sequence number."""
        sequence = _sequence(self.config.source_id, watermark)
        self._spool.drop(resource.name, sequence)
        last = self._spool.last(resource.name)
        while sequence < last:
            bodies, sequence = self._spool.after(resource.name, sequence, PAGE_RECORDS)
            if not bodies:
                return
            yield Page(
                source_id=self.config.source_id,
                resource=resource.name,
                body=b'{"records":[' + b",\n".join(bodies) + b"]}",
                origin=f"spool {self.config.source_id}/{resource.name} to {sequence}",
                position=str(sequence),
                received_at=datetime.now(UTC),
            )

    def has_news(self, resource: Resource, watermark: str | None) -> str | None:
        """The newest sequence number behind the watermark, or None."""
        last = self._spool.last(resource.name)
        return str(last) if last > _sequence(self.config.source_id, watermark) else None


def _sequence(source_id: str, watermark: str | None) -> int:
    if watermark is None:
        return 0
    if not watermark.isdigit():
        raise ContractError(
            f"source {source_id!r}: watermark {watermark!r} is no sequence number; the ledger's row was altered"
        )
    return int(watermark)

"""Windows of production dates read again in full: what a source holds of them now, landed like everything it says.

What a source no longer holds it does not say. Where a resource declares ``deletions = "window"``, the absence of a record
from a window that was read in full is landed as a page of our own making, with the record's last content and a note.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import polars as pl

from spc_platform.contracts.raw import DECODED_DTYPES, PAYLOAD
from spc_platform.errors import SpcError
from spc_platform.lake.landing import Landing, land_page, source_locked
from spc_platform.lake.ledger import Ledger
from spc_platform.lake.page_rows import OWN_PAGE, own_page_schema, typed_records
from spc_platform.site.model import Resource, Site
from spc_platform.sources.base import Page, Source, WindowReader

MARGIN = timedelta(days=1)
"""How much earlier than an event its record may have been written, by clocks that disagree."""


@dataclass
class WindowRead:
    """Records of a window as the source gave them, all revisions, per raw table; rows as in the raw tables."""

    rows: dict[str, list[pl.DataFrame]] = field(default_factory=dict)
    pages: int = 0
    new_records: int = 0
    touched: set[date] = field(default_factory=set)

    def table(self, name: str) -> pl.DataFrame | None:
        """All rows of one raw table; None when the source gave none."""
        return pl.concat(self.rows[name]) if self.rows.get(name) else None


def read_window(
    source: Source, resource: Resource, since: datetime | None, site: Site, landing: Landing, ledger: Ledger
) -> WindowRead:
    """Read and land all records written since an instant, whatever was read before; the watermark stays where it is.

    Records that came too late for every overlap are landed here, and their production dates touched. Raises what the
    source raises; pages that landed until then stay.
    """
    read = WindowRead()
    with source_locked(landing, source.config.source_id, 600.0), _batch(ledger, source.config.source_id, resource) as batch_id:
        for page in walk_window(source, resource, since):
            outcome = land_page(page, resource, site, landing, ledger, batch_id)
            read.pages += 1
            read.new_records += outcome.n_new
            read.touched.update(outcome.touched)
            for table in resource.tables:
                read.rows.setdefault(table, []).append(typed_records(resource, table, page, site))
    return read


def walk_window(source: Source, resource: Resource, since: datetime | None) -> Iterator[Page]:
    """Pages of all records written since an instant: as the source itself does it, else by an earlier watermark, else all."""
    if isinstance(source, WindowReader):
        return source.walk_window(resource, since)
    if source.config.kind == "rest" and since is not None:
        return source.walk(resource, since.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"))
    return source.walk(resource, None)


def land_own_page(
    rows: dict[str, pl.DataFrame],
    source_id: str,
    resource: Resource,
    at: datetime,
    site: Site,
    landing: Landing,
    ledger: Ledger,
) -> set[date]:
    """Land rows that comparing a window gave (absent records, records that are back); gives the dates that they touch."""
    touched: set[date] = set()
    with source_locked(landing, source_id, 600.0), _batch(ledger, source_id, resource) as batch_id:
        for table, frame in rows.items():
            if frame.is_empty():
                continue
            body = _written(table, frame)
            page = Page(source_id, resource.name, body, f"{OWN_PAGE}{table}", at.isoformat(), at)
            touched.update(land_page(page, resource, site, landing, ledger, batch_id).touched)
    return touched


def _written(table: str, frame: pl.DataFrame) -> bytes:
    names = [*DECODED_DTYPES, "decode_note", *(column.name for column in PAYLOAD[table])]
    schema = own_page_schema(table)
    written = io.BytesIO()
    frame.select(pl.col(name).cast(schema[name]) for name in names).write_ndjson(written)
    return written.getvalue()


class _batch:  # noqa: N801 - used like a function, as a context
    """A walk in the ledger that moves no watermark."""

    def __init__(self, ledger: Ledger, source_id: str, resource: Resource) -> None:
        self.ledger = ledger
        self.batch_id = ledger.open_batch(source_id, resource.name)

    def __enter__(self) -> int:
        return self.batch_id

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.ledger.close_batch(self.batch_id, None, error=None if error is None else _shown(error))


def _shown(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:500] if isinstance(error, SpcError) else type(error).__name__

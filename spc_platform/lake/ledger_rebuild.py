"""The ledger's knowledge of records, made anew from landed pages: after zone, start of the production day or decoding changed.

Pages, walks, watermarks and commits stay as they are; what records a page holds, on which production dates they lie and
which revision replaces which is concluded again, page by page in the order in which they landed. It is written into a
file beside the ledger, which takes it over in one transaction: whatever stops a rebuild, the ledger is the old or the new.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from spc_platform.errors import ContractError
from spc_platform.lake import ledger_schema
from spc_platform.lake.files import Checkpoint, no_checkpoint
from spc_platform.lake.landing import Landing, source_locked
from spc_platform.lake.ledger import LandedPage, Ledger
from spc_platform.lake.ledger_pages import EPOCH, as_date, enter_records, newest_time
from spc_platform.lake.page_rows import page_records, production_day, resource_of
from spc_platform.site.model import Site

_DERIVED = ("page_date", "page", "stream", "change", "record", "superseded", "page_hashes")
"""Tables that follow from landed pages, referring ones first."""

_DIFFERING_DATES = """
SELECT production_date FROM (SELECT * FROM {one}.page_date EXCEPT SELECT * FROM {other}.page_date)
UNION SELECT production_date FROM (SELECT * FROM {one}.record EXCEPT SELECT * FROM {other}.record)
UNION SELECT production_date FROM (SELECT * FROM {one}.superseded EXCEPT SELECT * FROM {other}.superseded)
UNION SELECT production_date FROM {one}.page_date WHERE page_id IN (
  SELECT page_id FROM (SELECT stream_id, page_id, hashes FROM {one}.page_hashes
                       EXCEPT SELECT stream_id, page_id, hashes FROM {other}.page_hashes))
"""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild read, and the production dates whose raw rows it may have changed: they are pending again."""

    pages: int
    records: int
    unreadable_pages: int
    changed: tuple[date, ...]


def rebuild_ledger(
    site: Site, landing: Landing, ledger: Ledger, *, checkpoint: Checkpoint = no_checkpoint, lock_timeout_s: float = 600.0
) -> Rebuilt:
    """Conclude again from every landed page what the ledger knows of its records, with the site as it is now.

    No source lands meanwhile; readers and refreshes are not held up. Raises LakeError when a page is missing or altered,
    when its source or resource left the site folder, or when a source is being landed for ``lock_timeout_s``; the ledger
    is then as it was.
    """
    beside = ledger.path.with_name(f"{ledger.path.name}.rebuild")
    with contextlib.ExitStack() as locks:
        for source_id in sorted({source_id for source_id, *_ in _pages(ledger)}):
            locks.enter_context(source_locked(landing, source_id, lock_timeout_s))
        try:
            built = _build(beside, site, landing, ledger, checkpoint)
            checkpoint("rebuild:built")
            changed = _take_over(beside, site, ledger, checkpoint)
            checkpoint("rebuild:taken-over")
        finally:
            _remove(beside)
    return Rebuilt(*built, changed)


def _pages(ledger: Ledger) -> list[tuple[str, str, str, str, str, int, int, int, int | None, int]]:
    with ledger.transaction() as connection:
        return connection.execute(
            "SELECT source_id, resource, sha256, origin, position, n_bytes, received_at, id, newest_updated_at, batch_id "
            "FROM page ORDER BY id"
        ).fetchall()


def _remove(beside: Path) -> None:
    for path in beside.parent.glob(f"{beside.name}*"):
        path.unlink()


def _build(beside: Path, site: Site, landing: Landing, ledger: Ledger, checkpoint: Checkpoint) -> tuple[int, int, int]:
    _remove(beside)
    pages, records, unreadable = 0, 0, 0
    with _disposable(beside) as connection:
        for source_id, resource_name, digest, origin, position, n_bytes, received, page_id, updated, batch_id in _pages(ledger):
            received_at = EPOCH + timedelta(microseconds=received)
            page = LandedPage(source_id, resource_name, digest, origin, position, n_bytes, received_at)
            resource = resource_of(site, page)
            error, columns = None, {}
            try:
                columns = page_records(resource, page, landing.read(digest), site)
            except ContractError as refused:
                error = str(refused)[:500]
            n_records = sum(frame.height for frame in columns.values())
            newest = updated if updated is not None else newest_time(columns, "stated_at", None)
            connection.execute(
                "INSERT INTO page (id, source_id, resource, sha256, origin, position, n_records, n_bytes, received_at, "
                "newest_updated_at, batch_id, error) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(page_id, source_id, resource_name, digest, origin, position, n_records, n_bytes, received),
                    *(None if error else newest, batch_id, error),
                ),
            )
            enter_records(connection, page, page_id, columns, mutable=resource.mutable)
            checkpoint("rebuild:page")
            pages, records, unreadable = pages + 1, records + n_records, unreadable + (error is not None)
    return pages, records, unreadable


@contextlib.contextmanager
def _disposable(path: Path) -> Iterator[sqlite3.Connection]:
    """A new file with the ledger's tables, in one transaction. Not durable: a rebuild that died begins again."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous = OFF")
        for statement in ledger_schema.SCHEMA.split(";"):
            connection.execute(statement)
        connection.execute("BEGIN")
        yield connection
        connection.execute("COMMIT")
    finally:
        connection.close()


def _take_over(beside: Path, site: Site, ledger: Ledger, checkpoint: Checkpoint) -> tuple[date, ...]:
    with ledger.transaction(beside) as connection:
        day = production_day(site)
        known = connection.execute("SELECT value FROM setting WHERE name = 'production_day'").fetchone()
        before = {row[0] for row in connection.execute("SELECT production_date FROM main.change")}
        now = {row[0] for row in connection.execute("SELECT production_date FROM beside.change")}
        changed = before | now if known != (day,) else _differing(connection)
        for table in _DERIVED:
            connection.execute(f"DELETE FROM main.{table}")
        checkpoint("rebuild:emptied")
        for table in reversed(_DERIVED):
            connection.execute(f"INSERT INTO main.{table} SELECT * FROM beside.{table}")
        # A date that lost its last record must be made once more, without rows.
        connection.executemany("INSERT INTO main.change VALUES (?, ?, 0, 0)", [(lost, f"{0:064x}") for lost in before - now])
        connection.executemany("DELETE FROM applied WHERE production_date = ?", [(each,) for each in changed])
        connection.execute("INSERT OR REPLACE INTO setting VALUES ('production_day', ?)", (day,))
        checkpoint("rebuild:filled")
    return tuple(sorted(as_date(each) for each in changed))


def _differing(connection: sqlite3.Connection) -> set[int]:
    """Dates on which the new knowledge of records is not the old."""
    return {
        row[0]
        for one, other in (("main", "beside"), ("beside", "main"))
        for row in connection.execute(_DIFFERING_DATES.format(one=one, other=other))
    }

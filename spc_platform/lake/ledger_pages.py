"""How pages enter the ledger, inside the transaction of the caller: the same when they land and when it is rebuilt."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import polars as pl

from spc_platform.lake import record_index
from spc_platform.lake.files import sha256
from spc_platform.lake.record_index import NEVER

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY_0 = date(1970, 1, 1)
DIGEST_RANGE = 1 << 256


@dataclass(frozen=True, slots=True)
class LandedPage:
    """A page whose bytes are durable: where it came from and how to find it again.

    Its bytes and its ``origin`` are its identity: two files of equal content are two pages. ``credible_until``
    is known only while the page lands; a record's later time is kept but does not count as the newest.
    """

    source_id: str
    resource: str
    sha256: str
    origin: str
    position: str
    n_bytes: int
    received_at: datetime
    credible_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class PageOutcome:
    """What a page brought: ``touched`` are the production dates whose raw rows change with it.

    ``was_known`` tells that the same page had landed before; ``newest_updated_at`` is the source's own time.
    """

    was_known: bool
    n_records: int
    n_new: int
    touched: tuple[date, ...]
    newest_updated_at: datetime | None


def enter_page(
    connection: sqlite3.Connection,
    batch_id: int,
    page: LandedPage,
    n_records: int,
    updated: int | None,
    error: str | None = None,
) -> int | None:
    """The new page's id, or None when the page was entered before."""
    identity = (page.source_id, page.resource, page.sha256, page.origin)
    connection.execute(
        "DELETE FROM page WHERE source_id = ? AND resource = ? AND sha256 = ? AND origin = ? AND error IS NOT NULL", identity
    )
    cursor = connection.execute(
        "INSERT OR IGNORE INTO page (source_id, resource, sha256, origin, position, n_records, n_bytes, received_at, "
        "newest_updated_at, batch_id, error) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*identity, page.position, n_records, page.n_bytes, micros(page.received_at), updated, batch_id, error),
    )
    return cursor.lastrowid if cursor.rowcount else None


def enter_touches(connection: sqlite3.Connection, page: LandedPage, page_id: int, table: str, touched: pl.DataFrame) -> None:
    """A date's digest is the sum of its pages' hashes: the same for any order of landing, extended without reading the rest.

    Equal bytes from another origin that bring something to the date add the same hash once more. The origin is no
    part of it, as it may name a port or a cursor that another landing of the same data would not repeat.
    """
    token = int(sha256(f"{page.source_id}\0{page.resource}\0{table}\0{page.sha256}".encode()), 16)
    for day, n_new, n_moved in touched.select("production_date", "n_new", "n_moved").iter_rows():
        connection.execute("INSERT INTO page_date VALUES (?, ?, ?, ?, ?)", (table, day, page_id, n_new, n_moved))
        row = connection.execute("SELECT digest, n_pages, n_records FROM change WHERE production_date = ?", (day,)).fetchone()
        digest, n_pages, n_records = row or ("0", 0, 0)
        total = (int(digest, 16) + token) % DIGEST_RANGE
        connection.execute(
            "INSERT OR REPLACE INTO change VALUES (?, ?, ?, ?)", (day, f"{total:064x}", n_pages + 1, n_records + n_new)
        )


def enter_source(
    connection: sqlite3.Connection,
    source_id: str,
    *,
    newest_at: int | None = None,
    success: bool = False,
    error: str | None = None,
) -> None:
    """Note success, failure or the newest time of a source."""
    at = now()
    connection.execute("INSERT OR IGNORE INTO source (source_id) VALUES (?)", (source_id,))
    if newest_at is not None:
        connection.execute(
            "UPDATE source SET newest_at = max(coalesce(newest_at, ?1), ?1) WHERE source_id = ?2", (newest_at, source_id)
        )
    if success:
        connection.execute("UPDATE source SET last_success_at = ? WHERE source_id = ?", (at, source_id))
    if error is not None:
        connection.execute("UPDATE source SET last_error_at = ?, last_error = ? WHERE source_id = ?", (at, error, source_id))


def stream(connection: sqlite3.Connection, source_id: str, table: str) -> int:
    """The id of one raw table fed by one source."""
    connection.execute("INSERT OR IGNORE INTO stream (source_id, raw_table) VALUES (?, ?)", (source_id, table))
    row = connection.execute("SELECT id FROM stream WHERE source_id = ? AND raw_table = ?", (source_id, table)).fetchone()
    return int(row[0])


def newest_time(columns: Mapping[str, pl.DataFrame], name: str, latest: int | None) -> int | None:
    """The largest known time of a column over several frames, none later than ``latest``."""
    times = pl.concat([pl.Series(name, [], dtype=pl.Int64), *(frame[name] for frame in columns.values())])
    newest = times.filter(times.is_between(NEVER + 1, NEVER * -1 if latest is None else latest)).max()
    return newest if isinstance(newest, int) else None


def enter_records(
    connection: sqlite3.Connection, page: LandedPage, page_id: int, columns: Mapping[str, pl.DataFrame], *, mutable: bool
) -> list[pl.DataFrame]:
    """Register a page's records per raw table and the dates that they touch; gives the touches of each table."""
    touches = []
    for table, frame in columns.items():
        stream_id = stream(connection, page.source_id, table)
        if mutable:
            touched = record_index.register_revisions(connection, stream_id, frame)
        else:
            touched = record_index.register_hashes(connection, stream_id, page_id, frame)
        enter_touches(connection, page, page_id, table, touched)
        touches.append(touched)
    return touches


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def as_day(production_date: date) -> int:
    return (production_date - DAY_0).days


def as_date(day: int) -> date:
    return DAY_0 + timedelta(days=day)


def micros(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)


def moment(micros: int | None) -> datetime | None:
    return None if micros is None else EPOCH + timedelta(microseconds=micros)

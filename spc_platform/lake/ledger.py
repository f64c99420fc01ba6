"""The ledger: which pages have landed, how far each source was read, which production dates changed since they were built.

One SQLite file in WAL mode with full sync. Every method is one transaction; any number of processes and
threads may use the same file. Record-level knowledge lives in ``record_index``.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from spc_platform.errors import LakeError
from spc_platform.lake import ledger_schema, record_index
from spc_platform.lake.files import Checkpoint, make_folder, no_checkpoint
from spc_platform.lake.ledger_pages import (
    EPOCH,
    LandedPage,
    PageOutcome,
    as_date,
    as_day,
    enter_page,
    enter_records,
    enter_source,
    micros,
    moment,
    newest_time,
    now,
)
from spc_platform.lake.record_index import NEVER

__all__ = ["LandedPage", "Ledger", "PageOutcome", "PendingDate"]

_BUSY_S = 60.0


@dataclass(frozen=True, slots=True)
class PendingDate:
    """A production date whose landed pages differ from those that its raw tables were built from.

    ``digest`` names the set of all pages that touch the date, ``n_pages`` and ``n_records`` count them and
    their records, those applied before included.
    """

    production_date: date
    digest: str
    n_pages: int
    n_records: int


class Ledger:
    """The ledger file at ``path``, created when missing. Raises LakeError when it belongs to another version."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        make_folder(self.path.parent)
        self._connections = threading.local()
        with self.transaction() as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version not in (0, ledger_schema.VERSION):
                raise LakeError(
                    f"ledger {self.path} has version {version}, this release reads {ledger_schema.VERSION}; "
                    "use the release that wrote it, or move the ledger away and land the sources again",
                    code="SPC-504",
                )
            for statement in ledger_schema.SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {ledger_schema.VERSION}")

    def __repr__(self) -> str:
        return f"Ledger({str(self.path)!r})"

    # --- walks and pages

    def open_batch(self, source_id: str, resource: str) -> int:
        """Begin a walk over one resource; gives its batch id."""
        with self.transaction() as connection:
            cursor = connection.execute(
                "INSERT INTO batch (source_id, resource, opened_at) VALUES (?, ?, ?)", (source_id, resource, now())
            )
            return int(cursor.lastrowid or 0)

    def known_page(self, page: LandedPage) -> PageOutcome | None:
        """What is known of this page, or None when it is new or could not be read before."""
        row = self._query(
            "SELECT n_records, newest_updated_at FROM page "
            "WHERE source_id = ? AND resource = ? AND sha256 = ? AND origin = ? AND error IS NULL",
            (page.source_id, page.resource, page.sha256, page.origin),
        )
        return PageOutcome(True, row[0][0], 0, (), moment(row[0][1])) if row else None

    def land_page(
        self,
        batch_id: int,
        page: LandedPage,
        contents: Mapping[str, pl.DataFrame],
        *,
        mutable: bool,
        checkpoint: Checkpoint = no_checkpoint,
    ) -> PageOutcome:
        """Enter a page whose bytes are durable, with the production dates that it touches, in one transaction.

        ``contents`` holds per raw table the page's records as ``record_index.RECORDS``. Records that are
        already known touch nothing; a record that moved touches its old and its new date.
        """
        columns = {
            table: frame.select(pl.col(n).cast(t) for n, t in record_index.RECORDS.items()) for table, frame in contents.items()
        }
        latest = None if page.credible_until is None else micros(page.credible_until)
        updated = newest_time(columns, "stated_at", latest)
        newest = updated if updated is not None else newest_time(columns, "event_at", latest)
        n_records = sum(frame.height for frame in columns.values())
        with self.transaction() as connection:
            page_id = enter_page(connection, batch_id, page, n_records, updated)
            if page_id is None:
                return PageOutcome(True, n_records, 0, (), moment(updated))
            touches = enter_records(connection, page, page_id, columns, mutable=mutable)
            enter_source(connection, page.source_id, newest_at=newest)
            checkpoint("page:entered")
        checkpoint("page:landed")
        everything = pl.concat(touches) if touches else pl.DataFrame(schema={"production_date": pl.Int32, "n_new": pl.Int64})
        days = sorted(set(everything["production_date"].to_list()))
        return PageOutcome(False, n_records, int(everything["n_new"].sum()), tuple(map(as_date, days)), moment(updated))

    def refuse_page(self, batch_id: int, page: LandedPage, error: str) -> None:
        """Enter a page that landed but could not be decoded; it is decoded again when the source repeats it."""
        with self.transaction() as connection:
            enter_page(connection, batch_id, page, 0, None, error)

    def close_batch(self, batch_id: int, watermark: str | None, *, error: str | None = None) -> None:
        """End a walk: move the resource's watermark (None leaves it) and note success or ``error``, in one transaction.

        Call it only when every page of the walk is durable.
        """
        with self.transaction() as connection:
            row = connection.execute("SELECT source_id, resource FROM batch WHERE id = ?", (batch_id,)).fetchone()
            if row is None:
                raise LakeError(f"ledger {self.path} has no batch {batch_id}; open it before closing it")
            connection.execute("UPDATE batch SET closed_at = ?, error = ? WHERE id = ?", (now(), error, batch_id))
            if watermark is not None and error is None:
                connection.execute(
                    "INSERT INTO watermark VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
                    "value = excluded.value, batch_id = excluded.batch_id, moved_at = excluded.moved_at",
                    (*row, watermark, batch_id, now()),
                )
            enter_source(connection, row[0], error=error, success=error is None)

    def watermark(self, source_id: str, resource: str) -> str | None:
        """How far the resource has been read; None before the first complete walk."""
        rows = self._query("SELECT value FROM watermark WHERE source_id = ? AND resource = ?", (source_id, resource))
        return str(rows[0][0]) if rows else None

    def pages(self, table: str, production_date: date) -> list[LandedPage]:
        """Pages that brought records of the raw table and date, in the order of their sha256 and origin."""
        rows = self._query(
            "SELECT source_id, resource, sha256, origin, position, n_bytes, received_at "
            "FROM page_date JOIN page ON page.id = page_id "
            "WHERE raw_table = ? AND production_date = ? AND n_new > 0 ORDER BY sha256, source_id, resource, origin",
            (table, as_day(production_date)),
        )
        return [
            LandedPage(source_id, resource, digest, origin, position, n_bytes, EPOCH + timedelta(microseconds=received))
            for source_id, resource, digest, origin, position, n_bytes, received in rows
        ]

    def check_production_day(self, production_day: str) -> None:
        """Hold on to what a production day is, as zone and start, when the first page lands; later ones must agree.

        Raises LakeError when the site has changed it since: dates of what landed before would follow another clock.
        """
        rows = self._query("SELECT value FROM setting WHERE name = 'production_day'", ())
        if not rows:
            with self.transaction() as connection:
                connection.execute("INSERT OR IGNORE INTO setting VALUES ('production_day', ?)", (production_day,))
        elif rows[0][0] != production_day:
            raise LakeError(
                f"ledger {self.path} dates records by production days of {rows[0][0]}, the site by {production_day}: dates of "
                "what landed before would not agree with new ones. `spc ledger rebuild` dates every record anew; or take "
                "zone and day_start of site.toml back",
                code="SPC-520",
            )

    def sources_of(self, digest: str) -> list[tuple[str, int]]:
        """(source_id, bytes) of every page with this sha256."""
        return [
            (row[0], row[1]) for row in self._query("SELECT DISTINCT source_id, n_bytes FROM page WHERE sha256 = ?", (digest,))
        ]

    # --- changes

    def touched_dates(self) -> list[date]:
        """Every production date that a landed record touches."""
        return [as_date(day) for (day,) in self._query("SELECT production_date FROM change ORDER BY production_date", ())]

    def change_digest(self, production_date: date) -> str:
        """Digest of the set of pages that touch the date, whatever the order in which they landed; empty when none does."""
        rows = self._query("SELECT digest FROM change WHERE production_date = ?", (as_day(production_date),))
        return str(rows[0][0]) if rows else ""

    def pending(self) -> list[PendingDate]:
        """Production dates whose change digest differs from the applied one, oldest first."""
        rows = self._query(
            "SELECT production_date, change.digest, n_pages, n_records FROM change LEFT JOIN applied USING (production_date) "
            "WHERE applied.digest IS NOT change.digest ORDER BY production_date",
            (),
        )
        return [PendingDate(as_date(day), digest, n_pages, n_records) for day, digest, n_pages, n_records in rows]

    def mark_applied(self, production_date: date, digest: str) -> None:
        """Note that the raw tables of the date hold the pages of ``digest``; take the digest before reading the pages."""
        with self.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO applied VALUES (?, ?, ?)", (as_day(production_date), digest, now()))

    def superseded(self, table: str, production_date: date) -> pl.DataFrame:
        """Rows of the date that a revision on another date replaces: source_id, record_id, revision, updated_at."""
        rows = self._query(
            "SELECT source_id, record_id, revision, NULLIF(updated_at, ?) FROM superseded JOIN stream ON stream.id = stream_id "
            "WHERE raw_table = ? AND production_date = ?",
            (NEVER, table, as_day(production_date)),
        )
        schema = {"source_id": pl.String, "record_id": pl.String, "revision": pl.Int64, "updated_at": pl.Int64}
        return pl.DataFrame(rows, schema=schema, orient="row").with_columns(pl.col("updated_at").cast(pl.Datetime("us", "UTC")))

    # --- commits and state

    def record_commit(self, table: str, production_date: date | None, digest: str, n_rows: int) -> None:
        """Note that a partition's manifest now names ``digest``; repeating the newest note changes nothing."""
        day = "" if production_date is None else production_date.isoformat()
        with self.transaction() as connection:
            last = connection.execute(
                "SELECT sha256 FROM partition_commit WHERE table_name = ? AND production_date = ? ORDER BY id DESC LIMIT 1",
                (table, day),
            ).fetchone()
            if last != (digest,):
                connection.execute(
                    "INSERT INTO partition_commit (table_name, production_date, sha256, n_rows, committed_at) "
                    "VALUES (?, ?, ?, ?, ?)",
                    (table, day, digest, n_rows, now()),
                )

    def commits(self, table: str) -> pl.DataFrame:
        """History of a table's partitions, oldest first: production_date, sha256, rows, committed_at."""
        rows = self._query(
            "SELECT production_date, sha256, n_rows, committed_at FROM partition_commit WHERE table_name = ? ORDER BY id",
            (table,),
        )
        schema = {"production_date": pl.String, "sha256": pl.String, "rows": pl.Int64, "committed_at": pl.String}
        return pl.DataFrame(rows, schema=schema, orient="row").with_columns(
            pl.col("production_date").replace("", None).str.to_date(), pl.col("committed_at").str.to_datetime(time_zone="UTC")
        )

    def row_counts(self) -> dict[str, int]:
        """Rows of every table that was ever committed, all its partitions together."""
        newest = "SELECT max(id) FROM partition_commit GROUP BY table_name, production_date"
        return dict(self._query(f"SELECT table_name, sum(n_rows) FROM partition_commit WHERE id IN ({newest}) GROUP BY 1", ()))

    def newest(self, source_id: str | None = None) -> datetime | None:
        """The newest time that landed: the source's updated_at, or event times where a source gives no updated_at."""
        rows = self._query("SELECT max(newest_at) FROM source WHERE ? IS NULL OR source_id = ?", (source_id, source_id))
        return moment(rows[0][0])

    def status(self) -> pl.DataFrame:
        """One row per source: what landed (pages, records, bytes, unreadable_pages, newest_at), last success, last error."""
        rows = self._query(
            "SELECT source.source_id, count(page.id), coalesce(sum(page.n_records), 0), coalesce(sum(page.n_bytes), 0), "
            "count(page.error), newest_at, last_success_at, last_error_at, last_error "
            "FROM source LEFT JOIN page ON page.source_id = source.source_id "
            "GROUP BY source.source_id ORDER BY source.source_id",
            (),
        )
        figures = ("pages", "records", "bytes", "unreadable_pages", "newest_at")
        texts = ("last_success_at", "last_error_at", "last_error")
        schema = {"source_id": pl.String, **dict.fromkeys(figures, pl.Int64), **dict.fromkeys(texts, pl.String)}
        return pl.DataFrame(rows, schema=schema, orient="row").with_columns(
            pl.col("newest_at").cast(pl.Datetime("us", "UTC")),
            pl.col("last_success_at", "last_error_at").str.to_datetime(time_unit="us", time_zone="UTC"),
        )

    # --- connections

    def _connection(self) -> sqlite3.Connection:
        """One connection per process and thread: SQLite connections must cross neither."""
        held: tuple[int, sqlite3.Connection] | None = getattr(self._connections, "held", None)
        if held is not None and held[0] == os.getpid():
            return held[1]
        try:
            connection = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None)
            _use_wal(connection)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
        except sqlite3.DatabaseError as error:
            raise self._unusable(error) from error
        self._connections.held = (os.getpid(), connection)
        return connection

    def disconnect(self) -> None:
        """Close the calling thread's connection; its next use of the ledger opens another one."""
        held: tuple[int, sqlite3.Connection] | None = getattr(self._connections, "held", None)
        if held is not None and held[0] == os.getpid():
            held[1].close()
        self._connections.held = None

    def _query(self, sql: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        try:
            return self._connection().execute(sql, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: sqlite3.DatabaseError) -> LakeError:
        return LakeError(
            f"ledger {self.path} cannot be used: {error}; nothing was changed. Check free space and permissions; "
            "if the file is damaged, restore it from a backup, or move it away and land the sources again",
            code="SPC-504",
        )

    @contextlib.contextmanager
    def transaction(self, beside: Path | None = None) -> Iterator[sqlite3.Connection]:
        """One durable transaction, rolled back when it is left by an error. A file ``beside`` is attached under that name."""
        connection = self._connection()
        if beside is not None:
            connection.execute("ATTACH ? AS beside", (str(beside),))
        try:
            with self._begun(connection):
                yield connection
        finally:
            if beside is not None:
                connection.execute("DETACH beside")

    @contextlib.contextmanager
    def _begun(self, connection: sqlite3.Connection) -> Iterator[None]:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            raise LakeError(
                f"ledger {self.path} stayed locked for {_BUSY_S:g} s ({error}); end the run that holds it", code="SPC-503"
            ) from error
        try:
            yield
            connection.execute("COMMIT")
        except BaseException as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.DatabaseError):
                raise self._unusable(error) from error
            raise


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to WAL; two processes that create the file at once collide here without SQLite's own waiting."""
    deadline = time.monotonic() + _BUSY_S
    while connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)

"""The outbox: every production summary that the ERP is to know, until it says that it does.

One SQLite file in WAL mode with full sync, so what was entered survives a power loss. A row is one revision
of one work order; a document that changed is a new revision, one that did not is not entered again.

A row is ``pending`` until it is first sent, ``sent`` while nobody knows whether the ERP has it, ``acknowledged``
or ``refused`` for good. Revisions of an order go out one after the other.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import polars as pl

from spc_platform.errors import LakeError
from spc_platform.lake.files import Checkpoint, make_folder, no_checkpoint, sha256

VERSION = 1
_BUSY_S = 30.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS outbox (
    job_order_id TEXT NOT NULL,
    revision INTEGER NOT NULL,
    payload BLOB NOT NULL,
    payload_sha256 TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'sent', 'acknowledged', 'refused')),
    attempts INTEGER NOT NULL DEFAULT 0,
    next_attempt_at TEXT NOT NULL,
    last_error TEXT,
    entered_at TEXT NOT NULL,
    settled_at TEXT,
    PRIMARY KEY (job_order_id, revision)
) WITHOUT ROWID
"""
_DUE = """
SELECT job_order_id, revision, payload, payload_sha256, attempts FROM outbox AS this
WHERE state IN ('pending', 'sent') AND next_attempt_at <= ?
  AND NOT EXISTS (
    SELECT 1 FROM outbox WHERE job_order_id = this.job_order_id AND revision < this.revision AND state IN ('pending', 'sent')
  )
ORDER BY next_attempt_at, job_order_id LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One revision of one order's summary, as it is to be sent; ``attempts`` were made before."""

    job_order_id: str
    revision: int
    payload: bytes
    payload_sha256: str
    attempts: int

    @property
    def key(self) -> str:
        """The same for every attempt, and for this content of this revision only.

        >>> Entry("O 1", 2, b"", "ab12", 0).key
        'O%201:2:ab12'
        """
        return f"{quote(self.job_order_id, safe='')}:{self.revision}:{self.payload_sha256}"


class Outbox:
    """The outbox file at ``path``, created when missing. Raises LakeError when it cannot be used."""

    def __init__(self, path: Path, *, checkpoint: Checkpoint = no_checkpoint) -> None:
        self.path = Path(path)
        self._checkpoint = checkpoint
        make_folder(self.path.parent)
        with self._transaction() as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version not in (0, VERSION):
                raise LakeError(
                    f"outbox {self.path} has version {version}, this release reads {VERSION}; use the release that wrote it",
                    code="SPC-504",
                )
            connection.execute(_SCHEMA)
            connection.execute(f"PRAGMA user_version = {VERSION}")

    def __repr__(self) -> str:
        return f"Outbox({str(self.path)!r})"

    def enter(self, documents: Mapping[str, bytes], now: datetime) -> list[str]:
        """Enter the documents that differ from the newest revision of their order, all or none; gives those orders."""
        entered = []
        with self._transaction() as connection:
            for order, payload in sorted(documents.items()):
                newest = connection.execute(
                    "SELECT revision, payload_sha256 FROM outbox WHERE job_order_id = ? ORDER BY revision DESC LIMIT 1",
                    (order,),
                ).fetchone()
                digest = sha256(payload)
                if newest is not None and newest[1] == digest:
                    continue
                connection.execute(
                    "INSERT INTO outbox (job_order_id, revision, payload, payload_sha256, state, next_attempt_at, entered_at)"
                    " VALUES (?1, ?2, ?3, ?4, 'pending', ?5, ?5)",
                    (order, (newest[0] if newest else 0) + 1, payload, digest, _iso(now)),
                )
                entered.append(order)
                self._checkpoint("outbox:half-entered")
        self._checkpoint("outbox:entered")
        return entered

    def next_due(self, now: datetime) -> Entry | None:
        """The next revision to send: the oldest unsettled one of an order whose time has come, or None.

        Raises LakeError when its payload is not what was entered.
        """
        with self._connection() as connection:
            row = connection.execute(_DUE, (_iso(now),)).fetchone()
        if row is None:
            return None
        entry = Entry(*row)
        if sha256(entry.payload) != entry.payload_sha256:
            raise LakeError(
                f"outbox {self.path}: revision {entry.revision} of order {entry.job_order_id} is not what was entered (SHA-256"
                " differs); nothing was sent. Restore the file from a backup",
                code="SPC-501",
            )
        return entry

    def mark_sent(self, entry: Entry) -> None:
        """Note, before it is sent, that the ERP may have it from now on."""
        self._settle(entry, "state = 'sent', attempts = attempts + 1")
        self._checkpoint("outbox:sent")

    def acknowledge(self, entry: Entry, now: datetime) -> None:
        """Note that the ERP has it."""
        self._settle(entry, "state = 'acknowledged', last_error = NULL, settled_at = ?", _iso(now))
        self._checkpoint("outbox:acknowledged")

    def refuse(self, entry: Entry, reason: str, now: datetime) -> None:
        """Note that the ERP does not want it; it is not sent again unless ``reopen`` says so."""
        self._settle(entry, "state = 'refused', last_error = ?, settled_at = ?", reason, _iso(now))
        self._checkpoint("outbox:refused")

    def postpone(self, entry: Entry, reason: str, until: datetime) -> None:
        """Try it again, but not before ``until``."""
        self._settle(entry, "last_error = ?, next_attempt_at = ?", reason, _iso(until))
        self._checkpoint("outbox:postponed")

    def reopen(self, now: datetime) -> int:
        """Make refused summaries pending again that are the newest of their order; gives their number."""
        with self._transaction() as connection:
            return connection.execute(
                "UPDATE outbox SET state = 'pending', settled_at = NULL, next_attempt_at = ? WHERE state = 'refused'"
                " AND revision = (SELECT max(revision) FROM outbox AS other WHERE other.job_order_id = outbox.job_order_id)",
                (_iso(now),),
            ).rowcount

    def status(self) -> pl.DataFrame:
        """Every revision but its payload, as a frame."""
        columns = {
            "job_order_id": pl.String,
            "revision": pl.Int64,
            "payload_sha256": pl.String,
            "state": pl.String,
            "attempts": pl.Int64,
            "next_attempt_at": pl.String,
            "last_error": pl.String,
            "entered_at": pl.String,
            "settled_at": pl.String,
        }
        with self._connection() as connection:
            rows = connection.execute(f"SELECT {', '.join(columns)} FROM outbox ORDER BY job_order_id, revision").fetchall()
        return pl.DataFrame(rows, schema=columns, orient="row")

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep the file open meanwhile: closing its last connection writes the WAL back, which costs as much as a commit."""
        with self._connection() as connection:
            connection.execute("SELECT job_order_id FROM outbox LIMIT 1").fetchone()
            yield

    def _settle(self, entry: Entry, assignment: str, *values: str) -> None:
        statement = f"UPDATE outbox SET {assignment} WHERE job_order_id = ? AND revision = ?"
        with self._transaction() as connection:
            connection.execute(statement, (*values, entry.job_order_id, entry.revision))

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None)) as connection:
                _use_wal(connection)
                connection.execute("PRAGMA synchronous = FULL")
                yield connection
        except sqlite3.DatabaseError as error:
            raise LakeError(
                f"outbox {self.path} cannot be used: {error}; check free space and permissions, end the run that holds it,"
                " or restore it from a backup",
                code="SPC-504",
            ) from error

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to WAL; processes that create the file at once collide here without SQLite's own waiting."""
    deadline = time.monotonic() + _BUSY_S
    while connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")

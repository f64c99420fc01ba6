"""The spool of a source: records that were collected and have not landed yet, in one SQLite file.

A record is durable (write-ahead log, ``synchronous = FULL``) before its sender is told so. What a connector needs to
resume, such as a sequence number, is written in the same transaction. Records leave the spool only once landing has
moved its watermark past them.
"""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from spc_platform.collect.readings import Record
from spc_platform.errors import LakeError, TransientError
from spc_platform.lake.files import Checkpoint, below, make_folder, no_checkpoint

_SCHEMA = """
CREATE TABLE IF NOT EXISTS record (sequence INTEGER PRIMARY KEY AUTOINCREMENT, resource TEXT NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS gap (
    gap_id INTEGER PRIMARY KEY, address TEXT NOT NULL, start_at TEXT, end_at TEXT, reason TEXT NOT NULL, noted_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS total (resource TEXT PRIMARY KEY, records INTEGER NOT NULL) WITHOUT ROWID;
"""
MIN_FREE_BYTES = 256 << 20
BUSY_S = 30.0


class SpoolFullError(TransientError):
    """The disk is short: nothing was written, the sender must wait. Nothing that was acknowledged is lost."""

    code = "SPC-150"


@dataclass(frozen=True, slots=True)
class Gap:
    """A time for which a source's readings are known to be missing; ``end_at`` None while it lasts."""

    address: str
    start_at: datetime | None
    end_at: datetime | None
    reason: str


class Spool:
    """The spool in ``folder`` of one source. One writer; readers in other processes do not block it."""

    def __init__(
        self,
        folder: Path,
        source_id: str,
        *,
        min_free_bytes: int = MIN_FREE_BYTES,
        checkpoint: Checkpoint = no_checkpoint,
    ) -> None:
        make_folder(folder)
        self.path = below(folder, source_id).with_suffix(".sqlite")
        self._min_free = min_free_bytes
        self._checkpoint = checkpoint
        self._writing = threading.Lock()
        self._db = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(_SCHEMA)
        self.path.chmod(0o600)

    def __repr__(self) -> str:
        return f"Spool({str(self.path)!r})"

    def close(self) -> None:
        self._db.close()

    def append(self, records: Sequence[Record], state: Mapping[str, str] | None = None, gaps: Iterable[Gap] = ()) -> int:
        """Make records, resume state and gaps durable in one transaction; gives the last sequence number.

        Raises SpoolFullError when the disk is short and LakeError when the file cannot be written.
        """
        free = shutil.disk_usage(self.path.parent).free
        if free < self._min_free:
            raise SpoolFullError(
                f"{self.path}: {free >> 20} MiB free, less than the {self._min_free >> 20} MiB that are kept; nothing is "
                "acknowledged until landing or you make room"
            )
        rows = [(record.resource, msgspec.json.encode(record.fields)) for record in records]
        counted: dict[str, int] = {}
        for resource, _ in rows:
            counted[resource] = counted.get(resource, 0) + 1
        now = datetime.now(UTC).isoformat()
        noted = [(gap.address, _iso(gap.start_at), _iso(gap.end_at), gap.reason, now) for gap in gaps]
        try:
            with self._writing:
                return self._write(rows, counted, state or {}, noted)
        except sqlite3.OperationalError as error:
            if "full" in str(error):
                raise SpoolFullError(f"{self.path}: {error}; make room, nothing was acknowledged") from error
            raise LakeError(
                f"cannot write the spool {self.path}: {error}; check permissions and the disk", code="SPC-530"
            ) from error
        except sqlite3.DatabaseError as error:
            raise LakeError(
                f"the spool {self.path} is damaged: {error}; move it aside (its landed records are safe) and start again",
                code="SPC-531",
            ) from error

    def _write(
        self,
        rows: Sequence[tuple[str, bytes]],
        counted: Mapping[str, int],
        state: Mapping[str, str],
        gaps: Sequence[tuple[str, str | None, str | None, str, str]],
    ) -> int:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.executemany("INSERT INTO record (resource, body) VALUES (?, ?)", rows)
            self._db.executemany(
                "INSERT INTO total VALUES (?, ?) ON CONFLICT (resource) DO UPDATE SET records = records + excluded.records",
                counted.items(),
            )
            self._db.executemany("INSERT OR REPLACE INTO state VALUES (?, ?)", state.items())
            self._db.executemany("INSERT INTO gap (address, start_at, end_at, reason, noted_at) VALUES (?, ?, ?, ?, ?)", gaps)
            self._checkpoint("spool:written")
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        self._checkpoint("spool:durable")
        return self.last()

    def state(self) -> dict[str, str]:
        """What the connector wrote to resume by."""
        with self._writing:
            return dict(self._db.execute("SELECT key, value FROM state").fetchall())

    def last(self, resource: str | None = None) -> int:
        """The newest sequence number ever given (of one resource: that is still there); 0 when there is none."""
        if resource is None:
            row = self._read("SELECT seq FROM sqlite_sequence WHERE name = 'record'")
        else:
            row = self._read("SELECT max(sequence) FROM record WHERE resource = ?", resource)
        return int(row[0][0] or 0) if row else 0

    def depth(self) -> dict[str, int]:
        """Records per resource that have not left the spool."""
        return dict(self._read("SELECT resource, count(*) FROM record GROUP BY resource"))

    def totals(self) -> dict[str, int]:
        """Records per resource ever written."""
        return dict(self._read("SELECT resource, records FROM total"))

    def gaps(self) -> list[Gap]:
        """Every gap that was noted, oldest first."""
        rows = self._read("SELECT address, start_at, end_at, reason FROM gap ORDER BY gap_id")
        return [Gap(address, _instant(start), _instant(end), reason) for address, start, end, reason in rows]

    def after(self, resource: str, sequence: int, limit: int) -> tuple[list[bytes], int]:
        """Up to ``limit`` records of a resource behind a sequence number, and the number of the last."""
        rows = self._read(
            "SELECT sequence, body FROM record WHERE resource = ? AND sequence > ? ORDER BY sequence LIMIT ?",
            resource,
            sequence,
            limit,
        )
        return [body for _, body in rows], (rows[-1][0] if rows else sequence)

    def drop(self, resource: str, up_to: int) -> int:
        """Remove the records of a resource that have landed, up to and including a sequence number."""
        with self._writing:
            return self._db.execute("DELETE FROM record WHERE resource = ? AND sequence <= ?", (resource, up_to)).rowcount

    def _read(self, query: str, *values: str | int) -> list[tuple]:  # type: ignore[type-arg]
        # A connection of its own, so that a walk over many pages never waits for the writer.
        with closing(sqlite3.connect(self.path, timeout=BUSY_S)) as connection:
            return connection.execute(query, values).fetchall()


def spools(folder: Path) -> Iterator[str]:
    """The sources that have a spool in the folder."""
    yield from (path.stem for path in sorted(folder.glob("*.sqlite")))


def spool_depths(folder: Path) -> dict[str, dict[str, int]]:
    """Records per source and resource that have not left the spools of a folder. Creates and writes nothing."""
    found = {}
    for source_id in spools(folder):
        address = f"{below(folder, source_id).with_suffix('.sqlite').resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, timeout=BUSY_S, uri=True)) as connection:
            found[source_id] = dict(connection.execute("SELECT resource, count(*) FROM record GROUP BY resource").fetchall())
    return found


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)

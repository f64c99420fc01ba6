"""What the event log said before: an append-only file of the heads of its chains and the events that each covers.

The log is made anew from raw records at every run, so a record that was replaced at its root gives a whole chain again. This
file remembers what was committed. Entries are chained: ``entry_hash = sha256(entry before, production_date, sequence,
chain_hash, reason, noted_at, digest of the events entered or released)``, separated by line feeds; keep the newest one
elsewhere to prove that the file itself was not rewritten.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl

from spc_platform.errors import LakeError
from spc_platform.lake.files import sha256

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS entry (
    id INTEGER PRIMARY KEY, production_date TEXT NOT NULL, sequence INTEGER NOT NULL, chain_hash TEXT NOT NULL,
    reason TEXT NOT NULL, noted_at TEXT NOT NULL, entry_hash TEXT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS event (
    production_date TEXT NOT NULL, event_id BLOB NOT NULL, entry_id INTEGER NOT NULL, released INTEGER NOT NULL,
    PRIMARY KEY (production_date, event_id, released, entry_id)) WITHOUT ROWID""",
    *(
        f"CREATE TRIGGER IF NOT EXISTS {table}_{verb} BEFORE {verb} ON {table} "
        "BEGIN SELECT RAISE(ABORT, 'the history of the event log is append-only'); END"
        for table in ("entry", "event")
        for verb in ("UPDATE", "DELETE")
    ),
)
_FIRST = sha256(b"event_history")
HEADS = pl.Schema(
    {
        "entry": pl.Int64,
        "production_date": pl.Date,
        "sequence": pl.Int64,
        "chain_hash": pl.String,
        "reason": pl.String,
        "noted_at": pl.String,
        "entry_hash": pl.String,
    }
)
"""One row per entry, oldest first."""
COVERED = pl.Schema({"event_id": pl.String, "entry": pl.Int64})
"""Events that must still stand in the log of a production date, with the entry that covers each first."""


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the log of a production date: number of events and ``chain_hash`` of the last one (empty without any)."""

    production_date: date
    sequence: int
    chain_hash: str


class EventHistory:
    """The file at ``path``, created when missing. Raises LakeError SPC-510 when it cannot be used."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        with self._connection() as connection:
            for statement in _SCHEMA:
                connection.execute(statement)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = sqlite3.connect(self.path, timeout=60.0, isolation_level=None)
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            finally:
                connection.close()
        except sqlite3.DatabaseError as error:
            raise LakeError(
                f"history of the event log {self.path} cannot be used: {error}; nothing was changed. Check free space and "
                "permissions; if the file is damaged, restore it from a backup: it cannot be made again",
                code="SPC-510",
            ) from error

    def append(self, head: Head, event_ids: Sequence[str], reason: str = "") -> bool:
        """Note that the log of a production date now ends in ``head`` and holds ``event_ids``; False when it was noted.

        Events that earlier entries cover and that are not given stay covered, unless a ``reason`` releases them.
        """
        day = head.production_date.isoformat()
        with self._connection() as connection:
            covered = set(_covered(connection, day))
            given = {bytes.fromhex(name) for name in event_ids}
            entered, released = sorted(given - covered), sorted(covered - given) if reason else []
            last = connection.execute(
                "SELECT sequence, chain_hash FROM entry WHERE production_date = ? ORDER BY id DESC LIMIT 1", (day,)
            ).fetchone()
            if last == (head.sequence, head.chain_hash) and not entered and not released:
                return False
            before = connection.execute("SELECT entry_hash FROM entry ORDER BY id DESC LIMIT 1").fetchone()
            noted = datetime.now(UTC).isoformat(timespec="microseconds")
            told = (day, head.sequence, head.chain_hash, reason, noted)
            digest = _entry_hash(_FIRST if before is None else before[0], told, entered, released)
            cursor = connection.execute(
                "INSERT INTO entry (production_date, sequence, chain_hash, reason, noted_at, entry_hash) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (*told, digest),
            )
            connection.executemany(
                "INSERT INTO event VALUES (?, ?, ?, ?)",
                [(day, event, cursor.lastrowid, flag) for flag, events in enumerate((entered, released)) for event in events],
            )
        return True

    def heads(self, production_date: date | None = None) -> pl.DataFrame:
        """The entries of a production date, or all: HEADS."""
        where, values = ("", ()) if production_date is None else ("WHERE production_date = ?", (production_date.isoformat(),))
        with self._connection() as connection:
            rows = connection.execute(f"SELECT * FROM entry {where} ORDER BY id", values).fetchall()
        text = dict(HEADS) | {"production_date": pl.String}
        return pl.DataFrame(rows, schema=text, orient="row").with_columns(pl.col("production_date").str.to_date())

    def covered(self, production_date: date) -> pl.DataFrame:
        """The events that the entries of a production date cover and did not release: COVERED."""
        with self._connection() as connection:
            found = _covered(connection, production_date.isoformat())
        rows = [(event.hex(), entry) for event, entry in found.items()]
        return pl.DataFrame(rows, schema=COVERED, orient="row").sort("entry", "event_id")

    def altered(self) -> list[int]:
        """Entries whose hash does not follow from the one before and from their events: the file was written by another."""
        with self._connection() as connection:
            entries = connection.execute("SELECT * FROM entry ORDER BY id").fetchall()
            events = connection.execute("SELECT entry_id, released, event_id FROM event ORDER BY entry_id, event_id").fetchall()
        brought: dict[tuple[int, int], list[bytes]] = {}
        for entry, released, event in events:
            brought.setdefault((entry, released), []).append(event)
        wrong, before = [], _FIRST
        for entry, *told, digest in entries:
            if _entry_hash(before, tuple(told), *(brought.get((entry, flag), []) for flag in (0, 1))) != digest:
                wrong.append(entry)
            before = digest
        return wrong


def _covered(connection: sqlite3.Connection, day: str) -> dict[bytes, int]:
    """Events in force with the entry that entered them: the newest word of each, entered or released, holds."""
    rows = connection.execute(
        "SELECT event_id, entry_id, released FROM event WHERE production_date = ? ORDER BY entry_id", (day,)
    ).fetchall()
    newest = {event: (entry, released) for event, entry, released in rows}
    return {event: entry for event, (entry, released) in newest.items() if not released}


def _entry_hash(before: str, told: tuple[object, ...], entered: Sequence[bytes], released: Sequence[bytes]) -> str:
    events = sha256(b"".join(entered) + b"\n" + b"".join(released))
    return sha256("\n".join((before, *map(str, told), events)).encode())

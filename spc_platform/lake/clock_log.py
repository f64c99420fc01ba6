"""Exchanges of times with other clocks, kept in a file beside the ledger. Any process may write; nothing is ever changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from spc_platform.contracts.clock import CLOCK_EXCHANGE
from spc_platform.errors import LakeError
from spc_platform.lake.files import make_folder
from spc_platform.lake.ledger_pages import micros
from spc_platform.prepare.clock import ClockExchange

FILE = "clock.sqlite"
MOST_PER_WALK = 32
_TIMES = ("sent_at", "server_received_at", "server_sent_at", "received_at")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS exchange (
  clock_id TEXT NOT NULL, method TEXT NOT NULL, sent_at INTEGER NOT NULL, server_received_at INTEGER NOT NULL,
  server_sent_at INTEGER NOT NULL, received_at INTEGER NOT NULL, resolution_s REAL NOT NULL,
  PRIMARY KEY (clock_id, method, sent_at)) WITHOUT ROWID
"""


class ClockLog:
    """The log in ``folder``, which is the ledger's."""

    def __init__(self, folder: Path) -> None:
        self.path = Path(folder) / FILE

    def record(self, exchanges: Iterable[ClockExchange]) -> None:
        """Add exchanges; one that is there already changes nothing. Raises LakeError when the file cannot be written."""
        rows = [
            (each.clock_id, each.method, *(micros(getattr(each, name)) for name in _TIMES), each.resolution_s)
            for each in exchanges
        ]
        if not rows:
            return
        make_folder(self.path.parent)
        with self._connection() as connection:
            connection.execute(_SCHEMA)
            connection.executemany("INSERT OR IGNORE INTO exchange VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def exchanges(self) -> pl.DataFrame:
        """Every exchange: CLOCK_EXCHANGE."""
        if not self.path.exists():
            return CLOCK_EXCHANGE.empty()
        with self._connection() as connection:
            connection.execute(_SCHEMA)
            rows = connection.execute(f"SELECT {', '.join(CLOCK_EXCHANGE.names)} FROM exchange").fetchall()
        schema = {name: pl.Int64 if name in _TIMES else dtype for name, dtype in CLOCK_EXCHANGE.schema.items()}
        return CLOCK_EXCHANGE.conform(pl.DataFrame(rows, schema=schema, orient="row"))

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = sqlite3.connect(self.path, timeout=60.0)
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                with connection:
                    yield connection
            finally:
                connection.close()
        except sqlite3.DatabaseError as error:
            raise LakeError(
                f"the log of clocks {self.path} cannot be used: {error}; check free space and permissions. It holds measured "
                "offsets only: if it is damaged, move it away, and offsets are measured anew",
                code="SPC-521",
            ) from error


def quickest(exchanges: Iterable[ClockExchange]) -> list[ClockExchange]:
    """At most ``MOST_PER_WALK`` exchanges, those with the shortest round trips."""
    return sorted(exchanges, key=lambda each: each.received_at - each.sent_at)[:MOST_PER_WALK]

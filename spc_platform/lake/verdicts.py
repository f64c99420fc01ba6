"""Verdicts of checks per table and production date, kept until the date is mended.

A Dagster check on a ranged run is one result; this memory keeps a date that failed from being hidden by
the next date that passes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS failed_check (
    table_name TEXT NOT NULL, check_name TEXT NOT NULL, production_date TEXT NOT NULL, description TEXT NOT NULL,
    PRIMARY KEY (table_name, check_name, production_date)
) WITHOUT ROWID
"""


class Verdicts:
    """Failed checks by table, check and production date (empty text for an unpartitioned table)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._connection() as connection:
            connection.execute(_SCHEMA)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self.path, timeout=60.0)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            with connection:
                yield connection
        finally:
            connection.close()

    def record(self, table: str, production_date: date | None, verdicts: Sequence[tuple[str, bool, str]]) -> None:
        """Remembers failed checks (name, passed, description) of one partition and forgets those that pass now."""
        day = "" if production_date is None else production_date.isoformat()
        failing = {name for name, passed, _ in verdicts if not passed}
        remembered = {check for _, check, on, _ in self.failed(table) if on == day}
        if not failing and not remembered:
            return
        with self._connection() as connection:
            connection.executemany(
                "DELETE FROM failed_check WHERE table_name = ? AND check_name = ? AND production_date = ?",
                [(table, name, day) for name, _, _ in verdicts],
            )
            connection.executemany(
                "INSERT INTO failed_check VALUES (?, ?, ?, ?)",
                [(table, name, day, description) for name, passed, description in verdicts if not passed],
            )

    def failed(self, table: str | None = None) -> list[tuple[str, str, str, str]]:
        """(table, check, production date, description) of every check that fails now."""
        where, values = ("", ()) if table is None else ("WHERE table_name = ?", (table,))
        with self._connection() as connection:
            return connection.execute(f"SELECT * FROM failed_check {where} ORDER BY 1, 2, 3", values).fetchall()

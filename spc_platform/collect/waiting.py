"""A spool as others see it: what waits in it, read while the collector writes."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from spc_platform.collect.spool import BUSY_S
from spc_platform.lake.files import below


def unlanded(folder: Path, source_id: str, landed: Mapping[str, int]) -> tuple[dict[str, int], int]:
    """Records per resource behind the sequence numbers that have landed, and the gaps noted. Creates and writes nothing."""
    path = below(folder, source_id).with_suffix(".sqlite")
    if not path.is_file():
        return {}, 0
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", timeout=BUSY_S, uri=True)) as connection:
        resources = [row[0] for row in connection.execute("SELECT resource FROM total ORDER BY resource")]
        counted = "SELECT count(*) FROM record WHERE resource = ? AND sequence > ?"
        waiting = {name: connection.execute(counted, (name, landed.get(name, 0))).fetchone()[0] for name in resources}
        (gaps,) = connection.execute("SELECT count(*) FROM gap").fetchone()
    return {name: number for name, number in waiting.items() if number}, int(gaps)

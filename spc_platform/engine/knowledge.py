"""What the lake knows of records and when it came to know it. Reads only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime

import polars as pl

from spc_platform.engine.workspace import Workspace


def raw_with_receipts(workspace: Workspace, table: str, dates: Sequence[date]) -> tuple[pl.DataFrame, dict[str, datetime]]:
    """(all revisions of the records of a raw table on some production dates, receipt of each page that they name).

    Revisions of these records that moved to another date are among the rows, so that it can be told which revision was in
    force at any time (``event_log.as_known_at``). Of pages with equal bytes the earliest receipt counts.
    """
    rows = workspace.lake.read_dates(table, dates)
    moved = pl.concat([workspace.ledger.superseded(table, day) for day in dates]).select("source_id", "record_id").unique()
    days = set(dates)
    if moved.height:
        elsewhere = [day for day in workspace.lake.dates(table) if day not in days]
        found = workspace.lake.scan(table, elsewhere).join(moved.lazy(), on=["source_id", "record_id"], how="semi").collect()
        days |= set(found["production_date"].unique())
        rows = pl.concat([rows, found])
    return rows, _receipts(workspace, table, days)


def _receipts(workspace: Workspace, table: str, dates: Iterable[date]) -> dict[str, datetime]:
    received: dict[str, datetime] = {}
    for page in (page for day in dates for page in workspace.ledger.pages(table, day)):
        received[page.sha256] = min(page.received_at, received.get(page.sha256, page.received_at))
    return received


def as_of_known_at(workspace: Workspace, production_date: date, at: datetime) -> datetime:
    """Until when the plant was known at ``at`` for figures of a date: as ``Workspace.as_of``, but nothing after ``at``."""
    return min(workspace.as_of(production_date), at)

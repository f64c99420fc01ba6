"""What the lake knows of records and when it came to know it. Reads only.

A record revision is known from when its source wrote it (clock ``source``: ``updated_at``, else the receipt) or from when
its page was received (clock ``receipt``). Of pages that hold the same revision the one received first counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta

import polars as pl

from spc_platform.contracts.raw import EVENT_TIME
from spc_platform.contracts.table import UTC as UTC_TIME
from spc_platform.engine.workspace import Workspace
from spc_platform.lake.landing import raw_partition
from spc_platform.lake.ledger import Ledger
from spc_platform.lake.ledger_pages import LandedPage
from spc_platform.production.event_log import as_known_at

NOTHING_KNOWN = datetime.fromtimestamp(0, UTC)
_LINEAGE = ("page_sha256", "page_row")


def raw_with_receipts(
    workspace: Workspace, table: str, dates: Sequence[date], *, by: str = "source"
) -> tuple[pl.DataFrame, dict[str, datetime]]:
    """(all revisions of the records of a raw table on some production dates, receipt of each page that they name).

    Revisions of these records that moved to another date are among the rows, so that it can be told which revision was in
    force at any time (``event_log.as_known_at``). Of pages with equal bytes the earliest receipt counts. Rows whose time
    of recording is a receipt name the page that brought them first; that is all rows when ``by`` is ``receipt``.
    """
    rows = workspace.lake.read_dates(table, dates)
    moved = pl.concat([workspace.ledger.superseded(table, day) for day in dates]).select("source_id", "record_id").unique()
    days = set(dates)
    if moved.height:
        elsewhere = [day for day in workspace.lake.dates(table) if day not in days]
        found = workspace.lake.scan(table, elsewhere).join(moved.lazy(), on=["source_id", "record_id"], how="semi").collect()
        days |= set(found["production_date"].unique())
        rows = pl.concat([rows, found])
    return _by_first_page(workspace, table, rows, by), _receipts(workspace, table, days)


def known_raw(workspace: Workspace, table: str, production_date: date, at: datetime, clock: str) -> pl.DataFrame:
    """The partition of a raw table as it was known at ``at``: later revisions removed, ``is_current`` judged anew."""
    rows, received = raw_with_receipts(workspace, table, [production_date], by=clock)
    return as_known_at(rows, received, at, by=clock).filter(pl.col("production_date") == production_date)


def newest_known(workspace: Workspace, at: datetime, clock: str = "source") -> datetime | None:
    """The newest record's time as known at ``at``, None when nothing was: by source at most ``at`` itself.

    By receipt it is the newest record among the pages received until then, as the ledger noted them: the source's
    ``updated_at``, or event times of the newest date where a source gives none.
    """
    newest = workspace.ledger.newest()
    if newest is None or clock == "source":
        return None if newest is None else min(newest, at)
    written, all_written = _LedgerView(workspace.ledger).newest_received(at)
    found = [time for time in (written, None if all_written else _newest_event(workspace, at)) if time is not None]
    return min(max(found), newest) if found else None


def as_of_known_at(workspace: Workspace, production_date: date, at: datetime, clock: str = "source") -> datetime:
    """Until when the plant was known at ``at`` for figures of a date: as ``Workspace.as_of``, by what was known then."""
    newest = newest_known(workspace, at, clock)
    return min(workspace.as_of(production_date), at if clock == "source" else newest or NOTHING_KNOWN)


class _LedgerView(Ledger):
    """A ledger that shares the connections of another one; for reading only."""

    def __init__(self, ledger: Ledger) -> None:
        self.__dict__.update(vars(ledger))

    def newest_received(self, at: datetime) -> tuple[datetime | None, bool]:
        """(newest time that the sources wrote into pages received until ``at``, whether all of these pages have one)."""
        micros = (at - NOTHING_KNOWN) // timedelta(microseconds=1)
        ((newest, pages, written),) = self._query(
            "SELECT max(newest_updated_at), count(*), count(newest_updated_at) FROM page "
            "WHERE error IS NULL AND received_at <= ?",
            (micros,),
        )
        return None if newest is None else NOTHING_KNOWN + timedelta(microseconds=newest), pages == written


class KnownLedger(_LedgerView):
    """A workspace's ledger as it stood at a knowledge time: its newest record is that of then."""

    def __init__(self, ledger: Ledger, newest: datetime | None) -> None:
        super().__init__(ledger)
        self._newest = newest or NOTHING_KNOWN

    def newest(self, source_id: str | None = None) -> datetime | None:
        return min(super().newest(source_id) or self._newest, self._newest)


class _OnePage(_LedgerView):
    """The ledger as if one page alone had landed."""

    def __init__(self, ledger: Ledger, page: LandedPage) -> None:
        super().__init__(ledger)
        self._page = page

    def pages(self, table: str, production_date: date) -> list[LandedPage]:
        return [self._page]


def _by_first_page(workspace: Workspace, table: str, rows: pl.DataFrame, by: str) -> pl.DataFrame:
    """Rows whose time of recording is a receipt, with page and row where their content came first; others as they are."""
    received_only = pl.lit(value=True) if by == "receipt" else pl.col("updated_at").is_null()
    days = rows.filter(received_only)["production_date"].unique().sort().to_list()
    pages = {day: workspace.ledger.pages(table, day) for day in days}
    several = [day for day in days if len({page.sha256 for page in pages[day]}) > 1]
    if not several:
        return rows
    content = [name for name in rows.columns if name not in (*_LINEAGE, "is_current")]
    first = []
    for day in several:
        in_order = sorted(pages[day], key=lambda page: (page.received_at, page.sha256))
        held = [
            raw_partition(table, day, workspace.site, workspace.landing, _OnePage(workspace.ledger, page)) for page in in_order
        ]
        first.append(pl.concat(held).unique(content, keep="first", maintain_order=True))
    found = pl.concat(first).select(*content, *(pl.col(name).alias(f"_{name}") for name in _LINEAGE))
    joined = rows.join(found, on=content, how="left", nulls_equal=True, maintain_order="left")
    named = [pl.when(received_only).then(pl.coalesce(f"_{name}", name)).otherwise(name).alias(name) for name in _LINEAGE]
    return joined.with_columns(named).select(rows.columns)


def _receipts(workspace: Workspace, table: str, dates: Iterable[date]) -> dict[str, datetime]:
    received: dict[str, datetime] = {}
    for page in (page for day in dates for page in workspace.ledger.pages(table, day)):
        received[page.sha256] = min(page.received_at, received.get(page.sha256, page.received_at))
    return received


def _newest_event(workspace: Workspace, at: datetime) -> datetime | None:
    """The newest event time known by receipt at ``at``: per raw table from the newest date that has one."""
    found = []
    for table, column in EVENT_TIME.items():
        for day in reversed(workspace.lake.dates(table)):
            newest = known_raw(workspace, table, day, at, "receipt")[column].cast(UTC_TIME).max()
            if isinstance(newest, datetime):
                found.append(newest)
                break
    return max(found, default=None)

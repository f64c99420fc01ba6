"""Nightly reconciliation: what each source holds of past production dates against what the lake holds of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta

import polars as pl

from spc_platform.contracts import LAKE_TABLES
from spc_platform.contracts.reconciliation import RECONCILIATION
from spc_platform.engine.workspace import Workspace
from spc_platform.errors import ContractError
from spc_platform.lake.landing import land_source, raw_partition
from spc_platform.lake.window import MARGIN, WindowRead, land_own_page, read_window
from spc_platform.prepare.reconcile import ABSENT, absent_records, compare, in_force, marked_absent, marked_back
from spc_platform.site.model import COLLECTED, Resource
from spc_platform.site.model import Source as SourceConfig
from spc_platform.sources import open_source
from spc_platform.sources.base import CountsKeeper, Source


def dates_to_reconcile(workspace: Workspace, now: datetime, days: int) -> list[date]:
    """The last ``days`` production dates that have ended by ``now`` and by what has landed, oldest first."""
    landed = workspace.production_dates()
    if not landed:
        return []
    today = pl.select(workspace.site.production_date(pl.lit(now).cast(pl.Datetime("us", "UTC")))).item()
    last = min(today - timedelta(days=1), landed[-1])
    first = max(workspace.site.first_production_date, last - timedelta(days=days - 1))
    return [first + timedelta(days=offset) for offset in range((last - first).days + 1)]


def reconcile(
    workspace: Workspace, dates: Sequence[date], now: datetime, *, only: Iterable[str] = (), land: bool = True
) -> pl.DataFrame:
    """Compare every source (or those in ``only``) with the lake over consecutive dates; gives rows of RECONCILIATION.

    What is new is landed first, unless ``land`` is false. The table ``reconciliation`` keeps the newest comparison of each
    date. Sources that are collected by subscription hold nothing to compare with and are left out. Raises what a source
    raises, PermanentError SPC-275 for a window that lost too many records, ContractError for a source that is not there.
    """
    wanted = set(only)
    known = {config.source_id for config in workspace.site.sources}
    if wanted - known:
        raise ContractError(
            f"no source {', '.join(sorted(wanted - known))} in the site; it has: {', '.join(sorted(known))}", code="SPC-673"
        )
    found = [RECONCILIATION.empty()]
    for config in workspace.site.sources:
        if config.kind in COLLECTED or (wanted and config.source_id not in wanted) or not dates:
            continue
        source = open_source(config, workspace.settings)
        if land:
            land_source(source, workspace.site, workspace.landing, workspace.ledger)
        found.extend(_reconcile_resource(workspace, source, config, resource, dates, now) for resource in config.resources)
    rows = RECONCILIATION.conform(pl.concat(found))
    kept = workspace.lake.read_kept("reconciliation").join(rows, on=RECONCILIATION.key, how="anti")
    workspace.lake.commit("reconciliation", pl.concat([kept, rows]))
    return rows


def _reconcile_resource(
    workspace: Workspace, source: Source, config: SourceConfig, resource: Resource, dates: Sequence[date], now: datetime
) -> pl.DataFrame:
    pending = {change.production_date for change in workspace.ledger.pending()}
    lake = {table: _lake_rows(workspace, table, config.source_id, resource, dates) for table in resource.tables}
    counted = _by_counts(source, resource, dates, lake)
    if counted is not None:
        return _rows(config, resource, counted, dates, now, pending, method="counts")
    since = _since(workspace, lake, dates)
    read = read_window(source, resource, since, workspace.site, workspace.landing, workspace.ledger)
    said = {table: _said(read, table, config.source_id) for table in resource.tables}
    compared = {table: compare(_on(said[table], dates), lake[table], table) for table in resource.tables}
    if resource.deletions == "window":
        _apply_absence(workspace, config, resource, said, since, dates, now)
    return _rows(config, resource, compared, dates, now, pending, method="window")


def _on(rows: pl.DataFrame, dates: Sequence[date]) -> pl.DataFrame:
    return rows.filter(pl.col("production_date").is_between(dates[0], dates[-1]))


def _lake_rows(workspace: Workspace, table: str, source_id: str, resource: Resource, dates: Sequence[date]) -> pl.DataFrame:
    """Rows in force in the lake that came from the resource."""
    return _own(workspace, workspace.lake.read_dates(table, dates), table, source_id, resource, dates).filter(
        "is_current", ~pl.col("is_deleted")
    )


def _own(
    workspace: Workspace, rows: pl.DataFrame, table: str, source_id: str, resource: Resource, dates: Sequence[date]
) -> pl.DataFrame:
    pages = {
        page.sha256
        for day in dates
        for page in workspace.ledger.pages(table, day)
        if (page.source_id, page.resource) == (source_id, resource.name)
    }
    return rows.filter(pl.col("source_id") == source_id, pl.col("page_sha256").is_in(sorted(pages)))


def _said(read: WindowRead, table: str, source_id: str) -> pl.DataFrame:
    """Rows in force at the source, on any date."""
    contract = LAKE_TABLES[table]
    rows = read.table(table)
    if rows is None:
        return contract.empty()
    complete = rows.with_columns(source_id=pl.lit(source_id), page_sha256=pl.lit(""), is_current=pl.lit(value=True)).select(
        contract.names
    )
    return in_force(complete)


def _since(workspace: Workspace, lake: dict[str, pl.DataFrame], dates: Sequence[date]) -> datetime | None:
    """From when on records were written that lie on the dates; None when a record does not say, so that all are read."""
    since = workspace.day_bounds(dates[0])[0] - MARGIN
    for rows in lake.values():
        if rows["updated_at"].has_nulls():
            return None
        oldest = rows["updated_at"].min()
        since = min(since, oldest) if isinstance(oldest, datetime) else since
    return since


def _by_counts(
    source: Source, resource: Resource, dates: Sequence[date], lake: dict[str, pl.DataFrame]
) -> dict[str, pl.DataFrame] | None:
    """The comparison by counts alone, where the source counts and every date agrees; else None."""
    if not isinstance(source, CountsKeeper) or len(resource.tables) != 1 or resource.deletions == "window":
        return None
    counts = source.counts(resource, dates[0], dates[-1])
    if counts is None:
        return None
    [table] = resource.tables
    held = dict(lake[table].group_by("production_date").len().iter_rows())
    if any(counts.get(day, 0) != held.get(day, 0) for day in dates):
        return None
    rows = [{"production_date": day, "n_source": counts.get(day, 0), "n_lake": held.get(day, 0)} for day in dates]
    zero = {name: pl.lit(0) for name in ("n_missing", "n_extra", "n_different")}
    nothing = {name: pl.lit(None, pl.String) for name in ("checksum_source", "checksum_lake", "record_ids")}
    return {table: pl.DataFrame(rows).with_columns(**zero, **nothing)}


def _apply_absence(
    workspace: Workspace,
    config: SourceConfig,
    resource: Resource,
    said: dict[str, pl.DataFrame],
    since: datetime | None,
    dates: Sequence[date],
    now: datetime,
) -> None:
    """Land the deletion of what the source no longer holds, and the return of what it holds again."""
    pages: dict[str, pl.DataFrame] = {}
    for table, source_rows in said.items():
        landed = pl.concat(raw_partition(table, day, workspace.site, workspace.landing, workspace.ledger) for day in dates)
        own = _own(workspace, landed, table, config.source_id, resource, dates).filter("is_current")
        where = f"source {config.source_id!r}, resource {resource.name!r}, {table} from {dates[0]} to {dates[-1]}"
        # What was written before the window began was not asked for, so its absence says nothing.
        asked_for = pl.lit(value=True) if since is None else pl.col("updated_at") >= since
        known = own.filter(~pl.col("is_deleted") & asked_for)
        absent = absent_records(known, source_rows["record_id"], resource.least_window_share, where)
        gone = own.filter("is_deleted", pl.col("decode_note") == ABSENT)
        pages[table] = pl.concat([marked_absent(absent, now), marked_back(source_rows, gone, now)])
    land_own_page(pages, config.source_id, resource, now, workspace.site, workspace.landing, workspace.ledger)


def _rows(
    config: SourceConfig,
    resource: Resource,
    compared: dict[str, pl.DataFrame],
    dates: Sequence[date],
    now: datetime,
    pending: set[date],
    *,
    method: str,
) -> pl.DataFrame:
    """Rows of RECONCILIATION, one per table and date, also for dates on which neither side holds anything."""
    differing = pl.col("n_missing") + pl.col("n_extra") + pl.col("n_different") > 0
    calendar = pl.DataFrame({"production_date": list(dates)})
    rows = [RECONCILIATION.empty()]
    for table, frame in compared.items():
        whole = calendar.join(frame, on="production_date", how="left").with_columns(
            pl.col("n_source", "n_lake", "n_missing", "n_extra", "n_different").fill_null(0)
        )
        rows.append(
            RECONCILIATION.conform(
                whole.with_columns(
                    source_id=pl.lit(config.source_id),
                    resource=pl.lit(resource.name),
                    raw_table=pl.lit(table),
                    reconciled_at=pl.lit(now.astimezone(UTC)),
                    method=pl.lit(method),
                    is_deletion_applied=pl.lit(resource.deletions == "window") & (pl.col("n_extra") > 0),
                    verdict=pl.when(~differing)
                    .then(pl.lit("equal"))
                    .when(pl.col("production_date").is_in(sorted(pending)))
                    .then(pl.lit("pending"))
                    .otherwise(pl.lit("differs")),
                )
            )
        )
    return pl.concat(rows)

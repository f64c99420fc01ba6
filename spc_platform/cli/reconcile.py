"""`spc reconcile`: what the sources hold against what the lake holds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

_Date = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"])]


def register(app: typer.Typer) -> None:
    app.command()(reconcile)


def reconcile(
    source: Annotated[list[str] | None, typer.Option(help="Source to compare; may be given several times (all).")] = None,
    days: Annotated[
        int | None, typer.Option(min=1, help="How many production dates back (reconcile_days of policies.toml).")
    ] = None,
    first: _Date = None,
    last: _Date = None,
) -> None:
    """Compare counts and checksums of past production dates at the sources with the lake; exits 1 when they differ.

    New and late records are landed on the way; `spc run`, or the sensor, then applies them.
    """
    from spc_platform.engine import Workspace
    from spc_platform.engine.reconcile import dates_to_reconcile
    from spc_platform.engine.reconcile import reconcile as compare
    from spc_platform.settings import Settings

    plant = Workspace.open(Settings())
    now = datetime.now(UTC)
    dates = dates_to_reconcile(plant, now, days or plant.site.policies.reconcile_days)
    if first is not None:
        end = last.date() if last is not None else dates[-1] if dates else first.date()
        dates = [first.date() + timedelta(days=offset) for offset in range((end - first.date()).days + 1)]
    elif last is not None:
        dates = [day for day in dates if day <= last.date()]
    rows = compare(plant, dates, now, only=source or ())
    found = dict(rows["verdict"].value_counts().iter_rows())
    for row in rows.filter(rows["verdict"] != "equal").iter_rows(named=True):
        where = f"{row['source_id']} {row['raw_table']} {row['production_date']}"
        held = f"{row['n_source']} at the source, {row['n_lake']} in the lake"
        how = f"{row['n_missing']} missing, {row['n_extra']} extra, {row['n_different']} different"
        typer.echo(f"{row['verdict']}: {where}: {held} ({how}) {row['record_ids']}")
    counted = ", ".join(f"{found.get(verdict, 0)} {verdict}" for verdict in ("equal", "pending", "differs"))
    typer.echo(f"{len(dates)} production dates, {rows['n_source'].sum()} records at the sources: {counted}")
    raise typer.Exit(1 if found.get("differs") else 0)

"""`spc events`: the log of operations and the append-only history of its heads."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

events_app = typer.Typer(no_args_is_help=True, help="The event log and the history of its heads.")

_Day = Annotated[datetime | None, typer.Option("--date", formats=["%Y-%m-%d"], help="Production date (all).")]


@events_app.command()
def check(
    day: _Day = None,
    expect: Annotated[
        str | None, typer.Option(help="An entry_hash that was noted elsewhere: it must be in the history.")
    ] = None,
) -> None:
    """Compare the event log with its own hashes and with every earlier head of it; exits 1 when something was rewritten."""
    from spc_platform.engine import Workspace
    from spc_platform.engine.history import verify_event_log
    from spc_platform.settings import Settings

    plant = Workspace.open(Settings())
    found = verify_event_log(plant, None if day is None else [day.date()], expected=expect)
    for production_date, place, problem in found.iter_rows():
        typer.echo(f"{production_date or '-'}  {problem}  {place}")
    entries = plant.event_history.heads()
    newest = "" if entries.is_empty() else f", newest entry {entries['entry_hash'][-1]}"
    typer.echo(f"{found.height} problems; {entries.height} heads noted{newest}")
    raise typer.Exit(int(found.height > 0))


@events_app.command()
def heads(day: _Day = None) -> None:
    """List the noted heads: entry, production date, number of events, last hash, when, and the hash of the entry."""
    from spc_platform.engine import Workspace
    from spc_platform.settings import Settings

    for row in Workspace.open(Settings()).event_history.heads(None if day is None else day.date()).iter_rows(named=True):
        said = f"  accepted: {row['reason']}" if row["reason"] else ""
        typer.echo(
            f"{row['entry']}  {row['production_date']}  {row['sequence']}  {row['chain_hash']}  {row['noted_at']}  "
            f"{row['entry_hash']}{said}"
        )


@events_app.command()
def accept(
    day: Annotated[datetime, typer.Option("--date", formats=["%Y-%m-%d"], help="Production date.")],
    reason: Annotated[str, typer.Option(help="Why events of the date may be gone; kept in the history.")],
) -> None:
    """Accept the log of a date that lost events for a known reason, such as another mapping of a source's fields."""
    from spc_platform.engine import Workspace
    from spc_platform.engine.history import accept_log
    from spc_platform.settings import Settings

    plant = Workspace.open(Settings())
    released = accept_log(plant, day.date(), reason)
    typer.echo(f"{day.date()}: {released} events released; the history keeps them with the reason")

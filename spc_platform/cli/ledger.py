"""`spc ledger`: the ledger of landed pages."""

from __future__ import annotations

import typer

ledger_app = typer.Typer(no_args_is_help=True, help="The ledger of landed pages.")


@ledger_app.command()
def rebuild() -> None:
    """Conclude again from every landed page what the ledger knows: after zone, day_start or a source's decoding changed."""
    from spc_platform.engine import Workspace
    from spc_platform.lake.ledger_rebuild import rebuild_ledger
    from spc_platform.settings import Settings

    plant = Workspace.open(Settings())
    done = rebuild_ledger(plant.site, plant.landing, plant.ledger)
    unreadable = f", {done.unreadable_pages} unreadable" if done.unreadable_pages else ""
    typer.echo(f"{done.pages} pages{unreadable}, {done.records} records, {len(done.changed)} production dates changed")
    if done.changed:
        typer.echo(f"next: `spc run`, or the sensor landed_batches, makes {done.changed[0]} to {done.changed[-1]} again")

"""`spc erp`: production summaries of work orders to the ERP, and what became of them."""

from __future__ import annotations

import json
from typing import Annotated

import typer

erp_app = typer.Typer(no_args_is_help=True, help="Production summaries to the ERP: deliver, status.")
_Json = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]


@erp_app.command()
def deliver(
    days: Annotated[int, typer.Option(min=1, help="Orders that began on the last so many production dates.")] = 31,
    ended: Annotated[bool, typer.Option("--ended", help="Only orders that have ended, when erp.toml releases them.")] = False,
    refused: Annotated[bool, typer.Option("--refused", help="Send refused summaries once more.")] = False,
) -> None:
    """Enter the summaries that changed into the outbox and deliver what is due. Exit code 1 when something is left."""
    from spc_platform.engine import Workspace
    from spc_platform.erp.config import read_erp_config
    from spc_platform.erp.orders import deliver_orders
    from spc_platform.settings import Settings

    settings = Settings()
    read_erp_config(settings)
    done = deliver_orders(Workspace.open(settings), days=days, ended=ended, refused=refused)
    report = done.report
    typer.echo(
        f"{done.entered} summaries entered, {done.reopened} reopened, {report.acknowledged} acknowledged,"
        f" {report.refused} refused, {report.postponed} put off"
        + (f"; {done.held} ended orders wait until their production dates are complete" if done.held else "")
    )
    raise typer.Exit(1 if report.refused or report.postponed else 0)


@erp_app.command()
def status(as_json: _Json = False) -> None:
    """What the ERP has, what it refused and what is waiting. Exit code 1 when a summary is refused or not yet there."""
    from spc_platform.erp.orders import outbox_path
    from spc_platform.erp.outbox import Outbox
    from spc_platform.settings import Settings

    rows = Outbox(outbox_path(Settings())).status()
    newest = rows.group_by("job_order_id", maintain_order=True).last()
    if as_json:
        typer.echo(json.dumps({"outbox": rows.to_dicts()}, indent=1))
    else:
        for row in newest.iter_rows(named=True):
            why = f": {row['last_error']}" if row["last_error"] else ""
            typer.echo(f"{row['job_order_id']} revision {row['revision']} {row['state']}, {row['attempts']} attempts{why}")
        counted = newest["state"].value_counts(sort=True).iter_rows()
        typer.echo(f"orders: {', '.join(f'{number} {state}' for state, number in counted) or 'none'}")
    raise typer.Exit(0 if set(newest["state"]) <= {"acknowledged"} else 1)

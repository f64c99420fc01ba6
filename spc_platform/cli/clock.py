"""`spc clock`: offsets of the clocks of sources and stations."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from spc_platform.errors import ContractError

clock_app = typer.Typer(no_args_is_help=True, help="Offsets of the clocks of sources and stations.")


def _instant(option: str, text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise ContractError(
            f"{option} {text!r} is no instant with an offset; write it as 2026-03-02T06:00:00.125Z", code="SPC-672"
        )
    return at.astimezone(UTC)


@clock_app.command()
def add(
    clock: Annotated[
        str, typer.Option(help="Name of the clock: a work unit, a source, or what clock_id of streams.csv names.")
    ],
    sent: Annotated[str, typer.Option(help="Our time when the question left, ISO 8601 with offset.")],
    said: Annotated[str, typer.Option(help="The clock's time when the question came.")],
    received: Annotated[str, typer.Option(help="Our time when the answer came.")],
    answered: Annotated[str | None, typer.Option(help="The clock's time when its answer left (as --said).")] = None,
    resolution: Annotated[float, typer.Option(min=0.0, help="Step of the clock's times, s.")] = 0.0,
) -> None:
    """Enter one exchange of times with a clock, e.g. from an NTP query or a script on the station."""
    from spc_platform.lake.clock_log import ClockLog
    from spc_platform.prepare.clock import ClockExchange
    from spc_platform.settings import Settings

    exchange = ClockExchange(
        clock_id=clock,
        method="exchange",
        sent_at=_instant("--sent", sent),
        server_received_at=_instant("--said", said),
        server_sent_at=_instant("--answered", answered or said),
        received_at=_instant("--received", received),
        resolution_s=resolution,
    )
    if exchange.received_at < exchange.sent_at or exchange.server_sent_at < exchange.server_received_at:
        raise ContractError("an answer cannot come before its question; exchange the times", code="SPC-672")
    ClockLog(Settings().ledger_path.parent).record([exchange])


@clock_app.command()
def show() -> None:
    """Print the offset of every clock per day, with its uncertainty."""
    from spc_platform.lake.clock_log import ClockLog
    from spc_platform.prepare.clock import clock_offsets
    from spc_platform.settings import Settings

    offsets = clock_offsets(ClockLog(Settings().ledger_path.parent).exchanges())
    if offsets.is_empty():
        typer.echo("no clock was asked yet: land a source, or enter an exchange with `spc clock add`")
    for row in offsets.iter_rows(named=True):
        typer.echo(
            f"{row['measured_at']:%Y-%m-%d %H:%M}Z  {row['clock_id']}: {row['offset_s']:+.3f} s ± {row['uncertainty_s']:.3f} s "
            f"({row['method']}, {row['samples']} exchanges, shortest round trip {row['round_trip_s']:.3f} s)"
        )

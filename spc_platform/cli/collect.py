"""`spc collect`: run the collector until it is told to stop."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from typing import Annotated

import typer

from spc_platform.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(collect)


def collect(
    source: Annotated[
        list[str] | None, typer.Option(help="Source to collect; several times for several. All unless given.")
    ] = None,
    port: Annotated[int, typer.Option(help="Port of /health and /metrics on 127.0.0.1; 0 takes a free one.")] = 9464,
    land_every: Annotated[float, typer.Option(min=0.5, help="Seconds between two landings of what was spooled.")] = 10.0,
    land: Annotated[
        bool, typer.Option("--land/--no-land", help="Land what was spooled, or leave that to another process.")
    ] = True,
    max_seconds: Annotated[float | None, typer.Option(help="Stop by itself after this time.")] = None,
) -> None:
    """Collect from every subscription of the site: OPC UA, MQTT, MTConnect, Modbus, serial lines. Ends on SIGTERM or Ctrl-C."""
    raise typer.Exit(run_collect(tuple(source or ()), port, land_every, max_seconds, is_landing=land))


def run_collect(only: tuple[str, ...], port: int, land_every_s: float, max_seconds: float | None, *, is_landing: bool) -> int:
    """Exit code 0 when it was told to stop, 1 when no source was left that could be collected."""
    from spc_platform.collect.endpoint import Endpoint, tell_supervisor
    from spc_platform.collect.service import Collector
    from spc_platform.engine import Workspace
    from spc_platform.lake.landing import land_source
    from spc_platform.observe.logs import configure_logging
    from spc_platform.observe.metrics import LakeMetrics, refresh_textfile
    from spc_platform.site.model import Source
    from spc_platform.sources import open_source

    settings = Settings()
    configure_logging(settings)
    plant = Workspace.open(settings)

    def land_one(config: Source) -> None:
        try:
            land_source(open_source(config, plant.settings), plant.site, plant.landing, plant.ledger)
        finally:
            refresh_textfile(plant)

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    if max_seconds is not None:
        timer = threading.Timer(max_seconds, stop.set)
        timer.daemon = True
        timer.start()
    collector = Collector(
        plant.site, plant.settings, only=only, land=land_one if is_landing else None, land_every_s=land_every_s
    )
    with collector, Endpoint(collector, port, further=[LakeMetrics(plant)]) as endpoint:
        names = ", ".join(each.config.source_id for each in collector.subscriptions)
        logging.getLogger(__name__).info("collecting %s; health on http://127.0.0.1:%d/health", names, endpoint.port)
        with contextlib.suppress(OSError):
            tell_supervisor("READY=1")
        while not stop.wait(1.0) and not collector.has_ended:
            with contextlib.suppress(OSError):
                tell_supervisor("WATCHDOG=1")
        has_ended = collector.has_ended
        with contextlib.suppress(OSError):
            tell_supervisor("STOPPING=1")
    return 1 if has_ended else 0

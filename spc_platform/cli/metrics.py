"""`spc metrics`: the plant's figures for Prometheus, printed, as a file, or served."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spc_platform.errors import PermanentError
from spc_platform.settings import Settings

if TYPE_CHECKING:
    from spc_platform.engine import Workspace


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(metrics)


def metrics(
    textfile: Annotated[
        Path | None, typer.Option(help="Replace this file by the metrics, for node_exporter's textfile collector.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Serve /metrics on this port until SIGTERM or Ctrl-C.")] = None,
    host: Annotated[str, typer.Option(help="Address to serve on.")] = "127.0.0.1",
) -> None:
    """Print the plant's metrics in Prometheus' format, write them to a file, or serve them."""
    from spc_platform.engine import Workspace
    from spc_platform.observe.logs import configure_logging
    from spc_platform.observe.metrics import exposition, write_textfile

    settings = Settings()
    configure_logging(settings)
    plant = Workspace.open(settings)
    if textfile is not None:
        write_textfile(plant, textfile)
    if port is not None:
        _serve(plant, host, port)
    elif textfile is None:
        typer.echo(exposition(plant), nl=False)


def _serve(plant: Workspace, host: str, port: int) -> None:
    from prometheus_client import start_http_server

    from spc_platform.observe.metrics import plant_registry

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        server, thread = start_http_server(port, host, plant_registry(plant))
    except OSError as error:
        raise PermanentError(
            f"port {port} of {host} for the metrics cannot be served ({error.strerror}); choose another with --port",
            code="SPC-295",
        ) from error
    typer.echo(f"metrics on http://{host}:{server.server_port}/metrics", err=True)
    stop.wait()
    server.shutdown()
    thread.join()

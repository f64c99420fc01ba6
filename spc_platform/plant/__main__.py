"""``python -m spc_platform.plant``: the embedded plant's MES and stub ERP until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from contextlib import ExitStack
from types import FrameType

from spc_platform.errors import PermanentError, SpcError
from spc_platform.plant.erp import PORT as ERP_PORT
from spc_platform.plant.erp import ErpServer
from spc_platform.plant.process import DEFAULT_SEED
from spc_platform.plant.server import PlantServer
from spc_platform.settings import Settings


def main(arguments: list[str] | None = None) -> int:
    """Serve until told to end; returns the exit code: 0, or 1 when the plant cannot start."""
    asked = _parser().parse_args(arguments)
    ended = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    with ExitStack() as running:
        try:
            server = running.enter_context(_mes(asked, Settings()))
            erp = _erp(asked.erp_port)
        except SpcError as error:
            sys.stderr.write(f"{error}\n")
            return 1
        told = f", ERP {running.enter_context(erp).url}" if erp else ""
        now = f"{server.clock.now():%Y-%m-%d %H:%M} UTC"
        sys.stdout.write(f"plant: MES {server.url}, admin {server.admin_url}{told}, now {now}\n")
        sys.stdout.flush()
        ended.wait()
    return 0


def _mes(asked: argparse.Namespace, settings: Settings) -> PlantServer:
    return PlantServer(
        asked.port,
        asked.admin_port,
        seed=asked.seed,
        clock_rate=asked.clock_rate,
        token_lifetime_s=asked.token_lifetime,
        rate_limit_per_s=asked.rate_limit,
        nan_tokens=asked.nan_tokens,
        client_id=settings.mes_client_id,
        client_secret=settings.mes_client_secret.get_secret_value(),
    )


def _erp(port: int | None) -> ErpServer | None:
    """The stub ERP; None, with a word on standard error, when nobody asked for its port and that is taken."""
    try:
        return ErpServer(ERP_PORT if port is None else port)
    except PermanentError as error:
        if port is not None:
            raise
        sys.stderr.write(f"the MES runs without the stub ERP: {error}\n")
        return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m spc_platform.plant", description=__doc__)
    parser.add_argument("--port", type=int, default=8765, help="port of the MES (default 8765; 0 takes a free one)")
    parser.add_argument(
        "--admin-port", type=int, default=8766, help="port that moves the clock and orders faults (default 8766)"
    )
    parser.add_argument(
        "--erp-port",
        type=int,
        help=f"port of the stub ERP (default {ERP_PORT}, no ERP when that is taken; 0: a free one)",
    )
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="what the plant is drawn from")
    parser.add_argument(
        "--clock-rate", type=float, default=0.0, help="virtual seconds per second; 0: the clock moves when told"
    )
    parser.add_argument("--token-lifetime", type=float, default=300.0, help="seconds until a token expires")
    parser.add_argument("--rate-limit", type=float, default=200.0, help="requests per second before 429")
    parser.add_argument("--nan-tokens", action="store_true", help="write missing values as bare NaN, which JSON forbids")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())

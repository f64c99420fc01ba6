"""The plant's two ports on loopback: the MES, and an admin port that moves the clock, orders faults and tells the truth."""

from __future__ import annotations

import errno
import json
import threading
from collections.abc import Mapping
from datetime import datetime
from http.server import ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from spc_platform.errors import PermanentError
from spc_platform.plant.api import DataHandler, JsonHandler, Mes, RateLimit, Tokens, iso_utc
from spc_platform.plant.clock import Clock
from spc_platform.plant.faults import KINDS, Faults
from spc_platform.plant.process import DEFAULT_SEED
from spc_platform.plant.simulation import Plant

HOST = "127.0.0.1"
CLIENT_ID = "spc-platform"
CLIENT_SECRET = "demo-secret"  # noqa: S105 - the demonstration plant's, the same as in the settings' defaults


class AdminHandler(JsonHandler):
    """One request at the admin port."""

    mes: Mes

    def do_GET(self) -> None:  # noqa: N802
        path = urlsplit(self.path).path
        if path == "/admin/clock":
            self.send_json(200, {"now": iso_utc(self.mes.clock.now()), "requests": self.mes.requests})
        elif path == "/admin/faults":
            self.send_json(200, {"pending": self.mes.faults.pending(), "known": KINDS})
        elif path.startswith("/admin/truth/"):
            self._truth(path.removeprefix("/admin/truth/"))
        else:
            self.send_json(404, {"error": "not_found", "detail": "GET /admin/clock, /admin/faults, /admin/truth/{name}"})

    def _truth(self, name: str) -> None:
        self.mes.plant.now = self.mes.clock.now()
        try:
            truth = self.mes.plant.truth(name)
        except ValueError as error:
            self.send_json(404, {"error": "not_found", "detail": str(error)})
            return
        self.send_bytes(200, truth.write_json().encode())

    def do_POST(self) -> None:  # noqa: N802
        body, path = self.body(), urlsplit(self.path).path
        try:
            self._order(path, _json_object(body))
        except (ValueError, TypeError, OverflowError) as error:
            self.send_json(400, {"error": "bad_request", "detail": str(error)})

    def _order(self, path: str, wanted: dict[str, Any]) -> None:
        if path == "/admin/advance":
            now = self.mes.clock.advance(float(wanted.get("hours", 0.0)))
            self.mes.plant.now = now
            self.send_json(200, {"now": iso_utc(now)})
        elif path == "/admin/faults":
            self.mes.faults.set(wanted)
            self.send_json(200, {"pending": self.mes.faults.pending()})
        else:
            self.send_json(404, {"error": "not_found", "detail": "POST /admin/advance, /admin/faults"})


def _json_object(body: bytes) -> dict[str, Any]:
    wanted = json.loads(body or b"{}")
    if not isinstance(wanted, dict):
        raise ValueError("the body must be a JSON object")  # noqa: TRY004 - the request is wrong, not the program
    return wanted


class LoopbackServer(ThreadingHTTPServer):
    """A server with a thread per request, whose client may hang up."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent: a client that hangs up is no fault of the plant."""


class PlantServer:
    """The plant's MES as a context manager: ``with PlantServer() as server: server.url, server.admin_url``.

    Port 0 takes a free port. Options: ``seed``, ``now`` (virtual time), ``clock_rate`` (virtual seconds per
    second), ``token_lifetime_s``, ``rate_limit_per_s``, ``faults``, ``nan_tokens``, client id and secret.
    Raises PermanentError when a port is taken.
    """

    def __init__(
        self,
        port: int = 0,
        admin_port: int = 0,
        *,
        seed: int = DEFAULT_SEED,
        now: datetime | None = None,
        clock_rate: float = 0.0,
        token_lifetime_s: float = 300.0,
        rate_limit_per_s: float = 200.0,
        faults: Mapping[str, Any] | None = None,
        nan_tokens: bool = False,
        client_id: str = CLIENT_ID,
        client_secret: str = CLIENT_SECRET,
        plant: Plant | None = None,
    ) -> None:
        self.clock = Clock(now, clock_rate)
        self.plant = plant or Plant(seed, nan_tokens=nan_tokens)
        self.plant.now = self.clock.now()
        self.faults = Faults(faults)
        self.mes = Mes(
            self.plant,
            self.clock,
            self.faults,
            Tokens(token_lifetime_s),
            RateLimit(rate_limit_per_s),
            client_id,
            client_secret,
        )
        self._data = listen(port, "--port", type("BoundDataHandler", (DataHandler,), {"mes": self.mes}))
        try:
            self._admin = listen(admin_port, "--admin-port", type("BoundAdminHandler", (AdminHandler,), {"mes": self.mes}))
        except BaseException:
            self._data.server_close()
            raise
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._data.server_address[1]}"

    @property
    def admin_url(self) -> str:
        return f"http://{HOST}:{self._admin.server_address[1]}"

    def start(self) -> Self:
        """Serve both ports in threads of their own."""
        for server in (self._data, self._admin):
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def stop(self) -> None:
        """Stop serving and free both ports."""
        for server in (self._data, self._admin):
            if self._threads:
                server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def serve(port: int = 8765, admin_port: int = 8766, **options: Any) -> PlantServer:
    """Make a PlantServer on the ports of the site folder; it serves once it is entered or started."""
    return PlantServer(port, admin_port, **options)


def listen(port: int, option: str, handler: type[JsonHandler], source: str = "mes", path: str = "") -> LoopbackServer:
    """A server that listens and serves nothing yet. Raises PermanentError that names ``option`` when the port is taken."""
    try:
        return LoopbackServer((HOST, port), handler)
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        why = "is taken by another program" if error.errno == errno.EADDRINUSE else "may not be opened by this user"
        raise PermanentError(
            f"the plant cannot listen on {HOST}:{port}: the port {why}. Stop what uses it "
            f"(ss -ltnp 'sport = :{port}' names it), or start the plant with {option} and a free port"
            f' and tell the platform with SPC_SOURCE_URL=\'{{"{source}": "http://127.0.0.1:PORT{path}"}}\''
        ) from error

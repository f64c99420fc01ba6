"""A MES on a socket that answers byte for byte what a test tells it to, and remembers what it was asked."""

from __future__ import annotations

import base64
import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

SECRET = "canary-secret-4711"


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: str


Piece = bytes | float
Reply = bytes | list[Piece]


def answer(document: Any, status: int = 200, **headers: str) -> bytes:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    lines = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = f"HTTP/1.1 {status} X\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\n"
    return head.encode() + body


def record(number: int, **changes: Any) -> dict[str, Any]:
    at = f"2026-11-02T06:{number // 60 % 60:02d}:{number % 60:02d}Z"
    values = {"id": f"M{number}", "rev": 1, "updated_at": at, "deleted": False, "characteristic": "BORE", "station": "CNC1"}
    values |= {
        "measured_at": at,
        "value": 10.0 + number,
        "unit": "mm",
        "serial": f"S{number}",
        "lot": "L1",
        "order": "O1",
        "sample": None,
    }
    return values | changes


@dataclass
class Mes:
    """``reply`` is called for each data request; tokens are T1, T2, … and live ``expires_in`` seconds."""

    reply: Callable[[Request], Reply]
    expires_in: float = 3600.0
    asked: list[Request] = field(default_factory=list)
    tokens: int = 0
    url: str = ""

    @property
    def data_requests(self) -> list[Request]:
        return [request for request in self.asked if not request.path.startswith("/oauth")]

    def handle(self, request: Request) -> Reply:
        self.asked.append(request)
        if request.path == "/oauth/token":
            basic = request.headers.get("authorization", "").removeprefix("Basic ")
            if SECRET not in request.body + base64.b64decode(basic).decode():
                return answer({"error": "invalid_client"}, 401)
            self.tokens += 1
            return answer(
                {"access_token": f"T{self.tokens}-canary-token", "token_type": "Bearer", "expires_in": self.expires_in}
            )
        return self.reply(request)


def _handler(mes: Mes) -> type[socketserver.StreamRequestHandler]:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            start = self.rfile.readline().decode().split()
            if len(start) < 2:
                return
            headers: dict[str, str] = {}
            while line := self.rfile.readline().decode().strip():
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            body = self.rfile.read(int(headers.get("content-length", 0))).decode()
            parts = urlsplit(start[1])
            reply = mes.handle(Request(start[0], parts.path, dict(parse_qsl(parts.query)), headers, body))
            try:
                for piece in [reply] if isinstance(reply, bytes) else reply:
                    if isinstance(piece, bytes):
                        self.wfile.write(piece)
                        self.wfile.flush()
                    else:
                        time.sleep(piece)
            except OSError:
                return

    return Handler


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False


@contextmanager
def serving(reply: Callable[[Request], Reply], port: int = 0, **options: Any) -> Iterator[Mes]:
    mes = Mes(reply, **options)
    with _Server(("127.0.0.1", port), _handler(mes)) as server:
        mes.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield mes
        server.shutdown()

"""A small MTConnect agent by the standard's part 1: a buffer of observations, `current`, `sample` and its stream."""

from __future__ import annotations

import threading
import time
from collections import deque
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

from spc_platform_tests.collect.test_readings import T0

NAMESPACE = "urn:mtconnect.org:MTConnectStreams:2.2"
ELEMENTS = {
    "dia": ("Samples", "Length"),
    "exec": ("Events", "Execution"),
    "part": ("Events", "PartCount"),
    "sys": ("Condition", ""),
}


class Agent:
    """``say`` adds an observation; ``restart`` begins a new instance with an empty buffer."""

    def __init__(self, buffer_size: int = 64) -> None:
        self.instance = 1001
        self.size = buffer_size
        self.status = 200
        self.is_multipart = True
        self.garbage: bytes | None = None
        self.asked: list[str] = []
        self._streams = 0
        self._lock = threading.Condition()
        self._begin()
        agent = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                agent.asked.append(self.path)
                agent.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def _begin(self) -> None:
        self.next = 1
        self.buffer: deque[tuple[int, str, datetime, str]] = deque(maxlen=self.size)
        self.latest: dict[str, tuple[int, str, datetime, str]] = {}
        for item in ELEMENTS:
            self._add(item, "UNAVAILABLE", T0)

    def _add(self, item: str, value: str, at: datetime) -> None:
        observation = (self.next, item, at, value)
        self.next += 1
        self.buffer.append(observation)
        self.latest[item] = observation

    def say(self, item: str, value: object, seconds: float) -> None:
        with self._lock:
            self._add(item, str(value), T0 + timedelta(seconds=seconds))
            self._lock.notify_all()

    def restart(self) -> None:
        with self._lock:
            self.instance += 1
            self._begin()
            self.drop_streams()

    def drop_streams(self) -> None:
        self._streams += 1

    def close(self) -> None:
        self.drop_streams()
        self.server.shutdown()
        self.server.server_close()

    def document(self, observations: list[tuple[int, str, datetime, str]], following: int) -> bytes:
        groups: dict[str, list[str]] = {}
        for sequence, item, at, value in observations:
            group, element = ELEMENTS[item]
            said = f'dataItemId="{item}" sequence="{sequence}" timestamp="{at.isoformat().replace("+00:00", "Z")}"'
            if group == "Condition":
                level, _, native = value.partition(":")
                element = {"UNAVAILABLE": "Unavailable"}.get(level, level.title())
                native = f' nativeCode="{native}"' if native else ""
                groups.setdefault(group, []).append(f'<{element} {said} type="SYSTEM"{native}/>')
            else:
                groups.setdefault(group, []).append(f"<{element} {said}>{escape(value)}</{element}>")
        body = "".join(f"<{group}>{''.join(nodes)}</{group}>" for group, nodes in groups.items())
        first = self.buffer[0][0]
        return (
            f'<?xml version="1.0" encoding="UTF-8"?><MTConnectStreams xmlns="{NAMESPACE}">'
            f'<Header creationTime="2026-03-10T06:00:00Z" sender="test" instanceId="{self.instance}" version="2.2" '
            f'bufferSize="{self.size}" firstSequence="{first}" lastSequence="{self.next - 1}" nextSequence="{following}"/>'
            f'<Streams><DeviceStream name="VMC" uuid="u1"><ComponentStream component="Device" componentId="d1">{body}'
            "</ComponentStream></DeviceStream></Streams></MTConnectStreams>"
        ).encode()

    def error(self, code: str) -> bytes:
        return (
            f'<MTConnectError xmlns="urn:mtconnect.org:MTConnectError:2.2"><Header instanceId="{self.instance}"/>'
            f'<Errors><Error errorCode="{code}">from is out of range</Error></Errors></MTConnectError>'
        ).encode()

    def sample(self, following: int, count: int) -> tuple[bytes, int]:
        found = [each for each in self.buffer if each[0] >= following][:count]
        after = found[-1][0] + 1 if found else max(following, self.next)
        return self.document(found, after), after

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        asked = {key: values[0] for key, values in parse_qs(parts.query).items()}
        with self._lock:
            if self.status != 200 or self.garbage is not None:
                self._send(handler, self.garbage or b"", self.status)
                return
            if parts.path == "/current":
                self._send(handler, self.document(sorted(self.latest.values()), self.next))
                return
            following, count = int(asked["from"]), int(asked["count"])
            if not self.buffer[0][0] <= following <= self.next:
                self._send(handler, self.error("OUT_OF_RANGE"))
                return
            if "interval" not in asked:
                self._send(handler, self.sample(following, count)[0])
                return
        self._stream(handler, following, count, int(asked["interval"]) / 1000, int(asked["heartbeat"]) / 1000)

    def _send(self, handler: BaseHTTPRequestHandler, body: bytes, status: int = 200) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", "text/xml")
        handler.send_header("Content-Length", str(len(body)))
        if 300 <= status < 400:
            handler.send_header("Location", "http://elsewhere/")
        handler.end_headers()
        handler.wfile.write(body)

    def _stream(self, handler: BaseHTTPRequestHandler, following: int, count: int, interval: float, heartbeat: float) -> None:
        mine, boundary = self._streams, "d41d8cd98f"
        handler.send_response(200)
        handler.send_header("Content-Type", f"multipart/x-mixed-replace;boundary={boundary}")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        said_at = 0.0
        while mine == self._streams:
            with self._lock:
                has_news = following < self.next
                if has_news or time.monotonic() - said_at > heartbeat:
                    document, following = self.sample(following, count)
                    said_at = time.monotonic()
                else:
                    document = b""
            if document:
                length = f"Content-length: {len(document)}\r\n" if self.is_multipart else ""
                part = f"--{boundary}\r\nContent-type: text/xml\r\n{length}\r\n".encode() + document + b"\r\n"
                try:
                    handler.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
                    handler.wfile.flush()
                except OSError:
                    return
            time.sleep(interval)
        handler.close_connection = True

"""The data port: tokens and pages of records, with whatever faults are ordered."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import secrets
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from spc_platform.plant.clock import Clock
from spc_platform.plant.dialects import Asked, Dialect, dialect_of
from spc_platform.plant.faults import Faults
from spc_platform.plant.pages import Position, page, position_of, to_json
from spc_platform.plant.records import RESOURCES
from spc_platform.plant.simulation import Plant

API = "/api/v1/"
MOST_RECORDS = 10_000
MOST_FORM_BYTES = 65_536
LOGIN_PAGE = b"<!DOCTYPE html><html><title>Sign in</title><body>Your session has ended. Please sign in.</body></html>"


@dataclass(slots=True)
class Tokens:
    """Bearer tokens that live ``lifetime_s`` seconds of real time."""

    lifetime_s: float
    _until: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def issue(self) -> str:
        token = secrets.token_urlsafe(24)
        with self._lock:
            self._until[token] = time.monotonic() + self.lifetime_s
        return token

    def valid(self, token: str) -> bool:
        with self._lock:
            return self._until.get(token, 0.0) > time.monotonic()

    def expire_all(self) -> None:
        with self._lock:
            self._until.clear()


@dataclass(slots=True)
class RateLimit:
    """A bucket of ``per_s`` requests a second."""

    per_s: float
    _held: float = 0.0
    _at: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def allow(self) -> bool:
        with self._lock:
            now = time.monotonic()
            most = max(self.per_s, 1.0)
            self._held = most if self._at == 0.0 else min(most, self._held + (now - self._at) * self.per_s)
            self._at = now
            if self._held < 1.0:
                return False
            self._held -= 1.0
            return True


@dataclass(slots=True)
class Mes:
    """What the data port serves and to whom."""

    plant: Plant
    clock: Clock
    faults: Faults
    tokens: Tokens
    rate: RateLimit
    client_id: str
    client_secret: str = field(repr=False)
    requests: int = 0

    def knows(self, client_id: str, client_secret: str) -> bool:
        same_id = hmac.compare_digest(client_id.encode(), self.client_id.encode())
        return hmac.compare_digest(client_secret.encode(), self.client_secret.encode()) and same_id


class JsonHandler(BaseHTTPRequestHandler):
    """Answers in one write, so that small answers do not wait for the other side's acknowledgement."""

    protocol_version = "HTTP/1.1"
    server_version = "DemoMES/1"
    sys_version = ""
    wbufsize = -1
    disable_nagle_algorithm = True
    timeout = 60

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Stay silent: requests carry tokens, and tests read the output."""

    def body(self) -> bytes:
        length = self.headers.get("Content-Length", "0")
        size = int(length) if length.isdigit() else 0
        if size > MOST_FORM_BYTES:
            self.close_connection = True
            return b""
        return self.rfile.read(size)

    def send_bytes(self, status: int, body: bytes, kind: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def send_json(self, status: int, what: Any, **headers: str) -> None:
        self.send_bytes(status, json.dumps(what).encode(), **headers)


def iso_utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class DataHandler(JsonHandler):
    """One request at the data port."""

    mes: Mes

    def do_POST(self) -> None:
        body, path = self.body(), urlsplit(self.path).path
        dialect = dialect_of(path)
        if dialect is not None:
            self._tell(dialect, body)
            return
        if path != "/oauth/token":
            self.send_json(404, {"error": "not_found"})
            return
        form = {name: values[-1] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
        client_id, client_secret = self._credentials(form)
        self._grant(form, client_id, client_secret)

    def _grant(self, form: dict[str, str], client_id: str, client_secret: str) -> None:
        is_password = form.get("grant_type") == "password" and "username" in form
        if is_password:
            client_id, client_secret = form.get("username", ""), form.get("password", "")
        if not is_password and form.get("grant_type") != "client_credentials":
            self.send_json(400, {"error": "unsupported_grant_type"})
        elif not self.mes.knows(client_id, client_secret):
            self.send_json(401, {"error": "invalid_client"}, WWW_Authenticate='Basic realm="mes"')
        else:
            token, lifetime = self.mes.tokens.issue(), self.mes.tokens.lifetime_s
            self.send_json(
                200, {"access_token": token, "token_type": "Bearer", "expires_in": lifetime}, Cache_Control="no-store"
            )

    def _credentials(self, form: dict[str, str]) -> tuple[str, str]:
        scheme, _, encoded = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                client_id, _, client_secret = base64.b64decode(encoded, validate=True).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                return "", ""
            return client_id, client_secret
        return form.get("client_id", ""), form.get("client_secret", "")

    def do_GET(self) -> None:
        self.mes.requests += 1
        address = urlsplit(self.path)
        dialect = dialect_of(address.path)
        if dialect is not None:
            self._tell(dialect, b"{}")
            return
        resource = address.path.removeprefix(API)
        if self._refused(resource):
            return
        if not address.path.startswith(API) or resource not in RESOURCES:
            self.send_json(404, {"error": "not_found", "detail": f"resources: {', '.join(RESOURCES)}"})
            return
        query = {name: values[-1] for name, values in parse_qs(address.query).items()}
        try:
            limit, after = self._asked(query)
        except ValueError as error:
            self.send_json(400, {"error": "bad_request", "detail": str(error)})
            return
        self._send_page(resource, limit, after, query)

    def _tell(self, dialect: Dialect, body: bytes) -> None:
        """Answer in another system's dialect."""
        address, faults = urlsplit(self.path), self.mes.faults
        resource = dialect.resource(address.path)
        if self._refused(resource, dialect.credential):
            return
        try:
            asked = Asked(
                address.path,
                parse_qs(address.query),
                json.loads(body),
                {name.lower(): value for name, value in self.headers.items()},
                self.mes.clock.now(),
                f"http://{self.headers.get('Host', '')}",
                lambda: faults.take("duplicate_page", resource) is not None,
            )
            status, told = dialect.answer(self.mes.plant, resource, asked)
        except (ValueError, KeyError, TypeError) as error:
            self.send_json(400, {"error": "bad_request", "detail": str(error)})
            return
        page = json.dumps(told).encode()
        if faults.take("truncated_json", resource):
            page = page[: len(page) // 2]
        if faults.take("truncated_body", resource):
            self._cut_off(page)
            return
        self.send_bytes(status, page)

    def _accepts(self, credential: str) -> bool:
        scheme, _, said = self.headers.get("Authorization", "").partition(" ")
        if credential == "basic":
            return scheme.lower() == "basic" and self.mes.knows(*self._credentials({}))
        if credential == "key":
            return scheme.lower() == "bearer" and hmac.compare_digest(said.encode(), self.mes.client_secret.encode())
        return scheme.lower() == "bearer" and self.mes.tokens.valid(said)

    def _refused(self, resource: str, credential: str = "token") -> bool:
        """Answer a request that gets no page: limits, credentials and ordered faults of the server."""
        faults = self.mes.faults
        if slow := faults.take("slow", resource):
            time.sleep(slow.seconds)
        if broken := faults.take("server_error", resource):
            self.send_json(broken.status, {"error": "unavailable"})
            return True
        limited = faults.take("rate_limit", resource)
        if limited or not self.mes.rate.allow():
            wait = limited.seconds if limited else 1.0
            self.send_json(429, {"error": "too_many_requests"}, Retry_After=f"{wait:g}")
            return True
        if faults.take("expire_token", resource):
            self.mes.tokens.expire_all()
        if not self._accepts(credential):
            self.send_json(401, {"error": "invalid_token"}, WWW_Authenticate='Bearer error="invalid_token"')
            return True
        if faults.take("html_200", resource):
            self.send_bytes(200, LOGIN_PAGE, "text/html; charset=utf-8")
            return True
        return False

    def _asked(self, query: dict[str, str]) -> tuple[int, Position]:
        text = query.get("limit", "1000")
        if not text.isdigit() or int(text) < 1:
            raise ValueError(f"limit is {text!r}, give a whole number from 1 to {MOST_RECORDS}")
        if "cursor" in query:
            return min(int(text), MOST_RECORDS), position_of(query["cursor"])
        since = query.get("updated_since")
        if since is None:
            return min(int(text), MOST_RECORDS), Position(0)
        moment = datetime.fromisoformat(since)
        if moment.tzinfo is None:
            raise ValueError(f"updated_since {since!r} has no zone: end it with Z or an offset")
        return min(int(text), MOST_RECORDS), Position(int(moment.timestamp() * 1_000_000))

    def _send_page(self, resource: str, limit: int, after: Position, query: dict[str, str]) -> None:
        faults, now = self.mes.faults, self.mes.clock.now()
        records, following = page(self.mes.plant, resource, after, limit, now)
        if following and "cursor" in query and faults.take("repeated_cursor", resource):
            following = after
        elif following and faults.take("duplicate_page", resource):
            following = after.again()
        cursor = following.cursor() if following else None
        link = f"{API}{resource}?{urlencode({'limit': limit, 'cursor': cursor})}" if cursor else None
        if foreign := faults.take("foreign_next_link", resource):
            link, cursor = foreign.url, cursor or "elsewhere"
        tail = json.dumps({"next_cursor": cursor, "next": link, "server_time": iso_utc(now)})
        body = b'{"data":' + to_json(records, nan_tokens=self.mes.plant.nan_tokens) + b"," + tail.encode()[1:]
        if faults.take("truncated_json", resource):
            body = body[: len(body) // 2]
        if faults.take("truncated_body", resource):
            self._cut_off(body)
            return
        self.send_bytes(200, body)

    def _cut_off(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2])
        self.close_connection = True

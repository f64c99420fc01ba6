"""The plant's stub ERP on loopback: accepts production summaries once, fails on request, remembers what it was sent.

``PUT /api/v1/production-summaries/{order}`` with ``Idempotency-Key: order:revision:sha256``. A key seen before gets
the same acknowledgement and is not accepted again; a revision that is not newer than the accepted one gets 409.
``GET /admin/received`` tells what was accepted, ``POST /admin/faults`` orders faults.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from spc_platform.plant.api import LOGIN_PAGE, JsonHandler
from spc_platform.plant.faults import Fault, Faults
from spc_platform.plant.server import HOST, listen

API = "/api/v1/"
SUMMARIES = f"{API}production-summaries/"
PORT = 8767
TOKEN_VARIABLE = "SPC_ERP_TOKEN"  # noqa: S105 - the name of a variable
TOKEN = "demo-erp-token"  # noqa: S105 - the demonstration ERP's
MOST_BYTES = 4 << 20
KINDS: dict[str, str] = {
    "server_error": "500 before anything is read into the books (option status)",
    "slow": "the answer comes late, after the summary was accepted (option seconds)",
    "hang": "nothing is accepted and no answer comes (option seconds), then the connection closes",
    "drop_after_accept": "the summary is accepted, then the connection closes without an answer",
    "conflict": "409 although nothing is wrong",
    "refuse": "422 with a reason",
    "rate_limit": "429 with Retry-After (option seconds)",
    "wrong_digest": "the summary is accepted, but the acknowledgement names another digest",
    "html_200": "a login page with status 200 instead of an acknowledgement",
    "expired_credential": "401 for a good token",
}


class ErpFaults(Faults):
    """Faults of the ERP; ``resource`` is a work order."""

    def _order(self, kind: str, what: Any) -> Fault:
        if kind not in KINDS:
            raise ValueError(f"no fault {kind!r}; the ERP knows: {', '.join(KINDS)}")
        options = dict(what) if isinstance(what, Mapping) else {"count": what}
        return Fault(**{"count": 1, "status": 500, **options})


@dataclass(frozen=True, slots=True)
class Accepted:
    """One summary in the books of the ERP."""

    job_order_id: str
    revision: int
    payload_sha256: str
    document: dict[str, Any]


@dataclass
class Books:
    """What the ERP accepted, in order, and how often it was asked in vain or twice."""

    accepted: list[Accepted] = field(default_factory=list)
    requests: int = 0
    duplicates: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def put(self, order: str, key: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """Accept a summary; gives status and answer."""
        digest = hashlib.sha256(body).hexdigest()
        named, _, rest = key.partition(":")
        revision, _, said = rest.partition(":")
        if unquote(named) != order or not revision.isdigit() or said != digest:
            return 422, {"error": "bad_key", "detail": "Idempotency-Key is not order:revision:sha256 of this body"}
        try:
            document = json.loads(body)
        except ValueError:
            return 400, {"error": "not_json"}
        if not isinstance(document, dict) or document.get("job_order_id") != order:
            return 422, {"error": "wrong_order", "detail": "job_order_id of the document is not that of the URL"}
        wanted = Accepted(order, int(revision), digest, document)
        with self._lock:
            known = [each for each in self.accepted if each.job_order_id == order]
            same = [each for each in known if each.revision == wanted.revision]
            if same and same[0].payload_sha256 == digest:
                self.duplicates += 1
                return 200, self._acknowledgement(wanted)
            if any(each.revision >= wanted.revision for each in known):
                newest = max(each.revision for each in known)
                return 409, {"error": "conflict", "detail": f"revision {newest} was accepted before"}
            self.accepted.append(wanted)
        return 201, self._acknowledgement(wanted)

    def newest(self) -> dict[str, Accepted]:
        """Order -> the summary that counts."""
        return {each.job_order_id: each for each in sorted(self.accepted, key=lambda each: each.revision)}

    @staticmethod
    def _acknowledgement(entry: Accepted) -> dict[str, Any]:
        return {"job_order_id": entry.job_order_id, "revision": entry.revision, "payload_sha256": entry.payload_sha256}


class ErpHandler(JsonHandler):
    """One request at the ERP."""

    server_version = "DemoERP/1"
    books: Books
    faults: ErpFaults
    token: str

    def body(self) -> bytes:
        length = self.headers.get("Content-Length", "0")
        size = int(length) if length.isdigit() else 0
        if size > MOST_BYTES:
            self.close_connection = True
            return b""
        return self.rfile.read(size)

    def do_GET(self) -> None:  # noqa: N802
        if urlsplit(self.path).path != "/admin/received":
            self.send_json(404, {"error": "not_found", "detail": "GET /admin/received"})
            return
        books = self.books
        counted = {"requests": books.requests, "duplicates": books.duplicates}
        self.send_json(200, {**counted, "accepted": [asdict(each) for each in books.accepted]})

    def do_POST(self) -> None:  # noqa: N802
        body = self.body()
        if urlsplit(self.path).path != "/admin/faults":
            self.send_json(404, {"error": "not_found", "detail": "POST /admin/faults"})
            return
        try:
            self.faults.set(json.loads(body or b"{}"))
        except (ValueError, TypeError, AttributeError) as error:
            self.send_json(400, {"error": "bad_request", "detail": str(error)})
            return
        self.send_json(200, {"pending": self.faults.pending(), "known": KINDS})

    def do_PUT(self) -> None:  # noqa: N802
        body, path = self.body(), urlsplit(self.path).path
        self.books.requests += 1
        order = unquote(path.removeprefix(SUMMARIES))
        if not path.startswith(SUMMARIES) or not order:
            self.send_json(404, {"error": "not_found", "detail": f"PUT {SUMMARIES}{{order}}"})
            return
        if self._refused(order):
            return
        status, answer = self.books.put(order, self.headers.get("Idempotency-Key", ""), body)
        if status < 300:
            if late := self.faults.take("slow", order):
                time.sleep(late.seconds)
            if self.faults.take("drop_after_accept", order):
                self.close_connection = True
                return
            if self.faults.take("wrong_digest", order):
                answer = {**answer, "payload_sha256": "0" * 64}
        self.send_json(status, answer)

    def _refused(self, order: str) -> bool:
        """Answer a request before its summary is looked at: ordered faults and credentials."""
        faults = self.faults
        if hanging := faults.take("hang", order):
            time.sleep(hanging.seconds)
            self.close_connection = True
            return True
        if broken := faults.take("server_error", order):
            self.send_json(broken.status, {"error": "internal"})
        elif limited := faults.take("rate_limit", order):
            self.send_json(429, {"error": "too_many_requests"}, Retry_After=f"{limited.seconds:g}")
        elif not self._knows() or faults.take("expired_credential", order):
            self.send_json(401, {"error": "invalid_token"}, WWW_Authenticate="Bearer")
        elif faults.take("conflict", order):
            self.send_json(409, {"error": "conflict", "detail": "the order is locked by another user"})
        elif faults.take("refuse", order):
            self.send_json(422, {"error": "period_closed", "detail": "the posting period is closed"})
        elif faults.take("html_200", order):
            self.send_bytes(200, LOGIN_PAGE, "text/html; charset=utf-8")
        else:
            return False
        return True

    def _knows(self) -> bool:
        return hmac.compare_digest(self.headers.get("Authorization", "").encode(), f"Bearer {self.token}".encode())


class ErpServer:
    """The stub ERP as a context manager: ``with ErpServer() as erp: erp.url, erp.books, erp.faults``.

    Port 0 takes a free port. Raises PermanentError when the port is taken.
    """

    def __init__(self, port: int = 0, *, token: str = TOKEN, faults: Mapping[str, Any] | None = None) -> None:
        self.books, self.faults = Books(), ErpFaults(faults)
        handler = type("BoundErpHandler", (ErpHandler,), {"books": self.books, "faults": self.faults, "token": token})
        self._server = listen(port, "--erp-port", handler, "erp", API.rstrip("/"))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def admin_url(self) -> str:
        return f"http://{HOST}:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        return self.admin_url + API.rstrip("/")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

"""One HTTP exchange with bounds on time and size, and messages that carry no secret.

``requests`` bounds each read of a socket but not the whole answer, so a peer that sends a byte a second
holds a caller for ever. Here the socket itself knows when the answer must be complete, headers included.
Redirects, cookies, proxies and ``.netrc`` are off; retries are decided elsewhere.
"""

from __future__ import annotations

import http.client
import io
import json
import re
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import quote, quote_plus, unquote, urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from spc_platform.errors import PermanentError
from spc_platform.sources.resilience import Deadline, RetriableError

CHUNK = 1 << 18
_RATIO_FROM = 1 << 20
"""Smaller answers may be compressed as well as they like."""
_SECRET_PATTERNS = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]+"), r"\1 ***"),
    (re.compile(r"\beyJ[\w-]+\.[\w-]+\.?[\w-]*"), "***"),
    (
        re.compile(
            r"(?i)([\w.-]*(?:token|secret|password|passwd|api[-_]?key|signature)[\w.-]*[\"']?\s*[=:]\s*[\"']?)[^\s&\"',}]+"
        ),
        r"\1***",
    ),
    (re.compile(r"(?i)([?&](?:key|sig)=)[^\s&]+"), r"\1***"),
    (re.compile(r"(://)[^/@\s]+@"), r"\1***@"),
)


_SHORT = 6
"""A secret shorter than this is hidden as a word only: as part of words it would hide much and show itself by that."""
_KNOWN: set[str] = set()


def remember_secret(secret: str) -> None:
    """From now on the secret is removed from every log line of this process, whoever writes it."""
    if secret:
        _KNOWN.add(secret)


def known_secrets() -> tuple[str, ...]:
    """Every secret that this process read or was given, longest first."""
    return tuple(sorted(_KNOWN, key=len, reverse=True))


@lru_cache(maxsize=256)
def _forms(secret: str) -> tuple[str, ...]:
    """A secret as it stands in plain text, in a URL, in a form and in JSON."""
    forms = {secret, quote(secret, safe=""), quote(secret), quote_plus(secret), json.dumps(secret)[1:-1]} if secret else set()
    return tuple(sorted(forms, key=len, reverse=True))


@lru_cache(maxsize=256)
def _as_word(form: str) -> re.Pattern[str]:
    """A form of a secret where no word goes on at its ends; escapes of URLs and of JSON are no part of a word."""
    begin = r"(?:(?<!\w)|(?<=%[0-9A-Fa-f]{2})|(?<=\\[nrt]))" if re.match(r"\w", form) else ""
    end = r"(?!\w)" if re.search(r"\w\Z", form) else ""
    return re.compile(begin + re.escape(form) + end)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without the given secrets and without anything that looks like one.

    >>> redact("GET https://u:p@mes/api?api_key=abc&limit=5 Authorization: Bearer x.y.z")
    'GET https://***@mes/api?api_key=***&limit=5 Authorization: Bearer ***'
    """
    for secret in secrets:
        for form in _forms(secret):
            text = _as_word(form).sub("***", text) if len(secret) < _SHORT else text.replace(form, "***")
    for pattern, replacement in _SECRET_PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of a URL, as a browser compares them.

    >>> origin("HTTPS://Mes.example/api") == origin("https://mes.example:443/other")
    True
    """
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    return parts.scheme, (parts.hostname or "").lower(), port


def resolve_next(base_url: str, current_url: str, link: str, allowed: Sequence[str] = ()) -> str:
    """The absolute URL of a next link. Raises PermanentError when it leaves the configured source.

    Another scheme, host, port or a path outside the path of ``base_url`` is refused: following it
    would hand the token to whoever wrote the link. ``allowed`` lists other origins that may be asked, without credentials.
    """
    problem = ""
    target = ""
    if re.search(r"[\\\s\x00-\x1f]", link):
        problem = "holds a backslash, blank or control character"
    else:
        try:
            target = urljoin(current_url, link)
            parts, base_path = urlsplit(target), urlsplit(base_url).path.rstrip("/")
            path = unquote(parts.path)
            if "@" not in parts.netloc and parts.hostname and origin(target) in {origin(each) for each in allowed}:
                return target
            if origin(target) != origin(base_url) or "@" in parts.netloc:
                problem = "leaves the configured scheme, host or port"
            elif ".." in path.split("/") or "\\" in path or not (path + "/").startswith(base_path + "/"):
                problem = f"leaves the path {base_path or '/'!r}"
        except ValueError:
            problem = "is not a URL"
    if problem:
        raise PermanentError(
            f"next link {redact(link[:200])!r} {problem} of {redact(base_url)}; it was not followed and no credential was sent."
            " Ask the owner of the source why it points there, or use cursor pagination",
            code="SPC-203",
        )
    return target


_BOUNDS: ContextVar[tuple[Deadline, float] | None] = ContextVar("bounds of the answer being read", default=None)


class _BoundedSocketIO(socket.SocketIO):
    """Reads a socket until the deadline of the whole answer, waiting at most ``read_s`` for each piece."""

    def __init__(self, sock: Any, deadline: Deadline, read_s: float) -> None:
        super().__init__(sock, "rb")
        sock._io_refs += 1  # noqa: SLF001 - as socket.makefile does; undone by close
        self._deadline, self._read_s, self._bounded = deadline, read_s, sock

    def readinto(self, buffer: Any) -> int | None:
        remaining = self._deadline.remaining
        if remaining <= 0:
            raise TimeoutError("total deadline passed")
        self._bounded.settimeout(min(remaining, self._read_s))
        return super().readinto(buffer)


class _BoundedResponse(http.client.HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        bounds = _BOUNDS.get()
        if bounds is not None:
            self.fp.close()
            self.fp = io.BufferedReader(_BoundedSocketIO(sock, *bounds))


class _HTTPConnection(urllib3.connection.HTTPConnection):
    response_class = _BoundedResponse


class _HTTPSConnection(urllib3.connection.HTTPSConnection):
    response_class = _BoundedResponse


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer: status, headers (names in lower case) and the body after content decoding.

    ``sent_at`` and ``received_at`` are our times before connecting and when the headers were there.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    sent_at: datetime | None = None
    received_at: datetime | None = None

    @property
    def looks_like_html(self) -> bool:
        """True for a login or error page where data was expected."""
        return "text/html" in self.headers.get("content-type", "").lower() or self.body[:64].lstrip()[:1] == b"<"


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of one exchange: connecting and each read in s, the decoded body in bytes and as multiple of what was sent."""

    connect_s: float
    read_s: float
    max_bytes: int
    max_ratio: float = 200.0


class Transport:
    """One session to one source. Sends a request once and reads its answer within bounds."""

    def __init__(self, bounds: Bounds, *, ca_file: str | None = None, cert: tuple[str, str] | None = None) -> None:
        self.bounds = bounds
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = ca_file or True
        self._session.cert = cert
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, _Adapter(max_retries=urllib3.Retry(0, redirect=0, read=False)))

    def close(self) -> None:
        self._session.close()

    def send(
        self,
        method: str,
        url: str,
        deadline: Deadline,
        *,
        params: Mapping[str, str | list[str]] | None = None,
        form: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        auth: AuthBase | tuple[str, str] | None = None,
        secrets: Iterable[str] = (),
    ) -> Answer:
        """The answer, whatever its status. ``deadline`` covers connecting, headers and the whole body.

        A request carries a ``form`` or a ``body`` or neither; ``headers`` are added to our own.

        Raises RetriableError for a broken connection, a timeout or a body that ended early, and
        PermanentError for a certificate that does not verify, a bad URL or a body over ``max_bytes``.
        """
        where = f"{method} {redact(url, secrets)}"
        if deadline.remaining <= 0:
            raise RetriableError(f"{where}: total deadline of {deadline.seconds:.3g} s passed")
        sent_at, began = datetime.now(UTC), time.monotonic()
        reset = _BOUNDS.set((deadline, self.bounds.read_s))
        try:
            with self._session.request(
                method,
                url,
                params=params,
                data=form if body is None else body,
                auth=auth,
                stream=True,
                allow_redirects=False,
                timeout=(min(self.bounds.connect_s, deadline.remaining), self.bounds.read_s),
                headers={"Accept": "application/json", "User-Agent": "spc-platform", **(headers or {})},
            ) as response:
                took = time.monotonic() - began
                named = {name.lower(): value for name, value in response.headers.items()}
                body_read = self._body(response, where, deadline)
                return Answer(response.status_code, named, body_read, sent_at, sent_at + timedelta(seconds=took))
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, requests.exceptions.MissingSchema):
            raise PermanentError(
                f"{where}: not a URL that can be asked; correct base_url of the source", code="SPC-201"
            ) from None
        except requests.exceptions.SSLError as error:
            if "CERTIFICATE_VERIFY_FAILED" not in str(error):
                raise RetriableError(f"{where}: TLS handshake failed") from None
            raise PermanentError(
                f"{where}: the certificate does not verify; name the plant's CA in auth.ca_file,"
                " verification is never switched off",
                code="SPC-202",
            ) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            if deadline.remaining <= 0:
                raise RetriableError(f"{where}: total deadline of {deadline.seconds:.3g} s passed while reading") from None
            raise RetriableError(f"{where}: {_kind(error)}") from None
        finally:
            _BOUNDS.reset(reset)

    def _body(self, response: requests.Response, where: str, deadline: Deadline) -> bytes:
        body = bytearray()
        for chunk in response.iter_content(CHUNK):
            body += chunk
            if len(body) > self.bounds.max_bytes:
                raise PermanentError(
                    f"{where}: the answer is larger than {self.bounds.max_bytes} bytes after decoding; lower"
                    " pagination.page_size or raise limits.max_page_bytes",
                    code="SPC-204",
                )
            sent = response.raw.tell()
            if len(body) > _RATIO_FROM and sent and len(body) > sent * self.bounds.max_ratio:
                raise PermanentError(
                    f"{where}: the answer grew from {sent} to over {len(body)} bytes by decoding, beyond limits.max_ratio"
                    f" = {self.bounds.max_ratio:g}; ask the owner of the source, or raise it",
                    code="SPC-233",
                )
            if deadline.remaining <= 0:
                raise TimeoutError
        return bytes(body)


def _kind(error: BaseException) -> str:
    """Names a network failure by class and operating-system reason; never by its text, which may hold the URL."""
    name = type(error).__name__
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            return f"{name} ({seen.strerror})"
        inner = [getattr(seen, "reason", None), *seen.args, seen.__cause__, seen.__context__]
        seen = next((each for each in inner if isinstance(each, BaseException)), None)
    return name

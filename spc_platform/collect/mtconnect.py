"""MTConnect agents: a snapshot by ``current``, then every observation by the ``sample`` stream, in the agent's sequence.

``base_url`` is the agent's address, ``http://agent:5000`` or that of one device, ``http://agent:5000/VMC-3Axis``.

``limits``
    ``path = ""``: XPath that the agent selects data items by; empty: all. ``interval_ms = 500`` between two parts of the
    stream; ``heartbeat_ms = 10000`` when nothing happens; ``count = 1000`` observations a part. ``timeout_s = 10.0`` for one
    answer to begin. ``max_part_bytes = 16777216``. ``streaming = true``; false asks again every interval, for proxies that
    hold streams back.
``auth``
    ``ca_file = ""``: authority that signed the agent's certificate. ``kind = "none"`` or ``basic`` with ``user_env`` and
    ``secret_env``, the variables that hold name and password.

The agent's buffer is what it remembers: after a break the stream goes on at the next sequence number. Where the buffer
has passed it, or the agent was started anew (another ``instanceId``), what is left is read from its beginning and the
time between is a gap.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3

from spc_platform.collect.mtconnect_documents import OutOfRangeError, Parts, Streams, parse_streams
from spc_platform.collect.sink import Sink
from spc_platform.collect.spool import Gap
from spc_platform.errors import PermanentError, SiteError, TransientError
from spc_platform.settings import Settings
from spc_platform.site.model import Source
from spc_platform.sources.auth import secret_from_environment
from spc_platform.sources.rest_config import checked

LIMITS: dict[str, Any] = {
    "path": "",
    "interval_ms": 500,
    "heartbeat_ms": 10_000,
    "count": 1000,
    "timeout_s": 10.0,
    "max_part_bytes": 16 << 20,
    "streaming": True,
}
AUTH: dict[str, Any] = {"ca_file": "", "kind": "none", "user_env": "", "secret_env": ""}
PASSED = "the agent's buffer had passed it"
RESTARTED = "the agent was started anew"
_INSTANCE, _NEXT, _SEEN = "instance", "next", "seen"


class MtConnectConnector:
    """Follows one agent. Raises SiteError for options that are wrong."""

    def __init__(self, config: Source, settings: Settings) -> None:
        self._source_id = config.source_id
        self._limits = checked(config.source_id, "limits", config.limits, LIMITS)
        auth = checked(config.source_id, "auth", config.auth, AUTH)
        parts = urlsplit(config.base_url)
        problems = [
            f"limits.{key} must be above 0"
            for key in ("interval_ms", "heartbeat_ms", "count", "timeout_s")
            if self._limits[key] == 0
        ]
        if parts.scheme not in ("http", "https") or not parts.hostname:
            problems.append(f"base_url {config.base_url!r} is no agent; write http://host:5000")
        if parts.username or parts.password or parts.query:
            problems.append("base_url holds a user, a password or a query; remove it")
        if auth["kind"] not in ("none", "basic"):
            problems.append(f"auth.kind = {auth['kind']!r} is not known; one of: none, basic")
        if config.pagination:
            problems.append("pagination does not belong to a subscription; remove it")
        if problems:
            raise SiteError(f"source {config.source_id!r}: " + "; ".join(problems), code="SPC-474")
        self._url = config.base_url.rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["Accept"] = "text/xml, application/xml, multipart/x-mixed-replace"
        if auth["ca_file"]:
            self._session.verify = str(settings.site / auth["ca_file"])
        if auth["kind"] == "basic":
            user, password = (
                secret_from_environment(config.source_id, key, auth[key]).get_secret_value()
                for key in ("user_env", "secret_env")
            )
            self._session.auth = (user, password)

    def __repr__(self) -> str:
        return f"MtConnectConnector({self._source_id!r}, {self._url!r})"

    def run(self, sink: Sink, stop: threading.Event) -> None:
        """Follow until ``stop``. Raises TransientError when the agent went away, PermanentError for what is no agent."""
        try:
            current = self._document("current", {})
            position = self._begin(sink, current)
            unknown = sorted(set(sink.addresses) - {reading.address for reading in current.readings})
            lacks = f"; the agent has no data item {', '.join(unknown)}, correct tags.csv" if unknown else ""
            sink.connected(f"following {self._url}{lacks}")
            for streams in self._samples(position, stop):
                if streams.instance != position[0]:
                    raise TransientError(f"source {self._source_id!r}: {RESTARTED}", code="SPC-163")
                self._put(sink, streams)
                if stop.is_set():
                    return
        except OutOfRangeError as error:
            # What was asked for is gone: the next run finds where the buffer begins now.
            raise TransientError(f"source {self._source_id!r}: {error}", code="SPC-162") from error
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            if isinstance(error, requests.exceptions.SSLError):
                raise PermanentError(f"source {self._source_id!r}: {self._url}: {error}", code="SPC-293") from error
            raise TransientError(
                f"source {self._source_id!r}: {self._url}: {type(error).__name__}: {error}", code="SPC-163"
            ) from error
        finally:
            self._session.close()

    def _begin(self, sink: Sink, current: Streams) -> tuple[int, int]:
        """Instance and sequence number to go on from; puts the first snapshot and tells what was missed."""
        state = sink.state()
        if _NEXT not in state:
            self._put(sink, current)
            return current.instance, current.next_sequence
        seen = datetime.fromisoformat(state[_SEEN]) if state.get(_SEEN) else None
        is_same = state[_INSTANCE] == str(current.instance)
        if is_same and current.first_sequence <= int(state[_NEXT]) <= current.next_sequence:
            return current.instance, int(state[_NEXT])
        until = min((reading.observed_at for reading in self._oldest(current).readings), default=datetime.now(UTC))
        gap = Gap("*", seen, until if seen is None else max(seen, until), PASSED if is_same else RESTARTED)
        sink.put((), state={_INSTANCE: str(current.instance), _NEXT: str(current.first_sequence)}, gaps=[gap])
        return current.instance, current.first_sequence

    def _oldest(self, current: Streams) -> Streams:
        return self._document("sample", {"from": str(current.first_sequence), "count": "1"})

    def _put(self, sink: Sink, streams: Streams) -> None:
        state = {_INSTANCE: str(streams.instance), _NEXT: str(streams.next_sequence)}
        if streams.readings:
            state[_SEEN] = max(reading.observed_at for reading in streams.readings).isoformat()
        sink.put(streams.readings, state=state)

    def _samples(self, position: tuple[int, int], stop: threading.Event) -> Iterator[Streams]:
        if self._limits["streaming"]:
            yield from self._stream(position[1])
            raise TransientError(f"source {self._source_id!r}: {self._url} ended the stream", code="SPC-163")
        following = position[1]
        while not stop.wait(self._limits["interval_ms"] / 1000):
            streams = self._document("sample", {"from": str(following), "count": str(self._limits["count"])})
            following = streams.next_sequence
            yield streams

    def _stream(self, following: int) -> Iterator[Streams]:
        asked = {
            "from": str(following),
            "interval": str(self._limits["interval_ms"]),
            "heartbeat": str(self._limits["heartbeat_ms"]),
            "count": str(self._limits["count"]),
        }
        silence_s = 2 * self._limits["heartbeat_ms"] / 1000 + self._limits["timeout_s"]
        with self._get("sample", asked, silence_s) as answer:
            content_type = answer.headers.get("Content-Type", "")
            if not content_type.startswith("multipart/x-mixed-replace"):
                # An agent that cannot stream, or an error document.
                yield parse_streams(self._body(answer), datetime.now(UTC))
                return
            boundary = content_type.partition("boundary=")[2].partition(";")[0].strip().strip('"')
            read: Callable[[], bytes] = lambda: answer.raw.read1(65536, decode_content=True)  # noqa: E731
            for part in Parts(read, boundary.removeprefix("--"), self._limits["max_part_bytes"]):
                yield parse_streams(part, datetime.now(UTC))

    def _document(self, request: str, asked: dict[str, str]) -> Streams:
        with self._get(request, asked, self._limits["timeout_s"]) as answer:
            return parse_streams(self._body(answer), datetime.now(UTC))

    def _body(self, answer: requests.Response) -> bytes:
        body = answer.raw.read(self._limits["max_part_bytes"] + 1, decode_content=True)
        if len(body) > self._limits["max_part_bytes"]:
            raise PermanentError(
                f"source {self._source_id!r}: {self._url} answers more than limits.max_part_bytes", code="SPC-292"
            )
        return bytes(body)

    def _get(self, request: str, asked: dict[str, str], silence_s: float) -> requests.Response:
        if self._limits["path"]:
            asked = {**asked, "path": self._limits["path"]}
        answer = self._session.get(
            f"{self._url}/{request}",
            params=asked,
            stream=True,
            allow_redirects=False,
            timeout=(self._limits["timeout_s"], silence_s),
        )
        if answer.status_code in (401, 403):
            raise PermanentError(f"source {self._source_id!r}: {self._url} refuses us ({answer.status_code})", code="SPC-293")
        if 300 <= answer.status_code < 400:
            raise PermanentError(
                f"source {self._source_id!r}: {self._url} redirects; write the address that it leads to", code="SPC-293"
            )
        if answer.status_code >= 500:
            raise TransientError(f"source {self._source_id!r}: {self._url} answers {answer.status_code}", code="SPC-163")
        return answer

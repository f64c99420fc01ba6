r"""Instruments that speak lines of text on a serial port: gauges, scales, readers.

``base_url`` is the port, ``serial:///dev/ttyUSB0``, or a terminal server, ``socket://host:4001``.

``limits``
    ``baudrate = 9600``, ``bytesize = 8``, ``parity = "N"``, ``stopbits = 1``, ``rtscts = false``, ``xonxoff = false``.
    ``end = "\r\n"``: what ends a line. ``encoding = "ascii"``. ``pattern``: regular expression that a whole line matches; its
    group ``value`` is the reading, ``address`` (if there is one) the tag's address, else ``channel``; ``bad`` (if it matched
    something) what is wrong with the reading; ``key`` a number that the instrument gives each reading. ``channel = "value"``.
    ``decimal = "."``. ``request = ""`` is sent every ``poll_s = 1.0`` where an instrument must be asked. ``idle_s = 0.0``: no
    line for longer means that the instrument is away; 0: a silent instrument is a healthy one.
    ``longest = 4096`` bytes of a line.

An instrument that nobody listens to says its readings to nobody: the time between two connections is a gap. A line that
does not match is kept as a gap of its moment, with its text.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from spc_platform.collect.readings import Reading
from spc_platform.collect.sink import Sink
from spc_platform.collect.spool import Gap
from spc_platform.errors import SiteError, TransientError
from spc_platform.settings import Settings
from spc_platform.site.model import Source
from spc_platform.sources.rest_config import checked

LIMITS: dict[str, Any] = {
    "baudrate": 9600,
    "bytesize": 8,
    "parity": "N",
    "stopbits": 1,
    "rtscts": False,
    "xonxoff": False,
    "end": "\r\n",
    "encoding": "ascii",
    "pattern": r"\s*(?P<value>[-+]?[0-9.]+)\s*",
    "channel": "value",
    "decimal": ".",
    "request": "",
    "poll_s": 1.0,
    "idle_s": 0.0,
    "longest": 4096,
}
PORT_KEYS = ("baudrate", "bytesize", "parity", "stopbits", "rtscts", "xonxoff")
AWAY = "nobody listened to the instrument"
_SEEN = "seen"
_WAIT_S = 0.2


class SerialConnector:
    """Listens to one port. Raises SiteError for options that are wrong or a client that is not installed."""

    def __init__(self, config: Source, settings: Settings) -> None:
        self._source_id = config.source_id
        limits = self._limits = checked(config.source_id, "limits", config.limits, LIMITS)
        self._end = limits["end"].encode()
        self._port = _port(config)
        try:
            self._pattern = re.compile(limits["pattern"])
            "".encode(limits["encoding"])
        except (re.error, LookupError) as error:
            raise SiteError(f"source {config.source_id!r}: limits: {error}", code="SPC-473") from error
        if "value" not in self._pattern.groupindex or not self._end:
            raise SiteError(
                f"source {config.source_id!r}: limits.pattern needs a group (?P<value>…), and limits.end at least a character",
                code="SPC-473",
            )
        if config.auth or config.pagination:
            raise SiteError(f"source {config.source_id!r}: a serial line knows neither auth nor pagination", code="SPC-473")

    def __repr__(self) -> str:
        return f"SerialConnector({self._source_id!r}, {self._port!r})"

    def run(self, sink: Sink, stop: threading.Event) -> None:
        """Listen until ``stop``. Raises TransientError when the port cannot be opened, is lost, or was silent too long."""
        try:
            import serial
        except ImportError:
            raise SiteError(
                f"source {self._source_id!r}: the serial client is not installed; install the extra: spc_platform[serial]",
                code="SPC-472",
            ) from None
        try:
            with serial.serial_for_url(
                self._port, timeout=_WAIT_S, write_timeout=5.0, **{key: self._limits[key] for key in PORT_KEYS}
            ) as port:
                seen = sink.state().get(_SEEN)
                gaps = [] if seen is None else [Gap("*", datetime.fromisoformat(seen), datetime.now(UTC), AWAY)]
                sink.put((), gaps=gaps)
                sink.connected(f"listening to {self._port}")
                for line, at in self._lines(port, stop):
                    self._put(sink, line, at)
        except (serial.SerialException, OSError) as error:
            raise TransientError(f"source {self._source_id!r}: {self._port}: {error}", code="SPC-161") from error

    def _lines(self, port: Any, stop: threading.Event) -> Iterator[tuple[bytes, datetime]]:
        """Whole lines with the time of their last byte. A line that was begun before we listened is told by its pattern."""
        waiting = b""
        asked = heard = time.monotonic()
        request, poll_s, idle_s = self._limits["request"].encode(), self._limits["poll_s"], self._limits["idle_s"]
        if request:
            port.write(request)
        while not stop.is_set():
            said = port.read(max(1, port.in_waiting))
            now = time.monotonic()
            if said:
                heard = now
                *lines, waiting = (waiting + said).split(self._end)
                at = datetime.now(UTC)
                yield from ((line, at) for line in lines)
                if len(waiting) > self._limits["longest"]:
                    yield waiting, at
                    waiting = b""
            elif idle_s and now - heard > idle_s:
                raise TransientError(f"source {self._source_id!r}: {self._port} was silent for {idle_s:g} s", code="SPC-161")
            if request and now - asked >= poll_s:
                port.write(request)
                asked = now

    def _put(self, sink: Sink, line: bytes, at: datetime) -> None:
        text = line.decode(self._limits["encoding"], errors="replace")
        if not text.strip():
            return
        found = self._pattern.fullmatch(text)
        if found is None:
            kept = text if len(text) <= 200 else text[:200] + "…"
            sink.put((), state={_SEEN: at.isoformat()}, gaps=[Gap("*", at, at, f"line not understood: {kept!r}")])
            return
        groups = found.groupdict()
        value = groups["value"] or ""
        address = groups.get("address") or self._limits["channel"]
        reading = Reading(
            address, value.replace(self._limits["decimal"], "."), at, groups.get("bad") or "", groups.get("key") or ""
        )
        sink.put([reading], state={_SEEN: at.isoformat()})


def _port(config: Source) -> str:
    parts = urlsplit(config.base_url)
    if parts.scheme == "serial" and parts.path.startswith("/"):
        return parts.path
    if parts.scheme == "socket" and parts.hostname and parts.port:
        return config.base_url
    raise SiteError(
        f"source {config.source_id!r}: base_url {config.base_url!r} is no port; write serial:///dev/ttyUSB0 or socket://host:4001",
        code="SPC-473",
    )

"""What an MTConnect agent answers: MTConnectStreams and MTConnectError documents, and the parts of a stream of them: pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from spc_platform.collect.readings import UNAVAILABLE, Reading
from spc_platform.errors import PermanentError, TransientError

CONDITIONS = ("Normal", "Warning", "Fault", "Unavailable")
NOT_A_TIME = "NotATime"


@dataclass(frozen=True, slots=True)
class Streams:
    """One MTConnectStreams document. A reading's ``sequence`` is ``instance:sequence`` of the agent."""

    instance: int
    first_sequence: int
    next_sequence: int
    created_at: datetime | None
    readings: tuple[Reading, ...]


class OutOfRangeError(TransientError):
    """The agent no longer holds, or does not yet hold, what was asked for."""

    code = "SPC-162"


def parse_streams(body: bytes, received_at: datetime) -> Streams:
    """An agent's document. Raises OutOfRangeError for that error of the agent, PermanentError for another document.

    The address of a reading is the ``dataItemId``. A condition's value is its level, upper case, with the native code:
    ``FAULT:E101``. An observation without a readable time has the time of receipt and is bad.
    """
    try:
        root = fromstring(body, forbid_dtd=True)
    except (ParseError, DefusedXmlException) as error:
        raise TransientError(f"the agent's answer of {len(body)} bytes is no XML document: {error}", code="SPC-163") from error
    kind = _name(root)
    if kind == "MTConnectError":
        errors = [(node.get("errorCode") or "", (node.text or "").strip()) for node in root.iter() if _name(node) == "Error"]
        said = "; ".join(f"{code}: {text[:200]}" for code, text in errors)
        if any(code == "OUT_OF_RANGE" for code, _ in errors):
            raise OutOfRangeError(f"the agent says {said}")
        raise PermanentError(f"the agent says {said}; correct the source's path and limits", code="SPC-291")
    header = next((node for node in root if _name(node) == "Header"), None)
    if kind != "MTConnectStreams" or header is None:
        raise PermanentError(
            f"the answer is a {kind}, no MTConnectStreams document; base_url must be an agent's", code="SPC-291"
        )
    try:
        instance, first, following = (int(header.get(key, "")) for key in ("instanceId", "firstSequence", "nextSequence"))
    except ValueError as error:
        raise PermanentError(f"the agent's header says no sequence numbers: {error}", code="SPC-291") from error
    return Streams(instance, first, following, _time(header.get("creationTime")), tuple(_readings(root, instance, received_at)))


def _readings(root: Element, instance: int, received_at: datetime) -> Iterator[Reading]:
    for group in root.iter():
        if _name(group) not in ("Samples", "Events", "Condition"):
            continue
        is_condition = _name(group) == "Condition"
        for node in group:
            address = node.get("dataItemId")
            if not address:
                continue
            sequence = f"{instance}:{node.get('sequence', '')}"
            text = "".join(node.itertext()).strip()
            value = _condition(node) if is_condition else text
            at = _time(node.get("timestamp"))
            if at is None:
                yield Reading(address, None, received_at, NOT_A_TIME, sequence)
            elif value == UNAVAILABLE:
                yield Reading(address, None, at, UNAVAILABLE, sequence)
            else:
                yield Reading(address, value, at, sequence=sequence)


def _condition(node: Element) -> str:
    level = _name(node).upper()
    native = node.get("nativeCode")
    return f"{level}:{native}" if native and level in ("WARNING", "FAULT") else level


def _name(node: Element) -> str:
    return str(node.tag).rpartition("}")[2]


def _time(text: str | None) -> datetime | None:
    """A UTC time; fractions beyond microseconds are cut, a time without a zone is none."""
    if not text:
        return None
    whole, dot, rest = text.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    try:
        at = datetime.fromisoformat(f"{whole}{dot}{digits[:6]}{rest[len(digits) :]}")
        return None if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


class Parts:
    """The parts of a ``multipart/x-mixed-replace`` answer, one at a time, as they arrive.

    ``read`` gives the next bytes, none at the end. Raises TransientError when the stream ends within a part and
    PermanentError for a part of more than ``most_bytes``.
    """

    def __init__(self, read: Callable[[], bytes], boundary: str, most_bytes: int) -> None:
        self._read, self._mark, self._most = read, b"--" + boundary.encode(), most_bytes
        self._waiting = b""

    def __iter__(self) -> Iterator[bytes]:
        self._up_to(self._mark)
        while not self._is_end():
            headers = self._up_to(b"\r\n\r\n").decode("latin-1").lower().split("\r\n")
            size = next((line.partition(":")[2].strip() for line in headers if line.startswith("content-length:")), "")
            if size.isdigit():
                yield self._take(int(size))
                self._up_to(self._mark)
            else:
                yield self._up_to(self._mark).rstrip(b"\r\n")

    def _is_end(self) -> bool:
        while len(self._waiting) < 2:
            self._more(2)
        return self._waiting.startswith(b"--")

    def _up_to(self, end: bytes) -> bytes:
        searched = 0
        while (found := self._waiting.find(end, searched)) < 0:
            searched = max(0, len(self._waiting) - len(end) + 1)
            self._more(len(self._waiting))
        before, self._waiting = self._waiting[:found], self._waiting[found + len(end) :]
        return before

    def _take(self, size: int) -> bytes:
        if size > self._most:
            self._refuse()
        while len(self._waiting) < size:
            self._more(size)
        taken, self._waiting = self._waiting[:size], self._waiting[size:]
        return taken

    def _more(self, size: int) -> None:
        if size > self._most:
            self._refuse()
        said = self._read()
        if not said:
            raise TransientError("the agent ended the stream", code="SPC-163")
        self._waiting += said

    def _refuse(self) -> NoReturn:
        raise PermanentError(f"the agent sends a part of more than {self._most} bytes, which are not taken", code="SPC-292")

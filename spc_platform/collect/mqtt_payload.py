"""Payloads of MQTT messages as readings, by the rules of the source: pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import polars as pl

from spc_platform.collect.mqtt_config import PayloadRule
from spc_platform.collect.readings import GOOD, Reading, Value
from spc_platform.sources.json_names import duplicated
from spc_platform.sources.local_time import read_instants

_ADDRESS = re.compile(r"((?:[^#]*/)?#(?=#|$)|[^#]*)(?:#(.*))?", re.DOTALL)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_MISSING = object()
_SHOWN = 60


class MalformedError(Exception):
    """A payload that cannot be read; the text says why. It is quarantined, never raised to the caller of a connector."""


@dataclass(frozen=True, slots=True)
class Target:
    """A tag's address, taken apart: the topic (filter) and the path in its payloads; None where the address has none."""

    address: str
    topic: str
    path: str | None

    @property
    def is_wildcard(self) -> bool:
        """Whether readings of several topics share the address."""
        return any(level in ("+", "#") for level in self.topic.split("/"))


def target_of(address: str) -> Target:
    """An address taken apart at its first ``#`` that is no wildcard: a topic has none, a filter only as its last level.

    >>> target_of("plant/+/state#spindle.load")
    Target(address='plant/+/state#spindle.load', topic='plant/+/state', path='spindle.load')
    >>> target_of("plant/##a/b").topic, target_of("plant/#").path
    ('plant/#', None)
    """
    match = _ADDRESS.match(address)
    return Target(address, match[1], match[2]) if match else Target(address, address, None)


def quarantined(targets: Sequence[str], reason: str, payload: bytes, received_at: datetime) -> list[Reading]:
    """What is kept of a payload that cannot be read: a reading without value for each address, with reason and hash."""
    word = f"MALFORMED: {reason}; {fingerprint(payload)}"
    return [Reading(address, None, received_at, word) for address in targets]


def fingerprint(payload: bytes) -> str:
    """The SHA-256 and the length of a payload.

    >>> fingerprint(b"")
    'sha256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855, 0 bytes'
    """
    return f"sha256 {hashlib.sha256(payload).hexdigest()}, {len(payload)} bytes"


def read_payload(
    rule: PayloadRule, topic: str, targets: Sequence[Target], payload: bytes, received_at: datetime
) -> list[Reading]:
    """The readings of one message; a value that cannot be used is a reading of bad quality.

    Raises MalformedError when nothing of the payload can be used: it is no JSON, or has none of the tags' paths.
    """
    if rule.format == "text":
        return [Reading(target.address, _text(payload), received_at, sequence=_suffix(target, topic)) for target in targets]
    document = _decode(payload)
    elements = _at(document, (), rule.readings) if rule.readings else document
    if elements is _MISSING:
        raise MalformedError(f"no {rule.readings!r} in the payload")
    listed = elements if isinstance(elements, list) else [elements]
    outer = (document,) if rule.readings else ()
    found: list[Reading] = []
    for place, element in enumerate(listed):
        found += _readings(rule, topic, targets, element, outer, place, payload, received_at)
    if not found and listed:
        raise MalformedError("none of the tags' paths is in the payload")
    return found


def _readings(
    rule: PayloadRule,
    topic: str,
    targets: Sequence[Target],
    element: Any,
    outer: tuple[Any, ...],
    place: int,
    payload: bytes,
    received_at: datetime,
) -> Iterator[Reading]:
    chosen = [(target, value) for target in targets if (value := _value(rule, target, element, outer)) is not _MISSING]
    if not chosen:
        return
    try:
        at = _time(rule, element, outer) if rule.timestamp else received_at
        number = _number(rule, element, outer, place)
    except MalformedError as error:
        yield from quarantined([target.address for target, _ in chosen], str(error), payload, received_at)
        return
    quality = _quality(rule, element, outer)
    for target, raw in chosen:
        value, problem = _scalar(raw)
        sequence = f"{number}{_suffix(target, topic)}"
        yield Reading(target.address, value, at, quality or problem, sequence)


def _number(rule: PayloadRule, element: Any, outer: tuple[Any, ...], place: int) -> Any:
    """What tells the reading apart from its equals; those of one receipt differ by their place only."""
    if not rule.sequence:
        return "" if rule.timestamp else place or ""
    number = _at(element, outer, rule.sequence)
    if number is _MISSING:
        raise MalformedError(f"no {rule.sequence!r} in the reading")
    return number


def _decode(payload: bytes) -> Any:
    try:
        document = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedError(f"no JSON ({str(error)[:_SHOWN]})") from None
    except RecursionError:
        raise MalformedError("nested too deeply") from None
    if duplicated(payload):
        raise MalformedError("an object has two fields of one name")
    return document


def _value(rule: PayloadRule, target: Target, element: Any, outer: tuple[Any, ...]) -> Any:
    if not rule.name:
        return _at(element, outer, rule.value if target.path is None else target.path)
    name = _at(element, outer, rule.name)
    return _at(element, outer, rule.value) if target.path in (None, name) and name is not _MISSING else _MISSING


def _at(element: Any, outer: tuple[Any, ...], path: str) -> Any:
    """What stands at a path; a field whose name is the whole path, dots included, comes first."""
    if path.startswith("^."):
        return _at(outer[-1], outer[:-1], path[2:]) if outer else _MISSING
    if not path:
        return element
    if isinstance(element, dict) and path in element:
        return element[path]
    for part in path.split("."):
        if isinstance(element, dict):
            element = element.get(part, _MISSING)
        elif isinstance(element, list) and part.isdecimal() and int(part) < len(element):
            element = element[int(part)]
        else:
            return _MISSING
    return element


def _time(rule: PayloadRule, element: Any, outer: tuple[Any, ...]) -> datetime:
    said = _at(element, outer, rule.timestamp)
    if said is _MISSING or said is None:
        raise MalformedError(f"no time at {rule.timestamp!r}")
    try:
        return _iso(said, rule) if rule.time_unit == "iso" else _since_epoch(said, rule.time_unit)
    except (ValueError, OverflowError, ArithmeticError):
        raise MalformedError(f"no time: {said!r:.{_SHOWN}}") from None


def _iso(said: Any, rule: PayloadRule) -> datetime:
    if not isinstance(said, str):
        raise MalformedError(f"no time: {said!r:.{_SHOWN}}; is time_unit right?")
    try:
        at = datetime.fromisoformat(said)
        if at.tzinfo is not None:
            return at.astimezone(UTC)
    except ValueError:
        pass
    # Local times and leap seconds; seldom, so that the detour over a column costs nothing.
    placed = read_instants(pl.Series([said]), rule.zone, rule.ambiguous)
    if placed.at[0] is None:
        raise MalformedError(f"no time: {said[:_SHOWN]!r} is {placed.reason[0]}")
    instant: datetime = placed.at[0]
    return instant.astimezone(UTC)


def _since_epoch(said: Any, unit: str) -> datetime:
    if isinstance(said, str):
        said = float(said) if "." in said or "e" in said.lower() else int(said)
    if isinstance(said, bool) or not isinstance(said, int | float):
        raise MalformedError(f"no time: {said!r:.{_SHOWN}}")
    # Whole numbers stay whole: a float cannot hold nanoseconds since 1970.
    microseconds = said * _NANOSECONDS[unit] // 1000 if isinstance(said, int) else round(said * _NANOSECONDS[unit] / 1000)
    return _EPOCH + timedelta(microseconds=microseconds)


def _quality(rule: PayloadRule, element: Any, outer: tuple[Any, ...]) -> str:
    if not rule.quality:
        return GOOD
    said = _at(element, outer, rule.quality)
    if said is _MISSING or said is None:
        return "NO QUALITY"
    text = str(said)
    return GOOD if text.lower() in rule.good else (text[:_SHOWN] or "NO QUALITY")


def _scalar(raw: Any) -> tuple[Value, str]:
    if raw is None:
        return None, "NO VALUE"
    if isinstance(raw, bool | int | float | str):
        return raw, GOOD
    return None, f"NO VALUE: {'an array' if isinstance(raw, list) else 'an object'} stands there"


def _text(payload: bytes) -> str:
    try:
        return payload.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise MalformedError("no UTF-8 text") from None


def _suffix(target: Target, topic: str) -> str:
    return f"@{topic}" if target.is_wildcard else ""

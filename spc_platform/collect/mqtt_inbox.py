"""Messages of a broker as readings, gaps and state to resume by: what a redelivered or retained message means. No I/O.

A redelivered message must give the same readings, for the lake keeps a record once. Readings with a time of their own do.
For the others the time of the first receipt is kept with the readings: when the broker sends a delivery of the connection
before again (same packet identifier, topic and payload), it counts as received then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache

import msgspec
from paho.mqtt.client import topic_matches_sub

from spc_platform.collect.mqtt_config import Options, PayloadRule
from spc_platform.collect.mqtt_payload import MalformedError, Target, fingerprint, quarantined, read_payload, target_of
from spc_platform.collect.readings import GOOD, Reading, Tag, iso
from spc_platform.collect.sparkplug import NAMESPACE, Heard, Host, Key, place_of
from spc_platform.collect.spool import Gap
from spc_platform.errors import SiteError

RETAINED = "RETAINED: when it was measured is not known"
CONNECTION, ALIVE, FILTERS = "connection", "alive", "filters"
_RECEIPT, _RETAINED = "receipt\x1e", "retained\x1e"
_TOPICS = 10_000


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message as it came; ``mid`` is its packet identifier, 0 for QoS 0."""

    topic: str
    payload: bytes
    received_at: datetime
    qos: int = 0
    mid: int = 0
    is_retained: bool = False
    is_redelivered: bool = False


@dataclass(slots=True)
class Parcel:
    """What follows from a batch of messages."""

    readings: list[Reading] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    state: dict[str, str] = field(default_factory=dict)
    rebirths: list[Key] = field(default_factory=list)
    malformed: int = 0

    def add(self, heard: Heard) -> None:
        self.readings += heard.readings
        self.gaps += heard.gaps
        self.state.update(heard.state)
        self.rebirths += heard.rebirths


class Inbox:
    """Reads the messages of one connection. Raises SiteError for addresses that cannot be subscribed to or read."""

    def __init__(self, options: Options, tags: Sequence[Tag], addresses: Iterable[str], state: Mapping[str, str]) -> None:
        addresses = sorted(addresses)
        self._options = options
        by_record: dict[str, set[str]] = {}
        for tag in tags:
            by_record.setdefault(tag.address, set()).add(tag.record)
        triggers = {tag.trigger for tag in tags if tag.trigger}
        counted = frozenset(tag.address for tag in tags if tag.record == "measurement" and tag.trigger is None)
        self._timed = counted | {tag.address for tag in tags if tag.record == "telemetry"}
        self._states = frozenset(
            address for address, records in by_record.items() if records == {"signal"} and address not in triggers
        )
        self._plain = [target_of(each) for each in addresses if not each.startswith(f"{NAMESPACE}/")]
        sparkplug = [each for each in addresses if each.startswith(f"{NAMESPACE}/")]
        self.host = Host(sparkplug, counted=counted, states=self._states, state=state, rebirth_s=options.rebirth_s)
        self._check(sparkplug)
        self.filters = _without_covered([*(target.topic for target in self._plain), *self.host.filters])
        self.connection = int(state.get(CONNECTION, "0")) + 1
        self._receipts = _receipts(state, self.connection - 1)
        self._retained = {key: text for key, text in state.items() if key.startswith(_RETAINED)}
        self._number = 0
        self._broken: set[str] = set()
        self._of_topic = lru_cache(_TOPICS)(self._look_up)

    def _check(self, sparkplug: Sequence[str]) -> None:
        problems = [
            f"{address}: names no metric; write {NAMESPACE}/group/edge node/device#metric"
            for address in sparkplug
            if place_of(address) is None
        ]
        for target in self._plain:
            if not _is_filter(target.topic):
                problems.append(
                    f"{target.address}: {target.topic!r} is no topic; + and # stand for whole levels, # for the last"
                )
            elif not target.is_wildcard and self._rule(target.topic) is None:
                problems.append(
                    f"{target.address}: no payload rule; add [[source.options.payloads]] whose topic filter matches it"
                )
        if problems:
            raise SiteError(f"tags.csv, source {self._options.source_id!r}:\n  " + "\n  ".join(problems), code="SPC-467")

    def take(self, arrivals: Iterable[Arrival]) -> Parcel:
        """What follows from messages, in their order; one that cannot be read is quarantined and holds up nothing."""
        parcel = Parcel()
        for arrival in arrivals:
            if arrival.topic.startswith(f"{NAMESPACE}/"):
                parcel.add(self.host.hear(arrival.topic, arrival.payload, arrival.received_at))
            elif arrival.payload:
                # An empty payload removes what was retained: it says nothing of a value.
                self._take(arrival, parcel)
            parcel.state[ALIVE] = iso(arrival.received_at)
        return parcel

    def _take(self, arrival: Arrival, parcel: Parcel) -> None:
        rule, targets = self._of_topic(arrival.topic)
        if not targets:
            return
        has_time = rule is not None and bool(rule.timestamp)
        received_at = arrival.received_at if has_time else self._first_receipt(arrival, parcel)
        try:
            readings = self._read(arrival, rule, targets, received_at)
        except MalformedError as error:
            parcel.malformed += 1
            received_at = self._first_receipt(arrival, parcel) if has_time else received_at
            parcel.readings += quarantined([each.address for each in targets], str(error), arrival.payload, received_at)
            if arrival.topic not in self._broken:
                self._broken.add(arrival.topic)
                why = f"MALFORMED: {error}; {fingerprint(arrival.payload)}; and what follows, until one can be read"
                parcel.gaps.append(Gap(arrival.topic, received_at, received_at, why))
            return
        self._broken.discard(arrival.topic)
        parcel.readings += self._restated(arrival, readings, parcel, has_time=has_time) if arrival.is_retained else readings

    def _read(
        self, arrival: Arrival, rule: PayloadRule | None, targets: Sequence[Target], received_at: datetime
    ) -> list[Reading]:
        if rule is None:
            raise MalformedError("no payload rule for the topic")
        if len(arrival.payload) > self._options.max_payload_bytes:
            raise MalformedError("larger than limits.max_payload_bytes")
        return read_payload(rule, arrival.topic, targets, arrival.payload, received_at)

    def _look_up(self, topic: str) -> tuple[PayloadRule | None, tuple[Target, ...]]:
        return self._rule(topic), tuple(each for each in self._plain if topic_matches_sub(each.topic, topic))

    def _rule(self, topic: str) -> PayloadRule | None:
        return next((rule for rule in self._options.payloads if topic_matches_sub(rule.topic, topic)), None)

    def _first_receipt(self, arrival: Arrival, parcel: Parcel) -> datetime:
        """When the delivery was received first; it is remembered for a redelivery on the next connection."""
        if arrival.qos == 0:
            return arrival.received_at
        digest = hashlib.blake2b(arrival.topic.encode() + b"\0" + arrival.payload, digest_size=12).hexdigest()
        at = self._receipts.get((arrival.mid, digest)) if arrival.is_redelivered else None
        received_at = at or arrival.received_at
        said = (self.connection, arrival.mid, digest, iso(received_at))
        # No more than this are under way, so that older ones cannot come again.
        parcel.state[f"{_RECEIPT}{self._number % self._options.receive_maximum}"] = msgspec.json.encode(said).decode()
        self._number += 1
        return received_at

    def _restated(self, arrival: Arrival, readings: Sequence[Reading], parcel: Parcel, *, has_time: bool) -> Iterable[Reading]:
        """Readings of a retained message, which says what holds now and not when it came to be.

        A state holds from now on. A value of a stream or a measurement without a time of its own is kept once, as
        of bad quality: it happened at some time before.
        """
        key, digest = _RETAINED + arrival.topic, hashlib.blake2b(arrival.payload, digest_size=12).hexdigest()
        is_known = self._retained.get(key) == digest
        if not has_time:
            self._retained[key] = parcel.state[key] = digest
        for reading in readings:
            if reading.address in self._states:
                yield replace(reading, observed_at=arrival.received_at)
            elif has_time or reading.address not in self._timed:
                yield reading
            elif not is_known:
                yield replace(reading, quality=RETAINED if reading.quality == GOOD else reading.quality)


def _receipts(state: Mapping[str, str], connection: int) -> dict[tuple[int, str], datetime]:
    """First receipts of deliveries of a connection, by packet identifier and hash."""
    said = [msgspec.json.decode(text) for key, text in state.items() if key.startswith(_RECEIPT)]
    return {(mid, digest): datetime.fromisoformat(at) for number, mid, digest, at in said if number == connection}


def _is_filter(topic: str) -> bool:
    levels = topic.split("/")
    is_whole = all(level in ("+", "#") or not set(level) & {"+", "#"} for level in levels)
    return bool(topic) and is_whole and "#" not in levels[:-1] and "\0" not in topic and not topic.startswith("$")


def _without_covered(filters: Iterable[str]) -> tuple[str, ...]:
    """Filters without those that another one contains: a broker may deliver a message once for each.

    >>> _without_covered(["a/b", "a/+", "a/#", "c", "c"])
    ('a/#', 'c')
    """
    known = sorted(set(filters))
    return tuple(each for each in known if not any(other != each and _covers(other, each) for other in known))


def _covers(wide: str, narrow: str) -> bool:
    """Whether every topic of one filter is one of another."""
    levels = narrow.split("/")
    for number, level in enumerate(wide.split("/")):
        if level == "#":
            return True
        if number >= len(levels) or levels[number] == "#" or level not in ("+", levels[number]):
            return False
    return len(levels) == number + 1

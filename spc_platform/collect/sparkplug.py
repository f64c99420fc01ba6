"""Edge nodes of Sparkplug B as a secondary host sees them: births, aliases, sequence numbers, deaths. Pure.

No STATE is published: edge nodes that wait for their primary host do not wait for us.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import msgspec

from spc_platform.collect.mqtt_payload import MalformedError, quarantined, target_of
from spc_platform.collect.readings import GOOD, Reading
from spc_platform.collect.sparkplug_payload import BOOLEAN, STALE, Message, Metric, Payload, decode
from spc_platform.collect.spool import Gap

NAMESPACE = "spBv1.0"
SEQUENCES = 256
_SAID = "said\x1e"
Key = tuple[str, str]
"""Group and edge node."""


@dataclass(frozen=True, slots=True)
class Place:
    """A metric that a tag reads: ``spBv1.0/group/edge node[/device]#metric``; device "" is the edge node itself."""

    group: str
    edge: str
    device: str
    metric: str


def place_of(address: str) -> Place | None:
    """The metric that an address names; None when it names none.

    >>> place_of("spBv1.0/plant/line1/lathe#Spindle/Load")
    Place(group='plant', edge='line1', device='lathe', metric='Spindle/Load')
    >>> place_of("spBv1.0/plant") is None
    True
    """
    target = target_of(address)
    levels = target.topic.split("/")
    fits = len(levels) in (3, 4) and all(levels) and not target.is_wildcard and bool(target.path)
    return Place(levels[1], levels[2], levels[3] if len(levels) > 3 else "", target.path or "") if fits else None


def rebirth_request(at: datetime) -> bytes:
    """The payload that asks an edge node to tell all its metrics again."""
    payload = Payload(timestamp=int(at.timestamp() * 1000))
    payload.metrics.add(
        name="Node Control/Rebirth", timestamp=payload.timestamp, datatype=BOOLEAN, boolean_value=True, is_null=False
    )
    body: bytes = payload.SerializeToString()
    return body


@dataclass(slots=True)
class Heard:
    """What follows from a message: readings, gaps, state to resume by, edge nodes to be asked for a rebirth."""

    readings: list[Reading] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    state: dict[str, str] = field(default_factory=dict)
    rebirths: list[Key] = field(default_factory=list)


@dataclass(slots=True)
class _Node:
    key: Key
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    aliases: dict[tuple[str, int], str] = field(default_factory=dict)
    types: dict[tuple[str, str], int] = field(default_factory=dict)
    devices: set[str] = field(default_factory=set)
    is_born: bool = False
    seq: int | None = None
    bd_seq: int | None = None
    asked_at: datetime | None = None
    seen_at: datetime | None = None
    refused: int = 0
    refused_from: datetime | None = None

    @property
    def name(self) -> str:
        return f"{NAMESPACE}/{self.key[0]}/{self.key[1]}"

    def addresses(self, device: str | None) -> Iterator[str]:
        for name, tags in self.tags.items():
            if device is None or name == device:
                yield from tags.values()


class Host:
    """What is known of the edge nodes of some addresses, since the connection began.

    ``counted`` are addresses of which every reading counts (measurements without a trigger): a birth that repeats what
    they said last is no new reading. ``states`` are addresses of signals: a birth says that their value holds from then on.
    """

    def __init__(
        self,
        addresses: Iterable[str],
        *,
        counted: frozenset[str] = frozenset(),
        states: frozenset[str] = frozenset(),
        state: Mapping[str, str] | None = None,
        rebirth_s: float = 10.0,
    ) -> None:
        self._nodes: dict[Key, _Node] = {}
        self._counted, self._states = counted, states
        self._patience = timedelta(seconds=rebirth_s)
        self._said = {key.removeprefix(_SAID): text for key, text in (state or {}).items() if key.startswith(_SAID)}
        for address in addresses:
            place = place_of(address)
            if place is not None:
                node = self._nodes.setdefault((place.group, place.edge), _Node((place.group, place.edge)))
                node.tags.setdefault(place.device, {})[place.metric] = address

    @property
    def filters(self) -> tuple[str, ...]:
        """The topic filters of all messages of the edge nodes."""
        return tuple(f"{NAMESPACE}/{group}/+/{edge}/#" for group, edge in sorted(self._nodes))

    def begin(self, at: datetime) -> tuple[Key, ...]:
        """The edge nodes to be asked for a rebirth when a connection begins: nothing is known of their aliases."""
        for node in self._nodes.values():
            node.asked_at = at
        return tuple(sorted(self._nodes))

    def hear(self, topic: str, payload: bytes, received_at: datetime) -> Heard:
        """Take a message. One that cannot be read is quarantined and starts a rebirth; nothing is raised."""
        heard = Heard()
        levels = topic.split("/")
        if len(levels) not in (4, 5) or (levels[1], levels[3]) not in self._nodes:
            return heard
        node, kind, device = self._nodes[levels[1], levels[3]], levels[2], levels[4] if len(levels) > 4 else ""
        if kind not in ("NBIRTH", "DBIRTH", "NDATA", "DDATA", "NDEATH", "DDEATH"):
            return heard
        try:
            message = decode(payload)
        except MalformedError as error:
            heard.readings += quarantined(list(node.addresses(device)), str(error), payload, received_at)
            self._distrust(node, f"{topic}: {error}", received_at, heard)
            return heard
        if kind == "NDEATH":
            self._node_death(node, message, received_at, heard)
            return heard
        if kind == "NBIRTH":
            self._node_birth(node, message, received_at, heard)
        elif self._follows(node, message, received_at, heard):
            self._tell(node, kind, device, message, received_at, heard)
        elif kind != "DDEATH":
            self._read(node, device, message, received_at, heard)
        node.seq, node.seen_at = message.seq, received_at
        return heard

    def _tell(self, node: _Node, kind: str, device: str, message: Message, received_at: datetime, heard: Heard) -> None:
        if kind == "DBIRTH":
            self._register(node, device, message)
            node.devices.add(device)
        elif kind == "DDEATH":
            node.devices.discard(device)
            heard.readings += _stale(node.addresses(device), message.at or received_at)
            return
        elif device and device not in node.devices:
            self._ask(node, received_at, heard)
        self._read(node, device, message, received_at, heard, is_birth=kind == "DBIRTH")

    def _node_birth(self, node: _Node, message: Message, received_at: datetime, heard: Heard) -> None:
        if node.refused:
            why = f"{node.refused} values without a name came while aliases were not certain; the rebirth told them anew"
            heard.gaps.append(Gap(node.name, node.refused_from, received_at, why))
        node.aliases.clear()
        node.devices.clear()
        node.is_born, node.asked_at, node.refused, node.refused_from = True, None, 0, None
        node.bd_seq = _bd_seq(message)
        self._register(node, "", message)
        self._read(node, "", message, received_at, heard, is_birth=True)

    def _node_death(self, node: _Node, message: Message, received_at: datetime, heard: Heard) -> None:
        number = _bd_seq(message)
        if node.is_born and None not in (number, node.bd_seq) and number != node.bd_seq:
            return  # the will of an earlier connection of the edge node
        node.is_born, node.seq = False, None
        node.aliases.clear()
        node.devices.clear()
        # The broker sends the will: its time is when the edge node connected, not when it went.
        heard.readings += _stale(node.addresses(None), received_at)

    def _follows(self, node: _Node, message: Message, received_at: datetime, heard: Heard) -> bool:
        """Whether the message is the next of its node; if not, aliases are not certain until a rebirth."""
        if not node.is_born:
            self._ask(node, received_at, heard)
            return False
        expected = ((node.seq or 0) + 1) % SEQUENCES
        if message.seq == expected:
            return True
        missing = "" if message.seq is None else f", {(message.seq - expected) % SEQUENCES} or more messages are missing"
        self._distrust(node, f"sequence {message.seq} came instead of {expected}{missing}", received_at, heard)
        return False

    def _distrust(self, node: _Node, why: str, received_at: datetime, heard: Heard) -> None:
        node.is_born, node.seq = False, None
        node.aliases.clear()
        node.devices.clear()
        heard.gaps.append(Gap(node.name, node.seen_at, received_at, why))
        self._ask(node, received_at, heard)

    def _ask(self, node: _Node, received_at: datetime, heard: Heard) -> None:
        if node.asked_at is None or received_at - node.asked_at >= self._patience:
            node.asked_at = received_at
            heard.rebirths.append(node.key)

    def _register(self, node: _Node, device: str, message: Message) -> None:
        for metric in message.metrics:
            node.types[device, metric.name] = metric.datatype
            if metric.alias is not None:
                node.aliases[device, metric.alias] = metric.name

    def _read(
        self,
        node: _Node,
        device: str,
        message: Message,
        received_at: datetime,
        heard: Heard,
        *,
        is_birth: bool = False,
    ) -> None:
        tags = node.tags.get(device, {})
        for metric in message.metrics:
            name = metric.name
            if not name and metric.alias is not None:
                name = node.aliases.get((device, metric.alias), "")
            if not name:
                node.refused += 1
                node.refused_from = node.refused_from or received_at
                self._ask(node, received_at, heard)
            elif name in tags:
                at = (message.at if is_birth and tags[name] in self._states else metric.at) or received_at
                self._add(tags[name], metric, node.types.get((device, name), 0), at, heard, is_birth=is_birth)

    def _add(self, address: str, metric: Metric, datatype: int, at: datetime, heard: Heard, *, is_birth: bool) -> None:
        value, quality = metric.value(datatype)
        if address in self._counted and quality == GOOD and not metric.is_historical:
            text = msgspec.json.encode(value).decode()
            if is_birth and self._said.get(address) == text:
                return
            self._said[address] = heard.state[_SAID + address] = text
        heard.readings.append(Reading(address, value, at, quality))


def _bd_seq(message: Message) -> int | None:
    for metric in message.metrics:
        if metric.name == "bdSeq":
            value, _ = metric.value()
            raw = metric.raw if value is None else value
            return int(raw) if isinstance(raw, int) else None
    return None


def _stale(addresses: Iterable[str], at: datetime) -> list[Reading]:
    return [Reading(address, None, at, STALE) for address in addresses]

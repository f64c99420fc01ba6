"""Readings of tags, and the records that follow from them: pure, one recorder per source."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

import msgspec

from spc_platform.errors import SiteError
from spc_platform.site.model import Site, Source

GOOD = ""
UNAVAILABLE = "UNAVAILABLE"
TABLES = {"telemetry": "raw_telemetry", "signal": "raw_signal_event", "measurement": "raw_measurement"}
CONTEXT = ("serial_number", "material_lot_id", "job_order_id", "subgroup_key")
REPEATS = 256
"""Readings of a trigger that are known again when they are delivered twice."""
_SEPARATOR = "\x1f"
Value = float | int | str | bool | None


@dataclass(frozen=True, slots=True)
class Tag:
    """A row of the site table ``tags``: what a reading of ``address`` becomes."""

    address: str
    record: str
    name: str
    equipment_id: str
    unit: str | None = None
    scale: float = 1.0
    offset: float = 0.0
    deadband: float | None = None
    interval_s: float | None = None
    trigger: str | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What a source said of one address.

    ``observed_at`` (aware) is the source's own time, or the time of receipt where it has none. ``quality`` is empty for a
    good value, else the source's word for what is wrong with it. ``sequence`` tells apart readings of one address, time
    and value, where the source numbers them; a redelivery of a reading carries the same one.
    """

    address: str
    value: Value
    observed_at: datetime
    quality: str = GOOD
    sequence: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """A record for one resource of the source, under the column names of the resource's raw table."""

    resource: str
    fields: dict[str, Any]


def tags_of(site: Site, source: Source) -> tuple[Tag, ...]:
    """The tags of a source. Raises SiteError that lists every tag that cannot be recorded, with its remedy."""
    rows = site["tags"].filter(site["tags"]["source_id"] == source.source_id).drop("source_id")
    tags = tuple(
        Tag(**{**row, "scale": 1.0 if row["scale"] is None else row["scale"], "offset": row["offset"] or 0.0})
        for row in rows.iter_rows(named=True)
    )
    problems = list(_problems(site, source, tags))
    if problems:
        raise SiteError(f"tags.csv, source {source.source_id!r}:\n  " + "\n  ".join(problems), code="SPC-460")
    return tags


def _problems(site: Site, source: Source, tags: Sequence[Tag]) -> Iterator[str]:
    if not tags:
        yield "no tag; a subscription without tags records nothing, add rows to tags.csv"
    known = {
        "telemetry": ("stream", "streams.csv", set(site["streams"]["stream_id"])),
        "measurement": ("characteristic", "characteristics.csv", set(site["characteristics"]["characteristic_id"])),
        "context": ("column", "a measurement", set(CONTEXT)),
    }
    fed = {table for resource in source.resources for table in resource.tables}
    for tag in tags:
        where = f"{tag.address} ({tag.name})"
        if tag.record in known:
            what, place, names = known[tag.record]
            if tag.name not in names:
                yield f"{where}: no {what} {tag.name!r} in {place}; correct name"
        if tag.record in TABLES and TABLES[tag.record] not in fed:
            yield f"{where}: no resource of the source feeds {TABLES[tag.record]}; add one to sources.toml"
        if tag.trigger is not None and tag.record != "measurement":
            yield f"{where}: a trigger belongs to a measurement; leave it empty"
        if tag.trigger is not None and tag.trigger == tag.address:
            yield f"{where}: is its own trigger; leave trigger empty to record every reading"
        if tag.record in ("telemetry", "measurement") and tag.unit is None:
            yield f"{where}: has no unit; name the unit of its values"
        if tag.record != "telemetry" and (tag.deadband is not None or tag.interval_s is not None):
            yield f"{where}: deadband and interval_s thin out streams only; leave them empty"


def iso(at: datetime) -> str:
    """An aware time as UTC text with microseconds.

    >>> iso(datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC))
    '2026-01-02T03:04:05.000006Z'
    """
    return at.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


@dataclass
class Recorder:
    """Makes records of readings: streams thinned out, signals by change, measurements by trigger with their context.

    What signals, triggers and the values and contexts of triggered measurements said last is its memory: ``remembered``
    gives what changed of it, to be made durable with the records, and ``recall`` takes it up after a restart. The first
    reading of every stream is then recorded again. A reading that comes twice gives the same record, which the lake
    keeps once.

    A reading of a trigger that is older than the last one is no edge: the values that belonged to it have been replaced.
    It is left in ``late`` unless it is a repeat.
    """

    source: Source
    tags: tuple[Tag, ...]
    _by_address: dict[str, list[Tag]] = field(init=False)
    _triggered: dict[str, list[Tag]] = field(init=False)
    _resource: dict[str, str] = field(init=False)
    _kept: dict[Tag, tuple[datetime, Value]] = field(init=False, default_factory=dict)
    _latest: dict[str, Reading] = field(init=False, default_factory=dict)
    _context: dict[tuple[str, str], str] = field(init=False, default_factory=dict)
    _watched: frozenset[str] = field(init=False)
    _repeats: dict[str, deque[Reading]] = field(init=False, default_factory=dict)
    _changed: dict[str, str] = field(init=False, default_factory=dict)
    late: list[Reading] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        by_address = sorted(self.tags, key=lambda tag: tag.address)
        self._by_address = {address: list(tags) for address, tags in groupby(by_address, key=lambda tag: tag.address)}
        triggered = sorted((tag for tag in self.tags if tag.trigger), key=lambda tag: str(tag.trigger))
        self._triggered = {str(trigger): list(tags) for trigger, tags in groupby(triggered, key=lambda tag: tag.trigger)}
        self._resource = {
            record: next((each.name for each in self.source.resources if table in each.tables), "")
            for record, table in TABLES.items()
        }
        self._watched = frozenset({*self._triggered, *(tag.address for tag in triggered)})
        self._repeats = {trigger: deque(maxlen=REPEATS) for trigger in self._triggered}

    def remembered(self) -> dict[str, str]:
        """What changed in its memory since the last call, as texts under keys that ``recall`` understands."""
        changed, self._changed = self._changed, {}
        return changed

    def recall(self, memory: Mapping[str, str]) -> None:
        """Take up what an earlier recorder of the source ``remembered``."""
        tags = {f"{tag.address}{_SEPARATOR}{tag.name}": tag for tag in self.tags if tag.record == "signal"}
        for key, text in memory.items():
            kind, _, rest = key.partition(_SEPARATOR)
            if kind == "latest" and rest in self._watched:
                value, at, quality, sequence = msgspec.json.decode(text)
                self._latest[rest] = Reading(rest, value, datetime.fromisoformat(at), quality, sequence)
            elif kind == "signal" and rest in tags:
                at, value = msgspec.json.decode(text)
                self._kept[tags[rest]] = (datetime.fromisoformat(at), value)
            elif kind == "context":
                equipment_id, _, name = rest.partition(_SEPARATOR)
                self._context[equipment_id, name] = text

    @property
    def addresses(self) -> tuple[str, ...]:
        """Every address that must be read: those of tags and those of triggers."""
        return tuple(sorted({*self._by_address, *self._triggered}))

    def records(self, readings: Iterable[Reading], received_at: datetime) -> list[Record]:
        """The records of a batch of readings, in the order of their times; at one time a trigger comes after its values."""
        found: list[Record] = []
        stamp = iso(received_at)
        for reading in sorted(readings, key=lambda each: (each.observed_at, each.address in self._triggered)):
            for tag in self._by_address.get(reading.address, ()):
                found.extend(self._record(tag, reading, stamp))
            if reading.address in self._triggered and self._is_edge(reading):
                found.extend(self._measurements(reading, stamp))
            self._note(reading)
        return found

    def lost(self, at: datetime, addresses: Iterable[str] | None = None) -> list[Record]:
        """The records of a broken connection: signals are unavailable from ``at`` on, and said anew afterwards."""
        readings = [
            Reading(tag.address, UNAVAILABLE, at)
            for address in (self.addresses if addresses is None else addresses)
            for tag in self._by_address.get(address, ())
            if tag.record == "signal"
        ]
        return self.records(readings, at)

    def _note(self, reading: Reading) -> None:
        """Remember the newest reading of an address that a trigger needs."""
        before = self._latest.get(reading.address)
        if reading.address not in self._watched or (before is not None and reading.observed_at < before.observed_at):
            return
        self._latest[reading.address] = reading
        said = (reading.value, iso(reading.observed_at), reading.quality, reading.sequence)
        self._changed[f"latest{_SEPARATOR}{reading.address}"] = msgspec.json.encode(said).decode()

    def _record(self, tag: Tag, reading: Reading, stamp: str) -> Iterator[Record]:
        if tag.record == "context":
            if reading.quality == GOOD and reading.value is not None:
                self._context[tag.equipment_id, tag.name] = str(reading.value)
                self._changed[f"context{_SEPARATOR}{tag.equipment_id}{_SEPARATOR}{tag.name}"] = str(reading.value)
        elif tag.record == "signal":
            text = UNAVAILABLE if reading.quality != GOOD or reading.value is None else _text(reading.value)
            if self._kept.get(tag, (None, None))[1] != text:
                self._kept[tag] = (reading.observed_at, text)
                said = (iso(reading.observed_at), text)
                self._changed[f"signal{_SEPARATOR}{tag.address}{_SEPARATOR}{tag.name}"] = msgspec.json.encode(said).decode()
                yield self._made(
                    tag, reading, stamp, {"signal": tag.name, "value": text, "occurred_at": iso(reading.observed_at)}
                )
        elif tag.record == "telemetry":
            value = _scaled(tag, reading)
            if self._is_kept(tag, reading.observed_at, value):
                self._kept[tag] = (reading.observed_at, value)
                stream = {"stream_id": tag.name, "observed_at": iso(reading.observed_at), "value": value, "unit": tag.unit}
                yield self._made(tag, reading, stamp, stream)
        elif tag.trigger is None:
            yield self._measurement(tag, reading, reading, stamp)

    def _is_kept(self, tag: Tag, at: datetime, value: Value) -> bool:
        last_at, last = self._kept.get(tag, (None, None))
        if last_at is None or not isinstance(value, float) or not isinstance(last, float):
            return True
        if tag.interval_s is not None and 0 <= (at - last_at).total_seconds() < tag.interval_s:
            return False
        return tag.deadband is None or abs(value - last) >= tag.deadband

    def _is_edge(self, reading: Reading) -> bool:
        before = self._latest.get(reading.address)
        repeats = self._repeats[reading.address]
        if reading in repeats or reading == before:
            return False
        repeats.append(reading)
        if before is not None and reading.observed_at < before.observed_at:
            self.late.append(reading)
            return False
        is_set = reading.quality == GOOD and reading.value not in (None, False, 0, "")
        return is_set and before is not None and before.value != reading.value

    def _measurements(self, trigger: Reading, stamp: str) -> Iterator[Record]:
        for tag in self._triggered[trigger.address]:
            latest = self._latest.get(tag.address)
            if latest is not None:
                yield self._measurement(tag, latest, trigger, stamp)

    def _measurement(self, tag: Tag, reading: Reading, at: Reading, stamp: str) -> Record:
        fields = {
            "characteristic_id": tag.name,
            "measured_at": iso(at.observed_at),
            "value": _scaled(tag, reading),
            "unit": tag.unit,
        }
        context = {name: self._context.get((tag.equipment_id, name)) for name in CONTEXT}
        return self._made(
            tag, Reading(tag.address, reading.value, at.observed_at, reading.quality, at.sequence), stamp, fields | context
        )

    def _made(self, tag: Tag, reading: Reading, stamp: str, fields: dict[str, Any]) -> Record:
        said = f"{tag.address}\0{tag.name}\0{iso(reading.observed_at)}\0{reading.value!r}\0{reading.sequence}"
        head = {"record_id": hashlib.blake2b(said.encode(), digest_size=12).hexdigest(), "equipment_id": tag.equipment_id}
        # Receipts differ between deliveries, so a record names its own only where the source's clock is ahead of it.
        receipt = {"updated_at": stamp} if iso(reading.observed_at) > stamp else {}
        # A signal that cannot be read says so itself, and counts: a quality beside it would have it refused.
        word = "unavailable" if tag.record == "signal" else "quality"
        quality = {} if reading.quality == GOOD else {word: reading.quality}
        return Record(self._resource[tag.record], head | receipt | fields | quality)


def _scaled(tag: Tag, reading: Reading) -> Value:
    """The value in the tag's unit; None for a bad one; a text that is no number stays as it is, to be refused by name."""
    value = reading.value
    if reading.quality != GOOD or value is None:
        return None
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return value
    # Untouched when nothing is asked, so that no value is rounded.
    return float(value) if tag.scale == 1.0 and tag.offset == 0.0 else float(value) * tag.scale + tag.offset


def _text(value: float | int | str | bool) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)

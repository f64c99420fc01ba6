"""Payloads of Sparkplug B (Eclipse specification 3.0, chapter 6): Protocol Buffers by a descriptor that is made here."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from spc_platform.collect.mqtt_payload import MalformedError
from spc_platform.collect.readings import GOOD, Value

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SIGNED = {1: 8, 2: 16, 3: 32, 4: 64}
UNSIGNED = {5: 8, 6: 16, 7: 32, 8: 64}
DATETIME, BOOLEAN, TEXTS = 13, 11, (12, 14, 15)
GOOD_QUALITY, STALE_QUALITY = 192, 500
STALE = "STALE"
_PACKAGE = "org.eclipse.tahu.protobuf"
_FIELD = descriptor_pb2.FieldDescriptorProto
_METRIC = (
    ("name", 1, "STRING"),
    ("alias", 2, "UINT64"),
    ("timestamp", 3, "UINT64"),
    ("datatype", 4, "UINT32"),
    ("is_historical", 5, "BOOL"),
    ("is_transient", 6, "BOOL"),
    ("is_null", 7, "BOOL"),
    ("metadata", 8, "BYTES"),
    ("properties", 9, "PropertySet"),
)
_VALUES = (
    ("int_value", 10, "UINT32"),
    ("long_value", 11, "UINT64"),
    ("float_value", 12, "FLOAT"),
    ("double_value", 13, "DOUBLE"),
    ("boolean_value", 14, "BOOL"),
    ("string_value", 15, "STRING"),
    ("bytes_value", 16, "BYTES"),
    # Data sets and templates are read as the bytes that they are: they become no reading.
    ("dataset_value", 17, "BYTES"),
    ("template_value", 18, "BYTES"),
)
_PROPERTY = (
    ("type", 1, "UINT32"),
    ("is_null", 2, "BOOL"),
    ("int_value", 3, "UINT32"),
    ("long_value", 4, "UINT64"),
    ("float_value", 5, "FLOAT"),
    ("double_value", 6, "DOUBLE"),
    ("boolean_value", 7, "BOOL"),
    ("string_value", 8, "STRING"),
)
_PAYLOAD = (
    ("timestamp", 1, "UINT64"),
    ("metrics", 2, "Metric*"),
    ("seq", 3, "UINT64"),
    ("uuid", 4, "STRING"),
    ("body", 5, "BYTES"),
)


def _message_type() -> type[message.Message]:
    """The class of ``Payload``, from a descriptor made of the specification's field numbers."""
    file = descriptor_pb2.FileDescriptorProto(name="spc/sparkplug_b.proto", package=_PACKAGE, syntax="proto2")
    for name, fields, values in (
        ("PropertyValue", _PROPERTY, ()),
        ("PropertySet", (("keys", 1, "STRING*"), ("values", 2, "PropertyValue*")), ()),
        ("Metric", _METRIC, _VALUES),
        ("Payload", _PAYLOAD, ()),
    ):
        made = file.message_type.add(name=name)
        _add(made, fields, None)
        if values:
            made.oneof_decl.add(name="value")
            _add(made, values, 0)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Payload"))


def _add(made: descriptor_pb2.DescriptorProto, fields: Iterable[tuple[str, int, str]], oneof: int | None) -> None:
    for name, number, kind in fields:
        label = _FIELD.LABEL_REPEATED if kind.endswith("*") else _FIELD.LABEL_OPTIONAL
        field = made.field.add(name=name, number=number, label=label)
        plain = kind.rstrip("*")
        if plain.isupper() or plain[-2:] in ("32", "64"):
            field.type = getattr(_FIELD, f"TYPE_{plain}")
        else:
            field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".{_PACKAGE}.{plain}"
        if oneof is not None:
            field.oneof_index = oneof


Payload: Any = _message_type()
"""The protobuf message ``org.eclipse.tahu.protobuf.Payload``; data sets, templates and metadata stay bytes."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of a payload. ``name`` is empty where only the alias is told, ``datatype`` 0 where none is."""

    name: str
    alias: int | None
    at: datetime | None
    datatype: int
    is_historical: bool
    is_null: bool
    quality: str
    raw: Any

    def value(self, datatype: int = 0) -> tuple[Value, str]:
        """(value, quality) by its own data type or, where it tells none, that of its birth."""
        if self.is_null:
            return None, self.quality or "NULL"
        value, problem = typed(self.raw, self.datatype or datatype)
        return value, self.quality or problem


@dataclass(frozen=True, slots=True)
class Message:
    """A payload taken apart; ``seq`` None where it has none."""

    at: datetime | None
    seq: int | None
    metrics: tuple[Metric, ...]


def decode(body: bytes) -> Message:
    """A payload taken apart. Raises MalformedError for bytes that are no Sparkplug B payload."""
    payload = Payload()
    try:
        payload.ParseFromString(body)
    except (message.DecodeError, UnicodeDecodeError):
        raise MalformedError("no Sparkplug B payload") from None
    at = _instant(payload.timestamp) if payload.HasField("timestamp") else None
    seq = int(payload.seq) if payload.HasField("seq") else None
    return Message(at, seq, tuple(_metric(each, at) for each in payload.metrics))


def _metric(metric: Any, at: datetime | None) -> Metric:
    which = metric.WhichOneof("value")
    return Metric(
        metric.name,
        int(metric.alias) if metric.HasField("alias") else None,
        _instant(metric.timestamp) if metric.HasField("timestamp") else at,
        int(metric.datatype),
        bool(metric.is_historical),
        bool(metric.is_null) or which is None,
        _quality(metric.properties) if metric.HasField("properties") else GOOD,
        None if which is None else getattr(metric, which),
    )


def _quality(properties: Any) -> str:
    for key, value in zip(properties.keys, properties.values, strict=False):
        if key.lower() == "quality" and not value.is_null:
            code = int(value.int_value or value.long_value)
            return GOOD if code == GOOD_QUALITY else STALE if code == STALE_QUALITY else f"BAD {code}"
    return GOOD


def _instant(milliseconds: int) -> datetime:
    try:
        return _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        raise MalformedError(f"no time: {milliseconds} ms since 1970") from None


def typed(raw: Any, datatype: int) -> tuple[Value, str]:
    """(value, problem) of what stands on the wire. Integers travel unsigned: signed ones are their two's complement.

    >>> typed(4294967295, 3), typed(255, 1), typed(4294967295, 7), typed(18446744073709551615, 4)
    ((-1, ''), (-1, ''), (4294967295, ''), (-1, ''))
    """
    if datatype in SIGNED and isinstance(raw, int):
        half = 1 << (SIGNED[datatype] - 1)
        return ((raw + half) % (2 * half)) - half, GOOD
    if datatype in UNSIGNED and isinstance(raw, int):
        return raw % (1 << UNSIGNED[datatype]), GOOD
    if datatype == DATETIME and isinstance(raw, int):
        return _instant(raw).isoformat(), GOOD
    if isinstance(raw, float) and not math.isfinite(raw):
        return None, "NOT FINITE"
    if isinstance(raw, bool | float) or (isinstance(raw, str) and (datatype in TEXTS or not datatype)):
        return raw, GOOD
    return None, f"UNREADABLE: data type {datatype}"

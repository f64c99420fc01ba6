"""What OPC UA says of a node, as readings: times, qualities, and what a full queue of the server lost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any
from uuid import UUID

from asyncua import ua
from asyncua.ua.uaerrors import UaError

from spc_platform.collect.readings import GOOD, Reading, Value, iso
from spc_platform.errors import SiteError

_CODE = 0xFFFF0000
_INFO_IS_OF_DATA = 0x0400
_OVERFLOW = 0x0080
_FIRST_YEAR = 1970
NOT_A_NUMBER = "not a finite number"


@dataclass(frozen=True, slots=True)
class Heard:
    """A reading with what its data value told besides."""

    reading: Reading
    has_overflown: bool
    has_source_time: bool


def node_id(address: str, namespaces: Sequence[str]) -> ua.NodeId:
    """The node of an address: ``ns=2;s=Name``, or ``nsu=<namespace>;s=Name``, whose number the server may change.

    Raises SiteError for a text that is no node id and for a namespace that the server does not have.
    """
    text = address
    if address.startswith("nsu="):
        uri, _, rest = address.removeprefix("nsu=").partition(";")
        if uri not in namespaces:
            raise SiteError(
                f"address {address!r}: the server has no namespace {uri!r}; it has: {', '.join(namespaces)}", code="SPC-461"
            )
        text = f"ns={namespaces.index(uri)};{rest}"
    try:
        return ua.NodeId.from_string(text)
    except (UaError, ValueError, TypeError, KeyError):
        raise SiteError(
            f"address {address!r} is no node id; write it like ns=2;s=Name, ns=2;i=17 or nsu=http://maker/;s=Name",
            code="SPC-461",
        ) from None


def address_of(node: ua.NodeId, namespaces: Sequence[str]) -> str:
    """The address of a node that stays when the server numbers its namespaces anew."""
    if not node.NamespaceIndex:
        return node.to_string()
    return f"nsu={namespaces[node.NamespaceIndex]};{node.to_string().partition(';')[2]}"


def heard(address: str, data: ua.DataValue, received_at: datetime, *, accept_uncertain: bool) -> Heard:
    """The reading of a data value: source time, else server time, else receipt; status as quality, Bad without a value."""
    status = data.StatusCode or ua.StatusCode()
    code = int(status.value)
    quality = GOOD
    if not (status.is_good() or (accept_uncertain and status.is_uncertain())):
        quality = ua.StatusCode(ua.UInt32(code & _CODE)).name
    value, unfit = scalar(data.Value.Value if data.Value is not None else None)
    if status.is_bad():
        value = None
    elif quality == GOOD and unfit:
        quality = unfit
    source_at = _instant(data.SourceTimestamp)
    return Heard(
        Reading(
            address,
            value,
            source_at or _instant(data.ServerTimestamp) or received_at,
            quality,
            str(data.SourcePicoseconds) if data.SourcePicoseconds else "",
        ),
        has_overflown=code & _INFO_IS_OF_DATA != 0 and code & _OVERFLOW != 0,
        has_source_time=source_at is not None,
    )


def scalar(value: Any) -> tuple[Value, str]:
    """The value of a variant, and what keeps it from being recorded: arrays and structures are not."""
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, float) and not math.isfinite(value):
        return None, NOT_A_NUMBER
    if value is None or isinstance(value, bool | int | float | str):
        return value, ""
    if isinstance(value, datetime):
        return iso(value.replace(tzinfo=UTC) if value.tzinfo is None else value), ""
    if isinstance(value, ua.LocalizedText):
        return value.Text, ""
    if isinstance(value, bytes):
        return value.hex(), ""
    if isinstance(value, UUID | ua.NodeId | ua.QualifiedName):
        return str(value) if isinstance(value, UUID) else value.to_string(), ""
    return None, f"no single value: {type(value).__name__}"


def _instant(at: datetime | None) -> datetime | None:
    if at is None or at.year < _FIRST_YEAR:
        return None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at

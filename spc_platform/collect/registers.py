"""Addresses of a Modbus register map, and which registers are read together: pure."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

TABLES = {"coil": 2000, "discrete": 2000, "input": 125, "holding": 125}
"""Tables of a device and how many of their entries one request may read (Modbus Application Protocol V1.1b3, 6.1 to 6.4)."""
_FORMATS = {
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "float32": "f",
    "float64": "d",
}
_ADDRESS = re.compile(
    r"(?:(?P<device>\d{1,3})/)?(?P<table>coil|discrete|input|holding)/(?P<start>\d{1,5})"
    r"(?:/(?P<type>bool|bit\d{1,2}|u?int(?:16|32|64)|float(?:32|64)|string\d{1,3}))?(?:/(?P<order>[A-H]{2,8}))?"
)
_NEAR = 8
"""Registers between two wanted ones that are read along rather than asked for anew."""


@dataclass(frozen=True, slots=True)
class Register:
    """One value of a register map. ``start`` counts from 0, as in the protocol; ``order`` names bytes from A, the highest."""

    address: str
    device: int
    table: str
    start: int
    type: str
    order: str

    @property
    def count(self) -> int:
        """Entries of the table that the value takes."""
        if self.type.startswith("string"):
            return (int(self.type[6:]) + 1) // 2
        return max(1, struct.calcsize(_FORMATS.get(self.type, "H")) // 2)

    def value(self, entries: Sequence[int]) -> bool | int | float | str:
        """The value of its own entries (registers 0 to 65535, or bits 0 and 1)."""
        if self.table in ("coil", "discrete"):
            return bool(entries[0])
        if self.type == "bool":
            return entries[0] != 0
        if self.type.startswith("bit"):
            return bool(entries[0] >> int(self.type[3:]) & 1)
        raw = struct.pack(f">{len(entries)}H", *entries)
        if self.type.startswith("string"):
            return raw[: int(self.type[6:])].split(b"\0")[0].decode("latin-1").rstrip()
        ordered = bytes(raw[self.order.index(letter)] for letter in sorted(self.order))
        value: int | float = struct.unpack(f">{_FORMATS[self.type]}", ordered)[0]
        return value


def parse_register(address: str) -> Register:
    """The register that a tag's address names, ``[device/]table/start[/type][/order]``. Raises ValueError that says why not.

    >>> parse_register("3/holding/100/float32/CDAB").value([0xF5C3, 0x4048])
    3.140000104904175
    >>> parse_register("coil/7").count
    1
    """
    found = _ADDRESS.fullmatch(address)
    if not found:
        raise ValueError(
            f"{address!r} is no register; write [device/]table/start[/type][/order], such as 1/holding/100/float32/CDAB"
        )
    device, start, table = int(found["device"] or 1), int(found["start"]), found["table"]
    is_bits = table in ("coil", "discrete")
    kind = found["type"] or ("bool" if is_bits else "uint16")
    if is_bits and kind != "bool":
        raise ValueError(f"{address!r}: a {table} is a bool")
    if device > 255 or (kind.startswith("bit") and int(kind[3:]) > 15) or (kind.startswith("string") and int(kind[6:]) == 0):
        raise ValueError(f"{address!r}: a device is at most 255, a bit at most 15, a string at least 1 byte")
    size = struct.calcsize(_FORMATS[kind]) if kind in _FORMATS else 0
    natural = "ABCDEFGH"[:size]
    order = found["order"] or natural
    if sorted(order) != list(natural):
        raise ValueError(
            f"{address!r}: the order of {kind} names each of {natural or 'no byte'} once, such as {natural or '(leave it out)'}"
        )
    register = Register(address, device, table, start, kind, order)
    if start + register.count > 65536 or register.count > TABLES[table]:
        raise ValueError(f"{address!r}: ends behind the last register, or is longer than one request may read")
    return register


@dataclass(frozen=True, slots=True)
class Block:
    """Neighbouring registers of one device and table, read in one request."""

    device: int
    table: str
    start: int
    count: int
    registers: tuple[Register, ...]

    def values(self, entries: Sequence[int]) -> Iterable[tuple[Register, bool | int | float | str | None]]:
        """Each register with its value; None for a number that is none (NaN, infinite)."""
        for register in self.registers:
            offset = register.start - self.start
            value = register.value(entries[offset : offset + register.count])
            yield register, None if isinstance(value, float) and not math.isfinite(value) else value

    def parts(self) -> tuple[Block, ...]:
        """One block for each register, to find which of them the device refuses."""
        return tuple(
            Block(each.device, each.table, each.start, each.count, (each,))
            for each in self.registers
            if len(self.registers) > 1
        )


def blocks(registers: Iterable[Register]) -> tuple[Block, ...]:
    """The requests that read all registers: near neighbours together, within what a request may hold."""
    found: list[Block] = []
    ordered = sorted(registers, key=lambda each: (each.device, each.table, each.start, each.address))
    for (device, table), group in groupby(ordered, key=lambda each: (each.device, each.table)):
        members: list[Register] = []
        start = end = 0
        for each in group:
            reach = max(end, each.start + each.count)
            if members and (each.start > end + _NEAR or reach - start > TABLES[table]):
                found.append(Block(device, table, start, end - start, tuple(members)))
                members = []
            if not members:
                start, end = each.start, each.start + each.count
            members.append(each)
            end = max(end, each.start + each.count)
        found.append(Block(device, table, start, end - start, tuple(members)))
    return tuple(found)

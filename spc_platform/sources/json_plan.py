"""How JSON records become the columns of a raw table: which field, which type, and the reader that is made of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from operator import attrgetter
from typing import Annotated, Any

import msgspec
import polars as pl

from spc_platform.contracts.raw import DECODED_DTYPES, PAYLOAD
from spc_platform.contracts.table import UTC
from spc_platform.errors import SiteError

INT64 = 2**63 - 1
DECODED = ("record_id", "revision", "updated_at", "is_deleted")
_DTYPES: dict[str, Any] = {name: DECODED_DTYPES[name] for name in DECODED}
_TYPES: dict[str, Any] = {
    "text": str | int | None,
    "number": float | None,
    "integer": Annotated[int, msgspec.Meta(ge=-INT64, le=INT64)] | None,
    "boolean": bool | None,
}


def _kind(dtype: Any) -> str:
    if dtype == UTC:
        return "text"
    if dtype == pl.Boolean:
        return "boolean"
    if dtype.is_float():
        return "number"
    return "integer" if dtype.is_integer() else "text"


class Plan:
    """How the records of a resource become the columns of a table."""

    def __init__(self, table: str, fields: tuple[tuple[str, str], ...]) -> None:
        self.dtypes = _DTYPES | {column.name: column.dtype for column in PAYLOAD[table]}
        mapped = dict(fields)
        unknown = sorted(set(mapped) - set(self.dtypes))
        if unknown:
            raise SiteError(f"fields {', '.join(unknown)} are no columns of {table}; it has: {', '.join(self.dtypes)}")
        self.source = {column: mapped.get(column, column) for column in self.dtypes}
        self.kind = {column: _kind(dtype) for column, dtype in self.dtypes.items()}
        kinds: dict[str, str] = {}
        for column, name in self.source.items():
            if kinds.setdefault(name, self.kind[column]) != self.kind[column]:
                raise SiteError(f"field {name!r} is mapped to columns of {table} with different types; map each once")
        self.attribute = {name: f"f{number}" for number, name in enumerate(kinds)}
        row = msgspec.defstruct(
            "Record",
            [(self.attribute[name], _TYPES[kind], msgspec.field(name=name, default=None)) for name, kind in kinds.items()],
            gc=False,
        )
        self.row = row
        self.read_all: Callable[[Any], list[Any]] = msgspec.json.Decoder(list[row]).decode  # type: ignore[valid-type]
        self.read_one: Callable[[Any], Any] = msgspec.json.Decoder(row).decode

    def values(self, rows: list[Any], column: str) -> list[Any]:
        """What the rows hold in a column."""
        return list(map(attrgetter(self.attribute[self.source[column]]), rows))


@lru_cache(maxsize=64)
def plan_of(table: str, fields: tuple[tuple[str, str], ...]) -> Plan:
    """The plan of a table and the (column, field) pairs of a resource. Raises SiteError for a map that cannot be."""
    return Plan(table, fields)

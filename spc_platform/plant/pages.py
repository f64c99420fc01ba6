"""Pages of records in the order (updated_at, id), as JSON bytes."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, replace
from datetime import datetime

import polars as pl

from spc_platform.plant.measuring import NAN_TOKEN
from spc_platform.plant.schedule import day_bounds
from spc_platform.plant.simulation import Plant

_BEFORE_ALL = ""


@dataclass(frozen=True, slots=True)
class Position:
    """After which record a page begins: ``updated_us`` and ``record_id``. ``nonce`` makes an equal position look different."""

    updated_us: int
    record_id: str = _BEFORE_ALL
    nonce: int = 0

    def cursor(self) -> str:
        text = f"{self.updated_us}|{self.record_id}|{self.nonce}"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    def again(self) -> Position:
        return replace(self, nonce=self.nonce + 1)


def position_of(cursor: str) -> Position:
    """Read the position that a cursor names; raises ValueError for a cursor that the plant has not made.

    >>> position_of(Position(7, "M1").cursor())
    Position(updated_us=7, record_id='M1', nonce=0)
    """
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        updated, record_id, nonce = text.split("|")
        return Position(int(updated), record_id, int(nonce))
    except (binascii.Error, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"cursor {cursor[:40]!r} is none of this server") from error


def page(plant: Plant, resource: str, after: Position, limit: int, now: datetime) -> tuple[pl.DataFrame, Position | None]:
    """At most ``limit`` records after a position and visible at ``now``, and the position of the next page, if any."""
    now_us = int(now.timestamp() * 1_000_000)
    parts: list[pl.DataFrame] = []
    held = 0
    last_us: int | None = None
    for production_date in plant.production_dates(now):
        begins_us = int(day_bounds(production_date)[0].timestamp()) * 1_000_000
        if last_us is not None and held > limit and begins_us > last_us:
            break
        part = _after(plant.day(resource, production_date).frame, after, limit + 1, now_us)
        if part.height:
            parts.append(part)
            held += part.height
            if held > limit:
                last_us = int(pl.concat([each["_us"] for each in parts]).sort()[limit])
    if not parts:
        return pl.DataFrame(), None
    whole = parts[0] if len(parts) == 1 else pl.concat(parts).sort("_us", "id")
    chosen = whole.head(limit)
    more = whole.height > limit
    following = Position(int(chosen["_us"][-1]), str(chosen["id"][-1])) if more else None
    return chosen.drop("_us"), following


def _after(frame: pl.DataFrame, after: Position, most: int, now_us: int) -> pl.DataFrame:
    updated = frame["_us"]
    begin = int(updated.search_sorted(after.updated_us, side="left"))
    if after.record_id:
        ties_end = int(updated.search_sorted(after.updated_us, side="right"))
        begin += int((frame["id"].slice(begin, ties_end - begin) <= after.record_id).sum())
    end = int(updated.search_sorted(now_us, side="right"))
    return frame.slice(begin, max(0, min(end - begin, most)))


def to_json(records: pl.DataFrame, *, nan_tokens: bool) -> bytes:
    """Write the records as a JSON array; values that are no numbers are null, or bare NaN tokens, which JSON forbids."""
    if not records.height:
        return b"[]"
    text = records.write_json().encode()
    return text.replace(str(NAN_TOKEN).encode(), b"NaN" if nan_tokens else b"null")

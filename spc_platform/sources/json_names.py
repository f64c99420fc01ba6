"""Fields of one JSON object that have one name: RFC 8259 leaves open which of them counts, so nobody should guess."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

DOUBLED = "@doubled"
_FIRST, _FIRST_BYTES = json.JSONDecoder(), 1 << 16
_MOST_DIGITS = 400
_QUOTE_COLON = int.from_bytes(b'":', "little")


def uniform(records: bytes, count: int) -> bool:
    """True when ``count`` flat records all have as many names as the first: then none has a name twice.

    The quick look before ``duplicated``. It is deceived only where exactly as many names are missing as are doubled.
    """
    try:
        first, _ = _FIRST.raw_decode(records[:_FIRST_BYTES].decode("utf-8", "replace"), 1)
    except (ValueError, RecursionError):
        return False
    return isinstance(first, dict) and len(first) * count == _names(records)


def _names(text: bytes) -> int:
    """How often a quote is followed by a colon: ``bytes.count`` takes five times as long."""
    whole = np.frombuffer(text, np.uint8)
    pairs = (whole[start : start + (whole.size - start) // 2 * 2].view("<u2") for start in (0, 1))
    return sum(int(np.count_nonzero(each == _QUOTE_COLON)) for each in pairs)


def duplicated(text: bytes) -> bool:
    """True when an object of a JSON text has two fields of one name.

    The names of the text are counted and compared with those that are left after decoding, all outside Python's own
    loop; only a text where both differ (blanks before colons, escapes, or indeed duplicates) is looked at closely.
    """
    if not re.search(rb'"\s+:', text):
        try:
            kept = msgspec.json.encode(msgspec.json.decode(text))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            kept = b""
        if kept.count(b'":') == text.count(b'":'):
            return False
    found: list[bool] = []
    try:
        _read_pairs(text, lambda fields: found.append(True))
    except (ValueError, RecursionError):
        return False
    return bool(found)


def marked(text: bytes) -> Any:
    """The decoded text, in which every object that had two fields of one name carries the field ``@doubled``."""
    return _read_pairs(text, lambda fields: fields.update({DOUBLED: True}))


def _read_pairs(text: bytes, doubled: Callable[[dict[str, Any]], None]) -> Any:
    def pairs(fields: list[tuple[str, Any]]) -> dict[str, Any]:
        whole = dict(fields)
        if len(whole) != len(fields):
            doubled(whole)
        return whole

    return json.loads(text.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace"), object_pairs_hook=pairs, parse_int=_int)


def _int(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


def is_doubled(value: Any) -> bool:
    """True when an object, or one inside it, was marked."""
    if isinstance(value, list):
        return any(map(is_doubled, value))
    return isinstance(value, dict) and (DOUBLED in value or any(map(is_doubled, value.values())))

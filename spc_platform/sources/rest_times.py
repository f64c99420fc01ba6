"""Instants as watermarks, headers and answers of a ``rest`` source write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from spc_platform.errors import ContractError


def instant(watermark: str | None) -> datetime | None:
    """The instant of a watermark. Raises ContractError when it is none."""
    if watermark is None:
        return None
    try:
        at = datetime.fromisoformat(watermark)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise ContractError(f"watermark {watermark!r} is no ISO instant with a zone; the ledger row of the source was altered")
    return at.astimezone(UTC)


def iso(at: datetime) -> str:
    """An instant as a watermark writes it."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def http_date(value: str | None) -> datetime | None:
    """The instant of an HTTP date; None when it is none."""
    try:
        return parsedate_to_datetime(value) if value else None
    except ValueError:
        return None


def credible_until(said: Any, future_s: float) -> datetime | None:
    """The source's own time, raw or decoded, plus ``future_s``; None when it is no instant."""
    try:
        text = msgspec.json.decode(said) if isinstance(said, msgspec.Raw) else said
        at = datetime.fromisoformat(text) if isinstance(text, str) else None
        if at is None or at.tzinfo is None:
            return None
        return at.astimezone(UTC) + timedelta(seconds=future_s)
    except (ValueError, OverflowError):
        return None

"""What answers of sources say of their clocks."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from spc_platform.prepare.clock import ClockExchange
from spc_platform.sources.http import Answer

HTTP_DATE_STEP_S = 1.0
"""An HTTP Date has whole seconds (RFC 9110 §5.6.7): the clock stands up to one second later than it says."""


def date_exchange(clock_id: str, answer: Answer) -> ClockExchange | None:
    """The exchange that the Date header of an answer is; None without one, or when a cache gave it (Age, RFC 9111)."""
    said = answer.headers.get("date")
    if not said or "age" in answer.headers or answer.sent_at is None or answer.received_at is None:
        return None
    try:
        at: datetime = parsedate_to_datetime(said)
    except ValueError:
        return None
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    return ClockExchange(clock_id, "http_date", answer.sent_at, at, at, answer.received_at, HTTP_DATE_STEP_S)

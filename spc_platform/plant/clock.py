"""The plant's virtual clock."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

from spc_platform.plant.process import DEFAULT_NOW


class Clock:
    """Stands still until it is advanced; with ``rate`` > 0 it also runs that many times as fast as real time."""

    def __init__(self, now: datetime | None = None, rate: float = 0.0) -> None:
        self._base = now or DEFAULT_NOW
        self._rate = rate
        self._since = time.monotonic()
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """Virtual time, UTC."""
        with self._lock:
            passed = (time.monotonic() - self._since) * self._rate
            return (self._base + timedelta(seconds=passed)).astimezone(UTC)

    def advance(self, hours: float) -> datetime:
        """Move the clock forward; raises ValueError for a negative step, since records already sent stay sent."""
        if not hours >= 0:
            raise ValueError(f"the plant's clock cannot go back: hours is {hours!r}, give 0 or more")
        with self._lock:
            self._base += timedelta(hours=hours)
        return self.now()

"""Faults that the MES shows on request: each a number of times, optionally on one resource and after some answers."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KINDS: dict[str, str] = {
    "truncated_json": "the answer's JSON stops in the middle; the HTTP answer itself is whole",
    "truncated_body": "the connection closes before Content-Length bytes came",
    "duplicate_page": "a page comes a second time, under another cursor",
    "repeated_cursor": "an answer to a cursor names the same cursor as its next",
    "expire_token": "every token expires at once: 401",
    "rate_limit": "429 with Retry-After (option seconds)",
    "server_error": "an answer of 5xx (option status)",
    "html_200": "a login page in HTML with status 200",
    "slow": "an answer comes late (option seconds)",
    "foreign_next_link": "the next link names another host (option url)",
}
_OPTIONS = {"count", "skip", "resource", "seconds", "status", "url"}


@dataclass(slots=True)
class Fault:
    """``count`` answers show the fault, after ``skip`` answers that do not."""

    count: int
    skip: int = 0
    resource: str | None = None
    seconds: float = 1.0
    status: int = 503
    url: str = "http://mes.invalid/api/v1/measurements?cursor=elsewhere"


class Faults:
    """The faults still to be shown."""

    def __init__(self, wanted: Mapping[str, Any] | None = None) -> None:
        self._pending: dict[str, Fault] = {}
        self._lock = threading.Lock()
        self.set(wanted or {})

    def set(self, wanted: Mapping[str, Any]) -> None:
        """Order faults: name -> count, or name -> {count, skip, resource, seconds, status, url}; count 0 takes it back.

        Raises ValueError for an unknown fault or option; then nothing is changed.
        """
        orders = {kind: self._order(kind, what) for kind, what in wanted.items()}
        with self._lock:
            self._pending.update(orders)

    def _order(self, kind: str, what: Any) -> Fault:
        if kind not in KINDS:
            raise ValueError(f"no fault {kind!r}; the plant knows: {', '.join(KINDS)}")
        options = dict(what) if isinstance(what, Mapping) else {"count": what}
        unknown = set(options) - _OPTIONS
        if unknown:
            raise ValueError(f"fault {kind}: unknown option {', '.join(sorted(unknown))}; known: {', '.join(sorted(_OPTIONS))}")
        count = options.setdefault("count", 1)
        if not isinstance(count, int) or count < 0:
            raise ValueError(f"fault {kind}: count is {count!r}, give a whole number from 0")
        return Fault(**options)

    def take(self, kind: str, resource: str) -> Fault | None:
        """Give the fault if this answer is to show it, and count it."""
        with self._lock:
            fault = self._pending.get(kind)
            if fault is None or fault.count <= 0 or fault.resource not in (None, resource):
                return None
            if fault.skip > 0:
                fault.skip -= 1
                return None
            fault.count -= 1
            return fault

    def pending(self) -> dict[str, int]:
        """Faults not yet shown and how often they still will be."""
        with self._lock:
            return {kind: fault.count for kind, fault in self._pending.items() if fault.count > 0}

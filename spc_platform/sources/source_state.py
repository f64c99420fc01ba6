"""How each source stands: its circuit breaker, and the windows that could not be read while it was away.

A window is what a walk over a resource would have read: everything since its watermark. While the breaker of a source is
not closed, each poll that could not be made is queued in the shared state file; the walk that reads the window removes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pybreaker

from spc_platform.sources.resilience import StateFile


@dataclass(frozen=True, slots=True)
class PendingWindow:
    """What was not read of a resource: all since the watermark ``since``, asked for ``polls`` times since ``queued_at``."""

    resource: str
    since: str | None
    queued_at: datetime
    polls: int


@dataclass(frozen=True, slots=True)
class SourceState:
    """A source's breaker and what waits behind it; a source without a breaker is always closed."""

    source_id: str
    breaker: str
    failures: int
    opened_at: datetime | None
    next_trial_at: datetime | None
    transitions: Mapping[str, int]
    pending: tuple[PendingWindow, ...]

    @property
    def is_reachable(self) -> bool:
        """Whether the breaker is closed and no window waits."""
        return self.breaker == pybreaker.STATE_CLOSED and not self.pending

    def describe(self) -> str:
        """The state in a sentence; times in UTC."""
        said = f"breaker {self.breaker}"
        if self.breaker != pybreaker.STATE_CLOSED and self.opened_at is not None and self.next_trial_at is not None:
            said += f" since {_second(self.opened_at)} after {self.failures} failures, next trial {_second(self.next_trial_at)}"
        elif self.failures:
            said += f", {self.failures} failures in a row"
        for window in self.pending:
            began = "the beginning" if window.since is None else window.since
            polls = "1 poll" if window.polls == 1 else f"{window.polls} polls"
            said += f"; {window.resource} waits from {began}, {polls} missed since {_second(window.queued_at)}"
        return said


def source_states(file: StateFile, source_ids: Iterable[str]) -> list[SourceState]:
    """The state of each source, in the order given."""
    breakers = {
        source_id: (name, reset_s, state, failures, opened_at)
        for source_id, name, reset_s, state, failures, opened_at in file.rows(
            "SELECT source_id, name, reset_s, state, failures, opened_at FROM breaker_of_source JOIN breaker USING (name)"
        )
    }
    transitions: dict[str, dict[str, int]] = {}
    for name, state, n in file.rows("SELECT name, state, n FROM breaker_transition ORDER BY name, state"):
        transitions.setdefault(name, {})[state] = n
    pending: dict[str, list[PendingWindow]] = {}
    for source_id, resource, since, queued_at, polls in file.rows(
        "SELECT source_id, resource, since, queued_at, polls FROM pending_window ORDER BY source_id, resource"
    ):
        window = PendingWindow(resource, since, datetime.fromisoformat(queued_at), polls)
        pending.setdefault(source_id, []).append(window)
    found = []
    for source_id in source_ids:
        name, reset_s, state, failures, said = breakers.get(source_id, ("", 0.0, pybreaker.STATE_CLOSED, 0, None))
        opened_at = datetime.fromisoformat(said) if said and state != pybreaker.STATE_CLOSED else None
        trial_at = None if opened_at is None else opened_at + timedelta(seconds=reset_s)
        waiting = tuple(pending.get(source_id, ()))
        found.append(SourceState(source_id, state, failures, opened_at, trial_at, transitions.get(name, {}), waiting))
    return found


def queue_windows(file: StateFile, source_id: str, windows: Mapping[str, str | None]) -> None:
    """Note that resources could not be read from their watermarks on, if the source's breaker is not closed."""
    [state] = source_states(file, [source_id])
    if state.breaker == pybreaker.STATE_CLOSED:
        return
    now = datetime.now(UTC).isoformat()
    # The watermark does not move while the window waits, so the first one that was noted holds.
    file.write(
        "INSERT INTO pending_window VALUES (?, ?, ?, ?, 1) ON CONFLICT (source_id, resource) DO UPDATE SET polls = polls + 1",
        [(source_id, resource, since, now) for resource, since in windows.items()],
    )


def pending_resources(file: StateFile, source_id: str) -> frozenset[str]:
    """Resources of the source that have a window waiting."""
    return frozenset(row[0] for row in file.rows("SELECT resource FROM pending_window WHERE source_id = ?", source_id))


def window_read(file: StateFile, source_id: str, resource: str) -> None:
    """A walk over the resource was completed: what waited has been read."""
    if resource in pending_resources(file, source_id):
        file.execute("DELETE FROM pending_window WHERE source_id = ? AND resource = ?", source_id, resource)


def _second(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")

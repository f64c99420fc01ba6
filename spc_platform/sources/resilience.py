"""When to try again, when to wait and when to leave a source alone.

``Deadline`` bounds a page with all its attempts, ``retrying`` spaces the attempts, ``circuit_breaker``
stops asking a source that is down, ``Pace`` spaces requests. Breaker and pace keep their state in one
SQLite file, so that the processes of one machine share it.
"""

from __future__ import annotations

import logging
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pybreaker
import stamina
import stamina.instrumentation

from spc_platform.errors import TransientError
from spc_platform.sources import figures

logger = logging.getLogger(__name__)
# Its own hooks print to standard output; ``Backoff`` logs what is worth knowing.
stamina.instrumentation.set_on_retry_hooks([])


class RetriableError(TransientError):
    """One attempt failed in a way that may pass. ``retry_after`` is the wait in s that the source asked for."""

    code = "SPC-101"

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class Deadline:
    """A point of the monotonic clock by which something must be over."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.at = time.monotonic() + seconds

    @property
    def remaining(self) -> float:
        """Seconds left, 0 when passed."""
        return max(0.0, self.at - time.monotonic())

    def sooner(self, seconds: float) -> Deadline:
        """A deadline in ``seconds``, but never after this one."""
        return Deadline(min(seconds, self.remaining))


def retry_after_seconds(value: str | None, now: datetime) -> float | None:
    """Seconds to wait by a Retry-After header: seconds (fractions too) or an HTTP date; None for anything else.

    >>> retry_after_seconds("1.5", datetime(2026, 1, 1, tzinfo=UTC))
    1.5
    >>> retry_after_seconds("Thu, 01 Jan 2026 00:00:10 GMT", datetime(2026, 1, 1, tzinfo=UTC))
    10.0
    >>> retry_after_seconds("soon", datetime(2026, 1, 1, tzinfo=UTC)) is None
    True
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            at = parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = max(0.0, ((at if at.tzinfo else at.replace(tzinfo=UTC)) - now).total_seconds())
    return seconds if 0.0 <= seconds < float("inf") else None


@dataclass
class Backoff:
    """Decides the wait before the next attempt: exponential with jitter, or what the source asked for.

    Called by stamina with the failure; False ends the retries, which it does for anything but a
    ``RetriableError`` and when the wait would not end before the deadline.
    """

    deadline: Deadline
    initial_s: float
    max_s: float
    retry_after_max_s: float
    failures: int = field(default=0, init=False)

    def __call__(self, error: Exception) -> float | bool:
        self.failures += 1
        if not isinstance(error, RetriableError):
            return False
        wait = min(self.max_s, self.initial_s * 2.0 ** (self.failures - 1))
        wait *= random.uniform(0.5, 1.0)  # noqa: S311 - spreads clients, hides nothing
        if error.retry_after is not None:
            wait = max(min(error.retry_after, self.retry_after_max_s), 0.001)
        if wait >= self.deadline.remaining:
            return False
        figures.count_retry()
        logger.warning("attempt %d failed, a further one in %.1f s if any is left: %s", self.failures, wait, error)
        return wait


def retrying(backoff: Backoff, attempts: int) -> Any:
    """Attempts to iterate over, ``with attempt: ...``: at most ``attempts``, spaced by ``backoff``."""
    return stamina.retry_context(on=backoff, attempts=attempts, timeout=None)


STATE_FILE = "state.sqlite"
"""Name of the shared file, beside the ledger."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS breaker (name TEXT PRIMARY KEY, state TEXT NOT NULL DEFAULT 'closed',
  failures INTEGER NOT NULL DEFAULT 0, successes INTEGER NOT NULL DEFAULT 0, opened_at TEXT);
CREATE TABLE IF NOT EXISTS breaker_of_source (source_id TEXT PRIMARY KEY, name TEXT NOT NULL, reset_s REAL NOT NULL);
CREATE TABLE IF NOT EXISTS breaker_trial (name TEXT PRIMARY KEY, begun_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS breaker_transition (name TEXT, state TEXT, n INTEGER NOT NULL, PRIMARY KEY (name, state));
CREATE TABLE IF NOT EXISTS pace (name TEXT PRIMARY KEY, next_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS pending_window (source_id TEXT, resource TEXT, since TEXT, queued_at TEXT NOT NULL,
  polls INTEGER NOT NULL, PRIMARY KEY (source_id, resource));
"""


class StateFile:
    """The SQLite file that processes share. Opened for each statement, so it may cross forks and threads."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        with self._connection() as connection:
            connection.executescript(_SCHEMA + figures.SCHEMA)

    def execute(self, statement: str, *values: Any) -> tuple[Any, ...] | None:
        """Runs one statement in its own transaction and gives its first row."""
        with self._connection() as connection:
            row: tuple[Any, ...] | None = connection.execute(statement, values).fetchone()
            return row

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self._connection() as connection:
            return connection.execute(query, values).fetchall()

    def write(self, statement: str, values: Iterable[Sequence[Any]]) -> None:
        """Runs one statement for each row of values, all in one transaction."""
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(statement, values)
            connection.execute("COMMIT")

    def _connection(self) -> closing[sqlite3.Connection]:
        return closing(sqlite3.connect(self.path, timeout=30.0, isolation_level=None))


class BreakerStorage(pybreaker.CircuitBreakerStorage):  # type: ignore[misc, unused-ignore]
    """Breaker state in the shared file: a breaker that one process opened is open for all."""

    def __init__(self, file: StateFile, name: str) -> None:
        super().__init__(name)
        self._file = file
        file.execute("INSERT INTO breaker (name) VALUES (?) ON CONFLICT DO NOTHING", name)

    def _get(self, column: str) -> Any:
        row = self._file.execute(f"SELECT {column} FROM breaker WHERE name = ?", self.name)
        return row[0] if row else None

    def _set(self, assignment: str, *values: Any) -> None:
        self._file.execute(f"UPDATE breaker SET {assignment} WHERE name = ?", *values, self.name)

    @property
    def state(self) -> str:
        return str(self._get("state") or pybreaker.STATE_CLOSED)

    @state.setter
    def state(self, state: str) -> None:
        # Every process that notices a change sets it: only the first one counts.
        row = self._file.execute(
            "UPDATE breaker SET state = ?1 WHERE name = ?2 AND state <> ?1 RETURNING name", state, self.name
        )
        if row is None:
            return
        self._file.execute(
            "INSERT INTO breaker_transition VALUES (?, ?, 1) ON CONFLICT (name, state) DO UPDATE SET n = n + 1",
            self.name,
            state,
        )
        if state != pybreaker.STATE_HALF_OPEN:
            self._file.execute("DELETE FROM breaker_trial WHERE name = ?", self.name)

    def claim_trial(self, reset_s: float) -> bool:
        """Whether the caller may try the source now: one trial at a time, and another one when that ended in nothing."""
        row = self._file.execute(
            "INSERT INTO breaker_trial VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET begun_at = ?2"
            " WHERE begun_at <= ?2 - ?3 OR begun_at > ?2 RETURNING name",
            self.name,
            time.time(),
            reset_s,
        )
        return row is not None

    @property
    def counter(self) -> int:
        return int(self._get("failures") or 0)

    def increment_counter(self) -> None:
        self._set("failures = failures + 1")

    def reset_counter(self) -> None:
        # Called after every success: without a failure to forget nothing is written, so nothing is synced.
        self._file.execute("UPDATE breaker SET failures = 0 WHERE name = ? AND failures <> 0", self.name)

    @property
    def success_counter(self) -> int:
        return int(self._get("successes") or 0)

    def increment_success_counter(self) -> None:
        self._set("successes = successes + 1")

    def reset_success_counter(self) -> None:
        self._set("successes = 0")

    @property
    def opened_at(self) -> datetime | None:
        text = self._get("opened_at")
        return datetime.fromisoformat(text) if text else None

    @opened_at.setter
    def opened_at(self, at: datetime) -> None:
        self._set("opened_at = ?", at.isoformat())


class SharedBreaker(pybreaker.CircuitBreaker):  # type: ignore[misc, unused-ignore]
    """A breaker of which one process at a time makes the trial while it is half-open."""

    _trial = threading.local()

    def call(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What ``func`` gives. Raises CircuitBreakerError while open, and while somebody else makes the trial."""
        if getattr(self._trial, "name", None) == self.name:
            return super().call(func, *args, **kwargs)
        try:
            if self.current_state == pybreaker.STATE_HALF_OPEN:
                self._claim()
            return super().call(func, *args, **kwargs)
        finally:
            self._trial.name = None

    def half_open(self) -> None:
        """Begins a trial. Raises CircuitBreakerError when somebody else was faster."""
        self._claim()
        super().half_open()

    def _claim(self) -> None:
        storage = self._state_storage
        if isinstance(storage, BreakerStorage) and not storage.claim_trial(self.reset_timeout):
            raise pybreaker.CircuitBreakerError("the trial is under way elsewhere")
        self._trial.name = self.name


def circuit_breaker(
    file: StateFile, name: str, failures: int, reset_s: float, source_id: str | None = None
) -> pybreaker.CircuitBreaker:
    """Opens after ``failures`` consecutive ``RetriableError`` and lets one trial through after ``reset_s``.

    Everything else (a refused credential, a missing page) says nothing about the source's health and
    is not counted. While open, ``call`` raises ``pybreaker.CircuitBreakerError``. With a ``source_id``, the breaker is the
    one whose state is shown for that source.
    """
    if source_id is not None:
        file.execute(
            "INSERT INTO breaker_of_source VALUES (?, ?, ?) ON CONFLICT (source_id) DO UPDATE SET name = excluded.name,"
            " reset_s = excluded.reset_s WHERE name <> excluded.name OR reset_s <> excluded.reset_s",
            source_id,
            name,
            reset_s,
        )
    return SharedBreaker(
        fail_max=failures,
        reset_timeout=reset_s,
        exclude=[lambda error: not isinstance(error, RetriableError)],
        state_storage=BreakerStorage(file, name),
        name=name,
        throw_new_error_on_trip=False,
    )


@dataclass(frozen=True)
class Pace:
    """Evenly spaced requests, at most ``per_second`` from all processes together; 0 means unlimited."""

    file: StateFile
    name: str
    per_second: float

    def wait(self, deadline: Deadline) -> None:
        """Sleeps until the reserved slot. Raises TransientError when it lies past the deadline."""
        if self.per_second <= 0:
            return
        now, step = time.time(), 1.0 / self.per_second
        # A slot far in the future was reserved before the wall clock was set back: forget it.
        row = self.file.execute(
            "INSERT INTO pace (name, next_at) VALUES (?1, ?2 + ?3) ON CONFLICT (name) DO UPDATE SET next_at ="
            " CASE WHEN next_at < ?2 OR next_at > ?2 + 3600 THEN ?2 ELSE next_at END + ?3 RETURNING next_at - ?3",
            self.name,
            now,
            step,
        )
        delay = (float(row[0]) if row else now) - now
        if delay > deadline.remaining:
            raise TransientError(
                f"{self.name}: the next request is allowed in {delay:.1f} s, past the deadline; raise limits.requests_per_s"
                " or limits.deadline_s, or start fewer processes"
            )
        if delay > 0:
            time.sleep(delay)

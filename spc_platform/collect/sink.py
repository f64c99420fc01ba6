"""The way of a reading into the spool: a bounded queue, one writer, and an acknowledgement once it is durable."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Protocol, Self

from spc_platform.collect.readings import Reading, Record, Recorder
from spc_platform.collect.spool import Gap, Spool, SpoolFullError
from spc_platform.errors import LakeError

logger = logging.getLogger(__name__)

QUEUED = 20_000
"""Readings that may wait for the writer; a sender beyond waits, which is the back pressure."""
BATCH = 5_000
RETRY_S = 1.0
LATE_TRIGGER = "a trigger came after a newer one; its measurements were not recorded"
_MEMORY = "recorder\x1e"


class Connector(Protocol):
    """Speaks one protocol with one source. Runs in a thread of its own."""

    def run(self, sink: Sink, stop: threading.Event) -> None:
        """Connect, resume from ``sink.state()``, hand over readings until ``stop`` is set.

        Raises TransientError when the source went away (the supervisor starts it again with a growing wait) and
        PermanentError or SiteError when starting again cannot help. Acknowledges to the source only in ``done``
        of ``Sink.put``.
        """


@dataclass(slots=True)
class Health:
    """What a source's connector is doing, for the health page and the metrics."""

    is_connected: bool = False
    detail: str = "not started"
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    connections: int = 0
    readings: int = 0
    records: int = 0
    bad: int = 0
    gaps: int = 0
    last_reading_at: datetime | None = None
    last_observed_at: datetime | None = None
    is_full: bool = False


@dataclass(slots=True)
class _Parcel:
    readings: Sequence[Reading]
    received_at: datetime
    state: Mapping[str, str]
    gaps: Sequence[Gap]
    lost: bool
    done: Callable[[], None] | None


class Sink:
    """Where a connector puts readings: ``with Sink(recorder, spool) as sink``.

    ``put`` returns at once while the queue has room and waits when it has none; ``done`` is called from the writer's
    thread once everything of the call is durable. After a failure of the disk the writer tries again for as long
    as it takes: nothing is dropped, and nothing is acknowledged.
    """

    def __init__(
        self, recorder: Recorder, spool: Spool, now: Callable[[], datetime] | None = None, health: Health | None = None
    ) -> None:
        self.recorder = recorder
        self.spool = spool
        self.health = health or Health()
        self._now = now or (lambda: datetime.now(UTC))
        self._queue: queue.Queue[_Parcel | None] = queue.Queue()
        self._room = threading.Condition()
        self._waiting = 0
        self._failed: BaseException | None = None
        self._abandoned = threading.Event()
        self._writer = threading.Thread(target=self._write, name=f"spool-{recorder.source.source_id}", daemon=True)

    def __enter__(self) -> Self:
        state = self.spool.state()
        self.recorder.recall({key.removeprefix(_MEMORY): state[key] for key in state if key.startswith(_MEMORY)})
        self._writer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._queue.put(None)
        self._writer.join(timeout=10.0)
        self._abandoned.set()
        self._writer.join(timeout=2.0)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Every address that the connector must read."""
        return self.recorder.addresses

    def state(self) -> dict[str, str]:
        """What was written with ``put(..., state=...)`` and is durable."""
        return {key: value for key, value in self.spool.state().items() if not key.startswith(_MEMORY)}

    def put(
        self,
        readings: Sequence[Reading],
        *,
        state: Mapping[str, str] | None = None,
        gaps: Sequence[Gap] = (),
        done: Callable[[], None] | None = None,
        received_at: datetime | None = None,
    ) -> None:
        """Queue readings with the state to resume by; ``done`` is called when they are durable. Blocks while the queue is full.

        Raises LakeError when the writer has ended.
        """
        with self._room:
            while self._waiting and self._waiting + len(readings) > QUEUED:
                self._room.wait(timeout=1.0)
                self._check()
            self._waiting += len(readings)
        self._check()
        self._queue.put(_Parcel(readings, received_at or self._now(), state or {}, gaps, lost=False, done=done))

    def flush(self, timeout_s: float = 30.0) -> None:
        """Wait until everything put so far is durable. Raises LakeError when it is not within the time."""
        durable = threading.Event()
        self.put((), done=durable.set)
        if not durable.wait(timeout_s):
            self._check()
            raise LakeError(f"{self.spool.path}: not durable within {timeout_s:g} s; is the disk full?", code="SPC-532")

    def connected(self, detail: str) -> None:
        """Tell that the source is there and readings flow."""
        self.health.is_connected, self.health.detail, self.health.since = True, detail, self._now()
        self.health.connections += 1

    def disconnected(self, detail: str, *, at: datetime | None = None) -> None:
        """Tell that the source went away: signals become UNAVAILABLE from ``at`` (now) on."""
        was_connected = self.health.is_connected
        self.health.is_connected, self.health.detail = False, detail
        if was_connected:
            self.health.since = self._now()
            self._queue.put(_Parcel((), at or self._now(), {}, (), lost=True, done=None))

    def _check(self) -> None:
        if self._failed is not None:
            raise LakeError(f"{self.spool.path}: the writer ended: {self._failed}; start the collector again", code="SPC-532")

    def _write(self) -> None:
        try:
            while True:
                parcels, is_last = self._take()
                if parcels:
                    self._commit(parcels)
                if is_last:
                    return
        except BaseException as error:
            self._failed = error
            logger.exception("%s: the writer ended", self.spool.path)

    def _take(self) -> tuple[list[_Parcel], bool]:
        """Everything that waits, up to a batch, and whether that is the end."""
        parcels: list[_Parcel] = []
        waiting = self._queue.get()
        taken = 0
        while waiting is not None:
            parcels.append(waiting)
            taken += len(waiting.readings)
            if taken >= BATCH:
                return parcels, False
            try:
                waiting = self._queue.get_nowait()
            except queue.Empty:
                return parcels, False
        return parcels, True

    def _commit(self, parcels: Sequence[_Parcel]) -> None:
        records: list[Record] = []
        state: dict[str, str] = {}
        gaps: list[Gap] = []
        for parcel in parcels:
            if parcel.lost:
                records += self.recorder.lost(parcel.received_at)
            records += self.recorder.records(parcel.readings, parcel.received_at)
            state.update(parcel.state)
            gaps += parcel.gaps
        state.update({_MEMORY + key: value for key, value in self.recorder.remembered().items()})
        gaps += [Gap(each.address, each.observed_at, each.observed_at, LATE_TRIGGER) for each in self.recorder.late]
        self.recorder.late.clear()
        if records or state or gaps:
            self._append(records, state, gaps)
        for parcel in parcels:
            self._note(parcel)
            with self._room:
                self._waiting -= len(parcel.readings)
                self._room.notify_all()
            if parcel.done is not None:
                parcel.done()
        self.health.records += len(records)
        self.health.gaps += len(gaps)

    def _append(self, records: Sequence[Record], state: Mapping[str, str], gaps: Sequence[Gap]) -> None:
        while True:
            try:
                self.spool.append(records, state, gaps)
            except SpoolFullError as error:
                if not self.health.is_full:
                    logger.error("%s", error)  # noqa: TRY400 - the disk is full, no defect of the program
                self.health.is_full = True
                if self._abandoned.wait(RETRY_S):
                    raise
            else:
                self.health.is_full = False
                return

    def _note(self, parcel: _Parcel) -> None:
        if not parcel.readings:
            return
        health = self.health
        health.readings += len(parcel.readings)
        health.bad += sum(reading.quality != "" for reading in parcel.readings)
        health.last_reading_at = parcel.received_at
        health.last_observed_at = max(reading.observed_at for reading in parcel.readings)


class Backoff:
    """Waits that double up to a bound, and begin anew after a connection that lasted."""

    def __init__(self, first_s: float = 0.5, most_s: float = 60.0) -> None:
        self._first, self._most = first_s, most_s
        self._next = first_s
        self._began = time.monotonic()

    def begin(self) -> None:
        """An attempt begins."""
        self._began = time.monotonic()

    def wait(self, stop: threading.Event) -> None:
        """Wait before the next attempt, or until ``stop``."""
        if time.monotonic() - self._began > self._most:
            self._next = self._first
        with contextlib.suppress(TimeoutError):
            stop.wait(self._next)
        self._next = min(self._most, self._next * 2)

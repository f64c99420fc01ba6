"""The test bed's logs read line by line, without the platform: what each machine was doing, and what its counters counted."""

from __future__ import annotations

import re
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

MACHINES = ("GFAgie01", "Hurco01", "Hurco02", "Hurco03", "Hurco04", "Hurco06", "Mazak01", "Mazak03")
STOPPED = {"INTERRUPTED", "FEED_HOLD", "STOPPED", "OPTIONAL_STOP", "PROGRAM_STOPPED", "PROGRAM_OPTIONAL_STOP"}
BY_HAND = {"MANUAL", "MANUAL_DATA_INPUT", "EDIT"}
SIGNALS = {"execution": "execution", "Program_Status": "execution", "mode": "mode", "avail": "avail", "power": "power"}
Piece = tuple[datetime, datetime, str, str]


def instant(text: str) -> datetime:
    """The instant of a log's time, cut to microseconds."""
    return datetime.fromisoformat(text.removesuffix("Z")[:26] + "+00:00")


def lines_of(archive: Path, machine: str) -> Iterator[tuple[datetime, bool, str, str]]:
    """Time, whether the line is of the opening snapshot, item and value of each line of a machine, log by log.

    What a snapshot says holds from the log's midnight on.
    """
    with tarfile.open(archive) as logs:
        for name in sorted(member.name for member in logs if f"/{machine}-" in f"/{member.name}"):
            midnight = datetime.strptime(re.search(r"-(\d{8})-", name)[1], "%Y%m%d").replace(tzinfo=UTC)  # type: ignore[index]
            for line in logs.extractfile(name).read().decode("utf-8-sig").splitlines():  # type: ignore[union-attr]
                time, item, value = line.split("|", 2)
                at = instant(time)
                yield max(at, midnight), at < midnight, item, value.strip()


def state(said: dict[str, str]) -> str:
    """The state that the signals in force mean."""
    execution, by_hand = said.get("execution", ""), said.get("mode") in BY_HAND
    if "UNAVAILABLE" in (said.get("avail"), execution):
        return "UNKNOWN"
    if said.get("power") == "OFF":
        return "IDLE"
    if execution == "ACTIVE":
        return "SETUP" if by_hand else "RUN"
    if execution in STOPPED:
        return "SETUP" if by_hand else "STOP"
    return "IDLE" if execution in ("READY", "PROGRAM_COMPLETED", "WAIT") else "UNKNOWN"


def pieces_of(archive: Path, machine: str, end: datetime) -> list[Piece]:
    """Start, end, state and execution of a machine: no line holds earlier than a line before it in the log."""
    said: dict[str, str] = {}
    pieces: list[Piece] = []
    now: datetime | None = None
    for at, _, item, value in lines_of(archive, machine):
        held = at if now is None else max(at, now)
        if now is not None and held > now and said:
            pieces.append((now, held, state(said), said.get("execution", "")))
        now = held
        if item in SIGNALS:
            said[SIGNALS[item]] = value
    assert now is not None
    return [*pieces, (now, end, state(said), said.get("execution", ""))]


def seconds_by_state(pieces: list[Piece], first: datetime, last: datetime) -> dict[str, float]:
    """Seconds of each state in [first, last)."""
    total: dict[str, float] = defaultdict(float)
    for start, end, name, _ in pieces:
        total[name] += max((min(end, last) - max(start, first)).total_seconds(), 0.0)
    return {name: seconds for name, seconds in total.items() if seconds > 0}


def ledger_of(archive: Path, machine: str, counter: str, automatic: set[str]) -> dict[str, float]:
    """What a counter counted, of it while the connection was lost, and how long lost connections went unnoticed.

    ``late_total`` holds for any state, ``late_automatic`` for the executions ``automatic`` alone.
    """
    found: dict[str, float] = defaultdict(float)
    now: datetime | None = None
    last_reading: datetime | None = None
    highest: float | None = None
    execution = before_this_instant = ""
    for at, is_snapshot, item, value in lines_of(archive, machine):
        held = at if now is None else max(at, now)
        if held != now:
            before_this_instant = execution
        now = held
        if item == "execution":
            if value == "UNAVAILABLE" and execution not in ("", "UNAVAILABLE") and last_reading is not None:
                late = (held - last_reading).total_seconds()
                found["late_total"] += late
                found["late_automatic"] += late if execution in automatic else 0.0
            execution = value
        if item == "total_time" and value != "UNAVAILABLE" and not is_snapshot:
            last_reading = held
        if item == counter and value != "UNAVAILABLE" and not is_snapshot:
            reading = float(value)
            rise = max(reading - highest, 0.0) if highest is not None else 0.0
            highest = reading if highest is None else max(highest, reading)
            found["counted"] += rise
            found["lost"] += rise if before_this_instant == "UNAVAILABLE" else 0.0
    return dict(found)

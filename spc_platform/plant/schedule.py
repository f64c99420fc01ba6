"""What each station did in every second of a production date: shifts, orders, states; drawn from the seed.

A production date is an array of seconds from 06:00 to 06:00 local (82,800 on the night of the clock change),
so every figure of the truth is a count of seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import numpy.typing as npt

from spc_platform.plant.process import (
    BREAKDOWN_REASONS,
    DAY_START_HOUR,
    FIXED_EVENTS,
    HOLIDAYS,
    IDLE,
    LINES,
    MINOR_REASONS,
    RUN,
    SETUP,
    SHIFTS,
    STATIONS,
    STOP,
    ZONE,
    Line,
    Station,
)

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
BIN_S = 300
"""Seconds between two production counts; shifts and orders begin on multiples of it."""
NONE = -1


@dataclass(frozen=True, slots=True)
class Order:
    """A work order: its place in the date (seconds), product and planned quantity."""

    order: str
    product: str
    start: int
    end: int
    planned: int


@dataclass(frozen=True, slots=True)
class LineDay:
    """A line's date: ``shift`` and ``order`` are indexes per second, ``NONE`` outside; ``planned`` marks breaks."""

    line: Line
    shift: Ints
    order: Ints
    orders: tuple[Order, ...]
    planned: Bools


@dataclass(frozen=True, slots=True)
class StationDay:
    """A station's date: ``event`` is an index per second into ``states``/``reasons``, ``NONE`` where nothing is recorded.

    ``starts``/``ends`` are the runs of equal events (seconds from the start of the date; an event of the
    neighbouring date may reach over the edge), ``run_event`` the event of each run.
    """

    station: Station
    event: Ints
    states: Ints
    reasons: tuple[str | None, ...]
    planned: Bools
    starts: Ints
    ends: Ints
    run_event: Ints

    @property
    def state(self) -> Ints:
        """State per second; ``NONE`` where none is recorded."""
        return np.where(self.event >= 0, self.states[self.event], NONE)


@dataclass(frozen=True, slots=True)
class DaySchedule:
    """Everything that happens on a production date, before anybody measures it."""

    production_date: date
    start: datetime
    seconds: int
    lines: dict[str, LineDay]
    stations: dict[str, StationDay]


def day_bounds(production_date: date) -> tuple[datetime, datetime]:
    """First instant of a production date and of the next one, UTC.

    >>> start, end = day_bounds(date(2026, 3, 28))
    >>> (end - start).total_seconds() / 3600
    23.0
    """
    at = time(DAY_START_HOUR)
    return (
        datetime.combine(production_date, at, ZONE).astimezone(UTC),
        datetime.combine(production_date + timedelta(days=1), at, ZONE).astimezone(UTC),
    )


def day_schedule(seed: int, production_date: date) -> DaySchedule:
    """Draw the schedule of a production date; depends on nothing but the seed and the date."""
    start, end = day_bounds(production_date)
    seconds = int((end - start).total_seconds())
    lines = {line.line: _line_day(seed, line, number, production_date, start, seconds) for number, line in enumerate(LINES)}
    stations = {
        station.station: _station_day(seed, station, number, lines[station.line], production_date, start, seconds)
        for number, station in enumerate(STATIONS)
    }
    return DaySchedule(production_date, start, seconds, lines, stations)


def generator(seed: int, production_date: date, *key: int) -> np.random.Generator:
    """Open a stream of random numbers of its own for each date and purpose."""
    return np.random.default_rng([seed, production_date.toordinal(), *key])


def _line_day(seed: int, line: Line, number: int, production_date: date, start: datetime, seconds: int) -> LineDay:
    def second(days: int, hour: int, minute: int = 0) -> int:
        moment = datetime.combine(production_date + timedelta(days=days), time(hour, minute), ZONE)
        return int((moment - start).total_seconds())

    shift = np.full(seconds, NONE, dtype=np.int64)
    planned = np.zeros(seconds, dtype=np.bool_)
    closed = (line.line, production_date) in HOLIDAYS
    for name, hour, weekdays in line.shifts:
        if closed or str(production_date.isoweekday()) not in weekdays:
            continue
        first = second(0, hour)
        last = seconds if hour + 8 >= DAY_START_HOUR + 24 else second(0, hour + 8)
        shift[first:last] = SHIFTS.index(name)
        for _, at, minutes in (rule for rule in line.breaks if rule[0] == name):
            hours, mins = (int(part) for part in at.split(":"))
            begin = second(int(hours < DAY_START_HOUR), hours, mins)
            planned[begin : begin + minutes * 60] = True
    orders = _orders(generator(seed, production_date, 1, number), line, production_date, shift)
    order = np.full(seconds, NONE, dtype=np.int64)
    for index, each in enumerate(orders):
        order[each.start : each.end] = index
    return LineDay(line, shift, order, orders, planned)


def _orders(rng: np.random.Generator, line: Line, production_date: date, shift: Ints) -> tuple[Order, ...]:
    """Two orders a date with a while without order between them."""
    worked = np.flatnonzero(shift >= 0)
    if not worked.size:
        return ()
    first, last = int(worked[0]), int(worked[-1]) + 1
    bins = worked[worked % BIN_S == 0]
    change = int(bins[int(bins.size * rng.uniform(0.4, 0.6))])
    idle = int(rng.integers(3, 9)) * BIN_S
    spans = ((first, change), (change + idle, last))
    return tuple(
        Order(
            f"WO-{line.letter}-{production_date:%y%m%d}-{index + 1}",
            line.products[index],
            begin,
            end,
            int(np.count_nonzero(shift[begin:end] >= 0)) // 60,
        )
        for index, (begin, end) in enumerate(spans)
    )


@dataclass(slots=True)
class _Timeline:
    """Events painted over one another, second by second."""

    event: Ints
    states: list[int]
    reasons: list[str | None]

    def paint(self, where: slice | Bools, state: int, reason: str | None) -> None:
        self.event[where] = len(self.states)
        self.states.append(state)
        self.reasons.append(reason)

    def running(self, first: int, last: int) -> bool:
        inside = self.event[max(first - 5, 0) : last + 5]
        event = int(inside[0])
        return first >= 5 and event >= 0 and self.states[event] == RUN and bool(np.all(inside == event))


def _station_day(
    seed: int, station: Station, number: int, line: LineDay, production_date: date, start: datetime, seconds: int
) -> StationDay:
    rng = generator(seed, production_date, 2, number)
    scheduled = line.shift >= 0
    timeline = _Timeline(np.full(seconds, NONE, dtype=np.int64), [], [])
    timeline.paint(scheduled, RUN, None)
    timeline.paint(scheduled & (line.order < 0), IDLE, "no_order")
    for order in line.orders:
        timeline.paint(slice(order.start, order.start + int(rng.integers(600, 1500))), SETUP, "changeover")
    planned = line.planned.copy()
    _paint_breaks(timeline, line.planned)
    reach = _paint_fixed(timeline, station, start, seconds, planned)
    _paint_stops(timeline, rng, seconds)
    timeline.event[~scheduled] = NONE
    return _runs(station, timeline, planned & scheduled, reach)


def _paint_breaks(timeline: _Timeline, planned: Bools) -> None:
    edges = np.flatnonzero(np.diff(planned.astype(np.int8), prepend=0, append=0))
    for first, last in edges.reshape(-1, 2):
        timeline.paint(slice(int(first), int(last)), STOP, "break")


def _paint_fixed(
    timeline: _Timeline, station: Station, start: datetime, seconds: int, planned: Bools
) -> dict[int, tuple[int, int]]:
    """Paint the stated events; returns where they truly begin and end, by event."""
    reach: dict[int, tuple[int, int]] = {}
    for fixed in FIXED_EVENTS:
        first, last = (int((moment - start).total_seconds()) for moment in (fixed.start, fixed.end))
        if fixed.station != station.station or last <= 0 or first >= seconds:
            continue
        where = slice(max(first, 0), last)
        if fixed.state is None:
            timeline.event[where] = NONE
            continue
        reach[len(timeline.states)] = (first, last)
        timeline.paint(where, fixed.state, fixed.reason)
        if fixed.planned_from is not None:
            planned[max(int((fixed.planned_from - start).total_seconds()), 0) : last] = True
    return reach


def _paint_stops(timeline: _Timeline, rng: np.random.Generator, seconds: int) -> None:
    """Micro stops and breakdowns, each wholly inside running time."""
    count = seconds // 600
    gaps = rng.exponential(2400.0, count)
    micro = rng.random(count) < 0.93
    lengths = np.where(micro, rng.integers(20, 281, count), rng.integers(360, 2401, count))
    begins = np.cumsum(gaps + np.concatenate(([0.0], lengths[:-1]))).astype(np.int64)
    reasons = rng.integers(0, 12, count)
    for begin, length, minor, reason in zip(begins.tolist(), lengths.tolist(), micro.tolist(), reasons.tolist(), strict=True):
        if begin + length < seconds and timeline.running(begin, begin + length):
            names = MINOR_REASONS if minor else BREAKDOWN_REASONS
            timeline.paint(slice(begin, begin + length), STOP, names[reason % len(names)])


def _runs(station: Station, timeline: _Timeline, planned: Bools, reach: dict[int, tuple[int, int]]) -> StationDay:
    event = timeline.event
    starts = np.flatnonzero(np.diff(event, prepend=np.int64(-2)))
    ends = np.append(starts[1:], event.size)
    known = event[starts] >= 0
    starts, ends, run_event = starts[known], ends[known], event[starts[known]]
    for index, (first, last) in reach.items():
        starts[run_event == index] = first
        ends[run_event == index] = last
    return StationDay(
        station, event, np.array(timeline.states, dtype=np.int64), tuple(timeline.reasons), planned, starts, ends, run_event
    )

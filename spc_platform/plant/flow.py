"""How lots pass the operations of a line, date after date: queues, work, scrap, rework, splits and merges.

A lot waits until its station is free and takes as many running seconds as its parts need, so stops of the
station delay it and work that a date does not finish is carried to the next. Times are whole seconds since
1970, which makes every figure of the truth exact.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import NamedTuple

import numpy as np

from spc_platform.plant.process import FIRST_DATE, LINES, PRI_S, RUN, SEGMENTS, STATIONS
from spc_platform.plant.schedule import DaySchedule, Ints, LineDay, day_bounds, day_schedule, generator
from spc_platform.plant.supply import Pool, Used, components

LOT_S = 7200
"""Seconds of an order whose parts are one lot, as the measurements name it."""
LOT_PARTS = {"line_a": 85, "line_b": 70}
SCRAP, REWORK = 0.006, 0.006
AGAIN_S = (1200, 300)
"""Before the end of a lot at the leak test of line B: when parts are sent to rework, and when they are taken up again."""
SPLIT_LOT, MERGED_LOTS = 2, (3, 4)
SPLIT_AFTER, INSPECTION, LAST = 1, 2, 3
PAUSED, CANCELLED = 0.4, 0.15
"""Shares of the orders that are paused once, and of the dates of a line with an order that is cancelled."""
STREAM = 40
"""Number of this module's first random stream; the next one is of the orders."""


class Item(NamedTuple):
    """A lot, or a part of one, on its way through the line."""

    item: str
    lot: int
    order: str
    product: str
    quantity: int
    merges: bool


@dataclass(frozen=True, slots=True)
class Visit:
    """An item at an operation; what has not happened yet is None.

    It waits since ``came``, when its operation before was finished; ``queued`` tells that it was brought. Scrapped parts leave
    it at ``left``. ``reworked`` parts go on as a lot of their own; ``again`` parts are worked on once more within the visit,
    after a wait of the times ``again_at``.
    """

    item: Item
    line: str
    operation: int
    queued: int
    came: int
    started: int | None = None
    finished: int | None = None
    left: int | None = None
    scrapped: int = 0
    reworked: int = 0
    again: int = 0
    again_at: tuple[int, int] | None = None

    @property
    def passed(self) -> int:
        """Parts that the operation has finished."""
        return self.item.quantity - self.scrapped

    @property
    def good(self) -> int:
        """Parts that go on under the item's own name."""
        return self.passed - self.reworked


class Link(NamedTuple):
    """A parent that went into a child, with the amount of the parent."""

    parent: str
    child: str
    link: str
    quantity: float
    at: int
    station: str
    order: str


class OrderEvent(NamedTuple):
    """What happened to a work order; ``planned`` and ``due`` come with its release, quantities with its completion."""

    order: str
    event: str
    at: int
    line: str
    product: str | None = None
    planned: int | None = None
    due: int | None = None
    reason: str | None = None
    produced: int | None = None
    scrapped: int | None = None


class _OpenOrder(NamedTuple):
    """A work order that is not complete: its planned end, when its last part was finished so far, good parts and scrap."""

    order: str
    end: int
    last: int = 0
    produced: int = 0
    scrapped: int = 0


@dataclass(frozen=True, slots=True)
class _Working:
    """An item at a station and the running seconds that it still needs."""

    visit: Visit
    need: int


@dataclass(frozen=True, slots=True)
class LineState:
    """What a line hands to its next date. ``benched`` is rework off the line, ``held`` lots that wait to be merged."""

    waiting: tuple[tuple[Visit, ...], ...] = ((), (), (), ())
    working: tuple[_Working | None, ...] = (None, None, None, None)
    benched: tuple[Visit, ...] = ()
    held: tuple[tuple[Item, int], ...] = ()
    links: tuple[Link, ...] = ()
    orders: tuple[_OpenOrder, ...] = ()
    events: tuple[OrderEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class DayFlow:
    """A date of all lines. ``visits`` are those that had not ended before it; links and events those that happened on it."""

    visits: tuple[Visit, ...]
    links: tuple[Link, ...]
    events: tuple[OrderEvent, ...]
    after: dict[str, LineState]
    pool: Pool


_FLOWS: dict[tuple[int, date], DayFlow] = {}


def day_flow(seed: int, schedule: DaySchedule) -> DayFlow:
    """Tell the flow of a date: it follows from the seed and all dates since the first, so those are drawn where missing."""
    wanted = schedule.production_date
    before: DayFlow | None = None
    first = next((day for day in _back(wanted) if (seed, day) in _FLOWS), FIRST_DATE)
    for number in range((wanted - first).days + 1):
        day = first + timedelta(days=number)
        flow = _FLOWS.get((seed, day))
        if flow is None:
            flow = _simulate(seed, schedule if day == wanted else day_schedule(seed, day), before)
            _FLOWS[seed, day] = flow
        before = flow
    return _FLOWS[seed, wanted]


def _back(wanted: date) -> list[date]:
    return [wanted - timedelta(days=number) for number in range((wanted - FIRST_DATE).days + 1)]


def _simulate(seed: int, schedule: DaySchedule, before: DayFlow | None) -> DayFlow:
    visits: list[Visit] = []
    links: list[Link] = []
    events: list[OrderEvent] = []
    after: dict[str, LineState] = {}
    pool = before.pool if before else Pool()
    # Line B first: its valves go into the housings of line A.
    for number, line in reversed([*enumerate(LINES)]):
        rngs = [generator(seed, schedule.production_date, STREAM + each, number) for each in (0, 1)]
        state = before.after[line.line] if before else LineState()
        run = _LineRun(schedule, schedule.lines[line.line], state, rngs[0], rngs[1], pool)
        run.go()
        after[line.line] = run.state()
        visits.extend(run.visits)
        links.extend(run.links)
        events.extend(run.events)
        pool = run.pool
    return DayFlow(tuple(visits), tuple(links), tuple(events), after, pool)


class _LineRun:
    """One line on one date, operation by operation: nothing that happens downstream moves what is upstream."""

    def __init__(
        self,
        schedule: DaySchedule,
        line: LineDay,
        state: LineState,
        rng: np.random.Generator,
        orders_rng: np.random.Generator,
        pool: Pool,
    ) -> None:
        self.base = int(schedule.start.timestamp())
        self.end = int(day_bounds(schedule.production_date)[1].timestamp())
        self.schedule, self.line, self.rng, self.orders_rng, self.pool = schedule, line, rng, orders_rng, pool
        self.stations = [each for each in STATIONS if each.line == line.line.line]
        self.waiting = [list(each) for each in state.waiting]
        self.working: list[_Working | None] = list(state.working)
        self.benched = list(state.benched)
        self.held = list(state.held)
        self.visits: list[Visit] = []
        self.links: list[Link] = [each for each in state.links if each.at < self.end]
        self.later: list[Link] = [each for each in state.links if each.at >= self.end]
        self.orders = {each.order: each for each in state.orders}
        self.events: list[OrderEvent] = [each for each in state.events if each.at < self.end]
        self.later_events: list[OrderEvent] = [each for each in state.events if each.at >= self.end]

    def state(self) -> LineState:
        return LineState(
            tuple(tuple(each) for each in self.waiting),
            tuple(self.working),
            tuple(self.benched),
            tuple(self.held),
            tuple(self.later),
            tuple(self.orders.values()),
            tuple(self.later_events),
        )

    def go(self) -> None:
        self._release()
        self.waiting[0].extend(self._new_lots())
        for operation in range(len(self.stations)):
            if operation == LAST:
                self._end_rework()
            self._operate(operation)
        self._complete()
        open_visits = [each for queue in self.waiting for each in queue if each.came < self.end]
        working = [each.visit for each in self.working if each is not None]
        self.visits.extend([*open_visits, *working, *(each for each in self.benched if each.came < self.end)])

    def _new_lots(self) -> list[Visit]:
        stem = f"L{self.line.line.letter}{self.schedule.production_date:%y%m%d}"
        lots = []
        for place, order in enumerate(self.line.orders, start=1):
            count = -(-(order.end - order.start) // LOT_S)
            for lot in range(1, count + 1):
                begin = order.start + (lot - 1) * LOT_S
                share = min(LOT_S, order.end - begin) / LOT_S
                parts = max(20, round(LOT_PARTS[self.line.line.line] * share) + int(self.rng.integers(-5, 6)))
                merges = place == 1 and count > max(MERGED_LOTS) and lot in MERGED_LOTS
                item = Item(f"{stem}-{place}-{lot}", lot, order.order, order.product, parts, merges)
                lots.append(Visit(item, self.line.line.line, 0, self.base + begin, self.base + begin))
        return lots

    def _operate(self, operation: int) -> None:
        """Work off the queue of an operation, first come first served, as far as the station runs."""
        station = self.stations[operation]
        ran = np.concatenate(([0], np.cumsum(self.schedule.stations[station.station].state == RUN))).astype(np.int64)
        queue = sorted(self.waiting[operation], key=lambda each: (each.queued, each.item.item))
        current, free = self.working[operation], self.base
        while True:
            if current is None:
                if not queue or queue[0].queued >= self.end:
                    break
                begun = self._begin(operation, queue[0], ran, max(free, queue[0].queued))
                if begun is None:
                    break
                queue.pop(0)
                current = begun
            started = max(current.visit.started or 0, self.base)
            done = int(ran[started - self.base]) + current.need
            if done > ran[-1]:
                current = replace(current, need=done - int(ran[-1]))
                break
            free = min(self.base + int(np.searchsorted(ran, done)), self.end - 1)
            self._finish(operation, current.visit, free)
            current = None
        self.waiting[operation], self.working[operation] = queue, current

    def _begin(self, operation: int, visit: Visit, ran: Ints, ready: int) -> _Working | None:
        """The item at work from the first running second that it and the station are ready, or None if there is none."""
        target = int(ran[ready - self.base]) + 1
        if target > ran[-1]:
            return None
        started = self.base + int(np.searchsorted(ran, target)) - 1
        station, item = self.stations[operation], visit.item
        cycle = PRI_S[item.product, station.station] / station.run_rate * (1.0 + 0.1 * float(self.rng.random()))
        self._consume(operation, item, started, station.station)
        return _Working(replace(visit, started=started), max(60, round(cycle * item.quantity)))

    def _consume(self, operation: int, item: Item, at: int, station: str) -> None:
        used: list[Used] = components(item.product, operation, item.quantity, at)
        if self.line.line.letter == "A" and operation == 1:
            taken, self.pool = self.pool.take(item.quantity, at)
            used = [*taken, *used]
        self.links.extend(Link(each.parent, item.item, each.link, each.quantity, at, station, item.order) for each in used)

    def _finish(self, operation: int, visit: Visit, at: int) -> None:
        item = visit.item
        scrapped = int(self.rng.binomial(item.quantity, SCRAP))
        failed = int(self.rng.binomial(item.quantity - scrapped, REWORK)) if operation == INSPECTION else 0
        transport = int(self.rng.integers(30, 241))
        ended = replace(visit, finished=at, left=max(at - 2, self.base), scrapped=scrapped)
        if self.line.line.letter == "A":
            ended = replace(ended, reworked=failed)
        elif failed and at - AGAIN_S[0] > max(self.base, visit.started or self.base):
            ended = replace(ended, again=failed, again_at=(at - AGAIN_S[0], at - AGAIN_S[1]))
            self._link(Link(item.item, item.item, "reworked", float(failed), at, self._name(operation), item.order))
        self.visits.append(ended)
        self._count(item.order, ended, operation, at)
        if ended.reworked:
            self._bench(ended, at)
        going = item._replace(quantity=ended.good)
        if operation == LAST:
            if self.line.line.letter == "B":
                self.pool = self.pool.with_lot(item.item, ended.good, at)
        elif operation == INSPECTION and item.merges:
            self._merge(going, at + transport)
        elif operation == SPLIT_AFTER and item.lot == SPLIT_LOT:
            half = going.quantity // 2
            for name, quantity in (("A", half), ("B", going.quantity - half)):
                part = going._replace(item=f"{item.item}-{name}", quantity=quantity)
                self._link(Link(item.item, part.item, "split", float(quantity), at, self._name(operation), item.order))
                self._queue(operation + 1, part, at + transport)
        else:
            self._queue(operation + 1, going, at + transport, at)

    def _bench(self, ended: Visit, at: int) -> None:
        """Rework off the line: the parts wait at the inspection as an item of their own and come back to the last operation."""
        bench = ended.item._replace(item=f"{ended.item.item}-R", lot=0, quantity=ended.reworked, merges=False)
        begins = at + int(self.rng.integers(900, 2701))
        ends = begins + int(self.rng.integers(600, 1201))
        station = self._name(INSPECTION)
        self._link(Link(ended.item.item, bench.item, "reworked", float(bench.quantity), at, station, bench.order))
        self.benched.append(Visit(bench, ended.line, INSPECTION, at, at, begins, ends))

    def _end_rework(self) -> None:
        still = []
        for visit in self.benched:
            if visit.finished is not None and visit.finished < self.end:
                self.visits.append(visit)
                self._queue(LAST, visit.item, visit.finished + 60, visit.finished)
            else:
                still.append(visit)
        self.benched = still

    def _merge(self, going: Item, at: int) -> None:
        partner = next((each for each in self.held if each[0].order == going.order), None)
        if partner is None:
            self.held.append((going, at))
            return
        self.held.remove(partner)
        both = sorted([partner[0], going])
        merged = both[0]._replace(item=f"{both[0].item}-M", lot=0, quantity=sum(each.quantity for each in both), merges=False)
        when = max(at, partner[1])
        for each in both:
            station = self._name(LAST)
            self._link(Link(each.item, merged.item, "merged", float(each.quantity), when, station, going.order))
        self._queue(LAST, merged, when)

    def _release(self) -> None:
        """Announce the orders of the date: the first as it starts, the second hours before; sometimes one that is cancelled."""
        line, rng = self.line.line.line, self.orders_rng
        for place, order in enumerate(self.line.orders):
            ahead = int(rng.integers(3600, 4 * 3600)) if place else 0
            due = (self.base + order.end) // 3600 * 3600 + int(rng.choice([-3600, 0, 7200, 14_400, 28_800]))
            at = self.base + max(order.start - ahead, 0)
            self._tell(OrderEvent(order.order, "released", at, line, order.product, order.planned, due))
            self.orders[order.order] = _OpenOrder(order.order, self.base + order.end)
            self._tell(OrderEvent(order.order, "started", self.base + order.start + 60, line))
            if order.end - order.start >= 5 * 3600 and rng.random() < PAUSED:
                begins = self.base + order.start + int(rng.integers(3600, 10_800))
                self._tell(OrderEvent(order.order, "paused", begins, line, reason="material_missing"))
                self._tell(OrderEvent(order.order, "resumed", begins + int(rng.integers(1200, 3600)), line))
        if self.line.orders and rng.random() < CANCELLED:
            first = self.line.orders[0]
            name, at = f"{first.order[:-1]}9", self.base + int(rng.integers(3600, 4 * 3600))
            self._tell(OrderEvent(name, "released", at, line, first.product, 100, at + 86_400))
            self._tell(OrderEvent(name, "cancelled", at + int(rng.integers(1800, 7200)), line))

    def _count(self, order: str, ended: Visit, operation: int, at: int) -> None:
        state = self.orders[order]
        made = ended.good if operation == LAST else 0
        self.orders[order] = state._replace(
            last=max(state.last, at), produced=state.produced + made, scrapped=state.scrapped + ended.scrapped
        )

    def _complete(self) -> None:
        """Complete the orders none of whose parts is left on the line; they are closed some hours later."""
        queued = [each.item for queue in self.waiting for each in queue] + [each.item for each in self.benched]
        working = [each.visit.item for each in self.working if each is not None]
        busy = {each.order for each in [*queued, *working, *(item for item, _ in self.held)]}
        for order, state in list(self.orders.items()):
            if order in busy:
                continue
            del self.orders[order]
            line, at = self.line.line.line, max(state.last, state.end + 1)
            self._tell(OrderEvent(order, "completed", at, line, produced=state.produced, scrapped=state.scrapped))
            self._tell(OrderEvent(order, "closed", at + int(self.orders_rng.integers(3600, 3 * 3600)), line))

    def _tell(self, event: OrderEvent) -> None:
        (self.events if event.at < self.end else self.later_events).append(event)

    def _queue(self, operation: int, item: Item, at: int, came: int | None = None) -> None:
        self.waiting[operation].append(Visit(item, self.line.line.line, operation, at, at if came is None else came))

    def _link(self, link: Link) -> None:
        (self.links if link.at < self.end else self.later).append(link)

    def _name(self, operation: int) -> str:
        return self.stations[operation].station


ROUTES: dict[str, tuple[tuple[str, str], ...]] = {
    line: tuple(zip(operations, (each.station for each in STATIONS if each.line == line), strict=True))
    for line, operations in SEGMENTS.items()
}
"""Operations of a line, by their names in the site's routings, with their stations."""

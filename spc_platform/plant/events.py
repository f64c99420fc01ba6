"""Records of what happened to orders, at operations and between materials, as the MES sends them, and their truth.

Most records come once and at once. A few come hours late, a few were wrong at first and are corrected by a
second revision, a few should not have been made and are withdrawn, and a few are impossible.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl

from spc_platform.plant.flow import ROUTES, DayFlow, Visit, day_flow
from spc_platform.plant.schedule import DaySchedule, generator
from spc_platform.plant.text import US, iso, paged

STREAM = 60
WIP_EVERY_S = 7200
FEW = 100
"""A resource with fewer records on a date sends no impossible ones, so that they stay rare."""
UNKNOWN_STATION, UNKNOWN_OPERATION = "A99", "painting"

_INSTANT = pl.Datetime("us", "UTC")
Row = dict[str, Any]

SCHEMAS: dict[str, dict[str, Any]] = {
    "order-events": {
        "order": pl.String,
        "event": pl.String,
        "line": pl.String,
        "product": pl.String,
        "planned": pl.Int64,
        "_due": pl.Int64,
        "reason": pl.String,
    },
    "segment-events": {
        "item": pl.String,
        "kind": pl.String,
        "operation": pl.String,
        "station": pl.String,
        "event": pl.String,
        "quantity": pl.Int64,
        "order": pl.String,
        "product": pl.String,
    },
    "material-links": {
        "parent": pl.String,
        "child": pl.String,
        "type": pl.String,
        "quantity": pl.Float64,
        "station": pl.String,
        "order": pl.String,
    },
}
"""Fields of the records of each resource beside id, rev, deleted and times."""

ORDER_EVENT_SCHEMA = {
    "job_order_id": pl.String,
    "event_type": pl.String,
    "occurred_at": _INSTANT,
    "work_center_id": pl.String,
    "material_definition_id": pl.String,
    "planned_quantity": pl.Int64,
    "due_at": _INSTANT,
    "reason_code": pl.String,
    "lot_good_quantity": pl.Int64,
    "lot_scrapped_quantity": pl.Int64,
    "production_date": pl.Date,
}
VISIT_SCHEMA = {
    "item_id": pl.String,
    "job_order_id": pl.String,
    "material_definition_id": pl.String,
    "segment_id": pl.String,
    "equipment_id": pl.String,
    "came_at": _INSTANT,
    "queued_at": _INSTANT,
    "started_at": _INSTANT,
    "finished_at": _INSTANT,
    "quantity": pl.Int64,
    "finished_quantity": pl.Int64,
    "good_quantity": pl.Int64,
    "scrapped_quantity": pl.Int64,
    "reworked_quantity": pl.Int64,
    "production_date": pl.Date,
}
WIP_SCHEMA = {
    "at": _INSTANT,
    "segment_id": pl.String,
    "equipment_id": pl.String,
    "queue_items": pl.Int64,
    "queue_quantity": pl.Int64,
    "in_process_items": pl.Int64,
    "in_process_quantity": pl.Int64,
    "production_date": pl.Date,
}
EDGE_SCHEMA = {
    "parent_id": pl.String,
    "child_id": pl.String,
    "link_type": pl.String,
    "quantity": pl.Float64,
    "occurred_at": _INSTANT,
    "equipment_id": pl.String,
    "job_order_id": pl.String,
    "production_date": pl.Date,
}
DEFECT_SCHEMA = {
    "resource": pl.String,
    "record_id": pl.String,
    "kind": pl.String,
    "expected_reason": pl.String,
    "occurred_at": _INSTANT,
    "updated_at": _INSTANT,
    "production_date": pl.Date,
}

Made = tuple[pl.DataFrame, dict[str, pl.DataFrame]]


@dataclass(frozen=True, slots=True)
class _Bad:
    """An impossible record: what of a good one is changed, and why it is refused. ``ahead_s`` puts it into the future."""

    kind: str
    change: Row
    reason: str
    ahead_s: int = 0


_FUTURE = _Bad("future", {}, "occurred_at:AFTER_RECORDING", 7200)
_IMPOSSIBLE: dict[str, tuple[_Bad, ...]] = {
    "segment-events": (
        _Bad("unknown_station", {"station": UNKNOWN_STATION}, "equipment_id:UNKNOWN"),
        _Bad("unknown_operation", {"operation": UNKNOWN_OPERATION}, "segment_id:UNKNOWN"),
        _Bad("no_quantity", {"quantity": 0}, "quantity:NOT_ABOVE_0"),
        _FUTURE,
    ),
    "material-links": (
        _Bad("own_parent", {"parent": "SELF", "child": "SELF", "type": "consumed"}, "child_id:SELF_LINK"),
        _Bad("negative", {"quantity": -1.0}, "quantity:NOT_ABOVE_0"),
        _FUTURE,
    ),
}


def order_event_records(seed: int, schedule: DaySchedule) -> Made:
    """What happened to work orders on a date."""
    flow = day_flow(seed, schedule)
    events = sorted(flow.events, key=lambda each: (each.at, each.order, each.event))
    rows: list[Row] = [
        {
            "order": each.order,
            "event": each.event,
            "line": each.line,
            "product": each.product,
            "planned": each.planned,
            "_due": None if each.due is None else each.due * US,
            "reason": each.reason,
            "_at": each.at,
        }
        for each in events
    ]
    true = [
        (
            each.order,
            each.event,
            each.at * US,
            each.line,
            each.product,
            each.planned,
            None if each.due is None else each.due * US,
            each.reason,
            each.produced,
            each.scrapped,
            schedule.production_date,
        )
        for each in events
    ]
    records, defects = _sent("order-events", 0, seed, schedule, rows)
    return records, {"order_events": _truth(true, ORDER_EVENT_SCHEMA), **defects}


def segment_event_records(seed: int, schedule: DaySchedule) -> Made:
    """What happened to lots at operations on a date; truths: visits that ended on it, and the work in process at set times."""
    flow = day_flow(seed, schedule)
    first = int(schedule.start.timestamp())
    rows = [row for visit in flow.visits for row in _visit_events(visit) if first <= row["_at"] < first + schedule.seconds]
    rows.sort(key=lambda row: (row["_at"], row["item"], row["_place"]))
    records, defects = _sent("segment-events", 1, seed, schedule, rows)
    truths = {"segment_visits": _visits(flow, schedule), "wip_at": _wip(flow, schedule)}
    return records, {**truths, **defects}


def material_link_records(seed: int, schedule: DaySchedule) -> Made:
    """Which material went into which on a date."""
    links = sorted(day_flow(seed, schedule).links, key=lambda each: (each.at, each.child, each.parent))
    rows: list[Row] = [
        {
            "parent": each.parent,
            "child": each.child,
            "type": each.link,
            "quantity": each.quantity,
            "station": each.station,
            "order": each.order,
            "_at": each.at,
        }
        for each in links
    ]
    true = [(*each[:4], each.at * US, each.station, each.order, schedule.production_date) for each in links]
    records, defects = _sent("material-links", 2, seed, schedule, rows)
    return records, {"genealogy_edges": _truth(true, EDGE_SCHEMA), **defects}


def _visit_events(visit: Visit) -> list[Row]:
    """The events of a visit in their order; a queue has no station yet."""
    item, (operation, station) = visit.item, ROUTES[visit.line][visit.operation]
    sent, taken_up = visit.again_at or (None, None)
    told = [
        ("queued", visit.queued, item.quantity, None),
        ("started", visit.started, item.quantity, station),
        ("sent_to_rework", sent, visit.again, station),
        ("started", taken_up, visit.again, station),
        ("scrapped", visit.left, visit.scrapped, station),
        ("finished", visit.finished, visit.passed, station),
    ]
    return [
        {
            "item": item.item,
            "kind": "lot",
            "operation": operation,
            "station": where,
            "event": event,
            "quantity": quantity,
            "order": item.order,
            "product": item.product,
            "_at": at,
            "_place": place,
        }
        for place, (event, at, quantity, where) in enumerate(told)
        if at is not None and quantity
    ]


def _visits(flow: DayFlow, schedule: DaySchedule) -> pl.DataFrame:
    first = int(schedule.start.timestamp())
    rows = [
        (
            each.item.item,
            each.item.order,
            each.item.product,
            *ROUTES[each.line][each.operation],
            each.came * US,
            each.queued * US,
            (each.started or 0) * US,
            each.finished * US,
            each.item.quantity,
            each.passed,
            each.good,
            each.scrapped,
            each.reworked + each.again,
            schedule.production_date,
        )
        for each in flow.visits
        if each.finished is not None and first <= each.finished < first + schedule.seconds
    ]
    return _truth(rows, VISIT_SCHEMA)


def _wip(flow: DayFlow, schedule: DaySchedule) -> pl.DataFrame:
    """Items and parts that wait for an operation or are worked on, every two hours; what happens at that second counts.

    What is on its way to an operation waits for it already. Parts of a lot that are worked on once more wait, too.
    """
    first = int(schedule.start.timestamp())
    rows = []
    for at in range(first, first + schedule.seconds, WIP_EVERY_S):
        for line, route in ROUTES.items():
            for place, (operation, station) in enumerate(route):
                here = [each for each in flow.visits if each.line == line and each.operation == place and each.came <= at]
                queue = [each for each in here if each.started is None or each.started > at]
                busy = [each for each in here if (each.started or at + 1) <= at and (each.finished or at + 1) > at]
                gone = sum(each.scrapped for each in busy if each.left is not None and each.left <= at)
                again = [each.again for each in busy if each.again_at is not None and each.again_at[0] <= at < each.again_at[1]]
                waiting, working = (sum(each.item.quantity for each in some) for some in (queue, busy))
                back = sum(again)
                figures = (len(queue) + len(again), waiting + back, len(busy), working - gone - back)
                rows.append((at * US, operation, station, *figures, schedule.production_date))
    return _truth(rows, WIP_SCHEMA)


def _sent(resource: str, number: int, seed: int, schedule: DaySchedule, rows: list[Row]) -> Made:
    """Records in the order in which they are handed out, and the truth about the ones that are late, wrong or withdrawn."""
    rng = generator(seed, schedule.production_date, STREAM, number)
    day = f"{schedule.production_date:%y%m%d}"
    chosen = rng.permutation(len(rows)).tolist()
    few = 1 if len(rows) < FEW else 3
    late, wrong, copied = chosen[:few], chosen[few : 2 * few], chosen[2 * few : 2 * few + 1]
    sent: list[Row] = []
    defects: list[tuple[Any, ...]] = []

    def note(row: Row, kind: str, reason: str | None = None) -> None:
        instants = (row["_at"] * US, row["_us"])
        defects.append((resource, row["id"], kind, reason, *instants, schedule.production_date))

    for index, row in enumerate(rows):
        base = {**row, "id": f"{'OSL'[number]}{day}-{index:04d}", "rev": 1, "deleted": False, "_us": (row["_at"] + 3) * US}
        if index in late:
            base["_us"] += int(rng.integers(3600, 6 * 3600)) * US
            note(base, "late")
        if index in wrong:
            right = {**base, "rev": 2, "_us": base["_us"] + int(rng.integers(1200, 5400)) * US}
            base = {**base, **_mistake(resource, base, int(schedule.start.timestamp()))}
            sent.append(right)
            note(right, "corrected")
        sent.append(base)
    for place, index in enumerate(copied):
        copy = {**rows[index], "id": f"{'OSL'[number]}{day}-W{place}", "rev": 1, "deleted": False}
        copy["_us"] = (copy["_at"] + 40) * US
        gone = {**copy, "rev": 2, "deleted": True, "_us": copy["_us"] + int(rng.integers(600, 3600)) * US}
        sent.extend([copy, gone])
        note(gone, "withdrawn")
    for place, bad in enumerate(_IMPOSSIBLE.get(resource, ()) if len(rows) >= FEW else ()):
        row = {**rows[int(rng.integers(0, len(rows)))], **bad.change, "rev": 1, "deleted": False}
        row |= {"id": f"{'OSL'[number]}{day}-B{place}", "_us": (row["_at"] + 5) * US, "_at": row["_at"] + bad.ahead_s}
        # A record from the future must not bear another date than the one on which it was written.
        if row["_at"] < int(schedule.start.timestamp()) + schedule.seconds:
            sent.append(row)
            note(row, bad.kind, bad.reason)
    frame = pl.DataFrame(sent, schema={**SCHEMAS[resource], **_COMMON}, orient="row", strict=False)
    frame = frame.with_columns(pl.col("_at") * US)
    due = [iso("_due").alias("due")] if resource == "order-events" else []
    fields = [name for name in SCHEMAS[resource] if name != "_due"]
    return paged(frame, "id", "rev", *fields, iso("_at").alias("at"), *due, "deleted"), {
        "event_defects": _truth(defects, DEFECT_SCHEMA)
    }


_COMMON: dict[str, Any] = {"_at": pl.Int64, "id": pl.String, "rev": pl.Int64, "deleted": pl.Boolean, "_us": pl.Int64}


def _mistake(resource: str, row: Row, first: int) -> Row:
    """What the first revision of a corrected record says wrongly."""
    if resource == "order-events":
        return {"_at": row["_at"] - 120 if row["_at"] - 120 >= first else row["_at"] + 60}
    return {"quantity": row["quantity"] + 5}


def _truth(rows: list[tuple[Any, ...]], schema: dict[str, Any]) -> pl.DataFrame:
    raw = {name: pl.Int64 if dtype == _INSTANT else dtype for name, dtype in schema.items()}
    frame = pl.DataFrame(rows, schema=raw, orient="row")
    instants = [
        pl.col(name).cast(pl.Datetime("us")).dt.replace_time_zone("UTC") for name, dtype in schema.items() if dtype == _INSTANT
    ]
    return frame.with_columns(instants)


def order_lifecycle(events: pl.DataFrame) -> pl.DataFrame:
    """One row per order from its true events: when it passed each stage, for how long it was paused, and what it made."""

    def first(event: str, column: str) -> pl.Expr:
        return pl.col(column).filter(pl.col("event_type") == event).first()

    def paused(event: str) -> pl.Expr:
        return pl.col("occurred_at").filter(pl.col("event_type") == event).dt.epoch("s").sum()

    stages = ("released", "started", "completed", "closed", "cancelled")
    return (
        events.sort("occurred_at", "event_type")
        .group_by("job_order_id", "work_center_id")
        .agg(
            first("released", "material_definition_id"),
            first("released", "planned_quantity"),
            first("released", "due_at"),
            *(first(stage, "occurred_at").alias(f"{stage}_at") for stage in stages),
            paused_s=pl.when((pl.col("event_type") == "paused").sum() == (pl.col("event_type") == "resumed").sum()).then(
                paused("resumed") - paused("paused")
            ),
            pauses=(pl.col("event_type") == "paused").sum().cast(pl.Int64),
            lot_good_quantity=first("completed", "lot_good_quantity"),
            lot_scrapped_quantity=first("completed", "lot_scrapped_quantity"),
        )
        .with_columns(lateness_s=(pl.col("completed_at") - pl.col("due_at")).dt.total_seconds())
        .sort("job_order_id")
    )


EVENT_MAKERS: dict[str, Callable[[int, DaySchedule], Made]] = {
    "order-events": order_event_records,
    "segment-events": segment_event_records,
    "material-links": material_link_records,
}

"""Work in process: where every lot and part was, from the events at its operations.

An item's quantity at an operation is two balances: what waits (``queue``) and what is being worked on (``in_process``).
``queued`` and ``moved`` bring a quantity to the queue of the operation that they name, ``started`` takes it from there into
process, ``finished`` and ``scrapped`` take it out, ``sent_to_rework`` takes it out and puts it into the queue again, flagged.
Events may come in any order and more than once; what they lack is resolved by these rules, each named in a finding:

* an event that repeats another one in everything counts once (REPEATED);
* between a finish and its next operation an item waits for that operation: transport counts to the queue it leads to, and
  a start without a queue event is preceded by that queue; without a finish before it there was no wait;
* a finish without a start took no time in process; the quantity leaves the queue (MISSING_START);
* a finish of what has been finished and is not there counts nothing (DOUBLE_FINISH); a second start of a serial number
  that is in process counts nothing (DOUBLE_START);
* an item that turns up at another operation with its whole quantity has left where it was: a queue without remark, a
  process with MISSING_FINISH at that instant;
* what is scrapped at an operation where nothing of the item is known counts nothing (UNKNOWN_SCRAP).

So a balance is never negative; ``balance`` of a finding says how far below 0 it would have gone.
Of events at one instant those at the operation where the item was last come first, then by ``_RANK``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from spc_platform.contracts.orders import WIP_AGE, WIP_FINDING, WIP_FLOW, WIP_INTERVAL
from spc_platform.contracts.table import UTC
from spc_platform.production.intervals import seconds
from spc_platform.site.model import Site

AGE_EDGES_S = (0.0, 3600.0, 8 * 3600.0, 24 * 3600.0, 7 * 24 * 3600.0)
"""Lower edges of the ageing buckets: an hour, a shift, a day, a week."""
RULES = {
    "REPEATED": "counted once",
    "MISSING_START": "started and finished at the instant of the finish",
    "MISSING_FINISH": "finished when it turned up at another operation",
    "DOUBLE_START": "the first start counts",
    "DOUBLE_FINISH": "the first finish counts",
    "UNKNOWN_SCRAP": "not counted: nothing of the item was at the operation",
}
_RANK = {"queued": 0, "moved": 1, "started": 2, "finished": 3, "sent_to_rework": 4, "scrapped": 5}
_LEFT = "left"
_ARRIVALS, _DEPARTURES = ("queued", "moved"), ("finished", "scrapped", "sent_to_rework", _LEFT)
_CELL = ["item_id", "segment_id"]
_EVENT = [
    *_CELL,
    "item_kind",
    "equipment_id",
    "event_type",
    "occurred_at",
    "quantity",
    "job_order_id",
    "material_definition_id",
]
_DUST = 1e-9
"""Parts below this are rounding of fractional quantities."""


@dataclass(frozen=True, slots=True)
class WorkInProcess:
    """``intervals`` (WIP_INTERVAL) and ``findings`` (WIP_FINDING): what had to be assumed to come to them."""

    intervals: pl.DataFrame
    findings: pl.DataFrame


def work_in_process(events: pl.DataFrame, site: Site, as_of: datetime) -> WorkInProcess:
    """Where every item was until ``as_of`` (aware), from segment events in any order.

    ``events`` holds the columns of a segment event; later ones than ``as_of`` are ignored. The line of an operation is that
    of its work unit in the site's routings, else of the first work unit (by name) that its events mention.
    """
    known = events.select(_EVENT).filter(pl.col("occurred_at") <= pl.lit(as_of).cast(UTC))
    unique = known.unique()
    ordered = _with_departures(_ordered(unique))
    moves = _balanced(_moves(ordered))
    findings = pl.concat([_repeated(known), _findings(moves)])
    dated = findings.with_columns(
        rule=pl.col("finding").replace_strict(RULES, return_dtype=pl.String),
        production_date=site.production_date(pl.col("occurred_at")),
    )
    return WorkInProcess(_intervals(moves, known, site, as_of), WIP_FINDING.conform(dated))


def wip_at(events: pl.DataFrame, site: Site, at: datetime) -> pl.DataFrame:
    """What is where at ``at`` (aware): the intervals that hold the instant, with ``age_s`` since the item came there.

    Later events in ``events`` are used as well: they tell where an item was going. For the answer as it was known then,
    pass the events that were known (``event_log.as_known_at``).
    """
    last = events["occurred_at"].max()
    as_of = max(at, last) if isinstance(last, datetime) else at
    instant = pl.lit(at).cast(UTC)
    intervals = work_in_process(events, site, as_of).intervals
    here = intervals.filter((pl.col("start_at") <= instant) & ((pl.col("end_at") > instant) | pl.col("is_open")))
    return here.with_columns(age_s=seconds(instant - pl.col("entered_at")))


def wip_ages(here: pl.DataFrame, at: datetime, edges_s: tuple[float, ...] = AGE_EDGES_S) -> pl.DataFrame:
    """Sum ``wip_at`` per operation, place and age: WIP_AGE. ``edges_s`` are ascending lower edges, the first one 0."""
    edges = pl.DataFrame({"age_from_s": edges_s, "age_to_s": [*edges_s[1:], None]}, schema_overrides={"age_to_s": pl.Float64})
    aged = here.sort("age_s").join_asof(
        edges.sort("age_from_s"), left_on="age_s", right_on="age_from_s", check_sortedness=False
    )
    sums = aged.group_by("work_center_id", "segment_id", "place", "age_from_s", "age_to_s").agg(
        n_items=pl.col("item_id").n_unique(),
        quantity=pl.col("quantity").sort_by("item_id").sum(),
        oldest_s=pl.col("age_s").max(),
    )
    return WIP_AGE.conform(sums.with_columns(as_of=pl.lit(at).cast(UTC)))


def wip_over_time(intervals: pl.DataFrame) -> pl.DataFrame:
    """Parts per operation and place as a step function: work_center_id, segment_id, place, at, quantity, n_items.

    Each row holds from ``at`` until the next row of its operation and place.
    """
    steps = pl.concat(
        [
            intervals.select("work_center_id", "segment_id", "place", at="start_at", quantity="quantity", n_items=pl.lit(1)),
            intervals.filter(~pl.col("is_open")).select(
                "work_center_id", "segment_id", "place", at="end_at", quantity=-pl.col("quantity"), n_items=pl.lit(-1)
            ),
        ]
    )
    place = ["work_center_id", "segment_id", "place"]
    summed = steps.group_by(*place, "at").agg(pl.col("quantity").sort().sum(), pl.col("n_items").sum()).sort(*place, "at")
    level = pl.col("quantity", "n_items").cum_sum().over("segment_id", "place")
    return summed.with_columns(level)


def wip_flow(intervals: pl.DataFrame, start: datetime, end: datetime) -> pl.DataFrame:
    """Check Little's law on each line over the period [start, end) (aware): WIP_FLOW.

    An item is on a line from its first to its last interval there; it departs at the end of the last one unless that is
    open. With part-seconds V: L·T = ΣV(departed) - V(departed, before the period) + V(not departed, within the period), an
    identity; over a period in which the line begins and ends empty both edge terms are 0 and L = λW exactly
    (Little 1961, Operations Research 9(3); the sample-path form of Stidham 1974).
    """
    first, last = pl.lit(start).cast(UTC), pl.lit(end).cast(UTC)
    length = (end - start).total_seconds()
    known = intervals.drop_nulls("work_center_id").filter(pl.col("start_at") < last)
    whole = pl.col("quantity") * seconds(pl.col("end_at") - pl.col("start_at"))
    begin, finish = pl.max_horizontal("start_at", first), pl.min_horizontal("end_at", last)
    inside = pl.when(finish > begin).then(pl.col("quantity") * seconds(finish - begin)).otherwise(0.0)
    early = pl.when(pl.col("start_at") < first).then(
        pl.col("quantity") * seconds(pl.min_horizontal("end_at", first) - pl.col("start_at"))
    )
    still = intervals.group_by("item_id", "work_center_id").agg(_left_at=pl.col("end_at").max(), _open=pl.col("is_open").any())
    items = (
        known.sort("item_id", "start_at", "segment_id", "place")
        .group_by("item_id", "work_center_id", maintain_order=True)
        .agg(whole=whole.sum(), inside=inside.sum(), early=early.fill_null(0.0).sum())
        .join(still, on=["item_id", "work_center_id"])
        .join(_most(intervals), on=["item_id", "work_center_id"])
        .filter(pl.col("_open") | (pl.col("_left_at") > first))
        .with_columns(_gone=~pl.col("_open") & (pl.col("_left_at") <= last))
        .sort("work_center_id", "item_id")
    )
    gone = pl.col("_gone")
    sums = items.group_by("work_center_id", maintain_order=True).agg(
        mean_wip=pl.col("inside").sum() / length,
        n_items=gone.sum().cast(pl.Int64),
        departed=pl.col("most").filter(gone).sum(),
        _spent=pl.col("whole").filter(gone).sum(),
        before_wip=pl.col("early").filter(gone).sum() / length,
        unfinished_wip=pl.col("inside").filter(~gone).sum() / length,
    )
    flow = sums.with_columns(
        throughput_per_s=pl.col("departed") / length,
        mean_flow_time_s=pl.when(pl.col("departed") > 0).then(pl.col("_spent") / pl.col("departed")),
    ).with_columns(little_wip=pl.col("throughput_per_s") * pl.col("mean_flow_time_s").fill_null(0.0))
    residual = pl.col("mean_wip") - (pl.col("little_wip") - pl.col("before_wip") + pl.col("unfinished_wip"))
    return WIP_FLOW.conform(flow.with_columns(residual=residual, from_at=first, to_at=last))


def _most(intervals: pl.DataFrame) -> pl.DataFrame:
    """The most parts of an item that were on a line at once: the parts that pass it with the item."""
    key = ["item_id", "work_center_id"]
    steps = pl.concat(
        [intervals.select(*key, at="start_at", step="quantity"), intervals.select(*key, at="end_at", step=-pl.col("quantity"))]
    )
    summed = steps.group_by(*key, "at").agg(pl.col("step").sort().sum()).sort(*key, "at")
    return summed.with_columns(pl.col("step").cum_sum().over(key)).group_by(key).agg(most=pl.col("step").max())


# --- from events to moves


def _ordered(events: pl.DataFrame) -> pl.DataFrame:
    """Events of each item in their order, numbered by ``_n``, with the item's event before."""
    times = events.select(*_CELL, "occurred_at").unique()
    here = times.with_columns(_here=pl.col("occurred_at").shift(1).over(_CELL, order_by="occurred_at"))
    rank = pl.col("event_type").replace_strict(_RANK, return_dtype=pl.Int64)
    ordered = (
        events.join(here, on=[*_CELL, "occurred_at"])
        .with_columns(_rank=rank)
        .sort(
            ["item_id", "occurred_at", "_here", "segment_id", "_rank", "quantity", "equipment_id", "job_order_id"],
            descending=[False, False, True, False, False, False, False, False],
            nulls_last=True,
        )
    )
    before = [
        pl.col(name).shift(1).over("item_id").alias(f"_{name}")
        for name in ("segment_id", "event_type", "occurred_at", "quantity")
    ]
    filled = [pl.col(name).forward_fill().over("item_id") for name in ("job_order_id", "material_definition_id")]
    return ordered.with_columns(*before, *filled, _n=pl.int_range(pl.len(), dtype=pl.Int64) * 10)


def _with_departures(ordered: pl.DataFrame) -> pl.DataFrame:
    """Add a departure from where an item was before each event that finds all of it at another operation."""
    elsewhere = pl.col("_segment_id") != pl.col("segment_id")
    was_there = pl.col("_event_type").is_in([*_ARRIVALS, "started", "sent_to_rework"])
    all_of_it = (pl.col("item_kind") == "serial") | (pl.col("quantity") >= pl.col("_quantity"))
    added = ordered.filter(elsewhere & was_there & all_of_it).with_columns(
        segment_id="_segment_id",
        quantity="_quantity",
        event_type=pl.lit(_LEFT),
        _n=pl.col("_n") - 5,
    )
    return pl.concat([ordered, added]).sort("_n")


def _moves(events: pl.DataFrame) -> pl.DataFrame:
    """Split events into moves: ``arrive``, ``start`` and ``depart`` are quantities; rework departs first and then arrives.

    ``_came_at`` is when an arrival began to wait: when the item was finished before, else at the event.
    """
    kind, quantity = pl.col("event_type"), pl.col("quantity")
    came = pl.when(pl.col("_event_type") == "finished").then("_occurred_at").otherwise("occurred_at")
    base = events.with_columns(
        arrive=pl.when(kind.is_in(_ARRIVALS)).then(quantity).otherwise(0.0),
        start=pl.when(kind == "started").then(quantity).otherwise(0.0),
        depart=pl.when(kind.is_in(_DEPARTURES)).then(quantity).otherwise(0.0),
        _came_at=came,
    )
    again = events.filter(kind == "sent_to_rework").with_columns(
        arrive=quantity, start=pl.lit(0.0), depart=pl.lit(0.0), _came_at=pl.col("occurred_at"), _n=pl.col("_n") + 1
    )
    whole = pl.concat([base, again]).sort("_n")
    cells = whole.select(_CELL).unique(maintain_order=True).with_row_index("_cell")
    return whole.join(cells, on=_CELL, how="left", maintain_order="left")


def _short(steps: pl.Expr) -> pl.Expr:
    """What each step lacks so that the running balance of its cell never falls below 0 (reflection at 0)."""
    lowest = steps.cum_sum().cum_min().clip(upper_bound=0.0)
    return (lowest.shift(1, fill_value=0.0) - lowest).over("_cell")


def _balanced(moves: pl.DataFrame) -> pl.DataFrame:
    """Moves with what they lacked: ``_from_queue`` left the queue without a start, ``_unknown`` was nowhere."""
    dust = pl.col("quantity") * _DUST
    first = moves.with_columns(
        _lacks_queue=_short(pl.col("arrive") - pl.col("start")),
        _process=_running(pl.col("start") - pl.col("depart")),
    ).with_columns(_before=pl.col("_process").shift(1, fill_value=0.0).over("_cell"))
    twice = (
        (pl.col("item_kind") == "serial") & (pl.col("start") > 0) & (pl.col("_lacks_queue") > dust) & (pl.col("_before") > dust)
    )
    started = first.with_columns(_twice=twice, start=pl.when(twice).then(0.0).otherwise("start"))
    worked = started.with_columns(_lacks=_short(pl.col("start") - pl.col("depart")))
    queued = worked.with_columns(_lacks_queue=_short(pl.col("arrive") - pl.col("start") - pl.col("_lacks")))
    departs = pl.col("depart") > 0
    return queued.with_columns(
        _unknown=pl.when(departs).then("_lacks_queue").otherwise(0.0),
        _implied=pl.when(departs).then(0.0).otherwise("_lacks_queue"),
        _from_queue=pl.when(departs).then(pl.col("_lacks") - pl.col("_lacks_queue")).otherwise(0.0),
        _was_finished=(pl.col("event_type") == "finished").cast(pl.Int64).cum_sum().shift(1, fill_value=0).over("_cell") > 0,
    )


def _running(steps: pl.Expr) -> pl.Expr:
    """The running balance of each cell, held at 0 where it would fall below."""
    total = steps.cum_sum()
    return (total - total.cum_min().clip(upper_bound=0.0)).over("_cell")


# --- from moves to findings and intervals

_FINDING = [*_CELL, "occurred_at", "event_type", "finding", "quantity", "balance"]


def _repeated(events: pl.DataFrame) -> pl.DataFrame:
    repeated = events.group_by(_EVENT).len().filter(pl.col("len") > 1)
    return repeated.with_columns(finding=pl.lit("REPEATED"), balance=pl.lit(None, pl.Float64)).select(_FINDING).unique()


def _findings(moves: pl.DataFrame) -> pl.DataFrame:
    kind, dust = pl.col("event_type"), pl.col("quantity") * _DUST
    unknown, from_queue = pl.col("_unknown"), pl.col("_from_queue")
    finished = kind == "finished"
    found = {
        "MISSING_START": (
            finished & ((from_queue > dust) | ((unknown > dust) & ~pl.col("_was_finished"))),
            pl.when(pl.col("_was_finished")).then(from_queue).otherwise(from_queue + unknown),
        ),
        "DOUBLE_FINISH": (finished & (unknown > dust) & pl.col("_was_finished"), unknown),
        "DOUBLE_START": (pl.col("_twice"), pl.col("quantity")),
        "MISSING_FINISH": (
            (kind == _LEFT) & (pl.col("_event_type") == "started") & (pl.col("depart") - pl.col("_lacks") > dust),
            pl.col("quantity"),
        ),
        "UNKNOWN_SCRAP": ((kind == "scrapped") & (unknown > dust) & ~pl.col("_was_finished"), unknown),
    }
    frames = [
        moves.filter(holds).with_columns(finding=pl.lit(name), quantity=quantity) for name, (holds, quantity) in found.items()
    ]
    every = pl.concat(frames).group_by(*_CELL, "occurred_at", "event_type", "finding").agg(pl.col("quantity").sort().sum())
    negative = ~pl.col("finding").is_in(["DOUBLE_START", "MISSING_FINISH"])
    return every.with_columns(balance=pl.when(negative).then(-pl.col("quantity"))).select(_FINDING)


def _intervals(moves: pl.DataFrame, events: pl.DataFrame, site: Site, as_of: datetime) -> pl.DataFrame:
    """Constant stretches of both balances of each cell."""
    now = pl.lit(as_of).cast(UTC)
    label = ["item_kind", "job_order_id", "material_definition_id", "_n"]

    def steps(place: str, at: str, step: pl.Expr) -> pl.DataFrame:
        return moves.select(*_CELL, *label, place=pl.lit(place), at=at, step=step).filter(pl.col("step") != 0)

    every = pl.concat(
        [
            steps("queue", "_came_at", pl.col("arrive") + pl.col("_implied")),
            steps("queue", "occurred_at", -pl.col("start") - pl.col("_from_queue")),
            steps("in_process", "occurred_at", pl.col("start") - (pl.col("depart") - pl.col("_lacks"))),
        ]
    )
    where = [*_CELL, "place"]
    summed = (
        every.sort("_n")
        .group_by(*where, "at", maintain_order=True)
        .agg(pl.col("step").sum(), *(pl.col(name).last() for name in label))
        .sort(*where, "at")
        .with_columns(quantity=pl.col("step").cum_sum().over(where), end_at=pl.col("at").shift(-1).over(where))
    )
    there = pl.col("quantity") > _DUST
    runs = summed.with_columns(_run=(there & ~there.shift(1, fill_value=False).over(where)).cum_sum().over(where))
    stays = runs.filter(there).with_columns(entered_at=pl.col("at").first().over([*where, "_run"]))
    reworked = (
        moves.filter(pl.col("event_type") == "sent_to_rework").group_by("item_id").agg(_rework_at=pl.col("occurred_at").min())
    )
    whole = (
        stays.join(reworked, on="item_id", how="left")
        .join(_lines(events, site), on="segment_id", how="left")
        .with_columns(
            start_at=pl.col("at"),
            is_open=pl.col("end_at").is_null(),
            end_at=pl.col("end_at").fill_null(now),
            is_rework=(pl.col("_rework_at") <= pl.col("at")).fill_null(value=False),
            as_of=now,
            production_date=site.production_date(pl.col("at")),
        )
    )
    return WIP_INTERVAL.conform(whole)


def _lines(events: pl.DataFrame, site: Site) -> pl.DataFrame:
    """segment_id -> work_center_id."""
    named = pl.concat(
        [
            site["routings"].select("segment_id", "equipment_id", _order=pl.lit(0)),
            events.select("segment_id", "equipment_id", _order=pl.lit(1)),
        ]
    ).drop_nulls()
    return (
        named.join(site.work_centers(), on="equipment_id")
        .sort("_order", "equipment_id")
        .unique("segment_id", keep="first", maintain_order=True)
        .select("segment_id", "work_center_id")
    )

"""Work orders as their events tell them: lifecycle, quantities at the last operation, lateness, lead time.

Events of an order are taken in the order (occurred_at, lifecycle): it does not matter when or how often they arrive.

* An event that repeats the one before it counts once (``REPEATED:started``).
* ``TRANSITIONS`` lists what may follow what. Anything else is named (``ILLEGAL:completed>started``); it still counts when it
  leads further in the lifecycle (``STAGE``), since then events before it are missing, and changes nothing when it leads back.
* ``MISSING:released`` and ``MISSING:started`` name what a later stage presupposes. A missing start is replaced by the first
  count of the order (``started_at`` is then that instant).
* Events after ``as_of`` are not known yet. A correction is a later revision of its record: pass current revisions.
"""

from __future__ import annotations

from datetime import datetime

import polars as pl

from spc_platform.contracts.operations import ORDER_EVENTS
from spc_platform.contracts.orders import WORK_ORDER_STATUS
from spc_platform.contracts.table import UTC
from spc_platform.production.intervals import seconds
from spc_platform.site.model import Site

TRANSITIONS: tuple[tuple[str, str, str], ...] = (
    ("unknown", "released", "released"),
    ("released", "started", "running"),
    ("running", "paused", "paused"),
    ("paused", "resumed", "running"),
    ("running", "completed", "completed"),
    ("paused", "completed", "completed"),
    ("completed", "closed", "closed"),
    ("released", "cancelled", "cancelled"),
    ("running", "cancelled", "cancelled"),
    ("paused", "cancelled", "cancelled"),
    ("cancelled", "closed", "closed"),
)
"""What may happen to an order: (state, event, state afterwards)."""
STATE_AFTER = {event: after for _, event, after in TRANSITIONS}
STAGE = {"released": 0, "started": 1, "paused": 1, "resumed": 1, "completed": 2, "cancelled": 2, "closed": 3}
"""How far in the lifecycle an event leads; within stage 1 an order goes to and fro."""
_FINAL = ("completed", "cancelled", "closed")
_ORDER = "job_order_id"


def counting_points(site: Site, at: datetime) -> pl.DataFrame:
    """material_definition_id -> equipment_id: the last work unit of each product's route in force at ``at``."""
    last = (
        site.routings_at(at).sort("sequence", "segment_id").unique("material_definition_id", keep="last", maintain_order=True)
    )
    return last.select("material_definition_id", "equipment_id")


def work_order_status(
    events: pl.DataFrame, counts: pl.DataFrame, downtime: pl.DataFrame, points: pl.DataFrame, as_of: datetime
) -> pl.DataFrame:
    """One row per order that has events up to ``as_of`` (aware): WORK_ORDER_STATUS.

    ``events``: work_order_event, ``counts``: production_count, ``downtime``: DOWNTIME_EVENT, each of all dates on which the
    orders were alive. ``points`` (``counting_points``) says per product where an order's parts count; a product without one
    counts at every work unit that states the order (``NO_COUNTING_POINT``). Lateness is completion (else closing, else
    ``as_of``) minus due. Other codes in data_quality: OVERPRODUCED, NO_DUE, NO_PLAN, COUNT_BEFORE_START, COUNT_AFTER_END.
    """
    known = events.filter(pl.col("occurred_at") <= _moment(as_of))
    judged = _judged(known)
    stated = _stated(known)
    orders = judged.group_by(_ORDER).agg(*_times(as_of), *_findings(), state=pl.col("_state").last())
    orders = orders.join(stated, on=_ORDER, how="left").join(known.group_by(_ORDER).agg(n_events=pl.len()), on=_ORDER)
    orders = orders.join(_quantities(stated, counts, points, as_of), on=_ORDER, how="left")
    begun = orders.with_columns(
        _no_start=pl.col("started_at").is_null() & (pl.col("state").is_in(["completed", "closed", "paused", "running"])),
        started_at=pl.coalesce("started_at", "_first_count"),
    )
    timed = begun.with_columns(_durations(as_of))
    stops = _stops(timed, downtime, points)
    whole = timed.join(stops, on=_ORDER, how="left").with_columns(pl.col("stop_s").fill_null(0.0), *_counted())
    return WORK_ORDER_STATUS.conform(
        whole.with_columns(
            is_late=(pl.col("lateness_s") > 0).fill_null(value=False), data_quality=_data_quality(), as_of=_moment(as_of)
        )
    )


def _moment(at: datetime) -> pl.Expr:
    return pl.lit(at).cast(UTC)


def _stated(events: pl.DataFrame) -> pl.DataFrame:
    """What the newest event that says so says of each order."""
    names = ("work_center_id", "material_definition_id", "planned_quantity", "due_at")
    said = [pl.col(name).sort_by("occurred_at", name).drop_nulls().last() for name in names]
    return events.group_by(_ORDER).agg(said)


def _judged(events: pl.DataFrame) -> pl.DataFrame:
    """Events in order, with the order's state before and after each, and whether it repeats, counts and is legal."""
    by_order = pl.col("event_type").replace_strict({name: n for n, name in enumerate(ORDER_EVENTS)}, return_dtype=pl.Int64)
    stage = pl.col("event_type").replace_strict(STAGE, return_dtype=pl.Int64)
    after = pl.col("event_type").replace_strict(STATE_AFTER, return_dtype=pl.String)
    ordered = (
        events.select(_ORDER, "event_type", "occurred_at")
        .with_columns(_stage=stage, _rank=by_order, _after=after)
        .sort(_ORDER, "occurred_at", "_stage", "_rank")
        .with_columns(_repeats=(pl.col("event_type") == pl.col("event_type").shift(1)).over(_ORDER).fill_null(value=False))
    )
    reached = pl.col("_stage").cum_max().shift(1).over(_ORDER)
    onward = reached.is_null() | (pl.col("_stage") > reached) | ((pl.col("_stage") == reached) & (pl.col("_stage") == 1))
    counted = ordered.with_columns(_counts=onward & ~pl.col("_repeats"))
    state = pl.when("_counts").then("_after").forward_fill().over(_ORDER)
    stated = counted.with_columns(_state=state).with_columns(
        _before=pl.col("_state").shift(1).over(_ORDER).fill_null("unknown")
    )
    allowed = pl.DataFrame(TRANSITIONS, schema=["_before", "event_type", "_to"], orient="row").select(
        "_before", "event_type", _legal=pl.lit(value=True)
    )
    return stated.join(allowed, on=["_before", "event_type"], how="left", maintain_order="left")


def _times(as_of: datetime) -> list[pl.Expr]:
    counts = pl.col("_counts")
    at = pl.col("occurred_at").filter(counts)
    kind = pl.col("event_type").filter(counts)
    begun = {
        "released_at": at.filter(kind == "released").first(),
        "started_at": at.filter(kind == "started").first(),
        "completed_at": at.filter(kind == "completed").last(),
        "closed_at": at.filter(kind == "closed").last(),
        "cancelled_at": at.filter(kind == "cancelled").last(),
        "_end_at": at.filter(kind.is_in(_FINAL)).first(),
    }
    following = at.shift(-1).fill_null(_moment(as_of))
    paused = (following - at).filter(pl.col("_state").filter(counts) == "paused").sum()
    return [*(expr.alias(name) for name, expr in begun.items()), seconds(paused).alias("paused_s")]


def _findings() -> list[pl.Expr]:
    """Codes of repeated and illegal events, and whether a stage was passed without its event."""
    repeated = pl.format("REPEATED:{}", "event_type").filter("_repeats").unique().sort()
    wrong = (
        pl.col("_legal").is_null()
        & ~pl.col("_repeats")
        & ~((pl.col("_before") == "unknown") & (pl.col("event_type") != "released"))
    )
    illegal = pl.format("ILLEGAL:{}>{}", "_before", "event_type").filter(wrong).unique().sort()
    return [
        repeated.implode().list.join(";").alias("_repeated"),
        illegal.implode().list.join(";").alias("_illegal"),
        (~(pl.col("event_type") == "released").any()).alias("_no_release"),
    ]


def _quantities(stated: pl.DataFrame, counts: pl.DataFrame, points: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    """Parts of each order at its counting point, scrap before it, and when the first and last were counted."""
    kinds = ("good", "scrap", "rework")
    known = counts.filter(pl.col("counted_at") <= _moment(as_of)).select(
        _ORDER, "equipment_id", "counted_at", *(pl.col(f"{kind}_quantity").alias(kind) for kind in kinds)
    )
    placed = stated.select(_ORDER, "material_definition_id").join(
        points.rename({"equipment_id": "_point"}), on="material_definition_id", how="left"
    )
    here = pl.col("_point").is_null() | (pl.col("equipment_id") == pl.col("_point"))
    sums = (
        placed.join(known, on=_ORDER, how="left")
        .group_by(_ORDER)
        .agg(
            *(pl.col(kind).filter(here).sum() for kind in kinds),
            upstream_scrap=pl.col("scrap").filter(~here).sum(),
            _first_count=pl.col("counted_at").min(),
            _last_count=pl.col("counted_at").max(),
            _no_point=pl.col("_point").is_null().any(),
        )
    )
    return sums.with_columns(produced=pl.col("good") + pl.col("scrap") + pl.col("rework"))


def _durations(as_of: datetime) -> list[pl.Expr]:
    now = _moment(as_of)
    done = pl.coalesce("completed_at", "closed_at")
    is_cancelled = pl.col("cancelled_at").is_not_null() & pl.col("completed_at").is_null()
    end = pl.coalesce("_end_at", now)
    return [
        seconds(pl.coalesce("started_at", end) - pl.col("released_at")).alias("wait_s"),
        (seconds(end - pl.col("started_at")) - pl.col("paused_s")).alias("run_s"),
        pl.when(~is_cancelled).then(seconds(done - pl.col("released_at"))).alias("lead_time_s"),
        pl.when(~is_cancelled).then(seconds(pl.coalesce(done, now) - pl.col("due_at"))).alias("lateness_s"),
        end.alias("_until"),
    ]


def _stops(orders: pl.DataFrame, downtime: pl.DataFrame, points: pl.DataFrame) -> pl.DataFrame:
    """Seconds of unplanned stops of the counting point while each order ran."""
    runs = (
        orders.select(_ORDER, "material_definition_id", "started_at", "_until")
        .drop_nulls()
        .join(points, on="material_definition_id")
    )
    stops = downtime.filter(pl.col("stop_class") != "planned").select(_unit="equipment_id", _from="start_at", _to="end_at")
    overlapping = runs.join_where(
        stops,
        pl.col("equipment_id") == pl.col("_unit"),
        pl.col("_from") < pl.col("_until"),
        pl.col("_to") > pl.col("started_at"),
    )
    shared = pl.min_horizontal("_to", "_until") - pl.max_horizontal("_from", "started_at")
    return overlapping.group_by(_ORDER).agg(stop_s=seconds(shared.sum()))


def _counted() -> list[pl.Expr]:
    good, produced = pl.col("good"), pl.col("produced")
    whole = produced + pl.col("upstream_scrap")
    return [
        pl.when(produced > 0).then(good / produced).alias("yield_ratio"),
        pl.when(whole > 0).then(good / whole).alias("rolled_yield_ratio"),
    ]


def _data_quality() -> pl.Expr:
    codes = {
        "MISSING:released": pl.col("_no_release"),
        "MISSING:started": pl.col("_no_start"),
        "NO_PLAN": pl.col("planned_quantity").is_null(),
        "NO_DUE": pl.col("due_at").is_null(),
        "NO_COUNTING_POINT": pl.col("_no_point"),
        "COUNT_BEFORE_START": pl.col("_first_count") < pl.col("started_at"),
        "COUNT_AFTER_END": pl.col("_last_count") > pl.col("_until"),
        "OVERPRODUCED": pl.col("produced") > pl.col("planned_quantity"),
    }
    named = [pl.when(holds.fill_null(value=False)).then(pl.lit(code)) for code, holds in codes.items()]
    listed = [pl.when(pl.col(name) != "").then(name) for name in ("_repeated", "_illegal")]
    joined = pl.concat_str([*listed, *named], separator=";", ignore_nulls=True)
    return pl.when(joined != "").then(joined)

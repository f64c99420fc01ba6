"""What each work unit did: state events resolved into intervals that partition planned operation time.

Intervals are half-open in UTC. An event lasts until its own end, else until the next event of the work unit
begins, else until ``as_of``; one that ends as it begins takes no time and ends no other. Where events overlap
the state of higher priority is in force, then the later start, then the higher record id. A gap is UNKNOWN,
neither run nor stop. A stop is classified on the whole event and only then split, so a shift edge never turns
a breakdown into two micro stops.

A record that was refused is still a word of its work unit: it ends the open state before it, and until the next
record the state is UNKNOWN, with the rules that it broke in ``unknown_reason``. Records whose work unit or time is
itself in doubt end nothing.

Planned downtime comes from the calendar alone: a state or reason that claims PDT outside it counts as delay
(ADET), because relabelling a stop afterwards must not raise OEE.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta

import polars as pl

from spc_platform.contracts.production import DOWNTIME_EVENT, STATE_INTERVAL
from spc_platform.contracts.table import UTC
from spc_platform.production.calendar import assign_shift, operation_time, planned_downtime, shift_calendar
from spc_platform.production.intervals import cover, cut, merge, seconds, subtract
from spc_platform.site.model import Site

UNKNOWN = "UNKNOWN"
STOP_ELEMENTS = ("ADET", "AUST", "ADOT")

_EVENT_COLUMNS = [
    "event_id",
    "state",
    "reason_code",
    "time_element",
    "stop_class",
    "event_duration_s",
    "is_open",
    "unknown_reason",
]
_DOUBTFUL = r"(^|;)(equipment_id|start_at):"
"""Reasons of a refused record that leave its work unit or its time in doubt."""


def state_intervals(
    equipment_state: pl.DataFrame,
    work_order: pl.DataFrame,
    site: Site,
    production_date: date,
    as_of: datetime,
    refused: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Partition the planned operation time of every work unit on a production date into states: STATE_INTERVAL.

    ``equipment_state`` and ``work_order`` are core tables, ``refused`` is EQUIPMENT_STATE_REJECTED of
    the same dates. State records count that began on the date,
    on ``policies.state_carry_days`` dates before it or on the date after it; others are ignored, so
    the answer does not depend on how much more is passed. An order without an end runs until the next
    order of its line begins; of two orders at once the later one names the product. Pieces are split
    at shift, planned-downtime and product edges and add up to the operation time exactly, up to
    ``as_of`` (aware). Rules: DOMAIN section 5, after ISO 22400-2.
    """
    events = _events(equipment_state, site, production_date, as_of, refused)
    orders = _orders(work_order, site, as_of)
    planned = planned_downtime(site, production_date, production_date).with_row_index("_planned")
    shifts = operation_time(site, production_date, production_date)
    shifts = shifts.with_columns(end_at=pl.min_horizontal("end_at", _moment(as_of)))
    events = _within(events, shifts)
    pieces = cut(shifts, planned, orders, events)
    pieces = cover(pieces, planned, "_planned", ["_planned"])
    pieces = cover(pieces, orders, "_order", ["material_definition_id"])
    pieces = cover(pieces, events, "_event", _EVENT_COLUMNS)
    is_planned = pl.col("_planned").is_not_null()
    known = pl.col("event_id").is_not_null()
    classified = pieces.with_columns(
        state=pl.col("state").fill_null(UNKNOWN),
        time_element=pl.when(is_planned).then(pl.lit("PDT")).otherwise(pl.col("time_element").fill_null(UNKNOWN)),
        stop_class=pl.when(is_planned).then(pl.lit("planned")).when(known).then("stop_class").otherwise(pl.lit("unknown")),
        is_open=pl.col("is_open").fill_null(value=False),
    ).drop("_planned")
    whole = merge(classified)
    return STATE_INTERVAL.conform(
        whole.with_columns(duration_s=seconds(pl.col("end_at") - pl.col("start_at")), as_of=_moment(as_of))
    )


def downtime_events(
    equipment_state: pl.DataFrame, site: Site, production_date: date, as_of: datetime, refused: pl.DataFrame | None = None
) -> pl.DataFrame:
    """List the stops that began on a production date, one row per event: DOWNTIME_EVENT.

    A stop is an event whose element, by its reason or else its state, is ADET, AUST, ADOT or PDT; lengths
    are those of the records, before overlaps are resolved and calendars applied. One that takes no
    planned busy time (a break that the calendar knows, a night without shift) has stop_class planned.
    ``shift_id`` is the shift in which it began, null outside all shifts. ``refused`` as for ``state_intervals``.
    """
    events = _events(equipment_state, site, production_date, as_of, refused)
    began = site.production_date(pl.col("start_at")) == production_date
    stops = events.filter(began & pl.col("time_element").is_in(STOP_ELEMENTS))
    costs = pl.col("_event").is_in(_unplanned(stops, site, production_date).implode())
    stops = stops.with_columns(
        stop_class=pl.when(costs).then("stop_class").otherwise(pl.lit("planned")),
        time_element=pl.when(costs | ~pl.col("_claims_planned")).then("time_element").otherwise(pl.lit("PDT")),
    )
    stops = assign_shift(stops, "start_at", shift_calendar(site, production_date, production_date))
    losses = site["reasons"].select("reason_code", "loss_category")
    return DOWNTIME_EVENT.conform(
        stops.join(losses, on="reason_code", how="left")
        .join(site.work_centers(), on="equipment_id")
        .with_columns(
            duration_s=pl.col("event_duration_s"), as_of=_moment(as_of), production_date=pl.lit(production_date, dtype=pl.Date)
        )
    )


def _unplanned(events: pl.DataFrame, site: Site, production_date: date) -> pl.Series:
    """Find the events that take planned busy time: operation time that is not planned downtime."""
    last = production_date + timedelta(days=site.policies.state_carry_days + 1)
    span = ["equipment_id", "start_at", "end_at"]
    busy = subtract(operation_time(site, production_date, last).select(span), planned_downtime(site, production_date, last))
    return (
        events.select("_event", *span)
        .sort("end_at")
        .join_asof(
            busy.rename({"start_at": "_start", "end_at": "_end"}).sort("_start"),
            left_on="end_at",
            right_on="_start",
            by="equipment_id",
            strategy="backward",
            allow_exact_matches=False,
            check_sortedness=False,
        )
        .filter(pl.col("_end") > pl.col("start_at"))["_event"]
    )


def _within(events: pl.DataFrame, shifts: pl.DataFrame) -> pl.DataFrame:
    """Drop the events that reach into none of the shifts: most of the dates that are carried."""
    begin, end = (pl.lit(moment).cast(UTC) for moment in (shifts["start_at"].min(), shifts["end_at"].max()))
    return events.filter((pl.col("start_at") < end) & (pl.col("end_at") > begin))


def _moment(at: datetime) -> pl.Expr:
    return pl.lit(at).cast(UTC)


def _records(equipment_state: pl.DataFrame, refused: pl.DataFrame | None) -> pl.DataFrame:
    """Accepted records, with those that were refused but name a work unit and a time; of these ``unknown_reason`` is set."""
    columns = ["source_id", "record_id", "equipment_id", "state", "reason_code", "start_at", "end_at"]
    accepted = equipment_state.select(*columns, unknown_reason=pl.lit(None, pl.String))
    if refused is None:
        return accepted
    credible = refused.filter(
        ~pl.col("reasons").str.contains(_DOUBTFUL) & pl.col("equipment_id").is_not_null() & pl.col("start_at").is_not_null()
    )
    told = credible.select(*columns, unknown_reason="reasons").with_columns(
        state=pl.lit(UNKNOWN),
        reason_code=pl.lit(None, pl.String),
        end_at=pl.when(pl.col("end_at") >= pl.col("start_at")).then("end_at"),
    )
    return pl.concat([accepted, told.cast(accepted.schema)])


def _events(
    equipment_state: pl.DataFrame, site: Site, production_date: date, as_of: datetime, refused: pl.DataFrame | None
) -> pl.DataFrame:
    """Events with their resolved end, class and ``_event``, the rank that decides overlaps (unique)."""
    policies = site.policies
    first = production_date - timedelta(days=policies.state_carry_days)
    last = production_date + timedelta(days=1)
    began = site.production_date(pl.col("start_at"))
    records = _records(equipment_state, refused).filter(
        began.is_between(first, last)
        & (pl.col("start_at") < _moment(as_of))
        & (pl.col("end_at").is_null() | (pl.col("end_at") > pl.col("start_at")))
    )
    followers = (
        records.select("equipment_id", "start_at")
        .unique()
        .with_columns(_next=pl.col("start_at").shift(-1).over("equipment_id", order_by="start_at"))
    )
    reasons = site["reasons"].select("reason_code", _override="time_element")
    was_refused = pl.col("unknown_reason").is_not_null()
    end = pl.when(was_refused).then(pl.min_horizontal("end_at", "_next")).otherwise(pl.coalesce("end_at", "_next"))
    claimed = pl.when(was_refused).then(pl.lit(UNKNOWN)).otherwise(pl.coalesce("_override", "_element", pl.lit(UNKNOWN)))
    resolved = (
        records.join(followers, on=["equipment_id", "start_at"], how="left")
        .join(_site_states(site), on="state", how="left")
        .join(reasons, on="reason_code", how="left")
        .with_columns(
            event_id=pl.concat_str("source_id", pl.lit(":"), "record_id"),
            end_at=pl.min_horizontal(end.fill_null(_moment(as_of)), _moment(as_of)),
            is_open=end.is_null() | (end > _moment(as_of)),
            time_element=claimed.replace({"PDT": "ADET"}),
            _claims_planned=claimed == "PDT",
        )
        .with_columns(event_duration_s=seconds(pl.col("end_at") - pl.col("start_at")))
        .with_columns(stop_class=_stop_class(policies.micro_stop_s))
    )
    # whatever a unit is known to have done is in force rather than what a refused record leaves open
    order = [~was_refused, pl.col("_priority").fill_null(-1), "start_at", "record_id", "source_id"]
    return resolved.filter(pl.col("end_at") > pl.col("start_at")).sort(order).with_row_index("_event")


def _stop_class(micro_stop_s: float) -> pl.Expr:
    """Class of an event by its element and, for a delay, its whole length."""
    delay = pl.when(pl.col("event_duration_s") < micro_stop_s).then(pl.lit("micro_stop")).otherwise(pl.lit("breakdown"))
    element = pl.col("time_element")
    return (
        pl.when(element == "ADET")
        .then(delay)
        .when(element == "AUST")
        .then(pl.lit("setup"))
        .when(element == "ADOT")
        .then(pl.lit("no_order"))
        .when(element == UNKNOWN)
        .then(pl.lit("unknown"))
    )


def _site_states(site: Site) -> pl.DataFrame:
    """Element and priority of each state of the site; of several source states the one of highest priority speaks."""
    ordered = site["states"].sort("priority", "source_state", descending=[True, False])
    return ordered.group_by("state", maintain_order=True).agg(
        _element=pl.col("time_element").first(), _priority=pl.col("priority").first()
    )


def _orders(work_order: pl.DataFrame, site: Site, as_of: datetime) -> pl.DataFrame:
    """Orders per work unit of their line, with ``_order``, the rank that decides overlaps (unique)."""
    orders = work_order.select(
        "source_id", "record_id", "job_order_id", "work_center_id", "material_definition_id", "start_at", "end_at"
    ).filter(pl.col("start_at") < _moment(as_of))
    followers = (
        orders.select("work_center_id", "start_at")
        .unique()
        .with_columns(_next=pl.col("start_at").shift(-1).over("work_center_id", order_by="start_at"))
    )
    return (
        orders.join(followers, on=["work_center_id", "start_at"], how="left")
        .join(site.work_centers(), on="work_center_id")
        .with_columns(end_at=pl.coalesce("end_at", "_next", _moment(as_of)))
        .filter(pl.col("end_at") > pl.col("start_at"))
        .sort("start_at", "job_order_id", "record_id", "source_id", "equipment_id")
        .with_row_index("_order")
        .select("_order", "equipment_id", "start_at", "end_at", "material_definition_id")
    )

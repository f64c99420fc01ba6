"""When each work unit is meant to run: shifts, planned operation time and planned downtime on the clock.

Rules are wall-clock times of the site's zone, expanded per production date, so a shift on the night of a
clock change lasts 7 or 9 hours. Where the clock shows a time twice, its first occurrence is meant; a time
that the clock skips is taken as if the clock had not yet been changed. Both are the same for the end of one
shift and the start of the next, so shifts that touch in the rules touch on every date.

A calendar entry counts from ``max(start_at, recorded_at)`` on, whatever its kind: what was written down
afterwards does not improve the past (ISO 22400-2: planned downtime is planned).
"""

from __future__ import annotations

from datetime import date
from functools import lru_cache

import polars as pl

from spc_platform.contracts.production import SHIFT_CALENDAR
from spc_platform.errors import SiteError
from spc_platform.production.intervals import cover, cut, merge, seconds, subtract
from spc_platform.site.model import Site

_REMEMBERED = 64
"""Calendars kept: pure functions of site and dates, asked for several times by the steps of one production date."""
EVERY_LINE = "*"
NOT_OPERATION_TIME = ("holiday", "no_production")
"""Calendar kinds that take time out of planned operation time."""
PLANNED_DOWN = ("break", "planned_maintenance")
"""Calendar kinds that are planned downtime within planned operation time; where two overlap the later one here names it."""


@lru_cache(maxsize=_REMEMBERED)
def shift_calendar(site: Site, first: date, last: date) -> pl.DataFrame:
    """Shifts of every work unit on the production dates ``first`` to ``last`` (both included): SHIFT_CALENDAR.

    A rule's weekdays are those of the production date: with a day start of 06:00 a shift that begins
    at 02:00 on Tuesday belongs to Monday, in date and in weekday. Time covered by a holiday or
    no_production entry of the unit, its line or the site is not planned operation time: the shift is
    trimmed, and vanishes when nothing is left. A hole in the middle leaves ``start_at`` and ``end_at``
    and shortens ``duration_s``. Raises SiteError when two shifts of a unit overlap.
    """
    pieces = operation_time(site, first, last)
    down = planned_downtime(site, first, last)
    ranked = down.with_row_index("_down")
    within = cover(cut(pieces, down), ranked, "_down", ["_down"])
    span = pl.col("end_at") - pl.col("start_at")
    shifts = within.group_by("equipment_id", "work_center_id", "shift_id", "production_date").agg(
        start_at=pl.col("start_at").min(),
        end_at=pl.col("end_at").max(),
        duration_s=seconds(span.sum()),
        planned_down_s=seconds(span.filter(pl.col("_down").is_not_null()).sum()),
    )
    return SHIFT_CALENDAR.conform(shifts)


@lru_cache(maxsize=_REMEMBERED)
def operation_time(site: Site, first: date, last: date) -> pl.DataFrame:
    """Planned operation time: equipment_id, work_center_id, shift_id, production_date, start_at, end_at.

    One row per uninterrupted piece of a shift: usually one, more when a holiday cuts it in two.
    """
    return subtract(_clock_shifts(site, first, last).select(_SHIFT_COLUMNS), _entries(site, NOT_OPERATION_TIME))


def shift_dates(site: Site, first: date, last: date) -> pl.DataFrame:
    """Local dates on which shifts begin on the clock, also where a holiday takes their first hours.

    Columns: equipment_id, shift_id, production_date, begins_on.
    """
    shifts = _clock_shifts(site, first, last)
    return shifts.group_by("equipment_id", "shift_id", "production_date").agg(begins_on=pl.col("_day").min())


@lru_cache(maxsize=_REMEMBERED)
def planned_downtime(site: Site, first: date, last: date) -> pl.DataFrame:
    """Planned downtime within planned operation time: equipment_id, start_at, end_at, kind.

    Breaks of the shifts and planned_maintenance or break entries of the unit, its line or the site,
    merged: intervals of a unit never overlap. Entries count from max(start_at, recorded_at) on.
    """
    shifts = _clock_shifts(site, first, last)
    down = pl.concat([_breaks(site, shifts), _entries(site, PLANNED_DOWN)])
    down = down.with_columns(_kind=pl.col("kind").replace_strict(_KIND_RANK, return_dtype=pl.Int64))
    down = down.unique().sort("_kind", "equipment_id", "start_at", "end_at").with_row_index("_rank")
    pieces = subtract(shifts.select("equipment_id", "start_at", "end_at"), _entries(site, NOT_OPERATION_TIME))
    within = cover(cut(pieces, down), down, "_rank", ["kind"]).filter(pl.col("kind").is_not_null())
    return merge(within.select("equipment_id", "start_at", "end_at", "kind"))


def assign_shift(frame: pl.DataFrame, at: str, calendar: pl.DataFrame) -> pl.DataFrame:
    """Add ``shift_id``, the shift of the row's equipment_id that contains the instant ``at``; rows keep their order.

    ``calendar`` is a SHIFT_CALENDAR frame; shifts are half-open, so an instant on a border belongs to
    the shift that begins. Null outside all shifts and where equipment_id or ``at`` is null.
    """
    numbered = frame.drop("shift_id", strict=False).with_row_index("_row")
    shifts = calendar.select("equipment_id", "shift_id", "start_at", "end_at").rename({"start_at": "_start", "end_at": "_end"})
    found = (
        numbered.select("_row", "equipment_id", _at=at)
        .drop_nulls()
        .sort("_at")
        .join_asof(
            shifts.sort("_start"),
            left_on="_at",
            right_on="_start",
            by="equipment_id",
            strategy="backward",
            check_sortedness=False,
        )
        .filter(pl.col("_at") < pl.col("_end"))
        .select("_row", "shift_id")
    )
    return numbered.join(found, on="_row", how="left", maintain_order="left").drop("_row")


_SHIFT_COLUMNS = ["equipment_id", "work_center_id", "shift_id", "production_date", "start_at", "end_at"]
_DAY_MINUTES = 24 * 60
_KIND_RANK = {kind: rank for rank, kind in enumerate(PLANNED_DOWN)}


def _minutes(column: str) -> pl.Expr:
    parts = pl.col(column).str.split(":")
    return parts.list.get(0).cast(pl.Int64) * 60 + parts.list.get(1).cast(pl.Int64)


def _instant(day: pl.Expr, minutes: pl.Expr, zone: str) -> pl.Expr:
    """UTC instant of a local date and minutes after its midnight (see the module on clock changes)."""
    local = day.cast(pl.Datetime("us")) + pl.duration(minutes=minutes)
    a_day = pl.duration(hours=24)
    shown = local.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    skipped = (local - a_day).dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null") + a_day
    return pl.coalesce(shown, skipped).dt.convert_time_zone("UTC")


def _clock_shifts(site: Site, first: date, last: date) -> pl.DataFrame:
    """Shifts of every work unit before holidays, with the local day and minute on which each begins."""
    day_start = site.day_start.hour * 60 + site.day_start.minute
    starts, ends = _minutes("start_local"), _minutes("end_local")
    dates = pl.DataFrame({"production_date": pl.date_range(first, last, eager=True)})
    expanded = (
        _rules_by_line(site)
        .with_columns(_starts=starts, _ends=ends)
        .join(dates, how="cross")
        .with_columns(_day=pl.col("production_date") + pl.duration(days=(pl.col("_starts") < day_start).cast(pl.Int64)))
        .with_columns(
            start_at=_instant(pl.col("_day"), pl.col("_starts"), site.zone),
            end_at=_instant(
                pl.col("_day") + pl.duration(days=(pl.col("_ends") <= pl.col("_starts")).cast(pl.Int64)),
                pl.col("_ends"),
                site.zone,
            ),
        )
        .filter(
            (pl.col("effective_from").is_null() | (pl.col("start_at") >= pl.col("effective_from")))
            & (pl.col("effective_to").is_null() | (pl.col("start_at") < pl.col("effective_to")))
        )
    )
    own = expanded.filter(~pl.col("_general")).select("work_center_id", "shift_id", "production_date")
    general = expanded.filter("_general").join(own, on=own.columns, how="anti")
    shifts = (
        pl.concat([expanded.filter(~pl.col("_general")), general])
        .filter(pl.col("weekdays").str.contains(pl.col("production_date").dt.weekday().cast(pl.String), literal=True))
        .join(site.work_centers(), on="work_center_id")
        .select(*_SHIFT_COLUMNS, "_day", "_starts")
        .sort("equipment_id", "start_at", "shift_id")
    )
    _refuse_overlaps(site, shifts)
    return shifts


def _rules_by_line(site: Site) -> pl.DataFrame:
    """Shift rules per line; ``_general`` marks those from a rule for every line, which a line's own rule replaces."""
    lines = site.work_centers().select("work_center_id").unique()
    rules = site["shifts"].with_columns(_general=pl.col("work_center_id") == EVERY_LINE)
    general = rules.filter("_general").drop("work_center_id").join(lines, how="cross").select(rules.columns)
    return pl.concat([rules.filter(~pl.col("_general")), general])


def _refuse_overlaps(site: Site, shifts: pl.DataFrame) -> None:
    unit = ["equipment_id"]
    clash = shifts.with_columns(
        _next=pl.col("start_at").shift(-1).over(unit, order_by="start_at"),
        _other=pl.col("shift_id").shift(-1).over(unit, order_by="start_at"),
    ).filter(pl.col("_next") < pl.col("end_at"))
    if clash.height:
        row = clash.row(0, named=True)
        raise SiteError(
            f"site {site.site_id}, shifts.csv: shifts {row['shift_id']} and {row['_other']} of {row['work_center_id']} overlap "
            f"on production date {row['production_date']}; a work unit is in one shift at a time: change their times"
        )


def _breaks(site: Site, shifts: pl.DataFrame) -> pl.DataFrame:
    """Expand breaks: each begins when its local start first comes round in its shift and keeps its length.

    On the night of a clock change a break of 30 minutes still lasts 30 minutes.
    """
    rules = site["breaks"].select("shift_id", "work_center_id", _from=_minutes("start_local"), _to=_minutes("end_local"))
    general = rules.filter(pl.col("work_center_id") == EVERY_LINE).drop("work_center_id")
    own = rules.filter(pl.col("work_center_id") != EVERY_LINE)
    matched = pl.concat(
        [shifts.join(general, on="shift_id"), shifts.join(own, on=["shift_id", "work_center_id"])], how="diagonal"
    ).rename({"start_at": "_shift_start", "end_at": "_shift_end"})
    day = pl.col("_day") + pl.duration(days=(pl.col("_from") < pl.col("_starts")).cast(pl.Int64))
    length = (pl.col("_to") - pl.col("_from") - 1) % _DAY_MINUTES + 1
    start = _instant(day, pl.col("_from"), site.zone)
    return (
        matched.select(
            "equipment_id",
            start_at=pl.max_horizontal(start, "_shift_start"),
            end_at=pl.min_horizontal(start + pl.duration(minutes=length), "_shift_end"),
            kind=pl.lit("break"),
        )
        .filter(pl.col("start_at") < pl.col("end_at"))
        .unique()
    )


def _entries(site: Site, kinds: tuple[str, ...]) -> pl.DataFrame:
    """Calendar entries of the kinds per work unit below the equipment they name, from their recording on."""
    return (
        site["calendar"]
        .filter(pl.col("kind").is_in(list(kinds)))
        .join(_scopes(site), left_on="equipment_id", right_on="scope_id")
        .select(
            equipment_id="work_unit_id",
            start_at=pl.max_horizontal("start_at", "recorded_at"),
            end_at="end_at",
            kind="kind",
        )
        .filter(pl.col("start_at") < pl.col("end_at"))
    )


def _scopes(site: Site) -> pl.DataFrame:
    """scope_id -> work_unit_id: every work unit with itself and each piece of equipment above it."""
    equipment = site["equipment"]
    parents = equipment.select(scope_id="equipment_id", _parent="parent_equipment_id")
    level = equipment.filter(pl.col("equipment_level") == "work_unit").select(
        work_unit_id="equipment_id", scope_id="equipment_id"
    )
    found = [level]
    for _ in range(equipment["equipment_level"].n_unique() - 1):
        level = level.join(parents, on="scope_id").select("work_unit_id", scope_id="_parent").drop_nulls()
        found.append(level)
    return pl.concat(found).unique()

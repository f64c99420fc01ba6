"""Rules of calendar entries, shifts and breaks."""

from __future__ import annotations

from datetime import time

import polars as pl

from spc_platform.site.checked_tables import EVER, FOREVER, CheckedTables, check_window
from spc_platform.site.files import LINE

ANY_WORK_CENTER = "*"
DAY_MIN = 24 * 60
_CLOCK = r"^([01]\d|2[0-3]):[0-5]\d$"


def check_calendar(tables: CheckedTables) -> None:
    """A calendar entry must name equipment and end after it begins."""
    remedy = "name an equipment_id of equipment.csv"
    tables.refer("calendar", "equipment_id", tables["equipment"]["equipment_id"], "in equipment.csv", remedy)
    wrong = pl.lit("end_at is not after start_at")
    tables.refuse("calendar", pl.col("end_at") <= pl.col("start_at"), wrong, "correct the times (end_at is exclusive)")


def _minutes(column: str) -> pl.Expr:
    """Minutes after midnight of an HH:MM text; null when it is not one."""
    text = pl.when(pl.col(column).str.contains(_CLOCK)).then(pl.col(column))
    return text.str.slice(0, 2).cast(pl.Int64) * 60 + text.str.slice(3, 2).cast(pl.Int64)


def _length(start: pl.Expr, end: pl.Expr) -> pl.Expr:
    """Minutes from start to end on a clock; equal times are a whole day."""
    return (end - start - 1) % DAY_MIN + 1


def _check_clock(tables: CheckedTables, name: str) -> None:
    for column in ("start_local", "end_local"):
        bad = pl.col(column).is_not_null() & ~pl.col(column).str.contains(_CLOCK)
        tables.refuse(name, bad, pl.format('{} is "{}"', pl.lit(column), column), "write HH:MM, from 00:00 to 23:59")
    centers = tables["equipment"].filter(pl.col("equipment_level") == "work_center")["equipment_id"]
    known = pl.concat([centers, pl.Series("equipment_id", [ANY_WORK_CENTER], dtype=pl.String)])
    tables.refer(name, "work_center_id", known, "a work_center of equipment.csv", "name a line, or * for every line")


def check_shifts(tables: CheckedTables, day_start: time | None) -> None:
    """Shifts must be clock times on known lines within the production day, and none may overlap another of its line."""
    name = "shifts"
    _check_clock(tables, name)
    check_window(tables, name)
    weekdays = pl.col("weekdays")
    repeated = weekdays.str.split("").list.n_unique() < weekdays.str.split("").list.len()
    bad = ~weekdays.str.contains(r"^[1-7]+$") | repeated
    tables.refuse(
        name,
        bad,
        pl.format('weekdays is "{}"', "weekdays"),
        "write each day at most once, 1 = Monday to 7 = Sunday, e.g. 12345",
    )
    if day_start is None:
        return
    day_start_min = day_start.hour * 60 + day_start.minute
    start = (_minutes("start_local") - day_start_min) % DAY_MIN
    placed = tables[name].with_columns(
        from_min=start,
        to_min=start + _length(_minutes("start_local"), _minutes("end_local")),
    )
    wrong = pl.format("shift {} from {} to {} crosses the start of the production day", "shift_id", "start_local", "end_local")
    rows = placed.filter(pl.col("to_min") > DAY_MIN)
    tables.refuse_rows(name, rows, wrong, f"split it, or change day_start ({day_start:%H:%M}) in site.toml")
    _check_shift_overlap(tables, placed)


def _check_shift_overlap(tables: CheckedTables, placed: pl.DataFrame) -> None:
    """Two shifts of one line must not cover the same time: an event would belong to both.

    A line's own rule replaces the rule of the same shift for every line. Weekdays are those of the production date.
    """
    days = placed.filter(pl.col("weekdays").str.contains(r"^[1-7]+$")).with_columns(
        weekday=pl.col("weekdays").str.extract_all(r"[1-7]"),
        from_at=pl.col("effective_from").fill_null(EVER),
        to_at=pl.col("effective_to").fill_null(FOREVER),
    )
    days = days.explode("weekday")
    pairs = days.join(days, on="weekday", suffix="_b").filter(pl.col(LINE) > pl.col(f"{LINE}_b"))
    center, other = pl.col("work_center_id"), pl.col("work_center_id_b")
    same_line = (center == other) | (
        ((center == ANY_WORK_CENTER) | (other == ANY_WORK_CENTER)) & (pl.col("shift_id") != pl.col("shift_id_b"))
    )
    overlap = (
        same_line
        & (pl.col("from_min") < pl.col("to_min_b"))
        & (pl.col("from_min_b") < pl.col("to_min"))
        & (pl.col("from_at") < pl.col("to_at_b"))
        & (pl.col("from_at_b") < pl.col("to_at"))
    )
    rows = pairs.filter(overlap).unique([LINE, f"{LINE}_b"], maintain_order=True)
    wrong = pl.format("shift {} overlaps shift {} of line {}", "shift_id", "shift_id_b", f"{LINE}_b")
    tables.refuse_rows("shifts", rows, wrong, "change the times, weekdays or effective dates")


def check_breaks(tables: CheckedTables) -> None:
    """A break must lie inside its shift."""
    name = "breaks"
    _check_clock(tables, name)
    tables.refer(name, "shift_id", tables["shifts"]["shift_id"], "in shifts.csv", "name a shift_id of shifts.csv")
    shifts = tables["shifts"].select(
        "shift_id",
        shift_center="work_center_id",
        shift_from=_minutes("start_local"),
        shift_length=_length(_minutes("start_local"), _minutes("end_local")),
    )
    center, other = pl.col("work_center_id"), pl.col("shift_center")
    same_line = (center == other) | (center == ANY_WORK_CENTER) | (other == ANY_WORK_CENTER)
    start = (_minutes("start_local") - pl.col("shift_from")) % DAY_MIN
    end = start + _length(_minutes("start_local"), _minutes("end_local"))
    rows = tables[name].join(shifts, on="shift_id").filter(same_line & (end > pl.col("shift_length")))
    wrong = pl.format("break from {} to {} is not inside shift {}", "start_local", "end_local", "shift_id")
    tables.refuse_rows(name, rows.unique(LINE, maintain_order=True), wrong, "correct its times")

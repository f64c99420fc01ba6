"""Times as the MES writes them, and records in the order in which it hands them out."""

from __future__ import annotations

import polars as pl

from spc_platform.plant.schedule import DaySchedule

US = 1_000_000


def start_us(schedule: DaySchedule) -> int:
    """First instant of the date, microseconds since 1970."""
    return int(schedule.start.timestamp()) * US


def iso(column: str, form: str = "%Y-%m-%dT%H:%M:%S%.3fZ") -> pl.Expr:
    """Text of an instant given in microseconds since 1970, UTC.

    >>> pl.DataFrame({"at": [1_774_000_000_250_000]}).select(iso("at")).item()
    '2026-03-20T09:46:40.250Z'
    """
    return pl.col(column).cast(pl.Datetime("us")).dt.strftime(form)


def paged(frame: pl.DataFrame, *fields: str | pl.Expr) -> pl.DataFrame:
    """Select the record's fields plus ``updated_at`` and ``_us``, sorted by (``_us``, ``id``)."""
    whole = frame.with_columns((pl.col("_us") // 1000) * 1000)
    return whole.select(*fields, iso("_us").alias("updated_at"), "_us").sort("_us", "id")

"""Joins measurements to the process values of their station."""

from __future__ import annotations

from datetime import datetime

import polars as pl

from spc_platform.contracts.prepared import MEASUREMENT_PROCESS
from spc_platform.prepare.clock import check_tolerances, offsets_in_force
from spc_platform.site.model import Site


def measurement_process(
    measurement: pl.DataFrame, aligned: pl.DataFrame, site: Site, clocks: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Join every measurement to every stream of its work unit: MEASUREMENT_PROCESS.

    ``measurement`` is a frame of the core table, ``aligned`` one of telemetry_aligned. Joined is the latest
    cell that has a value, starts at or before ``measured_at`` and is no older than the stream's
    ``join_tolerance_s``; its flag comes along. Without one the process value is empty and flagged missing.
    Clock offsets were removed when the streams were aligned.

    ``clocks`` are measured offsets (CLOCK_OFFSET). Raises ContractError for a stream whose tolerance is below what is known
    of its clock (``clock.check_tolerances``).
    """
    newest = measurement["measured_at"].max()
    if clocks is not None and isinstance(newest, datetime):
        check_tolerances(site["streams"], offsets_in_force(clocks, newest))
    streams = site["streams"].select("stream_id", "equipment_id", "join_tolerance_s")
    wanted = (
        measurement.select("source_id", "record_id", "characteristic_id", "equipment_id", "measured_at", "production_date")
        .join(streams, on="equipment_id")
        .sort("measured_at")
    )
    cells = aligned.filter(pl.col("value").is_not_null()).select(
        "stream_id", "grid_at", process_value="value", fill_flag="fill_flag", _at="grid_at"
    )
    joined = wanted.join_asof(
        cells.sort("grid_at"),
        left_on="measured_at",
        right_on="grid_at",
        by="stream_id",
        strategy="backward",
        check_sortedness=False,
    )
    lag_s = (pl.col("measured_at") - pl.col("_at")).dt.total_microseconds() / 1e6
    near = (lag_s <= pl.col("join_tolerance_s")).fill_null(value=False)
    return MEASUREMENT_PROCESS.conform(
        joined.with_columns(
            grid_at=pl.when(near).then(pl.col("_at")),
            process_value=pl.when(near).then(pl.col("process_value")),
            fill_flag=pl.when(near).then(pl.col("fill_flag")).otherwise(pl.lit("missing")),
            lag_s=pl.when(near).then(lag_s),
        )
    )

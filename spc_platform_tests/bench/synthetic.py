"""A plant of many charts, from a seed: what the kernels are measured on."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from spc_platform.contracts.core import MEASUREMENT, TELEMETRY
from spc_platform.contracts.prepared import MEASUREMENT_FLAGS
from spc_platform.contracts.site import SITE_TABLES
from spc_platform.contracts.table import Table
from spc_platform.site.model import Policies, Site

CHARTS = 1000
PER_CHART = 300
STREAMS = 40
GRID_S = 5
DAY = date(2026, 3, 2)
START = datetime(2026, 3, 2, 6, tzinfo=UTC)
_UTC = pl.Datetime("us", "UTC")


def complete(table: Table, frame: pl.DataFrame) -> pl.DataFrame:
    """The frame in the table's contract; columns that it lacks are filled with a value of their type."""
    filler = {pl.String: "x", pl.Int64: 1, pl.Float64: 0.0, pl.Boolean: False, pl.Date: DAY}
    absent = {
        column.name: pl.lit(None if column.nullable else filler.get(column.dtype, START), column.dtype)
        for column in table.columns
        if column.name not in frame.columns
    }
    return table.conform(frame.with_columns(**absent))


def site() -> Site:
    """1,000 X-bar charts of subgroups of five, and 40 streams on a grid of 5 s."""
    identity = pl.Series("characteristic_id", [f"C{number:04d}" for number in range(CHARTS)])
    charts = pl.DataFrame(identity).with_columns(
        equipment_id=pl.format("U{}", pl.int_range(pl.len()) // 5),
        chart=pl.lit("xbar_r"),
        subgrouping=pl.lit("consecutive"),
        subgroup_size=pl.lit(5),
        estimator=pl.lit("rbar"),
        rule_set=pl.lit("nelson"),
    )
    specifications = pl.DataFrame(identity).with_columns(
        version=pl.lit(1),
        effective_from=pl.lit(START - timedelta(days=365), _UTC),
        effective_to=pl.lit(None, _UTC),
        lsl=pl.lit(6.0),
        target=pl.lit(10.0),
        usl=pl.lit(14.0),
    )
    streams = pl.DataFrame({"stream_id": [f"S{number:02d}" for number in range(STREAMS)]}).with_columns(
        equipment_id=pl.format("U{}", pl.int_range(pl.len())),
        grid_s=pl.lit(float(GRID_S)),
        hold_below=pl.lit(3),
        interpolate_up_to=pl.lit(5),
        imputation=pl.lit("none"),
        clock_offset_s=pl.lit(0.0),
    )
    given = {"characteristics": charts, "specifications": specifications, "streams": streams}
    tables = {name: complete(table, given[name]) if name in given else table.empty() for name, table in SITE_TABLES.items()}
    return Site("bench", "bench", "UTC", time(6), DAY, None, Path(), tables, (), Policies())


def measurement() -> pl.DataFrame:
    """300 values of each chart, one every 60 s: 300,000 rows of the core table."""
    rows = CHARTS * PER_CHART
    number = np.arange(rows)
    chart = pl.Series(number // PER_CHART)
    frame = pl.DataFrame(
        {
            "record_id": pl.Series(number).cast(pl.String),
            "characteristic_id": pl.Series([f"C{each:04d}" for each in range(CHARTS)]).gather(chart),
            "equipment_id": pl.Series([f"U{each // 5}" for each in range(CHARTS)]).gather(chart),
            "measured_at": pl.Series(START.timestamp() * 1e6 + number % PER_CHART * 60e6).cast(pl.Int64).cast(_UTC),
            "value": np.random.default_rng(1).normal(10.0, 1.0, rows),
        }
    )
    return complete(MEASUREMENT, frame.with_columns(specification_version=pl.lit(1)))


def flags(measured: pl.DataFrame) -> pl.DataFrame:
    """No value masked."""
    return complete(MEASUREMENT_FLAGS, measured.select("source_id", "record_id", "production_date"))


def telemetry() -> pl.DataFrame:
    """40 streams of one production date, one value a second with random gaps: about 2.8 million rows."""
    random = np.random.default_rng(2)
    seconds = 86_400
    kept = np.flatnonzero(np.repeat(random.random(STREAMS * seconds // 20) < 0.8, 20))
    frame = pl.DataFrame(
        {
            "record_id": pl.Series(kept).cast(pl.String),
            "stream_id": pl.Series([f"S{each:02d}" for each in range(STREAMS)]).gather(pl.Series(kept // seconds)),
            "observed_at": pl.Series(START.timestamp() * 1e6 + kept % seconds * 1e6).cast(pl.Int64).cast(_UTC),
            "value": random.normal(20.0, 1.0, len(kept)),
        }
    )
    return complete(TELEMETRY, frame)

"""A site of one or more charts and frames of measurements and subgroups, built from plain lists."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from spc_platform.contracts.core import MEASUREMENT
from spc_platform.contracts.prepared import MEASUREMENT_FLAGS
from spc_platform.contracts.site import SITE_TABLES
from spc_platform.contracts.spc import SPC_LIMITS
from spc_platform.site.model import BaselinePolicy, Policies, Site
from spc_platform.spc.subgroups import form_subgroups

START = datetime(2026, 3, 2, 6, 0, tzinfo=UTC)
DAY = START.date()

CHART: dict[str, Any] = {
    "characteristic_id": "bore",
    "equipment_id": "L1-S1",
    "description": "bore diameter",
    "unit": "mm",
    "chart": "i_mr",
    "subgrouping": "individual",
    "subgroup_size": 1,
    "estimator": "mr",
    "rule_set": "western_electric",
    "sensor_min": None,
    "sensor_max": None,
    "iqr_multiplier": None,
    "hampel_window": None,
    "hampel_multiplier": None,
}
XBAR_R = {"chart": "xbar_r", "subgrouping": "consecutive", "subgroup_size": 5, "estimator": "rbar"}
XBAR_S = {"chart": "xbar_s", "subgrouping": "consecutive", "subgroup_size": 5, "estimator": "sbar"}
POOLED = {**XBAR_S, "estimator": "pooled"}


def make_site(*charts: dict[str, Any], specifications: Sequence[dict[str, Any]] = (), **policies: Any) -> Site:
    """A site whose charts differ from ``CHART`` in what is given; ``baseline`` and other policies by keyword."""
    tables = {name: table.empty() for name, table in SITE_TABLES.items()}
    rows = [{**CHART, **chart} for chart in charts or ({},)]
    tables["characteristics"] = pl.DataFrame(rows, schema=SITE_TABLES["characteristics"].schema)
    given = [
        {
            "characteristic_id": "bore",
            "version": 1,
            "effective_from": START - timedelta(days=365),
            "effective_to": None,
            "lsl": None,
            "target": None,
            "usl": None,
            "unit": "mm",
            "resolution": None,
            **specification,
        }
        for specification in specifications
    ]
    tables["specifications"] = pl.DataFrame(given, schema=SITE_TABLES["specifications"].schema)
    baseline = policies.pop("baseline", BaselinePolicy())
    return Site(
        site_id="test",
        name="test",
        zone="UTC",
        day_start=time(6),
        first_production_date=DAY,
        last_production_date=None,
        folder=Path(),
        tables=tables,
        sources=(),
        policies=Policies(baseline=baseline, **policies),
    )


def measurements(
    values: Sequence[float | None],
    *,
    every_s: float = 60.0,
    start: datetime = START,
    keys: Sequence[str | None] | None = None,
    versions: Sequence[int | None] | None = None,
    site: Site | None = None,
    **columns: Any,
) -> pl.DataFrame:
    """MEASUREMENT of one chart: one value every ``every_s`` seconds from ``start``; a null value stays null."""
    at = [start + timedelta(seconds=every_s * position) for position in range(len(values))]
    first = columns.pop("first_record", 0)
    fixed = {
        "source_id": "mes",
        "revision": 1,
        "updated_at": start,
        "received_at": start,
        "page_sha256": "0" * 64,
        "page_row": 0,
        "characteristic_id": "bore",
        "equipment_id": "L1-S1",
        "unit": "mm",
        "serial_number": None,
        "material_lot_id": "lot-1",
        "job_order_id": "job-1",
        "work_center_id": "L1",
        "shift_id": "early",
        "unit_conversion": None,
        **columns,
    }
    frame = pl.DataFrame(
        {
            "record_id": [f"{first + position:06d}" for position in range(len(values))],
            "measured_at": at,
            "value": pl.Series(values, dtype=pl.Float64),
            "subgroup_key": pl.Series(keys if keys is not None else [None] * len(values), dtype=pl.String),
            "specification_version": pl.Series(versions if versions is not None else [1] * len(values), dtype=pl.Int64),
        }
    ).with_columns(**{name: pl.lit(value) for name, value in fixed.items() if name in MEASUREMENT.names})
    frame = frame.with_columns(measured_at=pl.col("measured_at").cast(pl.Datetime("us", "UTC")))
    return MEASUREMENT.conform(frame.with_columns(production_date=(site or make_site()).production_date(pl.col("measured_at"))))


def mask(measurement: pl.DataFrame, records: Sequence[str] = ()) -> pl.DataFrame:
    """MEASUREMENT_FLAGS of the measurements; ``records`` are masked."""
    masked = pl.col("record_id").is_in(list(records))
    return MEASUREMENT_FLAGS.conform(
        measurement.with_columns(
            iqr_low=None,
            iqr_high=None,
            hampel_score=None,
            mask_reason=pl.when(masked).then(pl.lit("iqr")).otherwise(pl.lit("none")),
            is_masked=masked,
            value_cleaned=pl.when(~masked).then("value"),
        )
    )


def subgroups(values: Sequence[float | None], site: Site, masked: Sequence[str] = (), **columns: Any) -> pl.DataFrame:
    """SPC_SUBGROUPS of one chart from its values in time order."""
    frame = measurements(values, site=site, **columns)
    return form_subgroups(frame, mask(frame, masked), site)


def day(offset: int) -> date:
    return DAY + timedelta(days=offset)


def version(
    chart: str = "i_mr",
    mu: float = 0.0,
    sigma: float = 1.0,
    number: int = 1,
    since: datetime = START - timedelta(days=30),
    until: datetime | None = None,
    **columns: Any,
) -> pl.DataFrame:
    """SPC_LIMITS: one version of the chart of ``CHART``."""
    row = {
        "characteristic_id": "bore",
        "equipment_id": "L1-S1",
        "limit_version": number,
        "chart": chart,
        "mu": mu,
        "sigma": sigma,
        "estimator": "mr" if chart == "i_mr" else "rbar",
        "k": 3.0,
        "subgroup_size": 1,
        "baseline_from": since,
        "baseline_to": since,
        "n_subgroups": 100,
        "excluded_subgroup_ids": None,
        "exclusion_cause": None,
        "approved_by": "A. Engineer",
        "reason": "test",
        "supersedes": None,
        "inputs_hash": "0",
        "effective_from": since,
        "effective_to": until,
        "warning": None,
        **columns,
    }
    return pl.DataFrame([row], schema=SPC_LIMITS.schema)

"""A plant small enough to write by hand: one source, a mutable and an append-only resource, scripted pages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from spc_platform.contracts.raw import RAW_MEASUREMENT
from spc_platform.site.model import Policies, Resource, Site
from spc_platform.site.model import Source as SourceConfig
from spc_platform.sources.base import Page

MONDAY, TUESDAY, WEDNESDAY = date(2026, 3, 2), date(2026, 3, 3), date(2026, 3, 4)
RECEIVED = datetime(2026, 3, 5, 12, tzinfo=UTC)

MEASUREMENTS = Resource(
    name="measurements",
    tables=("raw_measurement",),
    format="json_records",
    records="data",
    fields={
        "record_id": "id",
        "revision": "rev",
        "is_deleted": "deleted",
        "characteristic_id": "characteristic",
        "equipment_id": "station",
        "serial_number": "serial",
    },
)
TELEMETRY = Resource(
    name="telemetry",
    tables=("raw_telemetry",),
    format="json_records",
    records="data",
    fields={"record_id": "id", "revision": "rev", "stream_id": "signal", "observed_at": "at"},
    mutable=False,
)
CONFIG = SourceConfig("mes", "rest", (MEASUREMENTS, TELEMETRY))


def plant_site(config: SourceConfig = CONFIG) -> Site:
    return Site(
        site_id="small",
        name="Small plant",
        zone="Europe/Berlin",
        day_start=time(6),
        first_production_date=date(2026, 1, 1),
        last_production_date=None,
        folder=Path(),
        tables={},
        sources=(config,),
        policies=Policies(),
    )


def at(day: date, hour: int, minute: int = 0) -> str:
    return datetime.combine(day, time(hour, minute), tzinfo=UTC).isoformat().replace("+00:00", "Z")


def measurement(name: str, measured_at: str | None, value: float = 1.0, rev: int = 1, **other: Any) -> dict[str, Any]:
    record = {"id": name, "rev": rev, "updated_at": measured_at, "measured_at": measured_at, "value": value}
    return {**record, "characteristic": "bore", "station": "CNC-1", "unit": "mm", **other}


def telemetry(name: str, observed_at: str, value: float = 1.0) -> dict[str, Any]:
    record = {"id": name, "rev": 1, "updated_at": observed_at, "at": observed_at}
    return {**record, "signal": "load", "value": value, "unit": "N"}


def body(*records: dict[str, Any], server_time: str = "") -> bytes:
    return json.dumps({"data": records, "server_time": server_time}).encode()


class ScriptedSource:
    """Says the given bodies, one page each; an exception among them is raised there. Remembers the watermarks it was given."""

    def __init__(
        self, pages: dict[str, list[bytes | Exception]], config: SourceConfig = CONFIG, until: datetime | None = None
    ) -> None:
        self.config = config
        self.until = until
        self.pages = pages
        self.watermarks: list[str | None] = []

    def walk(self, resource: Resource, watermark: str | None) -> Iterator[Page]:
        self.watermarks.append(watermark)
        for number, said in enumerate(self.pages.get(resource.name, [])):
            if isinstance(said, Exception):
                raise said
            received = RECEIVED + timedelta(seconds=number)
            origin = f"{resource.name}?page={number}"
            yield Page(self.config.source_id, resource.name, said, origin, str(number), received, self.until)

    def has_news(self, resource: Resource, watermark: str | None) -> str | None:
        return None


def raw_measurements(day: date, n: int, shift: float = 0.0) -> pl.DataFrame:
    """``n`` rows of raw_measurement on a production date."""
    start = datetime.combine(day, time(8), tzinfo=UTC)
    numbers = pl.DataFrame({"i": pl.int_range(n, eager=True)})
    return RAW_MEASUREMENT.conform(
        numbers.select(
            source_id=pl.lit("mes"),
            record_id=pl.format("m-{}", pl.col("i")),
            revision=pl.lit(1),
            updated_at=pl.lit(start) + pl.duration(seconds=pl.col("i")),
            page_sha256=pl.lit("0" * 64),
            page_row=pl.col("i"),
            production_date=pl.lit(day),
            is_current=pl.lit(value=True),
            is_deleted=pl.lit(value=False),
            decode_error=pl.lit(None, pl.String),
            raw_record=pl.lit(None, pl.String),
            characteristic_id=pl.lit("bore"),
            equipment_id=pl.lit("CNC-1"),
            measured_at=pl.lit(start) + pl.duration(seconds=pl.col("i")),
            value=pl.col("i").cast(pl.Float64) + shift,
            unit=pl.lit("mm"),
            serial_number=pl.lit(None, pl.String),
            material_lot_id=pl.lit(None, pl.String),
            job_order_id=pl.lit(None, pl.String),
            decode_note=pl.lit(None, pl.String),
            subgroup_key=pl.lit(None, pl.String),
        )
    )

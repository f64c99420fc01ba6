"""A small plant for the tests of production: sites and core rows written by hand."""

from __future__ import annotations

from datetime import date, datetime, time
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from spc_platform.contracts.core import EQUIPMENT_STATE, PRODUCTION_COUNT, WORK_ORDER
from spc_platform.contracts.site import SITE_TABLES
from spc_platform.contracts.table import Table
from spc_platform.site.model import Policies, Site

EQUIPMENT = [
    ("PLANT", "site", None, ""),
    ("L1", "work_center", "PLANT", ""),
    ("L2", "work_center", "PLANT", ""),
    ("CNC", "work_unit", "L1", ""),
    ("PRESS", "work_unit", "L1", ""),
    ("VISION", "work_unit", "L2", ""),
]
STATES = [
    ("RUN", "RUN", "APT", 1),
    ("SETUP", "SETUP", "AUST", 3),
    ("STOP", "STOP", "ADET", 5),
    ("IDLE", "IDLE", "ADOT", 2),
]
REASONS = [
    ("jam", "", None, "minor_stoppage"),
    ("tool", "", None, "breakdown"),
    ("waiting", "", "ADOT", None),
    ("service", "planned service", "PDT", None),
]
ALL_WEEK = "1234567"
EARLY = ("early", "*", "06:00", "14:00", ALL_WEEK, None, None)
LATE = ("late", "*", "14:00", "22:00", ALL_WEEK, None, None)
NIGHT = ("night", "*", "22:00", "06:00", ALL_WEEK, None, None)


def local(zone: str, *parts: int) -> datetime:
    return datetime(*parts, tzinfo=ZoneInfo(zone))  # type: ignore[misc,arg-type]


def utc(*parts: int) -> datetime:
    return local("UTC", *parts)


def _rows(table: Table, rows: list[Any]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=table.schema, orient="row") if rows else table.empty()


def site(zone: str = "UTC", *, day_start: str = "06:00", policies: Policies | None = None, **tables: list[Any]) -> Site:
    """A site with the equipment, states and reasons above, shifts early, late and night, and ``tables`` instead where given."""
    given: dict[str, list[Any]] = {
        "equipment": EQUIPMENT,
        "states": STATES,
        "reasons": REASONS,
        "shifts": [EARLY, LATE, NIGHT],
        **tables,
    }
    frames = {name: _rows(table, given.get(name, [])) for name, table in SITE_TABLES.items()}
    return Site(
        "test", "test", zone, time.fromisoformat(day_start), date(2026, 1, 1), None, Path(), frames, (), policies or Policies()
    )


def _core(table: Table, rows: list[dict[str, Any]], at: str) -> pl.DataFrame:
    if not rows:
        return table.empty()
    filled = [
        {
            **dict.fromkeys(table.names),
            "source_id": "mes",
            "record_id": f"{number:04d}",
            "revision": 1,
            "page_sha256": "0",
            "page_row": number,
            "production_date": row[at].date(),
            **row,
        }
        for number, row in enumerate(rows)
    ]
    return pl.DataFrame(filled, schema=table.schema)


def states(*rows: tuple[Any, ...], unit: str = "CNC") -> pl.DataFrame:
    """Core equipment_state from (state, start, end, reason, record_id), the last three optional."""
    names = ("state", "start_at", "end_at", "reason_code", "record_id")
    return _core(EQUIPMENT_STATE, [{"equipment_id": unit, **dict(zip(names, row, strict=False))} for row in rows], "start_at")


def counts(*rows: tuple[Any, ...], unit: str = "CNC") -> pl.DataFrame:
    """Core production_count from (product, counted_at, good, scrap, rework)."""
    names = ("material_definition_id", "counted_at", "good_quantity", "scrap_quantity", "rework_quantity")
    return _core(PRODUCTION_COUNT, [{"equipment_id": unit, **dict(zip(names, row, strict=True))} for row in rows], "counted_at")


def orders(*rows: tuple[Any, ...], line: str = "L1") -> pl.DataFrame:
    """Core work_order from (job_order_id, product, start, end), the end optional."""
    names = ("job_order_id", "material_definition_id", "start_at", "end_at")
    return _core(
        WORK_ORDER,
        [{"work_center_id": line, "planned_quantity": 1, **dict(zip(names, row, strict=False))} for row in rows],
        "start_at",
    )

"""A small site and raw rows for the tests of site and prepare."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from spc_platform.contracts import LAKE_TABLES
from spc_platform.contracts.site import SITE_TABLES
from spc_platform.site.loader import load_site
from spc_platform.site.model import Site
from spc_platform.site.scaffold import scaffold

DAY = date(2026, 1, 7)
SIX = datetime(2026, 1, 7, 5, tzinfo=UTC)
"""06:00 in Berlin: start of the production day and of the early shift."""

ROWS: dict[str, dict[str, Any]] = {
    "measurement": {
        "characteristic_id": "SHAFT-DIA",
        "equipment_id": "L1-LATHE",
        "measured_at": SIX,
        "value": 25.0,
        "unit": "mm",
    },
    "telemetry": {"stream_id": "L1-LATHE-TEMP", "observed_at": SIX, "value": 21.5, "unit": "degC"},
    "equipment_state": {"equipment_id": "L1-LATHE", "state": "RUN", "start_at": SIX},
    "production_count": {
        "equipment_id": "L1-LATHE",
        "material_definition_id": "SHAFT",
        "counted_at": SIX,
        "good_quantity": 5,
        "scrap_quantity": 1,
        "rework_quantity": 0,
    },
    "work_order": {
        "job_order_id": "WO-1",
        "work_center_id": "L1",
        "material_definition_id": "SHAFT",
        "planned_quantity": 100,
        "start_at": SIX,
    },
    "work_order_event": {"job_order_id": "WO-1", "event_type": "started", "occurred_at": SIX},
    "segment_event": {
        "item_id": "LOT-1",
        "item_kind": "lot",
        "segment_id": "turning",
        "equipment_id": "L1-LATHE",
        "event_type": "started",
        "occurred_at": SIX,
        "quantity": 50.0,
        "material_definition_id": "SHAFT",
    },
    "signal_event": {"equipment_id": "L1-LATHE", "signal": "execution", "value": "ACTIVE", "occurred_at": SIX},
    "material_link": {"parent_id": "SUP-1", "child_id": "LOT-1", "link_type": "consumed", "quantity": 50.0, "occurred_at": SIX},
}


@cache
def small_site() -> Site:
    with TemporaryDirectory() as folder:
        scaffold(Path(folder) / "site", "plant-1")
        return load_site(Path(folder) / "site")


def site_with(**tables: list[dict[str, Any]]) -> Site:
    """The small site with rows of some tables replaced; each given row completes the table's first row."""
    site = small_site()
    changed = {}
    for name, rows in tables.items():
        first = site[name].row(0, named=True)
        frame = pl.DataFrame([{**first, **row} for row in rows], schema=SITE_TABLES[name].schema)
        changed[name] = SITE_TABLES[name].conform(frame)
    return replace(site, tables={**site.tables, **changed})


def raw(table: str, *rows: dict[str, Any]) -> pl.DataFrame:
    """Raw rows of a table, each a good row with the given columns changed."""
    lineage = {
        "source_id": "mes",
        "revision": 1,
        "updated_at": SIX + timedelta(minutes=1),
        "page_sha256": "0" * 64,
        "production_date": DAY,
        "is_current": True,
        "is_deleted": False,
    }
    numbered = [
        {**lineage, "record_id": f"r{index:04d}", "page_row": index, **ROWS[table], **row} for index, row in enumerate(rows)
    ]
    contract = LAKE_TABLES[f"raw_{table}"]
    complete = [{name: row.get(name) for name in contract.names} for row in numbered]
    return contract.conform(pl.DataFrame(complete, schema=contract.schema))

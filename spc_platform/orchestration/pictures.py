"""One small control chart on the SPC assets: the chart with the most signals of the last production dates."""

from __future__ import annotations

import base64
import re
from datetime import date
from typing import Any

import dagster as dg
import polars as pl

from spc_platform.engine import Workspace

CHART = ("characteristic_id", "equipment_id")
PICTURE_DATES = 3
PICTURE_POINTS = 60
"""Points of each panel, the newest: a chart of individuals has hundreds a date, and its picture would not fit."""
MAX_BYTES = 60_000
"""Every byte goes into the event log and is loaded with the asset's page."""

_UNSEEN = re.compile(r' (?:aria-[a-z]+|role)="[^"]*"')
"""What a program would read aloud of each point; nobody reaches it inside an embedded image."""


def pictures(plant: Workspace, table: str) -> dict[str, Any]:
    """Metadata ``control_chart`` for spc_points; empty for other tables or when no chart has limits."""
    if table != "spc_points":
        return {}
    dates: list[date] = plant.lake.dates("spc_points")[-PICTURE_DATES:]
    points = plant.lake.read_dates("spc_points", dates).filter(pl.col("limit_version").is_not_null())
    if points.is_empty():
        return {}
    points = points.sort("subgroup_at", "subgroup_id").group_by(*CHART, "panel", maintain_order=True).tail(PICTURE_POINTS)
    from spc_platform.report.chart import control_chart_svg

    chart = (
        points.group_by(CHART)
        .agg(signals=pl.col("rules").is_not_null().sum(), n=pl.len())
        .sort("signals", "n", "characteristic_id", descending=[True, True, False])
        .row(0, named=True)
    )
    shown = points.filter(
        (pl.col("characteristic_id") == chart["characteristic_id"]) & (pl.col("equipment_id") == chart["equipment_id"])
    )
    unit = plant.site["characteristics"].filter(pl.col("characteristic_id") == chart["characteristic_id"]).item(0, "unit")
    svg = control_chart_svg(shown, title=f"{chart['characteristic_id']} on {chart['equipment_id']}", unit=unit)
    encoded = base64.b64encode(_UNSEEN.sub("", svg).encode()).decode()
    if len(encoded) > MAX_BYTES:
        return {}
    named = f"{chart['characteristic_id']} on {chart['equipment_id']}"
    return {
        "control_chart": dg.MetadataValue.md(f"![control chart](data:image/svg+xml;base64,{encoded})"),
        "charted": f"{named}: {chart['signals']} of {shown.height} points signal",
    }

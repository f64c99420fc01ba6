"""Control charts as pictures, drawn by Altair and rendered without a browser."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl
import vl_convert

from spc_platform.contracts.charts import PANELS, STATISTIC_NAMES, UNITLESS

MAX_POINTS = 60
_HEIGHTS = {"location": 170}
_INK, _LIMIT, _SIGNAL, _MASKED = "#1f4e79", "#b03a2e", "#d35400", "#7f8c8d"


def control_chart(points: pl.DataFrame, *, title: str, unit: str) -> Any:
    """All panels of one chart, the location above, on a common time axis.

    ``points`` are rows of SPC_POINTS of a single chart; the newest 60 subgroups are drawn. Signals are told
    by colour and by shape; limits are steps, since they move with n and with the limit version.
    """
    newest = points["subgroup_at"].unique().sort().tail(MAX_POINTS)
    shown = points.filter(pl.col("subgroup_at").is_in(newest.implode())).with_columns(
        status=pl.when(pl.col("rules").is_not_null())
        .then(pl.lit("signal"))
        .when(pl.col("n_masked") > 0)
        .then(pl.lit("masked value"))
        .otherwise(pl.lit("in control")),
        number=pl.col("subgroup_at").rank("dense"),
    )
    panels = [
        _panel(shown.filter(pl.col("panel") == name), unit, _HEIGHTS.get(name, 90))
        for name in PANELS
        if shown.filter(pl.col("panel") == name).height
    ]
    return alt.vconcat(*panels, title=title, spacing=6).configure_axis(grid=False).configure_view(stroke="#cccccc")


def _panel(points: pl.DataFrame, unit: str, height: int) -> Any:
    base = alt.Chart(_inline(points), width=560, height=height)
    x = alt.X("number:Q", title=None, axis=alt.Axis(labels=False, ticks=False))
    statistic = points.item(0, "statistic")
    scale = alt.Scale(zero=False, nice=False)
    name = STATISTIC_NAMES.get(statistic, statistic)
    title = name if statistic in UNITLESS else f"{name} [{unit}]"
    lines = [
        base.mark_line(interpolate="step", color=colour, strokeDash=dash, strokeWidth=1).encode(
            x, alt.Y(f"{column}:Q", scale=scale, title=title)
        )
        for column, colour, dash in (("cl", _INK, [1, 0]), ("lcl", _LIMIT, [5, 3]), ("ucl", _LIMIT, [5, 3]))
    ]
    series = base.mark_line(color="#95a5a6", strokeWidth=1).encode(x, alt.Y("value:Q", scale=scale))
    marks = base.mark_point(filled=True, size=38, opacity=1).encode(
        x,
        alt.Y("value:Q", scale=scale),
        color=alt.Color(
            "status:N",
            scale=alt.Scale(domain=["in control", "signal", "masked value"], range=[_INK, _SIGNAL, _MASKED]),
            title=None,
        ),
        shape=alt.Shape(
            "status:N",
            scale=alt.Scale(domain=["in control", "signal", "masked value"], range=["circle", "diamond", "cross"]),
            title=None,
        ),
    )
    return alt.layer(*lines, series, marks)


def _inline(points: pl.DataFrame) -> dict[str, Any]:
    columns = ["number", "value", "cl", "lcl", "ucl", "status"]
    return {"values": points.sort("number").select(columns).to_dicts()}


def control_chart_svg(points: pl.DataFrame, *, title: str, unit: str) -> str:
    """The chart as SVG text."""
    return str(vl_convert.vegalite_to_svg(control_chart(points, title=title, unit=unit).to_dict()))

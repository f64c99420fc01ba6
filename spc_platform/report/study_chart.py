"""The control chart of a study as a picture: every point, limits as steps, stages, baseline, exclusions and signals.

The picture is a Vega-Lite specification, written as data; vl-convert renders it without a browser or a network.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

STATISTICS = {
    "xbar": "X̄", "x": "X", "median": "Median", "r": "R", "s": "S", "mr": "MR", "ewma": "EWMA", "moving_average": "MA",
    "cusum": "Cumulative sums", "cusum_upper": "Upper sum",
    "cusum_lower": "Lower sum", "p": "p", "np": "np", "c": "c", "u": "u", "g": "g",
    "t": "t", "z": "Z", "t2": "T²", "mewma": "MEWMA T²",
}  # fmt: skip
"""Names of the plotted statistics, as the axis of a panel writes them."""

WIDTH = 860
_HEIGHTS = (250, 140, 140)
_INK, _LIMIT, _SIGNAL, _EXCLUDED, _LINE = "#1f4e79", "#b03a2e", "#d35400", "#7f8c8d", "#a9b4bd"
_STATUS = {
    "no signal": (_INK, "circle"),
    "signal": (_SIGNAL, "diamond"),
    "excluded": (_EXCLUDED, "cross"),
    "excluded, signal": (_SIGNAL, "cross"),
}
_MOST_LABELLED = 60
"""Signals up to which each is labelled with its rules."""
_TICKS = 24
LONGEST_SUBJECT = 28
"""Characters of a column's name that fit beside an axis."""
_NO_POINT: dict[str, Any] = {"number": pl.Series([], dtype=pl.Int64), "status": pl.Series([], dtype=pl.String)}
_POINT: dict[str, Any] = {
    "number": pl.Int64, "sample": pl.String, "stage": pl.String, "value": pl.Float64, "cl": pl.Float64, "lcl": pl.Float64,
    "ucl": pl.Float64, "rules": pl.List(pl.String), "is_baseline": pl.Boolean, "is_excluded": pl.Boolean,
}  # fmt: skip


@dataclass(frozen=True)
class _Frame:
    """What all panels share: the subject of the chart, the range of numbers, and the statuses that occur."""

    subject: str
    first: int
    last: int
    statuses: list[str]


def study_chart(document: Mapping[str, Any]) -> dict[str, Any]:
    """Vega-Lite specification of the chart of a study's document; the panels stand below each other."""
    panels = _panels(document)
    every = pl.concat([points.select("number", "status") for _, points in panels]) if panels else pl.DataFrame(_NO_POINT)
    frame = _Frame(
        subject=document["title"].partition(" chart of ")[2],
        first=int(every["number"].min() or 1),  # type: ignore[arg-type]
        last=int(every["number"].max() or 1),  # type: ignore[arg-type]
        statuses=[status for status in _STATUS if status in set(every["status"])],
    )
    drawn = [
        _panel(points, statistic, frame, _HEIGHTS[min(index, 2)], is_last=index == len(panels) - 1)
        for index, (statistic, points) in enumerate(panels)
    ]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "background": "white",
        "padding": 12,
        "title": {
            "text": document["title"],
            "subtitle": _subtitle(document),
            "anchor": "start",
            "offset": 12,
            "subtitlePadding": 4,
        },
        "vconcat": drawn,
        "spacing": 14,
        "config": {
            "font": "Helvetica, Arial, sans-serif",
            "axis": {
                "grid": False,
                "labelFontSize": 11,
                "titleFontSize": 12,
                "titleFontWeight": "normal",
                "domainColor": "#888",
            },
            "axisY": {"minExtent": 62, "maxExtent": 62, "tickCount": 6},
            "title": {"fontSize": 16, "subtitleFontSize": 11, "subtitleColor": "#555"},
            "view": {"stroke": "#d5d8dc"},
            "legend": {"orient": "bottom", "direction": "horizontal", "labelFontSize": 11, "symbolSize": 60},
        },
    }


def study_svg(document: Mapping[str, Any]) -> str:
    """The picture as SVG text."""
    import vl_convert

    return str(vl_convert.vegalite_to_svg(study_chart(document)))


def study_png(document: Mapping[str, Any], scale: float = 2.0) -> bytes:
    """The picture as a PNG of about 1,900 pixels across."""
    import vl_convert

    return bytes(vl_convert.vegalite_to_png(study_chart(document), scale=scale))


def limits_in_words(document: Mapping[str, Any]) -> str:
    """Where the limits of a study lie, by the kind of its chart."""
    options, width = document["options"], f"limits at {document['k']:g} standard errors"
    match document["chart"]:
        case "cusum":
            from spc_platform.spc.charting import SETTINGS

            reference, decision = (options[name] or SETTINGS[name] for name in ("reference", "decision"))
            return f"k {reference:g} and h {decision:g} standard errors"
        case "t2":
            return f"limits of phase {options['phase']}"
        case "ewma" | "mewma":
            return f"lambda {options['weight']:g}" + (f", {width}" if document["chart"] == "ewma" else "")
        case _:
            return width


def _panels(document: Mapping[str, Any]) -> list[tuple[str, pl.DataFrame]]:
    """Statistic and points of each panel that is drawn; the two sums of a CUSUM share one, the lower sum below zero."""
    panels = [(panel["statistic"], _frame(panel["points"])) for panel in document["panels"]]
    if [statistic for statistic, _ in panels] != ["cusum_upper", "cusum_lower"]:
        return [(statistic, points) for statistic, points in panels if points.height]
    upper, lower = (points for _, points in panels)
    mirrored = lower.with_columns(
        value=-pl.col("value").abs(), lcl=-pl.coalesce("ucl", pl.col("lcl").abs()), ucl=pl.lit(None, pl.Float64)
    )
    both = pl.concat(
        [upper.with_columns(lcl=pl.lit(None, pl.Float64), series=pl.lit(0)), mirrored.with_columns(series=pl.lit(1))]
    )
    return [("cusum", both)]


def _frame(points: list[dict[str, Any]]) -> pl.DataFrame:
    frame = pl.DataFrame(points, schema_overrides=_POINT, schema=list(_POINT) if not points else None, infer_schema_length=None)
    rules = pl.col("rules").fill_null([]).cast(pl.List(pl.String))
    signals, excluded = rules.list.len() > 0, pl.col("is_excluded").fill_null(value=False)
    return frame.select(*_POINT).with_columns(
        series=pl.lit(0),
        part=pl.col("stage").fill_null("").rle_id(),
        status=pl.when(excluded & signals).then(pl.lit("excluded, signal")).when(excluded).then(pl.lit("excluded"))
        .when(signals).then(pl.lit("signal")).otherwise(pl.lit("no signal")),
        rule=rules.list.eval(pl.element().str.extract(r"_([^_]+)$").fill_null(pl.element())).list.join(","),
    )  # fmt: skip


def _subtitle(document: Mapping[str, Any]) -> str:
    parts = [document["file"]["name"]]
    if len(document["stages"]) == 1 and document["sigma"] is not None:
        parts.append(f"centre {document['centre']:.6g}" if document["centre"] is not None else "")
        parts.append(f"sigma {document['sigma']:.6g} ({document['estimator']})")
    parts += [limits_in_words(document), f"rules {document['options'].get('rules', '')}"]
    return "  ·  ".join(part for part in parts if part)


def _panel(points: pl.DataFrame, statistic: str, frame: _Frame, height: int, *, is_last: bool) -> dict[str, Any]:
    named = STATISTICS.get(statistic, statistic)
    title = f"{named} of {frame.subject}" if len(frame.subject) <= LONGEST_SUBJECT and "t2" not in statistic else named
    y = {"type": "quantitative", "scale": {"zero": False, "nice": False, "padding": 16}, "title": title}
    first, last = frame.first, frame.last
    x = {
        "type": "quantitative",
        "scale": {"domain": [first - 0.5, last + 0.5], "nice": False, "zero": False},
        "axis": _x_axis(points, first, last, is_last=is_last),
    }
    layers = [
        *_baseline(points, x, height),
        *_limits(points, x, y),
        *_stages(points, x),
        _series(points, x, y),
        _marks(points, x, y, frame.statuses),
        *_rule_texts(points, x, y),
        *_limit_texts(points, last, y),
    ]
    return {"width": WIDTH, "height": height, "layer": layers}


def _x_axis(points: pl.DataFrame, first: int, last: int, *, is_last: bool) -> dict[str, Any]:
    if not is_last:
        return {"title": None, "labels": False, "ticks": False}
    unique = points.unique("number", maintain_order=True).sort("number")
    own = (unique["sample"].is_not_null() & (unique["sample"] != unique["number"].cast(pl.String))).any()
    if not own:
        return {"title": "number of the point", "tickMinStep": 1, "format": "d"}
    step = max(1, -(-unique.height // _TICKS))
    labelled = unique.gather_every(step)
    labels = {str(number): text or "" for number, text in labelled.select("number", "sample").iter_rows()}
    return {
        "title": "sample",
        "values": labelled["number"].to_list(),
        "labelExpr": f"{json.dumps(labels)}[toString(datum.value)]",
        "labelAngle": -40 if max(map(len, labels.values())) > 3 else 0,
        "labelLimit": 90,
        "labelOverlap": False,
    }


def _values(frame: pl.DataFrame) -> dict[str, Any]:
    return {"values": frame.to_dicts()}


def _baseline(points: pl.DataFrame, x: dict[str, Any], height: int) -> list[dict[str, Any]]:
    """A band behind the points from which the limits were estimated, unless that is all of them."""
    used = pl.col("is_baseline").fill_null(value=False)
    one = (
        points.filter(pl.col("series") == 0)
        .sort("number")
        .with_columns(used=used)
        .with_columns(run=pl.struct("part", "used").rle_id())
    )
    if one["used"].all() or not one["used"].any():
        return []
    bands = one.filter("used").group_by("run", maintain_order=True).agg(
        start=pl.col("number").first() - 0.5, end=pl.col("number").last() + 0.5, text=pl.lit("baseline")
    )  # fmt: skip
    at = {**x, "field": "start"}
    return [
        {"data": _values(bands), "mark": {"type": "rect", "color": "#eaf1f8"}, "encoding": {"x": at, "x2": {"field": "end"}}},
        {
            "data": _values(bands),
            "mark": {
                "type": "text",
                "align": "left",
                "baseline": "bottom",
                "dx": 4,
                "dy": -4,
                "fontSize": 10,
                "color": "#6b8299",
            },
            "encoding": {"x": at, "y": {"value": height}, "text": {"field": "text"}},
        },
    ]


def _limits(points: pl.DataFrame, x: dict[str, Any], y: dict[str, Any]) -> list[dict[str, Any]]:
    """Centre line and limits as steps from half a point before to half a point after, apart for each stage."""
    layers = []
    for column, colour, dash in (("cl", _INK, [1, 0]), ("lcl", _LIMIT, [6, 3]), ("ucl", _LIMIT, [6, 3])):
        if points[column].is_null().all():
            continue
        runs = (
            points.sort("series", "number")
            .with_columns(run=pl.struct("series", "part", column).rle_id())
            .group_by("run", "series", "part", maintain_order=True)
            .agg(
                pl.col(column).first().alias("limit"),
                number=pl.concat_list(pl.col("number").min() - 0.5, pl.col("number").max() + 0.5),
            )
            .explode("number")
            .select("number", "limit", line=pl.format("{}|{}", "series", "part"))
        )
        mark = {
            "type": "line",
            "color": colour,
            "strokeDash": dash,
            "strokeWidth": 1.2,
            "invalid": "break-paths-filter-domains",
        }
        encoding = {"x": {**x, "field": "number"}, "y": {**y, "field": "limit"}, "detail": {"field": "line"}}
        layers.append({"data": _values(runs), "mark": mark, "encoding": {**encoding, "order": {"field": "number"}}})
    return layers


def _stages(points: pl.DataFrame, x: dict[str, Any]) -> list[dict[str, Any]]:
    spans = points.group_by("part", maintain_order=True).agg(
        start=pl.col("number").min() - 0.5, text=pl.col("stage").first().fill_null("no stage")
    )
    if spans.height < 2:
        return []
    at = {**x, "field": "start"}
    return [
        {
            "data": _values(spans.slice(1)),
            "mark": {"type": "rule", "color": "#888", "strokeDash": [2, 3]},
            "encoding": {"x": at},
        },
        {
            "data": _values(spans),
            "mark": {"type": "text", "align": "left", "baseline": "bottom", "dx": 4, "dy": -3, "fontSize": 11, "color": "#333"},
            "encoding": {"x": at, "y": {"value": 0}, "text": {"field": "text"}},
        },
    ]


def _series(points: pl.DataFrame, x: dict[str, Any], y: dict[str, Any]) -> dict[str, Any]:
    rows = points.select("number", "value", line=pl.format("{}|{}", "series", "part"))
    return {
        "data": _values(rows),
        "mark": {"type": "line", "color": _LINE, "strokeWidth": 1, "invalid": "break-paths-filter-domains"},
        "encoding": {"x": {**x, "field": "number"}, "y": {**y, "field": "value"}, "detail": {"field": "line"}},
    }


def _marks(points: pl.DataFrame, x: dict[str, Any], y: dict[str, Any], seen: list[str]) -> dict[str, Any]:
    rows = points.filter(pl.col("value").is_not_null()).select("number", "value", "status")
    size = 44 if points.height <= 120 else 22 if points.height <= 500 else 8
    legend = None if seen == ["no signal"] else {"title": None}
    return {
        "data": _values(rows),
        "mark": {"type": "point", "filled": True, "opacity": 1},
        "encoding": {
            "x": {**x, "field": "number"},
            "y": {**y, "field": "value"},
            "size": {"condition": {"test": "datum.status == 'no signal'", "value": size}, "value": size * 2},
            "color": {
                "field": "status",
                "type": "nominal",
                "scale": {"domain": list(_STATUS), "range": [colour for colour, _ in _STATUS.values()]},
                "legend": legend and {**legend, "values": seen},
            },
            "shape": {
                "field": "status",
                "type": "nominal",
                "scale": {"domain": list(_STATUS), "range": [shape for _, shape in _STATUS.values()]},
                "legend": legend and {**legend, "values": seen},
            },
        },
    }


def _rule_texts(points: pl.DataFrame, x: dict[str, Any], y: dict[str, Any]) -> list[dict[str, Any]]:
    """The numbers of the rules beside each signal, outwards from the centre line."""
    signals = points.filter(pl.col("status").str.contains("signal", literal=True) & (pl.col("status") != "no signal"))
    if not 0 < signals.height <= _MOST_LABELLED:
        return []
    is_below = (pl.col("value") < pl.col("cl")).fill_null(value=False)
    layers = []
    for rows, lift in ((signals.filter(~is_below), -9), (signals.filter(is_below), 10)):
        if rows.height:
            mark = {"type": "text", "dy": lift, "fontSize": 10, "color": _SIGNAL, "baseline": "bottom" if lift < 0 else "top"}
            encoding = {"x": {**x, "field": "number"}, "y": {**y, "field": "value"}, "text": {"field": "rule"}}
            layers.append({"data": _values(rows.select("number", "value", "rule")), "mark": mark, "encoding": encoding})
    return layers


def _limit_texts(points: pl.DataFrame, last: int, y: dict[str, Any]) -> list[dict[str, Any]]:
    """Values of the last centre line and limits, at the right edge."""
    ends = points.filter(pl.col("number") == last)
    rows = [
        {"limit": value, "text": f"{name} {value:.5g}"}
        for name, column in (("UCL", "ucl"), ("CL", "cl"), ("LCL", "lcl"))
        for value in ends[column].drop_nulls().unique(maintain_order=True)
    ]
    if not rows:
        return []
    mark = {"type": "text", "align": "left", "dx": 6, "fontSize": 10, "color": "#444"}
    encoding = {"x": {"value": WIDTH}, "y": {**y, "field": "limit"}, "text": {"field": "text"}}
    return [{"data": {"values": rows}, "mark": mark, "encoding": encoding}]

"""From samples to judged points: one way for every chart, whether of one file or of ten thousand charts of a plant.

A frame of *samples* has one row per plotted sample in chart and time order, with

- ``chart`` (a row of ``contracts.charts.CHARTS``), ``estimator``, ``segment`` (Int64; nothing reaches across a change of it);
- charts of values: ``n_observed``, ``mean``, ``m2``, ``range``, ``s``, ``median`` as ``subgroup_statistics`` gives them, and
  ``part`` on a z_mr chart; charts of counts: ``count`` and ``size`` (what was inspected); charts of events: ``mean`` is the
  number or time between two events;
- of counts and g optionally ``limits``: ``probability`` for quantiles of the count's own distribution;
- optionally ``included`` (false: left out of the estimates, still plotted and judged) and the chart's settings ``k``,
  ``span``, ``weight``, ``reference``, ``decision``, ``head_start`` (``SETTINGS`` has what holds where one is null).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import polars as pl

from spc_platform.contracts.charts import CHARTS, Panel
from spc_platform.spc.attribute import Statistic, attribute_centre, attribute_panel, attribute_probability_limits, laney_sigma_z
from spc_platform.spc.constants import median_error
from spc_platform.spc.panel import PanelPoints
from spc_platform.spc.rare_events import TMethod, TParameters, g_centre, g_panel, t_panel, t_parameters
from spc_platform.spc.rule_sets import Rule, allowed
from spc_platform.spc.rules import SIDES, Signals, evaluate
from spc_platform.spc.sequence import Flags, Floats, Ints, Spans
from spc_platform.spc.shewhart import moving_ranges, of_sizes, shewhart_panel
from spc_platform.spc.sigma import within_sigma
from spc_platform.spc.time_weighted import cusum_panels, ewma_panel, moving_average_panel

SETTINGS: dict[str, float] = {"k": 3.0, "weight": 0.2, "reference": 0.5, "decision": 5.0, "head_start": 0.0}
"""Settings of a chart where none is given: limits at 3 standard errors, lambda, and k, h, FIR share of a CUSUM."""

MOVING_RANGE_SPAN = 2
MOVING_AVERAGE_SPAN = 3
_MOVING_RANGE_CHARTS = [name for name, chart in CHARTS.items() if any(panel.statistic == "mr" for panel in chart.panels)]


@dataclass(frozen=True)
class _Rows:
    """Samples of one kind of chart as arrays; null is NaN."""

    frame: pl.DataFrame

    def __getitem__(self, name: str) -> Floats:
        if name not in self.frame.columns:
            return np.broadcast_to(SETTINGS.get(name, np.nan), self.frame.height)
        column = self.frame[name].cast(pl.Float64)
        return column.fill_null(SETTINGS.get(name, np.nan)).to_numpy()

    @property
    def n(self) -> Ints:
        return self.frame["n_observed"].to_numpy().astype(np.int64)

    @property
    def is_first(self) -> Flags:
        return starts(self.frame, ["segment"])

    @property
    def has_probability_limits(self) -> bool:
        """Limits at quantiles of the count's own distribution instead of at k standard errors."""
        return "limits" in self.frame.columns and self.frame["limits"][0] == "probability"

    def span(self, otherwise: int) -> int:
        """Span of the moving range or average; charts of one kind with several spans are charted one span at a time."""
        if "span" not in self.frame.columns or self.frame.is_empty():
            return otherwise
        return int(self.frame["span"][0] or otherwise)


def starts(frame: pl.DataFrame, by: Sequence[str]) -> Flags:
    """Flag the rows where one of ``by`` changes; the first row is flagged.

    >>> starts(pl.DataFrame({"a": [1, 1, 2]}), ["a"]).tolist()
    [True, False, True]
    """
    changed = pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift()) for name in by)
    first: Flags = frame.select(changed.alias("first"))["first"].to_numpy().copy()
    first[:1] = True
    return first


def chart_parameters(samples: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """Centre and sigma of each group of samples: what limits are made of, in the order of the groups.

    ``samples``: sorted by ``by`` and time, one chart per group. Gives ``by``, ``mu`` (grand mean weighted by n; weighted mean
    of medians on a median chart; total share or rate of counts; mean of the transformed times on a t chart), ``sigma`` (within
    subgroups; of counts the width relative to the binomial or Poisson one: 1, or Laney's sigma z), ``sigma_means`` (from
    moving ranges of the means, between/within charts), ``nu``, ``n_subgroups``, ``n_observed``, and for values ``mean``,
    ``m2``, ``sigma_overall``. A parameter that cannot be estimated is null. Sources: ``spc.sigma``, ``spc.attribute``,
    ``spc.rare_events``.
    """
    makers: dict[str, Callable[[pl.DataFrame, Sequence[str]], pl.DataFrame]] = {
        "values": _of_values,
        "counts": _of_counts,
        "events": _of_events,
    }
    kinds = {CHARTS[name].data for name in samples["chart"].unique()}
    if len(kinds) == 1:
        return makers[kinds.pop()](samples, by).sort(by, nulls_last=True, maintain_order=True)
    data = samples["chart"].replace_strict({name: chart.data for name, chart in CHARTS.items()}, return_dtype=pl.String)
    found = [make(rows, by) for kind, make in makers.items() if (rows := samples.filter(data == kind)).height]
    if not found:
        return _of_values(samples, by)
    return pl.concat(found, how="diagonal_relaxed").sort(by, nulls_last=True, maintain_order=True)


def _of_values(samples: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    if "span" in samples.columns:
        # the span of a moving average is none of a moving range
        has_ranges = pl.col("chart").is_in(_MOVING_RANGE_CHARTS)
        span = pl.when(has_ranges).then("span").fill_null(MOVING_RANGE_SPAN).alias("mr_span")
        samples = samples.with_columns(span)
    found = within_sigma(samples, by)
    found = found.with_columns(mu="mean", sigma="sigma_within")
    if (medians := samples.filter(pl.col("chart") == "median_r")).is_empty():
        return found
    # a median weighs as much as its variance says; for equal sizes this is the mean of medians
    weight = of_sizes(median_error, _Rows(medians).n, smallest=1) ** -2.0
    kept = medians.with_columns(_weight=pl.Series(weight)).filter(_included(medians) & (pl.col("n_observed") > 0))
    centre = (
        pl.col("median").first()
        + ((pl.col("median") - pl.col("median").first()) * pl.col("_weight")).sum() / pl.col("_weight").sum()
    )
    centres = kept.group_by(by, maintain_order=True).agg(_median_centre=centre)
    joined = found.join(centres, on=list(by), how="left", nulls_equal=True, maintain_order="left")
    return joined.with_columns(mu=pl.coalesce("_median_centre", "mu")).drop("_median_centre")


def _included(samples: pl.DataFrame) -> pl.Expr:
    return pl.col("included") if "included" in samples.columns else pl.lit(value=True)


def _of_counts(samples: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    frames = []
    for (chart,), rows in samples.group_by("chart", maintain_order=True):
        kind = CHARTS[str(chart)]
        statistic = cast("Statistic", kind.panels[0].statistic)
        spans = Spans.from_first(starts(rows, by))
        table = _Rows(rows)
        included = rows.select(flag=_included(rows) & (pl.col("size").fill_null(0) > 0))["flag"].to_numpy()
        centre = attribute_centre(statistic, table["count"], table["size"], spans, included)
        sigma = np.ones(len(spans.starts))
        if kind.estimators == ("laney",):
            first = starts(rows, [*by, "segment"])
            sigma = laney_sigma_z(statistic, table["count"], table["size"], centre, first, spans, included)
        frames.append(_group_columns(rows, by, spans, included, mu=centre, sigma=sigma))
    return pl.concat(frames)


def _of_events(samples: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    frames = []
    for (chart, estimator), rows in samples.group_by("chart", "estimator", maintain_order=True):
        spans = Spans.from_first(starts(rows, by))
        table = _Rows(rows)
        included = rows.select(flag=_included(rows) & pl.col("mean").is_not_null())["flag"].to_numpy()
        if chart == "g":
            centre, sigma = g_centre(table["mean"], spans, included), np.ones(len(spans.starts))
        else:
            fitted = t_parameters(table["mean"], starts(rows, [*by, "segment"]), spans, _method(estimator), included)
            centre, sigma = fitted.first, fitted.second
        frames.append(_group_columns(rows, by, spans, included, mu=centre, sigma=sigma))
    return pl.concat(frames)


def _method(estimator: object) -> TMethod:
    return cast("TMethod", str(estimator))


def _group_columns(rows: pl.DataFrame, by: Sequence[str], spans: Spans, included: Flags, **parameters: Floats) -> pl.DataFrame:
    n = np.where(included, rows["n_observed"].fill_null(0).to_numpy(), 0)
    counts = {"n_subgroups": spans.count(included), "n_observed": spans.total(n.astype(np.float64)).astype(np.int64)}
    values = pl.DataFrame(counts | parameters).with_columns(pl.col(*parameters).fill_nan(None))
    named = [
        *by,
        *(name for name in ("characteristic_id", "equipment_id") if name in rows.columns and name not in by),
        "estimator",
    ]
    frame = pl.concat([rows[spans.starts].select(named), values], how="horizontal")
    if "subgroup_at" not in rows.columns:
        return frame
    return frame.with_columns(
        window_from=rows["subgroup_at"][spans.starts],
        window_to=rows["subgroup_end_at"][spans.ends],
        last_subgroup_at=rows["subgroup_at"][spans.ends],
    )


def _location(rows: _Rows, panel: Panel) -> PanelPoints:
    if "sigma_means" in rows.frame.columns and rows.frame["chart"][0] in ("i_mr_r", "i_mr_s"):
        return shewhart_panel("x", rows["mean"], rows.n, rows["mu"], rows["sigma_means"] * np.sqrt(rows.n), rows["k"])
    return shewhart_panel(
        panel.statistic, rows["median" if panel.statistic == "median" else "mean"], rows.n, rows["mu"], rows["sigma"], rows["k"]
    )


def _spread(rows: _Rows, panel: Panel) -> PanelPoints:
    return shewhart_panel(
        panel.statistic, rows["range" if panel.statistic == "r" else "s"], rows.n, rows["mu"], rows["sigma"], rows["k"]
    )


def _moving_range(rows: _Rows, panel: Panel) -> PanelPoints:
    chart, span = rows.frame["chart"][0], rows.span(MOVING_RANGE_SPAN)
    value, sigma = rows["mean"], rows["sigma_means" if chart in ("i_mr_r", "i_mr_s") else "sigma"]
    if chart == "z_mr":
        value, sigma = (value - rows["mu"]) / _positive(sigma), np.ones(len(value))
    ranges = moving_ranges(value, rows.is_first, span)
    return shewhart_panel("mr", ranges, np.full(len(value), span), rows["mu"], sigma, rows["k"])


def _positive(values: Floats) -> Floats:
    return np.where(values > 0, values, np.nan)


def _z(rows: _Rows, panel: Panel) -> PanelPoints:
    one = np.ones(rows.frame.height)
    z = (rows["mean"] - rows["mu"]) / _positive(rows["sigma"])
    return PanelPoints(z, 0.0 * one, -rows["k"] * one, rows["k"] * one, one)


def _counted(rows: _Rows, panel: Panel) -> PanelPoints:
    if rows.has_probability_limits:
        statistic = cast("Statistic", panel.statistic)
        return attribute_probability_limits(statistic, rows["count"], rows["size"], rows["mu"], rows["k"])
    return attribute_panel(
        cast("Statistic", panel.statistic), rows["count"], rows["size"], rows["mu"], rows["sigma"], rows["k"]
    )


def _ewma(rows: _Rows, panel: Panel) -> PanelPoints:
    return ewma_panel(rows["mean"], rows["n_observed"], rows.is_first, rows["mu"], rows["sigma"], rows["weight"], rows["k"])


def _cusum(rows: _Rows, panel: Panel) -> PanelPoints:
    settings = (rows["reference"], rows["decision"], rows["head_start"])
    both = cusum_panels(rows["mean"], rows["n_observed"], rows.is_first, rows["mu"], rows["sigma"], *settings)
    return both[0] if panel.name == "upper" else both[1]


def _moving_average(rows: _Rows, panel: Panel) -> PanelPoints:
    span = rows.span(MOVING_AVERAGE_SPAN)
    return moving_average_panel(rows["mean"], rows["n_observed"], rows.is_first, rows["mu"], rows["sigma"], span, rows["k"])


def _g(rows: _Rows, panel: Panel) -> PanelPoints:
    if rows.has_probability_limits:
        return g_panel(rows["mean"], rows["mu"], rows["k"], "probability")
    return g_panel(rows["mean"], rows["mu"], rows["k"])


def _t(rows: _Rows, panel: Panel) -> PanelPoints:
    each = Spans(np.arange(rows.frame.height), rows.frame.height)
    return t_panel(rows["mean"], each, TParameters(_method(rows.frame["estimator"][0]), rows["mu"], rows["sigma"]), rows["k"])


PANEL_POINTS: dict[str, Callable[[_Rows, Panel], PanelPoints]] = {
    "xbar": _location,
    "x": _location,
    "median": _location,
    "r": _spread,
    "s": _spread,
    "mr": _moving_range,
    "z": _z,
    "p": _counted,
    "np": _counted,
    "c": _counted,
    "u": _counted,
    "ewma": _ewma,
    "cusum_upper": _cusum,
    "cusum_lower": _cusum,
    "moving_average": _moving_average,
    "g": _g,
    "t": _t,
}
"""How the points of each statistic are made; a new chart of known statistics needs no code."""


def chart_points(samples: pl.DataFrame) -> pl.DataFrame:
    """Points of every panel of every chart: the samples with panel, statistic, value, cl, lcl, ucl, standard_error, z, width.

    ``samples`` carry their parameters ``mu``, ``sigma``, ``sigma_means`` (null: not judged, limits are null). Rows stay in
    their order within a panel; a sample without a value on a panel has no row there. ``n_observed`` of a moving range is its
    span. ``width`` is the distance of the limits in standard errors.
    """
    keys = [name for name in ("chart", "estimator", "span") if name in samples.columns]
    frames = []
    # statistics that remember the segment skip a sample without values instead of being broken by it
    for whole in _alike(samples, keys):
        chart = CHARTS[str(whole["chart"][0])]
        valued = _kept(whole, whole["n_observed"] > 0) if "n_observed" in whole.columns else whole
        for panel in chart.panels:
            # but a moving range is of neighbours, as the ones that sigma rests on
            rows = whole if panel.statistic == "mr" else valued
            points = PANEL_POINTS[panel.statistic](_Rows(rows), panel)
            frames.append(_with_points(rows, panel, points))
    if not frames:
        return _with_points(samples.clear(), CHARTS["i_mr"].panels[0], PanelPoints(*np.zeros((5, 0))))
    return pl.concat(frames, how="diagonal_relaxed")


def _with_points(rows: pl.DataFrame, panel: Panel, points: PanelPoints) -> pl.DataFrame:
    table = _Rows(rows)
    width = table["decision"] if panel.statistic.startswith("cusum") else table["k"]
    values: dict[str, Any] = {
        "value": points.value,
        "cl": points.cl,
        "lcl": points.lcl,
        "ucl": points.ucl,
        "standard_error": points.standard_error,
        "z": points.z,
    }
    frame = rows.with_columns(
        panel=pl.lit(panel.name),
        statistic=pl.lit(panel.statistic),
        width=pl.Series(width, dtype=pl.Float64),
        **{name: pl.Series(array, dtype=pl.Float64, nan_to_null=True) for name, array in values.items()},
    )
    if panel.statistic == "mr":
        frame = frame.with_columns(n_observed=pl.lit(table.span(MOVING_RANGE_SPAN), dtype=pl.Int64))
    return _kept(frame, frame["value"].is_not_null())


def _kept(frame: pl.DataFrame, flags: pl.Series) -> pl.DataFrame:
    """The flagged rows; no copy where all are."""
    return frame if flags.fill_null(value=False).all() else frame.filter(flags)


def _alike(frame: pl.DataFrame, keys: Sequence[str]) -> list[pl.DataFrame]:
    """Rows of each combination of ``keys`` in the order of appearance; no copy where there is but one."""
    if frame.height and not any(frame[name].ne_missing(frame[name][0]).any() for name in keys):
        return [frame]
    return frame.partition_by(keys, maintain_order=True)


def chart_signals(points: pl.DataFrame, rule_sets: Mapping[str, tuple[Rule, ...]]) -> pl.DataFrame:
    """Every signal of the points' rule sets, as far as the panel allows the test.

    ``points``: of ``chart_points``, with ``rule_set``. Gives ``point`` (row of the flagged point), ``window`` (list of the
    window's rows in time order), ``rule_set``, ``rule``, ``rule_text``, ``side``. Points without z trigger nothing.
    """
    keys = ["rule_set", "chart", "panel"]
    numbered = points.select(*keys, "segment", "z", "width").with_row_index("_row")
    frames = []
    for rows in _alike(_kept(numbered, numbered["z"].is_not_null()), keys):
        rule_set, chart, panel = (rows[name][0] for name in keys)
        rules, _ = allowed(rule_sets[str(rule_set)], CHARTS[str(chart)].panel(str(panel)).tests)
        signals = evaluate(rows["z"].to_numpy(), starts(rows, ["segment"]), rules, rows["width"].to_numpy())
        row = rows["_row"].cast(pl.Int64)
        frames.append(
            pl.DataFrame(
                {
                    "point": row[signals.point],
                    "window": _windows(row.to_numpy(), signals),
                    "rule_set": pl.repeat(str(rule_set), len(signals.point), eager=True, dtype=pl.String),
                    "rule": pl.Series([rule.name for rule in rules], dtype=pl.String)[signals.rule],
                    "rule_text": pl.Series([rule.text for rule in rules], dtype=pl.String)[signals.rule],
                    "side": pl.Series(SIDES)[signals.side],
                }
            )
        )
    text = dict.fromkeys(("rule_set", "rule", "rule_text", "side"), pl.String)
    empty = pl.DataFrame(schema={"point": pl.Int64, "window": pl.List(pl.Int64), **text})
    return pl.concat([empty, *frames])


def _windows(row: Ints, signals: Signals) -> pl.Series:
    """Rows of each signal's window, in time order."""
    length = signals.point - signals.window_first + 1
    within = np.arange(int(length.sum())) - np.repeat(np.cumsum(length) - length, length)
    return _as_lists(pl.Series(row[np.repeat(signals.window_first, length) + within]), length)


def window_members(signals: pl.DataFrame, of: pl.Series) -> pl.Series:
    """What stands in ``of`` at each row of each signal's window, as lists in time order."""
    return _as_lists(of[signals["window"].explode(empty_as_null=False)], signals["window"].list.len().to_numpy())


def _as_lists(flat: pl.Series, lengths: Ints) -> pl.Series:
    """Consecutive pieces of the given lengths (at least 1) as lists."""
    pieces = pl.DataFrame({"piece": np.repeat(np.arange(len(lengths)), lengths), "member": flat})
    return pieces.group_by("piece", maintain_order=True).agg("member")["member"]

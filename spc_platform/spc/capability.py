"""Capability (sigma within) and performance (overall s) of parts, with intervals, expected and observed defects, and verdict.

One set of functions serves the pipeline (``capability``: many charts, from mergeable subgroup statistics) and a single
study (``capability_study``): the arithmetic of both is ``indices``, ``percentiles`` and ``distributions``.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from spc_platform.contracts.charts import CHARTS, LOCATION_PANELS, TIME_WEIGHTED
from spc_platform.contracts.spc import SPC_CAPABILITY
from spc_platform.errors import ContractError
from spc_platform.site.model import Site
from spc_platform.spc.capability_study import capability_study
from spc_platform.spc.distributions import HIGH, LOW, MIDDLE, fit_many
from spc_platform.spc.indices import (
    PER_MILLION,
    check_confidence,
    interval_of_cp,
    interval_of_cpk,
    reasons,
    with_indices,
)
from spc_platform.spc.percentiles import percentile_indices
from spc_platform.spc.points import site_rule_sets
from spc_platform.spc.rule_sets import Rule, allowed
from spc_platform.spc.sequence import CHART, Flags, Floats, Spans, chart_order, first_of_segment, merge
from spc_platform.spc.sigma import within_sigma
from spc_platform.spc.stability import CHANCE, chance_of_signals, chance_of_spread_signals, signals_by_chance

__all__ = ["capability", "capability_study", "interval_of_cp", "interval_of_cpk", "observed_out_of_specification"]

_BY = ["chart_index", "specification_version"]
_KEY = [*CHART, "specification_version"]
_DEFAULT_K = 3.0
_FITTED = {
    "fit_statistic": pl.Float64,
    "fit_p_value": pl.Float64,
    "is_extrapolated": pl.Boolean,
    "x_00135": pl.Float64,
    "x_50": pl.Float64,
    "x_99865": pl.Float64,
    "pp_percentile": pl.Float64,
    "ppl_percentile": pl.Float64,
    "ppu_percentile": pl.Float64,
    "ppk_percentile": pl.Float64,
    "expected_ppm_total_fitted": pl.Float64,
}
_OBSERVED = ("observed_ppm_below_lsl", "observed_ppm_above_usl", "observed_ppm_total")


def capability(
    subgroups: pl.DataFrame,
    violations: pl.DataFrame,
    limits: pl.DataFrame,
    site: Site,
    values: pl.DataFrame | pl.LazyFrame | None = None,
) -> pl.DataFrame:
    """Capability per chart and specification version: SPC_CAPABILITY.

    ``subgroups``, ``violations``: all production dates of the study; ``values``: the MEASUREMENT rows behind the subgroups
    (characteristic_id, equipment_id, specification_version, value, and subgroup_key where charts group by it), which
    observed ppm and fits of declared distributions need; without them those columns are null. Cp and Cpk rest on sigma
    within by the chart's estimator, Pp and Ppk on the overall s; a one-sided specification has no Cp, Pp, Cpm. An index
    that cannot be computed is null and ``reason`` says why. Subgroups without a specification in force are left out.

    Stability: ``no_limits`` without a limit version of the chart; ``unstable`` when chance explains the signals of the
    location panel with a probability below 1 % (by their number or by the farthest, see ``stability``; on charts with a
    memory, EWMA, CUSUM and moving average, with any signal), or the number of those of the dispersion panel;
    ``too_few_points`` below the policy's baseline size; else ``stable``. Raises ``ContractError`` SPC-345 for a
    specification whose LSL is not below its USL, SPC-346 for an impossible confidence.
    """
    check_confidence(site.policies.confidence)
    ordered = chart_order(subgroups.filter(pl.col("specification_version").is_not_null()), site)
    ordered = ordered.sort(*_BY, "subgroup_at", "subgroup_id")
    if ordered.is_empty():
        return SPC_CAPABILITY.empty()
    segment = pl.Series(first_of_segment(ordered, _BY, site.policies.rule_reset_gap_h)).cum_sum().cast(pl.Int64)
    study = within_sigma(ordered.with_columns(segment=segment), _BY)
    spans = Spans(np.cumsum(study["n_subgroups"].to_numpy()) - study["n_subgroups"].to_numpy(), ordered.height)
    study = study.with_columns(
        **_unmasked(ordered, spans),
        **_signals(ordered, violations, spans),
        n_masked=pl.Series(spans.total(ordered["n_masked"].to_numpy())).cast(pl.Int64),
        chart=ordered["chart"][spans.starts],
        subgroup_size=ordered["subgroup_size"][spans.starts],
        rule_set=ordered["rule_set"][spans.starts],
    )
    study = _with_specification(study, site)
    study = _with_stability(study, limits, site)
    study = with_indices(study, site.policies.confidence)
    study = _with_unmasked_indices(study)
    study = _with_values(study, values, site)
    unknown = (pl.col("is_known").is_null(), "the site has no specification of this version")
    reason = reasons((unknown, *_fit_reasons(values is not None)), is_known=pl.col("is_known").is_not_null())
    return SPC_CAPABILITY.conform(study.with_columns(reason=reason))


def observed_out_of_specification(values: pl.DataFrame | pl.LazyFrame, site: Site) -> pl.DataFrame:
    """Count values outside the specification in force when they were made, per chart and specification version.

    ``values``: MEASUREMENT rows. Columns: characteristic_id, equipment_id, specification_version, n_values, n_below_lsl,
    n_above_usl (null without the limit); a value on a limit is inside. Values without a specification are left out.
    """
    specification = site["specifications"].lazy().select("characteristic_id", "lsl", "usl", specification_version="version")
    value = pl.col("value")
    counted = (
        _charted(values, site)
        .join(specification, on=["characteristic_id", "specification_version"], how="inner")
        .group_by(_KEY)
        .agg(
            n_values=pl.len().cast(pl.Int64),
            n_below_lsl=pl.when(pl.col("lsl").first().is_not_null()).then((value < pl.col("lsl")).sum().cast(pl.Int64)),
            n_above_usl=pl.when(pl.col("usl").first().is_not_null()).then((value > pl.col("usl")).sum().cast(pl.Int64)),
        )
    )
    return counted.sort(_KEY).collect()


def _charted(values: pl.DataFrame | pl.LazyFrame, site: Site) -> pl.LazyFrame:
    """Values that stand in subgroups: finite, under a specification, of a declared chart, with a key where it groups by one."""
    frame = values.lazy()
    charts = site["characteristics"].lazy().select(*CHART, "subgrouping")
    frame = frame.filter(pl.col("value").is_finite() & pl.col("specification_version").is_not_null())
    frame = frame.join(charts, on=CHART, how="inner")
    if "subgroup_key" in frame.collect_schema().names():
        frame = frame.filter(~((pl.col("subgrouping") == "key") & pl.col("subgroup_key").is_null()))
    return frame.select(*_KEY, "value")


def _with_specification(study: pl.DataFrame, site: Site) -> pl.DataFrame:
    """The study with its limits, and with means in the unit of the limits where the chart plots deviations from nominal."""
    specification = site["specifications"].select(
        "characteristic_id", "lsl", "target", "usl", specification_version="version", is_known=pl.lit(value=True)
    )
    wrong = specification.filter(pl.col("lsl") >= pl.col("usl"))
    if wrong.height:
        name, version, low, high = wrong.select("characteristic_id", "specification_version", "lsl", "usl").row(0)
        raise ContractError(
            f"specification {version} of {name}: LSL {low:g} is not below USL {high:g}, so no part can be judged; correct the "
            "limits in the site's specifications (exchange them if they are swapped)",
            code="SPC-345",
        )
    study = study.join(specification, on=["characteristic_id", "specification_version"], how="left", maintain_order="left")
    nominal = pl.when(pl.col("chart").is_in(["dnom", "dnom_i_mr"])).then("target").otherwise(0.0)
    return study.with_columns(mean=pl.col("mean") + nominal)


def _unmasked(ordered: pl.DataFrame, spans: Spans) -> dict[str, pl.Series]:
    n = (ordered["n_observed"] - ordered["n_masked"]).cast(pl.Float64).to_numpy()
    mean, m2 = (ordered[name].fill_null(np.nan).to_numpy() for name in ("mean_unmasked", "m2_unmasked"))
    total, centre, squares = merge(n, mean, m2, spans)
    s = np.where(total > 1, np.sqrt(squares / np.maximum(total - 1.0, 1.0)), np.nan)
    return {"centre_unmasked": pl.Series(centre, nan_to_null=True), "s_unmasked": pl.Series(s, nan_to_null=True)}


def _signals(ordered: pl.DataFrame, violations: pl.DataFrame, spans: Spans) -> dict[str, pl.Series]:
    """Points that signal in each span, of the location and of the spread, and the farthest of the location."""
    is_location = pl.col("panel").is_in(list(LOCATION_PANELS))
    flagged = violations.group_by("subgroup_id").agg(
        z=pl.col("z").filter(is_location).abs().max(), location=is_location.any(), spread=(~is_location).any()
    )
    joined = ordered.select("subgroup_id").join(flagged, on="subgroup_id", how="left", maintain_order="left")
    location, spread = (spans.count(joined[name].fill_null(value=False).to_numpy()) for name in ("location", "spread"))
    farthest = np.maximum.reduceat(joined["z"].fill_null(0.0).to_numpy(), spans.starts)
    return {"n_violation_points": pl.Series(location), "n_spread_points": pl.Series(spread), "largest_z": pl.Series(farthest)}


def _with_stability(study: pl.DataFrame, limits: pl.DataFrame, site: Site) -> pl.DataFrame:
    latest = limits.sort("limit_version").group_by(CHART).agg(k=pl.col("k").last(), has_limits=pl.lit(value=True))
    study = study.join(latest, on=CHART, how="left", maintain_order="left").with_columns(pl.col("k").fill_null(_DEFAULT_K))
    by_chance = study.select("chart", "rule_set", "k").unique(maintain_order=True)
    sets = site_rule_sets(site)
    rates = [_by_chance(chart, sets.get(name, ()), k) for chart, name, k in by_chance.iter_rows()]
    by_chance = by_chance.with_columns(
        expected_signal_share=pl.Series([share for share, _ in rates], dtype=pl.Float64),
        spread=pl.Series([spread for _, spread in rates], dtype=pl.Float64),
    )
    study = study.join(by_chance, on=["chart", "rule_set", "k"], how="left", maintain_order="left")
    names = ("n_subgroups", "n_violation_points", "largest_z", "expected_signal_share", "spread")
    chance = chance_of_signals(*(study[name].cast(pl.Float64).to_numpy() for name in names))
    by_location = (chance < CHANCE) | (np.isnan(chance) & (study["n_violation_points"] > 0).to_numpy())
    policy = site.policies.baseline
    few = pl.when(pl.col("subgroup_size") == 1).then(policy.individuals).otherwise(policy.subgroups)
    verdict = (
        pl.when(pl.col("has_limits").is_null())
        .then(pl.lit("no_limits"))
        .when(pl.Series(by_location | _spread_is_unstable(study)))
        .then(pl.lit("unstable"))
        .when(pl.col("n_subgroups") < few)
        .then(pl.lit("too_few_points"))
        .otherwise(pl.lit("stable"))
    )
    return study.with_columns(
        stability=verdict,
        signal_share=pl.col("n_violation_points") / pl.col("n_subgroups"),
        expected_signal_share=pl.col("expected_signal_share").fill_nan(None),
    )


def _spread_is_unstable(study: pl.DataFrame) -> Flags:
    """Whether chance explains the signals of the dispersion panel with a probability below ``CHANCE``."""
    panels = {name: kind.panels[1] for name, kind in CHARTS.items() if len(kind.panels) > 1 and name not in TIME_WEIGHTED}
    statistic = study["chart"].replace_strict({name: panel.statistic for name, panel in panels.items()}, default=None)
    chance = np.ones(study.height)
    size = np.where(statistic == "mr", 2, np.maximum(study["subgroup_size"].to_numpy(), 2))
    k, points, signals = (study[name].cast(pl.Float64).to_numpy() for name in ("k", "n_subgroups", "n_spread_points"))
    for name in statistic.drop_nulls().unique():
        rows = (statistic == name).fill_null(value=False).to_numpy()
        chance[rows] = chance_of_spread_signals(name, size[rows], k[rows], points[rows], signals[rows])
    return np.asarray(chance < CHANCE, dtype=np.bool_)


def _by_chance(chart: str, rules: tuple[Rule, ...], k: float) -> tuple[float, float]:
    """Share of signals by chance and its spread; NaN for charts whose points carry on the past, and for unknown rules."""
    kept, _ = allowed(rules, CHARTS[chart].panels[0].tests)
    return (np.nan, np.nan) if chart in TIME_WEIGHTED or not kept else signals_by_chance(tuple(kept), k)


def _with_unmasked_indices(study: pl.DataFrame) -> pl.DataFrame:
    s = pl.when(pl.col("s_unmasked") > 0).then("s_unmasked")
    nearer = pl.min_horizontal(pl.col("usl") - pl.col("centre_unmasked"), pl.col("centre_unmasked") - pl.col("lsl"))
    return study.with_columns(pp_unmasked=(pl.col("usl") - pl.col("lsl")) / (6.0 * s), ppk_unmasked=nearer / (3.0 * s))


def _fit_reasons(has_values: bool) -> tuple[tuple[pl.Expr, str], ...]:
    lacking = pl.col("distribution").is_not_null() & (pl.col("distribution") != "normal") & pl.col("fit_statistic").is_null()
    if not has_values:
        return ((lacking, "no fit of the declared distribution: it needs the values themselves"),)
    return ((lacking, "the declared distribution cannot be fitted: its values must be positive and differ"),)


def _with_values(study: pl.DataFrame, values: pl.DataFrame | pl.LazyFrame | None, site: Site) -> pl.DataFrame:
    """The study with what only the values tell: observed defects, and fits of the declared distributions."""
    declared = site["characteristics"]
    if "distribution" not in declared.columns:
        declared = declared.with_columns(distribution=pl.lit(None, dtype=pl.String))
    study = study.join(declared.select(*CHART, "distribution"), on=CHART, how="left", maintain_order="left")
    if values is None:
        return study.with_columns(
            *(pl.lit(None, dtype=pl.Float64).alias(name) for name in _OBSERVED),
            *(pl.lit(None, dtype=dtype).alias(name) for name, dtype in _FITTED.items()),
        )
    counts = observed_out_of_specification(values, site)
    study = study.join(counts, on=_KEY, how="left", maintain_order="left")
    below, above = (pl.col(name) for name in ("n_below_lsl", "n_above_usl"))
    outside = pl.when(~(below.is_null() & above.is_null())).then(below.fill_null(0) + above.fill_null(0))
    study = study.with_columns(
        (PER_MILLION * count / pl.col("n_values")).alias(name)
        for name, count in zip(_OBSERVED, (below, above, outside), strict=True)
    )
    return study.join(_fits(study, values, site), on=_KEY, how="left", maintain_order="left")


def _fits(study: pl.DataFrame, values: pl.DataFrame | pl.LazyFrame, site: Site) -> pl.DataFrame:
    """Fits of all charts that declare a distribution other than normal, one call per distribution."""
    asked = study.filter(pl.col("distribution").is_not_null() & (pl.col("distribution") != "normal"))
    frames = [pl.DataFrame(schema={**study.select(_KEY).schema, **_FITTED})]
    for name in asked["distribution"].unique().sort():
        keys = asked.filter(pl.col("distribution") == name).select(*_KEY, "lsl", "usl")
        rows = _charted(values, site).join(keys.lazy(), on=_KEY, how="inner").sort(*_KEY, "value").collect()
        if rows.is_empty():
            continue
        changed = rows.select(pl.any_horizontal(pl.col(key).ne_missing(pl.col(key).shift()) for key in _KEY)).to_series()
        is_first = changed.to_numpy().copy()
        is_first[0] = True
        frames.append(_fitted(rows, Spans.from_first(is_first), name))
    return pl.concat(frames)


def _fitted(rows: pl.DataFrame, spans: Spans, distribution: str) -> pl.DataFrame:
    found = fit_many(rows["value"].to_numpy(), spans, distribution)
    each = rows[spans.starts]
    lsl, usl = (each[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in ("lsl", "usl"))
    low, middle, high = (found.quantile(share) for share in (LOW, MIDDLE, HIGH))
    defects: Floats = np.nan_to_num(found.below(lsl)) + np.nan_to_num(found.above(usl))
    known = np.isfinite(found.scale) & ~(np.isnan(lsl) & np.isnan(usl))
    columns = {
        "fit_statistic": found.anderson_darling,
        "fit_p_value": found.p_value,
        "x_00135": low,
        "x_50": middle,
        "x_99865": high,
        **percentile_indices(low, middle, high, lsl, usl),
        "expected_ppm_total_fitted": np.where(known, PER_MILLION * defects, np.nan),
    }
    frame = each.select(_KEY).with_columns(pl.Series(name, column, nan_to_null=True) for name, column in columns.items())
    extrapolated = pl.when(pl.col("x_50").is_not_null()).then(pl.Series(found.is_extrapolated))
    return frame.with_columns(is_extrapolated=extrapolated).select(*_KEY, *_FITTED)

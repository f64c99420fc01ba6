"""Capability (sigma within) and performance (overall s) of parts, with confidence intervals and stability verdict."""

from __future__ import annotations

import numpy as np
import polars as pl
from scipy import stats

from spc_platform.contracts.spc import SPC_CAPABILITY
from spc_platform.site.model import Site
from spc_platform.spc.sequence import CHART, Floats, Ints, Spans, chart_order, merge
from spc_platform.spc.sigma import within_sigma

_BY = ["chart_index", "specification_version"]


def interval_of_cp(cp: Floats, nu: Floats, confidence: float) -> tuple[Floats, Floats]:
    """Two-sided confidence interval of Cp (or Pp) with ``nu`` degrees of freedom: Cp sqrt(chi2 / nu).

    NaN where cp is NaN or nu is not positive. Source: Kane, J. Quality Technology 18 (1986) 41.

    >>> [round(float(end), 5) for end in interval_of_cp(np.array(1.33), np.array(124.0), 0.95)]
    [1.16456, 1.49518]
    """
    tail = (1.0 - confidence) / 2.0
    known = np.where(nu > 0, nu, np.nan)
    return (
        np.asarray(cp * np.sqrt(stats.chi2.ppf(tail, known) / known), dtype=np.float64),
        np.asarray(cp * np.sqrt(stats.chi2.ppf(1.0 - tail, known) / known), dtype=np.float64),
    )


def interval_of_cpk(cpk: Floats, n: Floats, nu: Floats, confidence: float) -> tuple[Floats, Floats]:
    """Two-sided confidence interval of Cpk (or Ppk): Cpk -+ z sqrt(1 / (9 N) + Cpk^2 / (2 nu)).

    ``n``: number of values; NaN where nu is not positive. Source: Bissell, Applied Statistics 39 (1990) 331.

    >>> ends = interval_of_cpk(np.array(1.2), np.array(125.0), np.array(124.0), 0.95)
    >>> [round(float(end), 5) for end in ends]
    [1.03963, 1.36037]
    """
    known = np.where(nu > 0, nu, np.nan)
    half = stats.norm.ppf(0.5 + confidence / 2.0) * np.sqrt(1.0 / (9.0 * n) + cpk * cpk / (2.0 * known))
    return np.asarray(cpk - half, dtype=np.float64), np.asarray(cpk + half, dtype=np.float64)


def capability(subgroups: pl.DataFrame, violations: pl.DataFrame, limits: pl.DataFrame, site: Site) -> pl.DataFrame:
    """Capability per chart and specification version: SPC_CAPABILITY.

    ``subgroups``, ``violations``: all production dates of the study. Cp and Cpk rest on sigma within by the chart's
    estimator, Pp and Ppk on the overall s; a one-sided specification has Cpk and Ppk only. An index that cannot be
    computed is null and ``reason`` says why. Subgroups without a specification in force are left out.

    Stability: ``no_limits`` without a limit version of the chart; ``unstable`` with any signal on the location panel
    in the window; ``too_few_points`` below the policy's baseline size; else ``stable``.
    """
    ordered = chart_order(subgroups.filter(pl.col("specification_version").is_not_null()), site)
    ordered = ordered.sort(*_BY, "subgroup_at", "subgroup_id")
    if ordered.is_empty():
        return SPC_CAPABILITY.empty()
    study = within_sigma(ordered, _BY, site.policies.rule_reset_gap_h)
    spans = Spans(np.cumsum(study["n_subgroups"].to_numpy()) - study["n_subgroups"].to_numpy(), ordered.height)
    study = study.with_columns(
        **_unmasked(ordered, spans),
        n_masked=pl.Series(spans.total(ordered["n_masked"].to_numpy())).cast(pl.Int64),
        n_violation_points=pl.Series(_violation_points(ordered, violations, spans)),
        chart=ordered["chart"][spans.starts],
    )
    specification = site["specifications"].select(
        "characteristic_id", "lsl", "target", "usl", specification_version="version", is_known=pl.lit(value=True)
    )
    study = study.join(specification, on=["characteristic_id", "specification_version"], how="left", maintain_order="left")
    study = study.with_columns(
        stability=_stability(limits, site), reason=_reason(), confidence=pl.lit(site.policies.confidence)
    )
    return SPC_CAPABILITY.conform(_indices(study, site.policies.confidence))


def _unmasked(ordered: pl.DataFrame, spans: Spans) -> dict[str, pl.Series]:
    n = (ordered["n_observed"] - ordered["n_masked"]).cast(pl.Float64).to_numpy()
    mean, m2 = (ordered[name].fill_null(np.nan).to_numpy() for name in ("mean_unmasked", "m2_unmasked"))
    total, centre, squares = merge(n, mean, m2, spans)
    s = np.where(total > 1, np.sqrt(squares / np.maximum(total - 1.0, 1.0)), np.nan)
    return {"centre_unmasked": pl.Series(centre, nan_to_null=True), "s_unmasked": pl.Series(s, nan_to_null=True)}


def _violation_points(ordered: pl.DataFrame, violations: pl.DataFrame, spans: Spans) -> Ints:
    flagged = violations.filter(pl.col("panel") == "location")["subgroup_id"].unique()
    return spans.count(ordered["subgroup_id"].is_in(flagged.implode()).to_numpy())


def _stability(limits: pl.DataFrame, site: Site) -> pl.Expr:
    policy = site.policies.baseline
    charted = limits.select(chart=pl.concat_str(*CHART, separator="|"))["chart"].unique()
    few = pl.when(pl.col("chart") == "i_mr").then(policy.individuals).otherwise(policy.subgroups)
    return (
        pl.when(~pl.concat_str(*CHART, separator="|").is_in(charted.implode()))
        .then(pl.lit("no_limits"))
        .when(pl.col("n_violation_points") > 0)
        .then(pl.lit("unstable"))
        .when(pl.col("n_subgroups") < few)
        .then(pl.lit("too_few_points"))
        .otherwise(pl.lit("stable"))
    )


def _reason() -> pl.Expr:
    lower, upper = pl.col("lsl").is_not_null(), pl.col("usl").is_not_null()
    causes = [
        (pl.col("is_known").is_null(), "the site has no specification of this version"),
        (pl.col("is_known").is_not_null() & ~lower & ~upper, "the specification has no limits"),
        (lower ^ upper, "one-sided specification: no Cp, Pp, Cpm"),
        (lower & upper & pl.col("target").is_null(), "no target: no Cpm"),
        (pl.col("sigma_within").is_null(), "sigma within cannot be estimated: no subgroup carries dispersion"),
        (pl.col("sigma_within") == 0, "sigma within is 0"),
        (pl.col("sigma_overall").is_null(), "one value has no overall s"),
        (pl.col("sigma_overall") == 0, "overall s is 0"),
    ]
    parts = [pl.when(condition).then(pl.lit(text)) for condition, text in causes]
    return pl.concat_str(parts, separator="; ", ignore_nulls=True).replace("", None)


def _indices(study: pl.DataFrame, confidence: float) -> pl.DataFrame:
    within, overall, unmasked = (_positive(name) for name in ("sigma_within", "sigma_overall", "s_unmasked"))
    spread = pl.col("usl") - pl.col("lsl")
    about_target = (pl.col("sigma_overall") ** 2 + (pl.col("mean") - pl.col("target")) ** 2).sqrt()
    study = study.with_columns(
        cp=spread / (6.0 * within),
        cpk=_nearer_limit(pl.col("mean")) / (3.0 * within),
        pp=spread / (6.0 * overall),
        ppk=_nearer_limit(pl.col("mean")) / (3.0 * overall),
        cpm=spread / (6.0 * pl.when(about_target > 0).then(about_target)),
        ppk_unmasked=_nearer_limit(pl.col("centre_unmasked")) / (3.0 * unmasked),
    )
    n = study["n_observed"].cast(pl.Float64).to_numpy()
    nu = study["nu"].fill_null(0.0).to_numpy()
    cp, cpk, pp, ppk = (study[name].fill_null(np.nan).to_numpy() for name in ("cp", "cpk", "pp", "ppk"))
    ends = {
        "cp": interval_of_cp(cp, nu, confidence),
        "cpk": interval_of_cpk(cpk, n, nu, confidence),
        "pp": interval_of_cp(pp, n - 1.0, confidence),
        "ppk": interval_of_cpk(ppk, n, n - 1.0, confidence),
    }
    return study.with_columns(
        pl.Series(f"{name}_ci_{end}", values, nan_to_null=True)
        for name, interval in ends.items()
        for end, values in zip(("low", "high"), interval, strict=True)
    )


def _positive(name: str) -> pl.Expr:
    return pl.when(pl.col(name) > 0).then(pl.col(name))


def _nearer_limit(centre: pl.Expr) -> pl.Expr:
    """Signed distance from the centre to the nearer limit; a one-sided specification has one."""
    return pl.min_horizontal(pl.col("usl") - centre, centre - pl.col("lsl"))

"""Phase I and II: trial limits with assigned causes, a new version tried on past data, drift from frozen limits.

Nothing here decides. Trial limits list what a person has to look at, a shadow lists what would have been different, and
drift says that frozen limits may no longer fit; a version is made by ``spc.limits.approve`` alone. Montgomery,
Introduction to Statistical Quality Control (6.2): trial limits, assignable causes, revision.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import cast

import numpy as np
import polars as pl
from scipy import stats

from spc_platform.contracts.charts import CHARTS as KINDS_OF_CHARTS
from spc_platform.contracts.phases import SPC_LIMIT_DRIFT, SPC_SHADOW
from spc_platform.contracts.spc import SPC_LIMITS, SPC_POINTS, SPC_VIOLATIONS
from spc_platform.errors import ContractError
from spc_platform.site.model import Site
from spc_platform.spc.constants import c4, d2, d3
from spc_platform.spc.limits import approve
from spc_platform.spc.points import judge
from spc_platform.spc.sequence import CHART, Floats, Ints, chart_order


@dataclass(frozen=True)
class TrialLimits:
    """Trial limits of one chart, and what a person has to look at before they are frozen.

    ``limits``: SPC_LIMITS, one row, not approved. ``points``: SPC_POINTS of the window, excluded ones too. ``signals``:
    SPC_VIOLATIONS that no exclusion accounts for: the list to look at, empty when the baseline is settled. ``explained``:
    SPC_VIOLATIONS of excluded subgroups, or with one in their window or moving range. ``rounds``: how the limits got
    there: round, n_excluded, mu, sigma, n_signals (points to look at in that round).
    """

    limits: pl.DataFrame
    points: pl.DataFrame
    signals: pl.DataFrame
    explained: pl.DataFrame
    rounds: pl.DataFrame

    @property
    def is_settled(self) -> bool:
        return self.signals.is_empty()


def trial_limits(
    subgroups: pl.DataFrame,
    site: Site,
    *,
    characteristic_id: str,
    equipment_id: str,
    baseline_from: datetime,
    baseline_to: datetime,
    excluded: Mapping[str, str] | None = None,
) -> TrialLimits:
    """Trial limits of one chart from the subgroups of [baseline_from, baseline_to], with their signals.

    ``subgroups``: SPC_SUBGROUPS; ``excluded``: subgroup_id -> assigned cause, and nothing else is ever left out. Round 0
    excludes nothing; each next round excludes what has signalled so far and has a cause, until that adds nothing; the
    last round excludes all of ``excluded`` and is the result, so it equals the version that ``limits.approve`` makes from
    the same call. A caller looks at ``signals``, adds causes and calls again. Raises ``ContractError`` as ``approve`` does:
    an exclusion without a cause or outside the window, an empty window, one that spans a change of specification, or a
    sigma that is 0 or cannot be estimated.
    """
    given = dict(excluded or {})
    chart = (pl.col("characteristic_id") == characteristic_id) & (pl.col("equipment_id") == equipment_id)
    window = subgroups.filter(chart & pl.col("subgroup_at").is_between(baseline_from, baseline_to))

    def limits_without(left_out: Mapping[str, str]) -> pl.DataFrame:
        return approve(
            SPC_LIMITS.empty(),
            window,
            site,
            characteristic_id=characteristic_id,
            equipment_id=equipment_id,
            baseline_from=baseline_from,
            baseline_to=baseline_to,
            approved_by="nobody: trial limits",
            reason="trial limits of phase I",
            effective_from=baseline_from,
            excluded=left_out,
        )

    limits = limits_without(given)
    ordered = chart_order(window, site)
    rounds: list[dict[str, float]] = []
    known: dict[str, str] = {}
    while True:
        trial = limits_without(known)
        _, violations = _judge_all(window, trial, site)
        open_ones, _ = _explained(violations, ordered, known)
        rounds.append(_round(len(rounds), known, trial, open_ones))
        signalled = set(violations["subgroup_id"]) & set(given)
        if signalled <= set(known):
            break
        known |= {subgroup: cause for subgroup, cause in given.items() if subgroup in signalled}
    points, violations = _judge_all(window, limits, site)
    signals, explained = _explained(violations, ordered, given)
    if len(known) < len(given):
        rounds.append(_round(len(rounds), given, limits, signals))
    return TrialLimits(limits, points, signals, explained, pl.DataFrame(rounds))


def _round(number: int, excluded: Collection[str], limits: pl.DataFrame, signals: pl.DataFrame) -> dict[str, float]:
    mu, sigma = limits.select("mu", "sigma").row(0)
    points = signals.select("subgroup_id", "panel").n_unique()
    return {"round": number, "n_excluded": len(excluded), "mu": mu, "sigma": sigma, "n_signals": points}


def _explained(violations: pl.DataFrame, ordered: pl.DataFrame, excluded: Collection[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Violations that no excluded subgroup takes part in, and the others.

    A moving range also rests on the subgroup before its own.
    """
    before = ordered.select("subgroup_id", "chart", before=pl.col("subgroup_id").shift().over("chart_index"))
    moving = {name for name, kind in KINDS_OF_CHARTS.items() if any(panel.statistic == "mr" for panel in kind.panels)}
    joined = violations.join(before, on="subgroup_id", how="left", maintain_order="left")
    left_out = list(excluded)
    in_window = pl.col("window_subgroup_ids").str.split(";").list.eval(pl.element().is_in(left_out)).list.any()
    in_range = (pl.col("panel") == "dispersion") & pl.col("chart").is_in(list(moving)) & pl.col("before").is_in(left_out)
    joined = joined.with_columns(explained=(in_window | in_range).fill_null(value=False))
    return (
        SPC_VIOLATIONS.conform(joined.filter(~pl.col("explained"))),
        SPC_VIOLATIONS.conform(joined.filter("explained")),
    )


def _judge_all(subgroups: pl.DataFrame, limits: pl.DataFrame, site: Site) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Points and violations of subgroups of any dates in one pass, each with its own production date."""
    if subgroups.is_empty():
        return SPC_POINTS.empty(), SPC_VIOLATIONS.empty()
    first, last = cast("tuple[date, date]", (subgroups["production_date"].min(), subgroups["production_date"].max()))
    return judge(subgroups, limits, site, last, since=first)


def running_candidates(limits: pl.DataFrame, estimates: pl.DataFrame, charts: pl.DataFrame) -> pl.DataFrame:
    """SPC_LIMITS of a version per chart of ``charts`` with the running estimate's centre and sigma: to be tried as a shadow.

    ``limits``: SPC_LIMITS, of which the version without an end is taken over; ``estimates``: SPC_LIMIT_ESTIMATES.
    """
    newest = limits.filter(pl.col("effective_to").is_null()).join(charts.select(CHART), on=CHART, how="semi")
    running = estimates.filter(pl.col("sigma") > 0).select(*CHART, "mu", "sigma", "sigma_means", "n_subgroups", "inputs_hash")
    kept = newest.drop("mu", "sigma", "sigma_means", "n_subgroups", "inputs_hash").join(running, on=CHART)
    return SPC_LIMITS.conform(
        kept.with_columns(
            supersedes="limit_version",
            limit_version=pl.col("limit_version") + 1,
            approved_by=pl.lit("nobody: running estimate"),
            reason=pl.lit("tried as a shadow"),
        )
    )


def shadow(
    subgroups: pl.DataFrame,
    limits: pl.DataFrame,
    candidate: pl.DataFrame,
    site: Site,
    first_date: date | None = None,
    last_date: date | None = None,
) -> pl.DataFrame:
    """SPC_SHADOW: what past subgroups trigger under the limits in force then, under a candidate version, or under both.

    ``subgroups``: SPC_SUBGROUPS of the dates to compare and, for run windows, of the days before; ``limits``: SPC_LIMITS;
    ``candidate``: SPC_LIMITS of one version per chart, taken as in force throughout, whatever its own dates. Charts
    without a candidate are left out. ``first_date``, ``last_date``: production dates that are listed, both inclusive.
    Nothing is written back. Raises ``ContractError`` (SPC-343) for several candidates of a chart.
    """
    twice = candidate.filter(pl.len().over(CHART) > 1).select(CHART).unique().sort(CHART)
    if twice.height:
        charts = ", ".join(" on ".join(row) for row in twice.rows())
        raise ContractError(f"shadow: several candidate versions of {charts}; keep one per chart", code="SPC-343")
    ours = subgroups.join(candidate.select(CHART), on=CHART, how="semi")
    if ours.is_empty():
        return SPC_SHADOW.empty()
    throughout = SPC_LIMITS.conform(
        candidate.with_columns(effective_from=pl.lit(ours["subgroup_at"].min()), effective_to=pl.lit(None))
    )
    same = ["subgroup_id", "panel", "rule"]
    points_then, then = _judge_all(ours, limits, site)
    points_new, new = _judge_all(ours, throughout, site)
    told = [*CHART, "subgroup_at", "rule_set", "rule_text", "production_date"]
    both = then.select(*same, *told, in_force=pl.lit(value=True)).join(
        new.select(*same, *told, shadow=pl.lit(value=True)), on=same, how="full", coalesce=True
    )
    verdict = (
        pl.when(pl.col("in_force").is_null())
        .then(pl.lit("only_shadow"))
        .when(pl.col("shadow").is_null())
        .then(pl.lit("only_in_force"))
        .otherwise(pl.lit("both"))
    )
    listed = pl.col("production_date").is_between(first_date or date.min, last_date or date.max)
    point = ["subgroup_id", "panel"]
    return SPC_SHADOW.conform(
        both.with_columns(pl.coalesce(name, f"{name}_right") for name in told)
        .with_columns(verdict=verdict)
        .filter(listed)
        .join(points_then.select(*point, "limit_version", z_in_force="z"), on=point, how="left")
        .join(points_new.select(*point, shadow_version="limit_version", z_shadow="z"), on=point, how="left")
    )


def drift(
    limits: pl.DataFrame,
    estimates: pl.DataFrame,
    *,
    confidence: float = 0.95,
    least_shift: float = 0.0,
    least_ratio: float = 1.0,
) -> pl.DataFrame:
    """SPC_LIMIT_DRIFT: the running estimate of each chart against its newest limit version.

    ``limits``: SPC_LIMITS, of which the version without an end counts; ``estimates``: SPC_LIMIT_ESTIMATES. Shift: the
    difference of the centres in frozen sigma with Welch's t interval; ratio: of the sigmas with the F interval; degrees of
    freedom by ``freedom``. A verdict needs the whole interval beyond ``least_shift`` (in sigma, either side) or beyond
    ``least_ratio`` (and its inverse): with many values every chart differs from its limits by something. Where several
    hold, the order is shifted, wider, narrower. Both intervals take the two estimates as independent; where the window
    still overlaps the baseline they are too wide. Charts of counts, events and vectors have no sigma of values: no_estimate.
    Raises ``ContractError`` (SPC-344) for a confidence not within (0, 1), a negative least_shift or least_ratio below 1.
    """
    if not (0.0 < confidence < 1.0 and least_shift >= 0.0 and least_ratio >= 1.0):
        given = f"confidence {confidence}, least_shift {least_shift}, least_ratio {least_ratio}"
        remedy = "use 0 < confidence < 1, least_shift of at least 0 and least_ratio of at least 1"
        raise ContractError(f"drift: {given} make no interval; {remedy}", code="SPC-344")
    paired = _paired(limits, estimates)
    figures = paired.select("frozen_n", "frozen_k", "n_observed", "n_subgroups").cast(pl.Float64).fill_null(np.nan)
    n_frozen, k_frozen, n, k = (figures[name].to_numpy() for name in figures.columns)
    mu_frozen, frozen, between_frozen, mu, sigma, between = (
        paired[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
        for name in ("frozen_mu", "frozen_sigma", "frozen_sigma_means", "mu", "sigma", "sigma_means")
    )
    comparable = (paired["reason"].is_null()).to_numpy()
    nu_frozen, nu = freedom(paired["frozen_estimator"], k_frozen, n_frozen), freedom(paired["estimator"], k, n)
    with np.errstate(invalid="ignore", divide="ignore"):
        here, there = _variance_of_centre(sigma, between, n, k), _variance_of_centre(frozen, between_frozen, n_frozen, k_frozen)
        shift, error = (mu - mu_frozen) / frozen, np.sqrt(here + there) / frozen
        welch = (here + there) ** 2 / (here**2 / nu + there**2 / nu_frozen)
        half = stats.t.ppf(0.5 + confidence / 2.0, welch) * error
        ratio = sigma / frozen
        tail = (1.0 - confidence) / 2.0
        low = ratio / np.sqrt(stats.f.ppf(1.0 - tail, nu, nu_frozen))
        high = ratio / np.sqrt(stats.f.ppf(tail, nu, nu_frozen))
    found = {
        "shift": shift,
        "shift_standard_error": error,
        "shift_ci_low": shift - half,
        "shift_ci_high": shift + half,
        "ratio": ratio,
        "ratio_ci_low": low,
        "ratio_ci_high": high,
        "nu_frozen": nu_frozen,
        "nu_estimate": nu,
    }
    columns = [pl.Series(name, np.where(comparable, values, np.nan)).fill_nan(None) for name, values in found.items()]
    judged = paired.with_columns(*columns, confidence=pl.lit(confidence))
    verdict = (
        pl.when(pl.col("reason").is_not_null())
        .then(pl.when(pl.col("limit_version").is_null()).then(pl.lit("no_version")).otherwise(pl.lit("no_estimate")))
        .when((pl.col("shift_ci_low") > least_shift) | (pl.col("shift_ci_high") < -least_shift))
        .then(pl.lit("shifted"))
        .when(pl.col("ratio_ci_low") > least_ratio)
        .then(pl.lit("wider"))
        .when(pl.col("ratio_ci_high") < 1.0 / least_ratio)
        .then(pl.lit("narrower"))
        .otherwise(pl.lit("stable"))
    )
    return SPC_LIMIT_DRIFT.conform(judged.with_columns(verdict=verdict, explanation=_in_words(confidence)))


def _in_words(confidence: float) -> pl.Expr:
    """What was found, with its intervals, or why nothing could be."""

    def shown(name: str) -> pl.Expr:
        return pl.col(name).round(3).cast(pl.String)

    named = ("shift", "shift_ci_low", "shift_ci_high", "ratio", "ratio_ci_low", "ratio_ci_high")
    centre = f"centre {{}} frozen sigma from the frozen one ({confidence:.6g} confidence: {{}} to {{}})"
    found = pl.format(f"{centre}; sigma {{}} times the frozen one ({{}} to {{}})", *(shown(name) for name in named))
    return pl.coalesce("reason", found)


def _paired(limits: pl.DataFrame, estimates: pl.DataFrame) -> pl.DataFrame:
    """One row per chart that has a version or an estimate, with the reason why they cannot be compared."""
    newest = limits.filter(pl.col("effective_to").is_null()).filter(
        pl.col("limit_version") == pl.col("limit_version").max().over(CHART)
    )
    frozen = newest.select(
        *CHART,
        "limit_version",
        frozen_chart="chart",
        frozen_estimator="estimator",
        frozen_mu="mu",
        frozen_sigma="sigma",
        frozen_sigma_means=_sigma_means(newest),
        frozen_k="n_subgroups",
        frozen_n=pl.col("n_subgroups") * pl.col("subgroup_size"),
    )
    running = estimates.with_columns(sigma_means=_sigma_means(estimates))
    of_values = [name for name, kind in KINDS_OF_CHARTS.items() if kind.data == "values"]
    reason = (
        pl.when(pl.col("limit_version").is_null())
        .then(pl.lit("the chart has no limit version in force; approve one"))
        .when(pl.col("mu").is_null())
        .then(pl.lit("no subgroups in the window of the running estimate"))
        .when(~pl.col("chart").is_in(of_values))
        .then(pl.lit("a chart without a sigma of values"))
        .when(~(pl.col("frozen_sigma") > 0))
        .then(pl.lit("the frozen sigma is 0; approve limits from a window with variation"))
        .when(~(pl.col("sigma") > 0).fill_null(value=False))
        .then(
            pl.lit("the running sigma is 0 or cannot be estimated: the gauge does not resolve the variation, or too few values")
        )
    )
    return (
        frozen.join(running, on=CHART, how="full", coalesce=True)
        .with_columns(chart=pl.coalesce("chart", "frozen_chart"))
        .with_columns(reason=reason)
    )


def _sigma_means(frame: pl.DataFrame) -> pl.Expr:
    """Sigma of the subgroup means on charts that have a panel within, null on others: there it follows from sigma."""
    if "sigma_means" not in frame.columns:
        return pl.lit(None, dtype=pl.Float64)
    between = [name for name, kind in KINDS_OF_CHARTS.items() if any(panel.name == "within" for panel in kind.panels)]
    return pl.when(pl.col("chart").is_in(between)).then("sigma_means")


def _variance_of_centre(sigma: Floats, between: Floats, n: Floats, k: Floats) -> Floats:
    """Of the grand mean: sigma^2 / n values, or that of the subgroup means where a chart has its own sigma for them."""
    return np.where(np.isfinite(between), between**2 / k, sigma**2 / n)


_MEDIAN_MR = 0.3030334882
"""Limit of nu / (pairs) of the median moving range: 1 / (2 v), v the variance of the median of |x_i - x_(i-1)| over its
square, with neighbours correlated by -1/2: P(two neighbours both below the median) = 0.2766016183."""


def freedom(estimator: pl.Series, k: Floats, n: Floats) -> Floats:
    """Degrees of freedom of sigma within from ``k`` subgroups of ``n`` values in all: nu = 1 / (2 CV^2) of the estimator.

    Exact variances of R-bar, S-bar, the mean moving range and MSSD (neighbouring differences are correlated by -1/2: Cryer
    and Ryan, J. Quality Technology 22 (1990) 187; von Neumann 1941), n - k for pooled; subgroups count as equal in size,
    rounded to whole values. NaN for an estimator of counts or events. These say how well sigma is known, and are smaller for
    moving ranges than the k - 1 that capability intervals use by convention.

    >>> freedom(pl.Series(["pooled", "mr"]), np.array([25.0, 101.0]), np.array([125.0, 101.0])).round(3).tolist()
    [100.0, 60.688]
    """
    found = np.full(len(estimator), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        size: Ints = np.nan_to_num(np.maximum(np.rint(n / k), 2.0), nan=2.0).astype(np.int64)
        pairs = k - 1.0
        neighbours = (4.0 / np.pi) * (np.sqrt(0.75) + np.pi / 12.0 - 1.0)
        sum_of_pairs = pairs * (2.0 - 4.0 / np.pi) + 2.0 * np.maximum(pairs - 1.0, 0.0) * neighbours
        by_estimator = {
            "rbar": k * (d2(size) / d3(size)) ** 2 / 2.0,
            "sbar": k * c4(size) ** 2 / (1.0 - c4(size) ** 2) / 2.0,
            "pooled": n - k,
            "mr": pairs**2 * (4.0 / np.pi) / sum_of_pairs / 2.0,
            "mssd": 2.0 * pairs**2 / (3.0 * pairs - 1.0),
            "median_mr": _MEDIAN_MR * pairs,
        }
    for name, nu in by_estimator.items():
        chosen = (estimator == name).fill_null(value=False).to_numpy()
        found[chosen] = nu[chosen]
    return np.where(found > 0, found, np.nan)

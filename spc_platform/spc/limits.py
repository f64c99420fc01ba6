"""Control limits: derived from (mu, sigma, n, k), estimated on every change, versioned on approval only.

What is stored is the centre, sigma and the rule for n; limits follow from them at the n of each point. A version is
never edited: a new one supersedes it, and only its ``effective_to`` is set then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime

import numpy as np
import polars as pl

from spc_platform.contracts.charts import CHARTS as KINDS_OF_CHARTS
from spc_platform.contracts.spc import SPC_LIMIT_ESTIMATES, SPC_LIMITS
from spc_platform.errors import ContractError
from spc_platform.site.model import Site
from spc_platform.spc.charting import chart_parameters, starts
from spc_platform.spc.sequence import CHART, Spans, chart_order, first_of_segment

MINIMUM_SUBGROUPS = 25
MINIMUM_INDIVIDUALS = 100
"""Below these a baseline gives an in-control run length anywhere between 34 and 5,673: a reader is warned."""


def limit_estimates(subgroups: pl.DataFrame, site: Site) -> pl.DataFrame:
    """Estimate what the limits would be now: SPC_LIMIT_ESTIMATES, one row per chart; judges nothing.

    ``subgroups``: SPC_SUBGROUPS of any dates; of each chart the last ``baseline.estimate_window_days`` days before its
    newest subgroup enter. Subgroups with n = 1 on an X-bar chart enter mu but carry no dispersion.
    """
    ordered = chart_order(subgroups, site)
    window = pl.duration(days=site.policies.baseline.estimate_window_days)
    ordered = ordered.filter(pl.col("subgroup_at") > pl.col("subgroup_at").max().over("chart_index") - window)
    return SPC_LIMIT_ESTIMATES.conform(
        _baselines(ordered, site).with_columns(window_from="baseline_from", window_to="baseline_to")
    )


def approve_baselines(limits: pl.DataFrame, subgroups: pl.DataFrame, site: Site) -> pl.DataFrame:
    """SPC_LIMITS with version 1 of every chart that has none and whose first baseline is complete.

    The first ``policies.baseline.subgroups`` subgroups (``individuals`` on i_mr) in time order are frozen in the name of
    the site's policy, in force from the first of them on. Existing versions come back unchanged. A chart with fewer
    subgroups, or with a sigma that is 0 or cannot be estimated, gets none: a person has to look (``approve``).
    """
    policy = site.policies.baseline
    needed = pl.when(_is_individual()).then(policy.individuals).otherwise(policy.subgroups)
    new = chart_order(subgroups, site).join(limits.select(CHART).unique(), on=CHART, how="anti", maintain_order="left")
    new = new.filter(
        (pl.len().over("chart_index") >= needed) & (pl.int_range(pl.len()).over("chart_index") < needed),
    )
    versions = _baselines(new, site).filter(_has_spread())
    return SPC_LIMITS.conform(
        pl.concat(
            [
                SPC_LIMITS.conform(limits),
                SPC_LIMITS.conform(
                    versions.with_columns(
                        limit_version=pl.lit(1),
                        k=pl.lit(policy.k),
                        excluded_subgroup_ids=pl.lit(None),
                        exclusion_cause=pl.lit(None),
                        approved_by=pl.lit(policy.approved_by),
                        reason=pl.lit(policy.reason),
                        supersedes=pl.lit(None),
                        effective_from="baseline_from",
                        effective_to=pl.lit(None),
                    )
                ),
            ]
        )
    )


def approve(
    limits: pl.DataFrame,
    subgroups: pl.DataFrame,
    site: Site,
    *,
    characteristic_id: str,
    equipment_id: str,
    baseline_from: datetime,
    baseline_to: datetime,
    approved_by: str,
    reason: str,
    effective_from: datetime,
    excluded: Mapping[str, str] | None = None,
) -> pl.DataFrame:
    """SPC_LIMITS with a new version of one chart, made by a person, that supersedes the newest one.

    The subgroups that begin within [baseline_from, baseline_to] enter, but for ``excluded`` (subgroup_id -> assigned
    cause). Raises ``ContractError`` when approver or reason is missing, an exclusion has no cause or lies outside the
    window, the window is empty or spans a change of specification, sigma is 0 or cannot be estimated, or
    ``effective_from`` is not after that of the version it supersedes.
    """
    where = f"limits of {characteristic_id} on {equipment_id}"
    excluded = dict(sorted((excluded or {}).items()))
    chart = (pl.col("characteristic_id") == characteristic_id) & (pl.col("equipment_id") == equipment_id)
    window = chart_order(subgroups.filter(chart), site).filter(pl.col("subgroup_at").is_between(baseline_from, baseline_to))
    previous = limits.filter(chart).sort("limit_version").tail(1)
    _refuse(where, _approval_problems(window, previous, excluded, approved_by, reason, effective_from))
    version = _baselines(window.with_columns(included=~pl.col("subgroup_id").is_in(list(excluded))), site)
    if version.filter(_has_spread()).is_empty():
        _refuse(where, ["sigma is 0 or cannot be estimated from the window; choose a window with variation"])
    number = previous["limit_version"].item() if previous.height else None
    version = SPC_LIMITS.conform(
        version.with_columns(
            limit_version=pl.lit((number or 0) + 1),
            k=pl.lit(site.policies.baseline.k),
            excluded_subgroup_ids=pl.lit(";".join(excluded) or None),
            exclusion_cause=pl.lit(";".join(excluded.values()) or None),
            approved_by=pl.lit(approved_by),
            reason=pl.lit(reason),
            supersedes=pl.lit(number),
            effective_from=pl.lit(effective_from),
            effective_to=pl.lit(None),
        )
    )
    superseded = chart & (pl.col("limit_version") == number) if number else pl.lit(value=False)
    ended = pl.when(superseded).then(pl.lit(effective_from, dtype=pl.Datetime("us", "UTC"))).otherwise("effective_to")
    return SPC_LIMITS.conform(pl.concat([SPC_LIMITS.conform(limits.with_columns(effective_to=ended)), version]))


def _approval_problems(
    window: pl.DataFrame,
    previous: pl.DataFrame,
    excluded: Mapping[str, str],
    approved_by: str,
    reason: str,
    effective_from: datetime,
) -> list[str]:
    problems = []
    if not approved_by.strip() or not reason.strip():
        problems.append("approved_by and reason must be given: limits without an approver or a reason are not approved")
    without_cause = [subgroup for subgroup, cause in excluded.items() if not cause.strip()]
    if without_cause:
        problems.append(f"excluded without an assigned cause: {', '.join(without_cause)}; name the cause or keep them")
    outside = sorted(set(excluded) - set(window["subgroup_id"]))
    if outside:
        problems.append(f"excluded but not in the baseline window: {', '.join(outside)}; correct the ids or the window")
    if window.height <= len(excluded):
        problems.append("no subgroup of a declared chart is left in the baseline window; widen it")
    if window["specification_version"].n_unique() > 1:
        problems.append("the baseline window spans a change of specification; end it before the change or begin it after")
    if previous.height and effective_from <= previous["effective_from"].item():
        begun = previous["effective_from"].item().isoformat()
        problems.append(f"effective_from must be after {begun}, from which the superseded version is in force")
    return problems


def _refuse(where: str, problems: list[str]) -> None:
    if problems:
        raise ContractError(f"{where}: " + "; ".join(problems))


def _baselines(ordered: pl.DataFrame, site: Site) -> pl.DataFrame:
    """Centre, sigma, window, hash and warning of each chart from its rows in chart order."""
    if "included" not in ordered.columns:
        ordered = ordered.with_columns(included=pl.lit(value=True))
    segment = first_of_segment(ordered, ["chart_index", "included"], site.policies.rule_reset_gap_h)
    found = chart_parameters(ordered.with_columns(segment=pl.Series(segment).cum_sum().cast(pl.Int64)), ["chart_index"])
    entering = ordered.filter("included")
    spans = Spans.from_first(starts(entering, ["chart_index"])) if entering.height else Spans(np.zeros(0, dtype=np.int64), 0)
    described = entering[spans.starts].select("chart_index", "chart", "subgroup_size")
    described = described.with_columns(inputs_hash=pl.Series(_inputs_hashes(entering, spans), dtype=pl.String))
    versions = entering.group_by("chart_index").agg(specifications=pl.col("specification_version").n_unique())
    absent = [pl.lit(None, dtype=pl.Float64).alias(name) for name in ("sigma_means",) if name not in found.columns]
    return (
        found.with_columns(absent)
        .join(described, on="chart_index", how="left", maintain_order="left")
        .join(versions, on="chart_index", how="left", maintain_order="left")
        .with_columns(baseline_from="window_from", baseline_to="last_subgroup_at", warning=_warning())
    )


def _has_spread() -> pl.Expr:
    """Limits can be derived: sigma above 0, and of a between/within chart that of the means too; a count needs a count."""
    between = pl.col("chart").is_in(["i_mr_r", "i_mr_s"])
    counted = pl.col("chart").is_in([name for name, kind in KINDS_OF_CHARTS.items() if kind.data in ("counts", "events")])
    return (pl.col("sigma") > 0) & (~between | (pl.col("sigma_means") > 0)) & (~counted | (pl.col("mu") > 0))


def _is_individual() -> pl.Expr:
    """Single measured values, on whatever chart: they need a longer baseline than subgroups."""
    values = [name for name, kind in KINDS_OF_CHARTS.items() if kind.data == "values"]
    return pl.col("chart").is_in(values) & (pl.col("subgroup_size") == 1)


def _few() -> tuple[pl.Expr, pl.Expr]:
    """Samples advised for a baseline by chart: 100 individuals, 25 subgroups."""
    advised = pl.when(_is_individual()).then(MINIMUM_INDIVIDUALS).otherwise(MINIMUM_SUBGROUPS)
    return pl.col("n_subgroups") < advised, advised


def _warning() -> pl.Expr:
    few, advised = _few()
    return pl.concat_str(
        pl.when(few).then(pl.format("only {} subgroups, {} are advised", "n_subgroups", advised)),
        pl.when(pl.col("specifications") > 1).then(pl.lit("the window spans a change of specification")),
        pl.when(pl.col("sigma").is_null()).then(pl.lit("sigma cannot be estimated: no subgroup carries dispersion")),
        pl.when(pl.col("sigma") == 0).then(pl.lit("sigma is 0: the gauge does not resolve the variation")),
        separator="; ",
        ignore_nulls=True,
    ).replace("", None)


def _inputs_hashes(entering: pl.DataFrame, spans: Spans) -> list[str]:
    """SHA-256 over (id, n, mean, m2, range, time) of each chart's rows in time order.

    The bytes are laid out once for all charts; what is left per chart is one digest of two slices.
    """
    numbers = np.empty((entering.height, 6), dtype="<f8")
    for column, name in enumerate(("n_observed", "mean", "m2", "range")):
        numbers[:, column] = entering[name].cast(pl.Float64).fill_null(-1.0).to_numpy()
    numbers[:, 4] = entering["subgroup_at"].to_physical().to_numpy()
    texts = entering["subgroup_id"]
    length = texts.str.len_bytes().to_numpy().astype(np.int64)
    numbers[:, 5] = length
    ends = np.cumsum(length)
    joined = memoryview((texts.str.join("").item() or "").encode())
    packed = memoryview(numbers.tobytes())
    width = 6 * 8
    digests = []
    for first, last in zip(spans.starts.tolist(), spans.ends.tolist(), strict=True):
        digest = hashlib.sha256(joined[int(ends[first] - length[first]) : int(ends[last])])
        digest.update(packed[first * width : (last + 1) * width])
        digests.append(digest.hexdigest())
    return digests

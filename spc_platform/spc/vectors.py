"""Multivariate charts of a site: parts as vectors, their frozen parameters, and T² or MEWMA points date by date."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
import polars as pl

from spc_platform.contracts.vectors import SPC_VECTOR_LIMITS, SPC_VECTOR_POINTS, SPC_VECTORS
from spc_platform.errors import ContractError
from spc_platform.site.model import Site
from spc_platform.spc.charting import starts
from spc_platform.spc.covariance import BAD_MULTIVARIATE
from spc_platform.spc.multivariate import (
    VectorParameters,
    check_covariance,
    covariance_problems,
    mewma_panel,
    t2_contributions,
    t2_panel,
    t2_parameters,
)
from spc_platform.spc.sequence import Flags, Floats, Spans
from spc_platform.spc.weighted_run_lengths import mewma_limit_at_width

_SPAN = ["chart_id", "limit_version"]
"""What parts judged by the same parameters have in common."""

MEWMA_WEIGHT = 0.1
"""Lambda of a MEWMA that the site does not set (Montgomery 11.4: 0.05 to 0.25 detect small shifts)."""


def form_vectors(measurement: pl.DataFrame, site: Site) -> pl.DataFrame:
    """Parts with a value of every characteristic of a chart, from MEASUREMENT of one date: SPC_VECTORS.

    Values are joined by serial number; of several values of one part and characteristic the newest counts. A part without a
    serial number or with a characteristic missing forms no vector: nothing is filled in.
    """
    members = site["multivariate"].select("chart_id", "equipment_id", "characteristic_id")
    rows = (
        measurement.filter(pl.col("value").is_finite() & pl.col("serial_number").is_not_null())
        .join(members, on=["equipment_id", "characteristic_id"])
        .sort("measured_at", "source_id", "record_id")
        .unique(["chart_id", "serial_number", "characteristic_id"], keep="last", maintain_order=True)
    )
    whole = pl.len().over("chart_id", "serial_number") == pl.col("_members")
    counted = members.group_by("chart_id").agg(_members=pl.len())
    rows = rows.join(counted, on="chart_id").filter(whole)
    return SPC_VECTORS.conform(
        rows.with_columns(
            vector_id=pl.concat_str("chart_id", "serial_number", separator="|"),
            vector_at=pl.col("measured_at").max().over("chart_id", "serial_number"),
        )
    )


@dataclass(frozen=True)
class _Charts:
    """Vectors of charts with the same number of characteristics: ``x`` (N, p), one row of ``vectors`` each, spans of charts."""

    x: Floats
    vectors: pl.DataFrame
    spans: Spans


def _groups(vectors: pl.DataFrame, site: Site, by: Sequence[str] = ()) -> list[_Charts]:
    """One group per kind of chart, number of characteristics, weight and ``by``; usually one or two in a plant."""
    sizes = (
        site["multivariate"]
        .group_by("chart_id")
        .agg(
            p=pl.len().cast(pl.Int64),
            chart=pl.col("chart").first(),
            baseline=pl.col("baseline").first(),
            weight=pl.col("weight").first(),
        )
    )
    order = ["chart_id", "vector_at", "vector_id", "characteristic_id"]
    rows = vectors.sort(order).join(sizes, on="chart_id", maintain_order="left")
    groups = []
    for _, own in rows.group_by("chart", "p", "weight", *by, maintain_order=True):
        p = int(own["p"][0])
        first = own.gather_every(p)
        spans = Spans.from_first(starts(first, [name for name in _SPAN if name in first.columns]))
        groups.append(_Charts(own["value"].to_numpy().reshape(-1, p), first, spans))
    return groups


def approve_vector_baselines(limits: pl.DataFrame, vectors: pl.DataFrame, site: Site) -> pl.DataFrame:
    """SPC_VECTOR_LIMITS with version 1 of every chart that has none and whose baseline is complete.

    The first ``baseline`` parts of a chart are frozen in the policy's name. Existing versions come back unchanged; a chart
    whose covariance cannot be inverted gets none.
    """
    new = vectors.join(limits.select("chart_id").unique(), on="chart_id", how="anti")
    policy = site.policies.baseline
    made = []
    for charts in _groups(new, site):
        position = np.arange(charts.vectors.height) - np.repeat(charts.spans.starts, charts.spans.sizes)
        needed = charts.vectors["baseline"].to_numpy()
        used = (np.repeat(charts.spans.sizes, charts.spans.sizes) >= needed) & (position < needed)
        version = _frozen(charts, used, site)
        made.append(
            version.with_columns(
                limit_version=pl.lit(1),
                approved_by=pl.lit(policy.approved_by),
                reason=pl.lit(policy.reason),
                effective_from="baseline_from",
            )
        )
    return SPC_VECTOR_LIMITS.conform(pl.concat([limits, *made], how="diagonal_relaxed"))


def approve_vectors(
    limits: pl.DataFrame,
    vectors: pl.DataFrame,
    site: Site,
    *,
    chart_id: str,
    baseline_from: datetime,
    baseline_to: datetime,
    approved_by: str,
    reason: str,
) -> pl.DataFrame:
    """SPC_VECTOR_LIMITS with a new version of one chart, made by a person, in force from the end of its baseline on.

    The parts measured within [baseline_from, baseline_to] enter. Raises ``ContractError`` SPC-323 when approver or reason is
    missing, the chart is unknown, or the end of the baseline is not after that of the newest version's beginning, and
    SPC-322 when the covariance of the window cannot be inverted.
    """
    where = f"limits of chart {chart_id}"
    if not approved_by.strip() or not reason.strip():
        raise ContractError(f"{where}: approved_by and reason must be given", code=BAD_MULTIVARIATE)
    window = vectors.filter((pl.col("chart_id") == chart_id) & pl.col("vector_at").is_between(baseline_from, baseline_to))
    previous = limits.filter(pl.col("chart_id") == chart_id).sort("limit_version").tail(1)
    if previous.height and baseline_to <= previous["effective_from"].item():
        begun = previous["effective_from"].item().isoformat()
        raise ContractError(f"{where}: the baseline must end after {begun}; choose a later one", code=BAD_MULTIVARIATE)
    groups = _groups(window, site)
    if not groups:
        raise ContractError(f"{where}: no part of such a chart lies in the window; widen it", code=BAD_MULTIVARIATE)
    charts = groups[0]
    names = site["multivariate"].filter(pl.col("chart_id") == chart_id)["characteristic_id"].sort().to_list()
    check_covariance(t2_parameters(charts.x, charts.spans), names, [chart_id])
    number = previous["limit_version"].item() if previous.height else 0
    version = _frozen(charts, np.ones(charts.vectors.height, dtype=np.bool_), site).with_columns(
        limit_version=pl.lit(number + 1, dtype=pl.Int64),
        approved_by=pl.lit(approved_by),
        reason=pl.lit(reason),
        effective_from="baseline_to",
    )
    return SPC_VECTOR_LIMITS.conform(pl.concat([limits, version], how="diagonal_relaxed"))


def _frozen(charts: _Charts, used: Flags, site: Site) -> pl.DataFrame:
    """Mean and covariance of the used vectors of each chart, one row per pair; charts that cannot carry one are left out."""
    x, vectors = charts.x[used], charts.vectors.filter(pl.Series(used))
    if vectors.is_empty():
        return SPC_VECTOR_LIMITS.empty()
    spans = Spans.from_first(starts(vectors, ["chart_id"]))
    parameters = t2_parameters(x, spans)
    p = x.shape[1]
    unusable = covariance_problems(parameters, [str(index) for index in range(p)])
    usable = np.array([index not in unusable for index in range(len(spans.starts))])
    first = vectors[spans.starts].with_columns(
        baseline_from=vectors["vector_at"][spans.starts],
        baseline_to=vectors["vector_at"][spans.ends],
        n_vectors=pl.Series(spans.sizes),
        inputs_hash=pl.Series([_digest(x[a : b + 1]) for a, b in zip(spans.starts, spans.ends, strict=True)], dtype=pl.String),
    )
    members = site["multivariate"].sort("chart_id", "characteristic_id")
    names = members.group_by("chart_id", maintain_order=True).agg(
        "characteristic_id", other_characteristic_id="characteristic_id"
    )
    frame = first.drop("characteristic_id").join(names, on="chart_id", maintain_order="left").filter(pl.Series(usable))
    pairs = frame.explode("characteristic_id").explode("other_characteristic_id")
    return pairs.with_columns(
        mean=pl.Series(np.repeat(parameters.mean[usable], p, axis=1).ravel()),
        covariance=pl.Series(parameters.covariance[usable].ravel()),
        k=pl.lit(site.policies.baseline.k),
    )


def _digest(values: Floats) -> str:
    return hashlib.sha256(np.ascontiguousarray(values, dtype="<f8").tobytes()).hexdigest()


def judge_vectors(vectors: pl.DataFrame, limits: pl.DataFrame, site: Site, production_date: date) -> pl.DataFrame:
    """Points of one production date: SPC_VECTOR_POINTS.

    ``vectors``: SPC_VECTORS of the date and the ``policies.carry_days`` before it: a MEWMA starts anew every ``carry_days``
    production dates and at a new version, as other charts with a memory do. Each part is judged by the version in force at
    its time: parts of its baseline by phase I limits, others by phase II limits. The limit of a MEWMA has the in-control
    run length of a Shewhart chart with the same k. Parts without a version in force have no points.
    """
    versions = limits.select("chart_id", "limit_version", "k", "effective_from").unique().sort("chart_id", "effective_from")
    known = (
        SPC_VECTORS.conform(vectors.filter(pl.col("production_date") <= production_date))
        # both sides are sorted by time within a chart, which polars cannot verify for a grouped join
        .join_asof(versions, left_on="vector_at", right_on="effective_from", by="chart_id", check_sortedness=False)
        .filter(pl.col("limit_version").is_not_null())
    )
    frames = [_judged(charts, limits, site) for charts in _groups(known, site, ["k"])]
    points = pl.concat([SPC_VECTOR_POINTS.empty(), *frames])
    return SPC_VECTOR_POINTS.conform(points.filter(pl.col("production_date") == production_date))


def _judged(charts: _Charts, limits: pl.DataFrame, site: Site) -> pl.DataFrame:
    vectors, spans, x = charts.vectors, charts.spans, charts.x
    p, chart = x.shape[1], np.repeat(np.arange(len(spans.starts)), spans.sizes)
    pairs = SPC_VECTOR_LIMITS.conform(limits)
    own = vectors[spans.starts].select(_SPAN).join(pairs, on=_SPAN, maintain_order="left_right")
    head = own.gather_every(p * p)
    n = head["n_vectors"].cast(pl.Float64).to_numpy()
    mean = own["mean"].to_numpy().reshape(-1, p, p)[:, :, 0]
    parameters = VectorParameters(mean, own["covariance"].to_numpy().reshape(-1, p, p), n, n - 1.0, n, False)
    at = vectors["vector_at"].to_physical().to_numpy()
    first_at, last_at = (head[name].to_physical().to_numpy()[chart] for name in ("baseline_from", "baseline_to"))
    is_baseline: Flags = (at >= first_at) & (at <= last_at)
    k = float(vectors["k"][0])
    if vectors["chart"][0] == "mewma":
        weight = float(vectors["weight"][0] or MEWMA_WEIGHT)
        limit = mewma_limit_at_width(p, weight, k)
        since = vectors["production_date"] - pl.Series([site.first_production_date])
        restart = since.dt.total_days() // site.policies.carry_days
        first = starts(vectors.with_columns(_restart=restart), [*_SPAN, "_restart"])
        found = mewma_panel(x, first, spans, parameters, weight, limit, k=k)
    else:
        found = t2_panel(x, 1.0, spans, parameters, "phase_1", k, included=is_baseline)
    contributions = t2_contributions(x, 1.0, spans, parameters)
    largest = np.argmax(contributions, axis=1)
    names = np.array(own["characteristic_id"].to_list(), dtype=object).reshape(-1, p, p)[:, :, 0]
    return SPC_VECTOR_POINTS.conform(
        vectors.with_columns(
            value=pl.Series(found.value),
            cl=pl.Series(found.cl),
            ucl=pl.Series(found.ucl),
            z=pl.Series(found.z, nan_to_null=True),
            is_signal=pl.Series(found.value > found.ucl),
            is_baseline=pl.Series(is_baseline),
            largest_contribution=pl.Series(names[chart, largest].tolist(), dtype=pl.String),
            contribution=pl.Series(contributions[np.arange(len(x)), largest]),
        )
    )

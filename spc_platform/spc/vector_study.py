"""A study of vectors: Hotelling T² and MEWMA of the variables of one file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import polars as pl

from spc_platform.errors import ContractError
from spc_platform.spc.charting import starts
from spc_platform.spc.multivariate import (
    Method,
    Phase,
    VectorParameters,
    check_covariance,
    mewma_panel,
    t2_contributions,
    t2_panel,
    t2_parameters,
    t2_subgroup_parameters,
    vector_subgroups,
)
from spc_platform.spc.sequence import Flags, Floats, Ints, Spans
from spc_platform.spc.study_plan import Plan, Study
from spc_platform.spc.study_samples import checked_baseline, sample_numbers
from spc_platform.spc.weighted_run_lengths import mewma_limit_at_width

VARIABLE = "v:"
"""Prefix of the columns that hold the variables."""

BAD_VECTORS = "SPC-393"
_NO_LIMIT = "a single subgroup has no limit of phase I: give more subgroups, or judge it by phase 2"


@dataclass(frozen=True)
class _Vectors:
    """Samples of vectors: ``x`` (N, p) observations or subgroup means, their sizes, and who they are."""

    x: Floats
    n: Floats
    samples: pl.DataFrame
    parameters: VectorParameters
    spans: Spans
    is_baseline: Flags
    is_excluded: Flags

    @property
    def included(self) -> Flags:
        """Samples that enter the parameters."""
        return self.is_baseline & ~self.is_excluded


def vector_study(frame: pl.DataFrame, plan: Plan) -> Study:
    """T² or MEWMA chart of the columns ``v:NAME`` of ``frame`` (see ``spc.study.study``).

    ``plan.size`` or the column ``subgroup`` form subgroups; otherwise each row is a vector of its own. A row in which a
    variable is missing does not enter and has no point. The upper limit of T² follows ``plan.phase``; ``plan.decision`` is
    not used by T² and is the limit h of a MEWMA where it was given (else that of the in-control run length of limits at
    ``plan.k``: 370.4 for 3).
    Raises ``ContractError`` SPC-393 (variables), and what ``spc.multivariate`` raises.
    """
    variables = [name for name in frame.columns if name.startswith(VARIABLE)]
    _check(frame, variables)
    vectors = _vectors(frame, variables, plan)
    names = [name.removeprefix(VARIABLE) for name in variables]
    stages = [f"stage {label}" if label is not None else "the file" for label in vectors.samples["stage"][vectors.spans.starts]]
    check_covariance(vectors.parameters, names, stages)
    points = _points(vectors, plan, names)
    return Study(
        plan=plan,
        stages=_stages(vectors, names, points, plan),
        points=points,
        violations=_violations(points, vectors, names),
        left_out=["run rules: a T² or MEWMA chart has its upper limit as its only test"],
        warnings=_warnings(frame, vectors, variables),
    )


def _check(frame: pl.DataFrame, variables: list[str]) -> None:
    if len(variables) < 2:
        text = f"a chart of vectors needs at least two variables, got {len(variables)}; name several value columns"
        raise ContractError(text, code=BAD_VECTORS)
    for name in variables:
        bad = frame.filter(pl.col(name).is_not_null() & ~pl.col(name).is_finite())
        if bad.height:
            text = f"row {bad['row'][0]}: {name.removeprefix(VARIABLE)} is {bad[name][0]}; correct it, or leave the cell empty"
            raise ContractError(text, code=BAD_VECTORS)
    if frame.drop_nulls(variables).is_empty():
        raise ContractError("no row has a value of every variable; nothing can be charted", code=BAD_VECTORS)


def _vectors(frame: pl.DataFrame, variables: list[str], plan: Plan) -> _Vectors:
    by_label = plan.size is None and frame["subgroup"].null_count() < frame.height
    rows = frame.drop_nulls(variables)
    values = rows.select(variables).to_numpy().astype(np.float64)
    if not by_label and plan.size in (None, 1):
        samples = _labelled(rows.with_columns(last_row="row", n=pl.lit(1.0)))
        spans, window, excluded = _placed(samples, plan)
        method = cast("Method", plan.estimator or "covariance")
        parameters = t2_parameters(values, spans, window & ~excluded, method)
        return _Vectors(values, np.ones(rows.height), samples, parameters, spans, window, excluded)
    rows = frame.with_columns(sample_number=sample_numbers(frame, plan)).drop_nulls(variables)
    rows = rows.sort("sample_number", maintain_order=True)
    values = rows.select(variables).to_numpy().astype(np.float64)
    subgroup_spans = Spans.from_first(starts(rows, ["sample_number"]))
    found = vector_subgroups(values, subgroup_spans)
    first = rows[subgroup_spans.starts].with_columns(last_row=rows["row"][subgroup_spans.ends], n=pl.Series(found.n))
    samples = _labelled(first)
    spans, window, excluded = _placed(samples, plan)
    parameters = t2_subgroup_parameters(found, spans, window & ~excluded)
    return _Vectors(found.mean, found.n, samples, parameters, spans, window, excluded)


def _labelled(first: pl.DataFrame) -> pl.DataFrame:
    number = pl.int_range(1, pl.len() + 1, dtype=pl.Int64)
    samples = first.select("stage", "stage_number", "last_row", "n", "subgroup", first_row="row", number=number)
    return samples.with_columns(sample=pl.coalesce("subgroup", pl.col("number").cast(pl.String)))


def _placed(samples: pl.DataFrame, plan: Plan) -> tuple[Spans, Flags, Flags]:
    """Spans of the stages, the samples of the baseline of their stage, and those excluded with a cause."""
    unknown = sorted(set(plan.excluded) - set(samples["sample"]))
    if unknown:
        raise ContractError(f"no subgroup {', '.join(unknown)} to exclude; name subgroups of the file", code=BAD_VECTORS)
    spans = Spans.from_first(starts(samples, ["stage_number"]))
    position: Ints = np.arange(samples.height) - np.repeat(spans.starts, spans.sizes) + 1
    first, last = checked_baseline(plan, samples)
    window: Flags = (position >= first) & (position <= last)
    return spans, window, samples["sample"].is_in(list(plan.excluded)).to_numpy()


def _points(vectors: _Vectors, plan: Plan, names: list[str]) -> pl.DataFrame:
    if plan.chart == "mewma":
        limit = plan.decision or mewma_limit_at_width(len(names), plan.weight, plan.k)
        first = starts(vectors.samples, ["stage_number"])
        found = mewma_panel(vectors.x, first, vectors.spans, vectors.parameters, plan.weight, limit, vectors.n, k=plan.k)
    else:
        phase: Phase = "phase_1" if plan.phase == 1 else "phase_2"
        found = t2_panel(vectors.x, vectors.n, vectors.spans, vectors.parameters, phase, plan.k, plan.alpha, vectors.included)
    values = {"value": found.value, "cl": found.cl, "lcl": found.lcl, "ucl": found.ucl, "standard_error": found.standard_error}
    columns = {name: pl.Series(array, dtype=pl.Float64, nan_to_null=True) for name, array in (values | {"z": found.z}).items()}
    beyond = (pl.col("value") > pl.col("ucl")).fill_null(value=False)
    return (
        vectors.samples.select(
            pl.lit("location").alias("panel"),
            pl.lit(plan.chart).alias("statistic"),
            "number",
            "sample",
            "first_row",
            "last_row",
            "stage",
            "n",
        )
        .with_columns(
            **columns,
            is_baseline=pl.Series(vectors.is_baseline),
            is_excluded=pl.Series(vectors.is_excluded),
        )
        .with_columns(
            rules=pl.when(beyond).then(pl.lit([f"{plan.chart}_limit"])).otherwise(pl.lit([], dtype=pl.List(pl.String)))
        )
    )


def _stages(vectors: _Vectors, names: list[str], points: pl.DataFrame, plan: Plan) -> list[dict[str, Any]]:
    results = []
    for index, (first, last) in enumerate(zip(vectors.spans.starts.tolist(), vectors.spans.ends.tolist(), strict=True)):
        own = points[first : last + 1]
        lines = own.select("cl", "lcl", "ucl").unique()
        results.append(
            {
                "stage": own["stage"][0],
                "variables": names,
                "centre": vectors.parameters.mean[index].tolist(),
                "covariance": vectors.parameters.covariance[index].tolist(),
                "sigma": None,
                "estimator": "within_subgroups" if vectors.parameters.is_subgrouped else plan.estimator or "covariance",
                "nu": float(vectors.parameters.nu[index]),
                "n_subgroups": int(vectors.included[first : last + 1].sum()),
                "n_values": int(vectors.samples["n"].to_numpy()[first : last + 1][vectors.included[first : last + 1]].sum()),
                "source": "estimated",
                "reason": None if own["ucl"].is_not_null().any() else _NO_LIMIT,
                "limits": {"location": lines.row(0, named=True) if lines.height == 1 else None},
                "n_signals": int((own["rules"].list.len() > 0).sum()),
                "capability": None,
                "fitness": None,
            }
        )
    return results


def _violations(points: pl.DataFrame, vectors: _Vectors, names: list[str]) -> pl.DataFrame:
    """Points above the limit, and how much of T² goes back to each variable (Runger, Alt, Montgomery 1996)."""
    flagged = points.with_row_index("_row").filter(pl.col("rules").list.len() > 0)
    shares = t2_contributions(vectors.x, vectors.n, vectors.spans, vectors.parameters)[flagged["_row"].to_numpy()]
    largest = [", ".join(names[j] for j in order[:2]) for order in np.argsort(-shares, axis=1).tolist()]
    return flagged.select(
        "panel",
        "number",
        "sample",
        "stage",
        rule_set=pl.lit("limits_only"),
        rule=pl.col("rules").list.first(),
        rule_text=pl.format("above the upper limit; most of it from {}", pl.Series(largest, dtype=pl.String)),
        side=pl.lit("above"),
        z="z",
        window=pl.concat_list("number"),
        window_samples=pl.concat_list("sample"),
    )


def _warnings(frame: pl.DataFrame, vectors: _Vectors, variables: list[str]) -> list[str]:
    missing = frame.height - frame.drop_nulls(variables).height
    found = [f"{missing} of {frame.height} rows lack a variable; they have no point"] if missing else []
    if (total := int(vectors.included.sum())) < 10 * len(variables):
        found.append(
            f"the covariance rests on {total} samples of {len(variables)} variables; at least {10 * len(variables)} are advised"
        )
    return found

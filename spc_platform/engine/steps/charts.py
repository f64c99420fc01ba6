"""What is said about charts: multivariate charts, fitness, drift, shadow, alarm budget."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

import polars as pl

from spc_platform.engine.step import Input, Outcome, Step
from spc_platform.engine.steps.common import dated, outcome, own
from spc_platform.engine.steps.spc import SAMPLES, read_samples
from spc_platform.engine.workspace import Workspace
from spc_platform.spc.alarm_budget import plant_alarm_budget, width_for_budget
from spc_platform.spc.fitness import pipeline_fitness
from spc_platform.spc.phases import drift, running_candidates, shadow
from spc_platform.spc.vectors import approve_vector_baselines, form_vectors, judge_vectors


def _dates(workspace: Workspace, *tables: str) -> list[tuple[str, date | None]]:
    return [(table, day) for table in tables for day in workspace.lake.dates(table)]


def _vectors(workspace: Workspace, production_date: date) -> Iterator[Outcome]:
    frame = form_vectors(workspace.lake.read("measurement", production_date), workspace.site)
    parts = frame["vector_id"].n_unique()
    yield outcome(
        workspace, "spc_vectors", frame, production_date, [("measurement", production_date)], figures={"vectors": parts}
    )


def _vector_limits(workspace: Workspace, _: date | None) -> Iterator[Outcome]:
    with workspace.limits_locked():
        before = workspace.lake.read_kept("spc_vector_limits")
        frame = approve_vector_baselines(before, workspace.read_all("spc_vectors"), workspace.site)
        figures = {"charts": frame["chart_id"].n_unique()}
        yield outcome(workspace, "spc_vector_limits", frame, None, _dates(workspace, "spc_vectors"), figures=figures)


def _vector_points(workspace: Workspace, production_date: date) -> Iterator[Outcome]:
    back = workspace.site.policies.carry_days
    vectors = workspace.read_window("spc_vectors", production_date, back=back)
    frame = judge_vectors(vectors, workspace.lake.read("spc_vector_limits"), workspace.site, production_date)
    days = workspace.window(production_date, back=back)
    inputs: list[tuple[str, date | None]] = [*(("spc_vectors", day) for day in days), ("spc_vector_limits", None)]
    figures = {"points_with_signal": int(frame["is_signal"].sum())}
    yield outcome(workspace, "spc_vector_points", frame, production_date, inputs, figures=figures)


def _fitness(workspace: Workspace, _: date | None) -> Iterator[Outcome]:
    subgroups = read_samples(workspace)
    frame = pipeline_fitness(subgroups, workspace.lake.read("spc_limit_estimates"), workspace.site)
    figures = {verdict: frame.filter(pl.col("verdict") == verdict).height for verdict in ("fit", "doubtful", "unfit")}
    inputs = [*_dates(workspace, *SAMPLES), ("spc_limit_estimates", None)]
    yield outcome(workspace, "spc_chart_fitness", frame, None, inputs, figures=figures)


def _drift(workspace: Workspace, _: date | None) -> Iterator[Outcome]:
    site, limits = workspace.site, workspace.lake.read("spc_limits")
    estimates = workspace.lake.read("spc_limit_estimates")
    found = drift(limits, estimates, confidence=site.policies.confidence, least_shift=LEAST_SHIFT, least_ratio=LEAST_RATIO)
    inputs: list[tuple[str, date | None]] = [("spc_limits", None), ("spc_limit_estimates", None)]
    moved = found.filter(pl.col("verdict").is_in(["shifted", "wider", "narrower"]))
    yield outcome(workspace, "spc_limit_drift", found, None, inputs, figures={"drifted": moved.height})
    days = workspace.lake.dates("spc_subgroups")
    first = days[-1] - timedelta(days=site.policies.baseline.estimate_window_days) if days else None
    near = [day for day in days if first is None or day >= first - timedelta(days=site.policies.carry_days)]
    subgroups = read_samples(workspace, near)
    frame = shadow(subgroups, limits, running_candidates(limits, estimates, moved), site, first)
    inputs += [(table, day) for table in SAMPLES for day in near]
    yield outcome(
        workspace,
        "spc_shadow",
        frame,
        None,
        inputs,
        figures={"signals_that_differ": frame.filter(pl.col("verdict") != "both").height},
    )


LEAST_SHIFT, LEAST_RATIO = 0.25, 1.1
"""Smaller moves of the centre (in frozen sigma) and of sigma are no reason to look at the limits again."""


def _alarm_budget(workspace: Workspace, _: date | None) -> Iterator[Outcome]:
    points, violations = (workspace.read_all(table) for table in ("spc_points", "spc_violations"))
    frame = plant_alarm_budget(points, violations, workspace.site)
    figures = {
        "expected_false_alarms_per_day": float(frame["expected_false_alarms_per_day"].sum()),
        "observed_signals_per_day": float(frame["observed_signals_per_day"].sum()),
        "discoveries": int(frame["is_discovery"].sum()),
        "k_for_one_false_alarm_a_day": width_for_budget(frame["points_per_day"].fill_null(0.0).to_numpy(), 1.0),
    }
    yield outcome(
        workspace, "spc_alarm_budget", frame, None, _dates(workspace, "spc_points", "spc_violations"), figures=figures
    )


STEPS: tuple[Step, ...] = (
    Step("spc_vectors", "spc", ("spc_vectors",), own("measurement"), dated(_vectors)),
    Step("spc_vector_limits", "spc", ("spc_vector_limits",), own("spc_vectors"), _vector_limits),
    Step(
        "spc_vector_points",
        "spc",
        ("spc_vector_points",),
        (Input("spc_vectors", back="carry_days"), Input("spc_vector_limits")),
        dated(_vector_points),
    ),
    Step("spc_chart_fitness", "spc", ("spc_chart_fitness",), own(*SAMPLES, "spc_limit_estimates"), _fitness),
    Step(
        "spc_limit_drift",
        "spc",
        ("spc_limit_drift", "spc_shadow"),
        own(*SAMPLES, "spc_limits", "spc_limit_estimates"),
        _drift,
    ),
    Step("spc_alarm_budget", "spc", ("spc_alarm_budget",), own("spc_points", "spc_violations"), _alarm_budget),
)

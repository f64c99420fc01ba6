"""Runs of the engine's steps through Dagster, as benchmarks need them: timed, counted, on an instance of their own."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import dagster as dg

from spc_platform.build import build_defs
from spc_platform.engine import STEPS, Workspace
from spc_platform.orchestration.partitions import range_tags
from spc_platform_tests.bench.folders import scratch

TABLES = [dg.AssetKey(table) for step in STEPS for table in step.outputs]


@dataclass
class Run:
    """Where a run's seconds went. ``storing_s`` lies partly inside steps, partly between them."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    in_steps_s: float = 0.0
    storing_s: float = 0.0
    steps: int = 0
    checks: int = 0
    events: Counter[str] = field(default_factory=Counter)


def job_of(workspace: Workspace) -> dg.JobDefinition:
    """The demo's job on this workspace, its definitions built."""
    return build_defs(workspace.settings).resolve_job_def("everything")


@contextmanager
def instance(name: str) -> Iterator[dg.DagsterInstance]:
    """An instance with SQLite event log in a folder of its own, as `spc demo` has."""
    folder = scratch(f"dagster-{name}")
    folder.mkdir(parents=True)
    os.environ["DAGSTER_DISABLE_TELEMETRY"] = "1"
    with dg.DagsterInstance.local_temp(str(folder), overrides={"telemetry": {"enabled": False}}) as opened:
        yield opened


@contextmanager
def _storing_timed(opened: dg.DagsterInstance, run: Run) -> Iterator[None]:
    """Adds up the seconds that the instance takes to store events."""
    original = opened.handle_new_event

    def handle(*arguments: Any, **options: Any) -> None:
        started = time.perf_counter()
        original(*arguments, **options)
        run.storing_s += time.perf_counter() - started

    opened.handle_new_event = handle  # type: ignore[method-assign]
    try:
        yield
    finally:
        del opened.handle_new_event


def execute(job: dg.JobDefinition, opened: dg.DagsterInstance, first: date, last: date) -> Run:
    """One run of the engine's tables with their checks over a range of production dates. Raises when a step fails."""
    run = Run()
    with _storing_timed(opened, run):
        started, cpu = time.perf_counter(), time.process_time()
        result = job.execute_in_process(
            instance=opened,
            asset_selection=TABLES,
            tags=range_tags(first, last),
            run_config={"loggers": {"console": {"config": {"log_level": "ERROR"}}}},
        )
        run.wall_s, run.cpu_s = time.perf_counter() - started, time.process_time() - cpu
    evaluations = result.get_asset_check_evaluations()
    assert result.success
    assert all(each.passed for each in evaluations)
    finished = [event for event in result.all_events if event.is_step_success]
    run.steps, run.checks = len(finished), len(evaluations)
    run.in_steps_s = sum(event.step_success_data.duration_ms for event in finished) / 1e3
    logs = opened.all_logs(result.run_id)
    run.events = Counter(entry.dagster_event.event_type_value if entry.dagster_event else "log line" for entry in logs)
    return run

"""The demo's steps through Dagster against the same functions called one after the other."""

from __future__ import annotations

import statistics
import time

from spc_platform.engine import Workspace, run_range
from spc_platform.engine.steps import CORE
from spc_platform_tests.bench import dagster_runs
from spc_platform_tests.bench.folders import dates, landed_workspace
from spc_platform_tests.bench.result import Figures, Result, number

REPETITIONS = 3
LIMIT = 2.0


def _plain(days: int, name: str) -> tuple[float, float]:
    """Seconds of the steps, and of the checks that Dagster runs besides."""
    with landed_workspace(name) as workspace:
        started = time.perf_counter()
        run_range(workspace, dates(days))
        stepped = time.perf_counter()
        _checks(workspace, days)
        return stepped - started, time.perf_counter() - stepped


def _checks(workspace: Workspace, days: int) -> None:
    from spc_platform.contracts.expectations import validate

    for table in CORE:
        failed = validate(table, workspace.lake.read_dates(table, dates(days)), workspace.site)
        assert not failed, failed
    for day in dates(days):
        workspace.lake.read("measurement", day, columns=["production_date"])


def _orchestrated(days: int, name: str) -> dagster_runs.Run:
    with landed_workspace(name) as workspace:
        job = dagster_runs.job_of(workspace)
        with dagster_runs.instance(name) as opened:
            first, *_, last = dates(days)
            return dagster_runs.execute(job, opened, first, last)


def bench() -> Result:
    """Medians of alternating runs over 14 production dates, each on a fresh data folder."""
    _plain(2, "warm-plain")
    _orchestrated(2, "warm-dagster")
    plain, runs = [], []
    for repetition in range(REPETITIONS):
        if repetition % 2:
            runs.append(_orchestrated(14, f"dagster-{repetition}"))
        plain.append(_plain(14, f"plain-{repetition}"))
        if not repetition % 2:
            runs.append(_orchestrated(14, f"dagster-{repetition}"))
    return _result(plain, runs)


def _result(plain: list[tuple[float, float]], runs: list[dagster_runs.Run]) -> Result:
    without = statistics.median(sum(each) for each in plain)
    ratios = sorted(run.wall_s / sum(each) for run, each in zip(runs, plain, strict=True))
    ratio = statistics.median(run.wall_s for run in runs) / without
    middle = sorted(runs, key=lambda run: run.wall_s)[len(runs) // 2]
    rows = [
        ("plain: steps and checks", number(without), "1"),
        ("plain: steps alone", number(statistics.median(steps for steps, _ in plain)), ""),
        ("plain: Great Expectations and file checks", number(statistics.median(checks for _, checks in plain)), ""),
        ("Dagster: the same steps and checks", number(middle.wall_s), f"{ratio:.2f}"),
        ("Dagster: inside steps", number(middle.in_steps_s), ""),
        ("Dagster: between steps", number(middle.wall_s - middle.in_steps_s), ""),
        ("Dagster: storing events (in and between steps)", number(middle.storing_s), ""),
    ]
    events = [(kind, str(count)) for kind, count in middle.events.most_common(8)]
    verdict = "within" if ratio <= LIMIT else "above"
    return Result(
        "Orchestrated against plain",
        "All steps of the engine over 14 production dates of the embedded plant, landed before the clock starts; imports and "
        "definitions are paid. Both sides run the same functions, contract checks and Great Expectations suites. The marts "
        "are left out on both sides: `dbt build` starts a process of its own that takes the same time either way, and would "
        f"only hide the difference. {REPETITIONS} alternating repetitions, a fresh data folder each, medians.",
        [
            Figures("seconds", ("variant", "wall s", "ratio"), rows),
            Figures(
                f"events stored by one run of {middle.steps} steps and {middle.checks} check results: "
                f"{sum(middle.events.values())} in all",
                ("kind", "count"),
                events,
            ),
        ],
        f"Ratio {ratio:.2f} (repetitions {ratios[0]:.2f} to {ratios[-1]:.2f}), {verdict} the aim of {LIMIT:g}.",
    )

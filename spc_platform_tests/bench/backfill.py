"""Fourteen production dates as one run against a run per date."""

from __future__ import annotations

from spc_platform_tests.bench import dagster_runs
from spc_platform_tests.bench.folders import dates, landed_workspace
from spc_platform_tests.bench.result import Figures, Result, number

SINGLE_RUNS = 4


def _runs(name: str, ranges: list[tuple[int, int]]) -> tuple[float, int, int]:
    """Wall seconds, runs that the instance knows, events stored."""
    days = dates()
    with landed_workspace(name) as workspace, dagster_runs.instance(name) as opened:
        job = dagster_runs.job_of(workspace)
        made = [dagster_runs.execute(job, opened, days[first], days[last]) for first, last in ranges]
        assert all(workspace.lake.has("oee_elements", days[number]) for _, number in ranges)
        events = sum(sum(run.events.values()) for run in made)
        return sum(run.wall_s for run in made), opened.get_runs_count(), events


def bench() -> Result:
    """One repetition; the instance is asked how many runs it saw."""
    _runs_of_one_date_warm()
    n_dates = len(dates())
    whole, n_whole, events_whole = _runs("one-run", [(0, n_dates - 1)])
    single, n_single, events_single = _runs("single-runs", [(day, day) for day in range(SINGLE_RUNS)])
    assert n_whole == 1, f"the backfill of {n_dates} dates should be one run, the instance knows {n_whole}"
    assert n_single == SINGLE_RUNS, f"{SINGLE_RUNS} runs were started, the instance knows {n_single}"
    times = n_dates / SINGLE_RUNS
    rows = [
        ("one ranged run", str(n_whole), number(whole), number(whole / n_dates), str(events_whole)),
        (
            f"a run per date, first {SINGLE_RUNS} dates",
            str(n_single),
            number(single),
            number(single / SINGLE_RUNS),
            str(events_single),
        ),
        (
            f"a run per date, scaled to {n_dates} dates",
            str(n_dates),
            number(single * times),
            number(single / SINGLE_RUNS),
            number(events_single * times),
        ),
    ]
    return Result(
        f"Backfill of {n_dates} production dates",
        "The same tables and checks through Dagster: one run with a range of dates, and one run per date. One repetition. The "
        "number of runs is what the instance recorded, and the benchmark fails when the ranged backfill is not exactly one. "
        f"Single-date runs were timed for the first {SINGLE_RUNS} dates and multiplied up; limits, capability and the check of "
        "all files grow with the dates in the lake, so fourteen would take rather more than that.",
        [Figures("runs", ("variant", "runs", "wall s", "s per date", "events"), rows)],
        f"A run per date takes about {single * times / whole:.1f} times as long as the ranged run.",
    )


def _runs_of_one_date_warm() -> None:
    with landed_workspace("warm-backfill") as workspace, dagster_runs.instance("warm-backfill") as opened:
        day = dates()[0]
        dagster_runs.execute(dagster_runs.job_of(workspace), opened, day, day)

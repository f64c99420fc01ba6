"""Fourteen production dates as one run against fourteen runs of one date."""

from __future__ import annotations

from spc_platform_tests.bench import dagster_runs
from spc_platform_tests.bench.folders import dates, landed_workspace
from spc_platform_tests.bench.result import Figures, Result, number


def _runs(name: str, ranges: list[tuple[int, int]]) -> tuple[float, int, int]:
    """Wall seconds, runs that the instance knows, events stored."""
    days = dates()
    with landed_workspace(name) as workspace, dagster_runs.instance(name) as opened:
        job = dagster_runs.job_of(workspace)
        made = [dagster_runs.execute(job, opened, days[first], days[last]) for first, last in ranges]
        assert all(workspace.lake.has("oee_elements", day) for day in days)
        events = sum(sum(run.events.values()) for run in made)
        return sum(run.wall_s for run in made), opened.get_runs_count(), events


def bench() -> Result:
    """One repetition of each; the instance is asked how many runs it saw."""
    _runs_of_one_date_warm()
    last = len(dates()) - 1
    whole, n_whole, events_whole = _runs("one-run", [(0, last)])
    single, n_single, events_single = _runs("single-runs", [(day, day) for day in range(last + 1)])
    assert (n_whole, n_single) == (1, last + 1), f"expected 1 and {last + 1} runs, the instance knows {n_whole} and {n_single}"
    return Result(
        "Backfill of 14 production dates",
        "The same tables and checks through Dagster: one run with a range of dates, and one run per date. One repetition; "
        "the number of runs is what the instance recorded.",
        [
            Figures(
                "runs",
                ("variant", "runs", "wall s", "s per date", "events"),
                [
                    ("one ranged run", str(n_whole), number(whole), number(whole / (last + 1)), str(events_whole)),
                    ("a run per date", str(n_single), number(single), number(single / (last + 1)), str(events_single)),
                ],
            )
        ],
        f"A run per date takes {single / whole:.1f} times as long as the ranged run.",
    )


def _runs_of_one_date_warm() -> None:
    with landed_workspace("warm-backfill") as workspace, dagster_runs.instance("warm-backfill") as opened:
        day = dates()[0]
        dagster_runs.execute(dagster_runs.job_of(workspace), opened, day, day)

"""The demo's steps through Dagster against the same functions called one after the other."""

from __future__ import annotations

from spc_platform.engine import Workspace, run_range
from spc_platform.engine.steps import CORE
from spc_platform_tests.bench import dagster_runs
from spc_platform_tests.bench.folders import dates, landed_workspace
from spc_platform_tests.bench.result import Figures, Result, Timing, median, number, timed

REPETITIONS = 3
LIMIT = 2.0


def _plain(days: int, name: str) -> tuple[Timing, Timing]:
    """Seconds of the steps, and of the checks that Dagster runs besides."""
    with landed_workspace(name) as workspace:
        steps = timed(lambda: run_range(workspace, dates(days)))
        return steps, timed(lambda: _checks(workspace, days))


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
    plain: list[tuple[Timing, Timing]] = []
    runs: list[dagster_runs.Run] = []
    for repetition in range(REPETITIONS):
        if repetition % 2:
            runs.append(_orchestrated(14, f"dagster-{repetition}"))
        plain.append(_plain(14, f"plain-{repetition}"))
        if not repetition % 2:
            runs.append(_orchestrated(14, f"dagster-{repetition}"))
    return _result(plain, runs)


def _result(plain: list[tuple[Timing, Timing]], runs: list[dagster_runs.Run]) -> Result:
    steps, checks = (median(each) for each in zip(*plain, strict=True))
    both = median([Timing(one.wall + two.wall, one.cpu + two.cpu) for one, two in plain])
    orchestrated = median([Timing(run.wall_s, run.cpu_s) for run in runs])
    middle = sorted(runs, key=lambda run: run.wall_s)[len(runs) // 2]
    wall, cpu = orchestrated.wall / both.wall, orchestrated.cpu / both.cpu
    rows = [
        ("plain: steps and checks", *both.columns, "1", "1"),
        ("plain: steps alone", *steps.columns, "", ""),
        ("plain: Great Expectations and file checks", *checks.columns, "", ""),
        ("Dagster: the same steps and checks", *orchestrated.columns, f"{wall:.2f}", f"{cpu:.2f}"),
        ("Dagster, the median run: inside steps", number(middle.in_steps_s), "", "", ""),
        ("Dagster, the median run: between steps", number(middle.wall_s - middle.in_steps_s), "", "", ""),
        ("Dagster, the median run: storing events (in and between steps)", number(middle.storing_s), "", "", ""),
    ]
    return Result(
        "Orchestrated against plain",
        "All steps of the engine over 14 production dates of the embedded plant, landed before the clock starts; imports and "
        "definitions are paid. Both sides run the same functions, contract checks and Great Expectations suites. The marts "
        "are left out on both sides: `dbt build` starts a process of its own that takes the same time either way, and would "
        f"only hide the difference. {REPETITIONS} alternating repetitions, a fresh data folder each, medians.",
        [Figures("seconds", ("variant", "wall s", "CPU s", "wall ratio", "CPU ratio"), rows), _events(middle)],
        _finding(wall, cpu, sorted(run.wall_s / (one.wall + two.wall) for run, (one, two) in zip(runs, plain, strict=True))),
    )


def _events(run: dagster_runs.Run) -> Figures:
    title = f"events stored by one run of {run.steps} steps and {run.checks} check results: {run.events.total()} in all"
    return Figures(title, ("kind", "count"), [(kind, str(count)) for kind, count in run.events.most_common(8)])


def _finding(wall: float, cpu: float, ratios: list[float]) -> str:
    verdict = "within" if wall <= LIMIT else "above"
    return (
        f"Wall ratio {wall:.2f} (single pairs {ratios[0]:.2f} to {ratios[-1]:.2f}), {verdict} the aim of {LIMIT:g}; "
        f"CPU ratio {cpu:.2f}. A wide range of pairs means that other work had the cores: then read the CPU ratio."
    )

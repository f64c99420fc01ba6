"""The kernels of SPC, alignment and states, each beside a bare scan and a loop over groups."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import numpy as np
import polars as pl

from spc_platform.contracts.spc import SPC_LIMITS
from spc_platform.engine import run_range, step
from spc_platform.prepare.align import align_streams
from spc_platform.production.states import state_intervals
from spc_platform.spc.capability import capability
from spc_platform.spc.limits import approve_baselines, limit_estimates
from spc_platform.spc.points import judge
from spc_platform.spc.rules import RULE_SETS, evaluate
from spc_platform.spc.sequence import chart_order
from spc_platform.spc.sigma import within_sigma
from spc_platform.spc.subgroups import form_subgroups
from spc_platform_tests.bench import baselines, synthetic
from spc_platform_tests.bench.folders import dates, landed_workspace, scratch
from spc_platform_tests.bench.result import Figures, Result, Timing, number, side_by_side

COLUMNS = ("what", "rows", "wall s", "CPU s", "CPU ratio to the scan")
POINTS = 2_000_000
NEEDED = ["characteristic_id", "equipment_id", "measured_at", "value"]
_SCAN = "baseline: scan of the needed columns"


def _rows(taken: dict[str, Timing], rows: dict[str, int], scale: dict[str, float]) -> list[tuple[str, ...]]:
    """One line per call; a call that saw a sample is scaled and says so in its name."""
    base = taken[_SCAN].cpu
    lines: list[tuple[str, ...]] = []
    for name, timing in taken.items():
        times = scale.get(name, 1.0)
        scaled = Timing(timing.wall * times, timing.cpu * times)
        lines.append((name, number(rows[name]), *scaled.columns, f"{scaled.cpu / base:.1f}"))
    return lines


def _spc() -> Figures:
    site, measured = synthetic.site(), synthetic.measurement()
    flags = synthetic.flags(measured)
    subgroups = form_subgroups(measured, flags, site)
    ordered = chart_order(subgroups, site)
    limits = approve_baselines(SPC_LIMITS.empty(), subgroups, site)
    _, violations = judge(subgroups, limits, site, synthetic.DAY)
    assert limits.height == synthetic.CHARTS, f"{limits.height} charts have limits, expected {synthetic.CHARTS}"
    path = scratch("measurement.parquet")
    measured.write_parquet(path)
    sample = measured.head(baselines.SAMPLE * synthetic.PER_CHART)
    loop = f"baseline: X-bar limits, Python loop with numpy (sample of {baselines.SAMPLE} charts, scaled)"
    calls: dict[str, Callable[[], object]] = {
        _SCAN: lambda: baselines.scan(path, NEEDED),
        loop: lambda: baselines.limits_by_loop(sample),
        "form_subgroups": lambda: form_subgroups(measured, flags, site),
        "within_sigma": lambda: within_sigma(ordered, ["chart_index"], 72.0),
        "limit_estimates": lambda: limit_estimates(subgroups, site),
        "judge: limits and eight Nelson rules": lambda: judge(subgroups, limits, site, synthetic.DAY),
        "capability": lambda: capability(subgroups, violations, limits, site),
    }
    small = subgroups.height
    rows = dict.fromkeys(calls, small) | {_SCAN: measured.height, loop: measured.height, "form_subgroups": measured.height}
    scale = {loop: synthetic.CHARTS / baselines.SAMPLE}
    title = f"{synthetic.CHARTS:,} charts, {measured.height:,} measurements, {small:,} subgroups of five"
    return Figures(title, COLUMNS, _rows(side_by_side(calls, 5), rows, scale))


def _rules() -> Figures:
    z = np.random.default_rng(3).normal(size=POINTS)
    first = np.arange(POINTS) % 2000 == 0
    path = scratch("z.parquet")
    pl.DataFrame({"z": z, "first": first}).write_parquet(path)
    loop = "baseline: two rules, Python loop (sample of 5 %, scaled)"
    ours = "evaluate: all eight Nelson rules"
    calls: dict[str, Callable[[], object]] = {
        _SCAN: lambda: baselines.scan(path, ["z", "first"]),
        loop: lambda: baselines.rules_by_loop(z[: POINTS // 20], first[: POINTS // 20]),
        ours: lambda: evaluate(z, first, RULE_SETS["nelson"]),
    }
    taken = side_by_side(calls)
    return Figures(
        f"run rules on {POINTS:,} points, 1,000 charts", COLUMNS, _rows(taken, dict.fromkeys(calls, POINTS), {loop: 20})
    )


def _align() -> Figures:
    site, telemetry = synthetic.site(), synthetic.telemetry()
    path = scratch("telemetry.parquet")
    telemetry.write_parquet(path)
    states = pl.DataFrame(schema={"equipment_id": pl.String, "state": pl.String}).with_columns(
        start_at=pl.lit(synthetic.START).cast(pl.Datetime("us", "UTC")),
        end_at=pl.lit(synthetic.START).cast(pl.Datetime("us", "UTC")),
    )
    last = synthetic.START + timedelta(days=1)
    loop = "baseline: grid means only, group_by_dynamic per stream"
    calls: dict[str, Callable[[], object]] = {
        _SCAN: lambda: baselines.scan(path, ["stream_id", "observed_at", "value"]),
        loop: lambda: baselines.align_by_loop(telemetry, synthetic.GRID_S),
        "align_streams: means, hold, interpolate, flags": lambda: align_streams(telemetry, site, states, synthetic.START, last),
    }
    title = f"{synthetic.STREAMS} streams of one value a second, one production date, grid of {synthetic.GRID_S} s"
    return Figures(title, COLUMNS, _rows(side_by_side(calls), dict.fromkeys(calls, telemetry.height), {}))


def _states() -> Figures:
    names = ("raw", "shift_calendar", "equipment_state", "work_order")
    with landed_workspace("states") as workspace:
        days = dates(5)
        run_range(workspace, days, steps=[step(name) for name in names])
        events, orders = (workspace.lake.read_dates(table, days) for table in ("equipment_state", "work_order"))
        day = days[3]
        as_of = workspace.as_of(day)
        paths = workspace.lake.paths("equipment_state", days)
        calls: dict[str, Callable[[], object]] = {
            _SCAN: lambda: pl.read_parquet(paths, columns=["equipment_id", "state", "reason_code", "start_at", "end_at"]),
            "state_intervals of one date": lambda: state_intervals(events, orders, workspace.site, day, as_of),
        }
        taken = side_by_side(calls, 5)
    rows = _rows(taken, dict.fromkeys(calls, events.height), {})
    return Figures("states of the embedded plant, five dates of events for one date of intervals", COLUMNS, rows)


def bench() -> Result:
    """Medians of three to five alternating repetitions on frames in memory."""
    figures = [_spc(), _rules(), _align(), _states()]
    return Result(
        "Kernels",
        "Synthetic frames from a fixed seed, in memory; the scan reads the same rows from one Parquet file. A loop over groups "
        "is what one writes first; where it saw only a sample, its time is multiplied up and the line says so.",
        figures,
        "Read the last column: how many bare scans of its input a kernel costs, in CPU seconds.",
    )

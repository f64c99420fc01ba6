"""Limits, rules and capability of many charts, beside the bare scan, pandas and loops over groups."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import polars as pl

from spc_platform_tests.bench import baselines, many_charts, per_group, with_pandas
from spc_platform_tests.bench.many_charts import NEEDED, ROWS, Limits
from spc_platform_tests.bench.result import Figures, Result, Timing, forget_peak_mb, number, peak_mb, side_by_side

CHARTS = 1000
MORE_CHARTS = (1_000, 10_000, 50_000)
SAMPLE = 20
_SCAN = "bare scan of the two columns"
_OURS, _PANDAS = "platform", "pandas groupby"
_LOOP, _BY_CHART = "loop over charts and subgroups", "loop over charts, numpy inside"
FIGURES = ("limits", "rules", "capability")
_GROWING = ("scan", *FIGURES)
LOOPED_SHARE = 50


@dataclass(frozen=True)
class _Given:
    """What the figures start from, in memory where a figure starts there."""

    ours: list[Limits]
    theirs: pd.DataFrame
    frame: pd.DataFrame
    z: pd.Series
    chart: pd.Series
    sample: pl.DataFrame
    sample_z: list[list[float]]


def _given() -> _Given:
    path = many_charts.file_of(CHARTS)
    ours, theirs = list(many_charts.limits(path)), with_pandas.limits(path)
    z = pd.Series(np.concatenate([part.means.z for part in ours]))
    chart = pd.Series(np.concatenate([part.samples["chart_index"].to_numpy() for part in ours]))
    sample = pl.read_parquet(path, n_rows=ROWS // CHARTS * SAMPLE)
    sample_z = z.to_numpy()[: len(sample) // many_charts.SIZE].reshape(SAMPLE, -1).tolist()
    return _Given(ours, theirs, with_pandas.read(path), z, chart, sample, sample_z)


def _calls(given: _Given) -> dict[str, Callable[[], object]]:
    path = many_charts.file_of(CHARTS)
    return {
        _SCAN: lambda: baselines.scan(path, NEEDED),
        f"limits, {_OURS}": lambda: _consumed(many_charts.limits(path)),
        f"limits, {_PANDAS}": lambda: with_pandas.limits(path),
        f"limits, {_LOOP}": lambda: per_group.limits(given.sample),
        f"limits, {_BY_CHART}": lambda: per_group.limits_by_chart(given.sample),
        f"rules, {_OURS}": lambda: many_charts.rules(given.ours),
        f"rules, {_PANDAS}": lambda: with_pandas.rules(given.z, given.chart),
        f"rules, {_LOOP}": lambda: per_group.rules(given.sample_z),
        f"capability, {_OURS}": lambda: many_charts.capability(given.ours),
        f"capability, {_PANDAS}": lambda: with_pandas.capability(given.frame, given.theirs),
        f"capability, {_LOOP}": lambda: per_group.capability(given.sample),
    }


def _columns(part: Limits) -> np.ndarray:
    means, ranges = part.means, part.ranges
    return np.column_stack(
        [means.value, ranges.value, means.lcl, means.cl, means.ucl, ranges.lcl, ranges.cl, ranges.ucl],
    )


def _signals(made: list[Limits]) -> pd.DataFrame:
    """Points of all parts as one sequence, with the index of the rule that flags them."""
    first = np.cumsum([0, *(part.samples.height for part in made)])
    parts = [(each.point + at, each.rule) for each, at in zip(many_charts.rules(made), first, strict=False)]
    point, rule = (np.concatenate(each) for each in zip(*parts, strict=True))
    return pd.DataFrame({"point": point, "rule": rule})


def _assert_equal(given: _Given) -> None:
    """The same limits, signals and indices from every way; to 1e-9 relative, signals exactly."""
    ours = np.concatenate([_columns(part) for part in given.ours])
    names = ["mean", "range", "lcl", "cl", "ucl", "r_lcl", "r_cl", "r_ucl"]
    np.testing.assert_allclose(ours, given.theirs[names].to_numpy(), rtol=1e-9)
    rows = len(given.sample) // many_charts.SIZE
    for loop in (per_group.limits, per_group.limits_by_chart):
        np.testing.assert_allclose(ours[:rows], np.asarray(loop(given.sample)), rtol=1e-9)
    signals = _signals(given.ours)
    for rule, points in enumerate(with_pandas.rules(given.z, given.chart)):
        np.testing.assert_array_equal(np.unique(signals["point"][signals["rule"] == rule]), points)
    few = signals[signals["point"] < rows]
    assert set(few.itertuples(index=False, name=None)) == per_group.rules(given.sample_z)
    indices = many_charts.capability(given.ours)
    theirs = with_pandas.capability(given.frame, given.theirs)
    np.testing.assert_allclose(indices.select(theirs.columns.to_list()).to_numpy(), theirs.to_numpy(), rtol=1e-9)
    of_loop = [f"{name}{end}" for name in ("cp", "cpk", "pp", "ppk") for end in ("", "_ci_low", "_ci_high")]
    np.testing.assert_allclose(indices.select(of_loop).head(SAMPLE).to_numpy(), per_group.capability(given.sample), rtol=1e-9)


def _scaled(taken: dict[str, Timing]) -> dict[str, Timing]:
    times = {name: CHARTS / SAMPLE if "loop" in name else 1.0 for name in taken}
    return {name: Timing(timing.wall * times[name], timing.cpu * times[name]) for name, timing in taken.items()}


def _compared(taken: dict[str, Timing]) -> Figures:
    scan = taken[_SCAN]
    rows = [(_SCAN, *scan.columns, "1", "1", "")]
    for name, timing in taken.items():
        if name == _SCAN:
            continue
        ours = taken[f"{name.split(',')[0]}, {_OURS}"]
        slower = "" if timing is ours else f"{timing.cpu / ours.cpu:.1f}"
        ratios = f"{timing.wall / scan.wall:.1f}", f"{timing.cpu / scan.cpu:.1f}"
        told = f"{name} (sample of {SAMPLE} charts, scaled)" if "loop" in name else name
        rows.append((told, *timing.columns, *ratios, slower))
    columns = ("what", "wall s", "CPU s", "wall ratio to the scan", "CPU ratio to the scan", "times the platform's CPU")
    return Figures(f"{CHARTS:,} charts, {ROWS:,} measurements, subgroups of {many_charts.SIZE}", columns, rows)


def _growth() -> tuple[Figures, dict[int, dict[str, Timing]]]:
    """The same rows as more and more charts."""
    calls: dict[str, Callable[[], object]] = {}
    for charts in MORE_CHARTS:
        path = many_charts.file_of(charts)
        made = list(many_charts.limits(path))
        sample = pl.read_parquet(path, n_rows=ROWS // LOOPED_SHARE)
        calls |= {
            f"scan {charts}": lambda path=path: baselines.scan(path, NEEDED),
            f"limits {charts}": lambda path=path: _consumed(many_charts.limits(path)),
            f"rules {charts}": lambda made=made: many_charts.rules(made),
            f"capability {charts}": lambda made=made: many_charts.capability(made),
            f"loop {charts}": lambda sample=sample: per_group.limits_by_chart(sample),
        }
    taken = side_by_side(calls)
    for name in [name for name in taken if name.startswith("loop")]:
        taken[name] = Timing(taken[name].wall * LOOPED_SHARE, taken[name].cpu * LOOPED_SHARE)
    by_charts = {charts: {what: taken[f"{what} {charts}"] for what in (*_GROWING, "loop")} for charts in MORE_CHARTS}
    rows = [
        (f"{charts:,}", f"{ROWS // charts:,}", *(number(timing.cpu) for timing in found.values()))
        for charts, found in by_charts.items()
    ]
    columns = ("charts", "rows a chart", *_GROWING, f"limits by {_BY_CHART} (a fiftieth, scaled)")
    return Figures(f"CPU seconds of the same {ROWS:,} measurements as more charts", columns, rows), by_charts


WAYS: dict[str, Callable[[], object]] = {
    _SCAN: lambda: baselines.scan(many_charts.file_of(CHARTS), NEEDED),
    f"limits, {_OURS}": lambda: _consumed(many_charts.limits(many_charts.file_of(CHARTS))),
    f"limits, rules and capability, {_OURS}": lambda: _all_figures(list(many_charts.limits(many_charts.file_of(CHARTS)))),
    f"limits, {_PANDAS}": lambda: with_pandas.limits(many_charts.file_of(CHARTS)),
}
"""What is run in a process of its own for its peak memory."""


def _consumed(parts: Iterator[Limits]) -> float:
    """Look at every limit once and let the part go, as one does who writes it away."""
    return sum(float(panel.ucl.sum() + panel.lcl.sum()) for part in parts for panel in (part.means, part.ranges))


def _all_figures(made: list[Limits]) -> tuple[object, object]:
    return many_charts.rules(made), many_charts.capability(made)


def run_and_measure(way: str, path: str) -> None:
    """Runs in the child, on a file that the parent has written: prints megabytes before and at the peak."""
    many_charts.file_of = lambda charts: path  # type: ignore[assignment]
    before = forget_peak_mb()
    WAYS[way]()
    sys.stdout.write(f"{before} {peak_mb()}\n")


def _memory() -> Figures:
    rows = []
    for way in WAYS:
        code = f"from {__name__} import run_and_measure; run_and_measure({way!r}, {str(many_charts.file_of(CHARTS))!r})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        before, peak = map(float, done.stdout.split())
        rows.append((way, number(before), number(peak), number(peak - before)))
    return Figures("peak memory, each in a process of its own", ("what", "before MB", "peak MB", "adds MB"), rows)


def bench() -> Result:
    """Medians of three alternating repetitions; every way must give the same figures first."""
    given = _given()
    _assert_equal(given)
    taken = _scaled(side_by_side(_calls(given)))
    del given
    growth, by_charts = _growth()
    return Result(
        "Statistics of many charts",
        f"{ROWS:,} normal values, a chart number (UInt32) and a value (Float64) a row, sorted by chart, in one Parquet file "
        "(zstd, row groups of 128,000). Limits: from the file to the mean, range and both panels' limits of every subgroup "
        "by R-bar, through subgroup_statistics, chart_parameters and shewhart_panel, in parts of whole charts of about half "
        "a million rows, each let go when it was looked at; pandas and the loops take the file as a whole. Rules: the eight "
        "Nelson rules on the standardized means in memory. Capability: Cp, Cpk, Pp, Ppk with 95 % intervals from the "
        "subgroups' statistics in memory; the platform computes Cpl, Cpu, Cpm and expected ppm besides, pandas and the loop "
        "take the overall s from the values again. Before anything is timed, every way must give the same limits and indices "
        f"to 1e-9 and the same signals. The loops run on {SAMPLE} charts in memory and their time is multiplied up. The scan "
        "uses all cores, everything else one: compare CPU seconds.",
        [_compared(taken), growth, _memory()],
        _finding(taken, by_charts),
    )


def _finding(taken: dict[str, Timing], by_charts: dict[int, dict[str, Timing]]) -> str:
    scan = taken[_SCAN].cpu
    to_scan = {what: taken[f"{what}, {_OURS}"].cpu / scan for what in FIGURES}
    faster = {what: taken[f"{what}, {_LOOP}"].cpu / taken[f"{what}, {_OURS}"].cpu for what in FIGURES}
    few, many = by_charts[MORE_CHARTS[0]], by_charts[MORE_CHARTS[-1]]
    limits = "within" if to_scan["limits"] <= 3 else "above"
    loops = "all above" if min(faster.values()) >= 20 else "not all above"
    return (
        f"In CPU seconds limits cost {to_scan['limits']:.1f} scans, {limits} the aim of 3; rules {to_scan['rules']:.1f}, "
        f"capability {to_scan['capability']:.1f}. The loop over charts and subgroups takes "
        + ", ".join(f"{times:.0f} times as long for {what}" for what, times in faster.items())
        + f", {loops} the aim of 20. From {MORE_CHARTS[0]:,} to {MORE_CHARTS[-1]:,} charts with the same rows: "
        + ", ".join(f"{what} {many[what].cpu / few[what].cpu:.1f} times" for what in FIGURES)
        + f"; the loop over charts with numpy inside {many['loop'].cpu / few['loop'].cpu:.1f} times. Capability grows because "
        "its chi-square quantiles are one set per chart, whatever the rows."
    )

"""Limits, rules and capability of many charts with pandas: groupby, transform and rolling over all charts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from spc_platform_tests.bench.many_charts import CONFIDENCE, LSL, NEEDED, SIZE, USL
from spc_platform_tests.bench.per_group import D2, D3


def read(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path, columns=NEEDED)


def limits(path: Path) -> pd.DataFrame:
    """Mean, range and the limits of both for each subgroup."""
    frame = read(path)
    chart = frame["chart_index"]
    subgroup = frame.groupby(chart, sort=False).cumcount() // SIZE
    found = frame.groupby([chart, subgroup], sort=False)["value"].agg(["mean", "min", "max"])
    found["range"] = found["max"] - found["min"]
    by_chart = found.groupby(level=0, sort=False)
    centre, mean_range = by_chart["mean"].transform("mean"), by_chart["range"].transform("mean")
    sigma = mean_range / D2
    reach, reach_r = 3 * sigma / np.sqrt(SIZE), 3 * D3 * sigma
    return found.assign(
        sigma=sigma,
        lcl=centre - reach,
        cl=centre,
        ucl=centre + reach,
        r_lcl=(mean_range - reach_r).clip(lower=0),
        r_cl=mean_range,
        r_ucl=mean_range + reach_r,
    )


def rules(z: pd.Series, chart: pd.Series) -> list[np.ndarray]:
    """Points that each of the eight Nelson rules flags, with rolling counts by chart."""

    def count(flags: pd.Series, m: int, at_least: int = 0) -> pd.Series:
        rolled = flags.astype("float64").groupby(chart, sort=False).rolling(m, min_periods=at_least or m).sum()
        return pd.Series(rolled.to_numpy(), index=z.index)

    step = z.groupby(chart, sort=False).diff()
    turned = step * step.groupby(chart, sort=False).shift() < 0
    flagged = [
        z.abs() > 3,
        (count(z > 0, 9) == 9) | (count(z < 0, 9) == 9),
        (count(step > 0, 5) == 5) | (count(step < 0, 5) == 5),
        count(turned, 12) == 12,
        *(
            ((count(z > zone, m, 1) >= k) & (z > zone)) | ((count(z < -zone, m, 1) >= k) & (z < -zone))
            for k, m, zone in ((2, 3, 2.0), (4, 5, 1.0))
        ),
        count(z.abs() <= 1, 15) == 15,
        count(z.abs() > 1, 8) == 8,
    ]
    return [np.flatnonzero(flags.to_numpy()) for flags in flagged]


def capability(frame: pd.DataFrame, made: pd.DataFrame) -> pd.DataFrame:
    """Cp, Cpk, Pp and Ppk of each chart, each with its interval; ``made`` is what ``limits`` gave."""
    by_chart = frame.groupby("chart_index", sort=False)["value"]
    n, centre, overall = by_chart.count(), by_chart.mean(), by_chart.std()
    ranges = made["range"].groupby(level=0, sort=False)
    tails = (0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2)
    columns = {}
    within = (ranges.mean() / D2, 0.9 * (SIZE - 1) * ranges.count())
    for name, (sigma, nu) in {"cp": within, "pp": (overall, n - 1)}.items():
        index = (USL - LSL) / (6 * sigma)
        nearer = np.minimum(USL - centre, centre - LSL) / (3 * sigma)
        half = stats.norm.ppf(tails[1]) * np.sqrt(1 / (9 * n) + nearer**2 / (2 * nu))
        ends = [index * np.sqrt(stats.chi2.ppf(tail, nu) / nu) for tail in tails]
        columns |= {name: index, f"{name}_ci_low": ends[0], f"{name}_ci_high": ends[1]}
        columns |= {f"{name}k": nearer, f"{name}k_ci_low": nearer - half, f"{name}k_ci_high": nearer + half}
    return pd.DataFrame(columns)

"""Limits, rules and capability as loops over charts and subgroups, the way `tapply` or a `for` in R does them."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
from scipy import stats

from spc_platform_tests.bench.many_charts import CONFIDENCE, LSL, SIZE, USL

D2, D3 = 2.3259289473, 0.8640819411
"""Mean and standard deviation of the range of five standard normal values, as tables of constants have them."""

Row = tuple[float, ...]


def limits(sample: pl.DataFrame) -> list[Row]:
    """Mean, range and the limits of both for each subgroup, a call per subgroup."""
    found = []
    for _, chart in sample.group_by("chart_index", maintain_order=True):
        values = chart["value"].to_numpy()
        means, ranges = [], []
        for first in range(0, len(values), SIZE):
            subgroup = values[first : first + SIZE]
            means.append(np.mean(subgroup))
            ranges.append(np.max(subgroup) - np.min(subgroup))
        centre, mean_range = np.mean(means), np.mean(ranges)
        sigma = mean_range / D2
        reach, reach_r = 3 * sigma / np.sqrt(SIZE), 3 * D3 * sigma
        for mean, spread in zip(means, ranges, strict=True):
            low_r = max(0.0, mean_range - reach_r)
            found.append((mean, spread, centre - reach, centre, centre + reach, low_r, mean_range, mean_range + reach_r))
    return found


def limits_by_chart(sample: pl.DataFrame) -> np.ndarray:
    """The same with a loop over charts only, numpy inside."""
    found = []
    for _, chart in sample.group_by("chart_index", maintain_order=True):
        subgroups = chart["value"].to_numpy().reshape(-1, SIZE)
        means, ranges = subgroups.mean(axis=1), np.ptp(subgroups, axis=1)
        centre, mean_range = means.mean(), ranges.mean()
        reach, reach_r = 3 * mean_range / D2 / np.sqrt(SIZE), 3 * D3 / D2 * mean_range
        limit = (centre - reach, centre, centre + reach, max(0.0, mean_range - reach_r), mean_range, mean_range + reach_r)
        found.append(np.column_stack([means, ranges, np.tile(limit, (len(means), 1))]))
    return np.concatenate(found)


def rules(charts: list[list[float]]) -> set[tuple[int, int]]:
    """The eight Nelson rules point by point: (point, index of the rule)."""
    found: set[tuple[int, int]] = set()
    first = 0
    for z in charts:
        for at in range(len(z)):
            found.update((first + at, rule) for rule in _rules_at(z, at))
        first += len(z)
    return found


def _rules_at(z: list[float], at: int) -> list[int]:
    now, hits = z[at], []
    if abs(now) > 3:
        hits.append(0)
    nine = z[max(at - 8, 0) : at + 1]
    if len(nine) == 9 and (min(nine) > 0 or max(nine) < 0):
        hits.append(1)
    six = z[max(at - 5, 0) : at + 1]
    steps = [after - before for before, after in itertools.pairwise(six)]
    if len(six) == 6 and (min(steps) > 0 or max(steps) < 0):
        hits.append(2)
    fourteen = z[max(at - 13, 0) : at + 1]
    steps = [after - before for before, after in itertools.pairwise(fourteen)]
    if len(fourteen) == 14 and all(one * two < 0 for one, two in itertools.pairwise(steps)):
        hits.append(3)
    for rule, (k, m, zone) in {4: (2, 3, 2.0), 5: (4, 5, 1.0)}.items():
        last = z[max(at - m + 1, 0) : at + 1]
        if (now > zone and sum(each > zone for each in last) >= k) or (now < -zone and sum(each < -zone for each in last) >= k):
            hits.append(rule)
    fifteen = [abs(each) for each in z[max(at - 14, 0) : at + 1]]
    if len(fifteen) == 15 and max(fifteen) <= 1:
        hits.append(6)
    if len(fifteen) >= 8 and min(fifteen[-8:]) > 1:
        hits.append(7)
    return hits


def capability(sample: pl.DataFrame) -> list[Row]:
    """Cp, Cpk, Pp and Ppk of each chart, each with its interval, a chart at a time."""
    found = []
    tails = np.array([0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2])
    for _, chart in sample.group_by("chart_index", maintain_order=True):
        values = chart["value"].to_numpy()
        subgroups = [values[first : first + SIZE] for first in range(0, len(values), SIZE)]
        ranges = [np.max(subgroup) - np.min(subgroup) for subgroup in subgroups]
        n, centre = len(values), np.mean(values)
        row: list[float] = []
        for sigma, nu in ((np.mean(ranges) / D2, 0.9 * len(ranges) * (SIZE - 1)), (np.std(values, ddof=1), n - 1)):
            cp, cpk = (USL - LSL) / (6 * sigma), min(USL - centre, centre - LSL) / (3 * sigma)
            half = stats.norm.ppf(tails[1]) * np.sqrt(1 / (9 * n) + cpk**2 / (2 * nu))
            row += [cp, *(cp * np.sqrt(stats.chi2.ppf(tails, nu) / nu)), cpk, cpk - half, cpk + half]
        found.append(tuple(row))
    return found

"""What the kernels are compared with: the bare scan, and the loop over groups that one writes first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

SAMPLE = 50


def scan(path: Path, columns: list[str]) -> None:
    """Read the columns that the figure needs and look at every number once."""
    frame = pl.read_parquet(path, columns=columns)
    frame.select(pl.selectors.float().sum())


def limits_by_loop(sample: pl.DataFrame) -> list[tuple[float, float, float]]:
    """X-bar limits of each chart by a Python loop over charts and numpy inside."""
    found = []
    for _, chart in sample.group_by("characteristic_id", "equipment_id", maintain_order=True):
        subgroups = chart.sort("measured_at")["value"].to_numpy().reshape(-1, 5)
        centre, sigma = subgroups.mean(), np.ptp(subgroups, axis=1).mean() / 2.326
        found.append((centre - 3 * sigma / np.sqrt(5), centre, centre + 3 * sigma / np.sqrt(5)))
    return found


def rules_by_loop(z: np.ndarray, first: np.ndarray) -> int:
    """Two of Nelson's eight rules, point by point in Python: beyond 3, and nine on one side."""
    signals = run = 0
    side = 0.0
    for value, is_first in zip(z.tolist(), first.tolist(), strict=True):
        now = (value > 0) - (value < 0)
        run = run + 1 if now == side and now != 0 and not is_first else 1
        side = now
        signals += (abs(value) > 3) + (run >= 9)
    return signals


def align_by_loop(sample: pl.DataFrame, grid_s: int) -> int:
    """Means on the grid with polars' dynamic grouping, one stream after the other; no gap is filled."""
    cells = 0
    for _, stream in sample.group_by("stream_id", maintain_order=True):
        cells += stream.sort("observed_at").group_by_dynamic("observed_at", every=f"{grid_s}s").agg(pl.mean("value")).height
    return cells

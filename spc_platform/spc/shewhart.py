"""Shewhart panels of measured values: means, medians, individuals, ranges, standard deviations, moving ranges."""

from __future__ import annotations

import numpy as np

from spc_platform.errors import ContractError
from spc_platform.spc.constants import c4, c5, d2, d3, median_error
from spc_platform.spc.panel import PanelPoints
from spc_platform.spc.sequence import Flags, Floats, Ints, of_sizes

__all__ = ["SHEWHART", "moving_ranges", "of_sizes", "shewhart_panel"]

SHEWHART = ("xbar", "x", "median", "r", "s", "mr")


def shewhart_panel(statistic: str, value: Floats, n: Ints, mu: Floats, sigma: Floats, k: Floats | float) -> PanelPoints:
    """Points of a Shewhart panel at each point's own subgroup size, in the unit of the characteristic.

    xbar, x: mu +- k sigma / sqrt(n); median: mu +- k sigma e(n), e the standard error of the median of n standard normal
    values; r, mr: d2 sigma +- k d3 sigma; s: c4 sigma +- k sigma sqrt(1 - c4^2). All arrays have one entry per point;
    ``n`` of a moving range is its span. The limits of a dispersion are never below 0. A dispersion of n = 1 is NaN
    throughout. An unknown statistic raises ``ContractError``. Source: Montgomery, Introduction to Statistical Quality
    Control, ch. 6; the constants are computed (``spc.constants``).

    >>> points = shewhart_panel("xbar", np.array([10.0]), np.array([4]), np.array([10.0]), np.array([2.0]), 3.0)
    >>> points.lcl.tolist(), points.ucl.tolist()
    ([7.0], [13.0])
    """
    match statistic:
        case "xbar" | "x":
            with np.errstate(divide="ignore"):
                centre, error, floor = mu, sigma / of_sizes(np.sqrt, n, smallest=0), None
        case "median":
            centre, error, floor = mu, sigma * of_sizes(median_error, n, smallest=1), None
        case "r" | "mr":
            centre, error, floor = of_sizes(d2, n) * sigma, of_sizes(d3, n) * sigma, 0.0
        case "s":
            centre, error, floor = of_sizes(c4, n) * sigma, of_sizes(c5, n) * sigma, 0.0
        case _:
            raise ContractError(f"no Shewhart limits for statistic {statistic!r}; use one of {', '.join(SHEWHART)}")
    reach = k * error
    low = np.asarray(centre - reach)
    if floor is not None:
        np.maximum(low, floor, out=low)
    return PanelPoints(value, centre, low, np.add(centre, reach, out=reach), error)


def moving_ranges(x: Floats, is_first: Flags, span: int = 2) -> Floats:
    """Range of the last ``span`` values of each point; NaN where the segment has fewer, or one of them is missing.

    >>> moving_ranges(np.array([1.0, 4.0, 2.0]), np.array([True, False, False]))
    array([nan,  3.,  2.])
    """
    if span > len(x):
        return np.full(len(x), np.nan)
    high, low = x.copy(), x.copy()
    whole = np.ones(len(x), dtype=np.bool_)
    for back in range(1, span):
        before = np.full(len(x), np.nan)
        before[back:] = x[: len(x) - back]
        high, low = np.maximum(high, before), np.minimum(low, before)
        # a segment that begins at one of the points after the oldest cuts the window
        begins = np.ones(len(x), dtype=np.bool_)
        begins[back - 1 :] = is_first[: len(x) - back + 1]
        whole &= ~begins
    return np.where(whole, high - low, np.nan)

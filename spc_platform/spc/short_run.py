"""Short runs: many parts on one chart, standardised by part (Z-MR); deviations from nominal are ordinary charts of differences.

Sources: Montgomery, Introduction to Statistical Quality Control (10.1); Farnum, Control charts for short runs, Journal of
Quality Technology 24 (1992) 138-144; the four ways to sigma are those of Minitab's Z-MR chart. Flat over all charts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from spc_platform.errors import ContractError
from spc_platform.spc.constants import d2
from spc_platform.spc.sequence import Flags, Floats, Ints, Spans

Pooling = Literal["constant", "relative", "by_part", "by_run"]
"""Where sigma is common: to all parts; to all parts on the log scale; to all runs of a part; to one run only."""

BAD_SHORT_RUN = "SPC-324"


@dataclass(frozen=True)
class ZParameters:
    """``x`` (N) on the scale that is standardised (logarithms for ``relative``), its ``mu`` and ``sigma`` per row.

    ``remainder`` is what rounding took from ``mu``: without it a common offset of 1e9 would cost z digits.
    """

    x: Floats
    mu: Floats
    sigma: Floats
    remainder: Floats | float = 0.0


def z_mr_parameters(
    x: Floats,
    part: Ints,
    run_is_first: Flags,
    spans: Spans,
    method: Pooling = "by_part",
    included: Flags | None = None,
    rows: npt.NDArray[np.generic] | None = None,
) -> ZParameters:
    """Centre and sigma of the part, or run, that each row belongs to; one chart per span.

    ``x``, ``part`` (a number per part), ``run_is_first``, ``included`` (N); ``run_is_first`` is true on the first row of a
    run, a stretch of one part. mu is the mean of the part over all its runs, except for ``by_run``, where each run is a
    process of its own. sigma is the mean moving range over d2(2), of pairs of adjacent rows of one run that both enter:
    pooled over the chart (``constant``), the same of ln x (``relative``, for variation that grows with size), over the
    runs of the part, or within the run. NaN where a part or run has no pair: it cannot be standardised.
    Raises ``ContractError`` (SPC-324): unknown method, ``relative`` with a value that is not above 0, two parts in one run.

    >>> x, part = np.array([10.0, 12.0, 50.0, 54.0]), np.array([0, 0, 1, 1])
    >>> p = z_mr_parameters(x, part, np.array([True, False, True, False]), Spans(np.array([0]), 4), "constant")
    >>> p.mu.tolist(), p.sigma.round(6).tolist()
    ([11.0, 11.0, 52.0, 52.0], [2.658681, 2.658681, 2.658681, 2.658681])
    """
    if method not in ("constant", "relative", "by_part", "by_run"):
        text = f"no way to sigma {method!r}; use constant, relative, by_part or by_run"
        raise ContractError(text, code=BAD_SHORT_RUN)
    named = np.arange(len(x)) if rows is None else rows
    run_first = run_is_first.copy()
    run_first[spans.starts] = True
    _one_part_a_run(part, run_first, named)
    used = np.isfinite(x) & (True if included is None else included)
    if method == "relative":
        x = _logarithms(x, named)
    chart = np.repeat(np.arange(len(spans.starts)), spans.sizes)
    run = np.cumsum(run_first) - 1
    number = np.unique(part, return_inverse=True)[1]
    of_part = np.unique(chart * (int(number.max(initial=0)) + 1) + number, return_inverse=True)[1]
    pair = used & np.concatenate((used[:1], used[:-1])) & ~run_first
    moving = np.where(pair, np.abs(np.diff(x, prepend=x[:1])), 0.0)
    mu, remainder = _mean(x, used, run if method == "by_run" else of_part)
    mean_range, _ = _mean(moving, pair, {"by_part": of_part, "by_run": run}.get(method, chart))
    return ZParameters(x, mu, mean_range / float(d2(2)), remainder)


def _one_part_a_run(part: Ints, run_first: Flags, rows: npt.NDArray[np.generic]) -> None:
    mixed = np.flatnonzero((np.diff(part, prepend=part[:1]) != 0) & ~run_first)
    if mixed.size:
        raise ContractError(
            f"the part changes at row {rows[mixed[0]]} within a run ({mixed.size} such rows); begin a run there",
            code=BAD_SHORT_RUN,
        )


def _logarithms(x: Floats, rows: npt.NDArray[np.generic]) -> Floats:
    bad = np.flatnonzero(x <= 0)
    if bad.size:
        raise ContractError(
            f"value {x[bad[0]]:g} in row {rows[bad[0]]} has no logarithm ({bad.size} such rows); "
            "sigma relative to size needs values above 0: use by_part",
            code=BAD_SHORT_RUN,
        )
    return np.asarray(np.log(x), dtype=np.float64)


def _mean(values: Floats, used: Flags, group: Ints) -> tuple[Floats, Floats]:
    """Mean of the used values of each row's group and what rounding took from it; NaN where there is none."""
    groups = int(group.max(initial=-1)) + 1
    entering = np.flatnonzero(used)
    anchor = np.full(groups, np.nan)
    # assigned from the last to the first: the first used row of each group stays
    anchor[group[entering[::-1]]] = values[entering[::-1]]
    offset = values[entering] - anchor[group[entering]]
    with np.errstate(invalid="ignore"):
        shift = np.bincount(group[entering], offset, groups) / np.bincount(group[entering], minlength=groups)
    mean = anchor + shift
    part = mean - anchor
    remainder = (anchor - (mean - part)) + (shift - part)
    return mean[group], remainder[group]


def z_values(parameters: ZParameters) -> Floats:
    """(x - mu) / sigma of each row; NaN where the value is missing or sigma is 0 or cannot be estimated."""
    sigma = np.where(parameters.sigma > 0, parameters.sigma, np.nan)
    return np.asarray((parameters.x - parameters.mu - parameters.remainder) / sigma, dtype=np.float64)

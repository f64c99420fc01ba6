"""Attribute charts p, np, c, u and Laney p', u': centres, limits at each point's own size, and what data they refuse.

Sources: Montgomery, Introduction to Statistical Quality Control (chapter 7); Laney, Improved control charts for
attributes, Quality Engineering 14 (2002) 531-537. Kernels are flat over all charts.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import special, stats
from scipy.special import ndtr

from spc_platform.errors import ContractError
from spc_platform.spc.constants import d2
from spc_platform.spc.panel import PanelPoints
from spc_platform.spc.scored import ScoredPoints, normal_score
from spc_platform.spc.sequence import Flags, Floats, Spans

Statistic = Literal["p", "np", "c", "u"]
"""What is plotted: share of defectives, number of defectives, number of defects, defects per unit of opportunity."""

BAD_COUNT = "SPC-320"
UNKNOWN_STATISTIC = "SPC-321"

_DEFECTIVES = ("p", "np")
_RATES = ("p", "u")


def check_counts(count: Floats, size: Floats, statistic: Statistic, rows: npt.NDArray[np.generic]) -> None:
    """Refuse counts and sizes that no attribute chart can plot; returns nothing.

    ``count`` (N) defectives or defects; ``size`` (N) units inspected (p, np: whole) or area of opportunity (c, u: any
    positive number); ``rows`` (N) what names each row in the message. NaN as size or count, infinity, a negative or broken
    count, more defectives than units, a size below 0, and defects at size 0 raise ``ContractError`` (SPC-320) that names
    the first such row. Size 0 without defects is allowed: nothing was inspected, the point stays empty.
    """
    _known(statistic)
    count, size = np.asarray(count, dtype=np.float64), np.asarray(size, dtype=np.float64)
    _refuse(~np.isfinite(count), rows, count, "count {} is not a number", "leave the row out if nothing was counted")
    _refuse(~np.isfinite(size), rows, size, "size {} is not a number", "give the units inspected or leave the row out")
    _refuse(count < 0, rows, count, "count {} is negative", "correct the count at its source")
    _refuse(size < 0, rows, size, "size {} is negative", "correct the size at its source")
    _refuse(count != np.floor(count), rows, count, "count {} is not whole", "give counts, not shares: multiply by the size")
    _refuse((size == 0) & (count > 0), rows, count, "count {} at size 0", "give the units that were inspected")
    if statistic in _DEFECTIVES:
        _refuse(size != np.floor(size), rows, size, "size {} is not whole", "units are whole; use a u chart for areas")
        _refuse(
            count > size,
            rows,
            count,
            "{} defectives are more than the units inspected",
            "correct count or size, or use a c or u chart if defects were counted",
        )


def _refuse(bad: Flags, rows: npt.NDArray[np.generic], values: Floats, what: str, remedy: str) -> None:
    found = np.flatnonzero(bad)
    if found.size:
        more = f" ({found.size} such rows)" if found.size > 1 else ""
        text = what.format(f"{values[found[0]]:g}")
        raise ContractError(f"{text} in row {rows[found[0]]}{more}; {remedy}", code=BAD_COUNT)


def _known(statistic: str) -> None:
    if statistic not in ("p", "np", "c", "u"):
        raise ContractError(
            f"no attribute chart plots the statistic {statistic!r}; use one of p, np, c, u", code=UNKNOWN_STATISTIC
        )


def _observed(count: Floats, size: Floats) -> Flags:
    return np.isfinite(count) & np.isfinite(size) & (size > 0)


def attribute_centre(statistic: Statistic, count: Floats, size: Floats, spans: Spans, included: Flags | None = None) -> Floats:
    """Centre of each span from its included points: p, np sum(count) / sum(size); c mean count; u sum(count) / sum(size).

    ``count``, ``size``, ``included`` (N); returns one centre per span, NaN where no point is included and observed. The
    centre of an np chart is its share: the centre line follows from each point's size. Denominators are summed, never
    ratios averaged. An unknown statistic raises ``ContractError`` (SPC-321).

    >>> spans = Spans(np.array([0]), 2)
    >>> attribute_centre("p", np.array([1.0, 5.0]), np.array([10.0, 20.0]), spans).tolist()
    [0.2]
    """
    _known(statistic)
    used = _observed(count, size) & (True if included is None else included)
    per = used.astype(np.float64) if statistic == "c" else np.where(used, size, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(spans.total(np.where(used, count, 0.0)) / spans.total(per), dtype=np.float64)


def _plotted(statistic: Statistic, count: Floats, size: Floats, centre: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Value, centre line, binomial or Poisson standard error and largest possible value of each point."""
    observed = _observed(count, size)
    n = np.where(observed, size, np.nan)
    value = count / n if statistic in _RATES else np.where(observed, count, np.nan)
    match statistic:
        case "p":
            return value, centre + 0.0 * n, np.sqrt(centre * (1.0 - centre) / n), np.ones_like(n)
        case "np":
            return value, n * centre, np.sqrt(n * centre * (1.0 - centre)), n
        case "c":
            return value, centre + 0.0 * n, np.sqrt(centre) + 0.0 * n, np.full_like(n, np.inf)
        case "u":
            return value, centre + 0.0 * n, np.sqrt(centre / n), np.full_like(n, np.inf)


def attribute_panel(
    statistic: Statistic, count: Floats, size: Floats, centre: Floats, sigma_z: Floats | float, k: Floats | float
) -> PanelPoints:
    """Points with limits centre +- k sigma_z standard errors at each point's own size.

    ``count``, ``size``, ``centre`` (N), ``sigma_z`` and ``k`` (N or one for all). Standard errors: p sqrt(p(1-p)/n), np
    sqrt(np(1-p)), c sqrt(c), u sqrt(u/n); ``sigma_z`` is 1 on a plain chart and Laney's on p' and u'. Limits are cut at 0
    and at the largest possible value (p 1, np n). A point of size 0 or NaN is NaN throughout. A centre that lies outside
    [0, 1] (p, np) or below 0 gives NaN limits. An unknown statistic raises ``ContractError`` (SPC-321).

    >>> panel = attribute_panel("c", np.array([7.0]), np.array([1.0]), np.array([16.0]), 1.0, 3.0)
    >>> panel.lcl.tolist(), panel.ucl.tolist()
    ([4.0], [28.0])
    """
    _known(statistic)
    with np.errstate(invalid="ignore", divide="ignore"):
        value, cl, error, largest = _plotted(statistic, count, size, centre)
        error = error * sigma_z
        return PanelPoints(value, cl, np.maximum(cl - k * error, 0.0), np.minimum(cl + k * error, largest), error)


def laney_sigma_z(
    statistic: Statistic,
    count: Floats,
    size: Floats,
    centre: Floats,
    is_first: Flags,
    spans: Spans,
    included: Flags | None = None,
) -> Floats:
    """Laney's sigma_z of each span: mean moving range of z over d2(2), with z = (statistic - centre) / standard error.

    ``count``, ``size``, ``is_first``, ``included`` (N); ``centre`` one per span. A pair is two adjacent points of one
    segment that are both included and observed: a gap, an exclusion or a point without size breaks it. NaN where a span
    has no pair or a centre at which the counts cannot vary (p 0 or 1, u 0). Source: Laney (2002).

    >>> spans = Spans(np.array([0]), 2)
    >>> z = laney_sigma_z("u", np.array([16.0, 12.0]), np.ones(2), np.array([16.0]), np.array([True, False]), spans)
    >>> z.round(9).tolist()
    [0.886226925]
    """
    _known(statistic)
    used = _observed(count, size) & (True if included is None else included)
    with np.errstate(invalid="ignore", divide="ignore"):
        value, cl, error, _ = _plotted(statistic, count, size, spans.expand(centre).astype(np.float64))
        z = (value - cl) / np.where(error > 0, error, np.nan)
        z = np.where(used, z, np.nan)
        moving = np.abs(np.diff(z, prepend=np.nan))
        pair = ~is_first & np.isfinite(moving)
        mean = spans.total(np.where(pair, moving, 0.0)) / spans.count(pair)
    return np.asarray(mean / float(d2(2)), dtype=np.float64)


def attribute_probability_limits(
    statistic: Statistic, count: Floats, size: Floats, centre: Floats, k: Floats | float
) -> ScoredPoints:
    """Points with exact binomial (p, np) or Poisson (c, u) limits at the tail probability Phi(-k) on each side.

    ``count``, ``size``, ``centre`` (N); ``k`` (N or one). The limits are the smallest counts with F(lcl) >= Phi(-k) and
    1 - F(ucl) <= Phi(-k): a point signals outside them, with at most Phi(-k) on either side, and never on them. The
    centre line is that of ``attribute_panel``. ``z`` is the normal score of the tail that the point lies in. Points of
    size 0 or NaN are NaN. An unknown statistic raises ``ContractError`` (SPC-321).

    >>> points = attribute_probability_limits("c", np.array([7.0]), np.ones(1), np.array([16.0]), 3.0)
    >>> points.lcl.tolist(), points.ucl.tolist()
    ([5.0], [29.0])
    """
    _known(statistic)
    with np.errstate(invalid="ignore", divide="ignore"):
        value, cl, _, _ = _plotted(statistic, count, size, centre)
    per = size if statistic in _RATES else np.ones_like(cl)
    width = np.broadcast_to(np.asarray(k, dtype=np.float64), cl.shape)
    used = np.flatnonzero(np.isfinite(value) & np.isfinite(cl) & np.isfinite(width))
    # equal sizes share their quantiles, which cost far more than a sort
    kind = np.zeros(len(used), dtype=np.int64)
    for parameter in (size, centre, width):
        number = np.unique(parameter[used], return_inverse=True)[1]
        kind = np.unique(kind * (int(number.max(initial=0)) + 1) + number, return_inverse=True)[1]
    one = np.unique(kind, return_index=True)[1]
    law = _law(statistic, size[used[one]], centre[used[one]])
    tail = ndtr(-width[used[one]])
    lcl, ucl, score = (np.full(cl.shape, np.nan) for _ in range(3))
    lcl[used], ucl[used] = np.asarray(law.ppf(tail))[kind] / per[used], np.asarray(law.isf(tail))[kind] / per[used]
    below, above = _tails(statistic, count[used], size[used], centre[used])
    # a count in the middle has more than half of the mass on either side, itself included: no deviation at all
    score[used] = np.where(np.minimum(below, above) > 0.5, 0.0, normal_score(np.log(below), np.log(above)))
    return ScoredPoints(value, cl, lcl, ucl, np.full(cl.shape, np.nan), score)


def _law(statistic: Statistic, size: Floats, centre: Floats) -> Any:
    if statistic in _DEFECTIVES:
        return stats.binom(size, centre)
    return stats.poisson(size * centre if statistic == "u" else centre)


def _tails(statistic: Statistic, count: Floats, size: Floats, centre: Floats) -> tuple[Floats, Floats]:
    """P(X <= count) and P(X >= count), as incomplete beta and gamma functions; at least the smallest float."""
    if statistic in _DEFECTIVES:
        rest = np.maximum(size - count, 1.0)
        below = np.where(count < size, special.betaincc(count + 1.0, rest, centre), 1.0)
        above = np.where(count > 0, special.betainc(np.maximum(count, 1.0), np.maximum(size - count, 0.0) + 1.0, centre), 1.0)
    else:
        mean = size * centre if statistic == "u" else centre
        below = special.gammaincc(count + 1.0, mean)
        above = np.where(count > 0, special.gammainc(np.maximum(count, 1.0), mean), 1.0)
    smallest = np.finfo(float).tiny
    return np.maximum(below, smallest), np.maximum(above, smallest)

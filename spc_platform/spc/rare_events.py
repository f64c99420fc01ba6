"""Rare events: g charts of the opportunities between events, t charts of the time between them.

Sources: Benneyan, Health Care Management Science 4 (2001) 305-318 (g); Nelson, A control chart for parts-per-million
nonconforming items, Journal of Quality Technology 26 (1994) 239-240 (t, power 1/3.6); exponential and Weibull quantile
limits as in Minitab's t chart. Kernels are flat over all charts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr

from spc_platform.errors import ContractError
from spc_platform.spc.constants import d2
from spc_platform.spc.panel import PanelPoints
from spc_platform.spc.scored import ScoredPoints, normal_score
from spc_platform.spc.sequence import Flags, Floats, Ints, Spans

GMethod = Literal["shewhart", "probability"]
TMethod = Literal["nelson", "exponential", "weibull"]

BAD_BETWEEN = "SPC-325"
UNKNOWN_METHOD = "SPC-326"

NELSON_POWER = 3.6
"""An exponential time to the power 1/3.6 is nearly normal (a Weibull of shape 3.6)."""

_STEPS = 100


@dataclass(frozen=True)
class Between:
    """``row`` of the event that ends each interval, the interval's ``value``, and whether it begins a segment."""

    row: Ints
    value: Floats
    is_first: Flags


def counts_between(is_event: Flags, is_first: Flags) -> Between:
    """Opportunities without an event between one event and the next (0 when they follow directly).

    ``is_event``, ``is_first`` (N), one row per opportunity in order. What lies before the first event of a segment and after
    its last is incomplete and gives no value.
    """
    row, begins = _events(is_event, is_first)
    value = np.diff(row, prepend=row[:1]).astype(np.float64) - 1.0
    return _between(row, value, begins)


def times_between(at: Floats, is_first: Flags, is_event: Flags | None = None) -> Between:
    """Time from each event to the one before it in its segment, in the unit of ``at``.

    ``at``, ``is_first`` (N) in time order; ``is_event`` marks the rows that are events (default: all). Times that fall
    raise ``ContractError`` (SPC-325); equal ones give 0, which ``check_times`` refuses.
    """
    row, begins = _events(np.ones(len(at), dtype=np.bool_) if is_event is None else is_event, is_first)
    value = np.diff(at[row], prepend=at[row[:1]])
    back = np.flatnonzero((value < 0) & ~begins)
    if back.size:
        text = f"the time in row {row[back[0]]} lies before that of the event before it; sort the events by time"
        raise ContractError(text, code=BAD_BETWEEN)
    return _between(row, value, begins)


def _events(is_event: Flags, is_first: Flags) -> tuple[Ints, Flags]:
    row = np.flatnonzero(is_event)
    return row, np.diff(np.cumsum(is_first)[row], prepend=-1) != 0


def _between(row: Ints, value: Floats, begins: Flags) -> Between:
    kept = ~begins
    # the first interval of a segment is the one after the segment's first event
    return Between(row[kept], value[kept], np.concatenate((begins[:1], begins[:-1]))[kept])


def check_counts_between(count: Floats, rows: npt.NDArray[np.generic]) -> None:
    """Refuse counts between events that are not whole numbers of at least 0: ``ContractError`` (SPC-325) naming the row."""
    _refuse(~np.isfinite(count), count, rows, "is not a number; leave the row out if the count is unknown")
    _refuse((count < 0) | (count != np.floor(count)), count, rows, "is no count of opportunities; give whole numbers from 0 on")


def check_times(time: Floats, rows: npt.NDArray[np.generic]) -> None:
    """Refuse times between events that are not above 0: ``ContractError`` (SPC-325) naming the row and the remedy."""
    _refuse(~np.isfinite(time), time, rows, "is not a number; leave the row out if the time is unknown")
    _refuse(time < 0, time, rows, "is negative; sort the events by time")
    _refuse(
        time == 0,
        time,
        rows,
        "is 0: two events have one time stamp, which no t chart can place; record finer times, count simultaneous events as "
        "one, or chart events per period (u chart)",
    )


def _refuse(bad: Flags, values: Floats, rows: npt.NDArray[np.generic], text: str) -> None:
    found = np.flatnonzero(bad)
    if found.size:
        more = f" ({found.size} such rows)" if found.size > 1 else ""
        text = f"interval {values[found[0]]:g} in row {rows[found[0]]}{more} {text}"
        raise ContractError(text, code=BAD_BETWEEN)


def g_centre(count: Floats, spans: Spans, included: Flags | None = None) -> Floats:
    """Mean count between events of each span; NaN where nothing is included. ``count``, ``included`` (N)."""
    return _mean(count, np.isfinite(count) & (True if included is None else included), spans)


def g_panel(count: Floats, centre: Floats, k: Floats | float = 3.0, method: GMethod = "shewhart") -> PanelPoints:
    """Points of a g chart; ``count`` and ``centre`` (the mean count) per point, ``k`` per point or one for all.

    ``shewhart`` (Benneyan): centre line g, limits g +- k sqrt(g (g + 1)), lower at least 0. ``probability``: quantiles of the
    geometric distribution with p = 1/(1 + g) at Phi(-k), 0.5 and Phi(k), and z its normal score; a point signals outside
    them, never on them. A missing count or centre gives NaN. An unknown method raises ``ContractError`` (SPC-326).

    >>> panel = g_panel(np.array([3.0]), np.array([4.0]))
    >>> panel.ucl.round(6).tolist(), panel.lcl.tolist()
    ([17.416408], [0.0])
    """
    cl = centre + 0.0 * count
    if method == "shewhart":
        error = np.sqrt(cl * (cl + 1.0))
        return PanelPoints(count, cl, np.maximum(cl - k * error, 0.0), cl + k * error, error)
    if method != "probability":
        raise ContractError(f"no g chart by {method!r}; use shewhart or probability", code=UNKNOWN_METHOD)
    with np.errstate(divide="ignore", invalid="ignore"):
        # P(G > x) = q^(x + 1); g = 0 leaves only the count 0
        log_q = np.where(cl > 0, -np.log1p(1.0 / cl), np.where(np.isnan(cl), np.nan, -np.inf))
        lcl, middle, ucl = (
            np.maximum(np.ceil(tail / log_q) - 1.0, 0.0) for tail in (log_ndtr(k), np.log(0.5), log_ndtr(-np.asarray(k)))
        )
        below, above = _log_complement((count + 1.0) * log_q), np.where(count > 0, count * log_q, 0.0 * cl)
        score = np.where(np.minimum(below, above) > np.log(0.5), 0.0, normal_score(below, above))
    return ScoredPoints(count, middle, lcl, ucl, np.full(cl.shape, np.nan), np.where(np.isnan(cl), np.nan, score))


def _log_complement(log_p: Floats) -> Floats:
    """log(1 - p) of log p, without losing digits at either end."""
    with np.errstate(divide="ignore"):
        return np.where(log_p > -0.5, np.log(-np.expm1(np.minimum(log_p, 0.0))), np.log1p(-np.exp(np.minimum(log_p, -0.5))))


@dataclass(frozen=True)
class TParameters:
    """One entry per span. nelson: ``centre`` and ``sigma`` of y = t^(1/3.6); else Weibull ``shape`` and ``scale`` (time)."""

    method: TMethod
    first: Floats
    second: Floats


def t_parameters(
    time: Floats, is_first: Flags, spans: Spans, method: TMethod = "weibull", included: Flags | None = None
) -> TParameters:
    """Estimate the distribution of the time between events of each span (chart or stage) from its included points.

    ``time`` (N) above 0 (``check_times``), ``is_first``, ``included`` (N). nelson: mean of y = t^(1/3.6), and the mean
    moving range of y over d2(2), of adjacent included points of one segment (``first`` mean, ``second`` sigma). exponential:
    shape 1 and the mean time. weibull: maximum likelihood, shape from sum t^b ln t / sum t^b - 1/b = mean ln t, scale
    (mean t^b)^(1/b) (``first`` shape, ``second`` scale). NaN where it cannot be estimated: no points, no pair, or for
    weibull fewer than two different times. An unknown method raises ``ContractError`` (SPC-326).
    """
    used = (time > 0) & np.isfinite(time) & (True if included is None else included)
    match method:
        case "nelson":
            y = np.where(used, time, np.nan) ** (1.0 / NELSON_POWER)
            moving = np.abs(np.diff(y, prepend=np.nan))
            sigma = _mean(moving, ~is_first & np.isfinite(moving), spans) / float(d2(2))
            return TParameters(method, _mean(y, used, spans), sigma)
        case "exponential":
            scale = _mean(time, used, spans)
            return TParameters(method, np.where(np.isnan(scale), np.nan, 1.0), scale)
        case "weibull":
            return TParameters(method, *_weibull(time, used, spans))
        case _:
            raise ContractError(f"no t chart by {method!r}; use nelson, exponential or weibull", code=UNKNOWN_METHOD)


def t_panel(time: Floats, spans: Spans, parameters: TParameters, k: Floats | float = 3.0) -> ScoredPoints:
    """Points of a t chart, one chart per span; values, centre line and limits in the unit of ``time``.

    ``time`` (N), ``k`` (N) or one. nelson: (mean y +- k sigma)^3.6, lower at least 0, z of y. exponential and weibull:
    quantiles at Phi(-k), 0.5 and Phi(k), z = Phi^-1(F(t)), exact in both tails. Missing times or parameters give NaN.

    >>> fitted = TParameters("exponential", np.array([1.0]), np.array([10.0]))
    >>> panel = t_panel(np.array([10.0]), Spans(np.array([0]), 1), fitted)
    >>> panel.lcl.round(6).tolist(), panel.cl.round(6).tolist(), panel.ucl.round(6).tolist()
    ([0.013508], [6.931472], [66.077262])
    """
    first, second = (spans.expand(values).astype(np.float64) + 0.0 * time for values in (parameters.first, parameters.second))
    nothing = np.full(time.shape, np.nan)
    if parameters.method == "nelson":
        y = np.where(time >= 0, time, np.nan) ** (1.0 / NELSON_POWER)
        cl, lcl, ucl = (np.maximum(first + step * second, 0.0) ** NELSON_POWER for step in (0.0, -k, k))
        # an ideal fit has no spread: no score either
        return ScoredPoints(time, cl, lcl, ucl, nothing, (y - first) / np.where(second > 0, second, np.nan))
    width = np.asarray(k, dtype=np.float64)
    lcl, cl, ucl = (second * (-tail) ** (1.0 / first) for tail in (log_ndtr(width), np.log(0.5), log_ndtr(-width)))
    with np.errstate(invalid="ignore"):
        above = -((time / second) ** first)
    return ScoredPoints(time, cl, lcl, ucl, nothing, normal_score(_log_complement(above), above))


def _mean(values: Floats, used: Flags, spans: Spans) -> Floats:
    """Mean of the used values of each span; NaN where there is none."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(spans.total(np.where(used, values, 0.0)) / spans.count(used), dtype=np.float64)


def _weibull(time: Floats, used: Flags, spans: Spans) -> tuple[Floats, Floats]:
    """Shape and scale by maximum likelihood, Newton's method on all spans at once within a bracket that closes in."""
    log = np.log(np.where(used, time, 1.0))
    centre = _mean(log, used, spans)
    u = np.where(used, log - spans.expand(centre).astype(np.float64), 0.0)
    top = np.maximum.reduceat(np.where(used, u, -np.inf), spans.starts)
    bottom = np.minimum.reduceat(np.where(used, u, np.inf), spans.starts)
    ok = (spans.count(used) >= 2) & (top > bottom)
    spread = np.sqrt(_mean(u * u, used, spans))
    with np.errstate(invalid="ignore", divide="ignore"):
        shape = np.where(ok, np.pi / np.sqrt(6.0) / spread, np.nan)
    peak = spans.expand(np.where(ok, top, 0.0)).astype(np.float64)
    low, high = np.zeros(len(shape)), np.full(len(shape), np.inf)
    for _ in range(_STEPS):
        # weights relative to the largest: powers of extreme times neither overflow nor vanish
        weight = np.where(used, np.exp(spans.expand(shape).astype(np.float64) * (u - peak)), 0.0)
        total = spans.total(weight)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = spans.total(weight * u) / total
            value = mean - 1.0 / shape
            slope = spans.total(weight * (u - spans.expand(mean).astype(np.float64)) ** 2) / total + 1.0 / shape**2
            low, high = np.where(value < 0, shape, low), np.where(value > 0, shape, high)
            step = shape - value / slope
            inside = (step > low) & (step < high)
            following = np.where(inside, step, np.where(np.isinf(high), 2.0 * shape, (low + high) / 2.0))
            following = np.where(value == 0, shape, following)
        moved = np.abs(following - shape) > 4.0 * np.finfo(float).eps * np.abs(shape)
        shape = following
        if not np.any(moved & ok):
            break
    with np.errstate(invalid="ignore", divide="ignore"):
        weight = np.where(used, np.exp(spans.expand(shape).astype(np.float64) * (u - peak)), 0.0)
        scale = np.exp(centre + top + np.log(_mean(weight, used, spans)) / shape)
    return shape, np.where(ok, scale, np.nan)

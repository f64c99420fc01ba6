"""Charts with a memory: EWMA, tabular CUSUM and moving average of many charts at once.

Every kernel takes flat arrays of all points in time order, segment after segment; ``is_first`` is true on the first point
of a segment, and no memory reaches across it. Segments (or pieces of them) are laid out as rows of a few rectangles, so
that each recursion is one call of a compiled routine per rectangle, whatever the number of charts.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

from spc_platform.errors import ContractError
from spc_platform.spc.panel import PanelPoints
from spc_platform.spc.sequence import Flags, Floats, Ints, Spans

Parameter = npt.ArrayLike
"""One number for all points, or one per point that is constant within a segment."""

PIECE = 1024
"""Points over which a CUSUM is a difference of plain sums: few enough that these sums cost no digits."""

_LOOK_AHEAD = 64


def recursion(x: Floats, is_first: Flags, factor: Parameter) -> Floats:
    """y_i = factor * y_(i-1) + x_i, from y = 0 before each segment; the same additions in the same order as a plain loop.

    ``x``: any unit, one entry per point; ``factor``: 0 to 1. A NaN reaches the end of its segment and no further.
    Raises ``ContractError`` SPC-315 for a factor outside 0 to 1 and SPC-316 for arrays that do not fit together.

    >>> recursion(np.array([1.0, 1.0, 1.0, 8.0]), np.array([True, False, False, True]), 0.5).tolist()
    [1.0, 1.5, 1.75, 8.0]
    """
    spans = _spans(x, is_first)
    per_segment = _per_segment(factor, spans, "factor", low=0.0, high=1.0)
    y = np.empty(len(x), dtype=np.float64)
    for value in np.unique(per_segment):
        chosen = np.flatnonzero(per_segment == value)
        for rows, inside in _rectangles(spans.starts[chosen], spans.sizes[chosen]):
            _put(y, rows, inside, lfilter([1.0], [1.0, -value], _take(x, rows, inside), axis=1))
    return y


def ewma_panel(
    mean: Floats,
    n: npt.ArrayLike,
    is_first: Flags,
    mu: Parameter,
    sigma: Parameter,
    weight: Parameter,
    k: Parameter = 3.0,
    *,
    asymptotic: bool = False,
) -> PanelPoints:
    """Exponentially weighted moving average of subgroup means, started at ``mu``, with limits mu +- k standard errors.

    ``mean``, ``mu``, ``sigma``: unit of the characteristic; ``n``: values behind each mean, may vary; ``weight``: of the
    newest mean, above 0 and up to 1. The variance follows the observed n exactly, v_i = (1-w)^2 v_(i-1) + w^2 / n_i, which
    for equal n is w/(2-w) (1-(1-w)^(2i)) / n (Roberts, Technometrics 1 (1959) 239; Montgomery 9.2); ``asymptotic`` takes
    w/(2-w) / n_i instead. NaN as mu, sigma or k (no limits in force) gives
    NaN. Raises ``ContractError`` SPC-315 (parameter), SPC-316 (arrays).

    >>> panel = ewma_panel(np.array([9.45]), 1, np.array([True]), 10.0, 1.0, 0.1, 2.7)
    >>> panel.value.round(4).tolist(), panel.ucl.round(4).tolist()
    ([9.945], [10.27])
    """
    spans = _spans(mean, is_first)
    mean, size = _points(mean, n)
    per_segment = _per_segment(weight, spans, "weight", low=0.0, high=1.0, above=True)
    w, width = _expand(per_segment, spans), _width(k, len(mean))
    centre, spread = _broadcast(mu, len(mean), "mu"), _broadcast(sigma, len(mean), "sigma")
    # deviations from mu keep the digits that a large offset would take
    value = centre + recursion(w * (mean - centre), is_first, _expand(1.0 - per_segment, spans))
    if asymptotic:
        variance = w / (2.0 - w) / size
    else:
        variance = recursion(w * w / size, is_first, _expand((1.0 - per_segment) ** 2, spans))
    error = spread * np.sqrt(variance)
    return PanelPoints(value, centre, centre - width * error, centre + width * error, error)


def cusum_panels(
    mean: Floats,
    n: npt.ArrayLike,
    is_first: Flags,
    mu: Parameter,
    sigma: Parameter,
    reference: Parameter = 0.5,
    decision: Parameter = 5.0,
    head_start: Parameter = 0.0,
    *,
    restart: bool = False,
    in_unit: bool = False,
) -> tuple[PanelPoints, PanelPoints]:
    """Upper and lower sum of the tabular CUSUM: C+_i = max(0, y_i - k + C+_(i-1)), C-_i = max(0, -y_i - k + C-_(i-1)).

    y_i = (mean_i - mu) / (sigma / sqrt n_i), so varying n is right; ``reference`` k and ``decision`` h are in standard
    errors of a mean, ``head_start`` is the fraction of h from which each segment starts (0.5 is the fast initial response
    of Lucas and Crosier, Technometrics 24 (1982) 199). The upper panel shows C+ with ucl = h and no lower limit, the lower
    one -C- with lcl = -h and no upper limit; both have centre line 0 and standard error 1, so z is the value.
    ``in_unit``: values, limits and errors times sigma / sqrt n, as Minitab plots them; n must not vary within a segment.
    ``restart``: after a point beyond its limit, that side starts again from the head start (each side for itself); this
    takes a pass per signal of the chart with the most signals. A sigma that is NaN or 0 gives NaN.
    Raises ``ContractError`` SPC-315 (parameter), SPC-316 (arrays, unequal n). Source: Page (1954); Montgomery 9.1.

    >>> upper, lower = cusum_panels(np.array([11.0, 12.0, 10.0]), 1, np.array([True, False, False]), 10.0, 1.0)
    >>> upper.value.tolist(), lower.value.tolist()
    ([0.5, 2.0, 1.5], [0.0, 0.0, 0.0])
    """
    spans = _spans(mean, is_first)
    mean, size = _points(mean, n)
    shift = _expand(_per_segment(reference, spans, "reference", low=0.0), spans)
    limit = _per_segment(decision, spans, "decision", low=0.0, above=True)
    start = _per_segment(head_start, spans, "head_start", low=0.0, high=1.0) * limit
    error = _broadcast(sigma, len(mean), "sigma") / np.sqrt(size)
    unit = _one_unit(error, size, spans) if in_unit else np.ones(len(mean))
    y = (mean - _broadcast(mu, len(mean), "mu")) / np.where(error > 0, error, np.nan)
    high = _expand(limit, spans)
    upper, lower = (_sums(sign * y - shift, spans, start, high, restart=restart) for sign in (1.0, -1.0))
    zero, none = np.zeros(len(mean)), np.full(len(mean), np.nan)
    return (
        PanelPoints(upper * unit, zero, none, high * unit, unit),
        PanelPoints(0.0 - lower * unit, zero, -high * unit, none, unit),
    )


def cusum_counters(panel: PanelPoints, is_first: Flags, *, restart: bool = False) -> Ints:
    """Count the points since the sum was last zero (N+ or N-): 0 where it is zero, 1 on the first point above zero.

    ``panel``: one of ``cusum_panels``, with the same ``is_first`` and ``restart``. The last zero before the point of a
    signal is the estimated moment of the change (Montgomery 9.1).

    >>> upper, _ = cusum_panels(np.array([9.0, 12.0, 10.0]), 1, np.array([True, False, False]), 10.0, 1.0)
    >>> cusum_counters(upper, np.array([True, False, False])).tolist()
    [0, 1, 2]
    """
    spans = _spans(panel.value, is_first)
    here = np.arange(len(panel.value), dtype=np.int64)
    # the row before the first counted one: a zero, the end of the segment before, or a signal that restarts the sum
    before = np.where(panel.value == 0, here, -1)
    before[spans.starts] = np.maximum(before[spans.starts], spans.starts - 1)
    if restart:
        signal = (panel.value > panel.ucl) | (panel.value < panel.lcl)
        signal[spans.ends] = False
        before[np.flatnonzero(signal) + 1] = np.maximum(before[np.flatnonzero(signal) + 1], np.flatnonzero(signal))
    return here - np.maximum.accumulate(before)


def shifted_mean(
    panel: PanelPoints, counter: Ints, n: npt.ArrayLike, mu: Parameter, sigma: Parameter, reference: Parameter = 0.5
) -> Floats:
    """Estimate of the mean that moved the sum: mu + K + C+/N+ above, mu - K - C-/N- below; NaN where the sum is zero.

    ``panel``: standardized, of ``cusum_panels``; ``counter``: its ``cusum_counters``; the result is in the unit of mu.
    With a head start the sum contains it, so the estimate is too far from mu by head start / N. Source: Montgomery 9.1.
    """
    size = len(panel.value)
    error = _broadcast(sigma, size, "sigma") / np.sqrt(_broadcast(n, size, "n"))
    counted = np.where(counter > 0, counter, np.nan)
    step = panel.value / counted
    away = step + np.sign(step) * _broadcast(reference, size, "reference")
    return np.asarray(_broadcast(mu, size, "mu") + away * error, dtype=np.float64)


def moving_average_panel(
    mean: Floats,
    n: npt.ArrayLike,
    is_first: Flags,
    mu: Parameter,
    sigma: Parameter,
    span: Parameter,
    k: Parameter = 3.0,
) -> PanelPoints:
    """Mean of the last ``span`` subgroup means (fewer at the start of a segment), with limits mu +- k standard errors.

    Each subgroup mean counts once, whatever its n (Montgomery 9.3; Minitab), so with w means in the window the standard
    error is sigma / w * sqrt(sum of 1/n_j), which for equal n is sigma / sqrt(n w). Units as ``ewma_panel``.
    Raises ``ContractError`` SPC-315 (parameter), SPC-316 (arrays).

    >>> moving_average_panel(np.array([1.0, 2.0, 4.0]), 1, np.array([True, False, False]), 0.0, 1.0, 2).value.tolist()
    [1.0, 1.5, 3.0]
    """
    spans = _spans(mean, is_first)
    mean, size = _points(mean, n)
    lengths = _per_segment(span, spans, "span", low=1.0)
    if np.any(lengths != np.floor(lengths)):
        raise ContractError("span must be a whole number of subgroups; round it", code="SPC-315")
    width = _width(k, len(mean))
    centre, spread = _broadcast(mu, len(mean), "mu"), _broadcast(sigma, len(mean), "sigma")
    window = np.minimum(np.arange(len(mean)) - _expand(spans.starts, spans) + 1, _expand(lengths, spans))
    deviation, inverse = mean - centre, 1.0 / size
    total, share = deviation.copy(), inverse.copy()
    for lag in range(1, int(window.max(initial=1))):
        # sums of at most ``span`` terms, newest first: a difference of running sums would lose digits
        reach = window[lag:] > lag
        total[lag:] += np.where(reach, deviation[:-lag], 0.0)
        share[lag:] += np.where(reach, inverse[:-lag], 0.0)
    error = spread / window * np.sqrt(share)
    return PanelPoints(centre + total / window, centre, centre - width * error, centre + width * error, error)


def _sums(x: Floats, spans: Spans, start: Floats, limit: Floats, *, restart: bool) -> Floats:
    """max(0, x_i + C_(i-1)) of each segment from its ``start``."""
    sums = np.empty(len(x))
    pieces = -(-spans.sizes // PIECE)
    owner = np.repeat(np.arange(len(pieces)), pieces)
    first_piece = np.cumsum(pieces) - pieces
    begins = spans.starts[owner] + (np.arange(len(owner)) - first_piece[owner]) * PIECE
    lengths = np.minimum(spans.ends[owner] + 1 - begins, PIECE)
    walk = np.empty(len(x))
    for rows, inside in _rectangles(begins, lengths):
        total = np.cumsum(_take(x, rows, inside), axis=1)
        _put(walk, rows, inside, total)
        _put(sums, rows, inside, total - np.minimum(np.minimum.accumulate(total, axis=1), 0.0))
    ends = begins + lengths - 1
    carry = _carried(sums[ends], walk[ends], start, first_piece)
    # a piece that starts at c stands at max(sum from 0, c + walk)
    np.maximum(sums, np.repeat(carry, lengths) + walk, out=sums)
    sums = _from_last_zero(sums, x, spans, start)
    if restart:
        _restarted(sums, x, spans, start, limit)
    return sums


def _carried(sums: Floats, walk: Floats, start: Floats, first_piece: Ints) -> Floats:
    """Sum with which each piece starts: the maps c -> max(sum, c + walk) of the pieces before it, by doubling."""
    count = len(sums)
    place = np.arange(count) - np.repeat(first_piece, np.diff(first_piece, append=count))
    carry = np.repeat(start, np.diff(first_piece, append=count))
    # entry p stands for piece p - 1; the first piece of a segment is the constant map to its start
    a = np.where(place == 0, carry, np.concatenate(([0.0], sums[:-1])))
    s = np.where(place == 0, -np.inf, np.concatenate(([0.0], walk[:-1])))
    reach = 1
    while reach <= int(place.max(initial=0)):
        old_a, old_s = a[:-reach], s[:-reach]
        joined = place[reach:] >= reach
        a[reach:] = np.where(joined, np.maximum(a[reach:], old_a + s[reach:]), a[reach:])
        s[reach:] = np.where(joined, old_s + s[reach:], s[reach:])
        reach *= 2
    return a


def _from_last_zero(sums: Floats, x: Floats, spans: Spans, start: Floats) -> Floats:
    """The same sums, added up point by point from the last zero: the digits of a plain loop, so that ties fall alike."""
    zero = sums == 0
    first = np.concatenate(([False], zero[:-1]))[: len(x)]
    first[spans.starts] = True
    step = x.copy()
    step[spans.starts] += start
    exact = step.copy()
    excursions = Spans.from_first(first)
    long = excursions.sizes > 1
    for rows, inside in _rectangles(excursions.starts[long], excursions.sizes[long]):
        _put(exact, rows, inside, np.cumsum(_take(step, rows, inside), axis=1))
    return np.asarray(np.where(zero, 0.0, np.maximum(exact, 0.0)))


def _restarted(sums: Floats, x: Floats, spans: Spans, start: Floats, limit: Floats) -> None:
    """Recompute ``sums`` in place from the first signal of each segment on, starting again after every signal.

    A pass covers the next points of all segments that are not done, up to their next signal.
    """
    signal = np.flatnonzero(sums > limit)
    segment = np.searchsorted(spans.starts, signal, side="right") - 1
    active, first = np.unique(segment, return_index=True)
    at, state = signal[first] + 1, start[active]
    while len(active):
        room = spans.ends[active] + 1 - at
        left = room > 0
        active, at, state, room = active[left], at[left], state[left], room[left]
        if not len(active):
            break
        ahead = np.arange(_LOOK_AHEAD)
        inside = ahead < room[:, None]
        rows = np.where(inside, at[:, None] + ahead, at[:, None])
        total = np.cumsum(np.where(inside, x[rows], 0.0), axis=1)
        lowest = np.minimum(np.minimum.accumulate(total, axis=1), -state[:, None])
        here = total - lowest
        over = inside & (here > limit[at][:, None])
        hit = over.any(axis=1)
        taken = np.where(hit, over.argmax(axis=1) + 1, np.minimum(room, _LOOK_AHEAD))
        kept = ahead < taken[:, None]
        sums[rows[kept]] = here[kept]
        state = np.where(hit, start[active], here[np.arange(len(taken)), taken - 1])
        at = at + taken


def _rectangles(starts: Ints, sizes: Ints) -> Iterator[tuple[Ints, Flags | None]]:
    """Spans of similar size as a rectangle: the row of each cell, and which cells are points (None: all of them).

    At most half of the cells are no points.
    """
    power = np.ceil(np.log2(np.maximum(sizes, 1))).astype(np.int64)
    # spans of exactly a power of two need no padding
    shape = 2 * power + (sizes != np.left_shift(1, power))
    for one in np.flatnonzero(np.bincount(shape)) if len(shape) else ():
        chosen = shape == one
        begin, length = starts[chosen][:, None], sizes[chosen][:, None]
        cell = np.arange(int(length.max()))
        if (length == len(cell)).all():
            yield begin + cell, None
        else:
            inside = cell < length
            yield np.where(inside, begin + cell, begin), inside


def _take(values: Floats, rows: Ints, inside: Flags | None) -> Floats:
    """The values of a rectangle, 0 where no point is."""
    taken = values[rows]
    if inside is not None:
        taken[~inside] = 0.0
    return taken


def _put(values: Floats, rows: Ints, inside: Flags | None, new: Floats) -> None:
    if inside is None:
        values[rows] = new
    else:
        values[rows[inside]] = new[inside]


def _spans(values: Floats, is_first: Flags) -> Spans:
    if len(is_first) != len(values) or (len(is_first) and not is_first[0]):
        raise ContractError(
            f"is_first has {len(is_first)} entries for {len(values)} points, or its first entry is false: it needs one entry "
            "per point and must be true on the first; build it from the same rows",
            code="SPC-316",
        )
    return Spans.from_first(is_first)


def _points(mean: Floats, n: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Means and sizes as floats, each checked."""
    mean = np.asarray(mean, dtype=np.float64)
    size = _broadcast(n, len(mean), "n")
    bad = np.flatnonzero(~(np.isfinite(mean) & (size >= 1) & np.isfinite(size)))
    if len(bad):
        row = int(bad[0])
        raise ContractError(
            f"row {row}: mean {mean[row]:g} of {size[row]:g} values; a point needs a finite mean of at least one value, "
            "leave out subgroups without values",
            code="SPC-316",
        )
    return mean, size


def _broadcast(value: npt.ArrayLike, points: int, name: str) -> Floats:
    array = np.asarray(value, dtype=np.float64)
    if array.ndim > 1 or (array.ndim == 1 and len(array) != points):
        raise ContractError(
            f"{name} has the shape {array.shape} for {points} points; give one number or one per point", code="SPC-316"
        )
    return np.broadcast_to(array, (points,))


def _width(k: Parameter, points: int) -> Floats:
    """Width of the limits in standard errors; NaN where no limits are in force."""
    width = _broadcast(k, points, "k")
    bad = np.flatnonzero(width <= 0)
    if len(bad):
        raise ContractError(
            f"row {int(bad[0])}: k is {width[bad[0]]:g}; limits lie k > 0 standard errors from the centre, correct the "
            "chart's parameter",
            code="SPC-315",
        )
    return width


def _per_segment(
    value: Parameter,
    spans: Spans,
    name: str,
    *,
    low: float,
    high: float = np.inf,
    above: bool = False,
) -> Floats:
    """The parameter of each segment; checked to be in range and constant within the segment."""
    array = _broadcast(value, spans.rows, name)
    good = ((array > low) if above else (array >= low)) & (array <= high) & np.isfinite(array)
    first = array[spans.starts]
    same = np.ones(len(array), dtype=np.bool_) if np.ndim(value) == 0 else array == _expand(first, spans)
    bad = np.flatnonzero(~(good & same))
    if len(bad):
        row = int(bad[0])
        raise ContractError(
            f"row {row}: {name} is {array[row]:g}; it must be {'above' if above else 'at least'} {low:g}"
            + (f", at most {high:g}," if np.isfinite(high) else "")
            + " and the same on every point of a segment; correct the chart's parameter or start a segment where it changes",
            code="SPC-315",
        )
    return first


def _expand(per_segment: npt.NDArray[np.generic], spans: Spans) -> Floats:
    return spans.expand(per_segment).astype(np.float64, copy=False)


def _one_unit(error: Floats, size: Floats, spans: Spans) -> Floats:
    differs = np.flatnonzero(size != _expand(size[spans.starts], spans))
    if len(differs):
        row = int(differs[0])
        raise ContractError(
            f"row {row}: n is {size[row]:g} and differs from the first point of its segment; a CUSUM in the unit of the "
            "characteristic needs equal n, plot it in standard errors (in_unit=False)",
            code="SPC-316",
        )
    return error

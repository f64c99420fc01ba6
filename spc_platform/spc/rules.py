"""The one evaluator of run rules: every rule is data (``spc.rule_sets``), all charts are judged at once.

Rules act on standardized values z = (statistic - centre line) / standard error, so a chart with unequal n is judged
point by point with its own limits. Nothing reaches across a segment. The rules' defaults, where programs differ:
comparison beyond a zone is strict; a point exactly on the centre line breaks a run; a tie breaks a trend and an
alternation; the last point of the window is flagged, and it must itself lie beyond the zone for "k of m" rules; every
point that completes a pattern signals. Each of these is a field of ``Rule``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from spc_platform.errors import ContractError
from spc_platform.spc.rule_sets import RULE_SETS, Rule
from spc_platform.spc.sequence import Flags, Floats, Ints

__all__ = ["RULE_SETS", "SIDES", "Rule", "Signals", "evaluate"]

SIDES = ("above", "below", "both")
_ABOVE, _BELOW, _BOTH = range(3)
_ONE_SIDE = {"above": (_ABOVE,), "below": (_BELOW,)}


@dataclass(frozen=True)
class Signals:
    """Signals in point order: row of the flagged point, first row of its window, index of the rule, index in SIDES.

    A rising trend is above, a falling one below; rules that mix the sides are both.
    """

    point: Ints
    window_first: Ints
    rule: Ints
    side: Ints


def evaluate(z: Floats, is_first: Flags, rules: Sequence[Rule], width: Floats | float = 3.0) -> Signals:
    """Every signal of ``rules`` on standardized values of many charts at once.

    ``z``: finite values in time order, segment after segment; ``is_first``: true on the first point of a segment,
    across which no rule looks; ``width``: limits in standard errors, one for all or one per point. Signals come in the
    order of point, rule, side. Raises ``ContractError`` (SPC-330) for a z that is not finite, for arrays of different
    length, and when the first point begins no segment. Sources: those of ``rule_sets.RULE_SETS``.

    Cost: linear in the points for each rule; a rule with reset "signal" adds O(h log h) for its h signals without reset.

    >>> signals = evaluate(np.array([2.5, 0.0, 2.1]), np.array([True, False, False]), RULE_SETS["western_electric"])
    >>> signals.point.tolist(), signals.window_first.tolist(), signals.rule.tolist()
    ([2], [0], [1])
    """
    _refuse(z, is_first, width)
    none = np.zeros(0, dtype=np.int64)
    if not len(z) or not rules:
        return Signals(none, none, none, none)
    whole = _Series(np.asarray(z, dtype=np.float64), np.asarray(is_first, dtype=np.bool_), width)
    reduced: dict[str, tuple[_Series, Ints]] = {}
    found: list[tuple[Ints, Ints, int, int]] = []
    for index, rule in enumerate(rules):
        left_out = _left_out(rule)
        if left_out and left_out not in reduced:
            reduced[left_out] = whole.without(left_out)
        series, rows = reduced[left_out] if left_out else (whole, None)
        for track in _signals(rule, series):
            first = track.first
            point = track.hits
            found.append((point if rows is None else rows[point], first if rows is None else rows[first], index, track.side))
    point = np.concatenate([hit[0] for hit in found])
    rule_index = np.concatenate([np.full(len(hit[0]), hit[2], dtype=np.int64) for hit in found])
    side = np.concatenate([np.full(len(hit[0]), hit[3], dtype=np.int64) for hit in found])
    # rules and sides follow each other in ``found``, so a stable sort by point alone orders all three
    order = np.argsort(point, kind="stable")
    return Signals(point[order], np.concatenate([hit[1] for hit in found])[order], rule_index[order], side[order])


def _refuse(z: Floats, is_first: Flags, width: Floats | float) -> None:
    widths = np.shape(width)
    if len(is_first) != len(z) or widths not in ((), (len(z),)):
        raise ContractError(
            f"run rules: {len(z)} values, {len(is_first)} segment flags and widths of shape {widths}; give one per point",
            code="SPC-330",
        )
    finite = np.isfinite(z)
    if not finite.all():
        at = int(np.argmin(finite))
        remedy = "leave out points without a value or a standard error, or begin a segment behind them"
        raise ContractError(f"run rules: z of point {at} is {z[at]}; {remedy}", code="SPC-330")
    if len(z) and not is_first[0]:
        raise ContractError("run rules: point 0 begins no segment; set is_first[0]", code="SPC-330")


@dataclass
class _Series:
    """Points of many segments, with what several rules ask of them worked out once."""

    z: Floats
    is_first: Flags
    width: Floats | float
    _beyond: dict[tuple[float | None, bool], tuple[Flags, Flags]] = field(default_factory=dict)
    _steps: tuple[Flags, Flags, Flags] | None = None
    _starts: Ints | None = None

    @property
    def starts(self) -> Ints:
        if self._starts is None:
            self._starts = np.flatnonzero(self.is_first)
        return self._starts

    def start_of(self, points: Ints) -> Ints:
        """First row of the segment of each point."""
        starts: Ints = self.starts[np.searchsorted(self.starts, points, side="right") - 1]
        return starts

    def beyond(self, zone: float | None, *, strict: bool) -> tuple[Flags, Flags]:
        """Where a point lies beyond a zone above, and below."""
        if (zone, strict) not in self._beyond:
            edge = self.width if zone is None else zone
            low = np.negative(edge)
            sides = (self.z > edge, self.z < low) if strict else (self.z >= edge, self.z <= low)
            self._beyond[zone, strict] = sides
        return self._beyond[zone, strict]

    @property
    def steps(self) -> tuple[Flags, Flags, Flags]:
        """Where a point lies above, below, or level with the point before it in its segment."""
        if self._steps is None:
            rising, falling = np.zeros((2, len(self.z)), dtype=np.bool_)
            np.greater(self.z[1:], self.z[:-1], out=rising[1:])
            np.less(self.z[1:], self.z[:-1], out=falling[1:])
            rising[self.starts] = falling[self.starts] = False
            level = ~(rising | falling | self.is_first)
            self._steps = rising, falling, level
        return self._steps

    def without(self, what: str) -> tuple[_Series, Ints]:
        """The series without its points on the centre line, or without its ties, and the rows that are left."""
        kept = ~self.steps[2] if what == "ties" else self.z != 0.0
        rows = np.flatnonzero(kept)
        segment = np.cumsum(self.is_first, dtype=np.int64)[rows]
        is_first = np.ones(len(rows), dtype=np.bool_)
        is_first[1:] = segment[1:] != segment[:-1]
        width = self.width if np.ndim(self.width) == 0 else np.asarray(self.width)[rows]
        return _Series(self.z[rows], is_first, width), rows


@dataclass(frozen=True)
class _Track:
    """Signals of a rule on one side: sorted rows, the first rows of their windows, and the earliest row from a start on.

    ``earliest``: for windows that a start cuts short, maps starts to the first row where the pattern is complete even so
    (the number of points where it never is); None when only a whole window completes it.
    """

    side: int
    hits: Ints
    first: Ints
    earliest: Callable[[Ints], Ints] | None = None


def _left_out(rule: Rule) -> str:
    if rule.kind in ("trend", "alternate"):
        return "ties" if rule.ties == "ignore" else ""
    return "centre" if rule.on_centre == "skip" and rule.kind == "beyond" and rule.zone == 0 else ""


def _signals(rule: Rule, series: _Series) -> list[_Track]:
    if not len(series.z):
        return []
    tracks = _tracks(rule, series)
    return _restarted(tracks, rule.m, series) if rule.reset == "signal" and rule.m > 1 else tracks


def _tracks(rule: Rule, series: _Series) -> list[_Track]:
    """Signals of a rule on each of its sides when only segments end a window."""
    match rule.kind:
        case "trend":
            rising, falling, level = series.steps
            rows = {_ABOVE: _stepped(rising, level, rule), _BELOW: _stepped(falling, level, rule)}
            return [_Track(side, rows[side], rows[side] - rule.m + 1) for side in _ONE_SIDE.get(rule.side, (_ABOVE, _BELOW))]
        case "alternate":
            # an alternation is a trend of the steps with every second one turned round
            rising, falling, level = series.steps
            odd, even = rising.copy(), falling.copy()
            odd[1::2], even[1::2] = falling[1::2], rising[1::2]
            hits = np.union1d(_stepped(odd, level, rule), _stepped(even, level, rule))
            return [_Track(_BOTH, hits, hits - rule.m + 1)]
        case "span":
            return [_span(rule, series)]
        case "within":
            above, below = series.beyond(rule.zone, strict=rule.strict)
            return [_counted(~(above | below), rule, series, _BOTH)]
        case "beyond" if rule.side == "either":
            above, below = series.beyond(rule.zone, strict=rule.strict)
            return [_counted(above | below, rule, series, _BOTH)]
        case "beyond":
            flags = series.beyond(rule.zone, strict=rule.strict)
            return [_counted(flags[side], rule, series, side) for side in _ONE_SIDE.get(rule.side, (_ABOVE, _BELOW))]


def _stepped(steps: Flags, level: Flags, rule: Rule) -> Ints:
    """Rows that end m - 1 such steps in a row; steps are false at the start of a segment, so none reaches across it."""
    if rule.ties == "continue":
        return np.flatnonzero(_in_a_row(steps | level, rule.m - 1) & ~_in_a_row(level, rule.m - 1))
    return np.flatnonzero(_in_a_row(steps, rule.m - 1))


def _counted(flags: Flags, rule: Rule, series: _Series, side: int) -> _Track:
    """Rows at which k of the last m points of the segment are flagged, and with ``flag`` last the row itself is."""
    k, m = rule.k, rule.m
    if k == m:
        hits = np.flatnonzero(_in_a_row(flags, m))
        if m > 1:
            hits = hits[hits - m + 1 >= series.start_of(hits)]
        return _Track(side, hits, hits - m + 1)
    flagged = np.flatnonzero(flags)
    # the window holds k when the k-th flagged row back from a flagged row still lies in it
    last, back = flagged[k - 1 :], flagged[: max(len(flagged) - k + 1, 0)]
    near = last - back < m
    last, back = last[near], back[near]
    start = series.start_of(last)
    same = back >= start
    hits, start, back = last[same], start[same], back[same]
    if rule.flag == "window":
        # the window keeps its k until the oldest of them leaves it, or the segment ends
        ends = np.append(series.starts[1:], len(flags)) - 1
        until = np.minimum(back + m - 1, ends[np.searchsorted(series.starts, hits, side="right") - 1])
        hits = np.unique(_ranges(hits, until - hits + 1))
        start = series.start_of(hits)
    padded = np.append(flagged, np.full(k, len(flags), dtype=np.int64))

    def earliest(starts: Ints) -> Ints:
        kth: Ints = padded[np.minimum(np.searchsorted(flagged, starts) + k - 1, len(padded) - 1)]
        return kth

    return _Track(side, hits, np.maximum(hits - m + 1, start), earliest)


def _span(rule: Rule, series: _Series) -> _Track:
    """Rows beyond a zone with a row beyond the other side of it among the m - 1 before them."""
    n = len(series.z)
    above, below = (np.flatnonzero(flags) for flags in series.beyond(rule.zone, strict=rule.strict))
    hits = np.union1d(_after(above, below, rule.m), _after(below, above, rule.m))
    start = series.start_of(hits)
    first = np.maximum(hits - rule.m + 1, start)
    whole = np.flatnonzero(_latest(above, hits) >= first)
    hits, first = hits[whole], first[whole]
    both = _latest(below, hits) >= first

    def earliest(starts: Ints) -> Ints:
        up, down = (np.append(rows, n)[np.searchsorted(rows, starts)] for rows in (above, below))
        later: Ints = np.maximum(up, down)
        return later

    return _Track(_BOTH, hits[both], first[both], earliest)


def _after(rows: Ints, others: Ints, m: int) -> Ints:
    """Rows that have one of ``others`` among the m - 1 rows before them."""
    return rows[rows - _latest(others, rows) < m]


def _latest(rows: Ints, at: Ints) -> Ints:
    """The last of ``rows`` that is not behind ``at``; far before all where there is none."""
    found: Ints = np.insert(rows, 0, np.iinfo(np.int32).min)[np.searchsorted(rows, at, side="right")]
    return found


def _restarted(tracks: list[_Track], m: int, series: _Series) -> list[_Track]:
    """The signals that are left when a rule starts anew behind each of its signals.

    Each signal without reset points to the one that would follow it; those that can be reached from the start of
    a segment are marked by doubling the reach, so the passes are as many as the logarithm of a segment's signals.
    """
    n = len(series.z)
    nodes = np.unique(np.concatenate([track.hits for track in tracks]))
    segment = np.searchsorted(series.starts, nodes, side="right") - 1
    ends = np.append(series.starts[1:], n)

    def onward(starts: Ints, ends: Ints) -> list[Ints]:
        return [_next(track, starts, ends, m, n) for track in tracks]

    def node(points: Ints) -> Ints:
        return np.searchsorted(nodes, points)

    follows = np.append(node(np.minimum.reduce(onward(nodes + 1, ends[segment]))), len(nodes))
    reached = np.zeros(len(nodes) + 1, dtype=np.bool_)
    reached[node(np.minimum.reduce(onward(series.starts, ends)))] = True
    before = 0
    while before != (before := int(np.count_nonzero(reached))):
        reached[follows[reached]] = True
        follows = follows[follows]
    kept, of = nodes[reached[:-1]], segment[reached[:-1]]
    starts = series.starts[of]
    again = np.flatnonzero(of[1:] == of[:-1]) + 1
    starts[again] = kept[again - 1] + 1
    hit = [found == kept for found in onward(starts, ends[of])]
    first = np.maximum(kept - m + 1, starts)
    return [replace(track, hits=kept[at], first=first[at]) for track, at in zip(tracks, hit, strict=True)]


def _next(track: _Track, starts: Ints, ends: Ints, m: int, n: int) -> Ints:
    """The first signal of each start that has no past, or ``n`` where none comes before the end."""
    found = np.append(track.hits, n)[np.searchsorted(track.hits, starts + m - 1)]
    if track.earliest is not None:
        early = track.earliest(starts)
        found = np.where(early < starts + m - 1, early, found)
    return np.where(found < ends, found, n)


def _ranges(first: Ints, length: Ints) -> Ints:
    """first, first + 1, ... of each range, one after the other."""
    within = np.arange(int(length.sum())) - np.repeat(np.cumsum(length) - length, length)
    return np.repeat(first, length) + within


def _in_a_row(flags: Flags, count: int) -> Flags:
    """Flag where the last ``count`` entries are all flagged, by doubling the length that is known."""
    full = flags.copy()
    known = 1
    while known < count:
        more = min(known, count - known)
        full[more:] = full[more:] & full[:-more]
        known += more
    full[: count - 1] = False
    return full

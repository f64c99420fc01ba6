"""Run rules as data, and the one evaluator that reads them.

Rules act on standardized values z = (statistic - centre line) / standard error, so a chart with unequal n is
judged point by point with its own limits. Conventions, where programs differ: comparison beyond a zone is strict;
a point exactly on the centre line breaks a run; a tie breaks a trend and an alternation; the last point of the
window is flagged, and it must itself lie beyond the zone for "k of m" rules; nothing reaches across a segment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from spc_platform.spc.sequence import Flags, Floats, Ints, Spans

Kind = Literal["beyond", "trend", "alternate", "within"]
SIDES = ("above", "below", "both")
_ABOVE, _BELOW, _BOTH = range(3)


@dataclass(frozen=True, slots=True)
class Rule:
    """``k`` of ``m`` points of a kind.

    kind: beyond (beyond ``zone`` standard errors; a run is beyond zone 0 with k = m), within (not beyond it),
    trend (m points rising or falling), alternate (m points up and down). ``zone`` None is the width of the chart's
    limits. ``side``: same (all on one side) or either.
    """

    name: str
    k: int
    m: int
    zone: float | None
    side: Literal["same", "either"]
    kind: Kind
    text: str


@dataclass(frozen=True)
class Signals:
    """Signals in point order: row of the flagged point, first row of its window, index of the rule, index in SIDES."""

    point: Ints
    window_first: Ints
    rule: Ints
    side: Ints


_LIMIT = Rule("1", 1, 1, None, "same", "beyond", "1 point beyond the control limits")
_TWO_OF_THREE = Rule("2", 2, 3, 2.0, "same", "beyond", "2 of 3 points beyond 2 standard errors on the same side")
_FOUR_OF_FIVE = Rule("3", 4, 5, 1.0, "same", "beyond", "4 of 5 points beyond 1 standard error on the same side")


def _run(m: int) -> Rule:
    return Rule("4", m, m, 0.0, "same", "beyond", f"{m} points in a row on the same side of the centre line")


def _trend(m: int) -> Rule:
    return Rule("3", m, m, None, "either", "trend", f"{m} points in a row rising or falling")


_ALTERNATE = Rule("4", 14, 14, None, "either", "alternate", "14 points in a row alternating up and down")
_STRATIFIED = Rule("7", 15, 15, 1.0, "either", "within", "15 points in a row within 1 standard error of the centre line")
_MIXTURE = Rule("8", 8, 8, 1.0, "either", "beyond", "8 points in a row beyond 1 standard error on either side")


def _numbered(name: str, *rules: Rule) -> tuple[Rule, ...]:
    return tuple(replace(rule, name=f"{name}_{number}") for number, rule in enumerate(rules, start=1))


def _nelson(name: str, trend: int) -> tuple[Rule, ...]:
    rules = (_LIMIT, _run(9), _trend(trend), _ALTERNATE, _TWO_OF_THREE, _FOUR_OF_FIVE, _STRATIFIED, _MIXTURE)
    return _numbered(name, *rules)


RULE_SETS: dict[str, tuple[Rule, ...]] = {
    "western_electric": _numbered("western_electric", _LIMIT, _TWO_OF_THREE, _FOUR_OF_FIVE, _run(8)),
    "nelson": _nelson("nelson", 6),
    "nelson_minitab_trend": _nelson("nelson_minitab_trend", 7),
    "aiag": _numbered("aiag", _LIMIT, _run(7), _trend(6), _ALTERNATE, _TWO_OF_THREE, _FOUR_OF_FIVE, _STRATIFIED, _MIXTURE),
    "montgomery": _numbered(
        "montgomery", _LIMIT, _TWO_OF_THREE, _FOUR_OF_FIVE, _run(8), _trend(6), _STRATIFIED, _ALTERNATE, _MIXTURE
    ),
    "limits_only": _numbered("limits_only", _LIMIT),
}
"""Rule sets by the name that a site writes into ``characteristics.rule_set``. The first rule is always the limits."""


def evaluate(z: Floats, is_first: Flags, rules: Sequence[Rule], width: Floats | float = 3.0) -> Signals:
    """Every signal of ``rules`` on standardized values of many charts at once.

    ``z``: finite values in time order, segment after segment; ``is_first``: true on the first point of a segment,
    across which no rule looks; ``width``: limits in standard errors, one for all or one per point. Sources: Western
    Electric Handbook (1956); Nelson, J. Quality Technology 16 (1984) 237; AIAG SPC manual; Montgomery.

    >>> signals = evaluate(np.array([2.5, 0.0, 2.1]), np.array([True, False, False]), RULE_SETS["western_electric"])
    >>> signals.point.tolist(), signals.window_first.tolist(), signals.rule.tolist()
    ([2], [0], [1])
    """
    if not len(z):
        none = np.zeros(0, dtype=np.int64)
        return Signals(none, none, none, none)
    spans = Spans.from_first(is_first)
    start = np.repeat(spans.starts, spans.sizes)
    found: list[tuple[Ints, Ints, int, int]] = []
    for index, rule in enumerate(rules):
        for side, hits in _hits(rule, z, start, width):
            point = np.flatnonzero(hits)
            found.append((point, np.maximum(point - rule.m + 1, start[point]), index, side))
    point = np.concatenate([hit[0] for hit in found])
    rule_index = np.concatenate([np.full(len(hit[0]), hit[2]) for hit in found])
    order = np.lexsort((rule_index, point))
    return Signals(
        point[order],
        np.concatenate([hit[1] for hit in found])[order],
        rule_index[order],
        np.concatenate([np.full(len(hit[0]), hit[3]) for hit in found])[order],
    )


def _hits(rule: Rule, z: Floats, start: Ints, width: Floats | float) -> list[tuple[int, Flags]]:
    zone = width if rule.zone is None else rule.zone
    match rule.kind:
        case "beyond" if rule.side == "same":
            above, below = z > zone, z < -zone
            return [(_ABOVE, above & _enough(above, rule, start)), (_BELOW, below & _enough(below, rule, start))]
        case "beyond":
            outside = np.abs(z) > zone
            return [(_BOTH, outside & _enough(outside, rule, start))]
        case "within":
            inside = np.abs(z) <= zone
            return [(_BOTH, inside & _enough(inside, rule, start))]
        case "trend":
            rising, falling = _steps(z, start)
            return [(_BOTH, _in_a_row(rising, rule.m - 1) | _in_a_row(falling, rule.m - 1))]
        case "alternate":
            rising, falling = _steps(z, start)
            turns = np.zeros_like(rising)
            turns[1:] = (rising[1:] & falling[:-1]) | (falling[1:] & rising[:-1])
            return [(_BOTH, _in_a_row(turns, rule.m - 2))]


def _enough(flags: Flags, rule: Rule, start: Ints) -> Flags:
    """Flag where at least k of the last m points of the same segment are flagged."""
    if rule.m == 1:
        return flags
    passed = np.concatenate(([0], np.cumsum(flags, dtype=np.int64)))
    here = np.arange(len(flags))
    enough: Flags = passed[1:] - passed[np.maximum(here - rule.m + 1, start)] >= rule.k
    return enough


def _steps(z: Floats, start: Ints) -> tuple[Flags, Flags]:
    """Where a point lies above, or below, the point before it in its segment."""
    continues = np.arange(len(z)) > start
    step = np.diff(z, prepend=z[:1])
    return continues & (step > 0), continues & (step < 0)


def _in_a_row(flags: Flags, count: int) -> Flags:
    """Flag where the last ``count`` entries are all flagged; the flags are false at segment starts."""
    passed = np.concatenate(([0], np.cumsum(flags, dtype=np.int64)))
    full = np.zeros(len(flags), dtype=np.bool_)
    full[count - 1 :] = passed[count:] - passed[: max(len(passed) - count, 0)] == count
    return full

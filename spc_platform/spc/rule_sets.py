"""Run rules as data: what a rule is, the published sets, a site's own sets, and which rules a chart allows.

Every point on which programs differ is a field of the rule, not code: see ``Rule``. ``spc.rules`` evaluates them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import polars as pl

from spc_platform.contracts.rules import FLAGS, KINDS, ON_CENTRE, RESETS, RULE_SIDES, RULES, TIES
from spc_platform.errors import ContractError

Kind = Literal["beyond", "within", "trend", "alternate", "span"]


@dataclass(frozen=True, slots=True)
class Rule:
    """``k`` of ``m`` points of a kind, with every convention on which programs differ.

    kind: beyond (beyond ``zone`` standard errors; a run is beyond zone 0 with k = m), within (not beyond it),
    trend (m points rising or falling, so m - 1 steps), alternate (m points up and down, m - 1 steps), span (of the last
    m points one lies beyond +zone and another beyond -zone, and the last is one of the two).
    ``zone``: in standard errors; None is the width of the chart's limits. ``side``: same (all on one side, either of the
    two), either (sides may mix), above or below (that side only; of a trend: rising or falling only).
    ``strict``: a point on the line of a zone is not beyond it, hence within it; otherwise it is beyond it.
    ``ties`` (trend, alternate): an equal neighbour breaks the sequence, is ignored as if it were not plotted, or continues
    it by standing for the step that is due (at least one step of the window must be real).
    ``on_centre`` (zone 0): a point exactly on the centre line breaks a run, or is skipped as if it were not plotted.
    ``flag`` (k < m): last, the last point of the window must itself be beyond; window, any k of the last m, so a point
    that is not beyond can be flagged too. ``reset``: segment, every point that completes a pattern signals; signal, after
    a signal the rule starts anew behind it, and no point enters two signals of the rule.

    Signals of a rule with reset "signal" depend on the whole segment, and a window that ignores ties or skips points may
    reach back further than m points: what is judged in parts must be carried that far.
    """

    name: str
    k: int
    m: int
    zone: float | None
    side: Literal["same", "either", "above", "below"]
    kind: Kind
    text: str
    strict: bool = True
    ties: Literal["break", "ignore", "continue"] = "break"
    on_centre: Literal["break", "skip"] = "break"
    flag: Literal["last", "window"] = "last"
    reset: Literal["segment", "signal"] = "segment"


_LIMIT = Rule("1", 1, 1, None, "same", "beyond", "1 point beyond the control limits")
_TWO_OF_THREE = Rule("2", 2, 3, 2.0, "same", "beyond", "2 of 3 points beyond 2 standard errors on the same side")
_FOUR_OF_FIVE = Rule("3", 4, 5, 1.0, "same", "beyond", "4 of 5 points beyond 1 standard error on the same side")
_ALTERNATE = Rule("4", 14, 14, None, "either", "alternate", "14 points in a row alternating up and down")
_STRATIFIED = Rule("7", 15, 15, 1.0, "either", "within", "15 points in a row within 1 standard error of the centre line")
_MIXTURE = Rule("8", 8, 8, 1.0, "either", "beyond", "8 points in a row beyond 1 standard error on either side")


def _run(m: int) -> Rule:
    return Rule("4", m, m, 0.0, "same", "beyond", f"{m} points in a row on the same side of the centre line")


def _trend(m: int) -> Rule:
    return Rule("3", m, m, None, "either", "trend", f"{m} points in a row rising or falling")


def _in_zone(m: int, zone: float) -> Rule:
    return Rule("", m, m, zone, "same", "beyond", f"{m} points in a row beyond {zone:g} standard errors on the same side")


def _named(prefix: str, rules: Mapping[str, Rule]) -> tuple[Rule, ...]:
    return tuple(replace(rule, name=f"{prefix}_{name}") for name, rule in rules.items())


def _numbered(prefix: str, *rules: Rule) -> tuple[Rule, ...]:
    return _named(prefix, {str(number): rule for number, rule in enumerate(rules, start=1)})


def _nelson(name: str, trend: int) -> tuple[Rule, ...]:
    rules = (_LIMIT, _run(9), _trend(trend), _ALTERNATE, _TWO_OF_THREE, _FOUR_OF_FIVE, _STRATIFIED, _MIXTURE)
    return _numbered(name, *rules)


_WESTGARD = {
    "1_3s": _LIMIT,
    "2_2s": replace(_in_zone(2, 2.0), text="2 points in a row beyond 2 standard errors on the same side"),
    "R_4s": Rule("", 2, 2, 2.0, "either", "span", "2 points in a row, one above +2 and one below -2 standard errors"),
    "4_1s": _in_zone(4, 1.0),
    "10_x": _run(10),
}
_WESTGARD_MORE = {
    "1_2s": Rule("", 1, 1, 2.0, "same", "beyond", "1 point beyond 2 standard errors (a warning)"),
    "2of3_2s": _TWO_OF_THREE,
    "3_1s": _in_zone(3, 1.0),
    "6_x": _run(6),
    "7_T": _trend(7),
    "8_x": _run(8),
    "9_x": _run(9),
    "12_x": _run(12),
}

RULE_SETS: dict[str, tuple[Rule, ...]] = {
    "western_electric": _numbered("western_electric", _LIMIT, _TWO_OF_THREE, _FOUR_OF_FIVE, _run(8)),
    "nelson": _nelson("nelson", 6),
    "nelson_minitab_trend": _nelson("nelson_minitab_trend", 7),
    "aiag": _numbered("aiag", _LIMIT, _run(7), _trend(6), _ALTERNATE, _TWO_OF_THREE, _FOUR_OF_FIVE, _STRATIFIED, _MIXTURE),
    "montgomery": _numbered(
        "montgomery", _LIMIT, _TWO_OF_THREE, _FOUR_OF_FIVE, _run(8), _trend(6), _STRATIFIED, _ALTERNATE, _MIXTURE
    ),
    "westgard": _named("westgard", _WESTGARD),
    "westgard_extended": _named("westgard", {**_WESTGARD, **_WESTGARD_MORE}),
    "limits_only": _numbered("limits_only", _LIMIT),
}
"""Rule sets by the name that a site writes into ``characteristics.rule_set``. The first rule is always the limits.

Sources: Western Electric, Statistical Quality Control Handbook (1956); Nelson, J. Quality Technology 16 (1984) 237;
Montgomery, Introduction to SQC (4th ed., 172-175); AIAG, SPC (2nd ed.): its counts as tabulated by QI Macros (stability
analysis) and by R's certestats (``qc_rules``), which agree; Westgard et al., Clinical Chemistry 27 (1981) 493 (R_4s: one
control beyond +2 s and another beyond -2 s; here two points in a row of one segment). 1_2s is a warning, 5 % of good
points break it, so it is in ``westgard_extended`` only.
"""


def test_kind(rule: Rule) -> str:
    """The kind of test (``contracts.charts.TESTS``) that a rule is, which decides on which charts it may act.

    >>> [test_kind(rule) for rule in RULE_SETS["nelson"]]
    ['limits', 'run', 'trend', 'alternate', 'zone', 'zone', 'within', 'outside']
    """
    match rule.kind:
        case "trend" | "alternate" | "within":
            return rule.kind
        case "span":
            return "zone"
        case "beyond":
            if rule.zone is None:
                return "limits"
            if rule.zone == 0:
                return "run"
            return "outside" if rule.side == "either" else "zone"


# a test runner takes names that begin with test_ for tests
test_kind.__test__ = False  # type: ignore[attr-defined]


def allowed(rules: Sequence[Rule], tests: Sequence[str]) -> tuple[tuple[Rule, ...], tuple[Rule, ...]]:
    """(rules that a panel with these ``tests`` takes, rules that it leaves out), each in the order given.

    ``tests``: kinds of tests of a panel in ``contracts.charts``. Zone tests suppose a normal statistic (Nelson 1984).

    >>> kept, left_out = allowed(RULE_SETS["western_electric"], ("limits", "run"))
    >>> [rule.name for rule in kept], [rule.name for rule in left_out]
    (['western_electric_1', 'western_electric_4'], ['western_electric_2', 'western_electric_3'])
    """
    takes = [test_kind(rule) in tests for rule in rules]
    kept = tuple(rule for rule, good in zip(rules, takes, strict=True) if good)
    return kept, tuple(rule for rule, good in zip(rules, takes, strict=True) if not good)


def select(names: str, sets: Mapping[str, tuple[Rule, ...]] = RULE_SETS) -> tuple[Rule, ...]:
    """Rules by name, as ``--rules`` of the command line takes them: sets, ``set:rule,rule`` and rules, by comma.

    ``sets``: the published sets, or these and a site's own. A rule that is named twice comes once. Raises
    ``ContractError`` (SPC-340) for a name that does not exist; it lists what does.

    >>> [rule.name for rule in select("nelson:1,2,western_electric_4")]
    ['nelson_1', 'nelson_2', 'western_electric_4']
    """
    by_name = {rule.name: rule for rules in sets.values() for rule in rules}
    chosen: dict[str, Rule] = {}
    opened = ""
    for token in (part.strip() for part in names.split(",")):
        before, colon, after = token.partition(":")
        if colon:
            opened, token = before.strip(), after.strip()
            if opened not in sets:
                raise _unknown(opened, "rule set", sets)
        if not colon and token in sets:
            opened = ""
            chosen |= {rule.name: rule for rule in sets[token]}
        elif (rule := _of_set(sets.get(opened, ()), token) or (None if colon else by_name.get(token))) is not None:
            chosen[rule.name] = rule
        elif opened:
            known = ", ".join(rule.name for rule in sets[opened])
            raise ContractError(f"rules {names!r}: {opened} has no rule {token!r}; it has {known}", code="SPC-340")
        else:
            raise _unknown(token, "rule or rule set", sets)
    return tuple(chosen.values())


def _of_set(rules: Iterable[Rule], token: str) -> Rule | None:
    """Rule of a set by its full name or by what follows the set's name."""
    return next((rule for rule in rules if token and (rule.name == token or rule.name.endswith(f"_{token}"))), None)


def _unknown(token: str, what: str, sets: Mapping[str, tuple[Rule, ...]]) -> ContractError:
    exist = "; ".join(f"{name} ({', '.join(rule.name for rule in rules)})" for name, rules in sets.items())
    return ContractError(f"no {what} {token!r}; these exist: {exist}", code="SPC-340")


def custom_rules(frame: pl.DataFrame) -> dict[str, tuple[Rule, ...]]:
    """A site's own rule sets from its table ``rules`` (``contracts.rules.RULES``), to be merged with ``RULE_SETS``.

    One row per rule; an empty cell of a convention is the default of ``Rule``. The rule's name is that of the set, ``_``
    and its own; rules are in the order of their numbers, the others by name behind them, limits first. Raises
    ``ContractError`` (SPC-341) with every wrong row: k above m, a missing or negative zone, an unknown word, a convention
    that the kind does not know, a name that is taken.
    """
    missing = [column.name for column in RULES.columns if not column.nullable and column.name not in frame.columns]
    if missing:
        raise ContractError(f"table rules: no column {', '.join(missing)}; add it", code="SPC-341")
    problems: list[str] = []
    sets: dict[str, dict[str, Rule]] = {}
    for number, row in enumerate(frame.iter_rows(named=True), start=1):
        wrong = [*_bad_words(row), *_bad_counts(row)] or _bad_conventions(row)
        name, own = row["rule_set"], row["rule"]
        if name in RULE_SETS:
            wrong.append(f"rule_set {name} is a published set; choose another name")
        if own in sets.get(name, {}):
            wrong.append(f"rule {own} of {name} is there twice; number the rules of a set differently")
        problems += [f"rules row {number}: {problem}" for problem in wrong]
        if not wrong:
            sets.setdefault(name, {})[own] = _rule(row)
    if problems:
        raise ContractError("; ".join(problems), code="SPC-341")
    return {name: tuple(sorted(rules.values(), key=_place)) for name, rules in sorted(sets.items())}


_WORDS = {"kind": KINDS, "side": RULE_SIDES, "ties": TIES, "on_centre": ON_CENTRE, "flag": FLAGS, "reset": RESETS}
_DEFAULTS = {"side": "same", "strict": True, "ties": "break", "on_centre": "break", "flag": "last", "reset": "segment"}


def _place(rule: Rule) -> tuple[bool, bool, int, str]:
    last = rule.name.rpartition("_")[2]
    number = int(last) if last.isdecimal() else 0
    return test_kind(rule) != "limits", not last.isdecimal(), number, rule.name


def _bad_words(row: Mapping[str, Any]) -> list[str]:
    wrong = [f"{name} is empty; give it" for name in ("rule_set", "rule", "kind") if not row[name]]
    given = [(name, row.get(name), words) for name, words in _WORDS.items() if row.get(name)]
    return wrong + [
        f"{name} {word!r} is unknown; use one of {', '.join(words)}" for name, word, words in given if word not in words
    ]


def _bad_counts(row: Mapping[str, Any]) -> list[str]:
    k, m, zone = row["k"], row["m"], row.get("zone")
    wrong = []
    if k is None or m is None or not 1 <= k <= m:
        wrong.append(f"k {k} of m {m} cannot be counted; use 1 <= k <= m")
    # a NaN is neither negative nor a zone
    if zone is not None and not 0 <= zone < float("inf"):
        wrong.append(f"zone {zone} is no distance; use 0 or more standard errors, or leave it empty for the limits")
    return wrong


def _bad_conventions(row: Mapping[str, Any]) -> list[str]:
    kind, k, m, zone, side = row["kind"], row["k"], row["m"], row.get("zone"), row.get("side")
    wrong = []
    if kind in ("trend", "alternate"):
        least = 2 if kind == "trend" else 3
        if k != m or m < least:
            wrong.append(f"{kind} is {k} of {m} points; use k = m of at least {least}")
        if zone is not None:
            wrong.append(f"{kind} knows no zone; leave it empty")
    elif row.get("ties"):
        wrong.append(f"{kind} knows no ties; leave the column empty")
    if kind == "span" and (k != 2 or row.get("flag") == "window"):
        wrong.append("span is two points, the last of them flagged; use k = 2 and leave flag empty")
    if kind in ("span", "within", "alternate") and side not in (None, "", "either"):
        wrong.append(f"{kind} has no side; use either or leave it empty")
    if kind == "beyond" and side in (None, "", "same"):
        wrong += _both_sides_at_once(row)
    if kind == "within" and zone == 0:
        wrong.append("nothing lies within zone 0; use a wider zone")
    if row.get("on_centre") and not (kind == "beyond" and zone == 0 and side != "either"):
        wrong.append("on_centre acts on a side of the centre line only; use kind beyond with zone 0, or leave it empty")
    return wrong


def _both_sides_at_once(row: Mapping[str, Any]) -> list[str]:
    """A point that signals above and below by one rule would be two signals of one name."""
    wrong = []
    if row.get("zone") == 0 and row.get("strict") is False:
        wrong.append("a point on the centre line would lie on both sides; leave strict empty and use on_centre")
    if row.get("flag") == "window" and 2 * row["k"] <= row["m"]:
        wrong.append(
            f"{row['k']} of {row['m']} fits both sides in one window; use k of more than half of m, or side above or below"
        )
    return wrong


def _rule(row: Mapping[str, Any]) -> Rule:
    given: dict[str, Any] = {name: row.get(name) for name in _DEFAULTS}
    if row["kind"] != "beyond" and not given["side"]:
        given["side"] = "either"
    conventions: dict[str, Any] = {
        name: default if given[name] in (None, "") else given[name] for name, default in _DEFAULTS.items()
    }
    rule = Rule(
        name=f"{row['rule_set']}_{row['rule']}",
        k=int(row["k"]),
        m=int(row["m"]),
        zone=None if row.get("zone") is None else float(row["zone"]),
        kind=row["kind"],
        text="",
        **conventions,
    )
    return replace(rule, text=row.get("text") or described(rule))


def described(rule: Rule) -> str:
    """The rule in words, from its fields.

    >>> described(Rule("a", 10, 11, 0.0, "same", "beyond", ""))
    '10 of 11 points on the same side of the centre line'
    """
    in_a_row = "1 point" if rule.m == 1 else f"{rule.m} points in a row"
    points = f"{rule.k} of {rule.m} points" if rule.k < rule.m else in_a_row
    line = "the control limits" if rule.zone is None else f"{rule.zone:g} standard error{'' if rule.zone == 1 else 's'}"
    side = {"same": "the same side", "either": "either side"}.get(rule.side, f"the side {rule.side}")
    match rule.kind:
        case "trend":
            return f"{points} {({'above': 'rising', 'below': 'falling'}).get(rule.side, 'rising or falling')}"
        case "alternate":
            return f"{points} alternating up and down"
        case "within":
            return f"{points} within {line} of the centre line"
        case "span":
            return f"2 of {rule.m} points, one above +{line} and one below -{line}"
        case "beyond" if rule.zone == 0:
            return f"{points} on {side} of the centre line"
        case "beyond":
            return f"{points} beyond {line}" + ("" if rule.m == 1 and rule.side == "same" else f" on {side}")

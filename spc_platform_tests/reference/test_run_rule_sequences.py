"""Run rules against sequences written by hand and against an evaluator that walks point by point, one rule at a time."""

from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest

from spc_platform.spc.rules import RULE_SETS, SIDES, Rule, evaluate


def walked(z, segment, rules, width):
    """{(point, rule name, side, first of window)} as a person finds them with a ruler: point after point, rule by rule."""
    found = set()
    for rule in rules:
        plotted: list[int] = []
        for i, value in enumerate(z):
            if i and segment[i] != segment[i - 1]:
                plotted = []
            elif i and rule.kind in ("trend", "alternate") and rule.ties == "ignore" and value == z[i - 1]:
                continue
            if rule.kind == "beyond" and rule.zone == 0 and rule.on_centre == "skip" and value == 0:
                continue
            plotted.append(i)
            window = plotted[-rule.m :]
            sides = judged([z[j] for j in window], [width[j] if rule.zone is None else rule.zone for j in window], rule)
            found |= {(i, rule.name, side, window[0]) for side in sides}
            if sides and rule.reset == "signal":
                plotted = []
    return found


def judged(values, zones, rule):
    up = [v > c if rule.strict else v >= c for v, c in zip(values, zones, strict=True)]
    down = [v < -c if rule.strict else v <= -c for v, c in zip(values, zones, strict=True)]
    if rule.kind == "span":
        last_is_one = up[-1] or down[-1]
        return ["both"] if last_is_one and any(up) and any(down) else []
    if rule.kind in ("trend", "alternate"):
        return stepped(values, rule) if len(values) == rule.m else []
    both = [a or b for a, b in zip(up, down, strict=True)]
    if rule.kind == "within":
        marks = {"both": [not b for b in both]}
    elif rule.side == "either":
        marks = {"both": both}
    else:
        marks = {side: m for side, m in (("above", up), ("below", down)) if rule.side in ("same", side)}
    return [s for s, m in marks.items() if sum(m) >= rule.k and (m[-1] or rule.flag == "window")]


def stepped(values, rule):
    steps = [float(np.sign(b - a)) for a, b in pairwise(values)]
    if rule.kind == "alternate":
        steps = [s if j % 2 else -s for j, s in enumerate(steps)]
    real = [s for s in steps if s]
    if not real or (len(real) < len(steps) and rule.ties != "continue"):
        return []
    sides = {"above"} if min(real) > 0 else {"below"} if max(real) < 0 else set()
    if rule.kind == "alternate":
        return ["both"] if sides else []
    return [side for side in sides if rule.side in ("same", "either", side)]


def evaluated(z, segment, rules, width):
    z, segment = np.asarray(z, dtype=float), np.asarray(segment)
    is_first = np.concatenate(([True], segment[1:] != segment[:-1]))
    s = evaluate(z, is_first, rules, width)
    order = list(zip(s.point.tolist(), s.rule.tolist(), s.side.tolist(), strict=True))
    assert order == sorted(order)
    rows = [(p, rules[r].name, SIDES[d], f) for (p, r, d), f in zip(order, s.window_first.tolist(), strict=True)]
    assert len(rows) == len(set(rows))
    return set(rows)


def series(kind, n, rng):
    return {
        "normal": 1.3 * rng.standard_normal(n),
        "ties": rng.integers(-4, 5, n).astype(float),
        "coarse": rng.integers(-1, 2, n).astype(float),
        "waves": np.round(np.sin(np.arange(n) / 4) * 3 + 0.2 * rng.standard_normal(n), 1),
        "narrow": 0.6 * rng.standard_normal(n),
        "shifted": 1.5 + rng.standard_normal(n),
        "zigzag": np.round(np.where(np.arange(n) % 2 == 0, 1.5, -1.5) + 0.3 * rng.standard_normal(n), 1),
    }[kind]


SERIES = ("normal", "ties", "coarse", "waves", "narrow", "shifted", "zigzag")


@pytest.mark.parametrize("rule_set", sorted(RULE_SETS))
@pytest.mark.parametrize("kind", SERIES)
@pytest.mark.parametrize("reset", ["segment", "signal"])
def test_every_published_set_finds_what_a_walk_finds(rule_set, kind, reset):
    rng = np.random.default_rng([SERIES.index(kind), len(rule_set)])
    z, segment = series(kind, 300, rng), np.cumsum(rng.random(300) < 0.03)
    width = rng.choice([2.5, 3.0, 3.5], 300)
    rules = [replace(rule, reset=reset) for rule in RULE_SETS[rule_set]]
    assert evaluated(z, segment, rules, width) == walked(z, segment, rules, width)


def variants():
    """Every convention of every kind, with short windows so that random series complete them often."""
    rules = []
    for k, m, zone, strict, on_centre, flag, side in product(
        (1, 2, 4),
        (1, 3, 4, 6),
        (None, 0.0, 1.0, 2.0),
        (True, False),
        ("break", "skip"),
        ("last", "window"),
        ("same", "either", "below"),
    ):
        if k <= m:
            rules.append(Rule("", k, m, zone, side, "beyond", "", strict=strict, on_centre=on_centre, flag=flag))
    for k, m, zone, strict, flag in product((2, 4), (4, 5), (0.5, 1.0), (True, False), ("last", "window")):
        rules.append(Rule("", k, m, zone, "either", "within", "", strict=strict, flag=flag))
    for m, ties, side in product((2, 3, 5), ("break", "ignore", "continue"), ("either", "above")):
        rules.append(Rule("", m, m, None, side, "trend", "", ties=ties))
    for m, ties in product((3, 4, 7), ("break", "ignore", "continue")):
        rules.append(Rule("", m, m, None, "either", "alternate", "", ties=ties))
    for m, zone, strict in product((2, 3, 5), (1.0, 2.0, None), (True, False)):
        rules.append(Rule("", 2, m, zone, "either", "span", "", strict=strict))
    both = [replace(rule, reset=reset) for rule in rules for reset in ("segment", "signal")]
    return [replace(rule, name=str(number)) for number, rule in enumerate(both)]


@pytest.mark.parametrize("kind", SERIES)
def test_every_convention_finds_what_a_walk_finds(kind):
    rng = np.random.default_rng(SERIES.index(kind))
    z, segment = series(kind, 90, rng), np.cumsum(rng.random(90) < 0.05)
    width = rng.choice([2.0, 3.0], 90)
    rules = variants()
    assert evaluated(z, segment, rules, width) == walked(z, segment, rules, width)


def test_the_random_series_complete_every_convention():
    """Guards the test above: a rule that never signals would agree with anything."""
    rules = variants()
    rng = np.random.default_rng(1)
    signals = [evaluated(sign * series(kind, 300, rng), np.zeros(300), rules, 2.0) for kind in SERIES for sign in (1, -1)]
    assert {name for found in signals for _, name, _, _ in found} == {rule.name for rule in rules}


def test_segments_of_one_point_each_know_single_points_only():
    z = np.array([3.5, 2.5, -3.5, 2.5, 2.5])
    rules = RULE_SETS["nelson"]
    assert evaluated(z, np.arange(5), rules, np.full(5, 3.0)) == {(0, "nelson_1", "above", 0), (2, "nelson_1", "below", 2)}


def found(z, rule_set, segment=None, **conventions):
    rules = [replace(rule, **conventions) for rule in RULE_SETS[rule_set]]
    z = np.asarray(z, dtype=float)
    return evaluated(z, np.zeros(len(z)) if segment is None else segment, rules, np.full(len(z), 3.0))


# The eight patterns drawn by Nelson, J. Quality Technology 16 (1984) 237, each as a sequence in standard errors: the
# pattern, and the only tests that it fails.
NELSON = {
    1: ([0.4, -0.6, 3.2], {(2, 1, "above", 2)}),
    2: ([-0.5, 0.3, 0.8, 0.2, 0.7, 0.1, 0.9, 0.4, 0.6, 0.2], {(9, 2, "above", 1)}),
    3: ([0.4, -0.9, -0.5, -0.1, 0.2, 0.5, 0.8], {(6, 3, "above", 1)}),
    4: ([0.3, -0.2] * 7, {(13, 4, "both", 0)}),
    5: ([0.1, 2.3, -0.4, 2.2], {(3, 5, "above", 1)}),
    6: ([-0.3, -1.2, -1.6, 0.2, -1.1, -1.4], {(5, 6, "below", 1)}),
    7: ([0.2, 0.5, -0.6, -0.1, 0.7] * 3, {(14, 7, "both", 0)}),
    8: ([1.3, -1.2, -1.4, 1.6, 1.2, -1.5, -1.1, 1.7], {(7, 8, "both", 0)}),
}


@pytest.mark.parametrize("test", sorted(NELSON))
def test_the_patterns_of_nelson(test):
    z, fails = NELSON[test]
    assert found(z, "nelson") == {(point, f"nelson_{rule}", side, first) for point, rule, side, first in fails}


@pytest.mark.parametrize("test", sorted(NELSON))
def test_the_patterns_of_nelson_fail_no_test_one_point_earlier(test):
    z, _ = NELSON[test]
    assert found(z[:-1], "nelson") == set()


# Western Electric, SQC Handbook (1956) 25-28: instability tests on one half of the chart
def test_western_electric_counts_two_of_three_not_three_of_three():
    assert found([2.4, 0.3, 2.1], "western_electric") == {(2, "western_electric_2", "above", 0)}
    assert found([2.4, 0.3, 0.2, 2.1], "western_electric") == set()


def test_western_electric_eight_on_one_side_breaks_on_the_centre_line():
    run = [0.3] * 7
    assert found([*run, 0.2], "western_electric") == {(7, "western_electric_4", "above", 0)}
    assert found([*run, 0.0, 0.2], "western_electric") == set()
    assert found([*run, 0.0, 0.2], "western_electric", on_centre="skip") == {(8, "western_electric_4", "above", 0)}


def test_each_point_of_a_window_is_judged_by_its_own_n():
    """Means 2.5, 0, 1.2 of n 1, 4, 4 are z 2.5, 0, 2.4: a signal that limits of the last point alone would place elsewhere."""
    value = np.array([2.5, 0.0, 1.2])
    assert found(value * np.sqrt([1, 4, 4]), "western_electric") == {(2, "western_electric_2", "above", 0)}
    assert found(value, "western_electric") == set()


def test_four_of_five_flags_the_last_point_that_is_itself_beyond():
    z = [1.2, 1.4, 1.1, 1.3, 0.2]
    assert found(z, "western_electric") == {(3, "western_electric_3", "above", 0)}
    both = {(3, "western_electric_3", "above", 0), (4, "western_electric_3", "above", 0)}
    assert found(z, "western_electric", flag="window") == both


# Rspc's documentation: six points in a row are 6 points for JMP, 7 points (6 steps) for Minitab
def test_six_points_or_six_steps():
    six = [-0.5, -0.3, -0.1, 0.1, 0.3, 0.5]
    assert found(six, "nelson") == {(5, "nelson_3", "above", 0)}
    assert found(six, "nelson_minitab_trend") == set()
    assert found([*six, 0.7], "nelson_minitab_trend") == {(6, "nelson_minitab_trend_3", "above", 0)}
    assert found(six[::-1], "nelson") == {(5, "nelson_3", "below", 0)}


def test_a_tie_in_a_trend_breaks_is_ignored_or_continues():
    z = [-0.5, -0.3, -0.1, -0.1, 0.1, 0.3, 0.5]
    assert found(z, "nelson") == set()
    assert found(z, "nelson", ties="ignore") == {(6, "nelson_3", "above", 0)}
    assert found(z, "nelson", ties="continue") == {(5, "nelson_3", "above", 0), (6, "nelson_3", "above", 1)}


def test_a_flat_line_is_no_trend_under_any_convention():
    for ties in ("break", "ignore", "continue"):
        assert found([0.4] * 8, "nelson", ties=ties) == set()


def test_after_a_signal_a_rule_may_start_anew():
    run = [0.3] * 16
    every = {(point, "western_electric_4", "above", point - 7) for point in range(7, 16)}
    assert found(run, "western_electric") == every
    anew = {(7, "western_electric_4", "above", 0), (15, "western_electric_4", "above", 8)}
    assert found(run, "western_electric", reset="signal") == anew


def test_a_reset_looks_at_one_rule_only():
    z = [2.4, 2.4, 1.5, 1.5]
    names = {(point, name) for point, name, _, _ in found(z, "western_electric", reset="signal")}
    assert names == {(1, "western_electric_2"), (3, "western_electric_3")}


# Westgard et al., Clinical Chemistry 27 (1981) 493; figures of the rules at westgard.com
WESTGARD = [
    ([3.1], {("1_3s", "above", 0)}),
    ([2.1, 2.2], {("2_2s", "above", 0)}),
    ([-2.1, -2.2], {("2_2s", "below", 0)}),
    ([2.1, -2.1], {("R_4s", "both", 0)}),
    ([-2.5, 2.1], {("R_4s", "both", 0)}),
    ([1.9, -2.9], set()),
    ([2.1, 0.0, -2.1], set()),
    ([1.1, 1.2, 1.3, 1.4], {("4_1s", "above", 0)}),
    ([-0.1] * 10, {("10_x", "below", 0)}),
    ([2.5], set()),
]


@pytest.mark.parametrize(("z", "rules"), WESTGARD)
def test_westgard_at_the_last_point(z, rules):
    last = len(z) - 1
    expected = {(last, f"westgard_{rule}", side, first) for rule, side, first in rules}
    assert {signal for signal in found(z, "westgard") if signal[0] == last} == expected


def test_westgard_r_4s_does_not_span_two_runs():
    assert found([2.1, -2.1], "westgard", segment=[0, 1]) == set()


def test_the_optional_rules_of_westgard():
    names = {name for _, name, _, _ in found([2.1, 0.1, 2.1] + [0.1 * i - 0.4 for i in range(7)], "westgard_extended")}
    assert names == {"westgard_1_2s", "westgard_2of3_2s", "westgard_7_T"}
    names = {name for _, name, _, _ in found([1.1, 1.2, 1.1] + [0.5, 0.4] * 5, "westgard_extended")}
    assert names == {f"westgard_{rule}" for rule in ("3_1s", "6_x", "8_x", "9_x", "10_x", "12_x")}

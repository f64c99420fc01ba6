"""The rule evaluator: conventions one by one, and against a plain loop on random series."""

from itertools import pairwise

import numpy as np
import pytest

from spc_platform.spc.rules import RULE_SETS, SIDES, evaluate


def triggered(z, rule_set, segment=None, width=3.0):
    """{(point, rule number, side, first of window)} of a series."""
    z = np.asarray(z, dtype=float)
    segment = np.zeros(len(z)) if segment is None else np.asarray(segment)
    is_first = np.concatenate(([True], segment[1:] != segment[:-1]))
    found = evaluate(z, is_first, RULE_SETS[rule_set], width)
    rows = zip(found.point, found.rule + 1, found.side, found.window_first, strict=True)
    return {(int(point), int(rule), SIDES[side], int(first)) for point, rule, side, first in rows}


def numbers(z, rule_set, **more):
    return {(point, rule) for point, rule, _, _ in triggered(z, rule_set, **more)}


def by_loop(z, rule_set, segment, width=3.0):
    """The rules written as a person would check them by hand."""
    found = set()
    for i in range(len(z)):
        past = [j for j in range(i + 1) if all(segment[q] == segment[i] for q in range(j, i + 1))]
        for number, rule in enumerate(RULE_SETS[rule_set], start=1):
            window = past[-rule.m :]
            values = [z[j] for j in window]
            zone = width if rule.zone is None else rule.zone
            steps = [b - a for a, b in pairwise(values)]
            side = None
            if rule.kind == "beyond" and rule.side == "same":
                if values[-1] > zone and sum(value > zone for value in values) >= rule.k:
                    side = "above"
                if values[-1] < -zone and sum(value < -zone for value in values) >= rule.k:
                    side = "below"
            elif len(window) < rule.m:
                continue
            elif (
                (rule.kind == "beyond" and all(abs(value) > zone for value in values))
                or (rule.kind == "within" and all(abs(value) <= zone for value in values))
                or (rule.kind == "trend" and (all(step > 0 for step in steps) or all(step < 0 for step in steps)))
                or (rule.kind == "alternate" and all(a * b < 0 for a, b in pairwise(steps)))
            ):
                side = "both"
            if side:
                found.add((i, number, side, window[0]))
    return found


@pytest.mark.parametrize("rule_set", sorted(RULE_SETS))
@pytest.mark.parametrize("kind", ["normal", "ties", "waves", "narrow", "wide"])
def test_the_evaluator_agrees_with_a_plain_loop(rule_set, kind):
    rng = np.random.default_rng(sum(map(ord, rule_set + kind)))
    z = {
        "normal": 1.3 * rng.standard_normal(400),
        "ties": rng.integers(-4, 5, 400).astype(float),
        "waves": np.sin(np.arange(400) / 4) * 2 + 0.2 * rng.standard_normal(400),
        "narrow": 0.6 * rng.standard_normal(400),
        "wide": np.where(np.arange(400) % 2 == 0, 1.5, -1.5) + 0.3 * rng.standard_normal(400),
    }[kind]
    segment = np.cumsum(rng.random(400) < 0.03)
    assert triggered(z, rule_set, segment) == by_loop(z, rule_set, segment)


def test_the_random_series_trigger_every_rule_at_least_once():
    """Guards the test above: a rule that never fires would agree with anything."""
    rng = np.random.default_rng(7)
    z = np.concatenate(
        [
            2 * rng.standard_normal(500),
            0.5 * rng.standard_normal(100),
            np.arange(20.0),
            np.tile([1.5, -1.5], 20) + 0.1 * rng.standard_normal(40),
        ]
    )
    for rule_set, rules in RULE_SETS.items():
        assert {rule for _, rule in numbers(z, rule_set)} == set(range(1, len(rules) + 1)), rule_set


def test_two_of_three_needs_two_not_three():
    assert (2, 2) in numbers([2.1, 0.5, 2.1], "western_electric")
    assert (1, 2) in numbers([2.1, 2.1], "western_electric")
    assert numbers([2.1, -2.1, 0.1], "western_electric") == set()


def test_a_point_exactly_on_a_zone_is_not_beyond_it():
    assert numbers([3.0], "western_electric") == set()
    assert numbers([np.nextafter(3.0, 4.0)], "western_electric") == {(0, 1)}
    assert numbers([2.0, 2.0, 2.0], "western_electric") == set()


def test_a_point_exactly_on_the_inner_zone_counts_as_within_it():
    on_the_line = [1.0, -1.0, 0.5] * 5
    assert (14, 7) in numbers(on_the_line, "nelson")
    assert (14, 7) not in numbers([*on_the_line[:-1], 1.01], "nelson")
    assert numbers([1.0, -1.0] * 4, "aiag") == set()


def test_a_point_on_the_centre_line_breaks_a_run():
    assert numbers([0.1] * 8, "western_electric") == {(7, 4)}
    assert numbers([0.1] * 7 + [0.0] + [0.1] * 7, "western_electric") == set()


def test_a_tie_breaks_a_trend():
    assert (5, 3) in numbers(np.arange(6) / 10 - 0.25, "nelson")
    assert numbers(np.array([0, 1, 2, 2, 3, 4, 5]) / 10 - 0.25, "nelson") == set()


def test_a_trend_of_six_points_or_of_seven():
    six = np.arange(6) / 10 - 0.25
    assert (5, 3) in numbers(six, "nelson")
    assert numbers(six, "nelson_minitab_trend") == set()
    assert (6, 3) in numbers(np.arange(7) / 10 - 0.25, "nelson_minitab_trend")


def test_the_last_point_is_flagged_and_the_window_kept():
    assert triggered([0.0, 0.0, 2.5, 0.3, 2.5], "western_electric") == {(4, 2, "above", 2)}


def test_no_rule_looks_across_a_segment():
    assert numbers([2.5, 2.5], "western_electric", segment=[0, 1]) == set()
    assert numbers([0.1] * 14, "western_electric", segment=[0] * 7 + [1] * 7) == set()


def test_rule_one_follows_the_width_of_the_limits():
    assert numbers([3.2], "limits_only", width=3.5) == set()
    assert numbers([3.2, 3.2], "limits_only", width=np.array([3.5, 3.0])) == {(1, 1)}
    assert numbers([2.5], "limits_only", width=2.0) == {(0, 1)}


def test_counts_of_the_sets_are_the_published_ones():
    counts = {name: [(rule.k, rule.m) for rule in rules] for name, rules in RULE_SETS.items()}
    assert counts["western_electric"] == [(1, 1), (2, 3), (4, 5), (8, 8)]
    assert counts["nelson"] == [(1, 1), (9, 9), (6, 6), (14, 14), (2, 3), (4, 5), (15, 15), (8, 8)]
    assert counts["nelson_minitab_trend"][2] == (7, 7)
    assert counts["aiag"][1] == (7, 7)
    assert counts["montgomery"] == [(1, 1), (2, 3), (4, 5), (8, 8), (6, 6), (15, 15), (14, 14), (8, 8)]


def test_an_empty_series_triggers_nothing():
    assert evaluate(np.zeros(0), np.zeros(0, dtype=bool), RULE_SETS["nelson"]).point.size == 0

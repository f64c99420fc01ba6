"""Run rules: the defaults one by one, sets and rules by name, a site's own sets, and which rules a chart allows."""

import numpy as np
import polars as pl
import pytest

from spc_platform.contracts.charts import ATTRIBUTE_TESTS, LIMITS_ONLY, TESTS
from spc_platform.contracts.rules import RULES
from spc_platform.errors import ContractError
from spc_platform.spc.rule_sets import allowed, custom_rules, select, test_kind
from spc_platform.spc.rules import RULE_SETS, SIDES, Rule, evaluate


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


def test_the_random_series_trigger_every_rule_at_least_once():
    rng = np.random.default_rng(7)
    z = np.concatenate(
        [
            2 * rng.standard_normal(500),
            0.5 * rng.standard_normal(100),
            np.arange(20.0),
            np.tile([1.5, -1.5], 20) + 0.1 * rng.standard_normal(40),
            [2.5, -2.5],
            np.full(12, 0.4),
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


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused_and_named(bad):
    with pytest.raises(ContractError, match=r"SPC-330.*z of point 1 is.*leave out"):
        evaluate(np.array([0.0, bad, 0.0]), np.array([True, False, False]), RULE_SETS["nelson"])


def test_arrays_that_do_not_fit_each_other_are_refused():
    with pytest.raises(ContractError, match=r"SPC-330.*3 values, 2 segment flags"):
        evaluate(np.zeros(3), np.array([True, False]), RULE_SETS["nelson"])
    with pytest.raises(ContractError, match="widths of shape"):
        evaluate(np.zeros(3), np.array([True, False, False]), RULE_SETS["nelson"], np.full(2, 3.0))
    with pytest.raises(ContractError, match="point 0 begins no segment"):
        evaluate(np.zeros(2), np.array([False, True]), RULE_SETS["nelson"])


def test_many_charts_at_once_give_what_each_gives_alone():
    rng = np.random.default_rng(3)
    charts = [1.4 * rng.standard_normal(size) for size in rng.integers(1, 60, 50)]
    z = np.concatenate(charts)
    segment = np.repeat(np.arange(50), [len(chart) for chart in charts])
    offset = np.cumsum([0, *(len(chart) for chart in charts)])
    for rule_set in RULE_SETS:
        alone = {
            (point + at, rule, side, first + at)
            for chart, at in zip(charts, offset.tolist(), strict=False)
            for point, rule, side, first in triggered(chart, rule_set)
        }
        assert triggered(z, rule_set, segment) == alone


def test_what_kind_of_test_each_rule_is():
    kinds = {name: [test_kind(rule) for rule in rules] for name, rules in RULE_SETS.items()}
    assert kinds["nelson"] == ["limits", "run", "trend", "alternate", "zone", "zone", "within", "outside"]
    assert kinds["westgard"] == ["limits", "zone", "zone", "zone", "run"]
    assert {kind for of_set in kinds.values() for kind in of_set} == set(TESTS)


def test_an_attribute_chart_takes_nelson_1_to_4():
    kept, left_out = allowed(RULE_SETS["nelson"], ATTRIBUTE_TESTS)
    assert [rule.name[-1] for rule in kept] == ["1", "2", "3", "4"]
    assert [rule.name[-1] for rule in left_out] == ["5", "6", "7", "8"]


def test_a_panel_of_limits_only_takes_the_first_rule_of_every_set():
    for rules in RULE_SETS.values():
        assert allowed(rules, LIMITS_ONLY)[0] == rules[:1]


def names(rules):
    return [rule.name for rule in rules]


def test_rules_by_name_as_on_the_command_line():
    assert select("nelson") == RULE_SETS["nelson"]
    assert names(select("nelson:1,2,5")) == ["nelson_1", "nelson_2", "nelson_5"]
    assert names(select("nelson_1, western_electric_4")) == ["nelson_1", "western_electric_4"]
    assert names(select("westgard:2_2s,10_x,limits_only")) == ["westgard_2_2s", "westgard_10_x", "limits_only_1"]
    assert names(select("nelson:1,nelson_1,nelson:1")) == ["nelson_1"]
    assert names(select("nelson_minitab_trend:3")) == ["nelson_minitab_trend_3"]


@pytest.mark.parametrize("wrong", ["nelsen", "", "nelson:", "nelson:9", "nelson:1,99", "nelsen:1", "nelson_0"])
def test_a_name_that_does_not_exist_lists_what_does(wrong):
    with pytest.raises(ContractError, match=r"SPC-340.*(nelson_1, nelson_2|western_electric)"):
        select(wrong)


def table(*rows):
    given = [{"rule_set": "shop", "rule": str(number), **row} for number, row in enumerate(rows, start=1)]
    return pl.DataFrame(given, schema=RULES.schema)


LIMIT = {"kind": "beyond", "k": 1, "m": 1}


def test_a_sites_own_set_with_every_convention():
    frame = table(
        LIMIT,
        {"kind": "beyond", "k": 10, "m": 11, "zone": 0.0, "on_centre": "skip", "flag": "window", "reset": "signal"},
        {"kind": "trend", "k": 7, "m": 7, "side": "above", "ties": "continue", "text": "wear of the tool"},
        {"kind": "beyond", "k": 2, "m": 3, "zone": 2.0, "strict": False},
    )
    rules = custom_rules(frame)["shop"]
    assert rules == (
        Rule("shop_1", 1, 1, None, "same", "beyond", "1 point beyond the control limits"),
        Rule(
            "shop_2",
            10,
            11,
            0.0,
            "same",
            "beyond",
            "10 of 11 points on the same side of the centre line",
            on_centre="skip",
            flag="window",
            reset="signal",
        ),
        Rule("shop_3", 7, 7, None, "above", "trend", "wear of the tool", ties="continue"),
        Rule("shop_4", 2, 3, 2.0, "same", "beyond", "2 of 3 points beyond 2 standard errors on the same side", strict=False),
    )
    assert select("shop:1,2,nelson_1", {**RULE_SETS, "shop": rules})[:2] == rules[:2]


def test_own_rules_come_in_the_order_of_their_numbers_whatever_the_order_of_the_rows():
    rows = [{**LIMIT, "zone": 2.0, "rule": str(number)} for number in (10, 2, 1)]
    frame = table(*rows, {**LIMIT, "rule": "spec"}, {**LIMIT, "rule": "1", "rule_set": "another"})
    assert names(custom_rules(frame)["shop"]) == ["shop_spec", "shop_1", "shop_2", "shop_10"]
    assert custom_rules(frame.reverse()) == custom_rules(frame)


def test_no_own_rules_are_no_sets():
    assert custom_rules(RULES.empty()) == {}


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"k": 3, "m": 2}, "1 <= k <= m"),
        ({"k": 0}, "1 <= k <= m"),
        ({"k": None}, "1 <= k <= m"),
        ({"zone": -1.0}, "zone -1.0 is no distance"),
        ({"zone": float("nan")}, "zone nan is no distance"),
        ({"kind": "byond"}, "kind 'byond' is unknown; use one of beyond, within"),
        ({"kind": None}, "kind is empty"),
        ({"side": "left"}, "side 'left' is unknown"),
        ({"ties": "break"}, "beyond knows no ties"),
        ({"on_centre": "skip", "zone": 1.0}, "on_centre acts on a side of the centre line only"),
        ({"kind": "trend", "k": 5, "m": 6}, "use k = m of at least 2"),
        ({"kind": "trend", "k": 6, "m": 6, "zone": 1.0}, "trend knows no zone"),
        ({"kind": "alternate", "k": 2, "m": 2}, "use k = m of at least 3"),
        ({"kind": "alternate", "k": 4, "m": 4, "side": "above"}, "alternate has no side"),
        ({"kind": "span", "k": 1, "m": 2}, "use k = 2"),
        ({"kind": "within", "k": 5, "m": 5, "zone": 0.0}, "nothing lies within zone 0"),
        ({"zone": 0.0, "strict": False}, "would lie on both sides"),
        ({"k": 2, "m": 4, "zone": 1.0, "flag": "window"}, "2 of 4 fits both sides in one window"),
        ({"rule_set": "nelson"}, "nelson is a published set"),
        ({"rule": "1"}, "rule 1 of shop is there twice"),
    ],
)
def test_a_wrong_own_rule_names_its_row_and_the_remedy(row, why):
    with pytest.raises(ContractError, match=r"SPC-341.*rules row 2: ") as refused:
        custom_rules(table(LIMIT, {**LIMIT, **row}))
    assert why in str(refused.value)


def test_a_rules_table_without_a_column_is_refused():
    with pytest.raises(ContractError, match=r"SPC-341.*no column k"):
        custom_rules(table(LIMIT).drop("k"))

"""Hypothesis tests: what is refused, what is null with a reason, and which test answers which question."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest

from spc_platform.errors import ContractError
from spc_platform.spc.hypothesis import (
    anderson_darling,
    compare,
    f_test,
    kruskal_wallis,
    levene,
    mann_whitney,
    many_proportions,
    one_proportion,
    one_sample_t,
    one_way_anova,
    paired_t,
    shapiro_wilk,
    two_proportions,
    two_rates,
    two_sample_t,
)

RNG = np.random.default_rng(5)
A, B, C = RNG.normal(10, 1, 8), RNG.normal(11, 1, 9), RNG.normal(13, 2, 8)


def refused(code: str, call: object) -> str:
    assert callable(call)
    with pytest.raises(ContractError) as caught:
        call()
    assert caught.value.code == code
    return str(caught.value)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_value_that_is_no_number_is_refused_with_group_and_row(bad: float) -> None:
    text = refused("SPC-360", lambda: compare({"A": A, "B": [1.0, 2.0, bad, 4.0]}, "means"))
    assert "'B', row 3" in text


def test_text_is_refused() -> None:
    refused("SPC-360", lambda: compare({"A": A, "B": ["1.0", "broken"]}, "means"))


@pytest.mark.parametrize("question", ["paired", "variances", "medians", "rates"])
def test_one_group_has_nothing_to_be_compared_with(question: str) -> None:
    refused("SPC-361", lambda: compare({"A": A}, question))


def test_no_groups_and_groups_too_small_are_refused() -> None:
    refused("SPC-361", lambda: compare({}, "means"))
    assert "'B' has 1 values" in refused("SPC-361", lambda: compare({"A": A, "B": [1.0]}, "means"))
    refused("SPC-361", lambda: anderson_darling(A[:7]))


def test_an_unknown_question_lists_what_can_be_asked() -> None:
    assert "means, paired, variances" in refused("SPC-366", lambda: compare({"A": A, "B": B}, "kurtosis"))


def test_options_that_a_test_does_not_have_are_refused() -> None:
    refused("SPC-365", lambda: compare({"A": A, "B": B, "C": C}, "means", alternative="less"))
    refused("SPC-365", lambda: compare({"A": A, "B": B}, "means", alternative="bigger"))
    refused("SPC-365", lambda: compare({"A": A, "B": B}, "means", confidence=95))
    refused("SPC-365", lambda: compare({"A": (3, 10)}, "proportions"))
    refused("SPC-365", lambda: compare({"A": (3, 10), "B": (1, 9)}, "proportions", null_value=0.1))


@pytest.mark.parametrize("counts", [(11, 10), (-1, 10), (2.5, 10), (0, 0), (math.nan, 3)])
def test_counts_that_no_inspection_gives_are_refused(counts: tuple[float, float]) -> None:
    refused("SPC-367", lambda: compare({"A": counts, "B": (1, 10)}, "proportions"))


def test_rates_need_exposure_and_whole_events() -> None:
    refused("SPC-367", lambda: two_rates((3, 0.0), (1, 2.0)))
    refused("SPC-367", lambda: two_rates((3, 1.0), (1.5, 2.0)))  # type: ignore[arg-type]


def test_pairs_of_different_length_are_refused() -> None:
    refused("SPC-364", lambda: paired_t(A, B))


FLAT = {"A": [5.0] * 8, "B": [5.0] * 8}


@pytest.mark.parametrize("question", ["means", "paired", "variances", "medians", "normality"])
def test_values_that_do_not_vary_give_null_with_a_reason(question: str) -> None:
    for result in compare(FLAT, question):
        plain = result.to_dict()
        assert plain["p_value"] is None
        assert plain["reason"]


def test_means_that_differ_without_any_spread_get_no_p_value() -> None:
    for result in (*compare({"A": [5.0] * 4, "B": [6.0] * 4}, "means"), one_way_anova({"A": [5.0] * 4, "B": [6.0] * 4})):
        assert math.isnan(result.p_value)
        assert result.reason


def test_counts_of_nothing_give_null_with_a_reason() -> None:
    assert two_rates((0, 1.0), (0, 1.0)).reason
    assert two_proportions((0, 5), (0, 9)).reason
    assert many_proportions({"A": (0, 5), "B": (0, 9), "C": (0, 3)}).reason


@pytest.mark.parametrize(
    ("groups", "question", "tests"),
    [
        ({"A": A}, "means", ["one-sample t"]),
        ({"A": A, "B": B}, "means", ["Welch t"]),
        ({"A": A, "B": B, "C": C}, "means", ["Welch ANOVA"]),
        ({"A": A, "B": A + 0.1 * np.arange(8)}, "paired", ["paired t"]),
        ({"A": A, "B": B}, "variances", ["Levene (median, Brown-Forsythe)", "F test of two variances"]),
        ({"A": A, "B": B, "C": C}, "variances", ["Levene (median, Brown-Forsythe)", "Bartlett"]),
        ({"A": A, "B": B}, "medians", ["Mann-Whitney"]),
        ({"A": A, "B": B, "C": C}, "medians", ["Kruskal-Wallis"]),
        ({"A": (3, 30), "B": (9, 28)}, "proportions", ["Fisher exact"]),
        ({"A": (3, 30), "B": (9, 28), "C": (1, 20)}, "proportions", ["chi-square of proportions"]),
        ({"A": (3, 30.0), "B": (9, 28.0)}, "rates", ["exact Poisson rates"]),
        ({"A": A, "B": B}, "normality", ["Anderson-Darling", "Shapiro-Wilk"] * 2),
    ],
)
def test_each_question_is_answered_by_the_test_for_its_number_of_groups(
    groups: dict[str, object], question: str, tests: list[str]
) -> None:
    results = compare(groups, question)
    assert [result.test for result in results] == tests
    for result in results:
        assert 0.0 <= result.p_value <= 1.0
        assert json.loads(json.dumps(result.to_dict(), allow_nan=False)) == result.to_dict()


def test_no_row_order_changes_a_digit() -> None:
    for question in ("means", "variances", "medians", "normality"):
        before = [result.to_dict() for result in compare({"A": A, "B": B, "C": C}, question)]
        assert before == [result.to_dict() for result in compare({"A": A[::-1], "B": RNG.permutation(B), "C": C}, question)]


@pytest.mark.parametrize(("offset", "unit", "within"), [(1e9, 1e-3, 2e-4), (0.0, 1e-12, 1e-9)])
def test_offset_and_unit_do_not_change_the_statistics(offset: float, unit: float, within: float) -> None:
    before = (
        two_sample_t(A, B),
        one_sample_t(A, 9.5),
        f_test(A, B),
        levene({"A": A, "B": B}),
        anderson_darling(A),
        shapiro_wilk(A),
    )
    a, b = offset + unit * A, offset + unit * B
    hypothesis = offset + unit * 9.5
    after = (
        two_sample_t(a, b),
        one_sample_t(a, hypothesis),
        f_test(a, b),
        levene({"A": a, "B": b}),
        anderson_darling(a),
        shapiro_wilk(a),
    )
    for old, new in zip(before, after, strict=True):
        assert new.statistic == pytest.approx(old.statistic, rel=within)


def test_a_one_sided_interval_is_open_on_the_other_side() -> None:
    interval = two_sample_t(A, B, alternative="less").to_dict()["interval"]
    assert interval["low"] is None
    assert interval["high"] is not None


def test_an_effect_of_thousands_of_standard_deviations_has_no_interval_but_a_p_value() -> None:
    result = two_sample_t([1.0, 1.0001], [1e5, 1e5 + 1e-4], equal_variances=True)
    assert result.p_value < 1e-15
    assert result.to_dict()["effects"][0]["low"] is None


def test_a_rate_of_no_events_has_a_one_sided_truth() -> None:
    result = two_rates((5, 5.0), (0, 9.0))
    assert math.isinf(result.estimate)
    assert result.p_value == pytest.approx((5 / 14) ** 5, rel=1e-9)  # all five of five in the first
    assert result.effects[1].low > 0


def test_ties_take_the_normal_approximation_and_are_said() -> None:
    result = mann_whitney([1.0, 2.0, 2.0, 3.0], [2.0, 4.0, 5.0])
    assert "normal approximation" in result.notes


def test_a_table_of_heavily_rounded_values_is_noted_by_the_normality_test() -> None:
    assert any("distinct" in note for note in anderson_darling(np.repeat([1.0, 2.0, 3.0], 10)).notes)


def test_an_outlier_at_40_sigma_keeps_a_finite_statistic() -> None:
    assert math.isfinite(anderson_darling(np.r_[np.linspace(-1, 1, 2000), 1e6]).statistic)


def test_effects_have_the_sign_of_the_difference() -> None:
    high, low = [5.0, 6.0, 7.0], [1.0, 2.0, 3.0]
    assert two_sample_t(high, low).effects[0].value > 0
    assert mann_whitney(high, low).effects[0].value == 1.0
    assert kruskal_wallis({"h": high, "l": low}).estimate == pytest.approx(3.857142857 / 5)
    assert one_proportion(9, 10, 0.5).effects[1].value == pytest.approx(0.4)


def test_statsmodels_is_not_loaded_until_a_figure_of_it_is_asked() -> None:
    code = "import sys, spc_platform.spc.hypothesis, spc_platform.spc.gauge; sys.exit('statsmodels' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

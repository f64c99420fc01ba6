"""Bad input of a study: an error that names the row and the remedy, or a result with its reason; never a silent 0."""

import math

import numpy as np
import polars as pl
import pytest

from spc_platform.contracts.charts import CHARTS
from spc_platform.errors import ContractError
from spc_platform.spc.study import Plan, study


def values(numbers, **columns):
    return pl.DataFrame({"row": range(1, len(numbers) + 1), "value": pl.Series(numbers, dtype=pl.Float64), **columns})


def counts(found, size=None):
    frame = pl.DataFrame({"row": range(1, len(found) + 1), "count": pl.Series(found, dtype=pl.Float64)})
    return frame if size is None else frame.with_columns(size=pl.Series(size, dtype=pl.Float64))


# what cannot be computed has a reason, not a warning of the arithmetic
pytestmark = pytest.mark.filterwarnings("error")

NUMBERS = [10.0, 12.0, 11.0, 9.0, 10.5, 11.5, 10.2, 9.8, 12.4, 11.1, 10.0, 9.3]


def refused(frame, plan, *told):
    with pytest.raises(ContractError) as caught:
        study(frame, plan)
    for text in told:
        assert text in str(caught.value)
    return caught.value


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("chart", ["i_mr", "xbar_r", "ewma", "dnom_i_mr"])
def test_a_value_that_is_no_number_is_named_by_its_row(chart, bad):
    numbers = [*NUMBERS[:6], bad, *NUMBERS[7:]]
    refused(values(numbers, nominal=[10.0] * 12), Plan(chart, size=3 if chart == "xbar_r" else None), "row 7", "value", "leave")


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("column", ["count", "size"])
def test_a_count_that_is_no_number_is_named_by_its_row(column, bad):
    frame = counts([2.0] * 12, [50.0] * 12).with_columns(pl.when(pl.col("row") == 5).then(bad).otherwise(column).alias(column))
    refused(frame, Plan("p"), "row 5", column)


@pytest.mark.parametrize(
    ("chart", "count", "size", "told"),
    [
        ("p", 51.0, 50.0, "more than the units"),
        ("np", 51.0, 50.0, "more than the units"),
        ("laney_p", 51.0, 50.0, "more than the units"),
        ("c", -1.0, 1.0, "negative"),
        ("u", -2.0, 5.0, "negative"),
        ("p", 2.0, -5.0, "negative"),
        ("p", 2.5, 50.0, "not whole"),
        ("u", 3.0, 0.0, "size 0"),
    ],
)
def test_counts_that_cannot_be(chart, count, size, told):
    frame = counts([2.0] * 9 + [count] + [1.0] * 2, [50.0] * 9 + [size] + [50.0] * 2)
    refused(frame, Plan(chart), "row 10", told)


def test_a_chart_of_shares_needs_what_was_inspected():
    for chart in ("p", "np", "u", "laney_p", "laney_u"):
        refused(counts([1.0, 2.0]), Plan(chart), "inspected", "--size")


def test_events_that_cannot_be():
    refused(values([3.0, 4.0, 2.5]), Plan("g"), "row 3", "whole")
    refused(values([3.0, -4.0, 2.0]), Plan("g"), "row 2")
    refused(values([3.0, 0.0, 2.0]), Plan("t"), "row 2", "is 0")
    refused(values([3.0, 2.0, math.nan]), Plan("t"), "row 3")


def test_single_values_on_a_chart_of_subgroups():
    for chart in ("xbar_r", "xbar_s", "median_r", "i_mr_r", "i_mr_s"):
        assert refused(values(NUMBERS), Plan(chart), "i_mr", "size").code == "SPC-392"
        refused(values(NUMBERS), Plan(chart, size=1), "at least 2")


def test_subgroups_on_a_chart_of_single_values():
    refused(values(NUMBERS), Plan("i_mr", size=3), "xbar_r")


def test_an_unnamed_subgroup_is_named_by_its_row():
    labels = ["a", "a", None, *["b"] * 9]
    refused(values(NUMBERS, subgroup=labels), Plan("xbar_r"), "row 3", "subgroup")
    x = pl.DataFrame({"row": range(1, 13), "v:a": NUMBERS, "v:b": NUMBERS[::-1], "subgroup": labels})
    refused(x, Plan("t2"), "row 3", "subgroup")


def test_a_file_without_rows_or_values():
    refused(values([]), Plan("i_mr"), "no data row")
    refused(values([None] * 3), Plan("i_mr"), "no value")
    refused(counts([None] * 3), Plan("c"), "no count")
    refused(values([None] * 3), Plan("t"), "no value")


def test_one_value_has_a_centre_and_a_reason():
    stage = study(values([7.0]), Plan("i_mr")).stages[0]
    assert (stage["centre"], stage["sigma"]) == (7.0, None)
    assert "cannot be estimated" in stage["reason"]
    assert stage["limits"]["location"]["ucl"] is None


@pytest.mark.parametrize("chart", ["i_mr", "xbar_r", "xbar_s", "median_r", "ewma", "cusum", "moving_average"])
def test_equal_values_have_a_reason_and_no_verdict(chart):
    size = None if CHARTS[chart].sizes[0] == 1 else 4
    result = study(values([5.0] * 40), Plan(chart, size=size))
    assert result.stages[0]["sigma"] == 0.0
    assert "sigma is 0" in result.stages[0]["reason"]
    assert result.points["z"].null_count() == result.points.height
    assert result.violations.is_empty()


@pytest.mark.parametrize(
    ("chart", "count", "told"), [("c", 0.0, "centre is 0"), ("p", 0.0, "centre is 0"), ("p", 50.0, "centre is 1")]
)
def test_counts_that_never_vary_have_a_reason(chart, count, told):
    result = study(counts([count] * 30, [50.0] * 30), Plan(chart))
    assert told in result.stages[0]["reason"]
    assert result.points["z"].null_count() == 30
    assert result.violations.is_empty()


def test_laney_without_spread_has_no_sigma():
    stage = study(counts([0.0] * 30, [50.0] * 30), Plan("laney_p")).stages[0]
    assert (stage["sigma"], stage["sigma_z"]) == (None, None)
    assert stage["reason"]


def test_one_subgroup_gives_limits_with_a_warning():
    result = study(values(NUMBERS[:5]), Plan("xbar_r", size=5))
    assert result.stages[0]["sigma"] == pytest.approx(3.0 / 2.3259289473, rel=1e-10)
    assert any("1 subgroups, 25 are advised" in warning for warning in result.warnings)


def test_a_subgroup_without_values_has_no_point_and_is_named():
    frame = values([1.0, 2.0, None, None, 4.0, 3.0], subgroup=["a", "a", "b", "b", "c", "c"])
    result = study(frame, Plan("xbar_r"))
    assert result.points.filter(panel="location")["sample"].to_list() == ["a", "c"]
    assert result.stages[0]["n_subgroups"] == 2
    assert result.stages[0]["n_values"] == 4
    assert any("without a point: b" in warning for warning in result.warnings)
    assert any("2 of 6 rows have no value" in warning for warning in result.warnings)


def test_a_missing_value_parts_its_neighbours_on_the_panel_as_in_sigma():
    result = study(values([1.0, None, 2.0, 3.0, None, 9.0, 5.0]), Plan("i_mr"))
    ranges = result.points.filter(panel="dispersion").select("number", "value").rows()
    assert ranges == [(4, 1.0), (7, 4.0)]
    assert result.stages[0]["limits"]["dispersion"]["cl"] == pytest.approx(2.5, rel=1e-12)
    assert result.stages[0]["nu"] == 2


def test_the_last_subgroup_may_be_short():
    result = study(values(NUMBERS[:11]), Plan("xbar_r", size=4))
    assert result.points.filter(panel="location")["n"].to_list() == [4, 4, 3]
    assert any("last subgroup has 3 of 4" in warning for warning in result.warnings)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"lsl": 5.0, "usl": 5.0}, "LSL 5"),
        ({"lsl": 6.0, "usl": 5.0}, "not below USL"),
        ({"baseline": (1, 13)}, "beyond the 12"),
        ({"baseline": (5, 4)}, "5:4"),
        ({"baseline": (0, 4)}, "0:4"),
        ({"excluded": {"3": " "}}, "without an assigned cause: 3"),
        ({"excluded": {"44": "tool"}}, "no subgroup 44"),
        ({"k": 0.0}, "above 0"),
        ({"k": math.inf}, "finite"),
        ({"k": math.nan}, "finite"),
        ({"mu": math.nan}, "finite"),
        ({"sigma": 0.0}, "above 0"),
        ({"sigma": -1.0}, "above 0"),
        ({"usl": math.inf}, "finite"),
        ({"span": 1}, "2 or more"),
        ({"estimator": "rbar"}, "does not fit"),
        ({"rules": "nelsson"}, "nelson ("),
        ({"rules": "nelson:9"}, "no rule '9'"),
        ({"chart": "xbar_q"}, "use one of"),
        ({"chart": "ewma", "weight": 1.5}, "at most 1"),
        ({"chart": "cusum", "head_start": 1.5}, "from 0 to 1"),
        ({"chart": "ewma", "rules": "nelson:2"}, "nelson_2 cannot be asked"),
        ({"chart": "g", "rules": "western_electric:2"}, "cannot be asked"),
        ({"chart": "t", "mu": 3.0}, "no historical mu"),
        ({"chart": "g", "sigma": 3.0}, "leave sigma out"),
        ({"chart": "dnom_i_mr"}, "nominal"),
        ({"chart": "z_mr"}, "part"),
    ],
)
def test_plans_that_no_study_can_follow(settings, told):
    plan = Plan(**{"chart": "i_mr", **settings})
    refused(values([1.0, 2.0, 4.0, 3.0, 2.0, 5.0, 4.0, 1.0, 2.0, 3.0, 2.0, 4.0]), plan, told)


@pytest.mark.parametrize(("chart", "mu"), [("p", 1.5), ("p", 0.0), ("np", -0.1), ("c", 0.0), ("u", -1.0), ("laney_p", 1.0)])
def test_a_historical_centre_that_no_count_can_have(chart, mu):
    refused(counts([2.0] * 12, [50.0] * 12), Plan(chart, mu=mu), f"mu is {mu:g}")


def test_a_baseline_beyond_every_stage():
    frame = values(NUMBERS, stage=["a"] * 5 + ["b"] * 7)
    refused(frame, Plan("i_mr", baseline=(1, 8)), "beyond the 7", "stage")
    stages = study(frame, Plan("i_mr", baseline=(1, 6))).stages
    assert [stage["n_subgroups"] for stage in stages] == [5, 6]


def test_a_stage_before_its_baseline_begins_has_no_limits_and_a_reason():
    stages = study(values(NUMBERS, stage=["a"] * 3 + ["b"] * 9), Plan("i_mr", baseline=(5, 9))).stages
    assert stages[0]["reason"] == "no value enters the limits"
    assert stages[0]["centre"] is None
    assert stages[1]["reason"] is None


def test_excluding_everything_leaves_no_limits_and_a_reason():
    result = study(values(NUMBERS[:3]), Plan("i_mr", excluded=dict.fromkeys(["1", "2", "3"], "setup")))
    assert result.stages[0]["reason"] == "no value enters the limits"
    assert result.points.filter(panel="location").height == 3
    assert result.points["ucl"].null_count() == result.points.height


def test_a_stage_of_single_values_on_a_between_within_chart_has_a_reason():
    frame = values(NUMBERS[:9], subgroup=list("aabbccdef"), stage=["x"] * 6 + ["y"] * 3)
    stages = study(frame, Plan("i_mr_r")).stages
    assert stages[0]["reason"] is None
    assert "cannot be estimated" in stages[1]["reason"]


def test_rules_of_a_set_that_a_chart_does_not_allow_are_left_out_with_the_reason():
    result = study(counts([2.0, 3.0, 1.0, 4.0] * 8, [50.0] * 32), Plan("p", rules="nelson"))
    left_out = " ".join(result.left_out)
    for number in (5, 6, 7, 8):
        assert f"nelson_{number} " in left_out
    for number in (1, 2, 3, 4):
        assert f"nelson_{number} " not in left_out


def test_one_specification_does_not_judge_parts_of_several_nominals():
    several = study(values(NUMBERS, nominal=[10.0] * 6 + [9.0] * 6), Plan("dnom_i_mr", lsl=5.0, usl=15.0))
    assert several.stages[0]["capability"] is None
    assert any("several" in warning for warning in several.warnings)
    one = study(values(NUMBERS, nominal=[10.0] * 12), Plan("dnom_i_mr", lsl=5.0, usl=15.0)).stages[0]
    assert one["capability"]["cp"] == pytest.approx(10 / 6 / one["sigma"], rel=1e-12)


def test_a_part_without_a_pair_has_no_z_and_a_reason():
    result = study(values([10.0, 11.0, 12.0, 50.0, 10.5, 11.5], part=["a", "a", "a", "b", "a", "a"]), Plan("z_mr"))
    assert "part b" in result.stages[0]["reason"]
    assert result.points.filter(panel="location")["number"].to_list() == [1, 2, 3, 5, 6]


def test_sigma_relative_to_size_needs_values_above_0():
    refused(values([1.0, 2.0, -1.0, 2.0], part=["a"] * 4), Plan("z_mr", pooling="relative"), "row 3", "logarithm")


def vectors(rows=30, seed=1):
    x = np.random.default_rng(seed).standard_normal((rows, 2))
    return pl.DataFrame({"row": range(1, rows + 1), "v:a": x[:, 0], "v:b": x[:, 1]})


def test_vectors_that_cannot_be_judged():
    refused(vectors().drop("v:b"), Plan("t2"), "two variables")
    refused(
        vectors().with_columns(pl.when(pl.col("row") == 4).then(math.inf).otherwise("v:b").alias("v:b")),
        Plan("t2"),
        "row 4",
        "b",
    )
    refused(vectors().with_columns((2 * pl.col("v:a")).alias("v:b")), Plan("t2"), "a", "b")
    refused(vectors(2), Plan("t2"))
    refused(vectors(), Plan("t2", baseline=(1, 31)), "beyond the 30")
    refused(vectors(), Plan("t2", mu=1.0), "no historical mu")
    refused(vectors().with_columns(pl.lit(None, dtype=pl.Float64).alias("v:a")), Plan("mewma"), "every variable")


def test_no_study_gives_a_figure_that_is_not_finite():
    for chart, kind in CHARTS.items():
        frame = {
            "values": values(NUMBERS * 3, nominal=[10.0] * 36, part=["a"] * 36),
            "counts": counts([2.0, 0.0, 1.0] * 12, [50.0] * 36),
            "events": values([3.0, 40.0, 11.0] * 12),
            "vectors": vectors(),
        }[kind.data]
        size = 4 if kind.sizes[0] > 1 else None
        result = study(frame, Plan(chart, size=size))
        for name in ("value", "cl", "lcl", "ucl", "standard_error", "z"):
            assert result.points[name].drop_nulls().is_finite().all(), (chart, name)


def test_any_signal_of_a_chart_with_a_memory_makes_its_capability_unstable():
    """Points of an EWMA carry on the past, so chance gives no share of signals to compare with."""
    drawn = [*np.random.default_rng(5).normal(10, 1, 120).tolist(), *([14.0] * 3)]
    plan = Plan("ewma", lsl=0.0, usl=20.0)
    capability = study(values(drawn), plan).stages[0]["capability"]
    assert (capability["stability"], capability["chance_of_signals"]) == ("unstable", None)
    quiet = study(values(drawn[:120]), plan).stages[0]["capability"]
    assert quiet["stability"] == "stable"


def test_the_fitness_of_a_short_run_chart_is_that_of_its_standardized_values():
    """Two parts far apart are one mixture of values, but their z are alike."""
    rng = np.random.default_rng(6)
    part = np.tile(["a"] * 5 + ["b"] * 5, 15)
    drawn = np.where(part == "a", 10.0, 1000.0) + rng.normal(0, 1, 150)
    frame = values(drawn.tolist()).with_columns(part=pl.Series(part))
    assert study(frame, Plan("z_mr")).stages[0]["fitness"]["verdict"] == "fit"


@pytest.mark.parametrize("chart", ["i_mr", "ewma"])
def test_single_values_are_advised_a_hundred(chart):
    found = study(values(np.random.default_rng(7).normal(0, 1, 30).tolist()), Plan(chart))
    assert "limits rest on 30 subgroups, 100 are advised" in found.warnings


def test_probability_limits_are_the_quantiles_of_the_count_itself():
    """Mean 2 (Poisson tables): P(X > 6) = 0.0045, P(X > 7) = 0.0011, at most Phi(-3) = 0.00135, so 7 is the upper limit."""
    found = study(counts([2.0] * 20 + [9.0]), Plan("c", mu=2.0, limits="probability"))
    assert found.stages[0]["limits"]["location"] == {"cl": 2.0, "lcl": 0.0, "ucl": 7.0}
    assert found.violations.filter(pl.col("rule") == "nelson_1")["number"].to_list() == [21]
    assert study(counts([2.0] * 20 + [7.0]), Plan("c", mu=2.0)).violations.filter(pl.col("rule") == "nelson_1").height == 1
    assert (
        study(counts([2.0] * 20 + [7.0]), Plan("c", mu=2.0, limits="probability"))
        .violations.filter(pl.col("rule") == "nelson_1")
        .is_empty()
    )


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        (Plan("i_mr", limits="probability"), "has no probability limits"),
        (Plan("c", limits="exact"), "limits 'exact' are unknown"),
        (Plan("mewma", alpha=0.01), "alpha is that of a T² chart"),
        (Plan("t2", rules="nelson:2"), "upper limit as its only test"),
        (Plan("t2", size=4, estimator="successive_differences"), "leave the estimator out"),
    ],
)
def test_an_option_without_use_is_refused(plan, told):
    with pytest.raises(ContractError, match=told):
        study(vectors(), plan)


def test_one_stage_that_carries_no_fit_does_not_cost_the_others_theirs():
    rng = np.random.default_rng(8)
    drawn = [*rng.weibull(2.0, 60).tolist(), 1.0, 1.0]
    frame = values(drawn).with_columns(stage=pl.Series(["a"] * 60 + ["b"] * 2))
    whole, short = (stage["capability"] for stage in study(frame, Plan("i_mr", usl=5.0, distribution="weibull")).stages)
    assert whole["distribution"] == "weibull"
    assert whole["ppk_percentile"] > 0
    assert short.get("ppk_percentile") is None
    assert "SPC-349" in short["reason"]


def test_the_sigma_of_means_has_no_historical_value():
    drawn = np.random.default_rng(9).normal(0, 1, 60).tolist()
    assert study(values(drawn), Plan("i_mr_r", size=5, mu=0.0, sigma=1.0)).stages[0]["source"] == "historical and estimated"
    assert study(values(drawn), Plan("xbar_r", size=5, mu=0.0, sigma=1.0)).stages[0]["source"] == "historical"


def test_a_vector_excluded_with_a_cause_stays_in_its_baseline():
    points = study(vectors(), Plan("t2", excluded={"3": "dropped"})).points
    assert points.filter(number=3).select("is_baseline", "is_excluded").row(0) == (True, True)
    outside = study(vectors(), Plan("t2", baseline=(10, 30), excluded={"3": "dropped"})).points
    assert outside.filter(number=3).select("is_baseline", "is_excluded").row(0) == (False, True)

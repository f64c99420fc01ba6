"""The alarm budget: what the rules cost in control, what is more than chance, and which shift is largest."""

from datetime import timedelta
from math import comb, exp, factorial

import numpy as np
import polars as pl
import pytest
from scipy.stats import studentized_range

from spc_platform.contracts.alarms import SPC_ALARM_BUDGET
from spc_platform.contracts.spc import SPC_POINTS, SPC_VIOLATIONS
from spc_platform.errors import ContractError
from spc_platform.spc.alarm_budget import (
    alarm_budget,
    false_alarm_rates,
    false_discovery,
    p_of_z,
    plant_alarm_budget,
    rank_by_shift,
    width_for_budget,
)
from spc_platform.spc.constants import c4, c5, d2, d3, median_error
from spc_platform.spc.limit_rates import limit_alarm_rate
from spc_platform_tests.unit.spc_frames import DAY, START, XBAR_R, make_site

PLANT = pl.DataFrame({"chart": ["i_mr"] * 5000, "points_per_day": [1440.0] * 5000})


# survey of the domain: 5,000 charts at 1 point a minute
@pytest.mark.parametrize(("rule_set", "per_day"), [("limits_only", 19_439), ("western_electric", 78_474)])
def test_five_thousand_charts_at_a_point_a_minute(rule_set, per_day):
    budget = alarm_budget(PLANT.with_columns(rule_set=pl.lit(rule_set)), 1.0)
    assert budget["expected_plant_per_day"].unique().to_list() == pytest.approx([per_day], abs=1)
    assert budget["expected_false_alarms_per_day"].sum() == pytest.approx(per_day, abs=1)
    assert budget["method"].unique().to_list() == ["exact"]
    assert budget["k_for_budget"][0] == pytest.approx(5.27, abs=5e-3)


@pytest.mark.parametrize(("points_per_day", "k"), [(1440, 5.27), (144, 4.83), (24, 4.46)])
def test_the_width_that_costs_one_alarm_a_day(points_per_day, k):
    width = width_for_budget(np.full(5000, float(points_per_day)), 1.0)
    assert width == pytest.approx(k, abs=6e-3)
    assert 5000 * points_per_day * float(p_of_z(np.array([width]))[0]) == pytest.approx(1.0, rel=1e-9)


def test_a_plant_that_is_within_its_budget_needs_no_limits():
    assert width_for_budget(np.array([0.5]), 1.0) == 0.0


def test_rates_are_computed_once_per_combination_and_say_how():
    charts = pl.DataFrame(
        {
            "id": range(6),
            "chart": ["i_mr", "i_mr", "ewma", "cusum", "moving_average", "p"],
            "rule_set": ["nelson", "limits_only", "limits_only", "limits_only", "limits_only", "nelson"],
            "k": [3.0, 2.0, 2.814, 3.0, 3.0, 3.0],
            "weight": [None, None, 0.1, None, None, None],
        }
    )
    rates = false_alarm_rates(charts)
    assert rates["id"].to_list() == list(range(6))
    assert rates["method"].to_list() == ["simulated", "exact", "exact", "exact", "simulated", "approximate"]
    arl0 = rates["arl0"].to_list()
    error = rates["standard_error"].to_list()
    assert arl0[0] == pytest.approx(73.3, abs=4 * error[0])  # Nelson 1-8, simulated by the survey of the domain
    assert arl0[1] == pytest.approx(21.98, abs=5e-3)  # 1 / (2 Phi(-2))
    assert arl0[3] == pytest.approx(465.4, abs=0.1)  # Montgomery 9.1: k = 0.5, h = 5
    assert arl0[5] == pytest.approx(118.6, abs=4 * error[5] + 0.1)  # Nelson 1-4 on counts, by normal theory
    assert [error[i] for i in (1, 2, 3)] == [0, 0, 0]
    assert rates["false_alarm_rate"].to_list() == pytest.approx([1 / length for length in arl0], rel=1e-15)
    assert false_alarm_rates(charts).equals(rates)


def test_what_has_no_budget_is_named():
    with pytest.raises(ContractError, match=r"rule set 'mine' .* known rule sets: western_electric") as raised:
        false_alarm_rates(pl.DataFrame({"chart": ["i_mr"], "rule_set": ["mine"]}))
    assert raised.value.code == "SPC-319"
    with pytest.raises(ContractError, match="budget above 0"):
        alarm_budget(PLANT.head(1).with_columns(rule_set=pl.lit("limits_only")), 0.0)


@pytest.mark.parametrize("n", [2, 5, 10, 25])
@pytest.mark.parametrize("k", [2.0, 3.0])
def test_false_alarms_of_ranges_against_the_studentized_range(n, k):
    """The range is the studentized range at infinite degrees of freedom."""
    low, high = max(float(d2(n) - k * d3(n)), 0.0), float(d2(n) + k * d3(n))
    expected = studentized_range.sf(high, n, np.inf) + studentized_range.cdf(low, n, np.inf)
    assert float(limit_alarm_rate("r", n, k)) == pytest.approx(expected, rel=1e-8)


def test_false_alarms_of_a_moving_range_in_closed_form():
    """|x1 - x2| of normal values is sqrt(2) times a half-normal: P = 2 Phi(-(d2 + 3 d3) / sqrt 2), 0.92 %."""
    edge = float(d2(2) + 3 * d3(2)) / np.sqrt(2)
    assert float(limit_alarm_rate("mr", 2)) == pytest.approx(float(p_of_z(np.array([edge]))[0]), rel=1e-10)


@pytest.mark.parametrize(("statistic", "n"), [("s", 4), ("s", 12), ("median", 2), ("median", 5), ("median", 8)])
def test_false_alarms_of_deviations_and_medians_against_seeded_samples(statistic, n):
    values = np.random.default_rng(5).standard_normal((200_000, n))
    if statistic == "s":
        plotted, centre, error = values.std(axis=1, ddof=1), float(c4(n)), float(c5(n))
    else:
        plotted, centre, error = np.median(values, axis=1), 0.0, float(median_error(n))
    seen = np.mean(np.abs(plotted - centre) > 2.0 * error)
    rate = float(limit_alarm_rate(statistic, n, 2.0))
    assert seen == pytest.approx(rate, abs=4 * np.sqrt(rate / 200_000))


def test_false_alarms_of_counts_against_plain_sums():
    def beyond(mass, centre, error, largest):
        return sum(mass(x) for x in range(largest) if abs(x - centre) > 3 * error)

    binomial = beyond(lambda x: comb(200, x) * 0.03**x * 0.97 ** (200 - x), 6.0, np.sqrt(6 * 0.97), 201)
    assert limit_alarm_rate("p", 200, centre=0.03) == pytest.approx(binomial, rel=1e-9)
    assert limit_alarm_rate("np", 200, centre=0.03) == pytest.approx(binomial, rel=1e-9)
    poisson = beyond(lambda x: exp(-16) * 16**x / factorial(x), 16.0, 4.0, 120)
    assert limit_alarm_rate("c", 1, centre=16.0) == pytest.approx(poisson, rel=1e-9)
    assert limit_alarm_rate("u", 8, centre=2.0) == pytest.approx(poisson, rel=1e-9)
    geometric = beyond(lambda x: 0.2 * 0.8**x, 4.0, np.sqrt(20.0), 400)
    assert limit_alarm_rate("g", 1, centre=4.0) == pytest.approx(geometric, rel=1e-9)
    sizes = limit_alarm_rate("p", np.array([50, 200]), centre=np.array([0.1, 0.03]))
    assert sizes[1] == pytest.approx(binomial, rel=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: limit_alarm_rate("p", 10), "depends on its centre"),
        (lambda: limit_alarm_rate("t2", 10), "'t2'"),
        (lambda: limit_alarm_rate("r", 0), "n of at least 1"),
        (lambda: limit_alarm_rate("r", 2, -3.0), "k above 0"),
    ],
)
def test_a_rate_without_its_parameters_is_refused(call, message):
    with pytest.raises(ContractError, match=message) as raised:
        call()
    assert raised.value.code == "SPC-317"


def test_a_range_of_one_value_has_no_rate():
    assert np.isnan(limit_alarm_rate("r", np.array([1, 2]))).tolist() == [True, False]


def test_false_discoveries_of_benjamini_and_hochberg():
    # Benjamini & Hochberg (1995), section 3.2: 15 endpoints, 4 rejected at q = 0.05 (Bonferroni: 3)
    p = np.array([0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344])
    p = np.concatenate((p, [0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0]))
    shuffled = np.random.default_rng(2).permutation(15)
    adjusted, kept = false_discovery(p[shuffled], 0.05)
    assert np.sort(p[shuffled][kept]).tolist() == [0.0001, 0.0004, 0.0019, 0.0095]
    assert adjusted[shuffled == 3][0] == pytest.approx(0.0095 * 15 / 4, rel=1e-12)
    _, dependent = false_discovery(p, 0.05, dependent=True)
    assert dependent.sum() == 3


def test_a_missing_p_is_no_test_and_a_wrong_one_is_named():
    adjusted, kept = false_discovery(np.array([0.02, np.nan, 0.2]))
    assert adjusted[[0, 2]].tolist() == [0.04, 0.2]
    assert np.isnan(adjusted[1])
    assert kept.tolist() == [True, False, False]
    assert false_discovery(np.zeros(0))[1].tolist() == []
    with pytest.raises(ContractError, match=r"row 1: p is 1.5"):
        false_discovery(np.array([0.5, 1.5]))


def points_of(name, z, *, statistic="x", n=1, chart="i_mr", version=1, panel="location", rules=()):
    """SPC_POINTS of one chart at one point an hour; ``rules``: positions that trigger a rule."""
    at = [START + timedelta(hours=hour) for hour in range(len(z))]
    frame = pl.DataFrame(
        {
            "characteristic_id": name,
            "equipment_id": "L1-S1",
            "subgroup_id": [f"{name}-{hour:05d}" for hour in range(len(z))],
            "subgroup_at": at,
            "chart": chart,
            "panel": panel,
            "statistic": statistic,
            "value": z,
            "n_observed": n,
            "n_masked": 0,
            "cl": 0.0,
            "lcl": -3.0,
            "ucl": 3.0,
            "standard_error": 1.0,
            "z": z,
            "limit_version": version,
            "is_baseline": False,
            "rules": ["limits_only_1" if hour in rules else None for hour in range(len(z))],
            "production_date": [DAY + timedelta(days=hour // 24) for hour in range(len(z))],
        }
    )
    return SPC_POINTS.conform(frame)


def violations_of(points):
    flagged = points.filter(pl.col("rules").is_not_null())
    return SPC_VIOLATIONS.conform(
        flagged.with_columns(
            rule_set=pl.lit("limits_only"),
            rule=pl.col("rules"),
            rule_text=pl.lit("1 point beyond the control limits"),
            side=pl.lit("above"),
            window_subgroup_ids=pl.col("subgroup_id"),
        )
    )


def noise(seed, count):
    return np.random.default_rng(seed).standard_normal(count)


def test_shifts_are_ranked_by_size_and_dated():
    small, large = noise(21, 200), noise(22, 200)
    small[150:] += 1.0
    large[180:] -= 3.0
    frames = [points_of("small", small), points_of("large", large), points_of("none", noise(23, 200) * 0.2)]
    ranked = rank_by_shift(pl.concat(frames).sample(fraction=1.0, shuffle=True, seed=4))
    assert ranked["characteristic_id"].to_list()[:2] == ["large", "small"]
    assert ranked["rank"].to_list() == [1, 2, 3]
    shift, error, since = ranked.select("shift_sigma", "shift_standard_error", "since").row(0)
    assert shift == pytest.approx(-3.0, abs=3 * error)
    assert abs((since - START).total_seconds() / 3600 - 180) <= 2


def test_the_likeliest_change_against_a_search_over_all_of_them():
    rng = np.random.default_rng(24)
    z, n = rng.standard_normal(60), rng.integers(1, 9, 60)
    points = points_of("bore", z, statistic="xbar", chart="xbar_r").with_columns(n_observed=pl.Series(n))
    scores = [(np.sum(np.sqrt(n[i:]) * z[i:]) ** 2 / np.sum(n[i:]), i) for i in range(60)]
    start = max(scores)[1]
    shift, error, since = rank_by_shift(points).select("shift_sigma", "shift_standard_error", "since").row(0)
    assert since == START + timedelta(hours=start)
    assert shift == pytest.approx(np.sum(np.sqrt(n[start:]) * z[start:]) / np.sum(n[start:]), rel=1e-12)
    assert error == pytest.approx(1 / np.sqrt(np.sum(n[start:])), rel=1e-12)


def test_a_shift_is_measured_by_the_newest_limits_only():
    before = points_of("bore", np.full(100, 5.0), version=1)
    after = points_of("bore", noise(25, 200) * 0.1, version=2).tail(100)
    assert abs(rank_by_shift(pl.concat([before, after]))["shift_sigma"][0]) < 0.5


def two_charts():
    quiet, loud = noise(31, 240).clip(-2.9, 2.9), noise(32, 240).clip(-2.9, 2.9)
    loud[100:106] = 6.0
    loud[200] = 4.0
    hits = {100, 101, 102, 103, 104, 105, 200}
    points = pl.concat([points_of("quiet", quiet), points_of("loud", loud, rules=hits)])
    return points, make_site(
        {"characteristic_id": "quiet", "rule_set": "limits_only"},
        {"characteristic_id": "loud", "rule_set": "limits_only"},
        {"characteristic_id": "silent", "rule_set": "limits_only"},
    )


def test_the_budget_of_a_plant():
    points, site = two_charts()
    budget = plant_alarm_budget(points, violations_of(points), site)
    assert SPC_ALARM_BUDGET.with_reasons(budget)["reasons"].null_count() == 3
    loud, quiet, silent = (
        budget.filter(pl.col("characteristic_id") == name).row(0, named=True) for name in ("loud", "quiet", "silent")
    )
    assert loud["points_per_day"] == 24.0  # 240 hourly points on 10 production dates
    assert loud["arl0"] == pytest.approx(370.398, abs=1e-3)
    assert loud["method"] == "exact"
    assert loud["expected_false_alarms_per_day"] == pytest.approx(24 * 0.0026997960632602, rel=1e-12)
    assert loud["observed_signals_per_day"] == 0.2  # six points in a row are one alarm, and one more
    assert (loud["is_discovery"], loud["rank"]) == (True, 1)
    assert quiet["observed_signals_per_day"] == 0.0
    assert not quiet["is_discovery"]
    assert (silent["points_per_day"], silent["expected_false_alarms_per_day"]) == (0.0, 0.0)
    assert silent["p_value_adjusted"] is None
    assert silent["shift_sigma"] is None
    assert sorted(budget["rank"].to_list()) == [1, 2, 3]


def test_one_point_six_sigma_away_is_a_discovery_although_one_alarm_is_expected():
    z = noise(33, 480).clip(-2.9, 2.9)
    z[100] = 6.5
    points = points_of("bore", z, rules={100})
    budget = plant_alarm_budget(points, violations_of(points), make_site({"rule_set": "limits_only"}))
    assert budget["expected_false_alarms_per_day"][0] * 20 == pytest.approx(1.296, abs=1e-3)
    # twice 480 * 2 Phi(-6.5)
    assert budget["p_value_adjusted"][0] == pytest.approx(2 * 480 * 8.032e-11, rel=1e-3)
    assert budget["is_discovery"][0]


def test_a_dispersion_panel_adds_the_alarms_of_its_limits():
    location = points_of("bore", noise(34, 48), statistic="xbar", n=5, chart="xbar_r")
    spread = points_of("bore", noise(35, 48), statistic="r", n=5, chart="xbar_r", panel="dispersion")
    site = make_site({**XBAR_R, "rule_set": "western_electric"})
    budget = plant_alarm_budget(pl.concat([location, spread]), SPC_VIOLATIONS.empty(), site)
    rate = 1 / 91.7508 + 0.0046030484  # Champ & Woodall 1987; range of 5 beyond its limits
    assert budget["expected_false_alarms_per_day"][0] == pytest.approx(24 * rate, rel=1e-6)
    assert budget["arl0"][0] == pytest.approx(1 / rate, rel=1e-6)


def test_points_that_no_limits_judged_cost_nothing():
    points = points_of("bore", noise(36, 48)).with_columns(limit_version=None, z=None)
    budget = plant_alarm_budget(SPC_POINTS.conform(points), SPC_VIOLATIONS.empty(), make_site())
    assert budget.select("points_per_day", "expected_false_alarms_per_day").row(0) == (0.0, 0.0)
    assert budget["p_value_adjusted"].to_list() == [None]


def test_the_order_of_rows_changes_nothing():
    points, site = two_charts()
    violations = violations_of(points)
    shuffled = plant_alarm_budget(
        points.sample(fraction=1.0, shuffle=True, seed=1), violations.sample(fraction=1.0, shuffle=True, seed=2), site
    )
    assert shuffled.equals(plant_alarm_budget(points, violations, site))


def test_a_plant_without_points_has_a_budget_of_nothing():
    budget = plant_alarm_budget(SPC_POINTS.empty(), SPC_VIOLATIONS.empty(), make_site())
    assert budget.height == 1
    assert budget["points_per_day"][0] == 0.0

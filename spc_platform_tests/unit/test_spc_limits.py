"""Sigma, limit estimates and the life of limit versions."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from spc_platform.contracts.spc import SPC_LIMIT_ESTIMATES, SPC_LIMITS
from spc_platform.contracts.validate import rule_failures
from spc_platform.errors import ContractError
from spc_platform.site.model import BaselinePolicy
from spc_platform.spc.limits import approve, approve_baselines, limit_estimates
from spc_platform.spc.sequence import chart_order
from spc_platform.spc.shewhart import shewhart_panel
from spc_platform.spc.sigma import within_sigma
from spc_platform_tests.unit.spc_frames import POOLED, START, XBAR_R, XBAR_S, make_site, subgroups

D2 = {2: 1.1283791671, 3: 1.6925687506, 5: 2.3259289473}
D3 = {2: 0.8525024664, 3: 0.8883680040, 5: 0.8640819411}
C4 = {2: 0.7978845608, 3: 0.8862269255, 5: 0.9399856030}
NONE = SPC_LIMITS.empty()
SMALL = BaselinePolicy(subgroups=4, individuals=6)


def sigma_of(values, chart, **more):
    site = make_site(chart)
    return within_sigma(chart_order(subgroups(values, site, **more), site), ["chart_index"], 72.0).row(0, named=True)


# subgroups {0,1,3,2,4}, {5,7,6,8,4} and the partial {1,4}: ranges 4, 4, 3; M2 10, 10, 4.5
VALUES = [0, 1, 3, 2, 4, 5, 7, 6, 8, 4, 1, 4]


def test_rbar_weighs_unequal_n_by_minimum_variance():
    f5, f2 = (D2[5] / D3[5]) ** 2, (D2[2] / D3[2]) ** 2
    by_hand = (2 * f5 * 4 / D2[5] + f2 * 3 / D2[2]) / (2 * f5 + f2)
    found = sigma_of(VALUES, XBAR_R)
    assert found["sigma_within"] == pytest.approx(by_hand, rel=1e-9)
    assert found["nu"] == pytest.approx(0.9 * (4 + 4 + 1))


def test_sbar_weighs_unequal_n_by_minimum_variance():
    h5, h2 = (C4[n] ** 2 / (1 - C4[n] ** 2) for n in (5, 2))
    s5, s2 = np.sqrt(2.5), np.sqrt(4.5)
    found = sigma_of(VALUES, XBAR_S)
    assert found["sigma_within"] == pytest.approx((2 * h5 * s5 / C4[5] + h2 * s2 / C4[2]) / (2 * h5 + h2), rel=1e-9)
    assert found["nu"] == pytest.approx(0.95 * 8 + 0.88)


def test_pooled_is_unbiased_by_c4_of_its_degrees_of_freedom():
    found = sigma_of(VALUES, POOLED)
    assert found["nu"] == 9
    assert found["sigma_within"] == pytest.approx(np.sqrt(24.5 / 9) / 0.9726592741, rel=1e-9)  # c4(10)


def test_moving_range_of_individuals():
    found = sigma_of([1, 2, 4, 3], {})
    assert found["sigma_within"] == pytest.approx((1 + 2 + 1) / 3 / D2[2], rel=1e-9)
    assert (found["nu"], found["sigma_overall"]) == (3, pytest.approx(np.std([1, 2, 4, 3], ddof=1)))


def test_a_long_gap_breaks_the_moving_range():
    site = make_site({})
    late = START + timedelta(hours=100)
    both = pl.concat([subgroups([1, 2], site), subgroups([50, 52], site, start=late, first_record=10)])
    found = within_sigma(chart_order(both, site), ["chart_index"], 72.0)
    assert found["sigma_within"].item() == pytest.approx((1 + 2) / 2 / D2[2], rel=1e-9)
    assert found["nu"].item() == 2


def test_a_change_of_stream_breaks_the_moving_range():
    site = make_site({}, {"equipment_id": "L1-S2"})
    both = pl.concat([subgroups([1, 2], site), subgroups([50, 52], site, equipment_id="L1-S2", first_record=10)])
    found = within_sigma(chart_order(both, site), ["chart_index"], 72.0)
    assert found["sigma_within"].to_list() == pytest.approx([1 / D2[2], 2 / D2[2]], rel=1e-9)


def test_an_excluded_individual_breaks_the_moving_range_on_both_sides():
    site = make_site({})
    ordered = chart_order(subgroups([1, 2, 90, 4, 5], site), site).with_columns(included=pl.col("mean") < 50)
    found = within_sigma(ordered, ["chart_index"], 72.0)
    assert found["sigma_within"].item() == pytest.approx(1 / D2[2], rel=1e-9)
    assert (found["nu"].item(), found["mean"].item()) == (2, 3.0)


def test_merged_mean_and_overall_s_are_those_of_the_values():
    found = sigma_of(VALUES, XBAR_R)
    assert (found["mean"], found["n_observed"]) == (pytest.approx(np.mean(VALUES)), 12)
    assert found["sigma_overall"] == pytest.approx(np.std(VALUES, ddof=1), rel=1e-12)


def test_overall_s_of_numacc4():
    """NIST StRD NumAcc4 (higher difficulty): mean 10000000.2, s 0.1 certified; naive sums of squares fail it."""
    values = [10000000.2] + [10000000.1, 10000000.3] * 500
    found = sigma_of(values, XBAR_S)
    assert found["mean"] == pytest.approx(10000000.2, abs=2e-9)
    assert found["sigma_overall"] == pytest.approx(0.1, rel=1e-8)


def test_a_chart_of_single_values_on_an_xbar_chart_has_no_sigma():
    estimates = limit_estimates(subgroups([1.0], make_site(XBAR_R)), make_site(XBAR_R))
    assert estimates["sigma"].item() is None
    assert "no subgroup carries dispersion" in estimates["warning"].item()


def at(statistic, n, mu=10.0, sigma=2.0, k=3.0):
    points = shewhart_panel(statistic, np.array([mu]), np.array([n]), np.array([mu]), np.array([sigma]), k)
    return tuple(getattr(points, name).item() for name in ("cl", "lcl", "ucl", "standard_error"))


def test_limits_of_means_narrow_with_n():
    assert at("xbar", 4) == (10.0, 7.0, 13.0, 1.0)
    assert at("x", 1) == (10.0, 4.0, 16.0, 2.0)


def test_limits_of_dispersion_follow_n_and_never_fall_below_zero():
    assert at("r", 5)[:3] == pytest.approx((2 * D2[5], 0.0, 2 * (D2[5] + 3 * D3[5])), rel=1e-9)
    c4_of_10 = 0.9726592741
    b3 = 2 * (c4_of_10 - 3 * np.sqrt(1 - c4_of_10**2))
    assert at("s", 10)[:2] == pytest.approx((2 * c4_of_10, b3), rel=1e-8)
    assert b3 > 0
    assert at("mr", 2)[:3] == pytest.approx((2 * D2[2], 0.0, 2 * (D2[2] + 3 * D3[2])), rel=1e-9)
    with pytest.raises(ContractError, match="no Shewhart limits"):
        at("ewma", 5)


def test_estimates_look_at_the_declared_window_only():
    site = make_site({}, baseline=BaselinePolicy(estimate_window_days=2))
    old = subgroups([500, 900], site, start=START - timedelta(days=3))
    new = subgroups([1, 2, 3], site, first_record=10)
    found = limit_estimates(pl.concat([old, new]), site).row(0, named=True)
    assert (found["mu"], found["n_subgroups"], found["window_from"]) == (2.0, 3, START)
    assert found["warning"] == "only 3 subgroups, 100 are advised"
    assert rule_failures(SPC_LIMIT_ESTIMATES, limit_estimates(new, site)) == []


def test_the_inputs_hash_changes_with_any_entering_subgroup_and_with_nothing_else():
    site = make_site({})
    one = subgroups([1, 2, 3, 4], site)
    same = limit_estimates(one.sample(fraction=1.0, shuffle=True, seed=1), site)
    assert same["inputs_hash"].item() == limit_estimates(one, site)["inputs_hash"].item()
    changed = one.with_columns(mean=pl.when(pl.col("mean") == 2).then(2.0000001).otherwise("mean"))
    renamed = one.with_columns(subgroup_id=pl.col("subgroup_id").str.replace("000003", "000009"))
    hashes = {limit_estimates(frame, site)["inputs_hash"].item() for frame in (one, changed, renamed, one.head(3))}
    assert len(hashes) == 4


def test_the_policy_freezes_the_first_complete_baseline():
    site = make_site({}, baseline=SMALL)
    values = [1, 2, 4, 3, 2, 3, 50, 60, 70]
    version = approve_baselines(NONE, subgroups(values, site), site).row(0, named=True)
    assert (version["limit_version"], version["n_subgroups"], version["mu"]) == (1, 6, 2.5)
    assert version["sigma"] == pytest.approx((1 + 2 + 1 + 1 + 1) / 5 / D2[2], rel=1e-9)
    assert (version["effective_from"], version["baseline_to"]) == (START, START + timedelta(minutes=5))
    assert (version["approved_by"], version["k"]) == ("site policy", 3.0)
    assert version["warning"] == "only 6 subgroups, 100 are advised"


def test_a_chart_with_too_few_subgroups_gets_no_limits():
    site = make_site({}, baseline=SMALL)
    assert approve_baselines(NONE, subgroups([1, 2, 3, 4, 5], site), site).is_empty()


def test_a_baseline_without_variation_is_left_to_a_person():
    site = make_site({}, baseline=SMALL)
    assert approve_baselines(NONE, subgroups([5.0] * 10, site), site).is_empty()


def test_an_existing_version_is_never_changed_by_new_data():
    site = make_site({}, baseline=SMALL)
    first = approve_baselines(NONE, subgroups([1, 2, 4, 3, 2, 3], site), site)
    late = subgroups([90, 91, 92, 93, 94, 95], site, start=START - timedelta(days=1), first_record=50)
    again = approve_baselines(first, pl.concat([late, subgroups([1, 2, 4, 3, 2, 3], site)]), site)
    assert_frame_equal(again, first)


class TestApproval:
    site = make_site({}, baseline=SMALL)
    frame = subgroups([1, 2, 4, 3, 2, 3, 11, 12, 99, 13, 12, 14], site)
    first = approve_baselines(NONE, frame, site)
    shift = START + timedelta(minutes=6)
    outlier = "bore|L1-S1|mes:000008"

    def approve(self, **changes):
        given = {
            "characteristic_id": "bore",
            "equipment_id": "L1-S1",
            "baseline_from": self.shift,
            "baseline_to": self.shift + timedelta(minutes=5),
            "approved_by": "A. Engineer",
            "reason": "new tool",
            "effective_from": self.shift,
            "excluded": {self.outlier: "chip on the gauge"},
            **changes,
        }
        frame = given.pop("frame", self.frame)
        return approve(self.first, frame, self.site, **given)

    def test_a_new_version_supersedes_and_only_closes_the_old_one(self):
        versions = self.approve()
        assert_frame_equal(versions.head(1).drop("effective_to"), self.first.drop("effective_to"))
        assert versions["effective_to"].to_list() == [self.shift, None]
        new = versions.row(1, named=True)
        assert (new["limit_version"], new["supersedes"], new["n_subgroups"]) == (2, 1, 5)
        assert (new["excluded_subgroup_ids"], new["exclusion_cause"]) == (self.outlier, "chip on the gauge")
        assert new["mu"] == pytest.approx(np.mean([11, 12, 13, 12, 14]))
        assert new["sigma"] == pytest.approx((1 + 1 + 2) / 3 / D2[2], rel=1e-9)  # 12-99 and 99-13 are no pairs
        assert rule_failures(SPC_LIMITS, versions) == []

    def test_the_policy_does_not_add_to_an_approved_chart(self):
        assert_frame_equal(approve_baselines(self.approve(), self.frame, self.site), self.approve())

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"excluded": {outlier: " "}}, "without an assigned cause"),
            ({"excluded": {"bore|L1-S1|mes:000001": "cause"}}, "not in the baseline window"),
            ({"effective_from": START}, "effective_from must be after"),
            ({"approved_by": ""}, "approver"),
            ({"reason": ""}, "reason"),
            (
                {"baseline_from": shift + timedelta(days=9), "baseline_to": shift + timedelta(days=10), "excluded": {}},
                "widen it",
            ),
            ({"baseline_to": shift, "excluded": {}}, "sigma is 0 or cannot be estimated"),
            (
                {"frame": frame.with_columns(specification_version=pl.int_range(pl.len()) // 8)},
                "spans a change of specification",
            ),
        ],
    )
    def test_an_approval_that_could_mislead_is_refused(self, changes, message):
        with pytest.raises(ContractError, match=message):
            self.approve(**changes)


def test_single_values_on_a_chart_with_a_memory_need_the_long_baseline_too():
    site = make_site({"chart": "ewma"})
    values = np.random.default_rng(2).normal(10, 0.1, 60).tolist()
    assert approve_baselines(SPC_LIMITS.empty(), subgroups(values, site), site).is_empty()
    assert "100 are advised" in limit_estimates(subgroups(values, site), site)["warning"].item()
    fives = make_site({**XBAR_R, "chart": "ewma"})
    assert approve_baselines(SPC_LIMITS.empty(), subgroups(values * 3, fives), fives).height == 1

"""Capability: which sigma, which specification, which verdict, and when a figure is withheld."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from scipy import stats

from spc_platform.contracts.spc import SPC_CAPABILITY, SPC_LIMITS, SPC_VIOLATIONS
from spc_platform.contracts.validate import rule_failures
from spc_platform.errors import ContractError
from spc_platform.site.model import BaselinePolicy
from spc_platform.spc.capability import capability, capability_study, observed_out_of_specification
from spc_platform.spc.limits import approve_baselines
from spc_platform.spc.points import judge
from spc_platform.spc.subgroups import form_subgroups
from spc_platform_tests.unit.spc_frames import DAY, POOLED, START, XBAR_R, make_site, mask, measurements, subgroups

BOTH_SIDES = {"lsl": 7.0, "target": 10.0, "usl": 14.0}
QUIET = SPC_VIOLATIONS.empty()
NO_LIMITS = SPC_LIMITS.empty()


def study(values, chart=POOLED, specification=BOTH_SIDES, violations=QUIET, limits=NO_LIMITS, **more):
    site = make_site(chart, specifications=[specification], **more.pop("policies", {}))
    found = capability(subgroups(values, site, **more), violations, limits, site)
    assert rule_failures(SPC_CAPABILITY, found) == []
    return found.row(0, named=True)


VALUES = np.random.default_rng(4).normal(10, 0.7, 125).tolist()


def test_cp_rests_on_sigma_within_and_pp_on_the_overall_s():
    found = study(VALUES)
    groups = np.reshape(VALUES, (-1, 5))
    within = np.sqrt(groups.var(axis=1, ddof=1).mean()) / (1 - 1 / (4 * 100) + 1 / (32 * 100**2))  # c4(101)
    overall, mean = np.std(VALUES, ddof=1), np.mean(VALUES)
    assert found["sigma_within"] == pytest.approx(within, rel=1e-7)
    assert found["cp"] == pytest.approx(7 / (6 * within), rel=1e-7)
    assert found["cpk"] == pytest.approx(min(14 - mean, mean - 7) / (3 * within), rel=1e-7)
    assert found["pp"] == pytest.approx(7 / (6 * overall), rel=1e-12)
    assert found["ppk"] == pytest.approx(min(14 - mean, mean - 7) / (3 * overall), rel=1e-12)
    assert found["cpm"] == pytest.approx(7 / (6 * np.sqrt(overall**2 + (mean - 10) ** 2)), rel=1e-12)
    assert (found["nu"], found["n_observed"], found["reason"]) == (100, 125, None)


def test_intervals_use_the_degrees_of_freedom_of_the_estimator():
    found = study(VALUES, chart=XBAR_R)
    assert found["nu"] == pytest.approx(0.9 * 25 * 4)
    assert found["cp_ci_low"] == pytest.approx(found["cp"] * np.sqrt(stats.chi2.ppf(0.025, 90) / 90))
    assert found["pp_ci_high"] == pytest.approx(found["pp"] * np.sqrt(stats.chi2.ppf(0.975, 124) / 124))
    half = 1.959963985 * np.sqrt(1 / (9 * 125) + found["ppk"] ** 2 / (2 * 124))
    assert (found["ppk_ci_low"], found["ppk_ci_high"]) == pytest.approx((found["ppk"] - half, found["ppk"] + half))


@pytest.mark.parametrize(("side", "limit"), [("usl", 14.0), ("lsl", 7.0)])
def test_a_one_sided_specification_has_cpk_only(side, limit):
    found = study(VALUES, specification={side: limit, "target": 10.0})
    assert found["ppk"] == pytest.approx(abs(limit - np.mean(VALUES)) / (3 * np.std(VALUES, ddof=1)))
    assert [found[name] for name in ("cp", "pp", "cpm", "cp_ci_low", "pp_ci_high")] == [None] * 5
    assert "one-sided" in found["reason"]


def test_a_mean_outside_the_specification_gives_a_negative_index():
    assert study((np.array(VALUES) + 10).tolist())["ppk"] < 0


def test_without_variation_indices_are_empty_with_a_reason():
    found = study([10.0] * 50)
    assert [found[name] for name in ("cp", "cpk", "pp", "ppk", "cpk_ci_low")] == [None] * 5
    assert "sigma within is 0" in found["reason"]
    assert "overall s is 0" in found["reason"]


def test_without_specification_limits_indices_are_empty_with_a_reason():
    assert study(VALUES, specification={})["reason"] == "the specification has no limits"
    unknown = study(VALUES, specification={**BOTH_SIDES, "version": 9})
    assert unknown["ppk"] is None
    assert "no specification of this version" in unknown["reason"]


def test_a_study_never_spans_two_specifications_and_parts_without_one_are_left_out():
    site = make_site(POOLED, specifications=[BOTH_SIDES, {**BOTH_SIDES, "version": 2, "usl": 20.0}])
    frame = subgroups(VALUES, site, versions=[None] * 25 + [1] * 50 + [2] * 50)
    found = capability(frame, QUIET, NO_LIMITS, site)
    assert found.select("specification_version", "n_observed", "usl").rows() == [(1, 50, 14.0), (2, 50, 20.0)]
    assert found["mean"].to_list() == pytest.approx([np.mean(VALUES[25:75]), np.mean(VALUES[75:])])


def test_masked_values_are_in_every_index_but_the_one_for_comparison():
    """A +4 sigma special cause, masked: hiding it would lift Ppk."""
    values = [*VALUES[:-1], 13.0]
    found = study(values, masked=["000124"])
    assert found["ppk"] == pytest.approx(study(values)["ppk"])
    kept = np.array(VALUES[:-1])
    assert found["ppk_unmasked"] == pytest.approx(min(14 - kept.mean(), kept.mean() - 7) / (3 * kept.std(ddof=1)))
    assert found["ppk_unmasked"] > found["ppk"]
    assert found["n_masked"] == 1


def test_an_analysis_of_means_would_multiply_the_index():
    """Overall s is that of the parts: merging subgroup means alone would give another, larger Ppk."""
    means = np.reshape(VALUES, (-1, 5)).mean(axis=1)
    assert study(VALUES)["sigma_overall"] == pytest.approx(np.std(VALUES, ddof=1), rel=1e-12)
    assert np.std(means, ddof=1) < 0.7 * np.std(VALUES, ddof=1)


class TestStability:
    site = make_site({}, specifications=[BOTH_SIDES], baseline=BaselinePolicy(individuals=10))
    quiet = (10 + 0.1 * np.tile([0.5, -1.2, 0.8, -0.6, 1.1, -0.4], 4)).tolist()

    def verdict(self, values, with_limits=True):
        frame = subgroups(values, self.site)
        limits = approve_baselines(NO_LIMITS, frame, self.site) if with_limits else NO_LIMITS
        _, violations = judge(frame, limits, self.site, DAY)
        return capability(frame, violations, limits, self.site).select("stability", "n_violation_points").row(0)

    def test_a_quiet_chart_is_stable(self):
        assert self.verdict(self.quiet) == ("stable", 0)

    def test_one_signal_on_the_location_panel_makes_it_unstable(self):
        assert self.verdict([*self.quiet, 12.0]) == ("unstable", 1)

    def test_a_false_alarm_among_many_points_leaves_it_stable(self):
        """200 points: Western Electric flags 1.63 % of a stable chart's points by chance."""
        frame = subgroups(np.random.default_rng(1).normal(10, 0.1, 200).tolist(), self.site)
        limits = approve_baselines(NO_LIMITS, frame, self.site)
        violations = QUIET.select("subgroup_id", "panel", "z").vstack(
            frame.head(3).select("subgroup_id", panel=pl.lit("location"), z=pl.lit(2.4))
        )
        found = capability(frame, violations, limits, self.site).row(0, named=True)
        assert (found["stability"], found["n_violation_points"], found["signal_share"]) == ("stable", 3, 0.015)
        assert found["expected_signal_share"] == pytest.approx(0.0163, abs=5e-4)

    def test_more_signals_than_chance_gives_make_it_unstable(self):
        frame = subgroups(np.random.default_rng(1).normal(10, 0.1, 200).tolist(), self.site)
        limits = approve_baselines(NO_LIMITS, frame, self.site)
        violations = QUIET.select("subgroup_id", "panel", "z").vstack(
            frame.head(16).select("subgroup_id", panel=pl.lit("location"), z=pl.lit(2.4))
        )
        assert capability(frame, violations, limits, self.site)["stability"].item() == "unstable"

    def test_without_limits_there_is_no_verdict_on_stability(self):
        assert self.verdict(self.quiet, with_limits=False) == ("no_limits", 0)

    def test_a_short_study_has_too_few_points(self):
        frame = subgroups(self.quiet, self.site)
        limits = approve_baselines(NO_LIMITS, frame, self.site)
        assert capability(frame.head(5), QUIET, limits, self.site)["stability"].item() == "too_few_points"

    def test_a_signal_on_the_dispersion_panel_alone_does_not_count(self):
        frame = subgroups(self.quiet, self.site)
        limits = approve_baselines(NO_LIMITS, frame, self.site)
        signal = frame.head(1).with_columns(panel=pl.lit("dispersion"))
        violations = QUIET.select("subgroup_id", "panel", "z").vstack(signal.select("subgroup_id", "panel", z=pl.lit(9.0)))
        assert capability(frame, violations, limits, self.site)["stability"].item() == "stable"


def measured(values, site, **more):
    frame = measurements(values, site=site, **more)
    return form_subgroups(frame, mask(frame), site), frame


def test_observed_defects_come_from_the_values_by_their_own_specification():
    site = make_site(POOLED, specifications=[BOTH_SIDES, {**BOTH_SIDES, "version": 2, "lsl": None, "usl": 10.5}])
    frame, values = measured(VALUES, site, versions=[None] * 25 + [1] * 50 + [2] * 50)
    counted = observed_out_of_specification(values.lazy(), site)
    above = int(np.sum(np.array(VALUES[75:]) > 10.5))
    assert counted.select("specification_version", "n_values", "n_below_lsl", "n_above_usl").rows() == [
        (1, 50, 0, 0),
        (2, 50, None, above),
    ]
    found = capability(frame, QUIET, NO_LIMITS, site, values)
    assert found["observed_ppm_total"].to_list() == [0.0, 1e6 * above / 50]
    assert found["observed_ppm_below_lsl"].to_list() == [0.0, None]
    assert capability(frame, QUIET, NO_LIMITS, site)["observed_ppm_total"].to_list() == [None, None]


def test_a_declared_distribution_is_fitted_where_the_values_are_given():
    skewed = np.random.default_rng(5).lognormal(2, 0.3, 300).tolist()
    site = make_site({**POOLED, "distribution": "lognormal"}, specifications=[{"usl": 25.0, "lsl": 2.0}])
    frame, values = measured(skewed, site)
    found = capability(frame, QUIET, NO_LIMITS, site, values).row(0, named=True)
    one = capability_study(skewed, usl=25.0, lsl=2.0, distribution="lognormal")
    for name in ("fit_statistic", "fit_p_value", "x_99865", "pp_percentile", "ppk_percentile", "expected_ppm_total_fitted"):
        assert found[name] == pytest.approx(one[name], rel=1e-9), name
    assert found["is_extrapolated"] is True
    assert found["distribution"] == "lognormal"
    without = capability(frame, QUIET, NO_LIMITS, site).row(0, named=True)
    assert without["ppk_percentile"] is None
    assert "needs the values themselves" in without["reason"]


def test_a_declared_distribution_that_the_values_forbid_gives_a_reason_and_stops_no_other_chart():
    site = make_site({**POOLED, "distribution": "weibull"}, specifications=[{"usl": 25.0}])
    frame, values = measured([*VALUES, -1.0], site)
    found = capability(frame, QUIET, NO_LIMITS, site, values).row(0, named=True)
    assert (found["fit_statistic"], found["is_extrapolated"]) == (None, None)
    assert "must be positive" in found["reason"]
    assert found["ppk"] is not None


def test_swapped_limits_are_refused_by_name():
    with pytest.raises(ContractError, match="specification 1 of bore: LSL 14 is not below USL 7") as caught:
        study(VALUES, specification={"lsl": 14.0, "usl": 7.0})
    assert caught.value.code == "SPC-345"


def test_every_index_of_the_pipeline_is_that_of_the_study_of_the_same_values():
    found = study(VALUES)
    one = capability_study(
        VALUES, sigma_within=found["sigma_within"], nu=found["nu"], **{name: BOTH_SIDES[name] for name in BOTH_SIDES}
    )
    for name, value in one.items():
        if isinstance(value, float) and name in found and not name.startswith("observed"):
            assert found[name] == pytest.approx(value, rel=1e-10), name


def test_a_chart_of_deviations_from_nominal_is_judged_in_the_unit_of_the_specification():
    plain = study(VALUES, chart=XBAR_R)
    deviations = study(VALUES, chart={**XBAR_R, "chart": "dnom"})
    for name in ("mean", "cpk", "ppk", "cpm", "ppk_unmasked"):
        assert deviations[name] == pytest.approx(plain[name], rel=1e-12), name


def test_a_long_gap_does_not_enter_the_moving_range_of_a_study():
    site = make_site({}, specifications=[BOTH_SIDES])
    frame = pl.concat(
        [subgroups([9.0, 10.0], site), subgroups([13.0, 12.0], site, start=START + timedelta(days=5), first_record=10)]
    )
    assert capability(frame, QUIET, NO_LIMITS, site)["sigma_within"].item() == pytest.approx(1 / 1.1283791671, rel=1e-9)

"""Trial limits, a new version as a shadow, and drift from frozen limits."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy import stats

from spc_platform.contracts.phases import SPC_LIMIT_DRIFT, SPC_SHADOW
from spc_platform.contracts.spc import SPC_LIMIT_ESTIMATES, SPC_LIMITS, SPC_VIOLATIONS
from spc_platform.contracts.validate import rule_failures
from spc_platform.errors import ContractError
from spc_platform.spc.limits import approve, limit_estimates
from spc_platform.spc.phases import drift, freedom, shadow, trial_limits
from spc_platform.spc.points import judge
from spc_platform_tests.unit.spc_frames import START, XBAR_R, make_site, subgroups

CHART = {"characteristic_id": "bore", "equipment_id": "L1-S1"}
DAY_S = 86_400.0


def individuals(n, seed=5, **shifts):
    values = np.random.default_rng(seed).standard_normal(n)
    for at, shift in shifts.items():
        values[int(at[1:])] = shift
    return values.tolist()


def window_of(frame):
    return {"baseline_from": frame["subgroup_at"].min(), "baseline_to": frame["subgroup_at"].max()}


def trial(values, excluded=None, chart=None, **more):
    site = make_site(chart or {"rule_set": "limits_only"})
    frame = subgroups(values, site, **more)
    named = {frame["subgroup_id"][at]: cause for at, cause in (excluded or {}).items()}
    return trial_limits(frame, site, **CHART, **window_of(frame), excluded=named), frame, site


def points_of(signals, frame):
    order = frame["subgroup_id"].to_list()
    return sorted((order.index(subgroup), panel) for subgroup, panel in signals.select("subgroup_id", "panel").unique().rows())


def test_trial_limits_list_what_signals_and_exclude_nothing_by_themselves():
    found, frame, _ = trial(individuals(60, p20=9.0))
    assert points_of(found.signals, frame) == [(20, "dispersion"), (20, "location"), (21, "dispersion")]
    assert not found.is_settled
    assert found.explained.is_empty()
    assert found.limits["n_subgroups"].item() == 60
    assert found.points.filter(pl.col("panel") == "location").height == 60


def test_a_cause_takes_the_point_out_of_the_limits_but_not_off_the_chart():
    found, frame, _ = trial(individuals(60, p20=9.0), {20: "tool broken"})
    assert found.is_settled
    assert points_of(found.explained, frame) == [(20, "dispersion"), (20, "location"), (21, "dispersion")]
    assert found.points.filter(pl.col("panel") == "location").height == 60
    values = [value for at, value in enumerate(frame["mean"]) if at != 20]
    assert found.limits["mu"].item() == pytest.approx(np.mean(values), rel=1e-12)
    assert found.limits["exclusion_cause"].item() == "tool broken"


def test_what_a_large_signal_hides_comes_up_in_the_next_round():
    """With 40 in the baseline, sigma is so wide that 6 lies within the limits; without it, it does not."""
    values = individuals(60, p20=40.0, p40=6.0)
    first, frame, _ = trial(values)
    assert {point for point, panel in points_of(first.signals, frame) if panel == "location"} == {20}
    second, _, _ = trial(values, {20: "tool broken"})
    assert {point for point, panel in points_of(second.signals, frame) if panel == "location"} == {40}
    third, _, _ = trial(values, {20: "tool broken", 40: "new lot"})
    assert third.is_settled
    assert third.rounds["n_excluded"].to_list() == [0, 1, 2]
    assert third.rounds["n_signals"].to_list()[-1] == 0
    assert third.rounds["sigma"].is_sorted(descending=True)


def test_an_exclusion_without_a_cause_is_refused():
    with pytest.raises(ContractError, match="excluded without an assigned cause"):
        trial(individuals(60, p20=9.0), {20: " "})


def test_an_exclusion_outside_the_window_is_refused():
    site = make_site({})
    frame = subgroups(individuals(30), site)
    with pytest.raises(ContractError, match="excluded but not in the baseline window: other"):
        trial_limits(frame, site, **CHART, **window_of(frame), excluded={"other": "a cause"})


def test_a_cause_without_a_signal_is_excluded_in_the_last_round():
    found, frame, _ = trial(individuals(60), {5: "gauge dropped"})
    assert found.rounds["n_excluded"].to_list() == [0, 1]
    assert found.limits["excluded_subgroup_ids"].item() == frame["subgroup_id"][5]


@pytest.mark.parametrize("k", [25, 40])
def test_trial_limits_of_the_first_k_are_those_of_a_chart_that_has_only_k(k):
    site = make_site(XBAR_R)
    frame = subgroups(individuals(300), site)
    window = window_of(frame.head(k))
    whole = trial_limits(frame, site, **CHART, **window)
    only = trial_limits(frame.head(k), site, **CHART, **window)
    assert_frame_equal(whole.limits, only.limits)
    assert_frame_equal(whole.points, only.points)


def test_trial_limits_are_the_version_that_is_approved_from_them():
    found, frame, site = trial(individuals(60, p20=9.0), {20: "tool broken"})
    excluded = {frame["subgroup_id"][20]: "tool broken"}
    named = {"approved_by": "A. Person", "reason": "phase I", "effective_from": START, "excluded": excluded}
    version = approve(SPC_LIMITS.empty(), frame, site, **CHART, **window_of(frame), **named)
    same = ["mu", "sigma", "n_subgroups", "inputs_hash", "excluded_subgroup_ids"]
    assert_frame_equal(found.limits.select(same), version.select(same))


def test_signals_of_several_dates_keep_their_own_date():
    found, frame, _ = trial(individuals(60, p2=9.0, p50=-9.0), every_s=DAY_S / 10)
    assert rule_failures(SPC_VIOLATIONS, found.signals) == []
    dates = dict(frame.select("subgroup_id", "production_date").rows())
    assert len(set(dates.values())) == 6
    assert all(dates[subgroup] == on for subgroup, on in found.signals.select("subgroup_id", "production_date").rows())


def version_of(frame, site, mu, sigma, number=1, **more):
    """SPC_LIMITS of one version with the parameters given."""
    named = {"approved_by": "A. Person", "reason": "test", "effective_from": START - timedelta(days=1)}
    made = approve(SPC_LIMITS.empty(), frame, site, **CHART, **window_of(frame), **named)
    return SPC_LIMITS.conform(
        made.with_columns(
            mu=pl.lit(mu), sigma=pl.lit(sigma), limit_version=pl.lit(number), **{n: pl.lit(v) for n, v in more.items()}
        )
    )


VALUES = [0.0, 3.5, -1.0, 4.5, 0.5, -3.5]


def location(found):
    """{position: verdict} of the location panel."""
    rows = found.filter(pl.col("panel") == "location").sort("subgroup_at").select("subgroup_at", "verdict").rows()
    return {(at - START) // timedelta(minutes=1): verdict for at, verdict in rows}


def test_a_shadow_lists_what_only_one_version_triggers():
    """Limits at 0 +- 3 against 1 +- 3: 3.5 only by the first, 4.5 by both, -3.5 by both, -2.5 only by the second."""
    site = make_site({"rule_set": "limits_only"})
    frame = subgroups([*VALUES, -2.5], site)
    then, new = version_of(frame, site, 0.0, 1.0), version_of(frame, site, 1.0, 1.0, number=2)
    found = shadow(frame, then, new, site)
    assert rule_failures(SPC_SHADOW, found) == []
    assert location(found) == {1: "only_in_force", 3: "both", 5: "both", 6: "only_shadow"}
    row = found.filter((pl.col("panel") == "location") & (pl.col("verdict") == "only_in_force")).row(0, named=True)
    assert (row["z_in_force"], row["z_shadow"], row["limit_version"], row["shadow_version"]) == (3.5, 2.5, 1, 2)


def test_a_shadow_judges_the_past_although_its_own_dates_are_later():
    site = make_site({"rule_set": "limits_only"})
    frame = subgroups(VALUES, site)
    later = version_of(frame, site, 1.0, 1.0, number=2, effective_from=START + timedelta(days=9))
    found = shadow(frame, SPC_LIMITS.empty(), later, site)
    assert location(found) == {3: "only_shadow", 5: "only_shadow"}
    assert found["limit_version"].is_null().all()
    assert found["z_in_force"].is_null().all()


def test_the_version_in_force_then_judges_each_point_of_the_past():
    site = make_site({"rule_set": "limits_only"})
    frame = subgroups(VALUES, site)
    change = START + timedelta(minutes=2)
    old = version_of(frame, site, 3.5, 1.0, effective_to=change)
    new = version_of(frame, site, 0.0, 1.0, number=2, effective_from=change)
    found = shadow(frame, pl.concat([old, new]), new, site)
    assert location(found) == {0: "only_in_force", 1: "only_shadow", 3: "both", 5: "both"}


def test_the_same_version_as_a_shadow_differs_in_nothing():
    site = make_site({"rule_set": "nelson"})
    frame = subgroups(individuals(300, seed=4), site, every_s=DAY_S / 50)
    version = version_of(frame, site, 0.0, 0.9)
    found = shadow(frame, version, version, site)
    assert found.height > 0
    assert set(found["verdict"]) == {"both"}
    assert_frame_equal(shadow(frame.reverse(), version, version, site), found)


def test_a_shadow_over_several_dates_is_the_sum_of_its_dates():
    site = make_site({"rule_set": "western_electric"})
    frame = subgroups(individuals(300, seed=4), site, every_s=DAY_S / 50)
    then, new = version_of(frame, site, 0.0, 1.0), version_of(frame, site, 0.3, 0.9, number=2)
    whole = shadow(frame, then, new, site)
    dates = sorted(set(frame["production_date"]))
    assert_frame_equal(SPC_SHADOW.conform(pl.concat([shadow(frame, then, new, site, on, on) for on in dates])), whole)
    judged = pl.concat([judge(frame, then, site, on)[1] for on in dates])
    same = ["subgroup_id", "panel", "rule"]
    in_force = whole.filter(pl.col("verdict") != "only_shadow").select(same).sort(same)
    assert_frame_equal(in_force, judged.select(same).sort(same))


def test_several_candidates_of_a_chart_are_refused():
    site = make_site({})
    frame = subgroups(VALUES, site)
    two = pl.concat([version_of(frame, site, 0.0, 1.0), version_of(frame, site, 1.0, 1.0, number=2)])
    with pytest.raises(ContractError, match=r"SPC-343.*bore on L1-S1; keep one"):
        shadow(frame, two, two, site)


def test_charts_without_a_candidate_are_left_out():
    site = make_site({})
    frame = subgroups(VALUES, site)
    assert shadow(frame, version_of(frame, site, 0.0, 1.0), SPC_LIMITS.empty(), site).is_empty()


def drifted(shift=0.0, factor=1.0, n=200, frozen=None, **more):
    site = make_site({})
    frame = subgroups((shift + factor * np.random.default_rng(5).standard_normal(n)).tolist(), site)
    estimates = limit_estimates(frame, site)
    limits = version_of(frame, site, 0.0, 1.0) if frozen is None else frozen
    found = drift(limits, estimates, **more)
    assert rule_failures(SPC_LIMIT_DRIFT, found) == []
    return found.row(0, named=True)


@pytest.mark.parametrize(
    ("shift", "factor", "verdict"),
    [(0.0, 1.0, "stable"), (0.8, 1.0, "shifted"), (0.0, 1.6, "wider"), (0.0, 0.5, "narrower"), (-0.8, 1.6, "shifted")],
)
def test_drift_names_what_changed(shift, factor, verdict):
    assert drifted(shift, factor)["verdict"] == verdict


def test_drift_intervals_are_those_of_welch_and_f():
    site = make_site({**XBAR_R, "estimator": "pooled"})
    frame = subgroups((10 + 2 * np.random.default_rng(2).standard_normal(150)).tolist(), site)
    estimates = limit_estimates(frame, site)
    mu, sigma = estimates.select("mu", "sigma").row(0)
    found = drift(version_of(frame, site, 9.0, 1.5), estimates, confidence=0.9).row(0, named=True)
    assert (found["nu_frozen"], found["nu_estimate"]) == (120.0, 120.0)  # 150 values of 30 subgroups, both
    a, b = sigma**2 / 150, 1.5**2 / 150
    nu = (a + b) ** 2 / (a**2 / 120 + b**2 / 120)
    low, high = stats.t.interval(0.9, nu, loc=(mu - 9.0) / 1.5, scale=np.sqrt(a + b) / 1.5)
    assert (found["shift_ci_low"], found["shift_ci_high"]) == pytest.approx((low, high), rel=1e-9)
    low, high = (sigma / 1.5 / np.sqrt(stats.f.ppf(q, 120, 120)) for q in (0.95, 0.05))
    assert (found["ratio_ci_low"], found["ratio_ci_high"]) == pytest.approx((low, high), rel=1e-9)
    assert found["explanation"].startswith(
        f"centre {round((mu - 9) / 1.5, 3)} frozen sigma from the frozen one (0.9 confidence"
    )


def test_a_difference_below_what_matters_is_no_drift():
    assert drifted(shift=0.8)["verdict"] == "shifted"
    assert drifted(shift=0.8, least_shift=1.0)["verdict"] == "stable"
    assert drifted(factor=1.6)["verdict"] == "wider"
    assert drifted(factor=1.6, least_ratio=2.0)["verdict"] == "stable"


def test_the_newest_version_counts():
    site = make_site({})
    frame = subgroups(individuals(50), site)
    old = version_of(frame, site, 5.0, 1.0, effective_to=START)
    both = pl.concat([old, version_of(frame, site, 0.0, 1.0, number=2)])
    assert drifted(frozen=both)["limit_version"] == 2
    assert drifted(frozen=both)["verdict"] == "stable"


def test_a_chart_without_a_version_or_an_estimate_says_so():
    found = drifted(frozen=SPC_LIMITS.empty())
    assert (found["verdict"], found["shift"], found["ratio"]) == ("no_version", None, None)
    assert "approve one" in found["explanation"]
    site = make_site({})
    version = version_of(subgroups(individuals(50), site), site, 0.0, 1.0)
    found = drift(version, SPC_LIMIT_ESTIMATES.empty()).row(0, named=True)
    assert (found["verdict"], found["chart"], found["nu_frozen"]) == ("no_estimate", "i_mr", None)
    flat = drift(version, limit_estimates(subgroups([1.0] * 30, site), site)).row(0, named=True)
    assert (flat["verdict"], flat["ratio"]) == ("no_estimate", None)
    assert "does not resolve" in flat["explanation"]


def test_no_charts_have_no_drift():
    assert drift(SPC_LIMITS.empty(), SPC_LIMIT_ESTIMATES.empty()).is_empty()


@pytest.mark.parametrize("wrong", [{"confidence": 1.0}, {"confidence": 0.0}, {"least_shift": -1.0}, {"least_ratio": 0.5}])
def test_bounds_that_make_no_interval_are_refused(wrong):
    with pytest.raises(ContractError, match="SPC-344"):
        drift(SPC_LIMITS.empty(), SPC_LIMIT_ESTIMATES.empty(), **wrong)


def nu(estimator, k, n):
    return float(freedom(pl.Series([estimator]), np.array([float(k)]), np.array([float(n)]))[0])


@pytest.mark.parametrize("m", [26, 101])
def test_freedom_of_estimators_from_moving_ranges(m):
    """1 / (2 CV^2) of 20,000 simulated charts; the median's is the limit for many points, 0.303 of the pairs."""
    steps = np.abs(np.diff(np.random.default_rng(0).standard_normal((20_000, m)), axis=1))
    sigma = {"mr": steps.mean(axis=1), "mssd": np.sqrt((steps**2).mean(axis=1))}
    for estimator, values in sigma.items():
        simulated = 0.5 * (values.mean() / values.std()) ** 2
        assert nu(estimator, m, m) == pytest.approx(simulated, rel=0.03), estimator
    assert nu("median_mr", m, m) == pytest.approx(0.3030334882 * (m - 1))


@pytest.mark.parametrize("estimator", ["rbar", "sbar", "pooled"])
def test_freedom_of_estimators_from_subgroups(estimator):
    """1 / (2 CV^2) of 20,000 simulated baselines of 25 subgroups of 5."""
    values = np.random.default_rng(1).standard_normal((20_000, 25, 5))
    s2 = values.var(axis=2, ddof=1)
    sigma = {"rbar": np.ptp(values, axis=2).mean(axis=1), "sbar": np.sqrt(s2).mean(axis=1), "pooled": np.sqrt(s2.mean(axis=1))}
    simulated = 0.5 * (sigma[estimator].mean() / sigma[estimator].std()) ** 2
    assert nu(estimator, 25, 125) == pytest.approx(simulated, rel=0.03)


def test_an_estimator_of_counts_has_no_degrees_of_freedom():
    assert np.isnan(nu("binomial", 25, 25))


def test_the_interval_of_the_ratio_covers_as_often_as_it_says():
    """2,000 pairs of in-control I-MR charts of 60 points: 95 % within 2 % of the intervals hold the true ratio 1."""
    rng = np.random.default_rng(8)
    charts = np.abs(np.diff(rng.standard_normal((4_000, 60)), axis=1)).mean(axis=1) / 1.1283791671
    ratio, freedom_of_both = charts[:2_000] / charts[2_000:], nu("mr", 60, 60)
    low, high = (ratio / np.sqrt(stats.f.ppf(q, freedom_of_both, freedom_of_both)) for q in (0.975, 0.025))
    assert np.mean((low < 1) & (high > 1)) == pytest.approx(0.95, abs=0.02)


def test_a_between_within_chart_knows_its_centre_by_its_subgroup_means():
    """Variance of the centre: sigma_means^2 / k, not sigma^2 / n; the shift stays in units of the frozen sigma within."""
    site = make_site(XBAR_R)
    frame = subgroups(individuals(150), site)
    between = {"chart": "i_mr_r", "estimator": "pooled", "sigma_means": 2.0}
    estimates = limit_estimates(frame, site).with_columns(**{name: pl.lit(value) for name, value in between.items()}, mu=0.5)
    found = drift(version_of(frame, site, 0.0, 1.0).with_columns(sigma_means=2.0, chart=pl.lit("i_mr_r")), estimates)
    assert found["shift"].item() == 0.5
    assert found["shift_standard_error"].item() == pytest.approx(np.sqrt(2 * 2.0**2 / 30), rel=1e-12)
    plain = drift(version_of(frame, site, 0.0, 1.0), estimates.with_columns(chart=pl.lit("xbar_r"), sigma=1.0))
    assert plain["shift_standard_error"].item() == pytest.approx(np.sqrt(2 / 150), rel=1e-12)

"""Points and violations: which limits judge, what a window may see, what resets it."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from spc_platform.contracts.spc import SPC_LIMITS, SPC_POINTS, SPC_SUBGROUPS, SPC_VIOLATIONS
from spc_platform.contracts.validate import rule_failures
from spc_platform.spc.points import judge
from spc_platform_tests.unit.spc_frames import DAY, START, XBAR_R, XBAR_S, day, make_site, subgroups, version

INDIVIDUALS = make_site({})


def rules_at(values, site=INDIVIDUALS, limits=None, date=DAY, panel="location", **more):
    """{minutes since the first value: rules} of the points that trigger any."""
    points, violations = judge(subgroups(values, site, **more), version() if limits is None else limits, site, date)
    assert rule_failures(SPC_POINTS, points) == []
    assert rule_failures(SPC_VIOLATIONS, violations) == []
    found = points.filter((pl.col("panel") == panel) & pl.col("rules").is_not_null())
    first = points["subgroup_at"].min()
    return {round((at - first).total_seconds() / 60): rules for at, rules in found.select("subgroup_at", "rules").iter_rows()}


def test_a_point_beyond_the_limits_is_a_violation():
    assert rules_at([0.1, -3.5, 0.1]) == {1: "western_electric_1"}


def test_a_masked_point_still_triggers_rule_1():
    points, violations = judge(subgroups([0.1, 5.0, 0.2], INDIVIDUALS, masked=["000001"]), version(), INDIVIDUALS, DAY)
    assert violations.filter(pl.col("panel") == "location")["rule"].to_list() == ["western_electric_1"]
    assert points.filter(pl.col("panel") == "location")["n_masked"].to_list() == [0, 1, 0]


def test_the_whole_window_is_named_in_time_order():
    _, violations = judge(subgroups([0.0, 0.0, 2.5, 0.1, 2.2], INDIVIDUALS), version(), INDIVIDUALS, DAY)
    row = violations.filter(pl.col("rule") == "western_electric_2").row(0, named=True)
    assert row["window_subgroup_ids"] == ";".join(f"bore|L1-S1|mes:00000{record}" for record in (2, 3, 4))
    assert (row["side"], row["z"], row["subgroup_at"]) == ("above", 2.2, START + timedelta(minutes=4))


def test_individuals_have_two_panels_and_the_first_point_has_no_moving_range():
    points, _ = judge(subgroups([1.0, 3.0, 2.0], INDIVIDUALS), version(), INDIVIDUALS, DAY)
    moving = points.filter(pl.col("panel") == "dispersion")
    assert moving.select("statistic", "value", "n_observed").rows() == [("mr", 2.0, 2), ("mr", 1.0, 2)]
    assert moving["cl"].to_list() == pytest.approx([1.1283791671] * 2, abs=1e-10)
    assert moving["ucl"].to_list() == pytest.approx([1.1283791671 + 3 * 0.8525024664] * 2, abs=1e-9)
    assert moving["lcl"].to_list() == [0.0, 0.0]


def test_dispersion_panels_know_the_limits_only():
    """Eight small moving ranges are a run below the centre line, and no violation."""
    small = [0.1 * (-1) ** i for i in range(20)]
    assert rules_at(small, panel="dispersion") == {}
    assert rules_at([0.0, 4.0, 0.0], panel="dispersion") == {1: "western_electric_1", 2: "western_electric_1"}


def test_windows_and_moving_ranges_reach_into_the_day_before():
    site = INDIVIDUALS
    before = subgroups([0.5] * 7, site, start=START + timedelta(hours=23, minutes=50))
    after = subgroups([0.6], site, start=START + timedelta(hours=24), first_record=100)
    points, violations = judge(pl.concat([before, after]), version(), site, day(1))
    assert points["production_date"].unique().to_list() == [day(1)]
    assert violations["rule"].to_list() == ["western_electric_4"]
    assert violations["window_subgroup_ids"].item().count(";") == 7
    assert points.filter(pl.col("panel") == "dispersion")["value"].to_list() == pytest.approx([0.1])
    alone, none = judge(after, version(), site, day(1))
    assert (alone.height, none.height) == (1, 0)


def test_a_long_gap_resets_windows_and_moving_range():
    before = subgroups([0.5] * 7, INDIVIDUALS)
    after = subgroups([0.6], INDIVIDUALS, start=START + timedelta(hours=73), first_record=100)
    points, violations = judge(pl.concat([before, after]), version(), INDIVIDUALS, day(3))
    assert points["panel"].to_list() == ["location"]
    assert violations.is_empty()


def test_each_point_is_judged_by_the_version_in_force_at_its_time():
    change = START + timedelta(minutes=4)
    both = pl.concat([version(until=change), version(mu=10.0, number=2, since=change)])
    points, violations = judge(subgroups([0.5] * 4 + [10.5] * 4, INDIVIDUALS), both, INDIVIDUALS, DAY)
    location = points.filter(pl.col("panel") == "location")
    assert location["limit_version"].to_list() == [1] * 4 + [2] * 4
    assert location["cl"].to_list() == [0.0] * 4 + [10.0] * 4
    assert violations.is_empty()  # neither a run of eight nor a moving range across the revision
    assert points.filter(pl.col("panel") == "dispersion").height == 6


def test_a_version_that_ended_judges_nothing():
    points, violations = judge(
        subgroups([0.0, 9.0], INDIVIDUALS), version(until=START + timedelta(seconds=30)), INDIVIDUALS, DAY
    )
    location = points.filter(pl.col("panel") == "location")
    assert location["limit_version"].to_list() == [1, None]
    assert violations.is_empty()


def test_a_change_of_specification_resets_a_run():
    assert rules_at([0.5] * 8) == {7: "western_electric_4"}
    assert rules_at([0.5] * 8, versions=[1] * 4 + [2] * 4) == {}


def test_points_without_limits_are_plotted_and_not_judged():
    points, violations = judge(subgroups([0.0, 99.0], INDIVIDUALS), SPC_LIMITS.empty(), INDIVIDUALS, DAY)
    assert points["value"].to_list() == [99.0, 0.0, 99.0]
    assert points.select("cl", "lcl", "ucl", "z", "limit_version", "rules").null_count().row(0) == (3,) * 6
    assert violations.is_empty()


def test_zones_come_from_the_standard_error_of_the_mean():
    """A mean 1.4 above the centre is 3.13 standard errors at n = 5, although only 1.4 sigma of the individuals."""
    site = make_site(XBAR_R)
    points, violations = judge(subgroups([1.4] * 5, site), version("xbar_r"), site, DAY)
    assert points.filter(pl.col("panel") == "location")["z"].item() == pytest.approx(1.4 * np.sqrt(5))
    assert violations.filter(pl.col("panel") == "location")["rule"].to_list() == ["western_electric_1"]


def test_a_window_of_unequal_n_is_judged_by_the_limits_of_each_point():
    """Means 1.0 of n = 5 lie 2.24 standard errors out, of n = 2 only 1.41: judged by the last limits both would count."""
    site = make_site({**XBAR_R, "subgrouping": "key"})
    sizes = [2, 5]
    keys = [f"s{i}" for i, size in enumerate(sizes) for _ in range(size)]
    points, violations = judge(subgroups([1.0] * 7, site, keys=keys), version("xbar_r"), site, DAY)
    assert points.filter(pl.col("panel") == "location")["z"].to_list() == pytest.approx([2**0.5, 5**0.5])
    assert violations.filter(pl.col("panel") == "location").is_empty()


def test_centre_line_of_s_moves_with_n_and_a_single_value_has_no_dispersion_row():
    site = make_site(XBAR_S)
    points, _ = judge(subgroups([0, 1, 0, 1, 0, 1, 0, 0.5, 0.2, 0.1, 0.4], site), version("xbar_s"), site, DAY)
    assert points.filter(pl.col("panel") == "location")["n_observed"].to_list() == [5, 5, 1]
    assert points.filter(pl.col("panel") == "dispersion")["cl"].to_list() == pytest.approx([0.9399856030] * 2)
    partial, _ = judge(subgroups([0, 1, 0, 1, 0, 1, 0], site), version("xbar_s"), site, DAY)
    cl = partial.filter(pl.col("panel") == "dispersion")["cl"].to_list()
    assert cl == pytest.approx([0.9399856030, 0.7978845608])


def test_points_of_the_baseline_are_marked():
    limits = version(baseline_from=START, baseline_to=START + timedelta(minutes=1))
    points, _ = judge(subgroups([0.0, 0.1, 0.2], INDIVIDUALS), limits, INDIVIDUALS, DAY)
    assert points.filter(pl.col("panel") == "location")["is_baseline"].to_list() == [True, True, False]


def test_limits_without_width_judge_nothing():
    points, violations = judge(subgroups([1.0, 2.0], INDIVIDUALS), version(sigma=0.0), INDIVIDUALS, DAY)
    assert points["z"].null_count() == points.height
    assert violations.is_empty()


def test_charts_of_different_rule_sets_are_judged_by_their_own():
    site = make_site({"rule_set": "western_electric"}, {"equipment_id": "L1-S2", "rule_set": "nelson"})
    frame = pl.concat(
        [subgroups([0.5] * 9, site, equipment_id=unit, first_record=n) for unit, n in (("L1-S1", 0), ("L1-S2", 50))]
    )
    limits = pl.concat([version(), version(equipment_id="L1-S2")])
    _, violations = judge(frame, limits, site, DAY)
    assert violations.select("equipment_id", "rule").rows() == [
        ("L1-S1", "western_electric_4"),
        ("L1-S1", "western_electric_4"),
        ("L1-S2", "nelson_2"),
    ]


def test_any_row_order_gives_the_same_points_and_violations():
    values = (2 * np.random.default_rng(11).standard_normal(300)).tolist()
    frame = subgroups(values, INDIVIDUALS)
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=2)
    for one, other in zip(judge(frame, version(), INDIVIDUALS, DAY), judge(shuffled, version(), INDIVIDUALS, DAY), strict=True):
        assert_frame_equal(one, other)


def test_a_date_without_subgroups_gives_empty_tables():
    points, violations = judge(SPC_SUBGROUPS.empty(), version(), INDIVIDUALS, DAY)
    assert (points.schema, violations.schema) == (SPC_POINTS.schema, SPC_VIOLATIONS.schema)
    points, violations = judge(subgroups([9.0], INDIVIDUALS), version(), INDIVIDUALS, day(1))
    assert (points.height, violations.height) == (0, 0)


def test_limits_of_another_kind_of_chart_judge_nothing():
    """A site that turns a chart of means into one of deviations must approve anew: the old centre means something else."""
    site = make_site(XBAR_R)
    values = np.random.default_rng(4).normal(0, 1, 25).tolist()
    points, violations = judge(subgroups(values, site), version("xbar_s"), site, DAY)
    assert points["limit_version"].null_count() == points.height == 10
    assert violations.is_empty()
    points, _ = judge(subgroups(values, site), version("xbar_r"), site, DAY)
    assert points["limit_version"].null_count() == 0

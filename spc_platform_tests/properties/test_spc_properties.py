"""Laws of SPC that hold for any data."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from spc_platform.contracts.spc import SPC_LIMITS
from spc_platform.site.model import BaselinePolicy
from spc_platform.spc.limits import approve, approve_baselines, limit_estimates
from spc_platform.spc.points import judge
from spc_platform.spc.sequence import Spans, merge
from spc_platform_tests.unit.spc_frames import DAY, POOLED, START, XBAR_R, XBAR_S, make_site, subgroups

CHARTS = st.sampled_from([{}, XBAR_R, XBAR_S, POOLED])
SEEDS = st.integers(0, 2**32 - 1)
NONE = SPC_LIMITS.empty()


def values_of(seed: int, size: int, offset: float = 10.0) -> list[float]:
    return (offset + np.random.default_rng(seed).standard_normal(size)).tolist()


@given(CHARTS, SEEDS, st.integers(3, 12), st.integers(1, 60))
@settings(max_examples=40, deadline=None)
def test_freezing_the_first_k_equals_computing_on_the_first_k(chart, seed, k, more):
    size = chart.get("subgroup_size", 1)
    site = make_site(chart, baseline=BaselinePolicy(subgroups=k, individuals=k))
    values = values_of(seed, (k + more) * size)
    frozen = approve_baselines(NONE, subgroups(values, site), site)
    first = subgroups(values[: k * size], site)
    assert_frame_equal(frozen, approve_baselines(NONE, first, site))
    estimate = limit_estimates(first, site)
    assert frozen.select("mu", "sigma", "inputs_hash").rows() == estimate.select("mu", "sigma", "inputs_hash").rows()
    last = first["subgroup_at"].max()
    by_person = approve(
        NONE,
        subgroups(values, site),
        site,
        characteristic_id="bore",
        equipment_id="L1-S1",
        baseline_from=START,
        baseline_to=last,
        approved_by="A. Engineer",
        reason="first k",
        effective_from=START,
    )
    assert by_person.select("mu", "sigma", "inputs_hash").rows() == estimate.select("mu", "sigma", "inputs_hash").rows()


@given(SEEDS, st.lists(st.integers(1, 9), min_size=1, max_size=12), st.sampled_from([0.0, 1e9]))
@settings(max_examples=60, deadline=None)
def test_merging_any_split_gives_the_statistics_of_the_whole(seed, sizes, offset):
    rng = np.random.default_rng(seed)
    whole = offset + rng.integers(-512, 512, sum(sizes)) / 1024
    parts = np.split(whole, np.cumsum(sizes)[:-1])
    n, mean, m2 = merge(
        np.array([len(part) for part in parts], dtype=float),
        np.array([part[0] + np.mean(part - part[0]) for part in parts]),
        np.array([np.sum((part - part[0] - np.mean(part - part[0])) ** 2) for part in parts]),
        Spans(np.array([0]), len(parts)),
    )
    about = whole - offset
    assert n.item() == len(whole)
    assert mean.item() == pytest.approx(offset + about.mean(), abs=1e-9 + 2e-16 * offset)
    assert m2.item() == pytest.approx(
        np.sum((about - about.mean()) ** 2), rel=1e-5 if offset else 1e-10, abs=1e-12 + 1e-15 * offset
    )


@given(CHARTS, SEEDS, st.integers(1, 4), st.integers(30, 90))
@settings(max_examples=30, deadline=None)
def test_a_change_of_unit_changes_no_verdict(chart, seed, power, size):
    """Times a power of two, which is exact: the same z, the same rules, the same violations."""
    site = make_site(chart, baseline=BaselinePolicy(subgroups=4, individuals=20))
    judged = []
    for factor in (1.0, 2.0**power):
        frame = subgroups([factor * value for value in values_of(seed, size * chart.get("subgroup_size", 1))], site)
        limits = approve_baselines(NONE, frame, site)
        points, violations = judge(frame, limits, site, DAY)
        judged.append((points.select("subgroup_id", "panel", "z", "rules"), violations))
    assert_frame_equal(judged[0][0], judged[1][0])
    assert_frame_equal(judged[0][1], judged[1][1])


@given(CHARTS, SEEDS)
@settings(max_examples=25, deadline=None)
def test_judging_day_by_day_with_a_carry_equals_judging_all_at_once(chart, seed):
    site = make_site({**chart, "rule_set": "nelson"}, baseline=BaselinePolicy(subgroups=4, individuals=20))
    size = 90 * chart.get("subgroup_size", 1)
    frame = pl.concat(
        [
            subgroups(values_of(seed + offset, size), site, start=START + timedelta(days=offset), first_record=offset * size)
            for offset in range(3)
        ]
    )
    limits = approve_baselines(NONE, frame, site)
    last = DAY + timedelta(days=2)
    whole, all_violations = judge(frame, limits, site, last)
    carried = frame.filter(pl.col("production_date") >= DAY + timedelta(days=1))
    points, violations = judge(carried, limits, site, last)
    assert_frame_equal(whole, points)
    assert_frame_equal(all_violations, violations)


@given(CHARTS, SEEDS, SEEDS)
@settings(max_examples=25, deadline=None)
def test_the_order_of_rows_changes_no_digit(chart, seed, shuffle):
    site = make_site(chart, baseline=BaselinePolicy(subgroups=4, individuals=20))
    frame = subgroups(values_of(seed, 200), site)
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=shuffle)
    assert_frame_equal(limit_estimates(frame, site), limit_estimates(shuffled, site), check_exact=True)
    assert_frame_equal(approve_baselines(NONE, frame, site), approve_baselines(NONE, shuffled, site), check_exact=True)

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
from spc_platform.spc.sigma import ESTIMATORS, within_sigma
from spc_platform.spc.subgroups import subgroup_statistics
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


SIZES = st.lists(st.integers(1, 12), min_size=1, max_size=30)


def statistics_of(values, sizes):
    spans = Spans(np.cumsum(sizes) - np.asarray(sizes), len(values))
    return subgroup_statistics(values, np.ones(len(values), dtype=bool), spans)


@given(SEEDS, SIZES, st.sampled_from([0.0, 1e3]))
@settings(max_examples=60, deadline=None)
def test_permuting_values_within_their_subgroup_changes_no_statistic(seed, sizes, offset):
    rng = np.random.default_rng(seed)
    values = offset + rng.standard_normal(sum(sizes))
    order = np.lexsort((rng.random(len(values)), np.repeat(np.arange(len(sizes)), sizes)))
    one, other = statistics_of(values, sizes), statistics_of(values[order], sizes)
    for name in ("minimum", "maximum", "median", "range", "n_observed"):
        np.testing.assert_array_equal(one[name], other[name])
    for name in ("mean", "s", "m2"):
        np.testing.assert_allclose(one[name], other[name], rtol=1e-12, atol=1e-12)


@given(SEEDS, SIZES, st.integers(-40, 40), st.integers(-8, 8))
@settings(max_examples=60, deadline=None)
def test_a_change_of_unit_changes_the_statistics_with_it_exactly(seed, sizes, power, steps):
    """Values of 20 bits times a power of two, plus whole steps of it: both are exact, so the figures must be."""
    rng = np.random.default_rng(seed)
    values = rng.integers(-(2**19), 2**19, sum(sizes)) / 2.0**10
    scale = 2.0**power
    one, other = statistics_of(values, sizes), statistics_of(scale * (values + steps), sizes)
    for name in ("minimum", "maximum", "median"):
        np.testing.assert_array_equal(scale * (one[name] + steps), other[name])
    np.testing.assert_array_equal(scale * one["range"], other["range"])
    np.testing.assert_array_equal(scale * scale * one["m2"], other["m2"])
    np.testing.assert_allclose(scale * (one["mean"] + steps), other["mean"], rtol=1e-14, atol=1e-13 * scale)


@given(st.sampled_from(sorted(ESTIMATORS)), SEEDS, st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(-30, 30))
@settings(max_examples=60, deadline=None)
def test_sigma_scales_with_the_unit_and_charts_do_not_touch_each_other(estimator, seed, lengths, power):
    single = estimator in ("mr", "median_mr", "mssd")
    rng = np.random.default_rng(seed)
    charts = np.repeat(np.arange(len(lengths)), lengths)
    sizes = np.ones(len(charts), dtype=int) if single else rng.integers(1, 7, len(charts))
    values = rng.standard_normal(sizes.sum())
    frames = [
        pl.DataFrame(statistics_of(scale * values, sizes))
        .fill_nan(None)
        .with_columns(chart=pl.Series(charts), segment=pl.lit(0), estimator=pl.lit(estimator))
        for scale in (1.0, 2.0**power)
    ]
    one, other = (within_sigma(frame, ["chart"]) for frame in frames)
    assert_frame_equal(
        one.with_columns(pl.col("sigma_within", "sigma_means", "sigma_overall") * 2.0**power).drop("mean", "m2"),
        other.drop("mean", "m2"),
        check_exact=True,
    )
    alone = [within_sigma(frames[0].filter(pl.col("chart") == chart), ["chart"]) for chart in range(len(lengths))]
    assert_frame_equal(one, pl.concat(alone), check_exact=True)

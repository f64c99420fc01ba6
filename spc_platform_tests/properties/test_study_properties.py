"""Laws of studies, and of judging date by date, that hold for any data and every kind of chart."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from spc_platform.contracts.charts import CHARTS
from spc_platform.contracts.spc import SPC_LIMITS
from spc_platform.site.model import BaselinePolicy
from spc_platform.spc.limits import approve_baselines
from spc_platform.spc.points import judge
from spc_platform.spc.study import Plan, study
from spc_platform_tests.unit.spc_frames import DAY, START, make_site, subgroups

VALUE_CHARTS = [name for name, chart in CHARTS.items() if chart.data == "values" and name != "z_mr"]
SUBGROUPED = [name for name in VALUE_CHARTS if CHARTS[name].sizes[1] != 1]
SEEDS = st.integers(0, 2**32 - 1)
JUDGED = ["panel", "number", "sample", "n", "value", "cl", "lcl", "ucl", "standard_error", "z", "rules"]
FOUND = ["panel", "number", "rule", "side", "window"]
FAST = {"max_examples": 8, "deadline": None}


def frame_of(seed, sizes, stages=None):
    """Values on a grid of 2^-10, which sums, shifts and powers of two leave exact."""
    rng = np.random.default_rng(seed)
    place = np.repeat(np.arange(len(sizes)), sizes)
    values = rng.integers(-3000, 3000, len(place)) / 1024 + np.repeat(2.0 * (rng.random(len(sizes)) < 0.15), sizes)
    columns = {} if stages is None else {"stage": np.array(stages)[place].tolist()}
    return pl.DataFrame(
        {
            "row": np.arange(1, len(place) + 1),
            "subgroup": [f"s{number}" for number in place],
            "value": values,
            "nominal": np.zeros(len(place)),
            **columns,
        }
    )


def sizes_for(chart, seed, count):
    return [1] * count if CHARTS[chart].sizes[1] == 1 else np.random.default_rng(seed).integers(2, 7, count).tolist()


def same_points(one, other, rtol=1e-9):
    assert_frame_equal(one.points.select(JUDGED), other.points.select(JUDGED), rel_tol=rtol, abs_tol=1e-11)
    assert one.violations.select(FOUND).rows() == other.violations.select(FOUND).rows()


@given(st.sampled_from(SUBGROUPED), SEEDS, SEEDS)
@settings(**FAST)
def test_the_order_of_rows_within_a_subgroup_changes_nothing(chart, seed, shuffle):
    frame = frame_of(seed, sizes_for(chart, seed, 30))
    order = np.lexsort(
        (np.random.default_rng(shuffle).random(frame.height), frame["subgroup"].str.slice(1).cast(int).to_numpy())
    )
    mixed = frame[order].with_columns(row=frame["row"])
    same_points(study(frame, Plan(chart)), study(mixed, Plan(chart)))


@given(st.sampled_from(VALUE_CHARTS), SEEDS, st.integers(-20, 20), st.integers(-4, 4), st.booleans())
@settings(max_examples=10, deadline=None)
def test_an_affine_change_of_unit(chart, seed, power, steps, has_stages):
    """x -> 2^power x + shift, exact here: limits, centre and sigma follow; z, violations, Cp and Cpk stay."""
    sizes = sizes_for(chart, seed, 40)
    scale = 2.0**power
    shift = scale * steps
    frame = frame_of(seed, sizes, ["a"] * 20 + ["b"] * 20 if has_stages else None)
    other = frame.with_columns(pl.col("value") * scale + shift)
    is_deviation = chart.startswith("dnom")
    if is_deviation:
        other = other.with_columns(nominal=pl.lit(shift))
    limits = {"lsl": -4.0, "usl": 5.0}
    origin = 0.0 if is_deviation else shift
    one = study(frame, Plan(chart, rules="nelson", **limits))
    two = study(other, Plan(chart, rules="nelson", **{name: scale * value + shift for name, value in limits.items()}))
    for a, b in zip(one.stages, two.stages, strict=True):
        assert b["centre"] == pytest.approx(scale * a["centre"] + origin, rel=1e-12, abs=1e-12 * scale)
        assert b["sigma"] == pytest.approx(scale * a["sigma"], rel=1e-12)
        for name in ("cp", "cpk", "pp", "ppk"):
            assert b["capability"][name] == pytest.approx(a["capability"][name], rel=1e-9)
    assert one.violations.select(FOUND).rows() == two.violations.select(FOUND).rows()
    np.testing.assert_allclose(two.points["z"].to_numpy(), one.points["z"].to_numpy(), rtol=1e-9, atol=1e-9)
    if chart != "cusum":
        moved = pl.when((pl.col("panel") == "location") & pl.lit(not is_deviation)).then(shift).otherwise(0.0)
        for name in ("value", "cl", "lcl", "ucl"):
            expected = one.points.select((scale * pl.col(name) + moved).alias(name))[name]
            np.testing.assert_allclose(
                two.points[name].cast(float).to_numpy(), expected.to_numpy(), rtol=1e-9, atol=1e-9 * scale
            )


@given(st.sampled_from(VALUE_CHARTS), SEEDS, st.integers(5, 25))
@settings(**FAST)
def test_a_baseline_of_the_first_k_equals_a_study_of_them_alone(chart, seed, k):
    sizes = sizes_for(chart, seed, 40)
    frame = frame_of(seed, sizes)
    frozen = study(frame, Plan(chart, baseline=(1, k)))
    alone = study(frame.head(sum(sizes[:k])), Plan(chart))
    for name in ("centre", "sigma", "nu", "n_subgroups", "n_values", "estimator"):
        assert frozen.stages[0][name] == alone.stages[0][name]
    first = frozen.points.filter(pl.col("number") <= k).select(JUDGED).drop("rules")
    assert_frame_equal(first, alone.points.select(JUDGED).drop("rules"), check_exact=True)


@given(st.sampled_from([name for name in CHARTS if name not in ("t2", "mewma", "z_mr")]), SEEDS, st.integers(15, 30))
@settings(max_examples=12, deadline=None)
def test_two_stages_are_two_studies(chart, seed, cut):
    kind = CHARTS[chart]
    rng = np.random.default_rng(seed)
    if kind.data == "values":
        sizes = sizes_for(chart, seed, 50)
        whole, rows = frame_of(seed, sizes, ["a"] * cut + ["b"] * (50 - cut)), sum(sizes[:cut])
    else:
        name = "count" if kind.data == "counts" else "value"
        found = rng.integers(1, 12, 50).astype(float)
        whole, rows = pl.DataFrame({"row": range(1, 51), name: found, "stage": ["a"] * cut + ["b"] * (50 - cut)}), cut
        if kind.data == "counts":
            whole = whole.with_columns(size=pl.Series(rng.integers(20, 60, 50).astype(float)))
    together = study(whole, Plan(chart))
    apart = [study(part, Plan(chart)) for part in (whole[:rows], whole[rows:])]
    assert [s["centre"] for s in together.stages] == [s.stages[0]["centre"] for s in apart]
    assert [s["sigma"] for s in together.stages] == [s.stages[0]["sigma"] for s in apart]
    moved = [(part.points, part.violations, place * cut) for place, part in enumerate(apart)]
    columns = [name for name in JUDGED if name not in ("number", "sample")]
    joined = pl.concat([points.with_columns(pl.col("number") + by) for points, _, by in moved]).sort("panel", "number")
    assert_frame_equal(
        together.points.sort("panel", "number").select("number", *columns), joined.select("number", *columns), check_exact=True
    )
    found = {
        (panel, number + by, rule, side, tuple(n + by for n in window))
        for _, violations, by in moved
        for panel, number, rule, side, window in violations.select(FOUND).rows()
    }
    assert {(*row, tuple(window)) for *row, window in together.violations.select(FOUND).rows()} == found


DAILY = {
    "i_mr": {},
    "xbar_r": {"subgrouping": "consecutive", "subgroup_size": 3, "estimator": "rbar"},
    "xbar_s": {"subgrouping": "consecutive", "subgroup_size": 4, "estimator": "pooled"},
    "median_r": {"subgrouping": "consecutive", "subgroup_size": 3, "estimator": "rbar"},
    "i_mr_r": {"subgrouping": "consecutive", "subgroup_size": 3, "estimator": "rbar"},
    "ewma": {"weight": 0.1},
    "cusum": {"reference": 0.5, "decision": 4.0, "head_start": 0.5},
    "moving_average": {"span": 5},
}


@pytest.mark.parametrize("chart", sorted(DAILY))
@given(seed=SEEDS, days=st.integers(3, 6), carry=st.integers(2, 3))
@settings(max_examples=6, deadline=None)
def test_judging_date_by_date_equals_one_run(chart, seed, days, carry):
    """Each date is judged from itself and the ``carry`` dates before it; the points and windows are those of one run."""
    given = {"chart": chart, "rule_set": "nelson", **DAILY[chart]}
    site = make_site(given, carry_days=carry, baseline=BaselinePolicy(subgroups=12, individuals=30))
    size = given.get("subgroup_size", 1)
    rng = np.random.default_rng(seed)
    per_day = 16 * size
    frames = [
        subgroups(
            (10 + rng.standard_normal(per_day) + (rng.random() < 0.4)).tolist(),
            site,
            start=START + timedelta(days=offset),
            first_record=offset * per_day,
            every_s=600.0 / size,
        )
        for offset in range(days)
    ]
    frame = pl.concat(frames)
    limits = approve_baselines(SPC_LIMITS.empty(), frame, site)
    assume(limits.height == 1)
    dates = [DAY + timedelta(days=offset) for offset in range(days)]
    whole, all_violations = judge(frame, limits, site, dates[-1], since=dates[0])
    daily = [
        judge(frame.filter(pl.col("production_date").is_between(day - timedelta(days=carry), day)), limits, site, day)
        for day in dates
    ]
    assert_frame_equal(whole, pl.concat([points for points, _ in daily]), check_row_order=False, check_exact=True)
    assert_frame_equal(all_violations, pl.concat([found for _, found in daily]), check_row_order=False, check_exact=True)
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=seed % 1000)
    again, _ = judge(shuffled, limits, site, dates[-1], since=dates[0])
    assert_frame_equal(whole, again, check_exact=True)

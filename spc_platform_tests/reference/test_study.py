"""Studies against charts drawn a second time by plain loops (``study_oracle``): every kind of chart, point by point."""

import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy import stats

from spc_platform.contracts.charts import CHARTS
from spc_platform.spc.study import Plan, study
from spc_platform_tests.reference import study_oracle as oracle
from spc_platform_tests.reference.study_oracle import Asked, Sample

PLAN_OF = {"head": "head_start"}
SETS = ("western_electric", "nelson", "aiag", "montgomery")
MISSING = None


def frame_of(groups, stages=None, parts=None, nominal=None):
    """One row per value; ``groups`` lists of values (None: missing), labelled by their place."""
    rows = [
        {
            "value": value,
            "subgroup": f"s{place}",
            "stage": None if stages is None else stages[place],
            "part": None if parts is None else parts[place],
            "nominal": nominal,
        }
        for place, group in enumerate(groups)
        for value in group
    ]
    schema = {"value": pl.Float64, "subgroup": pl.String, "stage": pl.String, "part": pl.String, "nominal": pl.Float64}
    frame = pl.DataFrame(rows, schema=schema).with_columns(row=pl.int_range(1, pl.len() + 1, dtype=pl.Int64))
    return frame.drop([name for name, given in (("part", parts), ("nominal", nominal)) if given is None])


def samples_of(groups, stages=None, parts=None, baseline=None, excluded=()):
    """The same groups as the oracle takes them: those without a value are gone, their number stays."""
    found, stage, position = [], 0, 0
    for place, group in enumerate(groups):
        new = place == 0 or (stages is not None and stages[place] != stages[place - 1])
        stage, position = (stage + 1, 1) if new else (stage, position + 1)
        inside = baseline is None or baseline[0] <= position <= baseline[1]
        values = tuple(v for v in group if v is not None)
        part = "" if parts is None else parts[place]
        if values:
            found.append(Sample(place + 1, stage, values, part=part, included=inside and f"s{place}" not in excluded))
    return found


def plan_of(chart, asked, **more):
    settings = {PLAN_OF.get(name, name): value for name, value in vars(asked).items()}
    if chart not in ("cusum", "mewma"):
        settings["decision"] = None
    return Plan(chart, **(settings | more))


def agree(got, expected, name, rounding=0.0, scale=0.0):
    """Equal to 1e-9 of the value's own scale, and to the rounding of a common offset."""
    if expected is None or math.isinf(expected):
        assert got is None or math.isinf(got), (name, got, expected)
        return
    assert got is not None, (name, expected)
    assert abs(got - expected) <= 1e-9 * (scale or abs(expected)) + 4 * (rounding or math.ulp(expected)), (name, got, expected)


def compare(chart, found, result, samples, asked, rule_set="nelson"):
    """Centre, sigma, every point of every panel, and the violations with their windows.

    A mean at an offset of 1e9 is a float64 and so rounded to 1.2e-7: moving ranges of subgroup means carry that rounding,
    and a CUSUM adds up that of its centre, once per point.
    """
    largest = max((s.n for s in samples), default=1)
    ulp = math.ulp(max((abs(v) for s in samples for v in s.values), default=0.0))
    stage_of = {s.number: s.stage for s in samples}
    for number, stage in enumerate(result.stages, start=1):
        if chart == "np":
            agree(stage["proportion"], found.centre[number], "proportion")
        elif found.centre.get(number) is not None:
            agree(stage["centre"], found.centre[number], "centre", scale=found.sigma.get(number) or 0.0)
        if number in found.sigma:
            agree(stage["sigma"], found.sigma[number], "sigma")
            if not math.isnan(found.nu[number]):
                agree(stage["nu"], found.nu[number], "nu")
    of_means = chart in ("i_mr_r", "i_mr_s")
    panels = {panel for panel, points in found.points.items() if points}
    assert set(result.points["panel"].unique()) == panels
    for panel in panels:
        rows = {row["number"]: row for row in result.points.filter(panel=panel).iter_rows(named=True)}
        assert sorted(rows) == sorted(found.points[panel])
        for number, (value, cl, lcl, ucl, error, z) in found.points[panel].items():
            row = rows[number]
            # on a dispersion panel offsets are gone; on a location panel a limit is as exact as its own rounding
            large = max(abs(v) for v in (value, cl, lcl, ucl) if v is not None and not math.isinf(v))
            scale = error if error is not None and panel == "location" and large > 1e3 * error else large
            carried = 4 * ulp if of_means and panel != "within" else 0.0
            if chart == "cusum":
                carried = number * ulp / (found.sigma[stage_of[number]] / math.sqrt(largest))
            for name, expected in (("value", value), ("cl", cl), ("lcl", lcl), ("ucl", ucl)):
                agree(row[name], expected, (panel, number, name), max(math.ulp(large), carried), scale)
            if error is not None:
                agree(row["standard_error"], error, (panel, number, "error"), carried)
            if z is not None:
                rounding = 4 * max(math.ulp(large), carried) / error if error else 0.0
                assert row["z"] == pytest.approx(z, rel=1e-9, abs=1e-9 + rounding), (panel, number, "z")
    width = asked.decision if chart == "cusum" else asked.k
    expected = oracle.violations(chart, found, stage_of, rule_set, width)
    rows = result.violations.select("panel", "number", "rule", "side", "window").rows()
    got = [(panel, number, rule, side, tuple(window)) for panel, number, rule, side, window in rows]
    assert len(got) == len(set(got))
    assert set(got) == expected
    return expected


def noise(seed, sizes, offset=10.0, scale=1.0):
    """Groups of normal values with a shift, a trend, an alternation and a spike, so that every rule has work."""
    rng = np.random.default_rng(seed)
    groups = [rng.standard_normal(size) for size in sizes]
    third = max(len(sizes) // 6, 1)
    for place, group in enumerate(groups):
        if third <= place < 2 * third:
            group += 1.6
        elif 2 * third <= place < 3 * third:
            group += 0.35 * (place - 2.5 * third)
        elif 3 * third <= place < 4 * third:
            group *= 0.2
            group += 1.3 * (-1) ** place
    groups[len(sizes) // 2] += 5.0
    return [(offset + scale * group).tolist() for group in groups]


def with_gaps(groups, seed):
    """Some values missing, one subgroup without any."""
    rng = np.random.default_rng(seed + 1)
    hollow = [[None if rng.random() < 0.06 else value for value in group] for group in groups]
    hollow[len(groups) // 3] = [None] * len(groups[len(groups) // 3])
    return hollow


GROUPED = ("xbar_r", "xbar_s", "median_r", "i_mr_r", "i_mr_s", "ewma", "cusum", "moving_average", "dnom")
SINGLE = ("i_mr", "dnom_i_mr", "ewma", "cusum", "moving_average")
OFFSETS = [(10.0, 1.0), (1e9, 1e-3), (0.0, 1e-12)]
UNEQUAL = [int(n) for n in np.random.default_rng(7).integers(1, 8, 60)]
NOMINAL = 9.5


def run(chart, groups, asked, rule_set="nelson", *, stages=None, baseline=None, excluded=None, parts=None):
    nominal = NOMINAL if chart.startswith("dnom") else None
    excluded = excluded or {}
    samples = samples_of(groups, stages, parts, baseline, excluded)
    if nominal is not None:
        samples = oracle.shifted(samples, nominal)
    plan = plan_of(chart, asked, rules=rule_set, baseline=baseline, excluded=excluded)
    if CHARTS[chart].panels[0].statistic in ("ewma", "cusum_upper", "moving_average"):
        rule_set = "nelson"
        plan = replace(plan, rules="nelson")
    result = study(frame_of(groups, stages, parts, nominal), plan)
    return compare(chart, oracle.charted(chart, samples, asked), result, samples, asked, rule_set)


@pytest.mark.parametrize("offset", OFFSETS, ids=str)
@pytest.mark.parametrize("chart", GROUPED)
def test_subgroups_of_varying_size(chart, offset):
    """n from 1 to 7, some values missing, one subgroup empty; the offset costs no digit of what it should not."""
    if chart == "dnom" and offset[0] != 10.0:
        offset = (NOMINAL, offset[1])
    run(chart, with_gaps(noise(1, UNEQUAL, *offset), 1), Asked())


@pytest.mark.parametrize("offset", OFFSETS, ids=str)
@pytest.mark.parametrize("chart", SINGLE)
def test_single_values_with_gaps(chart, offset):
    if chart == "dnom_i_mr" and offset[0] != 10.0:
        offset = (NOMINAL, offset[1])
    run(chart, with_gaps(noise(2, [1] * 90, *offset), 2), Asked())


@pytest.mark.parametrize("estimator", ["rbar", "sbar", "pooled"])
@pytest.mark.parametrize("chart", ["xbar_r", "xbar_s", "median_r", "i_mr_s", "ewma", "cusum"])
def test_every_estimator_of_unequal_subgroups(chart, estimator):
    run(chart, noise(3, UNEQUAL), Asked(estimator=estimator, k=2.5), "western_electric")


@pytest.mark.parametrize("span", [2, 3])
@pytest.mark.parametrize("estimator", ["mr", "median_mr", "mssd"])
def test_every_estimator_of_single_values(estimator, span):
    run("i_mr", with_gaps(noise(4, [1] * 60), 4), Asked(estimator=estimator, span=span))


@pytest.mark.parametrize("rule_set", SETS)
@pytest.mark.parametrize("seed", range(4))
def test_violations_and_windows_of_every_set(rule_set, seed):
    found = run("i_mr", noise(10 + seed, [1] * 120), Asked(), rule_set)
    assert len(found) > 10
    run("xbar_s", noise(20 + seed, UNEQUAL), Asked(k=2.5), rule_set)


def test_the_injected_faults_reach_every_rule():
    found = set()
    for seed in range(30):
        rules = {rule for _, _, rule, *_ in run("i_mr", noise(seed, [1] * 160), Asked(sigma=0.9, mu=10.0), "nelson")}
        found |= rules
    assert found == {f"nelson_{number}" for number in range(1, 9)}


STAGES = ["a"] * 20 + ["b"] * 25 + ["a"] * 15


@pytest.mark.parametrize("chart", GROUPED)
def test_stages_whose_label_comes_back(chart):
    """A label that returns is a stage of its own; no window, range or memory reaches across."""
    run(chart, noise(5, UNEQUAL), Asked(), stages=STAGES)


@pytest.mark.parametrize("chart", GROUPED)
def test_a_baseline_with_exclusions(chart):
    excluded = {"s3": "tool broke", "s17": "wrong gauge"}
    run(chart, noise(6, UNEQUAL), Asked(), baseline=(1, 25), excluded=excluded)


@pytest.mark.parametrize("chart", [name for name in (*GROUPED, "i_mr") if name not in ("i_mr_r", "i_mr_s")])
def test_historical_parameters(chart):
    sizes = [1] * 60 if chart == "i_mr" else UNEQUAL
    run(chart, noise(8, sizes), Asked(mu=10.2 if chart != "dnom" else 0.7, sigma=1.1, k=2.5))


@pytest.mark.parametrize("weight", [0.05, 0.4, 1.0])
def test_ewma_has_the_exact_variance_of_varying_n(weight):
    run("ewma", noise(9, UNEQUAL), Asked(weight=weight, k=2.7), stages=STAGES)


@pytest.mark.parametrize("head", [0.0, 0.5])
def test_cusum_with_fast_initial_response(head):
    run("cusum", noise(11, [1] * 60), Asked(head=head, reference=0.4, decision=4.0), stages=STAGES)


@pytest.mark.parametrize("span", [2, 3, 7])
def test_moving_average_of_unequal_subgroups(span):
    run("moving_average", noise(12, UNEQUAL), Asked(span=span), stages=STAGES)


@pytest.mark.parametrize("pooling", ["constant", "relative", "by_part", "by_run"])
def test_z_mr_by_every_way_to_sigma(pooling):
    rng = np.random.default_rng(13)
    parts = np.repeat(rng.choice(["small", "wide", "long"], 20), 4).tolist()
    size = {"small": 10.0, "wide": 25.0, "long": 90.0}
    groups = [[size[part] * (1 + 0.02 * rng.standard_normal())] for part in parts]
    groups[30] = [MISSING]
    run("z_mr", groups, Asked(pooling=pooling), parts=parts)


@pytest.mark.parametrize("pooling", ["constant", "by_part"])
def test_z_mr_at_an_offset_of_1e9_keeps_its_digits(pooling):
    """z is a difference of the values themselves: rounding of a part's mean must not reach it."""
    rng = np.random.default_rng(14)
    parts = ["a"] * 20 + ["b"] * 20
    groups = [[1e9 + round(rng.standard_normal() * 1e3) / 1024 / 1024] for _ in parts]
    samples = samples_of(groups, parts=parts)
    found = oracle.charted("z_mr", samples, Asked(pooling=pooling))
    result = study(frame_of(groups, parts=parts), Plan("z_mr", pooling=pooling))
    for row in result.points.filter(panel="location").iter_rows(named=True):
        assert row["z"] == pytest.approx(found.points["location"][row["number"]][5], rel=1e-9, abs=1e-9)


COUNT_CHARTS = ("p", "np", "c", "u", "laney_p", "laney_u")


def counted(seed, rows=60):
    rng = np.random.default_rng(seed)
    size = rng.integers(40, 400, rows)
    count = rng.binomial(size, np.where(np.arange(rows) % 20 < 9, 0.11, 0.06))
    return count.astype(float).tolist(), size.astype(float).tolist()


@pytest.mark.parametrize("staged", [False, True])
@pytest.mark.parametrize("rule_set", SETS)
@pytest.mark.parametrize("chart", COUNT_CHARTS)
def test_counts_of_varying_size(chart, rule_set, staged):
    count, size = counted(15)
    if chart in ("c", "np"):
        size = [150.0] * 60
        count = [min(value, 40.0) for value in count]
    size[22] = 0.0 if chart != "c" else 150.0
    count[22] = 0.0
    stages = STAGES if staged else [None] * 60
    count = [None if place == 41 else value for place, value in enumerate(count)]
    frame = pl.DataFrame(
        {"row": range(1, 61), "count": count, "size": size, "stage": stages}, schema_overrides={"stage": pl.String}
    )
    baseline = None if staged else (1, 40)
    result = study(frame, Plan(chart, rules=rule_set, baseline=baseline))
    stage_numbers = 1 + np.cumsum([i > 0 and stages[i] != stages[i - 1] for i in range(60)])
    samples = [
        Sample(i + 1, int(stage_numbers[i]), count=count[i], size=size[i], included=baseline is None or i < 40)
        for i in range(60)
        if count[i] is not None and size[i]
    ]
    compare(chart, oracle.charted(chart, samples, Asked()), result, samples, Asked(), rule_set)


@pytest.mark.parametrize("chart", ["p", "u", "c", "np"])
def test_a_historical_centre_of_counts(chart):
    count, size = counted(16)
    if chart == "c":
        size = [1.0] * 60
    mu = 9.5 if chart == "c" else 0.08
    frame = pl.DataFrame({"row": range(1, 61), "count": count, "size": size})
    samples = [Sample(i + 1, 1, count=count[i], size=size[i]) for i in range(60)]
    asked = Asked(mu=mu, k=2.5)
    compare(chart, oracle.charted(chart, samples, asked), study(frame, Plan(chart, mu=mu, k=2.5)), samples, asked)


@pytest.mark.parametrize(("chart", "estimator"), [("g", None), ("t", "nelson"), ("t", "exponential"), ("t", "weibull")])
def test_rare_events(chart, estimator):
    rng = np.random.default_rng(17)
    values = rng.geometric(0.02, 70) - 1.0 if chart == "g" else 40.0 * rng.weibull(1.4, 70)
    groups = [[float(value)] for value in values]
    groups[33], groups[50] = [MISSING], [900.0]
    run(chart, groups, Asked(estimator=estimator), stages=["a"] * 30 + ["b"] * 40)
    run(chart, groups, Asked(estimator=estimator, k=2.5), baseline=(1, 45))


# vectors


def vectors(seed, rows, p=3):
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((p, p)) + 2 * np.eye(p)
    return 50 + rng.standard_normal((rows, p)) @ mix


def vector_frame(x, **columns):
    names = "abcdefg"[: x.shape[1]]
    return pl.DataFrame({"row": range(1, len(x) + 1), **{f"v:{name}": x[:, j] for j, name in enumerate(names)}, **columns})


@pytest.mark.parametrize("phase", [1, 2])
def test_t2_of_single_vectors(phase):
    """Tracy, Young, Mason (1992): beta limits in phase I, F limits in phase II."""
    x = vectors(18, 60)
    base = x[:40]
    mean, inverse, m, p = base.mean(axis=0), np.linalg.inv(np.cov(base.T)), 40, 3
    result = study(vector_frame(x), Plan("t2", baseline=(1, 40), phase=phase))
    alpha = 2 * stats.norm.sf(3.0)
    beta = (m - 1) ** 2 / m * stats.beta.isf(alpha, p / 2, (m - p - 1) / 2)
    f = p * (m + 1) * (m - 1) / (m * (m - p)) * stats.f.isf(alpha, p, m - p)
    for row in result.points.iter_rows(named=True):
        d = x[row["number"] - 1] - mean
        assert row["value"] == pytest.approx(d @ inverse @ d, rel=1e-9)
        limit = beta if phase == 1 and row["number"] <= 40 else f
        assert row["ucl"] == pytest.approx(limit, rel=1e-9)
        assert (row["z"] > 3.0) == (row["value"] > limit)


@pytest.mark.parametrize("phase", [1, 2])
def test_t2_of_subgroups_with_a_vector_missing(phase):
    """Montgomery 11.3 with unequal n: p nu/(nu-p+1) (1 -+ n_i/N) F; a missing vector leaves its own subgroup smaller."""
    x, p = vectors(19, 100), 3
    x[7, 1] = np.nan
    frame = vector_frame(x).with_columns(pl.col("^v:.*$").fill_nan(None))
    groups = [x[start : start + 5] for start in range(0, 100, 5)]
    groups = [g[np.isfinite(g).all(axis=1)] for g in groups]
    nu = sum(len(g) - 1 for g in groups)
    pooled = sum((g - g.mean(axis=0)).T @ (g - g.mean(axis=0)) for g in groups) / nu
    total = sum(map(len, groups))
    grand = sum(g.sum(axis=0) for g in groups) / total
    alpha, sign = 2 * stats.norm.sf(3.0), -1 if phase == 1 else 1
    by_size = study(frame, Plan("t2", size=5, phase=phase)).points
    by_label = study(frame.with_columns(subgroup=pl.Series([f"s{i // 5}" for i in range(100)])), Plan("t2", phase=phase)).points
    for points in (by_size, by_label):
        assert points["n"].to_list() == [len(g) for g in groups]
        for g, row in zip(groups, points.iter_rows(named=True), strict=True):
            d, n = g.mean(axis=0) - grand, len(g)
            assert row["value"] == pytest.approx(n * d @ np.linalg.inv(pooled) @ d, rel=1e-9)
            limit = p * nu / (nu - p + 1) * (1 + sign * n / total) * stats.f.isf(alpha, p, nu - p + 1)
            assert row["ucl"] == pytest.approx(limit, rel=1e-9)


def test_interleaved_labels_of_vectors_form_one_subgroup_each():
    x = vectors(20, 40)
    labels = pl.Series([f"s{i % 10}" for i in range(40)])
    points = study(vector_frame(x, subgroup=labels), Plan("t2")).points
    assert points["sample"].to_list() == [f"s{i}" for i in range(10)]
    assert points["n"].to_list() == [4.0] * 10


@pytest.mark.parametrize("weight", [0.1, 0.35, 1.0])
def test_mewma_with_the_covariance_at_each_point(weight):
    x = vectors(21, 50)
    x[30:] += 4.0
    mean, covariance = x[:30].mean(axis=0), np.cov(x[:30].T)
    stages = ["a"] * 50
    result = study(vector_frame(x, stage=pl.Series(stages)), Plan("mewma", baseline=(1, 30), weight=weight, decision=10.0))
    w = np.zeros(3)
    beyond = []
    for i, row in enumerate(result.points.iter_rows(named=True), start=1):
        w = weight * (x[i - 1] - mean) + (1 - weight) * w
        spread = weight / (2 - weight) * (1 - (1 - weight) ** (2 * i)) * covariance
        expected = w @ np.linalg.solve(spread, w)
        assert row["value"] == pytest.approx(expected, rel=1e-9)
        beyond += [i] if expected > 10.0 else []
    assert result.violations["number"].to_list() == beyond
    assert beyond
    assert result.violations["window"].to_list() == [[number] for number in beyond]


@pytest.mark.parametrize("seed", [22, 23])
def test_t2_of_tiny_values_at_an_offset(seed):
    rng = np.random.default_rng(seed)
    steps = rng.integers(-512, 513, (50, 2)).astype(float)
    one = study(vector_frame(steps), Plan("t2")).points
    other = study(vector_frame(1e9 + steps / 1024 / 1024), Plan("t2")).points
    np.testing.assert_allclose(other["value"].to_numpy(), one["value"].to_numpy(), rtol=1e-9)
    np.testing.assert_allclose(
        study(vector_frame(steps * 1e-12), Plan("t2")).points["value"].to_numpy(), one["value"].to_numpy(), rtol=1e-9
    )


def test_every_kind_of_chart_is_checked_here():
    tested = {*GROUPED, *SINGLE, *COUNT_CHARTS, "g", "t", "z_mr", "t2", "mewma"}
    assert set(CHARTS) == tested

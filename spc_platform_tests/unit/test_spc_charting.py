"""Many charts in one frame of samples: each is charted and judged as if it were alone."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from spc_platform.contracts.charts import CHARTS, PANELS, STATISTICS
from spc_platform.contracts.spc import SPC_LIMITS
from spc_platform.site.model import BaselinePolicy
from spc_platform.spc.charting import PANEL_POINTS, chart_parameters, chart_points, chart_signals, starts, window_members
from spc_platform.spc.limits import approve_baselines
from spc_platform.spc.points import judge
from spc_platform.spc.rule_sets import RULE_SETS
from spc_platform.spc.sequence import Spans
from spc_platform.spc.subgroups import subgroup_statistics
from spc_platform_tests.unit.spc_frames import DAY, START, make_site, subgroups

KINDS = [name for name, chart in CHARTS.items() if chart.data != "vectors" and name != "z_mr"]
OUT = ["chart_index", "sample", "panel", "statistic", "n_observed", "value", "cl", "lcl", "ucl", "standard_error", "z", "width"]


def samples_of(chart, index, seed, rows=40, **settings):
    """Samples of one chart of any kind; ``settings`` are columns."""
    rng = np.random.default_rng(seed)
    kind = CHARTS[chart]
    frame = pl.DataFrame({"chart": [chart] * rows, "sample": np.arange(rows), "chart_index": [index] * rows})
    frame = frame.with_columns(segment=pl.lit(index), estimator=pl.lit(kind.estimators[0]), rule_set=pl.lit("nelson"))
    if kind.data == "values":
        sizes = np.ones(rows, dtype=int) if kind.sizes[1] == 1 or kind.name in ("ewma", "cusum") else rng.integers(2, 6, rows)
        values = rng.standard_normal(sizes.sum()) + np.repeat(3.0 * (rng.random(rows) < 0.1), sizes)
        spans = Spans(np.cumsum(sizes) - sizes, len(values))
        found = subgroup_statistics(values, np.ones(len(values), dtype=bool), spans)
        statistics = pl.DataFrame({name: pl.Series(array) for name, array in found.items()}).with_columns(
            pl.col(pl.Float64).fill_nan(None)
        )
        if kind.name in ("ewma", "cusum"):
            frame = frame.with_columns(estimator=pl.lit("mr"))
        frame = pl.concat([frame, statistics], how="horizontal")
    elif kind.data == "counts":
        size = rng.integers(50, 200, rows).astype(float)
        count = rng.binomial(size.astype(int), 0.08).astype(float)
        frame = frame.with_columns(count=pl.Series(count), size=pl.Series(size), n_observed=pl.Series(size.astype(int)))
        frame = frame.with_columns(mean=pl.col("count") / pl.col("size"))
    else:
        frame = frame.with_columns(
            mean=pl.Series(rng.integers(1, 60, rows).astype(float)), n_observed=pl.lit(1, dtype=pl.Int64)
        )
    return frame.with_columns(**{name: pl.lit(value) for name, value in settings.items()})


def charted(samples):
    parameters = chart_parameters(samples, ["chart_index"])
    if "sigma_means" not in parameters.columns:
        parameters = parameters.with_columns(sigma_means=pl.lit(None, dtype=pl.Float64))
    joined = samples.join(
        parameters.select("chart_index", "mu", "sigma", "sigma_means"), on="chart_index", maintain_order="left"
    )
    points = chart_points(joined)
    signals = chart_signals(points, RULE_SETS)
    named = points.select("chart_index", "panel", "sample")[signals["point"]]
    windows = window_members(signals, points["sample"])
    found = pl.concat([named, signals.select("rule", "side")], how="horizontal").with_columns(window=windows)
    return parameters, points.select(OUT), found


def test_every_kind_of_chart_beside_all_others_is_as_if_it_were_alone():
    own = {name: samples_of(name, index, index) for index, name in enumerate(KINDS)}
    _, points, found = charted(pl.concat(own.values(), how="diagonal_relaxed"))
    keys = ["chart_index", "panel", "sample"]
    for index, name in enumerate(KINDS):
        _, alone, alone_found = charted(own[name])
        assert alone.height >= 39, name
        assert_frame_equal(points.filter(chart_index=index).sort(keys), alone.sort(keys), check_exact=True)
        rows = found.filter(chart_index=index)
        assert rows.sort([*keys, "rule"]).rows() == alone_found.sort([*keys, "rule"]).rows()


def test_every_panel_of_every_chart_has_its_points():
    for index, (name, chart) in enumerate(CHARTS.items()):
        assert {panel.name for panel in chart.panels} <= set(PANELS)
        assert {panel.statistic for panel in chart.panels} <= set(STATISTICS)
        if name in KINDS:
            _, points, _ = charted(samples_of(name, index, 5))
            assert points.group_by("panel", "statistic").len().height == len(chart.panels)
    made = {panel.statistic for chart in CHARTS.values() if chart.data != "vectors" for panel in chart.panels}
    assert made == set(PANEL_POINTS)


def test_charts_of_one_kind_keep_their_own_settings():
    spans = {0: None, 1: 3, 2: 5}
    own = [samples_of("moving_average", index, 30, span=span, k=2.0 + index) for index, span in spans.items()]
    own = [frame.with_columns(pl.col("span").cast(pl.Int64)) for frame in own]
    _, points, _ = charted(pl.concat(own))
    for index, frame in enumerate(own):
        _, alone, _ = charted(frame)
        both = (points.filter(chart_index=index).sort("sample"), alone.sort("sample"))
        assert_frame_equal(*both, check_exact=True)
    assert points["width"].unique().sort().to_list() == [2.0, 3.0, 4.0]
    one, three = (points.filter(chart_index=index)["value"].to_list() for index in (0, 1))
    assert one == three  # a moving average has three means unless the chart says otherwise


def test_sigma_of_moving_ranges_follows_the_span_of_its_panel():
    """With nothing left out, the mean moving range of the panel is its centre line."""
    for span in (None, 2, 3, 6):
        frame = samples_of("i_mr", 0, 31).with_columns(span=pl.lit(span, dtype=pl.Int64))
        parameters, points, _ = charted(frame)
        ranges = points.filter(panel="dispersion")
        assert ranges.height == 40 - (span or 2) + 1
        assert ranges["value"].mean() == pytest.approx(ranges["cl"][0], rel=1e-12)
        assert parameters["nu"].item() == ranges.height


def test_the_span_of_a_moving_average_is_none_of_its_sigma():
    plain = samples_of("moving_average", 0, 32).with_columns(estimator=pl.lit("rbar"))
    sigma = chart_parameters(plain, ["chart_index"])["sigma"].item()
    wide = plain.with_columns(span=pl.lit(7, dtype=pl.Int64))
    assert chart_parameters(wide, ["chart_index"])["sigma"].item() == sigma
    single = samples_of("ewma", 0, 32).with_columns(chart=pl.lit("moving_average"))
    ranges = chart_parameters(single, ["chart_index"])["sigma"].item()
    assert chart_parameters(single.with_columns(span=pl.lit(7, dtype=pl.Int64)), ["chart_index"])["sigma"].item() == ranges


def test_a_sample_without_values_has_no_point_and_no_range_reaches_across_it():
    frame = samples_of("i_mr", 0, 33).with_columns(
        pl.when(pl.col("sample") != 10).then("mean").alias("mean"),
        n_observed=pl.when(pl.col("sample") != 10).then(1).otherwise(0).cast(pl.Int64),
    )
    points = chart_points(frame.with_columns(mu=pl.lit(0.0), sigma=pl.lit(1.0)))
    assert 10 not in points["sample"].to_list()
    ranges = points.filter(panel="dispersion")["sample"].to_list()
    assert ranges == [number for number in range(1, 40) if number not in (10, 11)]
    ewma = frame.with_columns(chart=pl.lit("ewma"), mu=pl.lit(0.0), sigma=pl.lit(1.0))
    assert chart_points(ewma)["sample"].to_list() == [number for number in range(40) if number != 10]


def test_points_without_parameters_have_no_limits_and_trigger_nothing():
    frame = samples_of("xbar_r", 0, 34).with_columns(mu=pl.lit(None, dtype=pl.Float64), sigma=pl.lit(None, dtype=pl.Float64))
    points = chart_points(frame)
    assert points["value"].null_count() == 0
    assert points["ucl"].null_count() == points.height
    assert chart_signals(points, RULE_SETS).is_empty()


def test_no_samples_no_points():
    frame = samples_of("i_mr", 0, 35).clear().with_columns(mu=pl.lit(0.0), sigma=pl.lit(1.0))
    assert chart_points(frame).is_empty()


def test_starts_flags_changes_and_the_first_row():
    frame = pl.DataFrame({"a": [None, None, 1, 1, 2], "b": [0, 0, 0, 1, 1]})
    assert starts(frame, ["a"]).tolist() == [True, False, True, False, True]
    assert starts(frame, ["a", "b"]).tolist() == [True, False, True, True, True]
    assert starts(frame.clear(), ["a"]).tolist() == []


@pytest.mark.parametrize("span", [None, 3])
def test_a_moving_range_counts_the_masked_values_that_it_rests_on(span):
    """The first pair of a segment too: its first value has no moving range of its own."""
    site = make_site({"span": span}, baseline=BaselinePolicy(individuals=3))
    masked = [1, 0, 0, 0, 0, 0, 1]
    frame = subgroups([10.0, 11.0, 10.5, 10.2, 11.3, 10.9, 10.4], site, masked=["000000", "000006"])
    limits = approve_baselines(SPC_LIMITS.empty(), frame, site)
    points, _ = judge(frame, limits, site, DAY)
    ranges = points.filter(statistic="mr").sort("subgroup_at")
    width = span or 2
    assert ranges["n_masked"].to_list() == [sum(masked[end - width + 1 : end + 1]) for end in range(width - 1, 7)]
    assert points.filter(panel="location").sort("subgroup_at")["n_masked"].to_list() == masked


def test_a_gap_begins_a_segment_for_ranges_and_rules():
    site = make_site(rule_reset_gap_h=2.0, baseline=BaselinePolicy(individuals=10))
    one = subgroups([10.0 + 0.1 * (i % 5) for i in range(12)], site)
    late = subgroups([13.0, 13.1, 13.2], site, start=START + timedelta(hours=6), first_record=12)
    frame = pl.concat([one, late])
    limits = approve_baselines(SPC_LIMITS.empty(), frame, site)
    points, violations = judge(frame, limits, site, DAY)
    ranges = points.filter(statistic="mr").sort("subgroup_at")
    assert ranges.height == 11 + 2
    assert max(ranges["value"]) < 1.0
    ids = set(late["subgroup_id"])
    for window in violations.filter(pl.col("subgroup_id").is_in(list(ids)))["window_subgroup_ids"]:
        assert set(window.split(";")) <= ids

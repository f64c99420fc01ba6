"""Estimators of sigma against brute force in plain Python, and what may enter which moving range."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from statistics import median

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy.stats import studentized_range

from spc_platform.errors import ContractError
from spc_platform.spc.sequence import Spans
from spc_platform.spc.sigma import ESTIMATORS, between_sigma, moving_range, within_sigma
from spc_platform.spc.subgroups import subgroup_statistics

# published constants (Montgomery, appendix VI, to ten digits as computed in the reference tests)
D2 = {2: 1.1283791671, 3: 1.6925687506, 5: 2.3259289473}
D3 = {2: 0.8525024664, 5: 0.8640819411}
C4 = {2: 0.7978845608, 5: 0.9399856030, 10: 0.9726592741}
D4 = {n: float(studentized_range.ppf(0.5, n, np.inf)) for n in (2, 3)}  # Minitab prints 0.954 and 1.588


def frame(sizes, values, estimator, chart=0, segment=0, **columns):
    """Rows of one chart whose subgroups of ``sizes`` hold ``values`` in turn."""
    starts = np.cumsum(sizes) - np.asarray(sizes)
    value = np.asarray(values, dtype=float)
    found = subgroup_statistics(value, np.ones(len(value), dtype=bool), Spans(starts, len(value)))
    of = {"chart": chart, "segment": segment, "estimator": estimator, **columns}
    return (
        pl.DataFrame(found)
        .fill_nan(None)
        .with_columns(**{name: pl.Series(given) if isinstance(given, list) else pl.lit(given) for name, given in of.items()})
    )


def individuals(values, estimator="mr", **columns):
    return frame([1] * len(values), values, estimator, **columns)


def sigma_of(rows, **more):
    return within_sigma(rows, ["chart"], **more).row(0, named=True)


# subgroups {0,1,3,2,4}, {5,7,6,8,4} and {1,4}: ranges 4, 4, 3; M2 10, 10, 4.5
UNEQUAL = ([5, 5, 2], [0, 1, 3, 2, 4, 5, 7, 6, 8, 4, 1, 4])


def test_rbar_weighs_unequal_n_by_minimum_variance():
    f5, f2 = (D2[5] / D3[5]) ** 2, (D2[2] / D3[2]) ** 2
    found = sigma_of(frame(*UNEQUAL, "rbar"))
    assert found["sigma_within"] == pytest.approx((2 * f5 * 4 / D2[5] + f2 * 3 / D2[2]) / (2 * f5 + f2), rel=1e-9)
    assert found["nu"] == pytest.approx(0.9 * (4 + 4 + 1))


def test_sbar_weighs_unequal_n_by_minimum_variance():
    h5, h2 = (C4[n] ** 2 / (1 - C4[n] ** 2) for n in (5, 2))
    by_hand = (2 * h5 * np.sqrt(2.5) / C4[5] + h2 * np.sqrt(4.5) / C4[2]) / (2 * h5 + h2)
    found = sigma_of(frame(*UNEQUAL, "sbar"))
    assert found["sigma_within"] == pytest.approx(by_hand, rel=1e-9)
    assert found["nu"] == pytest.approx(0.95 * 8 + 0.88)


def test_pooled_is_unbiased_by_c4_of_its_degrees_of_freedom():
    found = sigma_of(frame(*UNEQUAL, "pooled"))
    assert found["nu"] == 9
    assert found["sigma_within"] == pytest.approx(np.sqrt(24.5 / 9) / C4[10], rel=1e-9)


def test_mean_overall_s_and_harmonic_size_are_those_of_the_values():
    found = sigma_of(frame(*UNEQUAL, "rbar"))
    assert (found["mean"], found["n_observed"], found["n_subgroups"]) == (pytest.approx(np.mean(UNEQUAL[1])), 12, 3)
    assert found["sigma_overall"] == pytest.approx(np.std(UNEQUAL[1], ddof=1), rel=1e-12)
    assert found["n_harmonic"] == pytest.approx(3 / (1 / 5 + 1 / 5 + 1 / 2))


def test_mean_and_median_of_moving_ranges():
    values = [1, 2, 4, 3, 9, 9]  # moving ranges 1, 2, 1, 6, 0
    mean = sigma_of(individuals(values))
    assert (mean["sigma_within"], mean["nu"]) == (pytest.approx(2.0 / D2[2], rel=1e-9), 5)
    middle = sigma_of(individuals(values, "median_mr"))
    assert (middle["sigma_within"], middle["nu"]) == (pytest.approx(1.0 / D4[2], rel=1e-9), 5)


def test_moving_ranges_of_three_individuals():
    values = [1, 2, 4, 3, 9, 9]  # ranges of three: 3, 2, 6, 6
    found = sigma_of(individuals(values), mr_span=3)
    assert (found["sigma_within"], found["nu"]) == (pytest.approx(17 / 4 / D2[3], rel=1e-9), 4)  # k - w + 1
    middle = sigma_of(individuals(values, "median_mr", mr_span=3))
    assert (middle["sigma_within"], middle["nu"]) == (pytest.approx(4.5 / D4[3], rel=1e-6), 4)


def test_mssd_is_unbiased_for_its_length():
    """c4'(3) by hand: Q = d1^2 + d2^2 with covariance (2, -1; -1, 2), eigenvalues 3 and 1."""
    found = sigma_of(individuals([1, 2, 5], "mssd"))
    theta = (np.arange(200_000) + 0.5) * np.pi / 400_000
    # E sqrt(3 z1^2 + z2^2) = E r * mean over the angle of sqrt(3 cos^2 + sin^2), E r = sqrt(pi / 2)
    c4_of_3 = np.sqrt(np.pi / 2) * np.mean(np.sqrt(3 * np.cos(theta) ** 2 + np.sin(theta) ** 2)) / 2
    assert found["sigma_within"] == pytest.approx(np.sqrt(10 / 4) / c4_of_3, rel=1e-9)
    assert found["nu"] == 2


def test_mssd_of_two_segments_pools_the_differences():
    """Two segments of two: Q / 4 is chi-square of 2 over 2, whose root has the mean c4(3) = sqrt(pi) / 2."""
    rows = individuals([1, 2, 50, 54], "mssd", segment=[0, 0, 1, 1])
    found = sigma_of(rows)
    assert found["sigma_within"] == pytest.approx(np.sqrt((1 + 16) / 4) / (np.sqrt(np.pi) / 2), rel=1e-10)
    assert found["nu"] == 2


@pytest.mark.parametrize("estimator", ["mr", "median_mr", "mssd"])
def test_nothing_reaches_across_segments_charts_or_excluded_rows(estimator):
    values = [1.0, 2.0, 90.0, 4.0, 5.0]
    broken = individuals(values, estimator).with_columns(included=pl.col("mean") < 50)
    split = individuals(values, estimator, segment=[0, 0, 1, 2, 2])
    apart = sigma_of(individuals([1.0, 2.0, 4.0, 5.0], estimator, segment=[0, 0, 1, 1]))
    assert sigma_of(broken)["sigma_within"] == sigma_of(split)["sigma_within"] == apart["sigma_within"]
    two = pl.concat([individuals([1.0, 2.0], estimator), individuals([50.0, 52.0], estimator, chart=1)])
    assert within_sigma(two, ["chart"])["nu"].to_list() == [1.0, 1.0]


@pytest.mark.parametrize("width", [2, 3, 5])
def test_moving_ranges_against_brute_force(width):
    rng = np.random.default_rng(width)
    values = rng.normal(size=300)
    sizes = rng.choice([1, 1, 1, 1, 2], 300)
    segment = np.cumsum(rng.random(300) < 0.1)
    is_first = np.diff(segment, prepend=-1) != 0
    found = moving_range(pl.DataFrame({"n_observed": sizes, "mean": values}), is_first, width).to_list()
    expected = []
    for i in range(300):
        window = range(i - width + 1, i + 1)
        whole = window[0] >= 0 and all(sizes[j] == 1 and segment[j] == segment[i] for j in window)
        expected.append(max(values[j] for j in window) - min(values[j] for j in window) if whole else None)
    assert found == expected
    assert 0 < sum(value is not None for value in found) < 300


def test_all_estimators_of_many_charts_at_once_against_loops():
    rng = np.random.default_rng(7)
    parts, expected = [], []
    for chart in range(60):
        estimator = list(ESTIMATORS)[chart % 6]
        k = int(rng.integers(2, 30))
        sizes = [1] * k if chart % 6 >= 3 else rng.integers(1, 7, k).tolist()
        values = rng.normal(10, 2, sum(sizes))
        segment = np.cumsum(rng.random(k) < 0.15).tolist()
        parts.append(frame(sizes, values, estimator, chart=chart, segment=segment))
        steps = [abs(b - a) for (a, s), (b, t) in pairwise(zip(values, segment, strict=False)) if s == t]
        if estimator == "mr":
            expected.append(np.mean(steps) / D2[2] if steps else None)
        elif estimator == "median_mr":
            expected.append(median(steps) / D4[2] if steps else None)
    found = within_sigma(pl.concat(parts), ["chart"])
    assert found["estimator"].to_list() == [list(ESTIMATORS)[chart % 6] for chart in range(60)]
    moving = found.filter(pl.col("estimator").is_in(["mr", "median_mr"]))["sigma_within"].to_list()
    assert moving == [None if value is None else pytest.approx(value, rel=1e-9) for value in expected]
    alone = pl.concat([within_sigma(part, ["chart"]) for part in parts])
    assert_frame_equal(found, alone, check_exact=True)


@pytest.mark.parametrize("estimator", ["rbar", "sbar", "pooled", "mr", "median_mr", "mssd"])
def test_every_estimator_is_unbiased_or_consistent_on_normal_values(estimator):
    """20,000 charts of 8 subgroups: the mean estimate is sigma to 0.4 % (median_mr of few values: consistent only)."""
    charts, k, n = 20_000, 8, 4 if estimator in ("rbar", "sbar", "pooled") else 1
    values = 3.0 * np.random.default_rng(11).standard_normal(charts * k * n)
    rows = frame([n] * (charts * k), values, estimator).with_columns(chart=pl.int_range(pl.len()) // k)
    mean = within_sigma(rows, ["chart"])["sigma_within"].mean()
    assert mean == pytest.approx(3.0, rel=0.12 if estimator == "median_mr" else 0.004)


def test_sigma_of_the_means_and_between_subgroups():
    rows = frame([2, 2, 2, 2], [1, 3, 5, 7, 2, 4, 30, 32], "rbar", segment=[0, 0, 0, 1])  # means 2, 6, 3 | 31
    found = sigma_of(rows)
    assert found["sigma_means"] == pytest.approx((4 + 3) / 2 / D2[2], rel=1e-9)
    by_hand = np.sqrt((3.5 / D2[2]) ** 2 - (2 / D2[2]) ** 2 / 2)
    assert between_sigma(found["sigma_means"], found["sigma_within"], found["n_harmonic"]) == pytest.approx(by_hand, rel=1e-9)
    assert between_sigma(1.0, 9.0, 4.0) == 0.0
    assert np.isnan(between_sigma(np.nan, 9.0, 4.0))
    assert sigma_of(frame([2], [1, 3], "rbar"))["sigma_means"] is None


def test_a_group_without_dispersion_has_no_sigma_never_zero():
    for estimator in ESTIMATORS:
        found = sigma_of(individuals([5.0], estimator))
        assert (found["sigma_within"], found["nu"], found["sigma_overall"]) == (None, 0.0, None)
    assert sigma_of(individuals([5.0, 6.0, 7.0]), mr_span=5)["sigma_within"] is None


def test_values_that_are_all_equal_give_zero_from_every_estimator():
    for estimator in ("mr", "median_mr", "mssd"):
        assert sigma_of(individuals([0.1] * 9, estimator))["sigma_within"] == 0.0
    for estimator in ("rbar", "sbar", "pooled"):
        assert sigma_of(frame([3] * 3, [0.1] * 9, estimator))["sigma_within"] == 0.0


@pytest.mark.parametrize(("offset", "scale", "digits"), [(1e9, 1e-3, 1e-4), (0.0, 1e-12, 1e-12), (1e6, 1.0, 1e-9)])
def test_offsets_and_tiny_values_keep_their_digits(offset, scale, digits):
    """Noise of 1e-3 about 1e9 is stored to 1.2e-7: that is the limit, not the arithmetic."""
    noise = np.random.default_rng(5).standard_normal(400)
    for estimator in ESTIMATORS:
        sizes = [1] * 400 if estimator in ("mr", "median_mr", "mssd") else [4] * 100
        plain = sigma_of(frame(sizes, noise, estimator))
        moved = sigma_of(frame(sizes, offset + scale * noise, estimator))
        for name in ("sigma_within", "sigma_overall", "sigma_means"):
            assert moved[name] == pytest.approx(scale * plain[name], rel=digits), (estimator, name)


def test_without_a_segment_column_the_gap_breaks_and_the_window_is_named():
    start = datetime(2026, 3, 2, tzinfo=UTC)
    at = [start, start + timedelta(hours=1), start + timedelta(hours=100), start + timedelta(hours=101)]
    rows = individuals([1, 2, 50, 52]).drop("segment").with_columns(subgroup_at=pl.Series(at), subgroup_end_at=pl.Series(at))
    found = within_sigma(rows, ["chart"], 72.0).row(0, named=True)
    assert (found["nu"], found["sigma_within"]) == (2, pytest.approx(1.5 / D2[2], rel=1e-9))
    assert (found["window_from"], found["window_to"], found["last_subgroup_at"]) == (at[0], at[3], at[3])
    assert "window_from" not in within_sigma(individuals([1, 2]), ["chart"]).columns
    with pytest.raises(ContractError, match=r"SPC-313.*segment"):
        within_sigma(rows, ["chart"])


def test_what_cannot_be_estimated_says_so():
    with pytest.raises(ContractError, match=r"unknown estimator sd.*median_mr"):
        within_sigma(individuals([1, 2], "sd"), ["chart"])
    with pytest.raises(ContractError, match=r"SPC-312.*at least 2"):
        within_sigma(individuals([1, 2]), ["chart"], mr_span=1)
    mixed = individuals([1, 2, 3]).with_columns(estimator=pl.Series(["mr", "mr", "mssd"]))
    with pytest.raises(ContractError, match=r"SPC-314.*chart 0.*mssd"):
        within_sigma(mixed, ["chart"])


def test_no_rows_give_no_groups_with_the_same_columns():
    rows = individuals([1, 2])
    assert within_sigma(rows.clear(), ["chart"]).columns == within_sigma(rows, ["chart"]).columns

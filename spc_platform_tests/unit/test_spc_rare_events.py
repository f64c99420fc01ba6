"""Rare events: g and t charts, their estimates and what they refuse."""

from math import log, pi, sqrt

import numpy as np
import pytest
from scipy import stats

from spc_platform.errors import ContractError
from spc_platform.spc.rare_events import (
    check_counts_between,
    check_times,
    counts_between,
    g_centre,
    g_panel,
    t_panel,
    t_parameters,
    times_between,
)
from spc_platform.spc.sequence import Spans

TAIL = stats.norm.cdf(-3)


def one(rows):
    return Spans(np.array([0]), rows)


def first_only(rows):
    return np.arange(rows) == 0


def test_counts_between_events_leave_out_what_is_incomplete() -> None:
    flags = np.array([0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 0, 1], dtype=bool)
    first = np.isin(np.arange(12), [0, 7])
    found = counts_between(flags, first)
    assert found.value.tolist() == [2.0, 0.0, 1.0]
    assert found.row.tolist() == [4, 5, 11]
    assert found.is_first.tolist() == [True, False, True]


def test_times_between_events_restart_at_each_segment() -> None:
    at = np.array([1.0, 4.0, 4.5, 100.0, 107.0])
    found = times_between(at, np.isin(np.arange(5), [0, 3]))
    assert found.value.tolist() == [3.0, 0.5, 7.0]
    assert found.is_first.tolist() == [True, False, True]
    some = times_between(at, first_only(5), np.array([True, False, True, False, True]))
    assert some.value.tolist() == [3.5, 102.5]


def test_no_events_give_no_intervals() -> None:
    assert counts_between(np.zeros(4, dtype=bool), first_only(4)).value.tolist() == []


def test_times_that_run_backwards_are_refused() -> None:
    with pytest.raises(ContractError, match=r"SPC-325.*row 2 lies before.*sort"):
        times_between(np.array([1.0, 5.0, 3.0]), first_only(3))


def test_the_g_chart_has_benneyans_limits() -> None:
    """Benneyan (2001): g +- k sqrt(g (g + 1)), lower limit 0."""
    count = np.array([3.0, 8.0, 0.0, 21.0])
    centre = g_centre(count, one(4))
    assert centre.tolist() == [8.0]
    panel = g_panel(count, np.full(4, 8.0))
    assert panel.ucl == pytest.approx(np.full(4, 8 + 3 * sqrt(72)))
    assert panel.lcl.tolist() == [0.0] * 4
    assert panel.z[3] == pytest.approx(13 / sqrt(72))


@pytest.mark.parametrize("centre", [0.4, 8.0, 250.0, 1e6])
@pytest.mark.parametrize("k", [2.0, 3.0])
def test_g_probability_limits_are_scipys_geometric_quantiles(centre: float, k: float) -> None:
    """scipy counts trials from 1, we count what lies between from 0."""
    panel = g_panel(np.array([3.0]), np.array([centre]), k, "probability")
    law = stats.geom(1 / (1 + centre), loc=-1)
    tail = stats.norm.cdf(-k)
    assert panel.ucl[0] == law.isf(tail)
    assert panel.lcl[0] == law.ppf(tail)
    assert panel.cl[0] == law.median()


def test_a_g_count_signals_by_its_score_exactly_outside_its_limits() -> None:
    count = np.arange(0.0, 8000.0)
    for centre in (3.0, 1000.0):
        panel = g_panel(count, np.full(len(count), centre), 3.0, "probability")
        outside = (count > panel.ucl) | (count < panel.lcl)
        assert np.array_equal(np.abs(panel.z) > 3.0, outside)
        assert outside.any()


def test_a_g_chart_without_a_centre_is_empty_and_one_of_zeros_has_no_spread() -> None:
    empty = g_panel(np.array([3.0]), np.array([np.nan]), 3.0, "probability")
    assert np.isnan([empty.ucl[0], empty.z[0]]).all()
    assert np.isnan(g_centre(np.array([1.0, 2.0]), one(2), np.zeros(2, dtype=bool))).all()
    zeros = g_panel(np.zeros(2), np.zeros(2), 3.0, "probability")
    assert (zeros.lcl.tolist(), zeros.ucl.tolist(), zeros.z.tolist()) == ([0.0, 0.0], [0.0, 0.0], [0.0, 0.0])


def test_nelsons_t_chart_is_an_individuals_chart_of_the_power() -> None:
    """Nelson (1994), by hand: y = t^(1/3.6), sigma = mean moving range sqrt(pi) / 2, limits to the power 3.6."""
    t = np.array([2.0, 30.0, 11.0, 7.0, 19.0])
    y = t ** (1 / 3.6)
    mu, sigma = y.mean(), np.abs(np.diff(y)).mean() * sqrt(pi) / 2
    fitted = t_parameters(t, first_only(5), one(5), "nelson")
    panel = t_panel(t, one(5), fitted)
    assert panel.ucl[0] == pytest.approx((mu + 3 * sigma) ** 3.6, rel=1e-12)
    assert panel.lcl[0] == pytest.approx(max(mu - 3 * sigma, 0) ** 3.6, rel=1e-12)
    assert panel.cl[0] == pytest.approx(mu**3.6, rel=1e-12)
    assert panel.z == pytest.approx((y - mu) / sigma, rel=1e-11)


def test_nelsons_moving_range_ends_at_segments_and_exclusions() -> None:
    t = np.array([2.0, 30.0, 11.0, 7.0, 19.0])
    fitted = t_parameters(t, np.isin(np.arange(5), [0, 2]), one(5), "nelson", np.arange(5) != 3)
    y = t ** (1 / 3.6)
    assert fitted.second[0] == pytest.approx(abs(y[1] - y[0]) * sqrt(pi) / 2, rel=1e-12)


def test_the_exponential_t_chart_has_the_quantiles_of_its_mean() -> None:
    t = np.array([4.0, 6.0, 20.0])
    panel = t_panel(t, one(3), t_parameters(t, first_only(3), one(3), "exponential"))
    assert panel.ucl[0] == pytest.approx(-10 * log(TAIL), rel=1e-12)
    assert panel.lcl[0] == pytest.approx(-10 * np.log1p(-TAIL), rel=1e-10)
    assert panel.cl[0] == pytest.approx(10 * log(2), rel=1e-14)


def test_weibull_estimates_are_scipys_for_many_charts_at_once() -> None:
    generator = np.random.default_rng(5)
    shapes, sizes = [0.4, 1.0, 3.6, 25.0, 2.0], [40, 12, 300, 25, 2]
    times = [1e3 * generator.weibull(b, n) for b, n in zip(shapes, sizes, strict=True)]
    t = np.concatenate(times)
    spans = Spans(np.concatenate(([0], np.cumsum(sizes)[:-1])), len(t))
    first = np.zeros(len(t), dtype=bool)
    first[spans.starts] = True
    found = t_parameters(t, first, spans, "weibull")
    for i, values in enumerate(times):
        b, scale = found.first[i], found.second[i]
        log_t = np.log(values)
        # the likelihood equations themselves, to the last digits
        assert np.sum(values**b * log_t) / np.sum(values**b) - 1 / b == pytest.approx(log_t.mean(), rel=1e-12)
        assert scale == pytest.approx(np.mean(values**b) ** (1 / b), rel=1e-12)
        expected = stats.weibull_min.fit(values, floc=0)
        assert (b, scale) == pytest.approx((expected[0], expected[2]), rel=2e-4)
    panel = t_panel(t, spans, found)
    law = stats.weibull_min(found.first[2], scale=found.second[2])
    row = spans.starts[2]
    assert (panel.lcl[row], panel.cl[row], panel.ucl[row]) == pytest.approx(
        (law.ppf(TAIL), law.median(), law.isf(TAIL)), rel=1e-9
    )


def test_weibull_shape_does_not_depend_on_the_unit_however_small() -> None:
    t = np.random.default_rng(8).weibull(1.7, 50)
    plain = t_parameters(t, first_only(50), one(50), "weibull")
    for unit in (1e-12, 1e9):
        scaled = t_parameters(t * unit, first_only(50), one(50), "weibull")
        assert scaled.first[0] == pytest.approx(plain.first[0], rel=1e-12)
        assert scaled.second[0] == pytest.approx(plain.second[0] * unit, rel=1e-12)


def test_a_weibull_fit_that_repeats_one_time_is_unknown_and_not_a_number_out_of_the_blue() -> None:
    t = np.array([5.0, 5.0, 5.0, 2.0])
    spans = Spans(np.array([0, 3]), 4)
    found = t_parameters(t, np.array([True, False, False, True]), spans, "weibull")
    assert np.isnan(found.first).all()
    assert np.isnan(found.second).all()
    assert np.isnan(t_panel(t, spans, found).ucl).all()


@pytest.mark.parametrize("method", ["nelson", "exponential", "weibull"])
def test_a_time_signals_by_its_score_exactly_outside_its_limits(method: str) -> None:
    t = np.concatenate((np.random.default_rng(4).exponential(10.0, 60), [1e-9, 1e-3, 80.0, 1e4]))
    included = np.arange(64) < 60
    panel = t_panel(t, one(64), t_parameters(t, first_only(64), one(64), method, included))
    outside = (t > panel.ucl) | (t < panel.lcl)
    assert np.array_equal(np.abs(panel.z) > 3.0, outside)
    assert outside[63]
    assert np.isfinite(panel.z).all()


def test_the_score_keeps_its_digits_far_out_in_both_tails() -> None:
    """By 1 - exp(-x) = x at 1e-30, and ndtri by scipy's norm."""
    fitted = t_parameters(np.array([1.0, 1.0]), first_only(2), one(2), "exponential")
    panel = t_panel(np.array([1e-30, 200.0]), one(2), fitted)
    assert panel.z[0] == pytest.approx(stats.norm.ppf(1e-30), rel=1e-12)
    assert panel.z[1] == pytest.approx(stats.norm.isf(np.exp(-200.0)), rel=1e-12)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "is 0: two events have one time stamp"), (-1.0, "is negative; sort"), (np.nan, "is not a number")],
)
def test_times_that_no_t_chart_can_place_are_refused_with_their_row(value: float, text: str) -> None:
    with pytest.raises(ContractError, match=f"SPC-325.*in row b {text}"):
        check_times(np.array([1.0, value]), np.array(["a", "b"]))


@pytest.mark.parametrize("value", [-1.0, 2.5, np.nan, np.inf])
def test_counts_between_that_are_no_counts_are_refused_with_their_row(value: float) -> None:
    with pytest.raises(ContractError, match=r"SPC-325.*in row b"):
        check_counts_between(np.array([1.0, value]), np.array(["a", "b"]))


def test_unknown_methods_are_refused() -> None:
    with pytest.raises(ContractError, match=r"SPC-326.*'normal'"):
        g_panel(np.array([1.0]), np.array([1.0]), 3.0, "normal")
    with pytest.raises(ContractError, match=r"SPC-326.*'lognormal'"):
        t_parameters(np.array([1.0]), first_only(1), one(1), "lognormal")

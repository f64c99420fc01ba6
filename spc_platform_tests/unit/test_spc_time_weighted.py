"""Kernels of EWMA, CUSUM and moving average against plain loops over one point at a time."""

import math

import numpy as np
import pytest

from spc_platform.errors import ContractError
from spc_platform.spc.time_weighted import (
    PIECE,
    cusum_counters,
    cusum_panels,
    ewma_panel,
    moving_average_panel,
    recursion,
    shifted_mean,
)

SCALES = [(0.0, 1.0), (1e9, 1e-3), (0.0, 1e-12)]


def charts(seed, lengths, offset=0.0, scale=1.0):
    """Means of segments of the given lengths, sizes 1 to 9, and where segments begin."""
    rng = np.random.default_rng(seed)
    is_first = np.concatenate([np.arange(length) == 0 for length in lengths])
    n = rng.integers(1, 10, len(is_first)).astype(float)
    drift = 0.4 * np.sin(np.arange(len(is_first)) / 40)
    return offset + scale * (rng.standard_normal(len(is_first)) / np.sqrt(n) + drift), n, is_first


def loop_cusum(x, is_first, start, limit, restart=False):
    sums, now = [], 0.0
    for value, first in zip(x.tolist(), is_first.tolist(), strict=True):
        now = start if first else now
        now = max(0.0, now + value)
        sums.append(now)
        if restart and now > limit:
            now = start
    return np.array(sums)


LENGTHS = [1, 2, 700, 3, PIECE - 1, PIECE, PIECE + 1, 5000, 31, 1]


@pytest.mark.parametrize("factor", [0.0, 0.05, 0.9, 1.0])
def test_the_recursion_is_that_of_a_plain_loop_to_the_last_bit(factor):
    x, _, is_first = charts(1, LENGTHS)
    expected, now = [], 0.0
    for value, first in zip(x.tolist(), is_first.tolist(), strict=True):
        now = value + factor * (0.0 if first else now)
        expected.append(now)
    assert recursion(x, is_first, factor).tolist() == expected


def test_each_segment_has_its_own_factor():
    x, _, is_first = charts(2, [4, 5, 6])
    factor = np.repeat([0.1, 0.8, 0.1], [4, 5, 6])
    apart = [recursion(x[a:b], is_first[a:b], f) for a, b, f in [(0, 4, 0.1), (4, 9, 0.8), (9, 15, 0.1)]]
    assert recursion(x, is_first, factor).tolist() == np.concatenate(apart).tolist()


@pytest.mark.parametrize(("offset", "scale"), SCALES)
def test_ewma_with_varying_n_against_its_definition_in_exact_weights(offset, scale):
    mean, n, is_first = charts(3, [1, 40, 7, 90], offset, scale)
    panel = ewma_panel(mean, n, is_first, offset, scale, 0.2, 3.0)
    start = 0
    for i in range(len(mean)):
        start = i if is_first[i] else start
        weights = [0.2 * 0.8 ** (i - j) for j in range(start, i + 1)]
        moved = math.fsum(w * (mean[j] - offset) for w, j in zip(weights, range(start, i + 1), strict=True))
        error = scale * math.sqrt(math.fsum(w * w / n[j] for w, j in zip(weights, range(start, i + 1), strict=True)))
        # one unit in the last place of the offset is what a float64 can show of the value
        assert panel.value[i] - offset == pytest.approx(moved, rel=1e-12, abs=1e-14 * scale + 2e-16 * offset)
        assert panel.standard_error[i] == pytest.approx(error, rel=1e-13)
        assert panel.ucl[i] - offset == pytest.approx(3 * error, rel=1e-12, abs=2e-16 * offset)


def test_ewma_variance_of_equal_n_is_the_closed_form():
    panel = ewma_panel(np.zeros(60), 4, np.arange(60) == 0, 0.0, 2.0, 0.3, 3.0)
    i = np.arange(1, 61)
    assert panel.standard_error == pytest.approx(2.0 * np.sqrt(0.3 / 1.7 * (1 - 0.7 ** (2 * i)) / 4), rel=1e-13)


def test_a_weight_of_one_is_the_shewhart_chart():
    mean, n, is_first = charts(4, [30, 20])
    panel = ewma_panel(mean, n, is_first, 0.0, 1.0, 1.0, 3.0)
    assert panel.value.tolist() == mean.tolist()
    assert panel.ucl == pytest.approx(3 / np.sqrt(n), rel=1e-14)


@pytest.mark.parametrize(("offset", "scale"), SCALES)
@pytest.mark.parametrize("head_start", [0.0, 0.5])
@pytest.mark.parametrize("restart", [False, True])
def test_cusum_against_a_loop_over_points(offset, scale, head_start, restart):
    mean, n, is_first = charts(5, LENGTHS, offset, scale)
    y = (mean - offset) / (scale / np.sqrt(n))
    upper, lower = cusum_panels(mean, n, is_first, offset, scale, 0.5, 4.0, head_start, restart=restart)
    high = loop_cusum(y - 0.5, is_first, 4 * head_start, 4.0, restart)
    low = loop_cusum(-y - 0.5, is_first, 4 * head_start, 4.0, restart)
    assert upper.value == pytest.approx(high, rel=1e-11, abs=1e-12)
    assert lower.value == pytest.approx(-low, rel=1e-11, abs=1e-12)
    signals = np.flatnonzero(high > 4.0)
    assert len(signals) > 100
    assert np.flatnonzero(upper.z > upper.ucl).tolist() == signals.tolist()
    assert np.isnan(upper.lcl).all()
    assert np.isnan(lower.ucl).all()


def test_a_long_segment_costs_the_cusum_no_digits():
    """1e5 points in control: a difference of running sums has drifted to -5e4; math.fsum per excursion is the exact sum."""
    y = np.random.default_rng(6).standard_normal(100_000)
    is_first = np.arange(100_000) == 0
    upper, _ = cusum_panels(y, 1, is_first, 0.0, 1.0)
    loop = loop_cusum(y - 0.5, is_first, 0.0, 5.0)
    assert np.abs(upper.value - loop).max() < 2e-15
    assert np.array_equal(upper.value > 5.0, loop > 5.0)
    zeros = np.flatnonzero(loop == 0)
    ends = np.flatnonzero(loop > 5.0)[:200]
    exact = [math.fsum((y - 0.5)[zeros[zeros < end][-1] + 1 : end + 1].tolist()) for end in ends]
    assert np.abs(upper.value[ends] - exact).max() < 2e-14


def test_cusum_in_the_unit_of_the_characteristic_is_the_standardized_one_scaled():
    mean, _, is_first = charts(7, [50, 60])
    upper, lower = cusum_panels(mean, 4, is_first, 0.1, 3.0)
    shown_upper, shown_lower = cusum_panels(mean, 4, is_first, 0.1, 3.0, in_unit=True)
    assert shown_upper.value == pytest.approx(upper.value * 1.5, rel=1e-14)
    assert shown_upper.ucl == pytest.approx(7.5)
    assert shown_lower.lcl == pytest.approx(-7.5)
    assert shown_lower.z == pytest.approx(lower.z, rel=1e-14)
    with pytest.raises(ContractError, match=r"row 1: n is 2 .* standard errors") as raised:
        cusum_panels(np.zeros(2), np.array([1, 2]), np.array([True, False]), 0.0, 1.0, in_unit=True)
    assert raised.value.code == "SPC-316"


@pytest.mark.parametrize("restart", [False, True])
def test_counters_count_from_the_last_zero_or_restart(restart):
    mean, n, is_first = charts(8, LENGTHS)
    upper, _ = cusum_panels(mean, n, is_first, 0.0, 1.0, 0.5, 4.0, 0.5, restart=restart)
    expected, count, signalled = [], 0, False
    for value, first in zip(upper.value.tolist(), is_first.tolist(), strict=True):
        count = 0 if value == 0 else 1 if first or (restart and signalled) else count + 1
        signalled = value > 4.0
        expected.append(count)
    assert cusum_counters(upper, is_first, restart=restart).tolist() == expected


def test_the_shifted_mean_below_lies_below_mu():
    _, lower = cusum_panels(np.array([8.0, 8.0, 8.0]), 4, np.array([True, False, False]), 10.0, 2.0)
    counter = cusum_counters(lower, np.array([True, False, False]))
    assert shifted_mean(lower, counter, 4, 10.0, 2.0) == pytest.approx([8.0, 8.0, 8.0], rel=1e-14)


@pytest.mark.parametrize(("offset", "scale"), SCALES)
@pytest.mark.parametrize("span", [1, 2, 5])
def test_moving_average_with_varying_n_against_a_loop(offset, scale, span):
    mean, n, is_first = charts(9, [1, 3, 40, 9], offset, scale)
    panel = moving_average_panel(mean, n, is_first, offset, scale, span)
    start = 0
    for i in range(len(mean)):
        start = i if is_first[i] else start
        window = range(max(start, i - span + 1), i + 1)
        moved = math.fsum(mean[j] - offset for j in window) / len(window)
        error = scale / len(window) * math.sqrt(math.fsum(1 / n[j] for j in window))
        assert panel.value[i] - offset == pytest.approx(moved, rel=1e-12, abs=1e-15 * scale + 2e-16 * offset)
        assert panel.standard_error[i] == pytest.approx(error, rel=1e-14)


def test_a_chart_without_limits_does_not_touch_the_next_one():
    mean, n, is_first = charts(10, [6, 6])
    mu = np.repeat([np.nan, 0.0], 6)
    panels = [
        ewma_panel(mean, n, is_first, mu, 1.0, 0.2, np.repeat([np.nan, 3.0], 6)),
        *cusum_panels(mean, n, is_first, mu, 1.0),
        moving_average_panel(mean, n, is_first, mu, 1.0, 3),
    ]
    for panel in panels:
        assert np.isnan(panel.value).tolist() == [True] * 6 + [False] * 6
    upper, _ = cusum_panels(mean, n, is_first, 0.0, np.repeat([0.0, 1.0], 6))
    assert np.isnan(upper.value).tolist() == [True] * 6 + [False] * 6


def test_charts_side_by_side_are_charts_alone():
    mean, n, is_first = charts(11, [2000, 30, 500])
    together = cusum_panels(mean, n, is_first, 0.0, 1.0, 0.4, 3.0, 0.5, restart=True)
    for a, b in [(0, 2000), (2000, 2030), (2030, 2530)]:
        alone = cusum_panels(mean[a:b], n[a:b], is_first[a:b], 0.0, 1.0, 0.4, 3.0, 0.5, restart=True)
        assert [side.value.tolist() for side in alone] == [side.value[a:b].tolist() for side in together]


def test_no_points_give_no_points():
    none, flags = np.zeros(0), np.zeros(0, dtype=bool)
    assert len(ewma_panel(none, none, flags, 0.0, 1.0, 0.2).value) == 0
    assert len(cusum_panels(none, none, flags, 0.0, 1.0, restart=True)[0].value) == 0
    assert len(moving_average_panel(none, none, flags, 0.0, 1.0, 3).value) == 0


FIRST = np.array([True, False])


@pytest.mark.parametrize(
    ("call", "message", "code"),
    [
        (lambda: ewma_panel(np.zeros(2), 1, FIRST, 0.0, 1.0, 0.0), "row 0: weight is 0; it must be above 0", "SPC-315"),
        (lambda: ewma_panel(np.zeros(2), 1, FIRST, 0.0, 1.0, [0.1, 0.2]), "row 1: weight is 0.2; .* same on every", "SPC-315"),
        (lambda: ewma_panel(np.zeros(2), 1, FIRST, 0.0, 1.0, 0.1, -1.0), "row 0: k is -1", "SPC-315"),
        (lambda: ewma_panel(np.array([0, np.nan]), 1, FIRST, 0.0, 1.0, 0.1), "row 1: mean nan", "SPC-316"),
        (lambda: ewma_panel(np.zeros(2), [1, 0], FIRST, 0.0, 1.0, 0.1), "row 1: mean 0 of 0 values", "SPC-316"),
        (lambda: ewma_panel(np.zeros(2), 1, ~FIRST, 0.0, 1.0, 0.1), "first entry is false", "SPC-316"),
        (lambda: ewma_panel(np.zeros(2), 1, FIRST, [0.0], 1.0, 0.1), "mu has the shape", "SPC-316"),
        (lambda: cusum_panels(np.zeros(2), 1, FIRST, 0.0, 1.0, -0.5), "row 0: reference is -0.5", "SPC-315"),
        (lambda: cusum_panels(np.zeros(2), 1, FIRST, 0.0, 1.0, 0.5, 0.0), "row 0: decision is 0", "SPC-315"),
        (
            lambda: cusum_panels(np.zeros(2), 1, FIRST, 0.0, 1.0, 0.5, 5.0, 1.5),
            "row 0: head_start is 1.5; .* at most 1",
            "SPC-315",
        ),
        (lambda: moving_average_panel(np.zeros(2), 1, FIRST, 0.0, 1.0, 2.5), "whole number", "SPC-315"),
        (lambda: moving_average_panel(np.zeros(2), 1, FIRST, 0.0, 1.0, 0), "row 0: span is 0", "SPC-315"),
    ],
)
def test_what_cannot_be_computed_is_named_with_its_row(call, message, code):
    with pytest.raises(ContractError, match=message) as raised:
        call()
    assert raised.value.code == code

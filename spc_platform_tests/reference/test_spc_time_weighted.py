"""EWMA, CUSUM and moving average against worked examples of the literature."""

import numpy as np
import pytest

from spc_platform.spc.time_weighted import cusum_counters, cusum_panels, ewma_panel, moving_average_panel, shifted_mean

# Montgomery, Introduction to Statistical Quality Control, Table 9.1: 20 values of N(10, 1), then 10 of N(11, 1)
VALUES = np.concatenate(
    [
        [9.45, 7.99, 9.29, 11.66, 12.16, 10.18, 8.04, 11.46, 9.20, 10.34],
        [9.03, 11.47, 10.51, 9.40, 10.08, 9.37, 10.62, 10.31, 8.52, 10.84],
        [10.90, 9.33, 12.29, 11.50, 10.60, 11.08, 10.38, 11.62, 11.31, 10.52],
    ]
)
FIRST = np.arange(30) == 0


def test_tabular_cusum_of_montgomery_9_1():
    upper, lower = cusum_panels(VALUES, 1, FIRST, 10.0, 1.0, 0.5, 5.0)
    # columns C+ and C- of the worked example
    high = [0, 0, 0, 1.16, 2.82, 2.50, 0.04, 1.00, 0, 0, 0, 0.97, 0.98, 0, 0, 0, 0.12, 0, 0, 0.34]
    high += [0.74, 0, 1.79, 2.79, 2.89, 3.47, 3.35, 4.47, 5.28, 5.30]
    low = [0.05, 1.56, 1.77, 0, 0, 0, 1.46, 0, 0.30, 0, 0.47, 0, 0, 0.10, 0, 0.13, 0, 0, 0.98, 0]
    low += [0, 0.17, 0, 0, 0, 0, 0, 0, 0, 0]
    assert upper.value == pytest.approx(high, abs=1e-12)
    assert -lower.value == pytest.approx(low, abs=1e-12)
    assert np.flatnonzero(upper.z > upper.ucl).tolist() == [28, 29]
    assert not (lower.z < lower.lcl).any()


def test_counters_and_the_estimated_mean_of_montgomery_9_1():
    upper, lower = cusum_panels(VALUES, 1, FIRST, 10.0, 1.0, 0.5, 5.0)
    counter = cusum_counters(upper, FIRST)
    # N+ of the worked example: 7 at point 29, so the shift began between points 22 and 23; new mean 10 + 0.5 + 5.28/7 = 11.25
    assert counter.tolist()[20:] == [2, 0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert counter.tolist()[:9] == [0, 0, 0, 1, 2, 3, 4, 5, 0]
    assert cusum_counters(lower, FIRST).tolist()[:8] == [1, 2, 3, 0, 0, 0, 1, 0]
    assert shifted_mean(upper, counter, 1, 10.0, 1.0)[28] == pytest.approx(10 + 0.5 + 5.28 / 7, abs=1e-12)
    assert np.isnan(shifted_mean(upper, counter, 1, 10.0, 1.0)[0])


def test_fast_initial_response_of_montgomery_9_1():
    """The example: target 100, K = 3, H = 12, head start 6, in control at first and with the mean at 105 from the start."""
    x = np.array([102, 97, 104, 93, 100, 105, 96, 98, 105, 99.0])
    first = np.arange(10) == 0
    upper, lower = cusum_panels(x, 1, first, 100.0, 1.0, 3.0, 12.0, 0.5)
    assert upper.value.tolist() == [5, 0, 1, 0, 0, 2, 0, 0, 2, 0]
    assert (-lower.value).tolist() == [1, 1, 0, 4, 1, 0, 1, 0, 0, 0]
    upper, _ = cusum_panels(x + 5, 1, first, 100.0, 1.0, 3.0, 12.0, 0.5)
    assert upper.value.tolist()[:3] == [10, 9, 15]  # signals at point 3


def test_ewma_of_montgomery_9_2():
    panel = ewma_panel(VALUES, 1, FIRST, 10.0, 1.0, 0.1, 2.7)
    # z_i of the worked example as printed (5 digits), and the limits that the text works out
    printed = [9.945, 9.7495, 9.70355, 9.8992, 10.1253, 10.1307, 9.92167, 10.0755, 9.98796, 10.0232]
    assert panel.value[:10] == pytest.approx(printed, abs=6e-5)
    assert [panel.ucl[0], panel.lcl[0]] == pytest.approx([10.27, 9.73], abs=1e-12)
    assert [panel.ucl[1], panel.lcl[1]] == pytest.approx([10.36, 9.64], abs=5e-3)
    assert [panel.ucl[29], panel.lcl[29]] == pytest.approx([10.62, 9.38], abs=5e-3)
    assert np.flatnonzero(np.abs(panel.z) > 2.7).tolist() == [28, 29]
    steady = ewma_panel(VALUES, 1, FIRST, 10.0, 1.0, 0.1, 2.7, asymptotic=True)
    assert steady.ucl == pytest.approx(10 + 2.7 * np.sqrt(0.1 / 1.9), rel=1e-14)


def test_moving_average_of_montgomery_9_3():
    panel = moving_average_panel(VALUES, 1, FIRST, 10.0, 1.0, 5, 3.0)
    # span 5; limits 10 +- 3/sqrt(5) = 11.34 and 8.66 from point 5 on
    assert panel.value[:6] == pytest.approx([9.45, 8.72, 8.91, 9.5975, 10.11, 10.256], abs=4e-3)
    assert panel.ucl[:5] == pytest.approx(10 + 3 / np.sqrt([1, 2, 3, 4, 5]), rel=1e-14)
    assert [panel.lcl[29], panel.ucl[29]] == pytest.approx([8.66, 11.34], abs=5e-3)
    assert not (np.abs(panel.z) > 3).any()

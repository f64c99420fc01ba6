"""Short runs: deviations from nominal and the four ways to standardise a Z-MR chart."""

from math import log, pi, sqrt

import numpy as np
import pytest

from spc_platform.errors import ContractError
from spc_platform.spc.sequence import Spans
from spc_platform.spc.short_run import (
    z_mr_parameters,
    z_values,
)

D2 = 2 / sqrt(pi)
"""Tippett (1925) for two values."""

X = np.array([10.0, 12.0, 11.0, 50.0, 54.0, 13.0, 16.0, 51.0, 45.0])
PART = np.array([0, 0, 0, 1, 1, 0, 0, 1, 1])
RUN_FIRST = np.array([True, False, False, True, False, True, False, True, False])
RANGES = {"first A": [2, 1], "first B": [4], "second A": [3], "second B": [6]}


def one(rows=9):
    return Spans(np.array([0]), rows)


@pytest.mark.parametrize(
    ("method", "mu", "ranges"),
    [
        ("constant", [12.4, 50.0, 12.4, 50.0], [[2, 1, 4, 3, 6]] * 4),
        ("by_part", [12.4, 50.0, 12.4, 50.0], [[2, 1, 3], [4, 6], [2, 1, 3], [4, 6]]),
        ("by_run", [11.0, 52.0, 14.5, 48.0], [[2, 1], [4], [3], [6]]),
    ],
)
def test_mean_and_sigma_come_from_what_the_method_pools(method: str, mu, ranges) -> None:
    """By hand; pooling as Minitab's Z-MR chart describes it. Runs: 10 12 11 | 50 54 | 13 16 | 51 45 of parts A B A B."""
    found = z_mr_parameters(X, PART, RUN_FIRST, one(), method)
    run = np.cumsum(RUN_FIRST) - 1
    assert found.mu == pytest.approx(np.array(mu)[run], rel=1e-14)
    assert found.sigma == pytest.approx(np.array([np.mean(r) / D2 for r in ranges])[run], rel=1e-14)


def test_relative_to_size_pools_the_logarithms() -> None:
    found = z_mr_parameters(X, PART, RUN_FIRST, one(), "relative")
    ranges = [log(12 / 10), log(12 / 11), log(54 / 50), log(16 / 13), log(51 / 45)]
    assert found.sigma == pytest.approx(np.full(9, np.mean(ranges) / D2), rel=1e-12)
    assert found.mu[0] == pytest.approx(np.mean(np.log([10, 12, 11, 13, 16])), rel=1e-14)
    assert z_values(found)[0] == pytest.approx((log(10) - found.mu[0]) / found.sigma[0])


def test_a_unit_ten_times_smaller_changes_no_z_by_part_or_relative_to_size() -> None:
    for method in ("by_part", "by_run", "relative"):
        plain = z_values(z_mr_parameters(X, PART, RUN_FIRST, one(), method))
        scaled = z_values(z_mr_parameters(10 * X, PART, RUN_FIRST, one(), method))
        assert scaled == pytest.approx(plain, rel=1e-11)


def test_the_offset_of_1e9_costs_no_digits() -> None:
    x = X * 2.0**-10
    plain = z_values(z_mr_parameters(x, PART, RUN_FIRST, one()))
    assert z_values(z_mr_parameters(x + 1e9, PART, RUN_FIRST, one())) == pytest.approx(plain, rel=1e-12)


def test_excluded_and_missing_values_enter_nothing_and_break_their_pairs() -> None:
    x = X.copy()
    x[1] = np.nan
    found = z_mr_parameters(x, PART, RUN_FIRST, one(), "constant", np.arange(9) != 4)
    assert found.sigma[0] == pytest.approx(np.mean([3, 6]) / D2)
    assert found.mu[[0, 3]] == pytest.approx([12.5, np.mean([50, 51, 45])])
    z = z_values(found)
    assert np.isnan(z[1])
    assert np.isfinite(z[4])


def test_a_part_without_a_pair_has_no_sigma_and_no_z() -> None:
    found = z_mr_parameters(np.array([1.0, 2.0, 9.0]), np.array([0, 0, 1]), np.array([True, False, True]), one(3))
    assert np.isnan(found.sigma).tolist() == [False, False, True]
    assert np.isnan(z_values(found)).tolist() == [False, False, True]


def test_parts_of_another_chart_share_nothing_though_their_number_is_the_same() -> None:
    both = z_mr_parameters(
        np.tile(X, 2) + np.repeat([0, 100], 9), np.tile(PART, 2), np.tile(RUN_FIRST, 2), Spans(np.array([0, 9]), 18)
    )
    alone = z_mr_parameters(X, PART, RUN_FIRST, one())
    assert both.mu.tolist() == pytest.approx([*alone.mu, *(alone.mu + 100)])
    assert both.sigma == pytest.approx(np.tile(alone.sigma, 2))


def test_bad_runs_methods_and_logarithms_are_refused() -> None:
    with pytest.raises(ContractError, match=r"SPC-324.*part changes at row 3 within a run"):
        z_mr_parameters(X, PART, np.arange(9) == 0, one())
    with pytest.raises(ContractError, match=r"SPC-324.*'pooled'.*by_part"):
        z_mr_parameters(X, PART, RUN_FIRST, one(), "pooled")
    with pytest.raises(ContractError, match=r"SPC-324.*value 0 in row 3 has no logarithm.*by_part"):
        z_mr_parameters(np.where(np.arange(9) == 3, 0.0, X), PART, RUN_FIRST, one(), "relative")

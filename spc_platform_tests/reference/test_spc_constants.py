"""Constants and intervals against published figures and closed forms."""

from fractions import Fraction
from math import comb

import numpy as np
import pytest
from scipy.integrate import dblquad, quad
from scipy.special import log_ndtr, ndtr
from scipy.stats import beta, norm, studentized_range

from spc_platform.errors import ContractError
from spc_platform.spc.capability import interval_of_cp, interval_of_cpk
from spc_platform.spc.constants import (
    c4,
    c4_mssd,
    c4_mssd_of_segments,
    c5,
    d2,
    d2_star,
    d3,
    d4,
    factors,
    median_error,
    nu_range,
)
from spc_platform.spc.sequence import Spans

# Harter (1960) and computed by adaptive quadrature to 1e-10: n, d2, d3, c4
TABLE = [
    (2, 1.1283791671, 0.8525024664, 0.7978845608),
    (3, 1.6925687506, 0.8883680040, 0.8862269255),
    (4, 2.0587507460, 0.8798082028, 0.9213177319),
    (5, 2.3259289473, 0.8640819411, 0.9399856030),
    (10, 3.0775054617, 0.7970506735, 0.9726592741),
    (25, 3.9306292195, 0.7084407659, 0.9896403756),
    (50, 4.4981472588, 0.6521425884, 0.9949113047),
    (100, 5.0151872729, 0.6051791095, 0.9974779761),
]


@pytest.mark.parametrize(("n", "mean_range", "sd_range", "mean_s"), TABLE)
def test_constants_agree_with_the_table_to_ten_digits(n, mean_range, sd_range, mean_s):
    assert float(d2(n)) == pytest.approx(mean_range, abs=5.1e-11)
    assert float(d3(n)) == pytest.approx(sd_range, abs=5.1e-11)
    assert float(c4(n)) == pytest.approx(mean_s, abs=5.1e-11)


def test_closed_forms_of_small_n():
    np.testing.assert_allclose(d2([2, 3]), np.array([2, 3]) / np.sqrt(np.pi), atol=1e-12)
    assert float(d3(2)) == pytest.approx(np.sqrt(2 - 4 / np.pi), rel=1e-13)
    # three values: E R^2 = 2 + 3 sqrt(3) / pi (David and Nagaraja, 4.2)
    assert float(d3(3)) == pytest.approx(np.sqrt(2 + 3 * np.sqrt(3) / np.pi - 9 / np.pi), rel=1e-13)
    assert float(c5(2)) == pytest.approx(np.sqrt(1 - 2 / np.pi), abs=1e-14)


def test_c4_of_a_thousand_million_values_stays_below_one():
    """The lgamma difference gives c4(1e9) > 1; plain gamma overflows from n = 344 on."""
    assert float(c4(1e9)) == pytest.approx(1 - 1 / (4 * (1e9 - 1)), abs=1e-16)
    assert float(c4(344)) == pytest.approx(1 - 1 / (4 * 343) + 1 / (32 * 343**2), abs=2e-9)


def test_c4_and_c5_have_no_step_where_the_series_takes_over():
    sizes = np.array([10000.0, 10001.0, 10002.0])
    np.testing.assert_allclose(np.diff(c4(sizes)), 1 / (4 * 1e8), rtol=1e-2)
    np.testing.assert_allclose(c5(sizes) * np.sqrt(2 * (sizes - 1)), 1.0, atol=2e-5)


def integral(function, low, high, **more):
    return quad(function, low, high, epsabs=1e-14, epsrel=1e-13, limit=500, **more)[0]


def distribution_of_range(n, w):
    """F_R(w) in Harter's other form, about the middle of the range: adaptive quadrature, not our grid."""
    tail = integral(
        lambda x: norm.pdf(x) * (ndtr(x) - ndtr(x - w)) ** (n - 1), w / 2, w / 2 + 12, points=[w / 2 + 0.5, w / 2 + 2]
    )
    return (2 * ndtr(w / 2) - 1) ** n + 2 * n * tail


@pytest.mark.parametrize("n", [2, 3, 4, 5, 10, 25, 100, 344, 1000])
def test_range_constants_agree_with_adaptive_quadrature(n):
    mean = 2 * integral(lambda x: -np.expm1(n * log_ndtr(-x)) - np.exp(n * log_ndtr(x)), 0, 15)
    assert float(d2(n)) == pytest.approx(mean, rel=1e-13)
    square = 2 * integral(lambda w: w * (1 - distribution_of_range(n, w)), 0, 16, points=[mean / 2, mean, 1.5 * mean])
    assert float(d3(n)) == pytest.approx(np.sqrt(square - mean**2), rel=2e-11)
    assert distribution_of_range(n, float(d4(n))) == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize("n", [2, 3, 7, 20, 100])
def test_the_median_of_the_range_is_scipys_studentized_range(n):
    assert float(d4(n)) == pytest.approx(studentized_range.ppf(0.5, n, np.inf), rel=1e-12)
    if n == 2:
        assert float(d4(n)) == pytest.approx(0.9538725524, abs=5e-11)  # sqrt(2) Phi^-1(3/4)


@pytest.mark.parametrize("n", [1, 3, 5, 25, 101, 1001])
def test_error_of_the_median_of_odd_n_from_the_beta_distribution(n):
    """The middle order statistic is Phi^-1 of a Beta((n + 1) / 2, (n + 1) / 2) variable."""
    half = (n + 1) / 2
    variance = 2 * integral(lambda p: norm.ppf(p) ** 2 * beta.pdf(p, half, half), 0, 0.5)
    assert float(median_error(n)) == pytest.approx(np.sqrt(variance), rel=1e-11)


@pytest.mark.parametrize("n", [2, 4, 10])
def test_error_of_the_median_of_even_n_from_the_joint_density(n):
    m = n // 2
    factor = comb(n, m) * m * m
    variance, _ = dblquad(
        lambda y, x: ((x + y) / 2) ** 2 * factor * (ndtr(x) * ndtr(-y)) ** (m - 1) * norm.pdf(x) * norm.pdf(y),
        -9,
        9,
        lambda x: x,
        lambda x: 9,
        epsabs=1e-11,
        epsrel=1e-10,
    )
    assert float(median_error(n)) == pytest.approx(np.sqrt(variance), rel=1e-10)


def test_error_of_the_median_of_many_values_has_its_limit():
    """sqrt(pi / 2n) (1 - (4 - pi) / 4n ...): odd and even n close in on it from below, side by side."""
    for n in (1_000_000, 1_000_001, 1_000_000_000, 1_000_000_001):
        gap = float(median_error(n)) / np.sqrt(np.pi / (2 * n)) - 1
        assert -1.0 / n < gap < 0


@pytest.mark.parametrize("n", [2, 3, 5, 30, 100, 1000])
def test_successive_differences_from_the_eigenvalues(n):
    """Q is a sum of chi-squares with weights 4 sin^2(j pi / 2n) (von Neumann 1941)."""
    weights = 4 * np.sin(np.arange(1, n) * np.pi / (2 * n)) ** 2

    def integrand(u):
        return -np.expm1(-0.5 * np.sum(np.log1p(np.exp(u) * weights / (n - 1)))) * np.exp(-u / 2)

    mean = sum(integral(integrand, low, high) for low, high in ((-75, -5), (-5, 5), (5, 75))) / (2 * np.sqrt(np.pi))
    assert float(c4_mssd(n)) == pytest.approx(mean, rel=1e-12)


def test_successive_differences_of_long_and_of_broken_series():
    # Var(MSSD) = (3 n - 4) / (n - 1)^2 (von Neumann 1941): E sqrt = 1 - Var / 8 + O(1 / n^2)
    for n in (10_000, 10**6, 10**9):
        assert float(c4_mssd(n)) == pytest.approx(1 - 3 / (8 * n), abs=3 / n**2 + 2e-15)
    assert float(c4_mssd(2)) == pytest.approx(np.sqrt(2 / np.pi), rel=1e-14)
    # pairs that share no value: independent chi-squares, so sqrt(Q / 2m) is an s of m degrees of freedom
    lengths = np.array([2, 2, 2, 7, 2, 2])
    found = c4_mssd_of_segments(lengths, Spans(np.array([0, 3, 4]), 6))
    assert found.tolist() == pytest.approx([float(c4(4)), float(c4_mssd(7)), float(c4(3))], rel=1e-13)


# AIAG Measurement Systems Analysis, appendix C: d2* for m = 2 and g = 1..20; other m at g = 1
AIAG_2 = [1.41421, 1.27931, 1.23105, 1.20621, 1.19105, 1.18083, 1.17348, 1.16794, 1.16361, 1.16014]
AIAG_2 += [1.15729, 1.15490, 1.15289, 1.15115, 1.14965, 1.14833, 1.14717, 1.14613, 1.14520, 1.14437]


def test_d2_star_is_that_of_aiag():
    np.testing.assert_allclose(d2_star(2, np.arange(1, 21)), AIAG_2, atol=1e-5)
    assert float(d2_star(5, 1e12)) == pytest.approx(float(d2(5)), rel=1e-12)
    with pytest.raises(ContractError, match=r"SPC-311.*at least one range"):
        d2_star(2, [3, 0])


def test_degrees_of_freedom_of_mean_ranges_are_those_of_aiag():
    """AIAG's first row: 1.0, 2.0, 2.9, 3.8 for m = 2 to 5 (g = 1); one of two values is exact."""
    assert nu_range([2, 3, 4, 5], 1).round(1).tolist() == [1.0, 2.0, 2.9, 3.8]
    assert float(nu_range(2, 1)) == pytest.approx(1.0, abs=1e-12)
    ratio = float(d3(5) / d2(5)) ** 2
    nu = float(nu_range(5, 7))
    assert float(c5(nu + 1) / c4(nu + 1)) ** 2 == pytest.approx(ratio / 7, rel=1e-11)
    assert float(nu_range(5, 1e7)) == pytest.approx(1e7 / (2 * ratio), rel=1e-6)


# Montgomery, Introduction to Statistical Quality Control, appendix VI: the table's digits
MONTGOMERY = {
    2: {"A": 2.121, "A2": 1.880, "A3": 2.659, "B4": 3.267, "B6": 2.606, "D2": 3.686, "D4": 3.267, "B3": 0, "D3": 0},
    5: {"A": 1.342, "A2": 0.577, "A3": 1.427, "B4": 2.089, "B6": 1.964, "D2": 4.918, "D4": 2.114, "B3": 0, "D3": 0},
    7: {"A2": 0.419, "B3": 0.118, "B4": 1.882, "B5": 0.113, "B6": 1.806, "D1": 0.204, "D2": 5.204, "D3": 0.076, "D4": 1.924},
    25: {"A": 0.600, "A2": 0.153, "A3": 0.606, "B3": 0.565, "B4": 1.435, "B5": 0.559, "B6": 1.420, "D3": 0.459, "D4": 1.541},
}


@pytest.mark.parametrize("n", list(MONTGOMERY))
def test_factors_are_those_of_the_published_table(n):
    found = factors(n).row(0, named=True)
    for name, value in MONTGOMERY[n].items():
        assert found[name] == pytest.approx(value, abs=1.01e-3), name
    assert found["E2"] == pytest.approx(3 / found["d2"])
    assert found["A6"] * found["d2"] == pytest.approx(3 * float(median_error(n)))
    assert factors(n, k=2.0)["A2"].item() == pytest.approx(found["A2"] * 2 / 3)


def test_c4_of_odd_degrees_by_whole_numbers_and_up_to_a_million_million():
    """c4(2m + 1) = Gamma(m + 1/2) / Gamma(m) / sqrt(m) with Gamma(m + 1/2) = (2m)! sqrt(pi) / (4^m m!)."""
    for m in (1, 2, 14, 15, 16, 50, 500, 4999, 5001):
        ratio = Fraction(comb(2 * m, m) * m, 4**m)
        assert float(c4(2 * m + 1)) == pytest.approx(float(ratio) * np.sqrt(np.pi / m), rel=1e-14)
        # 1 - c4^2 in rational arithmetic with pi to 30 digits: nothing cancels in the comparison
        c4_squared = ratio**2 * Fraction("3.14159265358979323846264338328") / m
        assert float(c5(2 * m + 1)) == pytest.approx(float(1 - c4_squared) ** 0.5, rel=1e-12)
    assert float(c4(1e12)) == pytest.approx(1 - 0.25 / (1e12 - 1), rel=1e-15)
    assert float(c4(1e12)) < 1


def test_a_broken_size_has_no_range():
    with pytest.raises(ContractError, match="whole sizes"):
        d4(2.5)


@pytest.mark.parametrize("constant", [d2, d3, d4, c4, c5, c4_mssd])
@pytest.mark.parametrize("n", [1, 0, [5, 1], np.nan])
def test_a_subgroup_of_one_has_no_constants(constant, n):
    with pytest.raises(ContractError, match="at least 2"):
        constant(n)


def test_interval_of_cp_is_the_published_one():
    low, high = interval_of_cp(np.array(1.33), np.array(124.0), 0.95)
    assert (float(low), float(high)) == pytest.approx((1.16456, 1.49518), abs=5e-6)


def test_interval_of_cpk_is_the_published_one():
    low, high = interval_of_cpk(np.array(1.2), np.array(125.0), np.array(124.0), 0.95)
    assert (float(low), float(high)) == pytest.approx((1.03963, 1.36037), abs=5e-6)

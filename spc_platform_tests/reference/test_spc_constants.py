"""Constants and intervals against published figures and closed forms."""

import numpy as np
import pytest

from spc_platform.errors import ContractError
from spc_platform.spc.capability import interval_of_cp, interval_of_cpk
from spc_platform.spc.constants import c4, c5, d2, d3

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
    assert float(d3(2)) == pytest.approx(np.sqrt(2 - 4 / np.pi), abs=5e-11)
    assert float(c5(2)) == pytest.approx(np.sqrt(1 - 2 / np.pi), abs=1e-14)


def test_c4_of_a_thousand_million_values_stays_below_one():
    """The lgamma difference gives c4(1e9) > 1; plain gamma overflows from n = 344 on."""
    assert float(c4(1e9)) == pytest.approx(1 - 1 / (4 * (1e9 - 1)), abs=1e-16)
    assert float(c4(344)) == pytest.approx(1 - 1 / (4 * 343) + 1 / (32 * 343**2), abs=2e-9)


def test_c4_and_c5_have_no_step_where_the_series_takes_over():
    sizes = np.array([10000.0, 10001.0, 10002.0])
    np.testing.assert_allclose(np.diff(c4(sizes)), 1 / (4 * 1e8), rtol=1e-2)
    np.testing.assert_allclose(c5(sizes) * np.sqrt(2 * (sizes - 1)), 1.0, atol=2e-5)


@pytest.mark.parametrize("constant", [d2, d3, c4, c5])
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

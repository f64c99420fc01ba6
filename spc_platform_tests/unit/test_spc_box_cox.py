"""Box-Cox powers against scipy, the likelihood itself, and what has no power."""

import numpy as np
import pytest
from scipy import stats

from spc_platform.errors import ContractError
from spc_platform.spc.box_cox import box_cox, find_power

SKEWED = np.random.default_rng(3).lognormal(1, 0.5, 300)


def test_the_power_and_its_interval_are_those_of_scipy():
    found = find_power(SKEWED)
    _, power, (low, high) = stats.boxcox(SKEWED, alpha=0.05)
    assert found.power == pytest.approx(power, abs=1e-6)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-8)


def test_the_power_maximises_scipy_s_likelihood():
    power = find_power(SKEWED).power
    best = stats.boxcox_llf(power, SKEWED)
    assert all(stats.boxcox_llf(power + step, SKEWED) < best for step in (-1e-4, 1e-4))


def test_the_power_is_rounded_to_a_half_only_inside_its_interval():
    found = find_power(SKEWED)
    assert found.low < 0 < found.high
    assert found.rounded == 0.0
    sharp = find_power(np.random.default_rng(3).normal(10, 1, 200_000) ** (1 / 0.3))
    assert not sharp.low <= 0.5 <= sharp.high
    assert sharp.rounded == sharp.power == pytest.approx(0.3, abs=0.05)


def test_pooled_sd_minimises_the_spread_within_subgroups():
    """Subgroup means that wander mislead the likelihood of all values, not the spread within."""
    random = np.random.default_rng(4)
    values = np.exp(np.repeat(random.uniform(0, 3, 60) ** 3 / 9, 5) + random.normal(0, 0.1, 300))
    sizes = np.full(60, 5)
    found = find_power(values, sizes, "pooled_sd")

    def pooled(power):
        w = (values**power - 1) / (power * np.exp(np.log(values).mean()) ** (power - 1))
        return np.reshape(w, (60, 5)).var(axis=1, ddof=1).mean()

    assert all(pooled(found.power + step) > pooled(found.power) for step in (-1e-3, 1e-3))
    assert found.low < 0 < found.high
    assert abs(found.power) < abs(find_power(values).power)


def test_a_change_of_unit_changes_no_power():
    one, other = find_power(SKEWED), find_power(SKEWED * 1e-12)
    assert (other.power, other.low, other.high) == pytest.approx((one.power, one.low, one.high), abs=1e-8)


def test_the_transform_joins_the_logarithm_without_a_step():
    x = np.array([0.5, 1.0, 4.0])
    assert box_cox(x, 0.0) == pytest.approx(np.log(x), rel=1e-15)
    assert box_cox(x, 1e-10) == pytest.approx(np.log(x), rel=1e-9)
    assert np.isnan(box_cox([0.0, -1.0], 0.5)).all()


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (([1.0, -2.0, 3.0],), "SPC-347", "row 2: value -2 is not positive.*add an offset"),
        (([1.0, 0.0, 3.0],), "SPC-347", "row 2"),
        (([2.0, 2.0, 2.0],), "SPC-349", "differ"),
        (([1.0, 2.0, 4.0], None, "pooled_sd"), "SPC-357", "give their sizes"),
        (([1.0, 2.0, 4.0], np.array([2, 2]), "pooled_sd"), "SPC-357", "3 values"),
        ((1e6 + np.random.default_rng(1).exponential(1, 50),), "SPC-358", "subtract an offset"),
    ],
)
def test_what_has_no_power_is_refused_with_its_remedy(arguments, code, text):
    with pytest.raises(ContractError, match=text) as caught:
        find_power(*arguments)
    assert caught.value.code == code

"""Our kernels against the certified figures of NIST's Statistical Reference Datasets, in correct digits (LRE)."""

from decimal import Decimal
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from spc_platform.errors import ContractError
from spc_platform.spc.sequence import Spans, merge
from spc_platform.spc.subgroups import subgroup_statistics
from spc_platform.verification.strd import ANOVA, UNIVARIATE, correct_digits, load, load_anova


def autocorrelation(values):
    about = values - values.mean()
    return float(about[1:] @ about[:-1] / (about @ about))


def one_subgroup(values):
    found = subgroup_statistics(values, np.ones(len(values), dtype=bool), Spans(np.array([0]), len(values)))
    return float(found["mean"][0]), float(found["s"][0])


def by_merging(values, size):
    """Mean and s of the values behind subgroups of ``size``, the partial last one with its n."""
    spans = Spans(np.arange(0, len(values), size), len(values))
    found = subgroup_statistics(values, np.ones(len(values), dtype=bool), spans)
    n, mean, m2 = merge(found["n_observed"].astype(float), found["mean"], found["m2"], Spans(np.array([0]), len(spans.starts)))
    return float(mean[0]), float(np.sqrt(m2[0] / (n[0] - 1)))


@pytest.mark.parametrize("name", UNIVARIATE)
def test_the_data_set_is_the_one_that_nist_certified(name):
    """Its size, and its lag-1 autocorrelation, which depends on the order of every value."""
    certified = load(name)
    sizes = {"Lottery": 218, "Lew": 200, "Mavro": 50, "Michelso": 100, "NumAcc1": 3}
    assert len(certified.values) == sizes.get(name, 1001)
    about = certified.values - certified.values[0]  # the shift keeps the digits that the check needs
    assert correct_digits(autocorrelation(about), certified.autocorrelation) >= 11


def exact_statistics(values):
    """Mean and s of the stored doubles in rational arithmetic, rounded once."""
    stored = [Fraction(float(value)) for value in values]
    mean = sum(stored) / len(stored)
    variance = sum((value - mean) ** 2 for value in stored) / (len(stored) - 1)
    return float(mean), float((Decimal(variance.numerator) / Decimal(variance.denominator)).sqrt())


# digits of the certified s that the stored doubles themselves keep, computed by exact_statistics
STORED = {"NumAcc3": 9.456, "NumAcc4": 8.252, "Mavro": 13.12, "Michelso": 13.84}


@pytest.mark.parametrize("name", UNIVARIATE)
def test_mean_and_s_of_one_subgroup_reach_the_digits_that_float64_allows(name):
    certified = load(name)
    mean, sd = one_subgroup(certified.values)
    exact_mean, exact_sd = exact_statistics(certified.values)
    assert correct_digits(mean, exact_mean) >= 15
    assert correct_digits(sd, exact_sd) >= 14
    assert correct_digits(mean, certified.mean) >= 15
    assert correct_digits(sd, certified.sd) >= STORED.get(name, 14)


@pytest.mark.parametrize("size", [2, 5, 40])
@pytest.mark.parametrize("name", UNIVARIATE)
def test_merging_subgroups_loses_only_what_their_stored_means_round_away(name, size):
    """A mean about 1e7 is stored to 1.9e-9: of NumAcc4's s of 0.1 that leaves eight digits."""
    certified = load(name)
    mean, sd = by_merging(certified.values, size)
    assert correct_digits(mean, certified.mean) >= 14.5
    assert correct_digits(sd, certified.sd) >= {"NumAcc4": 8, "NumAcc3": 9, "Mavro": 13, "Michelso": 13}.get(name, 14)


def test_the_naive_formula_fails_numacc4():
    """Sums of squares keep no useful digit of s, which is why nothing here is merged as a sum of squares."""
    values = load("NumAcc4").values
    naive = (np.sum(values**2) - np.sum(values) ** 2 / 1001) / 1000
    assert naive <= 0 or correct_digits(float(np.sqrt(naive)), 0.1) < 3


@pytest.mark.parametrize("name", ANOVA)
def test_within_and_between_sums_of_squares_of_the_anova_sets(name):
    """SmLs07 to 09 store 1e12 + 0.4 to 1.2e-4: three digits of steps of 0.1 are what float64 leaves."""
    certified = load_anova(name)
    spans = Spans.from_first(np.diff(certified.treatment, prepend=0) != 0)
    found = subgroup_statistics(certified.values, np.ones(spans.rows, dtype=bool), spans)
    n = found["n_observed"].astype(float)
    assert (len(n) - 1, spans.rows - len(n)) == (certified.df_between, certified.df_within)
    within = float(found["m2"].sum())
    _, _, total = merge(n, found["mean"], found["m2"], Spans(np.array([0]), len(n)))
    _, _, between = merge(n, found["mean"], np.zeros_like(n), Spans(np.array([0]), len(n)))
    digits = 3 if name >= "SmLs07" else 9 if name >= "SmLs04" else {"AtmWtAg": 10, "SiRstv": 12.5}.get(name, 14)
    assert correct_digits(within, certified.ss_within) >= digits
    assert correct_digits(float(between[0]), certified.ss_between) >= digits
    assert correct_digits(float(between[0] / total[0]), certified.r_squared) >= digits
    f = (float(between[0]) / certified.df_between) / (within / certified.df_within)
    assert correct_digits(f, certified.f) >= digits


@pytest.mark.parametrize("name", ANOVA)
def test_the_anova_sets_are_those_that_scipy_ships(name):
    file = Path(find_spec("scipy").origin).parent / "stats" / "tests" / "data" / "nist_anova" / f"{name}.dat"
    rows = np.loadtxt(file, skiprows=60)
    np.testing.assert_array_equal(load_anova(name).values, rows[:, 1])
    np.testing.assert_array_equal(load_anova(name).treatment, rows[:, 0])
    text = file.read_text()
    for figure in (load_anova(name).r_squared, load_anova(name).ss_between, load_anova(name).f):
        assert f"{figure:.14E}" in text


def test_an_unknown_set_names_the_known_ones():
    with pytest.raises(ContractError, match="NumAcc4"):
        load("NumAcc5")
    with pytest.raises(ContractError, match="SiRstv"):
        load_anova("Lew")

"""Hypothesis tests against NIST's certified and printed figures, published examples and independent computations.

NIST StRD one-way ANOVA: certified F statistics of the data sets that SciPy ships with its own tests.
NIST e-Handbook of Statistical Methods: 1.3.5.7 (Bartlett), 1.3.5.10 (Levene), both on GEAR.DAT.
"""

import math
from decimal import Decimal
from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import scipy.stats.tests
from scipy import stats
from statsmodels.stats.diagnostic import normal_ad

from spc_platform.spc.hypothesis import (
    anderson_darling,
    bartlett,
    f_test,
    kruskal_wallis,
    levene,
    mann_whitney,
    one_proportion,
    one_way_anova,
    paired_t,
    two_proportions,
    two_rates,
    two_sample_t,
)
from spc_platform_tests.conftest import lacking

# significant digits that float64 leaves: the values of SmLs04-06 share 7 leading digits, those of SmLs07-09 share 13
STRD = {
    "SiRstv": 1e-12, "SmLs01": 1e-12, "SmLs02": 1e-12, "SmLs03": 1e-12, "AtmWtAg": 1e-9,
    "SmLs04": 1e-9, "SmLs05": 1e-9, "SmLs06": 1e-9, "SmLs07": 1e-3, "SmLs08": 1e-3, "SmLs09": 1e-3,
}  # fmt: skip
CERTIFIED_F = {
    "SiRstv": 1.18046237440255, "SmLs01": 21.0, "SmLs02": 201.0, "SmLs03": 2001.0, "AtmWtAg": 15.9467335677930,
    "SmLs04": 21.0, "SmLs05": 201.0, "SmLs06": 2001.0, "SmLs07": 21.0, "SmLs08": 201.0, "SmLs09": 2001.0,
}  # fmt: skip


def strd(name: str) -> dict[str, list[float]]:
    path = Path(scipy.stats.tests.__path__[0]) / "data" / "nist_anova" / f"{name}.dat"
    if not path.is_file():
        lacking(f"this SciPy was installed without its test data ({path.name})")
    groups: dict[str, list[float]] = {}
    for line in path.read_text().splitlines()[60:]:
        group, value = line.split()
        groups.setdefault(group, []).append(float(value))
    return groups


@pytest.mark.parametrize("name", STRD)
def test_the_f_statistic_is_nists_certified_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spc_platform.spc.mean_tests.all_pairs", lambda *_, **__: ())  # pairs are not certified, and slow
    assert one_way_anova(strd(name)).statistic == pytest.approx(CERTIFIED_F[name], rel=STRD[name])


@pytest.fixture(scope="module")
def gear(shared_data: Path) -> dict[str, list[float]]:
    path = shared_data / "nist-handbook-spc" / "GEAR.DAT"
    if not path.is_file():
        lacking(f"no e-Handbook data at {path}; set SPC_SHARED_DATA or run `spc data fetch`")
    groups: dict[str, list[float]] = {}
    for line in path.read_text().splitlines()[25:]:
        diameter, batch = line.split()
        groups.setdefault(batch, []).append(float(diameter))
    return groups


def exact_brown_forsythe(groups: dict[str, list[float]]) -> Fraction:
    """Brown and Forsythe's F in rational numbers: no rounding at all."""
    distances = []
    for values in groups.values():
        exact = sorted(Fraction(str(value)) for value in values)
        middle = (exact[4] + exact[5]) / 2
        distances.append([abs(value - middle) for value in exact])
    means = [sum(row, Fraction(0)) / 10 for row in distances]
    grand = sum(means, Fraction(0)) / len(means)
    between = 10 * sum(((mean - grand) ** 2 for mean in means), Fraction(0)) / (len(means) - 1)
    within = sum(((value - mean) ** 2 for row, mean in zip(distances, means, strict=True) for value in row), Fraction(0))
    return between / (within / (10 * len(means) - len(means)))


def exact_bartlett(groups: dict[str, list[float]]) -> Decimal:
    """Bartlett's chi-square from rational variances and 28-digit logarithms."""
    exact = [[Fraction(str(value)) for value in values] for values in groups.values()]
    variances = [sum(((value - sum(row) / 10) ** 2 for value in row), Fraction(0)) / 9 for row in exact]
    logs = [(Decimal(v.numerator) / Decimal(v.denominator)).ln() for v in [sum(variances, Fraction(0)) / 10, *variances]]
    correction = 1 + (Decimal(10) / 9 - Decimal(1) / 90) / 27
    return (90 * logs[0] - 9 * sum(logs[1:])) / correction


def test_levene_and_bartlett_of_gear_diameters_are_those_of_the_handbook(gear: dict[str, list[float]]) -> None:
    found = levene(gear)
    # e-Handbook 1.3.5.10 prints W = 1.705910; exact rational arithmetic on the same file gives 1.7059177, so NIST's figure
    # holds to five digits and the exact one to all
    assert found.statistic == pytest.approx(1.705910, abs=1e-5)
    assert found.statistic == pytest.approx(float(exact_brown_forsythe(gear)), rel=1e-9)
    assert found.df == (9.0, 90.0)
    # e-Handbook 1.3.5.7 prints T = 20.78580, single precision again: its figure holds to five digits
    assert bartlett(gear).statistic == pytest.approx(20.78580, abs=1e-4)
    assert bartlett(gear).statistic == pytest.approx(float(exact_bartlett(gear)), rel=1e-10)


def test_students_sleep_data() -> None:
    # Student, Biometrika 6 (1908) 1, as in R's help of t.test: Welch t = -1.8608, df = 17.776, p = 0.07939,
    # interval -3.3654832 0.2054832; paired t = -4.0621, df = 9, p = 0.002833, interval -2.4598858 -0.7001142
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    welch, pairs = two_sample_t(first, second), paired_t(first, second)
    assert welch.statistic == pytest.approx(-1.8608, abs=5e-5)
    assert welch.df[0] == pytest.approx(17.776, abs=5e-4)
    assert welch.p_value == pytest.approx(0.07939, abs=5e-6)
    assert welch.interval is not None
    assert (welch.interval.low, welch.interval.high) == pytest.approx((-3.3654832, 0.2054832), abs=5e-8)
    assert pairs.statistic == pytest.approx(-4.0621, abs=5e-5)
    assert pairs.p_value == pytest.approx(0.002833, abs=5e-7)
    assert pairs.interval is not None
    assert (pairs.interval.low, pairs.interval.high) == pytest.approx((-2.4598858, -0.7001142), abs=5e-8)


def test_d_and_its_interval_reproduce_the_tails_of_the_noncentral_t() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.normal(0.8, 1, 12), rng.normal(0, 1, 17)
    result = two_sample_t(a, b, equal_variances=True, confidence=0.9)
    d = result.effects[0]
    pooled = math.sqrt((11 * a.var(ddof=1) + 16 * b.var(ddof=1)) / 27)
    assert d.value == pytest.approx((a.mean() - b.mean()) / pooled, rel=1e-12)
    root = math.sqrt(12 * 17 / 29)
    assert stats.nct.sf(result.statistic, 27, d.low * root) == pytest.approx(0.05, rel=1e-8)
    assert stats.nct.cdf(result.statistic, 27, d.high * root) == pytest.approx(0.05, rel=1e-8)
    assert result.effects[1].value == pytest.approx(d.value * (1 - 3 / (4 * 27 - 1)), rel=1e-3)  # Hedges' approximation


def test_tukey_and_games_howell_agree_with_scipy() -> None:
    rng = np.random.default_rng(8)
    groups = {"A": rng.normal(0, 1, 6), "B": rng.normal(1, 1, 9), "C": rng.normal(2, 3, 7)}
    for equal in (True, False):
        ours = one_way_anova(groups, equal_variances=equal)
        theirs = stats.tukey_hsd(*groups.values(), equal_var=equal)
        ends = theirs.confidence_interval()
        for pair, (i, j) in zip(ours.comparisons, [(0, 1), (0, 2), (1, 2)], strict=True):
            assert pair.difference == pytest.approx(theirs.statistic[i, j], rel=1e-9)
            assert pair.p_value == pytest.approx(theirs.pvalue[i, j], rel=1e-6)
            assert (pair.low, pair.high) == pytest.approx((ends.low[i, j], ends.high[i, j]), rel=1e-6)


def test_welchs_anova_of_two_groups_is_the_square_of_welchs_t() -> None:
    rng = np.random.default_rng(9)
    a, b = rng.normal(0, 1, 8), rng.normal(1, 4, 15)
    anova, t = one_way_anova({"a": a, "b": b}, equal_variances=False), two_sample_t(a, b)
    assert anova.statistic == pytest.approx(t.statistic**2, rel=1e-9)
    assert anova.p_value == pytest.approx(t.p_value, rel=1e-9)
    assert anova.df[1] == pytest.approx(t.df[0], rel=1e-9)


def test_an_interval_of_the_variance_ratio_ends_where_the_test_rejects() -> None:
    rng = np.random.default_rng(10)
    a, b = rng.normal(0, 1, 9), rng.normal(0, 2, 14)
    interval = f_test(a, b).interval
    assert interval is not None
    for end in (interval.low, interval.high):
        assert f_test(a, b, end).p_value == pytest.approx(0.05, rel=1e-8)


def test_exact_mann_whitney_against_all_arrangements() -> None:
    first, second = [1.1, 2.2, 5.3, 7.0], [2.0, 4.0, 6.0, 8.0, 9.5]
    everything = sorted(first + second)
    counts = []
    for chosen in product([True, False], repeat=9):
        if sum(chosen) == 4:
            inside = [value for value, take in zip(everything, chosen, strict=True) if take]
            outside = [value for value, take in zip(everything, chosen, strict=True) if not take]
            counts.append(sum(a > b for a in inside for b in outside))
    u = sum(a > b for a in first for b in second)
    result = mann_whitney(first, second)
    assert result.statistic == u
    tail = min(sum(count <= u for count in counts), sum(count >= u for count in counts)) / len(counts)
    assert result.p_value == pytest.approx(min(1.0, 2 * tail), rel=1e-12)
    assert result.interval is not None
    below = sorted(a - b for a in first for b in second).index(result.interval.low)
    assert result.details["attained_confidence"] == pytest.approx(1 - 2 * sum(count <= below for count in counts) / len(counts))


def test_hollander_and_wolfes_permeability_of_membranes() -> None:
    # Hollander and Wolfe (1973) p. 69, as in R's help of wilcox.test: W = 35, one-sided exact p = 0.1272
    term = [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46]
    early = [1.15, 0.88, 0.90, 0.74, 1.21]
    result = mann_whitney(term, early, alternative="greater")
    assert result.statistic == 35.0
    assert result.p_value == pytest.approx(0.1272, abs=5e-5)
    assert result.estimate == pytest.approx(0.305, abs=1e-9)


def test_kruskal_wallis_of_mucociliary_efficiency() -> None:
    # Hollander and Wolfe (1973) p. 116, as in R's help of kruskal.test: H = 0.77143, df = 2, p = 0.68
    groups = {
        "normal": [2.9, 3.0, 2.5, 2.6, 3.2],
        "obstructive": [3.8, 2.7, 4.0, 2.4],
        "asbestosis": [2.8, 3.4, 3.7, 2.2, 2.0],
    }
    result = kruskal_wallis(groups)
    assert result.statistic == pytest.approx(0.77143, abs=5e-6)
    assert result.p_value == pytest.approx(0.68, abs=5e-3)


def test_newcombes_published_interval_and_fishers_tea() -> None:
    # Newcombe 1998 table II, method 10: 56/70 against 48/80 gives 0.0524 to 0.3339
    interval = two_proportions((56, 70), (48, 80)).interval
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    # Fisher 1935, the lady tasting tea, R's help of fisher.test: one-sided p = 0.2429, conditional odds ratio 6.408309
    tea = two_proportions((3, 4), (1, 4), alternative="greater")
    assert tea.p_value == pytest.approx(0.2429, abs=5e-5)
    odds = next(effect for effect in tea.effects if effect.name == "odds_ratio")
    assert odds.value == pytest.approx(6.408309, abs=2e-5)  # R searches its root to four digits
    exact = max(np.roots([1.0, 0.0, -36.0, -32.0, -3.0]).real)  # E[X | psi] = 3 for margins of 4
    assert odds.value == pytest.approx(exact, rel=1e-9)


def test_mendels_peas_by_the_exact_binomial() -> None:
    # Conover (1971) p. 97, R's help of binom.test: 682 of 925 against 0.75, p = 0.3825, interval 0.7076683 0.7654066
    result = one_proportion(682, 925, 0.75)
    assert result.p_value == pytest.approx(0.3825, abs=5e-5)
    assert result.interval is not None
    assert (result.interval.low, result.interval.high) == pytest.approx((0.7076683, 0.7654066), abs=5e-8)


def test_two_poisson_rates_of_rs_example() -> None:
    # R's help of poisson.test: c(11, 6+8+7), c(800, 1083+1050+878): p = 0.07967, ratio 1.971488, 0.8584264 4.2772659
    result = two_rates((11, 800.0), (21, 3011.0))
    assert result.p_value == pytest.approx(0.07967, abs=5e-6)
    assert result.estimate == pytest.approx(1.971488, abs=5e-7)
    assert result.interval is not None
    assert (result.interval.low, result.interval.high) == pytest.approx((0.8584264, 4.2772659), abs=5e-7)


def test_anderson_darling_agrees_with_statsmodels() -> None:
    rng = np.random.default_rng(12)
    for values in (rng.normal(0, 1, 40), rng.exponential(1, 60), rng.uniform(0, 1, 15), rng.normal(0, 1, 200) ** 3):
        ours, (statistic, p_value) = anderson_darling(values), normal_ad(values)
        assert ours.statistic == pytest.approx(statistic, rel=1e-9)
        assert ours.p_value == pytest.approx(p_value, rel=1e-6)

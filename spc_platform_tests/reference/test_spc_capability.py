"""Indices, intervals and expected defects against published figures, closed forms and simulated truth."""

import numpy as np
import polars as pl
import pytest
from scipy import integrate, special, stats

from spc_platform.errors import ContractError
from spc_platform.spc.capability_study import capability_study
from spc_platform.spc.indices import expected_ppm, freedom_of_cpm, indices, interval_of_cp, interval_of_cpk, z_bench
from spc_platform.spc.percentiles import empirical_percentiles, percentile_indices, z_score_ppk
from spc_platform.spc.rules import RULE_SETS, evaluate
from spc_platform.spc.sequence import Spans
from spc_platform.spc.stability import is_unstable, signals_by_chance

NONE = np.nan


def of(mean, within, overall, n, nu, lsl, target, usl, **more):
    arrays = (np.array([float(each)]) for each in (mean, within, overall, n, nu, lsl, target, usl))
    return {name: float(value[0]) for name, value in indices(*arrays, **more).items()}


def test_the_worked_example_of_the_nist_handbook():
    """NIST/SEMATECH e-Handbook 6.1.6: USL 20, LSL 8, mean 16, s 2: Cp 1.0, Cpu 0.6667, Cpl 1.3333, Cpk 0.6667."""
    found = of(16, 2, 2, 50, 49, 8, NONE, 20)
    assert [found[name] for name in ("cp", "cpu", "cpl", "cpk")] == pytest.approx([1.0, 2 / 3, 4 / 3, 2 / 3], rel=1e-14)


QCC = np.array([[10.00, 10.02, 9.98, 10.01], [10.03, 9.99, 10.01, 10.00], [9.97, 10.04, 10.02, 9.99]])


def qcc(target, **more):
    """Centre, sigma by R-bar / d2, overall s, with what qcc takes: d2 (4) = 2.059 of a table, n - 1 = 11 degrees throughout.

    The exact d2 is 2.0587507460: the table costs Cp 0.012 %.
    """
    within = np.ptp(QCC, axis=1).mean() / 2.059
    return of(QCC.mean(), within, QCC.std(ddof=1), 12, 11, 9.9, target, 10.1, **more)


def test_the_indices_and_intervals_of_r_qcc():
    """Expected figures of qcc's own tests (github.com/luca-scr/qcc, tests/testthat/test-capability.R), 1e-6 relative."""
    found = qcc(10.0)
    for name, published in {
        "cp": (1.372667, 0.808460, 1.937713),
        "cpk": (1.304033, 0.727408, 1.880659),
        "pp": (1.612598, 0.949773, 2.276410),
        "ppk": (1.531968, 0.864608, 2.199329),
    }.items():
        assert (found[name], found[f"{name}_ci_low"], found[f"{name}_ci_high"]) == pytest.approx(published, abs=1.5e-6), name
    assert [found[name] for name in ("cpl", "cpu", "ppl", "ppu")] == pytest.approx(
        [1.441300, 1.304033, 1.693228, 1.531968], abs=1e-6
    )


def test_cpm_is_the_ppm_of_r_qcc_on_and_off_target():
    """qcc's Cpm takes sigma within, its Ppm the overall s, as Cpm here; its degrees of freedom are not Boyles'."""
    assert [qcc(10.0)["cpm"], qcc(10.02)["cpm"]] == pytest.approx([1.567395, 1.305161], abs=1e-6)


def test_one_sided_bounds_are_those_of_r_qcc():
    """qcc gives Cp_l and Cp_u one-sided bounds at both ends."""
    lower, upper = qcc(10.0, bounds="lower"), qcc(10.0, bounds="upper")
    assert (lower["cpl_ci_low"], upper["cpl_ci_high"]) == pytest.approx((0.911657, 1.970943), abs=1.5e-6)
    assert (lower["cpu_ci_low"], upper["cpu_ci_high"]) == pytest.approx((0.820114, 1.787953), abs=1.5e-6)


def test_intervals_to_all_digits_by_root_finding_in_the_chi_square_integral():
    """The chi-square quantile by its own distribution function, not by a quantile function."""
    low, high = interval_of_cp(np.array([1.33]), np.array([124.0]), 0.95)
    for end, share in ((low[0], 0.025), (high[0], 0.975)):
        quantile = (end / 1.33) ** 2 * 124
        density = integrate.quad(lambda x: np.exp(61 * np.log(x) - x / 2 - 62 * np.log(2) - special.gammaln(62)), 0, quantile)
        assert density[0] == pytest.approx(share, abs=1e-10)
    assert (low[0], high[0]) == pytest.approx((1.16456, 1.49518), abs=5e-6)
    ends = interval_of_cpk(np.array([1.2]), np.array([125.0]), np.array([124.0]), 0.95)
    half = 1.959963984540054 * np.sqrt(1 / 1125 + 1.44 / 248)
    assert (float(ends[0][0]), float(ends[1][0])) == pytest.approx((1.2 - half, 1.2 + half), rel=1e-14)


def test_every_index_has_an_interval_that_holds_it():
    found = of(10.2, 0.5, 0.6, 125, 100, 8, 10, 12)
    for name in ("cp", "cpl", "cpu", "cpk", "pp", "ppl", "ppu", "ppk", "cpm"):
        assert found[f"{name}_ci_low"] < found[name] < found[f"{name}_ci_high"], name
    assert found["pp_ci_low"] == pytest.approx(found["pp"] * np.sqrt(stats.chi2.ppf(0.025, 124) / 124), rel=1e-13)
    a2 = (0.2 / 0.6) ** 2
    nu = 125 * (1 + a2) ** 2 / (1 + 2 * a2)
    assert found["cpm_ci_high"] == pytest.approx(found["cpm"] * np.sqrt(stats.chi2.ppf(0.975, nu) / nu), rel=1e-13)
    assert float(freedom_of_cpm(np.array(10.0), np.array(0.6), np.array(125.0), np.array(10.0))) == 125.0


@pytest.mark.parametrize("index", ["cp", "cpk", "cpm"])
def test_intervals_cover_the_truth_as_often_as_they_say(index):
    """4,000 simulated studies of 50 values: Cp 1, Cpk 0.8333 (mean off by half a sigma), Cpm 0.8944."""
    values = np.random.default_rng(8).normal(0.5, 1, (4000, 50))
    s, one = values.std(axis=1, ddof=1), np.ones(4000)
    found = indices(values.mean(axis=1), s, s, 50 * one, 49 * one, -3 * one, 0 * one, 3 * one)
    truth = {"cp": 1.0, "cpk": 2.5 / 3, "cpm": 1 / np.sqrt(1.25)}[index]
    covered = np.mean((found[f"{index}_ci_low"] < truth) & (truth < found[f"{index}_ci_high"]))
    # five standard errors of 0.95 are 0.017; Boyles' and Bissell's are approximations
    assert covered == pytest.approx(0.95, abs=0.02)


def test_one_sided_bounds_put_the_whole_risk_on_one_end():
    lower = of(10, 0.5, 0.5, 125, 124, 8, 10, 12, bounds="lower")
    assert lower["cp_ci_low"] == pytest.approx(lower["cp"] * np.sqrt(stats.chi2.ppf(0.05, 124) / 124), rel=1e-13)
    assert np.isnan(lower["cp_ci_high"])
    upper = of(10, 0.5, 0.5, 125, 124, 8, 10, 12, bounds="upper")
    assert upper["cpk_ci_high"] == pytest.approx(
        upper["cpk"] + 1.6448536269514722 * np.sqrt(1 / 1125 + upper["cpk"] ** 2 / 248), rel=1e-13
    )
    assert np.isnan(upper["cpk_ci_low"])


def test_a_tail_of_one_in_ten_to_the_twenty_keeps_its_digits():
    """Q(10) = 7.619853024160526e-24, Q(5) = 2.866515718791939e-7 (Abramowitz and Stegun, table 26.2)."""
    below, above, total = expected_ppm(np.array([0.0]), np.array([1.0]), np.array([-10.0]), np.array([5.0]))
    assert float(below[0]) == pytest.approx(7.619853024160526e-18, rel=1e-12)
    assert float(above[0]) == pytest.approx(0.2866515718791939, rel=1e-12)
    assert float(total[0]) == pytest.approx(0.2866515718791939, rel=1e-12)
    assert float(z_bench(above)[0]) == pytest.approx(5.0, rel=1e-12)
    assert np.isnan(z_bench(np.array([0.0]))[0])


def test_an_affine_change_of_unit_changes_no_index():
    one = of(10.2, 0.5, 0.6, 125, 100, 8, 10, 12)
    other = of(1e9 + 10.2 * 2**-10, 0.5 * 2**-10, 0.6 * 2**-10, 125, 100, 1e9 + 2**-7, 1e9 + 10 * 2**-10, 1e9 + 12 * 2**-10)
    tiny = of(10.2e-12, 0.5e-12, 0.6e-12, 125, 100, 8e-12, 10e-12, 12e-12)
    for name, value in one.items():
        assert tiny[name] == pytest.approx(value, rel=1e-11), name
        if not name.startswith("expected"):  # the mean itself is rounded to 1e-7 at 1e9
            assert other[name] == pytest.approx(value, rel=2e-3), name


def test_a_one_sided_specification_has_no_two_sided_index():
    found = of(10, 0.5, 0.6, 125, 100, NONE, 10, 12)
    assert all(np.isnan(found[name]) for name in ("cp", "pp", "cpm", "cpl", "ppl", "expected_ppm_below_lsl_within"))
    assert found["cpk"] == found["cpu"] == pytest.approx(2 / 1.5)
    assert found["expected_ppm_total_overall"] == found["expected_ppm_above_usl_overall"]


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        ({"lsl": 12, "usl": 8}, "SPC-345", "row 1: LSL 12 is not below USL 8"),
        ({"lsl": 8, "usl": 8}, "SPC-345", "not below"),
        ({"lsl": 8, "usl": np.inf}, "SPC-345", "infinite"),
        ({"lsl": 8, "usl": 12, "confidence": 95.0}, "SPC-346", "0.95"),
    ],
)
def test_impossible_limits_and_confidence_are_refused(change, code, text):
    confidence = change.pop("confidence", 0.95)
    with pytest.raises(ContractError, match=text) as caught:
        of(10, 1, 1, 10, 9, target=NONE, confidence=confidence, **change)
    assert caught.value.code == code


def test_percentile_indices_of_a_normal_distribution_are_pp_and_ppk():
    law = stats.norm(10.2, 0.6)
    low, middle, high = (np.array([law.ppf(share)]) for share in (0.00135, 0.5, 0.99865))
    found = percentile_indices(low, middle, high, np.array([8.0]), np.array([12.0]))
    # the normal quantile of 0.99865 lies a little below 3
    assert found["pp_percentile"][0] == pytest.approx(4 / (2 * 0.6 * 2.9999769927034), rel=1e-12)
    assert found["ppk_percentile"][0] == pytest.approx(1.8 / (0.6 * 2.9999769927034), rel=1e-12)
    assert float(z_score_ppk(np.array(law.cdf(8)), np.array(law.sf(12)))) == pytest.approx(1.0, rel=1e-12)


def test_empirical_percentiles_stand_at_position_n_plus_1_times_p():
    values = np.sort(np.random.default_rng(2).normal(size=3000))
    spans = Spans(np.array([0, 2500]), 3000)
    values[2500:] = np.sort(values[2500:])
    low, middle, high, too_few = empirical_percentiles(values, spans)
    for found, share in ((low, 0.00135), (middle, 0.5), (high, 0.99865)):
        assert found[0] == pytest.approx(np.quantile(values[:2500], share, method="weibull"), rel=1e-13)
    assert high[1] == values[-1]
    assert too_few.tolist() == [False, True]


def test_the_share_of_signals_by_chance():
    """Rule 1: 0.0026998. Two of three beyond 2 sigma, the last among them: twice q (1 - (1 - q)^2) = 0.0020235 alone."""
    assert signals_by_chance(RULE_SETS["limits_only"])[0] == pytest.approx(2 * stats.norm.sf(3), rel=1e-12)
    q = stats.norm.sf(2)
    share, spread = signals_by_chance((RULE_SETS["western_electric"][1],))
    assert share == pytest.approx(2 * q * (1 - (1 - q) ** 2), abs=5 * np.sqrt(0.002 / 400_000))
    assert spread > 1


@pytest.mark.parametrize("name", ["limits_only", "western_electric", "nelson"])
def test_a_stable_chart_is_called_unstable_in_about_one_of_a_hundred(name):
    rules = RULE_SETS[name]
    z = np.random.default_rng(99).standard_normal((4000, 100))
    is_first = np.zeros(z.shape, dtype=bool)
    is_first[:, 0] = True
    flagged = np.zeros(z.size, dtype=bool)
    flagged[evaluate(z.ravel(), is_first.ravel(), rules).point] = True
    flagged = flagged.reshape(z.shape)
    far = np.where(flagged, np.abs(z), 0).max(axis=1)
    verdict = is_unstable(np.full(4000, 100), flagged.sum(axis=1), far, rules, 3.0)
    assert verdict.mean() < 0.016
    # any signal at all would condemn many more
    assert flagged.any(axis=1).mean() > 0.2


class TestStudy:
    values = np.random.default_rng(4).normal(10, 0.7, 125)

    def test_one_study_and_many_charts_agree_to_the_last_digit(self):
        found = capability_study(self.values, sigma_within=0.7, nu=100, lsl=7, target=10, usl=14)
        s, mean = self.values.std(ddof=1), self.values.mean()
        many = of(mean, 0.7, s, 125, 100, 7, 10, 14)
        for name, value in many.items():
            assert found[name] == pytest.approx(value, rel=1e-12), name

    def test_a_value_on_the_limit_is_inside(self):
        found = capability_study([1.0, 2.0, 3.0, 4.0], lsl=1.0, usl=3.0)
        assert (found["observed_ppm_below_lsl"], found["observed_ppm_above_usl"]) == (0.0, 250_000.0)

    def test_a_missing_limit_has_no_observed_defects(self):
        found = capability_study([1.0, 2.0, 3.0, 4.0], usl=3.0)
        assert found["observed_ppm_below_lsl"] is None
        assert found["observed_ppm_total"] == 250_000.0

    @pytest.mark.parametrize("values", [[1.0], [2.0, 2.0, 2.0]])
    def test_without_variation_every_index_is_empty_with_a_reason(self, values):
        found = capability_study(values, lsl=1, usl=3, target=2, sigma_within=0.0, nu=1)
        assert [found[name] for name in ("cp", "cpk", "pp", "ppk", "z_bench_within")] == [None] * 5
        assert "sigma within is 0" in found["reason"]

    @pytest.mark.parametrize(("values", "text"), [([1.0, NONE], "row 2"), ([np.inf], "row 1"), ([], "no value")])
    def test_values_that_are_none_are_refused_by_row(self, values, text):
        with pytest.raises(ContractError, match=text) as caught:
            capability_study(values, lsl=0, usl=2)
        assert caught.value.code == "SPC-347"

    def test_a_common_offset_of_a_thousand_million_keeps_the_spread(self):
        noise = np.arange(64) % 7 * 2.0**-10
        found = capability_study(1e9 + noise, lsl=1e9 - 1, usl=1e9 + 1)
        assert found["sigma_overall"] == pytest.approx(noise.std(ddof=1), rel=1e-13)

    def test_a_declared_distribution_is_judged_by_its_percentiles(self):
        values = np.random.default_rng(3).lognormal(1, 0.4, 4000)
        found = capability_study(values, lsl=0.5, usl=12, distribution="lognormal")
        logs = np.log(values)
        high, middle = np.exp(logs.mean() + 2.9999769927034 * logs.std()), np.exp(logs.mean())
        assert found["ppu_percentile"] == pytest.approx((12 - middle) / (high - middle), rel=1e-10)
        tail = 1e6 * stats.norm.sf((np.log(12) - logs.mean()) / logs.std())
        assert found["expected_ppm_above_usl_fitted"] == pytest.approx(tail, rel=1e-9)
        assert capability_study(values[:200], usl=12, distribution="lognormal")["is_extrapolated"] is True
        assert capability_study(values, usl=12, distribution="empirical")["is_extrapolated"] is False

    def test_auto_takes_the_distribution_that_made_the_values(self):
        values = np.random.default_rng(3).weibull(1.5, 2000) * 4
        assert capability_study(values, usl=30, distribution="auto")["distribution"] == "weibull"

    def test_a_transformed_study_is_the_study_of_the_logarithms(self):
        values = np.random.default_rng(3).lognormal(1, 0.4, 500)
        found = capability_study(values, lsl=0.5, usl=12, box_cox=0.0)
        plain = capability_study(np.log(values), lsl=np.log(0.5), usl=np.log(12))
        assert found["ppk"] == pytest.approx(plain["ppk"], rel=1e-12)
        moving = np.abs(np.diff(np.log(values))).mean() / 1.1283791670955126
        assert found["sigma_within"] == pytest.approx(moving, rel=1e-10)
        assert found["usl"] == 12

    def test_a_limit_without_a_transform_is_refused(self):
        with pytest.raises(ContractError, match="add an offset") as caught:
            capability_study([1.0, 2.0, 3.0], lsl=0.0, usl=5.0, box_cox=0.5)
        assert caught.value.code == "SPC-359"

    def test_a_study_is_plain_data(self):
        found = capability_study(self.values, lsl=7, usl=14, distribution="auto", box_cox="auto")
        assert {type(value) for value in found.values()} <= {float, int, str, bool, dict, type(None)}
        assert pl.DataFrame([found]).height == 1

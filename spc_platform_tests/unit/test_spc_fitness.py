"""Fitness of charts whose truth is known: simulated pitfalls with seeds, and every diagnostic against plain arithmetic."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats
from scipy.signal import lfilter

from spc_platform.contracts.fitness import SPC_CHART_FITNESS
from spc_platform.contracts.spc import SPC_LIMIT_ESTIMATES
from spc_platform.errors import ContractError
from spc_platform.spc import false_alarms
from spc_platform.spc.diagnostics import Members, autocorrelation, between_within, common_step, count_dispersion, shape
from spc_platform.spc.fitness import Samples, chart_fitness, pipeline_fitness
from spc_platform.spc.sequence import Spans
from spc_platform_tests.unit.spc_frames import XBAR_R, make_site, measurements, subgroups

D2 = {1: 1.1283791671, 2: 1.1283791671, 4: 2.0587507460, 5: 2.3259289473}
"""DOMAIN 2."""


def ar1(phi: float, n: int, seed: int) -> np.ndarray:
    return lfilter([1.0], [1.0, -phi], np.random.default_rng(seed).standard_normal(n + 500))[500:]


def one_chart(kind: str, x: np.ndarray, n: int = 1, **given: Any) -> dict[str, Any]:
    """Fitness of one gapless chart of consecutive subgroups of n, sigma from ranges."""
    group = np.asarray(x, dtype=np.float64).reshape(-1, n)
    value = group.mean(axis=1)
    spread = np.ptp(group, axis=1) if n > 1 else np.abs(np.diff(value))
    sigma = spread.mean() / D2.get(n, float("nan")) if n in D2 else group.std(axis=1, ddof=1).mean()
    single = {"values": group.ravel(), "value_chart": np.zeros(group.size, dtype=np.int64)} if n > 1 else {}
    m2 = ((group - value[:, None]) ** 2).sum(axis=1)
    return of_points(kind, value, np.full(len(value), float(n)), **{"sigma": np.array([sigma]), "m2": m2, **single, **given})


def of_points(kind: str, value: np.ndarray, n: np.ndarray, **given: Any) -> dict[str, Any]:
    first = np.arange(len(value)) == 0
    given = {"sigma": np.array([np.nan]), **given}
    return chart_fitness(Samples([kind], Spans(np.array([0]), len(value)), value, n, first, **given)).row(0, named=True)


@pytest.mark.parametrize(("phi", "rate"), [(0.5, 0.034), (0.8, 0.18), (0.9, 0.34)])
def test_autocorrelated_individuals_alarm_as_the_domain_survey_says(phi: float, rate: float) -> None:
    # domain survey 4: 2 Phi(-3 sqrt(1 - phi))
    x = ar1(phi, 60_000, 1)
    found = one_chart("i_mr", x)
    seen = np.mean(np.abs(x - x.mean()) > 3 * np.abs(np.diff(x)).mean() / D2[2])
    assert found["implied_false_alarm_rate"] == pytest.approx(rate, rel=0.05)
    assert found["implied_false_alarm_rate"] == pytest.approx(seen, rel=0.05)
    assert (found["verdict"], found["reasons"], found["suggested_chart"]) == ("unfit", "autocorrelation", "residual_i_mr")


@pytest.mark.parametrize(("phi", "rate", "suits"), [(0.5, 0.098, "i_mr_r"), (0.9, 0.55, "residual_i_mr")])
def test_autocorrelated_subgroups_alarm_as_the_domain_survey_says(phi: float, rate: float, suits: str) -> None:
    # domain survey 4: X-bar-R on consecutive fives
    x = ar1(phi, 100_000, 2)
    found = one_chart("xbar_r", x, 5)
    assert found["implied_false_alarm_rate"] == pytest.approx(rate, rel=0.04)
    assert found["reasons"] == "between_subgroups;autocorrelation"
    assert (found["verdict"], found["suggested_chart"]) == ("unfit", suits)


def test_a_subgroup_that_mixes_two_streams_hugs_the_centre() -> None:
    # domain survey 4: two streams 2 sigma apart: 88 % of means within 1 s, rule 1 at 5e-6
    x = np.random.default_rng(3).standard_normal((20_000, 4)) + np.array([1.0, 1.0, -1.0, -1.0])
    found = one_chart("xbar_r", x, 4)
    assert found["hugging_share"] == pytest.approx(0.88, abs=0.01)
    assert found["implied_false_alarm_rate"] == pytest.approx(5e-6, rel=0.5)
    # between 1, within 1 + 4/3: analysis of variance of the truth
    assert found["variance_ratio"] == pytest.approx(1 / (1 + 4 / 3), rel=0.03)
    assert (found["verdict"], found["reasons"], found["suggested_chart"]) == ("unfit", "stratification", None)


def test_two_heads_sampled_in_turn_alternate() -> None:
    x = np.random.default_rng(4).standard_normal(400) + np.tile([1.0, -1.0], 200)
    found = one_chart("i_mr", x)
    assert (found["verdict"], found["reasons"]) == ("doubtful", "alternation")
    assert found["implied_false_alarm_rate"] < 0.0027


def test_two_peaks_are_named() -> None:
    rng = np.random.default_rng(5)
    x = rng.standard_normal(500) + 5.0 * rng.integers(0, 2, 500)
    assert "two_peaks" in one_chart("i_mr", x)["reasons"].split(";")


@pytest.mark.parametrize(("kind", "n", "step", "rate"), [("xbar_r", 5, 1.5, 0.012), ("i_mr", 1, 2.0, 0.011)])
def test_chunky_data_alarm_as_the_domain_survey_says(kind: str, n: int, step: float, rate: float) -> None:
    # domain survey 4: increment 1.5 s: X-bar rule 1 at 1.2 %; increment 2 s: I-MR 1.1 %
    fresh = np.random.default_rng(6).standard_normal((20_000, n))
    worst = 0.0
    for phase in np.arange(16) / 16:
        x = step * np.round(fresh / step + phase)
        value = x.mean(axis=1)
        sigma = (np.ptp(x, axis=1) if n > 1 else np.abs(np.diff(value))).mean() / D2[n]
        worst = max(worst, np.mean(np.abs(value - value.mean()) > 3 * sigma / math.sqrt(n)))
    found = one_chart(kind, step * np.round(fresh / step), n)
    assert found["resolution_ratio"] == pytest.approx(step, rel=0.06)
    assert found["rate_step"] >= rate
    assert found["rate_step"] == pytest.approx(worst, rel=0.35)
    assert (
        found["distinct_ranges"] == math.floor((D2[n] + 3 * {1: 0.8525024664, 5: 0.8640819411}[n]) * found["sigma"] / step) + 1
    )
    assert "resolution" in found["reasons"].split(";")


def test_the_rate_of_rounded_individuals_is_the_sum_over_the_grid() -> None:
    phi = NormalDist().cdf
    for step in (0.55, 0.95, 2.0, 3.0):  # at 0.6 and 1 a grid point lies on the limit, which is no alarm
        rates = []
        for phase in range(32):
            cells = range(-30, 31)
            share = [phi((c + 0.5 - phase / 32) * step) - phi((c - 0.5 - phase / 32) * step) for c in cells]
            centre = math.fsum(c * p for c, p in zip(cells, share, strict=True))
            mean_range = math.fsum(
                abs(a - b) * p * q for a, p in zip(cells, share, strict=True) for b, q in zip(cells, share, strict=True)
            )
            sigma = mean_range * math.sqrt(math.pi) / 2
            rates.append(math.fsum(p for c, p in zip(cells, share, strict=True) if abs(c - centre) > 3 * sigma))
        rate = false_alarms.of_step(np.array([step]), np.array([1]))[0]
        assert rate == pytest.approx(max(rates), rel=1e-6), step


def test_a_fine_gauge_is_no_reason() -> None:
    found = one_chart("i_mr", np.round(np.random.default_rng(7).standard_normal(400), 1))
    assert found["resolution_ratio"] == pytest.approx(0.1, rel=0.1)
    assert (found["verdict"], found["text"]) == ("fit", "fit: nothing found against the chart")


def test_the_declared_resolution_goes_before_the_inferred_one() -> None:
    x = np.round(np.random.default_rng(8).standard_normal(200), 1)
    found = one_chart("i_mr", x, resolution=np.array([2.5]))
    assert found["resolution_ratio"] == pytest.approx(2.5 / found["sigma"], rel=1e-12)
    assert "resolution" in found["reasons"]


def test_skewed_individuals_alarm_ten_times_as_often() -> None:
    # domain survey 4: exponential I-MR rule 1 2.6 %
    assert false_alarms.of_shape(2.0, 6.0) == pytest.approx(0.026, abs=0.0005)
    found = one_chart("i_mr", np.random.default_rng(9).exponential(size=2000))
    assert (found["verdict"], found["reasons"], found["suggested_chart"]) == ("unfit", "normality", "ewma")
    assert found["implied_false_alarm_rate"] == pytest.approx(0.026, rel=0.15)


def test_means_of_skewed_values_alarm_as_their_gamma_distribution_says() -> None:
    # the mean of n exponentials is gamma(n) / n with sigma 1 / sqrt n
    n = 9
    exact = stats.gamma.sf(n + 3 * math.sqrt(n), n) + stats.gamma.cdf(n - 3 * math.sqrt(n), n)
    assert false_alarms.of_shape(2 / math.sqrt(n), 6 / n, moving=False) == pytest.approx(exact, rel=1e-9)
    x = np.random.default_rng(31).exponential(size=9 * 20_000)
    found = one_chart("xbar_s", x, n)
    assert found["rate_shape"] == pytest.approx(exact, rel=0.1)


def test_a_short_baseline_is_doubtful_and_nothing_else() -> None:
    x = np.random.default_rng(10).standard_normal(99)
    assert one_chart("i_mr", x)["reasons"] == "small_baseline"
    assert one_chart("xbar_r", np.random.default_rng(11).standard_normal(24 * 5), 5)["reasons"] == "small_baseline"
    assert one_chart("xbar_r", np.random.default_rng(11).standard_normal(25 * 5), 5)["verdict"] == "fit"


def test_thousands_of_sound_charts_are_rarely_doubted() -> None:
    charts, length = 2000, 120
    x = np.random.default_rng(12).standard_normal((charts, length))
    spans = Spans(np.arange(charts) * length, x.size)
    sigma = np.abs(np.diff(x, axis=1)).mean(axis=1) / D2[2]
    first = np.arange(x.size) % length == 0
    frame = chart_fitness(Samples(["i_mr"] * charts, spans, x.ravel(), np.ones(x.size), first, sigma))
    # four tests (two of them of one thing) at 0.001 of which effect lets some pass: far below 1 %
    assert frame.filter(pl.col("verdict") != "fit").height <= 0.005 * charts


def test_a_significant_trifle_is_no_finding() -> None:
    x = ar1(0.08, 200_000, 13)
    found = one_chart("i_mr", x)
    assert found["autocorrelation_p"] < 1e-6
    assert found["verdict"] == "fit"


def test_overdispersed_counts_suggest_laney() -> None:
    rng = np.random.default_rng(14)
    n = np.full(60, 2000.0)
    share = rng.binomial(2000, rng.beta(50, 950, 60)) / 2000
    found = of_points("p", share, n)
    assert (found["verdict"], found["reasons"], found["suggested_chart"]) == ("unfit", "overdispersion", "laney_p")
    assert "overdispersion" not in (of_points("laney_p", share, n)["reasons"] or "")
    sound = of_points("p", rng.binomial(2000, 0.05, 60) / 2000, n)
    assert sound["verdict"] == "fit"
    assert sound["skewness"] is None


def test_too_few_events_suit_no_normal_limits() -> None:
    rng = np.random.default_rng(15)
    rare = of_points("np", rng.binomial(50, 0.004, 80).astype(float), np.full(80, 50.0))
    assert rare["reasons"].split(";")[0] == "mostly_zero"
    assert rare["suggested_chart"] == "g"
    assert of_points("c", rng.poisson(0.2, 80).astype(float), np.ones(80))["suggested_chart"] == "t"
    some = of_points("c", rng.poisson(3.0, 80).astype(float), np.ones(80))
    assert (some["verdict"], some["reasons"]) == ("doubtful", "low_count")


def test_the_exact_rate_of_a_count_chart_equals_the_sum_of_its_tail() -> None:
    # p-bar 0.01, n 50: UCL = 0.5 + 3 sqrt(0.495) = 2.61, so 3 or more of 50
    tail = 1.0 - math.fsum(math.comb(50, x) * 0.01**x * 0.99 ** (50 - x) for x in range(3))
    assert false_alarms.of_count(np.array([50.0]), np.array([0.01]), np.array([True]))[0] == pytest.approx(tail, rel=1e-9)


def test_the_wrong_kind_of_chart_for_the_subgroups_is_unfit() -> None:
    x = np.random.default_rng(16).standard_normal(600)
    assert one_chart("xbar_r", x, 1)["suggested_chart"] == "i_mr"
    assert one_chart("i_mr", x, 5)["suggested_chart"] == "xbar_r"
    many = one_chart("xbar_r", x, 12)
    assert (many["verdict"], many["reasons"], many["suggested_chart"]) == ("doubtful", "range_of_many", "xbar_s")


def test_imputed_and_masked_values_are_reasons() -> None:
    x = np.random.default_rng(17).standard_normal(300)
    found = one_chart("i_mr", x, imputed_share=np.array([0.2]), masked_share=np.array([0.06]))
    assert (found["verdict"], found["reasons"]) == ("unfit", "imputed_values;many_masked")
    # domain survey 4: 20 % imputed: false alarms .0027 -> .0166
    assert found["implied_false_alarm_rate"] == pytest.approx(0.0166, rel=0.02)


def test_equal_values_and_an_empty_chart_are_unfit_not_zero() -> None:
    flat = one_chart("i_mr", np.full(120, 3.5))
    assert (flat["verdict"], flat["reasons"]) == ("unfit", "no_variation")
    assert flat["autocorrelation_lag1"] is None
    assert flat["anderson_darling"] is None
    empty = of_points("i_mr", np.full(5, np.nan), np.ones(5))
    assert (empty["n_subgroups"], empty["verdict"]) == (0, "unfit")
    assert empty["reasons"].split(";") == ["no_sigma", "small_baseline"]


def test_bad_input_is_refused_with_row_and_code() -> None:
    x = np.zeros(6)
    with pytest.raises(ContractError, match="SPC-372"):
        of_points("xbar_z", x, np.ones(6))
    with pytest.raises(ContractError, match=r"SPC-373.*row 2"):
        of_points("np", np.array([0.0, 1.0, 7.0, 0.0, 0.0, 0.0]), np.full(6, 6.0))
    with pytest.raises(ContractError, match=r"SPC-373.*row 0"):
        of_points("c", np.array([-1.0, 0, 0, 0, 0, 0]), np.ones(6))
    with pytest.raises(ContractError, match=r"SPC-370.*row 3"):
        of_points("i_mr", np.array([0, 0, 0, np.inf, 0, 0]), np.ones(6))
    with pytest.raises(ContractError, match="SPC-371"):
        of_points("i_mr", x, np.ones(5))
    with pytest.raises(ContractError, match="SPC-371"):
        of_points("i_mr", x, np.ones(6), values=x, value_chart=np.ones(6, dtype=np.int64))


def test_dependent_event_times_are_doubtful_without_an_invented_rate() -> None:
    x = np.exp(ar1(0.8, 300, 28))
    found = of_points("t", x, np.ones(300))
    assert (found["verdict"], found["reasons"], found["suggested_chart"]) == ("doubtful", "autocorrelation", None)
    assert found["implied_false_alarm_rate"] == pytest.approx(0.0027, abs=1e-6)
    assert found["normality_p"] is None


def test_charts_of_several_kinds_are_judged_in_one_call_as_alone() -> None:
    rng = np.random.default_rng(29)
    parts = [("i_mr", ar1(0.8, 150, 30)), ("c", rng.poisson(9.0, 40).astype(float)), ("ewma", rng.standard_normal(120))]
    sizes = [len(x) for _, x in parts]
    starts = np.cumsum([0, *sizes[:-1]])
    sigma = np.array([0.7, np.nan, 1.0])
    value = np.concatenate([x for _, x in parts])
    first = np.isin(np.arange(len(value)), starts)
    kinds = [kind for kind, _ in parts]
    together = chart_fitness(Samples(kinds, Spans(starts, len(value)), value, np.ones(len(value)), first, sigma))
    for row, (kind, x) in enumerate(parts):
        alone = of_points(kind, x, np.ones(len(x)), sigma=sigma[[row]])
        for name, expected in together.row(row, named=True).items():
            assert alone[name] == (pytest.approx(expected, rel=1e-12) if isinstance(expected, float) else expected), name


@pytest.mark.parametrize(("scale", "offset"), [(1e-12, 0.0), (2.0**-10, 2.0**20), (25.4, -7.0)])
def test_a_change_of_unit_changes_no_verdict(scale: float, offset: float) -> None:
    # steps of 2^-16 keep every digit under the offset of a million
    x = np.round(np.random.default_rng(27).exponential(size=400) * 2**16) / 2**16
    found, changed = (one_chart("xbar_r", y, 4) for y in (x, scale * x + offset))
    for name, value in found.items():
        if isinstance(value, float) and name != "sigma":
            assert changed[name] == pytest.approx(value, rel=1e-6), name
        elif name != "sigma":
            assert changed[name] == value, name


def brute_ljung_box(x: list[float | None], breaks: set[int], lags: int) -> tuple[float, float]:
    """r_1 and Q written out: pairs inside a segment only."""
    seen = [v for v in x if v is not None]
    mean = math.fsum(seen) / len(seen)
    square = math.fsum((v - mean) ** 2 for v in seen)
    n, q, r1 = len(seen), 0.0, math.nan
    for lag in range(1, lags + 1):
        products = [
            (x[t] - mean) * (x[t - lag] - mean)
            for t in range(lag, len(x))
            if x[t] is not None and x[t - lag] is not None and not breaks & set(range(t - lag + 1, t + 1))
        ]
        r = math.fsum(products) / square
        r1 = r if lag == 1 else r1
        q += n * (n + 2) * r * r / len(products)
    return r1, q


def test_autocorrelation_equals_ljung_box_written_out_with_and_without_gaps() -> None:
    rng = np.random.default_rng(18)
    whole, broken = 1e9 + 1e-3 * rng.standard_normal(70), rng.standard_normal(40)
    broken[11] = np.nan
    first = np.zeros(110, dtype=bool)
    first[[0, 70, 90]] = True
    found = autocorrelation(np.concatenate([whole, broken]), first, Members(np.repeat([0, 1], [70, 40]), 2))
    assert found.lags.tolist() == [10, 7]
    plain = [brute_ljung_box(list(whole), set(), 10)]
    plain.append(brute_ljung_box([None if math.isnan(v) else v for v in broken], {20}, 7))
    for chart, (r1, q) in enumerate(plain):
        assert found.lag1[chart] == pytest.approx(r1, rel=1e-6)
        assert found.ljung_box[chart] == pytest.approx(q, rel=1e-6)
        assert found.ljung_box_p[chart] == pytest.approx(stats.chi2.sf(q, [10, 7][chart]), rel=1e-5)


def test_shape_equals_scipy_and_the_sum_of_anderson_and_darling() -> None:
    rng = np.random.default_rng(19)
    parts = [rng.standard_normal(50), 1e6 + rng.exponential(size=80), rng.uniform(size=9)]
    found = shape(np.concatenate(parts), Members(np.repeat(np.arange(3), [50, 80, 9]), 3))
    for chart, x in enumerate(parts):
        assert found.skewness[chart] == pytest.approx(stats.skew(x), rel=1e-9)
        assert found.kurtosis_excess[chart] == pytest.approx(stats.kurtosis(x), rel=1e-9)
        z = (np.sort(x) - x.mean()) / x.std(ddof=1)
        n = len(x)
        terms = [(2 * i + 1) * (stats.norm.logcdf(z[i]) + stats.norm.logsf(z[n - 1 - i])) for i in range(n)]
        assert found.anderson_darling[chart] == pytest.approx(-n - math.fsum(terms) / n, rel=1e-9)


def test_the_p_of_anderson_darling_is_uniform_on_normal_data() -> None:
    x = np.random.default_rng(20).standard_normal(4000 * 40)
    p = shape(x, Members(np.repeat(np.arange(4000), 40), 4000)).p
    for level in (0.01, 0.05, 0.1, 0.5):
        assert np.mean(p < level) == pytest.approx(level, abs=4 * math.sqrt(level / 4000) + 0.1 * level)


def test_the_ratio_of_variances_is_the_f_of_one_way_anova() -> None:
    rng = np.random.default_rng(21)
    groups = [1e7 + rng.normal(loc, 0.01, size) for loc, size in ((0, 4), (0.01, 6), (0.02, 5), (0, 3))]
    f = stats.f_oneway(*groups)
    n = np.array([len(g) for g in groups], dtype=float)
    within = math.fsum(float(((g - g.mean()) ** 2).sum()) for g in groups) / (n.sum() - 4)
    found = between_within(
        np.array([g.mean() for g in groups]), n, Members(np.zeros(4, dtype=np.int64), 1), np.array([within]), np.array([14.0])
    )
    assert found.ratio[0] == pytest.approx(f.statistic, rel=1e-5)
    assert found.p[0] == pytest.approx(2 * min(f.pvalue, 1 - f.pvalue), rel=1e-4)


def test_the_dispersion_of_counts_is_the_chi_square_of_a_table() -> None:
    count, size = np.array([3.0, 8, 2, 11, 6]), np.array([50.0, 60, 40, 80, 50])
    table = stats.chi2_contingency(np.stack([count, size - count]), correction=False)
    found = count_dispersion(count, size, Members(np.zeros(5, dtype=np.int64), 1), binomial=np.array([True]))
    assert found.ratio[0] * 4 == pytest.approx(table.statistic, rel=1e-12)
    assert found.p[0] == pytest.approx(2 * min(table.pvalue, 1 - table.pvalue), rel=1e-9)


def test_the_step_of_the_gauge_is_the_greatest_common_spacing() -> None:
    rng = np.random.default_rng(22)
    parts = [
        25.4 * np.round(rng.standard_normal(60) * 20) / 1000,  # inches of a thousandth, in millimetres
        7.0 + 6.0 * rng.permutation(np.arange(5.0)),
        np.array([0.0, 6.0, 15.0, 35.0, 0.0]),  # gaps 6, 9, 20: 1
        1e9 + np.round(rng.standard_normal(80) * 4) / 8,
        rng.standard_normal(100),
        np.full(5, 2.0),
    ]
    chart = np.repeat(np.arange(6), [len(part) for part in parts])
    step = common_step(np.concatenate(parts), Members(chart, 6))
    np.testing.assert_allclose(step[:4], [0.0254, 6.0, 1.0, 0.125], rtol=1e-9)
    assert np.isnan(step[4:]).all()


def two_chart_site() -> Any:
    return make_site({**XBAR_R}, {"characteristic_id": "depth"}, specifications=[{"resolution": 0.5}])


def test_the_tables_give_one_verdict_per_chart_in_any_row_order() -> None:
    site = two_chart_site()
    rng = np.random.default_rng(23)
    bore = (10.0 + rng.standard_normal(300)).tolist()
    depth = (5.0 + ar1(0.8, 300, 24)).tolist()
    frame = pl.concat(
        [subgroups(bore, site), subgroups(depth, site, masked=["000001"], characteristic_id="depth", source_id="scada")]
    )
    found = pipeline_fitness(frame, SPC_LIMIT_ESTIMATES.empty(), site)
    assert SPC_CHART_FITNESS.schema == found.schema
    SPC_CHART_FITNESS.pandera_schema().validate(found)
    assert found["characteristic_id"].to_list() == ["bore", "depth"]
    assert found["verdict"].to_list() == ["fit", "unfit"]
    assert found["suggested_chart"].to_list() == [None, "residual_i_mr"]
    assert found["inputs"].to_list() == ["subgroup statistics", "values"]
    # the specification declares 0.5, sigma is about 1
    assert found["resolution_ratio"][0] == pytest.approx(0.5, rel=0.1)
    assert found["n_values"].to_list() == [300, 300]
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=1)
    assert pipeline_fitness(shuffled, SPC_LIMIT_ESTIMATES.empty(), site).equals(found)
    with_values = pipeline_fitness(frame, SPC_LIMIT_ESTIMATES.empty(), site, measurements(bore, site=site))
    assert with_values["inputs"].to_list() == ["values", "values"]
    assert with_values["skewness"][0] == pytest.approx(stats.skew(bore), rel=1e-9)


def test_a_gap_and_a_new_specification_break_the_pairs() -> None:
    site = make_site()
    values = ar1(0.9, 200, 25).tolist()
    whole = pipeline_fitness(subgroups(values, site), SPC_LIMIT_ESTIMATES.empty(), site)
    changed = subgroups(values, site, versions=[1 + position for position in range(200)])
    broken = pipeline_fitness(changed, SPC_LIMIT_ESTIMATES.empty(), site)
    assert whole["autocorrelation_lag1"][0] > 0.7
    assert broken["autocorrelation_lag1"][0] is None
    far = subgroups(values, site, every_s=73 * 3600.0)
    assert pipeline_fitness(far, SPC_LIMIT_ESTIMATES.empty(), site)["autocorrelation_lag1"][0] is None


def test_the_newest_sigma_of_the_limits_is_judged() -> None:
    site = make_site()
    frame = subgroups(np.random.default_rng(26).standard_normal(150).round(1).tolist(), site)
    limits = pl.DataFrame({"characteristic_id": "bore", "equipment_id": "L1-S1", "limit_version": [2, 1], "sigma": [0.05, 1.0]})
    assert pipeline_fitness(frame, limits, site)["resolution_ratio"][0] == pytest.approx(2.0, rel=1e-9)


def test_no_subgroups_give_no_verdicts() -> None:
    site = make_site()
    assert pipeline_fitness(subgroups([1.0], site).clear(), SPC_LIMIT_ESTIMATES.empty(), site).equals(SPC_CHART_FITNESS.empty())
    none = np.zeros(0)
    assert chart_fitness(Samples([], Spans(none.astype(np.int64), 0), none, none, none > 0, none)).is_empty()

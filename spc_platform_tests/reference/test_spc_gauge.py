"""Measurement systems against published studies.

AIAG, Measurement Systems Analysis, 4th ed. (2010): the study of 10 parts, 3 appraisers, 3 trials (chapter III.B) and the
linearity example of 5 references x 12.
"""

import statistics
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from spc_platform.settings import REPOSITORY, Settings
from spc_platform.site.loader import load_site
from spc_platform.sources import qif
from spc_platform.sources.files import FileSource
from spc_platform.spc.bias_linearity import linearity
from spc_platform.spc.gauge import Scale, gauge_crossed, gauge_nested, gauge_xbar_r
from spc_platform.spc.gauge_intervals import mls_interval
from spc_platform.spc.laboratories import compare_two_laboratories, interlaboratory, mandel_critical

AIAG = np.array([
    [0.29, 0.41, 0.64, 0.08, 0.25, 0.07, 0.04, -0.11, -0.15],
    [-0.56, -0.68, -0.58, -0.47, -1.22, -0.68, -1.38, -1.13, -0.96],
    [1.34, 1.17, 1.27, 1.19, 0.94, 1.34, 0.88, 1.09, 0.67],
    [0.47, 0.50, 0.64, 0.01, 1.03, 0.20, 0.14, 0.20, 0.11],
    [-0.80, -0.92, -0.84, -0.56, -1.20, -1.28, -1.46, -1.07, -1.45],
    [0.02, -0.11, -0.21, -0.20, 0.22, 0.06, -0.29, -0.67, -0.49],
    [0.59, 0.75, 0.66, 0.47, 0.55, 0.83, 0.02, 0.01, 0.21],
    [-0.31, -0.20, -0.17, -0.63, 0.08, -0.34, -0.46, -0.56, -0.49],
    [2.26, 1.99, 2.01, 1.80, 2.12, 2.19, 1.77, 1.45, 1.87],
    [-1.36, -1.25, -1.31, -1.68, -1.62, -1.50, -1.49, -1.77, -2.16],
])  # fmt: skip
PARTS = np.repeat(np.arange(1, 11), 9)
APPRAISERS = np.tile(np.repeat(list("ABC"), 3), 10)
LINEARITY = {
    2: [2.7, 2.5, 2.4, 2.5, 2.7, 2.3, 2.5, 2.5, 2.4, 2.4, 2.6, 2.4],
    4: [5.1, 3.9, 4.2, 5.0, 3.8, 3.9, 3.9, 3.9, 3.9, 4.0, 4.1, 3.8],
    6: [5.8, 5.7, 5.9, 5.9, 6.0, 6.1, 6.0, 6.1, 6.4, 6.3, 6.0, 6.1],
    8: [7.6, 7.7, 7.8, 7.7, 7.8, 7.8, 7.8, 7.7, 7.8, 7.5, 7.6, 7.7],
    10: [9.1, 9.3, 9.5, 9.3, 9.4, 9.5, 9.5, 9.5, 9.6, 9.2, 9.3, 9.4],
}
REFERENCE = np.repeat(list(LINEARITY), 12).astype(float)
MEASURED = np.concatenate(list(LINEARITY.values()))


def test_the_aiag_study_by_anova_gives_the_published_components() -> None:
    study = gauge_crossed(AIAG.ravel(), PARTS, APPRAISERS)
    assert study.is_interaction_pooled
    assert study.interaction_p_value == pytest.approx(0.9741, abs=5e-5)  # AIAG's ANOVA table: F 0.434, not significant
    published = {"repeatability": 0.199933, "reproducibility": 0.226838, "gauge_rr": 0.302373, "part_to_part": 1.042327}
    for name, sd in published.items():  # AIAG's comparison of methods, ANOVA column
        assert study.component(name).standard_deviation == pytest.approx(sd, abs=2e-6)
    shares = {"repeatability": 3.4, "reproducibility": 4.4, "gauge_rr": 7.8, "part_to_part": 92.2}
    for name, share in shares.items():
        assert study.component(name).contribution_pct == pytest.approx(share, abs=0.05)
    assert study.component("gauge_rr").study_variation_pct == pytest.approx(27.9, abs=0.05)
    assert study.n_distinct_categories == 4  # AIAG: 4.861 with 1.41, truncated
    assert study.verdicts == {"study_variation": "conditional", "distinct_categories": "unacceptable"}


def test_the_aiag_study_by_averages_and_ranges_gives_the_published_figures() -> None:
    study = gauge_xbar_r(AIAG.ravel(), PARTS, APPRAISERS)
    # AIAG's report form of the same study: EV 0.20188, AV 0.22963, GRR 0.30575, PV 1.10456, TV 1.14608 with 4-digit K factors
    published = {
        "repeatability": 0.20188,
        "reproducibility": 0.22963,
        "gauge_rr": 0.30575,
        "part_to_part": 1.10456,
        "total": 1.14608,
    }
    for name, sd in published.items():
        assert study.component(name).standard_deviation == pytest.approx(sd, rel=3e-4)
    shares = {"repeatability": 17.62, "reproducibility": 20.04, "gauge_rr": 26.68, "part_to_part": 96.38}
    for name, share in shares.items():
        assert study.component(name).study_variation_pct == pytest.approx(share, abs=0.02)
    assert study.n_distinct_categories == 5  # AIAG: 5.094


def test_a_nested_study_adds_interaction_and_part_of_the_crossed_one() -> None:
    crossed = gauge_crossed(AIAG.ravel(), PARTS, APPRAISERS, interaction_alpha=1.0)
    nested = gauge_nested(AIAG.ravel(), PARTS, APPRAISERS)
    lines = {line.source: line for line in crossed.anova}
    part = nested.anova[1]
    assert part.df == lines["part"].df + lines["part x operator"].df
    assert part.sum_of_squares == pytest.approx(
        lines["part"].sum_of_squares + lines["part x operator"].sum_of_squares, rel=1e-12
    )
    operator = nested.component("operator")
    assert operator.is_negative
    assert operator.variance == 0.0
    assert operator.variance_estimate < 0
    assert any("operator is negative" in note for note in nested.notes)


def test_intervals_of_the_components_hold_their_confidence() -> None:
    rng = np.random.default_rng(20261121)
    p, o, r, sd = 10, 4, 3, {"part_to_part": 2.0, "operator": 0.7, "repeatability": 0.5}
    truth = {name: value**2 for name, value in sd.items()} | {"gauge_rr": 0.49 + 0.25, "total": 4.74}
    hit, rounds = dict.fromkeys(truth, 0), 300
    parts, operators = np.repeat(np.arange(p), o * r), np.tile(np.repeat(np.arange(o), r), p)
    for _ in range(rounds):
        values = rng.normal(0, 2.0, p)[parts] + rng.normal(0, 0.7, o)[operators] + rng.normal(0, 0.5, p * o * r)
        study = gauge_crossed(values, parts, operators, interaction_alpha=0.25, confidence=0.9)
        for name, variance in truth.items():
            interval = study.component(name).variance_interval
            assert interval is not None
            hit[name] += interval.low <= variance <= interval.high
    for name, hits in hit.items():  # 0.90 +- 3 standard errors of 300 rounds, MLS errs on the safe side
        assert 0.845 <= hits / rounds <= 0.985, name


def test_a_difference_of_mean_squares_has_an_interval_that_ends_at_0_exactly_at_the_f_test() -> None:
    # Ting et al. 1990: the lower end is 0 when F equals the critical value of the one-sided F test
    critical = stats.f.ppf(0.975, 9, 18)
    for factor, is_positive in ((0.999, False), (1.001, True)):
        interval = mls_interval(np.array([1.0, -1.0]), np.array([critical * factor, 1.0]), np.array([9.0, 18.0]), 0.95)
        assert (interval.low > 0) is is_positive


def test_the_aiag_linearity_example() -> None:
    study = linearity(MEASURED, REFERENCE, process_variation=16.5368, pooled=False)
    # Minitab help, gage linearity and bias study (the AIAG data): slope -0.13167 se 0.01093, constant 0.73667 se 0.07252,
    # S 0.23954, R-Sq 71.4 %, linearity 2.17733, %linearity 13.2; biases 0.491667 0.125 0.025 -0.291667 -0.616667
    assert study.slope.value == pytest.approx(-0.13167, abs=5e-6)
    assert study.slope.standard_error == pytest.approx(0.01093, abs=5e-6)
    assert study.slope.t == pytest.approx(-12.04, abs=5e-3)
    assert study.intercept.value == pytest.approx(0.73667, abs=5e-6)
    assert study.intercept.standard_error == pytest.approx(0.07252, abs=5e-6)
    assert study.residual_sd == pytest.approx(0.23954, abs=5e-6)
    assert study.r_squared == pytest.approx(0.714, abs=5e-4)
    assert study.linearity == pytest.approx(2.17735, abs=2e-5)
    assert study.linearity_pct == pytest.approx(13.2, abs=0.05)
    assert [line.bias for line in study.by_reference] == pytest.approx([0.491667, 0.125, 0.025, -0.291667, -0.616667], abs=5e-7)
    # published t and p with each reference's own spread (SPC for Excel's report of the same data): 13.73, .968/.354, .442/.667
    assert [abs(line.t) for line in study.by_reference] == pytest.approx([13.73, 0.968, 0.442, 10.14, 14.56], abs=6e-3)
    assert [line.p_value for line in study.by_reference[1:3]] == pytest.approx([0.354, 0.667], abs=6e-4)
    assert study.average_bias.bias == pytest.approx(-0.0533, abs=5e-5)


@pytest.mark.parametrize(("p", "n"), [(3, 2), (5, 3), (9, 4), (15, 2)])
def test_mandels_critical_values_are_quantiles_of_their_beta_distributions(p: int, n: int) -> None:
    # h^2 p / (p - 1)^2 is Beta(1/2, (p - 2)/2) and k^2 / p is Beta((n - 1)/2, (p - 1)(n - 1)/2) (Wilrich 2013)
    h, k = mandel_critical(p, n)
    assert h**2 * p / (p - 1) ** 2 == pytest.approx(stats.beta.ppf(0.99, 0.5, (p - 2) / 2), rel=1e-9)
    assert k**2 / p == pytest.approx(stats.beta.ppf(0.99, (n - 1) / 2, (p - 1) * (n - 1) / 2), rel=1e-9)


def test_repeatability_and_reproducibility_of_several_laboratories_against_plain_sums() -> None:
    rng = np.random.default_rng(5725)
    laboratories, materials = np.tile(np.repeat(list("ABCDE"), 3), 2), np.repeat(["low", "high"], 15)
    values = 1e6 + rng.normal(0, 1.0, 30) + np.repeat(rng.normal(0, 2.0, 10), 3)
    study = interlaboratory(values, laboratories, materials)
    cells = [values[(laboratories == name) & (materials == "low")].tolist() for name in "ABCDE"]
    means = [sum(cell) / 3 for cell in cells]
    s_r2 = sum(sum((value - mean) ** 2 for value in cell) / 2 for cell, mean in zip(cells, means, strict=True)) / 5
    s_m2 = sum((mean - sum(means) / 5) ** 2 for mean in means) / 4
    low = next(material for material in study.materials if material.material == "low")
    assert low.repeatability_sd == pytest.approx(s_r2**0.5, rel=1e-8)
    assert low.reproducibility_sd == pytest.approx((s_r2 + max(s_m2 - s_r2 / 3, 0.0)) ** 0.5, rel=1e-8)
    assert sum(cell.h for cell in study.consistency if cell.material == "low") == pytest.approx(0.0, abs=1e-9)
    assert sum(cell.k**2 for cell in study.consistency if cell.material == "low") == pytest.approx(5.0, rel=1e-9)


def test_the_two_laboratories_of_the_nist_box_assembly(shared_data: Path) -> None:
    """The same 20 plates, measured by NIST (first article) and by the MTC (incoming inspection), read by the platform."""
    site = load_site(REPOSITORY / "data" / "nist")
    source = FileSource(site.source("nist_parts"), Settings(shared_data=shared_data))
    found = {}
    for name, characteristic in (("plate_incoming", "plate.mtc.DS003"), ("plate_first_article", "plate.fair.Distance_4")):
        resource = next(resource for resource in site.source("nist_parts").resources if resource.name == name)
        (page,) = source.walk(resource, None)
        rows = qif.decode(resource, "raw_measurement", page.body, page.origin).select(
            "serial_number", "characteristic_id", "value"
        )
        rows = rows.filter(pl.col("characteristic_id") == characteristic)
        found[name] = dict(zip(rows["serial_number"].to_list(), rows["value"].to_list(), strict=True))
    incoming, first_article = found.values()
    serials = sorted(incoming.keys() & first_article.keys())
    assert len(serials) == 20
    x, y = ([values[serial] for serial in serials] for values in (incoming, first_article))
    result = compare_two_laboratories(x, y, names=("MTC", "NIST"))
    difference = [a - b for a, b in zip(x, y, strict=True)]
    assert result.bias.estimate == pytest.approx(statistics.fmean(difference), rel=1e-12)
    assert result.bias.p_value == pytest.approx(stats.ttest_rel(x, y).pvalue, rel=1e-9)
    z_sd = stats.norm.ppf(0.975) * statistics.stdev(difference)
    assert result.agreement_low == pytest.approx(statistics.fmean(difference) - z_sd, rel=1e-9)
    assert result.agreement_high == pytest.approx(statistics.fmean(difference) + z_sd, rel=1e-9)
    # orthogonal regression is the first axis of the covariance
    axis = np.linalg.svd(np.column_stack([x, y]) - np.mean([x, y], axis=1))[2][0]
    assert result.deming_slope == pytest.approx(axis[1] / axis[0], rel=1e-9)


def test_the_deming_line_of_exact_data_is_the_line_itself() -> None:
    x = np.array([1.0, 2.0, 4.0, 8.0])
    found = compare_two_laboratories(x, 3.0 + 2.0 * x, error_ratio=0.25)
    assert found.deming_slope == pytest.approx(2.0, rel=1e-12)
    assert found.deming_intercept == pytest.approx(3.0, rel=1e-12)


def test_scale_percentages_of_the_aiag_study_against_a_tolerance() -> None:
    study = gauge_crossed(AIAG.ravel(), PARTS, APPRAISERS, scale=Scale(lsl=-4.0, usl=4.0, process_sigma=2.0))
    gauge = study.component("gauge_rr")
    assert gauge.tolerance_pct == pytest.approx(22.68, abs=5e-3)  # 6 x 0.30237 / 8
    assert gauge.process_pct == pytest.approx(15.12, abs=5e-3)

"""Attribute, T2 and MEWMA charts of published data sets against printed figures and other programs' output.

Data: NIST/SEMATECH e-Handbook of Statistical Methods and Dataplot (lib/data), US Government work. Where no printed figure is
known to us, the test says so and compares with a plain loop or scipy instead.
"""

from itertools import pairwise
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from spc_platform.errors import ContractError
from spc_platform.spc.attribute import attribute_centre, attribute_panel, check_counts, laney_sigma_z
from spc_platform.spc.multivariate import (
    known_parameters,
    mewma_panel,
    t2_contributions,
    t2_panel,
    t2_parameters,
    t2_subgroup_parameters,
    vector_subgroups,
)
from spc_platform.spc.sequence import Spans
from spc_platform_tests.conftest import lacking


@pytest.fixture(scope="module")
def data(shared_data: Path) -> Path:
    folder = shared_data / "nist-handbook-spc"
    if not folder.is_dir():
        lacking(f"no e-Handbook data at {folder}; set SPC_SHARED_DATA or run `spc data fetch`")
    return folder


def table(data: Path, name: str) -> np.ndarray:
    """The rows of numbers below the ruled line of a Dataplot file."""
    lines = (data / name).read_text().splitlines()
    rule = next(i for i, line in enumerate(lines) if set(line.strip()) == {"-"})
    return np.array([line.split() for line in lines[rule + 1 :] if line.strip() and not line.startswith("END")], dtype=float)


def one(rows: int) -> Spans:
    return Spans(np.array([0]), rows)


def panel_of(statistic, count, size, sigma_z=1.0):
    spans = one(len(count))
    check_counts(count, size, statistic, np.arange(len(count)))
    centre = attribute_centre(statistic, count, size, spans)
    return attribute_panel(statistic, count, size, spans.expand(centre), sigma_z, 3.0)


def test_the_c_chart_of_wafer_defects_has_the_handbooks_limits(data: Path) -> None:
    """e-Handbook 6.3.3.1 (pmc331): average 16, UCL 28, LCL 4; sample 24 (31 defects) lies above, sample 3 (28) on the limit."""
    defects = table(data, "MONITOR-6_3_3_1.DAT")[:, 1]
    panel = panel_of("c", defects, np.ones(25))
    assert (panel.cl[0], panel.ucl[0], panel.lcl[0]) == (16.0, 28.0, 4.0)
    assert (np.flatnonzero(panel.value > panel.ucl) + 1).tolist() == [24]
    assert (np.flatnonzero(panel.value >= panel.ucl) + 1).tolist() == [3, 24]


def test_the_p_chart_of_chips_has_the_handbooks_average_proportion(data: Path) -> None:
    """e-Handbook 6.3.3.2 (pmc332), quoted by Ryan, Modern Engineering Statistics (11): the average is .2313, n = 50.

    The limits are not quoted: they are computed here by hand.
    """
    fraction = table(data, "MONITOR-6_3_3_2.DAT")[:, 1]
    panel = panel_of("p", np.round(fraction * 50), np.full(30, 50.0))
    assert round(float(panel.cl[0]), 4) == 0.2313
    half = 3 * sqrt(347 / 1500 * (1 - 347 / 1500) / 50)
    assert panel.ucl[0] == pytest.approx(347 / 1500 + half, rel=1e-13)
    assert panel.lcl[0] == pytest.approx(347 / 1500 - half, rel=1e-13)
    assert (np.flatnonzero(panel.value > panel.ucl) + 1).tolist() == [15, 23]


def test_shares_given_as_counts_are_refused_with_their_row(data: Path) -> None:
    fraction = table(data, "MONITOR-6_3_3_2.DAT")[:, 1]
    with pytest.raises(ContractError, match=r"SPC-320.*count 0.24 is not whole in row 1 \(30 such rows\)"):
        check_counts(fraction, np.full(30, 50.0), "p", np.arange(1, 31))


@pytest.mark.parametrize(
    ("name", "columns", "statistic"),
    [
        ("CCP.DAT", (0, 1), "p"),
        ("CCP.DAT", (0, 1), "np"),
        ("CCC.DAT", (0, 1), "c"),
        ("CCU.DAT", (0, 1), "u"),
        ("UCC.DAT", (1, 2), "u"),
    ],
)
def test_dataplots_attribute_data_have_the_limits_of_a_plain_loop(data: Path, name: str, columns, statistic: str) -> None:
    """No printed limits are known to us: compared with the textbook formulas, point by point."""
    rows = table(data, name)
    count, size = rows[:, columns[0]], rows[:, columns[1]]
    panel = panel_of(statistic, count, size)
    total = sum(count) / (len(count) if statistic == "c" else sum(size))
    for i, (x, n) in enumerate(zip(count, size, strict=True)):
        value, cl, se, top = {
            "p": (x / n, total, sqrt(abs(total * (1 - total)) / n), 1.0),
            "np": (x, n * total, sqrt(n * abs(total * (1 - total))), n),
            "c": (x, total, sqrt(total), np.inf),
            "u": (x / n, total, sqrt(total / n), np.inf),
        }[statistic]
        expected = (value, cl, max(cl - 3 * se, 0.0), min(cl + 3 * se, top))
        assert (panel.value[i], panel.cl[i], panel.lcl[i], panel.ucl[i]) == pytest.approx(expected, rel=1e-13)


def test_laneys_sigma_of_the_motors_is_that_of_a_plain_loop(data: Path) -> None:
    """No printed figure is known to us. 1.128379... = 2 / sqrt(pi) (Tippett 1925)."""
    rows = table(data, "CCP.DAT")
    count, size = rows[:, 0], rows[:, 1]
    p = sum(count) / sum(size)
    z = [(x / n - p) / sqrt(p * (1 - p) / n) for x, n in zip(count, size, strict=True)]
    expected = np.mean([abs(b - a) for a, b in pairwise(z)]) * sqrt(np.pi) / 2
    first = np.arange(20) == 0
    found = laney_sigma_z("p", count, size, np.array([p]), first, one(20))
    assert found[0] == pytest.approx(expected, rel=1e-13)
    wide = panel_of("p", count, size, found[0])
    assert wide.ucl[0] - wide.cl[0] == pytest.approx(3 * expected * sqrt(p * (1 - p) / 125), rel=1e-12)


RYAN_T2 = """2.2416049 0.6526961 1.2721838 0.2201051 1.5279379 8.9818106 1.3202064 3.7735512 4.9485068 63.7604214 6.5509515
1.3673783 1.3632266 3.2560891 7.4098614 2.7638358 0.1242926 1.3265434 3.5038558 13.0376172"""


def test_ryans_subgrouped_t2_is_that_of_r_qcc(data: Path) -> None:
    """Ryan, Statistical Methods for Quality Improvement, table 9.2 (qcc's RyanMultivar): snapshot of the qcc package's tests
    (github luca-scr/qcc, tests/testthat/_snaps/spc.t2.md): stats.T2, and limits.T2(20, 4, 2, (1 - 0.0027)^2)."""
    rows = table(data, "T2CC.DAT")
    subgroups = vector_subgroups(rows[:, :2], Spans(np.arange(0, 80, 4), 80))
    parameters = t2_subgroup_parameters(subgroups, one(20))
    assert parameters.mean[0].tolist() == [60.375, 18.4875]
    assert parameters.covariance[0].round(4).tolist() == [[222.0333, 103.1167], [103.1167, 56.5792]]
    alpha = 1 - (1 - 0.0027) ** 2
    first = t2_panel(subgroups.mean, subgroups.n, one(20), parameters, "phase_1", alpha=alpha)
    assert first.value.round(7).tolist() == [float(text) for text in RYAN_T2.split()]
    assert round(float(first.ucl[0]), 5) == 11.03976
    second = t2_panel(subgroups.mean, subgroups.n, one(20), parameters, "phase_2", alpha=alpha)
    assert round(float(second.ucl[0]), 5) == 12.20184
    assert (np.flatnonzero(first.value > first.ucl) + 1).tolist() == [10, 20]


def test_ryans_t2_with_given_parameters_is_that_of_r_qcc(data: Path) -> None:
    """Same snapshot: center 65, 20; covariance 200, 105, 59."""
    subgroups = vector_subgroups(table(data, "T2CC.DAT")[:, :2], Spans(np.arange(0, 80, 4), 80))
    known = known_parameters(np.array([[65.0, 20.0]]), np.array([[[200.0, 105.0], [105.0, 59.0]]]))
    points = t2_panel(subgroups.mean, subgroups.n, one(20), known, "known")
    assert points.value[[0, 1, 9, 19]].round(7).tolist() == [0.8851613, 3.2632258, 191.6532258, 45.1612903]
    assert points.ucl[0] == pytest.approx(float(stats.chi2.ppf(1 - 0.0026997960632601866, 2)), rel=1e-12)


def test_a_reversed_relation_shows_in_the_contributions_and_not_in_the_single_means(data: Path) -> None:
    """Sample 10 (T2 63.76) breaks the relation of its variables: either variable carries nearly all of it."""
    subgroups = vector_subgroups(table(data, "T2CC.DAT")[:, :2], Spans(np.arange(0, 80, 4), 80))
    parameters = t2_subgroup_parameters(subgroups, one(20))
    contribution = t2_contributions(subgroups.mean, subgroups.n, one(20), parameters)[9]
    centre, s = parameters.mean[0], parameters.covariance[0]
    alone = 4 * (subgroups.mean[9] - centre) ** 2 / np.diag(s)
    assert contribution == pytest.approx(63.7604214 - alone[::-1], abs=1e-6)
    assert contribution.min() > float(stats.chi2.isf(0.0027, 1)) > alone[1]


BOILER = """507 516 527 516 499 512 472 477 512 513 533 518 502 510 476 475 520 512 537 518 503 512 480 477
520 514 538 516 504 517 480 479 530 515 542 525 504 512 481 477 528 516 541 524 505 514 482 480
522 513 537 518 503 512 479 477 527 509 537 521 504 508 478 472 533 514 528 529 508 512 482 477
530 512 538 524 507 512 482 477 530 512 541 525 507 511 482 476 527 513 541 523 506 512 481 476
529 514 542 525 506 512 481 477 522 509 539 518 501 510 476 475 532 515 545 528 507 511 481 478
531 514 543 525 507 511 482 477 535 514 542 530 509 511 483 477 516 515 537 515 501 516 476 481
514 510 532 512 497 512 471 476 536 512 540 526 509 512 482 477 522 514 540 518 497 514 475 478
520 514 540 518 501 514 475 478 526 517 546 522 502 516 477 480 527 514 543 523 502 512 475 476
529 518 544 525 504 516 479 481"""
BOILER_T2 = """13.963962 9.779084 5.472671 14.740980 6.575786 5.305689 7.885241 9.775744 17.575293 2.790673 3.288861 3.633027
1.316342 9.553244 7.074224 6.519739 4.771892 8.743873 9.835645 8.636003 12.580375 2.794043 6.088049 7.982572 5.316986"""


def test_individual_t2_of_eight_boiler_temperatures_is_that_of_r_qcc() -> None:
    """Chen, Tung, Yu (qcc's boiler data): snapshot of the qcc package's tests (github luca-scr/qcc,
    tests/testthat/_snaps/spc.t2single.md): stats.T2.single, and limits.T2.single(25, 8, 0.999)."""
    x = np.array(BOILER.split(), dtype=float).reshape(25, 8)
    parameters = t2_parameters(x, one(25))
    first = t2_panel(x, 1, one(25), parameters, "phase_1", alpha=0.001)
    assert first.value.round(6).tolist() == [float(text) for text in BOILER_T2.split()]
    assert round(float(first.ucl[0]), 5) == 17.41705
    second = t2_panel(x, 1, one(25), parameters, "phase_2", alpha=0.001)
    assert round(float(second.ucl[0]), 5) == 70.02943
    assert (np.flatnonzero(first.value > first.ucl) + 1).tolist() == [9]


def test_grit_has_the_textbooks_two_covariances(data: Path) -> None:
    """Holmes, Mergen (1993) in Montgomery, Introduction to Statistical Quality Control, example 11.2: mean 5.682, 88.22;
    S1 3.770 -5.495 13.53 (also in the R package IQCC's examples); S2 1.562 -2.093 6.721.

    T2 itself is compared with numpy.
    """
    x = table(data, "MONTGOME.DAT")[:, :2]
    usual = t2_parameters(x, one(56))
    assert usual.mean[0] == pytest.approx([5.682, 88.22], rel=1e-4)
    assert usual.covariance[0][[0, 0, 1], [0, 1, 1]] == pytest.approx([3.770, -5.495, 13.53], rel=2e-4)
    steps = t2_parameters(x, one(56), method="successive_differences")
    assert steps.covariance[0][[0, 0, 1], [0, 1, 1]] == pytest.approx([1.562, -2.093, 6.721], rel=3e-4)
    for parameters in (usual, steps):
        points = t2_panel(x, 1, one(56), parameters, "phase_1", alpha=0.001)
        d = x - x.mean(axis=0)
        assert points.value == pytest.approx([v @ np.linalg.inv(parameters.covariance[0]) @ v for v in d], rel=1e-12)
    f = 2 * 55**2 / (3 * 56 - 4)
    assert steps.nu[0] == pytest.approx(f, rel=1e-14)
    assert points.ucl[0] == pytest.approx(55**2 / 56 * stats.beta.ppf(0.999, 1, (f - 3) / 2), rel=1e-11)


def test_three_percentages_that_add_up_to_one_hundred_are_refused_by_name(data: Path) -> None:
    x = table(data, "MONTGOME.DAT")
    with pytest.raises(ContractError, match=r"SPC-322.*grit: large, medium, small are collinear.*leave one of them out"):
        t2_panel(x, 1, one(56), t2_parameters(x, one(56)), "phase_1", variables=["large", "medium", "small"], charts=["grit"])


LOWRY = """-1.19 0.59 0.12 0.90 -1.69 0.40 0.30 0.46 0.89 -0.75 0.82 0.98 -0.30 2.28 0.63 1.75 1.56 1.58 1.46 3.05"""
HANDBOOK_MEWMA = [2.1886, 2.0697, 4.8365, 3.4158, 0.7089, 0.9268, 4.0018, 6.1657, 7.8554, 14.4158]


def test_the_mewma_of_lowrys_data_is_that_of_the_handbook() -> None:
    """e-Handbook 6.3.4.3 (pmc343), data of Lowry et al. (1992), weight 0.1, exact covariance of each vector.

    The page speaks of unit variances and a correlation of .5; its figures follow from the covariance of the ten vectors.
    """
    x = np.array(LOWRY.split(), dtype=float).reshape(10, 2)
    known = known_parameters(np.zeros((1, 2)), np.cov(x.T)[None])
    points = mewma_panel(x, np.arange(10) == 0, one(10), known, 0.1, 8.66)
    assert points.value.round(4).tolist() == HANDBOOK_MEWMA
    assert (np.flatnonzero(points.value > points.ucl) + 1).tolist() == [10]

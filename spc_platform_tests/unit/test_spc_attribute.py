"""Attribute charts: centres, limits at each point's size, Laney's sigma, exact limits, refused data."""

from math import sqrt

import numpy as np
import pytest
from scipy import stats

from spc_platform.errors import ContractError
from spc_platform.spc.attribute import (
    attribute_centre,
    attribute_panel,
    attribute_probability_limits,
    check_counts,
    laney_sigma_z,
)
from spc_platform.spc.sequence import Spans

NAN = float("nan")


def floats(*values):
    return np.array(values, dtype=float)


def test_the_centre_sums_denominators_and_never_averages_ratios() -> None:
    count, size = floats(1, 50, 3, 6), floats(10, 100, 1, 2)
    spans = Spans(np.array([0, 2]), 4)
    assert attribute_centre("p", count[:2], size[:2], Spans(np.array([0]), 2)).tolist() == [51 / 110]
    assert attribute_centre("u", count, size, spans).tolist() == [51 / 110, 3.0]
    assert attribute_centre("c", count, size, spans).tolist() == [25.5, 4.5]


def test_an_excluded_point_leaves_the_centre_and_keeps_its_limits() -> None:
    count, size = floats(2, 9, 4), floats(10, 10, 10)
    spans = Spans(np.array([0]), 3)
    centre = attribute_centre("np", count, size, spans, np.array([True, False, True]))
    assert centre.tolist() == [0.3]
    panel = attribute_panel("np", count, size, spans.expand(centre), 1.0, 3.0)
    assert panel.value[1] == 9.0
    assert panel.ucl[1] == pytest.approx(3 + 3 * sqrt(10 * 0.3 * 0.7))


def test_a_span_without_points_has_no_centre() -> None:
    spans = Spans(np.array([0]), 2)
    assert np.isnan(attribute_centre("p", floats(0, NAN), floats(0, 5), spans)).all()


def test_limits_are_cut_at_what_the_statistic_can_be() -> None:
    size = floats(2, 2)
    high = attribute_panel("p", floats(2, 2), size, floats(0.9, 0.1), 1.0, 3.0)
    assert (high.ucl[0], high.lcl[1]) == (1.0, 0.0)
    counts = attribute_panel("np", floats(2, 2), size, floats(0.9, 0.1), 1.0, 3.0)
    assert (counts.ucl[0], counts.lcl[1]) == (2.0, 0.0)
    assert attribute_panel("c", floats(0), floats(1), floats(0.2), 1.0, 3.0).lcl.tolist() == [0.0]


def test_the_area_of_opportunity_may_be_a_fraction() -> None:
    panel = attribute_panel("u", floats(3), floats(2.5), floats(1.6), 1.0, 2.0)
    assert panel.value.tolist() == [1.2]
    assert panel.ucl[0] == pytest.approx(1.6 + 2 * sqrt(1.6 / 2.5))


@pytest.mark.parametrize("statistic", ["p", "np", "c", "u"])
@pytest.mark.parametrize("size", [0.0, NAN])
def test_a_point_without_size_is_empty_throughout(statistic: str, size: float) -> None:
    for panel in (
        attribute_panel(statistic, floats(0, 1), floats(size, 5), floats(0.5, 0.5), 1.0, 3.0),
        attribute_probability_limits(statistic, floats(0, 1), floats(size, 5), floats(0.5, 0.5), 3.0),
    ):
        assert np.isnan([panel.value[0], panel.cl[0], panel.lcl[0], panel.ucl[0], panel.z[0]]).all()
        assert np.isfinite([panel.value[1], panel.cl[1], panel.lcl[1], panel.ucl[1], panel.z[1]]).all()


def test_sigma_z_of_one_leaves_a_p_chart_as_it_was() -> None:
    """Laney (2002): p' with sigma_z = 1 is the p chart."""
    count, size, centre = floats(3, 8), floats(40, 90), floats(0.1, 0.1)
    plain = attribute_panel("p", count, size, centre, 1.0, 3.0)
    wider = attribute_panel("p", count, size, centre, 1.5, 3.0)
    assert wider.ucl - wider.cl == pytest.approx(1.5 * (plain.ucl - plain.cl))
    assert wider.z == pytest.approx(plain.z / 1.5)


def test_laneys_pairs_end_at_segments_gaps_and_exclusions() -> None:
    count, size = floats(10, 14, 6, 9, 30, 12, 8), floats(1, 1, 1, 1, 1, 1, 0)
    first = np.array([True, False, True, False, False, False, False])
    included = np.array([True, True, True, True, False, True, True])
    sigma = laney_sigma_z("u", count, size, floats(10), first, Spans(np.array([0]), 7), included)
    # the pairs are 10-14 and 6-9: 30 is excluded, the last has no size
    assert sigma[0] == pytest.approx((4 + 3) / 2 / sqrt(10) * sqrt(np.pi) / 2)


def test_laneys_sigma_is_unknown_without_a_pair_or_without_variation() -> None:
    first = np.array([True, True])
    assert np.isnan(laney_sigma_z("p", floats(1, 2), floats(5, 5), floats(0.3), first, Spans(np.array([0]), 2)))
    still = np.array([True, False])
    assert np.isnan(laney_sigma_z("p", floats(0, 0), floats(5, 5), floats(0.0), still, Spans(np.array([0]), 2)))


def test_charts_side_by_side_are_charts_one_by_one() -> None:
    generator = np.random.default_rng(7)
    size = generator.integers(20, 200, 60).astype(float)
    count = generator.binomial(size.astype(int), 0.2).astype(float)
    spans = Spans(np.array([0, 25, 26]), 60)
    first = np.zeros(60, dtype=bool)
    first[spans.starts] = True
    together = laney_sigma_z("p", count, size, attribute_centre("p", count, size, spans), first, spans)
    for chart, (start, end) in enumerate([(0, 25), (25, 26), (26, 60)]):
        alone = Spans(np.array([0]), end - start)
        centre = attribute_centre("p", count[start:end], size[start:end], alone)
        sigma = laney_sigma_z("p", count[start:end], size[start:end], centre, first[start:end], alone)
        assert np.array_equal(sigma, together[chart : chart + 1], equal_nan=True)


@pytest.mark.parametrize("statistic", ["p", "np", "c", "u"])
@pytest.mark.parametrize("k", [2.0, 3.0])
def test_exact_limits_leave_at_most_the_normal_tail_on_either_side(statistic: str, k: float) -> None:
    """By summing the probabilities of single counts."""
    size, centre = floats(50, 130), floats(0.08, 0.3)
    points = attribute_probability_limits(statistic, floats(4, 40), size, centre, k)
    tail = stats.norm.cdf(-k)
    for i in range(2):
        mean = {"c": centre[i], "u": centre[i] * size[i]}.get(statistic)
        per = size[i] if statistic in ("p", "u") else 1.0
        mass = [stats.poisson.pmf(x, mean) if mean else stats.binom.pmf(x, int(size[i]), centre[i]) for x in range(131)]
        low, high = round(points.lcl[i] * per), round(points.ucl[i] * per)
        assert sum(mass[:low]) < tail <= sum(mass[: low + 1])
        assert sum(mass[high + 1 :]) <= tail < sum(mass[high:])


def test_a_count_signals_by_its_score_exactly_outside_its_exact_limits() -> None:
    count = np.arange(0.0, 60.0)
    size = np.full(60, 200.0)
    for statistic, centre in (("p", 0.1), ("c", 16.0)):
        points = attribute_probability_limits(statistic, count, size, np.full(60, centre), 3.0)
        outside = (points.value > points.ucl) | (points.value < points.lcl)
        assert np.array_equal(np.abs(points.z) > 3.0, outside)
        assert 0 < outside.sum() < 60


@pytest.mark.parametrize(
    ("count", "size", "statistic", "text"),
    [
        (6, 5, "p", "6 defectives are more than the units inspected in row b"),
        (6, 5, "np", "6 defectives are more than the units inspected in row b"),
        (-1, 5, "c", "count -1 is negative in row b"),
        (1.5, 5, "u", "count 1.5 is not whole in row b"),
        (1, 0, "u", "count 1 at size 0 in row b"),
        (1, -2, "u", "size -2 is negative in row b"),
        (1, 2.5, "p", "size 2.5 is not whole in row b"),
        (NAN, 5, "c", "count nan is not a number in row b"),
        (float("inf"), 5, "c", "count inf is not a number in row b"),
        (1, NAN, "u", "size nan is not a number in row b"),
    ],
)
def test_impossible_counts_are_refused_with_their_row_and_a_remedy(count, size, statistic: str, text: str) -> None:
    with pytest.raises(ContractError, match=rf"SPC-320\] {text}; \w+"):
        check_counts(floats(1, count), floats(5, size), statistic, np.array(["a", "b"]))


def test_more_defects_than_units_are_fine_on_c_and_u_and_nothing_inspected_is_no_error() -> None:
    check_counts(floats(9, 0), floats(2.5, 0), "u", np.arange(2))
    check_counts(floats(9, 0), floats(1, 0), "c", np.arange(2))


def test_an_unknown_statistic_is_refused() -> None:
    with pytest.raises(ContractError, match=r"SPC-321.*'q'.*p, np, c, u"):
        attribute_centre("q", floats(1), floats(1), Spans(np.array([0]), 1))


def test_the_score_of_an_exact_chart_is_scipys_tail() -> None:
    count, size = np.array([0.0, 3.0, 20.0, 60.0]), np.full(4, 60.0)
    p = attribute_probability_limits("p", count, size, np.full(4, 0.2), 3.0)
    u = attribute_probability_limits("u", count, size, np.full(4, 0.2), 3.0)
    for law, z in ((stats.binom(60, 0.2), p.z), (stats.poisson(12), u.z)):
        assert z[:2] == pytest.approx(stats.norm.ppf(law.cdf(count[:2])), rel=1e-11)
        assert z[2:] == pytest.approx(stats.norm.isf(law.sf(count[2:] - 1)), rel=1e-11)

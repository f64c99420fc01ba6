"""Charts of vectors: parameters, limits by phase, stability, contributions, generalized variance, MEWMA."""

import numpy as np
import pytest
from scipy import stats

from spc_platform.errors import ContractError
from spc_platform.spc.multivariate import (
    check_covariance,
    covariance_problems,
    generalized_variance_panel,
    known_parameters,
    mewma_panel,
    t2_contributions,
    t2_panel,
    t2_parameters,
    t2_statistic,
    t2_subgroup_parameters,
    vector_subgroups,
)
from spc_platform.spc.sequence import Spans

ALPHA = 2 * stats.norm.cdf(-3)
MIX = np.array([[1.0, 0.0, 0.0], [0.7, 0.5, 0.0], [-0.2, 0.4, 0.3]])


def one(rows):
    return Spans(np.array([0]), rows)


def vectors(rows, seed=3):
    return np.random.default_rng(seed).standard_normal((rows, 3)) @ MIX.T


def first_only(rows):
    return np.arange(rows) == 0


def test_mean_and_covariance_of_each_chart_are_numpys() -> None:
    x = vectors(90)
    spans = Spans(np.array([0, 20, 55]), 90)
    found = t2_parameters(x, spans)
    for chart, (a, b) in enumerate([(0, 20), (20, 55), (55, 90)]):
        assert found.mean[chart] == pytest.approx(x[a:b].mean(axis=0), rel=1e-12, abs=1e-14)
        assert found.covariance[chart] == pytest.approx(np.cov(x[a:b].T), rel=1e-12)
        value = t2_statistic(x, 1, spans, found)[a:b]
        inverse = np.linalg.inv(np.cov(x[a:b].T))
        assert value == pytest.approx([d @ inverse @ d for d in x[a:b] - x[a:b].mean(axis=0)], rel=1e-10)


def test_excluded_and_incomplete_rows_do_not_enter_and_are_still_judged_or_empty() -> None:
    x = vectors(30)
    x[4, 1] = np.nan
    included = np.arange(30) != 7
    found = t2_parameters(x, one(30), included)
    kept = x[np.isfinite(x).all(axis=1) & included]
    assert found.total.tolist() == [28.0]
    assert found.covariance[0] == pytest.approx(np.cov(kept.T), rel=1e-12)
    points = t2_panel(x, 1, one(30), found, "phase_1", included=included)
    assert np.isnan(points.value[4])
    m, p = 28, 3
    assert points.ucl[0] == pytest.approx((m - 1) ** 2 / m * stats.beta.isf(ALPHA, p / 2, (m - p - 1) / 2), rel=1e-10)
    # the excluded one is no part of its own covariance: it is judged as a new observation
    new = p * (m + 1) * (m - 1) / (m * (m - p)) * stats.f.isf(ALPHA, p, m - p)
    assert points.ucl[7] == pytest.approx(new, rel=1e-10)


def test_an_offset_of_1e9_and_a_unit_of_1e_12_cost_no_digits() -> None:
    """Steps of 2^-20 keep the shifted values exact: T2 is the same number in any unit."""
    x = np.round(vectors(50) * 2**10) * 2.0**-20
    spans = one(50)
    plain = t2_statistic(x, 1, spans, t2_parameters(x, spans))
    moved = x + np.array([1e9, -1e9, 3e8])
    assert t2_statistic(moved, 1, spans, t2_parameters(moved, spans)) == pytest.approx(plain, rel=1e-11)
    tiny = x * np.array([1e-12, 1e-9, 1e6])
    groups = Spans(np.arange(0, 50, 5), 50)
    here, there = vector_subgroups(x, groups), vector_subgroups(moved, groups)
    near = t2_panel(here.mean, here.n, one(10), t2_subgroup_parameters(here, one(10)), "phase_1", remainder=here.remainder)
    far = t2_panel(there.mean, there.n, one(10), t2_subgroup_parameters(there, one(10)), "phase_1", remainder=there.remainder)
    assert far.value == pytest.approx(near.value, rel=1e-11)
    assert t2_statistic(tiny, 1, spans, t2_parameters(tiny, spans)) == pytest.approx(plain, rel=1e-11)


@pytest.mark.parametrize("phase", ["phase_1", "phase_2"])
def test_limits_of_equal_subgroups_are_the_textbooks(phase: str) -> None:
    """Montgomery, Introduction to Statistical Quality Control (11.19 and 11.20)."""
    m, n, p = 12, 5, 3
    subgroups = vector_subgroups(vectors(m * n), Spans(np.arange(0, m * n, n), m * n))
    parameters = t2_subgroup_parameters(subgroups, one(m))
    points = t2_panel(subgroups.mean, subgroups.n, one(m), parameters, phase)
    factor = p * ((m - 1) if phase == "phase_1" else (m + 1)) * (n - 1) / (m * n - m - p + 1)
    assert points.ucl == pytest.approx(np.full(m, factor * stats.f.isf(ALPHA, p, m * n - m - p + 1)), rel=1e-10)
    assert points.cl == pytest.approx(np.full(m, factor * stats.f.median(p, m * n - m - p + 1)), rel=1e-10)


def test_the_pooled_covariance_of_equal_subgroups_is_the_mean_of_theirs() -> None:
    values = vectors(20)
    subgroups = vector_subgroups(values, Spans(np.arange(0, 20, 4), 20))
    found = t2_subgroup_parameters(subgroups, one(5), np.array([True, True, False, True, True]))
    each = [np.cov(values[i : i + 4].T) for i in (0, 4, 12, 16)]
    assert found.covariance[0] == pytest.approx(np.mean(each, axis=0), rel=1e-12)
    assert found.mean[0] == pytest.approx(np.delete(values.reshape(5, 4, 3), 2, axis=0).reshape(-1, 3).mean(axis=0), rel=1e-12)


def test_limits_of_unequal_subgroups_hold_at_their_own_size() -> None:
    """By simulation of 20,000 studies with sizes 2 to 8: each point has the false alarm rate that was asked for."""
    sizes = np.tile(np.array([2, 8, 3, 5, 2, 6]), 20_000)
    rows = int(sizes.sum())
    starts = np.concatenate(([0], np.cumsum(sizes)[:-1]))
    x = np.random.default_rng(11).standard_normal((rows, 2))
    subgroups = vector_subgroups(x, Spans(starts, rows))
    charts = Spans(np.arange(0, len(sizes), 6), len(sizes))
    points = t2_panel(subgroups.mean, subgroups.n, charts, t2_subgroup_parameters(subgroups, charts), "phase_1", alpha=0.05)
    share = (points.value > points.ucl).reshape(-1, 6).mean(axis=0)
    # four standard errors of a share of 20,000
    assert share == pytest.approx(np.full(6, 0.05), abs=4 * np.sqrt(0.05 * 0.95 / 20_000))


def test_successive_differences_do_not_reach_across_gaps_and_exclusions() -> None:
    x = vectors(12)
    first = np.isin(np.arange(12), [0, 5])
    included = np.arange(12) != 8
    found = t2_parameters(x, one(12), included, "successive_differences", first)
    pairs = [(i - 1, i) for i in (1, 2, 3, 4, 6, 7, 10, 11)]
    v = np.array([x[b] - x[a] for a, b in pairs])
    assert found.covariance[0] == pytest.approx(v.T @ v / (2 * len(pairs)), rel=1e-12)
    # five pairs follow another one directly: 2, 3, 4; 7; 11
    assert found.nu[0] == pytest.approx(2 * 64 / (16 + 5))


def test_a_step_in_the_mean_shows_by_successive_differences_and_hides_in_the_covariance() -> None:
    """Sullivan and Woodall (1996): a step inflates the covariance matrix and leaves the differences as they are."""
    x = vectors(60, seed=5)
    x[30:, 0] += 3.0
    signals = {}
    for method in ("covariance", "successive_differences"):
        points = t2_panel(x, 1, one(60), t2_parameters(x, one(60), method=method), "phase_1", k=2.0)
        signals[method] = int((points.value > points.ucl).sum())
    assert signals["successive_differences"] > signals["covariance"]


@pytest.mark.parametrize("phase", ["phase_1", "phase_2", "known"])
def test_the_score_passes_k_exactly_where_t2_passes_the_limit(phase: str) -> None:
    x = vectors(200, seed=2)
    x[::17] *= 4
    parameters = known_parameters(np.zeros((1, 3)), (MIX @ MIX.T)[None]) if phase == "known" else t2_parameters(x, one(200))
    for k in (1.0, 2.5, 3.0):
        points = t2_panel(x, 1, one(200), parameters, phase, k=k)
        assert np.array_equal(points.z > k, points.value > points.ucl)
        assert (points.value > points.ucl).any()
        assert (points.z >= 0).all()


def test_known_parameters_have_the_chi_squared_limit() -> None:
    known = known_parameters(np.zeros((1, 3)), np.eye(3)[None])
    points = t2_panel(np.array([[1.0, 2.0, 2.0]]), 4, one(1), known, "known")
    assert points.value.tolist() == [36.0]
    assert points.ucl[0] == pytest.approx(stats.chi2.isf(ALPHA, 3), rel=1e-12)


def test_a_contribution_is_what_t2_loses_without_its_variable() -> None:
    """Runger, Alt, Montgomery (1996): d_j = T2 - T2(j), by inverting each submatrix."""
    x = vectors(40)
    parameters = t2_parameters(x, one(40))
    whole = t2_statistic(x, 1, one(40), parameters)
    found = t2_contributions(x, 1, one(40), parameters)
    for j in range(3):
        rest = [i for i in range(3) if i != j]
        d = x[:, rest] - parameters.mean[0][rest]
        without = np.einsum("ni,ij,nj->n", d, np.linalg.inv(parameters.covariance[0][np.ix_(rest, rest)]), d)
        assert found[:, j] == pytest.approx(whole - without, rel=1e-9, abs=1e-11)


def test_a_constant_variable_too_few_rows_and_collinear_variables_are_named_per_chart() -> None:
    good, constant, tied = vectors(20), vectors(20), vectors(20)
    constant[:, 1] = 5.0
    tied[:, 2] = tied[:, 0] - 2 * tied[:, 1] + 1
    x = np.concatenate((good, constant, vectors(3), tied))
    spans = Spans(np.array([0, 20, 40, 43]), 63)
    names = ["length", "width", "height"]
    found = covariance_problems(t2_parameters(x, spans), names)
    assert sorted(found) == [1, 2, 3]
    assert found[1].startswith("width does not vary")
    assert found[2].startswith("2 degrees of freedom cannot give a covariance of the 3 variables length, width, height")
    assert found[3].startswith("length, width, height are collinear")
    with pytest.raises(ContractError, match=r"SPC-322.*press 2: width does not vary; leave it out"):
        check_covariance(t2_parameters(x, spans), names, ["press 1", "press 2", "press 3", "press 4"])


def test_as_many_rows_as_can_only_give_one_t2_are_refused() -> None:
    """With p + 1 vectors each T2 is (m - 1)^2 / m whatever they are; p + 2 are the fewest that a limit exists for."""
    with pytest.raises(ContractError, match=r"SPC-322.*3 degrees of freedom.*take more observations"):
        t2_panel(vectors(4), 1, one(4), t2_parameters(vectors(4), one(4)), "phase_1")
    assert np.isfinite(t2_panel(vectors(5), 1, one(5), t2_parameters(vectors(5), one(5)), "phase_1").ucl).all()


def test_a_span_without_any_row_is_named_and_not_zero() -> None:
    x = np.full((5, 2), np.nan)
    with pytest.raises(ContractError, match=r"SPC-322.*chart 1: .* degrees of freedom"):
        t2_statistic(x, 1, one(5), t2_parameters(x, one(5)))


def test_an_infinite_value_is_refused_with_its_row_and_variable() -> None:
    x = vectors(10)
    x[6, 2] = np.inf
    with pytest.raises(ContractError, match=r"SPC-323.*row 6, variable 3"):
        t2_parameters(x, one(10))


@pytest.mark.parametrize(
    ("more", "text"), [({"alpha": 1.5}, "alpha must lie"), ({"phase": "trial"}, "no phase 'trial'"), ({"phase": "known"}, None)]
)
def test_a_wrong_phase_or_alpha_is_refused(more, text) -> None:
    x = vectors(10)
    asked = {"phase": "phase_1", **more}
    if text is None:
        # estimates may be taken for known: the limit is then that of exact parameters
        assert t2_panel(x, 1, one(10), t2_parameters(x, one(10)), **asked).ucl[0] == pytest.approx(stats.chi2.isf(ALPHA, 3))
        return
    with pytest.raises(ContractError, match=f"SPC-323.*{text}"):
        t2_panel(x, 1, one(10), t2_parameters(x, one(10)), **asked)


def test_the_generalized_variance_has_montgomerys_moments() -> None:
    """|S| of n normal vectors is |Sigma| prod chi2(n - i) / (n - 1)^p (Anderson): moments from those of chi-squared."""
    n = np.array([6, 6, 9])
    values = vectors(21)
    subgroups = vector_subgroups(values, Spans(np.array([0, 6, 12]), 21))
    known = known_parameters(np.zeros((1, 3)), (MIX @ MIX.T)[None])
    panel = generalized_variance_panel(subgroups, one(3), known)
    sigma = np.linalg.det(MIX) ** 2
    for i, size in enumerate(n):
        df = size - np.arange(1, 4)
        mean, square = np.prod(df) / (size - 1) ** 3, np.prod(df * (df + 2)) / (size - 1) ** 6
        assert panel.cl[i] == pytest.approx(sigma * mean, rel=1e-12)
        assert panel.standard_error[i] == pytest.approx(sigma * np.sqrt(square - mean**2), rel=1e-12)
        start = [0, 6, 12][i]
        assert panel.value[i] == pytest.approx(np.linalg.det(np.cov(values[start : start + size].T)), rel=1e-10)
    assert (panel.lcl >= 0).all()


def test_a_subgroup_no_larger_than_the_variables_has_no_determinant() -> None:
    subgroups = vector_subgroups(vectors(13), Spans(np.array([0, 5, 10]), 13))
    panel = generalized_variance_panel(subgroups, one(3), t2_subgroup_parameters(subgroups, one(3)))
    assert np.isnan(panel.value).tolist() == [False, False, True]
    assert np.isnan(panel.ucl).tolist() == [False, False, True]


def loop_mewma(x, sizes, sigma, r):
    w, spread, out = np.zeros(x.shape[1]), 0.0, []
    for row, n in zip(x, sizes, strict=True):
        w = r * row + (1 - r) * w
        spread = r * r / n + (1 - r) ** 2 * spread
        out.append(w @ np.linalg.inv(spread * sigma) @ w)
    return out


def test_the_mewma_restarts_at_each_segment_and_weighs_each_size() -> None:
    x, sizes = vectors(40), np.random.default_rng(1).integers(1, 6, 40)
    sigma = MIX @ MIX.T
    first = np.isin(np.arange(40), [0, 13, 25])
    spans = Spans(np.array([0, 25]), 40)
    known = known_parameters(np.zeros((2, 3)), np.array([sigma, sigma]))
    points = mewma_panel(x, first, spans, known, 0.2, 10.0, sizes)
    expected = [loop_mewma(x[a:b], sizes[a:b], sigma, 0.2) for a, b in ((0, 13), (13, 25), (25, 40))]
    assert points.value == pytest.approx(np.concatenate(expected), rel=1e-10)
    assert np.array_equal(points.z > 3, points.value > points.ucl)


def test_a_mewma_of_weight_1_is_t2_and_its_asymptotic_form_meets_the_exact_one_late() -> None:
    x = vectors(120)
    known = known_parameters(np.zeros((1, 3)), (MIX @ MIX.T)[None])
    first = first_only(120)
    assert mewma_panel(x, first, one(120), known, 1.0, 12.0).value == pytest.approx(t2_statistic(x, 1, one(120), known))
    exact = mewma_panel(x, first, one(120), known, 0.2, 12.0).value
    late = mewma_panel(x, first, one(120), known, 0.2, 12.0, exact=False).value
    assert late[-1] == pytest.approx(exact[-1], rel=1e-12)
    # r / (2 - r) against r^2 at the first vector
    assert late[0] == pytest.approx(exact[0] * 0.04 / (0.2 / 1.8), rel=1e-12)


def test_a_missing_vector_has_no_mewma_point_and_does_not_break_the_chart() -> None:
    x = vectors(20)
    known = known_parameters(np.zeros((1, 3)), (MIX @ MIX.T)[None])
    holed = np.insert(x, 0, np.nan, axis=0)
    holed = np.insert(holed, 9, [1.0, np.nan, 2.0], axis=0)
    points = mewma_panel(holed, first_only(22), one(22), known, 0.1, 12.0)
    assert np.flatnonzero(np.isnan(points.value)).tolist() == [0, 9]
    assert (
        points.value[np.isfinite(points.value)].tolist()
        == mewma_panel(x, first_only(20), one(20), known, 0.1, 12.0).value.tolist()
    )


@pytest.mark.parametrize(("weight", "limit"), [(0.0, 9.0), (1.2, 9.0), (0.1, 0.0)])
def test_a_mewma_without_a_sound_weight_or_limit_is_refused(weight: float, limit: float) -> None:
    known = known_parameters(np.zeros((1, 3)), np.eye(3)[None])
    with pytest.raises(ContractError, match=r"SPC-323.*weight in \(0, 1\]"):
        mewma_panel(vectors(5), first_only(5), one(5), known, weight, limit)

"""Fits by maximum likelihood against scipy, the likelihood equations, and laws that any fit obeys."""

import numpy as np
import pytest
from scipy import special, stats

from spc_platform.errors import ContractError
from spc_platform.spc.distributions import DISTRIBUTIONS, best_fit, fit, fit_many
from spc_platform.spc.goodness_of_fit import p_of_gamma, p_of_normal, p_of_weibull
from spc_platform.spc.johnson import fit_johnson, transform
from spc_platform.spc.sequence import Spans

RANDOM = np.random.default_rng(5)
SAMPLES = {
    "normal": RANDOM.normal(5, 2, 300),
    "lognormal": RANDOM.lognormal(1, 0.5, 300),
    "weibull": RANDOM.weibull(1.7, 300) * 3,
    "gamma": RANDOM.gamma(2.3, 1.5, 300),
}
SCIPY = {"normal": stats.norm, "lognormal": stats.lognorm, "weibull": stats.weibull_min, "gamma": stats.gamma}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_no_neighbour_is_more_likely_than_the_fit(name):
    found = fit(SAMPLES[name], name)
    law, arguments = SCIPY[name], np.array(found.scipy_arguments)
    best = law.logpdf(SAMPLES[name], *arguments).sum()
    assert found.log_likelihood == pytest.approx(best, rel=1e-12)
    free = [0, 1] if name == "normal" else [0, 2]
    for index in free:
        for factor in (1 - 1e-4, 1 + 1e-4):
            near = arguments.copy()
            near[index] *= factor
            assert law.logpdf(SAMPLES[name], *near).sum() < best
    assert found.aic == pytest.approx(4 - 2 * best)


@pytest.mark.parametrize("name", ["normal", "lognormal", "gamma"])
def test_fits_are_those_of_scipy(name):
    fixed = {} if name == "normal" else {"floc": 0}
    assert fit(SAMPLES[name], name).scipy_arguments == pytest.approx(SCIPY[name].fit(SAMPLES[name], **fixed), rel=1e-9, abs=0)


def test_the_weibull_shape_solves_its_equation_to_the_last_digits():
    """Where scipy's own optimiser stops at 1e-5."""
    x, found = SAMPLES["weibull"], fit(SAMPLES["weibull"], "weibull").parameters
    k = found["shape"]
    residual = np.sum(x**k * np.log(x)) / np.sum(x**k) - 1 / k - np.log(x).mean()
    assert abs(residual) < 1e-13
    assert found["scale"] == pytest.approx(np.mean(x**k) ** (1 / k), rel=1e-13)
    assert (k, found["scale"]) == pytest.approx(stats.weibull_min.fit(x, floc=0)[::2], rel=1e-4)


def test_the_gamma_shape_solves_its_equation_to_the_last_digits():
    x, found = SAMPLES["gamma"], fit(SAMPLES["gamma"], "gamma").parameters
    assert np.log(found["shape"]) - special.digamma(found["shape"]) == pytest.approx(
        np.log(x.mean()) - np.log(x).mean(), rel=1e-12
    )


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_many_charts_at_once_are_the_charts_one_by_one(name):
    parts = [np.sort(SAMPLES[name][:40]), np.sort(SAMPLES[name][40:41]), np.sort(SAMPLES[name][41:]), np.full(5, 2.0)]
    sizes = np.array([len(part) for part in parts])
    found = fit_many(np.concatenate(parts), Spans(np.cumsum(sizes) - sizes, int(sizes.sum())), name)
    for row in (0, 2):
        one = fit(parts[row], name)
        assert found.scale[row] == pytest.approx(one.parameters["scale"], rel=1e-13)
        assert found.anderson_darling[row] == pytest.approx(one.anderson_darling, rel=1e-10)
        assert found.quantile(0.99865)[row] == pytest.approx(one.quantile(0.99865), rel=1e-9)
        assert found.above(np.full(4, 9.0))[row] == pytest.approx(one.above(9.0), rel=1e-8)
        assert found.below(np.full(4, 0.5))[row] == pytest.approx(one.below(0.5), rel=1e-8)
    # one value, and equal values, have no fit rather than a wrong one
    for figure in (found.scale, found.log_likelihood, found.anderson_darling, found.p_value, found.quantile(0.5)):
        assert np.isnan(figure[[1, 3]]).all()


def test_a_chart_with_a_value_that_is_not_positive_has_no_fit_and_spoils_no_other():
    values, spans = np.array([-1.0, 1.0, 2.0, 1.0, 2.0, 4.0]), Spans(np.array([0, 3]), 6)
    found = fit_many(values, spans, "weibull")
    assert np.isnan(found.scale[0])
    assert found.scale[1] == pytest.approx(fit([1.0, 2.0, 4.0], "weibull").parameters["scale"])


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_change_of_unit_changes_the_scale_only(name):
    one, other = fit(SAMPLES[name], name), fit(SAMPLES[name] * 1e-12, name)
    assert other.parameters["scale"] == pytest.approx(one.parameters["scale"] * 1e-12, rel=1e-10)
    assert other.anderson_darling == pytest.approx(one.anderson_darling, rel=1e-9)
    assert fit(SAMPLES[name][::-1], name) == one


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_noise_of_a_thousandth_on_a_thousand_million_is_fitted(name):
    """All positive families are nearly normal there, but for the Weibull's skew; the quantiles must show the noise."""
    noise = 1e-3 * np.random.default_rng(6).standard_normal(400)
    found = fit(1e9 + noise, name)
    if name != "weibull":
        assert found.quantile(0.99865) - 1e9 - noise.mean() == pytest.approx(3 * noise.std(), rel=1e-3)
        assert found.anderson_darling == pytest.approx(fit(noise, "normal").anderson_darling, rel=2e-2)


@pytest.mark.parametrize("name", ["lognormal", "weibull", "gamma"])
def test_a_threshold_is_found_at_the_interior_maximum(name):
    found = fit(SAMPLES[name] + 7, name, threshold=True)
    law, arguments = SCIPY[name], np.array(found.scipy_arguments)
    best = law.logpdf(SAMPLES[name] + 7, *arguments).sum()
    assert found.log_likelihood == pytest.approx(best, rel=1e-10)
    assert best >= fit(SAMPLES[name], name).log_likelihood
    for index in range(3):
        step = 1e-3 * np.eye(3)[index]
        assert law.logpdf(SAMPLES[name] + 7, *(arguments + step)).sum() < best
        assert law.logpdf(SAMPLES[name] + 7, *(arguments - step)).sum() < best
    assert found.p_value is None


@pytest.mark.parametrize(
    ("law", "family"),
    [(stats.johnsonsu(1.0, 1.5, 3, 2), "su"), (stats.johnsonsb(0.5, 1.2, 3, 2), "sb"), (stats.lognorm(0.4, 3, 2), "sl")],
)
def test_johnson_finds_the_family_and_is_more_likely_than_the_truth(law, family):
    values = law.rvs(2000, random_state=1)
    found = fit(values, "johnson")
    assert found.distribution == f"johnson_{family}"
    assert found.log_likelihood > law.logpdf(values).sum()
    assert found.quantile(0.99865) == pytest.approx(law.ppf(0.99865), rel=0.1)
    ordered = np.sort(values)
    z = transform(*fit_johnson(ordered), ordered)
    assert (z.mean(), z.std()) == pytest.approx((0, 1), abs=1e-3)


def test_best_fit_puts_the_smallest_statistic_first_and_leaves_out_what_the_values_forbid():
    assert best_fit(SAMPLES["weibull"])[0].distribution == "weibull"
    assert [each.distribution for each in best_fit(SAMPLES["normal"] - 20)] == ["normal"]
    with pytest.raises(ContractError, match="differ"):
        best_fit([2.0, 2.0, 2.0])


def test_the_statistic_is_that_of_scipy():
    x = np.sort(SAMPLES["normal"])
    z = stats.norm.cdf((x - x.mean()) / x.std(ddof=1))
    i = np.arange(1, 301)
    a2 = -300 - np.mean((2 * i - 1) * (np.log(z) + np.log1p(-z[::-1])))
    assert fit(x, "normal").anderson_darling == pytest.approx(a2, rel=1e-10)


def test_p_values_at_published_critical_values():
    """Stephens in D'Agostino and Stephens (1986): tables 4.7 (normal), 4.17 (Weibull), 4.21 (gamma by shape)."""
    n = np.array([1e12])
    for critical, p in ((0.631, 0.10), (0.752, 0.05), (1.035, 0.01)):
        assert p_of_normal(np.array([critical]), n)[0] == pytest.approx(p, rel=0.03)
    for critical, p in ((0.637, 0.10), (0.757, 0.05), (1.038, 0.01)):
        assert p_of_weibull(np.array([critical]), n)[0] == pytest.approx(p, rel=0.05)
    for shape, five, one in ((1, 0.786, 1.092), (2, 0.768, 1.062), (3, 0.762, 1.052), (1e6, 0.752, 1.035)):
        found = p_of_gamma(np.array([five, one]), np.full(2, float(shape)))
        assert found == pytest.approx([0.05, 0.01], rel=0.01)


def test_the_gamma_p_value_falls_without_end():
    found = p_of_gamma(np.array([0.1, 0.5, 1.0, 1.9, 2.1, 4.0, 8.0, np.nan]), np.full(8, 2.0))
    assert np.all(np.diff(found[:7]) < 0)
    assert 0 < found[6] < 1e-15
    assert np.isnan(found[7])


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_p_values_are_uniform_where_the_distribution_is_true(name):
    """1,000 samples of 100: the share below 5 % and below 50 %; three standard errors are 2 and 5 %, plus approximation."""
    random = np.random.default_rng(11)
    drawn = {
        "normal": random.normal(5, 1, (1000, 100)),
        "lognormal": random.lognormal(0, 0.5, (1000, 100)),
        "weibull": random.weibull(2, (1000, 100)),
        "gamma": random.gamma(2, 1, (1000, 100)),
    }[name]
    p = fit_many(np.sort(drawn, axis=1).ravel(), Spans(np.arange(0, 100_000, 100), 100_000), name).p_value
    assert np.mean(p < 0.05) == pytest.approx(0.05, abs=0.025)
    assert np.mean(p < 0.5) == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize(
    ("values", "name", "code", "text"),
    [
        ([1.0, 0.0, 2.0], "weibull", "SPC-347", "row 2: value 0 is not positive.*offset"),
        ([1.0, 2.0, np.nan], "normal", "SPC-347", "row 3.*leave the row out"),
        ([2.0, 2.0, 2.0], "gamma", "SPC-349", "differ"),
        ([1.0, 2.0], "lognormal", "SPC-349", "at least 3"),
        ([1.0, 2.0, 3.0], "cauchy", "SPC-348", "use one of normal"),
        ([1.0, 2.0, 3.0], "johnson", "SPC-355", "at least 10"),
    ],
)
def test_what_cannot_be_fitted_is_refused_with_its_remedy(values, name, code, text):
    with pytest.raises(ContractError, match=text) as caught:
        fit(values, name)
    assert caught.value.code == code


def test_a_threshold_is_refused_where_there_is_none():
    with pytest.raises(ContractError, match="no threshold of its own"):
        fit(SAMPLES["normal"], "normal", threshold=True)
    # a left tail has no threshold below it: the likelihood only grows towards the normal distribution
    with pytest.raises(ContractError, match="interior maximum") as caught:
        fit(-np.random.default_rng(1).gamma(1.0, 1.0, 200), "lognormal", threshold=True)
    assert caught.value.code == "SPC-349"


def test_a_tail_beyond_the_values_is_extrapolated():
    many = stats.norm.ppf((np.arange(1, 3001) - 0.5) / 3000)
    assert fit(many, "normal").is_extrapolated is False
    assert fit(many[500:2500], "normal").is_extrapolated is True
    assert fit(many[::2], "normal").is_extrapolated is True

"""Residual charts against recursions and least squares written out in plain Python, and streams whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.signal import lfilter

from spc_platform.errors import ContractError
from spc_platform.spc.residuals import (
    autoregression_residuals,
    best_weight,
    ewma_forecast,
    fit_autoregression,
)
from spc_platform.spc.sequence import Spans


def charts(*sizes: int) -> tuple[Spans, np.ndarray]:
    """Spans of charts of these sizes, each one gapless segment."""
    starts = np.cumsum([0, *sizes[:-1]])
    is_first = np.zeros(sum(sizes), dtype=bool)
    is_first[starts] = True
    return Spans(starts, sum(sizes)), is_first


def ar(phi: list[float], n: int, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(n + 500)
    return lfilter([1.0], [1.0, *(-np.asarray(phi))], noise)[500:]


def least_squares(x: np.ndarray, p: int) -> np.ndarray:
    """Intercept and coefficients of one gapless series by numpy's SVD solver, row by row."""
    rows = [[1.0, *(x[t - j] for j in range(1, p + 1))] for t in range(p, len(x))]
    return np.linalg.lstsq(np.asarray(rows), x[p:], rcond=None)[0]


def test_the_fit_equals_least_squares_on_each_chart_alone() -> None:
    series = [ar([0.6, -0.3], 80, 1), 50.0 + 3.0 * ar([0.9], 200, 2), 1e-6 * ar([-0.4], 60, 3)]
    spans, is_first = charts(80, 200, 60)
    model = fit_autoregression(np.concatenate(series), is_first, spans, order=2)
    for chart, x in enumerate(series):
        expected = least_squares(x, 2)
        np.testing.assert_allclose(model.coefficients[chart], expected[1:], rtol=1e-9)
        np.testing.assert_allclose(model.mean[chart], expected[0] / (1 - expected[1:].sum()), rtol=1e-9)
        residual = [x[t] - expected[0] - expected[1] * x[t - 1] - expected[2] * x[t - 2] for t in range(2, len(x))]
        np.testing.assert_allclose(model.sigma[chart], math.sqrt(math.fsum(e * e for e in residual) / (len(x) - 5)), rtol=1e-9)


def test_a_large_offset_costs_no_digits_of_the_coefficients() -> None:
    # steps of 2^-20 about 2^30 are exact in float64, so both series hold the same noise
    x = np.round(ar([0.7], 400, 4) * 2**10) / 2**20
    spans, is_first = charts(400)
    near, far = (fit_autoregression(x + offset, is_first, spans, order=1) for offset in (0.0, 2.0**30))
    np.testing.assert_allclose(far.coefficients, near.coefficients, rtol=1e-9)
    np.testing.assert_allclose(far.sigma, near.sigma, rtol=1e-9)


def test_the_order_is_chosen_by_the_criterion_on_common_points() -> None:
    truths = ([], [0.8], [0.5, -0.5], [0.4, 0.0, 0.4])
    series = [ar(list(truth), 600, 10 + i) for i, truth in enumerate(truths)]
    spans, is_first = charts(*(600,) * 4)
    model = fit_autoregression(np.concatenate(series), is_first, spans, largest=4)
    assert model.order.tolist() == [0, 1, 2, 3]
    for i, x in enumerate(series):
        scores = []
        for p in range(5):
            rows = np.asarray([[1.0, *(x[t - j] for j in range(1, p + 1))] for t in range(4, 600)])
            left = x[4:] - rows @ np.linalg.lstsq(rows, x[4:], rcond=None)[0]
            scores.append(596 * math.log(left @ left / 596) + (p + 1) * math.log(596))
        assert model.order[i] == int(np.argmin(scores))
    assert model.stationary.all()


def test_the_first_points_of_a_segment_and_after_a_gap_have_no_residual() -> None:
    x = ar([0.8], 100, 5)
    x[40] = np.nan
    spans, is_first = charts(60, 40)
    is_first[20] = True
    model = fit_autoregression(x, is_first, spans, order=1)
    residual = autoregression_residuals(x, is_first, spans, model)
    assert np.flatnonzero(np.isnan(residual)).tolist() == [0, 20, 40, 41, 60]


def test_residuals_of_a_strongly_correlated_stream_alarm_at_the_nominal_rate() -> None:
    # 34 % of these points alarm on an I-MR chart: 2 Phi(-3 sqrt(1 - 0.9)); rule 1 on independent points: 0.0027
    x = ar([0.9], 40_000, 6)
    spans, is_first = charts(len(x))
    residual = autoregression_residuals(x, is_first, spans, fit_autoregression(x, is_first, spans))[1:]
    rate = np.nanmean(np.abs(residual) > 3 * np.nanmean(np.abs(np.diff(residual))) * math.sqrt(math.pi) / 2)
    # four standard errors of a rate of 0.0027 over 40 000 points
    assert rate == pytest.approx(0.0027, abs=4 * math.sqrt(0.0027 / 40_000))
    assert np.mean(np.abs(x - x.mean()) > 3 * np.abs(np.diff(x)).mean() * math.sqrt(math.pi) / 2) > 0.3


def test_a_shift_is_seen_at_its_first_residual_when_the_model_comes_from_the_baseline() -> None:
    x = ar([0.8], 300, 7)
    x[250:] += 8.0
    spans, is_first = charts(300)
    baseline = np.arange(300) < 250
    model = fit_autoregression(x, is_first, spans, order=1, included=baseline)
    assert autoregression_residuals(x, is_first, spans, model)[250] > 3 * model.sigma[0]
    np.testing.assert_allclose(model.coefficients[0], least_squares(x[:250], 1)[1:], rtol=1e-9)


def test_a_constant_or_short_chart_has_no_model_and_no_residual() -> None:
    x = np.concatenate([np.full(50, 7.0), [1.0, 2.0, 1.5], ar([0.5], 60, 8)])
    spans, is_first = charts(50, 3, 60)
    model = fit_autoregression(x, is_first, spans, order=1)
    assert model.order.tolist() == [-1, -1, 1]
    frame = model.frame()
    assert frame["mean"].is_null().to_list() == [True, True, False]
    assert frame["coefficients"].is_null().to_list() == [True, True, False]
    assert np.isnan(autoregression_residuals(x, is_first, spans, model)[:53]).all()
    assert np.isnan(best_weight(x, is_first, spans)[0])


def test_an_explosive_model_says_so() -> None:
    x = np.cumsum(np.cumsum(np.random.default_rng(9).standard_normal(200))) * 1.01 ** np.arange(200)
    spans, is_first = charts(200)
    assert not fit_autoregression(x, is_first, spans, order=2).stationary[0]


def plain_forecast(x: np.ndarray, is_first: np.ndarray, weight: float) -> list[float]:
    level, forecasts = math.nan, []
    for value, first in zip(x, is_first, strict=True):
        begins = first or math.isnan(level)
        forecasts.append(math.nan if begins or math.isnan(value) else level)
        level = value if begins else weight * value + (1 - weight) * level
    return forecasts


@pytest.mark.parametrize("weight", [0.02, 0.3, 1.0])
def test_the_ewma_forecast_equals_the_plain_recursion(weight: float) -> None:
    x = 1e3 + ar([0.7], 1000, 12)
    x[[100, 101, 500]] = np.nan
    spans, is_first = charts(400, 600)
    is_first[250] = True
    forecast = ewma_forecast(x, is_first, spans, np.full(2, weight))
    np.testing.assert_allclose(forecast, plain_forecast(x, is_first, weight), rtol=1e-13)


def test_the_ewma_weight_minimises_the_squared_one_step_errors() -> None:
    # an IMA(1,1) with theta has the EWMA of weight 1 - theta as its best forecast (Box and Jenkins, 5.3)
    noise = np.random.default_rng(13).standard_normal(20_000)
    x = np.cumsum(noise) - 0.6 * np.cumsum(np.concatenate([[0.0], noise[:-1]]))
    y = ar([0.9], 2000, 14)
    spans, is_first = charts(len(x), len(y))
    both = np.concatenate([x, y])
    weight = best_weight(both, is_first, spans)
    assert weight[0] == pytest.approx(0.4, abs=0.03)
    begin = is_first[20_000:]

    def squares(w: float) -> float:
        return math.fsum((a - b) ** 2 for a, b in zip(y, plain_forecast(y, begin, w), strict=True) if not math.isnan(b))

    assert squares(float(weight[1])) <= min(squares(float(weight[1]) + step) for step in (-0.01, -1e-4, 1e-4))


def test_a_random_walk_is_best_forecast_by_its_last_value() -> None:
    x = np.cumsum(np.random.default_rng(15).choice([-1.0, 1.0], 400)) + np.linspace(0, 400, 400)
    spans, is_first = charts(400)
    assert best_weight(x, is_first, spans)[0] == 1.0


def test_wrong_orders_weights_and_lengths_are_refused_with_their_code() -> None:
    x = ar([0.5], 30, 16)
    spans, is_first = charts(30)
    for call in (
        lambda: fit_autoregression(x, is_first, spans, order=-1),
        lambda: fit_autoregression(x, is_first, spans, criterion="hq"),
        lambda: ewma_forecast(x, is_first, spans, np.array([0.0])),
        lambda: ewma_forecast(x, is_first, spans, np.array([0.5, 0.5])),
    ):
        with pytest.raises(ContractError, match="SPC-374"):
            call()
    with pytest.raises(ContractError, match="SPC-371"):
        fit_autoregression(x[:-1], is_first, spans)
    x[7] = np.inf
    with pytest.raises(ContractError, match=r"SPC-370.*row 7"):
        fit_autoregression(x, is_first, spans)


def test_no_charts_give_no_models() -> None:
    spans, nothing = Spans(np.zeros(0, dtype=np.int64), 0), np.zeros(0)
    assert fit_autoregression(nothing, nothing > 0, spans).frame().is_empty()
    assert best_weight(nothing, nothing > 0, spans).size == 0

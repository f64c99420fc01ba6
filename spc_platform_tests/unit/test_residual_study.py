"""Studies of residuals: a stream with memory, its model, and the charts of what the model leaves."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.signal import lfilter
from typer.testing import CliRunner

from spc_platform.cli.main import app
from spc_platform.errors import ContractError
from spc_platform.spc.study import Plan, study

D2 = 2 / math.sqrt(math.pi)
"""Mean range of two standard normal values (Tippett 1925)."""


def stream(phi: float = 0.8, n: int = 250, seed: int = 7) -> np.ndarray:
    """AR(1) on a grid of 2^-20: sums with 2^30 are exact."""
    noise = np.random.default_rng(seed).standard_normal(n + 500)
    return np.round(lfilter([1.0], [1.0, -phi], noise)[500:] * 2**10) / 2**20


def frame(x: np.ndarray, stage: list[str] | None = None) -> pl.DataFrame:
    rows = pl.DataFrame({"row": np.arange(1, len(x) + 1), "value": x}).with_columns(pl.col("value").fill_nan(None))
    return rows if stage is None else rows.with_columns(stage=pl.Series(stage))


def by_least_squares(x: np.ndarray) -> np.ndarray:
    """Errors of AR(1) fitted row by row with numpy's SVD solver; the first value has none."""
    rows = np.column_stack([np.ones(len(x) - 1), x[:-1]])
    return x[1:] - rows @ np.linalg.lstsq(rows, x[1:], rcond=None)[0]


def test_points_and_limits_are_those_of_the_errors_of_least_squares() -> None:
    x = stream()
    found = study(frame(x), Plan("i_mr", residuals="autoregression"))
    points = found.points.filter(pl.col("panel") == "location")
    left = by_least_squares(x)
    sigma = math.fsum(abs(np.diff(left))) / (len(left) - 1) / D2
    assert points["number"].to_list() == list(range(2, 251))
    np.testing.assert_allclose(points["value"], left, rtol=0, atol=1e-9 * sigma)
    np.testing.assert_allclose(points["ucl"], 3 * sigma, rtol=1e-9)
    assert points["cl"].unique().to_list() == [0.0]
    assert found.stages[0]["model"]["order"] == 1
    assert found.stages[0]["centre"] == 0.0


def test_the_ewma_forecast_is_a_recursion_of_its_weight() -> None:
    x = stream(0.95)
    found = study(frame(x), Plan("i_mr", residuals="ewma"))
    weight, level, errors = found.stages[0]["model"]["weight"], x[0], []
    for value in x[1:]:
        errors.append(value - level)
        level = weight * value + (1 - weight) * level
    points = found.points.filter(pl.col("panel") == "location")
    np.testing.assert_allclose(points["value"], errors, rtol=0, atol=1e-9 * np.std(errors))


@pytest.mark.parametrize("residuals", ["autoregression", "ewma"])
def test_an_offset_of_1e9_changes_no_point(residuals: str) -> None:
    near, far = (study(frame(stream() + offset), Plan("i_mr", residuals=residuals)) for offset in (0.0, 2.0**30))
    np.testing.assert_allclose(far.points["z"].drop_nulls(), near.points["z"].drop_nulls(), rtol=1e-9)


def test_a_stream_with_memory_alarms_on_its_values_and_not_on_its_residuals() -> None:
    # 2 Phi(-3 sqrt(1 - 0.9)) = 0.34 of the points of an I-MR chart; of independent points 0.0027 or 5 of 2,000
    x = stream(0.9, 2000)
    plain, residual = (study(frame(x), Plan("i_mr", rules="limits_only", residuals=how)) for how in (None, "autoregression"))
    signals = [found.violations.filter(pl.col("panel") == "location").height for found in (plain, residual)]
    assert signals[0] > 500
    # P(more than 14 of Poisson(5.4)) is 0.0004
    assert signals[1] <= 14


def test_the_model_rests_on_the_baseline_alone_and_a_later_shift_is_seen_at_once() -> None:
    x = stream(n=300)
    shifted = x.copy()
    shifted[250:] += 8 * 2**-10
    before, after = (
        study(frame(values), Plan("i_mr", baseline=(1, 250), residuals="autoregression")) for values in (x, shifted)
    )
    assert after.stages[0]["model"] == before.stages[0]["model"]
    assert after.points.filter(pl.col("number") <= 250).equals(before.points.filter(pl.col("number") <= 250))
    first = after.violations.filter((pl.col("panel") == "location") & (pl.col("rule") == "nelson_1") & (pl.col("number") > 250))
    assert first["number"][0] == 251


def test_every_stage_has_its_own_model_and_its_first_value_no_residual() -> None:
    x = np.concatenate([stream(0.8, 150, 1), 5.0 + stream(-0.5, 150, 2)])
    found = study(frame(x, ["a"] * 150 + ["b"] * 150), Plan("i_mr", residuals="autoregression"))
    alone = [study(frame(part), Plan("i_mr", residuals="autoregression")) for part in (x[:150], x[150:])]
    for stage, single in zip(found.stages, alone, strict=True):
        assert stage["model"] == single.stages[0]["model"]
        assert stage["sigma"] == single.stages[0]["sigma"]
    numbers = found.points.filter(pl.col("panel") == "location")["number"].to_list()
    assert 1 not in numbers
    assert 151 not in numbers


def test_beside_a_missing_value_there_is_no_residual() -> None:
    x = stream()
    x[99] = np.nan
    found = study(frame(x), Plan("i_mr", residuals="autoregression"))
    numbers = found.points.filter(pl.col("panel") == "location")["number"].to_list()
    assert set(range(1, 251)) - set(numbers) == {1, 100, 101}


def test_residuals_have_no_capability_and_say_so() -> None:
    found = study(frame(stream()), Plan("i_mr", residuals="ewma", lsl=-1.0, usl=1.0))
    assert found.stages[0]["capability"] is None
    assert any("no capability: the points are residuals" in text for text in found.warnings)


@pytest.mark.parametrize(
    ("values", "plan", "text"),
    [
        (stream(), Plan("xbar_r", size=5, residuals="ewma"), "takes no residuals; use one of i_mr, ewma, cusum"),
        (stream(), Plan("i_mr", residuals="arma"), "no residuals by 'arma'; use autoregression or ewma"),
        (stream(), Plan("i_mr", residuals="ewma", mu=0.0), "leave mu and sigma out"),
        (stream(), Plan("ewma", size=5, residuals="ewma"), "row 1: residuals are of single values, and the subgroup has 5"),
        (np.full(50, 3.0), Plan("i_mr", residuals="autoregression"), "values without variation"),
        (np.full(50, 3.0), Plan("i_mr", residuals="ewma"), "values without variation"),
        (np.array([1.0, 2.0]), Plan("i_mr", residuals="ewma"), "too few neighbouring values"),
    ],
)
def test_what_cannot_be_predicted_is_refused(values: np.ndarray, plan: Plan, text: str) -> None:
    with pytest.raises(ContractError, match=text):
        study(frame(values), plan)


def test_the_chart_that_fitness_suggests_can_be_asked_for_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "stream.csv"
    path.write_text("temperature\n" + "\n".join(map(repr, stream(0.9).tolist())) + "\n")
    plain = CliRunner().invoke(app, ["analyze", str(path), "--format", "json"])
    suggested = json.loads(plain.stdout)["fitness"]["suggested_chart"]
    assert suggested == "residual_i_mr"
    named = CliRunner().invoke(app, ["analyze", str(path), "--chart", suggested, "--format", "json"])
    optioned = CliRunner().invoke(app, ["analyze", str(path), "--chart", "i_mr", "--residuals", "ar", "--format", "json"])
    assert named.exit_code == 0, named.output
    assert json.loads(named.stdout)["title"] == "I-MR chart of residuals of temperature (autoregression)"
    assert json.loads(named.stdout)["panels"] == json.loads(optioned.stdout)["panels"]

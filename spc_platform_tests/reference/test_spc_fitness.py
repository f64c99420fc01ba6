"""Fitness verdicts on data of NIST's e-Handbook, whose case studies say what is wrong with the obvious chart.

Data: NIST/SEMATECH e-Handbook of Statistical Methods, work of the US Government.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spc_platform.spc.fitness import Samples, chart_fitness
from spc_platform.spc.residuals import autoregression_residuals, best_weight, ewma_forecast, fit_autoregression
from spc_platform.spc.sequence import Spans
from spc_platform_tests.conftest import lacking

D2 = {2: 1.1283791671, 5: 2.3259289473}
C4_15 = math.sqrt(2 / 14) * math.gamma(7.5) / math.gamma(7)


@pytest.fixture(scope="module")
def handbook(shared_data: Path) -> Path:
    folder = shared_data / "nist-handbook-spc"
    if not folder.is_dir():
        lacking(f"no e-Handbook data at {folder}; set SPC_SHARED_DATA or run `spc data fetch`")
    return folder


@pytest.fixture(scope="module")
def heat_flow(handbook: Path) -> np.ndarray:
    """Calibration factors of a heat flow meter (e-Handbook 1.4.2.8)."""
    return np.array([float(line) for line in (handbook / "ZARR13.DAT").read_text().splitlines()[25:] if line.strip()])


@pytest.fixture(scope="module")
def line_width(handbook: Path) -> np.ndarray:
    """Line widths of 30 cassettes x 3 wafers x 5 sites (e-Handbook 6.6.1)."""
    rows = [line.split() for line in (handbook / "MONITOR-6_6_1_1.DAT").read_text().splitlines()[25:]]
    return np.array([float(row[3]) for row in rows if len(row) == 6 and row[0].isdigit()]).reshape(30, 3, 5)


def judged(kind: str, groups: np.ndarray, sigma: float) -> dict[str, Any]:
    value = groups.mean(axis=1)
    samples = Samples(
        [kind],
        Spans(np.array([0]), len(value)),
        value,
        np.full(len(value), float(groups.shape[1])),
        np.arange(len(value)) == 0,
        np.array([sigma]),
        m2=((groups - value[:, None]) ** 2).sum(axis=1),
        values=groups.ravel(),
        value_chart=np.zeros(groups.size, dtype=np.int64),
    )
    return chart_fitness(samples).row(0, named=True)


def test_the_heat_flow_meter_is_normal_with_a_mild_memory(heat_flow: np.ndarray) -> None:
    # e-Handbook 1.3.5.2: 195 values, mean 9.261460, s 0.022789 (the mean is cut, not rounded: 9.2614608)
    assert (len(heat_flow), round(heat_flow.std(ddof=1), 6)) == (195, 0.022789)
    assert math.floor(heat_flow.mean() * 1e6) == 9_261_460
    found = judged("i_mr", heat_flow[:, None], float(np.abs(np.diff(heat_flow)).mean()) / D2[2])
    mean = math.fsum(heat_flow) / 195
    square = math.fsum((x - mean) ** 2 for x in heat_flow)
    lag1 = math.fsum((a - mean) * (b - mean) for a, b in zip(heat_flow[1:], heat_flow[:-1], strict=True)) / square
    assert found["autocorrelation_lag1"] == pytest.approx(lag1, rel=1e-9)
    # outside the band 1.96 / sqrt(195), yet no more than four times the false alarms: doubtful, not unfit
    assert lag1 > 1.96 / math.sqrt(195)
    assert (found["verdict"], found["reasons"]) == ("doubtful", "autocorrelation")
    assert found["suggested_chart"] == "residual_i_mr"
    # 5 % point of A² for a normal with mean and s estimated: 0.752 (D'Agostino and Stephens 1986, table 4.7)
    assert found["anderson_darling"] < 0.752
    assert found["normality_p"] > 0.05


def test_wafers_as_subgroups_hide_that_cassettes_differ(line_width: np.ndarray) -> None:
    # e-Handbook 6.6.1.4: lot-to-lot variation is the largest; subgroups other than the lot signal a known cause
    wafers = line_width.reshape(90, 5)
    found = judged("xbar_r", wafers, float(np.ptp(wafers, axis=1).mean()) / D2[5])
    within = math.fsum(float(((wafer - wafer.mean()) ** 2).sum()) for wafer in wafers) / (90 * 4)
    between = 5 * float(wafers.mean(axis=1).var(ddof=1))
    assert found["variance_ratio"] == pytest.approx(between / within, rel=1e-9)
    assert found["variance_ratio_p"] < 1e-6
    assert (found["verdict"], found["suggested_chart"]) == ("unfit", "i_mr_r")
    assert found["reasons"].split(";")[0] == "between_subgroups"


def test_cassettes_as_subgroups_need_a_chart_of_between_and_within(line_width: np.ndarray) -> None:
    # e-Handbook 6.6.1.4: chart the lot means as individuals and the sites within on their own
    cassettes = line_width.reshape(30, 15)
    found = judged("xbar_s", cassettes, float(cassettes.std(axis=1, ddof=1).mean()) / C4_15)
    assert (found["verdict"], found["reasons"], found["suggested_chart"]) == ("unfit", "between_subgroups", "i_mr_s")
    means = cassettes.mean(axis=1)
    alone = judged("i_mr", means[:, None], float(np.abs(np.diff(means)).mean()) / D2[2])
    # the means as individuals: nothing is left but that 30 points are few
    assert (alone["verdict"], alone["reasons"]) == ("doubtful", "small_baseline")


def test_residuals_of_the_heat_flow_meter_have_lost_the_memory(heat_flow: np.ndarray) -> None:
    spans, first = Spans(np.array([0]), 195), np.arange(195) == 0
    model = fit_autoregression(heat_flow, first, spans)
    residual = autoregression_residuals(heat_flow, first, spans, model)
    left = residual[np.isfinite(residual)]
    assert len(left) == 195 - model.order[0]
    assert abs(np.corrcoef(left[1:], left[:-1])[0, 1]) < 1.96 / math.sqrt(195)
    forecast = ewma_forecast(heat_flow, first, spans, best_weight(heat_flow, first, spans))
    assert np.isnan(forecast[0])
    # so weak a memory is better told by AR(1) about a fixed mean than by a level that wanders
    assert model.sigma[0] < math.sqrt(np.nanmean((heat_flow - forecast) ** 2))

"""The fitness verdict of every chart: whether its assumptions hold on its own data, and what would suit instead."""

from __future__ import annotations

from spc_platform.contracts.charts import CHARTS
from spc_platform.contracts.table import Table, code, count, identifier, moment, number, text

VERDICTS = ("fit", "doubtful", "unfit")
RESIDUAL_CHART = "residual_i_mr"
"""I-MR of one-step residuals: suits autocorrelated streams; ``spc analyze`` makes it, it is no kind of chart of the site."""

SUGGESTIONS = (*CHARTS, RESIDUAL_CHART)
JUDGED_ON = ("values", "subgroup statistics")

SPC_CHART_FITNESS = Table(
    name="spc_chart_fitness",
    description="Whether each chart's assumptions hold on its own data: dependence, gauge step, shape, spread between subgroups, counts, size of the baseline.",
    columns=(
        identifier("characteristic_id", "Characteristic of the chart."),
        identifier("equipment_id", "Work unit of the chart (the stream)."),
        code("chart", "Kind of chart.", tuple(CHARTS)),
        code("verdict", "fit; doubtful: read its signals with care; unfit: its limits mislead.", VERDICTS),
        text("reasons", "Codes of what was found, gravest first, joined by ;.", nullable=True),
        text("text", "The verdict in words."),
        code(
            "suggested_chart", "Kind of chart that would suit instead; empty when none would help.", SUGGESTIONS, nullable=True
        ),
        number("autocorrelation_lag1", "Autocorrelation of the charted statistic at lag 1.", unit="1", nullable=True),
        number("autocorrelation_p", "Its two-sided p.", unit="1", nullable=True, ge=0, le=1),
        number("ljung_box", "Ljung-Box Q over min(10, n/5) lags.", unit="1", nullable=True, ge=0),
        number("ljung_box_p", "Its p.", unit="1", nullable=True, ge=0, le=1),
        number(
            "implied_false_alarm_rate",
            "Rule 1 alarms per point without a cause, by the worst of what was found; the nominal rate for a fit chart.",
            unit="1",
            ge=0,
            le=1,
        ),
        number(
            "resolution_ratio",
            "Step of the gauge over sigma within; empty when no step is visible.",
            unit="1",
            nullable=True,
            ge=0,
        ),
        count("distinct_ranges", "Possible ranges within the range chart's limits.", nullable=True),
        number("skewness", "Skewness g1.", unit="1", nullable=True),
        number("kurtosis_excess", "Excess kurtosis g2.", unit="1", nullable=True),
        number("anderson_darling", "Anderson-Darling A² for a normal distribution.", unit="1", nullable=True),
        number("normality_p", "Its p.", unit="1", nullable=True, ge=0, le=1),
        number(
            "variance_ratio",
            "Variance of subgroup means over what the variance within explains.",
            unit="1",
            nullable=True,
            ge=0,
        ),
        number("variance_ratio_p", "Its two-sided p.", unit="1", nullable=True, ge=0, le=1),
        number(
            "hugging_share",
            "Share of points within one standard error of the centre; 0.683 is expected.",
            unit="1",
            nullable=True,
            ge=0,
            le=1,
        ),
        number("overdispersion", "Variance of counts over the binomial or Poisson variance.", unit="1", nullable=True, ge=0),
        number("overdispersion_p", "Its two-sided p.", unit="1", nullable=True, ge=0, le=1),
        count("n_subgroups", "Subgroups (points) judged."),
        count("n_values", "Values behind them."),
        moment("window_from", "First subgroup."),
        moment("window_to", "Last subgroup."),
        code("inputs", "What normality was judged on: the single values, or only the charted statistic.", JUDGED_ON),
    ),
    key=("characteristic_id", "equipment_id"),
    sort=("characteristic_id", "equipment_id"),
    partitioned=False,
)

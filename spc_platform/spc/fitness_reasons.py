"""The verdict on a chart: thresholds, and what each finding is called, means and suggests, as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from spc_platform.contracts.charts import CHARTS
from spc_platform.contracts.fitness import RESIDUAL_CHART
from spc_platform.spc.false_alarms import nominal, of_autocorrelation, of_variance_ratio
from spc_platform.spc.sequence import Floats


@dataclass(frozen=True, slots=True)
class Threshold:
    """A number that decides, and why it is this one."""

    value: float
    source: str


THRESHOLDS: dict[str, Threshold] = {
    "alpha": Threshold(0.001, "house: of a thousand sound charts one is called significant per test, and effect is asked too"),
    "doubtful_times": Threshold(2.0, "house: false alarms of rule 1 twice the nominal rate, half the in-control run length"),
    "unfit_times": Threshold(
        5.0, "house: worse than all four Western Electric rules together on a sound chart (370.4 / 91.75 = 4.04, exact)"
    ),
    "stratified_doubtful": Threshold(0.75, "house: limits 1.15 times too wide (1/sqrt 0.75), rule 1 at 5.3e-4"),
    "stratified_unfit": Threshold(0.5, "house: limits 1.41 times too wide, rule 1 at 2.2e-5: the chart is blind"),
    "residual_lag1": Threshold(0.7, "house: I-MR of the means would itself alarm at one point in ten, 2 Phi(-3 sqrt 0.3)"),
    "plain_lag1": Threshold(0.3, "house: kinds for which no rate follows from the autocorrelation"),
    "possible_ranges": Threshold(4, "Wheeler, The problem of chunky data: fewer possible ranges within the limits"),
    "bimodality": Threshold(5.0 / 9.0, "(g1² + 1) / (g2 + 3) of a uniform distribution (Sarle, SAS/STAT CLUSTER)"),
    "flat": Threshold(-1.0, "house: g2 near the uniform's -1.2; two normals 3.5 sigma apart have -1.1"),
    "range_size": Threshold(10, "Montgomery, Introduction to SQC, 6.3: the range loses efficiency above n of 10"),
    "subgroups": Threshold(25, "DOMAIN 2; Montgomery 6.2: 20 to 25 preliminary subgroups"),
    "individuals": Threshold(100, "limits from 20 individuals: in-control ARL 34 to 5673; from 100: 122 to 1199 (simulated)"),
    "expected_count": Threshold(5.0, "Montgomery 7.2: the normal limits of a count need an expectation of about 5"),
    "zero_share": Threshold(0.5, "Montgomery 7.3.4: where most counts are 0, chart the time or parts between events"),
    "masked_share": Threshold(0.05, "house: masking 5 % at +4 sigma moved Ppk from 1.21 to 1.66 (simulated)"),
}
"""What decides a verdict. The sources marked house are choices of this platform with their consequence."""


def _limit(name: str) -> float:
    return THRESHOLDS[name].value


@dataclass(frozen=True)
class Reason:
    """A finding: when it makes a chart doubtful or unfit, the false-alarm rate it implies, its words and suggestion."""

    code: str
    doubtful: pl.Expr
    unfit: pl.Expr
    words: pl.Expr
    rate: pl.Expr | None = None
    suggests: pl.Expr | None = None


_NEVER = pl.lit(value=False)
_CHART = pl.col("chart")
_ratio = pl.col("variance_ratio")
_lag1 = pl.col("autocorrelation_lag1")
_PLAIN_COUNT = _CHART.is_in(["p", "np", "c", "u"])
_SMALLEST = _CHART.replace_strict({name: chart.sizes[0] for name, chart in CHARTS.items()}, return_dtype=pl.Float64)
_LARGEST = _CHART.replace_strict({name: chart.sizes[1] for name, chart in CHARTS.items()}, return_dtype=pl.Float64)
_OF_VALUES = _CHART.is_in([name for name, chart in CHARTS.items() if chart.data == "values"])
_BIG = pl.col("typical") > _limit("range_size")


def _significant(p: str) -> pl.Expr:
    return pl.col(p) < _limit("alpha")


def _times(rate: str, limit: str) -> pl.Expr:
    return pl.col(rate) > _limit(limit) * pl.col("nominal")


def _inflated(rate: str, condition: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    return condition & _times(rate, "doubtful_times"), condition & _times(rate, "unfit_times")


def _percent(name: str, digits: int = 2) -> pl.Expr:
    return (100.0 * pl.col(name)).round_sig_figs(digits).cast(pl.String)


def _round(name: str, digits: int = 2) -> pl.Expr:
    return pl.col(name).round(digits).cast(pl.String)


_DEPENDENT = (_lag1 > 0) & (_significant("autocorrelation_p") | _significant("ljung_box_p"))
_BETWEEN = _OF_VALUES & ~pl.col("moving") & (_ratio > 1) & _significant("variance_ratio_p")
_NARROW = _OF_VALUES & (_ratio < 1) & _significant("variance_ratio_p")
_WITHIN_KIND = pl.when(_BIG | (_CHART == "xbar_s")).then(pl.lit("i_mr_s")).otherwise(pl.lit("i_mr_r"))
_LANEY = pl.when(_CHART.is_in(["p", "np"])).then(pl.lit("laney_p")).otherwise(pl.lit("laney_u"))
_RARE = pl.when(_CHART.is_in(["p", "np", "laney_p"])).then(pl.lit("g")).otherwise(pl.lit("t"))
_ALTERNATES = pl.col("moving") & (1.0 / (1.0 - _lag1) < _limit("stratified_doubtful")) & _significant("autocorrelation_p")
_TWO_PEAKS = (
    ((pl.col("skewness") ** 2 + 1.0) / (pl.col("kurtosis_excess") + 3.0) > _limit("bimodality"))
    & (pl.col("kurtosis_excess") < _limit("flat"))
    & _significant("normality_p")
)
_FEW = (
    pl.when(pl.col("individual") & _OF_VALUES)
    .then(pl.col("n_subgroups") < _limit("individuals"))
    .otherwise(pl.col("n_subgroups") < _limit("subgroups"))
)

REASONS: tuple[Reason, ...] = (
    Reason(
        "imputed_values",
        _NEVER,
        pl.col("imputed_share") > 0,
        pl.format("{} % of the values are imputed: sigma shrinks by that share", _percent("imputed_share")),
        rate=pl.col("rate_imputed"),
    ),
    Reason(
        "single_values",
        _NEVER,
        (pl.col("largest") < _SMALLEST) & _OF_VALUES,
        pl.lit("single values have no dispersion within a subgroup"),
        suggests=pl.lit("i_mr"),
    ),
    Reason(
        "subgrouped_values",
        _NEVER,
        (pl.col("largest") > _LARGEST) & _OF_VALUES,
        pl.lit("the points are subgroups, the chart is for individuals"),
        suggests=pl.when(_BIG).then(pl.lit("xbar_s")).otherwise(pl.lit("xbar_r")),
    ),
    Reason("no_variation", _NEVER, _OF_VALUES & (pl.col("sigma") == 0), pl.lit("the values do not vary within: sigma is 0")),
    Reason("no_sigma", _NEVER, _OF_VALUES & pl.col("sigma").is_null(), pl.lit("sigma within cannot be estimated")),
    Reason(
        "mostly_zero",
        _NEVER,
        pl.col("counted") & (pl.col("zero_share") > _limit("zero_share")),
        pl.format("{} % of the counts are 0", _percent("zero_share")),
        rate=pl.col("rate_count"),
        suggests=_RARE,
    ),
    Reason(
        "overdispersion",
        *_inflated("rate_overdispersion", _PLAIN_COUNT & (pl.col("overdispersion") > 1) & _significant("overdispersion_p")),
        pl.format("counts vary {} times as much as their model allows", _round("overdispersion")),
        rate=pl.col("rate_overdispersion"),
        suggests=_LANEY,
    ),
    Reason(
        "underdispersion",
        _PLAIN_COUNT & (pl.col("overdispersion") < _limit("stratified_doubtful")) & _significant("overdispersion_p"),
        _PLAIN_COUNT & (pl.col("overdispersion") < _limit("stratified_unfit")) & _significant("overdispersion_p"),
        pl.format("counts vary only {} times as much as their model supposes", _round("overdispersion")),
        rate=pl.col("rate_overdispersion"),
        suggests=_LANEY,
    ),
    Reason(
        "low_count",
        _PLAIN_COUNT & (pl.col("expected") < _limit("expected_count")),
        _PLAIN_COUNT & (pl.col("expected") < _limit("expected_count")) & _times("rate_count", "unfit_times"),
        pl.format("a sample holds {} events on average: normal limits do not fit, use exact ones", _round("expected")),
        rate=pl.col("rate_count"),
    ),
    Reason(
        "between_subgroups",
        *_inflated("rate_variance", _BETWEEN),
        pl.format("subgroup means vary {} times as much as the parts within explain", _round("variance_ratio")),
        rate=pl.col("rate_variance"),
        suggests=pl.when(_DEPENDENT & (_lag1 >= _limit("residual_lag1"))).then(pl.lit(RESIDUAL_CHART)).otherwise(_WITHIN_KIND),
    ),
    Reason(
        "autocorrelation",
        (_DEPENDENT & _times("rate_autocorrelation", "doubtful_times"))
        | (_DEPENDENT & pl.col("rate_autocorrelation").is_null() & (_lag1 > _limit("plain_lag1")) & ~_PLAIN_COUNT),
        _DEPENDENT & _times("rate_autocorrelation", "unfit_times"),
        pl.format("successive points are correlated (lag 1: {})", _round("autocorrelation_lag1")),
        rate=pl.col("rate_autocorrelation"),
        suggests=pl.when(_OF_VALUES).then(pl.lit(RESIDUAL_CHART)),
    ),
    Reason(
        "stratification",
        _NARROW & (_ratio < _limit("stratified_doubtful")),
        _NARROW & (_ratio < _limit("stratified_unfit")),
        pl.format(
            "subgroup means vary only {} times as much as the parts within: a subgroup seems to mix streams (heads, cavities); "
            "chart each stream on its own",
            _round("variance_ratio"),
        ),
        rate=pl.col("rate_variance"),
    ),
    Reason(
        "alternation",
        _ALTERNATES,
        _NEVER,
        pl.format(
            "successive points alternate (lag 1: {}): two streams in turn, or overadjustment", _round("autocorrelation_lag1")
        ),
        rate=pl.col("rate_autocorrelation"),
    ),
    Reason(
        "resolution",
        _OF_VALUES & ((pl.col("distinct_ranges") < _limit("possible_ranges")) | _times("rate_step", "doubtful_times")),
        _OF_VALUES & _times("rate_step", "unfit_times"),
        pl.format(
            "the gauge's step is {} sigma ({} possible ranges): measure finer",
            _round("resolution_ratio"),
            pl.col("distinct_ranges"),
        ),
        rate=pl.col("rate_step"),
    ),
    Reason(
        "two_peaks",
        _TWO_PEAKS,
        _NEVER,
        pl.lit("the values have two peaks: two streams may be mixed; chart each on its own"),
    ),
    Reason(
        "normality",
        *_inflated("rate_shape", _significant("normality_p")),
        pl.format("the values are not normal (skewness {}, excess kurtosis {})", _round("skewness"), _round("kurtosis_excess")),
        rate=pl.col("rate_shape"),
        suggests=pl.when(~_CHART.is_in(["ewma", "cusum", "moving_average"])).then(pl.lit("ewma")),
    ),
    Reason(
        "range_of_many",
        _CHART.is_in(["xbar_r", "median_r", "i_mr_r"]) & _BIG,
        _NEVER,
        pl.format("the range of {} values wastes most of them", _round("typical", 0)),
        suggests=pl.when(_CHART == "i_mr_r").then(pl.lit("i_mr_s")).otherwise(pl.lit("xbar_s")),
    ),
    Reason(
        "many_masked",
        pl.col("masked_share") > _limit("masked_share"),
        _NEVER,
        pl.format("{} % of the values are masked as outliers", _percent("masked_share")),
    ),
    Reason("small_baseline", _FEW, _NEVER, pl.format("only {} points to judge by", pl.col("n_subgroups"))),
)
"""What can be found, gravest first. The suggestion of the first finding that has one is the chart's."""


def judged(measured: pl.DataFrame, k: float) -> pl.DataFrame:
    """The diagnostics plus verdict, reasons, text, suggested_chart and implied_false_alarm_rate, a row per chart."""
    rated = _with_rates(measured, k)
    flags = rated.select(
        *(reason.unfit.fill_null(value=False).alias(f"{reason.code}:unfit") for reason in REASONS),
        *((reason.unfit | reason.doubtful).fill_null(value=False).alias(f"{reason.code}:found") for reason in REASONS),
    )
    frame = pl.concat([rated, flags], how="horizontal")
    unfit = [pl.col(f"{reason.code}:unfit") for reason in REASONS]
    found = [pl.col(f"{reason.code}:found") for reason in REASONS]
    order = [(reason, is_unfit) for reason, is_unfit in zip(REASONS, unfit, strict=True)]
    order += [(reason, is_found & ~is_unfit) for reason, is_found, is_unfit in zip(REASONS, found, unfit, strict=True)]
    codes = pl.concat_str((pl.when(flag).then(pl.lit(reason.code)) for reason, flag in order), separator=";", ignore_nulls=True)
    words = pl.concat_str((pl.when(flag).then(reason.words) for reason, flag in order), separator="; ", ignore_nulls=True)
    suggested = pl.coalesce(pl.when(flag).then(reason.suggests) for reason, flag in order if reason.suggests is not None)
    rate = pl.max_horizontal(
        pl.when(flag).then(reason.rate) for reason, flag in zip(REASONS, found, strict=True) if reason.rate is not None
    )
    verdict = (
        pl.when(pl.any_horizontal(unfit))
        .then(pl.lit("unfit"))
        .when(pl.any_horizontal(found))
        .then(pl.lit("doubtful"))
        .otherwise(pl.lit("fit"))
    )
    frame = frame.with_columns(
        verdict=verdict,
        reasons=pl.when(pl.any_horizontal(found)).then(codes),
        suggested_chart=suggested,
        implied_false_alarm_rate=pl.coalesce(rate, pl.col("nominal")),
        found=words,
    )
    said = pl.when(pl.any_horizontal(found)).then(pl.format("{}: {}", pl.col("verdict"), pl.col("found")))
    frame = frame.with_columns(text=said.otherwise(pl.lit("fit: nothing found against the chart")))
    return frame.drop("found", *(f"{reason.code}:{which}" for reason in REASONS for which in ("unfit", "found")))


def _with_rates(measured: pl.DataFrame, k: float) -> pl.DataFrame:
    """The rates that follow from the diagnostics; null where the diagnostic is."""

    def through(name: str, rate: Callable[[Floats, float], Floats]) -> pl.Series:
        values = measured[name].cast(pl.Float64)
        return pl.Series(rate(values.fill_null(float("nan")).to_numpy(), k)).fill_nan(None)

    rates = measured.with_columns(
        nominal=pl.lit(float(nominal(k))),
        rate_overdispersion=through("overdispersion", of_variance_ratio),
        by_lag=through("autocorrelation_lag1", of_autocorrelation),
        rate_imputed=pl.Series(
            of_variance_ratio(np.maximum(1.0 - measured["imputed_share"].fill_null(0.0).to_numpy(), 1e-9) ** -2.0, k)
        ),
    )
    several = _OF_VALUES & ~pl.col("moving")
    by_lag = pl.when(pl.col("moving")).then("by_lag").when(several & _BETWEEN).then("rate_variance")
    return rates.with_columns(rate_autocorrelation=by_lag).drop("by_lag")

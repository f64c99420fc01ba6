"""Marks statistically unusual measurements beside their values; nothing is removed or overwritten."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from spc_platform.contracts.prepared import MEASUREMENT_FLAGS
from spc_platform.site.model import Site

MIN_VALUES_FOR_IQR = 5
"""Quartiles of fewer values say nothing about the spread."""
MAD_TO_SIGMA = 1.4826
"""1 / Phi^-1(3/4): MAD times this estimates sigma of a normal distribution."""

_CHART = ["characteristic_id", "equipment_id"]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def measurement_flags(measurement: pl.DataFrame, site: Site) -> pl.DataFrame:
    """Flag unusual values of every chart (characteristic and work unit) by its declared rules: MEASUREMENT_FLAGS.

    ``measurement`` is a frame of the core table, usually one production date.
    IQR (Tukey 1977): outside [Q1 - m*IQR, Q3 + m*IQR] of the chart's values in the frame, quantiles by linear
    interpolation (type 7 of Hyndman and Fan 1996); no fences under five values.
    Hampel (Pearson 2002): |x - median| > m * 1.4826 * MAD over the centred window of ``hampel_window`` values
    in time order; at the ends of the frame over the part of the window that exists, at least half of it. Where MAD
    is 0 there is no score, and no mask.
    """
    declared = site["characteristics"].select(*_CHART, "iqr_multiplier", "hampel_window", "hampel_multiplier")
    rows = (
        measurement.select("source_id", "record_id", *_CHART, "measured_at", "value", "production_date")
        .join(declared, on=_CHART, how="left")
        .sort(*_CHART, "measured_at", "source_id", "record_id")
    )
    fenced = rows.join(_fences(rows), on=_CHART, how="left", maintain_order="left")
    scored = _with_hampel_score(fenced)
    by_iqr = (pl.col("value") < pl.col("iqr_low")) | (pl.col("value") > pl.col("iqr_high"))
    by_hampel = pl.col("hampel_score") > pl.col("hampel_multiplier")
    flagged = scored.with_columns(by_iqr=by_iqr.fill_null(value=False), by_hampel=by_hampel.fill_null(value=False))
    is_masked = pl.col("by_iqr") | pl.col("by_hampel")
    reason = (
        pl.when(pl.col("by_iqr") & pl.col("by_hampel"))
        .then(pl.lit("iqr+hampel"))
        .when("by_iqr")
        .then(pl.lit("iqr"))
        .when("by_hampel")
        .then(pl.lit("hampel"))
        .otherwise(pl.lit("none"))
    )
    return MEASUREMENT_FLAGS.conform(
        flagged.with_columns(mask_reason=reason, is_masked=is_masked, value_cleaned=pl.when(~is_masked).then(pl.col("value")))
    )


def _fences(rows: pl.DataFrame) -> pl.DataFrame:
    """Fences of each chart; null without a multiplier or with too few values."""
    value = pl.col("value")
    quartiles = rows.group_by(_CHART).agg(
        q1=value.quantile(0.25, "linear"),
        q3=value.quantile(0.75, "linear"),
        n=pl.len(),
        multiplier=pl.col("iqr_multiplier").first(),
    )
    reach = pl.when(pl.col("n") >= MIN_VALUES_FOR_IQR).then(pl.col("multiplier") * (pl.col("q3") - pl.col("q1")))
    return quartiles.select(*_CHART, iqr_low=pl.col("q1") - reach, iqr_high=pl.col("q3") + reach)


def _with_hampel_score(rows: pl.DataFrame) -> pl.DataFrame:
    """Add ``hampel_score`` to rows sorted by chart and time. One pass per distinct window length."""
    chart = rows.select(pl.struct(_CHART).rle_id().cast(pl.Int64)).to_series().to_numpy()
    value, window = rows["value"].to_numpy(), rows["hampel_window"].fill_null(0).to_numpy()
    score = np.full(rows.height, np.nan)
    for length in np.unique(window[window > 0]):
        chosen = window == length
        score[chosen] = _hampel_scores(value[chosen], chart[chosen], int(length))
    return rows.with_columns(pl.Series("hampel_score", score, nan_to_null=True))


def _hampel_scores(value: Floats, chart: Integers, length: int) -> Floats:
    half = length // 2
    padded = np.pad(value, half, constant_values=np.nan)
    owner = np.pad(chart, half, constant_values=-1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, length)
    same_chart = np.lib.stride_tricks.sliding_window_view(owner, length) == chart[:, None]
    members = np.where(same_chart, windows, np.nan)
    n = same_chart.sum(axis=1)
    centre = _median(members, n)
    mad = _median(np.abs(members - centre[:, None]), n)
    scored = (n > half) & (mad > 0)
    score: Floats = np.divide(np.abs(value - centre), MAD_TO_SIGMA * mad, out=np.full(len(value), np.nan), where=scored)
    return score


def _median(rows: Floats, n: Integers) -> Floats:
    """Median of the first n smallest values of each row; sorting puts NaN last."""
    ordered = np.sort(rows, axis=1)
    middle = np.stack([(n - 1) // 2, n // 2], axis=1)
    result: Floats = np.take_along_axis(ordered, middle, axis=1).mean(axis=1)
    return result

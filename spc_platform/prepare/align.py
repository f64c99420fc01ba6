"""Puts asynchronous station streams on the grid that the site declares, each value with its flag.

Rows sorted by stream and time and an integer grid key make this cheap; gaps are filled on plain arrays.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from spc_platform.contracts.prepared import FILL_FLAGS, TELEMETRY_ALIGNED
from spc_platform.prepare.clock import check_tolerances, offsets_in_force
from spc_platform.site.model import Site

_OBSERVED, _HELD, _INTERPOLATED, _IMPUTED, _MISSING = range(len(FILL_FLAGS))
_MICROSECOND = timedelta(microseconds=1)

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def align_streams(
    telemetry: pl.DataFrame,
    site: Site,
    states: pl.DataFrame,
    first: datetime,
    last: datetime,
    clocks: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Align every declared stream on its grid over [first, last): TELEMETRY_ALIGNED, one row per stream and cell.

    ``telemetry`` is a frame of the core table; ``states`` has equipment_id, state, start_at, end_at. Cells
    of ``grid_s`` start at ``first``. A cell with observations has their mean, after ``clock_offset_s`` was
    taken off their times; observations that then lie outside the window are not used. A gap is a run of
    empty cells between two observed ones: of fewer than ``hold_below`` cells it holds the value before it,
    a longer one of up to ``interpolate_up_to`` cells is linear between its neighbours (DOMAIN: under 3, up
    to 5). The run after the last observation may be held, the run before the first is never filled
    backwards. What remains is imputed when the stream declares ``state_median`` (median of its observed
    cells in the same state of the unit within the window), else missing. A window in which no declared stream
    was observed gets no cells at all: a closed plant is no row per stream and second.

    ``clocks`` are measured offsets (CLOCK_OFFSET). Raises ContractError for a stream whose tolerance is below what is known
    of its clock (``clock.check_tolerances``).
    """
    if clocks is not None:
        check_tolerances(site["streams"], offsets_in_force(clocks, last))
    first_us, span_us = _epoch_us(first), max((last - first) // _MICROSECOND, 0)
    streams = _grid(site, span_us)
    if streams.is_empty():
        return TELEMETRY_ALIGNED.empty()
    cells = streams["cells"].to_numpy()
    start = np.concatenate([[0], np.cumsum(cells)[:-1]]).astype(np.int64)
    stream_of = np.repeat(np.arange(len(cells)), cells)
    total, n_observed = _sums(telemetry, streams.with_columns(start=start), first_us, span_us, len(stream_of))
    if not n_observed.any():
        return TELEMETRY_ALIGNED.empty()
    value, flags = _fill(total, n_observed, stream_of, start, streams)
    grid_us = first_us + (np.arange(len(stream_of)) - start[stream_of]) * streams["grid_us"].to_numpy()[stream_of]
    frame = pl.DataFrame(
        {
            "stream_id": streams["stream_id"].gather(stream_of),
            "equipment_id": streams["equipment_id"].gather(stream_of),
            "grid_at": pl.Series(grid_us, dtype=pl.Int64).cast(pl.Datetime("us", "UTC")),
            "value": pl.Series(value, nan_to_null=True),
            "flag": flags,
            "n_observed": n_observed,
        }
    )
    frame = _impute(frame, streams, states)
    named = pl.Series(FILL_FLAGS).gather(frame["flag"])
    frame = frame.with_columns(fill_flag=named, production_date=site.production_date(pl.col("grid_at")))
    return TELEMETRY_ALIGNED.conform(frame)


def _epoch_us(at: datetime) -> int:
    return pl.Series([at]).dt.epoch("us").item()  # type: ignore[no-any-return]


def _grid(site: Site, span_us: int) -> pl.DataFrame:
    """Streams in order of their identity, with whole microseconds and the number of cells in the window."""
    grid_us = (pl.col("grid_s") * 1e6).round().cast(pl.Int64)
    return (
        site["streams"]
        .sort("stream_id")
        .with_columns(grid_us=grid_us, offset_us=(pl.col("clock_offset_s") * 1e6).round().cast(pl.Int64))
        .with_columns(cells=(span_us + pl.col("grid_us") - 1) // pl.col("grid_us"))
    )


def _sums(telemetry: pl.DataFrame, streams: pl.DataFrame, first_us: int, span_us: int, size: int) -> tuple[Floats, Integers]:
    """Sum and number of the observations in each cell of the concatenated grids."""
    since = pl.col("observed_at").dt.epoch("us") - pl.col("offset_us") - first_us
    placed = (
        telemetry.select("stream_id", "observed_at", "value")
        .join(streams.select("stream_id", "grid_us", "offset_us", "start"), on="stream_id")
        .with_columns(since=since)
        .filter(pl.col("since").is_between(0, span_us, closed="left"))
        .select("value", "since", cell=pl.col("start") + pl.col("since") // pl.col("grid_us"))
        # The order of a floating-point sum must not depend on the order of the rows.
        .sort("cell", "since", "value")
    )
    cell = placed["cell"].to_numpy()
    total = np.bincount(cell, weights=placed["value"].to_numpy(), minlength=size).astype(np.float64)
    return total, np.bincount(cell, minlength=size).astype(np.int64)


def _fill(
    total: Floats, n_observed: Integers, stream_of: Integers, start: Integers, streams: pl.DataFrame
) -> tuple[Floats, Integers]:
    """Value (NaN where missing) and flag of every cell, after holding and interpolating."""
    index = np.arange(len(total))
    observed = n_observed > 0
    value = np.divide(total, n_observed, out=np.full(len(total), np.nan), where=observed)
    low = start[stream_of]
    high = low + streams["cells"].to_numpy()[stream_of]
    before = np.maximum.accumulate(np.where(observed, index, -1))
    after = np.minimum.accumulate(np.where(observed, index, len(total))[::-1])[::-1]
    has_before, has_after = before >= low, after < high
    gap = np.minimum(after, high) - before - 1
    hold_below = streams["hold_below"].to_numpy()[stream_of]
    interpolate_up_to = streams["interpolate_up_to"].to_numpy()[stream_of]
    held = ~observed & has_before & (gap < hold_below)
    between = ~observed & has_before & has_after & ~held & (gap <= interpolate_up_to)
    left, right, at = before[between], after[between], index[between]
    share = (at - left) / (right - left)
    filled = value.copy()
    filled[held] = value[before[held]]
    filled[between] = value[left] + (value[right] - value[left]) * share
    flags = np.select([observed, held, between], [_OBSERVED, _HELD, _INTERPOLATED], _MISSING)
    return filled, flags


def _impute(frame: pl.DataFrame, streams: pl.DataFrame, states: pl.DataFrame) -> pl.DataFrame:
    """Fill missing cells of streams that declare it with the stream's median in the unit's state."""
    declared = streams.filter(pl.col("imputation") == "state_median")["stream_id"]
    if declared.is_empty() or states.is_empty():
        return frame
    spans = states.select("equipment_id", "state", "start_at", "end_at").unique().sort("start_at", "end_at", "state")
    cells = (
        frame.with_row_index("row")
        .filter(pl.col("stream_id").is_in(declared.implode()))
        .select("row", "stream_id", "equipment_id", "grid_at", "value", "flag")
        .sort("grid_at")
        .join_asof(spans, left_on="grid_at", right_on="start_at", by="equipment_id", check_sortedness=False)
        .filter(pl.col("end_at").is_null() | (pl.col("grid_at") < pl.col("end_at")))
        .drop_nulls("state")
    )
    typical = cells.filter(pl.col("flag") == _OBSERVED).group_by("stream_id", "state").agg(median=pl.col("value").median())
    imputed = cells.filter(pl.col("flag") == _MISSING).join(typical, on=["stream_id", "state"]).select("row", "median")
    joined = frame.with_row_index("row").join(imputed, on="row", how="left", maintain_order="left").drop("row")
    is_imputed = pl.col("median").is_not_null()
    return joined.with_columns(
        value=pl.coalesce("value", "median"), flag=pl.when(is_imputed).then(_IMPUTED).otherwise(pl.col("flag"))
    ).drop("median")

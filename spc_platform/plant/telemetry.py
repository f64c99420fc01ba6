"""Signals of the stations: a level for each state, noise, and gaps of stated length.

A signal has one observation in every cell of its grid while its line works; a gap leaves whole cells out.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from spc_platform.plant.energy import energy_readings
from spc_platform.plant.process import STREAMS, Stream
from spc_platform.plant.schedule import DaySchedule, Ints, generator
from spc_platform.plant.text import US, iso, paged, start_us

GAPS = (("short", 1, 2), ("short", 1, 2), ("middle", 3, 5), ("long", 8, 40))
"""Kinds of gaps that every signal has on every date, with their least and greatest number of cells."""
_OUTAGE_S = 900
_OUTAGE_DELAY_S = 7200

TELEMETRY_GAPS_SCHEMA = {
    "stream_id": pl.String,
    "kind": pl.String,
    "gap_from": pl.Datetime("us", "UTC"),
    "gap_to": pl.Datetime("us", "UTC"),
    "cells": pl.Int64,
    "production_date": pl.Date,
}


def telemetry_records(seed: int, schedule: DaySchedule) -> tuple[pl.DataFrame, dict[str, pl.DataFrame]]:
    """Telemetry of a date and the truth of its gaps (in reference time, whole cells)."""
    values: list[pl.DataFrame] = []
    gaps: list[pl.DataFrame] = []
    for number, stream in enumerate(STREAMS):
        frame, truth = _stream(seed, schedule, number, stream)
        values.append(frame)
        gaps.append(truth)
    readings, energy = energy_readings(seed, schedule)
    whole = pl.concat([*values, readings])
    records = paged(whole, "id", pl.lit(1).alias("rev"), "signal", iso("_at").alias("at"), "value", "unit")
    return records, {"telemetry_gaps": pl.concat(gaps), **energy}


def _stream(seed: int, schedule: DaySchedule, number: int, stream: Stream) -> tuple[pl.DataFrame, pl.DataFrame]:
    rng = generator(seed, schedule.production_date, 6, number)
    day = schedule.stations[stream.station]
    grid, base = stream.grid_s, start_us(schedule)
    first = np.arange(0, schedule.seconds, grid, dtype=np.int64)
    first = first[schedule.lines[day.station.line].shift[first] >= 0]
    jitter_us = (rng.uniform(0.2, 0.8, first.size) * grid * 1000).astype(np.int64) * 1000
    noise = rng.normal(0.0, stream.noise, first.size)
    kept, gaps = _gaps(rng, first, grid)
    at_us = first * US + jitter_us
    state = day.state[first]
    level = np.array([*stream.levels, stream.levels[1]])[state]
    stamped = base + at_us + int(stream.clock_offset_s * US)
    delay = np.full(first.size, 2 * US, dtype=np.int64)
    outage = rng.integers(0, schedule.seconds // 2)
    delayed = (first >= outage) & (first < outage + _OUTAGE_S) & (number % 4 == 1)
    delay[delayed] += _OUTAGE_DELAY_S * US
    frame = pl.DataFrame(
        {"_cell": first // grid, "_at": stamped, "_us": base + at_us + delay, "value": np.round(level + noise, 3)}
    )
    frame = frame.filter(kept).select(
        pl.concat_str(
            pl.lit(f"T{schedule.production_date:%y%m%d}-{number}"), pl.col("_cell").cast(pl.String).str.zfill(5)
        ).alias("id"),
        pl.lit(stream.signal).alias("signal"),
        "_at",
        "_us",
        "value",
        pl.lit(stream.unit).alias("unit"),
    )
    return frame, _gap_truth(gaps, stream, schedule)


def _gaps(rng: np.random.Generator, first: Ints, grid: int) -> tuple[np.ndarray, list[tuple[str, int, int]]]:
    """Which cells are kept, and (kind, first second, cells) of each gap; gaps lie apart, in unbroken stretches."""
    kept = np.ones(first.size, dtype=np.bool_)
    gaps: list[tuple[str, int, int]] = []
    if not first.size:
        return kept, gaps
    part = first.size // len(GAPS)
    for number, (kind, least, most) in enumerate(GAPS):
        cells = int(rng.integers(least, most + 1))
        begin = number * part + int(rng.integers(10, part - most - 10))
        if first[begin + cells] - first[begin - 1] == (cells + 1) * grid:
            kept[begin : begin + cells] = False
            gaps.append((kind, int(first[begin]), cells))
    return kept, gaps


def _gap_truth(gaps: list[tuple[str, int, int]], stream: Stream, schedule: DaySchedule) -> pl.DataFrame:
    base = start_us(schedule)
    rows = [
        (stream.signal, kind, base + first * US, base + (first + cells * stream.grid_s) * US, cells, schedule.production_date)
        for kind, first, cells in gaps
    ]
    frame = pl.DataFrame(rows, schema=["stream_id", "kind", "gap_from", "gap_to", "cells", "production_date"], orient="row")
    instants = [
        pl.col(name).cast(pl.Int64).cast(pl.Datetime("us")).dt.replace_time_zone("UTC") for name in ("gap_from", "gap_to")
    ]
    return frame.with_columns(instants).cast(TELEMETRY_GAPS_SCHEMA)  # type: ignore[arg-type]

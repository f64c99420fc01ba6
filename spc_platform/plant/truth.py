"""Exact OEE elements of a production date, counted second by second from the plant's own schedule."""

from __future__ import annotations

import numpy as np
import polars as pl

from spc_platform.plant.process import IDLE, MICRO_STOP_S, PRI_S, RUN, SETUP, SHIFTS, SPECIAL_CAUSES, STOP
from spc_platform.plant.records import station_counts
from spc_platform.plant.schedule import DaySchedule, Ints, StationDay

OEE_SCHEMA = {
    "equipment_id": pl.String,
    "work_center_id": pl.String,
    "production_date": pl.Date,
    "shift_id": pl.String,
    "material_definition_id": pl.String,
    **dict.fromkeys(("pot_s", "pdt_s", "apt_s", "aust_s", "adet_s", "minor_stop_s", "adot_s", "unknown_s"), pl.Int64),
    "pri_s": pl.Float64,
    **dict.fromkeys(("pq", "gq", "sq", "rq"), pl.Int64),
}
_KEY = ["equipment_id", "work_center_id", "production_date", "shift_id", "material_definition_id"]


def oee_elements(seed: int, schedule: DaySchedule) -> pl.DataFrame:
    """Seconds and counts per station, shift and product; product is null for time without an order."""
    frames = [_station(seed, schedule, number, day) for number, day in enumerate(schedule.stations.values())]
    return pl.concat(frames)


def _station(seed: int, schedule: DaySchedule, number: int, day: StationDay) -> pl.DataFrame:
    line = schedule.lines[day.station.line]
    places = len(line.orders) + 1
    place = line.shift * places + line.order + 1
    state, worked = day.state, line.shift >= 0
    busy = worked & ~day.planned
    minor = busy & (state == STOP) & _whole_length_below(day, MICRO_STOP_S)

    def seconds(which: np.ndarray) -> Ints:
        return np.bincount(place[which], minlength=len(SHIFTS) * places).astype(np.int64)

    elements = {
        "pot_s": worked,
        "pdt_s": worked & day.planned,
        "apt_s": busy & (state == RUN),
        "aust_s": busy & (state == SETUP),
        "adet_s": busy & (state == STOP),
        "minor_stop_s": minor,
        "adot_s": busy & (state == IDLE),
        "unknown_s": busy & (state < 0),
    }
    products = [None, *(order.product for order in line.orders)]
    pri = [None, *(float(PRI_S[order.product, day.station.station]) for order in line.orders)]
    frame = pl.DataFrame({name: seconds(which) for name, which in elements.items()}).with_columns(
        equipment_id=pl.lit(day.station.station),
        work_center_id=pl.lit(day.station.line),
        production_date=pl.lit(schedule.production_date),
        shift_id=pl.Series(np.repeat(np.array(SHIFTS), places)),
        material_definition_id=pl.Series(products * len(SHIFTS), dtype=pl.String),
        pri_s=pl.Series(pri * len(SHIFTS), dtype=pl.Float64),
    )
    made = _made(seed, schedule, number, day, products)
    counted = frame.filter(pl.col("pot_s") > 0).join(made, on=["shift_id", "material_definition_id"], how="left")
    return counted.with_columns(pl.col("pq", "gq", "sq", "rq").fill_null(0)).select(
        pl.col(name).cast(dtype) for name, dtype in OEE_SCHEMA.items()
    )


def _whole_length_below(day: StationDay, limit_s: int) -> np.ndarray:
    """Mark each second whose event lasts, over its whole length, less than ``limit_s``."""
    short = np.zeros(day.event.size, dtype=np.bool_)
    for first, last in zip(day.starts.tolist(), day.ends.tolist(), strict=True):
        if last - first < limit_s:
            short[max(first, 0) : last] = True
    return short


def _made(seed: int, schedule: DaySchedule, number: int, day: StationDay, products: list[str | None]) -> pl.DataFrame:
    counts = station_counts(seed, schedule, number, day)
    return (
        counts.group_by("shift", "order")
        .agg(gq=pl.col("good").sum(), sq=pl.col("scrap").sum(), rq=pl.col("rework").sum())
        .with_columns(
            shift_id=pl.lit(pl.Series(list(SHIFTS))).gather(pl.col("shift")),
            material_definition_id=pl.lit(pl.Series(products, dtype=pl.String)).gather(pl.col("order") + 1),
            pq=pl.sum_horizontal("gq", "sq", "rq"),
        )
        .select("shift_id", "material_definition_id", "pq", "gq", "sq", "rq")
    )


def special_causes(measurements: pl.DataFrame) -> pl.DataFrame:
    """List the stated causes that hit at least one measurement, with the number of measurements each."""
    causes = pl.DataFrame(
        [
            (each.cause, each.characteristic, each.characteristic.split(".")[0], each.kind, each.size, each.start, each.end)
            for each in SPECIAL_CAUSES
        ],
        schema=["cause_id", "characteristic_id", "equipment_id", "kind", "size_sigma", "start_at", "end_at"],
        orient="row",
    ).with_columns(pl.col("start_at", "end_at").dt.convert_time_zone("UTC").dt.cast_time_unit("us"))
    hit = measurements.group_by("cause_id").agg(
        n_measurements=pl.len().cast(pl.Int64), production_date=pl.col("production_date").min()
    )
    return causes.join(hit, on="cause_id").sort("cause_id")

"""The MES records of a production date, as the plant's systems would send them, and what is true about them.

Records are frames sorted by (``_us``, ``id``), where ``_us`` is ``updated_at`` in microseconds since 1970;
every other column is a field of the record, times already as text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from spc_platform.plant.events import EVENT_MAKERS
from spc_platform.plant.measuring import measurement_records
from spc_platform.plant.process import PRI_S, SCRAP_REASONS, SHIFTS, STATES
from spc_platform.plant.schedule import BIN_S, DaySchedule, StationDay, generator
from spc_platform.plant.telemetry import telemetry_records
from spc_platform.plant.text import US, iso, paged, start_us

RESOURCES = ("measurements", "telemetry", "equipment-states", "production-counts", "work-orders", *EVENT_MAKERS)
SHORT_STATE_S = 120
"""A state that lasted less is sent once, closed; a longer one is sent open and closed by its second revision."""
_LATE_COUNTS = 6


@dataclass(frozen=True, slots=True)
class DayRecords:
    """Records of one resource on one production date, and their truth by name."""

    frame: pl.DataFrame
    truth: dict[str, pl.DataFrame]


def day_records(resource: str, seed: int, schedule: DaySchedule) -> DayRecords:
    """Make the records of a resource; depends on the seed and the date of the schedule only."""
    frame, truth = _MAKERS[resource](seed, schedule)
    return DayRecords(frame, truth)


def _state_records(seed: int, schedule: DaySchedule) -> tuple[pl.DataFrame, dict[str, pl.DataFrame]]:
    frames = [_station_states(number, day, schedule) for number, day in enumerate(schedule.stations.values())]
    closed = pl.concat(frames)
    short = closed["_end"] - closed["_start"] < SHORT_STATE_S * US
    first = pl.concat(
        [
            closed.filter(short).with_columns(rev=pl.lit(1), _us=pl.col("_end") + 3 * US),
            closed.filter(~short).with_columns(rev=pl.lit(1), _us=pl.col("_start") + 2 * US, _end=pl.lit(None, dtype=pl.Int64)),
        ]
    )
    second = closed.filter(~short).with_columns(rev=pl.lit(2), _us=pl.col("_end") + 3 * US)
    both = pl.concat([first, second]).with_columns(deleted=pl.lit(value=False))
    return (
        paged(
            both,
            "id",
            "rev",
            "station",
            "state",
            "reason",
            iso("_start").alias("start"),
            iso("_end").alias("end"),
            "deleted",
        ),
        {},
    )


def _station_states(number: int, day: StationDay, schedule: DaySchedule) -> pl.DataFrame:
    own = day.starts >= 0
    event, base = day.run_event[own], start_us(schedule)
    return pl.DataFrame(
        {
            "id": pl.Series(
                [f"S{schedule.production_date:%y%m%d}-{number}{index:04d}" for index in range(event.size)], dtype=pl.String
            ),
            "station": pl.Series([day.station.station] * event.size, dtype=pl.String),
            "state": pl.Series(np.array(STATES)[day.states[event]].tolist(), dtype=pl.String),
            "reason": pl.Series([day.reasons[index] for index in event.tolist()], dtype=pl.String),
            "_start": base + day.starts[own] * US,
            "_end": base + day.ends[own] * US,
        }
    )


def station_counts(seed: int, schedule: DaySchedule, number: int, day: StationDay) -> pl.DataFrame:
    """Parts finished per five minutes of running: bin, order, shift, good, scrap, rework; whole parts only.

    A station finishes floor(running seconds / true cycle) parts in a shift of an order, so the ideal
    cycle time times the parts never exceeds the running time.
    """
    line = schedule.lines[day.station.line]
    if not line.orders:
        return pl.DataFrame(schema=dict.fromkeys(("bin", "order", "shift", "good", "scrap", "rework"), pl.Int64))
    rng = generator(seed, schedule.production_date, 3, number)
    bins = np.arange(schedule.seconds // BIN_S)
    running = np.add.reduceat(day.state == 0, bins * BIN_S).astype(np.int64)
    order, shift = line.order[bins * BIN_S], line.shift[bins * BIN_S]
    stretch = order * len(SHIFTS) + shift
    slowness = 1.0 / (day.station.run_rate * (1.0 - 0.04 * rng.random(len(SHIFTS) * len(line.orders))))
    pri = np.array([PRI_S[each.product, day.station.station] for each in line.orders], dtype=np.float64)
    frame = pl.DataFrame({"bin": bins, "order": order, "shift": shift, "running": running, "stretch": stretch}).filter(
        (pl.col("order") >= 0) & (pl.col("shift") >= 0)
    )
    cycle = pri[frame["order"].to_numpy()] * slowness[frame["stretch"].to_numpy()]
    finished = (pl.col("running").cum_sum() / pl.col("cycle")).floor().cast(pl.Int64)
    made = frame.with_columns(cycle=cycle).with_columns(
        made=finished.diff(null_behavior="ignore").fill_null(finished).over("stretch")
    )
    parts = made["made"].to_numpy()
    scrap = rng.binomial(parts, 0.012)
    rework = rng.binomial(parts - scrap, 0.010)
    return made.select("bin", "order", "shift", good=parts - scrap - rework, scrap=scrap, rework=rework).filter(parts > 0)


def _count_records(seed: int, schedule: DaySchedule) -> tuple[pl.DataFrame, dict[str, pl.DataFrame]]:
    frames = [
        _station_count_records(seed, schedule, number, day)
        for number, day in enumerate(schedule.stations.values())
        if schedule.lines[day.station.line].orders
    ]
    counts = pl.concat(frames)
    rng = generator(seed, schedule.production_date, 4)
    late = np.zeros(counts.height, dtype=np.int64)
    late[rng.permutation(counts.height)[:_LATE_COUNTS]] = rng.integers(3600, 6 * 3600, _LATE_COUNTS)
    counts = counts.with_columns(_us=pl.col("_at") + (4 + pl.Series(late)) * US)
    fields = (
        "id",
        "rev",
        "station",
        "order",
        "product",
        iso("_at").alias("counted_at"),
        "good",
        "scrap",
        "rework",
        "reason",
        "deleted",
    )
    return paged(counts, *fields), {}


def _station_count_records(seed: int, schedule: DaySchedule, number: int, day: StationDay) -> pl.DataFrame:
    line = schedule.lines[day.station.line]
    counts = station_counts(seed, schedule, number, day)
    reasons = generator(seed, schedule.production_date, 5, number).integers(0, len(SCRAP_REASONS), counts.height)
    order = counts["order"].to_numpy()
    return counts.select(
        id=pl.concat_str(pl.lit(f"C{schedule.production_date:%y%m%d}-{number}"), pl.col("bin").cast(pl.String).str.zfill(4)),
        rev=pl.lit(1),
        station=pl.lit(day.station.station),
        order=pl.Series(np.array([each.order for each in line.orders])[order]),
        product=pl.Series(np.array([each.product for each in line.orders])[order]),
        _at=start_us(schedule) + ((pl.col("bin") + 1) * BIN_S - 1) * US,
        good="good",
        scrap="scrap",
        rework="rework",
        reason=pl.when(pl.col("scrap") + pl.col("rework") > 0).then(pl.Series(np.array(SCRAP_REASONS)[reasons])),
        deleted=pl.lit(value=False),
    )


def _order_records(seed: int, schedule: DaySchedule) -> tuple[pl.DataFrame, dict[str, pl.DataFrame]]:
    base = start_us(schedule)
    rows = [
        (order.order, line.line.line, order.product, order.planned, base + order.start * US, base + order.end * US)
        for line in schedule.lines.values()
        for order in line.orders
    ]
    orders = pl.DataFrame(rows, schema=["id", "line", "product", "planned", "_start", "_end"], orient="row")
    opened = orders.with_columns(rev=pl.lit(1), _us=pl.col("_start") + US, _end=pl.lit(None, dtype=pl.Int64))
    closed = orders.with_columns(rev=pl.lit(2), _us=pl.col("_end") + 5 * US)
    both = pl.concat([opened, closed]).with_columns(deleted=pl.lit(value=False))
    return (
        paged(
            both, "id", "rev", "line", "product", "planned", iso("_start").alias("start"), iso("_end").alias("end"), "deleted"
        ),
        {},
    )


_MAKERS: dict[str, Callable[[int, DaySchedule], tuple[pl.DataFrame, dict[str, pl.DataFrame]]]] = {
    "measurements": measurement_records,
    "telemetry": telemetry_records,
    "equipment-states": _state_records,
    "production-counts": _count_records,
    "work-orders": _order_records,
    **EVENT_MAKERS,
}

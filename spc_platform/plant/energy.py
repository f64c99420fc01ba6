"""Electricity meters of the stations: cumulative readings, and how much each state truly took.

Energy is counted in watt seconds, so the truth is exact; a reading shows kWh with three decimals.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl

from spc_platform.plant.process import FIRST_DATE, METER_GRID_S, METER_ROLLOVER_KWH, METERS, STATES, STOP, Meter
from spc_platform.plant.schedule import DaySchedule, Ints, day_schedule, generator
from spc_platform.plant.text import US, start_us

WS_PER_KWH = 3_600_000
_STREAM = 50
_LOST_SHARE = 0.01
UNKNOWN, OFF = len(STATES), len(STATES) + 1
"""What comes after the states: nothing is recorded; the line does not work."""

ENERGY_SCHEMA: dict[str, Any] = {
    "equipment_id": pl.String,
    "state": pl.String,
    "production_date": pl.Date,
    "seconds": pl.Int64,
    "kwh": pl.Float64,
    "until": pl.Datetime("us", "UTC"),
}

LOST_SCHEMA: dict[str, Any] = {"stream_id": pl.String, "grid_at": pl.Datetime("us", "UTC"), "production_date": pl.Date}
"""Readings that never came, by the cell whose end they would have told."""

_USED: dict[tuple[int, date], tuple[tuple[int, int | None], ...]] = {}
"""Per seed and date what each meter counted, and what of it after its exchange where it was exchanged on that date."""


def energy_readings(seed: int, schedule: DaySchedule) -> tuple[pl.DataFrame, dict[str, pl.DataFrame]]:
    """Readings of all meters on a date, and the truth per station and state and of lost readings.

    A meter is read as each shift's work begins and, but for a few lost readings, as each grid cell ends.
    """
    drawn = [_drawn(schedule, meter) for meter in METERS]
    _USED[seed, schedule.production_date] = _used(schedule, drawn)
    before = _before(seed, schedule.production_date)
    readings = [_readings(seed, schedule, number, drawn[number], before[number]) for number in range(len(METERS))]
    truth = [_truth(schedule, meter, drawn[number]) for number, meter in enumerate(METERS)]
    lost = pl.concat([each for _, each in readings])
    return pl.concat([each for each, _ in readings]), {"energy_kwh": pl.concat(truth), "lost_readings": lost}


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Stretches of one power over a date: first second, seconds, state (``OFF`` outside shifts), watts, watt seconds before."""

    start: Ints
    seconds: Ints
    state: Ints
    watts: Ints
    before: Ints

    def until(self, second: Ints | int) -> Ints:
        """Watt seconds from the start of the date to a second of it."""
        at = np.searchsorted(self.start, second, side="right") - 1
        return np.asarray(self.before[at] + (second - self.start[at]) * self.watts[at], dtype=np.int64)

    def total(self) -> int:
        return int((self.seconds * self.watts).sum())


def _drawn(schedule: DaySchedule, meter: Meter) -> _Drawn:
    day = schedule.stations[meter.station]
    event, shift = day.event, schedule.lines[day.station.line].shift
    changes = np.flatnonzero((event[1:] != event[:-1]) | (shift[1:] != shift[:-1])) + 1
    start = np.concatenate(([0], changes))
    seconds = np.diff(np.append(start, event.size))
    state = np.where(event[start] >= 0, day.states[event[start]], UNKNOWN)
    state = np.where(shift[start] >= 0, state, OFF)
    watts = np.array([*meter.power_w, meter.power_w[STOP], 0], dtype=np.int64)[state]
    energy = seconds * watts
    return _Drawn(start, seconds, state, watts, np.cumsum(energy) - energy)


def _used(schedule: DaySchedule, drawn: list[_Drawn]) -> tuple[tuple[int, int | None], ...]:
    return tuple(
        (each.total(), None if (at := _exchanged(schedule, meter)) is None else each.total() - int(each.until(at)))
        for meter, each in zip(METERS, drawn, strict=True)
    )


def _exchanged(schedule: DaySchedule, meter: Meter) -> int | None:
    """Second of the date at which the meter is exchanged, if it is on this date."""
    at = -1 if meter.reset is None else int((meter.reset - schedule.start).total_seconds())
    return at if 0 <= at < schedule.seconds else None


def _before(seed: int, production_date: date) -> list[int]:
    """What each meter has counted since it was new or exchanged, in watt seconds, as the date begins."""
    counted = [meter.first_kwh * WS_PER_KWH for meter in METERS]
    for number in range((production_date - FIRST_DATE).days):
        key = (seed, FIRST_DATE + timedelta(days=number))
        if key not in _USED:
            earlier = day_schedule(*key)
            _USED[key] = _used(earlier, [_drawn(earlier, meter) for meter in METERS])
        for place, (used, anew) in enumerate(_USED[key]):
            counted[place] = counted[place] + used if anew is None else anew
    return counted


def _readings(seed: int, schedule: DaySchedule, number: int, drawn: _Drawn, before: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    rng, meter = generator(seed, schedule.production_date, _STREAM, number), METERS[number]
    worked = schedule.lines[schedule.stations[meter.station].station.line].shift >= 0
    cells = np.arange(0, schedule.seconds, METER_GRID_S, dtype=np.int64)
    cells = cells[worked[cells]]
    exchanged = _exchanged(schedule, meter)
    begins = np.flatnonzero(np.diff(worked.astype(np.int8), prepend=0) == 1)
    # The hour's last reading is never lost, nor the old meter's last: so nothing is lost between shifts or meters.
    may_fail = (np.arange(cells.size) % 12 != 11) & ~np.isin(cells, begins) & (cells + METER_GRID_S != (exchanged or -1))
    fails = may_fail & (rng.random(cells.size) < _LOST_SHARE)
    kept = cells[~fails]
    lost = [
        (meter.signal, schedule.start + timedelta(seconds=each), schedule.production_date) for each in cells[fails].tolist()
    ]
    second = np.concatenate((begins, kept + METER_GRID_S))
    passed = drawn.until(second)
    counted = before + passed
    if exchanged is not None:
        counted = np.where(second > exchanged, passed - drawn.until(exchanged), counted)
    # A closing reading is a millisecond before the end of its cell, so that it bears the cell's date.
    early_us = np.where(np.arange(second.size) < begins.size, 0, 1000)
    named = [*(f"{each:05d}a" for each in begins.tolist()), *(f"{each:05d}z" for each in kept.tolist())]
    names = pl.Series(named, dtype=pl.String)
    frame = pl.DataFrame({"_name": names, "_at": start_us(schedule) + second * US - early_us}).select(
        pl.concat_str(pl.lit(f"E{schedule.production_date:%y%m%d}-{number}-"), "_name").alias("id"),
        pl.lit(meter.signal).alias("signal"),
        "_at",
        (pl.col("_at") + 2 * US).alias("_us"),
        pl.Series("value", np.round(counted % (METER_ROLLOVER_KWH * WS_PER_KWH) / WS_PER_KWH, 3)),
        pl.lit("kW.h").alias("unit"),
    )
    return frame, pl.DataFrame(lost, schema=LOST_SCHEMA, orient="row")


def _truth(schedule: DaySchedule, meter: Meter, drawn: _Drawn) -> pl.DataFrame:
    seconds = np.bincount(drawn.state, weights=drawn.seconds, minlength=OFF + 1)[:OFF].astype(np.int64)
    energy = np.bincount(drawn.state, weights=drawn.seconds * drawn.watts, minlength=OFF + 1)[:OFF] / WS_PER_KWH
    until = schedule.start + timedelta(seconds=schedule.seconds)
    rows = [
        (meter.station, state, schedule.production_date, spent, kwh, until)
        for state, spent, kwh in zip((*STATES, "UNKNOWN"), seconds.tolist(), energy.tolist(), strict=True)
        if spent
    ]
    return pl.DataFrame(rows, schema=ENERGY_SCHEMA, orient="row")

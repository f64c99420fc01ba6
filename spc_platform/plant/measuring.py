"""Measurements of parts: normal around the true mean, disturbed by the stated special causes, with stated defects.

Every ``sample_every_s`` seconds a part enters its line; each station that runs when the part reaches it
measures its characteristics. Outliers of sensors, bad records, corrections and late records hit parts drawn
from the seed, never the same record twice and never one that a special cause moves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from spc_platform.plant.process import CHARACTERISTICS, DEFAULT_NOW, FIRST_DATE, RUN, SPECIAL_CAUSES, Characteristic
from spc_platform.plant.schedule import DaySchedule, Ints, day_bounds, generator
from spc_platform.plant.text import US, iso, paged, start_us

Floats = npt.NDArray[np.float64]

NAN_TOKEN = -987654321.125
"""Stands for a value that is not a number until the record is written as JSON: null, or a bare NaN."""
BAD_RECORDS: dict[str, tuple[int, str, str]] = {
    "nan": (2, "rejected", "value:MISSING"),
    "missing_unit": (1, "rejected", "unit:MISSING"),
    "wrong_unit": (1, "rejected", "unit:NOT_CONVERTIBLE"),
    "registered_unit": (2, "converted", ""),
    "no_zone": (1, "rejected", "measured_at:TIMESTAMP_WITHOUT_ZONE"),
    "unknown_characteristic": (1, "rejected", "characteristic_id:UNKNOWN"),
    "impossible": (2, "rejected", "value:OUT_OF_SENSOR_RANGE"),
}
"""Bad records that each date holds: how many, what becomes of them, and why."""
NOT_A_NUMBER_REASON = "value:NOT_FINITE"
"""Why a record is refused whose value is written as a bare NaN instead of null."""
CORRECTIONS = {"changed": 3, "moved": 1, "deleted": 1}
SENSOR_OUTLIERS = 3
LATE_RECORDS = 40
FIRST_MOVED = date(2026, 3, 25)
OTHER_UNITS = {"kPa": ("bar", 0.01), "mm": ("um", 1000.0), "N": ("kN", 0.001)}
"""Units in which a careless gateway sends: factor from the characteristic's unit."""
_STEP_US = 2 * US
_FIELDS = ("characteristic", "station", iso("_at").alias("measured_at"), "value", "unit", "serial", "lot", "order", "sample")


def measurement_records(seed: int, schedule: DaySchedule) -> tuple[pl.DataFrame, dict[str, pl.DataFrame]]:
    """Measurements of a date, revisions included, and their truth."""
    good = _measured(seed, schedule)
    rng = generator(seed, schedule.production_date, 8)
    roles = _roles(rng, good, schedule.production_date)
    good = good.with_columns(role=pl.Series(roles))
    with_defects = _late(rng, _bad(_outliers(rng, good)), schedule)
    first, second, corrections = _corrected(rng, with_defects, schedule)
    records = paged(pl.concat([first, second]), "id", "rev", *_measured_fields(), "deleted")
    return records, {
        "special_cause_measurements": _cause_truth(good, schedule),
        "sensor_outliers": _outlier_truth(with_defects, schedule),
        "bad_records": _bad_truth(with_defects, schedule),
        "corrections": corrections,
        "late_records": _late_truth(with_defects, schedule),
    }


def _measured_fields() -> Iterator[str | pl.Expr]:
    without_zone = iso("_at", "%Y-%m-%dT%H:%M:%S%.3f")
    measured_at = pl.when(pl.col("role") == "no_zone").then(without_zone).otherwise(iso("_at")).alias("measured_at")
    yield from (measured_at if isinstance(name, pl.Expr) else name for name in _FIELDS)


@dataclass(frozen=True, slots=True)
class _Parts:
    """Parts that enter a line, one sampled per tact: second of entry, serial, lot and order."""

    second: Ints
    frame: pl.DataFrame


def _parts(schedule: DaySchedule, line: str) -> _Parts:
    day = schedule.lines[line]
    every = day.line.sample_every_s
    second = np.arange(0, schedule.seconds, every, dtype=np.int64)
    second = second[day.order[second] >= 0]
    order = day.order[second]
    since = second - np.array([each.start for each in day.orders], dtype=np.int64)[order] if second.size else second
    stem = f"{day.line.letter}{schedule.production_date:%y%m%d}"
    frame = pl.DataFrame({"_second": second, "_order": order, "_lot": since // 7200}).select(
        serial=pl.concat_str(pl.lit(f"{stem}-"), (pl.col("_second") // 40).cast(pl.String).str.zfill(4)),
        lot=pl.concat_str(pl.lit(f"L{stem}-"), pl.col("_order") + 1, pl.lit("-"), pl.col("_lot") + 1),
        order=pl.Series(np.array([each.order for each in day.orders], dtype=object)[order].tolist(), dtype=pl.String),
    )
    return _Parts(second, frame)


def _measured(seed: int, schedule: DaySchedule) -> pl.DataFrame:
    """Draw the true measurements of the date in time order, before any defect of recording."""
    parts = {line: _parts(schedule, line) for line in schedule.lines}
    frames = [
        _characteristic(seed, schedule, number, what, parts[schedule.stations[what.station].station.line])
        for number, what in enumerate(CHARACTERISTICS)
    ]
    stem = f"M{schedule.production_date:%y%m%d}-"
    return (
        pl.concat(frames)
        .sort("_at", "characteristic")
        .with_row_index("_row")
        .with_columns(
            id=pl.concat_str(pl.lit(stem), pl.col("_row").cast(pl.String).str.zfill(5)),
            rev=pl.lit(1),
            deleted=pl.lit(value=False),
            _us=pl.col("_at") + 5 * US,
        )
        .drop("_row")
    )


def _characteristic(seed: int, schedule: DaySchedule, number: int, what: Characteristic, parts: _Parts) -> pl.DataFrame:
    rng = generator(seed, schedule.production_date, 7, number)
    day = schedule.stations[what.station]
    noise, jitter_ms = rng.standard_normal(parts.second.size), rng.integers(0, 900, parts.second.size)
    second = parts.second + day.station.lag_s + 3 * (number % 3)
    inside = second < schedule.seconds
    inside[inside] = day.state[second[inside]] == RUN
    second, noise, jitter_ms = second[inside], noise[inside], jitter_ms[inside]
    at_us = start_us(schedule) + second * US + jitter_ms * 1000
    deviation, cause = _disturbed(what, at_us, noise)
    frame = parts.frame.filter(inside)
    sample = pl.lit(None, dtype=pl.String)
    if what.sample_size:
        every = schedule.lines[day.station.line].line.sample_every_s
        keys = pl.Series(parts.second[inside] // (every * what.sample_size)).cast(pl.String).str.zfill(3)
        sample = pl.concat_str(pl.lit(f"{what.characteristic}/{schedule.production_date:%y%m%d}-"), keys)
    return frame.with_columns(
        characteristic=pl.lit(what.characteristic),
        station=pl.lit(what.station),
        unit=pl.lit(what.unit),
        sample=sample,
        _at=at_us,
        value=_to_resolution(what.mean + what.sigma * deviation, what.resolution),
        cause=pl.Series(cause, dtype=pl.String),
        _number=pl.lit(number, dtype=pl.Int64),
    )


def _to_resolution(values: Floats, resolution: float) -> Floats:
    return np.round(np.round(values / resolution) * resolution, 6)


def _disturbed(what: Characteristic, at_us: Ints, noise: Floats) -> tuple[Floats, list[str | None]]:
    """Deviation from the true mean in sigmas, and the special cause of each value."""
    deviation = noise.copy()
    cause = np.full(at_us.size, None, dtype=object)
    for each in SPECIAL_CAUSES:
        start, end = int(each.start.timestamp()) * US, int(each.end.timestamp()) * US
        hit = (at_us >= start) & (at_us < end)
        if each.characteristic != what.characteristic or not hit.any():
            continue
        if each.kind == "spike":
            hit &= np.cumsum(hit) == 1
        if each.kind == "variance":
            deviation[hit] *= each.size
        elif each.kind == "drift":
            deviation[hit] += each.size * (at_us[hit] - start) / (end - start)
        else:
            deviation[hit] += each.size
        cause[hit] = each.cause
    return deviation, cause.tolist()


def _roles(rng: np.random.Generator, good: pl.DataFrame, production_date: date) -> list[str | None]:
    """Which record has which defect: at most one each, none where a special cause acts."""
    free = good["cause"].is_null().to_numpy()
    candidates = rng.permutation(np.flatnonzero(free))
    roles: npt.NDArray[np.object_] = np.full(good.height, None, dtype=object)
    units = good["unit"].to_numpy()[candidates]
    other = candidates[np.isin(units, list(OTHER_UNITS))]
    pressure_first = np.concatenate([other[good["unit"].to_numpy()[other] == "kPa"][:1], other])
    roles[list(dict.fromkeys(pressure_first.tolist()))[: BAD_RECORDS["registered_unit"][0]]] = "registered_unit"
    unkeyed = candidates[good["sample"].is_null().to_numpy()[candidates]]
    rest = iter([int(row) for row in unkeyed if roles[row] is None])
    wanted = {kind: number for kind, (number, _, _) in BAD_RECORDS.items() if kind != "registered_unit"} | CORRECTIONS
    wanted["outlier"] = SENSOR_OUTLIERS if production_date > FIRST_DATE else 0
    wanted["late"] = LATE_RECORDS
    if production_date < FIRST_MOVED or production_date.isoweekday() not in (2, 3, 4, 5):
        wanted["moved"] = 0
    for kind, number in wanted.items():
        for _ in range(number):
            roles[next(rest)] = kind
    return list(roles)


def _lookup(name: str) -> pl.Expr:
    """Property of each row's characteristic."""
    values = pl.Series([getattr(what, name) for what in CHARACTERISTICS])
    return pl.lit(values).gather(pl.col("_number"))


def _outliers(rng: np.random.Generator, good: pl.DataFrame) -> pl.DataFrame:
    """Move single records 8 to 12 sigmas: the sensor, not the process; always inside the sensor range."""
    size = pl.Series(rng.uniform(8.5, 12.0, good.height) * rng.choice([-1.0, 1.0], good.height))
    size = good.select(
        pl.when((_lookup("mean") + size * _lookup("sigma")).is_between(_lookup("sensor_min"), _lookup("sensor_max")))
        .then(size)
        .otherwise(size.abs())
    ).to_series()
    moved = _lookup("mean") + size * _lookup("sigma")
    rounded = ((moved / _lookup("resolution")).round() * _lookup("resolution")).round(6)
    is_outlier = pl.col("role") == "outlier"
    return good.with_columns(
        value=pl.when(is_outlier).then(rounded).otherwise("value"),
        size_sigma=pl.when(is_outlier).then((rounded - _lookup("mean")) / _lookup("sigma")),
    )


def _bad(good: pl.DataFrame) -> pl.DataFrame:
    role = pl.col("role")
    factor = pl.col("unit").replace_strict(
        {unit: f for unit, (_, f) in OTHER_UNITS.items()}, default=1.0, return_dtype=pl.Float64
    )
    other_unit = pl.col("unit").replace({unit: other for unit, (other, _) in OTHER_UNITS.items()})
    span = _lookup("sensor_max") - _lookup("sensor_min")
    value = (
        pl.when(role == "nan")
        .then(pl.lit(NAN_TOKEN))
        .when(role == "impossible")
        .then(_lookup("sensor_max") + 0.1 * span)
        .when(role == "registered_unit")
        .then((pl.col("value") * factor).round(9))
        .otherwise("value")
    )
    unit = (
        pl.when(role == "missing_unit")
        .then(pl.lit(None, dtype=pl.String))
        .when(role == "wrong_unit")
        .then(pl.lit("psi"))
        .when(role == "registered_unit")
        .then(other_unit)
        .otherwise("unit")
    )
    unknown = pl.concat_str("station", pl.lit(".unheard_of"))
    characteristic = pl.when(role == "unknown_characteristic").then(unknown).otherwise("characteristic")
    return good.with_columns(value=value, unit=unit, characteristic=characteristic)


def _not_outstanding(updated: pl.Series, schedule: DaySchedule) -> pl.Series:
    """Of the dates that are complete at the default clock, every record is known by then."""
    if day_bounds(schedule.production_date)[1] > DEFAULT_NOW:
        return updated
    return updated.clip(upper_bound=int(DEFAULT_NOW.timestamp() - 60) * US)


def _late(rng: np.random.Generator, frame: pl.DataFrame, schedule: DaySchedule) -> pl.DataFrame:
    delayed = _not_outstanding(frame["_at"] + pl.Series(rng.integers(2 * 3600, 24 * 3600, frame.height)) * US, schedule)
    return frame.with_columns(_us=pl.when(pl.col("role") == "late").then(delayed).otherwise("_us"))


def _corrected(
    rng: np.random.Generator, frame: pl.DataFrame, schedule: DaySchedule
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """First revisions, second revisions and the truth of corrections.

    A changed value was written down 4 sigma too high at first; a moved record happened a day earlier.
    """
    role = pl.col("role")
    wrong = (pl.col("value") + 4.0 * _lookup("sigma")).round(6)
    first = frame.with_columns(value=pl.when(role == "changed").then(wrong).otherwise("value"))
    chosen = frame.filter(role.is_in(list(CORRECTIONS)))
    delay = pl.Series(rng.integers(4 * 3600, 20 * 3600, chosen.height)) * US
    second = chosen.with_columns(
        rev=pl.lit(2),
        deleted=role == "deleted",
        _us=_not_outstanding(chosen["_at"] + delay, schedule),
        _at=pl.col("_at") - pl.when(role == "moved").then(86_400 * US).otherwise(0),
    )
    before = first.filter(role.is_in(list(CORRECTIONS)))
    truth = pl.DataFrame(
        {
            "record_id": second["id"],
            "revision": second["rev"].cast(pl.Int64),
            "kind": second["role"],
            "updated_at": _instant(second["_us"] // 1000 * 1000),
            "old_value": before["value"],
            "new_value": second["value"],
        }
    ).with_columns(
        production_date=pl.lit(schedule.production_date),
        new_production_date=pl.when(pl.col("kind") == "moved")
        .then(pl.lit(schedule.production_date - timedelta(days=1)))
        .otherwise(pl.lit(schedule.production_date)),
    )
    return first, second, truth.sort("record_id")


def _instant(us: pl.Series) -> pl.Series:
    return us.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def _truth(frame: pl.DataFrame, schedule: DaySchedule, **columns: pl.Expr) -> pl.DataFrame:
    return frame.select(record_id="id", **columns, production_date=pl.lit(schedule.production_date)).sort("record_id")


def _at() -> pl.Expr:
    return pl.col("_at").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def _cause_truth(good: pl.DataFrame, schedule: DaySchedule) -> pl.DataFrame:
    hit = good.filter(pl.col("cause").is_not_null())
    return _truth(
        hit,
        schedule,
        cause_id=pl.col("cause"),
        characteristic_id=pl.col("characteristic"),
        measured_at=_at(),
        value=pl.col("value"),
    )


def _outlier_truth(frame: pl.DataFrame, schedule: DaySchedule) -> pl.DataFrame:
    return _truth(
        frame.filter(pl.col("role") == "outlier"),
        schedule,
        characteristic_id=pl.col("characteristic"),
        equipment_id=pl.col("station"),
        measured_at=_at(),
        value=pl.col("value"),
        size_sigma=pl.col("size_sigma"),
    )


def _bad_truth(frame: pl.DataFrame, schedule: DaySchedule) -> pl.DataFrame:
    return _truth(
        frame.filter(pl.col("role").is_in(list(BAD_RECORDS))),
        schedule,
        resource=pl.lit("measurements"),
        measured_at=_at(),
        kind=pl.col("role"),
        expected=pl.col("role").replace_strict({kind: expected for kind, (_, expected, _) in BAD_RECORDS.items()}),
        expected_reason=pl.col("role").replace_strict({kind: reason for kind, (_, _, reason) in BAD_RECORDS.items()}),
    )


def _late_truth(frame: pl.DataFrame, schedule: DaySchedule) -> pl.DataFrame:
    return _truth(
        frame.filter(pl.col("role") == "late"),
        schedule,
        measured_at=_at(),
        updated_at=(pl.col("_us") // 1000 * 1000).cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
    )

"""Energy of work units from readings of meters: between readings, per state, shift and product, per good part.

A meter is a stream with a cumulative counter of energy or with momentary power. Between two readings of a
counter the energy is their difference; where a state begins or ends in between, it is shared by time and
flagged as estimated, so the parts add up to the difference. Power is taken to run straight from one reading to the
next: a part gets the area under its own stretch of that line, so the parts add up to the trapezoid; it is always
estimated. Neither knows at which side of a border more was drawn: ``apportionment`` says which rule a row rests on.

What the readings do not say is not filled in: more energy than can be drawn, a gap in a power signal and time
without readings have no energy and a reason. A gap of a counter keeps its difference, flagged, since the energy
was used although nobody knows when. A reading below an earlier one is a rollover when the way forward through
``rollover_at`` is the shorter half of the counter's range; else a reset when it fell to less than half, and the
reading itself is what was counted at least (as in ``counters``), flagged; else it is a step back (late delivery,
jitter) and is left out.
"""

from __future__ import annotations

from datetime import UTC as UTC_ZONE
from datetime import date, datetime, timedelta

import polars as pl

from spc_platform.contracts.energy import ENERGY_BY_STATE, ENERGY_INTERVAL, ENERGY_PER_PART
from spc_platform.contracts.table import UTC
from spc_platform.errors import SiteError
from spc_platform.production.intervals import cover, cut, seconds
from spc_platform.site.model import Site

KWH_PER_UNIT = {
    "counter": {"W.h": 1e-3, "Wh": 1e-3, "kW.h": 1.0, "kWh": 1.0, "MW.h": 1e3, "MWh": 1e3},
    "power": {"W": 1e-3, "kW": 1.0, "MW": 1e3},
}
"""Kilowatt hours (or kilowatts) in one unit of a meter; UCUM writes kW.h."""
RESET_SHARE = 0.5
S_PER_H = 3600.0

_READING = ["reading_start_at", "reading_end_at", "reading_kwh", "quality"]
_LINE = ["start_kw", "end_kw"]
"""Power at both readings; empty for a counter."""
_STATE = ["shift_id", "material_definition_id", "event_id", "state", "time_element", "production_date"]
_SHIFT = ["equipment_id", "shift_id", "material_definition_id", "production_date"]
_PER_STATE = [*_SHIFT, "state", "time_element"]


def energy_intervals(
    telemetry: pl.DataFrame, meters: pl.DataFrame, states: pl.DataFrame, site: Site, production_date: date, as_of: datetime
) -> pl.DataFrame:
    """Energy of every meter on a production date, split at the borders of states: ENERGY_INTERVAL.

    ``telemetry`` needs stream_id, observed_at, value and unit; ``meters`` is an ENERGY_METER frame;
    ``states`` is STATE_INTERVAL. Pass telemetry and states of the date and of those before and after it:
    a reading interval may cross the border of a date, and time in a shift belongs to the shift's date.
    Of several readings of a meter at one instant the highest counts. Raises SiteError when the unit of a meter
    is none of energy or power.
    """
    edges = [_day_start(site, production_date + timedelta(days=offset)) for offset in range(-1, 3)]
    first, last = edges[0], max(edges[0], min(edges[-1], as_of.astimezone(UTC_ZONE)))
    readings = _with_borders(_reading_intervals(telemetry, meters), meters, first, last)
    per_meter = meters.select("stream_id", "equipment_id")
    # Intervals of intervals.py belong to an equipment_id; here each meter has its own, for a unit may have two.
    during = (
        states.join(per_meter, on="equipment_id").with_columns(equipment_id="stream_id").sort("stream_id", "start_at")
    ).with_row_index("_state")
    days = per_meter.select(equipment_id="stream_id").join(
        pl.DataFrame({"start_at": edges[:-1], "end_at": edges[1:]}, schema={"start_at": UTC, "end_at": UTC}), how="cross"
    )
    parts = cover(cut(readings, during, days), during, "_state", _STATE)
    parts = parts.with_columns(production_date=pl.col("production_date").fill_null(site.production_date(pl.col("start_at"))))
    span = pl.col("end_at") - pl.col("start_at")
    whole = pl.col("reading_end_at") - pl.col("reading_start_at")
    share = span.dt.total_microseconds() / whole.dt.total_microseconds()
    middle = (pl.col("start_at") - pl.col("reading_start_at")).dt.total_microseconds() + span.dt.total_microseconds() / 2
    # the area under a straight line is its height in the middle of the part times the length of the part
    height = pl.col("start_kw") + (pl.col("end_kw") - pl.col("start_kw")) * middle / whole.dt.total_microseconds()
    is_power, has_energy = pl.col("kind") == "power", pl.col("reading_kwh").is_not_null()
    is_part = (span < whole).fill_null(value=False)
    return ENERGY_INTERVAL.conform(
        parts.filter(pl.col("production_date") == production_date)
        .rename({"equipment_id": "stream_id"})
        .join(meters.select("stream_id", "equipment_id", "kind"), on="stream_id")
        .join(site.work_centers(), on="equipment_id", how="left")
        .with_columns(
            duration_s=seconds(span),
            energy_kwh=pl.when(has_energy & is_power & is_part)
            .then(height * seconds(span) / S_PER_H)
            .otherwise(pl.col("reading_kwh") * share),
            apportionment=pl.when(has_energy).then(
                pl.when(is_power)
                .then(pl.lit("INTEGRATED_POWER"))
                .when(is_part)
                .then(pl.lit("SHARE_IN_TIME"))
                .otherwise(pl.lit("WHOLE_READING"))
            ),
            is_estimated=has_energy & (is_part | is_power | pl.col("quality").is_in(["GAP", "RESET"])),
        )
    )


def energy_by_state(intervals: pl.DataFrame) -> pl.DataFrame:
    """Energy per work unit, shift, product and state from ENERGY_INTERVAL rows: ENERGY_BY_STATE.

    Time outside planned operation time has no shift and no state; the sum over all rows is the energy of all parts.
    """
    summed = intervals.sort("stream_id", "start_at").group_by(_PER_STATE, maintain_order=True).agg(*_sums())
    return ENERGY_BY_STATE.conform(summed)


def energy_per_part(intervals: pl.DataFrame, elements: pl.DataFrame) -> pl.DataFrame:
    """Energy per work unit, shift and product beside its good parts (OEE_ELEMENTS): ENERGY_PER_PART.

    kWh per good part includes idle energy and the energy of scrap. Without a good part or without any
    reading it is null with the reason. A figure that rests on part of the time is kept and not ``is_complete``.
    """
    productive = pl.col("time_element").eq_missing("APT")
    energy = pl.col("energy_kwh")
    summed = (
        intervals.sort("stream_id", "start_at")
        .group_by(_SHIFT, maintain_order=True)
        .agg(
            *_sums(),
            productive_kwh=energy.filter(productive).sum(),
            idle_kwh=energy.filter(~productive).sum(),
            end_at=pl.col("end_at").max(),
        )
    )
    good = elements.group_by(_SHIFT).agg(gq=pl.col("gq").sum())
    reason = (
        pl.when(pl.col("energy_kwh").is_null()).then(pl.lit("NO_READING")).when(pl.col("gq") == 0).then(pl.lit("NO_GOOD_PART"))
    )
    per_part = pl.when(reason.is_null()).then(pl.col("energy_kwh") / pl.col("gq"))
    return ENERGY_PER_PART.conform(
        summed.join(good, on=_SHIFT, how="left", nulls_equal=True)
        .with_columns(pl.col("gq").fill_null(0))
        .with_columns(kwh_per_good_part=per_part, no_ratio_reason=reason, is_complete=pl.col("unmetered_s") == 0)
    )


def energy_values(per_part: pl.DataFrame, characteristics: pl.DataFrame) -> pl.DataFrame:
    """List kWh per good part as values: record_id, characteristic_id, equipment_id, measured_at, value, unit.

    ``characteristics`` names characteristic_id, equipment_id and material_definition_id (null: all
    products, one value per shift and product). Charted as individuals: one row per shift. Rows without a ratio or
    metered in part are left out, for a share of a shift's energy is not its consumption.
    """
    any_product = pl.col("_wanted").is_null()
    return (
        per_part.filter(pl.col("kwh_per_good_part").is_not_null() & pl.col("is_complete") & pl.col("shift_id").is_not_null())
        .join(characteristics.select("characteristic_id", "equipment_id", _wanted="material_definition_id"), on="equipment_id")
        .filter(any_product | (pl.col("_wanted") == pl.col("material_definition_id")))
        .select(
            "characteristic_id",
            "equipment_id",
            record_id=pl.concat_str(
                "equipment_id",
                pl.col("production_date").dt.strftime("%Y-%m-%d"),
                "shift_id",
                pl.col("material_definition_id").fill_null(""),
                separator="/",
            ),
            measured_at="end_at",
            value="kwh_per_good_part",
            unit=pl.lit("kW.h"),
        )
        .sort("characteristic_id", "measured_at", "record_id")
    )


def _sums() -> list[pl.Expr]:
    energy, duration = pl.col("energy_kwh"), pl.col("duration_s")
    known = energy.is_not_null()
    return [
        pl.col("work_center_id").first(),
        pl.when(known.any()).then(energy.sum()).alias("energy_kwh"),
        energy.filter("is_estimated").sum().alias("estimated_kwh"),
        energy.filter(pl.col("quality") == "GAP").sum().alias("gap_kwh"),
        duration.filter(known).sum().alias("metered_s"),
        duration.filter(~known).sum().alias("unmetered_s"),
    ]


def _day_start(site: Site, day: date) -> datetime:
    return datetime.combine(day, site.day_start, site.zone_info).astimezone(UTC_ZONE)


def _reading_intervals(telemetry: pl.DataFrame, meters: pl.DataFrame) -> pl.DataFrame:
    """Between each two readings of a meter: stream_id, their times, reading_kwh, quality, and the power at both."""
    read = telemetry.select("stream_id", "observed_at", "value", "unit").join(meters.drop("equipment_id"), on="stream_id")
    _refuse_units(read)
    factors = [(kind, unit, factor) for kind, units in KWH_PER_UNIT.items() for unit, factor in units.items()]
    factor = pl.DataFrame(factors, schema=["kind", "unit", "_factor"], orient="row")
    is_counter = pl.col("kind") == "counter"
    usable = pl.col("value").is_finite().fill_null(value=False) & (~is_counter | (pl.col("value") >= 0))
    ordered = (
        read.join(factor, on=["kind", "unit"])
        .filter(usable)
        .with_columns(_value=pl.col("value") * pl.col("_factor"), _range=pl.col("rollover_at") * pl.col("_factor"))
        .sort("stream_id", "observed_at", "_value")
        .unique(["stream_id", "observed_at"], keep="last", maintain_order=True)
    )
    return pl.concat([_of_counters(ordered.filter(is_counter)), _of_power(ordered.filter(~is_counter))])


def _refuse_units(read: pl.DataFrame) -> None:
    known = {kind: sorted(units) for kind, units in KWH_PER_UNIT.items()}
    seen = read.select("stream_id", "kind", "unit").unique().sort("stream_id", "unit")
    fits = pl.any_horizontal((pl.col("kind") == kind) & pl.col("unit").is_in(units) for kind, units in known.items())
    wrong = seen.filter(~fits.fill_null(value=False))
    if wrong.height:
        row = wrong.row(0, named=True)
        raise SiteError(
            f"energy meter {row['stream_id']} ({row['kind']}) delivers {row['unit']!r}, which is not one of"
            f" {', '.join(known[row['kind']])}; correct the unit of the stream or the kind of the meter",
            code="SPC-452",
        )


def _in_time(of_meter: pl.Expr) -> pl.Expr:
    return of_meter.over("stream_id", order_by="observed_at")


def _of_counters(ordered: pl.DataFrame) -> pl.DataFrame:
    before = _in_time(pl.col("_value").shift(1))
    falls = pl.col("_value") < before
    rolls = falls & ((pl.col("_value") + pl.col("_range") - before) < pl.col("_range") / 2)
    marked = ordered.with_columns(
        _rolls=rolls.fill_null(value=False),
        _resets=(falls & ~rolls.fill_null(value=False) & (pl.col("_value") < RESET_SHARE * before)).fill_null(value=False),
    )
    marked = marked.with_columns(
        _life=_in_time(pl.col("_resets").cum_sum()),
        _turns=_in_time(pl.col("_rolls").cum_sum()),
        _row=_in_time(pl.col("_value").cum_count()),
    ).with_columns(_total=pl.col("_value") + pl.col("_turns") * pl.col("_range").fill_null(0.0))
    highest = pl.col("_total").cum_max().over("stream_id", "_life", order_by="observed_at")
    kept = marked.filter(pl.col("_total") >= highest)
    was = {name: _in_time(pl.col(name).shift(1)) for name in ("observed_at", "_value", "_life", "_turns", "_row")}
    # Turns are counted apart from the value, so that a long-lived counter loses no digits.
    turned = pl.col("_turns") - was["_turns"]
    used = pl.col("_value") - was["_value"] + turned * pl.col("_range").fill_null(0.0)
    paired = kept.with_columns(
        reading_start_at=was["observed_at"],
        reading_end_at=pl.col("observed_at"),
        _used=pl.when(pl.col("_life") != was["_life"]).then("_value").otherwise(used),
        _is_new_life=pl.col("_life") != was["_life"],
        _turned=turned > 0,
        _left_out=pl.col("_row") - was["_row"] > 1,
    ).filter(pl.col("reading_start_at").is_not_null())
    length = seconds(pl.col("reading_end_at") - pl.col("reading_start_at"))
    too_fast = (pl.col("_used") > pl.col("max_power_kw") * length / S_PER_H).fill_null(value=False)
    quality = (
        pl.when(too_fast)
        .then(pl.lit("ABOVE_MAX_POWER"))
        .when("_is_new_life")
        .then(pl.lit("RESET"))
        .when(length > pl.col("max_gap_s"))
        .then(pl.lit("GAP"))
        .when("_turned")
        .then(pl.lit("ROLLOVER"))
        .when("_left_out")
        .then(pl.lit("BACKWARDS"))
        .otherwise(pl.lit("OK"))
    )
    known = quality != "ABOVE_MAX_POWER"
    none = {name: pl.lit(None, dtype=pl.Float64) for name in _LINE}
    return paired.select("stream_id", *_READING[:2], reading_kwh=pl.when(known).then("_used"), quality=quality, **none)


def _of_power(ordered: pl.DataFrame) -> pl.DataFrame:
    def before(name: str) -> pl.Expr:
        return _in_time(pl.col(name).shift(1))

    paired = ordered.with_columns(
        reading_start_at=before("observed_at"),
        reading_end_at=pl.col("observed_at"),
        start_kw=before("_value"),
        end_kw=pl.col("_value"),
        _mean=(pl.col("_value") + before("_value")) / 2,
        _peak=pl.max_horizontal(pl.col("_value").abs(), before("_value").abs()),
    ).filter(pl.col("reading_start_at").is_not_null())
    length = seconds(pl.col("reading_end_at") - pl.col("reading_start_at"))
    quality = (
        pl.when((pl.col("_peak") > pl.col("max_power_kw")).fill_null(value=False))
        .then(pl.lit("ABOVE_MAX_POWER"))
        .when(length > pl.col("max_gap_s"))
        .then(pl.lit("GAP"))
        .otherwise(pl.lit("OK"))
    )
    energy = pl.when(quality == "OK").then(pl.col("_mean") * length / S_PER_H)
    return paired.select("stream_id", *_READING[:2], *_LINE, reading_kwh=energy, quality=quality).select(
        "stream_id", *_READING, *_LINE
    )


def _with_borders(readings: pl.DataFrame, meters: pl.DataFrame, first: datetime, last: datetime) -> pl.DataFrame:
    """The reading intervals as intervals of ``equipment_id`` (the meter), with the time before and after them."""
    ends = readings.group_by("stream_id").agg(_from=pl.col("reading_start_at").min(), _to=pl.col("reading_end_at").max())
    bare = meters.select("stream_id").join(ends, on="stream_id", how="left")
    begin, end = pl.lit(first).cast(UTC), pl.lit(last).cast(UTC)
    unread = [
        bare.select("stream_id", start_at=begin, end_at=pl.col("_from").fill_null(end)),
        bare.filter(pl.col("_to").is_not_null()).select("stream_id", start_at=pl.col("_to"), end_at=end),
    ]
    silent = pl.concat(unread).with_columns(
        reading_start_at=pl.lit(None, dtype=UTC),
        reading_end_at=pl.lit(None, dtype=UTC),
        reading_kwh=pl.lit(None, dtype=pl.Float64),
        quality=pl.lit("NO_READING"),
        **{name: pl.lit(None, dtype=pl.Float64) for name in _LINE},
    )
    read = readings.with_columns(start_at="reading_start_at", end_at="reading_end_at")
    columns = ["stream_id", "start_at", "end_at", *_READING, *_LINE]
    return pl.concat([read.select(columns), silent.select(columns)]).rename({"stream_id": "equipment_id"})

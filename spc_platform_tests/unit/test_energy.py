"""Energy worked by hand: 3600 s at 1 kW are 1 kWh, so a share of time is a share of energy."""

from __future__ import annotations

import math
import random
from datetime import date, datetime, timedelta

import polars as pl
import pytest

from spc_platform.contracts.energy import ENERGY_BY_STATE, ENERGY_INTERVAL, ENERGY_METER, ENERGY_PER_PART
from spc_platform.contracts.production import OEE_ELEMENTS, STATE_INTERVAL
from spc_platform.contracts.table import UTC
from spc_platform.errors import SiteError
from spc_platform.plant.energy import energy_readings
from spc_platform.plant.process import DEFAULT_SEED, FIRST_DATE, METER_ROLLOVER_KWH, METERS
from spc_platform.plant.schedule import day_schedule
from spc_platform.production.energy import energy_by_state, energy_intervals, energy_per_part, energy_values
from spc_platform.production.states import state_intervals
from spc_platform_tests.unit.production_site import EARLY, NIGHT, orders, site, states, utc

DAY = date(2026, 3, 10)
LATER = utc(2026, 3, 12)
PLANT = site(shifts=[EARLY])
RAN = states(("RUN", utc(2026, 3, 10, 6)), ("SETUP", utc(2026, 3, 10, 9)), ("RUN", utc(2026, 3, 10, 10)), unit="CNC")


def at(hour: int, minute: int = 0, second: int = 0, day: int = 10) -> datetime:
    return utc(2026, 3, day, hour, minute, second)


def meter(kind: str = "counter", *, rollover: float | None = None, gap: float = 7200.0, most: float | None = None):
    return pl.DataFrame([("CNC.energy", "CNC", kind, rollover, gap, most)], schema=ENERGY_METER.schema, orient="row")


def readings(*rows: tuple[datetime, float | None], unit: str = "kWh", stream: str = "CNC.energy") -> pl.DataFrame:
    schema = {"stream_id": pl.String, "observed_at": UTC, "value": pl.Float64, "unit": pl.String}
    return pl.DataFrame([(stream, when, value, unit) for when, value in rows], schema=schema, orient="row")


def energy(read: pl.DataFrame, meters: pl.DataFrame, *, day: date = DAY, plant=PLANT, records=RAN, as_of=LATER) -> pl.DataFrame:
    days = [day + timedelta(days=offset) for offset in (-1, 0, 1)]
    during = pl.concat([state_intervals(records, orders(), plant, each, as_of) for each in days])
    frame = energy_intervals(read, meters, during, plant, day, as_of)
    assert frame.schema == ENERGY_INTERVAL.schema
    ENERGY_INTERVAL.pandera_schema().validate(frame)
    return frame


def known(frame: pl.DataFrame) -> list[tuple[object, ...]]:
    return frame.filter(pl.col("energy_kwh").is_not_null()).select("start_at", "end_at", "state", "energy_kwh").rows()


def test_a_reading_across_a_state_border_is_shared_by_time_and_flagged():
    frame = energy(readings((at(8), 100.0), (at(9, 30), 103.0), (at(10), 103.5)), meter())
    assert known(frame) == [
        (at(8), at(9), "RUN", pytest.approx(2.0, rel=1e-14)),
        (at(9), at(9, 30), "SETUP", pytest.approx(1.0, rel=1e-14)),
        (at(9, 30), at(10), "SETUP", 0.5),
    ]
    assert frame.filter(pl.col("energy_kwh").is_not_null())["is_estimated"].to_list() == [True, True, False]
    assert frame.filter(pl.col("energy_kwh").is_not_null())["reading_kwh"].to_list() == [3.0, 3.0, 0.5]


def test_time_without_readings_is_kept_without_energy():
    frame = energy(readings((at(8), 100.0), (at(9), 103.0)), meter())
    silent = frame.filter(pl.col("quality") == "NO_READING")
    assert silent["energy_kwh"].null_count() == silent.height > 0
    assert not silent["is_estimated"].any()
    assert frame["duration_s"].sum() == 86400.0
    assert energy(readings(), meter())["quality"].unique().to_list() == ["NO_READING"]


def test_nothing_is_said_about_the_time_after_as_of():
    frame = energy(readings((at(6), 0.0), (at(7), 1.0)), meter(), as_of=at(8))
    assert frame["end_at"].max() == at(8)


def test_the_parts_of_three_dates_add_up_to_the_difference_of_the_counter():
    draw = random.Random(20260310)
    when, value, rows = at(1, day=9), 1.0e6, []
    while when < at(22, day=11):
        rows.append((when, value))
        when += timedelta(seconds=draw.uniform(20, 900))
        value += draw.uniform(0, 3)
    plant = site(shifts=[EARLY, NIGHT])
    records = states(*((draw.choice(["RUN", "STOP", "IDLE"]), at(6, day=9) + timedelta(minutes=17 * n)) for n in range(240)))
    frames = [energy(readings(*rows), meter(), day=date(2026, 3, day), plant=plant, records=records) for day in range(8, 13)]
    parts = pl.concat(frames)
    assert parts["is_estimated"].sum() > 200
    used = rows[-1][1] - rows[0][1]
    assert math.fsum(parts["energy_kwh"].drop_nulls()) == pytest.approx(used, rel=1e-13)
    per_reading = (
        parts.drop_nulls("reading_kwh")
        .group_by("reading_start_at")
        .agg(parts=pl.col("energy_kwh").sum(), whole=pl.col("reading_kwh").first())
    )
    assert per_reading.height == len(rows) - 1
    assert (per_reading["parts"] - per_reading["whole"]).abs().max() < 1e-14
    by_state = pl.concat([energy_by_state(frame) for frame in frames])
    assert math.fsum(by_state["energy_kwh"].drop_nulls()) == pytest.approx(used, rel=1e-13)


def test_any_order_of_rows_gives_the_same_intervals():
    rows = [(at(6) + timedelta(minutes=7 * number), 10.0 + number**1.1) for number in range(60)]
    shuffled = random.Random(1).sample(rows, len(rows))
    assert energy(readings(*rows), meter()).equals(energy(readings(*shuffled, *rows[:5]), meter()))


@pytest.mark.parametrize(
    ("values", "options", "energies", "qualities"),
    [
        ((998.0, 999.5, 1.0), {"rollover": 1000.0}, [1.5, 1.5], ["OK", "ROLLOVER"]),
        ((998.0, 999.5, 1.0), {}, [1.5, 1.0], ["OK", "RESET"]),
        ((100.0, 0.0, 2.0), {"rollover": 1000.0}, [0.0, 2.0], ["RESET", "OK"]),
        ((100.0, 99.0, 101.0), {}, [1.0], ["BACKWARDS"]),
        ((100.0, 500.0, 501.0), {"most": 50.0}, [None, 1.0], ["ABOVE_MAX_POWER", "OK"]),
        ((100.0, float("nan"), 101.0), {"gap": 3000.0}, [1.0], ["GAP"]),
        ((100.0, -5.0, 101.0), {"gap": 4000.0}, [1.0], ["OK"]),
    ],
)
def test_a_counter_that_does_not_simply_rise(values, options, energies, qualities):
    rows = [(at(6, 30) + timedelta(minutes=30 * number), value) for number, value in enumerate(values)]
    read = energy(readings(*rows), meter(**options)).filter(pl.col("quality") != "NO_READING")
    assert read["energy_kwh"].to_list() == energies
    assert read["quality"].to_list() == qualities
    assert read["is_estimated"].to_list() == [quality in ("RESET", "GAP") for quality in qualities]


def test_a_gap_of_a_counter_keeps_its_energy_as_an_estimate_and_a_gap_of_power_has_none():
    counter = energy(readings((at(6), 0.0), (at(8), 4.0)), meter(gap=3600.0)).filter(pl.col("quality") == "GAP")
    assert counter.select("energy_kwh", "is_estimated").rows() == [(4.0, True)]
    power = energy(readings((at(6), 2.0), (at(8), 2.0), unit="kW"), meter("power", gap=3600.0))
    assert power.filter(pl.col("quality") == "GAP").select("energy_kwh", "is_estimated").rows() == [(None, False)]
    by_state = energy_by_state(energy(readings((at(6), 0.0), (at(8), 4.0)), meter(gap=3600.0)))
    assert by_state.filter(pl.col("state") == "RUN")["gap_kwh"].to_list() == [4.0]


def test_power_is_integrated_between_its_readings_in_its_unit():
    frame = energy(readings((at(6), 1000.0), (at(7), 3000.0), (at(8), 3000.0), unit="W"), meter("power"))
    assert [row[3] for row in known(frame)] == [2.0, 3.0]
    assert frame.drop_nulls("energy_kwh")["is_estimated"].all()


STOPPED = states(("RUN", at(6)), ("STOP", at(8, 57)), ("RUN", at(8, 58)), ("STOP", at(9, 30)), ("RUN", at(10)), unit="CNC")
"""A stop of a minute between two readings, and one of half an hour that begins and ends at readings."""


def by_state(frame: pl.DataFrame) -> dict[str, float]:
    summed = frame.filter(pl.col("energy_kwh").is_not_null()).group_by("state").agg(pl.col("energy_kwh").sum())
    return {str(state): kwh for state, kwh in summed.iter_rows()}


def test_a_stop_between_two_readings_of_a_counter_gets_its_share_in_time_however_little_it_drew():
    """12 kW while it runs, 2 kW in a stop, read every 5 minutes around the short stop: the difference is 5/6 kWh."""
    drawn = 4 * 12 / 60 + 2 / 60
    read = readings((at(8, 55), 100.0), (at(9), 100.0 + drawn), (at(9, 30), 106.0 + drawn), (at(10), 107.0 + drawn))
    assert drawn == pytest.approx(5 / 6, rel=1e-14)
    frame = energy(read, meter(), records=STOPPED)
    shared = frame.filter(pl.col("apportionment") == "SHARE_IN_TIME")
    assert shared.select("state", "start_at", "end_at").rows() == [
        ("RUN", at(8, 55), at(8, 57)),
        ("STOP", at(8, 57), at(8, 58)),
        ("RUN", at(8, 58), at(9)),
    ]
    assert shared["energy_kwh"].to_list() == pytest.approx([drawn * 2 / 5, drawn / 5, drawn * 2 / 5], rel=1e-12)
    assert shared["energy_kwh"].sum() == pytest.approx(drawn, rel=1e-12)
    # the true idle energy, 2/60 kWh, is overstated to 1/6 kWh: the row says that it is a share
    assert shared["is_estimated"].all()
    whole = frame.filter(pl.col("apportionment") == "WHOLE_READING")
    assert whole.select("state", "is_estimated").rows() == [("RUN", False), ("STOP", False)]
    assert whole["energy_kwh"].to_list() == pytest.approx([6.0, 1.0], rel=1e-12)
    assert frame.filter(pl.col("energy_kwh").is_null())["apportionment"].null_count() == frame["energy_kwh"].null_count()


def test_power_across_a_border_follows_the_line_between_its_readings_and_adds_up_to_the_trapezoid():
    """From 12 kW at 8:00 to 0 kW at 10:00 the line stands at 6 kW when SETUP begins at 9:00: 9 kWh before, 3 kWh after."""
    frame = energy(readings((at(8), 12.0), (at(10), 0.0), unit="kW"), meter("power"))
    assert by_state(frame) == {"RUN": 9.0, "SETUP": 3.0}
    made = frame.filter(pl.col("energy_kwh").is_not_null())
    assert set(made["apportionment"]) == {"INTEGRATED_POWER"}
    assert made["is_estimated"].all()
    assert made["reading_kwh"].to_list() == [12.0, 12.0]


def test_a_reading_of_power_at_the_border_gives_each_side_its_own():
    frame = energy(readings((at(8), 12.0), (at(9), 12.0), (at(9, 0, 1), 2.0), (at(10), 2.0), unit="kW"), meter("power"))
    found = by_state(frame)
    assert found["RUN"] == 12.0
    assert found["SETUP"] == pytest.approx(2.0 * 3599 / 3600 + 7.0 / 3600, rel=1e-12)


def test_watt_hours_are_kilowatt_hours_and_any_other_unit_is_refused():
    assert [row[3] for row in known(energy(readings((at(6), 0.0), (at(7), 2500.0), unit="Wh"), meter()))] == [2.5]
    with pytest.raises(SiteError, match=r"CNC\.energy .*'degC'.*MW.h, MWh, W.h, Wh, kW.h, kWh"):
        energy(readings((at(6), 0.0), unit="degC"), meter())


def good(quantity: int, shift: str = "early") -> pl.DataFrame:
    row = {
        **dict.fromkeys(OEE_ELEMENTS.names),
        "equipment_id": "CNC",
        "shift_id": shift,
        "production_date": DAY,
        "gq": quantity,
    }
    return pl.DataFrame([row], schema=OEE_ELEMENTS.schema)


def shift_energy() -> pl.DataFrame:
    """One kWh an hour from 05:00 to 15:00: two hours outside the shift, one in setup, seven running."""
    rows = [(at(5) + timedelta(hours=number), float(number)) for number in range(11)]
    return energy(readings(*rows), meter())


def test_energy_per_good_part_counts_idle_energy_and_leaves_the_time_outside_the_shift_out():
    frame = energy_per_part(shift_energy(), good(4))
    assert frame.schema == ENERGY_PER_PART.schema
    ENERGY_PER_PART.pandera_schema().validate(frame)
    (early,) = frame.filter(pl.col("shift_id") == "early").to_dicts()
    assert [early[name] for name in ("energy_kwh", "productive_kwh", "idle_kwh", "kwh_per_good_part")] == [8.0, 7.0, 1.0, 2.0]
    assert early["is_complete"]
    (outside,) = frame.filter(pl.col("shift_id").is_null()).to_dicts()
    assert (outside["energy_kwh"], outside["no_ratio_reason"]) == (1.0, "NO_GOOD_PART")


def test_without_a_good_part_or_a_reading_there_is_no_ratio_but_a_reason():
    none_good = energy_per_part(shift_energy(), good(0)).filter(pl.col("shift_id") == "early")
    assert none_good.select("kwh_per_good_part", "no_ratio_reason", "energy_kwh").rows() == [(None, "NO_GOOD_PART", 8.0)]
    unread = energy_per_part(energy(readings(), meter()), good(4)).filter(pl.col("shift_id") == "early")
    assert unread.select("kwh_per_good_part", "no_ratio_reason", "energy_kwh").rows() == [(None, "NO_READING", None)]


def test_idle_energy_stands_apart_by_state():
    frame = energy_by_state(shift_energy())
    ENERGY_BY_STATE.pandera_schema().validate(frame)
    in_shift = frame.filter(pl.col("shift_id") == "early")
    assert in_shift.select("state", "time_element", "energy_kwh", "metered_s").rows() == [
        ("RUN", "APT", 7.0, 25200.0),
        ("SETUP", "AUST", 1.0, 3600.0),
    ]


def test_two_meters_of_a_unit_are_added():
    both = pl.concat([meter(), meter().with_columns(stream_id=pl.lit("CNC.hydraulics"))])
    read = pl.concat([readings((at(6), 0.0), (at(7), 1.0)), readings((at(6), 5.0), (at(7), 7.0), stream="CNC.hydraulics")])
    assert energy_by_state(energy(read, both)).filter(pl.col("state") == "RUN")["energy_kwh"].to_list() == [3.0]


def test_only_completely_metered_shifts_become_values_of_a_chart():
    wanted = pl.DataFrame(
        [("CNC.kwh_per_part", "CNC", None)],
        schema={"characteristic_id": pl.String, "equipment_id": pl.String, "material_definition_id": pl.String},
        orient="row",
    )
    values = energy_values(energy_per_part(shift_energy(), good(4)), wanted)
    assert values.rows() == [("CNC.kwh_per_part", "CNC", "CNC/2026-03-10/early/", at(14), 2.0, "kW.h")]
    partly = energy(readings((at(6), 0.0), (at(7), 1.0)), meter())
    assert energy_values(energy_per_part(partly, good(4)), wanted).is_empty()


def test_the_plants_meters_give_what_its_stations_used_across_a_rollover_and_an_exchange():
    """A reading shows 0.001 kWh, so both ends of a date may be off by half of it; a date without work used nothing."""
    days = [FIRST_DATE + timedelta(days=number) for number in range(14)]
    made = [energy_readings(DEFAULT_SEED, day_schedule(DEFAULT_SEED, day)) for day in days]
    shown = pl.concat(shown for shown, _ in made)
    read = shown.select("value", "unit", stream_id="signal", observed_at=pl.from_epoch("_at", "us").dt.replace_time_zone("UTC"))
    meters = pl.DataFrame(
        [(each.signal, each.station, "counter", float(METER_ROLLOVER_KWH), 600.0, None) for each in METERS],
        schema=ENERGY_METER.schema,
        orient="row",
    )
    plant = site("Europe/Berlin", equipment=[(each.station, "work_unit", "L1", "") for each in METERS])
    as_of = utc(2027, 1, 1)
    parts = pl.concat(energy_intervals(read, meters, STATE_INTERVAL.empty(), plant, day, as_of) for day in days)
    assert {"ROLLOVER", "RESET", "GAP"} < set(parts["quality"])
    per_date = ["equipment_id", "production_date"]
    used = pl.concat(truth["energy_kwh"] for _, truth in made).group_by(per_date).agg(pl.col("kwh").sum())
    both = parts.group_by(per_date).agg(pl.col("energy_kwh").sum()).join(used, on=per_date, how="left").fill_null(0.0)
    assert both.height == len(METERS) * len(days)
    assert (both["energy_kwh"] - both["kwh"]).abs().max() < 0.00101

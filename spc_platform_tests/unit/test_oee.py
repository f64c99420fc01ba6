from __future__ import annotations

from datetime import date
from fractions import Fraction

import polars as pl
import pytest

from spc_platform.contracts.production import OEE_ELEMENTS
from spc_platform.production.oee import counts_outside_shifts, oee_elements, oee_ratios
from spc_platform.production.states import state_intervals
from spc_platform_tests.unit.production_site import EARLY, LATE, NIGHT, counts, orders, site, states, utc

DAY = date(2026, 3, 10)
LATER = utc(2026, 3, 12)
LONG_AGO = utc(2026, 1, 1)
SHAFT = ("shaft", "CNC", 60.0, LONG_AGO, None)
GEAR = ("gear", "CNC", 30.0, LONG_AGO, None)
SHAFT_ORDER = orders(("A", "shaft", utc(2026, 3, 9)))


def at(hour: int, minute: int = 0, second: int = 0, day: int = 10):
    return utc(2026, 3, day, hour, minute, second)


def elements(records, produced, plant, *, work_order=SHAFT_ORDER, day=DAY, as_of=LATER, unit="CNC") -> pl.DataFrame:
    intervals = state_intervals(records, work_order, plant, day, as_of)
    frame = oee_elements(intervals, produced, plant, day, as_of)
    assert frame.schema == OEE_ELEMENTS.schema
    OEE_ELEMENTS.pandera_schema().validate(frame)
    return frame.filter(pl.col("equipment_id") == unit)


def ratio(frame: pl.DataFrame, by=()) -> dict[str, object]:
    return oee_ratios(frame, list(by)).row(0, named=True)


@pytest.fixture
def oracle() -> pl.DataFrame:
    """DOMAIN section 5 in minutes: POT 480, planned 30, setup 30, delays 40 (15 minor), PRI 1, PQ 350, GQ 340."""
    records = states(
        ("RUN", at(6)),
        ("SETUP", at(7), at(7, 30)),
        ("STOP", at(8), at(8, 25), "tool"),
        *(("STOP", at(9, n * 10), at(9, n * 10 + 3), "jam") for n in range(5)),
    ).with_columns(end_at=pl.coalesce("end_at", pl.lit(at(14))))
    plant = site(shifts=[EARLY], breaks=[("early", "*", "12:00", "12:30", "")], products=[SHAFT])
    return elements(records, counts(("shaft", at(11), 200, 4, 3), ("shaft", at(13), 140, 2, 1)), plant)


def test_the_oracle_of_iso_22400_and_tpm_gives_its_exact_fractions(oracle):
    row = oracle.row(0, named=True)
    minutes = {name: row[f"{name}_s"] / 60 for name in ("pot", "pdt", "pbt", "apt", "aust", "adet", "minor_stop", "unknown")}
    assert minutes == {"pot": 480, "pdt": 30, "pbt": 450, "apt": 380, "aust": 30, "adet": 40, "minor_stop": 15, "unknown": 0}
    assert (row["pq"], row["gq"], row["sq"], row["rq"], row["pri_s"], row["data_quality"]) == (350, 340, 6, 4, 60.0, None)
    exact = {
        "availability": Fraction(380, 450),
        "effectiveness": Fraction(350, 380),
        "quality": Fraction(340, 350),
        "oee": Fraction(340, 450),
        "nee": Fraction(410, 450) * Fraction(350, 380) * Fraction(340, 350),
        "tpm_availability": Fraction(395, 450),
        "tpm_performance": Fraction(350, 395),
        "tpm_quality": Fraction(340, 350),
    }
    found = ratio(oracle)
    assert {name: found[name] for name in exact} == pytest.approx(
        {name: float(value) for name, value in exact.items()}, rel=1e-15
    )
    assert [round(found[name], 4) for name in ("availability", "effectiveness", "quality", "oee", "nee")] == [
        0.8444,
        0.9211,
        0.9714,
        0.7556,
        0.8152,
    ]
    assert found["reason"] is None
    assert found["suspect_ideal_cycle"] is False


def test_both_readings_give_the_same_oee(oracle):
    found = ratio(oracle)
    iso = found["availability"] * found["effectiveness"] * found["quality"]
    tpm = found["tpm_availability"] * found["tpm_performance"] * found["tpm_quality"]
    assert iso == pytest.approx(tpm, rel=1e-15) == pytest.approx(found["oee"], rel=1e-15)


def test_elements_of_a_shift_add_up_to_its_operation_time():
    records = states(("RUN", at(6)), ("SETUP", at(9, 1, 7)), ("STOP", at(9, 59, 59), None, "tool"), ("RUN", at(12), at(15)))
    frame = elements(records, counts(), site(shifts=[EARLY, LATE], products=[SHAFT]))
    parts = frame.select(pl.sum_horizontal("pdt_s", "apt_s", "aust_s", "adet_s", "adot_s", "unknown_s"))
    assert parts.to_series().to_list() == frame["pot_s"].to_list() == [28800.0, 28800.0]
    assert frame.filter(pl.col("shift_id") == "late").select("apt_s", "unknown_s", "data_quality").row(0) == (
        3600.0,
        7 * 3600.0,
        "UNKNOWN_TIME",
    )


def test_a_product_change_in_mid_shift_gives_a_row_for_each_product():
    work_order = orders(("A", "shaft", at(5), at(9)), ("B", "gear", at(10)))
    produced = counts(("shaft", at(8), 100, 0, 0), ("gear", at(12), 300, 20, 0))
    frame = elements(
        states(("RUN", at(6), at(14))), produced, site(shifts=[EARLY], products=[SHAFT, GEAR]), work_order=work_order
    )
    assert frame.select("material_definition_id", "pot_s", "apt_s", "pri_s", "pq", "gq").rows() == [
        ("gear", 14400.0, 14400.0, 30.0, 320, 300),
        ("shaft", 10800.0, 10800.0, 60.0, 100, 100),
        (None, 3600.0, 3600.0, None, 0, 0),
    ]
    # E = (60*100 + 30*320) / 28800, Q = (60*100 + 30*300) / (60*100 + 30*320)
    found = ratio(frame, ["equipment_id"])
    assert found["effectiveness"] == pytest.approx(float(Fraction(15600, 28800)), rel=1e-15)
    assert found["quality"] == pytest.approx(float(Fraction(15000, 15600)), rel=1e-15)
    assert found["quality"] != pytest.approx(400 / 420, rel=1e-3)


def test_oee_of_a_day_comes_from_sums_not_from_averaged_ratios():
    # early: 8 h, 480 good of 60 s -> 1; late: 4 h left by a holiday, 48 good -> 48/240 = 0.2; the day 528/720, the mean 0.6
    early = [("RUN", at(6), at(14)), ("STOP", at(14), at(21), "tool"), ("RUN", at(21), at(22))]
    plant = site(shifts=[EARLY, LATE], products=[SHAFT], calendar=[("h", "CNC", "holiday", at(14), at(18), LONG_AGO, "")])
    frame = elements(states(*early), counts(("shaft", at(13), 480, 0, 0), ("shaft", at(21, 30), 48, 0, 0)), plant)
    shifts = oee_ratios(frame, ["shift_id"])
    assert shifts["oee"].to_list() == pytest.approx([1.0, 48 / 240], rel=1e-15)
    day = ratio(frame, ["production_date"])["oee"]
    assert day == pytest.approx(float(Fraction(528, 720)), rel=1e-15)
    assert day != pytest.approx(shifts["oee"].mean(), abs=0.1)


def test_a_shift_without_busy_time_has_no_oee_and_says_why():
    service = ("m", "CNC", "planned_maintenance", at(6), at(14), LONG_AGO, "")
    frame = elements(states(("RUN", at(6), at(14))), counts(), site(shifts=[EARLY], calendar=[service], products=[SHAFT]))
    assert frame.select("pot_s", "pdt_s", "pbt_s", "apt_s").row(0) == (28800.0, 28800.0, 0.0, 0.0)
    found = ratio(frame)
    assert [found[name] for name in ("availability", "effectiveness", "quality", "oee", "nee", "tpm_availability")] == [
        None
    ] * 6
    assert found["reason"].split(";")[0] == "NO_BUSY_TIME"


def test_running_without_producing_has_no_quality_but_an_oee_of_zero():
    found = ratio(elements(states(("RUN", at(6), at(14))), counts(), site(shifts=[EARLY], products=[SHAFT])))
    assert [found[name] for name in ("availability", "effectiveness", "quality", "oee")] == [1.0, 0.0, None, 0.0]
    assert found["reason"] == "NOTHING_PRODUCED"


def test_a_shift_that_stood_still_has_an_oee_of_zero():
    found = ratio(elements(states(("STOP", at(6), at(14), "tool")), counts(), site(shifts=[EARLY], products=[SHAFT])))
    assert [found[name] for name in ("availability", "effectiveness", "quality", "oee", "nee")] == [0.0, None, None, 0.0, 0.0]
    assert found["reason"] == "NOT_RUN;NOTHING_PRODUCED"


def test_parts_counted_without_production_time_are_kept_and_named():
    frame = elements(
        states(("STOP", at(6), at(14), "tool")), counts(("shaft", at(9), 5, 0, 0)), site(shifts=[EARLY], products=[SHAFT])
    )
    assert frame.select("pq", "data_quality").row(0) == (5, "COUNT_WITHOUT_RUN")
    found = ratio(frame)
    assert [found[name] for name in ("effectiveness", "oee", "nee", "tpm_performance")] == [None] * 4
    assert found["reason"] == "COUNT_WITHOUT_RUN"


def test_parts_of_a_product_without_order_or_states_appear_in_their_own_row():
    frame = elements(
        states(unit="PRESS"), counts(("gear", at(9), 5, 1, 2)), site(shifts=[EARLY], products=[GEAR]), work_order=orders()
    )
    assert frame.select("material_definition_id", "pot_s", "unknown_s", "pq", "gq", "sq", "rq", "data_quality").rows() == [
        ("gear", 0.0, 0.0, 8, 5, 1, 2, "COUNT_WITHOUT_RUN"),
        (None, 28800.0, 28800.0, 0, 0, 0, 0, "UNKNOWN_TIME"),
    ]


def test_performance_over_100_percent_is_kept_and_flagged():
    # 8 h = 480 ideal cycles of 60 s, 600 made
    frame = elements(
        states(("RUN", at(6), at(14))), counts(("shaft", at(13), 600, 0, 0)), site(shifts=[EARLY], products=[SHAFT])
    )
    assert frame["data_quality"].to_list() == ["SUSPECT_IDEAL_CYCLE"]
    found = ratio(frame)
    assert (found["effectiveness"], found["oee"], found["suspect_ideal_cycle"]) == (1.25, 1.25, True)


def test_an_effectiveness_of_exactly_1_is_not_suspect():
    # 7 h 45 min are 27900 s = 3000 * 9.3 s, in floating point 27900.000000000004
    assert 3000 * 9.3 > 27900
    cycle = ("shaft", "CNC", 9.3, LONG_AGO, None)
    running = states(("RUN", at(6), at(13, 45)), ("IDLE", at(13, 45), at(14)))
    frame = elements(running, counts(("shaft", at(13), 3000, 0, 0)), site(shifts=[EARLY], products=[cycle]))
    assert frame.select("apt_s", "data_quality").row(0) == (27900.0, None)
    assert ratio(frame)["suspect_ideal_cycle"] is False


def test_parts_without_an_ideal_cycle_leave_the_ratios_empty():
    frame = elements(states(("RUN", at(6), at(14))), counts(("shaft", at(9), 10, 0, 0)), site(shifts=[EARLY]))
    assert frame.select("pri_s", "data_quality").row(0) == (None, "NO_IDEAL_CYCLE")
    found = ratio(frame)
    assert [found[name] for name in ("availability", "effectiveness", "quality", "oee")] == [1.0, None, None, None]
    assert found["reason"] == "NO_IDEAL_CYCLE"


def test_the_ideal_cycle_in_force_at_the_start_of_the_shift_counts():
    old = ("shaft", "CNC", 60.0, LONG_AGO, at(14))
    new = ("shaft", "CNC", 50.0, at(14), None)
    frame = elements(states(("RUN", at(6), at(22))), counts(), site(shifts=[EARLY, LATE], products=[new, old]))
    assert frame.select("shift_id", "pri_s").rows() == [("early", 60.0), ("late", 50.0)]


def test_an_ideal_cycle_that_changes_in_mid_shift_counts_from_the_next_shift_on():
    old = ("shaft", "CNC", 60.0, LONG_AGO, at(10))
    new = ("shaft", "CNC", 50.0, at(10), None)
    frame = elements(states(("RUN", at(6), at(22))), counts(), site(shifts=[EARLY, LATE], products=[new, old]))
    assert frame.select("shift_id", "pri_s").rows() == [("early", 60.0), ("late", 50.0)]


def test_a_count_on_the_border_of_two_shifts_belongs_to_the_one_that_ends():
    produced = counts(("shaft", at(14), 7, 0, 0), ("shaft", at(14, 0, 1), 1, 0, 0), ("shaft", at(6), 3, 0, 0))
    frame = elements(states(("RUN", at(6), at(22))), produced, site(shifts=[EARLY, LATE], products=[SHAFT]))
    assert frame.select("shift_id", "pq").rows() == [("early", 10), ("late", 1)]


def test_a_count_on_the_border_of_two_dates_belongs_to_the_night_that_ends():
    produced = counts(("shaft", at(6, day=11), 4, 0, 0), ("shaft", at(6, 0, 1, day=11), 1, 0, 0))
    plant = site(products=[SHAFT])
    running = states(("RUN", at(6)))
    found = [elements(running, produced, plant, day=day).filter(pl.col("pq") > 0) for day in (DAY, date(2026, 3, 11))]
    assert [frame.select("shift_id", "pq").rows() for frame in found] == [[("night", 4)], [("early", 1)]]


def test_a_count_on_the_border_of_two_dates_belongs_to_the_date_that_begins_where_no_shift_ends():
    produced = counts(("shaft", at(6, day=11), 4, 0, 0))
    plant = site(shifts=[EARLY], products=[SHAFT])
    running = states(("RUN", at(6)))
    found = [elements(running, produced, plant, day=day)["pq"].sum() for day in (DAY, date(2026, 3, 11))]
    assert found == [0, 4]
    assert counts_outside_shifts(produced, plant, DAY, LATER).is_empty()


def test_parts_made_after_midnight_belong_to_the_night_shift():
    frame = elements(
        states(("RUN", at(22))), counts(("shaft", at(3, day=11), 9, 0, 0)), site(shifts=[NIGHT], products=[SHAFT]), as_of=LATER
    )
    assert frame.select("production_date", "shift_id", "pq").rows() == [(DAY, "night", 9)]


def test_parts_counted_outside_all_shifts_are_listed_and_not_set_against_any_time():
    produced = counts(("shaft", at(13), 1, 0, 0), ("shaft", at(20), 2, 0, 0))
    plant = site(shifts=[EARLY], products=[SHAFT])
    assert elements(states(("RUN", at(6), at(14))), produced, plant)["pq"].sum() == 1
    outside = counts_outside_shifts(produced, plant, DAY, LATER)
    assert outside.columns == produced.columns
    assert outside["good_quantity"].to_list() == [2]


def test_counts_after_as_of_do_not_exist_yet():
    produced = counts(("shaft", at(9), 1, 0, 0), ("shaft", at(11), 2, 0, 0))
    plant = site(shifts=[EARLY], products=[SHAFT])
    frame = elements(states(("RUN", at(6), at(14))), produced, plant, as_of=at(10))
    assert frame.select("pot_s", "apt_s", "pq", "as_of").rows() == [(14400.0, 14400.0, 1, at(10))]


def test_no_elements_give_no_ratios():
    assert oee_ratios(OEE_ELEMENTS.empty(), ["equipment_id"]).is_empty()

"""Production cases worked out by hand: every expected figure is an exact fraction, derived in a comment beside it."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from spc_platform.cli.oee_file import Request, oee_document
from spc_platform.errors import SiteError
from spc_platform.production.losses import changeovers, oee_losses, scrap_reasons, six_losses
from spc_platform.production.oee import oee_elements, oee_ratios
from spc_platform.production.reliability import reliability
from spc_platform.production.states import downtime_events, state_intervals
from spc_platform_tests.unit.production_site import EARLY, counts, orders, site, states, utc

THREE = ("early=06:00-14:00", "late=14:00-22:00", "night=22:00-06:00")
STATES = "equipment_id,state,start_at,end_at"
COUNTS = "equipment_id,counted_at,product,good,scrap,rework"


@pytest.fixture
def study(tmp_path: Path):
    """Writes files of lines, each with its header, and gives the document of `spc oee`."""

    def run(states: list[str], counts: list[str] | None = None, **options: Any) -> dict[str, Any]:
        files = {"states": [STATES, *states]}
        if counts is not None:
            files["counts"] = [COUNTS, *counts]
        for role in ("calendar", "products", "orders", "equipment"):
            if role in options:
                files[role] = options.pop(role)
        paths = {}
        for role, lines in files.items():
            paths[role] = tmp_path / f"{role}.csv"
            paths[role].write_text("\n".join(lines) + "\n")
        document = oee_document(Request(**{**paths, **options}))
        for line in (document["total"], *document["groups"]):
            assert line["partition_error_s"] == 0
        return document

    return run


def by_shift(document: dict[str, Any], *names: str) -> dict[tuple[str, str], list[Any]]:
    """Elements or counts by (date, shift)."""
    return {
        (line["group"]["date"], line["group"]["shift"]): [(line["elements"] | line["counts"])[name] for name in names]
        for line in document["groups"]
    }


def test_parts_told_at_the_end_of_the_night_belong_to_the_night_whatever_begins_then(study):
    # Hourly totals, the last of each shift on the border. 10 a shift; nothing may wander into the next one, and the
    # border of the night shift at 06:00 is that of two dates.
    counts = [
        f"CNC,2026-03-{day}T{hour}:00:00Z,shaft,10,0,0" for day, hour in (("10", 14), ("10", 22), ("11", "06"), ("11", 14))
    ]
    document = study(
        ["CNC,RUN,2026-03-10T06:00:00Z,2026-03-11T14:00:00Z"], counts, shifts=THREE, by=("date", "shift"), pri=2880.0
    )
    assert by_shift(document, "pq", "pot_s") == {
        ("2026-03-10", "early"): [10, 28800],
        ("2026-03-10", "late"): [10, 28800],
        ("2026-03-10", "night"): [10, 28800],
        ("2026-03-11", "early"): [10, 28800],
    }
    # 10 parts of 2880 s in 8 h of 3600 s: OEE 1
    assert {line["iso_22400"]["oee"] for line in document["groups"]} == {1.0}


def test_the_count_that_closes_a_single_night_is_neither_lost_nor_a_shift_of_its_own(study):
    document = study(
        ["CNC,RUN,2026-03-10T22:00:00Z,2026-03-11T06:00:00Z"],
        ["CNC,2026-03-11T06:00:00Z,shaft,240,0,0"],
        shifts=THREE,
        by=("date", "shift"),
        pri=60.0,
    )
    # 240 parts of 60 s in 8 h
    (line,) = document["groups"]
    assert line["group"] == {"date": "2026-03-10", "shift": "night"}
    assert line["iso_22400"]["oee"] == float(Fraction(240 * 60, 8 * 3600))


def test_parts_after_the_last_shift_and_before_the_first_one_are_named_not_dropped(study):
    document = study(
        ["CNC,RUN,2026-03-10T06:00:00Z,2026-03-10T14:00:00Z"],
        [
            "CNC,2026-03-09T20:00:00Z,shaft,3,0,0",
            "CNC,2026-03-10T10:00:00Z,shaft,5,0,0",
            "CNC,2026-03-12T03:00:00Z,shaft,4,0,0",
        ],
        shifts=("early=06:00-14:00",),
        pri=60.0,
        as_of="2026-03-12T05:00:00Z",
    )
    assert document["total"]["counts"]["pq"] == 5
    found = [(row["row"], row["code"]) for row in document["resolved"] if row["table"] == "counts"]
    assert found == [(1, "OUTSIDE_SHIFTS"), (3, "OUTSIDE_SHIFTS")]


def test_a_fraction_of_a_second_is_the_float_nearest_to_it(study):
    # 06:00:00 to 06:01:37.579614 is 97.579614 s; a product with 1e-6 would give 97.57961399999999
    document = study(
        ["CNC,RUN,2026-03-10T06:00:00Z,2026-03-10T06:01:37.579614Z"],
        shifts=("early=06:00-14:00",),
        pri=60.0,
        as_of="2026-03-10T14:00:00Z",
    )
    (row,) = document["elements"]
    assert (row["apt_s"], row["unknown_s"], row["pot_s"]) == (97.579614, 28702.420386, 28800.0)
    assert document["total"]["iso_22400"]["availability"] == float(Fraction(97579614, 28800 * 10**6))


def test_a_dated_shift_of_a_whole_day_keeps_the_hours_that_the_clock_change_gives_it(study):
    # Berlin: 06:00 to 06:00 are 25 h on the night of 25 October and 23 h on that of 29 March 2026.
    header = "kind,shift_id,start_at,end_at"
    autumn = study(
        ["CNC,RUN,2026-10-24T04:00:00Z,2026-10-25T05:00:00Z"],
        calendar=[header, "shift,day,2026-10-24T06:00:00+02:00,2026-10-25T06:00:00+01:00"],
        zone="Europe/Berlin",
        pri=60.0,
    )
    assert autumn["total"]["elements"]["apt_s"] == autumn["total"]["elements"]["pot_s"] == 25 * 3600
    spring = study(
        ["CNC,RUN,2026-03-28T05:00:00Z,2026-03-29T04:00:00Z"],
        calendar=[header, "shift,day,2026-03-28T06:00:00+01:00,2026-03-29T06:00:00+02:00"],
        zone="Europe/Berlin",
        pri=60.0,
    )
    assert spring["total"]["elements"]["apt_s"] == spring["total"]["elements"]["pot_s"] == 23 * 3600


def test_a_dated_shift_that_the_clock_shows_as_more_than_a_day_is_refused_not_shortened(study):
    # 24 h over the spring change run from 06:00 to 07:00 of the next day: no rule of the clock says 25 hours of a day
    with pytest.raises(SiteError, match=r"SPC-419.*TOO_LONG"):
        study(
            ["CNC,RUN,2026-03-28T05:00:00Z,2026-03-29T05:00:00Z"],
            calendar=["kind,shift_id,start_at,end_at", "shift,day,2026-03-28T06:00:00+01:00,2026-03-29T07:00:00+02:00"],
            zone="Europe/Berlin",
            pri=60.0,
        )


@pytest.mark.parametrize("seed", range(4))
def test_signals_that_speak_at_one_instant_give_the_same_states_in_any_order(tmp_path, seed):
    lines = [
        "CNC,execution,READY,2026-03-10T06:00:00Z",
        "CNC,execution,ACTIVE,2026-03-10T07:00:00Z",
        "CNC,execution,INTERRUPTED,2026-03-10T07:00:00Z",
        "CNC,execution,UNAVAILABLE,2026-03-10T08:00:00Z",
        "CNC,execution,ACTIVE,2026-03-10T08:00:00Z",
        "CNC,mode,AUTOMATIC,2026-03-10T07:00:00Z",
        "CNC,mode,MANUAL,2026-03-10T09:00:00Z",
    ]
    random.Random(seed).shuffle(lines)
    (tmp_path / "signals.csv").write_text("\n".join(["equipment_id,signal,value,at", *lines]) + "\n")
    request = Request(signals=tmp_path / "signals.csv", shifts=("early=06:00-14:00",), pri=60.0, as_of="2026-03-10T14:00:00Z")
    elements = oee_document(request)["total"]["elements"]
    # 06 IDLE; 07 INTERRUPTED (behind ACTIVE in the alphabet) STOP; 08 ACTIVE (rather than UNAVAILABLE) RUN; 09 by hand SETUP
    assert [elements[name] for name in ("adot_s", "adet_s", "apt_s", "aust_s")] == [3600, 3600, 3600, 5 * 3600]


def test_the_sequence_of_a_log_says_which_of_two_signals_at_one_instant_came_last(tmp_path):
    lines = ["CNC,execution,INTERRUPTED,2026-03-10T06:00:00Z,7", "CNC,execution,ACTIVE,2026-03-10T06:00:00Z,8"]
    for order in (lines, lines[::-1]):
        (tmp_path / "signals.csv").write_text("\n".join(["equipment_id,signal,value,at,sequence", *order]) + "\n")
        request = Request(
            signals=tmp_path / "signals.csv", shifts=("early=06:00-14:00",), pri=60.0, as_of="2026-03-10T14:00:00Z"
        )
        assert oee_document(request)["total"]["elements"]["apt_s"] == 8 * 3600


@pytest.mark.parametrize(
    ("zone", "day", "day_start"),
    [
        ("America/Chicago", date(2026, 11, 1), "01:30"),
        ("America/Chicago", date(2026, 3, 8), "02:30"),
        ("Europe/Berlin", date(2026, 10, 25), "02:00"),
        ("Europe/Berlin", date(2026, 10, 25), "02:59"),
        ("Europe/Berlin", date(2026, 3, 29), "02:15"),
        ("Australia/Lord_Howe", date(2026, 4, 5), "01:45"),
        ("Australia/Lord_Howe", date(2026, 10, 4), "02:10"),
        ("Africa/Cairo", date(2026, 10, 29), "23:30"),
        ("America/Havana", date(2026, 3, 8), "00:00"),
        ("Asia/Kolkata", date(2026, 3, 8), "00:30"),
        ("Europe/Berlin", date(2026, 10, 25), "06:00"),
    ],
)
def test_a_production_date_begins_once_at_its_first_clock_time(zone, day, day_start):
    # Begin of each date: its clock time, the first where shown twice, before the change where skipped (PEP 495, fold=0).
    start = time.fromisoformat(day_start)
    near = [day + timedelta(days=offset) for offset in range(-3, 4)]
    begins = {datetime.combine(one, start, ZoneInfo(zone)).astimezone(UTC): one for one in near}
    first = min(begins) + timedelta(days=1)
    instants = [first + timedelta(minutes=minute) for minute in range(4 * 24 * 60)]
    expected = [begins[max(begun for begun in begins if begun <= at)] for at in instants]
    plant = site(zone, day_start=day_start)
    found = pl.DataFrame({"at": instants}, schema={"at": pl.Datetime("us", "UTC")}).select(plant.production_date(pl.col("at")))
    assert found["at"].to_list() == expected


def test_parts_of_the_repeated_hour_stay_in_the_shift_that_begins_in_it(study):
    # Chicago, 1 November 2026: 01:30 is first 06:30Z. The shift until 09:30 CST (15:30Z) lasts 9 h; 07:10Z is its 40th minute.
    document = study(
        ["CNC,RUN,2026-11-01T06:30:00Z,2026-11-01T15:30:00Z"],
        [
            "CNC,2026-11-01T06:40:00Z,shaft,1,0,0",
            "CNC,2026-11-01T07:10:00Z,shaft,3,0,0",
            "CNC,2026-11-01T07:40:00Z,shaft,4,0,0",
        ],
        shifts=("early=01:30-09:30",),
        zone="America/Chicago",
        by=("date", "shift"),
        pri=60.0,
    )
    assert by_shift(document, "pq", "apt_s", "pot_s") == {("2026-11-01", "early"): [8, 9 * 3600, 9 * 3600]}


DAY = date(2026, 3, 10)


def at(hour: int, minute: int = 0, second: int = 0, day: int = 10) -> datetime:
    return utc(2026, 3, day, hour, minute, second)


def test_a_record_without_length_ends_no_open_state_in_the_lake_as_in_a_file(study):
    plant = site(shifts=[EARLY])
    records = states(("RUN", at(6)), ("STOP", at(8), at(8)), ("RUN", at(13), at(14)))
    found = state_intervals(records, orders(), plant, DAY, at(0, day=12)).filter(pl.col("equipment_id") == "CNC")
    assert found.filter(pl.col("time_element") == "APT")["duration_s"].sum() == 8 * 3600
    document = study(
        [
            "CNC,RUN,2026-03-10T06:00:00Z,",
            "CNC,STOP,2026-03-10T08:00:00Z,2026-03-10T08:00:00Z",
            "CNC,RUN,2026-03-10T13:00:00Z,",
        ],
        shifts=("early=06:00-14:00",),
        pri=60.0,
    )
    assert document["total"]["elements"]["apt_s"] == 8 * 3600


@pytest.fixture
def two_products():
    """One early shift of the CNC with two products, a stop across a break, and a setup between the products.

    06:00 RUN shaft, 08:00 STOP tool until 08:12, 09:00 STOP jam until 09:04, 09:58 STOP tool until 10:40 across the break
    10:00 to 10:30, 11:00 SETUP until 11:20, IDLE until 11:30, RUN gear until 14:00. Maintenance 12:00 to 13:00 was
    recorded at 12:20.
    """
    plant = site(
        shifts=[EARLY],
        breaks=[("early", "*", "10:00", "10:30", "")],
        calendar=[("m1", "CNC", "planned_maintenance", at(12), at(13), at(12, 20), "")],
        products=[("shaft", "CNC", 60.0, utc(2026, 1, 1), None), ("gear", "CNC", 7.5, utc(2026, 1, 1), None)],
        reasons=[("jam", "", None, "minor_stoppage"), ("tool", "", None, "breakdown"), ("start", "", None, "reduced_yield")],
    )
    records = states(
        ("RUN", at(6), at(14)),
        ("STOP", at(8), at(8, 12), "tool"),
        ("STOP", at(9), at(9, 4), "jam"),
        ("STOP", at(9, 58), at(10, 40), "tool"),
        ("SETUP", at(11), at(11, 20)),
        ("IDLE", at(11, 20), at(11, 30)),
        ("RUN", at(11, 30), at(14)),
    )
    # IDLE has a lower priority than the long RUN: give the run of shafts its own end
    records = records.with_columns(end_at=pl.when(pl.col("start_at") == at(6)).then(pl.lit(at(11))).otherwise("end_at"))
    work = orders(("A", "shaft", at(6), at(11)), ("B", "gear", at(11), at(14)))
    made = counts(("shaft", at(10, 50), 190, 6, 4), ("gear", at(13, 59), 700, 0, 20))
    return plant, records, work, made


def test_two_products_in_one_shift_by_hand(two_products):
    plant, records, work, made = two_products
    intervals = state_intervals(records, work, plant, DAY, at(0, day=12))
    elements = oee_elements(intervals, made, plant, DAY, at(0, day=12)).filter(pl.col("equipment_id") == "CNC")
    minutes = {
        row["material_definition_id"]: [
            row[f"{name}_s"] / 60 for name in ("pot", "pdt", "apt", "aust", "adet", "minor_stop", "adot")
        ]
        for row in elements.to_dicts()
    }
    # shaft 06-11: 300; break 30; stops 12 + 4 + (2 + 10) = 28, of which the 4 are minor (the 2 before the break belong to a
    # stop of 42); runs 300 - 30 - 28 = 242
    assert minutes["shaft"] == [300, 30, 242, 0, 28, 4, 0]
    # gear 11-14: 180; planned from the recording at 12:20 on: 40; setup 20, idle 10; runs 180 - 40 - 30 = 110
    assert minutes["gear"] == [180, 40, 110, 20, 0, 0, 10]
    (total,) = oee_ratios(elements, []).to_dicts()
    # PBT 410; PRI 1 min and 1/8 min: ideal 200 + 720/8 = 290 of 352 min; good 190 + 700/8 = 277.5
    exact = {
        "availability": Fraction(352, 410),
        "effectiveness": Fraction(290, 352),
        "quality": Fraction(555, 2) / 290,
        "oee": Fraction(555, 2) / 410,
        "nee": Fraction(372, 410) * Fraction(555, 2) / 352,
        "tpm_availability": Fraction(356, 410),
        "tpm_performance": Fraction(290, 356),
        "technical_efficiency": Fraction(352, 352 + 28),
        "utilization_efficiency": Fraction(352, 400),
        "allocation_efficiency": Fraction(400, 410),
        "setup_rate": Fraction(20, 372),
        "throughput_per_h": Fraction(60 * 920, 400),
        "first_pass_yield": Fraction(890, 920),
    }
    assert {name: total[name] for name in exact} == pytest.approx({n: float(value) for n, value in exact.items()}, rel=1e-15)


def test_six_losses_of_two_products_share_out_the_busy_time_by_hand(two_products):
    plant, records, work, made = two_products
    # the 6 shafts were scrapped at start-up: reduced yield; the 4 and 20 reworked parts are process defects
    reasoned = made.with_columns(reason_code=pl.when(pl.col("scrap_quantity") > 0).then(pl.lit("start")))
    intervals = state_intervals(records, work, plant, DAY, at(0, day=12))
    elements = oee_elements(intervals, reasoned, plant, DAY, at(0, day=12))
    scrap = scrap_reasons(reasoned, elements, plant, DAY, at(0, day=12))
    losses = oee_losses(elements, intervals, scrap, plant).filter(pl.col("equipment_id") == "CNC")
    (row,) = six_losses(losses, []).to_dicts()
    minutes = {name.removesuffix("_s"): row[name] / 60 for name in row if name.endswith("_s")}
    # one count row holds 6 scrapped and 4 reworked shafts, so its reason speaks for all 10
    assert minutes == {
        "pbt": 410,
        "equipment_failure": 24,  # 12 + 12 of the stop across the break
        "setup_and_adjustment": 20,
        "idling_and_minor_stops": 4,
        "reduced_speed": 62,  # 352 - 290
        "process_defects": 2.5,  # 20 gears of 1/8 min
        "reduced_yield": 10,
        "no_order": 10,
        "unknown": 0,
        "value_adding": 277.5,
    }
    assert sum(value for name, value in minutes.items() if name != "pbt") == 410


def test_changeover_and_failures_by_hand(two_products):
    plant, records, work, _ = two_products
    intervals = state_intervals(records, work, plant, DAY, at(0, day=12))
    (change,) = changeovers(intervals.filter(pl.col("equipment_id") == "CNC")).to_dicts()
    # from the last shaft at 11:00 to the first gear at 11:30: 20 of setup, 10 idle
    assert (change["start_at"], change["end_at"], change["setup_s"], change["duration_s"]) == (at(11), at(11, 30), 1200, 1800)
    stops = downtime_events(records, plant, DAY, at(0, day=12))
    found = reliability(stops, intervals, plant, DAY, DAY).filter(pl.col("equipment_id") == "CNC").row(0, named=True)
    # failures at 08:00 (12 min) and 09:58 (42 min as recorded, through the break); 352 min of running in all
    assert found["failures"] == 2
    assert found["mtbf_s"] == float(Fraction(352 * 60, 2))
    assert found["mttr_s"] == float(Fraction((12 + 42) * 60, 2))
    # before 09:58: 238 min less 12 and 4
    assert found["mttf_s"] == float(Fraction(222 * 60, 2))
    assert found["availability"] == pytest.approx(float(Fraction(176, 176 + 27)), rel=1e-15)


@pytest.mark.parametrize(
    ("refused", "code"),
    [
        ("CNC,UNAVAILABLE,2026-03-10T07:00:00Z,", "UNKNOWN_STATE"),
        ("CNC,,2026-03-10T07:00:00Z,", "STATE_MISSING"),
        ("CNC,STOP,2026-03-10T07:00:00Z,2026-03-10T06:59:00Z", "END_BEFORE_START"),
        ("CNC,STOP,2026-03-10T07:00:00Z,soon", "UNREADABLE"),
    ],
)
def test_a_refused_row_does_not_let_the_state_before_it_run_on(study, refused, code):
    # RUN 06:00 to 07:00, then something that cannot be used, RUN again from 08:00: 7 h of RUN, 1 h UNKNOWN
    document = study(
        ["CNC,RUN,2026-03-10T06:00:00Z,", refused, "CNC,RUN,2026-03-10T08:00:00Z,2026-03-10T14:00:00Z"],
        shifts=("early=06:00-14:00",),
        pri=60.0,
    )
    assert [row["code"] for row in document["rejected"]] == [code]
    elements = document["total"]["elements"]
    assert (elements["apt_s"], elements["unknown_s"]) == (7 * 3600, 3600)
    (gap,) = document["gaps"]
    assert (gap["start_at"], gap["end_at"]) == ("2026-03-10T07:00:00Z", "2026-03-10T08:00:00Z")


def test_a_night_whose_first_hours_are_a_holiday_keeps_its_date(study):
    # 25 December is a holiday until midnight, Berlin: of the night of the 25th the 6 h after midnight are left. Those of the
    # 26th are another shift.
    document = study(
        ["CNC,RUN,2026-12-25T21:00:00Z,2026-12-27T05:00:00Z"],
        ["CNC,2026-12-26T01:00:00Z,shaft,90,0,0", "CNC,2026-12-26T23:00:00Z,shaft,120,0,0"],
        calendar=["kind,start_at,end_at", "holiday,2026-12-25 00:00:00,2026-12-26 00:00:00"],
        shifts=("night=22:00-06:00",),
        zone="Europe/Berlin",
        by=("date", "shift"),
        pri=120.0,
    )
    assert by_shift(document, "pot_s", "apt_s", "pq") == {
        ("2026-12-25", "night"): [6 * 3600, 6 * 3600, 90],
        ("2026-12-26", "night"): [8 * 3600, 8 * 3600, 120],
    }
    assert [line["iso_22400"]["oee"] for line in document["groups"]] == [0.5, 0.5]

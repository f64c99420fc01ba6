"""`spc oee`: hand-worked cases with exact fractions, and rows that a file should not have."""

from __future__ import annotations

import itertools
import json
import random
from fractions import Fraction
from pathlib import Path

import polars as pl
import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from spc_platform.cli.main import app
from spc_platform.cli.oee_file import Request, oee_document
from spc_platform.cli.oee_text import oee_text
from spc_platform.errors import ContractError, SiteError
from spc_platform.settings import REPOSITORY

SCHEMA = json.loads((REPOSITORY / "docs" / "reference" / "oee.schema.json").read_text())
STATES = "equipment_id,state,start_at,end_at,reason_code"
COUNTS = "equipment_id,counted_at,material_definition_id,good_quantity,scrap_quantity,rework_quantity"
EARLY = ("early=06:00-14:00",)
THREE = ("early=06:00-14:00", "late=14:00-22:00", "night=22:00-06:00")
ORACLE = [
    "CNC,RUN,2026-03-10T06:00:00Z,2026-03-10T14:00:00Z,",
    "CNC,SETUP,2026-03-10T07:00:00Z,2026-03-10T07:30:00Z,",
    "CNC,STOP,2026-03-10T08:00:00Z,2026-03-10T08:25:00Z,tool",
    *(f"CNC,STOP,2026-03-10T09:{n}0:00Z,2026-03-10T09:{n}3:00Z,jam" for n in range(5)),
]
MADE = ["CNC,2026-03-10T11:00:00Z,shaft,200,4,3", "CNC,2026-03-10T13:00:00Z,shaft,140,2,1"]


@pytest.fixture
def given(tmp_path: Path):
    """Writes files of lines and gives the document of a study of them."""

    def study(states, counts=None, *, header=STATES, counted=COUNTS, files=None, **options):
        paths = {"states": tmp_path / "states.csv"}
        paths["states"].write_text("\n".join([header, *states]) + "\n")
        if counts is not None:
            paths["counts"] = tmp_path / "counts.csv"
            paths["counts"].write_text("\n".join([counted, *counts]) + "\n")
        for name, lines in (files or {}).items():
            paths[name] = tmp_path / f"{name}.csv"
            paths[name].write_text("\n".join(lines) + "\n")
        document = oee_document(Request(**{"shifts": EARLY, "pri": 60.0, **paths, **options}))
        Draft202012Validator(SCHEMA).validate(document)
        for line in [document["total"], *document["groups"]]:
            assert line["partition_error_s"] == 0
            counts_of = line["counts"]
            assert counts_of["pq"] == counts_of["gq"] + counts_of["sq"] + counts_of["rq"]
        return document

    return study


def codes(document, kind):
    return [(row["table"], row["row"], row["code"]) for row in document[kind]]


def minutes(line, *names):
    return [line["elements"][f"{name}_s"] / 60 for name in names]


def test_the_oracle_of_iso_22400_and_tpm_from_files(given):
    # DOMAIN 5: POT 480, planned down 30, setup 30, delays 40 (15 minor), PRI 1, PQ 350, GQ 340 minutes
    total = given(ORACLE, MADE, breaks=("12:00-12:30",))["total"]
    assert minutes(total, "pot", "pdt", "pbt", "apt", "aust", "adet", "minor_stop") == [480, 30, 450, 380, 30, 40, 15]
    assert total["iso_22400"] == pytest.approx(
        {
            "availability": float(Fraction(380, 450)),
            "effectiveness": float(Fraction(350, 380)),
            "quality": float(Fraction(340, 350)),
            "oee": float(Fraction(340, 450)),
            "nee": float(Fraction(410, 450) * Fraction(340, 380)),
        },
        rel=1e-15,
    )
    assert total["tpm"] == pytest.approx(
        {
            "availability": float(Fraction(395, 450)),
            "performance": float(Fraction(350, 395)),
            "quality": float(Fraction(340, 350)),
            "oee": float(Fraction(340, 450)),
        },
        rel=1e-15,
    )


def test_any_order_and_repetition_of_rows_gives_the_same_figures(given):
    first = given(ORACLE, MADE, breaks=("12:00-12:30",), by=("shift", "unit"))
    states, counts = [*ORACLE, ORACLE[3]], [*MADE, MADE[0]]
    random.Random(5).shuffle(states)
    random.Random(6).shuffle(counts)
    again = given(states, counts, breaks=("12:00-12:30",), by=("shift", "unit"))
    for part in ("total", "groups", "elements", "gaps"):
        assert again[part] == first[part]
    assert [code for _, _, code in codes(again, "resolved")].count("DUPLICATE") == 2


def test_a_stop_across_two_shifts_keeps_its_class_and_is_split_to_the_second(given):
    # 4 minutes before the border and 4 after: 8 minutes are no minor stoppage of either shift
    rows = ["CNC,RUN,2026-03-10T06:00:00Z,2026-03-10T22:00:00Z,", "CNC,STOP,2026-03-10T13:56:00Z,2026-03-10T14:04:00Z,"]
    document = given(rows, shifts=THREE, by=("shift",), as_of="2026-03-10T22:00:00Z")
    found = {line["group"]["shift"]: minutes(line, "adet", "minor_stop", "apt") for line in document["groups"]}
    assert found == {"early": [4, 0, 476], "late": [4, 0, 476]}


def test_a_night_shift_keeps_what_was_made_after_midnight_on_its_starting_date(given):
    rows = ["CNC,RUN,2026-03-10T22:00:00Z,2026-03-11T06:00:00Z,"]
    document = given(rows, ["CNC,2026-03-11T03:00:00Z,shaft,240,0,0"], shifts=("night=22:00-06:00",), by=("date", "shift"))
    (line,) = document["groups"]
    assert line["group"] == {"date": "2026-03-10", "shift": "night"}
    assert line["iso_22400"]["oee"] == float(Fraction(240, 480))


@pytest.mark.parametrize(
    ("zone", "spring", "autumn"),
    [("Europe/Berlin", "2026-03-28", "2026-10-24"), ("America/New_York", "2026-03-07", "2026-10-31")],
)
def test_a_night_of_a_clock_change_lasts_seven_or_nine_hours(given, zone, spring, autumn):
    # EU: 29 March, 25 October 2026; US: 8 March, 1 November 2026. The night shift begins on the evening before.
    for day, hours in ((spring, 7), (autumn, 9)):
        rows = [f"CNC,RUN,{day} 22:00:00,,"]
        document = given(rows, shifts=("night=22:00-06:00",), zone=zone)
        assert minutes(document["total"], "pot", "apt") == [hours * 60, hours * 60]


def test_a_row_of_a_clock_in_1970_or_2099_is_refused_and_makes_no_study_of_decades(given):
    good = ["CNC,RUN,2026-03-10T06:00:00Z,2026-03-10T10:00:00Z,", "CNC,STOP,2026-03-10T10:00:00Z,,"]
    bad = [
        "CNC,RUN,1970-01-01T00:00:00Z,1970-01-01T00:10:00Z,",
        "CNC,RUN,2099-01-01T00:00:00Z,,",
        "CNC,RUN,2026-03-10T12:00:00Z,2126-03-10T13:00:00Z,",
    ]
    made = ["CNC,2026-03-10T09:00:00Z,shaft,200,4,3", "CNC,1980-01-06T00:00:00Z,shaft,9,0,0"]
    document = given([*bad, *good], made)
    assert codes(document, "rejected") == [
        ("counts", 2, "FAR_AWAY"),
        ("states", 1, "FAR_AWAY"),
        ("states", 2, "FAR_AWAY"),
        ("states", 3, "FAR_AWAY"),
    ]
    # the stop is open until the unit says something else at 12:00, which is refused: UNKNOWN from there on
    assert minutes(document["total"], "pot", "apt", "adet", "unknown") == [480, 240, 120, 120]
    assert document["total"]["counts"]["pq"] == 207
    # asked until an instant, a state that ends later is clipped there, wherever its end lies
    clipped = given([bad[2], *good], as_of="2026-03-10T14:00:00Z")
    assert clipped["rejected"] == []


def test_a_log_of_several_years_without_a_year_of_silence_is_whole(given):
    rows = [f"CNC,RUN,{year}-03-10T06:00:00Z,{year}-03-10T14:00:00Z," for year in (2024, 2025, 2026)]
    assert given(rows, by=("date",))["rejected"] == []


def test_a_header_without_rows_says_that_there_was_nothing(given):
    document = given(ORACLE, [], files={"calendar": ["kind,start_at,end_at,recorded_at"]}, breaks=("12:00-12:30",))
    assert minutes(document["total"], "apt", "pdt") == [380, 30]
    assert (document["total"]["iso_22400"]["oee"], document["total"]["reason"]) == (0.0, "NOTHING_PRODUCED")
    with pytest.raises(ContractError, match="SPC-381"):
        given([])


def test_a_time_that_the_clock_shows_twice_or_never_is_refused_with_its_row(given):
    rows = [
        "CNC,RUN,2026-10-25 01:00:00,2026-10-25 02:30:00,",
        "CNC,RUN,2026-10-25T02:30:00+02:00,2026-10-25T02:30:00+01:00,",
        "CNC,RUN,2026-03-29 02:30:00,2026-03-29 04:00:00,",
    ]
    document = given(rows, shifts=("night=22:00-06:00",), zone="Europe/Berlin")
    assert codes(document, "rejected") == [("states", 1, "UNREADABLE"), ("states", 3, "UNREADABLE")]
    told = [row["detail"] for row in document["rejected"]]
    assert "shown twice by the clock of Europe/Berlin" in told[0]
    assert "skipped by the clock of Europe/Berlin" in told[1]
    assert minutes(document["total"], "apt") == [60]


def test_a_product_change_in_mid_shift_weighs_each_product_with_its_ideal_cycle(given):
    files = {
        "orders": ["equipment_id,product,start_at,end_at", "CNC,shaft,2026-03-10T05:00:00Z,2026-03-10T09:00:00Z",
                   "CNC,gear,2026-03-10T10:00:00Z,"],
        "products": ["product,pri_s", "shaft,60", "gear,30"],
    }  # fmt: skip
    made = ["CNC,2026-03-10T08:00:00Z,shaft,100,0,0", "CNC,2026-03-10T12:00:00Z,gear,300,20,0"]
    document = given(["CNC,RUN,2026-03-10T06:00:00Z,2026-03-10T14:00:00Z,"], made, files=files, pri=None, by=("product",))
    total = document["total"]["iso_22400"]
    # E = (60*100 + 30*320) / 28800, Q = (60*100 + 30*300) / (60*100 + 30*320)
    assert total["effectiveness"] == pytest.approx(float(Fraction(15600, 28800)), rel=1e-15)
    assert total["quality"] == pytest.approx(float(Fraction(15000, 15600)), rel=1e-15)
    assert {line["group"]["product"]: minutes(line, "apt")[0] for line in document["groups"]} == {
        "gear": 240,
        "shaft": 180,
        None: 60,
    }


def test_several_products_without_orders_still_sum_right_and_say_so(given):
    files = {"products": ["product,pri_s", "shaft,60", "gear,30"]}
    made = ["CNC,2026-03-10T08:00:00Z,shaft,100,0,0", "CNC,2026-03-10T12:00:00Z,gear,300,20,0"]
    document = given(["CNC,RUN,2026-03-10T06:00:00Z,2026-03-10T14:00:00Z,"], made, files=files, pri=None)
    assert document["total"]["iso_22400"]["oee"] == pytest.approx(float(Fraction(15000, 28800)), rel=1e-15)
    assert "no order says when which" in document["warnings"][0]


def test_effectiveness_above_one_is_kept_and_flagged(given):
    total = given(["CNC,RUN,2026-03-10T06:00:00Z,2026-03-10T14:00:00Z,"], ["CNC,2026-03-10T11:00:00Z,shaft,600,0,0"])["total"]
    assert total["iso_22400"]["effectiveness"] == float(Fraction(600, 480))
    assert total["suspect_ideal_cycle"] is True


def test_planned_maintenance_counts_from_its_recording_on_and_a_holiday_is_no_operation_time(given):
    calendar = [
        "kind,start_at,end_at,recorded_at",
        "planned_maintenance,2026-03-10T08:00:00Z,2026-03-10T09:00:00Z,2026-03-09T12:00:00Z",
        "planned_maintenance,2026-03-10T10:00:00Z,2026-03-10T11:00:00Z,2026-03-10T10:30:00Z",
        "holiday,2026-03-10T13:00:00Z,2026-03-10T14:00:00Z,2026-01-01T00:00:00Z",
    ]
    document = given(["CNC,STOP,2026-03-10T06:00:00Z,2026-03-10T14:00:00Z,"], files={"calendar": calendar})
    assert minutes(document["total"], "pot", "pdt", "pbt", "adet") == [420, 90, 330, 330]
    assert codes(document, "resolved") == [("calendar", 2, "RECORDED_LATE")]


def test_dated_shifts_of_a_calendar_are_all_planned_even_without_events(given):
    calendar = [
        "shift_id,start_at,end_at",
        "a,2026-03-10T06:00:00Z,2026-03-10T10:00:00Z",
        "b,2026-03-11T06:30:00Z,2026-03-11T08:00:00Z",
    ]
    document = given(
        ["CNC,RUN,2026-03-10T06:00:00Z,2026-03-10T07:00:00Z,"], shifts=(), files={"calendar": calendar}, by=("date", "shift")
    )
    found = {tuple(line["group"].values()): minutes(line, "pot", "unknown") for line in document["groups"]}
    assert found == {("2026-03-10", "a"): [240, 180], ("2026-03-11", "b"): [90, 90]}
    assert [gap["duration_s"] for gap in document["gaps"]] == [10800, 5400]


def test_a_dated_shift_that_begins_in_the_second_of_two_equal_hours_is_refused(given):
    # Berlin, 25 October 2026: 02:30 is 00:30Z and again 01:30Z
    calendar = [
        "shift_id,start_at,end_at",
        "n,2026-10-25T01:30:00Z,2026-10-25T05:00:00Z",
        "m,2026-10-25T05:00:00Z,2026-10-25T06:00:00Z",
    ]
    rows = ["CNC,RUN,2026-10-25T00:30:00Z,2026-10-25T06:00:00Z,"]
    document = given(rows, shifts=(), files={"calendar": calendar}, zone="Europe/Berlin")
    assert codes(document, "rejected") == [("calendar", 1, "SHOWN_TWICE")]
    assert minutes(document["total"], "pot", "apt") == [60, 60]


def test_an_open_state_is_clipped_at_as_of_and_later_rows_are_refused(given):
    rows = ["CNC,RUN,2026-03-10T06:00:00Z,,", "CNC,STOP,2026-03-10T09:00:00Z,,", "CNC,RUN,2026-03-10T12:00:00Z,,"]
    document = given(rows, ["CNC,2026-03-10T13:00:00Z,shaft,1,0,0"], as_of="2026-03-10T10:00:00Z")
    assert minutes(document["total"], "pot", "apt", "adet") == [240, 180, 60]
    assert codes(document, "rejected") == [("counts", 1, "IN_THE_FUTURE"), ("states", 3, "IN_THE_FUTURE")]
    assert ("states", 2, "OPEN") in codes(document, "resolved")


def test_without_as_of_an_open_state_lasts_until_the_end_of_its_shift_and_that_is_said(given):
    document = given(["CNC,RUN,2026-03-10T06:00:00Z,,"])
    assert minutes(document["total"], "pot", "apt") == [480, 480]
    assert document["as_of"] == "2026-03-10T14:00:00Z"
    assert "still open" in document["warnings"][0]


def test_missing_states_are_unknown_and_listed_with_their_times(given):
    rows = ["CNC,RUN,2026-03-10T06:00:00Z,2026-03-10T08:00:00Z,", "CNC,RUN,2026-03-10T09:00:00Z,2026-03-10T14:00:00Z,"]
    document = given(rows)
    assert minutes(document["total"], "apt", "unknown", "pot") == [420, 60, 480]
    assert [(gap["start_at"], gap["end_at"]) for gap in document["gaps"]] == [("2026-03-10T08:00:00Z", "2026-03-10T09:00:00Z")]


def test_rows_beyond_use_are_refused_with_their_reason(given):
    rows = [
        "CNC,RUN,2026-03-10T06:00:00Z,2026-03-10T14:00:00Z,",
        "CNC,STOP,2026-03-10T09:00:00Z,2026-03-10T08:00:00Z,",
        "LATHE,RUN,2026-03-10T06:00:00Z,,",
        "CNC,BROKEN,2026-03-10T06:00:00Z,,",
        ",RUN,2026-03-10T06:00:00Z,,",
        "CNC,RUN,tomorrow,,",
        "CNC,,2026-03-10T06:00:00Z,,",
        "CNC,STOP,2026-03-10T06:00:00Z,2026-03-10T06:00:00Z,",
        "CNC,STOP,2026-03-12T06:00:00Z,2026-03-12T07:00:00Z,",
    ]
    made = ["CNC,2026-03-10T11:00:00Z,shaft,-1,0,0", "CNC,2026-03-10T11:00:00Z,,1,0,0", "CNC,2026-03-10T11:00:00Z,shaft,,,"]
    document = given(rows, made, files={"equipment": ["equipment_id", "CNC"]}, shifts=("early=06:00-14:00@12",))
    assert codes(document, "rejected") == [
        ("counts", 1, "NEGATIVE_COUNT"),
        ("counts", 2, "PRODUCT_MISSING"),
        ("counts", 3, "COUNT_MISSING"),
        ("states", 2, "END_BEFORE_START"),
        ("states", 3, "UNKNOWN_EQUIPMENT"),
        ("states", 4, "UNKNOWN_STATE"),
        ("states", 5, "EQUIPMENT_MISSING"),
        ("states", 6, "UNREADABLE"),
        ("states", 7, "STATE_MISSING"),
    ]
    assert all(row["why"] and row["remedy"] for row in document["rejected"])
    # 10 March 2026 is a Tuesday; on Thursday no shift is in the calendar
    assert codes(document, "resolved") == [("states", 8, "END_AT_START"), ("states", 9, "OUTSIDE_SHIFTS")]
    assert minutes(document["total"], "pot", "apt") == [480, 480]


def test_counts_without_states_are_no_oee_and_say_why(given):
    made = ["CNC,2026-03-10T11:00:00Z,shaft,10,0,0", "PRESS,2026-03-10T11:00:00Z,shaft,20,0,0"]
    document = given(["CNC,RUN,2026-03-10T06:00:00Z,2026-03-10T14:00:00Z,"], made, by=("unit",))
    press = document["groups"][1]
    assert press["group"] == {"unit": "PRESS"}
    assert (press["iso_22400"]["oee"], press["reason"]) == (None, "COUNT_WITHOUT_RUN")
    assert minutes(press, "unknown", "pot") == [480, 480]
    assert codes(document, "resolved") == [("counts", 2, "COUNT_WITHOUT_STATES")]


def test_a_count_outside_all_shifts_enters_no_figure_and_is_listed(given):
    made = ["CNC,2026-03-10T11:00:00Z,shaft,10,0,0", "CNC,2026-03-10T23:00:00Z,shaft,20,0,0"]
    document = given(["CNC,RUN,2026-03-10T06:00:00Z,2026-03-10T14:00:00Z,"], made)
    assert document["total"]["counts"]["pq"] == 10
    assert codes(document, "resolved") == [("counts", 2, "OUTSIDE_SHIFTS")]


def test_no_busy_time_and_no_production_are_null_and_zero_with_a_reason(given):
    calendar = ["kind,start_at,end_at", "planned_maintenance,2026-03-10T06:00:00Z,2026-03-10T14:00:00Z"]
    run = ["CNC,RUN,2026-03-10T06:00:00Z,2026-03-10T14:00:00Z,"]
    planned = given(run, files={"calendar": calendar})["total"]
    assert (planned["iso_22400"]["oee"], planned["iso_22400"]["availability"]) == (None, None)
    assert "NO_BUSY_TIME" in planned["reason"]
    nothing = given(run, [MADE[0].replace("200,4,3", "0,0,0")])["total"]
    assert (nothing["iso_22400"]["oee"], nothing["iso_22400"]["quality"], nothing["reason"]) == (0.0, None, "NOTHING_PRODUCED")


def test_a_zero_ideal_cycle_is_refused_and_its_oee_is_null(given):
    run = ["CNC,RUN,2026-03-10T06:00:00Z,2026-03-10T14:00:00Z,"]
    document = given(run, MADE, pri=None, files={"products": ["product,pri_s", "shaft,0"]})
    assert codes(document, "rejected") == [("products", 1, "NO_IDEAL_CYCLE")]
    assert (document["total"]["iso_22400"]["oee"], document["total"]["reason"]) == (None, "NO_IDEAL_CYCLE")
    with pytest.raises(SiteError, match="SPC-421"):
        given(run, MADE, pri=0.0)


def test_rework_is_produced_but_not_good_at_first_pass(given):
    run = ["CNC,RUN,2026-03-10T06:00:00Z,2026-03-10T14:00:00Z,"]
    total = given(run, ["CNC,2026-03-10T11:00:00Z,shaft,300,40,60"])["total"]
    assert total["counts"] == {"pq": 400, "gq": 300, "sq": 40, "rq": 60}
    assert total["iso_22400"]["quality"] == float(Fraction(300, 400))


def test_what_cannot_be_studied_says_what_to_do(given):
    run = ["CNC,RUN,2026-03-10T06:00:00Z,2026-03-10T14:00:00Z,"]
    with pytest.raises(SiteError, match=r"SPC-419.*no shift"):
        given(run, shifts=())
    with pytest.raises(SiteError, match=r"SPC-420.*END_BEFORE_START.*row 1"):
        given(["CNC,RUN,2026-03-10T06:00:00Z,2026-03-10T05:00:00Z,"])
    with pytest.raises(SiteError, match=r"SPC-422.*another ideal cycle"):
        given(run, MADE, pri=None, files={"products": ["product,pri_s", "shaft,60", "shaft,61"]})
    with pytest.raises(SiteError, match="SPC-423"):
        given(run, zone="Berlin")
    with pytest.raises(SiteError, match=r"SPC-424.*row 1"):
        given(run, files={"state_map": ["source_state,time_element", "RUN,MAYBE"]})
    with pytest.raises(ContractError, match="SPC-384"):
        given(["CNC,RUN"], header="equipment_id,state")
    with pytest.raises(ContractError, match="SPC-386"):
        given(run, by=("month",))
    with pytest.raises(SiteError, match="overlap"):
        given(run, shifts=("a=06:00-14:00", "b=13:00-22:00"))


def test_states_of_a_machine_are_mapped_and_reasons_override_their_element(given):
    files = {
        "state_map": ["source_state,time_element,priority", "ACTIVE,APT,1", "READY,ADOT,2", "FEED_HOLD,ADET,3"],
        "reasons": ["reason_code,time_element", "changeover,AUST"],
    }
    rows = [
        "CNC,ACTIVE,2026-03-10T06:00:00Z,,",
        "CNC,FEED_HOLD,2026-03-10T08:00:00Z,,changeover",
        "CNC,READY,2026-03-10T09:00:00Z,,",
        "CNC,FEED_HOLD,2026-03-10T13:00:00Z,2026-03-10T14:00:00Z,",
    ]
    document = given(rows, files=files)
    assert minutes(document["total"], "apt", "aust", "adot", "adet") == [120, 60, 240, 60]


def test_a_line_and_a_week_come_from_sums_of_elements(given):
    rows = ["CNC,RUN,2026-03-10T06:00:00Z,2026-03-10T14:00:00Z,", "PRESS,RUN,2026-03-10T06:00:00Z,2026-03-10T10:00:00Z,"]
    made = ["CNC,2026-03-10T11:00:00Z,shaft,240,0,0", "PRESS,2026-03-10T11:00:00Z,shaft,240,0,0"]
    lines = {"equipment": ["equipment_id,work_center_id", "CNC,L1", "PRESS,L1"]}
    document = given(rows, made, files=lines, by=("line", "week"))
    (line,) = document["groups"]
    assert line["group"] == {"line": "L1", "week": "2026-W11"}
    assert line["iso_22400"]["oee"] == float(Fraction(480, 960))
    assert line["iso_22400"]["effectiveness"] == pytest.approx(float(Fraction(480, 720)), rel=1e-15)


def test_the_command_writes_both_formats_and_reads_parquet(given, tmp_path):
    given(ORACLE, MADE)
    for name in ("states", "counts"):
        pl.read_csv(tmp_path / f"{name}.csv", try_parse_dates=True).write_parquet(tmp_path / f"{name}.parquet")
    command = ["oee", "--states", "states.parquet", "--counts", "counts.parquet", "--shift", "early=06:00-14:00", "--pri", "60"]
    command = [str(tmp_path / word) if word.endswith(".parquet") else word for word in command]
    told = CliRunner().invoke(app, [*command, "--break", "12:00-12:30", "--format", "json"])
    assert told.exit_code == 0
    assert json.loads(told.stdout)["total"]["iso_22400"]["oee"] == pytest.approx(340 / 450, rel=1e-15)
    table = CliRunner().invoke(app, [*command, "--by", "unit", "--fail-on-rejected"])
    assert table.exit_code == 0
    assert "0.7083" in table.stdout  # 340 / 480


def test_the_text_names_every_refused_row_with_its_remedy(given):
    text = oee_text(given([*ORACLE, "CNC,STOP,2026-03-10T09:00:00Z,2026-03-10T08:00:00Z,"], MADE))
    assert "rejected: states row 9: END_BEFORE_START: it ends before it starts; exchange or correct start and end" in text


def test_overlaps_of_every_kind_partition_the_shift(given):
    spans = [(6, 9), (8, 10), (9, 9), (7, 14), (5, 16), (12, 13)]
    for some in itertools.combinations(spans, 3):
        rows = [
            f"CNC,{state},2026-03-10T{first:02}:00:00Z,2026-03-10T{last:02}:30:00Z,"
            for (first, last), state in zip(some, ("RUN", "STOP", "IDLE"), strict=True)
        ]
        total = given(rows, as_of="2026-03-10T18:00:00Z")["total"]
        assert minutes(total, "pot") == [480]

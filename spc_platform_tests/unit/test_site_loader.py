"""A site folder loads whole or names every problem with file, line and remedy."""

from datetime import UTC, date, datetime, time
from pathlib import Path

import pytest

from spc_platform.errors import SiteError
from spc_platform.site.description import describe
from spc_platform.site.loader import load_site
from spc_platform.site.scaffold import scaffold


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    scaffold(tmp_path / "site", "plant-1")
    return tmp_path / "site"


def change(folder: Path, file: str, old: str, new: str) -> None:
    path = folder / file
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{file} does not hold {old!r}"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def problems(folder: Path) -> list[str]:
    with pytest.raises(SiteError) as caught:
        load_site(folder)
    assert caught.value.code == "SPC-400"
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def test_the_scaffold_loads_and_keeps_what_its_files_say(folder: Path) -> None:
    site = load_site(folder)
    assert (site.site_id, site.zone, site.day_start) == ("plant-1", "Europe/Berlin", time(6))
    assert (site.first_production_date, site.last_production_date) == (date(2026, 1, 5), None)
    assert site.work_centers().rows() == [("L1-LATHE", "L1")]
    assert site.policies.baseline.k == 3.0
    resource = site.source("mes").resources[0]
    assert resource.tables == ("raw_measurement",)
    assert resource.fields["characteristic_id"] == "characteristic"


def test_the_scaffold_refuses_a_folder_that_holds_anything(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(SiteError, match="not an empty folder"):
        scaffold(folder, "plant-2")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("site_id", ["", "a/b", "../x", "größe", ".hidden", 'x"\n'])
def test_the_scaffold_refuses_an_identity_that_is_not_plain(tmp_path: Path, site_id: str) -> None:
    with pytest.raises(SiteError, match="site_id"):
        scaffold(tmp_path / "site", site_id)


def test_a_missing_folder_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match="spc init"):
        load_site(tmp_path / "nowhere")


@pytest.mark.parametrize("file", ["site.toml", "policies.toml", "sources.toml", "equipment.csv", "shifts.csv"])
def test_a_missing_file_is_named(folder: Path, file: str) -> None:
    (folder / file).unlink()
    assert any(line.startswith(f"{file}: the file is missing") and "spc init" in line for line in problems(folder))


@pytest.mark.parametrize("table", ["breaks", "calendar", "streams", "specifications", "reasons", "routings"])
def test_an_optional_table_may_be_absent_and_is_empty_then(folder: Path, table: str) -> None:
    (folder / f"{table}.csv").unlink(missing_ok=True)
    assert load_site(folder)[table].is_empty()


def test_a_misspelt_file_is_not_silently_an_empty_table(folder: Path) -> None:
    (folder / "streams.csv").rename(folder / "stream.csv")
    assert problems(folder) == ['stream.csv: is not a file of a site folder; did you mean "streams.csv"? or move it elsewhere']


BROKEN = {
    "unknown key": ("site.toml", 'zone = "', 'zon = "', 'site.toml:4: unknown key "zon"; did you mean "zone"?'),
    "no such zone": ("site.toml", "Europe/Berlin", "Europe/Berlim", "site.toml:4: no time zone 'Europe/Berlim'"),
    "not TOML": ("site.toml", '"06:00"', "06 00", "site.toml:5: is not TOML"),
    "wrong type": ("policies.toml", "= 25", '= "25"', "policies.toml:14: \"subgroups\" is '25'; it must be a whole number"),
    "out of range": ("policies.toml", "0.95", "95", 'policies.toml:6: "confidence" is 95.0; it must be between 0 and 1'),
    "nested key": ("policies.toml", "k = 3", "kk = 3", 'policies.toml:16: unknown key "kk"; did you mean "k"?'),
    "source kind": (
        "sources.toml",
        '"rest" ',
        '"soap" ',
        "sources.toml:4: \"kind\" is 'soap'; it must be one of 'rest', 'files'",
    ),
    "raw table": ("sources.toml", '"raw_measurement"', '"raw_mesurement"', 'did you mean "raw_measurement"?'),
    "field": (
        "sources.toml",
        "serial_number =",
        "serial_no =",
        'fields: no column "serial_no" in raw_measurement; did you mean',
    ),
    "secret": (
        "sources.toml",
        "client_secret_env",
        "client_secret",
        '"client_secret" stands in the site folder; remove it and name its variable',
    ),
    "unknown column": (
        "equipment.csv",
        "description",
        "descripton",
        'equipment.csv:1: unknown column "descripton"; did you mean',
    ),
    "missing column": ("states.csv", ",priority", ",prio", 'states.csv:1: column "priority" is missing'),
    "cells": ("states.csv", "IDLE,IDLE,ADOT,5", "IDLE,IDLE,ADOT", "states.csv:5: 3 cells under 4 columns"),
    "number": ("products.csv", ",30,", ",thirty,", 'products.csv:2: pri_s is "thirty"; write a number'),
    "finite": ("products.csv", ",30,", ",inf,", 'products.csv:2: pri_s "inf" is not finite'),
    "gt": ("products.csv", ",30,", ",0,", 'products.csv:2: pri_s "0.0" is not above 0; raise it'),
    "code": (
        "states.csv",
        "STOP,STOP,ADET",
        "STOP,STOP,ADDT",
        'states.csv:4: time_element "ADDT" is not allowed; use one of PDT',
    ),
    "empty": ("states.csv", "RUN,RUN", "RUN,", 'states.csv:2: state "" is empty; fill it in'),
    "key": ("reasons.csv", "MAINT,Pl", "TOOL,Pl", "reasons.csv:3: reason_code TOOL stands twice"),
    "parent": ("equipment.csv", "unit,L1,", "unit,L9,", 'equipment.csv:4: parent_equipment_id "L9" is not in equipment.csv'),
    "level": ("equipment.csv", "unit,L1,", "unit,plant-1,", "equipment.csv:4: work_unit L1-LATHE has a parent of level site"),
    "orphan": ("equipment.csv", "center,plant-1,", "center,,", "equipment.csv:3: L1 has no parent_equipment_id"),
    "characteristic's unit": ("characteristics.csv", "L1-LATHE", "L1", '"L1" is not a work_unit of equipment.csv'),
    "sizes": ("characteristics.csv", ",5,rbar", ",26,rbar", "subgroup_size 26 does not fit chart xbar_r; use 2 to 25"),
    "estimator": ("characteristics.csv", "rbar", "mr", "characteristics.csv:2: estimator mr does not fit chart xbar_r"),
    "subgrouping": (
        "characteristics.csv",
        "consecutive",
        "individual",
        "characteristics.csv:2: subgrouping individual does not fit",
    ),
    "rule set": (
        "characteristics.csv",
        "western_electric",
        "western_electrik",
        'rule_set "western_electrik" is not a rule set; use one of aiag,',
    ),
    "hampel pair": ("characteristics.csv", "3.0,,", "3.0,7,", "only one of hampel_window and hampel_multiplier is given"),
    "hampel even": ("characteristics.csv", "3.0,,", "3.0,8,3", "characteristics.csv:2: hampel_window 8 is even"),
    "sensor": ("characteristics.csv", ",0,100,", ",100,0,", "sensor_min 100.0 is not below sensor_max 0.0"),
    "spec order": (
        "specifications.csv",
        "24.95",
        "25.95",
        "specifications.csv:2: lsl 25.95, target 25.0, usl 25.05 do not rise",
    ),
    "spec target": ("specifications.csv", "25.0,", "25.1,", "they must rise: lsl < target < usl"),
    "no limit": ("specifications.csv", "24.95,25.0,25.05", ",25.0,", "specifications.csv:2: neither lsl nor usl is given"),
    "spec unit": ("specifications.csv", ",mm,", ",in,", "specifications.csv:2: unit in differs from the characteristic's, mm"),
    "spec reference": (
        "specifications.csv",
        "SHAFT-DIA",
        "SHAFT-LEN",
        'specifications.csv:2: characteristic_id "SHAFT-LEN" is not in',
    ),
    "spec window": ("specifications.csv", "2026-01-01,,", "2026-01-01,2025-01-01,", "effective_to is not after effective_from"),
    "stream": ("streams.csv", ",L1-LATHE,", ",L1-MILL,", 'streams.csv:2: equipment_id "L1-MILL" is not a work_unit'),
    "clock": ("shifts.csv", "06:00,14:00", "6:00,14:00", 'shifts.csv:2: start_local is "6:00"; write HH:MM'),
    "weekdays": ("shifts.csv", "12345", "12845", 'shifts.csv:2: weekdays is "12845"'),
    "line": ("shifts.csv", "EARLY,*", "EARLY,L7", 'shifts.csv:2: work_center_id "L7" is not a work_center'),
    "day": ("shifts.csv", "22:00,06:00", "22:00,06:30", "shifts.csv:4: shift NIGHT from 22:00 to 06:30 crosses the start"),
    "overlap": ("shifts.csv", "14:00,22:00", "13:00,22:00", "shifts.csv:3: shift LATE overlaps shift EARLY of line 2"),
    "break": ("breaks.csv", "09:00,09:30", "13:45,14:15", "breaks.csv:2: break from 13:45 to 14:15 is not inside shift EARLY"),
    "break's shift": ("breaks.csv", "EARLY", "ERLY", 'breaks.csv:2: shift_id "ERLY" is not in shifts.csv'),
    "calendar": ("calendar.csv", "2026-01-02T06:00", "2026-01-01T06:00", "calendar.csv:2: end_at is not after start_at"),
    "state twice": ("states.csv", "SETUP,SETUP,AUST", "SETUP,RUN,AUST", "state RUN has several time elements or priorities"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_mistake_is_named_with_file_line_and_remedy(folder: Path, case: str) -> None:
    file, old, new, expected = BROKEN[case]
    change(folder, file, old, new)
    found = problems(folder)
    assert any(expected in line for line in found), found


def test_all_problems_of_a_folder_are_reported_at_once(folder: Path) -> None:
    change(folder, "site.toml", "Europe/Berlin", "Europe/Berlim")
    change(folder, "policies.toml", "0.95", "95")
    change(folder, "states.csv", "RUN,RUN", "RUN,")
    assert [line.split(":")[0] for line in problems(folder)] == ["policies.toml", "site.toml", "states.csv"]


def test_an_unreadable_number_is_not_reported_as_empty_too(folder: Path) -> None:
    change(folder, "products.csv", ",30,", ",thirty,")
    assert len(problems(folder)) == 1


def test_overlapping_specification_windows_are_refused_and_touching_ones_are_not(folder: Path) -> None:
    path = folder / "specifications.csv"
    path.write_text(path.read_text().replace("2026-01-01,,", "2026-01-01,2026-03-01,"))
    path.write_text(path.read_text() + "SHAFT-DIA,2,2026-03-01,,24.9,25.0,25.1,mm,0.001\n")
    assert load_site(folder)["specifications"].height == 2
    change(folder, "specifications.csv", "2026-01-01,2026-03-01,", "2026-01-01,,")
    assert problems(folder) == [
        (
            "specifications.csv:3: SHAFT-DIA is in force at the same time as the row on line 2; "
            "end the earlier one: its effective_to is this effective_from"
        )
    ]


def test_a_one_sided_specification_is_allowed(folder: Path) -> None:
    change(folder, "specifications.csv", "24.95,25.0,25.05", ",0,0.05")
    assert load_site(folder)["specifications"].select("lsl", "usl").row(0) == (None, 0.05)


def test_local_times_are_read_on_the_clock_of_the_site(folder: Path) -> None:
    row = "SUMMER,L1,holiday,2026-07-01,2026-07-01T12:30,2026-06-01T10:00:00Z,x\n"
    (folder / "calendar.csv").write_text((folder / "calendar.csv").read_text() + row)
    entry = load_site(folder)["calendar"].filter(entry_id="SUMMER").row(0, named=True)
    # Berlin is two hours ahead of UTC in July.
    assert entry["start_at"] == datetime(2026, 6, 30, 22, tzinfo=UTC)
    assert entry["end_at"] == datetime(2026, 7, 1, 10, 30, tzinfo=UTC)
    assert entry["recorded_at"] == datetime(2026, 6, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("start", "why"), [("2026-03-29T02:30", "skipped by the clock"), ("2026-10-25T02:30", "shown twice by the clock")]
)
def test_a_local_time_that_does_not_exist_once_needs_an_offset(folder: Path, start: str, why: str) -> None:
    row = "DST,L1,holiday,{},2026-12-01,2025-06-01,x\n"
    text = (folder / "calendar.csv").read_text()
    (folder / "calendar.csv").write_text(text + row.format(start))
    found = problems(folder)
    assert len(found) == 1, why
    assert f'calendar.csv:3: start_at is "{start}"' in found[0]
    assert "exist once on the clock of Europe/Berlin" in found[0]
    (folder / "calendar.csv").write_text(text + row.format(f"{start}+01:00"))
    entry = load_site(folder)["calendar"].filter(entry_id="DST").row(0, named=True)
    assert entry["start_at"] == datetime.fromisoformat(f"{start}+01:00")


def test_a_file_with_a_byte_order_mark_crlf_and_quoted_commas_is_read(folder: Path) -> None:
    text = (folder / "equipment.csv").read_text().replace("Line 1", '"Line 1, hall 2"').replace("\n", "\r\n")
    (folder / "equipment.csv").write_text(text, encoding="utf-8-sig", newline="")
    assert load_site(folder)["equipment"].filter(equipment_id="L1")["description"].item() == "Line 1, hall 2"


def test_a_characteristic_may_have_one_row_per_work_unit_but_one_unit(folder: Path) -> None:
    (folder / "equipment.csv").write_text((folder / "equipment.csv").read_text() + "L1-MILL,work_unit,L1,Mill\n")
    path = folder / "characteristics.csv"
    row = path.read_text().splitlines()[1].replace("L1-LATHE", "L1-MILL")
    path.write_text(path.read_text() + row + "\n")
    assert load_site(folder)["characteristics"].height == 2
    path.write_text(path.read_text().replace(row, row.replace(",mm,", ",um,")))
    assert any("SHAFT-DIA has several units" in line for line in problems(folder))


def test_a_lines_own_shift_replaces_the_general_one_and_is_no_overlap(folder: Path) -> None:
    (folder / "shifts.csv").write_text((folder / "shifts.csv").read_text() + "EARLY,L1,06:00,13:00,12345,,\n")
    assert load_site(folder)["shifts"].height == 4


def test_the_summary_counts_rows_and_warns_of_what_looks_forgotten(folder: Path) -> None:
    (folder / "specifications.csv").unlink()
    findings = {(item.level, item.text) for item in describe(load_site(folder))}
    assert ("info", "equipment: 3 rows") in findings
    assert ("warning", "characteristic without specification (no capability): SHAFT-DIA") in findings
    assert "warning: characteristic without specification" in "\n".join(map(str, describe(load_site(folder))))


def test_two_sources_of_one_name_are_refused(folder: Path) -> None:
    text = (folder / "sources.toml").read_text()
    (folder / "sources.toml").write_text(text + "\n" + text)
    assert any("source 'mes' stands twice" in line for line in problems(folder))


def test_a_key_of_the_second_resource_is_named_with_its_own_line(folder: Path) -> None:
    path = folder / "sources.toml"
    lines = path.read_text().splitlines()
    second = [
        "[[source.resource]]",
        'name = "telemetry"',
        'tables = ["raw_telemetry"]',
        'format = "json_records"',
        "[source.resource.fields]",
        'stream = "signal"',
    ]
    path.write_text("\n".join([*lines, *second]) + "\n")
    assert problems(folder) == [
        f'sources.toml:{len(lines) + 6}: fields: no column "stream" in raw_telemetry; did you mean "stream_id"?'
    ]


def test_two_operations_at_the_same_place_of_a_route_are_refused(folder: Path) -> None:
    header = "material_definition_id,segment_id,sequence,equipment_id,description\n"
    (folder / "routings.csv").write_text(
        header + "SHAFT,turning,1,L1-LATHE,\nSHAFT,milling,1,L1-MILL,\nGEAR,turning,1,L1-LATHE,\n"
    )
    found = problems(folder)
    twice = "routings.csv:3: SHAFT on 1 is in force at the same time as the row on line 2; "
    assert f"{twice}give each operation its own place in the route" in found
    assert any(line.startswith('routings.csv:3: equipment_id "L1-MILL" is not a work_unit') for line in found)
    assert any(line.startswith('routings.csv:4: material_definition_id "GEAR" is not in products.csv') for line in found)


def test_a_route_that_changes_is_in_force_by_its_dates(folder: Path) -> None:
    header = "material_definition_id,segment_id,sequence,equipment_id,effective_from,effective_to\n"
    old, new = "SHAFT,turning,1,L1-LATHE,,2026-03-01T06:00\n", "SHAFT,turning,1,L1-LATHE,2026-03-01T06:00,\n"
    (folder / "routings.csv").write_text(header + old + new + "SHAFT,grinding,2,L1-LATHE,2026-03-01T06:00,\n")
    site = load_site(folder)
    before, after = (site.routings_at(datetime(2026, month, 10, tzinfo=UTC))["segment_id"].to_list() for month in (2, 3))
    assert (before, sorted(after)) == (["turning"], ["grinding", "turning"])


def test_every_wrong_part_counter_is_named_with_its_line(folder: Path) -> None:
    (folder / "part_counters.csv").write_text(
        "stream_id,equipment_id,counts,in_force\n"
        "L1-LATHE-TEMP,L1-LATHE,total,counter\n"
        "L1-LATHE-X,L1-LATHE,total,mes\n"
        "L1-LATHE-Y,L9,parts,counter\n"
    )
    found = "\n".join(problems(folder))
    assert "part_counters.csv:2: L1-LATHE has two counters of total parts" in found
    assert "part_counters.csv:3: the counters of L1-LATHE say different in_force" in found
    assert 'part_counters.csv:3: stream_id "L1-LATHE-X" is not in streams.csv' in found
    assert "part_counters.csv:4: equipment_id" in found
    assert "part_counters.csv:4: counts" in found


def test_a_work_unit_has_two_part_counters_at_most(folder: Path) -> None:
    rows = "".join(f"L1-LATHE-TEMP,L1-LATHE,{counts},counter\n" for counts in ("good", "total", "scrap"))
    (folder / "part_counters.csv").write_text(f"stream_id,equipment_id,counts,in_force\n{rows}")
    assert any("L1-LATHE has counters of good, total and scrap; leave out one" in line for line in problems(folder))

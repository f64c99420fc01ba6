"""What `spc trace` reads from files, and what it refuses."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from spc_platform.cli.main import app
from spc_platform.cli.trace_file import read_links
from spc_platform.errors import ContractError

LINKS = """parent_id,child_id,link_type,quantity,occurred_at
RAW,A,split,60,2026-03-01T08:00:00Z
RAW,B,split,40,2026-03-01T08:00:00Z
A,S1,assembled,60,2026-03-01T09:00:00Z
B,S2,assembled,40,2026-03-01T09:00:00Z
"""
MEASUREMENTS = """serial_number,material_lot_id,characteristic_id,measured_at,value,unit,equipment_id,lsl,usl
S1,A,bore,2026-03-01T10:00:00Z,10.5,mm,CNC-1,9,10
S2,B,bore,2026-03-01T10:01:00Z,10.5,mm,CNC-1,9,11
"""


def written(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def document(*words: object) -> dict[str, Any]:
    answer = CliRunner().invoke(app, ["trace", *map(str, words), "--format", "json"], catch_exceptions=False)
    assert answer.exit_code == 0
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def refusal(*words: object) -> ContractError:
    with pytest.raises(ContractError) as caught:
        CliRunner().invoke(app, ["trace", *map(str, words)], catch_exceptions=False)
    return caught.value


def test_a_part_is_traced_to_its_raw_lot_with_its_own_measurements_judged(tmp_path: Path) -> None:
    links, values = written(tmp_path, "links.csv", LINKS), written(tmp_path, "values.csv", MEASUREMENTS)
    found = document("--links", links, "--measurements", values, "--serial", "S1", "--direction", "backward")
    assert [(row["item_id"], row["depth"], row["item_kind"]) for row in found["items"]] == [
        ("A", 1, "lot"),
        ("RAW", 2, None),
        ("S1", 0, "serial"),
    ]
    assert [(row["value"], row["specification_version"], row["verdict"]) for row in found["measurements"]] == [
        (10.5, 1, "above_usl")
    ]
    assert found["recall"] is None
    assert found["warnings"] == []


def test_the_recall_list_is_whole_however_short_the_trace(tmp_path: Path) -> None:
    found = document("--links", written(tmp_path, "links.csv", LINKS), "--lot", "RAW", "--direction", "forward", "--depth", 1)
    assert [row["item_id"] for row in found["items"]] == ["A", "B", "RAW"]
    assert {row["item_id"]: row["quantity"] for row in found["recall"] if row["is_finished"]} == {"S1": 60, "S2": 40}
    assert found["warnings"] == ["the trace ends at depth 1; more is linked beyond (the recall list is complete)."]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_rows_in_any_order_give_the_same_document(tmp_path: Path, suffix: str) -> None:
    frame = pl.read_csv(LINKS.encode()).with_columns(pl.col("occurred_at").str.to_datetime(time_zone="UTC"))
    twice = pl.concat([frame, frame[:1]])
    found = []
    for order, rows in enumerate((twice, twice.reverse())):
        folder = tmp_path / str(order)
        folder.mkdir()
        path = folder / f"links{suffix}"
        if suffix == ".csv":
            rows.write_csv(path)
        else:
            rows.write_parquet(path)
        told = document("--links", path, "--lot", "RAW")
        del told["origin"]["links_sha256"]
        found.append(json.dumps(told))
    assert found[0] == found[1]
    assert len(json.loads(found[0])["links"]) == 5, "equal rows without a record_id are two draws"


def test_the_kept_index_gives_the_same_trace_and_is_made_anew_when_damaged(tmp_path: Path) -> None:
    links, index = written(tmp_path, "links.csv", LINKS + "S1,RAW,consumed,1,2026-03-02T08:00:00Z\n"), tmp_path / "index"
    without = document("--links", links, "--lot", "RAW")
    assert document("--links", links, "--lot", "RAW", "--index", index) == without
    (nodes,) = index.rglob("nodes.arrow")
    kept = nodes.stat().st_mtime_ns
    assert document("--links", links, "--lot", "RAW", "--index", index) == without
    assert nodes.stat().st_mtime_ns == kept
    nodes.write_bytes(nodes.read_bytes()[:-100])
    assert document("--links", links, "--lot", "RAW", "--index", index) == without
    assert nodes.stat().st_mtime_ns != kept
    assert without["refused_links"][0]["cycle_items"] == "RAW>A>S1>RAW"


def test_an_index_of_a_file_that_changed_is_not_used(tmp_path: Path) -> None:
    links, index = written(tmp_path, "links.csv", LINKS), tmp_path / "index"
    assert document("--links", links, "--lot", "RAW", "--index", index)["summary"]["descendants"] == 4
    written(tmp_path, "links.csv", LINKS + "A,S3,assembled,1,2026-03-01T09:30:00Z\n")
    assert document("--links", links, "--lot", "RAW", "--index", index)["summary"]["descendants"] == 5
    assert len(list(index.iterdir())) == 1


def test_links_of_a_file_can_be_asked_for_as_they_were_known(tmp_path: Path) -> None:
    content = """record_id,revision,updated_at,is_deleted,parent_id,child_id,link_type,occurred_at
r1,1,2026-03-01T09:00:00Z,,RAW1,S1,consumed,2026-03-01T08:00:00Z
r1,2,2026-03-03T09:00:00Z,,RAW2,S1,consumed,2026-03-01T08:00:00Z
r2,1,2026-03-01T09:00:00Z,no,RAW3,S1,consumed,2026-03-01T08:00:00Z
r2,2,2026-03-04T09:00:00Z,yes,RAW3,S1,consumed,2026-03-01T08:00:00Z
"""
    links = written(tmp_path, "links.csv", content)

    def raw(*words: str) -> set[str]:
        return {row["item_id"] for row in document("--links", links, "--serial", "S1", *words)["items"]} - {"S1"}

    assert raw() == {"RAW2"}
    assert raw("--known-at", "2026-03-03T10:00:00Z") == {"RAW2", "RAW3"}
    assert raw("--known-at", "2026-03-02") == {"RAW1", "RAW3"}


def test_a_time_without_zone_is_read_in_the_zone_that_is_named(tmp_path: Path) -> None:
    content = "parent_id,child_id,link_type,occurred_at\nA,B,split,2026-07-01 08:00:00\nA,C,split,2026-07-01T08:00:00+05:00\n"
    _, links = read_links(written(tmp_path, "links.csv", content), "Europe/Berlin")
    assert links["occurred_at"].to_list() == [datetime(2026, 7, 1, 6, tzinfo=UTC), datetime(2026, 7, 1, 3, tzinfo=UTC)]


def test_an_hour_that_the_clock_shows_twice_is_refused_with_its_row(tmp_path: Path) -> None:
    content = "parent_id,child_id,link_type,occurred_at\nA,B,split,2026-10-25 08:00\nA,C,split,2026-10-25 02:30\n"
    error = refusal("--links", written(tmp_path, "links.csv", content), "--lot", "A", "--zone", "Europe/Berlin")
    assert error.code == "SPC-642"
    assert "links.csv, row 2, column 'occurred_at': '2026-10-25 02:30'" in str(error)


def test_limits_that_one_version_states_twice_are_refused(tmp_path: Path) -> None:
    values = (
        MEASUREMENTS.replace("lsl,usl", "lsl,usl,specification_version")
        .replace(",9,10\n", ",9,10,1\n")
        .replace(",9,11\n", ",9,11,1\n")
    )
    links = written(tmp_path, "links.csv", LINKS)
    error = refusal("--links", links, "--measurements", written(tmp_path, "values.csv", values), "--serial", "S1")
    assert error.code == "SPC-644"
    assert "'bore'" in str(error)


def test_an_unknown_item_is_refused_with_what_stands_next_to_it(tmp_path: Path) -> None:
    error = refusal("--links", written(tmp_path, "links.csv", LINKS), "--serial", "S11")
    assert error.code == "SPC-640"
    assert "'S1', 'S2'" in str(error)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--lot", "A", "--serial", "B"],
        ["--lot", "A", "--direction", "up"],
        ["--lot", "A", "--depth", "-1"],
        ["--lot", "A", "--format", "xml"],
        ["--lot", "A", "--index", "x"],
        ["--lot", "A", "--known-at", "yesterday"],
    ],
)
def test_options_that_make_no_sense_are_refused_before_anything_is_read(words: list[str]) -> None:
    assert refusal(*words).code == "SPC-641"


def test_an_item_that_is_asked_for_as_the_wrong_kind_is_traced_with_a_warning(tmp_path: Path) -> None:
    links, values = written(tmp_path, "links.csv", LINKS), written(tmp_path, "values.csv", MEASUREMENTS)
    found = document("--links", links, "--measurements", values, "--lot", "S1")
    assert found["warnings"] == ["S1 was asked for as a lot, but records say that it is a serial."]


REFUSED = """record_id,parent_id,child_id,link_type,quantity,occurred_at
1,RAW,A,split,60,2026-03-01T08:00:00Z
2,A,S1,assembled,60,2026-03-01T09:00:00Z
3,A,B,split,0,2026-03-01T08:30:00Z
4,B,S2,assembled,1,2026-03-01T09:00:00Z
5,B,S3,assembled,1,2026-03-01T09:00:00Z
6,S3,C,assembled,-1,2026-03-01T10:00:00Z
7,OTHER,D,split,0,2026-03-01T09:00:00Z
8,A,,assembled,1,2026-03-01T09:00:00Z
9,LONE,LONE,consumed,1,2026-03-01T09:00:00Z
"""


def test_a_recall_tells_what_refused_links_would_add_to_it(tmp_path: Path) -> None:
    found = document("--links", written(tmp_path, "links.csv", REFUSED), "--lot", "RAW")
    assert [row["item_id"] for row in found["recall"]] == ["A", "S1"]
    doubtful = [(row["item_id"], row["record_id"]) for row in found["recall_in_doubt"]]
    assert doubtful == [("B", "3"), ("C", "6"), ("S2", "3"), ("S3", "3")]
    assert all(row["reasons"].startswith("quantity:") for row in found["recall_in_doubt"])
    assert sorted(row["record_id"] for row in found["refused_links"]) == ["3", "6", "8"]
    summary = found["summary"]
    assert (summary["refused_links"], summary["recall_in_doubt"], summary["links_refused_in_all"]) == (3, 4, 5)
    assert summary["links_without_ends"] == 1
    assert [warning.split(" ")[0] for warning in found["warnings"][:3]] == ["3", "the", "1"]
    assert "short by up to 4 items" in found["warnings"][1]


def test_a_trace_that_goes_backward_says_nothing_of_a_recall_but_lists_refused_links(tmp_path: Path) -> None:
    found = document("--links", written(tmp_path, "links.csv", REFUSED), "--serial", "S2", "--direction", "backward")
    assert (found["recall"], found["recall_in_doubt"], found["summary"]["recall_in_doubt"]) == (None, None, None)
    assert [row["record_id"] for row in found["refused_links"]] == ["3"]


def test_an_item_that_only_refused_links_name_is_traced_to_them(tmp_path: Path) -> None:
    found = document("--links", written(tmp_path, "links.csv", REFUSED), "--lot", "LONE")
    assert [(row["record_id"], row["reasons"]) for row in found["refused_links"]] == [("9", "child_id:SELF_LINK")]
    assert ([row["item_id"] for row in found["items"]], found["recall"]) == (["LONE"], [])


def test_the_table_shows_refused_links_with_their_records(tmp_path: Path) -> None:
    answer = CliRunner().invoke(app, ["trace", "--links", str(written(tmp_path, "links.csv", REFUSED)), "--lot", "RAW"])
    assert all(title in answer.stdout for title in ("Recall in doubt", "Refused links", "refused links 3"))
    assert "warning: the recall list is short by up to 4 items" in answer.stdout


def test_the_table_shows_the_items_links_and_the_recall_list(tmp_path: Path) -> None:
    answer = CliRunner().invoke(app, ["trace", "--links", str(written(tmp_path, "links.csv", LINKS)), "--lot", "RAW"])
    assert answer.exit_code == 0
    assert all(title in answer.stdout for title in ("Items", "Links", "Recall"))

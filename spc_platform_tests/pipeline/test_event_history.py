"""A log whose records were replaced at their root is whole in itself: only what it said before gives it away."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from spc_platform.cli.main import app
from spc_platform.engine import STEPS, Workspace, run_range
from spc_platform.engine.history import accept_log, lost_events, verify_event_log
from spc_platform.errors import ContractError, LakeError
from spc_platform.lake.event_history import EventHistory, Head
from spc_platform.lake.landing import land_source
from spc_platform.production.event_log import verify_chain
from spc_platform.settings import Settings
from spc_platform.site.scaffold import scaffold
from spc_platform.sources import open_source

DAY = date(2026, 1, 7)
NAMES = ("raw", "shift_calendar", "operations_event")
NEEDED = tuple(step for step in STEPS if step.name in NAMES)
SOURCES = """\
[[source]]
source_id = "mes"
kind = "files"
root = "{root}"

[[source.resource]]
name = "states"
tables = ["raw_equipment_state"]
format = "csv"
path = "*.csv"

[source.resource.fields]
record_id = "id"
revision = "rev"
equipment_id = "machine"
state = "state"
start_at = "start"
end_at = "end"
updated_at = "written"
"""
HEADER = "id,rev,machine,state,start,end,written"
STATES = [
    f"s{hour},1,L1-LATHE,RUN,2026-01-07T{hour:02}:00Z,2026-01-07T{hour:02}:50Z,2026-01-07T{hour:02}:55Z"
    for hour in range(6, 12)
]
LATE = "s3,1,L1-LATHE,STOP,2026-01-07T08:50Z,2026-01-07T08:55Z,2026-01-07T09:30Z"


def drop(folder: Path, name: str, *lines: str) -> None:
    (folder / "drop" / name).write_text("\n".join([HEADER, *lines]) + "\n")


def make(workspace: Workspace) -> pl.DataFrame:
    source = open_source(workspace.site.source("mes"), workspace.settings)
    land_source(source, workspace.site, workspace.landing, workspace.ledger)
    run_range(workspace, [DAY], steps=NEEDED)
    return workspace.lake.read("operations_event", DAY)


@pytest.fixture
def plant(tmp_path: Path) -> Workspace:
    """Six states of a lathe, landed, and their log made once."""
    scaffold(tmp_path / "site", "plant-1")
    (tmp_path / "drop").mkdir()
    (tmp_path / "site" / "sources.toml").write_text(SOURCES.format(root=tmp_path / "drop"))
    drop(tmp_path, "first.csv", *STATES)
    workspace = Workspace.open(Settings(site=tmp_path / "site", data=tmp_path / "data"))
    assert make(workspace).height == len(STATES)
    return workspace


def failed(workspace: Workspace) -> set[str]:
    return {name for _, name, _, _ in workspace.verdicts.failed("operations_event")}


def problems(workspace: Workspace, expected: str | None = None) -> list[str]:
    return sorted(set(verify_event_log(workspace, expected=expected)["problem"]))


def replace_page(workspace: Workspace, old: bytes, new: bytes) -> None:
    """What somebody with the whole folder would do: other bytes under their own name, and the ledger led there."""
    (page,) = workspace.ledger.pages("raw_equipment_state", DAY)
    body = workspace.landing.read(page.sha256)
    assert old in body
    told = body.replace(old, new)
    forged = workspace.landing.write("mes", told)
    with sqlite3.connect(workspace.ledger.path) as connection:
        connection.execute("UPDATE page SET sha256 = ?, n_bytes = ? WHERE sha256 = ?", (forged, len(told), page.sha256))
    connection.close()


def reopened(workspace: Workspace) -> Workspace:
    return Workspace.open(workspace.settings)


def test_a_log_that_grew_by_late_events_is_kept(plant: Workspace, tmp_path: Path) -> None:
    """The late stop takes its place among earlier events, so hashes change, and nothing is lost."""
    before = plant.lake.read("operations_event", DAY)
    drop(tmp_path, "second.csv", LATE)
    after = make(plant)
    assert after.height == before.height + 1
    assert after["chain_hash"][-1] != before["chain_hash"][-1]
    assert after["event_id"][-1] == before["event_id"][-1]
    assert problems(plant) == []
    assert failed(plant) == set()
    assert plant.event_history.heads(DAY)["sequence"].to_list() == [6, 7]


def test_making_the_log_again_notes_no_second_head(plant: Workspace) -> None:
    make(plant)
    assert plant.event_history.heads().height == 1


def test_a_silently_replaced_page_is_found(plant: Workspace) -> None:
    replace_page(plant, b"s8,1,L1-LATHE,RUN", b"s8,1,L1-LATHE,STOP")
    again = reopened(plant)
    run_range(again, [DAY], steps=NEEDED)
    log = again.lake.read("operations_event", DAY)
    assert log.height == len(STATES)
    assert verify_chain(log).is_empty()
    assert failed(again) == {"history_kept"}
    assert problems(again) == ["LOST"]
    # the next run does not make it good, nor does it enter the forged events as true
    run_range(again, [DAY], steps=NEEDED)
    assert failed(again) == {"history_kept"}
    assert again.event_history.heads().height == 1


def test_a_replaced_raw_partition_is_found(plant: Workspace) -> None:
    raw = plant.lake.read("raw_equipment_state", DAY)
    forged = raw.with_columns(state=pl.when(pl.col("record_id") == "s9").then(pl.lit("IDLE")).otherwise("state"))
    plant.lake.commit("raw_equipment_state", forged, DAY)
    run_range(plant, [DAY], steps=[step for step in NEEDED if step.name == "operations_event"])
    assert failed(plant) == {"history_kept"}
    lost = lost_events(plant, DAY, plant.lake.read("operations_event", DAY))
    assert lost["problem"].to_list() == ["LOST"]


def test_events_cut_off_at_the_end_are_found(plant: Workspace) -> None:
    log = plant.lake.read("operations_event", DAY)
    plant.lake.commit("operations_event", log.head(4), DAY)
    assert verify_chain(log.head(4)).is_empty()
    assert verify_event_log(plant)["problem"].to_list() == ["LOST", "LOST"]


def test_events_that_moved_to_another_date_are_not_lost(plant: Workspace) -> None:
    log = plant.lake.read("operations_event", DAY)
    other = date(2026, 1, 8)
    plant.lake.commit("operations_event", log.clear(), DAY)
    plant.lake.commit("operations_event", log.with_columns(production_date=pl.lit(other)), other)
    assert lost_events(plant, DAY, plant.lake.read("operations_event", DAY)).is_empty()


def test_a_head_that_its_events_do_not_give_is_found(plant: Workspace) -> None:
    log = plant.lake.read("operations_event", DAY)
    plant.event_history.append(Head(DAY, 6, "0" * 64), log["event_id"].to_list())
    assert problems(plant) == ["HEAD"]


def test_the_history_cannot_be_changed_by_its_own_file(plant: Workspace) -> None:
    connection = sqlite3.connect(plant.event_history.path)
    for statement in ("DELETE FROM entry", "UPDATE event SET released = 1"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(statement)
    connection.close()


def test_a_history_that_was_written_by_another_is_found(plant: Workspace, tmp_path: Path) -> None:
    """Events taken out with the triggers removed break the chain of entries."""
    drop(tmp_path, "second.csv", LATE)
    make(plant)
    with sqlite3.connect(plant.event_history.path) as connection:
        connection.execute("DROP TRIGGER event_DELETE")
        connection.execute("DELETE FROM event WHERE entry_id = 1 AND event_id = (SELECT min(event_id) FROM event)")
    connection.close()
    assert "ENTRY" in problems(plant)


def test_a_history_that_was_begun_anew_lacks_the_entry_that_was_noted_elsewhere(plant: Workspace) -> None:
    noted = plant.event_history.heads()["entry_hash"][-1]
    assert problems(plant, noted) == []
    for path in plant.settings.data.glob("event_history.sqlite*"):
        path.unlink()
    again = reopened(plant)
    run_range(again, [DAY], steps=NEEDED)
    assert problems(again) == []
    assert problems(again, noted) == ["UNKNOWN_ENTRY"]


def test_a_known_change_is_accepted_with_its_reason_and_stays_in_the_history(plant: Workspace) -> None:
    replace_page(plant, b"s8,1,L1-LATHE,RUN", b"s8,1,L1-LATHE,STOP")
    again = reopened(plant)
    run_range(again, [DAY], steps=NEEDED)
    with pytest.raises(ContractError, match="SPC-652"):
        accept_log(again, DAY, " ")
    assert accept_log(again, DAY, "the state of s8 was mapped wrongly") == 1
    run_range(again, [DAY], steps=NEEDED)
    assert problems(again) == []
    assert failed(again) == set()
    assert again.event_history.heads()["reason"].to_list() == ["", "the state of s8 was mapped wrongly"]
    with pytest.raises(ContractError, match="SPC-652"):
        accept_log(again, DAY, "once more")


def test_the_command_line_says_what_is_wrong(plant: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPC_SITE", str(plant.settings.site))
    monkeypatch.setenv("SPC_DATA", str(plant.settings.data))
    good = CliRunner().invoke(app, ["events", "check"], catch_exceptions=False)
    assert (good.exit_code, "0 problems; 1 heads noted" in good.output) == (0, True)
    log = plant.lake.read("operations_event", DAY)
    plant.lake.commit("operations_event", log.head(5), DAY)
    bad = CliRunner().invoke(app, ["events", "check", "--date", "2026-01-07"], catch_exceptions=False)
    assert bad.exit_code == 1
    assert f"2026-01-07  LOST  {log['event_id'][-1]}" in bad.output
    accepted = CliRunner().invoke(
        app, ["events", "accept", "--date", "2026-01-07", "--reason", "trial"], catch_exceptions=False
    )
    assert "1 events released" in accepted.output
    listed = CliRunner().invoke(app, ["events", "heads"], catch_exceptions=False)
    assert listed.output.count("2026-01-07") >= 2
    assert "accepted: trial" in listed.output


def test_a_damaged_history_is_no_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "event_history.sqlite"
    path.write_bytes(b"no database" * 500)
    with pytest.raises(LakeError, match="SPC-510"):
        EventHistory(path)


def test_a_scratch_view_leaves_the_history_alone(plant: Workspace, tmp_path: Path) -> None:
    from spc_platform.engine.known import known_table

    entries = plant.event_history.heads()
    known_table(plant, "operations_event", plant.known_until(), DAY, scratch=tmp_path)
    assert plant.event_history.heads().equals(entries)
    assert replace(plant).event_history.path == plant.event_history.path

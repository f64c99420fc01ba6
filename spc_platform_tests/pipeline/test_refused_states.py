"""A file of states with a word that the site does not map: landed, run, explained, and corrected by a later file."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from spc_platform.cli.why import explained
from spc_platform.engine import Workspace, run_range
from spc_platform.engine.known import known_table
from spc_platform.engine.steps import STEPS
from spc_platform.lake.landing import land_source
from spc_platform.settings import Settings
from spc_platform.site.scaffold import scaffold
from spc_platform.sources import open_source

DAY = date(2026, 1, 7)
NAMES = ("raw", "shift_calendar", "equipment_state", "work_order", "signal_event", "state_interval")
NEEDED = tuple(step for step in STEPS if step.name in NAMES)
SOURCES = """\
[[source]]
source_id = "machines"
kind = "files"
root = "{root}"

[[source.resource]]
name = "states"
tables = ["raw_equipment_state"]
format = "csv"
path = "*.csv"
mutable = false

[source.resource.fields]
record_id = "id"
equipment_id = "machine"
state = "state"
start_at = "at"
updated_at = "written"
"""
HEAD = "id,machine,state,at,written\n"
# 06:00 in Berlin is 05:00 UTC: the early shift of 8 h, with a break from 09:00 to 09:30
STATES = f"""\
{HEAD}a,L1-LATHE,RUN,2026-01-07T05:00:00Z,2026-01-07T05:00:01Z
b,L1-LATHE,UNAVAILABLE,2026-01-07T06:00:00Z,2026-01-07T06:00:01Z
c,L1-LATHE,RUN,2026-01-07T07:00:00Z,2026-01-07T07:00:01Z
d,L9,STOP,2026-01-07T10:00:00Z,2026-01-07T10:00:01Z
e,L1-LATHE,UNAVAILABLE,2026-01-07T11:00:00Z,2026-01-07T10:00:01Z
f,L1-LATHE,RUN,2026-01-08T05:00:00Z,2026-01-08T05:00:01Z
"""
LATE = f"{HEAD}g,L1-LATHE,BROKEN,2026-01-07T12:00:00Z,2026-01-08T09:00:00Z\n"


def land_and_run(workspace: Workspace) -> None:
    land_source(
        open_source(workspace.site.source("machines"), workspace.settings), workspace.site, workspace.landing, workspace.ledger
    )
    run_range(workspace, [DAY], steps=NEEDED)


@pytest.fixture
def plant(tmp_path: Path) -> Workspace:
    site, drop = tmp_path / "site", tmp_path / "drop"
    scaffold(site, "plant-1")
    drop.mkdir()
    (drop / "states.csv").write_text(STATES)
    (site / "sources.toml").write_text(SOURCES.format(root=drop))
    workspace = Workspace.open(Settings(site=site, data=tmp_path / "data"))
    land_and_run(workspace)
    return workspace


def early(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.filter((pl.col("equipment_id") == "L1-LATHE") & (pl.col("shift_id") == "EARLY"))


def seconds(frame: pl.DataFrame) -> dict[str, float]:
    summed = early(frame).group_by(pl.col("time_element").cast(pl.String)).agg(pl.col("duration_s").sum())
    return dict(summed.rows())


def test_after_a_word_that_nobody_mapped_the_machine_is_unknown_and_the_row_says_why(plant: Workspace) -> None:
    held = plant.lake.read("state_interval", DAY)
    # one hour after b; of e the time lies after its own recording, of d the unit is none of the plant: they end nothing
    assert seconds(held) == {"PDT": 1800, "UNKNOWN": 3600, "APT": 28800 - 1800 - 3600}
    told = early(held).filter(pl.col("unknown_reason").is_not_null())
    assert told.select("event_id", "unknown_reason", pl.col("state").cast(pl.String), "duration_s").rows() == [
        ("machines:b", "state:UNKNOWN", "UNKNOWN", 3600.0)
    ]
    assert plant.lake.read("equipment_state_rejected", DAY).height == 3


def test_a_late_refused_record_changes_the_date_and_why_names_it(plant: Workspace, tmp_path: Path) -> None:
    before = plant.lake.read("state_interval", DAY)
    (tmp_path / "drop" / "late.csv").write_text(LATE)
    land_and_run(plant)
    held = plant.lake.read("state_interval", DAY)
    assert seconds(held) == {"PDT": 1800, "UNKNOWN": 7200, "APT": 28800 - 1800 - 7200}
    then = datetime(2026, 1, 8, 8, tzinfo=UTC)
    assert seconds(known_table(plant, "state_interval", then, DAY).frame) == seconds(before)
    found = explained(plant, DAY, "L1-LATHE", "EARLY", then.isoformat(), "2026-01-08T10:00:00Z", "source")
    changed = found.contributions.filter(pl.col("unknown_s") != 0)
    assert changed.select("event_type", "record_id", "cause", "unknown_s", "apt_s").rows() == [
        ("equipment_state", "g", "event", 3600.0, -3600.0)
    ]
    assert found.after.intervals.equals(held)


def test_a_state_that_the_site_maps_afterwards_is_known_again(plant: Workspace) -> None:
    table = plant.settings.site / "states.csv"
    head = table.read_text().splitlines()[0].split(",")
    row = {"source_state": "UNAVAILABLE", "state": "STOP", "time_element": "ADET", "priority": "30"}
    table.write_text(table.read_text().rstrip("\n") + "\n" + ",".join(row.get(name, "") for name in head) + "\n")
    again = Workspace.open(plant.settings)
    run_range(again, [DAY], steps=NEEDED)
    held = again.lake.read("state_interval", DAY)
    assert seconds(held) == {"PDT": 1800, "ADET": 3600, "APT": 28800 - 1800 - 3600}
    assert held["unknown_reason"].null_count() == held.height

"""Readings of a lathe's counters, landed and run: what OEE counts where the MES counts too, and where it does not."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from spc_platform.cli.why import explained
from spc_platform.engine import Workspace, run_range
from spc_platform.engine.known import known_table
from spc_platform.engine.known_changes import known_changes
from spc_platform.engine.run import run_step
from spc_platform.engine.steps import STEPS, step
from spc_platform.errors import ContractError
from spc_platform.lake.landing import land_source
from spc_platform.settings import Settings
from spc_platform.site.scaffold import scaffold
from spc_platform.sources import open_source

DAY = date(2026, 1, 7)
NAMES = (
    "raw",
    "shift_calendar",
    "telemetry",
    "equipment_state",
    "work_order",
    "signal_event",
    "production_count",
    "state_interval",
    "part_count",
    "oee_elements",
)
NEEDED = tuple(step for step in STEPS if step.name in NAMES)
SOURCES = """\
[[source]]
source_id = "lathe"
kind = "files"
root = "{root}"

[[source.resource]]
name = "readings"
tables = ["raw_telemetry"]
format = "csv"
path = "readings*.csv"
mutable = false

[source.resource.fields]
record_id = "{{counter}}-{{at}}"
stream_id = "counter"
observed_at = "at"
value = "value"

[source.resource.options]
constants = {{ unit = "1" }}

[[source.resource]]
name = "states"
tables = ["raw_equipment_state"]
format = "csv"
path = "states.csv"
mutable = false

[source.resource.fields]
record_id = "{{start}}"
state = "state"
start_at = "start"

[source.resource.options]
constants = {{ equipment_id = "L1-LATHE" }}

[[source.resource]]
name = "counts"
tables = ["raw_production_count"]
format = "csv"
path = "counts.csv"
mutable = false

[source.resource.fields]
record_id = "{{at}}"
counted_at = "at"
good_quantity = "good"

[source.resource.options]
constants = {{ equipment_id = "L1-LATHE", material_definition_id = "SHAFT", scrap_quantity = 0, rework_quantity = 0 }}
"""
# 06:00 in Berlin is 05:00 UTC: early shift until 13:00 UTC, late until 21:00 UTC
READINGS = """\
counter,at,value
L1-LATHE.parts,2026-01-07T05:00:00Z,9990
L1-LATHE.parts,2026-01-07T06:00:00Z,9999
L1-LATHE.parts,2026-01-07T07:00:00Z,9
L1-LATHE.parts,2026-01-07T12:00:00Z,29
L1-LATHE.parts,2026-01-07T14:00:00Z,36
L1-LATHE.parts,2026-01-07T15:00:00Z,35
L1-LATHE.parts,2026-01-07T16:00:00Z,40
L1-LATHE.scrap,2026-01-07T05:00:00Z,4
L1-LATHE.scrap,2026-01-07T12:30:00Z,6
"""
STATES = "state,start\nRUN,2026-01-07T05:00:00Z\nSTOP,2026-01-07T20:59:00Z\n"
COUNTS = "at,good\n2026-01-07T12:45:00Z,40\n"


def run(folder: Path, in_force: str, readings: tuple[str, ...] = (READINGS,)) -> Workspace:
    """A small plant with one lathe whose counters and MES are landed and run for one date."""
    site, drop = folder / "site", folder / "drop"
    scaffold(site, "plant-1")
    drop.mkdir()
    for number, text in enumerate(readings):
        (drop / f"readings{number}.csv").write_text(text)
    (drop / "states.csv").write_text(STATES)
    (drop / "counts.csv").write_text(COUNTS)
    (site / "sources.toml").write_text(SOURCES.format(root=drop))
    with (site / "streams.csv").open("a") as streams:
        streams.writelines(f"L1-LATHE.{name},L1-LATHE,Counter,1,5,3,0,none,0,30,,\n" for name in ("parts", "scrap"))
    rows = "".join(
        f"L1-LATHE.{name},L1-LATHE,{counts},{in_force},9999,,3600,SHAFT\n"
        for name, counts in (("parts", "total"), ("scrap", "scrap"))
    )
    head = "stream_id,equipment_id,counts,in_force,maximum,shortest_cycle_s,max_gap_s,material_definition_id\n"
    (site / "part_counters.csv").write_text(head + rows)
    workspace = Workspace.open(Settings(site=site, data=folder / "data"))
    land_source(
        open_source(workspace.site.source("lathe"), workspace.settings), workspace.site, workspace.landing, workspace.ledger
    )
    run_range(workspace, [DAY], steps=NEEDED)
    return workspace


def produced(workspace: Workspace) -> dict[str, tuple[int, int, int]]:
    """Produced, good and scrap of each shift in OEE."""
    elements = workspace.lake.read("oee_elements", DAY).cast({pl.Categorical: pl.String})
    summed = elements.group_by("shift_id").agg(pl.col("pq", "gq", "sq").sum()).filter(pl.col("pq") > 0)
    return {shift: (pq, gq, sq) for shift, pq, gq, sq in summed.rows()}


def quality(workspace: Workspace, shift: str) -> set[str]:
    rows = workspace.lake.read("oee_elements", DAY).filter((pl.col("shift_id") == shift) & (pl.col("pq") > 0))
    return {code for text in rows["data_quality"].drop_nulls() for code in text.split(";")}


# early: 9 + 10 through zero + 20 = 39, two of them scrap; late: 7 from a reading before the border to one after it, then 4
EARLY, LATE = (39, 37, 2), (11, 11, 0)


@pytest.mark.parametrize(
    ("in_force", "expected"),
    [
        ("counter", {"EARLY": EARLY, "LATE": LATE}),
        ("mes", {"EARLY": (40, 40, 0)}),
        ("mes_else_counter", {"EARLY": (40, 40, 0), "LATE": LATE}),
    ],
)
def test_oee_counts_what_the_site_says(tmp_path: Path, in_force: str, expected: dict[str, tuple[int, int, int]]) -> None:
    workspace = run(tmp_path, in_force)
    assert produced(workspace) == expected
    compared = workspace.lake.read("count_comparison", DAY).cast({pl.Categorical: pl.String})
    told = (
        compared.sort("shift_id").select("shift_id", "mes_good", "counter_good", "counter_scrap", "difference", "agrees").rows()
    )
    assert told == [("EARLY", 40, 37, 2, -1, False), ("LATE", 0, 11, 0, 11, False)]
    wins = "counter" if in_force == "counter" else "mes"
    assert ("COUNTED_BY_COUNTER" in quality(workspace, "EARLY")) is (wins == "counter")
    assert "COUNTS_DISAGREE" in quality(workspace, "EARLY")


def test_every_reading_has_its_rule_and_what_is_odd_warns(tmp_path: Path) -> None:
    workspace = run(tmp_path, "counter")
    deltas = workspace.lake.read("part_counter_delta", DAY).filter(pl.col("stream_id") == "L1-LATHE.parts")
    assert deltas.select("rule", "parts", "across_gap").rows() == [
        ("first", 0, False),
        ("step", 9, False),
        ("rollover", 10, False),
        ("gap", 20, True),
        ("gap", 7, True),
        ("backward", 0, False),
        ("step", 4, False),
    ]
    assert quality(workspace, "LATE") >= {"COUNTED_BY_COUNTER", "COUNTS_DISAGREE", "COUNT_ACROSS_GAP"}
    outcomes = {made.table: made for made in run_step(workspace, step("part_count"), [DAY])}
    failed = {check.name for made in outcomes.values() for check in made.checks if not check.passed}
    assert failed == {"counts_agree", "counter_readings"}
    assert not any(check.blocking for made in outcomes.values() for check in made.checks if not check.passed)


def test_how_the_readings_were_cut_into_files_changes_nothing(tmp_path: Path) -> None:
    """Backwards, one line a file, and every line twice."""
    head, *lines = READINGS.splitlines(keepends=True)
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole = run(tmp_path / "whole", "counter")
    cut = run(tmp_path / "cut", "counter", tuple(head + line for line in [*reversed(lines), *lines]))
    for table in ("part_count", "part_counter_delta", "count_comparison", "oee_elements"):
        assert cut.lake.manifest(table, DAY).sha256 == whole.lake.manifest(table, DAY).sha256, table  # type: ignore[union-attr]


def test_why_refuses_a_figure_that_a_counter_made(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"parts of L1-LATHE are counted by L1-LATHE\.parts") as refused:
        explained(run(tmp_path, "counter"), DAY, "L1-LATHE", "EARLY", None, None, "source")
    assert refused.value.code == "SPC-660"


def test_a_late_reading_shows_as_the_deltas_that_it_split(tmp_path: Path) -> None:
    workspace = run(tmp_path, "counter")
    before = datetime.now(UTC)
    late = "counter,at,value\nL1-LATHE.parts,2026-01-07T05:30:00Z,9995\n"
    (tmp_path / "drop" / "readings9.csv").write_text(late)
    land_source(
        open_source(workspace.site.source("lathe"), workspace.settings), workspace.site, workspace.landing, workspace.ledger
    )
    run_range(workspace, [DAY], steps=NEEDED)
    found = known_changes(workspace, known_table(workspace, "part_counter_delta", before, DAY))
    assert found.readings.rows() == [("L1-LATHE.parts", 1)]
    assert found.rows.height == 2, "the reading's own delta, and the one after it"
    parts = found.cells.filter(pl.col("column") == "parts")
    assert parts.select("known", "present").rows() == [("9", "4")]


def test_counts_of_the_mes_that_are_not_in_force_brought_no_parts(tmp_path: Path) -> None:
    """As known before anything had landed, so that every record is a late one."""
    before = datetime.now(UTC)
    workspace = run(tmp_path, "counter")
    found = known_changes(workspace, known_table(workspace, "oee_elements", before, DAY))
    lathe = found.causes.filter(pl.col("equipment_id") == "L1-LATHE")
    assert lathe["apt_s"].sum() > 0
    assert lathe.select("pq", "gq").sum().row(0) == (0, 0)

"""An adapter log and a file of signals, landed and run: the machine's states without anyone who records them."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from spc_platform.cli.why import explained
from spc_platform.engine import Workspace, run_range
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
name = "agent"
tables = ["raw_signal_event"]
format = "mtconnect_adapter"
path = "*.txt"
mutable = false

[source.resource.options]
equipment_id = "L1-LATHE"
signals = {{ execution = "execution", mode = "mode", avail = "availability" }}

[[source.resource]]
name = "alarms"
tables = ["raw_signal_event"]
format = "csv"
path = "*.csv"
mutable = false

[source.resource.fields]
record_id = "{{machine}}-{{signal}}-{{at}}"
equipment_id = "machine"
signal = "signal"
value = "value"
occurred_at = "at"
"""
# 06:00 in Berlin is 05:00 UTC: the early shift, with a break from 09:00 to 09:30
LOG = b"""\
2026-01-07T05:00:00.0000000Z|avail|AVAILABLE
2026-01-07T05:00:00.0000000Z|execution|ACTIVE
2026-01-07T06:00:00.0000000Z|execution|FEED_HOLD
2026-01-07T06:00:20.0000000Z|execution|ACTIVE
2026-01-07T07:00:00.0000000Z|mode|MANUAL
2026-01-07T07:15:00.0000000Z|mode|AUTOMATIC
2026-01-07T13:00:00.0000000Z|avail|UNAVAILABLE
"""
ALARMS = """\
machine,signal,value,at
L1-LATHE,alarm,FAULT,2026-01-07T10:00:00Z
L1-LATHE,alarm,NORMAL,2026-01-07T10:10:00Z
L9,alarm,FAULT,2026-01-07T10:00:00Z
L1-LATHE,mood,GOOD,2026-01-07T10:00:00Z
"""


def run(folder: Path, *, policies: tuple[str, str] = ("", ""), rules: str = "") -> Workspace:
    """A small plant with one lathe whose log and alarms are landed and run for one date."""
    site, drop = folder / "site", folder / "drop"
    scaffold(site, "plant-1")
    drop.mkdir()
    (drop / "lathe.txt").write_bytes(LOG)
    (drop / "alarms.csv").write_text(ALARMS)
    (site / "sources.toml").write_text(SOURCES.format(root=drop))
    (site / "policies.toml").write_text((site / "policies.toml").read_text().replace(*policies))
    if rules:
        (site / "state_rules.csv").write_text(rules)
    workspace = Workspace.open(Settings(site=site, data=folder / "data"))
    source = open_source(workspace.site.source("machines"), workspace.settings)
    land_source(source, workspace.site, workspace.landing, workspace.ledger)
    run_range(workspace, [DAY], steps=NEEDED)
    return workspace


def seconds(workspace: Workspace) -> dict[str, float]:
    """Seconds of the early shift by time element."""
    pieces = workspace.lake.read("state_interval", DAY).filter(pl.col("shift_id") == "EARLY")
    summed = pieces.group_by(pl.col("time_element").cast(pl.String)).agg(pl.col("duration_s").sum())
    return dict(summed.rows())


def test_states_of_a_shift_follow_from_a_log_and_a_file_of_alarms(tmp_path: Path) -> None:
    workspace = run(tmp_path)
    # 8 h: half an hour of break, 20 s of feed hold and 10 min of alarm, a quarter of an hour in manual mode
    found = seconds(workspace)
    assert found == {"PDT": 1800, "ADET": 620, "AUST": 900, "APT": 28800 - 1800 - 620 - 900}
    assert workspace.lake.read("equipment_state", DAY).is_empty()
    refused = workspace.lake.read("signal_event_rejected", DAY).cast({pl.Categorical: pl.String})
    assert sorted(refused["reasons"]) == ["equipment_id:UNKNOWN", "signal:NOT_ALLOWED"]
    stops = workspace.lake.read("downtime_event", DAY).cast({pl.Categorical: pl.String})
    assert ("STOP", 600.0) in stops.select("state", "duration_s").rows()


def test_why_explains_a_figure_that_late_words_of_signals_changed(tmp_path: Path) -> None:
    """A later file takes the alarm of ten minutes back to five and tells of one that nobody had told of."""
    workspace = run(tmp_path)
    before = datetime.now(UTC)
    late = ["L1-LATHE,alarm,NORMAL,2026-01-07T10:05:00Z", "L1-LATHE,alarm,FAULT,2026-01-07T11:00:00Z"]
    late.append("L1-LATHE,alarm,NORMAL,2026-01-07T11:01:00Z")
    (tmp_path / "drop" / "late.csv").write_text("\n".join([ALARMS.splitlines()[0], *late]) + "\n")
    source = open_source(workspace.site.source("machines"), workspace.settings)
    land_source(source, workspace.site, workspace.landing, workspace.ledger)
    run_range(workspace, [DAY], steps=NEEDED)
    found = explained(workspace, DAY, "L1-LATHE", "EARLY", before.isoformat(), datetime.now(UTC).isoformat(), "source")
    figures = {row["figure"]: row["difference"] for row in found.figures.iter_rows(named=True)}
    assert (figures["adet_s"], figures["apt_s"], figures["pot_s"]) == (-300 + 60, 300 - 60, 0)
    rows = found.contributions.filter(pl.col("apt_s") != 0)
    told = rows.select("event_type", "cause", "effective_at", "apt_s", "adet_s").sort("effective_at").rows()
    assert told == [
        ("signal_event", "event", datetime(2026, 1, 7, 10, 5, tzinfo=UTC), 300.0, -300.0),
        ("signal_event", "event", datetime(2026, 1, 7, 11, 0, tzinfo=UTC), -60.0, 60.0),
    ]
    assert found.after.intervals.equals(workspace.lake.read("state_interval", DAY))


def test_the_policies_of_a_site_debounce_its_signals(tmp_path: Path) -> None:
    found = seconds(run(tmp_path, policies=("debounce_s = 0.0", "debounce_s = 30.0")))
    assert found["ADET"] == 600  # the feed hold of 20 s is none


def test_the_rules_of_a_site_are_its_own(tmp_path: Path) -> None:
    found = seconds(run(tmp_path, rules="priority,alarm,execution,state\n2,FAULT,,IDLE\n1,,ACTIVE|FEED_HOLD,RUN\n"))
    assert found == {"PDT": 1800, "ADOT": 600, "APT": 28800 - 1800 - 600}


def test_an_unknown_set_of_rules_is_refused_when_the_site_is_read(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r'"state_rules_set" is \'opc\'.*mtconnect, opc_40001'):
        run(tmp_path, policies=('"mtconnect"', '"opc"'))


def test_time_after_the_newest_record_is_not_claimed(tmp_path: Path) -> None:
    workspace = run(tmp_path)
    assert workspace.as_of(DAY) == datetime(2026, 1, 7, 13, tzinfo=UTC)
    ends = workspace.lake.read("state_interval", DAY)["end_at"]
    assert ends.max() == workspace.as_of(DAY)

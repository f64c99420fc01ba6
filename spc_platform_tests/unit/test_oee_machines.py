"""`spc oee` of what machines say themselves: signals instead of states, cumulative counters instead of counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from spc_platform.cli.main import app
from spc_platform.cli.oee_file import Request, oee_document
from spc_platform.cli.oee_text import oee_text
from spc_platform.errors import ContractError, SiteError
from spc_platform.settings import REPOSITORY

SCHEMA = json.loads((REPOSITORY / "docs" / "reference" / "oee.schema.json").read_text())
STATES = """equipment_id,state,start_at,end_at
CNC,RUN,2026-03-10T06:00:00Z,2026-03-10T08:00:00Z
CNC,STOP,2026-03-10T08:00:00Z,2026-03-10T08:25:00Z
CNC,RUN,2026-03-10T08:25:00Z,2026-03-10T10:00:00Z
CNC,SETUP,2026-03-10T10:00:00Z,2026-03-10T10:30:00Z
CNC,RUN,2026-03-10T10:30:00Z,2026-03-10T14:00:00Z
"""
SIGNALS = """equipment_id,signal,value,at
CNC,availability,AVAILABLE,2026-03-10T06:00:00Z
CNC,execution,ACTIVE,2026-03-10T06:00:00Z
CNC,execution,INTERRUPTED,2026-03-10T08:00:00Z
CNC,execution,ACTIVE,2026-03-10T08:25:00Z
CNC,Mode,MANUAL,2026-03-10T10:00:00Z
CNC,mode,AUTOMATIC,2026-03-10T10:30:00Z
CNC,execution,READY,2026-03-10T14:00:00Z
"""
COUNTERS = """equipment_id,at,value,kind
CNC,2026-03-10T06:00:00Z,9900,good
CNC,2026-03-10T11:00:00Z,40,good
CNC,2026-03-10T12:00:00Z,10,good
CNC,2026-03-10T12:30:00Z,,good
CNC,2026-03-10T13:00:00Z,200,good
CNC,2026-03-10T06:00:00Z,7,scrap
CNC,2026-03-10T13:00:00Z,13,scrap
"""
CALENDAR: dict[str, Any] = {"shifts": ("early=06:00-14:00",), "pri": 60.0}


@pytest.fixture
def files(tmp_path: Path):
    """Writes files by their role and gives their paths."""

    def write(**texts: str) -> dict[str, Path]:
        paths = {name: tmp_path / f"{name}.csv" for name in texts}
        for name, path in paths.items():
            path.write_text(texts[name])
        return paths

    return write


def document(**options: Any) -> dict[str, Any]:
    found = oee_document(Request(**(CALENDAR | options)))
    Draft202012Validator(SCHEMA).validate(found)
    return found


def test_signals_give_the_figures_of_the_states_that_they_mean(files):
    paths = files(states=STATES, signals=SIGNALS)
    by_hand, by_rules = document(states=paths["states"]), document(signals=paths["signals"], as_of="2026-03-10T14:00:00Z")
    assert by_rules["total"] == by_hand["total"]
    # 480 min: 25 min of stop (5/96), 30 min of set-up
    assert by_rules["total"]["elements"]["adet_s"] == 25 * 60
    assert by_rules["total"]["elements"]["aust_s"] == 30 * 60
    assert [row["rule"] for row in by_rules["signal_states"]] == [50, 30, 50, 60, 50, 20]
    assert [row["row"] for row in by_rules["signal_states"]] == [2, 3, 4, 5, 6, 7]


def test_a_short_state_is_merged_and_shown_and_a_silent_unit_is_unknown(files):
    signals = files(signals=SIGNALS)["signals"]
    merged = document(signals=signals, debounce=1500.5, as_of="2026-03-10T14:00:00Z")
    assert merged["total"]["elements"]["adet_s"] == 0
    assert merged["signal_states"][0]["absorbed_s"] == 1500
    assert "CNC RUN from 2026-03-10T06:00:00Z: 1 shorter states merged (1500 s)" in oee_text(merged)
    silent = document(signals=signals, silence=7200.0, as_of="2026-03-10T14:00:00Z")
    assert silent["total"]["elements"]["unknown_s"] == 1.5 * 3600  # from 12:30, two hours after the last word, to 14:00


def test_a_plants_own_rules_are_a_file(files):
    own = "priority,execution,mode,state\n2,ACTIVE,,run\n1,INTERRUPTED|READY,,idle\n"
    paths = files(signals=SIGNALS, own=own)
    found = document(signals=paths["signals"], rules=str(paths["own"]), as_of="2026-03-10T14:00:00Z")
    assert found["total"]["elements"]["adot_s"] == 25 * 60  # the stop is no delay by these rules
    assert [file["role"] for file in found["files"]] == ["signals", "rules"]
    twice = files(own=own + "1,STOPPED,,STOP\n")["own"]
    with pytest.raises(SiteError, match="priority 1 stands twice"):
        document(signals=paths["signals"], rules=str(twice))


def test_counters_give_counts_with_the_rule_of_each(files):
    paths = files(states=STATES, counters=COUNTERS)
    found = document(states=paths["states"], counters=paths["counters"], counter_maximum=9999.0)
    # rollover 9900 -> 9999 -> 0 -> 40: 140; reset to 10: 10; 10 -> 200 across a missing reading: 190; scrap 13 - 7
    assert found["total"]["counts"] == {"pq": 346, "gq": 340, "sq": 6, "rq": 0}
    said = [(row["kind"], row["rule"], row["delta"]) for row in found["counter_deltas"]]
    assert said == [
        ("good", "first", None),
        ("good", "rollover", 140),
        ("good", "reset", 10),
        ("good", "no_value", None),
        ("good", "gap", 190),
        ("scrap", "first", None),
        ("scrap", "step", 6),
    ]
    text = oee_text(found)
    assert "counter: row 3: CNC good: reset: 10 counted until 2026-03-10T12:00:00Z" in text
    assert "counter: row 1: CNC good: first: nothing counted" in text


def test_rows_in_any_order_give_the_same_figures(files):
    header, *rows = COUNTERS.splitlines()
    turned = files(states=STATES, counters=COUNTERS, turned="\n".join([header, *reversed(rows)]) + "\n")
    figures = [
        document(states=turned["states"], counters=turned[name], counter_maximum=9999.0)["total"]
        for name in ("counters", "turned")
    ]
    assert figures[0] == figures[1]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("CNC,soon,3,good", "row 8: 1 rows cannot be used .at 'soon' is no time"),
        ("CNC,2026-03-10T13:30:00Z,3.5,good", "value '3.5' is not a whole number"),
        ("CNC,2026-03-10T13:30:00Z,3,lost", "row 8: 1 rows count none of good, scrap, rework"),
        ("CNC,2026-03-10T13:30:00Z,-3,good", "a counter has no reading below 0"),
    ],
)
def test_a_reading_that_cannot_be_is_named_with_its_row(files, line, why):
    paths = files(states=STATES, counters=COUNTERS + line + "\n")
    with pytest.raises(SiteError, match=why):
        document(states=paths["states"], counters=paths["counters"])


def test_a_signal_of_another_name_and_a_row_without_time_are_named(files):
    with pytest.raises(SiteError, match="row 8: 1 rows name no signal"):
        document(signals=files(signals=SIGNALS + "CNC,mood,GOOD,2026-03-10T09:00:00Z\n")["signals"])
    with pytest.raises(SiteError, match="row 8: 1 rows cannot be used"):
        document(signals=files(signals=SIGNALS + "CNC,mode,MANUAL,\n")["signals"])


def test_states_and_signals_or_counts_and_counters_exclude_each_other(files):
    paths = files(states=STATES, signals=SIGNALS, counters=COUNTERS)
    for given in ({}, {"states": paths["states"], "signals": paths["signals"]}):
        with pytest.raises(ContractError, match="either --states or --signals"):
            document(**given)
    with pytest.raises(ContractError, match="--counts and --counters"):
        document(states=paths["states"], counts=paths["counters"], counters=paths["counters"])


def test_the_command_reads_signals_and_counters(files):
    paths = files(signals=SIGNALS, counters=COUNTERS)
    arguments = ["--signals", paths["signals"], "--counters", paths["counters"], "--counter-maximum", 9999, "--pri", 60]
    more = ["--rules", "mtconnect", "--debounce", 10, "--silence", 86400, "--shift", "early=06:00-14:00", "--format", "json"]
    result = CliRunner().invoke(
        app, ["oee", *map(str, arguments + more), "--as-of", "2026-03-10T14:00:00Z", "--format", "json"]
    )
    assert result.exit_code == 0, result.output
    total = json.loads(result.output)["total"]
    # APT 480 - 25 - 30 = 425 of 480 minutes; 346 cycles of one minute; 340 of 346 good: OEE 340/480
    assert total["iso_22400"]["oee"] == pytest.approx(340 / 480, rel=1e-12)

"""The week of the SMS Test Bed's eight machines through the lake, and its seconds against the machines' own counters.

Source: NIST SMS Test Bed (github usnistgov/smstestbed, raw/), US Government work. What the site's README prints is
recomputed from the lake, and what the lake says from the raw logs line by line without the platform (``nist_logs``).
"""

from __future__ import annotations

import importlib.util
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest

from spc_platform.engine import Workspace, run_range
from spc_platform.engine.steps import STEPS
from spc_platform.lake.landing import land_source
from spc_platform.settings import REPOSITORY, Settings
from spc_platform.sources import open_source
from spc_platform_tests.conftest import lacking
from spc_platform_tests.pipeline.nist_logs import MACHINES, ledger_of, lines_of, pieces_of, seconds_by_state

NIST = REPOSITORY / "data" / "nist"
WEEK = "nist-smstestbed-week-2017-05-01/raw-8-machines-20170501-20170507.tar.gz"
END = datetime(2017, 5, 8, tzinfo=UTC)
AUTOMATIC = {"ACTIVE", "FEED_HOLD", "INTERRUPTED"}
NEEDED = (
    "raw",
    "shift_calendar",
    "telemetry",
    "equipment_state",
    "work_order",
    "production_count",
    "signal_event",
    "state_interval",
    "part_count",
    "oee_elements",
)


@pytest.fixture(scope="module")
def archive(shared_data: Path) -> Path:
    if not (shared_data / WEEK).is_file():
        lacking(f"no test bed week at {shared_data / WEEK}; set SPC_SHARED_DATA or run `spc data fetch`")
    return shared_data / WEEK


@pytest.fixture(scope="module")
def report() -> ModuleType:
    """The script that writes the README's tables."""
    spec = importlib.util.spec_from_file_location("nist_cross_check", NIST / "cross_check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def lake(archive: Path, shared_data: Path, report: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace.open(Settings(site=NIST, data=tmp_path_factory.mktemp("week"), shared_data=shared_data))
    source = open_source(workspace.site.source("nist_test_bed"), workspace.settings)
    land_source(source, workspace.site, workspace.landing, workspace.ledger)
    run_range(workspace, report.WEEK, steps=tuple(step for step in STEPS if step.name in NEEDED))
    return workspace


def shifts() -> list[tuple[datetime, datetime]]:
    """05:00 to 15:30 in New York, Monday to Friday: four hours behind UTC."""
    starts = [datetime(2017, 5, day, 9, tzinfo=UTC) for day in range(1, 6)]
    return [(start, start + timedelta(hours=10.5)) for start in starts]


@pytest.mark.parametrize("machine", MACHINES)
def test_the_elements_of_the_week_are_those_of_the_raw_log(
    machine: str, lake: Workspace, archive: Path, report: ModuleType
) -> None:
    pieces = pieces_of(archive, machine, END)
    days = [seconds_by_state(pieces, first, last) for first, last in shifts()]
    expected = {state: sum(day.get(state, 0.0) for day in days) for state in ("RUN", "SETUP", "STOP", "IDLE", "UNKNOWN")}
    (row,) = report.by_machine(lake).filter(equipment_id=machine).iter_rows(named=True)
    found = {
        "RUN": row["apt_s"],
        "SETUP": row["aust_s"],
        "STOP": row["adet_s"],
        "IDLE": row["adot_s"],
        "UNKNOWN": row["unknown_s"],
    }
    assert found == pytest.approx(expected, abs=2e-3)
    assert sum(found.values()) == pytest.approx(5 * 10.5 * 3600, abs=1e-6)
    assert row["availability"] == pytest.approx(expected["RUN"] / (5 * 10.5 * 3600), abs=1e-7)


@pytest.mark.parametrize("machine", ["Mazak01", "Mazak03"])
def test_the_ledger_between_states_and_counters_is_that_of_the_raw_log(
    machine: str, lake: Workspace, archive: Path, report: ModuleType
) -> None:
    pieces = pieces_of(archive, machine, END)
    spans = [((end - start).total_seconds(), state, execution) for start, end, state, execution in pieces]
    known = sum(seconds for seconds, state, _ in spans if state != "UNKNOWN")
    automatic = sum(seconds for seconds, _, execution in spans if execution in AUTOMATIC)
    rows = report.against_counters(lake).filter(equipment_id=machine)
    assert rows["counter"].to_list() == ["total_time", "auto_time", "cut_time"]
    for row in rows.iter_rows(named=True):
        told = ledger_of(archive, machine, row["counter"], AUTOMATIC)
        late = told["late_total" if row["counter"] == "total_time" else "late_automatic"]
        states = known if row["counter"] == "total_time" else automatic
        assert (row["counter_s"], row["lost_s"]) == (told["counted"], -told["lost"])
        assert (row["states_s"], row["late_s"]) == (pytest.approx(states, abs=2e-3), pytest.approx(late, abs=2e-3))
        assert row["rest_s"] == pytest.approx(states - told["counted"] + told["lost"] - late, abs=5e-3)


def test_what_is_left_unexplained_is_less_than_a_part_in_a_thousand(lake: Workspace, report: ModuleType) -> None:
    """The counters show whole seconds; cut_time is no clock of a state: it bounds automatic operation from below."""
    rows = report.against_counters(lake)
    clocks = rows.filter(pl.col("counter") != "cut_time")
    assert clocks.height == 4
    assert clocks["rest_share"].abs().max() < 1e-3
    assert (rows.filter(counter="cut_time")["rest_s"] > 0).all()


def test_the_readme_prints_the_figures_of_the_lake(lake: Workspace, report: ModuleType) -> None:
    text = (NIST / "README.md").read_text()
    for name, table in report.written(lake).items():
        printed = text.partition(f"<!-- {name} -->\n")[2].partition(f"\n<!-- end of {name} -->")[0]
        assert printed == table, f"run data/nist/cross_check.py: the table {name} is not that of the lake"


def test_the_parts_of_the_week_are_those_that_the_control_counted(lake: Workspace, archive: Path) -> None:
    """Hurco01 shows 0 when it is switched on and 3015 a second later: earlier weeks. Then 3035, 3036 and 3037 on 2 May."""
    readings = [float(value) for _, _, item, value in lines_of(archive, "Hurco01") if item == "Part_Count" and value.isdigit()]
    of_earlier_weeks = readings[1]
    assert (readings[0], max(readings) - of_earlier_weeks) == (0, 22)
    deltas = lake.lake.read_dates("part_counter_delta", lake.lake.dates("part_counter_delta")).filter(equipment_id="Hurco01")
    counted = deltas.filter(pl.col("rule") != "unchanged").select("rule", "parts", "across_gap").rows()
    assert counted == [("first", 0, False), ("jump", 0, False), ("gap", 20, True), ("step", 1, False), ("step", 1, False)]
    elements = lake.lake.read("oee_elements", date(2017, 5, 2)).filter(equipment_id="Hurco01")
    assert elements["pq"].sum() == 22
    made = elements.filter(pl.col("pq") > 0).row(0, named=True)
    assert made["data_quality"] == "NO_IDEAL_CYCLE;UNKNOWN_TIME;COUNTED_BY_COUNTER;COUNT_ACROSS_GAP"

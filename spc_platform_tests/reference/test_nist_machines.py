"""SMS Test Bed, 2017-05-01 to 07: states of eight machines, and their seconds against the machines' own counters.

Source: NIST SMS Test Bed (github usnistgov/smstestbed, raw/), US Government work. auto_time, cut_time and total_time are
cumulative seconds that the Mazak controls keep themselves (Devices.xml: ACCUMULATED_TIME, x:AUTO, x:CUT, x:TOTAL).
"""

from __future__ import annotations

import dataclasses
import re
import shutil
import tarfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from spc_platform.contracts.core import PRODUCTION_COUNT, WORK_ORDER
from spc_platform.contracts.signals import COUNTER_DELTA, SIGNAL_STATE
from spc_platform.contracts.table import UTC as UTC_DTYPE
from spc_platform.errors import SiteError
from spc_platform.production.counters import counter_deltas
from spc_platform.production.oee import oee_elements, oee_ratios
from spc_platform.production.signals import RULES, in_log_order, signal_states
from spc_platform.production.state_study import DEFAULT_STATES
from spc_platform.production.states import state_intervals
from spc_platform.settings import REPOSITORY
from spc_platform.site.loader import load_site
from spc_platform.sources.mtconnect import adapter_lines
from spc_platform_tests.conftest import lacking

SIGNAL_OF = {
    "execution": "execution",
    "Program_Status": "execution",
    "mode": "mode",
    "avail": "availability",
    "power": "power",
}
COUNTERS = ("total_time", "auto_time", "cut_time", "Part_Count", "PartCountAct", "Program_Runtime_Seconds")
END = datetime(2017, 5, 8, tzinfo=UTC)
WEEK_S = 7 * 86400
MACHINES = ("GFAgie01", "Hurco01", "Hurco02", "Hurco03", "Hurco04", "Hurco06", "Mazak01", "Mazak03")
PIECE_S = 1.0
"""The counters show whole seconds, so a piece of a state and its counter differ by up to one second at its ends."""


@pytest.fixture(scope="module")
def lines(shared_data: Path) -> pl.DataFrame:
    """Every line of the week: a log's opening snapshot holds from midnight UTC on; ``sequence`` is the place in the log."""
    archive = shared_data / "nist-smstestbed-week-2017-05-01" / "raw-8-machines-20170501-20170507.tar.gz"
    if not archive.is_file():
        lacking(f"no test bed week at {archive}; set SPC_SHARED_DATA or run `spc data fetch`")
    frames = []
    with tarfile.open(archive) as tar:
        for member in sorted(tar.getmembers(), key=lambda member: member.name):
            named = re.search(r"(\w+?)-(\d{8})-\d{8}\.txt$", member.name)
            if named is None:
                continue
            window = datetime.strptime(named[2], "%Y%m%d").replace(tzinfo=UTC)
            body = tar.extractfile(member).read()  # type: ignore[union-attr]
            frames.append(
                adapter_lines(body).select(
                    "item",
                    "value",
                    equipment_id=pl.lit(named[1]),
                    said_at="at",
                    received_at=pl.max_horizontal("at", pl.lit(window).cast(UTC_DTYPE)),
                    is_snapshot=pl.col("at") < pl.lit(window).cast(UTC_DTYPE),
                )
            )
    every = pl.concat(frames).with_columns(at="received_at", sequence=pl.int_range(pl.len()))
    return in_log_order(every)


@pytest.fixture(scope="module")
def events(lines: pl.DataFrame) -> pl.DataFrame:
    said = lines.filter(pl.col("item").is_in(list(SIGNAL_OF)))
    return said.select("equipment_id", "value", "at", "sequence", signal=pl.col("item").replace_strict(SIGNAL_OF))


@pytest.fixture(scope="module")
def states(events: pl.DataFrame) -> pl.DataFrame:
    return signal_states(events, RULES["mtconnect"], name="mtconnect")


@pytest.fixture(scope="module")
def deltas(lines: pl.DataFrame) -> pl.DataFrame:
    readings = lines.filter(pl.col("item").is_in(COUNTERS) & ~pl.col("is_snapshot")).select(
        "at", stream_id=pl.concat_str("equipment_id", pl.lit("."), "item"), value=pl.col("value").cast(pl.Float64, strict=False)
    )
    return counter_deltas(readings)


def seconds_of(states: pl.DataFrame) -> pl.DataFrame:
    end = pl.col("end_at").fill_null(pl.lit(END).cast(UTC_DTYPE))
    return states.with_columns(s=(end - pl.col("start_at")).dt.total_microseconds() / 1e6)


def by_state(states: pl.DataFrame) -> dict[tuple[str, str], float]:
    summed = seconds_of(states).group_by("equipment_id", "state").agg(pl.col("s").sum())
    return {(machine, state): s for machine, state, s in summed.iter_rows()}


def counted_while(deltas: pl.DataFrame, events: pl.DataFrame, stream: str) -> dict[str, float]:
    """What a counter counted by the execution that was in force just before each reading."""
    machine, _ = stream.split(".")
    said = events.filter((pl.col("equipment_id") == machine) & (pl.col("signal") == "execution")).sort("sequence")
    said = said.group_by("at", maintain_order=True).agg(execution=pl.col("value").last())
    rose = deltas.filter((pl.col("stream_id") == stream) & (pl.col("delta") > 0)).sort("end_at")
    placed = rose.join_asof(said, left_on="end_at", right_on="at", strategy="backward", allow_exact_matches=False)
    return dict(placed.group_by("execution").agg(pl.col("delta").sum()).iter_rows())


def test_every_machine_has_one_state_at_every_instant_of_the_week(states: pl.DataFrame) -> None:
    SIGNAL_STATE.pandera_schema().validate(states)
    total = seconds_of(states).group_by("equipment_id").agg(pl.col("s").sum().round(6)).sort("equipment_id")
    assert total.rows() == [(machine, WEEK_S) for machine in MACHINES]
    first = states.group_by("equipment_id").agg(pl.col("start_at").min())["start_at"].unique().to_list()
    assert first == [datetime(2017, 5, 1, tzinfo=UTC)]


def test_machines_that_were_off_are_unknown_all_week(states: pl.DataFrame) -> None:
    found = by_state(states)
    off = ("GFAgie01", "Hurco02", "Hurco03", "Hurco06")
    assert {machine: found[machine, "UNKNOWN"] for machine in off} == dict.fromkeys(off, WEEK_S)


def test_states_do_not_depend_on_delivery(events: pl.DataFrame, states: pl.DataFrame) -> None:
    twice = pl.concat([events.sample(fraction=1.0, shuffle=True, seed=3), events.sample(1000, seed=4)])
    assert signal_states(twice, RULES["mtconnect"], name="mtconnect").equals(states)


def test_a_snapshot_is_old_news_for_counters(lines: pl.DataFrame) -> None:
    """1,849 lines of the 56 logs repeat values from before their day; as readings they are stale and count nothing."""
    assert lines.filter("is_snapshot").height == 1849
    readings = lines.filter(pl.col("item") == "total_time").select(
        "received_at", at="said_at", stream_id="equipment_id", value=pl.col("value").cast(pl.Float64, strict=False)
    )
    assert counter_deltas(readings, stale_after_s=0).filter(pl.col("rule") == "stale").height == 2


def test_in_the_order_of_the_log_a_lost_connection_does_not_hide_its_return(lines: pl.DataFrame, states: pl.DataFrame) -> None:
    """The agent stamps UNAVAILABLE up to 41 s later than the machine stamps AVAILABLE, which stands behind it in the log."""
    shifted = lines.with_columns(by=(pl.col("at") - pl.col("received_at")).dt.total_microseconds() / 1e6)
    late = shifted.filter((pl.col("by") > 0) & pl.col("item").is_in(["execution", "Program_Status"]))
    assert dict(late.group_by("equipment_id").len().iter_rows()) == {"Mazak03": 37, "Hurco04": 1}
    assert late["by"].max() == pytest.approx(40.902202)
    said = lines.filter(pl.col("item").is_in(list(SIGNAL_OF))).select(
        "equipment_id", "value", "sequence", at="received_at", signal=pl.col("item").replace_strict(SIGNAL_OF)
    )
    by_time = by_state(signal_states(said, RULES["mtconnect"]))
    hidden = by_time["Mazak03", "UNKNOWN"] - by_state(states)["Mazak03", "UNKNOWN"]
    assert hidden == pytest.approx(631.466, abs=1e-3)


def noticed_late(lines: pl.DataFrame, machine: str) -> dict[str, float]:
    """By the execution in force, the seconds from the last reading of a connection to the agent's word that it was lost."""
    of_machine = lines.filter(pl.col("equipment_id") == machine)
    said = of_machine.filter(pl.col("item") == "execution").sort("sequence").with_columns(before=pl.col("value").shift(1))
    lost = said.filter((pl.col("value") == "UNAVAILABLE") & (pl.col("before") != "UNAVAILABLE"))
    readings = of_machine.filter((pl.col("item") == "total_time") & (pl.col("value") != "UNAVAILABLE"))
    last = lost.join_asof(readings.sort("sequence").select("sequence", last="at"), on="sequence", strategy="backward")
    silent = last.with_columns(s=(pl.col("at") - pl.col("last")).dt.total_microseconds() / 1e6)
    return dict(silent.group_by("before").agg(pl.col("s").sum()).iter_rows())


@pytest.mark.parametrize(
    ("machine", "auto", "lost", "late"),
    [("Mazak01", 6896, 93, 54.647), ("Mazak03", 32984, 1213, 29.309)],
)
def test_automatic_seconds_agree_with_auto_time(
    machine: str, auto: int, lost: int, late: float, lines: pl.DataFrame, deltas: pl.DataFrame, events: pl.DataFrame
) -> None:
    """auto_time runs in ACTIVE, FEED_HOLD and INTERRUPTED. Two differences, both of the connection:

    it goes on while the connection is lost (UNKNOWN here), and ACTIVE goes on here until the agent notices the loss.
    """
    counted = counted_while(deltas, events, f"{machine}.auto_time")
    assert sum(counted.values()) == auto
    assert counted.pop("UNAVAILABLE") == lost
    said = events.filter((pl.col("equipment_id") == machine) & (pl.col("signal") == "execution"))
    automatic = signal_states(
        said.with_columns(value=pl.col("value").replace(dict.fromkeys(("FEED_HOLD", "INTERRUPTED"), "ACTIVE"))),
        RULES["mtconnect"],
    )
    run = seconds_of(automatic).filter(pl.col("state") == "RUN")
    not_yet_noticed = noticed_late(lines, machine)["ACTIVE"]
    assert not_yet_noticed == pytest.approx(late, abs=1e-3)
    left = run["s"].sum() - not_yet_noticed - sum(counted.values())
    assert abs(left) < PIECE_S * run.height
    assert abs(left) / auto < 0.002


@pytest.mark.parametrize(("machine", "total", "late"), [("Mazak01", 17889, 209.619), ("Mazak03", 132082, 430.910)])
def test_total_time_agrees_with_the_time_in_which_the_machine_spoke(
    machine: str, total: int, late: float, lines: pl.DataFrame, states: pl.DataFrame, deltas: pl.DataFrame, events: pl.DataFrame
) -> None:
    """total_time runs while the control is on; without what passed unseen it is the time in which the state was known."""
    counted = counted_while(deltas, events, f"{machine}.total_time")
    assert sum(counted.values()) == total
    unseen = counted.pop("UNAVAILABLE")
    known = seconds_of(states).filter((pl.col("equipment_id") == machine) & (pl.col("state") != "UNKNOWN"))["s"].sum()
    silent = sum(noticed_late(lines, machine).values())
    assert silent == pytest.approx(late, abs=1e-3)
    assert abs(known - silent - (total - unseen)) / total < 0.0005


def test_cutting_never_exceeds_automatic_operation(deltas: pl.DataFrame) -> None:
    summed = dict(deltas.group_by("stream_id").agg(pl.col("delta").sum()).iter_rows())
    assert (summed["Mazak01.cut_time"], summed["Mazak03.cut_time"]) == (3705, 31263)
    assert all(summed[f"{machine}.cut_time"] <= summed[f"{machine}.auto_time"] for machine in ("Mazak01", "Mazak03"))


def test_readings_that_run_back_and_forth_are_counted_once(lines: pl.DataFrame, deltas: pl.DataFrame) -> None:
    """On 3 May at 11:27 Mazak03 writes total_time by two clocks 45 s apart; by time alone it seems to step back 40 times."""
    COUNTER_DELTA.pandera_schema().validate(deltas)
    known = lines.filter((pl.col("equipment_id") == "Mazak03") & (pl.col("item") == "total_time") & ~pl.col("is_snapshot"))
    by_time = counter_deltas(
        known.select(stream_id="item", at="received_at", value=pl.col("value").cast(pl.Float64, strict=False))
    )
    in_order = deltas.filter(pl.col("stream_id") == "Mazak03.total_time")
    back = by_time.filter(pl.col("rule") == "backward")
    assert (back.height, in_order.filter(pl.col("rule") == "backward").height) == (40, 0)
    assert back["end_at"].dt.date().unique().to_list() == [date(2017, 5, 3)]
    assert by_time["delta"].sum() == in_order["delta"].sum() == 11468397 - 11336315


def test_part_counts_of_the_week(deltas: pl.DataFrame) -> None:
    """Hurco01 shows 0 when it is switched on and then 3015: its first rise is a count of earlier weeks, not of this one."""
    parts = deltas.filter((pl.col("stream_id") == "Hurco01.Part_Count") & (pl.col("delta") > 0)).sort("end_at")
    assert parts["delta"].to_list() == [3015, 20, 1, 1]
    runtime = deltas.filter(pl.col("stream_id") == "Hurco01.Program_Runtime_Seconds")
    assert runtime.filter(pl.col("rule") == "reset").height == 2
    assert runtime["delta"].sum() == 194


def test_availability_of_the_eight_machines(states: pl.DataFrame) -> None:
    """OEE availability of the day shift (05:00 to 15:30 Eastern, Monday to Friday): APT / PBT, gaps counted as lost."""
    site = load_site(REPOSITORY / "data" / "nist")
    site = dataclasses.replace(site, tables={**site.tables, "states": DEFAULT_STATES})
    frames = []
    for day in (date(2017, 5, 1) + timedelta(days=offset) for offset in range(7)):
        pieces = state_intervals(states, WORK_ORDER.empty(), site, day, END)
        frames.append(oee_elements(pieces, PRODUCTION_COUNT.empty(), site, day, END))
    ratios = oee_ratios(pl.concat(frames), ["equipment_id"]).sort("equipment_id")
    assert ratios["equipment_id"].to_list() == sorted(MACHINES)
    assert ratios["pot_s"].unique().to_list() == [5 * 10.5 * 3600]
    parts = ("pdt_s", "apt_s", "aust_s", "adet_s", "adot_s", "unknown_s")
    assert ratios.select(pl.sum_horizontal(parts) - pl.col("pot_s")).to_series().abs().max() < 1e-6
    found = dict(ratios.select("equipment_id", pl.col("availability").round(4)).iter_rows())
    idle = set(MACHINES) - {"Hurco01", "Mazak01", "Mazak03"}
    assert found == dict.fromkeys(idle, 0.0) | {"Hurco01": 0.0007, "Mazak01": 0.0230, "Mazak03": 0.1678}
    production = dict(ratios.select("equipment_id", "apt_s").iter_rows())
    assert {machine: production[machine] for machine in ("Hurco01", "Mazak01", "Mazak03")} == pytest.approx(
        {"Hurco01": 139.046875, "Mazak01": 4343.431805, "Mazak03": 31722.113941}, abs=1e-6
    )


def nist_site_with(folder: Path, rules: str) -> Path:
    """A copy of the site that writes its own rules of states."""
    shutil.copytree(REPOSITORY / "data" / "nist", folder)
    (folder / "state_rules.csv").write_text(rules)
    return folder


def test_rules_written_in_the_site_folder_make_the_states_of_the_week(
    tmp_path: Path, events: pl.DataFrame, states: pl.DataFrame
) -> None:
    assert load_site(REPOSITORY / "data" / "nist")["state_rules"].is_empty()  # the table is optional
    own = load_site(nist_site_with(tmp_path / "own", RULES["mtconnect"].write_csv()))["state_rules"]
    assert signal_states(events, own, name="mtconnect").equals(states)
    held_is_run = RULES["mtconnect"].with_columns(state=pl.col("state").replace("STOP", "RUN"))
    other = load_site(nist_site_with(tmp_path / "other", held_is_run.write_csv()))["state_rules"]
    found, before = by_state(signal_states(events, other)), by_state(states)
    assert ("Mazak03", "STOP") not in found
    assert found["Mazak03", "RUN"] == pytest.approx(before["Mazak03", "RUN"] + before["Mazak03", "STOP"], abs=1e-6)


def test_every_wrong_rule_of_a_site_is_named_with_its_line(tmp_path: Path) -> None:
    header = "priority,execution,mode,availability,power,alarm,power_min,power_max,state\n"
    folder = nist_site_with(tmp_path / "wrong", f"{header}2,ACTIVE,,,,,,,RUN\n2,READY,,,,,,,BUSY\n3,,,,,,5,2,IDLE\n")
    with pytest.raises(SiteError) as caught:
        load_site(folder)
    text = str(caught.value)
    assert "state_rules.csv:3: state 'BUSY' is none of RUN, STOP, IDLE, SETUP, UNKNOWN" in text
    assert "state_rules.csv: priority 2 stands twice" in text
    assert "state_rules.csv: priority 3: power_min is not below power_max" in text

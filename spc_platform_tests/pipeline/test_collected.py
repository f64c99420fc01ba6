"""From a broker and a server to the state of a machine: two subscriptions collected, landed, materialized and judged."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from spc_platform.build import build_defs
from spc_platform.collect.spool import Spool
from spc_platform.engine import Workspace
from spc_platform.engine.steps.common import CORE, RAW
from spc_platform.orchestration.partitions import range_tags
from spc_platform.settings import Settings
from spc_platform.site.scaffold import scaffold
from spc_platform_tests.collect.broker import Broker, Publisher
from spc_platform_tests.collect.opcua.collection import free_port
from spc_platform_tests.collect.opcua.peer import NAMESPACE, T0, Peer

DAY = date(2026, 3, 2)
RESOURCES = """
[[source.resource]]
name = "telemetry"
tables = ["raw_telemetry"]
format = "json_records"
mutable = false

[[source.resource]]
name = "signals"
tables = ["raw_signal_event"]
format = "json_records"
mutable = false

[[source.resource]]
name = "measurements"
tables = ["raw_measurement"]
format = "json_records"
mutable = false
"""
SOURCES = """
[[source]]
source_id = "hall"
kind = "mqtt"
base_url = "mqtt://127.0.0.1:{broker}"
[[source.options.payloads]]
timestamp = "ts"
quality = "q"
{resources}
[[source]]
source_id = "line1"
kind = "opcua"
base_url = "opc.tcp://127.0.0.1:{server}/line1"
auth = {{ security = "None" }}
limits = {{ publishing_ms = 20.0 }}
{resources}
"""
TAGS = f"""\
source_id,address,record,name,equipment_id,unit,scale,offset,deadband,interval_s,trigger
hall,l1/lathe/temp,telemetry,L1-LATHE-TEMP,L1-LATHE,degC,,,,,
hall,l1/lathe/state,signal,execution,L1-LATHE,,,,,,
line1,nsu={NAMESPACE};s=dia,measurement,SHAFT-DIA,L1-LATHE,mm,,,,,nsu={NAMESPACE};s=done
line1,nsu={NAMESPACE};s=run,context,serial_number,L1-LATHE,,,,,,
"""
COMMAND = [sys.executable, "-c", "from spc_platform.cli.main import main; main()"]
TABLES = [*RAW, "shift_calendar", *CORE, *(f"{name}_rejected" for name in CORE), "state_interval", "downtime_event"]


@dataclass(frozen=True)
class Line:
    """A site whose two sources are subscriptions, and what stands behind them."""

    folder: Path
    broker: Broker
    server: Peer

    @property
    def settings(self) -> Settings:
        return Settings(site=self.folder / "site", data=self.folder / "data")

    def spc(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments], env=self.environment(), capture_output=True, text=True, check=False, timeout=120
        )

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SPC_")}
        return kept | {"SPC_SITE": str(self.settings.site), "SPC_DATA": str(self.settings.data), "COLUMNS": "400"}

    def collects(self) -> subprocess.Popen[str]:
        arguments = ("collect", "--no-land", "--port", "0")
        return subprocess.Popen([*COMMAND, *arguments], env=self.environment(), stderr=subprocess.PIPE, text=True)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    site = tmp_path / "site"
    scaffold(site, "plant-1")
    with Broker(tmp_path / "broker") as broker:
        server = Peer(free_port()).start()
        sources = SOURCES.format(broker=broker.port, server=server.port, resources=RESOURCES)
        (site / "sources.toml").write_text(sources)
        (site / "tags.csv").write_text(TAGS)
        yield Line(tmp_path, broker, server)
        server.kill()


def until(holds: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.1)


def health_of(process: subprocess.Popen[str]) -> str:
    """The address that the collector says its health is at."""
    assert process.stderr is not None
    for told in process.stderr:
        found = re.search(r"health on (\S+)", told)
        if found:
            return found[1]
    raise AssertionError("the collector ended without a word of its health")


def is_healthy(address: str) -> bool:
    try:
        return bool(json.load(urllib.request.urlopen(address))["healthy"])
    except OSError:
        return False


def said(topic: str, seconds: float, value: object, quality: str = "good") -> tuple[str, str]:
    return topic, json.dumps({"value": value, "ts": (T0 + timedelta(seconds=seconds)).isoformat(), "q": quality})


def produce(line: Line) -> None:
    """Ten minutes of a lathe: it runs, stops, goes silent; its coolant is measured, its parts are gauged."""
    with Publisher(line.broker) as hall:
        hall.publish_all([said("l1/lathe/temp", 5.0 * number, 21.0 + number) for number in range(4)])
        hall.publish(*said("l1/lathe/temp", 20.0, 400.0, "sensor broken"))
        hall.publish(*said("l1/lathe/state", 0.0, "ACTIVE"))
        hall.publish(*said("l1/lathe/state", 60.0, "STOPPED"))
        hall.publish(*said("l1/lathe/state", 120.0, "ACTIVE"))
        hall.publish(*said("l1/lathe/state", 300.0, "ACTIVE", "comm failure"))
        hall.publish(*said("l1/lathe/state", 600.0, "STOPPED"))
    for number in range(3):
        at = 30.0 + 60 * number
        line.server.write("run", f"S{number}", at=at)
        line.server.write("dia", 25.0 + number / 100, at=at + 1, status=0x808C0000 if number == 2 else 0)
        line.server.write("done", True, at=at + 2)
        line.server.write("done", False, at=at + 3)


def collect(line: Line) -> None:
    """Runs the collector until everything that was said is in its spool."""
    process = line.collects()
    try:
        address = health_of(process)
        until(lambda: is_healthy(address), "every source connected")
        produce(line)
        spools = {name: Spool(line.settings.spool_root, name) for name in ("hall", "line1")}
        until(lambda: spools["hall"].totals() == {"telemetry": 5, "signals": 5}, "hall spooled")
        until(lambda: spools["line1"].totals() == {"measurements": 3}, "line1 spooled")
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 0


def materialize(line: Line) -> dg.ExecuteInProcessResult:
    keys = [dg.AssetKey(name) for name in ("landed_hall", "landed_line1", *TABLES)]
    job = build_defs(line.settings).resolve_job_def("everything")
    with dg.DagsterInstance.ephemeral() as instance:
        return job.execute_in_process(
            instance=instance,
            tags=range_tags(DAY, DAY),
            asset_selection=keys,
            run_config={"loggers": {"console": {"config": {"log_level": "ERROR"}}}},
        )


def test_two_subscriptions_become_measurements_streams_and_states(line: Line) -> None:
    doctor = line.spc("doctor")
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    assert "source hall: collected by `spc collect`; news in nothing" in doctor.stdout
    collect(line)
    assert "source line1: collected by `spc collect`; news in measurements" in line.spc("doctor").stdout
    waiting = line.spc("status").stdout
    # One signal more than was said: the end of the collector made the state unavailable.
    assert "source hall: 11 records wait in the spool (signals 6, telemetry 5)" in waiting
    assert "source line1: 3 records wait in the spool (measurements 3)" in waiting

    assert materialize(line).success
    lake = Workspace.open(line.settings).lake
    streams = lake.read("telemetry", DAY).sort("observed_at")
    assert streams.select("source_id", "stream_id", "value").rows() == [
        ("hall", "L1-LATHE-TEMP", 21.0 + number) for number in range(4)
    ]
    refused = lake.read("telemetry_rejected", DAY)
    assert refused["reasons"].to_list() == ["value:BAD_QUALITY_SENSOR_BROKEN"]
    assert "sensor broken" in refused["raw_record"].item()

    gauged = lake.read("measurement", DAY).sort("measured_at")
    assert gauged.select("serial_number", "value", "measured_at").rows() == [
        (f"S{number}", 25.0 + number / 100, T0 + timedelta(seconds=32 + 60 * number)) for number in range(2)
    ]
    bad = lake.read("measurement_rejected", DAY)
    assert bad.select("serial_number", "value", "reasons").rows() == [("S2", None, "value:BAD_QUALITY_BADSENSORFAILURE")]

    assert lake.read("signal_event_rejected", DAY).is_empty(), "a signal that cannot be read is unavailable, not refused"
    states = lake.read("state_interval", DAY).filter(pl.col("equipment_id") == "L1-LATHE").sort("start_at")
    told = states.filter(pl.col("start_at") >= T0).select("state", "start_at").rows()
    expected = (("RUN", 0), ("STOP", 60), ("RUN", 120), ("UNKNOWN", 300), ("STOP", 600))
    assert told[:5] == [(state, T0 + timedelta(seconds=at)) for state, at in expected]
    after = line.spc("status").stdout
    assert re.search(r"source hall: 2 pages, 11 records", after), after
    assert "wait in the spool" not in after, "what has landed waits no longer, though it leaves the spool at the next walk"


def test_a_collected_source_that_cannot_be_is_said_by_the_doctor_and_no_other_one(line: Line) -> None:
    tags = line.settings.site / "tags.csv"
    tags.write_text(tags.read_text().replace("L1-LATHE-TEMP,L1", "L1-LATHE-TEMPO,L1"))
    doctor = line.spc("doctor")
    assert doctor.returncode == 1
    assert "source hall: no answer" in doctor.stdout
    assert "no stream 'L1-LATHE-TEMPO' in streams.csv" in doctor.stdout
    assert "source line1: collected by `spc collect`" in doctor.stdout

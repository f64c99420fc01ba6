"""A million events through a pulled plug: mosquitto, `spc collect` in a process of its own, and SIGKILLs while they flow.

A device publishes with QoS 1 as fast as the broker takes it. The collector is killed at random moments and started
again, and lands in between. At the end every event must be in the lake once, with its value.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from spc_platform.collect.spool import Spool
from spc_platform.engine import Workspace
from spc_platform.lake.landing import raw_partition
from spc_platform.settings import Settings
from spc_platform.site.scaffold import scaffold
from spc_platform_tests.collect.broker import Broker, Publisher

BATCH = 2_000
WAITING = 50_000
"""Events published and not yet collected at most: what a broker's queue is not asked to hold."""
SOURCE = """
[[source]]
source_id = "line1"
kind = "mqtt"
base_url = "mqtt://127.0.0.1:{port}"

[[source.options.payloads]]
timestamp = "t"
time_unit = "ms"
value = "v"

[[source.resource]]
name = "telemetry"
tables = ["raw_telemetry"]
format = "json_records"
mutable = false
"""
TAGS = """source_id,address,record,name,equipment_id,unit,scale,offset,deadband,interval_s,trigger
line1,plant/temp,telemetry,L1-LATHE-TEMP,L1-LATHE,degC,,,,,
"""
FIRST_MS = 1_772_431_200_000


@dataclass(frozen=True)
class PluggedOut:
    """What came of it: events in no row, in more than one, and with another value than was published."""

    events: int
    kills: int
    seconds: float
    missing: int
    twice: int
    wrong: int

    @property
    def is_whole(self) -> bool:
        return self.missing == self.twice == self.wrong == 0


def site(folder: Path, port: int) -> Path:
    """A site with one subscription and one stream."""
    scaffold(folder, "plug")
    (folder / "sources.toml").write_text(SOURCE.format(port=port))
    (folder / "tags.csv").write_text(TAGS)
    return folder


class Collecting:
    """`spc collect` in a process of its own."""

    def __init__(self, settings: Settings) -> None:
        self._environment = {**os.environ, "SPC_SITE": str(settings.site), "SPC_DATA": str(settings.data)}
        self.start()

    def start(self) -> None:
        program = "from spc_platform.cli.main import main; main()"
        command = [sys.executable, "-c", program, "collect", "--port", "0", "--land-every", "2"]
        self._process = subprocess.Popen(command, env=self._environment, stderr=subprocess.DEVNULL)

    def end(self, number: int) -> None:
        self._process.send_signal(number)
        self._process.wait(120)


def pull_the_plug(folder: Path, events: int, kills: int, seed: int = 1) -> PluggedOut:
    """Publish, kill, start again, and compare the rows of the lake with what was published."""
    chance = random.Random(seed)
    started = time.monotonic()
    with Broker(folder / "broker") as broker:
        settings = Settings(site=site(folder / "site", broker.port), data=folder / "data")
        collecting = Collecting(settings)
        published = [0]
        publishing = threading.Thread(target=_publish, args=(broker, settings, events, published), daemon=True)
        time.sleep(3.0)
        publishing.start()
        for number in range(1, kills + 1):
            threshold = events * number / (kills + 1) * chance.uniform(0.9, 1.0)
            while published[0] < threshold and publishing.is_alive():
                time.sleep(0.01)
            time.sleep(chance.uniform(0.0, 0.5))
            collecting.end(signal.SIGKILL)
            collecting.start()
        publishing.join()
        _until_collected(settings, events)
        collecting.end(signal.SIGTERM)
    seconds = time.monotonic() - started
    rows = _rows(settings)
    distinct = rows["number"].n_unique()
    wrong = rows.filter(pl.col("value") != pl.col("number") / 8).height
    return PluggedOut(events, kills, seconds, events - distinct, rows.height - distinct, wrong)


def _publish(broker: Broker, settings: Settings, events: int, published: list[int]) -> None:
    with Publisher(broker) as device:
        for first in range(0, events, BATCH):
            while first - _collected(settings) > WAITING:
                time.sleep(0.05)
            numbers = range(first, min(first + BATCH, events))
            device.publish_all([("plant/temp", f'{{"t":{FIRST_MS + number},"v":{number / 8}}}') for number in numbers])
            published[0] = numbers[-1] + 1


def _collected(settings: Settings) -> int:
    return Spool(settings.spool_root, "line1").totals().get("telemetry", 0)


def _until_collected(settings: Settings, events: int) -> None:
    """Wait until nothing more comes: a redelivered event counts again, so a count alone says too little."""
    deadline = time.monotonic() + 600
    before, quiet_since = -1, time.monotonic()
    while time.monotonic() < deadline:
        now = _collected(settings)
        if now != before:
            before, quiet_since = now, time.monotonic()
        elif now >= events and time.monotonic() - quiet_since > 5.0:
            return
        time.sleep(0.2)


def _rows(settings: Settings) -> pl.DataFrame:
    """What the lake would hold: current rows of every date that landed pages touch."""
    plant = Workspace.open(settings)
    days = plant.ledger.touched_dates()
    rows = pl.concat([raw_partition("raw_telemetry", day, plant.site, plant.landing, plant.ledger) for day in days])
    return rows.filter("is_current").select(number=pl.col("observed_at").dt.epoch("ms") - FIRST_MS, value="value")

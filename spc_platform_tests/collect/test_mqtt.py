"""What the MQTT connector promises, against a real broker: nothing lost, nothing twice, nothing that blocks the queue."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme

from spc_platform.collect.mqtt import MqttConnector
from spc_platform.collect.readings import Recorder
from spc_platform.collect.sink import Sink
from spc_platform.collect.spool import Spool
from spc_platform.errors import PermanentError, SpcError, TransientError
from spc_platform.settings import Settings
from spc_platform.site.model import Source
from spc_platform_tests.collect.broker import Broker, Publisher
from spc_platform_tests.collect.conftest import subscription

T0 = datetime(2026, 3, 2, 6, 0, tzinfo=UTC)
TEMPERATURE = {"address": "l1/lathe/temp", "record": "telemetry", "name": "L1-LATHE-TEMP", "unit": "degC"}
DIAMETER = {"address": "l1/lathe/dia", "record": "measurement", "name": "SHAFT-DIA", "unit": "mm"}
EXECUTION = {"address": "l1/lathe/state#execution", "record": "signal", "name": "execution"}
TIMED = [{"timestamp": "ts"}]
CLOCKLESS = [{"timestamp": ""}]


def source(broker: Broker, payloads: list[dict[str, Any]] | None = None, **given: Any) -> Source:
    options = {"payloads": TIMED if payloads is None else payloads, **given.pop("options", {})}
    base_url = given.pop("base_url", f"mqtt://127.0.0.1:{broker.port}")
    return subscription("mqtt", base_url=base_url, options=options, **given)


def reading(number: int) -> bytes:
    return json.dumps({"value": number, "ts": (T0 + timedelta(seconds=number)).isoformat()}).encode()


def until(holds: Callable[[], bool], what: str, timeout: float = 15.0) -> None:
    end = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < end, f"not within {timeout:g} s: {what}"
        time.sleep(0.02)


class Collecting:
    """A connector with its sink and spool, started and stopped as the service does."""

    def __init__(self, config: Source, recorder: Recorder, folder: Path) -> None:
        self.config, self.recorder = config, recorder
        self.settings = Settings(data=folder, site=folder)
        self.spool = Spool(self.settings.spool_root, config.source_id, min_free_bytes=0)
        self.error: SpcError | None = None

    @contextmanager
    def running(self, *, connected: bool = True) -> Iterator[Sink]:
        stop = threading.Event()
        with Sink(Recorder(self.config, self.recorder.tags), self.spool) as sink:

            def run() -> None:
                try:
                    MqttConnector(self.config, self.settings).run(sink, stop)
                except SpcError as error:
                    self.error = error

            thread = threading.Thread(target=run, daemon=True)
            thread.start()
            try:
                if connected:
                    until(lambda: sink.health.is_connected or self.error is not None, "connected")
                    assert self.error is None
                yield sink
            finally:
                stop.set()
                thread.join(15)
                assert not thread.is_alive()
                sink.disconnected("stopped")

    def refused(self) -> SpcError:
        """The error that the connector ends with."""
        with self.running(connected=False):
            until(lambda: self.error is not None, "an error")
        assert self.error is not None
        return self.error

    def records(self, resource: str) -> list[dict[str, Any]]:
        return [msgspec.json.decode(body) for body in self.spool.after(resource, 0, 1_000_000)[0]]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path / "broker") as broker:
        yield broker


@pytest.fixture
def collecting(recorder: Callable[..., Recorder], tmp_path: Path) -> Callable[..., Collecting]:
    """Makes what collects tag rows from a source."""
    return lambda config, *rows: Collecting(config, recorder(*rows, source=config), tmp_path)


def test_readings_become_records_with_their_own_time(broker: Broker, collecting: Callable[..., Collecting]) -> None:
    each = collecting(source(broker), DIAMETER, EXECUTION)
    with each.running() as sink, Publisher(broker) as device:
        device.publish("l1/lathe/dia", reading(25))
        device.publish("l1/lathe/state", json.dumps({"execution": "ACTIVE", "ts": "2026-03-02T07:00:00+01:00"}))
        until(lambda: sink.health.records >= 2, "both records")
    measured, state = each.records("measurements"), each.records("signals")
    assert [(m["value"], m["measured_at"], m["unit"]) for m in measured] == [(25.0, "2026-03-02T06:00:25.000000Z", "mm")]
    assert (state[0]["value"], state[0]["occurred_at"]) == ("ACTIVE", "2026-03-02T06:00:00.000000Z")


def test_what_is_published_while_the_collector_is_away_comes_afterwards(
    broker: Broker, collecting: Callable[..., Collecting]
) -> None:
    each = collecting(source(broker), DIAMETER)
    with each.running():
        pass
    with Publisher(broker) as device:
        device.publish_all(("l1/lathe/dia", reading(n)) for n in range(3_000))
    with each.running() as sink:
        until(lambda: sink.health.records >= 3_000, "3000 records")
    assert [r["value"] for r in each.records("measurements")] == list(range(3_000))
    assert each.spool.gaps() == []

"""MQTT messages per second into the spool, and none lost while collector and broker are killed."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from spc_platform.collect.mqtt import MqttConnector
from spc_platform.collect.readings import Recorder, Tag
from spc_platform.collect.sink import Sink
from spc_platform.collect.spool import Spool
from spc_platform.errors import TransientError
from spc_platform.settings import Settings
from spc_platform.site.model import Source
from spc_platform_tests.bench.folders import scratch
from spc_platform_tests.bench.result import Figures, Result, forget_peak_mb, number, peak_mb
from spc_platform_tests.collect.broker import Broker, Publisher
from spc_platform_tests.collect.conftest import subscription

BACKLOG = 30_000
PER_MESSAGE = 20
LIVE = 20_000
KILLS = 8
CHANNELS = 50
COLUMNS = ("variant", "messages", "wall s", "CPU s", "messages per s", "readings per s", "peak MB more")
T0 = datetime(2026, 3, 2, 6, 0, tzinfo=UTC)
TAGS = tuple(Tag(f"l1/channel/{n}", "telemetry", f"S{n}", "L1", unit="V") for n in range(CHANNELS))

COLLECTOR = """
import sys, threading
from pathlib import Path
from spc_platform_tests.bench import mqtt
mqtt.collect(Path(sys.argv[1]), int(sys.argv[2]), threading.Event())
"""


def _source(port: int) -> Source:
    return subscription("mqtt", base_url=f"mqtt://127.0.0.1:{port}", options={"payloads": [{"timestamp": "ts"}]})


def collect(folder: Path, port: int, stop: threading.Event, spool: Spool | None = None) -> None:
    """Collect until ``stop``, connecting again whenever the broker went away."""
    settings = Settings(data=folder)
    spool = spool or Spool(settings.spool_root, "line1", min_free_bytes=0)
    while not stop.is_set():
        with Sink(Recorder(_source(port), TAGS), spool) as sink:
            try:
                MqttConnector(_source(port), settings).run(sink, stop)
            except TransientError:
                stop.wait(0.2)


def _message(first: int, count: int) -> tuple[str, bytes]:
    said = [{"value": n, "ts": (T0 + timedelta(milliseconds=n)).isoformat()} for n in range(first, first + count)]
    return f"l1/channel/{first // count % CHANNELS}", json.dumps(said if count > 1 else said[0]).encode()


def _messages(messages: int, count: int) -> Iterator[tuple[str, bytes]]:
    return (_message(n * count, count) for n in range(messages))


def _bare(port: int, expected: int) -> float:
    """Seconds of the client alone: every message received, acknowledged by the client itself, thrown away."""
    counted, done = [0], threading.Event()

    def count(*_: Any) -> None:
        counted[0] += 1
        if counted[0] == expected:
            done.set()

    client = Client(CallbackAPIVersion.VERSION2, client_id="spc-line1", protocol=MQTTProtocolVersion.MQTTv5)
    client.on_message = count
    began = time.perf_counter()
    client.connect("127.0.0.1", port, clean_start=False)
    client.loop_start()
    assert done.wait(300)
    taken = time.perf_counter() - began
    client.disconnect()
    client.loop_stop()
    return taken


def _subscribe(folder: Path, port: int, spool: Spool) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=collect, args=(folder, port, stop, spool))
    thread.start()
    time.sleep(1.0)
    stop.set()
    thread.join()


def _drain(name: str, messages: int, count: int, *, bare: bool = False) -> tuple[str, ...]:
    """A backlog at the broker, published before: how fast it becomes durable records."""
    folder = scratch(name)
    spool = Spool(Settings(data=folder).spool_root, "line1", min_free_bytes=0)
    with Broker(folder / "broker") as broker:
        _subscribe(folder, broker.port, spool)
        with Publisher(broker) as device:
            device.publish_all(_messages(messages, count))
        before, cpu = forget_peak_mb(), time.process_time()
        taken = _bare(broker.port, messages) if bare else _collected(folder, broker.port, spool, messages * count)
        cpu = time.process_time() - cpu
    grown = number(peak_mb() - before)
    return name, number(messages), number(taken), number(cpu), number(messages / taken), number(messages * count / taken), grown


def _collected(folder: Path, port: int, spool: Spool, records: int) -> float:
    stop = threading.Event()
    began = time.perf_counter()
    thread = threading.Thread(target=collect, args=(folder, port, stop, spool))
    thread.start()
    while spool.totals().get("telemetry", 0) < records:
        time.sleep(0.05)
        assert time.perf_counter() - began < 300, spool.totals()
    taken = time.perf_counter() - began
    stop.set()
    thread.join()
    assert spool.totals() == {"telemetry": records}
    return taken


def _killed() -> tuple[str, ...]:
    """Live messages of QoS 1 while the collector is killed and the broker restarted; every reading is looked for."""
    folder, rng = scratch("killed"), random.Random(7)
    spool = Spool(Settings(data=folder).spool_root, "line1", min_free_bytes=0)
    restarts = 0
    with Broker(folder / "broker") as broker:
        _subscribe(folder, broker.port, spool)
        process = _start(folder, broker.port)
        first = 0
        for kill in range(KILLS):
            last = LIVE * (kill + 1) // KILLS
            with Publisher(broker) as device:
                sender = threading.Thread(target=device.publish_all, args=([_message(n, 1) for n in range(first, last)],))
                sender.start()
                target = spool.totals().get("telemetry", 0) + rng.randrange(100, LIVE // KILLS - 100)
                while spool.totals().get("telemetry", 0) < target:
                    time.sleep(rng.uniform(0.0, 0.01))
                process.kill()
                process.wait()
                sender.join()
            if kill % 3 == 2:
                broker.stop(signal.SIGTERM)
                broker.start()
                restarts += 1
            process, first = _start(folder, broker.port), last
        deadline = time.monotonic() + 120
        while len(found := _values(spool)) < LIVE and time.monotonic() < deadline:
            time.sleep(0.5)
        process.kill()
        process.wait()
        found = _values(spool)
    delivered = spool.totals()["telemetry"]
    lost, twice = LIVE - len(found), len(found.values()) - len(set(found.values()))
    assert lost == 0, f"{lost} readings lost"
    assert twice == 0
    return number(LIVE), str(KILLS), str(restarts), number(delivered - LIVE), str(lost)


def _start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", COLLECTOR, str(folder), str(port)])


def _values(spool: Spool) -> dict[str, float]:
    """Values by record id, as the lake keeps them."""
    bodies = [msgspec.json.decode(body) for body in spool.after("telemetry", 0, 10_000_000)[0]]
    return {body["record_id"]: body["value"] for body in bodies}


def bench() -> Result:
    """One repetition each, against a mosquitto on loopback that shares the cores."""
    rows = [
        _drain("baseline: the client alone, nothing kept", BACKLOG, 1, bare=True),
        _drain("a reading per message", BACKLOG, 1),
        _drain(f"{PER_MESSAGE} readings per message", BACKLOG // PER_MESSAGE, PER_MESSAGE),
    ]
    killed = _killed()
    return Result(
        "MQTT into the spool",
        "A backlog of QoS 1 waits in the persistent session at mosquitto (loopback, same cores) and is drained: JSON read, "
        "records made, committed with `synchronous = FULL`, then acknowledged. The last table: messages published live while "
        "the collector is killed (SIGKILL) amid them and the broker restarted in between; each reading is looked for. One "
        "repetition.",
        [
            Figures("draining", COLUMNS, rows),
            Figures("killed", ("readings", "kills", "broker restarts", "delivered again", "lost"), [killed]),
        ],
        f"{rows[1][4]} messages per second with a reading each, {rows[2][5]} readings per second in messages of {PER_MESSAGE}; "
        f"{killed[1]} kills lost {killed[4]} of {killed[0]} readings, {killed[3]} came twice and are one record.",
    )

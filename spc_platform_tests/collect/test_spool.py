"""What the spool promises: durable before acknowledged, in order, nothing dropped when the disk is short."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
from collections import namedtuple
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from spc_platform.collect.readings import Reading, Record, Recorder
from spc_platform.collect.sink import QUEUED, Sink
from spc_platform.collect.spool import Gap, Spool, SpoolFullError
from spc_platform.errors import LakeError
from spc_platform.settings import Settings
from spc_platform.sources import open_source
from spc_platform_tests.collect.conftest import RESOURCES, subscription
from spc_platform_tests.collect.test_readings import DIAMETER, T0

TELEMETRY = RESOURCES[0]
Usage = namedtuple("Usage", "total used free")


def record(number: int, resource: str = "telemetry") -> Record:
    return Record(resource, {"number": number})


def test_records_stay_in_order_and_leave_only_behind_the_watermark(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    spool = Spool(settings.spool_root, "line1")
    spool.append([record(n) for n in range(6_000)], {"position": "1"})
    spool.append([record(0, "signals"), record(6_000)], {"position": "2"}, [Gap("temp", T0, None, "overflow")])
    source = open_source(subscription(), settings)
    pages = list(source.walk(TELEMETRY, None))
    numbers = [each["number"] for page in pages for each in msgspec.json.decode(page.body)["records"]]
    assert numbers == list(range(6_001))
    assert len(pages) == 2
    assert spool.depth() == {"telemetry": 6_001, "signals": 1}
    assert next(iter(source.walk(TELEMETRY, pages[0].position))).body == pages[1].body
    assert spool.depth() == {"telemetry": 1_001, "signals": 1}
    assert source.has_news(TELEMETRY, pages[1].position) is None
    assert source.has_news(TELEMETRY, pages[0].position) == pages[1].position
    again = Spool(settings.spool_root, "line1")
    assert again.state() == {"position": "2"}
    assert again.gaps() == [Gap("temp", T0, None, "overflow")]
    assert again.totals() == {"telemetry": 6_001, "signals": 1}


def test_sequence_numbers_are_never_given_again_after_everything_landed(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "line1")
    last = spool.append([record(1), record(2)])
    spool.drop("telemetry", last)
    assert spool.append([record(3)]) == last + 1


def test_a_short_disk_refuses_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path, "line1")
    spool.append([record(1)])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100, 99, 1))
    with pytest.raises(SpoolFullError, match="nothing is acknowledged"):
        spool.append([record(2)], {"position": "2"})
    assert (spool.depth(), spool.state()) == ({"telemetry": 1}, {})


def test_a_reading_is_acknowledged_once_it_is_durable_and_not_while_the_disk_is_short(
    recorder: Callable[..., Recorder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, "line1")
    usage = [Usage(100, 99, 1)]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage[0])
    monkeypatch.setattr("spc_platform.collect.sink.RETRY_S", 0.02)
    acknowledged = threading.Event()
    with Sink(recorder(DIAMETER), spool) as sink:
        sink.put([Reading("dia", 25.0, T0)], done=acknowledged.set)
        assert not acknowledged.wait(0.2)
        assert sink.health.is_full
        usage[0] = Usage(1 << 40, 0, 1 << 40)
        assert acknowledged.wait(5.0)
        assert spool.depth() == {"measurements": 1}
        assert not sink.health.is_full


def test_a_full_queue_makes_the_sender_wait(
    recorder: Callable[..., Recorder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, "line1")
    usage = [Usage(100, 99, 1)]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage[0])
    monkeypatch.setattr("spc_platform.collect.sink.RETRY_S", 0.02)
    sent: list[int] = []
    readings = [Reading("dia", 25.0, T0 + timedelta(microseconds=n)) for n in range(QUEUED // 2)]

    def send(sink: Sink) -> None:
        for number in range(4):
            sink.put(readings, state={"sent": str(number)})
            sent.append(number)

    with Sink(recorder(DIAMETER), spool) as sink:
        sender = threading.Thread(target=send, args=(sink,))
        sender.start()
        sender.join(0.5)
        assert sender.is_alive()
        assert len(sent) == 2
        usage[0] = Usage(1 << 40, 0, 1 << 40)
        sender.join(20.0)
        assert not sender.is_alive()
        sink.flush()
    assert spool.totals() == {"measurements": 2 * QUEUED}
    assert spool.state() == {"sent": "3"}


def test_a_damaged_spool_ends_the_writer_and_tells_every_sender(recorder: Callable[..., Recorder], tmp_path: Path) -> None:
    spool = Spool(tmp_path, "line1")
    with Sink(recorder(DIAMETER), spool) as sink:
        spool.close()
        sink.put([Reading("dia", 25.0, T0)])
        with pytest.raises(LakeError, match="the writer ended"):
            sink.flush(5.0)


PULLED = """
import os, sys
from pathlib import Path
from spc_platform.collect.readings import Record
from spc_platform.collect.spool import Spool

def pull(step):
    global seen
    seen[step] = seen.get(step, 0) + 1
    if step == sys.argv[2] and seen[step] == int(sys.argv[3]):
        os.kill(os.getpid(), 9)

seen = {}
spool = Spool(Path(sys.argv[1]), "line1", checkpoint=pull)
for batch in range(20):
    spool.append([Record("telemetry", {"number": batch * 10 + n}) for n in range(10)], {"batch": str(batch)})
    print(batch, flush=True)
"""


@pytest.mark.parametrize("step", ["spool:written", "spool:durable"])
def test_what_was_acknowledged_survives_a_kill_and_a_batch_is_whole_or_absent(tmp_path: Path, step: str) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", PULLED, str(tmp_path), step, "7"], capture_output=True, text=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    acknowledged = len(killed.stdout.split())
    spool = Spool(tmp_path, "line1")
    bodies, _ = spool.after("telemetry", 0, 1_000)
    numbers = [msgspec.json.decode(body)["number"] for body in bodies]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) % 10 == 0
    assert len(numbers) // 10 == acknowledged + (step == "spool:durable")
    assert spool.state() == {"batch": str(len(numbers) // 10 - 1)}


def test_a_reading_ahead_of_its_receipt_says_when_it_was_received(recorder: Callable[..., Recorder], tmp_path: Path) -> None:
    spool = Spool(tmp_path, "line1")
    with Sink(recorder(DIAMETER), spool, now=lambda: T0 - timedelta(hours=1)) as sink:
        sink.put([Reading("dia", 25.0, T0)])
        sink.flush()
    bodies, _ = spool.after("measurements", 0, 10)
    assert msgspec.json.decode(bodies[0])["updated_at"] == "2026-03-10T05:00:00.000000Z"


def test_a_killed_collector_takes_up_what_its_triggers_and_contexts_said(
    recorder: Callable[..., Recorder], tmp_path: Path
) -> None:
    tags = (DIAMETER | {"trigger": "part"}, {"address": "serial", "record": "context", "name": "serial_number"})
    spool = Spool(tmp_path, "line1")
    with Sink(recorder(*tags), spool) as sink:
        sink.put([Reading("part", 1, T0), Reading("serial", "A-2", T0), Reading("dia", 25.0, T0)], state={"position": "3"})
        sink.flush()
    with Sink(recorder(*tags), Spool(tmp_path, "line1")) as sink:
        assert sink.state() == {"position": "3"}
        sink.put([Reading("part", 2, T0 + timedelta(seconds=5))])
        sink.put([Reading("part", 9, T0 + timedelta(seconds=2))])
        sink.flush()
    bodies, _ = spool.after("measurements", 0, 10)
    found = msgspec.json.decode(bodies[0])
    assert len(bodies) == 1
    assert (found["value"], found["serial_number"], found["measured_at"]) == (25.0, "A-2", "2026-03-10T06:00:05.000000Z")
    assert [gap.address for gap in spool.gaps()] == ["part"]

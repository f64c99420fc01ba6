"""What the MQTT connector promises, against a real broker: nothing lost, nothing twice, nothing that blocks the queue."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import socket
import subprocess
import sys
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
from spc_platform.collect.service import Subscription
from spc_platform.collect.sink import Sink
from spc_platform.collect.spool import Spool
from spc_platform.errors import PermanentError, SpcError, TransientError
from spc_platform.settings import Settings
from spc_platform.site.model import Site, Source
from spc_platform_tests.collect.broker import Broker, Publisher
from spc_platform_tests.collect.conftest import subscription
from spc_platform_tests.conftest import need

Usage = namedtuple("Usage", "total used free")
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


def test_a_restarted_broker_delivers_what_was_published_meanwhile(
    broker: Broker, recorder: Callable[..., Recorder], plain_site: Site, tmp_path: Path
) -> None:
    config = source(broker)
    recorder(DIAMETER, EXECUTION, source=config)
    stop = threading.Event()
    each = Subscription(config, plain_site, Settings(data=tmp_path), lambda config, settings: MqttConnector(config, settings))
    thread = threading.Thread(target=each.run, args=(stop,), daemon=True)
    thread.start()
    until(lambda: each.health.is_connected, "connected")
    with Publisher(broker) as device:
        device.publish("l1/lathe/state", json.dumps({"execution": "ACTIVE", "ts": T0.isoformat()}), retain=True)
        device.publish_all(("l1/lathe/dia", reading(n)) for n in range(500))
    broker.stop()
    until(lambda: not each.health.is_connected, "disconnected")
    broker.start()
    with Publisher(broker) as device:
        device.publish_all(("l1/lathe/dia", reading(n)) for n in range(500, 1_000))
    until(lambda: each.health.connections == 2, "connected again")
    assert each.spool is not None
    spool = each.spool
    until(lambda: spool.totals().get("measurements", 0) >= 1_000, "1000 measurements")
    until(lambda: spool.totals().get("signals", 0) >= 3, "the retained state again")
    stop.set()
    thread.join(15)
    bodies = [msgspec.json.decode(body) for body in spool.after("measurements", 0, 5_000)[0]]
    assert sorted({body["value"] for body in bodies}) == list(range(1_000))
    states = [msgspec.json.decode(body)["value"] for body in spool.after("signals", 0, 10)[0]]
    assert states[:3] == ["ACTIVE", "UNAVAILABLE", "ACTIVE"]
    assert spool.gaps() == []


def test_a_broker_that_lost_our_session_is_a_gap(broker: Broker, collecting: Callable[..., Collecting]) -> None:
    each = collecting(source(broker), DIAMETER)
    with each.running() as sink, Publisher(broker) as device:
        device.publish("l1/lathe/dia", reading(1))
        until(lambda: sink.health.records == 1, "a record")
    broker.stop(signal.SIGKILL)
    broker.start()
    with each.running():
        until(lambda: len(each.spool.gaps()) == 1, "the gap")
    gap = each.spool.gaps()[0]
    assert "no session" in gap.reason
    assert gap.start_at is not None
    assert gap.end_at is not None
    assert gap.start_at < gap.end_at


KILLED = """
import os, signal, sys, threading
from pathlib import Path
from spc_platform.collect.mqtt import MqttConnector
from spc_platform.collect.readings import Recorder, Tag
from spc_platform.collect.sink import Sink
from spc_platform.collect.spool import Spool
from spc_platform.settings import Settings
from spc_platform_tests.collect.conftest import subscription

folder, port, point, timestamp = Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
config = subscription("mqtt", base_url=f"mqtt://127.0.0.1:{port}", options={"payloads": [{"timestamp": timestamp}]})
settings = Settings(data=folder)

def kill(name):
    with_records = spool._db.execute("SELECT count(*) FROM record").fetchone()[0] if name == point else 0
    if with_records >= 20:
        os.kill(os.getpid(), signal.SIGKILL)

spool = Spool(settings.spool_root, "line1", min_free_bytes=0, checkpoint=kill)
tag = Tag("l1/lathe/dia", "measurement", "SHAFT-DIA", "L1-LATHE", unit="mm")
with Sink(Recorder(config, (tag,)), spool) as sink:
    MqttConnector(config, settings).run(sink, threading.Event())
"""


@pytest.mark.parametrize("timestamp", ["ts", ""], ids=["own time", "time of receipt"])
@pytest.mark.parametrize("point", ["spool:written", "spool:durable"])
def test_a_collector_killed_around_the_commit_loses_nothing_and_gives_no_record_twice(
    broker: Broker, collecting: Callable[..., Collecting], tmp_path: Path, point: str, timestamp: str
) -> None:
    each = collecting(source(broker, [{"timestamp": timestamp}]), DIAMETER)
    with each.running():
        pass
    with Publisher(broker) as device:
        device.publish_all(("l1/lathe/dia", reading(n)) for n in range(200))
        arguments = [sys.executable, "-c", KILLED, str(tmp_path), str(broker.port), point, timestamp]
        killed = subprocess.run(arguments, check=False, capture_output=True, timeout=60)
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
        committed = len(each.records("measurements"))
        assert (committed < 20) == (point == "spool:written")
        with each.running() as sink:
            device.publish("l1/lathe/dia", reading(200))
            until(lambda: any(r["value"] == 200 for r in each.records("measurements")), "the last record")
            sink.flush()
    found = each.records("measurements")
    assert len(found) > 201 or point == "spool:written"  # the broker did deliver again what was durable already
    distinct = {record["record_id"]: record for record in found}
    assert sorted(record["value"] for record in distinct.values()) == list(range(201))


def test_nothing_is_acknowledged_while_the_disk_is_short(
    broker: Broker, collecting: Callable[..., Collecting], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = [Usage(1 << 40, 0, 1 << 40)]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage[0])
    monkeypatch.setattr("spc_platform.collect.sink.RETRY_S", 0.02)
    monkeypatch.setattr("spc_platform.collect.mqtt_session.FLUSH_S", 0.1)
    each = collecting(source(broker, limits={"receive_maximum": 10}), DIAMETER)
    each.spool._min_free = 1
    with each.running(), Publisher(broker) as device:
        usage[0] = Usage(100, 100, 0)
        device.publish_all(("l1/lathe/dia", reading(n)) for n in range(30))
        until(lambda: broker.log.count("Sending PUBLISH to spc-line1") >= 10, "ten messages under way")
        time.sleep(0.3)
        assert broker.log.count("Sending PUBLISH to spc-line1") == 10  # no more than the broker may have under way
        assert "Received PUBACK from spc-line1" not in broker.log
        assert each.records("measurements") == []
        usage[0] = Usage(1 << 40, 0, 1 << 40)
        until(lambda: len(each.records("measurements")) == 30, "30 records once there is room")
        until(lambda: broker.log.count("Received PUBACK from spc-line1") == 30, "30 acknowledgements")


def test_messages_of_qos_0_without_room_are_told_as_a_gap(
    broker: Broker, collecting: Callable[..., Collecting], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = [Usage(1 << 40, 0, 1 << 40)]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage[0])
    monkeypatch.setattr("spc_platform.collect.sink.RETRY_S", 0.02)
    monkeypatch.setattr("spc_platform.collect.sink.QUEUED", 5)
    monkeypatch.setattr("spc_platform.collect.mqtt_session.AT_ONCE", 5)
    each = collecting(source(broker, limits={"waiting": 10}), DIAMETER)
    each.spool._min_free = 1
    with each.running(), Publisher(broker) as device:
        usage[0] = Usage(100, 100, 0)
        for number in range(100):
            device.publish("l1/lathe/dia", reading(number), qos=0)
        until(lambda: broker.log.count("Sending PUBLISH to spc-line1") == 100, "all sent")
        time.sleep(0.2)
        usage[0] = Usage(1 << 40, 0, 1 << 40)
        device.publish("l1/lathe/dia", reading(100))
        until(lambda: any(r["value"] == 100 for r in each.records("measurements")), "the one of QoS 1")
        until(lambda: bool(each.spool.gaps()), "the gap")
    kept = len(each.records("measurements")) - 1
    told = [int(gap.reason.split()[0]) for gap in each.spool.gaps() if "of QoS 0 found no room" in gap.reason]
    assert 0 < kept < 100
    assert sum(told) == 100 - kept


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"{", "no JSON"),
        (b"[" * 5_000, "nested too deeply"),
        (b'{"value": NaN, "ts": "2026-03-02T06:00:00Z"}', "no JSON"),
        (b'{"value": 1, "value": 2, "ts": "2026-03-02T06:00:00Z"}', "two fields of one name"),
        (b'{"value": 1}', "no time at 'ts'"),
        (b'{"value": 1, "ts": "2026-03-02T06:00:00"}', "TIMESTAMP_WITHOUT_ZONE"),
        (b'{"wert": 1, "ts": "2026-03-02T06:00:00Z"}', "none of the tags' paths"),
        (b"{" + b" " * 2_000 + b"}", "larger than limits.max_payload_bytes"),
        (b"\xff\xfe", "no JSON"),
    ],
)
def test_a_malformed_payload_is_quarantined_with_its_hash_and_holds_up_nothing(
    broker: Broker, collecting: Callable[..., Collecting], payload: bytes, reason: str
) -> None:
    each = collecting(source(broker, limits={"max_payload_bytes": 10_000 if payload[:2] == b"[[" else 1_000}), DIAMETER)
    with each.running() as sink, Publisher(broker) as device:
        device.publish("l1/lathe/dia", payload)
        device.publish("l1/lathe/dia", reading(7))
        until(lambda: sink.health.records == 2, "both")
        until(lambda: broker.log.count("Received PUBACK from spc-line1") == 2, "both acknowledged")
    bad, good = sorted(each.records("measurements"), key=lambda record: "quality" not in record)
    assert (bad["value"], good["value"]) == (None, 7.0)
    assert bad["quality"].startswith("MALFORMED")
    assert reason in bad["quality"]
    assert hashlib.sha256(payload).hexdigest() in bad["quality"]
    assert sink.health.bad == 1


def test_a_retained_reading_without_a_time_is_kept_once_and_as_rejected_and_a_state_holds_from_now_on(
    broker: Broker, collecting: Callable[..., Collecting]
) -> None:
    each = collecting(source(broker, CLOCKLESS), DIAMETER, EXECUTION)
    with Publisher(broker) as device:
        device.publish("l1/lathe/dia", '{"value": 25}', retain=True)
        device.publish("l1/lathe/state", '{"execution": "READY"}', retain=True)
    for run in range(3):
        with each.running(), Publisher(broker):
            until(lambda: each.spool.totals().get("signals", 0) >= 2 * run + 1, "the state")  # noqa: B023
    measured = each.records("measurements")
    assert [(m["value"], m["quality"]) for m in measured] == [(None, "RETAINED: when it was measured is not known")]
    assert [s["value"] for s in each.records("signals")] == ["READY", "UNAVAILABLE"] * 3


def test_a_retained_reading_with_its_own_time_is_one_record(broker: Broker, collecting: Callable[..., Collecting]) -> None:
    each = collecting(source(broker), DIAMETER)
    with each.running() as sink, Publisher(broker) as device:
        device.publish("l1/lathe/dia", reading(3), retain=True)
        until(lambda: sink.health.records == 1, "the live one")
    with each.running() as sink:
        until(lambda: sink.health.readings == 1, "the retained one")
        sink.flush()
    assert len({record["record_id"] for record in each.records("measurements")}) == 1


def test_one_tag_reads_every_topic_of_its_wildcard_and_tells_them_apart(
    broker: Broker, collecting: Callable[..., Collecting]
) -> None:
    each = collecting(source(broker), {**DIAMETER, "address": "l1/gauge/+/dia#value"})
    with each.running() as sink, Publisher(broker) as device:
        for gauge in ("a", "b"):
            device.publish(f"l1/gauge/{gauge}/dia", reading(5))
            device.publish(f"l1/gauge/{gauge}/dia", reading(5))
        until(lambda: sink.health.readings == 4, "four readings")
        sink.flush()
    assert len({record["record_id"] for record in each.records("measurements")}) == 2


def test_version_3_1_1_keeps_its_session_too(broker: Broker, collecting: Callable[..., Collecting]) -> None:
    each = collecting(source(broker, options={"version": "3.1.1"}), DIAMETER)
    with each.running():
        pass
    with Publisher(broker) as device:
        device.publish_all(("l1/lathe/dia", reading(n)) for n in range(50))
    with each.running() as sink:
        until(lambda: sink.health.records == 50, "50 records")


@contextmanager
def played(answer: bytes, *, then: bytes = b"") -> Iterator[str]:
    """A broker that accepts the connection and answers SUBSCRIBE with a reason, for what mosquitto does without a word."""

    def play(server: socket.socket) -> None:
        peer, _ = server.accept()
        with peer:
            peer.recv(4096)
            peer.sendall(b"\x20\x03\x00\x00\x00")  # CONNACK, success
            subscribe = peer.recv(4096)
            peer.sendall(b"\x90\x04" + subscribe[2:4] + b"\x00" + answer + then)  # SUBACK
            peer.recv(4096)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=play, args=(server,), daemon=True).start()
        yield f"mqtt://127.0.0.1:{server.getsockname()[1]}"


def test_another_client_of_the_same_name_ends_the_collector(collecting: Callable[..., Collecting]) -> None:
    with played(b"\x01", then=b"\xe0\x02\x8e\x00") as url:  # DISCONNECT, session taken over
        error = collecting(subscription("mqtt", base_url=url, options={"payloads": TIMED}), DIAMETER).refused()
    assert isinstance(error, PermanentError)
    assert "SPC-288" in str(error)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure(tmp_path: Path, authority: trustme.CA) -> Iterator[Broker]:
    """A broker that speaks TLS only, wants a certificate of the plant's authority, and a password."""
    folder = tmp_path / "broker"
    folder.mkdir()
    made = authority.issue_cert("localhost")
    made.private_key_pem.write_to_path(str(folder / "key.pem"))
    made.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    own = authority.issue_cert("collector")
    own.private_key_pem.write_to_path(str(tmp_path / "own.key"))
    own.cert_chain_pems[0].write_to_path(str(tmp_path / "own.pem"))
    (folder / "passwords").write_text("line1:secret\n")
    subprocess.run([need("mosquitto_passwd"), "-U", folder / "passwords"], check=True, capture_output=True)
    (folder / "passwords").chmod(0o644)
    keys = (f"cafile {folder}/ca.pem", f"certfile {folder}/cert.pem", f"keyfile {folder}/key.pem")
    access = ("require_certificate true", "allow_anonymous false", f"password_file {folder}/passwords")
    with Broker(folder, *keys, *access) as broker:
        yield broker


AUTH = {"ca_file": "ca.pem", "certificate": "own.pem", "private_key": "own.key", "user_env": "L1_U", "secret_env": "L1_P"}


def test_tls_with_a_private_authority_our_certificate_and_a_password(
    secure: Broker, collecting: Callable[..., Collecting], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("L1_U", "line1")
    monkeypatch.setenv("L1_P", "secret")
    each = collecting(source(secure, base_url=f"mqtts://localhost:{secure.port}", auth=AUTH), DIAMETER)
    with each.running() as sink:
        assert sink.health.detail.startswith("connected to mqtts://localhost")


@pytest.mark.parametrize(
    ("wrong", "host", "kind", "code"),
    [
        ({"ca_file": "other.pem"}, "localhost", PermanentError, "SPC-285"),
        ({}, "127.0.0.1", PermanentError, "SPC-285"),
        ({"certificate": "", "private_key": ""}, "localhost", TransientError, "SPC-155"),
        ({"secret_env": "L1_WRONG"}, "localhost", PermanentError, "SPC-286"),
    ],
    ids=["another authority", "a name that the certificate does not have", "no certificate of ours", "a wrong password"],
)
def test_what_does_not_fit_is_refused_and_shows_no_secret(
    secure: Broker,
    collecting: Callable[..., Collecting],
    monkeypatch: pytest.MonkeyPatch,
    wrong: dict[str, str],
    host: str,
    kind: type[SpcError],
    code: str,
) -> None:
    for name, value in (("L1_U", "line1"), ("L1_P", "secret"), ("L1_WRONG", "canary-password")):
        monkeypatch.setenv(name, value)
    each = collecting(source(secure, base_url=f"mqtts://{host}:{secure.port}", auth={**AUTH, **wrong}), DIAMETER)
    error = each.refused()
    assert isinstance(error, kind)
    assert code in str(error)
    assert "canary-password" not in str(error)
    assert each.records("measurements") == []


def test_a_subscription_that_is_refused_names_its_topics(collecting: Callable[..., Collecting]) -> None:
    with played(b"\x87") as url:  # not authorized
        error = collecting(subscription("mqtt", base_url=url, options={"payloads": TIMED}), DIAMETER).refused()
    assert isinstance(error, PermanentError)
    assert "SPC-287" in str(error)
    assert "l1/lathe/dia" in str(error)


def test_a_broker_that_is_not_there_is_tried_again(tmp_path: Path, collecting: Callable[..., Collecting]) -> None:
    error = collecting(source(Broker(tmp_path / "broker")), DIAMETER).refused()
    assert isinstance(error, TransientError)
    assert "SPC-155" in str(error)

"""Modbus against a server of pymodbus in a process of its own."""

from __future__ import annotations

import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from spc_platform.collect.modbus import AWAY, ModbusConnector
from spc_platform.collect.readings import Recorder
from spc_platform.collect.registers import blocks, parse_register
from spc_platform.errors import SiteError, TransientError
from spc_platform.settings import Settings
from spc_platform_tests.collect.conftest import subscription
from spc_platform_tests.collect.running import Running
from spc_platform_tests.collect.test_service import until

FAST = {"poll_s": 0.05, "timeout_s": 0.3, "retries": 0}


def stream(address: str) -> dict[str, Any]:
    return {"address": address, "record": "telemetry", "name": "L1-LATHE-TEMP", "unit": "degC"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def peer(port: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "spc_platform_tests.collect.modbus_peer", str(port)], stderr=subprocess.DEVNULL
    )

    def answers() -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False

    try:
        until(answers)
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    number = free_port()
    with peer(number):
        yield number


class Collected(Running):
    def __init__(self, recorder: Recorder, folder: Path, **given: Any) -> None:
        super().__init__(ModbusConnector(subscription("modbus", **given), Settings()), recorder, folder)

    def values(self) -> list[tuple[Any, str]]:
        return [(record["value"], record.get("quality", "")) for record in self.records("telemetry")]


@pytest.mark.parametrize(
    ("address", "value"),
    [
        ("holding/0", 7.0),
        ("1/holding/1/int16", -1.0),
        ("1/holding/2/float32/CDAB", 3.5),
        ("3/holding/4/int32", -2.0),
        ("1/coil/5", 1.0),
        ("1/discrete/0", 1.0),
        ("1/input/1", 22.0),
        ("1/holding/0/bit2", 1.0),
        ("1/holding/0/bit3", 0.0),
    ],
)
def test_a_register_is_read_by_its_type_and_order(
    recorder: Callable[..., Recorder], tmp_path: Path, port: int, address: str, value: float
) -> None:
    with Collected(recorder(stream(address)), tmp_path, base_url=f"tcp://127.0.0.1:{port}", limits=FAST) as collected:
        until(lambda: len(collected.values()) >= 2)
    assert collected.error is None
    assert set(collected.values()) == {(value, "")}


def test_a_register_that_the_device_does_not_have_is_bad_and_leaves_its_neighbours_good(
    recorder: Callable[..., Recorder], tmp_path: Path, port: int
) -> None:
    tags = recorder(stream("1/holding/0"), stream("1/holding/4/int32"), stream("1/holding/19"), stream("1/holding/22"))
    with Collected(tags, tmp_path, base_url=f"tcp://127.0.0.1:{port}", limits=FAST) as collected:
        until(lambda: len(collected.values()) >= 8)
    assert set(collected.values()) == {(7.0, ""), (-2.0, ""), (0.0, ""), (None, "IllegalDataAddress")}


@pytest.fixture
def gateway(port: int) -> Iterator[int]:
    """A gateway that passes requests on, but those for device 9, which is switched off."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(("127.0.0.1", port)) as device:
                while request := self.request.recv(12):
                    if request[6] != 9:
                        device.sendall(request)
                        self.request.sendall(device.recv(300))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_a_silent_device_among_others_gives_bad_readings(
    recorder: Callable[..., Recorder], tmp_path: Path, gateway: int
) -> None:
    tags = recorder(stream("1/holding/0"), stream("9/holding/0"))
    with Collected(tags, tmp_path, base_url=f"tcp://127.0.0.1:{gateway}", limits=FAST) as collected:
        until(lambda: len(collected.values()) >= 4)
    assert set(collected.values()) == {(7.0, ""), (None, "NoResponse")}


def test_a_device_that_went_away_is_a_transient_error_and_its_absence_a_gap(
    recorder: Callable[..., Recorder], tmp_path: Path
) -> None:
    number = free_port()
    tags = recorder(stream("holding/0"))
    url = f"tcp://127.0.0.1:{number}"
    with peer(number) as server, Collected(tags, tmp_path, base_url=url, limits=FAST) as collected:
        until(lambda: len(collected.values()) >= 2)
        server.kill()
        until(lambda: collected.error is not None)
    assert isinstance(collected.error, TransientError)
    before = len(collected.values())
    with Collected(tags, tmp_path, base_url=url, limits=FAST) as refused:
        until(lambda: refused.error is not None)
    assert isinstance(refused.error, TransientError)
    time.sleep(0.2)
    with peer(number), Collected(tags, tmp_path, base_url=url, limits=FAST) as again:
        until(lambda: len(again.values()) > before)
    (gap,) = again.spool.gaps()
    assert gap.reason == AWAY
    assert gap.start_at is not None
    assert gap.end_at is not None
    assert (gap.end_at - gap.start_at).total_seconds() > 0.2


def test_neighbours_are_read_together_within_what_a_request_may_hold() -> None:
    near = [parse_register(f"holding/{start}/float32") for start in (0, 2, 4, 12, 40)]
    assert [(block.start, block.count) for block in blocks(near)] == [(0, 14), (40, 2)]
    long = blocks(parse_register(f"holding/{start}") for start in range(300))
    assert [(block.start, block.count) for block in long] == [(0, 125), (125, 125), (250, 50)]
    apart = blocks([parse_register("1/holding/0"), parse_register("2/holding/1"), parse_register("1/input/1")])
    assert len(apart) == 3


@pytest.mark.parametrize(
    "address",
    [
        "40001",
        "holding/70000",
        "coil/1/int16",
        "holding/0/float32/ABBA",
        "holding/0/int16/ABCD",
        "holding/1/bit16",
        "300/holding/0",
    ],
)
def test_what_is_no_register_is_refused_by_name(address: str) -> None:
    with pytest.raises(ValueError, match=address):
        parse_register(address)


def test_text_is_read_to_its_end() -> None:
    assert parse_register("holding/6/string6").value([0x534E, 0x2D34, 0x3200]) == "SN-42"


@pytest.mark.parametrize(
    "given",
    [
        {"base_url": "http://plc"},
        {"base_url": "tcp://plc", "limits": {"poll": 1.0}},
        {"base_url": "tcp://plc", "limits": {"poll_s": 0.0}},
        {"base_url": "tcp://plc", "auth": {"kind": "basic"}},
    ],
)
def test_options_that_are_wrong_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(SiteError, match="line1"):
        ModbusConnector(subscription("modbus", **given), Settings())


def test_a_tag_that_is_no_register_ends_the_source(recorder: Callable[..., Recorder], tmp_path: Path) -> None:
    with Collected(recorder(stream("40001")), tmp_path, base_url="tcp://127.0.0.1:1", limits=FAST) as collected:
        until(lambda: collected.error is not None)
    assert isinstance(collected.error, SiteError)

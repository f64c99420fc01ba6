"""A serial line over a pair of pseudo terminals."""

from __future__ import annotations

import contextlib
import os
import threading
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spc_platform.collect.readings import Recorder
from spc_platform.collect.serial_line import AWAY, SerialConnector
from spc_platform.errors import SiteError, TransientError
from spc_platform.settings import Settings
from spc_platform_tests.collect.conftest import subscription
from spc_platform_tests.collect.running import Running
from spc_platform_tests.collect.test_readings import DIAMETER
from spc_platform_tests.collect.test_service import until

GAUGE = {"pattern": r"0(?P<address>\d)(?P<bad>E?)A(?P<value>[-+]\d{5}\.\d{2,3})", "end": "\r"}
"""The line of a digital indicator: ``01A+00012.345``; ``E`` before the A says that the reading is out of range."""


class Line:
    """The instrument's end of a pair; ``path`` is the port at the other end."""

    def __init__(self) -> None:
        self.instrument, self._port = os.openpty()
        tty.setraw(self.instrument)
        tty.setraw(self._port)
        self.path = os.ttyname(self._port)

    def say(self, text: str) -> None:
        os.write(self.instrument, text.encode())

    def unplug(self) -> None:
        os.close(self.instrument)
        os.close(self._port)


@pytest.fixture
def line() -> Iterator[Line]:
    pair = Line()
    yield pair
    with contextlib.suppress(OSError):
        pair.unplug()


class Listening(Running):
    def __init__(self, recorder: Recorder, folder: Path, url: str, limits: dict[str, Any]) -> None:
        connector = SerialConnector(subscription("serial", base_url=url, limits=limits), Settings())
        super().__init__(connector, recorder, folder)

    def measured(self) -> list[dict[str, Any]]:
        return self.records("measurements")


def listen(recorder: Recorder, folder: Path, line: Line, **limits: Any) -> Listening:
    return Listening(recorder, folder, f"serial://{line.path}", GAUGE | limits)


def test_lines_become_readings_of_their_channel_however_they_are_cut(
    recorder: Callable[..., Recorder], tmp_path: Path, line: Line
) -> None:
    tags = recorder(DIAMETER | {"address": "1"}, DIAMETER | {"address": "2"})
    with listen(tags, tmp_path, line) as listening:
        line.say("01A+000")
        line.say("25.012\r02A+00025.020\r01")
        line.say("A-00000.004\r")
        until(lambda: len(listening.measured()) == 3)
    assert [record["value"] for record in listening.measured()] == [25.012, 25.02, -0.004]
    assert listening.spool.gaps() == []


def test_a_reading_out_of_range_is_bad_and_a_line_that_does_not_match_is_told(
    recorder: Callable[..., Recorder], tmp_path: Path, line: Line
) -> None:
    with listen(recorder(DIAMETER | {"address": "1"}), tmp_path, line) as listening:
        line.say("01EA+99999.99\r")
        line.say("#\x07?!\r")
        line.say("01A+00025.000\r")
        until(lambda: len(listening.measured()) == 2 and len(listening.spool.gaps()) == 1)
    bad, good = listening.measured()
    assert (bad["value"], bad["quality"]) == (None, "E")
    assert good["value"] == 25.0
    assert "line not understood: '#\\x07?!'" in listening.spool.gaps()[0].reason


def test_an_instrument_that_must_be_asked_is_asked(recorder: Callable[..., Recorder], tmp_path: Path, line: Line) -> None:
    def answer() -> None:
        for number in range(3):
            assert os.read(line.instrument, 16) == b"?\r"
            line.say(f"01A+00025.00{number}\r")

    instrument = threading.Thread(target=answer)
    instrument.start()
    with listen(recorder(DIAMETER | {"address": "1"}), tmp_path, line, request="?\r", poll_s=0.05) as listening:
        until(lambda: len(listening.measured()) == 3)
    instrument.join()
    assert [record["value"] for record in listening.measured()] == [25.0, 25.001, 25.002]


def test_a_line_without_an_end_does_not_fill_the_memory(recorder: Callable[..., Recorder], tmp_path: Path, line: Line) -> None:
    with listen(recorder(DIAMETER | {"address": "1"}), tmp_path, line, longest=64) as listening:
        line.say("x" * 300)
        until(lambda: len(listening.spool.gaps()) >= 1)
        line.say("\r01A+00025.000\r")
        until(lambda: len(listening.measured()) == 1)


def test_a_port_that_is_lost_is_a_transient_error_and_the_time_without_it_a_gap(
    recorder: Callable[..., Recorder], tmp_path: Path
) -> None:
    tags = recorder(DIAMETER | {"address": "1"})
    first = Line()
    with listen(tags, tmp_path, first) as listening:
        first.say("01A+00025.000\r")
        until(lambda: len(listening.measured()) == 1)
        first.unplug()
        until(lambda: listening.error is not None)
    assert isinstance(listening.error, TransientError)
    second = Line()
    with listen(tags, tmp_path, second) as again:
        second.say("01A+00025.001\r")
        until(lambda: len(again.measured()) == 2)
    (gap,) = again.spool.gaps()
    assert gap.reason == AWAY
    second.unplug()


def test_a_silent_instrument_is_away_only_where_the_site_says_so(
    recorder: Callable[..., Recorder], tmp_path: Path, line: Line
) -> None:
    with listen(recorder(DIAMETER | {"address": "1"}), tmp_path, line, idle_s=0.3) as listening:
        until(lambda: listening.error is not None)
    assert "was silent" in str(listening.error)


def test_a_decimal_comma_is_read(recorder: Callable[..., Recorder], tmp_path: Path, line: Line) -> None:
    limits = {"pattern": r"(?P<value>[-+\d,]+) mm", "end": "\n", "decimal": ",", "channel": "gauge"}
    tags = recorder(DIAMETER | {"address": "gauge"})
    with Listening(tags, tmp_path, f"serial://{line.path}", limits) as listening:
        line.say("+25,125 mm\n")
        until(lambda: len(listening.measured()) == 1)
    assert listening.measured()[0]["value"] == 25.125


@pytest.mark.parametrize(
    ("url", "limits"),
    [
        ("COM3", {}),
        ("serial:///dev/ttyS0", {"pattern": "(?P<value>["}),
        ("serial:///dev/ttyS0", {"pattern": r"\d+"}),
        ("serial:///dev/ttyS0", {"end": ""}),
        ("serial:///dev/ttyS0", {"encoding": "klingon"}),
        ("serial:///dev/ttyS0", {"baud": 9600}),
    ],
)
def test_options_that_are_wrong_are_refused(url: str, limits: dict[str, Any]) -> None:
    with pytest.raises(SiteError, match="line1"):
        SerialConnector(subscription("serial", base_url=url, limits=limits), Settings())


def test_a_port_that_is_not_there_is_a_transient_error(recorder: Callable[..., Recorder], tmp_path: Path) -> None:
    with Listening(recorder(DIAMETER), tmp_path, "serial:///dev/ttyNOSUCH", {}) as listening:
        until(lambda: listening.error is not None)
    assert isinstance(listening.error, TransientError)

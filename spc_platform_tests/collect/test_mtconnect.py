"""MTConnect against an agent of our own that keeps to the standard's rules of sequences and instances."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from spc_platform.collect.mtconnect import PASSED, RESTARTED, MtConnectConnector
from spc_platform.collect.mtconnect_documents import Parts, parse_streams
from spc_platform.collect.readings import Recorder
from spc_platform.errors import PermanentError, SiteError, SpcError, TransientError
from spc_platform.settings import Settings
from spc_platform_tests.collect.conftest import subscription
from spc_platform_tests.collect.mtconnect_peer import Agent
from spc_platform_tests.collect.running import Running
from spc_platform_tests.collect.test_readings import DIAMETER, T0, at
from spc_platform_tests.collect.test_service import until

TAGS = (
    DIAMETER,
    {"address": "exec", "record": "signal", "name": "execution"},
    {"address": "sys", "record": "signal", "name": "alarm"},
)
FAST = {"interval_ms": 10, "heartbeat_ms": 200, "timeout_s": 2.0}


@pytest.fixture
def agent() -> Iterator[Agent]:
    peer = Agent()
    yield peer
    peer.close()


class Following(Running):
    def __init__(self, recorder: Recorder, folder: Path, agent: Agent, **limits: Any) -> None:
        config = subscription("mtconnect", base_url=agent.url, limits=FAST | limits)
        super().__init__(MtConnectConnector(config, Settings()), recorder, folder)

    def said(self, resource: str, name: str = "value") -> list[Any]:
        return [record[name] for record in self.records(resource)]


@pytest.mark.parametrize("limits", [{}, {"streaming": False}], ids=["stream", "polled"])
def test_every_observation_comes_once_with_the_agents_own_time(
    recorder: Callable[..., Recorder], tmp_path: Path, agent: Agent, limits: dict[str, Any]
) -> None:
    with Following(recorder(*TAGS), tmp_path, agent, **limits) as following:
        for number in range(30):
            agent.say("dia", 25 + number / 1000, number + 0.123456)
        agent.say("exec", "ACTIVE", 31)
        agent.say("sys", "FAULT:E101", 32)
        until(lambda: following.said("signals")[-1:] == ["FAULT:E101"])
    assert following.said("measurements") == [None, *[25 + number / 1000 for number in range(30)]]
    assert following.said("measurements", "measured_at")[1] == "2026-03-10T06:00:00.123456Z"
    assert following.said("signals") == ["UNAVAILABLE", "UNAVAILABLE", "ACTIVE", "FAULT:E101"]
    assert following.spool.gaps() == []


def test_a_broken_stream_goes_on_at_the_next_sequence_number(
    recorder: Callable[..., Recorder], tmp_path: Path, agent: Agent
) -> None:
    tags = recorder(DIAMETER)
    with Following(tags, tmp_path, agent) as following:
        agent.say("dia", 1, 1)
        until(lambda: 1.0 in following.said("measurements"))
        agent.drop_streams()
        until(lambda: following.error is not None)
    assert isinstance(following.error, TransientError)
    for number in range(2, 12):
        agent.say("dia", number, number)
    with Following(tags, tmp_path, agent) as again:
        agent.say("dia", 12, 12)
        until(lambda: 12.0 in again.said("measurements"))
    assert again.said("measurements") == [None, *map(float, range(1, 13))]
    assert again.spool.gaps() == []


def test_what_the_buffer_has_passed_is_a_gap_and_what_is_left_is_read(
    recorder: Callable[..., Recorder], tmp_path: Path, agent: Agent
) -> None:
    tags = recorder(DIAMETER)
    with Following(tags, tmp_path, agent) as following:
        agent.say("dia", 1, 1)
        until(lambda: 1.0 in following.said("measurements"))
    for number in range(2, 102):
        agent.say("dia", number, number)
    with Following(tags, tmp_path, agent) as again:
        until(lambda: 101.0 in again.said("measurements"))
    assert again.said("measurements") == [None, 1.0, *map(float, range(38, 102))]
    (gap,) = again.spool.gaps()
    assert (gap.start_at, gap.end_at, gap.reason) == (at(1), at(38), PASSED)


def test_an_agent_that_was_started_anew_is_read_from_its_beginning(
    recorder: Callable[..., Recorder], tmp_path: Path, agent: Agent
) -> None:
    tags = recorder(*TAGS)
    with Following(tags, tmp_path, agent) as following:
        agent.say("dia", 1, 1)
        until(lambda: 1.0 in following.said("measurements"))
        agent.restart()
        agent.say("dia", 2, 60)
        until(lambda: following.error is not None)
    with Following(tags, tmp_path, agent) as again:
        until(lambda: 2.0 in again.said("measurements"))
    assert [gap.reason for gap in again.spool.gaps()] == [RESTARTED]
    assert len(set(again.said("measurements", "record_id"))) == len(again.said("measurements"))


def test_a_part_without_a_length_is_read_to_its_boundary(
    recorder: Callable[..., Recorder], tmp_path: Path, agent: Agent
) -> None:
    agent.is_multipart = False
    with Following(recorder(DIAMETER), tmp_path, agent) as following:
        agent.say("dia", 1, 1)
        agent.say("dia", 2, 2)
        until(lambda: 2.0 in following.said("measurements"))


def test_a_data_item_that_the_agent_does_not_have_is_told(
    recorder: Callable[..., Recorder], tmp_path: Path, agent: Agent
) -> None:
    with Following(recorder(DIAMETER | {"address": "Dia"}), tmp_path, agent) as following:
        assert "has no data item Dia" in following.sink.health.detail


@pytest.mark.parametrize(
    ("status", "garbage", "kind"),
    [
        (503, b"", TransientError),
        (401, b"", PermanentError),
        (302, b"", PermanentError),
        (200, b"<html><body>login</body></html>", PermanentError),
        (200, b"<MTConnectStreams><Header", TransientError),
        (200, b"<!DOCTYPE a [<!ENTITY b 'x'>]><MTConnectStreams>&b;</MTConnectStreams>", TransientError),
        (200, b"<MTConnectStreams><Header instanceId='x'/></MTConnectStreams>", PermanentError),
    ],
)
def test_what_is_no_agent_is_told_from_one_that_is_away(
    recorder: Callable[..., Recorder], tmp_path: Path, agent: Agent, status: int, garbage: bytes, kind: type[SpcError]
) -> None:
    agent.status, agent.garbage = status, garbage
    with Following(recorder(DIAMETER), tmp_path, agent) as following:
        until(lambda: following.error is not None)
    assert isinstance(following.error, kind), following.error


def test_a_stream_that_falls_silent_is_away(recorder: Callable[..., Recorder], tmp_path: Path, agent: Agent) -> None:
    with Following(recorder(DIAMETER), tmp_path, agent, heartbeat_ms=10, timeout_s=0.2, interval_ms=5_000) as silent:
        until(lambda: silent.error is not None)
    assert isinstance(silent.error, TransientError)


def test_a_condition_is_its_level_with_the_native_code_and_bad_times_are_bad_readings() -> None:
    body = (
        "<MTConnectStreams><Header instanceId='5' firstSequence='1' nextSequence='9'/><Streams><Condition>"
        "<Warning dataItemId='c' sequence='3' timestamp='2026-03-10T06:00:00.1234567Z' nativeCode='W1'>low</Warning>"
        "<Normal dataItemId='c' sequence='4' timestamp='2026-03-10T06:00:01Z'/></Condition>"
        "<Samples><Length dataItemId='d' sequence='5' timestamp='2026-03-10 soon'>1</Length></Samples>"
        "</Streams></MTConnectStreams>"
    )
    warning, normal, timeless = parse_streams(body.encode(), T0).readings
    assert (warning.value, warning.observed_at, warning.sequence) == ("WARNING:W1", T0.replace(microsecond=123456), "5:3")
    assert normal.value == "NORMAL"
    assert (timeless.value, timeless.quality, timeless.observed_at) == (None, "NotATime", T0)


def test_a_part_larger_than_allowed_is_refused() -> None:
    said = iter([b"--b\r\nContent-length: 5000\r\n\r\n", b"x" * 100])
    with pytest.raises(PermanentError, match="more than 1000 bytes"):
        list(Parts(lambda: next(said, b""), "b", 1000))
    endless = Parts(lambda: b"x" * 400, "b", 1000)
    with pytest.raises(PermanentError, match="more than 1000 bytes"):
        list(endless)


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_parts_are_the_same_however_the_bytes_arrive(cut: int) -> None:
    whole = b"--b\r\nContent-Length: 4\r\n\r\nfour\r\n--b\r\n\r\nno length\r\n--b\r\nContent-length: 0\r\n\r\n\r\n--b--\r\n"
    pieces = iter([whole[first : first + cut] for first in range(0, len(whole), cut)])
    assert list(Parts(lambda: next(pieces, b""), "b", 1000)) == [b"four", b"no length", b""]


@pytest.mark.parametrize(
    "given",
    [
        {"base_url": "opc.tcp://x"},
        {"base_url": "http://user:secret@agent:5000"},
        {"base_url": "http://agent", "limits": {"count": 0}},
        {"base_url": "http://agent", "auth": {"kind": "digest"}},
    ],
)
def test_options_that_are_wrong_are_refused_without_showing_a_secret(given: dict[str, Any]) -> None:
    with pytest.raises(SiteError, match="line1") as refused:
        MtConnectConnector(subscription("mtconnect", **given), Settings())
    assert "secret@" not in str(refused.value)


def test_times_have_a_zone() -> None:
    body = (
        b"<MTConnectStreams><Header instanceId='5' firstSequence='1' nextSequence='9'/>"
        b"<Samples><Length dataItemId='d' sequence='1' timestamp='2026-03-10T08:00:00+02:00'>1</Length>"
        b"<Length dataItemId='d' sequence='2' timestamp='2026-03-10T08:00:00'>1</Length></Samples></MTConnectStreams>"
    )
    zoned, naive = parse_streams(body, T0).readings
    assert zoned.observed_at == datetime(2026, 3, 10, 6, tzinfo=UTC)
    assert naive.quality == "NotATime"

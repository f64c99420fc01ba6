"""OPC UA against a real server in a process of its own: every value once, whatever breaks."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from spc_platform.collect.opcua import OpcUaConnector
from spc_platform.collect.opcua_subscription import NO_HISTORY, NOT_SO_FAR
from spc_platform.collect.readings import iso
from spc_platform.collect.spool import Gap
from spc_platform.errors import SiteError, TransientError
from spc_platform.lake.clock_log import ClockLog
from spc_platform.settings import Settings
from spc_platform_tests.collect.conftest import subscription
from spc_platform_tests.collect.opcua.collection import (
    DIA,
    DIAMETER,
    DONE,
    EXECUTION,
    PLAIN,
    TEMP,
    TEMPERATURE,
    Collection,
    Proxy,
)
from spc_platform_tests.collect.opcua.peer import T0, Peer
from spc_platform_tests.collect.test_service import until


def test_every_value_comes_with_its_source_time_also_equal_and_fast_ones(
    peer: Callable[..., Peer], collect: Callable[..., Collection]
) -> None:
    server = peer()
    with collect(server) as collection:
        collection.connected()
        server.write("dia", *(25.0 + n // 2 for n in range(100)), at=1.0, step=0.001)
        collection.has(0.0, *(25.0 + n // 2 for n in range(100)))
        times = [record["measured_at"] for record in collection.records()]
        assert times[1:] == [iso(T0 + timedelta(seconds=1, milliseconds=n)) for n in range(100)]


def test_bad_and_uncertain_values_are_kept_with_their_status_and_without_a_good_value(
    peer: Callable[..., Peer], collect: Callable[..., Collection]
) -> None:
    server = peer()
    with collect(server) as collection:
        collection.connected()
        server.write("dia", 25.1, at=1, status=0x808C0000)
        server.write("dia", 25.2, at=2, status=0x40920000)
        server.write("dia", float("nan"), at=3)
        server.write("dia", 25.4, at=4)
        collection.has(0.0, None, None, None, 25.4)
        said = [record.get("quality") for record in collection.records()]
        assert said == [None, "BadSensorFailure", "UncertainInitialValue", "not a finite number", None]


def test_an_uncertain_value_counts_where_the_site_says_so(
    peer: Callable[..., Peer], collect: Callable[..., Collection]
) -> None:
    server = peer()
    with collect(server, accept_uncertain=True) as collection:
        collection.connected()
        server.write("dia", 25.2, at=2, status=0x40920000)
        collection.has(0.0, 25.2)


def test_a_value_without_source_time_has_the_servers_and_that_is_told(
    peer: Callable[..., Peer], collect: Callable[..., Collection], caplog: pytest.LogCaptureFixture
) -> None:
    server = peer()
    with collect(server) as collection:
        collection.connected()
        server.tell(write=[("dia", 25.0, None, 0)])
        collection.has(0.0, 25.0)
        assert collection.records()[-1]["measured_at"] == iso(T0)
    assert "no source time, the server's is used" in caplog.text


def test_an_array_is_recorded_as_what_it_is_and_a_missing_node_is_subscribed_once_it_is_there(
    peer: Callable[..., Peer], collect: Callable[..., Collection]
) -> None:
    server = peer(without=["temp"])
    with collect(server, TEMPERATURE, DIAMETER | {"address": "ns=2;s=list"}, retry_missing_s=0.2) as collection:
        collection.connected()
        assert collection.sink is not None
        assert "2 nodes, 1 of them missing" in collection.sink.health.detail
        until(lambda: len(collection.records()) == 1)
        assert collection.records()[0]["quality"] == "no single value: list"
        server.tell(add="temp")
        until(lambda: collection.values("telemetry") == [20.0])


def test_a_short_cut_of_the_network_loses_nothing_though_the_server_has_no_history(
    peer: Callable[..., Peer], collect: Callable[..., Collection]
) -> None:
    server = peer()
    proxy = Proxy(server.port)
    with collect(f"opc.tcp://127.0.0.1:{proxy.port}/line1", DIAMETER, EXECUTION) as collection:
        collection.connected()
        server.write("dia", 1.0, 2.0, at=1)
        collection.has(0.0, 1.0, 2.0)
        proxy.cut()
        server.write("dia", *(float(n) for n in range(3, 60)), at=3)
        proxy.mend()
        collection.connected(2)
        collection.has(*(float(n) for n in range(60)))
        assert collection.sink is not None
        assert "taken up again" in collection.sink.health.detail
        assert collection.values("signals") == ["STOPPED"]
    assert collection.spool.gaps() == []


def test_messages_that_a_network_swallowed_without_a_word_are_asked_for_again(
    peer: Callable[..., Peer], collect: Callable[..., Collection]
) -> None:
    server = peer()
    proxy = Proxy(server.port)
    with collect(f"opc.tcp://127.0.0.1:{proxy.port}/line1", timeout_s=1.0) as collection:
        collection.connected()
        server.write("dia", 1.0, at=1)
        collection.has(0.0, 1.0)
        proxy.swallow()
        server.write("dia", 2.0, 3.0, at=2)
        time.sleep(0.3)
        server.write("dia", 4.0, at=4)
        collection.connected(2)
        collection.has(0.0, 1.0, 2.0, 3.0, 4.0)
        assert collection.sink is not None
        assert "taken up again" in collection.sink.health.detail
    assert collection.spool.gaps() == []


def test_a_deadband_of_the_server_thins_out_only_its_address(
    peer: Callable[..., Peer], collect: Callable[..., Collection]
) -> None:
    server = peer()
    with collect(server, DIAMETER, TEMPERATURE, deadbands={TEMP: 0.5}) as collection:
        collection.connected()
        server.write("temp", 20.2, 20.9, 21.0, at=1)
        server.write("dia", 0.1, 0.2, at=1)
        collection.has(0.0, 0.1, 0.2)
        collection.has(20.0, 20.9, resource="telemetry")


def test_what_happened_while_the_collector_was_down_is_in_the_servers_queue(
    peer: Callable[..., Peer], collect: Callable[..., Collection]
) -> None:
    server = peer()
    with collect(server, DIAMETER, EXECUTION) as collection:
        collection.connected()
        server.write("dia", 1.0, at=1)
        collection.has(0.0, 1.0)
        collection.has("STOPPED", resource="signals")
    server.write("dia", 2.0, 3.0, at=2)
    with collect(server, DIAMETER, EXECUTION) as collection:
        collection.has(0.0, 1.0, 2.0, 3.0)
        # It was unavailable to us, and is said anew although it did not change.
        collection.has("STOPPED", "UNAVAILABLE", "STOPPED", resource="signals")
    assert collection.spool.gaps() == []


def test_other_tags_make_another_subscription_and_the_old_one_is_given_back(
    peer: Callable[..., Peer], collect: Callable[..., Collection]
) -> None:
    server = peer(history=["dia", "temp"])
    with collect(server) as collection:
        collection.connected()
        server.write("dia", 1.0, at=1)
        collection.has(0.0, 1.0)
    server.write("dia", 2.0, 3.0, at=2)
    with collect(server, DIAMETER, TEMPERATURE) as collection:
        collection.connected()
        assert collection.sink is not None
        assert collection.sink.health.detail.startswith("subscribed")
        collection.has(0.0, 1.0, 2.0, 3.0)
        server.write("temp", 21.0, at=1)
        collection.has(20.0, 21.0, resource="telemetry")
    assert collection.spool.gaps() == []


def test_a_server_that_was_killed_is_subscribed_anew_and_the_gap_is_known(
    peer: Callable[..., Peer], collect: Callable[..., Collection]
) -> None:
    server = peer()
    with collect(server, patience_s=20.0) as collection:
        collection.connected()
        server.write("dia", 1.0, at=1)
        collection.has(0.0, 1.0)
        server.kill()
        server.start()
        collection.connected(2)
        server.write("dia", 9.0, at=9)
        collection.has(0.0, 1.0, 9.0)
    (gap,) = collection.spool.gaps()
    assert (gap.address, gap.start_at, gap.reason) == (DIA, T0 + timedelta(seconds=1), NO_HISTORY)


def test_a_server_that_stays_away_is_an_error_that_may_pass_and_its_signals_are_unavailable(
    peer: Callable[..., Peer], collect: Callable[..., Collection]
) -> None:
    server = peer()
    with collect(server, EXECUTION, patience_s=0.3) as collection:
        collection.connected()
        collection.has("STOPPED", resource="signals")
        server.kill()
        error = collection.failed()
        collection.has("STOPPED", "UNAVAILABLE", resource="signals")
    assert (type(error), error.code) == (TransientError, "SPC-151")


def test_a_gap_is_filled_from_the_history_when_the_server_let_go_of_the_session(
    peer: Callable[..., Peer], collect: Callable[..., Collection], tmp_path: Path
) -> None:
    server = peer(history=["dia", "done", "temp"])
    triggered = DIAMETER | {"trigger": DONE}
    with collect(server, triggered, TEMPERATURE) as collection:
        collection.connected()
        server.write("dia", 1.0, at=1)
        server.write("temp", 30.0, at=1)
        server.write("done", True, False, at=2)
        collection.has(1.0)
        collection.has(20.0, 30.0, resource="telemetry")
    (tmp_path / "data" / "pki" / "opcua" / "sessions" / "line1.json").unlink()
    for part in range(2, 30):
        server.write("dia", float(part), at=10 * part)
        server.write("done", True, False, at=10 * part + 5)
    server.write("temp", *(30.0 + n for n in range(1, 12)), at=20, step=60.0)
    with collect(server, triggered, TEMPERATURE) as collection:
        # Each part with its own diameter: the histories of two nodes are taken up in the order of their times.
        collection.has(*(float(part) for part in range(1, 30)))
        collection.has(20.0, 30.0, *(30.0 + n for n in range(1, 12)), resource="telemetry")
    assert collection.spool.gaps() == []


def test_a_history_that_does_not_reach_back_leaves_a_gap(peer: Callable[..., Peer], collect: Callable[..., Collection]) -> None:
    server = peer(history=["dia"])
    with collect(server, patience_s=20.0) as collection:
        collection.connected()
        server.write("dia", 1.0, at=1)
        collection.has(0.0, 1.0)
        server.kill()
        server.start()
        collection.connected(2)
        server.write("dia", 9.0, at=9)
        collection.has(0.0, 1.0, 9.0)
    (gap,) = collection.spool.gaps()
    assert (gap.address, gap.start_at, gap.reason) == (DIA, T0 + timedelta(seconds=1), NOT_SO_FAR)


@pytest.mark.parametrize("tells", [True, False], ids=["told", "found"])
def test_a_queue_that_overflowed_leaves_a_gap(
    peer: Callable[..., Peer], collect: Callable[..., Collection], tells: bool
) -> None:
    server = peer(tells_overflow=tells)
    with collect(server, queue_size=5, publishing_ms=400.0) as collection:
        collection.connected()
        until(lambda: collection.values() == [0.0])
        server.write("dia", *(float(n) for n in range(1, 21)), at=1)
        until(lambda: len(collection.values()) == 6)
        assert collection.values()[-1] == 20.0
        until(lambda: len(collection.spool.gaps()) == 1)
    (gap,) = collection.spool.gaps()
    assert gap == Gap(DIA, T0 - timedelta(hours=1), T0 + timedelta(seconds=20), NO_HISTORY)


def test_what_a_queue_lost_is_fetched_from_the_history(peer: Callable[..., Peer], collect: Callable[..., Collection]) -> None:
    server = peer(history=["dia"])
    with collect(server, queue_size=5, publishing_ms=400.0) as collection:
        collection.connected()
        until(lambda: collection.values() == [0.0])
        server.write("dia", *(float(n) for n in range(1, 201)), at=1)
        collection.has(*(float(n) for n in range(201)))
        server.write("dia", 300.0, at=300)
        collection.has(*(float(n) for n in range(201)), 300.0)
    assert collection.spool.gaps() == []


def test_the_servers_clock_is_asked_between_two_looks_at_ours(
    peer: Callable[..., Peer], collect: Callable[..., Collection], tmp_path: Path
) -> None:
    server = peer()
    with collect(server) as collection:
        with pytest.raises(TransientError, match="SPC-154"):
            OpcUaConnector(subscription(base_url=server.url, auth=PLAIN), Settings()).clock_exchange()
        collection.connected()
        said = collection.connector.clock_exchange()
        assert said.t_send <= said.t_receive <= said.t_send + timedelta(seconds=2)
        assert abs(said.server_time - said.t_send) < timedelta(seconds=2)
        assert len(collection.connector.clock) >= 2
        until(lambda: ClockLog(tmp_path / "data").exchanges().height >= 1)
        assert ClockLog(tmp_path / "data").exchanges()["clock_id"].unique().to_list() == ["line1"]


@pytest.mark.parametrize(
    ("given", "code", "text"),
    [
        ({"base_url": "http://here"}, "SPC-461", "write opc.tcp"),
        ({"base_url": "opc.tcp://user:canary@here:4840"}, "SPC-461", "holds a user or password"),
        ({"limits": {"queue_size": 0}}, "SPC-461", "queue_size is 0"),
        ({"limits": {"deadbands": {"ns=2;s=a": -1.0}}}, "SPC-461", "no number above 0"),
        ({"auth": {"security": "Basic128"}}, "SPC-461", "one of: SignAndEncrypt"),
        ({"auth": {"identity": "user", "security": "None"}}, "SPC-463", "would travel unencrypted"),
        ({"auth": {"identity": "user", "user_env": "SPC_NO_SUCH"}}, "SPC-463", "SPC_NO_SUCH"),
        ({"auth": {"identity": "certificate"}}, "SPC-462", "needs auth.user_certificate"),
        ({"auth": {"certificate": "own.der"}}, "SPC-462", "belong together"),
    ],
)
def test_options_that_are_wrong_are_refused(given: dict[str, Any], code: str, text: str) -> None:
    with pytest.raises(SiteError, match=text) as refused:
        OpcUaConnector(subscription(**{"base_url": "opc.tcp://here:4840"} | given), Settings())
    assert refused.value.code == code
    assert "canary" not in str(refused.value)


def test_an_address_that_is_no_node_and_nodes_that_are_not_there_end_the_source(
    peer: Callable[..., Peer], collect: Callable[..., Collection]
) -> None:
    server = peer()
    for address, code in (("temperature", "SPC-461"), ("nsu=http://other/;s=dia", "SPC-461"), ("ns=2;s=none", "SPC-284")):
        with collect(server, DIAMETER | {"address": address}) as collection:
            assert collection.failed().code == code

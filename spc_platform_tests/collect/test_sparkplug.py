"""Edge nodes of Sparkplug B: births, aliases, sequence, deaths; payloads are built by the specification's field numbers."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from spc_platform.collect.readings import Reading, Recorder
from spc_platform.collect.sparkplug import Heard, Host, rebirth_request
from spc_platform.collect.sparkplug_payload import Payload, decode
from spc_platform_tests.collect.broker import Broker, Publisher
from spc_platform_tests.collect.test_mqtt import Collecting, source, until

T0 = datetime(2026, 3, 2, 6, 0, tzinfo=UTC)
LOAD = "spBv1.0/plant/l1/lathe#Spindle/Load"
COUNT = "spBv1.0/plant/l1/lathe#Count"
STATE = "spBv1.0/plant/l1/lathe#State"
AMBIENT = "spBv1.0/plant/l1#Ambient"
INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64, FLOAT, DOUBLE, BOOL, STRING = range(1, 13)
FIELDS = {INT64: "long_value", UINT64: "long_value", FLOAT: "float_value", DOUBLE: "double_value", STRING: "string_value"}


def milliseconds(seconds: float) -> int:
    return int((T0.timestamp() + seconds) * 1000)


def payload(seq: int | None, *metrics: dict[str, Any], at: float = 0.0) -> bytes:
    """A payload whose metrics are dicts of name or alias, datatype, value and flags; times in seconds after T0."""
    made = Payload(timestamp=milliseconds(at))
    if seq is not None:
        made.seq = seq
    for given in metrics:
        metric = dict(given)
        value, datatype = metric.pop("value", None), metric.get("datatype", DOUBLE)
        metric["timestamp"] = milliseconds(metric.pop("at", at))
        quality = metric.pop("quality", None)
        if value is not None:
            metric[FIELDS.get(datatype, "boolean_value" if datatype == BOOL else "int_value")] = value
        if metric.pop("untyped", False):
            metric.pop("datatype", None)
        added = made.metrics.add(**metric)
        if quality is not None:
            added.properties.keys.append("Quality")
            added.properties.values.add(type=INT32, int_value=quality)
    body: bytes = made.SerializeToString()
    return body


def node_birth(bd_seq: int = 0, at: float = 0.0) -> bytes:
    return payload(
        0,
        {"name": "bdSeq", "datatype": INT64, "value": bd_seq},
        {"name": "Ambient", "alias": 1, "datatype": FLOAT, "value": 21.5},
        at=at,
    )


def device_birth(seq: int = 1, at: float = 0.0, load: float = 10.0, state: str = "READY") -> bytes:
    return payload(
        seq,
        {"name": "Spindle/Load", "alias": 2, "datatype": DOUBLE, "value": load},
        {"name": "Count", "alias": 3, "datatype": INT16, "value": 0xFFFF_FFFF},
        {"name": "State", "alias": 4, "datatype": STRING, "value": state},
        at=at,
    )


def data(seq: int, value: float, at: float) -> bytes:
    return payload(seq, {"alias": 2, "value": value, "untyped": True}, at=at)


class Line:
    """A host that hears one edge node; every message arrives when it was made."""

    def __init__(self, **given: Any) -> None:
        self.host = Host([LOAD, COUNT, STATE, AMBIENT], **given)

    def hear(self, kind: str, body: bytes, at: float = 0.0) -> Heard:
        device = "/lathe" if kind[0] == "D" else ""
        return self.host.hear(f"spBv1.0/plant/{kind}/l1{device}", body, T0 + timedelta(seconds=at))


@pytest.fixture
def line() -> Line:
    line = Line()
    line.hear("NBIRTH", node_birth())
    line.hear("DBIRTH", device_birth())
    return line


def test_bytes_by_the_field_numbers_of_the_specification_are_read() -> None:
    # Written by hand: timestamp=1 varint, metrics=2 {name=1, datatype=4 (10), double_value=13}, seq=3 varint.
    metric = b"\x0a\x01x" + b"\x20\x0a" + b"\x69" + struct.pack("<d", 2.5)
    message = decode(b"\x08\xe8\x07" + b"\x12" + bytes([len(metric)]) + metric + b"\x18\x05")
    assert (message.seq, message.at) == (5, datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC))
    assert (message.metrics[0].name, message.metrics[0].value()) == ("x", (2.5, ""))


@pytest.mark.parametrize(
    ("datatype", "wire", "value"),
    [
        (INT8, 0xFFFF_FF80, -128),
        (INT8, 0x80, -128),
        (INT16, 0xFFFF_FFFF, -1),
        (INT32, 0x8000_0000, -(2**31)),
        (INT32, 2**31 - 1, 2**31 - 1),
        (INT64, 2**64 - 5, -5),
        (UINT8, 255, 255),
        (UINT32, 2**32 - 1, 2**32 - 1),
        (UINT64, 2**64 - 1, 2**64 - 1),
        (BOOL, True, True),
        (STRING, "a", "a"),
    ],
)
def test_values_by_data_type_signed_ones_as_twos_complement(datatype: int, wire: Any, value: Any) -> None:
    message = decode(payload(0, {"name": "x", "datatype": datatype, "value": wire}))
    assert message.metrics[0].value() == (value, "")


def test_a_birth_gives_names_to_the_aliases_of_the_data(line: Line) -> None:
    heard = line.hear("DDATA", data(2, 12.5, 1), 1)
    assert heard.readings == [Reading(LOAD, 12.5, T0 + timedelta(seconds=1))]
    assert (heard.gaps, heard.rebirths) == ([], [])
    counted = line.hear("DDATA", payload(3, {"alias": 3, "datatype": INT16, "value": 0xFFFF_FFFE, "untyped": True}), 2)
    assert counted.readings == [Reading(COUNT, -2, T0)]


def test_the_sequence_goes_on_after_255(line: Line) -> None:
    for number in range(2, 300):
        heard = line.hear("DDATA", data(number % 256, number, number), number)
        assert len(heard.readings) == 1
        assert heard.gaps == []


def test_a_jump_of_the_sequence_is_a_gap_and_asks_for_a_rebirth_once(line: Line) -> None:
    line.hear("DDATA", data(2, 1.0, 1), 1)
    heard = line.hear("DDATA", data(5, 2.0, 4), 4)
    assert heard.readings == []  # the alias may be another one by now
    assert heard.rebirths == [("plant", "l1")]
    assert (heard.gaps[0].start_at, heard.gaps[0].end_at) == (T0 + timedelta(seconds=1), T0 + timedelta(seconds=4))
    assert "sequence 5 came instead of 3, 2 or more messages are missing" in heard.gaps[0].reason
    named = line.hear("DDATA", payload(6, {"name": "Spindle/Load", "datatype": DOUBLE, "value": 3.0}, at=5), 5)
    assert [each.value for each in named.readings] == [3.0]
    assert named.rebirths == []
    assert line.hear("DDATA", data(7, 2.0, 20), 20).rebirths == [("plant", "l1")]
    born = line.hear("NBIRTH", node_birth(at=21), 21)
    assert "2 values without a name" in born.gaps[0].reason
    line.hear("DBIRTH", device_birth(at=22), 22)
    assert line.hear("DDATA", data(2, 4.0, 23), 23).readings[0].value == 4.0


def test_a_lost_message_of_any_number_but_256_is_seen() -> None:
    for lost in range(1, 256):
        line = Line()
        line.hear("NBIRTH", node_birth())
        line.hear("DBIRTH", device_birth())
        assert line.hear("DDATA", data((2 + lost) % 256, 1.0, 1), 1).gaps, lost


def test_the_death_of_a_node_makes_everything_stale_but_not_that_of_an_earlier_connection(line: Line) -> None:
    line.hear("NBIRTH", node_birth(bd_seq=7))
    line.hear("DBIRTH", device_birth())
    earlier = line.hear("NDEATH", payload(None, {"name": "bdSeq", "datatype": INT64, "value": 6}), 9)
    assert earlier.readings == []
    heard = line.hear("NDEATH", payload(None, {"name": "bdSeq", "datatype": INT64, "value": 7}), 10)
    at = T0 + timedelta(seconds=10)
    assert sorted(heard.readings, key=lambda r: r.address) == sorted(
        (Reading(address, None, at, "STALE") for address in (LOAD, COUNT, STATE, AMBIENT)), key=lambda r: r.address
    )
    assert line.hear("DDATA", data(2, 1.0, 11), 11).rebirths == [("plant", "l1")]


def test_the_death_of_a_device_leaves_its_node(line: Line) -> None:
    heard = line.hear("DDEATH", payload(2, at=5), 5)
    assert {each.address for each in heard.readings} == {LOAD, COUNT, STATE}
    assert {each.quality for each in heard.readings} == {"STALE"}
    node = line.hear("NDATA", payload(3, {"alias": 1, "datatype": FLOAT, "value": 22.0, "untyped": True}, at=6), 6)
    assert node.readings == [Reading(AMBIENT, 22.0, T0 + timedelta(seconds=6))]
    assert line.hear("DDATA", data(4, 1.0, 7), 7).rebirths == [("plant", "l1")]


def test_quality_null_and_types_that_are_not_read_are_no_values(line: Line) -> None:
    name = {"name": "Spindle/Load", "datatype": DOUBLE}
    body = payload(2, {**name, "value": 1.0, "quality": 0}, {**name, "value": 1.0, "quality": 192}, {**name, "is_null": True})
    assert [(each.value, each.quality) for each in line.hear("DDATA", body).readings] == [
        (1.0, "BAD 0"),
        (1.0, ""),
        (None, "NULL"),
    ]
    odd = line.hear("DDATA", payload(3, {**name, "value": float("nan")}, {"name": "Count", "datatype": 22, "value": 1}))
    assert [(each.value, each.quality) for each in odd.readings] == [(None, "NOT FINITE"), (None, "UNREADABLE: data type 22")]


def test_historical_values_keep_their_own_time(line: Line) -> None:
    body = payload(2, {"alias": 2, "value": 1.0, "untyped": True, "is_historical": True, "at": -3600}, at=5)
    assert line.hear("DDATA", body, 5).readings == [Reading(LOAD, 1.0, T0 - timedelta(hours=1))]


def test_a_birth_that_repeats_a_measurement_is_no_new_one_even_after_a_restart() -> None:
    line = Line(counted=frozenset({LOAD}), states=frozenset({STATE}))
    line.hear("NBIRTH", node_birth())
    first = line.hear("DBIRTH", device_birth(load=10.0))
    assert LOAD in {each.address for each in first.readings}
    said = line.hear("DDATA", data(2, 12.5, 1), 1)
    again = Line(counted=frozenset({LOAD}), states=frozenset({STATE}), state={**first.state, **said.state})
    again.hear("NBIRTH", node_birth(at=60), 60)
    repeated = again.hear("DBIRTH", device_birth(load=12.5, at=60), 60)
    assert LOAD not in {each.address for each in repeated.readings}
    assert Reading(STATE, "READY", T0 + timedelta(seconds=60)) in repeated.readings
    assert again.hear("DDATA", data(2, 12.5, 61), 61).readings == [Reading(LOAD, 12.5, T0 + timedelta(seconds=61))]
    other = again.hear("DBIRTH", device_birth(3, load=13.0, at=62), 62)
    assert 13.0 in {each.value for each in other.readings}


def test_bytes_that_are_no_payload_are_quarantined_and_start_a_rebirth(line: Line) -> None:
    heard = line.hear("DDATA", b"\xff\xff\xff", 3)
    assert {each.address for each in heard.readings} == {LOAD, COUNT, STATE}
    assert all(each.quality.startswith("MALFORMED: no Sparkplug B payload; sha256 ") for each in heard.readings)
    assert heard.rebirths == [("plant", "l1")]
    assert len(heard.gaps) == 1


def test_messages_of_others_say_nothing(line: Line) -> None:
    for topic in ("spBv1.0/plant/NCMD/l1", "spBv1.0/other/NDATA/l1", "spBv1.0/STATE/host", "spBv1.0/plant/DDATA/l1/a/b"):
        heard = line.host.hear(topic, b"\xff", T0)
        assert (heard.readings, heard.gaps, heard.rebirths) == ([], [], [])


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path / "broker") as broker:
        yield broker


def test_an_edge_node_at_a_real_broker_is_asked_reborn_and_dies(
    broker: Broker, recorder: Callable[..., Recorder], tmp_path: Path
) -> None:
    config = source(broker, [], limits={"rebirth_s": 1.0})
    rows = (
        {"address": LOAD, "record": "telemetry", "name": "L1-LATHE-TEMP", "unit": "degC"},
        {"address": STATE, "record": "signal", "name": "execution"},
    )
    each = Collecting(config, recorder(*rows, source=config), tmp_path)
    will = ("spBv1.0/plant/NDEATH/l1", payload(None, {"name": "bdSeq", "datatype": INT64, "value": 3}))
    with Publisher(broker, listens=["spBv1.0/plant/NCMD/l1"], will=will) as node, each.running() as sink:
        asked = node.wait_heard(1)  # a new connection knows no aliases
        request = decode(asked[0][1]).metrics[0]
        assert (request.name, request.value()) == ("Node Control/Rebirth", (True, ""))
        node.publish("spBv1.0/plant/NBIRTH/l1", node_birth(bd_seq=3), qos=0)
        node.publish("spBv1.0/plant/DBIRTH/l1/lathe", device_birth(), qos=0)
        node.publish("spBv1.0/plant/DDATA/l1/lathe", data(2, 20.0, 1), qos=0)
        until(lambda: sink.health.records == 3, "birth and data")
        node.publish("spBv1.0/plant/DDATA/l1/lathe", data(9, 30.0, 2), qos=0)
        node.wait_heard(2)
        until(lambda: len(each.spool.gaps()) == 1, "the gap")
        node.publish("spBv1.0/plant/NBIRTH/l1", node_birth(bd_seq=3, at=3), qos=0)
        node.publish("spBv1.0/plant/DBIRTH/l1/lathe", device_birth(at=3, load=31.0), qos=0)
        until(lambda: each.records("telemetry")[-1]["value"] == 31.0, "the rebirth")
        node.vanish()
        until(lambda: [s["value"] for s in each.records("signals")][-1:] == ["UNAVAILABLE"], "the death")
    streams = each.records("telemetry")
    assert [(s["value"], s.get("quality")) for s in streams] == [(10.0, None), (20.0, None), (31.0, None), (None, "STALE")]


def test_a_request_for_a_rebirth_is_what_the_specification_asks_for() -> None:
    message = decode(rebirth_request(T0))
    assert [(each.name, each.datatype, each.raw) for each in message.metrics] == [("Node Control/Rebirth", BOOL, True)]

"""How payloads become readings, without a broker."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from spc_platform.collect.mqtt import MqttConnector
from spc_platform.collect.mqtt_config import read_options
from spc_platform.collect.mqtt_inbox import Arrival, Inbox
from spc_platform.collect.mqtt_payload import read_payload, target_of
from spc_platform.collect.readings import Reading, Tag
from spc_platform.errors import SiteError
from spc_platform.settings import Settings
from spc_platform_tests.collect.conftest import subscription

RECEIVED = datetime(2026, 3, 2, 7, 0, tzinfo=UTC)
SIX = datetime(2026, 3, 2, 6, 0, tzinfo=UTC)


def readings(payload: Any, *addresses: str, zone: str | None = None, ambiguous: str = "reject", **rule: Any) -> list[Reading]:
    config = subscription(
        "mqtt", base_url="mqtt://localhost", zone=zone, ambiguous=ambiguous, options={"payloads": [{"timestamp": "", **rule}]}
    )
    options = read_options(config, Settings())
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return read_payload(options.payloads[0], "t", [target_of(each) for each in addresses or ("t",)], body, RECEIVED)


def test_an_array_of_named_readings_with_times_and_qualities_of_their_own() -> None:
    payload = {
        "source": {"at": 1772431200000},
        "values": [
            {"id": "Lathe.Load", "v": 12.5, "q": True, "t": 1772431200000},
            {"id": "Lathe.Speed", "v": 900, "q": False, "t": 1772431201500},
            {"id": "Mill.Load", "v": 1, "q": True, "t": 1772431200000},
        ],
    }
    rule = {"readings": "values", "name": "id", "value": "v", "quality": "q", "timestamp": "t", "time_unit": "ms"}
    found = readings(payload, "t#Lathe.Load", "t#Lathe.Speed", **rule)
    assert found == [
        Reading("t#Lathe.Load", 12.5, SIX),
        Reading("t#Lathe.Speed", 900, SIX.replace(second=1, microsecond=500_000), "False"),
    ]
    outer = readings(payload, "t#Lathe.Load", **{**rule, "timestamp": "^.source.at"})
    assert outer[0].observed_at == SIX


@pytest.mark.parametrize(
    ("said", "unit"),
    [
        ("2026-03-02T06:00:00Z", "iso"),
        ("2026-03-02T01:00:00-05:00", "iso"),
        ("2026-03-02T07:00:00", "iso"),
        (1772431200, "s"),
        (1772431200.0, "s"),
        ("1772431200000", "ms"),
        (1772431200000000, "us"),
        (1772431200000000000, "ns"),
    ],
)
def test_times_as_text_with_and_without_zone_and_as_numbers_since_1970(said: Any, unit: str) -> None:
    found = readings({"value": 1, "ts": said}, timestamp="ts", time_unit=unit, zone="Europe/Berlin")
    assert found == [Reading("t", 1, SIX)]


@pytest.mark.parametrize("said", [None, True, "soon", 1e300, [], "2026-03-02T06:00:00", "2026-02-30T06:00:00Z"])
def test_a_time_that_is_none_makes_a_reading_of_bad_quality(said: Any) -> None:
    unit = "s" if isinstance(said, bool | float) else "iso"
    found = readings({"value": 1, "ts": said}, timestamp="ts", time_unit=unit)
    assert [(each.value, each.observed_at) for each in found] == [(None, RECEIVED)]
    assert found[0].quality.startswith("MALFORMED: no time")


def test_the_hour_that_comes_twice_is_not_guessed() -> None:
    payload = {"value": 1, "ts": "2026-10-25T02:30:00"}
    assert "AMBIGUOUS" in readings(payload, timestamp="ts", zone="Europe/Berlin")[0].quality
    late = readings(payload, timestamp="ts", zone="Europe/Berlin", ambiguous="latest")
    assert late[0].observed_at == datetime(2026, 10, 25, 1, 30, tzinfo=UTC)


def test_a_quality_that_is_declared_and_absent_is_not_good() -> None:
    assert readings({"value": 1, "q": "GOOD"}, quality="q")[0].quality == ""
    assert readings({"value": 1, "q": 192}, quality="q")[0].quality == ""
    assert readings({"value": 1, "q": 0}, quality="q")[0].quality == "0"
    assert readings({"value": 1}, quality="q")[0].quality == "NO QUALITY"


def test_values_that_are_none() -> None:
    assert readings({"value": None})[0].quality == "NO VALUE"
    assert readings({"value": {"a": 1}})[0].quality.startswith("NO VALUE")
    assert readings(b"17.5", value="")[0].value == 17.5
    assert readings(b" RUNNING\n", format="text", timestamp="")[0].value == "RUNNING"


def test_readings_of_one_receipt_are_told_apart_by_their_place() -> None:
    found = readings([{"value": 5}, {"value": 5}])
    assert [each.sequence for each in found] == ["", "1"]


def test_everything_wrong_with_a_source_is_refused(tmp_path: Path) -> None:
    def refused(match: str, **given: Any) -> None:
        given = {"base_url": "mqtts://broker", "options": {"payloads": [{"timestamp": ""}]}, **given}
        with pytest.raises(SiteError, match=match) as raised:
            MqttConnector(subscription("mqtt", **given), Settings(site=tmp_path))
        assert "SPC-465" in str(raised.value)

    refused("mqtts://host:8883", base_url="http://broker")
    refused("holds a user or password", base_url="mqtts://me:secret@broker")
    refused("timestamp is missing", options={"payloads": [{"topic": "a/#"}]})
    refused("unknown key options.payloads", options={"payloads": [{"timestmap": "ts"}]})
    refused("time_unit", options={"payloads": [{"timestamp": "t", "time_unit": "h"}]})
    refused("version", options={"version": "4"})
    refused("receive_maximum", limits={"receive_maximum": 70_000})
    refused("belong together", auth={"certificate": "a.pem"})
    refused("cannot read none.pem", auth={"ca_file": "none.pem"})
    refused("unencrypted", base_url="mqtt://broker", auth={"user_env": "U", "secret_env": "P"})
    refused("is not set", auth={"user_env": "SPC_NO_SUCH_VARIABLE"})


def test_addresses_that_cannot_be_subscribed_to_are_listed() -> None:
    config = subscription("mqtt", base_url="mqtt://localhost", options={"payloads": [{"topic": "a/#", "timestamp": ""}]})
    addresses = ["a/b+", "b/c#v", "spBv1.0/group#m", "$SYS/x"]
    with pytest.raises(SiteError, match="SPC-467") as raised:
        Inbox(read_options(config, Settings()), (), addresses, {})
    assert all(address in str(raised.value) for address in addresses)


def test_a_redelivery_is_known_only_on_the_next_connection() -> None:
    options = read_options(
        subscription("mqtt", base_url="mqtt://localhost", options={"payloads": [{"timestamp": ""}]}), Settings()
    )
    tags = (Tag("t", "measurement", "SHAFT-DIA", "L1-LATHE", unit="mm"),)
    first = Arrival("t", b'{"value": 1}', RECEIVED, qos=1, mid=7)
    parcel = Inbox(options, tags, ["t"], {}).take([first])
    assert parcel.readings == [Reading("t", 1, RECEIVED)]
    later = RECEIVED.replace(minute=5)
    again = Arrival("t", b'{"value": 1}', later, qos=1, mid=7, is_redelivered=True)
    state = {**parcel.state, "connection": "1"}
    assert Inbox(options, tags, ["t"], state).take([again]).readings == [Reading("t", 1, RECEIVED)]
    for other in (
        Arrival("t", b'{"value": 2}', later, qos=1, mid=7, is_redelivered=True),
        Arrival("t", b'{"value": 1}', later, qos=1, mid=8, is_redelivered=True),
        Arrival("t", b'{"value": 1}', later, qos=1, mid=7),
    ):
        assert Inbox(options, tags, ["t"], state).take([other]).readings[0].observed_at == later
    assert Inbox(options, tags, ["t"], {**state, "connection": "2"}).take([again]).readings[0].observed_at == later


def test_a_missing_client_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in sys.modules if each.startswith(("paho", "spc_platform.collect.mqtt_"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "paho", None)
    config = subscription("mqtt", base_url="mqtt://localhost")
    with pytest.raises(SiteError, match=r"SPC-466.*spc-platform\[mqtt\]"):
        MqttConnector(config, Settings())

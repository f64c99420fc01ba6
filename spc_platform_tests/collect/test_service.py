"""The collector as a service: sources beside each other, landing beside them, and what it tells of itself."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from spc_platform.collect.endpoint import Endpoint, tell_supervisor
from spc_platform.collect.readings import Reading
from spc_platform.collect.service import Collector
from spc_platform.collect.sink import Connector, Sink
from spc_platform.collect.spool import Spool
from spc_platform.errors import LakeError, PermanentError, SiteError, TransientError
from spc_platform.settings import Settings
from spc_platform.site.model import Site, Source
from spc_platform_tests.collect.conftest import subscription, tag_rows
from spc_platform_tests.collect.test_readings import DIAMETER, T0

Behaviour = Callable[[Sink, threading.Event], None]


class Scripted:
    def __init__(self, behaviour: Behaviour) -> None:
        self.run = behaviour


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def send(sink: Sink, stop: threading.Event) -> None:
    """Connect, continue behind what is durable, send ten readings, stay."""
    sink.connected("connected")
    first = int(sink.state().get("next", 0))
    for number in range(first, first + 10):
        sink.put([Reading("dia", 25.0, T0 + timedelta(seconds=number))], state={"next": str(number + 1)})
    stop.wait()


@pytest.fixture
def collect(plain_site: Site, tmp_path: Path) -> Callable[..., Collector]:
    """Makes a collector of sources that behave as given, one tag each."""

    def make(land: Callable[[Source], None] | None = None, only: tuple[str, ...] = (), **behaviours: Behaviour) -> Collector:
        sources = tuple(subscription(source_id=name) for name in behaviours)
        rows = [DIAMETER | {"source_id": name, "equipment_id": "L1-LATHE"} for name in behaviours]
        plain_site.tables["tags"] = tag_rows(*rows)
        site = type(plain_site)(
            **{name: getattr(plain_site, name) for name in plain_site.__dataclass_fields__} | {"sources": sources}
        )

        def connector(config: Source, _: Settings) -> Connector:
            return Scripted(behaviours[config.source_id])

        return Collector(site, Settings(data=tmp_path / "data"), only=only, land=land, land_every_s=0.05, make=connector)

    return make


def depth(collector: Collector, number: int = 0) -> int:
    spool = collector.subscriptions[number].spool
    return 0 if spool is None else sum(spool.depth().values())


def test_a_source_that_fails_keeps_no_other_from_being_collected(collect: Callable[..., Collector]) -> None:
    def refused(sink: Sink, stop: threading.Event) -> None:
        raise PermanentError("certificate not trusted", code="SPC-281")

    def broken(sink: Sink, stop: threading.Event) -> None:
        raise ZeroDivisionError

    with collect(good=send, refused=refused, broken=broken) as collector:
        until(lambda: depth(collector) == 10)
        until(lambda: collector.subscriptions[1].is_stopped)
        until(lambda: "ZeroDivisionError" in collector.subscriptions[2].health.detail)
        assert "certificate not trusted" in collector.subscriptions[1].health.detail
        assert not collector.is_healthy
        assert not collector.has_ended
        assert collector.subscriptions[0].health.is_connected


def test_a_source_that_goes_away_is_taken_up_where_its_records_are_durable(collect: Callable[..., Collector]) -> None:
    runs = []

    def flaky(sink: Sink, stop: threading.Event) -> None:
        runs.append(sink.state().get("next"))
        if len(runs) == 2:
            raise TransientError("connection refused")
        sink.connected("connected")
        first = int(sink.state().get("next", 0))
        sink.put([Reading("dia", 25.0, T0 + timedelta(seconds=first))], state={"next": str(first + 1)})
        if len(runs) == 1:
            raise TransientError("connection reset")
        stop.wait()

    with collect(line1=flaky) as collector:
        until(lambda: depth(collector) == 2)
        assert runs == [None, "1", "1"]
        assert collector.subscriptions[0].health.connections == 2
        assert collector.is_healthy


def test_collecting_goes_on_while_landing_fails_and_lands_all_when_it_works_again(collect: Callable[..., Collector]) -> None:
    away = threading.Event()
    landed: list[int] = []

    def land(config: Source) -> None:
        if not away.is_set():
            raise LakeError("the lake's disk is away")
        landed.append(depth(collector))

    with collect(land=land, line1=send) as collector:
        until(lambda: depth(collector) == 10)
        lander = collector.lander
        assert lander is not None
        until(lambda: "line1" in lander.last_error)
        assert not collector.is_healthy
        away.set()
        until(lambda: not lander.last_error and bool(landed))
        assert landed[0] == 10
        assert collector.is_healthy


def test_what_was_queued_is_durable_when_the_collector_is_told_to_stop(collect: Callable[..., Collector]) -> None:
    with collect(line1=send) as collector:
        until(lambda: collector.subscriptions[0].health.connections == 1)
    assert Spool(collector.subscriptions[0].settings.spool_root, "line1").totals() == {"measurements": 10}


def test_health_and_metrics_say_what_the_sources_do(collect: Callable[..., Collector]) -> None:
    def ended(sink: Sink, stop: threading.Event) -> None:
        raise SiteError("no such node", code="SPC-461")

    with collect(line1=send, line2=ended) as collector, Endpoint(collector, 0) as endpoint:
        until(lambda: depth(collector) == 10 and collector.subscriptions[1].is_stopped)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{endpoint.port}/health")
        assert refused.value.code == 503
        told = json.load(refused.value)
        assert told["sources"]["line1"]["spool_depth"] == {"measurements": 10}
        assert told["sources"]["line1"]["last_observed_at"] == (T0 + timedelta(seconds=9)).isoformat()
        assert "no such node" in told["sources"]["line2"]["detail"]
        text = urllib.request.urlopen(f"http://127.0.0.1:{endpoint.port}/metrics").read().decode()
        samples = {
            (sample.name, sample.labels["source"]): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
        assert samples["spc_collect_readings_total", "line1"] == 10
        assert samples["spc_collect_spool_depth", "line1"] == 10
        assert samples["spc_collect_connected", "line1"] == 1
        assert samples["spc_source_pending_windows", "line2"] == 0
        assert samples["spc_collect_stopped", "line2"] == 1
        assert samples["spc_collect_last_observed_timestamp_seconds", "line1"] == (T0 + timedelta(seconds=9)).timestamp()
        with pytest.raises(PermanentError, match="is taken"):
            Endpoint(collector, endpoint.port)


def test_a_healthy_collector_answers_200(collect: Callable[..., Collector]) -> None:
    with collect(line1=send) as collector, Endpoint(collector, 0) as endpoint:
        until(lambda: collector.is_healthy)
        assert urllib.request.urlopen(f"http://127.0.0.1:{endpoint.port}/health").status == 200


def test_a_collector_of_nothing_and_of_an_unknown_source_is_refused(
    collect: Callable[..., Collector], plain_site: Site, tmp_path: Path
) -> None:
    with pytest.raises(SiteError, match="no source line9 that is collected"):
        collect(line1=send, only=("line9",))
    with pytest.raises(SiteError, match="nothing to collect"):
        Collector(plain_site, Settings(data=tmp_path))


def test_systemd_is_told_when_the_collector_is_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        tell_supervisor("READY=1")
        assert manager.recv(64) == b"READY=1"

"""A source that is away: one trial at a time, what waits meanwhile, and who is told."""

from __future__ import annotations

import multiprocessing
import sqlite3
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pybreaker
import pytest

from spc_platform.errors import PermanentError, SpcError, TransientError
from spc_platform.lake.landing import Landing, land_source
from spc_platform.lake.ledger import Ledger
from spc_platform.settings import Settings
from spc_platform.site.model import Resource
from spc_platform.site.model import Source as SourceConfig
from spc_platform.sources import open_source
from spc_platform.sources.resilience import STATE_FILE, Deadline, Pace, RetriableError, StateFile, circuit_breaker
from spc_platform.sources.source_state import SourceState, queue_windows, source_states
from spc_platform_tests.unit.lake_plant import plant_site
from spc_platform_tests.unit.rest_server import answer, record, serving
from spc_platform_tests.unit.test_rest import MEASUREMENTS, QUICK, unused_port

SECOND = replace(MEASUREMENTS, name="more")
VIEW = Resource(
    "measurements",
    ("raw_measurement",),
    "arrow",
    path="measurement",
    fields={"record_id": "id", "revision": "rev", "updated_at": "updated_at", "measured_at": "updated_at", "value": "value"},
    options={"watermark": "updated_at", "key": ["id"]},
    zone="UTC",
)


class Plant:
    """A small site with one source, landed into a folder."""

    def __init__(self, folder: Path, config: SourceConfig) -> None:
        self.config, self.folder, self.site = config, folder, plant_site(config)
        self.ledger = Ledger(folder / "ledger.sqlite")
        self.landing = Landing(folder / "landing", self.ledger)

    def land(self) -> int:
        opened = open_source(self.config, Settings(data=self.folder))
        return land_source(opened, self.site, self.landing, self.ledger).records

    def refused(self) -> str:
        with pytest.raises(SpcError) as caught:
            self.land()
        return caught.value.code

    @property
    def state(self) -> SourceState:
        return source_states(StateFile(self.folder / STATE_FILE), [self.config.source_id])[0]


def rest_plant(folder: Path, url: str, *resources: Resource, **limits: Any) -> Plant:
    limits = QUICK | {"retries": 0, "breaker_failures": 2, "breaker_reset_s": 0.3} | limits
    return Plant(folder, SourceConfig("mes", "rest", resources or (MEASUREMENTS, SECOND), base_url=url, limits=limits))


def whole_page(request: Any) -> bytes:
    return answer({"data": [record(1)], "next_cursor": None, "next": None})


def test_windows_wait_while_the_breaker_is_open_and_the_walk_of_the_trial_reads_them(tmp_path: Path) -> None:
    port = unused_port()
    plant = rest_plant(tmp_path, f"http://127.0.0.1:{port}", breaker_reset_s=1.5)
    with serving(whole_page, port=port):
        assert plant.land() == 2
    watermark = plant.ledger.watermark("mes", "measurements")
    assert watermark is not None
    # The first failure leaves the breaker closed: the next poll reads the window anyway, nothing waits.
    assert plant.refused() == "SPC-100"
    assert (plant.state.breaker, plant.state.pending) == ("closed", ())
    assert plant.refused() == "SPC-100"
    assert plant.refused() == "SPC-102"
    state = plant.state
    assert (state.breaker, state.failures, state.transitions) == ("open", 2, {"open": 1})
    assert [(each.resource, each.since, each.polls) for each in state.pending] == [
        ("measurements", watermark, 2),
        ("more", watermark, 2),
    ]
    assert state.opened_at is not None
    assert state.next_trial_at is not None
    assert (state.next_trial_at - state.opened_at).total_seconds() == 1.5
    assert f"measurements waits from {watermark}, 2 polls missed" in state.describe()
    with serving(whole_page, port=port):
        assert plant.refused() == "SPC-102"
        time.sleep(1.5)
        assert plant.land() == 2
    state = plant.state
    assert state.is_reachable
    assert state.transitions == {"open": 1, "half-open": 1, "closed": 1}


def test_a_resource_that_landed_before_the_source_went_away_does_not_wait(tmp_path: Path) -> None:
    with serving(lambda request: whole_page(request) if request.path.endswith("first") else answer({}, 503)) as mes:
        plant = rest_plant(tmp_path, mes.url, replace(MEASUREMENTS, path="/first"), SECOND, breaker_failures=1)
        assert plant.refused() == "SPC-100"
    assert [each.resource for each in plant.state.pending] == ["more"]


def test_a_refusal_queues_nothing(tmp_path: Path) -> None:
    with serving(lambda request: answer({}, 403)) as mes:
        plant = rest_plant(tmp_path, mes.url, breaker_failures=1)
        with pytest.raises(PermanentError):
            plant.land()
    assert plant.state.is_reachable


def test_a_database_that_is_away_has_windows_that_wait_too(tmp_path: Path) -> None:
    folder = tmp_path / "mounted"
    limits = {"retries": 0, "breaker_failures": 1, "breaker_reset_s": 0.2, "connect_s": 1.0}
    config = SourceConfig("db", "sql", (VIEW,), base_url=f"sqlite:///{folder / 'mes.db'}", limits=limits)
    plant = Plant(tmp_path / "data", config)
    for _ in range(2):
        with pytest.raises(TransientError):
            plant.land()
    assert [(each.resource, each.since, each.polls) for each in plant.state.pending] == [("measurements", None, 2)]
    folder.mkdir()
    with sqlite3.connect(folder / "mes.db") as connection:
        connection.execute("CREATE TABLE measurement (id TEXT, rev INTEGER, updated_at TEXT, value REAL)")
        connection.execute("INSERT INTO measurement VALUES ('m1', 1, '2026-03-02 08:00:00', 1.5)")
    time.sleep(0.2)
    assert plant.land() == 1
    assert plant.state.is_reachable


def test_one_caller_makes_the_trial_while_the_others_are_turned_away(tmp_path: Path) -> None:
    file = StateFile(tmp_path / STATE_FILE)

    def breaker() -> pybreaker.CircuitBreaker:
        return circuit_breaker(StateFile(file.path), "mes at x", failures=1, reset_s=0.1, source_id="mes")

    def fail() -> None:
        raise RetriableError("down")

    with pytest.raises(RetriableError):
        breaker().call(fail)
    time.sleep(0.1)
    # From here on a claim holds for a minute, as with the usual reset time.
    file.execute("UPDATE breaker_of_source SET reset_s = 60")
    begun, may_end, tried = threading.Event(), threading.Event(), []

    def trial() -> str:
        tried.append(1)
        begun.set()
        may_end.wait(5)
        return "answer"

    first = breaker()
    first.reset_timeout = 60.0
    file.execute("UPDATE breaker SET opened_at = '2026-01-01T00:00:00+00:00'")
    thread = threading.Thread(target=lambda: first.call(trial))
    thread.start()
    assert begun.wait(5)
    for _ in range(3):
        other = breaker()
        other.reset_timeout = 60.0
        with pytest.raises(pybreaker.CircuitBreakerError, match="under way"):
            other.call(trial)
    may_end.set()
    thread.join()
    assert len(tried) == 1
    assert breaker().call(lambda: 7) == 7
    [state] = source_states(file, ["mes"])
    assert (state.breaker, state.transitions) == ("closed", {"open": 1, "half-open": 1, "closed": 1})


def test_a_trial_whose_process_died_does_not_keep_the_source_away(tmp_path: Path) -> None:
    file = StateFile(tmp_path / STATE_FILE)
    breaker = circuit_breaker(file, "mes", failures=1, reset_s=0.2, source_id="mes")
    file.execute("UPDATE breaker SET state = 'half-open'")
    file.execute("INSERT INTO breaker_trial VALUES ('mes', ?)", time.time())
    with pytest.raises(pybreaker.CircuitBreakerError):
        breaker.call(lambda: 7)
    time.sleep(0.25)
    assert breaker.call(lambda: 7) == 7


def test_the_first_watermark_that_waits_is_kept(tmp_path: Path) -> None:
    file = StateFile(tmp_path / STATE_FILE)
    circuit_breaker(file, "mes", failures=1, reset_s=60.0, source_id="mes")
    file.execute("UPDATE breaker SET state = 'open', opened_at = '2026-03-02T06:00:00+00:00'")
    for _ in range(3):
        queue_windows(file, "mes", {"measurements": "2026-03-02T05:00:00Z", "telemetry": None})
    [state] = source_states(StateFile(file.path), ["mes"])
    assert [(each.resource, each.since, each.polls) for each in state.pending] == [
        ("measurements", "2026-03-02T05:00:00Z", 3),
        ("telemetry", None, 3),
    ]
    assert "since 2026-03-02T06:00:00Z after 0 failures, next trial 2026-03-02T06:01:00Z" in state.describe()
    assert "telemetry waits from the beginning" in state.describe()


# --- the pace of several processes (docs/adr/0017-own-pace.md)


def _slots(path: Path, count: int, per_second: float, begin_at: float, said: Any) -> None:
    pace = Pace(StateFile(path), "mes", per_second)
    time.sleep(max(0.0, begin_at - time.time()))
    taken = []
    for _ in range(count):
        pace.wait(Deadline(30.0))
        taken.append(time.time())
    said.put(taken)


def test_two_processes_share_a_rate_evenly_and_neither_waits_for_the_other_to_finish(tmp_path: Path) -> None:
    context, count, per_second = multiprocessing.get_context("spawn"), 20, 25.0
    StateFile(tmp_path / STATE_FILE)
    said, begin_at = context.Queue(), time.time() + 3.0
    arguments = (tmp_path / STATE_FILE, count, per_second, begin_at, said)
    children = [context.Process(target=_slots, args=arguments) for _ in range(2)]
    for child in children:
        child.start()
    taken = [said.get(timeout=30) for _ in children]
    for child in children:
        child.join()
    slots = sorted(at for each in taken for at in each)
    assert slots[-1] - slots[0] >= (2 * count - 1) / per_second - 0.1
    # Both were served all the time: without a queue, one would be done before the other begins.
    halves = sorted(each[count // 2] - slots[0] for each in taken)
    assert halves[1] < 0.8 * (slots[-1] - slots[0])

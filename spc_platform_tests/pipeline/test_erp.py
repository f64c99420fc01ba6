"""Summaries reach the stub ERP exactly once, whatever fails on either side."""

from __future__ import annotations

import json
import logging
import signal
import sqlite3
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from shutil import copytree

import polars as pl
import pytest
from typer.testing import CliRunner

from spc_platform.cli.main import app
from spc_platform.contracts.production import STATE_INTERVAL
from spc_platform.engine import Workspace
from spc_platform.erp.config import read_erp_config
from spc_platform.erp.delivery import Erp
from spc_platform.erp.orders import deliver_orders, outbox_rows, summaries, unsettled
from spc_platform.errors import LakeError, PermanentError, SiteError, TransientError
from spc_platform.lake.ledger import Ledger, PendingDate
from spc_platform.plant.erp import TOKEN, ErpServer
from spc_platform.settings import REPOSITORY
from spc_platform_tests.pipeline.erp_writer import ORDERS, TOKEN_VARIABLE, documents, outbox, run, settings
from spc_platform_tests.unit.production_site import counts, orders

POINTS = ("outbox:half-entered", "outbox:entered", "outbox:sent", "delivery:answered", "outbox:acknowledged")
NOW = datetime(2026, 3, 10, 6, tzinfo=UTC)
Kill = Callable[[str, Path, str, int], int]


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)


@pytest.fixture
def erp() -> Iterator[ErpServer]:
    with ErpServer() as server:
        yield server


@pytest.fixture(scope="module")
def killed() -> Iterator[Kill]:
    """Deliver in a process of its own that kills itself; gives its exit code. The next process is started ahead."""
    waiting: deque[subprocess.Popen[str]] = deque()

    def run_writer(point: str, root: Path, url: str, figure: int) -> int:
        while len(waiting) < 2:
            command = [sys.executable, "-m", "spc_platform_tests.pipeline.erp_writer"]
            waiting.append(subprocess.Popen(command, stdin=subprocess.PIPE, text=True, env=None))
        process = waiting.popleft()
        process.communicate(json.dumps([point, str(root), url, figure]) + "\n", timeout=120)
        return process.returncode

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(TOKEN_VARIABLE, TOKEN)
        yield run_writer
    for process in waiting:
        process.kill()
        process.communicate()


def at(**after: float) -> Callable[[], datetime]:
    return lambda: NOW + timedelta(**after)


def accepted(erp: ErpServer) -> list[tuple[str, int, int]]:
    return [(each.job_order_id, each.revision, each.document["good"]) for each in erp.books.accepted]


def states(root: Path) -> list[tuple[object, ...]]:
    return outbox(root).status().select("job_order_id", "revision", "state").rows()


def test_summaries_arrive_once_and_unchanged_ones_are_not_sent_again(erp: ErpServer, tmp_path: Path) -> None:
    assert run(tmp_path, erp.url, 5).acknowledged == 3
    assert run(tmp_path, erp.url, 5).acknowledged == 0
    assert erp.books.requests == 3
    assert sorted(accepted(erp)) == [(order, 1, 5) for order in ORDERS]


def test_a_changed_summary_is_a_new_revision(erp: ErpServer, tmp_path: Path) -> None:
    for figure in (5, 6, 5):
        run(tmp_path, erp.url, figure)
    assert [row for row in accepted(erp) if row[0] == "O2"] == [("O2", 1, 5), ("O2", 2, 6), ("O2", 3, 5)]
    assert erp.books.newest()["O2"].document == json.loads(documents(5)["O2"])


@pytest.mark.parametrize("point", POINTS)
def test_a_delivery_killed_anywhere_ends_with_one_copy_of_the_newest_revision(
    killed: Kill, erp: ErpServer, tmp_path: Path, point: str
) -> None:
    run(tmp_path, erp.url, 1)
    assert killed(point, tmp_path, erp.url, 2) == -signal.SIGKILL
    run(tmp_path, erp.url, 2)
    assert sorted(accepted(erp)) == sorted((order, revision, revision) for order in ORDERS for revision in (1, 2))
    assert erp.books.duplicates == (1 if point == "delivery:answered" else 0)
    assert states(tmp_path) == [(order, revision, "acknowledged") for order in ORDERS for revision in (1, 2)]


def test_every_step_of_a_delivery_is_killed_once(erp: ErpServer, tmp_path: Path) -> None:
    steps: list[str] = []
    run(tmp_path, erp.url, 1, steps.append)
    assert set(steps) == set(POINTS)


@pytest.mark.parametrize(
    ("fault", "duplicates"),
    [
        ({"server_error": 2}, 0),
        ({"server_error": {"count": 1, "status": 503}}, 0),
        ({"rate_limit": {"count": 1, "seconds": 0.05}}, 0),
        ({"hang": {"count": 1, "seconds": 0.6}}, 0),
        ({"slow": {"count": 1, "seconds": 0.6}}, 1),
        ({"drop_after_accept": 1}, 1),
        ({"wrong_digest": 2}, 2),
        ({"html_200": 1}, 0),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_passing_fault_costs_attempts_but_neither_loses_nor_doubles_a_summary(
    erp: ErpServer, tmp_path: Path, fault: dict[str, object], duplicates: int
) -> None:
    erp.faults.set(fault)
    assert run(tmp_path, erp.url, 5).acknowledged == 3
    assert erp.faults.pending() == {}
    assert sorted(accepted(erp)) == [(order, 1, 5) for order in ORDERS]
    assert erp.books.duplicates == duplicates


@pytest.mark.parametrize(
    ("fault", "reason"), [("refuse", "the posting period is closed"), ("conflict", "locked by another user")]
)
def test_a_refusal_stops_that_document_with_its_reason_and_no_other(
    erp: ErpServer, tmp_path: Path, fault: str, reason: str
) -> None:
    erp.faults.set({fault: {"count": 1, "resource": "O2"}})
    report = run(tmp_path, erp.url, 5)
    assert (report.acknowledged, report.refused) == (2, 1)
    (row,) = outbox(tmp_path).status().filter(pl.col("state") == "refused").to_dicts()
    assert row["job_order_id"] == "O2"
    assert reason in row["last_error"]
    run(tmp_path, erp.url, 5)
    assert erp.books.requests == 3
    run(tmp_path, erp.url, 6)
    assert [row for row in accepted(erp) if row[0] == "O2"] == [("O2", 2, 6)]


def test_a_refused_summary_is_sent_again_when_it_is_reopened(erp: ErpServer, tmp_path: Path) -> None:
    erp.faults.set({"refuse": 3})
    assert run(tmp_path, erp.url, 5).refused == 3
    assert outbox(tmp_path).reopen(NOW) == 3
    assert run(tmp_path, erp.url, 5).acknowledged == 3


def test_a_later_revision_waits_for_the_earlier_one_of_its_order_only(erp: ErpServer, tmp_path: Path) -> None:
    erp.faults.set({"server_error": {"count": 4, "resource": "O2"}})
    first = run(tmp_path, erp.url, 5, clock=at())
    assert (first.acknowledged, first.postponed) == (2, 1)
    second = run(tmp_path, erp.url, 6, clock=at(seconds=30))
    assert second.acknowledged == 2
    assert not [row for row in accepted(erp) if row[0] == "O2"]
    third = run(tmp_path, erp.url, 6, clock=at(seconds=90))
    assert third.acknowledged == 2
    assert [row for row in accepted(erp) if row[0] == "O2"] == [("O2", 1, 5), ("O2", 2, 6)]


def test_the_wait_between_runs_doubles(erp: ErpServer, tmp_path: Path) -> None:
    erp.faults.set({"server_error": 1000})
    limits = {"breaker_failures": 1000}
    waits, moment = [], NOW
    for _ in range(3):
        run(tmp_path, erp.url, 5, clock=lambda now=moment: now, **limits)
        due = datetime.fromisoformat(outbox(tmp_path).status()["next_attempt_at"][0])
        waits.append((due - moment).total_seconds())
        moment = due
    assert waits == [60.0, 120.0, 240.0]


def test_an_erp_that_is_down_stops_the_run_and_loses_nothing(erp: ErpServer, tmp_path: Path) -> None:
    with pytest.raises(TransientError, match="circuit breaker open after 5 failures"):
        run(tmp_path, "http://127.0.0.1:9/api/v1", 5, breaker_failures=5, breaker_reset_s=600)
    assert {state for _, _, state in states(tmp_path)} == {"pending", "sent"}
    later = lambda: datetime.now(UTC) + timedelta(hours=1)  # noqa: E731
    assert run(tmp_path, erp.url, 5, clock=later).acknowledged == 3


def test_a_run_ends_at_its_total_deadline(erp: ErpServer, tmp_path: Path) -> None:
    erp.faults.set({"hang": {"count": 100, "seconds": 0.5}})
    report = run(tmp_path, erp.url, 5, total_deadline_s=0.3)
    assert (report.acknowledged, report.postponed) == (0, 1)
    assert [state for _, _, state in states(tmp_path)].count("pending") == 2


def test_a_wrong_credential_stops_the_run_and_refuses_no_document(
    erp: ErpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "wrong")
    with pytest.raises(PermanentError, match="SPC-205"):
        run(tmp_path, erp.url, 5)
    assert erp.books.requests == 1
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    assert run(tmp_path, erp.url, 5).acknowledged == 3


def test_no_secret_reaches_a_file_or_a_log(
    erp: ErpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    erp.faults.set({"server_error": 2, "refuse": 1, "expired_credential": {"count": 1, "skip": 1}})
    with pytest.raises(PermanentError):
        run(tmp_path, erp.url, 5)
    run(tmp_path, erp.url, 5)
    assert TOKEN not in caplog.text
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 3
    assert not [path for path in files if TOKEN.encode() in path.read_bytes()]
    chosen = settings(tmp_path, erp.url)
    with Erp(read_erp_config(chosen), chosen) as client:
        assert TOKEN not in repr(client) + repr(client.config)


def test_an_altered_payload_is_not_sent(erp: ErpServer, tmp_path: Path) -> None:
    box = outbox(tmp_path)
    box.enter(documents(5), NOW)
    with sqlite3.connect(box.path) as connection:
        connection.execute("UPDATE outbox SET payload = ? WHERE job_order_id = 'O2'", (b"{}",))
    with pytest.raises(LakeError, match=r"order O2 .*SHA-256"):
        run(tmp_path, erp.url, 5)
    assert "O2" not in erp.books.newest()


def test_a_site_without_an_erp_and_a_wrong_erp_file_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = settings(tmp_path, "http://erp.example/api")
    with pytest.raises(SiteError, match=r"SPC-450.*\n.*plain http to erp\.example; use https"):
        read_erp_config(chosen)
    (chosen.site / "erp.toml").write_text('base_ur = "x"\npath = "all"\n[limits]\nretrys = 1\n')
    with pytest.raises(SiteError) as error:
        read_erp_config(chosen)
    assert 'erp.toml:1: unknown key "base_ur"; did you mean "base_url"?' in str(error.value)
    assert "erp.toml:3: " in str(error.value)
    (chosen.site / "erp.toml").unlink()
    with pytest.raises(SiteError, match=r"SPC-451.*erp\.toml is missing"):
        read_erp_config(chosen)
    assert settings(tmp_path, "http://127.0.0.1:9")
    monkeypatch.delenv(TOKEN_VARIABLE)
    chosen = settings(tmp_path, "http://127.0.0.1:9")
    with pytest.raises(SiteError, match=TOKEN_VARIABLE):
        Erp(read_erp_config(chosen), chosen)


def test_the_verbs_deliver_the_orders_of_a_lake_and_say_what_became_of_them(
    erp: ErpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copytree(REPOSITORY / "data" / "site", tmp_path / "site")
    chosen = settings(tmp_path, erp.url)
    workspace = Workspace.open(chosen)
    monkeypatch.setenv("SPC_SITE", str(chosen.site))
    monkeypatch.setenv("SPC_DATA", str(chosen.data))
    monkeypatch.setenv("SPC_SOURCE_URL", json.dumps(chosen.source_url))
    made = orders(("O1", "P1", NOW, NOW + timedelta(hours=2)), ("O2", "P1", NOW + timedelta(hours=2)), line="line_a")
    workspace.lake.commit("work_order", made, NOW.date())
    erp.faults.set({"refuse": {"count": 1, "resource": "O2"}})

    assert list(summaries(workspace, 31, ended=True)) == ["O1"]
    first = CliRunner().invoke(app, ["erp", "deliver"])
    assert (first.exit_code, first.stdout) == (1, "2 summaries entered, 0 reopened, 1 acknowledged, 1 refused, 0 put off\n")
    asked = CliRunner().invoke(app, ["erp", "status"])
    assert asked.exit_code == 1
    assert "O2 revision 1 refused, 1 attempts: status 422" in asked.stdout
    again = CliRunner().invoke(app, ["erp", "deliver", "--refused"])
    assert (again.exit_code, again.stdout) == (0, "0 summaries entered, 1 reopened, 1 acknowledged, 0 refused, 0 put off\n")
    told = json.loads(CliRunner().invoke(app, ["erp", "status", "--json"]).stdout)["outbox"]
    assert [(row["job_order_id"], row["state"]) for row in told] == [("O1", "acknowledged"), ("O2", "acknowledged")]
    assert erp.books.newest()["O1"].document["status"] == "ended"


@pytest.fixture
def plant(erp: ErpServer, tmp_path: Path) -> Workspace:
    """Order O1, which ended within a production date whose tables are made, and O2, which ended on the next date."""
    copytree(REPOSITORY / "data" / "site", tmp_path / "site")
    workspace = Workspace.open(settings(tmp_path, erp.url))
    first, second = (DAY_START, DAY_START + timedelta(hours=2)), (DAY_START + timedelta(hours=18), DAY_END + timedelta(hours=2))
    workspace.lake.commit("work_order", orders(("O1", "P1", *first), ("O2", "P1", *second), line="line_a"), DAY)
    workspace.lake.commit("state_interval", STATE_INTERVAL.empty(), DAY)
    workspace.lake.commit("production_count", made(5), DAY)
    return workspace


DAY = date(2026, 3, 24)
DAY_START, DAY_END = datetime(2026, 3, 24, 5, tzinfo=UTC), datetime(2026, 3, 25, 5, tzinfo=UTC)


def made(good: int) -> pl.DataFrame:
    """Parts of O1, counted where they were made; their product has no route."""
    return counts(("P9", DAY_START + timedelta(hours=1), good, 0, 0)).with_columns(job_order_id=pl.lit("O1"))


def known_until(monkeypatch: pytest.MonkeyPatch, at: datetime) -> None:
    monkeypatch.setattr(Ledger, "newest", lambda self, source_id=None: at)


def test_an_ended_order_waits_until_its_production_dates_are_complete(
    erp: ErpServer, plant: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert plant.day_bounds(DAY) == (DAY_START, DAY_END)
    known_until(monkeypatch, DAY_END - timedelta(microseconds=1))
    early = deliver_orders(plant, ended=True)
    assert (early.entered, early.held, erp.books.accepted) == (0, 2, [])
    known_until(monkeypatch, DAY_END)
    done = deliver_orders(plant, ended=True)
    assert (done.entered, done.held, list(erp.books.newest())) == (1, 1, ["O1"])
    known_until(monkeypatch, DAY_END + timedelta(days=1))
    assert deliver_orders(plant, ended=True).held == 1, "the tables of the date on which O2 ended are not made"
    plant.lake.commit("state_interval", STATE_INTERVAL.empty(), DAY + timedelta(days=1))
    assert (deliver_orders(plant, ended=True).held, sorted(erp.books.newest())) == (0, ["O1", "O2"])


def test_an_order_with_a_change_that_is_not_yet_applied_waits(plant: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    assert unsettled(plant, ["O1"]) == set()
    changed = [PendingDate(DAY, "digest", 1, 1)]
    monkeypatch.setattr(Ledger, "pending", lambda self: changed)
    assert unsettled(plant, ["O1", "O2"]) == {"O1", "O2"}


def test_an_order_that_ends_as_its_production_date_ends_does_not_wait_for_the_next_one(plant: Workspace) -> None:
    until_border = orders(
        ("O3", "P1", DAY_START, DAY_END), ("O4", "P1", DAY_START, DAY_END + timedelta(seconds=1)), line="line_a"
    )
    plant.lake.commit("work_order", until_border, DAY)
    assert unsettled(plant, ["O3", "O4"]) == {"O4"}


def test_a_site_may_release_orders_as_soon_as_they_end(
    erp: ErpServer, plant: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml = plant.settings.site / "erp.toml"
    toml.write_text(f'release = "ended"\n{toml.read_text()}')
    known_until(monkeypatch, DAY_START)
    assert (deliver_orders(plant, ended=True).held, sorted(erp.books.newest())) == (0, ["O1", "O2"])
    toml.write_text(toml.read_text().replace('"ended"', '"soon"'))
    with pytest.raises(SiteError, match=r"erp\.toml:1: release is 'soon'; write one of complete, ended"):
        deliver_orders(plant, ended=True)


def test_a_late_count_after_the_acknowledgement_is_the_next_revision_and_the_outbox_shows_both(
    erp: ErpServer, plant: Workspace
) -> None:
    deliver_orders(plant, ended=True)
    plant.lake.commit("production_count", made(7), DAY)
    assert deliver_orders(plant, ended=True).entered == 1
    assert deliver_orders(plant, ended=True).entered == 0
    told = [(each.revision, each.document["quantities"]["good"]) for each in erp.books.accepted if each.job_order_id == "O1"]
    assert told == [(1, 5), (2, 7)]
    rows = outbox_rows(plant.settings).filter(pl.col("job_order_id") == "O1")
    assert rows.select("revision", "state", "is_newest", "attempts").rows() == [
        (1, "acknowledged", False, 1),
        (2, "acknowledged", True, 1),
    ]
    assert rows["payload_sha256"].to_list() == [each.payload_sha256 for each in erp.books.accepted if each.job_order_id == "O1"]
    assert rows["settled_at"].null_count() == 0


def test_a_site_that_never_delivered_has_an_empty_outbox(tmp_path: Path) -> None:
    assert outbox_rows(settings(tmp_path, "http://127.0.0.1:9")).height == 0
    assert not (tmp_path / "data").exists()

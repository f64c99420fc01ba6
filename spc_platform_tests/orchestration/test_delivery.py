"""What Dagster does with an ERP: the asset after the publication, its checks, and the hourly second try."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import copytree

import dagster as dg
import pytest

from spc_platform.build import build_defs
from spc_platform.contracts.production import STATE_INTERVAL
from spc_platform.engine import Workspace
from spc_platform.erp.orders import outbox_path
from spc_platform.erp.outbox import Outbox
from spc_platform.orchestration.jobs import DELIVERY_JOB
from spc_platform.orchestration.resources import WorkspaceResource
from spc_platform.plant.erp import TOKEN, TOKEN_VARIABLE, ErpServer
from spc_platform.settings import Settings
from spc_platform_tests.orchestration.scripted_mes import SITE
from spc_platform_tests.unit.production_site import orders

NOW = datetime(2026, 3, 24, 6, tzinfo=UTC)


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)


@pytest.fixture
def erp() -> Iterator[ErpServer]:
    with ErpServer() as server:
        yield server


def ended(settings: Settings) -> Settings:
    """Two orders that ended and one that runs, in the lake of these settings."""
    first = ("WO-1", "P1", NOW, NOW + timedelta(hours=2))
    second = ("WO-2", "P1", NOW + timedelta(hours=2), NOW + timedelta(hours=4))
    running = ("WO-3", "P1", NOW + timedelta(hours=4))
    lake = Workspace.open(settings).lake
    lake.commit("work_order", orders(first, second, running, line="line_a"), NOW.date())
    lake.commit("state_interval", STATE_INTERVAL.empty(), NOW.date())
    return settings


def plant(data: Path, url: str) -> Settings:
    return Settings(site=SITE, data=data, source_url={"mes": "http://127.0.0.1:9", "erp": url})


def deliver(settings: Settings) -> dg.ExecuteInProcessResult:
    return build_defs(settings).resolve_job_def(DELIVERY_JOB).execute_in_process(raise_on_error=False)


def verdicts(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    assert {each.severity for each in result.get_asset_check_evaluations()} == {dg.AssetCheckSeverity.WARN}
    return {each.check_name: each.passed for each in result.get_asset_check_evaluations()}


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, object]:
    (made,) = result.asset_materializations_for_node("erp_delivery")
    return {name: value.value for name, value in made.metadata.items()}


def test_ended_orders_are_delivered_once_and_running_ones_wait(erp: ErpServer, tmp_path: Path) -> None:
    settings = ended(plant(tmp_path, erp.url))
    first = deliver(settings)
    assert verdicts(first) == {"nothing_refused": True, "nothing_waits": True}
    assert {key: metadata(first)[key] for key in ("entered", "acknowledged", "orders_acknowledged")} == {
        "entered": 2,
        "acknowledged": 2,
        "orders_acknowledged": 2,
    }
    assert metadata(deliver(settings))["entered"] == 0
    assert sorted(erp.books.newest()) == ["WO-1", "WO-2"]
    assert erp.books.requests == 2


def test_a_refusal_fails_a_check_until_it_is_mended_and_no_run(erp: ErpServer, tmp_path: Path) -> None:
    settings = ended(plant(tmp_path, erp.url))
    erp.faults.set({"refuse": {"count": 1, "resource": "WO-2"}})
    for _ in range(2):
        result = deliver(settings)
        assert result.success
        assert verdicts(result) == {"nothing_refused": False, "nothing_waits": True}
    (failed,) = [each for each in result.get_asset_check_evaluations() if not each.passed]
    assert "WO-2 revision 1: status 422" in str(failed.description)
    Outbox(outbox_path(settings)).reopen(datetime.now(UTC))
    assert verdicts(deliver(settings)) == {"nothing_refused": True, "nothing_waits": True}


def test_an_erp_that_is_away_fails_a_check_and_is_owed_the_summaries(erp: ErpServer, tmp_path: Path) -> None:
    away = deliver(ended(plant(tmp_path, "http://127.0.0.1:9/api/v1")))
    assert away.success
    assert verdicts(away) == {"nothing_refused": True, "nothing_waits": False}
    assert set(Outbox(outbox_path(plant(tmp_path, ""))).status()["state"]) <= {"pending", "sent"}


def test_a_wrong_credential_fails_the_step(erp: ErpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "wrong")
    assert not deliver(ended(plant(tmp_path, erp.url))).success
    assert erp.books.accepted == []


def test_the_hourly_schedule_asks_for_a_run_only_while_something_is_due(erp: ErpServer, tmp_path: Path) -> None:
    settings = plant(tmp_path, erp.url)
    schedule = build_defs(settings).get_repository_def().get_schedule_def(DELIVERY_JOB)

    def tick() -> int:
        resources = {"workspace": WorkspaceResource.of(settings)}
        with dg.build_schedule_context(resources=resources, scheduled_execution_time=NOW) as context:
            return len(schedule.evaluate_tick(context).run_requests or [])

    assert tick() == 0
    box = Outbox(outbox_path(settings))
    box.enter({"WO-9": json.dumps({"job_order_id": "WO-9"}).encode()}, NOW)
    assert tick() == 1
    entry = box.next_due(NOW)
    assert entry is not None
    box.postpone(entry, "later", datetime.now(UTC) + timedelta(hours=1))
    assert tick() == 0


def test_a_site_without_an_erp_has_no_delivery(tmp_path: Path) -> None:
    copytree(SITE, tmp_path / "site")
    (tmp_path / "site" / "erp.toml").unlink()
    defs = build_defs(Settings(site=tmp_path / "site", data=tmp_path / "data"))
    assert dg.AssetKey("erp_delivery") not in defs.resolve_asset_graph().get_all_asset_keys()
    assert not [each for each in defs.get_repository_def().schedule_defs if each.name == DELIVERY_JOB]


def test_the_delivery_follows_the_publication(tmp_path: Path) -> None:
    node = build_defs(plant(tmp_path, "")).resolve_asset_graph().get(dg.AssetKey("erp_delivery"))
    assert node.parent_keys == {dg.AssetKey("serving_publication")}

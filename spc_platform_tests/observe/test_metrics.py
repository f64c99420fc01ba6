"""Metrics: what walks of any process did, what waits, and nothing that is secret."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import urllib.request
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from spc_platform.build import build_defs
from spc_platform.cli.main import app
from spc_platform.collect.readings import Record
from spc_platform.collect.spool import Spool, spool_depths
from spc_platform.contracts.reconciliation import RECONCILIATION
from spc_platform.engine import Workspace, run_range
from spc_platform.errors import PermanentError, TransientError
from spc_platform.lake.clock_log import ClockLog
from spc_platform.observe.metrics import SourceMetrics, exposition, refresh_textfile, write_textfile
from spc_platform.orchestration.resources import WorkspaceResource
from spc_platform.plant import Plant, PlantServer
from spc_platform.prepare.clock import ClockExchange
from spc_platform.settings import Settings
from spc_platform.sources.figures import all_figures
from spc_platform.sources.resilience import STATE_FILE, StateFile, circuit_breaker
from spc_platform.sources.source_state import queue_windows
from spc_platform_tests.orchestration.scripted_mes import SITE, land, measurement, workspace
from spc_platform_tests.orchestration.test_sensors import MADE, MONDAY, at
from spc_platform_tests.unit.rest_server import answer, record, serving
from spc_platform_tests.unit.test_rest import MEASUREMENTS
from spc_platform_tests.unit.test_source_state import Plant as SmallPlant
from spc_platform_tests.unit.test_source_state import rest_plant

Samples = dict[tuple[str, tuple[str, ...]], float]


def samples(text: str) -> Samples:
    """Value by name and label values, in the order of the label names."""
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of_sources(plant: SmallPlant) -> Samples:
    from prometheus_client import generate_latest

    registry = CollectorRegistry()
    registry.register(SourceMetrics(plant.site, Settings(data=plant.folder)))
    return samples(generate_latest(registry).decode())


MES = ("measurements", "mes")


def test_a_walk_counts_its_requests_retries_pages_records_and_bytes(tmp_path: Path) -> None:
    pages = {
        "0": answer({"data": [record(1), record(2)], "next_cursor": "1", "next": None}),
        "1": answer({"data": [record(3)], "next_cursor": None, "next": None}),
    }
    faults = [answer({}, 503)]
    with serving(lambda request: faults.pop() if faults else pages[request.query.get("cursor", "0")]) as mes:
        plant = rest_plant(tmp_path, mes.url, MEASUREMENTS, retries=2, breaker_failures=9)
        plant.land()
        seen = of_sources(plant)
        sent = len(mes.data_requests)
    assert sent == 3
    expected = {"requests": 3, "retries": 1, "pages": 2, "records": 3, "new_records": 3, "walks": 1, "walk_failures": 0}
    assert {name: seen[f"spc_source_{name}_total", MES] for name in expected} == expected
    assert seen["spc_source_bytes_total", MES] == sum(len(each.split(b"\r\n\r\n", 1)[1]) for each in pages.values())
    assert seen["spc_source_request_duration_seconds_count", MES] == 3
    assert seen["spc_source_request_duration_seconds_bucket", ("60.0", *MES)] == 3
    assert 0 < seen["spc_source_request_duration_seconds_sum", MES] < 3
    assert seen["spc_source_last_walk_success", MES] == 1
    newest = datetime(2026, 11, 2, 6, 0, 3, tzinfo=UTC).timestamp()
    assert seen["spc_source_newest_record_timestamp_seconds", MES] == newest
    assert seen["spc_source_lateness_seconds", MES] == pytest.approx(datetime.now(UTC).timestamp() - newest, abs=60)


def test_a_slow_answer_lies_in_its_class_of_time(tmp_path: Path) -> None:
    page = answer({"data": [record(1)], "next_cursor": None, "next": None})
    with serving(lambda request: [0.3, page]) as mes:
        plant = rest_plant(tmp_path, mes.url, MEASUREMENTS)
        plant.land()
    seen = of_sources(plant)
    assert seen["spc_source_request_duration_seconds_bucket", ("0.25", *MES)] == 0
    assert seen["spc_source_request_duration_seconds_bucket", ("2.5", *MES)] == 1


def _walks(folder: Path, url: str, n: int) -> None:
    plant = rest_plant(folder, url, MEASUREMENTS)
    for _ in range(n):
        plant.land()


def test_counters_of_processes_that_ended_are_kept_and_added_up(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with serving(lambda request: answer({"data": [record(1)], "next_cursor": None, "next": None})) as mes:
        children = [context.Process(target=_walks, args=(tmp_path, mes.url, 3)) for _ in range(2)]
        for child in children:
            child.start()
        for child in children:
            child.join()
        plant = rest_plant(tmp_path, mes.url, MEASUREMENTS)
    seen = of_sources(plant)
    assert seen["spc_source_walks_total", MES] == 6
    assert seen["spc_source_pages_total", MES] == 6
    assert seen["spc_source_new_records_total", MES] == 1


def test_a_walk_is_added_by_one_statement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    execute = StateFile.execute

    def counted(file: StateFile, statement: str, *values: Any) -> Any:
        written.append(statement)
        return execute(file, statement, *values)

    monkeypatch.setattr(StateFile, "execute", counted)
    pages = {str(number): {"data": [record(number)], "next_cursor": str(number + 1), "next": None} for number in range(20)}
    pages["19"]["next_cursor"] = None
    with serving(lambda request: answer(pages[request.query.get("cursor", "0")])) as mes:
        rest_plant(tmp_path, mes.url, MEASUREMENTS).land()
    assert sum("walk_figures" in statement for statement in written) == 1


def test_a_source_that_is_away_is_a_failure_an_open_breaker_and_windows_that_wait(tmp_path: Path) -> None:
    with serving(lambda request: answer({}, 503)) as mes:
        plant = rest_plant(tmp_path, mes.url, MEASUREMENTS, breaker_failures=1, breaker_reset_s=60.0)
        for _ in range(3):
            with pytest.raises(TransientError):
                plant.land()
    seen = of_sources(plant)
    assert seen["spc_source_walk_failures_total", MES] == 3
    assert seen["spc_source_requests_total", MES] == 1, "an open breaker sends nothing"
    assert seen["spc_source_last_walk_success", MES] == 0
    assert ("spc_source_last_success_timestamp_seconds", MES) not in seen
    assert [seen["spc_source_breaker_state", ("mes", name)] for name in ("closed", "half-open", "open")] == [0, 0, 1]
    assert seen["spc_source_breaker_transitions_total", ("mes", "open")] == 1
    assert (seen["spc_source_pending_windows", ("mes",)], seen["spc_source_polls_missed", ("mes",)]) == (1, 3)
    assert seen["spc_source_pending_since_timestamp_seconds", ("mes",)] == pytest.approx(datetime.now(UTC).timestamp(), abs=60)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Four records made into tables, one of them rejected, and one more that is pending."""
    plant = workspace(tmp_path_factory.mktemp("plant"))
    good = [measurement(f"m{number}", at(MONDAY, 8)) for number in range(3)]
    land(plant, [*good, measurement("bad", at(MONDAY, 9), value=float("nan"), unit="furlong")])
    now = datetime.now(UTC)
    ClockLog(plant.settings.data).record([ClockExchange("mes", "http_date", now, now, now, now, 1.0)])
    run_range(plant, plant.production_dates(), steps=MADE)
    land(plant, [measurement("m9", at(MONDAY, 10))])
    return plant


def test_what_waits_what_was_rejected_and_how_far_clocks_are_is_read_from_the_lake(made: Workspace) -> None:
    seen = samples(exposition(made))
    assert seen["spc_pending_production_dates", ()] == 1
    assert seen["spc_rejected_rows", ("measurement",)] == 1
    assert seen["spc_rejected_share", ("measurement",)] == 0.25
    assert abs(seen["spc_clock_offset_seconds", ("mes", "http_date")]) <= 0.5
    assert seen["spc_clock_offset_uncertainty_seconds", ("mes", "http_date")] == pytest.approx(0.5, abs=0.01)


def test_differences_between_source_and_lake_are_counted_where_they_still_stand(made: Workspace) -> None:
    assert not [name for name, _ in samples(exposition(made)) if name == "spc_reconciliation_differences"]
    row = {
        "source_id": "mes", "resource": "measurements", "raw_table": "raw_measurement", "production_date": MONDAY,
        "reconciled_at": datetime(2026, 3, 26, tzinfo=UTC), "method": "window", "n_source": 5, "n_lake": 3,
        "checksum_source": "a", "checksum_lake": "b", "n_missing": 2, "n_extra": 0, "n_different": 1, "record_ids": "+m8",
        "is_deletion_applied": False, "verdict": "differs",
    }  # fmt: skip
    settled = row | {"production_date": date(2026, 3, 24), "verdict": "pending", "n_missing": 40}
    made.lake.commit("reconciliation", RECONCILIATION.conform(pl.DataFrame([row, settled], schema=RECONCILIATION.schema)))
    seen = samples(exposition(made))
    kinds = ("missing", "extra", "different")
    found = [seen["spc_reconciliation_differences", (kind, "mes", "raw_measurement")] for kind in kinds]
    assert found == [2, 0, 1]
    assert seen["spc_reconciliation_timestamp_seconds", ("mes",)] == datetime(2026, 3, 26, tzinfo=UTC).timestamp()


def test_the_textfile_is_replaced_at_once_and_a_folder_that_cannot_be_written_is_said(made: Workspace, tmp_path: Path) -> None:
    target = tmp_path / "node" / "spc.prom"
    write_textfile(made, target)
    assert samples(target.read_text())["spc_pending_production_dates", ()] == 1
    assert [path.name for path in target.parent.iterdir()] == ["spc.prom"], "no temporary file stays"
    (tmp_path / "file").write_text("")
    with pytest.raises(PermanentError, match="SPC-294"):
        write_textfile(made, tmp_path / "file" / "spc.prom")


def test_a_textfile_that_cannot_be_written_never_fails_a_landing(
    made: Workspace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    settings = made.settings.model_copy(update={"metrics_textfile": tmp_path / "file" / "spc.prom"})
    refresh_textfile(Workspace(settings, made.site, made.ledger, made.landing, made.lake, made.verdicts))
    assert "metrics were not written" in caplog.text


def test_land_writes_the_textfile_also_when_the_source_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "spc.prom"
    monkeypatch.setenv("SPC_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("SPC_SITE", str(SITE))
    monkeypatch.setenv("SPC_METRICS_TEXTFILE", str(target))
    with PlantServer(plant=Plant(), now=at(MONDAY, 8)) as server:
        monkeypatch.setenv("SPC_SOURCE_URL", f'{{"mes": "{server.url}"}}')
        assert CliRunner().invoke(app, ["land"]).exit_code == 0
    seen = samples(target.read_text())
    assert seen["spc_source_walks_total", MES] == 1
    assert CliRunner().invoke(app, ["land"]).exit_code != 0
    assert samples(target.read_text())["spc_source_walk_failures_total", MES] == 1
    printed = CliRunner().invoke(app, ["metrics"])
    assert printed.exit_code == 0
    assert samples(printed.stdout)["spc_source_walks_total", MES] == 2


def test_a_spool_is_counted_without_being_touched(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "line")
    spool.append([Record("measurements", {"record_id": str(number)}) for number in range(7)])
    spool.close()
    assert spool_depths(tmp_path) == {"line": {"measurements": 7}}
    assert spool_depths(tmp_path / "none") == {}


def test_figures_of_a_resource_that_left_the_site_are_not_shown(tmp_path: Path) -> None:
    with serving(lambda request: answer({"data": [record(1)], "next_cursor": None, "next": None})) as mes:
        plant = rest_plant(tmp_path, mes.url, MEASUREMENTS)
        plant.land()
        StateFile(tmp_path / STATE_FILE).execute("UPDATE walk_figures SET resource = 'gone'")
    assert ("mes", "gone") in all_figures(StateFile(tmp_path / STATE_FILE))
    assert not [labels for name, labels in of_sources(plant) if "gone" in labels]


def test_metrics_are_served_until_the_command_is_told_to_stop(tmp_path: Path) -> None:
    environment = os.environ | {"SPC_DATA": str(tmp_path), "SPC_SITE": str(SITE)}
    command = [sys.executable, "-c", "from spc_platform.cli.main import main; main()", "metrics", "--port", "0"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        url = next(line for line in server.stderr if "metrics on" in line).split()[-1]
        with urllib.request.urlopen(url, timeout=10) as served:
            seen = samples(served.read().decode())
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0
    assert seen["spc_source_breaker_state", ("mes", "closed")] == 1


def test_a_sensor_keeps_the_textfile_fresh_where_one_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPC_METRICS_TEXTFILE", str(tmp_path / "spc.prom"))
    settings = Settings(site=SITE, data=tmp_path)
    sensor = build_defs(settings).resolve_sensor_def("metrics_textfile")
    with dg.build_sensor_context(resources={"workspace": WorkspaceResource.of(settings)}) as context:
        answer = sensor.evaluate_tick(context)
    assert not answer.run_requests
    assert samples((tmp_path / "spc.prom").read_text())["spc_source_breaker_state", ("mes", "closed")] == 1


def test_status_tells_the_breaker_its_next_trial_and_what_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPC_DATA", str(tmp_path))
    monkeypatch.setenv("SPC_SITE", str(SITE))
    monkeypatch.setenv("COLUMNS", "500")
    plant = Workspace.open(Settings())
    assert "breaker" not in CliRunner().invoke(app, ["status"]).stdout
    circuit_breaker(plant.state, "mes at x", failures=2, reset_s=60.0, source_id="mes")
    plant.state.execute("UPDATE breaker SET state = 'open', failures = 2, opened_at = '2026-03-02T06:00:00+00:00'")
    queue_windows(plant.state, "mes", {"measurements": "2026-03-02T05:00:00Z"})
    said = " ".join(CliRunner().invoke(app, ["status"]).stdout.split())
    assert "source mes: breaker open since 2026-03-02T06:00:00Z after 2 failures, next trial 2026-03-02T06:01:00Z" in said
    assert "measurements waits from 2026-03-02T05:00:00Z, 1 poll missed" in said

"""The nightly reconciliation as Dagster runs it, against the embedded plant's MES."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import polars as pl

from spc_platform.build import build_defs
from spc_platform.engine import Workspace
from spc_platform.engine.run import run_step
from spc_platform.engine.steps import step
from spc_platform.lake.landing import land_source
from spc_platform.plant import Plant, PlantServer
from spc_platform.settings import Settings
from spc_platform.sources import open_source
from spc_platform_tests.orchestration.scripted_mes import SITE

MONDAY = date(2026, 3, 23)


def check_of(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    [evaluation] = result.get_asset_check_evaluations()
    return evaluation


def test_the_nightly_job_compares_every_table_and_its_check_names_what_the_lake_lost(tmp_path: Path) -> None:
    with PlantServer(plant=Plant(), now=datetime(2026, 3, 23, 14, tzinfo=ZoneInfo("Europe/Berlin"))) as server:
        settings = Settings(site=SITE, data=tmp_path / "data", source_url={"mes": server.url})
        plant = Workspace.open(settings)
        land_source(open_source(plant.site.source("mes"), settings), plant.site, plant.landing, plant.ledger)
        for change in plant.pending():
            list(run_step(plant, step("raw"), [change.production_date]))
            plant.ledger.mark_applied(change.production_date, change.digest)
        defs = build_defs(settings)
        job = defs.resolve_job_def("nightly_reconciliation")
        with dg.DagsterInstance.ephemeral() as instance:
            whole = job.execute_in_process(instance=instance)
            rows = plant.lake.read("reconciliation")
            assert check_of(whole).passed, check_of(whole).description
            assert set(rows["verdict"]) == {"equal"}
            assert rows["n_source"].sum() == rows["n_lake"].sum() > 1000

            kept = plant.lake.read("raw_measurement", MONDAY)
            lost = kept.filter("is_current")["record_id"].sort()[0]
            plant.lake.commit("raw_measurement", kept.filter(pl.col("record_id") != lost), MONDAY)
            altered = job.execute_in_process(instance=instance)
            assert not check_of(altered).passed
            assert f"1 missing, 0 extra, 0 different: +{lost}" in (check_of(altered).description or "")


def test_it_runs_every_night_on_the_sites_clock() -> None:
    schedule = build_defs(Settings(site=SITE)).resolve_schedule_def("nightly_reconciliation")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("30 2 * * *", "Europe/Berlin")
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING

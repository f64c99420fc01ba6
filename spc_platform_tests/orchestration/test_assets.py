"""Runs of the real graph on two production dates: what Dagster then shows, and what a failed check holds back."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from spc_platform.build import build_defs
from spc_platform.contracts import LAKE_TABLES
from spc_platform.engine import STEPS, Workspace
from spc_platform.engine.steps.common import CORE, RAW
from spc_platform.lake.landing import land_source
from spc_platform.orchestration.jobs import REFRESH_STEPS
from spc_platform.orchestration.partitions import range_tags
from spc_platform.plant import Plant, PlantServer
from spc_platform.settings import Settings
from spc_platform.sources import open_source
from spc_platform_tests.orchestration.scripted_mes import SITE, land, measurement, workspace

MONDAY, TUESDAY = date(2026, 3, 23), date(2026, 3, 24)
DATES = (MONDAY, TUESDAY)
BERLIN = ZoneInfo("Europe/Berlin")
REFRESHED = [name for step in STEPS if step.name in REFRESH_STEPS for name in step.outputs]
DATED = [name for name in REFRESHED if LAKE_TABLES[name].partitioned]
FIGURES = [name for step in STEPS if step.name not in REFRESH_STEPS for name in step.outputs]
DATA_VERSION = "dagster/data_version"


@dataclass
class Orchestrated:
    """A workspace and the Dagster instance that runs its graph."""

    workspace: Workspace
    instance: dg.DagsterInstance
    defs: dg.Definitions

    def run(self, job: str, first: date, last: date, assets: list[str] | None = None) -> dg.ExecuteInProcessResult:
        return self.defs.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            tags=range_tags(first, last),
            asset_selection=None if assets is None else [dg.AssetKey(name) for name in assets],
            run_config={"loggers": {"console": {"config": {"log_level": "ERROR"}}}},
            raise_on_error=False,
        )

    def last(self, asset: str, partition: date | None = None) -> dg.AssetMaterialization:
        found = self.instance.fetch_materializations(
            dg.AssetRecordsFilter(
                asset_key=dg.AssetKey(asset), asset_partitions=None if partition is None else [partition.isoformat()]
            ),
            limit=1,
        )
        materialization = found.records[0].asset_materialization
        assert materialization is not None
        return materialization

    def version(self, asset: str) -> str:
        return (self.last(asset).tags or {})[DATA_VERSION]


def orchestrated(data: Path, home: Path) -> Iterator[Orchestrated]:
    defs = build_defs(Settings(site=SITE, data=data))
    home.mkdir()
    with dg.DagsterInstance.local_temp(str(home)) as instance:
        yield Orchestrated(workspace(data), instance, defs)


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Orchestrated, dg.ExecuteInProcessResult, dg.ExecuteInProcessResult]]:
    """Two production dates, landed over HTTP, refreshed in one run, then their figures in another."""
    folder = tmp_path_factory.mktemp("orchestrated")
    with PlantServer(plant=Plant(), now=datetime(2026, 3, 24, 14, tzinfo=BERLIN)) as server:
        opened = Workspace.open(Settings(site=SITE, data=folder / "data", source_url={"mes": server.url}))
        land_source(open_source(opened.site.source("mes"), opened.settings), opened.site, opened.landing, opened.ledger)
    for plant in orchestrated(folder / "data", folder / "home"):
        refreshed = plant.run("refresh_production_dates", MONDAY, TUESDAY)
        figures = plant.run("everything", MONDAY, TUESDAY, FIGURES)
        yield plant, refreshed, figures


Made = tuple[Orchestrated, dg.ExecuteInProcessResult, dg.ExecuteInProcessResult]


def test_a_range_of_dates_is_one_run_and_makes_every_table(made: Made) -> None:
    plant, refreshed, figures = made
    assert refreshed.success
    assert figures.success
    assert len(plant.instance.get_runs()) == 2
    for name in REFRESHED + FIGURES:
        assert plant.last(name), name
    for name in DATED:
        assert plant.workspace.lake.dates(name) == list(DATES), name


def test_each_partition_has_its_own_row_count_and_the_run_their_sum(made: Made) -> None:
    plant, _, _ = made
    for name in ("raw_measurement", "measurement", "telemetry", "state_interval"):
        rows = {day: plant.workspace.lake.read(name, day).height for day in DATES}
        assert rows[MONDAY] != rows[TUESDAY]
        assert plant.last(name).metadata["dagster/row_count"].value == sum(rows.values())
        found = {day: plant.last(name, day).metadata["dagster/partition_row_count"].value for day in DATES}
        assert found == rows, name


def test_figures_are_numbers_that_plot(made: Made) -> None:
    plant, _, _ = made
    wanted = {
        "measurement": {"rows_rejected", "rejected_share"},
        "measurement_flags": {"masked", "masked_share"},
        "telemetry_aligned": {"observed_share"},
        "state_interval": {"unknown_share"},
        "spc_limits": {"charts", "versions"},
        "spc_points": {"points_with_signal", "signal_share"},
        "spc_capability": {"lowest_cpk", "below_1_33", "unstable"},
        "oee_elements": {"apt_share_of_pbt", "produced"},
    }
    for name, figures in wanted.items():
        metadata = plant.last(name).metadata
        for figure in figures | {"dagster/row_count", "size_bytes", "partitions_changed"}:
            assert isinstance(metadata[figure], (dg.IntMetadataValue, dg.FloatMetadataValue)), (name, figure)
    for day in DATES:
        rejected = plant.workspace.lake.read("measurement_rejected", day).height
        rows = plant.workspace.lake.read("measurement", day).height
        metadata = plant.last("measurement", day).metadata
        assert metadata["rows_rejected"].value == rejected > 0
        assert metadata["rejected_share"].value == pytest.approx(rejected / (rows + rejected), rel=1e-12)


def test_every_check_of_the_steps_was_recorded_and_passed(made: Made) -> None:
    plant, refreshed, figures = made
    recorded = {
        (each.asset_key.to_user_string(), each.check_name): each.passed
        for result in (refreshed, figures)
        for each in result.get_asset_check_evaluations()
    }
    expected = {
        (table, name)
        for step in STEPS
        for table in step.outputs
        for name in ("contract", *(check.name for check in step.checks.get(table, ())))
    }
    expected |= {(table, "great_expectations") for table in CORE}
    assert expected <= set(recorded)
    warned = {(table, "rejected_share") for table in CORE if any(refused_share(plant, table, day) > 0.05 for day in DATES)}
    assert warned == {("material_link", "rejected_share")}, "the impossible links of Tuesday came in its first eight hours"
    assert {key for key, passed in recorded.items() if not passed} == warned


def refused_share(plant: Orchestrated, table: str, day: date) -> float:
    accepted, rejected = (plant.workspace.lake.read(name, day).height for name in (table, f"{table}_rejected"))
    return rejected / max(accepted + rejected, 1)


def test_the_control_chart_is_a_small_svg(made: Made) -> None:
    plant, _, _ = made
    picture = plant.last("spc_points").metadata["control_chart"]
    assert isinstance(picture, dg.MarkdownMetadataValue)
    found = re.fullmatch(r"!\[control chart\]\(data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)", picture.md_str or "")
    assert found is not None
    assert len(picture.md_str or "") < 60_100
    svg = base64.b64decode(found[1]).decode()
    assert svg.lstrip().startswith("<svg")
    assert svg.rstrip().endswith("</svg>")
    charted = str(plant.last("spc_points").metadata["charted"].value)
    assert re.match(r"[AB]\d0\.\w+ on [AB]\d0: \d+ of \d+ points signal", charted)


def test_made_again_from_the_same_pages_the_data_version_is_the_same(made: Made) -> None:
    plant, _, _ = made
    names = ["raw_measurement", "measurement", "measurement_flags", "raw_telemetry"]
    before = {name: plant.version(name) for name in names}
    assert len(set(before.values())) == len(names)
    result = plant.run(
        "everything", MONDAY, TUESDAY, [*RAW, "shift_calendar", "measurement", "measurement_rejected", "measurement_flags"]
    )
    assert result.success
    assert {name: plant.version(name) for name in names} == before
    assert plant.last("measurement").metadata["partitions_changed"].value == 0


# --- on a small plant: one chart, a page of records

RECORDS = [
    measurement(f"m{number:03}", datetime(2026, 3, 23, 8, tzinfo=BERLIN) + timedelta(minutes=number)) for number in range(40)
]
RECORDS += [
    measurement(f"n{number:03}", datetime(2026, 3, 24, 8, tzinfo=BERLIN) + timedelta(minutes=number)) for number in range(40)
]
MEASURED = ["raw_measurement", "shift_calendar", "measurement", "measurement_rejected", "measurement_flags", "spc_subgroups"]
MEASURED += [name for name in RAW if name != "raw_measurement"]
# Subgroups hold the energy per good part, too.
MEASURED += ["energy_interval", "energy_by_state", "energy_per_part"]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Orchestrated]:
    land(workspace(tmp_path / "data"), RECORDS)
    yield from orchestrated(tmp_path / "data", tmp_path / "home")


def test_a_late_record_changes_the_version_of_its_date_and_of_no_other(small: Orchestrated) -> None:
    assert small.run("everything", MONDAY, TUESDAY, MEASURED).success
    before = {day: small.last("measurement", day).metadata["sha256"].value for day in DATES}
    version = small.version("measurement")
    land(small.workspace, [measurement("late", datetime(2026, 3, 23, 23, tzinfo=BERLIN))])
    assert small.run("everything", MONDAY, TUESDAY, MEASURED).success
    after = {day: small.last("measurement", day).metadata["sha256"].value for day in DATES}
    assert after[MONDAY] != before[MONDAY]
    assert after[TUESDAY] == before[TUESDAY]
    assert small.version("measurement") != version
    assert small.last("measurement").metadata["partitions_changed"].value == 1


def asked(plant: Orchestrated, cursor: Any = None) -> tuple[set[str], Any]:
    result = dg.evaluate_automation_conditions(plant.defs, plant.instance, cursor=cursor)
    keys = [node.key for node in plant.defs.resolve_asset_graph().asset_nodes if node.automation_condition is not None]
    return {key.to_user_string() for key in keys if result.get_num_requested(key)}, result.cursor


def lose_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """The quarantine silently loses one accepted row of Monday: the conservation check has to see it."""
    from spc_platform.engine.steps import landed

    accept = landed.accept

    def losing(table: str, raw: Any, *rest: Any) -> Any:
        accepted, rejected = accept(table, raw, *rest)
        is_monday = raw.height and raw["production_date"][0] == MONDAY
        return (accepted.head(-1) if table == "measurement" and is_monday else accepted), rejected

    monkeypatch.setattr(landed, "accept", losing)


def test_a_failed_blocking_check_holds_back_what_follows_until_the_date_is_mended(
    small: Orchestrated, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert small.run("everything", MONDAY, TUESDAY, MEASURED).success
    _, cursor = asked(small)
    land(small.workspace, [measurement("late", datetime(2026, 3, 23, 23, tzinfo=BERLIN))])

    with monkeypatch.context() as patch:
        lose_a_row(patch)
        broken = small.run("everything", MONDAY, MONDAY, MEASURED)
    assert not broken.success
    failed = [each for each in broken.get_asset_check_evaluations() if not each.passed]
    assert [(each.asset_key.to_user_string(), each.check_name) for each in failed] == [("measurement", "conservation")]
    assert "41 current raw rows, 40 accepted" in str(failed[0].description)
    done = {event.step_key for event in broken.all_events if event.is_step_success}
    assert "spc_subgroups" not in done, "nothing after the check was made in its run"
    assert "measurement_flags" not in done
    requested, cursor = asked(small, cursor)
    assert "spc_subgroups" not in requested, "nor by condition"

    other_date = small.run("everything", TUESDAY, TUESDAY, MEASURED)
    again = [each for each in other_date.get_asset_check_evaluations() if each.check_name == "conservation"]
    assert [each.passed for each in again] == [False], "Monday is still broken, and Tuesday's pass does not hide it"
    assert "2026-03-23" in str(again[0].description)

    mended = small.run("everything", MONDAY, MONDAY, [name for name in MEASURED if name != "spc_subgroups"])
    assert mended.success
    assert small.workspace.verdicts.failed() == []
    requested, cursor = asked(small, cursor)
    assert "spc_subgroups" in requested
    requested, _ = asked(small, cursor)
    assert "spc_subgroups" not in requested, "once"


def test_an_altered_file_fails_the_integrity_check_and_names_it(small: Orchestrated) -> None:
    assert small.run("everything", MONDAY, TUESDAY, MEASURED).success
    manifest = small.workspace.lake.manifest("measurement", MONDAY)
    assert manifest is not None
    path = next(small.workspace.settings.lake_root.rglob(manifest.file))
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    (check,) = [each for each in small.defs.asset_checks or () if "files_unaltered" in {spec.name for spec in each.check_specs}]
    job: Any = dg.define_asset_job("integrity", selection=dg.AssetSelection.checks(check))
    alone = dg.Definitions(asset_checks=[check], jobs=[job], resources=small.defs.resources, executor=dg.in_process_executor)
    result = alone.resolve_job_def("integrity").execute_in_process(instance=small.instance, raise_on_error=False)
    (verdict,) = result.get_asset_check_evaluations()
    assert not verdict.passed
    assert manifest.file in str(verdict.description) or "2026-03-23" in str(verdict.description)


def test_the_version_of_the_mathematics_is_dagsters_code_version(small: Orchestrated) -> None:
    graph = small.defs.resolve_asset_graph()
    for step in STEPS:
        for name in step.outputs:
            assert graph.get(dg.AssetKey(name)).code_version == step.version


def test_the_event_log_stays_small(made: Made) -> None:
    """Two runs over two dates: no frames, no pages, one picture a run in the event log."""
    plant, _, _ = made
    size = sum(path.stat().st_size for path in Path(plant.instance.root_directory).rglob("*.db"))
    assert size < 40_000_000

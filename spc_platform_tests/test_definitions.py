"""The code location loads, and its asset graph is the one that was reviewed."""

import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from spc_platform.build import build_defs
from spc_platform.contracts import LAKE_TABLES
from spc_platform.settings import REPOSITORY

SNAPSHOT = Path(__file__).parent / "asset_graph.json"


@pytest.fixture(scope="module")
def defs() -> dg.Definitions:
    return build_defs()


@pytest.fixture(scope="module")
def graph(defs: dg.Definitions) -> dict[str, object]:
    assets = defs.resolve_asset_graph()
    nodes = {
        node.key.to_user_string(): {
            "group": node.group_name,
            "deps": sorted(key.to_user_string() for key in node.parent_keys),
            "partitioned": node.is_partitioned,
            "kinds": sorted(node.kinds),
            "follows": node.automation_condition.get_label() if node.automation_condition else None,
        }
        for node in assets.asset_nodes
    }
    checks = sorted(f"{key.asset_key.to_user_string()}.{key.name}" for key in assets.asset_check_keys)
    repository = defs.get_repository_def()
    return {
        "assets": nodes,
        "checks": checks,
        "jobs": sorted(job.name for job in repository.get_all_jobs() if not job.name.startswith("__")),
        "sensors": sorted(sensor.name for sensor in repository.sensor_defs),
        "schedules": sorted(schedule.name for schedule in repository.schedule_defs),
    }


def test_the_asset_graph_is_the_reviewed_one(graph: dict[str, object]) -> None:
    """A rename or a lost edge is seen in review; `make snapshot` accepts the present graph."""
    if os.environ.get("SPC_UPDATE_SNAPSHOT"):
        SNAPSHOT.write_text(json.dumps(graph, indent=1, sort_keys=True) + "\n")
    assert graph == json.loads(SNAPSHOT.read_text())


def test_every_lake_table_is_an_asset_with_units_and_a_description(defs: dg.Definitions) -> None:
    assets = defs.resolve_asset_graph()
    for name, table in LAKE_TABLES.items():
        node = assets.get(dg.AssetKey(name))
        schema = node.metadata["dagster/column_schema"]
        assert node.description == table.description
        assert node.owners
        assert [column.name for column in schema.columns] == table.names
        assert {column.name: column.tags.get("unit", "") for column in schema.columns} == {
            column.name: column.unit for column in table.columns
        }


def test_column_lineage_names_columns_that_exist(defs: dg.Definitions) -> None:
    for node in defs.resolve_asset_graph().asset_nodes:
        lineage = node.metadata.get("dagster/column_lineage")
        if lineage is None or node.key.to_user_string() not in LAKE_TABLES:
            continue
        for column, deps in lineage.deps_by_column.items():
            assert column in LAKE_TABLES[node.key.to_user_string()].names
            for dep in deps:
                assert dep.column_name in LAKE_TABLES[dep.asset_key.to_user_string()].names


def test_states_are_led_back_to_what_signals_said(defs: dg.Definitions) -> None:
    assets = defs.resolve_asset_graph()

    def origins(table: str, column: str) -> set[str]:
        deps = assets.get(dg.AssetKey(table)).metadata["dagster/column_lineage"].deps_by_column[column]
        return {f"{dep.asset_key.to_user_string()}.{dep.column_name}" for dep in deps}

    for table in ("state_interval", "downtime_event"):
        assert {"equipment_state.state", "signal_event.signal", "signal_event.value"} <= origins(table, "state")
        assert {"equipment_state.start_at", "signal_event.occurred_at"} <= origins(table, "start_at")
    assert origins("signal_event", "value") == {"raw_signal_event.value"}
    assert "raw_signal_event.signal" in origins("signal_event_rejected", "reasons")


def test_partitions_are_the_sites_production_dates(defs: dg.Definitions) -> None:
    partitions = defs.resolve_asset_graph().get(dg.AssetKey("measurement")).partitions_def
    keys = partitions.get_partition_keys()
    assert keys[0] == "2026-03-23"
    assert keys[-1] == "2026-04-19"
    assert len(keys) == (date(2026, 4, 19) - date(2026, 3, 23)).days + 1


def test_a_backfill_of_a_range_is_one_run(defs: dg.Definitions) -> None:
    for node in defs.resolve_asset_graph().asset_nodes:
        if node.is_partitioned:
            assert node.backfill_policy == dg.BackfillPolicy.single_run()


def test_the_workspace_file_loads_the_code_location() -> None:
    command = [
        str(Path(sys.executable).with_name("dagster")),
        "definitions",
        "validate",
        "-w",
        str(REPOSITORY / "workspace.yaml"),
    ]
    result = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False, timeout=180)
    assert result.returncode == 0, result.stderr[-2000:]

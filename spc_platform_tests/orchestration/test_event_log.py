"""The pooled event log stores what Dagster's own stores, and keeps a bounded number of files open."""

from collections import Counter
from pathlib import Path

import dagster as dg
import pytest
import yaml

from spc_platform.orchestration.event_log import OPEN_SHARDS, PooledSqliteEventLogStorage

DAYS = dg.DailyPartitionsDefinition(start_date="2026-03-23", end_date="2026-03-27")


@dg.asset(
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    check_specs=[dg.AssetCheckSpec("holds", asset="table")],
)
def table(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    for key in context.partition_keys:
        context.add_asset_metadata({"day": int(key[-2:])}, partition_key=key)
    return dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=True)])


def home(folder: Path, *, pooled: bool) -> str:
    folder.mkdir()
    config: dict[str, object] = {"telemetry": {"enabled": False}}
    if pooled:
        config["event_log_storage"] = {
            "module": "spc_platform.orchestration.event_log",
            "class": "PooledSqliteEventLogStorage",
            "config": {"base_dir": str(folder / "history" / "runs")},
        }
    (folder / "dagster.yaml").write_text(yaml.safe_dump(config))
    return str(folder)


def run(instance: dg.DagsterInstance) -> str:
    tags = {"dagster/asset_partition_range_start": "2026-03-23", "dagster/asset_partition_range_end": "2026-03-25"}
    result = dg.materialize([table], instance=instance, tags=tags)
    assert result.success
    return result.run_id


def stored(folder: str) -> tuple[Counter[str], dict[str, object], bool]:
    with dg.DagsterInstance.from_config(folder) as instance:
        run_id = run(instance)
        events = Counter(
            entry.dagster_event.event_type_value for entry in instance.all_logs(run_id) if entry.dagster_event is not None
        )
        records = instance.fetch_materializations(dg.AssetKey("table"), limit=10).records
        days = {record.partition_key: record.asset_materialization.metadata["day"].value for record in records}
        check = instance.event_log_storage.get_latest_asset_check_execution_by_key([table.check_keys.__iter__().__next__()])
        return events, days, bool(check)


def test_it_stores_the_same_events_partitions_and_checks(tmp_path: Path) -> None:
    own, pooled = stored(home(tmp_path / "own", pooled=False)), stored(home(tmp_path / "pooled", pooled=True))
    assert own == pooled
    assert pooled[1] == {"2026-03-23": 23, "2026-03-24": 24, "2026-03-25": 25}


def test_another_process_reads_what_was_stored(tmp_path: Path) -> None:
    folder = home(tmp_path / "pooled", pooled=True)
    with dg.DagsterInstance.from_config(folder) as writer:
        run_id = run(writer)
        with dg.DagsterInstance.from_config(folder) as reader:
            assert reader.get_run_stats(run_id).materializations == 3


def test_open_files_stay_bounded_over_many_runs(tmp_path: Path) -> None:
    with dg.DagsterInstance.from_config(home(tmp_path / "pooled", pooled=True)) as instance:
        runs = [run(instance) for _ in range(OPEN_SHARDS + 2)]
        storage = instance.event_log_storage
        assert isinstance(storage, PooledSqliteEventLogStorage)
        assert len(storage._engines) == OPEN_SHARDS
        assert instance.get_run_stats(runs[0]).materializations == 3, "a closed shard is opened again"
        instance.delete_run(runs[0])
        assert instance.get_run_by_id(runs[0]) is None
        assert not list(instance.all_logs(runs[0]))


@pytest.mark.parametrize("name", ["_connect", "_db_lock", "_initdb", "_initialized_dbs", "conn_string_for_shard"])
def test_the_base_class_still_has_what_is_relied_on(tmp_path: Path, name: str) -> None:
    with dg.DagsterInstance.from_config(home(tmp_path / "pooled", pooled=True)) as instance:
        assert hasattr(instance.event_log_storage, name)

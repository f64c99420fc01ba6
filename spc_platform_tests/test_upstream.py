"""Facts of upstream packages that the code relies on. When one of these fails, an upgrade changed the ground."""

from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import duckdb
import pandera.polars as pa
import polars as pl
import pytest


def test_duckdb_results_come_through_relations_not_execute(tmp_path: Path) -> None:
    connection = duckdb.connect(str(tmp_path / "x.duckdb"))
    assert connection.sql("SELECT 1 AS a").pl().item() == 1
    assert not hasattr(connection.execute("SELECT 1"), "arrow")


def test_duckdb_writes_files_for_old_clients_when_asked(tmp_path: Path) -> None:
    """The storage version stands in the header: 64 is what DuckDB 1.2 opens."""
    versions = {}
    for name, option in (("old", "(STORAGE_VERSION 'v1.2.0')"), ("new", "")):
        path = tmp_path / f"{name}.duckdb"
        with duckdb.connect() as connection:
            connection.execute(f"ATTACH '{path}' AS x {option}")
            connection.execute("CREATE TABLE x.t AS SELECT 1 AS a")
        versions[name] = int.from_bytes(path.read_bytes()[12:20], "little")
    assert versions["old"] < versions["new"]


def test_a_second_process_cannot_be_replaced_by_a_second_mode(tmp_path: Path) -> None:
    """One process, one file, two modes: refused. Hence readers open published copies only."""
    path = str(tmp_path / "x.duckdb")
    with duckdb.connect(path), pytest.raises(duckdb.ConnectionException):
        duckdb.connect(path, read_only=True)


def test_pandera_checks_only_the_schema_of_a_lazy_frame() -> None:
    schema = pa.DataFrameSchema({"value": pa.Column(pl.Float64, pa.Check.ge(0))})
    frame = pl.DataFrame({"value": [-1.0]})
    schema.validate(frame.lazy()).collect()
    with pytest.raises(pa.errors.SchemaError):
        schema.validate(frame)


def test_dagster_does_not_resolve_postponed_annotations_of_an_asset_context() -> None:
    """Why modules that define assets do without `from __future__ import annotations`."""

    def asset(context: "dg.AssetExecutionContext") -> None: ...

    with pytest.raises(dg.DagsterInvalidDefinitionError, match="Cannot annotate `context`"):
        dg.asset(asset)


def test_a_ranged_run_mixes_partitioned_and_unpartitioned_assets_and_reports_each_partition() -> None:
    days = dg.DailyPartitionsDefinition(start_date="2026-03-23", end_date="2026-04-06")

    @dg.asset
    def landed() -> None: ...

    @dg.asset(partitions_def=days, backfill_policy=dg.BackfillPolicy.single_run(), deps=[landed])
    def table(context: dg.AssetExecutionContext) -> None:
        for key in context.partition_keys:
            context.add_asset_metadata({"rows": int(key[-2:])}, partition_key=key)

    tags = {"dagster/asset_partition_range_start": "2026-03-23", "dagster/asset_partition_range_end": "2026-03-25"}
    with dg.DagsterInstance.ephemeral() as instance:
        assert dg.materialize([landed, table], instance=instance, tags=tags).success
        records = instance.fetch_materializations(dg.AssetKey("table"), limit=10).records
    rows = {record.partition_key: record.asset_materialization.metadata["rows"].value for record in records}
    assert rows == {"2026-03-23": 23, "2026-03-24": 24, "2026-03-25": 25}


def test_a_production_day_starts_at_the_sites_hour_and_loses_an_hour_on_the_dst_day() -> None:
    days = dg.DailyPartitionsDefinition(start_date="2026-03-23", end_date="2026-04-06", timezone="Europe/Berlin", hour_offset=6)
    window = days.time_window_for_partition_key("2026-03-28")
    assert window.start == datetime(2026, 3, 28, 5, tzinfo=UTC)
    assert (window.end.astimezone(UTC) - window.start.astimezone(UTC)).total_seconds() == 23 * 3600
    assert days.get_partition_keys()[-1] == "2026-04-04", "the end date is midnight, before the day's start hour"


def test_dagster_dbt_still_has_what_the_lean_resource_leaves_out() -> None:
    from dagster_dbt import DbtCliResource

    assert "_cli_version" in vars(DbtCliResource)
    assert callable(DbtCliResource._initialize_dbt_core_adapter)


def test_secrets_stay_out_of_a_resource_that_does_not_hold_them() -> None:
    from spc_platform.orchestration.resources import WorkspaceResource

    assert set(WorkspaceResource.model_fields) == {"site", "data", "shared_data", "source_url", "source_root"}

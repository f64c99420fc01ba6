"""Marts: one `dbt build` over the lake into a fresh file, then its publication as a serving version."""

import os
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from shutil import rmtree
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, DbtCliResource, dbt_assets
from dagster_duckdb import DuckDBResource

from spc_platform.contracts import LAKE_TABLES
from spc_platform.lake.marts import drop_lake, register_lake
from spc_platform.orchestration.assets.tables import FRESHNESS
from spc_platform.orchestration.automation import follows_quiet_upstream
from spc_platform.orchestration.resources import WorkspaceResource
from spc_platform.settings import Settings
from spc_platform.site import Site


LONGEST_BI_SESSION_S = 3600.0
"""A version younger than this may still be open in a client, and is kept whatever their number."""


def dbt_resource(settings: Settings) -> DbtCliResource:
    """The dbt of this environment, on PATH or not."""
    beside = Path(sys.executable).with_name("dbt")
    executable = str(beside) if beside.exists() else "dbt"
    return DbtCliResource(project_dir=str(settings.dbt), profiles_dir=str(settings.dbt), dbt_executable=executable)


class _MartsTranslator(DagsterDbtTranslator):  # type: ignore[misc]
    """Names and rules of the dbt models in our graph: mart keys, group, owner, condition and freshness."""

    def __init__(self, site: Site) -> None:
        super().__init__(DagsterDbtTranslatorSettings(enable_duplicate_source_asset_keys=True))
        self.site = site

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str:
        return "marts"

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        if dbt_resource_props["resource_type"] == "model":
            return dg.AssetKey(["marts", dbt_resource_props["name"]])
        return super().get_asset_key(dbt_resource_props)

    def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> list[str]:
        return [self.site.owner]

    def get_automation_condition(self, dbt_resource_props: Mapping[str, Any]) -> dg.AutomationCondition[Any]:
        return follows_quiet_upstream()


def marts_assets(settings: Settings, site: Site) -> list[Any]:
    """The dbt models as assets, the publication of the file that they build, and its check."""

    @dbt_assets(
        manifest=settings.dbt / "target" / "manifest.json",
        name="marts",
        dagster_dbt_translator=_MartsTranslator(site),
        pool="serving",
    )
    def marts(context: dg.AssetExecutionContext, workspace: WorkspaceResource, dbt: DbtCliResource) -> Iterator[Any]:
        if context.is_subset:
            raise dg.Failure(
                "The marts are built and published as one file: materialize all of the group marts.", allow_retries=False
            )
        plant = workspace.open()
        version = _version(context.run.run_id)
        database = plant.serving.build_path(version)
        files = {name: plant.lake.paths(name) for name in LAKE_TABLES}
        register_lake(database, files, plant.site.tables)
        os.environ.update(SPC_DBT_DATABASE=str(database), SPC_PUBLISHED_VERSION=version, SPC_RUN_ID=context.run.run_id)
        target = plant.settings.data / "dbt" / version
        yield from dbt.cli(["build"], context=context, target_path=target).stream()
        drop_lake(database)
        rmtree(target)

    folder = dg.AssetSpec(
        "site",
        description="The site folder: equipment, calendar, characteristics, specifications. Edited by people, read by every step.",
        group_name="landing",
        owners=[site.owner],
        kinds={"toml", "csv"},
        metadata={"folder": dg.MetadataValue.path(str(site.folder)), "site_id": site.site_id},
    )
    return [folder, marts, _publication(site, [spec.key for spec in marts.specs])]


def _version(run_id: str) -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{run_id[:8]}"


def _publication(site: Site, marts: list[dg.AssetKey]) -> dg.AssetsDefinition:
    @dg.asset(
        name="serving_publication",
        deps=marts,
        group_name="marts",
        owners=[site.owner],
        kinds={"duckdb"},
        description="The newest marts as an immutable version: read-only DuckDB file, Parquet export and manifest; "
        "the link `current` is repointed atomically, so readers never meet a lock or a half-written file.",
        automation_condition=follows_quiet_upstream(),
        freshness_policy=FRESHNESS,
        check_specs=[
            dg.AssetCheckSpec(
                "readable",
                asset="serving_publication",
                description="The published file opens read-only and holds the rows that its manifest states.",
            )
        ],
        pool="serving",
    )
    def serving_publication(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
        plant = workspace.open()
        built = plant.serving.built()
        if not built:
            raise dg.Failure("No marts are built that are not published: materialize the group marts.", allow_retries=False)
        version = built[-1]
        publication = plant.serving.publish(version, {"run_id": context.run.run_id, "site": plant.site.site_id})
        plant.serving.prune(keep=plant.settings.keep_versions, min_age_s=LONGEST_BI_SESSION_S)
        counted = _row_counts(publication.database)
        return dg.MaterializeResult(
            metadata={
                "version": version,
                "path": dg.MetadataValue.path(str(publication.database)),
                "dagster/row_count": sum(counted.values()),
                "marts": len(counted),
            },
            check_results=[
                dg.AssetCheckResult(
                    check_name="readable",
                    passed=counted == publication.rows,
                    description=f"{len(counted)} marts, {sum(counted.values())} rows",
                )
            ],
        )

    return serving_publication


def _row_counts(database: Any) -> dict[str, int]:
    """Rows of every mart, read as a BI client would: read-only."""
    resource = DuckDBResource(database=str(database), connection_config={"access_mode": "READ_ONLY"})
    with resource.get_connection() as connection:
        names = connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'marts' ORDER BY 1"
        ).fetchall()
        return {name: connection.execute(f'SELECT count(*) FROM marts."{name}"').fetchone()[0] for (name,) in names}

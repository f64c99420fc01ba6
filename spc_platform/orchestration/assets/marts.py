"""Marts: one `dbt build` over the lake into a fresh file, and its publication as a serving version.

One asset definition that is made as a whole: readers are given one file, and a file of which only some
tables are new would mix two states of the plant.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version as package_version
from pathlib import Path
from shutil import rmtree
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, DbtCliResource, dbt_assets
from dagster_duckdb import DuckDBResource
from packaging.version import Version

from spc_platform.contracts import LAKE_TABLES
from spc_platform.contracts.order_summary import ERP_OUTBOX
from spc_platform.engine import Workspace
from spc_platform.erp.orders import outbox_rows
from spc_platform.lake.marts import drop_lake, register_lake
from spc_platform.orchestration.assets.delivery import delivery_assets
from spc_platform.orchestration.assets.tables import FRESHNESS
from spc_platform.orchestration.automation import follows_quiet_upstream
from spc_platform.orchestration.resources import WorkspaceResource
from spc_platform.settings import Settings
from spc_platform.site import Site

LONGEST_BI_SESSION_S = 3600.0
"""A version younger than this may still be open in a client, and is kept whatever their number."""

_READABLE = dg.AssetCheckSpec(
    "readable",
    asset="serving_publication",
    description="The published file opens read-only and holds the rows that its manifest states.",
)


class LeanDbtCliResource(DbtCliResource):
    """dbt without what Dagster does around it that we never use: 4 s of 13 s of a build.

    The adapter in Dagster's own process serves row counts and column metadata, which the publication reads from the
    file itself; the version, otherwise asked of a dbt process, is that of the installed package.
    """

    @cached_property
    def _cli_version(self) -> Version:
        return Version(package_version("dbt-core"))

    def _initialize_dbt_core_adapter(self, args: Sequence[str]) -> Any:
        return None


def dbt_resource(settings: Settings) -> DbtCliResource:
    """The dbt of this environment, on PATH or not."""
    beside = Path(sys.executable).with_name("dbt")
    executable = str(beside) if beside.exists() else "dbt"
    return LeanDbtCliResource(project_dir=str(settings.dbt), profiles_dir=str(settings.dbt), dbt_executable=executable)


class _MartsTranslator(DagsterDbtTranslator):
    """Names of the dbt models in our graph: mart keys, group and owner."""

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


def marts_assets(settings: Settings, site: Site) -> list[Any]:
    """The site folder as the marts see it, the dbt models, the publication of the file that they build, and what follows it."""

    @dbt_assets(manifest=settings.dbt / "target" / "manifest.json", dagster_dbt_translator=_MartsTranslator(site))
    def models() -> Iterator[Any]:
        """Only its specifications are used: as it stands it could be materialized in parts."""
        yield

    model_specs = list(models.specs)
    publication = _publication_spec(site, model_specs)

    @dg.multi_asset(
        name="marts",
        specs=[*model_specs, publication],
        check_specs=[*models.check_specs, _READABLE],
        pool="serving",
    )
    def marts(context: dg.AssetExecutionContext, workspace: WorkspaceResource, dbt: DbtCliResource) -> Iterator[Any]:
        plant = workspace.open()
        version = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{context.run.run_id[:8]}"
        database = plant.serving.build_path(version)
        files = {name: plant.lake.paths(name) for name in LAKE_TABLES}
        register_lake(database, files, plant.site.tables, outbox_rows(plant.settings))
        os.environ.update(SPC_DBT_DATABASE=str(database), SPC_PUBLISHED_VERSION=version, SPC_RUN_ID=context.run.run_id)
        target = plant.settings.data / "dbt" / version
        try:
            yield from dbt.cli(["build"], context=context, target_path=target).stream()
        finally:
            rmtree(target, ignore_errors=True)
        drop_lake(database)
        yield _publish(plant, version, context.run.run_id)

    return [_folder_spec(site), _outbox_spec(site), marts, *delivery_assets(site)]


def _folder_spec(site: Site) -> dg.AssetSpec:
    return dg.AssetSpec(
        "site",
        description="The site folder: equipment, calendar, characteristics, specifications. "
        "Edited by people, read by every step.",
        group_name="landing",
        owners=[site.owner],
        kinds={"toml", "csv"},
        metadata={"folder": dg.MetadataValue.path(str(site.folder)), "site_id": site.site_id},
    )


def _outbox_spec(site: Site) -> dg.AssetSpec:
    return dg.AssetSpec(
        "erp_outbox",
        description=f"{ERP_OUTBOX.description} The marts show it as it was when they were built: what is delivered "
        "after a publication is in the next one.",
        group_name="delivery",
        owners=[site.owner],
        kinds={"sqlite"},
    )


def _publication_spec(site: Site, models: list[dg.AssetSpec]) -> dg.AssetSpec:
    """The publication follows every lake table that any model reads, and waits until all of them are quiet."""
    read = sorted({dep.asset_key for spec in models for dep in spec.deps if dep.asset_key.to_user_string() in LAKE_TABLES})
    return dg.AssetSpec(
        "serving_publication",
        deps=[*(spec.key for spec in models), *read],
        group_name="marts",
        owners=[site.owner],
        kinds={"duckdb"},
        description="The newest marts as an immutable version: read-only DuckDB file, Parquet export and manifest; "
        "the link `current` is repointed atomically, so readers never meet a lock or a half-written file.",
        automation_condition=follows_quiet_upstream(ignoring=dg.AssetSelection.groups("marts")),
        freshness_policy=FRESHNESS,
    )


def _publish(plant: Workspace, version: str, run_id: str) -> dg.MaterializeResult:  # type: ignore[type-arg]
    published = plant.serving.publish(version, {"run_id": run_id, "site": plant.site.site_id})
    plant.serving.prune(keep=plant.settings.keep_versions, min_age_s=LONGEST_BI_SESSION_S)
    counted = _read_as_a_client(published.database)
    rows = sum(counted.values())
    return dg.MaterializeResult(
        asset_key="serving_publication",
        metadata={
            "version": version,
            "path": dg.MetadataValue.path(str(published.database)),
            "dagster/row_count": rows,
            "marts": len(counted),
        },
        check_results=[
            dg.AssetCheckResult(
                asset_key="serving_publication",
                check_name="readable",
                passed=counted == published.rows,
                description=f"{len(counted)} marts, {rows} rows",
            )
        ],
    )


def _read_as_a_client(database: Path) -> dict[str, int]:
    """Rows of every mart, read as a BI client would: read-only."""
    resource = DuckDBResource(database=str(database), connection_config={"access_mode": "READ_ONLY"})
    with resource.get_connection() as connection:
        names = connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'marts' ORDER BY 1"
        ).fetchall()
        return {name: connection.execute(f'SELECT count(*) FROM marts."{name}"').fetchone()[0] for (name,) in names}

"""Reconciliation: every night, what each source holds of past production dates against what the lake holds of them."""

from datetime import UTC, datetime

import dagster as dg
import polars as pl

from spc_platform.contracts.reconciliation import RECONCILIATION
from spc_platform.engine.reconcile import dates_to_reconcile, reconcile
from spc_platform.errors import SpcError, TransientError
from spc_platform.orchestration.metadata import column_schema
from spc_platform.orchestration.resources import WorkspaceResource
from spc_platform.site import Site
from spc_platform.site.model import COLLECTED

TABLE = RECONCILIATION.name
JOB = "nightly_reconciliation"
_EQUAL = dg.AssetCheckSpec(
    "lake_equals_sources",
    asset=TABLE,
    blocking=False,
    description="Every production date that was compared holds the same records at the source and in the lake.",
)


def reconciliation_asset(site: Site) -> dg.AssetsDefinition:
    """The newest comparison of every source, table and production date."""
    compared = [source for source in site.sources if source.kind not in COLLECTED]
    tables = sorted({table for source in compared for resource in source.resources for table in resource.tables})

    @dg.asset(
        name=TABLE,
        deps=[*(f"landed_{source.source_id}" for source in compared), *tables],
        group_name="landing",
        owners=[site.owner],
        kinds={"polars", "parquet"},
        check_specs=[_EQUAL],
        description=RECONCILIATION.description,
        metadata={"dagster/column_schema": column_schema(RECONCILIATION), "natural_key": ", ".join(RECONCILIATION.key)},
        retry_policy=dg.RetryPolicy(max_retries=2, delay=60),
    )
    def reconciliation(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
        plant = workspace.open()
        now = datetime.now(UTC)
        dates = dates_to_reconcile(plant, now, plant.site.policies.reconcile_days)
        try:
            rows = reconcile(plant, dates, now)
        except SpcError as error:
            raise dg.Failure(str(error), allow_retries=isinstance(error, TransientError)) from error
        return dg.MaterializeResult(
            metadata={
                "production_dates": len(dates),
                "records": int(rows["n_source"].sum()),
                "dagster/row_count": plant.lake.read(TABLE).height,
            },
            check_results=[_verdict(plant.lake.read(TABLE))],
        )

    return reconciliation


def _verdict(rows: pl.DataFrame) -> dg.AssetCheckResult:
    """Fails while the newest comparison of any date differs, and names the first records."""
    differing = rows.filter(pl.col("verdict") == "differs").sort("production_date", descending=True)
    named = [describe(row) for row in differing.head(5).iter_rows(named=True)]
    return dg.AssetCheckResult(
        asset_key=TABLE,
        check_name="lake_equals_sources",
        passed=not named,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(named) or "Every date that was compared holds the same records.",
        metadata={
            "differing": differing.height,
            "missing": int(differing["n_missing"].sum()),
            "extra": int(differing["n_extra"].sum()),
            "different": int(differing["n_different"].sum()),
        },
    )


def describe(row: dict[str, object]) -> str:
    """One comparison in a sentence."""
    return (
        f"{row['source_id']} {row['raw_table']} {row['production_date']}: {row['n_source']} at the source, {row['n_lake']} in "
        f"the lake; {row['n_missing']} missing, {row['n_extra']} extra, {row['n_different']} different: {row['record_ids']}"
    )


def reconciliation_job() -> object:
    """Compares the sources with the lake."""
    return dg.define_asset_job(
        JOB,
        selection=[TABLE],
        description="Counts and checksums of the sources against the lake, per production date; late records are landed.",
    )


def reconciliation_schedule(job: object, site: Site) -> dg.ScheduleDefinition:
    """Every night at 02:30 on the site's clock."""
    return dg.ScheduleDefinition(
        name=JOB,
        job=job,  # type: ignore[arg-type]
        cron_schedule="30 2 * * *",
        execution_timezone=site.zone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Compares the last {site.policies.reconcile_days} production dates of every source with the lake.",
    )

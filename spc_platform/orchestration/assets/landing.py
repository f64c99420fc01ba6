"""Landing: what each source said, unchanged, with a ledger row per page."""

import dagster as dg

from spc_platform.errors import SpcError, TransientError
from spc_platform.lake.landing import land_source
from spc_platform.observe.metrics import refresh_textfile
from spc_platform.orchestration.resources import WorkspaceResource
from spc_platform.site import Site, Source
from spc_platform.sources import open_source


def landing_asset(source: Source, site: Site) -> dg.AssetsDefinition:
    """The landed pages of one source. Transient failures are retried by Dagster, permanent ones stop."""

    @dg.asset(
        name=f"landed_{source.source_id}",
        group_name="landing",
        owners=[site.owner],
        kinds={source.kind},
        description=f"Pages of source {source.source_id} ({source.kind}), landed unchanged: "
        "compressed bytes, sha256, ledger row.",
        metadata={
            "resources": ", ".join(resource.name for resource in source.resources),
            "base": source.base_url or source.root,
        },
        retry_policy=dg.RetryPolicy(max_retries=2, delay=10),
    )
    def landed(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
        plant = workspace.open()
        try:
            report = land_source(open_source(source, plant.settings), plant.site, plant.landing, plant.ledger)
        except SpcError as error:
            raise dg.Failure(str(error), allow_retries=isinstance(error, TransientError)) from error
        finally:
            refresh_textfile(plant)
        return dg.MaterializeResult(
            metadata={
                "pages": report.pages,
                "records": report.records,
                "megabytes": report.bytes / 1e6,
                "production_dates_touched": len(report.touched),
                "seconds": report.seconds,
                "batch": report.batch_id,
            }
        )

    return landed

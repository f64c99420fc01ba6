"""The composition root: assets, checks, sensors, schedules and resources of one site. Every resource can be overridden."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import dagster as dg

from spc_platform.engine import STEPS
from spc_platform.orchestration import checks, jobs, sensors
from spc_platform.orchestration.assets.landing import landing_asset
from spc_platform.orchestration.assets.reconciliation import reconciliation_asset, reconciliation_job, reconciliation_schedule
from spc_platform.orchestration.assets.tables import table_assets
from spc_platform.orchestration.partitions import daily_partitions
from spc_platform.orchestration.resources import WorkspaceResource
from spc_platform.orchestration.source_checks import reachable_check
from spc_platform.settings import Settings
from spc_platform.site.loader import load_site

warnings.filterwarnings("ignore", category=dg.BetaWarning)


def build_defs(settings: Settings | None = None, resources: Mapping[str, Any] | None = None) -> dg.Definitions:
    """Definitions of the site that ``settings`` names. Raises SiteError when the site folder is wrong."""
    from spc_platform.orchestration.assets.marts import dbt_resource, marts_assets

    settings = settings or Settings()
    site = load_site(settings.site)
    partitions = daily_partitions(site)
    landed = [f"landed_{source.source_id}" for source in site.sources]
    refresh, nightly = jobs.refresh_job(), reconciliation_job()
    return dg.Definitions(
        assets=[
            *(landing_asset(source, site) for source in site.sources),
            *(table_assets(step, site, partitions, landed if step.name == "raw" else ()) for step in STEPS),
            reconciliation_asset(site),
            *marts_assets(settings, site),
        ],
        asset_checks=[*checks.all_checks(), *(reachable_check(source) for source in site.sources)],
        jobs=[refresh, jobs.everything_job(), jobs.prune, nightly],  # type: ignore[list-item]
        schedules=[
            jobs.daily_schedule(refresh, site),
            jobs.prune_weekly,
            reconciliation_schedule(nightly, site),
            *jobs.delivery_schedules(site),
        ],
        sensors=[
            sensors.batch_sensor(refresh),
            *([sensors.metrics_sensor()] if settings.metrics_textfile else []),
            *(sensors.source_sensor(source.source_id, source.poll_s) for source in site.sources),
            dg.AutomationConditionSensorDefinition(
                "figures_follow_data",
                target=dg.AssetSelection.all(),
                minimum_interval_seconds=10,
                default_status=dg.DefaultSensorStatus.RUNNING,
                description="Evaluates the conditions by which limits, points, capability, OEE and marts follow new data.",
            ),
        ],
        resources={
            "workspace": WorkspaceResource.of(settings),
            "dbt": dbt_resource(settings),
            **(resources or {}),
        },
        executor=dg.in_process_executor,
    )

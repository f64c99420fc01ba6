"""Assets of the lake: one multi-asset per step of the engine, the same for every layer."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg

from spc_platform.contracts import LAKE_TABLES
from spc_platform.engine import Outcome, Step
from spc_platform.engine.run import run_step
from spc_platform.engine.steps import CONTRACT, STEPS
from spc_platform.orchestration.automation import follows_new_data
from spc_platform.orchestration.metadata import (
    check_metadata,
    data_version,
    definition_metadata,
    partition_metadata,
    run_metadata,
)
from spc_platform.orchestration.partitions import as_dates, dependency
from spc_platform.orchestration.pictures import pictures
from spc_platform.orchestration.resources import WorkspaceResource
from spc_platform.site import Site

FOLLOWS_NEW_DATA = frozenset(step.name for step in STEPS if step.group in ("spc", "production")) - {
    "shift_calendar",
    "state_interval",
    "part_count",
}
"""Steps that are rematerialized by condition; the ones before them are requested by the batch sensor."""

FRESHNESS = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=36), warn_window=timedelta(hours=26))


def _checks_of(step: Step) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(name=check.name, asset=table, description=check.description, blocking=check.blocking)
        for table in step.outputs
        for check in (CONTRACT, *step.checks.get(table, ()))
    ]


def _specs_of(step: Step, site: Site, extra_deps: Sequence[str]) -> list[dg.AssetSpec]:
    condition = follows_new_data(partitioned=step.partitioned) if step.name in FOLLOWS_NEW_DATA else None
    specs = []
    for name in step.outputs:
        table = LAKE_TABLES[name]
        deps = [
            dependency(source, site, both_partitioned=step.partitioned and LAKE_TABLES[source.table].partitioned)
            for source in step.inputs
        ]
        specs.append(
            dg.AssetSpec(
                key=name,
                deps=[*deps, *extra_deps],
                description=table.description,
                group_name=step.group,
                owners=[site.owner],
                kinds=set(step.kinds),
                code_version=step.version,
                metadata=definition_metadata(step, table),
                automation_condition=condition,
                freshness_policy=FRESHNESS if step.group in ("spc", "production") else None,
            )
        )
    return specs


def table_assets(
    step: Step, site: Site, partitions: dg.PartitionsDefinition, extra_deps: Sequence[str] = ()
) -> dg.AssetsDefinition:
    """The step as a Dagster multi-asset: one run may cover a range of production dates."""

    @dg.multi_asset(
        name=step.name if step.name in step.outputs else f"{step.name}_tables",
        specs=_specs_of(step, site, extra_deps),
        check_specs=_checks_of(step),
        partitions_def=partitions if step.partitioned else None,
        backfill_policy=dg.BackfillPolicy.single_run() if step.partitioned else None,
    )
    def materialize(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> Iterator[dg.MaterializeResult[Any]]:
        plant = workspace.open()
        dates = as_dates(context.partition_keys) if step.partitioned else []
        outcomes: defaultdict[str, list[Outcome]] = defaultdict(list)
        for outcome in run_step(plant, step, dates):
            outcomes[outcome.table].append(outcome)
            if outcome.commit.production_date is not None:
                context.add_asset_metadata(
                    partition_metadata(outcome),
                    asset_key=outcome.table,
                    partition_key=outcome.commit.production_date.isoformat(),
                )
        for table, made in outcomes.items():
            newest = made[-1].commit.production_date
            if newest is not None:
                # On one event only: every partition's event would carry, and store, the same picture.
                context.add_asset_metadata(pictures(plant, table), asset_key=table, partition_key=newest.isoformat())
            yield dg.MaterializeResult(
                asset_key=table,
                metadata=run_metadata(made),
                data_version=data_version(made),
                check_results=_check_results(plant.verdicts.failed(table), made),
            )

    return materialize


def _check_results(failing: Sequence[tuple[str, str, str, str]], made: Sequence[Outcome]) -> list[dg.AssetCheckResult]:
    """One result per check. A production date that failed earlier and was not mended keeps its check failed."""
    results = []
    for check in made[-1].checks:
        broken = [f"{day}: {description}" for _, name, day, description in failing if name == check.name]
        same = [other for outcome in made for other in outcome.checks if other.name == check.name]
        figures = {name: value for other in same for name, value in other.figures.items()}
        results.append(
            dg.AssetCheckResult(
                asset_key=made[-1].table,
                check_name=check.name,
                passed=not broken,
                severity=dg.AssetCheckSeverity.ERROR if check.blocking else dg.AssetCheckSeverity.WARN,
                description="; ".join(broken[:5]) if broken else check.description,
                metadata={"production_dates_failing": len(broken), **check_metadata(figures)},
            )
        )
    return results

"""Jobs and schedules."""

from datetime import datetime, timedelta

import dagster as dg

from spc_platform.contracts.reconciliation import RECONCILIATION
from spc_platform.engine.steps import STEPS
from spc_platform.engine.steps.common import CORE
from spc_platform.orchestration.assets.delivery import DELIVERY, delivers, waiting
from spc_platform.orchestration.partitions import range_tags
from spc_platform.orchestration.resources import WorkspaceResource
from spc_platform.site import Site

REFRESH_STEPS = (
    "raw",
    "clock_offset",
    "shift_calendar",
    *CORE,
    "state_interval",
    "part_count",
    "telemetry_aligned",
    "measurement_flags",
    "measurement_process",
)
"""From landed pages to prepared tables; limits, points, capability and OEE follow by condition."""

REFRESH_JOB = "refresh_production_dates"
DELIVERY_JOB = "deliver_to_erp"
KEEP_RUNS_DAYS = 30
KEEP_REPLACED_FILES_DAYS = 7


def refresh_selection() -> dg.AssetSelection:
    tables = [table for step in STEPS if step.name in REFRESH_STEPS for table in step.outputs]
    return dg.AssetSelection.assets(*tables)


def refresh_job() -> object:
    """Makes the tables of a range of production dates from landed pages."""
    return dg.define_asset_job(
        REFRESH_JOB,
        selection=refresh_selection(),
        description="Landed pages to prepared tables for a range of production dates, in one run.",
    )


def everything_job() -> object:
    """The whole graph, landing to serving, for a range of production dates in one run.

    Without the reconciliation, which would read the sources a second time.
    """
    return dg.define_asset_job(
        "everything",
        selection=dg.AssetSelection.all() - dg.AssetSelection.assets(RECONCILIATION.name),
        description="The whole graph for a range of production dates in one run: landing, tables, figures, marts, publication.",
    )


def daily_schedule(job: object, site: Site) -> dg.ScheduleDefinition:
    """Every morning, the production date that has just ended, whether or not anything was landed for it."""
    after = datetime.combine(site.first_production_date, site.day_start) + timedelta(minutes=30)

    @dg.schedule(
        name="daily_refresh",
        job=job,  # type: ignore[arg-type]
        cron_schedule=f"{after.minute} {after.hour} * * *",
        execution_timezone=site.zone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Half an hour after the production day ends: makes its tables, "
        "so that a date without records exists as empty.",
    )
    def daily_refresh(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        day = (context.scheduled_execution_time - timedelta(days=1)).date()
        last = site.last_production_date
        if day < site.first_production_date or (last is not None and day > last):
            return dg.SkipReason(f"{day} lies outside the site's production dates")
        return dg.RunRequest(run_key=f"daily:{day}", tags=range_tags(day, day))

    return daily_refresh


def delivery_schedules(site: Site) -> list[dg.ScheduleDefinition]:
    """Every hour, what an earlier delivery left behind; nothing where the site has no ERP.

    What is new is delivered by condition after each publication.
    """
    if not delivers(site):
        return []
    job = dg.define_asset_job(DELIVERY_JOB, selection=[DELIVERY], description="Puts what the ERP does not have yet to it.")

    @dg.schedule(
        name=DELIVERY_JOB,
        job=job,
        cron_schedule="7 * * * *",
        execution_timezone=site.zone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Every hour: tries again what could not be delivered, when the outbox holds anything that is due.",
    )
    def deliver_to_erp(context: dg.ScheduleEvaluationContext, workspace: WorkspaceResource) -> dg.RunRequest | dg.SkipReason:
        if not waiting(workspace.open()):
            return dg.SkipReason("the ERP has every summary that is due")
        return dg.RunRequest(run_key=f"deliver:{context.scheduled_execution_time:%Y-%m-%dT%H}")

    return [deliver_to_erp]


@dg.op(description=f"Deletes finished runs and their events older than {KEEP_RUNS_DAYS} days: Dagster keeps them for ever.")
def delete_old_runs(context: dg.OpExecutionContext) -> int:
    before = datetime.now().astimezone() - timedelta(days=KEEP_RUNS_DAYS)
    finished = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
    records = context.instance.get_run_records(dg.RunsFilter(statuses=finished, created_before=before))
    for record in records:
        context.instance.delete_run(record.dagster_run.run_id)
    context.log.info("deleted %d runs created before %s", len(records), before)
    return len(records)


@dg.op(description=f"Deletes files of the lake that no manifest names any more, after {KEEP_REPLACED_FILES_DAYS} days.")
def sweep_replaced_files(context: dg.OpExecutionContext, workspace: WorkspaceResource) -> int:
    plant = workspace.open()
    older = timedelta(days=KEEP_REPLACED_FILES_DAYS).total_seconds()
    swept = [*plant.lake.sweep(older), *plant.landing.sweep(older)]
    context.log.info("swept %d files", len(swept))
    return len(swept)


@dg.job(description="Keeps the event log and the replaced files of the lake bounded.")
def prune() -> None:
    delete_old_runs()
    sweep_replaced_files()


prune_weekly = dg.ScheduleDefinition(job=prune, cron_schedule="0 3 * * 0", default_status=dg.DefaultScheduleStatus.RUNNING)

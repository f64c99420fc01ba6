"""Sensors: what is new at the sources, and which production dates landed pages touch.

They observe and ask; they read no data and do no long I/O in a tick. What follows is decided by conditions.
"""

import hashlib
from collections.abc import Iterator, Sequence
from datetime import date

import dagster as dg

from spc_platform.errors import SpcError
from spc_platform.lake.ledger import PendingDate
from spc_platform.orchestration.partitions import contiguous, range_tags
from spc_platform.orchestration.resources import WorkspaceResource

LANDING_TAG = "spc/landing"


def plan_runs(pending: Sequence[PendingDate], unmade: Sequence[date] = ()) -> list[dg.RunRequest]:
    """One run request per run of consecutive touched dates; a date between them that no run has made is made as empty.

    The run_key holds the digest of the change-set: Dagster remembers keys for ever, so a key made of dates
    alone would silently skip late data.
    """
    known = dict.fromkeys(unmade, "empty") | {change.production_date: change.digest for change in pending}
    requests = []
    for first, end in contiguous(known):
        digests = [known[day] for day in sorted(known) if first <= day <= end]
        change_set = hashlib.sha256(";".join(digests).encode()).hexdigest()[:16]
        requests.append(dg.RunRequest(run_key=f"{first}..{end}:{change_set}", tags=range_tags(first, end)))
    return requests


def batch_sensor(job: object) -> dg.SensorDefinition:
    """Reads the ledger and asks for the production dates that landed pages touch."""

    @dg.sensor(
        name="landed_batches",
        job=job,  # type: ignore[arg-type]
        minimum_interval_seconds=10,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Reads the ledger and asks for every production date that landed pages touch and no run has applied: "
        "late records, corrections and both dates of a moved record included.",
    )
    def landed_batches(workspace: WorkspaceResource) -> Iterator[dg.RunRequest | dg.SkipReason]:
        plant = workspace.open()
        pending = plant.pending()
        requests = plan_runs(pending, plant.unmade() if pending else ())
        if not requests:
            yield dg.SkipReason("every landed page has been applied")
        yield from requests

    return landed_batches


def _landing_under_way(context: dg.SensorEvaluationContext, source_id: str) -> bool:
    unfinished = [
        dg.DagsterRunStatus.QUEUED,
        dg.DagsterRunStatus.NOT_STARTED,
        dg.DagsterRunStatus.STARTING,
        dg.DagsterRunStatus.STARTED,
    ]
    return bool(context.instance.get_runs(dg.RunsFilter(tags={LANDING_TAG: source_id}, statuses=unfinished), limit=1))


def source_sensor(source_id: str, poll_s: float) -> dg.SensorDefinition:
    """Asks one source, with one short request per resource, whether it has anything new, and lands it in a run.

    No run_key: news that a failed run left behind must be asked for again, so what is already under way is
    looked up instead.
    """

    @dg.sensor(
        name=f"{source_id}_news",
        asset_selection=dg.AssetSelection.assets(f"landed_{source_id}"),
        minimum_interval_seconds=int(poll_s),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Asks source {source_id} for news (one short request per resource) and requests a landing run.",
    )
    def news(context: dg.SensorEvaluationContext, workspace: WorkspaceResource) -> dg.RunRequest | dg.SkipReason:
        if _landing_under_way(context, source_id):
            return dg.SkipReason(f"a landing run of {source_id} is under way")
        try:
            resources = workspace.open().resources_with_news(source_id)
        except SpcError as error:
            return dg.SkipReason(f"source {source_id} cannot be asked: {error}")
        if not resources:
            return dg.SkipReason(f"nothing new at {source_id}")
        return dg.RunRequest(tags={LANDING_TAG: source_id, "spc/news": ", ".join(resources)})

    return news

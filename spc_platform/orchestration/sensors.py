"""Sensors: what is new at the sources, and which production dates landed pages touch.

They observe and ask; they read no data and do no long I/O in a tick. What follows is decided by conditions.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from typing import Any

import dagster as dg

from spc_platform.errors import SpcError
from spc_platform.lake.ledger import PendingDate
from spc_platform.observe.metrics import refresh_textfile
from spc_platform.orchestration.jobs import REFRESH_JOB
from spc_platform.orchestration.partitions import contiguous, range_tags
from spc_platform.orchestration.resources import WorkspaceResource
from spc_platform.orchestration.source_checks import reachable_evaluation, signature

LANDING_TAG = "spc/landing"
CHANGE_TAG = "spc/change_set"
MAX_ATTEMPTS = 3
UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def plan_runs(pending: Sequence[PendingDate], also: Iterable[date] = ()) -> list[dg.RunRequest]:
    """One run request per run of consecutive dates: the touched ones, and those that must be made with them.

    The run_key holds the digest of the change-set: Dagster remembers keys for ever, so a key made of dates
    alone would silently skip late data.
    """
    known = dict.fromkeys(also, "") | {change.production_date: change.digest for change in pending}
    requests = []
    for first, end in contiguous(known):
        digests = [f"{day}={known[day]}" for day in sorted(known) if first <= day <= end]
        change_set = hashlib.sha256(";".join(digests).encode()).hexdigest()[:16]
        tags = {**range_tags(first, end), CHANGE_TAG: change_set}
        requests.append(dg.RunRequest(run_key=f"{first}..{end}:{change_set}", tags=tags))
    return requests


def _attempt(context: dg.SensorEvaluationContext, request: dg.RunRequest) -> dg.RunRequest | dg.SkipReason:
    """The request under a key of its own attempt, or why it is not made again.

    A change-set that is still pending after a run of it was finished has failed: it is asked for again, but not for ever.
    """
    finished = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
    tags = {CHANGE_TAG: request.tags[CHANGE_TAG]}
    attempts = len(context.instance.get_runs(dg.RunsFilter(tags=tags, statuses=finished), limit=MAX_ATTEMPTS))
    if attempts >= MAX_ATTEMPTS:
        return dg.SkipReason(f"{request.run_key} was tried {attempts} times; mend the cause and run it by hand")
    return request if attempts == 0 else dg.RunRequest(run_key=f"{request.run_key}:{attempts + 1}", tags=request.tags)


def batch_sensor(job: object) -> dg.SensorDefinition:
    """Reads the ledger and asks for the production dates that landed pages touch."""

    @dg.sensor(
        name="landed_batches",
        job=job,  # type: ignore[arg-type]
        minimum_interval_seconds=10,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Reads the ledger and asks for every production date that landed pages touch and no run has applied: "
        "late records, corrections and both dates of a moved record included, and the dates whose states reach into them.",
    )
    def landed_batches(
        context: dg.SensorEvaluationContext, workspace: WorkspaceResource
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        if _under_way(context, dg.RunsFilter(job_name=REFRESH_JOB, statuses=UNFINISHED)):
            yield dg.SkipReason("a refresh is under way; two at once could finish in the wrong order")
            return
        plant = workspace.open()
        pending = plant.pending()
        if not pending:
            yield dg.SkipReason("every landed page has been applied")
            return
        also = {*plant.unmade(), *plant.reached(change.production_date for change in pending)}
        for request in plan_runs(pending, also):
            yield _attempt(context, request)

    return landed_batches


def metrics_sensor() -> dg.SensorDefinition:
    """Keeps the textfile of SPC_METRICS_TEXTFILE fresh, also while nothing can be landed. Starts no run."""

    @dg.sensor(
        name="metrics_textfile",
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Replaces the file that SPC_METRICS_TEXTFILE names by the present metrics every minute; starts no run.",
    )
    def textfile(workspace: WorkspaceResource) -> dg.SkipReason:
        plant = workspace.open()
        refresh_textfile(plant)
        return dg.SkipReason(f"metrics are in {plant.settings.metrics_textfile}")

    return textfile


def _under_way(context: dg.SensorEvaluationContext, runs: dg.RunsFilter) -> bool:
    return bool(context.instance.get_runs(runs, limit=1))


def source_sensor(source_id: str, poll_s: float) -> dg.SensorDefinition:
    """Asks one source, with one short request per resource, whether it has anything new, and lands it in a run.

    The request is also the trial of a breaker that is half-open: when it succeeds, the windows that waited are landed.

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
    def news(context: dg.SensorEvaluationContext, workspace: WorkspaceResource) -> dg.SensorResult:
        if _under_way(context, dg.RunsFilter(tags={LANDING_TAG: source_id}, statuses=UNFINISHED)):
            return dg.SensorResult(skip_reason=f"a landing run of {source_id} is under way", cursor=context.cursor)
        plant = workspace.open()
        answer: dict[str, Any] = {"skip_reason": f"nothing new at {source_id}"}
        try:
            resources = plant.resources_with_news(source_id)
        except SpcError as error:
            answer = {"skip_reason": f"source {source_id} cannot be asked: {error}"}
        else:
            if resources:
                answer = {"run_requests": [dg.RunRequest(tags={LANDING_TAG: source_id, "spc/news": ", ".join(resources)})]}
        [state] = [each for each in plant.source_states() if each.source_id == source_id]
        seen = signature(state)
        # The first tick of a source that is reachable reports nothing; its landing runs do.
        is_news = seen != context.cursor and not (context.cursor is None and state.is_reachable)
        return dg.SensorResult(**answer, cursor=seen, asset_events=[reachable_evaluation(state)] if is_news else [])

    return news

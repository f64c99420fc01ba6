"""Sensors: what is new at the sources, and which production dates landed pages touch.

They observe and ask; they read no data and do no long I/O in a tick. What follows is decided by conditions.
"""

import hashlib
from collections.abc import Iterator, Sequence

import dagster as dg

from spc_platform.engine import Workspace
from spc_platform.errors import SpcError
from spc_platform.lake.ledger import PendingDate
from spc_platform.orchestration.partitions import contiguous, range_tags
from spc_platform.orchestration.resources import WorkspaceResource
from spc_platform.site import Site
from spc_platform.sources import open_source


def plan_runs(pending: Sequence[PendingDate], site: Site) -> list[dg.RunRequest]:
    """One run request per run of consecutive touched dates.

    The run_key holds the digest of the change-set: Dagster remembers keys for ever, so a key made of dates
    alone would silently skip late data.
    """
    last = site.last_production_date
    known = {
        change.production_date: change.digest
        for change in pending
        if change.production_date >= site.first_production_date and (last is None or change.production_date <= last)
    }
    requests = []
    for first, end in contiguous(known):
        digests = [known[day] for day in sorted(known) if first <= day <= end]
        change_set = hashlib.sha256(";".join(digests).encode()).hexdigest()[:16]
        requests.append(dg.RunRequest(run_key=f"{first}..{end}:{change_set}", tags=range_tags(first, end)))
    return requests


def batch_sensor(job: dg.JobDefinition | object, site: Site) -> dg.SensorDefinition:
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
        requests = plan_runs(workspace.open().ledger.pending(), site)
        if not requests:
            yield dg.SkipReason("every landed page has been applied")
        yield from requests

    return landed_batches


def _news(plant: Workspace, source_id: str) -> str | None:
    config = plant.site.source(source_id)
    source = open_source(config, plant.settings)
    tokens = []
    for resource in config.resources:
        token = source.has_news(resource, plant.ledger.watermark(source_id, resource.name))
        if token is not None:
            tokens.append(f"{resource.name}={token}")
    return hashlib.sha256(";".join(tokens).encode()).hexdigest()[:16] if tokens else None


def source_sensor(source_id: str, poll_s: float) -> dg.SensorDefinition:
    """Asks one source, with one short request per resource, whether it has anything new, and lands it in a run."""

    @dg.sensor(
        name=f"{source_id}_news",
        asset_selection=dg.AssetSelection.assets(f"landed_{source_id}"),
        minimum_interval_seconds=int(poll_s),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Asks source {source_id} for news (one short request per resource) and requests a landing run.",
    )
    def news(workspace: WorkspaceResource) -> dg.RunRequest | dg.SkipReason:
        try:
            token = _news(workspace.open(), source_id)
        except SpcError as error:
            return dg.SkipReason(f"source {source_id} cannot be asked: {error}")
        return dg.SkipReason(f"nothing new at {source_id}") if token is None else dg.RunRequest(run_key=f"{source_id}:{token}")

    return news

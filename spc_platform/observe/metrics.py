"""Prometheus metrics of a plant, read from what the platform keeps: figures of walks, breakers, spools, ledger and lake.

Nothing is counted here, so any process may expose the same figures. Labels are names of the site folder and of tables only.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from pathlib import Path

import polars as pl
from prometheus_client import CollectorRegistry, generate_latest, write_to_textfile
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from spc_platform.collect.spool import spool_depths
from spc_platform.contracts import LAKE_TABLES
from spc_platform.engine.workspace import Workspace
from spc_platform.errors import PermanentError, SpcError
from spc_platform.settings import Settings
from spc_platform.site.model import Site
from spc_platform.sources.figures import BOUNDS_S, WalkFigures, all_figures
from spc_platform.sources.resilience import STATE_FILE, StateFile
from spc_platform.sources.source_state import SourceState, source_states

logger = logging.getLogger(__name__)

BREAKER_STATES = ("closed", "half-open", "open")
_REJECTED = "_rejected"
_WALK = ("source", "resource")
_COUNTERS: tuple[tuple[str, str, str], ...] = (
    ("walks", "Walks over a resource.", "walks"),
    ("walk_failures", "Walks that ended in an error.", "failures"),
    ("requests", "Requests sent, retries included.", "requests"),
    ("retries", "Requests that were made again.", "retries"),
    ("pages", "Pages landed.", "pages"),
    ("records", "Records on landed pages, those of an overlap again.", "records"),
    ("new_records", "Records that were not known before in this revision.", "new_records"),
    ("bytes", "Bytes of landed pages as the source sent them, decompressed.", "bytes"),
)


class SourceMetrics(Collector):
    """Walks, breakers, pending windows and spools of a site's sources."""

    def __init__(self, site: Site, settings: Settings) -> None:
        self._site, self._settings = site, settings

    def collect(self) -> Iterable[Metric]:
        """One family per figure, labelled by source, and by resource where there is one."""
        file = StateFile(self._settings.data / STATE_FILE)
        known = {(source.source_id, each.name) for source in self._site.sources for each in source.resources}
        walks = {key: walk for key, walk in sorted(all_figures(file).items()) if key in known}
        yield from _walk_families(walks)
        yield from _breaker_families(source_states(file, [source.source_id for source in self._site.sources]))
        depth = GaugeMetricFamily("spc_collect_spool_depth", "Records that have not left the spool.", labels=_WALK)
        for source_id, resources in spool_depths(self._settings.spool_root).items():
            for resource, records in resources.items():
                depth.add_metric([source_id, resource], records)
        yield depth


class LakeMetrics(Collector):
    """What waits to be made, what was rejected, clocks and reconciliation: figures of the ledger and the lake."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def collect(self) -> Iterable[Metric]:
        """One family per figure."""
        plant = self._workspace
        pending = GaugeMetricFamily("spc_pending_production_dates", "Production dates with landed changes not yet applied.")
        pending.add_metric([], len(plant.pending()))
        yield pending
        failing = GaugeMetricFamily("spc_failing_checks", "Checks that fail, counted per table and date.", labels=["table"])
        failed = [table for table, *_ in plant.verdicts.failed()]
        for table in sorted(set(failed)):
            failing.add_metric([table], failed.count(table))
        yield failing
        yield from _row_families(plant.ledger.row_counts())
        yield from _clock_families(plant.lake.read("clock_offset"))
        yield from _reconciliation_families(plant.lake.read_kept("reconciliation"))


def plant_registry(workspace: Workspace, *further: Collector) -> CollectorRegistry:
    """Every figure of a plant, and those of further collectors such as the one of `spc collect`."""
    registry = CollectorRegistry()
    for each in (SourceMetrics(workspace.site, workspace.settings), LakeMetrics(workspace), *further):
        registry.register(each)
    return registry


def exposition(workspace: Workspace) -> str:
    """The metrics in Prometheus' text format."""
    return generate_latest(plant_registry(workspace)).decode()


def write_textfile(workspace: Workspace, path: Path) -> None:
    """Replace ``path`` by the present metrics at once, for the textfile collector of node_exporter.

    Raises PermanentError when it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_to_textfile(str(path), plant_registry(workspace))
    except OSError as error:
        raise PermanentError(
            f"metrics cannot be written to {path}: {error.strerror}; give a file in a folder that may be written",
            code="SPC-294",
        ) from error


def refresh_textfile(workspace: Workspace) -> None:
    """Write the file that SPC_METRICS_TEXTFILE names, if it is set. A failure is logged: what is measured goes on."""
    path = workspace.settings.metrics_textfile
    if path is None:
        return
    try:
        write_textfile(workspace, path)
    except (SpcError, sqlite3.Error) as error:
        logger.warning("metrics were not written: %s", error)


def _walk_families(walks: dict[tuple[str, str], WalkFigures]) -> Iterator[Metric]:
    times = HistogramMetricFamily("spc_source_request_duration_seconds", "Time of a request until its answer.", labels=_WALK)
    for (source_id, resource), walk in walks.items():
        reached, classes = 0, []
        for bound, count in zip((*(str(bound) for bound in BOUNDS_S), "+Inf"), walk.times, strict=True):
            reached += count
            classes.append((bound, float(reached)))
        times.add_metric([source_id, resource], classes, walk.request_seconds)
    yield times
    for name, text, attribute in _COUNTERS:
        yield _family(CounterMetricFamily(f"spc_source_{name}", text, labels=_WALK), walks, attrgetter(attribute))
    gauges: tuple[tuple[str, str, Callable[[WalkFigures], float | None]], ...] = (
        ("last_walk_success", "1 when the last walk was completed, else 0.", _was_success),
        ("last_success_timestamp_seconds", "When a walk was last completed.", lambda walk: walk.last_success_at),
        ("newest_record_timestamp_seconds", "The source's own time of the newest record that landed.", lambda w: w.newest_at),
        ("lateness_seconds", "Receipt of the newest record less the source's own time of it.", _lateness),
    )
    for name, text, value in gauges:
        yield _family(GaugeMetricFamily(f"spc_source_{name}", text, labels=_WALK), walks, value)


def _family(
    family: CounterMetricFamily | GaugeMetricFamily,
    walks: dict[tuple[str, str], WalkFigures],
    value: Callable[[WalkFigures], float | None],
) -> Metric:
    for labels, walk in walks.items():
        figure = value(walk)
        if figure is not None:
            family.add_metric(labels, figure)
    return family


def _was_success(walk: WalkFigures) -> float:
    return float((walk.last_success_at or 0.0) > (walk.last_failure_at or 0.0))


def _lateness(walk: WalkFigures) -> float | None:
    return None if walk.newest_at is None or walk.received_at is None else walk.received_at - walk.newest_at


def _breaker_families(states: Iterable[SourceState]) -> Iterator[Metric]:
    labels = ["source"]
    breaker = GaugeMetricFamily(
        "spc_source_breaker_state", "1 for the state of the circuit breaker.", labels=["source", "state"]
    )
    moves = CounterMetricFamily("spc_source_breaker_transitions", "Changes of the breaker to a state.", labels=["source", "to"])
    failures = GaugeMetricFamily("spc_source_breaker_failures", "Failures in a row.", labels=labels)
    waiting = GaugeMetricFamily("spc_source_pending_windows", "Resources with a window that waits to be read.", labels=labels)
    missed = GaugeMetricFamily("spc_source_polls_missed", "Polls that waiting windows stand for.", labels=labels)
    since = GaugeMetricFamily("spc_source_pending_since_timestamp_seconds", "Since when a window waits.", labels=labels)
    for state in states:
        for name in BREAKER_STATES:
            breaker.add_metric([state.source_id, name], float(state.breaker == name))
            moves.add_metric([state.source_id, name], state.transitions.get(name, 0))
        failures.add_metric([state.source_id], state.failures)
        waiting.add_metric([state.source_id], len(state.pending))
        missed.add_metric([state.source_id], sum(window.polls for window in state.pending))
        if state.pending:
            since.add_metric([state.source_id], min(window.queued_at for window in state.pending).timestamp())
    yield from (breaker, moves, failures, waiting, missed, since)


def _row_families(counts: dict[str, int]) -> Iterator[Metric]:
    rejected = GaugeMetricFamily("spc_rejected_rows", "Rows in quarantine.", labels=["table"])
    share = GaugeMetricFamily("spc_rejected_share", "Rows in quarantine out of all rows.", labels=["table"])
    for name in sorted(LAKE_TABLES):
        table = name.removesuffix(_REJECTED)
        if name == table or name not in counts:
            continue
        rejected.add_metric([table], counts[name])
        rows = counts[name] + counts.get(table, 0)
        share.add_metric([table], counts[name] / rows if rows else 0.0)
    yield from (rejected, share)


def _clock_families(offsets: pl.DataFrame) -> Iterator[Metric]:
    labels = ["clock", "method"]
    offset = GaugeMetricFamily("spc_clock_offset_seconds", "The other clock minus the platform's.", labels=labels)
    uncertainty = GaugeMetricFamily(
        "spc_clock_offset_uncertainty_seconds", "The true offset lies within ± this.", labels=labels
    )
    newest = offsets.sort("measured_at").group_by("clock_id", "method", maintain_order=True).last()
    for row in newest.sort("clock_id", "method").iter_rows(named=True):
        offset.add_metric([row["clock_id"], row["method"]], row["offset_s"])
        uncertainty.add_metric([row["clock_id"], row["method"]], row["uncertainty_s"])
    yield from (offset, uncertainty)


def _reconciliation_families(rows: pl.DataFrame) -> Iterator[Metric]:
    labels = ["source", "table", "kind"]
    differences = GaugeMetricFamily("spc_reconciliation_differences", "Records in which lake and source differ.", labels=labels)
    at = GaugeMetricFamily("spc_reconciliation_timestamp_seconds", "When the source was last compared.", labels=["source"])
    kinds = ("missing", "extra", "different")
    counted = rows.with_columns(pl.when(verdict="differs").then(f"n_{kind}").otherwise(0).alias(f"n_{kind}") for kind in kinds)
    sums = counted.group_by("source_id", "raw_table").agg(pl.col(f"n_{kind}").sum() for kind in kinds)
    for row in sums.sort("source_id", "raw_table").iter_rows(named=True):
        for kind in kinds:
            differences.add_metric([row["source_id"], row["raw_table"], kind], row[f"n_{kind}"])
    for source_id, compared in rows.group_by("source_id").agg(pl.col("reconciled_at").max()).sort("source_id").iter_rows():
        at.add_metric([source_id], compared.timestamp())
    yield from (differences, at)

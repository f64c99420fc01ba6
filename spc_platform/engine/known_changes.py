"""How a table as known at an earlier time differs from the lake's, and which late events made the difference."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import polars as pl

from spc_platform.contracts import LAKE_TABLES
from spc_platform.contracts.events import CONTRIBUTION, OPERATIONS_EVENT_TYPES
from spc_platform.contracts.raw import PAYLOAD
from spc_platform.contracts.table import UTC as UTC_TIME
from spc_platform.engine.knowledge import as_of_known_at, raw_with_receipts
from spc_platform.engine.known import KnownTable
from spc_platform.engine.steps import step
from spc_platform.engine.workspace import Workspace
from spc_platform.production.calendar import shift_calendar
from spc_platform.production.explanation import Cell, contributions, figures_as_known, recorded_between
from spc_platform.production.view_changes import events_of_rows, row_changes

LATEST = datetime(9999, 12, 31, tzinfo=UTC)
DELTAS = (*(name for name in CONTRIBUTION.names if name.endswith("_s")), "pq", "gq", "sq", "rq")
CAUSE_COLUMNS = (
    "equipment_id", "cause", "event_type", "source_id", "record_id", "revision", "effective_at", "recorded_at", "is_deleted",
    "n_rows",
)  # fmt: skip
_OVER_DATES = ("reliability", "oee_rollup")
"""Tables whose rows add up several production dates."""


@dataclass(frozen=True, slots=True)
class Changes:
    """``rows`` and ``cells`` as of ``view_changes.row_changes``, ``causes``: late events and, where known, what they brought.

    ``readings`` counts late readings of meters by stream; ``pending`` names production dates that have landed records which
    the lake's tables do not hold yet, so that the present view is itself behind.
    """

    known: KnownTable
    present_as_of: datetime
    rows: pl.DataFrame
    cells: pl.DataFrame
    causes: pl.DataFrame
    readings: pl.DataFrame
    pending: list[date]


def known_changes(workspace: Workspace, known: KnownTable) -> Changes:
    """What changed in a table since it was known as it is given, against the lake's present table."""
    day = known.production_date
    contract = LAKE_TABLES[known.table]
    rows, cells = row_changes(known.frame, workspace.lake.read(known.table, day), contract)
    raw, received = _raw(workspace, known)
    if rows.is_empty():
        causes = _no_causes()
    elif day is not None and _is_explained(known):
        causes = _explained(workspace, known, day, rows, raw, received)
    else:
        causes = _by_names(workspace, known, rows, raw, received)
    asked = {day for days in known.demand.values() for day in days}
    return Changes(
        known,
        workspace.known_until() if day is None else workspace.as_of(day),
        rows,
        cells,
        causes,
        _readings(known, rows, raw, received),
        [change.production_date for change in workspace.pending() if change.production_date in asked],
    )


def _raw(workspace: Workspace, known: KnownTable) -> tuple[dict[str, pl.DataFrame], dict[str, datetime]]:
    raw: dict[str, pl.DataFrame] = {}
    received: dict[str, datetime] = {}
    for table in known.raw_tables:
        days = sorted(day for day in known.demand[table] if day is not None)
        if days:
            raw[table], pages = raw_with_receipts(workspace, table, days, by=known.clock)
            received |= pages
    return raw, received


def _is_explained(known: KnownTable) -> bool:
    """Whether the rows rest on states and counts of one date, whose seconds and parts can be shared out."""
    of_states = not {"state_interval", "downtime_event"}.isdisjoint(known.demand)
    return of_states and "equipment_id" in LAKE_TABLES[known.table].names and known.table not in _OVER_DATES


def _explained(
    workspace: Workspace,
    known: KnownTable,
    day: date,
    rows: pl.DataFrame,
    raw: dict[str, pl.DataFrame],
    received: dict[str, datetime],
) -> pl.DataFrame:
    site, by = workspace.site, known.clock
    calendar = shift_calendar(site, day, day)
    changed = rows.group_by("equipment_id").agg(n_rows=pl.len().cast(pl.Int64)).sort("equipment_id")
    shifts = {Cell(unit, day): calendar.filter(pl.col("equipment_id") == unit) for unit in changed["equipment_id"]}
    before, after = (
        figures_as_known(raw, received, site, day, at, as_of, by=by)
        for at, as_of in ((known.at, as_of_known_at(workspace, day, known.at, by)), (LATEST, workspace.as_of(day)))
    )
    shared = contributions({cell: own for cell, own in shifts.items() if own.height}, raw, received, before, after, by=by)
    frames = [
        frame.with_columns(pl.lit(cell.equipment_id).alias("equipment_id")).join(changed, on="equipment_id")
        for cell, frame in shared.items()
    ]
    if not frames:
        return _no_causes()
    found = pl.concat(frames).filter(pl.any_horizontal(pl.col(DELTAS) != 0) | (pl.col("cause") == "event"))
    return found.select(*CAUSE_COLUMNS, *DELTAS)


def _by_names(
    workspace: Workspace, known: KnownTable, rows: pl.DataFrame, raw: dict[str, pl.DataFrame], received: dict[str, datetime]
) -> pl.DataFrame:
    told = {table: frame for table, frame in raw.items() if table.removeprefix("raw_") in OPERATIONS_EVENT_TYPES}
    if not told:
        return _no_causes()
    names = []
    frames = []
    for table, frame in told.items():
        columns = [column.name for column in PAYLOAD[table] if column.name.endswith("_id")]
        marked = frame.with_row_index("_event").with_columns(_event=pl.format("{} {}", pl.lit(table), "_event"))
        longer = marked.select("_event", *columns).unpivot(index="_event", variable_name="column", value_name="name")
        names.append(longer.drop_nulls("name").cast(pl.String))
        kind = table.removeprefix("raw_")
        late = recorded_between({kind: frame}, received, known.at, LATEST, by=known.clock)
        key = ["source_id", "record_id", "revision"]
        frames.append(late.join(marked.select(*key, "_event").unique(key, keep="first"), on=key, maintain_order="left"))
    events = pl.concat(frames)
    if known.production_date is not None:
        events = events.filter(_within(workspace, known, known.production_date))
    found = events_of_rows(rows, events, pl.concat(names), workspace.site["equipment"])
    order = ["recorded_at", "event_type", "source_id", "record_id", "revision"]
    listed = found.with_columns(
        cause=pl.when("_last").then(pl.lit("event")).otherwise(pl.lit("superseded")),
        **{name: pl.lit(None, CONTRIBUTION.schema[name]) for name in DELTAS},
    )
    return listed.sort(order).select(*CAUSE_COLUMNS, *DELTAS)


def _within(workspace: Workspace, known: KnownTable, day: date) -> pl.Expr:
    """Whether what an event tells lies within the dates that the rows of a table add up."""
    policies = workspace.site.policies
    summed = [i.days_back(policies) for i in step(known.table).inputs] if known.table in _OVER_DATES else [0]
    start, end = workspace.day_bounds(day - timedelta(days=max(summed)))[0], workspace.day_bounds(day)[1]
    begins = pl.col("effective_at") <= pl.lit(end).cast(UTC_TIME)
    ends = pl.coalesce("_end_at", pl.lit(end).cast(UTC_TIME)) >= pl.lit(start).cast(UTC_TIME)
    return begins.fill_null(value=True) & ends


def _readings(
    known: KnownTable, rows: pl.DataFrame, raw: dict[str, pl.DataFrame], received: dict[str, datetime]
) -> pl.DataFrame:
    """Late readings by stream: they are too many to be listed one by one."""
    empty = pl.DataFrame(schema={"stream_id": pl.String, "readings": pl.Int64})
    if "raw_telemetry" not in raw or rows.is_empty():
        return empty
    late = recorded_between({"telemetry": raw["raw_telemetry"]}, received, known.at, LATEST, by=known.clock)
    stream = late.select(stream_id=pl.col("payload").str.json_path_match("$.stream_id"))
    return stream.group_by("stream_id").agg(readings=pl.len().cast(pl.Int64)).sort("stream_id")


def _no_causes() -> pl.DataFrame:
    return pl.DataFrame(schema={name: CONTRIBUTION.schema.get(name, pl.Int64) for name in (*CAUSE_COLUMNS, *DELTAS)}).cast(
        {"equipment_id": pl.String}
    )

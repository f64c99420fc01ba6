"""`spc known`: a table as it was known at an earlier time, and what changed it since. Reads the lake and writes nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spc_platform.cli.why import CLOCKS, FORMATS, instant, iso, one_of

if TYPE_CHECKING:
    import polars as pl

    from spc_platform.engine.known import KnownTable
    from spc_platform.engine.known_changes import Changes

SCHEMA_VERSION = "1.0"
_COLUMNS_ABREAST = 5


def known(
    at: Annotated[str, typer.Option("--at", help="Knowledge time, ISO 8601; without a zone in the site's.")],
    table: Annotated[str, typer.Option("--table", help="Table of the lake, such as oee_elements.")],
    day: Annotated[
        datetime | None,
        typer.Option("--date", formats=["%Y-%m-%d"], help="Production date (none for a table that spans all)."),
    ] = None,
    diff: Annotated[
        bool, typer.Option("--diff", help="Only what differs from the present table, and the late events that changed it.")
    ] = False,
    clock: Annotated[
        str, typer.Option(help="source: when the source wrote a record; receipt: when its page was received.")
    ] = "source",
    form: Annotated[str, typer.Option("--format", help="table or json.")] = "table",
) -> None:
    """A table as it was known at an earlier time, made by the same steps from the records known then."""
    from spc_platform.engine import Workspace
    from spc_platform.engine.known import known_table
    from spc_platform.engine.known_changes import known_changes
    from spc_platform.settings import Settings

    one_of("--format", form, FORMATS)
    one_of("--clock", clock, CLOCKS)
    plant = Workspace.open(Settings())
    asked = instant(plant, "--at", at) or plant.known_until()
    found = known_table(plant, table, asked, None if day is None else day.date(), clock=clock)
    changes = known_changes(plant, found) if diff else None
    if form == "json":
        typer.echo(json.dumps(known_document(found, changes), indent=2))
    else:
        typer.echo(_known_text(found) if changes is None else _diff_text(changes))


def register(app: typer.Typer) -> None:
    """Adds the verb to the command."""
    app.command()(known)


def known_document(found: KnownTable, changes: Changes | None = None) -> dict[str, Any]:
    """The view, or with ``changes`` what differs from it, as plain data: instants as ISO 8601 UTC, dates as ISO 8601."""
    head = {
        "schema_version": SCHEMA_VERSION,
        "table": found.table,
        "production_date": None if found.production_date is None else found.production_date.isoformat(),
        "clock": found.clock,
        "known_at": iso(found.at),
        "as_of": iso(found.as_of),
    }
    if changes is None:
        return head | {"rows": _plain(found.frame)}
    cells = changes.cells.drop_nulls("column")
    by_row: dict[int, list[dict[str, Any]]] = {}
    for row in cells.iter_rows(named=True):
        by_row.setdefault(row["row"], []).append({name: row[name] for name in ("column", "known", "present")})
    key = _key(found.table)
    rows = _plain(changes.rows.select("row", "change", *key))
    return head | {
        "present_as_of": iso(changes.present_as_of),
        "pending": [day.isoformat() for day in changes.pending],
        "differences": [
            {"change": row["change"], "key": {name: row[name] for name in key}, "cells": by_row.get(row["row"], [])}
            for row in rows
        ],
        "causes": _plain(changes.causes),
        "late_readings": _plain(changes.readings),
    }


def _key(table: str) -> list[str]:
    from spc_platform.contracts import LAKE_TABLES

    return list(LAKE_TABLES[table].key)


def _plain(frame: pl.DataFrame) -> list[dict[str, Any]]:
    return [{name: _value(value) for name, value in row.items()} for row in frame.iter_rows(named=True)]


def _value(value: Any) -> Any:
    if isinstance(value, datetime):
        return iso(value)
    return value.isoformat() if isinstance(value, date) else value


def _text(value: Any) -> str:
    return "" if value is None else f"{value:.10g}" if isinstance(value, float) else str(_value(value))


def _head(found: KnownTable, *more: tuple[str, str]) -> list[tuple[str, str]]:
    day = [] if found.production_date is None else [("production date", found.production_date.isoformat())]
    return [*day, ("known at", iso(found.at)), ("clock", found.clock), ("as of", iso(found.as_of)), *more]


def _known_text(found: KnownTable) -> str:
    from spc_platform.cli.study_table import sections_text
    from spc_platform.report.sections import Section

    key = _key(found.table)
    others = [name for name in found.frame.columns if name not in key]
    sections = [Section(f"{found.table}: {found.frame.height} rows", _head(found))]
    for first in range(0, max(len(others), 1), _COLUMNS_ABREAST):
        columns = [*key, *others[first : first + _COLUMNS_ABREAST]]
        rows = [[_text(value) for value in row] for row in found.frame.select(columns).iter_rows()]
        sections.append(Section(", ".join(columns[len(key) :]), rows, columns))
    return sections_text(sections)


def _diff_text(changes: Changes) -> str:
    from spc_platform.cli.study_table import sections_text
    from spc_platform.engine.known_changes import DELTAS
    from spc_platform.report.sections import Section

    found, key = changes.known, _key(changes.known.table)
    named = {row["row"]: " ".join(_text(row[name]) for name in key) for row in changes.rows.iter_rows(named=True)}
    cells = [
        (row["change"], named[row["row"]], *(_text(row[name]) for name in ("column", "known", "present")))
        for row in changes.cells.iter_rows(named=True)
    ]
    causes = [
        (
            _text(row["recorded_at"]),
            row["event_type"] or row["cause"],
            f"{row['record_id']} r{row['revision']}" if row["record_id"] else "",
            "" if row["cause"] in ("event", None) or row["event_type"] is None else row["cause"],
            ", ".join(f"{name} {row[name]:+g}" for name in DELTAS if row[name]),
        )
        for row in changes.causes.iter_rows(named=True)
    ]
    counted = changes.rows["change"].value_counts().sort("change").iter_rows()
    facts = _head(found, ("present, as of", iso(changes.present_as_of)), *((f"rows {name}", str(n)) for name, n in counted))
    if changes.pending:
        facts.append(("not made yet", ", ".join(map(str, changes.pending))))
    readings = _readings(changes.readings.rows())
    return sections_text(
        [
            Section(f"{found.table}: what changed since", facts),
            Section("Cells", cells, ("change", "row", "column", "known then", "present")),
            Section("Recorded since", [*causes, *readings], ("recorded at", "what", "record", "remark", "contribution")),
        ]
    )


def _readings(rows: Sequence[tuple[str, int]]) -> list[tuple[str, ...]]:
    return [("", "telemetry", stream, f"{n} readings", "") for stream, n in rows]

"""`spc trace`: what went into a lot or serial number, what came of it, what was measured on the way, what to recall."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spc_platform.errors import ContractError

if TYPE_CHECKING:
    import polars as pl

    from spc_platform.cli.trace_records import Records
    from spc_platform.production.traceability import Direction

SCHEMA_VERSION = "1.1"
SHOWN = 40
"""Rows of a table on the console; JSON has all of them."""
UNKNOWN_ITEM, WRONG_OPTION = "SPC-640", "SPC-641"
_DIRECTIONS: dict[str, tuple[Direction, ...]] = {
    "forward": ("forward",),
    "backward": ("backward",),
    "both": ("backward", "forward"),
}
_TABLES = {
    "items": ("Items", ("relation", "depth", "item_id", "item_kind", "is_end")),
    "links": ("Links", ("relation", "depth", "parent_id", "child_id", "link_type", "quantity", "occurred_at", "time_issue")),
    "measurements": (
        "Measurements",
        (
            "item_id",
            "characteristic_id",
            "value",
            "unit",
            "specification_version",
            "verdict",
            "limit_version",
            "signals",
            "measured_at",
        ),
    ),
    "work_orders": ("Work orders", ("job_order_id", "work_center_id", "material_definition_id", "start_at", "end_at")),
    "recall": ("Recall", ("item_id", "depth", "is_finished", "share", "quantity", "segment_id", "equipment_id", "seen_at")),
    "recall_in_doubt": ("Recall in doubt: reached by refused links only", ("item_id", "source_id", "record_id", "reasons")),
    "refused_links": (
        "Refused links",
        ("parent_id", "child_id", "link_type", "source_id", "record_id", "reasons", "cycle_items", "cycle_records"),
    ),
}

_File = Annotated[Path | None, typer.Option(help="CSV, Parquet or XLSX file; without it the lake is read.")]


def trace(
    lot: Annotated[str | None, typer.Option(help="Lot to trace.")] = None,
    serial: Annotated[str | None, typer.Option(help="Serial number to trace.")] = None,
    direction: Annotated[str, typer.Option(help="forward (what came of it), backward (what went into it) or both.")] = "both",
    depth: Annotated[int | None, typer.Option(help="Links to follow at most (all).")] = None,
    links: _File = None,
    measurements: Annotated[Path | None, typer.Option(help="File of measurements, with --links.")] = None,
    segment_events: Annotated[Path | None, typer.Option(help="File of operations of items, with --links.")] = None,
    zone: Annotated[str, typer.Option(help="Zone of times without one in files.")] = "UTC",
    index: Annotated[Path | None, typer.Option(help="Folder that keeps the genealogy of --links for the next trace.")] = None,
    known_at: Annotated[str | None, typer.Option(help="Links as they were known at this time, ISO 8601 (UTC).")] = None,
    form: Annotated[str, typer.Option("--format", help="table or json.")] = "table",
) -> None:
    """Trace a lot or serial number through the links of materials, with its measurements and what judged them."""
    if (lot is None) == (serial is None):
        raise _wrong("give either --lot or --serial.")
    if direction not in _DIRECTIONS:
        raise _wrong(f"--direction {direction!r}: choose {', '.join(_DIRECTIONS)}.")
    if depth is not None and depth < 0:
        raise _wrong(f"--depth {depth}: give 0 or more.")
    if form not in ("table", "json"):
        raise _wrong(f"--format {form!r}: choose table, json.")
    if links is None and (measurements or segment_events or index):
        raise _wrong("--measurements, --segment-events and --index go with --links; the lake has its own.")
    known = None if known_at is None else _moment(known_at)
    if links is None:
        from spc_platform.cli.trace_records import lake_records
        from spc_platform.settings import Settings

        records = lake_records(Settings(), known)
    else:
        from spc_platform.cli.trace_records import file_records

        records = file_records(links, measurements, segment_events, zone=zone, index=index, known_at=known)
    kind = "lot" if serial is None else "serial"
    options = {"direction": direction, "depth": depth, "known_at": None if known is None else known.isoformat(), "zone": zone}
    document = trace_document(records, str(lot or serial), kind, _DIRECTIONS[direction], depth, options)
    typer.echo(document_json(document) if form == "json" else "", nl=False)
    if form == "table":
        _print(document)


def register(app: typer.Typer) -> None:
    """Adds the verb to the command."""
    app.command()(trace)


def _wrong(text: str) -> ContractError:
    return ContractError(text + " See `spc trace --help`.", code=WRONG_OPTION)


def _moment(said: str) -> datetime:
    try:
        at = datetime.fromisoformat(said)
    except ValueError as error:
        raise _wrong(f"--known-at {said!r} is no time: write it like 2026-03-29T14:05:00Z.") from error
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def trace_document(
    records: Records,
    item_id: str,
    kind: str,
    directions: Sequence[Direction],
    depth: int | None,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """The document of one trace. Raises SPC-640 when neither a link nor a measurement nor an operation names the item."""
    import polars as pl

    from spc_platform.production.traceability import recall, recall_in_doubt, trace, trace_measurements, with_kinds

    genealogy = records.genealogy
    found = trace(genealogy, item_id, directions, depth)
    # the recall list is whole, however short the trace that was asked for
    whole = found if depth is None or "forward" not in directions else trace(genealogy, item_id, ["forward"])
    asked = pl.concat([found.items["item_id"], whole.items["item_id"]]).unique().sort()
    measured, events = records.measurement(asked), records.segment_event(asked)
    doubtful = recall_in_doubt(genealogy, _onward(whole.items), records.refused) if "forward" in directions else None
    touched = asked if doubtful is None else pl.concat([asked, doubtful["item_id"]])
    refused = records.refused.filter(pl.any_horizontal(pl.col("parent_id", "child_id").is_in(touched.implode())))
    if genealogy.place(item_id) is None and refused.is_empty() and not _names(item_id, measured, events):
        raise _unknown(records, item_id, kind)
    items = with_kinds(found.items, measured, events)
    recalled = recall(genealogy, item_id, events, measured) if "forward" in directions else None
    judged = trace_measurements(items, measured, records.specifications, *records.chart(measured))
    orders = pl.concat([found.links["job_order_id"], judged["job_order_id"]]).drop_nulls().unique().sort()
    start = items.filter(pl.col("relation") == "start")
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "software": _software(),
        "origin": dict(records.origin),
        "start": {"item_id": item_id, "asked_as": kind, "item_kind": start["item_kind"][0]},
        "options": dict(options),
        "summary": {
            "ancestors": items.filter(pl.col("relation") == "ancestor").height,
            "descendants": items.filter(pl.col("relation") == "descendant").height,
            "links": found.links.height,
            "measurements": judged.height,
            "out_of_specification": judged.filter(pl.col("verdict").is_in(["below_lsl", "above_usl"])).height,
            "with_signals": judged["signals"].is_not_null().sum(),
            "recalled": None if recalled is None else recalled.height,
            "recalled_finished": None if recalled is None else recalled["is_finished"].sum(),
            "recall_in_doubt": None if doubtful is None else doubtful.height,
            "links_in_genealogy": genealogy.edges.height,
            "refused_links": refused.height,
            "links_refused_in_all": records.refused.height,
            "links_without_ends": records.refused.filter(_is_without_end()).height,
        },
        "items": items,
        "links": found.links,
        "measurements": judged,
        "limit_versions": records.limit_versions(judged),
        "specifications": _specifications(records, judged),
        "violations": records.violations(judged),
        "work_orders": records.work_orders(orders),
        "recall": recalled,
        "recall_in_doubt": doubtful,
        "refused_links": refused,
    }
    return document | {"warnings": _warnings(document, depth)}


def _onward(items: pl.DataFrame) -> pl.Series:
    import polars as pl

    return items.filter(pl.col("relation") != "ancestor")["item_id"]


def _is_without_end() -> pl.Expr:
    import polars as pl

    return pl.any_horizontal(pl.col("parent_id", "child_id").is_null())


def _names(item_id: str, measured: pl.DataFrame, events: pl.DataFrame) -> bool:
    columns = (measured["serial_number"], measured["material_lot_id"], events["item_id"])
    return any(bool((column == item_id).any()) for column in columns)


def _unknown(records: Records, item_id: str, kind: str) -> ContractError:
    ids = records.genealogy.nodes["item_id"]
    place = int(ids.search_sorted(item_id)) if ids.len() else 0
    near = ids[max(0, place - 1) : place + 1].to_list()
    hint = f" Next to it in order: {', '.join(map(repr, near))}." if near else ""
    return ContractError(
        f"{records.origin['name']}: no link, measurement or operation names the {kind} {item_id!r}.{hint} Check the identifier "
        "(upper and lower case and leading zeros count).",
        code=UNKNOWN_ITEM,
    )


def _specifications(records: Records, judged: pl.DataFrame) -> pl.DataFrame:
    used = judged.select("characteristic_id", version="specification_version").drop_nulls().unique()
    return records.specifications.join(used, on=["characteristic_id", "version"], how="semi").sort(
        "characteristic_id", "version"
    )


def _warnings(document: Mapping[str, Any], depth: int | None) -> list[str]:
    import polars as pl

    start, items, links, recalled = (document[name] for name in ("start", "items", "links", "recall"))
    warnings = []
    if start["item_kind"] not in (None, start["asked_as"]):
        warnings.append(
            f"{start['item_id']} was asked for as a {start['asked_as']}, but records say that it is a {start['item_kind']}."
        )
    refused = document["refused_links"].height
    if refused:
        warnings.append(f"{refused} refused links name items of this trace; what they say is missing here: see refused_links.")
    doubtful = document["recall_in_doubt"]
    if doubtful is not None and doubtful.height:
        warnings.append(
            f"the recall list is short by up to {doubtful.height} items, if refused links are right: see recall_in_doubt."
        )
    lost = document["summary"]["links_without_ends"]
    if lost:
        warnings.append(f"{lost} refused links do not say both what was used and what came of it; nobody knows whose they are.")
    issues = links["time_issue"].is_not_null().sum()
    if issues:
        warnings.append(f"{issues} links used their parent before it was made; they count all the same: see time_issue.")
    if depth is not None and not items.filter(~pl.col("is_end") & (pl.col("depth") == depth)).is_empty():
        warnings.append(f"the trace ends at depth {depth}; more is linked beyond (the recall list is complete).")
    if recalled is not None and recalled["reason"].is_not_null().any():
        warnings.append("shares are empty where a quantity on the way is not stated.")
    return warnings


def _software() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return {"name": "spc-platform", "version": version("spc-platform")}
    except PackageNotFoundError:
        return {"name": "spc-platform", "version": "unknown"}


def document_json(document: Mapping[str, Any]) -> str:
    """The document as text, one line per row; times in ISO 8601, what is missing is null."""
    return "{\n" + ",\n".join(f" {json.dumps(name)}: {_laid_out(value)}" for name, value in document.items()) + "\n}\n"


def _laid_out(value: Any) -> str:
    if not hasattr(value, "to_dicts"):
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    rows = [{name: _plain(cell) for name, cell in row.items()} for row in value.to_dicts()]
    lines = ",\n".join("  " + json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)
    return f"[\n{lines}\n ]" if rows else "[]"


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value


def _print(document: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    start, summary = document["start"], document["summary"]
    console.print(f"{start['item_kind'] or start['asked_as']} {start['item_id']} ({document['origin']['name']})", markup=False)
    console.print(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in summary.items() if value is not None))
    for name, (title, columns) in _TABLES.items():
        frame = document[name]
        if frame is None or frame.is_empty():
            continue
        table = Table(title=title, title_justify="left")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in frame.select(columns).head(SHOWN).iter_rows():
            table.add_row(*(_shown(cell) for cell in row))
        console.print(table)
        if frame.height > SHOWN:
            console.print(f"… and {frame.height - SHOWN} more; --format json lists all")
    for warning in document["warnings"]:
        console.print(f"warning: {warning}", markup=False)


def _shown(cell: Any) -> str:
    from rich.markup import escape

    if isinstance(cell, datetime):
        return f"{cell:%Y-%m-%d %H:%M:%S}"
    return f"{cell:.6g}" if isinstance(cell, float) else "" if cell is None else escape(str(_plain(cell)))

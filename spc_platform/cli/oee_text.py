"""Elements and ratios of a study as rows of the document, as JSON and as text for a terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from spc_platform.production.oee import oee_ratios

ELEMENTS = ("pot_s", "pdt_s", "pbt_s", "apt_s", "aust_s", "adet_s", "minor_stop_s", "adot_s", "unknown_s")
COUNTS = ("pq", "gq", "sq", "rq")
_ISO = ("availability", "effectiveness", "quality", "oee", "nee")
_TPM = {"availability": "tpm_availability", "performance": "tpm_performance", "quality": "tpm_quality", "oee": "oee"}
_PARTS = ("pdt_s", "apt_s", "aust_s", "adet_s", "adot_s", "unknown_s")
GROUPS = {
    "shift": "shift_id",
    "product": "material_definition_id",
    "unit": "equipment_id",
    "line": "work_center_id",
    "date": "production_date",
    "week": "week",
}


def with_groups(elements: pl.DataFrame, equipment: pl.DataFrame | None) -> pl.DataFrame:
    """The elements with the columns that ``GROUPS`` may name: week and, where the file of equipment says it, line."""
    week = pl.concat_str(
        pl.col("production_date").dt.iso_year().cast(pl.String),
        pl.lit("-W"),
        pl.col("production_date").dt.week().cast(pl.String).str.zfill(2),
    )
    rows = elements.drop("work_center_id").with_columns(week=week)
    if equipment is None:
        return rows.with_columns(work_center_id=pl.lit(None, dtype=pl.String))
    lines = equipment.select("equipment_id", "work_center_id").unique("equipment_id", keep="first", maintain_order=True)
    return rows.join(lines, on="equipment_id", how="left", maintain_order="left")


def group_rows(elements: pl.DataFrame, columns: list[str]) -> list[dict[str, Any]]:
    """Elements, counts and ratios summed over ``columns``, one row per group of the document; all in one without columns."""
    ratios = oee_ratios(elements, columns).to_dicts()
    names = {column: name for name, column in GROUPS.items()}
    return [
        {
            "group": {names[column]: _plain_value(row[column]) for column in columns},
            "elements": {name: row[name] for name in ELEMENTS},
            "partition_error_s": round(sum(round(row[name] * 1e6) for name in _PARTS) - round(row["pot_s"] * 1e6)) / 1e6,
            "counts": {name: row[name] for name in COUNTS},
            "ideal_s": {"pq": row["ideal_pq_s"], "gq": row["ideal_gq_s"]},
            "iso_22400": {name: row[name] for name in _ISO},
            "tpm": {name: row[column] for name, column in _TPM.items()},
            "reason": row["reason"],
            "suspect_ideal_cycle": row["suspect_ideal_cycle"],
        }
        for row in ratios
    ]


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its times and dates as ISO 8601 texts."""
    return {name: _plain_value(value) for name, value in row.items()}


def _plain_value(value: object) -> object:
    if isinstance(value, datetime):
        return moment(value)
    return value.isoformat() if hasattr(value, "isoformat") else value


def moment(at: datetime) -> str:
    """The instant in UTC, written with Z."""
    return at.astimezone(ZoneInfo("UTC")).isoformat().replace("+00:00", "Z")


def document_json(document: Mapping[str, Any]) -> str:
    """The document as JSON."""
    return json.dumps(document, ensure_ascii=False, allow_nan=False, indent=2) + "\n"


def oee_text(document: Mapping[str, Any]) -> str:
    """The document for a terminal: ratios and elements of every group and of all, then rows that need a look."""
    import io

    from rich.console import Console
    from rich.table import Table

    console = Console(file=io.StringIO(), width=140)
    by = list(document["options"]["by"])
    keys = [*by] or ["total"]
    lines = [*document["groups"], document["total"]]
    told = [[str(line["group"][name]) for name in by] if line["group"] else ["all", *[""] * (len(keys) - 1)] for line in lines]
    ratios = Table(*keys, *_ISO, "TPM A", "TPM P", "why", title="OEE: ISO 22400-2, and availability and performance of TPM")
    elements = Table(*keys, *ELEMENTS, *COUNTS, title="Elements")
    for names, line in zip(told, lines, strict=True):
        suspect = "SUSPECT_IDEAL_CYCLE" if line["suspect_ideal_cycle"] else ""
        why = ";".join(text for text in (line["reason"], suspect) if text)
        shown = [*(line["iso_22400"][name] for name in _ISO), line["tpm"]["availability"], line["tpm"]["performance"]]
        ratios.add_row(*names, *("-" if value is None else f"{value:.4f}" for value in shown), why)
        elements.add_row(
            *names, *(f"{line['elements'][name]:.10g}" for name in ELEMENTS), *(str(line["counts"][name]) for name in COUNTS)
        )
    console.print(ratios)
    console.print(elements)
    console.print(f"as of {document['as_of']}, zone {document['zone']}", highlight=False)
    for kind in ("rejected", "resolved"):
        for row in document[kind]:
            detail = f" ({row['detail']})" if row["detail"] else ""
            text = f"{kind}: {row['table']} row {row['row']}: {row['code']}: {row['why']}{detail}; {row['remedy']}"
            console.print(text, highlight=False, markup=False, soft_wrap=True)
    for row in document["gaps"]:
        text = f"no state: {row['equipment_id']} {row['start_at']} to {row['end_at']} ({row['duration_s']:.10g} s)"
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    for row in document.get("counter_deltas", []):
        if row["rule"] not in ("step", "unchanged"):
            counted = "nothing" if row["delta"] is None else f"{row['delta']:.10g}"
            text = f"counter: row {row['row']}: {row['equipment_id']} {row['kind']}: {row['rule']}: {counted} counted"
            console.print(f"{text} until {row['end_at']}", highlight=False, markup=False, soft_wrap=True)
    for row in document.get("signal_states", []):
        if row["absorbed"]:
            text = f"signals: {row['equipment_id']} {row['state']} from {row['start_at']}: {row['absorbed']} shorter states"
            console.print(f"{text} merged ({row['absorbed_s']:.10g} s)", highlight=False, markup=False, soft_wrap=True)
    for text in document["warnings"]:
        console.print(f"warning: {text}", highlight=False, markup=False, soft_wrap=True)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]

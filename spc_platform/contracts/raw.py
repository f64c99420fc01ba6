"""Raw tables: what a source said, typed, every revision kept. One row per landed record.

Columns of the payload are nullable here: a record that cannot be read in full is kept with its
``decode_error`` and its text, and is refused by the core table with that reason.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl

from spc_platform.contracts.operations import (
    MATERIAL_LINK_PAYLOAD,
    SEGMENT_EVENT_PAYLOAD,
    SIGNAL_EVENT_PAYLOAD,
    WORK_ORDER_EVENT_PAYLOAD,
)
from spc_platform.contracts.table import PRODUCTION_DATE, Column, Table, count, flag, identifier, moment, text

LINEAGE: tuple[Column, ...] = (
    identifier("source_id", "Configured source that delivered the record."),
    text("record_id", "The record's identity in its source; natural key together with source and revision."),
    count("revision", "Revision number of the record in its source; the highest is in force."),
    moment("updated_at", "When the source wrote this revision (source's clock).", nullable=True),
    identifier("page_sha256", "SHA-256 of the landed page that holds the record."),
    Column("page_row", pl.Int64, "Position of the record in its landed page, from 0.", ge=0),
    PRODUCTION_DATE,
)

_STATUS: tuple[Column, ...] = (
    flag("is_current", "False when a later revision of the record is known, on this or another production date."),
    flag("is_deleted", "The source marked the record as deleted in this revision."),
    text("decode_error", "Why fields of the record could not be read, as column:REASON joined by ;.", nullable=True),
    text("raw_record", "The record's own text, kept only when it could not be read in full.", nullable=True),
    text(
        "decode_note",
        "What had to be assumed to read the record, as column:ASSUMPTION joined by ;, e.g. which of two equal local times.",
        nullable=True,
    ),
)


def _raw(name: str, description: str, payload: tuple[Column, ...], sort: tuple[str, ...]) -> Table:
    nullable = tuple(replace(column, nullable=True, ge=None, gt=None, le=None, isin=(), finite=False) for column in payload)
    return Table(
        name=name,
        description=description,
        columns=(*LINEAGE, *_STATUS, *nullable),
        # A source may say two things under one revision: both stay, and the page tells them apart.
        key=("source_id", "record_id", "revision", "page_sha256", "page_row"),
        sort=sort,
    )


MEASUREMENT_PAYLOAD: tuple[Column, ...] = (
    identifier("characteristic_id", "What was measured."),
    identifier("equipment_id", "Work unit that made the part."),
    moment("measured_at", "When the value was measured (station's clock)."),
    Column("value", pl.Float64, "The measured value, unchanged.", unit="<unit>"),
    identifier("unit", "Unit of the value as stated by the source."),
    text("serial_number", "Serial number of the part.", nullable=True),
    identifier("material_lot_id", "Lot of the part.", nullable=True),
    identifier("job_order_id", "Work order under which the part was made.", nullable=True),
    text("subgroup_key", "Sample to which the measurement belongs, where the source forms rational subgroups.", nullable=True),
)

TELEMETRY_PAYLOAD: tuple[Column, ...] = (
    identifier("stream_id", "Signal of a station."),
    moment("observed_at", "When the station observed the value (station's clock)."),
    Column("value", pl.Float64, "The observed value, unchanged.", unit="<unit>"),
    identifier("unit", "Unit of the value as stated by the source."),
)

EQUIPMENT_STATE_PAYLOAD: tuple[Column, ...] = (
    identifier("equipment_id", "Work unit."),
    identifier("state", "State as named by the source; mapped to the site's states."),
    identifier("reason_code", "Reason for the state.", nullable=True),
    moment("start_at", "When the state began."),
    moment("end_at", "When it ended; empty while it lasts, or when the next state ends it.", nullable=True),
)

PRODUCTION_COUNT_PAYLOAD: tuple[Column, ...] = (
    identifier("equipment_id", "Work unit."),
    identifier("job_order_id", "Work order.", nullable=True),
    identifier("material_definition_id", "Product."),
    moment("counted_at", "When the parts were finished."),
    count("good_quantity", "Parts good at first pass."),
    count("scrap_quantity", "Parts scrapped."),
    count("rework_quantity", "Parts sent to rework."),
    identifier("reason_code", "Reason for scrap or rework.", nullable=True),
)

WORK_ORDER_PAYLOAD: tuple[Column, ...] = (
    identifier("job_order_id", "Work order."),
    identifier("work_center_id", "Line on which it runs."),
    identifier("material_definition_id", "Product."),
    count("planned_quantity", "Parts ordered."),
    moment("start_at", "When production of the order began on the line."),
    moment("end_at", "When it ended; empty while it runs.", nullable=True),
)

RAW_MEASUREMENT = _raw(
    "raw_measurement",
    "Measurements of characteristics as delivered.",
    MEASUREMENT_PAYLOAD,
    ("characteristic_id", "measured_at"),
)
RAW_TELEMETRY = _raw(
    "raw_telemetry", "Values of station streams as delivered.", TELEMETRY_PAYLOAD, ("stream_id", "observed_at")
)
RAW_EQUIPMENT_STATE = _raw(
    "raw_equipment_state", "States of work units as delivered.", EQUIPMENT_STATE_PAYLOAD, ("equipment_id", "start_at")
)
RAW_PRODUCTION_COUNT = _raw(
    "raw_production_count", "Counts of produced parts as delivered.", PRODUCTION_COUNT_PAYLOAD, ("equipment_id", "counted_at")
)
RAW_WORK_ORDER = _raw("raw_work_order", "Work orders as delivered.", WORK_ORDER_PAYLOAD, ("work_center_id", "start_at"))
RAW_WORK_ORDER_EVENT = _raw(
    "raw_work_order_event",
    "What happened to work orders as delivered.",
    WORK_ORDER_EVENT_PAYLOAD,
    ("job_order_id", "occurred_at"),
)
RAW_SEGMENT_EVENT = _raw(
    "raw_segment_event",
    "What happened to lots and parts at operations as delivered.",
    SEGMENT_EVENT_PAYLOAD,
    ("item_id", "occurred_at"),
)
RAW_MATERIAL_LINK = _raw(
    "raw_material_link",
    "Which material went into which as delivered.",
    MATERIAL_LINK_PAYLOAD,
    ("child_id", "occurred_at"),
)
RAW_SIGNAL_EVENT = _raw(
    "raw_signal_event",
    "What signals of work units said as delivered.",
    SIGNAL_EVENT_PAYLOAD,
    ("equipment_id", "occurred_at"),
)

EVENT_TIME: dict[str, str] = {
    "raw_measurement": "measured_at",
    "raw_telemetry": "observed_at",
    "raw_equipment_state": "start_at",
    "raw_production_count": "counted_at",
    "raw_work_order": "start_at",
    "raw_work_order_event": "occurred_at",
    "raw_segment_event": "occurred_at",
    "raw_material_link": "occurred_at",
    "raw_signal_event": "occurred_at",
}
"""The column of each raw table that decides its production date."""

_DTYPES: dict[str, Any] = {column.name: column.dtype for column in (*LINEAGE, *_STATUS)}
DECODED_DTYPES: dict[str, Any] = {
    name: _DTYPES[name]
    for name in ("page_row", "record_id", "revision", "updated_at", "is_deleted", "decode_error", "raw_record")
}
"""What decoding a page gives of a record before its payload; landing fills in the rest of the lineage."""

PAYLOAD: dict[str, tuple[Column, ...]] = {
    "raw_measurement": MEASUREMENT_PAYLOAD,
    "raw_telemetry": TELEMETRY_PAYLOAD,
    "raw_equipment_state": EQUIPMENT_STATE_PAYLOAD,
    "raw_production_count": PRODUCTION_COUNT_PAYLOAD,
    "raw_work_order": WORK_ORDER_PAYLOAD,
    "raw_work_order_event": WORK_ORDER_EVENT_PAYLOAD,
    "raw_segment_event": SEGMENT_EVENT_PAYLOAD,
    "raw_material_link": MATERIAL_LINK_PAYLOAD,
    "raw_signal_event": SIGNAL_EVENT_PAYLOAD,
}

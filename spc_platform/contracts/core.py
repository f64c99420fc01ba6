"""Core tables: current revisions that keep every rule, each with its sibling of rejected rows."""

from __future__ import annotations

from spc_platform.contracts.operations import (
    MATERIAL_LINK_PAYLOAD,
    SEGMENT_EVENT_PAYLOAD,
    SIGNAL_EVENT_PAYLOAD,
    WORK_ORDER_EVENT_PAYLOAD,
)
from spc_platform.contracts.raw import (
    EQUIPMENT_STATE_PAYLOAD,
    LINEAGE,
    MEASUREMENT_PAYLOAD,
    PRODUCTION_COUNT_PAYLOAD,
    RAW_EQUIPMENT_STATE,
    RAW_MATERIAL_LINK,
    RAW_MEASUREMENT,
    RAW_PRODUCTION_COUNT,
    RAW_SEGMENT_EVENT,
    RAW_SIGNAL_EVENT,
    RAW_TELEMETRY,
    RAW_WORK_ORDER,
    RAW_WORK_ORDER_EVENT,
    TELEMETRY_PAYLOAD,
    WORK_ORDER_PAYLOAD,
)
from spc_platform.contracts.table import Table, count, identifier, text

_UNIT_CONVERSION = text(
    "unit_conversion", "Registered conversion applied to value and unit, e.g. in>mm; empty when none.", nullable=True
)
_SHIFT = identifier("shift_id", "Shift during which it happened; empty outside all shifts.", nullable=True)
_WORK_CENTER = identifier("work_center_id", "Line of the work unit.")

MEASUREMENT = Table(
    name="measurement",
    description="Valid measurements in the unit of their characteristic, each with the specification version in force when it was made.",
    columns=(
        *LINEAGE,
        *MEASUREMENT_PAYLOAD,
        _WORK_CENTER,
        _SHIFT,
        count("specification_version", "Specification in force at measured_at; empty when none was.", nullable=True, ge=None),
        _UNIT_CONVERSION,
    ),
    key=("source_id", "record_id"),
    sort=("characteristic_id", "measured_at"),
)

TELEMETRY = Table(
    name="telemetry",
    description="Valid values of declared station streams in the stream's unit.",
    columns=(*LINEAGE, *TELEMETRY_PAYLOAD, identifier("equipment_id", "Work unit of the stream."), _UNIT_CONVERSION),
    key=("source_id", "record_id"),
    sort=("stream_id", "observed_at"),
)

EQUIPMENT_STATE = Table(
    name="equipment_state",
    description="Valid state records of work units, in the site's states.",
    columns=(*LINEAGE, *EQUIPMENT_STATE_PAYLOAD, _WORK_CENTER),
    key=("source_id", "record_id"),
    sort=("equipment_id", "start_at"),
)

PRODUCTION_COUNT = Table(
    name="production_count",
    description="Valid counts of produced parts.",
    columns=(*LINEAGE, *PRODUCTION_COUNT_PAYLOAD, _WORK_CENTER, _SHIFT),
    key=("source_id", "record_id"),
    sort=("equipment_id", "counted_at"),
)

WORK_ORDER = Table(
    name="work_order",
    description="Valid work orders.",
    columns=(*LINEAGE, *WORK_ORDER_PAYLOAD),
    key=("source_id", "record_id"),
    sort=("work_center_id", "start_at"),
)

WORK_ORDER_EVENT = Table(
    name="work_order_event",
    description="Valid events of work orders.",
    columns=(*LINEAGE, *WORK_ORDER_EVENT_PAYLOAD),
    key=("source_id", "record_id"),
    sort=("job_order_id", "occurred_at"),
)

SEGMENT_EVENT = Table(
    name="segment_event",
    description="Valid events of lots and parts at operations.",
    columns=(*LINEAGE, *SEGMENT_EVENT_PAYLOAD),
    key=("source_id", "record_id"),
    sort=("item_id", "occurred_at"),
)

MATERIAL_LINK = Table(
    name="material_link",
    description="Valid links from material that was used to material that came of it.",
    columns=(*LINEAGE, *MATERIAL_LINK_PAYLOAD),
    key=("source_id", "record_id"),
    sort=("child_id", "occurred_at"),
)

SIGNAL_EVENT = Table(
    name="signal_event",
    description="Valid statements of the signals of work units, from which state_interval makes states.",
    columns=(*LINEAGE, *SIGNAL_EVENT_PAYLOAD),
    key=("source_id", "record_id"),
    sort=("equipment_id", "occurred_at"),
)

_REASONS = text("reasons", "Every rule that the row breaks, as column:REASON joined by ;.")


def _rejected(core: Table, raw: Table) -> Table:
    return Table(
        name=f"{core.name}_rejected",
        description=f"Rows refused by {core.name}, with every reason.",
        columns=(*raw.columns, _REASONS),
        key=raw.key,
        sort=raw.sort,
    )


MEASUREMENT_REJECTED = _rejected(MEASUREMENT, RAW_MEASUREMENT)
TELEMETRY_REJECTED = _rejected(TELEMETRY, RAW_TELEMETRY)
EQUIPMENT_STATE_REJECTED = _rejected(EQUIPMENT_STATE, RAW_EQUIPMENT_STATE)
PRODUCTION_COUNT_REJECTED = _rejected(PRODUCTION_COUNT, RAW_PRODUCTION_COUNT)
WORK_ORDER_REJECTED = _rejected(WORK_ORDER, RAW_WORK_ORDER)
WORK_ORDER_EVENT_REJECTED = _rejected(WORK_ORDER_EVENT, RAW_WORK_ORDER_EVENT)
SEGMENT_EVENT_REJECTED = _rejected(SEGMENT_EVENT, RAW_SEGMENT_EVENT)
MATERIAL_LINK_REJECTED = _rejected(MATERIAL_LINK, RAW_MATERIAL_LINK)
SIGNAL_EVENT_REJECTED = _rejected(SIGNAL_EVENT, RAW_SIGNAL_EVENT)

CORE_TABLES = {
    table.name: table
    for table in (
        MEASUREMENT,
        TELEMETRY,
        EQUIPMENT_STATE,
        PRODUCTION_COUNT,
        WORK_ORDER,
        WORK_ORDER_EVENT,
        SEGMENT_EVENT,
        MATERIAL_LINK,
        SIGNAL_EVENT,
    )
}
"""Every core table by its name, which is also that of its record."""

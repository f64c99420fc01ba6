"""Table contracts: the only place where a column is first named. No I/O, no dagster."""

from spc_platform.contracts import (
    alarms,
    core,
    fitness,
    performance,
    phases,
    prepared,
    production,
    raw,
    site,
    spc,
    vectors,
)
from spc_platform.contracts.clock import CLOCK_OFFSET
from spc_platform.contracts.energy import ENERGY_BY_STATE, ENERGY_INTERVAL, ENERGY_PER_PART
from spc_platform.contracts.events import OPERATIONS_EVENT
from spc_platform.contracts.genealogy import LOT_GENEALOGY, LOT_GENEALOGY_REFUSED
from spc_platform.contracts.orders import WIP_FINDING, WIP_INTERVAL, WORK_ORDER_STATUS
from spc_platform.contracts.part_counts import COUNT_COMPARISON, PART_COUNT, PART_COUNTER_DELTA
from spc_platform.contracts.reconciliation import RECONCILIATION
from spc_platform.contracts.table import Column, Table

LAKE_TABLES: dict[str, Table] = {
    table.name: table
    for module in (raw, core, prepared, spc, vectors, fitness, phases, alarms, production, performance)
    for table in vars(module).values()
    if isinstance(table, Table)
} | {
    table.name: table
    for table in (
        CLOCK_OFFSET,
        RECONCILIATION,
        OPERATIONS_EVENT,
        PART_COUNTER_DELTA,
        PART_COUNT,
        COUNT_COMPARISON,
        WORK_ORDER_STATUS,
        WIP_INTERVAL,
        WIP_FINDING,
        ENERGY_INTERVAL,
        ENERGY_BY_STATE,
        ENERGY_PER_PART,
        LOT_GENEALOGY,
        LOT_GENEALOGY_REFUSED,
    )
}
"""Every table of the lake by name."""

__all__ = ["LAKE_TABLES", "Column", "Table", "core", "prepared", "production", "raw", "site", "spc"]

"""Table contracts: the only place where a column is first named. No I/O, no dagster."""

from spc_platform.contracts import alarms, core, fitness, phases, prepared, production, raw, site, spc, vectors
from spc_platform.contracts.table import Column, Table

LAKE_TABLES: dict[str, Table] = {
    table.name: table
    for module in (raw, core, prepared, spc, vectors, fitness, phases, alarms, production)
    for table in vars(module).values()
    if isinstance(table, Table)
}
"""Every table of the lake by name."""

__all__ = ["LAKE_TABLES", "Column", "Table", "core", "prepared", "production", "raw", "site", "spc"]

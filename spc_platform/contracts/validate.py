"""Validation of an eager frame against its contract.

Core tables, the gate between what sources said and what figures rest on, go through pandera. Tables that
are computed from them obey the same rules through plain expressions: pandera costs 2 ms a column, which
for all tables of all production dates would be most of a run.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import polars as pl

from spc_platform.contracts.table import Table

if TYPE_CHECKING:
    import pandera.polars as pa


@cache
def _schema(name: str) -> pa.DataFrameSchema:
    from spc_platform.contracts import LAKE_TABLES

    return LAKE_TABLES[name].pandera_schema()


def rule_failures(table: Table, frame: pl.DataFrame) -> list[str]:
    """Every broken column rule and a broken key as ``column:REASON (count)``; empty when the frame keeps its contract."""
    rules = [rule for column in table.columns for rule in column.violation_rules()]
    counts = frame.select(bad.sum().alias(code) for code, bad in rules).row(0, named=True)
    duplicates = frame.height - frame.select(table.key).n_unique()
    return [f"{code} ({count})" for code, count in {**counts, "key:DUPLICATE": duplicates}.items() if count]


def pandera_failures(table: Table, frame: pl.DataFrame) -> list[str]:
    """Every broken rule as ``column: check (count)``; empty when the frame keeps its contract.

    The frame must be eager: pandera checks a LazyFrame for its schema only, and values would pass unseen.
    """
    import pandera.errors

    if not isinstance(frame, pl.DataFrame):
        raise TypeError(f"contract {table.name}: validate eager frames, not {type(frame).__name__}")
    try:
        _schema(table.name).validate(frame, lazy=True)
    except pandera.errors.SchemaErrors as error:
        counts: dict[str, int] = {}
        for failure in error.failure_cases.iter_rows(named=True):
            rule = f"{failure['column']}: {failure['check']}"
            counts[rule] = counts.get(rule, 0) + 1
        return [f"{rule} ({count})" for rule, count in sorted(counts.items())]
    return []

"""Checks that can be run again without remaking the table: Great Expectations suites and the lake's integrity."""

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

import dagster as dg
import polars as pl

from spc_platform.engine import Workspace
from spc_platform.engine.steps import CORE
from spc_platform.errors import LakeError
from spc_platform.orchestration.partitions import as_dates
from spc_platform.orchestration.resources import WorkspaceResource

EXPECTATIONS = "great_expectations"
BATCH_ROWS = 1_000_000
"""Great Expectations costs about 0.1 s a batch whatever its size: dates are joined up to this many rows."""


def _batches(plant: Workspace, table: str, dates: Sequence[date]) -> Iterator[tuple[list[date], pl.DataFrame]]:
    """Dates and their rows, joined up to BATCH_ROWS. A failure is remembered for all dates of its batch."""
    pending: dict[date, pl.DataFrame] = {}
    for day in dates:
        pending[day] = plant.lake.read(table, day)
        if sum(frame.height for frame in pending.values()) >= BATCH_ROWS:
            yield list(pending), pl.concat(pending.values())
            pending = {}
    if pending:
        yield list(pending), pl.concat(pending.values())


def _dates_of(context: dg.AssetCheckExecutionContext, plant: Workspace, table: str) -> list[date]:
    """The production dates of the run, or all that the lake holds when the check is run on its own."""
    step = context.op_execution_context
    return as_dates(step.partition_keys) if step.has_partition_key or step.has_partition_key_range else plant.lake.dates(table)


def expectation_check(table: str) -> dg.AssetChecksDefinition:
    """The Great Expectations suite of one core table as a blocking asset check."""

    @dg.asset_check(
        asset=table,
        name=EXPECTATIONS,
        blocking=True,
        description=f"Great Expectations suite of {table}: required columns, natural key, and what the site folder knows.",
    )
    def check(context: dg.AssetCheckExecutionContext, workspace: WorkspaceResource) -> dg.AssetCheckResult:
        from spc_platform.contracts.expectations import validate

        plant = workspace.open()
        dates = _dates_of(context, plant, table)
        rows = 0
        for days, frame in _batches(plant, table, dates):
            failed = validate(table, frame, plant.site)
            rows += frame.height
            for day in days:
                plant.verdicts.record(table, day, [(EXPECTATIONS, not failed, "; ".join(failed))])
        failing = [f"{day}: {text}" for _, name, day, text in plant.verdicts.failed(table) if name == EXPECTATIONS]
        return dg.AssetCheckResult(
            passed=not failing,
            description="; ".join(failing[:5]) or "All expectations hold.",
            metadata={"rows": rows, "production_dates": len(dates), "production_dates_failing": len(failing)},
        )

    return check


def integrity_check(table: str) -> dg.AssetChecksDefinition:
    """Every file of the table still has the sha256 of its manifest."""

    @dg.asset_check(
        asset=table,
        name="files_unaltered",
        description="Each Parquet file that a manifest names exists and has the sha256 that was committed.",
    )
    def check(workspace: WorkspaceResource) -> dg.AssetCheckResult:
        lake = workspace.open().lake
        problems: list[str] = []
        days = lake.dates(table)
        for day in days:
            try:
                lake.read(table, day, columns=["production_date"])
            except LakeError as error:
                problems.append(str(error))
        return dg.AssetCheckResult(
            passed=not problems,
            severity=dg.AssetCheckSeverity.ERROR,
            description="; ".join(problems[:5]) or "All files are as they were committed.",
            metadata={"files": len(days), "altered": len(problems)},
        )

    return check


def all_checks() -> list[Any]:
    return [*(expectation_check(table) for table in CORE), integrity_check("measurement")]

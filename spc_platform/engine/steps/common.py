"""What all steps share: the commit of a conformed frame with its contract check, and windows of inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date

import polars as pl

from spc_platform.contracts import LAKE_TABLES
from spc_platform.contracts.core import CORE_TABLES
from spc_platform.contracts.validate import pandera_failures, rule_failures
from spc_platform.engine.step import Check, CheckSpec, Input, Outcome
from spc_platform.engine.workspace import Workspace

CORE = tuple(CORE_TABLES)
RAW = tuple(f"raw_{name}" for name in CORE)

LANDED = "landed"
"""Name, among a raw table's inputs, of the digest of the pages that it was made from."""

CONTRACT = CheckSpec("contract", "Every row keeps the table's contract: columns, types, missing values, ranges, key.")
WARN_ABOVE_SHARE = 0.05
"""Share of refused rows, or of time without a state, from which a warning is given."""


def outcome(
    workspace: Workspace,
    table: str,
    frame: pl.DataFrame,
    production_date: date | None,
    inputs: Iterable[tuple[str, date | None]],
    *,
    figures: Mapping[str, float | int] | None = None,
    checks: Iterable[Check] = (),
    landed: str | None = None,
) -> Outcome:
    """Checks the frame against its contract, commits it and reports both.

    ``landed`` is the digest of the change-set of pages that a raw table was made from.
    """
    contract = LAKE_TABLES[table]
    conformed = contract.conform(frame)
    failures = _failures(table, conformed)
    contract_check = CONTRACT.verdict(passed=not failures, description="; ".join(failures) or CONTRACT.description)
    found = workspace.fingerprint(inputs) | ({LANDED: landed} if landed is not None else {})
    commit = workspace.lake.commit(table, conformed, production_date, inputs=found)
    return Outcome(commit, figures or {}, (contract_check, *checks))


def _failures(table: str, frame: pl.DataFrame) -> list[str]:
    """Broken rules of a conformed frame; a frame without rows has its columns and types already and breaks none."""
    if frame.is_empty():
        return []
    return (pandera_failures if table in CORE else rule_failures)(LAKE_TABLES[table], frame)


def dated(make: Callable[[Workspace, date], Iterator[Outcome]]) -> Callable[[Workspace, date | None], Iterator[Outcome]]:
    """The step of a partitioned table: it cannot run without a production date."""

    def run(workspace: Workspace, production_date: date | None) -> Iterator[Outcome]:
        if production_date is None:
            raise ValueError(f"{make.__name__} makes one production date at a time: name it")
        return make(workspace, production_date)

    return run


def own(*tables: str) -> tuple[Input, ...]:
    """Inputs of the same production date."""
    return tuple(Input(table) for table in tables)


def total(series: pl.Series) -> float:
    """Sum of a column as a float; 0 for an empty one."""
    return float(sum_) if isinstance(sum_ := series.sum(), int | float) else 0.0


def share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0

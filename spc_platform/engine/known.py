"""Tables as they were known at an earlier time: the same steps over a scratch lake of the records known then.

The scratch lake holds raw partitions without the revisions that became known later, and what the steps make of them.
Nothing is written to the plant's own lake, ledger or verdicts. The site folder is taken as it is today.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path

import polars as pl

from spc_platform.contracts import LAKE_TABLES
from spc_platform.engine.knowledge import KnownLedger, known_raw, newest_known
from spc_platform.engine.step import Step
from spc_platform.engine.steps import RAW, STEPS
from spc_platform.engine.workspace import Workspace
from spc_platform.errors import ContractError
from spc_platform.lake.store import Lake
from spc_platform.lake.verdicts import Verdicts

KNOWN_GROUPS = ("core", "production")
"""Steps whose tables follow from raw records and the site folder alone. Limits and what rests on them do not: they are
versions that were approved once and kept."""
KNOWN_TABLES = tuple(name for step in STEPS if step.group in KNOWN_GROUPS for name in step.outputs)
"""Tables that can be asked for as known at an earlier time."""

Demand = dict[str, set[date | None]]


@dataclass(frozen=True, slots=True)
class KnownTable:
    """A table as known at ``at`` by ``clock``: ``frame`` by its contract, clipped at ``as_of``.

    ``demand`` names the tables and production dates that it was made from, raw ones among them.
    """

    table: str
    production_date: date | None
    at: datetime
    clock: str
    as_of: datetime
    frame: pl.DataFrame
    demand: Demand

    @property
    def raw_tables(self) -> list[str]:
        return [name for name in self.demand if name in RAW]


def known_table(
    workspace: Workspace,
    table: str,
    at: datetime,
    production_date: date | None = None,
    *,
    clock: str = "source",
    scratch: Path | None = None,
) -> KnownTable:
    """A table, or one production date of it, as it was known at ``at`` (aware).

    ``clock`` is ``source`` (when the source wrote a record) or ``receipt`` (when its page was received). The table is made
    by the steps of the lake in a temporary folder below ``scratch`` (the system's). Raises ContractError SPC-650 for a
    table that cannot be asked for, SPC-651 when the production date is missing, too much or was never made.
    """
    _check_question(workspace, table, production_date)
    demand, chosen = plan(workspace, table, production_date)
    with known_workspace(workspace, at, demand, clock, scratch) as view:
        for step, dates in chosen:
            for day in dates:
                for _ in step.run(view, day):
                    pass
        frame = view.lake.read(table, production_date)
        as_of = view.known_until() if production_date is None else view.as_of(production_date)
    return KnownTable(table, production_date, at, clock, as_of, frame, demand)


@contextmanager
def known_workspace(
    workspace: Workspace, at: datetime, demand: Demand, clock: str = "source", scratch: Path | None = None
) -> Iterator[Workspace]:
    """A scratch workspace that holds the raw partitions of ``demand`` as known at ``at``; removed on leaving."""
    with tempfile.TemporaryDirectory(prefix="spc-known-", dir=scratch) as folder:
        root = Path(folder)
        view = replace(
            workspace,
            settings=workspace.settings.model_copy(update={"data": root}),
            ledger=KnownLedger(workspace.ledger, newest_known(workspace, at, clock)),
            lake=Lake(root / "lake"),
            verdicts=Verdicts(root / "verdicts.sqlite"),
        )
        for table in RAW:
            for day in sorted(day for day in demand.get(table, ()) if day is not None):
                view.lake.commit(table, known_raw(workspace, table, day, at, clock), day)
        yield view


def plan(workspace: Workspace, table: str, production_date: date | None) -> tuple[Demand, list[tuple[Step, list[date | None]]]]:
    """What a partition is made from, and the steps with their dates in the order in which they run.

    Only partitions that the plant's lake holds are asked for: what was never made there is missing here too, so a view of
    now is the lake's own table.
    """
    demand: Demand = {table: {production_date}}
    chosen: list[tuple[Step, list[date | None]]] = []
    for step in reversed(STEPS):
        wanted = set().union(*(demand.get(name, set()) for name in step.outputs))
        if not wanted or step.name == "raw":
            continue
        dates: list[date | None] = sorted(wanted) if step.partitioned else [None]  # type: ignore[type-var]
        chosen.append((step, dates))
        for source in (source for source in step.inputs if source.is_read(workspace.site)):
            demand.setdefault(source.table, set()).update(_input_dates(workspace, step, dates, source.table))
    chosen.reverse()
    return demand, chosen


def _input_dates(workspace: Workspace, step: Step, dates: Sequence[date | None], table: str) -> set[date | None]:
    if not LAKE_TABLES[table].partitioned:
        return {None}
    if not step.partitioned:
        return set(workspace.lake.dates(table))
    policies = workspace.site.policies
    near = {
        near
        for source in step.inputs
        if source.table == table
        for day in dates
        if day is not None
        for near in workspace.window(day, back=source.days_back(policies), ahead=source.ahead)
    }
    return {day for day in near if workspace.lake.has(table, day)}


def _check_question(workspace: Workspace, table: str, production_date: date | None) -> None:
    if table not in KNOWN_TABLES:
        why = "is approved and kept, not made from records alone" if table in LAKE_TABLES else "is no table of the lake"
        raise ContractError(
            f"table {table!r} cannot be asked for as known at an earlier time: it {why}; choose one of "
            f"{', '.join(sorted(KNOWN_TABLES))}",
            code="SPC-650",
        )
    if not LAKE_TABLES[table].partitioned:
        if production_date is not None:
            raise ContractError(f"table {table!r} spans all production dates: leave the date out", code="SPC-651")
    elif production_date is None:
        raise ContractError(f"table {table!r} has a partition per production date: name the date", code="SPC-651")
    if not workspace.lake.has(table, production_date):
        raise ContractError(
            f"{table} {production_date or ''} was never made in {workspace.lake.root}: there is no view of it; run it first "
            "(`spc run`) or name another date",
            code="SPC-651",
        )

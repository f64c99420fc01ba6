"""From landed pages to core tables: raw records, the calendar of the date, acceptance and quarantine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date

import polars as pl

from spc_platform.engine.step import CheckSpec, Outcome, Step
from spc_platform.engine.steps.common import CORE, RAW, WARN_ABOVE_SHARE, dated, outcome, own, share
from spc_platform.engine.workspace import Workspace
from spc_platform.lake.landing import raw_partition
from spc_platform.prepare.quarantine import accept
from spc_platform.production.calendar import shift_calendar

CONSERVATION = CheckSpec("conservation", "Current raw rows = accepted + rejected rows: none was lost.")
REJECTED = CheckSpec("rejected_share", "At most 5 % of the rows were refused.", blocking=False)


def _raw(workspace: Workspace, production_date: date) -> Iterator[Outcome]:
    digest = workspace.ledger.change_digest(production_date)
    for table in RAW:
        frame = raw_partition(table, production_date, workspace.site, workspace.landing, workspace.ledger)
        figures = {
            "rows_superseded": frame.height - int(frame["is_current"].sum()),
            "rows_unreadable": int(frame["decode_error"].is_not_null().sum()),
        }
        yield outcome(workspace, table, frame, production_date, [], figures=figures, landed=digest)


def _calendar(workspace: Workspace, production_date: date) -> Iterator[Outcome]:
    frame = shift_calendar(workspace.site, production_date, production_date)
    yield outcome(workspace, "shift_calendar", frame, production_date, [])


def _core(name: str) -> Callable[[Workspace, date], Iterator[Outcome]]:
    def core(workspace: Workspace, production_date: date) -> Iterator[Outcome]:
        inputs = [(f"raw_{name}", production_date), ("shift_calendar", production_date)]
        raw, calendar = (workspace.lake.read(table, day) for table, day in inputs)
        accepted, rejected = accept(name, raw, workspace.site, calendar)
        current = raw.filter(pl.col("is_current") & ~pl.col("is_deleted")).height
        refused = share(rejected.height, current)
        conservation = CONSERVATION.verdict(
            passed=current == accepted.height + rejected.height,
            description=f"{current} current raw rows, {accepted.height} accepted, {rejected.height} rejected",
        )
        rejected_share = REJECTED.verdict(
            passed=refused <= WARN_ABOVE_SHARE,
            description=f"{rejected.height} of {current} rows refused ({refused:.2%}); {name}_rejected names the reasons",
            figures={"rejected_share": refused},
        )
        figures = {"rows_rejected": rejected.height, "rejected_share": refused}
        checks = (conservation, rejected_share)
        yield outcome(workspace, name, accepted, production_date, inputs, figures=figures, checks=checks)
        yield outcome(workspace, f"{name}_rejected", rejected, production_date, inputs)

    return core


STEPS: tuple[Step, ...] = (
    Step("raw", "raw", RAW, (), dated(_raw)),
    Step("shift_calendar", "production", ("shift_calendar",), (), dated(_calendar)),
    *(
        Step(
            name,
            "core",
            (name, f"{name}_rejected"),
            own(f"raw_{name}", "shift_calendar"),
            dated(_core(name)),
            checks={name: (CONSERVATION, REJECTED)},
        )
        for name in CORE
    ),
)

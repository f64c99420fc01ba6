"""The plain runner: all steps in order over a range of production dates, without an orchestrator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date

from spc_platform.engine.step import Outcome, Step
from spc_platform.engine.steps import STEPS
from spc_platform.engine.workspace import Workspace
from spc_platform.errors import ContractError
from spc_platform.observe.traces import each_spanned


def run_step(workspace: Workspace, step: Step, dates: Sequence[date]) -> Iterable[Outcome]:
    """Outcomes of one step for each date in turn; an unpartitioned step runs once. Memory is bounded by a partition."""
    for production_date in dates if step.partitioned else (None,):
        made = step.run(workspace, production_date)
        for outcome in each_spanned("make table", made, _told, step=step.name, production_date=str(production_date or "")):
            verdicts = [(check.name, check.passed, check.description) for check in outcome.checks]
            workspace.verdicts.record(outcome.table, production_date, verdicts)
            yield outcome


def _told(outcome: Outcome) -> dict[str, str | int]:
    return {"table": outcome.table, "rows": outcome.commit.rows}


def run_range(
    workspace: Workspace,
    dates: Sequence[date],
    *,
    steps: Sequence[Step] = STEPS,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Outcome]:
    """Runs the steps over the dates, step by step. Raises ContractError at the first failed blocking check."""
    outcomes = []
    for step in steps:
        progress(step.name)
        for outcome in run_step(workspace, step, dates):
            outcomes.append(outcome)
            for check in outcome.checks:
                if check.blocking and not check.passed:
                    where = f"{outcome.table} {outcome.commit.production_date or ''}"
                    raise ContractError(f"{where}: check {check.name} failed: {check.description}")
    return outcomes

"""How each source stands, as an asset check of what landed of it: its circuit breaker and the windows that wait."""

from __future__ import annotations

from typing import Any

import dagster as dg

from spc_platform.orchestration.resources import WorkspaceResource
from spc_platform.site import Source
from spc_platform.sources.source_state import SourceState

REACHABLE = "source_reachable"


def reachable_check(source: Source) -> dg.AssetChecksDefinition:
    """The state of a source as it is when the check runs; between runs the source's sensor reports what changes."""

    @dg.asset_check(
        asset=f"landed_{source.source_id}",
        name=REACHABLE,
        blocking=False,
        description="The source's circuit breaker is closed and no window waits to be read. Reported by the source's sensor "
        "whenever that changes.",
    )
    def check(workspace: WorkspaceResource) -> dg.AssetCheckResult:
        [state] = [each for each in workspace.open().source_states() if each.source_id == source.source_id]
        return dg.AssetCheckResult(**_verdict(state))

    return check


def reachable_evaluation(state: SourceState) -> dg.AssetCheckEvaluation:
    """The check's outcome as an event, for a source that no run can land."""
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(f"landed_{state.source_id}"), check_name=REACHABLE, blocking=False, **_verdict(state)
    )


def signature(state: SourceState) -> str:
    """What must change for the state to be reported again; the number of missed polls alone is no news."""
    windows = ",".join(f"{window.resource}={window.since or ''}" for window in state.pending)
    return f"{state.breaker}|{windows}"


def _verdict(state: SourceState) -> dict[str, Any]:
    return {
        "passed": state.is_reachable,
        "severity": dg.AssetCheckSeverity.WARN,
        "description": state.describe(),
        "metadata": {
            "breaker": state.breaker,
            "failures": state.failures,
            "pending_windows": len(state.pending),
            "polls_missed": sum(window.polls for window in state.pending),
            **{f"transitions_to_{name}": count for name, count in state.transitions.items()},
            **{
                name: at.isoformat()
                for name, at in (("opened_at", state.opened_at), ("next_trial_at", state.next_trial_at))
                if at is not None
            },
        },
    }

"""When figures follow new data. Every condition is edge-triggered: a failure waits for the next change or a person.

A level-triggered condition (true as long as something is stale) would relaunch a failing run for ever.
"""

from __future__ import annotations

from typing import Any

import dagster as dg

_BUSY_DEPTH = 4


def _busy_upstream() -> dg.AutomationCondition[Any]:
    """True while any ancestor, up to four steps up, is being made or about to be: the newest input is still to come."""
    here = dg.AutomationCondition.in_progress() | dg.AutomationCondition.will_be_requested()
    busy = here
    for _ in range(_BUSY_DEPTH - 1):
        busy = here | dg.AutomationCondition.any_deps_match(busy)
    return dg.AutomationCondition.any_deps_match(busy).with_label("upstream_busy")


def _any_dependency_changed() -> dg.AutomationCondition[Any]:
    """True when a dependency's content changed since the last tick, or it will be made in this one.

    Content, not the mere event: a limit table that is made again with the same bytes changes nothing, and the
    points of all production dates need not follow it.
    """
    changed = dg.AutomationCondition.data_version_changed() & ~dg.AutomationCondition.executed_with_root_target()
    return dg.AutomationCondition.any_deps_match(changed | dg.AutomationCondition.will_be_requested()).with_label(
        "any_dependency_changed"
    )


def follows_new_data(*, partitioned: bool) -> dg.AutomationCondition[Any]:
    """Once after the content of any dependency changed, when none is in progress and their blocking checks hold.

    ``eager()`` looks at the latest time partition only, which would leave late data behind, and a blocking
    check stops only its own run: hence the explicit terms. A partition waits until all dates of its window
    exist; an unpartitioned asset rests on all dates, of which the coming ones are always missing.
    """
    condition = (
        _any_dependency_changed().since_last_handled()
        & ~dg.AutomationCondition.any_deps_in_progress()
        & ~dg.AutomationCondition.in_progress()
        & dg.AutomationCondition.all_deps_blocking_checks_passed()
    )
    if partitioned:
        condition &= ~dg.AutomationCondition.any_deps_missing()
    return condition.with_label("follows_new_data")


def follows_quiet_upstream() -> dg.AutomationCondition[Any]:
    """As ``follows_new_data``, but waits until nothing upstream is on its way: one build of the marts per change."""
    return (follows_new_data(partitioned=False) & ~_busy_upstream()).with_label("follows_quiet_upstream")

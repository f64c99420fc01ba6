"""When figures follow new data. Every condition is edge-triggered: a failure waits for the next change or a person.

A level-triggered condition (true as long as something is stale) would relaunch a failing run for ever.
"""

from __future__ import annotations

import dagster as dg

_BUSY_DEPTH = 4


def _busy_upstream() -> dg.AutomationCondition:
    """True while any ancestor, up to four steps up, is being made or about to be: the newest input is still to come."""
    here = dg.AutomationCondition.in_progress() | dg.AutomationCondition.will_be_requested()
    busy = here
    for _ in range(_BUSY_DEPTH - 1):
        busy = here | dg.AutomationCondition.any_deps_match(busy)
    return dg.AutomationCondition.any_deps_match(busy).with_label("upstream_busy")


def follows_new_data() -> dg.AutomationCondition:
    """Once after any dependency was updated, when all exist, none is in progress and their blocking checks hold.

    ``eager()`` looks at the latest time partition only, which would leave late data behind, and a blocking
    check stops only its own run: hence the explicit terms.
    """
    return (
        dg.AutomationCondition.any_deps_updated().since_last_handled()
        & ~dg.AutomationCondition.any_deps_missing()
        & ~dg.AutomationCondition.any_deps_in_progress()
        & ~dg.AutomationCondition.in_progress()
        & dg.AutomationCondition.all_deps_blocking_checks_passed()
    ).with_label("follows_new_data")


def follows_quiet_upstream() -> dg.AutomationCondition:
    """As ``follows_new_data``, but waits until nothing upstream is on its way: one build of the marts per change."""
    return (follows_new_data() & ~_busy_upstream()).with_label("follows_quiet_upstream")

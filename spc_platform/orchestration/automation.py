"""When figures follow new data. Every condition is edge-triggered: a failure waits for the next change or a person.

A level-triggered condition (true as long as something is stale) would relaunch a failing run for ever.
"""

from __future__ import annotations

from typing import Any

import dagster as dg

Condition = dg.AutomationCondition[Any]

_BUSY_DEPTH = 4
_NOTHING = dg.AssetSelection.assets()


def _busy() -> Condition:
    """True while an asset, or an ancestor up to three steps up, is being made or is about to be.

    ``will_be_requested`` speaks only of assets that can share a run, which a partitioned and an unpartitioned one
    cannot: an asset whose inputs changed in this tick therefore counts as about to be made.
    """
    here = (
        dg.AutomationCondition.in_progress()
        | dg.AutomationCondition.will_be_requested()
        | dg.AutomationCondition.any_deps_match(dg.AutomationCondition.data_version_changed())
    )
    busy: Condition = here
    for _ in range(_BUSY_DEPTH - 1):
        busy = here | dg.AutomationCondition.any_deps_match(busy)
    return busy


def _changed() -> Condition:
    """True when the content changed since the last tick, or the asset will be made in this one.

    Content, not the mere event: a limit table that is made again with the same bytes changes nothing, and the
    points of all production dates need not follow it.
    """
    changed = dg.AutomationCondition.data_version_changed() & ~dg.AutomationCondition.executed_with_root_target()
    return changed | dg.AutomationCondition.will_be_requested()


def follows_new_data(*, partitioned: bool, ignoring: dg.AssetSelection = _NOTHING) -> Condition:
    """Once after the content of any dependency changed, when none is in progress and their blocking checks hold.

    ``eager()`` looks at the latest time partition only, which would leave late data behind, and a blocking
    check stops only its own run: hence the explicit terms. A partition waits until all dates of its window
    exist; an unpartitioned asset rests on all dates, of which the coming ones are always missing.
    """
    condition = (
        dg.AutomationCondition.any_deps_match(_changed()).ignore(ignoring).since_last_handled()
        & ~dg.AutomationCondition.any_deps_in_progress().ignore(ignoring)
        & ~dg.AutomationCondition.in_progress()
        & dg.AutomationCondition.all_deps_blocking_checks_passed().ignore(ignoring)
    )
    if partitioned:
        condition &= ~dg.AutomationCondition.any_deps_missing().ignore(ignoring)
    return condition.with_label("follows_new_data")


def follows_quiet_upstream(ignoring: dg.AssetSelection = _NOTHING) -> Condition:
    """As ``follows_new_data``, but waits until nothing upstream is on its way: one build of the marts per change.

    ``ignoring`` names dependencies that are made together with the asset: their last failure must not hold
    back the build that mends it.
    """
    busy_upstream = dg.AutomationCondition.any_deps_match(_busy()).ignore(ignoring).with_label("upstream_busy")
    return (follows_new_data(partitioned=False, ignoring=ignoring) & ~busy_upstream).with_label("follows_quiet_upstream")

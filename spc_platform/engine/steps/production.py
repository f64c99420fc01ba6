"""Equipment states, stops and OEE elements."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import polars as pl

from spc_platform.engine.step import CheckSpec, Input, Outcome, Step
from spc_platform.engine.steps.common import WARN_ABOVE_SHARE, dated, outcome, share, total
from spc_platform.engine.workspace import Workspace
from spc_platform.production.oee import counts_outside_shifts, oee_elements
from spc_platform.production.part_counts import with_count_quality
from spc_platform.production.signals import states_with_signals
from spc_platform.production.states import downtime_events, state_intervals

UNKNOWN = CheckSpec("unknown_time", "At most 5 % of planned operation time has no recorded state.", blocking=False)
PARTITION = CheckSpec("time_partition", "PDT + APT + AUST + ADET + ADOT + UNKNOWN = POT for every work unit and shift.")
COUNTED = CheckSpec("counted", "Every production count lies within a shift; others enter no OEE.", blocking=False)
QUANTITIES = CheckSpec("quantities", "good + scrap + rework = produced for every row.")


def _state_interval(workspace: Workspace, production_date: date) -> Iterator[Outcome]:
    back = workspace.site.policies.state_carry_days
    tables = ("equipment_state", "equipment_state_rejected", "work_order", "signal_event")
    recorded, refused, orders, signals = (workspace.read_window(table, production_date, back=back, ahead=1) for table in tables)
    days = workspace.window(production_date, back=back, ahead=1)
    inputs = [(table, day) for table in tables for day in days]
    as_of = workspace.as_of(production_date)
    events = states_with_signals(recorded, signals, workspace.site, as_of)
    frame = state_intervals(events, orders, workspace.site, production_date, as_of, refused)
    known = total(frame["duration_s"])
    unknown = total(frame.filter(pl.col("time_element") == "UNKNOWN")["duration_s"])
    unknown_share = share(unknown, known)
    check = UNKNOWN.verdict(
        passed=unknown_share <= WARN_ABOVE_SHARE,
        description=f"{unknown:.0f} s of {known:.0f} s without a recorded state",
        figures={"unknown_share": unknown_share},
    )
    figures = {"unknown_share": unknown_share}
    yield outcome(workspace, "state_interval", frame, production_date, inputs, figures=figures, checks=(check,))
    stops = downtime_events(events, workspace.site, production_date, as_of, refused)
    yield outcome(workspace, "downtime_event", stops, production_date, inputs)


def _oee(workspace: Workspace, production_date: date) -> Iterator[Outcome]:
    # A part finished as a night shift ends, at the very start of the next date, belongs to that shift.
    days = workspace.window(production_date, ahead=1)
    inputs = [("state_interval", production_date), *(("part_count", day) for day in days)]
    intervals, comparison = (workspace.lake.read(table, production_date) for table in ("state_interval", "count_comparison"))
    counts = workspace.lake.read_dates("part_count", days).filter("in_force")
    inputs.append(("count_comparison", production_date))
    as_of = workspace.as_of(production_date)
    elements = oee_elements(intervals, counts, workspace.site, production_date, as_of)
    frame = with_count_quality(elements, comparison)
    counts = counts.filter(pl.col("production_date") == production_date)
    suspicious = counts.filter(pl.col("shift_id").is_null())
    outside = 0 if suspicious.is_empty() else counts_outside_shifts(suspicious, workspace.site, production_date, as_of).height
    parts = pl.sum_horizontal("pdt_s", "apt_s", "aust_s", "adet_s", "adot_s", "unknown_s")
    off = frame.filter((parts - pl.col("pot_s")).abs() > 1e-6).height
    wrong = frame.filter(pl.col("gq") + pl.col("sq") + pl.col("rq") != pl.col("pq")).height
    yield outcome(
        workspace,
        "oee_elements",
        frame,
        production_date,
        inputs,
        figures={"apt_share_of_pbt": share(total(frame["apt_s"]), total(frame["pbt_s"])), "produced": int(total(frame["pq"]))},
        checks=(
            PARTITION.verdict(passed=off == 0, description=f"{off} rows whose elements do not add up to POT"),
            QUANTITIES.verdict(passed=wrong == 0, description=f"{wrong} rows whose quantities do not add up"),
            COUNTED.verdict(passed=outside == 0, description=f"{outside} of {counts.height} counts outside all shifts"),
        ),
    )


STATES = Step(
    "state_interval",
    "production",
    ("state_interval", "downtime_event"),
    (
        Input("equipment_state", back="state_carry_days", ahead=1),
        Input("equipment_state_rejected", back="state_carry_days", ahead=1),
        Input("work_order", back="state_carry_days", ahead=1),
        Input("signal_event", back="state_carry_days", ahead=1),
        Input("shift_calendar"),
    ),
    dated(_state_interval),
    checks={"state_interval": (UNKNOWN,)},
    version="2",
)
OEE = Step(
    "oee_elements",
    "production",
    ("oee_elements",),
    (Input("state_interval"), Input("part_count", ahead=1), Input("count_comparison")),
    dated(_oee),
    checks={"oee_elements": (PARTITION, QUANTITIES, COUNTED)},
)

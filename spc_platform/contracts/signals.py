"""Signals of machines: what they say, the rules that make states of it, and what their counters moved by."""

from __future__ import annotations

import polars as pl

from spc_platform.contracts.table import Column, Table, code, count, flag, identifier, moment, number, text

SIGNALS = ("execution", "mode", "availability", "power", "alarm")
"""Signals that a state may follow from; others of a machine are left aside."""

DELTA_RULES = (
    "first",
    "step",
    "unchanged",
    "gap",
    "rollover",
    "reset",
    "jump",
    "backward",
    "recovering",
    "stale",
    "no_value",
    "impossible",
)

SIGNAL_EVENT = Table(
    name="signal_event",
    description="Changes of signals of work units, one row per statement of a machine.",
    columns=(
        identifier("equipment_id", "Work unit."),
        identifier("signal", "Which signal: execution, mode, availability, power or alarm."),
        identifier("value", "What it said; a power reading as a number in W or kW, as the rules have it.", nullable=True),
        moment("at", "From when on it holds."),
    ),
    key=("equipment_id", "signal", "at", "value"),
    sort=("equipment_id", "at"),
    partitioned=False,
)

STATE_RULES = Table(
    name="state_rules",
    description="How signals make states: of the rules whose cells all hold, the one of highest priority speaks.",
    columns=(
        count("priority", "Of two rules that hold, the higher speaks; no two rules share one."),
        identifier("execution", "Values of the signal, separated by |; empty: any, even none.", nullable=True),
        identifier("mode", "Values of the signal, separated by |; empty: any, even none.", nullable=True),
        identifier("availability", "Values of the signal, separated by |; empty: any, even none.", nullable=True),
        identifier("power", "Values of the signal, separated by |; empty: any, even none.", nullable=True),
        identifier("alarm", "Values of the signal, separated by |; empty: any, even none.", nullable=True),
        number("power_min", "The power reading is at least this; empty: no bound.", nullable=True),
        number("power_max", "The power reading is below this; empty: no bound.", nullable=True),
        identifier("state", "The state that follows: RUN, STOP, IDLE, SETUP or UNKNOWN."),
    ),
    key=("priority",),
    partitioned=False,
)

SIGNAL_STATE = Table(
    name="signal_state",
    description="States of work units made from their signals, adjoining and half-open: what state_interval reads as equipment_state.",
    columns=(
        identifier("source_id", "The set of rules that made the state."),
        text("record_id", "Work unit and start."),
        identifier("equipment_id", "Work unit."),
        identifier("state", "State; UNKNOWN where no rule holds or the machine was silent."),
        identifier("reason_code", "The alarm in force when the state began, in a stop.", nullable=True),
        moment("start_at", "When the state began."),
        moment("end_at", "When the next one began; empty while it lasts.", nullable=True),
        Column("rule", pl.Int64, "Priority of the rule that spoke; empty: none held.", nullable=True),
        count("absorbed", "Shorter states within it that the debouncing merged into it."),
        number("absorbed_s", "How long those lasted.", unit="s", ge=0),
    ),
    key=("equipment_id", "start_at"),
    sort=("equipment_id", "start_at"),
    partitioned=False,
)

COUNTER_DELTA = Table(
    name="counter_delta",
    description="By how much cumulative counters moved from snapshot to snapshot, with the rule that says so.",
    columns=(
        identifier("stream_id", "Counter."),
        moment("start_at", "Snapshot before; empty at the first.", nullable=True),
        moment("end_at", "This snapshot."),
        number("before", "Reading before.", nullable=True),
        Column("reading", pl.Float64, "This reading; empty when the machine gave none.", nullable=True, finite=False),
        number("delta", "Counted in between; empty where nothing can be said.", nullable=True, ge=0),
        code("rule", "How the delta was found.", DELTA_RULES),
        flag("across_gap", "The machine gave no reading, or was silent for too long, in between."),
    ),
    key=("stream_id", "end_at"),
    sort=("stream_id", "end_at"),
    partitioned=False,
)

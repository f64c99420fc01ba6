"""States of work units from several signals: execution, mode, availability, power and alarm.

A signal holds until the same signal speaks again. At every instant the rule of highest priority whose cells all
hold names the state; where none holds, and where the machine itself says that it knows nothing, it is UNKNOWN.
Rules are rows of STATE_RULES, so a plant writes its own. Order and repetition of the events change nothing.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import polars as pl

from spc_platform.contracts.signals import SIGNAL_EVENT, SIGNAL_STATE, SIGNALS, STATE_RULES
from spc_platform.contracts.table import UTC
from spc_platform.errors import SiteError
from spc_platform.production.intervals import seconds
from spc_platform.site.model import Site

UNKNOWN = "UNKNOWN"
UNAVAILABLE = "UNAVAILABLE"
STATES = ("RUN", "STOP", "IDLE", "SETUP", UNKNOWN)

_STOPPED = "INTERRUPTED|FEED_HOLD|STOPPED|OPTIONAL_STOP|PROGRAM_STOPPED|PROGRAM_OPTIONAL_STOP"
_BY_HAND = "MANUAL|MANUAL_DATA_INPUT|EDIT"
_STATE_COLUMNS = ["source_id", "record_id", "equipment_id", "state", "reason_code", "start_at", "end_at"]
_Cells = dict[str, str | int | float | None]


def _rules(*rows: _Cells) -> pl.DataFrame:
    schema = STATE_RULES.schema
    return STATE_RULES.conform(pl.DataFrame([dict.fromkeys(schema) | row for row in rows], schema=schema))


RULES: dict[str, pl.DataFrame] = {
    "mtconnect": _rules(
        {"priority": 100, "availability": UNAVAILABLE, "state": UNKNOWN},
        {"priority": 90, "execution": UNAVAILABLE, "state": UNKNOWN},
        {"priority": 80, "power": "OFF", "state": "IDLE"},
        {"priority": 70, "alarm": "FAULT", "state": "STOP"},
        {"priority": 60, "execution": "ACTIVE", "mode": _BY_HAND, "state": "SETUP"},
        {"priority": 50, "execution": "ACTIVE", "state": "RUN"},
        {"priority": 40, "execution": _STOPPED, "mode": _BY_HAND, "state": "SETUP"},
        {"priority": 30, "execution": _STOPPED, "state": "STOP"},
        {"priority": 20, "execution": "READY|PROGRAM_COMPLETED|WAIT", "state": "IDLE"},
    ),
    "opc_40001": _rules(
        {"priority": 100, "availability": UNAVAILABLE, "state": UNKNOWN},
        {"priority": 90, "execution": "NotAvailable", "state": UNKNOWN},
        {"priority": 80, "execution": "OutOfService", "state": "STOP"},
        {"priority": 70, "execution": "Executing|NotExecuting", "mode": "Setup", "state": "SETUP"},
        {"priority": 60, "execution": "Executing|NotExecuting", "mode": "Maintenance", "state": "STOP"},
        {"priority": 50, "alarm": "FAULT", "state": "STOP"},
        {"priority": 40, "execution": "Executing", "state": "RUN"},
        {"priority": 30, "execution": "NotExecuting", "state": "IDLE"},
    ),
}
"""Built-in rules. ``mtconnect``: Execution x ControllerMode x Availability (MTConnect part 2), worst condition as alarm.
``opc_40001``: MachineryItemState (as execution) x MachineryOperationMode (as mode) of OPC 40001-1."""


def signal_states(
    events: pl.DataFrame,
    rules: pl.DataFrame,
    *,
    name: str = "signals",
    debounce_s: float = 0.0,
    silence_s: float | None = None,
    as_of: datetime | None = None,
) -> pl.DataFrame:
    """Make states of the signals of all work units: SIGNAL_STATE, which ``state_intervals`` takes as equipment_state.

    ``events`` is a SIGNAL_EVENT frame, perhaps with ``sequence``: of two values of a signal at one instant the higher
    sequence holds; without it, or at equal ones, any value holds rather than UNAVAILABLE, then the later in the
    alphabet. Events later than ``as_of`` are left out. ``rules`` is a STATE_RULES frame, e.g. ``RULES["mtconnect"]``.

    ``debounce_s``: a state that lasted less is merged into the state before it (of several in a row, into the last that
    lasted); the first state of a unit has none before it and the last has not ended, so both stay. What was merged is
    counted in ``absorbed`` and ``absorbed_s``. ``silence_s``: when no signal of the unit spoke for longer, it is UNKNOWN
    from that long after the last word on. Raises SPC-415 when a rule is wrong, SPC-416 for a negative length.
    """
    check_state_rules(rules)
    for label, length in (("debounce_s", debounce_s), ("silence_s", silence_s)):
        if length is not None and not 0 <= length < float("inf"):
            raise SiteError(f"{label} is {length}: a length of time is 0 s or more. Correct it.", code="SPC-416")
    held = _held(events, as_of)
    if silence_s is not None:
        held = _with_silence(held, silence_s, as_of)
    judged = _judged(held, rules).select("equipment_id", "at", "state", "rule", "alarm")
    changes = _changes(judged)
    return SIGNAL_STATE.conform(
        _debounced(changes, debounce_s).with_columns(
            source_id=pl.lit(name),
            record_id=pl.concat_str("equipment_id", pl.lit("@"), pl.col("start_at").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")),
            reason_code=pl.when(pl.col("state") == "STOP").then("alarm"),
        )
    )


def states_with_signals(equipment_state: pl.DataFrame, signal_event: pl.DataFrame, site: Site, as_of: datetime) -> pl.DataFrame:
    """Add the states that signals make to the recorded ones: source_id, record_id, equipment_id, state, reason, start, end.

    Both frames are core tables of one window. Rules are the site's table ``state_rules``, else the built-in set that
    ``policies.state_rules_set`` names. Recorded states and states from signals are equals: where both hold, the higher
    priority of the site's ``states`` is in force, then the later start. A record without end lasts until the next record
    or change of state; a state from signals lasts until the next one, whatever is recorded meanwhile. Without signal
    events the recorded states are given back as they are. Raises SPC-415 for an unknown set and what
    ``signal_states`` raises.
    """
    if signal_event.is_empty():
        return equipment_state
    policies, own = site.policies, site["state_rules"]
    made = signal_states(
        signal_event.select("equipment_id", "signal", "value", at="occurred_at").cast(dict(SIGNAL_EVENT.schema)),  # type: ignore[arg-type]
        own if own.height else built_in_rules(policies.state_rules_set),
        debounce_s=policies.debounce_s,
        silence_s=policies.silence_s,
        as_of=as_of,
    )
    # The last state is open: its end lies past as_of, so that no later record of a shorter state cuts its rest off.
    later = pl.lit(as_of + timedelta(microseconds=1)).cast(UTC)
    told = made.with_columns(end_at=pl.col("end_at").fill_null(later)).select(_STATE_COLUMNS)
    return pl.concat([equipment_state.select(_STATE_COLUMNS), told.cast(equipment_state.select(_STATE_COLUMNS).schema)])


def built_in_rules(name: str) -> pl.DataFrame:
    """The rules of a built-in set. Raises SPC-415 for a name that is none."""
    if name not in RULES:
        raise SiteError(
            f"state_rules_set {name!r} is no built-in set of rules. Choose {' or '.join(RULES)}, or write state_rules.csv.",
            code="SPC-415",
        )
    return RULES[name]


def in_log_order(lines: pl.DataFrame) -> pl.DataFrame:
    """Let what a log says hold no earlier than what it said before: ``at`` becomes the latest ``at`` up to its line.

    ``lines``: equipment_id, at and ``sequence``, the place in the log, best with every line of the log. Agent and machine
    write one log by two clocks; sorted by time alone, the loss of a connection would come after its return and hide it.
    """
    return lines.with_columns(at=pl.col("at").cum_max().over("equipment_id", order_by="sequence"))


def check_state_rules(rules: pl.DataFrame) -> None:
    """Raise SPC-415 that lists every row that is no rule: no state of ``STATES``, a priority twice, empty bounds."""
    problems = [
        f"row {row + 1}: state {state!r} is none of {', '.join(STATES)}"
        for row, state in enumerate(rules["state"].to_list())
        if state not in STATES
    ]
    twice = rules.filter(pl.col("priority").is_duplicated())["priority"].unique().sort().to_list()
    problems += [f"priority {priority} stands twice" for priority in twice]
    empty = rules.filter(pl.col("power_min") >= pl.col("power_max"))["priority"].to_list()
    problems += [f"priority {priority}: power_min is not below power_max" for priority in empty]
    if rules.is_empty():
        problems = ["there is no rule"]
    if problems:
        raise SiteError(f"state_rules: {'; '.join(problems)}. Correct the rows.", code="SPC-415")


def _held(events: pl.DataFrame, as_of: datetime | None) -> pl.DataFrame:
    """One row per unit and instant at which a signal spoke, with the value of every signal then in force."""
    rank = pl.col("sequence") if "sequence" in events.columns else pl.lit(0)
    spoken = events.filter(pl.col("signal").is_in(list(SIGNALS)) & pl.col("at").is_not_null())
    if as_of is not None:
        spoken = spoken.filter(pl.col("at") <= pl.lit(as_of).cast(UTC))
    last = (
        spoken.select(*SIGNAL_EVENT.names, _rank=rank.cast(pl.Int64))
        .with_columns(_says=pl.col("value").fill_null(UNAVAILABLE) != UNAVAILABLE, value=pl.col("value").fill_null(UNAVAILABLE))
        .sort("equipment_id", "at", "signal", "_rank", "_says", "value")
        .group_by("equipment_id", "at", maintain_order=True)
        .agg(pl.col("value").filter(pl.col("signal") == signal).last().alias(signal) for signal in SIGNALS)
    )
    return last.with_columns(pl.col(*SIGNALS).forward_fill().over("equipment_id", order_by="at"), _silent=pl.lit(value=False))


def _with_silence(held: pl.DataFrame, silence_s: float, as_of: datetime | None) -> pl.DataFrame:
    """Add a row where a unit has been silent for longer than ``silence_s``."""
    following = pl.col("at").shift(-1).over("equipment_id", order_by="at")
    end = following if as_of is None else following.fill_null(pl.lit(as_of).cast(UTC))
    falls = pl.col("at") + pl.duration(microseconds=round(silence_s * 1e6))
    silent = held.with_columns(_end=end, _falls=falls).filter(pl.col("_falls") < pl.col("_end"))
    silent = silent.with_columns(at="_falls", _silent=pl.lit(value=True)).drop("_end", "_falls")
    return pl.concat([held, silent]).sort("equipment_id", "at")


def _judged(held: pl.DataFrame, rules: pl.DataFrame) -> pl.DataFrame:
    power = pl.col("power").cast(pl.Float64, strict=False)
    spoken: Any = pl.when(pl.col("_silent")).then(pl.lit(None, dtype=pl.Int64))
    named: dict[int, str] = {}
    for row in rules.sort("priority", descending=True).iter_rows(named=True):
        cells = [pl.col(name).is_in(row[name].split("|")) for name in SIGNALS if row[name]]
        cells += [power >= row["power_min"]] if row["power_min"] is not None else []
        cells += [power < row["power_max"]] if row["power_max"] is not None else []
        holds = pl.all_horizontal(*cells).fill_null(value=False) if cells else pl.lit(value=True)
        spoken = spoken.when(holds).then(pl.lit(row["priority"], dtype=pl.Int64))
        named[row["priority"]] = row["state"]
    judged = held.with_columns(rule=spoken.otherwise(None))
    return judged.with_columns(state=pl.col("rule").replace_strict(named, default=UNKNOWN, return_dtype=pl.String))


def _changes(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows at which the state of a unit changes, with ``start_at`` and ``end_at``; rule and alarm are those of the first."""
    before = pl.col("state").shift(1).over("equipment_id", order_by="at")
    return rows.filter(pl.col("state").ne_missing(before)).with_columns(
        start_at="at", end_at=pl.col("at").shift(-1).over("equipment_id", order_by="at")
    )


def _debounced(changes: pl.DataFrame, debounce_s: float) -> pl.DataFrame:
    span = pl.col("end_at") - pl.col("start_at")
    first = pl.int_range(pl.len()).over("equipment_id", order_by="start_at") == 0
    stays = first | span.is_null() | (span >= pl.duration(microseconds=round(debounce_s * 1e6)))
    marked = changes.sort("equipment_id", "start_at").with_columns(_stays=stays)
    held = marked.with_columns(
        _lasting=pl.when("_stays").then("state").forward_fill().over("equipment_id", order_by="start_at")
    )
    before = pl.col("_lasting").shift(1).over("equipment_id", order_by="start_at")
    run = (pl.col("_lasting").ne_missing(before)).cum_sum().over("equipment_id", order_by="start_at")
    merged = pl.col("state") != pl.col("_lasting")
    return (
        held.with_columns(_run=run, _span=span)
        .group_by("equipment_id", "_run", maintain_order=True)
        .agg(
            state=pl.col("_lasting").first(),
            rule=pl.col("rule").first(),
            alarm=pl.col("alarm").first(),
            start_at=pl.col("start_at").first(),
            end_at=pl.col("end_at").last(),
            absorbed=merged.sum().cast(pl.Int64),
            absorbed_s=seconds(pl.col("_span").filter(merged).sum()),
        )
    )

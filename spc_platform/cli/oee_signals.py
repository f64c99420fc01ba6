"""Files of signals and counters of `spc oee` to its states and counts, with the rule behind every row."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import polars as pl

from spc_platform.contracts.signals import SIGNAL_EVENT, SIGNALS, STATE_RULES
from spc_platform.errors import SiteError
from spc_platform.production.counters import counter_deltas
from spc_platform.production.signals import built_in_rules, check_state_rules, signal_states

COUNTED = ("good", "scrap", "rework")


def rows_of_states(
    signals: pl.DataFrame,
    rules: pl.DataFrame | str,
    *,
    debounce_s: float,
    silence_s: float | None,
    as_of: datetime | None,
) -> pl.DataFrame:
    """Make states of signals: one row per state as a file of ``--states`` has them, with ``rule``, absorbed and absorbed_s.

    ``signals``: equipment_id, signal, value, at, ``sequence`` (null where the file has none: which of two values at one
    instant holds then follows from the values, never from the place in the file) and ``row``, each readable. ``rules``:
    rows of a file, or the name of a built-in set. ``row`` of a state is the row of the file with which the unit's
    signals changed into it. Raises SPC-415,
    SPC-416, and SPC-424 for a signal of another name.
    """
    named = pl.col("signal").str.to_lowercase()
    wrong = signals.filter(~named.is_in(list(SIGNALS)))
    if wrong.height:
        raise SiteError(
            f"--signals, row {wrong['row'][0]}: {wrong.height} rows name no signal that states follow from "
            f"({wrong['signal'][0]!r}). Name {', '.join(SIGNALS)}, and leave other rows out.",
            code="SPC-424",
        )
    chosen = _own_rules(rules) if isinstance(rules, pl.DataFrame) else built_in_rules(rules)
    events = signals.with_columns(signal=named)
    made = signal_states(
        events.select(*SIGNAL_EVENT.names, "sequence").cast(dict(SIGNAL_EVENT.schema)),  # type: ignore[arg-type]
        chosen,
        debounce_s=debounce_s,
        silence_s=silence_s,
        as_of=as_of,
    ).cast({pl.Categorical: pl.String})
    spoken = events.group_by("equipment_id", "at").agg(pl.col("row").max()).sort("at")
    return made.sort("start_at").join_asof(
        spoken, left_on="start_at", right_on="at", by="equipment_id", check_sortedness=False
    ).drop("at").sort("equipment_id", "start_at")  # fmt: skip


def _own_rules(rows: pl.DataFrame) -> pl.DataFrame:
    rules = rows.with_columns(pl.col("state").str.to_uppercase()).select(STATE_RULES.names)
    check_state_rules(rules)
    return STATE_RULES.conform(rules)


def rows_of_counts(counters: pl.DataFrame, *, maximum: float | None) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """Make counts of cumulative counters: (rows as a file of ``--counts`` has them, every delta with its rule).

    ``counters``: equipment_id, counted_at, value, kind, material_definition_id and ``row``, each row readable. A unit has
    one counter per kind; a delta belongs to the product of its own row. Raises SPC-417, SPC-418, and SPC-424 for a kind
    that is none.
    """
    kind = pl.col("kind").str.to_lowercase()
    wrong = counters.filter(~kind.is_in(list(COUNTED)))
    if wrong.height:
        raise SiteError(
            f"--counters, row {wrong['row'][0]}: {wrong.height} rows count none of {', '.join(COUNTED)} "
            f"({wrong['kind'][0]!r}). Correct their kind; a row without one counts good parts.",
            code="SPC-424",
        )
    stream = pl.concat_str("equipment_id", pl.lit(":"), kind)
    read = counters.with_columns(kind=kind, stream_id=stream, at="counted_at")
    deltas = counter_deltas(read.select("stream_id", "at", "value"), maximum=maximum).cast({pl.Categorical: pl.String})
    said = ["stream_id", "at", "equipment_id", "kind", "material_definition_id", "row"]
    # of several readings at one instant the highest holds, as for the delta
    rows = (
        read.sort("value", "material_definition_id", "row", nulls_last=False)
        .unique(["stream_id", "at"], keep="last")
        .select(said)
    )
    found = deltas.join(rows, left_on=["stream_id", "end_at"], right_on=["stream_id", "at"]).sort("stream_id", "end_at")
    quantity = pl.col("delta").cast(pl.Int64)
    counts = found.filter(pl.col("delta") > 0).select(
        "row",
        "equipment_id",
        "material_definition_id",
        *(pl.when(pl.col("kind") == name).then(quantity).otherwise(0).alias(f"{name}_quantity") for name in COUNTED),
        counted_at="end_at",
        reason_code=pl.lit(None, dtype=pl.String),
        record_id=pl.concat_str("stream_id", pl.lit("@"), pl.col("end_at").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")),
        problem=pl.lit(None, dtype=pl.String),
    )
    columns = ["row", "equipment_id", "kind", "start_at", "end_at", "before", "reading", "delta", "rule", "across_gap"]
    return counts, found.select(columns).to_dicts()

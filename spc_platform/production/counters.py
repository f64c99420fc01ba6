"""Cumulative counters to what was counted between two snapshots, with the rule behind every figure.

Snapshots are compared in the order of their own times, whatever the order of delivery. A counter that steps back is
held at its highest reading until it exceeds it again, so readings that run back and forth (two clocks in one log)
are not counted twice.
"""

from __future__ import annotations

import polars as pl

from spc_platform.contracts.signals import COUNTER_DELTA
from spc_platform.errors import SiteError

_STREAM = "stream_id"


def counter_deltas(
    snapshots: pl.DataFrame,
    *,
    maximum: float | None = None,
    step: float = 1.0,
    edge: float = 0.1,
    reset_below: float = 0.5,
    max_gap_s: float | None = None,
    stale_after_s: float | None = None,
    max_rate: float | None = None,
    keep_impossible: bool = False,
) -> pl.DataFrame:
    """Give what each counter counted from snapshot to snapshot: COUNTER_DELTA, one row per stream and instant.

    ``snapshots``: stream_id, at (UTC), value (null: the machine gave none), perhaps ``received_at``. Rules, in order:

    - ``stale``: received more than ``stale_after_s`` after ``at`` (a log that opens with old values). It counts nothing.
    - ``no_value``: no reading; the next reading is compared with the last one there was, ``across_gap``.
    - ``first``: nothing before it. Delta null.
    - ``rollover``: ``maximum`` (the largest reading shown; the next one is 0, ``step`` further) is declared, the reading
      before lies in the top share ``edge`` of its range and this one in the bottom share. Delta wraps around.
    - ``reset``: the reading fell below the share ``reset_below`` of the one before. Delta is the reading: at least that
      was counted since the counter began anew.
    - ``backward``: it fell by less. Delta 0; ``recovering`` (delta 0) until the highest reading is reached again, and
      what exceeds that counts.
    - ``jump``: whatever was counted by the rules above is more than ``max_rate`` (per second) allows since the reading
      before, one ``step`` more granted. Delta 0; the counter goes on from this reading.
    - ``gap``: it rose, with ``across_gap``: more than ``max_gap_s`` passed or a reading is missing in between. Counted,
      but when within the gap is not known. ``step`` and ``unchanged`` are the rest.

    Of several readings at one instant the highest holds. Within a stream the deltas add up to last - first plus what
    rollovers and resets add, less what jumps skip. Raises SPC-417 for parameters that cannot be, SPC-418 for a reading
    that is negative, infinite or above the maximum; with ``keep_impossible`` it is a row of rule ``impossible`` instead,
    which counts nothing.
    """
    _check(maximum, step, edge, reset_below, max_rate)
    rows = _unique(snapshots, stale_after_s, _impossible(maximum) if keep_impossible else pl.lit(value=False))
    _check_readings(rows, maximum)
    known = rows.filter(pl.col("_kind") == "known").sort(_STREAM, "at")
    measured = _judged(known, maximum, step, edge, reset_below, max_gap_s, max_rate)
    others = rows.filter(pl.col("_kind") != "known").with_columns(
        rule="_kind", across_gap=pl.lit(value=False), reading=pl.when(pl.col("_kind") != "no_value").then("value")
    )
    return COUNTER_DELTA.conform(
        pl.concat([measured.rename({"value": "reading"}), others.drop("value")], how="diagonal_relaxed").rename(
            {"at": "end_at"}
        )
    )


def _check(maximum: float | None, step: float, edge: float, reset_below: float, max_rate: float | None) -> None:
    wrong = []
    if maximum is not None and not 0 < maximum < float("inf"):
        wrong.append(f"maximum is {maximum}, not a finite number above 0")
    if max_rate is not None and not 0 < max_rate < float("inf"):
        wrong.append(f"max_rate is {max_rate}, not a finite number above 0")
    if step < 0:
        wrong.append(f"step is {step}, below 0")
    wrong += [
        f"{name} is {share}, not a share between 0 and 1"
        for name, share in (("edge", edge), ("reset_below", reset_below))
        if not 0 < share <= 1
    ]
    if wrong:
        raise SiteError(f"counter: {'; '.join(wrong)}. Correct the parameter.", code="SPC-417")


def _impossible(maximum: float | None) -> pl.Expr:
    value = pl.col("value")
    bad = ~value.is_finite() | (value < 0)
    return bad if maximum is None else bad | (value > maximum)


def _unique(snapshots: pl.DataFrame, stale_after_s: float | None, impossible: pl.Expr) -> pl.DataFrame:
    """One row per stream and instant: the highest reading that counts, else a missing, impossible or stale one."""
    late = pl.lit(value=False)
    if stale_after_s is not None and "received_at" in snapshots.columns:
        late = (pl.col("received_at") - pl.col("at")) > pl.duration(microseconds=round(stale_after_s * 1e6))
    kind = pl.when(late).then(pl.lit("stale")).when(pl.col("value").is_null()).then(pl.lit("no_value"))
    ranks = {"known": 3, "no_value": 2, "impossible": 1, "stale": 0}
    return (
        snapshots.with_columns(pl.col("value").cast(pl.Float64))
        .select(_STREAM, "at", "value", _kind=kind.when(impossible).then(pl.lit("impossible")).otherwise(pl.lit("known")))
        .with_columns(_rank=pl.col("_kind").replace_strict(ranks, return_dtype=pl.Int8))
        .sort(_STREAM, "at", "_rank", "value", nulls_last=False)
        .group_by(_STREAM, "at", maintain_order=True)
        .agg(pl.col("value", "_kind").last())
        .with_columns(_blanks=(pl.col("_kind") == "no_value").cum_sum().over(_STREAM, order_by="at"))
    )


def _check_readings(rows: pl.DataFrame, maximum: float | None) -> None:
    wrong = rows.filter(_impossible(maximum) & (pl.col("_kind") == "known"))
    if wrong.height:
        row = wrong.row(0, named=True)
        above = "" if maximum is None else f", and none above the declared maximum {maximum:g}"
        raise SiteError(
            f"counter {row[_STREAM]} reads {row['value']} at {row['at']:%Y-%m-%dT%H:%M:%S.%fZ} ({wrong.height} such readings): "
            f"a counter has no reading below 0 or without bound{above}. Correct the reading at its source or the maximum.",
            code="SPC-418",
        )


def _judged(
    known: pl.DataFrame,
    maximum: float | None,
    step: float,
    edge: float,
    reset_below: float,
    max_gap_s: float | None,
    max_rate: float | None,
) -> pl.DataFrame:
    before = {name: pl.col(name).shift(1).over(_STREAM, order_by="at") for name in ("value", "at", "_blanks")}
    value, last = pl.col("value"), pl.col("before")
    fell = value < last
    wraps = pl.lit(value=False) if maximum is None else (last >= maximum * (1 - edge)) & (value <= maximum * edge)
    elapsed = (pl.col("at") - pl.col("start_at")).dt.total_microseconds() / 1e6
    rows = known.with_columns(before=before["value"], start_at=before["at"], _jumps=pl.lit(value=False))
    rows = rows.with_columns(_wraps=(fell & wraps).fill_null(value=False))
    rows = rows.with_columns(_resets=(fell & ~pl.col("_wraps") & (value < last * reset_below)).fill_null(value=False))
    rows = _with_peaks(rows).with_columns(_counted=_counted(maximum, step))
    if max_rate is not None:
        rows = rows.with_columns(_jumps=(pl.col("_counted") > elapsed * max_rate + step).fill_null(value=False))
        rows = _with_peaks(rows).with_columns(_counted=pl.when(~pl.col("_jumps")).then(_counted(maximum, step)).otherwise(0.0))
    gap = (pl.col("_blanks") != before["_blanks"]).fill_null(value=False)
    if max_gap_s is not None:
        gap = gap | (elapsed > max_gap_s).fill_null(value=False)
    rows = rows.with_columns(across_gap=gap)
    return rows.with_columns(rule=_rule(), delta=pl.when(last.is_not_null()).then("_counted"))


def _with_peaks(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with ``_high``, the highest reading before them since the counter began: anew, through zero, or with a jump."""
    life = (pl.col("_wraps") | pl.col("_resets") | pl.col("_jumps")).cum_sum().over(_STREAM, order_by="at")
    rows = rows.with_columns(_life=life)
    rows = rows.with_columns(_peak=pl.col("value").cum_max().over(_STREAM, "_life", order_by="at"))
    return rows.with_columns(_high=pl.col("_peak").shift(1).over(_STREAM, order_by="at"))


def _rule() -> pl.Expr:
    value, last, high = pl.col("value"), pl.col("before"), pl.col("_high")
    return (
        pl.when(last.is_null())
        .then(pl.lit("first"))
        .when("_jumps")
        .then(pl.lit("jump"))
        .when("_wraps")
        .then(pl.lit("rollover"))
        .when("_resets")
        .then(pl.lit("reset"))
        .when(value < last)
        .then(pl.lit("backward"))
        .when(value < high)
        .then(pl.lit("recovering"))
        .when(value == high)
        .then(pl.when(last < high).then(pl.lit("recovering")).otherwise(pl.lit("unchanged")))
        .when("across_gap")
        .then(pl.lit("gap"))
        .otherwise(pl.lit("step"))
    )


def _counted(maximum: float | None, step: float) -> pl.Expr:
    """What a reading adds by the rules of falls and rises; null at the first."""
    value, high = pl.col("value"), pl.col("_high")
    wrapped = pl.lit(None, dtype=pl.Float64) if maximum is None else value - high + maximum + step
    rise = pl.when(high.is_not_null()).then(pl.max_horizontal(value - high, pl.lit(0.0)))
    return pl.when("_wraps").then(wrapped).when("_resets").then(value).otherwise(rise)

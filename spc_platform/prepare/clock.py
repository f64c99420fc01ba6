"""Offsets of other clocks from exchanges of times, and what they mean for joining by time.

The estimator is that of NTP (RFC 5905 §8): of the four times of an exchange the offset is the mean of the two one-way
differences, and the truth lies within half the round trip, however the way is shared between there and back. A clock that
says its time in steps, as an HTTP Date of whole seconds does, has moved on by up to a step since: half a step is added to
the offset and to its uncertainty. Of a day's exchanges the quickest decide (NTP's minimum filter).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from spc_platform.contracts.clock import CLOCK_OFFSET
from spc_platform.errors import ContractError

QUICKEST = 8
_BEST_WITHIN = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ClockExchange:
    """One question to another clock: our times around its answer, all aware. A clock that says one time says it twice.

    ``resolution_s`` is the step to which the other clock cuts its times down.
    """

    clock_id: str
    method: str
    sent_at: datetime
    server_received_at: datetime
    server_sent_at: datetime
    received_at: datetime
    resolution_s: float


def clock_offsets(exchanges: pl.DataFrame) -> pl.DataFrame:
    """Offset and uncertainty per clock, method and day: CLOCK_OFFSET from rows of CLOCK_EXCHANGE, in s.

    Median of the ``QUICKEST`` exchanges with the shortest round trips; its uncertainty is the largest of theirs, which
    covers the truth while the clock keeps its rate. Where they contradict each other, the clock was set on that day, and
    the uncertainty covers every one of them. Answers that came before their question are left out.

    >>> from datetime import datetime, timedelta, UTC
    >>> sent = datetime(2026, 3, 2, 6, tzinfo=UTC)
    >>> said, back = sent + timedelta(seconds=10.1), sent + timedelta(seconds=0.2)
    >>> row = ClockExchange("CNC-1", "exchange", sent, said, said, back, 0.0)
    >>> found = clock_offsets(pl.DataFrame([row]))
    >>> found.select(pl.col("offset_s", "uncertainty_s").round(9)).row(0)
    (10.0, 0.1)
    """
    way = _seconds("server_received_at", "sent_at") + _seconds("server_sent_at", "received_at")
    trip = _seconds("received_at", "sent_at") - _seconds("server_sent_at", "server_received_at")
    day = ["clock_id", "method", "day"]
    each = (
        exchanges.with_columns(
            day=pl.col("sent_at").dt.date(),
            offset=way / 2 + pl.col("resolution_s") / 2,
            trip=trip,
            within=trip / 2 + pl.col("resolution_s") / 2,
        )
        .filter(pl.col("trip") >= 0)
        .sort(*day, "within", "sent_at", "offset")
    )
    quickest = each.group_by(day, maintain_order=True).head(QUICKEST)
    middle = pl.col("offset").median()
    agree = (pl.col("offset") - pl.col("within")).max() <= (pl.col("offset") + pl.col("within")).min()
    found = quickest.group_by(day).agg(
        offset_s=middle,
        uncertainty_s=pl.when(agree)
        .then(pl.col("within").max())
        .otherwise(((pl.col("offset") - middle).abs() + pl.col("within")).max()),
        round_trip_s=pl.col("trip").min(),
    )
    counted = each.group_by(day).agg(measured_at=pl.col("received_at").max(), samples=pl.len())
    return CLOCK_OFFSET.conform(found.join(counted, on=day))


def offsets_in_force(offsets: pl.DataFrame, at: datetime) -> pl.DataFrame:
    """The estimate of each clock that holds at an instant: clock_id, offset_s, uncertainty_s.

    The surest of the last day before ``at``; of a clock that was asked only later, the surest of the first day it was.
    """
    moment = pl.lit(at).cast(pl.Datetime("us", "UTC"))
    known = offsets.with_columns(early=pl.col("measured_at") <= moment)
    anchor = pl.coalesce(pl.col("measured_at").filter("early").max(), pl.col("measured_at").min()).over("clock_id")
    near = known.with_columns(apart=anchor - pl.col("measured_at")).filter(pl.col("apart").abs() < pl.lit(_BEST_WITHIN))
    return (
        near.filter(pl.col("early") | ~pl.col("early").any().over("clock_id"))
        .sort("clock_id", "uncertainty_s", "measured_at")
        .unique("clock_id", keep="first", maintain_order=True)
        .select("clock_id", "offset_s", "uncertainty_s")
    )


def check_tolerances(streams: pl.DataFrame, clocks: pl.DataFrame) -> None:
    """Raises ContractError when a stream is to be joined more narrowly than its clock is known.

    ``streams`` is the site's table, ``clocks`` the offsets in force. The clock of a stream is ``clock_id``, or where that is
    empty its work unit. What remains after the declared ``clock_offset_s`` was taken off is the difference to the measured
    offset, give or take its uncertainty; a tolerance below either joins values to the wrong moment without a word.
    """
    judged = (
        streams.with_columns(clock=pl.coalesce("clock_id", "equipment_id"))
        .join(clocks, left_on="clock", right_on="clock_id")
        .with_columns(remains=(pl.col("offset_s") - pl.col("clock_offset_s")).abs() + pl.col("uncertainty_s"))
        .filter(pl.col("join_tolerance_s") < pl.col("remains"))
        .sort("stream_id")
    )
    if judged.is_empty():
        return
    unsure = judged.filter(pl.col("join_tolerance_s") < pl.col("uncertainty_s"))
    if unsure.height:
        raise ContractError(
            _listed(
                unsure,
                "uncertainty_s",
                "{stream}: join_tolerance_s {tolerance:g} s is below the uncertainty {figure:.3g} s of "
                "the offset of clock {clock}",
            )
            + ". Raise join_tolerance_s in streams.csv above it, or measure the clock better (docs/how-to/time.md)",
            code="SPC-670",
        )
    raise ContractError(
        _listed(
            judged,
            "remains",
            "{stream}: join_tolerance_s {tolerance:g} s is below {figure:.3g} s, by which the clock {clock} may be "
            "off after its declared offset was removed (measured {offset:.3g} s ± {within:.3g} s, declared {declared:g} s)",
        )
        + ". Declare the measured clock_offset_s in streams.csv, set the station's clock, or raise join_tolerance_s",
        code="SPC-671",
    )


def _listed(rows: pl.DataFrame, figure: str, text: str) -> str:
    shown = [
        text.format(
            stream=row["stream_id"],
            tolerance=row["join_tolerance_s"],
            figure=row[figure],
            clock=row["clock"],
            offset=row["offset_s"],
            within=row["uncertainty_s"],
            declared=row["clock_offset_s"],
        )
        for row in rows.head(3).iter_rows(named=True)
    ]
    return "; ".join(shown) + (f"; and {rows.height - 3} more" if rows.height > 3 else "")


def _seconds(later: str, earlier: str) -> pl.Expr:
    return (pl.col(later) - pl.col(earlier)).dt.total_microseconds() / 1e6

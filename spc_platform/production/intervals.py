"""Half-open intervals of work units: cutting, covering and merging them without a loop over rows.

Frames here hold ``equipment_id``, ``start_at``, ``end_at`` (UTC, microseconds) and whatever else belongs to
the interval. Time is compared as instants, so nothing is rounded.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

Numbers = npt.NDArray[np.int64]

_UNIT = "equipment_id"
US_PER_S = 1_000_000


def seconds(span: pl.Expr) -> pl.Expr:
    """Give a duration in seconds: the float nearest to its whole microseconds."""
    return in_seconds(span.dt.total_microseconds())


def in_seconds(microseconds: pl.Expr) -> pl.Expr:
    """Give whole microseconds in seconds, each the nearest float: polars divides by a number as it multiplies by 1/number."""
    return (microseconds / US_PER_S).round(6)


def cut(base: pl.DataFrame, *others: pl.DataFrame) -> pl.DataFrame:
    """Split the intervals of ``base`` wherever an interval of ``others`` begins or ends inside them.

    ``base`` must not overlap itself within a unit. The pieces carry the columns of ``base``; empty
    intervals vanish.
    """
    base = base.filter(pl.col("start_at") < pl.col("end_at"))
    edges = [base.select(_UNIT, at="start_at")]
    for other in others:
        edges += [other.select(_UNIT, at="start_at"), other.select(_UNIT, at="end_at")]
    points = pl.concat(edges).drop_nulls().unique().sort("at", _UNIT)
    pieces = points.join_asof(
        base.rename({"end_at": "_end"}).sort("start_at", _UNIT),
        left_on="at",
        right_on="start_at",
        by=_UNIT,
        strategy="backward",
        check_sortedness=False,
    ).filter(pl.col("at") < pl.col("_end"))
    following = pl.col("at").shift(-1).over(_UNIT, order_by="at")
    return pieces.with_columns(start_at=pl.col("at"), end_at=pl.min_horizontal(following, "_end")).select(base.columns)


def cover(segments: pl.DataFrame, intervals: pl.DataFrame, rank: str, columns: Sequence[str]) -> pl.DataFrame:
    """Add to each segment ``columns`` of the covering interval of highest ``rank``; null where none covers.

    ``segments`` must have been cut at the edges of ``intervals`` and must not overlap. ``rank`` is an
    integer column of ``intervals`` without ties; ``columns`` must not be names of ``segments``.
    """
    numbered = segments.sort(_UNIT, "start_at").with_row_index("_segment").with_columns(pl.col("_segment").cast(pl.Int64))
    starts = numbered.select(_UNIT, "_segment", _at="start_at").sort("_at")
    first = intervals.select(_UNIT, rank, "start_at", "end_at").sort("start_at")
    first = first.join_asof(
        starts.rename({"_segment": "_first"}),
        left_on="start_at",
        right_on="_at",
        by=_UNIT,
        strategy="forward",
        check_sortedness=False,
    )
    spans = (
        first.sort("end_at")
        .join_asof(
            starts.rename({"_segment": "_last"}),
            left_on="end_at",
            right_on="_at",
            by=_UNIT,
            strategy="backward",
            allow_exact_matches=False,
            check_sortedness=False,
        )
        .filter(pl.col("_first") <= pl.col("_last"))
    )
    highest = _highest(spans["_first"].to_numpy(), spans["_last"].to_numpy(), spans[rank].to_numpy(), numbered.height)
    winner = pl.Series(rank, highest)
    return (
        numbered.with_columns(winner.set(winner < 0, None))
        .join(intervals.select(pl.col(rank).cast(pl.Int64), *(name for name in columns if name != rank)), on=rank, how="left")
        .sort("_segment")
        .select(*segments.columns, *columns)
    )


def _highest(first: Numbers, last: Numbers, rank: Numbers, size: int) -> Numbers:
    """Find for each of ``size`` positions the highest rank among the ranges first..last that hold it, else -1.

    Each range is two blocks of a power-of-two length; blocks are halved from the longest down, so the
    cost is n log n however much the ranges overlap (a source that never closes its events).
    """
    level = np.frexp(last - first + 1)[1] - 1
    blocks = np.full(size, -1, dtype=np.int64)
    for power in range(int(level.max(initial=0)), -1, -1):
        length = 1 << power
        halves = blocks.copy()
        np.maximum(halves[length:], blocks[:-length], out=halves[length:])
        blocks = halves
        here = level == power
        np.maximum.at(blocks, first[here], rank[here])
        np.maximum.at(blocks, last[here] - length + 1, rank[here])
    return blocks


def subtract(base: pl.DataFrame, holes: pl.DataFrame) -> pl.DataFrame:
    """Keep what lies of the intervals of ``base`` outside ``holes``, contiguous pieces joined again."""
    ranked = holes.with_row_index("_hole")
    kept = cover(cut(base, holes), ranked, "_hole", ["_hole"]).filter(pl.col("_hole").is_null()).drop("_hole")
    return merge(kept)


def merge(pieces: pl.DataFrame) -> pl.DataFrame:
    """Join each run of touching pieces of a unit that agree in all other columns into one."""
    same = [name for name in pieces.columns if name not in (_UNIT, "start_at", "end_at")]
    ordered = pieces.sort(_UNIT, "start_at")
    touches = (pl.col(_UNIT) == pl.col(_UNIT).shift(1)) & (pl.col("start_at") == pl.col("end_at").shift(1))
    alike = [pl.col(name).eq_missing(pl.col(name).shift(1)) for name in same]
    begins = ~pl.all_horizontal(touches, *alike).fill_null(value=False)
    return (
        ordered.with_columns(_run=begins.cum_sum())
        .group_by("_run", maintain_order=True)
        .agg(pl.col(_UNIT, *same).first(), pl.col("start_at").first(), pl.col("end_at").last())
        .select(pieces.columns)
    )

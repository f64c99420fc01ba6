"""What neighbours on a line do to each other: starvation, blockage and the bottleneck as it shifts.

A unit is starved while it is idle and every unit that feeds it is down, and blocked while it is idle and every
unit that it feeds is down; both can hold at once. Down means delayed or in setup (ADET, AUST): either way
nothing passes. Only direct neighbours speak: buffers are not known, so a unit that idles two places below a
breakdown is idle, and its neighbour starved.

The bottleneck follows Roser, Nakano and Tanaka, "A practical bottleneck detection method" (Winter Simulation
Conference 2001) and "Shifting bottleneck detection" (2002): a machine is active while it works, is set up or
repaired, and inactive while it waits. At each instant the machine with the longest uninterrupted active period
is the bottleneck. Where the active periods of two such bottlenecks overlap the bottleneck is shifting from one
to the other; in the rest of its period a bottleneck is the sole one. An active period runs on over shift and
product edges; planned downtime and time outside shifts end it.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from spc_platform.contracts.performance import BOTTLENECK, FLOW_INTERVAL
from spc_platform.errors import ContractError
from spc_platform.production.intervals import cover, cut, in_seconds, merge, seconds

DOWN = ("ADET", "AUST")
ACTIVE = ("APT", "AUST", "ADET")
IDLE = "IDLE"
_UNIT, _LINE = "equipment_id", "work_center_id"
_SPAN = ["start_at", "end_at"]
_SHIFT = [_UNIT, _LINE, "shift_id", "production_date"]


def neighbours(routings: pl.DataFrame) -> pl.DataFrame:
    """Give the pairs of work units of which one hands parts to the other: upstream_id, downstream_id.

    ``routings`` is the site's table: in each product's route units follow each other by ``sequence``; units at
    the same place are parallel, and all of them feed all of the next place. Operations of a route that follow
    each other on one unit are one place. Pairs of all products count. Raises ContractError SPC-628 where a row
    lacks its product, sequence or equipment.
    """
    names = ["material_definition_id", "sequence", _UNIT]
    lacking = routings.filter(pl.any_horizontal(pl.col(names).is_null()))
    if lacking.height:
        row = lacking.row(0, named=True)
        given = ", ".join(f"{name}={row[name]}" for name in names)
        raise ContractError(
            f"routings: {lacking.height} rows say no place in a route, first {given}; a unit's neighbours come from its "
            "place: give product, sequence and equipment, or remove the row",
            code="SPC-628",
        )
    places = (
        routings.select(names).unique().with_columns(_place=pl.col("sequence").rank("dense").over("material_definition_id"))
    )
    following = places.select("material_definition_id", pl.col("_place") - 1, downstream_id=_UNIT)
    return (
        places.join(following, on=["material_definition_id", "_place"])
        .select(upstream_id=_UNIT, downstream_id="downstream_id")
        .filter(pl.col("upstream_id") != pl.col("downstream_id"))
        .unique()
        .sort("upstream_id", "downstream_id")
    )


def flow_intervals(intervals: pl.DataFrame, pairs: pl.DataFrame, down: Sequence[str] = DOWN) -> pl.DataFrame:
    """Explain the idle time of each work unit by what its neighbours did: FLOW_INTERVAL.

    ``intervals`` is a STATE_INTERVAL frame of all units concerned, ``pairs`` the frame of ``neighbours``, ``down``
    the time elements in which a unit hands on and takes nothing. Idle is a piece in state IDLE or of element
    ADOT outside planned downtime. A neighbour without a record is not down. The pieces cover the idle time of
    each unit exactly, to the microsecond.
    """
    is_idle = ((pl.col("state") == IDLE) | (pl.col("time_element") == "ADOT")) & (pl.col("time_element") != "PDT")
    idle = intervals.filter(is_idle).select(*_SHIFT, "time_element", *_SPAN)
    stopped = merge(intervals.filter(pl.col("time_element").is_in(down)).select(_UNIT, *_SPAN))
    starving = _all_down(stopped, pairs.select(neighbour="upstream_id", equipment_id="downstream_id")).with_row_index(
        "_starved"
    )
    blocking = _all_down(stopped, pairs.select(neighbour="downstream_id", equipment_id="upstream_id")).with_row_index(
        "_blocked"
    )
    pieces = cut(idle, starving, blocking)
    pieces = cover(pieces, starving, "_starved", ["_starved"])
    pieces = cover(pieces, blocking, "_blocked", ["_blocked"])
    starved, blocked = pl.col("_starved").is_not_null(), pl.col("_blocked").is_not_null()
    named = pieces.with_columns(
        flow_state=pl.when(starved & blocked)
        .then(pl.lit("starved_and_blocked"))
        .when(starved)
        .then(pl.lit("starved"))
        .when(blocked)
        .then(pl.lit("blocked"))
        .otherwise(pl.lit("idle"))
    ).drop("_starved", "_blocked")
    whole = merge(named)
    return FLOW_INTERVAL.conform(whole.with_columns(duration_s=seconds(pl.col("end_at") - pl.col("start_at"))))


def bottlenecks(intervals: pl.DataFrame) -> pl.DataFrame:
    """Find the shifting bottleneck of each line, per work unit and shift: BOTTLENECK.

    ``intervals`` is a STATE_INTERVAL frame of one or more production dates. Active periods reach as far as the
    frame does, so pass the dates around the one of interest where lines run through. Of two periods of equal
    length the unit that comes first by name is the bottleneck. ``is_bottleneck`` marks the unit with the most
    sole and shifting time of its line in the shift, then the most momentary; none where nobody was active.
    """
    active = intervals.filter(pl.col("time_element").is_in(ACTIVE))
    pieces = merge(active.select(*_SHIFT, *_SPAN))
    periods = _ranked(merge(active.select(_UNIT, _LINE, *_SPAN)))
    segments = _segments(periods, pieces)
    marked = _with_period(pieces, periods)
    momentary = _momentary(segments, marked, periods)
    shared = _shared(segments, marked)
    rows = (
        intervals.select(_SHIFT)
        .unique()
        .join(pieces.group_by(_SHIFT).agg(_active=_us().sum()), on=_SHIFT, how="left")
        .join(shared, on=_SHIFT, how="left")
        .join(momentary, on=_SHIFT, how="left")
        .with_columns(pl.col("_active", "_sole", "_shifting", "_momentary").fill_null(0))
        .sort(
            "work_center_id",
            "production_date",
            "shift_id",
            pl.col("_sole") + pl.col("_shifting"),
            "_momentary",
            _UNIT,
            descending=[False, False, False, True, True, False],
        )
    )
    first = pl.int_range(pl.len()).over(_LINE, "production_date", "shift_id") == 0
    return BOTTLENECK.conform(
        rows.with_columns(
            active_s=in_seconds(pl.col("_active")),
            momentary_s=in_seconds(pl.col("_momentary")),
            sole_s=in_seconds(pl.col("_sole")),
            shifting_s=in_seconds(pl.col("_shifting")),
            is_bottleneck=first & (pl.col("_sole") + pl.col("_shifting") > 0),
        )
    )


def _us() -> pl.Expr:
    return (pl.col("end_at") - pl.col("start_at")).dt.total_microseconds()


def _all_down(stopped: pl.DataFrame, roles: pl.DataFrame) -> pl.DataFrame:
    """Intervals of each unit in which all its neighbours of a role are down: equipment_id, start_at, end_at.

    Each neighbour adds 1 from the start of a stop and takes it back at its end; where the running sum is the
    number of neighbours they are all down.
    """
    wanted = roles.group_by(_UNIT).agg(_wanted=pl.len().cast(pl.Int64))
    stops = roles.join(stopped.rename({_UNIT: "neighbour"}), on="neighbour")
    edges = pl.concat(
        [
            stops.select(_UNIT, at="start_at", _step=pl.lit(1, dtype=pl.Int64)),
            stops.select(_UNIT, at="end_at", _step=pl.lit(-1, dtype=pl.Int64)),
        ]
    )
    counted = edges.group_by(_UNIT, "at").agg(pl.col("_step").sum()).sort(_UNIT, "at")
    running = counted.with_columns(_down=pl.col("_step").cum_sum().over(_UNIT), end_at=pl.col("at").shift(-1).over(_UNIT))
    together = running.join(wanted, on=_UNIT).filter(pl.col("_down") == pl.col("_wanted"))
    return merge(together.select(_UNIT, start_at="at", end_at="end_at"))


def _ranked(periods: pl.DataFrame) -> pl.DataFrame:
    """Active periods with ``_rank``: the longer the higher, of equal ones the first unit, then the earlier."""
    return (
        periods.with_columns(_length=_us())
        .sort("_length", _UNIT, "start_at", descending=[False, True, True])
        .with_row_index("_rank")
        .with_columns(pl.col("_rank").cast(pl.Int64))
    )


def _segments(periods: pl.DataFrame, pieces: pl.DataFrame) -> pl.DataFrame:
    """The time of each line, cut wherever anything changes, with the bottleneck period (``_rank``) and ``_held``.

    ``_held`` counts the periods that are a bottleneck at some instant and cover the segment. The columns of a
    line bear the names of a unit, so that the operations on intervals serve for lines.
    """
    as_line = [pl.col(_LINE).alias(_UNIT), pl.col(_SPAN)]
    of_lines, edges = periods.select(pl.col("_rank"), *as_line), pieces.select(as_line)
    spans = of_lines.group_by(_UNIT).agg(pl.col("start_at").min(), pl.col("end_at").max())
    segments = cover(cut(spans, of_lines, edges), of_lines, "_rank", ["_rank"])
    winners = of_lines.join(segments.select("_rank").drop_nulls().unique(), on="_rank")
    steps = pl.concat(
        [
            winners.select(_UNIT, start_at="start_at", _step=pl.lit(1, dtype=pl.Int64)),
            winners.select(_UNIT, start_at="end_at", _step=pl.lit(-1, dtype=pl.Int64)),
        ]
    )
    changes = steps.group_by(_UNIT, "start_at").agg(pl.col("_step").sum())
    return (
        segments.join(changes, on=[_UNIT, "start_at"], how="left")
        .sort(_UNIT, "start_at")
        .with_columns(_held=pl.col("_step").fill_null(0).cum_sum().over(_UNIT))
        .drop("_step")
    )


def _with_period(pieces: pl.DataFrame, periods: pl.DataFrame) -> pl.DataFrame:
    """Add to each piece of a shift the ``_rank`` of the active period that it is part of."""
    return pieces.sort("start_at").join_asof(
        periods.select(_UNIT, "_rank", _from="start_at").sort("_from"),
        left_on="start_at",
        right_on="_from",
        by=_UNIT,
        strategy="backward",
        check_sortedness=False,
    )


def _momentary(segments: pl.DataFrame, marked: pl.DataFrame, periods: pl.DataFrame) -> pl.DataFrame:
    """Microseconds in which each unit's period was the longest of its line, per shift."""
    won = segments.drop_nulls("_rank").select("_rank", *_SPAN).join(periods.select("_rank", _UNIT), on="_rank")
    return (
        won.sort("start_at")
        .join_asof(
            marked.select(*_SHIFT, _piece="start_at").sort("_piece"),
            left_on="start_at",
            right_on="_piece",
            by=_UNIT,
            strategy="backward",
            check_sortedness=False,
        )
        .group_by(_SHIFT)
        .agg(_momentary=_us().sum())
    )


def _shared(segments: pl.DataFrame, marked: pl.DataFrame) -> pl.DataFrame:
    """Microseconds in which each unit was the sole bottleneck and in which it was shifting, per shift.

    Running sums per line at the edges of its segments give the time within any piece as a difference.
    """
    length = _us()
    alone, several = pl.col("_held") == 1, pl.col("_held") > 1
    ends = segments.select(
        _LINE_NAME,
        at="end_at",
        _sole=pl.when(alone).then(length).otherwise(0).cum_sum().over(_UNIT),
        _shifting=pl.when(several).then(length).otherwise(0).cum_sum().over(_UNIT),
    )
    zero = pl.lit(0, dtype=pl.Int64)
    begins = segments.group_by(_UNIT).agg(at=pl.col("start_at").min()).select(_LINE_NAME, "at", _sole=zero, _shifting=zero)
    sums = pl.concat([begins, ends])
    winners = marked.join(segments.select("_rank").drop_nulls().unique(), on="_rank")
    return (
        winners.join(sums.rename({"at": "start_at"}), on=[_LINE, "start_at"])
        .join(sums.rename({"at": "end_at"}), on=[_LINE, "end_at"], suffix="_end")
        .group_by(_SHIFT)
        .agg(
            _sole=(pl.col("_sole_end") - pl.col("_sole")).sum(),
            _shifting=(pl.col("_shifting_end") - pl.col("_shifting")).sum(),
        )
    )


_LINE_NAME = pl.col(_UNIT).alias(_LINE)

"""Why a figure of OEE changed: the same figure as known at two times, and what was recorded in between.

Both figures come from the functions that make the lake's figures, on inputs as known at each time. The difference of
each element is split over the events: every second whose class changed goes to the state event that is in force there
afterwards when it is new or corrected, else to the one that was in force before when that was corrected; of a state that
signals made, to the late word of the signal that says something else there. What remains goes to the time that passed
between both figures (``elapsed``) or to an end or class that follows from other events (``indirect``).
Parts go to the count that brought, corrected or took back them. The contributions add up to the difference exactly;
ratios are not separable and are given as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import polars as pl

from spc_platform.contracts import LAKE_TABLES
from spc_platform.contracts.events import CONTRIBUTION, FIGURE_CHANGE
from spc_platform.contracts.raw import EVENT_TIME
from spc_platform.contracts.table import UTC
from spc_platform.errors import ContractError
from spc_platform.prepare.quarantine import accept
from spc_platform.production.calendar import shift_calendar
from spc_platform.production.event_log import as_known_at, events_of
from spc_platform.production.intervals import cover, cut, in_seconds
from spc_platform.production.oee import oee_elements, oee_ratios, placed_counts
from spc_platform.production.signal_causes import signal_causes, signal_words
from spc_platform.production.signals import states_with_signals
from spc_platform.production.states import state_intervals
from spc_platform.site.model import Site

TABLES = ("equipment_state", "work_order", "production_count", "signal_event")
"""Records that an OEE figure rests on."""
FIGURES = (
    *("pot_s", "pdt_s", "pbt_s", "apt_s", "aust_s", "adet_s", "minor_stop_s", "adot_s", "unknown_s", "pq", "gq", "sq", "rq"),
    *("availability", "effectiveness", "quality", "oee", "nee", "tpm_availability", "tpm_performance"),
)
_SUMS = FIGURES[:13]
_ELEMENTS = {
    "PDT": "pdt_s",
    "APT": "apt_s",
    "AUST": "aust_s",
    "ADET": "adet_s",
    "ADOT": "adot_s",
    "UNKNOWN": "unknown_s",
}
_DELTAS = ("pot_s", *_ELEMENTS.values(), "minor_stop_s", "pq", "gq", "sq", "rq")
_RECORD = ["event_type", "source_id", "record_id"]


@dataclass(frozen=True, slots=True)
class Cell:
    """The figure that is asked for: a work unit on a production date, in one shift or (None) in all of them."""

    equipment_id: str
    production_date: date
    shift_id: str | None = None

    def of(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The rows of the cell."""
        chosen = frame.filter(pl.col("equipment_id") == self.equipment_id)
        return chosen if self.shift_id is None else chosen.filter(pl.col("shift_id") == self.shift_id)


@dataclass(frozen=True, slots=True)
class Known:
    """The records of some time, and what the engine makes of them for one production date.

    ``intervals`` is STATE_INTERVAL, ``elements`` OEE_ELEMENTS, ``counts`` accepted counts with their shift, ``words`` what
    signals said (``signal_words``).
    """

    at: datetime
    as_of: datetime
    intervals: pl.DataFrame
    elements: pl.DataFrame
    counts: pl.DataFrame
    words: pl.DataFrame


@dataclass(frozen=True, slots=True)
class Explanation:
    """``figures`` (FIGURE_CHANGE) of the cell at two times, and ``contributions`` (CONTRIBUTION) that add up to the change."""

    cell: Cell
    before: Known
    after: Known
    figures: pl.DataFrame
    contributions: pl.DataFrame


def figures_as_known(
    raw: Mapping[str, pl.DataFrame],
    received: Mapping[str, datetime],
    site: Site,
    production_date: date,
    at: datetime,
    as_of: datetime,
    *,
    by: str = "source",
) -> Known:
    """State intervals and OEE elements of a production date as they were known at ``at`` (aware).

    ``raw`` holds the raw tables of ``TABLES`` (one that is missing has no rows) of the date, of
    ``policies.state_carry_days`` dates before and of the date after, with all revisions of their records. ``as_of`` is the
    instant at which open states are clipped. Counts are those of the MES: a work unit of which a counter counts has none.
    ``received`` and ``by`` as for ``event_log.recorded_at``.
    """
    back = timedelta(days=site.policies.state_carry_days)
    window = {table: (production_date - back, production_date + timedelta(days=1)) for table in TABLES}
    window["production_count"] = (production_date, production_date + timedelta(days=1))
    calendar = shift_calendar(site, production_date, production_date)
    core, refused = {}, {}
    for table, (first, last) in window.items():
        known = as_known_at(_rows(raw, table), received, at, by=by)
        core[table], refused[table] = accept(
            table, known.filter(pl.col("production_date").is_between(first, last)), site, calendar
        )
    # what the MES counted where a counter always counts enters no OEE, so it brought nothing
    counters = site["part_counters"].filter(pl.col("in_force") == "counter")["equipment_id"]
    core["production_count"] = core["production_count"].filter(~pl.col("equipment_id").is_in(counters.unique().implode()))
    events = states_with_signals(core["equipment_state"], core["signal_event"], site, as_of)
    intervals = state_intervals(events, core["work_order"], site, production_date, as_of, refused["equipment_state"])
    elements = oee_elements(intervals, core["production_count"], site, production_date, as_of)
    counts = placed_counts(core["production_count"], site, production_date, as_of, calendar)
    words = signal_words(core["signal_event"].filter(pl.col("occurred_at") <= pl.lit(as_of).cast(UTC)))
    return Known(at, as_of, intervals, elements, counts.filter(pl.col("shift_id").is_not_null()), words)


def _rows(raw: Mapping[str, pl.DataFrame], table: str) -> pl.DataFrame:
    name = f"raw_{table}"
    return raw[name] if name in raw else LAKE_TABLES[name].empty()


def explain(
    raw: Mapping[str, pl.DataFrame],
    received: Mapping[str, datetime],
    site: Site,
    cell: Cell,
    earlier: tuple[datetime, datetime],
    later: tuple[datetime, datetime],
    *,
    by: str = "source",
) -> Explanation:
    """The figures of a cell at two times and the events that changed them.

    ``earlier`` and ``later`` are (known at, as_of), both aware; ``raw``, ``received`` and ``by`` as for
    ``figures_as_known``. Raises ContractError SPC-632 when the later time lies before the earlier one, SPC-633 when the
    site has no such shift of the work unit on the date.
    """
    if later[0] < earlier[0] or later[1] < earlier[1]:
        raise ContractError(
            f"the later time {later[0].isoformat()} lies before the earlier one {earlier[0].isoformat()}: exchange them",
            code="SPC-632",
        )
    shifts = cell.of(shift_calendar(site, cell.production_date, cell.production_date))
    if shifts.is_empty():
        which = "no shift" if cell.shift_id is None else f"no shift {cell.shift_id!r}"
        raise ContractError(
            f"work unit {cell.equipment_id!r} has {which} on production date {cell.production_date}: there is no figure to "
            "explain; name a work unit and a shift of the site's calendar",
            code="SPC-633",
        )
    before, after = (figures_as_known(raw, received, site, cell.production_date, *known, by=by) for known in (earlier, later))
    found = contributions({cell: shifts}, raw, received, before, after, by=by)[cell]
    return Explanation(cell, before, after, _figures(before, after, cell), found)


def contributions(
    cells: Mapping[Cell, pl.DataFrame],
    raw: Mapping[str, pl.DataFrame],
    received: Mapping[str, datetime],
    before: Known,
    after: Known,
    *,
    by: str = "source",
) -> dict[Cell, pl.DataFrame]:
    """CONTRIBUTION of every cell, given with its shifts (SHIFT_CALENDAR), between two times of ``figures_as_known``."""
    recorded = recorded_between({table: _rows(raw, table) for table in TABLES}, received, before.at, after.at, by=by)
    found = {}
    for cell, shifts in cells.items():
        changes = pl.concat([_time_changes(before, after, cell, recorded), _count_changes(before, after, cell, recorded)])
        found[cell] = _contributions(changes, recorded, _touching(recorded, shifts))
    return found


def _figures(before: Known, after: Known, cell: Cell) -> pl.DataFrame:
    sides = [
        _one_row(oee_ratios(cell.of(known.elements), [])).unpivot(variable_name="figure", value_name=name)
        for known, name in ((before, "before"), (after, "after"))
    ]
    joined = sides[0].join(sides[1], on="figure")
    return FIGURE_CHANGE.conform(joined.with_columns(difference=pl.col("after") - pl.col("before")))


def _one_row(ratios: pl.DataFrame) -> pl.DataFrame:
    """The figures as floats; sums are 0 where the cell had not begun, ratios empty."""
    chosen = ratios.select(pl.col(name).cast(pl.Float64) for name in FIGURES)
    return (
        chosen
        if chosen.height
        else pl.DataFrame({name: [0.0 if name in _SUMS else None] for name in FIGURES}, schema=chosen.schema)
    )


def recorded_between(
    raw: Mapping[str, pl.DataFrame],
    received: Mapping[str, datetime],
    earlier: datetime,
    later: datetime,
    *,
    by: str = "source",
) -> pl.DataFrame:
    """Events recorded after ``earlier`` and up to ``later``: as ``event_log.events_of`` with three columns more.

    ``raw`` holds raw rows by table without the prefix ``raw_``. ``_last`` marks the newest event of each record,
    ``_event_id`` names the record, ``_end_at`` is when what it tells ended (the event's time where it tells an instant).
    """
    frames = []
    for table, rows in raw.items():
        name = f"raw_{table}"
        end = rows["end_at"] if "end_at" in rows.columns else rows[EVENT_TIME[name]]
        frames.append(events_of(name, rows, received, by=by).with_columns(end.alias("_end_at")))
    between = pl.col("recorded_at").is_between(pl.lit(earlier).cast(UTC), pl.lit(later).cast(UTC), closed="right")
    events = pl.concat(frames).filter(between)
    order = ["revision", "recorded_at", "payload"]
    last = pl.struct(order).rank("ordinal").over(_RECORD) == pl.len().over(_RECORD)
    return events.with_columns(_last=last, _event_id=pl.concat_str("source_id", pl.lit(":"), "record_id"))


def _time_changes(before: Known, after: Known, cell: Cell, recorded: pl.DataFrame) -> pl.DataFrame:
    """Seconds whose class changed, by the record that changed them."""
    old, new = cell.of(before.intervals), cell.of(after.intervals)
    pieces = cut(new.select("equipment_id", "start_at", "end_at"), old, new)
    for frame, mark in ((old, "b"), (new, "a")):
        named = frame.with_row_index(f"_{mark}").select(
            *("equipment_id", "start_at", "end_at", f"_{mark}"),
            pl.col("time_element").alias(f"_{mark}_element"),
            pl.col("stop_class").alias(f"_{mark}_class"),
            pl.col("event_id").alias(f"_{mark}_event"),
        )
        pieces = cover(pieces, named, f"_{mark}", [f"_{mark}_element", f"_{mark}_class", f"_{mark}_event"])
    pieces = cut(pieces, *(known.words.select("equipment_id", start_at="at", end_at="at") for known in (before, after)))
    differs = pl.any_horizontal(pl.col(f"_a_{name}").ne_missing(pl.col(f"_b_{name}")) for name in ("element", "class"))
    new_ids = recorded.filter(pl.col("event_type") == "equipment_state")["_event_id"].unique().implode()
    by_record = (
        pl.when(pl.col("_a_event").is_in(new_ids)).then("_a_event").when(pl.col("_b_event").is_in(new_ids)).then("_b_event")
    )
    span = (pl.col("end_at") - pl.col("start_at")).dt.total_microseconds()
    minor = {mark: (pl.col(f"_{mark}_element") == "ADET") & (pl.col(f"_{mark}_class") == "micro_stop") for mark in ("a", "b")}
    changed = pieces.filter(differs)
    late_words = recorded.filter(pl.col("event_type") == "signal_event")["_event_id"].unique()
    told = signal_causes(changed, before.words, after.words, late_words)
    return (
        changed.with_columns(by_record.alias("_event_id"), told.alias("_told"))
        .with_columns(
            pl.when(pl.col("_event_id").is_null() & pl.col("_told").is_not_null())
            .then(pl.lit("signal_event"))
            .otherwise(pl.lit("equipment_state"))
            .alias("event_type"),
            pl.coalesce("_event_id", "_told").alias("_event_id"),
            _elapsed=pl.col("_b_element").is_null(),
            pot_s=pl.when(pl.col("_b_element").is_null()).then(span).otherwise(0),
            **{
                name: _gain(pl.col("_a_element") == code, pl.col("_b_element") == code, span)
                for code, name in _ELEMENTS.items()
            },
            minor_stop_s=_gain(minor["a"], minor["b"], span),
            **{name: pl.lit(0, pl.Int64) for name in ("pq", "gq", "sq", "rq")},
        )
        .select("event_type", "_event_id", "_elapsed", *_DELTAS)
    )


def _gain(after: pl.Expr, before: pl.Expr, amount: pl.Expr) -> pl.Expr:
    return amount * (after.fill_null(value=False).cast(pl.Int64) - before.fill_null(value=False).cast(pl.Int64))


def _count_changes(before: Known, after: Known, cell: Cell, recorded: pl.DataFrame) -> pl.DataFrame:
    """Parts that came, went or changed, by their count record."""
    key = ["source_id", "record_id"]
    kinds = {"gq": "good_quantity", "sq": "scrap_quantity", "rq": "rework_quantity"}
    old, new = (
        cell.of(known.counts).select(*key, "counted_at", *(pl.col(name).alias(short) for short, name in kinds.items()))
        for known in (before, after)
    )
    joined = new.join(old, on=key, how="full", coalesce=True, suffix="_old")
    gains = {name: pl.col(name).fill_null(0) - pl.col(f"{name}_old").fill_null(0) for name in kinds}
    ids = recorded.filter(pl.col("event_type") == "production_count")["_event_id"].unique().implode()
    record = pl.concat_str("source_id", pl.lit(":"), "record_id")
    return (
        joined.with_columns(
            pl.lit("production_count").alias("event_type"),
            pl.when(record.is_in(ids)).then(record).alias("_event_id"),
            _elapsed=pl.col("counted_at") > pl.lit(before.as_of).cast(UTC),
            **gains,
            **{name: pl.lit(0, pl.Int64) for name in ("pot_s", *_ELEMENTS.values(), "minor_stop_s")},
        )
        .with_columns(pq=pl.col("gq") + pl.col("sq") + pl.col("rq"))
        .filter(pl.any_horizontal(pl.col(name) != 0 for name in kinds))
        .select("event_type", "_event_id", pl.col("_elapsed").fill_null(value=False), *_DELTAS)
    )


def _touching(recorded: pl.DataFrame, shifts: pl.DataFrame) -> pl.Series:
    """Whether an event lies in the cell by its own times: parts counted and states or orders that overlap a shift."""
    row = shifts.select("equipment_id", "work_center_id", start_at=pl.col("start_at").min(), end_at=pl.col("end_at").max()).row(
        0, named=True
    )
    here = pl.col("equipment_id").is_in([row["equipment_id"], row["work_center_id"]])
    end = pl.coalesce("_end_at", pl.max_horizontal("effective_at", pl.lit(row["start_at"]).cast(UTC)))
    within = (pl.col("effective_at") <= pl.lit(row["end_at"]).cast(UTC)) & (end >= pl.lit(row["start_at"]).cast(UTC))
    return recorded.select(touching=here & within.fill_null(value=False))["touching"]


def _contributions(changes: pl.DataFrame, recorded: pl.DataFrame, touching: pl.Series) -> pl.DataFrame:
    """Contributions by event; what no event of the list explains is one row of cause elapsed and one of indirect."""
    sums = changes.group_by("event_type", "_event_id").agg(pl.col(_DELTAS).sum())
    zero = pl.col(_DELTAS).fill_null(0)
    listed = (
        recorded.with_columns(touching.alias("_touching"))
        .join(sums.drop_nulls("_event_id").with_columns(_last=True), on=["event_type", "_event_id", "_last"], how="left")
        .filter(pl.col("_touching") | pl.col("pq").is_not_null())
        .with_columns(zero, cause=pl.when("_last").then(pl.lit("event")).otherwise(pl.lit("superseded")))
    )
    rest = (
        changes.filter(pl.col("_event_id").is_null())
        .group_by("_elapsed")
        .agg(pl.col(_DELTAS).sum())
        .with_columns(
            cause=pl.when("_elapsed").then(pl.lit("elapsed")).otherwise(pl.lit("indirect")), is_deleted=pl.lit(value=False)
        )
    )
    seconds = [in_seconds(pl.col(name)).alias(name) for name in _DELTAS if name.endswith("_s")]
    return CONTRIBUTION.conform(pl.concat([listed, rest], how="diagonal_relaxed").with_columns(seconds))

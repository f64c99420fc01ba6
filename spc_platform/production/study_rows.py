"""Rows of a study's tables: which are refused, which are settled by a rule, and what to do about each."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import polars as pl

from spc_platform.contracts.production import STATE_INTERVAL
from spc_platform.contracts.site import CALENDAR_KINDS, PRODUCTS
from spc_platform.contracts.table import UTC
from spc_platform.errors import SiteError

REMEDIES: dict[str, tuple[str, str]] = {
    "UNREADABLE": ("a cell cannot be read", "correct the cell that the detail names"),
    "EQUIPMENT_MISSING": ("the work unit is empty", "name the work unit of the row"),
    "UNKNOWN_EQUIPMENT": ("the work unit is not one of the plant", "correct its name, or add it to the equipment"),
    "STATE_MISSING": ("the state is empty", "name the state"),
    "UNKNOWN_STATE": ("the state means nothing here", "use RUN, STOP, IDLE, SETUP or UNKNOWN, or map it with --state-map"),
    "START_MISSING": ("the start is empty", "write when the state began"),
    "TIME_MISSING": ("the time is empty", "write when the parts were finished"),
    "END_BEFORE_START": ("it ends before it starts", "exchange or correct start and end"),
    "FAR_AWAY": (
        "more than a year in which nothing is told lies between it and most rows",
        "correct the clock of the source, or study such rows apart",
    ),
    "END_AT_START": ("it has no length and takes no time", "nothing, or correct its end"),
    "IN_THE_FUTURE": ("it begins at or after as_of", "correct the clock of the source, or ask --as-of a later time"),
    "DUPLICATE": ("an earlier row says the same", "nothing: it counts once; give both a record_id if both happened"),
    "RECORD_TWICE": ("its record_id stands in a row that says something else", "give every record its own record_id"),
    "OVERLAP": (
        "another state of the unit holds at the same time",
        "the state of higher priority is in force, then the later start; correct the times if that is wrong",
    ),
    "OPEN": ("it has no end and no state follows: it lasts until as_of", "write its end once it is known"),
    "CLIPPED": ("it ends after as_of: its time until as_of counts", "ask --as-of a later time for the rest"),
    "OUTSIDE_SHIFTS": ("no shift holds it: it enters no figure", "add the shift to the calendar if the unit was meant to run"),
    "COUNT_WITHOUT_STATES": (
        "the unit has counts but no state: its time is UNKNOWN and its ratios are undefined",
        "add the unit's states",
    ),
    "PRODUCT_MISSING": ("the product is empty", "name the product, or leave the column out of the file altogether"),
    "COUNT_MISSING": ("no quantity is given", "write good, scrap and rework quantities; 0 where none were made"),
    "NEGATIVE_COUNT": ("a quantity is below 0", "write corrections as the corrected row"),
    "NO_IDEAL_CYCLE": ("the ideal cycle is missing, 0 or below 0", "write the planned run time per item in seconds"),
    "KIND_UNKNOWN": ("the kind is none of the calendar", f"use shift, {', '.join(CALENDAR_KINDS)}"),
    "END_MISSING": ("start or end is empty", "write both"),
    "TOO_LONG": ("a shift lasts more than 24 hours on the clock", "split it"),
    "NOT_ON_A_MINUTE": ("a shift begins or ends between two minutes", "write whole minutes"),
    "SHOWN_TWICE": (
        "a shift begins or ends in an hour that the clock shows for the second time",
        "begin or end it before that hour or after it",
    ),
    "RECORDED_LATE": (
        "it was recorded after its start: it counts as planned from its recording on",
        "nothing: what is written down afterwards does not improve the past",
    ),
}
"""Code -> why, what to do."""

_SILENT_DAYS = 366
_ROWS = {"table": pl.String, "row": pl.Int64, "code": pl.String, "why": pl.String, "detail": pl.String, "remedy": pl.String}


class Findings:
    """Rows that a study did not take as they stand, gathered while its tables are read."""

    def __init__(self) -> None:
        self._rejected: list[pl.DataFrame] = []
        self._resolved: list[pl.DataFrame] = []

    def reject(self, table: str, rows: pl.DataFrame, code: str) -> None:
        """Refuse the rows for one reason."""
        self._rejected.append(_listed(table, rows, code))

    def resolve(self, table: str, rows: pl.DataFrame, code: str) -> None:
        """Note a rule that settled the rows."""
        self._resolved.append(_listed(table, rows, code))

    def rejected_rows(self) -> pl.DataFrame:
        """Refused rows: table, row, code, why, detail, remedy; a row refused for several reasons stands several times."""
        return _gathered(self._rejected)

    def resolved_rows(self) -> pl.DataFrame:
        """Rows settled by a rule, in the same columns."""
        return _gathered(self._resolved)

    def summary(self) -> str:
        """Say in one sentence how many rows were refused why."""
        rows = self.rejected_rows()
        if rows.is_empty():
            return "there were none."
        counted = rows.group_by("table", "code").agg(pl.len(), pl.col("row").min()).sort("table", "code")
        said = [f"{row['len']} of {row['table']} {row['code']} (first: row {row['row']})" for row in counted.to_dicts()]
        return f"refused were {', '.join(said)}."

    def outside_shifts(self, states: pl.DataFrame, shifts: pl.DataFrame, as_of: datetime) -> None:
        """Note the states that no planned operation time of their unit touches."""
        following = pl.col("start_at").shift(-1).over("equipment_id", order_by="start_at")
        ended = states.with_columns(_end=pl.coalesce("end_at", following, pl.lit(as_of).cast(UTC))).sort("_end")
        touched = ended.join_asof(
            shifts.select("equipment_id", _from="start_at", _to="end_at").sort("_from"),
            left_on="_end",
            right_on="_from",
            by="equipment_id",
            strategy="backward",
            allow_exact_matches=False,
            check_sortedness=False,
        )
        self.resolve(
            "states", touched.filter((pl.col("_to") > pl.col("start_at")).fill_null(value=False).not_()), "OUTSIDE_SHIFTS"
        )

    def counts_without_states(self, counts: pl.DataFrame, states: pl.DataFrame) -> None:
        """Note the counts of units of which no state is known."""
        self.resolve("counts", counts.join(states, on="equipment_id", how="anti"), "COUNT_WITHOUT_STATES")


def _listed(table: str, rows: pl.DataFrame, code: str) -> pl.DataFrame:
    why, remedy = REMEDIES[code]
    detail = pl.col("problem") if code == "UNREADABLE" else pl.lit(None, dtype=pl.String)
    return rows.select(
        table=pl.lit(table), row="row", code=pl.lit(code), why=pl.lit(why), detail=detail, remedy=pl.lit(remedy)
    ).cast(_ROWS)  # type: ignore[arg-type]


def _gathered(found: list[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat([pl.DataFrame(schema=_ROWS), *found]).sort("table", "row", "code")


def _sieve(table: str, rows: pl.DataFrame, rules: dict[str, pl.Expr], found: Findings) -> pl.DataFrame:
    """Keep the rows that break none of the rules; the others are rejected with every reason."""
    flags = rows.select(pl.lit(value=False).alias("_none"), **{code: bad.fill_null(value=False) for code, bad in rules.items()})
    for code in rules:
        found.reject(table, rows.filter(flags[code]), code)
    return rows.filter(~flags.select(pl.any_horizontal(pl.all())).to_series())


def _shared(rows: pl.DataFrame, known: pl.Series | None) -> dict[str, pl.Expr]:
    unit = pl.col("equipment_id")
    alien = pl.lit(value=False) if known is None else ~unit.is_in(known.implode())
    return {"UNREADABLE": pl.col("problem").is_not_null(), "EQUIPMENT_MISSING": unit.is_null(), "UNKNOWN_EQUIPMENT": alien}


def _once(table: str, rows: pl.DataFrame, content: list[str], found: Findings) -> pl.DataFrame:
    """Rows without repetitions, named by ``record_id`` in the order of what they say, so that file order changes nothing."""
    own = rows["record_id"].is_not_null()
    same = ["record_id", *content]
    ordered = rows.sort(*same, "row", nulls_last=True)
    repeated = ~ordered.select(pl.struct(same).is_first_distinct()).to_series()
    found.resolve(table, ordered.filter(repeated), "DUPLICATE")
    kept = ordered.filter(~repeated)
    if own.any():
        clash = kept["record_id"].is_duplicated() & kept["record_id"].is_not_null()
        found.reject(table, kept.filter(clash), "RECORD_TWICE")
        kept = kept.filter(~clash)
    kept = kept.sort(*content, "record_id", nulls_last=True)
    return kept.with_columns(record_id=pl.int_range(pl.len()).cast(pl.String).str.zfill(9))


Span = tuple[datetime, datetime]


def told_span(states: pl.DataFrame, counts: pl.DataFrame, as_of: datetime | None) -> Span | None:
    """First and last instant of the rows without those that a year of silence parts from most: a clock in 1970, in 2099.

    Of two such groups with as many instants the later one is meant. None when no row tells an instant until ``as_of``.
    """
    at = pl.concat([states["start_at"], states["end_at"], counts["counted_at"]]).drop_nulls().sort().alias("at").to_frame()
    if as_of is not None:
        at = at.filter(pl.col("at") <= pl.lit(as_of).cast(UTC))
    if at.is_empty():
        return None
    group = (pl.col("at").diff() > pl.duration(days=_SILENT_DAYS)).fill_null(value=False).cum_sum()
    spans = at.group_by(_group=group).agg(pl.len(), first=pl.col("at").min(), last=pl.col("at").max())
    first, last = spans.sort("len", "first").select("first", "last").row(-1)
    return first, last


def _far_away(columns: list[str], span: Span | None, as_of: datetime | None) -> pl.Expr:
    if span is None:
        return pl.lit(value=False)
    first, last = (pl.lit(at).cast(UTC) for at in span)
    known = pl.lit(value=True) if as_of is None else pl.col(columns) <= pl.lit(as_of).cast(UTC)
    return pl.any_horizontal(((pl.col(columns) < first) | ((pl.col(columns) > last) & known)).fill_null(value=False))


def judged_states(
    rows: pl.DataFrame,
    known: pl.Series | None,
    source_states: pl.Series,
    as_of: datetime | None,
    found: Findings,
    span: Span | None = None,
) -> pl.DataFrame:
    """State rows that can be used, each once; rows beyond use go to ``found``, and those that a rule settles too.

    ``span`` of ``told_span``: rows that begin or end outside it are refused.
    """
    start, end = pl.col("start_at"), pl.col("end_at")
    rules = _shared(rows, known) | {
        "STATE_MISSING": pl.col("state").is_null() & pl.col("problem").is_null(),
        "UNKNOWN_STATE": ~pl.col("state").is_in(source_states.implode()),
        "START_MISSING": start.is_null() & pl.col("problem").is_null(),
        "END_BEFORE_START": end < start,
        "FAR_AWAY": _far_away(["start_at", "end_at"], span, as_of),
    }
    if as_of is not None:
        rules["IN_THE_FUTURE"] = start >= pl.lit(as_of).cast(UTC)
    kept = _sieve("states", rows, rules, found)
    content = ["equipment_id", "start_at", "end_at", "state", "reason_code", "material_definition_id"]
    kept = _once("states", kept, content, found)
    found.resolve("states", kept.filter(start == end), "END_AT_START")
    kept = kept.filter((start != end) | end.is_null())
    kept = _ended_by_refused(kept, rows.filter(~_far_away(["start_at"], span, as_of)), as_of)
    order = ["start_at", "record_id"]
    spans = kept.with_columns(
        _next=start.shift(-1).over("equipment_id", order_by=order),
        _reached=end.cum_max().shift(1).over("equipment_id", order_by=order),
    )
    found.resolve("states", spans.filter((pl.col("_next") < end) | (pl.col("_reached") > start)), "OVERLAP")
    found.resolve("states", spans.filter(end.is_null() & pl.col("_next").is_null()), "OPEN")
    if as_of is not None:
        found.resolve("states", kept.filter(end > pl.lit(as_of).cast(UTC)), "CLIPPED")
    return kept


def _ended_by_refused(kept: pl.DataFrame, rows: pl.DataFrame, as_of: datetime | None) -> pl.DataFrame:
    """End open states where the unit said something else, even if that row was refused: what followed is not known."""
    start, unit = pl.col("start_at"), "equipment_id"
    said = rows.filter(pl.col("end_at").is_null() | (pl.col("end_at") != start)).select(unit, _other="start_at").drop_nulls()
    if as_of is not None:
        said = said.filter(pl.col("_other") < pl.lit(as_of).cast(UTC))
    other = (
        kept.select("row", unit, "start_at")
        .sort("start_at")
        .join_asof(
            said.sort("_other"),
            left_on="start_at",
            right_on="_other",
            by=unit,
            strategy="forward",
            allow_exact_matches=False,
            check_sortedness=False,
        )
        .select("row", "_other")
    )
    begins = kept.select(unit, _other="start_at").unique()
    refused = other.join(kept.select("row", unit), on="row").join(begins, on=[unit, "_other"], how="anti")
    ended = kept.join(refused.select("row", "_other"), on="row", how="left", maintain_order="left")
    return ended.with_columns(end_at=pl.coalesce("end_at", "_other")).drop("_other")


def judged_counts(
    rows: pl.DataFrame, known: pl.Series | None, as_of: datetime | None, found: Findings, span: Span | None = None
) -> pl.DataFrame:
    """Counts that can be used, each once; a kind of quantity that the row leaves empty is 0 when another is given."""
    kinds = ["good_quantity", "scrap_quantity", "rework_quantity"]
    readable = pl.col("problem").is_null()
    rules = _shared(rows, known) | {
        "TIME_MISSING": pl.col("counted_at").is_null() & readable,
        "PRODUCT_MISSING": pl.col("material_definition_id").is_null() & readable,
        "COUNT_MISSING": pl.all_horizontal(pl.col(*kinds).is_null()) & readable,
        "NEGATIVE_COUNT": pl.any_horizontal(pl.col(*kinds) < 0),
        "FAR_AWAY": _far_away(["counted_at"], span, as_of),
    }
    if as_of is not None:
        rules["IN_THE_FUTURE"] = pl.col("counted_at") > pl.lit(as_of).cast(UTC)
    kept = _sieve("counts", rows, rules, found).with_columns(pl.col(*kinds).fill_null(0))
    return _once("counts", kept, ["equipment_id", "counted_at", "material_definition_id", *kinds, "reason_code"], found)


def judged_entries(rows: pl.DataFrame | None, units: pl.Series, zone: str, found: Findings) -> pl.DataFrame:
    """Calendar entries that can be used; an empty equipment_id means every unit, and shifts are times on the zone's clock."""
    schema: dict[str, Any] = {
        "row": pl.Int64, "equipment_id": pl.String, "kind": pl.String, "shift_id": pl.String, "start_at": UTC, "end_at": UTC,
        "recorded_at": UTC,
    }  # fmt: skip
    if rows is None:
        return pl.DataFrame(schema=schema)
    start, end, shift = pl.col("start_at"), pl.col("end_at"), pl.col("kind") == "shift"
    uneven = (start.dt.truncate("1m") != start) | (end.dt.truncate("1m") != end)
    kept = _sieve(
        "calendar",
        rows,
        {
            "UNREADABLE": pl.col("problem").is_not_null(),
            "UNKNOWN_EQUIPMENT": ~pl.col("equipment_id").is_in(units.implode()),
            "KIND_UNKNOWN": ~pl.col("kind").is_in(["shift", *CALENDAR_KINDS]) | pl.col("kind").is_null(),
            "END_MISSING": (start.is_null() | end.is_null()) & pl.col("problem").is_null(),
            "END_BEFORE_START": end <= start,
            "TOO_LONG": shift & (_shown(end, zone) - _shown(start, zone) > pl.duration(hours=24)),
            "NOT_ON_A_MINUTE": shift & uneven,
            "SHOWN_TWICE": shift & (_second_time(start, zone) | _second_time(end, zone)),
        },
        found,
    ).select(pl.col(name).cast(dtype) for name, dtype in schema.items())
    content = [name for name in schema if name != "row"]
    ordered = kept.sort(*content, "row", nulls_last=True)
    again = ~ordered.select(pl.struct(content).is_first_distinct()).to_series()
    found.resolve("calendar", ordered.filter(again), "DUPLICATE")
    kept = ordered.filter(~again)
    found.resolve("calendar", kept.filter(~(pl.col("kind") == "shift") & (pl.col("recorded_at") > start)), "RECORDED_LATE")
    return kept


def _shown(at: pl.Expr, zone: str) -> pl.Expr:
    """What the clock of the zone shows at the instant."""
    return at.dt.convert_time_zone(zone).dt.replace_time_zone(None)


def _second_time(at: pl.Expr, zone: str) -> pl.Expr:
    """Whether the clock of the zone shows the instant for the second time."""
    return (
        _shown(at, zone).dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null").dt.convert_time_zone("UTC") != at
    )


def judged_products(rows: pl.DataFrame | None, found: Findings) -> pl.DataFrame:
    """Ideal cycles that can be used. Raises SPC-422 when a product has two at one time."""
    columns = PRODUCTS.schema
    if rows is None:
        return pl.DataFrame(schema=columns)
    pri = pl.col("pri_s")
    kept = _sieve(
        "products",
        rows,
        {
            "UNREADABLE": pl.col("problem").is_not_null(),
            "PRODUCT_MISSING": pl.col("material_definition_id").is_null(),
            "NO_IDEAL_CYCLE": (pri.is_null() | (pri <= 0)) & pl.col("problem").is_null(),
            "END_BEFORE_START": pl.col("effective_to") <= pl.col("effective_from"),
        },
        found,
    )
    distinct = kept.unique(list(columns), keep="first", maintain_order=True)
    key = ["material_definition_id", "equipment_id"]
    ends = distinct.sort(*key, "effective_from", "effective_to", nulls_last=False).with_columns(
        _before=pl.col("effective_to").shift(1).over(key, order_by="effective_from"),
        _n=pl.int_range(pl.len()).over(key, order_by="effective_from"),
    )
    start = pl.col("effective_from")
    both = ends.filter((pl.col("_n") > 0) & (pl.col("_before").is_null() | start.is_null() | (pl.col("_before") > start)))
    if both.height:
        row = both.row(0, named=True)
        where = f" on {row['equipment_id']}" if row["equipment_id"] else ""
        raise SiteError(
            f"products, row {row['row']}: {row['material_definition_id']}{where} has another ideal cycle at the same time. "
            "Write from when to when each is in force (effective_from, effective_to).",
            code="SPC-422",
        )
    return distinct.select(pl.col(name).cast(dtype) for name, dtype in columns.items())


def gaps(intervals: pl.DataFrame) -> pl.DataFrame:
    """Pieces of operation time in which nobody recorded a state, from a STATE_INTERVAL frame."""
    silent = intervals.filter((pl.col("time_element") == "UNKNOWN") & pl.col("event_id").is_null())
    return silent.select(pl.col(name) for name in ("equipment_id", "shift_id", "start_at", "end_at", "duration_s")).cast(
        {name: STATE_INTERVAL.schema[name] for name in ("equipment_id", "shift_id", "start_at", "end_at", "duration_s")}
    )

"""The log of operations: every record revision as an immutable event, and the plant as it was known at a time.

**Time.** ``effective_at`` is when something happened, ``recorded_at`` when it was written down: the source's own
``updated_at``, else the receipt of its page. The source's time does not depend on how pages were cut or when they
were landed again, so the same records give the same bytes of the log in any order and any batching.

**Chain.** Within a production date events are ordered by (recorded_at, event_type, source_id, record_id, revision,
event_id) and numbered from 1. With ``||`` for a line feed between UTF-8 texts and lower-case hexadecimal digests:

* ``event_id = sha256(JSON)`` of the fields ``EVENT_FIELDS``, in this order, without blanks, null for what is empty;
* ``prev_hash`` of the first event is ``sha256("operations_event" || production_date)``;
* ``chain_hash = sha256(prev_hash || sequence || event_id)``.

An event that is changed, missing or out of its place breaks the chain there. Events cut off at the end leave a whole,
shorter chain: keep the last ``chain_hash`` of a date elsewhere (``heads``) and give it to ``verify_chain``. A record
that arrives with an older ``recorded_at`` than events known before takes its place among them; ``new_events`` names it.
A log made anew from replaced records is whole in itself: ``verify_history`` compares it with what earlier heads covered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from itertools import accumulate

import polars as pl

from spc_platform.contracts.events import OPERATIONS_EVENT, OPERATIONS_EVENT_TYPES
from spc_platform.contracts.raw import EVENT_TIME, PAYLOAD
from spc_platform.contracts.table import UTC
from spc_platform.errors import ContractError
from spc_platform.prepare.revisions import latest_revisions

EVENT_FIELDS = (
    "event_type",
    "source_id",
    "record_id",
    "revision",
    "equipment_id",
    "effective_at",
    "recorded_at",
    "is_deleted",
    "decode_error",
    "payload",
)
ORDER = ("production_date", "recorded_at", "event_type", "source_id", "record_id", "revision", "event_id")
_ISO = "%Y-%m-%dT%H:%M:%S%.6fZ"
_PLACE = ("equipment_id", "work_center_id")
_NO_ROWS = pl.DataFrame(schema={"source_id": pl.String, "record_id": pl.String, "revision": pl.Int64, "updated_at": UTC})


def recorded_at(raw: pl.DataFrame, received: Mapping[str, datetime], *, by: str = "source") -> pl.Series:
    """When each row of a raw table was recorded, in the rows' order.

    ``received`` gives the receipt of each page by its sha256. By ``"source"`` it is the source's ``updated_at``, else the
    receipt; by ``"receipt"`` always the receipt. Raises ContractError SPC-630 when a receipt is needed and not given.
    """
    pages = pl.DataFrame(
        {"page_sha256": list(received), "_received": list(received.values())},
        schema={"page_sha256": pl.String, "_received": UTC},
    )
    rows = raw.select("page_sha256", "updated_at").join(pages, on="page_sha256", how="left", maintain_order="left")
    written = pl.col("_received") if by == "receipt" else pl.coalesce("updated_at", "_received")
    found = rows.select(recorded_at=written)["recorded_at"]
    if found.has_nulls():
        page = rows.filter(found.is_null())["page_sha256"][0]
        raise ContractError(
            f"{found.null_count()} records have no recorded time: the receipt of page {page} is not given; "
            "pass the ledger's received_at of every page that the rows name",
            code="SPC-630",
        )
    return found


def operations_events(raw: Mapping[str, pl.DataFrame], received: Mapping[str, datetime]) -> pl.DataFrame:
    """Every revision of every record as an event of the log, chained per production date: OPERATIONS_EVENT.

    ``raw`` holds raw tables by name (``raw_equipment_state``, …); tables that are no events of operations are refused with
    ContractError SPC-631. ``received`` as for ``recorded_at``.
    """
    unknown = sorted(set(raw) - {f"raw_{kind}" for kind in OPERATIONS_EVENT_TYPES})
    if unknown:
        raise ContractError(
            f"{', '.join(unknown)} holds no events of operations; pass raw tables of {', '.join(OPERATIONS_EVENT_TYPES)}",
            code="SPC-631",
        )
    frames = [events_of(table, frame, received) for table, frame in raw.items()]
    if not frames:
        return OPERATIONS_EVENT.empty()
    events = pl.concat(frames)
    events = events.with_columns(event_id=_digests(_as_json(events, EVENT_FIELDS))).unique(["production_date", "event_id"])
    return OPERATIONS_EVENT.conform(_chained(events))


def events_of(table: str, raw: pl.DataFrame, received: Mapping[str, datetime], *, by: str = "source") -> pl.DataFrame:
    """The rows of one raw table as events, not yet chained: ``EVENT_FIELDS`` and production_date, in the rows' order."""
    payload = [column.name for column in PAYLOAD[table]]
    place = next((pl.col(name) for name in _PLACE if name in payload), pl.lit(None, pl.String))
    return raw.with_columns(recorded_at=recorded_at(raw, received, by=by), payload=_as_json(raw, payload)).select(
        pl.lit(table.removeprefix("raw_")).alias("event_type"),
        "source_id",
        "record_id",
        "revision",
        place.alias("equipment_id"),
        pl.col(EVENT_TIME[table]).alias("effective_at"),
        "recorded_at",
        "is_deleted",
        "decode_error",
        "payload",
        "production_date",
    )


def _as_json(frame: pl.DataFrame, names: Iterable[str]) -> pl.Series:
    """One JSON object per row, names in the given order, instants as text."""
    fields = [pl.col(name).dt.strftime(_ISO) if frame.schema[name] == UTC else pl.col(name) for name in names]
    return frame.select(json=pl.struct(fields).struct.json_encode())["json"]


def _digests(texts: pl.Series) -> pl.Series:
    return pl.Series(texts.name, [_sha256(text) for text in texts.to_list()], dtype=pl.String)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _chained(events: pl.DataFrame) -> pl.DataFrame:
    """Events in their order with sequence and hashes. A chain is sequential by its nature: each link hashes the one before."""
    ordered = events.sort(ORDER).with_columns(sequence=pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over("production_date"))
    links: list[str] = []
    before: list[str] = []
    for (day,), rows in ordered.group_by("production_date", maintain_order=True):
        chain = list(accumulate(zip(rows["sequence"], rows["event_id"], strict=True), _link, initial=_genesis(day)))
        before += chain[:-1]
        links += chain[1:]
    return ordered.with_columns(
        pl.Series("prev_hash", before, dtype=pl.String), pl.Series("chain_hash", links, dtype=pl.String)
    )


def _genesis(production_date: object) -> str:
    return _sha256(f"operations_event\n{production_date}")


def _link(previous: str, event: tuple[int, str]) -> str:
    sequence, event_id = event
    return _sha256(f"{previous}\n{sequence}\n{event_id}")


def heads(log: pl.DataFrame) -> dict[date, str]:
    """The last ``chain_hash`` of each production date: what to keep elsewhere, so that a cut end is noticed."""
    last = log.sort("production_date", "sequence").unique("production_date", keep="last", maintain_order=True)
    return dict(zip(last["production_date"].to_list(), last["chain_hash"].to_list(), strict=True))


def verify_chain(log: pl.DataFrame, expected_heads: Mapping[date, str] | None = None) -> pl.DataFrame:
    """What is wrong with a log: production_date, sequence, problem; no rows when it is whole. Any row order is accepted.

    ALTERED: the event is not the one that its event_id names. MISSING: the sequence has a hole before this event.
    REORDERED: the event is not where its recorded time puts it. BROKEN: its hashes do not continue those before it.
    HEAD: the date does not end in ``expected_heads`` (events cut off or added); sequence is that of its last event.
    """
    rows = OPERATIONS_EVENT.conform(log)
    again = _chained(rows.drop("sequence", "prev_hash", "chain_hash"))
    content = _digests(_as_json(rows, EVENT_FIELDS))
    same_day = pl.col("production_date") == pl.col("production_date").shift(1)
    before = pl.when(same_day).then(pl.col("sequence").shift(1)).otherwise(0)
    previous = pl.when(same_day).then(pl.col("chain_hash").shift(1)).otherwise(pl.col("_genesis"))
    links = [_link(*each) for each in zip(rows["prev_hash"], zip(rows["sequence"], rows["event_id"], strict=True), strict=True)]
    judged = rows.with_columns(
        _genesis=pl.Series([_genesis(day) for day in rows["production_date"]], dtype=pl.String),
        _content=content,
        _link=pl.Series(links, dtype=pl.String),
        _canonical=again["event_id"],
    ).with_columns(_previous=previous, _before=before)
    problems = {
        "ALTERED": pl.col("_content") != pl.col("event_id"),
        "MISSING": pl.col("sequence") > pl.col("_before") + 1,
        "REORDERED": pl.col("_canonical") != pl.col("event_id"),
        "BROKEN": (pl.col("_link") != pl.col("chain_hash")) | (pl.col("_previous") != pl.col("prev_hash")),
    }
    found = [judged.filter(bad).select("production_date", "sequence", problem=pl.lit(name)) for name, bad in problems.items()]
    found.append(_wrong_heads(rows, expected_heads or {}))
    return pl.concat(found).sort("production_date", "sequence", "problem")


def _wrong_heads(log: pl.DataFrame, expected: Mapping[date, str]) -> pl.DataFrame:
    wanted = pl.DataFrame(
        {"production_date": list(expected), "_head": list(expected.values())},
        schema={"production_date": pl.Date, "_head": pl.String},
    )
    last = log.group_by("production_date").agg(pl.col("sequence").max(), pl.col("chain_hash").sort_by("sequence").last())
    return (
        wanted.join(last, on="production_date", how="left")
        .filter(pl.col("chain_hash").ne_missing(pl.col("_head")))
        .select("production_date", pl.col("sequence").fill_null(0), problem=pl.lit("HEAD"))
    )


def verify_history(log: pl.DataFrame, covered: pl.DataFrame, entries: pl.DataFrame) -> pl.DataFrame:
    """What a log of one production date lost since earlier commits: entry, event_id, problem; no rows when it only grew.

    ``covered`` (event_id, entry) names the events that earlier heads cover, ``entries`` (entry, chain_hash) those heads, or
    some of them. LOST: an event that an entry covers is not in the log: it was replaced or taken out. HEAD: the events that
    were covered by an entry do not chain to its ``chain_hash`` although none is lost; event_id is empty.
    """
    rows = OPERATIONS_EVENT.conform(log)
    lost = covered.join(rows, on="event_id", how="anti").select("entry", "event_id", problem=pl.lit("LOST"))
    if lost.height:
        return lost.sort("entry", "event_id")
    known = rows.drop("sequence", "prev_hash", "chain_hash").join(covered, on="event_id")
    wrong = [
        entry
        for entry, head in entries.select("entry", "chain_hash").iter_rows()
        if _head_of(known.filter(pl.col("entry") <= entry)) != head
    ]
    return pl.DataFrame({"entry": wrong}, schema={"entry": pl.Int64}).select(
        "entry", event_id=pl.lit(None, pl.String), problem=pl.lit("HEAD")
    )


def _head_of(events: pl.DataFrame) -> str:
    return "" if events.is_empty() else str(_chained(events)["chain_hash"][-1])


def new_events(before: pl.DataFrame, after: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(events of ``after`` that ``before`` lacks, events of ``before`` that ``after`` lost); a sound log lost none."""
    key = ["production_date", "event_id"]
    return after.join(before, on=key, how="anti"), before.join(after, on=key, how="anti")


def as_known_at(raw: pl.DataFrame, received: Mapping[str, datetime], at: datetime, *, by: str = "source") -> pl.DataFrame:
    """A raw table as it was known at ``at`` (aware): later revisions removed, ``is_current`` of the others judged anew.

    ``raw`` must hold all revisions of its records, on whichever production date they lie, since a revision on one date
    replaces one on another. ``received`` and ``by`` as for ``recorded_at``. Rows keep the columns of the raw table, so
    every function that takes it gives the figures as known then.
    """
    known = raw.filter(recorded_at(raw, received, by=by) <= pl.lit(at).cast(UTC))
    return latest_revisions(known, _NO_ROWS).select(raw.columns)

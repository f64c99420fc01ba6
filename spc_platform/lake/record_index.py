"""What the ledger knows of single records: is a record new, and does it replace one on another production date.

Works on whole pages as columns inside the transaction of the caller. Records of mutable resources get a row
per revision; of append-only resources only their content hashes are kept, one array per page.
"""

from __future__ import annotations

import sqlite3
from itertools import chain

import msgspec
import numpy as np
import polars as pl

NEVER = -(2**62)
"""Stands for an unknown time among microseconds since 1970, so that it sorts lowest and may be a key."""

RECORDS = pl.Schema(
    {
        "record_id": pl.String,
        "revision": pl.Int64,
        "content_hash": pl.Int64,
        "updated_at": pl.Int64,
        "stated_at": pl.Int64,
        "event_at": pl.Int64,
        "production_date": pl.Int32,
    }
)
"""Records of one page as the index takes them: times in microseconds, dates in days since 1970.

``updated_at`` orders the revisions of a record; ``stated_at`` is what the source says of it, ``NEVER`` when it says nothing.
"""

_ROWS_A_STATEMENT = 50
_KEY = ["record_id", "revision", "content_hash"]
_STORED = [*_KEY, "updated_at", "production_date"]
_IN_FORCE = ["revision", "updated_at", "production_date"]
_TOUCHES = pl.Schema({"production_date": pl.Int32, "n_new": pl.Int64, "n_moved": pl.Int64})


def register_revisions(connection: sqlite3.Connection, stream_id: int, records: pl.DataFrame) -> pl.DataFrame:
    """Enter the records of a page of a mutable resource; gives production_date, n_new, n_moved.

    ``n_new`` counts revisions (or contents) not seen before, ``n_moved`` records that this page takes away
    from the date because their revision in force now lies on another one.
    """
    distinct = records["record_id"].n_unique() == records.height
    incoming = records if distinct else records.unique(_KEY, keep="first", maintain_order=True)
    known = _known(connection, stream_id, incoming["record_id"] if distinct else incoming["record_id"].unique())
    new = (incoming if known.is_empty() else incoming.join(known, on=_KEY, how="anti")).select(_STORED)
    if new.is_empty():
        return pl.DataFrame(schema=_TOUCHES)
    _enter(connection, "INSERT INTO record", stream_id, new.sort("record_id"))
    added = new.group_by("production_date").agg(n_new=pl.len().cast(pl.Int64))
    if distinct and known.is_empty():
        return added.with_columns(n_moved=pl.lit(0, pl.Int64)).sort("production_date")
    before = known.join(new, on="record_id", how="semi")
    everything = pl.concat([before, new])
    now = _in_force(everything)
    _enter_superseded(connection, stream_id, everything, now)
    moved = (
        _in_force(before)
        .join(now.select("record_id", now="production_date"), on="record_id")
        .filter(pl.col("production_date") != pl.col("now"))
    )
    taken = moved.group_by("production_date").agg(n_moved=pl.len().cast(pl.Int64))
    return added.join(taken, on="production_date", how="full", coalesce=True).fill_null(0).sort("production_date")


def register_hashes(connection: sqlite3.Connection, stream_id: int, page_id: int, records: pl.DataFrame) -> pl.DataFrame:
    """Enter the records of a page of an append-only resource; gives production_date, n_new, n_moved.

    A record was seen before when its content hash is in a page whose span of event times meets this one's.
    """
    incoming = records.unique("content_hash", keep="first", maintain_order=True)
    if incoming.is_empty():
        return pl.DataFrame(schema=_TOUCHES)
    blobs = connection.execute(
        "SELECT hashes FROM page_hashes WHERE stream_id = ? AND last_at >= ? AND first_at <= ?",
        (stream_id, incoming["event_at"].min(), incoming["event_at"].max()),
    ).fetchall()
    seen = np.frombuffer(b"".join(blob for (blob,) in blobs), dtype="<i8")
    new = incoming.filter(~pl.col("content_hash").is_in(pl.Series(seen).implode())) if seen.size else incoming
    if new.is_empty():
        return pl.DataFrame(schema=_TOUCHES)
    hashes = new["content_hash"].sort().to_numpy().astype("<i8").tobytes()
    connection.execute(
        "INSERT INTO page_hashes (stream_id, page_id, first_at, last_at, hashes) VALUES (?, ?, ?, ?, ?)",
        (stream_id, page_id, new["event_at"].min(), new["event_at"].max(), hashes),
    )
    return (
        new.group_by("production_date")
        .agg(n_new=pl.len().cast(pl.Int64))
        .with_columns(n_moved=pl.lit(0, pl.Int64))
        .sort("production_date")
    )


def _known(connection: sqlite3.Connection, stream_id: int, record_ids: pl.Series) -> pl.DataFrame:
    # The ids lead the join, in the order of the key: neighbours are found on the same page of the file.
    rows = connection.execute(
        f"SELECT {', '.join(_STORED)} FROM json_each(?) AS wanted CROSS JOIN record "
        "WHERE stream_id = ? AND record_id = wanted.value",
        (msgspec.json.encode(record_ids.sort().to_list()).decode(), stream_id),
    ).fetchall()
    return pl.DataFrame(rows, schema={name: RECORDS[name] for name in _STORED}, orient="row")


def _enter(connection: sqlite3.Connection, insert: str, stream_id: int, rows: pl.DataFrame) -> None:
    """Insert the rows of a frame, with their stream, under the frame's names; many per statement, which is a quarter faster."""
    row = f"({stream_id}, {', '.join('?' * rows.width)})"
    into = f"{insert} (stream_id, {', '.join(rows.columns)}) VALUES "
    cells = list(chain.from_iterable(zip(*(column.to_list() for column in rows.iter_columns()), strict=True)))
    chunk = _ROWS_A_STATEMENT * rows.width
    whole = len(cells) // chunk * chunk
    connection.executemany(
        into + ", ".join([row] * _ROWS_A_STATEMENT), (cells[start : start + chunk] for start in range(0, whole, chunk))
    )
    connection.executemany(into + row, (cells[start : start + rows.width] for start in range(whole, len(cells), rows.width)))


def _in_force(records: pl.DataFrame) -> pl.DataFrame:
    """The row of each record that is in force; within one production date the raw partition resolves ties by content."""
    return records.sort("record_id", *_IN_FORCE).unique("record_id", keep="last", maintain_order=True)


def _enter_superseded(connection: sqlite3.Connection, stream_id: int, everything: pl.DataFrame, in_force: pl.DataFrame) -> None:
    replaced = everything.join(in_force.select("record_id", now="production_date"), on="record_id").filter(
        pl.col("production_date") != pl.col("now")
    )
    columns = ("production_date", "record_id", "revision", "updated_at")
    _enter(connection, "INSERT OR IGNORE INTO superseded", stream_id, replaced.select(columns))

"""Compares the records in force at a source with those in the lake, and tells what vanished from a window read in full."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from spc_platform.contracts.raw import PAYLOAD
from spc_platform.errors import PermanentError
from spc_platform.prepare.revisions import drop_repeats, latest_revisions

ABSENT = "record:ABSENT_FROM_WINDOW"
BACK = "record:BACK_IN_WINDOW"
_NAMED = 20
_SEED = 22400
_UTC = pl.Datetime("us", "UTC")


def in_force(rows: pl.DataFrame) -> pl.DataFrame:
    """Of raw rows of all revisions, in any order and from any pages, those in force and not deleted."""
    current = latest_revisions(drop_repeats(rows), rows.clear().select("source_id", "record_id", "revision", "updated_at"))
    return current.filter("is_current", ~pl.col("is_deleted")).select(rows.columns)


def compare(source: pl.DataFrame, lake: pl.DataFrame, raw_table: str) -> pl.DataFrame:
    """Counts, checksums and differences per production date of raw rows in force, one row per date that either side has.

    Compared are revision and payload; ``updated_at`` and lineage may differ. Columns: production_date, n_source, n_lake,
    checksum_source, checksum_lake, n_missing, n_extra, n_different, record_ids.
    """
    content = ["record_id", "revision", *(column.name for column in PAYLOAD[raw_table])]
    sides = [
        rows.select("record_id", "production_date", hash=rows.select(content).hash_rows(seed=_SEED)) for rows in (source, lake)
    ]
    sums = [
        side.group_by("production_date").agg(
            pl.len().cast(pl.Int64).alias(f"n_{name}"), pl.col("hash").bitwise_xor().alias(name)
        )
        for side, name in zip(sides, ("source", "lake"), strict=True)
    ]
    both = sides[0].join(sides[1], on=["production_date", "record_id"], how="full", coalesce=True, suffix="_lake")
    sign = (
        pl.when(pl.col("hash_lake").is_null())
        .then(pl.lit("+"))
        .when(pl.col("hash").is_null())
        .then(pl.lit("-"))
        .when(pl.col("hash") != pl.col("hash_lake"))
        .then(pl.lit("~"))
    )
    found = both.with_columns(sign=sign).drop_nulls("sign").sort("production_date", "sign", "record_id")
    named = found.group_by("production_date", maintain_order=True).agg(
        *((pl.col("sign") == mark).sum().cast(pl.Int64).alias(name) for mark, name in _MARKS),
        record_ids=(pl.col("sign") + pl.col("record_id")).head(_NAMED).str.join(" "),
    )
    joined = sums[0].join(sums[1], on="production_date", how="full", coalesce=True)
    joined = joined.join(named, on="production_date", how="left")
    counts = ("n_source", "n_lake", *(name for _, name in _MARKS))
    return joined.select(
        "production_date",
        *(pl.col(name).fill_null(0) for name in counts),
        *(pl.format("{}", pl.col(name).fill_null(0)).alias(f"checksum_{name}") for name in ("source", "lake")),
        "record_ids",
    ).sort("production_date")


_MARKS = (("+", "n_missing"), ("-", "n_extra"), ("~", "n_different"))


def absent_records(known: pl.DataFrame, seen: pl.Series, least_share: float, where: str) -> pl.DataFrame:
    """Rows of ``known`` (raw rows in force in a window) whose record the source no longer holds.

    ``seen`` are the identities that the source gave for the window, read in full. Raises PermanentError when less than
    ``least_share`` of the known records were seen: a window that is suddenly empty or short is read as a failure of the
    source, not as a mass deletion.
    """
    absent = known.filter(~pl.col("record_id").is_in(seen.implode()))
    share = 1.0 - absent.height / known.height if known.height else 1.0
    if share < least_share:
        raise PermanentError(
            f"{where}: the source gave {known.height - absent.height} of {known.height} known records ({share:.1%}), less than "
            f"the least share {least_share:.1%}: nothing was deleted. Look at the source; if the records were deleted on "
            "purpose, lower least_window_share of the resource, reconcile once, and put it back",
            code="SPC-275",
        )
    return absent


def marked_absent(absent: pl.DataFrame, compared_at: datetime) -> pl.DataFrame:
    """The rows as a deletion that was noticed at ``compared_at``: same revision and content, later update."""
    return _restated(absent, compared_at, ABSENT, is_deleted=True)


def marked_back(source: pl.DataFrame, gone: pl.DataFrame, compared_at: datetime) -> pl.DataFrame:
    """Rows in force at the source whose deletion had been noticed (``gone``): stated anew, above the deletion."""
    above = gone.select("record_id", _revision="revision", _updated_at="updated_at")
    back = source.join(above, on="record_id").with_columns(
        revision=pl.max_horizontal("revision", "_revision"), updated_at=pl.max_horizontal("updated_at", "_updated_at")
    )
    return _restated(back.select(source.columns), compared_at, BACK, is_deleted=False)


def _restated(rows: pl.DataFrame, compared_at: datetime, note: str, *, is_deleted: bool) -> pl.DataFrame:
    later = pl.max_horizontal(pl.lit(compared_at).cast(_UTC), pl.col("updated_at") + timedelta(microseconds=1))
    return rows.sort("record_id").with_columns(
        updated_at=later, is_deleted=pl.lit(is_deleted), decode_note=pl.lit(note), page_row=pl.int_range(pl.len())
    )

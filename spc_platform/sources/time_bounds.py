"""Instants that no calendar of a plant holds: placeholders such as the years 1 and 9999, and what overflowed on its way.

A landed page may say any instant. One that lies before ``EARLIEST``, after the year 9999 or, where it is the time of the
event itself, at or after ``LATEST_EVENT`` is landed as null with the reason ``column:TIMESTAMP_OUT_OF_RANGE``, so that its
record is refused by itself and costs no other. An end in the year 9999 means "still open" in many systems and stays.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl

from spc_platform.contracts.raw import EVENT_TIME

EARLIEST = datetime(1800, 1, 1, tzinfo=UTC)
LATEST = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
LATEST_EVENT = datetime(9000, 1, 1, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
OUT_OF_RANGE = "TIMESTAMP_OUT_OF_RANGE"


def without_impossible_instants(rows: pl.DataFrame, table: str) -> pl.DataFrame:
    """Decoded rows of a raw table whose instants are all possible; the others null, named in ``decode_error``.

    >>> said = pl.DataFrame({"measured_at": ["0001-01-01T00:00:00Z"], "decode_error": [None], "raw_record": [None]})
    >>> said = said.with_columns(pl.col("measured_at").str.to_datetime("%+", time_unit="us", time_zone="UTC"))
    >>> without_impossible_instants(said.cast({"decode_error": pl.String}), "raw_measurement").row(0)[:2]
    (None, 'measured_at:TIMESTAMP_OUT_OF_RANGE')
    """
    times = [name for name, dtype in rows.schema.items() if isinstance(dtype, pl.Datetime)]
    if not times:
        return rows
    # As numbers: comparing leaves alone what a conversion between zones cannot hold.
    outside = {name: _outside(name, latest=LATEST_EVENT if name == EVENT_TIME[table] else LATEST) for name in times}
    found = rows.select(bad.any().alias(name) for name, bad in outside.items()).row(0, named=True)
    bad = {name: outside[name] for name in times if found[name]}
    if not bad:
        return rows
    reasons = [pl.when(where).then(pl.lit(f"{name}:{OUT_OF_RANGE}")) for name, where in bad.items()]
    said = [pl.when(where).then(pl.format("{} = {} us since 1970", pl.lit(name), _us(name))) for name, where in bad.items()]
    joined = pl.concat_str("decode_error", *reasons, separator=";", ignore_nulls=True)
    text = pl.concat_str(*said, separator="; ", ignore_nulls=True)
    return rows.with_columns(
        pl.when(joined != "").then(joined).alias("decode_error"),
        pl.coalesce("raw_record", pl.when(text != "").then(text)).alias("raw_record"),
        *(pl.when(~where).then(pl.col(name)).alias(name) for name, where in bad.items()),
    )


def _us(name: str) -> pl.Expr:
    return pl.col(name).dt.timestamp("us")


def _outside(name: str, *, latest: datetime) -> pl.Expr:
    microseconds = _us(name)
    first, last = ((at - _EPOCH) // timedelta(microseconds=1) for at in (EARLIEST, latest))
    return ((microseconds < first) | (microseconds > last)).fill_null(value=False)

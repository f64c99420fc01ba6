"""Typed columns as text cells, losslessly: what lets Arrow and Parquet pages be read like every other table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

_MICROSECONDS = {"s": 1_000_000, "ms": 1000, "us": 1, "ns": 0.001}


def text_cells(frame: pl.DataFrame, epochs: Mapping[str, str] | None = None) -> pl.DataFrame:
    """Every cell as text: numbers with all their digits, times in ISO 8601 (with their zone if they have one), bytes in hex.

    ``epochs`` names columns that hold a time as a number since 1970 UTC and its unit (s, ms, us, ns). Raises ValueError
    for another unit.

    >>> text_cells(pl.DataFrame({"a": [0.1], "b": [1_700_000_000_500]}), {"b": "ms"}).rows()
    [('0.1', '2023-11-14T22:13:20.500000Z')]
    """
    epochs = epochs or {}
    unknown = sorted(set(epochs.values()) - set(_MICROSECONDS))
    if unknown:
        raise ValueError(f"unit of an epoch is {', '.join(map(repr, unknown))}; known: {', '.join(_MICROSECONDS)}")
    return frame.select(_text(frame.schema[name], pl.col(name), epochs.get(name)).alias(name) for name in frame.columns)


def _text(dtype: Any, column: pl.Expr, epoch: str | None) -> pl.Expr:
    if epoch is not None:
        # Whole numbers stay whole: a float64 has no room for the nanoseconds of today.
        scaled = column * _MICROSECONDS[epoch] if dtype.is_integer() else (column * _MICROSECONDS[epoch]).round()
        micros = column // 1000 if epoch == "ns" and dtype.is_integer() else scaled.cast(pl.Int64, strict=False)
        return pl.from_epoch(micros, time_unit="us").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
    if dtype == pl.String:
        return column
    if isinstance(dtype, pl.Datetime):
        if dtype.time_zone is None:
            return column.dt.strftime("%Y-%m-%d %H:%M:%S%.6f")
        return column.dt.convert_time_zone("UTC").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
    if dtype == pl.Binary:
        return column.bin.encode("hex")
    if isinstance(dtype, pl.List | pl.Array | pl.Struct):
        return pl.struct(column.alias("v")).struct.json_encode()
    return column.cast(pl.String)

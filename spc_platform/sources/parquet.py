"""Parquet files as text cells: row group by row group, with their checksums, within a bound for what they unpack to."""

from __future__ import annotations

import io
from collections.abc import Mapping

import polars as pl
import pyarrow.parquet as pq

from spc_platform.sources.columnar import text_cells

MAX_UNPACKED_BYTES = 1 << 30
"""Most bytes that the columns of one file may hold once they are unpacked."""


class TooLargeError(ValueError):
    """The file says that it unpacks to more than is read; the text has both figures."""


def parquet_cells(body: bytes, epochs: Mapping[str, str] | None = None, limit: int = MAX_UNPACKED_BYTES) -> pl.DataFrame:
    """Every cell of a Parquet file as text (``columnar.text_cells``), in the order of the file.

    One row group at a time is held in its own types. Checksums of pages are verified where the writer made them; Parquet
    without them does not show a flipped bit. Raises ``TooLargeError`` and the reader's own errors.
    """
    with pq.ParquetFile(io.BytesIO(body), page_checksum_verification=True) as file:
        metadata = file.metadata
        unpacked = sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))
        if unpacked > limit:
            raise TooLargeError(f"unpacks to {unpacked} bytes, more than {limit}")
        groups = (file.read_row_group(index, use_threads=False) for index in range(metadata.num_row_groups))
        cells = [text_cells(pl.DataFrame(pl.from_arrow(group)), epochs) for group in groups]
        empty = text_cells(pl.DataFrame(pl.from_arrow(file.schema_arrow.empty_table())), epochs)
    return pl.concat([empty, *cells])

"""The one door from a landed page to typed rows: picks the decoder of the resource's format."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module

import polars as pl

from spc_platform.contracts.raw import PAYLOAD
from spc_platform.errors import SiteError
from spc_platform.site.model import Resource
from spc_platform.sources.time_bounds import without_impossible_instants

_VERSION = re.compile(r"#\d+$")
"""What the files source puts behind the name of a file that was written anew."""

DECODERS = {
    "json_records": "spc_platform.sources.json_records",
    "mtconnect_adapter": "spc_platform.sources.mtconnect",
    "qif": "spc_platform.sources.qif",
    "arrow": "spc_platform.sources.tabular",
    "csv": "spc_platform.sources.tabular",
    "dfq": "spc_platform.sources.tabular",
    "parquet": "spc_platform.sources.tabular",
    "xlsx": "spc_platform.sources.tabular",
}


DROPPED = frozenset({"csv", "dfq", "parquet", "qif", "xlsx"})
"""Formats of files from outside: they nest or unpack, or are read by native code, so their pages are parsed apart."""


def decode(resource: Resource, table: str, body: bytes, origin: str = "") -> pl.DataFrame:
    """The rows of one landed page that belong to one raw table.

    ``origin`` is the page's: file formats may say in a name what the content leaves out, e.g. the day of a log.

    Columns: page_row, record_id, revision, updated_at, is_deleted, decode_error, raw_record, the payload columns of
    ``contracts.raw.PAYLOAD[table]`` with their dtypes, and decode_note, which says what was assumed (``local_time``);
    all nullable. A record that cannot be read in full is a row with ``decode_error``, never an exception. Raises SiteError when
    the resource does not feed the table and ContractError when the page as a whole is not of its format.

    Formats of ``DROPPED`` are parsed in a process of their own (``sandbox``), the first time and every time after.
    """
    _check(resource, table)
    if resource.format in DROPPED:
        from spc_platform.sources.sandbox import SANDBOX

        return SANDBOX.decode(resource, table, body, origin)
    return decode_here(resource, table, body, origin)


def decode_here(resource: Resource, table: str, body: bytes, origin: str = "") -> pl.DataFrame:
    """As ``decode``, in this process."""
    _check(resource, table)
    reader: Callable[[Resource, str, bytes, str], pl.DataFrame] = import_module(DECODERS[resource.format]).decode
    rows = reader(resource, table, body, _VERSION.sub("", origin))
    rows = rows if "decode_note" in rows.columns else rows.with_columns(decode_note=pl.lit(None, pl.String))
    return without_impossible_instants(rows, table)


def warm() -> None:
    """Import the parsers of ``DROPPED``, so that the first page does not wait for them."""
    for name in sorted({DECODERS[form] for form in DROPPED}):
        import_module(name)
    pl.DataFrame({"a": ["1"]}).select(pl.col("a").cast(pl.Float64)).sort("a")


def _check(resource: Resource, table: str) -> None:
    if table not in PAYLOAD or table not in resource.tables:
        raise SiteError(
            f"resource {resource.name!r} feeds {', '.join(resource.tables) or 'no table'}, not {table!r}; "
            f"add it to the resource's tables (known raw tables: {', '.join(sorted(PAYLOAD))})"
        )
    if resource.format not in DECODERS:
        raise SiteError(f"resource {resource.name!r}: unknown format {resource.format!r}; known: {', '.join(sorted(DECODERS))}")

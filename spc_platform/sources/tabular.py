"""Tables of files to raw rows by a column map: one row per record, one column per characteristic, or a report's matrix."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from dataclasses import replace
from typing import Any

import polars as pl

from spc_platform.contracts.raw import DECODED_DTYPES, PAYLOAD
from spc_platform.contracts.table import UTC as UTC_DTYPE
from spc_platform.errors import ContractError
from spc_platform.site.model import Resource
from spc_platform.sources.columnar import text_cells
from spc_platform.sources.identity import content_names
from spc_platform.sources.local_time import LEAP_SECOND_NOTE, Placed, may_be_leap_second, place, without_leap_seconds
from spc_platform.sources.parquet import parquet_cells
from spc_platform.sources.qdas import FIELDS as DFQ_FIELDS
from spc_platform.sources.qdas import dfq_cells
from spc_platform.sources.workbook import read_sheet

LAYOUTS = ("long", "wide", "matrix")

_WIDTH = "_cells"
"""Says which rows of a CSV have more or fewer cells than its header."""
_TRUE = ("true", "1", "yes", "y")
_PLACE = re.compile(r"\{(\w[^{}]*)\}")
_HAS_ZONE = r"\d{2}:\d{2}.*([zZ]|[+-]\d{2}:?\d{2})$"
_LOCAL = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")
_ZONED = ("%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M%#z")


class _UnreadableError(ValueError):
    """The page as a whole cannot be read; the text says why."""


def decode(resource: Resource, table: str, body: bytes, origin: str = "") -> pl.DataFrame:
    """Rows of a CSV, XLSX, Parquet, DFQ or Arrow page for any raw table.

    ``resource.fields`` maps canonical column -> column of the page. A source text with places, e.g.
    ``"{part_type}-{serial}"``, is filled from the columns named in it. Options of the resource:

    - ``layout``: ``long`` (default, one record per row); ``wide`` (``id_columns`` stay, each of the
      others is a characteristic: the page then has the columns ``characteristic`` and ``value``);
      ``matrix`` (a report with characteristics in rows and parts in columns, see ``_matrix``).
    - ``sheet`` (XLSX; the first unless named), ``header_row`` (from 0) or, for XLSX, ``header_cell``: a
      text that only the header row has; ``separator`` (CSV).
    - ``epochs`` (Parquet, Arrow): {column: s, ms, us or ns} for times that are numbers since 1970.
    - ``filter``: {column: value}, rows that belong to the resource; the others are ignored.
    - ``constants``: {canonical column: value} for what the page does not say, e.g. the unit.
    - ``lists``: {canonical column: [value of part 1, value of part 2, …]} in the order of a matrix's parts.
    - ``number_formats``: {column: "02d"}, leading zeros for whole numbers used in a filled text.

    DFQ has the columns and options of ``qdas.dfq_cells``; ``fields`` adds to ``qdas.FIELDS``.
    A row without ``record_id`` is named by its cells, so a file that grew repeats its records; equal rows stay apart.
    Where the field is mapped, an empty cell is ``record_id:MISSING``.
    Times without zone are read in ``resource.zone`` (``local_time``); without one they are ``NO_ZONE``. A cell that does
    not fit its column is empty and named in ``decode_error``, its row kept with its text; a page that
    cannot be read at all, or lacks a mapped column, is one such row.
    """
    if resource.format == "dfq":
        resource = replace(resource, fields=DFQ_FIELDS | resource.fields)
    try:
        cells = _cells(resource, body, origin)
        rows = _arranged(cells, resource)
        return _typed(rows, resource, table)
    except _UnreadableError as error:
        return _unreadable(table, body, str(error))


def _cells(resource: Resource, body: bytes, origin: str) -> pl.DataFrame:
    """Every cell as text, under the page's own header."""
    options = resource.options
    header_row = int(options.get("header_row", 0))
    try:
        if resource.format == "arrow":
            frame = text_cells(pl.read_ipc_stream(io.BytesIO(body)), options.get("epochs"))
        elif resource.format == "parquet":
            frame = parquet_cells(body, options.get("epochs"))
        elif resource.format == "dfq":
            wanted = (name for source in resource.fields.values() for name in _PLACE.findall(source) or [source])
            frame = dfq_cells(body, options, origin, wanted)
        elif resource.format == "xlsx":
            grid = read_sheet(body, options.get("sheet")).cells
            header_row = _header_row(grid, options) if "header_cell" in options else header_row
            header, frame = grid.row(header_row), grid.slice(header_row + 1)
            names = [str(name).strip() if name is not None else f"column_{index}" for index, name in enumerate(header)]
            frame.columns = [name if names.index(name) == index else f"{name}_{index}" for index, name in enumerate(names)]
        else:
            frame = _csv(body, header_row, str(options.get("separator", ",")))
    except (_UnreadableError, ContractError, MemoryError):
        raise
    except Exception as error:  # each reader has its own family of errors; all mean that the page is no table
        raise _UnreadableError(f"page:NOT_{resource.format.upper()} ({type(error).__name__}: {str(error)[:160]})") from error
    for column, value in options.get("filter", {}).items():
        _require(frame, [column])
        frame = frame.filter(pl.col(column) == str(value))
    return frame.with_columns(pl.all().str.strip_chars().replace("", None)).with_row_index("_row")


def _header_row(grid: pl.DataFrame, options: dict[str, Any]) -> int:
    text = str(options["header_cell"])
    rows = grid.select(pl.any_horizontal(pl.all().str.strip_chars() == text).arg_true()).to_series()
    if rows.is_empty():
        raise _UnreadableError(f"page:MISSING_COLUMN ({text})")
    return int(rows[0])


def _csv(body: bytes, header_row: int, separator: str) -> pl.DataFrame:
    try:
        return pl.read_csv(io.BytesIO(body), skip_rows=header_row, separator=separator, infer_schema=False)
    except pl.exceptions.ComputeError:
        # a row with too many cells makes the fast reader give up; one such row must not cost the others
        text = body.decode("utf-8-sig").splitlines()[header_row:]
        header, *rows = csv.reader(text, delimiter=separator, strict=True)
        width = len(header)
        columns = {name: [(row + [""] * width)[index] for row in rows] for index, name in enumerate(header)}
        cells = [f"row:HAS_{len(row)}_CELLS_NOT_{width}" if len(row) != width else None for row in rows]
        return pl.DataFrame(columns | {_WIDTH: cells}, schema_overrides={_WIDTH: pl.String})


def _arranged(cells: pl.DataFrame, resource: Resource) -> pl.DataFrame:
    layout = resource.options.get("layout", "long")
    if layout not in LAYOUTS:
        raise ContractError(
            f"resource {resource.name!r}: layout {layout!r} is none of {', '.join(LAYOUTS)}. Correct it in the site's sources.",
            code="SPC-333",
        )
    if layout == "matrix":
        return _matrix(cells, resource.options)
    if layout == "wide":
        kept = list(resource.options.get("id_columns", []))
        _require(cells, kept)
        return cells.unpivot(index=["_row", *kept], variable_name="characteristic", value_name="value").drop_nulls("value")
    return cells


def _matrix(cells: pl.DataFrame, options: dict[str, Any]) -> pl.DataFrame:
    """Arrange a capability report: features as headings, below each its characteristics, one column per part.

    Options: ``label_column`` holds feature or characteristic; columns whose header matches
    ``sample_pattern`` are parts, in the order of the page (group 1 is the serial number). A row without
    part values is a heading. Gives the columns characteristic (``FEATURE.ITEM``, or the feature alone
    where the item matches ``feature_only``), serial, sample (from 1, two digits) and value.
    """
    label = str(options.get("label_column", "Features"))
    pattern = re.compile(str(options["sample_pattern"]))
    _require(cells, [label])
    matched = {name: found for name in cells.columns if (found := pattern.search(name))}
    if not matched:
        raise _UnreadableError(f"page:MISSING_COLUMN (no header matches {pattern.pattern!r})")
    any_value = pl.any_horizontal(pl.col(name).is_not_null() for name in matched)
    feature = pl.when(~any_value).then(pl.col(label)).forward_fill()
    alone = pl.col(label).str.contains(str(options.get("feature_only", "^$")))
    name = pl.when(alone | feature.is_null()).then(pl.coalesce(feature, label)).otherwise(pl.format("{}.{}", feature, label))
    long = (
        cells.with_columns(characteristic=name)
        .filter(any_value & pl.col(label).is_not_null())
        .unpivot(on=list(matched), index=["_row", "characteristic"], variable_name="part", value_name="value")
    )
    parts = pl.DataFrame(
        {
            "part": list(matched),
            "sample": [f"{index:02d}" for index in range(1, len(matched) + 1)],
            "serial": [found[1] if found.re.groups else found[0] for found in matched.values()],
        }
    )
    return long.join(parts, on="part", how="left", maintain_order="left").drop("part")


def _typed(rows: pl.DataFrame, resource: Resource, table: str) -> pl.DataFrame:
    schema = DECODED_DTYPES | {column.name: column.dtype for column in PAYLOAD[table]}
    rows = _with_number_formats(rows, resource.options).with_row_index("_index")
    texts = {name: _source_text(rows, source) for name, source in resource.fields.items() if name in schema}
    texts |= {name: pl.lit(str(value)) for name, value in resource.options.get("constants", {}).items() if name in schema}
    texts |= {name: _listed(rows, values) for name, values in resource.options.get("lists", {}).items() if name in schema}
    texts.setdefault("record_id", pl.lit(None, dtype=pl.String))
    texts.setdefault("revision", pl.lit("1"))
    texts.setdefault("is_deleted", pl.lit("false"))
    said = rows.select("_index", *(text.alias(name) for name, text in texts.items()))
    times = {name: _times(said[name], resource) for name in texts if schema[name] == UTC_DTYPE}
    typed = said.select("_index", *(times[name].at if name in times else _cast(name, schema[name]) for name in texts))
    problems = pl.DataFrame(
        _labelled(name, times[name].reason) if name in times else _problem(name, schema[name], said[name], typed[name])
        for name in texts
    )
    notes = pl.DataFrame(_labelled(name, placed.assumption) for name, placed in times.items())
    if "record_id" in resource.fields:
        unnamed = pl.when(said["record_id"].is_null()).then(pl.lit("record_id:MISSING"))
        problems = problems.with_columns(record_id=unnamed)
    if _WIDTH in rows.columns:
        problems = problems.with_columns(rows[_WIDTH])
    joined = pl.concat_str(pl.all(), separator=";", ignore_nulls=True)
    record = pl.concat_str([pl.col(name).fill_null("") for name in rows.columns if not name.startswith("_")], separator="|")
    names = content_names(rows.select(record).to_series())
    noted = pl.concat_str(pl.all(), separator=";", ignore_nulls=True)
    flagged = typed.with_columns(
        decode_note=notes.select(pl.when(noted != "").then(noted)).to_series() if times else pl.lit(None, pl.String),
        decode_error=problems.select(pl.when(joined != "").then(joined)).to_series(),
        raw_record=rows.select(record.str.slice(0, 500)).to_series(),
        page_row=pl.col("_index").cast(pl.Int64),
        record_id=pl.coalesce("record_id", names),
    ).with_columns(raw_record=pl.when(pl.col("decode_error").is_not_null()).then("raw_record"))
    missing = {name: pl.lit(None, dtype=dtype) for name, dtype in schema.items() if name not in flagged.columns}
    kept = schema | {"decode_note": pl.String}
    return flagged.with_columns(**missing).select(pl.col(name).cast(dtype) for name, dtype in kept.items())


def _source_text(rows: pl.DataFrame, source: str) -> pl.Expr:
    """Name a column of the page, or a text filled from several; empty where one of them is."""
    names = _PLACE.findall(source)
    _require(rows, names or [source])
    return pl.format(_PLACE.sub("{}", source), *(pl.col(name) for name in names)) if names else pl.col(source)


def _listed(rows: pl.DataFrame, values: list[Any]) -> pl.Expr:
    _require(rows, ["sample"])
    by_sample = {f"{index:02d}": str(value) for index, value in enumerate(values, start=1)}
    return pl.col("sample").replace_strict(by_sample, default=None, return_dtype=pl.String)


def _with_number_formats(rows: pl.DataFrame, options: dict[str, Any]) -> pl.DataFrame:
    formats: dict[str, str] = options.get("number_formats", {})
    _require(rows, list(formats))
    return rows.with_columns(pl.col(name).str.zfill(int(form.strip("d") or 0)) for name, form in formats.items())


def _cast(name: str, dtype: Any) -> pl.Expr:
    text = pl.col(name)
    if dtype == pl.Boolean:
        return text.str.to_lowercase().is_in(list(_TRUE)).fill_null(value=False).alias(name)
    return text.cast(dtype, strict=False)


def _times(said: pl.Series, resource: Resource) -> Placed:
    """Instants of the cells of a column, with the reason why one is missing and what was assumed."""
    text, leap = without_leap_seconds(said)
    spaced = text.str.replace("T", " ").str.replace(r"(\.\d{6})\d+", "$1")
    has_zone = said.str.contains(_HAS_ZONE).fill_null(value=False)
    cells, cell = pl.DataFrame({"cell": spaced}), pl.col("cell").str
    zoned, local = cells.select(
        zoned=pl.coalesce(cell.to_datetime(form, time_unit="us", time_zone="UTC", strict=False) for form in _ZONED),
        local=pl.coalesce(cell.to_datetime(form, time_unit="us", strict=False) for form in _LOCAL),
    )
    placed = place(local.set(has_zone, None), resource.zone or "UTC", resource.ambiguous)
    at = zoned.zip_with(has_zone, placed.at if resource.zone else placed.at.clear(said.len()))
    at = at.set(leap & ~may_be_leap_second(at), None)
    told = pl.DataFrame(
        {"said": said, "at": at, "has_zone": has_zone, "leap": leap, "why": placed.reason, "as": placed.assumption}
    )
    lost = pl.col("said").is_not_null() & pl.col("at").is_null()
    unzoned = ~pl.col("has_zone") & (resource.zone is None)
    told = told.select(
        why=pl.when(lost & unzoned).then(pl.lit("NO_ZONE")).when(lost).then(pl.coalesce("why", pl.lit("NOT_A_TIME"))),
        noted=pl.coalesce("as", pl.when(pl.col("leap") & pl.col("at").is_not_null()).then(pl.lit(LEAP_SECOND_NOTE))),
    )
    return Placed(at.alias(said.name), told["why"], told["noted"])


def _labelled(name: str, said: pl.Series) -> pl.Series:
    return said.to_frame("said").select(pl.format("{}:{}", pl.lit(name), "said").alias(name)).to_series()


def _problem(name: str, dtype: Any, said: pl.Series, typed: pl.Series) -> pl.Series:
    """Per row, why a cell that says something could not be read; null where it could."""
    kind = {pl.Float64: "NOT_A_NUMBER", pl.Int64: "NOT_A_WHOLE_NUMBER"}.get(dtype, "NOT_READ")
    lost = pl.col("said").is_not_null() & pl.col("typed").is_null()
    reason = pl.when(lost).then(pl.lit(f"{name}:{kind}"))
    return pl.DataFrame({"said": said, "typed": typed}).select(reason.alias(name)).to_series()


def _require(frame: pl.DataFrame, names: list[str]) -> None:
    missing = [name for name in names if name not in frame.columns]
    if missing:
        has = ", ".join(name for name in frame.columns if not name.startswith("_"))
        raise _UnreadableError(f"page:MISSING_COLUMN ({', '.join(missing)}; the page has {has[:200]})")


def _unreadable(table: str, body: bytes, problem: str) -> pl.DataFrame:
    schema = DECODED_DTYPES | {column.name: column.dtype for column in PAYLOAD[table]}
    row = {
        "page_row": 0,
        "record_id": f"page-{hashlib.sha256(body).hexdigest()[:16]}",
        "revision": 1,
        "is_deleted": False,
        "decode_error": problem,
        "raw_record": body[:500].decode("utf-8", errors="replace"),
    }
    return pl.DataFrame([row], schema=schema)

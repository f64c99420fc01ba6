"""Links, measurements and operations of a trace from files, under the names of the contracts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import polars as pl

from spc_platform.cli.study_file import StudyFile, read
from spc_platform.contracts.operations import MATERIAL_LINK_PAYLOAD, SEGMENT_EVENT_PAYLOAD
from spc_platform.contracts.raw import MEASUREMENT_PAYLOAD
from spc_platform.contracts.table import UTC, Column, count, flag, identifier, moment, text
from spc_platform.errors import ContractError

WRONG_OPTION = "SPC-641"
NOT_A_TIME = "SPC-642"

_RECORD = (
    identifier("source_id", "", nullable=True),
    text("record_id", "", nullable=True),
    count("revision", "", nullable=True),
    moment("updated_at", "", nullable=True),
    flag("is_deleted", ""),
)
_SPECIFIED = (
    count("specification_version", "", nullable=True),
    Column("lsl", pl.Float64, "", nullable=True),
    Column("usl", pl.Float64, "", nullable=True),
)
_OPTIONAL = {"is_deleted", "job_order_id", "equipment_id", "material_definition_id", "unit", "characteristic_id"}
_TRUE = ("true", "1", "yes", "y")
_LOCAL = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")
_ZONED = ("%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M%#z")
_HAS_ZONE = r"\d{2}:\d{2}.*([zZ]|[+-]\d{2}:?\d{2})$"


def read_links(path: Path, zone: str) -> tuple[StudyFile, pl.DataFrame]:
    """The file and its links with source_id, record_id, revision, updated_at and is_deleted, ready for ``links_in_force``.

    Needed are parent_id, child_id, link_type and occurred_at. A row without record_id is named by what it says; equal rows
    stay apart. Raises SPC-380 to SPC-385 for the file and its numbers, SPC-642 for a time.
    """
    file = read(path)
    links = _typed(file, (*_RECORD, *MATERIAL_LINK_PAYLOAD), zone)
    payload = [column.name for column in MATERIAL_LINK_PAYLOAD]
    said = pl.concat_str((pl.col(name).cast(pl.String).fill_null("") for name in payload), separator="|")
    name = pl.coalesce(
        "record_id", pl.concat_str(said, pl.lit("#"), pl.int_range(1, pl.len() + 1).over(payload).cast(pl.String))
    )
    return file, _named(links, file, name)


def read_measurements(path: Path, zone: str) -> pl.DataFrame:
    """Measurements of a file: the payload of measurement, and where it has them specification_version, lsl and usl."""
    file = read(path)
    rows = _typed(file, (*_RECORD, *MEASUREMENT_PAYLOAD, *_SPECIFIED), zone, optional={"serial_number", "material_lot_id"})
    return _named(rows, file, pl.coalesce("record_id", pl.concat_str(pl.lit("row "), pl.int_range(1, pl.len() + 1))))


def read_segment_events(path: Path, zone: str) -> pl.DataFrame:
    """Operations of a file: the payload of segment_event, without deleted rows."""
    file = read(path)
    return _named(_typed(file, (*_RECORD, *SEGMENT_EVENT_PAYLOAD), zone, optional={"quantity"}), file, pl.col("record_id"))


def _named(rows: pl.DataFrame, file: StudyFile, name: pl.Expr) -> pl.DataFrame:
    return rows.with_columns(
        source_id=pl.col("source_id").fill_null(file.name),
        record_id=name,
        revision=pl.col("revision").fill_null(1),
        is_deleted=pl.col("is_deleted").fill_null(value=False),
    )


def _typed(file: StudyFile, columns: Sequence[Column], zone: str, optional: set[str] | None = None) -> pl.DataFrame:
    """The columns of the file under the contract's dtypes; an optional one that is missing is empty."""
    may_miss = _OPTIONAL | (optional or set())
    typed = []
    for column in columns:
        if column.name in file.cells.columns or not (column.nullable or column.name in may_miss):
            typed.append(_cells(file, column, zone).alias(column.name))
        else:
            typed.append(pl.Series(column.name, [None], dtype=column.dtype).new_from_index(0, file.rows))
    return pl.DataFrame(typed)


def _cells(file: StudyFile, column: Column, zone: str) -> pl.Series:
    if column.dtype == UTC:
        return times(file, column.name, zone)
    if column.dtype.is_numeric():
        return file.numbers(column.name).cast(column.dtype)
    labels = file.labels(column.name)
    return labels.str.to_lowercase().is_in(list(_TRUE)) if column.dtype == pl.Boolean else labels


def times(file: StudyFile, column: str, zone: str) -> pl.Series:
    """UTC instants of a column; a time without zone is read in ``zone``.

    Raises SPC-642 for a cell that is no time, or no single one in the zone (the hour that DST repeats or skips).
    """
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        text = f"--zone {zone!r} is no IANA time zone. Write it like Europe/Berlin."
        raise ContractError(text, code=WRONG_OPTION) from error
    cells = file.cells[file.require(column)]
    local = pl.col("said")
    if cells.dtype.is_temporal() and cells.dtype != pl.Time and cells.dtype != pl.Duration:
        instants = local.cast(UTC) if getattr(cells.dtype, "time_zone", None) else _placed(local.cast(pl.Datetime("us")), zone)
    else:
        cells = file.labels(column)
        spaced = local.str.replace("T", " ").str.replace(r"(\.\d{6})\d+", "$1")
        zoned = pl.coalesce(spaced.str.to_datetime(form, time_unit="us", time_zone="UTC", strict=False) for form in _ZONED)
        plain = pl.coalesce(spaced.str.to_datetime(form, time_unit="us", strict=False) for form in _LOCAL)
        instants = pl.when(local.str.contains(_HAS_ZONE)).then(zoned).otherwise(_placed(plain, zone))
    read_at = pl.DataFrame({"said": cells}).select(instants).to_series()
    lost = (cells.is_not_null() & read_at.is_null()).arg_true()
    if lost.len():
        row = int(lost[0])
        raise ContractError(
            f"{file.name}, row {row + 1}, column {column!r}: {str(cells[row])!r} is no time, or none that the clock of {zone} "
            "shows exactly once. Write it like 2026-03-29T14:05:00Z, or with its offset.",
            code=NOT_A_TIME,
        )
    return read_at


def _placed(local: pl.Expr, zone: str) -> pl.Expr:
    return local.dt.replace_time_zone(zone, ambiguous="null", non_existent="null").dt.convert_time_zone("UTC")

"""Cells of the files of `spc oee` to typed rows under the names of the contracts, with what is wrong with each."""

from __future__ import annotations

from typing import Any

import polars as pl

from spc_platform.cli.study_file import StudyFile
from spc_platform.contracts.signals import SIGNALS
from spc_platform.contracts.table import UTC

ONLY_UNIT = "unit"
ONLY_PRODUCT = "product"
ALIASES: dict[str, tuple[str, ...]] = {
    "equipment_id": ("equipment", "unit", "machine", "work_unit"),
    "state": ("status",),
    "start_at": ("start", "from"),
    "end_at": ("end", "to"),
    "reason_code": ("reason",),
    "material_definition_id": ("product", "material"),
    "counted_at": ("at", "time", "timestamp"),
    "good_quantity": ("good", "gq"),
    "scrap_quantity": ("scrap", "sq"),
    "rework_quantity": ("rework", "rq"),
    "pri_s": ("pri", "ideal_cycle_s"),
    "work_center_id": ("line", "work_center"),
    "shift_id": ("shift",),
    "at": ("occurred_at", "time", "timestamp"),
    "value": ("reading", "counter"),
}
"""Other names that the header of a file may use for a column."""
_TEXT, _TIME, _WHOLE, _NUMBER = "text", "time", "whole", "number"
COLUMNS: dict[str, dict[str, str]] = {
    "states": {
        "equipment_id": _TEXT, "state": _TEXT, "start_at": _TIME, "end_at": _TIME, "reason_code": _TEXT,
        "material_definition_id": _TEXT, "record_id": _TEXT,
    },
    "counts": {
        "equipment_id": _TEXT, "counted_at": _TIME, "material_definition_id": _TEXT, "good_quantity": _WHOLE,
        "scrap_quantity": _WHOLE, "rework_quantity": _WHOLE, "reason_code": _TEXT, "record_id": _TEXT,
    },
    "calendar": {
        "equipment_id": _TEXT, "kind": _TEXT, "shift_id": _TEXT, "start_at": _TIME, "end_at": _TIME, "recorded_at": _TIME,
    },
    "products": {
        "material_definition_id": _TEXT, "equipment_id": _TEXT, "pri_s": _NUMBER, "effective_from": _TIME,
        "effective_to": _TIME,
    },
    "orders": {"equipment_id": _TEXT, "material_definition_id": _TEXT, "start_at": _TIME, "end_at": _TIME},
    "equipment": {"equipment_id": _TEXT, "work_center_id": _TEXT},
    "state_map": {"source_state": _TEXT, "state": _TEXT, "time_element": _TEXT, "priority": _WHOLE},
    "reasons": {"reason_code": _TEXT, "time_element": _TEXT, "loss_category": _TEXT, "description": _TEXT},
    "signals": {"equipment_id": _TEXT, "signal": _TEXT, "value": _TEXT, "at": _TIME, "sequence": _WHOLE},
    "rules": {
        "priority": _WHOLE, **dict.fromkeys(SIGNALS, _TEXT), "power_min": _NUMBER, "power_max": _NUMBER, "state": _TEXT,
    },
    "counters": {
        "equipment_id": _TEXT, "counted_at": _TIME, "value": _WHOLE, "kind": _TEXT, "material_definition_id": _TEXT,
    },
}  # fmt: skip
_NEEDED: dict[str, tuple[str, ...]] = {
    "states": ("state", "start_at"),
    "counts": ("counted_at",),
    "calendar": ("start_at", "end_at"),
    "products": ("material_definition_id", "pri_s"),
    "orders": ("material_definition_id", "start_at"),
    "equipment": ("equipment_id",),
    "state_map": ("source_state", "time_element"),
    "reasons": ("reason_code",),
    "signals": ("signal", "value", "at"),
    "rules": ("priority", "state"),
    "counters": ("counted_at", "value"),
}
_DTYPES: dict[str, Any] = {_TEXT: pl.String, _TIME: UTC, _WHOLE: pl.Int64, _NUMBER: pl.Float64}
_HAS_ZONE = r"(?i)\d{2}:?\d{2}.*(z|[+-]\d{2}:?\d{2})$"
_LOCAL_FORMATS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")


def row_schema(name: str) -> dict[str, Any]:
    """The columns of one kind of file by their dtypes, with its row and what is wrong with it."""
    return {"row": pl.Int64, **{column: _DTYPES[kind] for column, kind in COLUMNS[name].items()}, "problem": pl.String}


def typed_rows(name: str, file: StudyFile, zone: str) -> pl.DataFrame:
    """The known columns of a file, typed; a cell that cannot be read is null and told in ``problem``."""
    columns = {column: _header(file, column) for column in COLUMNS[name]}
    for column in _NEEDED[name]:
        if columns[column] is None:
            file.require(column)
    found: dict[str, pl.Series] = {}
    problems: list[pl.Series] = []
    for column, kind in COLUMNS[name].items():
        header = columns[column]
        if header is None:
            found[column] = pl.repeat(_default(name, column), file.rows, dtype=_DTYPES[kind], eager=True)
            continue
        values, problem = _typed(file, header, kind, zone)
        found[column] = values
        problems.append(problem)
    told = pl.DataFrame({str(index): problem for index, problem in enumerate(problems)})
    joined = told.select(pl.concat_str(pl.all(), separator="; ", ignore_nulls=True)).to_series()
    frame = pl.DataFrame({"row": pl.int_range(1, file.rows + 1, eager=True), **found, "problem": joined})
    every = {"*": None, "": None}
    if name in ("calendar", "products"):
        frame = frame.with_columns(pl.col("equipment_id").replace(every))
    return frame.with_columns(problem=pl.when(pl.col("problem") != "").then("problem")).cast(row_schema(name))  # type: ignore[arg-type]


def _default(name: str, column: str) -> str | None:
    if column == "equipment_id" and name in ("states", "counts", "orders", "signals", "counters"):
        return ONLY_UNIT
    if column == "material_definition_id" and name in ("counts", "counters"):
        return ONLY_PRODUCT
    return {"calendar": "shift", "counters": "good"}[name] if column == "kind" else None


def _header(file: StudyFile, column: str) -> str | None:
    lower = {name.strip().lower(): name for name in reversed(file.cells.columns)}
    return next((lower[name] for name in (column, *ALIASES.get(column, ())) if name in lower), None)


def _typed(file: StudyFile, header: str, kind: str, zone: str) -> tuple[pl.Series, pl.Series]:
    if kind == _TIME:
        return _times(file, header, zone)
    cells = file.labels(header)
    none = pl.repeat(None, file.rows, dtype=pl.String, eager=True)
    if kind == _TEXT:
        return cells, none
    numbers = cells.str.replace(",", ".", literal=True) if file.decimal_comma else cells
    values = numbers.cast(pl.Float64, strict=False)
    bad = cells.is_not_null() & (values.is_null() | ~values.is_finite().fill_null(value=False))
    if kind == _WHOLE:
        bad |= (values != values.round()).fill_null(value=False)
    word = "a whole number" if kind == _WHOLE else "a finite number"
    values = values.set(bad, None)
    return values.cast(_DTYPES[kind], strict=False), _told(header, cells, bad, f"is not {word}")


def _told(header: str, cells: pl.Series, bad: pl.Series, what: str) -> pl.Series:
    text = pl.DataFrame({"cell": cells.cast(pl.String)}).select(
        pl.concat_str(pl.lit(f"{header} '"), pl.col("cell").fill_null(""), pl.lit(f"' {what}"))
    )
    return text.to_series().set(~bad, None)


def _times(file: StudyFile, header: str, zone: str) -> tuple[pl.Series, pl.Series]:
    """Instants in UTC. Texts without offset are read on the zone's clock; a time that it shows twice or never is refused."""
    cells = file.cells[header]
    if cells.dtype == pl.Date:
        cells = cells.cast(pl.Datetime("us"))
    if isinstance(cells.dtype, pl.Datetime):
        if cells.dtype.time_zone is not None:
            return cells.cast(UTC), pl.repeat(None, file.rows, dtype=pl.String, eager=True)
        return _localized(header, cells.cast(pl.Datetime("us")), cells, None, zone)
    texts = file.labels(header)
    plain = texts.str.replace("T", " ", literal=True).str.replace("t", " ", literal=True)
    offset = texts.str.contains(_HAS_ZONE).fill_null(value=False)
    zoned_text = plain.set(~offset, None).str.replace(r"(?i)\s*z$", "+00:00")
    zoned = (
        pl.DataFrame({"at": zoned_text})
        .select(
            pl.coalesce(
                pl.col("at").str.to_datetime(form, time_unit="us", time_zone="UTC", strict=False)
                for form in ("%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M%#z")
            )
        )
        .to_series()
    )
    local = (
        pl.DataFrame({"at": plain.set(offset, None)})
        .select(pl.coalesce(pl.col("at").str.to_datetime(form, time_unit="us", strict=False) for form in _LOCAL_FORMATS))
        .to_series()
    )
    return _localized(header, local, texts, zoned, zone)


def _localized(
    header: str, local: pl.Series, cells: pl.Series, zoned: pl.Series | None, zone: str
) -> tuple[pl.Series, pl.Series]:
    clock = pl.DataFrame({"at": local}).select(
        first=pl.col("at").dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null"),
        last=pl.col("at").dt.replace_time_zone(zone, ambiguous="latest", non_existent="null"),
    )
    twice = (clock["first"] != clock["last"]).fill_null(value=False)
    never = local.is_not_null() & clock["first"].is_null()
    instants = clock["first"].dt.convert_time_zone("UTC").set(twice, None)
    given = instants if zoned is None else pl.DataFrame({"a": zoned, "b": instants}).select(pl.coalesce("a", "b")).to_series()
    problem = _told(header, cells, twice, f"is shown twice by the clock of {zone}: write it with its offset")
    skipped = _told(header, cells, never, f"is skipped by the clock of {zone}: write it with its offset")
    unread = cells.is_not_null() & given.is_null() & ~twice & ~never
    unreadable = _told(header, cells, unread, "is no time: write 2026-03-10T06:00:00Z or 2026-03-10 06:00:00")
    told = pl.DataFrame({"a": problem, "b": skipped, "c": unreadable}).select(pl.coalesce("a", "b", "c")).to_series()
    return given.cast(UTC), told

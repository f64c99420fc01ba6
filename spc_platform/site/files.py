"""Reads TOML and CSV of a site folder so that every problem can name its file, line and remedy."""

from __future__ import annotations

import csv
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from datetime import date, datetime, time
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import polars as pl

from spc_platform.contracts.table import UTC, Table

LINE = "_line"
"""Name of the column that carries the line of a CSV row while the folder is being validated."""

_HEADER = re.compile(r"^\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""^\s*([A-Za-z0-9_."'-]+(?:\s*\.\s*[A-Za-z0-9_"'-]+)*)\s*=""")
_AT_LINE = re.compile(r"\s*\(at line (\d+), column \d+\)")
_LOCAL_FORMATS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M")
_ZONED_FORMATS = ("%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M%#z")
_HAS_ZONE = r"\d{2}:\d{2}.*([zZ]|[+-]\d{2}:?\d{2})$"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong in a site folder; line 0 stands for the file as a whole."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}" if self.line else f"{self.file}: {self.text}"


@dataclass(slots=True)
class Problems:
    """Collects problems, so that one reading of the folder reports them all."""

    found: list[Problem] = field(default_factory=list)
    unread: set[tuple[str, str, int]] = field(default_factory=set)
    """Cells (file, column, line) that could not be read: they are empty from here on, but were not left empty."""

    def add(self, file: str, line: int, wrong: str, remedy: str) -> None:
        self.found.append(Problem(file, line, f"{wrong}; {remedy}"))

    def add_rows(self, file: str, rows: pl.DataFrame, wrong: pl.Expr, remedy: str) -> None:
        """One problem per row of ``rows``, which carries the column LINE."""
        texts = rows.select(LINE, text=wrong)
        self.found += [Problem(file, line, f"{text}; {remedy}") for line, text in texts.iter_rows()]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggest a remedy for an unknown name.

    >>> did_you_mean("zon", ["zone", "name"])
    'did you mean "zone"?'
    """
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.6)
    return f'did you mean "{near[0]}"?' if near else f"known are: {', '.join(names)}"


class TomlFile:
    """A parsed TOML file that knows on which line a key stands."""

    def __init__(self, path: Path, problems: Problems) -> None:
        self.name = path.name
        self.problems = problems
        self.values: dict[str, Any] = {}
        self.is_read = False
        self._lines: dict[tuple[str | int, ...], int] = {}
        try:
            text = path.read_text(encoding="utf-8-sig")
            self.values = tomllib.loads(text)
        except UnicodeDecodeError as error:
            problems.add(self.name, 0, f"is not UTF-8 ({error.reason} at byte {error.start})", "save the file as UTF-8")
            return
        except tomllib.TOMLDecodeError as error:
            at = _AT_LINE.search(str(error))
            wrong = f"is not TOML ({_AT_LINE.sub('', str(error))})"
            problems.add(
                self.name, int(at.group(1)) if at else 0, wrong, "correct the line: texts stand in quotes, tables in [brackets]"
            )
            return
        self.is_read = True
        self._lines = _line_index(text)

    def line(self, *path: str | int) -> int:
        """Line of a key or table, or of the nearest table around it."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 0)

    def problem(self, path: Sequence[str | int], wrong: str, remedy: str) -> None:
        self.problems.add(self.name, self.line(*path), wrong, remedy)


def _line_index(text: str) -> dict[tuple[str | int, ...], int]:
    index: dict[tuple[str | int, ...], int] = {}
    counts: dict[tuple[str | int, ...], int] = {}
    table: tuple[str | int, ...] = ()

    def resolve(dotted: str) -> tuple[str | int, ...]:
        path: tuple[str | int, ...] = ()
        for name in dotted.split("."):
            path = (*path, name.strip().strip("\"'"))
            if path in counts:
                path = (*path, counts[path])
        return path

    for number, row in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(row):
            bracket, dotted = header.groups()
            table = resolve(dotted)
            if bracket == "[[":
                array = table[:-1] if table and isinstance(table[-1], int) else table
                counts[array] = counts.get(array, -1) + 1
                table = (*array, counts[array])
            index.setdefault(table, number)
        elif key := _KEY.match(row):
            names = tuple(name.strip().strip("\"'") for name in key.group(1).split("."))
            index.setdefault((*table, *names), number)
    return index


_CLOCK = re.compile(r"^([01]\d|2[0-3]):[0-5]\d$")


def _as_time(value: Any) -> time | None:
    if isinstance(value, str) and _CLOCK.match(value):
        return time.fromisoformat(value)
    return value if isinstance(value, time) else None


def _as_date(value: Any) -> date | None:
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d{2}-\d{2}", value):
        try:
            return date.fromisoformat(value)
        except ValueError:
            return None
    return value if isinstance(value, date) and not isinstance(value, datetime) else None


def _as_float(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _as_int(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


_READERS: dict[Any, tuple[str, Any]] = {
    str: ('a text in quotes, e.g. "text"', lambda value: value if isinstance(value, str) else None),
    bool: ("true or false", lambda value: value if isinstance(value, bool) else None),
    int: ("a whole number", _as_int),
    float: ("a number", _as_float),
    date: ("a date, e.g. 2026-01-31", _as_date),
    time: ('a time of day, e.g. "06:00"', _as_time),
}


def _read_value(value: Any, hint: Any) -> tuple[Any, str]:
    """(value, "") when it fits the annotation, else (None, what is expected)."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _read_value(value, next(argument for argument in arguments if argument is not NoneType))
    if origin is Literal:
        return (value, "") if value in arguments else (None, f"one of {', '.join(map(repr, arguments))}")
    if origin is tuple:
        fits = isinstance(value, list) and all(isinstance(item, arguments[0]) for item in value)
        return (tuple(value), "") if fits else (None, 'a list of texts, e.g. ["text"]')
    if origin is dict:
        fits = isinstance(value, dict) and (arguments[1] is not str or all(isinstance(item, str) for item in value.values()))
        return (value, "") if fits else (None, 'a table, e.g. { key = "text" }')
    expected, reader = _READERS[hint]
    read = reader(value)
    return read, "" if read is not None else expected


def read_fields(
    cls: type, values: Mapping[str, Any], toml: TomlFile, path: Sequence[str | int], nested: Sequence[str] = ()
) -> dict[str, Any]:
    """Arguments for the dataclass ``cls`` from a TOML table; unknown, missing and unfit keys become problems.

    Keys in ``nested`` are known but read elsewhere.
    """
    hints = get_type_hints(cls)
    known = {item.name: item for item in fields(cls) if item.name not in nested}
    read: dict[str, Any] = {}
    for key, value in values.items():
        if key in nested:
            continue
        if key not in known:
            toml.problem((*path, key), f'unknown key "{key}"', did_you_mean(key, [*known, *nested]))
            continue
        got, expected = _read_value(value, hints[key])
        if expected:
            toml.problem((*path, key), f'"{key}" is {value!r}', f"it must be {expected}")
        else:
            read[key] = got
    for name, item in known.items():
        if name not in values and item.default is MISSING and item.default_factory is MISSING:
            toml.problem(path, f'key "{name}" is missing', f"add {name} = …")
    return read


def read_csv(path: Path, table: Table, zone: str, problems: Problems) -> pl.DataFrame:
    """Read a CSV of the folder, typed by its contract and with the column LINE; a cell that does not fit is a problem and null.

    Local dates and times without offset are read in ``zone``.
    """
    rows, lines = _csv_rows(path, table, problems)
    schema = {name: pl.String for name in table.names if rows and name in rows[0]}
    cells = [[cell.strip() or None for cell in row] for row in rows[1:]]
    header = [cell.strip() for cell in rows[0]] if rows else []
    texts = pl.DataFrame(cells, schema=dict.fromkeys(header, pl.String), orient="row")
    texts = texts.with_columns(pl.Series(LINE, lines[1:], dtype=pl.Int64)).select(LINE, *schema)
    frame = texts.with_columns(_typed(texts[name], table, zone) for name in schema)
    for name in schema:
        unread = texts.with_columns(text=name, read=frame[name]).filter(pl.col("text").is_not_null() & pl.col("read").is_null())
        problems.unread |= {(path.name, name, line) for line in unread[LINE]}
        wrong = pl.format('{} is "{}"', pl.lit(name), pl.col("text"))
        problems.add_rows(path.name, unread, wrong, _EXPECTED[_kind(table, name)].format(zone=zone))
    absent = [pl.lit(None, dtype=dtype).alias(name) for name, dtype in table.schema.items() if name not in schema]
    return frame.with_columns(absent).select(LINE, *table.names)


_EXPECTED = {
    "number": "write a number with a decimal point",
    "count": "write a whole number",
    "moment": "write 2026-01-31, 2026-01-31T06:00 or 2026-01-31T06:00:00Z; a local time must exist once on the clock of {zone} "
    "(give an offset where the clock changes)",
    "flag": "write true or false",
    "text": "write a text",
}


def _kind(table: Table, name: str) -> str:
    return {pl.Float64: "number", pl.Int64: "count", pl.Boolean: "flag", UTC: "moment"}.get(table.by_name[name].dtype, "text")


def _typed(column: pl.Series, table: Table, zone: str) -> pl.Series:
    kind = _kind(table, column.name)
    if kind == "moment":
        return column.to_frame().select(_moment(pl.col(column.name), zone)).to_series()
    if kind == "flag":
        return column.str.to_lowercase().replace_strict({"true": True, "false": False}, default=None, return_dtype=pl.Boolean)
    return column.cast(table.schema[column.name], strict=False)


def _moment(text: pl.Expr, zone: str) -> pl.Expr:
    spaced = text.str.replace("T", " ")
    day = pl.when(text.str.contains(r"^\d{4}-\d{2}-\d{2}$")).then(text + " 00:00").otherwise(spaced)
    local = pl.coalesce(day.str.to_datetime(form, time_unit="us", strict=False) for form in _LOCAL_FORMATS)
    zoned = pl.coalesce(spaced.str.to_datetime(form, time_unit="us", time_zone="UTC", strict=False) for form in _ZONED_FORMATS)
    placed = local.dt.replace_time_zone(zone, ambiguous="null", non_existent="null").dt.convert_time_zone("UTC")
    return pl.when(text.str.contains(_HAS_ZONE)).then(zoned).otherwise(placed)


def _csv_rows(path: Path, table: Table, problems: Problems) -> tuple[list[list[str]], list[int]]:
    """Header and rows of equal width, with the line on which each ends."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            read = [(row, reader.line_num) for row in reader if any(cell.strip() for cell in row)]
    except (UnicodeDecodeError, csv.Error) as error:
        problems.add(path.name, 0, f"is not CSV in UTF-8 ({error})", "save it as comma-separated UTF-8")
        return [], [0]
    if not read:
        problems.add(path.name, 1, "is empty", f"write the header line {','.join(table.names)}")
        return [], [0]
    header, width = [cell.strip() for cell in read[0][0]], len(read[0][0])
    for name in {*header}:
        if header.count(name) > 1:
            problems.add(path.name, 1, f'column "{name}" stands twice', "remove one")
        if name not in table.names:
            problems.add(path.name, 1, f'unknown column "{name}"', did_you_mean(name, table.names))
    for name, column in table.by_name.items():
        if name not in header and not column.nullable:
            problems.add(path.name, 1, f'column "{name}" is missing', f"add it: {column.description}")
    if len({*header}) < width:
        return [], [0]
    for row, line in read:
        if len(row) != width:
            problems.add(
                path.name, line, f"{len(row)} cells under {width} columns", "give each column a cell (quote texts with commas)"
            )
    good = [(row, line) for row, line in read if len(row) == width]
    return [[cell.strip() for cell in row] for row, _ in good], [line for _, line in good]

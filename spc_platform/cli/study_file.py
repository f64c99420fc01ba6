"""One file of a study, read strictly: every cell is text, a number or missing, and what is neither is named with its row."""

from __future__ import annotations

import csv
import hashlib
import io
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import fastexcel
import polars as pl

from spc_platform.errors import ContractError
from spc_platform.sources.workbook import NUMBER, NoSheetError, read_sheet

SUFFIXES = {".csv": "csv", ".txt": "csv", ".tsv": "csv", ".parquet": "parquet", ".pq": "parquet", ".xlsx": "xlsx"}
"""How a file is read, by the end of its name."""

_SEPARATORS = ("\t", ";", ",")
_SNIFFED_LINES = 20
_COMMA_NUMBER = r"^[+-]?(\d+,\d*|,\d+)([eE][+-]?\d+)?$"
_NO_NUMBER = ("nan", "inf", "+inf", "-inf", "infinity", "-infinity", "na", "n/a", "null", "none", "-")


@dataclass(frozen=True)
class StudyFile:
    """The cells of one file: ``cells`` has the columns of the file; row 1 is its first row of data, blank rows not counted.

    ``decimal_comma``: whether ``1,5`` is a number, which it is where columns are separated by ``;`` or tabs.
    ``blank_rows``: rows without any cell between rows of data.
    """

    name: str
    sha256: str
    cells: pl.DataFrame
    decimal_comma: bool = False
    blank_rows: int = 0

    @property
    def rows(self) -> int:
        return self.cells.height

    def require(self, column: str) -> str:
        """The column itself. Raises SPC-384 when the file has no such column."""
        if column in self.cells.columns:
            return column
        near = get_close_matches(column, self.cells.columns, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ContractError(
            f"{self.name}: there is no column {column!r}; its columns are {', '.join(map(repr, self.cells.columns))}.{hint} "
            "Name a column as the header writes it.",
            code="SPC-384",
        )

    def numbers(self, column: str) -> pl.Series:
        """Float64, null where the cell is empty. Raises SPC-385 at the first cell that is neither empty nor a finite number."""
        cells = self.cells[self.require(column)]
        if cells.dtype == pl.String:
            return self._parsed(column, cells.str.strip_chars().replace("", None))
        if not (cells.dtype.is_numeric() or cells.dtype == pl.Null):
            raise ContractError(
                f"{self.name}, column {column!r}: it holds {cells.dtype}, not numbers. Name a column of numbers.",
                code="SPC-385",
            )
        numbers = cells.cast(pl.Float64)
        self._refuse(column, cells.cast(pl.String), numbers.is_not_null() & ~numbers.is_finite())
        return numbers

    def _parsed(self, column: str, cells: pl.Series) -> pl.Series:
        plain = cells.str.contains(NUMBER)
        comma = cells.str.contains(_COMMA_NUMBER) if self.decimal_comma else pl.repeat(False, len(cells), eager=True)
        self._refuse(column, cells, ~(plain | comma).fill_null(value=True))
        pointed = cells.str.contains(".", literal=True) & plain
        if comma.any() and pointed.any():
            first, second = (int(flags.arg_true()[0]) for flags in (comma, pointed))
            raise ContractError(
                f"{self.name}, column {column!r}: row {first + 1} has {cells[first]!r} and row {second + 1} {cells[second]!r}: "
                "a comma may mean two things. Write every number with the same decimal sign.",
                code="SPC-385",
            )
        numbers = cells.str.replace(",", ".", literal=True).cast(pl.Float64)
        self._refuse(column, cells, numbers.is_not_null() & ~numbers.is_finite())
        return numbers

    def _refuse(self, column: str, cells: pl.Series, wrong: pl.Series) -> None:
        if not wrong.any():
            return
        row = int(wrong.arg_true()[0])
        text = str(cells[row])
        others = int(wrong.sum()) - 1
        more = f" ({others} more such cells follow)" if others else ""
        raise ContractError(
            f"{self.name}, row {row + 1}, column {column!r}: {text!r} is not a finite number{more}. {self._remedy(text)}",
            code="SPC-385",
        )

    def _remedy(self, text: str) -> str:
        if text.strip().lower() in _NO_NUMBER:
            return "Leave the cell empty where there is no value."
        if "," in text:
            return (
                "Write numbers without signs between thousands; a decimal comma is understood where columns are separated by ;."
            )
        return "Correct the cell, or leave it empty where there is no value."

    def labels(self, column: str) -> pl.Series:
        """Text, null where the cell is empty; whole numbers that are stored as floats lose their ``.0``."""
        cells = self.cells[self.require(column)]
        if cells.dtype.is_float():
            whole = cells.cast(pl.Int64, strict=False)
            return pl.select(
                pl.when(whole.cast(pl.Float64) == cells).then(whole.cast(pl.String)).otherwise(cells.cast(pl.String))
            ).to_series()
        if cells.dtype.is_nested() or cells.dtype == pl.Binary:
            raise ContractError(
                f"{self.name}, column {column!r}: it holds {cells.dtype}. Name a column of texts, numbers or times.",
                code="SPC-385",
            )
        return cells.cast(pl.String).str.strip_chars().replace("", None)

    def number_columns(self) -> list[str]:
        """Columns whose every cell is empty or a number, with at least one number."""
        return [name for name in self.cells.columns if self._holds_numbers(name)]

    def almost_number_columns(self) -> list[str]:
        """Columns of text in which most filled cells are numbers, but not all: a wrong cell, not another kind of column."""
        found = []
        for name in self.cells.columns:
            cells = self.cells[name]
            if cells.dtype == pl.String and not self._holds_numbers(name):
                filled = cells.str.strip_chars().replace("", None).drop_nulls()
                if filled.str.contains(f"{NUMBER}|{_COMMA_NUMBER}").sum() * 2 > filled.len():
                    found.append(name)
        return found

    def _holds_numbers(self, column: str) -> bool:
        try:
            return self.numbers(column).is_not_null().any()
        except ContractError:
            return False


def read(path: Path, sheet: str | None = None, *, rows_needed: bool = True) -> StudyFile:
    """The cells of a CSV, Parquet or XLSX file.

    CSV: UTF-8; the separator is found among tab, ``;`` and ``,``; a row with fewer cells than the header ends in empty ones.
    Rows without any cell are not rows. ``sheet``: name of the XLSX sheet, the first unless given. ``rows_needed``: whether
    a header alone is refused. Raises ContractError
    SPC-380 (unreadable), SPC-381 (no data), SPC-382 (header), SPC-383 (a row with more cells than the header).
    """
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise ContractError(
            f"{path.name}: files that end in {path.suffix or 'nothing'!r} are not read. "
            "Save the data as .csv, .parquet or .xlsx (for an old .xls: save as .xlsx).",
            code="SPC-380",
        )
    if sheet is not None and kind != "xlsx":
        raise ContractError(f"{path.name}: only an .xlsx file has sheets. Leave out --sheet.", code="SPC-380")
    try:
        body = path.read_bytes()
    except OSError as error:
        raise ContractError(
            f"{path}: the file cannot be read ({error.strerror}). Check its name and permissions.", code="SPC-380"
        ) from error
    if not body.strip():
        raise ContractError(f"{path.name}: the file is empty. It needs a header line and rows of data.", code="SPC-381")
    cells, decimal_comma = _readers[kind](path.name, body, sheet)
    kept, blank = _without_blank_rows(cells)
    if kept.is_empty() and rows_needed:
        raise ContractError(f"{path.name}: there is a header but no row of data below it. Add rows.", code="SPC-381")
    return StudyFile(path.name, hashlib.sha256(body).hexdigest(), kept, decimal_comma, blank)


def _csv(name: str, body: bytes, _: str | None) -> tuple[pl.DataFrame, bool]:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = body[: error.start].count(b"\n") + 1
        raise ContractError(
            f"{name}, line {line}: byte {body[error.start]:#04x} is not UTF-8. Save the file as `CSV UTF-8`.", code="SPC-380"
        ) from error
    text = text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\n")
    separator = _separator(text)
    header = _names(name, next(csv.reader(io.StringIO(text), delimiter=separator)))
    try:
        cells = pl.read_csv(io.BytesIO(text.encode()), separator=separator, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        # the fast reader says only that a row has too many cells, this one says which
        _refuse_long_rows(name, text, separator, len(header))
        raise ContractError(
            f"{name}: the file is no table ({str(error).splitlines()[0][:160]}). Close every quotation mark that is opened.",
            code="SPC-380",
        ) from error
    cells.columns = header
    return cells, separator != ","


def _separator(text: str) -> str:
    lines = "".join(line + "\n" for line in text.split("\n", _SNIFFED_LINES)[:_SNIFFED_LINES] if line.strip())
    widths = {sign: [len(row) for row in csv.reader(io.StringIO(lines), delimiter=sign)] for sign in _SEPARATORS}
    for sign, width in widths.items():
        if width[0] > 1 and set(width) == {width[0]}:
            return sign
    return max(reversed(_SEPARATORS), key=lambda sign: widths[sign][0])


def _names(name: str, header: Iterable[str]) -> list[str]:
    names = [text.strip() or f"column_{number}" for number, text in enumerate(header, start=1)]
    twice = next((text for text in names if names.count(text) > 1), None)
    if twice is not None:
        places = " and ".join(str(index + 1) for index, text in enumerate(names) if text == twice)
        raise ContractError(
            f"{name}, header: the columns {places} are both called {twice!r}. Give every column its own name.", code="SPC-382"
        )
    return names


def _refuse_long_rows(name: str, text: str, separator: str, width: int) -> None:
    rows = (row for row in csv.reader(io.StringIO(text), delimiter=separator) if row)
    for number, row in enumerate(rows):
        if len(row) > width:
            raise ContractError(
                f"{name}, row {number}: it has {len(row)} cells but the header has {width}; the first too many is "
                f"{row[width]!r}. Quote a cell that holds {separator!r}, or separate columns by ; where numbers have commas.",
                code="SPC-383",
            )


def _parquet(name: str, body: bytes, _: str | None) -> tuple[pl.DataFrame, bool]:
    try:
        cells = pl.read_parquet(io.BytesIO(body))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ContractError(
            f"{name}: this is no Parquet file, or a damaged one ({str(error).splitlines()[0][:160]}). Write it again.",
            code="SPC-380",
        ) from error
    _names(name, cells.columns)
    return cells, False


def _xlsx(name: str, body: bytes, sheet: str | None) -> tuple[pl.DataFrame, bool]:
    if not zipfile.is_zipfile(io.BytesIO(body)):
        raise ContractError(f"{name}: this is no .xlsx workbook, or a damaged one. Save it again as .xlsx.", code="SPC-380")
    try:
        found = read_sheet(body, sheet)
    except NoSheetError as error:
        raise ContractError(f"{name}: {error}.", code="SPC-380") from error
    except fastexcel.FastExcelError as error:
        raise ContractError(
            f"{name}: the workbook cannot be read ({str(error).splitlines()[0][:160]}). Save it again as .xlsx.", code="SPC-380"
        ) from error
    if found.failed:
        cell, text = found.failed[0]
        raise ContractError(
            f"{name}, sheet {found.name!r}, cell {cell}: the formula gives {text!r}. Correct it, or empty the cell.",
            code="SPC-385",
        )
    filled = found.cells.select(pl.any_horizontal(pl.all().is_not_null())).to_series().arg_true()
    if filled.is_empty():
        raise ContractError(f"{name}: sheet {found.name!r} is empty. Name another with --sheet.", code="SPC-381")
    top = int(filled[0])
    cells = found.cells.slice(top + 1)
    cells.columns = _names(name, ["" if text is None else str(text) for text in found.cells.row(top)])
    return cells, False


def _without_blank_rows(cells: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """The rows that have a cell, and how many rows without any stood between them."""
    filled = cells.select(pl.any_horizontal(pl.all().is_not_null())).to_series()
    places = filled.arg_true()
    if places.is_empty():
        return cells.clear(), 0
    return cells.filter(filled), int(places[-1]) + 1 - len(places)


_readers = {"csv": _csv, "parquet": _parquet, "xlsx": _xlsx}

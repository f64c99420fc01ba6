"""XLSX sheets as text, without what readers lose: digits of numbers, and cells in which a formula failed."""

from __future__ import annotations

import io
import re
import zipfile
from dataclasses import dataclass

import fastexcel
import polars as pl
from defusedxml import ElementTree

NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
"""A number with a decimal point."""

_CELL = re.compile(rb'<c\b([^>]*)\bt="e"([^>]*)>(.*?)</c>', re.DOTALL)
_PLACE = re.compile(rb'\br="([A-Z]+[0-9]+)"')
_VALUE = re.compile(rb"<v>([^<]*)</v>")


MAX_UNPACKED_BYTES = 1 << 30
"""Most bytes to which the members of a workbook may unpack."""
MAX_RATIO = 500
"""Most times that a workbook above ``FREE_BYTES`` may grow by unpacking."""
FREE_BYTES = 64 << 20


class TooLargeError(ValueError):
    """The workbook unpacks to more than is read; the text has the figures."""


class NoSheetError(ValueError):
    """The workbook has no sheet of that name; the text names those that it has."""


@dataclass(frozen=True)
class Sheet:
    """``cells``: every cell as text (String; null: empty), without a header. ``failed``: (cell, text) of formula errors.

    A number has every digit that the file stores; a failed formula stands as its text, e.g. ``#DIV/0!``.
    """

    name: str
    cells: pl.DataFrame
    failed: list[tuple[str, str]]


def read_sheet(body: bytes, sheet: str | int | None = None) -> Sheet:
    """The cells of a sheet: by its name, by its place (from 0), or the first.

    Raises ``NoSheetError``, ``TooLargeError``, ``zipfile.BadZipFile`` where the bytes are no workbook, and the errors of the
    reader.

    The reader writes numbers with fewer digits than they have when it turns them into text, and passes over failed formulas
    as if the cell were empty: the first is mended by reading the numbers as well, the second by marking such cells as text.
    """
    check_size(body)
    book = fastexcel.read_excel(body)
    if isinstance(sheet, str) and sheet not in book.sheet_names:
        raise NoSheetError(f"there is no sheet {sheet!r}; its sheets are {', '.join(map(repr, book.sheet_names))}")
    name = sheet if isinstance(sheet, str) else book.sheet_names[sheet or 0]
    path = _part(body, name)
    failed: list[tuple[str, str]] = []
    if path is not None:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            text = archive.read(path)
        failed = [(_group(_PLACE, found[0].split(b">")[0]), _group(_VALUE, found[3])) for found in _CELL.finditer(text)]
        if failed:
            book = fastexcel.read_excel(_with_part(body, path, _CELL.sub(rb'<c\1t="str"\2>\3</c>', text)))
    texts = book.load_sheet(name, header_row=None, dtypes="string").to_polars()
    floats = book.load_sheet(name, header_row=None, dtypes="float").to_polars()
    return Sheet(name, pl.DataFrame([_exact(texts[column], floats[column]) for column in texts.columns]), failed)


def check_size(body: bytes) -> None:
    """Raise ``TooLargeError`` for an archive that says that it unpacks to too much; what lies about it meets other bounds."""
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > MAX_UNPACKED_BYTES or (unpacked > FREE_BYTES and unpacked > MAX_RATIO * len(body)):
        raise TooLargeError(
            f"{len(body)} bytes unpack to {unpacked}; at most {MAX_UNPACKED_BYTES} and {MAX_RATIO} times as much"
        )


def _exact(texts: pl.Series, floats: pl.Series) -> pl.Series:
    rounded = texts.str.contains(NUMBER) & (texts.cast(pl.Float64, strict=False) != floats)
    exact = pl.when(rounded.fill_null(value=False)).then(floats.cast(pl.String)).otherwise(texts)
    return pl.select(exact.alias(texts.name)).to_series()


def _part(body: bytes, sheet: str) -> str | None:
    """Path of a sheet's XML in the archive; None where the workbook does not say."""
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        relations = {
            node.get("Id"): node.get("Target", "")
            for node in ElementTree.fromstring(archive.read("xl/_rels/workbook.xml.rels"))
        }
        book = ElementTree.fromstring(archive.read("xl/workbook.xml"))
        named = next(node for node in book.iter() if node.tag.endswith("}sheet") and node.get("name") == sheet)
        target = next((relations.get(value, "") for key, value in named.attrib.items() if key.endswith("}id")), "")
        path = target.lstrip("/") if target.startswith("/") else f"xl/{target}"
        return path if path in archive.namelist() else None


def _with_part(body: bytes, path: str, content: bytes) -> bytes:
    """The archive with another content of one of its files."""
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(body)) as archive, zipfile.ZipFile(written, "w") as copy:
        for name in archive.namelist():
            copy.writestr(name, content if name == path else archive.read(name))
    return written.getvalue()


def _group(pattern: re.Pattern[bytes], text: bytes) -> str:
    found = pattern.search(text)
    return found[1].decode() if found else ""

"""Q-DAS ASCII transfer format (AQDEF, ``.dfq``): measured values with what the file says of part and characteristic.

A file is lines of K-fields (``K2001/3 Bore``: field, index, text) followed by values, either as K-fields as well
(``K0001/3 12.5``) or condensed: one line holds a value of every characteristic, characteristics apart by SI (15), the
fields of each by DC4 (20). Index 0 stands for all. A field of values stands for the last value of its characteristic that
came before it, or, written ``K0014/3/7``, for the 7th.

Source: Q-DAS ASCII Transfer Format; K-field numbers and the layout of condensed lines as in the AQDEF specification.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from spc_platform.errors import ContractError

CONDENSED = ("K0001", "K0002", "K0004", "K0005", "K0006", "K0007", "K0008", "K0010", "K0011", "K0012")
"""Fields of a measured value in a condensed line, in their order."""
COUNTED = ("K0020", "K0021", "", "K0002", "K0004", "K0005", "K0006", "K0007", "K0008", "K0010", "K0011", "K0012")
"""Fields of an attribute characteristic in a condensed line: sample size and number of defects instead of a value."""
VALUE_FIELDS = (*dict.fromkeys(name for name in (*CONDENSED, *COUNTED) if name), "K0014", "K0053", "K0054", "K0055")
"""Fields of a value that are columns of the page in any case; others are where the file has them."""
FIELDS = {
    "record_id": "{file}:{characteristic}:{nth}",
    "characteristic_id": "K2001",
    "value": "K0001",
    "unit": "K2142",
    "measured_at": "K0004",
    "material_lot_id": "K0006",
    "serial_number": "K0014",
}
"""What is read into which column unless the resource's ``fields`` say otherwise."""
DATE_ORDERS = ("dmy", "mdy")

_PAGE_FIELDS = ("file", "line", "characteristic", "nth")
_PART_FIELDS = ("K1001", "K1002")
_CHARACTERISTIC_FIELDS = ("K2001", "K2002", "K2004", "K2110", "K2111", "K2142")
_K_LINE = r"^K(\d{4})(?:/(\d+)(?:/(\d+))?)?(?:\s(.*))?$"
_NUMBER = r"^([+-]?\d*),(\d+(?:[eE][+-]?\d+)?)$"
_COUNTED_TYPES = ("1", "5", "6")
_VALID = ("0", "")
_TIME_OF_DAY = r"[/ .T](\d{1,2}:\d{1,2}(?::\d{1,2}(?:\.\d+)?)?)$"


class NotDfqError(ValueError):
    """The bytes are no DFQ file, or one that does not hold what it says; the text says why."""


@dataclass
class _Header:
    """What the file says of its parts and characteristics, by index; index 0 stands for all."""

    parts: dict[int, dict[str, str]] = field(default_factory=dict)
    characteristics: dict[int, dict[str, str]] = field(default_factory=dict)
    part_of: dict[int, int] = field(default_factory=dict)

    def frame(self) -> pl.DataFrame:
        """One row per characteristic: its index and the fields of it and of its part, every one as text."""
        names = sorted({*_PART_FIELDS, *_CHARACTERISTIC_FIELDS}.union(*self.parts.values(), *self.characteristics.values()))
        rows = [
            {
                "characteristic": index,
                **self.parts.get(0, {}),
                **self.parts.get(self.part_of[index], {}),
                **self.characteristics.get(0, {}),
                **self.characteristics[index],
            }
            for index in sorted(self.characteristics.keys() - {0})
        ]
        return pl.DataFrame(rows, schema={"characteristic": pl.Int64} | dict.fromkeys(names, pl.String))


def dfq_cells(body: bytes, options: dict[str, Any], origin: str = "", wanted: Iterable[str] = ()) -> pl.DataFrame:
    """One row per value: its K-fields and those of its characteristic and part as text columns, in the order of the file.

    Numbers with a decimal comma get a point; ``K0004`` is ISO 8601 without zone. Further columns: ``file`` (its name),
    ``line`` (from 1), ``characteristic`` (its index in the file), ``nth`` (which value of it, from 1) and ``_cells``: why
    a value must not be used, empty where it may. K-fields in ``wanted`` are columns also where the file lacks them.
    Options: ``encoding`` (otherwise by byte order mark, UTF-8, or cp1252), ``slash_dates`` (``mdy`` or ``dmy``: how
    03/04/2026 is read), ``valid_attributes`` (of K0002, besides 0 and none).

    Raises ``NotDfqError``, and ContractError for options that cannot be.
    """
    lines = _lines(_text(body, options.get("encoding")))
    header = _header(lines)
    characteristics = header.frame()
    values = _values(lines, characteristics)
    joined = values.join(characteristics, on="characteristic", how="left", maintain_order="left")
    missing = {*VALUE_FIELDS, *(name for name in wanted if re.fullmatch(r"K\d{4}", name))} - set(joined.columns)
    joined = joined.with_columns(pl.lit(None, pl.String).alias(name) for name in missing)
    checked = joined.with_columns(_number(name) for name in ("K0001", "K2110", "K2111")).with_columns(
        K0004=_time(pl.col("K0004"), options), _cells=_problem(options)
    )
    order = [*_PAGE_FIELDS, *sorted(set(checked.columns) - {*_PAGE_FIELDS, "_row", "_cells"}), "_cells"]
    return checked.with_columns(pl.lit(origin).alias("file"), pl.col("line", "characteristic", "nth").cast(pl.String)).select(
        order
    )


def specifications(body: bytes, encoding: str | None = None) -> pl.DataFrame:
    """What a DFQ file says of limits: part, characteristic, description, lsl, usl, unit. Nothing takes them over by itself.

    Raises ContractError when the body is no DFQ file.
    """
    try:
        frame = _header(_lines(_text(body, encoding))).frame()
    except NotDfqError as error:
        raise ContractError(f"not a DFQ file: {error}. Export it again.", code="SPC-335") from error
    limits = frame.with_columns(_number(name) for name in ("K2110", "K2111"))
    return limits.select(
        part="K1001",
        characteristic="K2001",
        description="K2002",
        lsl=pl.col("K2110").cast(pl.Float64, strict=False),
        usl=pl.col("K2111").cast(pl.Float64, strict=False),
        unit="K2142",
    )


def _text(body: bytes, encoding: str | None) -> str:
    marks = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
    marked = next((name for mark, name in marks.items() if body.startswith(mark)), None)
    for name in [encoding] if encoding else [marked] if marked else ["utf-8", "cp1252"]:
        try:
            return body.decode(str(name))
        except LookupError as error:
            raise ContractError(
                f"options.encoding of a dfq resource is {encoding!r}, which is no encoding; write cp1252, utf-8 or utf-16.",
                code="SPC-336",
            ) from error
        except UnicodeDecodeError:
            continue
    raise NotDfqError(f"cannot be read as {encoding or marked or 'UTF-8 or cp1252'}")


def _lines(text: str) -> pl.DataFrame:
    """Lines that say something: line (from 1), text, and of K-fields key, index, nth and said."""
    found = pl.col("text").str.extract_groups(_K_LINE)
    return (
        pl.DataFrame({"text": [text]}, schema={"text": pl.String})
        .select(pl.col("text").str.split("\n").explode())
        .with_columns(pl.col("text").str.strip_chars(" \t\r"))
        .with_row_index("line", offset=1)
        .filter(pl.col("text") != "")
        .with_columns(found.struct.rename_fields(["key", "index", "nth", "said"]).alias("found"), pl.col("line").cast(pl.Int64))
        .unnest("found")
        .with_columns(
            key="K" + pl.col("key"),
            index=pl.col("index").cast(pl.Int64, strict=False).fill_null(1),
            nth=pl.col("nth").cast(pl.Int64, strict=False),
            said=pl.col("said").str.strip_chars(),
        )
    )


def _header(lines: pl.DataFrame) -> _Header:
    fields = lines.filter(pl.col("key").str.contains("^K[012]") & ~pl.col("key").str.contains("^K00"))
    if fields.is_empty() or fields["key"][0] != "K0100":
        raise NotDfqError("it does not begin with K0100, the number of characteristics")
    header, part = _Header(), 1
    for key, index, said in fields.select("key", "index", pl.col("said").fill_null("")).iter_rows():
        if key.startswith("K1"):
            part = index or part
            header.parts.setdefault(index, {})[key] = said
        elif key.startswith("K2"):
            header.characteristics.setdefault(index, {})[key] = said
            header.part_of.setdefault(index, part)
    stated, has = fields["said"][0], len(header.characteristics.keys() - {0})
    if stated != str(has):
        raise NotDfqError(f"K0100 states {stated} characteristics, the file has {has}: is it whole?")
    return header


def _values(lines: pl.DataFrame, characteristics: pl.DataFrame) -> pl.DataFrame:
    """One row per value: line, characteristic, nth, its K-fields, and ``_row``: what is wrong with its line."""
    values = lines.filter(pl.col("key").str.starts_with("K00"))
    begun = pl.col("key").is_in(["K0001", "K0020"])
    stated = values.filter(begun & (pl.col("index") != 0)).select(
        "line", pl.col("index").alias("characteristic"), "key", "said"
    )
    single = stated.select(
        "line", "characteristic", *(pl.when(key=name).then("said").alias(name) for name in ("K0001", "K0020"))
    )
    rows = pl.concat([single, _condensed(lines, characteristics)], how="diagonal").sort("line", "characteristic")
    unknown = rows.join(characteristics, on="characteristic", how="anti")
    if unknown.height:
        raise NotDfqError(
            f"line {unknown['line'][0]} has a value of characteristic {unknown['characteristic'][0]}, not described"
        )
    rows = rows.with_columns(nth=pl.int_range(1, pl.len() + 1).over("characteristic").cast(pl.Int64))
    return _with_fields(rows, values.filter(~begun))


def _condensed(lines: pl.DataFrame, characteristics: pl.DataFrame) -> pl.DataFrame:
    """Values of lines without K: per characteristic of the file, in its order, the fields ``CONDENSED`` or ``COUNTED``."""
    n = characteristics.height
    groups = (
        lines.filter(pl.col("key").is_null() & ~pl.col("text").str.starts_with("K"))
        .select("line", group=pl.col("text").str.split("\x0f"))
        .with_columns(has=pl.col("group").list.len())
        .explode("group")
        .with_columns(place=pl.int_range(pl.len()).over("line").cast(pl.Int64), fields=pl.col("group").str.split("\x14"))
    )
    numbered = (
        characteristics.select("characteristic", "K2004").with_row_index("place").with_columns(pl.col("place").cast(pl.Int64))
    )
    placed = groups.join(numbered, on="place", how="left", maintain_order="left").filter(pl.col("group") != "")
    counted = pl.col("K2004").is_in(list(_COUNTED_TYPES)).fill_null(value=False)

    def cell(name: str) -> pl.Expr:
        cells = pl.col("fields").list
        own = cells.get(CONDENSED.index(name), null_on_oob=True) if name in CONDENSED else pl.lit(None, pl.String)
        other = cells.get(COUNTED.index(name), null_on_oob=True) if name in COUNTED else pl.lit(None, pl.String)
        return pl.when(counted).then(other).otherwise(own).str.strip_chars().alias(name)

    names = list(dict.fromkeys(name for name in (*CONDENSED, *COUNTED) if name))
    wrong = pl.when(pl.col("has") != n).then(pl.format(f"row:HAS_{{}}_OF_{n}_CHARACTERISTICS", "has"))
    return placed.select("line", pl.col("characteristic").fill_null(pl.col("place") + 1), *map(cell, names), _row=wrong)


def _with_fields(rows: pl.DataFrame, said: pl.DataFrame) -> pl.DataFrame:
    """Values with the K-fields that stand for them; a field that is stated twice of one value is named in ``_row``."""
    places = rows.select("line", "characteristic", "nth")
    own = said.select("line", "key", "said", at="index", stated="nth")
    every = own.filter(pl.col("at") == 0).join(places.select("characteristic").unique(), how="cross")
    own = pl.concat([own.filter(pl.col("at") != 0).with_columns(characteristic="at"), every], how="diagonal").sort("line")
    near = own.filter(pl.col("stated").is_null()).join_asof(
        places.sort("line"), on="line", by="characteristic", strategy="backward", check_sortedness=False
    )
    exact = own.filter(pl.col("stated").is_not_null()).with_columns(nth="stated")
    meant = pl.concat([near, exact], how="diagonal").filter(pl.col("nth").is_not_null())
    if rows.is_empty() or said.is_empty():
        return rows
    stray = said.join(meant, on=["line", "key"], how="anti")
    if stray.height:
        raise NotDfqError(f"line {stray['line'][0]} states {stray['key'][0]} before any value that it could stand for")
    once = meant.group_by("characteristic", "nth", "key").agg(pl.col("said").last(), n=pl.len())
    twice = (
        once.filter(pl.col("n") > 1)
        .group_by("characteristic", "nth")
        .agg(_twice=pl.format("{}:STATED_TWICE", pl.col("key").sort()).str.join(";"))
    )
    wide = once.pivot("key", index=["characteristic", "nth"], values="said", sort_columns=True)
    joined = rows.join(wide, on=["characteristic", "nth"], how="left", suffix="_own", maintain_order="left")
    again = [name for name in joined.columns if name.endswith("_own")]
    joined = joined.with_columns(
        pl.coalesce(name, name.removesuffix("_own")).alias(name.removesuffix("_own")) for name in again
    )
    joined = joined.drop(again).join(twice, on=["characteristic", "nth"], how="left", maintain_order="left")
    return joined.with_columns(_row=pl.concat_str("_row", "_twice", separator=";", ignore_nulls=True)).drop("_twice")


def _problem(options: dict[str, Any]) -> pl.Expr:
    """Why a value must not be used; null where it may."""
    valid = [*_VALID, *map(str, options.get("valid_attributes", []))]
    attribute = pl.col("K0002").fill_null("")
    problems = [
        pl.when(pl.col("_row") != "").then("_row"),
        pl.when(~attribute.is_in(valid)).then(pl.format("value:ATTRIBUTE_{}", attribute)),
        pl.when(pl.col("K2004").is_in(list(_COUNTED_TYPES))).then(pl.lit("value:OF_AN_ATTRIBUTE_CHARACTERISTIC")),
    ]
    said = pl.concat_str(problems, separator=";", ignore_nulls=True)
    return pl.when(said != "").then(said)


def _number(name: str) -> pl.Expr:
    return pl.col(name).str.replace(_NUMBER, "${1}.${2}").alias(name)


def _time(text: pl.Expr, options: dict[str, Any]) -> pl.Expr:
    """Dates of DFQ as ISO 8601; what is no date, or one with slashes of unknown order, stays as it is and is refused later."""
    order = options.get("slash_dates")
    if order is not None and order not in DATE_ORDERS:
        raise ContractError(
            f"options.slash_dates of a dfq resource is {order!r}; write one of {', '.join(DATE_ORDERS)}.", code="SPC-336"
        )
    forms = [rf"^(?<d>\d{{1,2}})\.(?<m>\d{{1,2}})\.(?<y>\d{{2}}|\d{{4}}){_TIME_OF_DAY}"]
    forms.append(rf"^(?<y>\d{{4}})-(?<m>\d{{1,2}})-(?<d>\d{{1,2}}){_TIME_OF_DAY}")
    if order is not None:
        first, second = order[:2]
        forms.append(rf"^(?<{first}>\d{{1,2}})/(?<{second}>\d{{1,2}})/(?<y>\d{{2}}|\d{{4}}){_TIME_OF_DAY}")
    return pl.coalesce(*(_iso(text, form) for form in forms), text)


def _iso(text: pl.Expr, form: str) -> pl.Expr:
    names = re.findall(r"\?<(\w)>", form)
    found = text.str.extract_groups(re.sub(r"\?<\w>", "", form))
    part = {name: found.struct.field(str(index)) for index, name in enumerate([*names, "t"], start=1)}
    year = pl.when(part["y"].str.len_chars() == 2).then("20" + part["y"]).otherwise(part["y"])
    clock = (
        part["t"]
        .str.split(":")
        .list.eval(pl.when(pl.element().str.contains(r"^\d$")).then("0" + pl.element()).otherwise(pl.element()))
    )
    return year + "-" + part["m"].str.zfill(2) + "-" + part["d"].str.zfill(2) + " " + clock.list.join(":")

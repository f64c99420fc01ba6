"""JSON pages of records: typed rows, with the reason beside each field that could not be read.

A page is a JSON object with an array of records at ``resource.records`` (dots go deeper), or that array
itself when ``records`` is empty. A page without a problem is decoded in one pass; a page with one is taken
apart record by record, and only the records that do not fit are looked at field by field.

Reasons in ``decode_error`` (``column:REASON`` joined by ``;``, record first, then in column order):
``record:NOT_AN_OBJECT``, ``record_id:MISSING``, ``NOT_A_TEXT``, ``NOT_UTF8``, ``NOT_A_NUMBER``, ``NOT_FINITE``,
``NOT_AN_INTEGER``, ``NOT_A_BOOLEAN``, ``NOT_A_TIMESTAMP``, ``TIMESTAMP_WITHOUT_ZONE``, and for sources that
state local times ``AMBIGUOUS_LOCAL_TIME`` and ``NONEXISTENT_LOCAL_TIME``. A value with a reason is null. What was assumed
instead (``local_time``) stands in ``decode_note``, in the same form.
Integers stand for text in text columns (an order number), and digits as text for a revision. Digits of a second past
the sixth are cut off.
A record without identity is named by a hash of what it says: two such records of equal content are one.
A record with two fields of one name is ``record:DUPLICATE_KEY``: RFC 8259 leaves open which of them counts, so none does.

Dialects whose records are not flat objects are described by the options of ``json_shape``, which flattens them first.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import polars as pl

from spc_platform.contracts.table import UTC
from spc_platform.errors import ContractError, SiteError
from spc_platform.site.model import Resource
from spc_platform.sources.json_names import duplicated, marked, uniform
from spc_platform.sources.json_plan import DECODED, INT64, Plan, plan_of
from spc_platform.sources.json_shape import Shape, shape_of
from spc_platform.sources.local_time import read_instants

_DIGITS = re.compile(r"[0-9]{1,18}")
_MOST_DIGITS = 400
"""Longer integers are beyond every column, and from 4300 digits on beyond Python's own reader."""


def find(document: Any, path: str) -> Any:
    """What stands at a dotted path of a decoded document; None when there is nothing. Decodes raw parts on the way.

    A name of the outer object that itself has dots (``@odata.nextLink``) is found as it is; a number counts in an array.

    >>> find({"d": {"next": "abc"}}, "d.next")
    'abc'
    """
    parts = [path] if isinstance(document, dict) and path in document else path.split(".")
    for part in filter(None, parts):
        if isinstance(document, msgspec.Raw):
            shelf: Any = list[msgspec.Raw] if bytes(memoryview(document)[:1]) == b"[" else dict[str, msgspec.Raw]
            try:
                document = msgspec.json.decode(document, type=shelf)
            except msgspec.ValidationError:
                return None
        if isinstance(document, list) and part.isdecimal() and int(part) < len(document):
            document = document[int(part)]
        else:
            document = document.get(part) if isinstance(document, dict) else None
    return document


def _loads(text: str) -> Any:
    """The tolerant reader: NaN, Infinity, lone surrogates; an integer too long for any column is infinite."""
    return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) <= _MOST_DIGITS else float(digits))


def open_page(body: bytes) -> Any:
    """The page's outer object with its parts unread; a page that only a tolerant reader accepts is read in full.

    Raises ValueError when the bytes are no JSON: truncated, not text, nested too deeply.
    """
    body = body.removeprefix(b"\xef\xbb\xbf")
    try:
        if body.lstrip()[:1] == b"{":
            return msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        return msgspec.json.decode(body, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        try:
            # NaN, Infinity, lone surrogates and bytes that are no UTF-8 spoil records, not the page.
            return _loads(body.decode("utf-8", "replace"))
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def shaped_records(document: Any, path: str, shape: Shape) -> Any:
    """What stands where the records should; nothing there is no records where ``records_optional`` says so.

    Around it the page must be whole: what the path leads through is there, and the page tells no error of its own.
    """
    found = find(document, path)
    if found is not None or not shape.records_optional:
        return found
    outer = path.rpartition(".")[0]
    is_whole = find(document, outer) is not None and not (shape.errors and find(document, shape.errors))
    return [] if is_whole and isinstance(document, dict) else None


def records_of(document: Any, path: str) -> Any:
    """The array of records in a page from ``open_page``: raw bytes or a list. Raises ValueError when it is not there."""
    records = find(document, path)
    if isinstance(records, list) or (isinstance(records, msgspec.Raw) and bytes(memoryview(records)[:1]) == b"["):
        return records
    raise ValueError(f"no array of records at {path!r}")


def decode(resource: Resource, table: str, body: bytes, origin: str = "") -> pl.DataFrame:
    """Rows of a JSON page; see ``decode.decode`` for the columns. ``origin`` is not needed: a record says all of itself.

    Raises ContractError when the page is no JSON or has no array of records, SiteError for a field map
    that names no column of the table.
    """
    shape = shape_of(resource)
    try:
        if shape.is_plain_in(body):
            plan = plan_of(table, tuple(sorted(resource.fields.items())))
            records = records_of(open_page(body), resource.records)
            rows, errors = _plain_rows(plan, records, shape)
        else:
            plan = plan_of(table, ())
            rows, records, errors = _shaped_rows(plan, body, resource, shape)
    except ValueError as error:
        raise ContractError(
            f"page {hashlib.sha256(body).hexdigest()} of resource {resource.name!r}: {error};"
            " it is kept as landed and was not read"
        ) from None
    notes: dict[str, dict[int, str]] = {}
    frame = _frame(plan, rows, resource, errors, notes)
    frame = _identify(frame, errors, records)
    return _with_errors(frame, plan, errors, notes, lambda wanted: _raw_texts(records, wanted))


def _plain_rows(plan: Plan, records: Any, shape: Shape) -> tuple[list[Any], dict[str, dict[int, str]]]:
    """Records that are flat objects, in one pass where all fit."""
    errors: dict[str, dict[int, str]] = {}
    try:
        rows = plan.read_all(records) if isinstance(records, msgspec.Raw) else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        rows = None
    twice = False
    if shape.rejects_duplicates and isinstance(records, msgspec.Raw):
        text = bytes(records)
        twice = not (rows is not None and uniform(text, len(rows))) and duplicated(text)
    if rows is None or twice:
        rows = _rows_one_by_one(plan, records, errors, refuse_duplicates=twice)
    return rows, errors


def _shaped_rows(
    plan: Plan, body: bytes, resource: Resource, shape: Shape
) -> tuple[list[Any], list[Any], dict[str, dict[int, str]]]:
    """Records of another dialect: flattened by the options of the resource, then read as plain ones are."""
    shape.check_columns(plan.dtypes)
    unknown = sorted(set(resource.fields) - set(plan.dtypes))
    if unknown:
        raise SiteError(f"fields {', '.join(unknown)} are no columns of the table; it has: {', '.join(plan.dtypes)}")
    page = open_whole(body)
    if shape.rejects_duplicates and duplicated(body):
        page = marked(body)
    flat, items, errors = shape.flatten(page, shaped_records(page, resource.records, shape), plan.dtypes)
    rows = None
    try:
        if all(_is_text(value) for row in flat for value in row.values() if isinstance(value, str)):
            rows = msgspec.convert(flat, list[plan.row])  # type: ignore[name-defined]
    except msgspec.ValidationError:
        rows = None
    if rows is None:
        rows = [_fit(plan, row, number, errors) for number, row in enumerate(flat)]
    return rows, items, errors


def _fit(plan: Plan, row: dict[str, Any], number: int, errors: dict[str, dict[int, str]]) -> Any:
    try:
        return _strict(plan, row)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _repair(plan, row, number, errors)


def open_whole(body: bytes) -> Any:
    """A page decoded in full. Raises ValueError as ``open_page`` does."""
    text = body.removeprefix(b"\xef\xbb\xbf")
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            return _loads(text.decode("utf-8", "replace"))
        except RecursionError as error:
            raise ValueError("nested too deeply") from error


def _split(records: Any) -> list[Any]:
    """The records of a page, each as raw bytes where the page allows it, else as decoded value."""
    if isinstance(records, list):
        return records
    try:
        return msgspec.json.decode(records, type=list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError):
        parsed: list[Any] = _loads(bytes(records).decode("utf-8", "replace"))
        return parsed


def _raw_texts(records: Any, wanted: Iterable[int]) -> list[str]:
    split = _split(records)
    return [
        bytes(split[row]).decode("utf-8", "replace") if isinstance(split[row], msgspec.Raw) else json.dumps(split[row])
        for row in wanted
    ]


def _rows_one_by_one(
    plan: Plan, records: Any, errors: dict[str, dict[int, str]], *, refuse_duplicates: bool = False
) -> list[Any]:
    rows = []
    for number, record in enumerate(_split(records)):
        raw = isinstance(record, msgspec.Raw)
        if raw and refuse_duplicates and duplicated(bytes(record)):
            errors.setdefault("record", {})[number] = "DUPLICATE_KEY"
            rows.append(plan.row())
            continue
        try:
            # Decoded values come from the tolerant reader: its NaN and replaced characters are looked at below.
            rows.append(plan.read_one(record) if raw else _strict(plan, record))
        except (msgspec.DecodeError, UnicodeDecodeError):
            value = _loads(bytes(record).decode("utf-8", "replace")) if raw else record
            rows.append(_repair(plan, value, number, errors))
    return rows


def _strict(plan: Plan, record: Any) -> Any:
    row = msgspec.convert(record, plan.row)
    for name in plan.attribute.values():
        value = getattr(row, name)
        if isinstance(value, str) and not _is_text(value):
            raise msgspec.DecodeError("not text")
    return row


def _is_text(value: str) -> bool:
    """False for text that came from bytes or escapes that are no characters."""
    return value.isascii() or ("\ufffd" not in value and not any("\ud800" <= character <= "\udfff" for character in value))


def _repair(plan: Plan, value: Any, number: int, errors: dict[str, dict[int, str]]) -> Any:
    """The readable fields of a record that does not fit; notes why the others are empty."""
    if not isinstance(value, dict):
        errors.setdefault("record", {})[number] = "NOT_AN_OBJECT"
        return plan.row()
    readable: dict[str, Any] = {}
    for column, name in plan.source.items():
        said = value.get(name)
        if column == "revision" and isinstance(said, str) and _DIGITS.fullmatch(said):
            said = int(said)
        field, reason = _read_field(plan.kind[column], said)
        if reason and plan.dtypes[column] == UTC:
            reason = "NOT_A_TIMESTAMP"
        readable[plan.attribute[name]] = field
        if reason:
            errors.setdefault(column, {})[number] = reason
    return plan.row(**readable)


def _read_field(kind: str, value: Any) -> tuple[Any, str]:
    """(value or None, reason why it is None); a missing value has no reason: the contract refuses it later."""
    if value is None:
        return None, ""
    integer = isinstance(value, int) and not isinstance(value, bool)
    if kind == "text":
        if isinstance(value, str):
            return (value, "") if _is_text(value) else (None, "NOT_UTF8")
        return (value, "") if integer else (None, "NOT_A_TEXT")
    if kind == "boolean":
        return (value, "") if isinstance(value, bool) else (None, "NOT_A_BOOLEAN")
    if kind == "integer":
        return (value, "") if integer and -INT64 <= value <= INT64 else (None, "NOT_AN_INTEGER")
    if not integer and not isinstance(value, float):
        return None, "NOT_A_NUMBER"
    try:
        number = float(value)
    except OverflowError:
        return None, "NOT_FINITE"
    return (number, "") if math.isfinite(number) else (None, "NOT_FINITE")


def _text_series(name: str, values: list[Any]) -> pl.Series:
    try:
        return pl.Series(name, values, dtype=pl.String, strict=True)
    except (TypeError, OverflowError):
        return pl.Series(name, [str(value) if isinstance(value, int) else value for value in values], dtype=pl.String)


def _frame(
    plan: Plan, rows: list[Any], resource: Resource, errors: dict[str, dict[int, str]], notes: dict[str, dict[int, str]]
) -> pl.DataFrame:
    said = pl.DataFrame(
        [
            pl.Series("page_row", range(len(rows)), dtype=pl.Int64),
            *(_said(plan, column, plan.values(rows, column)) for column in plan.dtypes),
        ]
    )
    times = [column for column, dtype in plan.dtypes.items() if dtype == UTC]
    typed = said.with_columns(
        *(pl.col(column).str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False) for column in times),
        *(pl.col(column).cast(dtype) for column, dtype in plan.dtypes.items() if dtype != UTC and dtype != said.schema[column]),
    )
    # Everything that a page may have to be looked at closely for, found in one pass over all columns.
    odd = said.select(
        *(pl.col(column).str.contains(":60", literal=True).any() for column in times),
        *(pl.col(column).is_finite().all().not_() for column, kind in plan.kind.items() if kind == "number"),
    ).row(0, named=True)
    for column in times:
        if odd[column] or typed[column].null_count() != said[column].null_count():
            placed = read_instants(said[column], resource.zone, resource.ambiguous)
            _note_each(errors, column, placed.reason)
            _note_each(notes, column, placed.assumption)
            typed = typed.with_columns(placed.at.cast(UTC).alias(column))
    for column in odd.keys() - set(times):
        if odd[column]:
            bad = ~typed[column].is_finite().fill_null(value=True)
            _note(errors, column, bad, "NOT_FINITE")
            typed = typed.with_columns(typed[column].set(bad, None))
    return typed


def _said(plan: Plan, column: str, values: list[Any]) -> pl.Series:
    """The values of a column as the source gave them: instants still text, integers of any width as 64 bits."""
    kind = plan.kind[column]
    if kind == "text":
        return _text_series(column, values)
    return pl.Series(column, values, dtype=pl.Int64 if kind == "integer" else plan.dtypes[column], strict=True)


def _note(errors: dict[str, dict[int, str]], column: str, where: pl.Series, reason: str) -> None:
    for row in where.arg_true().to_list():
        errors.setdefault(column, {}).setdefault(row, reason)


def _note_each(kept: dict[str, dict[int, str]], column: str, said: pl.Series) -> None:
    for reason in said.drop_nulls().unique():
        _note(kept, column, (said == reason).fill_null(value=False), reason)


def _identify(frame: pl.DataFrame, errors: dict[str, dict[int, str]], records: Any) -> pl.DataFrame:
    """Identity by content for records without one; revision 1 and not deleted where the source says nothing.

    The name is a hash of what the record says, so another page that repeats the record brings nothing new.
    """
    named = frame["record_id"].str.len_bytes().min()
    if frame["record_id"].has_nulls() or named == 0:
        nameless = frame["record_id"].is_null() | (frame["record_id"] == "")
        whole = errors.get("record", {})
        is_record = ~frame["page_row"].is_in(list(whole))
        _note(errors, "record_id", nameless & is_record, "MISSING")
        unnamed = nameless.arg_true().to_list()
        names = pl.Series([f"unnamed-{_content_hash(text)}" for text in _raw_texts(records, unnamed)], dtype=pl.String)
        frame = frame.with_columns(frame["record_id"].scatter(unnamed, names))
    missing = {"revision": 1, "is_deleted": False}
    return frame.with_columns(pl.col(name).fill_null(value) for name, value in missing.items() if frame[name].has_nulls())


def _content_hash(text: str) -> str:
    """The same for a record whether its page was read by the fast or by the tolerant reader."""
    return hashlib.sha256(json.dumps(_loads(text)).encode()).hexdigest()[:24]


def _with_errors(
    frame: pl.DataFrame,
    plan: Plan,
    errors: dict[str, dict[int, str]],
    notes: dict[str, dict[int, str]],
    texts_of: Callable[[Iterable[int]], list[str]],
) -> pl.DataFrame:
    payload = [column for column in plan.dtypes if column not in DECODED]
    order = ["page_row", *DECODED, "decode_error", "raw_record", *payload, "decode_note"]
    if not errors and not notes:
        return frame.with_columns(
            pl.lit(None, pl.String).alias(name) for name in ("decode_error", "raw_record", "decode_note")
        ).select(order)
    reasons, assumptions = _by_row(plan, errors), _by_row(plan, notes)
    bad = sorted(reasons)
    noted = pl.DataFrame(
        {"page_row": bad, "decode_error": [reasons[row] for row in bad], "raw_record": texts_of(bad) if bad else []},
        schema={"page_row": pl.Int64, "decode_error": pl.String, "raw_record": pl.String},
    )
    note = pl.col("page_row").replace_strict(assumptions, default=None, return_dtype=pl.String) if assumptions else pl.lit(None)
    joined = frame.join(noted, on="page_row", how="left", maintain_order="left")
    return joined.with_columns(note.cast(pl.String).alias("decode_note")).select(order)


def _by_row(plan: Plan, said: dict[str, dict[int, str]]) -> dict[int, str]:
    """What is said of each row, as ``column:WORD`` joined by ``;`` in the order of the columns."""
    words: dict[int, list[str]] = {}
    for column in ("record", *plan.dtypes):
        for row, word in said.get(column, {}).items():
            words.setdefault(row, []).append(f"{column}:{word}")
    return {row: ";".join(each) for row, each in words.items()}

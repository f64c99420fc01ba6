"""How the JSON of a foreign dialect becomes flat records, by configuration alone.

``options`` of a ``json_records`` resource. Columns are those of the raw table; a *path* goes deeper with dots, an index
counts in arrays, ``^`` stands for what is around a record (``^Name``: its parent or the page, ``^^`` one further out).

``layout = "records"``: an array of objects; ``keyed``: an object of objects, whose key is the field ``@key``; ``rows``: an
array of arrays, named by ``columns``; ``columns``: an object of arrays of equal length.
``columns = []``: names of the cells of a row, or the path of a list of names (or of objects with ``name``) in the page, or
``^columns`` beside the rows. Under ``explode`` the innermost elements may be such rows as well.
``records_optional = false``: true where a page without records leaves out the array instead of sending an empty one.
``explode = []``: paths of nested arrays, outer first; each innermost element is a record.
``key = []``: paths whose values, joined by ``|``, are the record's identity.
``constants = {}``: column -> what the source leaves out. ``null_tokens = []``: values that mean nothing.
``unwrap = {}``: column -> member to take where the value is an object. ``maps = {}``: column -> { source's word = ours }.
``types = {}``: column -> ``decimal``, ``decimal_comma`` (numbers as text), ``epoch_s``, ``epoch_ms``, ``epoch_us``,
``epoch_ns``, ``odata_v2``, a pattern with ``%`` (instants), or ``instant`` (a whole number from an ISO instant).
``linear = {}``: column -> [factor, summand]. ``deleted = {}``: ``path`` and the ``values`` there that mean deleted; without
values whatever is there. A deletion that states no revision is final. ``id``: paths that name a deleted record which has no
identity of its own, first found counts; of an OData address such as ``Results(7)`` the key in its parentheses is taken.
``quality = []``: tables of ``path``, ``good`` or ``bad`` values, ``reason``, ``column``: a value that is not good is
landed as null with that reason. Without ``good`` and ``bad`` whatever stands there is bad. ``named = true`` adds the
source's word to the reason: ``value:BAD_QUALITY_BADSENSORFAILURE``.
``errors = ""``: path of an error message beside a record or around it: ``record:SOURCE_ERROR``.
``duplicate_keys = "reject"``: a record with two fields of one name gets ``record:DUPLICATE_KEY``; or ``ignore``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from typing import Any

import msgspec
import polars as pl

from spc_platform.errors import SiteError
from spc_platform.site.files import did_you_mean
from spc_platform.site.model import Resource
from spc_platform.sources.entity_key import named_when_deleted
from spc_platform.sources.json_names import DOUBLED, is_doubled

LAYOUTS = ("records", "keyed", "rows", "columns")
SHAPE: dict[str, Any] = {
    "layout": "records",
    "columns": [],
    "records_optional": False,
    "explode": [],
    "key": [],
    "constants": {},
    "null_tokens": [],
    "unwrap": {},
    "maps": {},
    "types": {},
    "linear": {},
    "deleted": {},
    "quality": [],
    "errors": "",
    "duplicate_keys": "reject",
}
NUMBERS = ("decimal", "decimal_comma")
EPOCHS = {"epoch_s": 1_000_000.0, "epoch_ms": 1_000.0, "epoch_us": 1.0, "epoch_ns": 0.001}
TYPES = (*NUMBERS, *EPOCHS, "odata_v2", "instant")
DELETED = ("path", "values", "id")
QUALITY = {"path": "quality", "good": None, "bad": None, "reason": "BAD_QUALITY", "column": "value", "named": False}
MOST_OF_A_WORD = 40
"""Characters of a source's own word that a reason takes up."""
FINAL = 2**62
"""Revision of a deletion that names none: nothing comes after it."""
_REASON = re.compile(r"^[A-Z][A-Z0-9_]*$")
_ODATA_V2 = re.compile(r"^/Date\((-?\d+)(?:[+-]\d+)?\)/$")

_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
_WHOLE = re.compile(r"\s*[+-]?\d{1,18}\s*", re.ASCII)

Getter = Callable[[Any, tuple[Any, ...]], Any]
Errors = dict[str, dict[int, str]]


class Shape:
    """The compiled options of a resource; ``flatten`` turns a decoded page into records named by column."""

    def __init__(self, name: str, fields: Mapping[str, str], options: Mapping[str, Any]) -> None:
        self._name, self._fields = name, dict(fields)
        given = {key: value for key, value in options.items() if key in SHAPE}
        o = SHAPE | given
        for key, value in given.items():
            wanted = type(SHAPE[key])
            if key == "quality" and isinstance(value, dict):
                o["quality"] = [value]
            elif not isinstance(value, wanted) and not (key == "columns" and isinstance(value, str)):
                raise self._wrong(key, f"is {value!r}, not a {wanted.__name__}")
        self._options = o
        self.rejects_duplicates = o["duplicate_keys"] == "reject"
        self.records_optional, self.errors = bool(o["records_optional"]), str(o["errors"])
        self._quality = [self._rule(rule) for rule in o["quality"]]
        self._check()
        flat = not any(_is_path(path) for path in fields.values())
        self.is_plain = flat and not (set(given) - {"duplicate_keys"})
        self._only_quality = flat and not (set(given) - {"duplicate_keys", "quality"})

    def is_plain_in(self, body: bytes) -> bool:
        """True when the records of a page are flat objects and none of them says anything of its quality."""
        if self.is_plain:
            return True
        silent = [rule["path"] for rule in self._quality if rule["good"] is None is rule["bad"] and not _is_path(rule["path"])]
        return (
            self._only_quality
            and len(silent) == len(self._quality)
            and not any(f'"{path}"'.encode() in body for path in silent)
        )

    def _wrong(self, key: str, what: str) -> SiteError:
        return SiteError(f"resource {self._name!r}: options.{key} {what}", code="SPC-430")

    def _rule(self, rule: Any) -> dict[str, Any]:
        if not isinstance(rule, dict):
            raise self._wrong("quality", f"has {rule!r}; write tables, {{ path = ..., bad = [...] }}")
        for key in rule:
            if key not in QUALITY:
                raise self._wrong("quality", f"has an unknown key {key!r}; {did_you_mean(key, QUALITY)}")
        whole = QUALITY | rule
        if not _REASON.match(str(whole["reason"])):
            raise self._wrong("quality", f"has the reason {whole['reason']!r}; use capitals, digits and underscores")
        return whole

    def _check(self) -> None:
        o = self._options
        for key, choices in (("layout", LAYOUTS), ("duplicate_keys", ("reject", "ignore"))):
            if o[key] not in choices:
                raise self._wrong(key, f"is {o[key]!r}; {did_you_mean(o[key], choices)}")
        for column, kind in o["types"].items():
            if kind not in TYPES and "%" not in str(kind):
                raise self._wrong(
                    "types", f"gives {column} the type {kind!r}; {did_you_mean(str(kind), TYPES)} or a pattern with %"
                )
        for column, pair in o["linear"].items():
            if not (isinstance(pair, list) and len(pair) == 2 and all(type(each) in (int, float) for each in pair)):
                raise self._wrong("linear", f"gives {column} {pair!r}; write [factor, summand]")
        for key in o["deleted"]:
            if key not in DELETED:
                raise self._wrong("deleted", f"has an unknown key {key!r}; {did_you_mean(key, DELETED)}")
        if not isinstance(o["deleted"].get("id", []), list):
            raise self._wrong("deleted", f"has id = {o['deleted']['id']!r}; write a list of paths")
        if o["layout"] == "rows" and not o["columns"]:
            raise self._wrong("columns", "is empty; name the cells of a row, or where the page does")

    def check_columns(self, known: Mapping[str, Any]) -> None:
        """Raises SiteError for an option that names a column which the table does not have."""
        o = self._options
        named = {*o["constants"], *o["unwrap"], *o["maps"], *o["types"], *o["linear"], *(r["column"] for r in self._quality)}
        for column in sorted(named - set(known)):
            raise self._wrong("columns named", f"have {column!r}, which is none of the table; {did_you_mean(column, known)}")

    def flatten(self, page: Any, records: Any, columns: Mapping[str, Any]) -> tuple[list[Any], list[Any], Errors]:
        """(flat records by column, the elements they came from, reasons by column and row) of a decoded page.

        Raises ValueError when the page is not laid out as configured.
        """
        rows: list[Any] = []
        items: list[Any] = []
        errors: Errors = {}
        getters = self._getters(columns)
        said = _getter(self._options["errors"]) if self._options["errors"] else None
        for item, parents, broken in self._elements(page, records):
            number = len(rows)
            items.append(item)
            if broken or not isinstance(item, dict):
                errors.setdefault("record", {})[number] = broken or "NOT_AN_OBJECT"
                rows.append({})
                continue
            if is_doubled(item) or any(isinstance(each, dict) and DOUBLED in each for each in parents):
                errors.setdefault("record", {})[number] = "DUPLICATE_KEY"
                rows.append({})
                continue
            if said is not None and (said(item, parents) or any(said(each, ()) for each in parents)):
                errors.setdefault("record", {})[number] = "SOURCE_ERROR"
            rows.append({column: get(item, parents) for column, get in getters})
        self._finish(rows, errors)
        return rows, items, errors

    def records(self, found: Any) -> Any:
        """What stands where the records should, when it is laid out so. Raises ValueError otherwise."""
        if found == [] and self.records_optional:
            return found
        raw = bytes(memoryview(found)[:1]) if isinstance(found, msgspec.Raw) else b""
        kind = list if self._options["layout"] in ("records", "rows") else dict
        if isinstance(found, kind) or raw == (b"[" if kind is list else b"{"):
            return found
        raise ValueError(f"no {'array' if kind is list else 'object'} of records")

    def counts(self, page: Any, records: Any) -> tuple[int, int]:
        """(records, most records that share a parent) of a decoded page."""
        sizes: Counter[int] = Counter()
        for _, parents, broken in self._elements(page, records):
            sizes[id(parents[0])] += not broken
        return sizes.total(), max(sizes.values(), default=0)

    def _getters(self, columns: Mapping[str, Any]) -> list[tuple[str, Getter]]:
        o = self._options
        getters = {column: _getter(self._fields.get(column, column)) for column in columns}
        if o["key"]:
            getters["record_id"] = _joined([_getter(path) for path in o["key"]])
        if o["deleted"]:
            is_deleted = _deleted(_getter(o["deleted"].get("path", "@removed")), o["deleted"].get("values"))
            getters["is_deleted"] = is_deleted
            if o["deleted"].get("id") and "record_id" in getters:
                named = [_getter(path) for path in o["deleted"]["id"]]
                getters["record_id"] = named_when_deleted(getters["record_id"], is_deleted, named)
        for number, rule in enumerate(self._quality):
            getters[f"@quality{number}"] = _getter(rule["path"])
        return list(getters.items())

    def _elements(self, page: Any, records: Any) -> Iterator[tuple[Any, tuple[Any, ...], str]]:
        """Every record, what is around it, innermost first, and why it is none."""
        o = self._options
        if records == [] and self.records_optional:
            return
        levels: list[tuple[Any, tuple[Any, ...], str]] = [(each, (page,), "") for each in self._laid_out(page, records)]
        said = _getter(self._options["errors"]) if self._options["errors"] else None
        for path in o["explode"]:
            inner = _getter(path)
            deeper: list[tuple[Any, tuple[Any, ...], str]] = []
            for item, parents, broken in levels:
                children = inner(item, parents) if isinstance(item, dict) else None
                if broken or not isinstance(children, list):
                    is_error = said is not None and isinstance(item, dict) and bool(said(item, parents))
                    if self.records_optional and isinstance(item, dict) and children is None and not (broken or is_error):
                        continue
                    deeper.append((item, parents, broken or ("SOURCE_ERROR" if is_error else "NO_ARRAY")))
                    continue
                if said is not None and not children and said(item, parents):
                    deeper.append((item, parents, "SOURCE_ERROR"))
                deeper.extend((child, (item, *parents), "") for child in self._named(page, children, (item, *parents)))
            levels = deeper
        yield from levels

    def _laid_out(self, page: Any, records: Any) -> list[Any]:
        layout = self._options["layout"]
        if layout == "records":
            if not isinstance(records, list):
                raise ValueError("no array of records")
            return records
        if layout == "keyed":
            if not isinstance(records, dict):
                raise ValueError("no object of records")
            return [{"@key": key, **value} if isinstance(value, dict) else value for key, value in records.items()]
        if layout == "rows":
            if not isinstance(records, list):
                raise ValueError("no array of rows")
            return records if self._options["explode"] and not _holds_rows(records) else self._named(page, records, (page,))
        arrays = records if isinstance(records, dict) else {}
        lengths = {len(each) for each in arrays.values() if isinstance(each, list)}
        if len(lengths) != 1 or not all(isinstance(each, list) for each in arrays.values()):
            raise ValueError("no object of arrays of one length")
        return [dict(zip(arrays, cells, strict=True)) for cells in zip(*arrays.values(), strict=True)]

    def _named(self, page: Any, rows: list[Any], parents: tuple[Any, ...]) -> list[Any]:
        """Rows of cells as objects, where the layout has such rows; what is no row of that length stays as it is."""
        if self._options["layout"] != "rows" or (self._options["explode"] and not _holds_rows(rows)):
            return rows
        names = self._column_names(page, parents)
        whole = [isinstance(row, list) and len(row) == len(names) for row in rows]
        return [dict(zip(names, row, strict=True)) if fits else row for row, fits in zip(rows, whole, strict=True)]

    def _column_names(self, page: Any, parents: tuple[Any, ...]) -> list[str]:
        given = self._options["columns"]
        named = _getter(given)(page, parents) if isinstance(given, str) else given
        if not isinstance(named, list):
            raise ValueError(f"no list of column names at {given!r}")  # noqa: TRY004 - the page is wrong, not the program
        return [str(each.get("name") if isinstance(each, dict) else each) for each in named]

    def _finish(self, rows: list[Any], errors: Errors) -> None:
        """Options that look at one column at a time, and the verdicts of quality."""
        o = self._options
        if o["null_tokens"]:
            _blank(rows, o["null_tokens"])
        for column, member in o["unwrap"].items():
            _each(rows, column, partial(_member, member))
        for column, words in o["maps"].items():
            _each(rows, column, partial(_said, words))
        for column, kind in o["types"].items():
            _convert(rows, column, kind)
        for column, (factor, summand) in o["linear"].items():
            _each(rows, column, partial(_scaled, factor, summand))
        for column, value in o["constants"].items():
            _fill(rows, column, value)
        if o["deleted"]:
            _finalize(rows, "revision" in self._fields)
        self._judge(rows, errors)

    def _judge(self, rows: list[Any], errors: Errors) -> None:
        for index, rule in enumerate(self._quality):
            column, key = rule["column"], f"@quality{index}"
            for number, row in enumerate(rows):
                verdict = row.pop(key, None)
                if row and _is_bad(verdict, rule["good"], rule["bad"]):
                    row[column] = None
                    said = f"{rule['reason']}_{_reason_word(verdict)}" if rule["named"] else rule["reason"]
                    errors.setdefault(column, {}).setdefault(number, said)


def shape_of(resource: Resource) -> Shape:
    """The shape of a resource's records. Raises SiteError for an option that cannot be."""
    key = msgspec.json.encode({k: v for k, v in resource.options.items() if k in SHAPE})
    return _shape(resource.name, tuple(sorted(resource.fields.items())), key)


@lru_cache(maxsize=64)
def _shape(name: str, fields: tuple[tuple[str, str], ...], options: bytes) -> Shape:
    return Shape(name, dict(fields), msgspec.json.decode(options))


def _holds_rows(elements: list[Any]) -> bool:
    return any(isinstance(each, list) for each in elements)


def _is_path(path: str) -> bool:
    return path.startswith("^") or "." in path


def _getter(path: str) -> Getter:
    """Reads a path of a record; a field that is literally named so goes first."""
    rest = path.lstrip("^")
    up, parts = len(path) - len(rest), rest.split(".")
    if not up and len(parts) == 1:
        return lambda item, _: item.get(rest) if isinstance(item, dict) else None

    def get(item: Any, parents: tuple[Any, ...]) -> Any:
        if up:
            item = parents[up - 1] if up <= len(parents) else None
        if isinstance(item, dict) and rest in item:
            return item[rest]
        for part in filter(None, parts):
            if isinstance(item, list) and part.isdigit() and int(part) < len(item):
                item = item[int(part)]
            else:
                item = item.get(part) if isinstance(item, dict) else None
        return item

    return get


def _joined(getters: list[Getter]) -> Getter:
    def get(item: Any, parents: tuple[Any, ...]) -> Any:
        values = [each(item, parents) for each in getters]
        return None if any(value is None or isinstance(value, (dict, list)) for value in values) else "|".join(map(str, values))

    return get


def _deleted(getter: Getter, values: list[Any] | None) -> Getter:
    if values is None:
        return lambda item, parents: getter(item, parents) not in (None, False)
    words = {_word(value) for value in values}
    return lambda item, parents: _word(getter(item, parents)) in words


def _word(value: Any) -> str:
    """A value as a key of TOML would write it: true, 1, text."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _is_bad(value: Any, good: list[Any] | None, bad: list[Any] | None) -> bool:
    word = _word(value)
    if bad is not None:
        return word in {_word(each) for each in bad}
    if good is not None:
        return word not in {_word(each) for each in good}
    return value not in (None, "")


def _reason_word(verdict: Any) -> str:
    """What a source calls a quality, in the letters of a reason and no longer than one.

    >>> _reason_word("Bad; drop table"), _reason_word(None), _reason_word(0)
    ('BAD_DROP_TABLE', 'UNSAID', '0')
    """
    word = "" if verdict is None or isinstance(verdict, (dict, list)) else _word(verdict)
    return re.sub(r"[^A-Z0-9]+", "_", word.upper(), flags=re.ASCII).strip("_")[:MOST_OF_A_WORD] or "UNSAID"


def _member(name: str, value: Any) -> Any:
    return value.get(name) if isinstance(value, dict) else value


def _said(words: Mapping[str, Any], value: Any) -> Any:
    return words.get(_word(value), value)


def _scaled(factor: float, summand: float, value: Any) -> Any:
    return value * factor + summand if type(value) in (int, float) else value


def _blank(rows: list[Any], null_tokens: list[Any]) -> None:
    tokens = {(type(token), token) for token in null_tokens}
    for row in rows:
        for column, value in row.items():
            if isinstance(value, (str, int, float)) and (type(value), value) in tokens:
                row[column] = None


def _fill(rows: list[Any], column: str, constant: Any) -> None:
    for row in rows:
        if row and row.get(column) is None:
            row[column] = constant


def _finalize(rows: list[Any], revisions: bool) -> None:
    """A deletion without revision wins over every revision there was."""
    for row in rows:
        if row.get("is_deleted") is True and row.get("revision") is None and (revisions or row.get("updated_at") is None):
            row["revision"] = FINAL


def _each(rows: list[Any], column: str, change: Callable[[Any], Any]) -> None:
    for row in rows:
        value = row.get(column)
        if value is not None:
            row[column] = change(value)


def _convert(rows: list[Any], column: str, kind: str) -> None:
    """Writes the column as JSON would have had it: numbers, or instants as ISO text. What does not fit stays and is refused."""
    if kind == "decimal":
        _each(rows, column, _number)
    elif kind == "decimal_comma":
        _each(
            rows, column, lambda value: _number(value.replace(".", "").replace(",", ".")) if isinstance(value, str) else value
        )
    elif kind == "odata_v2":
        _each(rows, column, _odata_v2)
        _epochs(rows, column, EPOCHS["epoch_ms"])
    elif kind in EPOCHS:
        _epochs(rows, column, EPOCHS[kind])
    else:
        _texts(rows, column, kind)


def _number(value: Any) -> Any:
    if not isinstance(value, str) or not _NUMBER.fullmatch(value):
        return value
    return int(value) if _WHOLE.fullmatch(value) else float(value)


def _comma_number(value: Any) -> Any:
    return _number(value.replace(".", "").replace(",", ".")) if isinstance(value, str) else value


def _odata_v2(value: Any) -> Any:
    match = _ODATA_V2.match(value) if isinstance(value, str) else None
    return int(match.group(1)) if match else value


def _epochs(rows: list[Any], column: str, microseconds: float) -> None:
    at, numbers = [], []
    for number, row in enumerate(rows):
        value = _number(row.get(column))
        if type(value) in (int, float) and abs(value * microseconds) < 2**62:
            at.append(number)
            whole = type(value) is int and microseconds >= 1.0
            numbers.append(value * int(microseconds) if whole else round(value * microseconds))
    texts = pl.Series(numbers, dtype=pl.Int64).cast(pl.Datetime("us", "UTC")).dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
    for number, text in zip(at, texts.to_list(), strict=True):
        rows[number][column] = text


def _texts(rows: list[Any], column: str, kind: str) -> None:
    at = [number for number, row in enumerate(rows) if isinstance(row.get(column), str)]
    said = pl.Series([rows[number][column] for number in at], dtype=pl.String)
    values: list[Any]
    if kind == "instant":
        values = said.str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False).cast(pl.Int64).to_list()
    elif re.search(r"%[#:]*z", kind):
        read = said.str.to_datetime(kind, time_unit="us", time_zone="UTC", strict=False)
        values = read.dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_list()
    else:
        values = said.str.to_datetime(kind, time_unit="us", strict=False).dt.strftime("%Y-%m-%dT%H:%M:%S%.6f").to_list()
    for number, value in zip(at, values, strict=True):
        if value is not None:
            rows[number][column] = value

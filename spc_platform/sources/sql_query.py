"""What is asked of a database for one resource, and the watermark as text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast
from zoneinfo import ZoneInfo

from spc_platform.errors import ContractError, SiteError
from spc_platform.site.model import Resource

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, FromClause, Select

Value = datetime | date | int | float | str | bytes | Decimal
OPTIONS: dict[str, Any] = {
    "query": "",
    "watermark": "",
    "key": [],
    "overlap": 0,
    "epochs": {},
    "settle_s": 0.0,
    "constants": {},
    "filter": {},
    "number_formats": {},
    "lists": {},
    "layout": "long",
    "id_columns": [],
}
_PLACE = re.compile(r"\{(\w[^{}]*)\}")
_KINDS: dict[str, type] = {"int": int, "float": float, "str": str, "dec": Decimal}


@dataclass(frozen=True)
class Query:
    """The statements of one resource. Values are bound; names are quoted by the dialect, never pasted."""

    table: FromClause
    columns: tuple[str, ...]
    watermark: str | None
    key: tuple[str, ...]
    shown: str
    overlap: int = 0
    """How far below a watermark that is a number rows are read again: one may become visible after a later one."""

    def rows(self, since: Value | None, until: Value | None) -> Select[Any]:
        """Rows from ``since`` (included) to ``until`` (excluded), in the order of watermark and key."""
        import sqlalchemy as sa

        chosen = [self._column(name) for name in self.columns]
        statement = sa.select(*chosen).select_from(self.table) if chosen else sa.select(sa.text("*")).select_from(self.table)
        if self.watermark is None:
            return statement
        mark = self._column(self.watermark)
        if since is not None:
            low = since - self.overlap if isinstance(since, (int, Decimal)) else since
            statement = statement.where(mark >= low)
        if until is not None:
            statement = statement.where(mark < until)
        return statement.order_by(mark, *(self._column(name) for name in self.key))

    def newest(self, before: Value | None) -> Select[Any]:
        """The largest watermark beyond one."""
        import sqlalchemy as sa

        if self.watermark is None:
            raise ContractError(f"{self.shown} has no watermark")
        mark = self._column(self.watermark)
        statement = sa.select(sa.func.max(mark)).select_from(self.table)
        return statement if before is None else statement.where(mark > before)

    def _column(self, name: str) -> ColumnElement[Any]:
        import sqlalchemy as sa

        return sa.column(name)


def query_of(source_id: str, resource: Resource) -> Query:
    """The query of a resource. Raises SiteError for options that are wrong."""
    import sqlalchemy as sa

    from spc_platform.sources.rest_config import checked

    options = checked(source_id, f"resources.{resource.name}.options", resource.options, OPTIONS)
    where = f"source {source_id!r}, resource {resource.name!r}"
    if resource.format != "arrow":
        raise SiteError(f'{where}: rows of a database are landed as Arrow; write format = "arrow"', code="SPC-443")
    if bool(options["query"]) == bool(resource.path):
        raise SiteError(f"{where}: name a view in path, or write options.query; one of them", code="SPC-443")
    if options["key"] and not options["watermark"]:
        raise SiteError(f"{where}: options.key orders rows of one watermark; name options.watermark too", code="SPC-443")
    if options["query"] and re.search(r";\s*\S", options["query"]):
        raise SiteError(f"{where}: options.query holds several statements; write one SELECT", code="SPC-443")
    if options["query"]:
        text = sa.text(options["query"].strip().rstrip(";"))
        table: FromClause = cast("FromClause", sa.text(f"({text.text}) source_rows"))
    else:
        schema, _, view = resource.path.rpartition(".")
        table = sa.table(view, schema=schema or None)
    return Query(
        table=table,
        columns=_columns(resource, options),
        watermark=options["watermark"] or None,
        key=tuple(options["key"]),
        shown=resource.path or f"query of {resource.name}",
        overlap=int(options["overlap"]),
    )


def _columns(resource: Resource, options: dict[str, Any]) -> tuple[str, ...]:
    """The columns that are read: those of the field map, the watermark and the key; all where nothing is mapped or wide."""
    if not resource.fields or options["layout"] != "long":
        return ()
    mapped = [name for source in resource.fields.values() for name in _PLACE.findall(source) or [source]]
    further = [options["watermark"], *options["key"], *options["filter"], *options["epochs"], *options["number_formats"]]
    return tuple(dict.fromkeys(name for name in [*mapped, *further] if name))


def earlier(value: Value | None, seconds: float) -> Value | None:
    """A time, or a text in ISO 8601, moved back by some seconds and written as it was; another watermark as it is.

    >>> earlier("2026-01-02 03:04:05", 60.0), earlier(17, 60.0)
    ('2026-01-02 03:03:05', 17)
    """
    if isinstance(value, datetime):
        return value - timedelta(seconds=seconds)
    at = _time_of(value)
    if at is None or not isinstance(value, str):
        return value
    fraction = len(value.partition(".")[2].rstrip("Zz").partition("+")[0])
    spec = "seconds" if fraction == 0 else "milliseconds" if fraction <= 3 else "microseconds"
    moved = (at - timedelta(seconds=seconds)).isoformat(sep=value[10], timespec=spec)
    return moved.replace("+00:00", "Z") if value.endswith("Z") else moved


def is_later(value: Value, at: datetime, zone: str | None) -> bool:
    """Whether a watermark is a time after an instant; one without a zone is local time in ``zone`` (UTC)."""
    said = _time_of(value)
    return said is not None and (said if said.tzinfo else said.replace(tzinfo=ZoneInfo(zone or "UTC"))) > at


def as_said(like: Value | None, at: datetime, zone: str | None) -> Value | None:
    """An instant as a column states times of which ``like`` is one; None when it holds no times."""
    said = _time_of(like)
    if said is None:
        return None
    local = at.astimezone(UTC if said.tzinfo else ZoneInfo(zone or "UTC"))
    local = local if said.tzinfo else local.replace(tzinfo=None)
    return earlier(like, (said - local).total_seconds()) if isinstance(like, str) else local


def _time_of(value: Value | None) -> datetime | None:
    if isinstance(value, datetime):
        return value
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) and len(value) > 10 else None
    except ValueError:
        return None


def watermark_text(value: Value | None) -> str | None:
    """A watermark as the ledger keeps it, ``kind:text``.

    >>> watermark_value(watermark_text(12)), watermark_text(datetime(2026, 1, 2, 3))
    (12, 'at:2026-01-02T03:00:00')
    """
    if value is None:
        return None
    if isinstance(value, datetime):
        return f"at:{value.isoformat()}"
    if isinstance(value, date):
        return f"on:{value.isoformat()}"
    if isinstance(value, bytes | bytearray | memoryview):
        return f"hex:{bytes(value).hex()}"
    kind = next((kind for kind, known in _KINDS.items() if type(value) is known), None)
    if kind is None:
        raise ContractError(
            f"a watermark of type {type(value).__name__} is none; use a time, a number or a row version", code="SPC-334"
        )
    return f"{kind}:{value}"


def watermark_value(text: str | None) -> Value | None:
    """The watermark of a text from ``watermark_text``. Raises ContractError for another text."""
    if text is None:
        return None
    kind, _, said = text.partition(":")
    try:
        if kind == "at":
            return datetime.fromisoformat(said)
        if kind == "on":
            return date.fromisoformat(said)
        if kind == "hex":
            return bytes.fromhex(said)
        value: Value = _KINDS[kind](said)
    except (KeyError, ValueError, ArithmeticError):
        raise ContractError(
            f"the ledger's watermark {text!r} is none of a database; was the row altered?", code="SPC-334"
        ) from None
    return value

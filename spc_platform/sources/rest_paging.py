"""Which page comes next: a cursor, a link, a number, the last record seen, or a slice of time.

A ``Pager`` makes requests of a window of time and, from what a page said, the request of the page behind it. It holds no
state of its own: what has to be remembered travels in the ``Request``.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import msgspec
from requests.utils import parse_header_links

from spc_platform.errors import PermanentError, SiteError
from spc_platform.sources.http import resolve_next
from spc_platform.sources.json_records import find, open_whole, shaped_records
from spc_platform.sources.json_shape import Shape

COUNTED = frozenset({"page", "offset", "keyset"})
"""Kinds that have to know how many records a page brought."""


@dataclass(frozen=True, slots=True)
class Window:
    """Records written in [since, until); None leaves a side open."""

    since: datetime | None = None
    until: datetime | None = None

    @property
    def seconds(self) -> float:
        return (self.until - self.since).total_seconds() if self.since and self.until else 0.0

    def halves(self) -> tuple[Window, Window]:
        """Both halves, the earlier first; only of a window that is closed on both sides."""
        since, until = self.since, self.until
        if since is None or until is None:
            raise ValueError("an open window has no halves")
        middle = since + (until - since) / 2
        return Window(since, middle), Window(middle, until)


@dataclass(frozen=True, slots=True)
class Request:
    """Which page to ask for, the source's own mark of it, and what the pager remembers."""

    url: str
    params: Mapping[str, Any] = field(default_factory=dict)
    position: str = ""
    method: str = "GET"
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    seen: int = 0
    mark: str = ""
    tail: str = ""
    """SHA-256 of the records of the page before, or the text of its last records."""

    def query(self) -> dict[str, str | list[str]] | None:
        """Parameters as a URL takes them, a list as repeated ones; those of a request with a body travel in it."""
        return None if self.body is not None or not self.params else _texts(self.params)

    def payload(self) -> bytes | None:
        """The body with the parameters at their dotted places; None when there is none."""
        if self.body is None:
            return None
        whole = copy.deepcopy(dict(self.body))
        for path, value in self.params.items():
            *outer, last = path.split(".")
            place = whole
            for part in outer:
                place = place.setdefault(part, {})
            place[last] = value
        return json.dumps(whole).encode()

    def shown(self) -> str:
        query = urlencode(_texts(self.params), doseq=True)
        return f"{self.method} {self.url}" + (f"?{query}" if query else "")


@dataclass(slots=True)
class Facts:
    """What an answer says of the pages behind it."""

    document: Any
    headers: Mapping[str, str]
    records: Any
    body: bytes
    shape: Shape

    def at(self, path: str) -> Any:
        """What the page says at a path; None when nothing."""
        found = find(self.document, path)
        return msgspec.json.decode(found) if isinstance(found, msgspec.Raw) else found

    def texts(self) -> list[str]:
        """The text of each record, in order."""
        records = self.records
        if isinstance(records, msgspec.Raw):
            head = bytes(memoryview(records)[:1])
            shelf: Any = dict[str, msgspec.Raw] if head == b"{" else list[msgspec.Raw]
            try:
                split = msgspec.json.decode(records, type=shelf)
            except (msgspec.DecodeError, UnicodeDecodeError):
                split = open_whole(bytes(records))
            values = split.values() if isinstance(split, dict) else split
        else:
            values = records.values() if isinstance(records, dict) else records or []
        return [
            bytes(each).decode("utf-8", "replace") if isinstance(each, msgspec.Raw) else json.dumps(each) for each in values
        ]

    def counts(self, path: str) -> tuple[int, int]:
        """(records, most records under one parent) of the page."""
        if self.shape.is_plain:
            count = len(self.texts())
            return count, count
        page = open_whole(self.body)
        return self.shape.counts(page, shaped_records(page, path, self.shape))


class ShiftedError(PermanentError):
    """Records moved while they were counted off: a page does not go on where the one before ended."""

    code = "SPC-236"


class Pager:
    """The requests of one resource, by the keys of ``rest_config.PAGINATION``."""

    def __init__(self, name: str, base_url: str, path: str, records: str, options: Mapping[str, Any], given: Request) -> None:
        self._name, self._base_url, self._records = name, base_url, records
        self.options, self._given = options, given
        self._url = f"{base_url}/{path.lstrip('/')}"
        self.kind = options["within"] if options["kind"] == "time_slice" else options["kind"]
        self._zone = ZoneInfo(options["time_zone"])
        if options["params_in"] == "body" and options["method"] == "GET":
            raise SiteError(f"{name}: pagination.params_in = 'body' needs pagination.method = 'POST'", code="SPC-432")
        if self.kind == "keyset" and not options["mark"]:
            raise SiteError(
                f"{name}: pagination.kind = 'keyset' needs pagination.mark, the field by which pages go on", code="SPC-432"
            )
        if options["kind"] == "time_slice" and not (options["since_param"] and options["slice_s"] > 0):
            raise SiteError(f"{name}: pagination.kind = 'time_slice' needs since_param and slice_s above 0", code="SPC-432")

    def windows(self, since: datetime | None, now: datetime) -> Iterator[Window]:
        """The windows of a walk: one open one, or slices of time up to ``now`` less ``settle_s``."""
        o, until = self.options, now - timedelta(seconds=self.options["settle_s"])
        if o["kind"] != "time_slice":
            yield Window(since, until if o["until_param"] else None)
            return
        at = since or self._begin()
        while at < until:
            end = min(at + timedelta(seconds=o["slice_s"]), until)
            yield Window(at, end)
            at = end

    def _begin(self) -> datetime:
        try:
            at = datetime.fromisoformat(self.options["start"])
        except ValueError:
            at = None
        if at is None or at.tzinfo is None:
            raise SiteError(
                f"{self._name}: pagination.start = {self.options['start']!r} is no instant with a zone; write when the first"
                " slice begins, e.g. 2026-01-01T00:00:00Z",
                code="SPC-433",
            )
        return at.astimezone(UTC)

    def first(self, window: Window, size: int) -> Request:
        """The first request of a window."""
        o, params = self.options, dict(self._given.params)
        if o["limit_param"]:
            params[o["limit_param"]] = int(size)
        self._bound(params, window)
        if self.kind == "page":
            params[o["page_param"]] = int(o["first_page"])
        if self.kind == "offset":
            params[o["offset_param"]] = 0
        body = self._given.body if o["method"] == "POST" else None
        sent = replace(self._given, url=self._url, params=params, method=o["method"], body=body)
        if sent.body is not None and o["params_in"] == "query":
            raise SiteError(f"{self._name}: a body is sent, so pagination.params_in must be 'body'", code="SPC-432")
        return sent

    def _bound(self, params: dict[str, Any], window: Window) -> None:
        o = self.options
        said = {"{since}": self._said(window.since), "{until}": self._said(window.until)}
        for name, template, at in (
            (o["since_param"], o["since_template"], window.since),
            (o["until_param"], o["until_template"], window.until),
        ):
            if name and at is not None:
                number = said.get(template)
                params[name] = number if isinstance(number, (int, float)) else _filled(template, said)

    def _said(self, at: datetime | None) -> Any:
        if at is None:
            return ""
        form, local = self.options["time_format"], at.astimezone(self._zone)
        if form in ("epoch_s", "epoch_ms"):
            microseconds = (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
            return microseconds // 1_000_000 if form == "epoch_s" else microseconds // 1_000
        if form.startswith("iso"):
            spec = {"iso": "microseconds", "iso_ms": "milliseconds", "iso_s": "seconds"}.get(form)
            if spec is not None:
                return local.isoformat(timespec=spec).replace("+00:00", "Z")
        if "%" not in form:
            raise SiteError(
                f"{self._name}: pagination.time_format = {form!r} is not known; iso, iso_ms, iso_s, epoch_s, epoch_ms or a"
                " pattern with %",
                code="SPC-433",
            )
        return local.strftime(form)

    @property
    def step(self) -> timedelta:
        """The smallest difference of two instants that requests can express."""
        form = self.options["time_format"]
        if form in ("epoch_s", "iso_s"):
            return timedelta(seconds=1)
        return timedelta(milliseconds=1) if form in ("epoch_ms", "iso_ms") else timedelta(microseconds=1)

    def following(self, first: Request, current: Request, facts: Facts) -> Request | None:
        """The request of the next page; None behind the last one.

        Raises PermanentError for a mark that is none, a link that leads elsewhere, pages that repeat themselves.
        """
        o = self.options
        if self.kind == "none":
            return None
        if self.kind in COUNTED:
            return self._counted(first, current, facts)
        if self.kind == "cursor":
            mark = self._mark(facts, o["next"] or "next_cursor")
            if mark is None:
                return None
            kept = {} if o["cursor_alone"] else first.params
            return replace(first, params={**kept, o["cursor_param"]: mark}, position=str(mark))
        if self.kind == "link_header":
            links = parse_header_links(facts.headers.get("link", ""))
            link = next((str(each["url"]) for each in links if each.get("rel", "").lower() == "next"), None)
        else:
            said = self._mark(facts, o["next"] or ("@odata.nextLink" if self.kind == "odata" else "next"))
            link = None if said is None else str(said)
        if link is None:
            return None
        url = resolve_next(self._base_url, current.url, link, o["allow_origins"])
        return replace(first, url=url, params={}, position=url)

    def _mark(self, facts: Facts, path: str) -> str | int | None:
        mark = facts.headers.get(path.lower()) if self.options["next_in"] == "header" else facts.at(path)
        has_more = facts.at(self.options["has_more"]) if self.options["has_more"] else True
        if mark is None or mark == "" or not has_more:
            return None
        if isinstance(mark, bool) or not isinstance(mark, (str, int)):
            raise PermanentError(f"{self._name}: the mark of the next page is no text: {type(mark).__name__}")
        return mark

    def _counted(self, first: Request, current: Request, facts: Facts) -> Request | None:
        """Pages by number, by offset, or behind the last record seen."""
        o = self.options
        texts = facts.texts()
        count, _ = facts.counts(self._records)
        fresh = count - (o["overlap_rows"] if current.tail and self.kind == "offset" else 0)
        if self.kind == "offset" and o["overlap_rows"]:
            self._check_overlap(current, texts)
        elif texts and _digest(texts) == current.tail and (self.kind != "keyset" or current.seen):
            raise PermanentError(
                f"{self._name}: pagination loop, a page came again although another was asked for; the source may not know"
                f" the parameter {o['page_param' if self.kind == 'page' else 'offset_param']!r}. The watermark stays",
                code="SPC-206",
            )
        if fresh <= 0 or self._is_last(current, facts, count, fresh):
            return None
        seen = current.seen + fresh
        overlapped = self.kind == "offset" and o["overlap_rows"]
        tail = "\n".join(texts[-o["overlap_rows"] :]) if overlapped else _digest(texts)
        if self.kind == "page":
            number = int(current.params[o["page_param"]]) + 1
            return replace(
                current, params={**first.params, o["page_param"]: number}, position=str(number), seen=seen, tail=tail
            )
        if self.kind == "offset":
            at = max(0, seen - o["overlap_rows"])
            return replace(current, params={**first.params, o["offset_param"]: at}, position=str(at), seen=seen, tail=tail)
        return self._behind(first, current, texts, tail)

    def _is_last(self, current: Request, facts: Facts, count: int, fresh: int) -> bool:
        o = self.options
        if o["has_more"]:
            return not facts.at(o["has_more"])
        if o["total"]:
            total = facts.at(o["total"])
            if isinstance(total, int):
                return current.seen + fresh >= total
        size = current.params.get(o["limit_param"]) if o["limit_param"] else o["page_size"]
        return o["stop"] == "short" and isinstance(size, int) and count < size

    def _check_overlap(self, current: Request, texts: list[str]) -> None:
        if current.tail and "\n".join(texts[: self.options["overlap_rows"]]) != current.tail:
            raise ShiftedError(
                f"{self._name}: records moved while they were counted off, so that some would have been missed; use keyset"
                " pagination by the time of the last change, or ask for what changed before a fixed instant (until_param)"
            )

    def _behind(self, first: Request, current: Request, texts: list[str], tail: str) -> Request:
        """The page that begins with the last record seen; an offset only among records with the same mark."""
        o = self.options
        last = find(open_whole(texts[-1].encode()), o["mark"])
        if isinstance(last, (dict, list, bool)) or last is None:
            raise PermanentError(
                f"{self._name}: the last record of a page has no {o['mark']!r} to go on by; correct pagination.mark",
                code="SPC-235",
            )
        mark = str(last)
        same = mark == current.mark
        offset = current.seen + len(texts) if same else 0
        params = {**first.params, o["since_param"]: _filled(o["since_template"], {"{since}": mark})}
        if offset:
            params[o["offset_param"]] = offset
        return replace(current, params=params, position=f"{mark}+{offset}", seen=offset, mark=mark, tail=tail)


def _texts(params: Mapping[str, Any]) -> dict[str, str | list[str]]:
    return {name: [*map(str, value)] if isinstance(value, list) else str(value) for name, value in params.items()}


def _filled(template: str, said: Mapping[str, Any]) -> str:
    for name, value in said.items():
        template = template.replace(name, str(value))
    return template


def _digest(texts: list[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()

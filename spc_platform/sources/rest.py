"""Records over HTTP: pages pulled one at a time, each whole, each from the configured source and no other.

The keys of a ``rest`` source are those of ``rest_config``.
Delivery is at least once: a page may come twice, and ``overlap_s`` asks again for what was read before.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Self

import msgspec
import polars as pl
import pybreaker

from spc_platform.errors import ContractError, PermanentError, SiteError, TransientError
from spc_platform.settings import Settings
from spc_platform.site.files import did_you_mean
from spc_platform.site.model import Resource
from spc_platform.site.model import Source as SourceConfig
from spc_platform.sources.base import Page
from spc_platform.sources.clock import date_exchange
from spc_platform.sources.decode import decode
from spc_platform.sources.figures import timed_request
from spc_platform.sources.http import Answer, Bounds, Transport, origin, redact, resolve_next
from spc_platform.sources.json_records import find, open_page, shaped_records
from spc_platform.sources.json_shape import SHAPE, shape_of
from spc_platform.sources.resilience import (
    STATE_FILE,
    Backoff,
    Deadline,
    Pace,
    RetriableError,
    StateFile,
    circuit_breaker,
    retry_after_seconds,
    retrying,
)
from spc_platform.sources.rest_access import check_base_url, client_certificate, source_auth
from spc_platform.sources.rest_config import AUTH, CHOICES, LIMITS, PAGINATION, RESOURCE, checked, checked_headers
from spc_platform.sources.rest_paging import Facts, Pager, Request, ShiftedError, Window
from spc_platform.sources.rest_times import credible_until, http_date, instant, iso

logger = logging.getLogger(__name__)

RETRIED_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
MAX_SHIFTS = 5
"""How often a walk starts again because records moved while they were counted off."""


class CursorExpiredError(PermanentError):
    """The source forgot the cursor of a walk in progress: 410, or what ``pagination.expired_status`` lists."""

    code = "SPC-207"


class _Count(msgspec.Struct):
    """How many records lie on a date."""

    date: date
    count: int


class _CutOffError(Exception):
    """An answer is as long as answers may be."""


class RestSource:
    """A source that answers requests with pages of JSON records."""

    def __init__(self, config: SourceConfig, settings: Settings) -> None:
        self.config = config
        name = config.source_id
        self._auth_options = checked(name, "auth", config.auth, AUTH, CHOICES)
        self._pagination = checked(name, "pagination", config.pagination, PAGINATION, CHOICES)
        self._limits = limits = checked(name, "limits", config.limits, LIMITS)
        self.base_url = settings.source_url.get(name, config.base_url).rstrip("/")
        check_base_url(name, self.base_url, self._auth_options)
        ca_file = self._auth_options["ca_file"]
        if ca_file and not Path(ca_file).is_file():
            raise SiteError(f"source {name!r}: auth.ca_file {ca_file!r} is not a file; give the path of the plant's CA bundle")
        self._pagers = {resource.name: self._pager(resource) for resource in config.resources}
        bounds = Bounds(limits["connect_s"], limits["read_s"], int(limits["max_page_bytes"]), limits["max_ratio"])
        self._transport = Transport(bounds, ca_file=ca_file or None, cert=client_certificate(name, self._auth_options))
        self._auth = source_auth(name, self.base_url, self._auth_options, self._transport, settings)
        scheme, host, port = origin(self.base_url)
        state = StateFile(settings.data / STATE_FILE)
        self._target = f"{name} at {scheme}://{host}:{port}"
        failures = max(1, int(limits["breaker_failures"]))
        self._breaker = circuit_breaker(state, self._target, failures, limits["breaker_reset_s"], name)
        self._pace = Pace(state, self._target, limits["requests_per_s"])

    def __repr__(self) -> str:
        return f"RestSource({self._target})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes idle connections."""
        self._transport.close()

    def walk(self, resource: Resource, watermark: str | None) -> Iterator[Page]:
        """Pages of all records written since ``watermark`` (an ISO instant) less ``resource.overlap_s``, one at a time.

        Raises TransientError when the deadline of a page passed, its attempts are used up or the breaker
        is open; PermanentError for refused credentials, a next link to elsewhere or a pagination that
        repeats itself. A walk whose cursor expired starts again once.
        """
        windows = self._windows(resource, watermark)
        left = [int(self._limits["max_pages"])]
        for window in windows:
            yield from self._walk_window(resource, window, left)

    def counts(self, resource: Resource, first: date, last: date) -> dict[date, int] | None:
        """Records in force per production date, asked of ``options.counts_path`` with ``first`` and ``last``; None without one.

        The answer has objects with ``date`` and ``count`` where the resource has its records. Raises ContractError for an
        answer of another form, and what ``walk`` raises.
        """
        path = resource.options.get("counts_path", "")
        if not path:
            return None
        params = {"first": first.isoformat(), "last": last.isoformat()}
        answer, _ = self._fetch(resource, Request(f"{self.base_url}/{path.lstrip('/')}", params))
        try:
            rows = msgspec.convert(find(msgspec.json.decode(answer.body), resource.records), list[_Count])
        except msgspec.ValidationError as error:
            raise ContractError(
                f"{self._target}, resource {resource.name!r}: counts_path gave no counts per date ({error}); correct"
                " options.counts_path, or leave it out: the records are then read again",
                code="SPC-674",
            ) from None
        return {row.date: row.count for row in rows}

    def _windows(self, resource: Resource, watermark: str | None) -> Iterator[Window]:
        since = instant(watermark)
        if since is not None:
            since -= timedelta(seconds=resource.overlap_s)
        return self._pagers[resource.name].windows(since, datetime.now(UTC))

    def _walk_window(self, resource: Resource, window: Window, left: list[int]) -> Iterator[Page]:
        pager = self._pagers[resource.name]
        stack = [window]
        while stack:
            within = stack.pop()
            try:
                yield from self._pages(resource, pager.first(within, self._page_size(resource)), left, within)
            except _CutOffError:
                earlier, later = within.halves()
                stack += [later, earlier]

    def _pages(self, resource: Resource, first: Request, left: list[int], window: Window) -> Iterator[Page]:
        """The pages behind ``first``; ``left`` counts down ``max_pages`` over all windows of a walk."""
        pager, request = self._pagers[resource.name], first
        landmark, steps, power, again = "", 0, 1, 0
        while True:
            if left[0] <= 0:
                raise self._loop(resource, f"no end after limits.max_pages = {self._limits['max_pages']} pages")
            left[0] -= 1
            try:
                answer, facts = self._fetch(resource, request)
                self._refuse_cut_off(resource, window, facts)
                yield self._page(resource, request, answer, facts.document)
                del answer
                self._seen(resource, facts)
                following = pager.following(first, request, facts)
                del facts
            except (CursorExpiredError, ShiftedError) as error:
                again += 1
                if again > (1 if isinstance(error, CursorExpiredError) else MAX_SHIFTS):
                    raise
                logger.warning("%s: walk over %s starts again: %s", self._target, resource.name, error)
                request, landmark, steps, power = first, "", 0, 1
                continue
            if following is None:
                return
            request = following
            # Brent's cycle detection: any cycle is found with one remembered mark, however long the walk.
            if request.position in (landmark, first.position):
                raise self._loop(resource, f"{request.position[:80]!r} came back")
            steps += 1
            if steps == power:
                landmark, steps, power = request.position, 0, power * 2

    def _seen(self, resource: Resource, facts: Facts) -> None:
        """A page was taken; sources that are told where to go on from look for it here."""

    def _refuse_cut_off(self, resource: Resource, window: Window, facts: Facts) -> None:
        """Raises _CutOffError for an answer to a slice of time that is as long as an answer may be: there may be more."""
        pager = self._pagers[resource.name]
        options = pager.options
        if options["kind"] != "time_slice" or pager.kind != "none" or not options["limit_param"]:
            return
        _, most = facts.counts(resource.records)
        if most < options["page_size"]:
            return
        if window.seconds <= 2 * options["smallest_slice_s"]:
            raise PermanentError(
                f"{self._target}, resource {resource.name!r}: {most} records within {window.seconds:g} s from {window.since}"
                " are as many as one answer may have, so some may be missing; raise pagination.page_size or lower"
                " pagination.smallest_slice_s. The watermark stays",
                code="SPC-234",
            )
        raise _CutOffError

    def has_news(self, resource: Resource, watermark: str | None) -> str | None:
        """The instant of a change later than ``watermark``, or None. One short request, no retries.

        Sees what the source orders first after the watermark: the token changes when that is landed.
        Records that a source shows late, below the watermark, are found by the overlap of the next walk.
        Raises TransientError when the source is away, PermanentError as ``walk`` does.
        """
        since = instant(watermark)
        request = self._probe(resource, since)
        deadline = Deadline(self._limits["news_timeout_s"])
        answer, _ = self._guarded(resource, request, deadline, [])
        seen = decode(resource, resource.tables[0], answer.body)
        credible_until = self._credible_until(open_page(answer.body))
        if credible_until is not None:
            seen = seen.filter((pl.col("updated_at") <= credible_until) | pl.col("updated_at").is_null())
        if since is None and seen.height and seen["updated_at"].null_count() == seen.height:
            return f"unmarked:{hashlib.sha256(answer.body).hexdigest()[:12]}"
        newest = seen["updated_at"].max()
        if not isinstance(newest, datetime) or (since is not None and newest <= since):
            return None
        return iso(newest)

    def _pager(self, resource: Resource) -> Pager:
        """The pager of a resource. Raises SiteError for a wrong option of the resource."""
        name = self.config.source_id
        allowed = {**RESOURCE, **SHAPE}
        options = {**allowed, **resource.options}
        given = {key: value for key, value in resource.options.items() if key not in SHAPE}
        for key in set(given) - set(allowed):
            raise SiteError(
                f"source {name!r}: unknown key resources.{resource.name}.options.{key}; {did_you_mean(key, allowed)}"
            )
        section = f"resources.{resource.name}.options"
        checked(name, section, given, RESOURCE, {f"{section}.order": ("revision", "delivery")})
        shape_of(resource)
        pagination = checked(name, "pagination", {**self._pagination, **options["pagination"]}, PAGINATION, CHOICES)
        if options["since_param"] or "since_param" in resource.options:
            pagination["since_param"] = options["since_param"]
        headers = checked_headers(name, {**pagination["headers"], **options["headers"]})
        posts = options["body"] or pagination["params_in"] == "body"
        sent = Request("", params=options["params"], body=options["body"] if posts else None, headers=headers)
        where = f"source {name!r}, resource {resource.name!r}"
        return Pager(where, self.base_url, resource.path or resource.name, resource.records, pagination, sent)

    def _page_size(self, resource: Resource) -> int:
        return int(self._pagers[resource.name].options["page_size"])

    def _probe(self, resource: Resource, since: datetime | None) -> Request:
        """The request for what is newer: past the watermark, else records of that very instant would hide later ones."""
        pager = self._pagers[resource.name]
        now = datetime.now(UTC)
        windows = list(islice(pager.windows(None if since is None else since + pager.step, now), 1))
        window = windows[0] if windows else Window(since, now)
        if pager.options["kind"] == "time_slice":
            window = Window(window.since, now)
        return pager.first(window, int(self._limits["news_limit"]))

    def _page(self, resource: Resource, request: Request, answer: Answer, document: Any) -> Page:
        return Page(
            source_id=self.config.source_id,
            resource=resource.name,
            body=answer.body,
            origin=redact(request.shown(), self._auth.secrets()),
            position=redact(request.position, self._auth.secrets()),
            received_at=datetime.now(UTC),
            credible_until=self._credible_until(document),
            clock=date_exchange(self.config.source_id, answer),
        )

    def _credible_until(self, document: Any) -> datetime | None:
        path = self._pagination["server_time"]
        return credible_until(find(document, path), self._limits["future_s"]) if path else None

    def _loop(self, resource: Resource, what: str) -> PermanentError:
        return PermanentError(
            f"{self._target}, resource {resource.name!r}: pagination loop, {redact(what, self._auth.secrets())}; the walk was"
            " given up and the watermark stays. Ask the owner of the source, or raise limits.max_pages",
            code="SPC-206",
        )

    def _fetch(self, resource: Resource, request: Request) -> tuple[Answer, Facts]:
        """A whole page and what it says of the next one, with retries."""
        limits, renewed = self._limits, [False]
        deadline = Deadline(limits["deadline_s"])
        backoff = Backoff(deadline, limits["backoff_s"], limits["backoff_max_s"], limits["retry_after_max_s"])
        result: tuple[Answer, Facts] | None = None
        try:
            for attempt in retrying(backoff, 1 + int(limits["retries"])):
                with attempt:
                    result = self._guarded(resource, request, deadline, renewed)
        except RetriableError as error:
            spent = f"gave up after {backoff.failures} attempts in {deadline.seconds - deadline.remaining:.1f} s"
            raise TransientError(f"{self._target}, resource {resource.name!r}: {spent}; last: {error}") from None
        if result is None:
            raise TransientError(f"{self._target}, resource {resource.name!r}: no attempt was made")
        return result

    def _guarded(self, resource: Resource, request: Request, deadline: Deadline, renewed: list[bool]) -> tuple[Answer, Facts]:
        """One attempt through the breaker. Raises TransientError while it is open."""
        try:
            result: tuple[Answer, Facts] = self._breaker.call(self._attempt, resource, request, deadline, renewed)
        except pybreaker.CircuitBreakerError:
            raise TransientError(
                f"{self._target}: circuit breaker open after {self._breaker.fail_max} failures in a row; a trial is made"
                f" {self._breaker.reset_timeout:g} s after the last one. Check that the source runs and is reachable",
                code="SPC-102",
            ) from None
        return result

    def _attempt(self, resource: Resource, request: Request, deadline: Deadline, renewed: list[bool]) -> tuple[Answer, Facts]:
        within = deadline.sooner(self._limits["timeout_s"])
        answer = self._get(request, within)
        if (
            (answer.status == 401 or (answer.status == 200 and answer.looks_like_html))
            and not any(renewed)
            and self._auth.renew()
        ):
            renewed.append(True)
            logger.info("%s: credential not accepted (status %d), renewed once", self._target, answer.status)
            answer = self._get(request, within)
        self._judge(resource, request, answer)
        return answer, self._facts(resource, request, answer)

    def _get(self, request: Request, deadline: Deadline) -> Answer:
        """The answer to a request, behind at most ``limits.redirects`` redirects within the source."""
        url, params, method, body = request.url, request.query(), request.method, request.payload()
        headers = {**request.headers, **({"Content-Type": "application/json"} if body is not None else {})}
        for _ in range(int(self._limits["redirects"]) + 1):
            self._auth.ready(deadline)
            self._pace.wait(deadline)
            # Another origin, where the site allows it, gets neither credentials nor constant headers.
            is_own = origin(url) == origin(self.base_url)
            with timed_request():
                answer = self._transport.send(
                    method,
                    url,
                    deadline,
                    params=params,
                    body=body,
                    headers=headers if is_own else None,
                    auth=self._auth if is_own else None,
                    secrets=self._auth.secrets(),
                )
            location = answer.headers.get("location")
            if not (300 <= answer.status < 400 and location and self._limits["redirects"]):
                return answer
            url, params = resolve_next(self.base_url, url, location, self._pagination["allow_origins"]), None
            if answer.status == 303:
                method, body = "GET", None
        return answer

    def _judge(self, resource: Resource, request: Request, answer: Answer) -> None:
        """Raises for any status but 200 and 207 (of which each part says its own), by whether trying again can help."""
        status = answer.status
        where = redact(request.shown(), self._auth.secrets())
        if status in (200, 207):
            return
        if status in RETRIED_STATUS:
            now = http_date(answer.headers.get("date")) or datetime.now(UTC)
            raise RetriableError(
                f"{where}: status {status}", retry_after=retry_after_seconds(answer.headers.get("retry-after"), now)
            )
        if status in self._pagers[resource.name].options["expired_status"] and request.position:
            raise CursorExpiredError(
                f"{where}: status {status}, the cursor expired again after a new start; shorten the walk or ask the owner"
                " of the source"
            )
        remedy = {
            401: "the credential was refused twice; check the variables that auth names",
            403: "permission is missing; ask the owner of the source for read access",
            404: "nothing there; check base_url and the resource's path",
            422: "the source does not understand the query; check pagination and the resource's params",
        }.get(status, "redirects are not followed; correct base_url" if 300 <= status < 400 else "trying again cannot help")
        raise PermanentError(f"{where}: status {status}, {remedy}", code="SPC-205" if status in (401, 403) else "SPC-200")

    def _facts(self, resource: Resource, request: Request, answer: Answer) -> Facts:
        """What a page says of itself. Raises RetriableError when the body is not a whole page."""
        try:
            document = open_page(answer.body)
            shape = shape_of(resource)
            records = shape.records(shaped_records(document, resource.records, shape))
        except ValueError as error:
            where = redact(request.shown(), self._auth.secrets())
            if "nested too deeply" in str(error):
                raise PermanentError(
                    f"{where}: the answer nests arrays or objects deeper than this platform reads (about 1000 levels)",
                    code="SPC-237",
                ) from None
            reason = f"{error.msg} at character {error.pos}" if isinstance(error, json.JSONDecodeError) else str(error)
            if answer.looks_like_html:
                reason = "HTML where JSON was expected (a login or error page)"
            start = redact(answer.body[:400].decode("utf-8", "replace"), self._auth.secrets())[:200]
            raise RetriableError(
                f"{where}: not a page: {reason} at {resource.records!r};"
                f" {len(answer.body)} bytes, sha256 {hashlib.sha256(answer.body).hexdigest()}, begins {start!r}"
            ) from None
        return Facts(document, answer.headers, records, answer.body, shape)

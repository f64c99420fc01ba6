"""OData delta links: each walk ends with a link to what changes from then on, and the next one begins with it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from spc_platform.errors import PermanentError
from spc_platform.settings import Settings
from spc_platform.site.model import Resource
from spc_platform.site.model import Source as SourceConfig
from spc_platform.sources.base import Page
from spc_platform.sources.http import resolve_next
from spc_platform.sources.resilience import Deadline
from spc_platform.sources.rest import CursorExpiredError, RestSource
from spc_platform.sources.rest_paging import Facts, Request, Window

PREFIX = "delta:"


class DeltaSource(RestSource):
    """A ``rest`` source with ``pagination.delta``: its watermark is the service's own delta link.

    The first walk reads everything; a link that the service has forgotten (410) does so again.
    """

    def __init__(self, config: SourceConfig, settings: Settings) -> None:
        super().__init__(config, settings)
        self._links: dict[str, str | None] = {}

    def walk(self, resource: Resource, watermark: str | None) -> Iterator[Page]:
        """Pages of what changed since the delta link; see ``RestSource.walk``."""
        self._links[resource.name] = None
        left = [int(self._limits["max_pages"])]
        link = self._from(resource, watermark)
        if link is not None:
            try:
                yield from self._pages(resource, link, left, Window())
            except CursorExpiredError:
                self._links[resource.name] = None
            else:
                return
        yield from super().walk(resource, None)

    def has_news(self, resource: Resource, watermark: str | None) -> str | None:
        """A digest of what the delta link shows now; None when nothing. One short request, no retries."""
        link = self._from(resource, watermark)
        if link is None:
            return super().has_news(resource, None)
        answer, facts = self._guarded(resource, link, Deadline(self._limits["news_timeout_s"]), [])
        changed, _ = facts.counts(resource.records)
        return hashlib.sha256(answer.body).hexdigest()[:16] if changed else None

    def next_watermark(self, resource: Resource) -> str | None:
        """The delta link with which the last walk ended; None leaves the watermark."""
        link = self._links.get(resource.name)
        return f"{PREFIX}{link}" if link else None

    def _from(self, resource: Resource, watermark: str | None) -> Request | None:
        if watermark is None or not watermark.startswith(PREFIX):
            return None
        url = resolve_next(self.base_url, self.base_url + "/", watermark.removeprefix(PREFIX))
        first = self._pagers[resource.name].first(Window(), self._page_size(resource))
        return Request(url, position=url, headers=first.headers)

    def _seen(self, resource: Resource, facts: Facts) -> None:
        said = facts.at("@odata.deltaLink")
        if said is None:
            return
        if not isinstance(said, str):
            raise PermanentError(f"{self._target}, resource {resource.name!r}: the delta link is no text", code="SPC-238")
        self._links[resource.name] = resolve_next(self.base_url, self.base_url + "/", said)

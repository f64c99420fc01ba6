"""One module per protocol behind one small Source protocol: what a source said, page by page, unchanged."""

from __future__ import annotations

from spc_platform.errors import SiteError
from spc_platform.settings import Settings
from spc_platform.site.model import COLLECTED
from spc_platform.site.model import Source as SourceConfig
from spc_platform.sources.base import Source


def open_source(config: SourceConfig, settings: Settings) -> Source:
    """The source that a site folder describes. Raises SiteError for a kind or key that is not known."""
    if config.kind == "rest" and config.pagination.get("delta") is True:
        from spc_platform.sources.rest_delta import DeltaSource

        return DeltaSource(config, settings)
    if config.kind == "rest":
        from spc_platform.sources.rest import RestSource

        return RestSource(config, settings)
    if config.kind == "files":
        from spc_platform.sources.files import FileSource

        return FileSource(config, settings)
    if config.kind == "sql":
        from spc_platform.sources.sql import SqlSource

        return SqlSource(config, settings)
    if config.kind in COLLECTED:
        from spc_platform.sources.spooled import SpooledSource

        return SpooledSource(config, settings)
    raise SiteError(
        f"source {config.source_id!r}: unknown kind {config.kind!r}; known: rest, files, sql, {', '.join(COLLECTED)}"
    )

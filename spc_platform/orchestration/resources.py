"""Resources: the plant's workspace, configurable in the UI and overridable in tests."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import dagster as dg

from spc_platform.engine import Workspace
from spc_platform.settings import Settings


@lru_cache(maxsize=8)
def _open(settings_json: str) -> Workspace:
    return Workspace.open(Settings.model_validate_json(settings_json))


class WorkspaceResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Where the plant's site folder and data are. Secrets stay in the environment and never enter run config."""

    site: str
    data: str
    shared_data: str
    source_url: dict[str, str]
    source_root: dict[str, str]

    @classmethod
    def of(cls, settings: Settings) -> WorkspaceResource:
        return cls(
            site=str(settings.site),
            data=str(settings.data),
            shared_data=str(settings.shared_data),
            source_url=settings.source_url,
            source_root=settings.source_root,
        )

    def settings(self) -> Settings:
        return Settings(
            site=Path(self.site),
            data=Path(self.data),
            shared_data=Path(self.shared_data),
            source_url=self.source_url,
            source_root=self.source_root,
        )

    def open(self) -> Workspace:
        """The workspace; opened once per process and configuration."""
        return _open(self.settings().model_dump_json(exclude={"mes_client_secret"}))

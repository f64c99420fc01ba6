"""Where things are and how much of the machine may be used: read once from SPC_* variables."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

REPOSITORY = Path(__file__).resolve().parent.parent


class Settings(BaseSettings):
    """One frozen object, passed down; nothing else reads the environment."""

    model_config = SettingsConfigDict(env_prefix="SPC_", frozen=True, extra="ignore")

    site: Annotated[Path, Field(description="Site folder.")] = REPOSITORY / "data" / "site"
    data: Annotated[Path, Field(description="Where the lake, the ledger and the serving copies live.")] = REPOSITORY / "data"
    shared_data: Annotated[Path, Field(description="Folder of external data sets (NIST).")] = (
        REPOSITORY.parent / "shared" / "data"
    )
    dbt: Annotated[Path, Field(description="dbt project.")] = REPOSITORY / "dbt"
    source_url: Annotated[dict[str, str], Field(description="Overrides base_url by source id, as JSON.")] = {}
    source_root: Annotated[dict[str, str], Field(description="Overrides root by source id, as JSON.")] = {}
    keep_versions: Annotated[int, Field(ge=1, description="Serving versions to keep.")] = 5
    metrics_textfile: Annotated[Path | None, Field(description="File that landing replaces by the present metrics.")] = None
    log_format: Annotated[Literal["text", "json"], Field(description="How log lines are written.")] = "text"
    mes_client_id: str = "spc-platform"
    mes_client_secret: SecretStr = SecretStr("demo-secret")

    @cached_property
    def lake_root(self) -> Path:
        return self.data / "lake"

    @cached_property
    def landing_root(self) -> Path:
        return self.data / "landing"

    @cached_property
    def spool_root(self) -> Path:
        return self.data / "spool"

    @cached_property
    def ledger_path(self) -> Path:
        return self.data / "ledger.sqlite"

    @cached_property
    def serving_root(self) -> Path:
        return self.data / "serving"

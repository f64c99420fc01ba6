"""The file ``erp.toml`` of the site folder: where production summaries go, as whom, and how patiently.

::

    base_url = "https://erp.example/api/v1"       # SPC_SOURCE_URL='{"erp": "…"}' overrides it
    path = "production-summaries/{order}"         # {order} is the work order, percent-encoded
    release = "complete"                          # or "ended": when a summary of an ended order is entered

    [auth]                                        # as of a rest source; secrets are named by environment variable
    kind = "bearer"
    secret_env = "ERP_TOKEN"

    [limits]                                      # all optional
    retries = 4

``limits``: ``retries`` and ``deadline_s`` bound one summary with all its attempts, ``timeout_s`` one attempt,
``total_deadline_s`` one run; ``connect_s``, ``read_s`` connecting and a read; ``backoff_s``, ``backoff_max_s``,
``retry_after_max_s`` waits between attempts; ``later_s`` and ``later_max_s`` the wait before a summary is tried again
by a later run, doubling with every run; ``max_answer_bytes``; ``breaker_failures`` and ``breaker_reset_s``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from spc_platform.errors import SiteError
from spc_platform.settings import Settings
from spc_platform.site.files import Problems, TomlFile, read_fields
from spc_platform.sources.http import redact
from spc_platform.sources.rest_access import LOOPBACK
from spc_platform.sources.rest_config import AUTH, CHOICES, checked

FILE = "erp.toml"
NAME = "erp"
RELEASES = ("complete", "ended")
"""When an ended order's summary is entered: once its production dates are complete, or at once."""
LIMITS: dict[str, Any] = {
    "retries": 4,
    "deadline_s": 60.0,
    "timeout_s": 20.0,
    "total_deadline_s": 600.0,
    "connect_s": 5.0,
    "read_s": 15.0,
    "backoff_s": 0.5,
    "backoff_max_s": 15.0,
    "retry_after_max_s": 60.0,
    "later_s": 60.0,
    "later_max_s": 3600.0,
    "max_answer_bytes": 1 << 20,
    "breaker_failures": 10,
    "breaker_reset_s": 30.0,
}


@dataclass(frozen=True, slots=True)
class ErpConfig:
    """A validated ``erp.toml``; ``auth`` and ``limits`` hold every key."""

    base_url: str
    path: str = "production-summaries/{order}"
    release: str = RELEASES[0]
    auth: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, Any] = field(default_factory=dict)


def read_erp_config(settings: Settings) -> ErpConfig:
    """The ERP of the site. Raises SiteError (SPC-451) without a file, (SPC-450) with every problem of the file."""
    path = settings.site / FILE
    if not path.is_file():
        raise SiteError(
            f"{path} is missing, so there is no ERP to deliver to; write base_url and [auth] into it (docs/how-to/erp.md)",
            code="SPC-451",
        )
    problems = Problems()
    toml = TomlFile(path, problems)
    read = read_fields(ErpConfig, toml.values, toml, ()) if toml.is_read else {}
    read["base_url"] = settings.source_url.get(NAME, read.get("base_url", "")).rstrip("/")
    for section, defaults in (("auth", AUTH), ("limits", LIMITS)):
        try:
            read[section] = checked(NAME, section, read.get(section, {}), defaults, CHOICES)
        except SiteError as error:
            toml.problem((section,), str(error).partition("] ")[2], "correct it; docs/how-to/erp.md lists the keys")
    if not problems.found:
        _check_urls(ErpConfig(**read), toml)
    if problems.found:
        listed = "\n".join(f"  {problem}" for problem in sorted({*problems.found}))
        raise SiteError(f"{path} cannot be used:\n{listed}", code="SPC-450")
    return ErpConfig(**read)


def token_url(config: ErpConfig) -> str:
    """Where tokens come from: ``auth.token_path``, a full URL or relative to the ERP."""
    return str(urljoin(config.base_url + "/", config.auth["token_path"]))


def _check_urls(config: ErpConfig, toml: TomlFile) -> None:
    parts = urlsplit(config.base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or "@" in parts.netloc:
        wrong = f"base_url {redact(config.base_url)!r} is not http(s)://host[:port][/path]"
        toml.problem(("base_url",), wrong, "correct it, without user, password or query")
    if config.path.count("{order}") != 1 or "?" in config.path or ".." in config.path.split("/"):
        toml.problem(("path",), f"path is {config.path!r}", "name {order} in it once, without ? and ..")
    if config.release not in RELEASES:
        toml.problem(("release",), f"release is {config.release!r}", f"write one of {', '.join(RELEASES)}")
    ca_file = config.auth["ca_file"]
    if ca_file and not Path(ca_file).is_file():
        toml.problem(("auth", "ca_file"), f"ca_file {ca_file!r} is not a file", "give the path of the plant's CA bundle")
    urls = [config.base_url, *([token_url(config)] if config.auth["kind"].startswith("oauth2") else [])]
    if config.auth["kind"] == "none" or config.auth["allow_http"]:
        return
    for each in map(urlsplit, urls):
        if each.scheme != "https" and each.hostname not in LOOPBACK:
            wrong = f"credentials would go over plain {each.scheme} to {each.hostname}"
            toml.problem(("auth",), wrong, "use https, or auth.allow_http = true")

"""How a ``rest`` source is reached: its base URL, credentials and client certificate, checked before the first request."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from pydantic import SecretStr

from spc_platform.errors import SiteError
from spc_platform.settings import Settings
from spc_platform.sources.auth import SourceAuth, make_auth
from spc_platform.sources.http import Transport, redact

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def check_base_url(source_id: str, base_url: str, auth: Mapping[str, Any]) -> None:
    """Raises SiteError for a URL that is none, that carries credentials, or over which they would travel in the clear."""
    parts = urlsplit(base_url)
    remedy = "set base_url in the site folder, or SPC_SOURCE_URL"
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or "@" in parts.netloc:
        raise SiteError(f"source {source_id!r}: base_url {redact(base_url)!r} is not http(s)://host[:port][/path]; {remedy}")
    if auth["kind"] != "none" or auth["headers_env"]:
        _check_encrypted(source_id, base_url, "base_url", auth)


def source_auth(source_id: str, base_url: str, auth: dict[str, Any], transport: Transport, settings: Settings) -> SourceAuth:
    """The credential of a source. Raises SiteError when it cannot be had as the site says."""
    token_url = _token_url(source_id, base_url, auth) if auth["kind"].startswith("oauth2") else ""
    client = (SecretStr(settings.mes_client_id), settings.mes_client_secret)
    return make_auth(source_id, base_url, auth, transport, token_url, client)


def client_certificate(source_id: str, auth: Mapping[str, Any]) -> tuple[str, str] | None:
    """The client's certificate and key. Raises SiteError when one is missing, or others may read the key."""
    cert, key = auth["cert_file"], auth["key_file"]
    if not cert and not key:
        return None
    for option, path in (("cert_file", cert), ("key_file", key or cert)):
        if not path or not Path(path).is_file():
            raise SiteError(f"source {source_id!r}: auth.{option} {path!r} is not a file; give certificate and key as PEM")
    if Path(key or cert).stat().st_mode & 0o077:
        raise SiteError(f"source {source_id!r}: others may read auth.key_file {key or cert!r}; chmod 600 it", code="SPC-434")
    return cert, key or cert


def _token_url(source_id: str, base_url: str, auth: Mapping[str, Any]) -> str:
    """The URL that gives tokens: ``auth.token_path``, a full URL or relative to the source."""
    url: str = urljoin(base_url + "/", auth["token_path"])
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise SiteError(
            f"source {source_id!r}: auth.token_path gives {redact(url)!r}, which is not"
            " http(s)://host[:port]/path; give a path, or a full URL without user and password"
        )
    _check_encrypted(source_id, url, "auth.token_path", auth)
    return url


def _check_encrypted(source_id: str, url: str, key: str, auth: Mapping[str, Any]) -> None:
    """Raises SiteError when credentials would travel in the clear to another machine and the site did not allow it."""
    parts = urlsplit(url)
    if parts.scheme == "http" and parts.hostname not in LOOPBACK and not auth["allow_http"]:
        raise SiteError(
            f"source {source_id!r}: {key} sends credentials over plain HTTP to {parts.hostname};"
            " use https, or auth.allow_http = true"
        )

"""What a ``rest`` source of the site folder may say, and what holds where it says nothing.

Every key with its default; docs/reference/rest.md explains them. Any other key is refused with a suggestion. A resource may
override keys of ``pagination`` in ``options.pagination``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from spc_platform.errors import SiteError
from spc_platform.site.files import did_you_mean

AUTH: dict[str, Any] = {
    "kind": "none",
    "token_path": "/oauth/token",
    "token_field": "access_token",
    "token_params": {},
    "token_format": "form",
    "scope": "",
    "leeway_s": 30.0,
    "client_auth": "form",
    "client_id_env": "",
    "client_secret_env": "",
    "secret_env": "",
    "user_env": "",
    "refresh_token_env": "",
    "header": "X-API-Key",
    "prefix": "",
    "param": "api_key",
    "headers_env": {},
    "ca_file": "",
    "cert_file": "",
    "key_file": "",
    "allow_http": False,
}
PAGINATION: dict[str, Any] = {
    "kind": "cursor",
    "method": "GET",
    "params_in": "query",
    "headers": {},
    "next": "",
    "next_in": "body",
    "cursor_param": "cursor",
    "cursor_alone": False,
    "since_param": "updated_since",
    "since_template": "{since}",
    "until_param": "",
    "until_template": "{until}",
    "time_format": "iso",
    "time_zone": "UTC",
    "settle_s": 0.0,
    "limit_param": "limit",
    "page_size": 5000,
    "page_param": "page",
    "first_page": 1,
    "offset_param": "offset",
    "overlap_rows": 0,
    "mark": "",
    "total": "",
    "has_more": "",
    "stop": "empty",
    "within": "none",
    "start": "",
    "slice_s": 86_400.0,
    "smallest_slice_s": 0.001,
    "delta": False,
    "allow_origins": [],
    "expired_status": [410],
    "server_time": "server_time",
}
LIMITS: dict[str, Any] = {
    "retries": 5,
    "deadline_s": 180.0,
    "timeout_s": 60.0,
    "connect_s": 5.0,
    "read_s": 30.0,
    "backoff_s": 0.5,
    "backoff_max_s": 30.0,
    "retry_after_max_s": 120.0,
    "requests_per_s": 20.0,
    "max_pages": 100_000,
    "max_page_bytes": 64 << 20,
    "max_ratio": 200.0,
    "redirects": 0,
    "breaker_failures": 10,
    "breaker_reset_s": 30.0,
    "news_timeout_s": 5.0,
    "news_limit": 2,
    "future_s": 300.0,
}
RESOURCE: dict[str, Any] = {
    "params": {},
    "since_param": "",
    "counts_path": "",
    "body": {},
    "headers": {},
    "pagination": {},
    "order": "revision",
}
"""Options of a resource that the request takes; those of its records are ``json_shape.SHAPE``."""
INNER = ("none", "cursor", "next_link", "link_header", "page", "offset", "keyset", "odata")
CHOICES = {
    "auth.client_auth": ("form", "basic"),
    "auth.token_format": ("form", "json"),
    "auth.kind": ("none", "oauth2_client", "oauth2_password", "oauth2_refresh", "bearer", "header", "basic", "query"),
    "pagination.kind": (*INNER, "time_slice"),
    "pagination.within": INNER,
    "pagination.method": ("GET", "POST"),
    "pagination.params_in": ("query", "body"),
    "pagination.next_in": ("body", "header"),
    "pagination.stop": ("empty", "short"),
}
SECRET_HEADERS = ("authorization", "proxy-authorization", "cookie", "x-api-key")


def checked(
    source_id: str,
    section: str,
    given: Mapping[str, Any],
    defaults: Mapping[str, Any],
    choices: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> dict[str, Any]:
    """The section of a source's configuration with its defaults. Raises SiteError that names a wrong key or value.

    ``choices`` lists the words that a key ``section.key`` may have.
    """
    for key, value in given.items():
        if key not in defaults:
            known = ", ".join(defaults)
            remedy = did_you_mean(key, defaults)
            raise SiteError(
                f"source {source_id!r}: unknown key {section}.{key}; "
                + (f"{remedy} " if remedy.startswith("did") else "")
                + f"known: {known}"
            )
        wanted = type(defaults[key])
        number = wanted in (int, float) and isinstance(value, (int, float)) and not isinstance(value, bool)
        if not (isinstance(value, wanted) and isinstance(value, bool) == (wanted is bool)) and not (
            number and wanted(value) == value
        ):
            raise SiteError(
                f"source {source_id!r}: {section}.{key} = {value!r} is no {wanted.__name__}; its default is {defaults[key]!r}"
            )
        if number and value < 0:
            raise SiteError(f"source {source_id!r}: {section}.{key} = {value!r} is negative; its default is {defaults[key]!r}")
        known_words = choices.get(f"{section}.{key}", (value,))
        if value not in known_words:
            raise SiteError(f"source {source_id!r}: {section}.{key} = {value!r} is not known; one of: {', '.join(known_words)}")
    return {**defaults, **given}


def checked_headers(source_id: str, headers: Mapping[str, Any]) -> dict[str, str]:
    """Constant headers of requests. Raises SiteError for one that would carry a secret, or that no request can carry."""
    for name, value in headers.items():
        if name.lower() in SECRET_HEADERS:
            raise SiteError(
                f"source {source_id!r}: header {name} carries a secret; name its variable in auth.headers_env", code="SPC-431"
            )
        if not isinstance(value, str) or not (name + value).isprintable() or not (name + value).isascii():
            raise SiteError(f"source {source_id!r}: header {name!r} = {value!r} is no line of text", code="SPC-431")
    return dict(headers)

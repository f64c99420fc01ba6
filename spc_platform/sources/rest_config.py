"""What a ``rest`` source of the site folder may say, and what holds where it says nothing.

Keys of a ``rest`` source in the site folder, with their defaults. Any other key is refused.

``auth``
    ``kind = "none"``: or ``oauth2_client``, ``bearer``, ``header``, ``basic``.
    oauth2_client: ``token_path = "/oauth/token"`` (or a full URL), ``scope = ""``, ``leeway_s = 30.0``,
    ``client_auth = "form"`` (or ``basic``), ``client_id_env = ""``, ``client_secret_env = ""``; an empty name or an
    unset variable means SPC_MES_CLIENT_ID and SPC_MES_CLIENT_SECRET.
    ``secret_env = ""``: variable with the token of bearer, the value of header, the password of basic.
    ``user_env = ""``: variable with the user of basic. ``header = "X-API-Key"``: name of the header.
    ``ca_file = ""``: the plant's CA bundle. ``allow_http = false``: credentials over plain HTTP to another machine,
    be it the source or its token server.
``pagination``
    ``kind = "cursor"``: or ``next_link``, ``none``. ``next``: where the body holds the mark of the next page, dots go
    deeper; by default ``next_cursor`` for a cursor and ``next`` for a link. ``cursor_param = "cursor"``,
    ``since_param = "updated_since"``, ``limit_param = "limit"``: query parameters, an empty name is not sent.
    ``page_size = 5000``. ``server_time = "server_time"``: where the body says the source's own time, empty: nowhere.
``limits``
    ``retries = 5`` and ``deadline_s = 180.0`` bound a page with all its attempts; ``timeout_s = 60.0`` one attempt;
    ``connect_s = 5.0`` connecting, ``read_s = 30.0`` a read. ``backoff_s = 0.5``, ``backoff_max_s = 30.0``,
    ``retry_after_max_s = 120.0``: waits. ``requests_per_s = 20.0`` (0: unlimited), ``max_pages = 100000``,
    ``max_page_bytes = 67108864`` after decoding. ``breaker_failures = 10``, ``breaker_reset_s = 30.0``.
    ``news_timeout_s = 5.0`` and ``news_limit = 2``: the short question whether there is anything new.
    ``future_s = 300.0``: an ``updated_at`` later than the page's own server time by more is landed, but moves no watermark.
Resource ``options``
    ``params = {}``: constant query parameters. ``since_param``: instead of the source's.
    The ``path`` of a resource is below ``base_url``; empty means its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spc_platform.errors import SiteError

AUTH: dict[str, Any] = {
    "kind": "none",
    "token_path": "/oauth/token",
    "scope": "",
    "leeway_s": 30.0,
    "client_auth": "form",
    "client_id_env": "",
    "client_secret_env": "",
    "secret_env": "",
    "user_env": "",
    "header": "X-API-Key",
    "ca_file": "",
    "allow_http": False,
}
PAGINATION: dict[str, Any] = {
    "kind": "cursor",
    "next": "",
    "cursor_param": "cursor",
    "since_param": "updated_since",
    "limit_param": "limit",
    "server_time": "server_time",
    "page_size": 5000,
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
    "breaker_failures": 10,
    "breaker_reset_s": 30.0,
    "news_timeout_s": 5.0,
    "news_limit": 2,
    "future_s": 300.0,
}
CHOICES = {
    "auth.client_auth": ("form", "basic"),
    "auth.kind": ("none", "oauth2_client", "bearer", "header", "basic"),
    "pagination.kind": ("cursor", "next_link", "none"),
}


def checked(source_id: str, section: str, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The section of a source's configuration with its defaults. Raises SiteError that names a wrong key or value."""
    for key, value in given.items():
        if key not in defaults:
            raise SiteError(f"source {source_id!r}: unknown key {section}.{key}; known: {', '.join(defaults)}")
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
        choices = CHOICES.get(f"{section}.{key}")
        if choices and value not in choices:
            raise SiteError(f"source {source_id!r}: {section}.{key} = {value!r} is not known; one of: {', '.join(choices)}")
    return {**defaults, **given}

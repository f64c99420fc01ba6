"""Who we are to a source: credentials from the environment, sent to the configured origin only.

Tokens are kept for the life of the process, so that a new poll does not ask for a new one; they are written nowhere.
Nothing here shows a secret in its repr; ``secrets()`` feeds the redaction of messages.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus

import msgspec
from pydantic import SecretStr
from requests import PreparedRequest
from requests.auth import AuthBase, HTTPBasicAuth

from spc_platform.errors import PermanentError, SiteError
from spc_platform.sources.http import Answer, Transport, origin, redact, remember_secret
from spc_platform.sources.json_records import find
from spc_platform.sources.resilience import Deadline, RetriableError


def secret_from_environment(source_id: str, key: str, variable: str, fallback: SecretStr | None = None) -> SecretStr:
    """The secret in an environment variable, else the fallback. Raises SiteError that names the variable."""
    value = os.environ.get(variable, "") if variable else ""
    if value:
        remember_secret(value)
        return SecretStr(value)
    if fallback is not None:
        return fallback
    raise SiteError(f"source {source_id!r}: auth.{key} names the environment variable {variable!r}, which is not set; set it")


class SourceAuth(AuthBase):
    """Attaches nothing; base of the others. Refuses every request that leaves the configured origin."""

    def __init__(self, base_url: str) -> None:
        self._origin = origin(base_url)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def ready(self, deadline: Deadline) -> None:
        """Makes sure that a credential is at hand."""

    def renew(self) -> bool:
        """Drops a credential that the source refused; False when there is no way to get another."""
        return False

    def secrets(self) -> list[str]:
        return []

    def attach(self, request: PreparedRequest) -> None:
        """Adds the credential to a request that goes to the configured origin."""

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        if origin(request.url or "") != self._origin:
            raise PermanentError("a request left the configured origin of its source; no credential was sent", code="SPC-203")
        self.attach(request)
        return request


class HeaderAuth(SourceAuth):
    """A fixed secret in a header, e.g. an API key or a bearer token."""

    def __init__(self, base_url: str, header: str, secret: SecretStr, prefix: str = "") -> None:
        super().__init__(base_url)
        self._header, self._secret, self._prefix = header, secret, prefix

    def secrets(self) -> list[str]:
        return [self._secret.get_secret_value()]

    def attach(self, request: PreparedRequest) -> None:
        request.headers[self._header] = self._prefix + self._secret.get_secret_value()


class QueryAuth(SourceAuth):
    """A fixed secret as a query parameter, for sources that know nothing better."""

    def __init__(self, base_url: str, param: str, secret: SecretStr) -> None:
        super().__init__(base_url)
        self._param, self._secret = param, secret

    def secrets(self) -> list[str]:
        value = self._secret.get_secret_value()
        return [value, quote_plus(value)]

    def attach(self, request: PreparedRequest) -> None:
        request.prepare_url(request.url, {self._param: self._secret.get_secret_value()})


class WithHeaders(SourceAuth):
    """Further secret headers beside another credential, e.g. a key's id and its secret."""

    def __init__(self, base_url: str, inner: SourceAuth, headers: Mapping[str, SecretStr]) -> None:
        super().__init__(base_url)
        self._inner, self._headers = inner, dict(headers)

    def ready(self, deadline: Deadline) -> None:
        self._inner.ready(deadline)

    def renew(self) -> bool:
        return self._inner.renew()

    def secrets(self) -> list[str]:
        return [*self._inner.secrets(), *(each.get_secret_value() for each in self._headers.values())]

    def attach(self, request: PreparedRequest) -> None:
        self._inner.attach(request)
        for name, value in self._headers.items():
            request.headers[name] = value.get_secret_value()


class BasicAuth(SourceAuth):
    """User and password."""

    def __init__(self, base_url: str, user: SecretStr, password: SecretStr) -> None:
        super().__init__(base_url)
        self._user, self._password = user, password
        remember_secret(self._pair)

    @property
    def _pair(self) -> str:
        """What the header says of user and password, which a source may repeat."""
        return b64encode(f"{self._user.get_secret_value()}:{self._password.get_secret_value()}".encode()).decode()

    def secrets(self) -> list[str]:
        return [self._password.get_secret_value(), self._pair]

    def attach(self, request: PreparedRequest) -> None:
        HTTPBasicAuth(self._user.get_secret_value(), self._password.get_secret_value())(request)


@dataclass(slots=True)
class _Token:
    """A token of this process, shared by all sources that get it in the same way."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    access: SecretStr = field(default_factory=lambda: SecretStr(""))
    refresh: SecretStr = field(default_factory=lambda: SecretStr(""))
    renew_at: float = 0.0


_NOBODY = SecretStr("")
_TOKENS: dict[str, _Token] = {}


@dataclass(frozen=True)
class Grant:
    """How a token is asked for (RFC 6749 sections 4.3, 4.4 and 6). ``kind`` is that of the section ``auth``."""

    kind: str
    client_id: SecretStr
    client_secret: SecretStr
    user: SecretStr = _NOBODY
    password: SecretStr = _NOBODY
    refresh_token: SecretStr = _NOBODY
    scope: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    leeway_s: float = 30.0
    client_auth: str = "form"
    form: str = "form"
    token_field: str = "access_token"  # noqa: S105 - the name of a field

    def secrets(self) -> list[str]:
        kept = (self.client_secret, self.password, self.refresh_token)
        return [each.get_secret_value() for each in kept if each.get_secret_value()]

    def fields(self, refresh: SecretStr) -> dict[str, str]:
        """The form of the request, without the client's own credential."""
        if refresh.get_secret_value():
            named = {"grant_type": "refresh_token", "refresh_token": refresh.get_secret_value()}
        elif self.kind == "oauth2_password":
            user, password = self.user.get_secret_value(), self.password.get_secret_value()
            named = {"grant_type": "password", "username": user, "password": password}
        else:
            named = {"grant_type": "client_credentials"}
        return named | ({"scope": self.scope} if self.scope else {}) | dict(self.params)

    def name(self, token_url: str) -> str:
        """Equal for equal ways to a token; shows nothing of them."""
        said = [self.kind, token_url, self.client_id.get_secret_value(), self.user.get_secret_value(), self.scope]
        return hashlib.sha256(repr([*said, sorted(self.params.items()), self.secrets()]).encode()).hexdigest()


class OAuth(SourceAuth):
    """OAuth 2.0: a token fetched when needed, renewed before it expires and once when it is refused."""

    def __init__(self, base_url: str, token_url: str, grant: Grant, transport: Transport) -> None:
        super().__init__(base_url)
        self._token_url, self._transport, self._grant = token_url, transport, grant
        self._token = _TOKENS.setdefault(grant.name(token_url), _Token())

    def secrets(self) -> list[str]:
        kept = (self._token.access, self._token.refresh)
        return [*self._grant.secrets(), *(each.get_secret_value() for each in kept)]

    def ready(self, deadline: Deadline) -> None:
        """Fetches a token when there is none or it expires soon.

        Raises RetriableError when the token endpoint is away, PermanentError when it refuses the client.
        """
        with self._token.lock:
            if not self._token.access.get_secret_value() or time.monotonic() >= self._token.renew_at:
                self._fetch(deadline)

    def renew(self) -> bool:
        with self._token.lock:
            self._token.access = SecretStr("")
        return True

    def attach(self, request: PreparedRequest) -> None:
        request.headers["Authorization"] = f"Bearer {self._token.access.get_secret_value()}"

    def _fetch(self, deadline: Deadline) -> None:
        token, grant = self._token, self._grant
        refresh = token.refresh if token.refresh.get_secret_value() else grant.refresh_token
        answer = self._ask(refresh, deadline)
        if answer.status in (400, 401) and refresh.get_secret_value() and grant.kind == "oauth2_password":
            # The refresh token was given by the server and may have lived out; the password has not.
            token.refresh = refresh = SecretStr("")
            answer = self._ask(refresh, deadline)
        where = f"token endpoint {redact(self._token_url)}"
        if 300 <= answer.status < 500 and answer.status not in (408, 425, 429):
            raise PermanentError(
                f"{where} refused the client with status {answer.status}; check the id and secret in the environment"
                f" variables that {_VARIABLES[grant.kind]} name",
                code="SPC-205",
            )
        said = _said(answer, grant.token_field)
        if said is None:
            raise RetriableError(f"{where} gave no token: status {answer.status}, {len(answer.body)} bytes")
        access, expires_in, further = said
        remember_secret(access)
        remember_secret(further)
        token.access = SecretStr(access)
        if further and grant.kind != "oauth2_client":
            token.refresh = SecretStr(further)
        # Half of a short life is kept, so that a leeway longer than the life cannot ask for ever.
        token.renew_at = time.monotonic() + max(expires_in - grant.leeway_s, expires_in / 2)

    def _ask(self, refresh: SecretStr, deadline: Deadline) -> Answer:
        grant, form = self._grant, self._grant.fields(refresh)
        user, password = grant.client_id.get_secret_value(), grant.client_secret.get_secret_value()
        basic = (user, password) if grant.client_auth == "basic" else None
        if basic is None:
            form |= {name: value for name, value in (("client_id", user), ("client_secret", password)) if value}
        if grant.form == "json":
            return self._transport.send(
                "POST",
                self._token_url,
                deadline,
                body=msgspec.json.encode(form),
                headers={"Content-Type": "application/json"},
                auth=basic,
                secrets=self.secrets(),
            )
        return self._transport.send("POST", self._token_url, deadline, form=form, auth=basic, secrets=self.secrets())


_VARIABLES = {
    "oauth2_client": "auth.client_id_env and auth.client_secret_env",
    "oauth2_password": "auth.user_env, auth.secret_env and auth.client_id_env",
    "oauth2_refresh": "auth.refresh_token_env and auth.client_id_env",
}


def _said(answer: Answer, token_field: str) -> tuple[str, float, str] | None:
    """(token, seconds it lives, refresh token) of a token endpoint; None when it said no token that a header can carry."""
    if answer.status not in (200, 201):
        return None
    try:
        said = msgspec.json.decode(answer.body)
        life = float(said.get("expires_in") or 3600.0)
        access = find(said, token_field)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, AttributeError, TypeError, ValueError):
        return None
    refresh = said.get("refresh_token")
    if not isinstance(access, str) or not fits_a_header(access) or not 0.0 <= life < float("inf"):
        return None
    return access, life, refresh if isinstance(refresh, str) else ""


def make_auth(
    name: str,
    base_url: str,
    options: Mapping[str, Any],
    transport: Transport,
    token_url: str = "",
    client: tuple[SecretStr, SecretStr] | None = None,
) -> SourceAuth:
    """The credentials that the ``auth`` section ``options`` names; ``client`` is the id and secret when no variable is set.

    Raises SiteError that names the variable of a secret that is not there.
    """

    def secret(key: str, fallback: SecretStr | None = None) -> SecretStr:
        return secret_from_environment(name, key, options[key], fallback)

    made = _credential(base_url, options, transport, token_url, client, secret)
    further = {
        header: secret_from_environment(name, f"headers_env.{header}", variable)
        for header, variable in options["headers_env"].items()
    }
    return WithHeaders(base_url, made, further) if further else made


def _credential(
    base_url: str,
    options: Mapping[str, Any],
    transport: Transport,
    token_url: str,
    client: tuple[SecretStr, SecretStr] | None,
    secret: Callable[..., SecretStr],
) -> SourceAuth:
    kind = options["kind"]
    if kind == "none":
        return SourceAuth(base_url)
    if kind.startswith("oauth2"):
        return OAuth(base_url, token_url, _grant(options, client, secret), transport)
    if kind == "basic":
        password = secret("secret_env")
        return BasicAuth(base_url, secret("user_env"), password)
    if kind == "query":
        return QueryAuth(base_url, options["param"], secret("secret_env"))
    header, prefix = ("Authorization", "Bearer ") if kind == "bearer" else (options["header"], options["prefix"])
    return HeaderAuth(base_url, header, secret("secret_env"), prefix)


def _grant(options: Mapping[str, Any], client: tuple[SecretStr, SecretStr] | None, secret: Callable[..., SecretStr]) -> Grant:
    nobody = _NOBODY
    client_id, client_secret = client or (None, None)
    kind = options["kind"]
    if kind != "oauth2_client":
        # Public clients have an id at most; only client credentials need both.
        client_id = client_secret = nobody
    is_password, is_refresh = kind == "oauth2_password", kind == "oauth2_refresh"
    return Grant(
        kind,
        secret("client_id_env", client_id),
        secret("client_secret_env", client_secret),
        secret("user_env") if is_password else nobody,
        secret("secret_env") if is_password else nobody,
        secret("refresh_token_env") if is_refresh else nobody,
        scope=options["scope"],
        params={key: str(value) for key, value in options["token_params"].items()},
        leeway_s=options["leeway_s"],
        client_auth=options["client_auth"],
        form=options["token_format"],
        token_field=options["token_field"],
    )


def fits_a_header(token: str) -> bool:
    """True when a token may stand in a header: printable ASCII without blanks."""
    return token.isascii() and token.isprintable() and " " not in token and token != ""

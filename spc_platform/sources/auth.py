"""Who we are to a source: credentials from the environment, sent to the configured origin only.

Nothing here shows a secret in its repr; ``secrets()`` feeds the redaction of messages.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from typing import Any

import msgspec
from pydantic import SecretStr
from requests import PreparedRequest
from requests.auth import AuthBase, HTTPBasicAuth

from spc_platform.errors import PermanentError, SiteError
from spc_platform.sources.http import Transport, origin, redact
from spc_platform.sources.resilience import Deadline, RetriableError


def secret_from_environment(source_id: str, key: str, variable: str, fallback: SecretStr | None = None) -> SecretStr:
    """The secret in an environment variable, else the fallback. Raises SiteError that names the variable."""
    value = os.environ.get(variable, "") if variable else ""
    if value:
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


class BasicAuth(SourceAuth):
    """User and password."""

    def __init__(self, base_url: str, user: SecretStr, password: SecretStr) -> None:
        super().__init__(base_url)
        self._user, self._password = user, password

    def secrets(self) -> list[str]:
        return [self._password.get_secret_value()]

    def attach(self, request: PreparedRequest) -> None:
        HTTPBasicAuth(self._user.get_secret_value(), self._password.get_secret_value())(request)


class _Grant(msgspec.Struct):
    access_token: str
    expires_in: float = 3600.0


class ClientCredentials(SourceAuth):
    """OAuth 2.0 client credentials (RFC 6749 §4.4): a token fetched when needed and renewed before it expires."""

    def __init__(
        self,
        base_url: str,
        token_url: str,
        client_id: SecretStr,
        client_secret: SecretStr,
        transport: Transport,
        *,
        scope: str = "",
        leeway_s: float = 30.0,
        client_auth: str = "form",
    ) -> None:
        super().__init__(base_url)
        self._token_url, self._transport = token_url, transport
        self._client_id, self._client_secret = client_id, client_secret
        self._scope, self._leeway_s, self._client_auth = scope, leeway_s, client_auth
        self._lock = threading.Lock()
        self._token = SecretStr("")
        self._renew_at = 0.0

    def secrets(self) -> list[str]:
        return [self._client_secret.get_secret_value(), self._token.get_secret_value()]

    def ready(self, deadline: Deadline) -> None:
        """Fetches a token when there is none or it expires soon.

        Raises RetriableError when the token endpoint is away, PermanentError when it refuses the client.
        """
        with self._lock:
            if not self._token.get_secret_value() or time.monotonic() >= self._renew_at:
                grant = self._grant(deadline)
                self._token = SecretStr(grant.access_token)
                # Half of a short life is kept, so that a leeway longer than the life cannot ask for ever.
                self._renew_at = time.monotonic() + max(grant.expires_in - self._leeway_s, grant.expires_in / 2)

    def renew(self) -> bool:
        with self._lock:
            self._token = SecretStr("")
        return True

    def attach(self, request: PreparedRequest) -> None:
        request.headers["Authorization"] = f"Bearer {self._token.get_secret_value()}"

    def _grant(self, deadline: Deadline) -> _Grant:
        form = {"grant_type": "client_credentials"}
        user, password = self._client_id.get_secret_value(), self._client_secret.get_secret_value()
        basic: tuple[str, str] | None = (user, password) if self._client_auth == "basic" else None
        if basic is None:
            form |= {"client_id": user, "client_secret": password}
        if self._scope:
            form["scope"] = self._scope
        answer = self._transport.send("POST", self._token_url, deadline, form=form, auth=basic, secrets=self.secrets())
        where = f"token endpoint {redact(self._token_url)}"
        if 300 <= answer.status < 500 and answer.status not in (408, 425, 429):
            raise PermanentError(
                f"{where} refused the client with status {answer.status}; check the id and secret in the environment"
                " variables that auth.client_id_env and auth.client_secret_env name",
                code="SPC-205",
            )
        grant: Any = None
        if answer.status == 200:
            try:
                grant = msgspec.json.decode(answer.body, type=_Grant)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                grant = None
        if not isinstance(grant, _Grant) or not fits_a_header(grant.access_token):
            raise RetriableError(f"{where} gave no token: status {answer.status}, {len(answer.body)} bytes")
        return grant


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

    kind = options["kind"]
    if kind == "none":
        return SourceAuth(base_url)
    if kind == "oauth2_client":
        client_id, client_secret = client or (None, None)
        return ClientCredentials(
            base_url,
            token_url,
            secret("client_id_env", client_id),
            secret("client_secret_env", client_secret),
            transport,
            scope=options["scope"],
            leeway_s=options["leeway_s"],
            client_auth=options["client_auth"],
        )
    if kind == "basic":
        password = secret("secret_env")
        return BasicAuth(base_url, secret("user_env"), password)
    header, prefix = ("Authorization", "Bearer ") if kind == "bearer" else (options["header"], "")
    return HeaderAuth(base_url, header, secret("secret_env"), prefix)


def fits_a_header(token: str) -> bool:
    """True when a token may stand in a header: printable ASCII without blanks."""
    return token.isascii() and token.isprintable() and " " not in token and token != ""

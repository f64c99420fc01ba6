"""What an ``opcua`` source of the site folder may say, and what holds where it says nothing.

``base_url`` is the server's address, ``opc.tcp://host:4840/path``. Any key that is not listed here is refused.

``auth``
    ``security = "SignAndEncrypt"``: or ``Sign``, ``None``. ``policy = "Basic256Sha256"``: or ``Aes128Sha256RsaOaep``,
    ``Aes256Sha256RsaPss``. ``certificate = ""`` and ``private_key = ""``: our own, DER or PEM; empty: made once, below
    ``pki/opcua`` of the data folder. ``trusted = ""``: folder of certificates (of servers or of authorities, with their
    revocation lists) that are trusted; empty: ``pki/opcua/trusted`` of the data folder. Relative paths lie in the site folder.
    ``identity = "anonymous"``: or ``user``, ``certificate``. user: ``user_env`` and ``secret_env`` name the variables with name
    and password. certificate: ``user_certificate`` and ``user_private_key`` are files. ``key_secret_env``: variable with the
    password of the private keys. ``allow_plain_password = false``: a password over a channel that is not encrypted.
``limits``
    ``publishing_ms = 500.0`` and ``sampling_ms = 0.0`` (as fast as the server can) are asked for. ``queue_size = 1000``
    values wait in the server for each tag; ``queue_sizes = {}`` by address. ``discard_oldest = false``: what a full queue
    loses. ``deadbands = {}``: absolute deadband that the server applies, by address. ``accept_uncertain = false``: a value
    of status Uncertain counts as good.
    ``keep_s = 600.0``: how long the server keeps session and queues for us while we are away. ``patience_s = 30.0``: a
    broken connection is taken up again in this time before signals count as unavailable. ``timeout_s = 10.0`` bounds one
    answer. ``history = true``: fill gaps by HistoryRead; ``history_delay_s = 1.0``: how far the server's history may lag;
    ``history_span_s = 60.0``: time asked for at once at first; it follows how much there is. ``clock_s = 60.0``: between
    two exchanges of clocks. ``retry_missing_s = 60.0``: between two looks for nodes that the server does not have.
    ``nodes_per_request = 500``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from spc_platform.errors import SiteError
from spc_platform.settings import Settings
from spc_platform.site.model import Source
from spc_platform.sources.auth import secret_from_environment
from spc_platform.sources.rest_config import checked

AUTH: dict[str, Any] = {
    "security": "SignAndEncrypt",
    "policy": "Basic256Sha256",
    "certificate": "",
    "private_key": "",
    "trusted": "",
    "identity": "anonymous",
    "user_env": "",
    "secret_env": "",
    "user_certificate": "",
    "user_private_key": "",
    "key_secret_env": "",
    "allow_plain_password": False,
}
LIMITS: dict[str, Any] = {
    "publishing_ms": 500.0,
    "sampling_ms": 0.0,
    "queue_size": 1000,
    "queue_sizes": {},
    "discard_oldest": False,
    "deadbands": {},
    "accept_uncertain": False,
    "keep_s": 600.0,
    "patience_s": 30.0,
    "timeout_s": 10.0,
    "history": True,
    "history_delay_s": 1.0,
    "history_span_s": 60.0,
    "clock_s": 60.0,
    "retry_missing_s": 60.0,
    "nodes_per_request": 500,
}
CHOICES = {
    "security": ("SignAndEncrypt", "Sign", "None"),
    "policy": ("Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss"),
    "identity": ("anonymous", "user", "certificate"),
}
_POSITIVE = ("publishing_ms", "queue_size", "keep_s", "timeout_s", "history_span_s", "clock_s", "nodes_per_request")
_NONE = SecretStr("")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who we are to the server. Secrets are never shown."""

    kind: str
    user: SecretStr = _NONE
    password: SecretStr = _NONE
    certificate: Path | None = None
    private_key: Path | None = None
    key_password: SecretStr = _NONE


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one source, checked."""

    source_id: str
    url: str
    security: str
    policy: str
    certificate: Path | None
    private_key: Path | None
    trusted: Path
    pki: Path
    identity: Identity
    publishing_ms: float
    sampling_ms: float
    queue_size: int
    queue_sizes: dict[str, int]
    discard_oldest: bool
    deadbands: dict[str, float]
    accept_uncertain: bool
    keep_s: float
    patience_s: float
    timeout_s: float
    history: bool
    history_delay_s: float
    history_span_s: float
    clock_s: float
    retry_missing_s: float
    nodes_per_request: int

    @property
    def is_secure(self) -> bool:
        """Whether messages are signed at least."""
        return self.security != "None"


def read_options(config: Source, settings: Settings) -> Options:
    """The options of an ``opcua`` source. Raises SiteError that names what is wrong and what to do."""
    auth = checked(config.source_id, "auth", config.auth, AUTH)
    limits = checked(config.source_id, "limits", config.limits, LIMITS)
    problems = [
        f"auth.{key} = {auth[key]!r} is not known; one of: {', '.join(known)}"
        for key, known in CHOICES.items()
        if auth[key] not in known
    ]
    problems += [f"limits.{key} is 0; it must be greater" for key in _POSITIVE if limits[key] == 0]
    problems += [
        f"limits.{key}.{address!r} = {value!r} is no number above 0"
        for key in ("queue_sizes", "deadbands")
        for address, value in limits[key].items()
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0
    ]
    problems += _url_problems(config.base_url)
    if config.pagination:
        problems.append("pagination does not belong to a subscription; remove it")
    if problems:
        raise SiteError(f"source {config.source_id!r}: " + "; ".join(problems), code="SPC-461")
    pki = settings.data / "pki" / "opcua"
    kept = {key: type(LIMITS[key])(limits[key]) for key in LIMITS}
    kept["queue_sizes"] = {address: int(size) for address, size in limits["queue_sizes"].items()}
    return Options(
        source_id=config.source_id,
        url=config.base_url,
        security=auth["security"],
        policy=auth["policy"],
        certificate=_file(auth["certificate"], settings),
        private_key=_file(auth["private_key"], settings),
        trusted=_file(auth["trusted"], settings) or pki / "trusted",
        pki=pki,
        identity=_identity(config.source_id, auth, settings),
        **kept,
    )


def _url_problems(url: str) -> list[str]:
    try:
        parts = urlsplit(url)
        has_place = parts.scheme == "opc.tcp" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        has_place = False
    if not has_place:
        return ["base_url is no address of an OPC UA server; write opc.tcp://host:4840"]
    if parts.username or parts.password:
        return ["base_url holds a user or password; remove it and name variables by auth.user_env and auth.secret_env"]
    return []


def _file(path: str, settings: Settings) -> Path | None:
    return settings.site / path if path else None


def _identity(source_id: str, auth: dict[str, Any], settings: Settings) -> Identity:
    def secret(key: str) -> SecretStr:
        try:
            return secret_from_environment(source_id, key, auth[key])
        except SiteError as error:
            raise SiteError(str(error).partition("] ")[2], code="SPC-463") from None

    if bool(auth["certificate"]) != bool(auth["private_key"]):
        raise SiteError(
            f"source {source_id!r}: auth.certificate and auth.private_key belong together; name both or none", code="SPC-462"
        )
    key_password = secret("key_secret_env") if auth["key_secret_env"] else _NONE
    if auth["identity"] == "user":
        if auth["security"] != "SignAndEncrypt" and not auth["allow_plain_password"]:
            raise SiteError(
                f"source {source_id!r}: with auth.security = {auth['security']!r} the password would travel unencrypted; use"
                ' "SignAndEncrypt", or set auth.allow_plain_password if the network is yours alone',
                code="SPC-463",
            )
        return Identity("user", secret("user_env"), secret("secret_env"), key_password=key_password)
    if auth["identity"] == "certificate":
        certificate, key = _file(auth["user_certificate"], settings), _file(auth["user_private_key"], settings)
        if certificate is None or key is None:
            raise SiteError(
                f"source {source_id!r}: auth.identity = 'certificate' needs auth.user_certificate and auth.user_private_key",
                code="SPC-462",
            )
        return Identity("certificate", certificate=certificate, private_key=key, key_password=key_password)
    return Identity("anonymous", key_password=key_password)

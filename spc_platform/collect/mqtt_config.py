"""What an ``mqtt`` source of the site folder may say, and what holds where it says nothing.

``base_url`` is the broker, ``mqtts://host:8883`` or ``mqtt://host:1883``. Any key that is not listed here is refused.

``auth``
    ``ca_file = ""``: the plant's CA bundle; empty: those of the system. ``certificate = ""`` and ``private_key = ""``: our
    own, PEM; ``key_secret_env = ""``: variable with the key's password. ``user_env = ""`` and ``secret_env = ""``: variables
    with user and password. ``allow_plain_password = false``: a password over ``mqtt://`` to another machine. Relative paths
    lie in the site folder.
``limits``
    ``receive_maximum = 1000``: messages of QoS 1 that the broker may send before we acknowledged the first of them (MQTT 5).
    ``waiting = 10000``: messages that wait in memory; beyond, those of QoS 0 are dropped and noted as a gap.
    ``session_expiry_s = 604800``: how long the broker keeps what we miss (MQTT 5). ``keepalive_s = 30``, ``connect_s = 10.0``.
    ``max_payload_bytes = 1048576``: a larger payload is malformed. ``rebirth_s = 10.0``: between two rebirth requests to an
    edge node.
``options``
    ``client_id = ""``: by default ``spc-`` and the source id; one per broker and collector. ``version = "5"``: or ``3.1.1``.
    ``rebirth = true``: ask Sparkplug edge nodes for a rebirth; false writes nothing to the broker.
    ``[[source.options.payloads]]``: how payloads are read, the first whose ``topic`` filter matches counts. ``topic = "#"``.
    ``format = "json"``: or ``text``, the payload is the value. ``readings = ""``: path of an array of readings; empty: the
    payload is one, or an array of them. ``name = ""``: path of a reading's own name, which the tag's path then names.
    ``value = "value"``: path of the value where the tag names none. ``timestamp``: path of the time, to be named; ``""`` is
    the time of receipt. ``time_unit = "iso"``: or ``s``, ``ms``, ``us``, ``ns`` since 1970. ``quality = ""``: path of the
    quality; ``good``: its words for good. ``sequence = ""``: path of a number that tells apart equal readings of one time.
    Paths are dotted, a number is a place in an array, ``^.`` leads from a reading to the payload around it.

``zone`` and ``ambiguous`` of the source say what times without an offset mean.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
    "ca_file": "",
    "certificate": "",
    "private_key": "",
    "key_secret_env": "",
    "user_env": "",
    "secret_env": "",
    "allow_plain_password": False,
}
LIMITS: dict[str, Any] = {
    "receive_maximum": 1000,
    "waiting": 10_000,
    "session_expiry_s": 604_800,
    "keepalive_s": 30,
    "connect_s": 10.0,
    "max_payload_bytes": 1 << 20,
    "rebirth_s": 10.0,
}
OPTIONS: dict[str, Any] = {"client_id": "", "version": "5", "rebirth": True, "payloads": []}
GOOD_WORDS = ("good", "ok", "192", "true")
PAYLOAD: dict[str, Any] = {
    "topic": "#",
    "format": "json",
    "readings": "",
    "name": "",
    "value": "value",
    "timestamp": "",
    "time_unit": "iso",
    "quality": "",
    "good": list(GOOD_WORDS),
    "sequence": "",
}
CHOICES = {
    "format": ("json", "text"),
    "time_unit": ("iso", "s", "ms", "us", "ns"),
}
LOOPBACK = ("127.0.0.1", "::1", "localhost")
MAX_RECEIVE = 65_535
PORTS = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True, slots=True)
class PayloadRule:
    """How the payloads of the topics that match ``topic`` are read."""

    topic: str = "#"
    format: str = "json"
    readings: str = ""
    name: str = ""
    value: str = "value"
    timestamp: str = ""
    time_unit: str = "iso"
    zone: str | None = None
    ambiguous: str = "reject"
    quality: str = ""
    good: frozenset[str] = frozenset(GOOD_WORDS)
    sequence: str = ""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one source, checked. Secrets are never shown."""

    source_id: str
    host: str
    port: int
    client_id: str
    is_v5: bool
    rebirth: bool
    payloads: tuple[PayloadRule, ...]
    receive_maximum: int
    waiting: int
    session_expiry_s: int
    keepalive_s: int
    connect_s: float
    max_payload_bytes: int
    rebirth_s: float
    user: SecretStr | None = None
    password: SecretStr | None = None
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    @property
    def broker(self) -> str:
        """Where the broker is, for messages."""
        return f"{'mqtt' if self.tls is None else 'mqtts'}://{self.host}:{self.port}"


def read_options(config: Source, settings: Settings) -> Options:
    """The options of an ``mqtt`` source. Raises SiteError that names everything that is wrong and what to do."""
    name = config.source_id
    try:
        auth = checked(name, "auth", config.auth, AUTH)
        limits = checked(name, "limits", config.limits, LIMITS)
        options = checked(name, "options", config.options, OPTIONS)
        payloads = [_rule(config, number, given) for number, given in enumerate(options["payloads"])]
    except SiteError as error:
        raise SiteError(str(error).partition("] ")[2], code="SPC-465") from None
    url = settings.source_url.get(name, config.base_url)
    scheme, host, port, problems = _broker(url)
    problems += [f"limits.{key} is 0; it must be greater" for key in LIMITS if key != "session_expiry_s" and not limits[key]]
    if limits["receive_maximum"] > MAX_RECEIVE:
        problems.append(f"limits.receive_maximum is above {MAX_RECEIVE}, the most that MQTT has")
    if options["version"] not in ("5", "3.1.1"):
        problems.append(f'options.version = {options["version"]!r} is not known; write "5" or "3.1.1"')
    if config.pagination:
        problems.append("pagination does not belong to a subscription; remove it")
    problems += _auth_problems(auth, scheme, host)
    if problems:
        raise SiteError(f"source {name!r}: " + "; ".join(problems), code="SPC-465")
    user = _secret(name, auth, "user_env")
    return Options(
        source_id=name,
        host=host,
        port=port,
        client_id=options["client_id"] or f"spc-{name}",
        is_v5=options["version"] == "5",
        rebirth=options["rebirth"],
        payloads=tuple(payloads),
        **{key: type(LIMITS[key])(limits[key]) for key in LIMITS},
        user=user,
        password=_secret(name, auth, "secret_env"),
        tls=_tls(name, auth, settings.site) if scheme == "mqtts" else None,
    )


def _rule(config: Source, number: int, given: Any) -> PayloadRule:
    name = config.source_id
    place = f"options.payloads[{number}]"
    if not isinstance(given, Mapping):
        raise SiteError(f"source {name!r}: {place} is no table; write [[source.options.payloads]]")
    read = checked(name, place, given, PAYLOAD)
    for key, known in CHOICES.items():
        if read[key] not in known:
            raise SiteError(f"source {name!r}: {place}.{key} = {read[key]!r} is not known; one of: {', '.join(known)}")
    if "timestamp" not in given and read["format"] == "json":
        raise SiteError(
            f'source {name!r}: {place}.timestamp is missing; name the path of the time, or "" for the time of receipt'
        )
    if read["format"] == "text" and any(read[key] for key in ("readings", "name", "timestamp", "quality", "sequence")):
        raise SiteError(f"source {name!r}: {place} has paths, but a text has none; remove them or write format = 'json'")
    good = frozenset(str(word).lower() for word in read["good"])
    return PayloadRule(**{**read, "good": good}, zone=config.zone, ambiguous=config.ambiguous)


def _broker(url: str) -> tuple[str, str, int, list[str]]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        is_place = parts.scheme in PORTS and bool(host) and port != 0 and parts.path in ("", "/") and not parts.query
    except ValueError:
        is_place = False
    if not is_place:
        return "", "", 0, ["base_url is no broker; write mqtts://host:8883 or mqtt://host:1883"]
    if "@" in parts.netloc:
        return "", "", 0, ["base_url holds a user or password; remove it and name auth.user_env and auth.secret_env"]
    return parts.scheme, host, port or PORTS[parts.scheme], []


def _auth_problems(auth: Mapping[str, Any], scheme: str, host: str) -> Sequence[str]:
    problems = []
    if auth["secret_env"] and not auth["user_env"]:
        problems.append("auth.secret_env needs auth.user_env; name the variable of the user")
    if bool(auth["certificate"]) != bool(auth["private_key"]):
        problems.append("auth.certificate and auth.private_key belong together; name both or none")
    if scheme == "mqtt":
        if auth["ca_file"] or auth["certificate"]:
            problems.append("certificates are named but base_url is mqtt://; write mqtts://")
        if auth["secret_env"] and host not in LOOPBACK and not auth["allow_plain_password"]:
            problems.append(
                "the password would travel unencrypted; write mqtts://, or set auth.allow_plain_password if the network is"
                " yours alone"
            )
    return problems


def _secret(name: str, auth: Mapping[str, Any], key: str) -> SecretStr | None:
    if not auth[key]:
        return None
    try:
        return secret_from_environment(name, key, auth[key])
    except SiteError as error:
        raise SiteError(str(error).partition("] ")[2], code="SPC-465") from None


def _tls(name: str, auth: Mapping[str, Any], folder: Path) -> ssl.SSLContext:
    """TLS that trusts the CA bundle and no other, checks the host's name and shows our certificate."""
    password = _secret(name, auth, "key_secret_env")
    try:
        context = ssl.create_default_context(cafile=str(folder / auth["ca_file"]) if auth["ca_file"] else None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if auth["certificate"]:
            secret = "" if password is None else password.get_secret_value()
            # An empty password makes OpenSSL fail where it would otherwise ask at the terminal.
            context.load_cert_chain(folder / auth["certificate"], folder / auth["private_key"], password=lambda: secret)
    except (OSError, ValueError) as error:
        files = ", ".join(str(auth[key]) for key in ("ca_file", "certificate", "private_key") if auth[key])
        what = error.strerror or type(error).__name__ if isinstance(error, OSError) else type(error).__name__
        raise SiteError(
            f"source {name!r}: cannot read {files} ({what}); give PEM files that exist, can be read and belong together",
            code="SPC-465",
        ) from None
    return context

"""Certificates of OPC UA: our own, those of servers, and whom we trust; a session that was opened only past that check."""

from __future__ import annotations

import hashlib
import json
import logging
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from spc_platform.collect.opcua_config import Options
from spc_platform.errors import PermanentError, SiteError, SpcError, TransientError
from spc_platform.lake.files import locked, make_folder, write_durably

try:
    from asyncua import ua
    from asyncua.client.client import Client
    from asyncua.client.ua_client import UaClientState
    from asyncua.crypto import cert_gen, security_policies, uacrypto
    from asyncua.ua.uaerrors import UaError, UaStatusCodeError
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.serialization import Encoding
except ImportError as error:
    raise SiteError(
        "OPC UA needs the client asyncua, which is not installed; install the platform with its extra: spc-platform[opcua]",
        code="SPC-464",
    ) from error

logger = logging.getLogger(__name__)
# Its INFO writes every message out, and DEBUG could show a password.
logging.getLogger("asyncua").setLevel(logging.ERROR)
# It shows every broken connection as a crash; the connector tells it once.
logging.getLogger("asyncua.client.ua_session.UaSession").setLevel(logging.CRITICAL)

__all__ = ["CONNECTED", "Client", "UaError", "check_trust", "open_session", "own_certificate", "thumbprint", "translated"]
OWN_YEARS = 10
WARN_DAYS = 30
CONNECTED = UaClientState.CONNECTED
_OURS = ("BadSecurityChecksFailed", "BadCertificate")
_USER = ("BadUserAccessDenied", "BadIdentityToken", "BadUserSignatureInvalid")


def thumbprint(der: bytes) -> str:
    """The name under which OPC UA tools show a certificate: the SHA-1 of its DER bytes."""
    return hashlib.sha1(der, usedforsecurity=False).hexdigest().upper()


def application_uri(certificate: x509.Certificate) -> str:
    """The application that a certificate belongs to; empty when it does not say."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ""
    return next(iter(names.get_values_for_type(x509.UniformResourceIdentifier)), "")


async def own_certificate(options: Options) -> tuple[Path, Path]:
    """Our certificate and private key: those of the site, or made once. Raises SiteError for files that cannot be used."""
    certificate, key = options.certificate, options.private_key
    if certificate is None or key is None:
        certificate, key = options.pki / "own" / "certificate.der", options.pki / "own" / "private_key.pem"
        make_folder(certificate.parent)
        with locked(options.pki / "own" / "lock", 30.0, "the own certificate of OPC UA"):
            if not (certificate.exists() and key.exists()):
                _make_own(certificate, key)
    try:
        valid_until = (await uacrypto.load_certificate(certificate)).not_valid_after_utc
        await uacrypto.load_private_key(key, options.identity.key_password.get_secret_value() or None)
    except (OSError, ValueError, TypeError, UaError) as error:
        raise SiteError(
            f"source {options.source_id!r}: certificate {certificate} or private key {key} cannot be read: "
            f"{type(error).__name__}; correct auth.certificate, auth.private_key or auth.key_secret_env",
            code="SPC-462",
        ) from None
    left = valid_until - datetime.now(UTC)
    if left < timedelta(0):
        raise SiteError(
            f"source {options.source_id!r}: our certificate {certificate} ended on {valid_until:%Y-%m-%d}; replace it (remove "
            "a made one to have it made anew) and have the server trust the new one",
            code="SPC-462",
        )
    if left < timedelta(days=WARN_DAYS):
        logger.warning("source %s: our certificate %s ends on %s", options.source_id, certificate, valid_until.date())
    return certificate, key


def _make_own(certificate: Path, key: Path) -> None:
    host = socket.gethostname()
    uri = f"urn:{host}:spc-platform"
    private = cert_gen.generate_private_key()
    made = cert_gen.generate_self_signed_app_certificate(
        private,
        "spc-platform",
        {"organizationName": "spc-platform"},
        [x509.UniformResourceIdentifier(uri), x509.DNSName(host)],
        [x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH],
        days=365 * OWN_YEARS,
    )
    key.parent.chmod(0o700)
    write_durably(key, cert_gen.dump_private_key_as_pem(private))
    key.chmod(0o600)
    write_durably(certificate, made.public_bytes(Encoding.DER))


def check_trust(options: Options, der: bytes, uri: str) -> x509.Certificate:
    """The server's certificate, if it is in the trusted folder or signed by one that is, valid now, and of the server ``uri``.

    Raises PermanentError with its thumbprint and what to do; the refused certificate is kept for that.
    """
    certificate = x509.load_der_x509_certificate(der)
    wrong = _why_not_trusted(options, certificate, uri)
    if wrong is None:
        return certificate
    refused = options.pki / "rejected" / f"{thumbprint(der)}.der"
    make_folder(refused.parent)
    write_durably(refused, der)
    raise PermanentError(
        f"source {options.source_id!r}: the certificate of {options.url} is refused, {wrong}. It says "
        f"{certificate.subject.rfc4514_string()}, thumbprint {thumbprint(der)} (SHA-256 {hashlib.sha256(der).hexdigest()}), "
        f"valid {certificate.not_valid_before_utc:%Y-%m-%d} to {certificate.not_valid_after_utc:%Y-%m-%d}. Compare the "
        f"thumbprint with the one that the server itself shows; if they are equal, move {refused} to {options.trusted}",
        code="SPC-281",
    )


def _why_not_trusted(options: Options, certificate: x509.Certificate, uri: str) -> str | None:
    now = datetime.now(UTC)
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        return "it is not valid now"
    if application_uri(certificate) != uri:
        return f"it belongs to application {application_uri(certificate)!r} and the server says it is {uri!r}"
    trusted = list(_trusted(options.trusted))
    issuers = [each for each in trusted if each == certificate or _issued(each, certificate)]
    if not issuers:
        return f"neither it nor its issuer is in {options.trusted}"
    for crl in _revocations(options.trusted):
        is_theirs = any(crl.issuer == each.subject and crl.is_signature_valid(each.public_key()) for each in issuers)  # type: ignore[arg-type]
        if is_theirs and crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None:
            return "its issuer revoked it"
    return None


def _issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        is_authority = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        certificate.verify_directly_issued_by(issuer)
    except (x509.ExtensionNotFound, ValueError, TypeError, InvalidSignature):
        return False
    return is_authority and issuer.not_valid_after_utc >= datetime.now(UTC)


def _trusted(folder: Path) -> Iterator[x509.Certificate]:
    for path in sorted(folder.glob("*")):
        try:
            if path.suffix.lower() in (".der", ".cer", ".crt"):
                body = path.read_bytes()
                yield (
                    x509.load_pem_x509_certificate(body) if body.startswith(b"-----") else x509.load_der_x509_certificate(body)
                )
            elif path.suffix.lower() == ".pem":
                yield from x509.load_pem_x509_certificates(path.read_bytes())
        except (OSError, ValueError) as error:
            logger.warning("%s is no certificate that can be read (%s); it is left out", path, type(error).__name__)


def _revocations(folder: Path) -> Iterator[x509.CertificateRevocationList]:
    for path in sorted(folder.glob("*.crl")):
        body = path.read_bytes()
        yield x509.load_pem_x509_crl(body) if body.startswith(b"-----") else x509.load_der_x509_crl(body)


async def open_session(options: Options, session_file: Path | None = None) -> tuple[Client, bool]:
    """A client with an active session, and whether that is the one which ``session_file`` names, with its subscriptions.

    Raises TransientError when the server is away, PermanentError when it or we refuse, SiteError for files of ours.
    """
    client = Client(options.url, timeout=options.timeout_s, watchdog_intervall=options.timeout_s)
    client.name = client.description = "spc-platform"
    client.session_timeout = int(options.keep_s * 1000)
    try:
        await _secure(client, options)
        await _identify(client, options)
        before = _known_session(session_file)
        client.session_state_path = session_file
        await client.connect()
    except BaseException as error:
        client.disconnect_socket()
        if isinstance(error, SpcError) or not isinstance(error, Exception):
            raise
        raise translated(options, error) from None
    return client, client.uaclient.session.authentication_token.to_string() == before


def _known_session(path: Path | None) -> str | None:
    """The token of the session file, made young: only the server knows whether it still keeps the session."""
    if path is None or not path.exists():
        return None
    try:
        known = json.loads(path.read_text())
        path.write_text(json.dumps(known | {"saved_at": time.time()}))
        return str(known["authentication_token"])
    except (OSError, ValueError, TypeError, KeyError):
        path.unlink(missing_ok=True)
        return None


async def _secure(client: Client, options: Options) -> None:
    endpoints = await client.connect_and_get_server_endpoints()
    policy = getattr(security_policies, f"SecurityPolicy{options.policy if options.is_secure else 'None'}")
    # asyncua calls the mode None "None_", because None is a word of Python.
    mode = getattr(ua.MessageSecurityMode, options.security if options.is_secure else "None_")
    offered = [each for each in endpoints if each.SecurityPolicyUri == policy.URI and each.SecurityMode == mode]
    if not offered:
        has = sorted({f"{each.SecurityPolicyUri.rpartition('#')[2]}/{each.SecurityMode.name}" for each in endpoints})
        raise PermanentError(
            f"source {options.source_id!r}: {options.url} does not offer {options.policy}/{options.security}; it has: "
            f"{', '.join(has)}. Have it switched on at the server, or choose another by auth.policy and auth.security",
            code="SPC-282",
        )
    if not options.is_secure:
        return
    der = offered[0].ServerCertificate
    # A chain begins with the server's own certificate.
    server = check_trust(options, der[: int.from_bytes(der[2:4], "big") + 4], offered[0].Server.ApplicationUri)
    certificate, key = await own_certificate(options)
    client.application_uri = application_uri(await uacrypto.load_certificate(certificate))
    await client.set_security(
        policy,
        certificate,
        key,
        options.identity.key_password.get_secret_value() or None,
        uacrypto.CertProperties(server.public_bytes(Encoding.DER), "der"),
        mode,
    )
    # A session that is taken up again is told the server's tokens by nobody else.
    client._policy_ids = offered[0].UserIdentityTokens  # noqa: SLF001


async def _identify(client: Client, options: Options) -> None:
    identity = options.identity
    if identity.kind == "user":
        client.set_user(identity.user.get_secret_value())
        client.set_password(identity.password.get_secret_value())
    elif identity.certificate is not None and identity.private_key is not None:
        try:
            await client.load_client_certificate(str(identity.certificate))
            await client.load_private_key(identity.private_key, identity.key_password.get_secret_value() or None)
        except (OSError, ValueError, TypeError) as error:
            raise SiteError(
                f"source {options.source_id!r}: {identity.certificate} or {identity.private_key} cannot be read: "
                f"{type(error).__name__}; correct auth.user_certificate, auth.user_private_key or auth.key_secret_env",
                code="SPC-462",
            ) from None


def translated(options: Options, error: Exception) -> SpcError:
    """The platform's error for one of the client, the network or the server."""
    where = f"source {options.source_id!r}: {options.url}"
    if not isinstance(error, UaStatusCodeError):
        said = str(error) or type(error).__name__
        return TransientError(f"{where} is away: {said}; it is tried again", code="SPC-151")
    name = ua.StatusCode(error.code).name
    if name.startswith(_OURS):
        return PermanentError(
            f"{where} refuses our certificate ({name}); have the server trust {options.certificate or options.pki / 'own'}, "
            "then start again",
            code="SPC-280",
        )
    if name.startswith(_USER):
        return PermanentError(
            f"{where} refuses the {options.identity.kind} user ({name}); check the variables or files that auth names and the "
            "user's rights at the server",
            code="SPC-283",
        )
    return TransientError(f"{where} answers {name}; it is tried again", code="SPC-153")

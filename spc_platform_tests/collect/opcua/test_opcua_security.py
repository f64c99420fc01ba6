"""Certificates and users of OPC UA: nobody is believed who was not made known, and no secret is seen."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from asyncua.crypto import cert_gen, uacrypto
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from spc_platform.collect.opcua_config import read_options
from spc_platform.collect.opcua_security import check_trust, own_certificate, thumbprint
from spc_platform.errors import PermanentError, SiteError
from spc_platform.settings import Settings
from spc_platform_tests.collect.conftest import subscription
from spc_platform_tests.collect.opcua.collection import Collection
from spc_platform_tests.collect.opcua.peer import Peer

URI = "urn:plant:line1"
MOMENT_S = 1.1
MOMENT = MOMENT_S / 86400
"""Days for which a certificate is valid that is to have ended."""
SECURE = {"trusted": "trusted"}
SERVER, CLIENT = x509.oid.ExtendedKeyUsageOID.SERVER_AUTH, x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH


@dataclass
class Pair:
    certificate: Path
    private_key: Path

    @property
    def der(self) -> bytes:
        return self.certificate.read_bytes()

    @property
    def files(self) -> dict[str, str]:
        return {"certificate": str(self.certificate), "private_key": str(self.private_key)}


def make_pair(folder: Path, name: str, uri: str = URI, days: float = 30) -> Pair:
    folder.mkdir(parents=True, exist_ok=True)
    key = cert_gen.generate_private_key()
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri), x509.DNSName("localhost")]
    made = cert_gen.generate_self_signed_app_certificate(key, name, {}, names, [SERVER, CLIENT], days=days)
    pair = Pair(folder / f"{name}.der", folder / f"{name}.pem")
    pair.certificate.write_bytes(made.public_bytes(Encoding.DER))
    pair.private_key.write_bytes(cert_gen.dump_private_key_as_pem(key))
    return pair


@pytest.fixture
def server_pair(tmp_path: Path) -> Pair:
    return make_pair(tmp_path / "server", "server")


@pytest.fixture
def trusted(tmp_path: Path) -> Path:
    (tmp_path / "trusted").mkdir()
    return tmp_path / "trusted"


def own(tmp_path: Path) -> Path:
    return tmp_path / "data" / "pki" / "opcua" / "own" / "certificate.der"


def test_an_unknown_server_is_refused_with_its_thumbprint_and_trusted_once_it_was_moved(
    peer: Callable[..., Peer],
    collect: Callable[..., Collection],
    server_pair: Pair,
    trusted: Path,
) -> None:
    server = peer(**server_pair.files)
    with collect(server, auth=SECURE) as collection:
        error = collection.failed()
    assert (type(error), error.code) == (PermanentError, "SPC-281")
    assert thumbprint(server_pair.der) in str(error)
    refused = Path(str(error).partition("move ")[2].partition(" to ")[0])
    assert refused.read_bytes() == server_pair.der
    refused.rename(trusted / refused.name)
    with collect(server, auth=SECURE) as collection:
        collection.connected()
        server.write("dia", 25.0, at=1)
        collection.has(0.0, 25.0)
        assert collection.sink is not None
        assert collection.sink.health.detail.endswith("SignAndEncrypt")
        assert collection.sink.health.is_connected


def test_a_secure_session_is_taken_up_again(
    peer: Callable[..., Peer],
    collect: Callable[..., Collection],
    server_pair: Pair,
    trusted: Path,
    tmp_path: Path,
) -> None:
    (trusted / "server.der").write_bytes(server_pair.der)
    server = peer(**server_pair.files)
    for count in (1, 2):
        with collect(server, auth=SECURE) as collection:
            collection.connected()
            server.write("dia", float(count), at=count)
            collection.has(*(float(n) for n in range(count + 1)))
            assert collection.sink is not None
            said = collection.sink.health.detail
        server.write("dia", float(count), at=count)
    assert said.startswith("taken up again")
    key = own(tmp_path).with_name("private_key.pem")
    assert key.stat().st_mode & 0o077 == 0
    assert (tmp_path / "data" / "pki" / "opcua" / "sessions" / "line1.json").stat().st_mode & 0o077 == 0


def test_a_server_that_does_not_know_us_names_our_certificate_and_takes_us_once_it_does(
    peer: Callable[..., Peer],
    collect: Callable[..., Collection],
    server_pair: Pair,
    trusted: Path,
    tmp_path: Path,
) -> None:
    (trusted / "server.der").write_bytes(server_pair.der)
    known = tmp_path / "known_to_the_server"
    known.mkdir()
    (known / "other.der").write_bytes(make_pair(tmp_path / "other", "other").der)
    server = peer(**server_pair.files, trusted=str(known))
    with collect(server, auth=SECURE) as collection:
        error = collection.failed()
    assert (type(error), error.code) == (PermanentError, "SPC-280")
    (known / "ours.der").write_bytes(own(tmp_path).read_bytes())
    server.kill()
    server.start()
    with collect(server, auth=SECURE) as collection:
        collection.connected()


def test_user_and_password_are_taken_and_seen_nowhere(
    peer: Callable[..., Peer],
    collect: Callable[..., Collection],
    server_pair: Pair,
    trusted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    (trusted / "server.der").write_bytes(server_pair.der)
    server = peer(**server_pair.files, users=True)
    auth = SECURE | {"identity": "user", "user_env": "SPC_T_USER", "secret_env": "SPC_T_PASSWORD"}
    monkeypatch.setenv("SPC_T_USER", "collector")
    monkeypatch.setenv("SPC_T_PASSWORD", "wr0ng-canary")
    with collect(server, auth=auth) as collection:
        error = collection.failed()
    assert (type(error), error.code) == (PermanentError, "SPC-283")
    monkeypatch.setenv("SPC_T_PASSWORD", "s3cret-canary")
    with collect(server, auth=auth) as collection:
        collection.connected()
        server.write("dia", 25.0, at=1)
        collection.has(0.0, 25.0)
        shown = repr(collection.connector) + repr(collection.connector.options) + str(vars(collection.connector))
    with collect(server, auth=auth) as collection:
        collection.connected()
        assert collection.sink is not None
        assert collection.sink.health.detail.startswith("taken up again")
    assert "canary" not in shown + str(error) + caplog.text
    written = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert written
    assert not [path for path in written if b"canary" in path.read_bytes()]


def test_a_user_may_be_a_certificate(
    peer: Callable[..., Peer],
    collect: Callable[..., Collection],
    server_pair: Pair,
    trusted: Path,
    tmp_path: Path,
) -> None:
    (trusted / "server.der").write_bytes(server_pair.der)
    user = make_pair(tmp_path / "user", "user", "urn:user")
    stranger = make_pair(tmp_path / "stranger", "stranger", "urn:user")
    server = peer(**server_pair.files, user_certificate=str(user.certificate))

    def auth(pair: Pair) -> dict[str, Any]:
        files = {"user_certificate": str(pair.certificate), "user_private_key": str(pair.private_key)}
        return SECURE | {"identity": "certificate"} | files

    with collect(server, auth=auth(stranger)) as collection:
        assert collection.failed().code == "SPC-283"
    with collect(server, auth=auth(user)) as collection:
        collection.connected()


def test_no_weaker_security_is_taken_than_asked_for(
    peer: Callable[..., Peer],
    collect: Callable[..., Collection],
) -> None:
    server = peer()
    with collect(server, auth={}) as collection:
        error = collection.failed()
    assert (type(error), error.code) == (PermanentError, "SPC-282")
    assert "it has: None/None_" in str(error)


def signed(authority: Pair, folder: Path, name: str, *, days: float = 30, uri: str = URI) -> bytes:
    """A server's certificate of an authority."""
    key = cert_gen.generate_private_key()
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri)]
    request = cert_gen.generate_app_certificate_signing_request(key, name, {}, names, [SERVER])
    issuer = x509.load_der_x509_certificate(authority.der)
    private = asyncio.run(uacrypto.load_private_key(authority.private_key))
    made = cert_gen.sign_certificate_request(request, issuer, private, days=days)
    return bytes(made.public_bytes(Encoding.DER))


def test_an_authority_is_trusted_for_what_it_signed_unless_it_revoked_it(tmp_path: Path, trusted: Path) -> None:
    authority, other = make_pair(tmp_path / "ca", "ca", "urn:ca"), make_pair(tmp_path / "ca", "other", "urn:ca")
    options = read_options(
        subscription(base_url="opc.tcp://here:4840", auth=SECURE), Settings(site=tmp_path, data=tmp_path / "data")
    )
    good, wrong = signed(authority, tmp_path, "good"), signed(other, tmp_path, "wrong")
    old = signed(authority, tmp_path, "old", days=MOMENT)
    (trusted / "ca.der").write_bytes(authority.der)
    assert check_trust(options, good, URI)
    time.sleep(MOMENT_S + 1)
    for der, uri, why in (
        (wrong, URI, "nor its issuer"),
        (good, "urn:other", "belongs to application"),
        (old, URI, "not valid now"),
    ):
        with pytest.raises(PermanentError, match=why):
            check_trust(options, der, uri)
    now = datetime.now(UTC)
    serial = x509.load_der_x509_certificate(good).serial_number
    revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
    listed = x509.CertificateRevocationListBuilder().issuer_name(x509.load_der_x509_certificate(authority.der).subject)
    listed = listed.last_update(now).next_update(now + timedelta(days=1)).add_revoked_certificate(revoked)
    private = asyncio.run(uacrypto.load_private_key(authority.private_key))
    (trusted / "ca.crl").write_bytes(listed.sign(private, hashes.SHA256()).public_bytes(Encoding.DER))
    with pytest.raises(PermanentError, match="revoked"):
        check_trust(options, good, URI)


def test_our_certificate_that_ended_or_cannot_be_read_is_said(tmp_path: Path) -> None:
    ended = make_pair(tmp_path / "own", "ended", days=MOMENT)
    time.sleep(MOMENT_S + 1)
    broken = tmp_path / "broken.der"
    broken.write_bytes(b"no certificate")
    for certificate, text in (
        (ended.certificate, "ended on"),
        (broken, "cannot be read"),
        (tmp_path / "none.der", "cannot be read"),
    ):
        auth = {"certificate": str(certificate), "private_key": str(ended.private_key)}
        options = read_options(subscription(base_url="opc.tcp://here:4840", auth=auth), Settings(data=tmp_path / "data"))
        with pytest.raises(SiteError, match=text) as refused:
            asyncio.run(own_certificate(options))
        assert refused.value.code == "SPC-462"

# SPDX-License-Identifier: Apache-2.0
"""Certificates that real TLS accepts for what they are for, and refuses for anything else."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from vdsm.daemon import pki
from vdsm.daemon.pki import Authority, PkiError


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    authority = Authority(tmp_path / "pki")
    authority.init(["host.example.org", "192.0.2.7"])
    authority.client("alice")
    return authority


def shake_hands(directory: Path, *, name: str = "host.example.org", server: str = "host", client: str = "") -> str:
    """A TLS handshake and one byte each way; the common name the server saw. Raises ssl.SSLError."""
    ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(directory / "ca.pem"))
    ours.verify_mode = ssl.CERT_REQUIRED if client else ssl.CERT_NONE
    ours.load_cert_chain(directory / f"{server}.pem", directory / f"{server}.key")
    theirs = ssl.create_default_context(cafile=str(directory / "ca.pem"))
    theirs.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on
    if client:
        theirs.load_cert_chain(directory / f"{client}.pem", directory / f"{client}.key")
    left, right = socket.socketpair()
    seen: list[str] = []
    failures: list[Exception] = []

    def serve() -> None:
        try:
            with ours.wrap_socket(left, server_side=True) as served:
                certificate = served.getpeercert() or {}
                seen.extend(v for part in certificate.get("subject", ()) for k, v in part if k == "commonName")
                served.send(b"1")
                served.recv(1)
        except OSError as error:
            failures.append(error)
            left.close()

    server_thread = threading.Thread(target=serve)
    server_thread.start()
    try:
        with theirs.wrap_socket(right, server_hostname=name) as connected:
            assert connected.recv(1) == b"1"
            connected.send(b"2")
    finally:
        right.close()
        server_thread.join()
    if failures:
        raise failures[0]
    return "".join(seen)


def test_host_and_client_know_each_other(tmp_path: Path, authority: Authority) -> None:
    directory = tmp_path / "pki"
    for name in ("host.example.org", "192.0.2.7", "localhost", "127.0.0.1", "::1", socket.gethostname()):
        assert shake_hands(directory, name=name, client="clients/alice") == "alice"


def test_each_certificate_serves_its_own_purpose_only(tmp_path: Path, authority: Authority) -> None:
    directory = tmp_path / "pki"
    with pytest.raises(ssl.SSLError):
        shake_hands(directory, client="host")  # a host's certificate lets nobody in
    with pytest.raises(ssl.SSLError):
        shake_hands(directory, server="clients/alice")  # a client's cannot pose as the host
    with pytest.raises(ssl.SSLError):
        shake_hands(directory, name="other.example.org")
    stranger = Authority(tmp_path / "other")
    stranger.init()
    stranger.client("alice")
    for suffix in (".pem", ".key"):
        (directory / f"clients/mallory{suffix}").write_bytes((tmp_path / f"other/clients/alice{suffix}").read_bytes())
    with pytest.raises(ssl.SSLError):
        shake_hands(directory, client="clients/mallory")


def test_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        authority = Authority(tmp_path / "pki")
        authority.init()
        authority.client("alice")
    finally:
        os.umask(before)
    modes = {f.name: stat.S_IMODE(f.stat().st_mode) for f in (tmp_path / "pki").rglob("*")}
    assert modes == {
        ".lock": 0o600, "ca.key": 0o600, "ca.pem": 0o644, "host.key": 0o600, "host.pem": 0o644,
        "clients": 0o700, "alice.key": 0o600, "alice.pem": 0o644,
    }  # fmt: skip


def test_init_again_changes_nothing(tmp_path: Path, authority: Authority) -> None:
    before = {c.file: c.fingerprint for c in authority.show()}
    assert authority.init() == []
    assert {c.file: c.fingerprint for c in authority.show()} == before
    assert [c.kind for c in authority.show()] == ["ca", "host", "client"]


def test_an_interrupted_init_goes_on(tmp_path: Path, authority: Authority) -> None:
    (tmp_path / "pki/host.pem").unlink()
    key = (tmp_path / "pki/ca.key").read_bytes()
    (tmp_path / "pki/ca.pem").unlink()
    assert [c.kind for c in authority.init()] == ["ca", "host"]
    assert (tmp_path / "pki/ca.key").read_bytes() == key


@pytest.mark.parametrize("age", ["soon", "past"])
def test_renewal_near_and_past_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age: str) -> None:
    directory = tmp_path / "pki"
    with monkeypatch.context() as patch:
        # Made as if long ago: nothing else differs.
        patch.setattr(pki, "CERTIFICATE_DAYS", 0.02 if age == "soon" else -0.01)
        patch.setattr(pki, "CA_DAYS", 0.02 if age == "soon" else -0.01)
        authority = Authority(directory)
        authority.init(["host.example.org"])
        authority.client("alice")
        authority.client("bob")
    (directory / "clients/bob.key").rename(tmp_path / "bob.key")  # handed over, as it should be
    old_ca = (directory / "ca.pem").read_bytes()
    if age == "past":
        with pytest.raises(ssl.SSLError):
            shake_hands(directory, client="clients/alice")
    made = authority.renew()
    assert [c.kind for c in made] == ["ca", "host", "client", "client"]
    assert all(c.expires > dt.datetime.now(dt.UTC) + dt.timedelta(days=300) for c in made)
    assert shake_hands(directory, client="clients/alice") == "alice"
    (tmp_path / "bob.key").rename(directory / "clients/bob.key")
    assert shake_hands(directory, client="clients/bob") == "bob"
    assert "host.example.org" in authority.show()[1].names
    if age == "soon":
        (directory / "ca.pem").write_bytes(old_ca)  # a client that still has the old one
        assert shake_hands(directory, client="clients/alice") == "alice"
        authority.renew(everything=True)
    assert authority.renew() == []


def test_renewing_all_and_the_host_alone(authority: Authority) -> None:
    before = {c.file: c.fingerprint for c in authority.show()}
    host = authority.host(["new.example.org"])
    assert "new.example.org" in host.names
    assert "host.example.org" not in host.names
    after = {c.file: c.fingerprint for c in authority.show()}
    assert [file.name for file in before if before[file] != after[file]] == ["host.pem"]
    assert len(authority.renew(everything=True)) == 3
    assert all(after[c.file] != c.fingerprint for c in authority.show())


@pytest.mark.parametrize("name", ["", "..", "../alice", "a/b", ".hidden", "a\nb", "-x", "a" * 65, "a b", "ä"])
def test_a_client_name_is_a_name(authority: Authority, name: str) -> None:
    with pytest.raises(PkiError, match="no name for a client"):
        authority.client(name)


@pytest.mark.parametrize("name", ["a b", "", "http://x", "-x", "a\n", "ä.example"])
def test_a_host_name_is_a_name(authority: Authority, name: str) -> None:
    with pytest.raises(PkiError, match="not a host name or address"):
        authority.host([name])


def test_clear_refusals(tmp_path: Path, authority: Authority) -> None:
    with pytest.raises(PkiError, match="exists already"):
        authority.client("alice")
    with pytest.raises(PkiError, match="vdsmd pki init"):
        Authority(tmp_path / "empty").client("alice")
    (tmp_path / "pki/ca.key").write_text("no key")
    with pytest.raises(PkiError, match=r"ca\.key is no key"):
        authority.client("bob")
    assert not (tmp_path / "pki/clients/bob.key").exists()
    (tmp_path / "pki/host.pem").write_text("no certificate")
    with pytest.raises(PkiError, match=r"host\.pem is no certificate"):
        authority.show()
    (tmp_path / "file").write_text("")
    with pytest.raises(PkiError, match="Not a directory"):
        Authority(tmp_path / "file" / "pki").init()


def test_the_extensions_are_the_right_ones(tmp_path: Path, authority: Authority) -> None:
    ca, host, client = (c.loaded for c in authority.show())
    constraints = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)
    assert ca.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    for leaf in (host, client):
        assert isinstance(leaf.public_key(), ec.EllipticCurvePublicKey)
        assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        assert not leaf.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
        leaf.verify_directly_issued_by(ca)
        assert leaf.not_valid_before_utc < dt.datetime.now(dt.UTC) - dt.timedelta(minutes=30), "clocks differ"
    names = host.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert ipaddress.ip_address("192.0.2.7") in names.get_values_for_type(x509.IPAddress)
    assert "host.example.org" in names.get_values_for_type(x509.DNSName)
    assert len({c.loaded.serial_number for c in authority.show()}) == 3

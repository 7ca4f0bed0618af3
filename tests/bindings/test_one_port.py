# SPDX-License-Identifier: Apache-2.0
"""One port for all protocols: the first bytes choose, and the certificate says who calls."""

from __future__ import annotations

import contextlib
import datetime as dt
import http.client
import secrets
import socket
import ssl
import subprocess
import sys
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from harness.manager_pki import ManagerPki
from harness.memory_host import MemoryHost
from harness.stomp import Closed, Failed, JavaClient, StompClient, Wired
from harness.until import until
from vdsm.bindings.identity import Identity, Roles
from vdsm.bindings.stomp import StompWire
from vdsm.daemon.pki import Authority
from vdsm.protocols.stomp import CLIENT_COMMANDS


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wired]:
    made = Wired(tmp_path_factory.mktemp("port"), f"vdsmtest-{secrets.token_hex(4)}", "[limits]\nhead_seconds = 2.0\n")
    yield made.serve(machines=1)
    made.end()


RECOVERING = 99
_HOST = MemoryHost(None)
WIRE = StompWire(_HOST.bridge, Identity(Roles(), _HOST.refusals, binding="stomp"))


# ---- first bytes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "known"),
    [
        (b"CONNECT\n", True),
        (b"STOMP\r\n", True),
        (b"\n\r\n\nSUBSCRIBE\nid:1", True),
        (b"UNSUBSCRIBE\n", True),
        (b"S", None),
        (b"CONNECT", None),
        (b"CONNECT\r", None),
        (b"\r\n", None),
        (b"\n" * 100, False),
        (b"CONNECT host:443 HTTP/1.1\r\n", False),
        (b"SENDER\n", False),
        (b"GET / HTTP/1.1\r\n", False),
        (b"G", False),
        (b"DELETE", False),
        (b"DE", False),
        (b"connect\n", False),
        (b"\x16\x03\x01", False),
        (b"AMQP", False),
    ],
)
def test_stomp_is_known_by_its_first_line(start: bytes, known: bool | None) -> None:
    assert WIRE.knows(start) is known


@given(
    st.binary(min_size=1, max_size=30) | st.sampled_from(sorted(CLIENT_COMMANDS)).map(str.encode), st.binary(max_size=9)
)
def test_more_bytes_never_change_the_answer(start: bytes, more: bytes) -> None:
    known = WIRE.knows(start)
    if known is not None:
        assert WIRE.knows(start + more) is known


def test_every_protocol_on_each_port(wired: Wired) -> None:
    for scheme in ("http", "https"):
        context = wired.context() if scheme == "https" else None
        with StompClient(wired.port(scheme), context).open() as client:
            assert client.call("Host.ping") is True
        for path in ("/health", "/api/v1/host/ping2", "/api/docs"):
            status, _ = fetch(wired, scheme, "GET", path)
            assert status in (200, 204), path


def fetch(wired: Wired, scheme: str, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", wired.port(scheme), timeout=60)
    connection.connect()
    if scheme == "https":
        connection.sock = wired.context().wrap_socket(connection.sock)
    with contextlib.closing(connection):
        connection.request(method, path, body or None, {name.replace("_", "-"): v for name, v in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_first_line_in_pieces(wired: Wired, scheme: str) -> None:
    with StompClient(wired.port(scheme), wired.context() if scheme == "https" else None) as client:
        for byte in b"CONNECT\naccept-version:1.2\n\n\0":
            client.sock.sendall(bytes([byte]))
        assert client.read().command == "CONNECTED"
    with StompClient(wired.port(scheme), wired.context() if scheme == "https" else None) as client:
        for byte in b"DELETE /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n":
            client.sock.sendall(bytes([byte]))
        client.sock.settimeout(20)
        assert client.sock.recv(100).startswith(b"HTTP/1.1 404")


@pytest.mark.parametrize("data", [b"\0" * 100, b"AMQP\0\1\0\0", b"\xff\xfe", b"\n" * 5000, b"NONSENSE\r\n\r\n"])
def test_other_protocols_are_let_go(wired: Wired, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", wired.port()), timeout=60) as sock:
        sock.sendall(data)
        with contextlib.suppress(ConnectionError):
            answer = sock.recv(1000)
            assert answer == b"" or answer.startswith(b"HTTP/1.1 400")
            while sock.recv(1000):
                pass


# ---- who calls -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_certificate_is_a_role(wired: Wired, version: ssl.TLSVersion) -> None:
    with wired.tls("engine", version).open() as client:
        assert isinstance(client.sock, ssl.SSLSocket)
        assert client.sock.version() == version.name.replace("_", ".")
        client.call("Host.setLogLevel", {"level": "INFO", "name": "vdsm.core"})
        record = client.call("Audit.list", {"limit": 10_000})[-1]
        assert (record["caller"], record["channel"]) == ("cert:CN=engine", "stomp+tls")
    with wired.tls("watcher", version).open() as client, pytest.raises(Failed) as failed:
        client.call("Host.setLogLevel", {"level": "INFO"})
    assert failed.value.error["data"]["type"] == "urn:vdsm:problem:access-denied"


@pytest.mark.parametrize("client", ["", "nobody"])
def test_without_a_role_there_is_no_connection(wired: Wired, client: str) -> None:
    with wired.tls(client) as unknown:
        unknown.send("CONNECT", **{"accept-version": "1.2"})
        assert "caller is not known" in unknown.error()
        assert unknown.closed()


def test_old_tls_is_refused(wired: Wired) -> None:
    context = wired.context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        StompClient(wired.port("https"), context)


@pytest.mark.parametrize("fault", ["another authority", "expired", "not yet valid"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_bad_certificate_is_refused(wired: Wired, tmp_path: Path, fault: str, version: ssl.TLSVersion) -> None:
    context = wired.context("", version)
    if fault == "another authority":
        other = Authority(tmp_path / "pki")
        other.init()
        other.client("engine")
        context.load_cert_chain(tmp_path / "pki/clients/engine.pem", tmp_path / "pki/clients/engine.key")
    else:
        begin = dt.timedelta(days=-20 if fault == "expired" else 10)
        context.load_cert_chain(signed(wired.state / "pki", tmp_path, begin))
    with pytest.raises((ssl.SSLError, ConnectionError, Closed)), StompClient(wired.port("https"), context) as client:
        client.connect()  # with TLS 1.3 the client learns of it only now


def signed(pki: Path, where: Path, begin: dt.timedelta) -> Path:
    """A client's certificate of the host's own authority that is good for ten days."""
    authority = x509.load_pem_x509_certificate((pki / "ca.pem").read_bytes())
    signer = serialization.load_pem_private_key((pki / "ca.key").read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    start = dt.datetime.now(dt.UTC) + begin
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "engine")]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=10))
        .sign(signer, hashes.SHA256())
    )
    file = where / "client.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return file


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_managers_own_certificates(tmp_path: Path, prefix: str, version: ssl.TLSVersion) -> None:
    pki = ManagerPki(tmp_path / "manager")
    certificate, key = pki.issue("host.example.org")
    wired = Wired(tmp_path, prefix)
    wired.file.write_text(
        wired.file.read_text()
        .replace("[rest]\n", f'[rest]\ncertificate = "{certificate}"\nkey = "{key}"\nca = "{pki.ca}"\n')
        .replace('engine = "admin"', '"engine.example.org" = "admin"')
    )
    try:
        wired.serve()
        with JavaClient(wired.port("https"), pki.context("engine.example.org", version)) as client:
            client.call("Host.setLogLevel", {"level": "INFO"})
        with pytest.raises((ssl.SSLError, ConnectionError, Closed)), wired.tls("engine") as stranger:
            stranger.connect()  # of the daemon's own authority, which does not count then
    finally:
        wired.end()


# ---- without TLS -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("127.0.0.1:80", 200),
        ("[::1]:1", 200),
        ("evil.example", 421),
        ("", 421),
        ("localhost.evil", 421),
    ],
)
def test_a_web_site_cannot_pass_for_this_host(wired: Wired, host: str, status: int) -> None:
    found, body = fetch(wired, "http", "GET", "/api/v1/vms", Host=host)
    assert found == status, body


def refused(home: Path, config: str) -> str:
    file = home / "vdsmd.toml"
    file.write_text(f'[daemon]\nstate_directory = "{home}/state"\nrun_directory = "{home}/run"\n[plain]\n{config}')
    command = [sys.executable, "-m", "vdsm.daemon", "--config", str(file), "--simulate", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1"])
def test_only_the_loopback_address_unless_it_is_meant(tmp_path: Path, address: str) -> None:
    said = refused(tmp_path, f'listen = "{address}"\nport = 0\n')
    assert "anywhere = true" in said


def test_an_address_that_is_not_here(tmp_path: Path) -> None:
    said = refused(tmp_path, 'listen = "192.0.2.1"\nport = 0\nanywhere = true\n')
    assert "[plain] listen: cannot listen at 192.0.2.1" in said


def test_both_families_and_a_role_that_is_not_given(tmp_path: Path, prefix: str) -> None:
    wired = Wired(tmp_path, prefix)
    wired.file.write_text(
        wired.file.read_text().replace('[plain]\nlisten = "127.0.0.1"', '[plain]\nlisten = "localhost"')
    )
    wired.file.write_text(wired.file.read_text().replace('role = "admin"\n', ""))
    try:
        wired.serve()
        with wired.plain() as client:
            client.send("CONNECT", **{"accept-version": "1.2"})
            assert "caller is not known" in client.error()
        assert fetch(wired, "http", "GET", "/api/v1/vms")[0] == 401
        if socket.has_ipv6 and "[::1]" in wired.said():
            with socket.create_connection(("::1", wired.port())) as sock:
                sock.sendall(b"CONNECT\n\n\0")
                assert sock.recv(100).startswith(b"ERROR\n")
    finally:
        wired.end()


def test_every_address_of_both_families_when_it_is_meant(tmp_path: Path, prefix: str) -> None:
    wired = Wired(tmp_path, prefix, listen="::")
    wired.file.write_text(
        wired.file.read_text().replace('[plain]\nlisten = "127.0.0.1"', '[plain]\nanywhere = true\nlisten = "::"')
    )
    try:
        wired.serve()
        for scheme, context in (("http", None), ("https", wired.context())):
            port = wired.port(scheme)
            for host in ["127.0.0.1", *(["::1"] if f"{scheme}://[::]" in wired.said() else [])]:
                with StompClient(port, context, host=host).open() as client:
                    assert client.call("Host.ping") is True
                url_host = f"[{host}]" if ":" in host else host
                with xmlrpc.client.ServerProxy(f"{scheme}://{url_host}:{port}", context=context) as proxy:
                    assert proxy.ping() == {"status": {"code": 0, "message": "Done"}}
    finally:
        wired.end()


def test_the_wire_can_be_left_out(tmp_path: Path, prefix: str) -> None:
    wired = Wired(tmp_path, prefix, "[jsonrpc]\nenabled = false\n")
    try:
        wired.serve()
        with socket.create_connection(("127.0.0.1", wired.port()), timeout=60) as sock:
            sock.sendall(b"STOMP\n\n\0")
            assert sock.recv(1000).startswith(b"HTTP/1.1 400")
    finally:
        wired.end()


# ---- before the daemon is ready --------------------------------------------------------------------------------------


def test_until_it_is_ready_the_answer_is_99(tmp_path: Path, prefix: str) -> None:
    """Managers then ask again; a refused connection or another code would make them give the host up."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    wired = Wired(tmp_path, prefix, '[simulate]\nfaults = "domains:delay=3,times=1"\n')
    wired.file.write_text(
        wired.file.read_text().replace(
            '[plain]\nlisten = "127.0.0.1"\nport = 0', f'[plain]\nlisten = "127.0.0.1"\nport = {port}'
        )
    )
    try:
        wired.launch("--simulate", "0")
        with (
            until("it listens", lambda: opened(port)) as client,
            xmlrpc.client.ServerProxy(f"http://127.0.0.1:{port}") as proxy,
        ):
            host: Any = proxy
            client.open()
            for method in ("Host.ping", "Host.getCapabilities", "VM.create", "Host.getAllVmStats"):
                with pytest.raises(Failed) as failed:
                    client.call(method)
                assert failed.value.code == RECOVERING, method
            for name in ("ping", "getVdsCapabilities", "getAllVmStats"):
                assert getattr(host, name)()["status"]["code"] == RECOVERING, name
            until("it is ready", lambda: host.ping()["status"]["code"] == 0)
            assert client.call("Host.ping") is True
    finally:
        wired.end()


def opened(port: int) -> StompClient | None:
    try:
        return StompClient(port)
    except ConnectionRefusedError:
        return None

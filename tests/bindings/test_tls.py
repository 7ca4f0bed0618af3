# SPDX-License-Identifier: Apache-2.0
"""The network door: TLS, client certificates, tokens, renewal."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from harness.certificates import Authority, Pair
from harness.rest_server import OWN_ROLES, Reply, Server, exchange
from harness.until import until
from vdsm.bindings.identity import Roles
from vdsm.bindings.tls import ServerTls, TlsFiles
from vdsm.contract.access import Role

from .conftest import Serve

ROLES = Roles(users=OWN_ROLES.users, certificates={"engine": Role.ADMIN, "watcher": Role.VIEWER})


@dataclass
class Network:
    """A server on TCP, and what its clients need."""

    server: Server
    authority: Authority
    host: Pair
    port: int = 0

    def listen(self, **files: object) -> None:
        made = TlsFiles(
            **{
                "certificate": self.host.certificate,
                "key": self.host.key,
                "authority": self.authority.certificate,
                **files,
            }
        )
        self.port = self.server.listen(ServerTls(made))

    def context(self, client: Pair | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.authority.certificate)
        if client is not None:
            context.load_cert_chain(client.certificate, client.key)
        return context

    @contextmanager
    def connection(self, client: Pair | None = None) -> Iterator[http.client.HTTPSConnection]:
        made = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=30, context=self.context(client))
        try:
            yield made
        finally:
            made.close()

    def get(self, path: str, client: Pair | None = None, **headers: str) -> Reply:
        with self.connection(client) as connection:
            return exchange(connection, "GET", path, **headers)


@pytest.fixture
def network(serve: Serve, tmp_path: Path) -> Network:
    authority = Authority(tmp_path / "pki")
    return Network(serve(roles=ROLES, handshake_timeout=5.0), authority, authority.host())


REFUSED = (ssl.SSLError, ConnectionResetError, BrokenPipeError, http.client.RemoteDisconnected)


# ---- certificates ----------------------------------------------------------------------------------------------------


def test_a_certificate_is_an_identity(network: Network) -> None:
    network.listen()
    reply = network.get("/api/v1/tokens", network.authority.client("engine"))
    assert reply.status == 200
    assert reply.headers["strict-transport-security"].startswith("max-age=")
    body = network.get("/api/v1/tokens", network.authority.client("watcher")).problem("access-denied")
    assert body["facts"]["caller"] == "cert:CN=watcher"


def test_a_certificate_without_a_role_stays_out(network: Network) -> None:
    network.listen()
    network.get("/api/v1/vms", network.authority.client("somebody")).problem("unauthenticated")


def test_bad_certificates_are_refused(network: Network, tmp_path: Path) -> None:
    network.listen()
    authority = network.authority
    none = None
    foreign = Authority(tmp_path / "other").client("engine")
    expired = authority.client("old", days=(-9, -1))
    too_young = authority.client("young", days=(1, 9))
    for_hosts = authority.host("engine-host")
    for pair in (none, foreign, expired, too_young, for_hosts):
        with pytest.raises(REFUSED):
            network.get("/health", pair)
    assert network.get("/health", authority.client("engine")).status == 200


def test_a_revoked_certificate_is_refused(network: Network) -> None:
    good, bad = network.authority.client("engine"), network.authority.client("watcher")
    network.listen(revoked=network.authority.revoke(bad))
    assert network.get("/api/v1/vms", good).status == 200
    with pytest.raises(REFUSED):
        network.get("/api/v1/vms", bad)


def test_old_tls_is_refused(network: Network) -> None:
    network.listen()
    context = network.context(network.authority.client("engine"))
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with (
        pytest.raises((ssl.SSLError, ConnectionResetError)),
        socket.create_connection(("127.0.0.1", network.port), timeout=10) as sock,
    ):
        context.wrap_socket(sock, server_hostname="localhost").close()


def test_plain_http_gets_nothing(network: Network) -> None:
    network.listen()
    with socket.create_connection(("127.0.0.1", network.port), timeout=10) as sock:
        sock.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"HTTP" not in sock.recv(1000)


# ---- tokens ----------------------------------------------------------------------------------------------------------


def test_a_token_instead_of_a_certificate(network: Network) -> None:
    network.listen(require_client=False)
    made = network.server.request("POST", "/api/v1/tokens", {"name": "t", "role": "viewer"})
    token = f"Bearer {made.json['token']}"
    assert network.get("/api/v1/vms", Authorization=token).status == 200
    assert network.get("/api/v1/vms").status == 401
    assert network.get("/api/v1/vms", network.authority.client("engine")).status == 200
    with pytest.raises(REFUSED):
        network.get("/api/v1/vms", network.authority.client("old", days=(-9, -1)), Authorization=token)


# ---- renewal ---------------------------------------------------------------------------------------------------------


def presented(network: Network, client: Pair) -> int:
    """Serial number of the certificate the host shows now."""
    with network.connection(client) as connection:
        connection.connect()
        assert isinstance(connection.sock, ssl.SSLSocket)
        shown = connection.sock.getpeercert()
        assert shown
        return int(str(shown["serialNumber"]), 16)


def test_a_renewed_certificate_is_shown_at_once(network: Network) -> None:
    network.listen()
    client = network.authority.client("engine")
    with network.connection(client) as standing:
        assert exchange(standing, "GET", "/health").status == 200
        before = presented(network, client)
        assert before == network.host.serial
        renewed = network.authority.host("renewed")
        shutil.copy(renewed.certificate, network.host.certificate)
        time.sleep(1.1)  # longer than the server looks away: it has to meet the mismatched pair
        assert presented(network, client) == before
        shutil.copy(renewed.key, network.host.key)
        until("the new one is shown", lambda: presented(network, client) == renewed.serial)
        assert exchange(standing, "GET", "/health").status == 200


def test_a_missing_file_does_not_end_the_service(network: Network) -> None:
    network.listen()
    client = network.authority.client("engine")
    os.unlink(network.host.key)
    time.sleep(1.1)  # as above
    assert network.get("/health", client).status == 200


def test_files_that_cannot_serve_are_refused_at_once(network: Network) -> None:
    other = network.authority.host("other")
    with pytest.raises(ssl.SSLError):
        ServerTls(TlsFiles(certificate=network.host.certificate, key=other.key))
    with pytest.raises(OSError):
        ServerTls(TlsFiles(certificate=network.host.certificate, key=network.authority.home / "none.key"))


# ---- limits ----------------------------------------------------------------------------------------------------------


def test_half_open_handshakes_make_room(serve: Serve, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "pki")
    server = serve(roles=ROLES, max_handshakes=8)
    network = Network(server, authority, authority.host())
    network.listen()
    crowd = [socket.create_connection(("127.0.0.1", network.port), timeout=10) for _ in range(100)]
    client = authority.client("engine")
    for _ in range(5):
        assert network.get("/health", client).status == 200
    for sock in crowd:
        sock.close()


def test_a_handshake_has_its_time(serve: Serve, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "pki")
    network = Network(serve(roles=ROLES, handshake_timeout=0.3), authority, authority.host())
    network.listen()
    with socket.create_connection(("127.0.0.1", network.port), timeout=20) as sock:
        sock.sendall(b"\x16\x03\x01")
        assert sock.recv(100) == b""


# ---- browsers --------------------------------------------------------------------------------------------------------


def test_a_foreign_page_cannot_use_a_certificate(network: Network) -> None:
    network.listen()
    client = network.authority.client("engine")
    path = "/api/v1/host/log-level"
    own = f"https://127.0.0.1:{network.port}"
    with network.connection(client) as connection:
        for origin in ("https://evil.example", "null", f"http://127.0.0.1:{network.port}"):
            refused = exchange(connection, "POST", path, {"level": "INFO", "name": "x"}, Origin=origin)
            assert refused.status == 403
            refused.problem("foreign-origin")
        exchange(connection, "POST", path, {"level": "INFO", "name": "x"}, Origin=own).problem("no-such-logger")


def test_nor_open_a_websocket(network: Network) -> None:
    network.listen()
    context = network.context(network.authority.client("engine"))
    url = f"wss://127.0.0.1:{network.port}/api/v1/events?since=0"
    with connect(url, ssl=context, origin=f"https://127.0.0.1:{network.port}") as stream:
        assert stream.response is not None
    with pytest.raises(InvalidStatus) as refused, connect(url, ssl=context, origin="https://evil.example"):
        pass
    assert refused.value.response.status_code == 403

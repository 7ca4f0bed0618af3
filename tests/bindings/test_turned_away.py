# SPDX-License-Identifier: Apache-2.0
"""Whoever is turned away at a door is in the audit trail, whatever the protocol; and where each call came from."""

from __future__ import annotations

import contextlib
import http.client
import secrets
import ssl
import xmlrpc.client
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.stomp import Closed, StompClient, Wired
from harness.until import BUSY, until
from vdsm.contract.audit import AuditRecord
from vdsm.daemon.pki import Authority

SECRET = "no-such-token"


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wired]:
    made = Wired(tmp_path_factory.mktemp("wired"), f"vdsmtest-{secrets.token_hex(4)}", listen="::")
    yield made.serve(machines=1)
    made.end()


def audited(wired: Wired) -> list[AuditRecord]:
    with wired.connect() as host:
        return host.audit.list()


def status(connection: http.client.HTTPConnection, method: str, path: str, **headers: str) -> int:
    with contextlib.closing(connection):
        connection.request(method, path, headers=headers)
        return connection.getresponse().status


def tls(wired: Wired, client: str, host: str = "127.0.0.1") -> http.client.HTTPSConnection:
    return http.client.HTTPSConnection(host, wired.port("https"), context=wired.context(client), timeout=20 * BUSY)


# ---- who is turned away ----------------------------------------------------------------------------------------------


def without_a_role(wired: Wired) -> None:
    assert status(tls(wired, "nobody"), "GET", "/api/v1/vms") == 401


def without_anything(wired: Wired) -> None:
    assert status(tls(wired, "", "::1"), "GET", "/api/v1/vms") == 401


def with_a_bad_token(wired: Wired) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", wired.port(), timeout=20 * BUSY)
    assert status(connection, "GET", "/metrics", Authorization=f"Bearer {SECRET}") == 401


def from_a_foreign_page(wired: Wired) -> None:
    assert status(tls(wired, "engine"), "POST", "/api/v1/host/log-level", Origin="https://evil.example") == 403


def under_a_foreign_name(wired: Wired) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", wired.port(), timeout=20 * BUSY)
    assert status(connection, "GET", "/api/v1/vms", Host="evil.example") == 421


def over_jsonrpc(wired: Wired) -> None:
    with wired.tls("nobody") as client:
        client.send("CONNECT", accept_version="1.2")
        assert client.error().startswith("The caller is not known")


def over_xmlrpc(wired: Wired) -> None:
    url = f"https://127.0.0.1:{wired.port('https')}/RPC2"
    with xmlrpc.client.ServerProxy(url, context=wired.context("nobody")) as server:
        answer: Any = server.getVdsCapabilities()
    assert answer["status"]["code"] == 10001


CASES: dict[str, tuple[Callable[[Wired], None], dict[str, str]]] = {
    "a certificate without a role": (
        without_a_role,
        {"caller": "cert:CN=nobody", "channel": "rest+tls", "method": "GET /api/v1/vms", "peer": "127.0.0.1"},
    ),
    "no certificate": (without_anything, {"channel": "rest+tls", "method": "GET /api/v1/vms", "peer": "::1"}),
    "a bad token": (with_a_bad_token, {"channel": "rest+tcp", "method": "GET /metrics", "peer": "127.0.0.1"}),
    "a foreign page": (
        from_a_foreign_page,
        {"caller": "cert:CN=engine", "verdict": "foreign-origin", "method": "POST /api/v1/host/log-level"},
    ),
    "a foreign name": (under_a_foreign_name, {"verdict": "foreign-host", "channel": "rest+tcp"}),
    "JSON-RPC": (over_jsonrpc, {"caller": "cert:CN=nobody", "channel": "stomp+tls", "peer": "127.0.0.1"}),
    "XML-RPC": (over_xmlrpc, {"caller": "cert:CN=nobody", "channel": "xmlrpc+tls", "method": "getVdsCapabilities"}),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_audited(wired: Wired, case: str) -> None:
    knock, wanted = CASES[case]
    wanted = {"verdict": "unauthenticated", **wanted}
    knock(wired)

    def there() -> bool:
        return any(all(getattr(r, name) == value for name, value in wanted.items()) for r in audited(wired))

    until("it is in the audit trail", there)
    assert SECRET not in wired.said() + str(audited(wired))


def test_a_certificate_of_another_authority_is_audited(wired: Wired, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other")
    other.init()
    other.client("engine")
    context = wired.context("")
    context.load_cert_chain(tmp_path / "other/clients/engine.pem", tmp_path / "other/clients/engine.key")
    with (
        contextlib.suppress(ssl.SSLError, ConnectionError, Closed),
        StompClient(wired.port("https"), context) as client,
    ):
        client.open()
    until("it is in the audit trail", lambda: any(r.method == "a TLS handshake" for r in audited(wired)))
    (record,) = (r for r in audited(wired) if r.method == "a TLS handshake")
    assert (record.verdict, record.peer) == ("unauthenticated", "127.0.0.1")


def test_a_flood_leaves_few_lines(wired: Wired) -> None:
    before = len(audited(wired))
    for _ in range(100):
        without_a_role(wired)
    assert len(audited(wired)) <= before + 2


# ---- where calls come from -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1"])
def test_a_call_s_address_is_audited(wired: Wired, peer: str) -> None:
    assert status(tls(wired, "watcher", peer), "DELETE", "/api/v1/tokens/no-such") == 403
    (record,) = (r for r in audited(wired) if r.verdict == "access-denied" and r.peer == peer)
    assert record.caller == "cert:CN=watcher"

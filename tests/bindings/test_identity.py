# SPDX-License-Identifier: Apache-2.0
"""Who comes in, and as whom."""

from __future__ import annotations

import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.memory_host import MemoryHost
from harness.rest_server import OWN_ROLES, Server
from vdsm.bindings.identity import Backoff, Channel, Identity, Roles, certificate_names, peer_of, unix_channel
from vdsm.contract.access import Role
from vdsm.contract.errors import Unauthenticated

from .conftest import Serve

UID = os.geteuid()


def make_token(server: Server, name: str = "t", role: str = "viewer", **more: object) -> str:
    reply = server.request("POST", "/api/v1/tokens", {"name": name, "role": role, **more})
    assert reply.status == 200, reply.body
    secret: str = reply.json["token"]
    return f"Bearer {secret}"


# ---- local users -----------------------------------------------------------------------------------------------------


def test_the_kernel_says_who_it_is() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        channel = unix_channel(ours)
    assert (channel.kind, channel.uid, channel.peer) == ("unix", UID, f"uid:{UID}")
    assert set(channel.gids) == {os.getegid(), *os.getgroups()}


@pytest.mark.parametrize(
    ("roles", "role"),
    [
        (Roles(users={7: Role.VIEWER}), Role.VIEWER),
        (Roles(users={8: Role.VIEWER}), None),
        (Roles(groups={50: Role.VIEWER, 51: Role.OPERATOR}), Role.OPERATOR),
        (Roles(users={7: Role.VIEWER}, groups={51: Role.ADMIN}), Role.VIEWER),
        (Roles(groups={52: Role.ADMIN}), None),
        (Roles(any_certificate=Role.ADMIN), None),
    ],
)
def test_roles_of_users_and_groups(roles: Roles, role: Role | None) -> None:
    assert roles.of(Channel(kind="unix", peer="uid:7", uid=7, gids=(50, 51))) == role


def test_the_audit_names_the_user(server: Server) -> None:
    server.create("a")
    server.request("POST", "/api/v1/tokens", {"name": "t", "role": "viewer"})
    (record,) = (r for r in server.get("/api/v1/audit").json if r["method"] == "Token.create")
    assert (record["caller"], record["channel"]) == (f"uid:{UID}", "rest+unix")


def test_a_stranger_stays_out(serve: Serve) -> None:
    server = serve(roles=Roles())
    for method, path in (
        ("GET", "/api/v1/vms"),
        ("POST", "/api/v1/vms"),
        ("GET", "/metrics"),
        ("GET", "/api/v1/events"),
    ):
        reply = server.request(method, path)
        assert reply.status == 401
        reply.problem("unauthenticated")
        assert reply.headers["www-authenticate"].startswith("Bearer")
    for path in ("/health", "/api/docs", "/api/v1/openapi.json"):
        assert server.get(path).status == 200


def test_headers_name_nobody(serve: Serve) -> None:
    server = serve(roles=Roles(users={UID: Role.VIEWER}))
    claims = {
        "X_Forwarded_User": "root",
        "X_Remote_User": "root",
        "X_Forwarded_For": "127.0.0.1",
        "Forwarded": "for=127.0.0.1",
        "Role": "admin",
        "X_SSL_Client_CN": "engine",
    }
    body = server.request("POST", "/api/v1/tokens", {"name": "t", "role": "admin"}, **claims).problem("access-denied")
    assert body["facts"]["caller"] == f"uid:{UID}"


def test_a_viewer_looks_only(serve: Serve) -> None:
    server = serve(roles=Roles(users={UID: Role.VIEWER}))
    assert server.get("/api/v1/vms").status == 200
    assert server.get("/metrics").status == 200
    server.request("POST", "/api/v1/vms", {"vmParams": {"name": "a", "memory": 64}}).problem("access-denied")


# ---- tokens ----------------------------------------------------------------------------------------------------------


def test_a_token_is_who_it_says(server: Server) -> None:
    token = make_token(server, role="viewer")
    assert server.get("/api/v1/vms", Authorization=token).status == 200
    body = server.get("/api/v1/tokens", Authorization=token).problem("access-denied")
    assert body["facts"]["caller"] == "token:t"
    assert server.request("DELETE", "/api/v1/tokens/t").status == 204
    assert server.get("/api/v1/vms", Authorization=token).status == 401


@pytest.mark.parametrize(
    "header", ["Bearer", "Bearer ", "Bearer vdsm_wrong", "Basic cm9vdDpyb290", "vdsm_x", "", "bearer \xff"]
)
def test_a_bad_token_is_not_made_good_by_the_channel(server: Server, header: str) -> None:
    server.get("/api/v1/vms", Authorization=header).problem("unauthenticated")


def test_guessing_becomes_slow(server: Server) -> None:
    good = make_token(server)
    details = [server.get("/api/v1/vms", Authorization=f"Bearer {n}").json["detail"] for n in range(8)]
    assert "unknown" in details[0]
    assert "too many bad tokens" in details[-1]
    assert server.get("/api/v1/vms", Authorization=good).status == 401  # not looked at, so nothing is learnt
    assert server.get("/api/v1/vms").status == 200  # who is known by the channel is not concerned


def test_backoff_grows_and_forgets() -> None:
    now = 0.0
    backoff = Backoff(lambda: now)
    for _ in range(Backoff.FREE):
        backoff.failed("a")
        assert backoff.wait("a") == 0
    waits = []
    for _ in range(10):
        backoff.failed("a")
        waits.append(backoff.wait("a"))
    assert waits == sorted(waits)
    assert waits[0] == 2
    assert waits[-1] == Backoff.LONGEST
    assert backoff.wait("b") == 0
    now = 61.0
    assert backoff.wait("a") == 0
    backoff.succeeded("a")
    backoff.failed("a")
    assert backoff.wait("a") == 0


def test_backoff_remembers_a_bounded_number() -> None:
    backoff = Backoff()
    for n in range(5000):
        backoff.failed(f"{n}")
    assert len(backoff._failures) == Backoff.PEERS


async def test_without_tokens_none_is_taken() -> None:
    identity = Identity(OWN_ROLES, MemoryHost(None).refusals)
    with pytest.raises(Unauthenticated, match="takes no tokens"):
        await identity.of_token("Bearer x", Channel(kind="tls", peer="192.0.2.1"))


# ---- the network -----------------------------------------------------------------------------------------------------


def test_certificates_have_roles() -> None:
    roles = Roles(certificates={"engine": Role.OPERATOR, "host.example": Role.ADMIN}, any_certificate=Role.VIEWER)

    def of(*names: str) -> Role | None:
        return roles.of(Channel(kind="tls", peer="x", names=names))

    assert of("engine") == Role.OPERATOR
    assert of("engine", "host.example") == Role.ADMIN
    assert of("somebody") == Role.VIEWER
    assert of() is None


def test_names_of_a_certificate() -> None:
    certificate = {
        "subject": ((("organizationName", "o"),), (("commonName", "engine"),)),
        "subjectAltName": (("DNS", "engine.example"), ("URI", "urn:x"), ("DNS", "engine")),
    }
    assert certificate_names(certificate) == ("engine", "engine.example", "urn:x")
    assert certificate_names({}) == ()


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("what", "what"),
    ],
)
def test_a_peer_is_a_network(address: str, peer: str) -> None:
    assert peer_of(address) == peer


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_a_network_has_one_limit(network: int, one: int, other: int) -> None:
    import ipaddress

    a, b = (str(ipaddress.IPv6Address((network << 64) | host)) for host in (one, other))
    if not a.startswith("::ffff:"):
        assert peer_of(a) == peer_of(b) or "::ffff:" in b

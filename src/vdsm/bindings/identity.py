# SPDX-License-Identifier: Apache-2.0
"""Who is on the other end: channel -> Caller. Only the channel counts; no header and no body names a user."""

from __future__ import annotations

import ipaddress
import socket
import struct
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from vdsm.contract.access import Role
from vdsm.contract.errors import ForeignHost, ForeignOrigin, Problem, Unauthenticated
from vdsm.contract.types import Secret
from vdsm.core.caller import Caller
from vdsm.core.refusals import Refusals

_SO_PEERGROUPS = 59  # asm-generic/socket.h, Linux 4.13; Python 3.11 has no name for it
_RANK = {role: rank for rank, role in enumerate(Role)}
_NO_CALLER = (Unauthenticated, ForeignOrigin, ForeignHost)


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """One connection, as the kernel and the TLS library know it."""

    kind: str  # unix, tls, tcp
    address: str = ""  # where it comes from, without a network's zone; empty for a local user
    reached: str = ""  # the address of this host at its end
    peer: str  # whose limits it counts against: "uid:1000", "192.0.2.7", "2001:db8:1:2::/64"
    uid: int | None = None
    gids: tuple[int, ...] = ()
    names: tuple[str, ...] = ()  # of the verified client certificate: the common name, then the alternative names


class Roles(msgspec.Struct, frozen=True, kw_only=True):
    """Which role local users, groups and certificates have. Who is in none of them has no access."""

    users: Mapping[int, Role] = {}
    groups: Mapping[int, Role] = {}
    certificates: Mapping[str, Role] = {}  # by any of a certificate's names
    any_certificate: Role | None = None  # for those of the authority that are not named
    plain: Role | None = None  # of whoever comes without TLS

    def of(self, channel: Channel) -> Role | None:
        """The role of a user, else the strongest of its groups; of a certificate, the strongest of its names."""
        if channel.uid is not None:
            if channel.uid in self.users:
                return self.users[channel.uid]
            return _strongest([self.groups[g] for g in channel.gids if g in self.groups])
        if channel.names:
            named = [self.certificates[n] for n in channel.names if n in self.certificates]
            return _strongest(named) if named else self.any_certificate
        return self.plain if channel.kind == "tcp" else None


def _strongest(roles: list[Role]) -> Role | None:
    return max(roles, key=_RANK.__getitem__, default=None)


TokenCheck = Callable[[Secret, str], Awaitable[Caller | None]]
"""(secret, channel's label) -> who has that token, if it is good."""


class Identity:
    """Makes callers for one binding."""

    def __init__(
        self, roles: Roles, refusals: Refusals, check_token: TokenCheck | None = None, *, binding: str = "rest"
    ) -> None:
        self._roles = roles
        self.refusals = refusals
        self._check_token = check_token
        self._binding = binding
        self._backoff = Backoff()

    def of_channel(self, channel: Channel) -> Caller | None:
        """The caller the channel itself proves, if it does."""
        role = self._roles.of(channel)
        if role is None:
            return None
        return Caller(
            identity=_name(channel),
            channel=self._label(channel),
            role=role,
            peer=channel.address,
            reached=channel.reached,
        )

    async def of_token(self, authorization: str, channel: Channel) -> Caller:
        """The caller of an `Authorization` header: who sends one is that token's, or nobody. Raises Unauthenticated."""
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            raise Unauthenticated(reason="the Authorization header holds no bearer token")
        if self._check_token is None:
            raise Unauthenticated(reason="this host takes no tokens")
        if wait := self._backoff.wait(channel.peer):
            raise Unauthenticated(reason=f"too many bad tokens came from {channel.peer}: wait {wait:.0f} s")
        caller = await self._check_token(Secret(secret.strip()), self._label(channel))
        if caller is None:
            self._backoff.failed(channel.peer)
            raise Unauthenticated(reason="the token is unknown, expired or revoked")
        self._backoff.succeeded(channel.peer)
        return msgspec.structs.replace(caller, peer=channel.address, reached=channel.reached)

    def turned_away(self, problem: Problem, channel: Channel, what: str, flow_id: str = "") -> None:
        """Have it audited that somebody asked for `what` and was no caller. Other problems are the bridge's affair."""
        if isinstance(problem, _NO_CALLER):
            self.refusals.note(
                problem,
                what,
                identity=_name(channel),
                channel=self._label(channel),
                peer=channel.address,
                flow_id=flow_id,
            )

    def _label(self, channel: Channel) -> str:
        return f"{self._binding}+{channel.kind}"


def _name(channel: Channel) -> str:
    if channel.uid is not None:
        return f"uid:{channel.uid}"
    return f"cert:CN={channel.names[0]}" if channel.names else f"tcp:{channel.peer}"


class Backoff:
    """Growing waits for peers that guess; it remembers a bounded number of them."""

    FREE = 5  # failures without a wait
    LONGEST = 60.0  # seconds
    PEERS = 1024

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait(self, peer: str) -> float:
        """Seconds until this peer may try again."""
        _, until = self._failures.get(peer, (0, 0.0))
        return max(0.0, until - self._clock())

    def failed(self, peer: str) -> None:
        count = self._failures.pop(peer, (0, 0.0))[0] + 1
        pause = min(self.LONGEST, 2.0 ** min(count - self.FREE, 10)) if count > self.FREE else 0.0
        self._failures[peer] = (count, self._clock() + pause)
        if len(self._failures) > self.PEERS:
            self._failures.popitem(last=False)

    def succeeded(self, peer: str) -> None:
        self._failures.pop(peer, None)


def unix_channel(sock: socket.socket) -> Channel:
    """The user at the other end of a unix socket, as the kernel noted it when it connected."""
    _, uid, gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return Channel(kind="unix", peer=f"uid:{uid}", uid=uid, gids=(gid, *_peer_groups(sock)))


def _peer_groups(sock: socket.socket) -> tuple[int, ...]:
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 4096)
    except OSError:
        return ()  # more than a thousand groups: the first one has to do
    return struct.unpack(f"{len(raw) // 4}I", raw)


def tcp_channel(address: str, reached: str, certificate: Mapping[str, object] | None, *, tls: bool) -> Channel:
    """A network peer; `certificate` is the verified one, in the form of `SSLSocket.getpeercert`."""
    return Channel(
        kind="tls" if tls else "tcp",
        address=_without_zone(address),
        reached=_without_zone(reached),
        peer=peer_of(address),
        names=certificate_names(certificate or {}),
    )


def _without_zone(address: str) -> str:
    return address.partition("%")[0]


def peer_of(address: str) -> str:
    """An address as one peer: of IPv6 the network, since everybody has 2**64 addresses in theirs."""
    try:
        ip = ipaddress.ip_address(_without_zone(address))
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ip.ipv4_mapped or ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)


def certificate_names(certificate: Mapping[str, object]) -> tuple[str, ...]:
    """The common name, then the DNS, IP, e-mail and URI names."""
    names = []
    subject = certificate.get("subject", ())
    alternatives = certificate.get("subjectAltName", ())
    if isinstance(subject, tuple):
        names += [str(value) for part in subject for key, value in part if key == "commonName"]
    if isinstance(alternatives, tuple):
        names += [str(value) for _, value in alternatives]
    return tuple(dict.fromkeys(names))

# SPDX-License-Identifier: Apache-2.0
"""The doors to a bridge: sockets, certificates, and who may come in. The daemon has them, and the gateway."""

from __future__ import annotations

import grp
import os
import pwd
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vdsm.bindings.dispatch import Branch, Dispatch
from vdsm.bindings.firstbytes import Wire
from vdsm.bindings.identity import Identity, Roles, TokenCheck
from vdsm.bindings.images import ImageStreamsApp
from vdsm.bindings.listener import Door
from vdsm.bindings.options import RestOptions
from vdsm.bindings.rest import RestApp, Status
from vdsm.bindings.sockets import inherited, is_loopback, listen_tcp, listen_unix
from vdsm.bindings.stomp import StompWire
from vdsm.bindings.stomp_hub import StompOptions
from vdsm.bindings.tls import ServerTls, TlsFiles
from vdsm.bindings.xmlrpc import XmlRpcApp
from vdsm.contract.access import Role
from vdsm.core.bridge import Bridge
from vdsm.core.refusals import Refusals

from .config import Config, ConfigError
from .process import StartError

LAST_ANSWER = 2.0  # seconds beyond the drain, to tell the callers of what was cut short


@dataclass(frozen=True, slots=True)
class Served:
    """What is behind the doors. Without `check_token` no bearer token opens them."""

    bridge: Bridge
    metrics: Callable[[], bytes]  # what /metrics answers
    status: Callable[[], Status]  # what /health says
    refusals: Refusals
    check_token: TokenCheck | None = None


class Doors:
    """Those of `config`; without the path of a unix socket there is none."""

    def __init__(self, config: Config, served: Served) -> None:
        """Raises ConfigError."""
        self._rest = config.rest
        self._plain = config.plain
        self._tokens = served.check_token is not None
        bridge = served.bridge
        options = rest_options(config)
        known = roles(config)
        refusals, check_token = served.refusals, served.check_token
        identity = Identity(known, refusals, check_token)
        app = RestApp(bridge, identity, metrics=served.metrics, status=served.status, options=options)
        wires: list[Wire] = []
        if config.jsonrpc.enabled:
            wires.append(StompWire(bridge, Identity(known, refusals, binding="stomp"), stomp_options(config)))
        streams = ImageStreamsApp(bridge, Identity(known, refusals, check_token, binding="images"))
        branches: list[Branch] = [streams.branch]
        if config.xmlrpc.enabled:
            xmlrpc = XmlRpcApp(bridge, Identity(known, refusals, check_token, binding="xmlrpc"), options=options)
            branches.append(xmlrpc.branch)
        self._door = Door(Dispatch(app, identity, branches), refusals, options, wires)
        self._group = _group_id(config.rest.socket_group) if config.rest.socket_group else None
        self.addresses: list[str] = []

    def open(self) -> None:
        """Listen where the configuration says, and on what systemd passes on. Raises StartError."""
        if not self._rest.enabled:
            return
        passed = inherited(os.environ)
        for sock in passed:
            local = sock.family == socket.AF_UNIX
            self._door.open(sock, None if local else self._tls())
            self.addresses.append(_address(sock))
        if self._rest.socket and not any(sock.family == socket.AF_UNIX for sock in passed):
            self._open_unix()
        if self._rest.listen and not any(sock.family != socket.AF_UNIX for sock in passed):
            self._open_tcp()
        if self._plain.listen:
            self._open_plain()

    async def close(self) -> None:
        """Take no more connections, and let what is under way end."""
        await self._door.close()

    def _open_unix(self) -> None:
        path = Path(self._rest.socket)
        try:
            self._door.open(listen_unix(path, mode=int(self._rest.socket_mode, 8), group=self._group))
        except OSError as error:
            raise StartError(f"[rest] socket: cannot listen at {path}: {error.strerror}") from None
        self.addresses.append(f"{path}")

    def _open_tcp(self) -> None:
        tls, rest = self._tls(), self._rest
        try:
            sockets = listen_tcp(rest.listen, rest.port)
        except OSError as error:
            raise StartError(
                f"[rest] listen: cannot listen at {rest.listen} port {rest.port}: {error.strerror}"
            ) from None
        for sock in sockets:
            self._door.open(sock, tls)
            self.addresses.append(_address(sock))

    def _open_plain(self) -> None:
        listen, port = self._plain.listen, self._plain.port
        try:
            if not self._plain.anywhere and not is_loopback(listen):
                raise StartError(
                    f"[plain] listen: {listen} is not this host's loopback address, and without TLS whoever reaches it"
                    " is let in; if that is meant, set anywhere = true"
                )
            sockets = listen_tcp(listen, port)
        except OSError as error:
            raise StartError(f"[plain] listen: cannot listen at {listen} port {port}: {error.strerror}") from None
        for sock in sockets:
            self._door.open(sock)
            self.addresses.append(_address(sock, "http"))

    def _tls(self) -> ServerTls:
        rest = self._rest
        files = TlsFiles(
            certificate=Path(rest.certificate),
            key=Path(rest.key),
            authority=Path(rest.ca),
            revoked=Path(rest.revoked) if rest.revoked else None,
            require_client=not self._tokens,
        )
        for file in files.paths():
            if not file.exists():
                raise StartError(f"[rest] listen needs {file}, which is not there: `vdsmd pki init` makes it")
        try:
            return ServerTls(files)
        except (OSError, ssl.SSLError) as error:  # an SSLError names no file
            raise StartError(f"{rest.certificate}, {rest.key} and {rest.ca} cannot serve TLS: {error}") from None


def rest_options(config: Config) -> RestOptions:
    """The limits of the configuration, as the door takes them."""
    limits = config.limits
    return RestOptions(
        max_head=limits.head_bytes,
        max_body=limits.body_bytes,
        max_connections=limits.connections,
        max_connections_per_peer=limits.connections_per_peer,
        handshake_timeout=limits.handshake_seconds,
        head_timeout=limits.head_seconds,
        body_timeout=limits.body_seconds,
        stall_timeout=limits.stall_seconds,
        keep_alive=limits.idle_seconds,
        grace=config.daemon.drain_seconds + LAST_ANSWER,
    )


def stomp_options(config: Config) -> StompOptions:
    wanted = config.jsonrpc
    return StompOptions(
        request_queues=frozenset(wanted.request_queues),
        response_queue=wanted.response_queue,
        event_queue=wanted.event_queue,
        max_calls=config.limits.calls_per_connection,
    )


def roles(config: Config) -> Roles:
    """Names to ids. root and the daemon's own user are admins. Raises ConfigError for a name nobody has."""
    access = config.access
    users = {_user_id(name): role for name, role in access.users.items()}
    return Roles(
        users=users | {0: Role.ADMIN, os.geteuid(): Role.ADMIN},
        groups={_group_id(name): role for name, role in access.groups.items()},
        certificates=access.certificates,
        any_certificate=Role(access.any_certificate) if access.any_certificate else None,
        plain=Role(config.plain.role) if config.plain.role else None,
    )


def _user_id(name: str) -> int:
    try:
        return int(name) if name.isdecimal() else pwd.getpwnam(name).pw_uid
    except KeyError:
        raise ConfigError(f"[access] users: there is no user {name!r} on this host") from None


def _group_id(name: str) -> int:
    try:
        return int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid
    except KeyError:
        raise ConfigError(f"[access] groups, [rest] socket_group: there is no group {name!r} on this host") from None


def _address(sock: socket.socket, scheme: str = "https") -> str:
    name = sock.getsockname()
    if not isinstance(name, tuple):
        return f"{name}"
    host, port = name[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

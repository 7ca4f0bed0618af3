# SPDX-License-Identifier: Apache-2.0
"""Listening sockets: a unix path, a TCP address, or what systemd passes on."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import stat
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path

_FIRST_FD = 3  # sd_listen_fds(3)
_PATH_MAX = 107  # bytes in sockaddr_un, less the final NUL
_BACKLOG = 1024


@dataclass(frozen=True, slots=True)
class UnixListener:
    """A socket and the path it is reached by."""

    sock: socket.socket
    path: Path
    mark: tuple[int, int]

    def remove(self) -> None:
        """Take the path away, unless it is another's by now."""
        try:
            if _mark(self.path) == self.mark:
                self.path.unlink()
        except FileNotFoundError:
            return


def _mark(path: Path) -> tuple[int, int]:
    """Which file it is: a number is given again as soon as it is free, so the time of making counts too."""
    found = path.lstat()
    return found.st_ino, found.st_mtime_ns


def listen_unix(path: Path, *, mode: int = 0o660, group: int | None = None) -> UnixListener:
    """Listen at `path`, in a directory that is made if need be.

    What a dead daemon left there is replaced; a living one, or anything that is no socket, is not.

    Raises OSError.
    """
    if len(os.fsencode(path)) > _PATH_MAX:
        raise OSError(errno.ENAMETOOLONG, "the path is too long for a unix socket", str(path))
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    _remove_dead(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(str(path))
        if group is not None:
            os.chown(path, -1, group)
        path.chmod(mode)
        sock.listen(_BACKLOG)  # only now can anybody connect
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return UnixListener(sock, path, _mark(path))


def _remove_dead(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise OSError(errno.EEXIST, "something that is no socket is in the place of the socket", str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(errno.EADDRINUSE, "another daemon serves this socket", str(path))


def listen_tcp(host: str, port: int) -> list[socket.socket]:
    """Listen on every address `host` stands for; "::" is every address of the machine, IPv4 and IPv6.

    Raises OSError.
    """
    everywhere = host == "::"
    wanted = socket.getaddrinfo(None if everywhere else host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    for family, _, _, _, address in wanted:
        # With port 0 the kernel chooses for the first address, and the others follow.
        chosen = sockets[0].getsockname()[1] if sockets else port
        try:
            sockets.append(_listen(family, (address[0], chosen, *address[2:])))
        except OSError as error:
            if everywhere and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                continue  # a kernel without IPv6, or without IPv4
            for sock in sockets:
                sock.close()
            raise
    return sockets


def is_loopback(host: str) -> bool:
    """Whether every address `host` stands for is reached from this machine only. Raises OSError."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return all(ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found)


def _listen(family: int, address: tuple[object, ...]) -> socket.socket:
    # asyncio sends at once (TCP_NODELAY) only what it knows to be TCP: else each second write waits 40 ms.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def inherited(environ: MutableMapping[str, str]) -> list[socket.socket]:
    """The listening sockets systemd passed to this process; the variables that say so are removed."""
    count = environ.pop("LISTEN_FDS", "")
    pid = environ.pop("LISTEN_PID", "")
    environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    sockets = [socket.socket(fileno=fd) for fd in range(_FIRST_FD, _FIRST_FD + int(count))]
    for sock in sockets:
        sock.setblocking(False)
        sock.set_inheritable(False)
    return sockets

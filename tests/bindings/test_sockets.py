# SPDX-License-Identifier: Apache-2.0
"""Listening sockets: permissions, dead and living predecessors, systemd."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from vdsm.bindings.sockets import inherited, listen_tcp, listen_unix


def test_a_socket_is_made_with_its_directory(tmp_path: Path) -> None:
    path = tmp_path / "run/vdsm/api.sock"
    listener = listen_unix(path, group=os.getegid())
    found = path.stat()
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o660
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
    assert os.listdir(path.parent) == ["api.sock"]
    listener.sock.close()
    listener.remove()
    assert not path.exists()


def test_a_dead_daemons_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    listen_unix(path).sock.close()
    assert path.exists()
    listener = listen_unix(path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    listener.sock.close()


def test_a_living_daemons_is_not(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    listener = listen_unix(path)
    with pytest.raises(OSError, match="another daemon"):
        listen_unix(path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    listener.sock.close()


def test_nor_is_what_is_no_socket(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    path.write_text("mine")
    with pytest.raises(OSError, match="no socket"):
        listen_unix(path)
    assert path.read_text() == "mine"
    target = tmp_path / "target"
    listen_unix(target).sock.close()
    path.unlink()
    path.symlink_to(target)
    with pytest.raises(OSError, match="no socket"):
        listen_unix(path)
    assert target.exists()


def test_only_our_own_path_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    first = listen_unix(path)
    first.sock.close()
    second = listen_unix(path)
    first.remove()
    assert path.exists()
    second.sock.close()
    second.remove()
    second.remove()  # twice does no harm


def test_a_path_too_long_says_so(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long"):
        listen_unix(tmp_path / ("x" * 110))


def test_every_address_has_one_port() -> None:
    sockets = listen_tcp("::", 0)
    ports = {sock.getsockname()[1] for sock in sockets}
    families = {sock.family for sock in sockets}
    for sock in sockets:
        sock.close()
    assert len(ports) == 1
    assert families == {socket.AF_INET, socket.AF_INET6}


def test_what_is_written_goes_out_at_once() -> None:
    """Without TCP_NODELAY an answer in two pieces takes 40 ms."""

    async def accepted() -> int:
        (listener,) = listen_tcp("127.0.0.1", 0)
        loop = asyncio.get_running_loop()
        with listener, socket.create_connection(listener.getsockname()):
            sock, _ = await loop.sock_accept(listener)
            transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, sock)
            found: int = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            transport.close()
            return found

    assert asyncio.run(accepted()) == 1


def test_a_taken_port_is_an_error() -> None:
    (first,) = listen_tcp("127.0.0.1", 0)
    with first, pytest.raises(OSError):
        listen_tcp("127.0.0.1", first.getsockname()[1])


def test_sockets_of_systemd() -> None:
    program = (
        "import os; from vdsm.bindings.sockets import inherited\n"
        "os.environ['LISTEN_PID'] = str(os.getpid())\n"
        "found = inherited(os.environ)\n"
        "print(len(found), found[0].getsockname()[1], found[0].get_inheritable(), 'LISTEN_FDS' in os.environ)"
    )
    (sock,) = listen_tcp("127.0.0.1", 0)
    with sock:

        def place() -> None:
            os.dup2(sock.fileno(), 3)

        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "LISTEN_FDS": "1"},
            capture_output=True,
            text=True,
            check=True,
            close_fds=False,
            preexec_fn=place,
        )
        assert done.stdout.split() == ["1", str(sock.getsockname()[1]), "False", "False"]


def test_another_processes_sockets_are_not_ours() -> None:
    environ = {"LISTEN_FDS": "1", "LISTEN_PID": "1", "LISTEN_FDNAMES": "x"}
    assert inherited(environ) == []
    assert environ == {}

# SPDX-License-Identifier: Apache-2.0
"""Talking to the service manager, with a real socket in its place."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from vdsm.daemon.systemd import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    address = f"{tmp_path}/notify" if request.param == "path" else f"@vdsm-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + address[1:] if address.startswith("@") else address)
        sock.settimeout(5)
        yield sock, address


def test_it_says_how_it_is(manager: tuple[socket.socket, str]) -> None:
    sock, address = manager
    environ = {"NOTIFY_SOCKET": address}
    notifier = Notifier(environ)
    assert environ == {}, "children must not speak in our name"
    notifier.ready("serving")
    assert sock.recv(1000) == b"READY=1\nSTATUS=serving"
    notifier.stopping("draining")
    assert sock.recv(1000) == b"STOPPING=1\nSTATUS=draining"
    notifier.reloading()
    assert sock.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")


async def test_the_watchdog_is_fed_twice_as_often(manager: tuple[socket.socket, str]) -> None:
    sock, address = manager
    notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "100000", "WATCHDOG_PID": str(os.getpid())})
    assert notifier.watchdog_seconds == 0.1
    feeding = asyncio.create_task(notifier.feed_watchdog())
    begun = asyncio.get_running_loop().time()
    for _ in range(4):
        assert await asyncio.to_thread(sock.recv, 100) == b"WATCHDOG=1"
    assert asyncio.get_running_loop().time() - begun >= 0.14
    feeding.cancel()


async def test_no_watchdog_no_work() -> None:
    await asyncio.wait_for(Notifier({}).feed_watchdog(), 5)
    await asyncio.wait_for(Notifier({"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}).feed_watchdog(), 5)


def test_a_manager_that_is_gone_is_no_failure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Notifier({"NOTIFY_SOCKET": f"{tmp_path}/gone"}).ready("serving")
    assert "was not told" in caplog.text
    Notifier({}).ready("serving")

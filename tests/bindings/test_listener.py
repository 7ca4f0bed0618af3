# SPDX-License-Identifier: Apache-2.0
"""A door opens and closes in good order."""

from __future__ import annotations

import http.client
import os
import resource
import socket
import threading
import time
from collections.abc import Callable

import pytest

from harness.rest_server import Server, exchange
from harness.until import until
from vdsm.bindings.sockets import listen_unix
from vdsm.drivers.simulated.faults import Fault

from .conftest import Serve


def slow_screenshots(server: Server, seconds: float) -> str:
    """A path that takes so long."""
    vm_id = server.create("a")

    async def set_fault() -> None:
        server.host.hypervisor.faults.set("screenshot", Fault(delay=seconds))

    server.run(set_fault)
    return f"/api/v1/vms/{vm_id}/screenshot"


def beside(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def under_way(server: Server) -> int:
    async def count() -> int:
        return len(server.door._state.tasks)

    return server.run(count)


def test_what_is_under_way_is_finished(serve: Serve) -> None:
    server = serve(grace=30.0)
    path = slow_screenshots(server, 0.5)
    statuses: list[int] = []
    asking = beside(lambda: statuses.append(server.get(path).status))
    until("it is being served", lambda: under_way(server) == 1)
    idle = server.connection()
    assert exchange(idle, "GET", "/health").status == 200
    server.run(server.door.close)
    asking.join(10)
    assert statuses == [200]
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        exchange(idle, "GET", "/health")
    idle.close()


def test_what_takes_too_long_is_cut(serve: Serve) -> None:
    server = serve(grace=0.2)
    path = slow_screenshots(server, 60)
    errors: list[Exception] = []

    def ask() -> None:
        try:
            server.get(path)
        except (http.client.HTTPException, OSError) as error:
            errors.append(error)

    asking = beside(ask)
    until("it is being served", lambda: under_way(server) == 1)
    begun = time.monotonic()
    server.run(server.door.close)
    assert time.monotonic() - begun < 10
    asking.join(10)
    assert len(errors) == 1
    assert under_way(server) == 0


def test_a_closed_door_leaves_no_path(serve: Serve) -> None:
    server = serve()
    server.run(server.door.close)
    assert not server.path.exists()
    with pytest.raises(FileNotFoundError):
        server.get("/health")


def test_a_door_has_many_sockets(server: Server) -> None:
    other = server.path.with_name("other.sock")

    async def open_it() -> None:
        server.door.open(listen_unix(other))

    server.run(open_it)
    for path in (server.path, other):
        connection = server.connection()
        connection._path = path
        assert exchange(connection, "GET", "/api/v1/host/ping2").status == 204
        connection.close()


def test_out_of_file_descriptors_it_waits(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        free = os.dup(client.fileno())  # the lowest one there is
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            client.connect(str(server.path))
            client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            until("it says that it cannot", lambda: "no connection can be taken" in caplog.text)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert client.recv(1000).startswith(b"HTTP/1.1 200")

# SPDX-License-Identifier: Apache-2.0
"""A REST door of a simulated host, on real sockets, in a thread of its own."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from harness.memory_host import MemoryHost
from vdsm.bindings.identity import Identity, Roles
from vdsm.bindings.listener import Door
from vdsm.bindings.options import RestOptions
from vdsm.bindings.rest import RestApp, Status
from vdsm.bindings.sockets import UnixListener, listen_tcp, listen_unix
from vdsm.bindings.tls import ServerTls
from vdsm.contract.access import Role
from vdsm.state.store import Retention

T = TypeVar("T")

OWN_ROLES = Roles(users={os.geteuid(): Role.ADMIN})


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]  # by lower-case name
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def problem(self, slug: str) -> Any:
        """The body, which must be this problem."""
        assert self.headers["content-type"] == "application/problem+json", self.body
        body = self.json
        assert body["type"] == f"urn:vdsm:problem:{slug}", body
        assert body["status"] == self.status
        assert body["hint"], body
        assert body["detail"], body
        return body


class UnixHttp(http.client.HTTPConnection):
    """http.client over a unix socket."""

    def __init__(self, path: Path, timeout: float = 30.0) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def exchange(connection: http.client.HTTPConnection, method: str, path: str, body: Any = None, **headers: str) -> Reply:
    """One request; a `body` that is no bytes goes as JSON, header names take _ for -."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
        named.setdefault("Content-Type", "application/json")
    connection.request(method, path, body, named)
    answer = connection.getresponse()
    return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())


class Server:
    """A host with its door. Its loop runs in a thread, as a test's own code must not share it."""

    def __init__(self, home: Path, options: RestOptions, roles: Roles, retention: Retention | None = None) -> None:
        self.path = home / "api.sock"
        self.options = options
        self.status = Status.OK
        self._roles = roles
        self._retention = retention
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="server")
        self._thread.start()
        self.host = self.run(self._open)

    def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do something on the server's loop."""

        async def done() -> T:
            return await work()

        return asyncio.run_coroutine_threadsafe(done(), self._loop).result(60)

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """Over the unix socket, on a connection of its own."""
        connection = self.connection()
        try:
            return exchange(connection, method, path, body, **headers)
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Reply:
        return self.request("GET", path, **headers)

    def connection(self, timeout: float = 30.0) -> UnixHttp:
        return UnixHttp(self.path, timeout)

    def raw(self, data: bytes = b"", timeout: float = 30.0) -> socket.socket:
        """A bare connection that has sent `data`."""
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(timeout)
        sock.connect(str(self.path))
        if data:  # even to send nothing fails where the server has closed the connection already
            sock.sendall(data)
        return sock

    def listen(self, tls: ServerTls | None) -> int:
        """Also serve on a TCP port of the loopback address; its number."""

        async def listen() -> int:
            (sock,) = listen_tcp("127.0.0.1", 0)
            self.door.open(sock, tls)
            port: int = sock.getsockname()[1]
            return port

        return self.run(listen)

    def create(self, name: str, **params: object) -> str:
        """Make a machine; its id."""

        async def create() -> str:
            return (await self.host.create(name, **params)).vm_id

        return self.run(create)

    def close(self) -> None:
        async def close() -> None:
            await self.door.close()
            await self.host.close()

        try:
            self.run(close)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _open(self) -> MemoryHost:
        host = MemoryHost(None, retention=self._retention)
        await host.open()
        self.app = RestApp(
            host.bridge,
            Identity(self._roles, host.refusals, host.tokens.authenticate),
            metrics=lambda: b"# EOF\n",
            status=lambda: self.status,
            options=self.options,
        )
        self.door = Door(self.app, host.refusals, self.options)
        self.listener: UnixListener = listen_unix(self.path)
        self.door.open(self.listener)
        return host

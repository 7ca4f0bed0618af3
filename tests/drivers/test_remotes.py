# SPDX-License-Identifier: Apache-2.0
"""Data from and to HTTP servers: one suite for the real client and its simulated twin, and servers that lie."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Protocol

import pytest

from harness.certificates import Authority
from vdsm.contract.errors_storage import RemoteTransferError, StorageBroken
from vdsm.core.ports.remotes import Remotes
from vdsm.drivers.http import HttpRemotes
from vdsm.drivers.simulated.remotes import SimulatedRemotes

Answer = Callable[[bytes, bytes], bytes]
DATA = bytes(range(256)) * 40_000  # more than two pieces


class Server:
    """Answers each request by a function of its head and its body."""

    def __init__(self) -> None:
        self.answer: Answer = lambda head, body: b""
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.url = ""
        self.begun = 0
        self.ended = asyncio.Semaphore(0)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.begun += 1
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = next((int(line[15:]) for line in head.splitlines() if line.startswith(b"Content-Length:")), 0)
            body = await reader.readexactly(length)
            self.heads.append(head)
            self.bodies.append(body)
            writer.write(self.answer(head, body))
            await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        self.ended.release()


@contextlib.asynccontextmanager
async def serving(context: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    made = Server()
    listener = await asyncio.start_server(made.talk, "127.0.0.1", 0, ssl=context)
    port = listener.sockets[0].getsockname()[1]
    made.url = f"{'https' if context else 'http'}://127.0.0.1:{port}/a"
    yield made
    listener.close()
    for _ in range(made.begun):
        await made.ended.acquire()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as made:
        yield made


def ok(body: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


class Sink:
    def __init__(self) -> None:
        self.data = bytearray()
        self.lengths: set[int] = set()

    async def take(self, piece: bytes, length: int) -> None:
        self.data += piece
        self.lengths.add(length)


async def fetch(remotes: Remotes, url: str, most: int = 1 << 30) -> bytes:
    sink = Sink()
    assert await remotes.fetch(url, {}, sink.take, most=most) == len(sink.data)
    return bytes(sink.data)


async def give(offset: int, most: int) -> bytes:
    return DATA[offset : offset + most]


# ---- both ------------------------------------------------------------------------------------------------------------


class Lab(Protocol):
    remotes: Remotes
    url: str

    def serve(self, data: bytes) -> None: ...
    def sent(self) -> bytes: ...
    def header(self, name: str) -> str | None: ...


class RealLab:
    def __init__(self, server: Server) -> None:
        self.remotes: Remotes = HttpRemotes()
        self.url = server.url
        self._server = server

    def serve(self, data: bytes) -> None:
        self._server.answer = lambda head, body: ok(data)

    def sent(self) -> bytes:
        return self._server.bodies[-1]

    def header(self, name: str) -> str | None:
        lines = self._server.heads[-1].decode().split("\r\n")
        return next((line.partition(": ")[2] for line in lines if line.startswith(f"{name}: ")), None)


class SimulatedLab:
    def __init__(self) -> None:
        self.simulated = SimulatedRemotes()
        self.remotes: Remotes = self.simulated
        self.url = "http://images.test/a"

    def serve(self, data: bytes) -> None:
        self.simulated.served[self.url] = data

    def sent(self) -> bytes:
        return self.simulated.served[self.url]

    def header(self, name: str) -> str | None:
        return self.simulated.seen[-1].get(name)


@pytest.fixture(params=["http", "simulated"])
def lab(request: pytest.FixtureRequest, server: Server) -> Lab:
    return RealLab(server) if request.param == "http" else SimulatedLab()


async def test_what_is_served_comes_in_pieces_and_says_how_long_it_is(lab: Lab) -> None:
    lab.serve(DATA)
    sink = Sink()
    assert await lab.remotes.fetch(lab.url, {"X-Token": "s"}, sink.take, most=len(DATA)) == len(DATA)
    assert bytes(sink.data) == DATA
    assert sink.lengths == {len(DATA)}
    assert lab.header("X-Token") == "s"


async def test_what_is_sent_arrives(lab: Lab) -> None:
    lab.serve(b"")
    await lab.remotes.send(lab.url, {"X-Token": "s"}, give, len(DATA))
    assert lab.sent() == DATA
    assert lab.header("X-Token") == "s"


async def test_more_than_there_is_room_for_is_not_taken(lab: Lab) -> None:
    lab.serve(DATA)
    sink = Sink()
    with pytest.raises(RemoteTransferError, match="there is room for"):
        await lab.remotes.fetch(lab.url, {}, sink.take, most=len(DATA) - 1)
    assert not sink.data


async def test_what_becomes_shorter_is_not_sent(lab: Lab) -> None:
    lab.serve(b"")
    with pytest.raises(RemoteTransferError, match="shorter"):
        await lab.remotes.send(lab.url, {}, give, len(DATA) + 1)


async def test_a_failure_of_the_storage_is_the_storages(lab: Lab) -> None:
    lab.serve(DATA)

    async def take(piece: bytes, length: int) -> None:
        raise StorageBroken(file="/x", reason="Input/output error")

    with pytest.raises(StorageBroken):
        await lab.remotes.fetch(lab.url, {}, take, most=1 << 30)


# ---- servers that lie ------------------------------------------------------------------------------------------------

LIES = {
    "closed": (b"", "without an answer"),
    "no HTTP": (b"SSH-2.0-OpenSSH\r\n", ""),
    "missing": (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "404"),
    "redirect": (b"HTTP/1.1 302 Found\r\nLocation: file:///etc/shadow\r\nContent-Length: 0\r\n\r\n", "redirect"),
    "no length": (b"HTTP/1.1 200 OK\r\n\r\nabc", "how long"),
    "chunked": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "how long"),
    "packed": (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", "how long"),
    "cut": (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", "3 bytes of 9"),
    "partial": (b"HTTP/1.1 206 Partial\r\nContent-Length: 3\r\n\r\nabc", "206"),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", ""),
    "negative": (b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nabc", ""),
    "more": (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef", ""),
    "absurd": (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nabc", ""),
    "endless head": (b"HTTP/1.1 200 OK\r\nX: " + b"x" * (1 << 20), ""),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_server_that_lies(server: Server, lie: str) -> None:
    said, reason = LIES[lie]
    server.answer = lambda head, body: said
    with pytest.raises(RemoteTransferError, match=reason or None):
        await fetch(HttpRemotes(), server.url)


async def test_nobody_there_and_a_server_that_is_silent(server: Server) -> None:
    with pytest.raises(RemoteTransferError, match=r"127\.0\.0\.1:9"):
        await fetch(HttpRemotes(), "http://127.0.0.1:9/a")
    never = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await never.wait()
        writer.close()

    listener = await asyncio.start_server(hang, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    with pytest.raises(RemoteTransferError, match="silent"):
        await fetch(HttpRemotes(idle_s=0.2), f"http://127.0.0.1:{port}/a")
    with pytest.raises(RemoteTransferError, match=r"does not take|silent"):
        await HttpRemotes(idle_s=0.2).send(f"http://127.0.0.1:{port}/a", {}, give, len(DATA))
    never.set()
    listener.close()


async def test_a_server_that_refuses_what_is_sent_says_why(server: Server) -> None:
    server.answer = lambda head, body: b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"
    with pytest.raises(RemoteTransferError, match="403"):
        await HttpRemotes().send(server.url, {}, give, len(DATA))


async def test_a_certificate_is_verified(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.host()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    async with serving(context) as server:
        server.answer = lambda head, body: ok(b"abc")
        with pytest.raises(RemoteTransferError, match="certificate verify failed"):
            await fetch(HttpRemotes(), server.url)
        assert await fetch(HttpRemotes(str(authority.certificate)), server.url) == b"abc"

# SPDX-License-Identifier: Apache-2.0
"""JSON-RPC over STOMP: processor time of a ping and of the statistics of a hundred machines, plain and over TLS."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from harness.stomp import REQUESTS, Wired

from . import bare_stomp
from .measure import Clock, Row, cpu_seconds

ROUNDS = 12  # the best counts: what another process does to the caches is not ours
PINGS, LISTS = 3000, 60
MACHINES = 100
# Microseconds of server CPU per call, as measured of the published server's stack on two cores like those this is tuned
# on. There, with nothing else running, the bare server takes so long as below; where it takes longer, so would both.
PUBLISHED = {"plain": 130.0, "TLS": 170.0}
PUBLISHED_STATS = 5000.0
BARE = {("plain", 1): 12.0, ("plain", 10): 9.5, ("TLS", 1): 22.5, ("TLS", 10): 17.5}


class Used(NamedTuple):
    us: float  # server CPU per call
    rate: float  # calls per second


class Server(NamedTuple):
    pid: int
    port: int


def rows(home: Path) -> Iterator[Row]:
    wired = Wired(home, "vdsmbench").serve(MACHINES)
    try:
        answer = home / "answer"
        answer.write_bytes(asyncio.run(_answer(wired.port())))
        for kind, context in (("plain", None), ("TLS", wired.context())):
            ours = Server(wired.process.pid, wired.port("http" if context is None else "https"))
            with _bare(answer, "" if context is None else f"{wired.state}/pki/host.pem") as bare:
                for clients in (1, 10):
                    yield from _pings(ours, bare, kind, context, clients)
                yield _stats(ours, bare, kind, context)
    finally:
        wired.end()


def _pings(ours: Server, bare: Server, kind: str, context: ssl.SSLContext | None, clients: int) -> Iterator[Row]:
    load = _Load(context, "Host.ping", PINGS, clients)
    used, beside = _measure([(ours, load), (bare, load)])
    published = PUBLISHED[kind] * _slowness(beside, kind, clients)
    what = f"JSON-RPC, {kind}, ping, {clients} client{'s' if clients > 1 else ''}"
    yield Row(f"{what}: CPU", used.us, "us", published, "the published server's stack, scaled", limit=0.5)
    yield Row(f"{what}: CPU", used.us, "us", beside.us, "asyncio writing the same bytes")
    yield Row(f"{what}: calls/s", used.rate, "", beside.rate, "the same")


def _stats(ours: Server, bare: Server, kind: str, context: ssl.SSLContext | None) -> Row:
    lists, pings = _Load(context, "Host.getAllVmStats", LISTS, 1), _Load(context, "Host.ping", PINGS, 10)
    used, beside = _measure([(ours, lists), (bare, pings)])
    published = PUBLISHED_STATS * _slowness(beside, kind, 10)
    what = f"JSON-RPC, {kind}, {MACHINES} machines' statistics: CPU"
    return Row(what, used.us, "us", published, "the published server's stack, scaled", limit=0.5)


def _slowness(bare: Used, kind: str, clients: int) -> float:
    """How much slower this machine is now than that one was."""
    return max(1.0, bare.us / BARE[kind, clients])


@contextmanager
def _bare(answer: Path, certificate: str) -> Iterator[Server]:
    command = [sys.executable, bare_stomp.__file__, str(answer), certificate]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield Server(process.pid, int(process.stdout.readline()))
        finally:
            process.kill()


class _Load(NamedTuple):
    """So many calls over a few connections, each answer awaited."""

    context: ssl.SSLContext | None
    method: str
    calls: int
    clients: int

    async def run(self, port: int) -> None:
        await asyncio.gather(*(self._one_client(port, f"replies-{number}") for number in range(self.clients)))

    async def _one_client(self, port: int, replies: str) -> None:
        reader, writer = await _connect(port, self.context, replies)
        request = _call(self.method, replies)
        for _ in range(self.calls // self.clients):
            writer.write(request)
            await reader.readuntil(b"\0")
        writer.close()


def _measure(loads: Sequence[tuple[Server, _Load]]) -> list[Used]:
    """Of each the best, taken in turns, so that what disturbs one disturbs the other."""
    best, rates = [float("inf")] * len(loads), [0.0] * len(loads)
    for _ in range(ROUNDS):
        for number, (server, load) in enumerate(loads):
            before = cpu_seconds(server.pid)
            with Clock() as clock:
                asyncio.run(load.run(server.port))
            best[number] = min(best[number], (cpu_seconds(server.pid) - before) / load.calls * 1e6)
            rates[number] = max(rates[number], load.calls / clock.seconds)
    return [Used(us, rate) for us, rate in zip(best, rates, strict=True)]


async def _answer(port: int) -> bytes:
    """What vdsm writes for a ping, for the other to write too."""
    reader, writer = await _connect(port, None, "replies")
    writer.write(_call("Host.ping", "replies"))
    answer = await reader.readuntil(b"\0")
    writer.close()
    return answer


async def _connect(
    port: int, context: ssl.SSLContext | None, replies: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname=None if context is None else "", limit=1 << 24
    )
    for frame in ("CONNECT\naccept-version:1.2", f"SUBSCRIBE\nid:1\ndestination:{replies}\nreceipt:1"):
        writer.write(f"{frame}\n\n\0".encode())
        await reader.readuntil(b"\0")
    return reader, writer


def _call(method: str, replies: str) -> bytes:
    body = json.dumps({"jsonrpc": "2.0", "method": method, "params": {}, "id": "5f0c1a3e-6d0b-4d0f-9a55-0d7a3e1c2b11"})
    head = f"SEND\ndestination:{REQUESTS}\nreply-to:{replies}\ncontent-length:{len(body)}\n\n"
    return f"{head}{body}\0".encode()

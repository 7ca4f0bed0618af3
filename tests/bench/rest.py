# SPDX-License-Identifier: Apache-2.0
"""The REST door: processor time of a small read, statistics of many machines, memory."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.daemon import Daemon
from harness.until import until

from . import bare
from .measure import Clock, Row, cpu_seconds, median_ms, percentile, resident_mib

SMALL = "/api/v1/host/hardware-info"
REQUESTS = 4000
CONNECTIONS = 8
ROUNDS = 8  # the best counts: what another process does to the caches is not ours


def rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="vdsmbench-") as home:
        few = simulated(Path(home) / "few", 3)
        body = get(few.socket, SMALL)
        with bare_server(Path(home), body) as (pid, path):
            yield from _small_read(few, pid, path)
            empty = resident_mib(pid)
        few.end()
        many = simulated(Path(home) / "many", 200)
        yield from _stats(many, 200)
        many.end()
        yield from _memory(Path(home), empty)


def simulated(home: Path, machines: int) -> Daemon:
    home.mkdir(exist_ok=True)
    daemon = Daemon(home, "vdsmbench", uri="")
    daemon.start("--simulate", str(machines))
    return daemon


@contextmanager
def bare_server(home: Path, body: bytes) -> Iterator[tuple[int, Path]]:
    path = home / "bare.sock"
    (home / "body").write_bytes(body)
    with subprocess.Popen([sys.executable, bare.__file__, str(path), str(home / "body")]) as process:
        try:
            until("the bare server answers", path.exists)
            yield process.pid, path
        finally:
            process.kill()


def get(path: Path, target: str) -> bytes:
    with socket.socket(socket.AF_UNIX) as wire:
        wire.connect(str(path))
        connection = http.client.HTTPConnection("localhost")
        connection.sock = wire
        connection.request("GET", target)
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body
        return body


async def load(path: Path, target: str, requests: int) -> None:
    """So many requests over a few connections that stay open, each answer awaited."""
    request = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n".encode()

    async def one_connection() -> None:
        reader, writer = await asyncio.open_unix_connection(str(path))
        for _ in range(requests // CONNECTIONS):
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.split(b":")[1]))
        writer.close()

    await asyncio.gather(*(one_connection() for _ in range(CONNECTIONS)))


def _small_read(daemon: Daemon, bare_pid: int, bare_path: Path) -> Iterator[Row]:
    servers = {"ours": (daemon.process.pid, daemon.socket), "bare": (bare_pid, bare_path)}
    used: dict[str, list[float]] = {name: [] for name in servers}
    for _ in range(ROUNDS):
        for name, (pid, path) in servers.items():
            before = cpu_seconds(pid)
            asyncio.run(load(path, SMALL, REQUESTS))
            used[name].append((cpu_seconds(pid) - before) / REQUESTS * 1e6)
    ours, beside = (min(used[name]) for name in ("ours", "bare"))
    yield Row("REST, a small read: CPU per request", ours, "us", beside, "uvicorn with the same bytes", limit=1.6)


def _stats(daemon: Daemon, machines: int) -> Iterator[Row]:
    times = []
    for _ in range(30):
        with Clock() as clock:
            body = get(daemon.socket, "/api/v1/host/vm-stats")
        times.append(clock.seconds)
        assert len(json.loads(body)) == machines
    yield Row(f"REST, statistics of {machines} machines: p50", median_ms(times), "ms", limit=100)
    yield Row(f"REST, statistics of {machines} machines: p99", percentile(times, 99) * 1000, "ms")


def _memory(home: Path, beside: float) -> Iterator[Row]:
    for machines, limit in ((0, 150), (1000, 250)):
        daemon = simulated(home / f"memory{machines}", machines)
        if machines:
            get(daemon.socket, "/api/v1/host/vm-stats")
        yield (
            Row(f"memory with {machines} machines", resident_mib(daemon.process.pid), "MiB", limit=limit)
            if machines
            else Row("memory, idle", resident_mib(daemon.process.pid), "MiB", beside, "the bare uvicorn")
        )
        daemon.end()

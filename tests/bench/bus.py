# SPDX-License-Identifier: Apache-2.0
"""A verb called over the bus, through a real RabbitMQ, beside the same verb over REST: processor time, and time."""

from __future__ import annotations

import asyncio
import http.client
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from harness.daemon import Daemon
from harness.rabbitmq import running
from harness.rest_server import UnixHttp
from vdsm.amqp.address import BusAddress
from vdsm.amqp.bus import Bus
from vdsm.client.qmf import Console, RemoteBridge
from vdsm.contract import VERBS

from .measure import Row, cpu_seconds

ROUNDS = 5  # the best counts: what another process does to a round is not ours
MACHINES = 100
HOST = "vdsmbench"
CALLS = (("Host.ping2", "/api/v1/host/ping2", 500), ("Host.getAllVmStats", "/api/v1/host/vm-stats", 20))


class Used(NamedTuple):
    us: float  # processor time of the daemon, per call
    ms: float  # median time of a call


def rows(home: Path) -> Iterator[Row]:
    (home / "rabbitmq").mkdir()
    with running(home / "rabbitmq") as broker:
        daemon = _daemon(home, broker.url("host-a"))
        try:
            for method, path, count in CALLS:
                over_bus = min(asyncio.run(_bus(daemon, broker.url("engine"), method, count)) for _ in range(ROUNDS))
                over_rest = min(_rest(daemon, path, count) for _ in range(ROUNDS))
                yield Row(f"{method} over the bus: CPU", over_bus.us, "us", over_rest.us, "REST", limit=16)
                yield Row(f"{method} over the bus: time", over_bus.ms, "ms", over_rest.ms, "REST")
        finally:
            daemon.end()


def _daemon(home: Path, url: str) -> Daemon:
    password = home / "password"
    password.write_text("host-a")
    password.chmod(0o600)
    bus = f'[bus]\naddress = "{url.replace("host-a:host-a@", "host-a@")}"\npassword_file = "{password}"\n'
    made = Daemon(home / "host", HOST, uri="", config=f'{bus}name = "{HOST}"\nusers = {{ engine = "admin" }}\n')
    made.start("--simulate", str(MACHINES))
    return made


async def _bus(daemon: Daemon, url: str, method: str, count: int) -> Used:
    caller = object()
    async with Console(Bus(BusAddress.parse(url))) as console:
        await console.wait_up(60)
        await console.find(HOST, 60)
        bridge = RemoteBridge(console, HOST)
        await bridge.call(VERBS[method], {}, caller)
        await asyncio.sleep(3)  # what it tells a new console is no part of a call
        took = []
        before = cpu_seconds(daemon.process.pid)
        for _ in range(count):
            began = time.perf_counter()
            await bridge.call(VERBS[method], {}, caller)
            took.append(time.perf_counter() - began)
        return _used(daemon, before, took)


def _rest(daemon: Daemon, path: str, count: int) -> Used:
    connection: http.client.HTTPConnection = UnixHttp(daemon.socket)
    get: Callable[[], object] = lambda: (connection.request("GET", path), connection.getresponse().read())  # noqa: E731
    get()
    took = []
    before = cpu_seconds(daemon.process.pid)
    for _ in range(count):
        began = time.perf_counter()
        get()
        took.append(time.perf_counter() - began)
    connection.close()
    return _used(daemon, before, took)


def _used(daemon: Daemon, before: float, took: list[float]) -> Used:
    return Used((cpu_seconds(daemon.process.pid) - before) / len(took) * 1e6, statistics.median(took) * 1000)

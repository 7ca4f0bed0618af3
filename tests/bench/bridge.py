# SPDX-License-Identifier: Apache-2.0
"""What the bridge itself costs: a trivial verb through it, in one process, beside the bare handler."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Awaitable, Callable, Iterator

from harness.memory_host import ADMIN, MemoryHost
from vdsm.contract import host

from .measure import Clock, Row

CALLS = 20_000
ROUNDS = 5


def rows() -> Iterator[Row]:
    through, bare = asyncio.run(_measure())
    yield Row("Bridge.call of Host.ping2, in process", through, "us", bare, "an empty coroutine")


async def _measure() -> tuple[float, float]:
    """Microseconds a call, through the bridge and without."""
    memory = MemoryHost(None)
    await memory.open()
    try:
        through = await _microseconds(lambda: memory.bridge.call(host.ping2, {}, ADMIN))
        bare = await _microseconds(_nothing)
    finally:
        await memory.close()
    return through, bare


async def _nothing() -> None:
    pass


async def _microseconds(call: Callable[[], Awaitable[object]]) -> float:
    times = []
    for _ in range(ROUNDS):
        with Clock() as clock:
            for _ in range(CALLS):
                await call()
        times.append(clock.seconds / CALLS * 1e6)
    return statistics.median(times)

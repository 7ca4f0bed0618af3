# SPDX-License-Identifier: Apache-2.0
"""Blocking calls in a pool: bounded, each within its time, one that hangs alone with it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from harness.until import BUSY
from vdsm.contract.errors import DeadlineExceeded, TooBusy
from vdsm.core.ports.deadline import within
from vdsm.drivers.pool import Pool


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What hanging calls wait for."""
    made = threading.Event()
    yield made
    made.set()


async def test_calls_run_in_threads_of_their_own() -> None:
    pool = Pool("test", workers=2)
    assert await pool.run("name", lambda: threading.current_thread().name, most=5) == "test-1"
    with pytest.raises(ZeroDivisionError):
        await pool.run("fail", lambda: 1 // 0, most=5)
    pool.close()


async def test_a_call_that_hangs_takes_one_thread(gate: threading.Event) -> None:
    pool = Pool("test", workers=2)
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="hang"):
        await pool.run("hang", gate.wait, most=0.05)
    assert [await pool.run("live", lambda: 1, most=5) for _ in range(20)] == [1] * 20
    assert time.monotonic() - began < 1 * BUSY
    gate.set()
    pool.close()


async def test_one_object_takes_one_thread_only(gate: threading.Event) -> None:
    pool = Pool("test", workers=2)
    for _ in range(5):
        with pytest.raises(DeadlineExceeded):
            await pool.run("hang", gate.wait, most=0.02, key="vm")
    assert await pool.run("live", lambda: 1, most=5, key="other") == 1
    gate.set()
    assert await pool.run("again", lambda: 2, most=5, key="vm") == 2
    pool.close()


async def test_calls_for_one_object_keep_their_order() -> None:
    pool = Pool("test", workers=4)
    order: list[int] = []
    await asyncio.gather(*(pool.run("n", lambda n=n: order.append(n), most=5, key="vm") for n in range(50)))
    assert order == list(range(50))
    pool.close()


async def test_too_many_that_wait_are_told_so(gate: threading.Event) -> None:
    pool = Pool("test", workers=1, waiting=2)
    calls = [asyncio.create_task(pool.run("wait", gate.wait, most=5)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(TooBusy):
        await pool.run("late", lambda: 1, most=5)
    gate.set()
    assert await asyncio.gather(*calls) == [True] * 3
    assert await pool.run("now", lambda: 1, most=5) == 1
    pool.close()


async def test_who_gives_up_leaves_the_queue(gate: threading.Event) -> None:
    pool = Pool("test", workers=1, waiting=1)
    held = asyncio.create_task(pool.run("hold", gate.wait, most=5))
    await asyncio.sleep(0)
    ran: list[int] = []
    for number in range(3):  # each finds the place of the one before
        with within(0.02), pytest.raises(DeadlineExceeded):
            await pool.run("queue", lambda n=number: ran.append(n), most=5)
    gate.set()
    assert await held
    assert await pool.run("now", lambda: 1, most=5) == 1
    assert ran == []
    pool.close()


async def test_the_threads_end() -> None:
    pool = Pool("test-end", workers=3)
    await asyncio.gather(*(pool.run("nap", lambda: time.sleep(0.02), most=5) for _ in range(3)))
    pool.close()
    end = time.monotonic() + 5
    while any(t.name.startswith("test-end") for t in threading.enumerate()):
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


async def test_a_calls_own_timeout_is_its_own() -> None:
    def late() -> None:
        raise TimeoutError("the call's")

    pool = Pool("test", workers=1)
    with pytest.raises(TimeoutError, match="the call's"):
        await pool.run("late", late, most=5)
    pool.close()

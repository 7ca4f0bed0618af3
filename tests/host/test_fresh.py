# SPDX-License-Identifier: Apache-2.0
"""A value that is reused while it is fresh."""

from __future__ import annotations

import asyncio

import pytest

from vdsm.core.host.fresh import Fresh


class Source:
    def __init__(self) -> None:
        self.now = 100.0
        self.reads = 0
        self.broken = False
        self.fresh = Fresh(self.read, 1.0, lambda: self.now)

    async def read(self) -> int:
        await asyncio.sleep(0)
        self.reads += 1
        if self.broken:
            raise OSError
        return self.reads


async def test_reused_until_it_is_too_old() -> None:
    source = Source()
    assert source.fresh.last is None
    assert [await source.fresh.get(), await source.fresh.get()] == [1, 1]
    source.now += 1.0
    assert await source.fresh.get() == 1
    source.now += 0.1
    assert source.fresh.last == 1
    assert await source.fresh.get() == 2


async def test_many_who_ask_at_once_share_one_reading() -> None:
    source = Source()
    assert await asyncio.gather(*(source.fresh.get() for _ in range(50))) == [1] * 50


async def test_read_again_whatever_its_age() -> None:
    source = Source()
    await source.fresh.get()
    assert await source.fresh.read_again() == 2


async def test_a_failure_is_not_kept() -> None:
    source = Source()
    source.broken = True
    with pytest.raises(OSError):
        await source.fresh.get()
    source.broken = False
    assert await source.fresh.get() == 2


async def test_one_who_gives_up_does_not_hold_up_the_others() -> None:
    source = Source()
    gate = asyncio.Event()
    read = source.read

    async def slow() -> int:
        await gate.wait()
        return await read()

    fresh = Fresh(slow, 1.0, lambda: source.now)
    first, second = asyncio.ensure_future(fresh.get()), asyncio.ensure_future(fresh.get())
    await asyncio.sleep(0)
    first.cancel()
    gate.set()
    assert await second == 1
    with pytest.raises(asyncio.CancelledError):
        await first

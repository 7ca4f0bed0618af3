# SPDX-License-Identifier: Apache-2.0
"""Locks: one alone, or several who only read."""

from __future__ import annotations

import asyncio

import pytest

from vdsm.contract.errors import ObjectBusy
from vdsm.core.locks import Locks, shared


async def busy(locks: Locks, holder: str, *names: str) -> str:
    """Who is in the way."""
    with pytest.raises(ObjectBusy) as refused:
        await locks.hold(holder, names, patience=0.01)
    return str(refused.value.facts["holder"])


async def test_one_alone() -> None:
    locks = Locks()
    await locks.hold("a", ["disk:1"])
    await locks.hold("a", ["disk:1", shared("disk:1")])
    assert await busy(locks, "b", "disk:1") == "a"
    assert await busy(locks, "b", shared("disk:1")) == "a"
    assert locks.holder("disk:1") == "a"
    await locks.release("a")
    await locks.hold("b", ["disk:1"])
    assert locks.holder("disk:1") == "b"


async def test_readers_together_and_no_writer_beside_them() -> None:
    locks = Locks()
    await locks.hold("a", [shared("disk:1")])
    await locks.hold("b", [shared("disk:1")])
    await locks.hold("b", [shared("disk:1")])
    assert await busy(locks, "c", "disk:1") in ("a", "b")
    await locks.release("a")
    assert locks.holder("disk:1") == "b"
    assert await busy(locks, "c", "disk:1") == "b"
    await locks.hold("b", ["disk:1"])  # the only reader may become the writer
    assert await busy(locks, "a", shared("disk:1")) == "b"
    await locks.release("b")
    assert locks.holder("disk:1") == ""
    await locks.hold("c", ["disk:1"], patience=0)


async def test_nothing_is_kept_of_what_was_refused() -> None:
    locks = Locks()
    await locks.hold("a", ["disk:2"])
    assert await busy(locks, "b", shared("disk:1"), "disk:2") == "a"
    await locks.hold("c", ["disk:1"], patience=0)


async def test_whoever_waits_goes_on_when_it_is_free() -> None:
    locks = Locks()
    await locks.hold("a", [shared("disk:1")])
    waiting = asyncio.create_task(locks.hold("b", ["disk:1"], patience=5))
    await asyncio.sleep(0)
    await locks.release("a")
    await asyncio.wait_for(waiting, 1)
    assert locks.holder("disk:1") == "b"


@pytest.mark.parametrize("turns", range(8))
async def test_who_is_cancelled_as_it_gets_its_turn_has_nothing(turns: int) -> None:
    """Whether or not the turns of the event loop between the two are enough to get it."""
    locks = Locks()
    await locks.hold("a", ["disk:1"])
    waiting = asyncio.create_task(locks.hold("b", ["disk:1"]))
    await asyncio.sleep(0.01)
    await locks.release("a")
    for _ in range(turns):
        await asyncio.sleep(0)
    if not waiting.done():
        waiting.cancel()
        await asyncio.wait({waiting})
        assert waiting.cancelled()
    assert locks.holder("disk:1") == ("" if waiting.cancelled() else "b")

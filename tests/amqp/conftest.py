# SPDX-License-Identifier: Apache-2.0
"""Buses that are closed again."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from harness.bus import Join
from vdsm.amqp.address import BusAddress
from vdsm.amqp.bus import Bus

WAIT_S = 30.0


@pytest.fixture
async def join() -> AsyncIterator[Join]:
    """`await join(url)` is a bus that is up."""
    made: list[Bus] = []

    async def make(url: str, **files: str) -> Bus:
        bus = Bus(BusAddress.parse(url, **files), name="vdsmtest")
        made.append(bus)
        await bus.open()
        await bus.wait_up(WAIT_S)
        return bus

    yield make
    for bus in made:
        await bus.close()

# SPDX-License-Identifier: Apache-2.0
"""Messages that must arrive: sent, and sent again when the connection breaks before the broker has them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from vdsm.amqp.bus import Bus
from vdsm.amqp.places import Target
from vdsm.protocols.amqp import Message

log = logging.getLogger(__name__)

_AGAIN = 0.5  # seconds; by then it is known whether a connection broke
_GIVE_UP = 10.0  # seconds; the console has given up by then, or asks again


async def deliver(bus: Bus, where: Target, messages: Sequence[Message]) -> bool:
    """Send them in order, each when the broker has the one before. False if one of them could not be sent in time."""
    try:
        async with asyncio.timeout(_GIVE_UP):
            for message in messages:
                await _deliver(bus, where, message)
    except TimeoutError:
        log.warning("an answer over the bus was lost: the broker took none for %.0f s", _GIVE_UP)
        return False
    return True


async def _deliver(bus: Bus, where: Target, message: Message) -> None:
    while True:
        settled = _Settled()
        connection = bus.counters.connections
        sent = bus.send(where, message, settled)
        if sent and await settled.taken:
            return
        await asyncio.sleep(_AGAIN)
        if sent and bus.up and bus.counters.connections == connection:
            return  # refused, and the connection still stands: nobody is there to have it


class _Settled:
    """What the broker says of one message, to wait for."""

    def __init__(self) -> None:
        self.taken: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def __call__(self, taken: bool) -> None:
        if not self.taken.done():
            self.taken.set_result(taken)

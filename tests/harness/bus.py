# SPDX-License-Identifier: Apache-2.0
"""Listening on a message bus, for tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from harness.until import soon
from vdsm.amqp.bus import Bus
from vdsm.amqp.places import Source
from vdsm.protocols.amqp import Message

Join = Callable[..., Awaitable[Bus]]
"""Given a URL and the files of TLS: a bus that is up."""


async def listen(bus: Bus, where: Source) -> list[Message]:
    """What comes there, from now on."""
    mail: list[Message] = []
    bus.listen(where, mail.append)
    await soon(f"it listens at {where}", lambda: bus.up)
    return mail


async def first(mail: list[Message]) -> Message:
    await soon("a message", lambda: mail)
    return mail[0]

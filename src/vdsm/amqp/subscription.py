# SPDX-License-Identifier: Apache-2.0
"""One who listens at a place, over all the connections of a bus."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from uuid import UUID

from vdsm.amqp.places import Direct, Source
from vdsm.protocols.amqp import Message

Handler = Callable[[Message], None]
"""Called on the event loop for each message, in order. It must be quick: the next one waits for it."""

REMEMBERED = 4096


class Subscription:
    """Requests that a broker brings again, because it does not know that they arrived, are not handed over twice."""

    def __init__(self, where: Source, handler: Handler, forget: Callable[[Subscription], None]) -> None:
        self.where = where
        self._handler = handler
        self._forget = forget
        self._seen: OrderedDict[tuple[str | None, str | int | bytes | UUID], None] = OrderedDict()
        self._closed = False

    def take(self, message: Message) -> None:
        # By the loop: a fault in the handler is the handler's, and the connection goes on.
        if not self._closed and not self._is_again(message):
            asyncio.get_running_loop().call_soon(self._hand_over, message)

    def close(self) -> None:
        """Nothing more is handed over."""
        self._closed = True
        self._forget(self)

    def _hand_over(self, message: Message) -> None:
        if not self._closed:
            self._handler(message)

    def _is_again(self, message: Message) -> bool:
        name = message.correlation_id
        if not isinstance(self.where, Direct) or not isinstance(name, str | int | bytes | UUID):
            return False
        key = (message.reply_to, name)
        if message.redelivered and key in self._seen:
            return True
        self._seen[key] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return False

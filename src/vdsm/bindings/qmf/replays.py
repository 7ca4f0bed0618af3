# SPDX-License-Identifier: Apache-2.0
"""A broker may deliver a request twice, and anybody who has read one may send it again: it is done once all the same.

What counts as the same request: the sender, where the answer goes, the correlation id, and the whole call.
"""

from __future__ import annotations

import hashlib
import time
from asyncio import Future
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from vdsm.protocols.amqp import Message
from vdsm.protocols.qmf2.model import Fault, MethodAnswer, MethodCall

_KEPT = 1024  # answers; each is that of a change, some KiB at most
_SECONDS = 600.0

Answer = MethodAnswer | Fault
Key = bytes


class Replays:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: OrderedDict[Key, tuple[float, Future[Answer]]] = OrderedDict()

    def earlier(self, key: Key) -> Future[Answer] | None:
        """What the first of these requests was answered, or will be."""
        found = self._kept.get(key)
        return found[1] if found else None

    def keep(self, key: Key, answer: Future[Answer]) -> None:
        self._kept[key] = (self._clock(), answer)
        limit = self._clock() - _SECONDS
        while len(self._kept) > _KEPT or next(iter(self._kept.values()))[0] < limit:
            self._kept.popitem(last=False)


def key_of(message: Message, call: MethodCall) -> Key | None:
    """None for a request that cannot be told from another: without a correlation id two may be meant."""
    if message.correlation_id is None:
        return None
    parts = [message.user_id, message.reply_to, repr(message.correlation_id), repr(call)]
    return hashlib.sha256(msgspec.json.encode(parts)).digest()

# SPDX-License-Identifier: Apache-2.0
"""The two ends of one link: messages that come, and messages that leave as the broker gives credit for them."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from proton import Delivery, Disposition, Receiver, Sender, Session

from vdsm.amqp.convert import Unreadable, decode
from vdsm.protocols.amqp import Message

log = logging.getLogger(__name__)

Settled = Callable[[bool], None]

MOST_BYTES = 8 << 20
"""Of one message that comes. A longer one is refused while it comes, never kept."""

BACKLOG_BYTES = 2 << 20
"""Of a session, written and not yet on the wire. More is not written: the broker, or the way to it, is slow."""


class Incoming:
    """Takes each message, says so to the broker, and hands it over: at most once, whatever comes after."""

    def __init__(self, link: Receiver, credit: int, read: Callable[[bytes], Callable[[], None] | None]) -> None:
        """`read` makes of a message what is to be done with it; None refuses it."""
        self._link = link
        self._credit = credit
        self._read = read
        self._parts: list[bytes] = []
        self._size = 0
        link.flow(credit)

    def take(self, delivery: Delivery) -> None:
        """The next part of a message has come, most often all of it."""
        if not delivery.aborted and delivery.pending and (part := self._link.recv(delivery.pending)):
            self._size += len(part)
            if self._size <= MOST_BYTES:
                self._parts.append(part)
            else:
                self._parts.clear()
        if delivery.partial and not delivery.aborted:
            return
        aborted, data, size = delivery.aborted, b"".join(self._parts), self._size
        self._parts, self._size = [], 0
        self._link.advance()
        act = None if aborted or size > MOST_BYTES else self._read(data)
        if size > MOST_BYTES:
            log.warning("a message of %d bytes was refused: the most is %d", size, MOST_BYTES)
        if not delivery.settled:
            delivery.update(Disposition.ACCEPTED if act else Disposition.REJECTED)
        delivery.settle()
        if self._link.credit <= self._credit // 2:
            self._link.flow(self._credit - self._link.credit)
        if act:
            act()

    def close(self) -> None:
        self._link.close()


def reading(on_message: Callable[[Message], None]) -> Callable[[bytes], Callable[[], None] | None]:
    """For messages as the bus has them."""

    def read(data: bytes) -> Callable[[], None] | None:
        try:
            message = decode(data)
        except Unreadable as problem:
            log.warning("a message was refused: %s", problem)
            return None
        return lambda: on_message(message)

    return read


class Outgoing:
    """Sends while there is credit; keeps `room` messages for when there is none; refuses what is more."""

    def __init__(
        self,
        link: Sender,
        session: Session,
        room: int,
        on_usable: Callable[[], None],
        on_unsent: Callable[[], None],
    ) -> None:
        self._link = link
        self._session = session
        self._room = room
        self._on_usable = on_usable
        self._on_unsent = on_unsent
        self._waiting: deque[tuple[bytes, Settled | None]] = deque()
        self._unsettled: dict[str, Settled] = {}
        self._tag = 0
        self.usable = False  # the broker has given credit once

    def send(self, data: bytes, settled: Settled | None, *, may_wait: bool) -> bool:
        if not self._waiting and self._may_send():
            self._transmit(data, settled)
        elif may_wait and len(self._waiting) < self._room:
            self._waiting.append((data, settled))
        else:
            return False
        return True

    def flow(self) -> None:
        """There may be credit, or the backlog may have shrunk."""
        if not self.usable and self._link.credit > 0:
            self.usable = True
            self._on_usable()
        while self._waiting and self._may_send():
            self._transmit(*self._waiting.popleft())

    def settle(self, delivery: Delivery) -> None:
        """The broker has said what became of a message."""
        state = delivery.remote_state
        if not state and not delivery.settled:
            return
        delivery.settle()
        if settled := self._unsettled.pop(str(delivery.tag), None):
            settled(state in (0, Disposition.ACCEPTED))

    def end(self) -> None:
        """Nothing more will be heard of what was sent."""
        for _, settled in self._waiting:
            self._on_unsent()
            if settled:
                settled(False)
        self._waiting.clear()
        unsettled, self._unsettled = self._unsettled, {}
        for settled in unsettled.values():
            settled(False)

    def _may_send(self) -> bool:
        return self._link.credit > 0 and self._session.outgoing_bytes < BACKLOG_BYTES

    def _transmit(self, data: bytes, settled: Settled | None) -> None:
        self._tag += 1
        tag = str(self._tag)
        delivery = self._link.delivery(tag)
        self._link.stream(data)
        self._link.advance()
        if settled:
            self._unsettled[tag] = settled
        else:
            delivery.settle()

# SPDX-License-Identifier: Apache-2.0
"""What an agent or a console needs of a message bus."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from vdsm.amqp.places import Source, Target
from vdsm.protocols.amqp import Message

Handler = Callable[[Message], None]
"""Called on the event loop for each message, in order. It must be quick: the next one waits for it."""

Settled = Callable[[bool], None]
"""Called once for a message: True when the broker has taken it, False when it refused it or the connection was lost."""


@dataclass(slots=True)
class Counters:
    """Since the bus was opened."""

    connections: int = 0
    failures: int = 0  # attempts to connect that failed, and connections that broke
    received: int = 0
    sent: int = 0
    dropped: int = 0  # not sent: no connection, no credit, or too much still waits to be sent
    refused: int = 0  # sent, and not taken by the broker


class Subscription(Protocol):
    def close(self) -> None:
        """No more messages are handed over."""


class Bus(Protocol):
    """One broker, connected to for as long as it is open; what breaks is made anew. Belongs to one event loop."""

    counters: Counters

    @property
    def up(self) -> bool:
        """Whether it is connected and all that listens is attached."""

    @property
    def identity(self) -> str | None:
        """The user this process is to the broker; None when anonymous."""

    @property
    def reply_address(self) -> str | None:
        """For `Message.reply_to`; another one after each `on_up`. None when down or when nobody listens to Inbox."""

    def watch(self, on_up: Callable[[], None], on_down: Callable[[str], None]) -> None:
        """Be told each time the bus is up, and each time it is lost, with the reason."""

    def listen(self, where: Source, handler: Handler) -> Subscription:
        """Hand over what comes there, from now on or from when the bus is up, again after each reconnect."""

    def send(self, where: Target, message: Message, settled: Settled | None = None) -> bool:
        """Send, or drop it at once and return False (then `settled` is never called). Never waits.

        The place fills `address` and `subject`; `user_id` is filled with `identity` where the broker verifies it.
        Without `settled` the broker is not asked whether it took the message.
        """

    async def open(self) -> None:
        """Begin to connect; returns at once."""

    async def wait_up(self, seconds: float) -> None:
        """Raises BusDown with the last failure when the bus is not up in time."""

    async def close(self) -> None:
        """Give what was sent a moment to leave, and end."""

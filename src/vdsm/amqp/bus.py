# SPDX-License-Identifier: Apache-2.0
"""A message bus as an agent or a console sees it: one broker, connected to for as long as the bus is open."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import ssl
from collections.abc import Callable
from typing import Any

from proton import symbol

from vdsm.amqp.address import BusAddress
from vdsm.amqp.attachment import Attachment, Counters
from vdsm.amqp.connection import Connection
from vdsm.amqp.errors import BusDown, ProtocolFault, Refused
from vdsm.amqp.links import Settled
from vdsm.amqp.places import Source, Target
from vdsm.amqp.profiles import PROFILES, Profile, recognise
from vdsm.amqp.subscription import Handler, Subscription
from vdsm.protocols.amqp import Message

log = logging.getLogger(__name__)

ATTEMPT_SECONDS = 10.0
"""For one attempt to connect and attach."""

FIRST_PAUSE_SECONDS = 0.2
MOST_PAUSE_SECONDS = 3.0  # a broker that comes back is found within it
MOST_PAUSE_REFUSED_SECONDS = 30.0  # by a broker that is well and does not want us
STABLE_SECONDS = 5.0
"""A connection that lasted so long was a good one: the next failure counts as the first."""


class Bus:
    """What breaks is made anew, for ever. Belongs to one event loop."""

    def __init__(
        self, address: BusAddress, *, name: str = "vdsm", domain: str = "default", idle_seconds: float = 20.0
    ) -> None:
        """`name`: what the broker's administrator shall see; `domain`: that of QMF.

        A broker that says nothing for `idle_seconds` is gone; it is asked to say something at least twice as often.
        """
        self.address = address
        self.domain = domain
        self.counters = Counters()
        self._container = f"{name}-{secrets.token_hex(8)}"
        self._idle_seconds = idle_seconds
        self._subscriptions: list[Subscription] = []
        self._watchers: list[tuple[Callable[[], None], Callable[[str], None]]] = []
        self._attachment: Attachment | None = None
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._failure = "it was never opened"
        self._failures = 0
        self._closing = False
        self._changed = asyncio.Event()

    @property
    def up(self) -> bool:
        """Whether it is connected and all that listens is attached."""
        return self._attachment is not None and self._attachment.up

    @property
    def failure(self) -> str:
        """Why it is not up, or was not before."""
        return self._failure

    @property
    def identity(self) -> str | None:
        """The user that this process is to the broker; None when anonymous."""
        return self.address.user or None

    @property
    def verifies_users(self) -> bool:
        """Whether this broker vouches for the `user_id` of messages. If not, they arrive without one."""
        return self._attachment is not None and self._attachment.verifies_users

    @property
    def reply_address(self) -> str | None:
        """For `Message.reply_to`; another one after each `on_up`. None when down or when nobody listens to Inbox."""
        return self._attachment.reply_address if self._attachment is not None and self._attachment.up else None

    def watch(self, on_up: Callable[[], None], on_down: Callable[[str], None]) -> None:
        """Be told each time the bus is up, and each time it is lost, with the reason."""
        self._watchers.append((on_up, on_down))

    def listen(self, where: Source, handler: Handler) -> Subscription:
        """Hand over what comes there, from now on or from when the bus is up, again after each reconnect.

        Raises ValueError for a place that the broker, if it is known already, has no address for.
        """
        subscription = Subscription(where, handler, self._unlisten)
        if self._attachment:
            self._attachment.attach(subscription)
        self._subscriptions.append(subscription)
        return subscription

    def send(self, where: Target, message: Message, settled: Settled | None = None) -> bool:
        """Send, or drop it at once and return False (then `settled` is never called). Never waits.

        The place fills `address` and `subject`; `user_id` is filled with `identity` where the broker verifies it.
        Without `settled` the broker is not asked whether it took the message. A reply address that is none of this
        broker's counts as one that it refused.

        Raises ValueError for a message that AMQP cannot carry.
        """
        if self._attachment is None or not self._attachment.send(where, message, settled):
            self.counters.dropped += 1
            return False
        self.counters.sent += 1
        return True

    async def open(self) -> None:
        """Begin to connect; returns at once."""
        if self._task is None:
            self._failure = "it is not connected yet"
            self._task = asyncio.create_task(self._stay_connected(), name="bus")

    async def wait_up(self, seconds: float) -> None:
        """Raises BusDown with the last failure when the bus is not up in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self.up:
                    self._changed.clear()
                    await self._changed.wait()
        if not self.up:
            raise BusDown(f"the bus {self.address} is not up after {seconds:g} s: {self._failure}")

    async def close(self) -> None:
        """Give what was sent a moment to leave, and end."""
        self._closing = True
        if connection := self._connection:
            await connection.close(1.0)
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self._failure = "it was closed"

    async def _stay_connected(self) -> None:
        while not self._closing:
            limit = MOST_PAUSE_SECONDS
            try:
                await self._be_connected()
            except Refused as problem:
                limit = MOST_PAUSE_REFUSED_SECONDS
                self._note(str(problem))
            except TimeoutError:
                self._note(f"no answer within {ATTEMPT_SECONDS:g} s")
            except ssl.SSLCertVerificationError as problem:
                self._note(f"its certificate cannot be trusted: {problem.verify_message}")
            except ConnectionRefusedError:
                self._note("nothing listens there")
            except (OSError, ProtocolFault, ValueError) as problem:  # a host name, or a place, may be unsayable
                self._note(str(problem))
            self._failures += 1
            pause = min(limit, FIRST_PAUSE_SECONDS * 2 ** min(self._failures, 16))
            await asyncio.sleep(pause * (0.5 + secrets.randbelow(1000) / 2000))  # not all hosts at once

    async def _be_connected(self) -> None:
        """One connection, from its beginning to its end: it ends with an exception that says why."""
        loop = asyncio.get_running_loop()
        connection = None
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                connection = self._connection = await Connection.connect(
                    self.address, self._container, self._idle_seconds
                )
                is_up = self._attach(connection)
                waited: list[asyncio.Future[Any]] = [is_up, connection.lost]
                await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            began = loop.time()
            reason = await connection.lost
            if is_up.done() and loop.time() - began > STABLE_SECONDS:
                self._failures = 0
            raise ConnectionError(reason)
        finally:
            was_up = self._attachment is not None and self._attachment.was_up
            self._attachment = None
            if connection:
                connection.fail("given up")
            self._connection = None
            if was_up:
                for _, on_down in self._watchers:
                    on_down(connection.lost.result() if connection and connection.lost.done() else "it was closed")

    def _attach(self, connection: Connection) -> asyncio.Future[None]:
        """Done when all is attached."""
        is_up: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def on_up() -> None:
            if not is_up.done():
                is_up.set_result(None)
            self.counters.connections += 1
            log.info("the bus %s is up", self.address)
            self._changed.set()
            for watcher, _ in self._watchers:
                watcher()

        self._attachment = Attachment(
            connection, self._profile(connection), self.domain, self.identity, self.counters, on_up
        )
        for subscription in self._subscriptions:
            self._attachment.attach(subscription)
        return is_up

    def _profile(self, connection: Connection) -> Profile:
        if self.address.profile:
            return PROFILES[self.address.profile]
        product, version = (connection.properties.get(symbol(name)) for name in ("product", "version"))
        if profile := recognise(product, version):
            return profile
        raise ProtocolFault(
            f"the broker calls itself {product} {version}, which is unknown: name a profile, as in ?profile=qpidd"
        )

    def _unlisten(self, subscription: Subscription) -> None:
        self._subscriptions.remove(subscription)
        if self._attachment:
            self._attachment.detach(subscription)

    def _note(self, failure: str) -> None:
        if self._closing:
            return
        self.counters.failures += 1
        if failure != self._failure:
            log.warning("the bus %s is down: %s", self.address, failure)
        self._failure = failure
        self._changed.set()

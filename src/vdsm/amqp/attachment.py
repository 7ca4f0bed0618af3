# SPDX-License-Identifier: Apache-2.0
"""What a bus has on one connection: a link for each listener, and the links that messages leave by."""

from __future__ import annotations

import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from vdsm.amqp.connection import Connection
from vdsm.amqp.convert import encode
from vdsm.amqp.engine import Channel
from vdsm.amqp.links import Outgoing, Settled
from vdsm.amqp.management import Management
from vdsm.amqp.places import Direct, Inbox, ReplyTo, Target, Topic
from vdsm.amqp.profiles import Profile
from vdsm.amqp.subscription import Subscription
from vdsm.protocols.amqp import Message

log = logging.getLogger(__name__)

CREDIT = 500
"""Messages that a broker may send ahead on one link."""

WAITING_ANSWERS = 256
"""On one link, while the broker gives no credit. Broadcasts never wait: the next one tells more than the last."""

ANSWER_LINKS = 32
"""Where no link serves all reply addresses: how many are kept."""


@dataclass(slots=True)
class Counters:
    """Since the bus was made."""

    connections: int = 0
    failures: int = 0  # attempts to connect that failed, and connections that broke
    received: int = 0
    sent: int = 0
    dropped: int = 0  # not sent: no connection, no credit, or too much still waits to be sent
    refused: int = 0  # sent, and not known to be taken by the broker


class Attachment:
    """Ends with its connection, and ends that when the broker refuses what the bus cannot be without."""

    def __init__(
        self,
        connection: Connection,
        profile: Profile,
        domain: str,
        identity: str | None,
        counters: Counters,
        on_up: Callable[[], None],
    ) -> None:
        self.profile = profile
        self.reply_address: str | None = None
        self.was_up = False
        self._connection = connection
        self._domain = domain
        self._identity = identity if profile.verifies_user else None
        self._counters = counters
        self._on_up = on_up
        self._links: dict[Subscription, str] = {}
        self._unattached: set[Subscription] = set()
        self._listening = connection.channel(connection.fail)
        self._management: Management | None = None
        if profile.manages_queues:
            self._management = Management(connection.channel(connection.fail), connection.fail)
        sending = connection.channel(connection.fail)
        nodes = {profile.send(place, domain).node for place in (Direct("x"), Topic("x"))}
        self._own = {node: self._leave_by(sending, node) for node in nodes}
        # A reply address is a stranger's word. What a broker ends because of it is not the links above.
        self._answers: OrderedDict[str | None, tuple[Channel, Outgoing]] = OrderedDict()

    @property
    def up(self) -> bool:
        return self.was_up and not self._unattached and not self._connection.ending

    @property
    def verifies_users(self) -> bool:
        """An anonymous connection shows that this broker asks nobody who he is."""
        return self._identity is not None

    def attach(self, subscription: Subscription) -> None:
        unique = f"vdsm-{secrets.token_hex(16)}"
        what = self.profile.receive(subscription.where, self._domain, unique)

        def attached(address: str | None) -> None:
            if isinstance(subscription.where, Inbox):
                self.reply_address = address
            self._unattached.discard(subscription)
            self._check_up()

        def take(message: Message) -> None:
            self._counters.received += 1
            if not self.verifies_users:
                message.user_id = None
            subscription.take(message)

        def listen() -> None:
            if subscription in self._unattached:  # it may have gone meanwhile
                self._links[subscription] = self._listening.receive(what, CREDIT, take, attached)
                self._connection.flush_soon()

        self._unattached.add(subscription)
        if self._management:
            self._management.prepare(what, listen)
            self._connection.flush_soon()
        else:
            listen()

    def detach(self, subscription: Subscription) -> None:
        self._unattached.discard(subscription)
        if name := self._links.pop(subscription, None):
            self._listening.release(name)
            self._connection.flush_soon()

    def send(self, where: Target, message: Message, settled: Settled | None) -> bool:
        is_answer = isinstance(where, ReplyTo)
        try:
            way = self.profile.send(where, self._domain)
        except ValueError as problem:
            log.warning("an answer is dropped: %s", problem)
            if settled:
                self._counting(settled)(False)
            return True  # it would never be taken, however often it were sent again
        message.address, message.subject = way.to, way.subject
        if self._identity and message.user_id is None:
            message.user_id = self._identity
        data = encode(message, list_as_sequence=self.profile.list_as_sequence)
        link = self._answer_link(way.node) if is_answer else self._own[way.node]
        sent = link.send(data, self._counting(settled) if settled else None, may_wait=not isinstance(where, Topic))
        self._connection.flush_soon()
        return sent

    def _answer_link(self, node: str | None) -> Outgoing:
        channel, link = self._answers.get(node, (None, None))
        if channel is None or link is None or channel.ended:
            channel = self._connection.channel(
                lambda reason: log.info("answers cannot be sent to %s: %s", node, reason)
            )
            link = self._leave_by(channel, node)
            self._answers[node] = channel, link
            if len(self._answers) > ANSWER_LINKS:
                self._answers.popitem(last=False)[1][0].close()
        self._answers.move_to_end(node)
        return link

    def _leave_by(self, channel: Channel, node: str | None) -> Outgoing:
        return channel.send(node, WAITING_ANSWERS, self._check_up, self._count_unsent)

    def _counting(self, settled: Settled) -> Settled:
        def count(taken: bool) -> None:
            self._counters.refused += not taken
            settled(taken)

        return count

    def _count_unsent(self) -> None:
        self._counters.dropped += 1

    def _check_up(self) -> None:
        if not self.was_up and not self._unattached and all(link.usable for link in self._own.values()):
            self.was_up = True
            self._on_up()

# SPDX-License-Identifier: Apache-2.0
"""What all STOMP connections share: who has subscribed to what, and who gets which message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from vdsm.contract.codec import to_plain
from vdsm.contract.events import EventRecord
from vdsm.core.bridge import Bridge
from vdsm.core.caller import Caller
from vdsm.protocols import jsonrpc
from vdsm.protocols.dialect import Dialect
from vdsm.protocols.stomp_session import Subscription, levels

from .identity import Identity
from .jsonrpc import JsonRpc

JSON = {"content-type": "application/json"}

_MAX_BODIES = 256  # of events, kept for the other subscribers


class StompOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Beside the limits of the door."""

    request_queues: frozenset[str] = frozenset({"jms.topic.vdsm_requests", "jms.topic.vdsm_irs_requests"})
    response_queue: str = "jms.topic.vdsm_responses"  # for answers to calls without a reply-to
    event_queue: str = "jms.queue.events"
    max_calls: int = 256  # under way on one connection; beyond it nothing more is read from it
    max_unread: int = 4_194_304  # bytes a client may leave unread; with one more frame it is dropped
    max_relayed: int = 65_536  # bytes of a message from one client to others


class Receiver(Protocol):
    """A connection, as the hub needs it."""

    caller: Caller

    def send(self, subscription: Subscription, destination: str, body: bytes, headers: Mapping[str, str]) -> None: ...


class Hub:
    """Destinations are plain names in one space, as published; but each caller has a space of its own."""

    def __init__(self, bridge: Bridge, identity: Identity, dialect: Dialect, options: StompOptions) -> None:
        self.bridge = bridge
        self.identity = identity
        self.options = options
        self.rpc = JsonRpc(bridge, dialect)
        self.watched = frozenset(levels(options.event_queue))  # who subscribes to one of these gets events
        self.arriving = 0  # bytes of frames that are not complete, over all connections
        self._dialect = dialect
        self._receivers: dict[tuple[str, str], dict[tuple[Receiver, str], Subscription]] = {}  # by identity and name
        self._bodies: dict[int, bytes] = {}

    def takes_requests(self, destination: str) -> bool:
        """Whether it is a request queue, or below one."""
        queues = self.options.request_queues
        return destination in queues or any(level in queues for level in levels(destination))

    def subscribe(self, receiver: Receiver, subscription: Subscription) -> None:
        place = receiver.caller.identity, subscription.destination
        self._receivers.setdefault(place, {})[receiver, subscription.id] = subscription

    def unsubscribe(self, receiver: Receiver, subscription: Subscription) -> None:
        place = receiver.caller.identity, subscription.destination
        receivers = self._receivers[place]
        del receivers[receiver, subscription.id]
        if not receivers:
            del self._receivers[place]

    def deliver(self, caller: Caller, destination: str, body: bytes, headers: Mapping[str, str]) -> bool:
        """Send it to each subscription to the destination, or to one above, on any of the caller's connections.

        Nobody reads another caller's answers, and nobody forges another's events. Whether there was a subscription.
        """
        found = False
        for level in levels(destination):
            for (receiver, _), subscription in self._receivers.get((caller.identity, level), {}).items():
                receiver.send(subscription, destination, body, headers)
                found = True
        return found

    # ---- events ----------------------------------------------------------------------------------------------------

    def event_body(self, record: EventRecord) -> bytes:
        """The event as a notification; empty if it has no published form."""
        body = self._bodies.get(record.id)
        if body is None:
            event = self._dialect.event(to_plain(record))
            body = b"" if event is None else jsonrpc.notification(*event)
            if len(self._bodies) >= _MAX_BODIES:
                self._bodies.clear()
            self._bodies[record.id] = body
        return body

# SPDX-License-Identifier: Apache-2.0
"""One AMQP 1.0 connection without I/O: Proton's engine, sessions and links, as far as a bus needs them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any

from proton import (
    Collector,
    Condition,
    Connection,
    Delivery,
    Described,
    Event,
    Link,
    PropertyDict,
    Receiver,
    Sender,
    Session,
    Terminus,
    Transport,
    symbol,
)

from vdsm.amqp.links import Incoming, Outgoing, reading
from vdsm.amqp.profiles import Receive
from vdsm.protocols.amqp import Message

FRAME_BYTES = 64 << 10
PAIR_CREDIT = 10


class Channel:
    """A session and its links. When the broker ends any of it, all of it ends."""

    def __init__(self, session: Session, on_end: Callable[[str], None]) -> None:
        self._session = session
        self._on_end = on_end
        self.incoming: dict[str, tuple[Incoming, Callable[[str | None], None]]] = {}
        self.outgoing: dict[str, Outgoing] = {}
        self.ended = False
        session.open()

    def receive(
        self,
        what: Receive,
        credit: int,
        on_message: Callable[[Message], None],
        on_attached: Callable[[str | None], None],
    ) -> str:
        """The link's name. `on_attached` is told the address."""
        name = _fresh()
        link = self._session.receiver(name)
        if what.address is None:
            link.source.dynamic = True
            link.source.expiry_policy = Terminus.EXPIRE_WITH_LINK
        else:
            link.source.address = what.address
        link.target.address = name
        if what.filter_type:
            kind = symbol(what.filter_type)
            link.source.filter.put_object({symbol("key"): Described(kind, what.filter_value)})
        if what.capability:
            link.source.capabilities.put_object(symbol(what.capability))
        link.open()
        self.incoming[name] = Incoming(link, credit, reading(on_message)), on_attached
        return name

    def send(
        self, node: str | None, room: int, on_usable: Callable[[], None], on_unsent: Callable[[], None]
    ) -> Outgoing:
        """A link to a node, or the anonymous one."""
        name = _fresh()
        link = self._session.sender(name)
        link.source.address = name
        if node is not None:
            link.target.address = node
        else:
            link.target.type = Terminus.TARGET  # there is one; it only has no address
        link.open()
        self.outgoing[name] = Outgoing(link, self._session, room, on_usable, on_unsent)
        return self.outgoing[name]

    def pair(
        self, node: str, read: Callable[[bytes], Callable[[], None] | None], on_usable: Callable[[], None]
    ) -> Outgoing:
        """Two links to one node, of one name: answers come on the one that requests do not leave by."""
        name, paired = _fresh(), {symbol("paired"): True}
        receiver, sender = self._session.receiver(name), self._session.sender(name)
        links: tuple[Receiver | Sender, ...] = (sender, receiver)
        for link in links:
            link.source.address = link.target.address = node
            link.snd_settle_mode = Link.SND_SETTLED
            link.properties = PropertyDict(paired)
            link.open()
        self.incoming[name] = Incoming(receiver, PAIR_CREDIT, read), lambda address: None
        self.outgoing[name] = Outgoing(sender, self._session, PAIR_CREDIT, on_usable, lambda: None)
        return self.outgoing[name]

    def release(self, name: str) -> None:
        """One receiving link is not needed any more."""
        if found := self.incoming.pop(name, None):
            found[0].close()

    def close(self) -> None:
        if not self.ended:
            self._session.close()
            self.end("")

    def end(self, reason: str) -> None:
        """`reason` empty: as was wanted."""
        if self.ended:
            return
        self.ended = True
        if reason:
            self._session.close()
            self._on_end(reason)
        for outgoing in self.outgoing.values():
            outgoing.end()


class Engine:
    """Bytes in by `feed`, bytes out by `take`, time by `tick`."""

    def __init__(
        self,
        container: str,
        hostname: str,
        idle_seconds: float,
        on_open: Callable[[Mapping[str, Any]], None],
        on_end: Callable[[str], None],
    ) -> None:
        self._on_open = on_open
        self._on_end = on_end
        self._ended = False
        self._channels: dict[Session, Channel] = {}
        self._collector = Collector()
        self._connection = Connection()
        self._connection.collect(self._collector)
        self._connection.container = container
        self._connection.hostname = hostname
        self._connection.properties = PropertyDict({symbol("product"): "vdsm"})
        self._transport = Transport()
        self._transport.idle_timeout = idle_seconds
        self._transport.max_frame_size = FRAME_BYTES
        self._transport.bind(self._connection)
        self._connection.open()

    def channel(self, on_end: Callable[[str], None]) -> Channel:
        session = self._connection.session()
        self._channels[session] = channel = Channel(session, on_end)
        return channel

    def feed(self, data: bytes) -> None:
        while data and not self._ended:
            room = self._transport.capacity()
            if room <= 0:
                return  # it has failed, and the events say how
            self._transport.push(data[:room])
            data = data[room:]
            self._handle_events()
        self._handle_events()

    def take(self) -> bytes:
        """What is to be sent now."""
        size = self._transport.pending()
        if size <= 0:
            return b""
        data = self._transport.peek(size) or b""
        self._transport.pop(len(data))
        self._handle_events()
        return bytes(data)

    def tick(self, now: float) -> float:
        """Let time pass; returns when it is to be told again, 0 for never."""
        deadline = self._transport.tick(now)
        self._handle_events()
        return deadline

    def flow(self) -> None:
        """The backlog has shrunk: what waits may go on."""
        for channel in list(self._channels.values()):  # whoever is told may open another
            for outgoing in list(channel.outgoing.values()):
                outgoing.flow()

    def close(self) -> None:
        self._connection.close()

    def abandon(self) -> None:
        """The other side is gone. Frees everything: Proton's objects hold each other."""
        self._ended = True
        for channel in list(self._channels.values()):
            channel.end("the connection was lost")
        self._channels.clear()
        self._transport.unbind()
        self._collector.release()
        self._connection.free()

    def _handle_events(self) -> None:
        while event := self._collector.peek():
            kind, subject = event.type, event.context
            if isinstance(subject, Delivery):
                self._on_delivery(subject)
            elif isinstance(subject, Link):
                self._on_link(kind, subject)
            elif isinstance(subject, Session):
                self._on_session(kind, subject)
            elif kind == Event.CONNECTION_REMOTE_OPEN:
                self._on_open(self._connection.remote_properties or {})
            elif kind == Event.CONNECTION_REMOTE_CLOSE:
                self._connection.close()
                self._end(_said(self._connection.remote_condition, "the broker closed the connection"))
            elif kind == Event.TRANSPORT_ERROR:
                self._end(_said(self._transport.condition, "the connection failed"))
            self._collector.pop()

    def _on_delivery(self, delivery: Delivery) -> None:
        link = delivery.link
        channel = self._channels.get(link.session)
        if channel is None or channel.ended:
            return
        if isinstance(link, Receiver):
            # Several messages may have come for one event.
            while (found := channel.incoming.get(link.name)) and (current := link.current) and current.readable:
                was_whole = not current.partial
                found[0].take(current)
                if not was_whole:
                    break
        elif outgoing := channel.outgoing.get(link.name):
            outgoing.settle(delivery)

    def _on_link(self, kind: Any, link: Link) -> None:
        channel = self._channels.get(link.session)
        if channel is None or channel.ended:
            return
        if kind == Event.LINK_FLOW and isinstance(link, Sender):
            if outgoing := channel.outgoing.get(link.name):
                outgoing.flow()
        elif kind == Event.LINK_REMOTE_OPEN and isinstance(link, Receiver) and link.name in channel.incoming:
            # One without a source is about to be refused.
            if link.remote_source.type != Terminus.UNSPECIFIED:
                channel.incoming[link.name][1](link.remote_source.address)
        elif kind in (Event.LINK_REMOTE_CLOSE, Event.LINK_REMOTE_DETACH):
            link.close()
            if link.name in channel.incoming or link.name in channel.outgoing:
                channel.end(_said(link.remote_condition, "the broker closed a link"))

    def _on_session(self, kind: Any, session: Session) -> None:
        if kind == Event.SESSION_REMOTE_CLOSE and (channel := self._channels.pop(session, None)):
            channel.end(_said(session.remote_condition, "the broker ended a session"))

    def _end(self, reason: str) -> None:
        if not self._ended:
            self._ended = True
            self._on_end(reason)


def _fresh() -> str:
    """Never used before, over all connections: a broker may still hold the links of the last one."""
    return f"vdsm-{secrets.token_hex(12)}"


def _said(condition: Condition | None, otherwise: str) -> str:
    if condition is None:
        return otherwise
    return f"{condition.name}: {condition.description}" if condition.description else str(condition.name)

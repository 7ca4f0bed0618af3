# SPDX-License-Identifier: Apache-2.0
"""As much of Apache Qpid's C++ broker as a QMF agent meets over AMQP 1.0, with its ways, in the test's own event loop.

Its ways, which are not those of the standard: an exchange delivers nothing to a link without a binding filter, which it
does not echo; such deliveries come settled; `to` is an exchange or a queue, and anything with a slash is dropped in
silence, as is what no binding takes; a queue is called after container and link, so that one link name twice ends the
connection. Messages of AMQP 0-10 peers have binary for strings and "exchange/key" for a reply address.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from proton import (
    UNDESCRIBED,
    Array,
    Collector,
    Condition,
    Connection,
    Data,
    Delivery,
    Described,
    Event,
    Link,
    Message,
    PropertyDict,
    Receiver,
    Sender,
    Terminus,
    Transport,
    symbol,
    ubyte,
    ulong,
)

EXCHANGES = {"qmf.default.direct": "direct", "qmf.default.topic": "topic", "amq.direct": "direct", "amq.topic": "topic"}
FILTERS = {
    "apache.org:legacy-amqp-direct-binding:string": "direct",
    "apache.org:legacy-amqp-topic-binding:string": "topic",
}


def matches(pattern: list[str], key: list[str]) -> bool:
    if not pattern:
        return not key
    if pattern[0] == "#":
        return any(matches(pattern[1:], key[skipped:]) for skipped in range(len(key) + 1))
    return bool(key) and pattern[0] in ("*", key[0]) and matches(pattern[1:], key[1:])


@dataclass
class Queue:
    """`deliver` is called for each message; `bindings` are pairs of exchange and key."""

    deliver: Callable[[bytes, Message], None]
    bindings: list[tuple[str, str]] = field(default_factory=list)

    def takes(self, exchange: str, key: str) -> bool:
        for bound, pattern in self.bindings:
            if bound == exchange:
                if EXCHANGES[exchange] == "direct" and pattern == key:
                    return True
                if EXCHANGES[exchange] == "topic" and matches(pattern.split("."), key.split(".")):
                    return True
        return False


class QpiddPeer:
    """`users` are their passwords; without any, everybody is let in and no user_id is looked at."""

    def __init__(self, users: dict[str, str] | None = None) -> None:
        self.users = users
        self.credit = 1000
        self.product, self.version = "qpid-cpp", "1.39.0"
        self.queues: dict[str, Queue] = {}
        self.links: set[str] = set()  # every name there ever was
        self.clients: list[Client] = []
        self.connected = 0
        self.routed = 0
        self.lost: list[Message] = []  # that no binding took
        self.poison: list[str] = []  # what would have ended the connections of AMQP 0-10 consumers
        self.accepts = True
        self.port = 0

    @property
    def url(self) -> str:
        return f"amqp://127.0.0.1:{self.port}"

    def bind(self, exchange: str, key: str, name: str = "") -> list[Message]:
        """What comes there, as the peer itself sees it: the mail of a console in the test."""
        mail: list[Message] = []
        queue = Queue(lambda _, message: mail.append(message), [(exchange, key)])
        self.queues[name or f"peer_{uuid.uuid4().hex}"] = queue
        return mail

    def publish(self, message: Message) -> None:
        """By `address` and `subject`, as anybody's."""
        self.route(message.encode(), message)

    def route(self, data: bytes, message: Message) -> None:
        self.routed += 1
        self.poison += poisonous(message.body)
        to, key = message.address or "", message.subject or ""
        if to in EXCHANGES:
            taken = [queue for queue in self.queues.values() if queue.takes(to, key)]
        else:
            taken = [self.queues[to]] if to in self.queues else []
        for queue in taken:
            queue.deliver(data, message)
        if not taken:
            self.lost.append(message)

    def cut_all(self) -> None:
        for client in list(self.clients):
            client.cut()

    def admit(self, client: Client) -> None:
        self.clients.append(client)
        self.connected += 1


def poisonous(value: Any) -> list[str]:
    match value:
        case str() if len(value.encode()) >= 65536:
            return [f"a string of {len(value)} characters"]
        case dict():
            keys = [f"the key {key!r:.40}" for key in value if not isinstance(key, str) or len(key.encode()) >= 256]
            return keys + [found for item in value.values() for found in poisonous(item)]
        case list():
            return [found for item in value for found in poisonous(item)]
    return []


class Client(asyncio.Protocol):
    """One connection: SASL of its own, since Proton's server side knows no passwords without Cyrus; then Proton."""

    def __init__(self, peer: QpiddPeer) -> None:
        self.peer = peer
        self.user = ""
        self.receiving: dict[str, Sender] = {}  # our end sends
        self.parts: dict[str, bytes] = {}
        self.reading = True
        self._in = b""
        self._stage = "header"
        self._collector = Collector()
        self._connection = Connection()
        self._connection.collect(self._collector)
        self._engine = Transport(Transport.SERVER)
        self._engine.bind(self._connection)
        self._engine.idle_timeout = 60.0
        self._wire: asyncio.Transport | None = None

    def connection_made(self, wire: asyncio.BaseTransport) -> None:
        assert isinstance(wire, asyncio.Transport)
        self._wire = wire
        if not self.peer.accepts:
            wire.abort()
            return
        self.peer.admit(self)

    def connection_lost(self, problem: Exception | None) -> None:
        self._wire = None
        if self in self.peer.clients:
            self.peer.clients.remove(self)
        for name in self.receiving:
            self.peer.queues.pop(name, None)

    def cut(self) -> None:
        if self._wire:
            self._wire.abort()

    def stop_reading(self) -> None:
        """The other side's bytes pile up, as those of a broker that hangs."""
        assert self._wire
        self._wire.pause_reading()

    def data_received(self, data: bytes) -> None:
        if self._stage != "amqp":
            data = self._authenticate(data)
        while data:
            room = self._engine.capacity()
            if room <= 0:
                break
            self._engine.push(data[:room])
            data = data[room:]
            self._handle_events()
        if self._stage == "amqp":
            self.flush()

    def flush(self) -> None:
        self._handle_events()
        self._engine.tick(asyncio.get_running_loop().time())
        while self._wire and (size := self._engine.pending()) > 0:
            self._wire.write(bytes(self._engine.peek(size) or b""))
            self._engine.pop(size)
        if self._wire and self._engine.pending() < 0:
            self._wire.close()

    def _authenticate(self, data: bytes) -> bytes:
        assert self._wire
        self._in += data
        if self._stage == "header" and len(self._in) >= 8:
            self._in = self._in[8:]
            self._stage = "init"
            names = [symbol("PLAIN")] + ([] if self.peer.users else [symbol("ANONYMOUS")])
            self._wire.write(b"AMQP\x03\x01\x00\x00" + _sasl_frame(0x40, [_symbols(names)]))
        if self._stage == "init" and len(self._in) >= 4:
            size = struct.unpack(">I", self._in[:4])[0]
            if len(self._in) >= size:
                mechanism, response, *_ = _sasl_fields(self._in[8:size])
                self._in = self._in[size:]
                good = self._is_known(str(mechanism), bytes(response))
                self._wire.write(_sasl_frame(0x44, [ubyte(0 if good else 1)]))
                self._stage = "amqp" if good else "refused"
                if not good:
                    self._wire.close()
        if self._stage != "amqp":
            return b""
        rest, self._in = self._in, b""
        return rest

    def _is_known(self, mechanism: str, response: bytes) -> bool:
        if mechanism == "PLAIN":
            _, user, password = response.decode().split("\0")
            self.user = user
            return self.peer.users is None or self.peer.users.get(user) == password
        return self.peer.users is None

    def _handle_events(self) -> None:
        while event := self._collector.peek():
            kind, subject = event.type, event.context
            if kind == Event.CONNECTION_REMOTE_OPEN:
                self._connection.container = "qpidd"
                said = {symbol("product"): self.peer.product, symbol("version"): self.peer.version}
                self._connection.properties = PropertyDict(said)
                self._connection.open()
            elif kind == Event.CONNECTION_REMOTE_CLOSE:
                self._connection.close()
            elif kind == Event.SESSION_REMOTE_OPEN:
                subject.open()
            elif kind == Event.SESSION_REMOTE_CLOSE:
                subject.close()
            elif kind == Event.LINK_REMOTE_OPEN:
                self._attach(subject)
            elif kind in (Event.LINK_REMOTE_CLOSE, Event.LINK_REMOTE_DETACH):
                self.peer.queues.pop(self._queue_name(subject), None)
                subject.close()
            elif isinstance(subject, Delivery):
                self._deliver(subject)
            self._collector.pop()

    def _attach(self, link: Link) -> None:
        if link.name in self.peer.links:
            self._connection.condition = Condition("amqp:internal-error", f"link {link.name} exists")
            self._connection.close()
            return
        self.peer.links.add(link.name)
        if isinstance(link, Sender):
            self._attach_receiver(link)
        else:
            assert isinstance(link, Receiver)
            self._attach_sender(link)

    def _attach_receiver(self, link: Sender) -> None:
        asked, name = link.remote_source, self._queue_name(link)
        queue = Queue(lambda data, _: self._pass_on(link, data))
        if asked.dynamic:
            name = f"temp_{uuid.uuid4().hex}"
            link.source.dynamic = True
            link.source.address = name
        elif asked.address in EXCHANGES:
            link.source.address = asked.address
            link.snd_settle_mode = Link.SND_SETTLED
            queue.bindings = [(asked.address, _binding(asked, EXCHANGES[asked.address]))]
        else:
            self._refuse(link, f"Node not found: {asked.address}")
            return
        link.target.copy(link.remote_target)
        self.receiving[name] = link
        self.peer.queues[name] = queue
        link.open()

    def _attach_sender(self, link: Receiver) -> None:
        address = link.remote_target.address
        known = address is None or address in EXCHANGES or address in self.peer.queues
        if link.remote_target.type == Terminus.UNSPECIFIED or not known:
            self._refuse(link, f"Node not found: {address}")
            return
        link.source.copy(link.remote_source)
        link.target.copy(link.remote_target)
        link.open()
        link.flow(self.peer.credit)

    def _refuse(self, link: Link, why: str) -> None:
        link.open()
        link.condition = Condition("amqp:not-found", why)
        link.close()

    def _deliver(self, delivery: Delivery) -> None:
        link = delivery.link
        if isinstance(link, Sender):
            if delivery.settled or delivery.remote_state:
                delivery.settle()
            return
        self.parts[link.name] = self.parts.get(link.name, b"") + (link.recv(delivery.pending) or b"")
        if delivery.partial:
            return
        data = self.parts.pop(link.name)
        link.advance()
        if link.credit < self.peer.credit // 2:
            link.flow(self.peer.credit - link.credit)
        message = Message()
        message.decode(data)
        if self.peer.users and message.user_id and bytes(message.user_id).decode() != self.user:
            link.condition = Condition("amqp:unauthorized-access", "wrong user id")
            link.close()
            return
        if link.remote_target.address:
            message.address = link.remote_target.address
        self.peer.route(data, message)
        if not delivery.settled:
            delivery.update(Delivery.ACCEPTED)
        delivery.settle()

    def _pass_on(self, link: Sender, data: bytes) -> None:
        delivery = link.delivery(uuid.uuid4().hex)
        link.stream(data)
        link.advance()
        if link.snd_settle_mode == Link.SND_SETTLED:
            delivery.settle()
        asyncio.get_running_loop().call_soon(self.flush)

    def _queue_name(self, link: Link) -> str:
        return f"{self._connection.remote_container}_{link.name}"


def _binding(source: Terminus, kind: str) -> str:
    data = source.filter
    data.rewind()
    found = data.get_object() if data.next() else {}
    for value in (found or {}).values():
        if isinstance(value, Described) and FILTERS.get(str(value.descriptor)) == kind:
            return str(value.value)
    return ""


def _symbols(names: list[symbol]) -> Any:
    return Array(UNDESCRIBED, Data.SYMBOL, *names)


def _sasl_frame(code: int, fields: list[Any]) -> bytes:
    data = Data()
    data.put_object(Described(ulong(code), fields))
    body = data.encode()
    return struct.pack(">IBBH", 8 + len(body), 2, 1, 0) + body


def _sasl_fields(frame: bytes) -> list[Any]:
    data = Data()
    data.decode(frame)
    data.rewind()
    data.next()
    # Proton's binary is a view into `data`, which does not outlive this.
    return [bytes(value) if isinstance(value, memoryview) else value for value in data.get_object().value]


@contextlib.asynccontextmanager
async def serving(peer: QpiddPeer) -> AsyncIterator[QpiddPeer]:
    """On a port of 127.0.0.1, until left."""
    server = await asyncio.get_running_loop().create_server(lambda: Client(peer), "127.0.0.1", peer.port)
    peer.port = server.sockets[0].getsockname()[1]
    try:
        yield peer
    finally:
        server.close()
        peer.cut_all()
        await server.wait_closed()

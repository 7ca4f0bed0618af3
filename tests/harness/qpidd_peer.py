# SPDX-License-Identifier: Apache-2.0
"""A broker that behaves over AMQP 1.0 as qpidd does, for tests: its two QMF exchanges, and what is odd about it.

- A subscription to an exchange needs a binding filter, which is not echoed; without one nothing arrives.
- Its queue is named after container and link: the same name twice ends the connection.
- Deliveries from an exchange are settled before they are sent unless the receiver asked otherwise.
- "exchange/key" is where consoles of AMQP 0-10 want answers; sent to as an address it is dropped without a word.
- A message with certain values would cost every such console its connection. They are noted in `poison`.
- A `user_id` that is not the sender's ends the sender's session; what cannot be routed is accepted and forgotten.
"""

from __future__ import annotations

import asyncio
import itertools
import struct
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from typing import Any, Self

from proton import (
    Array,
    Collector,
    Condition,
    Connection,
    Data,
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
    char,
    symbol,
    ubyte,
    ulong,
)
from proton import Message as ProtonMessage

from .until import until

EXCHANGES = {"qmf.default.topic": True, "qmf.default.direct": False, "amq.topic": True, "amq.direct": False}
"""And whether their keys are patterns."""
FILTERS = ("apache.org:legacy-amqp-topic-binding:string", "apache.org:legacy-amqp-direct-binding:string")
CREDIT = 1000
_SASL = b"AMQP\x03\x01\x00\x00"
_FRAME = struct.Struct(">IBBxx")


class Heard:
    """One message as it reaches a console of AMQP 0-10."""

    def __init__(self, exchange: str, key: str, raw: bytes) -> None:
        self.exchange = exchange
        self.key = key
        self.message = ProtonMessage()
        self.message.decode(raw)

    @property
    def opcode(self) -> object:
        return (self.message.properties or {}).get("qmf.opcode")

    @property
    def body(self) -> Any:
        return self.message.body


class OldConsole:
    """A peer of AMQP 0-10, inside the broker: what it sends reaches receivers of 1.0 as qpidd translates it."""

    def __init__(self, broker: QpiddPeer) -> None:
        self.broker = broker
        self.heard: list[Heard] = []

    def bind(self, exchange: str, key: str) -> None:
        self.broker.run(lambda: self.broker.bind(exchange, key, self._hear))

    def send(self, exchange: str, key: str, message: ProtonMessage) -> None:
        message.address, message.subject = exchange, key
        raw = message.encode()
        self.broker.run(lambda: self.broker.route(exchange, key, raw))

    def wait(self, what: str, accept: Callable[[Heard], object]) -> Heard:
        return until(what, lambda: next((one for one in list(self.heard) if accept(one)), None), every=0.01)

    def answer(self, correlation: object, accept: Callable[[Heard], object] = bool) -> Heard:
        return self.wait(
            f"an answer to {correlation}", lambda one: one.message.correlation_id == correlation and accept(one)
        )

    def _hear(self, exchange: str, key: str, raw: bytes) -> None:
        self.heard.append(Heard(exchange, key, raw))


Bound = Callable[[str, str, bytes], None]


class QpiddPeer:
    """Has a thread of its own. `users`: passwords by name; nobody needs one when there are none."""

    product, version = "qpid-cpp", "1.39.0"

    def __init__(self, users: Mapping[str, str] | None = None) -> None:
        self.connection: Callable[[QpiddPeer], Peer] = Peer
        self.users = users or {}
        self.poison: list[str] = []
        self.dropped: list[str] = []  # addresses that lead nowhere
        self.refills = True  # a sender's credit, for each message it sends
        self.allowance: int | None = None  # bytes that a connection may still hear before it is cut
        self.connections: set[Peer] = set()
        self.queues: dict[str, Bound] = {}
        self._bindings: list[tuple[str, str, Bound]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="qpidd", daemon=True)
        self._server: asyncio.Server | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def url(self, user: str = "") -> str:
        who = f"{user}:{self.users[user]}@" if user else ""
        return f"amqp://{who}127.0.0.1:{self.port}"

    def console(self) -> OldConsole:
        return OldConsole(self)

    def listen(self) -> None:
        """On the same port as before, if there was one."""

        async def listen() -> None:
            self._server = await self._loop.create_server(lambda: self.connection(self), "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

        asyncio.run_coroutine_threadsafe(listen(), self._loop).result(10)

    def cut(self, *, refuse: bool = False) -> None:
        """Break every connection as a broker that is killed does; with `refuse`, until `listen`."""
        self.run(lambda: self._cut(refuse))

    def deafen(self, deaf: bool) -> None:
        """Read no more of what comes, as a broker that hangs."""
        self.run(lambda: [one.deafen(deaf) for one in self.connections])

    def hang(self) -> None:
        """Neither hear nor say anything any more, on any connection there is."""
        for one in self.connections:
            one.hang()

    def refill(self, credit: int) -> None:
        self.run(lambda: [one.refill(credit) for one in self.connections])

    def say(self, data: bytes) -> None:
        """Whatever it is, to everybody."""
        self.run(lambda: [one.say(data) for one in self.connections])

    def run(self, action: Callable[[], object]) -> None:
        """In the broker's thread."""
        done: Future[None] = Future()

        def act() -> None:
            try:
                action()
            except Exception as error:
                done.set_exception(error)
            else:
                done.set_result(None)

        self._loop.call_soon_threadsafe(act)
        done.result(10)

    def bind(self, exchange: str, key: str, bound: Bound) -> None:
        self._bindings.append((exchange, key, bound))

    def unbind(self, bound: Bound) -> None:
        self._bindings = [one for one in self._bindings if one[2] is not bound]

    def route(self, exchange: str, key: str, raw: bytes) -> None:
        bound = {
            id(to): to
            for name, pattern, to in self._bindings
            if name == exchange and (matches(pattern, key) if EXCHANGES[exchange] else pattern == key)
        }
        for to in bound.values():
            to(exchange, key, raw)

    def take(self, node: str | None, raw: bytes) -> None:
        """One message from a sender whose target is `node`, None for the anonymous one."""
        message = ProtonMessage()
        message.decode(raw)
        self.poison += poison_in(message)
        where, key = node or message.address or "", message.subject or ""
        if where in EXCHANGES:
            self.route(where, key, raw)
        elif where in self.queues:
            self.queues[where]("", key, raw)
        else:
            self.dropped.append(where)

    def _cut(self, refuse: bool) -> None:
        if refuse and self._server:
            self._server.close()
        for one in list(self.connections):
            one.abort()

    def _close(self) -> None:
        self._cut(refuse=True)


class Peer(asyncio.Protocol):
    """One connection."""

    def __init__(self, broker: QpiddPeer) -> None:
        self.broker = broker
        self._buffer = b""
        self._user: str | None = None
        self._wire: asyncio.Transport | None = None
        self._collector = Collector()
        self._connection = Connection()
        self._connection.collect(self._collector)
        self._engine = Transport(Transport.SERVER)
        self._engine.bind(self._connection)
        self.receivers: dict[Link, Queue] = {}
        self._senders: list[Receiver] = []
        self._names: set[str] = set()
        self._parts: dict[Link, list[bytes]] = {}
        self._hangs = False

    def abort(self) -> None:
        if self._wire:
            self._wire.abort()

    def deafen(self, deaf: bool) -> None:
        if self._wire:
            (self._wire.pause_reading if deaf else self._wire.resume_reading)()

    def refill(self, credit: int) -> None:
        for link in self._senders:
            link.flow(credit)
        self.flush()

    def say(self, data: bytes) -> None:
        self._write(data)

    def hang(self) -> None:
        self.deafen(True)
        self._hangs = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._wire = transport
        self.broker.connections.add(self)
        self._tick()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wire = None
        self.broker.connections.discard(self)
        for queue in self.receivers.values():
            queue.end()

    def data_received(self, data: bytes) -> None:
        if self._user is None:
            self._buffer += data
            data = self._authenticate()
        if self._user is not None:
            self._push(data)
        self.flush()

    def _authenticate(self) -> bytes:
        """SASL, the server's side; returns what follows it."""
        if self._buffer.startswith(_SASL):
            mechanisms = ["PLAIN"] if self.broker.users else ["ANONYMOUS", "PLAIN"]
            named = Array(None, Data.SYMBOL, *(symbol(name) for name in mechanisms))
            self._write(_SASL + _frame(0x40, [named]))
            self._buffer = self._buffer[len(_SASL) :]
        if len(self._buffer) < 8 or len(self._buffer) < (size := _FRAME.unpack_from(self._buffer)[0]):
            return b""
        frame, rest = self._buffer[8:size], self._buffer[size:]
        mechanism, response = _decode_init(frame)
        user, _, password = response.decode().lstrip("\0").partition("\0")
        fine = self.broker.users.get(user) == password if mechanism == "PLAIN" else not self.broker.users
        self._write(_frame(0x44, [ubyte(0 if fine else 1)]))
        if fine:
            self._user = user if mechanism == "PLAIN" else "anonymous"
        elif self._wire:
            self._wire.close()
        return rest if fine else b""

    def _push(self, data: bytes) -> None:
        while data and (room := self._engine.capacity()) > 0:
            self._engine.push(data[:room])
            data = data[room:]
            self._handle_events()
        self._handle_events()

    def flush(self) -> None:
        while self._wire and (size := self._engine.pending()) > 0:
            data = self._engine.peek(size) or b""
            self._engine.pop(len(data))
            self._write(bytes(data))
            self._handle_events()
        if self._wire and self._engine.pending() < 0:
            self._wire.close()

    def _write(self, data: bytes) -> None:
        if self._wire is None or self._hangs:
            return
        left = self.broker.allowance
        if left is None or len(data) < left:
            self._wire.write(data)
        else:
            self._wire.write(data[:left])
            self._wire.close()
        if left is not None:
            self.broker.allowance = max(0, left - len(data))

    def _tick(self) -> None:
        if self._wire:
            self._engine.tick(time.monotonic())
            if self._user is not None:
                self.flush()
            asyncio.get_running_loop().call_later(0.05, self._tick)

    def _handle_events(self) -> None:
        while event := self._collector.peek():
            kind, subject = event.type, event.context
            if kind == Event.CONNECTION_REMOTE_OPEN:
                self._connection.container = "qpidd"
                said = {symbol("product"): self.broker.product, symbol("version"): self.broker.version}
                self._connection.properties = PropertyDict(said)
                self._connection.open()
            elif kind == Event.CONNECTION_REMOTE_CLOSE:
                self._connection.close()
            elif isinstance(subject, Session) and kind == Event.SESSION_REMOTE_OPEN:
                subject.open()
            elif isinstance(subject, Session) and kind == Event.SESSION_REMOTE_CLOSE:
                subject.close()
            elif isinstance(subject, Delivery):
                self._on_delivery(subject)
            elif isinstance(subject, Link):
                self._on_link(kind, subject)
            self._collector.pop()

    def _on_link(self, kind: object, link: Link) -> None:
        if kind == Event.LINK_REMOTE_OPEN:
            if isinstance(link, Receiver):
                self.accept_sender(link)
            else:
                self.accept_receiver(link)
        elif kind == Event.LINK_FLOW and link in self.receivers:
            self.receivers[link].pump()
        elif kind in (Event.LINK_REMOTE_CLOSE, Event.LINK_REMOTE_DETACH):
            if queue := self.receivers.pop(link, None):
                queue.end()
            link.close()

    def accept_sender(self, link: Receiver) -> None:
        node = link.remote_target.address
        if node is not None and node not in EXCHANGES and node not in self.broker.queues:
            self.refuse(link, node)
            return
        link.target.type = Terminus.TARGET
        _name(link.target, node)
        _name(link.source, link.remote_source.address)
        link.open()
        link.flow(CREDIT)
        self._senders.append(link)

    def accept_receiver(self, link: Sender) -> None:
        source = link.remote_source
        if source.dynamic:
            link.source.dynamic = True
            name, settled = str(uuid.uuid4()), False
        elif source.address in EXCHANGES:
            name = f"{self._connection.remote_container}_{link.name}"
            settled = link.remote_snd_settle_mode != Link.SND_UNSETTLED
            if name in self._names:
                self._connection.condition = Condition("amqp:resource-locked", f"the queue {name} is in use")
                self._connection.close()
                return
            self._names.add(name)
        else:
            self.refuse(link, source.address)
            return
        _name(link.source, name if source.dynamic else source.address)
        _name(link.target, link.remote_target.address)
        queue = self.receivers[link] = Queue(self, self.broker, link, name, settled)
        self.broker.queues[name] = queue.put
        if source.address in EXCHANGES:
            self.broker.bind(source.address, _binding_key(source.filter), queue.put)
        link.open()

    def refuse(self, link: Link, node: str) -> None:
        link.open()
        link.condition = Condition("amqp:not-found", f"no node is called {node}")
        link.close()

    def _on_delivery(self, delivery: Delivery) -> None:
        link = delivery.link
        if isinstance(link, Sender):
            if delivery.remote_state or delivery.settled:
                delivery.settle()
            return
        if not delivery.readable:
            return
        self._parts.setdefault(link, []).append(bytes(link.recv(delivery.pending) or b""))
        if delivery.partial:
            return
        raw = b"".join(self._parts.pop(link))
        link.advance()
        if not self._may_send(raw):
            link.condition = Condition("amqp:unauthorized-access", "the user id of a message is not its sender's")
            link.close()
            return
        if not delivery.settled:
            delivery.update(Delivery.ACCEPTED)
        delivery.settle()
        if self.broker.refills:
            link.flow(1)
        self.take(link, raw)

    def take(self, link: Receiver, raw: bytes) -> None:
        self.broker.take(link.remote_target.address, raw)

    def _may_send(self, raw: bytes) -> bool:
        message = ProtonMessage()
        message.decode(raw)
        return not message.user_id or bytes(message.user_id).decode() == self._user


class Queue:
    """What waits for one receiver."""

    _tags = itertools.count()

    def __init__(self, peer: Peer, broker: QpiddPeer, link: Sender, name: str, settled: bool) -> None:
        self._peer = peer
        self.broker = broker
        self._link = link
        self._name = name
        self._settled = settled
        self._waiting: deque[bytes] = deque()
        self.put: Bound = self._put  # one object, to be found again

    def _put(self, exchange: str, key: str, raw: bytes) -> None:
        self._waiting.append(raw)
        self.pump()
        self._peer.flush()

    def pump(self) -> None:
        while self._waiting and self._link.credit > 0:
            delivery = self._link.delivery(str(next(self._tags)))
            self._link.send(self._waiting.popleft())
            self._link.advance()
            if self._settled:
                delivery.settle()

    def end(self) -> None:
        self.broker.queues.pop(self._name, None)
        self.broker.unbind(self.put)


def _name(end: Terminus, address: str | None) -> None:
    if address is not None:
        end.address = address


def matches(pattern: str, key: str) -> bool:
    """Keys of a topic exchange: `*` is one word, `#` any number of them."""
    return _match(pattern.split("."), key.split("."))


def _match(pattern: list[str], words: list[str]) -> bool:
    if not pattern:
        return not words
    if pattern[0] == "#":
        return any(_match(pattern[1:], words[at:]) for at in range(len(words) + 1))
    return bool(words) and pattern[0] in ("*", words[0]) and _match(pattern[1:], words[1:])


def _binding_key(data: Data) -> str:
    """Without a filter it is the empty one."""
    data.rewind()
    found = data.get_object() if data.next() else None
    for one in (found or {}).values():
        if isinstance(one, Described) and str(one.descriptor) in FILTERS:
            return str(one.value)
    return ""


def poison_in(message: ProtonMessage) -> list[str]:
    """What costs a consumer of AMQP 0-10 its connection."""
    found = [
        f"the {name} of {len(text.encode())} bytes"
        for name, text in (("subject", message.subject), ("reply-to", message.reply_to))
        if text and len(text.encode()) > 255
    ]
    return found + list(_poison(message.properties or {}, 256)) + list(_poison(message.body, 65_536))


def _poison(value: Any, limit: int) -> Iterator[str]:
    match value:
        case char():
            yield f"the character {value!r}"
        case str() if len(value.encode()) >= limit:
            yield f"a text of {len(value.encode())} bytes"
        case dict():
            for key, one in value.items():
                if not isinstance(key, str) or len(key.encode()) >= 256:
                    yield f"the key {key!r:.40}"
                yield from _poison(one, limit)
        case list():
            for one in value:
                yield from _poison(one, limit)


def _frame(code: int, fields: list[Any]) -> bytes:
    data = Data()
    data.put_object(Described(ulong(code), fields))
    body = data.encode()
    return _FRAME.pack(_FRAME.size + len(body), 2, 1) + body


def _decode_init(frame: bytes) -> tuple[str, bytes]:
    """The mechanism and the response; which is a view of the data, and good for only as long as that is there."""
    data = Data()
    data.decode(frame)
    data.rewind()
    data.next()
    mechanism, response = data.get_object().value[:2]
    return str(mechanism), bytes(response or b"")

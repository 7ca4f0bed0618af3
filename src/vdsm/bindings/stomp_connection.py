# SPDX-License-Identifier: Apache-2.0
"""One STOMP connection: its calls, its subscriptions, its heart-beats and its limits."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping

from vdsm.contract.errors import AccessDenied, Unauthenticated
from vdsm.contract.events import EventFilter, EventRecord, Gap
from vdsm.core import flow
from vdsm.core.caller import Caller
from vdsm.protocols import jsonrpc
from vdsm.protocols.jsonrpc import Document
from vdsm.protocols.stomp import Limits, LocalError
from vdsm.protocols.stomp_session import (
    Agreed,
    Ended,
    Happening,
    Sent,
    Session,
    Subscribed,
    Subscription,
    Unsubscribed,
    Write,
)

from .connection import Guest, Place
from .fields import sane_id
from .stomp_hub import JSON, Hub

_log = logging.getLogger(__name__)

_EARLY = 0.5  # seconds that a SEND may be ahead of its CONNECT
_LINGER = 1.0  # seconds for a client to close first, after its receipt
_BURST = 4  # calls begun before the other connections have their turn
_BEAT_AHEAD = 0.8  # of the time agreed on: a heart-beat may be late on its way
_SILENCE = 2.0  # times the agreed time without a sign of life until a client counts as gone
_KEEPALIVE = {socket.TCP_KEEPIDLE: 30, socket.TCP_KEEPINTVL: 10, socket.TCP_KEEPCNT: 3}  # seconds, seconds, probes


class StompConnection(asyncio.Protocol):
    """Reads no more than it can serve, and keeps no more than the client reads."""

    guest: Guest
    caller: Caller

    def __init__(self, hub: Hub, place: Place, left: Callable[[StompConnection], None]) -> None:
        limits = place.options
        self._hub = hub
        self._place = place
        self._left = left
        self._loop = asyncio.get_running_loop()
        self._session = Session(Limits(head=limits.max_head, headers=limits.max_headers, body=limits.max_body))
        self._transport: asyncio.Transport | None = None
        self._subscriptions: set[Subscription] = set()
        self._waiting: deque[Sent] = deque()  # requests that were read and not begun
        self._calls: set[asyncio.Task[None]] = set()
        self._answers: set[asyncio.Task[bytes]] = set()
        self._again: asyncio.Handle | None = None
        self._held = 0  # bytes of the requests under way
        self._arriving = 0  # bytes of a frame that is not complete
        self._arriving_since = 0.0
        self._begun = self._written = self._loop.time()
        self._writable = asyncio.Event()
        self._writable.set()
        self._reading = True
        self._finishing = False
        self._expect = self._beat_every = 0.0  # seconds
        self._beating: asyncio.TimerHandle | None = None
        self._feed: asyncio.Task[None] | None = None

    # ---- the transport ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.guest = guest = Guest(self._place, transport, self)
        self._place.entered(guest)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE.items():
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
        caller = self._hub.identity.of_channel(guest.channel)
        if caller is None:
            problem = Unauthenticated(reason="it shows no client certificate that has a role here")
            self._hub.identity.turned_away(problem, guest.channel, "CONNECT")
            self._apply(self._session.refuse("The caller is not known: show a client certificate that has a role here"))
        else:
            guest.caller = self.caller = caller

    def data_received(self, data: bytes) -> None:
        if self._session.ended:
            return
        self.guest.waiting_since = now = self._loop.time()
        self._apply(self._session.receive(data))
        self._pump()
        arriving = self._session.pending
        if arriving or self._arriving:
            self._mind_arrival(arriving, now)

    def eof_received(self) -> bool:
        """A client that only stopped sending still gets its answers, where the transport can tell."""
        self.finish()
        transport = self._transport
        return transport is not None and transport.get_extra_info("ssl_object") is None

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._hub.arriving -= self._arriving
        for subscription in self._subscriptions:
            self._hub.unsubscribe(self, subscription)
        self._subscriptions.clear()
        self._waiting.clear()
        for task in (*self._calls, *self._answers, self._feed):
            if task is not None:
                task.cancel()  # changes that have begun go on without it
        if self._beating is not None:
            self._beating.cancel()
        self._left(self)
        self._place.left(self.guest)

    def pause_writing(self) -> None:
        self.guest.stalled_since = self._loop.time()
        self._writable.clear()
        self._pump()

    def resume_writing(self) -> None:
        self.guest.stalled_since = 0.0
        self._writable.set()
        self._pump()

    def finish(self) -> None:
        """Read no more, and close when what was asked for is answered."""
        self._finishing = True
        self._pump()

    # ---- what arrives ----------------------------------------------------------------------------------------------

    def _apply(self, happenings: Iterable[Happening]) -> None:
        for happening in happenings:
            match happening:
                case Sent():
                    self._take(happening)
                case Write(data):
                    self._write(data)
                case Subscribed(subscription):
                    self._subscribe(subscription)
                case Unsubscribed(subscription):
                    self._unsubscribe(subscription)
                case Agreed(send_every, expect_every):
                    self._expect = expect_every
                    self._beat_every = send_every * _BEAT_AHEAD
                    self._beat()
                case Ended(linger):
                    self._close(_LINGER if linger else 0.0)

    def _take(self, sent: Sent) -> None:
        hub = self._hub
        if hub.takes_requests(sent.destination):
            self._waiting.append(sent)
        elif len(sent.body) > hub.options.max_relayed:
            self._complain(f"A message to other clients has at most {hub.options.max_relayed} bytes")
        else:
            headers = {name: value for name, value in sent.headers.items() if name not in ("receipt", "content-length")}
            if not hub.deliver(self.caller, sent.destination, sent.body, headers):
                self._complain("Subscription not available")

    def _mind_arrival(self, arriving: int, now: float) -> None:
        """Count what is held of a frame, here and over all connections."""
        hub = self._hub
        hub.arriving += arriving - self._arriving
        if not self._arriving or not arriving:
            self._arriving_since = now
        self._arriving = arriving
        if hub.arriving > self._place.options.max_bodies:
            self._apply(self._session.refuse("Too much is arriving at once: try again in a moment"))

    def check_arrival(self, seconds: float) -> None:
        """See `Arriving`; called about once a second with the time since the last byte came."""
        if not self._reading or self._session.ended:
            self.guest.waiting_since = self._loop.time()  # it is us who do not read
            return
        options, now, session = self._place.options, self._loop.time(), self._session
        reason = ""
        if session.holds_back and seconds > _EARLY:
            reason = "A SEND came before CONNECT"
        elif not session.connected and now - self._begun > options.head_timeout:
            reason = f"CONNECT did not come within {options.head_timeout:g} s"
        elif self._arriving and now - self._arriving_since > options.body_timeout:
            reason = f"A frame did not arrive within {options.body_timeout:g} s"
        elif self._expect and seconds > self._expect * _SILENCE:
            reason = f"No heart-beat for {seconds:.1f} s"
        if reason:
            _log.info("closing the connection of %s: %s", self.caller.identity, reason)
            self._apply(session.refuse(reason))

    # ---- calls -----------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Begin what may begin, and read on if there is room for more."""
        for _ in range(_BURST):
            if self._waiting and self._may_begin():
                self._begin(self._waiting.popleft())
        if self._waiting and self._again is None and self._may_begin():
            self._again = self._loop.call_soon(self._pump_again)
        self._mind_reading()

    def _pump_again(self) -> None:
        self._again = None
        self._pump()

    def _may_begin(self) -> bool:
        if not self._calls:
            return True
        busy = len(self._calls) + len(self._answers)
        room = self._held < self._place.options.max_body
        return busy < self._hub.options.max_calls and room and not self.guest.stalled_since

    def _mind_reading(self) -> None:
        transport = self._transport
        if transport is None:
            return
        reading = not self._waiting and not self._finishing and not self.guest.stalled_since
        if reading != self._reading:
            self._reading = reading
            if reading:
                transport.resume_reading()
            else:
                transport.pause_reading()
        if self._finishing and not self._waiting and not self._calls:
            transport.close()

    def _begin(self, sent: Sent) -> None:
        self._held += len(sent.body)
        self._calls.add(self._loop.create_task(self._serve(sent, jsonrpc.read(sent.body))))

    async def _serve(self, sent: Sent, document: Document) -> None:
        try:
            headers = sent.headers
            given = headers.get("ovirtCorrelationId") or headers.get("flowid")
            flow_id = (given and sane_id(given.encode())) or flow.new()
            if document.batch:
                answer = await self._answer_batch(document, flow_id)
            else:
                answer = await self._hub.rpc.answer(document.calls[0], self.caller, flow_id)
            if answer:
                destination = headers.get("reply-to") or self._hub.options.response_queue
                if not self._hub.deliver(self.caller, destination, answer, JSON):
                    _log.debug("nobody has subscribed to %r: an answer is dropped", destination)
        finally:
            self._held -= len(sent.body)
            task = asyncio.current_task()
            assert task is not None
            self._calls.discard(task)
            if self._waiting or not self._reading:
                self._pump()

    async def _answer_batch(self, document: Document, flow_id: str) -> bytes:
        rpc = self._hub.rpc
        tasks = [self._loop.create_task(rpc.answer(call, self.caller, flow_id)) for call in document.calls]
        self._answers.update(tasks)
        try:
            answers = [answer for answer in await asyncio.gather(*tasks) if answer]
        finally:
            self._answers.difference_update(tasks)
        return jsonrpc.batch(answers) if answers else b""

    # ---- subscriptions ---------------------------------------------------------------------------------------------

    def _subscribe(self, subscription: Subscription) -> None:
        self._subscriptions.add(subscription)
        self._hub.subscribe(self, subscription)
        if self._feed is None and subscription.destination in self._hub.watched:
            try:
                items = self._hub.bridge.subscribe(EventFilter(), self.caller)
            except AccessDenied as problem:
                self._complain(f"{problem}")
            else:
                self._feed = self._loop.create_task(self._follow(items))

    def _unsubscribe(self, subscription: Subscription) -> None:
        self._subscriptions.discard(subscription)
        self._hub.unsubscribe(self, subscription)
        if self._feed is not None and not any(self._watching()):
            self._feed.cancel()
            self._feed = None

    def _watching(self) -> list[Subscription]:
        return [s for s in self._subscriptions if s.destination in self._hub.watched]

    async def _follow(self, items: AsyncIterator[EventRecord | Gap]) -> None:
        """Hand on events at the speed the client reads them: what it has not read waits in the journal."""
        hub = self._hub
        async for item in items:
            if isinstance(item, Gap):
                self._apply(self._session.refuse("Events were lost: connect again and read the objects anew"))
                return
            if body := hub.event_body(item):
                for subscription in self._watching():
                    self.send(subscription, hub.options.event_queue, body, JSON)
                await self._writable.wait()
                await asyncio.sleep(0)  # after a long stall there may be thousands

    # ---- what goes out ---------------------------------------------------------------------------------------------

    def send(self, subscription: Subscription, destination: str, body: bytes, headers: Mapping[str, str]) -> None:
        """A MESSAGE frame, to be read soon or to be the last."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self.guest.stalled_since and transport.get_write_buffer_size() > self._hub.options.max_unread:
            _log.warning("dropping the connection of %s: it does not read what it is sent", self.caller.identity)
            transport.abort()
            return
        try:
            frame = self._session.message(subscription, destination, body, headers)
        except LocalError as error:
            _log.info("a message cannot go to %s: %s", self.caller.identity, error)
            return
        self._write(frame)

    def _write(self, frame: bytes) -> None:
        """One frame, one write, one TLS record: the Java client waits for more if two come in one."""
        if self._transport is not None:
            self._transport.write(frame)
            self._written = self._loop.time()

    def _complain(self, reason: str) -> None:
        self._write(self._session.complaint(reason).data)

    def _beat(self) -> None:
        """Give a sign of life when nothing else did, and come again when the next one is due."""
        transport = self._transport
        if not self._beat_every or transport is None or transport.is_closing():
            return
        now = self._loop.time()
        due = self._written + self._beat_every
        if now >= due - 0.001:
            due = now + self._beat_every
            if not transport.get_write_buffer_size():  # else there is life enough on its way
                self._write(b"\n")
        self._beating = self._loop.call_at(due, self._beat)

    def _close(self, seconds: float) -> None:
        """Take the connection down, what was written before it included."""
        if self._transport is None:
            return
        if seconds:
            self._loop.call_later(seconds, self._transport.close)
        else:
            self._transport.close()

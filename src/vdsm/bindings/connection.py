# SPDX-License-Identifier: Apache-2.0
"""One client's connection: uvicorn's protocols with our limits, time-outs and the client's identity added."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any, Protocol, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import Frame

from vdsm.contract.errors import HeadersTooLarge, InvalidRequest, Problem, RequestTimeout
from vdsm.core.caller import Caller

from .answers import Answer, Send, problem_answer, raw_answer
from .identity import Channel, tcp_channel, unix_channel
from .options import RestOptions

_MAX_FRAMES = 1024  # of one WebSocket message: empty ones cost the sender nothing
_LINGER = 5.0  # seconds a closing connection has to take what is left for it


class DatedState(ServerState):
    """uvicorn's shared state, with a Date header that costs a look at the clock per request and no timer."""

    def __init__(self) -> None:
        super().__init__()
        self._second = 0

    def date(self) -> None:
        """Set the header to the present second."""
        now = int(time.time())
        if now != self._second:
            self._second = now
            self.default_headers = [(b"date", formatdate(now, usegmt=True).encode())]


class Place(Protocol):
    """Where connections are counted."""

    options: RestOptions

    def entered(self, guest: Guest) -> None: ...

    def left(self, guest: Guest) -> None: ...


class Arriving(Protocol):
    """A protocol whose client can be too slow."""

    def check_arrival(self, seconds: float) -> None:
        """End the connection if that is too long since `Guest.waiting_since`."""
        ...


class Guest:
    """What the door and the application know of a connection, through a change of protocol to WebSocket as well.

    Times are those of the loop; 0 stands for "not so now".
    """

    __slots__ = (
        "caller",
        "channel",
        "closing_since",
        "idle_since",
        "place",
        "protocol",
        "stalled_since",
        "transport",
        "waiting_since",
    )

    def __init__(self, place: Place, transport: asyncio.Transport, protocol: Arriving) -> None:
        self.place = place
        self.transport = transport
        self.protocol: Arriving | None = protocol  # until it is a WebSocket
        self.channel = _channel_of(transport)
        self.caller: Caller | None = None  # whom the channel proves, once the application has asked
        self.waiting_since = asyncio.get_running_loop().time()  # for the rest of a request
        self.idle_since = 0.0  # the last answer is out
        self.stalled_since = 0.0  # the client does not read
        self.closing_since = 0.0

    def sweep(self, now: float) -> None:
        """End the connection if its client is overdue."""
        options = self.place.options
        if self.stalled_since and now - self.stalled_since > options.stall_timeout:
            self.transport.abort()
        elif self.transport.is_closing():
            self.closing_since = self.closing_since or now
            if now - self.closing_since > _LINGER:
                self.transport.abort()
        elif self.waiting_since and self.protocol is not None:
            self.protocol.check_arrival(now - self.waiting_since)
        elif self.idle_since and now - self.idle_since > options.keep_alive:
            self.transport.close()


def _channel_of(transport: asyncio.Transport) -> Channel:
    sock = transport.get_extra_info("socket")
    peer = transport.get_extra_info("peername")
    if isinstance(peer, tuple):
        tls = transport.get_extra_info("ssl_object")
        reached = transport.get_extra_info("sockname")
        certificate = transport.get_extra_info("peercert")
        return tcp_channel(str(peer[0]), str(reached[0]), certificate, tls=tls is not None)
    return unix_channel(sock)


def write_answer(send: Send, answer: Answer) -> bool:
    """Write a whole answer in one go, past uvicorn's look at every single header, which costs a third of a small read.

    False, with nothing written, where the connection is not as such an answer finds it: then the application's way
    is the right one.
    """
    cycle = getattr(send, "__self__", None)
    if not isinstance(cycle, RequestResponseCycle) or cycle.response_started or cycle.disconnected:
        return False
    if cycle.flow.write_paused or not cycle.keep_alive or cycle.scope["method"] == "HEAD":
        return False
    headers = [*cycle.default_headers, *answer.all_headers()]
    lines = [b"%s: %s\r\n" % header for header in headers]
    head = b"".join([STATUS_LINE[answer.status], *lines, b"\r\n"])
    if head.count(b"\n") != len(headers) + 2 or head.count(b"\r") != len(headers) + 2:
        return False  # a header that would become two: let uvicorn refuse it
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    cycle.transport.write(head + answer.body)
    cycle.message_event.set()
    cycle.on_response()
    return True


class HttpConnection(HttpToolsProtocol):
    """HTTP/1.1, one request after the other."""

    guest: Guest

    def __init__(self, place: Place, config: Config, state: DatedState) -> None:
        super().__init__(config=config, server_state=state, app_state={})
        self.access_log = False  # the audit trail and the log of calls say more
        self._place = place
        self._dated = state
        self._options = place.options
        self._partial = False  # a request has begun and not ended
        self._in_body = False
        self._chunk_size = 0
        self._head_size = 0  # of the present head, in earlier chunks than that one
        self._discarded = 0
        self._refusal: Problem | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        super().connection_made(transport)
        self.guest = Guest(self._place, transport, self)
        self.app_state["guest"] = self.guest
        self._place.entered(self.guest)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._place.left(self.guest)

    def data_received(self, data: bytes) -> None:
        guest = self.guest
        guest.idle_since = 0.0
        self._chunk_size = len(data)
        if self._partial and not self._in_body:
            self._head_size += self._chunk_size
        super().data_received(data)
        if self._partial:
            if not self._in_body and self._head_size > self._options.max_head:
                self._refuse(self._too_large())
            elif not guest.waiting_since:
                guest.waiting_since = self.loop.time()
        elif not self._answering():
            # Empty lines before a request end the idleness and begin nothing.
            guest.waiting_since = guest.waiting_since or self.loop.time()

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= self._options.max_pipelined:
            self._refusal = InvalidRequest(reason="too many requests at once")
            raise self._refusal
        super().on_message_begin()
        self._partial, self._in_body, self._head_size, self._discarded = True, False, 0, 0

    def on_headers_complete(self) -> None:
        options, headers = self._options, self.headers
        # Only a large chunk can hold too large a head, and only then is it worth the exact sum.
        large = self._head_size + self._chunk_size > options.max_head and self._exact_size() > options.max_head
        if large or len(headers) > options.max_headers:
            self._refusal = self._too_large()
            raise self._refusal
        self._in_body = True
        self.guest.waiting_since = 0.0
        self._dated.date()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self.cycle.response_complete:
            self._discarded += len(body)
            if self._discarded > self._options.max_discarded:
                self.transport.abort()
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._partial = False
        self.guest.waiting_since = 0.0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """As uvicorn's, but for the timer it would set at each answer: the sweep looks after idle connections."""
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self.guest.idle_since = self.loop.time()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Callable[..., Any]) -> None:
        self.tasks.add(self.loop.create_task(self._run(cycle, app)))

    async def _run(self, cycle: RequestResponseCycle, app: Callable[..., Any]) -> None:
        """Forgets itself at its end: a callback that does it would cost a turn of the loop, a tenth of a small read."""
        try:
            await cycle.run_asgi(app)
        finally:
            if (task := asyncio.current_task()) is not None:
                self.tasks.discard(task)

    def check_arrival(self, seconds: float) -> None:
        """Refuse the request that has been arriving for so long, if that is too long."""
        if self.flow.read_paused:
            self.guest.waiting_since = self.loop.time()  # it is us who do not read
        elif seconds > (limit := self._options.body_timeout if self._in_body else self._options.head_timeout):
            if self._partial and (self._answering() or not self._in_body):
                self._refuse(RequestTimeout(seconds=f"{limit:g}"))
            else:  # nothing has begun, or it is the rest of a request that has its answer
                self.transport.close()

    def send_400_response(self, msg: str) -> None:
        problem, self._refusal = self._refusal or InvalidRequest(reason=msg), None
        self._refuse(problem)

    def _exact_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _answering(self) -> bool:
        cycle = cast("RequestResponseCycle | None", self.cycle)  # None before the first request
        return cycle is not None and not cycle.response_complete

    def _too_large(self) -> Problem:
        return HeadersTooLarge(limit=self._options.max_head, count=self._options.max_headers)

    def _refuse(self, problem: Problem) -> None:
        if self._answering() and self.cycle.response_started:
            self.transport.abort()  # in the middle of another answer there is no place for this one
            return
        self.transport.write(raw_answer(problem_answer(problem, "")))
        self.transport.close()

    def pause_writing(self) -> None:
        self.guest.stalled_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self.guest.stalled_since = 0.0
        super().resume_writing()

    def _unsupported_upgrade_warning(self) -> None:
        """An upgrade we do not know is answered as if it had not been asked for; that is no news for the log."""


class WebSocketConnection(WebSocketsSansIOProtocol):
    """A WebSocket that began as one of the requests above."""

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        super().__init__(config=config, server_state=server_state, app_state=app_state)
        self._guest: Guest = app_state["guest"]
        self._guest.protocol = None

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._guest.place.left(self._guest)

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= _MAX_FRAMES:
            self.transport.abort()
            return
        super().handle_cont(event)

    def handle_ping(self) -> None:
        if not self.writable.is_set():
            self.transport.abort()  # it asks for answers and does not read them
            return
        super().handle_ping()

    def pause_writing(self) -> None:
        self._guest.stalled_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._guest.stalled_since = 0.0
        super().resume_writing()

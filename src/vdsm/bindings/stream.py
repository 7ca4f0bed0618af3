# SPDX-License-Identifier: Apache-2.0
"""What goes on for ever: the event stream, as Server-Sent Events and as WebSocket, and two-way byte streams."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Any

from vdsm.contract import AnyVerb, ByteStream
from vdsm.contract.codec import from_plain, to_json
from vdsm.contract.errors import InvalidParams, NotAcceptable, Problem
from vdsm.contract.events import EventFilter, EventRecord, Gap
from vdsm.contract.types import EventId
from vdsm.core.bridge import Bridge
from vdsm.protocols import sse

from .answers import Answer, Receive, Send
from .endpoints import Arguments, Identify
from .fields import accepts
from .options import RestOptions
from .requests import Query, Request
from .routes import Values

_log = logging.getLogger(__name__)

_POSITION = re.compile("[0-9]{1,18}")
_POLITE = 32  # events written without looking up
_RECONNECT = 1000  # milliseconds a client waits before it comes back

_NORMAL, _GOING_AWAY = 1000, 1001  # WebSocket close codes

Item = EventRecord | Gap
SocketEndpoint = Callable[[Request, Values, Receive, Send], Awaitable[None]]


class Streams:
    """Serves every stream of one door and ends them all when it closes."""

    def __init__(self, bridge: Bridge, identify: Identify, options: RestOptions) -> None:
        self._bridge = bridge
        self._identify = identify
        self._heartbeat = options.heartbeat
        self._ending = asyncio.Event()

    def end(self) -> None:
        self._ending.set()

    # ---- events --------------------------------------------------------------------------------------------------

    async def events(self, request: Request, values: Values, receive: Receive, send: Send) -> Answer | None:
        """Server-Sent Events. Raises Problem as long as nothing was sent."""
        accept = request.headers.get(b"accept", b"*/*")
        if not accepts(accept, sse.MEDIA_TYPE):
            raise NotAcceptable(offered=sse.MEDIA_TYPE)
        items = await self._subscribe(request)
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),  # a proxy that collects the stream delays it
            *request.echo(),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if request.method != "HEAD":
            lines = _Lines(send)
            await lines.write(sse.retry(_RECONNECT) + sse.comment("vdsm"))
            await self._race(
                self._write_events(items, lines), self._beat(lines), _until_gone(receive, "http.disconnect")
            )
        await _close(items)
        await send({"type": "http.response.body", "body": b""})
        return None

    async def _write_events(self, items: AsyncIterator[Item], lines: _Lines) -> None:
        async with aclosing(_politely(items)) as polite:
            async for item in polite:
                await lines.write(encode_item(item))

    async def _beat(self, lines: _Lines) -> None:
        while True:
            await asyncio.sleep(self._heartbeat)
            if lines.quiet() >= self._heartbeat * 0.9:
                await lines.write(sse.comment("still here"))

    async def events_socket(self, request: Request, values: Values, receive: Receive, send: Send) -> None:
        """The same over WebSocket: JSON texts, `{"event": ...}` and `{"gap": ...}`."""
        items = await self._subscribe(request)
        await send({"type": "websocket.accept", "headers": request.echo()})
        await self._race(_send_events(items, send), _until_gone(receive, "websocket.disconnect"))
        await _close(items)
        await self._hang_up(send)

    async def _subscribe(self, request: Request) -> AsyncIterator[Item]:
        caller = await self._identify(request)
        query = request.query()
        since = _since(request.headers.get(b"last-event-id"), query)
        return self._bridge.subscribe(from_plain(query, EventFilter), caller, since=since)

    # ---- two-way streams -------------------------------------------------------------------------------------------

    def tunnel(self, verb: AnyVerb) -> SocketEndpoint:
        """A STREAM verb as a WebSocket: bytes both ways until either side ends."""
        arguments = Arguments(verb)

        async def serve(request: Request, values: Values, receive: Receive, send: Send) -> None:
            caller = await self._identify(request)
            params = arguments.of_path(values, typed=False) | arguments.of_query(request.query())
            stream = await self._bridge.open(verb, params, caller, flow_id=request.flow_id, text_numbers=True)
            try:
                await send({"type": "websocket.accept", "headers": request.echo()})
                await self._race(_read_into(stream, send), _write_from(stream, receive))
            finally:
                await stream.close()
            await self._hang_up(send)

        return serve

    # ---- common ----------------------------------------------------------------------------------------------------

    async def _race(self, *parts: Coroutine[Any, Any, object]) -> None:
        """Run the parts until the first of them ends, or the door closes; then end the others."""
        tasks = [asyncio.ensure_future(part) for part in (*parts, self._ending.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Problem):
                _log.warning("a stream ends: %s", result)
            elif isinstance(result, Exception) and not isinstance(result, OSError):  # OSError: the client is gone
                raise result

    async def _hang_up(self, send: Send) -> None:
        code = _GOING_AWAY if self._ending.is_set() else _NORMAL
        try:
            await send({"type": "websocket.close", "code": code})
        except (OSError, RuntimeError):
            return  # it has closed first


class _Lines:
    """A response body that knows when it was last written to."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._clock = asyncio.get_running_loop().time
        self._last = self._clock()

    async def write(self, data: bytes) -> None:
        self._last = self._clock()
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    def quiet(self) -> float:
        """Seconds since the last write."""
        return self._clock() - self._last


def encode_item(item: Item) -> bytes:
    """An event under its own name and id; a gap under the id from which to go on."""
    data = to_json(item).decode()
    if isinstance(item, Gap):
        return sse.encode(data, event="gap", last_id=str(item.until))
    return sse.encode(data, event=item.data.name, last_id=str(item.id))


async def _politely(items: AsyncIterator[Item]) -> AsyncGenerator[Item, None]:
    """The same items, with a pause for everybody else now and then.

    As long as there are old events to read and room to write them, nothing else in the loop of a stream suspends: it
    would not even notice that its client is gone.
    """
    count = 0
    async for item in items:
        yield item
        count += 1
        if count % _POLITE == 0:
            await asyncio.sleep(0)


async def _send_events(items: AsyncIterator[Item], send: Send) -> None:
    async with aclosing(_politely(items)) as polite:
        async for item in polite:
            kind = "gap" if isinstance(item, Gap) else "event"
            await send({"type": "websocket.send", "text": f'{{"{kind}":{to_json(item).decode()}}}'})


async def _until_gone(receive: Receive, farewell: str) -> None:
    """Read, and pass over, whatever the client sends."""
    while (await receive())["type"] != farewell:
        pass


async def _read_into(stream: ByteStream, send: Send) -> None:
    while data := await stream.read():
        await send({"type": "websocket.send", "bytes": data})


async def _write_from(stream: ByteStream, receive: Receive) -> None:
    while (message := await receive())["type"] == "websocket.receive":
        text = message.get("text")
        await stream.write(text.encode() if text is not None else message["bytes"])


async def _close(items: AsyncIterator[Item]) -> None:
    close = getattr(items, "aclose", None)  # an async generator has it, another iterator need not
    if close is not None:
        await close()


def _since(header: bytes | None, query: Query) -> int | None:
    """Where to go on: a browser's `Last-Event-ID` wins over the URL it was first given. Raises InvalidParams."""
    given = query.pop("since", [])
    text = header.decode("latin-1") if header else given[-1] if given else ""
    if not text:
        return None
    try:
        return from_plain(int(text) if _POSITION.fullmatch(text) else text, EventId)
    except InvalidParams as problem:
        path = "$.Last-Event-ID" if header else "$.since"
        raise InvalidParams(reason=problem.facts["reason"], path=path) from None

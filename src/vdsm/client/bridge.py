# SPDX-License-Identifier: Apache-2.0
"""Another host's bridge, over REST: what a binding needs to serve that host as if it were this one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from vdsm.contract import AnyVerb, ByteStream
from vdsm.contract.errors import HostUnreachable
from vdsm.contract.events import EventFilter, EventRecord, Gap
from vdsm.contract.outcome import Outcome

from . import exchange, route
from .events import Events
from .exchange import Options
from .stream import Stream
from .transport import BadAnswer, Refused, Transport, Unreachable

T = TypeVar("T")

THREADS = 64  # calls under way; one that waits for a task holds its thread


class RemoteBridge:
    """Has the shape of the core's `Bridge`. The other host sees one caller: this process, by the transport's channel.

    So `caller` has been checked by whoever calls; it is not sent, for a host believes no name in a message.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="remote")

    async def close(self) -> None:
        self._transport.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def call(
        self,
        verb: AnyVerb,
        params: Mapping[str, object],
        caller: object,
        *,
        plan: bool = False,
        wait: float | None = None,
        deadline: float | None = None,
        flow_id: str = "",
        idempotency_key: str = "",
        text_numbers: bool = False,
    ) -> Outcome[object]:
        """Do what the verb says, there. Raises Problem."""
        options = Options(plan=plan, wait=wait, deadline=deadline, flow_id=flow_id, idempotency_key=idempotency_key)
        sent = exchange.strict(verb, params) if text_numbers else params
        return await self._run(lambda: exchange.call(self._transport, verb, sent, options))

    async def open(
        self,
        verb: AnyVerb,
        params: Mapping[str, object],
        caller: object,
        *,
        flow_id: str = "",
        text_numbers: bool = False,
    ) -> ByteStream:
        """Open a STREAM verb's two-way stream, there. Raises Problem."""
        target, _ = route.target("GET", verb.route.path, params)
        return RemoteStream(await self._run(lambda: Stream(self._transport, target)))

    async def subscribe(
        self, wanted: EventFilter, caller: object, *, since: int | None = None
    ) -> AsyncIterator[EventRecord | Gap]:
        """Events of that host after the id `since`, for ever, across cuts between us. Raises Problem."""
        loop = asyncio.get_running_loop()
        thread = ThreadPoolExecutor(1, thread_name_prefix="remote events")
        events = Events(self._transport, wanted, since=since)
        try:
            while (item := await _answered(loop.run_in_executor(thread, next, events, None))) is not None:
                yield item
        finally:
            events.close()
            thread.shutdown(wait=False)

    async def _run(self, do: Callable[[], T]) -> T:
        return await _answered(asyncio.get_running_loop().run_in_executor(self._threads, do))


class RemoteStream:
    """A `ByteStream` of another host."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        # Reading holds its thread for as long as the console is silent: it has its own.
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="remote stream")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="remote stream")
        self._closed = False

    async def read(self) -> bytes:
        """The next bytes; empty at the end."""
        if self._closed:
            return b""
        return await _answered(asyncio.get_running_loop().run_in_executor(self._reader, self._stream.read))

    async def write(self, data: bytes) -> None:
        await _answered(asyncio.get_running_loop().run_in_executor(self._writer, self._stream.write, data))

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._writer, self._stream.close)
        self._reader.shutdown(wait=False)
        self._writer.shutdown(wait=False)


async def _answered(future: asyncio.Future[T]) -> T:
    try:
        return await future
    except Refused as refused:
        raise exchange.problem(refused.status, refused.body) from None
    except Unreachable as error:
        raise HostUnreachable(host=error.address, reason=error.reason) from error
    except BadAnswer as error:
        raise HostUnreachable(host="the other end", reason=error) from error

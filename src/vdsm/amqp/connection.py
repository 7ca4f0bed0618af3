# SPDX-License-Identifier: Apache-2.0
"""One connection to a broker on the event loop: TCP or TLS, then SASL, then the engine."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from typing import Any

from proton import TransportException

from vdsm.amqp.address import BusAddress
from vdsm.amqp.engine import Channel, Engine
from vdsm.amqp.errors import ProtocolFault, Refused
from vdsm.amqp.sasl import SaslClient

COALESCE_SECONDS = 0.003

HIGH_WATER_BYTES = 256 << 10


class Connection(asyncio.Protocol):
    """`opened` is done with the broker's properties, or with why not; `lost` with why it ended, ever."""

    def __init__(self, address: BusAddress, container: str, idle_seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[Mapping[str, Any]] = self._loop.create_future()
        self.lost: asyncio.Future[str] = self._loop.create_future()
        self._address = address
        self._sasl = SaslClient(address)
        hostname = f"vhost:{address.virtual_host}" if address.virtual_host else address.host
        self._engine = Engine(container, hostname, idle_seconds, self._on_open, self.fail)
        self._transport: asyncio.Transport | None = None
        self._reason = ""
        self._writable = True
        self._flushing = False
        self._soon: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    async def connect(cls, address: BusAddress, container: str, idle_seconds: float) -> Connection:
        """Until the broker has let us in. Raises OSError, Refused, ProtocolFault. To be run with a time limit."""
        loop = asyncio.get_running_loop()
        connection = cls(address, container, idle_seconds)
        context = _tls(address) if address.tls else None
        try:
            await loop.create_connection(
                lambda: connection,
                address.host,
                address.port,
                ssl=context,
                server_hostname=address.host if context else None,
            )
            await connection.opened
        except BaseException:
            connection.fail("given up")
            raise
        return connection

    @property
    def properties(self) -> Mapping[str, Any]:
        return self.opened.result()

    @property
    def ending(self) -> bool:
        """Before anybody is told that what he sent is lost."""
        return bool(self._reason)

    def channel(self, on_end: Callable[[str], None]) -> Channel:
        channel = self._engine.channel(on_end)
        self.flush_soon()
        return channel

    def flush_soon(self) -> None:
        """To be called after anything was asked of a channel: it leaves with the rest of this turn of the loop."""
        if self._soon:
            self._soon.cancel()
            self._soon = None
            self._flushing = False
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush_later(self) -> None:
        """What the broker is told of messages that came leaves with the answers to them, where these are quick."""
        if not self._flushing:
            self._flushing = True
            self._soon = self._loop.call_later(COALESCE_SECONDS, self._flush)

    def fail(self, reason: str) -> None:
        """End it at once."""
        self._reason = self._reason or reason
        if self._transport is None:
            self._settle_futures()
        else:
            self._transport.abort()

    async def close(self, seconds: float) -> None:
        """What was sent leaves first, if the broker takes it in this time."""
        self._reason = self._reason or "closed"
        self._engine.close()
        self.flush_soon()
        await asyncio.wait([self.lost], timeout=seconds)
        self.fail("closed")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(HIGH_WATER_BYTES)
        if self._reason:
            transport.abort()
        else:
            self._flush()

    def data_received(self, data: bytes) -> None:
        if not self._sasl.done:
            try:
                self._sasl.feed(data)
            except (Refused, ProtocolFault) as problem:
                if not self.opened.done():
                    self.opened.set_exception(problem)
                self.fail(str(problem))
                return
            data = self._sasl.rest
        if self._sasl.done:
            try:
                self._engine.feed(data)
            except TransportException as problem:
                self.fail(str(problem))
        if self.opened.done():
            self._flush_later()
        else:
            self._flush()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._flush()
        self._engine.flow()
        self._flush()

    def connection_lost(self, problem: Exception | None) -> None:
        self._transport = None
        for timer in (self._timer, self._soon):
            if timer:
                timer.cancel()
        self._reason = self._reason or (str(problem) if problem else "the broker closed the connection")
        self._settle_futures()
        self._engine.abandon()

    def _settle_futures(self) -> None:
        if not self.opened.done():
            self.opened.set_exception(ConnectionError(self._reason))
            self.opened.exception()  # whether anybody waits for it or not
        if not self.lost.done():
            self.lost.set_result(self._reason)

    def _on_open(self, properties: Mapping[str, Any]) -> None:
        if not self.opened.done():
            self.opened.set_result(dict(properties))

    def _flush(self) -> None:
        self._flushing, self._soon = False, None
        if self._transport is None or self._transport.is_closing():
            return
        if self._sasl.outgoing:
            self._transport.write(self._sasl.outgoing)
            self._sasl.outgoing = b""
        if not self._sasl.done:
            return
        self._tick()
        while self._writable and (data := self._engine.take()):
            self._transport.write(data)

    def _tick(self) -> None:
        now = self._loop.time()
        deadline = self._engine.tick(now)
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_later(max(0.01, deadline - now), self._flush) if deadline else None


def _tls(address: BusAddress) -> ssl.SSLContext:
    """Made anew for each connection: certificates are renewed under a running daemon."""
    context = ssl.create_default_context(cafile=address.ca or None)
    if address.certificate:
        context.load_cert_chain(address.certificate, address.key)
    return context

# SPDX-License-Identifier: Apache-2.0
"""One port, many protocols: the first bytes a client sends say which one it speaks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from .connection import Place


class Wire(Protocol):
    """A protocol that shares the port with HTTP."""

    def knows(self, start: bytes) -> bool | None:
        """Whether a connection that begins with `start`, which is not empty, is this protocol's; None: not sure yet."""
        ...

    def connection(self, place: Place) -> asyncio.Protocol:
        """Its side of a new connection; tells `place` of itself when it is made and when it is lost."""
        ...

    def end(self) -> None:
        """Begin nothing new; every connection closes when what it is at is done."""
        ...


class FirstBytes(asyncio.Protocol):
    """Waits until a connection's first bytes tell, then hands it over; `decided` is set when that is over either way.

    What no wire knows is `otherwise`'s.
    """

    def __init__(self, wires: Sequence[Wire], place: Place, otherwise: Callable[[], asyncio.Protocol]) -> None:
        self.decided = asyncio.Event()
        self._wires = wires
        self._place = place
        self._otherwise = otherwise
        self._start = b""
        self._transport: asyncio.Transport | None = None
        self._handed_over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._start += data
        verdicts = [wire.knows(self._start) for wire in self._wires]
        if True in verdicts:
            self._hand_over(self._wires[verdicts.index(True)].connection(self._place))
        elif None not in verdicts:
            self._hand_over(self._otherwise())

    def connection_lost(self, exc: Exception | None) -> None:
        self.decided.set()

    def abandon(self) -> bool:
        """Wait no longer. Whether the connection is nobody's, and therefore ended."""
        if not self._handed_over and self._transport is not None:
            self._transport.abort()
        return not self._handed_over

    def _hand_over(self, protocol: asyncio.Protocol) -> None:
        transport = self._transport
        assert transport is not None
        start, self._start = self._start, b""
        self._handed_over = True
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(start)
        self.decided.set()

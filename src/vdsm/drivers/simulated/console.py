# SPDX-License-Identifier: Apache-2.0
"""The serial console of a simulated machine: a login banner, and an echo of what is typed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_PROMPT = b"login: "


class SimulatedConsole:
    """A `ByteStream`. Ends when either side closes."""

    def __init__(self, name: str, closed: Callable[[SimulatedConsole], None]) -> None:
        self._prompt = b"\r\n" + name.encode() + b" " + _PROMPT
        self._out = bytearray(b"\r\nSimulated guest on ttyS0\r\n" + self._prompt)
        self._closed = closed
        self._open = True
        self._news = asyncio.Event()

    async def read(self) -> bytes:
        while self._open and not self._out:
            self._news.clear()
            await self._news.wait()
        data = bytes(self._out)
        self._out.clear()
        return data

    async def write(self, data: bytes) -> None:
        if self._open:
            self._out += data.replace(b"\r", self._prompt).replace(b"\x00", b"")
            self._news.set()

    async def close(self) -> None:
        self.end()

    def end(self) -> None:
        """The other side is gone: the machine stopped, or someone else took the console over."""
        if self._open:
            self._open = False
            self._news.set()
            self._closed(self)

# SPDX-License-Identifier: Apache-2.0
"""A transport that can keep writes back, so that an answer's head and body leave in one system call."""

from __future__ import annotations

import asyncio
from typing import Any


class CorkedTransport:
    """Everything but `write` and `close` is the transport's own. Outside of a `with` it changes nothing."""

    __slots__ = ("_held", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._held: list[bytes] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def __enter__(self) -> None:
        """Keep what is written until the block ends."""
        self._held = []

    def __exit__(self, *error: object) -> None:
        self._release()

    def _release(self) -> None:
        held, self._held = self._held, None
        if held:
            self._transport.write(b"".join(held))

    def write(self, data: bytes) -> None:
        if self._held is None:
            self._transport.write(data)
        else:
            self._held.append(data)

    def close(self) -> None:
        self._release()
        self._transport.close()

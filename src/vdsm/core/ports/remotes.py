# SPDX-License-Identifier: Apache-2.0
"""Data fetched from, and sent to, HTTP servers elsewhere.

Which servers is not decided here. TLS is verified; no redirect is followed; a server that stays silent for long is
given up. Both methods may raise RemoteTransferError and what the callables do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

Take = Callable[[bytes, int], Awaitable[None]]
"""Gets the next piece, and how many bytes there will be in all."""

Give = Callable[[int, int], Awaitable[bytes]]
"""At an offset so many bytes, or fewer; none: it has become shorter."""


class Remotes(Protocol):
    async def fetch(self, url: str, headers: Mapping[str, str], take: Take, *, most: int) -> int:
        """GET it; answers how many bytes came. A server fails that does not say how many there are, or says more than
        `most`.
        """

    async def send(self, url: str, headers: Mapping[str, str], give: Give, length: int) -> None:
        """PUT `length` bytes."""

# SPDX-License-Identifier: Apache-2.0
"""The `Remotes` port in memory: servers that keep what they are sent."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from vdsm.contract.errors_storage import RemoteTransferError
from vdsm.core.ports.remotes import Give, Take

from .faults import Faults

_PIECE = 1 << 20


class SimulatedRemotes:
    """`served` is what there is, by URL; `seen` the headers of each request."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.served: dict[str, bytes] = {}
        self.seen: list[dict[str, str]] = []
        self._faults = faults or Faults()

    async def fetch(self, url: str, headers: Mapping[str, str], take: Take, *, most: int) -> int:
        self.seen.append(dict(headers))
        await self._meet("fetch", url)
        data = self.served.get(url)
        if data is None:
            raise _failed(url, "it answered 404")
        if len(data) > most:
            raise _failed(url, f"it would send {len(data)} bytes, and there is room for {most}")
        for offset in range(0, len(data), _PIECE):
            await take(data[offset : offset + _PIECE], len(data))
        return len(data)

    async def send(self, url: str, headers: Mapping[str, str], give: Give, length: int) -> None:
        self.seen.append(dict(headers))
        await self._meet("send", url)
        came = bytearray()
        while len(came) < length:
            piece = await give(len(came), min(_PIECE, length - len(came)))
            if not piece:
                raise _failed(url, f"what is sent has become shorter than {length} bytes")
            came += piece
        self.served[url] = bytes(came)

    async def _meet(self, method: str, url: str) -> None:
        await self._faults.suffer(method, lambda reason: _failed(url, reason))


def _failed(url: str, reason: str) -> RemoteTransferError:
    return RemoteTransferError(server=urlsplit(url).netloc, reason=reason)

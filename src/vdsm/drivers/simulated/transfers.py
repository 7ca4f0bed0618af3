# SPDX-License-Identifier: Apache-2.0
"""The `Transfers` and `ImageServers` ports in memory: tickets without a door, URLs that nobody serves."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from vdsm.contract.errors_storage import ImageDaemonError, ImageOperationFailed, ImageTicketsError
from vdsm.core.ports.transfers import Export, ImageDoor, Ticket, TicketState

from .disks import SimulatedDisks
from .faults import Faults


class SimulatedTransfers:
    """`move` is what a client would do."""

    def __init__(self, faults: Faults | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._faults = faults or Faults()
        self._clock = clock
        self._tickets: dict[str, Ticket] = {}
        self._expires: dict[str, int] = {}
        self._moved: dict[str, int] = {}
        self._used: dict[str, float] = {}

    def move(self, uuid: str, length: int) -> None:
        """Transfer so many bytes."""
        self._moved[uuid] += length
        self._used[uuid] = self._clock()

    def door(self) -> ImageDoor:
        return ImageDoor(host="127.0.0.1", port=54322)

    async def add(self, ticket: Ticket) -> None:
        await self._meet("add_ticket")
        if not ticket.url.startswith(("file:///", "nbd:unix:/")) or not ticket.ops:
            raise ImageTicketsError(ticket=ticket.uuid, reason="Invalid ticket")
        self._tickets[ticket.uuid] = ticket
        self._moved[ticket.uuid] = 0
        self._used[ticket.uuid] = self._clock()
        self._expires[ticket.uuid] = int(self._clock()) + ticket.timeout

    async def get(self, uuid: str) -> TicketState:
        await self._meet("get_ticket")
        ticket = self._find(uuid)
        return TicketState(
            uuid=uuid,
            url=ticket.url,
            ops=ticket.ops,
            timeout=ticket.timeout,
            filename=ticket.filename,
            active=False,
            canceled=False,
            connections=0,
            transferred=self._moved[uuid],
            expires=self._expires[uuid],
            idle_seconds=int(self._clock() - self._used[uuid]),
            size=ticket.size,
        )

    async def extend(self, uuid: str, timeout: int) -> None:
        await self._meet("extend_ticket")
        self._find(uuid)
        self._expires[uuid] = int(self._clock()) + timeout

    async def remove(self, uuid: str) -> None:
        await self._meet("remove_ticket")
        self._tickets.pop(uuid, None)

    async def close(self) -> None:
        self._tickets.clear()

    def _find(self, uuid: str) -> Ticket:
        if uuid not in self._tickets:
            raise ImageTicketsError(ticket=uuid, reason="No such ticket")
        return self._tickets[uuid]

    async def _meet(self, method: str) -> None:
        await self._faults.suffer(method, lambda reason: ImageDaemonError(reason=reason))


class SimulatedServers:
    """`disks` are looked at as the real ones' headers are."""

    def __init__(self, disks: SimulatedDisks, faults: Faults | None = None) -> None:
        self._disks = disks
        self._faults = faults or Faults()
        self._serving: dict[str, Export] = {}

    async def start(self, server_id: str, export: Export) -> str:
        await self._faults.suffer(
            "start_server", lambda reason: ImageOperationFailed(what="serve", file=export.image.path, reason=reason)
        )
        info = await self._disks.info(export.image)
        if export.bitmap and export.bitmap not in [bitmap.name for bitmap in info.bitmaps]:
            reason = f"Bitmap '{export.bitmap}' is not found"
            raise ImageOperationFailed(what="serve", file=export.image.path, reason=reason)
        self._serving[server_id] = export
        return self.url(server_id)

    def url(self, server_id: str) -> str:
        return f"nbd:unix:/simulated/{server_id}.sock"

    async def stop(self, server_id: str) -> None:
        self._serving.pop(server_id, None)

    async def running(self) -> Sequence[str]:
        return sorted(self._serving)

    async def close(self) -> None:
        pass

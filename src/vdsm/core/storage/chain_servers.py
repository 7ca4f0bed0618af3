# SPDX-License-Identifier: Apache-2.0
"""Images of several volumes served as the one disk a guest would see: an NBD server for each ticket that reads one.

It keeps the volumes locked, so that no machine starts with them meanwhile; a reader that died must not keep them so.
"""

from __future__ import annotations

import asyncio
import contextlib

from vdsm.contract.errors import Problem
from vdsm.contract.errors_storage import ImageDaemonError, ImageTicketsError
from vdsm.core import background
from vdsm.core.ports.transfers import Export, ImageServers, Transfers
from vdsm.core.steps import operation

from .catalog import Catalog, chain_of

LOOK_S = 30.0  # between two looks at a ticket
IDLE_S = 60.0  # without a connection, after which its reader is taken to be gone
_PREFIX = "download-"  # of the servers' ids


class ChainServers:
    def __init__(self, servers: ImageServers, transfers: Transfers, catalog: Catalog) -> None:
        self._servers = servers
        self._transfers = transfers
        self._catalog = catalog
        self._watching: dict[str, asyncio.Task[None]] = {}  # by ticket

    async def open(self) -> None:
        """Go on with those that the last daemon left."""
        with contextlib.suppress(Problem):
            for server in await self._servers.running():
                if server.startswith(_PREFIX):
                    self._watch(server.removeprefix(_PREFIX))

    async def close(self) -> None:
        for watching in self._watching.values():
            watching.cancel()
        await asyncio.gather(*self._watching.values(), return_exceptions=True)

    def url(self, ticket: str) -> str:
        return self._servers.url(f"{_PREFIX}{ticket}")

    @operation("chain.serve")
    async def serve(self, ticket: str, disk_id: str) -> None:
        """Read-only."""
        found = await self._catalog.find(disk_id)
        await self._servers.start(f"{_PREFIX}{ticket}", Export(image=found.file(chain_of(found)[0])))
        self._watch(ticket)

    @operation("chain.end")
    async def end(self, ticket: str) -> None:
        await self.stop(ticket)

    async def stop(self, ticket: str) -> None:
        """A ticket without a server is fine."""
        server = f"{_PREFIX}{ticket}"
        if server in await self._servers.running():
            await self._servers.stop(server)

    def _watch(self, ticket: str) -> None:
        watching = self._watching[ticket] = background.begin(self._end_with(ticket), name=f"server of ticket {ticket}")
        watching.add_done_callback(lambda _: self._watching.pop(ticket, None))

    async def _end_with(self, ticket: str) -> None:
        wanted = True
        while wanted:
            await asyncio.sleep(LOOK_S)
            with contextlib.suppress(Problem):  # one that does not answer in time is asked again
                wanted = await self._wanted(ticket)
                if not wanted:
                    await self._transfers.remove(ticket)
                    await self.stop(ticket)

    async def _wanted(self, ticket: str) -> bool:
        try:
            state = await self._transfers.get(ticket)
        except (ImageTicketsError, ImageDaemonError):  # tickets end with the daemon they live in
            return False
        return state.connections > 0 or state.idle_seconds < IDLE_S

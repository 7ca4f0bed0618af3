# SPDX-License-Identifier: Apache-2.0
"""The entries below `mnt`, one for each connection: a link to a local directory, a mount of everything else."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict

from vdsm.contract.errors_storage import ForeignMount
from vdsm.core.ports.files import Files
from vdsm.core.ports.mounts import Mounts

from .format import layout
from .records import Connection


class Mountpoints:
    """`directory` is the repository. What is mounted is never looked at here: its server may be dead."""

    def __init__(self, files: Files, mounts: Mounts, directory: str) -> None:
        self._files = files
        self._mounts = mounts
        self._directory = directory
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # two mounts would lie on each other

    def name(self, connection: Connection) -> str:
        """Below the repository."""
        return f"mnt/{layout.mount_name(connection.remote)}"

    async def stands(self, connection: Connection) -> bool:
        """Whether something is mounted where this connection's storage should be."""
        return any(one.target == connection.root for one in await self._mounts.list())

    async def make(self, connection: Connection) -> bool:
        """Link or mount it; whether that had to be done. Raises what the files and the mounts do."""
        async with self._locks[connection.root]:
            if connection.mount is None:
                await self._files.make_directory("/", f"{self._directory}/mnt".lstrip("/"))
                await self._files.make_symlink(self._directory, self.name(connection), connection.root)
                return True
            stood = await self.stands(connection)
            await self._mounts.mount(connection.mount)
            if not stood:
                await self._files.release(connection.root)  # processes that still look at what lay there before
            return not stood

    async def remove(self, connection: Connection, *, force: bool) -> None:
        """Not there is fine; what another has mounted there stays. `force`: also when its server is dead."""
        async with self._locks[connection.root]:
            await self._files.release(connection.root)
            if connection.mount is None:
                await self._files.remove(self._directory, self.name(connection))
                return
            with contextlib.suppress(ForeignMount):
                await self._mounts.unmount(connection.mount, force=force)

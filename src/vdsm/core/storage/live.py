# SPDX-License-Identifier: Apache-2.0
"""What the storage needs of machines that run with its disks."""

from __future__ import annotations

from typing import Protocol

from vdsm.contract.sdm import SubchainInfo
from vdsm.core.handlers import Context
from vdsm.core.steps import Step

from .catalog import Found


class LiveDisks(Protocol):
    """Machines of this host's own that run with a disk: the steps by which they do the same."""

    def runs(self, disk_id: str) -> bool:
        """Whether one of them writes to it."""

    async def snapshot(self, ctx: Context, found: Found) -> list[Step]: ...

    async def merge(self, ctx: Context, found: Found, chain: SubchainInfo) -> list[Step]:
        """The volume that is merged stays, ILLEGAL and in no chain."""

    async def extend(self, ctx: Context, found: Found, size: int) -> list[Step]: ...

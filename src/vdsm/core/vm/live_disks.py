# SPDX-License-Identifier: Apache-2.0
"""What `Disk` verbs do while a machine of this host's own runs with the disk: see `LiveDisks`."""

from __future__ import annotations

from vdsm.contract.errors_domains import DiskInUse
from vdsm.contract.sdm import SubchainInfo
from vdsm.contract.vm_drives import VolumeRef
from vdsm.core.handlers import Context
from vdsm.core.steps import Step
from vdsm.core.storage.catalog import Found, chain_of

from .admission import Admission
from .disks import FREEZE_S, SNAPSHOT_S, VmDisks, has_agent
from .drives import Drive
from .machine import Machine
from .merges import Merges
from .table import Table


class MachinesDisks:
    def __init__(self, table: Table, admission: Admission, disks: VmDisks, merges: Merges) -> None:
        self._table = table
        self._admission = admission
        self._disks = disks
        self._merges = merges

    def runs(self, disk_id: str) -> bool:
        return self._find(disk_id) is not None

    def _find(self, disk_id: str) -> tuple[Machine, Drive] | None:
        for row in self._table:
            for drive in row.view.drives if row.ours and row.active else ():
                spot = self._admission.spot_of(drive) if drive.is_disk and not drive.read_only else None
                if spot is not None and spot.image_id == disk_id:
                    return row, drive
        return None

    async def _hold(self, ctx: Context, found: Found) -> tuple[Machine, Drive]:
        """Raises DiskInUse: it ended just now, or is about to."""
        if (place := self._find(found.image.id)) is not None:
            await ctx.hold(f"vm:{place[0].vm_id}")
            if (again := self._find(found.image.id)) is not None:
                return again
        raise DiskInUse(disk=found.name, vm=place[0].name if place else "which just ended")

    async def snapshot(self, ctx: Context, found: Found) -> list[Step]:
        machine, drive = await self._hold(ctx, found)
        quiesce = FREEZE_S if has_agent(machine) else None
        return await self._disks.new_layers(ctx, machine, [drive], quiesce, SNAPSHOT_S)

    async def merge(self, ctx: Context, found: Found, chain: SubchainInfo) -> list[Step]:
        """Not with the machine held: it lasts."""
        if (place := self._find(found.image.id)) is None:
            raise DiskInUse(disk=found.name, vm="which just ended")
        ref = self._ref(found)
        merge = await self._disks.plan_merge(ctx, place[0], ref, chain.base_id, chain.top_id, 0)
        return self._merges.steps(merge, merge.drive)

    async def extend(self, ctx: Context, found: Found, size: int) -> list[Step]:
        machine, drive = await self._hold(ctx, found)
        return [self._disks.growth(machine, found, self._ref(found), drive.name, size)]

    def _ref(self, found: Found) -> VolumeRef:
        return VolumeRef(domain_id=found.domain.id, image_id=found.image.id, volume_id=chain_of(found)[0])

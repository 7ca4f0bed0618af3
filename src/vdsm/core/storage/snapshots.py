# SPDX-License-Identifier: Apache-2.0
"""Disks that get snapshots, lose them and grow: while no machine runs with them here, else in the machine's way.

`layer`, `Merges.whole` and `VolumeSizes.growing` give the steps of each for the storage and know no machines; whether
one runs with the disk is asked in the handlers alone.
"""

from __future__ import annotations

import time
import uuid

from msgspec.structs import replace

from vdsm.contract import disk
from vdsm.contract.disk import DiskInfo
from vdsm.contract.errors_domains import DiskInUse, DiskUnusable, MergeSnapshotsError
from vdsm.contract.sdm import SubchainInfo
from vdsm.contract.storage_words import BLANK, VolumeAllocation, VolumeFormat, VolumeRole, VolumeStatus
from vdsm.core.handlers import Context, handles
from vdsm.core.steps import Step

from .catalog import Catalog, Found
from .disk import Disks, Users
from .format.volume_meta import VolumeMeta
from .live import LiveDisks
from .merges import Merges
from .repository import Repository
from .volume_jobs import Address
from .volume_operations import VolumeOperations
from .volume_sizes import VolumeSizes


class Snapshots:
    """`users` are machines that no other program than they may touch a disk beside: those that run, and strangers'."""

    live: LiveDisks

    def __init__(
        self,
        repository: Repository,
        catalog: Catalog,
        operations: VolumeOperations,
        merges: Merges,
        sizes: VolumeSizes,
        disks: Disks,
        users: Users,
    ) -> None:
        self._repository = repository
        self._catalog = catalog
        self._do = operations
        self._merges = merges
        self._sizes = sizes
        self._disks = disks
        self._users = users

    @handles(disk.snapshot)
    async def snapshot(self, ctx: Context, disk_id: str) -> DiskInfo:
        found = await self._held(ctx, disk_id)
        if self.live.runs(disk_id):
            steps = await self.live.snapshot(ctx, found)
        else:
            self._check_idle(found)
            steps = self.layer(found, str(uuid.uuid4()), next_volume(found))
        return await ctx.run(*steps, answer=self._disks.info(disk_id), about=disk_id)

    @handles(disk.merge)
    async def merge(self, ctx: Context, disk_id: str, *, volume_id: str | None = None) -> DiskInfo:
        found = await self._held(ctx, disk_id)
        pair = _pair(found, volume_id)
        if self.live.runs(disk_id):
            gone = self._merges.drop(Address(found.domain.id, disk_id, pair.base_id), pair.top_id)
            steps = [*await self.live.merge(ctx, found, pair), Step("remove what was merged", gone, gone)]
        else:
            self._check_idle(found)
            steps = self._merges.whole(await self._merges.subchain(pair))
        return await ctx.run(*steps, answer=self._disks.info(disk_id), about=disk_id)

    @handles(disk.extend)
    async def extend(self, ctx: Context, disk_id: str, size: int) -> DiskInfo:
        found = await self._held(ctx, disk_id)
        if self.live.runs(disk_id):
            steps = await self.live.extend(ctx, found, size)
        else:
            self._check_idle(found)
            steps = await self._sizes.growing(found, found.image.chain()[0], size)
        return await ctx.run(*steps, answer=self._disks.info(disk_id), about=disk_id)

    async def _held(self, ctx: Context, disk_id: str) -> Found:
        """A sound disk. Raises NoSuchDisk, DiskUnusable, SpmStatusError."""
        await ctx.hold(f"disk:{disk_id}")
        found = await self._catalog.find(disk_id)
        await self._repository.writable(found.domain.id)
        status, reason = found.image.status()
        if status is VolumeStatus.OK and found.image.template():
            status, reason = VolumeStatus.INVALID, "it is a template, which others go on from"
        if status is not VolumeStatus.OK:
            raise DiskUnusable(disk=found.name, reason=reason)
        return found

    def _check_idle(self, found: Found) -> None:
        """Raises DiskInUse."""
        for machine in self._users(found.image.id):
            raise DiskInUse(disk=found.name, vm=machine)

    def layer(self, found: Found, volume_id: str, new: VolumeMeta) -> list[Step]:
        """A new volume on top: what is written from then on goes there."""
        name = new.parent
        last = found.image.volumes[name]
        inner = replace(last, role=VolumeRole.INTERNAL)
        records = []
        if last.format is VolumeFormat.COW:
            records = [Step("let it record the same changes", self._do.add_bitmaps(volume_id, new, True, []))]
        return [
            Step("keep a place for a volume", self._do.reserve(volume_id, new), self._do.discard(volume_id, new)),
            Step("make it", self._do.make(volume_id, new)),
            *records,
            Step("write no more to the last one", self._do.describe(name, inner), self._do.describe(name, last)),
            Step("finish it", self._do.commit(volume_id, new), self._do.discard(volume_id, new)),
        ]


def next_volume(found: Found) -> VolumeMeta:
    """Of a volume that goes on from the disk's last."""
    name = found.image.chain()[0]
    last = found.image.volumes[name]
    return replace(
        last,
        parent=name,
        created=int(time.time()),
        format=VolumeFormat.COW,
        allocation=VolumeAllocation.SPARSE,
        generation=0,
        sequence=last.sequence + 1,
        rest={},
    )


def _pair(found: Found, volume_id: str | None) -> SubchainInfo:
    """The volume that goes and the one that takes it in. Raises MergeSnapshotsError."""
    chain = found.image.chain()
    top = volume_id or chain[0]
    reason = ""
    if top not in chain:
        reason = "the disk has no such volume"
    elif found.image.volumes[top].parent == BLANK:
        reason = "it goes on from none"
    elif found.image.volumes[found.image.volumes[top].parent].role is VolumeRole.SHARED:
        reason = "it goes on from a template"
    if reason:
        raise MergeSnapshotsError(volume=top, disk=found.name, reason=reason)
    base = found.image.volumes[top].parent
    return SubchainInfo(sd_id=found.domain.id, img_id=found.image.id, top_id=top, base_id=base)

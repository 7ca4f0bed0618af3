# SPDX-License-Identifier: Apache-2.0
"""The verbs on disks: what they check and which steps they take."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

from vdsm.contract import disk
from vdsm.contract.disk import DiskInfo, DiskSummary, DiskVolume
from vdsm.contract.errors import HypervisorUnavailable
from vdsm.contract.errors_domains import DiskExists, DiskInUse, NoSuchDisk, WhichStorage
from vdsm.contract.errors_storage import FileMissing
from vdsm.contract.storage_words import BLANK, StorageDomainImageClass, VolumeAllocation, VolumeLegality, VolumeStatus
from vdsm.contract.vm_params import DiskFormat
from vdsm.core.handlers import Context, handles
from vdsm.core.ports.files import Files, FileStatus
from vdsm.core.steps import Step, operation

from .catalog import Catalog, Found
from .format import chains, layout
from .format.lines import Malformed
from .format.volume_meta import VolumeMeta
from .formats import DISK_FORMATS, VOLUME_FORMATS
from .records import Domain
from .repository import Repository
from .templates import Templates
from .volume_operations import VolumeOperations

BLOCK = 4096  # a disk is whole blocks, so that any of its copies can be

Users = Callable[[str], list[str]]
"""Names of the machines, also foreign ones, one of whose disks has this id in its path."""


class Disks:
    def __init__(
        self,
        files: Files,
        repository: Repository,
        catalog: Catalog,
        operations: VolumeOperations,
        templates: Templates,
        users: Users,
    ) -> None:
        self._files = files
        self._repository = repository
        self._catalog = catalog
        self._do = operations
        self._templates = templates
        self._users = users

    # ---- looking ---------------------------------------------------------------------------------------------------

    @handles(disk.list_)
    async def list_(self, ctx: Context) -> list[DiskSummary]:
        return sorted((_summary(found) for found in await self._catalog.all()), key=lambda row: (row.name, row.id))

    @handles(disk.get_info)
    async def get_info(self, ctx: Context, disk_id: str) -> DiskInfo:
        return await self._info(await self._catalog.find(disk_id))

    @operation("disk.info")
    async def info(self, disk_id: str) -> DiskInfo:
        return await self._info(await self._catalog.find(disk_id))

    async def _info(self, found: Found) -> DiskInfo:
        shown = _summary(found)
        try:
            order = found.image.chain()
        except Malformed:
            order = sorted(found.image.volumes)
        return DiskInfo(
            id=shown.id,
            name=shown.name,
            storage=shown.storage,
            storage_id=shown.storage_id,
            size=shown.size,
            format=shown.format,
            status=shown.status,
            reason=shown.reason,
            path=found.volume_path(order[0]) if order else "",
            vms=self._vms(found.image.id),
            chain=[await self._volume(found, volume_id) for volume_id in order],
        )

    def _vms(self, disk_id: str) -> list[str] | None:
        try:
            return self._users(disk_id)
        except HypervisorUnavailable:
            return None

    async def _volume(self, found: Found, volume_id: str) -> DiskVolume:
        meta = found.image.volumes[volume_id]
        status = VolumeStatus.OK if meta.legality is VolumeLegality.LEGAL else VolumeStatus.ILLEGAL
        try:
            inside = found.domain.path(layout.volume(found.image.id, volume_id))
            file: FileStatus | None = await self._files.status(found.domain.root, inside)
        except FileMissing:
            file, status = None, VolumeStatus.INVALID
        return DiskVolume(
            id=volume_id,
            parent=None if meta.parent == BLANK else meta.parent,
            format=DISK_FORMATS[meta.format],
            allocation=meta.allocation,
            status=status,
            created=float(meta.created),
            apparent_size=file.size if file else 0,
            true_size=file.allocated if file else 0,
        )

    # ---- making and removing ---------------------------------------------------------------------------------------

    @handles(disk.create)
    async def create(
        self,
        ctx: Context,
        name: str,
        *,
        size: int,
        format: DiskFormat = DiskFormat.RAW,  # noqa: A002 as in the contract
        allocation: VolumeAllocation = VolumeAllocation.SPARSE,
        storage: str | None = None,
        disk_id: str | None = None,
        upload_size: int | None = None,
    ) -> DiskInfo:
        domain = await self._choose(storage)
        image_id, volume_id = disk_id or str(uuid.uuid4()), str(uuid.uuid4())
        await ctx.hold(f"disk:{image_id}", f"disk-name:{name}")
        for other in await self._catalog.all():
            if other.name == name or other.image.id == image_id:
                raise DiskExists(disk=name if other.name == name else image_id)
        meta = VolumeMeta(
            domain=domain.id,
            image=image_id,
            capacity=-(-size // BLOCK) * BLOCK,
            created=int(time.time()),
            description=chains.description(name, upload_size or 0),
            legality=VolumeLegality.ILLEGAL if upload_size else VolumeLegality.LEGAL,
            format=VOLUME_FORMATS[format],
            allocation=allocation,
            sequence=1,
        )
        make = self._do.make(volume_id, meta)
        if upload_size:  # whole blocks, as direct I/O has them: the rest reads as zeros
            length = -(-upload_size // BLOCK) * BLOCK
            make = self._do.make_room(volume_id, meta, length)
        return await ctx.run(
            Step(f"keep a place for {name}", self._do.reserve(volume_id, meta), self._do.discard(volume_id, meta)),
            Step(f"make {name}", make),
            Step(f"finish {name}", self._do.commit(volume_id, meta), self._do.discard(volume_id, meta)),
            answer=self.info(image_id),
            about=image_id,
        )

    async def _choose(self, ref: str | None) -> Domain:
        """Raises WhichStorage, StorageDomainDoesNotExist, StorageUnusable, ImagesNotSupportedError."""
        rows = list(self._repository)
        if ref is None:
            rows = [row for row in rows if row.meta and row.meta.domain_class is StorageDomainImageClass.DATA]
            if len(rows) != 1:
                raise WhichStorage(count=len(rows))
            return await self._repository.writable(rows[0].id)
        named = [row.id for row in rows if row.name == ref]
        if len(named) > 1:
            raise WhichStorage(count=len(named))
        domain = await self._repository.writable(named[0] if named else ref)
        domain.check_images()
        return domain

    @handles(disk.delete)
    async def delete(self, ctx: Context, disk_id: str) -> None:
        await ctx.hold(f"disk:{disk_id}")
        try:
            steps = await self._removal(await self._catalog.find(disk_id))
        except NoSuchDisk:
            if not (steps := await self._left_over(disk_id)):
                raise
        await ctx.run(*steps, about=disk_id)

    async def _removal(self, found: Found) -> list[Step]:
        await self._repository.writable(found.domain.id)
        for machine in self._users(found.image.id):
            raise DiskInUse(disk=found.name, vm=machine)
        await self._templates.check_unused(found)
        return self._do.removal(found.domain.id, found.image.id, found.name)

    async def _left_over(self, disk_id: str) -> list[Step]:
        """See `VolumeOperations.left_over`."""
        for domain in self._repository:
            if domain.meta is not None and (steps := await self._do.left_over(domain, disk_id)):
                await self._repository.writable(domain.id)
                return steps
        return []


def _summary(found: Found) -> DiskSummary:
    top = found.image.top()
    status, reason = found.image.status()
    return DiskSummary(
        id=found.image.id,
        name=found.name,
        storage=found.domain.name,
        storage_id=found.domain.id,
        size=top.capacity if top else 0,
        format=DISK_FORMATS[top.format] if top else DiskFormat.RAW,
        status=status,
        reason=reason,
        volumes=len(found.image.volumes) + len(found.image.faults),
    )

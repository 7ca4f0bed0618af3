# SPDX-License-Identifier: Apache-2.0
"""The verbs on volumes: what they check and which steps they take."""

from __future__ import annotations

import time
from typing import NamedTuple

from msgspec.structs import replace

from vdsm.contract import volume
from vdsm.contract.errors_domains import (
    CannotCloneVolume,
    DiskInUse,
    SpmStatusError,
    VolumeAlreadyExists,
    VolumeDoesNotExist,
)
from vdsm.contract.errors_storage import FileMissing
from vdsm.contract.storage_words import (
    BLANK,
    DiskContentType,
    VolumeAllocation,
    VolumeFormat,
    VolumeLegality,
    VolumeRole,
    VolumeStatus,
)
from vdsm.contract.volume import QemuImageInfo, VolumeInfo, VolumeSizeInfo
from vdsm.core.handlers import Context, handles
from vdsm.core.ports.disks import DiskImages
from vdsm.core.ports.files import Files, FileStatus
from vdsm.core.steps import Op, Step, operation

from . import layout
from .catalog import Catalog, Found, chain_of
from .disk import BLOCK, Users
from .records import Domain
from .repository import Repository
from .volume_meta import VolumeMeta
from .volume_operations import VolumeOperations


class Place(NamedTuple):
    """A volume that is there."""

    found: Found
    volume_id: str
    meta: VolumeMeta


class Volumes:
    def __init__(
        self,
        files: Files,
        images: DiskImages,
        repository: Repository,
        catalog: Catalog,
        operations: VolumeOperations,
        users: Users,
    ) -> None:
        self._files = files
        self._images = images
        self._repository = repository
        self._catalog = catalog
        self._do = operations
        self._users = users

    # ---- looking ---------------------------------------------------------------------------------------------------

    @handles(volume.get_info)
    async def get_info(
        self, ctx: Context, volume_id: str, storagepool_id: str, storagedomain_id: str, image_id: str
    ) -> VolumeInfo:
        return await self._info(storagedomain_id, image_id, volume_id)

    @operation("volume.info")
    async def info(self, domain_id: str, image_id: str, volume_id: str) -> VolumeInfo:
        return await self._info(domain_id, image_id, volume_id)

    async def _info(self, domain_id: str, image_id: str, volume_id: str) -> VolumeInfo:
        place = await self._find(domain_id, image_id, volume_id)
        file = await self._file(place)
        meta, pool = place.meta, self._repository.pool_of(domain_id)
        status = VolumeStatus.OK if meta.legality is VolumeLegality.LEGAL else VolumeStatus.ILLEGAL
        volumes = place.found.image.volumes
        return VolumeInfo(
            uuid=volume_id,
            image=image_id,
            domain=domain_id,
            pool=pool.id if pool else BLANK,
            parent=meta.parent,
            children=sorted(name for name, other in volumes.items() if other.parent == volume_id),
            description=meta.description,
            disktype=meta.disk_type,
            format=meta.format,
            alloc_type=meta.allocation,
            voltype=meta.role,
            legality=meta.legality,
            status=VolumeStatus.INVALID if file is None else status,
            generation=meta.generation,
            sequence=meta.sequence,
            capacity=meta.capacity,
            truesize=file.allocated if file else 0,
            apparentsize=file.size if file else 0,
            ctime=meta.created,
        )

    @handles(volume.get_size)
    async def get_size(
        self, ctx: Context, volume_id: str, storagepool_id: str, storagedomain_id: str, image_id: str
    ) -> VolumeSizeInfo:
        file = await self._file(await self._find(storagedomain_id, image_id, volume_id))
        if file is None:
            raise VolumeDoesNotExist(volume=volume_id, image=image_id)
        return VolumeSizeInfo(truesize=file.allocated, apparentsize=file.size)

    @handles(volume.get_qemu_image_info)
    async def get_qemu_image_info(
        self, ctx: Context, volume_id: str, storagepool_id: str, storagedomain_id: str, image_id: str
    ) -> QemuImageInfo:
        place = await self._find(storagedomain_id, image_id, volume_id)
        chain_of(place.found)
        info = await self._images.info(place.found.file(volume_id))
        return QemuImageInfo(
            format=info.format.value,
            virtualsize=info.virtual_size,
            clustersize=info.cluster_size or None,
            backingfile=info.backing_file or None,
            compat=info.compat or None,
        )

    @handles(volume.refresh)
    async def refresh(
        self, ctx: Context, volume_id: str, storagepool_id: str, storagedomain_id: str, image_id: str
    ) -> None:
        await self._find(storagedomain_id, image_id, volume_id)
        await ctx.run()

    async def _find(self, domain_id: str, image_id: str, volume_id: str) -> Place:
        """Raises StorageDomainDoesNotExist, StorageUnusable, VolumeDoesNotExist."""
        domain = await self._repository.usable(domain_id)
        image = await self._catalog.image(domain, image_id)
        if image is None or volume_id not in image.volumes:
            raise VolumeDoesNotExist(volume=volume_id, image=image_id)
        return Place(Found(domain, image), volume_id, image.volumes[volume_id])

    async def _file(self, place: Place) -> FileStatus | None:
        domain, inside = place.found.domain, layout.volume(place.found.image.id, place.volume_id)
        try:
            return await self._files.status(domain.root, domain.path(inside))
        except FileMissing:
            return None

    # ---- changing --------------------------------------------------------------------------------------------------

    @handles(volume.create)
    async def create(
        self,
        ctx: Context,
        volume_id: str,
        storagepool_id: str,
        storagedomain_id: str,
        image_id: str,
        size: int,
        vol_format: VolumeFormat,
        preallocate: VolumeAllocation,
        disk_type: DiskContentType,
        desc: str,
        src_image_id: str = BLANK,
        src_volume_id: str = BLANK,
        *,
        initial_size: int | None = None,
        add_bitmaps: bool = False,
        legal: bool = True,
        sequence: int = 0,
        bitmap: str | None = None,
    ) -> VolumeInfo:
        await ctx.hold(f"disk:{image_id}")
        domain = await self._writable(storagedomain_id, storagepool_id)
        meta = VolumeMeta(
            domain=storagedomain_id,
            image=image_id,
            parent=src_volume_id,
            capacity=-(-size // BLOCK) * BLOCK,
            created=int(time.time()),
            description=desc,
            disk_type=disk_type,
            format=vol_format,
            allocation=preallocate,
            legality=VolumeLegality.LEGAL if legal else VolumeLegality.ILLEGAL,
            sequence=sequence,
        )
        parent = await self._parent(domain, volume_id, meta, src_image_id)
        if (bitmap or add_bitmaps) and vol_format is not VolumeFormat.COW:
            raise CannotCloneVolume(volume=volume_id, parent=src_volume_id, reason="a raw volume has no bitmaps")
        answer: Op[VolumeInfo] = self.info(storagedomain_id, image_id, volume_id)
        steps = [
            Step("keep a place for it", self._do.reserve(volume_id, meta), self._do.discard(volume_id, meta)),
            Step("make it", self._do.make(volume_id, meta)),
        ]
        if bitmap or add_bitmaps:
            bitmaps = self._do.add_bitmaps(volume_id, meta, add_bitmaps, [bitmap] if bitmap else [])
            steps.append(Step("let it record changes", bitmaps))
        if parent is not None:
            inner = replace(parent, role=VolumeRole.INTERNAL)
            again = self._do.describe(src_volume_id, parent)
            steps.append(Step("write no more to its parent", self._do.describe(src_volume_id, inner), again))
        steps.append(Step("finish it", self._do.commit(volume_id, meta), self._do.discard(volume_id, meta)))
        return await ctx.run(*steps, answer=answer, about=image_id)

    async def _writable(self, domain_id: str, pool_id: str) -> Domain:
        domain = await self._repository.writable(domain_id)
        pool = self._repository.pool_of(domain_id)
        if pool is None or pool.id != pool_id:
            raise SpmStatusError(domain=f"{domain.name} in pool {pool_id}")
        domain.check_images()
        return domain

    async def _parent(self, domain: Domain, volume_id: str, meta: VolumeMeta, source: str) -> VolumeMeta | None:
        """What the new volume goes on from. Raises VolumeAlreadyExists, CannotCloneVolume, DiskUnusable, DiskInUse."""
        image = await self._catalog.image(domain, meta.image)
        if image is None and meta.parent == BLANK:
            return None

        def refuse(reason: str) -> CannotCloneVolume:
            return CannotCloneVolume(volume=volume_id, parent=meta.parent, reason=reason)

        if image is None or source not in (BLANK, meta.image):
            raise refuse("the parent must be the last volume of the same image")
        if volume_id in image.volumes or volume_id in image.faults:
            raise VolumeAlreadyExists(volume=volume_id, image=meta.image)
        top = chain_of(Found(domain, image))[0]
        parent = image.volumes[top]
        if meta.parent != top:
            raise refuse(f"the image goes on from its volume {top}")
        if parent.legality is not VolumeLegality.LEGAL:
            raise refuse("the parent was not finished")
        if parent.role is VolumeRole.SHARED or meta.format is not VolumeFormat.COW:
            raise refuse("only a COW volume has a parent, and that is no template")
        if meta.capacity < parent.capacity:
            raise refuse(f"it would be smaller than the parent's {parent.capacity} bytes")
        for machine in self._users(meta.image):  # it would write on into the parent
            raise DiskInUse(disk=meta.image, vm=machine)
        return parent

    @handles(volume.set_description)
    async def set_description(
        self,
        ctx: Context,
        volume_id: str,
        storagepool_id: str,
        storagedomain_id: str,
        image_id: str,
        description: str,
    ) -> None:
        old = await self._old(ctx, storagedomain_id, storagepool_id, image_id, volume_id)
        await self._describe(ctx, volume_id, old, replace(old, description=description))

    @handles(volume.set_legality)
    async def set_legality(
        self,
        ctx: Context,
        volume_id: str,
        storagepool_id: str,
        storagedomain_id: str,
        image_id: str,
        legality: VolumeLegality,
    ) -> None:
        old = await self._old(ctx, storagedomain_id, storagepool_id, image_id, volume_id)
        await self._describe(ctx, volume_id, old, replace(old, legality=legality))

    async def _old(self, ctx: Context, domain_id: str, pool_id: str, image_id: str, volume_id: str) -> VolumeMeta:
        await ctx.hold(f"disk:{image_id}")
        await self._writable(domain_id, pool_id)
        return (await self._find(domain_id, image_id, volume_id)).meta

    async def _describe(self, ctx: Context, volume_id: str, old: VolumeMeta, new: VolumeMeta) -> None:
        step = Step("write its metadata", self._do.describe(volume_id, new), self._do.describe(volume_id, old))
        await ctx.run(step)

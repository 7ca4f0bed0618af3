# SPDX-License-Identifier: Apache-2.0
"""The verbs on volumes: what they check and which steps they take."""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from vdsm.contract import volume
from vdsm.contract.errors_domains import (
    VolumeDoesNotExist,
)
from vdsm.contract.errors_storage import FileMissing, ImageVerificationError
from vdsm.contract.storage_words import (
    BLANK,
    VolumeLegality,
    VolumeStatus,
)
from vdsm.contract.volume import QemuImageInfo, VolumeInfo, VolumeSizeInfo
from vdsm.core.handlers import Context, handles
from vdsm.core.ports.disks import DiskImages
from vdsm.core.ports.files import Files, FileStatus
from vdsm.core.steps import Step, operation

from .catalog import Catalog, Found, chain_of
from .disk import BLOCK
from .format import layout
from .format.volume_meta import VolumeMeta
from .repository import Repository
from .volume_leases import VolumeLeases
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
        leases: VolumeLeases,
    ) -> None:
        self._files = files
        self._images = images
        self._repository = repository
        self._catalog = catalog
        self._do = operations
        self._leases = leases

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
        return VolumeInfo(
            uuid=volume_id,
            image=image_id,
            domain=domain_id,
            pool=pool.id if pool else BLANK,
            parent=meta.parent,
            children=await self._do.children(place.found.domain, volume_id, meta),
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
            lease=await self._leases.info(place.found.domain, image_id, volume_id),
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

    @handles(volume.teardown)
    async def teardown(self, ctx: Context, storagedomain_id: str, image_id: str, volume_id: str) -> None:
        await self._find(storagedomain_id, image_id, volume_id)
        await ctx.run()

    @handles(volume.verify_untrusted)
    async def verify_untrusted(
        self, ctx: Context, storagepool_id: str, storagedomain_id: str, image_id: str, volume_id: str
    ) -> None:
        place = await self._find(storagedomain_id, image_id, volume_id)
        chain_of(place.found)
        capacity, file = place.meta.capacity, place.found.file(volume_id)
        size = (await self._images.verify(file, largest=capacity)).virtual_size
        if size <= capacity - BLOCK:
            reason = f"its virtual size of {size} bytes is less than the volume's {capacity}"
            raise ImageVerificationError(file=file.path, reason=reason)

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

    # ---- describing ------------------------------------------------------------------------------------------------

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
        await self._repository.writable(domain_id, pool_id)
        return (await self._find(domain_id, image_id, volume_id)).meta

    async def _describe(self, ctx: Context, volume_id: str, old: VolumeMeta, new: VolumeMeta) -> None:
        step = Step("write its metadata", self._do.describe(volume_id, new), self._do.describe(volume_id, old))
        await ctx.run(step)

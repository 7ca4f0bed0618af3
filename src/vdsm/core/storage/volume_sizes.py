# SPDX-License-Identifier: Apache-2.0
"""How large volumes are, would be, and become."""

from __future__ import annotations

from msgspec.structs import replace

from vdsm.contract import volume
from vdsm.contract.errors_domains import (
    DiskInUse,
    DiskUnusable,
    VolumeDoesNotExist,
    VolumeNonWritable,
    VolumeResizeValueError,
)
from vdsm.contract.storage_words import VolumeAllocation, VolumeFormat, VolumeLegality
from vdsm.contract.volume import VolumeMeasureResult
from vdsm.core.handlers import Context, handles
from vdsm.core.ports.disks import DiskImages
from vdsm.core.steps import Step, operation

from .catalog import Catalog, Found, chain_of
from .disk import BLOCK, Users
from .formats import DISK_FORMATS
from .live import LiveDisks
from .repository import Repository
from .volume_leases import VolumeLeases
from .volume_operations import VolumeOperations


class VolumeSizes:
    live: LiveDisks

    def __init__(
        self,
        images: DiskImages,
        repository: Repository,
        catalog: Catalog,
        leases: VolumeLeases,
        operations: VolumeOperations,
        users: Users,
    ) -> None:
        self._images = images
        self._repository = repository
        self._catalog = catalog
        self._leases = leases
        self._do = operations
        self._users = users

    @handles(volume.measure)
    async def measure(
        self,
        ctx: Context,
        volume_id: str,
        storagepool_id: str,
        storagedomain_id: str,
        image_id: str,
        dst_vol_format: VolumeFormat,
        backing_chain: bool = True,
        base_id: str | None = None,
    ) -> VolumeMeasureResult:
        found = await self._catalog.find_in(storagedomain_id, image_id)
        chain = chain_of(found)
        for name in (volume_id, base_id or volume_id):
            if name not in chain:
                raise VolumeDoesNotExist(volume=name, image=image_id)
        first = chain.index(volume_id)
        last = len(chain) if base_id is None else chain.index(base_id) + 1
        layers = last - first if backing_chain else 1
        if layers < 1:
            raise DiskUnusable(disk=found.name, reason=f"volume {base_id} is not below volume {volume_id}")
        file, target = found.file(volume_id), DISK_FORMATS[dst_vol_format]
        needed = await self._images.measure(file, target, layers=layers)
        return VolumeMeasureResult(required=needed.required, bitmaps=needed.bitmaps)

    @handles(volume.extend_size)
    async def extend_size(
        self,
        ctx: Context,
        storagepool_id: str,
        storagedomain_id: str,
        image_id: str,
        volume_id: str,
        new_size: int,
    ) -> None:
        await ctx.hold(f"disk:{image_id}")
        await self._repository.writable(storagedomain_id, storagepool_id)
        found = await self._catalog.find_in(storagedomain_id, image_id)
        if self.live.runs(image_id) and chain_of(found)[0] == volume_id:
            steps = await self.live.extend(ctx, found, new_size)
        else:
            steps = await self.growing(found, volume_id, new_size)
            for machine in self._users(image_id):  # it would have to be told
                raise DiskInUse(disk=found.name, vm=machine)
        await ctx.run(*steps, about=image_id)

    async def growing(self, found: Found, volume_id: str, new_size: int) -> list[Step]:
        """Raises VolumeDoesNotExist, VolumeNonWritable, DiskUnusable, VolumeResizeValueError."""
        image_id = found.image.id
        if (meta := found.image.volumes.get(volume_id)) is None:
            raise VolumeDoesNotExist(volume=volume_id, image=image_id)
        if volume_id != chain_of(found)[0]:
            raise VolumeNonWritable(volume=volume_id, image=image_id, reason="others go on from it")
        if found.image.template():
            raise VolumeNonWritable(volume=volume_id, image=image_id, reason="it is a template")
        if meta.legality is not VolumeLegality.LEGAL:
            raise DiskUnusable(disk=found.name, reason=found.image.status()[1])
        size = -(-new_size // BLOCK) * BLOCK
        if size < meta.capacity:
            raise VolumeResizeValueError(volume=volume_id, capacity=meta.capacity, size=size)
        where = (found.domain.id, image_id, volume_id)
        before = (await self._images.info(found.file(volume_id))).virtual_size
        return [
            Step("make room", self.enlarge(*where, size), self.cut_back(*where, meta.capacity, before)),
            Step("note its size", self._do.describe(volume_id, replace(meta, capacity=size))),
        ]

    @operation("volume.enlarge")
    async def enlarge(self, domain_id: str, image_id: str, volume_id: str, size: int) -> None:
        """The metadata follows: a volume whose file has more than they say is sound."""
        domain = await self._repository.writable(domain_id)
        found = await self._catalog.find_in(domain_id, image_id)
        meta, file = found.image.volumes[volume_id], found.file(volume_id)
        async with self._leases.held(domain, image_id, volume_id):
            if (await self._images.info(file)).virtual_size < size:
                whole = meta.allocation is VolumeAllocation.PREALLOCATED
                await self._images.resize(file, size, preallocate=whole)

    @operation("volume.cut_back")
    async def cut_back(self, domain_id: str, image_id: str, volume_id: str, capacity: int, size: int) -> None:
        """Of an enlargement that was not finished. Raises VolumeResizeValueError: a guest may use what is finished."""
        domain = await self._repository.writable(domain_id)
        found = await self._catalog.find_in(domain_id, image_id)
        meta, file = found.image.volumes[volume_id], found.file(volume_id)
        if meta.capacity > capacity:
            raise VolumeResizeValueError(volume=volume_id, capacity=meta.capacity, size=capacity)
        async with self._leases.held(domain, image_id, volume_id):
            if (await self._images.info(file)).virtual_size > size:
                await self._images.resize(file, size, shrink=True)

# SPDX-License-Identifier: Apache-2.0
"""Images copied and moved between domains, whole or step by step, and volumes copied into images of their own.

The target is made volume by volume, the base first, and is ILLEGAL until its data are there; only then the source goes.
"""

from __future__ import annotations

import dataclasses
import time

from msgspec.structs import replace

from vdsm.contract import image, volume
from vdsm.contract.errors import InvalidParams
from vdsm.contract.errors_domains import (
    CannotDeleteSharedVolume,
    CouldNotValidateTemplateOnTargetDomain,
    DiskInUse,
    OverwriteImageError,
    VolumeDoesNotExist,
)
from vdsm.contract.image import ImageMoveOperation, SyncType
from vdsm.contract.storage_words import (
    BLANK,
    VolumeAllocation,
    VolumeFormat,
    VolumeLegality,
    VolumeRole,
)
from vdsm.core.handlers import Context, handles
from vdsm.core.locks import shared
from vdsm.core.ports.files import Files
from vdsm.core.steps import Step, operation

from . import layout
from .catalog import Catalog, Found, chain_of, sound
from .copies import Copies
from .disk import Users
from .records import Domain
from .repository import Repository
from .templates import Templates
from .volume_jobs import Address
from .volume_meta import VolumeMeta
from .volume_operations import VolumeOperations

_UNIT = 64 << 20  # bytes of data that count as much as any other step


class ImageMoves:
    def __init__(
        self,
        files: Files,
        repository: Repository,
        catalog: Catalog,
        operations: VolumeOperations,
        templates: Templates,
        copies: Copies,
        users: Users,
    ) -> None:
        self._files = files
        self._repository = repository
        self._catalog = catalog
        self._do = operations
        self._templates = templates
        self._copies = copies
        self._users = users

    # ---- whole images ----------------------------------------------------------------------------------------------

    @handles(image.move)
    async def move(
        self,
        ctx: Context,
        image_id: str,
        storagepool_id: str,
        storagedomain_id: str,
        dst_sd_id: str,
        operation: ImageMoveOperation,
        post_zero: bool = False,
        force: bool = False,
        discard: bool = False,
    ) -> None:
        source, target = await self._both(ctx, storagepool_id, storagedomain_id, dst_sd_id, image_id)
        for machine in self._users(image_id):
            raise DiskInUse(disk=source.name, vm=machine)
        steps = [*await self._structure(source, target), *await self._data(source, target)]
        if operation is ImageMoveOperation.MOVE:
            for derived in await self._templates.derived(source):
                raise CannotDeleteSharedVolume(volume=source.image.template(), image=derived)
            steps += self._do.removal(storagedomain_id, image_id, source.name)
        await ctx.run(*steps, about=image_id)

    @handles(image.clone_structure)
    async def clone_structure(
        self, ctx: Context, image_id: str, storagepool_id: str, storagedomain_id: str, dst_sd_id: str
    ) -> None:
        source, target = await self._both(ctx, storagepool_id, storagedomain_id, dst_sd_id, image_id)
        await ctx.run(*await self._structure(source, target), about=image_id)

    @handles(image.sync_data)
    async def sync_data(
        self,
        ctx: Context,
        image_id: str,
        storagepool_id: str,
        storagedomain_id: str,
        dst_sd_id: str,
        sync_type: SyncType,
    ) -> None:
        source, target = await self._both(ctx, storagepool_id, storagedomain_id, dst_sd_id, image_id)
        own = _own(source)
        wanted = {SyncType.ALL: own, SyncType.INTERNAL: own[:-1], SyncType.LEAF: own[-1:]}[sync_type]
        if sync_type is not SyncType.INTERNAL:
            for machine in self._users(image_id):  # it would be written to meanwhile
                raise DiskInUse(disk=source.name, vm=machine)
        steps = []
        for name in wanted:
            step = await self._copies.step(
                Address(source.domain.id, image_id, name),
                Address(target.id, image_id, name),
                bitmaps=source.image.volumes[name].format is VolumeFormat.COW,
            )
            steps.append(dataclasses.replace(step, weight=await self._weight(source, name)))
        await ctx.run(*steps, about=image_id)

    async def _both(
        self, ctx: Context, pool_id: str, source_id: str, target_id: str, image_id: str
    ) -> tuple[Found, Domain]:
        """A sound image, and another domain of the same pool. Raises SpmStatusError, NoSuchDisk, DiskUnusable."""
        await ctx.hold(f"disk:{image_id}")
        await self._repository.writable(source_id, pool_id)
        target = await self._repository.writable(target_id, pool_id)
        target.check_images()
        if source_id == target_id:
            raise InvalidParams(reason="both domains are the same")
        return sound(await self._catalog.find_in(source_id, image_id)), target

    async def _structure(self, source: Found, target: Domain) -> list[Step]:
        """Make every volume there. Raises OverwriteImageError, CouldNotValidateTemplateOnTargetDomain."""
        await self._check_free(target, source.image.id)
        steps = []
        base = source.image.volumes[chain_of(source)[-1]]
        if base.image != source.image.id:
            steps.append(await self._link(source, target, base))
        for name in _own(source):
            meta = replace(source.image.volumes[name], domain=target.id, legality=VolumeLegality.ILLEGAL, generation=0)
            steps.append(Step(f"make volume {name}", self.make(name, meta), self._do.discard(name, meta)))
        return steps

    async def _check_free(self, target: Domain, image_id: str) -> None:
        if await self._catalog.image(target, image_id) is not None:
            raise OverwriteImageError(image=image_id, domain=target.name or target.id)

    async def _link(self, source: Found, target: Domain, base: VolumeMeta) -> Step:
        """To the same template, which must be there."""
        template, image_id = chain_of(source)[-1], source.image.id
        there = await self._catalog.image(target, base.image)
        meta = there.volumes.get(template) if there is not None and there.template() == template else None
        if meta is None or meta.legality is not VolumeLegality.LEGAL or meta.capacity != base.capacity:
            raise CouldNotValidateTemplateOnTargetDomain(domain=target.name, volume=template, image=image_id)
        link = self._templates.link(target.id, base.image, template, image_id)
        return Step("link its template", link, self._templates.unlink(target.id, template, image_id))

    async def _data(self, source: Found, target: Domain) -> list[Step]:
        steps = []
        for name in _own(source):
            copy = self._copies.copy(
                Address(source.domain.id, source.image.id, name),
                Address(target.id, source.image.id, name),
                0,
                source.image.volumes[name].format is VolumeFormat.COW,
                True,
            )
            steps.append(Step(f"copy the data of {name}", copy, weight=await self._weight(source, name)))
        return steps

    async def _weight(self, source: Found, volume_id: str) -> float:
        inside = source.domain.path(layout.volume(source.image.id, volume_id))
        return 1 + (await self._files.status(source.domain.root, inside)).allocated / _UNIT

    @operation("image.make_volume")
    async def make(self, volume_id: str, meta: VolumeMeta) -> None:
        for part in (self._do.reserve, self._do.make, self._do.commit):
            await part(volume_id, meta).run()

    # ---- one volume ------------------------------------------------------------------------------------------------

    @handles(volume.copy)
    async def copy_volume(
        self,
        ctx: Context,
        volume_id: str,
        storagepool_id: str,
        storagedomain_id: str,
        image_id: str,
        dst_sd_id: str,
        dst_image_id: str,
        dst_volume_id: str,
        desc: str = "",
        vol_type: VolumeRole = VolumeRole.SHARED,
        vol_format: VolumeFormat | None = None,
        preallocate: VolumeAllocation | None = None,
        post_zero: bool = False,
        force: bool = False,
        discard: bool = False,
    ) -> None:
        await ctx.hold(shared(f"disk:{image_id}"), f"disk:{dst_image_id}")
        await self._repository.writable(storagedomain_id, storagepool_id)
        target = await self._repository.writable(storagedomain_id if dst_sd_id == BLANK else dst_sd_id, storagepool_id)
        target.check_images()
        source = await self._catalog.find_in(storagedomain_id, image_id)
        if volume_id not in (chain := chain_of(source)):
            raise VolumeDoesNotExist(volume=volume_id, image=image_id)
        for machine in self._users(image_id) if volume_id == chain[0] else ():
            raise DiskInUse(disk=source.name, vm=machine)
        if vol_type is VolumeRole.INTERNAL:
            raise InvalidParams(reason="a copy is a volume of its own: LEAF, or SHARED for a template")
        await self._check_free(target, dst_image_id)
        origin = sound(source).image.volumes[volume_id]
        meta = VolumeMeta(
            domain=target.id,
            image=dst_image_id,
            capacity=origin.capacity,
            created=int(time.time()),
            description=desc,
            disk_type=origin.disk_type,
            format=vol_format or origin.format,
            allocation=preallocate or origin.allocation,
            role=vol_type,
            legality=VolumeLegality.ILLEGAL,
            sequence=origin.sequence,
        )
        copy = self._copies.copy(
            Address(storagedomain_id, image_id, volume_id),
            Address(target.id, dst_image_id, dst_volume_id),
            0,
            False,
            True,
        )
        weight = sum([await self._weight(source, name) for name in chain[chain.index(volume_id) :]])
        await ctx.run(
            Step("make the volume", self.make(dst_volume_id, meta), self._do.discard(dst_volume_id, meta)),
            Step("copy the data", copy, weight=weight),
            about=dst_image_id,
        )


def _own(found: Found) -> list[str]:
    """The volumes of its chain, the base first, without the template of another image."""
    return [name for name in reversed(chain_of(found)) if found.image.volumes[name].image == found.image.id]

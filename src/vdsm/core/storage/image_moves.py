# SPDX-License-Identifier: Apache-2.0
"""Images copied and moved between domains, whole or step by step.

The target is made volume by volume, the base first, and is ILLEGAL until its data are there; only then the source goes.
"""

from __future__ import annotations

import dataclasses

from msgspec.structs import replace

from vdsm.contract import image
from vdsm.contract.errors import InvalidParams
from vdsm.contract.errors_domains import (
    CannotDeleteSharedVolume,
    CouldNotValidateTemplateOnTargetDomain,
    DiskInUse,
    DiskUnusable,
    OverwriteImageError,
)
from vdsm.contract.image import ImageMoveOperation, SyncType
from vdsm.contract.storage_words import (
    StorageDomainImageClass,
    VolumeFormat,
    VolumeLegality,
)
from vdsm.core.handlers import Context, handles
from vdsm.core.steps import Step

from .catalog import Catalog, Found, chain_of
from .copies import Copies
from .disk import Users
from .format.volume_meta import VolumeMeta
from .records import Domain
from .repository import Repository
from .templates import Templates
from .volume_jobs import Address
from .volume_operations import VolumeOperations


class ImageMoves:
    def __init__(
        self,
        repository: Repository,
        catalog: Catalog,
        operations: VolumeOperations,
        templates: Templates,
        copies: Copies,
        users: Users,
    ) -> None:
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
            steps.append(dataclasses.replace(step, weight=await self._do.weight(source, name)))
        await ctx.run(*steps, about=image_id)

    async def _both(
        self, ctx: Context, pool_id: str, source_id: str, target_id: str, image_id: str
    ) -> tuple[Found, Domain]:
        """An image whose own volumes are all finished, and another domain of the same pool.

        Raises SpmStatusError, NoSuchDisk, DiskUnusable.
        """
        await ctx.hold(f"disk:{image_id}")
        await self._repository.writable(source_id, pool_id)
        target = await self._repository.writable(target_id, pool_id)
        target.check_images()
        if source_id == target_id:
            raise InvalidParams(reason="both domains are the same")
        source = await self._catalog.find_in(source_id, image_id)
        if any(source.image.volumes[name].legality is not VolumeLegality.LEGAL for name in _own(source)):
            raise DiskUnusable(disk=source.name, reason=source.image.status()[1])
        return source, target

    async def _structure(self, source: Found, target: Domain) -> list[Step]:
        """Make every volume there. Raises OverwriteImageError, CouldNotValidateTemplateOnTargetDomain."""
        await self._check_free(target, source.image.id)
        steps = []
        base = source.image.volumes[chain_of(source)[-1]]
        if base.image != source.image.id:
            steps += await self._link(source, target, base)
        for name in _own(source):
            meta = replace(source.image.volumes[name], domain=target.id, legality=VolumeLegality.ILLEGAL, generation=0)
            steps.append(Step(f"make volume {name}", self._do.make_whole(name, meta), self._do.discard(name, meta)))
        return steps

    async def _check_free(self, target: Domain, image_id: str) -> None:
        if await self._catalog.image(target, image_id) is not None:
            raise OverwriteImageError(image=image_id, domain=target.name or target.id)

    async def _link(self, source: Found, target: Domain, base: VolumeMeta) -> list[Step]:
        """To the same template, which must be there; in a domain for backups a volume may stand in for it."""
        template, image_id = chain_of(source)[-1], source.image.id
        backup = target.metadata().domain_class is StorageDomainImageClass.BACKUP
        there = await self._catalog.image(target, base.image)
        meta = there.volumes.get(template) if there is not None and there.template() == template else None
        fit = meta is not None and meta.capacity == base.capacity and (backup or meta.legality is VolumeLegality.LEGAL)
        steps = []
        if there is None and backup:
            fake = replace(base, domain=target.id, legality=VolumeLegality.FAKE, generation=0)
            discard = self._do.discard(template, fake)
            steps.append(Step("let a volume stand in for its template", self._do.make_whole(template, fake), discard))
        elif not fit:
            raise CouldNotValidateTemplateOnTargetDomain(domain=target.name, volume=template, image=image_id)
        link = self._templates.link(target.id, base.image, template, image_id)
        return [*steps, Step("link its template", link, self._templates.unlink(target.id, template, image_id))]

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
            steps.append(Step(f"copy the data of {name}", copy, weight=await self._do.weight(source, name)))
        return steps


def _own(found: Found) -> list[str]:
    """The volumes of its chain, the base first, without the template of another image."""
    return [name for name in reversed(chain_of(found)) if found.image.volumes[name].image == found.image.id]

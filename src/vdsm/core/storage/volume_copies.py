# SPDX-License-Identifier: Apache-2.0
"""Volumes copied, with all they go on from, into images of one volume: templates and disks."""

from __future__ import annotations

import time

from msgspec.structs import replace

from vdsm.contract import volume
from vdsm.contract.errors import InvalidParams
from vdsm.contract.errors_domains import DiskInUse, OverwriteImageError, VolumeDoesNotExist
from vdsm.contract.storage_words import BLANK, VolumeAllocation, VolumeFormat, VolumeLegality, VolumeRole
from vdsm.core.handlers import Context, handles
from vdsm.core.locks import shared
from vdsm.core.steps import Step

from .catalog import Catalog, Found, chain_of, sound
from .copies import Copies
from .disk import Users
from .format.volume_meta import VolumeMeta
from .records import Domain
from .repository import Repository
from .volume_jobs import Address
from .volume_operations import VolumeOperations


class VolumeCopies:
    def __init__(
        self, repository: Repository, catalog: Catalog, operations: VolumeOperations, copies: Copies, users: Users
    ) -> None:
        self._repository = repository
        self._catalog = catalog
        self._do = operations
        self._copies = copies
        self._users = users

    @handles(volume.copy)
    async def copy(
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
        if vol_type is VolumeRole.INTERNAL:
            raise InvalidParams(reason="a copy is a volume of its own: LEAF, or SHARED for a template")
        await ctx.hold(shared(f"disk:{image_id}"), f"disk:{dst_image_id}")
        await self._repository.writable(storagedomain_id, storagepool_id)
        into_id = storagedomain_id if dst_sd_id == BLANK else dst_sd_id
        target = await self._repository.writable(into_id, storagepool_id)
        target.check_images()
        source = await self._source(storagedomain_id, image_id, volume_id)
        origin = source.image.volumes[volume_id]
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
        steps = await self._steps(source, volume_id, target, dst_volume_id, meta)
        await ctx.run(*steps, about=dst_image_id)

    async def _source(self, domain_id: str, image_id: str, volume_id: str) -> Found:
        """Raises NoSuchDisk, VolumeDoesNotExist, DiskUnusable, DiskInUse."""
        found = await self._catalog.find_in(domain_id, image_id)
        if volume_id not in (chain := chain_of(found)):
            raise VolumeDoesNotExist(volume=volume_id, image=image_id)
        for machine in self._users(image_id) if volume_id == chain[0] else ():
            raise DiskInUse(disk=found.name, vm=machine)
        return sound(found)

    async def _steps(self, source: Found, volume_id: str, target: Domain, new_id: str, meta: VolumeMeta) -> list[Step]:
        """Raises OverwriteImageError."""
        stand_in = await self._stand_in(target, new_id, meta)
        origin, into = Address(source.domain.id, source.image.id, volume_id), Address(target.id, meta.image, new_id)
        generation = stand_in.generation if stand_in is not None else 0
        chain = chain_of(source)
        weight = await self._do.weight(source, *chain[chain.index(volume_id) :])
        copy = Step("copy the data", self._copies.copy(origin, into, generation, False, True), weight=weight)
        if stand_in is None:
            back = self._do.discard(new_id, meta)
            return [Step("make the volume", self._do.make_whole(new_id, meta), back), copy]
        # Its metadata also lie in the images that go on from it.
        legal = replace(stand_in, legality=VolumeLegality.LEGAL, generation=stand_in.next_generation())
        return [copy, Step("let it stand for itself", self._do.describe(new_id, legal))]

    async def _stand_in(self, target: Domain, volume_id: str, meta: VolumeMeta) -> VolumeMeta | None:
        """The volume that stands in for the template that is copied; None: nothing is there.

        Raises OverwriteImageError.
        """
        there = await self._catalog.image(target, meta.image)
        if there is None:
            return None
        found = there.volumes.get(volume_id) if there.template() == volume_id else None
        wanted = (VolumeLegality.FAKE, meta.capacity, meta.format, meta.role)
        if found is None or (found.legality, found.capacity, found.format, found.role) != wanted:
            raise OverwriteImageError(image=meta.image, domain=target.name or target.id)
        return found

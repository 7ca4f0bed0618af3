# SPDX-License-Identifier: Apache-2.0
"""Volumes and images removed.

Nothing is undone: what may be half removed must not come back. What is no part of its chain any more is ILLEGAL, so
that a removal cut short leaves nothing that looks good and is not, and the same call finishes it.
"""

from __future__ import annotations

import itertools

from msgspec.structs import replace

from vdsm.contract import image, volume
from vdsm.contract.errors_domains import (
    CannotDeleteSharedVolume,
    DiskInUse,
    DiskUnusable,
    NoSuchDisk,
    VolumeDoesNotExist,
    VolumeImageHasChildren,
)
from vdsm.contract.storage_words import VolumeLegality, VolumeRole
from vdsm.core.handlers import Context, handles
from vdsm.core.steps import Step

from .catalog import Catalog, Found
from .disk import Users
from .format.chains import Image
from .format.lines import Malformed
from .reconcile import Reconciler
from .repository import Repository
from .templates import Templates
from .volume_operations import VolumeOperations


class VolumeRemoval:
    def __init__(
        self,
        repository: Repository,
        catalog: Catalog,
        operations: VolumeOperations,
        templates: Templates,
        reconciler: Reconciler,
        users: Users,
    ) -> None:
        self._repository = repository
        self._catalog = catalog
        self._do = operations
        self._templates = templates
        self._reconciler = reconciler
        self._users = users

    @handles(image.delete)
    async def delete_image(
        self,
        ctx: Context,
        image_id: str,
        storagepool_id: str,
        storagedomain_id: str,
        post_zero: bool = False,
        force: bool = False,
        discard: bool = False,
    ) -> None:
        try:
            steps = await self._whole(await self._held(ctx, storagedomain_id, storagepool_id, image_id))
        except NoSuchDisk:
            steps = await self._do.left_over(await self._repository.usable(storagedomain_id), image_id)
            if not steps:
                raise
        await ctx.run(*steps, about=image_id)

    @handles(volume.delete)
    async def delete_volume(
        self,
        ctx: Context,
        volume_id: str,
        storagepool_id: str,
        storagedomain_id: str,
        image_id: str,
        post_zero: bool = False,
        force: bool = False,
        discard: bool = False,
    ) -> None:
        found = await self._held(ctx, storagedomain_id, storagepool_id, image_id)
        await ctx.run(*await self._some(found, {volume_id}, force=force), about=image_id)

    @handles(image.delete_volumes)
    async def delete_volumes(
        self,
        ctx: Context,
        image_id: str,
        storagepool_id: str,
        storagedomain_id: str,
        volume_list: list[str],
        post_zero: bool = False,
        force: bool = False,
        discard: bool = False,
    ) -> None:
        found = await self._held(ctx, storagedomain_id, storagepool_id, image_id)
        await ctx.run(*await self._some(found, set(volume_list), force=force), about=image_id)

    async def _held(self, ctx: Context, domain_id: str, pool_id: str, image_id: str) -> Found:
        await ctx.hold(f"disk:{image_id}")
        await self._repository.writable(domain_id, pool_id)
        return await self._catalog.find_in(domain_id, image_id)

    async def _whole(self, found: Found) -> list[Step]:
        """Raises DiskInUse, CannotDeleteSharedVolume."""
        self._check_idle(found)
        await self._templates.check_unused(found)
        return self._do.removal(found.domain.id, found.image.id, found.name)

    async def _some(self, found: Found, wanted: set[str], *, force: bool) -> list[Step]:
        """With all of its chain, but for another image's template, the image goes, also what merges left in it.

        Raises VolumeDoesNotExist, and what says why not.
        """
        chain = _chain_without(found, wanted, force=force)
        gone = [name for name in chain if name in wanted]
        if gone and set(gone) == set(chain) & set(found.image.own()):
            return await self._whole(found)
        others = sorted(wanted - set(gone))
        await self._check_left_over(found, chain, others)
        steps = []
        if gone:
            self._check_idle(found)
            steps = self._shorten(found.image, gone, chain[len(gone)])
        where = (found.domain.id, found.image.id)
        steps += [
            Step(f"remove volume {name}", self._do.erase_volume(*where, name), final=True) for name in others + gone
        ]
        return steps

    def _shorten(self, image: Image, gone: list[str], leaf: str) -> list[Step]:
        """Let the chain end at `leaf`."""
        now = {name: replace(image.volumes[name], legality=VolumeLegality.ILLEGAL) for name in gone}
        if image.volumes[leaf].role is not VolumeRole.SHARED:
            now[leaf] = replace(image.volumes[leaf], role=VolumeRole.LEAF)
        return [
            Step(
                "write to its parent again" if name == leaf else f"use volume {name} no more",
                self._do.describe(name, meta),
                final=True,
            )
            for name, meta in now.items()
        ]

    def _check_idle(self, found: Found) -> None:
        for machine in self._users(found.image.id):
            raise DiskInUse(disk=found.name, vm=machine)

    async def _check_left_over(self, found: Found, chain: list[str], names: list[str]) -> None:
        """What is in the chain no more may go while a machine uses the image: unless a header still needs it."""
        if not names:
            return
        needed = await self._reconciler.chain(found, chain[0])
        for name in names:
            if name in needed:
                raise DiskUnusable(
                    disk=found.name,
                    reason=f"reads still go through volume {name}: Image.reconcileVolumeChain tells how",
                )
            for machine in self._users(name):
                raise DiskInUse(disk=name, vm=machine)


def _chain_without(found: Found, wanted: set[str], *, force: bool) -> list[str]:
    """The chain, the leaf first, when those wanted can be taken from its end. Raises as `VolumeRemoval._some`.

    With `force` also when the metadata of some that are wanted cannot be read.
    """
    image = found.image
    for name in sorted(wanted):
        if name in image.faults and not force:
            raise DiskUnusable(disk=found.name, reason=f"its volume {name} has bad metadata: {image.faults[name]}")
        if name not in image.volumes and name not in image.faults:
            raise VolumeDoesNotExist(volume=name, image=image.id)
        if name in image.volumes and image.volumes[name].image != image.id:
            raise CannotDeleteSharedVolume(volume=name, image=image.id)
    unread = {name: fault for name, fault in image.faults.items() if name not in wanted}
    try:
        chain = Image(image.id, image.volumes, unread).chain()
    except Malformed as fault:
        raise DiskUnusable(disk=found.name, reason=fault) from None
    for child, name in itertools.pairwise(chain):
        if name in wanted and child not in wanted:
            raise VolumeImageHasChildren(volume=name, child=child, image=image.id)
    return chain

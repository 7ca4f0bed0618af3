# SPDX-License-Identifier: Apache-2.0
"""The verbs on images: what they check and which steps they take."""

from __future__ import annotations

from vdsm.contract import image
from vdsm.contract.errors_domains import DiskUnusable, VolumeDoesNotExist
from vdsm.contract.image import PreparedImageInfo
from vdsm.contract.storage_words import VolumeRole, VolumeStatus
from vdsm.core.handlers import Context, handles
from vdsm.core.steps import Step

from .catalog import Catalog
from .disk import Users
from .reconcile import Reconciler
from .repository import Repository
from .volume_operations import VolumeOperations


class Images:
    """`prepared` is the directory of links to images that are in use (published: /run/vdsm/storage)."""

    def __init__(
        self,
        repository: Repository,
        catalog: Catalog,
        operations: VolumeOperations,
        reconciler: Reconciler,
        runners: Users,
        prepared: str,
    ) -> None:
        self._repository = repository
        self._catalog = catalog
        self._do = operations
        self._reconciler = reconciler
        self._runners = runners
        self._prepared = prepared

    @handles(image.get_volumes)
    async def get_volumes(self, ctx: Context, image_id: str, storagepool_id: str, storagedomain_id: str) -> list[str]:
        found = await self._catalog.find_in(storagedomain_id, image_id)
        return sorted((*found.image.volumes, *found.image.faults))

    @handles(image.prepare)
    async def prepare(
        self,
        ctx: Context,
        storagepool_id: str,
        storagedomain_id: str,
        image_id: str,
        volume_id: str,
        *,
        allow_illegal: bool = False,
    ) -> PreparedImageInfo:
        await ctx.hold(f"disk:{image_id}")
        found = await self._catalog.find_in(storagedomain_id, image_id)
        if volume_id not in found.image.volumes:
            raise VolumeDoesNotExist(volume=volume_id, image=image_id)
        status, reason = found.image.status()
        if status is VolumeStatus.INVALID or (status is VolumeStatus.ILLEGAL and not allow_illegal):
            raise DiskUnusable(disk=image_id, reason=reason)
        link = f"{storagedomain_id}/{image_id}"
        step = Step("link it", self._do.link_image(self._prepared, link, found.directory))
        await ctx.run(step)
        return PreparedImageInfo(path=f"{self._prepared}/{link}/{volume_id}")

    @handles(image.teardown)
    async def teardown(
        self,
        ctx: Context,
        storagepool_id: str,
        storagedomain_id: str,
        image_id: str,
        volume_id: str | None = None,
    ) -> None:
        await ctx.hold(f"disk:{image_id}")
        link = f"{storagedomain_id}/{image_id}"
        if self._runners(image_id):  # their QEMU may go by it; it goes when they do
            await ctx.run()
            return
        await ctx.run(Step("remove the link to it", self._do.unlink_image(self._prepared, link)))

    @handles(image.reconcile_volume_chain)
    async def reconcile_volume_chain(
        self, ctx: Context, storagepool_id: str, storagedomain_id: str, image_id: str, leaf_volume_id: str
    ) -> list[str]:
        await ctx.hold(f"disk:{image_id}")
        await self._repository.writable(storagedomain_id, storagepool_id)
        found = await self._catalog.find_in(storagedomain_id, image_id)
        if (leaf := found.image.volumes.get(leaf_volume_id)) is None:
            raise VolumeDoesNotExist(volume=leaf_volume_id, image=image_id)
        if leaf.role is VolumeRole.INTERNAL:  # a mistake here would take what is above it out of the chain
            raise DiskUnusable(disk=found.name, reason=f"others go on from its volume {leaf_volume_id}: it is no leaf")
        return await ctx.run(
            Step("let its metadata tell the chain", self._reconciler.mend(storagedomain_id, image_id, leaf_volume_id)),
            answer=self._reconciler.true_chain(storagedomain_id, image_id, leaf_volume_id),
        )

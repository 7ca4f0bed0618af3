# SPDX-License-Identifier: Apache-2.0
"""Volumes made: the first of an image, one that goes on from its last, or one that goes on from a template."""

from __future__ import annotations

import time

from msgspec.structs import replace

from vdsm.contract import volume
from vdsm.contract.errors_domains import CannotCloneVolume, DiskInUse, VolumeAlreadyExists
from vdsm.contract.storage_words import (
    BLANK,
    DiskContentType,
    VolumeAllocation,
    VolumeFormat,
    VolumeLegality,
    VolumeRole,
)
from vdsm.contract.volume import VolumeInfo
from vdsm.core.handlers import Context, handles
from vdsm.core.locks import shared
from vdsm.core.steps import Op, Step

from .catalog import Catalog, Found, chain_of
from .disk import BLOCK, Users
from .format.volume_meta import VolumeMeta
from .records import Domain
from .repository import Repository
from .templates import Templates
from .volume import Volumes
from .volume_operations import VolumeOperations


class VolumeCreation:
    """`strangers` are machines that are not this host's: its own go on in a new volume, by VM.snapshot or a start."""

    def __init__(
        self,
        repository: Repository,
        catalog: Catalog,
        operations: VolumeOperations,
        templates: Templates,
        volumes: Volumes,
        strangers: Users,
    ) -> None:
        self._repository = repository
        self._catalog = catalog
        self._do = operations
        self._templates = templates
        self._volumes = volumes
        self._strangers = strangers

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
        template_id = src_image_id if src_image_id not in (BLANK, image_id) else ""
        await ctx.hold(f"disk:{image_id}", *([shared(f"disk:{template_id}")] if template_id else []))
        domain = await self._repository.writable(storagedomain_id, storagepool_id)
        domain.check_images()
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
        if template_id:
            await self._check_template(domain, volume_id, meta, template_id)
            parent = None
        else:
            parent = await self._parent(domain, volume_id, meta)
        if (bitmap or add_bitmaps) and vol_format is not VolumeFormat.COW:
            raise CannotCloneVolume(volume=volume_id, parent=src_volume_id, reason="a raw volume has no bitmaps")
        answer: Op[VolumeInfo] = self._volumes.info(storagedomain_id, image_id, volume_id)
        steps = [Step("keep a place for it", self._do.reserve(volume_id, meta), self._do.discard(volume_id, meta))]
        if template_id:
            link = self._templates.link(storagedomain_id, template_id, src_volume_id, image_id)
            unlink = self._templates.unlink(storagedomain_id, src_volume_id, image_id)
            steps.append(Step("link its template", link, unlink))
        steps.append(Step("make it", self._do.make(volume_id, meta)))
        if bitmap or add_bitmaps:
            bitmaps = self._do.add_bitmaps(volume_id, meta, add_bitmaps, [bitmap] if bitmap else [])
            steps.append(Step("let it record changes", bitmaps))
        if parent is not None:
            inner = replace(parent, role=VolumeRole.INTERNAL)
            again = self._do.describe(src_volume_id, parent)
            steps.append(Step("write no more to its parent", self._do.describe(src_volume_id, inner), again))
        steps.append(Step("finish it", self._do.commit(volume_id, meta), self._do.discard(volume_id, meta)))
        return await ctx.run(*steps, answer=answer, about=image_id)

    async def _check_template(self, domain: Domain, volume_id: str, meta: VolumeMeta, template_id: str) -> None:
        """Raises CannotCloneVolume, VolumeAlreadyExists."""
        if await self._catalog.image(domain, meta.image) is not None:
            reason = f"image {meta.image} is there: only the first volume of an image goes on from another image's"
            raise CannotCloneVolume(volume=volume_id, parent=meta.parent, reason=reason)
        if volume_id == meta.parent:
            raise VolumeAlreadyExists(volume=volume_id, image=template_id)
        _check_fits(volume_id, meta, await self._templates.find(domain, template_id, meta.parent, volume_id))

    async def _parent(self, domain: Domain, volume_id: str, meta: VolumeMeta) -> VolumeMeta | None:
        """What the new volume goes on from. Raises VolumeAlreadyExists, CannotCloneVolume, DiskUnusable, DiskInUse."""
        image = await self._catalog.image(domain, meta.image)
        if image is None and meta.parent == BLANK:
            return None

        def refuse(reason: str) -> CannotCloneVolume:
            return CannotCloneVolume(volume=volume_id, parent=meta.parent, reason=reason)

        if image is None:
            raise refuse("the parent must be the last volume of the same image, or another image's template")
        if volume_id in image.volumes or volume_id in image.faults:
            raise VolumeAlreadyExists(volume=volume_id, image=meta.image)
        top = chain_of(Found(domain, image))[0]
        parent = image.volumes[top]
        if meta.parent != top:
            raise refuse(f"the image goes on from its volume {top}")
        if parent.role is VolumeRole.SHARED:
            raise refuse("it is a template: what goes on from it is another image")
        if parent.legality is not VolumeLegality.LEGAL:
            raise refuse("the parent was not finished")
        _check_fits(volume_id, meta, parent)
        for machine in self._strangers(meta.image):  # it would write on into the parent
            raise DiskInUse(disk=meta.image, vm=machine)
        return parent


def _check_fits(volume_id: str, meta: VolumeMeta, parent: VolumeMeta) -> None:
    """Raises CannotCloneVolume."""
    if meta.format is not VolumeFormat.COW:
        raise CannotCloneVolume(volume=volume_id, parent=meta.parent, reason="only a COW volume has a parent")
    if meta.capacity < parent.capacity:
        reason = f"it would be smaller than the parent's {parent.capacity} bytes"
        raise CannotCloneVolume(volume=volume_id, parent=meta.parent, reason=reason)

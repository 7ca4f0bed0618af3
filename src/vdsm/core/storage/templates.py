# SPDX-License-Identifier: Apache-2.0
"""Templates: images whose one volume is SHARED. An image that goes on from one has hard links to its files."""

from __future__ import annotations

import contextlib

from vdsm.contract.errors_domains import CannotCloneVolume, CannotDeleteSharedVolume
from vdsm.contract.errors_storage import FileExists, FileMissing
from vdsm.contract.storage_words import VolumeLegality, VolumeRole
from vdsm.core.ports.files import Files
from vdsm.core.steps import operation

from .catalog import Catalog, Found
from .format import layout
from .format.volume_meta import VolumeMeta
from .records import Domain
from .repository import Repository

_FILES = (layout.lease, layout.volume, layout.meta)  # the metadata last: what has none looks like no volume


class Templates:
    def __init__(self, files: Files, repository: Repository, catalog: Catalog) -> None:
        self._files = files
        self._repository = repository
        self._catalog = catalog

    async def find(self, domain: Domain, image_id: str, volume_id: str, child: str) -> VolumeMeta:
        """A template to go on from. Raises CannotCloneVolume."""
        image = await self._catalog.image(domain, image_id)
        meta = None if image is None or image.template() != volume_id else image.volumes[volume_id]
        if meta is None or meta.role is not VolumeRole.SHARED:
            raise CannotCloneVolume(volume=child, parent=volume_id, reason=f"image {image_id} has no such template")
        if meta.legality is not VolumeLegality.LEGAL:
            raise CannotCloneVolume(volume=child, parent=volume_id, reason=f"the template is {meta.legality}")
        return meta

    async def derived(self, found: Found) -> list[str]:
        """The other images that go on from this one's volume. Reads the whole domain if it is a template."""
        if not (template := found.image.template()):
            return []
        images = await self._catalog.images(found.domain)
        return sorted(
            image.id
            for image in images.values()
            if image.id != found.image.id and template in (*image.volumes, *image.faults)
        )

    async def check_unused(self, found: Found) -> None:
        """Raises CannotDeleteSharedVolume."""
        for image_id in await self.derived(found):
            raise CannotDeleteSharedVolume(volume=found.image.template(), image=image_id)

    @operation("template.link")
    async def link(self, domain_id: str, template_image_id: str, volume_id: str, image_id: str) -> None:
        """Let the template's volume be in another image too."""
        domain = await self._repository.writable(domain_id)
        await self._files.make_directory(domain.root, domain.path(layout.image(image_id)))
        for inside in _FILES:
            old, new = domain.path(inside(template_image_id, volume_id)), domain.path(inside(image_id, volume_id))
            with contextlib.suppress(FileExists):
                await self._files.link(domain.root, old, new)

    @operation("template.unlink")
    async def unlink(self, domain_id: str, volume_id: str, image_id: str) -> None:
        """Nothing in that image goes on from it any more."""
        domain = await self._repository.writable(domain_id)
        image = await self._catalog.image(domain, image_id)
        if image is not None and any(meta.parent == volume_id for meta in image.volumes.values()):
            return
        directory = domain.path(layout.image(image_id))
        with contextlib.suppress(FileMissing):
            for inside in reversed(_FILES):
                await self._files.remove(domain.root, domain.path(inside(image_id, volume_id)))
            if not await self._files.names(domain.root, directory):
                await self._files.remove(domain.root, directory)

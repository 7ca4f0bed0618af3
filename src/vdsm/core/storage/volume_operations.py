# SPDX-License-Identifier: Apache-2.0
"""What changes volumes and images: each operation done twice equals done once, and undoing what was never done is no
error.

A volume comes to be in three steps, so that a crash between any two leaves nothing that looks like a volume and is
none: its metadata under another name, its data, and then its metadata under the name that counts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from vdsm.contract.errors_domains import DiskInUse, VolumeImageHasChildren
from vdsm.contract.errors_storage import FileMissing
from vdsm.contract.events import DiskCreated, DiskRemoved
from vdsm.contract.storage_words import BLANK, VolumeAllocation, VolumeRole
from vdsm.core import flow
from vdsm.core.journal import Journal
from vdsm.core.ports.disks import DiskImages
from vdsm.core.ports.disks import Image as ImageFile
from vdsm.core.ports.files import Files
from vdsm.core.steps import Step, operation

from .catalog import Catalog, Found
from .format import chains, layout, volume_meta
from .format.volume_meta import VolumeMeta
from .formats import DISK_FORMATS
from .records import Domain
from .repository import Repository
from .volume_leases import VolumeLeases

_UNIT = 64 << 20  # bytes of data that count as much as any other step


class VolumeOperations:
    """The operations; the services decide, these do."""

    def __init__(
        self,
        files: Files,
        images: DiskImages,
        repository: Repository,
        catalog: Catalog,
        leases: VolumeLeases,
        journal: Journal,
        users: Callable[[str], list[str]],
    ) -> None:
        self._files = files
        self._catalog = catalog
        self._images = images
        self._repository = repository
        self._leases = leases
        self._journal = journal
        self._users = users

    # ---- volumes ---------------------------------------------------------------------------------------------------

    @operation("volume.reserve")
    async def reserve(self, volume_id: str, meta: VolumeMeta) -> None:
        """A place and a description for it, which nobody takes for a volume yet."""
        domain = await self._repository.writable(meta.domain)
        if await self._has_meta(domain, meta.image, volume_id):
            return
        await self._files.make_directory(domain.root, domain.path(layout.image(meta.image)))
        await self._files.replace(
            domain.root, domain.path(layout.volatile(meta.image, volume_id)), volume_meta.encode(meta)
        )

    @operation("volume.make")
    async def make(self, volume_id: str, meta: VolumeMeta) -> None:
        """Its data and its lease."""
        domain = await self._repository.writable(meta.domain)
        if await self._has_meta(domain, meta.image, volume_id):
            return
        inside = layout.volume(meta.image, volume_id)
        await self._files.remove(domain.root, domain.path(inside))  # half of one, of before a crash
        file = await self._file(domain, volume_id, meta)
        await self._images.create(
            file,
            meta.capacity,
            preallocate=meta.allocation is VolumeAllocation.PREALLOCATED,
            backing_name=meta.parent if file.backing else "",
        )
        await self._leases.make(domain, meta.image, volume_id)

    @operation("volume.make_room")
    async def make_room(self, volume_id: str, meta: VolumeMeta, length: int) -> None:
        """A file for data from outside, and its lease."""
        domain = await self._repository.writable(meta.domain)
        if await self._has_meta(domain, meta.image, volume_id):
            return
        inside = domain.path(layout.volume(meta.image, volume_id))
        await self._files.remove(domain.root, inside)
        await self._files.create(domain.root, inside, size=length)
        await self._leases.make(domain, meta.image, volume_id)

    async def _file(self, domain: Domain, volume_id: str, meta: VolumeMeta) -> ImageFile:
        """Of a volume that is being made; its parent is there."""
        backing: ImageFile | None = None
        if meta.parent != BLANK and (image := await self._catalog.image(domain, meta.image)) is not None:
            backing = Found(domain, image).file(meta.parent)
        path = f"{domain.directory}/{layout.volume(meta.image, volume_id)}"
        return ImageFile(path=path, format=DISK_FORMATS[meta.format], backing=backing, lane=domain.id)

    @operation("volume.add_bitmaps")
    async def add_bitmaps(self, volume_id: str, meta: VolumeMeta, as_parent: bool, names: list[str]) -> None:
        """Those named, and with `as_parent` those its parent has."""
        domain = await self._repository.writable(meta.domain)
        file = await self._file(domain, volume_id, meta)
        there = {bitmap.name for bitmap in (await self._images.info(file)).bitmaps}
        wanted = dict.fromkeys(names, 0)
        if as_parent and file.backing is not None:
            wanted |= {b.name: b.granularity for b in (await self._images.info(file.backing)).bitmaps}
        for name, granularity in wanted.items():
            if name not in there:
                await self._images.add_bitmap(file, name, granularity=granularity)

    @operation("volume.commit")
    async def commit(self, volume_id: str, meta: VolumeMeta) -> None:
        """From here on it is a volume."""
        domain = await self._repository.writable(meta.domain)
        if not await self._has_meta(domain, meta.image, volume_id):
            old, new = layout.volatile(meta.image, volume_id), layout.meta(meta.image, volume_id)
            await self._files.rename(domain.root, domain.path(old), domain.path(new))
            if await self._own(domain, meta.image) == [volume_id]:
                self._tell(DiskCreated, domain, meta.image, chains.alias(meta) or meta.image)

    @operation("volume.make_whole")
    async def make_whole(self, volume_id: str, meta: VolumeMeta) -> None:
        """All three at once."""
        for part in (self.reserve, self.make, self.commit):
            await part(volume_id, meta).run()

    async def weight(self, found: Found, *volumes: str) -> float:
        """How much a step that copies their data counts beside other steps."""
        weight = 1.0
        for volume_id in volumes:
            inside = found.domain.path(layout.volume(found.image.id, volume_id))
            weight += (await self._files.status(found.domain.root, inside)).allocated / _UNIT
        return weight

    @operation("volume.describe")
    async def describe(self, volume_id: str, meta: VolumeMeta) -> None:
        """Its metadata is this from now on."""
        await self.write(await self._repository.writable(meta.domain), volume_id, meta)

    async def write(self, domain: Domain, volume_id: str, meta: VolumeMeta) -> None:
        """A volume's metadata is this from now on; one that is gone stays gone.

        A template's lie in each image that goes on from it. Replacing them parts the links, so they are written there.
        """
        for image_id in await self._homes(domain, volume_id, meta):
            if await self._has_meta(domain, image_id, volume_id):
                path = domain.path(layout.meta(image_id, volume_id))
                await self._files.replace(domain.root, path, volume_meta.encode(meta))

    async def _homes(self, domain: Domain, volume_id: str, meta: VolumeMeta) -> list[str]:
        if meta.role is not VolumeRole.SHARED:
            return [meta.image]
        images = await self._catalog.images(domain)
        linked = [name for name, image in images.items() if volume_id in (*image.volumes, *image.faults)]
        return [meta.image, *(name for name in linked if name != meta.image)]

    @operation("volume.discard")
    async def discard(self, volume_id: str, meta: VolumeMeta) -> None:
        """Of a volume that was being made, everything. Raises VolumeImageHasChildren, DiskInUse: it is used by now."""
        domain = await self._repository.writable(meta.domain)
        if await self._has_meta(domain, meta.image, volume_id):  # it was finished: this undoes it, perhaps much later
            for child in await self.children(domain, volume_id, meta):
                raise VolumeImageHasChildren(volume=volume_id, child=child, image=meta.image)
            for machine in self._users(volume_id):
                raise DiskInUse(disk=meta.image, vm=machine)
        was_there = await self._erase(domain, meta.image, volume_id)
        if was_there and not await self._own(domain, meta.image):
            self._tell(DiskRemoved, domain, meta.image, chains.alias(meta) or meta.image)
        directory = domain.path(layout.image(meta.image))
        with contextlib.suppress(FileMissing):
            if not await self._files.names(domain.root, directory):
                await self._files.remove(domain.root, directory)

    async def children(self, domain: Domain, volume_id: str, meta: VolumeMeta) -> list[str]:
        """The volumes that go on from one; a template's are in other images."""
        image = await self._catalog.image(domain, meta.image)
        images = [image] if image is not None else []
        if meta.role is VolumeRole.SHARED:
            images += (await self._catalog.images(domain)).values()
        volumes = {name: other for image in images for name, other in image.volumes.items()}
        return sorted(name for name, other in volumes.items() if other.parent == volume_id)

    async def _own(self, domain: Domain, image_id: str) -> list[str]:
        image = await self._catalog.image(domain, image_id)
        return image.own() if image is not None else []

    @operation("volume.erase")
    async def erase_volume(self, domain_id: str, image_id: str, volume_id: str) -> None:
        await self._erase(await self._repository.writable(domain_id), image_id, volume_id)

    async def _erase(self, domain: Domain, image_id: str, volume_id: str) -> bool:
        """The metadata first, so that no half of a volume looks whole. Whether there was any."""
        found = False
        with contextlib.suppress(FileMissing):  # its directory may be gone
            found = await self._files.remove(domain.root, domain.path(layout.meta(image_id, volume_id)))
            for inside in (layout.volume, layout.lease, layout.volatile):
                await self._files.remove(domain.root, domain.path(inside(image_id, volume_id)))
        return found

    async def _has_meta(self, domain: Domain, image_id: str, volume_id: str) -> bool:
        return await self._there(domain, layout.meta(image_id, volume_id))

    async def _there(self, domain: Domain, inside: str) -> bool:
        try:
            await self._files.status(domain.root, domain.path(inside))
        except FileMissing:
            return False
        return True

    def _tell(self, kind: type[DiskCreated] | type[DiskRemoved], domain: Domain, disk_id: str, name: str) -> None:
        event = kind(disk_id=disk_id, disk_name=name, storage_id=domain.id)
        self._journal.publish(event, flow_id=flow.current.get())

    # ---- images ----------------------------------------------------------------------------------------------------

    def removal(self, domain_id: str, image_id: str, name: str) -> list[Step]:
        """Nothing is undone: what may be half removed must not come back under its name."""
        return [
            Step(f"take {name} out of the storage", self.retire(domain_id, image_id, name), final=True),
            Step(f"remove the data of {name}", self.erase(domain_id, image_id)),
        ]

    async def left_over(self, domain: Domain, image_id: str) -> list[Step]:
        """Of an image whose removal failed half way, which is no image any more: what finishes it."""
        if await self._there(domain, layout.removed_image(image_id)):
            return [Step("remove what is left of it", self.erase(domain.id, image_id))]
        return []

    @operation("image.link")
    async def link_image(self, directory: str, link: str, target: str) -> None:
        await self._files.make_directory("/", f"{directory}/{link.rpartition('/')[0]}".lstrip("/"))
        await self._files.make_symlink(directory, link, target)

    @operation("image.unlink")
    async def unlink_image(self, directory: str, link: str) -> None:
        with contextlib.suppress(FileMissing):
            await self._files.remove(directory, link)

    @operation("image.retire")
    async def retire(self, domain_id: str, image_id: str, name: str) -> None:
        """From here on it is no image, only something to be removed."""
        domain = await self._repository.writable(domain_id)
        if await self._there(domain, layout.image(image_id)):
            old, new = layout.image(image_id), layout.removed_image(image_id)
            if await self._there(domain, new):  # of an earlier image with this id
                await self._files.remove(domain.root, domain.path(new))
            await self._files.rename(domain.root, domain.path(old), domain.path(new))
            self._tell(DiskRemoved, domain, image_id, name)

    @operation("image.erase")
    async def erase(self, domain_id: str, image_id: str) -> None:
        domain = await self._repository.writable(domain_id)
        await self._files.remove(domain.root, domain.path(layout.removed_image(image_id)))

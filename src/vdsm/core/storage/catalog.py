# SPDX-License-Identifier: Apache-2.0
"""What disks there are, read from the domains each time: other hosts write there too."""

from __future__ import annotations

import asyncio
import logging
from typing import NamedTuple

from vdsm.contract.errors import Problem
from vdsm.contract.errors_domains import DiskUnusable, NoSuchDisk
from vdsm.contract.errors_storage import FileMissing
from vdsm.contract.storage_words import BLANK, VolumeStatus
from vdsm.contract.vm_params import DiskFormat
from vdsm.core.ports.disks import Image as ImageFile
from vdsm.core.ports.files import Files

from .format import chains, layout
from .format.chains import Image
from .format.lines import Malformed, is_uuid
from .formats import DISK_FORMATS
from .records import Domain
from .repository import Repository

log = logging.getLogger(__name__)

_MANY = 200  # volumes; each takes some 40 microseconds to read


class Found(NamedTuple):
    """An image, and where it lies."""

    domain: Domain
    image: Image

    @property
    def name(self) -> str:
        return chains.name_of(self.image)

    @property
    def directory(self) -> str:
        return f"{self.domain.directory}/{layout.image(self.image.id)}"

    def volume_path(self, volume_id: str) -> str:
        return f"{self.domain.directory}/{layout.volume(self.image.id, volume_id)}"

    def file(self, volume_id: str) -> ImageFile:
        """A volume of a sound chain, with those it goes on from."""
        meta = self.image.volumes[volume_id]
        return ImageFile(
            path=self.volume_path(volume_id),
            format=DISK_FORMATS[meta.format],
            backing=None if meta.parent == BLANK else self.file(meta.parent),
            lane=self.domain.id,
        )


class Usable(NamedTuple):
    """What a machine needs of a disk."""

    disk_id: str
    volume_id: str
    path: str
    format: DiskFormat
    template: bool  # others go on from it: it must not be written to


class Catalog:
    def __init__(self, files: Files, repository: Repository) -> None:
        self._files = files
        self._repository = repository

    def places(self) -> list[str]:
        """The directories of all images, below which machines may have files."""
        return [f"{domain.directory}/{layout.IMAGES}" for domain in self._repository]

    def disk_at(self, path: str) -> str | None:
        """The id of the disk that a true path belongs to, if it is one of the storage's."""
        for place in self.places():
            if path.startswith(f"{place}/"):
                return path.removeprefix(f"{place}/").partition("/")[0]
        return None

    async def images(self, domain: Domain) -> dict[str, Image]:
        """Every image of a usable domain, without those that are only just being made or removed."""
        found = await self._metadata(domain)
        if len(found) > _MANY:  # in a thread, so that other calls go on meanwhile
            images = await asyncio.to_thread(chains.images_of, domain.id, found)
        else:
            images = chains.images_of(domain.id, found)
        return {name: image for name, image in images.items() if image.own()}

    async def volumes(self, domain: Domain) -> list[str]:
        """The ids of every volume of a usable domain, also of those whose metadata cannot be used."""
        found = await self._metadata(domain)
        return sorted({volume for _, volume in chains.ids_of(found)})

    async def _metadata(self, domain: Domain) -> dict[str, bytes]:
        """Of all volumes, by file. It may take long, and ends when the domain is found to be away: StorageUnusable."""
        reading = asyncio.ensure_future(self._files.read_all(domain.root, domain.path(layout.IMAGES), layout.META))
        lost = asyncio.ensure_future(self._repository.until_lost(domain.id))
        try:
            await asyncio.wait([reading, lost], return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                self._repository.find(domain.id).metadata()
            return await reading
        finally:
            reading.cancel()
            lost.cancel()

    async def image(self, domain: Domain, image_id: str) -> Image | None:
        directory = domain.path(layout.image(image_id))
        try:
            names = layout.volumes_among(list(await self._files.names(domain.root, directory)))
        except FileMissing:
            return None
        read = {
            f"{directory}/{name}{layout.META}": await self._files.read(domain.root, f"{directory}/{name}{layout.META}")
            for name in names
        }
        return chains.images_of(domain.id, read).get(image_id)

    async def find_in(self, domain_id: str, image_id: str) -> Found:
        """Raises StorageDomainDoesNotExist, StorageUnusable, NoSuchDisk."""
        domain = await self._repository.usable(domain_id)
        image = await self.image(domain, image_id)
        if image is None:
            raise NoSuchDisk(disk=image_id)
        return Found(domain, image)

    async def all(self) -> list[Found]:
        """Of every domain that can be read now."""
        per_domain = await asyncio.gather(*(self._of(domain) for domain in self._repository))
        return [found for part in per_domain for found in part]

    async def _of(self, domain: Domain) -> list[Found]:
        try:
            usable = await self._repository.usable(domain.id)
            return [Found(usable, image) for image in (await self.images(usable)).values()]
        except Problem as problem:
            log.warning("the disks in storage %s are not listed: %s", domain.name, problem)
            return []

    async def find(self, disk_id: str) -> Found:
        """Raises NoSuchDisk, or, when a domain that might hold it cannot be read, why not."""
        trouble: Problem | None = None
        for domain in self._repository:
            try:
                usable = await self._repository.usable(domain.id)
                image = await self.image(usable, disk_id)
            except Problem as problem:
                trouble = problem
                continue
            if image is not None:
                return Found(usable, image)
        raise trouble or NoSuchDisk(disk=disk_id)

    async def named(self, ref: str) -> Found:
        """By id or by name. Raises NoSuchDisk, DiskUnusable for a name that means several."""
        if is_uuid(ref):
            return await self.find(ref)
        found = [one for one in await self.all() if one.name == ref]
        if not found:
            raise NoSuchDisk(disk=ref)
        if len(found) > 1:
            raise DiskUnusable(disk=ref, reason=f"{len(found)} disks have that name; use the id")
        return found[0]

    async def for_machine(self, ref: str) -> Usable:
        """Raises NoSuchDisk, DiskUnusable."""
        found = sound(await self.named(ref))
        top = chain_of(found)[0]
        return Usable(
            disk_id=found.image.id,
            volume_id=top,
            path=found.volume_path(top),
            format=DISK_FORMATS[found.image.volumes[top].format],
            template=bool(found.image.template()),
        )


def chain_of(found: Found) -> list[str]:
    """Raises DiskUnusable."""
    try:
        return found.image.chain()
    except Malformed as fault:
        raise DiskUnusable(disk=found.name, reason=fault) from None


def sound(found: Found) -> Found:
    """Raises DiskUnusable for an image whose chain is not whole and finished."""
    status, reason = found.image.status()
    if status is not VolumeStatus.OK:
        raise DiskUnusable(disk=found.name, reason=reason)
    return found

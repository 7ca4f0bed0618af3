# SPDX-License-Identifier: Apache-2.0
"""The true chain of an image, as its volumes' own headers tell it, and metadata that says the same.

A merge changes headers and metadata one after the other, and QEMU changes headers alone: where the two differ, the
headers are what a machine reads by.
"""

from __future__ import annotations

from msgspec.structs import replace

from vdsm.contract.errors_domains import DiskUnusable, VolumeDoesNotExist
from vdsm.contract.storage_words import BLANK, VolumeLegality, VolumeRole
from vdsm.core.ports.disks import DiskImages, Reference
from vdsm.core.ports.disks import Image as ImageFile
from vdsm.core.steps import operation

from .catalog import Catalog, Found
from .format.chains import Image
from .format.volume_meta import VolumeMeta
from .formats import DISK_FORMATS
from .records import Domain
from .repository import Repository
from .volume_operations import VolumeOperations


class Reconciler:
    """`prepared` is the directory of links to images that are in use."""

    def __init__(
        self, images: DiskImages, repository: Repository, catalog: Catalog, operations: VolumeOperations, prepared: str
    ) -> None:
        self._images = images
        self._repository = repository
        self._catalog = catalog
        self._do = operations
        self._prepared = prepared

    @operation("image.reconcile")
    async def mend(self, domain_id: str, image_id: str, leaf: str) -> None:
        await self.reconcile(await self._repository.writable(domain_id), image_id, leaf)

    @operation("image.true_chain")
    async def true_chain(self, domain_id: str, image_id: str, leaf: str) -> list[str]:
        """From the base on."""
        found = await self._catalog.find_in(domain_id, image_id)
        return (await self.chain(found, _start(found.image, leaf)))[::-1]

    async def reconcile(self, domain: Domain, image_id: str, leaf: str) -> list[str]:
        """Let the metadata say what the headers say: parents, roles, and what is in the chain no more is ILLEGAL.

        `leaf` is the volume that is written to, to anybody's best knowledge: a machine's own, if one has it. Answers
        the chain, the leaf first. May be called while a machine writes. Nothing is written if anything is wrong.
        Raises NoSuchDisk, VolumeDoesNotExist, DiskUnusable, ImageVerificationError, FileMissing.
        """
        found = await self._catalog.find_in(domain.id, image_id)
        chain = await self.chain(found, _start(found.image, leaf))
        for volume_id, meta in mended(found.image, chain).items():
            await self._do.write(domain, volume_id, meta)
        return chain

    async def chain(self, found: Found, leaf: str) -> list[str]:
        """The volumes that reads go through, by the headers alone, the leaf first. Raises as `reconcile`."""
        chain: list[str] = []
        at = leaf
        while at not in chain:
            meta = found.image.volumes.get(at)
            if meta is None:
                raise VolumeDoesNotExist(volume=at, image=found.image.id)
            chain.append(at)
            file = ImageFile(path=found.volume_path(at), format=DISK_FORMATS[meta.format], lane=found.domain.id)
            reference = await self._images.reference(file)
            if reference is None:
                return chain
            at = self._named(found, at, reference)
        raise DiskUnusable(disk=found.name, reason="its volumes go round in a circle")

    def _named(self, found: Found, volume_id: str, reference: Reference) -> str:
        """The volume of the same image that a header means. Raises DiskUnusable."""
        directory, _, name = reference.path.rpartition("/")
        ways = [f"{way}/{found.image.id}" for way in self._repository.ways_to(found.domain)]
        meta = found.image.volumes.get(name)
        if meta is None or directory not in (*ways, f"{self._prepared}/{found.domain.id}/{found.image.id}"):
            raise DiskUnusable(
                disk=found.name, reason=f"volume {volume_id} goes on from {reference.path}, no part of it"
            )
        if DISK_FORMATS[meta.format] is not reference.format:
            raise DiskUnusable(disk=found.name, reason=f"volume {volume_id} takes {name} for {reference.format}")
        return name


def _start(image: Image, leaf: str) -> str:
    """Of a leaf that a merge has marked as merged, what it was merged into: no machine writes to the leaf again."""
    seen = {leaf}
    at = leaf
    while (meta := image.volumes.get(at)) is not None and meta.legality is VolumeLegality.ILLEGAL:
        at = meta.parent
        if at in seen:
            break
        seen.add(at)
    return at if at in image.volumes and image.volumes[at].role is VolumeRole.LEAF else leaf


def mended(image: Image, chain: list[str]) -> dict[str, VolumeMeta]:
    """The metadata that must change for the image to have that chain, in the order in which to write it.

    What is in the chain no more comes first: an image between the two is ILLEGAL, never one that looks good and is not.
    """
    outside = {
        name: replace(meta, legality=VolumeLegality.ILLEGAL)
        for name, meta in image.volumes.items()
        if name not in chain and meta.role is not VolumeRole.SHARED
    }
    inside = {
        name: replace(image.volumes[name], parent=parent, role=_role(image.volumes[name], name == chain[0]))
        for name, parent in zip(chain, [*chain[1:], BLANK], strict=True)
    }
    return {name: meta for name, meta in (outside | inside).items() if meta != image.volumes[name]}


def _role(meta: VolumeMeta, first: bool) -> VolumeRole:
    if meta.role is VolumeRole.SHARED:
        return meta.role
    return VolumeRole.LEAF if first else VolumeRole.INTERNAL

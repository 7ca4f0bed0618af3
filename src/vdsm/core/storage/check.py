# SPDX-License-Identifier: Apache-2.0
"""Reads a whole domain and names what is not as it should be. It changes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from vdsm.contract import storage
from vdsm.contract.errors import Problem
from vdsm.contract.errors_storage import FileMissing
from vdsm.contract.events import Severity
from vdsm.contract.storage import Finding
from vdsm.contract.storage_words import StorageDomainImageClass, VolumeFormat, VolumeLegality
from vdsm.core.handlers import Context, handles
from vdsm.core.ports.disks import DiskImages
from vdsm.core.ports.files import FileKind, Files

from .catalog import Catalog, Found
from .domain_leases import DomainLeases
from .format import layout
from .format.chains import Image
from .format.lines import Malformed, is_uuid
from .records import Domain
from .repository import Repository

_PARTS = (layout.LOCKSPACE, layout.LEASES, layout.EXTERNAL_LEASES, layout.INBOX, layout.OUTBOX)
_MEND_LEASES = (
    "Of xleases: Lease.rebuild_leases. Of another: while no host uses the domain empty that file, and connect to the"
    " pool again; what is missing is written then."
)
_LATER = (
    "Hosts that use leases cannot use this domain yet. With Debian's sanlock installed they are written when it first"
    " joins a pool with leases."
)
_WHOSE = "Nothing uses it; find out who put it there."
_FROM_BACKUP = "Restore it from a backup; do not write to it before."
_UNFINISHED = "If no task works on it, remove it: what made it did not finish, and undid itself as far as it could."


def _wrong(where: str, what: str, remedy: str) -> Finding:
    return Finding(severity=Severity.ERROR, where=where, what=what, remedy=remedy)


def _stray(where: str, what: str, remedy: str) -> Finding:
    return Finding(severity=Severity.WARNING, where=where, what=what, remedy=remedy)


class Checks:
    def __init__(
        self, files: Files, images: DiskImages, repository: Repository, catalog: Catalog, leases: DomainLeases
    ) -> None:
        self._files = files
        self._images = images
        self._repository = repository
        self._catalog = catalog
        self._leases = leases

    @handles(storage.check)
    async def check(self, ctx: Context, storage_id: str) -> list[Finding]:
        domain = await self._repository.refresh(storage_id)
        if domain.meta is None:
            return [_wrong(layout.METADATA, domain.fault, _FROM_BACKUP)]
        return [finding async for finding in self._findings(domain)]

    async def _findings(self, domain: Domain) -> AsyncIterator[Finding]:
        for name in _PARTS:
            if await self._size(domain, name) is None:
                yield _wrong(name, "it is missing", "Hosts that use leases cannot use this domain without it.")
        async for finding in self._of_leases(domain):
            yield finding
        images = await self._catalog.images(domain)
        for name in await self._files.names(domain.root, domain.path(layout.IMAGES)):
            where = f"{layout.IMAGES}/{name}"
            if name.startswith(layout.REMOVED):
                yield _stray(where, "an image that is being removed", "If no task removes it, delete that image again.")
            elif name == layout.ISO_IMAGE and domain.metadata().domain_class is StorageDomainImageClass.ISO:
                continue
            elif not is_uuid(name):
                yield _stray(where, "it is no image", _WHOSE)
            elif await self._kind(domain, where) is not FileKind.DIRECTORY:
                yield _wrong(where, "it is no directory", _WHOSE)
            else:
                image = images.get(name, Image(name))
                async for finding in self._in_image(domain, image):
                    yield finding
                async for finding in self._links(domain, image, images):
                    yield finding

    async def _of_leases(self, domain: Domain) -> AsyncIterator[Finding]:
        """Without them a domain serves hosts that use none."""
        needed = self._leases.used(domain)
        faults = await self._leases.faults(domain)
        if needed:
            faults += await self._leases.faults_of_volumes(domain)
        for where, what in faults:
            yield _wrong(where, what, _MEND_LEASES) if needed else _stray(where, what, _LATER)

    async def _in_image(self, domain: Domain, image: Image) -> AsyncIterator[Finding]:
        where = layout.image(image.id)
        names = set(await self._files.names(domain.root, domain.path(where)))
        if not image.volumes and not image.faults:
            yield _stray(where, "it has no volume", _UNFINISHED)
        known = {
            name + suffix for name in (*image.volumes, *image.faults) for suffix in ("", layout.META, layout.LEASE)
        }
        for name in sorted(names - known):
            yield _stray(f"{where}/{name}", "it belongs to no volume", _UNFINISHED)
        for name in sorted(image.volumes):
            if name not in names:
                yield _wrong(f"{where}/{name}", "the data of this volume is missing", _FROM_BACKUP)
        if not image.volumes and not image.faults:
            return
        try:
            chain = image.chain()
        except Malformed as fault:
            yield _wrong(where, str(fault), _FROM_BACKUP)
            return
        for name in image.left_over():
            yield _stray(f"{where}/{name}", "it is in the image's chain no more", "Remove it: Image.deleteVolumes.")
        for name in chain:
            if image.volumes[name].legality is VolumeLegality.ILLEGAL:
                yield _wrong(f"{where}/{name}", "it was not finished", "Delete the image, or finish what was begun.")
        if names.issuperset(chain):
            for name in chain:
                async for finding in self._of_volume(Found(domain, image), name):
                    yield finding

    async def _links(self, domain: Domain, image: Image, images: Mapping[str, Image]) -> AsyncIterator[Finding]:
        """Whether what it has of a template is the template's."""
        for name, meta in image.volumes.items():
            if meta.image == image.id:
                continue
            where, home = layout.volume(image.id, name), images.get(meta.image)
            if home is None or home.template() != name:
                yield _stray(where, f"image {meta.image}, whose template it is, is not there", "Nothing: it is whole.")
            elif await self._inode(domain, where) != await self._inode(domain, layout.volume(home.id, name)):
                yield _wrong(where, f"it is no link to the template in image {meta.image}", _FROM_BACKUP)

    async def _of_volume(self, found: Found, name: str) -> AsyncIterator[Finding]:
        """Whether a volume's file is what its metadata says."""
        meta, where = found.image.volumes[name], layout.volume(found.image.id, name)
        if await self._kind(found.domain, where) is not FileKind.FILE:
            yield _wrong(where, "it is no plain file", _WHOSE)
            return
        if meta.format is VolumeFormat.RAW:
            size = await self._size(found.domain, where) or 0
        else:
            try:
                size = (await self._images.info(found.file(name))).virtual_size
            except Problem as problem:
                yield _wrong(where, str(problem), _FROM_BACKUP)
                return
        if size < meta.capacity:
            yield _wrong(where, f"it has {size} bytes, its metadata says {meta.capacity}", _FROM_BACKUP)

    async def _kind(self, domain: Domain, inside: str) -> FileKind | None:
        try:
            return (await self._files.status(domain.root, domain.path(inside))).kind
        except FileMissing:
            return None

    async def _inode(self, domain: Domain, inside: str) -> int | None:
        try:
            return (await self._files.status(domain.root, domain.path(inside))).inode
        except FileMissing:
            return None

    async def _size(self, domain: Domain, inside: str) -> int | None:
        try:
            return (await self._files.status(domain.root, domain.path(inside))).size
        except FileMissing:
            return None

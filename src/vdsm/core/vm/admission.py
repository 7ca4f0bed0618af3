# SPDX-License-Identifier: Apache-2.0
"""Which files a machine is given: each is looked at before, whether it comes with a new machine, a plug or a disc."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import msgspec

from vdsm.contract.errors import CannotCreateVM, XmlRefused
from vdsm.contract.errors_domains import DiskInUse, DiskUnusable, NoSuchDisk, VolumeDoesNotExist
from vdsm.contract.storage_words import VolumeRole, VolumeStatus
from vdsm.contract.vm_params import Disk, DiskFormat
from vdsm.core.handlers import Context
from vdsm.core.storage.catalog import Catalog, Found, chain_of
from vdsm.core.storage.format.lines import is_uuid
from vdsm.core.storage.formats import DISK_FORMATS
from vdsm.core.storage.repository import Repository

from . import raw
from .drives import Drive, Layer, drive_of, set_layers
from .files import AllowedFiles
from .machine import Machine
from .spots import Spot, Spots
from .table import Table


class Admission:
    """Files below directories the administrator named, and volumes of the host's storage."""

    def __init__(
        self, files: AllowedFiles, repository: Repository, catalog: Catalog, spots: Spots, table: Table
    ) -> None:
        self._files = files
        self._repository = repository
        self._catalog = catalog
        self._spots = spots
        self._table = table

    def users(self, object_id: str) -> list[str]:
        """Names of the machines, also foreign ones, one of whose disks has this id in its path."""
        return [row.name for row in self._having(object_id, writing=False)]

    def strangers(self, object_id: str) -> list[str]:
        """Those of them that are foreign."""
        return [row.name for row in self._having(object_id, writing=False) if not row.ours]

    def runners(self, object_id: str) -> list[str]:
        """Those that are foreign, run or are about to: a stopped one of ours goes by the storage when it starts."""
        having = self._having(object_id, writing=False)
        return [row.name for row in having if not row.ours or row.active or row.launching]

    def _having(self, object_id: str, *, writing: bool) -> list[Machine]:
        return [
            row
            for row in self._table
            if any(
                object_id in device.path.split("/") and not (writing and device.read_only)
                for device in row.view.devices
                if device.type == "disk"
            )
        ]

    # ---- disks -----------------------------------------------------------------------------------------------------

    async def disk(self, ctx: Context, disk: Disk) -> Disk:
        """With its true path and format. Raises what `file` and the catalog do."""
        path, wanted = disk.path, disk.format
        if (spot := _by_ids(path)) is not None:
            path = (await self.found(spot)).volume_path(spot.volume_id)
        elif not path.startswith("/"):
            found = await self._catalog.for_machine(path)
            if disk.format not in (None, found.format):
                raise CannotCreateVM(reason=f"disk {path} is of the format {found.format}; leave the format out")
            if disk.volume not in (None, found.volume_id):
                raise CannotCreateVM(reason=f"disk {path} is written to in its volume {found.volume_id}")
            if found.template and not disk.read_only:
                raise CannotCreateVM(reason=f"disk {path} is a template, which is only read: make a disk from it")
            path, wanted = found.path, found.format
        path, image_format = await self.file(ctx, path, wanted, writes=not disk.read_only)
        return msgspec.structs.replace(disk, path=path, format=image_format)

    async def file(
        self, ctx: Context, path: str, image_format: DiskFormat | None, *, writes: bool
    ) -> tuple[str, DiskFormat]:
        """The true path and the format of an image that a machine is to have.

        Raises PathNotAllowed, FileUnusable, DiskUnusable, DiskInUse, and what the storage does.
        """
        if (spot := self._spots.of(path)) is None:
            path = await self._files.admit(path, image_format or DiskFormat.RAW)
            spot = self._spots.of(path)
        if spot is None:
            return path, image_format or DiskFormat.RAW
        top = (await self.layers(spot, writes=writes))[0]
        if image_format not in (None, top.format):
            raise DiskUnusable(disk=spot.image_id, reason=f"its volume {spot.volume_id} is of the format {top.format}")
        await self._claim(ctx, spot.image_id, writes=writes)
        return top.path, top.format

    async def _claim(self, ctx: Context, disk_id: str, *, writes: bool) -> None:
        """A disk of the storage belongs to the one machine that writes to it, or to any that only read it."""
        if writes:
            await ctx.hold(f"disk:{disk_id}")
        for machine in self._having(disk_id, writing=not writes):
            raise DiskInUse(disk=disk_id, vm=machine.name)

    async def hold_disks(self, ctx: Context, machine: Machine) -> None:
        """While it starts nothing else is done to its disks."""
        written = [drive for drive in machine.view.drives if not drive.read_only]
        spots = [spot for drive in written if (spot := self.spot_of(drive)) is not None]
        await ctx.hold(*(f"disk:{spot.image_id}" for spot in spots))

    async def layers(self, spot: Spot, *, writes: bool) -> list[Layer]:
        """A volume that a machine may have, with those it goes on from; their headers must say the same.

        Raises NoSuchDisk, VolumeDoesNotExist, DiskUnusable, and what the storage does.
        """
        found = await self.found(spot)
        status, reason = found.image.status()
        if status is not VolumeStatus.OK:
            raise DiskUnusable(disk=found.name, reason=reason)
        chain = chain_of(found)
        if spot.volume_id not in chain:
            raise DiskUnusable(disk=found.name, reason=f"its volume {spot.volume_id} was merged into another")
        if writes and spot.volume_id != chain[0]:
            raise DiskUnusable(disk=found.name, reason=f"it is written to in its volume {chain[0]}")
        if writes and found.image.volumes[spot.volume_id].role is VolumeRole.SHARED:
            raise DiskUnusable(disk=found.name, reason="it is a template, which is only read")
        layers = layers_of(found, spot.volume_id)
        facts = await self._files.look(layers[0].path, layers[0].format)
        if [facts.path, *facts.references] != [layer.path for layer in layers]:
            raise DiskUnusable(disk=found.name, reason="what its volumes refer to is not what their metadata say")
        return layers

    async def found(self, spot: Spot) -> Found:
        """Raises NoSuchDisk, VolumeDoesNotExist, and what the storage does."""
        domain = await self._repository.usable(spot.domain_id)
        image = await self._catalog.image(domain, spot.image_id)
        if image is None:
            raise NoSuchDisk(disk=spot.image_id)
        if spot.volume_id not in image.volumes:
            raise VolumeDoesNotExist(volume=spot.volume_id, image=spot.image_id)
        return Found(domain, image)

    # ---- whole documents -------------------------------------------------------------------------------------------

    async def document(self, ctx: Context, root: ET.Element) -> None:
        """Raw XML: every path in it must be one that may be given; disks of the storage get all their layers named."""
        disks: dict[str, tuple[ET.Element, Drive]] = {}
        for element in root.iter("disk"):
            if (drive := drive_of(element)) is None:
                continue
            if drive.path in disks and not (drive.read_only and disks[drive.path][1].read_only):
                raise XmlRefused(reason=f"the disk {drive.path} is given twice, so writes to it would collide")
            disks[drive.path] = element, drive
            if drive.is_disk and self._spots.of(drive.path) is not None:
                for layer in element.findall("backingStore"):  # the storage's own word is put in its place
                    element.remove(layer)
        for path, image_format in list(raw.paths(root)):
            if path in disks:
                await self._disk_in(ctx, *disks[path], DiskFormat(image_format) if image_format else None)
            elif self._spots.of(path) or self._spots.of(await self._files.admit(path, None)):
                raise XmlRefused(reason=f"{path}, a volume of the storage, is given as something else than a disk")
        await self.fit(root)

    async def _disk_in(self, ctx: Context, element: ET.Element, drive: Drive, wanted: DiskFormat | None) -> None:
        if not drive.is_disk:
            await self.disc(ctx, drive.path)
            return
        true, _ = await self.file(ctx, drive.path, wanted, writes=not drive.read_only)
        if self._spots.of(drive.path) is None and self._spots.of(true) is not None:  # by a link of somebody's
            for source in element.findall("source"):
                source.set("file", true)

    async def fit(self, root: ET.Element) -> bool:
        """Let disks of the storage begin with the volume that is written to now, all layers named; whether it changed.

        Each must be one a machine may have. Raises as `layers`.
        """
        before = ET.tostring(root)
        for element in root.iter("disk"):
            drive = drive_of(element)
            spot = None if drive is None or not drive.is_disk else self._spots.of(drive.path)
            if drive is None or spot is None:
                continue
            if not drive.read_only:
                spot = spot._replace(volume_id=chain_of(await self._any(spot))[0])
            place = drive.path.rpartition("/")[0]
            layers = await self.layers(spot, writes=not drive.read_only)
            set_layers(element, [Layer(f"{place}/{la.path.rpartition('/')[2]}", la.format) for la in layers])
        return ET.tostring(root) != before

    async def _any(self, spot: Spot) -> Found:
        """The image, whichever volumes it has now."""
        domain = await self._repository.usable(spot.domain_id)
        image = await self._catalog.image(domain, spot.image_id)
        if image is None:
            raise NoSuchDisk(disk=spot.image_id)
        return Found(domain, image)

    # ---- discs -----------------------------------------------------------------------------------------------------

    async def disc(self, ctx: Context, spec: str) -> str:
        """The true path of a disc image, by path, by name or id of a disk, or by the ids DOMAIN/IMAGE/VOLUME."""
        spot = _by_ids(spec) or self._spots.of(spec)
        if spot is None and not spec.startswith("/"):
            found = await self._catalog.named(spec)
            spot = Spot(found.domain.id, found.image.id, chain_of(found)[0])
        if spot is None:
            return await self._files.admit(spec, None)
        layers = await self.layers(spot, writes=False)
        if layers[0].format is not DiskFormat.RAW:
            raise DiskUnusable(disk=spot.image_id, reason="a disc image is raw")
        await self._claim(ctx, spot.image_id, writes=False)
        return layers[0].path

    async def image_named(self, ref: str) -> str:
        """The id of a disk of the storage. Raises NoSuchDisk, DiskUnusable."""
        return (await self._catalog.named(ref)).image.id

    def spot_of(self, drive: Drive) -> Spot | None:
        return self._spots.of(drive.path)


def _by_ids(text: str) -> Spot | None:
    parts = text.split("/")
    return Spot(*parts) if len(parts) == 3 and all(map(is_uuid, parts)) else None


def layers_of(found: Found, volume_id: str) -> list[Layer]:
    """A volume of a sound chain and those below it, by their true paths."""
    chain = chain_of(found)
    return [
        Layer(found.volume_path(name), DISK_FORMATS[found.image.volumes[name].format])
        for name in chain[chain.index(volume_id) :]
    ]

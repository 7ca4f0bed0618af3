# SPDX-License-Identifier: Apache-2.0
"""What changes the disks of machines, as `operations.py` has the rest: done twice equals done once."""

from __future__ import annotations

import asyncio
import logging
import time
import xml.etree.ElementTree as ET

from msgspec.structs import replace

from vdsm.contract.errors import (
    BadDiskResizeParameter,
    HotplugDiskFailed,
    HotunplugDiskFailed,
    HypervisorError,
    NonResponsiveGuestAgent,
    NoSuchVM,
    SnapshotFailed,
    VMIsDown,
)
from vdsm.contract.errors_domains import NoSuchDisk, VolumeDoesNotExist
from vdsm.contract.vm_drives import VolumeRef
from vdsm.core.ports import deadline
from vdsm.core.ports.disks import DiskImages
from vdsm.core.ports.hypervisor import Hypervisor
from vdsm.core.steps import operation
from vdsm.core.storage.catalog import Catalog, Found
from vdsm.core.storage.format.volume_meta import VolumeMeta
from vdsm.core.storage.repository import Repository
from vdsm.core.storage.volume_leases import VolumeLeases
from vdsm.core.storage.volume_operations import VolumeOperations

from .drives import Drive, drives
from .prepared import Prepared
from .table import Table

log = logging.getLogger(__name__)

UNPLUG = 30.0  # seconds a guest has to let go of a disk (published)
_LOOK = 0.2  # seconds between looks whether it did


class DiskOperations:
    """`VmDisks` decides, these do."""

    def __init__(
        self,
        hypervisor: Hypervisor,
        table: Table,
        prepared: Prepared,
        images: DiskImages,
        repository: Repository,
        catalog: Catalog,
        leases: VolumeLeases,
        volumes: VolumeOperations,
    ) -> None:
        self._hypervisor = hypervisor
        self._table = table
        self._prepared = prepared
        self._images = images
        self._repository = repository
        self._catalog = catalog
        self._leases = leases
        self._volumes = volumes

    async def _drives(self, vm_id: str) -> dict[str, Drive]:
        """Those of the machine as libvirt has it now. Raises NoSuchVM."""
        root = ET.fromstring((await self._hypervisor.domain(vm_id)).xml)  # noqa: S314 libvirt's own
        return {drive.name: drive for drive in drives(root)}

    async def _refresh(self, vm_id: str) -> None:
        """Let the table and the links catch up with the machine's disks."""
        row = await self._table.resync(vm_id)
        if row is not None and row.active:
            await self._prepared.add(vm_id, row.view.drives)
        await self._prepared.settle(vm_id)

    # ---- the guest's file systems ----------------------------------------------------------------------------------

    @operation("vm.freeze")
    async def freeze(self, vm_id: str, patience: float) -> None:
        self._table.touch(vm_id)
        await self._hypervisor.freeze(vm_id, patience=patience)

    @operation("vm.thaw")
    async def thaw(self, vm_id: str, patience: float) -> None:
        self._table.touch(vm_id)
        await self._hypervisor.thaw(vm_id, patience=patience)

    # ---- snapshots -------------------------------------------------------------------------------------------------

    @operation("vm.add_layers")
    async def add_layers(self, vm_id: str, layers: dict[str, str], quiesce: float | None, timeout: float) -> None:
        """All of them, from one moment on; without freezing the guest if its agent does not answer."""
        self._table.touch(vm_id)
        try:
            with deadline.within(timeout):
                await self._add_layers(vm_id, layers, quiesce)
        except (HypervisorError, NoSuchVM) as problem:
            if not await self._have(vm_id, layers):
                raise SnapshotFailed(vm=self._name(vm_id), reason=problem.facts.get("reason", problem)) from None
        await self._table.resync(vm_id)

    async def _add_layers(self, vm_id: str, layers: dict[str, str], quiesce: float | None) -> None:
        if await self._have(vm_id, layers):
            return
        if quiesce is not None:
            try:
                await self._hypervisor.add_layers(vm_id, layers, quiesce=quiesce)
            except NonResponsiveGuestAgent as problem:
                log.warning("the snapshot is taken without freezing the file systems: %s", problem)
            else:
                return
        await self._hypervisor.add_layers(vm_id, layers, quiesce=None)

    async def _have(self, vm_id: str, layers: dict[str, str]) -> bool:
        try:
            now = await self._drives(vm_id)
        except NoSuchVM:
            return False
        return all(drive in now and now[drive].path == path for drive, path in layers.items())

    def _name(self, vm_id: str) -> str:
        row = self._table.find(vm_id)
        return row.name if row else vm_id

    @operation("vm.withdraw_layer")
    async def withdraw_layer(self, vm_id: str, volume_id: str, meta: VolumeMeta, parent: VolumeMeta) -> None:
        """Undo: a volume made for a snapshot goes, unless a machine may have written to it: then it stays a disk's."""
        await self._hypervisor.settled(vm_id)  # a call that was given up may still have come to something
        for drive in (await self._drives(vm_id)).values():
            if any(path.endswith(f"/{meta.image}/{volume_id}") for path in drive.layers):
                raise SnapshotFailed(
                    vm=self._name(vm_id), reason=f"it was taken, and {drive.name} goes on in its volume"
                )
        await self._volumes.discard(volume_id, meta).run()
        await self._volumes.describe(meta.parent, parent).run()

    # ---- plugging --------------------------------------------------------------------------------------------------

    @operation("vm.plug_disk")
    async def plug(self, vm_id: str, drive: str, document: str) -> None:
        self._table.touch(vm_id)
        wanted = drives(ET.fromstring(f"<domain><devices>{document}</devices></domain>"))  # noqa: S314 made here
        await self._prepared.add(vm_id, wanted)
        try:
            if drive not in await self._drives(vm_id):
                await self._hypervisor.attach_disk(vm_id, document)
        except (HypervisorError, NoSuchVM) as problem:
            await self._prepared.settle(vm_id)
            raise HotplugDiskFailed(vm=self._name(vm_id), reason=problem.facts.get("reason", problem)) from None
        await self._refresh(vm_id)

    @operation("vm.unplug_disk")
    async def unplug(self, vm_id: str, drive: str) -> None:
        """Until the guest let go of it."""
        self._table.touch(vm_id)
        try:
            await self._let_go(vm_id, drive)
            await self._hypervisor.drop_disk(vm_id, drive)
        except HypervisorError as problem:
            raise HotunplugDiskFailed(vm=self._name(vm_id), reason=problem.facts.get("reason", problem)) from None
        except NoSuchVM:
            pass
        await self._refresh(vm_id)

    async def _let_go(self, vm_id: str, drive: str) -> None:
        row = await self._table.resync(vm_id)
        if row is None or not row.active or drive not in await self._drives(vm_id):
            return
        await self._hypervisor.ask_detach(vm_id, drive)
        until = time.monotonic() + UNPLUG
        while drive in await self._drives(vm_id):
            if time.monotonic() > until:
                raise HotunplugDiskFailed(vm=row.name, reason=f"its guest did not let go of {drive} in {UNPLUG:g} s")
            if (row := await self._table.resync(vm_id)) is None or not row.active:
                return
            await asyncio.sleep(_LOOK)

    @operation("vm.insert_disc")
    async def insert_disc(self, vm_id: str, path: str) -> None:
        self._table.touch(vm_id)
        await self._hypervisor.change_cd(vm_id, path)
        await self._refresh(vm_id)
        self._table.announce(vm_id, "cd")

    # ---- growing ---------------------------------------------------------------------------------------------------

    @operation("vm.grow_disk")
    async def grow(self, vm_id: str, drive: str, ref: VolumeRef, size: int) -> None:
        """Of a machine, or, without one, of a volume that none runs with; then its metadata."""
        found = await self._found(ref)
        if vm_id:
            await self._grow_live(vm_id, drive, ref, size)
        else:
            async with self._leases.held(found.domain, ref.image_id, ref.volume_id):
                file = found.file(ref.volume_id)
                if (await self._images.info(file)).virtual_size < size:
                    await self._images.resize(file, size)
        meta = found.image.volumes[ref.volume_id]
        if meta.capacity < size:
            await self._volumes.write(found.domain, ref.volume_id, replace(meta, capacity=size))

    async def _grow_live(self, vm_id: str, drive: str, ref: VolumeRef, size: int) -> None:
        self._table.touch(vm_id)
        row = await self._table.resync(vm_id)
        if row is None or not row.active:
            raise VMIsDown(vm=self._name(vm_id))
        try:
            await self._hypervisor.resize_disk(vm_id, drive, size)
        except HypervisorError as problem:
            reason = problem.facts.get("reason", problem)
            raise BadDiskResizeParameter(disk=ref.image_id, size=size, reason=reason) from None

    @operation("vm.disk_size")
    async def size(self, ref: VolumeRef) -> int:
        return (await self._found(ref)).image.volumes[ref.volume_id].capacity

    async def _found(self, ref: VolumeRef) -> Found:
        domain = await self._repository.usable(ref.domain_id)
        image = await self._catalog.image(domain, ref.image_id)
        if image is None:
            raise NoSuchDisk(disk=ref.image_id)
        if ref.volume_id not in image.volumes:
            raise VolumeDoesNotExist(volume=ref.volume_id, image=ref.image_id)
        return Found(domain, image)

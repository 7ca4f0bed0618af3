# SPDX-License-Identifier: Apache-2.0
"""The verbs on disks of machines: what they check and which steps they take."""

from __future__ import annotations

import uuid
import xml.etree.ElementTree as ET

from vdsm.contract import vm
from vdsm.contract.errors import (
    BadDiskResizeParameter,
    HotplugDiskFailed,
    HotunplugDiskFailed,
    InvalidParameter,
    MergeFailed,
    MethodNotImplemented,
    Problem,
    SnapshotFailed,
    SnapshotMemoryNotOffered,
    XmlRefused,
)
from vdsm.contract.errors_domains import CannotCloneVolume, DiskInUse
from vdsm.contract.storage_words import BLANK, VolumeRole
from vdsm.contract.vm_drives import HotplugDisk, SnapshotDrive, VolumeRef
from vdsm.contract.vm_info import VmInfo, VmState
from vdsm.contract.vm_params import Disk, DiskBus
from vdsm.core.handlers import Context, handles
from vdsm.core.ports.hypervisor import Hypervisor
from vdsm.core.steps import Op, Step
from vdsm.core.storage.catalog import Found, chain_of
from vdsm.core.storage.disk import BLOCK
from vdsm.core.storage.repository import Repository
from vdsm.core.storage.snapshots import Snapshots, next_volume

from . import build, engine_xml, raw, xml
from .admission import Admission
from .disk_operations import DiskOperations
from .drives import Drive, drive_of, free_name
from .machine import Machine
from .merges import Merge, Merges
from .operations import VmOperations
from .preconditions import ours, running
from .spots import Spot
from .table import Table

FREEZE_S, SNAPSHOT_S = 8.0, 30.0  # for the guest's agent, and for a whole snapshot: the published defaults


def _ours_if_any(machine: Machine | None) -> Problem | None:
    return None if machine is None else ours(machine)


def _running_if_any(machine: Machine | None) -> Problem | None:
    return None if machine is None else running(machine)


class VmDisks:
    def __init__(
        self,
        hypervisor: Hypervisor,
        table: Table,
        operations: VmOperations,
        disk_operations: DiskOperations,
        merges: Merges,
        admission: Admission,
        repository: Repository,
        snapshots: Snapshots,
    ) -> None:
        self._hypervisor = hypervisor
        self._table = table
        self._do = operations
        self._disks = disk_operations
        self._merges = merges
        self._admission = admission
        self._repository = repository
        self._snapshots = snapshots

    def subject(self, vm_id: str) -> Machine | None:
        """The id of all zeros stands for no machine, where a verb takes that."""
        return None if vm_id == BLANK else self._table.get(vm_id)

    # ---- the guest's file systems ----------------------------------------------------------------------------------

    @handles(vm.freeze, requires=(ours, running))
    async def freeze(self, ctx: Context, vm_id: str) -> None:
        await ctx.run(Step("freeze the guest's file systems", self._disks.freeze(vm_id, FREEZE_S)))

    @handles(vm.thaw, requires=(ours, running))
    async def thaw(self, ctx: Context, vm_id: str) -> None:
        await ctx.run(Step("let the guest's file systems go on", self._disks.thaw(vm_id, FREEZE_S)))

    # ---- snapshots -------------------------------------------------------------------------------------------------

    @handles(vm.snapshot, requires=(ours, running))
    async def snapshot(
        self,
        ctx: Context,
        vm_id: str,
        snap_drives: list[SnapshotDrive] = [],  # noqa: B006 as in the contract; it is not written to
        *,
        snap_memory: str | None = None,
        frozen: bool = False,
        job_uuid: str | None = None,
        timeout: int = 30,
        freeze_timeout: int = 8,
    ) -> None:
        machine = self._table.get(vm_id)
        for name, value in (("timeout", timeout), ("freeze_timeout", freeze_timeout)):
            if value <= 0:
                raise InvalidParameter(name=name, value=value, reason="it must be more than 0")
        if snap_memory:
            raise SnapshotMemoryNotOffered(vm=machine.name)
        quiesce = None if frozen or not has_agent(machine) else float(freeze_timeout)
        if snap_drives:
            layers = await self._given_layers(ctx, machine, snap_drives)
            await ctx.run(self._switch(machine, layers, quiesce, float(timeout)))
            return
        chosen = [drive for drive in machine.view.drives if self._ours(drive)]
        if not chosen:
            raise SnapshotFailed(vm=machine.name, reason="it has no disk in this host's storage")
        await ctx.run(*await self.new_layers(ctx, machine, chosen, quiesce, float(timeout)))

    def _switch(self, machine: Machine, layers: dict[str, str], quiesce: float | None, seconds: float) -> Step:
        switch = self._disks.add_layers(machine.vm_id, layers, quiesce, seconds)
        return Step(f"let {', '.join(layers)} go on in new volumes", switch)

    def _ours(self, drive: Drive) -> bool:
        return drive.is_disk and not drive.read_only and self._admission.spot_of(drive) is not None

    async def _given_layers(self, ctx: Context, machine: Machine, given: list[SnapshotDrive]) -> dict[str, str]:
        """By drive, the path of a volume that was made for it."""
        layers: dict[str, str] = {}
        for one in given:
            drive, spot = self._drive(machine, one.domain_id, one.image_id)
            if drive is None or spot is None or drive.name in layers:
                what = "twice" if drive else "and the machine has no such disk"
                raise SnapshotFailed(vm=machine.name, reason=f"disk {one.image_id} is named {what}")
            await ctx.hold(f"disk:{one.image_id}")
            if spot.volume_id != one.base_volume_id:
                raise SnapshotFailed(vm=machine.name, reason=f"{drive.name} is written to in volume {spot.volume_id}")
            new = spot._replace(volume_id=one.volume_id)
            await self._admission.layers(new, writes=True)
            meta = (await self._admission.found(new)).image.volumes[one.volume_id]
            if meta.parent != one.base_volume_id:
                raise SnapshotFailed(vm=machine.name, reason=f"volume {one.volume_id} goes on from {meta.parent}")
            layers[drive.name] = _beside(drive, one.volume_id)
        return layers

    async def new_layers(
        self, ctx: Context, machine: Machine, chosen: list[Drive], quiesce: float | None, seconds: float
    ) -> list[Step]:
        """Volumes are made, and the drives go on in them all at once."""
        layers: dict[str, str] = {}
        steps: list[Step] = []
        for drive in chosen:
            spot = self._admission.spot_of(drive)
            assert spot is not None
            await ctx.hold(f"disk:{spot.image_id}")
            await self._repository.writable(spot.domain_id)
            await self._admission.layers(spot, writes=True)
            volume_id = str(uuid.uuid4())
            steps += self._new_layer(machine, drive, await self._admission.found(spot), volume_id)
            layers[drive.name] = _beside(drive, volume_id)
        return [*steps, self._switch(machine, layers, quiesce, seconds)]

    def _new_layer(self, machine: Machine, drive: Drive, found: Found, volume_id: str) -> list[Step]:
        meta = next_volume(found)
        parent = found.image.volumes[meta.parent]
        if parent.role is VolumeRole.SHARED:
            raise CannotCloneVolume(volume=volume_id, parent=meta.parent, reason="it is a template")
        away = self._disks.withdraw_layer(machine.vm_id, volume_id, meta, parent)
        return [
            Step(f"{step.title} of {drive.name}", step.do, away if step.undo else None)
            for step in self._snapshots.layer(found, volume_id, meta)
        ]

    # ---- merging ---------------------------------------------------------------------------------------------------

    # Not exclusive: it lasts, and meanwhile the machine may be paused, or its power cut.
    @handles(vm.merge, requires=(ours, running), exclusive=False)
    async def merge(
        self,
        ctx: Context,
        vm_id: str,
        drive: VolumeRef,
        base_vol_uuid: str,
        top_vol_uuid: str,
        bandwidth: int = 0,
        *,
        job_uuid: str | None = None,
    ) -> None:
        machine = self._table.get(vm_id)
        merge = await self.plan_merge(ctx, machine, drive, base_vol_uuid, top_vol_uuid, bandwidth)
        await ctx.run(*self._merges.steps(merge, merge.drive))

    async def plan_merge(
        self, ctx: Context, machine: Machine, ref: VolumeRef, base: str, top: str, bandwidth: int
    ) -> Merge:
        """Raises MergeFailed, and what the storage does."""

        def refuse(reason: str) -> MergeFailed:
            return MergeFailed(disk=ref.image_id, reason=reason)

        if (other := self._merges.of_image(ref.image_id)) is not None:
            raise refuse(f"it is being merged already, by task {other.id}")
        await ctx.hold(f"disk:{ref.image_id}")
        drive, spot = self._drive(machine, ref.domain_id, ref.image_id)
        if drive is None or spot is None:
            raise refuse("the machine has no such disk")
        if drive.read_only:
            raise refuse("the machine only reads it")
        if spot.volume_id != ref.volume_id:
            raise refuse(f"it is written to in its volume {spot.volume_id}")
        await self._admission.layers(spot, writes=True)
        found = await self._admission.found(spot)
        chain = chain_of(found)
        if top not in chain or base not in chain[chain.index(top) + 1 :]:
            raise refuse(f"volume {base} is not below {top} in its chain")
        if found.image.volumes[base].role is VolumeRole.SHARED:
            raise refuse("the base is a template")
        return Merge(
            vm_id=machine.vm_id,
            drive=drive.name,
            domain_id=spot.domain_id,
            image_id=spot.image_id,
            top=top,
            base=base,
            active=top == spot.volume_id,
            bandwidth=bandwidth,
        )

    def _drive(self, machine: Machine, domain_id: str, image_id: str) -> tuple[Drive | None, Spot | None]:
        for drive in machine.view.drives:
            spot = self._admission.spot_of(drive) if drive.is_disk else None
            if spot is not None and (spot.domain_id, spot.image_id) == (domain_id, image_id):
                return drive, spot
        return None, None

    # ---- growing ---------------------------------------------------------------------------------------------------

    @handles(vm.disk_size_extend, requires=(_ours_if_any, _running_if_any))
    async def disk_size_extend(self, ctx: Context, vm_id: str, drive_specs: VolumeRef, new_size: int) -> int:
        ref, size = drive_specs, -(-new_size // BLOCK) * BLOCK
        machine, drive = self.subject(vm_id), ""
        await ctx.hold(f"disk:{ref.image_id}")
        found = await self._admission.found(Spot(ref.domain_id, ref.image_id, ref.volume_id))
        meta = found.image.volumes[ref.volume_id]
        if machine is not None:
            drive = self._written(machine, ref)
        else:
            for name in self._admission.users(ref.image_id):
                raise DiskInUse(disk=found.name, vm=name)
            if chain_of(found)[0] != ref.volume_id:
                raise BadDiskResizeParameter(disk=found.name, size=size, reason="others go on from that volume")
        if machine is None or meta.capacity < size:  # else the one in charge has done it
            await self._repository.writable(ref.domain_id)
        step = self.growth(machine, found, ref, drive, size)
        answer: Op[int] = self._disks.size(ref)
        return await ctx.run(step, answer=answer)

    def growth(self, machine: Machine | None, found: Found, ref: VolumeRef, drive: str, new_size: int) -> Step:
        """Raises BadDiskResizeParameter."""
        size, capacity = -(-new_size // BLOCK) * BLOCK, found.image.volumes[ref.volume_id].capacity
        if size < capacity:
            raise BadDiskResizeParameter(disk=found.name, size=size, reason=f"it has {capacity} bytes")
        vm_id = "" if machine is None else machine.vm_id
        return Step(f"let it grow to {size} bytes", self._disks.grow(vm_id, drive, ref, size))

    def _written(self, machine: Machine, ref: VolumeRef) -> str:
        """The drive that writes to a volume. Raises BadDiskResizeParameter."""
        drive, spot = self._drive(machine, ref.domain_id, ref.image_id)
        if drive is None or spot is None or spot.volume_id != ref.volume_id:
            reason = f"{machine.name} does not write to its volume {ref.volume_id}"
            raise BadDiskResizeParameter(disk=ref.image_id, size="that", reason=reason)
        return drive.name

    @handles(vm.get_disk_alignment)
    async def get_disk_alignment(self, ctx: Context, vm_id: str, disk: VolumeRef) -> dict[str, bool]:
        raise MethodNotImplemented(method="VM.getDiskAlignment")

    # ---- plugging --------------------------------------------------------------------------------------------------

    @handles(vm.hotplug_disk, requires=(ours, running))
    async def hotplug_disk(self, ctx: Context, vm_id: str, params: HotplugDisk) -> VmInfo:
        machine = self._table.get(vm_id)
        if params.disk is not None:
            root = self._typed(machine, await self._admission.disk(ctx, params.disk))
            await self._admission.fit(root)
        else:
            root = _fragment(params.xml or "", "hotplug")
            await self._admission.document(ctx, root)
        element = root.find("devices/disk")
        drive = None if element is None else drive_of(element)
        if element is None or drive is None or not drive.name:
            raise HotplugDiskFailed(vm=machine.name, reason="a disk with a file and a target is what can be plugged in")
        if drive.name in _names(machine):
            raise HotplugDiskFailed(vm=machine.name, reason=f"it has a disk {drive.name} already")
        step = Step(
            f"plug {drive.name} into {machine.name}",
            self._disks.plug(vm_id, drive.name, xml.text_of(element)),
            self._disks.unplug(vm_id, drive.name),
        )
        return await ctx.run(step, answer=self._do.info(vm_id))

    def _typed(self, machine: Machine, disk: Disk) -> ET.Element:
        if disk.bus is DiskBus.SCSI and not any(
            d.type == "controller" and d.device == "scsi" for d in machine.view.devices
        ):
            raise HotplugDiskFailed(vm=machine.name, reason="it has no SCSI controller; it was made without SCSI disks")
        root = ET.Element("domain")
        name = free_name(_names(machine), build.PREFIX[disk.bus])
        build.add_disk(ET.SubElement(root, "devices"), disk, name)
        return root

    @handles(vm.hotunplug_disk, requires=(ours, running))
    async def hotunplug_disk(self, ctx: Context, vm_id: str, params: HotplugDisk) -> VmInfo:
        machine = self._table.get(vm_id)
        drive = await self._plugged(machine, params)
        if (spot := self._admission.spot_of(drive)) is not None:
            if (other := self._merges.of_image(spot.image_id)) is not None:
                raise HotunplugDiskFailed(vm=machine.name, reason=f"task {other.id} merges its layers")
            await ctx.hold(f"disk:{spot.image_id}")
        step = Step(f"ask the guest of {machine.name} to let go of {drive.name}", self._disks.unplug(vm_id, drive.name))
        return await ctx.run(step, answer=self._do.info(vm_id))

    async def _plugged(self, machine: Machine, params: HotplugDisk) -> Drive:
        """The one that is meant. Raises HotunplugDiskFailed, XmlRefused."""
        disks = [drive for drive in machine.view.drives if drive.is_disk]
        if params.xml is not None:
            element = _fragment(params.xml, "hotunplug").find("devices/disk")
            alias, target = (None if element is None else element.find(tag) for tag in ("alias", "target"))
            words = {"" if alias is None else alias.get("name", ""), "" if target is None else target.get("dev", "")}
            found = [drive for drive in disks if {drive.alias, drive.name} & (words - {""})]
            wanted = " ".join(sorted(words))
        else:
            assert params.disk is not None
            wanted = params.disk.path
            found = [d for d in disks if wanted in (d.name, d.path, self._image(d))]
            if not found and not wanted.startswith("/"):
                image_id = await self._admission.image_named(wanted)
                found = [d for d in disks if self._image(d) == image_id]
        if len(found) != 1:
            raise HotunplugDiskFailed(vm=machine.name, reason=f"it has no disk {wanted.strip()}")
        return found[0]

    def _image(self, drive: Drive) -> str:
        spot = self._admission.spot_of(drive)
        return "" if spot is None else spot.image_id

    # ---- the disc --------------------------------------------------------------------------------------------------

    @handles(vm.change_cd, requires=(ours,))
    async def change_cd(self, ctx: Context, vm_id: str, drive_spec: str) -> VmInfo:
        path = await self._admission.disc(ctx, drive_spec) if drive_spec else ""
        step = Step(f"insert {path}" if path else "eject the disc", self._disks.insert_disc(vm_id, path))
        return await ctx.run(step, answer=self._do.info(vm_id))


def has_agent(machine: Machine) -> bool:
    """One that may answer."""
    return machine.view.has_agent and machine.status is not VmState.PAUSED


def _fragment(text: str, tag: str) -> ET.Element:
    """A manager's <hotplug>, as a document of nothing but its devices, fit for this host. Raises XmlRefused."""
    xml.Guard().check(text)
    given = ET.fromstring(text)  # noqa: S314 the guard above has seen the whole of it
    root = ET.Element("domain")
    devices = ET.SubElement(root, "devices")
    found = [given] if given.tag == "disk" else given.findall("devices/disk") if given.tag == tag else []
    if len(found) != 1:
        raise XmlRefused(reason=f"a <{tag}> with one <disk> in its <devices> is expected")
    devices.append(found[0])
    engine_xml.fit_disk(found[0])
    raw.check(root)
    return root


def _names(machine: Machine) -> list[str]:
    """Of its disks and drives, also empty ones."""
    return [device.name for device in machine.view.devices if device.type == "disk"]


def _beside(drive: Drive, volume_id: str) -> str:
    return f"{drive.path.rpartition('/')[0]}/{volume_id}"

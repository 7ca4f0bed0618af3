# SPDX-License-Identifier: Apache-2.0
"""The disks of simulated machines: layers in their documents, and jobs that take a moment."""

from __future__ import annotations

import asyncio
import posixpath
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping

from vdsm.contract.errors import HypervisorError, NonResponsiveGuestAgent
from vdsm.contract.vm_params import DiskFormat
from vdsm.core.ports.files import FileKind
from vdsm.core.ports.hypervisor import CommitJob, DomainEventKind, DomainState

from .faults import Faults
from .machine import Job, Machine
from .tree import Tree

_LINKS_MAX = 40


class SimulatedDrives:
    """The part of the `Hypervisor` port that is about disks. With a `tree` its files have backing files and data."""

    faults: Faults
    tree: Tree | None = None
    holds_disks = False  # the guest does not let go of a disk when asked
    _obeys_after: float

    async def _find(self, method: str, vm_id: str) -> Machine:
        raise NotImplementedError

    async def _find_active(self, method: str, vm_id: str, *, asks_qemu: bool = True) -> Machine:
        raise NotImplementedError

    def _tell(self, machine: Machine, kind: DomainEventKind, detail: str = "", *, guest_asked: bool = False) -> None:
        raise NotImplementedError

    def _call_later(self, machine: Machine, act: Callable[[], None]) -> None:
        raise NotImplementedError

    # ---- the guest ---------------------------------------------------------------------------------------------------

    async def freeze(self, vm_id: str, *, patience: float) -> None:
        (await self._agent("freeze", vm_id)).frozen = True

    async def thaw(self, vm_id: str, *, patience: float) -> None:
        (await self._agent("thaw", vm_id)).frozen = False

    async def _agent(self, method: str, vm_id: str) -> Machine:
        machine = await self._find_active(method, vm_id)
        if not machine.shape.agent:
            raise NonResponsiveGuestAgent(vm=machine.shape.name, reason="QEMU guest agent is not configured")
        if machine.booting or machine.state is DomainState.PAUSED:
            raise NonResponsiveGuestAgent(vm=machine.shape.name, reason="QEMU guest agent is not connected")
        return machine

    # ---- layers ------------------------------------------------------------------------------------------------------

    async def add_layers(self, vm_id: str, layers: Mapping[str, str], *, quiesce: float | None) -> None:
        machine = await self._find_active("add_layers", vm_id)
        if quiesce is not None:
            await self._agent("add_layers", vm_id)
        for drive, path in layers.items():
            if path == _layers(_disk(machine.live, drive)[1])[0]:
                raise HypervisorError(what="add_layers", reason=f"external snapshot file for disk {drive} is in use")
            if drive in machine.jobs:
                raise HypervisorError(what="add_layers", reason=f"disk '{drive}' has an active block job")
            if self.tree is not None and self._true(path) not in self.tree.nodes:
                raise HypervisorError(what="add_layers", reason=f"Could not open '{path}': No such file or directory")
        for drive, path in layers.items():
            machine.live = _with_layer(machine.live, drive, path, known=True)
            machine.definition = _with_layer(machine.definition, drive, path, known=False)

    async def begin_commit(self, vm_id: str, drive: str, *, top: str, base: str, bandwidth: int) -> None:
        machine = await self._find_active("begin_commit", vm_id)
        if drive in machine.jobs:
            raise HypervisorError(what="begin_commit", reason=f"disk '{drive}' already in active block job")
        names = _layers(_disk(machine.live, drive)[1])
        if top not in names or base not in names[names.index(top) + 1 :]:
            raise HypervisorError(what="begin_commit", reason=f"could not find image '{base}' beneath '{top}'")
        machine.jobs[drive] = Job(
            top=top, base=base, active=names[0] == top, until=time.monotonic() + self._obeys_after, bandwidth=bandwidth
        )
        self._call_later(machine, lambda: self._settle(machine))

    async def commit_job(self, vm_id: str, drive: str) -> CommitJob | None:
        machine = await self._find_active("commit_job", vm_id)
        self._settle(machine)
        if (job := machine.jobs.get(drive)) is None:
            return None
        size = 1 << 30
        left = min(max((job.until - time.monotonic()) / max(self._obeys_after, 0.001), 0.0), 1.0)
        return CommitJob(
            active=job.active, ready=job.ready, cur=size - int(size * left), end=size, bandwidth=job.bandwidth
        )

    async def end_commit(self, vm_id: str, drive: str, *, pivot: bool) -> None:
        machine = await self._find_active("end_commit", vm_id)
        self._settle(machine)
        if (job := machine.jobs.get(drive)) is None:
            return
        if not pivot:
            del machine.jobs[drive]
            self._tell(machine, DomainEventKind.DISK_JOB, "canceled")
            return
        if not job.ready:
            raise HypervisorError(what="end_commit", reason=f"block device '{drive}' is not ready for pivot yet")
        self._complete(machine, drive, job)

    def _settle(self, machine: Machine) -> None:
        """What the jobs of a machine have come to by now."""
        for drive, job in list(machine.jobs.items()):
            if job.ready or job.until > time.monotonic():
                continue
            job.ready = True
            if job.active:
                self._tell(machine, DomainEventKind.DISK_JOB, "ready")
            else:
                self._complete(machine, drive, job)

    def _complete(self, machine: Machine, drive: str, job: Job) -> None:
        del machine.jobs[drive]
        names = _layers(_disk(machine.live, drive)[1])
        between = names[names.index(job.top) : names.index(job.base)]
        if self.tree is not None:
            for name in reversed(between):  # the lowest first: what lies above it wins
                above, below = self.tree.file(self._true(name)).body, self.tree.file(self._true(job.base)).body
                if above is not None and below is not None:
                    below.clusters.update(above.clusters)
                    self._grow(job.base, max(below.virtual_size, above.virtual_size))
            if not job.active:
                self._rebase(names[names.index(job.top) - 1], job.base)
        machine.live = _without_layers(machine.live, drive, between)
        machine.definition = _without_layers(machine.definition, drive, between, job.base)
        self._tell(machine, DomainEventKind.DISK_JOB, "completed")

    def _rebase(self, name: str, base: str) -> None:
        assert self.tree is not None
        body, below = self.tree.file(self._true(name)).body, self.tree.file(self._true(base)).body
        if body is not None and below is not None:
            body.backing_file, body.backing_format = posixpath.basename(base), below.format

    def name_layers(self, document: str) -> str:
        """As libvirt does when it starts a machine: each disk's document names all its layers."""
        root = ET.XML(document)
        for disk in root.findall("devices/disk[@device='disk']"):
            source = disk.find("source")
            if self.tree is None or source is None or disk.find("backingStore") is not None:
                continue
            for path, kind in self._backing(source.get("file", "")):
                inner = ET.SubElement(disk, "backingStore", type="file")
                ET.SubElement(inner, "format", type=kind)
                ET.SubElement(inner, "source", file=path)
                disk = inner
            ET.SubElement(disk, "backingStore")
        return ET.tostring(root, encoding="unicode")

    def _backing(self, path: str) -> Iterator[tuple[str, str]]:
        assert self.tree is not None
        node = self.tree.nodes.get(self._true(path))
        while node is not None and node.body is not None and node.body.backing_file:
            path = posixpath.join(posixpath.dirname(path), node.body.backing_file)
            yield path, (node.body.backing_format or "raw")
            node = self.tree.nodes.get(self._true(path))

    def _true(self, path: str) -> str:
        """With its links followed."""
        assert self.tree is not None
        for _ in range(_LINKS_MAX):
            parts = path.split("/")
            for count in range(2, len(parts) + 1):
                node = self.tree.nodes.get("/".join(parts[:count]))
                if node is not None and node.kind is FileKind.LINK:
                    path = posixpath.normpath(
                        posixpath.join("/".join(parts[: count - 1]) or "/", node.target, *parts[count:])
                    )
                    break
            else:
                return path
        return path

    async def resize_disk(self, vm_id: str, drive: str, size: int) -> None:
        machine = await self._find_active("resize_disk", vm_id)
        if drive in machine.jobs:
            raise HypervisorError(what="resize_disk", reason="Device is in use")
        path = _layers(_disk(machine.live, drive)[1])[0]
        self._grow(path, size)

    def _grow(self, path: str, size: int) -> None:
        node = None if self.tree is None else self.tree.file(self._true(path))
        if node is not None and node.body is not None:
            node.body.virtual_size = size
            if node.body.format is DiskFormat.RAW:
                node.size = size

    # ---- plugging ----------------------------------------------------------------------------------------------------

    async def attach_disk(self, vm_id: str, xml: str) -> None:
        machine = await self._find_active("attach_disk", vm_id)
        disk = ET.XML(xml)
        target = disk.find("target")
        name = "" if target is None else target.get("dev", "")
        if not name or machine.shape_has(name):
            raise HypervisorError(what="attach_disk", reason=f"target {name} already exists")
        machine.live = self.name_layers(_with_disk(machine.live, xml))
        if machine.persistent:
            machine.definition = _with_disk(machine.definition, xml)
        self._tell(machine, DomainEventKind.DEVICES, "added")

    async def ask_detach(self, vm_id: str, drive: str) -> None:
        machine = await self._find_active("ask_detach", vm_id)

        def let_go() -> None:
            if machine.shape_has(drive):
                machine.live = _without_disk(machine.live, drive)
                self._tell(machine, DomainEventKind.DEVICES, "removed")

        if machine.shape_has(drive) and not self.holds_disks:
            self._call_later(machine, let_go)

    async def drop_disk(self, vm_id: str, drive: str) -> None:
        machine = await self._find("drop_disk", vm_id)
        machine.definition = _without_disk(machine.definition, drive)

    async def settled(self, vm_id: str) -> None:
        await self._find("settled", vm_id)
        await asyncio.sleep(0)


# ---- documents -------------------------------------------------------------------------------------------------------


def _disk(document: str, drive: str) -> tuple[ET.Element, ET.Element]:
    """The document, and the disk in it. Raises HypervisorError."""
    root = ET.XML(document)
    for disk in root.findall("devices/disk"):
        target = disk.find("target")
        if target is not None and target.get("dev") == drive:
            return root, disk
    raise HypervisorError(what="a disk", reason=f"invalid argument: disk '{drive}' not found in domain")


def _layers(disk: ET.Element) -> list[str]:
    found, element = [], disk
    while (source := element.find("source")) is not None:
        found.append(source.get("file", ""))
        if (below := element.find("backingStore")) is None:
            break
        element = below
    return found


def _with_layer(document: str, drive: str, path: str, *, known: bool) -> str:
    """`known`: the document names the layers below too."""
    root, disk = _disk(document, drive)
    driver, source = disk.find("driver"), disk.find("source")
    if driver is None or source is None:
        raise HypervisorError(what="a snapshot", reason=f"disk '{drive}' has no file")
    below = disk.find("backingStore")
    if known:
        inner = ET.Element("backingStore", type="file")
        ET.SubElement(inner, "format", type=driver.get("type", "raw"))
        ET.SubElement(inner, "source", file=source.get("file", ""))
        inner.append(ET.Element("backingStore") if below is None else below)
        disk.append(inner)
    if below is not None:
        disk.remove(below)
    driver.set("type", "qcow2")
    source.set("file", path)
    return ET.tostring(root, encoding="unicode")


def _without_layers(document: str, drive: str, gone: list[str], base: str = "") -> str:
    """`base`: what is written to where the document does not name the layers below."""
    root, disk = _disk(document, drive)
    element = disk
    while (source := element.find("source")) is not None:
        below = element.find("backingStore")
        if source.get("file") not in gone:
            if below is None:
                break
            element = below
            continue
        if below is None or below.find("source") is None:
            source.set("file", base or source.get("file", ""))
            break
        inner_source, inner_format, inner_below = (below.find(t) for t in ("source", "format", "backingStore"))
        assert inner_source is not None
        source.set("file", inner_source.get("file", ""))
        kind = element.find("driver" if element is disk else "format")
        if kind is not None and inner_format is not None:
            kind.set("type", inner_format.get("type", "raw"))
        element.remove(below)
        if inner_below is not None:
            element.append(inner_below)
    return ET.tostring(root, encoding="unicode")


def _with_disk(document: str, xml: str) -> str:
    root = ET.XML(document)
    devices = root.find("devices")
    if devices is None:
        devices = ET.SubElement(root, "devices")
    devices.append(ET.XML(xml))
    return ET.tostring(root, encoding="unicode")


def _without_disk(document: str, drive: str) -> str:
    root = ET.XML(document)
    devices = root.find("devices")
    for disk in root.findall("devices/disk"):
        target = disk.find("target")
        if devices is not None and target is not None and target.get("dev") == drive:
            devices.remove(disk)
    return ET.tostring(root, encoding="unicode")

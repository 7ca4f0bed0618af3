# SPDX-License-Identifier: Apache-2.0
"""One laboratory for each hypervisor driver: the driver, what it said, and ways to break what is behind it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import libvirt
import pytest

from harness.private_libvirt import PrivateLibvirt, machines
from harness.talking_rom import talking_rom
from harness.until import BUSY
from vdsm.contract.errors import Problem
from vdsm.contract.vm_params import DiskFormat
from vdsm.core.ports.deadline import within
from vdsm.core.ports.files import FileKind
from vdsm.core.ports.hypervisor import DomainEvent, DomainEventKind, Hypervisor
from vdsm.drivers.libvirt import LibvirtHypervisor
from vdsm.drivers.simulated import SimulatedHypervisor
from vdsm.drivers.simulated.tree import Body, Node, Tree

MIB = 1 << 20

_SCREEN = (
    "<graphics type='vnc' autoport='yes' passwd='nobodys' passwdValidTo='1970-01-01T00:00:01'>"
    "<listen type='address' address='127.0.0.1'/></graphics><video><model type='vga'/></video>"
)
_DRIVE = (
    "<controller type='scsi' model='virtio-scsi'/><disk type='file' device='cdrom'><driver name='qemu' type='raw'/>"
    "<target dev='sda' bus='scsi'/><readonly/></disk>"
)


# A boot sector that writes itself to cylinder 1 through the BIOS, then sleeps: xor ax,ax; mov es,ax; mov ax,0x301;
# mov cx,0x101; mov dx,0x80; mov bx,0x7c00; int 0x13; hlt; jmp back to hlt.
_WRITER = bytes.fromhex("31c08ec0b80103b90101ba8000bb007ccd13f4ebfd").ljust(510, b"\0") + b"\x55\xaa"


def scsi_disk(file: Path, name: str) -> str:
    """Of the kind that is unplugged without asking the guest. A path without a suffix is raw, else qcow2."""
    kind = "qcow2" if file.suffix else "raw"
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='{kind}'/><source file='{file}'/>"
        f"<target dev='{name}' bus='scsi'/></disk>"
    )


def _named(disk: ET.Element, drive: str) -> bool:
    target = disk.find("target")
    return target is not None and target.get("dev") == drive


class Lab:
    """Machines are named after the test, so that they can be told from others and removed."""

    def __init__(self, hypervisor: Hypervisor, prefix: str, rom: Path) -> None:
        self.hypervisor = hypervisor
        self.prefix = prefix
        self.rom = rom
        self.events: list[DomainEvent] = []
        hypervisor.watch(self.events.append)

    def xml(
        self,
        name: str,
        vm_id: str,
        *,
        serial: bool = True,
        screen: bool = False,
        drive: bool = False,
        memory: int = 16,
        files: Sequence[Path] = (),
    ) -> str:
        """A small machine; its guest greets, echoes and obeys the power button. `files` are its disks, sda and on."""
        devices = "".join(scsi_disk(file, f"sd{letter}") for file, letter in zip(files, "abcd", strict=False))
        devices += "<controller type='scsi' model='virtio-scsi'/>" if files else ""
        devices += "<serial type='pty'><target port='0'/></serial>" if serial else ""
        devices += (_SCREEN if screen else "") + (_DRIVE if drive else "")
        return (
            f"<domain type='qemu'><name>{name}</name><uuid>{vm_id}</uuid><memory unit='MiB'>{memory}</memory>"
            "<vcpu>1</vcpu><os><type arch='x86_64' machine='pc'>hvm</type>"
            f"<loader readonly='yes' type='rom'>{self.rom}</loader></os><features><acpi/></features>"
            f"<devices>{devices}</devices></domain>"
        )

    async def define(self, name: str = "a", **options: Any) -> str:
        """The id of a new machine."""
        vm_id = str(uuid.uuid4())
        await self.hypervisor.define(self.xml(f"{self.prefix}-{name}", vm_id, **options))
        return vm_id

    async def run(self, name: str = "a", *, paused: bool = False, **options: Any) -> str:
        """The id of a new machine that runs."""
        vm_id = await self.define(name, **options)
        await self.hypervisor.start(vm_id, paused=paused)
        return vm_id

    def image(self, name: str, backing: Path | None = None) -> Path:
        """A new disk of 1 MiB; a qcow2 one if it goes on from another."""
        raise NotImplementedError

    async def layers(self, vm_id: str, drive: str = "sda") -> list[str]:
        """Names of the files of a disk in the machine's document, the one that is written to first."""
        root = ET.XML((await self.hypervisor.domain(vm_id)).xml)
        found, element = [], next((d for d in root.findall("devices/disk") if _named(d, drive)), None)
        while element is not None and (source := element.find("source")) is not None:
            found.append(Path(source.get("file", "")).name)
            element = element.find("backingStore")
        return found

    def said(self, vm_id: str, *kinds: DomainEventKind) -> list[tuple[str, str]]:
        """The machine's events in order; only of some kinds, if named."""
        return [(e.kind.value, e.detail) for e in self.events if e.vm_id == vm_id and (not kinds or e.kind in kinds)]

    async def until(self, what: str, holds: Callable[[], object], seconds: float = 10.0) -> None:
        end = time.monotonic() + seconds * BUSY
        while not holds():
            assert time.monotonic() < end, f"not in time: {what}; events: {self.events}"
            await asyncio.sleep(0.01)

    async def until_said(self, vm_id: str, kind: DomainEventKind, detail: str | None = None) -> None:
        await self.until(
            f"{kind} {detail}",
            lambda: any(e.kind is kind and e.vm_id == vm_id and detail in (None, e.detail) for e in self.events),
        )

    async def run_into_full_storage(self) -> str:
        """The id of a machine that writes to a disk whose storage has no room."""
        raise NotImplementedError

    async def make_room(self) -> None:
        """In that storage."""
        raise NotImplementedError

    async def freeze(self, vm_id: str) -> None:
        """Let the machine's QEMU answer no more."""
        raise NotImplementedError

    async def thaw(self, vm_id: str) -> None:
        raise NotImplementedError

    async def lose(self) -> None:
        """End libvirt as kill -9 does."""
        raise NotImplementedError

    async def bring_back(self) -> None:
        raise NotImplementedError

    async def clean(self) -> None:
        """Remove what the test made."""
        for domain in await self.hypervisor.domains():
            if domain.name.startswith(self.prefix):
                for call in (
                    self.hypervisor.power_off(domain.vm_id, graceful=False),
                    self.hypervisor.undefine(domain.vm_id),
                ):
                    with contextlib.suppress(Problem):
                        await call


class SimulatedLab(Lab):
    def __init__(self, prefix: str) -> None:
        self.tree = Tree()
        self.simulated = SimulatedHypervisor(obeys_after=0.05, tree=self.tree)
        super().__init__(self.simulated, prefix, Path("/rom"))

    def image(self, name: str, backing: Path | None = None) -> Path:
        path = Path("/disks", name if backing is None else f"{name}.qcow2")
        kind = DiskFormat.RAW if backing is None else DiskFormat.QCOW2
        body = Body(format=kind, virtual_size=MIB)
        if backing is not None:
            body.backing_file = backing.name
            body.backing_format = DiskFormat.QCOW2 if backing.suffix else DiskFormat.RAW
        self.tree.directory("/disks")
        self.tree.add(str(path), Node(kind=FileKind.FILE, mode=0o660, body=body))
        return path

    async def run_into_full_storage(self) -> str:
        vm_id = await self.run()
        self.simulated.fail_disk(vm_id, "enospc")
        return vm_id

    async def make_room(self) -> None:
        """The simulated machine does not write again by itself."""

    async def freeze(self, vm_id: str) -> None:
        self.simulated.faults.freeze(vm_id)

    async def thaw(self, vm_id: str) -> None:
        self.simulated.faults.thaw(vm_id)

    async def lose(self) -> None:
        self.simulated.faults.disconnect()

    async def bring_back(self) -> None:
        self.simulated.faults.reconnect()


class LibvirtLab(Lab):
    def __init__(self, prefix: str, rom: Path, libvirtd: PrivateLibvirt) -> None:
        self.libvirtd = libvirtd
        self.place = Path(tempfile.mkdtemp(prefix="vdsmtest-", dir="/var/tmp"))
        self.place.chmod(0o755)
        super().__init__(LibvirtHypervisor(libvirtd.uri), prefix, rom)

    def image(self, name: str, backing: Path | None = None) -> Path:
        path = self.place / (name if backing is None else f"{name}.qcow2")
        under = [] if backing is None else ["-b", backing.name, "-F", "qcow2" if backing.suffix else "raw"]
        kind = "raw" if backing is None else "qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", kind, *under, path, "1M"], check=True)
        return path

    async def run_into_full_storage(self) -> str:
        name, vm_id, place = f"{self.prefix}-a", str(uuid.uuid4()), f"/run/{self.prefix}"
        done = self.libvirtd.run(
            "bash",
            "-ec",
            f"mkdir {place}; mount -t tmpfs -o size=64k,mode=755 tmpfs {place}; cd {place}; truncate -s 1M disk\n"
            f"echo {_WRITER.hex()} | xxd -r -p | dd of=disk conv=notrunc; cat /dev/zero >filler || echo full",
        )
        assert done == "full"
        await self.hypervisor.define(
            f"<domain type='qemu'><name>{name}</name><uuid>{vm_id}</uuid><memory unit='MiB'>16</memory>"
            "<os><type arch='x86_64' machine='pc'>hvm</type></os><devices><disk type='file' device='disk'>"
            f"<driver name='qemu' type='raw' error_policy='stop'/><source file='{place}/disk'/>"
            "<target dev='hda' bus='ide'/></disk></devices></domain>"
        )
        await self.hypervisor.start(vm_id, paused=False)
        return vm_id

    async def make_room(self) -> None:
        self.libvirtd.run("rm", f"/run/{self.prefix}/filler")

    async def _signal(self, vm_id: str, number: int) -> None:
        name = (await self.hypervisor.domain(vm_id)).name
        (pid,) = machines(name)
        os.kill(pid, number)

    async def freeze(self, vm_id: str) -> None:
        await self._signal(vm_id, signal.SIGSTOP)

    async def thaw(self, vm_id: str) -> None:
        await self._signal(vm_id, signal.SIGCONT)

    async def lose(self) -> None:
        await asyncio.to_thread(self.libvirtd.kill)

    async def bring_back(self) -> None:
        await asyncio.to_thread(self.libvirtd.start)

    async def clean(self) -> None:
        # Without definitions they vanish as they end, while the next test runs: libvirt takes seconds to cut one off.
        for domain in await self.hypervisor.domains():
            if domain.name.startswith(self.prefix) and domain.persistent:
                with within(2), contextlib.suppress(Problem):
                    await self.hypervisor.undefine(domain.vm_id)
        for pid in machines(self.prefix):
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.place)


@pytest.fixture(scope="session")
def rom() -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="vdsm-rom-", dir="/var/tmp"))
    place.chmod(0o755)
    yield talking_rom(place)
    shutil.rmtree(place)


@pytest.fixture(scope="session")
def libvirtd() -> Iterator[PrivateLibvirt]:
    if os.geteuid() != 0:
        pytest.skip("a libvirtd of its own takes root")
    made = PrivateLibvirt()
    yield made
    made.close("vdsmtest-")


@pytest.fixture(params=["simulated", "libvirt"])
async def lab(request: pytest.FixtureRequest, prefix: str) -> AsyncIterator[Lab]:
    made: Lab
    if request.param == "simulated":
        made = SimulatedLab(prefix)
    else:
        made = LibvirtLab(prefix, request.getfixturevalue("rom"), request.getfixturevalue("libvirtd"))
    await made.hypervisor.open()
    yield made
    await made.clean()
    await made.hypervisor.close()


@pytest.fixture
def conn(libvirtd: PrivateLibvirt) -> Iterator[libvirt.virConnect]:
    """Another client of the same libvirt."""
    made = libvirt.open(libvirtd.uri)
    yield made
    made.close()

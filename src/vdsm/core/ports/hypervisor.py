# SPDX-License-Identifier: Apache-2.0
"""Virtual machines as the hypervisor knows them. libvirt's words: a machine is a domain, its definition is XML.

Every method raises HypervisorUnavailable when libvirt is away, DeadlineExceeded when it does not answer in the time
`deadline.remaining` leaves, and HypervisorError when it refuses; methods with a `vm_id` raise NoSuchVM. Nothing here
knows which domains are vdsm's own: the core does, from the mark in the XML.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from vdsm.contract import ByteStream
from vdsm.contract.types import Secret


class DomainState(enum.StrEnum):
    RUNNING = "running"
    PAUSED = "paused"
    SHUTTING_DOWN = "shutting-down"
    SHUT_OFF = "shut-off"
    CRASHED = "crashed"


class Domain(msgspec.Struct, frozen=True, kw_only=True):
    """One domain at one moment."""

    vm_id: str
    name: str
    state: DomainState
    reason: str  # libvirt's word for the state: booted, user, ioerror, shutdown, destroyed, crashed, failed, ...
    persistent: bool
    autostart: bool
    xml: str  # of the running machine, else of the definition; without secrets


class DiskSample(msgspec.Struct, frozen=True, kw_only=True):
    """Counters since the start, sizes in bytes."""

    name: str
    read_ops: int = 0
    read_bytes: int = 0
    read_ns: int = 0  # that the operations took, all together
    write_ops: int = 0
    written_bytes: int = 0
    write_ns: int = 0
    flush_ops: int = 0
    flush_ns: int = 0
    allocation: int = 0
    capacity: int = 0
    physical: int = 0


class NicSample(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    rx_bytes: int = 0
    rx_errors: int = 0
    rx_dropped: int = 0
    tx_bytes: int = 0
    tx_errors: int = 0
    tx_dropped: int = 0


class DomainSample(msgspec.Struct, frozen=True, kw_only=True):
    """What one domain used so far. With `answers` false QEMU did not reply; only the kernel's counters are new."""

    vm_id: str
    state: DomainState
    answers: bool = True
    cpu_ns: int = 0
    cpu_user_ns: int = 0
    cpu_system_ns: int = 0
    vcpus: int = 0
    balloon: dict[str, int] = {}  # KiB, libvirt's names without "balloon.": current, maximum, unused, available, rss
    disks: list[DiskSample] = []
    nics: list[NicSample] = []


class CommitJob(msgspec.Struct, frozen=True, kw_only=True):
    """Layers of a disk being written down into a lower one."""

    active: bool  # the layer that is written to is among them; such a job waits, once it has caught up, to be ended
    ready: bool  # it has caught up
    cur: int = 0  # bytes
    end: int = 0
    bandwidth: int = 0  # MiB/s; 0: no limit


class HypervisorFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What this host's hypervisor offers; read once per connection."""

    libvirt_version: str  # "9.0.0"
    qemu_version: str
    arch: str  # x86_64
    kvm: bool  # a KVM guest really boots: tried, not guessed
    kvm_reason: str  # why not, in words; empty if it does
    machine_types: list[str]
    default_machine: str
    cpu_model: str  # libvirt's name of the host's CPU, "EPYC-Rome"
    cpu_vendor: str
    cpu_features: list[str]
    custom_cpu_models: list[str]  # usable as cpuModel
    firmware: list[str]  # bios, uefi
    uefi_code: str  # path of the read-only UEFI image; empty without
    uefi_vars: str  # path of its variable template
    numa_cells: list[NumaCell]
    iothreads_max: int = 0


class NumaCell(msgspec.Struct, frozen=True, kw_only=True):
    id: int
    memory_kib: int
    cpus: list[CpuPlace]
    distances: list[int]


class CpuPlace(msgspec.Struct, frozen=True, kw_only=True):
    cpu_id: int
    socket_id: int
    core_id: int


class DomainEventKind(enum.StrEnum):
    DEFINED = "defined"
    UNDEFINED = "undefined"
    STARTED = "started"
    SUSPENDED = "suspended"
    RESUMED = "resumed"
    SHUTDOWN = "shutdown"  # the guest is going down
    STOPPED = "stopped"
    REBOOTED = "rebooted"
    DEVICES = "devices"  # a device came, went, or changed (CD tray included)
    DISK_JOB = "disk-job"  # ready, completed, failed, canceled
    IO_ERROR = "io-error"  # of a disk, and the machine stops for it: enospc, eother; SUSPENDED follows
    AGENT = "agent"  # the guest agent came or went
    LOST = "connection-lost"  # vm_id is empty: libvirt itself went away
    BACK = "connection-back"  # vm_id is empty: read everything again


class DomainEvent(msgspec.Struct, frozen=True, kw_only=True):
    kind: DomainEventKind
    vm_id: str = ""
    name: str = ""
    detail: str = ""  # libvirt's word: booted, shutdown, destroyed, crashed, failed, paused, ioerror, connected, ...
    guest_asked: bool = False  # SHUTDOWN: the guest itself began it


class ShutdownWay(enum.StrEnum):
    AGENT = "agent"
    ACPI = "acpi"


class Hypervisor(Protocol):
    """Everything the core asks of libvirt."""

    def watch(self, sink: Callable[[DomainEvent], None]) -> None:
        """Call `sink` on the event loop for whatever happens, in order. Set before `open`."""

    async def open(self) -> None:
        """Connect, and stay connected: reconnects by itself and says LOST and BACK.

        Does not raise when libvirt is away at first; calls do, until it is there.
        """

    async def close(self) -> None: ...

    async def facts(self) -> HypervisorFacts: ...

    async def domains(self) -> Sequence[Domain]:
        """All of them, running or not."""

    async def domain(self, vm_id: str) -> Domain: ...

    async def io_error(self, vm_id: str) -> str:
        """Why a disk stopped the machine, in the words of IO_ERROR; empty when none did.

        To be asked of one that stands for it: QEMU 7.2 keeps the first reason, also when the machine goes on.
        """

    async def samples(self) -> Sequence[DomainSample]:
        """Counters of every running domain, in one call; one that hangs is there with `answers` false."""

    async def define(self, xml: str) -> None:
        """Define or redefine."""

    async def undefine(self, vm_id: str) -> None:
        """Remove the definition, with its NVRAM and managed save."""

    async def start(self, vm_id: str, *, paused: bool) -> None: ...

    async def power_off(self, vm_id: str, *, graceful: bool) -> None:
        """Cut the power. `graceful`: give QEMU the time to flush, fail rather than kill it."""

    async def ask_shutdown(self, vm_id: str, way: ShutdownWay, *, reboot: bool) -> None:
        """Ask the guest; returns as soon as it was asked. Raises NonResponsiveGuestAgent if it cannot be asked so."""

    async def suspend(self, vm_id: str) -> None: ...

    async def resume(self, vm_id: str) -> None: ...

    async def reset(self, vm_id: str) -> None: ...

    async def set_autostart(self, vm_id: str, enabled: bool) -> None: ...

    async def rename(self, vm_id: str, name: str) -> None: ...

    async def screenshot(self, vm_id: str) -> tuple[str, bytes]:
        """MIME type and picture. Raises NoDisplay."""

    async def set_ticket(self, vm_id: str, password: Secret, *, ttl: int, on_conflict: str) -> None:
        """Set the graphics password, good for `ttl` seconds (0: always). Raises TicketError."""

    async def change_cd(self, vm_id: str, path: str) -> None:
        """Change the first CD drive's disc, in the running machine and the definition. Raises ChangeDiskFailed."""

    # Disks of running machines. A `drive` is a disk's name in its document ("vda"); what is done to a running machine
    # is also done to its definition. The document of a running machine names all layers of each disk.

    async def freeze(self, vm_id: str, *, patience: float) -> None:
        """Let the guest flush and freeze its file systems; the agent has `patience` seconds to answer.

        Raises NonResponsiveGuestAgent, FreezeGuestFSFailed.
        """

    async def thaw(self, vm_id: str, *, patience: float) -> None:
        """Not frozen is fine. Raises NonResponsiveGuestAgent, ThawGuestFSFailed."""

    async def add_layers(self, vm_id: str, layers: Mapping[str, str], *, quiesce: float | None) -> None:
        """Let each drive write to another file, a qcow2 image made for it, from one moment on; or none of them.

        `quiesce`: with the guest's file systems frozen at that moment, the agent having so many seconds for an answer.
        Raises NonResponsiveGuestAgent, having changed nothing.
        """

    async def begin_commit(self, vm_id: str, drive: str, *, top: str, base: str, bandwidth: int) -> None:
        """Begin to write what `top` and the layers between hold down into `base`, named as in the document.

        `bandwidth`: MiB/s, 0: no limit. The new document comes with DISK_JOB "completed".
        """

    async def commit_job(self, vm_id: str, drive: str) -> CommitJob | None:
        """None: there is none, or no more."""

    async def end_commit(self, vm_id: str, drive: str, *, pivot: bool) -> None:
        """`pivot`: write to the base from now on; else stop the job and leave the layers as they are.

        No job is fine.
        """

    async def resize_disk(self, vm_id: str, drive: str, size: int) -> None:
        """Tell the guest, growing the file where it is smaller. Bytes."""

    async def attach_disk(self, vm_id: str, xml: str) -> None:
        """Plug a <disk> in."""

    async def ask_detach(self, vm_id: str, drive: str) -> None:
        """Ask the guest to let go of a disk: it is gone when the document shows it no more. Not there is fine."""

    async def drop_disk(self, vm_id: str, drive: str) -> None:
        """Take a disk out of the definition. Not there is fine."""

    async def settled(self, vm_id: str) -> None:
        """Return when no earlier change to its disks is still under way, also none whose caller gave it up."""

    async def open_console(self, vm_id: str, *, force: bool) -> ByteStream:
        """The first serial port. Raises NoSerialConsole, ConsoleInUse."""

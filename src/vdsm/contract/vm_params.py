# SPDX-License-Identifier: Apache-2.0
"""What a virtual machine is asked to be. Sizes in MiB, one typed field per idea; the rest of libvirt is raw XML."""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec
from msgspec import Meta

from ._verb import Needs
from .access import Privilege
from .types import END, HostPath, Input, MacAddress, Uuid, VmName

Word = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}" + END, description="Letters, digits and _ . + -.")
]
NetworkName = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}" + END, description="A libvirt network, or a bridge of the host.")
]
DiskSource = Annotated[
    str,
    Meta(
        pattern=r"^(/[^\x00-\x1f\x7f]{0,4094}|[A-Za-z0-9_][A-Za-z0-9_.+@-]{0,127}|[0-9a-f-]{36}(/[0-9a-f-]{36}){2})"
        + END,
        description="Name or id of a disk of this host's storage, the ids DOMAIN/IMAGE/VOLUME of the volume it is "
        "written to in, or the absolute path of a file the host may use.",
        examples=["web1-root"],
    ),
]
Cmdline = Annotated[
    str, Meta(pattern=r"^[^\x00-\x1f\x7f]{0,2048}" + END, description="Kernel command line, one line of text.")
]
DomainXml = Annotated[
    str, Meta(min_length=1, max_length=1_048_576, description="A libvirt <domain>."), Needs(Privilege.VM_RAW_XML)
]


class Firmware(enum.StrEnum):
    BIOS = "bios"
    UEFI = "uefi"


class CpuMode(enum.StrEnum):
    """As libvirt's: `host-passthrough` falls back to `maximum` where KVM cannot run guests."""

    HOST_PASSTHROUGH = "host-passthrough"
    HOST_MODEL = "host-model"
    MAXIMUM = "maximum"
    CUSTOM = "custom"


class DiskFormat(enum.StrEnum):
    RAW = "raw"
    QCOW2 = "qcow2"


class DiskBus(enum.StrEnum):
    VIRTIO = "virtio"
    SCSI = "scsi"
    SATA = "sata"


class NicKind(enum.StrEnum):
    NETWORK = "network"  # a libvirt network
    BRIDGE = "bridge"  # a bridge of the host
    USER = "user"  # NAT inside QEMU: needs no privilege and no set-up


class NicModel(enum.StrEnum):
    VIRTIO = "virtio"
    E1000 = "e1000"
    E1000E = "e1000e"
    RTL8139 = "rtl8139"


class GraphicsKind(enum.StrEnum):
    VNC = "vnc"


class BootDevice(enum.StrEnum):
    HD = "hd"
    CDROM = "cdrom"
    NETWORK = "network"


class Disk(Input, frozen=True, kw_only=True):
    """A disk that exists. A file's format is stated, never guessed from the file; a disk of the storage has its own."""

    path: DiskSource
    format: Annotated[DiskFormat | None, Meta(description="Of a file: raw unless said.")] = None
    volume: Annotated[
        Uuid | None, Meta(description="Of a disk of the storage: which of its volumes must be the one written to.")
    ] = None
    bus: DiskBus = DiskBus.VIRTIO
    read_only: bool = False


class Nic(Input, frozen=True, kw_only=True):
    """A network interface; `source` names the network or bridge and is empty for `user`."""

    kind: NicKind = NicKind.USER
    source: NetworkName | None = None
    mac: MacAddress | None = None
    model: NicModel = NicModel.VIRTIO

    def __post_init__(self) -> None:
        if (self.source is None) != (self.kind is NicKind.USER):
            raise ValueError("a nic of kind network or bridge names its source, one of kind user has none")


class Graphics(Input, frozen=True, kw_only=True):
    """A graphical console on the loopback address, closed until `VM.setTicket` opens it."""

    kind: GraphicsKind = GraphicsKind.VNC


class VmParams(Input, frozen=True, kw_only=True):
    """A virtual machine in types, or, in `xml`, as a whole libvirt document."""

    name: VmName | None = None
    memory: Annotated[int, Meta(ge=16, le=16_777_216, description="MiB.")] | None = None
    vcpus: Annotated[int, Meta(ge=1, le=710)] = 1
    cpu_mode: CpuMode = CpuMode.HOST_PASSTHROUGH
    cpu_model: Word | None = None
    machine_type: Word | None = None
    firmware: Firmware = Firmware.BIOS
    disks: Annotated[list[Disk], Meta(max_length=24, description="For one of the storage its name is enough.")] = []
    cdrom: HostPath | None = None
    nics: Annotated[list[Nic], Meta(max_length=16)] = []
    graphics: Graphics | None = Graphics()
    serial: bool = True
    guest_agent: bool = True
    kernel: HostPath | None = None
    initrd: HostPath | None = None
    cmdline: Cmdline = ""
    boot_order: Annotated[list[BootDevice], Meta(max_length=3)] = []
    launch_paused: bool = False
    xml: DomainXml | None = None

    def __post_init__(self) -> None:
        if self.xml is not None:
            if extra := [f for f in _SHAPE if getattr(self, f) != _DEFAULTS[f]]:
                raise ValueError(f"xml says it all: leave out {', '.join(extra)}")
            return
        if self.name is None or self.memory is None:
            raise ValueError("name and memory are required, or else xml")
        if (self.cpu_model is not None) != (self.cpu_mode is CpuMode.CUSTOM):
            raise ValueError("cpuModel goes with cpuMode custom, and only with it")
        if self.kernel is None and (self.initrd or self.cmdline):
            raise ValueError("initrd and cmdline need a kernel")
        if len(set(self.boot_order)) != len(self.boot_order):
            raise ValueError("bootOrder names a device twice")


_FIELDS = msgspec.structs.fields(VmParams)
_DEFAULTS = {f.name: f.default if f.default_factory is msgspec.NODEFAULT else f.default_factory() for f in _FIELDS}
_SHAPE = [name for name in _DEFAULTS if name not in ("xml", "launch_paused")]

# SPDX-License-Identifier: Apache-2.0
"""One simulated machine: what its XML says, how it stands, and counters that move with the clock."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field

import msgspec

from vdsm.contract.errors import HypervisorError
from vdsm.core.ports.hypervisor import DiskSample, Domain, DomainSample, DomainState, NicSample

_KIB = {"b": 1 / 1024, "bytes": 1 / 1024, "KiB": 1, "k": 1, "MiB": 1024, "M": 1024, "GiB": 1024**2, "G": 1024**2}
AGENT = "org.qemu.guest_agent.0"
_CPU_SHARE = 0.02  # an idle guest's use of one processor
_DISK_BYTES_PER_S = 8192
_NIC_BYTES_PER_S = 512


@dataclass(frozen=True, slots=True)
class Shape:
    """The part of a definition that the simulation acts on."""

    name: str
    vm_id: str
    memory_kib: int
    vcpus: int
    disks: tuple[str, ...]
    nics: int
    serial: bool
    graphics: bool
    cdrom: bool
    agent: bool


def read_shape(xml: str) -> Shape:
    """Raises HypervisorError, as libvirt would, for what is not a domain."""
    root = _parse(xml)
    name, vm_id = root.findtext("name", ""), root.findtext("uuid", "").lower()
    memory = root.find("memory")
    if root.tag != "domain" or not name or memory is None or not memory.text:
        raise HypervisorError(what="the definition", reason="XML error: <domain> needs a name and a memory")
    return Shape(
        name=name,
        vm_id=vm_id,
        memory_kib=int(int(memory.text) * _KIB.get(memory.get("unit", "KiB"), 1)),
        vcpus=int(root.findtext("vcpu", "1")),
        disks=tuple(t.get("dev", "") for t in root.findall("devices/disk/target")),
        nics=len(root.findall("devices/interface")),
        serial=any(root.find(f"devices/{kind}") is not None for kind in ("serial", "console")),
        graphics=root.find("devices/graphics") is not None,
        cdrom=root.find("devices/disk[@device='cdrom']") is not None,
        agent=any(t.get("name") == AGENT for t in root.findall("devices/channel/target")),
    )


def _parse(xml: str) -> ET.Element:
    try:
        return ET.XML(xml)
    except ET.ParseError as error:
        raise HypervisorError(what="the definition", reason=f"XML error: {error}") from None


def with_text(xml: str, tag: str, text: str) -> str:
    """The document with `<tag>` below the root saying `text`."""
    root = _parse(xml)
    element = root.find(tag)
    if element is None:
        element = ET.Element(tag)
        root.insert(0, element)
    element.text = text
    return ET.tostring(root, encoding="unicode")


def with_disc(xml: str, path: str) -> str:
    """The document with another disc in its first CD drive; none for an empty path."""
    root = _parse(xml)
    drive = root.find("devices/disk[@device='cdrom']")
    if drive is None:
        return xml
    for source in drive.findall("source"):
        drive.remove(source)
    if path:
        drive.set("type", "file")
        ET.SubElement(drive, "source", file=path)
    return ET.tostring(root, encoding="unicode")


def without_passwords(xml: str) -> str:
    """What libvirt shows of a document."""
    if "passwd=" not in xml:
        return xml
    root = _parse(xml)
    for graphics in root.findall("devices/graphics"):
        graphics.attrib.pop("passwd", None)
    return ET.tostring(root, encoding="unicode")


def bring_to_life(xml: str, number: int) -> str:
    """The running machine's document: what libvirt adds when it starts a domain."""
    root = _parse(xml)
    root.set("id", str(number))
    for position, nic in enumerate(root.findall("devices/interface")):
        if nic.find("target") is None:
            ET.SubElement(nic, "target", dev=f"vnet{number * 16 + position}")
    for graphics in root.findall("devices/graphics"):
        graphics.set("port", str(5900 + number))
    return ET.tostring(root, encoding="unicode")


@dataclass(slots=True)
class Job:
    """Layers of a disk on their way down."""

    top: str
    base: str
    active: bool
    until: float  # monotonic seconds
    bandwidth: int = 0
    ready: bool = False


@dataclass(slots=True)
class Machine:
    """A machine and its state. Changes are made by the hypervisor; here are only its own numbers."""

    shape: Shape
    definition: str
    number: int = -1
    live: str = ""
    state: DomainState = DomainState.SHUT_OFF
    reason: str = "unknown"
    persistent: bool = True
    autostart: bool = False
    booting: bool = False  # its agent has not spoken yet
    io_error: str = ""  # why a disk first stopped it
    password: str = ""
    conflict: str = ""
    frozen: bool = False  # its file systems
    jobs: dict[str, Job] = field(default_factory=dict)  # by drive
    _ran_s: float = 0.0
    _since: float | None = None

    @property
    def active(self) -> bool:
        return self.state is not DomainState.SHUT_OFF

    def enter(self, state: DomainState, reason: str) -> None:
        """Change the state; the clock of the counters runs only while the processors do."""
        now = time.monotonic()
        if self._since is not None:
            self._ran_s += now - self._since
        self._since = now if state in (DomainState.RUNNING, DomainState.SHUTTING_DOWN) else None
        if state is DomainState.SHUT_OFF:
            self._ran_s, self.live, self.number, self.io_error = 0.0, "", -1, ""
            self.frozen = False
            self.jobs.clear()
        self.state, self.reason = state, reason

    def shape_has(self, drive: str) -> bool:
        """Whether the running machine has a disk of that name."""
        return any(target.get("dev") == drive for target in _parse(self.live).findall("devices/disk/target"))

    def ran_s(self) -> float:
        return self._ran_s + (0.0 if self._since is None else time.monotonic() - self._since)

    def domain(self) -> Domain:
        return Domain(
            vm_id=self.shape.vm_id,
            name=self.shape.name,
            state=self.state,
            reason=self.reason,
            persistent=self.persistent,
            autostart=self.autostart,
            xml=self.live or self.definition,
        )

    def sample(self, *, answers: bool) -> DomainSample:
        """Counters of a running machine; without its QEMU's part if that does not answer."""
        ran, shape = self.ran_s(), self.shape
        cpu = int(ran * 1e9 * _CPU_SHARE)
        outside = DomainSample(
            vm_id=shape.vm_id,
            state=self.state,
            answers=answers,
            cpu_ns=cpu,
            cpu_user_ns=cpu * 3 // 4,
            cpu_system_ns=cpu - cpu * 3 // 4,
            vcpus=shape.vcpus,
            nics=[self._nic(position, ran) for position in range(shape.nics)],
        )
        if not answers:
            return outside
        return msgspec.structs.replace(
            outside, balloon=self._balloon(ran), disks=[_disk(name, ran) for name in shape.disks]
        )

    def _balloon(self, ran: float) -> dict[str, int]:
        memory = self.shape.memory_kib
        return {
            "current": memory,
            "maximum": memory,
            "available": memory * 95 // 100,
            "unused": memory * (60 + int(ran) % 10) // 100,
            "rss": memory // 2,
        }

    def _nic(self, position: int, ran: float) -> NicSample:
        moved = int(ran * _NIC_BYTES_PER_S)
        return NicSample(name=f"vnet{self.number * 16 + position}", rx_bytes=moved, tx_bytes=moved // 2)


def _disk(name: str, ran: float) -> DiskSample:
    moved = int(ran * _DISK_BYTES_PER_S)
    return DiskSample(
        name=name,
        read_ops=moved // 4096,
        read_bytes=moved,
        write_ops=moved // 8192,
        written_bytes=moved // 2,
        allocation=1 << 20,
        capacity=1 << 30,
        physical=1 << 20,
    )

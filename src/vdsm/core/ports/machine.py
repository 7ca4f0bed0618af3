# SPDX-License-Identifier: Apache-2.0
"""The computer under the host: processors, memory, firmware, system software.

Texts come without control characters. What cannot be read is empty, zero or None; a method only raises
DeadlineExceeded, when the computer itself does not answer in the time `deadline.remaining` leaves, and TooBusy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec


class Hardware(msgspec.Struct, frozen=True, kw_only=True):
    """The firmware's words."""

    manufacturer: str = ""
    product: str = ""
    version: str = ""
    serial: str = ""
    family: str = ""
    uuid: str = ""


class MachineFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What stays until the next boot."""

    arch: str  # x86_64
    kernel_release: str  # 6.1.0-18-amd64
    kernel_args: str
    realtime_kernel: bool = False
    boot_id: str
    boot_time: int  # seconds since 1970
    cpu_model: str
    cpu_flags: list[str]
    tsc_hz: int = 0  # 0: unknown or not steady
    huge_page_sizes_kib: list[int] = []


class Processor(msgspec.Struct, frozen=True, kw_only=True):
    id: int
    socket: int = 0
    die: int = 0
    core: int = 0
    node: int = 0


class MemoryNode(msgspec.Struct, frozen=True, kw_only=True):
    id: int
    cpus: list[int]
    memory_kib: int
    distances: list[int]
    huge_pages: dict[int, int] = {}  # page size in KiB -> pages


class SystemRelease(msgspec.Struct, frozen=True, kw_only=True):
    id: str = ""  # debian
    version: str = ""  # 12
    point: str = ""  # 5 of 12.5
    pretty_name: str = ""


class FibreChannelPort(msgspec.Struct, frozen=True, kw_only=True):
    wwpn: str
    wwnn: str
    model: str = ""


class MachineSetup(msgspec.Struct, frozen=True, kw_only=True):
    """What an administrator can change while the host is up."""

    host_uuid: str
    system: SystemRelease = SystemRelease()
    memory_kib: int
    processors: list[Processor]  # online ones
    own_cpus: list[int]  # that the daemon may run on
    cpu_mhz: float = 0.0
    nodes: list[MemoryNode]
    numa_balancing: bool | None = None
    hwrng: bool = False
    iommu: bool = False
    nested_virtualization: bool = False
    selinux_enforcing: bool | None = None  # None: no SELinux
    fips: bool = False
    kdump_loaded: bool | None = None
    vnc_tls: bool = False
    iscsi_initiator: str = ""
    fibre_channel: list[FibreChannelPort] = []


class CpuTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds since boot."""

    user: float = 0.0
    system: float = 0.0  # kernel, interrupts, and what a hypervisor around this computer took
    idle: float = 0.0


class HugePagePool(msgspec.Struct, frozen=True, kw_only=True):
    total: int = 0
    free: int = 0


class NodeSample(msgspec.Struct, frozen=True, kw_only=True):
    total_kib: int = 0
    free_kib: int = 0
    free_huge_pages: dict[int, int] = {}  # page size in KiB -> pages


class KsmSample(msgspec.Struct, frozen=True, kw_only=True):
    """Kernel same-page merging."""

    running: bool = False
    pages_to_scan: int = 0
    saved_kib: int = 0
    merge_across_nodes: bool = False
    cpu_s: float = 0.0  # its thread, since boot


class MachineSample(msgspec.Struct, frozen=True, kw_only=True):
    """Counters at one moment."""

    taken: float  # seconds of the monotonic clock, which begins at boot
    cpu: CpuTimes = CpuTimes()  # of all processors together
    cpus: dict[int, CpuTimes] = {}
    load: float = 0.0  # over a minute
    memory_kib: int = 0
    available_kib: int = 0
    swap_kib: int = 0
    swap_free_kib: int = 0
    anon_huge_kib: int = 0
    huge_pages: dict[int, HugePagePool] = {}  # by page size in KiB
    nodes: dict[int, NodeSample] = {}
    transparent_huge_pages: str = ""  # always, madvise, never
    ksm: KsmSample = KsmSample()
    own_user_s: float = 0.0  # the daemon itself, since its start
    own_system_s: float = 0.0
    free_bytes: dict[str, int] = {}  # by directory


class Machine(Protocol):
    """Everything the core asks of the computer."""

    async def hardware(self) -> Hardware:
        """Raises CannotRetrieveHWInfo when there is a description but it may not be read."""

    async def facts(self) -> MachineFacts: ...

    async def setup(self) -> MachineSetup: ...

    async def packages(self, names: Sequence[str]) -> dict[str, str]:
        """The distribution's version of each installed package of these."""

    async def sample(self) -> MachineSample: ...

    async def close(self) -> None: ...

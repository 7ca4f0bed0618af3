# SPDX-License-Identifier: Apache-2.0
"""The `Machine` port in memory: the computer under the simulated hypervisor, whose counters move with the clock."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence

from vdsm.core.ports.machine import (
    CpuTimes,
    Hardware,
    HugePagePool,
    KsmSample,
    MachineFacts,
    MachineSample,
    MachineSetup,
    MemoryNode,
    NodeSample,
    Processor,
    SystemRelease,
)

from .delay import delayed
from .facts import FACTS

_FREE = 0.75  # of the memory
_USER, _SYSTEM = 0.04, 0.01  # of each processor
_PAGES_2M = 64  # per node
_ID = uuid.UUID("5f0c1a3e-6d0b-4d0f-9a55-0d7a3e1c2b11")
_INSTALLED = {
    "libvirt-daemon": "9.0.0-4+deb12u2",
    "qemu-system-x86": "1:7.2+dfsg-7+deb12u13",
    "qemu-utils": "1:7.2+dfsg-7+deb12u13",
    "libspice-server1": "0.15.1-1",
}


class SimulatedMachine:
    """Every answer takes `delay` seconds."""

    def __init__(self, delay: float = 0.0) -> None:
        self.delay = delay
        self._boot_time = int(time.time() - time.monotonic())
        self._boot_id = str(uuid.uuid4())
        self._began = time.process_time()
        self._nodes = [
            MemoryNode(
                id=cell.id,
                cpus=[cpu.cpu_id for cpu in cell.cpus],
                memory_kib=cell.memory_kib,
                distances=cell.distances,
                huge_pages={2048: _PAGES_2M, 1048576: 0},
            )
            for cell in FACTS.numa_cells
        ]
        self._processors = [
            Processor(id=cpu.cpu_id, socket=cpu.socket_id, core=cpu.core_id, node=cell.id)
            for cell in FACTS.numa_cells
            for cpu in cell.cpus
        ]

    async def hardware(self) -> Hardware:
        await delayed("the machine", self.delay)
        return Hardware(manufacturer="vdsm", product="Simulated host", version="1", serial="0", uuid=str(_ID))

    async def facts(self) -> MachineFacts:
        await delayed("the machine", self.delay)
        return MachineFacts(
            arch=FACTS.arch,
            kernel_release="6.1.0-18-amd64",
            kernel_args="quiet",
            boot_id=self._boot_id,
            boot_time=self._boot_time,
            cpu_model="AMD EPYC 7402",
            cpu_flags=["fpu", "lm", "nx", "svm", "constant_tsc", "nonstop_tsc"],
            tsc_hz=2_800_000_000,
            huge_page_sizes_kib=[2048, 1048576],
        )

    async def setup(self) -> MachineSetup:
        await delayed("the machine", self.delay)
        return MachineSetup(
            host_uuid=str(_ID),
            system=SystemRelease(id="debian", version="12", point="5", pretty_name="Debian GNU/Linux 12 (bookworm)"),
            memory_kib=sum(node.memory_kib for node in self._nodes),
            processors=self._processors,
            own_cpus=[cpu.id for cpu in self._processors],
            cpu_mhz=2800.0,
            nodes=self._nodes,
            numa_balancing=True,
            hwrng=True,
            iscsi_initiator="iqn.1993-08.org.debian:01:simulated",
        )

    async def packages(self, names: Sequence[str]) -> dict[str, str]:
        await delayed("the machine", self.delay)
        return {name: _INSTALLED[name] for name in names if name in _INSTALLED}

    async def sample(self) -> MachineSample:
        await delayed("the machine", self.delay)
        now = time.monotonic()
        memory = sum(node.memory_kib for node in self._nodes)
        pages = _PAGES_2M * len(self._nodes)
        return MachineSample(
            taken=now,
            cpu=_times(now * len(self._processors)),
            cpus={cpu.id: _times(now) for cpu in self._processors},
            load=len(self._processors) * _USER,
            memory_kib=memory,
            available_kib=int(memory * _FREE),
            huge_pages={2048: HugePagePool(total=pages, free=pages), 1048576: HugePagePool()},
            nodes={
                node.id: NodeSample(
                    total_kib=node.memory_kib, free_kib=int(node.memory_kib * _FREE), free_huge_pages=node.huge_pages
                )
                for node in self._nodes
            },
            transparent_huge_pages="madvise",
            ksm=KsmSample(pages_to_scan=100, merge_across_nodes=True),
            own_user_s=time.process_time() - self._began,
            free_bytes={"/": 20 * 1024**3},
        )

    async def close(self) -> None:
        return None


def _times(seconds: float) -> CpuTimes:
    return CpuTimes(user=seconds * _USER, system=seconds * _SYSTEM, idle=seconds * (1 - _USER - _SYSTEM))

# SPDX-License-Identifier: Apache-2.0
"""Counters -> statistics. Samples are taken when somebody asks, at most one a second, in one call for all machines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from vdsm.contract.errors import DeadlineExceeded
from vdsm.contract.vm_info import VmDevice, VmState
from vdsm.contract.vm_stats import BalloonInfo, DiskStats, MemoryStats, NicStats, VmJob, VmStats
from vdsm.core import background
from vdsm.core.ports.deadline import remaining
from vdsm.core.ports.hypervisor import DiskSample, DomainSample, Hypervisor

from .machine import Machine

FRESH = 1.0  # seconds a sample is good for
PATIENCE = 60.0  # seconds for one sample; drivers have limits of their own, far below
_KIB_PER_MIB = 1024
WINDOW = 5.0  # seconds over which rates are taken, when there is a sample that old


@dataclass(frozen=True, slots=True)
class Round:
    """All samples of one call."""

    taken: float  # monotonic seconds
    samples: dict[str, DomainSample]


_NONE = Round(0.0, {})


class Sampler:
    """Two rounds: the newest, and one old enough to take rates from."""

    def __init__(self, hypervisor: Hypervisor, jobs: Callable[[str], dict[str, VmJob]]) -> None:
        self._hypervisor = hypervisor
        self._jobs = jobs  # of a machine's disks
        self._new = _NONE
        self._old = _NONE
        self._asking: asyncio.Task[None] | None = None

    async def refresh(self) -> None:
        """See that the newest round is fresh; callers at the same time share one call. Raises DeadlineExceeded."""
        if time.monotonic() - self._new.taken < FRESH:
            return
        if self._asking is None:
            self._asking = background.begin(self._ask(), name="samples")
            self._asking.add_done_callback(self._asked)
        asking, seconds = self._asking, remaining(PATIENCE)
        if not (await asyncio.wait([asking], timeout=seconds))[0]:
            raise DeadlineExceeded(what="statistics of the machines", seconds=f"{seconds:.3g}")
        asking.result()

    async def refresh_if_running(self, machines: Iterable[Machine]) -> None:
        if any(machine.active for machine in machines):
            await self.refresh()

    def _asked(self, asking: asyncio.Task[None]) -> None:
        self._asking = None
        if not asking.cancelled():
            asking.exception()  # whoever waited has it; with nobody left it is of no interest

    async def _ask(self) -> None:
        samples = await self._hypervisor.samples()
        if self._new.taken - self._old.taken >= WINDOW or not self._old.samples:
            self._old = self._new
        self._new = Round(time.monotonic(), {sample.vm_id: sample for sample in samples})

    def cpu_percent(self, machine: Machine) -> float | None:
        """Of one CPU, since the older round; None while there is only one, and of what does not run."""
        new, old, seconds = self._pair(machine.vm_id)
        if not machine.active or new is None or old is None or seconds <= 0:
            return None
        return _percent(new.cpu_ns - old.cpu_ns, seconds)

    def _pair(self, vm_id: str) -> tuple[DomainSample | None, DomainSample | None, float]:
        new, old = self._new.samples.get(vm_id), self._old.samples.get(vm_id)
        if new is not None and old is not None and new.cpu_ns < old.cpu_ns:
            old = None  # it was started anew in between
        return new, old, self._new.taken - self._old.taken

    def stats(self, machine: Machine) -> VmStats:
        """Of a machine that runs, with what the newest round has; of one that does not, how it ended."""
        new, old, seconds = self._pair(machine.vm_id)
        if machine.status is VmState.DOWN or new is None:
            return _stats(machine, jobs=self._jobs(machine.vm_id))
        system = new.cpu_system_ns - old.cpu_system_ns if old else 0
        total = new.cpu_ns - old.cpu_ns if old else 0
        return _stats(
            machine,
            cpu_user=_percent(max(total - system, 0), seconds),
            cpu_sys=_percent(system, seconds),
            jobs=self._jobs(machine.vm_id),
            sample=new,
            taken=self._new.taken,
            disks=_disks(new, old, seconds, machine.view.images),
        )


def _percent(nanoseconds: int, seconds: float) -> float:
    return round(max(nanoseconds, 0) / 1e7 / seconds, 2) if seconds > 0 else 0.0


def _stats(
    machine: Machine,
    *,
    jobs: dict[str, VmJob],
    cpu_user: float = 0.0,
    cpu_sys: float = 0.0,
    sample: DomainSample | None = None,
    taken: float = 0.0,
    disks: dict[str, DiskStats] | None = None,
) -> VmStats:
    view, end = machine.view, machine.exit
    return VmStats(
        vm_id=machine.vm_id,
        vm_name=machine.name,
        status=machine.status,
        status_time=str(machine.status_time),
        foreign=not machine.ours,
        hash=view.hash,
        accelerator=view.accelerator,
        elapsed_time=machine.elapsed() or 0,
        cpu_user=cpu_user,
        cpu_sys=cpu_sys,
        cpu_usage=sample.cpu_ns if sample else 0,
        vcpu_count=view.vcpus,
        mem_usage=_used_percent(sample),
        memory_stats=_memory(sample),
        balloon_info=_balloon(sample),
        disks=disks or {},
        network=_nics(sample, view.devices, taken) if sample and sample.nics else {},
        display_info=view.displays if machine.active else [],
        vm_jobs=jobs,
        time_offset=view.time_offset,
        monitor_response=0 if sample is None or sample.answers else -1,
        kvm_enable=view.accelerator == "kvm",
        sampled=taken,
        exit_code=end.code if end else None,
        exit_reason=end.reason if end else None,
        exit_message=end.message if end else "",
        pause_code=machine.pause_code or "NOERR",
    )


def _used_percent(sample: DomainSample | None) -> int:
    if sample is None or not (available := sample.balloon.get("available")):
        return 0
    return round(100 * (available - sample.balloon.get("unused", available)) / available)


def _memory(sample: DomainSample | None) -> MemoryStats | None:
    if sample is None or "unused" not in sample.balloon:
        return None
    kib = sample.balloon
    unused = kib["unused"]
    return MemoryStats(
        mem_free=kib.get("usable", unused) // _KIB_PER_MIB,
        mem_unused=unused // _KIB_PER_MIB,
        mem_available=kib.get("available", 0) // _KIB_PER_MIB,
    )


def _balloon(sample: DomainSample | None) -> BalloonInfo | None:
    if sample is None or "current" not in sample.balloon:
        return None
    current = sample.balloon["current"]
    most = sample.balloon.get("maximum", current)
    return BalloonInfo(balloon_cur=current, balloon_max=most, balloon_min=0, balloon_target=current)


def _nics(sample: DomainSample, devices: Iterable[VmDevice], taken: float) -> dict[str, NicStats]:
    macs = {d.name: d.mac_addr for d in devices if d.type == "interface"}
    return {
        nic.name: NicStats(
            name=nic.name,
            mac_addr=macs.get(nic.name, ""),
            rx=nic.rx_bytes,
            tx=nic.tx_bytes,
            rx_errors=nic.rx_errors,
            tx_errors=nic.tx_errors,
            rx_dropped=nic.rx_dropped,
            tx_dropped=nic.tx_dropped,
            sample_time=taken,
            speed=1000,
            state="up",
        )
        for nic in sample.nics
    }


def _disks(
    new: DomainSample, old: DomainSample | None, seconds: float, images: Mapping[str, str]
) -> dict[str, DiskStats]:
    before = {disk.name: disk for disk in old.disks} if old else {}
    return {disk.name: _disk(disk, before.get(disk.name, disk), seconds, images.get(disk.name)) for disk in new.disks}


def _disk(new: DiskSample, old: DiskSample, seconds: float, image: str | None) -> DiskStats:
    return DiskStats(
        image_id=image,
        truesize=new.allocation,
        apparentsize=new.capacity,
        read_rate=round((new.read_bytes - old.read_bytes) / seconds, 2) if seconds > 0 else 0.0,
        write_rate=round((new.written_bytes - old.written_bytes) / seconds, 2) if seconds > 0 else 0.0,
        read_ops=new.read_ops,
        write_ops=new.write_ops,
        read_bytes=new.read_bytes,
        written_bytes=new.written_bytes,
        read_latency=_each(new.read_ns - old.read_ns, new.read_ops - old.read_ops),
        write_latency=_each(new.write_ns - old.write_ns, new.write_ops - old.write_ops),
        flush_latency=_each(new.flush_ns - old.flush_ns, new.flush_ops - old.flush_ops),
    )


def _each(nanoseconds: int, operations: int) -> int:
    return max(nanoseconds, 0) // operations if operations > 0 else 0

# SPDX-License-Identifier: Apache-2.0
"""Machines that a disk's error stopped: which go on by themselves, and when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from harness.memory_host import MemoryHost
from harness.until import BUSY, soon
from vdsm.contract import disk, storage, vm
from vdsm.contract.events import VMStatus
from vdsm.contract.vm_info import VmInfo, VmState

FAST_S = 0.02


@pytest.fixture
async def host() -> AsyncIterator[MemoryHost]:
    """Two domains, each with a disk of its name."""
    made = MemoryHost(None, monitor_s=FAST_S)
    await made.open()
    for name in ("a", "b"):
        await made.call(storage.init, path=f"/storage/{name}")
        await made.call(disk.create, name=name, size=1 << 20, storage=name)
    yield made
    await made.close()


async def runs(host: MemoryHost, *disks: str) -> VmInfo:
    """A machine with these disks."""
    return await host.create("m", disks=[{"path": name} for name in disks])


def status(host: MemoryHost, machine: VmInfo) -> VmState:
    return host.table.get(machine.vm_id).status


async def pauses(host: MemoryHost) -> int:
    """How often a machine was said to be paused."""
    told = [record.data for record in await host.events()]
    return sum(isinstance(event, VMStatus) and event.status == VmState.PAUSED for event in told)


async def stopped(host: MemoryHost, machine: VmInfo, reason: str = "eother") -> None:
    before = await pauses(host)
    host.hypervisor.fail_disk(machine.vm_id, reason)
    async with asyncio.timeout(20 * BUSY):
        while await pauses(host) == before:
            await asyncio.sleep(0.01)


async def looks(host: MemoryHost, path: str = "/storage/a", count: int = 3) -> None:
    """A domain was looked at so many times more."""
    (domain_id,) = [domain.id for domain in host.repository if domain.root == path]
    watch = host.storage.monitor._watches[domain_id]
    async with asyncio.timeout(20 * BUSY):
        for _ in range(count):
            before = watch.checked
            while watch.checked == before:
                await asyncio.sleep(0.005)


async def breaks(host: MemoryHost, path: str) -> None:
    host.file_faults.freeze(path)
    await soon("it is noticed", lambda: host.storage.monitor.by_state().get("unusable") == 1)


async def test_it_goes_on_when_its_storage_is_back(host: MemoryHost) -> None:
    machine = await runs(host, "a")
    await breaks(host, "/storage/a")
    await stopped(host, machine)
    await looks(host)
    assert status(host, machine) is VmState.PAUSED
    host.file_faults.thaw("/storage/a")
    await soon("it runs", lambda: status(host, machine) is VmState.UP)


async def test_it_waits_for_all_its_storage(host: MemoryHost) -> None:
    machine = await runs(host, "a", "b")
    await breaks(host, "/storage/a")
    await stopped(host, machine)
    await looks(host, "/storage/b")
    assert status(host, machine) is VmState.PAUSED
    host.file_faults.thaw("/storage/a")
    await soon("it runs", lambda: status(host, machine) is VmState.UP)


async def test_what_fails_again_at_once_is_tried_ever_more_seldom(host: MemoryHost) -> None:
    machine, now = await runs(host, "a"), time.monotonic()
    host.machines.resumer._clock = lambda: now
    await stopped(host, machine)
    await soon("it runs", lambda: status(host, machine) is VmState.UP)
    for minutes in (1, 2, 4, 8, 16, 32, 60, 60):
        await stopped(host, machine)
        now += minutes * 60 - 1
        await looks(host, count=2)
        assert status(host, machine) is VmState.PAUSED, f"not before {minutes} minutes"
        now += 1
        await soon("it runs", lambda: status(host, machine) is VmState.UP)


async def test_who_stays_paused(host: MemoryHost) -> None:
    full = await runs(host, "a")
    asked = await host.create("n", disks=[{"path": "b"}])
    await stopped(host, full, "enospc")
    await host.call(vm.pause, vmID=asked.vm_id)
    await looks(host)
    assert (status(host, full), status(host, asked)) == (VmState.PAUSED, VmState.PAUSED)


@pytest.mark.parametrize(
    ("behaviour", "goes_on"), [("auto_resume", True), ("", True), ("leave_paused", False), ("kill", False)]
)
async def test_a_manager_may_say_that_it_stays_paused(host: MemoryHost, behaviour: str, goes_on: bool) -> None:
    (row,) = [row for row in await host.call(disk.list_) if row.name == "a"]
    place = (await host.call(disk.get_info, diskID=row.id)).path
    xml = (
        "<domain type='kvm' xmlns:ovirt-vm='http://ovirt.org/vm/1.0'><name>x</name><memory unit='MiB'>64</memory>"
        "<os><type>hvm</type></os><metadata><ovirt-vm:vm>"
        f"<ovirt-vm:resumeBehavior>{behaviour}</ovirt-vm:resumeBehavior></ovirt-vm:vm></metadata><devices>"
        f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{place}'/>"
        "<target dev='vda' bus='virtio'/></disk></devices></domain>"
    )
    machine = await host.call(vm.create, vmParams={"xml": xml})
    await stopped(host, machine)
    if goes_on:
        await soon("it runs", lambda: status(host, machine) is VmState.UP)
    else:
        await looks(host)
        assert status(host, machine) is VmState.PAUSED


async def test_what_somebody_works_on_is_left_to_him(host: MemoryHost) -> None:
    machine = await runs(host, "a")
    await host.locks.hold("a snapshot", [f"vm:{machine.vm_id}"])
    await stopped(host, machine)
    await looks(host)
    assert status(host, machine) is VmState.PAUSED

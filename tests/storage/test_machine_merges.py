# SPDX-License-Identifier: Apache-2.0
"""Layers of running machines' disks merged; and the chain that is left, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Any

import pytest

from harness.machine_disks import (
    MIB,
    chain,
    content,
    findings,
    layers,
    make,
    merge,
    nothing_changed,
    ref,
    sound,
    stack,
    until,
)
from harness.memory_host import MemoryHost
from vdsm.contract import disk, storage, task, vm
from vdsm.contract.errors import (
    HotunplugDiskFailed,
    MergeFailed,
    Problem,
)
from vdsm.contract.storage_words import BLANK, VolumeStatus
from vdsm.drivers.simulated.faults import Fault

# ---- merges ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("top", "base", "left"), [(0, 1, [1, 2]), (0, 2, [2]), (1, 2, [0, 2])])
async def test_layers_are_merged_while_the_machine_runs(host: MemoryHost, top: int, base: int, left: list[int]) -> None:
    info, machine, names = await stack(host, 3)
    await merge(host, machine, info, names[top], names[base])
    assert await chain(host, info.id) == [names[at] for at in left] == await layers(host, machine.vm_id)
    assert await content(host, info, 3) == [1, 2, 3]
    await host.call(vm.destroy, vmID=machine.vm_id)
    await host.create("b", disks=[{"path": "root"}])
    gone = [name for name in names if names.index(name) not in left]
    assert all(any(name in where for name in gone) for where in await findings(host))


async def test_a_merge_is_in_the_statistics_and_alone(host: MemoryHost) -> None:
    info, machine, names = await stack(host, 2)
    job = str(uuid.uuid4())
    host.hypervisor._obeys_after = 0.5
    work = asyncio.create_task(merge(host, machine, info, names[0], names[1], bandwidth=7, jobUUID=job))

    async def jobs() -> Any:
        return (await host.call(vm.get_stats, vmID=machine.vm_id))[0].vm_jobs

    await until(jobs)
    (row,) = (await jobs()).values()
    assert (row.id, row.job_type, row.block_job_type, row.img_uuid, row.bandwidth) == (
        job,
        "block",
        "commit",
        info.id,
        7,
    )
    with pytest.raises(MergeFailed, match="already"):
        await merge(host, machine, info, names[0], names[1])
    with pytest.raises(HotunplugDiskFailed):
        await host.call(vm.hotunplug_disk, vmID=machine.vm_id, params={"disk": {"path": "root"}})
    await work
    assert await jobs() == {}


async def test_what_cannot_be_merged(host: MemoryHost) -> None:
    info, machine, names = await stack(host, 2)
    wrong = {"domainID": info.storage_id, "imageID": BLANK, "volumeID": names[0]}
    calls = [(names[1], names[0], ref(info, names[0])), (names[0], BLANK, ref(info, names[0])),
             (names[0], names[1], ref(info, names[1])), (names[0], names[1], wrong)]  # fmt: skip
    for top, base, drive in calls:
        async with nothing_changed(host, MergeFailed):
            await host.call(vm.merge, vmID=machine.vm_id, drive=drive, topVolUUID=top, baseVolUUID=base)
    await host.call(vm.pause, vmID=machine.vm_id)
    await merge(host, machine, info, names[0], names[1])


@pytest.mark.parametrize("method", ["begin_commit", "end_commit"])
async def test_qemu_fails_and_the_chain_is_whole(host: MemoryHost, method: str) -> None:
    info, machine, names = await stack(host, 2)
    host.hypervisor.faults.set(method, Fault(error="no", times=1))
    with pytest.raises(MergeFailed, match="no"):
        await merge(host, machine, info, names[0], names[1])
    assert await chain(host, info.id) == names == await layers(host, machine.vm_id)
    assert (await host.call(disk.get_info, diskID=info.id)).status is VolumeStatus.OK
    await sound(host)
    await merge(host, machine, info, names[0], names[1])


@pytest.mark.parametrize(("kept", "way"), [(False, vm.destroy), (True, vm.destroy), (False, vm.shutdown)])
async def test_the_power_goes_in_the_middle(host: MemoryHost, kept: bool, way: Any) -> None:
    info = await make(host)
    params = {"name": "a", "memory": 64, "guestAgent": False, "disks": [{"path": "root"}]}
    machine = await host.call(vm.define if kept else vm.create, vmParams=params)
    if kept:
        await host.call(vm.start, vmID=machine.vm_id)
    await host.call(vm.snapshot, vmID=machine.vm_id)
    names = await chain(host, info.id)
    host.hypervisor._obeys_after = 5
    work = asyncio.create_task(merge(host, machine, info, names[0], names[1]))
    await until(lambda: any(m.jobs for m in host.hypervisor._machines.values()))
    host.hypervisor._obeys_after = 0.05
    await host.call(way, vmID=machine.vm_id)
    with pytest.raises(MergeFailed):
        await work
    assert await chain(host, info.id) == names
    assert (await host.call(disk.get_info, diskID=info.id)).status is VolumeStatus.OK
    await sound(host)


async def test_libvirt_goes_away_and_comes_back_in_the_middle(host: MemoryHost) -> None:
    info, machine, names = await stack(host, 2)
    host.hypervisor._obeys_after = 0.3
    work = asyncio.create_task(merge(host, machine, info, names[0], names[1]))
    await until(lambda: any(m.jobs for m in host.hypervisor._machines.values()))
    host.hypervisor.faults.disconnect()
    await asyncio.sleep(0.5)  # the job catches up meanwhile
    host.hypervisor.faults.reconnect()
    await work
    assert await chain(host, info.id) == names[1:] == await layers(host, machine.vm_id)
    assert await content(host, info, 2) == [1, 2]


async def test_a_merge_is_called_off(host: MemoryHost) -> None:
    info, machine, names = await stack(host, 2)
    host.hypervisor._obeys_after = 5
    job = str(uuid.uuid4())
    work = asyncio.create_task(merge(host, machine, info, names[0], names[1], jobUUID=job))
    await until(lambda: any(m.jobs for m in host.hypervisor._machines.values()))
    await host.call(task.stop, taskID=job)
    with pytest.raises(Problem):
        await work
    assert not any(m.jobs for m in host.hypervisor._machines.values())
    assert await chain(host, info.id) == names
    await sound(host)


@pytest.mark.parametrize("boundary", range(1, 8))
async def test_the_daemon_dies_at_each_step_of_a_merge(tmp_path: Path, boundary: int) -> None:
    """The next one finds QEMU's job where it was, and ends it."""
    seen = 0
    died = asyncio.Event()

    def at_boundary(row: Any) -> None:
        nonlocal seen
        seen += row.verb == "VM.merge"
        if row.verb == "VM.merge" and seen == boundary:
            died.set()
            raise asyncio.CancelledError  # nothing runs after this but the end

    first = MemoryHost(tmp_path, at_boundary=at_boundary)
    await first.open()
    await first.call(storage.init, path="/storage/vm")
    info, machine, names = await stack(first, 2)
    first.hypervisor._obeys_after = 0.2
    work = asyncio.create_task(merge(first, machine, info, names[0], names[1]))
    await asyncio.wait([work, asyncio.create_task(died.wait())], return_when=asyncio.FIRST_COMPLETED)
    work.cancel()
    await first.close()
    second = MemoryHost(tmp_path, first.hypervisor, tree=first.tree)
    await second.open()
    if died.is_set() and second.tasks.unfinished():
        assert (await second.call(vm.get_stats, vmID=machine.vm_id))[0].vm_jobs
    await second.tasks.settled()
    assert not second.tasks.unfinished()
    assert await chain(second, info.id) == names[1:] == await layers(second, machine.vm_id)
    assert await content(second, info, 2) == [1, 2]
    await second.close()


async def test_a_larger_layer_makes_its_base_as_large(host: MemoryHost) -> None:
    info, machine, names = await stack(host, 2)
    grow: dict[str, Any] = {"driveSpecs": ref(info, names[0]), "newSize": 4 * MIB}
    await host.call(vm.disk_size_extend, vmID=machine.vm_id, **grow)
    await merge(host, machine, info, names[0], names[1])
    assert (await host.call(disk.get_info, diskID=info.id)).size == 4 * MIB


async def test_a_disks_own_verbs_go_by_its_machine(host: MemoryHost) -> None:
    info = await make(host)
    machine = await host.create("a", disks=[{"path": "root"}])
    for number in range(2):
        await host.call(disk.snapshot, diskID=info.id)
        names = await chain(host, info.id)
        assert len(names) == number + 2
        assert await layers(host, machine.vm_id) == names
    await host.call(disk.extend, diskID=info.id, size=2 * MIB)
    await host.call(disk.merge, diskID=info.id, volumeID=names[1])
    assert await layers(host, machine.vm_id) == [names[0], names[2]]
    after = await host.call(disk.merge, diskID=info.id)
    assert (after.size, [row.id for row in after.chain]) == (2 * MIB, names[2:])
    assert await layers(host, machine.vm_id) == names[2:]
    await sound(host)  # nothing is left over


async def test_of_a_stopped_machine_they_go_by_the_storage(host: MemoryHost) -> None:
    info = await make(host)
    params = {"name": "a", "memory": 64, "disks": [{"path": "root"}]}
    machine = await host.call(vm.define, vmParams=params)
    for verb in (disk.snapshot, disk.snapshot, disk.merge):
        await host.call(verb, diskID=info.id)
        await host.call(vm.start, vmID=machine.vm_id)
        assert await layers(host, machine.vm_id) == await chain(host, info.id)
        await host.call(vm.destroy, vmID=machine.vm_id)
    await sound(host)


@pytest.mark.parametrize("boundary", range(1, 14))
async def test_the_daemon_dies_at_each_step_of_a_snapshot(tmp_path: Path, boundary: int) -> None:
    seen = 0
    died = asyncio.Event()

    def at_boundary(row: Any) -> None:
        nonlocal seen
        seen += row.verb == "VM.snapshot"
        if row.verb == "VM.snapshot" and seen == boundary:
            died.set()
            raise asyncio.CancelledError

    first = MemoryHost(tmp_path, at_boundary=at_boundary)
    await first.open()
    await first.call(storage.init, path="/storage/vm")
    info = await make(first)
    machine = await first.create("a", disks=[{"path": "root"}])
    work = asyncio.create_task(first.call(vm.snapshot, vmID=machine.vm_id))
    await asyncio.wait([work, asyncio.create_task(died.wait())], return_when=asyncio.FIRST_COMPLETED)
    work.cancel()
    await first.close()
    second = MemoryHost(tmp_path, first.hypervisor, tree=first.tree)
    await second.open()
    await second.tasks.settled()
    assert not second.tasks.unfinished()
    names = await chain(second, info.id)
    assert names == await layers(second, machine.vm_id)
    assert len(names) == 2
    await sound(second)
    await second.close()

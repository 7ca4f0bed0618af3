# SPDX-License-Identifier: Apache-2.0
"""From the call that makes a machine to the machine: whoever was told of it never misses it."""

from __future__ import annotations

import asyncio

import pytest

from harness.memory_host import ADMIN, MemoryHost
from vdsm.contract import host as host_verbs
from vdsm.contract import vm
from vdsm.contract.errors import HypervisorError, NoSuchVM, VMExists
from vdsm.contract.events import VMDefined, VMRemoved, VMStatus
from vdsm.contract.outcome import Outcome
from vdsm.contract.vm_info import ExitReason, VmInfo, VmState
from vdsm.drivers.simulated.faults import Fault


async def begin(host: MemoryHost, name: str = "web1") -> str:
    """Ask for a machine without waiting for it; its id."""
    outcome: Outcome[object] = await host.bridge.call(
        vm.create, {"vmParams": {"name": name, "memory": 64, "guestAgent": False}}, ADMIN, wait=0
    )
    assert outcome.task is not None
    assert outcome.detached
    return outcome.task.object_id


async def end(host: MemoryHost) -> None:
    await host.bridge.drain(20)


async def statuses(host: MemoryHost, vm_id: str) -> list[str]:
    return [e.data.status for e in await host.events() if isinstance(e.data, VMStatus) and e.data.vm_id == vm_id]


async def test_it_waits_for_launch_from_the_answer_on(host: MemoryHost) -> None:
    host.hypervisor.faults.set("define", Fault(delay=0.2))
    vm_id = await begin(host)
    info = await host.call(vm.get_info, vmID=vm_id)
    assert isinstance(info, VmInfo)
    assert (info.status, info.exit_code, info.vm_name) == (VmState.WAIT_FOR_LAUNCH, None, "web1")
    assert [row.status for row in await host.call(host_verbs.get_all_vm_stats)] == [VmState.WAIT_FOR_LAUNCH]
    await end(host)
    assert (await host.call(vm.get_info, vmID=vm_id)).status is VmState.UP
    assert await statuses(host, vm_id) == ["WaitForLaunch", "Up"]
    assert isinstance(next(e.data for e in await host.events() if e.subject == vm_id), VMDefined)


async def test_it_is_never_down_on_the_way(host: MemoryHost) -> None:
    host.hypervisor.faults.set("start", Fault(delay=0.2))
    vm_id = await begin(host)
    seen = set()
    while host.tasks.running():
        seen.add((await host.call(vm.get_info, vmID=vm_id)).status)
        await asyncio.sleep(0.01)
    assert VmState.DOWN not in seen
    assert VmState.WAIT_FOR_LAUNCH in seen


@pytest.mark.parametrize("method", ["define", "start"])
async def test_what_does_not_start_says_why_and_is_gone(host: MemoryHost, method: str) -> None:
    host.hypervisor.faults.set(method, Fault(delay=0.1, error="no space for it"))
    vm_id = await begin(host)
    await end(host)
    with pytest.raises(NoSuchVM):
        await host.call(vm.get_info, vmID=vm_id)
    about = [e.data for e in await host.events() if isinstance(e.data, VMStatus | VMRemoved) and e.subject == vm_id]
    last, gone = about[-2:]
    assert isinstance(last, VMStatus)
    assert (last.status, last.exit_code, last.exit_reason) == ("Down", 1, ExitReason.START_FAILED)
    assert "no space for it" in last.exit_message
    assert isinstance(gone, VMRemoved)


async def test_its_name_and_id_are_taken_at_once(host: MemoryHost) -> None:
    host.hypervisor.faults.set("define", Fault(delay=0.2))
    vm_id = await begin(host)
    with pytest.raises(VMExists):
        await host.create("web1")
    with pytest.raises(VMExists):
        await host.call(vm.create, vmParams={"name": "web2", "memory": 64}, vmID=vm_id)


async def test_a_lost_connection_does_not_make_it_vanish(host: MemoryHost) -> None:
    host.hypervisor.faults.set("define", Fault(delay=0.5))
    vm_id = await begin(host)
    host.hypervisor.faults.disconnect()
    host.hypervisor.faults.reconnect()
    await asyncio.sleep(0.1)
    assert (await host.call(vm.get_info, vmID=vm_id)).status is VmState.WAIT_FOR_LAUNCH
    await end(host)
    assert (await host.call(vm.get_info, vmID=vm_id)).status is VmState.UP


async def test_a_plan_lists_nothing(host: MemoryHost) -> None:
    await host.bridge.call(vm.create, {"vmParams": {"name": "web1", "memory": 64}}, ADMIN, plan=True)
    assert await host.call(vm.list_) == []
    assert await host.events() == []


async def test_a_kept_machine_that_does_not_start_says_why(host: MemoryHost) -> None:
    made = await host.call(vm.define, vmParams={"name": "db", "memory": 64})
    host.hypervisor.faults.set("start", Fault(error="no space for it", times=1))
    with pytest.raises(HypervisorError):
        await host.call(vm.start, vmID=made.vm_id)
    info = await host.call(vm.get_info, vmID=made.vm_id)
    assert (info.status, info.exit_code, info.exit_reason) == (VmState.DOWN, 1, ExitReason.START_FAILED)
    await host.call(vm.start, vmID=made.vm_id)
    assert (await host.call(vm.get_info, vmID=made.vm_id)).exit_code is None

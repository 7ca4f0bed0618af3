# SPDX-License-Identifier: Apache-2.0
"""Machines through the bridge, on a host in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from harness.memory_host import OPERATOR, VIEWER, MemoryHost
from vdsm.contract import task, vm
from vdsm.contract.errors import (
    AccessDenied,
    CannotCreateVM,
    DeadlineExceeded,
    ForeignVM,
    HypervisorError,
    InvalidParams,
    NoSuchVM,
    PathNotAllowed,
    UnexpectedState,
    VMExists,
    VMIsDown,
    VMIsRunning,
    XmlRefused,
)
from vdsm.contract.events import VMStatus
from vdsm.contract.task import State
from vdsm.contract.vm_info import Accelerator, Explanation, VmInfo, VmState
from vdsm.core.vm.machine import Machine
from vdsm.drivers.simulated.faults import Fault

FOREIGN = """<domain type='qemu'><name>{name}</name><uuid>7f0c1a3e-6d0b-4d0f-9a55-0d7a3e1c2b11</uuid>
<memory unit='MiB'>32</memory><os><type>hvm</type></os><devices/></domain>"""


async def test_create_starts_it_and_destroy_forgets_it(host: MemoryHost) -> None:
    made = await host.create("web1", graphics=None, guestAgent=False)
    assert (made.vm_name, made.status, made.mem_size) == ("web1", VmState.UP, 64)
    assert made.accelerator is Accelerator.KVM
    assert not made.kept
    await host.call(vm.destroy, vmID=made.vm_id)
    with pytest.raises(NoSuchVM):
        await host.call(vm.get_info, vmID=made.vm_id)
    assert not await host.hypervisor.domains()


async def test_the_answer_waits_for_the_state_it_tells(host: MemoryHost) -> None:
    """libvirt's event comes before the running machine's document: the state counts when it has been said."""
    host.hypervisor.faults.set("domain", Fault(delay=0.05))
    made = await host.create("web1", guestAgent=False)
    assert made.status is VmState.UP


async def test_a_machine_with_an_agent_is_powering_up_until_it_speaks(host: MemoryHost) -> None:
    made = await host.create("web1")
    assert made.status is VmState.POWERING_UP


async def test_define_keeps_it_over_destroy_until_undefine(host: MemoryHost) -> None:
    made = await host.call(vm.define, vmParams={"name": "db", "memory": 64})
    assert isinstance(made, VmInfo)
    assert (made.status, made.exit_reason, made.kept) == (VmState.DOWN, None, True)
    await host.call(vm.start, vmID=made.vm_id)
    with pytest.raises(VMIsRunning):
        await host.call(vm.undefine, vmID=made.vm_id)
    await host.call(vm.destroy, vmID=made.vm_id)
    down = await host.call(vm.get_info, vmID=made.vm_id)
    assert isinstance(down, VmInfo)
    assert (down.status, down.exit_code, down.exit_reason) == (VmState.DOWN, 0, 6)
    await host.call(vm.undefine, vmID=made.vm_id)
    assert not await host.hypervisor.domains()


async def test_pause_cont_and_the_story_they_leave(host: MemoryHost) -> None:
    made = await host.create("web1", guestAgent=False)
    paused = await host.call(vm.pause, vmID=made.vm_id)
    assert isinstance(paused, VmInfo)
    assert paused.status is VmState.PAUSED
    up = await host.call(vm.cont, vmID=made.vm_id)
    assert isinstance(up, VmInfo)
    assert up.status is VmState.UP
    states = [e.data.status for e in await host.events() if isinstance(e.data, VMStatus)]
    assert states == ["WaitForLaunch", "Up", "Paused", "Up"]


async def test_shutdown_waits_for_the_guest(host: MemoryHost) -> None:
    made = await host.create("web1")
    outcome = await host.outcome(vm.shutdown, vmID=made.vm_id)
    assert outcome.task is not None
    assert outcome.task.state is State.DONE
    down = await host.call(vm.get_info, vmID=made.vm_id)
    assert isinstance(down, VmInfo)
    assert (down.status, down.exit_reason) == (VmState.DOWN, 7)
    with pytest.raises(VMIsDown):
        await host.call(vm.pause, vmID=made.vm_id)


async def test_a_guest_that_obeys_at_the_last_moment_has_obeyed(
    host: MemoryHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock may leap, and patience end in the very moment in which the guest does what it was asked for."""
    wait_for = host.table.wait_for

    async def too_late(vm_id: str, wanted: Callable[[Machine | None], bool], seconds: float) -> bool:
        return await wait_for(vm_id, wanted, seconds) and seconds != 77

    monkeypatch.setattr(host.table, "wait_for", too_late)
    made = await host.create("web1")
    outcome = await host.outcome(vm.shutdown, vmID=made.vm_id, timeout=77)
    assert outcome.task is not None
    assert outcome.task.state is State.DONE
    down = await host.call(vm.get_info, vmID=made.vm_id)
    assert (down.status, down.exit_reason) == (VmState.DOWN, 7)


async def test_a_start_that_fails_leaves_nothing(host: MemoryHost) -> None:
    host.hypervisor.faults.set("start", Fault(error="no space for it"))
    with pytest.raises(HypervisorError, match="no space for it"):
        await host.create("web1")
    assert not await host.hypervisor.domains()
    (left,) = await host.call(task.list_)
    assert (left.state, left.problem.code) == (State.FAILED, 100)


async def test_foreign_machines_are_shown_and_left_alone(host: MemoryHost) -> None:
    await host.hypervisor.define(FOREIGN.format(name="theirs"))
    assert await host.table.wait_for("7f0c1a3e-6d0b-4d0f-9a55-0d7a3e1c2b11", lambda row: row is not None, 1)
    (row,) = await host.call(vm.list_)
    assert row.foreign
    for verb in (vm.start, vm.destroy, vm.undefine):
        with pytest.raises(ForeignVM):
            await host.call(verb, vmID=row.vm_id)
    with pytest.raises(VMExists):
        await host.create("theirs")
    assert len(await host.hypervisor.domains()) == 1


async def test_explain_says_what_and_why_not(host: MemoryHost) -> None:
    made = await host.create("web1", guestAgent=False)
    await host.call(vm.pause, vmID=made.vm_id)
    told = await host.call(vm.explain, OPERATOR, vmID=made.vm_id)
    assert isinstance(told, Explanation)
    by = {a.method: a for a in told.verbs}
    assert by["VM.cont"].allowed
    assert not by["VM.shutdown"].allowed
    assert by["VM.shutdown"].problems[0].type == "urn:vdsm:problem:unexpected-state"
    with pytest.raises(UnexpectedState):
        await host.call(vm.shutdown, vmID=made.vm_id)
    seen_by_viewer = await host.call(vm.explain, VIEWER, vmID=made.vm_id)
    assert isinstance(seen_by_viewer, Explanation)
    assert not any(a.allowed for a in seen_by_viewer.verbs if a.method in ("VM.cont", "VM.destroy"))


async def test_raw_xml_needs_its_own_privilege_and_stays_within_bounds(host: MemoryHost) -> None:
    text = FOREIGN.format(name="raw1")
    with pytest.raises(AccessDenied, match=r"vm\.raw-xml"):
        await host.call(vm.create, OPERATOR, vmParams={"xml": text})
    made = await host.call(vm.create, vmParams={"xml": text})
    assert isinstance(made, VmInfo)
    assert (made.vm_name, made.foreign) == ("raw1", False)


@pytest.mark.parametrize(
    ("params", "problem", "says"),
    [
        ({"name": "x", "memory": 64, "disks": [{"path": "/etc/shadow"}]}, PathNotAllowed, "/etc/shadow"),
        ({"name": "x", "memory": 64, "kernel": "/images/../etc/shadow"}, PathNotAllowed, "shadow"),
        ({"name": "x", "memory": 64, "machineType": "s390"}, CannotCreateVM, "s390"),
        ({"name": "x", "memory": -1}, InvalidParams, "16"),
        ({"name": "x", "memory": 64, "colour": "red"}, InvalidParams, "colour"),
        ({"xml": "<domain><!DOCTYPE x></domain>"}, XmlRefused, "well-formed"),
        ({"xml": "<!DOCTYPE a [<!ENTITY b 'c'>]><domain/>"}, XmlRefused, "DOCTYPE"),
        ({"xml": "<domain><name>a</name><devices><disk type='file'><driver type='raw'/><source file='/etc/shadow'/>"
                 "</disk></devices></domain>"}, PathNotAllowed, "/etc/shadow"),
        ({"xml": "<domain xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><name>a</name>"
                 "<q:commandline/></domain>"}, XmlRefused, "namespace"),
    ],
)  # fmt: skip
async def test_bad_parameters_leave_no_trace(
    host: MemoryHost, params: dict[str, object], problem: type[Exception], says: str
) -> None:
    with pytest.raises(problem, match=says):
        await host.call(vm.create, vmParams=params)
    assert not await host.hypervisor.domains()
    assert not [e for e in await host.events() if e.data.name.startswith("VM_")]


async def test_disks_of_each_bus_have_names_of_their_own(host: MemoryHost) -> None:
    disks = [{"path": f"/images/{n}.raw", "bus": bus} for n, bus in enumerate(["virtio", "scsi", "virtio", "sata"])]
    made = await host.create("web1", disks=disks)
    assert [d.name for d in made.devices if d.type == "disk"] == ["vda", "sda", "vdb", "sdb", "sdc"]


async def test_every_way_to_define_closes_the_screen(host: MemoryHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Typed, raw, and again after undefining was undone: QEMU's VNC without a password lets everybody in."""
    documents: list[str] = []
    define = host.hypervisor.define

    async def overheard(document: str) -> None:
        documents.append(document)
        await define(document)

    monkeypatch.setattr(host.hypervisor, "define", overheard)
    text = FOREIGN.format(name="raw").replace("<devices/>", "<devices><graphics type='vnc'/></devices>")
    for params in ({"name": "typed", "memory": 64}, {"xml": text}):
        made = await host.call(vm.define, vmParams=params)
        gone = await host.outcome(vm.undefine, vmID=made.vm_id)
        assert gone.task is not None
        await host.call(task.revert, taskID=gone.task.id)
    assert len(documents) == 4
    for document in documents:
        assert 'passwd="' in document
        assert 'passwdValidTo="1970' in document


async def test_who_asks_for_statistics_first_does_not_hurry_the_others(
    host: MemoryHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sample serves all who ask meanwhile."""
    monkeypatch.setattr("vdsm.core.vm.stats.FRESH", 0.0)
    made = await host.create("web1")
    host.hypervisor.faults.set("samples", Fault(delay=0.3))
    hasty = asyncio.create_task(host.bridge.call(vm.get_stats, {"vmID": made.vm_id}, VIEWER, deadline=0.1))
    await asyncio.sleep(0.05)
    (stats,) = await host.call(vm.get_stats, vmID=made.vm_id)
    assert stats.vm_id == made.vm_id
    with pytest.raises(DeadlineExceeded):
        await hasty

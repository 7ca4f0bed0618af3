# SPDX-License-Identifier: Apache-2.0
"""The table follows libvirt: through losses, foreign hands and quick changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from harness.memory_host import MemoryHost
from vdsm.contract import vm
from vdsm.contract.errors import HypervisorUnavailable
from vdsm.contract.events import EventRecord, VMStatus
from vdsm.contract.vm_info import VmState
from vdsm.core.ports.hypervisor import DomainEvent, DomainEventKind, DomainState
from vdsm.core.vm.machine import Phase
from vdsm.core.vm.status import exit_of
from vdsm.drivers.simulated.faults import Fault
from vdsm.drivers.simulated.hypervisor import SimulatedHypervisor


async def _until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def test_what_changed_while_libvirt_was_away_is_told(host: MemoryHost) -> None:
    stays, goes = await host.create("stays"), await host.create("goes")
    await host.journal.flush()
    since = host.journal.last
    host.hypervisor.faults.disconnect()
    await _until(lambda: host.journal.last > since)
    with pytest.raises(HypervisorUnavailable):
        await host.call(vm.pause, vmID=stays.vm_id)
    assert (await host.call(vm.get_info, vmID=stays.vm_id)).vm_name == "stays"  # what was known is still told
    del host.hypervisor._machines[goes.vm_id]  # somebody undefined it meanwhile
    host.hypervisor.faults.reconnect()
    await _until(lambda: host.table.find(goes.vm_id) is None)
    told = [e.data.name for e in await host.events(since)]
    assert told[:1] == ["Host_hypervisor_lost"]
    assert "Host_hypervisor_back" in told
    assert "VM_removed" in told


async def test_without_libvirt_an_empty_table_is_no_answer() -> None:
    hypervisor = SimulatedHypervisor()
    hypervisor.faults.set("domains", Fault(error="away", times=0))
    host = MemoryHost(None, hypervisor)
    await host.store.open()
    await host.journal.start()
    await host.table.open()
    host.bridge.ready = True
    with pytest.raises(HypervisorUnavailable):
        await host.call(vm.list_)
    with pytest.raises(HypervisorUnavailable):
        await host.create("a")
    await host.close()


async def test_a_hand_at_virsh_is_seen(host: MemoryHost) -> None:
    made = await host.create("a", guestAgent=False)
    await host.hypervisor.suspend(made.vm_id)
    await host.hypervisor.resume(made.vm_id)
    await host.hypervisor.power_off(made.vm_id, graceful=False)
    await _until(lambda: host.table.get(made.vm_id).status is VmState.DOWN)
    told = [(e.data.status, e.data.exit_reason) for e in await host.events() if isinstance(e.data, VMStatus)]
    assert told[-3:] == [("Paused", None), ("Up", None), ("Down", 6)]


def _codes(events: list[EventRecord], vm_id: str) -> list[tuple[str, str]]:
    return [(e.data.status, e.data.pause_code) for e in events if isinstance(e.data, VMStatus) and e.subject == vm_id]


@pytest.mark.parametrize(("word", "code"), [("enospc", "ENOSPC"), ("eio", "EIO"), ("eother", "EOTHER")])
async def test_why_a_disk_stopped_it_is_in_event_and_stats_until_it_goes_on(
    host: MemoryHost, word: str, code: str
) -> None:
    vm_id = (await host.create("a", guestAgent=False)).vm_id
    await host.journal.flush()
    since = host.journal.last
    host.hypervisor.fail_disk(vm_id, word)
    await _until(lambda: host.table.get(vm_id).status is VmState.PAUSED)
    assert (await host.call(vm.get_info, vmID=vm_id)).pause_code == code
    assert [row.pause_code for row in await host.call(vm.get_stats, vmID=vm_id)] == [code]
    await host.call(vm.cont, vmID=vm_id)
    assert [row.pause_code for row in await host.call(vm.get_stats, vmID=vm_id)] == ["NOERR"]
    await host.call(vm.pause, vmID=vm_id)
    assert _codes(await host.events(since), vm_id) == [("Paused", code), ("Up", ""), ("Paused", "NOERR")]


async def test_why_a_disk_stopped_it_while_nobody_looked_is_asked(host: MemoryHost) -> None:
    vm_id = (await host.create("a", guestAgent=False)).vm_id
    await host.journal.flush()
    since = host.journal.last
    host.hypervisor.faults.disconnect()
    host.hypervisor.fail_disk(vm_id, "enospc")
    host.hypervisor.faults.reconnect()
    await _until(lambda: host.table.get(vm_id).pause_code == "ENOSPC")
    assert _codes(await host.events(since), vm_id)[-1] == ("Paused", "ENOSPC")


@pytest.mark.parametrize(
    ("state", "reason", "told"),
    [
        (DomainState.SHUT_OFF, "shutdown", (0, 7)),
        (DomainState.SHUT_OFF, "destroyed", (0, 6)),
        (DomainState.SHUT_OFF, "crashed", (1, 2)),
        (DomainState.SHUT_OFF, "failed", (1, 3)),
        (DomainState.SHUT_OFF, "migrated", (0, 4)),
        (DomainState.SHUT_OFF, "saved", (0, 5)),
        (DomainState.CRASHED, "panicked", (1, 2)),
        (DomainState.SHUT_OFF, "unknown", None),
        (DomainState.RUNNING, "booted", None),
    ],
)
def test_how_it_ended_in_the_published_numbers(state: DomainState, reason: str, told: tuple[int, int] | None) -> None:
    end = exit_of(state, reason)
    assert (None if end is None else (end.code, int(end.reason))) == told


async def test_an_event_right_behind_another_does_not_wait_for_the_next(host: MemoryHost) -> None:
    made = await host.create("a")
    await _until(lambda: not host.table._workers)
    tell = host.hypervisor._sink
    tell(DomainEvent(kind=DomainEventKind.AGENT, vm_id=made.vm_id, detail="connected"))
    await asyncio.sleep(0)  # the first is worked off, and nobody has noticed yet
    tell(DomainEvent(kind=DomainEventKind.SUSPENDED, vm_id=made.vm_id, detail="paused"))
    for _ in range(5):  # not until the machine's next event
        await asyncio.sleep(0)
    assert host.table.get(made.vm_id).status is VmState.PAUSED


async def test_it_is_not_up_before_libvirt_tells_of_its_start(host: MemoryHost) -> None:
    """A reading in between shows that it runs, and it boots all the same."""
    made = await host.call(vm.define, vmParams={"name": "a", "memory": 64})
    host.table.enter(made.vm_id, Phase.LAUNCHING, 60.0)
    host.hypervisor.watch(lambda event: None)
    await host.hypervisor.start(made.vm_id, paused=False)
    await host.table.resync(made.vm_id)
    assert host.table.get(made.vm_id).status is VmState.POWERING_UP

# SPDX-License-Identifier: Apache-2.0
"""What only the simulated driver can do: a thousand machines, and faults to order."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
import uuid

import pytest

from harness.until import BUSY
from vdsm.contract import errors as e
from vdsm.core.ports.deadline import within
from vdsm.core.ports.hypervisor import DomainState
from vdsm.drivers.simulated import Faults, SimulatedHypervisor
from vdsm.drivers.simulated.faults import Fault

COUNT = 1000


def xml(name: str) -> tuple[str, str]:
    vm_id = str(uuid.uuid4())
    return vm_id, (
        f"<domain type='qemu'><name>{name}</name><uuid>{vm_id}</uuid><memory unit='MiB'>512</memory><vcpu>2</vcpu>"
        "<devices><disk type='file' device='disk'><target dev='vda'/></disk><interface type='user'/>"
        "<serial type='pty'/><graphics type='vnc'/></devices></domain>"
    )


async def test_a_thousand_machines_are_cheap() -> None:
    hypervisor = SimulatedHypervisor()
    await hypervisor.open()
    tracemalloc.start()
    documents = [xml(f"vm{number}") for number in range(COUNT)]
    for vm_id, document in documents:
        await hypervisor.define(document)
        await hypervisor.start(vm_id, paused=False)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 20 * 1024 * 1024
    began = time.process_time()
    assert len(await hypervisor.domains()) == len(await hypervisor.samples()) == COUNT
    assert time.process_time() - began < 0.1 * BUSY
    nics = {sample.nics[0].name for sample in await hypervisor.samples()}
    assert len(nics) == COUNT
    await hypervisor.close()


async def one(faults: Faults) -> tuple[SimulatedHypervisor, str]:
    hypervisor = SimulatedHypervisor(faults)
    await hypervisor.open()
    vm_id, document = xml("a")
    await hypervisor.define(document)
    return hypervisor, vm_id


async def test_a_method_fails_as_often_as_wanted() -> None:
    hypervisor, vm_id = await one(Faults.parse("start:error=boom,times=2; reset:error=never reached"))
    for _ in range(2):
        with pytest.raises(e.HypervisorError, match="boom"):
            await hypervisor.start(vm_id, paused=False)
        assert (await hypervisor.domain(vm_id)).state is DomainState.SHUT_OFF
    await hypervisor.start(vm_id, paused=False)
    assert (await hypervisor.domain(vm_id)).state is DomainState.RUNNING
    await hypervisor.close()


async def test_a_method_is_slow() -> None:
    hypervisor, vm_id = await one(Faults.parse("start:delay=0.1"))
    began = time.monotonic()
    await hypervisor.start(vm_id, paused=True)
    assert time.monotonic() - began >= 0.1
    await hypervisor.power_off(vm_id, graceful=False)
    with within(0.02), pytest.raises(e.DeadlineExceeded):
        await hypervisor.start(vm_id, paused=True)
    await hypervisor.close()


async def test_everything_hangs_until_mended() -> None:
    faults = Faults.parse("*:hang")
    hypervisor = SimulatedHypervisor(faults)
    await hypervisor.open()
    with within(0.02), pytest.raises(e.DeadlineExceeded):
        await hypervisor.domains()
    waiting = asyncio.create_task(hypervisor.domains())
    await asyncio.sleep(0)
    assert not waiting.done()
    faults.clear()
    assert await waiting == []
    faults.set("samples", Fault(error="later"))
    with pytest.raises(e.HypervisorError, match="later"):
        await hypervisor.samples()
    await hypervisor.close()


async def test_it_begins_without_a_connection() -> None:
    faults = Faults.parse("connection:lost")
    hypervisor = SimulatedHypervisor(faults)
    await hypervisor.open()
    with pytest.raises(e.HypervisorUnavailable):
        await hypervisor.domains()
    faults.reconnect()
    assert await hypervisor.domains() == []
    await hypervisor.close()


@pytest.mark.parametrize("text", ["start:colour=red", "start:delay=soon", "start", "start:times=many,error=x"])
def test_what_it_does_not_understand_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="start"):
        Faults.parse(text)

# SPDX-License-Identifier: Apache-2.0
"""Another host's bridge has the shape of our own, and does what that host does."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from harness.daemon import Daemon
from vdsm.client import RemoteBridge
from vdsm.client.address import Address
from vdsm.client.transport import Transport
from vdsm.contract import event, host, task, vm
from vdsm.contract.errors import HostUnreachable, InvalidParams, NoSuchVM
from vdsm.contract.events import EventFilter, EventRecord
from vdsm.contract.vm_info import VmInfo, VmState
from vdsm.core.bridge import Bridge

US = object()  # whoever calls; it is not sent


@pytest.fixture
async def bridge(sim: Daemon) -> AsyncIterator[RemoteBridge]:
    made = RemoteBridge(Transport(Address(path=str(sim.socket))))
    yield made
    await made.close()


@pytest.fixture
def sim1(sim: Daemon) -> str:
    with sim.connect() as there:
        return next(row.vm_id for row in there.vm.list() if row.vm_name == "sim1")


@pytest.mark.parametrize("name", ["call", "open", "subscribe"])
def test_it_has_the_shape_of_a_bridge(name: str) -> None:
    def shape(kind: type) -> list[tuple[object, ...]]:
        return [(p.name, p.kind, p.default) for p in inspect.signature(getattr(kind, name)).parameters.values()]

    assert shape(RemoteBridge) == shape(Bridge)


async def test_a_call(bridge: RemoteBridge, sim1: str) -> None:
    outcome = await bridge.call(vm.pause, {"vmID": sim1}, US)
    assert isinstance(outcome.result, VmInfo)
    assert outcome.result.status is VmState.PAUSED
    await bridge.call(vm.cont, {"vmID": sim1}, US)


async def test_plan_and_wait(bridge: RemoteBridge, sim1: str) -> None:
    planned = await bridge.call(vm.shutdown, {"vmID": sim1}, US, plan=True)
    assert planned.plan is not None
    begun = await bridge.call(vm.shutdown, {"vmID": sim1, "delay": 60.0}, US, wait=0, flow_id="f-1")
    assert begun.task is not None
    assert begun.task.flow_id == "f-1"
    await bridge.call(task.stop, {"taskID": begun.task.id}, US)


async def test_text_for_numbers_is_read_before_it_is_sent(bridge: RemoteBridge, sim1: str) -> None:
    params = {"vmID": sim1, "delay": "60"}
    with pytest.raises(InvalidParams):
        await bridge.call(vm.shutdown, params, US, plan=True)
    assert (await bridge.call(vm.shutdown, params, US, plan=True, text_numbers=True)).plan is not None
    with pytest.raises(InvalidParams) as wrong:
        await bridge.call(vm.shutdown, params | {"delay": "x"}, US, text_numbers=True)
    assert wrong.value.path == "$.delay"


async def test_problems_pass_through(bridge: RemoteBridge) -> None:
    with pytest.raises(NoSuchVM):
        await bridge.call(vm.get_stats, {"vmID": "5f0c1a3e-6d0b-4d0f-9a55-0d7a3e1c2b11"}, US)


async def test_a_host_that_is_away(tmp_path: Path) -> None:
    away = RemoteBridge(Transport(Address(path=str(tmp_path / "nobody"))))
    with pytest.raises(HostUnreachable) as caught:
        await away.call(host.ping2, {}, US)
    assert caught.value.retryable
    with pytest.raises(HostUnreachable):
        await away.open(vm.console, {"vmID": "x"}, US)
    with pytest.raises(HostUnreachable):
        await anext(away.subscribe(EventFilter(), US))
    await away.close()


async def test_events(bridge: RemoteBridge, sim: Daemon, sim1: str) -> None:
    page = (await bridge.call(event.list_, {"since": 2**53 - 1}, US)).result
    assert isinstance(page, event.EventPage)
    items = bridge.subscribe(EventFilter(types=["VM_defined"]), US, since=page.last)
    async with aclosing(items):
        await bridge.call(vm.set_autostart, {"vmID": sim1, "enabled": True}, US)
        record = await anext(items)
    assert isinstance(record, EventRecord)
    assert record.subject == sim1


async def test_a_console(bridge: RemoteBridge, sim1: str) -> None:
    stream = await bridge.open(vm.console, {"vmID": sim1, "force": True}, US)
    await stream.write(b"\r")
    heard = b""
    while b"login:" not in heard:
        heard += await stream.read()
    await stream.close()
    assert await stream.read() == b""

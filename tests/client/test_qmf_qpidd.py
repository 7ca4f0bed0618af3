# SPDX-License-Identifier: Apache-2.0
"""This project's own console, shell and daemon, on a broker that behaves as qpidd does."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from harness.bus_host import BusHost, joined
from harness.memory_host import ADMIN
from harness.qpidd_peer import QpiddPeer
from harness.simulated import simulated
from harness.until import BUSY, soon
from vdsm.amqp.address import BusAddress
from vdsm.amqp.bus import Bus
from vdsm.client.qmf import Console, RemoteBridge
from vdsm.contract import host, vm
from vdsm.contract.errors import AccessDenied, NoSuchVM
from vdsm.contract.events import EventFilter, EventRecord
from vdsm.contract.vm_info import VmInfo
from vdsm.protocols.qmf2.model import Query, SchemaFilter, What
from vdsm.protocols.qmf2.predicates import Predicate, equal

USERS = {"host": "secret", "engine": "other", "viewer": "third"}


@pytest.fixture
def broker() -> Iterator[QpiddPeer]:
    with QpiddPeer(USERS) as broker:
        yield broker
        assert broker.poison == []


@pytest.fixture
async def there(broker: QpiddPeer) -> AsyncIterator[BusHost]:
    async with joined(broker.url("host"), heartbeat_s=1) as made:
        yield made


@pytest.fixture
async def console(broker: QpiddPeer) -> AsyncIterator[Console]:
    async with Console(Bus(BusAddress.parse(broker.url("engine")))) as made:
        await made.wait_up(20 * BUSY)
        yield made


async def test_a_host_is_found_asked_and_managed(broker: QpiddPeer, there: BusHost, console: Console) -> None:
    known = await console.find(there.options.instance, 20 * BUSY)
    assert known.agent == there.name
    bridge = RemoteBridge(console, there.options.instance)
    params = {"vmParams": {"name": "one", "memory": 64}}
    made = (await bridge.call(vm.create, params, ADMIN)).result
    assert isinstance(made, VmInfo)
    assert [one.vm_id for one in await there.host.call(vm.list_)] == [made.vm_id]
    wanted = Query(what=What.OBJECT, schema=SchemaFilter(name="VM"), where=Predicate(equal("vmName", "one")))
    (found,) = await console.query(there.name, wanted, 20 * BUSY)
    assert found.values["vmId"] == made.vm_id
    with pytest.raises(NoSuchVM):
        await bridge.call(vm.pause, {"vmID": "00000000-0000-4000-8000-000000000000"}, ADMIN)
    async with Console(Bus(BusAddress.parse(broker.url("viewer")))) as viewer:
        await viewer.wait_up(20 * BUSY)
        with pytest.raises(AccessDenied):
            await RemoteBridge(viewer, there.options.instance).call(vm.destroy, {"vmID": made.vm_id}, ADMIN)


async def test_a_cut_loses_no_event_and_no_call(broker: QpiddPeer, there: BusHost, console: Console) -> None:
    bridge = RemoteBridge(console, there.options.instance)
    await bridge.call(host.ping2, {}, ADMIN)
    seen: list[EventRecord] = []

    async def watch() -> None:
        async with aclosing(bridge.subscribe(EventFilter(), ADMIN, since=there.host.journal.last)) as events:
            async for event in events:
                assert isinstance(event, EventRecord)
                seen.append(event)

    watching = asyncio.create_task(watch())
    for number in range(3):
        await asyncio.to_thread(broker.cut, refuse=True)
        await there.host.create(f"vm{number}")
        calling = asyncio.create_task(bridge.call(vm.list_, {}, ADMIN))
        await asyncio.to_thread(broker.listen)
        listed = (await calling).result
        assert isinstance(listed, list)
        assert len(listed) == number + 1
    await there.host.journal.flush()
    expected = [record.id for record in await there.host.events(since=seen[0].id - 1 if seen else 0)]
    await soon("all events have come", lambda: len(seen) >= len(expected))
    watching.cancel()
    assert [record.id for record in seen] == expected


def test_a_daemon_and_the_shell(tmp_path: Path, broker: QpiddPeer) -> None:
    """The whole way: vdsmd as it is run, and vdsmsh on the bus."""
    secret = tmp_path / "secret"
    secret.write_text(USERS["host"])
    secret.chmod(0o600)
    bus = (
        f'[bus]\naddress = "{broker.url().replace("://", "://host@")}"\npassword_file = "{secret}"\n'
        'name = "h1"\nusers = { engine = "admin" }\n'
    )
    other = tmp_path / "other"
    other.write_text(USERS["engine"])
    other.chmod(0o600)
    environment = {
        **os.environ, "VDSM_BUS": broker.url().replace("://", "://engine@"), "VDSM_TOKEN_FILE": str(other),
    }  # fmt: skip

    def shell(*words: str) -> Any:
        done = subprocess.run(
            [Path(sys.executable).parent / "vdsmsh", "--output", "json", *words],
            capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60 * BUSY, env=environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    with simulated(tmp_path, 3, bus):
        (seen,) = shell("host", "list")
        assert (seen["name"], seen["state"], seen["vmCount"]) == ("h1", "up", 3)
        machines = shell("--host", "h1", "vm", "list")
        assert len(machines) == 3
        shell("--host", "h1", "vm", "pause", machines[0]["vmId"])
        assert {one["status"] for one in shell("--host", "h1", "vm", "list")} == {"Up", "Paused"}

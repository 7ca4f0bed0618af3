# SPDX-License-Identifier: Apache-2.0
"""A console and a host on a real broker: finding, asking, hearing, and what a cut or a restart does to it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from functools import partial

import msgspec
import pytest

from harness.memory_host import ADMIN, MemoryHost
from harness.qpidd_peer import QpiddPeer
from harness.rabbitmq import RabbitMQ
from harness.until import soon
from vdsm.amqp.address import BusAddress
from vdsm.amqp.bus import Bus
from vdsm.amqp.places import Topic
from vdsm.bindings.qmf.agent import Agent
from vdsm.bindings.qmf.options import AgentOptions
from vdsm.bindings.qmf.users import Users
from vdsm.client.qmf import Change, Console, RemoteBridge, State
from vdsm.client.qmf.all_events import follow_all
from vdsm.contract import host, task, vm
from vdsm.contract.access import Role
from vdsm.contract.errors import AccessDenied, HostUnreachable, NoSuchVM, StreamNotCarried
from vdsm.contract.events import EventFilter, EventRecord, Gap
from vdsm.contract.vm_info import VmInfo
from vdsm.drivers.simulated import Faults, SimulatedHypervisor
from vdsm.protocols.qmf2 import names, writing
from vdsm.protocols.qmf2.model import AgentAttributes, Query, SchemaFilter, What
from vdsm.protocols.qmf2.predicates import Predicate

ON_ONE = pytest.mark.parametrize("url", ["qpidd"], indirect=True)  # slow ones: the broker does not matter to them
ROLES = {"engine": Role.ADMIN, "viewer": Role.VIEWER}


@dataclass
class OnBus:
    """A host in memory, with an agent that can leave and come back."""

    memory: MemoryHost
    url: str
    instance: str
    name: str = ""
    epoch: int = 1
    agent: Agent | None = None

    async def join(self) -> None:
        last = self.memory.journal.last
        options = AgentOptions(
            instance=self.instance,
            host_name=self.name or f"name-{self.instance}",
            version="1",
            users=Users(roles=ROLES),
            heartbeat_s=1,
        )
        bus = Bus(BusAddress.parse(self.url), name="vdsmtest-agent")
        self.agent = Agent(self.memory.bridge, bus, options, epoch=self.epoch, since=last)
        await self.agent.open()

    async def leave(self) -> None:
        if self.agent is not None:
            await self.agent.close()
            self.agent = None

    async def restart(self) -> None:
        await self.leave()
        self.epoch += 1
        await self.join()


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture(params=["rabbitmq", "qpidd"])
def url(request: pytest.FixtureRequest) -> Iterator[Callable[[str], str]]:
    """A broker's address by user: of a real RabbitMQ, or of a peer that behaves as qpidd does."""
    if request.param == "rabbitmq":
        broker: RabbitMQ = request.getfixturevalue("rabbitmq")
        yield broker.url
    else:
        with QpiddPeer({user: user for user in ("host-a", "engine", "viewer")}) as peer:
            yield peer.url


MakeHost = Callable[..., Awaitable[OnBus]]
MakeConsole = Callable[..., Awaitable[Console]]


@pytest.fixture
def make_host(url: Callable[[str], str], stack: AsyncExitStack) -> MakeHost:
    async def make(name: str = "") -> OnBus:
        memory = MemoryHost(None)
        await memory.open()
        stack.push_async_callback(memory.close)
        made = OnBus(memory, url("host-a"), f"t{secrets.token_hex(6)}", name)
        await made.join()
        stack.push_async_callback(made.leave)
        return made

    return make


@pytest.fixture
def make_console(url: Callable[[str], str], stack: AsyncExitStack) -> MakeConsole:
    async def make(user: str = "engine") -> Console:
        console = Console(Bus(BusAddress.parse(url(user)), name="vdsmtest-console"))
        await stack.enter_async_context(console)
        await console.wait_up(60)
        return console

    return make


@pytest.fixture
async def there(make_host: MakeHost) -> OnBus:
    return await make_host()


@pytest.fixture
async def console(make_console: MakeConsole) -> Console:
    return await make_console()


@pytest.fixture
def bridge(console: Console, there: OnBus) -> RemoteBridge:
    return RemoteBridge(console, there.instance)


# ---- who is there ----------------------------------------------------------------------------------------------------


async def test_hosts_are_found_by_name_and_by_id(console: Console, there: OnBus) -> None:
    found = await console.find(f"name-{there.instance}", 30)
    assert found is await console.find(there.instance, 30)
    assert (found.epoch, found.state, found.interval) == (1, State.UP, 1.0)


@ON_ONE
async def test_a_host_that_is_not_there_is_told(console: Console) -> None:
    with pytest.raises(HostUnreachable, match="no host called 'nobody'"):
        await RemoteBridge(console, "nobody").call(host.ping2, {}, ADMIN)


@ON_ONE
async def test_silence_is_noticed_and_so_is_a_restart(console: Console, there: OnBus) -> None:
    found = await console.find(there.instance, 30)
    told: list[Change] = []
    console.hosts.watch(lambda change, which: told.append(change) if which is found else None)
    await there.leave()
    await soon("it is silent", lambda: found.state is State.SILENT)
    there.epoch += 1
    await there.join()
    await soon("it is back", lambda: Change.RESTARTED in told)
    assert told == [Change.SILENT, Change.BACK, Change.RESTARTED]


async def test_whose_name_only_begins_so_is_not_taken_for_who_is_meant(
    make_console: MakeConsole, make_host: MakeHost, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However slow the right one is to answer, within reason; this one must first be made, on a busy machine."""
    monkeypatch.setattr("vdsm.client.qmf.console.SETTLE", 5.0)
    longer = await make_host(name=f"{prefix}-and-more")
    console = await make_console()
    await console.find(longer.instance, 30)
    finding = asyncio.create_task(console.find(prefix, 30))
    await asyncio.sleep(0.1)
    right = await make_host(name=prefix)
    assert (await finding).instance == right.instance


async def test_nobody_speaks_for_another(console: Console, there: OnBus, url: Callable[[str], str]) -> None:
    """Under its own key a host says that it is another one."""
    found = await console.find(there.instance, 30)
    before = (found.epoch, found.name)
    bad = Bus(BusAddress.parse(url("host-a")), name="vdsmtest-bad")
    await bad.open()
    await bad.wait_up(60)
    forged = AgentAttributes(
        name=found.agent, instance=there.instance, timestamp_ns=1, interval_s=1, epoch=99, others={"hostName": "mine"}
    )
    message = writing.heartbeat(forged)
    bad.send(Topic(names.heartbeat_key(names.AgentName("vdsm.org", "vdsmd", "bad"))), message)
    unknown = writing.heartbeat(msgspec.structs.replace(forged, name="vdsm.org:vdsmd:bad", instance="bad"))
    bad.send(Topic(names.heartbeat_key(names.AgentName("vdsm.org", "vdsmd", "bad"))), unknown)
    await console.find("bad", 30)
    assert (found.epoch, found.name) == before
    await bad.close()


# ---- calls -----------------------------------------------------------------------------------------------------------


async def test_results_are_typed(bridge: RemoteBridge) -> None:
    made = (await bridge.call(vm.create, {"vmParams": {"name": "a", "memory": 64}}, ADMIN)).result
    assert isinstance(made, VmInfo)
    (listed,) = (await bridge.call(vm.list_, {}, ADMIN)).result
    assert listed.vm_id == made.vm_id


async def test_problems_are_typed(bridge: RemoteBridge) -> None:
    with pytest.raises(NoSuchVM) as missing:
        await bridge.call(vm.get_info, {"vmID": "00000000-0000-4000-8000-000000000000"}, ADMIN)
    assert missing.value.facts["vm"].startswith("00000000")


async def test_the_user_of_the_broker_is_who_calls(make_console: MakeConsole, there: OnBus) -> None:
    bridge = RemoteBridge(await make_console("viewer"), there.instance)
    assert (await bridge.call(vm.list_, {}, ADMIN)).result == []
    with pytest.raises(AccessDenied, match="viewer"):
        await bridge.call(vm.create, {"vmParams": {"name": "a", "memory": 64}}, ADMIN)


async def test_a_plan_does_nothing(bridge: RemoteBridge) -> None:
    outcome = await bridge.call(vm.create, {"vmParams": {"name": "a", "memory": 64}}, ADMIN, plan=True)
    assert outcome.plan is not None
    assert [step.title for step in outcome.plan.steps]
    assert (await bridge.call(vm.list_, {}, ADMIN)).result == []


async def test_a_task_may_be_left_to_itself(bridge: RemoteBridge, there: OnBus) -> None:
    made = (await bridge.call(vm.create, {"vmParams": {"name": "a", "memory": 64}}, ADMIN)).result
    assert isinstance(made, VmInfo)
    outcome = await bridge.call(vm.shutdown, {"vmID": made.vm_id}, ADMIN, wait=0)
    assert outcome.detached
    assert outcome.task is not None
    again = await bridge.call(task.get, {"taskID": outcome.task.id}, ADMIN)
    assert again.result is not None


async def test_a_key_makes_it_once(bridge: RemoteBridge) -> None:
    params = {"vmParams": {"name": "a", "memory": 64}}
    first = await bridge.call(vm.create, params, ADMIN, idempotency_key="k")
    second = await bridge.call(vm.create, params, ADMIN, idempotency_key="k")
    assert (first.result, first.replayed, second.replayed) == (second.result, False, True)


async def test_a_stream_is_not_carried(bridge: RemoteBridge) -> None:
    with pytest.raises(StreamNotCarried):
        await bridge.open(vm.console, {"vmID": "x"}, ADMIN)
    with pytest.raises(StreamNotCarried):
        await bridge.call(vm.console, {"vmID": "x"}, ADMIN)


async def test_large_answers_come_whole(bridge: RemoteBridge) -> None:
    text = "grüß " * 800
    assert (await bridge.call(host.echo, {"message": text}, ADMIN)).result == text
    for number in range(60):
        await bridge.call(vm.define, {"vmParams": {"name": f"m{number}", "memory": 64}}, ADMIN)
    listed = (await bridge.call(host.get_vm_full_list, {}, ADMIN)).result
    assert len(listed) == 60


async def test_objects_by_predicate(console: Console, bridge: RemoteBridge, there: OnBus) -> None:
    for number in range(3):
        await bridge.call(vm.create, {"vmParams": {"name": f"m{number}", "memory": 64}}, ADMIN)
    found = await console.find(there.instance, 30)
    query = Query(what=What.OBJECT, schema=SchemaFilter(name="VM"), where=Predicate(["eq", "vmName", ["quote", "m1"]]))
    (machine,) = await console.query(found.agent, query, 30)
    assert machine.values["vmName"] == "m1"


# ---- when something breaks -------------------------------------------------------------------------------------------


async def test_a_call_goes_on_over_a_restart_and_is_done_once(
    console: Console, bridge: RemoteBridge, there: OnBus
) -> None:
    await console.find(there.instance, 30)
    await there.leave()
    creating = asyncio.create_task(bridge.call(vm.create, {"vmParams": {"name": "a", "memory": 64}}, ADMIN))
    await asyncio.sleep(0.1)
    there.epoch += 1
    await there.join()
    assert isinstance((await creating).result, VmInfo)
    tasks = (await bridge.call(task.list_, {}, ADMIN)).result
    assert len(tasks) == 1


@ON_ONE
async def test_who_stays_away_is_not_waited_for(console: Console, bridge: RemoteBridge, there: OnBus) -> None:
    await console.find(there.instance, 30)
    await there.leave()
    with pytest.raises(HostUnreachable, match="its daemon was stopped"):
        await bridge.call(host.ping2, {}, ADMIN, deadline=0.1)


@pytest.fixture
def peer() -> Iterator[QpiddPeer]:
    with QpiddPeer({user: user for user in ("host-a", "engine")}) as made:
        yield made


async def test_what_is_under_way_goes_on_over_cuts_and_is_done_once(peer: QpiddPeer) -> None:
    async with AsyncExitStack() as stack:
        memory = MemoryHost(None, SimulatedHypervisor(obeys_after=0.05))
        await memory.open()
        stack.push_async_callback(memory.close)
        there = OnBus(memory, peer.url("host-a"), f"t{secrets.token_hex(6)}")
        await there.join()
        stack.push_async_callback(there.leave)
        console = await stack.enter_async_context(Console(Bus(BusAddress.parse(peer.url("engine")))))
        bridge = RemoteBridge(console, there.instance)
        await console.find(there.instance, 30)
        seen: list[object] = []

        async def follow() -> None:
            async with aclosing(follow_all(console, EventFilter(), since=0)) as events:
                async for _, item in events:
                    seen.append(item)

        following = asyncio.create_task(follow())
        memory.hypervisor.faults = Faults.parse("start:delay=0.7")
        calls = [
            asyncio.create_task(bridge.call(vm.create, {"vmParams": {"name": f"m{n}", "memory": 64}}, ADMIN))
            for n in range(20)
        ]
        for _ in range(3):
            await asyncio.sleep(0.2)
            peer.cut()
        made = [(await asyncio.wait_for(call, 60)).result for call in calls]
        assert len({each.vm_id for each in made if isinstance(each, VmInfo)}) == 20
        assert len((await bridge.call(task.list_, {}, ADMIN)).result or []) == 20
        wanted = await memory.events()
        await soon("every event came", lambda: len(seen) >= len(wanted))
        assert seen[: len(wanted)] == wanted
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


# ---- events ----------------------------------------------------------------------------------------------------------


async def test_events_come_as_they_happen_and_resume_by_id(bridge: RemoteBridge, there: OnBus) -> None:
    seen: list[EventRecord | Gap] = []

    async def follow(since: int | None, count: int) -> None:
        async with aclosing(bridge.subscribe(EventFilter(), ADMIN, since=since)) as events:
            async for item in events:
                seen.append(item)
                if len(seen) >= count:
                    return

    await there.memory.create("a")
    before = await there.memory.events()
    await asyncio.wait_for(follow(0, len(before)), 60)
    assert seen == before
    following = asyncio.create_task(follow(before[-1].id, len(before) + 3))
    await asyncio.sleep(0.3)
    await there.memory.create("b")
    await there.memory.create("c")
    await asyncio.wait_for(following, 60)
    assert seen == (await there.memory.events())[: len(seen)]


async def test_events_missed_over_a_restart_are_read_from_the_journal(bridge: RemoteBridge, there: OnBus) -> None:
    events = bridge.subscribe(EventFilter(types=["VM_defined"]), ADMIN, since=0)
    await there.memory.create("a")
    seen = [await anext(events)]
    await there.leave()
    await there.memory.create("b")
    await there.restart()
    await there.memory.create("c")
    wanted = [record for record in await there.memory.events() if record.data.name == "VM_defined"]
    assert len(wanted) >= 3
    while len(seen) < len(wanted):
        seen += [await asyncio.wait_for(anext(events), 60)]
    assert seen == wanted


async def test_what_is_no_longer_kept_is_a_gap(bridge: RemoteBridge) -> None:
    first = await anext(bridge.subscribe(EventFilter(), ADMIN, since=2**52))
    assert isinstance(first, Gap)


async def test_events_of_every_host_also_of_one_that_joins_later(console: Console, make_host: MakeHost) -> None:
    one = await make_host()
    await console.find(one.instance, 30)
    seen: dict[str, list[object]] = {}

    async def follow() -> None:
        async with aclosing(follow_all(console, EventFilter(), since=0)) as events:
            async for which, item in events:
                seen.setdefault(which.instance, []).append(item)

    following = asyncio.create_task(follow())
    await one.memory.create("a")
    two = await make_host()
    await two.memory.create("b")
    for there in (one, two):
        wanted = await there.memory.events()
        mine = seen.setdefault(there.instance, [])
        await soon("they are seen", partial(lambda found, count: len(found) >= count, mine, len(wanted)))
        assert mine[: len(wanted)] == wanted
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)

# SPDX-License-Identifier: Apache-2.0
"""Simulated hosts in one process, each with an agent on a bus of its own. Obeys one word a line on its input: `join`,
`events ROUNDS`; answers `done` with what there is to say."""

from __future__ import annotations

import asyncio
import sys

from harness.memory_host import MemoryHost
from vdsm.amqp.address import BusAddress
from vdsm.amqp.bus import Bus
from vdsm.bindings.qmf.agent import Agent
from vdsm.bindings.qmf.options import AgentOptions
from vdsm.bindings.qmf.users import Users
from vdsm.contract import vm
from vdsm.contract.access import Role
from vdsm.daemon.config import Config
from vdsm.daemon.drivers import simulated
from vdsm.drivers.simulated import SimulatedHypervisor

USERS = Users(roles={"engine": Role.ADMIN})
AT_ONCE = 10  # hosts that join at the same time


class Crowd:
    def __init__(self, url: str, first: int, count: int, machines: int) -> None:
        self._address = BusAddress.parse(url)
        self._numbers = range(first, first + count)
        self._machines = machines
        self._hosts: list[MemoryHost] = []
        self._agents: list[Agent] = []
        self._rounds = 0

    async def make(self) -> None:
        for _ in self._numbers:
            hypervisor = (await simulated(Config(), self._machines)).hypervisor
            assert isinstance(hypervisor, SimulatedHypervisor)
            host = MemoryHost(None, hypervisor=hypervisor, owner=Config().daemon.owner)
            await host.open()
            self._hosts.append(host)

    async def join(self) -> None:
        places = asyncio.Semaphore(AT_ONCE)

        async def one(number: int, host: MemoryHost) -> None:
            bus = Bus(self._address, name=f"vdsmbench-{number}")
            options = AgentOptions(instance=f"h{number}", host_name=f"h{number}", version="1", users=USERS)
            await host.journal.flush()
            agent = Agent(host.bridge, bus, options, epoch=1, since=host.journal.last)
            self._agents.append(agent)
            async with places:
                await agent.open()
                await bus.wait_up(120)

        await asyncio.gather(*(one(n, host) for n, host in zip(self._numbers, self._hosts, strict=True)))

    async def events(self, rounds: int) -> int:
        """One event of each host in each round; how many there were."""
        before = [host.journal.last for host in self._hosts]
        ids = [(await host.call(vm.list_))[0].vm_id for host in self._hosts]
        for _ in range(rounds):
            verb = vm.cont if self._rounds % 2 else vm.pause
            self._rounds += 1
            await asyncio.gather(*(host.call(verb, vmID=vm_id) for host, vm_id in zip(self._hosts, ids, strict=True)))
        for host in self._hosts:
            await host.journal.flush()
        return sum(host.journal.last - old for host, old in zip(self._hosts, before, strict=True))

    async def close(self) -> None:
        await asyncio.gather(*(agent.close() for agent in self._agents))
        for host in self._hosts:
            await host.close()


async def obey(crowd: Crowd) -> None:
    await crowd.make()
    print("done", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        match line.split():
            case ["join"]:
                await crowd.join()
                print("done", flush=True)
            case ["events", rounds]:
                print("done", await crowd.events(int(rounds)), flush=True)
    await crowd.close()


if __name__ == "__main__":
    asyncio.run(obey(Crowd(sys.argv[1], *map(int, sys.argv[2:5]))))

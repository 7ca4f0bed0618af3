# SPDX-License-Identifier: Apache-2.0
"""A whole host in memory: the real core and store over the simulated drivers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vdsm.contract import AnyVerb, vm
from vdsm.contract.access import Role
from vdsm.contract.events import EventRecord
from vdsm.contract.outcome import Outcome
from vdsm.contract.vm_info import VmInfo
from vdsm.core.audit import Audit
from vdsm.core.caller import Caller
from vdsm.core.event import Events
from vdsm.core.host.host import Host
from vdsm.core.journal import Journal
from vdsm.core.local import LocalBridge
from vdsm.core.locks import Locks
from vdsm.core.refusals import Refusals
from vdsm.core.steps import Operations
from vdsm.core.storage.parts import Settings, StorageParts
from vdsm.core.task import Boundary, Tasks
from vdsm.core.token import Tokens
from vdsm.core.vm.parts import VmParts
from vdsm.core.vm.surroundings import Surroundings
from vdsm.core.vm.table import Table
from vdsm.drivers.simulated.computer import SimulatedMachine
from vdsm.drivers.simulated.disks import SimulatedDisks
from vdsm.drivers.simulated.faults import Faults
from vdsm.drivers.simulated.files import SimulatedFiles
from vdsm.drivers.simulated.hypervisor import SimulatedHypervisor
from vdsm.drivers.simulated.images import SimulatedImages
from vdsm.drivers.simulated.leases import SimulatedLeases
from vdsm.drivers.simulated.links import SimulatedLinks
from vdsm.drivers.simulated.mounts import SimulatedMounts
from vdsm.drivers.simulated.remotes import SimulatedRemotes
from vdsm.drivers.simulated.transfers import SimulatedServers, SimulatedTransfers
from vdsm.drivers.simulated.tree import Tree
from vdsm.state.store import Retention, Store

ADMIN = Caller(identity="test:admin", channel="test", role=Role.ADMIN)
OPERATOR = Caller(identity="test:operator", channel="test", role=Role.OPERATOR)
VIEWER = Caller(identity="test:viewer", channel="test", role=Role.VIEWER)


@dataclass
class Meter:
    """Keeps what it is told."""

    seen: list[tuple[str, str]] = field(default_factory=list)

    def observe(self, method: str, verdict: str, seconds: float) -> None:
        assert seconds >= 0
        self.seen.append((method, verdict))


class MemoryHost:
    """`hypervisor`, `tree`, `mounts` and `leases` outlive it when given: a daemon that starts again on the same host.

    Hosts with one `tree` share their storage, and its leases if those have one board.
    """

    def __init__(
        self,
        directory: Path | None,
        hypervisor: SimulatedHypervisor | None = None,
        at_boundary: Boundary | None = None,
        owner: str = "test",
        tree: Tree | None = None,
        mounts: SimulatedMounts | None = None,
        leases: SimulatedLeases | None = None,
        monitor_s: float = 10.0,
        retention: Retention | None = None,
        local_leases: bool = False,
    ) -> None:
        self.tree = tree or Tree()
        self.hypervisor = hypervisor or SimulatedHypervisor(obeys_after=0.05)
        self.hypervisor.tree = self.tree
        self.store = Store(directory, retention)
        self.journal = Journal(self.store.events)
        self.locks = Locks()
        self.meter = Meter()
        self.tasks = Tasks(self.store.tasks, self.journal, self.locks, at_boundary)
        self.table = Table(self.hypervisor, self.journal, owner)
        self.tokens = Tokens(self.store.tokens)
        self.refusals = Refusals(self.store.audit)
        self.mounts = mounts or SimulatedMounts(self.tree)
        self.lease_faults = Faults()
        self.leases = leases or SimulatedLeases(faults=self.lease_faults, tree=self.tree)
        self.file_faults = Faults()
        self.disk_faults = Faults()
        self.storage_files = disk_files = SimulatedFiles(self.tree, self.file_faults)
        self.disk_images = disk_images = SimulatedDisks(self.tree, self.disk_faults)
        self.remotes = SimulatedRemotes()
        self.transfer_faults = Faults()
        self.servers, self.transfers = SimulatedServers(disk_images), SimulatedTransfers(self.transfer_faults)
        self.storage = StorageParts(
            disk_files,
            disk_images,
            self.mounts,
            self.leases,
            self.servers,
            self.transfers,
            self.remotes,
            self.store.storage,
            self.journal,
            Settings(
                ["/storage"],
                "/data-center",
                "/run/vdsm/storage",
                local_leases=local_leases,
                monitor_interval_s=monitor_s,
                monitor_patience_s=10 * monitor_s,
                remote_servers=["images.test"],
            ),
            lambda object_id: self.machines.admission.users(object_id),
            lambda object_id: self.machines.admission.strangers(object_id),
            lambda object_id: self.machines.admission.runners(object_id),
        )
        self.repository = self.storage.repository
        machine, links = SimulatedMachine(), SimulatedLinks()
        self.machines = VmParts(
            self.hypervisor,
            self.table,
            SimulatedImages(tree=self.tree),
            disk_images,
            self.storage,
            self.store.storage,
            Surroundings(machine, links),
            owner=owner,
            directories=["/images"],
            prepared="/run/vdsm/storage",
            locks=self.locks,
            unfinished=self.tasks.unfinished,
        )
        self.bridge = LocalBridge(
            [
                *self.machines.services,
                *self.storage.services,
                Host(machine, links, self.hypervisor, self.machines.vms.counts, self.storage.monitor.vitals),
                self.tokens,
                Audit(self.store.audit),
                Events(self.journal),
            ],
            tasks=self.tasks,
            journal=self.journal,
            locks=self.locks,
            audit=self.store.audit,
            keys=self.store.keys,
            meter=self.meter,
            refusals=self.refusals,
        )

    async def open(self) -> None:
        await self.store.open()
        await self.journal.start()
        await self.tasks.load(Operations(*self.machines.operations, *self.storage.operations))
        await self.table.open()
        await self.table.loaded()
        await self.storage.open()
        await self.machines.open()
        await self.storage.loaded()
        self.tasks.recover(self.storage.able())
        self.bridge.ready = True

    async def close(self) -> None:
        await self.bridge.drain(1)
        await self.machines.close()
        await self.storage.close()
        await self.table.close()
        await self.journal.close()
        await self.refusals.close()
        await self.store.close()

    async def call(self, verb: AnyVerb, caller: Caller = ADMIN, **params: object) -> Any:
        return (await self.outcome(verb, caller, **params)).result

    async def outcome(self, verb: AnyVerb, caller: Caller = ADMIN, **params: object) -> Outcome[object]:
        return await self.bridge.call(verb, params, caller)

    async def events(self, since: int = 0) -> list[EventRecord]:
        await self.journal.flush()
        records, _ = await self.journal.read(since, 10_000)
        return records

    async def create(self, name: str = "a", **params: object) -> VmInfo:
        made = await self.call(vm.create, vmParams={"name": name, "memory": 64, **params})
        assert isinstance(made, VmInfo)
        return made

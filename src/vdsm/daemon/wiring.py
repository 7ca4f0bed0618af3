# SPDX-License-Identifier: Apache-2.0
"""The composition root: which parts there are, what each is given, in which order they open and close."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from vdsm import __version__
from vdsm.contract import VERBS, check
from vdsm.contract.events import HostStarted
from vdsm.core.audit import Audit
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
from vdsm.state import Retention, Store

from .config import Config
from .drivers import Drivers
from .metrics import Metrics

log = logging.getLogger(__name__)

_LEAST_PATIENCE = 2.0  # seconds that storage may always take to answer
FIRST_LOOK = 5.0  # seconds the daemon waits for libvirt before it says that it is ready without it


class House:
    """Everything behind the bridge. Without a state directory nothing survives it.

    Raises ContractError at once for a verb that breaks a rule of the contract or has no handler. `at_boundary` is
    called at each step boundary of each task: for tests of crashes.
    """

    def __init__(
        self, config: Config, drivers: Drivers, state: Path | None, *, at_boundary: Boundary | None = None
    ) -> None:
        check(VERBS.values())
        owner = config.daemon.owner
        self._drivers = drivers
        self.last_event_before = 0  # id of the newest event of the daemons before
        self._store = store = Store(state, Retention(events=config.events.keep, audit=config.audit.keep))
        self.journal = Journal(store.events)
        locks = Locks()
        self._tasks = Tasks(store.tasks, self.journal, locks, at_boundary)
        self.tokens = Tokens(store.tokens)
        self._table = Table(drivers.hypervisor, self.journal, owner)
        storage = config.storage
        settings = Settings(
            storage.directories,
            storage.repository,
            storage.prepared,
            local_leases=storage.local_leases,
            monitor_interval_s=storage.monitor_interval_s,
            monitor_patience_s=max(storage.monitor_interval_s, _LEAST_PATIENCE),
            remote_servers=config.transfers.remote_servers,
        )
        self._storage = StorageParts(
            drivers.files,
            drivers.disks,
            drivers.mounts,
            drivers.leases,
            drivers.servers,
            drivers.transfers,
            drivers.remotes,
            store.storage,
            self.journal,
            settings,
            lambda object_id: self._vms.admission.users(object_id),
            lambda object_id: self._vms.admission.strangers(object_id),
            lambda object_id: self._vms.admission.runners(object_id),
        )
        self._vms = VmParts(
            drivers.hypervisor,
            self._table,
            drivers.images,
            drivers.disks,
            self._storage,
            store.storage,
            Surroundings(drivers.machine, drivers.links),
            owner=owner,
            directories=config.vm.directories,
            prepared=storage.prepared,
            locks=locks,
            unfinished=self._tasks.unfinished,
        )
        vitals = self._storage.monitor.vitals
        self._host = Host(drivers.machine, drivers.links, drivers.hypervisor, self._vms.vms.counts, vitals)
        self.metrics = Metrics()
        self.refusals = Refusals(store.audit)
        self.bridge = LocalBridge(
            [
                *self._vms.services,
                *self._storage.services,
                self._host,
                self.tokens,
                Audit(store.audit),
                Events(self.journal),
            ],
            tasks=self._tasks,
            journal=self.journal,
            locks=locks,
            audit=store.audit,
            keys=store.keys,
            meter=self.metrics,
            refusals=self.refusals,
        )
        self._operations = Operations(*self._vms.operations, *self._storage.operations, self.tokens)
        self._opened = contextlib.AsyncExitStack()

    async def open(self) -> None:
        """Take up where the last daemon ended. Raises StateUnavailable."""
        async with contextlib.AsyncExitStack() as opened:
            opened.push_async_callback(self._drivers.close)
            opened.push_async_callback(self._store.close)
            await self._store.open()
            opened.push_async_callback(self.refusals.close)
            opened.push_async_callback(self.journal.close)
            await self.journal.start()
            self.last_event_before = self.journal.last
            opened.push_async_callback(self.tokens.close)
            await self.tokens.start()
            await self._host.start()
            self.journal.publish(HostStarted(version=__version__, clean=self._store.clean))
            await self._tasks.load(self._operations)
            opened.push_async_callback(self._table.close)
            await self._table.open()
            opened.push_async_callback(self._storage.close)
            await self._storage.open()
            opened.push_async_callback(self._vms.close)
            await self._vms.open()
            self._tasks.recover(self._able())
            self._show_gauges()
            self._opened = opened.pop_all()
        await self._first_look()
        self.bridge.ready = True

    async def close(self) -> None:
        """What still runs is cut short; the next start takes it up."""
        await self.bridge.drain(0)
        await self._opened.aclose()

    async def _able(self) -> None:
        """When what tasks need is there."""
        await self._table.loaded()
        await self._storage.able()

    async def count_start(self) -> int:
        """The number of this start of the daemon. Raises StateUnavailable."""
        return await self._store.starts.count()

    async def host_uuid(self) -> str:
        """Empty if the host has none."""
        return (await self._drivers.machine.setup()).host_uuid

    async def _first_look(self) -> None:
        try:
            async with asyncio.timeout(FIRST_LOOK):
                await self._table.loaded()
        except TimeoutError:
            log.warning("libvirt has not answered yet: serving without it until it does")

    def _show_gauges(self) -> None:
        metrics = self.metrics
        metrics.gauges("vdsm_vms", "Virtual machines by state.", "state", self._vms_by_state)
        metrics.gauges("vdsm_storage_domains", "Storage domains by state.", "state", self._storage.monitor.by_state)
        metrics.gauge("vdsm_tasks_running", "Tasks under way.", self._tasks.running)
        metrics.gauge("vdsm_events_last_id", "The id of the newest event.", lambda: self.journal.last)

    def _vms_by_state(self) -> Mapping[str, int]:
        return Counter(row.status.value for row in self._table)

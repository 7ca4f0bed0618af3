# SPDX-License-Identifier: Apache-2.0
"""Which host is in charge of a pool. With leases it is the one that holds the lease of the pool's master; where there
are none it is this host's word."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Collection
from typing import NamedTuple

from vdsm.contract.errors import Problem
from vdsm.contract.errors_domains import SpmStartError
from vdsm.contract.errors_storage import AcquireLockFailure
from vdsm.contract.events import PoolStatus
from vdsm.contract.storage_pool import SpmRole
from vdsm.core import background, flow
from vdsm.core.journal import Journal
from vdsm.core.ports.leases import Lease, Leases
from vdsm.core.steps import operation

from .domain_leases import IN_CHARGE, charge_lease
from .format.domain_meta import NO_HOST
from .host_ids import HostIds
from .records import Domain, PoolRecord
from .repository import Repository

log = logging.getLogger(__name__)


class Holder(NamedTuple):
    """The host in charge, and how often some host has taken charge; -1 and -1: none."""

    host_id: int
    version: int


NOBODY = Holder(NO_HOST, -1)


class Charge:
    def __init__(self, leases: Leases, repository: Repository, host_ids: HostIds, journal: Journal) -> None:
        self._leases = leases
        self._repository = repository
        self._host_ids = host_ids
        self._journal = journal
        self._losses = 0
        self._contending: set[str] = set()
        self._works: set[asyncio.Task[None]] = set()
        self._again: dict[str, asyncio.Task[None]] = {}  # by pool

    def open(self) -> None:
        """What the last daemon was in charge of this one is not, until it holds the lease itself: it tries to."""
        was = [pool for pool in self._repository.pools() if pool.leases and pool.in_charge]
        for pool in was:
            self._repository.drop_charge(pool.id)
            name = f"take charge of {pool.id} again"
            self._again[pool.id] = background.begin(self._take_again(pool), name=name)

    async def settled(self) -> None:
        """Wait until it is known of each pool whether this host is in charge of it again."""
        if self._again:
            await asyncio.wait(list(self._again.values()))

    async def close(self) -> None:
        works = [*self._works, *self._again.values()]
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)

    async def _take_again(self, pool: PoolRecord) -> None:
        try:
            await self._take(pool)
        except Problem as problem:
            log.warning("this host is not in charge of storage pool %s any more: %s", pool.id, problem)
            await self._repository.keep_charge(pool.id)
            self._tell(pool.id, reason=str(problem))

    # ---- who it is -------------------------------------------------------------------------------------------------

    def role(self, pool: PoolRecord) -> SpmRole:
        if pool.in_charge:
            return SpmRole.SPM
        return SpmRole.CONTEND if pool.id in self._contending else SpmRole.FREE

    async def holder(self, pool: PoolRecord) -> Holder:
        """As the storage says. Raises SanlockInquireError, LockManagerUnavailable, StorageUnusable."""
        if pool.in_charge:
            return Holder(pool.host_id, pool.lver)
        if not pool.leases:
            return NOBODY
        state = await self._leases.state(charge_lease(await self._repository.usable(pool.master)))
        return Holder(state.owners[0], state.version) if state.owners else NOBODY

    # ---- taking and giving up --------------------------------------------------------------------------------------

    @operation("pool.take_charge")
    async def take(self, pool_id: str, previous: int) -> None:
        """`previous`: how often some host has taken charge, as far as the caller knows.

        Raises AcquireHostIdFailure, AcquireLockFailure (another host is in charge), SpmStartError.
        """
        pool = self._repository.connected(pool_id)
        if pool.in_charge:
            return
        if pool.leases:
            await self._take(pool)
        else:
            await self._repository.take_charge(pool_id, max(pool.lver, previous) + 1)
            self._tell(pool_id, in_charge=True)

    async def _take(self, pool: PoolRecord) -> None:
        """By its lease: before that nothing is written."""
        self._contending.add(pool.id)
        try:
            await self._host_ids.wait(pool.master, pool.host_id)
            lease = charge_lease(await self._repository.usable(pool.master))
            losses = self._losses
            await self._acquire(pool.id, pool.host_id, lease)
            try:
                version = (await self._leases.state(lease)).version
                if losses != self._losses:
                    raise SpmStartError(pool=pool.id, reason="leases were lost while it was taken")
                await self._repository.take_charge(pool.id, version)
            except Problem:
                self._repository.drop_charge(pool.id)
                await self._leases.release(lease, pool.host_id)
                raise
        finally:
            self._contending.discard(pool.id)
        self._tell(pool.id, in_charge=True)

    async def move(self, old: PoolRecord, new: PoolRecord) -> None:
        """Charge of a pool that gets another master: its lease is held before that is the master."""
        if not new.leases:
            await self._repository.connect_pool(new)
            return
        await self._host_ids.wait(new.master, new.host_id)
        lease = charge_lease(await self._repository.usable(new.master))
        await self._acquire(new.id, new.host_id, lease)
        version = (await self._leases.state(lease)).version
        await self._repository.connect_pool(new)
        self._repository.write_to(new.id)  # it was not lost meanwhile
        await self._repository.take_charge(new.id, version)
        await self._leases.release(charge_lease(await self._repository.usable(old.master)), old.host_id)

    @contextlib.asynccontextmanager
    async def borrowed(self, pool_id: str, master: Domain, host_id: int) -> AsyncIterator[None]:
        """For as long as it lasts, of a pool that this host is not connected to.

        Raises AcquireHostIdFailure, AcquireLockFailure: another host is in charge.
        """
        lease = charge_lease(master)
        self._host_ids.join(master.id, host_id)
        try:
            await self._host_ids.wait(master.id, host_id)
            await self._acquire(pool_id, host_id, lease)
            try:
                yield
            finally:
                await self._leases.release(lease, host_id)
        finally:
            await self._host_ids.leave(master.id)

    async def _acquire(self, pool_id: str, host_id: int, lease: Lease) -> None:
        try:
            await self._leases.acquire(lease, host_id)
        except AcquireLockFailure as problem:
            owners = (await self._leases.state(lease)).owners
            if not owners:
                raise
            holder = f"host {owners[0]} is in charge of pool {pool_id}"
            raise AcquireLockFailure(lease=f"{lease.lockspace}:{lease.name}", reason=holder) from problem

    @operation("pool.give_up")
    async def give_up(self, pool_id: str) -> None:
        """Not in charge is fine."""
        if (pool := self._repository.pool(pool_id)) is None:
            return
        if (again := self._again.get(pool_id)) is not None:
            again.cancel()
            await asyncio.wait([again])
        self._repository.drop_charge(pool_id)  # first: from here on nothing is written
        await self._repository.keep_charge(pool_id)
        if pool.leases:
            await self._leases.release(charge_lease(await self._repository.usable(pool.master)), pool.host_id)
        if pool.in_charge:
            self._tell(pool_id)

    def lost(self, leases: Collection[Lease]) -> None:
        """At once: what writes to the pool ends where it stands."""
        self._losses += 1
        masters = {lease.lockspace for lease in leases if lease.name == IN_CHARGE}
        for pool in self._repository.pools():
            if pool.leases and pool.in_charge and pool.master in masters:
                ended = self._repository.drop_charge(pool.id)
                reason = f"its lease was lost; {ended} operations were ended"
                log.error("this host is not in charge of storage pool %s any more: %s", pool.id, reason)
                self._tell(pool.id, reason=reason)
                work = background.begin(self._keep(pool.id), name=f"note the loss of {pool.id}")
                self._works.add(work)
                work.add_done_callback(self._works.discard)

    async def _keep(self, pool_id: str) -> None:
        try:
            await self._repository.keep_charge(pool_id)
        except Problem as problem:
            log.error("that storage pool %s was lost is not written down: %s", pool_id, problem)

    def _tell(self, pool_id: str, *, in_charge: bool = False, reason: str = "") -> None:
        event = PoolStatus(pool_id=pool_id, in_charge=in_charge, reason=reason)
        self._journal.publish(event, flow_id=flow.current.get())

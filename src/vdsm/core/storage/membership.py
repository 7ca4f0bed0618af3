# SPDX-License-Identifier: Apache-2.0
"""The verbs on what a domain is to a pool: whether it belongs to it, and whether it is used."""

from __future__ import annotations

from msgspec.structs import replace

from vdsm.contract import storage_domain
from vdsm.contract.errors_domains import (
    CannotDetachMasterStorageDomain,
    StorageDomainAlreadyAttached,
    StorageDomainDoesNotExist,
    StorageDomainNotInPool,
    StorageInUse,
    StorageUnusable,
)
from vdsm.contract.storage_words import BLANK, StorageDomainImageClass, StorageDomainRole, StorageDomainStatus
from vdsm.core.handlers import Context, handles
from vdsm.core.steps import Step

from .disk import Users
from .domain_operations import DomainOperations
from .format import domain_meta
from .format.domain_meta import PoolMeta
from .masters import MasterSwitch
from .records import Domain, PoolRecord
from .repository import Repository
from .volume_leases import VolumeLeases


class Membership:
    def __init__(
        self,
        repository: Repository,
        operations: DomainOperations,
        switch: MasterSwitch,
        volume_leases: VolumeLeases,
        users: Users,
    ) -> None:
        self._repository = repository
        self._do = operations
        self._switch = switch
        self._volume_leases = volume_leases
        self._users = users

    @handles(storage_domain.attach)
    async def attach(self, ctx: Context, storagedomain_id: str, storagepool_id: str) -> None:
        pool = await self._pool(ctx, storagedomain_id, storagepool_id)
        domain = await self._repository.refresh(storagedomain_id)
        old = domain.metadata()
        shared = old.domain_class is StorageDomainImageClass.ISO
        for other in () if shared else old.pools:
            if other != storagepool_id:
                raise StorageDomainAlreadyAttached(domain=domain.name, pool=other)
        master = (await self._repository.usable(pool.master)).metadata()
        new = domain_meta.timed_as(domain_meta.attached(old, storagepool_id), master)
        again = self._do.write_domain(domain.root, old, pool.id)
        complete = Step(f"write the leases that {domain.name} lacks", self._do.complete_leases(domain.id))
        await ctx.run(
            *([complete] if pool.leases else []),
            Step(f"attach {domain.name}", self._do.write_domain(domain.root, new, pool.id), again),
            *await self._stand(pool, {**pool.domains, domain.id: StorageDomainStatus.ATTACHED}),
            about=storagedomain_id,
        )

    @handles(storage_domain.detach)
    async def detach(
        self,
        ctx: Context,
        storagedomain_id: str,
        storagepool_id: str,
        master_sd_id: str | None = None,
        master_version: int = 0,
        *,
        force: bool = False,
    ) -> None:
        if force and storagepool_id == BLANK:
            await self._clean(ctx, storagedomain_id)
            return
        pool = await self._pool(ctx, storagedomain_id, storagepool_id)
        if pool.master == storagedomain_id:
            raise CannotDetachMasterStorageDomain(domain=storagedomain_id)
        try:
            domain = await self._member(pool, storagedomain_id)
        except (StorageDomainDoesNotExist, StorageUnusable):
            if not force or storagedomain_id not in pool.domains:
                raise
            await ctx.run(*await self.leave(pool, storagedomain_id), about=storagedomain_id)
            return
        self._check_users(domain)
        await ctx.run(*await self.leave(pool, domain.id), self._detached(pool, domain), about=storagedomain_id)

    async def _clean(self, ctx: Context, domain_id: str) -> None:
        """Of a domain of pools that are no more. Raises StorageDomainAlreadyAttached for one this host knows."""
        await ctx.hold(f"domain:{domain_id}")
        domain = await self._repository.refresh(domain_id)
        if (pool := self._repository.pool_of(domain_id)) is not None:
            raise StorageDomainAlreadyAttached(domain=domain.name, pool=pool.id)
        old = domain.metadata()
        new = replace(domain_meta.ordinary(old), pools=())
        write = self._do.write_domain
        step = Step(f"let {domain.name} belong to no pool", write(domain.root, new, ""), write(domain.root, old, ""))
        await ctx.run(step, about=domain_id)

    async def leave(self, pool: PoolRecord, domain_id: str) -> list[Step]:
        """The pool goes on without the domain."""
        return await self._stand(pool, {name: status for name, status in pool.domains.items() if name != domain_id})

    def _detached(self, pool: PoolRecord, domain: Domain) -> Step:
        old = domain.metadata()
        new = domain_meta.detached(old, pool.id)
        write = self._do.write_domain
        return Step(f"detach {domain.name}", write(domain.root, new, pool.id), write(domain.root, old, pool.id))

    @handles(storage_domain.activate)
    async def activate(self, ctx: Context, storagedomain_id: str, storagepool_id: str) -> None:
        pool = await self._pool(ctx, storagedomain_id, storagepool_id)
        domain = await self._member(pool, storagedomain_id)
        statuses = {**pool.domains, domain.id: StorageDomainStatus.ACTIVE}
        steps = await self._stand(pool, statuses)
        old = domain.metadata()
        if old.role is StorageDomainRole.MASTER and pool.master != domain.id:  # another was made it while it was away
            write = self._do.write_domain
            new = domain_meta.ordinary(old)
            again = write(domain.root, old, pool.id)
            steps.append(Step("be the master no more", write(domain.root, new, pool.id), again))
        if pool.leases and old.domain_class is not StorageDomainImageClass.ISO:
            steps.append(Step("take this host's id there", self._do.wait_for_host_id(domain.id, pool.host_id)))
        await ctx.run(*steps, about=storagedomain_id)

    @handles(storage_domain.deactivate)
    async def deactivate(
        self,
        ctx: Context,
        storagedomain_id: str,
        storagepool_id: str,
        master_sd_id: str | None = None,
        master_version: int = 0,
    ) -> None:
        pool = await self._pool(ctx, storagedomain_id, storagepool_id)
        domain = await self._member(pool, storagedomain_id)
        self._check_users(domain)
        statuses = {**pool.domains, domain.id: StorageDomainStatus.ATTACHED}
        if pool.master != domain.id:
            steps = await self._stand(pool, statuses)
        elif master_sd_id in (None, BLANK, domain.id):
            raise CannotDetachMasterStorageDomain(domain=domain.name)
        else:
            await ctx.hold(f"domain:{master_sd_id}")
            steps = await self._switch.steps(pool, master_sd_id, master_version, statuses)
        await ctx.run(*steps, about=storagedomain_id)

    async def _pool(self, ctx: Context, domain_id: str, pool_id: str) -> PoolRecord:
        """A pool this host is in charge of, held. Raises StoragePoolUnknown, SpmStatusError."""
        await ctx.hold(f"pool:{pool_id}", f"domain:{domain_id}")
        pool = self._repository.connected(pool_id)
        await self._repository.writable(pool.master)
        return pool

    async def _member(self, pool: PoolRecord, domain_id: str) -> Domain:
        domain = await self._repository.usable(domain_id)
        if domain_id not in pool.domains:
            raise StorageDomainNotInPool(domain=domain.name, pool=pool.id)
        return domain

    async def _stand(self, pool: PoolRecord, domains: dict[str, StorageDomainStatus]) -> list[Step]:
        """How the pool's domains stand from now on: in the master's metadata and on this host."""
        master = await self._repository.usable(pool.master)
        old = master.metadata()
        new = replace(old, pool=replace(old.pool or PoolMeta(), domains=domain_meta.on_disk(domains)))
        return [
            Step(
                "note it in the pool's master",
                self._do.write_domain(master.root, new, pool.id),
                self._do.write_domain(master.root, old, pool.id),
            ),
            Step(
                "use the pool as it is now",
                self._do.connect_pool(replace(pool, domains=domains)),
                self._do.connect_pool(pool),
            ),
        ]

    def _check_users(self, domain: Domain) -> None:
        """Raises StorageInUse."""
        for machine in self._users(domain.id):
            raise StorageInUse(domain=domain.name or domain.id, user=f"virtual machine {machine}")
        self._volume_leases.check_idle(domain.id)

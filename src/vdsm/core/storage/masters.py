# SPDX-License-Identifier: Apache-2.0
"""The master of a pool: the domain that says which domains the pool has, and keeps what belongs to no other."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from vdsm.contract import storage_pool
from vdsm.contract.errors_domains import (
    BackupCannotBeMasterDomain,
    CurrentVersionTooAdvancedError,
    IsoCannotBeMasterDomain,
    ReconstructMasterError,
    StorageDomainAlreadyAttached,
    StorageDomainDoesNotExist,
    StorageDomainNotActive,
    StorageDomainNotInPool,
    StoragePoolConnected,
    StoragePoolHigherVersionMasterFound,
    StoragePoolWrongMaster,
    StorageUnusable,
    UnsupportedDomainVersion,
)
from vdsm.contract.storage_pool import StoragePoolUpgradeStatus
from vdsm.contract.storage_words import StorageDomainImageClass, StorageDomainRole, StorageDomainStatus
from vdsm.core.handlers import Context, handles
from vdsm.core.steps import Step

from .backups import BackupOperations
from .catalog import Catalog
from .domain_operations import DomainOperations, Rewritten
from .format import domain_meta
from .format.domain_meta import DomainMeta, PoolMeta
from .records import Domain, PoolRecord
from .repository import Repository


def check_master(domain: Domain) -> DomainMeta:
    """Of a domain that may be a master. Raises IsoCannotBeMasterDomain, BackupCannotBeMasterDomain, StorageUnusable."""
    meta = domain.metadata()
    if meta.domain_class is StorageDomainImageClass.ISO:
        raise IsoCannotBeMasterDomain(domain=domain.name)
    if meta.domain_class is StorageDomainImageClass.BACKUP:
        raise BackupCannotBeMasterDomain(domain=domain.name)
    return meta


class MasterSwitch:
    """How another domain of a pool becomes its master."""

    def __init__(self, repository: Repository, operations: DomainOperations, backups: BackupOperations) -> None:
        self._repository = repository
        self._do = operations
        self._backups = backups

    async def steps(
        self, pool: PoolRecord, new_id: str, version: int, domains: Mapping[str, StorageDomainStatus]
    ) -> list[Step]:
        """`domains` is how those of the pool stand from then on. The new master is whole before it is one, and the old
        one is one until this host uses the new.

        Raises StorageDomainNotInPool, StorageDomainNotActive, StoragePoolWrongMaster and what `check_master` does.
        """
        old, new = await self._repository.usable(pool.master), await self._repository.usable(new_id)
        if new_id not in pool.domains:
            raise StorageDomainNotInPool(domain=new.name, pool=pool.id)
        if pool.domains[new_id] is not StorageDomainStatus.ACTIVE:
            raise StorageDomainNotActive(domain=new.name, pool=pool.id)
        before, was = check_master(new), old.metadata()
        if new_id == old.id:
            raise StoragePoolWrongMaster(domain=new.name, pool=pool.id, reason="it is the present one")
        if version <= pool.master_version:
            reason = f"the present master's version is {pool.master_version}, and the next one's must be higher"
            raise StoragePoolWrongMaster(domain=new.name, pool=pool.id, reason=reason)
        master = replace(
            domain_meta.timed_as(before, was),
            role=StorageDomainRole.MASTER,
            master_version=version,
            pool=replace(was.pool or PoolMeta(), domains=domain_meta.on_disk(domains)),
        )
        after = replace(pool, master=new_id, master_version=version, domains=dict(domains))
        write = self._do.write_domain
        return [
            Step(f"copy what {old.name} keeps", self._backups.copy(old.id, new.id), self._backups.clear(new.id)),
            Step(f"let {new.name} be the master", write(new.root, master, pool.id), write(new.root, before, pool.id)),
            Step("use the pool as it is now", self._do.connect_pool(after), self._do.connect_pool(pool)),
            Step(
                f"let {old.name} be the master no more",
                write(old.root, domain_meta.ordinary(was), pool.id),
                write(old.root, was, pool.id),
            ),
            Step(f"remove what {old.name} kept", self._backups.clear(old.id), self._backups.copy(new.id, old.id)),
        ]


class Masters:
    def __init__(
        self, repository: Repository, catalog: Catalog, operations: DomainOperations, switch: MasterSwitch
    ) -> None:
        self._repository = repository
        self._catalog = catalog
        self._do = operations
        self._switch = switch

    @handles(storage_pool.set_description)
    async def set_description(self, ctx: Context, storagepool_id: str, description: str) -> None:
        await ctx.hold(f"pool:{storagepool_id}")
        master = await self._repository.writable(self._repository.connected(storagepool_id).master)
        old = master.metadata()
        new = replace(old, pool=replace(old.pool or PoolMeta(), description=description))
        write = self._do.write_domain
        undo = write(master.root, old, storagepool_id)
        await ctx.run(Step("note it in the pool's master", write(master.root, new, storagepool_id), undo))

    @handles(storage_pool.upgrade)
    async def upgrade(self, ctx: Context, storagepool_id: str, target_dom_version: int) -> StoragePoolUpgradeStatus:
        await self._repository.writable(self._repository.connected(storagepool_id).master)
        if target_dom_version > domain_meta.VERSION:
            raise UnsupportedDomainVersion(version=target_dom_version)
        if target_dom_version < domain_meta.VERSION:
            raise CurrentVersionTooAdvancedError(current=domain_meta.VERSION, version=target_dom_version)
        await ctx.run()
        return StoragePoolUpgradeStatus.STARTED

    @handles(storage_pool.get_domains_containing_image)
    async def get_domains_containing_image(self, ctx: Context, storagepool_id: str, image_id: str) -> list[str]:
        found = []
        for domain_id, status in self._repository.connected(storagepool_id).domains.items():
            if status is StorageDomainStatus.ACTIVE:
                domain = await self._repository.usable(domain_id)
                if await self._catalog.image(domain, image_id) is not None:
                    found.append(domain_id)
        return found

    # ---- another master --------------------------------------------------------------------------------------------

    @handles(storage_pool.switch_master)
    async def switch_master(
        self, ctx: Context, storagepool_id: str, old_master_id: str, new_master_id: str, master_version: int
    ) -> None:
        await ctx.hold(f"pool:{storagepool_id}", f"domain:{old_master_id}", f"domain:{new_master_id}")
        pool = self._repository.connected(storagepool_id)
        await self._repository.writable(pool.master)
        if pool.master != old_master_id:
            raise StoragePoolWrongMaster(domain=old_master_id, pool=pool.id, reason=f"that is {pool.master}")
        await ctx.run(
            *await self._switch.steps(pool, new_master_id, master_version, pool.domains), about=storagepool_id
        )

    @handles(storage_pool.reconstruct_master)
    async def reconstruct_master(
        self,
        ctx: Context,
        storagepool_id: str,
        host_id: int,
        name: str,
        master_sd_id: str,
        master_version: int,
        domain_dict: dict[str, StorageDomainStatus],
        lock_renewal_interval_sec: int,
        lease_time_sec: int,
        io_op_timeout_sec: int,
        lease_retries: int,
    ) -> None:
        await ctx.hold(f"pool:{storagepool_id}")
        if self._repository.pool(storagepool_id) is not None:
            raise StoragePoolConnected(pool=storagepool_id)
        if domain_dict.get(master_sd_id) is not StorageDomainStatus.ACTIVE:
            reason = "it is no active domain of those named"
            raise ReconstructMasterError(pool=storagepool_id, domain=master_sd_id, reason=reason)
        check_master(await self._repository.refresh(master_sd_id))
        domains = domain_meta.on_disk(domain_dict)
        before, after = [], []
        # The new master comes first: with two of them the higher version counts.
        for domain in await self._reached(ctx, [master_sd_id, *(name for name in domains if name != master_sd_id)]):
            old = _member(domain, storagepool_id, master_version)
            new = domain_meta.attached(domain_meta.ordinary(old), storagepool_id)
            if domain.id == master_sd_id:
                new = replace(
                    new,
                    role=StorageDomainRole.MASTER,
                    master_version=master_version,
                    pool=PoolMeta(description=name, domains=domains),
                    renewal_s=lock_renewal_interval_sec,
                    lease_s=lease_time_sec,
                    io_timeout_s=io_op_timeout_sec,
                    lease_retries=lease_retries,
                )
            if new != old:
                before.append(Rewritten(domain.root, old))
                after.append(Rewritten(domain.root, new))
        await ctx.run(
            Step(
                f"rewrite {len(after)} domains of the pool",
                self._do.rewrite_pool(storagepool_id, master_sd_id, host_id, after),
                self._do.rewrite_pool(storagepool_id, master_sd_id, host_id, before[::-1]),
            ),
            about=storagepool_id,
        )

    async def _reached(self, ctx: Context, domain_ids: list[str]) -> list[Domain]:
        found = []
        for domain_id in domain_ids:
            await ctx.hold(f"domain:{domain_id}")
            try:
                domain = await self._repository.refresh(domain_id)
                domain.metadata()
            except (StorageDomainDoesNotExist, StorageUnusable):
                continue
            found.append(domain)
        return found


def _member(domain: Domain, pool_id: str, version: int) -> DomainMeta:
    """Raises StorageDomainAlreadyAttached, StoragePoolHigherVersionMasterFound."""
    meta = domain.metadata()
    shared = meta.domain_class is StorageDomainImageClass.ISO
    for other in () if shared else meta.pools:
        if other != pool_id:
            raise StorageDomainAlreadyAttached(domain=domain.name, pool=other)
    if meta.role is StorageDomainRole.MASTER and meta.master_version >= version:
        raise StoragePoolHigherVersionMasterFound(domain=domain.name, pool=pool_id, version=meta.master_version)
    return meta

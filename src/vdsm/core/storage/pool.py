# SPDX-License-Identifier: Apache-2.0
"""The verbs on storage pools: what they check and which steps they take."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from vdsm.contract import storage_pool
from vdsm.contract.errors_domains import (
    IsSpm,
    SpmStartError,
    SpmStatusError,
    SpmStopError,
    StorageDomainAlreadyAttached,
    StorageDomainDoesNotExist,
    StorageInUse,
    StoragePoolAlreadyExists,
    StoragePoolMasterNotFound,
    StoragePoolUnknown,
    StoragePoolWrongMaster,
    StorageUnusable,
)
from vdsm.contract.storage_pool import (
    SpmStatus,
    StoragePoolDomainInfo,
    StoragePoolFullInfo,
    StoragePoolInfo,
    StoragePoolStatus,
)
from vdsm.contract.storage_words import (
    StorageDomainImageClass,
    StorageDomainRole,
    StorageDomainStatus,
    StorageDomainType,
)
from vdsm.core.handlers import Context, handles
from vdsm.core.steps import Step

from .charge import Charge
from .disk import Users
from .domain_leases import DomainLeases
from .domain_operations import DomainOperations, Rewritten
from .format import domain_meta, layout
from .format.domain_meta import DomainMeta, PoolMeta
from .masters import check_master
from .monitor import Monitor
from .records import Domain, PoolRecord
from .repository import Repository
from .volume_leases import VolumeLeases

_NOBODY = -1


class Pools:
    def __init__(
        self,
        repository: Repository,
        monitor: Monitor,
        operations: DomainOperations,
        leases: DomainLeases,
        charge: Charge,
        volume_leases: VolumeLeases,
        users: Users,
    ) -> None:
        self._repository = repository
        self._monitor = monitor
        self._do = operations
        self._leases = leases
        self._charge = charge
        self._volume_leases = volume_leases
        self._users = users

    # ---- making and taking apart -----------------------------------------------------------------------------------

    @handles(storage_pool.create)
    async def create(
        self,
        ctx: Context,
        storagepool_id: str,
        name: str,
        master_sd_id: str,
        master_version: int,
        domain_list: list[str],
        lock_renewal_interval_sec: int = 5,
        lease_time_sec: int = 60,
        io_op_timeout_sec: int = 10,
        lease_retries: int = 3,
    ) -> None:
        await ctx.hold(f"pool:{storagepool_id}")
        if self._repository.pool(storagepool_id) is not None:
            raise StoragePoolAlreadyExists(pool=storagepool_id)
        if master_sd_id not in domain_list:
            raise StorageDomainDoesNotExist(domain=f"{master_sd_id} in the list of the pool's domains")
        statuses = dict.fromkeys(domain_list, StorageDomainStatus.ATTACHED) | {master_sd_id: StorageDomainStatus.ACTIVE}
        steps = []
        for domain_id in statuses:
            await ctx.hold(f"domain:{domain_id}")
            domain = await self._repository.refresh(domain_id)
            old = check_master(domain) if domain_id == master_sd_id else domain.metadata()
            shared = old.domain_class is StorageDomainImageClass.ISO
            for other in () if shared else old.pools:
                raise StorageDomainAlreadyAttached(domain=domain.name, pool=other)
            new = replace(
                domain_meta.attached(old, storagepool_id),
                renewal_s=lock_renewal_interval_sec,
                lease_s=lease_time_sec,
                io_timeout_s=io_op_timeout_sec,
                lease_retries=lease_retries,
            )
            if domain_id == master_sd_id:
                pool = PoolMeta(description=name, domains=statuses)
                new = replace(new, role=StorageDomainRole.MASTER, master_version=master_version, pool=pool)
            steps += self._completing(domain)
            steps.append(_rewrite(self._do, f"attach {domain.name}", domain, old, new))
        await ctx.run(*steps, about=storagepool_id)

    def _completing(self, domain: Domain) -> list[Step]:
        """A local domain may have been made, or used, without leases."""
        if domain.connection.type is not StorageDomainType.LOCALFS or not self._leases.needed(domain.connection.type):
            return []
        return [Step(f"write the leases that {domain.name} lacks", self._do.complete_leases(domain.id))]

    @handles(storage_pool.destroy)
    async def destroy(self, ctx: Context, storagepool_id: str, host_id: int, scsi_key: str) -> None:
        await ctx.hold(f"pool:{storagepool_id}")
        pool = self._repository.pool(storagepool_id)
        if pool is None:
            await ctx.run(self._taken_apart(storagepool_id, host_id), about=storagepool_id)
            return
        if not pool.in_charge:
            raise SpmStatusError(domain=pool.master)
        self._check_users(pool.domains)
        steps: list[Step] = []
        for domain_id in sorted(pool.domains, key=pool.master.__eq__):  # the master last: it says who is in charge
            domain = await self._repository.usable(domain_id)
            old = domain.metadata()
            new = domain_meta.detached(old, pool.id)
            steps.append(_rewrite(self._do, f"detach {domain.name}", domain, old, new, pool.id))
        steps.append(Step("let go of the pool", self._do.disconnect_pool(pool.id), self._do.connect_pool(pool)))
        await ctx.run(*steps, about=storagepool_id)

    def _taken_apart(self, pool_id: str, host_id: int) -> Step:
        """A pool whose domains this host reaches, and that it is not connected to. Raises StoragePoolUnknown."""
        members = [domain for domain in self._repository if domain.meta and pool_id in domain.meta.pools]
        masters = [domain for domain in members if domain.metadata().role is StorageDomainRole.MASTER]
        if not masters:
            raise StoragePoolUnknown(pool=pool_id)
        self._check_users([domain.id for domain in members])
        master = max(masters, key=lambda domain: domain.metadata().master_version)
        members.sort(key=lambda domain: domain.id == master.id)
        before = [Rewritten(domain.root, domain.metadata()) for domain in members]
        after = [Rewritten(part.root, domain_meta.detached(part.meta, pool_id)) for part in before]
        return Step(
            f"detach {len(members)} domains",
            self._do.rewrite_pool(pool_id, master.id, host_id, after),
            self._do.rewrite_pool(pool_id, master.id, host_id, before),
        )

    def _check_users(self, domain_ids: Iterable[str]) -> None:
        """Raises StorageInUse."""
        for domain_id in domain_ids:
            for machine in self._users(domain_id):
                raise StorageInUse(domain=domain_id, user=f"virtual machine {machine}")
            self._volume_leases.check_idle(domain_id)

    # ---- using -----------------------------------------------------------------------------------------------------

    @handles(storage_pool.connect)
    async def connect(
        self,
        ctx: Context,
        storagepool_id: str,
        host_id: int,
        scsi_key: str,
        master_sd_id: str,
        master_version: int,
        domain_dict: dict[str, StorageDomainStatus] | None = None,
    ) -> None:
        await ctx.hold(f"pool:{storagepool_id}")
        meta = await self._master(storagepool_id, master_sd_id, master_version)
        old = self._repository.pool(storagepool_id)
        master = self._repository.find(master_sd_id)
        new = PoolRecord(
            id=storagepool_id,
            host_id=host_id,
            master=master_sd_id,
            master_version=master_version,
            domains=domain_dict or (dict(meta.pool.domains) if meta.pool else {}),
            in_charge=old.in_charge if old else False,
            leases=self._leases.needed(master.connection.type),
            lver=old.lver if old else _NOBODY,
        )
        undo = self._do.connect_pool(old) if old else self._do.disconnect_pool(new.id)
        await ctx.run(
            *self._completing(master), Step(f"connect to pool {storagepool_id}", self._do.connect_pool(new), undo)
        )

    async def _master(self, pool_id: str, domain_id: str, version: int) -> DomainMeta:
        """Raises StoragePoolMasterNotFound, StoragePoolWrongMaster."""
        try:
            meta = (await self._repository.refresh(domain_id)).metadata()
        except (StorageDomainDoesNotExist, StorageUnusable) as problem:
            raise StoragePoolMasterNotFound(domain=domain_id, pool=pool_id, reason=problem) from None
        reason = ""
        if pool_id not in meta.pools:
            reason = "it does not belong to it"
        elif meta.role is not StorageDomainRole.MASTER:
            reason = "it is a regular domain"
        elif meta.master_version != version:
            reason = f"its version is {meta.master_version}, not {version}"
        if reason:
            raise StoragePoolWrongMaster(domain=domain_id, pool=pool_id, reason=reason)
        return meta

    @handles(storage_pool.disconnect)
    async def disconnect(
        self, ctx: Context, storagepool_id: str, host_id: int, scsi_key: str, *, remove: bool = False
    ) -> None:
        await ctx.hold(f"pool:{storagepool_id}")
        steps = []
        if (pool := self._repository.pool(storagepool_id)) is not None:
            if pool.in_charge:
                raise IsSpm(pool=storagepool_id)
            self._check_users(pool.domains)
            again = self._do.connect_pool(pool)
            steps.append(Step(f"disconnect from pool {pool.id}", self._do.disconnect_pool(pool.id), again))
        await ctx.run(*steps)

    @handles(storage_pool.get_info)
    async def get_info(self, ctx: Context, storagepool_id: str) -> StoragePoolFullInfo:
        pool = self._repository.connected(storagepool_id)
        master = self._known(pool.master)
        meta = master.meta if master else None
        holder = await self._charge.holder(pool)
        info = StoragePoolInfo(
            name=meta.pool.description if meta and meta.pool else "",
            type=master.connection.type if master else StorageDomainType.LOCALFS,
            master_uuid=pool.master,
            master_ver=pool.master_version,
            spm_id=holder.host_id,
            lver=holder.version,
            version=str(domain_meta.VERSION),
            domains=",".join(f"{domain}:{status}" for domain, status in pool.domains.items()),
            isoprefix=next((prefix for domain in pool.domains if (prefix := self._iso_prefix(pool, domain))), ""),
            pool_status=StoragePoolStatus.CONNECTED,
            leases=pool.leases,
        )
        return StoragePoolFullInfo(info=info, dominfo=self._dominfo(pool))

    def _iso_prefix(self, pool: PoolRecord, domain_id: str) -> str:
        """Where the files of an active domain of disc images are found; empty for another."""
        domain = self._known(domain_id)
        if domain is None or domain.meta is None or domain.meta.domain_class is not StorageDomainImageClass.ISO:
            return ""
        active = pool.domains[domain_id] is StorageDomainStatus.ACTIVE
        return f"{self._repository.directory}/{pool.id}/{domain_id}/{layout.ISO_IMAGES}" if active else ""

    def _dominfo(self, pool: PoolRecord) -> dict[str, StoragePoolDomainInfo]:
        """From what is known: managers ask all the time, and no domain may keep them waiting."""
        found = {}
        for domain_id, status in pool.domains.items():
            prefix = self._iso_prefix(pool, domain_id)
            row = StoragePoolDomainInfo(status=status, version=domain_meta.VERSION, isoprefix=prefix)
            domain, space = self._known(domain_id), self._monitor.space(domain_id)
            if status is StorageDomainStatus.ACTIVE and (domain is None or domain.meta is None):
                row = replace(row, status=StorageDomainStatus.UNKNOWN)
            elif status is StorageDomainStatus.ACTIVE and space is not None:
                row = replace(row, diskfree=space.available, disktotal=space.total)
            found[domain_id] = row
        return found

    def _known(self, domain_id: str) -> Domain | None:
        try:
            return self._repository.find(domain_id)
        except StorageDomainDoesNotExist:
            return None

    # ---- being in charge -------------------------------------------------------------------------------------------

    @handles(storage_pool.get_spm_status)
    async def get_spm_status(self, ctx: Context, storagepool_id: str) -> SpmStatus:
        pool = self._repository.connected(storagepool_id)
        holder = await self._charge.holder(pool)
        return SpmStatus(spm_status=self._charge.role(pool), spm_id=holder.host_id, spm_lver=holder.version)

    @handles(storage_pool.spm_start)
    async def spm_start(
        self,
        ctx: Context,
        storagepool_id: str,
        prev_id: int = -1,
        prev_lver: int = -1,
        enable_scsi_fencing: bool = False,
        max_host_id: int = 250,
        dom_version: int = 5,
    ) -> None:
        await ctx.hold(f"pool:{storagepool_id}")
        old = self._repository.connected(storagepool_id)
        if dom_version > domain_meta.VERSION:
            raise SpmStartError(pool=old.id, reason=f"its domains are of version {domain_meta.VERSION}")
        await self._repository.usable(old.master)
        steps = []
        if not old.in_charge:
            undo = self._charge.give_up(old.id)
            steps.append(Step(f"take charge of pool {old.id}", self._charge.take(old.id, prev_lver), undo))
        await ctx.run(*steps, about=storagepool_id)

    @handles(storage_pool.spm_stop)
    async def spm_stop(self, ctx: Context, storagepool_id: str) -> None:
        await ctx.hold(f"pool:{storagepool_id}")
        pool = self._repository.connected(storagepool_id)
        if count := self._repository.writing(pool.id):
            raise SpmStopError(pool=pool.id, count=count)
        await ctx.run(Step(f"give up pool {pool.id}", self._charge.give_up(pool.id)))


def _rewrite(
    operations: DomainOperations, title: str, domain: Domain, old: DomainMeta, new: DomainMeta, pool_id: str = ""
) -> Step:
    undo = operations.write_domain(domain.root, old, pool_id)
    return Step(title, operations.write_domain(domain.root, new, pool_id), undo)

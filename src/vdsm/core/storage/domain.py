# SPDX-License-Identifier: Apache-2.0
"""The verbs on storage domains: what they check and which steps they take."""

from __future__ import annotations

import contextlib

from msgspec.structs import replace

from vdsm.contract import storage_domain
from vdsm.contract.errors import Problem
from vdsm.contract.errors_domains import (
    CannotDetachMasterStorageDomain,
    StorageDomainAlreadyAttached,
    StorageDomainAlreadyExists,
    StorageDomainDoesNotExist,
    StorageDomainFSNotMounted,
    StorageDomainNotInPool,
    StorageInUse,
)
from vdsm.contract.errors_storage import FileMissing
from vdsm.contract.storage_domain import StorageDomainDump, StorageDomainInfo, StorageDomainStats, VolumeDump
from vdsm.contract.storage_words import (
    BLANK,
    StorageDomainImageClass,
    StorageDomainStatus,
    StorageDomainType,
    VolumeLegality,
    VolumeStatus,
)
from vdsm.core.handlers import Context, handles
from vdsm.core.ports.files import Files
from vdsm.core.steps import Step

from . import domain_meta, layout
from .catalog import Catalog
from .chains import Image
from .charge import NOBODY, Charge
from .disk import Users
from .domain_leases import DomainLeases
from .domain_meta import DomainMeta, PoolMeta
from .domain_operations import DomainOperations
from .records import Connection, Domain, PoolRecord
from .repository import Repository


class Domains:
    def __init__(
        self,
        files: Files,
        repository: Repository,
        catalog: Catalog,
        operations: DomainOperations,
        leases: DomainLeases,
        charge: Charge,
        users: Users,
    ) -> None:
        self._files = files
        self._repository = repository
        self._catalog = catalog
        self._do = operations
        self._leases = leases
        self._charge = charge
        self._users = users

    # ---- looking ---------------------------------------------------------------------------------------------------

    @handles(storage_domain.get_info)
    async def get_info(self, ctx: Context, storagedomain_id: str) -> StorageDomainInfo:
        return await self._info(storagedomain_id)

    @handles(storage_domain.dump)
    async def dump(self, ctx: Context, sd_id: str, full: bool = False) -> StorageDomainDump:
        info = await self._info(sd_id)
        domain = await self._repository.usable(sd_id)
        volumes: dict[str, VolumeDump] = {}
        for image in (await self._catalog.images(domain)).values():
            for volume_id in (*image.volumes, *image.faults):
                volumes[volume_id] = await self._dump(domain, image, volume_id)
        return StorageDomainDump(metadata=info, volumes=volumes)

    async def _dump(self, domain: Domain, image: Image, volume_id: str) -> VolumeDump:
        try:
            file = await self._files.status(domain.root, domain.path(layout.volume(image.id, volume_id)))
            seen = VolumeDump(image=image.id, status=VolumeStatus.OK, truesize=file.allocated, apparentsize=file.size)
        except FileMissing:
            seen = VolumeDump(image=image.id, status=VolumeStatus.INVALID)
        if (meta := image.volumes.get(volume_id)) is None:
            return replace(seen, status=VolumeStatus.INVALID)
        illegal = seen.status is VolumeStatus.OK and meta.legality is not VolumeLegality.LEGAL
        return replace(
            seen,
            status=VolumeStatus.ILLEGAL if illegal else seen.status,
            parent=meta.parent,
            description=meta.description,
            disktype=meta.disk_type,
            format=meta.format,
            type=meta.allocation,
            voltype=meta.role,
            legality=meta.legality,
            capacity=meta.capacity,
            ctime=meta.created,
            generation=meta.generation,
            sequence=meta.sequence,
        )

    async def _info(self, domain_id: str) -> StorageDomainInfo:
        meta = (await self._repository.refresh(domain_id)).metadata()
        pool = self._repository.pool_of(domain_id)
        holder = NOBODY
        with contextlib.suppress(Problem):  # the domain is told of all the same
            holder = await self._charge.holder(pool) if pool else NOBODY
        return StorageDomainInfo(
            uuid=meta.uuid,
            name=meta.description,
            type=meta.type,
            class_=meta.domain_class,
            role=meta.role,
            version=domain_meta.VERSION,
            pool=list(meta.pools),
            master_ver=meta.master_version,
            spm_id=holder.host_id,
            lver=holder.version,
            block_size=meta.block_size,
            alignment=meta.alignment,
            remote_path=meta.remote_path,
            leases=pool.leases if pool else self._leases.needed(meta.type),
        )

    @handles(storage_domain.get_stats)
    async def get_stats(self, ctx: Context, storagedomain_id: str) -> StorageDomainStats:
        space = await self._files.space((await self._repository.usable(storagedomain_id)).root)
        return StorageDomainStats(disktotal=space.total, diskfree=space.available)

    @handles(storage_domain.get_images)
    async def get_images(self, ctx: Context, storagedomain_id: str) -> list[str]:
        return sorted(await self._catalog.images(await self._repository.usable(storagedomain_id)))

    @handles(storage_domain.get_volumes)
    async def get_volumes(
        self, ctx: Context, storagedomain_id: str, storagepool_id: str | None = None, image_id: str | None = None
    ) -> list[str]:
        images = await self._catalog.images(await self._repository.usable(storagedomain_id))
        wanted = images.values() if image_id in (None, BLANK) else [images[i] for i in images if i == image_id]
        return sorted(volume for image in wanted for volume in (*image.volumes, *image.faults))

    @handles(storage_domain.validate)
    async def validate(self, ctx: Context, storagedomain_id: str) -> None:
        (await self._repository.refresh(storagedomain_id)).metadata()

    # ---- making and removing ---------------------------------------------------------------------------------------

    @handles(storage_domain.create)
    async def create(
        self,
        ctx: Context,
        storagedomain_id: str,
        domain_type: StorageDomainType,
        type_args: str,
        name: str,
        domain_class: StorageDomainImageClass = StorageDomainImageClass.DATA,
        version: int = 5,
        block_size: int = 512,
        max_hosts: int = 250,
    ) -> None:
        await ctx.hold(f"domain:{storagedomain_id}")
        connection = self._connection(domain_type, type_args)
        await self._check_new(storagedomain_id, connection)
        meta = DomainMeta(
            uuid=storagedomain_id,
            type=domain_type,
            domain_class=domain_class,
            description=name,
            remote_path=connection.remote,
            block_size=block_size or 512,
        )
        await ctx.run(
            Step(
                f"make storage domain {name}",
                self._do.create_domain(connection.root, meta),
                self._do.drop_domain(connection.root, storagedomain_id),
            ),
            Step("find it there", self._do.connect(connection)),
            about=storagedomain_id,
        )

    def _connection(self, domain_type: StorageDomainType, remote: str) -> Connection:
        for connection in self._repository.connections():
            if connection.type is domain_type and remote.rstrip("/") in (connection.remote, connection.root):
                return connection
        raise StorageDomainFSNotMounted(remote=remote)

    async def _check_new(self, domain_id: str, connection: Connection) -> None:
        try:
            raise StorageDomainAlreadyExists(domain=self._repository.find(domain_id).name or domain_id)
        except StorageDomainDoesNotExist:
            pass
        try:
            await self._files.status(connection.root, domain_id)
        except FileMissing:
            return
        raise StorageDomainAlreadyExists(domain=f"something lies at {connection.root}/{domain_id}")

    @handles(storage_domain.format)
    async def format(self, ctx: Context, storagedomain_id: str, auto_detach: bool = False) -> None:
        await ctx.hold(f"domain:{storagedomain_id}")
        domain = self._repository.find(storagedomain_id)
        meta = (await self._repository.refresh(storagedomain_id)).metadata()
        steps: list[Step] = []
        for pool_id in meta.pools:
            pool = self._repository.pool(pool_id)
            if not auto_detach or pool is None or not pool.in_charge or pool.master == domain.id:
                raise StorageDomainAlreadyAttached(domain=domain.name, pool=pool_id)
            steps += await self._leave(pool, domain, meta)
        self._check_users(domain)
        # Nothing is undone: what may be half removed must not come back.
        await ctx.run(
            *steps,
            Step(f"remove {domain.name or domain.id}", self._do.erase_domain(domain.root, domain.id)),
            Step("see that it is gone", self._do.connect(domain.connection)),
            about=storagedomain_id,
        )

    def _check_users(self, domain: Domain) -> None:
        for machine in self._users(domain.id):
            raise StorageInUse(domain=domain.name or domain.id, user=f"virtual machine {machine}")

    # ---- in a pool -------------------------------------------------------------------------------------------------

    @handles(storage_domain.attach)
    async def attach(self, ctx: Context, storagedomain_id: str, storagepool_id: str) -> None:
        pool = await self._pool(ctx, storagedomain_id, storagepool_id)
        domain = await self._repository.refresh(storagedomain_id)
        old = domain.metadata()
        for other in old.pools:
            if other != storagepool_id:
                raise StorageDomainAlreadyAttached(domain=domain.name, pool=other)
        new = replace(old, pools=(storagepool_id,))
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
        pool = await self._pool(ctx, storagedomain_id, storagepool_id)
        domain = await self._member(pool, storagedomain_id)
        self._check_users(domain)
        await ctx.run(*await self._leave(pool, domain, domain.metadata()), about=storagedomain_id)

    async def _leave(self, pool: PoolRecord, domain: Domain, old: DomainMeta) -> list[Step]:
        """Raises CannotDetachMasterStorageDomain."""
        if pool.master == domain.id:
            raise CannotDetachMasterStorageDomain(domain=domain.name)
        left = {name: status for name, status in pool.domains.items() if name != domain.id}
        again = self._do.write_domain(domain.root, old, pool.id)
        return [
            *await self._stand(pool, left),
            Step(f"detach {domain.name}", self._do.write_domain(domain.root, replace(old, pools=()), pool.id), again),
        ]

    @handles(storage_domain.activate)
    async def activate(self, ctx: Context, storagedomain_id: str, storagepool_id: str) -> None:
        pool = await self._pool(ctx, storagedomain_id, storagepool_id)
        domain = await self._member(pool, storagedomain_id)
        statuses = {**pool.domains, domain.id: StorageDomainStatus.ACTIVE}
        await ctx.run(*await self._stand(pool, statuses), about=storagedomain_id)

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
        if pool.master == domain.id:
            raise CannotDetachMasterStorageDomain(domain=domain.name)
        self._check_users(domain)
        statuses = {**pool.domains, domain.id: StorageDomainStatus.ATTACHED}
        await ctx.run(*await self._stand(pool, statuses), about=storagedomain_id)

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
        new = replace(old, pool=replace(old.pool or PoolMeta(), domains=domains))
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

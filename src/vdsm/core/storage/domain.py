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
    StorageDomainBlockSizeMismatch,
    StorageDomainDoesNotExist,
    StorageDomainFSNotMounted,
    StorageDomainNotInPool,
    StorageDomainTypeError,
    StorageInUse,
    StorageUnusable,
)
from vdsm.contract.errors_storage import FileMissing
from vdsm.contract.storage_domain import StorageDomainDump, StorageDomainInfo, StorageDomainStats, VolumeDump
from vdsm.contract.storage_words import (
    BLANK,
    StorageDomainImageClass,
    StorageDomainRole,
    StorageDomainStatus,
    StorageDomainType,
    VolumeLegality,
    VolumeStatus,
)
from vdsm.core.handlers import Context, handles
from vdsm.core.ports.files import Files, FileStatus
from vdsm.core.steps import Step

from . import domain_meta, layout
from .catalog import Catalog
from .chains import Image
from .charge import NOBODY, Charge
from .disk import Users
from .domain_leases import DomainLeases
from .domain_meta import DomainMeta, PoolMeta
from .domain_operations import DomainOperations
from .masters import MasterSwitch
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
        switch: MasterSwitch,
        users: Users,
    ) -> None:
        self._files = files
        self._repository = repository
        self._catalog = catalog
        self._do = operations
        self._leases = leases
        self._charge = charge
        self._switch = switch
        self._users = users

    # ---- looking ---------------------------------------------------------------------------------------------------

    @handles(storage_domain.get_info)
    async def get_info(self, ctx: Context, storagedomain_id: str) -> StorageDomainInfo:
        return await self._info(storagedomain_id)

    @handles(storage_domain.dump)
    async def dump(self, ctx: Context, sd_id: str, full: bool = False) -> StorageDomainDump:
        info = await self._info(sd_id)
        domain = await self._repository.usable(sd_id)
        lies: dict[str, Image] = {}
        for image in (await self._catalog.images(domain)).values():
            own = image.own()
            for volume_id in (*image.volumes, *image.faults):
                if volume_id in own or volume_id not in lies:  # a template is told where it is at home
                    lies[volume_id] = image
        paths = [domain.path(layout.volume(image.id, volume_id)) for volume_id, image in lies.items()]
        files = await self._files.statuses(domain.root, paths)
        volumes = {
            volume_id: _dumped(image, volume_id, file)
            for (volume_id, image), file in zip(lies.items(), files, strict=True)
        }
        return StorageDomainDump(metadata=info, volumes=volumes)

    async def _info(self, domain_id: str) -> StorageDomainInfo:
        domain = await self._repository.refresh(domain_id)
        meta, pool = domain.metadata(), self._repository.pool_of(domain_id)
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
            leases=self._leases.used(domain),
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
        return sorted({volume for image in wanted for volume in (*image.volumes, *image.faults)})

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
        if connection.mount is not None and not await self._repository.stands(connection):
            raise StorageDomainFSNotMounted(remote=type_args)
        await self._check_new(storagedomain_id, connection)
        block_size = await self._block_size(connection, block_size)
        meta = DomainMeta(
            uuid=storagedomain_id,
            type=domain_type,
            domain_class=domain_class,
            description=name,
            remote_path=connection.remote,
            block_size=block_size,
            alignment=domain_meta.alignment_for(block_size, max_hosts),
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
        """Raises StorageDomainFSNotMounted, StorageDomainTypeError."""
        wanted = (remote, remote.rstrip("/"))
        found = [c for c in self._repository.connections() if c.remote in wanted or c.root in wanted]
        for connection in found:
            if connection.type is domain_type:
                return connection
        for connection in found:
            raise StorageDomainTypeError(remote=remote, found=connection.type, type=domain_type)
        raise StorageDomainFSNotMounted(remote=remote)

    async def _block_size(self, connection: Connection, wanted: int) -> int:
        """Raises StorageDomainBlockSizeMismatch."""
        if wanted not in (0, *domain_meta.BLOCKS):
            reason = f"it has {' or '.join(map(str, domain_meta.BLOCKS))}"
            raise StorageDomainBlockSizeMismatch(size=wanted, remote=connection.remote, reason=reason)
        found = await self._files.block_size(connection.root)
        if found not in domain_meta.BLOCKS:  # it does no direct I/O: any will do
            return wanted or domain_meta.BLOCKS[0]
        if wanted not in (0, found):
            reason = f"its file system has blocks of {found}"
            raise StorageDomainBlockSizeMismatch(size=wanted, remote=connection.remote, reason=reason)
        return found

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
            steps += await self._leave(pool, domain.id)
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
        pool = await self._pool(ctx, storagedomain_id, storagepool_id)
        if pool.master == storagedomain_id:
            raise CannotDetachMasterStorageDomain(domain=storagedomain_id)
        try:
            domain = await self._member(pool, storagedomain_id)
        except (StorageDomainDoesNotExist, StorageUnusable):
            if not force or storagedomain_id not in pool.domains:
                raise
            await ctx.run(*await self._leave(pool, storagedomain_id), about=storagedomain_id)
            return
        self._check_users(domain)
        await ctx.run(*await self._leave(pool, domain.id), self._detached(pool, domain), about=storagedomain_id)

    async def _leave(self, pool: PoolRecord, domain_id: str) -> list[Step]:
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

    @handles(storage_domain.set_description)
    async def set_description(self, ctx: Context, storagedomain_id: str, description: str) -> None:
        await ctx.hold(f"domain:{storagedomain_id}")
        domain = await self._repository.refresh(storagedomain_id)
        old = domain.metadata()
        pool = self._repository.pool_of(domain.id)
        if old.pools:
            await self._repository.writable(domain.id)
        new = replace(old, description=description)
        pool_id = pool.id if pool and old.pools else ""
        write = self._do.write_domain
        await ctx.run(Step("write its metadata", write(domain.root, new, pool_id), write(domain.root, old, pool_id)))

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


def _dumped(image: Image, volume_id: str, file: FileStatus | None) -> VolumeDump:
    seen = VolumeDump(image=image.id, status=VolumeStatus.INVALID)
    if file is not None:
        seen = VolumeDump(image=image.id, status=VolumeStatus.OK, truesize=file.allocated, apparentsize=file.size)
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

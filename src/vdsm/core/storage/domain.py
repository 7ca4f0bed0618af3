# SPDX-License-Identifier: Apache-2.0
"""The verbs on storage domains: what they check and which steps they take."""

from __future__ import annotations

import contextlib

from msgspec.structs import replace

from vdsm.contract import storage_domain
from vdsm.contract.errors import Problem
from vdsm.contract.errors_domains import (
    StorageDomainAlreadyAttached,
    StorageDomainAlreadyExists,
    StorageDomainBlockSizeMismatch,
    StorageDomainDoesNotExist,
    StorageDomainFSNotMounted,
    StorageDomainTypeError,
    StorageInUse,
)
from vdsm.contract.errors_storage import FileMissing
from vdsm.contract.storage_domain import StorageDomainDump, StorageDomainInfo, StorageDomainStats, VolumeDump
from vdsm.contract.storage_words import (
    BLANK,
    StorageDomainImageClass,
    StorageDomainType,
    VolumeLegality,
    VolumeStatus,
)
from vdsm.core.handlers import Context, handles
from vdsm.core.ports.files import Files, FileStatus
from vdsm.core.steps import Step

from .catalog import Catalog
from .charge import NOBODY, Charge
from .disk import Users
from .domain_leases import DomainLeases
from .domain_operations import DomainOperations
from .format import domain_meta, layout
from .format.chains import Image
from .format.domain_meta import DomainMeta
from .membership import Membership
from .records import Connection, Domain
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
        membership: Membership,
        users: Users,
    ) -> None:
        self._files = files
        self._repository = repository
        self._catalog = catalog
        self._do = operations
        self._leases = leases
        self._charge = charge
        self._membership = membership
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
        dump = StorageDomainDump(metadata=info, volumes=volumes)
        if full:
            dump = replace(
                dump,
                leases=await self._leases.dump_leases(domain),
                lockspace=await self._leases.dump_lockspace(domain),
                xleases=await self._leases.dump_external(domain),
            )
        return dump

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
        domain = await self._repository.usable(storagedomain_id)
        if image_id is None or image_id == BLANK:
            return await self._catalog.volumes(domain)
        image = await self._catalog.image(domain, image_id)
        return sorted((*image.volumes, *image.faults)) if image is not None else []

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
        if not ctx.planning:
            await self._repository.reach(connection)
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
            steps += await self._membership.leave(pool, domain.id)
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

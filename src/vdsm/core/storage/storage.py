# SPDX-License-Identifier: Apache-2.0
"""The verbs on the host's own storage: a local directory becomes a domain and pool with this host in charge."""

from __future__ import annotations

import asyncio
import os.path
import uuid

from vdsm.contract import storage
from vdsm.contract.errors import DeadlineExceeded, Problem, TooBusy
from vdsm.contract.errors_domains import (
    StorageDomainAlreadyExists,
    StorageDomainDoesNotExist,
    StorageInUse,
    StorageUnusable,
)
from vdsm.contract.errors_storage import FileMissing
from vdsm.contract.storage import StorageSummary
from vdsm.contract.storage_words import (
    BLANK,
    StorageDomainRole,
    StorageDomainStatus,
    StorageDomainType,
)
from vdsm.core.handlers import Context, handles
from vdsm.core.ports.deadline import within
from vdsm.core.ports.files import Files, Space
from vdsm.core.steps import Step, operation

from .charge import Charge
from .disk import Users
from .domain_leases import DomainLeases
from .domain_operations import DomainOperations
from .format.domain_meta import DomainMeta, PoolMeta
from .monitor import Monitor
from .places import Places
from .records import Connection, Domain, PoolRecord
from .repository import Repository

_HOST_ID = 1  # of the only host
_NO_SPACE = Space(total=0, available=0)
_LOOK_S = 2.0  # for a list, which shows what hangs too


class Storage:
    def __init__(
        self,
        files: Files,
        repository: Repository,
        operations: DomainOperations,
        leases: DomainLeases,
        charge: Charge,
        users: Users,
        places: Places,
        monitor: Monitor,
    ) -> None:
        self._files = files
        self._repository = repository
        self._do = operations
        self._leases = leases
        self._charge = charge
        self._users = users
        self._places = places
        self._monitor = monitor

    # ---- looking ---------------------------------------------------------------------------------------------------

    @handles(storage.list_)
    async def list_(self, ctx: Context) -> list[StorageSummary]:
        rows = await asyncio.gather(*(self._summary(domain) for domain in self._repository))
        return sorted(rows, key=lambda row: (row.name, row.id))

    @operation("storage.summary")
    async def summary(self, domain_id: str) -> StorageSummary:
        return await self._summary(self._repository.find(domain_id))

    async def _summary(self, domain: Domain) -> StorageSummary:
        space = self._monitor.space(domain.id) or _NO_SPACE
        try:
            with within(_LOOK_S):
                domain = await self._repository.usable(domain.id)
                space = await self._files.space(domain.root)
        except (DeadlineExceeded, TooBusy):  # then what is known of it must do
            domain = self._repository.find(domain.id)
        except Problem:
            domain = self._repository.find(domain.id)
            space = _NO_SPACE
        pool = self._repository.pool_of(domain.id)
        return StorageSummary(
            id=domain.id,
            name=domain.name,
            type=domain.connection.type,
            path=domain.connection.remote,
            state=domain.state,
            pool=pool.id if pool else BLANK,
            in_charge=pool is not None and pool.in_charge,
            leases=self._leases.used(domain),
            total=space.total,
            free=space.available,
            reason=domain.fault,
        )

    # ---- making, opening, closing ----------------------------------------------------------------------------------

    @handles(storage.init)
    async def init(self, ctx: Context, path: str, *, name: str | None = None) -> StorageSummary:
        connection = await self._place(path)
        await ctx.hold(f"storage-path:{connection.root}")
        if old := await self._lying_in(connection):
            raise StorageDomainAlreadyExists(domain=f"{old[0].id} in {path}")
        name = name or os.path.basename(connection.root)
        for domain in self._repository:
            if domain.name == name:
                raise StorageDomainAlreadyExists(domain=name)
        domain_id, pool_id = str(uuid.uuid4()), str(uuid.uuid4())
        meta = DomainMeta(
            uuid=domain_id,
            type=StorageDomainType.LOCALFS,
            role=StorageDomainRole.MASTER,
            description=name,
            remote_path=connection.remote,
            pools=(pool_id,),
            pool=PoolMeta(description=name, domains={domain_id: StorageDomainStatus.ACTIVE}),
            master_version=1,
        )
        pool = self._own_pool(meta)
        return await ctx.run(
            Step(f"make the directory {connection.root}", self._do.make_directory(connection.root)),
            Step(
                f"make storage domain {name}",
                self._do.create_domain(connection.root, meta),
                self._do.drop_domain(connection.root, domain_id),
            ),
            Step(f"connect to {path}", self._do.connect(connection), self._do.disconnect(connection)),
            *self._use(pool),
            answer=self.summary(domain_id),
            about=domain_id,
        )

    @handles(storage.open_)
    async def open_(self, ctx: Context, path: str) -> StorageSummary:
        connection = await self._place(path)
        await ctx.hold(f"storage-path:{connection.root}")
        found = await self._lying_in(connection)
        if not found:
            raise StorageDomainDoesNotExist(domain=f"in {path}")
        if len(found) > 1:
            raise StorageUnusable(domain=path, reason=f"{len(found)} domains lie there")
        pool = self._own_pool(found[0].metadata())
        complete = [Step("write the leases it lacks", self._do.complete_leases(found[0].id))] if pool.leases else []
        return await ctx.run(
            Step(f"connect to {path}", self._do.connect(connection), self._do.disconnect(connection)),
            *complete,
            *self._use(pool),
            answer=self.summary(found[0].id),
            about=found[0].id,
        )

    def _use(self, pool: PoolRecord) -> list[Step]:
        return [
            Step("connect to its pool", self._do.connect_pool(pool), self._do.disconnect_pool(pool.id)),
            Step("take charge of its pool", self._charge.take(pool.id, pool.lver), self._charge.give_up(pool.id)),
        ]

    @handles(storage.close)
    async def close(self, ctx: Context, storage_id: str) -> None:
        domain = self._repository.find(storage_id)
        await ctx.hold(f"storage:{storage_id}", f"storage-path:{domain.root}")
        for machine in self._users(storage_id):
            raise StorageInUse(domain=domain.name or storage_id, user=f"virtual machine {machine}")
        for other in self._repository.domains_at(domain.connection):
            if other.id != storage_id:
                raise StorageInUse(domain=domain.name or storage_id, user=f"storage domain {other.id} beside it")
        steps = []
        if pool := self._repository.pool_of(storage_id):
            if count := self._repository.writing(pool.id):
                raise StorageInUse(domain=domain.name or storage_id, user=f"{count} operations that change it")
            again = self._do.connect_pool(pool)
            steps.append(Step("let go of its pool", self._do.disconnect_pool(pool.id), again))
        connection = domain.connection
        again = self._do.connect(connection)
        steps.append(Step(f"disconnect from {connection.remote}", self._do.disconnect(connection), again))
        await ctx.run(*steps, about=storage_id)

    def _own_pool(self, meta: DomainMeta) -> PoolRecord:
        """The pool of a domain that stands for itself; nobody is in charge of it yet. Raises StorageUnusable."""
        _check_alone(meta)
        return PoolRecord(
            id=meta.pools[0],
            host_id=_HOST_ID,
            master=meta.uuid,
            master_version=meta.master_version,
            domains={meta.uuid: StorageDomainStatus.ACTIVE},
            in_charge=False,
            leases=self._leases.needed(meta.type),
        )

    async def _place(self, path: str) -> Connection:
        """Where a local path that is not in use really is. Raises StoragePathRefused, StorageDomainAlreadyExists."""
        connection = await self._places.find(path)
        if connection.root in {other.root for other in self._repository.connections()}:
            raise StorageDomainAlreadyExists(
                domain=f"{', '.join(connection.known.values())} in {path}, which is in use"
            )
        return connection

    async def _lying_in(self, connection: Connection) -> list[Domain]:
        """The domains, also damaged ones, in a directory that may not be there."""
        try:
            return await self._repository.look(connection)
        except FileMissing:
            return []


def _check_alone(meta: DomainMeta) -> None:
    """That a domain stands for itself. Raises StorageUnusable."""
    name = meta.description or meta.uuid
    if meta.type is not StorageDomainType.LOCALFS:
        raise StorageUnusable(domain=name, reason=f"it is of the type {meta.type}, not a local one")
    if meta.role is not StorageDomainRole.MASTER or len(meta.pools) != 1 or meta.pool is None:
        raise StorageUnusable(domain=name, reason="it is not the master of a pool")
    if set(meta.pool.domains) != {meta.uuid}:
        raise StorageUnusable(domain=name, reason="its pool has other domains too: connect to it as that pool")

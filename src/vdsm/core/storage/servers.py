# SPDX-License-Identifier: Apache-2.0
"""The verbs on the places where domains lie. Each place has a status of its own, and fails alone."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from vdsm.contract import storage_pool
from vdsm.contract.errors import Problem
from vdsm.contract.errors_domains import StorageInUse
from vdsm.contract.storage_pool import ConnectionRef, ConnectionStatus
from vdsm.contract.storage_words import StorageDomainType
from vdsm.core.handlers import Context, handles
from vdsm.core.steps import Op, Step

from .disk import Users
from .domain_operations import DomainOperations
from .host_ids import HostIds
from .places import Places
from .records import Connection
from .repository import Repository

log = logging.getLogger(__name__)


class Servers:
    def __init__(
        self, repository: Repository, operations: DomainOperations, places: Places, host_ids: HostIds, users: Users
    ) -> None:
        self._repository = repository
        self._do = operations
        self._places = places
        self._host_ids = host_ids
        self._users = users

    @handles(storage_pool.connect_storage_server)
    async def connect_storage_server(
        self,
        ctx: Context,
        storagepool_id: str,
        domain_type: StorageDomainType,
        connection_params: list[ConnectionRef],
    ) -> list[ConnectionStatus]:
        codes: dict[str, int] = {}
        steps: list[Step] = []
        for ref in connection_params:
            with self._noting(codes, ref):
                connection = await self._places.of(domain_type, ref)
                await ctx.hold(f"storage-path:{connection.root}")
                steps.append(self._noted(codes, ref, await self._connecting(connection)))
        await ctx.run(*steps)
        return [ConnectionStatus(id=ref.id, status=codes.get(ref.id, 0)) for ref in connection_params]

    async def _connecting(self, connection: Connection) -> Step:
        """Undone as far as it was not so before."""
        undo: Op[None] | None = self._do.disconnect(connection)
        if connection.root in {other.root for other in self._repository.connections()}:
            undo = None
        elif connection.mount is not None and await self._repository.stands(connection):
            undo = self._do.forget(connection)
        return Step(f"connect to {connection.remote}", self._do.connect(connection), undo)

    @handles(storage_pool.disconnect_storage_server)
    async def disconnect_storage_server(
        self,
        ctx: Context,
        storagepool_id: str,
        domain_type: StorageDomainType,
        connection_params: list[ConnectionRef],
    ) -> list[ConnectionStatus]:
        codes: dict[str, int] = {}
        steps: list[Step] = []
        for ref in connection_params:
            with self._noting(codes, ref):
                connection = await self._places.of(domain_type, ref)
                await ctx.hold(f"storage-path:{connection.root}")
                self._check_idle(connection)
                step = Step(f"disconnect from {connection.remote}", self._do.disconnect(connection))
                steps.append(self._noted(codes, ref, step))
        await ctx.run(*steps)
        return [ConnectionStatus(id=ref.id, status=codes.get(ref.id, 0)) for ref in connection_params]

    @contextlib.contextmanager
    def _noting(self, codes: dict[str, int], ref: ConnectionRef) -> Iterator[None]:
        """Each connection has a code of its own, in the place of a problem."""
        try:
            yield
        except Problem as problem:
            log.warning("storage connection %s: %s", ref.id, problem)
            codes[ref.id] = problem.code

    def _noted(self, codes: dict[str, int], ref: ConnectionRef, step: Step) -> Step:
        """Fails alone: it undoes itself, and the others go on."""

        async def run() -> None:
            with self._noting(codes, ref):
                try:
                    await step.do.run()
                except Problem:
                    if step.undo is not None:
                        await step.undo.run()
                    raise

        return Step(step.title, Op(step.do.name, step.do.args, run), step.undo)

    def _check_idle(self, connection: Connection) -> None:
        """Raises StorageInUse."""
        for domain in self._repository.domains_at(connection):
            name = domain.name or domain.id
            if pool := self._repository.pool_of(domain.id):
                raise StorageInUse(domain=name, user=f"storage pool {pool.id}")
            for machine in self._users(domain.id):
                raise StorageInUse(domain=name, user=f"virtual machine {machine}")
            if (number := self._host_ids.number(domain.id)) is not None:
                raise StorageInUse(domain=name, user=f"this host, as its number {number}: Host.stopMonitoringDomain")

# SPDX-License-Identifier: Apache-2.0
"""The verbs on the places where domains lie. Each place has a status of its own, and fails alone."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator

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
        return await self._each(ctx, domain_type, connection_params, self._connecting)

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
        return await self._each(ctx, domain_type, connection_params, self._disconnecting)

    async def _disconnecting(self, connection: Connection) -> Step:
        """Raises StorageInUse."""
        for domain in self._repository.domains_at(connection):
            name = domain.name or domain.id
            if pool := self._repository.pool_of(domain.id):
                raise StorageInUse(domain=name, user=f"storage pool {pool.id}")
            for machine in self._users(domain.id):
                raise StorageInUse(domain=name, user=f"virtual machine {machine}")
            if (number := self._host_ids.number(domain.id)) is not None:
                raise StorageInUse(domain=name, user=f"this host, as its number {number}: Host.stopMonitoringDomain")
        return Step(f"disconnect from {connection.remote}", self._do.disconnect(connection))

    async def _each(
        self,
        ctx: Context,
        kind: StorageDomainType,
        refs: list[ConnectionRef],
        step_for: Callable[[Connection], Awaitable[Step]],
    ) -> list[ConnectionStatus]:
        attempts = [_Attempt(ref) for ref in refs]
        steps: list[Step] = []
        for attempt in attempts:
            with attempt.noting():
                connection = await self._places.of(kind, attempt.ref)
                await ctx.hold(f"storage-path:{connection.root}")
                steps.append(attempt.alone(await step_for(connection)))
        await ctx.run(*steps)
        return [attempt.status() for attempt in attempts]


class _Attempt:
    """On one connection. Its problem is noted in its status instead of being raised."""

    def __init__(self, ref: ConnectionRef) -> None:
        self.ref = ref
        self._problem: Problem | None = None

    def status(self) -> ConnectionStatus:
        problem = self._problem
        return ConnectionStatus(
            id=self.ref.id, status=problem.code if problem else 0, reason=str(problem) if problem else ""
        )

    @contextlib.contextmanager
    def noting(self) -> Iterator[None]:
        try:
            yield
        except Problem as problem:
            log.warning("storage connection %s: %s", self.ref.id, problem)
            self._problem = problem

    def alone(self, step: Step) -> Step:
        """A step that undoes itself when it fails, so that the others go on."""

        async def run() -> None:
            with self.noting():
                try:
                    await step.do.run()
                except Problem:
                    if step.undo is not None:
                        await step.undo.run()
                    raise

        return Step(step.title, Op(step.do.name, step.do.args, run), step.undo)

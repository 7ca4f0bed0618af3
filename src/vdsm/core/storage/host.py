# SPDX-License-Identifier: Apache-2.0
"""The host's own verbs on storage: what it is connected to, and how that does."""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from vdsm.contract import host
from vdsm.contract.errors_domains import StorageInUse
from vdsm.contract.errors_storage import AcquireHostIdFailure
from vdsm.contract.host_stats import StorageDomainVitals
from vdsm.contract.storage_words import BLANK, StorageDomainImageClass, StorageDomainType
from vdsm.core.handlers import Context, handles
from vdsm.core.ports.store import StorageLog
from vdsm.core.steps import Step, operation

from .host_ids import HostIds
from .monitor import Monitor
from .records import Domain
from .repository import Repository

log = logging.getLogger(__name__)

_HOST_ID = "host-id"


class _HostId(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept over a restart of a host id that somebody asked for."""

    domain: str
    number: int


class HostStorage:
    """`leased` says whether a domain has leases."""

    def __init__(
        self,
        repository: Repository,
        monitor: Monitor,
        host_ids: HostIds,
        storage_log: StorageLog,
        leased: Callable[[Domain], bool],
    ) -> None:
        self._repository = repository
        self._monitor = monitor
        self._host_ids = host_ids
        self._log = storage_log
        self._leased = leased

    async def open(self) -> None:
        """Take the host ids again that somebody asked for. Raises StateUnavailable."""
        for row in [msgspec.json.decode(body, type=_HostId) for body in await self._log.all(_HOST_ID)]:
            try:
                self._host_ids.join(row.domain, row.number)
            except AcquireHostIdFailure as problem:  # it joined a pool under another
                log.warning("%s", problem)

    @handles(host.get_storage_domains)
    async def get_storage_domains(
        self,
        ctx: Context,
        storagepool_id: str | None = None,
        domain_class: StorageDomainImageClass | None = None,
        storage_type: StorageDomainType | None = None,
        remote_path: str | None = None,
    ) -> list[str]:
        await self._repository.rescan()
        found = list(self._repository)
        if storagepool_id not in (None, BLANK):
            members = self._repository.connected(storagepool_id or "").domains
            found = [domain for domain in found if domain.id in members]
        if domain_class is not None:
            found = [domain for domain in found if domain.meta and domain.meta.domain_class is domain_class]
        if storage_type is not None:
            found = [domain for domain in found if domain.connection.type is storage_type]
        if remote_path:
            wanted = (remote_path, remote_path.rstrip("/"))
            found = [domain for domain in found if domain.connection.remote in wanted]
        return sorted(domain.id for domain in found)

    @handles(host.get_connected_storage_pools)
    async def get_connected_storage_pools(self, ctx: Context) -> list[str]:
        return sorted(pool.id for pool in self._repository.pools())

    @handles(host.get_storage_repo_stats)
    async def get_storage_repo_stats(self, ctx: Context, domains: list[str] = []) -> dict[str, StorageDomainVitals]:  # noqa: B006
        vitals = self._monitor.vitals()
        return {name: row for name, row in vitals.items() if not domains or name in domains}

    @handles(host.start_monitoring_domain)
    async def start_monitoring_domain(self, ctx: Context, sd_uuid: str, host_id: int) -> None:
        await ctx.hold(f"domain:{sd_uuid}")
        domain = self._repository.find(sd_uuid)
        steps = []
        if self._leased(domain):
            title = f"take host id {host_id} in {domain.name or domain.id}"
            undo = self.leave(sd_uuid) if self._host_ids.number(sd_uuid) is None else None
            steps.append(Step(title, self.join(sd_uuid, host_id), undo))
        await ctx.run(*steps)

    @handles(host.stop_monitoring_domain)
    async def stop_monitoring_domain(self, ctx: Context, sd_uuid: str) -> None:
        await ctx.hold(f"domain:{sd_uuid}")
        domain = self._repository.find(sd_uuid)
        steps = []
        if self._leased(domain):
            if pool := self._repository.pool_of(sd_uuid):
                raise StorageInUse(domain=domain.name or domain.id, user=f"storage pool {pool.id}")
            steps.append(Step(f"give up the host id in {domain.name or domain.id}", self.leave(sd_uuid)))
        await ctx.run(*steps)

    @operation("host_storage.join")
    async def join(self, domain_id: str, host_id: int) -> None:
        self._host_ids.join(domain_id, host_id)
        await self._log.put(_HOST_ID, domain_id, msgspec.json.encode(_HostId(domain=domain_id, number=host_id)))

    @operation("host_storage.leave")
    async def leave(self, domain_id: str) -> None:
        await self._host_ids.leave(domain_id)
        await self._log.delete(_HOST_ID, domain_id)

# SPDX-License-Identifier: Apache-2.0
"""The storage this host uses: connections, the domains found there, the pools they make up, and the links to them.

The domains themselves are the truth about what is in them. What is kept over a restart is only where to look.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import msgspec

from vdsm.contract.errors import Problem
from vdsm.contract.errors_domains import SpmStatusError, StorageDomainDoesNotExist, StoragePoolUnknown
from vdsm.contract.errors_storage import FileMissing
from vdsm.contract.events import StorageStatus
from vdsm.contract.storage import StorageState
from vdsm.core import flow
from vdsm.core.journal import Journal
from vdsm.core.ports.files import Files
from vdsm.core.ports.store import StorageLog

from . import domain_meta, layout
from .lines import Malformed, is_uuid
from .records import Connection, Domain, PoolRecord

log = logging.getLogger(__name__)

_CONNECTION, _POOL = "connection", "pool"
_GONE = "gone"
_NONE = "it has no metadata"


class Repository:
    """`directory` is where links to pools and domains are kept (published: /rhev/data-center)."""

    def __init__(self, files: Files, storage_log: StorageLog, journal: Journal, directory: str) -> None:
        self._files = files
        self._log = storage_log
        self._journal = journal
        self._directory = directory
        self._connections: dict[str, Connection] = {}
        self._pools: dict[str, PoolRecord] = {}
        self._domains: dict[str, Domain] = {}
        self._adoption: asyncio.Task[None] | None = None

    # ---- over a restart --------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Take up, in the background, what the last daemon used. Raises StateUnavailable."""
        connections = [msgspec.json.decode(body, type=Connection) for body in await self._log.all(_CONNECTION)]
        pools = [msgspec.json.decode(body, type=PoolRecord) for body in await self._log.all(_POOL)]
        self._connections = {c.root: c for c in connections}
        self._pools = {p.id: p for p in pools}
        for connection in connections:
            for domain_id, name in connection.known.items():
                self._domains[domain_id] = Domain(domain_id, name, connection, fault="it was not looked at yet")
        self._adoption = asyncio.create_task(self._adopt(), name="adopt storage")

    async def close(self) -> None:
        if self._adoption is not None:
            self._adoption.cancel()
            await asyncio.gather(self._adoption, return_exceptions=True)

    async def loaded(self) -> None:
        """Wait until each connection was looked at once, or did not answer in time."""
        if self._adoption is not None:
            await asyncio.shield(self._adoption)

    async def _adopt(self) -> None:
        await asyncio.gather(*(self._adopt_one(connection) for connection in self._connections.values()))
        for pool in self._pools.values():
            try:
                await self._link_pool(pool)
            except Problem as problem:
                log.error("the links of storage pool %s could not be made: %s", pool.id, problem)

    async def _adopt_one(self, connection: Connection) -> None:
        try:
            await self._link(connection)
            await self.look(connection)
        except Problem as problem:
            log.error("storage at %s cannot be used: %s", connection.remote, problem)
            for domain_id, name in connection.known.items():
                self._set(Domain(domain_id, name, connection, fault=str(problem)))

    # ---- looking ---------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Domain]:
        return iter(list(self._domains.values()))

    def find(self, domain_id: str) -> Domain:
        """Raises StorageDomainDoesNotExist."""
        try:
            return self._domains[domain_id]
        except KeyError:
            raise StorageDomainDoesNotExist(domain=domain_id) from None

    async def usable(self, domain_id: str) -> Domain:
        """A domain whose metadata is known; one that was not usable is looked at again.

        Raises StorageDomainDoesNotExist, StorageUnusable.
        """
        domain = self.find(domain_id)
        if domain.meta is None:
            domain = await self.refresh(domain_id)
        domain.metadata()
        return domain

    async def refresh(self, domain_id: str) -> Domain:
        """Read a domain's metadata again."""
        domain = self.find(domain_id)
        fresh = await self._read(domain.connection, domain_id, domain.name)
        self._set(fresh)
        return fresh

    async def look(self, connection: Connection) -> list[Domain]:
        """The domains of a connection, also those whose metadata is damaged. Raises what the files do."""
        names = [name for name in await self._files.names(connection.root) if is_uuid(name)]
        found = [await self._read(connection, name, connection.known.get(name, "")) for name in names]
        return [domain for domain in found if domain.fault != _NONE or domain.id in connection.known]

    async def _read(self, connection: Connection, domain_id: str, name: str) -> Domain:
        try:
            data = await self._files.read(
                connection.root, f"{domain_id}/{layout.METADATA}", most=domain_meta.LONGEST + 1
            )
            meta = domain_meta.decode(data)
            if meta.uuid != domain_id:
                raise Malformed(f"it says that it is {meta.uuid}")
        except FileMissing:
            return Domain(domain_id, name, connection, fault=_NONE)
        except (Malformed, Problem) as fault:
            return Domain(domain_id, name, connection, fault=f"its metadata cannot be used: {fault}")
        return Domain(domain_id, meta.description, connection, meta)

    def _set(self, domain: Domain) -> None:
        before = self._domains.get(domain.id)
        self._domains[domain.id] = domain
        if before is None or (before.meta is None, before.fault) != (domain.meta is None, domain.fault):
            state = StorageState.ACTIVE if domain.meta else StorageState.UNUSABLE
            self._tell(domain, state.value, domain.fault)

    def _tell(self, domain: Domain, status: str, reason: str = "") -> None:
        event = StorageStatus(storage_id=domain.id, storage_name=domain.name, status=status, reason=reason)
        self._journal.publish(event, flow_id=flow.current.get())

    # ---- connections -----------------------------------------------------------------------------------------------

    def connections(self) -> list[Connection]:
        return list(self._connections.values())

    async def connect(self, connection: Connection) -> None:
        """Use what lies there, from now on and after each restart."""
        await self._link(connection)
        found = await self.look(connection)
        known = {domain.id: domain.name for domain in found}
        connection = msgspec.structs.replace(connection, known=known)
        await self._log.put(_CONNECTION, connection.root, msgspec.json.encode(connection))
        self._connections[connection.root] = connection
        for domain in [d for d in self if d.root == connection.root and d.id not in known]:
            del self._domains[domain.id]
            self._tell(domain, _GONE)
        for domain in found:
            self._set(Domain(domain.id, domain.name, connection, domain.meta, domain.fault))

    async def disconnect(self, connection: Connection) -> None:
        """Never connected is fine."""
        for domain in [d for d in self if d.root == connection.root]:
            del self._domains[domain.id]
            self._tell(domain, _GONE)
        self._connections.pop(connection.root, None)
        await self._log.delete(_CONNECTION, connection.root)
        await self._files.remove(self._directory, self._mount(connection))
        await self._files.release(connection.root)

    def _mount(self, connection: Connection) -> str:
        return f"mnt/{layout.mount_name(connection.remote)}"

    async def _link(self, connection: Connection) -> None:
        await self._files.make_directory("/", f"{self._directory}/mnt".lstrip("/"))
        await self._files.make_symlink(self._directory, self._mount(connection), connection.root)

    def ways_to(self, domain: Domain) -> list[str]:
        """Every name that the directory of its images has."""
        pools = [pool.id for pool in self._pools.values() if domain.id in pool.domains]
        links = [f"{self._directory}/{name}/{domain.id}" for name in (self._mount(domain.connection), *pools)]
        return [f"{place}/{layout.IMAGES}" for place in (domain.directory, *links)]

    # ---- pools -----------------------------------------------------------------------------------------------------

    def pool_of(self, domain_id: str) -> PoolRecord | None:
        return next((pool for pool in self._pools.values() if domain_id in pool.domains), None)

    async def writable(self, domain_id: str) -> Domain:
        """A usable domain of a pool this host is in charge of.

        Raises StorageDomainDoesNotExist, StorageUnusable, SpmStatusError.
        """
        domain = await self.usable(domain_id)
        pool = self.pool_of(domain_id)
        if pool is None or not pool.in_charge:
            raise SpmStatusError(domain=domain.name or domain.id)
        return domain

    def pools(self) -> list[PoolRecord]:
        return list(self._pools.values())

    def pool(self, pool_id: str) -> PoolRecord | None:
        return self._pools.get(pool_id)

    def connected(self, pool_id: str) -> PoolRecord:
        """Raises StoragePoolUnknown."""
        try:
            return self._pools[pool_id]
        except KeyError:
            raise StoragePoolUnknown(pool=pool_id) from None

    async def connect_pool(self, pool: PoolRecord) -> None:
        await self._link_pool(pool)
        await self._log.put(_POOL, pool.id, msgspec.json.encode(pool))
        self._pools[pool.id] = pool

    async def disconnect_pool(self, pool_id: str) -> None:
        """Never connected is fine."""
        self._pools.pop(pool_id, None)
        await self._log.delete(_POOL, pool_id)
        await self._files.remove(self._directory, pool_id)

    async def _link_pool(self, pool: PoolRecord) -> None:
        await self._files.make_directory(self._directory, pool.id)
        for domain_id in pool.domains:
            if (domain := self._domains.get(domain_id)) is None:
                continue
            target = f"{self._directory}/{self._mount(domain.connection)}/{domain_id}"
            await self._files.make_symlink(self._directory, f"{pool.id}/{domain_id}", target)
        await self._files.make_symlink(self._directory, f"{pool.id}/mastersd", pool.master)

# SPDX-License-Identifier: Apache-2.0
"""The storage this host uses: connections, the domains found there, the pools they make up, and the links to them.

The domains themselves are the truth about what is in them. What is kept over a restart is only where to look.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator
from weakref import WeakSet

import msgspec
from msgspec.structs import replace

from vdsm.contract.errors import DeadlineExceeded, Problem, TooBusy
from vdsm.contract.errors_domains import SpmStatusError, StorageDomainDoesNotExist, StoragePoolUnknown
from vdsm.contract.events import StorageStatus
from vdsm.contract.storage import StorageState
from vdsm.core import flow
from vdsm.core.journal import Journal
from vdsm.core.ports.deadline import remaining, within
from vdsm.core.ports.files import Files
from vdsm.core.ports.store import StorageLog
from vdsm.core.steps import Work, under_way

from .finder import Finder
from .format import layout
from .format.lines import is_uuid
from .mountpoints import Mountpoints
from .records import Connection, Domain, PoolRecord

log = logging.getLogger(__name__)

_CONNECTION, _POOL = "connection", "pool"
_GONE = "gone"
_READ_ONLY = "its file system is read-only"
_NEW = "it was not looked at yet"
_ADOPTION_S = 10.0  # for a place to be reached at the start; the monitor goes on trying
_RESCAN_S = 5.0


class Repository:
    """`directory` is where links to pools and domains are kept (published: /rhev/data-center).

    `changed` is called whenever a domain came or went.
    """

    def __init__(
        self, files: Files, storage_log: StorageLog, journal: Journal, mountpoints: Mountpoints, directory: str
    ) -> None:
        self._files = files
        self._finder = Finder(files)
        self._log = storage_log
        self._journal = journal
        self._mountpoints = mountpoints
        self._directory = directory
        self._connections: dict[str, Connection] = {}
        self._pools: dict[str, PoolRecord] = {}
        self._domains: dict[str, Domain] = {}
        self._writing: dict[str, WeakSet[Work]] = {}
        self._changing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # by the connection's root
        self._reading: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # by domain
        self._lost: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)  # by domain
        self._adoptions: dict[str, asyncio.Task[None]] = {}  # by the root, too
        self._adoption: asyncio.Task[None] | None = None
        self.changed: Callable[[], None] = lambda: None

    @property
    def directory(self) -> str:
        """Where links to pools and domains are kept."""
        return self._directory

    # ---- over a restart --------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Take up, in the background, what the last daemon used. Raises StateUnavailable."""
        connections = [msgspec.json.decode(body, type=Connection) for body in await self._log.all(_CONNECTION)]
        pools = [msgspec.json.decode(body, type=PoolRecord) for body in await self._log.all(_POOL)]
        self._connections = {c.root: c for c in connections}
        self._pools = {p.id: p for p in pools}
        for connection in connections:
            for domain_id, name in connection.known.items():
                self._domains[domain_id] = Domain(domain_id, name, connection, fault=_NEW)
        self._adoptions = {
            c.root: asyncio.create_task(self._adopt_one(c), name=f"adopt {c.remote}") for c in connections
        }
        self._adoption = asyncio.create_task(self._adopt(), name="adopt storage")
        self.changed()

    async def close(self) -> None:
        if self._adoption is not None:
            tasks = [self._adoption, *self._adoptions.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def loaded(self) -> None:
        """Wait until each connection was looked at once, or did not answer in time."""
        if self._adoption is not None:
            await asyncio.shield(self._adoption)

    async def _adopt(self) -> None:
        await asyncio.gather(*self._adoptions.values())
        for pool in self._pools.values():
            try:
                await self._link_pool(pool)
            except Problem as problem:
                log.error("the links of storage pool %s could not be made: %s", pool.id, problem)

    async def _adopt_one(self, connection: Connection) -> None:
        try:
            with within(_ADOPTION_S):
                if connection.mount is None:
                    await self._mountpoints.make(connection)
                await self.reach(connection)
                for domain_id in connection.known:
                    await self.read(domain_id)
        except Problem as problem:  # the monitor goes on, and says how each domain does
            log.error("storage at %s cannot be used: %s", connection.remote, problem)
        finally:
            del self._adoptions[connection.root]

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
        """Read a domain's metadata again, unless it is away."""
        if (adoption := self._adoptions.get(self.find(domain_id).root)) is not None:
            await asyncio.wait([adoption], timeout=remaining(_ADOPTION_S))
        domain = self.find(domain_id)
        return domain if domain.away else await self.read(domain_id)

    async def read(self, domain_id: str) -> Domain:
        """Read a domain's metadata, also if it is away."""
        async with self._reading[domain_id]:  # who began to read before a change must not have the last word after it
            domain = self.find(domain_id)
            fresh = await self._finder.read(domain.connection, domain_id, domain.name)
            if (now := self._domains.get(domain_id)) is not None:
                self._set(fresh := dataclasses.replace(fresh, read_only=now.read_only))
        return fresh

    def lose(self, domain_id: str, reason: str) -> None:
        """The domain is away; see `Domain`."""
        self._set(dataclasses.replace(self.find(domain_id), meta=None, fault=reason, away=True))
        self._lost.pop(domain_id, asyncio.Event()).set()

    async def until_lost(self, domain_id: str) -> None:
        """Wait until a usable domain is found to be away."""
        await self._lost[domain_id].wait()

    def note(self, domain_id: str, *, read_only: bool) -> None:
        self._set(dataclasses.replace(self.find(domain_id), read_only=read_only))

    async def look(self, connection: Connection) -> list[Domain]:
        """See `Finder.look`."""
        return await self._finder.look(connection)

    def _set(self, domain: Domain) -> None:
        """Tells of it exactly when how it stands, or why, has changed."""
        before = self._domains.get(domain.id)
        self._domains[domain.id] = domain
        if before is None or (before.state, before.fault) != (domain.state, domain.fault):
            reason = _READ_ONLY if domain.state is StorageState.READ_ONLY else domain.fault
            self._tell(domain, domain.state.value, reason)

    def _tell(self, domain: Domain, status: str, reason: str = "") -> None:
        event = StorageStatus(storage_id=domain.id, storage_name=domain.name, status=status, reason=reason)
        self._journal.publish(event, flow_id=flow.current.get())

    # ---- connections -----------------------------------------------------------------------------------------------

    def connections(self) -> list[Connection]:
        return list(self._connections.values())

    def domains_at(self, connection: Connection) -> list[Domain]:
        return [domain for domain in self if domain.root == connection.root]

    async def reach(self, connection: Connection) -> None:
        """See that what has to be mounted is; else its domains are away. Raises what the mounts do."""
        if connection.mount is None:
            return
        try:
            await self._mountpoints.make(connection)
        except TooBusy:
            raise
        except Problem as problem:
            reason = "its server does not answer" if isinstance(problem, DeadlineExceeded) else str(problem)
            for domain in self.domains_at(connection):
                self.lose(domain.id, f"it is not mounted: {reason}")
            raise

    async def stands(self, connection: Connection) -> bool:
        """Whether something is mounted in its place."""
        return await self._mountpoints.stands(connection)

    async def connect(self, connection: Connection) -> None:
        """Use what lies there, from now on and after each restart."""
        async with self._changing[connection.root]:
            if connection.root not in self._connections:  # kept first: what a crash leaves mounted is known afterwards
                await self._log.put(_CONNECTION, connection.root, msgspec.json.encode(connection))
            await self._mountpoints.make(connection)
            await self._take(connection)

    async def _take(self, connection: Connection) -> None:
        """Know what lies there. A domain that lies in another place too is used where it was found first."""
        found = {domain.id: domain for domain in await self.look(connection)}
        for domain_id in [d.id for d in self if d.id in found and d.root != connection.root]:
            log.error("storage domain %s at %s is known from elsewhere", domain_id, connection.remote)
            del found[domain_id]
        connection = replace(connection, known={d.id: d.name for d in found.values()})
        await self._log.put(_CONNECTION, connection.root, msgspec.json.encode(connection))
        self._connections[connection.root] = connection
        for domain in self.domains_at(connection):
            if domain.id in found:
                self._domains[domain.id] = dataclasses.replace(domain, connection=connection)
                await self.read(domain.id)
            else:
                del self._domains[domain.id]
                self._tell(domain, _GONE)
        for domain in found.values():
            if domain.id not in self._domains:
                self._set(dataclasses.replace(domain, connection=connection))
        self.changed()

    async def disconnect(self, connection: Connection, *, keep_mount: bool = False) -> None:
        """Never connected is fine. `keep_mount`: it was mounted before."""
        async with self._changing[connection.root]:
            if (adoption := self._adoptions.get(connection.root)) is not None:
                adoption.cancel()
                await asyncio.wait([adoption])
            left = self.domains_at(connection)
            for domain in left:
                del self._domains[domain.id]
            self.changed()  # nobody looks there any more, so that it can be unmounted
            try:
                if keep_mount:
                    await self._files.release(connection.root)
                else:
                    await self._mountpoints.remove(connection, force=any(domain.away for domain in left))
                await self._log.delete(_CONNECTION, connection.root)
            except BaseException:
                self._domains |= {domain.id: domain for domain in left}
                self.changed()
                raise
            self._connections.pop(connection.root, None)
        for domain in left:
            self._tell(domain, _GONE)

    async def rescan(self) -> None:
        """Find the domains that others have made since where this host is connected to. What hangs is left out."""
        await asyncio.gather(*(self._rescan(connection) for connection in self.connections()))

    async def _rescan(self, connection: Connection) -> None:
        if any(domain.away for domain in self.domains_at(connection)):
            return
        try:
            with within(_RESCAN_S):
                names = await self._files.names(connection.root)
                if any(is_uuid(name) and name not in self._domains for name in names):
                    async with self._changing[connection.root]:
                        if (known := self._connections.get(connection.root)) is not None:
                            await self._take(known)
        except Problem as problem:
            log.warning("what lies at %s is not known: %s", connection.remote, problem)

    def ways_to(self, domain: Domain) -> list[str]:
        """Every name that the directory of its images has."""
        pools = [pool.id for pool in self._pools.values() if domain.id in pool.domains]
        links = [
            f"{self._directory}/{name}/{domain.id}" for name in (self._mountpoints.name(domain.connection), *pools)
        ]
        return [f"{place}/{layout.IMAGES}" for place in (domain.directory, *links)]

    # ---- pools -----------------------------------------------------------------------------------------------------

    def pool_of(self, domain_id: str) -> PoolRecord | None:
        return next((pool for pool in self._pools.values() if domain_id in pool.domains), None)

    async def writable(self, domain_id: str, pool_id: str | None = None) -> Domain:
        """A usable domain of a pool, of that one if it is named, which this host is in charge of.

        Raises StorageDomainDoesNotExist, StorageUnusable, SpmStatusError.
        """
        domain = await self.usable(domain_id)
        pool = self.pool_of(domain_id)
        if pool is None or pool_id not in (None, pool.id):
            shown = domain.name or domain.id
            raise SpmStatusError(domain=f"{shown} in pool {pool_id}" if pool_id else shown)
        self.write_to(pool.id)
        return domain

    def write_to(self, pool_id: str) -> None:
        """Called by an operation before it writes: when charge is lost it is ended.

        Raises StoragePoolUnknown, SpmStatusError.
        """
        pool = self.connected(pool_id)
        if not pool.in_charge:
            raise SpmStatusError(domain=pool.master)
        if (work := under_way()) is not None:
            self._writing.setdefault(pool_id, WeakSet()).add(work)

    async def workable(self, domain_id: str) -> Domain:
        """A usable domain on whose volumes this host may work: any of the pool's where leases say who works on which,
        else only the one in charge.

        Raises StorageDomainDoesNotExist, StorageUnusable, SpmStatusError.
        """
        pool = self.pool_of(domain_id)
        return await (self.usable(domain_id) if pool is not None and pool.leases else self.writable(domain_id))

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
        """Who is in charge of one with leases is not said by that."""
        await self._link_pool(pool)
        if pool.leases:
            old = self._pools.get(pool.id)
            pool = replace(pool, in_charge=old is not None and old.in_charge, lver=old.lver if old else pool.lver)
        await self._log.put(_POOL, pool.id, msgspec.json.encode(pool))
        self._pools[pool.id] = pool

    async def disconnect_pool(self, pool_id: str) -> None:
        """Never connected is fine. The links go first: of a pool that is not known nobody would remove them."""
        await self._files.remove(self._directory, pool_id)
        await self._log.delete(_POOL, pool_id)
        self._pools.pop(pool_id, None)

    def writing(self, pool_id: str) -> int:
        """How many operations write to a pool."""
        return sum(not work.over for work in self._writing.get(pool_id, ()))

    def note_leases(self, pool_id: str, *, leases: bool) -> None:
        self._pools[pool_id] = replace(self.connected(pool_id), leases=leases)

    async def take_charge(self, pool_id: str, lver: int) -> None:
        self._pools[pool_id] = replace(self.connected(pool_id), in_charge=True, lver=lver)
        await self.keep_charge(pool_id)

    def drop_charge(self, pool_id: str) -> int:
        """At once: what writes to the pool is ended; how many operations that were."""
        if (pool := self._pools.get(pool_id)) is None:
            return 0
        self._pools[pool_id] = replace(pool, in_charge=False)
        works = [work for work in self._writing.pop(pool_id, ()) if not work.over]
        for work in works:
            work.end(SpmStatusError(domain=pool.master))
        return len(works)

    async def keep_charge(self, pool_id: str) -> None:
        """Write down whether this host is in charge. Not connected is fine."""
        if (pool := self._pools.get(pool_id)) is not None:
            await self._log.put(_POOL, pool.id, msgspec.json.encode(pool))

    async def _link_pool(self, pool: PoolRecord) -> None:
        await self._files.make_directory(self._directory, pool.id)
        for domain_id in pool.domains:
            if (domain := self._domains.get(domain_id)) is None:
                continue
            target = f"{self._directory}/{self._mountpoints.name(domain.connection)}/{domain_id}"
            await self._files.make_symlink(self._directory, f"{pool.id}/{domain_id}", target)
        await self._files.make_symlink(self._directory, f"{pool.id}/mastersd", pool.master)

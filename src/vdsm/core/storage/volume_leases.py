# SPDX-License-Identifier: Apache-2.0
"""The leases of volumes: on shared storage only who holds a volume's lease may work on its data."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field

from vdsm.contract.errors_domains import StorageInUse
from vdsm.contract.errors_storage import AcquireLockFailure, FileExists, SanlockInquireError
from vdsm.contract.volume import VolumeLeaseStatus
from vdsm.core.ports.files import Files
from vdsm.core.ports.leases import Lease, Leases
from vdsm.core.steps import Work, under_way

from .domain_leases import volume_lease
from .format import layout
from .host_ids import HostIds
from .records import Domain
from .repository import Repository


@dataclass(slots=True)
class _Hold:
    """A lease this host has, or is about to have, for several operations perhaps."""

    lease: Lease
    count: int = 0
    taken: bool = False
    works: list[Work] = field(default_factory=list)
    taking: asyncio.Lock = field(default_factory=asyncio.Lock)


class VolumeLeases:
    """Domains without leases have none, and every method does nothing there."""

    def __init__(self, files: Files, leases: Leases, repository: Repository, host_ids: HostIds) -> None:
        self._files = files
        self._leases = leases
        self._repository = repository
        self._host_ids = host_ids
        self._holds: dict[tuple[str, str], _Hold] = {}

    async def make(self, domain: Domain, image_id: str, volume_id: str) -> None:
        """A new volume's lease, free; without leases only its file, empty. There already is fine."""
        with contextlib.suppress(FileExists):
            await self._files.create(domain.root, domain.path(layout.lease(image_id, volume_id)))
        if self._host_id(domain) is not None:
            await self._leases.format_lease(volume_lease(domain, image_id, volume_id))

    async def info(self, domain: Domain, image_id: str, volume_id: str) -> VolumeLeaseStatus | None:
        """Where it is and who holds it; None: it has none."""
        if self._host_id(domain) is None:
            return None
        lease = volume_lease(domain, image_id, volume_id)
        try:
            state = await self._leases.state(lease)
        except SanlockInquireError:  # one that cannot be read is told by that it says nothing
            return VolumeLeaseStatus(path=lease.path, offset=lease.offset)
        return VolumeLeaseStatus(path=lease.path, offset=lease.offset, owners=state.owners, version=state.version)

    @contextlib.asynccontextmanager
    async def held(self, domain: Domain, image_id: str, volume_id: str) -> AsyncIterator[None]:
        """Within one operation: so that one taken up after a crash holds it too. When it is lost the operation ends.

        Several operations of this host may hold one together: what keeps those apart is locks.

        Raises AcquireLockFailure, AcquireHostIdFailure.
        """
        if (host_id := self._host_id(domain)) is None:
            yield
            return
        lease = volume_lease(domain, image_id, volume_id)
        hold = self._holds.setdefault((lease.lockspace, lease.name), _Hold(lease))
        hold.count += 1
        work = under_way()
        try:
            async with hold.taking:
                self._host_ids.check(domain.id, host_id)
                hold.taken = True  # as soon as it is asked for: who is stopped meanwhile may have got it
                await self._leases.acquire(lease, host_id)
            if work is not None:
                hold.works.append(work)
            yield
        finally:
            hold.count -= 1
            if work in hold.works:
                hold.works.remove(work)
            if not hold.count:
                await self._let_go(hold, host_id)

    async def _let_go(self, hold: _Hold, host_id: int) -> None:
        async with hold.taking:
            if not hold.count:  # nobody came meanwhile
                self._holds.pop((hold.lease.lockspace, hold.lease.name), None)
                if hold.taken:
                    await self._leases.release(hold.lease, host_id)

    def check_idle(self, domain_id: str) -> None:
        """Raises StorageInUse while some operation works under one."""
        for lockspace, volume_id in self._holds:
            if lockspace == domain_id:
                raise StorageInUse(domain=domain_id, user=f"work on its volume {volume_id}")

    def lost(self, leases: Collection[Lease]) -> None:
        """Whoever works under them ends where it stands."""
        for lease in leases:
            if (hold := self._holds.get((lease.lockspace, lease.name))) is not None:
                for work in hold.works:
                    work.end(AcquireLockFailure(lease=lease.name, reason="it was lost"))

    def _host_id(self, domain: Domain) -> int | None:
        """This host's, in a domain with leases."""
        pool = self._repository.pool_of(domain.id)
        return pool.host_id if pool is not None and pool.leases else None

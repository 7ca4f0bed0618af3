# SPDX-License-Identifier: Apache-2.0
"""The leases of volumes: on shared storage only who holds a volume's lease may work on its data."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from vdsm.contract.errors_storage import FileExists, SanlockInquireError
from vdsm.contract.volume import VolumeLeaseStatus
from vdsm.core.ports.files import Files
from vdsm.core.ports.leases import Lease, Leases

from . import layout
from .records import Domain
from .repository import Repository


class VolumeLeases:
    """Domains without leases have none, and every method does nothing there."""

    def __init__(self, files: Files, leases: Leases, repository: Repository) -> None:
        self._files = files
        self._leases = leases
        self._repository = repository

    async def make(self, domain: Domain, image_id: str, volume_id: str) -> None:
        """A new volume's lease, free; without leases only its file, empty. There already is fine."""
        with contextlib.suppress(FileExists):
            await self._files.create(domain.root, domain.path(layout.lease(image_id, volume_id)))
        if self._host_id(domain) is not None:
            await self._leases.format_lease(lease_of(domain, image_id, volume_id))

    async def info(self, domain: Domain, image_id: str, volume_id: str) -> VolumeLeaseStatus | None:
        """Where it is and who holds it; None: it has none."""
        if self._host_id(domain) is None:
            return None
        lease = lease_of(domain, image_id, volume_id)
        try:
            state = await self._leases.state(lease)
        except SanlockInquireError:  # one that cannot be read is told by that it says nothing
            return VolumeLeaseStatus(path=lease.path, offset=lease.offset)
        return VolumeLeaseStatus(path=lease.path, offset=lease.offset, owners=state.owners, version=state.version)

    @contextlib.asynccontextmanager
    async def held(self, domain: Domain, image_id: str, volume_id: str) -> AsyncIterator[None]:
        """Within one operation: so that one taken up after a crash holds it too. Raises AcquireLockFailure."""
        if (host_id := self._host_id(domain)) is None:
            yield
            return
        lease = lease_of(domain, image_id, volume_id)
        await self._leases.acquire(lease, host_id)
        try:
            yield
        finally:
            await self._leases.release(lease, host_id)

    def _host_id(self, domain: Domain) -> int | None:
        """This host's, in a domain with leases."""
        pool = self._repository.pool_of(domain.id)
        return pool.host_id if pool is not None and pool.leases else None


def lease_of(domain: Domain, image_id: str, volume_id: str) -> Lease:
    """The file beside a volume, from its beginning on."""
    meta = domain.metadata()
    return Lease(
        lockspace=domain.id,
        name=volume_id,
        path=f"{domain.directory}/{layout.lease(image_id, volume_id)}",
        offset=0,
        alignment=meta.alignment,
        sector=meta.block_size,
    )

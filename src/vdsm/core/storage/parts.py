# SPDX-License-Identifier: Apache-2.0
"""Everything of storage, put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vdsm.core.journal import Journal
from vdsm.core.ports.disks import DiskImages
from vdsm.core.ports.files import Files
from vdsm.core.ports.leases import Leases
from vdsm.core.ports.store import StorageLog
from vdsm.core.ports.transfers import ImageServers, Transfers

from .catalog import Catalog
from .check import Checks
from .disk import Disks, Users
from .domain import Domains
from .domain_operations import DomainOperations
from .host_ids import HostIds
from .image import Images
from .nbd import NbdServers
from .places import LocalPlaces
from .pool import Pools
from .reconcile import Reconciler
from .repository import Repository
from .storage import Storage
from .tickets import Tickets
from .transfers import DiskTransfers
from .volume import Volumes
from .volume_leases import VolumeLeases
from .volume_operations import VolumeOperations


@dataclass(frozen=True, slots=True)
class Settings:
    """Where storage may be, and where links to it are kept."""

    directories: Sequence[str]  # local storage may be below these
    repository: str  # links to pools and domains
    prepared: str  # links to images in use
    local_leases: bool = False  # whether local domains have leases too


class StorageParts:
    """`services` answer the verbs; `operations` are what their steps do. Call `open` before, `close` after."""

    def __init__(
        self,
        files: Files,
        images: DiskImages,
        leases: Leases,
        servers: ImageServers,
        transfers: Transfers,
        storage_log: StorageLog,
        journal: Journal,
        settings: Settings,
        users: Users,
    ) -> None:
        self.repository = repository = Repository(files, storage_log, journal, settings.repository)
        self.catalog = catalog = Catalog(files, repository)
        self.host_ids = HostIds(leases, repository)
        self.volume_leases = volume_leases = VolumeLeases(files, leases, repository)
        domain_operations = DomainOperations(files, repository)
        self.volume_operations = do = VolumeOperations(files, images, repository, catalog, volume_leases, journal)
        self.reconciler = reconciler = Reconciler(images, repository, catalog, do, settings.prepared)
        places = LocalPlaces(files, repository, settings.directories)
        disks = Disks(files, repository, catalog, do, users)
        storage = Storage(files, repository, domain_operations, users, places)
        exports = NbdServers(servers, repository, catalog, users)
        tickets = Tickets(files, transfers, servers, repository, catalog, users, settings.prepared)
        moves = DiskTransfers(files, images, transfers, repository, catalog, users, tickets, disks, storage_log)
        volumes = Volumes(files, images, repository, catalog, do, users)
        self.services: list[object] = [
            disks,
            Checks(files, images, repository, catalog),
            Domains(files, repository, catalog, domain_operations, users),
            storage,
            volumes,
            exports,
            tickets,
            moves,
            Images(repository, catalog, do, reconciler, users, settings.prepared),
            Pools(files, repository, domain_operations, places, users),
        ]
        self.operations: list[object] = [
            do,
            domain_operations,
            reconciler,
            disks,
            storage,
            volumes,
            exports,
            tickets,
            moves,
        ]

    async def open(self) -> None:
        """Raises StateUnavailable."""
        await self.repository.open()
        self.host_ids.open()

    async def loaded(self) -> None:
        """See `Repository.loaded`."""
        await self.repository.loaded()

    async def close(self) -> None:
        await self.host_ids.close()
        await self.repository.close()

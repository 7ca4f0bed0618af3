# SPDX-License-Identifier: Apache-2.0
"""Everything of storage, put together."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from vdsm.core.journal import Journal
from vdsm.core.ports.disks import DiskImages
from vdsm.core.ports.files import Files
from vdsm.core.ports.leases import Lease, Leases
from vdsm.core.ports.mounts import Mounts
from vdsm.core.ports.remotes import Remotes
from vdsm.core.ports.store import StorageLog
from vdsm.core.ports.transfers import ImageServers, Transfers

from .backups import BackupOperations, Backups
from .bitmaps import Bitmaps
from .catalog import Catalog
from .chain_servers import ChainServers
from .charge import Charge
from .check import Checks
from .copies import Copies
from .disk import Disks, Users
from .domain import Domains
from .domain_leases import DomainLeases
from .domain_operations import DomainOperations
from .host import HostStorage
from .host_ids import HostIds
from .image import Images
from .image_moves import ImageMoves
from .image_streams import ImageStreams
from .iso import IsoFiles
from .lease import ExternalLeaseVerbs, LeaseOperations
from .masters import Masters, MasterSwitch
from .membership import Membership
from .merges import Merges
from .monitor import Monitor
from .mountpoints import Mountpoints
from .nbd import NbdServers
from .places import Places
from .pool import Pools
from .reconcile import Reconciler
from .records import Domain
from .remote_transfers import RemoteTransfers
from .repository import Repository
from .sdm import DataJobs
from .servers import Servers
from .snapshots import Snapshots
from .storage import Storage
from .templates import Templates
from .tickets import Tickets
from .transfers import DiskTransfers
from .volume import Volumes
from .volume_copies import VolumeCopies
from .volume_creation import VolumeCreation
from .volume_jobs import VolumeJobs
from .volume_leases import VolumeLeases
from .volume_operations import VolumeOperations
from .volume_removal import VolumeRemoval
from .volume_sizes import VolumeSizes


@dataclass(frozen=True, slots=True)
class Settings:
    """Where storage may be, and where links to it are kept."""

    directories: Sequence[str]  # local storage may be below these
    repository: str  # links to pools and domains
    prepared: str  # links to images in use
    local_leases: bool = False  # whether local domains have leases too
    monitor_interval_s: float = 10.0  # between two looks at a domain
    monitor_patience_s: float = 10.0  # a look that takes longer hangs
    remote_servers: Sequence[str] = ()  # those that images may be fetched from and sent to


class StorageParts:
    """`services` answer the verbs; `operations` are what their steps do. Call `open` before, `close` after.

    Machines with a disk: `users` all of them, `strangers` those that are foreign, `runners` these and those that run.
    """

    def __init__(
        self,
        files: Files,
        images: DiskImages,
        mounts: Mounts,
        leases: Leases,
        servers: ImageServers,
        transfers: Transfers,
        remotes: Remotes,
        storage_log: StorageLog,
        journal: Journal,
        settings: Settings,
        users: Users,
        strangers: Users,
        runners: Users,
    ) -> None:
        self.repository = repository = Repository(
            files, storage_log, journal, Mountpoints(files, mounts, settings.repository), settings.repository
        )
        self.catalog = catalog = Catalog(files, repository)
        self.host_ids = host_ids = HostIds(leases, repository)
        self.charge = charge = Charge(leases, repository, host_ids, journal)
        self.volume_leases = volume_leases = VolumeLeases(files, leases, repository, host_ids)
        leases.watch(self._lost)
        self.domain_leases = domain_leases = DomainLeases(files, leases, repository, local=settings.local_leases)

        def acquired(domain: Domain) -> bool:
            return not domain_leases.used(domain) or host_ids.joined(domain.id)

        self.monitor = monitor = Monitor(
            files, repository, acquired, settings.monitor_interval_s, settings.monitor_patience_s
        )
        domain_operations = DomainOperations(files, repository, domain_leases, host_ids, charge)
        lease_operations = LeaseOperations(files, leases, repository, domain_leases, host_ids)
        backup_operations = BackupOperations(files, repository)
        switch = MasterSwitch(repository, domain_operations, backup_operations)
        membership = Membership(repository, domain_operations, switch, volume_leases, users)
        self.volume_operations = do = VolumeOperations(
            files, images, repository, catalog, volume_leases, journal, users
        )
        jobs = VolumeJobs(repository, catalog, do, volume_leases)
        copies = Copies(images, jobs, users, runners)
        data_jobs = DataJobs(images, jobs, copies, users)
        bitmaps = Bitmaps(images, jobs)
        self.sizes = sizes = VolumeSizes(images, repository, catalog, volume_leases, do, runners)
        merges = Merges(images, repository, catalog, do, jobs, sizes, runners)
        self.reconciler = reconciler = Reconciler(images, repository, catalog, do, settings.prepared)
        places = Places(files, repository, settings.directories, settings.repository)
        templates = Templates(files, repository, catalog)
        disks = Disks(files, repository, catalog, do, templates, users)
        self.snapshots = snapshots = Snapshots(repository, catalog, do, merges, sizes, disks, runners)
        storage = Storage(files, repository, domain_operations, domain_leases, charge, users, places, monitor)
        self._host_storage = host_storage = HostStorage(repository, monitor, host_ids, storage_log, domain_leases.used)
        exports = NbdServers(servers, repository, catalog, users)
        self.chain_servers = ChainServers(servers, transfers, catalog)
        tickets = Tickets(files, transfers, servers, self.chain_servers, repository, catalog, users, settings.prepared)
        moves = DiskTransfers(
            files, images, transfers, self.chain_servers, repository, catalog, users, tickets, disks, storage_log
        )
        streams = ImageStreams(files, images, repository, catalog, volume_leases, users)
        remote = RemoteTransfers(
            files, images, remotes, repository, catalog, jobs, volume_leases, users, settings.remote_servers
        )
        volumes = Volumes(files, images, repository, catalog, do, volume_leases)
        image_moves = ImageMoves(repository, catalog, do, templates, copies, users)
        self.services: list[object] = [
            disks,
            data_jobs,
            bitmaps,
            merges,
            snapshots,
            Checks(files, images, repository, catalog, domain_leases),
            Domains(files, repository, catalog, domain_operations, domain_leases, charge, membership, users),
            membership,
            IsoFiles(files, repository),
            storage,
            host_storage,
            volumes,
            VolumeCreation(repository, catalog, do, templates, volumes, strangers),
            VolumeRemoval(repository, catalog, do, templates, reconciler, users),
            sizes,
            image_moves,
            VolumeCopies(repository, catalog, do, copies, users),
            exports,
            tickets,
            moves,
            streams,
            remote,
            Images(repository, catalog, do, reconciler, runners, settings.prepared),
            Servers(repository, domain_operations, places, host_ids, users),
            Pools(repository, monitor, domain_operations, domain_leases, charge, volume_leases, users),
            ExternalLeaseVerbs(leases, repository, lease_operations),
            Masters(repository, catalog, domain_operations, switch),
            Backups(files, repository, backup_operations),
        ]
        self.operations: list[object] = [
            do,
            domain_operations,
            charge,
            lease_operations,
            backup_operations,
            copies,
            data_jobs,
            bitmaps,
            merges,
            reconciler,
            disks,
            storage,
            host_storage,
            volumes,
            templates,
            sizes,
            exports,
            self.chain_servers,
            tickets,
            moves,
            streams,
            remote,
        ]

    async def open(self) -> None:
        """Raises StateUnavailable."""
        await self.repository.open()
        self.monitor.open()
        self.domain_leases.follow_settings()
        self.host_ids.open()
        self.charge.open()
        await self._host_storage.open()
        await self.chain_servers.open()

    def _lost(self, leases: Collection[Lease]) -> None:
        """Whatever was done under them must not go on."""
        self.charge.lost(leases)
        self.volume_leases.lost(leases)
        self.host_ids.doubt()

    async def loaded(self) -> None:
        """See `Repository.loaded`."""
        await self.repository.loaded()

    async def able(self) -> None:
        """Wait until what the last daemon left can be taken up: this host has its ids and is in charge, or it is known
        that it does not get them."""
        await self.repository.loaded()
        await self.host_ids.settled()
        await self.charge.settled()

    async def close(self) -> None:
        await self.chain_servers.close()
        await self.charge.close()
        await self.host_ids.close()
        await self.monitor.close()
        await self.repository.close()

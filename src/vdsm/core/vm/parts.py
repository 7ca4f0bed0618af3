# SPDX-License-Identifier: Apache-2.0
"""Everything of virtual machines, put together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from vdsm.core.locks import Locks
from vdsm.core.ports.disks import DiskImages
from vdsm.core.ports.hypervisor import Hypervisor
from vdsm.core.ports.images import Images
from vdsm.core.ports.store import StorageLog
from vdsm.core.run import TaskRow
from vdsm.core.storage.parts import StorageParts

from .admission import Admission
from .disk_operations import DiskOperations
from .disks import VmDisks
from .files import AllowedFiles
from .live_disks import MachinesDisks
from .merges import Merges
from .operations import VmOperations
from .prepared import Prepared
from .resume import Resumer
from .spots import Spots
from .surroundings import Surroundings
from .table import Table
from .vm import Vms


class VmParts:
    """`services` answer the verbs; `operations` are what their steps do. Call `open` before, `close` after.

    `directories` are those below which machines may have files; `unfinished` gives the tasks that have not ended.
    """

    def __init__(
        self,
        hypervisor: Hypervisor,
        table: Table,
        images: Images,
        disks: DiskImages,
        storage: StorageParts,
        storage_log: StorageLog,
        surroundings: Surroundings,
        *,
        owner: str,
        directories: Sequence[str],
        prepared: str,
        locks: Locks,
        unfinished: Callable[[], Iterable[TaskRow]],
    ) -> None:
        repository, catalog, volumes = storage.repository, storage.catalog, storage.volume_operations
        files = AllowedFiles(images, directories, catalog.places)
        spots = Spots(repository, prepared)
        self.admission = admission = Admission(files, repository, catalog, spots, table)
        self.prepared = Prepared(repository, spots, volumes, storage_log, table, prepared)
        self.merges = merges = Merges(
            hypervisor, table, spots, repository, catalog, volumes, storage.reconciler, unfinished
        )
        do = VmOperations(hypervisor, table, admission, self.prepared, merges)
        disk_operations = DiskOperations(
            hypervisor, table, self.prepared, disks, repository, catalog, storage.volume_leases, volumes
        )
        self.vms = Vms(hypervisor, table, do, files, owner, surroundings, admission, merges)
        self.disks = VmDisks(hypervisor, table, do, disk_operations, merges, admission, repository, storage.snapshots)
        storage.snapshots.live = storage.sizes.live = MachinesDisks(table, admission, self.disks, merges)
        self.resumer = Resumer(table, do, locks, storage.monitor.unwell)
        storage.monitor.well = self.resumer.look
        self.services: list[object] = [self.vms, self.disks]
        self.operations: list[object] = [do, disk_operations, merges]

    async def open(self) -> None:
        """After the storage. Raises StateUnavailable."""
        await self.prepared.open()

    async def close(self) -> None:
        await self.resumer.close()
        await self.prepared.close()

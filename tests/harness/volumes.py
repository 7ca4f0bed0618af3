# SPDX-License-Identifier: Apache-2.0
"""Volumes of a host in memory, made by the verbs and looked at past them."""

from __future__ import annotations

import uuid
from typing import Any, NamedTuple

from vdsm.contract import storage, storage_domain, volume
from vdsm.contract.storage import Finding, StorageSummary
from vdsm.contract.storage_domain import VolumeDump
from vdsm.contract.vm_params import DiskFormat
from vdsm.core.ports.disks import Image
from vdsm.core.ports.leases import Lease, LeaseState
from vdsm.core.storage.catalog import Found
from vdsm.core.storage.domain_leases import lockspace, volume_lease
from vdsm.core.storage.format import volume_meta
from vdsm.core.storage.format.volume_meta import VolumeMeta
from vdsm.drivers.simulated.leases import SimulatedLeases
from vdsm.drivers.simulated.tree import CLUSTER

from .memory_host import MemoryHost

MIB = 1 << 20
SIZE = 16 * MIB


def new_id() -> str:
    return str(uuid.uuid4())


class Stranger(NamedTuple):
    """Another host, which holds a lease."""

    leases: SimulatedLeases
    lease: Lease

    async def let_go(self) -> None:
        await self.leases.release(self.lease, 2)

    async def state(self) -> LeaseState:
        return await self.leases.state(self.lease)


class Volumes:
    """Of one of the host's storage domains."""

    def __init__(self, host: MemoryHost, row: StorageSummary) -> None:
        self.host = host
        self.domain = row.id
        self.pool = row.pool
        self.root = row.path

    @classmethod
    async def of(cls, host: MemoryHost) -> Volumes:
        """Of the only one."""
        (row,) = await host.call(storage.list_)
        return cls(host, row)

    async def make(
        self, image: str, *, name: str = "", parent: str = "", form: str = "", size: int = SIZE, **more: Any
    ) -> str:
        made = name or new_id()
        going_on: dict[str, Any] = {"srcImgUUID": image, "srcVolUUID": parent} if parent else {}
        await self.host.call(
            volume.create, volumeID=made, storagepoolID=self.pool, storagedomainID=self.domain, imageID=image,
            size=size, volFormat=form or ("COW" if parent else "RAW"), preallocate="SPARSE", diskType="DATA",
            desc="d", **going_on, **more,
        )  # fmt: skip
        return made

    async def chain(self, length: int, *, form: str = "RAW", **more: Any) -> tuple[str, list[str]]:
        """An image of that many volumes, the first of them first."""
        image = new_id()
        chain = [await self.make(image, form=form, **more)]
        while len(chain) < length:
            chain.append(await self.make(image, parent=chain[-1], **more))
        return image, chain

    def endpoint(self, image: str, volume_id: str, **more: object) -> dict[str, Any]:
        return {"sd_id": self.domain, "img_id": image, "vol_id": volume_id, **more}

    def path(self, image: str, volume_id: str) -> str:
        return f"{self.root}/{self.domain}/images/{image}/{volume_id}"

    def meta(self, image: str, volume_id: str) -> VolumeMeta:
        return volume_meta.decode(bytes(self.host.tree.nodes[f"{self.path(image, volume_id)}.meta"].data))

    async def file(self, image: str, volume_id: str) -> Image:
        catalog, repository = self.host.storage.catalog, self.host.repository
        domain = await repository.usable(self.domain)
        found = await catalog.image(domain, image)
        assert found is not None
        return Found(domain, found).file(volume_id)

    def write(self, image: str, volume_id: str, cluster: int, pattern: int) -> None:
        self.host.disk_images.write(self.path(image, volume_id), cluster * CLUSTER, CLUSTER, pattern)

    async def read(self, image: str, volume_id: str, clusters: int = 4) -> list[int]:
        """The byte a guest finds at the beginning of each cluster."""
        file = await self.file(image, volume_id)
        return [self.host.disk_images.read(file, cluster * CLUSTER) for cluster in range(clusters)]

    async def bitmaps(self, image: str, volume_id: str) -> list[str]:
        info = await self.host.disk_images.info(await self.file(image, volume_id))
        assert info.format is DiskFormat.QCOW2
        return sorted(bitmap.name for bitmap in info.bitmaps)

    async def taken(self, image: str, volume_id: str) -> Stranger:
        """Another host that has the volume's lease, in a domain with leases."""
        domain = await self.host.repository.usable(self.domain)
        stranger = SimulatedLeases(self.host.leases.board)
        await stranger.join(lockspace(domain.directory, domain.metadata()), 2)
        lease = volume_lease(domain, image, volume_id)
        await stranger.acquire(lease, 2)
        return Stranger(stranger, lease)

    async def dump(self) -> dict[str, VolumeDump]:
        whole: dict[str, VolumeDump] = (await self.host.call(storage_domain.dump, sd_id=self.domain)).volumes
        return whole

    async def check(self) -> list[Finding]:
        found: list[Finding] = await self.host.call(storage.check, storageID=self.domain)
        return [one for one in found if "dom_md" not in one.where]

    def names(self) -> set[str]:
        """Every file of the domain."""
        return {path for path in self.host.tree.nodes if path.startswith(f"{self.root}/{self.domain}/")}

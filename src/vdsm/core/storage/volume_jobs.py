# SPDX-License-Identifier: Apache-2.0
"""What every job on one volume's data has in common, so that no crash leaves a volume that looks good and is not.

A volume counts its jobs: its generation. A job is told which one it finds, and its last act is to write the next one:
so a job taken up after a crash knows whether it had finished, and who asks too late or twice is refused. While it
works the volume is ILLEGAL, and stays so when the job fails. On shared storage it holds the volume's lease.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from vdsm.contract.errors_domains import DiskUnusable, GenerationMismatch, VolumeDoesNotExist
from vdsm.contract.sdm import CopyDataDIVEndpoint
from vdsm.contract.storage_words import VolumeLegality

from .catalog import Catalog, Found, chain_of
from .format import volume_meta
from .format.volume_meta import VolumeMeta
from .records import Domain
from .repository import Repository
from .volume_leases import VolumeLeases
from .volume_operations import VolumeOperations


class Address(msgspec.Struct, frozen=True):
    """Which volume; the same ids in another domain are another one."""

    domain: str
    image: str
    volume: str


def address_of(info: CopyDataDIVEndpoint) -> Address:
    return Address(info.sd_id, info.img_id, info.vol_id)


class Place(NamedTuple):
    """A volume that is there."""

    found: Found
    volume: str
    meta: VolumeMeta

    def chain(self) -> list[str]:
        """The volume and those it goes on from. Raises DiskUnusable, also for one that nothing of a disk needs."""
        chain = chain_of(self.found)
        if self.volume not in chain:
            raise DiskUnusable(disk=self.found.name, reason=f"its volume {self.volume} is in no chain")
        return chain[chain.index(self.volume) :]


Work = Callable[[Place], Awaitable[None]]


class VolumeJobs:
    def __init__(
        self, repository: Repository, catalog: Catalog, operations: VolumeOperations, leases: VolumeLeases
    ) -> None:
        self._do = operations
        self._repository = repository
        self._catalog = catalog
        self._leases = leases

    async def find(self, address: Address, generation: int | None = None) -> Place:
        """To be read. Raises StorageDomainDoesNotExist, StorageUnusable, VolumeDoesNotExist, GenerationMismatch."""
        place = await self._place(await self._repository.usable(address.domain), address)
        if generation is not None and generation != place.meta.generation:
            raise GenerationMismatch(volume=address.volume, stated=generation, found=place.meta.generation)
        return place

    async def find_workable(self, address: Address, generation: int | None = None) -> Place:
        """To be worked on by this host. Raises SpmStatusError too."""
        await self._repository.workable(address.domain)
        return await self.find(address, generation)

    async def _place(self, domain: Domain, address: Address) -> Place:
        image = await self._catalog.image(domain, address.image)
        if image is None or address.volume not in image.volumes:
            raise VolumeDoesNotExist(volume=address.volume, image=address.image)
        return Place(Found(domain, image), address.volume, image.volumes[address.volume])

    async def work(self, address: Address, generation: int, work: Work, after: VolumeLegality | None = None) -> None:
        """Do `work` on the volume of that generation; done already is fine. It is `after` then, else as it was.

        With `after` the volume is ILLEGAL meanwhile.
        """
        domain = await self._repository.workable(address.domain)
        async with self._leases.held(domain, address.image, address.volume):
            place = await self._place(domain, address)
            done = (generation + 1) % volume_meta.GENERATIONS
            if place.meta.generation == done:
                return
            if place.meta.generation != generation:
                raise GenerationMismatch(volume=address.volume, stated=generation, found=place.meta.generation)
            if after is not None:
                await self._do.write(domain, place.volume, replace(place.meta, legality=VolumeLegality.ILLEGAL))
            await work(place)
            meta = replace(place.meta, generation=done)
            await self._do.write(domain, place.volume, meta if after is None else replace(meta, legality=after))

    async def give_up(self, address: Address, generation: int, legality: VolumeLegality) -> None:
        """Of `work` that can be cut short without harm: if it was, the volume is as legal as before."""
        domain = await self._repository.workable(address.domain)
        if (await self._place(domain, address)).meta.legality is legality:
            return  # not begun, perhaps because another host holds the lease
        async with self._leases.held(domain, address.image, address.volume):
            place = await self._place(domain, address)
            if place.meta.generation == generation and place.meta.legality is not legality:
                await self._do.write(domain, place.volume, replace(place.meta, legality=legality))

    async def update(self, address: Address, generation: int, meta: VolumeMeta) -> None:
        """Its metadata, of that generation, is this from now on; it is already: fine."""
        domain = await self._repository.workable(address.domain)
        async with self._leases.held(domain, address.image, address.volume):
            place = await self._place(domain, address)
            if place.meta.generation != generation and place.meta != meta:
                raise GenerationMismatch(volume=address.volume, stated=generation, found=place.meta.generation)
            await self._do.write(domain, place.volume, meta)

# SPDX-License-Identifier: Apache-2.0
"""Copies one volume's data into another volume that is there, in the formats both have."""

from __future__ import annotations

from vdsm.contract.errors_domains import CannotCopyVolume, DiskInUse, DiskUnusable
from vdsm.contract.errors_storage import DestinationVolumeTooSmall
from vdsm.contract.storage_words import BLANK, VolumeFormat, VolumeLegality, VolumeRole
from vdsm.contract.vm_params import DiskFormat
from vdsm.core.ports.disks import DiskImages
from vdsm.core.ports.disks import Image as ImageFile
from vdsm.core.steps import Step, operation, report

from .disk import Users
from .volume_jobs import Address, Place, VolumeJobs


class Copies:
    """Machines with a disk: `users` all of them, `runners` those that may write to it now."""

    def __init__(self, images: DiskImages, jobs: VolumeJobs, users: Users, runners: Users) -> None:
        self._images = images
        self._jobs = jobs
        self._users = users
        self._runners = runners

    async def step(
        self,
        source: Address,
        target: Address,
        *,
        generation: int | None = None,
        bitmaps: bool = False,
        legal: bool = True,
    ) -> Step:
        """The step that copies, once both are seen to be fit. `generation` is what the caller says the target's is.

        Raises VolumeDoesNotExist, GenerationMismatch, CannotCopyVolume, DestinationVolumeTooSmall, DiskUnusable,
        DiskInUse.
        """
        into = await self._jobs.find_workable(target, generation)
        origin = await self._jobs.find(source)
        reason = ""
        if source == target:
            reason = "they are the same"
        elif into.meta.role is VolumeRole.SHARED:
            reason = "the target is a template, which others go on from"
        if reason:
            raise CannotCopyVolume(volume=source.volume, target=target.volume, reason=reason)
        _check_pair(origin, into, bitmaps=bitmaps)
        for place, users in ((into, self._users), (origin, self._runners)):
            for machine in users(place.volume) if place.meta.role is VolumeRole.LEAF else ():
                raise DiskInUse(disk=place.found.name, vm=machine)
        for place in (origin, into):  # what is refused is refused before it is marked
            await self._images.info(place.found.file(place.volume))
        return Step("copy the data", self.copy(source, target, into.meta.generation, bitmaps, legal))

    @operation("copy.data")
    async def copy(self, source: Address, target: Address, generation: int, bitmaps: bool, legal: bool) -> None:
        """What the source's chain holds; into a target with the same parent only what the source itself holds.

        One cut short starts anew. The target is of the generation given, and of the next afterwards: then nothing is
        done. It is ILLEGAL meanwhile, and with `legal` LEGAL afterwards.
        """

        async def convert(into: Place) -> None:
            origin = await self._jobs.find(source)
            _check_pair(origin, into, bitmaps=bitmaps)
            read, written = origin.found.file(source.volume), into.found.file(target.volume)
            if bitmaps:
                await self._drop_bitmaps(read, written)
            zeroed = await self._reads_as_zeros(written)
            await self._images.convert(read, written, zeroed=zeroed, bitmaps=bitmaps, progress=report)

        after = VolumeLegality.LEGAL if legal else VolumeLegality.ILLEGAL
        await self._jobs.work(target, generation, convert, after)

    async def _drop_bitmaps(self, source: ImageFile, target: ImageFile) -> None:
        """Those that will be copied, of a copy that was cut short."""
        coming = {bitmap.name for bitmap in (await self._images.info(source)).bitmaps}
        for bitmap in (await self._images.info(target)).bitmaps:
            if bitmap.name in coming:
                await self._images.remove_bitmap(target, bitmap.name)

    async def _reads_as_zeros(self, target: ImageFile) -> bool:
        """Whether it needs no zeroing first: of a new qcow2 image that would write the tables for its whole size
        (128 MiB for 1 TiB). A raw one is zeroed by a single call to the file system."""
        if target.format is not DiskFormat.QCOW2 or target.backing is not None:
            return False
        size = (await self._images.info(target)).virtual_size
        empty = await self._images.measure_new(size, target.format)
        return (await self._images.measure(target, target.format)).required == empty.required


def _check_pair(source: Place, target: Place, *, bitmaps: bool) -> None:
    """Raises CannotCopyVolume, DestinationVolumeTooSmall, DiskUnusable."""

    def refuse(reason: str) -> CannotCopyVolume:
        return CannotCopyVolume(volume=source.volume, target=target.volume, reason=reason)

    for volume in source.chain():
        legality = source.found.image.volumes[volume].legality
        if legality is VolumeLegality.FAKE and target.meta.parent != BLANK:
            continue  # stands in for a template, which the target has: of that nothing is copied
        if legality is not VolumeLegality.LEGAL:
            raise DiskUnusable(disk=source.found.name, reason=f"its volume {volume} was not finished")
    target.chain()
    if source.found.directory == target.found.directory and target.volume in source.chain():
        raise refuse("the source goes on from it")
    if target.meta.parent not in (BLANK, source.meta.parent):
        raise refuse(f"the target goes on from {target.meta.parent}, and the source does not")
    if bitmaps and VolumeFormat.RAW in (source.meta.format, target.meta.format):
        raise refuse("only volumes of the format COW have bitmaps")
    if target.meta.capacity < source.meta.capacity:
        path = target.found.volume_path(target.volume)
        raise DestinationVolumeTooSmall(file=path, size=target.meta.capacity, needed=source.meta.capacity)

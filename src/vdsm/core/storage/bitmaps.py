# SPDX-License-Identifier: Apache-2.0
"""Records of changes in COW volumes, as incremental backups need them."""

from __future__ import annotations

from vdsm.contract import sdm
from vdsm.contract.errors_storage import AddBitmapError, BitmapDoesNotExist
from vdsm.contract.sdm import CopyDataDIVEndpoint
from vdsm.contract.storage_words import VolumeFormat
from vdsm.core.handlers import Context, handles
from vdsm.core.ports.disks import DiskImages
from vdsm.core.steps import Step, operation

from .volume_jobs import Address, Place, VolumeJobs, address_of


class Bitmaps:
    def __init__(self, images: DiskImages, jobs: VolumeJobs) -> None:
        self._images = images
        self._jobs = jobs

    # ---- the verbs -------------------------------------------------------------------------------------------------

    @handles(sdm.add_bitmap)
    async def add_bitmap(self, ctx: Context, job_id: str, vol_info: CopyDataDIVEndpoint, bitmap: str) -> None:
        place = await self._place(ctx, vol_info)
        reason = ""
        if place.meta.format is not VolumeFormat.COW:
            reason = "it is raw"
        elif bitmap in await self._names(place):
            reason = "it does so already"
        if reason:
            raise AddBitmapError(file=place.found.volume_path(place.volume), bitmap=bitmap, reason=reason)
        job = _job(vol_info, place)
        step = Step("let it record changes", self.add(*job, bitmap), self.forget(*job, bitmap))
        await ctx.run(step, about=vol_info.img_id)

    @handles(sdm.remove_bitmap)
    async def remove_bitmap(self, ctx: Context, job_id: str, vol_info: CopyDataDIVEndpoint, bitmap: str) -> None:
        place = await self._place(ctx, vol_info)
        if bitmap not in await self._names(place):
            raise BitmapDoesNotExist(file=place.found.volume_path(place.volume), bitmap=bitmap)
        await ctx.run(Step("end the record", self.remove(*_job(vol_info, place), [bitmap])), about=vol_info.img_id)

    @handles(sdm.clear_bitmaps)
    async def clear_bitmaps(self, ctx: Context, job_id: str, vol_info: CopyDataDIVEndpoint) -> None:
        place = await self._place(ctx, vol_info)
        names = await self._names(place)
        await ctx.run(Step("end all records", self.remove(*_job(vol_info, place), names)), about=vol_info.img_id)

    async def _place(self, ctx: Context, vol_info: CopyDataDIVEndpoint) -> Place:
        await ctx.hold(f"disk:{vol_info.img_id}")
        place = await self._jobs.find_workable(address_of(vol_info), vol_info.generation)
        place.chain()
        return place

    async def _names(self, place: Place) -> list[str]:
        return [bitmap.name for bitmap in (await self._images.info(place.found.file(place.volume))).bitmaps]

    # ---- the operations --------------------------------------------------------------------------------------------

    @operation("bitmap.add")
    async def add(self, address: Address, generation: int, name: str) -> None:
        async def work(place: Place) -> None:
            if name not in await self._names(place):
                await self._images.add_bitmap(place.found.file(place.volume), name)

        await self._jobs.work(address, generation, work)

    @operation("bitmap.forget")
    async def forget(self, address: Address, generation: int, name: str) -> None:
        """Of `add`, what was not finished."""
        place = await self._jobs.find_workable(address)
        if place.meta.generation == generation and name in await self._names(place):
            await self._images.remove_bitmap(place.found.file(place.volume), name)

    @operation("bitmap.remove")
    async def remove(self, address: Address, generation: int, names: list[str]) -> None:
        async def work(place: Place) -> None:
            for name in await self._names(place):
                if name in names:
                    await self._images.remove_bitmap(place.found.file(place.volume), name)

        await self._jobs.work(address, generation, work)


def _job(vol_info: CopyDataDIVEndpoint, place: Place) -> tuple[Address, int]:
    return address_of(vol_info), place.meta.generation

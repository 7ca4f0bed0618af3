# SPDX-License-Identifier: Apache-2.0
"""The verbs on jobs: what they check and which step they take. What happens to one cut short: see `volume_jobs`."""

from __future__ import annotations

from msgspec.structs import replace

from vdsm.contract import sdm
from vdsm.contract.errors import InvalidParams
from vdsm.contract.errors_domains import (
    DiskInUse,
    IncorrectFormat,
    InvalidVolumeUpdate,
    ManagedVolumeNotSupported,
    UnexpectedVolumeState,
)
from vdsm.contract.sdm import (
    CopyDataDIVEndpoint,
    CopyDataEndpoint,
    EndpointType,
    Qcow2Attributes,
    VolumeAttributes,
)
from vdsm.contract.storage_words import BLANK, VolumeFormat, VolumeLegality, VolumeRole
from vdsm.core.handlers import Context, handles
from vdsm.core.locks import shared
from vdsm.core.ports.disks import DiskImages
from vdsm.core.steps import Step, operation

from .copies import Copies
from .disk import Users
from .format.volume_meta import VolumeMeta
from .volume_jobs import Address, Place, VolumeJobs, address_of


class DataJobs:
    def __init__(self, images: DiskImages, jobs: VolumeJobs, copies: Copies, users: Users) -> None:
        self._images = images
        self._jobs = jobs
        self._copies = copies
        self._users = users

    @handles(sdm.copy_data)
    async def copy_data(
        self,
        ctx: Context,
        job_id: str,
        source: CopyDataEndpoint,
        destination: CopyDataEndpoint,
        copy_bitmaps: bool = False,
        *,
        legal: bool = True,
    ) -> None:
        origin, target = _address("source", source), _address("destination", destination)
        await ctx.hold(f"disk:{target.image}", shared(f"disk:{origin.image}"))
        await self._jobs.find(origin, source.generation)
        step = await self._copies.step(
            origin, target, generation=destination.generation, bitmaps=copy_bitmaps, legal=legal
        )
        await ctx.run(step, about=target.image)

    @handles(sdm.update_volume)
    async def update_volume(
        self, ctx: Context, job_id: str, vol_info: CopyDataDIVEndpoint, vol_attr: VolumeAttributes
    ) -> None:
        place = await self._held(ctx, vol_info)
        old = place.meta
        step = Step("write its metadata", self.update(address_of(vol_info), old.generation, _updated(place, vol_attr)))
        await ctx.run(step, about=vol_info.img_id)

    @handles(sdm.amend_volume)
    async def amend_volume(
        self, ctx: Context, job_id: str, vol_info: CopyDataDIVEndpoint, qcow2_attr: Qcow2Attributes
    ) -> None:
        place = await self._held(ctx, vol_info)
        if place.meta.format is not VolumeFormat.COW:
            raise IncorrectFormat(volume=place.volume, format=place.meta.format)
        compat = qcow2_attr.compat.value if qcow2_attr.compat else ""
        step = Step("change its format", self.amend(address_of(vol_info), place.meta.generation, compat))
        await ctx.run(step, about=vol_info.img_id)

    @handles(sdm.sparsify_volume)
    async def sparsify_volume(self, ctx: Context, job_id: str, vol_info: CopyDataDIVEndpoint) -> None:
        place = await self._held(ctx, vol_info)
        if place.meta.parent != BLANK or place.meta.role is not VolumeRole.LEAF:
            raise UnexpectedVolumeState(volume=place.volume, reason="it is not the only one of its image")
        for machine in self._users(vol_info.img_id):
            raise DiskInUse(disk=place.found.name, vm=machine)
        await self._images.info(place.found.file(place.volume))  # refused before it is marked
        at = (address_of(vol_info), place.meta.generation)
        step = Step("free what it does not use", self.sparsify(*at), self.leave(*at, place.meta.legality))
        await ctx.run(step, about=vol_info.img_id)

    async def _held(self, ctx: Context, vol_info: CopyDataDIVEndpoint) -> Place:
        await ctx.hold(f"disk:{vol_info.img_id}")
        return await self._jobs.find_workable(address_of(vol_info), vol_info.generation)

    @operation("volume.update")
    async def update(self, address: Address, generation: int, meta: VolumeMeta) -> None:
        await self._jobs.update(address, generation, meta)

    @operation("volume.amend")
    async def amend(self, address: Address, generation: int, compat: str) -> None:
        async def work(place: Place) -> None:
            if compat:
                await self._images.amend(place.found.file(place.volume), compat=compat)

        await self._jobs.work(address, generation, work)

    @operation("volume.sparsify")
    async def sparsify(self, address: Address, generation: int) -> None:
        """The data stay what they are at each moment."""

        async def work(place: Place) -> None:
            await self._images.sparsify(place.found.file(place.volume))

        await self._jobs.work(address, generation, work, VolumeLegality.LEGAL)

    @operation("volume.leave")
    async def leave(self, address: Address, generation: int, legality: VolumeLegality) -> None:
        await self._jobs.give_up(address, generation, legality)


def _updated(place: Place, wanted: VolumeAttributes) -> VolumeMeta:
    """Raises InvalidVolumeUpdate."""
    old = place.meta
    role, legality = wanted.type or old.role, wanted.legality or old.legality
    if VolumeLegality.FAKE in (legality, old.legality) and legality is not old.legality:
        raise InvalidVolumeUpdate(volume=place.volume, reason="a FAKE volume stands for another domain's template")
    alone = old.role is VolumeRole.LEAF and old.parent == BLANK
    if role is not old.role and not (role is VolumeRole.SHARED and alone):
        raise InvalidVolumeUpdate(volume=place.volume, reason=f"it is {old.role}, not {role}")
    return replace(
        old,
        role=role,
        legality=legality,
        description=old.description if wanted.description is None else wanted.description,
        generation=old.next_generation() if wanted.generation is None else wanted.generation,
    )


def _address(where: str, endpoint: CopyDataEndpoint) -> Address:
    """Raises ManagedVolumeNotSupported, InvalidParams."""
    if endpoint.endpoint_type is not EndpointType.DIV:
        raise ManagedVolumeNotSupported(what=endpoint.url or f"the {where}")
    if endpoint.sd_id is None or endpoint.img_id is None or endpoint.vol_id is None:
        raise InvalidParams(reason=f"the {where} needs sd_id, img_id and vol_id")
    return Address(endpoint.sd_id, endpoint.img_id, endpoint.vol_id)

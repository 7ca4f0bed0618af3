# SPDX-License-Identifier: Apache-2.0
"""The verbs on jobs: what they check and which step they take. None needs undoing: see `volume_jobs`."""

from __future__ import annotations

from vdsm.contract import sdm
from vdsm.contract.errors import InvalidParams
from vdsm.contract.errors_domains import ManagedVolumeNotSupported
from vdsm.contract.sdm import CopyDataEndpoint, EndpointType
from vdsm.core.handlers import Context, handles

from .copies import Copies
from .volume_jobs import Address, VolumeJobs


class DataJobs:
    def __init__(self, jobs: VolumeJobs, copies: Copies) -> None:
        self._jobs = jobs
        self._copies = copies

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
        await ctx.hold(f"disk:{target.image}")
        await self._jobs.find(origin, source.generation)
        step = await self._copies.step(
            origin, target, generation=destination.generation, bitmaps=copy_bitmaps, legal=legal
        )
        await ctx.run(step, about=target.image)


def _address(where: str, endpoint: CopyDataEndpoint) -> Address:
    """Raises ManagedVolumeNotSupported, InvalidParams."""
    if endpoint.endpoint_type is not EndpointType.DIV:
        raise ManagedVolumeNotSupported(what=endpoint.url or f"the {where}")
    if endpoint.sd_id is None or endpoint.img_id is None or endpoint.vol_id is None:
        raise InvalidParams(reason=f"the {where} needs sd_id, img_id and vol_id")
    return Address(endpoint.sd_id, endpoint.img_id, endpoint.vol_id)

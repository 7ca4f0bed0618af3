# SPDX-License-Identifier: Apache-2.0
"""The verbs that take a volume's data from a stream, and give it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable

from msgspec.structs import replace

from vdsm.contract import ByteStream, image
from vdsm.contract.errors import TooBusy
from vdsm.contract.errors_domains import (
    DiskInUse,
    DiskUnusable,
    NoSuchDisk,
    SpmStatusError,
    VolumeDoesNotExist,
)
from vdsm.contract.errors_storage import (
    BeyondVolume,
    DestinationVolumeTooSmall,
    ImageVerificationError,
    StorageBroken,
    StreamCutShort,
)
from vdsm.contract.storage_words import (
    BLANK,
    LARGEST_VOLUME,
    VolumeFormat,
    VolumeLegality,
    VolumeRole,
    VolumeStatus,
)
from vdsm.core.handlers import Context, handles
from vdsm.core.ports.disks import DiskImages
from vdsm.core.ports.files import Files
from vdsm.core.steps import Step, operation, report

from .catalog import Catalog, Found, chain_of
from .disk import BLOCK, Users
from .format import layout, volume_meta
from .format.volume_meta import VolumeMeta
from .records import Domain
from .repository import Repository
from .streams import PIECE, Channel, Incoming, Outgoing
from .volume_leases import VolumeLeases

_AT_ONCE = 10
_TABLES = 64 << 20  # bytes of a qcow2 image beside its data, of one that is small


class ImageStreams:
    def __init__(
        self,
        files: Files,
        images: DiskImages,
        repository: Repository,
        catalog: Catalog,
        leases: VolumeLeases,
        users: Users,
    ) -> None:
        self._files = files
        self._images = images
        self._repository = repository
        self._catalog = catalog
        self._leases = leases
        self._users = users
        self._channels: dict[str, Channel] = {}

    # ---- the verbs -------------------------------------------------------------------------------------------------

    @handles(image.receive)
    async def receive(
        self,
        ctx: Context,
        image_id: str,
        storagepool_id: str,
        storagedomain_id: str,
        size: int,
        volume_id: str | None = None,
        *,
        task_id: str | None = None,
    ) -> ByteStream:
        await ctx.hold(f"disk:{image_id}")
        await self._repository.writable(storagedomain_id)
        found, volume = await self._find(storagepool_id, storagedomain_id, image_id, volume_id)
        self._check_target(found, volume, size)

        def steps(key: str) -> list[Step]:
            return [
                Step("write what comes", self.take(key, storagedomain_id, image_id, volume)),
                Step("verify it", self.accept(storagedomain_id, image_id, volume)),
            ]

        return Incoming(*await self._begin(ctx, size, image_id, steps))

    @handles(image.send)
    async def send(
        self,
        ctx: Context,
        image_id: str,
        storagepool_id: str,
        storagedomain_id: str,
        size: int,
        volume_id: str | None = None,
        *,
        task_id: str | None = None,
    ) -> ByteStream:
        await ctx.hold(f"disk:{image_id}")
        found, volume = await self._find(storagepool_id, storagedomain_id, image_id, volume_id)
        status, reason = found.image.status()
        if status is not VolumeStatus.OK:
            raise DiskUnusable(disk=found.name, reason=reason)
        there = (await self._files.status(found.domain.root, _inside(found, volume))).size
        if size > there:
            raise BeyondVolume(volume=volume, size=there, wanted=size)

        def steps(key: str) -> list[Step]:
            return [Step("read it", self.give(key, storagedomain_id, image_id, volume))]

        return Outgoing(*await self._begin(ctx, size, image_id, steps))

    async def _begin(
        self, ctx: Context, size: int, image_id: str, steps: Callable[[str], list[Step]]
    ) -> tuple[Channel, asyncio.Task[None]]:
        """Raises TooBusy."""
        if len(self._channels) >= _AT_ONCE:
            raise TooBusy(what="image streams")
        key = str(uuid.uuid4())
        channel = self._channels[key] = Channel(size)
        try:
            work = await ctx.begin(*steps(key), about=image_id)
        except BaseException:
            del self._channels[key]
            raise
        work.add_done_callback(lambda _: self._channels.pop(key, None))
        return channel, work

    async def _find(self, pool_id: str, domain_id: str, image_id: str, volume_id: str | None) -> tuple[Found, str]:
        """An image that no machine has, and the volume that is meant.

        Raises NoSuchDisk, VolumeDoesNotExist, DiskUnusable, DiskInUse, SpmStatusError.
        """
        domain = await self._repository.usable(domain_id)
        pool = self._repository.pool_of(domain_id)
        if pool is None or pool.id != pool_id:
            raise SpmStatusError(domain=f"{domain.name} in pool {pool_id}")
        there = await self._catalog.image(domain, image_id)
        if there is None:
            raise NoSuchDisk(disk=image_id)
        found = Found(domain, there)
        if volume_id not in (None, BLANK, *there.volumes):
            raise VolumeDoesNotExist(volume=volume_id, image=image_id)
        for machine in self._users(image_id):
            raise DiskInUse(disk=found.name, vm=machine)
        top = chain_of(found)[0]
        return found, top if volume_id in (None, BLANK) else str(volume_id)

    def _check_target(self, found: Found, volume_id: str, size: int) -> None:
        """Raises DiskUnusable, DestinationVolumeTooSmall."""
        meta = found.image.volumes[volume_id]
        if meta.parent != BLANK or meta.role is not VolumeRole.LEAF:
            raise DiskUnusable(disk=found.name, reason="other volumes go on from that one, or it does from another")
        room = meta.capacity
        if meta.format is VolumeFormat.COW:
            room += room // 10 + _TABLES
        if size > room:
            raise DestinationVolumeTooSmall(file=found.volume_path(volume_id), size=room, needed=size)

    # ---- what the tasks do -----------------------------------------------------------------------------------------

    @operation("image.take_stream")
    async def take(self, key: str, domain_id: str, image_id: str, volume_id: str) -> None:
        """Until something comes the volume is as it was. Raises StreamCutShort, also after a restart."""
        channel = self._of(key)
        data = await channel.take(PIECE)
        domain = await self._repository.writable(domain_id)
        async with self._leases.held(domain, image_id, volume_id):
            meta = await self._meta(domain, image_id, volume_id)
            await self._describe(domain, volume_id, replace(meta, legality=VolumeLegality.ILLEGAL))
            inside = domain.path(layout.volume(image_id, volume_id))
            if meta.format is VolumeFormat.COW:
                await self._files.resize(domain.root, inside, 0)
            offset = 0
            while data:
                await self._files.write_at(domain.root, inside, offset, data)
                offset += len(data)
                report(offset / channel.size)
                data = await channel.take(PIECE)

    @operation("image.accept_stream")
    async def accept(self, domain_id: str, image_id: str, volume_id: str) -> None:
        """Raises ImageVerificationError."""
        domain = await self._repository.writable(domain_id)
        meta = await self._meta(domain, image_id, volume_id)
        if meta.format is VolumeFormat.COW:
            image_there = await self._catalog.image(domain, image_id)
            assert image_there is not None, "its metadata was there"
            file = Found(domain, image_there).file(volume_id)
            info = await self._images.verify(file, largest=LARGEST_VOLUME)
            if -(-info.virtual_size // BLOCK) * BLOCK != meta.capacity:
                reason = f"it is an image of {info.virtual_size} bytes, its volume of {meta.capacity}"
                raise ImageVerificationError(file=file.path, reason=reason)
        await self._describe(domain, volume_id, replace(meta, legality=VolumeLegality.LEGAL))

    @operation("image.give_stream")
    async def give(self, key: str, domain_id: str, image_id: str, volume_id: str) -> None:
        """Raises StreamCutShort, also after a restart."""
        channel = self._of(key)
        domain = await self._repository.usable(domain_id)
        inside = domain.path(layout.volume(image_id, volume_id))
        while (left := channel.size - channel.passed) > 0:
            data = await self._files.read_at(domain.root, inside, channel.passed, min(PIECE, left))
            if not data:
                raise StorageBroken(file=f"{domain.root}/{inside}", reason="it has become shorter")
            await channel.put(data)
            report(channel.passed / channel.size)
        await channel.emptied()
        channel.end()

    def _of(self, key: str) -> Channel:
        try:
            return self._channels[key]
        except KeyError:  # of the daemon before
            raise StreamCutShort(got="some", size="its") from None

    async def _meta(self, domain: Domain, image_id: str, volume_id: str) -> VolumeMeta:
        """Raises VolumeDoesNotExist."""
        found = await self._catalog.image(domain, image_id)
        if found is None or volume_id not in found.volumes:
            raise VolumeDoesNotExist(volume=volume_id, image=image_id)
        return found.volumes[volume_id]

    async def _describe(self, domain: Domain, volume_id: str, meta: VolumeMeta) -> None:
        path = domain.path(layout.meta(meta.image, volume_id))
        await self._files.replace(domain.root, path, volume_meta.encode(meta))


def _inside(found: Found, volume_id: str) -> str:
    return found.domain.path(layout.volume(found.image.id, volume_id))

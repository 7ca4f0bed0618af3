# SPDX-License-Identifier: Apache-2.0
"""Disks up and down as files: a ticket each, and what came from outside is verified before it is a disk.

The ticket of an upload is kept over a restart, so that the transfer can go on, and so that nobody can write any more
when what was written is verified.
"""

from __future__ import annotations

import uuid

import msgspec
from msgspec.structs import replace

from vdsm.contract import disk
from vdsm.contract.disk import DataExtent, DiskInfo, DiskTransfer
from vdsm.contract.errors_domains import DiskInUse, DiskUnusable
from vdsm.contract.errors_storage import ImageDaemonError, ImageTicketsError
from vdsm.contract.host_tickets import TransferOp
from vdsm.contract.storage_words import LARGEST_VOLUME, VolumeLegality, VolumeStatus
from vdsm.contract.vm_params import DiskFormat
from vdsm.core.handlers import Context, handles
from vdsm.core.ports.disks import DiskImages
from vdsm.core.ports.files import Files
from vdsm.core.ports.store import StorageLog
from vdsm.core.ports.transfers import Ticket, Transfers
from vdsm.core.steps import Step, operation

from .catalog import Catalog, Found, chain_of
from .chain_servers import ChainServers
from .disk import BLOCK, Disks, Users
from .format import chains, layout, volume_meta
from .formats import DISK_FORMATS
from .repository import Repository
from .tickets import Tickets

_UPLOAD = "upload"  # the kind of its record
_LIFE_S = 7 * 86400
_IDLE_S = 3600


class _Kept(msgspec.Struct, frozen=True):
    disk_id: str
    volume: str
    ticket: str  # to write
    check: str  # to read: a ticket for both would not tell how much was written


def _ticket(name: str, url: str, size: int, op: TransferOp) -> Ticket:
    return Ticket(uuid=name, url=url, size=size, ops=[op], timeout=_LIFE_S, inactivity_timeout=_IDLE_S, sparse=True)


class DiskTransfers:
    def __init__(
        self,
        files: Files,
        images: DiskImages,
        transfers: Transfers,
        chain_servers: ChainServers,
        repository: Repository,
        catalog: Catalog,
        users: Users,
        tickets: Tickets,
        disks: Disks,
        storage_log: StorageLog,
    ) -> None:
        self._files = files
        self._images = images
        self._transfers = transfers
        self._chain_servers = chain_servers
        self._repository = repository
        self._catalog = catalog
        self._users = users
        self._tickets = tickets
        self._disks = disks
        self._log = storage_log

    @handles(disk.start_upload)
    async def start_upload(self, ctx: Context, disk_id: str) -> DiskTransfer:
        await ctx.hold(f"disk:{disk_id}")
        found = await self._waiting(disk_id)
        length, volume = await self._length(found), chain_of(found)[0]
        old = await self._kept(disk_id)
        if old and old.volume == volume and (moved := await self._moved(old)) is not None:
            await ctx.run()
            return self._answer(found, old.ticket, length, moved, old.check)
        new = _Kept(disk_id, volume, str(uuid.uuid4()), str(uuid.uuid4()))
        tickets = {new.ticket: TransferOp.WRITE, new.check: TransferOp.READ}
        keep = Step("keep its ticket", self.keep(new), self.end_upload(disk_id))
        await self._let_in(ctx, found, length, tickets, keep)
        return self._answer(found, new.ticket, length, 0, new.check)

    @handles(disk.start_download)
    async def start_download(self, ctx: Context, disk_id: str) -> DiskTransfer:
        await ctx.hold(f"disk:{disk_id}")
        found = await self._catalog.find(disk_id)
        status, reason = found.image.status()
        if status is not VolumeStatus.OK:
            raise DiskUnusable(disk=found.name, reason=reason)
        for machine in self._users(disk_id):
            raise DiskInUse(disk=found.name, vm=machine)
        ticket = str(uuid.uuid4())
        if len(chain_of(found)) > 1:
            return await self._open_chain(ctx, found, ticket)
        length = await self._length(found)
        data = await self._files.extents(found.domain.root, self._file(found))
        await self._let_in(ctx, found, length, {ticket: TransferOp.READ})
        extents = [DataExtent(start=extent.start, length=extent.length) for extent in data]
        return replace(self._answer(found, ticket, length, 0), data=extents)

    async def _open_chain(self, ctx: Context, found: Found, ticket: str) -> DiskTransfer:
        length, served = found.image.volumes[chain_of(found)[0]].capacity, self._chain_servers
        given = _ticket(ticket, served.url(ticket), length, TransferOp.READ)
        await ctx.run(
            Step("serve its volumes as one", served.serve(ticket, found.image.id), served.end(ticket)),
            Step("let it in", self._tickets.let_in(given), self._tickets.shut_out(ticket)),
        )
        return replace(self._answer(found, ticket, length, 0), format=DiskFormat.RAW)

    @handles(disk.finish_upload)
    async def finish_upload(self, ctx: Context, disk_id: str) -> DiskInfo:
        await ctx.hold(f"disk:{disk_id}")
        found = await self._waiting(disk_id)
        return await ctx.run(
            Step("let nobody write any more", self.end_upload(disk_id)),
            Step(f"verify what was uploaded as {found.name}", self.accept(disk_id)),
            answer=self._disks.info(disk_id),
            about=disk_id,
        )

    async def _length(self, found: Found) -> int:
        """Of its file."""
        return (await self._files.status(found.domain.root, self._file(found))).size

    def _file(self, found: Found) -> str:
        return found.domain.path(layout.volume(found.image.id, chain_of(found)[0]))

    async def _let_in(
        self, ctx: Context, found: Found, length: int, tickets: dict[str, TransferOp], *first: Step
    ) -> None:
        url = await self._tickets.url_of(found, chain_of(found)[0])
        given = [_ticket(name, url, length, op) for name, op in tickets.items()]
        await ctx.run(
            *first, *(Step("let it in", self._tickets.let_in(one), self._tickets.shut_out(one.uuid)) for one in given)
        )

    def _answer(self, found: Found, ticket: str, length: int, moved: int, check: str | None = None) -> DiskTransfer:
        door = self._transfers.door()
        return DiskTransfer(
            id=ticket,
            check_id=check,
            disk_id=found.image.id,
            format=DISK_FORMATS[found.image.volumes[chain_of(found)[0]].format],
            size=length,
            transferred=moved,
            listen=door.host,
            port=door.port,
            tls=bool(door.fingerprint),
            fingerprint=door.fingerprint,
        )

    async def _waiting(self, disk_id: str) -> Found:
        """A disk that waits for what it shall hold. Raises NoSuchDisk, DiskUnusable, DiskInUse."""
        found = await self._catalog.find(disk_id)
        await self._repository.writable(found.domain.id)
        order = chain_of(found)
        top = found.image.volumes[order[0]]
        if len(order) > 1 or top.legality is not VolumeLegality.ILLEGAL or not chains.upload_of(top):
            raise DiskUnusable(disk=found.name, reason="it waits for no upload; make one with Disk.create, uploadSize")
        for machine in self._users(disk_id):
            raise DiskInUse(disk=found.name, vm=machine)
        return found

    async def _kept(self, disk_id: str) -> _Kept | None:
        kept = [msgspec.json.decode(body, type=_Kept) for body in await self._log.all(_UPLOAD)]
        return next((one for one in kept if one.disk_id == disk_id), None)

    async def _moved(self, kept: _Kept) -> int | None:
        """From the beginning on, as the shell writes in order; None: there is no such ticket any more."""
        try:
            await self._transfers.get(kept.check)
            return (await self._transfers.get(kept.ticket)).transferred
        except (ImageTicketsError, ImageDaemonError):
            return None

    @operation("disk.keep_ticket")
    async def keep(self, kept: _Kept) -> None:
        """In the place of one that was."""
        await self._end(kept.disk_id)
        await self._log.put(_UPLOAD, kept.disk_id, msgspec.json.encode(kept))

    @operation("disk.end_upload")
    async def end_upload(self, disk_id: str) -> None:
        await self._end(disk_id)

    async def _end(self, disk_id: str) -> None:
        """Nobody writes there any more when this returns."""
        if kept := await self._kept(disk_id):
            for ticket in (kept.ticket, kept.check):
                await self._transfers.remove(ticket)
            await self._log.delete(_UPLOAD, disk_id)

    @operation("disk.accept")
    async def accept(self, disk_id: str) -> None:
        """It is a disk from here on. Raises ImageVerificationError."""
        found = await self._catalog.find(disk_id)
        domain = await self._repository.writable(found.domain.id)
        volume_id = chain_of(found)[0]
        meta = found.image.volumes[volume_id]
        if meta.legality is VolumeLegality.LEGAL:
            return
        info = await self._images.verify(found.file(volume_id), largest=LARGEST_VOLUME)
        capacity = -(-info.virtual_size // BLOCK) * BLOCK
        told = chains.description(found.name)
        legal = replace(meta, legality=VolumeLegality.LEGAL, capacity=capacity, description=told)
        path = domain.path(layout.meta(disk_id, volume_id))
        await self._files.replace(domain.root, path, volume_meta.encode(legal))

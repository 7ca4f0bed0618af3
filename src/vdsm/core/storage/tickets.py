# SPDX-License-Identifier: Apache-2.0
"""The verbs on image tickets: only volumes of this host's storage, and its own NBD servers, are let out and in."""

from __future__ import annotations

import re

from vdsm.contract import host
from vdsm.contract.errors_domains import DiskInUse
from vdsm.contract.errors_storage import FileMissing, TicketRefused
from vdsm.contract.host_tickets import ImageTicket, ImageTicketInfo, TransferOp
from vdsm.contract.storage_words import VolumeLegality
from vdsm.core.handlers import Context, handles
from vdsm.core.ports.files import FileKind, Files
from vdsm.core.ports.transfers import ImageServers, Ticket, Transfers
from vdsm.core.steps import Step, operation

from .catalog import Catalog, Found, chain_of
from .chain_servers import ChainServers
from .disk import Users
from .format import layout
from .format.lines import is_uuid
from .records import Domain
from .repository import Repository

_FILE = "file://"
_UNSAFE = re.compile("[?#;%]")  # would end the path of a URL, or stand for something else


class Tickets:
    """`prepared` is the directory of links to images that are in use."""

    def __init__(
        self,
        files: Files,
        transfers: Transfers,
        servers: ImageServers,
        chain_servers: ChainServers,
        repository: Repository,
        catalog: Catalog,
        users: Users,
        prepared: str,
    ) -> None:
        self._files = files
        self._transfers = transfers
        self._servers = servers
        self._chain_servers = chain_servers
        self._repository = repository
        self._catalog = catalog
        self._users = users
        self._prepared = prepared

    @handles(host.add_image_ticket)
    async def add(self, ctx: Context, ticket: ImageTicket) -> None:
        await ctx.hold(f"ticket:{ticket.uuid}")
        given = Ticket(
            uuid=ticket.uuid,
            url=await self._true_url(ticket),
            size=ticket.size,
            ops=ticket.ops,
            timeout=ticket.timeout,
            inactivity_timeout=ticket.inactivity_timeout,
            sparse=ticket.sparse,
            dirty=ticket.dirty,
            transfer_id=ticket.transfer_id,
            filename=ticket.filename or "",
        )
        await ctx.run(Step("let it in", self.let_in(given), self.shut_out(ticket.uuid)))

    @handles(host.get_image_ticket)
    async def get(self, ctx: Context, uuid: str) -> ImageTicketInfo:
        state = await self._transfers.get(uuid)
        return ImageTicketInfo(
            uuid=uuid,
            url=state.url,
            size=state.size,
            ops=state.ops,
            timeout=state.timeout,
            filename=state.filename or None,
            active=state.active,
            transferred=state.transferred or 0,
        )

    @handles(host.extend_image_ticket)
    async def extend(self, ctx: Context, uuid: str, timeout: int) -> None:
        await ctx.run(Step("let it live on", self.live_on(uuid, timeout)))

    @handles(host.remove_image_ticket)
    async def remove(self, ctx: Context, uuid: str) -> None:
        await ctx.hold(f"ticket:{uuid}")
        await ctx.run(Step("take it back", self.shut_out(uuid)))

    @operation("ticket.let_in")
    async def let_in(self, ticket: Ticket) -> None:
        await self._transfers.add(ticket)

    @operation("ticket.live_on")
    async def live_on(self, uuid: str, timeout: int) -> None:
        await self._transfers.extend(uuid, timeout)

    @operation("ticket.shut_out")
    async def shut_out(self, uuid: str) -> None:
        await self._transfers.remove(uuid)
        await self._chain_servers.stop(uuid)

    # ---- what a ticket may be for ----------------------------------------------------------------------------------

    async def _true_url(self, ticket: ImageTicket) -> str:
        """Of what lies there, without any link. Raises TicketRefused, DiskUnusable, DiskInUse."""
        if ticket.url.startswith(_FILE):
            return await self._volume_url(ticket.url, writes=TransferOp.WRITE in ticket.ops)
        for server_id in await self._servers.running():
            if ticket.url == self._servers.url(server_id):
                return ticket.url
        raise TicketRefused(url=ticket.url, reason="this host has no such NBD server")

    async def _volume_url(self, url: str, *, writes: bool) -> str:
        place, _, volume_id = url.removeprefix(_FILE).rpartition("/")
        place, _, image_id = place.rpartition("/")
        domain = self._domain_at(place)
        image = None
        if domain is not None and is_uuid(image_id):
            domain = await self._repository.usable(domain.id)
            image = await self._catalog.image(domain, image_id)
        if domain is None or image is None or volume_id not in image.volumes:
            raise TicketRefused(url=url, reason="it is no volume of this host's storage")
        found = Found(domain, image)
        top = chain_of(found)[0]
        if writes and volume_id != top:
            raise TicketRefused(url=url, reason=f"others go on from that volume; written to is {top}")
        if writes and image.template() and image.volumes[top].legality is VolumeLegality.LEGAL:
            raise TicketRefused(url=url, reason="it is a template, which others go on from")
        for machine in self._users(image_id) if writes else ():
            raise DiskInUse(disk=found.name, vm=machine)
        return await self.url_of(found, volume_id)

    def _domain_at(self, place: str) -> Domain | None:
        """Whose images lie in that directory, by any of the names it has; links are not followed."""
        for domain in self._repository:
            if place in (*self._repository.ways_to(domain), f"{self._prepared}/{domain.id}"):
                return domain
        return None

    async def url_of(self, found: Found, volume_id: str) -> str:
        """Of a volume's file. Raises TicketRefused."""
        path = found.volume_path(volume_id)
        inside = found.domain.path(layout.volume(found.image.id, volume_id))
        try:
            kind = (await self._files.status(found.domain.root, inside)).kind
        except FileMissing:
            raise TicketRefused(url=path, reason="the volume's file is missing") from None
        if kind is not FileKind.FILE:
            raise TicketRefused(url=path, reason="it is no regular file")
        if _UNSAFE.search(path):
            raise TicketRefused(url=path, reason="the domain's path has one of ? # ; % in it")
        return f"{_FILE}{path}"

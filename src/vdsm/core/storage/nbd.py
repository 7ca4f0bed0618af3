# SPDX-License-Identifier: Apache-2.0
"""The verbs on NBD servers."""

from __future__ import annotations

from vdsm.contract import nbd
from vdsm.contract.errors_domains import DiskInUse, DiskUnusable, VolumeDoesNotExist
from vdsm.contract.nbd import NBDServerConfig
from vdsm.contract.storage_words import VolumeLegality
from vdsm.core.handlers import Context, handles
from vdsm.core.ports.disks import Image
from vdsm.core.ports.transfers import Export, ImageServers
from vdsm.core.steps import Op, Step, operation

from .catalog import Catalog, Found, chain_of
from .disk import Users
from .repository import Repository


class NbdServers:
    def __init__(self, servers: ImageServers, repository: Repository, catalog: Catalog, users: Users) -> None:
        self._servers = servers
        self._repository = repository
        self._catalog = catalog
        self._users = users

    @handles(nbd.start_server)
    async def start_server(self, ctx: Context, server_id: str, config: NBDServerConfig) -> str:
        await ctx.hold(f"disk:{config.img_id}")
        await self._image(config)
        url: Op[str] = self.serve(server_id, config)
        return await ctx.run(Step("serve it", url, self.end(server_id)), answer=url, about=config.img_id)

    @handles(nbd.stop_server)
    async def stop_server(self, ctx: Context, server_id: str) -> None:
        await ctx.run(Step("serve it no more", self.end(server_id)))

    @operation("nbd.serve")
    async def serve(self, server_id: str, config: NBDServerConfig) -> str:
        export = Export(
            image=await self._image(config),
            read_only=config.readonly,
            discard=config.discard,
            detect_zeroes=config.detect_zeroes,
            with_backing=config.backing_chain,
            bitmap=config.bitmap or "",
        )
        return await self._servers.start(server_id, export)

    @operation("nbd.end")
    async def end(self, server_id: str) -> None:
        await self._servers.stop(server_id)

    async def _image(self, config: NBDServerConfig) -> Image:
        """Raises StorageDomainDoesNotExist, StorageUnusable, VolumeDoesNotExist, DiskUnusable, DiskInUse."""
        domain = await self._repository.usable(config.sd_id)
        image = await self._catalog.image(domain, config.img_id)
        if image is None or config.vol_id not in image.volumes:
            raise VolumeDoesNotExist(volume=config.vol_id, image=config.img_id)
        found = Found(domain, image)
        top = chain_of(found)[0]
        if not config.readonly:
            if config.vol_id != top:
                reason = f"others go on from its volume {config.vol_id}, which can be served read-only"
                raise DiskUnusable(disk=found.name, reason=reason)
            if image.template() and image.volumes[top].legality is VolumeLegality.LEGAL:
                raise DiskUnusable(disk=found.name, reason="it is a template, which can be served read-only")
            for machine in self._users(config.img_id):
                raise DiskInUse(disk=config.img_id, vm=machine)
        return found.file(config.vol_id)

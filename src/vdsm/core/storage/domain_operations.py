# SPDX-License-Identifier: Apache-2.0
"""What changes domains, pools and connections: each operation done twice equals done once, and undoing what was never
done is no error."""

from __future__ import annotations

import contextlib
import logging

import msgspec

from vdsm.contract.errors import Problem
from vdsm.contract.errors_domains import StorageDomainNotEmpty
from vdsm.contract.errors_storage import FileExists, FileMissing
from vdsm.contract.storage_words import StorageDomainImageClass
from vdsm.core.ports.deadline import within
from vdsm.core.ports.files import Files
from vdsm.core.steps import operation

from .charge import Charge
from .domain_leases import DomainLeases
from .format import domain_meta, layout
from .format.domain_meta import DomainMeta
from .format.lines import is_uuid
from .host_ids import HostIds
from .records import Connection, PoolRecord
from .repository import Repository

log = logging.getLogger(__name__)

_DIRECTORIES = ("dom_md", layout.IMAGES, layout.MASTER_TASKS, layout.MASTER_VMS)
_LEAVE_S = 30.0  # sanlock goes on where the storage takes longer to say that it is gone
_FILES = {
    layout.LOCKSPACE: 0,
    layout.LEASES: 0,
    layout.EXTERNAL_LEASES: 0,
    layout.INBOX: layout.MAILBOX_BYTES,
    layout.OUTBOX: layout.MAILBOX_BYTES,
}


class Rewritten(msgspec.Struct, frozen=True):
    """A domain's metadata as it shall be."""

    root: str
    meta: DomainMeta


class DomainOperations:
    """The operations; the services decide, these do."""

    def __init__(
        self, files: Files, repository: Repository, leases: DomainLeases, host_ids: HostIds, charge: Charge
    ) -> None:
        self._files = files
        self._repository = repository
        self._leases = leases
        self._host_ids = host_ids
        self._charge = charge

    @operation("storage.make_directory")
    async def make_directory(self, path: str) -> None:
        await self._files.make_directory("/", path.lstrip("/"))

    @operation("storage.create_domain")
    async def create_domain(self, root: str, meta: DomainMeta) -> None:
        """The metadata comes last: a directory without it is no domain."""
        iso = (layout.ISO_IMAGES,) if meta.domain_class is StorageDomainImageClass.ISO else ()
        for directory in (*_DIRECTORIES, *iso):
            await self._files.make_directory(root, f"{meta.uuid}/{directory}")
        for name, size in _FILES.items():
            with contextlib.suppress(FileExists):
                await self._files.create(root, f"{meta.uuid}/{name}", size=size)
        await self._leases.write(root, meta)
        await self._files.replace(root, f"{meta.uuid}/{layout.METADATA}", domain_meta.encode(meta))

    @operation("storage.drop_domain")
    async def drop_domain(self, root: str, domain_id: str) -> None:
        """Raises StorageDomainNotEmpty: what somebody has put there since stays."""
        images = await self._names(root, f"{domain_id}/{layout.IMAGES}")
        held = [name for name in images if is_uuid(name) and name != layout.ISO_IMAGE]
        if held := held or await self._names(root, f"{domain_id}/{layout.ISO_IMAGES}"):
            raise StorageDomainNotEmpty(domain=domain_id, count=len(held))
        await self._files.remove(root, f"{domain_id}/{layout.METADATA}")
        await self._files.remove(root, domain_id)

    async def _names(self, root: str, directory: str) -> list[str]:
        try:
            return list(await self._files.names(root, directory))
        except FileMissing:
            return []

    @operation("storage.erase_domain")
    async def erase_domain(self, root: str, domain_id: str) -> None:
        """With all that is in it; the metadata first, so that no half of a domain looks whole."""
        await self._files.remove(root, f"{domain_id}/{layout.METADATA}")
        await self._files.remove(root, domain_id)

    @operation("storage.complete_leases")
    async def complete_leases(self, domain_id: str) -> None:
        """Where there are none yet: of a domain that a host without leases made, or used."""
        await self._leases.complete(await self._repository.usable(domain_id))

    @operation("storage.write_domain")
    async def write_domain(self, root: str, meta: DomainMeta, pool_id: str) -> None:
        """Its metadata is this from now on. With a pool: as long as this host is in charge of that."""
        if pool_id:
            self._repository.write_to(pool_id)
        await self._files.replace(root, f"{meta.uuid}/{layout.METADATA}", domain_meta.encode(meta))
        await self._repository.refresh(meta.uuid)

    @operation("storage.rewrite_pool")
    async def rewrite_pool(self, pool_id: str, master_id: str, host_id: int, parts: list[Rewritten]) -> None:
        """Of a pool that this host is not connected to: with leases it is in charge of it meanwhile."""
        parts = [part for part in parts if (await self._repository.refresh(part.meta.uuid)).meta != part.meta]
        if not parts:
            return
        master = await self._repository.usable(master_id)
        leases = self._leases.needed(master.connection.type)
        if leases:
            await self._leases.complete(master)
        async with self._charge.borrowed(pool_id, master, host_id) if leases else contextlib.nullcontext():
            for part in parts:
                name = f"{part.meta.uuid}/{layout.METADATA}"
                await self._files.replace(part.root, name, domain_meta.encode(part.meta))
                await self._repository.refresh(part.meta.uuid)

    @operation("storage.connect")
    async def connect(self, connection: Connection) -> None:
        await self._repository.connect(connection)

    @operation("storage.disconnect")
    async def disconnect(self, connection: Connection) -> None:
        await self._repository.disconnect(connection)

    @operation("storage.forget")
    async def forget(self, connection: Connection) -> None:
        """Disconnect, and leave what was mounted before as it was."""
        await self._repository.disconnect(connection, keep_mount=True)

    @operation("storage.connect_pool")
    async def connect_pool(self, pool: PoolRecord) -> None:
        """With leases its host id is taken in the background, in the domains that are in use."""
        old = self._repository.pool(pool.id)
        if pool.leases:
            self._host_ids.join_all(pool)
        if old is not None and old.in_charge and old.master != pool.master:
            await self._charge.move(old, pool)
        else:
            await self._repository.connect_pool(pool)
        for domain_id in set(old.active() if old else ()) - set(pool.active()):
            await self._leave(domain_id)

    @operation("storage.wait_for_host_id")
    async def wait_for_host_id(self, domain_id: str, host_id: int) -> None:
        """Before that nothing there can be worked on. Raises AcquireHostIdFailure."""
        await self._host_ids.wait(domain_id, host_id)

    @operation("storage.disconnect_pool")
    async def disconnect_pool(self, pool_id: str) -> None:
        """Charge is given up by that."""
        if (pool := self._repository.pool(pool_id)) is None:
            return
        await self._charge.give_up(pool_id).run()
        for domain_id in pool.active():
            await self._leave(domain_id)
        await self._repository.disconnect_pool(pool_id)

    async def _leave(self, domain_id: str) -> None:
        try:
            with within(_LEAVE_S):
                await self._host_ids.leave(domain_id)
        except Problem as problem:  # whoever holds it keeps others from nothing but this host's own number
            log.warning("this host keeps its id in storage domain %s: %s", domain_id, problem)

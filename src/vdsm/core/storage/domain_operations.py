# SPDX-License-Identifier: Apache-2.0
"""What changes domains, pools and connections: each operation done twice equals done once, and undoing what was never
done is no error."""

from __future__ import annotations

import contextlib

from vdsm.contract.errors_domains import StorageDomainNotEmpty
from vdsm.contract.errors_storage import FileExists, FileMissing
from vdsm.contract.storage_words import StorageDomainImageClass
from vdsm.core.ports.files import Files
from vdsm.core.steps import operation

from . import domain_meta, layout
from .domain_meta import DomainMeta
from .lines import is_uuid
from .records import Connection, PoolRecord
from .repository import Repository

_DIRECTORIES = ("dom_md", layout.IMAGES, layout.MASTER_TASKS, layout.MASTER_VMS)
_FILES = {
    layout.LOCKSPACE: 0,
    layout.LEASES: 0,
    layout.EXTERNAL_LEASES: 0,
    layout.INBOX: layout.MAILBOX_BYTES,
    layout.OUTBOX: layout.MAILBOX_BYTES,
}


class DomainOperations:
    """The operations; the services decide, these do."""

    def __init__(self, files: Files, repository: Repository) -> None:
        self._files = files
        self._repository = repository

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

    @operation("storage.write_domain")
    async def write_domain(self, root: str, meta: DomainMeta) -> None:
        """Its metadata is this from now on."""
        await self._files.replace(root, f"{meta.uuid}/{layout.METADATA}", domain_meta.encode(meta))
        await self._repository.refresh(meta.uuid)

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
        await self._repository.connect_pool(pool)

    @operation("storage.disconnect_pool")
    async def disconnect_pool(self, pool_id: str) -> None:
        await self._repository.disconnect_pool(pool_id)

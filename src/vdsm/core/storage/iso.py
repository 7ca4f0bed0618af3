# SPDX-License-Identifier: Apache-2.0
"""Disc images in a domain of them: plain files below one directory, put there by people."""

from __future__ import annotations

import errno
import fnmatch
from collections.abc import AsyncIterator

from vdsm.contract import storage_domain
from vdsm.contract.errors_domains import StorageDomainClassError
from vdsm.contract.errors_storage import FileMissing, PathEscapes
from vdsm.contract.storage_domain import StorageDomainFileStats
from vdsm.contract.storage_words import StorageDomainImageClass
from vdsm.core.handlers import Context, handles
from vdsm.core.ports.files import FileKind, Files, FileStatus

from .format import layout
from .records import Domain
from .repository import Repository

_FILES_MAX = 10_000
_DEPTH_MAX = 8
_STATUS = {FileKind.FILE: 0, FileKind.LINK: errno.ELOOP}


class IsoFiles:
    def __init__(self, files: Files, repository: Repository) -> None:
        self._files = files
        self._repository = repository

    @handles(storage_domain.get_file_stats)
    async def get_file_stats(
        self, ctx: Context, storagedomain_id: str, pattern: str = "*", case_sensitive: bool = False
    ) -> dict[str, StorageDomainFileStats]:
        domain = await self._repository.usable(storagedomain_id)
        found = domain.metadata().domain_class
        if found is not StorageDomainImageClass.ISO:
            raise StorageDomainClassError(domain=domain.name, found=found, needed=StorageDomainImageClass.ISO)
        wanted = pattern if case_sensitive else pattern.lower()
        stats: dict[str, StorageDomainFileStats] = {}
        async for name, file in self._below(domain, "", _DEPTH_MAX):
            if fnmatch.fnmatchcase(name if case_sensitive else name.lower(), wanted):
                status = _STATUS.get(file.kind, errno.EINVAL)
                stats[name] = StorageDomainFileStats(size=file.size, ctime=file.modified, status=status)
            if len(stats) >= _FILES_MAX:
                break
        return stats

    async def _below(self, domain: Domain, above: str, depth: int) -> AsyncIterator[tuple[str, FileStatus]]:
        """Everything but directories, by its path below that of the disc images; links are not followed."""
        top = domain.path(layout.ISO_IMAGES)
        for name in await self._names(domain, f"{top}/{above}".rstrip("/")):
            inside = f"{above}/{name}" if above else name
            try:
                file = await self._files.status(domain.root, f"{top}/{inside}")
            except (FileMissing, PathEscapes):  # gone meanwhile, or no name of ours
                continue
            if file.kind is not FileKind.DIRECTORY:
                yield inside, file
            elif depth > 1:
                async for found in self._below(domain, inside, depth - 1):
                    yield found

    async def _names(self, domain: Domain, directory: str) -> list[str]:
        try:
            return [name for name in await self._files.names(domain.root, directory) if name.isprintable()]
        except FileMissing:
            return []

# SPDX-License-Identifier: Apache-2.0
"""Which local directories may hold storage."""

from __future__ import annotations

import asyncio
import os.path
from collections.abc import Sequence

from vdsm.contract.errors_domains import StoragePathRefused
from vdsm.contract.errors_storage import FileMissing
from vdsm.contract.storage_words import StorageDomainType
from vdsm.core.ports.files import FileKind, Files

from .records import Connection
from .repository import Repository


class LocalPlaces:
    """`directories` are those below which local storage may be."""

    def __init__(self, files: Files, repository: Repository, directories: Sequence[str]) -> None:
        self._files = files
        self._repository = repository
        self._directories = [os.path.realpath(d) for d in directories]

    async def find(self, path: str) -> Connection:
        """Where a local path, which may not be there yet, really is; the same connection if it is one already.

        Raises StoragePathRefused.
        """
        root = await asyncio.to_thread(os.path.realpath, path)  # in a thread, since a mount may hang
        if not path.startswith("/"):
            self._refuse(path, "it is no absolute path")
        if not any(root == allowed or root.startswith(f"{allowed}/") for allowed in self._directories):
            self._refuse(path, "it is outside the directories that this host offers for storage")
        for other in self._repository.connections():
            if root == other.root:
                return other
            if root.startswith(f"{other.root}/") or other.root.startswith(f"{root}/"):
                self._refuse(path, f"storage at {other.remote} overlaps it")
        try:
            if (await self._files.status("/", root.lstrip("/"))).kind is not FileKind.DIRECTORY:
                self._refuse(path, "it is no directory")
        except FileMissing:
            pass
        return Connection(type=StorageDomainType.LOCALFS, remote=root, root=root)

    def _refuse(self, path: str, reason: str) -> None:
        raise StoragePathRefused(directory=path, reason=reason, allowed=", ".join(self._directories))

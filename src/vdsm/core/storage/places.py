# SPDX-License-Identifier: Apache-2.0
"""Where domains may lie: local directories, and what is mounted from servers and devices."""

from __future__ import annotations

import contextlib
import os.path
import re
from collections.abc import Sequence

from msgspec.structs import replace

from vdsm.contract.errors_domains import StoragePathRefused, StorageTypeError
from vdsm.contract.errors_storage import FileMissing, MountRefused
from vdsm.contract.storage_pool import ConnectionRef
from vdsm.contract.storage_words import StorageDomainType
from vdsm.core.ports.files import FileKind, Files
from vdsm.core.ports.mounts import MountWish

from .format import layout
from .records import Connection
from .repository import Repository

_NFS_OPTIONS = "soft,nosharecache"
_NFS_VERSION = "3"
_ANY_VERSION = "auto"  # mount finds out
_NFS_VERSIONS = re.compile(r"[34]|4\.[0-2]")
_NFS_ADDRESS = re.compile(r"[^/:\[\]]+:/.*|\[[^\]/]+\]:/.*")
_ENTRY_MAX = 255  # bytes of a file's name


class Places:
    """`directories` are those below which local storage may be; `directory` is the repository."""

    def __init__(self, files: Files, repository: Repository, directories: Sequence[str], directory: str) -> None:
        self._files = files
        self._repository = repository
        self._directories = [os.path.realpath(d) for d in directories]
        self._directory = os.path.realpath(directory)  # as the kernel names what is mounted below it

    async def of(self, kind: StorageDomainType, ref: ConnectionRef) -> Connection:
        """What a manager's words stand for; the same connection if it is one already.

        Raises StorageTypeError, StoragePathRefused, MountRefused, FileMissing.
        """
        if kind is StorageDomainType.LOCALFS:
            connection = await self.find(ref.connection)
            if connection.root not in {other.root for other in self._repository.connections()}:
                await self._files.status(connection.root)
            return connection
        for other in self._repository.connections():
            if (other.type, other.remote) == (kind, _source(ref.connection)):
                return other
        wish = wish_of(kind, ref)
        entry = layout.mount_name(wish.source)
        for other in self._repository.connections():
            if layout.mount_name(other.remote) == entry:
                raise MountRefused(what=wish.source, reason=f"{other.type} {other.remote} has its place")
        wish = replace(wish, target=f"{self._directory}/mnt/{entry}")
        return Connection(type=kind, remote=wish.source, root=wish.target, mount=wish)

    async def find(self, path: str) -> Connection:
        """Where a local path, which may not be there yet, really is; the same connection if it is one already.

        Raises StoragePathRefused and what the files do: it may hang.
        """
        for other in self._repository.connections():
            if path == other.remote and other.mount is None:
                return other
        if not path.startswith("/"):
            self._refuse(path, "it is no absolute path")
        root = await self._real(path)
        if not any(root == allowed or root.startswith(f"{allowed}/") for allowed in self._directories):
            self._refuse(path, "it is outside the directories that this host offers for storage")
        for other in self._repository.connections():
            if root == other.root:
                return other
            if root.startswith(f"{other.root}/") or other.root.startswith(f"{root}/"):
                self._refuse(path, f"storage at {other.remote} overlaps it")
            if layout.mount_name(root) == layout.mount_name(other.remote):
                self._refuse(path, f"storage at {other.remote} has its place in the repository")
        with contextlib.suppress(FileMissing):
            if (await self._files.status(root)).kind is not FileKind.DIRECTORY:
                self._refuse(path, "it is no directory")
        return Connection(type=StorageDomainType.LOCALFS, remote=root, root=root)

    async def _real(self, path: str) -> str:
        try:
            return await self._files.real_path(path)
        finally:
            await self._files.release(path)

    def _refuse(self, path: str, reason: str) -> None:
        raise StoragePathRefused(directory=path, reason=reason, allowed=", ".join(self._directories))


# ---- computing -------------------------------------------------------------------------------------------------------


def wish_of(kind: StorageDomainType, ref: ConnectionRef) -> MountWish:
    """What to mount, without the place for it. Raises StorageTypeError, MountRefused."""
    if kind not in (StorageDomainType.NFS, StorageDomainType.POSIXFS):
        raise StorageTypeError(type=kind)
    if ref.user or (ref.password is not None and ref.password.reveal()):
        raise MountRefused(what=ref.connection, reason="it needs a user or a password, and this host keeps none")
    source = _source(ref.connection)
    name = layout.mount_name(source)
    if name in (".", "..") or len(name.encode()) > _ENTRY_MAX:
        raise MountRefused(what=source, reason="that is no name of a file system")
    if kind is StorageDomainType.NFS:
        if not _NFS_ADDRESS.fullmatch(source):
            raise MountRefused(what=source, reason="an NFS address is server:/path")
        return MountWish(source=source, target="", type="nfs", options=_nfs_options(ref))
    if not ref.vfs_type:
        raise MountRefused(what=source, reason="its vfs_type is missing")
    return MountWish(source=source, target="", type=ref.vfs_type, options=ref.mnt_options)


def _source(remote: str) -> str:
    """One name for one place: without slashes at its end, as existing hosts have it."""
    return remote.rstrip("/") if not remote.endswith(":/") and remote.strip("/") else remote


def _nfs_options(ref: ConnectionRef) -> str:
    version = ref.protocol_version.lower().removeprefix("v") or _NFS_VERSION
    options = [_NFS_OPTIONS]
    if version != _ANY_VERSION and not _NFS_VERSIONS.fullmatch(version):
        raise MountRefused(what=ref.connection, reason=f"{ref.protocol_version[:20]!r} is no version of NFS")
    if version != _ANY_VERSION:
        options.append(f"vers={version}")
    for name, value in (("timeo", ref.timeout), ("retrans", ref.retrans)):
        if value is not None and value < 0:
            raise MountRefused(what=ref.connection, reason=f"{name} is {value}")
        if value:
            options.append(f"{name}={value}")
    return ",".join([*options, *filter(None, [ref.mnt_options])])

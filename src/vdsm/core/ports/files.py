# SPDX-License-Identifier: Apache-2.0
"""Files below a directory, on storage that may hang.

Every method names a `root`, an absolute directory, and a relative path below it that no symbolic link and no `..` can
lead out of (PathEscapes). What is written is on the disk, with its directory, when the method returns. What is made
belongs to whom its directory belongs. All calls about one root run in a process of its own: when the storage hangs,
they raise DeadlineExceeded and no other root notices.

Every method may raise PathEscapes, FileMissing, FileExists, NoSpaceLeftOnDomain, StorageReadOnly, StorageBroken and
DeadlineExceeded, TooBusy.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Protocol

import msgspec


class FileKind(enum.StrEnum):
    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"
    OTHER = "other"


class FileStatus(msgspec.Struct, frozen=True, kw_only=True):
    kind: FileKind
    size: int  # bytes a reader finds
    allocated: int  # bytes it takes
    modified: int  # seconds since 1970
    links: int
    mode: int
    inode: int


class Space(msgspec.Struct, frozen=True, kw_only=True):
    """Of a file system, in bytes."""

    total: int
    available: int  # to the daemon
    read_only: bool = False


class Extent(msgspec.Struct, frozen=True, array_like=True):
    """A part of a file, in bytes."""

    start: int
    length: int


class Files(Protocol):
    async def read(self, root: str, path: str, *, most: int = 1 << 20) -> bytes:
        """The whole file. StorageBroken when it is longer than `most`."""

    async def read_at(self, root: str, path: str, offset: int, length: int) -> bytes:
        """As much as there is; past the page cache where the file system can, so that other hosts' writes are seen."""

    async def read_all(self, root: str, path: str, suffix: str) -> dict[str, bytes]:
        """Every file named `*suffix` in the directories right below `path`, by its path; the first 64 KiB of each.

        One call for a whole domain's metadata. Files that vanish meanwhile are left out, as is what is
        no plain file or lies behind a symbolic link.
        """

    async def create(self, root: str, path: str, data: bytes = b"", *, size: int = 0, mode: int = 0o660) -> None:
        """A new file of `data`, lengthened by a hole to `size`. Raises FileExists."""

    async def replace(self, root: str, path: str, data: bytes, *, mode: int = 0o660) -> None:
        """The file is this from now on: wholly the old or wholly the new one, always. By way of `path.new`."""

    async def write_at(self, root: str, path: str, offset: int, data: bytes) -> None:
        """Change a part of an existing file in place."""

    async def resize(self, root: str, path: str, size: int) -> None:
        """Cut it off, or lengthen it by a hole."""

    async def status(self, root: str, path: str = "") -> FileStatus: ...

    async def statuses(self, root: str, paths: Sequence[str]) -> Sequence[FileStatus | None]:
        """Of many files in one call; None for one that is missing."""

    async def extents(self, root: str, path: str, *, most: int = 10_000) -> Sequence[Extent]:
        """Where a file has data, in order; between is nothing but zeros. Beyond `most` of them all counts as data."""

    async def names(self, root: str, path: str = "") -> Sequence[str]:
        """What a directory holds, sorted."""

    async def make_directory(self, root: str, path: str, *, mode: int = 0o755) -> None:
        """With the directories above it, below `root`. One that exists is fine."""

    async def rename(self, root: str, old: str, new: str) -> None:
        """Raises FileExists rather than replace anything."""

    async def link(self, root: str, old: str, new: str) -> None:
        """A second name for one file. Raises FileExists."""

    async def make_symlink(self, root: str, path: str, target: str) -> None:
        """A link in a directory of ours (not in a domain), in the place of one that may be there."""

    async def read_symlink(self, root: str, path: str) -> str: ...

    async def remove(self, root: str, path: str) -> bool:
        """A file, a link, or a directory with all below it; no link is followed. False: there was none."""

    async def real_path(self, root: str) -> str:
        """Where a directory, which may not be there, really is: without symbolic links."""

    async def space(self, root: str) -> Space: ...

    async def probe(self, root: str, path: str) -> float:
        """Read the first block of a file past the page cache; the seconds it took. Has a worker to itself."""

    async def block_size(self, root: str) -> int:
        """The smallest direct write the file system takes, 512 or 4096 (1: it does no direct I/O).

        Writes and removes a file of its own.
        """

    async def release(self, root: str) -> None:
        """End the root's processes; the next call starts new ones."""

    async def close(self) -> None: ...

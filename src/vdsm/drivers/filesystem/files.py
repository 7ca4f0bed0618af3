# SPDX-License-Identifier: Apache-2.0
"""The `Files` port: each root has worker processes of its own, one for its files and one that only probes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from vdsm.contract.errors_storage import PathEscapes, StorageBroken
from vdsm.core.ports.files import Extent, FileStatus, Space
from vdsm.drivers.storage_problem import storage_problem
from vdsm.drivers.worker import Program, Worker

_PATIENCE_S = 30.0
_TREE_S = 600.0  # for what has to do with many files
_WORKING = Program(module="vdsm.drivers.workers.files", threads=8)
_PROBING = Program(module="vdsm.drivers.workers.files", threads=1)
_NAME_MAX = 255


class LinuxFiles:
    """The `Files` port."""

    def __init__(self) -> None:
        self._workers: dict[tuple[str, bool], Worker] = {}

    async def read(self, root: str, path: str, *, most: int = 1 << 20) -> bytes:
        return (await self._call(root, "read", path, most=most))[1]

    async def read_at(self, root: str, path: str, offset: int, length: int) -> bytes:
        return (await self._call(root, "read_at", path, offset=offset, length=length))[1]

    async def read_all(self, root: str, path: str, suffix: str) -> dict[str, bytes]:
        found, data = await self._call(root, "read_all", path, seconds=_TREE_S, suffix=suffix)
        files, at = {}, 0
        for name, length in msgspec.convert(found, list[tuple[str, int]]):
            files[name] = data[at : at + length]
            at += length
        return files

    async def create(self, root: str, path: str, data: bytes = b"", *, size: int = 0, mode: int = 0o660) -> None:
        await self._call(root, "create", path, data=data, size=size, mode=mode)

    async def replace(self, root: str, path: str, data: bytes, *, mode: int = 0o660) -> None:
        await self._call(root, "replace", path, data=data, mode=mode)

    async def write_at(self, root: str, path: str, offset: int, data: bytes) -> None:
        await self._call(root, "write_at", path, data=data, offset=offset)

    async def resize(self, root: str, path: str, size: int) -> None:
        await self._call(root, "resize", path, size=size)

    async def status(self, root: str, path: str = "") -> FileStatus:
        found, _ = await self._call(root, "status", path)
        return msgspec.convert(found, FileStatus)

    async def statuses(self, root: str, paths: Sequence[str]) -> Sequence[FileStatus | None]:
        for path in paths:
            _check(root, path)
        found, _ = await self._send(root, "statuses", "", seconds=_TREE_S, paths=list(paths))
        return msgspec.convert(found, list[FileStatus | None])

    async def extents(self, root: str, path: str, *, most: int = 10_000) -> Sequence[Extent]:
        found, _ = await self._call(root, "extents", path, seconds=_TREE_S, most=most)
        return msgspec.convert(found, list[Extent])

    async def names(self, root: str, path: str = "") -> Sequence[str]:
        found, _ = await self._call(root, "names", path)
        return msgspec.convert(found, list[str])

    async def make_directory(self, root: str, path: str, *, mode: int = 0o755) -> None:
        await self._call(root, "make_directory", path, mode=mode)

    async def rename(self, root: str, old: str, new: str) -> None:
        _check(root, old)
        await self._send(root, "rename", new, old=old, new=new)

    async def link(self, root: str, old: str, new: str) -> None:
        _check(root, old)
        await self._send(root, "link", new, old=old, new=new)

    async def make_symlink(self, root: str, path: str, target: str) -> None:
        await self._call(root, "make_symlink", path, target=target)

    async def read_symlink(self, root: str, path: str) -> str:
        return str((await self._call(root, "read_symlink", path))[0])

    async def remove(self, root: str, path: str) -> bool:
        return bool((await self._call(root, "remove", path, seconds=_TREE_S))[0])

    async def real_path(self, root: str) -> str:
        return str((await self._send(root, "real_path", ""))[0])

    async def space(self, root: str) -> Space:
        found, _ = await self._send(root, "space", "")
        return msgspec.convert(found, Space)

    async def probe(self, root: str, path: str) -> float:
        found, _ = await self._call(root, "probe", path)
        return msgspec.convert(found, float)

    async def block_size(self, root: str) -> int:
        found, _ = await self._send(root, "block_size", "")
        return msgspec.convert(found, int)

    async def release(self, root: str) -> None:
        for key in [(root, False), (root, True)]:
            if (worker := self._workers.pop(key, None)) is not None:
                await worker.close()

    async def close(self) -> None:
        for root in {root for root, _ in self._workers}:
            await self.release(root)

    async def _call(
        self, root: str, op: str, path: str, *, seconds: float = _PATIENCE_S, data: bytes = b"", **args: object
    ) -> tuple[Any, bytes]:
        return await self._send(root, op, path, seconds=seconds, data=data, path=path, **args)

    async def _send(
        self, root: str, op: str, about: str, *, seconds: float = _PATIENCE_S, data: bytes = b"", **args: object
    ) -> tuple[Any, bytes]:
        """Let the root's worker do it; `about` is the path that errors name. Raises what the port says."""
        _check(root, about)
        key = root, op == "probe"
        if key not in self._workers:
            self._workers[key] = Worker(
                root,
                _PROBING if key[1] else _WORKING,
                broken=lambda reason: StorageBroken(file=root, reason=reason),
            )
        try:
            return await self._workers[key].call(op, {"root": root, **args}, data, seconds)
        except OSError as error:
            raise storage_problem(error, f"{root}/{about}".rstrip("/"), root) from None


def _check(root: str, path: str) -> None:
    """Relative, without `.` and `..`, of names a file system takes."""
    names = path.split("/") if path else []
    if "\0" in root or not all(name not in ("", ".", "..") and _is_name(name) for name in names):
        raise PathEscapes(file=repr(path), root=root)


def _is_name(name: str) -> bool:
    try:
        return "\0" not in name and len(name.encode()) <= _NAME_MAX
    except UnicodeEncodeError:
        return False

# SPDX-License-Identifier: Apache-2.0
"""The `Files` port over the tree in memory."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

from vdsm.contract.errors_storage import (
    FileExists,
    FileMissing,
    PathEscapes,
    StorageBroken,
)
from vdsm.core.ports.files import Extent, FileKind, FileStatus, Space

from .faults import Faults
from .tree import Node, Tree, allocated

_PIECE_MAX = 64 * 1024


class SimulatedFiles:
    """Faults by the methods' names; `clock` gives the seconds of new files."""

    def __init__(self, tree: Tree | None = None, faults: Faults | None = None, *, clock: int = 1_700_000_000) -> None:
        self.tree = tree or Tree()
        self._faults = faults or Faults()
        self._clock = clock

    async def read(self, root: str, path: str, *, most: int = 1 << 20) -> bytes:
        node = self.tree.file(await self._at("read", root, path))
        if node.size > most:
            raise StorageBroken(file=f"{root}/{path}", reason="File too large")
        return _whole(node)

    async def read_at(self, root: str, path: str, offset: int, length: int) -> bytes:
        return _whole(self.tree.file(await self._at("read_at", root, path)))[offset : offset + length]

    async def read_all(self, root: str, path: str, suffix: str) -> dict[str, bytes]:
        top = await self._at("read_all", root, path)
        self.tree.names(top)
        found = {}
        for name in sorted(self.tree.below(top)):
            inner = name[len(top) + 1 :]
            if inner.count("/") == 1 and inner.endswith(suffix) and self.tree.nodes[name].kind is FileKind.FILE:
                found[f"{path}/{inner}".lstrip("/")] = _whole(self.tree.nodes[name])[:_PIECE_MAX]
        return found

    async def create(self, root: str, path: str, data: bytes = b"", *, size: int = 0, mode: int = 0o660) -> None:
        at = await self._at("create", root, path)
        self.tree.take(at, len(data))
        node = Node(kind=FileKind.FILE, mode=mode, data=bytearray(data), modified=self._clock)
        node.size = max(size, len(data))
        self.tree.add(at, node)

    async def replace(self, root: str, path: str, data: bytes, *, mode: int = 0o660) -> None:
        at = await self._at("replace", root, path)
        self.tree.take(at, len(data))
        if (old := self.tree.nodes.pop(at, None)) is not None and old.kind is FileKind.DIRECTORY:
            self.tree.nodes[at] = old
            raise StorageBroken(file=at, reason="Is a directory")
        node = Node(kind=FileKind.FILE, mode=mode, data=bytearray(data), size=len(data), modified=self._clock)
        self.tree.add(at, node)

    async def write_at(self, root: str, path: str, offset: int, data: bytes) -> None:
        at = await self._at("write_at", root, path)
        node = self.tree.file(at)
        self.tree.take(at, len(data))
        node.data.extend(bytes(max(offset + len(data) - len(node.data), 0)))
        node.data[offset : offset + len(data)] = data
        node.size = max(node.size, len(node.data))

    async def resize(self, root: str, path: str, size: int) -> None:
        node = self.tree.file(await self._at("resize", root, path))
        del node.data[size:]
        node.size = size

    async def status(self, root: str, path: str = "") -> FileStatus:
        node = self.tree.get(await self._at("status", root, path))
        return FileStatus(
            kind=node.kind,
            size=node.size,
            allocated=allocated(node),
            modified=node.modified,
            links=self.tree.links(node),
            mode=node.mode,
            inode=node.inode,
        )

    async def statuses(self, root: str, paths: Sequence[str]) -> Sequence[FileStatus | None]:
        found: list[FileStatus | None] = []
        for path in paths:
            try:
                found.append(await self.status(root, path))
            except FileMissing:
                found.append(None)
        return found

    async def extents(self, root: str, path: str, *, most: int = 10_000) -> Sequence[Extent]:
        node = self.tree.file(await self._at("extents", root, path))
        return [Extent(0, len(node.data))] if node.data else []

    async def names(self, root: str, path: str = "") -> Sequence[str]:
        return self.tree.names(await self._at("names", root, path))

    async def make_directory(self, root: str, path: str, *, mode: int = 0o755) -> None:
        at = await self._at("make_directory", root, path)
        if not self.tree.holds_directories(at):
            raise StorageBroken(file=at, reason="Not a directory")
        self.tree.directory(at, mode)

    async def rename(self, root: str, old: str, new: str) -> None:
        source, target = await self._at("rename", root, old), await self._at("rename", root, new)
        self.tree.get(source)
        if target in self.tree.nodes:
            raise FileExists(file=target)
        for name in [source, *self.tree.below(source)]:
            self.tree.nodes[target + name[len(source) :]] = self.tree.nodes.pop(name)

    async def link(self, root: str, old: str, new: str) -> None:
        node = self.tree.file(await self._at("link", root, old))
        self.tree.add(await self._at("link", root, new), node)

    async def make_symlink(self, root: str, path: str, target: str) -> None:
        at = await self._at("make_symlink", root, path)
        if (old := self.tree.nodes.get(at)) is not None and old.kind is FileKind.DIRECTORY:
            raise StorageBroken(file=at, reason="Is a directory")
        self.tree.nodes.pop(at, None)
        self.tree.add(at, Node(kind=FileKind.LINK, mode=0o777, target=target, size=len(target)))

    async def read_symlink(self, root: str, path: str) -> str:
        at = await self._at("read_symlink", root, path)
        if (node := self.tree.get(at)).kind is not FileKind.LINK:
            raise StorageBroken(file=at, reason="Invalid argument")
        return node.target

    async def remove(self, root: str, path: str) -> bool:
        at = await self._at("remove", root, path)
        for name in self.tree.below(at):
            del self.tree.nodes[name]
        return self.tree.nodes.pop(at, None) is not None

    async def real_path(self, root: str) -> str:
        await self._faults.stall("real_path", root)
        node = self.tree.nodes.get(posixpath.normpath(root))
        return node.target if node is not None and node.kind is FileKind.LINK else posixpath.normpath(root)

    async def space(self, root: str) -> Space:
        self.tree.get(await self._at("space", root, ""))
        available = max(self.tree.room - self.tree.used(), 0)
        return Space(total=self.tree.room, available=available, read_only=root in self.tree.read_only)

    async def probe(self, root: str, path: str) -> float:
        self.tree.file(await self._at("probe", root, path))
        return 0.0005

    async def block_size(self, root: str) -> int:
        self.tree.get(await self._at("block_size", root, ""))
        return self.tree.block_size

    async def release(self, root: str) -> None:
        pass

    async def close(self) -> None:
        pass

    async def _at(self, method: str, root: str, path: str) -> str:
        """The node's path, after whatever is broken; no link may be on the way to it."""
        names = path.split("/") if path else []
        if any(n in ("", ".", "..") or "\0" in n or len(n.encode(errors="replace")) > 255 for n in names):
            raise PathEscapes(file=repr(path), root=root)
        at = posixpath.join(root, path).rstrip("/")
        await self._faults.stall(method, root)
        await self._faults.suffer(method, lambda reason: StorageBroken(file=at, reason=reason))
        if root not in self.tree.nodes:
            raise FileMissing(file=root)
        above = root
        for number, name in enumerate(names):
            above = f"{above}/{name}"
            node = self.tree.nodes.get(above)
            last = number == len(names) - 1
            links = ("status", "read_symlink", "make_symlink", "remove", "rename", "replace")
            if node is not None and node.kind is FileKind.LINK and not (last and method in links):
                raise PathEscapes(file=at, root=root)
        return at


def _whole(node: Node) -> bytes:
    return bytes(node.data) + bytes(node.size - len(node.data))

# SPDX-License-Identifier: Apache-2.0
"""A file system in memory, shared by the simulated drivers of files and of images."""

from __future__ import annotations

import itertools
import posixpath
from dataclasses import dataclass, field

from vdsm.contract.errors_storage import FileExists, FileMissing, NoSpaceLeftOnDomain, StorageBroken
from vdsm.contract.vm_params import DiskFormat
from vdsm.core.ports.files import FileKind

_inodes = itertools.count(2)
CLUSTER = 65536


@dataclass(slots=True)
class Record:
    """A bitmap: which clusters were written."""

    granularity: int
    enabled: bool = True
    dirty: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Body:
    """What makes a file an image: its guest's data as one byte for each cluster that was written."""

    format: DiskFormat
    virtual_size: int
    compat: str = ""
    backing_file: str = ""
    backing_format: DiskFormat | None = None
    clusters: dict[int, int] = field(default_factory=dict)
    bitmaps: dict[str, Record] = field(default_factory=dict)
    preallocated: bool = False


@dataclass(slots=True)
class Node:
    kind: FileKind
    mode: int
    data: bytearray = field(default_factory=bytearray)
    size: int = 0
    target: str = ""  # of a link
    modified: int = 0
    body: Body | None = None
    inode: int = field(default_factory=lambda: next(_inodes))


class Tree:
    """Nodes by absolute path. `room` is how many bytes of file contents it takes."""

    def __init__(self, *, room: int = 1 << 40) -> None:
        self.room = room
        self.block_size = 512
        self.read_only: set[str] = set()  # roots of file systems
        self.nodes: dict[str, Node] = {"/": Node(kind=FileKind.DIRECTORY, mode=0o755)}

    def directory(self, path: str, mode: int = 0o755) -> None:
        """Make it with those above it."""
        above = posixpath.dirname(path)
        if above != path and above not in self.nodes:
            self.directory(above)
        self.nodes.setdefault(path, Node(kind=FileKind.DIRECTORY, mode=mode))

    def holds_directories(self, path: str) -> bool:
        """Whether nothing on the way there is anything else."""
        while path != "/":
            if path in self.nodes and self.nodes[path].kind is not FileKind.DIRECTORY:
                return False
            path = posixpath.dirname(path)
        return True

    def get(self, path: str) -> Node:
        try:
            return self.nodes[path]
        except KeyError:
            raise FileMissing(file=path) from None

    def file(self, path: str) -> Node:
        node = self.get(path)
        if node.kind is not FileKind.FILE:
            raise StorageBroken(file=path, reason="it is not a plain file")
        return node

    def add(self, path: str, node: Node) -> Node:
        """Give a node its first or another name."""
        if path in self.nodes:
            raise FileExists(file=path)
        if self.get(posixpath.dirname(path)).kind is not FileKind.DIRECTORY:
            raise StorageBroken(file=path, reason="Not a directory")
        self.nodes[path] = node
        return node

    def below(self, path: str) -> list[str]:
        inside = path.rstrip("/") + "/"
        return [name for name in self.nodes if name.startswith(inside)]

    def names(self, path: str) -> list[str]:
        if self.get(path).kind is not FileKind.DIRECTORY:
            raise StorageBroken(file=path, reason="Not a directory")
        return sorted(posixpath.basename(name) for name in self.below(path) if posixpath.dirname(name) == path)

    def links(self, node: Node) -> int:
        return sum(other is node for other in self.nodes.values())

    def used(self) -> int:
        unique = {node.inode: node for node in self.nodes.values()}
        return sum(allocated(node) for node in unique.values())

    def take(self, path: str, size: int) -> None:
        """Raises NoSpaceLeftOnDomain when `size` more bytes do not fit."""
        if self.used() + size > self.room:
            raise NoSpaceLeftOnDomain(file=path)


def allocated(node: Node) -> int:
    if node.body is None:
        return len(node.data)
    return node.body.virtual_size if node.body.preallocated else len(node.body.clusters) * CLUSTER

# SPDX-License-Identifier: Apache-2.0
"""The `DiskImages` port in memory."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from vdsm.contract.errors_storage import (
    BitmapDoesNotExist,
    DestinationVolumeTooSmall,
    ImageOperationFailed,
    ImageVerificationError,
)
from vdsm.contract.vm_params import DiskFormat
from vdsm.core.ports.disks import Bitmap, CheckResult, Image, ImageInfo, Measure, Progress, Reference
from vdsm.core.ports.files import FileKind

from .faults import Faults
from .tree import CLUSTER, Body, Node, Record, Tree, allocated

_OVERHEAD = 5 * CLUSTER  # of an empty qcow2 image: header and tables
_LARGEST = 1 << 62


class SimulatedDisks:
    """Images are files of `tree`; what a guest writes into one is written with `write`."""

    def __init__(self, tree: Tree | None = None, faults: Faults | None = None) -> None:
        self.tree = tree or Tree()
        self._faults = faults or Faults()

    def write(self, path: str, offset: int, length: int, pattern: int) -> None:
        """What a guest would do: whole clusters of one byte."""
        node = self.tree.file(path)
        body = _body(node)
        self.tree.take(path, length)
        for cluster in range(offset // CLUSTER, (offset + length) // CLUSTER):
            body.clusters[cluster] = pattern
            for record in body.bitmaps.values():
                if record.enabled:
                    record.dirty.add(cluster)

    def read(self, image: Image, offset: int) -> int:
        """The byte a guest finds."""
        return self._seen(image).get(offset // CLUSTER, 0)

    async def create(
        self, image: Image, size: int, *, preallocate: bool = False, compat: str = "1.1", backing_name: str = ""
    ) -> None:
        await self._meet("create", image)
        qcow2 = image.format is DiskFormat.QCOW2
        body = Body(format=image.format, virtual_size=size, compat=compat if qcow2 else "")
        if image.backing is not None:
            self._confirm(image.backing)
            body.backing_file = backing_name or _name_of(image.backing, image)
            body.backing_format = image.backing.format
        body.preallocated = preallocate and not qcow2
        if not posixpath.isabs(image.path) or not 0 <= size < _LARGEST:
            raise ImageOperationFailed(what="create", file=image.path, reason="The image size is too large")
        node = Node(kind=FileKind.FILE, mode=0o660, size=_OVERHEAD if qcow2 else size, body=body)
        self.tree.take(image.path, allocated(node))
        self.tree.add(image.path, node)

    async def info(self, image: Image) -> ImageInfo:
        await self._meet("info", image)
        body = self._confirm(image)
        qcow2 = image.format is DiskFormat.QCOW2
        return ImageInfo(
            format=image.format,
            virtual_size=body.virtual_size,
            actual_size=allocated(self.tree.file(image.path)) + (_OVERHEAD if qcow2 else 0),
            cluster_size=CLUSTER if qcow2 else 0,
            compat=body.compat,
            backing_file=body.backing_file,
            backing_format=body.backing_format or "",
            bitmaps=[
                Bitmap(name=name, granularity=record.granularity, enabled=record.enabled)
                for name, record in body.bitmaps.items()
            ],
        )

    async def reference(self, image: Image) -> Reference | None:
        await self._meet("reference", image)
        body = _body(self.tree.file(image.path))
        if body.format is not image.format:
            raise ImageVerificationError(file=image.path, reason=f"it is not of the format {image.format}")
        if not body.backing_file:
            return None
        if body.backing_format is None:
            raise ImageVerificationError(file=image.path, reason="it does not say the format of its backing file")
        path = posixpath.join(posixpath.dirname(image.path), body.backing_file)
        return Reference(path=posixpath.normpath(path), format=body.backing_format)

    async def verify(self, image: Image, *, largest: int) -> ImageInfo:
        info = await self.info(image)
        if info.virtual_size > largest:
            reason = f"its virtual size of {info.virtual_size} bytes is more than the {largest} allowed"
            raise ImageVerificationError(file=image.path, reason=reason)
        return info

    async def measure(self, image: Image, target: DiskFormat, *, layers: int = 0) -> Measure:
        await self._meet("measure", image)
        body = self._confirm(image)
        wanted = list(_layers(image))[: layers or None]
        data = len({cluster for layer in wanted for cluster in self._confirm(layer).clusters}) * CLUSTER
        return _measure(body.virtual_size, data, target)

    async def measure_new(self, size: int, target: DiskFormat) -> Measure:
        return _measure(size, 0, target)

    async def check(self, image: Image) -> CheckResult:
        await self._meet("check", image)
        body = self._confirm(image)
        if body.format is DiskFormat.RAW:
            raise ImageOperationFailed(
                what="check", file=image.path, reason="This image format does not support checks"
            )
        return CheckResult(end=_OVERHEAD + len(body.clusters) * CLUSTER)

    async def convert(
        self,
        source: Image,
        target: Image,
        *,
        zeroed: bool = False,
        bitmaps: bool = False,
        progress: Progress | None = None,
    ) -> None:
        await self._meet("convert", source)
        body, into = self._confirm(source), self._confirm(target)
        if body is into:
            raise ImageOperationFailed(what="copy", file=source.path, reason="it would be copied into itself")
        if into.virtual_size < body.virtual_size:
            raise DestinationVolumeTooSmall(file=target.path, size=into.virtual_size, needed=body.virtual_size)
        seen = self._seen(source) if target.backing is None else body.clusters
        self.tree.take(target.path, len(seen) * CLUSTER)
        into.clusters = dict(seen)
        if bitmaps:
            into.bitmaps |= body.bitmaps
        _tell(progress)

    async def commit(self, top: Image, base: Image, *, progress: Progress | None = None) -> None:
        await self._meet("commit", top)
        self._confirm(top)
        into = self._confirm(base)
        layers = list(_layers(top))
        paths = [layer.path for layer in layers]
        if base.path not in paths[1:]:
            raise ImageOperationFailed(what="commit", file=top.path, reason=f"{base.path} is not below it")
        for layer in reversed(layers[: paths.index(base.path)]):
            body = self._confirm(layer)
            self.tree.take(base.path, len(body.clusters.keys() - into.clusters.keys()) * CLUSTER)
            into.virtual_size = max(into.virtual_size, body.virtual_size)
            into.clusters |= body.clusters
        _tell(progress)

    async def rebase(
        self,
        image: Image,
        backing: Image | None,
        *,
        backing_name: str = "",
        unsafe: bool = False,
        progress: Progress | None = None,
    ) -> None:
        await self._meet("rebase", image)
        body = self._confirm(image)
        if body.format is DiskFormat.RAW:
            raise ImageOperationFailed(what="rebase", file=image.path, reason="raw images have no backing file")
        before = self._seen(image)
        under: dict[int, int] = {}
        if backing is not None:
            self._confirm(backing)
            under = self._seen(backing)
        if not unsafe:
            after = under | body.clusters
            body.clusters |= {
                n: before.get(n, 0) for n in before.keys() | after.keys() if before.get(n) != after.get(n)
            }
        body.backing_file = "" if backing is None else backing_name or _name_of(backing, image)
        body.backing_format = None if backing is None else backing.format
        _tell(progress)

    async def resize(self, image: Image, size: int, *, preallocate: bool = False, shrink: bool = False) -> None:
        await self._meet("resize", image)
        body = self._confirm(image)
        if size < body.virtual_size and not shrink:
            raise ImageOperationFailed(what="resize", file=image.path, reason="it would shrink")
        if preallocate and body.format is DiskFormat.RAW:
            self.tree.take(image.path, max(size - body.virtual_size, 0))
        body.virtual_size = size
        body.clusters = {n: pattern for n, pattern in body.clusters.items() if n * CLUSTER < size}
        if body.format is DiskFormat.RAW:
            self.tree.file(image.path).size = size

    async def amend(self, image: Image, *, compat: str) -> None:
        await self._meet("amend", image)
        self._confirm(image).compat = compat

    async def sparsify(self, image: Image) -> None:
        """Here a file system uses every cluster that is not all zeros."""
        await self._meet("sparsify", image)
        body = self._confirm(image)
        body.clusters = {number: pattern for number, pattern in body.clusters.items() if pattern}

    async def add_bitmap(self, image: Image, name: str, *, granularity: int = 0, enabled: bool = True) -> None:
        await self._meet("bitmap", image)
        body = self._confirm(image)
        if name in body.bitmaps:
            raise ImageOperationFailed(what="change a bitmap of", file=image.path, reason="Bitmap already exists")
        body.bitmaps[name] = Record(granularity=granularity or CLUSTER, enabled=enabled)

    async def remove_bitmap(self, image: Image, name: str) -> None:
        await self._meet("bitmap", image)
        self._bitmap(image, name)
        del self._confirm(image).bitmaps[name]

    async def clear_bitmap(self, image: Image, name: str) -> None:
        await self._meet("bitmap", image)
        self._bitmap(image, name).dirty.clear()

    async def merge_bitmap(self, source: Image, source_name: str, target: Image, target_name: str) -> None:
        await self._meet("bitmap", target)
        self._bitmap(target, target_name).dirty |= self._bitmap(source, source_name).dirty

    def close(self) -> None:
        pass

    def _bitmap(self, image: Image, name: str) -> Record:
        bitmaps = self._confirm(image).bitmaps
        if name not in bitmaps:
            raise BitmapDoesNotExist(file=image.path, bitmap=name)
        return bitmaps[name]

    async def _meet(self, method: str, image: Image) -> None:
        await self._faults.suffer(
            method, lambda reason: ImageOperationFailed(what=method, file=image.path, reason=reason)
        )

    def _seen(self, image: Image) -> dict[int, int]:
        """What a guest finds, by cluster."""
        seen: dict[int, int] = {}
        for layer in reversed(list(_layers(image))):
            seen |= self._confirm(layer).clusters
        return seen

    def _confirm(self, image: Image) -> Body:
        """The chain must be the one that was stated. Raises ImageVerificationError."""
        body = _body(self.tree.file(image.path))
        if body.format is not image.format:
            raise ImageVerificationError(file=image.path, reason=f"it is not of the format {image.format}")
        stated = image.backing.path if image.backing else ""
        found = posixpath.join(posixpath.dirname(image.path), body.backing_file) if body.backing_file else ""
        if stated != found or (image.backing and image.backing.format is not body.backing_format):
            raise ImageVerificationError(file=image.path, reason=f"its backing file is {found or 'none'}")
        if image.backing:
            self._confirm(image.backing)
        return body


def _body(node: Node) -> Body:
    """Any file can be read as a raw image."""
    if node.body is None:
        if not node.size:
            node.size = len(node.data)
        node.body = Body(format=DiskFormat.RAW, virtual_size=node.size)
    return node.body


def _layers(image: Image | None) -> Iterator[Image]:
    while image is not None:
        yield image
        image = image.backing


def _name_of(backing: Image, image: Image) -> str:
    directory, name = posixpath.split(backing.path)
    return name if directory == posixpath.dirname(image.path) else backing.path


def _measure(size: int, data: int, target: DiskFormat) -> Measure:
    if target is DiskFormat.RAW:
        return Measure(required=size, fully_allocated=size)  # holes count
    return Measure(required=_OVERHEAD + data, fully_allocated=_OVERHEAD + size)


def _tell(progress: Progress | None) -> None:
    if progress is not None:
        progress(1.0)

# SPDX-License-Identifier: Apache-2.0
"""Disk images that exist because someone said so, or all of them."""

from __future__ import annotations

import posixpath

from vdsm.contract.errors import FileUnusable
from vdsm.contract.vm_params import DiskFormat
from vdsm.core.ports.images import ImageFacts

from .faults import Faults
from .tree import Tree


class SimulatedImages:
    """The `Images` port in memory. A path that was not added exists too, as a plain file of 1 GiB in any format.

    Images in `tree` refer to what their bodies say.
    """

    def __init__(self, faults: Faults | None = None, *, tree: Tree | None = None) -> None:
        self._faults = faults or Faults()
        self._tree = tree
        self._known: dict[str, tuple[ImageFacts, DiskFormat | None]] = {}
        self._missing: set[str] = set()

    def add(self, facts: ImageFacts, image_format: DiskFormat | None = None) -> None:
        """Let `facts.path` be an image of that format (None: any)."""
        self._known[facts.path] = facts, image_format

    def remove(self, path: str) -> None:
        self._missing.add(path)

    async def inspect(self, path: str, image_format: DiskFormat | None) -> ImageFacts:
        await self._faults.meet("inspect")
        if path in self._missing:
            raise FileUnusable(file=path, reason="No such file or directory")
        default = ImageFacts(path=path, size=1 << 30, virtual_size=1 << 30, references=self._references(path))
        facts, real = self._known.get(path, (default, None))
        if real is not None and image_format is not None and real is not image_format:
            raise FileUnusable(file=path, reason=f"it is not of the format {image_format}")
        return facts

    def _references(self, path: str) -> list[str]:
        found: list[str] = []
        while self._tree is not None and (node := self._tree.nodes.get(path)) is not None:
            if node.body is None or not node.body.backing_file:
                break
            path = posixpath.join(posixpath.dirname(path), node.body.backing_file)
            if path in found:
                break
            found.append(path)
        return found

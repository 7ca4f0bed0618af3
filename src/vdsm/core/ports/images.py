# SPDX-License-Identifier: Apache-2.0
"""Disk images as files. Every image is hostile until inspected: the format is stated by the caller, never probed."""

from __future__ import annotations

from typing import Protocol

import msgspec

from vdsm.contract.vm_params import DiskFormat


class ImageFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a file turns out to be."""

    path: str  # with every symbolic link resolved
    size: int  # bytes in the file
    virtual_size: int  # bytes the guest sees; equals `size` for raw
    references: list[str]  # resolved paths of backing and data files, the nearest first


class Images(Protocol):
    async def inspect(self, path: str, image_format: DiskFormat | None) -> ImageFacts:
        """Look at a file as `image_format`; None: any plain file (a kernel, a disc image).

        Raises FileUnusable: missing, not a plain file, unreadable, not of that format, absurd.
        """

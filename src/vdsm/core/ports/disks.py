# SPDX-License-Identifier: Apache-2.0
"""Disk images made and changed: what qemu-img does.

The format of every file is stated by the caller, never probed, and before anything opens a chain its headers must name
exactly the files the caller states: a header that leads elsewhere is refused (ImageVerificationError). Every method
may also raise DeadlineExceeded, TooBusy, FileMissing, NoSpaceLeftOnDomain and ImageOperationFailed. A call that is
cancelled has ended its program before it returns; what it was writing is then unfinished.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from vdsm.contract.vm_params import DiskFormat

Progress = Callable[[float], None]
"""Gets the part that is done, 0 to 1, on the event loop."""


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """A file to be opened as an image. `lane` names what may hang together (a domain): each has its own few workers."""

    path: str  # absolute
    format: DiskFormat
    backing: Image | None = None
    lane: str = ""


class Bitmap(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    granularity: int
    enabled: bool  # records writes
    in_use: bool = False  # was not closed: what it says is not complete


class ImageInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What the image says of itself, sizes in bytes."""

    format: DiskFormat
    virtual_size: int
    actual_size: int  # that its file takes from the file system
    cluster_size: int = 0  # 0: raw
    compat: str = ""  # "0.10", "1.1"; empty: raw
    backing_file: str = ""  # as written in the header
    backing_format: str = ""
    bitmaps: list[Bitmap] = []


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """Another file that a header names."""

    path: str  # absolute, without `..`; not looked at
    format: DiskFormat


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes a file would need."""

    required: int
    fully_allocated: int
    bitmaps: int = 0  # more, when bitmaps are copied too


class CheckResult(msgspec.Struct, frozen=True, kw_only=True):
    corruptions: int = 0
    leaks: int = 0  # bytes or clusters that are lost, harmless
    errors: int = 0  # places that could not be checked
    end: int = 0  # offset where the image ends in its file

    @property
    def sound(self) -> bool:
        return not self.corruptions and not self.errors


class DiskImages(Protocol):
    async def create(
        self, image: Image, size: int, *, preallocate: bool = False, compat: str = "1.1", backing_name: str = ""
    ) -> None:
        """Make a new file of mode 0660; `backing_name` is how the header names `image.backing`, else its path.

        Raises FileExists. A file that could not be finished is removed.
        """

    async def info(self, image: Image) -> ImageInfo: ...

    async def reference(self, image: Image) -> Reference | None:
        """The backing file that the file's own header names, whatever `image.backing` says. Raises FileMissing.

        Nothing behind it is opened, and a program that writes to the image is not in the way.
        """

    async def verify(self, image: Image, *, largest: int) -> ImageInfo:
        """Look at a file from outside. Raises ImageVerificationError.

        Refused: another format, a backing file other than `image.backing`, a data file, encryption, features that are
        not known, damage, a virtual size above `largest`.
        """

    async def measure(self, image: Image, target: DiskFormat, *, layers: int = 0) -> Measure:
        """What a copy in another format would need, with all that its backing files hold; or only the first `layers`.

        The image itself is the first layer.
        """

    async def measure_new(self, size: int, target: DiskFormat) -> Measure: ...

    async def check(self, image: Image) -> CheckResult:
        """Read all tables of a qcow2 image."""

    async def convert(
        self,
        source: Image,
        target: Image,
        *,
        zeroed: bool = False,
        bitmaps: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """Copy what the guest sees into an existing image.

        With `target.backing` only the source's own layer: what is below it must read the same on both sides.
        `zeroed`: the target is known to read as zeros, as a new one does. `bitmaps`: with those that are whole; the
        target must have none of their names. Raises DestinationVolumeTooSmall.
        """

    async def commit(self, top: Image, base: Image, *, progress: Progress | None = None) -> None:
        """Write what `top` and the images between hold into `base`, one of its backing files; `top` is left alone."""

    async def rebase(
        self,
        image: Image,
        backing: Image | None,
        *,
        backing_name: str = "",
        unsafe: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """Give it another backing file. Safe: with the same content as before. `unsafe`: only the header is written."""

    async def resize(self, image: Image, size: int, *, preallocate: bool = False, shrink: bool = False) -> None:
        """Grow; with `preallocate` the new part of a raw image takes its room at once.

        Raises ImageOperationFailed for a size below the present one, unless `shrink`: then what is beyond it is lost.
        """

    async def amend(self, image: Image, *, compat: str) -> None: ...

    async def sparsify(self, image: Image) -> None:
        """Give back what the file systems in it do not use; the image has no backing file. Raises ToolMissing."""

    async def add_bitmap(self, image: Image, name: str, *, granularity: int = 0, enabled: bool = True) -> None:
        """`granularity` 0: QEMU's default."""

    async def remove_bitmap(self, image: Image, name: str) -> None:
        """Raises BitmapDoesNotExist."""

    async def clear_bitmap(self, image: Image, name: str) -> None:
        """Raises BitmapDoesNotExist."""

    async def merge_bitmap(self, source: Image, source_name: str, target: Image, target_name: str) -> None:
        """Add what one records to another. Raises BitmapDoesNotExist."""

    def close(self) -> None: ...

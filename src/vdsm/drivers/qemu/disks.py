# SPDX-License-Identifier: Apache-2.0
"""The `DiskImages` port by qemu-img. Nothing is opened whose headers were not read here first."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import msgspec

from vdsm.contract.errors import InvalidParams
from vdsm.contract.errors_storage import (
    BitmapDoesNotExist,
    DestinationVolumeTooSmall,
    FileExists,
    FileMissing,
    ImageOperationFailed,
    ImageVerificationError,
)
from vdsm.contract.vm_params import DiskFormat
from vdsm.core.ports.disks import Bitmap, CheckResult, Image, ImageInfo, Measure, Progress, Reference

from .chain import Look
from .stated import layers as layers_of
from .stated import read_reference, read_stated
from .tool import SPARSIFY, QemuImg, decoded, takes_direct

_MODE = 0o660
_COMPATS = ("0.10", "1.1")
_NAME_MAX = 1023  # of a bitmap
_UNSOUND = 2  # qemu-img check: errors were found
_LEAKS = 3


class _Info(msgspec.Struct, frozen=True, rename="kebab"):
    """The part of `qemu-img info` that is used."""

    format: str
    virtual_size: int
    actual_size: int = 0
    cluster_size: int = 0
    backing_filename: str = ""
    backing_filename_format: str = ""
    format_specific: dict[str, Any] = {}


class _InfoBitmap(msgspec.Struct, frozen=True):
    name: str
    granularity: int
    flags: list[str] = []


class _Check(msgspec.Struct, frozen=True, rename="kebab"):
    corruptions: int = 0
    leaks: int = 0
    check_errors: int = 0
    image_end_offset: int = 0


class _Measure(msgspec.Struct, frozen=True, rename="kebab"):
    required: int
    fully_allocated: int
    bitmaps: int = 0


class QemuDisks:
    """The `DiskImages` port."""

    def __init__(self) -> None:
        self._tool = QemuImg()

    async def create(
        self, image: Image, size: int, *, preallocate: bool = False, compat: str = "1.1", backing_name: str = ""
    ) -> None:
        words = ["create", "-q", "-f", image.format]
        if image.format is DiskFormat.QCOW2:
            words += ["-o", f"compat={_known(compat)}"]
            if preallocate:
                words += ["-o", "preallocation=metadata"]
        elif preallocate:
            words += ["-o", "preallocation=falloc"]
        if image.backing is not None:
            await self._read(image.backing)
            words += ["-u", "-b", backing_name or _name_of(image.backing, image), "-F", image.backing.format]
        await self._tool.look(image.lane, image.path, lambda: _reserve(image.path))
        try:
            await self._tool.work(
                image.lane, "create", image.path, [*words, "--", image.path, str(size)], size=size if preallocate else 0
            )
            await self._tool.look(image.lane, image.path, lambda: _settle(image.path))
        except BaseException:  # cancelled too: an image that is not finished must not be found
            await self._tool.look(image.lane, image.path, lambda: _remove(image.path))
            raise

    async def info(self, image: Image) -> ImageInfo:
        await self._read(image)
        return await self._info(image)

    async def reference(self, image: Image) -> Reference | None:
        return await read_reference(self._tool, image)

    async def verify(self, image: Image, *, largest: int) -> ImageInfo:
        looks = await self._read(image)
        info = await self._info(image)
        header = looks[0].header
        if header is not None and header.virtual_size != info.virtual_size:
            raise ImageVerificationError(file=image.path, reason="QEMU sees another size in it than its header says")
        if info.virtual_size > largest:
            reason = f"its virtual size of {info.virtual_size} bytes is more than the {largest} allowed"
            raise ImageVerificationError(file=image.path, reason=reason)
        if header is not None and not (await self._check(image, looks[0].size)).sound:
            raise ImageVerificationError(file=image.path, reason="it is damaged, says qemu-img check")
        return info

    async def measure(self, image: Image, target: DiskFormat, *, layers: int = 0) -> Measure:
        looks = await self._read(image)
        words = ["measure", "--output=json", "-O", target]
        words += [_only(image, layers)] if layers else ["-f", image.format, image.path]
        done = await self._tool.work(image.lane, "measure", image.path, words, size=sum(look.size for look in looks))
        return _measured(decoded(done, _Measure, "measure", image.path))

    async def measure_new(self, size: int, target: DiskFormat) -> Measure:
        done = await self._tool.quick(
            "", "measure", "a new image", ["measure", "--output=json", f"--size={size}", "-O", target]
        )
        return _measured(decoded(done, _Measure, "measure", "a new image"))

    async def check(self, image: Image) -> CheckResult:
        looks = await self._read(image)
        return await self._check(image, looks[0].size)

    async def convert(
        self,
        source: Image,
        target: Image,
        *,
        zeroed: bool = False,
        bitmaps: bool = False,
        progress: Progress | None = None,
    ) -> None:
        looks = await self._read(source)
        into = await self._read(target)
        if into[0].path in [look.path for look in looks]:
            raise ImageOperationFailed(what="copy", file=source.path, reason="it would be copied into itself")
        size = looks[0].virtual_size
        if into[0].virtual_size < size:
            raise DestinationVolumeTooSmall(file=target.path, size=into[0].virtual_size, needed=size)
        words = ["convert", "-n", "-f", source.format, "-O", target.format]
        words += ["-p"] if progress else ["-q"]
        words += ["-T", await self._cache(source), "-t", await self._cache(target)]
        if target.backing is not None:
            words += ["-B", target.backing.path, "-F", target.backing.format]
        elif zeroed:
            words += ["--target-is-zero"]
        words += ["--bitmaps", "--skip-broken-bitmaps"] if bitmaps else []
        words += [source.path, target.path]
        await self._tool.work(target.lane, "copy", source.path, words, size=size, progress=progress)

    async def commit(self, top: Image, base: Image, *, progress: Progress | None = None) -> None:
        looks = await self._read(top)
        await self._read(base)
        if base.path not in [image.path for image in layers_of(top)][1:]:
            raise ImageOperationFailed(what="commit", file=top.path, reason=f"{base.path} is not below it")
        words = ["commit", "-d", "-f", top.format, "-t", await self._cache(top), "-b", base.path]
        words += ["-p"] if progress else ["-q"]
        words += ["--", top.path]
        await self._tool.work(
            top.lane, "commit", top.path, words, size=sum(look.size for look in looks), progress=progress
        )

    async def rebase(
        self,
        image: Image,
        backing: Image | None,
        *,
        backing_name: str = "",
        unsafe: bool = False,
        progress: Progress | None = None,
    ) -> None:
        looks = await self._read(image)
        words = ["rebase", "-f", image.format, "-t", await self._cache(image), "-T", await self._cache(image)]
        if backing is None:
            words += ["-b", ""]
        else:
            looks += await self._read(backing)
            words += ["-b", backing_name or _name_of(backing, image), "-F", backing.format]
        words += ["-u"] if unsafe else []
        words += ["-p"] if progress else ["-q"]
        words += ["--", image.path]
        size = sum(look.size for look in looks)
        await self._tool.work(image.lane, "rebase", image.path, words, size=size, progress=progress)

    async def resize(self, image: Image, size: int, *, preallocate: bool = False, shrink: bool = False) -> None:
        await self._read(image)
        words = ["resize", "-q", "-f", image.format, *(["--shrink"] if shrink else [])]
        if preallocate and image.format is DiskFormat.RAW:
            words += ["--preallocation=falloc", "--", image.path, str(size)]
            await self._tool.work(image.lane, "resize", image.path, words, size=size)
        else:
            await self._tool.quick(image.lane, "resize", image.path, [*words, "--", image.path, str(size)])

    async def amend(self, image: Image, *, compat: str) -> None:
        looks = await self._read(image)
        words = ["amend", "-q", "-f", image.format, "-o", f"compat={_known(compat)}", "--", image.path]
        await self._tool.work(image.lane, "amend", image.path, words, size=looks[0].size)

    async def sparsify(self, image: Image) -> None:
        looks = await self._read(image)
        words = ["--in-place", "--quiet", "--format", image.format, image.path]
        size = sum(look.virtual_size for look in looks)
        await self._tool.work(image.lane, "sparsify", image.path, words, size=size, program=SPARSIFY)

    async def add_bitmap(self, image: Image, name: str, *, granularity: int = 0, enabled: bool = True) -> None:
        words = ["--add", *([f"-g{granularity}"] if granularity else []), *([] if enabled else ["--disable"])]
        await self._bitmap(image, name, words)

    async def remove_bitmap(self, image: Image, name: str) -> None:
        await self._bitmap(image, name, ["--remove"])

    async def clear_bitmap(self, image: Image, name: str) -> None:
        await self._bitmap(image, name, ["--clear"])

    async def merge_bitmap(self, source: Image, source_name: str, target: Image, target_name: str) -> None:
        await self._read(source)
        words = [f"--merge={_bitmap_name(source_name)}", "-b", source.path, "-F", source.format]
        await self._bitmap(target, target_name, words)

    def close(self) -> None:
        self._tool.close()

    async def _read(self, image: Image) -> list[Look]:
        return await read_stated(self._tool, image)

    async def _info(self, image: Image) -> ImageInfo:
        words = ["info", "--output=json", "-f", image.format, "-U", "--", image.path]
        done = await self._tool.quick(image.lane, "read", image.path, words)
        info = decoded(done, _Info, "read", image.path)
        data = info.format_specific.get("data", {})
        try:
            bitmaps = msgspec.convert(data.get("bitmaps", []), list[_InfoBitmap])
        except msgspec.ValidationError:
            raise ImageOperationFailed(what="read", file=image.path, reason="its bitmaps make no sense") from None
        qcow2 = image.format is DiskFormat.QCOW2
        return ImageInfo(
            format=image.format,
            virtual_size=info.virtual_size,
            actual_size=info.actual_size,
            cluster_size=info.cluster_size if qcow2 else 0,
            compat=str(data.get("compat", "")) if qcow2 else "",
            backing_file=info.backing_filename,
            backing_format=info.backing_filename_format,
            bitmaps=[
                Bitmap(name=b.name, granularity=b.granularity, enabled="auto" in b.flags, in_use="in-use" in b.flags)
                for b in bitmaps
            ],
        )

    async def _check(self, image: Image, size: int) -> CheckResult:
        words = ["check", "--output=json", "-f", image.format, "--", image.path]
        done = await self._tool.work(image.lane, "check", image.path, words, size=size, fine=(0, _UNSOUND, _LEAKS))
        found = decoded(done, _Check, "check", image.path)
        return CheckResult(
            corruptions=found.corruptions, leaks=found.leaks, errors=found.check_errors, end=found.image_end_offset
        )

    async def _cache(self, image: Image) -> str:
        """Past the page cache where the file system can: it is for others, and lies to other hosts."""
        return (
            "none" if await self._tool.look(image.lane, image.path, lambda: takes_direct(image.path)) else "writeback"
        )

    async def _bitmap(self, image: Image, name: str, words: list[str]) -> None:
        await self._read(image)
        try:
            await self._tool.quick(
                image.lane,
                "change a bitmap of",
                image.path,
                ["bitmap", *words, "-f", image.format, "--", image.path, _bitmap_name(name)],
            )
        except ImageOperationFailed as failed:
            if "Dirty bitmap '" in failed.facts["reason"] and failed.facts["reason"].endswith("' not found"):
                raise BitmapDoesNotExist(file=image.path, bitmap=name) from None
            raise


def _only(image: Image, layers: int) -> str:
    """The first layers of a chain, as if the others were not there."""
    node: dict[str, Any] | None = None
    for layer in reversed(list(layers_of(image))[:layers]):
        below = {"backing": node} if layer.format is DiskFormat.QCOW2 else {}
        node = {"driver": layer.format.value, "file": {"driver": "file", "filename": layer.path}, **below}
    return f"json:{msgspec.json.encode(node).decode()}"


def _name_of(backing: Image, image: Image) -> str:
    """How a header names its backing file: in the same directory by its name alone, so that both can be moved."""
    directory, name = os.path.split(backing.path)
    return name if directory == os.path.dirname(image.path) and ":" not in name else backing.path


def _known(compat: str) -> str:
    if compat not in _COMPATS:
        raise InvalidParams(reason=f"compat {compat!r} is none of {', '.join(_COMPATS)}")
    return compat


def _bitmap_name(name: str) -> str:
    if not name or len(name.encode()) > _NAME_MAX or not name.isprintable():
        raise InvalidParams(reason="the name of a bitmap has 1 to 1023 printable characters")
    return name


def _measured(found: _Measure) -> Measure:
    return Measure(required=found.required, fully_allocated=found.fully_allocated, bitmaps=found.bitmaps)


def _reserve(path: str) -> None:
    """Make the file, so that nothing can be overwritten, and qemu-img's umask does not matter."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, _MODE)
    except FileExistsError:
        raise FileExists(file=path) from None
    except FileNotFoundError:
        raise FileMissing(file=os.path.dirname(path)) from None
    with contextlib.closing(os.fdopen(handle, "wb")):
        owner = os.stat(os.path.dirname(path))
        if os.geteuid() == 0 and (owner.st_uid, owner.st_gid) != (0, 0):  # whose the directory is, as other files there
            with contextlib.suppress(PermissionError):
                os.fchown(handle, owner.st_uid, owner.st_gid)
        os.fchmod(handle, _MODE)


def _settle(path: str) -> None:
    """Let the file and its name be on the disk."""
    for place, flags in ((path, os.O_RDONLY), (os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)):
        handle = os.open(place, flags | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)

# SPDX-License-Identifier: Apache-2.0
"""The `Images` port: files are looked at here first, and by `qemu-img` in a forced format and tight limits after."""

from __future__ import annotations

import errno
import os

import msgspec

from vdsm.contract.errors import FileUnusable
from vdsm.contract.vm_params import DiskFormat
from vdsm.core.ports.images import ImageFacts
from vdsm.drivers.pool import Pool
from vdsm.drivers.process import Limits, Programs

from .chain import Look, read_chain
from .qcow2 import Header, Refused

_LOOK_S = 10.0  # for the file system
_INFO_S = 30.0  # for qemu-img, which reads a few kilobytes
_LIMITS = Limits(cpu_s=10, memory_bytes=1 << 30, output_bytes=1 << 20)
_LARGEST = 1 << 50  # bytes a guest may see: 1 PiB; a larger claim is a mistake or an attack


class _Info(msgspec.Struct, frozen=True, rename="kebab"):
    """The part of `qemu-img info` that is compared with what was read here."""

    format: str
    virtual_size: int


class QemuImages:
    """`largest` is the most bytes an image may offer its guest."""

    def __init__(self, *, largest: int = _LARGEST) -> None:
        self._largest = largest
        self._pool = Pool("images", workers=4)
        self._programs = Programs("qemu-img", at_once=2)

    async def inspect(self, path: str, image_format: DiskFormat | None) -> ImageFacts:
        try:
            chain, data_files = await self._pool.run(
                "looking at files", lambda: read_chain(path, image_format), most=_LOOK_S
            )
        except Refused as refused:
            raise FileUnusable(file=path, reason=str(refused)) from None
        except OSError as error:
            raise FileUnusable(file=path, reason=os.strerror(error.errno or errno.EIO)) from None
        virtual_size = self._believe(path, chain)
        for look in chain:
            if look.header is not None:
                await self._confirm(path, look, look.header)
        return ImageFacts(
            path=chain[0].path,
            size=chain[0].size,
            virtual_size=virtual_size,
            references=[*(look.path for look in chain[1:]), *data_files],
        )

    def close(self) -> None:
        self._pool.close()
        self._programs.close()

    def _believe(self, path: str, chain: list[Look]) -> int:
        for look in chain:
            if look.virtual_size > self._largest:
                reason = f"its size of {look.virtual_size} bytes is more than {self._largest}"
                raise FileUnusable(file=path, reason=reason)
        return chain[0].virtual_size

    async def _confirm(self, path: str, look: Look, header: Header) -> None:
        """Let QEMU open it as what it is said to be; it must see the same."""
        done = await self._programs.run(
            ["qemu-img", "info", "--output=json", "-f", "qcow2", "-U", "--", look.path], most=_INFO_S, limits=_LIMITS
        )
        if done.status:
            said = done.err.decode(errors="replace").strip().rpartition("\n")[2]
            raise FileUnusable(file=path, reason=said or f"qemu-img ended with status {done.status}")
        try:
            info = msgspec.json.decode(done.out, type=_Info)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise FileUnusable(file=path, reason="qemu-img's answer makes no sense") from None
        if (info.format, info.virtual_size) != ("qcow2", header.virtual_size):
            raise FileUnusable(file=path, reason="QEMU sees another image in it than its header says")

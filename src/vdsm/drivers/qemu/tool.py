# SPDX-License-Identifier: Apache-2.0
"""qemu-img as a process: limits, a few at a time for each lane, its words about failure, its progress."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import signal
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

import msgspec

from vdsm.contract.errors import ObjectBusy
from vdsm.contract.errors_storage import FileMissing, ImageOperationFailed, ToolMissing
from vdsm.core.ports.disks import Progress
from vdsm.drivers.files import clean
from vdsm.drivers.pool import Pool
from vdsm.drivers.process import Finished, Limits, Programs
from vdsm.drivers.storage_problem import storage_problem

_LOOK_S = 10.0  # for the file system
_QUICK_S = 30.0  # for what reads or writes a few kilobytes
_QUICK = Limits(cpu_s=10, memory_bytes=1 << 30, output_bytes=1 << 20)
_LOOKS = 4  # of one lane at a time
_QUICKS = 4
_WORKS = 4
_WORK_S = 600.0  # and more by size:
_WORK_BYTES_PER_S = 4 << 20  # slower storage than this is broken storage
_WORK_CPU_S = 120
_WORK_BYTES_PER_CPU_S = 32 << 20
_WORK_MEMORY = 8 << 30  # addresses: each of up to 64 threads reserves 64 MiB and more, and uses little of it
# libguestfs is to start its QEMU itself: through libvirt it would look for a network and for users.
SPARSIFY = ("env", "LIBGUESTFS_BACKEND=direct", "virt-sparsify")
SPARSIFY_MISSING = 127  # so says env
_PERCENT = re.compile(rb"\((\d+(?:\.\d+)?)/100%\)")

T = TypeVar("T")


class _Lane:
    def __init__(self, name: str) -> None:
        self.looks = Pool(f"images {name}", workers=_LOOKS)
        self.programs = Programs(f"qemu-img {name}", at_once=_QUICKS + _WORKS)
        self.works = asyncio.Semaphore(_WORKS)  # so that quick ones always find room

    def close(self) -> None:
        self.looks.close()
        self.programs.close()


class QemuImg:
    """Runs it. What is of one lane can wait only for its own lane."""

    def __init__(self) -> None:
        self._lanes: dict[str, _Lane] = {}

    async def look(self, lane: str, file: str, call: Callable[[], T]) -> T:
        """Do something small with the file system, in a thread. Raises what an OSError means."""
        try:
            return await self._lane(lane).looks.run(f"looking at {file}", call, most=_LOOK_S)
        except OSError as error:
            raise storage_problem(error, file) from None

    async def quick(
        self, lane: str, what: str, file: str, words: Sequence[str], *, fine: Collection[int] = (0,)
    ) -> Finished:
        """Run `qemu-img words`. `what` and `file` are for a reader of the failure, which is raised."""
        done = await self._lane(lane).programs.run(["qemu-img", *words], most=_QUICK_S, limits=_QUICK)
        return _judged(done, what, file, fine)

    async def work(
        self,
        lane: str,
        what: str,
        file: str,
        words: Sequence[str],
        *,
        size: int,
        progress: Progress | None = None,
        fine: Collection[int] = (0,),
        program: Sequence[str] = ("qemu-img",),
    ) -> Finished:
        """As `quick`, for what has to do with `size` bytes; also another `program` that works on images."""
        limits = Limits(
            cpu_s=_WORK_CPU_S + size // _WORK_BYTES_PER_CPU_S, memory_bytes=_WORK_MEMORY, output_bytes=1 << 20
        )
        at = self._lane(lane)
        async with at.works:
            done = await at.programs.run(
                [*program, *words],
                most=_WORK_S + size / _WORK_BYTES_PER_S,
                limits=limits,
                heard=None if progress is None else _percents(progress),
            )
        return _judged(done, what, file, fine)

    def close(self) -> None:
        for lane in self._lanes.values():
            lane.close()
        self._lanes.clear()

    def _lane(self, name: str) -> _Lane:
        if name not in self._lanes:
            self._lanes[name] = _Lane(name)
        return self._lanes[name]


def decoded(done: Finished, form: type[T], what: str, file: str) -> T:
    """Its JSON. Raises ImageOperationFailed."""
    try:
        return msgspec.json.decode(done.out, type=form)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ImageOperationFailed(what=what, file=file, reason="its answer makes no sense") from None


def _percents(progress: Progress) -> Callable[[bytes], None]:
    """A reader of `    (12.34/100%)\\r`, which may come in any pieces."""
    rest = b""

    def hear(piece: bytes) -> None:
        nonlocal rest
        rest = (rest + piece)[-4096:]
        found = _PERCENT.findall(rest)
        rest = rest[rest.rfind(b"\r") + 1 :]
        if found:
            progress(min(float(found[-1]) / 100, 1.0))

    return hear


def _judged(done: Finished, what: str, file: str, fine: Collection[int]) -> Finished:
    if done.status in fine:
        return done
    lines = [line for line in done.err.decode(errors="replace").splitlines() if line.strip()]
    reason = clean(lines[0].removeprefix("qemu-img: "), 512) if lines else f"it ended with status {done.status}"
    said = done.err.decode(errors="replace")
    if done.status in (-signal.SIGXCPU, -signal.SIGKILL):
        reason = "it needed more processor time or memory than such an image may take"
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        if os.strerror(number) in said:
            raise storage_problem(OSError(number, ""), file)
    if 'Failed to get "' in said or 'Failed to get shared "' in said:
        raise ObjectBusy(what=file, holder="another program that has it open")
    if f"'{file}': No such file or directory" in said:
        raise FileMissing(file=file)
    if done.status == SPARSIFY_MISSING:
        raise ToolMissing(tool="virt-sparsify", package="guestfs-tools")
    raise ImageOperationFailed(what=what, file=file, reason=reason)


def takes_direct(path: str) -> bool:
    """Whether its file system can read past the page cache. May block."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC))
    except OSError:
        return False
    return True

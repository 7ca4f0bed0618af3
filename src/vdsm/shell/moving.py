# SPDX-License-Identifier: Apache-2.0
"""The bytes of a disk up and down: a few pieces at a time, holes left out, and going on after an interruption.

Pieces are begun in order, and none before the one `LANES` before it is over; a hole is alone. So whatever was
interrupted, all is there but for the last `BEHIND` bytes of what seems to be.
"""

from __future__ import annotations

import mmap
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from .faults import REFUSED, Fault
from .image_door import checksum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import BinaryIO

    from .image_door import ImageDoor

    Piece = tuple[int, int, bool]  # start, end, whether there is data
    Extents = Iterable[tuple[int, int]]  # start and end of what has data, in order

LANES = 2  # while one waits for the network the other one's data goes to the disk
PIECE = 4 << 20
BEHIND = LANES * PIECE
_SECTOR = 4096  # what direct I/O moves
_BLOCK = 65536
_ZEROS = bytes(PIECE)


def send(doors: Sequence[ImageDoor], file: BinaryIO, at: int, size: int, moved: Callable[[int], None]) -> None:
    """From `at` on, of which all before is there."""

    def one(door: ImageDoor, start: int, end: int, data: bool) -> None:
        part = os.pread(file.fileno(), end - start, start) if data else b""
        if data and len(part) != end - start:
            raise Fault(REFUSED, {"detail": "the file became shorter while it was read"})
        if part == _ZEROS[: len(part)]:
            door.zero(start, end - start)
        else:
            door.write(start, part)

    _move(doors, _pieces(data_of(file), at, size), one, moved)
    doors[0].flush()


def fetch(
    doors: Sequence[ImageDoor], file: BinaryIO, extents: Extents, at: int, size: int, moved: Callable[[int], None]
) -> None:
    """From `at` on; blocks of zeros become holes."""
    at -= at % _SECTOR
    os.ftruncate(file.fileno(), at)
    rooms = {door: mmap.mmap(-1, PIECE) for door in doors}  # aligned, as direct I/O wants it

    def one(door: ImageDoor, start: int, end: int, data: bool) -> None:
        if data:
            with memoryview(rooms[door])[: end - start] as room:
                door.read_into(room, start)
                _write(file.fileno(), direct, start, room)
        else:
            os.ftruncate(file.fileno(), end)

    with _direct(file) as direct:
        _move(doors, _pieces(extents, at, size), one, moved)
    os.ftruncate(file.fileno(), size)


@contextmanager
def _direct(file: BinaryIO) -> Iterator[int]:
    """The file past the page cache where its file system can: through it writing takes several times as long."""
    try:
        handle = os.open(f"/proc/self/fd/{file.fileno()}", os.O_WRONLY | os.O_DIRECT)
    except OSError:
        handle = os.dup(file.fileno())
    try:
        yield handle
    finally:
        os.close(handle)


def same(door: ImageDoor, file: BinaryIO, size: int) -> bool:
    """Whether both ends have the same bytes; each reads its own."""
    with ThreadPoolExecutor(1) as pool:
        there = pool.submit(door.checksum)
        return checksum(file, size) == there.result()


def data_of(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """What the file system knows of holes."""
    end, length = 0, os.fstat(file.fileno()).st_size
    while end < length:
        try:
            start = os.lseek(file.fileno(), end, os.SEEK_DATA)
        except OSError:  # ENXIO: only a hole is left
            return
        end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
        yield start, end


def _pieces(extents: Extents, at: int, size: int) -> Iterator[Piece]:
    """All from `at` to `size`."""
    for first, last in extents:
        if (start := min(max(first - first % _SECTOR, at), size)) > at:
            yield at, start, False
            at = start
        last = min(last + -last % _SECTOR, size)
        while at < last:
            end = min(at + PIECE, last)
            yield at, end, True
            at = end
    if at < size:
        yield at, size, False


def _move(
    doors: Sequence[ImageDoor],
    pieces: Iterable[Piece],
    one: Callable[[ImageDoor, int, int, bool], None],
    moved: Callable[[int], None],
) -> None:
    under_way: deque[tuple[Future[None], int]] = deque()

    def wait() -> None:
        future, end = under_way.popleft()
        future.result()
        moved(end)

    with ThreadPoolExecutor(len(doors)) as pool:
        for number, (start, end, data) in enumerate(pieces):
            while under_way and (not data or len(under_way) == len(doors)):
                wait()
            under_way.append((pool.submit(one, doors[number % len(doors)], start, end, data), end))
            if not data:
                wait()
        while under_way:
            wait()


def _write(plain: int, direct: int, at: int, data: memoryview) -> None:
    """Whole sectors past the page cache, and what is left at the file's end through it."""
    start = 0  # of what is not written yet
    for end in range(0, len(data), _BLOCK):
        block = data[end : end + _BLOCK]
        if not block[0] and bytes(block) == _ZEROS[: len(block)]:
            _write_all(plain, direct, at + start, data[start:end])
            start = end + len(block)
    _write_all(plain, direct, at + start, data[start:])


def _write_all(plain: int, direct: int, at: int, data: memoryview) -> None:
    while data:
        whole = len(data) - len(data) % _SECTOR
        written = os.pwrite(direct, data[:whole], at) if whole else os.pwrite(plain, data, at)
        data, at = data[written:], at + written

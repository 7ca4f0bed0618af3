# SPDX-License-Identifier: Apache-2.0
"""The bytes of a disk up and down: a few pieces at a time, holes left out, and going on after an interruption.

Pieces are begun in order, and none before the one `LANES` before it is over; a hole is alone. So whatever was
interrupted, all is there but for the last `BEHIND` bytes of what seems to be.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

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
    os.ftruncate(file.fileno(), at)

    def one(door: ImageDoor, start: int, end: int, data: bool) -> None:
        if data:
            _write(file, start, door.read(start, end - start))
        else:
            os.ftruncate(file.fileno(), end)

    _move(doors, _pieces(extents, at, size), one, moved)
    os.ftruncate(file.fileno(), size)


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
        if (start := min(max(first, at), size)) > at:
            yield at, start, False
            at = start
        while at < min(last, size):
            end = min(at + PIECE, last, size)
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


def _write(file: BinaryIO, at: int, data: bytes) -> None:
    start = 0  # of what is not written yet
    for end in range(0, len(data), _BLOCK):
        if data.startswith(_ZEROS[: min(_BLOCK, len(data) - end)], end):
            _write_all(file, at + start, memoryview(data)[start:end])
            start = end + _BLOCK
    _write_all(file, at + start, memoryview(data)[start:])


def _write_all(file: BinaryIO, at: int, data: memoryview) -> None:
    while data:
        written = os.pwrite(file.fileno(), data, at)
        data, at = data[written:], at + written

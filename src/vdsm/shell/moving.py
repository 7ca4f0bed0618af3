# SPDX-License-Identifier: Apache-2.0
"""The bytes of a disk up and down: a few pieces at a time, holes left out, and going on after an interruption.

What is written to is new and reads as zeros, so only data moves. Pieces are begun in order, and none before the one
`LANES` before it is over: of the data that went, all but the last `BEHIND` bytes are what comes first in the file.
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

    Spans = Sequence[tuple[int, int]]  # start and end of what has data, in whole sectors, in order

LANES = 2  # while one waits for the network the other one's data goes to the disk
PIECE = 4 << 20
BEHIND = LANES * PIECE
_SECTOR = 4096  # what direct I/O moves
_BLOCK = 65536
_ZEROS = bytes(PIECE)


def send(doors: Sequence[ImageDoor], file: BinaryIO, gone: int, size: int, moved: Callable[[int], None]) -> None:
    """`gone`: bytes of data that went before."""
    spans, length = list(in_sectors(data_of(file), size)), os.fstat(file.fileno()).st_size

    def one(door: ImageDoor, start: int, end: int) -> None:
        part = os.pread(file.fileno(), end - start, start)
        if start + len(part) < min(end, length):
            raise Fault(REFUSED, {"detail": "the file became shorter while it was read"})
        part += bytes(end - start - len(part))  # the file's end may be in the middle of a sector
        if part != _ZEROS[: len(part)]:
            door.write(start, part)

    _move(doors, _pieces(spans, place_of(spans, gone - BEHIND)), one, moved)
    doors[0].flush()


def fetch(doors: Sequence[ImageDoor], file: BinaryIO, spans: Spans, size: int, moved: Callable[[int], None]) -> bool:
    """Go on where the file ends; whether there was something before. Blocks of zeros become holes."""
    at = place_of(spans, data_before(spans, os.fstat(file.fileno()).st_size) - BEHIND)
    os.ftruncate(file.fileno(), at)
    rooms = {door: mmap.mmap(-1, PIECE) for door in doors}  # aligned, as direct I/O wants it

    def one(door: ImageDoor, start: int, end: int) -> None:
        with memoryview(rooms[door])[: end - start] as room:
            door.read_into(room, start)
            _write(file.fileno(), direct, start, room)

    with _direct(file) as direct:
        _move(doors, _pieces(spans, at), one, moved)
    os.ftruncate(file.fileno(), size)
    return at > 0


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


def in_sectors(extents: Iterable[tuple[int, int]], size: int) -> Iterator[tuple[int, int]]:
    at = 0
    for start, end in extents:
        start, end = max(start - start % _SECTOR, at), min(end + -end % _SECTOR, size)
        if start < end:
            yield start, end
            at = end


def place_of(spans: Spans, data: int) -> int:
    """Where in the file so many bytes of data are before; 0 for none."""
    place = 0
    for start, end in spans:
        if data <= 0:
            break
        place = min(start + data - data % _SECTOR, end)
        data -= end - start
    return place


def data_before(spans: Spans, at: int) -> int:
    return sum(min(end, at) - start for start, end in spans if start < at)


def _pieces(spans: Spans, at: int) -> Iterator[tuple[int, int]]:
    """Of all data from there on."""
    for first, last in spans:
        for start in range(max(first, at), last, PIECE):
            yield start, min(start + PIECE, last)


def _move(
    doors: Sequence[ImageDoor],
    pieces: Iterable[tuple[int, int]],
    one: Callable[[ImageDoor, int, int], None],
    moved: Callable[[int], None],
) -> None:
    under_way: deque[tuple[Future[None], int]] = deque()

    def wait() -> None:
        future, end = under_way.popleft()
        future.result()
        moved(end)

    with ThreadPoolExecutor(len(doors)) as pool:
        for number, (start, end) in enumerate(pieces):
            if len(under_way) == len(doors):
                wait()
            under_way.append((pool.submit(one, doors[number % len(doors)], start, end), end))
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

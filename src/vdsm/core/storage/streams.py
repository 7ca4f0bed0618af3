# SPDX-License-Identifier: Apache-2.0
"""A volume's bytes as a stream, with a task behind it: a few MiB are on the way at most, however large the volume."""

from __future__ import annotations

import asyncio

from vdsm.contract.errors import InvalidRequest, Problem, RecoveryInProgress
from vdsm.contract.errors_storage import StreamCutShort

PIECE = 4 << 20  # bytes that are written, and are on the disk, at a time
_ROOM = 2 * PIECE


class Channel:
    """From one side to the other, until either ends it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.passed = 0  # bytes that were put in
        self._data = bytearray()
        self._over = False
        self._problem: Problem | None = None
        self._filled, self._emptied = asyncio.Event(), asyncio.Event()

    async def put(self, data: bytes) -> None:
        """Waits for room. Raises why it was ended, StreamCutShort if nobody said."""
        while len(self._data) >= _ROOM and not self._over:
            self._emptied.clear()
            await self._emptied.wait()
        if self._over:
            raise self._problem or StreamCutShort(got=self.passed, size=self.size)
        self._data += data
        self.passed += len(data)
        self._filled.set()

    async def take(self, least: int = 1) -> bytes:
        """At least so many bytes, fewer at the end, then none. Raises why it was ended, if that is not for its end."""
        while len(self._data) < least and not self._over:
            self._filled.clear()
            await self._filled.wait()
        if self._problem is not None:
            raise self._problem
        piece = bytes(self._data[:PIECE])
        del self._data[:PIECE]
        self._emptied.set()
        return piece

    async def emptied(self) -> None:
        """Raises why it was ended before."""
        while self._data and not self._over:
            self._emptied.clear()
            await self._emptied.wait()
        if self._problem is not None:
            raise self._problem

    def end(self, problem: Problem | None = None) -> None:
        """The first end counts."""
        if not self._over:
            self._over, self._problem = True, problem
            self._filled.set()
            self._emptied.set()


class _Stream:
    """The caller's end of a channel; `work` is the task behind it."""

    def __init__(self, channel: Channel, work: asyncio.Task[None]) -> None:
        self._channel = channel
        self._work = work
        work.add_done_callback(self._worked)

    def _worked(self, work: asyncio.Task[None]) -> None:
        failed = None if work.cancelled() else work.exception()
        self._channel.end(failed if isinstance(failed, Problem) else None)

    async def _finished(self) -> None:
        """Raises why the task failed."""
        await asyncio.wait([self._work])
        if self._work.cancelled():  # the daemon goes down
            raise RecoveryInProgress()
        self._work.result()

    async def close(self) -> None:
        channel = self._channel
        channel.end(StreamCutShort(got=channel.passed, size=channel.size))


class Incoming(_Stream):
    """A `ByteStream` that is written to; reading it waits until all that was written is on the disk."""

    async def write(self, data: bytes) -> None:
        channel = self._channel
        if channel.passed + len(data) > channel.size:
            raise InvalidRequest(reason=f"more than the {channel.size} bytes that were announced")
        await channel.put(data)
        if channel.passed == channel.size:
            channel.end()

    async def read(self) -> bytes:
        await self._finished()
        return b""


class Outgoing(_Stream):
    """A `ByteStream` that is read; what is written to it nobody wants."""

    async def read(self) -> bytes:
        data = await self._channel.take()
        if not data:
            await self._finished()
        return data

    async def write(self, data: bytes) -> None: ...

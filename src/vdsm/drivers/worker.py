# SPDX-License-Identifier: Apache-2.0
"""A worker process: what may hang or be killed runs there; the calls that are under way in it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from vdsm.contract.errors import DeadlineExceeded, Problem, TooBusy
from vdsm.core.ports import deadline

from .workers.serving import FRAME

_SOURCE = Path(__file__).parents[2]
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
_WAITING_MAX = 256
_END_S = 1.0  # for a killed worker to be gone; one stuck in the kernel ends when its storage answers
_HEAD_MAX = 64 << 20
_DATA_MAX = 1 << 30


class _Answer(msgspec.Struct, frozen=True):
    id: int
    result: Any = None
    errno: int = 0
    text: str = ""


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """What runs in a worker: a module with `OPERATIONS`, of the standard library and `serving` alone."""

    module: str
    threads: int
    python: tuple[str, ...] = (sys.executable, "-I", "-S")
    environment: dict[str, str] = {}


class Worker:
    """Started by its first call, and again after it ended. Calls that were given up still hold their thread there."""

    def __init__(
        self,
        name: str,
        program: Program,
        *,
        broken: Callable[[str], Problem],
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        """`broken` makes what callers get when it ends under them; `ended` is told of every end but `close`."""
        self._name = name
        self._program = program
        self._broken = broken
        self._ended = ended
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[tuple[Any, bytes]]] = {}
        self._given_up: set[int] = set()
        self._starting = asyncio.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._listening: asyncio.Task[None] | None = None

    async def call(self, op: str, args: dict[str, object], data: bytes, most: float) -> tuple[Any, bytes]:
        """Raises OSError as the operation did, DeadlineExceeded, TooBusy and what `broken` makes."""
        what = f"{op.replace('_', ' ')} in {self._name}"
        if len(self._given_up) >= self._program.threads:  # nothing would be done: say so at once
            raise DeadlineExceeded(what=f"{what}, which hangs,", seconds="0")
        if len(self._waiting) >= _WAITING_MAX:
            raise TooBusy(what=what)
        seconds = deadline.remaining(most)
        number, sent = next(self._ids), False
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(seconds):
                writer = await self._start()
                head = msgspec.json.encode({"id": number, "op": op, "args": args})
                writer.write(FRAME.pack(len(head), len(data)) + head + data)
                sent = True
                answer: tuple[Any, bytes] = await future
                return answer
        except TimeoutError:
            raise DeadlineExceeded(what=what, seconds=f"{seconds:.3g}") from None
        finally:
            del self._waiting[number]
            if sent and (not future.done() or future.cancelled()):
                self._given_up.add(number)

    async def close(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
        if self._writer is not None:
            self._writer.close()
        if self._process is not None:
            self._process.kill()
            await asyncio.to_thread(_reap, self._process)
        self._end()

    async def _start(self) -> asyncio.StreamWriter:
        async with self._starting:
            if self._writer is None:
                ours, theirs = socket.socketpair()
                with theirs:
                    self._process = await asyncio.to_thread(_spawn, theirs, self._program, self._process)
                reader, self._writer = await asyncio.open_unix_connection(sock=ours)
                # apart from the call that starts it: what it tells of is nobody's call
                apart = contextvars.Context()
                self._listening = asyncio.create_task(self._listen(reader), name=self._name, context=apart)
            return self._writer

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                head, data = FRAME.unpack(await reader.readexactly(FRAME.size))
                if head > _HEAD_MAX or data > _DATA_MAX:
                    break
                answer = msgspec.json.decode(await reader.readexactly(head), type=_Answer)
                self._hand_over(answer, await reader.readexactly(data))
        except (asyncio.IncompleteReadError, ConnectionError, msgspec.DecodeError):
            pass
        self._end()
        self._ended()

    def _hand_over(self, answer: _Answer, data: bytes) -> None:
        self._given_up.discard(answer.id)
        future = self._waiting.get(answer.id)
        if future is None or future.done():
            return
        if answer.errno:
            future.set_exception(OSError(answer.errno, answer.text or os.strerror(answer.errno)))
        else:
            future.set_result((answer.result, data))

    def _end(self) -> None:
        """It is gone: whoever waits is told; the next call starts another."""
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(self._broken("its worker process ended"))
        self._given_up.clear()
        if self._writer is not None:
            self._writer.close()
        if self._process is not None:
            self._process.kill()
        self._writer = None


def _reap(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_END_S)


def _spawn(door: socket.socket, program: Program, before: subprocess.Popen[bytes] | None) -> subprocess.Popen[bytes]:
    """In the place of one that ended."""
    if before is not None:
        _reap(before)
    start = (
        f"import sys; sys.path.insert(0, {str(_SOURCE)!r}); sys.dont_write_bytecode = True;"
        f"from {program.module} import OPERATIONS; from vdsm.drivers.workers.serving import serve; serve(OPERATIONS)"
    )
    return subprocess.Popen(
        [*program.python, "-c", start, program.module, str(program.threads)],
        stdin=door.fileno(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env=_ENVIRONMENT | program.environment,
        start_new_session=True,
    )

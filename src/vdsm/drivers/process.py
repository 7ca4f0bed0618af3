# SPDX-License-Identifier: Apache-2.0
"""Outside programs: an argument list, a clean environment, limits, a deadline, and no child that outlives it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence

import msgspec

from vdsm.contract.errors import DeadlineExceeded
from vdsm.core.ports import deadline

from .pool import Pool

_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
_GRACE_S = 1.0  # for a killed process to be gone; one stuck in the kernel (a dead mount) keeps its thread
_CHUNK = 65536


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a program may use, enforced by the kernel."""

    cpu_s: int
    memory_bytes: int  # of address space
    output_bytes: int = 16 * 1024 * 1024  # of each of its two outputs; what is beyond is dropped


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """How a program ended: `status` is negative when a signal ended it, 127 when there is no such program."""

    status: int
    out: bytes
    err: bytes


class Programs:
    """Runs programs, a few at a time."""

    def __init__(self, name: str, *, at_once: int = 4) -> None:
        self._pool = Pool(name, workers=at_once)

    async def run(
        self, argv: Sequence[str], *, most: float, limits: Limits, heard: Callable[[bytes], None] | None = None
    ) -> Finished:
        """Run `argv` to its end, within `most` seconds or what the present deadline leaves.

        `heard` gets each piece of its output on the event loop, as it comes. When the caller is cancelled the program
        and its children are killed first.

        Raises DeadlineExceeded (it and its children are killed), TooBusy.
        """
        seconds = deadline.remaining(most)
        loop = asyncio.get_running_loop()
        child = _Child(argv, limits, None if heard is None else lambda piece: _pass_on(loop, heard, piece))
        running = loop.create_task(
            self._pool.run(argv[0], lambda: child.run(seconds), most=seconds + _GRACE_S), name=argv[0]
        )
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            if child.kill():
                await asyncio.wait({running}, timeout=_GRACE_S)
            running.cancel()
            raise

    def close(self) -> None:
        self._pool.close()


def _pass_on(loop: asyncio.AbstractEventLoop, heard: Callable[[bytes], None], piece: bytes) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
        loop.call_soon_threadsafe(heard, piece)


class _Child:
    """One run of a program; `kill` may come from another thread, before it begins too."""

    def __init__(self, argv: Sequence[str], limits: Limits, heard: Callable[[bytes], None] | None) -> None:
        self._argv = argv
        self._limits = limits
        self._heard = heard
        self._mutex = threading.Lock()
        self._unwanted = False
        self._group: int | None = None

    def run(self, seconds: float) -> Finished:
        until = time.monotonic() + seconds
        child = self._start()
        if child is None:
            return Finished(status=-signal.SIGKILL, out=b"", err=b"")
        with child:
            try:
                out, err = _read(child, until, self._limits.output_bytes, self._heard)
                status = child.wait(max(until - time.monotonic(), 0))
                return Finished(status=status, out=out, err=err)
            except (TimeoutError, subprocess.TimeoutExpired):
                raise DeadlineExceeded(what=self._argv[0], seconds=f"{seconds:.3g}") from None
            finally:
                self.kill()
                with self._mutex:
                    self._group = None

    def kill(self) -> bool:
        """End it and its children at once, or let it never begin; whether it had begun and was not over."""
        with self._mutex:
            self._unwanted = True
            if self._group is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._group, signal.SIGKILL)
            return self._group is not None

    def _start(self) -> subprocess.Popen[bytes] | None:
        limits = self._limits
        # However the daemon dies, what it had begun ends with it (with this thread, which waits for the child): the
        # next one does it anew, on the same files.
        bound = ["setpriv", "--pdeathsig", "KILL", "prlimit", f"--cpu={limits.cpu_s}", f"--as={limits.memory_bytes}"]
        with self._mutex:
            if self._unwanted:
                return None
            child = subprocess.Popen(
                [*bound, "--core=0", "--", *self._argv],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd="/",
                env=_ENVIRONMENT,
                start_new_session=True,  # so that the whole group can be killed
            )
            self._group = child.pid
            return child


def _read(
    child: subprocess.Popen[bytes], until: float, most: int, heard: Callable[[bytes], None] | None
) -> tuple[bytes, bytes]:
    """Everything both pipes give."""
    pipes = [pipe.fileno() for pipe in (child.stdout, child.stderr) if pipe is not None]
    texts = {pipe: bytearray() for pipe in pipes}
    with selectors.DefaultSelector() as ready:
        for pipe in pipes:
            ready.register(pipe, selectors.EVENT_READ)
        while ready.get_map():
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            for key, _ in ready.select(left):
                if data := os.read(key.fd, _CHUNK):
                    if heard is not None and key.fd == pipes[0]:
                        heard(data)
                    texts[key.fd] += data[: most - len(texts[key.fd])]
                else:
                    ready.unregister(key.fd)
    out, err = (bytes(texts[pipe]) for pipe in pipes)
    return out, err

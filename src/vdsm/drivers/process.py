# SPDX-License-Identifier: Apache-2.0
"""Outside programs: an argument list, a clean environment, limits, a deadline, and no child that outlives it."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence

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

    async def run(self, argv: Sequence[str], *, most: float, limits: Limits) -> Finished:
        """Run `argv` to its end, within `most` seconds or what the present deadline leaves.

        Raises DeadlineExceeded (it and its children are killed), TooBusy.
        """
        seconds = deadline.remaining(most)
        return await self._pool.run(argv[0], lambda: run_here(argv, seconds, limits), most=seconds + _GRACE_S)

    def close(self) -> None:
        self._pool.close()


def run_here(argv: Sequence[str], seconds: float, limits: Limits) -> Finished:
    """As `Programs.run`, in this thread."""
    until = time.monotonic() + seconds
    limited = ["prlimit", f"--cpu={limits.cpu_s}", f"--as={limits.memory_bytes}", "--core=0", "--", *argv]
    with subprocess.Popen(
        limited,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
        env=_ENVIRONMENT,
        start_new_session=True,  # so that the whole group can be killed
    ) as child:
        try:
            out, err = _read(child, until, limits.output_bytes)
            return Finished(status=child.wait(max(until - time.monotonic(), 0)), out=out, err=err)
        except (TimeoutError, subprocess.TimeoutExpired):
            raise DeadlineExceeded(what=argv[0], seconds=f"{seconds:.3g}") from None
        finally:
            _kill_group(child)


def _read(child: subprocess.Popen[bytes], until: float, most: int) -> tuple[bytes, bytes]:
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
                    texts[key.fd] += data[: most - len(texts[key.fd])]
                else:
                    ready.unregister(key.fd)
    out, err = (bytes(texts[pipe]) for pipe in pipes)
    return out, err


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)

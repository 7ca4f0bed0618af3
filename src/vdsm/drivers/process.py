# SPDX-License-Identifier: Apache-2.0
"""Runs outside programs: no shell, no terminal, plain English, a deadline, and an end to what they may say."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence

import msgspec

from vdsm.contract.errors import DeadlineExceeded
from vdsm.core.ports.deadline import remaining

_OUTPUT_MAX = 16 * 1024 * 1024
_NOT_FOUND = 127  # as a shell says it
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}


class CompletedText(msgspec.Struct, frozen=True, kw_only=True):
    """What a program came to. Bytes that are no UTF-8 become U+FFFD."""

    returncode: int  # 127: there is no such program
    stdout: str
    stderr: str


async def run(argv: Sequence[str], *, timeout: float, output_max: int = _OUTPUT_MAX) -> CompletedText:
    """Run a program to its end. When the caller gives up, it and all it started are killed.

    Raises DeadlineExceeded after `timeout` seconds, or sooner by the deadline of the call; ValueError when it says
    more than `output_max` bytes.
    """
    seconds = remaining(timeout)
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=_ENVIRONMENT,
            start_new_session=True,
        )
    except OSError as error:
        return CompletedText(returncode=_NOT_FOUND, stdout="", stderr=f"{argv[0]}: {error.strerror}")
    try:
        async with asyncio.timeout(seconds):
            stdout, stderr = await asyncio.gather(
                _read(process.stdout, output_max, argv[0]), _read(process.stderr, output_max, argv[0])
            )
            status = await process.wait()
    except TimeoutError:
        raise DeadlineExceeded(what=argv[0], seconds=f"{seconds:.3g}") from None
    finally:
        await _end(process)
    return CompletedText(returncode=status, stdout=stdout, stderr=stderr)


async def _read(stream: asyncio.StreamReader | None, most: int, name: str) -> str:
    assert stream is not None
    said = bytearray()
    while data := await stream.read(65536):
        said += data
        if len(said) > most:
            raise ValueError(f"{name} says more than {most} bytes")
    return said.decode(errors="replace")


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await asyncio.shield(process.wait())

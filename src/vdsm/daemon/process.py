# SPDX-License-Identifier: Apache-2.0
"""The process among others: one daemon per run directory, and leaving the terminal once it is ready."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path


class StartError(Exception):
    """The daemon cannot start; the text says why and what to do."""


@contextlib.contextmanager
def pid_file(directory: Path) -> Iterator[None]:
    """Hold `vdsmd.pid` in the run directory, with this process's id in it. Raises StartError if another holds it."""
    file = directory / "vdsmd.pid"
    try:
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise StartError(f"{error.filename}: {error.strerror}; [daemon] run_directory names another place") from None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(fd, 32).decode(errors="replace").strip()
            raise StartError(f"another vdsmd (process {holder}) runs in {directory}; stop it first") from None
        os.truncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
        yield
        file.unlink(missing_ok=True)
    finally:
        os.close(fd)


class Background:
    """A child that serves, and a parent that waits until it is ready."""

    def __init__(self, log_file: Path) -> None:
        self._log_file = log_file
        self._ready_fd = -1

    def leave(self) -> int | None:
        """Fork. None in the child, which goes on; in the parent, when the child is ready or dead, its exit status."""
        try:
            self._log_file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            out = os.open(self._log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        except OSError as error:
            raise StartError(f"{error.filename}: {error.strerror}; --log-file names another place") from None
        begun = os.fstat(out).st_size
        hears, self._ready_fd = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            os.close(hears)
            self._become_daemon(out)
            return None
        os.close(self._ready_fd)
        os.close(out)
        with os.fdopen(hears, "rb") as pipe:
            if pipe.read(1):
                print(f"vdsmd runs: process {child}, log {self._log_file}")
                return 0
        _, status = os.waitpid(child, 0)
        sys.stderr.write(self._log_file.read_bytes()[begun:].decode(errors="replace"))
        return os.waitstatus_to_exitcode(status) or 1

    def ready(self) -> None:
        """Let the parent go. Harmless in the foreground."""
        if self._ready_fd >= 0:
            with contextlib.suppress(BrokenPipeError):  # the parent was killed: nobody waits
                os.write(self._ready_fd, b"1")
            os.close(self._ready_fd)
            self._ready_fd = -1

    def _become_daemon(self, out: int) -> None:
        os.setsid()
        os.chdir("/")
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.close(nothing)
        os.close(out)

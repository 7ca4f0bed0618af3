# SPDX-License-Identifier: Apache-2.0
"""File systems that never answer, or only with errors: FUSE with nobody, or hardly anybody, behind it. As root."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import threading
from pathlib import Path

_LAZY = 2
_REQUEST = struct.Struct("=IIQ")  # length, kind, number
_ANSWER = struct.Struct("=IiQ")  # length, error, number
_REQUEST_MAX = 1 << 17
_INIT = 26
_UNANSWERED = (2, 36, 42)  # forget, interrupt, batch forget


class HungMount:
    """Mounted over `directory`; whoever touches it waits until `mend`, and is then told that it is broken."""

    def __init__(self, directory: Path) -> None:
        self._directory = os.fsencode(directory)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._door = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self._door},rootmode=40000,user_id=0,group_id=0".encode()
        if self._libc.mount(b"vdsmtest", self._directory, b"fuse", 0, options):
            raise OSError(ctypes.get_errno(), "mount")
        self._hangs = True

    def mend(self) -> None:
        if self._hangs:
            self._hangs = False
            os.close(self._door)
            self._libc.umount2(self._directory, _LAZY)


class BrokenMount(HungMount):
    """One that answers everything with an input/output error."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        threading.Thread(target=self._answer, daemon=True).start()

    def _answer(self) -> None:
        while True:
            try:
                request = os.read(self._door, _REQUEST_MAX)
                _, kind, unique = _REQUEST.unpack_from(request)
                if kind == _INIT:
                    # protocol, versions; no read-ahead, no flags; requests under way; bytes of one write
                    body = struct.pack("=IIIIHHI", 7, 22, 0, 0, 12, 9, 4096)
                    os.write(self._door, _ANSWER.pack(_ANSWER.size + len(body), 0, unique) + body)
                elif kind not in _UNANSWERED:
                    os.write(self._door, _ANSWER.pack(_ANSWER.size, -errno.EIO, unique))
            except OSError:  # unmounted
                return

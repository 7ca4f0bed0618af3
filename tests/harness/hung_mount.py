# SPDX-License-Identifier: Apache-2.0
"""A file system that never answers: FUSE with nobody behind it. As root."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_LAZY = 2


class HungMount:
    """Mounted over `directory`; whoever touches it waits until `mend`, and is then told that it is broken."""

    def __init__(self, directory: Path, *more: str) -> None:
        self._directory = os.fsencode(directory)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._door = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = ",".join([f"fd={self._door},rootmode=40000,user_id=0,group_id=0", *more]).encode()
        if self._libc.mount(b"vdsmtest", self._directory, b"fuse", 0, options):
            raise OSError(ctypes.get_errno(), "mount")
        self._hangs = True

    def mend(self) -> None:
        if self._hangs:
            self._hangs = False
            os.close(self._door)
            self._libc.umount2(self._directory, _LAZY)

# SPDX-License-Identifier: Apache-2.0
"""A vdsmd that dies (kill -9) at a chosen moment: `python blows.py FILE vdsmd's arguments...`.

Moments are the ones between which something became different on disk or in libvirt: before and after each write of a
task, each thing asked of libvirt, and each change of the storage. They are counted from the last writing of FILE, which
holds the number of the one to die at, 0 to live; those that passed are listed in FILE.passed.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from vdsm.daemon.__main__ import main
from vdsm.drivers.filesystem import LinuxFiles
from vdsm.drivers.libvirt import LibvirtHypervisor
from vdsm.drivers.qemu import QemuDisks
from vdsm.state.tasks import Tasks

FILE_CHANGES = ("create", "replace", "make_directory", "rename", "make_symlink", "remove")
CHANGES = ("define", "undefine", "start", "power_off", "ask_shutdown")


class Blows:
    def __init__(self, file: Path) -> None:
        self._file = file
        self._written = 0
        self._passed: list[str] = []

    def moment(self, what: str) -> None:
        if (written := self._file.stat().st_mtime_ns) != self._written:
            self._written, self._passed = written, []
        self._passed.append(what)
        Path(f"{self._file}.passed").write_text("\n".join(self._passed))
        if len(self._passed) == int(self._file.read_text()):
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, owner: type, name: str) -> None:
        method: Callable[..., Awaitable[Any]] = getattr(owner, name)

        @functools.wraps(method)
        async def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.moment(f"before {name}")
            answer = await method(*args, **kwargs)
            self.moment(f"after {name}")
            return answer

        setattr(owner, name, wrapped)


if __name__ == "__main__":
    blows = Blows(Path(sys.argv[1]))
    blows.around(Tasks, "put")
    for change in CHANGES:
        blows.around(LibvirtHypervisor, change)
    for change in FILE_CHANGES:
        blows.around(LinuxFiles, change)
    blows.around(QemuDisks, "create")
    sys.exit(main(sys.argv[2:]))

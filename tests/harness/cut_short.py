# SPDX-License-Identifier: Apache-2.0
"""A vdsmd that dies (kill -9) while qemu-img works: `python cut_short.py METHOD vdsmd's arguments...`.

METHOD is one of QemuDisks: when a third of its work is done the daemon is gone.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from vdsm.daemon.__main__ import main
from vdsm.drivers.qemu import QemuDisks


def die(fraction: float) -> None:
    if fraction >= 1 / 3:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    method: Callable[..., Awaitable[Any]] = getattr(QemuDisks, sys.argv[1])

    async def doomed(*args: Any, **kwargs: Any) -> Any:
        return await method(*args, **{**kwargs, "progress": die})

    setattr(QemuDisks, sys.argv[1], doomed)
    sys.exit(main(sys.argv[2:]))

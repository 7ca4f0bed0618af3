# SPDX-License-Identifier: Apache-2.0
"""How a server is asked to end."""

from __future__ import annotations

import asyncio
import signal


def stop_at_signal() -> asyncio.Event:
    """The event is set at the first SIGTERM or SIGINT; the second one ends the process as any other would."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def end() -> None:
        stop.set()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    return stop

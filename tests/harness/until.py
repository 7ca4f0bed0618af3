# SPDX-License-Identifier: Apache-2.0
"""Waiting for something to become so, with a limit, instead of sleeping and hoping."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

BUSY = 3.0
"""How much slower than alone a machine may be that runs other tests too."""


def until(what: str, ask: Callable[[], T], seconds: float = 20.0, every: float = 0.05) -> T:
    """The first answer of `ask` that is true. Raises AssertionError when there is none in time."""
    end = time.monotonic() + seconds * BUSY
    while True:
        if answer := ask():
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds * BUSY:.0f} s: {what} (the last answer was {answer!r})")
        time.sleep(every)


async def soon(what: str, ask: Callable[[], T], seconds: float = 20.0, every: float = 0.01) -> T:
    """`until`, while the event loop runs on."""
    end = time.monotonic() + seconds * BUSY
    while not (answer := ask()):
        assert time.monotonic() < end, f"not within {seconds * BUSY:.0f} s: {what} (the last answer was {answer!r})"
        await asyncio.sleep(every)
    return answer

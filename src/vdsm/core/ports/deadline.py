# SPDX-License-Identifier: Apache-2.0
"""How long the present call may still take. Drivers pass it on to every outside call they make."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextvars import ContextVar

_until: ContextVar[float | None] = ContextVar("vdsm_deadline", default=None)


def remaining(most: float) -> float:
    """Seconds left for one outside call: at most `most`, at least a millisecond so that it fails where it is made."""
    until = _until.get()
    return most if until is None else min(most, max(until - time.monotonic(), 0.001))


@contextlib.contextmanager
def within(seconds: float | None) -> Iterator[None]:
    """Let everything inside finish within `seconds`, or sooner where a caller said so already."""
    if seconds is None:
        yield
        return
    outer = _until.get()
    until = time.monotonic() + seconds
    mark = _until.set(until if outer is None else min(outer, until))
    try:
        yield
    finally:
        _until.reset(mark)

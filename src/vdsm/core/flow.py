# SPDX-License-Identifier: Apache-2.0
"""Which call the present code works for: one id from the caller's request to the last line of the log."""

from __future__ import annotations

import itertools
import uuid
from contextvars import ContextVar

current: ContextVar[str] = ContextVar("vdsm_flow", default="")
"""The flow id; empty outside of calls. The bridge sets it, the daemon's log prints it."""

_prefix = uuid.uuid4().hex[:12]
_numbers = itertools.count(1)


def new() -> str:
    """An id for a call that came with none: this process's own prefix and a number, much cheaper than a UUID."""
    return f"{_prefix}-{next(_numbers):x}"

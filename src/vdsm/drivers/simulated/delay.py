# SPDX-License-Identifier: Apache-2.0
"""An answer that takes its time, within the deadline of the call."""

from __future__ import annotations

import asyncio

from vdsm.contract.errors import DeadlineExceeded
from vdsm.core.ports.deadline import remaining

_PATIENCE_S = 10.0  # as the real drivers have


async def delayed(what: str, delay: float) -> None:
    """Raises DeadlineExceeded."""
    if delay <= 0:
        return
    seconds = remaining(_PATIENCE_S)
    await asyncio.sleep(min(delay, seconds))
    if delay > seconds:
        raise DeadlineExceeded(what=f"reading {what}", seconds=f"{seconds:.3g}")

# SPDX-License-Identifier: Apache-2.0
"""Work that goes on after the call that began it."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import TypeVar

R = TypeVar("R")


def begin(work: Coroutine[object, object, R], *, name: str) -> asyncio.Task[R]:
    """Apart from that call: its deadline must not cut this short, nor its flow be told as the cause of all."""
    return asyncio.create_task(work, name=name, context=contextvars.Context())

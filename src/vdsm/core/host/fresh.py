# SPDX-License-Identifier: Apache-2.0
"""A value that is read when somebody asks, and reused while it is fresh."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Fresh(Generic[T]):
    """Many who ask at once share one reading; nobody asks, nothing is read."""

    def __init__(
        self, read: Callable[[], Awaitable[T]], max_age: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._read = read
        self._max_age = max_age
        self._clock = clock
        self._lock = asyncio.Lock()
        self._held: tuple[float, T] | None = None  # when it was read, and the value

    async def get(self) -> T:
        held = self._held
        if held is not None and self._clock() - held[0] <= self._max_age:
            return held[1]
        async with self._lock:
            if self._held is None or self._clock() - self._held[0] > self._max_age:
                return await self._renew()
            return self._held[1]

    async def read_again(self) -> T:
        """Whatever its age."""
        async with self._lock:
            return await self._renew()

    async def _renew(self) -> T:
        began, value = self._clock(), await self._read()
        self._held = (began, value)
        return value

    @property
    def last(self) -> T | None:
        """As it was read last, however long ago."""
        return self._held[1] if self._held else None

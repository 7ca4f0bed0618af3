# SPDX-License-Identifier: Apache-2.0
"""Who is changing what. A lock is a name ("vm:<id>"); its holder is a call or a task, by the label people are told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from vdsm.contract.errors import ObjectBusy

PATIENCE = 5.0  # seconds a call waits for another before it is told who is in its way


class Locks:
    """Exclusive and re-entrant per holder. Names are taken in sorted order, so that two calls never wait in a ring."""

    def __init__(self) -> None:
        self._holders: dict[str, str] = {}
        self._freed = asyncio.Condition()

    def holder(self, name: str) -> str:
        """Label of the present holder; empty if free."""
        return self._holders.get(name, "")

    async def hold(self, holder: str, names: Iterable[str], *, patience: float | None = None) -> None:
        """Raises ObjectBusy, having taken nothing, when one of them is not free in time."""
        until = time.monotonic() + (PATIENCE if patience is None else patience)
        taken: list[str] = []
        try:
            for name in sorted(set(names)):
                if self._holders.get(name) == holder:
                    continue
                await self._take(holder, name, until)
                taken.append(name)
        except BaseException:
            await self._free(taken)
            raise

    async def _take(self, holder: str, name: str, until: float) -> None:
        async with self._freed:
            while (other := self._holders.get(name)) is not None:
                try:
                    await asyncio.wait_for(self._freed.wait(), until - time.monotonic())
                except TimeoutError:
                    raise ObjectBusy(what=name.replace(":", " "), holder=other) from None
            self._holders[name] = holder

    async def release(self, holder: str) -> None:
        """Free everything the holder has."""
        await self._free([name for name, other in self._holders.items() if other == holder])

    async def _free(self, names: list[str]) -> None:
        if names:
            async with self._freed:
                for name in names:
                    self._holders.pop(name, None)
                self._freed.notify_all()

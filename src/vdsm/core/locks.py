# SPDX-License-Identifier: Apache-2.0
"""Who is changing what. A lock is a name ("vm:<id>"); its holder is a call or a task, by the label people are told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from vdsm.contract.errors import ObjectBusy

PATIENCE = 5.0  # seconds a call waits for another before it is told who is in its way
_SHARED = "shared "


def shared(name: str) -> str:
    """The same lock for one who only reads: held by several together, while nobody holds it alone."""
    return f"{_SHARED}{name}"


class Locks:
    """Re-entrant per holder. Names are taken in sorted order, so that two calls never wait in a ring."""

    def __init__(self) -> None:
        self._holders: dict[str, str] = {}
        self._sharers: dict[str, set[str]] = {}
        self._freed = asyncio.Condition()

    def holder(self, name: str) -> str:
        """Label of the present holder, of one of those who share it; empty if free."""
        return self._holders.get(name) or next(iter(self._sharers.get(name, ())), "")

    async def hold(self, holder: str, names: Iterable[str], *, patience: float | None = None) -> None:
        """Raises ObjectBusy, having taken nothing, when one of them is not free in time."""
        until = time.monotonic() + (PATIENCE if patience is None else patience)
        taken: list[str] = []
        try:
            for name in sorted(set(names), key=_alone):
                if self._has(holder, name):
                    continue
                await self._take(holder, name, until)
                taken.append(name)
        except BaseException:
            await self._free(holder, taken)
            raise

    def _has(self, holder: str, name: str) -> bool:
        alone = self._holders.get(_alone(name)) == holder
        return alone or (name != _alone(name) and holder in self._sharers.get(_alone(name), ()))

    async def _take(self, holder: str, name: str, until: float) -> None:
        async with self._freed:
            while other := self._in_the_way(holder, name):
                try:
                    async with asyncio.timeout(until - time.monotonic()):
                        await self._freed.wait()
                except TimeoutError:
                    raise ObjectBusy(what=_alone(name).replace(":", " "), holder=other) from None
            if name == _alone(name):
                self._holders[name] = holder
            else:
                self._sharers.setdefault(_alone(name), set()).add(holder)

    def _in_the_way(self, holder: str, name: str) -> str:
        one = self._holders.get(_alone(name), "")
        sharers = self._sharers.get(name, set())  # whoever shares, too, has no name here
        return one or next((other for other in sharers if other != holder), "")

    async def release(self, holder: str) -> None:
        """Free everything the holder has."""
        names = [name for name, other in self._holders.items() if other == holder]
        names += [shared(name) for name, sharers in self._sharers.items() if holder in sharers]
        await self._free(holder, names)

    async def _free(self, holder: str, names: list[str]) -> None:
        if names:
            async with self._freed:
                for name in names:
                    if name == _alone(name):
                        self._holders.pop(name, None)
                        continue
                    sharers = self._sharers.get(_alone(name), set())
                    sharers.discard(holder)
                    if not sharers:
                        self._sharers.pop(_alone(name), None)
                self._freed.notify_all()


def _alone(name: str) -> str:
    return name.removeprefix(_SHARED)

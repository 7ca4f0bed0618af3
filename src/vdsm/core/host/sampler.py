# SPDX-License-Identifier: Apache-2.0
"""Two samples of the computer to compare, taken when somebody asks: an idle daemon samples nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from vdsm.core.ports.links import Links, LinkSample
from vdsm.core.ports.machine import Machine, MachineSample

from .fresh import Fresh
from .network import Picture, draw

_MAX_AGE_S = 1.0  # percents over less than a second are noise of the kernel's 10 ms clock
_BOOT = MachineSample(taken=0.0)  # every counter was zero


class Interval(NamedTuple):
    older: MachineSample
    newer: MachineSample

    @property
    def seconds(self) -> float:
        return max(self.newer.taken - self.older.taken, 0.0)


class Sampler:
    """Call `start` once: it takes the sample that the first one asked for is compared with."""

    def __init__(self, machine: Machine, links: Links, clock: Callable[[], float] = time.monotonic) -> None:
        self._machine = machine
        self._links = links
        self._newest = _BOOT
        self._interval = Fresh(self._advance, _MAX_AGE_S, clock)
        self._counters = Fresh(self._count, _MAX_AGE_S, clock)
        self._picture = Fresh(self._draw, _MAX_AGE_S, clock)
        self._seen: frozenset[str] = frozenset()  # names of all links when the picture was drawn

    async def start(self) -> None:
        await self._interval.get()

    async def interval(self) -> Interval:
        """From when somebody asked before (at first: from boot) to now."""
        return await self._interval.get()

    async def picture(self) -> Picture:
        return await self._picture.get()

    async def counters(self) -> tuple[Picture, LinkSample]:
        """The counters, and the picture with the same names."""
        return await self._counters.get()

    async def _advance(self) -> Interval:
        older, self._newest = self._newest, await self._machine.sample()
        return Interval(older, self._newest)

    async def _draw(self) -> Picture:
        network = await self._links.read()
        self._seen = frozenset(link.name for link in network.links)
        return draw(network)

    async def _count(self) -> tuple[Picture, LinkSample]:
        # Reading all of the network costs three processes, counters one file: only a link that came or went is a
        # reason to read it all.
        picture = self._picture.last or await self._picture.get()
        sample = await self._links.sample(picture.names())
        if sample.counters.keys() != self._seen:
            picture = await self._picture.read_again()
            sample = await self._links.sample(picture.names())
        return picture, sample

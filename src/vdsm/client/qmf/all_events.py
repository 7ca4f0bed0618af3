# SPDX-License-Identifier: Apache-2.0
"""Events of every host on the bus in one stream, also of those that join it later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing

from vdsm.contract.errors import Problem
from vdsm.contract.events import EventFilter, Gap

from .console import Console
from .events import LONGEST_PAUSE, Item, follow
from .hosts import Change, KnownHost

READ_AHEAD = 256  # events of all hosts that wait for a slow reader; the rest stay in the hosts' journals

OnCut = Callable[[KnownHost, str], None]


async def follow_all(
    console: Console,
    wanted: EventFilter,
    *,
    since: Mapping[str, int] | int | None = None,
    on_cut: OnCut = lambda host, reason: None,
) -> AsyncGenerator[tuple[KnownHost, Item], None]:
    """What happens, and where, for ever.

    `since`: the last known id of each host, by its instance; a number for all of them (0: the oldest kept), None: from
    now on. A host whose events cannot be had is told of to `on_cut`; the others go on.
    """
    queue: asyncio.Queue[tuple[KnownHost, Item]] = asyncio.Queue(READ_AHEAD)
    tasks: dict[str, asyncio.Task[None]] = {}

    def begin(change: Change, host: KnownHost) -> None:
        if change is Change.FOUND and host.agent not in tasks:
            start = since.get(host.instance) if isinstance(since, Mapping) else since
            work = _follow_into(queue, console, host, wanted, start, on_cut)
            tasks[host.agent] = asyncio.create_task(work, name=f"events of {host.name}")

    unwatch = console.hosts.watch(begin)
    try:
        for host in console.hosts:
            begin(Change.FOUND, host)
        while True:
            yield await queue.get()
    finally:
        unwatch()
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)


async def _follow_into(
    queue: asyncio.Queue[tuple[KnownHost, Item]],
    console: Console,
    host: KnownHost,
    wanted: EventFilter,
    since: int | None,
    on_cut: OnCut,
) -> None:
    while True:
        try:
            told = follow(console, host.agent, wanted, since=since, on_cut=lambda why: on_cut(host, why))
            async with aclosing(told) as items:
                async for item in items:
                    await queue.put((host, item))
                    since = item.until if isinstance(item, Gap) else item.id
        except Problem as problem:
            on_cut(host, str(problem))
            if not problem.retryable:
                return
        await asyncio.sleep(LONGEST_PAUSE)

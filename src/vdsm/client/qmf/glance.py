# SPDX-License-Identifier: Apache-2.0
"""Every host of a bus at a glance: whether it is there, how many machines it has, how loaded it is."""

from __future__ import annotations

import asyncio
import time

import msgspec

from vdsm.client.exchange import Options
from vdsm.contract import host as verbs
from vdsm.contract.errors import Problem

from . import calls
from .console import Console
from .hosts import KnownHost, State, text_of

AT_ONCE = 64  # hosts that are asked at the same time


class Glance(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One host. What it did not tell is None, and `problem` says why."""

    name: str
    id: str
    state: str  # up, silent, or as the daemon calls it: starting, stopping
    vm_count: int | None = None
    vm_active: int | None = None
    cpu_load: float | None = None  # tasks that want to run, averaged over a minute
    age: float  # seconds since its last sign of life
    version: str = ""
    problem: str = ""


async def glance(console: Console, seconds: float) -> list[Glance]:
    """All hosts that are known to the console; each may take `seconds` to answer."""
    places = asyncio.Semaphore(AT_ONCE)

    async def look(host: KnownHost) -> Glance:
        async with places:
            return await _look(console, host, seconds)

    return list(await asyncio.gather(*(look(host) for host in console.hosts)))


async def _look(console: Console, host: KnownHost, seconds: float) -> Glance:
    said = text_of(host.attributes, "state")
    seen = Glance(
        name=host.name,
        id=host.instance,
        state=host.state if host.state is State.SILENT or said in ("", "ok") else said,
        version=text_of(host.attributes, "version"),
        age=0.0,
    )
    problem, counted = "", {}
    if host.state is State.UP:
        try:
            stats = (await calls.call(console, host.agent, verbs.get_stats, {}, Options(deadline=seconds))).result
            assert stats is not None
            counted = {"vm_count": stats.vm_count, "vm_active": stats.vm_active, "cpu_load": stats.cpu_load}
        except Problem as error:
            problem = str(error)
    age = round(host.age(time.monotonic()), 3)
    return msgspec.structs.replace(seen, age=age, problem=problem, **counted)

# SPDX-License-Identifier: Apache-2.0
"""Machines that stopped for an error of a disk go on by themselves once their storage is well again."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from vdsm.contract.errors import HypervisorUnavailable, Problem
from vdsm.core import background, flow
from vdsm.core.locks import Locks

from .machine import Machine
from .operations import VmOperations
from .table import Table

log = logging.getLogger(__name__)

_STOPPED = ("EIO", "EPERM", "EOTHER")  # not ENOSPC: storage that is full is well, and fills again at once
_AGAIN_S = 60.0  # before it is tried again, and each time twice as long
_AGAIN_MOST_S = 3600.0


class Resumer:
    """`unwell` says of a disk's path whether its storage cannot be used.

    A manager's document may say of a machine that it is not to go on (`resumeBehavior`); without one all do.
    """

    def __init__(
        self,
        table: Table,
        operations: VmOperations,
        locks: Locks,
        unwell: Callable[[str], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._table = table
        self._do = operations
        self._locks = locks
        self._unwell = unwell
        self._clock = clock
        self._tried: dict[str, tuple[float, float]] = {}  # by machine: when, and how long to wait after that
        self._works: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        for work in self._works:
            work.cancel()
        await asyncio.gather(*self._works, return_exceptions=True)

    def look(self, domain_id: str, since: float) -> None:
        """A domain was found well by a look that began at `since`, of the monotonic clock in seconds."""
        now = self._clock()
        self._tried = {vm: tried for vm, tried in self._tried.items() if now < tried[0] + 2 * _AGAIN_MOST_S}
        try:
            rows = [row for row in self._table if _waits(row, domain_id, since)]
        except HypervisorUnavailable:
            return
        for row in rows:
            when, pause = self._tried.get(row.vm_id, (now, 0.0))
            if now >= when + pause and not any(self._unwell(path) for path in _disks(row)):
                self._tried[row.vm_id] = (now, min(max(2 * pause, _AGAIN_S), _AGAIN_MOST_S))
                work = background.begin(self._resume(row), name=f"let {row.name} go on")
                self._works.add(work)
                work.add_done_callback(self._works.discard)

    async def _resume(self, row: Machine) -> None:
        holder = f"storage is well#{row.vm_id}"
        mark = flow.current.set(flow.new())
        try:
            await self._locks.hold(holder, [f"vm:{row.vm_id}"], patience=0.0)
            log.warning("%s stopped for a disk's error (%s) and goes on", row.name, row.pause_code)
            await self._do.resume(row.vm_id).run()
        except Problem as problem:
            log.warning("%s does not go on: %s", row.name, problem)
        finally:
            await self._locks.release(holder)
            flow.current.reset(mark)


def _waits(row: Machine, domain_id: str, since: float) -> bool:
    """Whether it stopped before that look, for an error of a disk, perhaps of this domain."""
    return (
        row.ours
        and row.pause_code in _STOPPED
        and row.view.resumes
        and row.status_time < since * 1000
        and any(domain_id in path.split("/") for path in _disks(row))
    )


def _disks(row: Machine) -> list[str]:
    return [device.path for device in row.view.devices if device.type == "disk"]

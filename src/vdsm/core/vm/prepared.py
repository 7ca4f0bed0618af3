# SPDX-License-Identifier: Apache-2.0
"""The links to images that machines run with, where managers and their tools look: below `[storage] prepared`.

There from before a machine starts until it is down, whoever ended it, also while no daemon looked: which links were
made for whom is kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Coroutine

import msgspec

from vdsm.contract.errors import Problem
from vdsm.core import background
from vdsm.core.ports.store import StorageLog
from vdsm.core.storage.format import layout
from vdsm.core.storage.repository import Repository
from vdsm.core.storage.volume_operations import VolumeOperations

from .drives import Drive
from .machine import Machine
from .spots import Spot, Spots
from .table import Table

log = logging.getLogger(__name__)

_KIND = "prepared"


class Links(msgspec.Struct, frozen=True):
    """What was made for one machine: DOMAIN/IMAGE."""

    vm_id: str
    links: list[str]


class Prepared:
    def __init__(
        self,
        repository: Repository,
        spots: Spots,
        operations: VolumeOperations,
        storage_log: StorageLog,
        table: Table,
        directory: str,
    ) -> None:
        self._repository = repository
        self._spots = spots
        self._do = operations
        self._log = storage_log
        self._table = table
        self._directory = directory
        self._made: dict[str, set[str]] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._settling: set[asyncio.Task[None]] = set()
        table.on_down = self._note_down

    async def open(self) -> None:
        """Take up what the last daemon made, with the storage open: what is not wanted any more goes as soon as the
        machines are known. Raises StateUnavailable.
        """
        for body in await self._log.all(_KIND):
            row = msgspec.json.decode(body, type=Links)
            self._made[row.vm_id] = set(row.links)
        if self._made:
            self._start(self._settle_all())

    async def close(self) -> None:
        for task in self._settling:
            task.cancel()
        await asyncio.gather(*self._settling, return_exceptions=True)

    async def _settle_all(self) -> None:
        await self._table.loaded()
        for vm_id in list(self._made):
            await self._settle_quietly(vm_id)

    def _note_down(self, vm_id: str) -> None:
        if vm_id in self._made:
            self._start(self._settle_quietly(vm_id))

    def _start(self, work: Coroutine[object, object, None]) -> None:
        task = background.begin(work, name="remove links to images")
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _settle_quietly(self, vm_id: str) -> None:
        try:
            await self.settle(vm_id)
        except Problem as problem:
            log.warning("links to the images of %s are left below %s: %s", vm_id, self._directory, problem)

    async def add(self, vm_id: str, drives: list[Drive]) -> None:
        """Before a machine starts with them, or they are plugged in."""
        async with self._locks[vm_id]:
            made = self._made.get(vm_id, set())
            wanted = self._links(drives)
            await self._keep(vm_id, made | wanted)
            for link in sorted(wanted):
                domain_id, _, image_id = link.partition("/")
                target = f"{self._repository.find(domain_id).directory}/{layout.image(image_id)}"
                await self._do.link_image(self._directory, link, target).run()

    async def settle(self, vm_id: str) -> None:
        """Remove the links that the machine, as it is now, does not want."""
        async with self._locks[vm_id]:
            row = self._table.find(vm_id)
            made = self._made.get(vm_id, set())
            wanted = self._links(row.view.drives) if row is not None and wants(row) else set()
            others = set().union(*(links for other, links in self._made.items() if other != vm_id))
            for link in sorted(made - wanted - others):
                await self._do.unlink_image(self._directory, link).run()
            await self._keep(vm_id, made & wanted)

    def _links(self, drives: list[Drive]) -> set[str]:
        spots = [spot for drive in drives if (spot := self._spots.of(drive.path)) is not None]
        return {_link(spot) for spot in spots}

    async def _keep(self, vm_id: str, links: set[str]) -> None:
        if links == self._made.get(vm_id, set()):
            return
        if links:
            self._made[vm_id] = links
            await self._log.put(_KIND, vm_id, msgspec.json.encode(Links(vm_id, sorted(links))))
        else:
            self._made.pop(vm_id, None)
            await self._log.delete(_KIND, vm_id)


def wants(row: Machine) -> bool:
    """Whether it runs, or is about to."""
    return row.active or row.launching


def _link(spot: Spot) -> str:
    return f"{spot.domain_id}/{spot.image_id}"

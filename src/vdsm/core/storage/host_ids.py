# SPDX-License-Identifier: Apache-2.0
"""This host's ids in domains with leases: taken in the background, and again whenever they are lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, field

from vdsm.contract.errors import Problem
from vdsm.contract.errors_storage import AcquireHostIdFailure, LockManagerUnavailable
from vdsm.contract.storage_words import StorageDomainImageClass
from vdsm.core import background
from vdsm.core.ports.leases import Leases, Lockspace
from vdsm.core.steps import report

from .domain_leases import lockspace
from .records import Domain, PoolRecord
from .repository import Repository

log = logging.getLogger(__name__)

LOOK_S = 2.0  # between two looks whether sanlock still has it
PATIENCE_S = 180.0  # for one to be taken, as published
_UNTRIED = "it was not tried yet"


@dataclass(slots=True)
class _Keeper:
    """Takes one host id, and sees to it that it stays taken."""

    host_id: int
    work: asyncio.Task[None] | None = None
    space: Lockspace | None = None  # where it may be taken
    joined: bool = False
    reason: str = _UNTRIED
    doubt: asyncio.Event = field(default_factory=asyncio.Event)


class HostIds:
    """sanlock keeps them while the daemon is away: the next one finds them taken."""

    def __init__(self, leases: Leases, repository: Repository, *, look_s: float = LOOK_S) -> None:
        self._leases = leases
        self._repository = repository
        self._look_s = look_s
        self._keepers: dict[str, _Keeper] = {}
        self._changed = asyncio.Condition()

    def open(self) -> None:
        """Take up those of the pools that the last daemon was connected to."""
        for pool in self._repository.pools():
            if pool.leases:
                self.join_all(pool)

    async def settled(self) -> None:
        """Wait until each was tried once; sanlock may have some still, of the daemon before."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S), self._changed:
                await self._changed.wait_for(lambda: all(k.reason != _UNTRIED for k in self._keepers.values()))

    async def close(self) -> None:
        works = [keeper.work for keeper in self._keepers.values() if keeper.work is not None]
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)

    def join_all(self, pool: PoolRecord) -> None:
        """In the pool's active domains. Raises AcquireHostIdFailure."""
        for domain_id in pool.active():
            self.join(domain_id, pool.host_id)

    def join(self, domain_id: str, host_id: int) -> None:
        """Begin to take it: that takes some times the domain's I/O timeout. The same one again is fine.

        Raises AcquireHostIdFailure: this host has another id there.
        """
        keeper = self._keepers.get(domain_id)
        if keeper is None:
            keeper = self._keepers[domain_id] = _Keeper(host_id)
            self._begin(domain_id, keeper)
        elif keeper.host_id != host_id:
            raise AcquireHostIdFailure(
                host_id=host_id, lockspace=domain_id, reason=f"this host is number {keeper.host_id} there"
            )

    def _begin(self, domain_id: str, keeper: _Keeper) -> None:
        keeper.work = background.begin(self._keep(domain_id, keeper), name=f"host id in {domain_id}")

    async def leave(self, domain_id: str) -> None:
        """Never joined is fine, and so is a sanlock that does not run. Raises ReleaseHostIdFailure: it stays taken."""
        if (keeper := self._keepers.get(domain_id)) is None:
            return
        if keeper.work is not None:
            keeper.work.cancel()
            await asyncio.gather(keeper.work, return_exceptions=True)
        try:
            if keeper.space is not None:
                with contextlib.suppress(LockManagerUnavailable):
                    await self._leases.leave(keeper.space, keeper.host_id)
        except BaseException:
            self._begin(domain_id, keeper)
            raise
        self._keepers.pop(domain_id, None)

    def joined(self, domain_id: str) -> bool:
        keeper = self._keepers.get(domain_id)
        return keeper is not None and keeper.joined

    def number(self, domain_id: str) -> int | None:
        """Which one it takes, or has taken."""
        keeper = self._keepers.get(domain_id)
        return keeper.host_id if keeper is not None else None

    def doubt(self) -> None:
        """Look at once: something was lost."""
        for keeper in self._keepers.values():
            keeper.doubt.set()

    def check(self, domain_id: str, host_id: int) -> None:
        """Raises AcquireHostIdFailure where it is not taken."""
        if not self.joined(domain_id):
            keeper = self._keepers.get(domain_id)
            reason = keeper.reason if keeper is not None else "this host is not connected to its pool"
            raise AcquireHostIdFailure(host_id=host_id, lockspace=domain_id, reason=reason)

    async def wait(self, domain_id: str, host_id: int, *, seconds: float = PATIENCE_S) -> None:
        """Until it is taken. Raises AcquireHostIdFailure."""
        begun = time.monotonic()
        async with self._changed:
            while not self.joined(domain_id) and time.monotonic() < begun + seconds:
                report((time.monotonic() - begun) / seconds)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(1.0, seconds)):
                        await self._changed.wait()
        self.check(domain_id, host_id)

    async def _keep(self, domain_id: str, keeper: _Keeper) -> None:
        while True:
            try:
                domain = await self._repository.usable(domain_id)
                if domain.metadata().domain_class is StorageDomainImageClass.ISO:
                    return  # hosts of several pools may use it, each with numbers of its own: none holds anything there
                await self._hold(domain, keeper)
                await self._tell(domain_id, keeper, "it was lost")
            except Problem as problem:
                await self._tell(domain_id, keeper, str(problem))
            await asyncio.sleep(self._look_s)

    async def _hold(self, domain: Domain, keeper: _Keeper) -> None:
        """Take it; back when it is lost."""
        space = keeper.space = lockspace(domain.directory, domain.metadata())
        await self._leases.join(space, keeper.host_id, io_timeout=domain.metadata().io_timeout_s)
        await self._tell(domain.id, keeper, "")
        while await self._leases.joined(space, keeper.host_id):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._look_s):
                    await keeper.doubt.wait()
            keeper.doubt.clear()

    async def _tell(self, domain_id: str, keeper: _Keeper, reason: str) -> None:
        """`reason`: why it is not taken; empty when it is."""
        if reason != keeper.reason:
            log.log(
                logging.ERROR if reason else logging.INFO,
                "host id %d in storage domain %s: %s",
                keeper.host_id,
                domain_id,
                reason or "taken",
            )
        keeper.joined, keeper.reason = not reason, reason
        async with self._changed:
            self._changed.notify_all()

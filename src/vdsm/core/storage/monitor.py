# SPDX-License-Identifier: Apache-2.0
"""Whether each domain's storage answers: a task for each reads the domain past the page cache, again and again.

One that hangs occupies its own task and the worker that probes its root, and nothing else. What is found out is kept
in the repository, so that verbs on a domain that hangs fail at once, and it is used again when it answers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from vdsm.contract.errors import DeadlineExceeded, Problem, TooBusy
from vdsm.contract.errors_domains import StorageDomainDoesNotExist, StorageDomainFSNotMounted
from vdsm.contract.errors_storage import FileMissing
from vdsm.contract.host_stats import StorageDomainVitals
from vdsm.core import background
from vdsm.core.ports.deadline import within
from vdsm.core.ports.files import Files, Space

from .finder import NO_METADATA
from .format import domain_meta, layout
from .records import Domain
from .repository import Repository

log = logging.getLogger(__name__)

HANGS = "its storage does not answer"
_MOUNT_S = 30.0  # for what is not mounted to be mounted again
# Published codes, which managers tell apart.
_WELL, _UNKNOWN, _UNREADABLE, _DAMAGED = 0, 200, 2001, 753
_GONE, _NOT_MOUNTED = StorageDomainDoesNotExist.code, StorageDomainFSNotMounted.code


@dataclass(slots=True)
class _Watch:
    """Over one domain. Times are of the monotonic clock."""

    began: float
    work: asyncio.Task[None] | None = None
    checked: float | None = None
    delay: float = 0.0
    code: int = _UNKNOWN
    space: Space | None = None


class Monitor:
    """`acquired` says whether this host has what it needs in a domain: its host id, where there are leases.

    `interval` is between the end of a check and the next; one that takes longer than `patience` hangs. Seconds.
    `well` is told of each domain that was found well, and when that look began.
    """

    def __init__(
        self,
        files: Files,
        repository: Repository,
        acquired: Callable[[Domain], bool],
        interval: float,
        patience: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._files = files
        self._repository = repository
        self._acquired = acquired
        self._interval = interval
        self._patience = patience
        self._clock = clock
        self._watches: dict[str, _Watch] = {}
        self.well: Callable[[str, float], None] = lambda domain_id, began: None

    def open(self) -> None:
        """Watch every domain there is, and from now on those that come."""
        self._repository.changed = self._follow
        self._follow()

    async def close(self) -> None:
        self._repository.changed = lambda: None
        works = [watch.work for watch in self._watches.values() if watch.work is not None]
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)

    def vitals(self) -> dict[str, StorageDomainVitals]:
        """How every domain does; from what is known, without looking."""
        now = self._clock()
        return {
            domain.id: self._vitals(domain, self._watches[domain.id], now)
            for domain in self._repository
            if domain.id in self._watches
        }

    def _vitals(self, domain: Domain, watch: _Watch, now: float) -> StorageDomainVitals:
        valid, actual = domain.meta is not None, watch.checked is not None
        return StorageDomainVitals(
            code=_WELL if valid or not actual else watch.code or _UNKNOWN,
            valid=valid,
            actual=actual,
            acquired=self._acquired(domain),
            version=domain_meta.VERSION,
            last_check=round(now - (watch.checked or watch.began), 1),
            delay=round(watch.delay, 6),
        )

    def space(self, domain_id: str) -> Space | None:
        """As it was at the last look, if there was one."""
        watch = self._watches.get(domain_id)
        return watch.space if watch is not None else None

    def unwell(self, path: str) -> bool:
        """Whether a file is in a domain that cannot be used now."""
        names = path.split("/")
        return any(domain.id in names and domain.meta is None for domain in self._repository)

    def by_state(self) -> dict[str, int]:
        return Counter(domain.state.value for domain in self._repository)

    # ---- watching --------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        there = {domain.id for domain in self._repository}
        for domain_id in self._watches.keys() - there:
            watch = self._watches.pop(domain_id)
            if watch.work is not None:
                watch.work.cancel()
        for domain_id in there - self._watches.keys():
            watch = self._watches[domain_id] = _Watch(self._clock())
            watch.work = background.begin(self._watch(domain_id, watch), name=f"watch storage {domain_id}")

    async def _watch(self, domain_id: str, watch: _Watch) -> None:
        while True:
            began = self._clock()
            try:
                watch.code = await self._check(self._repository.find(domain_id), watch)
            except TooBusy as busy:  # which says nothing of the domain
                log.warning("storage domain %s was not looked at: %s", domain_id, busy)
            except StorageDomainDoesNotExist:
                return
            except Exception:  # a defect must not end the watch
                log.exception("looking at storage domain %s", domain_id)
            else:
                watch.checked = self._clock()
                if watch.code == _WELL:
                    self.well(domain_id, began)
                else:
                    watch.delay = watch.checked - began
            await asyncio.sleep(self._interval)

    async def _check(self, domain: Domain, watch: _Watch) -> int:
        """Its code. Raises TooBusy, StorageDomainDoesNotExist."""
        try:
            with within(_MOUNT_S):
                await self._repository.reach(domain.connection)
        except TooBusy:
            raise
        except Problem:
            return _NOT_MOUNTED
        try:
            with within(self._patience):
                return await self._read(domain, watch)
        except DeadlineExceeded:
            self._repository.lose(domain.id, HANGS)
            return _UNREADABLE
        except (TooBusy, StorageDomainDoesNotExist):
            raise
        except Problem as problem:
            self._repository.lose(domain.id, str(problem))
            return _UNREADABLE

    async def _read(self, domain: Domain, watch: _Watch) -> int:
        try:
            watch.delay = await self._files.probe(domain.root, domain.path(layout.METADATA))
            watch.space = await self._files.space(domain.root)
        except FileMissing:  # reading it says so again, and keeps it
            pass
        else:
            self._repository.note(domain.id, read_only=watch.space.read_only)
        fresh = await self._repository.read(domain.id)
        if fresh.meta is not None:
            return _WELL
        return _GONE if fresh.fault == NO_METADATA else _DAMAGED

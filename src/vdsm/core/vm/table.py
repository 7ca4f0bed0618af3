# SPDX-License-Identifier: Apache-2.0
"""Every machine of the host, kept true by the hypervisor's events, and telling the journal what changed.

libvirt is the truth; this is its reflection. An event changes the row at once; the document is read again behind it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable, Coroutine, Iterator

import msgspec

from vdsm.contract.errors import HypervisorUnavailable, NoSuchVM, Problem
from vdsm.contract.events import HypervisorBack, HypervisorLost, VMDefined, VMRemoved
from vdsm.contract.vm_info import VmState
from vdsm.core import flow
from vdsm.core.journal import Journal, monotonic_ms
from vdsm.core.ports.hypervisor import Domain, DomainEvent, DomainEventKind, DomainState, Hypervisor

from . import status
from .describe import view
from .machine import BOOTING, Machine, Phase

log = logging.getLogger(__name__)

LAUNCH = 600.0  # seconds a start may take
RELOAD_EVERY = 2.0  # seconds between attempts to read everything, while that fails
_NEW_DOCUMENT = (
    DomainEventKind.DEFINED,
    DomainEventKind.STARTED,
    DomainEventKind.STOPPED,
    DomainEventKind.DEVICES,
    DomainEventKind.DISK_JOB,
)
CAUSE_FRESH = 10.0  # seconds in which a change libvirt reports is put down to the call that last touched the machine


class Table:
    """`owner` names the domains that are ours among those that carry vdsm's mark."""

    def __init__(self, hypervisor: Hypervisor, journal: Journal, owner: str) -> None:
        self._hypervisor = hypervisor
        self._journal = journal
        self._owner = owner
        self._rows: dict[str, Machine] = {}
        self._inbox: defaultdict[str, deque[DomainEvent]] = defaultdict(deque)
        self._workers: dict[str, asyncio.Task[None]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._waiters: list[asyncio.Future[None]] = []
        self._causes: dict[str, tuple[float, str]] = {}
        self._loaded = asyncio.Event()
        self.on_down: Callable[[str], None] = lambda vm_id: None  # a machine that ran does not any more, or is gone
        hypervisor.watch(self._receive)

    async def open(self) -> None:
        """Read every domain, in the background until libvirt answers."""
        await self._hypervisor.open()
        self._start("", self._load())

    async def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        for worker in list(self._workers.values()):
            worker.cancel()
        await asyncio.gather(*self._workers.values(), return_exceptions=True)
        await self._hypervisor.close()

    async def loaded(self) -> None:
        """Wait until the table has been read for the first time."""
        await self._loaded.wait()

    # ---- reading ---------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Machine]:
        self._require()
        return iter(list(self._rows.values()))

    def get(self, vm_id: str) -> Machine:
        """Raises NoSuchVM."""
        self._require()
        try:
            return self._rows[vm_id]
        except KeyError:
            raise NoSuchVM(vm=vm_id) from None

    def find(self, vm_id: str) -> Machine | None:
        return self._rows.get(vm_id)

    def named(self, name: str) -> Machine | None:
        return next((row for row in self._rows.values() if row.name == name), None)

    async def wait_for(self, vm_id: str, wanted: Callable[[Machine | None], bool], seconds: float) -> bool:
        """Until `wanted` holds of the row (None: it is gone); false when it did not within `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                while not wanted(self._rows.get(vm_id)):
                    waiter = asyncio.get_running_loop().create_future()
                    self._waiters.append(waiter)
                    await waiter
        except TimeoutError:
            return False
        return True

    def _require(self) -> None:
        """An empty table is no proof that there are no machines. Raises HypervisorUnavailable."""
        if not self._loaded.is_set():
            raise HypervisorUnavailable(reason="it has not answered since the daemon started")

    # ---- writing ---------------------------------------------------------------------------------------------------

    def touch(self, vm_id: str) -> None:
        """What libvirt reports of this machine from now on is this call's doing."""
        self._causes[vm_id] = (time.monotonic(), flow.current.get())

    def enter(self, vm_id: str, phase: Phase | None, seconds: float = 0.0, reason: str = "") -> None:
        """Something is under way that libvirt does not show."""
        row = self.get(vm_id)
        row.enter(phase, seconds)
        self._settle(row, reason)

    def expect(self, vm_id: str, name: str, document: str) -> None:
        """List a machine that a call is about to make and start, so that it is never missed by who was told of it."""
        domain = Domain(
            vm_id=vm_id,
            name=name,
            state=DomainState.SHUT_OFF,
            reason="",
            persistent=False,
            autostart=False,
            xml=document,
        )
        until = time.monotonic() + LAUNCH
        self._rows[vm_id] = Machine(
            domain, view(document), ours=True, phase=Phase.LAUNCHING, phase_until=until, expected=True
        )

    def fail(self, vm_id: str, reason: str) -> None:
        """A machine that was about to start will not."""
        row = self._rows.get(vm_id)
        if row is not None and row.phase is Phase.LAUNCHING:
            row.failure = status.did_not_start(reason)
            row.enter(None)
            self._settle(row, "it did not start")

    def forgo(self, vm_id: str) -> None:
        """The call that was about to make it is over: if it did not, nobody will."""
        row = self._rows.get(vm_id)
        if row is not None and row.expected:
            self.fail(vm_id, "It was not made")
            self._remove(vm_id)

    def announce(self, vm_id: str, change: str) -> None:
        """A change that libvirt does not report by itself."""
        row = self.get(vm_id)
        self._journal.publish(VMDefined(vm_id=vm_id, vm_name=row.name, change=change), flow_id=self._cause(vm_id))

    async def resync(self, vm_id: str) -> Machine | None:
        """Read one domain again, its state as well; None if it is gone."""
        return await self._read(vm_id, "read again", with_state=True)

    async def _read(self, vm_id: str, reason: str, *, with_state: bool) -> Machine | None:
        try:
            domain = await self._hypervisor.domain(vm_id)
        except NoSuchVM:
            self._remove(vm_id)
            return None
        return self._put(domain, reason=reason, with_state=with_state)

    # ---- events ----------------------------------------------------------------------------------------------------

    def _receive(self, event: DomainEvent) -> None:
        if event.kind is DomainEventKind.LOST:
            self._journal.publish(HypervisorLost(reason=event.detail))
        elif event.kind is DomainEventKind.BACK:
            if self._loaded.is_set():
                self._journal.publish(HypervisorBack())
            self._start("", self._load())
        else:
            self._inbox[event.vm_id].append(event)
            if event.vm_id not in self._workers:
                self._start(event.vm_id, self._work(event.vm_id))

    def _start(self, vm_id: str, work: Coroutine[None, None, None]) -> None:
        """In the background; an empty id is the reading of everything, which a newer one replaces."""
        if (old := self._workers.get(vm_id)) is not None:
            old.cancel()
        worker = self._workers[vm_id] = asyncio.create_task(work, name=f"table {vm_id}")
        worker.add_done_callback(lambda done: self._ended(vm_id, done))

    def _ended(self, vm_id: str, worker: asyncio.Task[None]) -> None:
        if self._workers.get(vm_id) is worker:
            del self._workers[vm_id]
        if not worker.cancelled() and (error := worker.exception()) is not None:
            log.error("following %s failed by a defect", vm_id or "libvirt", exc_info=error)

    async def _load(self) -> None:
        while True:
            try:
                domains = await self._hypervisor.domains()
                break
            except Problem as problem:
                log.warning("libvirt cannot be read yet: %s", problem)
                await asyncio.sleep(RELOAD_EVERY)
        for vm_id in self._rows.keys() - {domain.vm_id for domain in domains}:
            if not self._rows[vm_id].expected:
                self._remove(vm_id)
        for domain in domains:
            self._put(domain, reason="read again", with_state=True)
            if (domain.state, domain.reason) == (DomainState.PAUSED, "ioerror"):
                self._receive(DomainEvent(kind=DomainEventKind.IO_ERROR, vm_id=domain.vm_id))
        if not self._loaded.is_set():
            self._loaded.set()
            for row in self:  # what changed while no daemon looked is said at least once
                if row.ours:
                    self._journal.publish(row.event("daemon started"))
        self._notify()

    async def _work(self, vm_id: str) -> None:
        """One machine's events, in order; a machine that hangs delays only its own."""
        inbox = self._inbox[vm_id]
        while inbox:
            event = inbox.popleft()
            try:
                await self._apply(event)
            except Problem as problem:
                log.warning("%s of %s: cannot be read again: %s", event.kind, vm_id, problem)
        del self._inbox[vm_id]
        # Now: an event that came before the task is seen to be done would wait for the next one.
        del self._workers[vm_id]

    async def _apply(self, event: DomainEvent) -> None:
        row = self._rows.get(event.vm_id)
        if event.kind is DomainEventKind.UNDEFINED:
            await self._read(event.vm_id, "", with_state=False)  # a running domain lives on without its definition
            return
        if row is None:
            if (row := await self._read(event.vm_id, "", with_state=False)) is not None:
                self._note_phase(row, event)
                self._settle(row, event.detail or event.kind.value)
            return
        if event.kind is DomainEventKind.RESUMED and not row.active:
            return  # libvirt says "resumed" just before "started"; the latter is told with the running document
        if event.kind is DomainEventKind.IO_ERROR:
            await self._note_io_error(row, event.detail)
            return
        reason = event.detail or event.kind.value
        if (state := status.AFTER_EVENT.get(event.kind)) is not None:
            row.domain = msgspec.structs.replace(row.domain, state=state, reason=event.detail)
            if state is not DomainState.PAUSED:
                row.io_error = ""
        self._note_phase(row, event)
        if event.kind is not DomainEventKind.STARTED:  # a start is told with the document of the running machine
            self._settle(row, reason)
        if event.kind in _NEW_DOCUMENT:
            try:
                await self._read(event.vm_id, reason, with_state=False)
            finally:
                self._settle(row, reason)
        if event.kind in (DomainEventKind.DEFINED, DomainEventKind.DEVICES):
            self.announce(event.vm_id, event.detail or "devices")

    async def _note_io_error(self, row: Machine, word: str) -> None:
        """Without a word the error itself was missed: QEMU still knows it. A Paused that was told is told again."""
        word = word or await self._hypervisor.io_error(row.vm_id)
        before, row.io_error = row.pause_code, word
        if row.pause_code != before:
            self._journal.publish(row.event("ioerror"))

    def _note_phase(self, row: Machine, event: DomainEvent) -> None:
        match event.kind:
            case DomainEventKind.STARTED | DomainEventKind.REBOOTED:
                row.started, row.failure = time.time(), None
                row.boots += 1
                self._boot(row)
            case DomainEventKind.AGENT if event.detail == "connected" and row.phase is Phase.BOOTING:
                row.enter(None)
            case DomainEventKind.STOPPED if row.phase is not Phase.LAUNCHING:  # else `fail` has the reason in a moment
                row.enter(None)

    def _boot(self, row: Machine) -> None:
        row.enter(Phase.BOOTING if row.view.has_agent else None, BOOTING)
        self._wake(row, BOOTING)

    def _wake(self, row: Machine, seconds: float) -> None:
        """Look at the status again when its phase has run out."""
        if (old := self._timers.pop(row.vm_id, None)) is not None:
            old.cancel()
        later = asyncio.get_running_loop().call_later
        self._timers[row.vm_id] = later(seconds + 0.1, lambda: self._settle(row, "timeout"))

    def _settle(self, row: Machine, reason: str) -> None:
        """Say so if the status is another now."""
        now = row.current_status()
        if now is not row.status and self._rows.get(row.vm_id) is row:
            row.status, row.status_time = now, monotonic_ms()
            self._journal.publish(row.event(reason), flow_id=self._cause(row.vm_id))
            if now is VmState.DOWN:
                self.on_down(row.vm_id)
        self._notify()

    def _put(self, domain: Domain, *, reason: str, with_state: bool) -> Machine:
        """Take in a domain as read. For a known one the state comes from the events, which are in order, unless
        `with_state`: then events were missed and the reading is what there is."""
        seen = view(domain.xml)
        ours = seen.owner == self._owner
        row = self._rows.get(domain.vm_id)
        if row is None:
            row = self._rows[domain.vm_id] = Machine(domain, seen, ours)
            if self._loaded.is_set():
                self.announce(row.vm_id, "created")
            self._notify()
            return row
        if not with_state:
            domain = msgspec.structs.replace(domain, state=row.domain.state, reason=row.domain.reason)
        status_before, hash_before = row.status, row.view.hash
        row.domain, row.view, row.ours = domain, seen, ours
        if row.phase is Phase.LAUNCHING and row.active:  # read before libvirt's event of it came: not Up yet
            self._boot(row)
        if row.expected:
            row.expected = False
            self.announce(row.vm_id, "created")
            self._journal.publish(row.event("starting"), flow_id=self._cause(row.vm_id))
        self._settle(row, reason)
        if row.active and row.status is status_before and hash_before != seen.hash:
            self._journal.publish(row.event("devices"), flow_id=self._cause(row.vm_id))
        return row

    def _remove(self, vm_id: str) -> None:
        if (row := self._rows.pop(vm_id, None)) is not None:
            self._journal.publish(VMRemoved(vm_id=vm_id, vm_name=row.name), flow_id=self._cause(vm_id))
            self._causes.pop(vm_id, None)
            self.on_down(vm_id)
            if (timer := self._timers.pop(vm_id, None)) is not None:
                timer.cancel()
        self._notify()

    def _cause(self, vm_id: str) -> str:
        when, flow_id = self._causes.get(vm_id, (0.0, ""))
        return flow_id if time.monotonic() - when < CAUSE_FRESH else ""

    def _notify(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

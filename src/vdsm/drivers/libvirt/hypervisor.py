# SPDX-License-Identifier: Apache-2.0
"""The `Hypervisor` port: which call goes over which line, and what the core hears of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from pathlib import Path
from typing import TypeVar

import libvirt

from vdsm.contract import ByteStream
from vdsm.contract.errors import DeadlineExceeded, Problem
from vdsm.contract.types import Secret
from vdsm.core.ports import deadline
from vdsm.core.ports.hypervisor import (
    CommitJob,
    Domain,
    DomainEvent,
    DomainEventKind,
    DomainSample,
    HypervisorFacts,
    ShutdownWay,
)

from . import capabilities, console, devices, disks, domains, events
from .connection import Connection, Line
from .kvm import KvmTrial
from .stats import Sampler

T = TypeVar("T")

log = logging.getLogger(__name__)

_SLOW_S = 120.0  # a start makes QEMU read its disks; libvirt may first ask QEMU for its capabilities


_FACTS_S = 2 * _SLOW_S


def _note_failure(task: asyncio.Task[HypervisorFacts]) -> None:
    if not task.cancelled() and isinstance(problem := task.exception(), Problem):
        log.warning("the hypervisor's capabilities cannot be read: %s", problem)


class LibvirtHypervisor:
    """`uri`: by default the host's libvirt for root, else the user's own.

    `cache_dir` is where the outcome of trying KVM is kept until the host boots again, and where the test guest is for
    a moment: QEMU's user must be able to enter it. Without it KVM is tried at each start.
    """

    def __init__(self, uri: str = "", *, cache_dir: Path | None = None) -> None:
        self._reading = Line("reading")
        self._control = Line("control", connections=2)
        self._slow = Line("slow")
        monitor = Line("monitor")
        self._connection = Connection(
            uri,
            [self._reading, self._control, self._slow, monitor],
            subscribe=lambda conn: events.subscribe(conn, self._hand_over),
            lost=self._note_lost,
            back=self._note_back,
        )
        self._sampler = Sampler(self._reading, monitor)
        self._hidden: set[str] = set()  # our own test guests
        self._trial = KvmTrial(cache_dir, self._hidden.add)
        self._sink: Callable[[DomainEvent], None] = lambda event: None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._facts: asyncio.Task[HypervisorFacts] | None = None

    # ---- connection --------------------------------------------------------------------------------------------------

    def watch(self, sink: Callable[[DomainEvent], None]) -> None:
        self._sink = sink

    async def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._connection.open()
        self._begin_facts()

    async def close(self) -> None:
        self._loop = None
        await self._drop_facts()
        await self._sampler.close()
        await self._connection.close()

    def _hand_over(self, event: DomainEvent) -> None:
        """From libvirt's event thread to the loop."""
        loop = self._loop
        if loop is not None and event.vm_id not in self._hidden:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._sink, event)

    def _note_lost(self, reason: str) -> None:
        self._sampler.forget()
        self._sink(DomainEvent(kind=DomainEventKind.LOST, detail=reason))

    def _note_back(self) -> None:
        if self._facts is not None and self._facts.done():
            self._facts = None  # libvirt or QEMU may be of another version now
        self._sink(DomainEvent(kind=DomainEventKind.BACK))

    # ---- reading -----------------------------------------------------------------------------------------------------

    async def facts(self) -> HypervisorFacts:
        seconds = deadline.remaining(_FACTS_S)
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(self._begin_facts())  # one who gives up must not end it for the others
        except TimeoutError:
            raise DeadlineExceeded(what="reading capabilities", seconds=f"{seconds:.3g}") from None

    def _begin_facts(self) -> asyncio.Task[HypervisorFacts]:
        task = self._facts
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            # In a context of its own: it is not bound by the deadline of whoever asks first.
            task = asyncio.create_task(self._read_facts(), name="libvirt facts", context=Context())
            task.add_done_callback(_note_failure)
            self._facts = task
        return task

    async def _read_facts(self) -> HypervisorFacts:
        offered = await self._slow.run("reading capabilities", capabilities.offer, most=_SLOW_S)
        verdict = await self._trial.verdict(self._slow, offered)
        return await self._slow.run(
            "reading capabilities", lambda conn: capabilities.facts(conn, offered, verdict), most=_SLOW_S
        )

    async def _drop_facts(self) -> None:
        if self._facts is not None:
            self._facts.cancel()
            await asyncio.wait({self._facts})
            self._facts = None

    async def domains(self) -> Sequence[Domain]:
        found = await self._reading.run("listing domains", domains.read_all)
        return [domain for domain in found if domain.vm_id not in self._hidden]

    async def domain(self, vm_id: str) -> Domain:
        return await self._reading.run("reading a domain", lambda conn: domains.read(conn, vm_id), vm=vm_id)

    async def io_error(self, vm_id: str) -> str:
        return await self._ask("reading disk errors", vm_id, lambda conn: domains.io_error(conn, vm_id))

    async def samples(self) -> Sequence[DomainSample]:
        return [sample for sample in await self._sampler.samples() if sample.vm_id not in self._hidden]

    # ---- definitions -------------------------------------------------------------------------------------------------

    async def define(self, xml: str) -> None:
        await self._slow.run("defining", lambda conn: domains.define(conn, xml), most=_SLOW_S)

    async def undefine(self, vm_id: str) -> None:
        await self._ask("undefining", vm_id, lambda conn: domains.undefine(conn, vm_id))

    async def set_autostart(self, vm_id: str, enabled: bool) -> None:
        await self._ask("set autostart", vm_id, lambda conn: domains.set_autostart(conn, vm_id, enabled=enabled))

    async def rename(self, vm_id: str, name: str) -> None:
        await self._ask("renaming", vm_id, lambda conn: domains.rename(conn, vm_id, name))

    # ---- power -------------------------------------------------------------------------------------------------------

    async def start(self, vm_id: str, *, paused: bool) -> None:
        await self._slow.run(
            "starting", lambda conn: domains.start(conn, vm_id, paused=paused), vm=vm_id, key=vm_id, most=_SLOW_S
        )

    async def power_off(self, vm_id: str, *, graceful: bool) -> None:
        # Over the slow line, where no call that hangs on this domain's monitor holds it up: it is the way out.
        await self._slow.run("powering off", lambda conn: domains.power_off(conn, vm_id, graceful=graceful), vm=vm_id)

    async def ask_shutdown(self, vm_id: str, way: ShutdownWay, *, reboot: bool) -> None:
        await self._ask(
            "asking for a shutdown", vm_id, lambda conn: domains.ask_shutdown(conn, vm_id, way, reboot=reboot)
        )

    async def suspend(self, vm_id: str) -> None:
        await self._ask("suspending", vm_id, lambda conn: domains.suspend(conn, vm_id))

    async def resume(self, vm_id: str) -> None:
        await self._ask("resuming", vm_id, lambda conn: domains.resume(conn, vm_id))

    async def reset(self, vm_id: str) -> None:
        await self._ask("resetting", vm_id, lambda conn: domains.reset(conn, vm_id))

    # ---- screen, disc ------------------------------------------------------------------------------------------------

    async def screenshot(self, vm_id: str) -> tuple[str, bytes]:
        return await self._ask("taking a picture", vm_id, lambda conn: devices.screenshot(conn, vm_id))

    async def set_ticket(self, vm_id: str, password: Secret, *, ttl: int, on_conflict: str) -> None:
        await self._ask(
            "setting a ticket",
            vm_id,
            lambda conn: devices.set_ticket(conn, vm_id, password, ttl=ttl, on_conflict=on_conflict),
        )

    async def change_cd(self, vm_id: str, path: str) -> None:
        await self._ask("changing the disc", vm_id, lambda conn: devices.change_cd(conn, vm_id, path))

    # ---- disks -------------------------------------------------------------------------------------------------------

    async def freeze(self, vm_id: str, *, patience: float) -> None:
        await self._change_disks("freezing", vm_id, lambda conn: disks.freeze(conn, vm_id, patience))

    async def thaw(self, vm_id: str, *, patience: float) -> None:
        await self._change_disks("thawing", vm_id, lambda conn: disks.thaw(conn, vm_id, patience))

    async def add_layers(self, vm_id: str, layers: Mapping[str, str], *, quiesce: float | None) -> None:
        await self._change_disks(
            "taking a snapshot", vm_id, lambda conn: disks.add_layers(conn, vm_id, layers, quiesce)
        )

    async def begin_commit(self, vm_id: str, drive: str, *, top: str, base: str, bandwidth: int) -> None:
        await self._change_disks(
            "merging",
            vm_id,
            lambda conn: disks.begin_commit(conn, vm_id, drive, top=top, base=base, bandwidth=bandwidth),
        )

    async def commit_job(self, vm_id: str, drive: str) -> CommitJob | None:
        return await self._ask("reading a disk's job", vm_id, lambda conn: disks.commit_job(conn, vm_id, drive))

    async def end_commit(self, vm_id: str, drive: str, *, pivot: bool) -> None:
        await self._change_disks(
            "ending a merge", vm_id, lambda conn: disks.end_commit(conn, vm_id, drive, pivot=pivot)
        )

    async def resize_disk(self, vm_id: str, drive: str, size: int) -> None:
        await self._change_disks("resizing a disk", vm_id, lambda conn: disks.resize(conn, vm_id, drive, size))

    async def attach_disk(self, vm_id: str, xml: str) -> None:
        await self._change_disks("plugging a disk", vm_id, lambda conn: disks.attach(conn, vm_id, xml))

    async def ask_detach(self, vm_id: str, drive: str) -> None:
        await self._change_disks("unplugging a disk", vm_id, lambda conn: disks.ask_detach(conn, vm_id, drive))

    async def drop_disk(self, vm_id: str, drive: str) -> None:
        await self._change_disks("removing a disk", vm_id, lambda conn: disks.drop(conn, vm_id, drive))

    async def settled(self, vm_id: str) -> None:
        await self._change_disks("waiting for its disks", vm_id, lambda conn: None)

    async def _change_disks(self, what: str, vm_id: str, call: Callable[[libvirt.virConnect], T]) -> T:
        """One at a time for each machine: also after one that was given up and goes on."""
        return await self._slow.run(what, call, vm=vm_id, key=f"disks {vm_id}", most=_SLOW_S)

    # ---- console -----------------------------------------------------------------------------------------------------

    async def open_console(self, vm_id: str, *, force: bool) -> ByteStream:
        loop = asyncio.get_running_loop()
        return await self._ask(
            "opening the console", vm_id, lambda conn: console.connect(conn, vm_id, loop, force=force)
        )

    async def _ask(self, what: str, vm_id: str, call: Callable[[libvirt.virConnect], T]) -> T:
        """A call that may wait for the domain's QEMU: one at a time for each domain."""
        return await self._control.run(what, call, vm=vm_id, key=vm_id)

# SPDX-License-Identifier: Apache-2.0
"""A hypervisor in memory that behaves like libvirt as far as the port can tell."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Sequence

from vdsm.contract import ByteStream
from vdsm.contract.errors import (
    ChangeDiskFailed,
    ConsoleInUse,
    HypervisorError,
    NoDisplay,
    NonResponsiveGuestAgent,
    NoSerialConsole,
    NoSuchVM,
    TicketError,
    VMExists,
)
from vdsm.contract.types import Secret
from vdsm.core.ports.hypervisor import (
    Domain,
    DomainEvent,
    DomainEventKind,
    DomainSample,
    DomainState,
    HypervisorFacts,
    ShutdownWay,
)

from . import facts, picture
from .console import SimulatedConsole
from .drives import SimulatedDrives
from .faults import Faults
from .machine import Machine, bring_to_life, read_shape, with_disc, with_text, without_passwords
from .tree import Tree

_VNC_PASSWORD_MAX = 8


class SimulatedHypervisor(SimulatedDrives):
    """The `Hypervisor` port. `obeys_after` is how many seconds a guest takes to boot, or to shut down once asked."""

    def __init__(self, faults: Faults | None = None, *, obeys_after: float = 0.2, tree: Tree | None = None) -> None:
        self.faults = faults or Faults()
        self.tree = tree
        self._obeys_after = obeys_after
        self._machines: dict[str, Machine] = {}
        self._ids: dict[str, str] = {}  # by name
        self._consoles: dict[str, SimulatedConsole] = {}
        self._sink: Callable[[DomainEvent], None] = lambda event: None
        self._timers: set[asyncio.TimerHandle] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._booted = 0

    # ---- connection --------------------------------------------------------------------------------------------------

    def watch(self, sink: Callable[[DomainEvent], None]) -> None:
        self._sink = sink

    async def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.faults.connection_changed = self._say_connection

    async def close(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        for console in list(self._consoles.values()):
            console.end()
        self._loop = None

    def _say_connection(self) -> None:
        if self.faults.connected:
            self._say(DomainEvent(kind=DomainEventKind.BACK))
        else:
            self._say(DomainEvent(kind=DomainEventKind.LOST, detail="the simulated connection is lost"))

    def _say(self, event: DomainEvent) -> None:
        """Later, as libvirt does: never from inside the call that caused it."""
        connection = event.kind in (DomainEventKind.LOST, DomainEventKind.BACK)
        if self._loop is not None and (self.faults.connected or connection):
            self._loop.call_soon(self._sink, event)

    def _tell(self, machine: Machine, kind: DomainEventKind, detail: str = "", *, guest_asked: bool = False) -> None:
        shape = machine.shape
        self._say(DomainEvent(kind=kind, vm_id=shape.vm_id, name=shape.name, detail=detail, guest_asked=guest_asked))

    async def _find(self, method: str, vm_id: str) -> Machine:
        await self.faults.meet(method)
        if (machine := self._machines.get(vm_id)) is None:
            raise NoSuchVM(vm=vm_id)
        return machine

    async def _find_active(self, method: str, vm_id: str, *, asks_qemu: bool = True) -> Machine:
        machine = await self._find(method, vm_id)
        if asks_qemu:
            await self.faults.stall(method, vm_id)
        if not machine.active:
            raise HypervisorError(what=method, reason="Requested operation is not valid: domain is not running")
        return machine

    # ---- reading -----------------------------------------------------------------------------------------------------

    async def facts(self) -> HypervisorFacts:
        await self.faults.meet("facts")
        return facts.FACTS

    async def domains(self) -> Sequence[Domain]:
        await self.faults.meet("domains")
        return [machine.domain() for machine in self._machines.values()]

    async def domain(self, vm_id: str) -> Domain:
        machine = await self._find("domain", vm_id)
        self._settle(machine)
        return machine.domain()

    async def io_error(self, vm_id: str) -> str:
        return (await self._find_active("io_error", vm_id)).io_error

    async def samples(self) -> Sequence[DomainSample]:
        await self.faults.meet("samples")
        return [
            machine.sample(answers=not self.faults.frozen(vm_id))
            for vm_id, machine in self._machines.items()
            if machine.active
        ]

    # ---- definitions -------------------------------------------------------------------------------------------------

    async def define(self, xml: str) -> None:
        await self.faults.meet("define")
        xml = without_passwords(xml)
        shape = read_shape(xml)
        if not shape.vm_id:
            xml = with_text(xml, "uuid", str(uuid.uuid4()))
            shape = read_shape(xml)
        if self._ids.get(shape.name, shape.vm_id) != shape.vm_id:
            raise VMExists(what=f"named {shape.name}")
        machine = self._machines.get(shape.vm_id)
        if machine is None:
            machine = self._machines[shape.vm_id] = Machine(shape, xml)
            self._ids[shape.name] = shape.vm_id
            self._tell(machine, DomainEventKind.DEFINED, "added")
            return
        if machine.shape.name != shape.name:
            raise VMExists(what=f"with the id {shape.vm_id}")
        machine.shape, machine.definition, machine.persistent = shape, xml, True
        self._tell(machine, DomainEventKind.DEFINED, "updated")

    async def undefine(self, vm_id: str) -> None:
        machine = await self._find("undefine", vm_id)
        if not machine.persistent:
            raise HypervisorError(what="undefine", reason="cannot undefine transient domain")
        machine.persistent = machine.autostart = False
        self._tell(machine, DomainEventKind.UNDEFINED, "removed")
        if not machine.active:
            self._forget(machine)

    def _forget(self, machine: Machine) -> None:
        del self._machines[machine.shape.vm_id]
        del self._ids[machine.shape.name]

    async def set_autostart(self, vm_id: str, enabled: bool) -> None:
        machine = await self._find("set_autostart", vm_id)
        if not machine.persistent:
            raise HypervisorError(what="set_autostart", reason="cannot set autostart for transient domain")
        machine.autostart = enabled

    async def rename(self, vm_id: str, name: str) -> None:
        machine = await self._find("rename", vm_id)
        if machine.active:
            raise HypervisorError(what="rename", reason="cannot rename active domain")
        if name == machine.shape.name:
            raise HypervisorError(what="rename", reason="Can't rename domain to itself")
        if name in self._ids:
            raise VMExists(what=f"named {name}")
        self._tell(machine, DomainEventKind.UNDEFINED, "renamed")
        del self._ids[machine.shape.name]
        machine.definition = with_text(machine.definition, "name", name)
        machine.shape = read_shape(machine.definition)
        self._ids[name] = vm_id
        self._tell(machine, DomainEventKind.DEFINED, "renamed")

    # ---- power -------------------------------------------------------------------------------------------------------

    async def start(self, vm_id: str, *, paused: bool) -> None:
        machine = await self._find("start", vm_id)
        if machine.active:
            raise HypervisorError(what="start", reason="domain is already running")
        self._booted += 1
        machine.number = self._booted
        machine.live = self.name_layers(bring_to_life(machine.definition, machine.number))
        machine.enter(DomainState.RUNNING, "booted")
        if not paused:
            self._tell(machine, DomainEventKind.RESUMED, "unpaused")  # libvirt starts the processors, then says STARTED
        self._tell(machine, DomainEventKind.STARTED, "booted")
        if paused:
            machine.enter(DomainState.PAUSED, "user")
            self._tell(machine, DomainEventKind.SUSPENDED, "paused")
        self._boot(machine)

    def _boot(self, machine: Machine) -> None:
        """Its guest's agent, if it has one, speaks in a moment; in a paused machine when that goes on."""
        machine.booting = machine.shape.agent
        if machine.booting and machine.state is DomainState.RUNNING:
            self._later(machine, lambda: self._greet(machine))

    def _greet(self, machine: Machine) -> None:
        if machine.booting:
            machine.booting = False
            self._tell(machine, DomainEventKind.AGENT, "connected")

    def _later(self, machine: Machine, act: Callable[[], None]) -> None:
        """What the guest does by itself, unless it was stopped or paused meanwhile: then nobody is there to do it."""

        def unless_paused() -> None:
            if machine.state is DomainState.RUNNING:
                act()

        self._call_later(machine, unless_paused)

    def _call_later(self, machine: Machine, act: Callable[[], None]) -> None:
        """What happens by itself, unless the machine was stopped meanwhile."""
        number = machine.number

        def do() -> None:
            self._timers.discard(timer)
            if machine.number == number:
                act()

        timer = asyncio.get_running_loop().call_later(self._obeys_after, do)
        self._timers.add(timer)

    async def power_off(self, vm_id: str, *, graceful: bool) -> None:
        machine = await self._find_active("power_off", vm_id, asks_qemu=graceful)  # a kill needs no answer
        if graceful:
            self._tell(machine, DomainEventKind.SHUTDOWN, "host")
        self._stop(machine, "destroyed")

    def _stop(self, machine: Machine, reason: str) -> None:
        if (console := self._consoles.get(machine.shape.vm_id)) is not None:
            console.end()
        machine.enter(DomainState.SHUT_OFF, reason)
        self._tell(machine, DomainEventKind.STOPPED, reason)
        if not machine.persistent:
            self._forget(machine)

    async def ask_shutdown(self, vm_id: str, way: ShutdownWay, *, reboot: bool) -> None:
        machine = await self._find_active("ask_shutdown", vm_id)
        if way is ShutdownWay.AGENT and not machine.shape.agent:
            raise NonResponsiveGuestAgent(vm=machine.shape.name, reason="QEMU guest agent is not configured")

        def obey() -> None:
            if reboot:
                machine.enter(DomainState.RUNNING, "unpaused")
                self._tell(machine, DomainEventKind.REBOOTED)
                self._boot(machine)
            else:
                machine.enter(DomainState.SHUTTING_DOWN, "unknown")
                self._tell(machine, DomainEventKind.SHUTDOWN, "guest", guest_asked=True)
                self._stop(machine, "shutdown")

        self._later(machine, obey)

    async def suspend(self, vm_id: str) -> None:
        machine = await self._find_active("suspend", vm_id)
        if machine.state is not DomainState.PAUSED:
            machine.enter(DomainState.PAUSED, "user")
            self._tell(machine, DomainEventKind.SUSPENDED, "paused")

    def fail_disk(self, vm_id: str, reason: str) -> None:
        """Let a disk of a running machine fail: `reason` is enospc or eother."""
        machine = self._machines[vm_id]
        self._tell(machine, DomainEventKind.IO_ERROR, reason)
        machine.enter(DomainState.PAUSED, "ioerror")
        machine.io_error = machine.io_error or reason
        self._tell(machine, DomainEventKind.SUSPENDED, "ioerror")

    async def resume(self, vm_id: str) -> None:
        machine = await self._find_active("resume", vm_id)
        if machine.state is not DomainState.PAUSED:
            raise HypervisorError(what="resume", reason="domain is already running")
        machine.enter(DomainState.RUNNING, "unpaused")
        self._tell(machine, DomainEventKind.RESUMED, "unpaused")
        if machine.booting:
            self._boot(machine)

    async def reset(self, vm_id: str) -> None:
        machine = await self._find_active("reset", vm_id)
        self._tell(machine, DomainEventKind.REBOOTED)
        self._boot(machine)

    # ---- screen, disc, console ---------------------------------------------------------------------------------------

    async def screenshot(self, vm_id: str) -> tuple[str, bytes]:
        machine = await self._find_active("screenshot", vm_id)
        if not machine.shape.graphics:
            raise NoDisplay(vm=machine.shape.name)
        return "image/png", picture.paint(40 if machine.state is DomainState.PAUSED else 120)

    async def set_ticket(self, vm_id: str, password: Secret, *, ttl: int, on_conflict: str) -> None:
        machine = await self._find("set_ticket", vm_id)
        if not machine.active:
            raise TicketError(vm=machine.shape.name, reason="domain is not running")
        await self.faults.stall("set_ticket", vm_id)
        if not machine.shape.graphics:
            raise TicketError(vm=machine.shape.name, reason="it has no graphics device")
        if len(password.reveal().encode()) > _VNC_PASSWORD_MAX:
            raise TicketError(vm=machine.shape.name, reason="a VNC password has at most 8 bytes")
        if not password.reveal().isprintable():
            raise TicketError(vm=machine.shape.name, reason="the password holds a character that is not printable")
        machine.password, machine.conflict = password.reveal(), on_conflict

    async def change_cd(self, vm_id: str, path: str) -> None:
        machine = await self._find("change_cd", vm_id)
        if not machine.shape.cdrom:
            raise ChangeDiskFailed(vm=machine.shape.name, reason="it has no CD drive")
        machine.definition = with_disc(machine.definition, path)
        if machine.active:
            machine.live = with_disc(machine.live, path)
            for detail in ("tray-open", "tray-closed"):
                self._tell(machine, DomainEventKind.DEVICES, detail)

    async def open_console(self, vm_id: str, *, force: bool) -> ByteStream:
        machine = await self._find_active("open_console", vm_id)
        if not machine.shape.serial:
            raise NoSerialConsole(vm=machine.shape.name)
        if (holder := self._consoles.get(vm_id)) is not None:
            if not force:
                raise ConsoleInUse(vm=machine.shape.name)
            holder.end()

        def closed(console: SimulatedConsole) -> None:
            with contextlib.suppress(KeyError):
                del self._consoles[vm_id]

        self._consoles[vm_id] = SimulatedConsole(machine.shape.name, closed)
        return self._consoles[vm_id]

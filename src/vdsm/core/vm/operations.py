# SPDX-License-Identifier: Apache-2.0
"""What changes machines: each operation done twice equals done once, and undoing what was never done is no error."""

from __future__ import annotations

import asyncio
import time

from vdsm.contract.errors import NonResponsiveGuestAgent, NoSuchVM, Problem, VMDestroyFailed
from vdsm.contract.types import Secret
from vdsm.contract.vm_info import VmInfo
from vdsm.core.ports.hypervisor import DomainState, Hypervisor, ShutdownWay
from vdsm.core.steps import operation, report

from . import xml
from .admission import Admission
from .machine import LEAVING, Machine, Phase
from .merges import Merges
from .prepared import Prepared
from .table import LAUNCH, Table

SEEN = 5.0  # seconds libvirt's event for our own change may take before the domain is read again instead


class VmOperations:
    """The operations; `Vms` decides, these do."""

    def __init__(
        self, hypervisor: Hypervisor, table: Table, admission: Admission, prepared: Prepared, merges: Merges
    ) -> None:
        self._hypervisor = hypervisor
        self._table = table
        self._admission = admission
        self._prepared = prepared
        self._merges = merges

    async def _see(self, vm_id: str, *states: DomainState) -> None:
        """Let the table catch up with what was just done, and say so, so that the answer tells it."""

        def seen(row: Machine | None) -> bool:
            return row is not None and row.domain.state in states and row.status is row.current_status()

        if not await self._table.wait_for(vm_id, seen, SEEN):
            await self._table.resync(vm_id)

    @operation("vm.info")
    async def info(self, vm_id: str) -> VmInfo:
        return self._table.get(vm_id).info()

    @operation("vm.define")
    async def define(self, vm_id: str, xml: str) -> None:
        self._table.touch(vm_id)
        try:
            await self._hypervisor.define(xml)
        except Problem as problem:
            self._table.fail(vm_id, str(problem))
            raise
        await self._table.resync(vm_id)

    @operation("vm.forget")
    async def forget(self, vm_id: str) -> None:
        """Off and away with it."""
        self._table.touch(vm_id)
        await self._cut(vm_id, graceful_attempts=0)
        await self._merges.settle(vm_id)
        try:
            await self._hypervisor.undefine(vm_id)
        except NoSuchVM:
            pass
        await self._table.resync(vm_id)

    @operation("vm.undefine")
    async def undefine(self, vm_id: str) -> None:
        self._table.touch(vm_id)
        await self._merges.settle(vm_id)
        try:
            await self._hypervisor.undefine(vm_id)
        except NoSuchVM:
            pass
        await self._table.resync(vm_id)

    @operation("vm.start")
    async def start(self, vm_id: str, paused: bool) -> None:
        self._table.touch(vm_id)
        row = await self._table.resync(vm_id)
        if row is None:
            raise NoSuchVM(vm=vm_id)
        if row.active:
            return
        self._table.enter(vm_id, Phase.LAUNCHING, LAUNCH, "starting")
        try:
            await self._fit_disks(vm_id, row)
            await self._prepared.add(vm_id, row.view.drives)
            await self._hypervisor.start(vm_id, paused=paused)
        except BaseException as error:
            self._table.fail(vm_id, str(error) or "It was stopped")
            raise
        await self._see(vm_id, DomainState.PAUSED if paused else DomainState.RUNNING)

    async def _fit_disks(self, vm_id: str, row: Machine) -> None:
        """Since the definition was made its disks may have got snapshots, or lost some, or have become unusable."""
        if not any(self._admission.spot_of(drive) for drive in row.view.drives):
            return
        root = xml.parse(row.domain.xml)
        if await self._admission.fit(root):
            xml.close_screens(root)  # libvirt gives the definition out without its passwords
            await self._hypervisor.define(xml.text_of(root))
            await self._table.resync(vm_id)

    @operation("vm.cut")
    async def cut(self, vm_id: str, graceful_attempts: int) -> None:
        """Power off."""
        self._table.touch(vm_id)
        await self._cut(vm_id, graceful_attempts)

    async def _cut(self, vm_id: str, graceful_attempts: int) -> None:
        row = await self._table.resync(vm_id)
        if row is None or not row.active:
            return
        for graceful in [True] * graceful_attempts + [False]:
            try:
                await self._hypervisor.power_off(vm_id, graceful=graceful)
            except NoSuchVM:
                break
            except Problem as problem:
                row = await self._table.resync(vm_id)
                if row is None or not row.active:  # it went down by itself meanwhile
                    return
                if not graceful:
                    raise VMDestroyFailed(vm=row.name, reason=problem) from None
            else:
                break
        await self._table.wait_for(vm_id, lambda row: row is None or not row.active, SEEN)
        await self._table.resync(vm_id)

    @operation("vm.delay")
    async def delay(self, seconds: float) -> None:
        begun = time.monotonic()
        while (gone := time.monotonic() - begun) < seconds:
            report(gone / seconds)
            await asyncio.sleep(min(1.0, seconds - gone))

    @operation("vm.ask")
    async def ask(self, vm_id: str, reboot: bool, timeout: float, force: bool) -> None:
        """Ask the guest, by its agent and then by ACPI, and wait for it to obey.

        With `force` a guest that does not is left to the next step.
        """
        self._table.touch(vm_id)
        row = self._table.find(vm_id)
        if row is None or not row.active:
            return
        boots, name = row.boots, row.name

        def obeyed(now: Machine | None) -> bool:
            return now is None or (now.boots > boots if reboot else not now.active)

        reasons: list[str] = []
        for way in ShutdownWay:
            try:
                await self._hypervisor.ask_shutdown(vm_id, way, reboot=reboot)
            except NonResponsiveGuestAgent as problem:
                reasons.append(f"{way}: {problem.facts.get('reason', problem)}")
                continue
            except NoSuchVM:
                return
            self._table.enter(vm_id, Phase.REBOOTING if reboot else Phase.LEAVING, LEAVING, f"asked by {way}")
            if await self._table.wait_for(vm_id, obeyed, timeout):
                return
            await self._table.resync(vm_id)  # it may have obeyed at the last moment, and its event be on the way
            if obeyed(self._table.find(vm_id)):
                return
            reasons.append(f"{way}: it did not obey within {timeout:g} s")
        if self._table.find(vm_id) is not None:
            self._table.enter(vm_id, None, reason="it did not obey")
        if not force:
            raise NonResponsiveGuestAgent(vm=name, reason="; ".join(reasons))

    @operation("vm.insist")
    async def insist(self, vm_id: str, reboot: bool) -> None:
        """After `ask`: cut the power, or press reset, if the guest is still there."""
        row = self._table.find(vm_id)
        if row is None or not row.active:
            return
        self._table.touch(vm_id)
        if reboot:
            await self._hypervisor.reset(vm_id)
        else:
            await self._cut(vm_id, graceful_attempts=1)

    @operation("vm.suspend")
    async def suspend(self, vm_id: str) -> None:
        self._table.touch(vm_id)
        await self._hypervisor.suspend(vm_id)
        await self._see(vm_id, DomainState.PAUSED)

    @operation("vm.resume")
    async def resume(self, vm_id: str) -> None:
        self._table.touch(vm_id)
        await self._hypervisor.resume(vm_id)
        await self._see(vm_id, DomainState.RUNNING)

    @operation("vm.reset")
    async def reset(self, vm_id: str) -> None:
        self._table.touch(vm_id)
        await self._hypervisor.reset(vm_id)

    @operation("vm.set_autostart")
    async def set_autostart(self, vm_id: str, enabled: bool) -> None:
        self._table.touch(vm_id)
        await self._hypervisor.set_autostart(vm_id, enabled)
        await self._table.resync(vm_id)
        self._table.announce(vm_id, "autostart")

    @operation("vm.rename")
    async def rename(self, vm_id: str, name: str) -> None:
        self._table.touch(vm_id)
        await self._hypervisor.rename(vm_id, name)
        await self._table.resync(vm_id)

    @operation("vm.set_ticket")
    async def set_ticket(self, vm_id: str, password: Secret, ttl: int, on_conflict: str) -> None:
        await self._hypervisor.set_ticket(vm_id, password, ttl=ttl, on_conflict=on_conflict)

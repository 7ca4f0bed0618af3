# SPDX-License-Identifier: Apache-2.0
"""The verbs on virtual machines: what they check and which steps they take."""

from __future__ import annotations

import base64
import itertools
import uuid
from typing import NamedTuple

import msgspec

from vdsm.contract import ByteStream, host, vm
from vdsm.contract.errors import CannotCreateVM, VMExists
from vdsm.contract.types import Secret
from vdsm.contract.vm import ConflictAction
from vdsm.contract.vm_info import Explanation, Screenshot, VmInfo, VmShortStatus, VmState, VmSummary
from vdsm.contract.vm_params import Disk, VmParams
from vdsm.contract.vm_stats import VmStats
from vdsm.core.handlers import Context, handles
from vdsm.core.host.stats import VmCounts
from vdsm.core.ports.hypervisor import Hypervisor
from vdsm.core.steps import Step

from . import build, engine_xml, raw, xml
from .admission import Admission
from .files import AllowedFiles
from .machine import Machine
from .merges import Merges
from .operations import VmOperations
from .preconditions import has_display, has_serial, may_continue, not_paused, ours, running, stopped
from .stats import Sampler
from .surroundings import Surroundings
from .table import Table


class Design(NamedTuple):
    """A machine before it is made."""

    vm_id: str
    name: str
    document: str
    paused: bool  # at its first start


class Vms:
    """`owner` is written into the mark of every machine made here."""

    def __init__(
        self,
        hypervisor: Hypervisor,
        table: Table,
        operations: VmOperations,
        files: AllowedFiles,
        owner: str,
        surroundings: Surroundings,
        admission: Admission,
        merges: Merges,
    ) -> None:
        self._hypervisor = hypervisor
        self._table = table
        self._do = operations
        self._files = files
        self._owner = owner
        self._surroundings = surroundings
        self._admission = admission
        self._sampler = Sampler(hypervisor, merges.jobs)

    def subject(self, vm_id: str) -> Machine:
        return self._table.get(vm_id)

    def counts(self) -> VmCounts:
        """For the host's own statistics."""
        states = [row.status for row in self._table if row.ours]
        outgoing, incoming = states.count(VmState.MIGRATION_SOURCE), states.count(VmState.MIGRATION_DESTINATION)
        return VmCounts(
            total=len(states),
            active=sum(state not in (VmState.DOWN, VmState.POWERING_DOWN) for state in states),
            migrating=incoming + outgoing,
            incoming=incoming,
            outgoing=outgoing,
        )

    # ---- making and removing ---------------------------------------------------------------------------------------

    @handles(vm.create)
    async def create(self, ctx: Context, vm_params: VmParams, *, vm_id: str | None = None) -> VmInfo:
        vm_id, name, document, paused = await self._design(ctx, vm_params, vm_id, kept=False)
        if not ctx.planning:
            self._table.expect(vm_id, name, document)
        try:
            return await ctx.run(
                Step(f"define {name}", self._do.define(vm_id, document), self._do.forget(vm_id)),
                Step(f"start {name}", self._do.start(vm_id, paused), self._do.cut(vm_id, 0)),
                answer=self._do.info(vm_id),
                about=vm_id,
            )
        finally:
            self._table.forgo(vm_id)

    @handles(vm.define)
    async def define(
        self, ctx: Context, vm_params: VmParams, *, vm_id: str | None = None, autostart: bool = False
    ) -> VmInfo:
        vm_id, name, document, _ = await self._design(ctx, vm_params, vm_id, kept=True)
        steps = [Step(f"define {name}", self._do.define(vm_id, document), self._do.forget(vm_id))]
        if autostart:
            steps.append(Step("let it start with the host", self._do.set_autostart(vm_id, True)))
        return await ctx.run(*steps, answer=self._do.info(vm_id), about=vm_id)

    @handles(vm.undefine, requires=(ours, stopped))
    async def undefine(self, ctx: Context, vm_id: str) -> None:
        machine = self._table.get(vm_id)
        document = xml.parse(machine.domain.xml)
        xml.close_screens(document)  # libvirt gives the definition out without its passwords
        again = self._do.define(vm_id, xml.text_of(document))
        await ctx.run(Step(f"remove the definition of {machine.name}", self._do.undefine(vm_id), again))

    async def _design(self, ctx: Context, params: VmParams, vm_id: str | None, *, kept: bool) -> Design:
        """A new machine; its id and name are held until the call ends."""
        facts, paused = await self._hypervisor.facts(), params.launch_paused
        if params.xml is None:
            name, vm_id = params.name or "", vm_id or str(uuid.uuid4())
            root = build.domain(await self._admit(ctx, params), vm_id, facts)
            await self._admission.fit(root)
        else:
            root = xml.parse(params.xml)
            if engine_xml.is_engines(root):
                engine_xml.fit(root, facts, await self._surroundings.look())
                paused = paused or engine_xml.wants_pause(root)
            raw.check(root)
            name, given = raw.identity(root)
            vm_id = given or vm_id or str(uuid.uuid4())
            raw.adapt(root, name, vm_id, facts)
            await self._admission.document(ctx, root)
        await ctx.hold(f"vm:{vm_id}", f"vm-name:{name}")
        if self._table.find(vm_id) is not None:
            raise VMExists(what=f"with the id {vm_id}")
        if self._table.named(name) is not None:
            raise VMExists(what=f"named {name}")
        xml.set_mark(root, self._owner, kept=kept)
        xml.close_screens(root)
        return Design(vm_id, name, xml.text_of(root), paused)

    async def _admit(self, ctx: Context, params: VmParams) -> VmParams:
        disks = [await self._admission.disk(ctx, disk) for disk in params.disks]
        if twice := _given_twice(disks):
            raise CannotCreateVM(reason=f"the disk {twice} is given twice, so writes to it would collide")
        plain = {
            name: await self._files.admit(path, None)
            for name in ("kernel", "initrd")
            if (path := getattr(params, name)) is not None
        }
        if params.cdrom is not None:
            plain["cdrom"] = await self._admission.disc(ctx, params.cdrom)
        return msgspec.structs.replace(params, disks=disks, **plain)

    # ---- power -----------------------------------------------------------------------------------------------------

    @handles(vm.start, requires=(ours, stopped))
    async def start(self, ctx: Context, vm_id: str, *, paused: bool = False) -> VmInfo:
        name = self._table.get(vm_id).name
        await self._admission.hold_disks(ctx, self._table.get(vm_id))
        step = Step(f"start {name}", self._do.start(vm_id, paused), self._do.cut(vm_id, 0))
        return await ctx.run(step, answer=self._do.info(vm_id))

    @handles(vm.destroy, requires=(ours,))
    async def destroy(self, ctx: Context, vm_id: str, *, graceful_attempts: int = 1) -> None:
        machine = self._table.get(vm_id)
        steps = [Step(f"cut the power of {machine.name}", self._do.cut(vm_id, graceful_attempts))]
        if not machine.view.kept:
            steps.append(Step(f"forget {machine.name}", self._do.forget(vm_id)))
        await ctx.run(*steps)

    # Not exclusive: while the guest makes up its mind it may still be paused, or its power cut.
    @handles(vm.shutdown, requires=(ours, running, not_paused), exclusive=False)
    async def shutdown(
        self,
        ctx: Context,
        vm_id: str,
        *,
        delay: float = 0.0,
        message: str = "",
        reboot: bool = False,
        timeout: float = 120.0,
        force: bool = False,
    ) -> None:
        what = "reboot" if reboot else "power off"
        steps = [Step(f"wait {delay:g} s", self._do.delay(delay))] if delay else []
        steps.append(Step(f"ask the guest to {what}", self._do.ask(vm_id, reboot, timeout, force)))
        if force:
            steps.append(Step(f"{what} without it, if need be", self._do.insist(vm_id, reboot)))
        await ctx.run(*steps)

    @handles(vm.pause, requires=(ours, running))
    async def pause(self, ctx: Context, vm_id: str) -> VmInfo:
        name = self._table.get(vm_id).name
        return await ctx.run(Step(f"stop the CPUs of {name}", self._do.suspend(vm_id)), answer=self._do.info(vm_id))

    @handles(vm.cont, requires=(ours, running, may_continue))
    async def cont(self, ctx: Context, vm_id: str) -> VmInfo:
        name = self._table.get(vm_id).name
        return await ctx.run(Step(f"let {name} run", self._do.resume(vm_id)), answer=self._do.info(vm_id))

    @handles(vm.reset, requires=(ours, running))
    async def reset(self, ctx: Context, vm_id: str) -> None:
        await ctx.run(Step(f"reset {self._table.get(vm_id).name}", self._do.reset(vm_id)))

    # ---- settings --------------------------------------------------------------------------------------------------

    @handles(vm.set_autostart, requires=(ours,))
    async def set_autostart(self, ctx: Context, vm_id: str, enabled: bool) -> None:
        what = "let it start with the host" if enabled else "do not start it with the host"
        await ctx.run(Step(what, self._do.set_autostart(vm_id, enabled)))

    @handles(vm.rename, requires=(ours, stopped))
    async def rename(self, ctx: Context, vm_id: str, name: str) -> VmInfo:
        await ctx.hold(f"vm-name:{name}")
        if self._table.named(name) is not None:
            raise VMExists(what=f"named {name}")
        step = Step(f"rename {self._table.get(vm_id).name} to {name}", self._do.rename(vm_id, name))
        return await ctx.run(step, answer=self._do.info(vm_id))

    @handles(vm.set_ticket, requires=(ours, running, has_display))
    async def set_ticket(
        self,
        ctx: Context,
        vm_id: str,
        password: Secret,
        ttl: int,
        existing_conn_action: ConflictAction = ConflictAction.DISCONNECT,
        params: dict[str, str] = {},  # noqa: B006 as in the contract; it is not written to
    ) -> None:
        step = Step("set the console's password", self._do.set_ticket(vm_id, password, ttl, existing_conn_action))
        await ctx.run(step)

    # ---- looking ---------------------------------------------------------------------------------------------------

    @handles(vm.list_)
    async def list_(self, ctx: Context) -> list[VmSummary]:
        await self._sampler.refresh_if_running(self._table)
        return sorted((row.summary(self._sampler.cpu_percent(row)) for row in self._table), key=_by_name)

    @handles(vm.get_info)
    async def get_info(self, ctx: Context, vm_id: str) -> VmInfo:
        return self._table.get(vm_id).info()

    @handles(vm.get_stats)
    async def get_stats(self, ctx: Context, vm_id: str) -> list[VmStats]:
        machine = self._table.get(vm_id)
        await self._sampler.refresh_if_running([machine])
        return [self._sampler.stats(machine)]

    @handles(vm.explain)
    async def explain(self, ctx: Context, vm_id: str) -> Explanation:
        machine = self._table.get(vm_id)
        allowances = ctx.allowances(vm.NOUN.lower(), machine, vm_id)
        return Explanation(object_id=vm_id, name=machine.name, status=machine.status.value, verbs=list(allowances))

    @handles(vm.screenshot, requires=(ours, running, has_display))
    async def screenshot(self, ctx: Context, vm_id: str) -> Screenshot:
        mime, picture = await self._hypervisor.screenshot(vm_id)
        return Screenshot(data=base64.b64encode(picture).decode(), encoding="base64", mime_type=mime)

    @handles(vm.console, requires=(ours, running, has_serial))
    async def console(self, ctx: Context, vm_id: str, *, force: bool = False) -> ByteStream:
        return await self._hypervisor.open_console(vm_id, force=force)

    @handles(host.get_vm_list)
    async def get_vm_list(
        self,
        ctx: Context,
        *,
        full_status: bool = False,
        vm_list: list[str] = [],  # noqa: B006
        only_uuid: bool = False,
    ) -> list[VmShortStatus]:
        return [row.short() for row in self._ours(vm_list)]

    @handles(host.get_vm_full_list)
    async def get_vm_full_list(
        self,
        ctx: Context,
        *,
        vm_list: list[str] = [],  # noqa: B006
    ) -> list[VmInfo]:
        return [row.info() for row in self._ours(vm_list)]

    @handles(host.get_all_vm_stats)
    async def get_all_vm_stats(self, ctx: Context) -> list[VmStats]:
        machines = self._ours([])
        await self._sampler.refresh_if_running(machines)
        return [self._sampler.stats(row) for row in machines]

    @handles(host.dumpxmls)
    async def dumpxmls(
        self,
        ctx: Context,
        *,
        vm_list: list[str] = [],  # noqa: B006
    ) -> dict[str, str]:
        wanted = [self._table.get(vm_id) for vm_id in vm_list] or self._ours([])
        return {row.vm_id: (await self._hypervisor.domain(row.vm_id)).xml for row in wanted}

    def _ours(self, vm_list: list[str]) -> list[Machine]:
        return [row for row in self._table if row.ours and (not vm_list or row.vm_id in vm_list)]


def _by_name(summary: VmSummary) -> str:
    return summary.vm_name


def _given_twice(disks: list[Disk]) -> str:
    """The path of a disk that is given twice, and not only to be read; empty if there is none."""
    pairs = itertools.combinations(disks, 2)
    return next((a.path for a, b in pairs if a.path == b.path and not (a.read_only and b.read_only)), "")

# SPDX-License-Identifier: Apache-2.0
"""What a manager keeps in a domain beside its images: definitions of its machines. They are never read here."""

from __future__ import annotations

import contextlib

from msgspec import ValidationError, convert

from vdsm.contract import storage_pool
from vdsm.contract.errors import InvalidParams
from vdsm.contract.errors_domains import MissingOvfFileFromVM, StorageDomainNotInPool
from vdsm.contract.errors_storage import FileMissing, PathEscapes, StorageBroken
from vdsm.contract.storage_pool_vms import LONGEST_OVF, BackedUpVm, Ovf
from vdsm.core.handlers import Context, handles
from vdsm.core.ports.files import FileKind, Files
from vdsm.core.steps import Step, operation, report

from .format import layout
from .format.lines import is_uuid
from .records import Domain
from .repository import Repository

_LONGEST = 4 * LONGEST_OVF  # bytes
_ANSWER = 64 << 20  # bytes of all definitions in one answer
_KEPT = (layout.MASTER_TASKS, layout.MASTER_VMS)


class BackupOperations:
    """Each done twice equals done once."""

    def __init__(self, files: Files, repository: Repository) -> None:
        self._files = files
        self._repository = repository

    @operation("pool.keep_vms")
    async def keep(self, domain_id: str, machines: list[BackedUpVm]) -> None:
        domain = await self._repository.writable(domain_id)
        for number, machine in enumerate(machines):
            await self._files.make_directory(domain.root, domain.path(layout.machine(machine.vm)))
            await self._files.replace(domain.root, domain.path(layout.definition(machine.vm)), machine.ovf.encode())
            report((number + 1) / len(machines))

    @operation("pool.forget_vm")
    async def forget(self, domain_id: str, vm_id: str) -> None:
        domain = await self._repository.writable(domain_id)
        await self._files.remove(domain.root, domain.path(layout.machine(vm_id)))

    @operation("pool.copy_kept")
    async def copy(self, source_id: str, target_id: str) -> None:
        """All that one domain keeps, in the place of what the other does."""
        source, target = await self._repository.usable(source_id), await self._repository.writable(target_id)
        await self._clear(target)
        for above in _KEPT:
            for name in await self._names(source, above):
                await self._copy_directory(source, target, f"{above}/{name}")

    async def _copy_directory(self, source: Domain, target: Domain, inside: str) -> None:
        if (await self._files.status(source.root, source.path(inside))).kind is not FileKind.DIRECTORY:
            return
        await self._files.make_directory(target.root, target.path(inside))
        for name in await self._files.names(source.root, source.path(inside)):
            file = f"{inside}/{name}"
            if (await self._files.status(source.root, source.path(file))).kind is FileKind.FILE:
                data = await self._files.read(source.root, source.path(file), most=_LONGEST)
                await self._files.replace(target.root, target.path(file), data)

    @operation("pool.clear_kept")
    async def clear(self, domain_id: str) -> None:
        await self._clear(await self._repository.writable(domain_id))

    async def _clear(self, domain: Domain) -> None:
        for above in _KEPT:
            await self._files.remove(domain.root, domain.path(above))
            await self._files.make_directory(domain.root, domain.path(above))

    async def _names(self, domain: Domain, inside: str) -> list[str]:
        try:
            return list(await self._files.names(domain.root, domain.path(inside)))
        except FileMissing:
            return []


class Backups:
    def __init__(self, files: Files, repository: Repository, operations: BackupOperations) -> None:
        self._files = files
        self._repository = repository
        self._do = operations

    @handles(storage_pool.update_vms)
    async def update_vms(
        self, ctx: Context, storagepool_id: str, vm_list: list[BackedUpVm], storagedomain_id: str | None = None
    ) -> None:
        domain = await self._place(storagepool_id, storagedomain_id)
        await ctx.hold(f"pool-vms:{domain.id}")
        await self._repository.writable(domain.id)
        await ctx.run(Step(f"keep {len(vm_list)} definitions", self._do.keep(domain.id, vm_list)))

    @handles(storage_pool.remove_vm)
    async def remove_vm(
        self, ctx: Context, storagepool_id: str, vm_id: str, storagedomain_id: str | None = None
    ) -> None:
        domain = await self._place(storagepool_id, storagedomain_id)
        await ctx.hold(f"pool-vms:{domain.id}")
        await self._repository.writable(domain.id)
        await ctx.run(Step("forget its definition", self._do.forget(domain.id, vm_id)))

    @handles(storage_pool.get_backed_up_vms_list)
    async def get_backed_up_vms_list(
        self, ctx: Context, storagepool_id: str, storagedomain_id: str | None = None
    ) -> list[str]:
        return await self._machines(await self._place(storagepool_id, storagedomain_id))

    @handles(storage_pool.get_backed_up_vms_info)
    async def get_backed_up_vms_info(
        self,
        ctx: Context,
        storagepool_id: str,
        storagedomain_id: str | None = None,
        vm_list: list[str] = [],  # noqa: B006
    ) -> dict[str, Ovf]:
        domain = await self._place(storagepool_id, storagedomain_id)
        found: dict[str, Ovf] = {}
        left = _ANSWER
        for vm_id in vm_list or await self._machines(domain):
            # Of all, what is none does not keep the manager from the others.
            with contextlib.nullcontext() if vm_list else contextlib.suppress(MissingOvfFileFromVM):
                found[vm_id] = await self._definition(domain, vm_id)
                left -= len(found[vm_id])
            if left < 0:
                raise InvalidParams(reason=f"together they have more than {_ANSWER} bytes: name fewer", path="$.vmList")
        return found

    async def _place(self, pool_id: str, domain_id: str | None) -> Domain:
        """The domain named, or the pool's master. Raises StoragePoolUnknown, StorageDomainNotInPool."""
        pool = self._repository.connected(pool_id)
        domain = await self._repository.usable(domain_id or pool.master)
        if domain.id not in pool.domains:
            raise StorageDomainNotInPool(domain=domain.name, pool=pool_id)
        return domain

    async def _machines(self, domain: Domain) -> list[str]:
        try:
            return [n for n in await self._files.names(domain.root, domain.path(layout.MASTER_VMS)) if is_uuid(n)]
        except FileMissing:
            return []

    async def _definition(self, domain: Domain, vm_id: str) -> Ovf:
        """Whoever may write to the storage wrote it: what a wire cannot carry is none."""
        reason: object
        try:
            data = await self._files.read(domain.root, domain.path(layout.definition(vm_id)), most=_LONGEST)
            return convert(data.decode(), Ovf)
        except UnicodeDecodeError:
            reason = "it is no text"
        except ValidationError:
            reason = "it is too long, or has characters that no document has"
        except (FileMissing, PathEscapes, StorageBroken) as problem:
            reason = problem
        raise MissingOvfFileFromVM(vm=vm_id, domain=domain.name, reason=reason)

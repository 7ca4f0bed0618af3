# SPDX-License-Identifier: Apache-2.0
"""Layers of running machines' disks written down into lower ones.

QEMU does it while the guest writes. The storage's metadata follow what libvirt says of the machine. Of the layer that
is written to there is one dangerous moment: once QEMU writes to the base, the layer that was merged is out of date,
and a machine that began with it would read old data. So the layer is marked ILLEGAL before, and if that came to
nothing, made LEGAL again. At any other moment the chain is whole, merged or not.
"""

from __future__ import annotations

import asyncio
import contextlib
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator

import msgspec
from msgspec.structs import replace

from vdsm.contract.errors import (
    DeadlineExceeded,
    HypervisorError,
    HypervisorUnavailable,
    MergeFailed,
    NoSuchVM,
    Problem,
    TooBusy,
)
from vdsm.contract.storage_words import DomainId, ImageId, VolumeId, VolumeLegality
from vdsm.contract.types import VmId
from vdsm.contract.vm_stats import VmJob
from vdsm.core.ports.hypervisor import CommitJob, Hypervisor
from vdsm.core.run import TaskRow
from vdsm.core.steps import Step, operation, report
from vdsm.core.storage.catalog import Catalog, Found
from vdsm.core.storage.reconcile import Reconciler
from vdsm.core.storage.repository import Repository
from vdsm.core.storage.volume_operations import VolumeOperations

from .drives import Drive, drives
from .spots import Spots
from .table import Table

_LOOK_FIRST, _LOOK_MOST = 0.05, 1.0  # seconds between looks at a job
_COMMIT = "vm.commit_layers"


class Merge(msgspec.Struct, frozen=True, kw_only=True):
    """A disk of a machine, and which of its volumes go down into which."""

    vm_id: VmId
    drive: str
    domain_id: DomainId
    image_id: ImageId
    top: VolumeId
    base: VolumeId
    active: bool  # the top one is written to
    bandwidth: int = 0  # MiB/s; 0: no limit


class Merges:
    """`unfinished` gives the tasks that have not ended: also those a restart interrupted, from the first moment on."""

    def __init__(
        self,
        hypervisor: Hypervisor,
        table: Table,
        spots: Spots,
        repository: Repository,
        catalog: Catalog,
        operations: VolumeOperations,
        reconciler: Reconciler,
        unfinished: Callable[[], Iterable[TaskRow]],
    ) -> None:
        self._hypervisor = hypervisor
        self._table = table
        self._spots = spots
        self._repository = repository
        self._catalog = catalog
        self._do = operations
        self._reconciler = reconciler
        self._unfinished = unfinished
        self._seen: dict[tuple[str, str], CommitJob] = {}  # by machine and image

    # ---- looking ---------------------------------------------------------------------------------------------------

    def under_way(self) -> Iterator[tuple[TaskRow, Merge]]:
        for row in self._unfinished():
            for step in row.steps:
                if step.do.name == _COMMIT:
                    yield row, msgspec.json.decode(step.do.args, type=tuple[Merge])[0]

    def of_image(self, image_id: str) -> TaskRow | None:
        return next((row for row, merge in self.under_way() if merge.image_id == image_id), None)

    def jobs(self, vm_id: str) -> dict[str, VmJob]:
        """Those of a machine, in published words."""
        found = {}
        for row, merge in self.under_way():
            if merge.vm_id != vm_id:
                continue
            job = self._seen.get((vm_id, merge.image_id)) or CommitJob(active=merge.active, ready=False)
            found[row.id] = VmJob(
                id=row.id,
                job_type="block",
                block_job_type="commit",
                cur=job.cur,
                end=job.end,
                bandwidth=merge.bandwidth,
                img_uuid=merge.image_id,
            )
        return found

    # ---- steps -----------------------------------------------------------------------------------------------------

    def steps(self, merge: Merge, name: str) -> list[Step]:
        found = [Step(f"merge layers of {name}", self.commit_layers(merge), self.stop(merge))]
        if merge.active:
            found.append(Step("let the machine write to what is below", self.pivot(merge), self.mend(merge)))
        return [*found, Step("note the chain as it is now", self.mend(merge))]

    @operation(_COMMIT)
    async def commit_layers(self, merge: Merge) -> None:
        """Until all is written down; a job that was begun before is gone on with."""
        drive = await self._drive(merge)
        if (top := _layer(drive, merge.top)) is None:
            return  # merged already
        try:
            if await self._hypervisor.commit_job(merge.vm_id, merge.drive) is None:
                base = _layer(drive, merge.base)
                assert base is not None
                await self._hypervisor.begin_commit(
                    merge.vm_id, merge.drive, top=top, base=base, bandwidth=merge.bandwidth
                )
            await self._follow(merge)
        except (HypervisorError, NoSuchVM) as problem:
            raise _failed(merge, problem) from None
        finally:
            self._seen.pop((merge.vm_id, merge.image_id), None)

    async def _follow(self, merge: Merge) -> None:
        """Until the job has caught up, or is over. While libvirt is away QEMU works on."""
        pause = _LOOK_FIRST
        while True:
            try:
                job = await self._hypervisor.commit_job(merge.vm_id, merge.drive)
                if job is None:
                    break
                self._seen[merge.vm_id, merge.image_id] = job
                report(job.cur / job.end if job.end else 0.0)
                if job.active and job.ready:
                    return
            except (HypervisorUnavailable, DeadlineExceeded, TooBusy):
                pause = _LOOK_MOST
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LOOK_MOST)
        if _layer(await self._drive(merge), merge.top) is not None:
            raise _failed(merge, "QEMU's job ended without it; the machine's log on the host says why")

    @operation("vm.stop_commit")
    async def stop(self, merge: Merge) -> None:
        """Undo: the layers stay as they are. What is merged stays merged."""
        await self._quiet(merge)
        try:
            drive = await self._drive(merge)
            if _layer(drive, merge.top) is None:
                raise _failed(merge, "they are merged, and that has no way back")
            await self._hypervisor.end_commit(merge.vm_id, merge.drive, pivot=False)
        except (HypervisorError, NoSuchVM):
            pass  # it runs no more, and with it no job

    @operation("vm.pivot")
    async def pivot(self, merge: Merge) -> None:
        drive = await self._drive(merge)
        if _layer(drive, merge.top) is None:
            return
        volumes = _volumes(drive)
        between = volumes[volumes.index(merge.top) : volumes.index(merge.base)]
        await self._mark(merge, between, VolumeLegality.ILLEGAL)
        try:
            await self._hypervisor.end_commit(merge.vm_id, merge.drive, pivot=True)
        except (HypervisorError, NoSuchVM) as problem:
            raise _failed(merge, problem) from None
        if _layer(await self._drive(merge), merge.top) is not None:
            raise _failed(merge, "QEMU's job had ended before")

    @operation("vm.mend_chain")
    async def mend(self, merge: Merge) -> None:
        """Let the metadata say what libvirt says of the machine: of its definition, if it runs no more."""
        await self._quiet(merge)
        await self._table.resync(merge.vm_id)
        try:
            drive = await self._drive(merge)
        except (MergeFailed, NoSuchVM):
            return  # it went with its machine, and `settle` saw to it
        volumes = _volumes(drive)
        await self._mark(merge, volumes, VolumeLegality.LEGAL)
        if merge.top not in volumes:
            await self._grow(merge)
        domain = await self._repository.usable(merge.domain_id)
        await self._reconciler.reconcile(domain, merge.image_id, volumes[0])

    async def _quiet(self, merge: Merge) -> None:
        """Until no call that was given up changes its disks any more: libvirt answers a question after those before."""
        with contextlib.suppress(HypervisorError, NoSuchVM):
            await self._hypervisor.settled(merge.vm_id)
            await self._hypervisor.commit_job(merge.vm_id, merge.drive)

    async def settle(self, vm_id: str) -> None:
        """A machine is about to be forgotten: what libvirt knows of its chains is written down first."""
        for _, merge in self.under_way():
            if merge.vm_id == vm_id:
                await self.mend(merge).run()

    async def _drive(self, merge: Merge) -> Drive:
        """As libvirt has it now. Raises MergeFailed, NoSuchVM."""
        root = ET.fromstring((await self._hypervisor.domain(merge.vm_id)).xml)  # noqa: S314 libvirt's own
        for drive in drives(root):
            spot = self._spots.of(drive.path)
            if drive.name == merge.drive and spot is not None and spot.image_id == merge.image_id:
                return drive
        raise _failed(merge, "the machine does not have it any more")

    async def _found(self, merge: Merge) -> Found | None:
        domain = await self._repository.usable(merge.domain_id)
        image = await self._catalog.image(domain, merge.image_id)
        return None if image is None else Found(domain, image)

    async def _mark(self, merge: Merge, volumes: list[str], legality: VolumeLegality) -> None:
        if (found := await self._found(merge)) is None:
            return
        for volume_id in volumes:
            meta = found.image.volumes.get(volume_id)
            if meta is not None and meta.legality is not legality:
                await self._do.write(found.domain, volume_id, replace(meta, legality=legality))

    async def _grow(self, merge: Merge) -> None:
        """QEMU makes the base as large as what it took in."""
        found = await self._found(merge)
        top, base = (found.image.volumes.get(name) for name in (merge.top, merge.base)) if found else (None, None)
        if found is not None and top is not None and base is not None and base.capacity < top.capacity:
            await self._do.write(found.domain, merge.base, replace(base, capacity=top.capacity))


def _volumes(drive: Drive) -> list[str]:
    """The ids of its layers, the one that is written to first."""
    return [path.rpartition("/")[2] for path in drive.layers]


def _layer(drive: Drive, volume_id: str) -> str | None:
    return next((path for path in drive.layers if path.rpartition("/")[2] == volume_id), None)


def _failed(merge: Merge, reason: Problem | str) -> MergeFailed:
    why = reason if isinstance(reason, str) else reason.facts.get("reason", str(reason))
    return MergeFailed(disk=merge.image_id, reason=why)

# SPDX-License-Identifier: Apache-2.0
"""A manager's way with a running machine's disk, in its own words over JSON-RPC: a snapshot, and its live end."""

from __future__ import annotations

import uuid
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from harness.data_center import DataCenter
from harness.machine_disks import until
from harness.memory_host import ADMIN
from vdsm.bindings.published import PublishedCalls
from vdsm.contract import VERBS
from vdsm.contract.errors import InvalidParameter, MethodNotImplemented, Problem
from vdsm.core.storage.format.layout import META
from vdsm.protocols.dialect import JSONRPC

MIB = 1 << 20


class Manager:
    def __init__(self, center: DataCenter) -> None:
        self._calls = PublishedCalls(center.host.bridge, JSONRPC, VERBS)

    async def call(self, method: str, **params: object) -> Any:
        return await self._calls.call(VERBS[method], params, ADMIN, "")

    async def chain(self, vm_id: str) -> list[str]:
        """As managers read it, the volume that is written to first."""
        element = ET.XML((await self.call("Host.dumpxmls", vmList=[vm_id]))[vm_id]).find("devices/disk")
        found: list[str] = []
        while element is not None and (source := element.find("source")) is not None:
            found.append(source.get("file", "").rpartition("/")[2])
            element = element.find("backingStore")
        return found

    async def jobs(self, vm_id: str) -> dict[str, Any]:
        (stats,) = [row for row in await self.call("Host.getAllVmStats") if row["vmId"] == vm_id]
        assert isinstance(stats["vmJobs"], dict), "never absent"
        return dict(stats["vmJobs"])


async def test_a_snapshot_and_its_live_end(center: DataCenter) -> None:
    manager, made = Manager(center), await center.image("RAW")
    base, new, job, merge_job = made.volumes[0], *(str(uuid.uuid4()) for _ in range(3))
    where, domain = made.where, made.where["storagedomainID"]
    machine = await center.host.create("a", guestAgent=False, disks=[{"path": f"{domain}/{made.id}/{base}"}])
    vm_id = machine.vm_id

    task = await manager.call(
        "Volume.create", **where, volumeID=new, size=str(16 * MIB), volFormat=4, preallocate=2, diskType="DATA",
        desc="", srcImgUUID=made.id, srcVolUUID=base,
    )  # fmt: skip
    assert isinstance(task, str)
    await until(lambda: not center.host.tasks.running())
    drive = {"domainID": domain, "imageID": made.id, "baseVolumeID": base, "volumeID": new}
    with pytest.raises(InvalidParameter) as raised:
        await manager.call("VM.snapshot", vmID=vm_id, snapDrives=[drive], timeout=0)
    assert raised.value.code == 91
    done = await manager.call(
        "VM.snapshot", vmID=vm_id, snapDrives=[drive], frozen=True, jobUUID=job, freeze_timeout=8, timeout=30
    )
    assert done is True
    await until(lambda: not center.host.tasks.running())
    (row,) = (await manager.call("Host.getJobs", job_type="virt", job_ids=[job])).values()
    assert (row["id"], row["status"], type(row.get("progress", 1.0))) == (job, "done", float)
    assert await manager.chain(vm_id) == [new, base]

    center.host.hypervisor._obeys_after = 0.3
    active = {"poolID": where["storagepoolID"], "domainID": domain, "imageID": made.id, "volumeID": new}
    merge = {"vmID": vm_id, "drive": active, "baseVolUUID": base, "topVolUUID": new, "bandwidth": "0"}
    assert await manager.call("VM.merge", **merge, jobUUID=merge_job) is True
    seen = (await manager.jobs(vm_id))[merge_job]
    assert {name: seen[name] for name in ("id", "jobType", "blockJobType", "imgUUID")} == {
        "id": merge_job, "jobType": "block", "blockJobType": "commit", "imgUUID": made.id,
    }  # fmt: skip
    assert 0 <= seen["cur"] <= seen["end"]
    with pytest.raises(Problem) as refused:
        await manager.call("VM.merge", **merge, jobUUID=str(uuid.uuid4()))
    assert refused.value.code == 52
    await until(lambda: not center.host.tasks.running())
    assert await manager.jobs(vm_id) == {}
    assert await manager.chain(vm_id) == [base]
    assert await manager.call("Image.reconcileVolumeChain", **where, leafVolID=base) == [base]
    await manager.call("Image.deleteVolumes", **where, volumeList=[new], postZero="false", force="false")
    await until(lambda: not center.host.tasks.running())
    assert f"{made.directory}/{new}{META}" not in center.host.tree.nodes
    assert await center.findings() == []


async def test_growing_and_what_is_refused_as_published(center: DataCenter) -> None:
    manager, made = Manager(center), await center.image("RAW")
    machine = await center.host.create("a", disks=[{"path": made.id}])
    volume = {"domainID": made.where["storagedomainID"], "imageID": made.id, "volumeID": made.volumes[0]}
    spec = {**volume, "poolID": made.where["storagepoolID"], "device": "disk"}
    grown = await manager.call("VM.diskSizeExtend", vmID=machine.vm_id, driveSpecs=spec, newSize=str(32 * MIB))
    assert grown == str(32 * MIB), "as text"
    with pytest.raises(MethodNotImplemented) as raised:
        await manager.call("VM.getDiskAlignment", vmID=machine.vm_id, disk=spec)
    assert raised.value.code == 44

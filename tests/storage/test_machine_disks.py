# SPDX-License-Identifier: Apache-2.0
"""Disks of running machines: snapshots, plugs, discs; and what is left when something goes wrong."""

from __future__ import annotations

import uuid
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from harness.data_center import DataCenter
from harness.machine_disks import (
    CLUSTER,
    MIB,
    chain,
    layers,
    links,
    make,
    nothing_changed,
    ref,
    sound,
    stack,
    until,
)
from harness.memory_host import MemoryHost
from vdsm.contract import disk, image, storage, task, vm, volume
from vdsm.contract import host as hosts
from vdsm.contract.errors import (
    BadDiskResizeParameter,
    FileUnusable,
    ForeignVM,
    HotplugDiskFailed,
    HotunplugDiskFailed,
    InvalidParameter,
    MethodNotImplemented,
    PathNotAllowed,
    Problem,
    SnapshotFailed,
    SnapshotMemoryNotOffered,
    VMIsDown,
    XmlRefused,
)
from vdsm.contract.errors_domains import DiskInUse, DiskUnusable, NoSuchDisk, VolumeDoesNotExist
from vdsm.contract.events import VMDefined, VMStatus
from vdsm.contract.storage_words import BLANK, VolumeStatus
from vdsm.contract.task import State
from vdsm.contract.vm_info import VmInfo
from vdsm.contract.vm_params import DiskFormat
from vdsm.core.vm import disk_operations
from vdsm.drivers.simulated.faults import Fault

# ---- snapshots -------------------------------------------------------------------------------------------------------


async def test_every_disk_goes_on_in_a_new_volume(host: MemoryHost) -> None:
    one, two = await make(host, "one"), await make(host, "two", format="qcow2")
    machine = await host.create("a", disks=[{"path": "one"}, {"path": "two"}, {"path": "/images/file.raw"}])
    host.disk_images.write(one.path, 0, 2 * CLUSTER, 1)
    await host.call(vm.snapshot, vmID=machine.vm_id)
    for info, drive in ((one, "vda"), (two, "vdb")):
        names = await chain(host, info.id)
        assert len(names) == 2
        assert names[1] == info.chain[0].id
        assert await layers(host, machine.vm_id, drive) == names
    assert len(await layers(host, machine.vm_id, "vdc")) == 1
    after = await host.call(vm.get_info, vmID=machine.vm_id)
    assert after.hash != machine.hash
    assert any(isinstance(e.data, VMStatus) and e.data.reason == "devices" for e in await host.events())
    info = await host.call(disk.get_info, diskID=one.id)
    assert (info.name, info.status, info.size, info.format) == ("one", VolumeStatus.OK, MIB, DiskFormat.QCOW2)
    await sound(host)


async def test_a_manager_names_the_volumes(center: DataCenter) -> None:
    host, made = center.host, await center.image("RAW")
    machine = await host.create("a", disks=[{"path": f"{made.where['storagedomainID']}/{made.id}/{made.volumes[0]}"}])
    base, new, job = made.volumes[0], str(uuid.uuid4()), str(uuid.uuid4())
    await center.call(
        volume.create, **made.where, volumeID=new, size=MIB * 16, volFormat="COW", preallocate="SPARSE",
        diskType="DATA", desc="", srcImgUUID=made.id, srcVolUUID=base,
    )  # fmt: skip
    drive = {"domainID": made.where["storagedomainID"], "imageID": made.id, "baseVolumeID": base, "volumeID": new}
    bad: list[tuple[list[dict[str, str]], type[Problem]]] = [
        ([{**drive, "volumeID": BLANK}], VolumeDoesNotExist),
        ([{**drive, "baseVolumeID": new}], SnapshotFailed),
        ([{**drive, "imageID": BLANK}], SnapshotFailed),
        ([{**drive, "volumeID": base}], DiskUnusable),
        ([drive, drive], SnapshotFailed),
    ]
    for drives, problem in bad:
        async with nothing_changed(host, problem):
            await host.call(vm.snapshot, vmID=machine.vm_id, snapDrives=drives)
    await host.call(vm.snapshot, vmID=machine.vm_id, snapDrives=[drive], frozen=True, jobUUID=job)
    assert await layers(host, machine.vm_id) == [new, base]
    assert (await host.call(hosts.get_jobs, job_type="virt", job_ids=[job]))[job].status == "done"
    assert await center.findings() == []


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"timeout": 0}, InvalidParameter),
        ({"freeze_timeout": -1}, InvalidParameter),
        ({"snapMemory": "a,b,c,d,e,f"}, SnapshotMemoryNotOffered),
    ],
)
async def test_what_a_snapshot_cannot_be(host: MemoryHost, more: dict[str, Any], problem: type[Problem]) -> None:
    await make(host)
    machine = await host.create("a", disks=[{"path": "root"}])
    async with nothing_changed(host, problem):
        await host.call(vm.snapshot, vmID=machine.vm_id, **more)


@pytest.mark.parametrize("method", ["add_layers", "settled"])
async def test_the_hypervisor_refuses_and_nothing_is_left(host: MemoryHost, method: str) -> None:
    for name in ("one", "two"):
        await make(host, name)
    machine = await host.create("a", disks=[{"path": "one"}, {"path": "two"}])
    host.hypervisor.faults.set("add_layers", Fault(error="no space", times=1))
    if method == "settled":  # what undoes it must be tried again
        host.hypervisor.faults.set("settled", Fault(error="busy", times=1))
        with pytest.raises(SnapshotFailed, match="no space"):
            await host.call(vm.snapshot, vmID=machine.vm_id)
        return
    async with nothing_changed(host, SnapshotFailed, "no space"):
        await host.call(vm.snapshot, vmID=machine.vm_id)


async def test_an_agent_that_does_not_answer_is_done_without(host: MemoryHost) -> None:
    info = await make(host)
    machine = await host.create("a", disks=[{"path": "root"}])
    await host.call(vm.pause, vmID=machine.vm_id)
    await host.call(vm.snapshot, vmID=machine.vm_id)
    assert len(await chain(host, info.id)) == 2


async def test_a_snapshot_that_was_taken_is_not_undone_behind_the_machine(host: MemoryHost) -> None:
    info = await make(host)
    machine = await host.create("a", disks=[{"path": "root"}])
    await host.call(vm.snapshot, vmID=machine.vm_id)
    names = await chain(host, info.id)
    (row,) = [row for row in await host.call(task.list_) if row.verb == "VM.snapshot"]
    await host.call(task.revert, taskID=row.id)
    assert (await host.call(task.get, taskID=row.id)).state is State.BROKEN
    assert await chain(host, info.id) == names == await layers(host, machine.vm_id)


# ---- plugging --------------------------------------------------------------------------------------------------------


async def test_a_disk_comes_and_goes(host: MemoryHost) -> None:
    info = await make(host, "data", format="qcow2")
    await make(host)
    machine = await host.create("a", disks=[{"path": "root"}])
    after = await host.call(vm.hotplug_disk, vmID=machine.vm_id, params={"disk": {"path": "data"}})
    assert [d.name for d in after.devices if d.device == "disk"] == ["vda", "vdb"]
    assert len(links(host)) == 2
    assert any(isinstance(e.data, VMDefined) and e.data.change == "added" for e in await host.events())
    with pytest.raises(DiskInUse):
        await host.create("b", disks=[{"path": "data"}])
    with pytest.raises(DiskInUse):
        await host.call(vm.hotplug_disk, vmID=machine.vm_id, params={"disk": {"path": "data"}})
    await host.call(vm.snapshot, vmID=machine.vm_id)
    assert len(await chain(host, info.id)) == 2
    for path in ("vdb", "nothing"):
        call = host.call(vm.hotunplug_disk, vmID=machine.vm_id, params={"disk": {"path": path}})
        if path == "vdb":
            after = await call
            assert [d.name for d in after.devices if d.device == "disk"] == ["vda"]
        else:
            with pytest.raises(NoSuchDisk):
                await call
    assert len(links(host)) == 1
    await host.call(disk.delete, diskID=info.id)


async def test_a_manager_plugs_in_its_own_words(center: DataCenter) -> None:
    host, made = center.host, await center.image("RAW", "COW")
    domain, pool = made.where["storagedomainID"], made.where["storagepoolID"]
    machine = await host.create("a")
    path = f"/data-center/{pool}/{domain}/images/{made.id}/{made.volumes[1]}"
    text = (
        "<?xml version='1.0' encoding='UTF-8'?><hotplug><devices><disk snapshot='no' type='file' device='disk'>"
        f"<target dev='vda' bus='virtio'/><source file='{path}'><seclabel model='dac' type='none' relabel='no'/>"
        "</source><driver name='qemu' io='threads' type='qcow2' error_policy='stop' cache='none'/>"
        "<alias name='ua-1'/><serial>1</serial></disk></devices><metadata xmlns:ovirt-vm='http://ovirt.org/vm/1.0'>"
        "<ovirt-vm:vm/></metadata></hotplug>"
    )
    await host.call(vm.hotplug_disk, vmID=machine.vm_id, params={"xml": text})
    assert await layers(host, machine.vm_id) == made.volumes[::-1]
    root = ET.XML((await host.call(hosts.dumpxmls, vmList=[machine.vm_id]))[machine.vm_id])
    found = [s.get("file", "").rpartition("/")[0] for s in root.iter("source") if made.id in s.get("file", "")]
    assert found == [path.rpartition("/")[0]] * 2  # by the manager's own path, whichever layer
    out = "<hotunplug><devices><disk><alias name='ua-1'/></disk></devices></hotunplug>"
    await host.call(vm.hotunplug_disk, vmID=machine.vm_id, params={"xml": out})
    assert await layers(host, machine.vm_id) == []
    async with nothing_changed(host, HotunplugDiskFailed):
        await host.call(vm.hotunplug_disk, vmID=machine.vm_id, params={"xml": out})
    for bad in (text.replace(made.volumes[1], made.volumes[0]).replace("qcow2", "raw"), text.replace("qcow2", "raw")):
        async with nothing_changed(host, DiskUnusable):
            await host.call(vm.hotplug_disk, vmID=machine.vm_id, params={"xml": bad})
    for bad in (
        text.replace("type='qcow2' ", ""),
        text.replace("hotplug>", "domain>"),
        text.replace("<alias", "<seclabel/><alias"),
        "<!DOCTYPE a [<!ENTITY b 'c'>]>" + text.partition("?>")[2],
    ):
        async with nothing_changed(host, XmlRefused):
            await host.call(vm.hotplug_disk, vmID=machine.vm_id, params={"xml": bad})
    async with nothing_changed(host, PathNotAllowed):
        await host.call(vm.hotplug_disk, vmID=machine.vm_id, params={"xml": text.replace(path, "/etc/shadow")})


async def test_a_guest_that_does_not_let_go(host: MemoryHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_operations, "UNPLUG", 0.1)
    await make(host)
    machine = await host.create("a", disks=[{"path": "root"}])
    host.hypervisor.holds_disks = True
    async with nothing_changed(host, HotunplugDiskFailed, "did not let go"):
        await host.call(vm.hotunplug_disk, vmID=machine.vm_id, params={"disk": {"path": "root"}})


async def test_a_scsi_disk_needs_a_controller(host: MemoryHost) -> None:
    for name in ("root", "data"):
        await make(host, name)
    plug = {"disk": {"path": "data", "bus": "scsi"}}
    without = await host.create("a")
    async with nothing_changed(host, HotplugDiskFailed, "SCSI"):
        await host.call(vm.hotplug_disk, vmID=without.vm_id, params=plug)
    machine = await host.create("b", disks=[{"path": "root", "bus": "scsi"}])
    after = await host.call(vm.hotplug_disk, vmID=machine.vm_id, params=plug)
    assert [d.name for d in after.devices if d.type == "disk" and d.path] == ["sda", "sdc"]


async def test_what_libvirt_refuses_is_not_plugged(host: MemoryHost) -> None:
    await make(host)
    machine = await host.create("a")
    host.hypervisor.faults.set("attach_disk", Fault(error="No more available PCI slots", times=1))
    with pytest.raises(HotplugDiskFailed, match="PCI"):
        await host.call(vm.hotplug_disk, vmID=machine.vm_id, params={"disk": {"path": "root"}})
    assert links(host) == []


async def test_machines_of_others_are_left_alone(host: MemoryHost) -> None:
    info = await make(host)
    vm_id = str(uuid.uuid4())
    await host.hypervisor.define(
        f"<domain type='qemu'><name>theirs</name><uuid>{vm_id}</uuid><memory>1024</memory><devices>"
        f"<disk type='file' device='disk'><driver type='raw'/><source file='{info.path}'/><target dev='vda'/></disk>"
        "</devices></domain>"
    )
    await host.hypervisor.start(vm_id, paused=False)
    await until(lambda: host.table.find(vm_id) is not None)
    volume_id = info.chain[0].id
    for verb, params in (
        (vm.snapshot, {}),
        (vm.freeze, {}),
        (vm.thaw, {}),
        (vm.merge, {"drive": ref(info, volume_id), "topVolUUID": volume_id, "baseVolUUID": BLANK}),
        (vm.hotunplug_disk, {"params": {"disk": {"path": "vda"}}}),
        (vm.hotplug_disk, {"params": {"disk": {"path": "/images/a"}}}),
        (vm.disk_size_extend, {"driveSpecs": ref(info, volume_id), "newSize": 2 * MIB}),
        (vm.change_cd, {"driveSpec": ""}),
    ):
        async with nothing_changed(host, ForeignVM):
            await host.call(verb, vmID=vm_id, **params)
    async with nothing_changed(host, DiskInUse):
        await host.call(disk.snapshot, diskID=info.id)
    async with nothing_changed(host, DiskInUse):
        await host.call(disk.extend, diskID=info.id, size=2 * MIB)
    assert (await host.call(disk.get_info, diskID=info.id)).vms == ["theirs"]
    assert links(host) == []


# ---- growing ---------------------------------------------------------------------------------------------------------


async def test_a_disk_grows_while_its_machine_runs_and_while_none_does(host: MemoryHost) -> None:
    info = await make(host)
    machine = await host.create("a", disks=[{"path": "root"}])
    named: dict[str, Any] = {"driveSpecs": ref(info, info.chain[0].id)}
    assert await host.call(vm.disk_size_extend, vmID=machine.vm_id, **named, newSize=2 * MIB - 1) == 2 * MIB
    assert (await host.call(disk.get_info, diskID=info.id)).size == 2 * MIB
    async with nothing_changed(host, BadDiskResizeParameter):
        await host.call(vm.disk_size_extend, vmID=machine.vm_id, **named, newSize=MIB)
    async with nothing_changed(host, DiskInUse):
        await host.call(vm.disk_size_extend, vmID=BLANK, **named, newSize=3 * MIB)
    await host.call(vm.destroy, vmID=machine.vm_id)
    assert await host.call(vm.disk_size_extend, vmID=BLANK, **named, newSize=3 * MIB) == 3 * MIB
    assert (await host.call(disk.get_info, diskID=info.id)).size == 3 * MIB
    await sound(host)


async def test_the_alignment_of_partitions_is_not_told(host: MemoryHost) -> None:
    info = await make(host)
    for vm_id in (BLANK, (await host.create("a")).vm_id):
        with pytest.raises(MethodNotImplemented):
            await host.call(vm.get_disk_alignment, vmID=vm_id, disk=ref(info, info.chain[0].id))


# ---- starting and stopping -------------------------------------------------------------------------------------------


async def kept(host: MemoryHost, name: str = "a", **more: Any) -> VmInfo:
    made = await host.call(vm.define, vmParams={"name": name, "memory": 64, "disks": [{"path": "root"}], **more})
    assert isinstance(made, VmInfo)
    return made


async def test_the_links_are_there_while_it_runs(host: MemoryHost) -> None:
    info = await make(host)
    machine = await kept(host, guestAgent=False)
    assert links(host) == []
    await host.call(vm.start, vmID=machine.vm_id)
    (link,) = links(host)
    assert link.endswith(f"/{info.storage_id}/{info.id}")
    assert f"{host.tree.nodes[link].target}/{info.chain[0].id}" == info.path
    await host.call(vm.shutdown, vmID=machine.vm_id, timeout=5)  # by the guest itself
    await until(lambda: not links(host))
    await host.call(vm.start, vmID=machine.vm_id)
    assert links(host) == [link]
    await host.call(vm.destroy, vmID=machine.vm_id)
    await until(lambda: not links(host))


async def test_a_managers_machine_goes_by_the_links(center: DataCenter) -> None:
    host, made = center.host, await center.image("RAW", "COW", "COW")
    domain = made.where["storagedomainID"]
    place = f"/run/vdsm/storage/{domain}/{made.id}"

    def document(volume_id: str, kind: str = "qcow2", more: str = "") -> dict[str, str]:
        return {
            "xml": "<domain type='kvm'><name>m</name><memory>65536</memory><os><type>hvm</type></os><devices>"
            f"<disk type='file' device='disk'><driver name='qemu' type='{kind}'/><source file='{place}/{volume_id}'/>"
            f"<target dev='vda' bus='virtio'/></disk>{more}</devices></domain>"
        }

    base, middle, top = made.volumes
    twice = document(top)["xml"].partition("<devices>")[2].partition("</devices>")[0].replace("vda", "vdb")
    other = "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/images/a'/><backingStore>"
    other += f"<source file='{place}/{base}'/></backingStore><target dev='vdb'/></disk>"
    for params, problem in (
        (document(base, "raw"), DiskUnusable),
        (document(top, "raw"), DiskUnusable),
        (document(str(uuid.uuid4())), VolumeDoesNotExist),
        (document(top, more=twice), XmlRefused),
        (document(top, more=other), XmlRefused),
    ):
        async with nothing_changed(host, problem):
            await host.call(vm.create, vmParams=params)
    machine = await host.call(vm.create, vmParams=document(top))
    assert await layers(host, machine.vm_id) == [top, middle, base]
    assert links(host) == [place]
    assert (await host.call(vm.get_stats, vmID=machine.vm_id))[0].disks["vda"].image_id == made.id
    await host.call(image.teardown, **made.where)
    assert links(host) == [place], "QEMU goes by it"
    await host.call(vm.snapshot, vmID=machine.vm_id)
    assert len(await layers(host, machine.vm_id)) == 4
    root = ET.XML((await host.call(hosts.dumpxmls, vmList=[machine.vm_id]))[machine.vm_id])
    assert all(source.get("file", "").startswith(f"{place}/") for source in root.iter("source"))
    await host.call(vm.destroy, vmID=machine.vm_id)
    await until(lambda: not links(host))


async def test_a_running_machines_volume_grows_in_the_managers_order(center: DataCenter) -> None:
    host, made = center.host, await center.image("RAW")
    machine = await host.create("a", disks=[{"path": made.id}])
    named: dict[str, Any] = {**made.where, "volumeID": made.volumes[0]}
    await center.call(volume.extend_size, **named, newSize=32 * MIB)
    drive = {"domainID": made.where["storagedomainID"], "imageID": made.id, "volumeID": made.volumes[0]}
    grown = await host.call(vm.disk_size_extend, vmID=machine.vm_id, driveSpecs=drive, newSize=32 * MIB)
    assert grown == 32 * MIB
    assert (await center.call(volume.get_info, **named)).capacity == 32 * MIB


async def test_a_start_that_comes_to_nothing_leaves_no_link(host: MemoryHost) -> None:
    await make(host)
    machine = await kept(host)
    host.hypervisor.faults.set("start", Fault(error="no", times=1))
    with pytest.raises(Problem):
        await host.call(vm.start, vmID=machine.vm_id)
    await until(lambda: not links(host))


async def test_what_ended_while_no_daemon_looked_has_no_links(tmp_path: Path) -> None:
    first = MemoryHost(tmp_path)
    await first.open()
    await first.call(storage.init, path="/storage/vm")
    await make(first)
    await make(first, "other")
    machine = await kept(first)
    await first.call(vm.start, vmID=machine.vm_id)
    await first.create("stays", disks=[{"path": "other"}])
    await first.close()
    hypervisor = first.hypervisor
    hypervisor.watch(lambda event: None)
    await hypervisor.open()
    await hypervisor.power_off(machine.vm_id, graceful=False)
    await hypervisor.close()
    assert len(links(first)) == 2
    second = MemoryHost(tmp_path, hypervisor, tree=first.tree)
    await second.open()
    await until(lambda: len(links(second)) == 1)
    await second.close()


async def test_a_machine_starts_with_the_volume_that_is_written_to_now(center: DataCenter) -> None:
    host, made = center.host, await center.image("RAW")
    machine = await host.call(vm.define, vmParams={"name": "a", "memory": 64, "disks": [{"path": made.id}]})
    new = str(uuid.uuid4())
    await center.call(
        volume.create, **made.where, volumeID=new, size=MIB * 16, volFormat="COW", preallocate="SPARSE",
        diskType="DATA", desc="", srcImgUUID=made.id, srcVolUUID=made.volumes[0],
    )  # fmt: skip
    legality = {**made.where, "volumeID": new}
    await center.call(volume.set_legality, **legality, legality="ILLEGAL")
    with pytest.raises(DiskUnusable):
        await host.call(vm.start, vmID=machine.vm_id)
    await center.call(volume.set_legality, **legality, legality="LEGAL")
    await host.call(vm.start, vmID=machine.vm_id)
    assert await layers(host, machine.vm_id) == [new, made.volumes[0]]


async def test_headers_that_say_another_chain_are_not_started_with(host: MemoryHost) -> None:
    info, machine, _ = await stack(host, 2)
    await host.call(vm.destroy, vmID=machine.vm_id)
    body = host.tree.nodes[(await host.call(disk.get_info, diskID=info.id)).path].body
    assert body is not None
    body.backing_file = "../../../../../../etc/shadow"
    with pytest.raises((DiskUnusable, FileUnusable)):
        await host.create("b", disks=[{"path": "root"}])


# ---- the disc --------------------------------------------------------------------------------------------------------


async def test_a_disc_in_the_storage_is_read_by_many_and_written_by_none(host: MemoryHost) -> None:
    iso = await make(host, "iso")
    drives = [await host.create(name, cdrom="/images/one.iso") for name in ("a", "b")]
    for drive, spec in zip(drives, ("iso", f"{iso.storage_id}/{iso.id}/{iso.chain[0].id}"), strict=True):
        after = await host.call(vm.change_cd, vmID=drive.vm_id, driveSpec=spec)
        assert iso.path in [device.path for device in after.devices]
    assert len(links(host)) == 1
    with pytest.raises(DiskInUse):
        await host.create("c", disks=[{"path": "iso"}])
    for drive in drives:
        await host.call(vm.change_cd, vmID=drive.vm_id, driveSpec="")
    assert links(host) == []
    writer = await host.create("c", disks=[{"path": "iso"}])
    with pytest.raises(DiskInUse):
        await host.call(vm.change_cd, vmID=drives[0].vm_id, driveSpec="iso")
    await host.call(vm.destroy, vmID=writer.vm_id)
    qcow2 = await make(host, "qcow2", format="qcow2")
    with pytest.raises(DiskUnusable, match="raw"):
        await host.call(vm.change_cd, vmID=drives[0].vm_id, driveSpec=qcow2.name)


async def test_what_needs_a_running_machine_says_so(host: MemoryHost) -> None:
    info = await make(host)
    machine = await kept(host)
    volume_id = info.chain[0].id
    for verb, params in (
        (vm.snapshot, {}),
        (vm.freeze, {}),
        (vm.merge, {"drive": ref(info, volume_id), "topVolUUID": volume_id, "baseVolUUID": BLANK}),
        (vm.hotplug_disk, {"params": {"disk": {"path": "/images/a"}}}),
        (vm.disk_size_extend, {"driveSpecs": ref(info, volume_id), "newSize": 2 * MIB}),
    ):
        async with nothing_changed(host, VMIsDown):
            await host.call(verb, vmID=machine.vm_id, **params)

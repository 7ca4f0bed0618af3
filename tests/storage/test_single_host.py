# SPDX-License-Identifier: Apache-2.0
"""Storage of a host without a manager: a directory becomes a domain, disks have names, and nothing is lost."""

from __future__ import annotations

from typing import Any

import pytest

from harness.memory_host import ADMIN, OPERATOR, VIEWER, MemoryHost
from vdsm.contract import disk, storage, task, vm
from vdsm.contract.disk import DiskInfo
from vdsm.contract.errors import AccessDenied, CannotCreateVM, InvalidParams, Problem
from vdsm.contract.errors_domains import (
    DiskExists,
    DiskInUse,
    DiskUnusable,
    NoSuchDisk,
    StorageDomainAlreadyExists,
    StorageDomainDoesNotExist,
    StorageDomainNotEmpty,
    StorageInUse,
    StoragePathRefused,
    StorageUnusable,
    WhichStorage,
)
from vdsm.contract.storage import StorageState, StorageSummary
from vdsm.contract.storage_words import BLANK, StorageDomainRole, StorageDomainType, VolumeStatus
from vdsm.contract.task import State
from vdsm.contract.vm_params import DiskFormat
from vdsm.core.ports.files import FileKind
from vdsm.core.storage.format import domain_meta, volume_meta
from vdsm.drivers.simulated.tree import Node

GIB = 1 << 30


async def only(host: MemoryHost) -> StorageSummary:
    (row,) = await host.call(storage.list_)
    assert isinstance(row, StorageSummary)
    return row


async def make(host: MemoryHost, name: str = "root", **more: Any) -> DiskInfo:
    made = await host.call(disk.create, name=name, size=GIB, **more)
    assert isinstance(made, DiskInfo)
    return made


def paths(host: MemoryHost) -> set[str]:
    """Without the directories for links to images in use, which are made with the first."""
    nodes = host.tree.nodes.items()
    return {path for path, node in nodes if node.kind is not FileKind.DIRECTORY or not path.startswith("/run")}


def edit(host: MemoryHost, path: str, old: bytes, new: bytes) -> None:
    """What another program would do to a file."""
    node = host.tree.nodes[path]
    assert old in node.data
    node.data = node.data.replace(old, new)
    node.size = len(node.data)


# ---- the way through -------------------------------------------------------------------------------------------------


async def test_a_directory_becomes_storage(host: MemoryHost) -> None:
    row = await only(host)
    assert (row.name, row.path, row.state, row.in_charge) == ("vm", "/storage/vm", StorageState.ACTIVE, True)
    assert not row.leases, "a domain without leases says so"
    assert row.free > 0
    meta = domain_meta.decode(bytes(host.tree.nodes[f"/storage/vm/{row.id}/dom_md/metadata"].data))
    assert (meta.uuid, meta.type, meta.role) == (row.id, StorageDomainType.LOCALFS, StorageDomainRole.MASTER)
    assert meta.pools == (row.pool,)
    assert host.tree.nodes[f"/data-center/{row.pool}/{row.id}"].target == f"/data-center/mnt/_storage_vm/{row.id}"
    assert host.tree.nodes[f"/data-center/{row.pool}/mastersd"].target == row.id
    assert host.tree.nodes["/data-center/mnt/_storage_vm"].target == "/storage/vm"


@pytest.mark.parametrize("image_format", DiskFormat)
async def test_a_disk_is_made_used_and_removed(host: MemoryHost, image_format: DiskFormat) -> None:
    before = paths(host)
    made = await make(host, format=image_format)
    assert (made.name, made.size, made.format, made.status) == ("root", GIB, image_format, VolumeStatus.OK)
    (volume,) = made.chain
    meta = volume_meta.decode(bytes(host.tree.nodes[f"{made.path}.meta"].data))
    assert (meta.image, meta.parent, meta.capacity) == (made.id, BLANK, GIB)
    assert made.path.endswith(f"/images/{made.id}/{volume.id}")

    machine = await host.create("a", disks=[{"path": "root"}])
    (device,) = [d for d in machine.devices if d.type == "disk" and d.device == "disk"]
    assert (device.path, device.format) == (made.path, image_format)
    assert (await host.call(disk.get_info, diskID=made.id)).vms == ["a"]
    with pytest.raises(DiskInUse, match="belongs to virtual machine a"):
        await host.call(disk.delete, diskID=made.id)

    await host.call(vm.destroy, vmID=machine.vm_id)
    await host.call(disk.delete, diskID=made.id)
    assert paths(host) == before
    kinds = [(e.data.name, e.subject) for e in await host.events() if e.data.name.startswith("Disk_")]
    assert kinds == [("Disk_created", made.id), ("Disk_removed", made.id)]


async def test_a_size_is_rounded_up_to_whole_blocks(host: MemoryHost) -> None:
    assert (await host.call(disk.create, name="odd", size=1)).size == 4096
    assert (await host.call(disk.create, name="even", size=8192)).size == 8192


async def test_a_plan_changes_nothing(host: MemoryHost) -> None:
    before = paths(host)
    outcome = await host.bridge.call(disk.create, {"name": "root", "size": GIB}, ADMIN, plan=True)
    assert outcome.plan is not None
    assert [step.title for step in outcome.plan.steps] == ["keep a place for root", "make root", "finish root"]
    assert paths(host) == before


async def test_a_disk_can_be_undone_and_storage_with_disks_cannot(host: MemoryHost) -> None:
    before = paths(host)
    init = (await host.call(task.list_))[0]
    await make(host)
    made = (await host.call(task.list_))[0]
    await host.call(task.revert, taskID=init.id)
    reverted = await host.call(task.get, taskID=init.id)
    assert (reverted.state, reverted.problem.code) == (State.BROKEN, StorageDomainNotEmpty.code)
    await host.call(storage.open_, path="/storage/vm")  # the revert had let go of it, and left the data
    await host.call(task.revert, taskID=made.id)
    assert (await host.call(task.get, taskID=made.id)).state is State.REVERTED
    assert paths(host) == before


# ---- who may ---------------------------------------------------------------------------------------------------------


async def test_roles(host: MemoryHost) -> None:
    await host.call(disk.list_, VIEWER)
    await host.call(storage.list_, VIEWER)
    with pytest.raises(AccessDenied):
        await host.call(disk.create, VIEWER, name="x", size=GIB)
    await host.call(disk.create, OPERATOR, name="x", size=GIB)
    with pytest.raises(AccessDenied):
        await host.call(storage.init, OPERATOR, path="/storage/other")


# ---- refusals --------------------------------------------------------------------------------------------------------


async def test_names_and_ids_are_used_once(host: MemoryHost) -> None:
    made = await make(host)
    with pytest.raises(DiskExists):
        await make(host)
    with pytest.raises(DiskExists):
        await make(host, "other", diskID=made.id)
    with pytest.raises(StorageDomainAlreadyExists):
        await host.call(storage.init, path="/storage/second", name="vm")


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a b", "-a", "x\n", "x" * 129])
async def test_names_that_are_none(host: MemoryHost, name: str) -> None:
    with pytest.raises(InvalidParams):
        await make(host, name)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/etc", "outside"),
        ("/storage/../etc", "outside"),
        ("/storagex", "outside"),
        ("/storage/vm/below", "overlaps"),
        ("/storage", "overlaps"),
        ("/storage/file", "no directory"),
    ],
)
async def test_where_storage_is_not_made(host: MemoryHost, path: str, reason: str) -> None:
    host.tree.add("/storage/file", Node(kind=FileKind.FILE, mode=0o644))
    before = paths(host)
    with pytest.raises(StoragePathRefused, match=reason):
        await host.call(storage.init, path=path)
    assert paths(host) == before


async def test_which_storage(host: MemoryHost) -> None:
    await host.call(storage.init, path="/storage/second")
    with pytest.raises(WhichStorage, match="2 storage domains"):
        await make(host)
    with pytest.raises(StorageDomainDoesNotExist):
        await make(host, storage="third")
    assert (await make(host, storage="second")).storage == "second"
    first = next(row for row in await host.call(storage.list_) if row.name == "vm")
    assert (await make(host, "other", storage=first.id)).storage == "vm"


async def test_a_machine_gets_only_what_there_is_and_nobody_has(host: MemoryHost) -> None:
    made = await make(host)
    with pytest.raises(NoSuchDisk):
        await host.create("a", disks=[{"path": "nothing"}])
    with pytest.raises(CannotCreateVM, match="of the format raw"):
        await host.create("a", disks=[{"path": "root", "format": "qcow2"}])
    await host.call(vm.define, vmParams={"name": "a", "memory": 64, "disks": [{"path": made.id}]})
    for path in ("root", made.id, made.path):
        with pytest.raises(DiskInUse):
            await host.create("b", disks=[{"path": path}])


async def test_a_machine_gets_no_disk_twice(host: MemoryHost) -> None:
    made = await make(host)
    for other in ({"path": made.path}, {"path": "root", "readOnly": True}):
        with pytest.raises(CannotCreateVM, match="given twice"):
            await host.create("a", disks=[{"path": "root"}, other])
    only_read = [{"path": "root", "readOnly": True}, {"path": made.id, "readOnly": True}]
    assert (await host.create("a", disks=only_read)).vm_name == "a"


async def test_storage_with_a_machines_disk_stays_open(host: MemoryHost) -> None:
    await make(host)
    row = await only(host)
    machine = await host.create("a", disks=[{"path": "root"}])
    with pytest.raises(StorageInUse, match="virtual machine a"):
        await host.call(storage.close, storageID=row.id)
    await host.call(vm.destroy, vmID=machine.vm_id)
    await host.call(storage.close, storageID=row.id)
    assert await host.call(storage.list_) == await host.call(disk.list_) == []
    with pytest.raises(NoSuchDisk):
        await host.create("a", disks=[{"path": "root"}])
    await host.call(storage.open_, path="/storage/vm")
    assert [d.name for d in await host.call(disk.list_)] == ["root"]
    assert (await only(host)).pool == row.pool


# ---- storage that lies -----------------------------------------------------------------------------------------------


async def test_damaged_metadata_makes_a_domain_unusable_and_is_left_alone(host: MemoryHost) -> None:
    made = await make(host)
    row = await only(host)
    file = f"/storage/vm/{row.id}/dom_md/metadata"
    good = bytes(host.tree.nodes[file].data)
    edit(host, file, b"ROLE=Master", b"ROLE=Maste?")
    await host.repository.refresh(row.id)
    now = await only(host)
    assert now.state is StorageState.UNUSABLE
    assert "checksum" in now.reason
    with pytest.raises(StorageUnusable, match="checksum"):
        await host.call(disk.get_info, diskID=made.id)
    with pytest.raises(WhichStorage):
        await make(host, "second")
    with pytest.raises(StorageDomainAlreadyExists):
        await host.call(storage.init, path="/storage/vm")
    edit(host, file, b"ROLE=Maste?", b"ROLE=Master")
    assert (await only(host)).state is StorageState.ACTIVE, "it is looked at again"
    assert bytes(host.tree.nodes[file].data) == good
    told = [e.data.status for e in await host.events() if e.data.name == "Storage_status"]  # type: ignore[attr-defined]
    assert told == ["active", "unusable", "active"]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"EOF", b"EO", "cut short"),
        (b"PUUID=0000", b"PUUID=1111", "is missing"),
        (b"VOLTYPE=LEAF", b"VOLTYPE=INTERNAL", "0 volumes that are written to"),
        (b"FORMAT=RAW", b"FORMAT=VHD", "FORMAT"),
        (b"IMAGE=", b"IMAGE=0", "no id"),
    ],
)
async def test_a_disk_whose_metadata_lies_is_shown_and_not_used(
    host: MemoryHost, old: bytes, new: bytes, reason: str
) -> None:
    made = await make(host)
    edit(host, f"{made.path}.meta", old, new)
    (row,) = await host.call(disk.list_)
    assert row.status is VolumeStatus.INVALID
    assert reason in row.reason
    with pytest.raises(DiskUnusable, match=reason):
        await host.create("a", disks=[{"path": made.id}])
    await host.call(disk.delete, diskID=made.id)
    assert await host.call(disk.list_) == []


async def test_a_disk_that_is_not_finished_is_not_used(host: MemoryHost) -> None:
    made = await make(host)
    edit(host, f"{made.path}.meta", b"LEGALITY=LEGAL", b"LEGALITY=ILLEGAL")
    (row,) = await host.call(disk.list_)
    assert row.status is VolumeStatus.ILLEGAL
    with pytest.raises(DiskUnusable, match="was not finished"):
        await host.create("a", disks=[{"path": "root"}])


async def test_a_chain_in_a_circle(host: MemoryHost) -> None:
    made = await make(host)
    (volume,) = made.chain
    edit(host, f"{made.path}.meta", BLANK.encode(), volume.id.encode())
    (row,) = await host.call(disk.list_)
    assert "circle" in row.reason


async def test_foreign_directories_are_neither_shown_nor_touched(host: MemoryHost) -> None:
    foreign = "/storage/vm/5f0c1a3e-6d0b-4d0f-9a55-0d7a3e1c2b11"
    host.tree.directory(foreign)
    row = await only(host)
    await host.call(storage.close, storageID=row.id)
    await host.call(storage.open_, path="/storage/vm")
    assert (await only(host)).id == row.id
    assert foreign in paths(host)


async def test_a_full_file_system_leaves_nothing_half(host: MemoryHost) -> None:
    before = paths(host)
    host.tree.room = host.tree.used() + 1_000_000
    with pytest.raises(Problem) as refused:
        await make(host, allocation="PREALLOCATED")
    assert refused.value.slug == "no-space-left-on-domain"
    assert paths(host) == before
    assert await host.call(disk.list_) == []
    await make(host)  # a sparse one still fits

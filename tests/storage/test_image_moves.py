# SPDX-License-Identifier: Apache-2.0
"""Images copied and moved between domains: the same chain there, and the source stays until that is complete."""

from __future__ import annotations

import itertools
import uuid
from typing import Any

import pytest

from harness.data_center import POOL, SD, SD2, DataCenter, Made, MiB
from vdsm.contract import disk, image, storage_domain, task, vm, volume
from vdsm.contract.errors import InvalidParams, Problem, TaskNotRevertible
from vdsm.contract.errors_domains import (
    CannotDeleteSharedVolume,
    CouldNotValidateTemplateOnTargetDomain,
    DiskInUse,
    DiskUnusable,
    NoSuchDisk,
    OverwriteImageError,
    SpmStatusError,
    StorageDomainDoesNotExist,
    VolumeDoesNotExist,
    VolumeImageHasChildren,
)
from vdsm.contract.errors_storage import NoSpaceLeftOnDomain
from vdsm.contract.storage_words import BLANK, VolumeLegality, VolumeRole
from vdsm.contract.task import State
from vdsm.drivers.simulated.faults import Fault

LEGAL, ILLEGAL = VolumeLegality.LEGAL, VolumeLegality.ILLEGAL
FLAGS = {"postZero": False, "force": False}


def there(made: Made) -> Made:
    """The same image in the other domain."""
    return Made(made.id, list(made.volumes), SD2)


async def move(center: DataCenter, made: Made, operation: str = "MOVE", **more: Any) -> None:
    params = {**made.where, "dstSdUUID": SD2, "operation": operation, **FLAGS}
    await center.call(image.move, **{**params, **more})


async def copy(center: DataCenter, made: Made, number: int = -1, **more: Any) -> Made:
    copied = Made(str(uuid.uuid4()), [str(uuid.uuid4())], more.get("dstSdUUID", made.domain))
    into = {"dstSdUUID": made.domain, "dstImgUUID": copied.id, "dstVolUUID": copied.volumes[0], "desc": "copy"}
    words = {"volType": "LEAF", "volFormat": "RAW", "preallocate": "SPARSE", **FLAGS}
    await center.call(volume.copy, **{**made.where, "volumeID": made.volumes[number], **into, **words, **more})
    return copied


async def reads(center: DataCenter, made: Made) -> list[int]:
    """The byte at each of the first megabytes that a guest finds."""
    found = await center.host.storage.catalog.find_in(made.domain, made.id)
    return [center.host.disk_images.read(found.file(made.volumes[-1]), n * MiB) for n in range(4)]


async def last(center: DataCenter, method: str) -> Any:
    return next(row for row in await center.call(task.list_) if row.verb == method)


# ---- moving and copying ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["COPY", "MOVE"])
async def test_a_chain_is_the_same_in_the_other_domain(center: DataCenter, operation: str) -> None:
    made = await center.image("RAW", "COW", "COW")
    roles, seen = center.roles(made), await reads(center, made)
    metas = [center.meta(made, number) for number in range(3)]
    await move(center, made, operation)
    moved = there(made)
    assert center.roles(moved) == roles
    assert await reads(center, moved) == seen == [1, 2, 3, 0]
    for number, meta in enumerate(metas):
        other = center.meta(moved, number)
        assert (other.domain, other.parent, other.capacity) == (SD2, meta.parent, meta.capacity)
        assert (other.legality, other.sequence, other.created) == (LEGAL, meta.sequence, meta.created)
    assert await center.findings() == await center.findings(SD2) == []
    found = await center.call(storage_domain.get_images, storagedomainID=SD)
    assert found == ([made.id] if operation == "COPY" else [])
    steps = (await last(center, "Image.move")).steps
    assert [step.title for step in steps][:3] == [f"make volume {name}" for name in made.volumes]
    events = [(e.data.name, e.data.storage_id) for e in await center.host.events() if e.subject == made.id]  # type: ignore[attr-defined]
    assert events[1:] == [("Disk_created", SD2), *([("Disk_removed", SD)] if operation == "MOVE" else [])]


async def test_records_of_changes_come_along(center: DataCenter) -> None:
    made = Made(str(uuid.uuid4()), [])
    await center.volume(made, bitmap=(bitmap := str(uuid.uuid4())))
    await move(center, made)
    body = center.host.tree.nodes[there(made).path(0)].body
    assert body is not None
    assert list(body.bitmaps) == [bitmap]


async def test_what_a_merge_left_is_not_taken_along(center: DataCenter) -> None:
    made = await center.image("RAW", "COW", "COW")
    domain = center.host.repository.find(SD)
    await center.host.storage.reconciler.reconcile(domain, made.id, made.volumes[1])
    await move(center, made)
    assert await center.call(image.get_volumes, **there(made).where) == sorted(made.volumes[:2])
    assert await center.findings() == await center.findings(SD2) == []


async def test_the_progress_is_that_of_the_whole(center: DataCenter) -> None:
    made = await center.image("RAW", "COW", size=512 * MiB)
    for megabyte in range(256):
        center.write(made, 0, megabyte * MiB, 7)
    await move(center, made)
    seen = [e.data.progress for e in await center.host.events() if getattr(e.data, "verb", "") == "Image.move"]  # type: ignore[attr-defined]
    assert seen == sorted(seen)
    assert seen[-1] == 100
    assert max(after - before for before, after in itertools.pairwise(seen)) > 40, "the base holds nearly all data"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"dstSdUUID": SD}, InvalidParams),
        ({"dstSdUUID": BLANK}, StorageDomainDoesNotExist),
        ({"imageID": BLANK}, NoSuchDisk),
        ({"storagepoolID": BLANK}, SpmStatusError),
        ({"operation": "UNKNOWN"}, InvalidParams),
        ({"dstSdUUID": "../../etc"}, InvalidParams),
    ],
)
async def test_where_an_image_does_not_go(center: DataCenter, change: dict[str, str], problem: type[Problem]) -> None:
    made = await center.image("RAW", "COW")
    before = center.snapshot()
    with pytest.raises(problem):
        await move(center, made, **change)
    assert center.snapshot() == before


async def test_what_does_not_go(center: DataCenter) -> None:
    made, bad, twice = await center.image("RAW", "COW"), await center.image("RAW"), await center.image("RAW")
    machine = await center.host.create("a", disks=[{"path": made.id}])
    center.edit_meta(bad, 0, b"LEGALITY=LEGAL", b"LEGALITY=ILLEGAL")
    await move(center, twice, "COPY")
    before = center.snapshot()
    for one, problem in ((made, DiskInUse), (bad, DiskUnusable), (twice, OverwriteImageError)):
        with pytest.raises(problem):
            await move(center, one, force=True)
    assert center.snapshot() == before
    await center.call(vm.destroy, vmID=machine.vm_id)
    await move(center, made)


async def test_a_full_target_leaves_the_source_and_nothing_else(center: DataCenter) -> None:
    made = await center.image("RAW", "COW")
    before = center.snapshot()
    center.host.tree.room = center.host.tree.used() + MiB
    with pytest.raises(NoSpaceLeftOnDomain):
        await move(center, made)
    assert center.snapshot() == before


@pytest.mark.parametrize("method", ["convert", "create"])
async def test_a_broken_target_leaves_the_source_and_nothing_else(center: DataCenter, method: str) -> None:
    made = await center.image("RAW", "COW")
    before = center.snapshot()
    center.host.disk_faults.set(method, Fault(error="Input/output error"))
    with pytest.raises(Problem, match="Input/output error"):
        await move(center, made)
    center.host.disk_faults.clear()
    assert center.snapshot() == before


async def test_a_finished_move_is_not_undone_for_it_is_the_only_copy(center: DataCenter) -> None:
    made = await center.image("RAW", "COW")
    await move(center, made)
    before = center.snapshot()
    with pytest.raises(TaskNotRevertible):
        await center.call(task.revert, taskID=(await last(center, "Image.move")).id)
    assert center.snapshot() == before


async def test_a_finished_copy_can_be_undone(center: DataCenter) -> None:
    made = await center.image("RAW", "COW")
    before = center.snapshot()
    await move(center, made, "COPY")
    done = await last(center, "Image.move")
    await center.call(task.revert, taskID=done.id)
    assert (await center.call(task.get, taskID=done.id)).state is State.REVERTED
    assert center.snapshot() == before


# ---- step by step ----------------------------------------------------------------------------------------------------


async def test_structure_first_and_then_the_data(center: DataCenter) -> None:
    made = await center.image("RAW", "COW", "COW")
    where = {**made.where, "dstSdUUID": SD2}
    machine = await center.host.create("a", disks=[{"path": made.id}])
    await center.call(image.clone_structure, **where)
    moved = there(made)
    assert [center.meta(moved, n).legality for n in range(3)] == [ILLEGAL] * 3
    assert await reads(center, moved) == [0, 0, 0, 0]
    await center.call(image.sync_data, **where, syncType="INTERNAL")
    assert [center.meta(moved, n).legality for n in range(3)] == [LEGAL, LEGAL, ILLEGAL]
    assert await reads(center, moved) == [1, 2, 0, 0]
    for kind in ("LEAF", "ALL"):
        with pytest.raises(DiskInUse):
            await center.call(image.sync_data, **where, syncType=kind)
    await center.call(vm.destroy, vmID=machine.vm_id)
    await center.call(image.sync_data, **where, syncType="LEAF")
    assert await reads(center, moved) == [1, 2, 3, 0]
    assert await center.findings(SD2) == []
    center.write(made, 0, 0, 9)
    await center.call(image.sync_data, **where, syncType="ALL")
    assert await reads(center, moved) == [9, 2, 3, 0]


async def test_data_need_the_structure(center: DataCenter) -> None:
    made, other = await center.image("RAW", "COW"), await center.image("RAW", "COW")
    where = {**made.where, "dstSdUUID": SD2}
    with pytest.raises(VolumeDoesNotExist):
        await center.call(image.sync_data, **where, syncType="ALL")
    await center.call(image.clone_structure, **where)
    with pytest.raises(OverwriteImageError):
        await center.call(image.clone_structure, **where)
    center.edit_meta(there(made), 1, made.volumes[0].encode(), other.volumes[0].encode())
    with pytest.raises(Problem):
        await center.call(image.sync_data, **where, syncType="LEAF")


# ---- templates -------------------------------------------------------------------------------------------------------


async def test_a_chain_becomes_a_template_that_images_go_on_from(center: DataCenter) -> None:
    made = await center.image("RAW", "COW")
    source = await copy(center, made, volType="SHARED", volFormat="COW")
    meta = center.meta(source, 0)
    assert (meta.role, meta.legality, meta.parent, meta.description) == (VolumeRole.SHARED, LEGAL, BLANK, "copy")
    assert await reads(center, source) == [1, 2, 0, 0]
    derived = Made(str(uuid.uuid4()), [])
    await center.volume(derived, srcImgUUID=source.id, srcVolUUID=source.volumes[0])
    assert await reads(center, derived) == [1, 2, 0, 0]
    center.write(derived, 0, 0, 9)
    assert await reads(center, derived) == [9, 2, 0, 0]
    assert await center.findings() == []

    done = await last(center, "Volume.copy")
    await center.call(task.revert, taskID=done.id)
    assert (await center.call(task.get, taskID=done.id)).problem.code == VolumeImageHasChildren.code
    assert await reads(center, derived) == [9, 2, 0, 0]

    # To another domain: first the template, then what goes on from it.
    with pytest.raises(CouldNotValidateTemplateOnTargetDomain):
        await move(center, derived)
    with pytest.raises(CannotDeleteSharedVolume):
        await move(center, source)
    same: dict[str, Any] = {"dstSdUUID": SD2, "dstImgUUID": source.id, "dstVolUUID": source.volumes[0]}
    await copy(center, source, volType="SHARED", volFormat="COW", **same)
    await move(center, derived)
    assert await reads(center, there(derived)) == [9, 2, 0, 0]
    tree = center.host.tree.nodes
    linked = f"{there(derived).directory}/{source.volumes[0]}"
    assert tree[linked] is tree[there(source).path(0)]
    assert await center.findings() == await center.findings(SD2) == []
    alone = await copy(center, there(derived))
    assert await reads(center, alone) == [9, 2, 0, 0]


async def test_a_template_of_another_size_is_not_taken_for_it(center: DataCenter) -> None:
    made = await center.image("RAW")
    source = await copy(center, made, volType="SHARED")
    derived = Made(str(uuid.uuid4()), [])
    await center.volume(derived, srcImgUUID=source.id, srcVolUUID=source.volumes[0])
    same: dict[str, Any] = {"dstSdUUID": SD2, "dstImgUUID": source.id, "dstVolUUID": source.volumes[0]}
    await copy(center, source, volType="SHARED", **same)
    center.edit_meta(there(source), 0, b"CAP=16777216", b"CAP=16773120")
    with pytest.raises(CouldNotValidateTemplateOnTargetDomain):
        await move(center, derived)


@pytest.mark.parametrize("vol_format", ["RAW", "COW", None])
async def test_a_volume_is_copied_with_what_it_goes_on_from(center: DataCenter, vol_format: str | None) -> None:
    made = await center.image("RAW", "COW", "COW")
    before = set(center.host.tree.nodes)
    copied = await copy(center, made, 1, volFormat=vol_format, dstSdUUID=SD2)
    assert await reads(center, copied) == [1, 2, 0, 0]
    meta = center.meta(copied, 0)
    assert (meta.format, meta.role) == (vol_format or "COW", VolumeRole.LEAF)
    done = await last(center, "Volume.copy")
    await center.call(task.revert, taskID=done.id)
    assert set(center.host.tree.nodes) == before


async def test_what_is_not_copied(center: DataCenter) -> None:
    made, other = await center.image("RAW", "COW"), await center.image("RAW")
    await center.host.create("a", disks=[{"path": made.id}])
    before = center.snapshot()
    calls: list[tuple[dict[str, Any], type[Problem]]] = [
        ({}, DiskInUse),
        ({"volumeID": BLANK}, VolumeDoesNotExist),
        ({"volumeID": made.volumes[0], "dstImgUUID": other.id}, OverwriteImageError),
        ({"volumeID": made.volumes[0], "volType": "INTERNAL"}, InvalidParams),
        ({"volumeID": made.volumes[0], "dstSdUUID": POOL}, StorageDomainDoesNotExist),
    ]
    for change, problem in calls:
        with pytest.raises(problem):
            await copy(center, made, **change)
    assert center.snapshot() == before
    await copy(center, made, 0)  # what a machine only reads may be copied
    assert len(await center.call(disk.list_)) == 3

# SPDX-License-Identifier: Apache-2.0
"""Volumes deleted: the chain on disk afterwards, and every refusal changes nothing."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from harness.data_center import SD2, DataCenter, Made, MiB, named, nothing_changed
from harness.memory_host import ADMIN
from vdsm.contract import AnyVerb, image, storage_domain, task, vm, volume
from vdsm.contract.errors import InvalidParams, Problem, TaskNotRevertible
from vdsm.contract.errors_domains import (
    DiskInUse,
    DiskUnusable,
    NoSuchDisk,
    SpmStatusError,
    StorageDomainDoesNotExist,
    VolumeDoesNotExist,
    VolumeImageHasChildren,
)
from vdsm.contract.storage_words import BLANK, VolumeLegality, VolumeRole
from vdsm.contract.task import State
from vdsm.contract.vm_params import DiskFormat
from vdsm.drivers.simulated.faults import Fault

ILLEGAL = VolumeLegality.ILLEGAL
LEAF, INTERNAL = VolumeRole.LEAF, VolumeRole.INTERNAL


async def merged(center: DataCenter) -> Made:
    """raw <- cow <- cow, the middle one having been merged into the base."""
    made = await center.image("RAW", "COW", "COW")
    body = center.host.tree.nodes[made.path(2)].body
    assert body is not None
    body.backing_file, body.backing_format = made.volumes[0], DiskFormat.RAW
    await center.call(image.reconcile_volume_chain, **made.where, leafVolID=made.volumes[2])
    return made


# ---- deleting --------------------------------------------------------------------------------------------------------


async def test_the_last_volume_goes_and_its_parent_is_written_to_again(center: DataCenter) -> None:
    made = await center.image("RAW", "COW", "COW")
    await center.call(volume.delete, **named(made), postZero=True, force=False, discard=True)
    assert not [path for path in center.host.tree.nodes if made.volumes[2] in path]
    assert await center.call(image.get_volumes, **made.where) == sorted(made.volumes[:2])
    del made.volumes[2]
    assert center.roles(made) == [INTERNAL, LEAF]
    assert await center.findings() == []
    await center.volume(made)  # it can go on from there


async def test_with_its_only_volume_the_image_goes(center: DataCenter) -> None:
    before = set(center.host.tree.nodes)
    made = await center.image("RAW")
    await center.call(volume.delete, **named(made), postZero=False, force=False)
    assert set(center.host.tree.nodes) == before
    kinds = [e.data.name for e in await center.host.events() if e.subject == made.id]
    assert kinds[-1] == "Disk_removed"


async def test_several_volumes_go_from_the_end(center: DataCenter) -> None:
    made = await center.image("RAW", "COW", "COW", "COW")
    await center.call(image.delete_volumes, **made.where, volumeList=[*made.volumes[2:], made.volumes[3]])
    del made.volumes[2:]
    assert center.roles(made) == [INTERNAL, LEAF]
    assert await center.findings() == []
    await center.call(image.delete_volumes, **made.where, volumeList=made.volumes)
    with pytest.raises(NoSuchDisk):
        await center.call(image.get_volumes, **made.where)


async def test_with_its_chain_goes_what_merges_left(center: DataCenter) -> None:
    before = set(center.host.tree.nodes)
    made = await merged(center)
    await center.call(image.delete_volumes, **made.where, volumeList=[made.volumes[0], made.volumes[2]])
    assert set(center.host.tree.nodes) == before


async def test_what_a_merge_left_goes_while_a_machine_writes(center: DataCenter) -> None:
    made = await merged(center)
    await center.host.create("a", disks=[{"path": made.id}])
    await center.call(image.delete_volumes, **made.where, volumeList=[made.volumes[1]])
    assert await center.findings() == []
    assert await center.call(image.get_volumes, **made.where) == sorted([made.volumes[0], made.volumes[2]])
    async with nothing_changed(center, DiskInUse):
        await center.call(image.delete_volumes, **made.where, volumeList=[made.volumes[2]])


async def test_what_reads_still_go_through_stays_whatever_its_metadata_say(center: DataCenter) -> None:
    made = await merged(center)
    body = center.host.tree.nodes[made.path(2)].body
    assert body is not None
    body.backing_file, body.backing_format = made.volumes[1], DiskFormat.QCOW2
    async with nothing_changed(center, DiskUnusable, "reads still go through"):
        await center.call(image.delete_volumes, **made.where, volumeList=[made.volumes[1]])


async def test_bad_metadata_go_by_force_alone(center: DataCenter) -> None:
    made = await center.image("RAW", "COW")
    stray = Made(made.id, [str(uuid.uuid4())])
    center.host.tree.nodes[f"{stray.path(0)}.meta"] = center.host.tree.nodes[f"{made.path(0)}.meta"].__class__(
        kind=center.host.tree.nodes[made.path(0)].kind, mode=0o660, data=bytearray(b"CAP=1\n"), size=6
    )
    async with nothing_changed(center, DiskUnusable, "bad metadata"):
        await center.call(image.delete_volumes, **made.where, volumeList=stray.volumes)
    await center.call(image.delete_volumes, **made.where, volumeList=stray.volumes, force=True)
    assert await center.findings() == []


async def test_what_has_no_way_back_is_not_stopped(center: DataCenter) -> None:
    made = await center.image("RAW", "COW")
    center.host.file_faults.set("remove", Fault(delay=0.3))
    outcome = await center.host.bridge.call(
        volume.delete, {**named(made), "postZero": False, "force": False}, ADMIN, wait=0
    )
    assert outcome.task is not None
    with pytest.raises(TaskNotRevertible, match="no way back"):
        await center.call(task.stop, taskID=outcome.task.id)
    center.host.file_faults.clear()
    await center.host.locks.hold("test", [f"disk:{made.id}"])  # until it is over
    assert (await center.call(task.get, taskID=outcome.task.id)).state is State.DONE
    assert await center.findings() == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"volumeID": BLANK}, VolumeDoesNotExist),
        ({"imageID": BLANK}, NoSuchDisk),
        ({"storagedomainID": BLANK}, StorageDomainDoesNotExist),
        ({"storagepoolID": BLANK}, SpmStatusError),
        ({"volumeID": "../../dom_md"}, InvalidParams),
        ({"imageID": "../.."}, InvalidParams),
    ],
)
@pytest.mark.parametrize("verb", [volume.delete, volume.extend_size])
async def test_what_is_not_there_is_not_changed(
    center: DataCenter, verb: AnyVerb, change: dict[str, str], problem: type[Problem]
) -> None:
    made = await center.image("RAW", "COW")
    more = {"newSize": 32 * MiB} if verb is volume.extend_size else {"postZero": False, "force": False}
    async with nothing_changed(center, problem):
        await center.call(verb, **{**named(made), **more, **change})


async def test_a_volume_that_others_go_on_from_stays(center: DataCenter) -> None:
    made = await center.image("RAW", "COW", "COW")
    for number in (0, 1):
        async with nothing_changed(center, VolumeImageHasChildren, made.volumes[number + 1]):
            await center.call(volume.delete, **named(made, number), postZero=False, force=True)
    async with nothing_changed(center, VolumeImageHasChildren):
        await center.call(image.delete_volumes, **made.where, volumeList=[made.volumes[0], made.volumes[2]])


async def test_a_machines_volume_stays(center: DataCenter) -> None:
    made = await center.image("RAW", "COW")
    machine = await center.host.create("a", disks=[{"path": made.id}])
    async with nothing_changed(center, DiskInUse):
        await center.call(volume.delete, **named(made), postZero=False, force=True)
    await center.call(vm.destroy, vmID=machine.vm_id)
    await center.call(volume.delete, **named(made), postZero=False, force=False)


async def test_a_finished_volume_that_others_go_on_from_is_not_undone(center: DataCenter) -> None:
    made = await center.image("RAW", "COW")
    tasks = [row for row in await center.call(task.list_) if row.verb == "Volume.create"]
    before = center.snapshot()
    await center.call(task.revert, taskID=tasks[-1].id)
    assert (await center.call(task.get, taskID=tasks[-1].id)).problem.code == VolumeImageHasChildren.code
    assert center.snapshot() == before
    assert await center.findings() == []
    assert len(made.volumes) == 2


async def test_what_a_machine_uses_by_now_is_not_undone(center: DataCenter) -> None:
    made = await center.image("RAW")
    await center.host.create("a", disks=[{"path": made.id}])
    (row,) = [row for row in await center.call(task.list_) if row.verb == "Volume.create"]
    before = center.snapshot()
    await center.call(task.revert, taskID=row.id)
    assert (await center.call(task.get, taskID=row.id)).problem.code == DiskInUse.code
    assert center.snapshot() == before


# ---- storage that lies -----------------------------------------------------------------------------------------------


def cut(center: DataCenter, made: Made) -> None:
    center.edit_meta(made, 1, b"EOF\n", b"")


def loop(center: DataCenter, made: Made) -> None:
    center.edit_meta(made, 0, BLANK.encode(), made.volumes[1].encode())


def orphan(center: DataCenter, made: Made) -> None:
    del center.host.tree.nodes[f"{made.path(0)}.meta"]


def absurd(center: DataCenter, made: Made) -> None:
    center.edit_meta(made, 1, b"CAP=16777216", b"CAP=99999999999999999999")


@pytest.mark.parametrize("lie", [cut, loop, orphan, absurd])
async def test_a_chain_that_lies_is_left_alone(center: DataCenter, lie: Callable[[DataCenter, Made], None]) -> None:
    made = await center.image("RAW", "COW", domain=SD2)
    lie(center, made)
    async with nothing_changed(center, DiskUnusable):
        await center.call(volume.delete, **named(made), postZero=False, force=False)
    calls: list[tuple[AnyVerb, dict[str, Any]]] = [
        (volume.extend_size, {"newSize": 32 * MiB}),
        (volume.measure, {"dstVolFormat": "RAW"}),
        (volume.verify_untrusted, {}),
    ]
    for verb, more in calls:
        async with nothing_changed(center, Problem):
            await center.call(verb, **named(made), **more)


async def test_a_link_in_an_images_place_leads_nowhere(center: DataCenter) -> None:
    made, other = await center.image("RAW", "COW", domain=SD2), await center.image("RAW", domain=SD2)
    tree = center.host.tree
    await center.host.storage_files.make_symlink("/storage/dc", f"{SD2}/images/{BLANK}", made.directory)
    at = {**other.where, "imageID": BLANK}
    calls: list[tuple[AnyVerb, dict[str, Any]]] = [
        (volume.delete, {**at, "volumeID": made.volumes[1], "postZero": False, "force": True}),
        (volume.extend_size, {**at, "volumeID": made.volumes[1], "newSize": 32 * MiB}),
        (image.reconcile_volume_chain, {**at, "leafVolID": made.volumes[1]}),
    ]
    for verb, params in calls:
        before = dict(tree.nodes)
        with pytest.raises(Problem, match="symbolic link"):
            await center.call(verb, **params)
        assert dict(tree.nodes) == before


# ---- many of them ----------------------------------------------------------------------------------------------------


async def test_lists_of_many_volumes_take_one_call(center: DataCenter, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await center.image("RAW")
    tree, data = center.host.tree, bytes(center.host.tree.nodes[f"{made.path(0)}.meta"].data)
    for _ in range(300):
        other = Made(str(uuid.uuid4()), [str(uuid.uuid4())])
        tree.directory(other.directory)
        node = copy.copy(tree.nodes[f"{made.path(0)}.meta"])
        node.data = bytearray(data.replace(made.id.encode(), other.id.encode()))
        tree.nodes[f"{other.path(0)}.meta"] = node
    asked: list[str] = []
    files = center.host.storage_files
    for name in ("read", "read_all", "names", "status"):
        monkeypatch.setattr(files, name, _noting(getattr(files, name), name, asked))
    assert len(await center.call(storage_domain.get_images, storagedomainID=made.domain)) == 301
    assert len(await center.call(storage_domain.get_volumes, storagedomainID=made.domain)) == 301
    assert asked == ["read_all"] * 2
    one: dict[str, Any] = {"storagedomainID": made.domain, "imageID": made.id}
    assert await center.call(storage_domain.get_volumes, **one) == made.volumes
    assert asked[2:] == ["names", "read"], "of one image only that is read"


def _noting(method: Callable[..., Any], name: str, asked: list[str]) -> Callable[..., Any]:
    def noted(*args: Any, **kwargs: Any) -> Any:
        asked.append(name)
        return method(*args, **kwargs)

    return noted

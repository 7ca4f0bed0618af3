# SPDX-License-Identifier: Apache-2.0
"""Disks of a single host get snapshots, lose them and grow, and read the same all the while."""

from __future__ import annotations

from typing import Any

import pytest

from harness.memory_host import MemoryHost
from harness.volumes import Volumes, new_id
from vdsm.contract import AnyVerb, disk, task
from vdsm.contract.disk import DiskInfo
from vdsm.contract.errors import TaskNotRevertible
from vdsm.contract.errors_domains import (
    DiskUnusable,
    MergeSnapshotsError,
    NoSuchDisk,
    VolumeResizeValueError,
)
from vdsm.contract.storage_words import VolumeStatus
from vdsm.contract.vm_params import DiskFormat

MIB = 1 << 20


@pytest.fixture
async def volumes(host: MemoryHost) -> Volumes:
    return await Volumes.of(host)


async def make(volumes: Volumes, **more: Any) -> DiskInfo:
    made: DiskInfo = await volumes.host.call(disk.create, name="root", size=16 * MIB, **more)
    return made


def ids(info: DiskInfo) -> list[str]:
    return [volume.id for volume in info.chain]


@pytest.mark.parametrize("image_format", DiskFormat)
async def test_a_disk_gets_snapshots_and_loses_them(volumes: Volumes, image_format: DiskFormat) -> None:
    made = await make(volumes, format=image_format)
    files = volumes.names()
    (base,) = ids(made)
    volumes.write(made.id, base, 0, 1)
    for number in (1, 2):
        info = await volumes.host.call(disk.snapshot, diskID=made.id)
        assert len(info.chain) == number + 1
        assert (info.name, info.status, info.size) == ("root", VolumeStatus.OK, 16 * MIB)
        assert info.path == volumes.path(made.id, info.chain[0].id)
        volumes.write(made.id, info.chain[0].id, number, number + 1)
    top, middle, _ = ids(info)
    assert await volumes.read(made.id, top) == [1, 2, 3, 0]
    assert await volumes.read(made.id, middle) == [1, 2, 0, 0], "a snapshot keeps what was"

    info = await volumes.host.call(disk.merge, diskID=made.id, volumeID=middle)
    assert ids(info) == [top, base]
    assert await volumes.read(made.id, top) == [1, 2, 3, 0]
    info = await volumes.host.call(disk.merge, diskID=made.id)
    assert (ids(info), info.name, info.status) == ([base], "root", VolumeStatus.OK)
    assert await volumes.read(made.id, base) == [1, 2, 3, 0]
    assert volumes.names() == files, "nothing is left over"
    merged = (await volumes.host.call(task.list_))[0]
    with pytest.raises(TaskNotRevertible):
        await volumes.host.call(task.revert, taskID=merged.id)
    assert await volumes.check() == []


async def test_a_disk_grows_and_its_snapshots_with_it_when_they_are_merged(volumes: Volumes) -> None:
    made = await make(volumes)
    await volumes.host.call(disk.snapshot, diskID=made.id)
    info = await volumes.host.call(disk.extend, diskID=made.id, size=20 * MIB + 1)
    assert info.size == 20 * MIB + 4096
    info = await volumes.host.call(disk.merge, diskID=made.id)
    assert info.size == 20 * MIB + 4096
    file = await volumes.file(made.id, info.chain[0].id)
    assert (await volumes.host.disk_images.info(file)).virtual_size == info.size
    with pytest.raises(VolumeResizeValueError):
        await volumes.host.call(disk.extend, diskID=made.id, size=16 * MIB)


async def test_bitmaps_stay_through_a_snapshot_and_its_end(volumes: Volumes) -> None:
    image, (base,) = await volumes.chain(1, form="COW", bitmap=(bitmap := new_id()))
    volumes.write(image, base, 0, 1)
    info = await volumes.host.call(disk.snapshot, diskID=image)
    top = info.chain[0].id
    assert await volumes.bitmaps(image, top) == [bitmap]
    volumes.write(image, top, 2, 1)
    await volumes.host.call(disk.merge, diskID=image)
    body = volumes.host.tree.file(volumes.path(image, base)).body
    assert body is not None
    assert body.bitmaps[bitmap].dirty == {0, 2}


async def test_what_is_refused_changes_nothing(volumes: Volumes) -> None:
    made = await make(volumes)
    waiting = await volumes.host.call(disk.create, name="up", size=MIB, uploadSize=MIB)
    other, (lone,) = await volumes.chain(1)
    before = await volumes.dump()
    verbs: list[tuple[AnyVerb, dict[str, Any]]] = [
        (disk.snapshot, {}),
        (disk.merge, {}),
        (disk.extend, {"size": 32 * MIB}),
    ]
    for which, problem in ((waiting.id, DiskUnusable), (new_id(), NoSuchDisk)):
        for verb, more in verbs:
            with pytest.raises(problem):
                await volumes.host.call(verb, diskID=which, **more)
    for which in (None, made.chain[0].id, lone):
        with pytest.raises(MergeSnapshotsError):
            await volumes.host.call(disk.merge, diskID=made.id, volumeID=which)
    assert await volumes.dump() == before
    assert other in {row.image for row in before.values()}

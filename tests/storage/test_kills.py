# SPDX-License-Identifier: Apache-2.0
"""A daemon dies at any moment of a change to volumes: the next one finishes it, or undoes it, and nothing is left.

Moments are every boundary of a task and every change to a file or an image. At each the host stops dead; then two
others start from what it left: one that goes on, and one, late, that goes back.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from harness.dying import Blows, Killed, begin, stop_dead
from harness.memory_host import MemoryHost
from harness.volumes import Volumes, new_id
from vdsm.contract import AnyVerb, disk, image, sdm, storage, storage_pool, task, volume
from vdsm.contract.storage_words import VolumeStatus
from vdsm.contract.task import State

OLD, NEW = new_id(), new_id()  # bitmaps


Calls = list[tuple[AnyVerb, dict[str, Any]]]


class Shape(NamedTuple):
    """How a disk stands, without the names of its volumes."""

    status: VolumeStatus
    metas: list[tuple[int, int, str]]  # generation, capacity, description of each volume
    bitmaps: list[list[str]]
    reads: list[int]
    files: int


async def written(volumes: Volumes, length: int) -> tuple[str, list[str]]:
    name, chain = await volumes.chain(length, form="COW", bitmap=OLD)
    for number, one in enumerate(chain):
        volumes.write(name, one, number, number + 1)
    return name, chain


async def a_volume(volumes: Volumes) -> Calls:
    name, (base,) = await written(volumes, 1)
    params = {
        "volumeID": new_id(), "storagepoolID": volumes.pool, "storagedomainID": volumes.domain, "imageID": name,
        "size": 16 << 20, "volFormat": "COW", "preallocate": "SPARSE", "diskType": "DATA", "desc": "d",
        "srcImgUUID": name, "srcVolUUID": base, "addBitmaps": True,
    }  # fmt: skip
    return [(volume.create, params)]


async def a_copy(volumes: Volumes) -> Calls:
    name, (_, top) = await written(volumes, 2)
    other, (target,) = await volumes.chain(1, form="COW")
    ends = {"source": volumes.endpoint(name, top), "destination": volumes.endpoint(other, target)}
    return [(sdm.copy_data, {**ends, "copy_bitmaps": True})]


async def a_merge(volumes: Volumes, length: int, done: int) -> Calls:
    name, chain = await written(volumes, length)
    info = {"sd_id": volumes.domain, "img_id": name, "base_id": chain[0], "top_id": chain[1]}
    where = {"storagepoolID": volumes.pool, "storagedomainID": volumes.domain, "imageID": name}
    calls: Calls = [
        (storage_pool.prepare_merge, {"storagepoolID": volumes.pool, "subchainInfo": info}),
        (sdm.merge, {"subchain_info": info, "merge_bitmaps": True}),
        (storage_pool.finalize_merge, {"storagepoolID": volumes.pool, "subchainInfo": info}),
        (image.delete_volumes, {**where, "volumeList": [chain[1]]}),
    ]
    for verb, params in calls[:done]:
        await volumes.host.call(verb, **with_job(verb, params))
    return calls[done:]


def with_job(verb: AnyVerb, params: dict[str, Any]) -> dict[str, Any]:
    return {**params, "job_id": new_id()} if verb.task_id_param else params


async def a_job(volumes: Volumes, verb: AnyVerb, **more: Any) -> Calls:
    name, (base,) = await written(volumes, 1)
    return [(verb, {"vol_info": volumes.endpoint(name, base), **more})]


async def a_disk(volumes: Volumes, verb: AnyVerb, length: int, **more: Any) -> Calls:
    name, _ = await written(volumes, length)
    return [(verb, {"diskID": name, **more})]


async def a_middle(volumes: Volumes) -> Calls:
    name, chain = await written(volumes, 3)
    return [(disk.merge, {"diskID": name, "volumeID": chain[1]})]


Story = Callable[[Volumes], Awaitable[Calls]]
"""Answers the calls after which all is well again; the daemon dies in the first."""

STORIES: dict[str, Story] = {
    "Volume.create": a_volume,
    "SDM.copy_data": a_copy,
    "StoragePool.prepareMerge": functools.partial(a_merge, length=3, done=0),
    "SDM.merge": functools.partial(a_merge, length=3, done=1),
    "StoragePool.finalizeMerge": functools.partial(a_merge, length=3, done=2),
    "StoragePool.finalizeMerge of the last": functools.partial(a_merge, length=2, done=2),
    "SDM.add_bitmap": functools.partial(a_job, verb=sdm.add_bitmap, bitmap=NEW),
    "SDM.remove_bitmap": functools.partial(a_job, verb=sdm.remove_bitmap, bitmap=OLD),
    "SDM.clear_bitmaps": functools.partial(a_job, verb=sdm.clear_bitmaps),
    "SDM.amend_volume": functools.partial(a_job, verb=sdm.amend_volume, qcow2_attr={"compat": "0.10"}),
    "SDM.sparsify_volume": functools.partial(a_job, verb=sdm.sparsify_volume),
    "SDM.update_volume": functools.partial(a_job, verb=sdm.update_volume, vol_attr={"description": "x"}),
    "Disk.snapshot": functools.partial(a_disk, verb=disk.snapshot, length=1),
    "Disk.merge": functools.partial(a_disk, verb=disk.merge, length=2),
    "Disk.merge of the middle": a_middle,
    "Disk.extend": functools.partial(a_disk, verb=disk.extend, length=2, size=32 << 20),
}


async def shapes(volumes: Volumes) -> dict[str, Shape]:
    found = {}
    for row in await volumes.host.call(disk.list_):
        chain = [one.id for one in (await volumes.host.call(disk.get_info, diskID=row.id)).chain]
        metas = [volumes.meta(row.id, name) for name in chain]
        found[row.id] = Shape(
            row.status,
            [(meta.generation, meta.capacity, meta.description) for meta in metas],
            [await volumes.bitmaps(row.id, name) for name in chain],
            await volumes.read(row.id, chain[0], 8),
            sum(f"/images/{row.id}/" in path for path in volumes.names()),
        )
    return found


def uncounted(shapes: dict[str, Shape]) -> dict[str, Shape]:
    """Without generations: a job that was undone and done again counts twice."""
    return {
        name: shape._replace(metas=[(0, size, text) for _, size, text in shape.metas]) for name, shape in shapes.items()
    }


class Lab:
    """A host as it stands before the calls, to be had as often as wanted."""

    def __init__(self, directory: Path, blows: Blows) -> None:
        self.directory = directory
        self.blows = blows
        self.tasks: set[str] = set()

    async def prepare(self, story: Story) -> None:
        self.first = await begin(self.directory / "first")
        await self.first.call(storage.init, path="/storage/vm")
        self.calls = await story(await Volumes.of(self.first))
        self.before = await shapes(await Volumes.of(self.first))
        self.tasks = {row.id for row in await self.first.call(task.list_)}
        await stop_dead(self.first)
        host = await self.copy("whole", "first", self.first)
        await do(host, self.calls[:1])
        self.after = await shapes(await Volumes.of(host))
        await do(host, self.calls[1:])
        self.final = await shapes(await Volumes.of(host))
        await stop_dead(host)

    async def copy(self, name: str, of: str, like: MemoryHost, blows: Blows | None = None) -> MemoryHost:
        shutil.copytree(self.directory / of, self.directory / name)
        return await begin(self.directory / name, like, blows)

    async def kill(self, at: int) -> tuple[MemoryHost, bool]:
        """The host that died at that moment; whether it did."""
        host = await self.copy(f"at {at}", "first", self.first, self.blows)
        self.blows.arm(at)
        try:
            await do(host, self.calls[:1])
            died = False
        except Killed:
            died = True
        self.blows.arm(0)
        await stop_dead(host)
        return host, died

    async def see(self, at: int, dead: MemoryHost, *, late: bool) -> None:
        host = await self.copy(f"after {at} {late}", f"at {at}", dead)
        try:
            await asyncio.wait_for(host.tasks.settled(), 20)
            volumes = await Volumes.of(host)
            rows = [row for row in await host.call(task.list_) if row.id not in self.tasks]
            state = rows[0].state if rows else None
            assert state in ((None, State.DONE, State.FAILED) if late else (None, State.DONE)), rows
            now = await shapes(volumes)
            for name, shape in now.items():
                assert shape.status is not VolumeStatus.INVALID
                if shape.status is VolumeStatus.OK:
                    assert shape.reads in (self.before[name].reads, self.after[name].reads), "it looks good and is not"
                assert shape.files in (self.before[name].files, self.after[name].files), "something is left over"
            assert state is not None or now == self.before
            assert state is not State.DONE or now == self.after
            if now == self.after or state is not State.FAILED or self.calls[0][0] is not sdm.remove_bitmap:
                await do(host, self.calls[1:] if now == self.after else self.calls)
                now = await shapes(volumes)
                assert now == self.final or (state is State.FAILED and uncounted(now) == uncounted(self.final))
            assert await volumes.check() == []
        finally:
            await host.close()


async def do(host: MemoryHost, calls: Calls) -> None:
    for verb, params in calls:
        await host.call(verb, **with_job(verb, params))


@pytest.mark.parametrize("name", STORIES)
async def test_a_daemon_dies_at_every_moment(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blows = Blows.of(monkeypatch)
    lab = Lab(tmp_path, blows)
    await lab.prepare(STORIES[name])
    for at in itertools.count(1):
        dead, died = await lab.kill(at)
        for late, patience in ((False, 900.0), (True, -1.0)):
            monkeypatch.setattr("vdsm.core.task.RESUME_WITHIN", patience)
            await lab.see(at, dead, late=late)
        if not died:
            break
    assert at > 3

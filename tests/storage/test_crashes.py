# SPDX-License-Identifier: Apache-2.0
"""A daemon that stops dead at every moment of each verb on volumes and images: the next one finishes or undoes it."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from harness.crashes import Before, next_daemon
from harness.data_center import SD, SD2, DataCenter, Made, MiB
from harness.memory_host import MemoryHost
from vdsm.contract import AnyVerb, image, task, volume
from vdsm.contract.task import State, TaskRecord

FLAGS = {"postZero": False, "force": False}
NEW_IMAGE, NEW_VOLUME = str(uuid.uuid4()), str(uuid.uuid4())
Call = tuple[AnyVerb, dict[str, Any]]
Act = Callable[[DataCenter], Awaitable[Call]]


async def template(center: DataCenter) -> Made:
    made = await center.image("RAW")
    center.edit_meta(made, 0, b"VOLTYPE=LEAF", b"VOLTYPE=SHARED")
    return made


async def derived(center: DataCenter) -> Made:
    source = await template(center)
    made = Made(str(uuid.uuid4()), [])
    await center.volume(made, srcImgUUID=source.id, srcVolUUID=source.volumes[0])
    center.write(made, 0, 0, 5)
    await center.volume(made)
    words: dict[str, Any] = {"volType": "SHARED", "volFormat": "COW", "preallocate": "SPARSE", "desc": "", **FLAGS}
    into: dict[str, Any] = {"dstSdUUID": SD2, "dstImgUUID": source.id, "dstVolUUID": source.volumes[0]}
    await center.call(volume.copy, **source.where, volumeID=source.volumes[0], **into, **words)
    return made


async def create(center: DataCenter) -> Call:
    source = await template(center)
    new = {
        "size": 16 * MiB,
        "volFormat": "COW",
        "preallocate": "SPARSE",
        "diskType": "DATA",
        "desc": "",
        "addBitmaps": True,
    }
    where = {**source.where, "imageID": NEW_IMAGE, "volumeID": NEW_VOLUME}
    return volume.create, {**where, **new, "srcImgUUID": source.id, "srcVolUUID": source.volumes[0]}


async def go_on(center: DataCenter) -> Call:
    made = await center.image("RAW")
    new = {"size": 16 * MiB, "volFormat": "COW", "preallocate": "SPARSE", "diskType": "DATA", "desc": ""}
    where = {**made.where, "volumeID": NEW_VOLUME}
    return volume.create, {**where, **new, "srcImgUUID": made.id, "srcVolUUID": made.volumes[0]}


async def extend(center: DataCenter) -> Call:
    made = await center.image("RAW", "COW")
    return volume.extend_size, {**made.where, "volumeID": made.volumes[1], "newSize": 32 * MiB}


async def copy(center: DataCenter) -> Call:
    made = await center.image("RAW", "COW")
    words = {"volType": "SHARED", "volFormat": "COW", "preallocate": "SPARSE", "desc": "", **FLAGS}
    into = {"dstSdUUID": SD2, "dstImgUUID": NEW_IMAGE, "dstVolUUID": NEW_VOLUME}
    return volume.copy, {**made.where, "volumeID": made.volumes[1], **into, **words}


async def clone(center: DataCenter) -> Call:
    return image.clone_structure, {**(await derived(center)).where, "dstSdUUID": SD2}


async def move(center: DataCenter) -> Call:
    return image.move, {**(await derived(center)).where, "dstSdUUID": SD2, "operation": "MOVE", **FLAGS}


async def sync(center: DataCenter) -> Call:
    made = await center.image("RAW", "COW")
    params = {**made.where, "dstSdUUID": SD2}
    await center.call(image.clone_structure, **params)
    return image.sync_data, {**params, "syncType": "ALL"}


async def delete(center: DataCenter) -> Call:
    made = await center.image("RAW", "COW", "COW")
    return volume.delete, {**made.where, "volumeID": made.volumes[2], **FLAGS}


async def delete_several(center: DataCenter) -> Call:
    made = await center.image("RAW", "COW", "COW", "COW", "COW")
    domain = center.host.repository.find(SD)
    await center.host.storage.reconciler.reconcile(domain, made.id, made.volumes[3])
    return image.delete_volumes, {**made.where, "volumeList": made.volumes[2:]}


async def delete_image(center: DataCenter) -> Call:
    return image.delete, {**(await derived(center)).where, **FLAGS}


def shape(host: MemoryHost) -> dict[str, str]:
    """Every file by its name, with what it holds as an image, and how many names it has."""
    nodes = host.tree.nodes
    names = [id(node) for node in nodes.values()]
    return {
        path: f"{node.kind} {node.body} {names.count(id(node))}"
        for path, node in nodes.items()
        if path.startswith("/storage/")
    }


async def findings(host: MemoryHost, *, sound: bool) -> list[str]:
    center = DataCenter(host)
    found = [*await center.findings(), *await center.findings(SD2)]
    return [one for one in found if sound or "was not finished" not in one]


async def prepared(tmp_path: Path, act: Act) -> tuple[Before, Call, dict[str, str]]:
    host = MemoryHost(tmp_path / "host")
    (tmp_path / "host").mkdir()
    await host.open()
    center = DataCenter(host)
    await center.open()
    call = await act(center)
    before = shape(host)
    await host.close()
    return Before(tmp_path / "host", host.tree), call, before


async def whole(left: Before, call: Call) -> dict[str, str]:
    """How it is when nothing happens."""
    mortal = left.again(0)
    await mortal.die(*call)
    return shape(mortal.host)


async def last(host: MemoryHost, call: Call, known: int) -> TaskRecord | None:
    rows = [row for row in await host.call(task.list_) if row.verb == call[0].method]
    return rows[0] if len(rows) > known else None


_ALL = [create, go_on, extend, copy, clone, move, sync, delete, delete_several, delete_image]
_LATE = [create, extend, move, sync, delete_several]  # one of each kind


@pytest.mark.parametrize(
    ("act", "late"), [*((act, False) for act in _ALL), *((act, True) for act in _LATE)],
    ids=[*(act.__name__ for act in _ALL), *(f"{act.__name__}-late" for act in _LATE)],
)  # fmt: skip
async def test_each_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: Act, late: bool) -> None:
    """Soon after the crash the task is finished; much later it is undone, since nobody expects it any more."""
    left, call, before = await prepared(tmp_path, act)
    after = await whole(left, call)
    left_over = await _findings(left)
    known = len([row for row in await _rows(left) if row.verb == call[0].method])
    monkeypatch.setattr("vdsm.core.task.RESUME_WITHIN", -1.0 if late else 900.0)
    moment, seen = -2 if late else 0, set()
    while True:
        moment += 3 if late else 1
        mortal = left.again(moment)
        if not await mortal.die(*call):
            break
        host = await next_daemon(mortal)
        try:
            row = await last(host, call, known)
            seen.add(row.state if row else None)
            if row is None:
                assert shape(host) == before, f"moment {moment}: it died before the task was kept"
            elif row.state is State.DONE:
                assert shape(host) == after, f"moment {moment}"
                assert await findings(host, sound=act is not clone) == [], f"moment {moment}"
            elif act is sync:
                await check_cut_short(host, call, after, moment)
            else:
                assert row.state is State.FAILED, f"moment {moment}: {row}"
                assert shape(host) == before, f"moment {moment}"
                assert await findings(host, sound=True) == left_over, f"moment {moment}"
        finally:
            await host.close()
    assert moment > 5
    finished = act is delete_several  # there is no way back from the first step on
    assert (State.FAILED if late and not finished else State.DONE) in seen


async def check_cut_short(host: MemoryHost, call: Call, after: dict[str, str], moment: int) -> None:
    """A copy into volumes that were there stays ILLEGAL, and is done again."""
    assert await findings(host, sound=False) == [], f"moment {moment}"
    await host.call(call[0], **call[1])
    assert shape(host) == after, f"moment {moment}"
    assert await findings(host, sound=True) == [], f"moment {moment}"


async def _rows(left: Before) -> list[TaskRecord]:
    host = await next_daemon(left.again(0))
    try:
        return list(await host.call(task.list_))
    finally:
        await host.close()


async def _findings(left: Before) -> list[str]:
    host = await next_daemon(left.again(0))
    try:
        return await findings(host, sound=True)
    finally:
        await host.close()

# SPDX-License-Identifier: Apache-2.0
"""A volume's bytes as a stream: what is taken and given, what is refused, and what a cut leaves behind."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

from harness.data_center import DataCenter, Made, MiB
from harness.memory_host import ADMIN, VIEWER, MemoryHost
from harness.until import BUSY
from vdsm.contract import ByteStream, disk, image, storage, storage_pool, task, vm, volume
from vdsm.contract.errors import AccessDenied, InvalidParams, InvalidRequest, JobExists, ObjectBusy, Problem, TooBusy
from vdsm.contract.errors_domains import (
    DiskInUse,
    DiskUnusable,
    NoSuchDisk,
    SpmStatusError,
    VolumeDoesNotExist,
)
from vdsm.contract.errors_storage import (
    BeyondVolume,
    DestinationVolumeTooSmall,
    NoSpaceLeftOnDomain,
    StreamCutShort,
)
from vdsm.contract.storage_words import VolumeLegality
from vdsm.contract.task import State, TaskRecord
from vdsm.core.storage.streams import PIECE

SIZE = 16 * MiB
DATA = bytes(range(256)) * (5 * MiB // 256) + b"the end"


async def receive(center: DataCenter, made: Made, size: int = len(DATA), **more: Any) -> ByteStream:
    return await center.host.bridge.open(image.receive, {**made.where, "size": size, **more}, ADMIN)


async def send(center: DataCenter, made: Made, size: int, **more: Any) -> ByteStream:
    return await center.host.bridge.open(image.send, {**made.where, "size": size, **more}, ADMIN)


async def pour(stream: ByteStream, data: bytes, piece: int = 65_536) -> None:
    for at in range(0, len(data), piece):
        await stream.write(data[at : at + piece])


async def drain(stream: ByteStream) -> bytes:
    data = b""
    while piece := await stream.read():
        data += piece
    return data


async def ended(center: DataCenter) -> TaskRecord:
    """The newest task, when it is over."""
    async with asyncio.timeout(20 * BUSY):
        while True:
            row: TaskRecord = (await center.call(task.list_))[0]
            if row.state.ended:
                return row
            await asyncio.sleep(0.01)


def written(center: DataCenter, made: Made) -> bytes:
    return bytes(center.host.tree.nodes[made.path(0)].data)


async def test_what_came_is_there_and_goes_back(center: DataCenter) -> None:
    made = await center.image("RAW")
    chosen = str(uuid.uuid4())
    stream = await receive(center, made, taskID=chosen)
    await pour(stream, DATA)
    assert await stream.read() == b""
    await stream.close()
    row = await center.call(task.get, taskID=chosen)
    assert (row.state, row.verb, row.object_id, row.progress) == (State.DONE, "Image.receive", made.id, 100)
    assert written(center, made)[: len(DATA)] == DATA
    assert center.meta(made, 0).legality is VolumeLegality.LEGAL
    assert await drain(await send(center, made, len(DATA))) == DATA
    assert await drain(await send(center, made, SIZE, volumeID=made.volumes[0])) == DATA + bytes(SIZE - len(DATA))
    assert await center.findings() == []
    with pytest.raises(JobExists):
        await receive(center, made, taskID=chosen)


async def test_until_all_came_the_volume_is_illegal(center: DataCenter) -> None:
    made = await center.image("RAW")
    stream = await receive(center, made)
    with pytest.raises(ObjectBusy):
        await center.call(image.delete, **made.where)
    await pour(stream, DATA[: PIECE + 1])
    async with asyncio.timeout(20 * BUSY):
        while center.meta(made, 0).legality is VolumeLegality.LEGAL:
            await asyncio.sleep(0.01)
    await stream.close()
    row = await ended(center)
    assert (row.state, row.problem and row.problem.code) == (State.FAILED, StreamCutShort.code)
    assert str(PIECE + 1) in (row.problem.detail if row.problem else "")
    assert center.meta(made, 0).legality is VolumeLegality.ILLEGAL
    with pytest.raises(StreamCutShort):
        await stream.write(b"x")
    with pytest.raises(DiskUnusable):
        await send(center, made, 1)
    again = await receive(center, made, 1)
    await pour(again, b"x")
    await again.read()
    assert center.meta(made, 0).legality is VolumeLegality.LEGAL
    assert written(center, made)[:PIECE] == b"x" + DATA[1:PIECE]


async def test_what_sends_nothing_changes_nothing(center: DataCenter) -> None:
    made = await center.image("RAW")
    before = center.snapshot()
    stream = await receive(center, made)
    await stream.write(b"a little")
    await stream.close()
    assert (await ended(center)).state is State.FAILED
    assert center.snapshot() == before
    await center.call(image.delete, **made.where)


async def test_a_full_domain_is_told_to_who_sends(center: DataCenter) -> None:
    made = await center.image("RAW")
    center.host.tree.room = center.host.tree.used() + MiB
    stream = await receive(center, made, SIZE)
    with pytest.raises(NoSpaceLeftOnDomain):
        await pour(stream, bytes(SIZE))
    await stream.close()
    assert (await ended(center)).state is State.FAILED
    assert center.meta(made, 0).legality is VolumeLegality.ILLEGAL
    center.host.tree.room = 1 << 40
    await center.call(image.delete, **made.where)
    assert await center.findings() == []


async def test_a_stream_that_is_stopped_says_so_on_both_sides(center: DataCenter) -> None:
    made = await center.image("RAW")
    incoming = await receive(center, made)
    await center.call(task.stop, taskID=(await center.call(task.list_))[0].id)
    with pytest.raises(Problem, match="stopped"):
        await incoming.read()
    outgoing = await send(center, made, SIZE)
    assert len(await outgoing.read()) == PIECE
    await outgoing.close()
    row = await ended(center)
    assert (row.state, row.problem and row.problem.code) == (State.FAILED, StreamCutShort.code)


async def test_who_does_not_read_holds_little(center: DataCenter) -> None:
    made = await center.image("RAW", size=1 << 30)
    stream = await send(center, made, 1 << 30)
    row = (await center.call(task.list_))[0]
    for _ in range(100):
        await asyncio.sleep(0)
    row = await center.call(task.get, taskID=row.id)
    assert 0 < row.progress <= 100 * 3 * PIECE / (1 << 30)
    await stream.close()


async def test_more_than_was_said_is_not_taken(center: DataCenter) -> None:
    made = await center.image("RAW")
    stream = await receive(center, made, 3)
    with pytest.raises(InvalidRequest):
        await stream.write(b"four")
    await stream.close()
    await ended(center)


async def test_only_some_at_once(center: DataCenter) -> None:
    images = [await center.image("RAW") for _ in range(11)]
    streams = [await receive(center, made) for made in images[:10]]
    with pytest.raises(TooBusy):
        await receive(center, images[10])
    for stream in streams:
        await stream.close()
        with pytest.raises(StreamCutShort):  # when it is over
            await stream.read()
    await (await receive(center, images[10])).close()


async def test_what_no_stream_goes_to(center: DataCenter) -> None:
    one, chain = await center.image("RAW"), await center.image("RAW", "COW")
    other = str(uuid.uuid4())
    refused: list[tuple[Made, dict[str, Any], type[Problem]]] = [
        (one, {"size": SIZE + 1}, DestinationVolumeTooSmall),
        (one, {"size": 0}, InvalidParams),
        (one, {"volumeID": other}, VolumeDoesNotExist),
        (one, {"volumeID": "../x"}, InvalidParams),
        (one, {"imageID": other}, NoSuchDisk),
        (one, {"storagepoolID": other}, SpmStatusError),
        (chain, {}, DiskUnusable),
        (chain, {"volumeID": chain.volumes[0]}, DiskUnusable),
    ]
    before = center.snapshot()
    for made, change, problem in refused:
        with pytest.raises(problem):
            await center.host.bridge.open(image.receive, {**made.where, "size": 1, **change}, ADMIN)
    for verb in (image.receive, image.send):
        with pytest.raises(AccessDenied):
            await center.host.bridge.open(verb, {**one.where, "size": 1}, VIEWER)
    with pytest.raises(BeyondVolume):
        await send(center, one, SIZE + 1)
    machine = await center.host.create("a", disks=[{"path": one.id}])
    for opened in (receive, send):
        with pytest.raises(DiskInUse):
            await opened(center, one, 1)
    await center.call(vm.destroy, vmID=machine.vm_id)
    await center.call(storage_pool.spm_stop, storagepoolID=one.where["storagepoolID"])
    with pytest.raises(SpmStatusError):
        await receive(center, one)
    assert center.snapshot() == before
    assert len(await drain(await send(center, one, 100))) == 100


async def test_a_stream_of_before_a_crash_leaves_a_volume_that_says_so(tmp_path: Any) -> None:
    first = MemoryHost(tmp_path)
    await first.open()
    center = DataCenter(first)
    await center.open()
    made = await center.image("RAW")
    stream = await receive(center, made)
    await pour(stream, DATA[: PIECE + 1])
    async with asyncio.timeout(20 * BUSY):
        while center.meta(made, 0).legality is VolumeLegality.LEGAL:
            await asyncio.sleep(0.01)
    await first.close()  # cuts what runs
    with pytest.raises(Problem, match="starting"):
        await stream.read()
    second = MemoryHost(tmp_path, tree=first.tree)
    await second.open()
    center = DataCenter(second)
    row = await ended(center)
    assert (row.state, row.problem and row.problem.code) == (State.FAILED, StreamCutShort.code)
    assert center.meta(made, 0).legality is VolumeLegality.ILLEGAL
    await second.call(image.delete, **made.where)
    assert await second.call(disk.list_) == []
    assert await second.call(storage.check, storageID=made.domain) == []
    await second.close()


async def test_a_volume_that_was_illegal_is_whole_again(center: DataCenter) -> None:
    made = await center.image("RAW")
    await center.call(volume.set_legality, **made.where, volumeID=made.volumes[0], legality="ILLEGAL")
    stream = await receive(center, made, 4)
    await stream.write(b"full")
    await stream.read()
    assert center.meta(made, 0).legality is VolumeLegality.LEGAL

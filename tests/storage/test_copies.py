# SPDX-License-Identifier: Apache-2.0
"""SDM.copy_data: what is copied, what a failure leaves, and who is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from harness.memory_host import MemoryHost
from harness.until import soon
from harness.volumes import SIZE, Volumes, new_id
from vdsm.contract import disk, sdm, storage, storage_pool, task, volume
from vdsm.contract import host as host_verbs
from vdsm.contract.errors import InvalidParams, JobExists, ObjectBusy, TaskAborted
from vdsm.contract.errors_domains import (
    CannotCopyVolume,
    DiskInUse,
    DiskUnusable,
    GenerationMismatch,
    ManagedVolumeNotSupported,
    SpmStatusError,
    VolumeDoesNotExist,
)
from vdsm.contract.errors_storage import DestinationVolumeTooSmall, NoSpaceLeftOnDomain
from vdsm.contract.storage_words import VolumeLegality
from vdsm.core.storage.format import volume_meta
from vdsm.drivers.simulated.faults import Fault


@pytest.fixture
async def volumes(host: MemoryHost) -> Volumes:
    return await Volumes.of(host)


async def copy(volumes: Volumes, source: dict[str, Any], target: dict[str, Any], **more: Any) -> str:
    job: str = more.pop("job_id", new_id())
    await volumes.host.call(sdm.copy_data, job_id=job, source=source, destination=target, **more)
    return job


@pytest.mark.parametrize("form", ["RAW", "COW"])
async def test_a_whole_chain_becomes_one_volume(volumes: Volumes, form: str) -> None:
    image, (base, top) = await volumes.chain(2)
    volumes.write(image, base, 0, 1)
    volumes.write(image, base, 1, 1)
    volumes.write(image, top, 1, 2)
    other, (target,) = await volumes.chain(1, form=form)
    volumes.write(other, target, 3, 9)  # what was there before
    await copy(volumes, volumes.endpoint(image, top, generation=0), volumes.endpoint(other, target, generation=0))
    assert await volumes.read(other, target) == [1, 2, 0, 0]
    meta = volumes.meta(other, target)
    assert (meta.generation, meta.legality) == (1, VolumeLegality.LEGAL)
    assert volumes.meta(image, top).generation == 0
    assert await volumes.check() == []


async def test_into_a_volume_with_the_same_parent_goes_one_layer(volumes: Volumes) -> None:
    """As when an image is moved: the same ids, in another domain."""
    image, (base, top) = await volumes.chain(2)
    volumes.write(image, base, 0, 1)
    volumes.write(image, top, 1, 2)
    twin = Volumes(volumes.host, await volumes.host.call(storage.init, path="/storage/two"))
    await twin.make(image, name=base)
    await twin.make(image, name=top, parent=base)
    await copy(volumes, volumes.endpoint(image, top), twin.endpoint(image, top))
    assert await twin.read(image, top) == [0, 2, 0, 0]
    await copy(volumes, volumes.endpoint(image, base), twin.endpoint(image, base))
    assert await twin.read(image, top) == [1, 2, 0, 0]


async def test_bitmaps_come_along_when_asked(volumes: Volumes) -> None:
    image, (base,) = await volumes.chain(1, form="COW", bitmap=(bitmap := new_id()))
    for wanted in (False, True):
        other, (target,) = await volumes.chain(1, form="COW")
        await copy(volumes, volumes.endpoint(image, base), volumes.endpoint(other, target), copy_bitmaps=wanted)
        assert await volumes.bitmaps(other, target) == ([bitmap] if wanted else [])
    await copy(volumes, volumes.endpoint(image, base), volumes.endpoint(other, target), copy_bitmaps=True)
    assert await volumes.bitmaps(other, target) == [bitmap]


async def test_a_copy_may_be_left_illegal(volumes: Volumes) -> None:
    image, (base,) = await volumes.chain(1)
    other, (target,) = await volumes.chain(1)
    await copy(volumes, volumes.endpoint(image, base), volumes.endpoint(other, target), legal=False)
    meta = volumes.meta(other, target)
    assert (meta.generation, meta.legality) == (1, VolumeLegality.ILLEGAL)


# ---- refusals: nothing changes ---------------------------------------------------------------------------------------


async def test_what_is_refused_changes_nothing(volumes: Volumes) -> None:
    image, (base, top) = await volumes.chain(2)
    other, (target,) = await volumes.chain(1, form="COW")
    small_image, (small,) = await volumes.chain(1, size=SIZE // 2)
    used_image, (used,) = await volumes.chain(1)
    await volumes.host.create("a", disks=[{"path": used_image}])
    await volumes.host.call(
        volume.set_legality, volumeID=small, storagepoolID=volumes.pool, storagedomainID=volumes.domain,
        imageID=small_image, legality="ILLEGAL",
    )  # fmt: skip
    before, files = await volumes.dump(), volumes.names()
    at = volumes.endpoint
    source, good = at(image, top), at(other, target)
    for wrong, into, problem in (
        (source, source, CannotCopyVolume),
        (good, source, CannotCopyVolume),  # that goes on from another
        (source, at(image, base), CannotCopyVolume),  # which it goes on from
        (source, at(small_image, small), DestinationVolumeTooSmall),
        (at(small_image, small), good, DiskUnusable),  # not finished
        (at(used_image, used), good, DiskInUse),  # which is written to
        (source, at(used_image, used), DiskInUse),
        (source, at(other, target, generation=1), GenerationMismatch),
        (at(image, top, generation=7), good, GenerationMismatch),
        (at(image, new_id()), good, VolumeDoesNotExist),
        (source, at(new_id(), target), VolumeDoesNotExist),
        ({"sd_id": volumes.domain}, good, InvalidParams),
        ({"endpoint_type": "external", "url": "nbd:unix:/x"}, good, ManagedVolumeNotSupported),
    ):
        with pytest.raises(problem):
            await copy(volumes, wrong, into)
    with pytest.raises(CannotCopyVolume, match="bitmaps"):
        await copy(volumes, at(image, base), good, copy_bitmaps=True)
    assert await volumes.dump() == before
    assert volumes.names() == files


async def test_a_damaged_source_chain_is_not_copied(volumes: Volumes) -> None:
    image, (base, top) = await volumes.chain(2)
    other, (target,) = await volumes.chain(1)
    for reason, parent in (("is missing", new_id()), ("in a circle", top)):
        node = volumes.host.tree.nodes[volumes.path(image, base) + ".meta"]
        good = bytes(node.data)
        node.data[:] = volume_meta.encode(replace(volume_meta.decode(good), parent=parent))
        before = await volumes.dump()
        with pytest.raises(DiskUnusable, match=reason):
            await copy(volumes, volumes.endpoint(image, top), volumes.endpoint(other, target))
        assert await volumes.dump() == before
        node.data[:] = good


async def test_no_space_leaves_the_target_illegal_and_another_try_begins_anew(volumes: Volumes) -> None:
    image, (base,) = await volumes.chain(1)
    volumes.write(image, base, 1, 5)
    other, (target,) = await volumes.chain(1)
    before = await volumes.dump()
    room = volumes.host.tree.room
    volumes.host.tree.room = volumes.host.tree.used() + 4096  # for metadata
    with pytest.raises(NoSpaceLeftOnDomain):
        await copy(volumes, volumes.endpoint(image, base), volumes.endpoint(other, target, generation=0))
    meta = volumes.meta(other, target)
    assert (meta.generation, meta.legality) == (0, VolumeLegality.ILLEGAL)
    after = await volumes.dump()
    assert {name: row for name, row in after.items() if name != target} == {
        name: row for name, row in before.items() if name != target
    }
    volumes.host.tree.room = room
    await copy(volumes, volumes.endpoint(image, base), volumes.endpoint(other, target, generation=0))
    assert await volumes.read(other, target) == [0, 5, 0, 0]
    assert await volumes.check() == []


# ---- jobs ------------------------------------------------------------------------------------------------------------


async def test_a_job_is_told_of_as_published(volumes: Volumes) -> None:
    image, (base,) = await volumes.chain(1)
    other, (target,) = await volumes.chain(1)
    job = await copy(volumes, volumes.endpoint(image, base), volumes.endpoint(other, target))
    (row,) = (await volumes.host.call(host_verbs.get_jobs, job_type="storage", job_ids=[job])).values()
    assert (row.id, row.job_type, row.status, row.progress, row.error) == (job, "storage", "done", 100, None)
    with pytest.raises(JobExists):
        await copy(volumes, volumes.endpoint(image, base), volumes.endpoint(other, target), job_id=job)
    volumes.host.tree.room = 0
    with pytest.raises(NoSpaceLeftOnDomain):
        await copy(volumes, volumes.endpoint(image, base), volumes.endpoint(other, target), job_id=(job := new_id()))
    (row,) = (await volumes.host.call(host_verbs.get_jobs, job_type="storage", job_ids=[job])).values()
    assert row.status == "failed"
    assert row.error.code == NoSpaceLeftOnDomain.code


# ---- who may ---------------------------------------------------------------------------------------------------------


async def test_without_leases_only_the_host_in_charge_works(volumes: Volumes) -> None:
    image, (base,) = await volumes.chain(1)
    other, (target,) = await volumes.chain(1)
    await volumes.host.call(storage_pool.spm_stop, storagepoolID=volumes.pool)
    with pytest.raises(SpmStatusError):
        await copy(volumes, volumes.endpoint(image, base), volumes.endpoint(other, target))


async def test_copies_of_one_source_go_together_and_nobody_changes_it_meanwhile(
    volumes: Volumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vdsm.core.locks.PATIENCE", 0.05)
    host = volumes.host
    image, (_, top) = await volumes.chain(2)
    targets = [await volumes.chain(1) for _ in range(2)]
    host.disk_faults.set("convert", Fault(hang=True))
    copies = [
        asyncio.create_task(copy(volumes, volumes.endpoint(image, top), volumes.endpoint(other, target)))
        for other, (target,) in targets
    ]
    await soon("both copy", lambda: host.tasks.running() == 2)
    with pytest.raises(ObjectBusy):
        await host.call(disk.merge, diskID=image)
    host.disk_faults.clear()
    await asyncio.gather(*copies)
    await host.call(disk.merge, diskID=image)


async def test_a_copy_that_is_stopped_leaves_the_target_illegal(volumes: Volumes) -> None:
    host = volumes.host
    image, (base,) = await volumes.chain(1)
    other, (target,) = await volumes.chain(1)
    host.disk_faults.set("convert", Fault(hang=True))
    job = new_id()
    copying = asyncio.create_task(
        copy(volumes, volumes.endpoint(image, base), volumes.endpoint(other, target), job_id=job)
    )
    await soon("it copies", lambda: host.tasks.running() == 1)
    await soon("it is marked", lambda: volumes.meta(other, target).legality is VolumeLegality.ILLEGAL)
    await host.call(task.stop, taskID=job)
    with pytest.raises(TaskAborted):
        await copying
    (row,) = (await host.call(host_verbs.get_jobs, job_ids=[job])).values()
    assert row.status == "aborted"
    assert (volumes.meta(other, target).legality, volumes.meta(other, target).generation) == ("ILLEGAL", 0)

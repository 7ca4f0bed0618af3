# SPDX-License-Identifier: Apache-2.0
"""Cold merges: what a guest reads stays the same, and at no moment a chain looks good and is not."""

from __future__ import annotations

from typing import Any

import pytest

from harness.memory_host import MemoryHost
from harness.volumes import SIZE, Volumes, new_id
from vdsm.contract import disk, sdm, storage_pool
from vdsm.contract.disk import DiskInfo
from vdsm.contract.errors_domains import (
    DiskInUse,
    GenerationMismatch,
    SpmStatusError,
    UnexpectedVolumeState,
    VolumeDoesNotExist,
    VolumeIsNotInChain,
    WrongParentVolume,
)
from vdsm.contract.errors_storage import NoSpaceLeftOnDomain
from vdsm.contract.storage_words import BLANK, VolumeLegality, VolumeRole, VolumeStatus


@pytest.fixture
async def volumes(host: MemoryHost) -> Volumes:
    return await Volumes.of(host)


class Merge:
    """The calls of a manager that deletes a snapshot."""

    def __init__(self, volumes: Volumes, image_id: str, base: str, top: str, **more: Any) -> None:
        self.host = volumes.host
        self.info = {"sd_id": volumes.domain, "img_id": image_id, "base_id": base, "top_id": top, **more}
        self.pool = volumes.pool

    async def prepare(self) -> None:
        await self.host.call(storage_pool.prepare_merge, storagepoolID=self.pool, subchainInfo=self.info)

    async def fold(self, **more: Any) -> None:
        await self.host.call(sdm.merge, job_id=new_id(), subchain_info=self.info, **more)

    async def finish(self) -> None:
        await self.host.call(storage_pool.finalize_merge, storagepoolID=self.pool, subchainInfo=self.info)


async def written_chain(volumes: Volumes, length: int, **more: Any) -> tuple[str, list[str]]:
    """Each volume has written one cluster of its own and one over the others'."""
    image_id, chain = await volumes.chain(length, **more)
    for number, name in enumerate(chain):
        volumes.write(image_id, name, number, number + 1)
        volumes.write(image_id, name, 7, number + 1)
    return image_id, chain


async def status(volumes: Volumes, image_id: str) -> VolumeStatus:
    info: DiskInfo = await volumes.host.call(disk.get_info, diskID=image_id)
    return info.status


@pytest.mark.parametrize("form", ["RAW", "COW"])
@pytest.mark.parametrize("at", [1, 2, 3])
async def test_what_is_read_stays_while_a_volume_goes(volumes: Volumes, form: str, at: int) -> None:
    image_id, chain = await written_chain(volumes, 4, form=form)
    before = await volumes.read(image_id, chain[-1], 8)
    base, top = chain[at - 1], chain[at]
    merge = Merge(volumes, image_id, base, top, base_generation=0)
    for part in (merge.prepare, merge.fold):
        await part()
        assert await status(volumes, image_id) is VolumeStatus.ILLEGAL
        assert await volumes.read(image_id, chain[-1], 8) == before
    meta = volumes.meta(image_id, base)
    assert (meta.generation, meta.legality) == (1, VolumeLegality.ILLEGAL)
    with pytest.raises(GenerationMismatch):
        await Merge(volumes, image_id, base, top, base_generation=2).finish()
    await merge.finish()
    left = [name for name in chain if name != top]
    assert await status(volumes, image_id) is VolumeStatus.OK
    assert await volumes.read(image_id, left[-1], 8) == before
    assert volumes.meta(image_id, top).legality is VolumeLegality.ILLEGAL
    metas = [volumes.meta(image_id, name) for name in left]
    assert [meta.parent for meta in metas] == [BLANK, *left[:-1]]
    assert [meta.role for meta in metas] == [VolumeRole.INTERNAL, VolumeRole.INTERNAL, VolumeRole.LEAF]
    with pytest.raises(VolumeIsNotInChain):
        await merge.prepare()


async def test_the_base_grows_to_what_goes_on_from_it(volumes: Volumes) -> None:
    image_id, (base,) = await volumes.chain(1)
    top = await volumes.make(image_id, parent=base, size=2 * SIZE)
    merge = Merge(volumes, image_id, base, top)
    await merge.prepare()
    assert volumes.meta(image_id, base).capacity == 2 * SIZE
    await merge.fold()
    await merge.finish()
    info = await volumes.host.disk_images.info(await volumes.file(image_id, base))
    assert info.virtual_size == 2 * SIZE


async def test_bitmaps_are_merged_when_asked(volumes: Volumes) -> None:
    old, new = new_id(), new_id()
    image_id, (base,) = await volumes.chain(1, form="COW", bitmap=old)
    top = await volumes.make(image_id, parent=base, addBitmaps=True, bitmap=new)
    volumes.write(image_id, base, 0, 1)
    volumes.write(image_id, top, 1, 2)
    merge = Merge(volumes, image_id, base, top)
    await merge.prepare()
    await merge.fold(merge_bitmaps=True)
    assert await volumes.bitmaps(image_id, base) == sorted((old, new))
    body = volumes.host.tree.file(volumes.path(image_id, base)).body
    assert body is not None
    assert body.bitmaps[old].dirty == {0, 1}
    assert body.bitmaps[new].dirty == {1}


# ---- refusals --------------------------------------------------------------------------------------------------------


async def test_what_is_refused_changes_nothing(volumes: Volumes) -> None:
    image_id, (base, middle, top) = await written_chain(volumes, 3)
    other, (lone,) = await volumes.chain(1)
    before = await volumes.dump()
    for wrong, problem in (
        (Merge(volumes, image_id, base, top), WrongParentVolume),
        (Merge(volumes, image_id, base, base), WrongParentVolume),
        (Merge(volumes, image_id, base, new_id()), VolumeDoesNotExist),
        (Merge(volumes, image_id, lone, top), VolumeDoesNotExist),
        (Merge(volumes, other, lone, lone), WrongParentVolume),
        (Merge(volumes, image_id, base, middle, base_generation=1), GenerationMismatch),
    ):
        for part in (wrong.prepare, wrong.fold):
            with pytest.raises(problem):
                await part()
    unprepared = Merge(volumes, image_id, base, middle)
    for part in (unprepared.fold, unprepared.finish):
        with pytest.raises(UnexpectedVolumeState):
            await part()
    await volumes.host.create("a", disks=[{"path": image_id}])
    for part in (unprepared.prepare, unprepared.fold, unprepared.finish):
        with pytest.raises(DiskInUse):
            await part()
    assert await volumes.dump() == before


async def test_only_the_host_in_charge_prepares_and_finishes(volumes: Volumes) -> None:
    image_id, (base, top) = await written_chain(volumes, 2)
    await volumes.host.call(storage_pool.spm_stop, storagepoolID=volumes.pool)
    merge = Merge(volumes, image_id, base, top)
    for part in (merge.prepare, merge.fold, merge.finish):
        with pytest.raises(SpmStatusError):
            await part()


async def test_no_space_leaves_the_disk_as_it_reads(volumes: Volumes) -> None:
    image_id, (base, top) = await written_chain(volumes, 2)
    merge = Merge(volumes, image_id, base, top)
    await merge.prepare()
    before = await volumes.read(image_id, top, 8)
    room = volumes.host.tree.room
    volumes.host.tree.room = volumes.host.tree.used() + 4096
    with pytest.raises(NoSpaceLeftOnDomain):
        await merge.fold()
    assert await volumes.read(image_id, top, 8) == before
    meta = volumes.meta(image_id, base)
    assert (meta.generation, meta.legality) == (0, VolumeLegality.ILLEGAL)
    volumes.host.tree.room = room
    await merge.fold()
    await merge.finish()
    assert await volumes.read(image_id, base, 8) == before


async def test_a_file_is_not_reduced(volumes: Volumes) -> None:
    image_id, (base,) = await volumes.chain(1)
    before = await volumes.dump()
    at: dict[str, Any] = {"storagepoolID": volumes.pool, "storagedomainID": volumes.domain, "imageID": image_id}
    await volumes.host.call(storage_pool.reduce_volume, **at, volumeID=base)
    assert await volumes.dump() == before
    with pytest.raises(VolumeDoesNotExist):
        await volumes.host.call(storage_pool.reduce_volume, **at, volumeID=new_id())

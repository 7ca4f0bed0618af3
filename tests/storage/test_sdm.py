# SPDX-License-Identifier: Apache-2.0
"""The smaller jobs on volumes: metadata, formats, bitmaps, space."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from harness.memory_host import MemoryHost
from harness.volumes import Volumes, new_id
from vdsm.contract import AnyVerb, sdm, storage, storage_pool, task, volume
from vdsm.contract.errors import InvalidParams
from vdsm.contract.errors_domains import (
    DiskInUse,
    GenerationMismatch,
    IncorrectFormat,
    InvalidVolumeUpdate,
    SpmStatusError,
    UnexpectedVolumeState,
    VolumeDoesNotExist,
)
from vdsm.contract.errors_storage import AcquireLockFailure, AddBitmapError, BitmapDoesNotExist, ImageOperationFailed
from vdsm.contract.storage_words import VolumeLegality, VolumeRole
from vdsm.contract.task import State
from vdsm.core.storage.format import volume_meta
from vdsm.drivers.simulated.faults import Fault

THERE = new_id()  # a bitmap


@pytest.fixture
async def volumes(host: MemoryHost) -> Volumes:
    return await Volumes.of(host)


async def job(
    volumes: Volumes, verb: AnyVerb, image: str, name: str, *, generation: int | None = None, **more: Any
) -> None:
    info = volumes.endpoint(image, name, **({} if generation is None else {"generation": generation}))
    await volumes.host.call(verb, job_id=new_id(), vol_info=info, **more)


# ---- metadata --------------------------------------------------------------------------------------------------------


async def test_metadata_are_updated(volumes: Volumes) -> None:
    image, (name,) = await volumes.chain(1)
    await job(volumes, sdm.update_volume, image, name, generation=0, vol_attr={"legality": "ILLEGAL"})
    meta = volumes.meta(image, name)
    assert (meta.legality, meta.generation, meta.description) == (VolumeLegality.ILLEGAL, 1, "d")
    more = {"legality": "LEGAL", "description": "", "generation": 500, "type": "SHARED"}
    await job(volumes, sdm.update_volume, image, name, vol_attr=more)
    meta = volumes.meta(image, name)
    assert (meta.legality, meta.generation, meta.description) == (VolumeLegality.LEGAL, 500, "")
    assert meta.role is VolumeRole.SHARED
    assert await volumes.check() == []


async def test_generations_begin_anew(volumes: Volumes) -> None:
    image, (name,) = await volumes.chain(1)
    await job(volumes, sdm.update_volume, image, name, vol_attr={"generation": volume_meta.GENERATIONS - 1})
    await job(volumes, sdm.update_volume, image, name, vol_attr={})
    assert volumes.meta(image, name).generation == 0


async def test_what_metadata_do_not_become(volumes: Volumes) -> None:
    image, (base, top) = await volumes.chain(2)
    before = await volumes.dump()
    for name, wrong, problem in (
        (top, {"type": "SHARED"}, InvalidVolumeUpdate),  # it has a parent
        (base, {"type": "LEAF"}, InvalidVolumeUpdate),
        (base, {"legality": "FAKE"}, InvalidVolumeUpdate),
        (base, {"generation": 1000}, InvalidParams),
        (base, {"description": "x" * 211}, InvalidParams),
        (base, {"colour": "red"}, InvalidParams),
        (new_id(), {}, VolumeDoesNotExist),
    ):
        with pytest.raises(problem):
            await job(volumes, sdm.update_volume, image, name, vol_attr=wrong)
    with pytest.raises(GenerationMismatch, match="of generation 0, not 3"):
        await job(volumes, sdm.update_volume, image, base, generation=3, vol_attr={})
    assert await volumes.dump() == before


# ---- formats and space -----------------------------------------------------------------------------------------------


async def test_a_volume_is_amended(volumes: Volumes) -> None:
    image, (name,) = await volumes.chain(1, form="COW")
    for compat in ("0.10", "1.1"):
        await job(volumes, sdm.amend_volume, image, name, qcow2_attr={"compat": compat})
        assert (await volumes.host.disk_images.info(await volumes.file(image, name))).compat == compat
    assert volumes.meta(image, name).generation == 2
    raw_image, (raw,) = await volumes.chain(1)
    with pytest.raises(IncorrectFormat):
        await job(volumes, sdm.amend_volume, raw_image, raw, qcow2_attr={"compat": "1.1"})


async def test_a_volume_is_sparsified(volumes: Volumes) -> None:
    image, (name,) = await volumes.chain(1)
    volumes.write(image, name, 0, 1)
    volumes.write(image, name, 1, 0)
    await job(volumes, sdm.sparsify_volume, image, name)
    body = volumes.host.tree.file(volumes.path(image, name)).body
    assert body is not None
    assert set(body.clusters) == {0}
    meta = volumes.meta(image, name)
    assert (meta.generation, meta.legality) == (1, VolumeLegality.LEGAL)
    await volumes.make(image, parent=name)
    with pytest.raises(UnexpectedVolumeState):
        await job(volumes, sdm.sparsify_volume, image, name)
    used, (lone,) = await volumes.chain(1)
    before = await volumes.dump()
    volumes.host.disk_faults.set("sparsify", Fault(error="no virt-sparsify", times=1))
    with pytest.raises(ImageOperationFailed):
        await job(volumes, sdm.sparsify_volume, used, lone)
    assert await volumes.dump() == before
    await volumes.host.create("a", disks=[{"path": used}])
    with pytest.raises(DiskInUse):
        await job(volumes, sdm.sparsify_volume, used, lone)


# ---- bitmaps ---------------------------------------------------------------------------------------------------------


async def test_bitmaps_come_and_go(volumes: Volumes) -> None:
    image, (name,) = await volumes.chain(1, form="COW")
    first, second, third = sorted(new_id() for _ in range(3))
    for bitmap in (first, second, third):
        await job(volumes, sdm.add_bitmap, image, name, bitmap=bitmap)
    await job(volumes, sdm.remove_bitmap, image, name, generation=3, bitmap=second)
    assert await volumes.bitmaps(image, name) == [first, third]
    await job(volumes, sdm.clear_bitmaps, image, name)
    assert await volumes.bitmaps(image, name) == []
    meta = volumes.meta(image, name)
    assert (meta.generation, meta.legality) == (5, VolumeLegality.LEGAL)


async def test_what_is_refused_of_bitmaps_changes_nothing(volumes: Volumes) -> None:
    image, (name,) = await volumes.chain(1, form="COW", bitmap=(there := new_id()))
    raw_image, (raw,) = await volumes.chain(1)
    before = await volumes.dump()
    with pytest.raises(AddBitmapError, match="already"):
        await job(volumes, sdm.add_bitmap, image, name, bitmap=there)
    with pytest.raises(AddBitmapError, match="raw"):
        await job(volumes, sdm.add_bitmap, raw_image, raw, bitmap=there)
    for where in ((image, name), (raw_image, raw)):
        with pytest.raises(BitmapDoesNotExist):
            await job(volumes, sdm.remove_bitmap, *where, bitmap=new_id())
    volumes.host.disk_faults.set("bitmap", Fault(error="boom"))
    with pytest.raises(ImageOperationFailed):
        await job(volumes, sdm.add_bitmap, image, name, bitmap=new_id())
    assert await volumes.dump() == before
    await job(volumes, sdm.clear_bitmaps, raw_image, raw)


# ---- who may ---------------------------------------------------------------------------------------------------------

JOBS: dict[str, tuple[AnyVerb, dict[str, Any]]] = {
    verb.method: (verb, more)
    for verb, more in (
        (sdm.add_bitmap, {"bitmap": "b"}),
        (sdm.remove_bitmap, {"bitmap": THERE}),
        (sdm.clear_bitmaps, {}),
        (sdm.update_volume, {"vol_attr": {}}),
        (sdm.amend_volume, {"qcow2_attr": {}}),
        (sdm.sparsify_volume, {}),
        (sdm.copy_data, {}),
        (sdm.merge, {}),
    )
}


async def fit(volumes: Volumes, verb: AnyVerb) -> tuple[str, str, dict[str, Any]]:
    """A volume that the job works on, and the job's arguments."""
    image, (name,) = await volumes.chain(1, form="COW", bitmap=THERE)
    if verb is sdm.copy_data:
        other, (source,) = await volumes.chain(1)
        return image, name, {"source": volumes.endpoint(other, source), "destination": volumes.endpoint(image, name)}
    if verb is sdm.merge:
        top = await volumes.make(image, parent=name)
        info = {"sd_id": volumes.domain, "img_id": image, "base_id": name, "top_id": top}
        await volumes.host.call(storage_pool.prepare_merge, storagepoolID=volumes.pool, subchainInfo=info)
        return image, name, {"subchain_info": info}
    return image, name, {"vol_info": volumes.endpoint(image, name)}


@pytest.mark.parametrize("method", JOBS)
async def test_without_leases_only_the_host_in_charge_works(volumes: Volumes, method: str) -> None:
    verb, more = JOBS[method]
    *_, params = await fit(volumes, verb)
    await volumes.host.call(storage_pool.spm_stop, storagepoolID=volumes.pool)
    before = await volumes.dump()
    with pytest.raises(SpmStatusError):
        await volumes.host.call(verb, job_id=new_id(), **params, **more)
    assert await volumes.dump() == before


@pytest.fixture
async def leased() -> AsyncIterator[Volumes]:
    """In a domain with leases."""
    host = MemoryHost(None, local_leases=True)
    await host.open()
    await host.call(storage.init, path="/storage/vm")
    yield await Volumes.of(host)
    await host.close()


@pytest.mark.parametrize("method", JOBS)
async def test_with_leases_any_host_works_that_gets_the_volumes(leased: Volumes, method: str) -> None:
    volumes, (verb, more) = leased, JOBS[method]
    image, name, params = await fit(volumes, verb)
    repository = volumes.host.repository
    await repository.connect_pool(replace(repository.connected(volumes.pool), in_charge=False))
    stranger = await volumes.taken(image, name)
    before = await volumes.dump()
    with pytest.raises(AcquireLockFailure, match="holds it"):
        await volumes.host.call(verb, job_id=new_id(), **params, **more)
    assert await volumes.dump() == before
    assert (await volumes.host.call(task.list_))[0].state is State.FAILED, "what was not begun needs no undoing"
    version = (await stranger.state()).version
    await stranger.let_go()
    await volumes.host.call(verb, job_id=new_id(), **params, **more)
    state = await stranger.state()
    assert state.version > version, "it was taken"
    assert state.owners == [], "and let go"
    assert volumes.meta(image, name).generation == 1


async def test_a_job_on_a_template_is_seen_by_those_that_go_on_from_it(volumes: Volumes) -> None:
    image, (name,) = await volumes.chain(1, form="COW")
    await job(volumes, sdm.update_volume, image, name, vol_attr={"type": "SHARED"})
    other = new_id()
    await volumes.host.call(
        volume.create, volumeID=new_id(), storagepoolID=volumes.pool, storagedomainID=volumes.domain, imageID=other,
        size=16 << 20, volFormat="COW", preallocate="SPARSE", diskType="DATA", desc="d", srcImgUUID=image,
        srcVolUUID=name,
    )  # fmt: skip
    await job(volumes, sdm.update_volume, image, name, vol_attr={"description": "golden"})
    await job(volumes, sdm.add_bitmap, image, name, bitmap="b")
    for home in (image, other):
        meta = volumes.meta(home, name)
        assert (meta.description, meta.generation) == ("golden", 3)
    assert await volumes.check() == []

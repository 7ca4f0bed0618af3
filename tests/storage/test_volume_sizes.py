# SPDX-License-Identifier: Apache-2.0
"""Volumes enlarged, measured and verified, and what is refused changes nothing."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from harness.data_center import POOL, SD2, DataCenter, Made, MiB, named, nothing_changed
from harness.memory_host import MemoryHost
from vdsm.contract import image, task, volume
from vdsm.contract.errors import InvalidParams
from vdsm.contract.errors_domains import (
    DiskUnusable,
    VolumeDoesNotExist,
    VolumeNonWritable,
    VolumeResizeValueError,
)
from vdsm.contract.errors_storage import ImageVerificationError, NoSpaceLeftOnDomain
from vdsm.contract.storage_words import BLANK
from vdsm.contract.vm_params import DiskFormat

# ---- enlarging -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("formats", [("RAW",), ("COW",), ("RAW", "COW")])
async def test_a_volume_grows_and_says_so(center: DataCenter, formats: tuple[str, ...]) -> None:
    made = await center.image(*formats)
    await center.call(volume.extend_size, **named(made), newSize=20 * MiB + 1)
    assert center.meta(made, -1).capacity == 20 * MiB + 4096
    info = await center.call(volume.get_qemu_image_info, **named(made))
    assert info.virtualsize == 20 * MiB + 4096
    assert await center.findings() == []
    before = center.snapshot()
    await center.call(volume.extend_size, **named(made), newSize=20 * MiB + 1)
    assert center.snapshot() == before


async def test_a_preallocated_volume_takes_its_room_at_once(center: DataCenter) -> None:
    made = Made(str(uuid.uuid4()), [])
    await center.volume(made, "RAW", preallocate="PREALLOCATED")
    center.host.tree.room = center.host.tree.used() + 1 * MiB
    async with nothing_changed(center, NoSpaceLeftOnDomain):
        await center.call(volume.extend_size, **named(made), newSize=32 * MiB)
    assert await center.findings() == []


async def test_what_does_not_grow(center: DataCenter) -> None:
    made = await center.image("RAW", "COW")
    async with nothing_changed(center, VolumeResizeValueError):
        await center.call(volume.extend_size, **named(made), newSize=8 * MiB)
    async with nothing_changed(center, VolumeNonWritable):
        await center.call(volume.extend_size, **named(made, 0), newSize=32 * MiB)
    for size in (0, -1, 1 << 60):
        async with nothing_changed(center, InvalidParams):
            await center.call(volume.extend_size, **named(made), newSize=size)
    await center.call(volume.set_legality, **named(made), legality="ILLEGAL")
    async with nothing_changed(center, DiskUnusable):
        await center.call(volume.extend_size, **named(made), newSize=32 * MiB)


async def test_what_grew_is_never_cut_off(center: DataCenter) -> None:
    made = await center.image("RAW")
    await center.call(volume.extend_size, **named(made), newSize=32 * MiB)
    (done,) = [row for row in await center.call(task.list_) if row.verb == "Volume.extendSize"]
    before = center.snapshot()
    await center.call(task.revert, taskID=done.id)
    assert (await center.call(task.get, taskID=done.id)).problem.code == VolumeResizeValueError.code
    assert center.snapshot() == before


# ---- measuring and verifying -----------------------------------------------------------------------------------------


async def test_a_volume_is_measured_with_what_it_goes_on_from_or_alone(center: DataCenter) -> None:
    made = await center.image("RAW", "COW", "COW")  # a megabyte each
    base, middle, _ = made.volumes

    async def required(**more: Any) -> int:
        return int((await center.call(volume.measure, **named(made), dstVolFormat="COW", **more)).required)

    alone = await required(backing_chain=False)
    assert 1 * MiB < alone < 2 * MiB
    assert await required(baseID=middle) == alone + 1 * MiB
    assert await required() == await required(baseID=base) == alone + 2 * MiB
    with pytest.raises(DiskUnusable, match="is not below"):
        await center.call(volume.measure, **named(made, 1), dstVolFormat="RAW", baseID=made.volumes[2])
    with pytest.raises(VolumeDoesNotExist):
        await required(baseID=BLANK)


async def test_what_came_from_outside_is_what_its_metadata_say(center: DataCenter) -> None:
    made = await center.image("RAW", "COW")
    await center.call(volume.verify_untrusted, **named(made))
    body = center.host.tree.nodes[made.path(1)].body
    assert body is not None
    for size in (32 * MiB, 8 * MiB):
        body.virtual_size = size
        with pytest.raises(ImageVerificationError):
            await center.call(volume.verify_untrusted, **named(made))
    body.virtual_size = 16 * MiB
    body.backing_file = "/etc/shadow"
    async with nothing_changed(center, ImageVerificationError, "/etc/shadow"):
        await center.call(volume.verify_untrusted, **named(made))
    body.backing_file, body.format = "", DiskFormat.RAW
    with pytest.raises(ImageVerificationError):
        await center.call(volume.verify_untrusted, **named(made))


async def test_teardown_only_looks(center: DataCenter) -> None:
    made = await center.image("RAW")
    where = {name: value for name, value in named(made).items() if name != "storagepoolID"}
    await center.call(volume.teardown, **where)
    with pytest.raises(VolumeDoesNotExist):
        await center.call(volume.teardown, **{**where, "volumeID": POOL})


# ---- where there are leases ------------------------------------------------------------------------------------------


async def test_with_leases_a_volume_has_one_and_is_enlarged_by_who_holds_it() -> None:
    host = MemoryHost(None, local_leases=True)
    await host.open()
    try:
        center = DataCenter(host)
        await center.open()
        made = await center.image("RAW", "COW")
        info = await center.call(volume.get_info, **named(made))
        assert (info.lease.path, info.lease.offset, info.lease.owners) == (f"{made.path(1)}.lease", 0, [])
        await center.call(volume.extend_size, **named(made), newSize=32 * MiB)
        after = await center.call(volume.get_info, **named(made))
        assert after.lease.version > info.lease.version, "it was taken"
        assert after.lease.owners == [], "and let go"
        await center.call(image.move, **made.where, dstSdUUID=SD2, operation="MOVE", postZero=False, force=False)
        moved = await center.call(volume.get_info, **{**named(made), "storagedomainID": SD2})
        assert (moved.lease.path, moved.lease.owners) == (f"{Made(made.id, made.volumes, SD2).path(1)}.lease", [])
        assert await center.findings() == await center.findings(SD2) == []
    finally:
        await host.close()

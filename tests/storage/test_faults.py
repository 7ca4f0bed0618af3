# SPDX-License-Identifier: Apache-2.0
"""Removals that the storage does not let finish."""

from __future__ import annotations

from typing import Any

import pytest

from harness.memory_host import MemoryHost
from vdsm.contract import AnyVerb, disk, image, storage
from vdsm.contract.errors_domains import NoSuchDisk
from vdsm.contract.errors_storage import StorageBroken
from vdsm.drivers.simulated.faults import Fault

MIB = 1 << 20


@pytest.mark.parametrize("by", ["Disk.delete", "Image.delete"])
async def test_a_removal_that_failed_half_way_is_finished_by_another(host: MemoryHost, by: str) -> None:
    before = sorted(host.tree.nodes)
    made = await host.call(disk.create, name="d", size=MIB)
    pool = (await host.call(storage.list_))[0].pool
    where: dict[str, Any] = {"imageID": made.id, "storagepoolID": pool, "storagedomainID": made.storage_id}
    verb: AnyVerb = disk.delete if by == "Disk.delete" else image.delete
    params = {"diskID": made.id} if by == "Disk.delete" else where
    await gone_half_way(host, verb, params)
    (finding,) = await host.call(storage.check, storageID=made.storage_id)
    assert made.id in finding.where
    assert "delete that image again" in finding.remedy
    assert await host.call(disk.list_) == []
    await host.call(verb, **params)
    assert sorted(host.tree.nodes) == before
    with pytest.raises(NoSuchDisk):
        await host.call(verb, **params)


async def test_what_is_left_of_one_is_in_nobodys_way(host: MemoryHost) -> None:
    before = sorted(host.tree.nodes)
    made = await host.call(disk.create, name="d", size=MIB)
    await gone_half_way(host, disk.delete, {"diskID": made.id})
    again = await host.call(disk.create, name="d", size=MIB, diskID=made.id)
    await host.call(disk.delete, diskID=again.id)
    assert sorted(host.tree.nodes) == before


async def gone_half_way(host: MemoryHost, verb: AnyVerb, params: dict[str, Any]) -> None:
    host.file_faults.set("remove", Fault(error="Input/output error", times=1))
    with pytest.raises(StorageBroken):
        await host.call(verb, **params)
    host.file_faults.clear()

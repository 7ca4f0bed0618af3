# SPDX-License-Identifier: Apache-2.0
"""Volumes served over NBD: which may be, and that nothing writes where a machine or another volume stands on."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from harness.memory_host import OPERATOR, VIEWER, MemoryHost
from vdsm.contract import disk, nbd, vm
from vdsm.contract.disk import DiskInfo
from vdsm.contract.errors import AccessDenied
from vdsm.contract.errors_domains import DiskInUse, StorageDomainDoesNotExist, VolumeDoesNotExist
from vdsm.contract.errors_storage import ImageOperationFailed

SERVER = "55555555-5555-4555-8555-555555555555"


async def make(host: MemoryHost) -> DiskInfo:
    made: DiskInfo = await host.call(disk.create, name="root", size=1 << 20, format="qcow2")
    return made


def config(host: MemoryHost, made: DiskInfo, **more: Any) -> dict[str, Any]:
    (domain,) = host.repository
    return {"sd_id": domain.id, "img_id": made.id, "vol_id": made.path.rpartition("/")[2]} | more


async def test_one_server_until_it_is_stopped(host: MemoryHost) -> None:
    words = config(host, await make(host))
    urls = {await host.call(nbd.start_server, OPERATOR, server_id=SERVER, config=words) for _ in range(2)}
    assert [url.partition("/")[0] for url in urls] == ["nbd:unix:"]
    for _ in range(2):
        await host.call(nbd.stop_server, server_id=SERVER)
    with pytest.raises(AccessDenied):
        await host.call(nbd.start_server, VIEWER, server_id=SERVER, config=words)


async def test_a_machines_disk_is_served_read_only(host: MemoryHost) -> None:
    made = await make(host)
    await host.call(vm.define, vmParams={"name": "web", "memory": 64, "disks": [{"path": "root", "format": "qcow2"}]})
    with pytest.raises(DiskInUse, match="web"):
        await host.call(nbd.start_server, server_id=SERVER, config=config(host, made))
    assert await host.call(nbd.start_server, server_id=SERVER, config=config(host, made, readonly=True))


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"sd_id": SERVER}, StorageDomainDoesNotExist),
        ({"img_id": SERVER}, VolumeDoesNotExist),
        ({"vol_id": SERVER}, VolumeDoesNotExist),
        ({"bitmap": str(uuid.UUID(int=1))}, ImageOperationFailed),
    ],
)
async def test_what_is_not_there(host: MemoryHost, wrong: dict[str, str], problem: type[Exception]) -> None:
    words = config(host, await make(host)) | wrong
    with pytest.raises(problem):
        await host.call(nbd.start_server, server_id=SERVER, config=words)

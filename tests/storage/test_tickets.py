# SPDX-License-Identifier: Apache-2.0
"""Image tickets: for this host's volumes by any of their names, for its NBD servers, and for nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from harness.memory_host import OPERATOR, VIEWER, MemoryHost
from vdsm.contract import disk, nbd, vm
from vdsm.contract import host as the_host
from vdsm.contract.disk import DiskInfo
from vdsm.contract.errors import AccessDenied, InvalidParams
from vdsm.contract.errors_domains import DiskInUse
from vdsm.contract.errors_storage import ImageDaemonError, ImageTicketsError, TicketRefused
from vdsm.contract.vm_params import DiskFormat
from vdsm.core.storage import chain_servers
from vdsm.drivers.simulated.faults import Fault

ID = "55555555-5555-4555-8555-555555555555"


async def make(host: MemoryHost) -> DiskInfo:
    made: DiskInfo = await host.call(disk.create, name="root", size=1 << 20)
    return made


def words(url: str, *ops: str) -> dict[str, Any]:
    return {"uuid": ID, "url": url, "size": 1 << 20, "ops": list(ops or ("read",)), "timeout": 300}


async def test_a_volume_by_each_of_its_names_is_the_same_file(host: MemoryHost) -> None:
    made = await make(host)
    (domain,) = host.repository
    pool = host.repository.pool_of(domain.id)
    assert pool
    inside = made.path.rpartition("/images/")[2]
    names = [
        made.path,
        f"/data-center/{pool.id}/{domain.id}/images/{inside}",
        f"/data-center/mnt/_storage_vm/{domain.id}/images/{inside}",
        f"/run/vdsm/storage/{domain.id}/{inside}",
    ]
    for name in names:
        await host.call(the_host.add_image_ticket, OPERATOR, ticket=words(f"file://{name}", "read", "write"))
        state = await host.call(the_host.get_image_ticket, VIEWER, uuid=ID)
        assert state.url == f"file://{made.path}"
        await host.call(the_host.remove_image_ticket, OPERATOR, uuid=ID)
    with pytest.raises(ImageTicketsError):
        await host.call(the_host.get_image_ticket, uuid=ID)
    with pytest.raises(AccessDenied):
        await host.call(the_host.add_image_ticket, VIEWER, ticket=words(f"file://{made.path}"))


async def test_nothing_else_is_let_out(host: MemoryHost) -> None:
    made = await make(host)
    await host.call(nbd.stop_server, server_id=ID)
    directory, _, volume = made.path.rpartition("/")
    for url in (
        "file:///etc/shadow",
        f"file://{directory}",
        f"file://{made.path}.meta",
        f"file://{directory}/../{made.id}/{volume}",
        f"file://{directory}//{volume}",
        f"file://localhost{made.path}",
        f"file://{made.path}?x",
        f"nbd:unix:/simulated/{ID}.sock",
        "nbd:unix:/var/run/docker.sock",
        "nbd:example.com:10809",
    ):
        with pytest.raises(TicketRefused):
            await host.call(the_host.add_image_ticket, ticket=words(url))
    for url in ("https://example.com/x", "", "file://a\nb"):
        with pytest.raises(InvalidParams):
            await host.call(the_host.add_image_ticket, ticket=words(url))


async def test_a_machines_disk_is_not_written(host: MemoryHost) -> None:
    made = await make(host)
    await host.call(vm.define, vmParams={"name": "web", "memory": 64, "disks": [{"path": "root"}]})
    with pytest.raises(DiskInUse, match="web"):
        await host.call(the_host.add_image_ticket, ticket=words(f"file://{made.path}", "write"))
    await host.call(the_host.add_image_ticket, ticket=words(f"file://{made.path}", "read"))


async def test_an_nbd_server_of_ours(host: MemoryHost) -> None:
    made = await make(host)
    (domain,) = host.repository
    config = {"sd_id": domain.id, "img_id": made.id, "vol_id": made.path.rpartition("/")[2]}
    url = await host.call(nbd.start_server, server_id=ID, config=config)
    await host.call(the_host.add_image_ticket, ticket=words(url, "read", "write"))
    assert (await host.call(the_host.get_image_ticket, uuid=ID)).url == url
    with pytest.raises(TicketRefused):
        await host.call(the_host.add_image_ticket, ticket=words(f"{url}:exportname=other"))


@pytest.fixture
async def chained(host: MemoryHost) -> str:
    """A disk of two volumes."""
    made: DiskInfo = await host.call(disk.create, name="root", size=1 << 20, format="qcow2")
    await host.call(disk.snapshot, diskID=made.id)
    return made.id


async def test_what_serves_a_chain_ends_with_its_ticket(host: MemoryHost, chained: str) -> None:
    transfers = [await host.call(disk.start_download, diskID=chained) for _ in range(2)]
    assert [(one.format, one.size, one.data) for one in transfers] == [(DiskFormat.RAW, 1 << 20, None)] * 2
    for left, transfer in ((1, transfers[0]), (0, transfers[1])):
        await host.call(the_host.remove_image_ticket, uuid=transfer.id)
        assert len(await host.servers.running()) == left


@pytest.mark.parametrize("gone", ["ticket", "reader", "ovirt-imageio"])
async def test_what_nobody_reads_any_more_is_not_served(
    host: MemoryHost, chained: str, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    """Also where nobody says so, and by a daemon that started meanwhile."""
    monkeypatch.setattr(chain_servers, "LOOK_S", 0.05)
    transfer = await host.call(disk.start_download, diskID=chained)
    await host.storage.chain_servers.close()
    await host.storage.chain_servers.open()
    await asyncio.sleep(0.2)
    assert await host.servers.running(), "it is not idle for long enough"
    if gone == "ticket":
        await host.transfers.remove(transfer.id)
    elif gone == "reader":
        monkeypatch.setattr(chain_servers, "IDLE_S", 0)
    else:
        host.transfer_faults.set("get_ticket", Fault(error="it does not run"))
    while await host.servers.running():
        await asyncio.sleep(0.01)
    host.transfer_faults.clear()
    with pytest.raises(ImageTicketsError):
        await host.transfers.get(transfer.id)


async def test_without_a_door_nothing_serves_a_chain(host: MemoryHost, chained: str) -> None:
    host.transfer_faults.set("add_ticket", Fault(error="it does not run"))
    with pytest.raises(ImageDaemonError):
        await host.call(disk.start_download, diskID=chained)
    assert await host.servers.running() == []

# SPDX-License-Identifier: Apache-2.0
"""Machines on a host in memory with disks of its storage: what those are made of, and what is found of them."""

from __future__ import annotations

import asyncio
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from harness.memory_host import MemoryHost
from vdsm.contract import disk, storage, vm
from vdsm.contract import host as hosts
from vdsm.contract.disk import DiskInfo
from vdsm.contract.errors import Problem
from vdsm.contract.vm_info import VmInfo
from vdsm.core.storage.catalog import Found

MIB = 1 << 20
CLUSTER = 65536


async def make(host: MemoryHost, name: str = "root", **more: Any) -> DiskInfo:
    made = await host.call(disk.create, name=name, size=MIB, **more)
    assert isinstance(made, DiskInfo)
    return made


async def chain(host: MemoryHost, disk_id: str) -> list[str]:
    return [row.id for row in (await host.call(disk.get_info, diskID=disk_id)).chain]


async def layers(host: MemoryHost, vm_id: str, drive: str = "vda") -> list[str]:
    """What the machine reads and writes, as `Host.dumpxmls` has it: ids of volumes."""
    root = ET.XML((await host.call(hosts.dumpxmls, vmList=[vm_id]))[vm_id])
    found: list[str] = []
    for candidate in root.findall("devices/disk"):
        target = candidate.find("target")
        element: ET.Element | None = candidate if target is not None and target.get("dev") == drive else None
        while element is not None and (source := element.find("source")) is not None:
            found.append(source.get("file", "").rpartition("/")[2])
            element = element.find("backingStore")
    return found


async def findings(host: MemoryHost) -> list[str]:
    return [
        f"{found.where}: {found.what}"
        for row in await host.call(storage.list_)
        for found in await host.call(storage.check, storageID=row.id)
    ]


async def sound(host: MemoryHost) -> None:
    assert await findings(host) == []


def ref(info: DiskInfo, volume_id: str) -> dict[str, Any]:
    return {"domainID": info.storage_id, "imageID": info.id, "volumeID": volume_id}


async def merge(host: MemoryHost, machine: VmInfo, info: DiskInfo, top: str, base: str, **more: Any) -> None:
    leaf = (await chain(host, info.id))[0]
    names: dict[str, Any] = {"drive": ref(info, leaf), "topVolUUID": top, "baseVolUUID": base}
    await host.call(vm.merge, vmID=machine.vm_id, **names, **more)


def links(host: MemoryHost) -> list[str]:
    return sorted(path for path in host.tree.nodes if path.startswith("/run/vdsm/storage/") and path.count("/") == 5)


async def until(holds: Any) -> None:
    async with asyncio.timeout(5):
        while not (await holds() if asyncio.iscoroutinefunction(holds) else holds()):
            await asyncio.sleep(0.01)


@asynccontextmanager
async def nothing_changed(host: MemoryHost, problem: type[Problem], match: str | None = None) -> AsyncIterator[None]:
    """Neither files nor documents, when this is refused."""

    def state() -> tuple[dict[str, bytes], list[str]]:
        return {path: bytes(node.data) for path, node in host.tree.nodes.items()}, [
            row.domain.xml for row in host.table
        ]

    before = state()
    with pytest.raises(problem, match=match):
        yield
    assert state() == before


async def stack(host: MemoryHost, count: int) -> tuple[DiskInfo, VmInfo, list[str]]:
    """A machine with a disk of so many layers, the lowest raw, each with a cluster of its own."""
    info = await make(host)
    machine = await host.create("a", disks=[{"path": "root"}])
    for number in range(count):
        if number:
            await host.call(vm.snapshot, vmID=machine.vm_id)
        path = (await host.call(disk.get_info, diskID=info.id)).path
        host.disk_images.write(path, number * CLUSTER, CLUSTER, number + 1)
    return info, machine, await chain(host, info.id)


async def content(host: MemoryHost, info: DiskInfo, count: int) -> list[int]:
    """The first byte of each cluster that `stack` wrote, as the machine reads it."""
    domain = await host.repository.usable(info.storage_id)
    image = await host.storage.catalog.image(domain, info.id)
    assert image is not None
    found = Found(domain, image)
    return [host.disk_images.read(found.file(image.chain()[0]), number * CLUSTER) for number in range(count)]

# SPDX-License-Identifier: Apache-2.0
"""A pool of two domains on a host in memory, and images in them, for tests of what managers ask of volumes."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from harness.memory_host import MemoryHost
from vdsm.contract import storage, storage_domain, storage_pool, volume
from vdsm.contract.errors import Problem
from vdsm.contract.storage_words import VolumeRole
from vdsm.core.ports.files import FileKind
from vdsm.core.storage.format import volume_meta
from vdsm.core.storage.format.volume_meta import VolumeMeta

MiB = 1 << 20
POOL, SD, SD2 = (str(uuid.uuid4()) for _ in range(3))
ROOT = "/storage/dc"


class DataCenter:
    """In charge of pool POOL with the domains SD (the master) and SD2 in one directory."""

    def __init__(self, host: MemoryHost) -> None:
        self.host = host
        self.call = host.call

    async def open(self) -> None:
        host = self.host
        host.tree.directory(ROOT)
        params = [{"id": SD, "connection": ROOT}]
        await host.call(
            storage_pool.connect_storage_server, storagepoolID=POOL, connectionParams=params, domainType="LOCALFS"
        )
        for name, domain in (("one", SD), ("two", SD2)):
            more: dict[str, Any] = {"domainType": "LOCALFS", "typeArgs": ROOT, "name": name}
            await host.call(storage_domain.create, storagedomainID=domain, **more)
        master: dict[str, Any] = {"storagepoolID": POOL, "masterSdUUID": SD, "masterVersion": 1}
        await host.call(storage_pool.create, **master, name="dc", domainList=[SD, SD2])
        active = {SD: "Active", SD2: "Active"}
        await host.call(storage_pool.connect, **master, hostID=1, scsiKey="", domainDict=active)
        await host.call(storage_pool.spm_start, storagepoolID=POOL)

    async def image(self, *formats: str, size: int = 16 * MiB, domain: str = SD) -> Made:
        """A new image with a volume of each format, the first being the base; each holds a megabyte of its own."""
        made = Made(str(uuid.uuid4()), [], domain)
        for number, name in enumerate(formats):
            await self.volume(made, name, size=size)
            self.write(made, number, number * MiB, number + 1)
        return made

    async def volume(self, made: Made, vol_format: str = "COW", *, size: int = 16 * MiB, **more: Any) -> str:
        """One more volume of an image, which goes on from its last."""
        name = str(uuid.uuid4())
        source = {"srcImgUUID": made.id, "srcVolUUID": made.volumes[-1]} if made.volumes else {}
        new = {"size": size, "volFormat": vol_format, "preallocate": "SPARSE", "diskType": "DATA", "desc": ""}
        await self.call(volume.create, **made.where, volumeID=name, **{**new, **source, **more})
        made.volumes.append(name)
        return name

    def write(self, made: Made, number: int, offset: int, pattern: int) -> None:
        """What a guest would do to one of its volumes: a megabyte."""
        self.host.disk_images.write(made.path(number), offset, MiB, pattern)

    def meta(self, made: Made, number: int) -> VolumeMeta:
        return volume_meta.decode(bytes(self.host.tree.nodes[f"{made.path(number)}.meta"].data))

    def edit_meta(self, made: Made, number: int, old: bytes, new: bytes) -> None:
        node = self.host.tree.nodes[f"{made.path(number)}.meta"]
        assert old in node.data
        node.data = node.data.replace(old, new)
        node.size = len(node.data)

    def roles(self, made: Made) -> list[VolumeRole]:
        return [self.meta(made, number).role for number in range(len(made.volumes))]

    async def findings(self, domain: str = SD) -> list[str]:
        return [f"{row.where}: {row.what}" for row in await self.call(storage.check, storageID=domain)]

    def snapshot(self) -> dict[str, bytes]:
        """Every file with its bytes; of an image what it refers to and holds too.

        Without the directories for links to images in use, which are made with the first.
        """
        return {
            path: bytes(node.data) + repr((node.size, node.target, node.body)).encode()
            for path, node in self.host.tree.nodes.items()
            if node.kind is not FileKind.DIRECTORY or not path.startswith("/run")
        }


class Made:
    """An image: its volumes' ids, the base first."""

    def __init__(self, image_id: str, volumes: list[str], domain: str = SD) -> None:
        self.id = image_id
        self.volumes = volumes
        self.domain = domain

    @property
    def where(self) -> dict[str, Any]:
        return {"storagepoolID": POOL, "storagedomainID": self.domain, "imageID": self.id}

    @property
    def directory(self) -> str:
        return f"{ROOT}/{self.domain}/images/{self.id}"

    def path(self, number: int) -> str:
        return f"{self.directory}/{self.volumes[number]}"


def named(made: Made, number: int = -1) -> dict[str, Any]:
    return {**made.where, "volumeID": made.volumes[number]}


@contextlib.asynccontextmanager
async def nothing_changed(center: DataCenter, problem: type[Problem], reason: str | None = None) -> AsyncIterator[None]:
    """The block is refused, and neither a file nor what a dump says is another afterwards."""
    before, dump = center.snapshot(), await center.call(storage_domain.dump, sd_id=SD2)
    with pytest.raises(problem, match=reason):
        yield
    assert center.snapshot() == before
    assert await center.call(storage_domain.dump, sd_id=SD2) == dump

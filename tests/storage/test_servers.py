# SPDX-License-Identifier: Apache-2.0
"""Places that are mounted: what is mounted where and how, each refusal, what is undone, what a restart finds."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from harness.memory_host import ADMIN, MemoryHost
from harness.until import soon
from vdsm.contract import host, image, storage, storage_domain, storage_pool, volume
from vdsm.contract.errors_domains import (
    StorageDomainBlockSizeMismatch,
    StorageDomainDoesNotExist,
    StorageDomainFSNotMounted,
    StorageDomainTypeError,
    StorageInUse,
    StorageTypeError,
    StorageUnusable,
)
from vdsm.contract.errors_storage import ForeignMount, MountError, MountRefused
from vdsm.contract.storage import StorageState
from vdsm.contract.storage_words import BLANK
from vdsm.core.ports.mounts import Mounted
from vdsm.core.storage.format import domain_meta
from vdsm.core.storage.format.domain_meta import DomainMeta, alignment_for
from vdsm.drivers.simulated.faults import Fault, Faults
from vdsm.drivers.simulated.mounts import SimulatedMounts
from vdsm.drivers.simulated.tree import Tree

POOL, SD, IMAGE, VOLUME = (str(uuid.uuid4()) for _ in range(4))
A, B = str(uuid.uuid4()), str(uuid.uuid4())
NFS = {"connection": "server:/export_1"}
PLACE = "/data-center/mnt/server:_export__1"
NEW: dict[str, Any] = {"storagedomainID": SD, "domainType": "NFS", "typeArgs": "server:/export_1", "name": "shared"}


class Lab:
    """A daemon that can start again, on a host whose tree and mounts stay."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self.tree, self.faults = Tree(), Faults()
        self.mounts = SimulatedMounts(self.tree, self.faults)
        self.host = MemoryHost(state, tree=self.tree, mounts=self.mounts, monitor_s=0.05)

    async def restart(self) -> None:
        await self.host.close()
        self.host = MemoryHost(self._state, tree=self.tree, mounts=self.mounts, monitor_s=0.05)
        await self.host.open()

    async def connect(self, *refs: dict[str, Any], kind: str = "NFS") -> list[int]:
        rows = [{"id": str(uuid.uuid4()), **ref} for ref in refs]
        answer = await self.host.call(
            storage_pool.connect_storage_server, storagepoolID=BLANK, domainType=kind, connectionParams=rows
        )
        assert [row.id for row in answer] == [row["id"] for row in rows]
        return [row.status for row in answer]

    async def disconnect(self, ref: dict[str, Any], kind: str = "NFS") -> int:
        rows = [{"id": A, **ref}]
        (row,) = await self.host.call(
            storage_pool.disconnect_storage_server, storagepoolID=BLANK, domainType=kind, connectionParams=rows
        )
        assert isinstance(row.status, int)
        return row.status

    def at(self, target: str = PLACE) -> list[Mounted]:
        return [one for one in self.mounts.mounted if one.target == target]

    def on_disk(self) -> DomainMeta:
        return domain_meta.decode(bytes(self.tree.nodes[f"{PLACE}/{SD}/dom_md/metadata"].data))


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    made = Lab(tmp_path)
    await made.host.open()
    yield made
    await made.host.close()


@pytest.mark.parametrize(
    ("kind", "ref", "source", "place", "options"),
    [
        ("NFS", {"connection": "srv:/a_b/c"}, "srv:/a_b/c", "srv:_a__b_c", "soft,nosharecache,vers=3"),
        ("NFS", {"connection": "srv:/a//"}, "srv:/a", "srv:_a", "soft,nosharecache,vers=3"),
        ("NFS", {"connection": "srv:/"}, "srv:/", "srv:_", "soft,nosharecache,vers=3"),
        ("NFS", {"connection": "[fe80::1]:/a"}, "[fe80::1]:/a", "[fe80::1]:_a", "soft,nosharecache,vers=3"),
        (
            "NFS",
            {"connection": "s:/a", "protocol_version": "auto", "timeout": 100, "retrans": 4, "mnt_options": "ac"},
            "s:/a", "s:_a", "soft,nosharecache,timeo=100,retrans=4,ac",
        ),
        ("NFS", {"connection": "s:/a", "protocol_version": "V4.2"}, "s:/a", "s:_a", "soft,nosharecache,vers=4.2"),
        ("POSIXFS", {"connection": "/dev/sdb1", "vfs_type": "ext4"}, "/dev/sdb1", "_dev_sdb1", ""),
        ("POSIXFS", {"connection": "h:/v", "vfs_type": "ceph", "mnt_options": "ro"}, "h:/v", "h:_v", "ro"),
    ],
)  # fmt: skip
async def test_what_is_mounted(lab: Lab, kind: str, ref: dict[str, Any], source: str, place: str, options: str) -> None:
    before = dict(lab.tree.nodes)
    assert await lab.connect(ref, ref, kind=kind) == [0, 0]
    (there,) = lab.at(f"/data-center/mnt/{place}")
    assert (there.source, there.type) == (source, ref.get("vfs_type", "nfs"))
    assert there.options == [*filter(None, options.split(",")), "nosuid", "nodev", "noexec", "nosymfollow"]
    assert await lab.disconnect({"connection": ref["connection"]}, kind) == 0
    assert await lab.disconnect(ref, kind) == 0, "not connected is fine"
    assert not lab.mounts.mounted
    assert lab.tree.nodes.keys() - before.keys() == {"/data-center", "/data-center/mnt"}


@pytest.mark.parametrize(
    ("kind", "ref", "code"),
    [
        ("NFS", {"connection": "/srv/nfs"}, MountRefused.code),
        ("NFS", {"connection": "server:export"}, MountRefused.code),
        ("NFS", {"connection": "s:/a", "protocol_version": "2"}, MountRefused.code),
        ("NFS", {"connection": "s:/a", "protocol_version": "3,suid"}, MountRefused.code),
        ("NFS", {"connection": "s:/a", "timeout": -1}, MountRefused.code),
        ("NFS", {"connection": "s:/a", "password": "hush"}, MountRefused.code),
        ("NFS", {"connection": "s:/a", "user": "me"}, MountRefused.code),
        ("NFS", {"connection": f"s:/{'a' * 300}"}, MountRefused.code),
        ("POSIXFS", {"connection": "/dev/sdb1"}, MountRefused.code),
        ("POSIXFS", {"connection": "..", "vfs_type": "ext4"}, MountRefused.code),
        ("POSIXFS", {"connection": "server:/export_1", "vfs_type": "ext4"}, MountRefused.code),
        ("GLUSTERFS", {"connection": "s:/a"}, StorageTypeError.code),
        ("ISCSI", {"connection": "s:/a"}, StorageTypeError.code),
        ("FCP", {"connection": "s:/a"}, StorageTypeError.code),
        ("CIFS", {"connection": "s:/a"}, StorageTypeError.code),
    ],
)
async def test_what_is_refused(lab: Lab, kind: str, ref: dict[str, Any], code: int) -> None:
    assert await lab.connect(NFS) == [0]
    before = list(lab.mounts.mounted)
    assert await lab.connect(ref, kind=kind) == [code]
    assert lab.mounts.mounted == before


async def test_each_fails_alone_and_leaves_nothing(lab: Lab) -> None:
    lab.faults.set("mount", Fault(error="access denied by server", times=1))
    rows = [{"id": BLANK, "connection": place} for place in ("s:/a", "s:/b")]  # also of one id
    params: dict[str, Any] = {"storagepoolID": BLANK, "domainType": "NFS", "connectionParams": rows}
    first, second = await lab.host.call(storage_pool.connect_storage_server, **params)
    assert (first.status, second.status, second.reason) == (MountError.code, 0, "")
    assert "access denied by server" in first.reason
    assert [one.source for one in lab.mounts.mounted] == ["s:/b"]
    await lab.restart()
    assert [c.remote for c in lab.host.repository.connections()] == ["s:/b"]


async def test_what_was_mounted_before_stays_when_connecting_fails(lab: Lab) -> None:
    lab.tree.directory(PLACE)
    lab.mounts.mounted.append(Mounted(source=NFS["connection"], target=PLACE, type="nfs", options=[]))
    lab.host.file_faults.set("names", Fault(error="Stale file handle", times=1))
    assert await lab.connect(NFS) != [0]
    assert lab.at(), "it was not this call that mounted it"
    assert lab.host.repository.connections() == []
    assert await lab.connect(NFS) == [0]
    assert await lab.disconnect(NFS) == 0
    assert not lab.at()


async def test_a_foreign_mount_is_left_alone(lab: Lab) -> None:
    lab.tree.directory(PLACE)
    lab.mounts.mounted.append(foreign := Mounted(source="other:/x", target=PLACE, type="nfs", options=[]))
    assert await lab.connect(NFS) == [10621]
    assert await lab.disconnect(NFS) == 0
    assert lab.at() == [foreign]


async def test_a_domain_there_from_making_to_taking_apart(lab: Lab) -> None:
    with pytest.raises(StorageDomainFSNotMounted):
        await lab.host.call(storage_domain.create, **NEW)
    await lab.connect(NFS)
    with pytest.raises(StorageDomainTypeError, match="connected as storage of the type NFS"):
        await lab.host.call(storage_domain.create, **{**NEW, "domainType": "POSIXFS"})
    await lab.host.call(storage_domain.create, **{**NEW, "typeArgs": "server:/export_1/"})
    info = await lab.host.call(storage_domain.get_info, storagedomainID=SD)
    assert (info.type, info.remote_path, info.block_size, info.alignment) == ("NFS", "server:/export_1", 512, 1 << 20)
    assert (lab.on_disk().type, lab.on_disk().remote_path) == ("NFS", "server:/export_1")

    master: dict[str, Any] = {"storagepoolID": POOL, "masterSdUUID": SD, "masterVersion": 1}
    await lab.host.call(storage_pool.create, **master, name="dc", domainList=[SD])
    await lab.host.call(storage_pool.connect, **master, hostID=1, scsiKey="")
    assert lab.tree.nodes[f"/data-center/{POOL}/{SD}"].target == f"{PLACE}/{SD}"
    await lab.host.call(storage_pool.spm_start, storagepoolID=POOL)
    assert await lab.disconnect(NFS) == StorageInUse.code
    where: dict[str, Any] = {"storagepoolID": POOL, "storagedomainID": SD, "imageID": IMAGE}
    await lab.host.call(
        volume.create, **where, volumeID=VOLUME, size=4096, volFormat="RAW", preallocate="SPARSE", diskType="DATA",
        desc="",
    )  # fmt: skip
    prepared = await lab.host.call(image.prepare, **where, volumeID=VOLUME)
    assert lab.tree.nodes[f"{PLACE}/{SD}/images/{IMAGE}/{VOLUME}"].size == 4096
    assert prepared.path.endswith(f"/{VOLUME}")
    await lab.host.call(storage_pool.destroy, storagepoolID=POOL, hostID=1, scsiKey="")
    assert await lab.disconnect(NFS) == 0
    assert not [path for path in lab.tree.nodes if path.startswith(f"{PLACE}/")]
    with pytest.raises(StorageDomainDoesNotExist):
        await lab.host.call(storage_domain.get_info, storagedomainID=SD)

    assert await lab.connect(NFS) == [0], "what another host would find there"
    assert (await lab.host.call(storage_domain.get_info, storagedomainID=SD)).pool == []
    assert await lab.host.call(storage_domain.get_images, storagedomainID=SD) == [IMAGE]


async def test_a_domain_that_is_in_two_places_stays_where_it_was(lab: Lab) -> None:
    """As behind a server's other name, or on a copy of its storage."""
    await lab.connect(NFS)
    await lab.host.call(storage_domain.create, **NEW)
    other = "/data-center/mnt/other:_copy"
    for path in list(lab.tree.nodes):
        if path.startswith(f"{PLACE}/"):
            lab.mounts.away.setdefault("other:/copy", {})[path.removeprefix(PLACE)] = lab.tree.nodes[path]
    assert await lab.connect({"connection": "other:/copy"}) == [0]
    assert f"{other}/{SD}" in lab.tree.nodes
    await lab.host.call(host.get_storage_domains)
    (row,) = await lab.host.call(storage.list_)
    assert row.path == NFS["connection"]
    assert lab.host.repository.find(SD).root == PLACE
    assert await lab.disconnect(NFS) == 0
    assert await lab.host.call(host.get_storage_domains) == [SD], "now it is found there"
    assert lab.host.repository.find(SD).root == other


async def test_a_domain_is_made_only_on_what_was_meant(lab: Lab) -> None:
    await lab.connect(NFS)
    lab.mounts.lose(PLACE)
    before = set(lab.tree.nodes)
    lab.faults.set("mount", Fault(error="Connection refused"))
    with pytest.raises(MountError):
        await lab.host.call(storage_domain.create, **NEW)
    lab.faults.clear()
    outcome = await lab.host.bridge.call(storage_domain.create, NEW, ADMIN, plan=True)
    assert outcome.plan is not None
    assert (lab.at(), set(lab.tree.nodes)) == ([], before), "a plan changes nothing"
    lab.mounts.mounted.append(foreign := Mounted(source="other:/x", target=PLACE, type="nfs", options=[]))
    with pytest.raises(ForeignMount):
        await lab.host.call(storage_domain.create, **NEW)
    assert set(lab.tree.nodes) == before
    lab.mounts.mounted.remove(foreign)
    await lab.host.call(storage_domain.create, **NEW)
    assert lab.on_disk().description == "shared"


async def test_a_mount_that_cannot_be_let_go_stays_connected(lab: Lab) -> None:
    await lab.connect(NFS)
    await lab.host.call(storage_domain.create, **NEW)
    lab.faults.set("unmount", Fault(error="target is busy", times=1))
    assert await lab.disconnect(NFS) == MountError.code
    (row,) = await lab.host.call(storage.list_)
    assert (row.id, row.state) == (SD, StorageState.ACTIVE)
    assert await lab.disconnect(NFS) == 0
    assert await lab.host.call(storage.list_) == []


async def test_a_daemon_that_dies_while_it_connects_leaves_nothing_unknown(lab: Lab) -> None:
    lab.host.file_faults.set("names", Fault(hang=True))
    connecting = asyncio.create_task(lab.connect(NFS))
    await soon("it is mounted", lab.at)
    connecting.cancel()
    await asyncio.gather(connecting, return_exceptions=True)
    await lab.restart()
    assert [c.remote for c in lab.host.repository.connections()] == [NFS["connection"]]
    assert await lab.disconnect(NFS) == 0
    assert not lab.mounts.mounted


async def test_a_restart_mounts_what_is_not_mounted(lab: Lab) -> None:
    await lab.connect(NFS)
    await lab.host.call(storage_domain.create, **NEW)
    (before,) = lab.at()
    await lab.restart()
    assert lab.at() == [before]
    lab.mounts.lose(PLACE)
    await lab.restart()
    assert lab.at() == [before]
    (row,) = await lab.host.call(storage.list_)
    assert (row.id, row.name, row.state, row.path) == (SD, "shared", StorageState.ACTIVE, "server:/export_1")
    assert await lab.disconnect(NFS) == 0, "it is what it was before"
    assert not lab.mounts.mounted


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(error="Connection refused"), "could not be mounted .*Connection refused"),
        (Fault(hang=True), "its server does not answer"),
    ],
)
async def test_a_server_that_is_dead_at_the_start_is_waited_for_by_nobody(
    lab: Lab, fault: Fault, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vdsm.core.storage.repository._ADOPTION_S", 0.2)
    await lab.connect(NFS)
    await lab.host.call(storage_domain.create, **NEW)
    lab.mounts.lose(PLACE)
    lab.faults.set("mount", fault)
    await lab.restart()
    with pytest.raises(StorageUnusable, match=f"it is not mounted: .*{reason}"):
        await lab.host.call(storage_domain.get_images, storagedomainID=SD)
    (row,) = await lab.host.call(storage.list_)
    assert (row.state, row.name) == (StorageState.UNUSABLE, "shared")
    lab.faults.clear()
    monitor = lab.host.storage.monitor
    await soon("it is used again", lambda: monitor.by_state() == {"active": 1})
    assert await lab.host.call(storage_domain.get_images, storagedomainID=SD) == []


@pytest.mark.parametrize(
    ("found", "wanted", "hosts", "made"),
    [
        (512, 0, 250, (512, 1)),
        (512, 512, 2000, (512, 1)),
        (4096, 0, 250, (4096, 1)),
        (4096, 4096, 251, (4096, 2)),
        (4096, 0, 501, (4096, 4)),
        (4096, 0, 2000, (4096, 8)),
        (1, 0, 250, (512, 1)),
        (1, 4096, 1000, (4096, 4)),
        (512, 4096, 250, None),
        (4096, 512, 250, None),
        (512, 1024, 250, None),
    ],
)
async def test_blocks_and_hosts(lab: Lab, found: int, wanted: int, hosts: int, made: tuple[int, int] | None) -> None:
    lab.tree.block_size = found
    await lab.connect(NFS)
    before = set(lab.tree.nodes)
    params = {**NEW, "blockSize": wanted, "maxHosts": hosts}
    if made is None:
        with pytest.raises(StorageDomainBlockSizeMismatch):
            await lab.host.call(storage_domain.create, **params)
        assert set(lab.tree.nodes) == before
        return
    await lab.host.call(storage_domain.create, **params)
    assert (lab.on_disk().block_size, lab.on_disk().alignment) == (made[0], made[1] << 20)


def test_a_lease_has_a_block_for_each_host() -> None:
    for hosts in range(1, 2001):
        assert alignment_for(512, hosts) == 1 << 20
        assert alignment_for(4096, hosts) // 4096 >= hosts

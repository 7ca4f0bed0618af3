# SPDX-License-Identifier: Apache-2.0
"""Pools, domains and volumes as managers ask for them: every refusal, and the chain on disk after each change."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from harness.memory_host import MemoryHost
from vdsm.contract import AnyVerb, disk, image, storage, storage_domain, storage_pool, vm, volume
from vdsm.contract.errors import InvalidParams
from vdsm.contract.errors_domains import (
    CannotCloneVolume,
    CannotDetachMasterStorageDomain,
    DiskInUse,
    SpmStatusError,
    StorageDomainAlreadyAttached,
    StorageDomainAlreadyExists,
    StorageDomainDoesNotExist,
    StorageDomainFSNotMounted,
    StorageInUse,
    StoragePathRefused,
    StoragePoolMasterNotFound,
    StoragePoolUnknown,
    StoragePoolWrongMaster,
    StorageTypeError,
)
from vdsm.contract.errors_storage import FileMissing
from vdsm.contract.events import Severity
from vdsm.contract.storage_words import BLANK, StorageDomainRole, VolumeRole
from vdsm.core.storage.format import domain_meta, volume_meta
from vdsm.core.storage.format.domain_meta import DomainMeta

GIB = 1 << 30
POOL, SD, SD2, IMAGE, BASE, TOP = (str(uuid.uuid4()) for _ in range(6))
SERVER: dict[str, Any] = {"storagepoolID": POOL, "connectionParams": [{"id": BASE, "connection": "/storage/dc"}]}
MASTER: dict[str, Any] = {"storagepoolID": POOL, "masterSdUUID": SD, "masterVersion": 1}
HOST: dict[str, Any] = {"storagepoolID": POOL, "hostID": 1, "scsiKey": ""}
WHERE: dict[str, Any] = {"storagepoolID": POOL, "storagedomainID": SD, "imageID": IMAGE}
NEW: dict[str, Any] = {**WHERE, "size": GIB, "preallocate": "SPARSE", "diskType": "DATA", "desc": "d"}
NEW_BASE: dict[str, Any] = {**NEW, "volumeID": BASE, "volFormat": "RAW"}
NEW_TOP: dict[str, Any] = {**NEW, "volumeID": TOP, "volFormat": "COW", "srcImgUUID": IMAGE, "srcVolUUID": BASE}


@pytest.fixture
async def pooled(host: MemoryHost) -> MemoryHost:
    """In charge of a pool of its own of one domain, beside the storage of a single host."""
    host.tree.directory("/storage/dc")
    await host.call(storage_pool.connect_storage_server, **SERVER, domainType="LOCALFS")
    await make(host, SD)
    await host.call(storage_pool.create, **MASTER, name="dc", domainList=[SD])
    await host.call(storage_pool.connect, **MASTER, hostID=1, scsiKey="")
    await host.call(storage_pool.spm_start, storagepoolID=POOL)
    return host


async def make(host: MemoryHost, domain_id: str, place: str = "/storage/dc") -> None:
    more: dict[str, Any] = {"domainType": "LOCALFS", "typeArgs": place, "name": domain_id[:8]}
    await host.call(storage_domain.create, storagedomainID=domain_id, **more)


def on_disk(host: MemoryHost, domain_id: str = SD) -> DomainMeta:
    return domain_meta.decode(bytes(host.tree.nodes[f"/storage/dc/{domain_id}/dom_md/metadata"].data))


def role(host: MemoryHost, volume_id: str) -> VolumeRole:
    data = bytes(host.tree.nodes[f"/storage/dc/{SD}/images/{IMAGE}/{volume_id}.meta"].data)
    return volume_meta.decode(data).role


# ---- servers and domains ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "place", "code"),
    [
        ("ISCSI", "server:/export", StorageTypeError.code),
        ("LOCALFS", "/etc", StoragePathRefused.code),
        ("LOCALFS", "relative", StoragePathRefused.code),
        ("LOCALFS", "/storage/none", FileMissing.code),
        ("LOCALFS", "/storage/vm/below", StoragePathRefused.code),
        ("LOCALFS", "/storage/vm", 0),
    ],
)
async def test_each_connection_has_a_status(host: MemoryHost, kind: str, place: str, code: int) -> None:
    params = [{"id": BASE, "connection": place}, {"id": TOP, "connection": "/storage/vm"}]
    answer = await host.call(
        storage_pool.connect_storage_server, storagepoolID=POOL, domainType=kind, connectionParams=params
    )
    other = StorageTypeError.code if kind == "ISCSI" else 0
    assert [(row.id, row.status) for row in answer] == [(BASE, code), (TOP, other)]


async def test_a_place_in_use_is_not_let_go(pooled: MemoryHost) -> None:
    (row,) = await pooled.call(storage_pool.disconnect_storage_server, **SERVER, domainType="LOCALFS")
    assert row.status == StorageInUse.code
    assert await pooled.call(storage_domain.get_images, storagedomainID=SD) == []


async def test_where_domains_are_not_made(pooled: MemoryHost) -> None:
    with pytest.raises(StorageDomainFSNotMounted):
        await make(pooled, SD2, "/storage/other")
    with pytest.raises(StorageDomainAlreadyExists):
        await make(pooled, SD)
    pooled.tree.directory(f"/storage/dc/{SD2}/somebody's")
    with pytest.raises(StorageDomainAlreadyExists, match="something lies"):
        await make(pooled, SD2)
    with pytest.raises(InvalidParams):
        await make(pooled, "../../etc")


async def test_formatting_takes_only_what_belongs_to_no_pool(pooled: MemoryHost) -> None:
    with pytest.raises(StorageDomainAlreadyAttached):
        await pooled.call(storage_domain.format, storagedomainID=SD, autoDetach=True)
    await make(pooled, SD2)
    await pooled.call(storage_domain.format, storagedomainID=SD2)
    assert not [path for path in pooled.tree.nodes if SD2 in path]
    with pytest.raises(StorageDomainDoesNotExist):
        await pooled.call(storage_domain.get_info, storagedomainID=SD2)


# ---- pools -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"masterVersion": 2}, StoragePoolWrongMaster),
        ({"storagepoolID": BASE}, StoragePoolWrongMaster),
        ({"masterSdUUID": SD2}, StoragePoolMasterNotFound),
    ],
)
async def test_a_pool_is_connected_by_its_master(
    pooled: MemoryHost, change: dict[str, Any], problem: type[Exception]
) -> None:
    with pytest.raises(problem):
        await pooled.call(storage_pool.connect, **{**MASTER, **change}, hostID=1, scsiKey="")


async def test_only_who_is_in_charge_writes(pooled: MemoryHost) -> None:
    await pooled.call(storage_pool.spm_stop, storagepoolID=POOL)
    before = set(pooled.tree.nodes)
    calls: list[tuple[AnyVerb, dict[str, Any]]] = [
        (volume.create, NEW_BASE),
        (storage_domain.attach, {"storagedomainID": SD2, "storagepoolID": POOL}),
        (storage_pool.destroy, HOST),
    ]
    for verb, params in calls:
        with pytest.raises(SpmStatusError):
            await pooled.call(verb, **params)
    assert set(pooled.tree.nodes) == before
    with pytest.raises(StoragePoolUnknown):
        await pooled.call(storage_pool.spm_start, storagepoolID=SD)


async def test_domains_come_and_go(pooled: MemoryHost) -> None:
    await make(pooled, SD2)
    both: dict[str, Any] = {"storagedomainID": SD2, "storagepoolID": POOL}
    verbs: list[tuple[AnyVerb, str]] = [
        (storage_domain.attach, f"{SD}:Active,{SD2}:Attached"),
        (storage_domain.activate, f"{SD}:Active,{SD2}:Active"),
        (storage_domain.deactivate, f"{SD}:Active,{SD2}:Attached"),
        (storage_domain.detach, f"{SD}:Active"),
    ]
    for verb, shown in verbs:
        await pooled.call(verb, **both)
        assert (await pooled.call(storage_pool.get_info, storagepoolID=POOL)).info.domains == shown
        pool = on_disk(pooled).pool
        assert pool is not None
        assert ",".join(f"{k}:{v}" for k, v in pool.domains.items()) == shown
        assert on_disk(pooled, SD2).pools == ((POOL,) if SD2 in shown else ())
    with pytest.raises(CannotDetachMasterStorageDomain):
        await pooled.call(storage_domain.detach, storagedomainID=SD, storagepoolID=POOL)


async def test_a_pool_taken_apart_leaves_free_domains_and_their_disks(pooled: MemoryHost) -> None:
    await pooled.call(volume.create, **NEW_BASE)
    await pooled.call(storage_pool.destroy, **HOST)
    meta = on_disk(pooled)
    assert (meta.role, meta.pools, meta.pool) == (StorageDomainRole.REGULAR, (), None)
    assert await pooled.call(storage_domain.get_images, storagedomainID=SD) == [IMAGE]
    with pytest.raises(StoragePoolUnknown):
        await pooled.call(storage_pool.get_info, storagepoolID=POOL)


# ---- volumes ---------------------------------------------------------------------------------------------------------


async def test_a_chain(pooled: MemoryHost) -> None:
    await pooled.call(volume.create, **NEW_BASE)
    assert role(pooled, BASE) is VolumeRole.LEAF
    made = await pooled.call(volume.create, **NEW_TOP)
    assert (made.parent, made.voltype, made.children) == (BASE, VolumeRole.LEAF, [])
    assert role(pooled, BASE) is VolumeRole.INTERNAL
    base = await pooled.call(volume.get_info, **WHERE, volumeID=BASE)
    assert base.children == [TOP]
    (row,) = [row for row in await pooled.call(disk.list_) if row.id == IMAGE]
    assert row.volumes == 2
    assert await pooled.call(storage.check, storageID=SD) == []
    await pooled.call(image.delete, **WHERE)
    assert not [path for path in pooled.tree.nodes if IMAGE in path]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"srcVolUUID": BLANK}, "goes on from its volume"),
        ({"srcVolUUID": SD2}, "goes on from its volume"),
        ({"srcImgUUID": SD2}, "only the first volume"),
        ({"volFormat": "RAW"}, "only a COW volume"),
        ({"size": GIB // 2}, "smaller than the parent"),
        ({"imageID": SD2}, "no such template"),
    ],
)
async def test_what_a_volume_cannot_go_on_from(pooled: MemoryHost, change: dict[str, Any], reason: str) -> None:
    await pooled.call(volume.create, **NEW_BASE)
    before = {path: bytes(node.data) for path, node in pooled.tree.nodes.items()}
    with pytest.raises(CannotCloneVolume, match=reason):
        await pooled.call(volume.create, **{**NEW_TOP, **change})
    assert {path: bytes(node.data) for path, node in pooled.tree.nodes.items()} == before


async def test_a_machines_volume_is_not_taken_from_under_it(pooled: MemoryHost) -> None:
    await pooled.call(volume.create, **NEW_BASE)
    with pytest.raises(Exception, match="is written to in its volume"):
        await pooled.create("a", disks=[{"path": IMAGE, "volume": TOP}])
    machine = await pooled.create("a", disks=[{"path": IMAGE, "volume": BASE}])
    with pytest.raises(DiskInUse):
        await pooled.call(image.delete, **WHERE)
    with pytest.raises(StorageInUse):
        await pooled.call(storage_pool.destroy, **HOST)
    await pooled.call(vm.destroy, vmID=machine.vm_id)
    await pooled.call(volume.create, **NEW_TOP)


# ---- what a check finds ----------------------------------------------------------------------------------------------


async def test_a_check_names_each_fault_with_its_remedy_and_changes_nothing(pooled: MemoryHost) -> None:
    await pooled.call(volume.create, **NEW_BASE)
    await pooled.call(volume.create, **NEW_TOP)
    home = f"/storage/dc/{SD}/images/{IMAGE}"
    nodes = pooled.tree.nodes
    good = dict(nodes)

    async def findings() -> dict[str, str]:
        before = dict(nodes)
        found = await pooled.call(storage.check, storageID=SD)
        assert dict(nodes) == before
        assert all(row.remedy for row in found)
        return {f"{row.severity} {row.where}": row.what for row in found}

    def mend() -> None:
        nodes.clear()
        nodes.update(good)

    del nodes[f"{home}/{TOP}"]
    assert f"{Severity.ERROR} images/{IMAGE}/{TOP}" in await findings()
    mend()
    del nodes[f"{home}/{BASE}.meta"]
    found = await findings()
    assert "is missing" in found[f"{Severity.ERROR} images/{IMAGE}"]
    assert f"{Severity.WARNING} images/{IMAGE}/{BASE}" in found
    mend()
    del nodes[f"/storage/dc/{SD}/dom_md/ids"]
    assert await findings() == {f"{Severity.ERROR} dom_md/ids": "it is missing"}
    mend()
    pooled.tree.directory(f"/storage/dc/{SD}/images/_remove_me_{SD2}")
    assert await findings() == {f"{Severity.WARNING} images/_remove_me_{SD2}": "an image that is being removed"}
    mend()
    nodes[f"{home}/{BASE}"].size -= 4096
    assert any("its metadata says" in what for what in (await findings()).values())
    nodes[f"{home}/{BASE}"].size += 4096
    assert await findings() == {}
    dump = await pooled.call(storage_domain.dump, sd_id=SD)
    assert {name: row.voltype for name, row in dump.volumes.items()} == {
        BASE: VolumeRole.INTERNAL,
        TOP: VolumeRole.LEAF,
    }

# SPDX-License-Identifier: Apache-2.0
"""Masters of pools, what managers keep in them, classes of domains: every refusal, and what lies on the disk."""

from __future__ import annotations

import errno
import uuid
from typing import Any

import pytest

from harness.memory_host import MemoryHost
from vdsm.contract import AnyVerb, disk, storage, storage_domain, storage_pool, volume
from vdsm.contract.errors import Problem
from vdsm.contract.errors_domains import (
    BackupCannotBeMasterDomain,
    CannotDetachMasterStorageDomain,
    CurrentVersionTooAdvancedError,
    ImagesNotSupportedError,
    IsoCannotBeMasterDomain,
    MissingOvfFileFromVM,
    ReconstructMasterError,
    SpmStatusError,
    StorageDomainAlreadyAttached,
    StorageDomainClassError,
    StorageDomainNotActive,
    StorageDomainNotInPool,
    StoragePoolConnected,
    StoragePoolUnknown,
    StoragePoolWrongMaster,
    UnsupportedDomainVersion,
)
from vdsm.contract.storage_pool import StoragePoolUpgradeStatus
from vdsm.contract.storage_words import BLANK, StorageDomainRole
from vdsm.core.ports.files import FileKind
from vdsm.core.storage.format import domain_meta, layout
from vdsm.core.storage.format.domain_meta import DomainMeta
from vdsm.drivers.simulated.tree import Node

POOL, POOL2, SD, SD2, SD3, IMAGE, VOLUME, VM, VM2 = (str(uuid.uuid4()) for _ in range(9))
WHO: dict[str, Any] = {"storagepoolID": POOL}
HOST: dict[str, Any] = {**WHO, "hostID": 1, "scsiKey": ""}
SWITCH: dict[str, Any] = {**WHO, "oldMasterUUID": SD, "newMasterUUID": SD2, "masterVersion": 2}
RECONSTRUCT: dict[str, Any] = {
    **WHO, "hostId": 1, "name": "dc", "masterSdUUID": SD2, "masterVersion": 2,
    "domainDict": {SD: "Attached", SD2: "Active"}, "lockRenewalIntervalSec": 5, "leaseTimeSec": 60,
    "ioOpTimeoutSec": 10, "leaseRetries": 3,
}  # fmt: skip
OVF = "<?xml version='1.0'?>\n<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/shadow'>]><Envelope>&e; grüß</Envelope>\n"
NEW: dict[str, Any] = {
    **WHO, "storagedomainID": SD, "imageID": IMAGE, "volumeID": VOLUME, "size": 4096, "volFormat": "RAW",
    "preallocate": "SPARSE", "diskType": "DATA", "desc": "d",
}  # fmt: skip


@pytest.fixture
async def pooled(host: MemoryHost) -> MemoryHost:
    """In charge of a pool of two active domains."""
    host.tree.directory("/storage/dc")
    server = [{"id": VM, "connection": "/storage/dc"}]
    await host.call(
        storage_pool.connect_storage_server, storagepoolID=POOL, domainType="LOCALFS", connectionParams=server
    )
    for domain_id in (SD, SD2):
        await make(host, domain_id)
    await host.call(storage_pool.create, **WHO, name="dc", masterSdUUID=SD, masterVersion=1, domainList=[SD, SD2])
    await connect(host, SD, 1)
    await host.call(storage_domain.activate, storagedomainID=SD2, **WHO)
    return host


async def make(host: MemoryHost, domain_id: str, kind: str = "Data") -> None:
    more: dict[str, Any] = {"domainType": "LOCALFS", "typeArgs": "/storage/dc", "name": domain_id[:8]}
    await host.call(storage_domain.create, storagedomainID=domain_id, domainClass=kind, **more)


async def connect(host: MemoryHost, master: str, version: int) -> None:
    await host.call(storage_pool.connect, **HOST, masterSdUUID=master, masterVersion=version)
    await host.call(storage_pool.spm_start, **WHO)


async def leave(host: MemoryHost) -> None:
    await host.call(storage_pool.spm_stop, **WHO)
    await host.call(storage_pool.disconnect, **HOST)


def on_disk(host: MemoryHost, domain_id: str) -> DomainMeta:
    return domain_meta.decode(bytes(host.tree.nodes[f"/storage/dc/{domain_id}/{layout.METADATA}"].data))


def files(host: MemoryHost) -> dict[str, bytes]:
    return {path: bytes(node.data) for path, node in host.tree.nodes.items() if path.startswith("/storage/dc/")}


# ---- another master --------------------------------------------------------------------------------------------------


async def test_another_domain_is_the_master_with_all_that_the_first_kept(pooled: MemoryHost) -> None:
    await pooled.call(storage_pool.update_vms, **WHO, vmList=[{"vm": VM, "imglist": f"{IMAGE},{VOLUME}", "ovf": OVF}])
    await pooled.call(storage_pool.set_description, **WHO, description="another name")
    await pooled.call(storage_pool.switch_master, **SWITCH)
    old, new = on_disk(pooled, SD), on_disk(pooled, SD2)
    assert (old.role, old.master_version, old.pool, old.pools) == (StorageDomainRole.REGULAR, 0, None, (POOL,))
    assert (new.role, new.master_version, new.pools) == (StorageDomainRole.MASTER, 2, (POOL,))
    assert new.pool is not None
    assert (new.pool.description, set(new.pool.domains)) == ("another name", {SD, SD2})
    info = (await pooled.call(storage_pool.get_info, **WHO)).info
    assert (info.name, info.master_uuid, info.master_ver) == ("another name", SD2, 2)
    assert await pooled.call(storage_pool.get_backed_up_vms_info, **WHO) == {VM: OVF}
    assert not [path for path in files(pooled) if path.startswith(f"/storage/dc/{SD}/master/vms/")]
    assert pooled.tree.nodes[f"/data-center/{POOL}/mastersd"].target == SD2
    assert (await pooled.call(storage_pool.get_spm_status, **WHO)).spm_id == 1
    assert await pooled.call(storage.check, storageID=SD2) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"masterVersion": 1}, StoragePoolWrongMaster),
        ({"oldMasterUUID": SD2}, StoragePoolWrongMaster),
        ({"newMasterUUID": SD}, StoragePoolWrongMaster),
        ({"newMasterUUID": SD3}, StorageDomainNotInPool),
    ],
)
async def test_what_is_not_made_the_master(
    pooled: MemoryHost, change: dict[str, Any], problem: type[Exception]
) -> None:
    await make(pooled, SD3)
    before = files(pooled)
    with pytest.raises(problem):
        await pooled.call(storage_pool.switch_master, **{**SWITCH, **change})
    assert files(pooled) == before


async def test_only_an_active_domain_of_data_is_a_master(pooled: MemoryHost) -> None:
    await pooled.call(storage_domain.deactivate, **WHO, storagedomainID=SD2)
    with pytest.raises(StorageDomainNotActive):
        await pooled.call(storage_pool.switch_master, **SWITCH)
    for kind, problem in (("Iso", IsoCannotBeMasterDomain), ("Backup", BackupCannotBeMasterDomain)):
        other = str(uuid.uuid4())
        await make(pooled, other, kind)
        with pytest.raises(problem):
            await pooled.call(
                storage_pool.create,
                storagepoolID=POOL2,
                name="x",
                masterSdUUID=other,
                masterVersion=1,
                domainList=[other],
            )
        both = {**WHO, "storagedomainID": other}
        await pooled.call(storage_domain.attach, **both)
        await pooled.call(storage_domain.activate, **both)
        with pytest.raises(problem):
            await pooled.call(storage_pool.switch_master, **{**SWITCH, "newMasterUUID": other})


async def test_a_master_that_is_deactivated_hands_over(pooled: MemoryHost) -> None:
    with pytest.raises(CannotDetachMasterStorageDomain):
        await pooled.call(storage_domain.deactivate, **WHO, storagedomainID=SD, masterSdUUID=SD, masterVersion=1)
    await pooled.call(storage_domain.deactivate, **WHO, storagedomainID=SD, masterSdUUID=SD2, masterVersion=7)
    info = (await pooled.call(storage_pool.get_info, **WHO)).info
    assert (info.master_uuid, info.master_ver) == (SD2, 7)
    assert info.domains == f"{SD}:Attached,{SD2}:Active"
    await pooled.call(storage_domain.detach, **WHO, storagedomainID=SD)
    await pooled.call(storage_domain.format, storagedomainID=SD)
    assert not [path for path in files(pooled) if SD in path]


async def test_a_pool_whose_master_is_lost_gets_another(pooled: MemoryHost) -> None:
    with pytest.raises(StoragePoolConnected):
        await pooled.call(storage_pool.reconstruct_master, **RECONSTRUCT)
    await leave(pooled)
    for change in ({"domainDict": {SD: "Active"}}, {"domainDict": {SD2: "Attached"}}):
        with pytest.raises(ReconstructMasterError):
            await pooled.call(storage_pool.reconstruct_master, **{**RECONSTRUCT, **change})
    metadata = pooled.tree.nodes[f"/storage/dc/{SD}/{layout.METADATA}"]
    whole, metadata.data[:] = bytes(metadata.data), b"lost"
    await pooled.call(storage_pool.reconstruct_master, **RECONSTRUCT)
    assert bytes(metadata.data) == b"lost"
    metadata.data[:] = whole
    await connect(pooled, SD2, 2)
    info = (await pooled.call(storage_pool.get_info, **WHO)).info
    assert (info.master_uuid, info.master_ver, info.domains) == (SD2, 2, f"{SD}:Attached,{SD2}:Active")
    assert on_disk(pooled, SD).role is StorageDomainRole.MASTER, "nobody has changed it yet"
    await pooled.call(storage_domain.activate, **WHO, storagedomainID=SD)
    assert (on_disk(pooled, SD).role, on_disk(pooled, SD).pool) == (StorageDomainRole.REGULAR, None)


async def test_a_master_that_is_reached_is_one_no_more(pooled: MemoryHost) -> None:
    await leave(pooled)
    await pooled.call(storage_pool.reconstruct_master, **RECONSTRUCT)
    roles = [on_disk(pooled, domain_id).role for domain_id in (SD, SD2)]
    assert roles == [StorageDomainRole.REGULAR, StorageDomainRole.MASTER]


async def test_who_is_not_in_charge_changes_nothing(pooled: MemoryHost) -> None:
    await pooled.call(storage_pool.spm_stop, **WHO)
    before = files(pooled)
    calls: list[tuple[AnyVerb, dict[str, Any]]] = [
        (storage_pool.set_description, {**WHO, "description": "x"}),
        (storage_pool.switch_master, SWITCH),
        (storage_pool.upgrade, {**WHO, "targetDomVersion": 5}),
        (storage_pool.update_vms, {**WHO, "vmList": [{"vm": VM, "ovf": OVF}]}),
        (storage_pool.remove_vm, {**WHO, "vmUUID": VM}),
        (storage_domain.set_description, {"storagedomainID": SD, "description": "x"}),
    ]
    for verb, params in calls:
        with pytest.raises(SpmStatusError):
            await pooled.call(verb, **params)
    assert files(pooled) == before


async def test_versions(pooled: MemoryHost) -> None:
    upgraded = await pooled.call(storage_pool.upgrade, **WHO, targetDomVersion=5)
    assert upgraded is StoragePoolUpgradeStatus.STARTED
    for version, problem in ((6, UnsupportedDomainVersion), (4, CurrentVersionTooAdvancedError)):
        with pytest.raises(problem):
            await pooled.call(storage_pool.upgrade, **WHO, targetDomVersion=version)


async def test_which_domains_hold_an_image(pooled: MemoryHost) -> None:
    where = {**WHO, "imageID": IMAGE}
    assert await pooled.call(storage_pool.get_domains_containing_image, **where) == []
    await pooled.call(volume.create, **NEW)
    assert await pooled.call(storage_pool.get_domains_containing_image, **where) == [SD]


async def test_a_domain_is_forced_out_though_it_is_not_reached(pooled: MemoryHost) -> None:
    both = {**WHO, "storagedomainID": SD2}
    metadata = pooled.tree.nodes[f"/storage/dc/{SD2}/{layout.METADATA}"]
    whole, metadata.data[:] = bytes(metadata.data), b"lost"
    await pooled.call(storage_domain.validate, storagedomainID=SD)
    with pytest.raises(Problem, match="cannot be used"):
        await pooled.call(storage_domain.validate, storagedomainID=SD2)
    with pytest.raises(Problem, match="cannot be used"):
        await pooled.call(storage_domain.detach, **both)
    await pooled.call(storage_domain.detach, **both, force=True)
    assert (await pooled.call(storage_pool.get_info, **WHO)).info.domains == f"{SD}:Active"
    metadata.data[:] = whole
    assert on_disk(pooled, SD2).pools == (POOL,), "it could not be told"


async def test_a_domain_of_pools_that_are_no_more_is_freed(pooled: MemoryHost) -> None:
    """As a manager does before it imports a domain."""
    clean: dict[str, Any] = {"storagedomainID": SD, "storagepoolID": BLANK, "masterSdUUID": BLANK, "masterVersion": 0}
    with pytest.raises(StorageDomainAlreadyAttached):
        await pooled.call(storage_domain.detach, **clean, force=True)
    await leave(pooled)
    with pytest.raises(StoragePoolUnknown):
        await pooled.call(storage_domain.detach, **clean)
    await pooled.call(storage_domain.detach, **clean, force=True)
    meta = on_disk(pooled, SD)
    assert (meta.role, meta.pools, meta.pool, meta.master_version) == (StorageDomainRole.REGULAR, (), None, 0)
    await pooled.call(storage_domain.format, storagedomainID=SD)


# ---- definitions of machines -----------------------------------------------------------------------------------------


async def test_definitions_come_and_go_as_they_are(pooled: MemoryHost) -> None:
    vms = [{"vm": VM, "imglist": "", "ovf": OVF}, {"vm": VM2, "ovf": ""}]
    await pooled.call(storage_pool.update_vms, **WHO, vmList=vms)
    assert bytes(files(pooled)[f"/storage/dc/{SD}/master/vms/{VM}/{VM}.ovf"]) == OVF.encode()
    listed = await pooled.call(storage_pool.get_backed_up_vms_list, **WHO, storagedomainID=SD)
    assert sorted(listed) == sorted([VM, VM2])
    told = await pooled.call(storage_pool.get_backed_up_vms_info, **WHO, storagedomainID=SD, vmList=[VM])
    assert told == {VM: OVF}
    await pooled.call(storage_pool.update_vms, **WHO, vmList=[{"vm": VM, "ovf": "new"}], storagedomainID=SD2)
    assert await pooled.call(storage_pool.get_backed_up_vms_info, **WHO) == {VM: OVF, VM2: ""}
    await pooled.call(storage_pool.remove_vm, **WHO, vmUUID=VM)
    await pooled.call(storage_pool.remove_vm, **WHO, vmUUID=VM)
    assert await pooled.call(storage_pool.get_backed_up_vms_list, **WHO) == [VM2]
    told = await pooled.call(storage_pool.get_backed_up_vms_info, **WHO, storagedomainID=SD2, vmList=[])
    assert told == {VM: "new"}


@pytest.mark.parametrize("data", [b"\xff\xfe", b"a\0b", b"x" * (5 << 20), None])
async def test_what_is_no_definition_is_none(pooled: MemoryHost, data: bytes | None) -> None:
    await pooled.call(storage_pool.update_vms, **WHO, vmList=[{"vm": VM, "ovf": OVF}, {"vm": VM2, "ovf": OVF}])
    path = f"/storage/dc/{SD}/master/vms/{VM}/{VM}.ovf"
    node = pooled.tree.nodes.pop(path)
    if data is None:
        pooled.tree.nodes[path] = Node(kind=FileKind.LINK, mode=0o777, target="/etc/shadow")
    else:
        node.data[:], node.size = data, len(data)
        pooled.tree.nodes[path] = node
    pooled.tree.directory(f"/storage/dc/{SD}/master/vms/..evil")
    with pytest.raises(MissingOvfFileFromVM):
        await pooled.call(storage_pool.get_backed_up_vms_info, **WHO, vmList=[VM])
    assert await pooled.call(storage_pool.get_backed_up_vms_info, **WHO) == {VM2: OVF}


@pytest.mark.parametrize(
    "machine",
    [
        {"vm": "../../etc", "ovf": ""},
        {"vm": VM, "ovf": "a\0b"},
        {"vm": VM, "ovf": "x" * (1 << 20) + "x"},
        {"vm": VM, "ovf": "", "imglist": "../x"},
        {"vm": VM, "ovf": "", "more": 1},
    ],
)
async def test_what_is_not_kept(pooled: MemoryHost, machine: dict[str, Any]) -> None:
    before = files(pooled)
    with pytest.raises(Problem) as caught:
        await pooled.call(storage_pool.update_vms, **WHO, vmList=[machine])
    assert caught.value.slug == "invalid-params"
    assert files(pooled) == before


# ---- classes of domains ----------------------------------------------------------------------------------------------


async def test_disc_images(pooled: MemoryHost) -> None:
    await make(pooled, SD3, "Iso")
    home = f"/storage/dc/{SD3}/{layout.ISO_IMAGES}"
    for name, data in {"Debian.ISO": b"x" * 10, "a.iso": b"", "sub/b.iso": b"y"}.items():
        pooled.tree.directory(f"{home}/{name}".rpartition("/")[0])
        node = Node(kind=FileKind.FILE, mode=0o644, data=bytearray(data), modified=7)
        node.size = len(data)
        pooled.tree.add(f"{home}/{name}", node)
    pooled.tree.add(f"{home}/link.iso", Node(kind=FileKind.LINK, mode=0o777, target="/etc/shadow", size=11))
    pooled.tree.add(f"{home}/bad\nname.iso", Node(kind=FileKind.FILE, mode=0o644))

    async def stats(pattern: str, *, case_sensitive: bool = False) -> dict[str, tuple[int, int]]:
        found = await pooled.call(
            storage_domain.get_file_stats, storagedomainID=SD3, pattern=pattern, caseSensitive=case_sensitive
        )
        return {name: (row.size, row.status) for name, row in found.items()}

    assert await stats("*.iso") == {
        "Debian.ISO": (10, 0), "a.iso": (0, 0), "sub/b.iso": (1, 0), "link.iso": (len("/etc/shadow"), errno.ELOOP),
    }  # fmt: skip
    assert set(await stats("*.iso", case_sensitive=True)) == {"a.iso", "sub/b.iso", "link.iso"}
    assert (await stats("link*"))["link.iso"][1] == errno.ELOOP
    assert await stats("[") == {}
    with pytest.raises(StorageDomainClassError):
        await pooled.call(storage_domain.get_file_stats, storagedomainID=SD, pattern="*")

    both = {**WHO, "storagedomainID": SD3}
    await pooled.call(storage_domain.attach, **both)
    assert (await pooled.call(storage_pool.get_info, **WHO)).info.isoprefix == ""
    await pooled.call(storage_domain.activate, **both)
    prefix = f"/data-center/{POOL}/{SD3}/{layout.ISO_IMAGES}"
    told = await pooled.call(storage_pool.get_info, **WHO)
    assert (told.info.isoprefix, told.dominfo[SD3].isoprefix, told.dominfo[SD].isoprefix) == (prefix, prefix, "")
    with pytest.raises(ImagesNotSupportedError):
        await pooled.call(volume.create, **{**NEW, "storagedomainID": SD3})
    with pytest.raises(ImagesNotSupportedError):
        await pooled.call(disk.create, name="d", size=4096, storage=SD3)
    assert await pooled.call(storage.check, storageID=SD3) == []
    assert await pooled.call(storage_domain.get_images, storagedomainID=SD3) == []


async def test_only_disc_images_are_shared_by_pools(pooled: MemoryHost) -> None:
    await make(pooled, SD3, "Iso")
    path = f"/storage/dc/{SD3}/{layout.METADATA}"
    other = domain_meta.encode(domain_meta.attached(on_disk(pooled, SD3), POOL2))
    pooled.tree.nodes[path].data[:], pooled.tree.nodes[path].size = other, len(other)
    both = {**WHO, "storagedomainID": SD3}
    await pooled.call(storage_domain.attach, **both)
    assert on_disk(pooled, SD3).pools == (POOL2, POOL)
    await pooled.call(storage_domain.detach, **both)
    assert on_disk(pooled, SD3).pools == (POOL2,)
    backup = str(uuid.uuid4())
    await make(pooled, backup, "Backup")
    path = f"/storage/dc/{backup}/{layout.METADATA}"
    other = domain_meta.encode(domain_meta.attached(on_disk(pooled, backup), POOL2))
    pooled.tree.nodes[path].data[:], pooled.tree.nodes[path].size = other, len(other)
    with pytest.raises(StorageDomainAlreadyAttached):
        await pooled.call(storage_domain.attach, **WHO, storagedomainID=backup)


async def test_a_domain_of_no_pool_is_renamed_by_anybody(pooled: MemoryHost) -> None:
    await make(pooled, SD3)
    await pooled.call(storage_domain.set_description, storagedomainID=SD3, description="another")
    assert (await pooled.call(storage_domain.get_info, storagedomainID=SD3)).name == "another"

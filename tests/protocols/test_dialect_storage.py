# SPDX-License-Identifier: Apache-2.0
"""What a manager reads of storage, line by line, on the answers of a simulated host that it has just set up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from harness.memory_host import ADMIN, MemoryHost
from harness.readers import Reader, array, digits, each_of, integer, members, no_nulls, number, text, texts
from harness.until import BUSY
from vdsm.bindings.published import PublishedCalls
from vdsm.contract import VERBS, storage
from vdsm.protocols.dialect import JSONRPC

BLANK = "00000000-0000-0000-0000-000000000000"
POOL, DOMAIN_ID = "33333333-3333-4333-8333-333333333333", "11111111-1111-4111-8111-111111111111"
IMAGE, VOLUME = "22222222-2222-4222-8222-222222222222", "44444444-4444-4444-8444-444444444444"
IN_POOL = {"storagepoolID": POOL, "storagedomainID": DOMAIN_ID}
OF_IMAGE = {**IN_POOL, "imageID": IMAGE}
CONNECTION = {
    "id": BLANK, "connection": "/storage/vm", "port": "", "iqn": "", "user": "", "password": "", "ipv6_enabled": "false"
}  # fmt: skip
MASTER = {"masterSdUUID": DOMAIN_ID, "masterVersion": 1}
NEW_VOLUME = {
    **OF_IMAGE, "volumeID": VOLUME, "size": "1073741824", "volFormat": 5, "preallocate": 2, "diskType": "DATA",
    "desc": '{"DiskAlias":"d"}', "srcImgUUID": BLANK, "srcVolUUID": BLANK, "sequence": 1,
}  # fmt: skip


class Manager:
    """Calls as a manager does, with the answers as they stand in the JSON that is sent."""

    def __init__(self, host: MemoryHost) -> None:
        self.host = host
        self._calls = PublishedCalls(host.bridge, JSONRPC, VERBS)

    async def call(self, method: str, params: Mapping[str, Any]) -> Any:
        return json.loads(json.dumps(await self._calls.call(VERBS[method], params, ADMIN, "")))

    async def finished(self, method: str, params: Mapping[str, Any]) -> str:
        """A verb whose answer is the id of a task, seen to its good end."""
        task: str = await self.call(method, params)
        assert len(text(task)) == len(BLANK)
        async with asyncio.timeout(20 * BUSY):
            while (status := await self.call("Task.getStatus", {"taskID": task}))["taskState"] != "finished":
                await asyncio.sleep(0.01)
        assert status["taskResult"] == "success"
        return task


@pytest.fixture
async def manager() -> AsyncIterator[Manager]:
    host = MemoryHost(None)
    await host.open()
    directory = await host.call(storage.init, path="/storage/vm")  # makes it
    await host.call(storage.close, storageID=directory.id)
    made = Manager(host)
    server = {"storagepoolID": POOL, "domainType": 4, "connectionParams": [CONNECTION]}
    assert await made.call("StoragePool.connectStorageServer", server) == [{"id": BLANK, "status": 0}]
    domain = {"domainType": 4, "typeArgs": "/storage/vm", "name": "data", "domainClass": 1, "version": "5"}
    await made.call("StorageDomain.create", {"storagedomainID": DOMAIN_ID, **domain, "maxHosts": 250})
    leases = {"lockRenewalIntervalSec": 5, "leaseTimeSec": 60, "ioOpTimeoutSec": 10, "leaseRetries": 3}
    pool = {"storagepoolID": POOL, "name": "dc", **MASTER, "domainList": [DOMAIN_ID]}
    await made.call("StoragePool.create", {**pool, **leases})
    connect = {"storagepoolID": POOL, "hostID": 1, "scsiKey": POOL, "domainDict": {DOMAIN_ID: "active"}}
    await made.call("StoragePool.connect", {**connect, **MASTER})
    yield made
    await host.close()


async def start_spm(manager: Manager) -> str:
    fencing = {"prevID": -1, "prevLver": "-1", "enableScsiFencing": "false"}
    params = {"storagepoolID": POOL, **fencing, "maxHostID": 250, "domVersion": "5"}
    return await manager.finished("StoragePool.spmStart", params)


READS: dict[str, tuple[dict[str, Any], dict[str, Reader]]] = {
    "StorageDomain.getInfo": (
        {"storagedomainID": DOMAIN_ID},
        {"name": text, "type": text, "class": text, "version": text, "pool": texts},
    ),
    "StorageDomain.getStats": (
        {"storagedomainID": DOMAIN_ID},
        {"disktotal": integer, "diskfree": integer, "alerts": array},
    ),
    "StoragePool.getInfo": ({"storagepoolID": POOL}, {"info": members, "dominfo": members}),
    "StoragePool.getSpmStatus": ({"storagepoolID": POOL}, {"spmStatus": text, "spmLver": integer, "spmId": integer}),
    "Volume.getInfo": (
        {**OF_IMAGE, "volumeID": VOLUME},
        {
            "uuid": text, "parent": text, "description": text, "status": text, "capacity": digits, "truesize": digits,
            "apparentsize": digits, "ctime": digits, "domain": text, "image": text, "type": text, "format": text,
            "disktype": text, "legality": text, "voltype": text, "children": texts, "pool": text, "generation": number,
        },
    ),
    "Volume.getSize": ({**OF_IMAGE, "volumeID": VOLUME}, {"truesize": digits, "apparentsize": digits}),
    "Volume.getQemuImageInfo": ({**OF_IMAGE, "volumeID": VOLUME}, {"format": text, "virtualsize": integer}),
    "Image.prepare": ({**OF_IMAGE, "volumeID": VOLUME}, {"path": text}),
}  # fmt: skip


@pytest.mark.parametrize("method", READS)
async def test_an_answer_is_as_its_reader_takes_it(manager: Manager, method: str) -> None:
    await start_spm(manager)
    await manager.finished("Volume.create", NEW_VOLUME)
    params, fields = READS[method]
    answer = await manager.call(method, params)
    each_of(fields, answer)
    assert no_nulls(answer)


async def test_vitals_say_their_seconds_in_text(manager: Manager) -> None:
    alone = await manager.call("Host.getStorageRepoStats", {"domains": [DOMAIN_ID]})
    among = (await manager.call("Host.getStats", {}))["storageDomains"]
    for vitals in (alone[DOMAIN_ID], among[DOMAIN_ID]):
        each_of({"code": number, "version": number}, vitals)
        for name in ("lastCheck", "delay"):
            assert float(text(vitals[name])) >= 0
        assert {vitals[name] for name in ("valid", "actual", "acquired")} == {True}
    assert await manager.call("Host.getStorageRepoStats", {"domains": [VOLUME]}) == {}


async def test_a_connection_is_taken_as_managers_write_it(manager: Manager) -> None:
    ref = {**CONNECTION, "connection": "server:/export", "protocol_version": "auto", "timeout": "100", "retrans": "6"}
    for more in ({}, {"mnt_options": "ac", "vfs_type": "", "tpgt": "", "ifaceName": "", "netIfaceName": ""}):
        params = {"storagepoolID": BLANK, "domainType": 1, "connectionParams": [{**ref, **more}]}
        for verb in ("connectStorageServer", "disconnectStorageServer"):
            assert await manager.call(f"StoragePool.{verb}", params) == [{"id": BLANK, "status": 0}]


async def test_domains_and_pools_are_lists_of_ids(manager: Manager) -> None:
    wanted = {"storagepoolID": BLANK, "domainClass": 1, "storageType": 4, "remotePath": "/storage/vm"}
    assert DOMAIN_ID in texts(await manager.call("Host.getStorageDomains", wanted))
    assert await manager.call("Host.getStorageDomains", {**wanted, "storageType": 1}) == []
    assert await manager.call("Host.getConnectedStoragePools", {}) == [POOL]


async def test_the_pool_is_told_at_the_top(manager: Manager) -> None:
    await start_spm(manager)
    whole = await manager.call("StoragePool.getInfo", {"storagepoolID": POOL})
    assert whole["info"]["master_uuid"] == DOMAIN_ID
    assert integer(whole["info"]["master_ver"]) == 1
    assert whole["dominfo"][DOMAIN_ID]["status"] in ("Active", "Attached")


async def test_who_has_the_role_says_so(manager: Manager) -> None:
    free = await manager.call("StoragePool.getSpmStatus", {"storagepoolID": POOL})
    assert (free["spmStatus"], integer(free["spmId"])) == ("Free", -1)
    await start_spm(manager)
    taken = await manager.call("StoragePool.getSpmStatus", {"storagepoolID": POOL})
    assert (taken["spmStatus"], integer(taken["spmId"])) == ("SPM", 1)


async def test_a_task_is_its_bare_id_and_its_status_is_whole(manager: Manager) -> None:
    task = await start_spm(manager)
    every = await manager.call("Host.getAllTasksStatuses", {})
    for status in (every[task], await manager.call("Task.getStatus", {"taskID": task})):
        each_of({"code": number, "message": text, "taskResult": text, "taskState": text}, status)
    assert await manager.call("Task.clear", {"taskID": task}) is True


async def test_lists_are_bare(manager: Manager) -> None:
    await start_spm(manager)
    await manager.finished("Volume.create", NEW_VOLUME)
    assert await manager.call("StorageDomain.getImages", {"storagedomainID": DOMAIN_ID}) == [IMAGE]
    assert await manager.call("Image.getVolumes", OF_IMAGE) == [VOLUME]
    assert await manager.call("Image.reconcileVolumeChain", {**OF_IMAGE, "leafVolID": VOLUME}) == [VOLUME]
    await manager.finished("Image.delete", {**OF_IMAGE, "postZero": "false", "force": "false"})
    assert await manager.call("StorageDomain.getImages", {"storagedomainID": DOMAIN_ID}) == []


async def test_sizes_and_flags_come_as_text(manager: Manager) -> None:
    await start_spm(manager)
    await manager.finished("Volume.create", NEW_VOLUME)
    where = {**OF_IMAGE, "volumeID": VOLUME}
    await manager.finished("Volume.extendSize", {**where, "newSize": "2147483648"})
    assert (await manager.call("Volume.getInfo", where))["capacity"] == "2147483648"
    measured = await manager.call("Volume.measure", {**where, "dstVolFormat": 4, "backing_chain": "false"})
    assert integer(measured["required"]) > 0
    assert await manager.call("Volume.verify_untrusted", where) is True
    flags = {"postZero": "false", "force": "false"}
    await manager.finished("Image.deleteVolumes", {**OF_IMAGE, "volumeList": [VOLUME], **flags})
    assert await manager.call("StorageDomain.getImages", {"storagedomainID": DOMAIN_ID}) == []


async def test_roles_and_operations_come_as_numbers(manager: Manager) -> None:
    await start_spm(manager)
    await manager.finished("Volume.create", NEW_VOLUME)
    second = "11111111-1111-4111-8111-222222222222"
    place = {"domainType": 4, "typeArgs": "/storage/vm", "name": "x", "domainClass": 1, "version": "5"}
    await manager.call("StorageDomain.create", {"storagedomainID": second, **place})
    for verb in ("attach", "activate"):
        await manager.call(f"StorageDomain.{verb}", {"storagedomainID": second, "storagepoolID": POOL})
    flags = {"postZero": "false", "force": "false", "discard": False}
    into = {"dstSdUUID": second, "dstImgUUID": VOLUME, "dstVolUUID": IMAGE, "desc": "", "volType": 6}
    source = {**OF_IMAGE, "volumeID": VOLUME}
    await manager.finished("Volume.copy", {**source, **into, "volFormat": 5, "preallocate": 2, **flags})
    there = {**IN_POOL, "storagedomainID": second}
    template = await manager.call("Volume.getInfo", {**there, "imageID": VOLUME, "volumeID": IMAGE})
    assert template["voltype"] == "SHARED"
    move = {**OF_IMAGE, "dstSdUUID": second}
    await manager.finished("Image.cloneStructure", move)
    await manager.finished("Image.syncData", {**move, "syncType": "LEAF"})
    await manager.finished("Image.delete", {**there, "imageID": IMAGE, **flags})
    await manager.finished("Image.move", {**move, "operation": 2, **flags})
    assert await manager.call("StorageDomain.getImages", {"storagedomainID": second}) == [IMAGE, VOLUME]


async def test_a_transfer_is_a_method_with_arguments(manager: Manager) -> None:
    await start_spm(manager)
    await manager.finished("Volume.create", {**NEW_VOLUME, "size": "1048576"})
    args = {"method": "http", "url": "http://images.test/a", "headers": {"X-Auth-Token": "word"}}
    await manager.finished("Image.upload", {**OF_IMAGE, "methodArgs": args})
    await manager.finished("Image.download", {**OF_IMAGE, "volumeID": VOLUME, "methodArgs": args})
    assert manager.host.remotes.seen == [args["headers"]] * 2


async def test_what_a_pool_keeps_and_its_other_master(manager: Manager) -> None:
    await start_spm(manager)
    second, iso = "11111111-1111-4111-8111-222222222222", "11111111-1111-4111-8111-333333333333"
    for domain_id, kind in ((second, 1), (iso, 2)):
        place = {"domainType": 4, "typeArgs": "/storage/vm", "name": "x", "domainClass": kind, "version": "5"}
        await manager.call("StorageDomain.create", {"storagedomainID": domain_id, **place})
    for verb in ("attach", "activate"):
        await manager.call(f"StorageDomain.{verb}", {"storagedomainID": second, "storagepoolID": POOL})
    files = {"storagedomainID": iso, "pattern": "*", "caseSensitive": "false"}
    assert await manager.call("StorageDomain.getFileStats", files) == {}
    assert await manager.call("StoragePool.upgrade", {"storagepoolID": POOL, "targetDomVersion": "5"}) == "started"
    kept = [{"vm": IMAGE, "imglist": f"{IMAGE},{VOLUME}", "ovf": "<x/>"}]
    assert await manager.call("StoragePool.updateVMs", {**IN_POOL, "vmList": kept}) is True
    assert await manager.call("StoragePool.getBackedUpVmsList", IN_POOL) == [IMAGE]
    assert await manager.call("StoragePool.getBackedUpVmsInfo", {**IN_POOL, "vmList": [IMAGE]}) == {IMAGE: "<x/>"}
    where = {"storagepoolID": POOL, "imageID": IMAGE}
    assert await manager.call("StoragePool.getDomainsContainingImage", where) == []
    masters = {"oldMasterUUID": DOMAIN_ID, "newMasterUUID": second, "masterVersion": "2"}
    await manager.finished("StoragePool.switchMaster", {"storagepoolID": POOL, **masters})
    info = (await manager.call("StoragePool.getInfo", {"storagepoolID": POOL}))["info"]
    assert (info["master_uuid"], integer(info["master_ver"])) == (second, 2)
    assert await manager.call("StoragePool.spmStop", {"storagepoolID": POOL}) is True
    assert await manager.call("StoragePool.disconnect", {"storagepoolID": POOL, "hostID": 1, "scsiKey": POOL}) is True
    lost = {
        "storagepoolID": POOL, "hostId": 1, "name": "dc", "masterSdUUID": DOMAIN_ID, "masterVersion": 3,
        "domainDict": {DOMAIN_ID: "active", second: "attached"}, "lockRenewalIntervalSec": 5, "leaseTimeSec": 60,
        "ioOpTimeoutSec": 10, "leaseRetries": 3,
    }  # fmt: skip
    assert await manager.call("StoragePool.reconstructMaster", lost) is True
    free = {"masterSdUUID": BLANK, "masterVersion": 0, "force": True}
    clean = {"storagedomainID": second, "storagepoolID": BLANK, **free}
    assert await manager.call("StorageDomain.detach", clean) is True


def test_a_disc_image_says_its_numbers_as_text() -> None:
    given = {"a.iso": {"size": 1 << 33, "ctime": 1_700_000_000, "status": 0}}
    made = {"a.iso": {"size": "8589934592", "ctime": "1700000000", "status": 0}}
    assert JSONRPC.result("StorageDomain.getFileStats", given) == made


# ---- jobs ------------------------------------------------------------------------------------------------------------

TOP, COPY, JOB = (f"4444444{n}-4444-4444-8444-444444444444" for n in (5, 6, 7))


async def job_ended(manager: Manager, job: str) -> dict[str, Any]:
    """As it is polled; `progress` must be a float for its readers."""
    async with asyncio.timeout(20 * BUSY):
        while True:
            jobs = await manager.call("Host.getJobs", {"job_type": "storage", "job_ids": [job]})
            assert isinstance(jobs[job]["progress"], float)
            if jobs[job]["status"] in ("done", "failed", "aborted"):
                row: dict[str, Any] = jobs[job]
                return row
            await asyncio.sleep(0.01)


async def test_a_manager_deletes_a_snapshot_of_a_machine_that_is_off(manager: Manager) -> None:
    await start_spm(manager)
    await manager.finished("Volume.create", NEW_VOLUME)
    going_on = {"volumeID": TOP, "volFormat": 4, "srcImgUUID": IMAGE, "srcVolUUID": VOLUME, "addBitmaps": False}
    await manager.finished("Volume.create", {**NEW_VOLUME, **going_on})
    chain = {"sd_id": DOMAIN_ID, "img_id": IMAGE, "base_id": VOLUME, "top_id": TOP, "base_generation": 0}
    await manager.finished("StoragePool.prepareMerge", {"storagepoolID": POOL, "subchainInfo": chain})
    merge = {"job_id": JOB, "subchain_info": chain, "merge_bitmaps": False}
    assert await manager.call("SDM.merge", merge) is True
    assert (await job_ended(manager, JOB))["status"] == "done"
    # Were the job unknown, the generation would tell: one more than before.
    assert (await manager.call("Volume.getInfo", {**OF_IMAGE, "volumeID": VOLUME}))["generation"] == 1
    del chain["base_generation"]
    await manager.finished("StoragePool.finalizeMerge", {"storagepoolID": POOL, "subchainInfo": chain})
    await manager.finished("Image.deleteVolumes", {**OF_IMAGE, "volumeList": [TOP], "postZero": "false"})
    left = await manager.call("Volume.getInfo", {**OF_IMAGE, "volumeID": VOLUME})
    assert (left["voltype"], left["legality"], left["children"]) == ("LEAF", "LEGAL", [])


async def test_a_manager_copies_a_disk(manager: Manager) -> None:
    await start_spm(manager)
    await manager.finished("Volume.create", NEW_VOLUME)
    other = {**NEW_VOLUME, "imageID": COPY, "volumeID": COPY, "volFormat": 4, "legal": False}
    await manager.finished("Volume.create", other)
    source = {"endpoint_type": "div", "sd_id": DOMAIN_ID, "img_id": IMAGE, "vol_id": VOLUME, "generation": None}
    target = {**source, "img_id": COPY, "vol_id": COPY, "generation": 0}
    copy = {"job_id": JOB, "source": source, "destination": target, "copy_bitmaps": False, "legal": True}
    assert await manager.call("SDM.copy_data", copy) is True
    job = await job_ended(manager, JOB)
    assert (job["status"], job["progress"], job["job_type"]) == ("done", 100.0, "storage")
    where = {**IN_POOL, "imageID": COPY, "volumeID": COPY}
    info = await manager.call("Volume.getInfo", where)
    assert (info["legality"], info["generation"]) == ("LEGAL", 1)
    amend = {"job_id": TOP, "vol_info": {**target, "generation": 1}, "qcow2_attr": {"compat": 0.10}}
    del amend["vol_info"]["endpoint_type"]  # type: ignore[attr-defined]
    assert await manager.call("SDM.amend_volume", amend) is True
    assert (await job_ended(manager, TOP))["status"] == "done"
    assert (await manager.call("Volume.getQemuImageInfo", where))["compat"] == "0.10"

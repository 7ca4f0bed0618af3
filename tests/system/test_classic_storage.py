# SPDX-License-Identifier: Apache-2.0
"""Storage as managers and host-only scripts set it up, over the published wires, with a machine on real libvirt."""

from __future__ import annotations

import json
import secrets
import shutil
import uuid
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.daemon import remove_domains
from harness.stomp import PythonClient, Wired
from harness.story import LINUX, live
from harness.until import until
from vdsm.core.storage.format import domain_meta

BLANK = "00000000-0000-0000-0000-000000000000"
GIB = 1 << 30
UNKNOWN_POOL, NO_DISC_IMAGES = 309, 386


@pytest.fixture
def wired(uri: str, guest: Path) -> Iterator[Wired]:
    prefix = f"vdsmtest-{secrets.token_hex(4)}"
    home = Path("/var/tmp") / prefix  # QEMU, another user, reads below it
    home.mkdir()
    made = Wired(home, prefix, uri=uri)
    for file in ("vmlinuz", "initrd.gz"):
        shutil.copyfile(guest / file, made.images / file)
    (made.storage / "data_1").mkdir(parents=True)
    yield made.serve()
    made.end()
    remove_domains(uri, prefix)
    shutil.rmtree(home)


def ids() -> tuple[str, str, str, str]:
    return str(uuid.uuid4()), str(uuid.uuid4()), str(uuid.uuid4()), str(uuid.uuid4())


def good(answer: Any) -> Any:
    assert answer["status"] == {"code": 0, "message": "Done"}, answer
    return answer


def test_the_host_only_script(wired: Wired) -> None:
    """XML-RPC with the historical names and numbers, as scripts of old have them."""
    (domain, pool, image, volume), place = ids(), f"{wired.storage}/data_1"
    with xmlrpc.client.ServerProxy(f"http://127.0.0.1:{wired.port('http')}/RPC2") as proxy:
        host: Any = proxy

        def finished(task: str) -> None:
            until("the task has ended", lambda: host.getTaskStatus(task)["taskStatus"]["taskState"] == "finished")
            assert host.getTaskStatus(task)["taskStatus"]["taskResult"] == "success"
            good(host.clearTask(task))

        connection = {"id": str(uuid.uuid4()), "connection": place, "user": "", "password": "", "port": "", "iqn": ""}
        (status,) = good(host.connectStorageServer(4, pool, [connection]))["statuslist"]
        assert status == {"id": connection["id"], "status": 0}
        good(host.createStorageDomain(4, domain, "data", place, 1, "5"))
        good(host.createStoragePool(0, pool, "dc", domain, [domain], 1))
        good(host.connectStoragePool(pool, 1, pool, domain, 1))
        assert good(host.getSpmStatus(pool))["spm_st"]["spmStatus"] == "Free"
        finished(good(host.spmStart(pool, -1, "-1", -1, "false", 250, "5"))["uuid"])
        assert good(host.getSpmStatus(pool))["spm_st"] == {"spmStatus": "SPM", "spmId": 1, "spmLver": 0}

        desc = json.dumps({"DiskAlias": "old", "DiskDescription": ""})
        finished(good(host.createVolume(domain, pool, image, str(GIB), 5, 2, 2, volume, desc, BLANK, BLANK))["uuid"])
        info = good(host.getVolumeInfo(domain, pool, image, volume))["info"]
        assert (info["capacity"], info["format"], info["allocType"]) == (str(GIB), "RAW", "SPARSE")
        assert good(host.getImagesList(domain))["imageslist"] == [image]
        assert good(host.getVolumesList(domain, pool, image))["uuidlist"] == [volume]
        assert good(host.getImageDomainsList(pool, image))["domainslist"] == [domain]
        good(host.setStoragePoolDescription(pool, "another name"))
        good(host.setStorageDomainDescription(domain, "another domain"))
        assert good(host.upgradeStoragePool(pool, "5"))["upgradeStatus"] == "started"
        good(host.updateVM(pool, [{"vm": image, "imglist": f"{image}", "ovf": "<ovf>grüß</ovf>"}]))
        assert good(host.getVmsList(pool))["vmlist"] == [image]
        assert good(host.getVmsInfo(pool, domain, [image]))["vmlist"] == {image: "<ovf>grüß</ovf>"}
        good(host.removeVM(pool, image))
        assert host.getFileStats(domain)["status"]["code"] == NO_DISC_IMAGES
        assert good(host.getStorageDomainInfo(domain))["info"]["class"] == "Data"
        assert int(good(host.getStorageDomainStats(domain))["stats"]["diskfree"]) > 0
        whole = good(host.getStoragePoolInfo(pool))
        assert (whole["info"]["master_uuid"], whole["dominfo"][domain]["status"]) == (domain, "Active")

        vm_id = str(uuid.uuid4())
        drive = {"poolID": pool, "domainID": domain, "imageID": image, "volumeID": volume, "format": "raw",
                 "iface": "virtio", "device": "disk"}  # fmt: skip
        good(
            host.create(
                {"vmId": vm_id, "vmName": wired.name("x"), "memSize": "192", "display": "vnc", "drives": [drive],
                 "kernel": f"{wired.images}/vmlinuz", "initrd": f"{wired.images}/initrd.gz",
                 "kernelArgs": "console=ttyS0 quiet"}
            )
        )  # fmt: skip
        until("it runs", lambda: good(host.getVmStats(vm_id))["statsList"][0]["status"] == "Powering up")
        assert host.deleteImage(domain, pool, image)["status"]["code"] != 0, "a machine has it"
        good(host.destroy(vm_id))
        finished(good(host.deleteImage(domain, pool, image, "false", "false"))["uuid"])
        assert good(host.getImagesList(domain))["imageslist"] == []

        good(host.spmStop(pool))
        good(host.disconnectStoragePool(pool, 1, pool))
        assert host.getSpmStatus(pool)["status"]["code"] == UNKNOWN_POOL
    assert list((Path(place) / domain / "images").iterdir()) == []


def test_a_managers_first_local_domain(wired: Wired) -> None:
    """JSON-RPC over STOMP, in a manager's order and shapes, to a machine whose disk is named by the pool's links."""
    (domain, pool, image, volume), place = ids(), f"{wired.storage}/data_1"
    child = str(uuid.uuid4())
    with PythonClient(wired.port("http")) as host:

        def finished(task: str) -> None:
            until("it has", lambda: host.call("Host.getAllTasksStatuses")[task]["taskState"] == "finished")
            assert host.call("Task.getStatus", {"taskID": task})["taskResult"] == "success"
            assert host.call("Task.clear", {"taskID": task}) is True

        connection = {
            "id": str(uuid.uuid4()), "connection": place, "port": "", "iqn": "", "user": "", "password": "",
            "ipv6_enabled": "false",
        }  # fmt: skip
        server = {"storagepoolID": pool, "domainType": 4, "connectionParams": [connection]}
        assert host.call("StoragePool.connectStorageServer", server) == [{"id": connection["id"], "status": 0}]
        host.call(
            "StorageDomain.create",
            {"storagedomainID": domain, "domainType": 4, "typeArgs": place, "name": "data", "domainClass": 1,
             "version": "5", "maxHosts": 250},
        )  # fmt: skip
        stats = host.call("StorageDomain.getStats", {"storagedomainID": domain})
        assert all(isinstance(stats[name], str) for name in ("disktotal", "diskfree"))
        leases = {"lockRenewalIntervalSec": 5, "leaseTimeSec": 60, "ioOpTimeoutSec": 10, "leaseRetries": 3}
        host.call(
            "StoragePool.create",
            {"storagepoolID": pool, "name": "dc", "masterSdUUID": domain, "masterVersion": 1, "domainList": [domain],
             **leases},
        )  # fmt: skip
        host.call(
            "StoragePool.connect",
            {"storagepoolID": pool, "hostID": 1, "scsiKey": pool, "masterSdUUID": domain, "masterVersion": 1,
             "domainDict": {domain: "active"}},
        )  # fmt: skip
        assert host.call("StoragePool.getSpmStatus", {"storagepoolID": pool})["spmStatus"] == "Free"
        finished(
            host.call(
                "StoragePool.spmStart",
                {"storagepoolID": pool, "prevID": -1, "prevLver": "-1", "enableScsiFencing": "false",
                 "maxHostID": 250, "domVersion": "5"},
            )
        )  # fmt: skip
        assert host.call("StoragePool.getSpmStatus", {"storagepoolID": pool})["spmStatus"] == "SPM"
        host.call("StorageDomain.activate", {"storagedomainID": domain, "storagepoolID": pool})
        info = host.call("StoragePool.getInfo", {"storagepoolID": pool})
        assert info["info"]["domains"] == f"{domain}:Active"
        assert host.call("StorageDomain.getInfo", {"storagedomainID": domain})["pool"] == [pool]

        where = {"storagepoolID": pool, "storagedomainID": domain, "imageID": image}
        new = {**where, "size": str(GIB), "preallocate": 2, "diskType": "DATA", "sequence": 1, "desc": '{"a":"b"}'}
        blank = {"srcImgUUID": BLANK, "srcVolUUID": BLANK}
        finished(host.call("Volume.create", {**new, **blank, "volumeID": volume, "volFormat": 5, "addBitmaps": False}))
        after = {"srcImgUUID": image, "srcVolUUID": volume}
        finished(host.call("Volume.create", {**new, **after, "volumeID": child, "volFormat": 4}))
        parent = host.call("Volume.getInfo", {**where, "volumeID": volume})
        assert (parent["voltype"], parent["children"]) == ("INTERNAL", [child])
        assert host.call("Volume.getQemuImageInfo", {**where, "volumeID": child})["backingfile"] == volume
        prepared = host.call("Image.prepare", {**where, "volumeID": child})["path"]
        links = f"{wired.home}/data-center/{pool}/{domain}/images/{image}/{child}"
        assert Path(prepared).samefile(links)
        host.call("Image.teardown", {**where, "volumeID": child})
        assert not Path(prepared).exists()

        raw = str(uuid.uuid4())
        other = {**new, **blank, "imageID": str(uuid.uuid4()), "volumeID": raw, "volFormat": 5}
        finished(host.call("Volume.create", other))
        disk = f"{wired.home}/data-center/{pool}/{domain}/images/{other['imageID']}/{raw}"
        live(host, wired.name("e"), disk, LINUX.format(images=wired.images))

        for image_id in (image, other["imageID"]):
            gone = {**where, "imageID": image_id, "postZero": "false", "force": "false"}
            finished(host.call("Image.delete", gone))
        assert host.call("StorageDomain.getImages", {"storagedomainID": domain}) == []

    data = (Path(place) / domain / "dom_md/metadata").read_bytes()
    meta = domain_meta.decode(data)
    assert domain_meta.encode(meta) == data
    assert (meta.pools, meta.master_version) == ((pool,), 1)
    assert not list(Path(place).rglob("*.meta"))

# SPDX-License-Identifier: Apache-2.0
"""One call sheet for every door: each verb of the contract at least once, with its refusals.

A line is a verb, its arguments by wire name, and the name under which an id in the answer is kept; "{name}" in a later
argument stands for it. The machines are those of a simulated host with three of its own.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Line(NamedTuple):
    method: str
    params: dict[str, Any] = {}
    keep: str = ""  # "id" keeps the id of what the answer tells of
    problem: str = ""  # the slug that must come instead of an answer


NOBODY = "00000000-0000-4000-8000-000000000000"
SHAPE = {"name": "web1", "memory": 64, "guestAgent": False, "cdrom": "/images/one.iso"}
BLANK = "00000000-0000-0000-0000-000000000000"
SD, SD2 = "11111111-1111-4111-8111-111111111111", "11111111-1111-4111-8111-222222222222"
POOL, IMAGE = "33333333-3333-4333-8333-333333333333", "22222222-2222-4222-8222-222222222222"
VOLUME, CHILD = "44444444-4444-4444-8444-444444444444", "44444444-4444-4444-8444-555555555555"
SERVER = {"storagepoolID": BLANK, "connectionParams": [{"id": NOBODY, "connection": "/storage/vm"}]}
LOCAL = {"domainType": "LOCALFS", "typeArgs": "/storage/vm", "domainClass": "Data"}
NEW_POOL = {"storagepoolID": POOL, "name": "dc1", "masterSdUUID": SD, "masterVersion": 1, "domainList": [SD]}
HOST = {"storagepoolID": POOL, "hostID": 1, "scsiKey": POOL}
OF_VOLUME = {"storagepoolID": POOL, "storagedomainID": SD, "imageID": IMAGE}
EXPORT = {"storagepoolID": BLANK, "connectionParams": [{"id": NOBODY, "connection": "nas1:/export"}]}
REMOTE = {"domainType": "NFS", "typeArgs": "nas1:/export", "domainClass": "Data"}
LEASE = {"sd_id": SD, "lease_id": NOBODY}
PENDING = {"type": "JOB", "job_status": "PENDING", "generation": 0, "job_id": NOBODY}
ON_CHILD = {"domainID": SD, "imageID": IMAGE, "volumeID": CHILD}
ON_IT = f"{SD}/{IMAGE}/{CHILD}"
TICKET = {"uuid": NOBODY, "size": 4096, "ops": ["read"], "timeout": 300, "inactivity_timeout": 60, "sparse": True}
SERVED = {"sd_id": SD, "img_id": IMAGE}
IN_POOL = {"storagepoolID": POOL, "storagedomainID": SD2}
OF_MASTER = {"masterSdUUID": SD, "masterVersion": 1}
SWITCH = {"storagepoolID": POOL, "oldMasterUUID": SD, "newMasterUUID": SD2}
RECONSTRUCT = {
    "storagepoolID": POOL, "hostId": 1, "name": "dc1", "masterSdUUID": SD, "domainDict": {SD: "Active"},
    "lockRenewalIntervalSec": 5, "leaseTimeSec": 60, "ioOpTimeoutSec": 10, "leaseRetries": 3,
}  # fmt: skip
OVF = "<?xml version='1.0'?>\n<Envelope>grüß &amp; dich</Envelope>\n"
UNKNOWN, NO_DOMAIN = "storage-pool-unknown", "storage-domain-does-not-exist"
HIGHER_MASTER = "storage-pool-higher-version-master-found"
IMAGE2, VOLUME2 = "22222222-2222-4222-8222-333333333333", "44444444-4444-4444-8444-666666666666"
CHILD2 = "44444444-4444-4444-8444-777777777777"
OF_VOLUME2 = {**OF_VOLUME, "imageID": IMAGE2}
JOB, JOB2 = "55555555-5555-4555-8555-555555555555", "55555555-5555-4555-8555-666666666666"
CHAIN = {"sd_id": SD, "img_id": IMAGE2, "top_id": CHILD2, "base_id": VOLUME2}
DIV2 = {"endpoint_type": "div", "sd_id": SD, "img_id": IMAGE2, "vol_id": VOLUME2}
AT2 = {"sd_id": SD, "img_id": IMAGE2, "vol_id": VOLUME2}
SMALL: list[tuple[str, dict[str, Any]]] = [
    ("add_bitmap", {"bitmap": JOB}),
    ("remove_bitmap", {"bitmap": JOB}),
    ("clear_bitmaps", {}),
    ("amend_volume", {"qcow2_attr": {"compat": "1.1"}}),
    ("sparsify_volume", {}),
    ("update_volume", {"vol_attr": {"description": "small"}}),
]
NEW = {**OF_VOLUME, "size": 1 << 30, "preallocate": "SPARSE", "diskType": "DATA", "desc": '{"DiskAlias":"d1"}'}
SD3, TEMPLATE = "11111111-1111-4111-8111-444444444444", "22222222-2222-4222-8222-333333333333"
TO_TEMPLATE = {
    "dstSdUUID": SD, "dstImgUUID": TEMPLATE, "dstVolUUID": TEMPLATE, "desc": "", "volType": "SHARED",
    "volFormat": "RAW", "preallocate": "SPARSE",
}  # fmt: skip
FROM_SERVER = {"url": "http://images.test/a", "headers": {"Authorization": "Bearer x"}}
MOVED = {"imageID": "22222222-2222-4222-8222-555555555555", "volumeID": "44444444-4444-4444-8444-666666666666"}
REMOTE_DISK = {**MOVED, "volFormat": "RAW"}
DERIVED = {"imageID": "22222222-2222-4222-8222-444444444444", "volumeID": CHILD, "volFormat": "COW"}
RAW = (
    "<domain type='kvm'><name>raw1</name><memory unit='MiB'>64</memory><os><type>hvm</type></os>"
    "<devices><serial type='pty'/></devices></domain>"
)

SHEET = [
    Line("Host.ping"),
    Line("Host.ping2"),
    Line("Host.echo", {"message": 'grüß <dich> & "mich"'}),
    Line("Host.setLogLevel", {"level": 5}, problem="invalid-params"),
    Line("Host.echo", {"message": "a", "massage": "b"}, problem="usage"),
    Line("Host.getCapabilities"),
    Line("Host.getHardwareInfo"),
    Line("Host.getStats"),
    Line("Host.setLogLevel", {"level": "INFO", "name": "vdsm.core"}),
    Line("Host.setLogLevel", {"level": "INFO", "name": "no.such"}, problem="no-such-logger"),
    Line("VM.list"),
    Line("VM.create", {"vmParams": SHAPE}, keep="web1"),
    Line("VM.create", {"vmParams": SHAPE}, problem="vm-exists"),
    Line("VM.create", {"vmParams": {"name": "x", "memory": -1}}, problem="invalid-params"),
    Line("VM.create", {"vmParams": {"name": "x", "memory": 64, "kernel": "/etc/x"}}, problem="path-not-allowed"),
    Line("VM.getInfo", {"vmID": "{web1}"}),
    Line("VM.getInfo", {"vmID": NOBODY}, problem="no-such-vm"),
    Line("VM.getInfo", {"vmID": "nobody"}, problem="name"),
    Line("VM.getStats", {"vmID": "{web1}"}),
    Line("VM.explain", {"vmID": "{web1}"}),
    Line("VM.pause", {"vmID": "{web1}"}),
    Line("VM.shutdown", {"vmID": "{web1}"}, problem="unexpected-state"),
    Line("VM.explain", {"vmID": "{web1}"}),
    Line("VM.cont", {"vmID": "{web1}"}),
    Line("VM.reset", {"vmID": "{web1}"}),
    Line("VM.screenshot", {"vmID": "{web1}"}),
    Line(
        "VM.setTicket", {"vmID": "{web1}", "password": "secret", "ttl": 60, "existingConnAction": "keep", "params": {}}
    ),
    Line("VM.setTicket", {"vmID": "{web1}", "password": "far too long", "ttl": 60}, problem="ticket-error"),
    Line("VM.changeCD", {"vmID": "{web1}", "driveSpec": "/images/two.iso"}),
    Line("VM.changeCD", {"vmID": "{web1}", "driveSpec": "/etc/passwd"}, problem="path-not-allowed"),
    Line("VM.rename", {"vmID": "{web1}", "name": "web2"}, problem="vm-is-running"),
    Line("VM.console", {"vmID": "{web1}"}, problem="stream"),
    Line("VM.shutdown", {"vmID": "{web1}", "timeout": 20}),
    Line("VM.getStats", {"vmID": "{web1}"}),
    Line("VM.rename", {"vmID": "{web1}", "name": "web2"}),
    Line("VM.start", {"vmID": "{web1}"}),
    Line("VM.start", {"vmID": "{web1}"}, problem="vm-is-running"),
    Line("Storage.list"),
    Line("Disk.create", {"name": "early", "size": 4096}, problem="which-storage"),
    Line("Storage.init", {"path": "/etc"}, problem="storage-path-refused"),
    Line("Storage.open", {"path": "/storage/vm"}, problem="storage-domain-does-not-exist"),
    Line("Storage.init", {"path": "/storage/vm"}, keep="vm"),
    Line("Storage.init", {"path": "/storage/vm"}, problem="storage-domain-already-exists"),
    Line("Storage.init", {"path": "/storage/vm/below"}, problem="storage-path-refused"),
    Line("Disk.create", {"name": "root1", "size": 1_000_000, "format": "qcow2"}, keep="root1"),
    Line("Disk.create", {"name": "root1", "size": 4096}, problem="disk-exists"),
    Line("Disk.create", {"name": "none", "size": 0}, problem="invalid-params"),
    Line("Disk.create", {"name": "none", "size": 4096, "storage": "nowhere"}, problem="storage-domain-does-not-exist"),
    Line("Disk.startUpload", {"diskID": "{root1}"}, problem="disk-unusable"),
    Line("Disk.create", {"name": "up1", "size": 1 << 20, "uploadSize": 1 << 20}, keep="up1"),
    Line("Disk.startDownload", {"diskID": "{up1}"}, problem="disk-unusable"),
    Line("Disk.startUpload", {"diskID": "{up1}"}),
    Line("Disk.finishUpload", {"diskID": "{up1}"}),
    Line("Disk.startDownload", {"diskID": "{up1}"}),
    Line("Disk.delete", {"diskID": "{up1}"}),
    Line("Disk.list"),
    Line("Disk.getInfo", {"diskID": "{root1}"}),
    Line("Disk.getInfo", {"diskID": NOBODY}, problem="no-such-disk"),
    Line("Disk.snapshot", {"diskID": "{root1}"}),
    Line("Disk.startDownload", {"diskID": "{root1}"}),
    Line("Disk.extend", {"diskID": "{root1}", "size": 2_000_000}),
    Line("Disk.extend", {"diskID": "{root1}", "size": 1_000_000}, problem="volume-resize-value-error"),
    Line("Disk.merge", {"diskID": "{root1}"}),
    Line("Disk.merge", {"diskID": "{root1}"}, problem="merge-snapshots-error"),
    Line("Disk.snapshot", {"diskID": NOBODY}, problem="no-such-disk"),
    Line("VM.create", {"vmParams": {**SHAPE, "name": "web3", "disks": [{"path": "root1"}]}}, keep="web3"),
    Line("VM.create", {"vmParams": {"name": "web4", "memory": 64, "disks": [{"path": "no"}]}}, problem="no-such-disk"),
    Line(
        "VM.create", {"vmParams": {"name": "web4", "memory": 64, "disks": [{"path": "root1"}]}}, problem="disk-in-use"
    ),
    Line("Disk.delete", {"diskID": "{root1}"}, problem="disk-in-use"),
    Line("VM.freeze", {"vmID": "{web3}"}, problem="non-responsive-guest-agent"),
    Line("VM.thaw", {"vmID": "{web3}"}, problem="non-responsive-guest-agent"),
    Line("VM.snapshot", {"vmID": "{web3}"}),
    Line("VM.snapshot", {"vmID": "{web3}", "timeout": 0}, problem="invalid-parameter"),
    Line("VM.snapshot", {"vmID": "{web3}", "snapMemory": "a"}, problem="snapshot-memory-not-offered"),
    Line("Disk.create", {"name": "plug1", "size": 4096}, keep="plug1"),
    Line("VM.hotplugDisk", {"vmID": "{web3}", "params": {"disk": {"path": "plug1"}}}),
    Line("VM.hotplugDisk", {"vmID": "{web3}", "params": {"disk": {"path": "plug1"}}}, problem="disk-in-use"),
    Line("VM.hotunplugDisk", {"vmID": "{web3}", "params": {"disk": {"path": "plug1"}}}),
    Line(
        "VM.hotunplugDisk", {"vmID": "{web3}", "params": {"disk": {"path": "plug1"}}}, problem="hotunplug-disk-failed"
    ),
    Line("Disk.delete", {"diskID": "{plug1}"}),
    Line("Storage.close", {"storageID": "{vm}"}, problem="storage-in-use"),
    Line("VM.destroy", {"vmID": "{web3}"}),
    Line("Storage.close", {"storageID": "{vm}"}),
    Line("Storage.close", {"storageID": "{vm}"}, problem="storage-domain-does-not-exist"),
    Line("StoragePool.connectStorageServer", {**SERVER, "domainType": "NFS"}),
    Line("StoragePool.connectStorageServer", {**SERVER, "domainType": "LOCALFS"}),
    Line("StorageDomain.create", {"storagedomainID": SD, "name": "data1", **LOCAL}),
    Line(
        "StorageDomain.create", {"storagedomainID": SD, "name": "x", **LOCAL}, problem="storage-domain-already-exists"
    ),
    Line(
        "StorageDomain.create",
        {"storagedomainID": SD2, "name": "x", **LOCAL, "typeArgs": "/storage/no"},
        problem="storage-domain-fs-not-mounted",
    ),
    Line("Host.getStorageDomains", {"storageType": "NFS", "remotePath": "/storage/vm"}),
    Line("Host.getStorageDomains", {"storagepoolID": POOL}, problem="storage-pool-unknown"),
    Line("Host.getStorageRepoStats", {"domains": [NOBODY]}),
    Line("Host.startMonitoringDomain", {"sdUUID": SD, "hostID": 1}),
    Line("Host.startMonitoringDomain", {"sdUUID": NOBODY, "hostID": 1}, problem="storage-domain-does-not-exist"),
    Line("Host.stopMonitoringDomain", {"sdUUID": SD}),
    Line("Host.stopMonitoringDomain", {"sdUUID": NOBODY}, problem="storage-domain-does-not-exist"),
    Line("StorageDomain.getInfo", {"storagedomainID": SD}),
    Line("StorageDomain.getStats", {"storagedomainID": SD}),
    Line("StorageDomain.validate", {"storagedomainID": SD}),
    Line("StorageDomain.validate", {"storagedomainID": NOBODY}, problem="storage-domain-does-not-exist"),
    Line("StoragePool.getSpmStatus", {"storagepoolID": POOL}, problem="storage-pool-unknown"),
    Line("StoragePool.connect", {**HOST, **OF_MASTER}, problem="storage-pool-wrong-master"),
    Line("StoragePool.create", NEW_POOL),
    Line("StoragePool.create", NEW_POOL, problem="storage-domain-already-attached"),
    Line("StoragePool.connect", {**HOST, **OF_MASTER, "domainDict": {SD: "Active"}}),
    Line("StoragePool.getSpmStatus", {"storagepoolID": POOL}),
    Line("Volume.create", {**NEW, "volumeID": VOLUME, "volFormat": "RAW"}, problem="spm-status-error"),
    Line("StoragePool.spmStart", {"storagepoolID": POOL, "prevID": -1, "prevLver": -1, "enableScsiFencing": False}),
    Line("StoragePool.getSpmStatus", {"storagepoolID": POOL}),
    Line("StoragePool.getInfo", {"storagepoolID": POOL}),
    Line("Host.getConnectedStoragePools"),
    Line("Host.getStorageDomains", {"storagepoolID": POOL, "domainClass": "Data"}),
    Line("Volume.create", {**NEW, "volumeID": VOLUME, "volFormat": "RAW"}),
    Line("Volume.create", {**NEW, "volumeID": VOLUME, "volFormat": "RAW"}, problem="volume-already-exists"),
    Line("Volume.create", {**NEW, "volumeID": CHILD, "volFormat": "COW"}, problem="cannot-clone-volume"),
    Line(
        "Volume.create",
        {**NEW, "volumeID": CHILD, "volFormat": "COW", "srcImgUUID": IMAGE, "srcVolUUID": VOLUME, "addBitmaps": True},
    ),
    Line("Volume.getInfo", {**OF_VOLUME, "volumeID": VOLUME}),
    Line("Volume.getInfo", {**OF_VOLUME, "volumeID": NOBODY}, problem="volume-does-not-exist"),
    Line("Volume.getSize", {**OF_VOLUME, "volumeID": CHILD}),
    Line("Volume.getQemuImageInfo", {**OF_VOLUME, "volumeID": CHILD}),
    Line("Volume.create", {**NEW, **OF_VOLUME2, "volumeID": VOLUME2, "volFormat": "COW"}),
    Line("SDM.copy_data", {"job_id": JOB, "source": {**DIV2, "img_id": IMAGE, "vol_id": VOLUME}, "destination": DIV2}),
    Line("SDM.copy_data", {"job_id": JOB2, "source": DIV2, "destination": DIV2}, problem="cannot-copy-volume"),
    Line("Host.getJobs", {"job_type": "storage", "job_ids": [JOB]}),
    Line(
        "Volume.create",
        {**NEW, **OF_VOLUME2, "volumeID": CHILD2, "volFormat": "COW", "srcImgUUID": IMAGE2, "srcVolUUID": VOLUME2},
    ),
    Line("SDM.merge", {"job_id": JOB2, "subchain_info": CHAIN}, problem="unexpected-volume-state"),
    Line("StoragePool.prepareMerge", {"storagepoolID": POOL, "subchainInfo": {**CHAIN, "base_generation": 1}}),
    Line(
        "StoragePool.prepareMerge",
        {"storagepoolID": POOL, "subchainInfo": {**CHAIN, "base_generation": 7}},
        problem="generation-mismatch",
    ),
    Line("SDM.merge", {"job_id": JOB2, "subchain_info": CHAIN, "merge_bitmaps": True}),
    Line("StoragePool.finalizeMerge", {"storagepoolID": POOL, "subchainInfo": CHAIN}),
    Line(
        "StoragePool.finalizeMerge",
        {"storagepoolID": POOL, "subchainInfo": CHAIN},
        problem="volume-is-not-in-chain",
    ),
    Line("StoragePool.reduceVolume", {**OF_VOLUME2, "volumeID": VOLUME2}),
    Line("StoragePool.reduceVolume", {**OF_VOLUME2, "volumeID": NOBODY}, problem="volume-does-not-exist"),
    *(
        Line(f"SDM.{verb}", {"job_id": f"{JOB[:-2]}0{n}", "vol_info": AT2, **more})
        for n, (verb, more) in enumerate(SMALL)
    ),
    *(
        Line(
            f"SDM.{verb}",
            {"job_id": NOBODY, "vol_info": {**AT2, "generation": 999}, **more},
            problem="generation-mismatch",
        )
        for verb, more in SMALL
    ),
    Line("Image.delete", OF_VOLUME2),
    Line("Volume.setDescription", {**OF_VOLUME, "volumeID": CHILD, "description": "new"}),
    Line("Volume.setLegality", {**OF_VOLUME, "volumeID": CHILD, "legality": "ILLEGAL"}),
    Line("Volume.refresh", {**OF_VOLUME, "volumeID": CHILD}),
    Line("Image.prepare", {**OF_VOLUME, "volumeID": CHILD}, problem="disk-unusable"),
    Line("Image.prepare", {**OF_VOLUME, "volumeID": CHILD, "allowIllegal": True}),
    Line("Image.teardown", OF_VOLUME),
    Line("Image.receive", {**OF_VOLUME, "size": 1}, problem="stream"),
    Line("Image.send", {**OF_VOLUME, "size": 1}, problem="stream"),
    Line("NBD.start_server", {"server_id": NOBODY, "config": {**SERVED, "vol_id": CHILD, "discard": True}}),
    Line("NBD.start_server", {"server_id": NOBODY, "config": {**SERVED, "vol_id": VOLUME}}, problem="disk-unusable"),
    Line("Host.add_image_ticket", {"ticket": {**TICKET, "url": f"nbd:unix:/simulated/{NOBODY}.sock"}}),
    Line("Host.add_image_ticket", {"ticket": {**TICKET, "url": "file:///etc/shadow"}}, problem="ticket-refused"),
    Line("Host.get_image_ticket", {"uuid": NOBODY}),
    Line("Host.extend_image_ticket", {"uuid": NOBODY, "timeout": 600}),
    Line("Host.remove_image_ticket", {"uuid": NOBODY}),
    Line("Host.get_image_ticket", {"uuid": NOBODY}, problem="image-tickets-error"),
    Line("NBD.stop_server", {"server_id": NOBODY}),
    Line("Image.reconcileVolumeChain", {**OF_VOLUME, "leafVolID": CHILD}),
    Line("Image.reconcileVolumeChain", {**OF_VOLUME, "leafVolID": VOLUME}, problem="disk-unusable"),
    Line("Image.reconcileVolumeChain", {**OF_VOLUME, "leafVolID": NOBODY}, problem="volume-does-not-exist"),
    Line("Image.download", {**OF_VOLUME, "methodArgs": {"url": "http://x.test/a"}}, problem="remote-refused"),
    Line("Image.upload", {**OF_VOLUME, "methodArgs": {"url": "http://x.test/a"}}, problem="remote-refused"),
    Line("Image.getVolumes", OF_VOLUME),
    Line("StorageDomain.dump", {"sd_id": SD}),
    Line("Storage.check", {"storageID": SD}),
    Line("StorageDomain.getImages", {"storagedomainID": SD}),
    Line("StorageDomain.getVolumes", {"storagedomainID": SD}),
    Line("Volume.teardown", {"storagedomainID": SD, "imageID": IMAGE, "volumeID": CHILD}),
    Line(
        "Volume.teardown",
        {"storagedomainID": SD, "imageID": IMAGE, "volumeID": NOBODY},
        problem="volume-does-not-exist",
    ),
    Line("Volume.verify_untrusted", {**OF_VOLUME, "volumeID": CHILD}),
    Line("Volume.verify_untrusted", {**OF_VOLUME, "volumeID": NOBODY}, problem="volume-does-not-exist"),
    Line("Volume.measure", {**OF_VOLUME, "volumeID": CHILD, "dstVolFormat": "COW", "backing_chain": False}),
    Line(
        "Volume.measure",
        {**OF_VOLUME, "volumeID": CHILD, "dstVolFormat": "RAW", "baseID": NOBODY},
        problem="volume-does-not-exist",
    ),
    Line("Volume.extendSize", {**OF_VOLUME, "volumeID": CHILD, "newSize": 3 << 29}, problem="disk-unusable"),
    Line("Volume.setLegality", {**OF_VOLUME, "volumeID": CHILD, "legality": "LEGAL"}),
    Line("Volume.extendSize", {**OF_VOLUME, "volumeID": CHILD, "newSize": 3 << 29}),
    Line(
        "Volume.extendSize", {**OF_VOLUME, "volumeID": CHILD, "newSize": 1 << 30}, problem="volume-resize-value-error"
    ),
    Line("Volume.extendSize", {**OF_VOLUME, "volumeID": VOLUME, "newSize": 3 << 29}, problem="volume-non-writable"),
    Line("Image.deleteVolumes", {**OF_VOLUME, "volumeList": [VOLUME]}, problem="volume-image-has-children"),
    Line("Image.deleteVolumes", {**OF_VOLUME, "volumeList": [CHILD]}),
    Line("Volume.delete", {**OF_VOLUME, "volumeID": CHILD}, problem="volume-does-not-exist"),
    Line("Volume.create", {**NEW, "volumeID": CHILD, "volFormat": "COW", "srcImgUUID": IMAGE, "srcVolUUID": VOLUME}),
    Line("VM.create", {"vmParams": {**SHAPE, "name": "web6", "disks": [{"path": ON_IT}]}}, keep="web6"),
    Line("VM.diskSizeExtend", {"vmID": "{web6}", "driveSpecs": ON_CHILD, "newSize": 1 << 30}),
    Line(
        "VM.diskSizeExtend",
        {"vmID": "{web6}", "driveSpecs": ON_CHILD, "newSize": 4096},
        problem="bad-disk-resize-parameter",
    ),
    Line("VM.getDiskAlignment", {"vmID": BLANK, "disk": ON_CHILD}, problem="method-not-implemented"),
    Line(
        "VM.merge",
        {"vmID": "{web6}", "drive": ON_CHILD, "baseVolUUID": CHILD, "topVolUUID": VOLUME},
        problem="merge-failed",
    ),
    Line("VM.create", {"vmParams": {**SHAPE, "name": "web5", "guestAgent": True}}, keep="web5"),  # up while that lasts:
    Line("VM.merge", {"vmID": "{web6}", "drive": ON_CHILD, "baseVolUUID": VOLUME, "topVolUUID": CHILD}),
    Line("VM.freeze", {"vmID": "{web5}"}),
    Line("VM.thaw", {"vmID": "{web5}"}),
    Line("VM.snapshot", {"vmID": "{web5}"}, problem="snapshot-failed"),
    Line("VM.destroy", {"vmID": "{web5}"}),
    Line("VM.destroy", {"vmID": "{web6}"}),
    Line("Volume.delete", {**OF_VOLUME, "volumeID": CHILD}),
    Line("Image.upload", {**OF_VOLUME, "methodArgs": FROM_SERVER, "volumeID": CHILD}, problem="volume-does-not-exist"),
    Line("Volume.create", {**NEW, **REMOTE_DISK, "size": 1 << 20}),
    Line("Image.upload", {**OF_VOLUME, "imageID": REMOTE_DISK["imageID"], "methodArgs": FROM_SERVER}),
    Line("Image.download", {**OF_VOLUME, "imageID": REMOTE_DISK["imageID"], "methodArgs": FROM_SERVER}),
    Line("Image.delete", {**OF_VOLUME, "imageID": REMOTE_DISK["imageID"]}),
    Line("Volume.copy", {**OF_VOLUME, "volumeID": VOLUME, **TO_TEMPLATE}),
    Line("Volume.copy", {**OF_VOLUME, "volumeID": VOLUME, **TO_TEMPLATE}, problem="overwrite-image-error"),
    Line("Volume.create", {**NEW, **DERIVED, "srcImgUUID": IMAGE, "srcVolUUID": VOLUME}, problem="cannot-clone-volume"),
    Line("Volume.create", {**NEW, **DERIVED, "srcImgUUID": TEMPLATE, "srcVolUUID": TEMPLATE}),
    Line("Volume.getInfo", {**OF_VOLUME, "imageID": TEMPLATE, "volumeID": TEMPLATE}),
    Line("Image.delete", {**OF_VOLUME, "imageID": TEMPLATE}, problem="cannot-delete-shared-volume"),
    Line("Image.delete", {**OF_VOLUME, "imageID": DERIVED["imageID"]}),
    Line("Image.delete", {**OF_VOLUME, "imageID": TEMPLATE}),
    Line("StorageDomain.create", {"storagedomainID": SD3, "name": "data3", **LOCAL}),
    Line("StorageDomain.attach", {**IN_POOL, "storagedomainID": SD3}),
    Line("StorageDomain.activate", {**IN_POOL, "storagedomainID": SD3}),
    Line("Image.cloneStructure", {**OF_VOLUME, "dstSdUUID": SD}, problem="invalid-params"),
    Line("Image.syncData", {**OF_VOLUME, "dstSdUUID": SD3, "syncType": "ALL"}, problem="volume-does-not-exist"),
    Line("Image.cloneStructure", {**OF_VOLUME, "dstSdUUID": SD3}),
    Line("Image.syncData", {**OF_VOLUME, "dstSdUUID": SD3, "syncType": "ALL"}),
    Line("Image.move", {**OF_VOLUME, "dstSdUUID": SD3, "operation": "MOVE"}, problem="overwrite-image-error"),
    Line("Image.delete", {**OF_VOLUME, "storagedomainID": SD3}),
    Line("Image.move", {**OF_VOLUME, "dstSdUUID": SD3, "operation": "MOVE"}),
    Line("Image.delete", {**OF_VOLUME, "storagedomainID": SD3}),
    Line("StorageDomain.deactivate", {**IN_POOL, **OF_MASTER, "storagedomainID": SD3}),
    Line("StorageDomain.detach", {**IN_POOL, **OF_MASTER, "storagedomainID": SD3}),
    Line("StorageDomain.format", {"storagedomainID": SD3}),
    Line("Image.delete", OF_VOLUME, problem="no-such-disk"),
    Line("StorageDomain.create", {"storagedomainID": SD2, "name": "data2", **LOCAL}),
    Line("StorageDomain.activate", IN_POOL, problem="storage-domain-not-in-pool"),
    Line("StorageDomain.attach", IN_POOL),
    Line("StorageDomain.activate", IN_POOL),
    Line("StoragePool.getDomainsContainingImage", {"storagepoolID": POOL, "imageID": IMAGE}),
    Line("StoragePool.getDomainsContainingImage", {"storagepoolID": NOBODY, "imageID": IMAGE}, problem=UNKNOWN),
    Line("StoragePool.setDescription", {"storagepoolID": POOL, "description": "dc one"}),
    Line("StoragePool.setDescription", {"storagepoolID": NOBODY, "description": "x"}, problem=UNKNOWN),
    Line("StoragePool.upgrade", {"storagepoolID": POOL, "targetDomVersion": 5}),
    Line("StoragePool.upgrade", {"storagepoolID": POOL, "targetDomVersion": 6}, problem="unsupported-domain-version"),
    Line("StoragePool.updateVMs", {"storagepoolID": POOL, "vmList": [{"vm": NOBODY, "imglist": "", "ovf": OVF}]}),
    Line(
        "StoragePool.updateVMs",
        {**IN_POOL, "vmList": [{"vm": NOBODY, "ovf": "", "imglist": "../x"}]},
        problem="invalid-params",
    ),
    Line("StoragePool.getBackedUpVmsList", {"storagepoolID": POOL, "storagedomainID": SD}),
    Line("StoragePool.getBackedUpVmsInfo", {"storagepoolID": POOL, "storagedomainID": SD, "vmList": [NOBODY]}),
    Line("StoragePool.getBackedUpVmsInfo", {**IN_POOL, "vmList": [NOBODY]}, problem="missing-ovf-file-from-vm"),
    Line("StoragePool.removeVM", {"storagepoolID": POOL, "vmUUID": NOBODY}),
    Line("StoragePool.removeVM", {"storagepoolID": NOBODY, "vmUUID": NOBODY}, problem=UNKNOWN),
    Line("StoragePool.switchMaster", {**SWITCH, "masterVersion": 1}, problem="storage-pool-wrong-master"),
    Line("StoragePool.switchMaster", {**SWITCH, "masterVersion": 2}),
    Line("StoragePool.reconstructMaster", {**RECONSTRUCT, "masterVersion": 3}, problem="storage-pool-connected"),
    Line("StorageDomain.deactivate", {**IN_POOL, **OF_MASTER, "masterVersion": 3}),
    Line("StorageDomain.setDescription", {"storagedomainID": SD2, "description": "data 2"}),
    Line("StorageDomain.setDescription", {"storagedomainID": NOBODY, "description": "x"}, problem=NO_DOMAIN),
    Line("StorageDomain.getFileStats", {"storagedomainID": SD2, "pattern": "*"}, problem="storage-domain-class-error"),
    Line("StorageDomain.format", {"storagedomainID": SD2}, problem="storage-domain-already-attached"),
    Line("StorageDomain.detach", {**IN_POOL, **OF_MASTER}),
    Line("StorageDomain.format", {"storagedomainID": SD2}),
    Line("StoragePool.disconnect", HOST, problem="is-spm"),
    Line("StoragePool.spmStop", {"storagepoolID": POOL}),
    Line("StoragePool.disconnect", HOST),
    Line("StoragePool.reconstructMaster", {**RECONSTRUCT, "masterVersion": 3}, problem=HIGHER_MASTER),
    Line("StoragePool.reconstructMaster", {**RECONSTRUCT, "masterVersion": 4}),
    Line("StoragePool.connect", {**HOST, **OF_MASTER, "masterVersion": 4}),
    Line("StoragePool.spmStart", {"storagepoolID": POOL}),
    Line("StorageDomain.create", {"storagedomainID": SD2, "name": "iso1", **LOCAL, "domainClass": "Iso"}),
    Line("StorageDomain.getFileStats", {"storagedomainID": SD2, "pattern": "*.iso", "caseSensitive": True}),
    Line("StorageDomain.format", {"storagedomainID": SD2}),
    Line("StoragePool.destroy", HOST),
    Line("StorageDomain.format", {"storagedomainID": SD}),
    Line("StoragePool.disconnectStorageServer", {**SERVER, "domainType": "LOCALFS"}),
    Line("StoragePool.connectStorageServer", {**EXPORT, "domainType": "NFS"}),
    Line("StorageDomain.create", {"storagedomainID": SD, "name": "shared", **REMOTE}),
    Line("StoragePool.create", NEW_POOL),
    Line("StoragePool.connect", {**HOST, **OF_MASTER}),
    Line("Lease.create", LEASE, problem="spm-status-error"),
    Line("StoragePool.spmStart", {"storagepoolID": POOL}),
    Line("StoragePool.getSpmStatus", {"storagepoolID": POOL}),
    Line("Lease.create", {**LEASE, "metadata": PENDING}),
    Line("Lease.create", LEASE, problem="lease-exists"),
    Line("Lease.info", LEASE),
    Line("Lease.status", LEASE),
    Line("Lease.status", {**LEASE, "lease_id": VOLUME}, problem="no-such-lease"),
    Line("Lease.info", {**LEASE, "lease_id": VOLUME}, problem="no-such-lease"),
    Line("Lease.fence", {**LEASE, "metadata": {**PENDING, "generation": 2}}, problem="generation-mismatch"),
    Line("Lease.fence", {**LEASE, "metadata": PENDING}),
    Line("Lease.rebuild_leases", {"sd_id": SD}),
    Line("StorageDomain.dump", {"sd_id": SD, "full": True}),
    Line("Lease.delete", LEASE),
    Line("Lease.delete", LEASE, problem="no-such-lease"),
    Line("StoragePool.destroy", HOST),
    Line("Lease.rebuild_leases", {"sd_id": SD}, problem="spm-status-error"),
    Line("StorageDomain.format", {"storagedomainID": SD}),
    Line("StoragePool.disconnectStorageServer", {**EXPORT, "domainType": "NFS"}),
    Line("Storage.open", {"path": "/storage/vm"}),
    Line("Disk.delete", {"diskID": "{root1}"}),
    Line("Disk.delete", {"diskID": "{root1}"}, problem="no-such-disk"),
    Line("VM.define", {"vmParams": {"xml": RAW}, "autostart": True}, keep="raw1"),
    Line("VM.setAutostart", {"vmID": "{raw1}", "enabled": False}),
    Line("VM.undefine", {"vmID": "{raw1}"}),
    Line("Host.getVMList"),
    Line("Host.getVMFullList", {"vmList": ["{web1}"]}),
    Line("Host.getAllVmStats"),
    Line("Host.dumpxmls", {"vmList": ["{web1}"]}),
    Line("VM.destroy", {"vmID": "{web1}"}),
    Line("VM.destroy", {"vmID": "{web1}"}, problem="no-such-vm"),
    Line("Host.getAllTasks"),
    Line("Host.getAllTasksInfo"),
    Line("Host.getAllTasksStatuses"),
    Line("Host.getJobs", {"job_type": "virt"}),
    Line("Host.getJobs", {"job_type": "none"}),
    Line("Task.list", keep="task"),
    Line("Task.get", {"taskID": "{task}"}),
    Line("Task.get", {"taskID": NOBODY}, problem="unknown-task"),
    Line("Task.getInfo", {"taskID": "{task}"}),
    Line("Task.getStatus", {"taskID": "{task}"}),
    Line("Task.stop", {"taskID": "{task}"}, problem="task-finished"),
    Line("Task.revert", {"taskID": "{task}"}),
    Line("Task.clear", {"taskID": "{task}"}),
    Line("Task.clear", {"taskID": "{task}"}, problem="unknown-task"),
    Line("Token.create", {"name": "backup", "role": "viewer", "ttl": 3600}),
    Line("Token.create", {"name": "backup", "role": "viewer"}, problem="token-exists"),
    Line("Token.list"),
    Line("Token.revoke", {"name": "backup"}),
    Line("Token.revoke", {"name": "backup"}, problem="no-such-token"),
    Line("Audit.list", {"limit": 3}),
    Line("Event.list", {"types": ["VM_status"]}),
]

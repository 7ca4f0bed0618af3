# SPDX-License-Identifier: Apache-2.0
"""A manager's data center from its first domain to nothing at all, over mutual TLS: its archives by PUT, a disk by a
ticket, a second domain, another master, and everything removed again."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.ports import free_port
from harness.readers import array, each_of, integer, members, text
from harness.sanlock import Sanlock, dump
from harness.stomp import Failed, PythonClient, Wired
from harness.until import BUSY, until

BLANK = "00000000-0000-0000-0000-000000000000"
RAW, COW = 5, 4
MIB = 1 << 20
NO_SPACE = 397
OVF_BYTES = 128 * MIB
ARCHIVE = os.urandom(3 * MIB) + b"the end of a tar archive"
LEASES = {"lockRenewalIntervalSec": 5, "leaseTimeSec": 60, "ioOpTimeoutSec": 1, "leaseRetries": 3}


class Kind:
    """Where domains lie: directories, or file systems in files that the daemon mounts."""

    number, leases = 4, False

    def __init__(self, home: Path) -> None:
        self.places = [home / "storage/one_1", home / "storage/two"]
        for place in self.places:
            place.mkdir(parents=True)

    def roots(self, home: Path) -> list[Path]:
        return self.places

    def more(self) -> dict[str, str]:
        return {}


class Posix(Kind):
    number, leases = 6, True

    def __init__(self, home: Path) -> None:
        self.places = [home / "fs_one", home / "fs_two"]
        for place in self.places:
            with place.open("wb") as handle:
                handle.truncate(768 * MIB)
            subprocess.run(["mke2fs", "-q", "-t", "ext4", "-E", "lazy_itable_init=1", place], check=True)

    def roots(self, home: Path) -> list[Path]:
        return [home / "data-center/mnt" / str(p).replace("_", "__").replace("/", "_") for p in self.places]

    def more(self) -> dict[str, str]:
        return {"vfs_type": "ext4", "mnt_options": "noatime"}


class Manager:
    """One data center; `pool` is its id, `domains` those of the two domains."""

    def __init__(self, wired: Wired, kind: Kind, image_port: int) -> None:
        self.wired = wired
        self.kind = kind
        self.image_port = image_port
        self.pool = str(uuid.uuid4())
        self.domains = [str(uuid.uuid4()), str(uuid.uuid4())]
        self.roots = kind.roots(wired.home)
        self.host = PythonClient(wired.port("https"), wired.context())

    def call(self, method: str, **params: Any) -> Any:
        return self.host.call(method, params)

    def finished(self, task: str) -> None:
        """As a manager sees a task to its end."""
        text(task)
        until("it ends", lambda: self.call("Host.getAllTasksStatuses")[task]["taskState"] == "finished")
        status = self.call("Task.getStatus", taskID=task)
        assert (status["taskResult"], status["code"]) == ("success", 0), status
        assert self.call("Task.clear", taskID=task) is True

    def server(self, verb: str, number: int) -> None:
        ref = {
            "id": str(uuid.uuid4()), "connection": str(self.kind.places[number]), "port": "", "iqn": "", "user": "",
            "password": "", "ipv6_enabled": "false", **self.kind.more(),
        }  # fmt: skip
        answer = self.call(
            f"StoragePool.{verb}", storagepoolID=self.pool, domainType=self.kind.number, connectionParams=[ref]
        )
        assert answer == [{"id": ref["id"], "status": 0}]

    def domain(self, verb: str, number: int, **more: Any) -> Any:
        return self.call(f"StorageDomain.{verb}", storagedomainID=self.domains[number], **more)

    def create_domain(self, number: int) -> None:
        self.server("connectStorageServer", number)
        place = {"domainType": self.kind.number, "typeArgs": str(self.kind.places[number]), "name": f"data{number}"}
        self.domain("create", number, **place, domainClass=1, version="5", blockSize=0, maxHosts=250)
        if self.kind.leases:  # a host id takes some times what is written there: of a second instead of ten
            space = f"{self.domains[number]}:0:{self.roots[number]}/{self.domains[number]}/dom_md/ids:0"
            subprocess.run(["sanlock", "direct", "init", "-s", space, "-o", "1"], check=True, capture_output=True)
        stats = self.domain("getStats", number)
        each_of({"disktotal": integer, "diskfree": integer, "alerts": array}, stats)

    def connect(self, master: int, version: int, *statuses: str) -> None:
        domains = dict(zip(self.domains, statuses, strict=False))
        params = {"hostID": 1, "scsiKey": self.pool, "masterSdUUID": self.domains[master], "masterVersion": version}
        self.call("StoragePool.connect", storagepoolID=self.pool, **params, domainDict=domains)

    def begin(self) -> None:
        """The first domain, its pool, and charge of it."""
        self.create_domain(0)
        first = self.domains[0]
        self.call(
            "StoragePool.create", storagepoolID=self.pool, name="dc", masterSdUUID=first, masterVersion=1,
            domainList=[first], **LEASES,
        )  # fmt: skip
        self.connect(0, 1, "active")
        assert self.spm() == ("Free", -1)
        fencing = {"prevID": -1, "prevLver": "-1", "enableScsiFencing": "false"}
        self.finished(
            self.call("StoragePool.spmStart", storagepoolID=self.pool, **fencing, maxHostID=250, domVersion="5")
        )
        assert self.spm() == ("SPM", 1)
        self.domain("activate", 0, storagepoolID=self.pool)
        assert self.info()["domains"] == f"{first}:Active"

    def spm(self) -> tuple[str, int]:
        status = self.call("StoragePool.getSpmStatus", storagepoolID=self.pool)
        return text(status["spmStatus"]), integer(status["spmId"])

    def info(self) -> Any:
        """As a manager reads it every ten seconds."""
        whole = self.call("StoragePool.getInfo", storagepoolID=self.pool)
        each_of({"master_uuid": text, "master_ver": integer, "spm_id": integer, "domains": text}, whole["info"])
        for row in whole["dominfo"].values():
            assert row["status"] in ("Active", "Attached")
        return members(whole["info"])

    # ---- volumes ---------------------------------------------------------------------------------------------------

    def volume(
        self, size: int, kind: str, *, preallocate: int, domain: int = 0, vol_format: int = RAW
    ) -> dict[str, str]:
        where = {
            "storagepoolID": self.pool, "storagedomainID": self.domains[domain], "imageID": str(uuid.uuid4()),
        }  # fmt: skip
        volume = str(uuid.uuid4())
        task = self.call(
            "Volume.create", **where, volumeID=volume, size=str(size), volFormat=vol_format, preallocate=preallocate,
            diskType=kind, desc=json.dumps({"DiskAlias": kind}), srcImgUUID=BLANK, srcVolUUID=BLANK, sequence=1,
        )  # fmt: skip
        self.finished(task)
        return {**where, "volumeID": volume}

    def stream(self, method: str, where: dict[str, str], data: bytes | None, **more: str) -> tuple[int, str, bytes]:
        """The status, the task's id, and what came."""
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.wired.port("https"), timeout=60 * BUSY, context=self.wired.context()
        )
        names = {
            "storagepoolID": "Storage-Pool-Id", "storagedomainID": "Storage-Domain-Id", "imageID": "Image-Id",
            "volumeID": "Volume-Id",
        }  # fmt: skip
        connection.request(method, "/", data, {**{names[name]: value for name, value in where.items()}, **more})
        with contextlib.closing(connection):
            answer = connection.getresponse()
            return answer.status, answer.headers["Task-Id"], answer.read()

    def keep_archive(self, where: dict[str, str]) -> None:
        status, task, _ = self.stream("PUT", where, ARCHIVE)
        assert status == 200
        self.finished(task)
        told = json.dumps({"Updated": True, "Size": len(ARCHIVE), "Last Updated": "now", "Storage Domains": []})
        self.call("Volume.setDescription", **where, description=told)
        status, task, data = self.stream("GET", where, None, Range=f"bytes=0-{len(ARCHIVE) - 1}")
        assert (status, data == ARCHIVE) == (206, True)
        self.finished(task)
        info = self.call("Volume.getInfo", **where)
        assert (info["legality"], info["description"], int(info["capacity"])) == ("LEGAL", told, OVF_BYTES)

    def upload(self, where: dict[str, str], data: bytes) -> None:
        """By a ticket, as of §12."""
        path = self.call("Image.prepare", **where, allowIllegal=True)["path"]
        self.call("Volume.setLegality", **where, legality="ILLEGAL")
        ticket = str(uuid.uuid4())
        given = {
            "uuid": ticket, "timeout": 300, "inactivity_timeout": 60, "size": len(data), "url": f"file://{path}",
            "ops": ["write"], "sparse": True, "transfer_id": str(uuid.uuid4()), "dirty": False,
        }  # fmt: skip
        self.call("Host.add_image_ticket", ticket=given)
        door = http.client.HTTPSConnection(
            "127.0.0.1", self.image_port, timeout=60 * BUSY, context=self.wired.context()
        )
        with contextlib.closing(door):
            door.request("PUT", f"/images/{ticket}", data)
            assert door.getresponse().status == 200
        seen = self.call("Host.get_image_ticket", uuid=ticket)
        assert (int(seen["transferred"]), seen["active"]) == (len(data), False)
        self.call("Host.extend_image_ticket", uuid=ticket, timeout=600)
        self.call("Host.remove_image_ticket", uuid=ticket)
        self.call("Image.teardown", **where)
        self.call("Volume.verify_untrusted", **where)
        image = self.call("Volume.getQemuImageInfo", **where)
        assert (image["format"], integer(image["virtualsize"])) == ("raw", len(data))
        self.call("Volume.setLegality", **where, legality="LEGAL")


def served(home: Path, prefix: str, uri: str, kind: Kind, more: str = "") -> Iterator[Manager]:
    port = free_port()
    wired = Wired(home, prefix, more, uri=uri)
    wired.file.write_text(wired.file.read_text().replace("[transfers]\n", f"[transfers]\nport = {port}\n"))
    try:
        wired.serve()
        made = Manager(wired, kind, port)
        yield made
        made.host.sock.close()
    finally:
        wired.end()


@pytest.fixture(params=[Kind, Posix], ids=["local", "posix"])
def manager(request: pytest.FixtureRequest, open_path: Path, prefix: str, uri: str) -> Iterator[Manager]:
    kind = request.param(open_path)
    if not kind.leases:
        yield from served(open_path, prefix, uri, kind)
        return
    sanlock = Sanlock(open_path / "lock", "host1")
    try:
        yield from served(open_path, prefix, uri, kind, f'[sanlock]\nrun_directory = "{sanlock.run}"\n')
    finally:
        sanlock.kill()
        for root in kind.roots(open_path):
            if root.is_mount():
                subprocess.run(["umount", "-l", root], check=True)


@pytest.fixture
def small(open_path: Path, prefix: str, uri: str) -> Iterator[Manager]:
    """In charge of a pool whose file system takes 48 MiB."""
    kind = Kind(open_path)
    image = open_path / "small"
    with image.open("wb") as handle:
        handle.truncate(48 * MIB)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, kind.places[0]], check=True)
    try:
        for made in served(open_path, prefix, uri, kind):
            made.begin()
            yield made
    finally:
        subprocess.run(["umount", "-l", kind.places[0]], check=True)


def test_a_data_center_comes_and_goes(manager: Manager) -> None:
    pool = manager.pool
    manager.create_domain(0)
    manager.call(
        "StoragePool.create", storagepoolID=pool, name="dc", masterSdUUID=manager.domains[0], masterVersion=1,
        domainList=[manager.domains[0]], **LEASES,
    )  # fmt: skip
    manager.connect(0, 1, "active")
    assert manager.spm() == ("Free", -1)
    fencing = {"prevID": -1, "prevLver": "-1", "enableScsiFencing": "false"}
    manager.finished(manager.call("StoragePool.spmStart", storagepoolID=pool, **fencing, maxHostID=250, domVersion="5"))
    assert manager.spm() == ("SPM", 1)
    manager.domain("activate", 0, storagepoolID=pool)
    assert manager.info()["domains"] == f"{manager.domains[0]}:Active"
    if manager.kind.leases:
        lease = dump(manager.roots[0] / manager.domains[0] / "dom_md/leases")
        assert "SDM" in lease

    archives = [manager.volume(OVF_BYTES, "OVFS", preallocate=1) for _ in range(2)]
    for archive in archives:
        manager.keep_archive(archive)
    disk = manager.volume(8 * MIB, "DATA", preallocate=2)
    content = os.urandom(MIB) + bytes(7 * MIB)
    manager.upload(disk, content)
    root = manager.roots[0] / manager.domains[0] / "images" / disk["imageID"]
    assert (root / disk["volumeID"]).read_bytes() == content

    manager.create_domain(1)
    for verb in ("attach", "activate"):
        manager.domain(verb, 1, storagepoolID=pool)
    manager.connect(0, 1, "active", "active")
    info = manager.info()
    assert (info["master_uuid"], info["domains"].count("Active")) == (manager.domains[0], 2)
    later = manager.volume(OVF_BYTES, "OVFS", preallocate=1, domain=1)
    manager.keep_archive(later)

    # The first domain goes: the second is the master from here on.
    manager.finished(manager.call("Image.delete", **{k: v for k, v in disk.items() if k != "volumeID"}, postZero=False))
    master = {"storagepoolID": pool, "masterSdUUID": manager.domains[1], "masterVersion": 2}
    manager.domain("deactivate", 0, **master)
    manager.connect(1, 2, "attached", "active")
    info = manager.info()
    assert (info["master_uuid"], int(info["master_ver"])) == (manager.domains[1], 2)
    assert manager.spm() == ("SPM", 1)
    manager.domain("detach", 0, **master)
    manager.domain("format", 0, autoDetach=False)
    manager.server("disconnectStorageServer", 0)
    assert manager.info()["domains"] == f"{manager.domains[1]}:Active"
    assert [row["findings"] for row in [{"findings": manager.call("Storage.check", storageID=manager.domains[1])}]] == [
        []
    ]

    # And then everything.
    manager.call("StoragePool.spmStop", storagepoolID=pool)
    manager.call("StoragePool.disconnect", storagepoolID=pool, hostID=1, scsiKey=pool, remove=True)
    manager.call("StoragePool.destroy", storagepoolID=pool, hostID=1, scsiKey=pool)
    manager.domain("format", 1, autoDetach=False)
    manager.server("disconnectStorageServer", 1)
    assert manager.call("Storage.list") == []
    left = [p.name for place in manager.kind.places if place.is_dir() for p in place.iterdir()]
    links = [p for p in (manager.wired.home / "data-center").rglob("*") if p.is_symlink()]
    assert (left, links) == ([], [])


def test_a_stream_that_fills_a_domain_leaves_it_whole(small: Manager) -> None:
    """And only a few MiB of it are in memory at any time."""
    where = small.volume(512 * MIB, "DATA", preallocate=2)
    before = small.wired.resident_kib()
    status, _, body = small.stream("PUT", where, b"x" * (40 * MIB))
    assert (status, json.loads(body)["status"]["code"]) == (500, NO_SPACE)
    assert small.wired.resident_kib() - before < 40 * 1024
    assert small.call("Volume.getInfo", **where)["legality"] == "ILLEGAL"
    small.finished(small.call("Image.delete", **{k: v for k, v in where.items() if k != "volumeID"}, postZero=False))
    assert small.call("Storage.check", storageID=small.domains[0]) == []


def test_an_image_that_comes_by_a_stream_is_as_hostile_as_any(small: Manager, tmp_path: Path) -> None:
    where = small.volume(8 * MIB, "DATA", preallocate=2, vol_format=COW)
    for name, more, size, said in (
        ("evil", ["-u", "-b", "/etc/shadow", "-F", "raw"], "8M", "/etc/shadow"),
        ("large", [], "9M", "its volume of 8388608"),
        ("good", [], "8M", ""),
    ):
        made = tmp_path / name
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *more, made, size], check=True)
        status, _, body = small.stream("PUT", where, made.read_bytes())
        legality = small.call("Volume.getInfo", **where)["legality"]
        assert (status, legality) == ((500, "ILLEGAL") if said else (200, "LEGAL")), (name, body)
        assert said in body.decode()
    assert small.call("Storage.check", storageID=small.domains[0]) == []


def test_a_disc_image_of_a_domain_is_put_into_a_drive(small: Manager) -> None:
    iso = str(uuid.uuid4())
    place = {"domainType": 4, "typeArgs": str(small.kind.places[0]), "name": "iso", "domainClass": 2, "version": "5"}
    small.call("StorageDomain.create", storagedomainID=iso, **place)
    for verb in ("attach", "activate"):
        small.call(f"StorageDomain.{verb}", storagedomainID=iso, storagepoolID=small.pool)
    prefix = small.info()["isoprefix"]
    for name in ("one.iso", "TWO.ISO"):
        (Path(prefix) / name).write_bytes(bytes(MIB))
    stats = small.call("StorageDomain.getFileStats", storagedomainID=iso, pattern="*.iso", caseSensitive=False)
    assert {name: row["status"] for name, row in stats.items()} == {"one.iso": 0, "TWO.ISO": 0}
    assert all(text(row["size"]) == f"{MIB}" and text(row["ctime"]) for row in stats.values())
    vm_id = str(uuid.uuid4())
    shape = {"vmId": vm_id, "name": small.wired.name("cd"), "memory": 32, "cdrom": f"{prefix}/one.iso"}
    small.call("VM.create", vmParams=shape)
    until("it runs", lambda: small.call("VM.getStats", vmID=vm_id)[0]["status"] in ("Up", "Powering up"))
    small.call("VM.changeCD", vmID=vm_id, driveSpec=f"{prefix}/TWO.ISO")
    assert "TWO.ISO" in small.call("Host.dumpxmls", vmList=[vm_id])[vm_id]
    with pytest.raises(Failed):
        small.call("StorageDomain.deactivate", storagedomainID=iso, storagepoolID=small.pool)
    small.call("VM.changeCD", vmID=vm_id, driveSpec="")
    small.call("VM.destroy", vmID=vm_id)
    small.call("StorageDomain.deactivate", storagedomainID=iso, storagepoolID=small.pool)
    assert small.info()["isoprefix"] == ""

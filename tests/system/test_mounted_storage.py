# SPDX-License-Identifier: Apache-2.0
"""Domains on file systems that the daemon mounts, over JSON-RPC; and storage that hangs or fails under it."""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.faulty_mount import BrokenMount
from harness.hung_mount import HungMount
from harness.stomp import Failed, PythonClient, Wired
from harness.until import BUSY, until
from vdsm.core.storage.format import domain_meta

BLANK = "00000000-0000-0000-0000-000000000000"
UNUSABLE, MOUNT_ERROR, FOREIGN = 10702, 477, 10621
LOOK_S = 0.3  # between two looks of the monitor


class Site:
    """A daemon that looks at its storage all the time, with an ext4 file system in a file."""

    def __init__(self, home: Path, prefix: str, uri: str) -> None:
        self.image = home / "server:file_system"  # as a server would be in the name of the place
        with self.image.open("wb") as handle:
            handle.truncate(64 << 20)
        subprocess.run(["mke2fs", "-q", "-t", "ext4", self.image], check=True)
        self.daemon = Wired(home, prefix, uri=uri)
        text = self.daemon.file.read_text()
        self.daemon.file.write_text(text.replace("[storage]\n", f"[storage]\nmonitor_interval_s = {LOOK_S}\n"))
        self.target = home / "data-center/mnt" / str(self.image).replace("_", "__").replace("/", "_")
        self.domain = str(uuid.uuid4())
        self.host: PythonClient | None = None

    def serve(self) -> None:
        """Start, or start again, and speak with it."""
        self.hang_up()
        self.daemon.log.unlink(missing_ok=True)  # which says where it serves
        self.daemon.serve()
        self.host = PythonClient(self.daemon.port("http"))

    def hang_up(self) -> None:
        if self.host is not None:
            self.host.sock.close()

    def call(self, method: str, **params: Any) -> Any:
        assert self.host is not None
        return self.host.call(method, params)

    def server(self, verb: str, **more: Any) -> int:
        ref = {
            "id": BLANK, "connection": str(self.image), "vfs_type": "ext4", "port": "", "iqn": "", "user": "",
            "password": "", "ipv6_enabled": "false", **more,
        }  # fmt: skip
        (row,) = self.call(f"StoragePool.{verb}", storagepoolID=BLANK, domainType=6, connectionParams=[ref])
        assert row["id"] == BLANK
        return int(row["status"])

    def create(self) -> None:
        place = {"domainType": 6, "typeArgs": str(self.image), "domainClass": 1, "version": "5"}
        more = {"name": "posix", "blockSize": 0, "maxHosts": 250}
        self.call("StorageDomain.create", storagedomainID=self.domain, **place, **more)

    def vitals(self, domain: str = "") -> dict[str, Any]:
        found: dict[str, Any] = self.call("Host.getStorageRepoStats")[domain or self.domain]
        return found

    def becomes(self, valid: bool, domain: str = "") -> dict[str, Any]:
        until(f"valid is {valid}", lambda: self.vitals(domain)["valid"] is valid)
        return self.vitals(domain)

    def mounts(self) -> list[str]:
        """The options of what is mounted in its place."""
        lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
        return [options for _, target, _, options, *_ in lines if target == str(self.target)]

    def end(self) -> None:
        self.hang_up()
        self.daemon.end()
        while self.mounts():
            subprocess.run(["umount", "-l", self.target], check=True)


@pytest.fixture
def site(open_path: Path, prefix: str, uri: str) -> Iterator[Site]:
    made = Site(open_path, prefix, uri)
    made.serve()
    yield made
    made.end()


def refused(call: Callable[[], Any]) -> Failed:
    with pytest.raises(Failed) as caught:
        call()
    return caught.value


def test_from_connecting_to_letting_go(site: Site) -> None:
    assert site.server("connectStorageServer", connection=f"{site.image}.none") == MOUNT_ERROR
    assert list(site.target.parent.iterdir()) == [], "nothing is left of it"
    for _ in range(2):
        assert site.server("connectStorageServer", mnt_options="noatime") == 0
    (options,) = site.mounts()
    assert {"nosuid", "nodev", "noexec", "noatime"} <= set(options.split(","))
    site.create()
    metadata = (site.target / site.domain / "dom_md/metadata").read_bytes()
    meta = domain_meta.decode(metadata)
    assert domain_meta.encode(meta) == metadata
    assert (meta.type, meta.remote_path, meta.block_size) == ("POSIXFS", str(site.image), 512)
    stats = site.call("StorageDomain.getStats", storagedomainID=site.domain)
    assert 0 < int(stats["diskfree"]) < int(stats["disktotal"]) <= 64 << 20
    vitals = site.becomes(True)
    assert (vitals["code"], vitals["version"]) == (0, 5)
    assert all(float(vitals[name]) >= 0 for name in ("lastCheck", "delay"))

    assert site.server("disconnectStorageServer") == 0
    assert not site.mounts()
    assert list(site.target.parent.iterdir()) == []
    assert site.call("Host.getStorageRepoStats") == {}
    assert site.server("connectStorageServer") == 0, "and what lies there is found"
    wanted = {"storagepoolID": BLANK, "domainClass": 1, "storageType": 6, "remotePath": str(site.image)}
    assert site.call("Host.getStorageDomains", **wanted) == [site.domain]
    info = site.call("StorageDomain.getInfo", storagedomainID=site.domain)
    assert (info["name"], info["type"], info["pool"]) == ("posix", "POSIXFS", [])
    site.call("StorageDomain.format", storagedomainID=site.domain)
    assert sorted(path.name for path in site.target.iterdir()) == ["lost+found"]
    assert site.server("disconnectStorageServer") == 0
    assert not site.mounts()


def test_a_restart_and_what_happens_behind_its_back(site: Site) -> None:
    assert site.server("connectStorageServer") == 0
    site.create()
    site.daemon.kill()
    site.serve()
    assert site.becomes(True)["code"] == 0
    assert len(site.mounts()) == 1, "it was mounted all the time"
    site.daemon.terminate()
    subprocess.run(["umount", site.target], check=True)
    site.serve()
    site.becomes(True)
    assert len(site.mounts()) == 1
    assert site.call("StorageDomain.getImages", storagedomainID=site.domain) == []

    subprocess.run(["umount", site.target], check=True)
    until("it is mounted again", site.mounts)
    site.becomes(True)
    subprocess.run(["mount", "-o", "remount,ro", site.target], check=True)
    until("it is read-only", lambda: site.daemon.json("storage", "list")[0]["state"] == "read-only")
    assert site.vitals()["valid"] is True
    subprocess.run(["mount", "-o", "remount,rw", site.target], check=True)

    site.daemon.terminate()
    subprocess.run(["umount", site.target], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "vdsmtest", site.target], check=True)
    site.serve()
    assert site.becomes(False)["code"] == 360
    refusal = refused(lambda: site.call("StorageDomain.getStats", storagedomainID=site.domain))
    assert refusal.code == UNUSABLE
    assert "did not mount" in str(refusal)
    assert site.server("disconnectStorageServer") == 0
    assert len(site.mounts()) == 1, "another's mount stays"


def test_one_that_hangs_does_not_slow_another(site: Site) -> None:
    assert site.server("connectStorageServer") == 0
    site.create()
    bad = site.daemon.storage / "bad"
    hung = site.daemon.json("storage", "init", str(bad))["id"]
    site.becomes(True)
    site.becomes(True, hung)

    def latencies() -> list[float]:
        found = []
        for number in range(150):
            began = time.perf_counter()
            site.call("StorageDomain.getStats" if number % 2 else "StorageDomain.getInfo", storagedomainID=site.domain)
            found.append(time.perf_counter() - began)
        return found

    def p95(found: list[float]) -> float:
        return statistics.quantiles(found, n=20)[-1]

    alone = latencies()
    with broken(HungMount(bad)) as mount:
        beside = latencies()  # also while nobody knows yet that it hangs
        assert p95(beside) < 3 * p95(alone) + 0.02 * BUSY
        vitals = site.becomes(False, hung)
        assert (vitals["code"], vitals["actual"]) == (2001, True)
        began = time.perf_counter()
        refusal = refused(lambda: site.call("StorageDomain.getStats", storagedomainID=hung))
        assert refusal.code == UNUSABLE
        assert "does not answer" in str(refusal)
        rows = {row["id"]: row for row in site.daemon.json("storage", "list")}
        assert (rows[hung]["state"], rows[site.domain]["state"]) == ("unusable", "active")
        assert site.daemon.json("disk", "list") == []
        assert set(site.call("Host.getStats")["storageDomains"]) == {hung, site.domain}
        assert time.perf_counter() - began < 2 * BUSY
        beside = latencies()
        assert p95(beside) < 3 * p95(alone) + 0.02 * BUSY

        site.daemon.kill()
        began = time.perf_counter()
        site.serve()  # it waits for nothing that hangs
        site.call("StorageDomain.getStats", storagedomainID=site.domain)
        assert time.perf_counter() - began < 4 * BUSY
        site.becomes(False, hung)
        mount.mend()
        site.becomes(True, hung)
    site.call("StorageDomain.getStats", storagedomainID=hung)

    with broken(BrokenMount(bad)):
        assert site.becomes(False, hung)["code"] == 2001
        refusal = refused(lambda: site.call("StorageDomain.getStats", storagedomainID=hung))
        assert (refusal.code, os.strerror(5) in str(refusal)) == (UNUSABLE, True)
        assert site.vitals()["valid"] is True
    site.becomes(True, hung)
    told = site.daemon.json("event", "list", "--types", "Storage_status")["events"]
    about = [row["data"]["status"] for row in told if row["subject"] == hung]
    assert about == ["active", "unusable", "unusable", "active", "unusable", "active"], "each daemon says it once"
    shutil.rmtree(bad)


@contextlib.contextmanager
def broken(mount: HungMount) -> Iterator[HungMount]:
    try:
        yield mount
    finally:
        mount.mend()

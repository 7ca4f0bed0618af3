# SPDX-License-Identifier: Apache-2.0
"""Disks up and down through the image port: a machine boots from one, and what comes back is what went up."""

from __future__ import annotations

import http.client
import os
import subprocess
from pathlib import Path

import pytest

from harness.daemon import Daemon
from harness.machines import Console, summary
from harness.ports import free_port
from vdsm.contract.storage_words import VolumeStatus
from vdsm.contract.vm_params import DiskFormat

MIB = 1 << 20
WORDS = "booted from the disk"
# Real mode, at 0000:7c00: print a text on the first serial port, wait for the next tick of the clock, begin again.
BOOT = bytes.fromhex("fc 31c0 8ed8 be177c baf803 ac 84c0 7403 ee ebf8 fb f4 ebee") + f"{WORDS}\r\n\0".encode()


@pytest.fixture
def served(daemon: Daemon) -> Daemon:
    daemon.configure(f"[transfers]\nport = {free_port()}\n")
    daemon.start()
    daemon.shell("storage", "init", f"{daemon.storage}/vm")
    return daemon


def bootable(directory: Path, kind: str) -> Path:
    """A disk with a boot sector, some data and much nothing."""
    raw = directory / "boot.raw"
    raw.write_bytes(BOOT.ljust(510, b"\0") + b"\x55\xaa" + os.urandom(3 * MIB))
    os.truncate(raw, 64 * MIB)
    made = directory / f"boot.{kind}"
    if kind == "qcow2":
        subprocess.run(["qemu-img", "convert", "-O", kind, "-f", "raw", raw, made], check=True)
    return made


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_a_machine_boots_from_an_uploaded_disk(served: Daemon, tmp_path: Path, kind: str) -> None:
    image = bootable(tmp_path, kind)
    served.shell("disk", "upload", str(image), "--name", "boot")
    shown = served.json("disk", "info", "boot")
    assert (shown["status"], shown["format"], shown["size"]) == ("OK", kind, 64 * MIB)
    assert shown["chain"][0]["trueSize"] < 5 * MIB, "holes stay holes"

    copy = tmp_path / "copy"
    Path(f"{copy}.part").write_bytes(image.read_bytes()[: 65536 + 100])  # of an attempt that was cut
    served.shell("disk", "download", "boot", str(copy))
    assert copy.read_bytes() == image.read_bytes()
    assert copy.stat().st_blocks * 512 < 5 * MIB

    served.shell("vm", "create", "--name", served.name("a"), "--memory", "64", "--disk", "boot")
    with served.connect() as host:
        machine = summary(host, served.name("a"))
        assert machine
        with Console(host, machine.vm_id) as console:
            console.wait_for(WORDS)
    refused = served.shell("disk", "download", "boot", f"{copy}2", ok=False)
    assert "belongs to virtual machine" in refused.stderr


def test_a_disk_with_snapshots_comes_down_as_the_guest_sees_it(served: Daemon, tmp_path: Path) -> None:
    image = bootable(tmp_path, "qcow2")
    served.shell("disk", "upload", str(image), "--name", "boot")
    path = served.json("disk", "snapshot", "boot")["path"]
    subprocess.run(
        ["qemu-io", "-f", "qcow2", "-c", f"write -P 7 {MIB} {MIB}", "-c", "write -z 2M 1M", path], check=True
    )
    copy = tmp_path / "copy"
    shown = served.shell("disk", "download", "boot", str(copy), "--verify")
    assert "64 MiB of raw" in shown.stderr
    compared = subprocess.run(["qemu-img", "compare", "-f", "raw", "-F", "qcow2", copy, path], capture_output=True)
    assert compared.returncode == 0, compared.stdout
    assert copy.stat().st_blocks * 512 < 5 * MIB, "zeros are not sent"
    assert list(Path(served.home).rglob("download-*")) == [], "what served it is gone"

    with served.connect() as host:
        transfer = host.disk.start_download(served.json("disk", "info", "boot")["id"])
        create = ("vm", "create", "--name", served.name("a"), "--memory", "64", "--disk", "boot")
        refused = served.shell(*create, ok=False)
        assert f"{path} is open in another program" in refused.stderr, "nobody writes while it is read"
        host.host.remove_image_ticket(transfer.id)
        served.shell(*create)


def test_an_upload_that_was_cut_goes_on(served: Daemon, tmp_path: Path) -> None:
    image = bootable(tmp_path, "raw")
    with served.connect() as host:
        made = host.disk.create("boot", size=64 * MIB, upload_size=64 * MIB)
        assert made.status is VolumeStatus.ILLEGAL
        transfer = host.disk.start_upload(made.id)
        door = http.client.HTTPConnection("127.0.0.1", transfer.port, timeout=60)
        span = {"Content-Range": f"bytes 0-{MIB - 1}/*"}
        door.request("PUT", f"/images/{transfer.id}", body=image.read_bytes()[:MIB], headers=span)
        assert door.getresponse().status == 200
        door.close()
        served.kill()
        served.start()
        again = host.disk.start_upload(made.id)
        assert (again.id, again.transferred) == (transfer.id, MIB)
        refused = served.shell("vm", "create", "--name", served.name("a"), "--memory", "64", "--disk", "boot", ok=False)
        assert "was not finished" in refused.stderr
        served.shell("disk", "upload", str(image))
        found = host.disk.get_info(made.id)
        assert (found.status, found.format) == (VolumeStatus.OK, DiskFormat.RAW)
    assert Path(found.path).read_bytes() == image.read_bytes()


def test_a_hostile_image_stays_illegal(served: Daemon, tmp_path: Path) -> None:
    image = tmp_path / "evil.qcow2"
    made = ["qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", "/etc/shadow", "-F", "raw", image, "1M"]
    subprocess.run(made, check=True)
    refused = served.shell("disk", "upload", str(image), ok=False)
    assert "/etc/shadow" in refused.stderr
    assert served.json("disk", "info", "evil")["status"] == "ILLEGAL"
    served.shell("disk", "delete", "evil")
    assert served.json("disk", "list") == []

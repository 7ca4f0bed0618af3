# SPDX-License-Identifier: Apache-2.0
"""A real guest writes to a file system while its disk gets a snapshot and loses it again, and finds all it wrote."""

from __future__ import annotations

import json
import os
import re
import subprocess
import uuid
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from harness.daemon import Daemon
from harness.machines import WORDS, Console, linux, summary
from harness.ports import free_port
from harness.until import until
from vdsm.client import Host
from vdsm.contract.disk import DiskInfo
from vdsm.contract.errors import FreezeGuestFSFailed
from vdsm.contract.storage_words import VolumeRole
from vdsm.contract.task import State
from vdsm.contract.vm_drives import VolumeRef

MIB = 1 << 20


@pytest.fixture
def served(daemon: Daemon) -> Daemon:
    daemon.configure(f"[transfers]\nport = {free_port()}\n")
    daemon.start()
    daemon.shell("storage", "init", f"{daemon.storage}/vm")
    return daemon


def file_system(directory: Path) -> Path:
    """A disk with ext4 on it and one file."""
    inside = directory / "inside"
    inside.mkdir()
    (inside / "zero").write_text("made on the host\n")
    image = directory / "root.raw"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", inside, image, "64M"], check=True)
    return image


def boot(daemon: Daemon, guest: Path) -> str:
    """Its id, when the guest is up; the disk `root` is mounted."""
    params = linux(daemon.name("web1"), guest, daemon.images)
    daemon.shell(
        "vm", "create", "--name", daemon.name("web1"), "--memory", "256", "--disk", "root",
        "--kernel", str(params.kernel), "--initrd", str(params.initrd), "--cmdline", params.cmdline,
    )  # fmt: skip
    with daemon.connect() as host:
        row = summary(host, daemon.name("web1"))
        assert row
        with Console(host, row.vm_id) as console:
            console.wait_for(WORDS)
            console.wait_for("login:")
            console.say("root")
            console.wait_for("root@")
            do(console, "mount /dev/vda /mnt")
        return row.vm_id


_count = 0


def do(console: Console, command: str) -> str:
    """Let the guest's shell do it, which must succeed; what it said."""
    global _count
    _count += 1
    console.heard = ""
    console.say(f"{command}; echo done$?-{_count}-$((1+1))")
    said = console.wait_for(f"-{_count}-2")
    assert f"done0-{_count}-2" in said, said
    return said


def layers(host: Host, vm_id: str, drive: str = "vda") -> list[str]:
    """What the machine reads and writes, by its document: ids of volumes, each in the directory of the image."""
    for disk in ET.XML(host.host.dumpxmls(vm_list=[vm_id])[vm_id]).findall("devices/disk"):
        found: list[str] = []
        element: ET.Element | None = disk
        while element is not None and (source := element.find("source")) is not None:
            found.append(source.get("file", "").rpartition("/")[2])
            element = element.find("backingStore")
        if (target := disk.find("target")) is not None and target.get("dev") == drive:
            return found
    return []


def qemus(info: DiskInfo) -> list[str]:
    """The chain by QEMU's own word."""
    done = subprocess.run(
        ["qemu-img", "info", "-U", "--backing-chain", "--output=json", info.path], check=True, capture_output=True
    ).stdout
    return [Path(row["filename"]).name for row in json.loads(done)]


def one_chain(host: Host, vm_id: str, disk_id: str) -> list[str]:
    """What the storage, libvirt and the files say, which must be the same."""
    info = host.disk.get_info(disk_id)
    chain = [row.id for row in info.chain]
    assert chain == qemus(info) == layers(host, vm_id)
    pool = host.storage.list()[0].pool
    for name, parent in zip(chain, [*chain[1:], None], strict=True):
        said = host.volume.get_info(name, pool, info.storage_id, info.id)
        assert said.parent == (parent or "00000000-0000-0000-0000-000000000000")
        assert said.voltype is (VolumeRole.LEAF if name == chain[0] else VolumeRole.INTERNAL)
    return chain


def power_off(daemon: Daemon, vm_id: str) -> None:
    """By the guest itself; then forget it."""
    with daemon.connect() as host:
        with Console(host, vm_id) as console:
            do(console, "umount /mnt")
            console.say("poweroff")
            console.wait_for("poweroff")  # its echo
            console.wait_for("The system is going down")
        until("it is down", lambda: host.vm.get_info(vm_id).status == "Down")
        until("its links are gone", lambda: not links(daemon))
        host.vm.destroy(vm_id)


def links(daemon: Daemon) -> list[Path]:
    return list((daemon.home / "run/storage").glob("*/*"))


def inside(path: str, file: str) -> str:
    """A file of the file system, read by the host."""
    return subprocess.run(["debugfs", "-R", f"cat /{file}", path], check=True, capture_output=True, text=True).stdout


def test_written_before_and_after_a_snapshot_all_is_there(served: Daemon, guest: Path, tmp_path: Path) -> None:
    served.shell("disk", "upload", str(file_system(tmp_path)), "--name", "root")
    vm_id = boot(served, guest)
    with served.connect() as host:
        (root,) = host.disk.list()
        (base,) = one_chain(host, vm_id, root.id)
        assert [path.name for path in links(served)] == [root.id]
        hash_before = host.vm.get_info(vm_id).hash
        with Console(host, vm_id) as console:
            assert "made on the host" in do(console, "cat /mnt/zero")
            do(console, "echo before the snapshot >/mnt/one")
            served.shell("vm", "snapshot", served.name("web1"))  # frozen: what is not synced is in it too
            do(console, "echo after the snapshot >/mnt/two; dd if=/dev/urandom of=/mnt/more bs=1M count=4; sync")
            leaf, below = one_chain(host, vm_id, root.id)
            assert below == base
            assert host.vm.get_info(vm_id).hash != hash_before
            assert inside(host.disk.get_info(root.id).path.replace(leaf, base), "one") == "before the snapshot\n"
            served.shell("disk", "merge", root.id)
            assert one_chain(host, vm_id, root.id) == [base]
            do(console, "echo after the merge >/mnt/three; sync")
        assert host.storage.check(root.storage_id) == []
        for _ in range(2):
            host.disk.snapshot(root.id)
        assert len(one_chain(host, vm_id, root.id)) == 3
        host.disk.extend(root.id, 80 * MIB)
        with Console(host, vm_id) as console:
            assert str(80 * 2048) in do(console, "cat /sys/block/vda/size")
            do(console, "echo in the last layer >/mnt/four; sync")
        middle = host.disk.get_info(root.id).chain[1].id
        host.disk.merge(root.id, volume_id=middle)
        host.disk.merge(root.id)
        assert one_chain(host, vm_id, root.id) == [base]
        assert host.disk.get_info(root.id).size == os.path.getsize(host.disk.get_info(root.id).path) == 80 * MIB
    power_off(served, vm_id)

    vm_id = boot(served, guest)
    with served.connect() as host, Console(host, vm_id) as console:
        said = do(console, "cat /mnt/one /mnt/two /mnt/three")
        assert re.search(r"before the snapshot\s+after the snapshot\s+after the merge", said), said
    power_off(served, vm_id)
    with served.connect() as host:
        info = host.disk.get_info(root.id)
    subprocess.run(["e2fsck", "-f", "-n", info.path], check=True, capture_output=True)
    assert [inside(info.path, name) for name in ("one", "two", "three", "four")] == [
        "before the snapshot\n", "after the snapshot\n", "after the merge\n", "in the last layer\n",
    ]  # fmt: skip
    assert sorted(os.listdir(Path(info.path).parent)) == [f"{base}{suffix}" for suffix in ("", ".lease", ".meta")]


def test_killed_in_the_middle_of_a_merge_the_next_daemon_ends_it(served: Daemon, guest: Path, tmp_path: Path) -> None:
    served.shell("disk", "upload", str(file_system(tmp_path)), "--name", "root")
    vm_id, job = boot(served, guest), str(uuid.uuid4())
    with served.connect() as host:
        (root,) = host.disk.list()
        host.vm.snapshot(vm_id)
        with Console(host, vm_id) as console:
            do(console, "dd if=/dev/urandom of=/mnt/more bs=1M count=12; sha256sum /mnt/more >/mnt/sum; sync")
        leaf, base = one_chain(host, vm_id, root.id)
        drive = VolumeRef(domain_id=root.storage_id, image_id=root.id, volume_id=leaf)
        host.options(wait=0).vm.merge(vm_id, drive, base, leaf, bandwidth=2, job_uuid=job)
        until("the job is told", lambda: jobs(host, vm_id).get(job, {}).get("end"))
    served.kill()
    served.start()
    with served.connect() as host:
        assert job in jobs(host, vm_id)
        until("the task has ended", lambda: host.task.get(job).state.ended, seconds=60)
        assert host.task.get(job).state is State.DONE
        assert jobs(host, vm_id) == {}
        assert one_chain(host, vm_id, root.id) == [base]
        plug_and_unplug(served, host, vm_id)
        host.vm.freeze(vm_id)
        with pytest.raises(FreezeGuestFSFailed):
            host.vm.freeze(vm_id)
        host.vm.thaw(vm_id)
        with Console(host, vm_id) as console:
            do(console, "cd /; echo 3 >/proc/sys/vm/drop_caches; sha256sum -c /mnt/sum")
    power_off(served, vm_id)
    with served.connect() as host:
        path = host.disk.get_info(root.id).path
    subprocess.run(["e2fsck", "-f", "-n", path], check=True, capture_output=True)


def plug_and_unplug(daemon: Daemon, host: Host, vm_id: str) -> None:
    daemon.shell("disk", "create", "--size", "8M", "data")
    daemon.shell("vm", "hotplug-disk", vm_id, "--disk", "data")
    with Console(host, vm_id) as console:
        until("the guest has it", lambda: "vdb" in do(console, "ls /dev"))
        do(console, "echo written by the guest | dd of=/dev/vdb conv=fsync")
        assert len(links(daemon)) == 2
        daemon.shell("vm", "hotunplug-disk", vm_id, "--disk", "data")
        assert "vdb" not in do(console, "ls /dev")
    assert len(links(daemon)) == 1
    assert layers(host, vm_id, "vdb") == []
    (data,) = [row for row in host.disk.list() if row.name == "data"]
    with open(host.disk.get_info(data.id).path, "rb") as file:
        assert file.readline() == b"written by the guest\n"
    daemon.shell("disk", "delete", "data")


def jobs(host: Host, vm_id: str) -> dict[str, Any]:
    (stats,) = host.vm.get_stats(vm_id)
    return {name: {"cur": job.cur, "end": job.end} for name, job in stats.vm_jobs.items()}

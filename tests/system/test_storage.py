# SPDX-License-Identifier: Apache-2.0
"""The first day with storage, on real files, qemu-img, libvirt and a real guest; and kill -9 at each change."""

from __future__ import annotations

import contextlib
import os
import subprocess
import uuid
from pathlib import Path

import pytest

from harness import blows
from harness.daemon import Daemon
from harness.machines import linux
from harness.until import until
from vdsm.client import Host, Unreachable
from vdsm.contract.errors import Problem
from vdsm.contract.storage_words import DiskContentType, VolumeAllocation, VolumeFormat, VolumeStatus
from vdsm.contract.task import State

MIB = 1 << 20


def contents(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def test_a_guest_writes_to_a_disk_that_outlives_it(daemon: Daemon, guest: Path) -> None:
    daemon.start()
    daemon.shell("storage", "init", f"{daemon.storage}/vm")
    before = contents(daemon.storage)
    for name, kind in (("root", "raw"), ("data", "qcow2")):
        daemon.shell("disk", "create", "--size", "32M", "--format", kind, name)
    (root, data) = (daemon.json("disk", "info", name) for name in ("root", "data"))
    assert [row["name"] for row in daemon.json("disk", "list")] == ["data", "root"]
    assert root["chain"][0]["trueSize"] < MIB, "it is sparse"
    seen = subprocess.run(
        ["qemu-img", "info", "-f", "qcow2", data["path"]], check=True, capture_output=True, text=True
    ).stdout
    assert f"({32 * MIB} bytes)" in seen

    params = linux(daemon.name("a"), guest, daemon.images)
    daemon.shell(
        "vm", "create", "--name", daemon.name("a"), "--memory", "256", "--disk", "root", "--disk", "data",
        "--kernel", str(params.kernel), "--initrd", str(params.initrd), "--cmdline", params.cmdline,
    )  # fmt: skip
    assert daemon.json("disk", "info", "root")["vms"] == [daemon.name("a")]
    assert daemon.shell("storage", "check", "vm").stderr == "Everything is as it should be.\n"
    assert daemon.shell("storage", "check", "vm", "--where", "severity=error").stderr == "(none)\n"
    done = daemon.shell("disk", "delete", "root", ok=False)
    assert done.returncode != 0
    assert "belongs to virtual machine" in done.stderr

    daemon.kill()
    daemon.start()  # it finds its storage again, and who uses it
    (row,) = daemon.json("storage", "list")
    assert (row["name"], row["state"], row["inCharge"]) == ("vm", "active", True)
    assert daemon.json("disk", "info", "data")["vms"] == [daemon.name("a")]

    daemon.shell("vm", "destroy", daemon.name("a"))
    for name in ("root", "data"):
        daemon.shell("disk", "delete", name)
    assert contents(daemon.storage) == before


def test_killed_at_each_change_a_disk_is_whole_or_not_there(daemon: Daemon) -> None:
    blow = daemon.home / "blow"
    blow.write_text("0")

    def start() -> None:
        daemon.start(program=(blows.__file__, str(blow)))

    start()
    daemon.shell("storage", "init", f"{daemon.storage}/vm")
    empty = contents(daemon.storage)
    blow.write_text("0")
    daemon.shell("disk", "create", "--size", "1M", "whole")
    count = len(Path(f"{blow}.passed").read_text().splitlines())
    assert count > 10
    daemon.shell("disk", "delete", "whole")
    for moment in range(2, count + 1, 2):  # after each change; the moments before one equal those after the last
        blow.write_text(str(moment))
        with daemon.connect() as host, contextlib.suppress(Unreachable, Problem):
            host.disk.create("d", size=MIB)
        until("it died", lambda: daemon.process.poll() is not None)
        blow.write_text("0")
        start()
        with daemon.connect() as host:
            until("every task has ended", lambda: all(task.state.ended for task in host.task.list()))
            made = [row for row in host.disk.list() if row.name == "d"]
            newest = host.task.list()[0]
            if newest.verb == "Disk.create" and newest.state is State.DONE and made:
                assert made[0].status is VolumeStatus.OK
                info = host.disk.get_info(made[0].id)
                assert os.path.getsize(info.path) == MIB
                host.disk.delete(made[0].id)
            assert not [row for row in host.disk.list() if row.name == "d"]
            assert contents(daemon.storage) == empty, f"moment {moment}: something was left over"


@pytest.mark.parametrize("moment", range(2, 14, 2))
def test_killed_while_a_disk_is_removed(daemon: Daemon, moment: int) -> None:
    blow = daemon.home / "blow"
    blow.write_text("0")
    daemon.start(program=(blows.__file__, str(blow)))
    with daemon.connect() as host:
        host.storage.init(f"{daemon.storage}/vm")
        empty = contents(daemon.storage)
        made = host.disk.create("d", size=MIB)
        blow.write_text(str(moment))
        with contextlib.suppress(Unreachable, Problem):
            host.disk.delete(made.id)
    with contextlib.suppress(AssertionError):
        until("it died", lambda: daemon.process.poll() is not None, seconds=1)
    if daemon.process.poll() is None:
        daemon.kill()
    blow.write_text("0")
    daemon.start()
    with daemon.connect() as host:
        until("every task has ended", lambda: all(task.state.ended for task in host.task.list()))
        if rows := host.disk.list():  # it died before the task was kept
            assert [row.status for row in rows] == [VolumeStatus.OK]
            host.disk.delete(made.id)
    assert contents(daemon.storage) == empty


def test_killed_at_each_change_a_chain_is_whole(daemon: Daemon) -> None:
    """A second volume for an image: after each blow the check finds nothing, and there is one volume or two."""
    blow = daemon.home / "blow"
    blow.write_text("0")

    def start() -> None:
        daemon.start(program=(blows.__file__, str(blow)))

    start()
    with daemon.connect() as host:
        made = host.storage.init(f"{daemon.storage}/vm")
        base = host.disk.create("d", size=MIB)
        kept = contents(daemon.storage)

        def grow(host: Host, volume_id: str) -> object:
            return host.volume.create(
                volume_id, made.pool, made.id, base.id, MIB, VolumeFormat.COW, VolumeAllocation.SPARSE,
                DiskContentType.DATA, "", base.id, base.chain[0].id,
            )  # fmt: skip

        blow.write_text("0")
        grow(host, str(uuid.uuid4()))
        count = len(Path(f"{blow}.passed").read_text().splitlines())
        host.task.revert(host.task.list()[0].id)
    assert contents(daemon.storage) == kept
    for moment in range(2, count + 1, 2):
        blow.write_text(str(moment))
        with daemon.connect() as host, contextlib.suppress(Unreachable, Problem):
            grow(host, str(uuid.uuid4()))
        until("it died", lambda: daemon.process.poll() is not None)
        blow.write_text("0")
        start()
        with daemon.connect() as host:
            until("every task has ended", lambda: all(task.state.ended for task in host.task.list()))
            assert host.storage.check(made.id) == [], f"moment {moment}"
            newest = host.task.list()[0]
            if len(host.disk.get_info(base.id).chain) > 1:
                assert (newest.verb, newest.state) == ("Volume.create", State.DONE)
                host.task.revert(newest.id)
            assert contents(daemon.storage) == kept, f"moment {moment}: something was left over"

# SPDX-License-Identifier: Apache-2.0
"""A real machine whose disk fails under it goes on by itself when the storage is back."""

from __future__ import annotations

import errno
from pathlib import Path

from harness.daemon import Daemon
from harness.faulty_mount import FaultyMount
from harness.machines import summary
from harness.ports import free_port
from harness.until import until
from vdsm.contract.events import VMStatus
from vdsm.contract.vm_info import VmState
from vdsm.contract.vm_params import Disk, VmParams


def test_storage_fails_under_a_machine_and_comes_back(daemon: Daemon) -> None:
    directory, below = daemon.storage / "bad", daemon.home / "below"
    for path in (directory, below):
        path.mkdir(parents=True)
        path.chmod(0o755)
    daemon.configure(f"[transfers]\nport = {free_port()}\n", storage="monitor_interval_s = 0.3")
    mount = FaultyMount(directory, below)
    try:
        daemon.start()
        fails_under(daemon, mount, directory)
    finally:
        daemon.end()
        mount.mend()


def fails_under(daemon: Daemon, mount: FaultyMount, directory: Path) -> None:
    name = daemon.name("a")
    with daemon.connect() as host:

        def status() -> VmState | None:
            row = summary(host, name)
            return row.status if row is not None else None

        made = host.storage.init(str(directory))
        host.disk.create("d", size=1 << 20)
        params = VmParams(name=name, memory=64, disks=[Disk(path="d")], launch_paused=True, guest_agent=False)
        machine = host.vm.create(params)
        with mount.failing(errno.EIO, "read"):
            host.vm.cont(machine.vm_id)  # the firmware reads the disk
            until("it stops", lambda: host.vm.get_info(machine.vm_id).pause_code == "EOTHER")
            until("it is noticed", lambda: not host.host.get_storage_repo_stats()[made.id].valid)
            assert status() is VmState.PAUSED
        until("it runs", lambda: status() is VmState.UP)
        assert host.host.get_storage_repo_stats()[made.id].code == 0
        told = [event.data for event in host.event.list(subjects=[machine.vm_id]).events]
        assert [event.status for event in told if isinstance(event, VMStatus)][-2:] == ["Paused", "Up"]
        host.vm.destroy(machine.vm_id)

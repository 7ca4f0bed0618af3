# SPDX-License-Identifier: Apache-2.0
"""A disk that is full under the daemon's state: a problem that says so, nothing half-made, and all well afterwards."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.daemon import Daemon
from harness.machines import halting_rom, idle_xml
from vdsm.client import Host
from vdsm.contract import errors
from vdsm.contract.vm_params import VmParams


@pytest.fixture
def small_disk(daemon: Daemon) -> Iterator[Path]:
    """The daemon's state directory, on a disk of four megabytes."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk takes root")
    state = daemon.home / "state"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=755", "tmpfs", str(state)], check=True)
    yield state
    daemon.end()
    subprocess.run(["umount", str(state)], check=True)


def fill(directory: Path) -> Path:
    """To the last byte."""
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65536, 512, 1):
            try:
                while file.write(b"\0" * size):
                    pass
            except OSError:
                continue
    return filler


def test_a_full_disk_is_said_and_survived(daemon: Daemon, small_disk: Path) -> None:
    rom = halting_rom(daemon.images)
    daemon.start()
    with daemon.connect() as host:
        host.vm.define(VmParams(xml=idle_xml(daemon.name("before"), rom)))
        filler = fill(small_disk)
        with pytest.raises(errors.StateUnavailable) as refused:
            _define_until_it_fails(daemon, host, rom)
        assert "space" in str(refused.value) or "full" in str(refused.value)
        left = set(daemon.domains())
        assert left <= {vm.vm_name for vm in host.vm.list()}, "reading goes on, and says the truth"

        filler.unlink()
        host.vm.define(VmParams(xml=idle_xml(daemon.name("after"), rom)))
        assert set(daemon.domains()) == left | {daemon.name("after")}
        assert all(task.state.ended for task in host.task.list())


def _define_until_it_fails(daemon: Daemon, host: Host, rom: Path) -> None:
    """The database may still have some room in its own files."""
    for number in range(2000):
        host.vm.define(VmParams(xml=idle_xml(daemon.name(f"m{number}"), rom)))


def test_it_does_not_start_on_a_full_disk(daemon: Daemon, small_disk: Path) -> None:
    fill(small_disk)
    assert daemon.launch().wait(30) == 1
    assert "state_directory" in daemon.said()
    assert "Traceback" not in daemon.said()

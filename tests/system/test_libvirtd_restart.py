# SPDX-License-Identifier: Apache-2.0
"""libvirtd dies and comes back: machines run on, and what happened meanwhile becomes events."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from harness.daemon import Daemon
from harness.machines import halting_rom, idle_xml, summary
from harness.private_libvirt import PrivateLibvirt, machines
from harness.until import until
from vdsm.client import Host
from vdsm.contract import errors
from vdsm.contract.events import Event, HypervisorBack, HypervisorLost, VMStatus
from vdsm.contract.vm_info import VmState
from vdsm.contract.vm_params import VmParams


@pytest.fixture
def libvirtd(prefix: str) -> Iterator[PrivateLibvirt]:
    if os.geteuid() != 0:
        pytest.skip("a libvirtd of its own takes root")
    made = PrivateLibvirt()
    yield made
    made.close(prefix)


def test_libvirtd_dies_and_comes_back(daemon: Daemon, libvirtd: PrivateLibvirt) -> None:
    rom = halting_rom(daemon.images)
    daemon.start(inside=libvirtd.inside)
    stays, goes = daemon.name("stays"), daemon.name("goes")
    with daemon.connect() as host:
        for name in (stays, goes):
            host.vm.create(VmParams(xml=idle_xml(name, rom)))
        since = host.event.list(since=0, limit=1000).events[-1].id

        libvirtd.kill()
        until("it is noticed", lambda: any(isinstance(e, HypervisorLost) for e in _after(host, since)))
        with pytest.raises(errors.HypervisorUnavailable):
            host.vm.pause(_id(host, stays))
        assert len(machines(stays)) == 1
        for pid in machines(goes):
            os.kill(pid, signal.SIGKILL)

        libvirtd.start()
        until("it is back", lambda: any(isinstance(e, HypervisorBack) for e in _after(host, since)), seconds=40)
        until("the loss is told", lambda: _told_down(_after(host, since), goes))
        assert _state(host, stays) is VmState.UP
        assert _state(host, goes) is VmState.DOWN
        assert not any(
            isinstance(e, VMStatus) and e.vm_name == stays and e.status == "Down" for e in _after(host, since)
        )
        host.vm.pause(_id(host, stays))
        assert _state(host, stays) is VmState.PAUSED
        host.vm.destroy(_id(host, stays))


def test_it_waits_for_a_libvirtd_that_comes_later(daemon: Daemon, libvirtd: PrivateLibvirt) -> None:
    libvirtd.kill()
    daemon.start(inside=libvirtd.inside)
    with daemon.connect() as host:
        with pytest.raises(errors.HypervisorUnavailable):
            host.vm.list()
        libvirtd.start()
        until("machines can be listed", lambda: _lists(host), seconds=40)


def _after(host: Host, since: int) -> list[Event]:
    return [record.data for record in host.event.list(since=since, limit=1000).events]


def _told_down(events: list[Event], name: str) -> bool:
    return any(isinstance(e, VMStatus) and e.vm_name == name and e.status == VmState.DOWN for e in events)


def _state(host: Host, name: str) -> VmState | None:
    row = summary(host, name)
    return row.status if row else None


def _id(host: Host, name: str) -> str:
    row = summary(host, name)
    assert row is not None
    return row.vm_id


def _lists(host: Host) -> bool:
    try:
        host.vm.list()
    except errors.HypervisorUnavailable:
        return False
    return True

# SPDX-License-Identifier: Apache-2.0
"""Two daemons on one broker, one with real machines: seen at a glance, and a guest led from its making to its end."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from harness.daemon import Daemon
from harness.machines import linux
from harness.on_bus import bus_table, connect, password
from harness.rabbitmq import RabbitMQ
from harness.simulated import simulated
from harness.until import BUSY
from vdsm.client.qmf.fleet import Fleet
from vdsm.contract.errors import NoSuchVM
from vdsm.contract.events import EventFilter, EventRecord, VMStatus
from vdsm.contract.vm_info import VmState


@pytest.fixture
def real(daemon: Daemon, rabbitmq: RabbitMQ) -> Daemon:
    daemon.configure(bus_table(daemon.home, rabbitmq, daemon.name("real")))
    daemon.start()
    return daemon


@pytest.fixture
def other(tmp_path: Path, rabbitmq: RabbitMQ, prefix: str) -> Iterator[Daemon]:
    with simulated(tmp_path, 3, bus_table(tmp_path, rabbitmq, f"{prefix}-simulated", "host-b")) as made:
        yield made


@pytest.fixture
def fleet(rabbitmq: RabbitMQ) -> Iterator[Fleet]:
    with connect(rabbitmq) as made:
        yield made


def vdsmsh(home: Path, broker: RabbitMQ, *words: str) -> Any:
    address = broker.url().replace("://", "://engine@")
    done = subprocess.run(
        [Path(sys.executable).parent / "vdsmsh", "--bus", address, "--token-file", password(home, "engine"),
         "--output", "json", *words],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60 * BUSY,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout or "null")


def test_a_guest_from_its_making_to_its_end(
    real: Daemon, other: Daemon, rabbitmq: RabbitMQ, fleet: Fleet, guest: Path, prefix: str
) -> None:
    rows = {row["name"]: row for row in vdsmsh(real.home, rabbitmq, "host", "list") if row["name"].startswith(prefix)}
    assert rows.keys() == {f"{prefix}-real", f"{prefix}-simulated"}
    assert {row["state"] for row in rows.values()} == {"up"}
    assert rows[f"{prefix}-simulated"]["vmActive"] == 3

    hosts = [host for host in fleet.hosts() if host.name.startswith(prefix)]
    assert len(hosts) == 2
    events = fleet.events(EventFilter(types=["VM_status"]), since=0)
    there = fleet.host(f"{prefix}-real")
    name = real.name("linux")
    made = there.vm.create(linux(name, guest, real.images))

    def wait_for(status: VmState) -> None:
        """As broadcast by the host that has it, and no other."""
        for host, item in events:
            assert isinstance(item, EventRecord)
            assert isinstance(item.data, VMStatus)
            if item.data.vm_id == made.vm_id:
                assert host.name == f"{prefix}-real"
                if item.data.status == status:
                    return

    wait_for(VmState.UP)
    assert real.domains()[name].state()[0] == libvirt.VIR_DOMAIN_RUNNING
    vdsmsh(real.home, rabbitmq, "--host", f"{prefix}-real", "vm", "pause", name)
    wait_for(VmState.PAUSED)
    assert real.domains()[name].state()[0] == libvirt.VIR_DOMAIN_PAUSED
    there.vm.cont(made.vm_id)
    wait_for(VmState.UP)
    (machine,) = fleet.query(there.known, "VM", ["eq", "vmName", ["quote", name]])
    assert machine.values["status"] == VmState.UP
    there.vm.destroy(made.vm_id)
    wait_for(VmState.DOWN)
    events.close()
    with pytest.raises(NoSuchVM):
        there.vm.get_info(made.vm_id)
    assert real.domains() == {}
    assert all(row["status"] == "Up" for row in vdsmsh(real.home, rabbitmq, "--host", f"{prefix}-sim", "vm", "list"))

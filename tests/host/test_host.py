# SPDX-License-Identifier: Apache-2.0
"""The verbs about the host, on a host in memory and on this computer."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator

import msgspec
import pytest

from vdsm.contract import AnyVerb, host
from vdsm.contract.access import Role
from vdsm.contract.codec import from_json, to_json
from vdsm.contract.errors import HypervisorUnavailable, NoSuchLogger
from vdsm.contract.host import LogLevel
from vdsm.contract.host_capabilities import Capabilities
from vdsm.contract.host_stats import HostStats
from vdsm.core.caller import Caller
from vdsm.core.handlers import handlers_of
from vdsm.core.host.host import Host
from vdsm.core.host.stats import VmCounts
from vdsm.core.ports.deadline import within
from vdsm.drivers.linux.machine import LinuxMachine
from vdsm.drivers.netlink.links import LinuxLinks
from vdsm.drivers.simulated import Faults, SimulatedHypervisor
from vdsm.drivers.simulated.computer import SimulatedMachine
from vdsm.drivers.simulated.faults import Fault
from vdsm.drivers.simulated.links import SimulatedLinks

COUNTS = VmCounts(total=3, active=2, migrating=1)


class Setting:
    """A host whose clock is moved by hand."""

    def __init__(self) -> None:
        self.now = time.monotonic()
        self.faults = Faults()
        self.machine = SimulatedMachine()
        hypervisor = SimulatedHypervisor(self.faults)
        self.host = Host(self.machine, SimulatedLinks(), hypervisor, lambda: COUNTS, dict, lambda: self.now)
        self.handlers = {mark.verb.method: handler for mark, handler in handlers_of(self.host)}

    async def call(self, verb: AnyVerb, *positional: object, **named: object) -> object:
        return await self.handlers[verb.method](CONTEXT, *positional, **named)

    async def capabilities(self) -> Capabilities:
        found = await self.call(host.get_capabilities)
        assert isinstance(found, Capabilities)
        return found

    async def stats(self) -> HostStats:
        found = await self.call(host.get_stats)
        assert isinstance(found, HostStats)
        return found


class Context:
    caller = Caller(identity="uid:0", channel="test", role=Role.ADMIN)
    flow_id = "test"


CONTEXT = Context()


def test_the_verbs_it_answers() -> None:
    assert set(Setting().handlers) == {
        "Host.ping", "Host.ping2", "Host.echo", "Host.setLogLevel", "Host.getCapabilities", "Host.getHardwareInfo",
        "Host.getStats",
    }  # fmt: skip


async def test_ping_and_echo() -> None:
    setting = Setting()
    assert await setting.call(host.ping) is None
    assert await setting.call(host.ping2) is None
    assert await setting.call(host.echo, "\u2603") == "\u2603"


async def test_an_unknown_logger_is_a_problem() -> None:
    with pytest.raises(NoSuchLogger):
        await Setting().call(host.set_log_level, LogLevel.INFO, name="no.such.logger")


async def test_stats_count_the_machines() -> None:
    stats = await Setting().stats()
    assert (stats.vm_count, stats.vm_active, stats.vm_migrating) == (3, 2, 1)


async def test_percents_are_of_the_time_since_the_last_call() -> None:
    setting = Setting()
    await setting.host.start()
    setting.now += 2
    stats = await setting.stats()
    assert stats.elapsed_time == 2
    assert (stats.cpu_user, stats.cpu_sys, stats.cpu_idle) == pytest.approx((4, 1, 95), abs=0.01)
    assert set(stats.cpu_statistics) == {str(n) for n in range(8)}
    assert stats.cpu_statistics["7"].node_index == 1


async def test_capabilities_without_libvirt_are_the_ones_known() -> None:
    setting = Setting()
    before = await setting.capabilities()
    setting.faults.disconnect()
    assert await setting.capabilities() == before


async def test_capabilities_that_were_never_known_are_a_problem() -> None:
    setting = Setting()
    setting.faults.disconnect()
    with pytest.raises(HypervisorUnavailable):
        await setting.capabilities()
    setting.faults.reconnect()
    assert (await setting.capabilities()).emulated_machines


async def test_a_libvirt_that_hangs_costs_two_seconds_at_most() -> None:
    setting = Setting()
    before = await setting.capabilities()
    setting.faults.set("facts", Fault(hang=True))
    began = time.monotonic()
    assert await setting.capabilities() == before
    assert time.monotonic() - began < 3
    setting.faults.clear()


async def test_a_computer_that_is_slow_does_not_keep_the_daemon_from_starting() -> None:
    setting = Setting()
    setting.machine.delay = 60
    with within(0.05):
        await setting.host.start()
    setting.machine.delay = 0
    assert (await setting.stats()).cpu_statistics


async def test_hardware() -> None:
    found = await Setting().call(host.get_hardware_info)
    assert msgspec.to_builtins(found) == {
        "systemManufacturer": "vdsm", "systemProductName": "Simulated host", "systemVersion": "1",
        "systemSerialNumber": "0", "systemFamily": "", "systemUUID": "5f0c1a3e-6d0b-4d0f-9a55-0d7a3e1c2b11",
    }  # fmt: skip


# ---- this computer ---------------------------------------------------------------------------------------------------


@pytest.fixture
async def here() -> AsyncIterator[Host]:
    machine, links = LinuxMachine(), LinuxLinks()
    yield Host(machine, links, SimulatedHypervisor(), VmCounts, dict)
    await machine.close()
    await links.close()


async def test_this_computer(here: Host) -> None:
    handlers = {mark.verb.method: handler for mark, handler in handlers_of(here)}
    caps = await handlers["Host.getCapabilities"](CONTEXT)
    assert isinstance(caps, Capabilities)
    assert caps.cpu_threads == len(caps.online_cpus) == os.sysconf("SC_NPROCESSORS_ONLN")
    assert caps.mem_size == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
    assert caps.boot_time == pytest.approx(time.time() - time.clock_gettime(time.CLOCK_BOOTTIME), abs=3)
    told = subprocess.run(["ip", "-j", "address"], capture_output=True, check=True)
    addresses = {
        f"{address['local']}/{address['prefixlen']}"
        for link in json.loads(told.stdout)
        if link["ifname"] in caps.nics
        for address in link["addr_info"]
    }
    assert {a for nic in caps.nics.values() for a in (*nic.ipv4addrs, *nic.ipv6addrs)} == addresses
    assert from_json(to_json(caps), Capabilities) == caps


async def test_this_computers_stats(here: Host) -> None:
    await here.start()
    handlers = {mark.verb.method: handler for mark, handler in handlers_of(here)}
    stats = await handlers["Host.getStats"](CONTEXT)
    caps = await handlers["Host.getCapabilities"](CONTEXT)
    assert isinstance(stats, HostStats)
    assert isinstance(caps, Capabilities)
    assert stats.cpu_user + stats.cpu_sys + stats.cpu_idle == pytest.approx(100, abs=0.05)
    assert set(stats.network) <= {*caps.nics, *caps.bondings, *caps.vlans, *caps.bridges}
    assert set(stats.numa_node_mem_free) == set(caps.numa_nodes)
    assert set(stats.hugepages) == {str(size) for size in caps.hugepages}
    said = datetime.datetime.strptime(stats.date_time, "%Y-%m-%dT%H:%M:%S GMT").replace(tzinfo=datetime.UTC)
    assert said.timestamp() == pytest.approx(time.time(), abs=5)
    assert from_json(to_json(stats), HostStats) == stats


@pytest.mark.parametrize(
    ("reached", "interface"),
    [
        ("192.0.2.10", "vdsmbr0"),
        ("198.51.100.10", "bond0.100"),
        ("fe80::5054:ff:fe00:1", "vdsmbr0"),
        ("127.0.0.1", ""),
        ("", ""),
    ],
)
async def test_the_interface_the_caller_came_by(monkeypatch: pytest.MonkeyPatch, reached: str, interface: str) -> None:
    monkeypatch.setattr(Context, "caller", msgspec.structs.replace(Context.caller, reached=reached))
    assert (await Setting().capabilities()).last_client_iface == interface

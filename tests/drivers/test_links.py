# SPDX-License-Identifier: Apache-2.0
"""The `Links` port: one suite for the real and the simulated network; then the real one in its own namespace."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from vdsm.contract.errors import DeadlineExceeded
from vdsm.core.ports.deadline import within
from vdsm.core.ports.links import Address, DefaultRoute, LinkKind, Links, LinkSample, Network
from vdsm.drivers.netlink.links import LinuxLinks
from vdsm.drivers.netlink.sysfs import read_sample, with_details
from vdsm.drivers.simulated.links import SimulatedLinks


@pytest.fixture(params=["linux", "simulated"])
async def links(request: pytest.FixtureRequest) -> AsyncIterator[Links]:
    made: Links = LinuxLinks() if request.param == "linux" else SimulatedLinks()
    yield made
    await made.close()


# ---- the port --------------------------------------------------------------------------------------------------------


async def test_links_are_sorted_and_named_once(links: Links) -> None:
    names = [link.name for link in (await links.read()).links]
    assert names
    assert names == sorted(set(names))


async def test_parts_belong_to_kinds(links: Links) -> None:
    for link in (await links.read()).links:
        assert (link.bond is not None) == (link.kind is LinkKind.BOND)
        assert (link.vlan is not None) == (link.kind is LinkKind.VLAN)
        assert (link.bridge is not None) == (link.kind is LinkKind.BRIDGE)


async def test_masters_and_routes_name_links(links: Links) -> None:
    network = await links.read()
    names = {link.name for link in network.links}
    assert {link.master for link in network.links} - {""} <= names
    assert {route.link for route in network.routes} <= names


async def test_sample_counts_all_and_watches_some(links: Links) -> None:
    before = {link.name for link in (await links.read()).links}
    sample = await links.sample(["lo", "no-such-link"])
    after = {link.name for link in (await links.read()).links}
    assert before & after <= set(sample.counters) <= before | after
    assert set(sample.states) == {"lo"}


async def test_counters_and_clock_move_forward(links: Links) -> None:
    older, newer = await links.sample(()), await links.sample(())
    assert newer.taken >= older.taken
    for name, counters in newer.counters.items():
        assert name not in older.counters or counters.rx_bytes >= older.counters[name].rx_bytes


async def test_a_slow_simulated_network_meets_the_deadline() -> None:
    with within(0.05), pytest.raises(DeadlineExceeded):
        await SimulatedLinks(delay=5).read()


# ---- the real one in a namespace of its own --------------------------------------------------------------------------

HOSTILE = b'a\x1b[3"1m'
NOT_UTF8 = b"\xff\xfe"
READ = """
import asyncio, sys, msgspec
from vdsm.drivers.netlink.links import LinuxLinks

async def main():
    links = LinuxLinks()
    network = await links.read()
    sample = await links.sample([link.name for link in network.links])
    await links.close()
    sys.stdout.buffer.write(msgspec.json.encode([network, sample]))

asyncio.run(main())
"""


def ip(*arguments: str | bytes) -> str:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True, errors="replace").stdout


@pytest.fixture
def namespace() -> Iterator[str]:
    if os.geteuid() != 0:
        pytest.skip("making a network namespace needs root")
    name = f"vdsmtest-{secrets.token_hex(4)}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no network namespaces here: {made.stderr}")
    yield name
    ip("netns", "delete", name)


def read_in(namespace: str) -> tuple[Network, LinkSample]:
    argv = ["ip", "netns", "exec", namespace, sys.executable, "-c", READ]
    done = subprocess.run(argv, capture_output=True, check=True)
    return msgspec.json.decode(done.stdout, type=tuple[Network, LinkSample])


def test_a_bridge_with_a_port_address_and_routes(namespace: str) -> None:
    ip("-n", namespace, "link", "add", "br0", "type", "bridge", "stp_state", "1", "forward_delay", "400")
    ip("-n", namespace, "link", "add", "v0", "type", "veth", "peer", "name", "v1")
    ip("-n", namespace, "link", "set", "v0", "master", "br0", "mtu", "1400")
    for name in ("br0", "v0", "v1"):
        ip("-n", namespace, "link", "set", name, "up")
    ip("-n", namespace, "address", "add", "192.0.2.5/24", "dev", "br0")
    ip("-n", namespace, "address", "add", "192.0.2.6/24", "dev", "br0", "valid_lft", "900", "preferred_lft", "900")
    ip("-n", namespace, "address", "add", "fd01::5/64", "dev", "br0", "nodad")
    ip("-n", namespace, "route", "add", "default", "via", "192.0.2.1", "proto", "dhcp", "metric", "7")
    ip("-n", namespace, "route", "add", "default", "via", "192.0.2.9", "table", "55")
    ip("-n", namespace, "-6", "route", "add", "default", "via", "fd01::1")
    network, sample = read_in(namespace)
    found = {link.name: link for link in network.links}
    bridge, port = found["br0"], found["v0"]
    assert (bridge.kind, port.kind, port.master, found["v1"].master) == (LinkKind.BRIDGE, LinkKind.VETH, "br0", "")
    assert bridge.bridge is not None
    assert bridge.bridge.stp
    assert bridge.bridge.options["forward_delay"] == "400"
    assert "hello_timer" not in bridge.bridge.options
    assert (port.mtu, port.speed, bridge.speed) == (1400, 10000, 0)
    told = {link["ifname"]: link for link in json.loads(ip("-n", namespace, "-j", "link"))}
    assert {name: link.mac for name, link in found.items()} == {n: t["address"] for n, t in told.items()}
    assert bridge.addresses[:2] == [
        Address(ip="192.0.2.5", prefix=24),
        Address(ip="192.0.2.6", prefix=24, dynamic=True),
    ]
    assert Address(ip="fd01::5", prefix=64) in bridge.addresses
    assert network.routes == [
        DefaultRoute(link="br0", gateway="192.0.2.1", dhcp=True, metric=7),
        DefaultRoute(link="br0", gateway="192.0.2.9", main=False),
        DefaultRoute(link="br0", gateway="fd01::1", v6=True, metric=1024),
    ]
    assert network.ipv6
    assert sample.states["v1"].up is True
    assert sample.states["lo"].up is False


def test_links_of_guests_and_hosts_are_told_apart(namespace: str) -> None:
    ip("-n", namespace, "tuntap", "add", "tap0", "mode", "tap")
    ip("-n", namespace, "link", "set", "lo", "up")
    network, sample = read_in(namespace)
    kinds = {link.name: link.kind for link in network.links}
    assert kinds == {"lo": LinkKind.LOOPBACK, "tap0": LinkKind.TAP}
    assert sample.states["tap0"].up is False
    assert sample.states["lo"].up is True  # its driver says "unknown"; it has a carrier
    assert network.routes == []


def test_hostile_names_are_clean_and_still_read(namespace: str) -> None:
    ip("-n", namespace, "link", "add", HOSTILE, "type", "veth", "peer", "name", NOT_UTF8)
    ip("-n", namespace, "link", "set", HOSTILE, "up")
    ip("-n", namespace, "link", "set", NOT_UTF8, "up")
    network, sample = read_in(namespace)
    shown = {'a[3"1m', "\ufffd\ufffd"}
    assert {link.name for link in network.links} == {"lo"} | shown
    assert set(sample.counters) == {"lo"} | shown
    for name in shown:
        assert sample.states[name].up is True
        assert sample.states[name].speed == 10000


def test_counters_are_the_kernels(namespace: str) -> None:
    ip("-n", namespace, "link", "set", "lo", "up")
    ip("netns", "exec", namespace, "bash", "-c", "for i in 1 2 3; do echo x > /dev/udp/127.0.0.1/9; done")
    _, sample = read_in(namespace)
    [told] = json.loads(ip("-n", namespace, "-j", "-s", "link", "show", "lo"))
    assert sample.counters["lo"].rx_bytes == told["stats64"]["rx"]["bytes"] > 0
    assert sample.counters["lo"].tx_bytes == told["stats64"]["tx"]["bytes"]


# ---- files that say odd things ---------------------------------------------------------------------------------------


async def test_odd_files(tmp_path: Path) -> None:
    network = SimulatedLinks().network
    head = "Inter-|\n face |\n"
    rows = "".join(f"{link.name}: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n" for link in network.links)
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/dev").write_text(head + rows)
    for name, speed, state in (("eth0", "-1", "dormant"), ("eth1", "4294967295", "up"), ("eth2", "x", "\x00")):
        (tmp_path / "sys/class/net" / name).mkdir(parents=True)
        (tmp_path / "sys/class/net" / name / "speed").write_text(speed)
        (tmp_path / "sys/class/net" / name / "operstate").write_text(state)
    sample = read_sample(tmp_path, {"eth0", "eth1", "eth2"})
    assert {name: (state.up, state.speed) for name, state in sample.states.items()} == {
        "eth0": (False, 0), "eth1": (True, 0), "eth2": (None, 0),
    }  # fmt: skip
    assert sample.counters["eth0"].tx_dropped == 12
    assert [link.speed for link in with_details(tmp_path, network.links)] == [0] * len(network.links)


async def test_nothing_there(tmp_path: Path) -> None:
    sample = read_sample(tmp_path, {"eth0"})
    assert (sample.counters, sample.states) == ({}, {})

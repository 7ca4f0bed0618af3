# SPDX-License-Identifier: Apache-2.0
"""The `Links` port in memory: a bridge with the host's address, and a VLAN on a bond."""

from __future__ import annotations

import time
from collections.abc import Collection

from vdsm.core.ports.links import (
    Address,
    BondPart,
    BridgePart,
    DefaultRoute,
    Link,
    LinkCounters,
    LinkKind,
    LinkSample,
    LinkState,
    Network,
    VlanPart,
)

from .delay import delayed

_RX_BYTES_PER_S = 2048
_TX_BYTES_PER_S = 1024
_SPEED = 10_000


def _nic(name: str, number: int, *, master: str) -> Link:
    mac = f"52:54:00:00:00:{number:02x}"
    return Link(name=name, kind=LinkKind.PHYSICAL, mac=mac, mtu=1500, speed=_SPEED, master=master)


NETWORK = Network(
    links=[
        Link(
            name="bond0",
            kind=LinkKind.BOND,
            mac="52:54:00:00:00:02",
            mtu=9000,
            speed=_SPEED,
            bond=BondPart(active="eth1", options={"mode": "active-backup", "miimon": "100"}),
        ),
        Link(
            name="bond0.100",
            kind=LinkKind.VLAN,
            mac="52:54:00:00:00:02",
            mtu=9000,
            speed=_SPEED,
            addresses=[Address(ip="198.51.100.10", prefix=24)],
            vlan=VlanPart(base="bond0", id=100),
        ),
        _nic("eth0", 1, master="vdsmbr0"),
        _nic("eth1", 2, master="bond0"),
        _nic("eth2", 3, master="bond0"),
        Link(name="lo", kind=LinkKind.LOOPBACK, mtu=65536, addresses=[Address(ip="127.0.0.1", prefix=8)]),
        Link(
            name="vdsmbr0",
            kind=LinkKind.BRIDGE,
            mac="52:54:00:00:00:01",
            mtu=1500,
            addresses=[Address(ip="192.0.2.10", prefix=24), Address(ip="fe80::5054:ff:fe00:1", prefix=64)],
            bridge=BridgePart(options={"forward_delay": "0"}),
        ),
    ],
    routes=[DefaultRoute(link="vdsmbr0", gateway="192.0.2.1")],
    nameservers=["192.0.2.53"],
    ipv6=True,
)


class SimulatedLinks:
    """`network` may be replaced at any time. Every answer takes `delay` seconds."""

    def __init__(self, network: Network = NETWORK, delay: float = 0.0) -> None:
        self.network = network
        self.delay = delay

    async def read(self) -> Network:
        await delayed("the network", self.delay)
        return self.network

    async def sample(self, watched: Collection[str]) -> LinkSample:
        await delayed("the network", self.delay)
        now = time.monotonic()
        counters = LinkCounters(rx_bytes=int(now * _RX_BYTES_PER_S), tx_bytes=int(now * _TX_BYTES_PER_S))
        return LinkSample(
            taken=now,
            counters={link.name: counters for link in self.network.links},
            states={
                link.name: LinkState(up=True, speed=link.speed) for link in self.network.links if link.name in watched
            },
        )

    async def close(self) -> None:
        return None

# SPDX-License-Identifier: Apache-2.0
"""The host's network interfaces, addresses and routes, as the kernel knows them.

Names come without control characters. What cannot be read is empty, zero or None; a method only raises
DeadlineExceeded, when the kernel does not answer in the time `deadline.remaining` leaves, and TooBusy.
"""

from __future__ import annotations

import enum
from collections.abc import Collection
from typing import Protocol

import msgspec


class LinkKind(enum.StrEnum):
    PHYSICAL = "physical"
    LOOPBACK = "loopback"
    BOND = "bond"
    VLAN = "vlan"
    BRIDGE = "bridge"
    VETH = "veth"
    DUMMY = "dummy"
    TAP = "tap"
    OTHER = "other"


class Address(msgspec.Struct, frozen=True, kw_only=True):
    ip: str
    prefix: int
    dynamic: bool = False  # has a lifetime: DHCP or router advertisement

    @property
    def v6(self) -> bool:
        return ":" in self.ip


class BondPart(msgspec.Struct, frozen=True, kw_only=True):
    active: str = ""
    options: dict[str, str] = {}  # by the kernel's names; mode in words
    aggregator: int | None = None
    partner_mac: str = ""


class VlanPart(msgspec.Struct, frozen=True, kw_only=True):
    base: str
    id: int


class BridgePart(msgspec.Struct, frozen=True, kw_only=True):
    stp: bool = False
    options: dict[str, str] = {}  # by the kernel's names


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """One interface."""

    name: str
    kind: LinkKind
    mac: str = ""
    permanent_mac: str = ""  # while a bond gives it another
    aggregator: int | None = None  # of a bond's port
    mtu: int = 0
    speed: int = 0  # Mbit/s
    master: str = ""  # the bond or bridge it is a port of
    addresses: list[Address] = []
    ipv6_autoconf: bool = False
    bond: BondPart | None = None
    vlan: VlanPart | None = None
    bridge: BridgePart | None = None


class DefaultRoute(msgspec.Struct, frozen=True, kw_only=True):
    link: str
    gateway: str  # "" when the link itself is the way
    v6: bool = False
    main: bool = True  # of the host's main table
    dhcp: bool = False
    metric: int = 0


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """All of it at one moment."""

    links: list[Link] = []
    routes: list[DefaultRoute] = []
    nameservers: list[str] = []
    ipv6: bool = False


class LinkCounters(msgspec.Struct, frozen=True, kw_only=True):
    """Since the link appeared."""

    rx_bytes: int = 0
    rx_errors: int = 0
    rx_dropped: int = 0
    tx_bytes: int = 0
    tx_errors: int = 0
    tx_dropped: int = 0


class LinkState(msgspec.Struct, frozen=True, kw_only=True):
    up: bool | None  # None: the kernel cannot tell
    speed: int = 0  # Mbit/s


class LinkSample(msgspec.Struct, frozen=True, kw_only=True):
    taken: float  # seconds of the monotonic clock
    counters: dict[str, LinkCounters] = {}  # of every link
    states: dict[str, LinkState] = {}  # of the watched ones


class Links(Protocol):
    """Everything the core asks of the network."""

    async def read(self) -> Network: ...

    async def sample(self, watched: Collection[str]) -> LinkSample: ...

    async def close(self) -> None: ...

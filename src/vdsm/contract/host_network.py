# SPDX-License-Identifier: Apache-2.0
"""The host's networks, by the published names, with true types."""

from __future__ import annotations

import enum

import msgspec

from .types import Output


class SwitchType(enum.StrEnum):
    LEGACY = "legacy"  # a Linux bridge
    OVS = "ovs"


class NetInfo(Output, frozen=True, kw_only=True):
    """What every kind of interface has."""

    addr: str  # the first IPv4 address; "" without
    netmask: str
    ipv4addrs: list[str]  # "192.0.2.10/24"
    gateway: str  # "" without
    ipv4defaultroute: bool  # the host's own default route leaves here
    dhcpv4: bool
    ipv6addrs: list[str]  # "fe80::1/64"
    ipv6gateway: str  # "::" without
    dhcpv6: bool
    ipv6autoconf: bool
    mtu: int
    speed: int  # Mbit/s; 0: unknown


class NetInfoNic(NetInfo, frozen=True, kw_only=True):
    hwaddr: str
    permhwaddr: str | None = None  # its own address while a bond gives it another
    ad_aggregator_id: int | None = msgspec.field(name="ad_aggregator_id", default=None)


class NetInfoBond(NetInfo, frozen=True, kw_only=True):
    hwaddr: str
    slaves: list[str]
    active_slave: str = msgspec.field(name="active_slave")  # "" where the mode has none
    opts: dict[str, str]  # the kernel's options; `mode` as its number
    switch: SwitchType = SwitchType.LEGACY
    ad_aggregator_id: int | None = msgspec.field(name="ad_aggregator_id", default=None)
    ad_partner_mac: str | None = msgspec.field(name="ad_partner_mac", default=None)


class NetInfoVlan(NetInfo, frozen=True, kw_only=True):
    """A VLAN of a NIC or a bond."""

    iface: str
    vlanid: int


class NetInfoBridge(NetInfo, frozen=True, kw_only=True):
    ports: list[str]
    stp: bool
    opts: dict[str, str]  # the kernel's options, times in hundredths of a second


class NetInfoNetwork(NetInfo, frozen=True, kw_only=True):
    """A network that machines can be attached to: each bridge is one."""

    iface: str
    bridged: bool
    switch: SwitchType
    ports: list[str]
    stp: bool
    opts: dict[str, str]

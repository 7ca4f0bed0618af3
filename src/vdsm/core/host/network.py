# SPDX-License-Identifier: Apache-2.0
"""Links, addresses and routes -> the published picture of the host's networks."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import NamedTuple, TypedDict

from vdsm.contract.host_network import (
    NetInfoBond,
    NetInfoBridge,
    NetInfoNetwork,
    NetInfoNic,
    NetInfoVlan,
    SwitchType,
)
from vdsm.core.ports.links import BondPart, BridgePart, DefaultRoute, Link, LinkKind, Network

# A virtual pair or a dummy may carry the host's traffic, as in a container; a tap is a guest's.
_NIC_KINDS = (LinkKind.PHYSICAL, LinkKind.VETH, LinkKind.DUMMY)
# The published option is the number.
_BOND_MODES = ("balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb")
_NO_MAC = "00:00:00:00:00:00"
_HOST_PREFIX_V6 = 128  # DHCPv6 gives single addresses; router advertisements give them with their network


class Picture(NamedTuple):
    """Every interface by name. Loopback, taps of guests and tunnels are not in it."""

    nics: dict[str, NetInfoNic]
    bondings: dict[str, NetInfoBond]
    vlans: dict[str, NetInfoVlan]
    bridges: dict[str, NetInfoBridge]
    networks: dict[str, NetInfoNetwork]
    nameservers: list[str]
    ipv6: bool

    def names(self) -> frozenset[str]:
        return frozenset((*self.nics, *self.bondings, *self.vlans, *self.bridges))

    def with_address(self, address: str) -> str:
        """The name of the interface that has it; empty for none of these, as for loopback."""
        for interfaces in (self.bridges, self.bondings, self.vlans, self.nics):
            for name, info in interfaces.items():
                if address in [with_prefix.partition("/")[0] for with_prefix in (*info.ipv4addrs, *info.ipv6addrs)]:
                    return name
        return ""


def draw(network: Network) -> Picture:
    ports: dict[str, list[str]] = {}
    for link in network.links:
        ports.setdefault(link.master, []).append(link.name)
    bonds = {link.name for link in network.links if link.bond is not None}
    picture = Picture({}, {}, {}, {}, {}, network.nameservers, network.ipv6)
    for link in network.links:
        common = _common(link, network.routes)
        if link.kind in _NIC_KINDS:
            picture.nics[link.name] = _nic(link, common, enslaved=link.master in bonds)
        elif link.bond is not None:
            picture.bondings[link.name] = _bond(link, link.bond, common, ports.get(link.name, []))
        elif link.bridge is not None:
            picture.bridges[link.name] = _bridge(link.bridge, common, ports.get(link.name, []))
            picture.networks[link.name] = _network(link, link.bridge, common, ports.get(link.name, []))
    for link in network.links:
        # Readers of the published form look the base up among NICs and bonds and fail without it, so a VLAN of
        # anything else is not in the picture.
        if link.vlan is not None and (link.vlan.base in picture.nics or link.vlan.base in picture.bondings):
            common = _common(link, network.routes)
            picture.vlans[link.name] = NetInfoVlan(**common, iface=link.vlan.base, vlanid=link.vlan.id)
    return picture


class _Common(TypedDict):
    """The fields of NetInfo."""

    addr: str
    netmask: str
    ipv4addrs: list[str]
    gateway: str
    ipv4defaultroute: bool
    dhcpv4: bool
    ipv6addrs: list[str]
    ipv6gateway: str
    dhcpv6: bool
    ipv6autoconf: bool
    mtu: int
    speed: int


def _common(link: Link, routes: Iterable[DefaultRoute]) -> _Common:
    ordered = sorted(routes, key=lambda r: (not r.main, r.metric))
    v4 = [a for a in link.addresses if not a.v6]
    v6 = [a for a in link.addresses if a.v6]
    first = ipaddress.ip_interface(f"{v4[0].ip}/{v4[0].prefix}") if v4 else None
    ways4 = [r for r in ordered if not r.v6]
    mine4 = [r for r in ways4 if r.link == link.name]
    mine6 = [r for r in ordered if r.v6 and r.link == link.name]
    return _Common(
        addr=str(first.ip) if first else "",
        netmask=str(first.netmask) if first else "",
        ipv4addrs=[f"{a.ip}/{a.prefix}" for a in v4],
        gateway=mine4[0].gateway if mine4 else "",
        ipv4defaultroute=bool(ways4) and ways4[0].main and ways4[0].link == link.name,
        dhcpv4=any(a.dynamic for a in v4) or any(r.dhcp for r in mine4),
        ipv6addrs=[f"{a.ip}/{a.prefix}" for a in v6],
        ipv6gateway=(mine6[0].gateway if mine6 else "") or "::",
        dhcpv6=any(a.dynamic and a.prefix == _HOST_PREFIX_V6 for a in v6),
        ipv6autoconf=link.ipv6_autoconf,
        mtu=link.mtu,
        speed=link.speed,
    )


def _nic(link: Link, common: _Common, *, enslaved: bool) -> NetInfoNic:
    return NetInfoNic(
        **common,
        hwaddr=link.mac,
        permhwaddr=(link.permanent_mac or link.mac) if enslaved else None,
        ad_aggregator_id=link.aggregator if enslaved else None,
    )


def _bond(link: Link, bond: BondPart, common: _Common, ports: list[str]) -> NetInfoBond:
    options = dict(bond.options)
    if (mode := options.get("mode")) in _BOND_MODES:
        options["mode"] = str(_BOND_MODES.index(mode))
    return NetInfoBond(
        **common,
        hwaddr=link.mac,
        slaves=ports,
        active_slave=bond.active,
        opts=options,
        ad_aggregator_id=bond.aggregator,
        ad_partner_mac=bond.partner_mac if bond.partner_mac not in ("", _NO_MAC) else None,
    )


def _bridge(bridge: BridgePart, common: _Common, ports: list[str]) -> NetInfoBridge:
    return NetInfoBridge(**common, ports=ports, stp=bridge.stp, opts=bridge.options)


def _network(link: Link, bridge: BridgePart, common: _Common, ports: list[str]) -> NetInfoNetwork:
    return NetInfoNetwork(
        **common,
        iface=link.name,
        bridged=True,
        switch=SwitchType.LEGACY,
        ports=ports,
        stp=bridge.stp,
        opts=bridge.options,
    )

# SPDX-License-Identifier: Apache-2.0
"""Links and routes -> the published picture."""

from __future__ import annotations

import msgspec

from vdsm.core.host.network import draw
from vdsm.core.ports.links import (
    Address,
    BondPart,
    BridgePart,
    DefaultRoute,
    Link,
    LinkKind,
    Network,
    VlanPart,
)
from vdsm.drivers.simulated.links import NETWORK


def test_the_simulated_network() -> None:
    picture = draw(NETWORK)
    assert list(picture.nics) == ["eth0", "eth1", "eth2"]
    assert picture.bondings["bond0"].slaves == ["eth1", "eth2"]
    assert picture.bondings["bond0"].opts == {"mode": "1", "miimon": "100"}
    assert (picture.vlans["bond0.100"].iface, picture.vlans["bond0.100"].vlanid) == ("bond0", 100)
    bridge = picture.bridges["vdsmbr0"]
    assert (bridge.ports, bridge.stp) == (["eth0"], False)
    assert (bridge.addr, bridge.netmask, bridge.ipv4addrs) == ("192.0.2.10", "255.255.255.0", ["192.0.2.10/24"])
    assert (bridge.gateway, bridge.ipv4defaultroute) == ("192.0.2.1", True)
    assert (bridge.ipv6addrs, bridge.ipv6gateway) == (["fe80::5054:ff:fe00:1/64"], "::")
    assert picture.nameservers == ["192.0.2.53"]
    assert picture.names() == {"eth0", "eth1", "eth2", "bond0", "bond0.100", "vdsmbr0"}


def test_a_network_per_bridge_as_it_crosses_the_wire() -> None:
    plain = msgspec.to_builtins(draw(NETWORK).networks["vdsmbr0"])
    assert plain["iface"] == "vdsmbr0"
    assert (plain["bridged"], plain["switch"], plain["ports"]) == (True, "legacy", ["eth0"])
    assert plain["addr"] == "192.0.2.10"


def test_permanent_address_only_while_a_bond_has_the_nic() -> None:
    bond = Link(name="bond0", kind=LinkKind.BOND, bond=BondPart())
    port = Link(
        name="a", kind=LinkKind.PHYSICAL, mac="02:00:00:00:00:01", permanent_mac="02:00:00:00:00:02", master="bond0"
    )
    alone = Link(name="b", kind=LinkKind.PHYSICAL, mac="02:00:00:00:00:03", permanent_mac="02:00:00:00:00:04")
    nics = draw(Network(links=[bond, port, alone])).nics
    assert (nics["a"].hwaddr, nics["a"].permhwaddr) == ("02:00:00:00:00:01", "02:00:00:00:00:02")
    assert nics["b"].permhwaddr is None


def test_aggregator_of_an_802_3ad_bond() -> None:
    part = BondPart(options={"mode": "802.3ad"}, aggregator=1, partner_mac="02:aa:00:00:00:01")
    bond = Link(name="bond0", kind=LinkKind.BOND, bond=part)
    port = Link(name="a", kind=LinkKind.PHYSICAL, master="bond0", aggregator=1)
    picture = draw(Network(links=[bond, port]))
    shown = picture.bondings["bond0"]
    assert (shown.opts["mode"], shown.ad_aggregator_id, shown.ad_partner_mac) == ("4", 1, "02:aa:00:00:00:01")
    assert picture.nics["a"].ad_aggregator_id == 1


def test_a_bond_without_partner_has_none() -> None:
    bond = Link(name="bond0", kind=LinkKind.BOND, bond=BondPart(partner_mac="00:00:00:00:00:00"))
    assert draw(Network(links=[bond])).bondings["bond0"].ad_partner_mac is None


def test_vlans_only_of_nics_and_bonds() -> None:
    links = [
        Link(name="br0", kind=LinkKind.BRIDGE, bridge=BridgePart()),
        Link(name="br0.5", kind=LinkKind.VLAN, vlan=VlanPart(base="br0", id=5)),
        Link(name="eth0", kind=LinkKind.PHYSICAL),
        Link(name="eth0.5", kind=LinkKind.VLAN, vlan=VlanPart(base="eth0", id=5)),
        Link(name="far.5", kind=LinkKind.VLAN, vlan=VlanPart(base="", id=5)),
    ]
    assert list(draw(Network(links=links)).vlans) == ["eth0.5"]


def test_the_default_route_is_the_preferred_one_of_the_main_table() -> None:
    links = [Link(name=name, kind=LinkKind.PHYSICAL) for name in ("a", "b", "c")]
    routes = [
        DefaultRoute(link="c", gateway="192.0.2.3", main=False),
        DefaultRoute(link="b", gateway="192.0.2.2", metric=200),
        DefaultRoute(link="a", gateway="192.0.2.1", metric=100),
        DefaultRoute(link="b", gateway="fe80::1", v6=True),
    ]
    nics = draw(Network(links=links, routes=routes)).nics
    assert [nic.ipv4defaultroute for nic in nics.values()] == [True, False, False]
    assert [nic.gateway for nic in nics.values()] == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    assert [nic.ipv6gateway for nic in nics.values()] == ["::", "fe80::1", "::"]


def test_dhcp_is_told_from_lifetimes_and_routes() -> None:
    links = [
        Link(name="fixed", kind=LinkKind.PHYSICAL, addresses=[Address(ip="192.0.2.1", prefix=24)]),
        Link(name="lease", kind=LinkKind.PHYSICAL, addresses=[Address(ip="192.0.2.2", prefix=24, dynamic=True)]),
        Link(name="routed", kind=LinkKind.PHYSICAL, addresses=[Address(ip="192.0.2.3", prefix=24)]),
        Link(name="slaac", kind=LinkKind.PHYSICAL, addresses=[Address(ip="fd00::1", prefix=64, dynamic=True)]),
        Link(name="lease6", kind=LinkKind.PHYSICAL, addresses=[Address(ip="fd00::2", prefix=128, dynamic=True)]),
    ]
    routes = [DefaultRoute(link="routed", gateway="192.0.2.9", dhcp=True)]
    nics = draw(Network(links=links, routes=routes)).nics
    assert [name for name, nic in nics.items() if nic.dhcpv4] == ["lease", "routed"]
    assert [name for name, nic in nics.items() if nic.dhcpv6] == ["lease6"]


def test_taps_loopback_and_tunnels_are_not_the_hosts_interfaces() -> None:
    links = [Link(name=kind.value, kind=kind) for kind in (LinkKind.TAP, LinkKind.LOOPBACK, LinkKind.OTHER)]
    assert draw(Network(links=links)).names() == frozenset()

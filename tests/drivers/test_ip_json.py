# SPDX-License-Identifier: Apache-2.0
"""What iproute2 prints -> links and routes. The bond and the VLAN are texts, as this needs no kernel modules."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from vdsm.core.ports.links import Address, BridgePart, DefaultRoute, LinkCounters, LinkKind, VlanPart
from vdsm.drivers.netlink.ip_json import parse_links, parse_routes
from vdsm.drivers.netlink.sysfs import parse_counters, parse_nameservers, shown

FOREVER = 4294967295
BOND_PORT = {
    "ifindex": 2, "ifname": "ens1", "flags": ["BROADCAST", "MULTICAST", "SLAVE", "UP", "LOWER_UP"], "mtu": 9000,
    "qdisc": "mq", "master": "bond0", "operstate": "UP", "group": "default", "txqlen": 1000, "link_type": "ether",
    "address": "52:54:00:aa:00:01", "broadcast": "ff:ff:ff:ff:ff:ff", "permaddr": "52:54:00:aa:00:02",
    "promiscuity": 0, "min_mtu": 68, "max_mtu": 9600,
    "linkinfo": {
        "info_slave_kind": "bond",
        "info_slave_data": {
            "state": "ACTIVE", "mii_status": "UP", "link_failure_count": 0, "perm_hwaddr": "52:54:00:aa:00:02",
            "queue_id": 0, "prio": 0, "ad_aggregator_id": 1, "ad_actor_oper_port_state": 61,
            "ad_actor_oper_port_state_str": ["active", "aggregating", "in_sync"],
        },
    },
    "parentbus": "pci", "parentdev": "0000:01:00.0", "addr_info": [],
}  # fmt: skip
BOND = {
    "ifindex": 5, "ifname": "bond0", "flags": ["BROADCAST", "MULTICAST", "MASTER", "UP", "LOWER_UP"], "mtu": 9000,
    "qdisc": "noqueue", "operstate": "UP", "link_type": "ether", "address": "52:54:00:aa:00:01",
    "linkinfo": {
        "info_kind": "bond",
        "info_data": {
            "mode": "802.3ad", "miimon": 100, "updelay": 0, "downdelay": 0, "peer_notify_delay": 0, "use_carrier": 1,
            "arp_interval": 0, "arp_missed_max": 2, "arp_ip_target": ["192.0.2.1"], "arp_validate": None,
            "arp_all_targets": "any", "primary_reselect": "always", "fail_over_mac": "none",
            "xmit_hash_policy": "layer2+3", "resend_igmp": 1, "num_peer_notif": 1, "all_slaves_active": 0,
            "min_links": 0, "lp_interval": 1, "packets_per_slave": 1, "ad_lacp_active": "on", "ad_lacp_rate": "slow",
            "ad_select": "stable",
            "ad_info": {
                "aggregator": 1, "num_ports": 2, "actor_key": 9, "partner_key": 1, "partner_mac": "02:00:00:00:00:99",
            },
            "ad_actor_sys_prio": 65535, "ad_user_port_key": 0, "ad_actor_system": "00:00:00:00:00:00",
            "tlb_dynamic_lb": 1,
        },
    },
    "addr_info": [],
}  # fmt: skip
BACKUP_BOND = {
    "ifname": "bond1", "mtu": 1500, "link_type": "ether", "address": "52:54:00:aa:00:05",
    "linkinfo": {"info_kind": "bond", "info_data": {"mode": "active-backup", "active_slave": "ens3", "miimon": 50}},
}  # fmt: skip
VLAN = {
    "ifindex": 6, "link": "bond0", "ifname": "bond0.100", "flags": ["BROADCAST", "MULTICAST", "UP", "LOWER_UP"],
    "mtu": 1500, "qdisc": "noqueue", "operstate": "UP", "link_type": "ether", "address": "52:54:00:aa:00:01",
    "linkinfo": {"info_kind": "vlan", "info_data": {"protocol": "802.1Q", "id": 100, "flags": ["REORDER_HDR"]}},
    "addr_info": [
        {
            "family": "inet", "local": "192.0.2.10", "prefixlen": 24, "broadcast": "192.0.2.255", "scope": "global",
            "dynamic": True, "noprefixroute": True, "label": "bond0.100", "valid_life_time": 85986,
            "preferred_life_time": 85986,
        },
        {
            "family": "inet6", "local": "fe80::1", "prefixlen": 64, "scope": "link", "valid_life_time": FOREVER,
            "preferred_life_time": FOREVER,
        },
    ],
}  # fmt: skip
VLAN_ELSEWHERE = {
    "ifname": "far.5", "link_index": 3, "link_netnsid": 0, "link_type": "ether",
    "linkinfo": {"info_kind": "vlan", "info_data": {"protocol": "802.1Q", "id": 5, "flags": []}},
}  # fmt: skip
ROUTES = [
    {"dst": "default", "gateway": "192.0.2.1", "dev": "eth0", "protocol": "dhcp", "metric": 100, "flags": []},
    {"dst": "default", "gateway": "198.51.100.1", "dev": "eth1", "table": "101", "flags": []},
    {"dst": "default", "dev": "tun0", "scope": "link", "flags": []},
    {"dst": "192.0.2.0/24", "dev": "eth0", "protocol": "kernel", "scope": "link", "flags": []},
    {"type": "unreachable", "dst": "default", "metric": 4294967295, "flags": []},
]
PROC_NET_DEV = b"""\
Inter-|   Receive                         |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
    lo:    3193      29    0    0    0     0          0         0     3193   29    0    0    0     0   0   0
  eth0:224810076    9800    1    2    0     0          0         0   641237 5847    3    4    0     0   0   0
a\x1b[3"1m:       7       0    0    0    0     0          0         0        0    0    0    0    0     0   0   0
 short:  1 2 3
"""


def test_bond() -> None:
    links = {link.name: link for link in parse_links(json.dumps([BOND, BOND_PORT, BACKUP_BOND]))}
    bond = links["bond0"].bond
    assert links["bond0"].kind is LinkKind.BOND
    assert bond is not None
    assert (bond.active, bond.aggregator, bond.partner_mac) == ("", 1, "02:00:00:00:00:99")
    assert (bond.options["mode"], bond.options["miimon"], bond.options["ad_select"]) == ("802.3ad", "100", "stable")
    assert set(bond.options).isdisjoint({"ad_info", "arp_ip_target", "arp_validate", "active_slave"})
    port = links["ens1"]
    assert (port.kind, port.master, port.aggregator) == (LinkKind.PHYSICAL, "bond0", 1)
    assert (port.mac, port.permanent_mac, port.mtu) == ("52:54:00:aa:00:01", "52:54:00:aa:00:02", 9000)
    backup = links["bond1"].bond
    assert backup is not None
    assert backup.active == "ens3"
    assert backup.options == {"mode": "active-backup", "miimon": "50"}


def test_permanent_address_by_an_older_ip() -> None:
    [port] = parse_links(json.dumps([{k: v for k, v in BOND_PORT.items() if k != "permaddr"}]))
    assert port.permanent_mac == "52:54:00:aa:00:02"


def test_vlan() -> None:
    [vlan] = parse_links(json.dumps([VLAN]))
    assert (vlan.kind, vlan.vlan) == (LinkKind.VLAN, VlanPart(base="bond0", id=100))
    assert vlan.addresses == [
        Address(ip="192.0.2.10", prefix=24, dynamic=True),
        Address(ip="fe80::1", prefix=64),
    ]


def test_vlan_of_a_link_in_another_namespace_has_no_base() -> None:
    [vlan] = parse_links(json.dumps([VLAN_ELSEWHERE]))
    assert vlan.vlan == VlanPart(base="", id=5)


def test_kinds() -> None:
    def one(name: str, link_type: str, kind: str = "") -> dict[str, object]:
        return {"ifname": name, "link_type": link_type, "linkinfo": {"info_kind": kind} if kind else {}}

    texts = [
        one("lo", "loopback"), one("eth0", "ether"), one("ib0", "infiniband"), one("br0", "ether", "bridge"),
        one("vnet0", "ether", "tun"), one("v0", "ether", "veth"), one("d0", "ether", "dummy"),
        one("wg0", "none", "wireguard"), one("mv0", "ether", "macvlan"), one("sit0", "sit"),
    ]  # fmt: skip
    kinds = {link.name: link.kind.value for link in parse_links(json.dumps(texts))}
    assert kinds == {
        "lo": "loopback", "eth0": "physical", "ib0": "physical", "br0": "bridge", "vnet0": "tap", "v0": "veth",
        "d0": "dummy", "wg0": "other", "mv0": "other", "sit0": "other",
    }  # fmt: skip


def test_bridge() -> None:
    bridge = {"ifname": "b", "link_type": "ether", "linkinfo": {"info_kind": "bridge", "info_data": {"stp_state": 1}}}
    assert parse_links(json.dumps([bridge]))[0].bridge == BridgePart(stp=True)


def test_a_link_that_makes_no_sense_costs_only_itself() -> None:
    links = parse_links(
        json.dumps([{"ifname": 7}, {"mtu": 5}, "x", {"ifname": "good", "addr_info": [3, {"local": []}]}])
    )
    assert [link.name for link in links] == ["good"]
    odd = {**BOND, "linkinfo": {"info_kind": "bond", "info_data": [1]}}
    assert parse_links(json.dumps([odd]))[0].bond is not None
    addresses = [{"local": "nonsense", "prefixlen": 24}, {"local": "192.0.2.1", "prefixlen": 99}]
    assert parse_links(json.dumps([{"ifname": "a", "addr_info": addresses}]))[0].addresses == []


def test_names_with_raw_control_characters_as_iproute2_prints_them() -> None:
    [link] = parse_links('[{"ifname":"a\x1b[3\\"1m","link_type":"ether","master":"b\x07"}]')
    assert (link.name, link.master) == ('a[3"1m', "b")


def test_default_routes_preferred_first() -> None:
    assert parse_routes(json.dumps(ROUTES), v6=False) == [
        DefaultRoute(link="tun0", gateway=""),
        DefaultRoute(link="eth0", gateway="192.0.2.1", dhcp=True, metric=100),
        DefaultRoute(link="eth1", gateway="198.51.100.1", main=False),
    ]


def test_route_over_several_ways_and_by_a_neighbour_of_the_other_family() -> None:
    many = {"dst": "default", "metric": 5, "nexthops": [
        {"gateway": "fe80::1", "dev": "a", "weight": 1, "flags": []}, {"gateway": "fe80::2", "dev": "b", "weight": 1},
    ]}  # fmt: skip
    assert [r.gateway for r in parse_routes(json.dumps([many]), v6=True)] == ["fe80::1", "fe80::2"]
    via = {"dst": "default", "via": {"family": "inet6", "host": "fe80::9"}, "dev": "a", "flags": []}
    assert parse_routes(json.dumps([via]), v6=False) == [DefaultRoute(link="a", gateway="fe80::9")]


def test_counters() -> None:
    found = parse_counters(PROC_NET_DEV)
    assert [shown(name) for name in found] == ["lo", "eth0", 'a[3"1m']
    assert found[b"eth0"] == LinkCounters(
        rx_bytes=224810076, rx_errors=1, rx_dropped=2, tx_bytes=641237, tx_errors=3, tx_dropped=4
    )


def test_nameservers() -> None:
    text = "# x\nsearch a b\nnameserver 192.0.2.53\nnameserver\nnameserver 192.0.2.53\nnameserver fe80::1%eth0 x\n"
    assert parse_nameservers(text) == ["192.0.2.53", "fe80::1%eth0"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(list(BOND)), inner),
    max_leaves=20,
)


@given(st.text() | json_values.map(json.dumps) | st.lists(json_values).map(json.dumps))
def test_no_text_raises(text: str) -> None:
    parse_links(text)
    parse_routes(text, v6=False)
    parse_nameservers(text)
    parse_counters(b"\n\n" + text.encode(errors="replace"))


@given(st.dictionaries(st.sampled_from(list(VLAN)), json_values))
def test_no_link_raises(fields: dict[str, object]) -> None:
    parse_links(json.dumps([VLAN | fields]))
    parse_links(json.dumps([BOND | {"linkinfo": {"info_kind": "bond", "info_data": fields}}]))

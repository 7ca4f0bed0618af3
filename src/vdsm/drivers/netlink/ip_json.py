# SPDX-License-Identifier: Apache-2.0
"""What `ip -j -d address` and `ip -j route` print -> links and routes. A link that makes no sense is left out."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import TypeVar

import msgspec

from vdsm.core.ports.links import Address, BondPart, BridgePart, DefaultRoute, Link, LinkKind, VlanPart
from vdsm.drivers.files import clean

_FOREVER_S = 2**32 - 1
_KINDS = {
    "bond": LinkKind.BOND,
    "vlan": LinkKind.VLAN,
    "bridge": LinkKind.BRIDGE,
    "veth": LinkKind.VETH,
    "dummy": LinkKind.DUMMY,
    "tun": LinkKind.TAP,
    "macvtap": LinkKind.TAP,
}
_PHYSICAL_TYPES = ("ether", "infiniband")
_CONTROLS = dict.fromkeys(range(32))

T = TypeVar("T")


class _AddrInfo(msgspec.Struct):
    local: str = ""
    prefixlen: int = 0
    dynamic: bool = False
    valid_life_time: int = _FOREVER_S


class _LinkInfo(msgspec.Struct):
    info_kind: str = ""
    info_data: msgspec.Raw = msgspec.Raw(b"{}")
    info_slave_kind: str = ""
    info_slave_data: msgspec.Raw = msgspec.Raw(b"{}")


class _IpLink(msgspec.Struct):
    ifname: str
    link_type: str = ""
    mtu: int = 0
    address: str = ""
    permaddr: str = ""
    link: str = ""
    link_index: int = 0
    master: str = ""
    linkinfo: _LinkInfo = msgspec.field(default_factory=_LinkInfo)
    addr_info: list[msgspec.Raw] = []


class _AdInfo(msgspec.Struct):
    aggregator: int | None = None
    partner_mac: str = ""


class _BondData(msgspec.Struct):
    active_slave: str | None = None
    ad_info: _AdInfo | None = None


class _BondPort(msgspec.Struct):
    perm_hwaddr: str = ""
    ad_aggregator_id: int | None = None


class _VlanData(msgspec.Struct):
    id: int


class _BridgeData(msgspec.Struct):
    stp_state: int = 0


class _NextHop(msgspec.Struct):
    dev: str = ""
    gateway: str = ""


class _IpRoute(msgspec.Struct):
    dst: str = ""
    dev: str = ""
    gateway: str = ""
    via: dict[str, str] = {}
    protocol: str = ""
    table: str = ""
    metric: int = 0
    nexthops: list[_NextHop] = []


def parse_links(text: str) -> list[Link]:
    """From `ip -j -d address`; sorted by name."""
    found = {}
    for raw in _items(text):
        try:
            link = _link(msgspec.json.decode(raw, type=_IpLink))
        except msgspec.DecodeError:
            continue
        if link.name:
            found[link.name] = link
    return [found[name] for name in sorted(found)]


def parse_routes(text: str, *, v6: bool) -> list[DefaultRoute]:
    """The default routes in what `ip -j route show table all` prints, the preferred ones first."""
    found = []
    for raw in _items(text):
        try:
            route = msgspec.json.decode(raw, type=_IpRoute)
        except msgspec.DecodeError:
            continue
        if route.dst == "default":
            hops = route.nexthops or [_NextHop(dev=route.dev, gateway=route.gateway or route.via.get("host", ""))]
            found += [_route(route, hop, v6) for hop in hops if hop.dev]
    return sorted(found, key=lambda r: (not r.main, r.metric))


def _items(text: str) -> list[msgspec.Raw]:
    # iproute2 does not escape most control characters in names, which makes them bad JSON.
    try:
        return msgspec.json.decode(text.translate(_CONTROLS), type=list[msgspec.Raw])
    except (msgspec.DecodeError, RecursionError):
        return []


def _link(raw: _IpLink) -> Link:
    kind = _kind(raw)
    port = _part(raw.linkinfo.info_slave_data, _BondPort) if raw.linkinfo.info_slave_kind == "bond" else None
    bond = _bond(raw.linkinfo.info_data) if kind is LinkKind.BOND else None
    vlan = _part(raw.linkinfo.info_data, _VlanData) if kind is LinkKind.VLAN else None
    bridge = _part(raw.linkinfo.info_data, _BridgeData) if kind is LinkKind.BRIDGE else None
    return Link(
        name=clean(raw.ifname),
        kind=kind,
        mac=clean(raw.address),
        permanent_mac=clean(raw.permaddr or (port.perm_hwaddr if port else "")),
        aggregator=port.ad_aggregator_id if port else None,
        mtu=raw.mtu,
        master=clean(raw.master),
        addresses=list(_addresses(raw.addr_info)),
        bond=bond,
        vlan=VlanPart(base=clean(raw.link), id=vlan.id) if vlan else None,
        bridge=BridgePart(stp=bridge.stp_state != 0) if bridge else None,
    )


def _kind(raw: _IpLink) -> LinkKind:
    if raw.link_type == "loopback":
        return LinkKind.LOOPBACK
    if not raw.linkinfo.info_kind and raw.link_type in _PHYSICAL_TYPES:
        return LinkKind.PHYSICAL
    return _KINDS.get(raw.linkinfo.info_kind, LinkKind.OTHER)


def _part(raw: msgspec.Raw, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.DecodeError:
        return None


def _bond(raw: msgspec.Raw) -> BondPart:
    data = _part(raw, _BondData) or _BondData()
    scalars = _part(raw, dict[str, object]) or {}
    return BondPart(
        active=clean(data.active_slave or ""),
        options={
            clean(k): clean(str(v)) for k, v in scalars.items() if isinstance(v, str | int) and k != "active_slave"
        },
        aggregator=data.ad_info.aggregator if data.ad_info else None,
        partner_mac=clean(data.ad_info.partner_mac) if data.ad_info else "",
    )


def _addresses(infos: list[msgspec.Raw]) -> Iterator[Address]:
    for raw in infos:
        info = _part(raw, _AddrInfo)
        if info is not None and _is_address(info.local, info.prefixlen):
            dynamic = info.dynamic or info.valid_life_time != _FOREVER_S
            yield Address(ip=info.local, prefix=info.prefixlen, dynamic=dynamic)


def _is_address(ip: str, prefix: int) -> bool:
    try:
        ipaddress.ip_interface(f"{ip}/{prefix}")
    except ValueError:
        return False
    return True


def _route(route: _IpRoute, hop: _NextHop, v6: bool) -> DefaultRoute:
    return DefaultRoute(
        link=clean(hop.dev),
        gateway=clean(hop.gateway),
        v6=v6,
        main=route.table in ("", "main"),
        dhcp=route.protocol == "dhcp",
        metric=route.metric,
    )

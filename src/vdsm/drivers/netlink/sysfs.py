# SPDX-License-Identifier: Apache-2.0
"""Counters, states and options of interfaces, from /proc/net and /sys/class/net.

Interface names are any bytes but `/`, `:` and white space, so paths are made of bytes and shown names are cleaned.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from pathlib import Path

import msgspec

from vdsm.core.ports.links import Link, LinkCounters, LinkKind, LinkSample, LinkState
from vdsm.drivers.files import clean, names_in, read_bytes, read_int, read_text, read_word

_NET = "sys/class/net"
_SPEED_MAX = 10_000_000  # Mbit/s; drivers that do not know say -1, or that as an unsigned number
# Some settings of a bridge are states, timers and commands: they are no options.
_NO_OPTIONS = frozenset(
    {"bridge_id", "flush", "gc_timer", "hello_timer", "root_id", "root_path_cost", "root_port", "tcn_timer"}
    | {"topology_change", "topology_change_detected", "topology_change_timer"}
)


def parse_counters(text: bytes) -> dict[bytes, LinkCounters]:
    """/proc/net/dev."""
    found = {}
    for line in text.splitlines()[2:]:
        name, _, values = line.strip().partition(b":")
        try:
            numbers = [int(word) for word in values.split()[:12]]
        except ValueError:
            continue
        if len(numbers) == 12:
            rx_bytes, _, rx_errors, rx_dropped, _, _, _, _, tx_bytes, _, tx_errors, tx_dropped = numbers
            found[name] = LinkCounters(
                rx_bytes=rx_bytes,
                rx_errors=rx_errors,
                rx_dropped=rx_dropped,
                tx_bytes=tx_bytes,
                tx_errors=tx_errors,
                tx_dropped=tx_dropped,
            )
    return found


def read_sample(root: Path, watched: Collection[str]) -> LinkSample:
    counters, states = {}, {}
    for raw, numbers in parse_counters(read_bytes(root / "proc/net/dev")).items():
        name = shown(raw)
        counters[name] = numbers
        if name in watched:
            states[name] = _state(root / _NET / os.fsdecode(raw))
    return LinkSample(taken=time.monotonic(), counters=counters, states=states)


def with_details(root: Path, links: list[Link]) -> list[Link]:
    """The links with what `ip` does not tell."""
    paths = {shown(os.fsencode(name)): name for name in names_in(root / _NET)}
    return [_with_details(root, link, paths.get(link.name, link.name)) for link in links]


def _with_details(root: Path, link: Link, name: str) -> Link:
    if link.kind in (LinkKind.TAP, LinkKind.OTHER):
        return link  # a host has one for each guest, and nobody asks for more of them
    directory, ipv6 = root / _NET / name, root / "proc/sys/net/ipv6/conf" / name
    # The kernel takes addresses from advertisements when both are on; 2 accepts them on a router too.
    autoconf = read_int(ipv6 / "autoconf") == 1 and (read_int(ipv6 / "accept_ra") or 0) > 0
    bridge = link.bridge
    if bridge is not None:
        bridge = msgspec.structs.replace(bridge, options=_bridge_options(directory / "bridge"))
    speed = 0 if link.kind is LinkKind.BRIDGE else _speed(directory)
    return msgspec.structs.replace(link, speed=speed, ipv6_autoconf=autoconf, bridge=bridge)


def _bridge_options(directory: Path) -> dict[str, str]:
    return {name: read_word(directory / name) for name in names_in(directory) if name not in _NO_OPTIONS}


def _state(directory: Path) -> LinkState:
    word = read_word(directory / "operstate")
    up: bool | None = None
    if word == "up":
        up = True
    elif word == "unknown":
        # A driver that says nothing of its state, as most virtual ones; the kernel says to believe the carrier.
        up = True if read_int(directory / "carrier") == 1 else None
    elif word:
        up = False
    return LinkState(up=up, speed=_speed(directory))


def _speed(directory: Path) -> int:
    speed = read_int(directory / "speed") or 0
    return speed if 0 < speed < _SPEED_MAX else 0


def parse_nameservers(text: str) -> list[str]:
    """resolv.conf(5)."""
    found = [
        clean(words[1]) for line in text.splitlines() if (words := line.split())[:1] == ["nameserver"] and words[1:]
    ]
    return list(dict.fromkeys(filter(None, found)))


def read_nameservers(root: Path) -> list[str]:
    return parse_nameservers(read_text(root / "etc/resolv.conf"))


def has_ipv6(root: Path) -> bool:
    return (root / "proc/net/if_inet6").exists()


def shown(name: bytes) -> str:
    return clean(name.decode(errors="replace"))

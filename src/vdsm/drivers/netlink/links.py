# SPDX-License-Identifier: Apache-2.0
"""The `Links` port on Linux."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from pathlib import Path

from vdsm.core.ports.links import Link, LinkSample, Network
from vdsm.drivers.files import READ_PATIENCE_S, clean
from vdsm.drivers.pool import Pool
from vdsm.drivers.process import Limits, Programs

from . import ip_json, sysfs

log = logging.getLogger(__name__)

_WHAT = "reading the network's files"
_IP_PATIENCE_S = 10.0
_IP_LIMITS = Limits(cpu_s=10, memory_bytes=512 * 1024 * 1024)


class LinuxLinks:
    """Everything in the network namespace of the daemon."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._pool = Pool("network", workers=2)
        self._programs = Programs("ip", at_once=3)
        self._said: dict[tuple[str, ...], str] = {}

    async def read(self) -> Network:
        """What `ip` cannot tell now is told as it was before."""
        addresses, routes4, routes6 = await asyncio.gather(
            self._ip("-j", "-d", "address"),
            self._ip("-j", "-4", "route", "show", "default", "table", "all"),
            self._ip("-j", "-6", "route", "show", "default", "table", "all"),
        )
        links = ip_json.parse_links(addresses)
        links, nameservers, ipv6 = await self._pool.run(_WHAT, lambda: self._complete(links), most=READ_PATIENCE_S)
        return Network(
            links=links,
            routes=ip_json.parse_routes(routes4, v6=False) + ip_json.parse_routes(routes6, v6=True),
            nameservers=nameservers,
            ipv6=ipv6,
        )

    async def sample(self, watched: Collection[str]) -> LinkSample:
        return await self._pool.run(_WHAT, lambda: sysfs.read_sample(self._root, watched), most=READ_PATIENCE_S)

    async def close(self) -> None:
        self._pool.close()
        self._programs.close()

    async def _ip(self, *arguments: str) -> str:
        done = await self._programs.run(["ip", *arguments], most=_IP_PATIENCE_S, limits=_IP_LIMITS)
        if done.status:
            # An empty answer would say that the host has lost its networks.
            log.warning("ip %s: %s", " ".join(arguments), clean(done.err.decode(errors="replace")))
            return self._said.get(arguments, "")
        self._said[arguments] = done.out.decode(errors="replace")
        return self._said[arguments]

    def _complete(self, links: list[Link]) -> tuple[list[Link], list[str], bool]:
        return sysfs.with_details(self._root, links), sysfs.read_nameservers(self._root), sysfs.has_ipv6(self._root)

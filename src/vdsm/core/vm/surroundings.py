# SPDX-License-Identifier: Apache-2.0
"""What a machine's document may ask of the host around it: its name, its serial number, its addresses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from vdsm.contract.host_capabilities import OsName
from vdsm.core.host.software import os_version
from vdsm.core.ports.links import Address, Links
from vdsm.core.ports.machine import Machine


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """The host, in a document's words."""

    os_name: str
    os_version: str
    serial: str
    addresses: Mapping[str, str] = {}  # the first of each interface, IPv4 before IPv6


class Surroundings:
    def __init__(self, machine: Machine, links: Links) -> None:
        self._machine = machine
        self._links = links

    async def look(self) -> Place:
        setup, network = await self._machine.setup(), await self._links.read()
        system = os_version(setup.system)
        return Place(
            os_name=system.pretty_name if system.name is OsName.UNKNOWN else system.name.value,
            os_version="-".join(filter(None, (system.version, system.release))),
            serial=setup.host_uuid,
            addresses={link.name: address for link in network.links if (address := _first(link.addresses))},
        )


def _first(addresses: Sequence[Address]) -> str:
    """One that can be listened on without naming a link."""
    usable = sorted((a for a in addresses if not a.ip.lower().startswith("fe80:")), key=lambda a: a.v6)
    return usable[0].ip if usable else ""

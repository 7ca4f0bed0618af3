# SPDX-License-Identifier: Apache-2.0
"""The door to a message bus: the agent of this host, made as the configuration says."""

from __future__ import annotations

import ipaddress
import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from vdsm import __version__
from vdsm.contract.access import Role

from .bus_address import bus_address
from .config import Config
from .process import StartError
from .wiring import House

if TYPE_CHECKING:  # a daemon without a bus does without the libraries
    from vdsm.amqp.attachment import Counters
    from vdsm.amqp.bus import Bus
    from vdsm.bindings.qmf.agent import Agent

log = logging.getLogger(__name__)


class BusDoor:
    """Raises ConfigError and StartError at once; whether the broker is there does not matter."""

    def __init__(self, config: Config, house: House) -> None:
        self._config = config.bus
        self._house = house
        self._address = bus_address(config.bus)
        self._agent: Agent | None = None

    @property
    def address(self) -> str:
        """For people."""
        return f"{self._address}" if self._address else ""

    async def open(self) -> None:
        """To be called when the house is open. Returns at once, whatever the broker does. Raises StartError."""
        if self._address is None:
            return
        from vdsm.amqp.bus import Bus

        if self._address.password and not self._address.tls and not _is_here(self._address.host):
            log.warning("[bus] address: the password crosses the network for anybody to read; amqps:// hides it")
        broker = Bus(self._address, name="vdsmd", domain=self._config.domain)
        self._agent = await self._make_agent(broker)
        self._show_metrics(broker, self._agent)
        await self._agent.open()

    async def close(self) -> None:
        if self._agent is not None:
            await self._agent.close()

    async def _make_agent(self, broker: Bus) -> Agent:
        from vdsm.bindings.qmf.agent import Agent
        from vdsm.bindings.qmf.options import AgentOptions
        from vdsm.bindings.qmf.users import Users

        bus, house = self._config, self._house
        instance = bus.name or await house.host_uuid()
        if not instance:
            raise StartError("[bus] name: this host has no UUID of its own to be called by; give it a name")
        options = AgentOptions(
            instance=instance,
            host_name=bus.name or os.uname().nodename,
            version=__version__,
            users=Users(roles=bus.users, anonymous=Role(bus.anonymous) if bus.anonymous else None),
            audience=Role(bus.audience) if bus.audience else None,
            heartbeat_s=bus.heartbeat_seconds,
            publish_s=bus.publish_seconds,
            max_calls=bus.calls_per_sender,
        )
        return Agent(house.bridge, broker, options, epoch=await house.count_start(), since=house.last_event_before)

    def _show_metrics(self, broker: Bus, agent: Agent) -> None:
        metrics = self._house.metrics
        metrics.gauge("vdsm_bus_up", "Whether the message bus is reached.", lambda: broker.up)
        metrics.gauge("vdsm_bus_requests", "Requests from the bus under way.", lambda: agent.under_way)
        fates = "Messages of the bus by what became of them."
        metrics.counters("vdsm_bus_messages", fates, "fate", lambda: _fates(broker.counters))


def _is_here(host: str) -> bool:
    """Nobody is asked for the address of a name: who answers may be away, as the broker may."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _fates(counters: Counters) -> Mapping[str, float]:
    return {
        "received": counters.received,
        "sent": counters.sent,
        "dropped": counters.dropped,
        "refused": counters.refused,
    }

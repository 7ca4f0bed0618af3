# SPDX-License-Identifier: Apache-2.0
"""The door to a message bus: the agent of this host, made as the configuration says."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from urllib.parse import urlsplit

from vdsm import __version__
from vdsm.amqp.address import BusAddress
from vdsm.amqp.broker import Broker
from vdsm.bindings.qmf.agent import Agent
from vdsm.bindings.qmf.options import AgentOptions
from vdsm.bindings.qmf.users import Users
from vdsm.contract.access import Role

from .config import Bus, Config, ConfigError
from .process import StartError
from .wiring import House

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class BusDoor:
    """Raises ConfigError and StartError at once; whether the broker is there does not matter."""

    def __init__(self, config: Config, house: House) -> None:
        self._config = config.bus
        self._house = house
        self._address = _address(config.bus)
        self._agent: Agent | None = None

    @property
    def address(self) -> str:
        """For people."""
        return f"{self._address}" if self._address else ""

    async def open(self) -> None:
        """To be called when the house is open. Returns at once, whatever the broker does. Raises StartError."""
        if self._address is None:
            return
        instance = self._config.name or await self._house.host_uuid()
        if not instance:
            raise StartError("[bus] name: this host has no UUID of its own to be called by; give it a name")
        broker = Broker(self._address, domain=self._config.domain)
        options = self._options(instance)
        house = self._house
        epoch = await house.count_start()
        self._agent = agent = Agent(house.bridge, broker, options, epoch=epoch, since=house.last_event_before)
        metrics, counters = house.metrics, broker.counters
        metrics.gauge("vdsm_bus_up", "Whether the message bus is reached.", lambda: broker.up)
        metrics.gauge("vdsm_bus_requests", "Requests from the bus under way.", lambda: agent.under_way)
        metrics.counters(
            "vdsm_bus_messages",
            "Messages by what became of them.",
            "fate",
            lambda: {
                "received": counters.received,
                "sent": counters.sent,
                "dropped": counters.dropped,
                "refused": counters.refused,
            },
        )
        await agent.open()

    async def close(self) -> None:
        if self._agent is not None:
            await self._agent.close()

    def _options(self, instance: str) -> AgentOptions:
        bus = self._config
        return AgentOptions(
            instance=instance,
            host_name=bus.name or os.uname().nodename,
            version=__version__,
            users=Users(roles=bus.users, anonymous=Role(bus.anonymous) if bus.anonymous else None),
            audience=Role(bus.audience) if bus.audience else None,
            heartbeat_s=bus.heartbeat_seconds,
            publish_s=bus.publish_seconds,
            max_calls=bus.calls_per_sender,
        )


def _address(bus: Bus) -> BusAddress | None:
    """None without a bus. Raises ConfigError, StartError."""
    if not bus.address:
        return None
    if urlsplit(bus.address).password:
        raise ConfigError(
            "[bus] address: a password in it could be seen; put it into a file, and name that in password_file"
        )
    try:
        bare = BusAddress.parse(
            _with_profile(bus), ca=bus.ca, certificate=bus.certificate, key=bus.key, password=_password(bus)
        )
    except ValueError as error:
        raise ConfigError(f"[bus] address: {error}") from None
    return bare


def _with_profile(bus: Bus) -> str:
    if not bus.profile:
        return bus.address
    if "profile=" in bus.address:
        raise ConfigError("[bus] profile: the address names one too; keep one of the two")
    return f"{bus.address}?profile={bus.profile}"


def _password(bus: Bus) -> str:
    """Raises StartError, also for a file that others may read."""
    if not bus.password_file:
        return ""
    file = Path(bus.password_file)
    try:
        if file.stat().st_mode & _OTHERS:
            raise StartError(f"[bus] password_file: others may read {file}; `chmod 600 {file}` keeps them out")
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise StartError(f"[bus] password_file: {file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise StartError(f"[bus] password_file: {file} is not UTF-8 text") from None

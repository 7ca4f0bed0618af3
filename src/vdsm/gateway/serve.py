# SPDX-License-Identifier: Apache-2.0
"""The gateway's life: join the bus, open the doors, wait for a signal, close."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from vdsm import __version__
from vdsm.amqp.address import BusAddress
from vdsm.amqp.bus import Bus
from vdsm.bindings.rest import Status
from vdsm.client.qmf import Change, Console, KnownHost, RemoteBridge
from vdsm.core.refusals import Refusals
from vdsm.daemon.config import Config
from vdsm.daemon.doors import Doors, Served
from vdsm.daemon.metrics import Metrics
from vdsm.daemon.signals import stop_at_signal
from vdsm.daemon.systemd import Notifier

from .guard import GuardedBridge

log = logging.getLogger(__name__)


class Gateway:
    """One host's doors. They open at once; while the host is not heard on the bus, calls are told so."""

    def __init__(self, config: Config, address: BusAddress, host: str) -> None:
        self._config = config
        self._address = address
        self._host = host
        self._status = Status.STARTING

    async def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until SIGTERM or SIGINT. Raises StartError, ConfigError."""
        stop = stop_at_signal()
        bus = Bus(self._address, name="vdsm-gateway", domain=self._config.bus.domain)
        console, metrics, notifier = Console(bus), Metrics(), Notifier()
        metrics.gauge("vdsm_bus_up", "Whether the message bus is reached.", lambda: console.up)
        bridge = GuardedBridge(RemoteBridge(console, self._host), metrics)
        refusals = Refusals(None)  # the audit trail is the host's
        doors = Doors(self._config, Served(bridge, metrics.page, lambda: self._status, refusals))
        console.hosts.watch(self._note)
        doors.open()
        try:
            await console.open()
            self._status = Status.OK
            served = ", ".join(doors.addresses)
            log.info(
                "vdsm-gateway %s (process %d) serves %s, as the host %s on %s",
                __version__, os.getpid(), served, self._host, self._address,
            )  # fmt: skip
            notifier.ready(f"serving {served}")
            ready()
            await stop.wait()
            self._status = Status.STOPPING
            notifier.stopping("finishing what is under way")
        finally:
            await doors.close()
            await refusals.close()
            await console.close()
        log.info("stopped")

    def _note(self, change: Change, host: KnownHost) -> None:
        if self._host in (host.name, host.instance, host.agent):
            log.info("the host %s on the bus: %s", host.name, change)

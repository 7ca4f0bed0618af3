# SPDX-License-Identifier: Apache-2.0
"""A simulated host in memory, on a real bus."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from harness.memory_host import MemoryHost
from vdsm.amqp.address import BusAddress
from vdsm.amqp.bus import Bus
from vdsm.bindings.qmf.agent import Agent
from vdsm.bindings.qmf.options import AgentOptions
from vdsm.bindings.qmf.users import Users
from vdsm.contract.access import Role

USERS = Users(roles={"engine": Role.ADMIN, "viewer": Role.VIEWER})


class BusHost:
    """The agent's name is no other's, so that tests may share a broker."""

    def __init__(
        self, url: str, host: MemoryHost, *, domain: str = "default", since: int | None = None, **options: Any
    ) -> None:
        self.host = host
        self.bus = Bus(BusAddress.parse(url), domain=domain)
        made = {"instance": f"vdsmtest-{secrets.token_hex(4)}", "host_name": "h", "version": "1", "users": USERS}
        self.options = AgentOptions(**{**made, "publish_s": 3600.0, **options})
        self.name = str(self.options.name)
        self.agent = Agent(
            self.host.bridge, self.bus, self.options, epoch=1, since=host.journal.last if since is None else since
        )


@asynccontextmanager
async def joined(url: str, **options: Any) -> AsyncIterator[BusHost]:
    """Events of before it is made are not told."""
    host = MemoryHost(None)
    await host.open()
    await host.journal.flush()
    made = BusHost(url, host, **options)
    try:
        await made.agent.open()
        await made.bus.wait_up(60)
        yield made
    finally:
        await made.agent.close()
        await host.close()

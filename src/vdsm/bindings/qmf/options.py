# SPDX-License-Identifier: Apache-2.0
"""What the configuration says of an agent."""

from __future__ import annotations

import msgspec

from vdsm.contract.access import Role
from vdsm.protocols.qmf2.names import AgentName

from .users import Users

VENDOR, PRODUCT = "vdsm.org", "vdsmd"


class AgentOptions(msgspec.Struct, frozen=True, kw_only=True):
    instance: str  # unlike any other host's on the bus
    host_name: str
    version: str
    users: Users = Users()
    audience: Role | None = Role.VIEWER  # what indications show, to whoever may listen on the bus; None: nothing
    heartbeat_s: int = 30
    publish_s: float = 30.0  # between two looks at what moves without an event: statistics
    after_locate_s: float = 1.0
    max_calls: int = 256  # of one sender, under way at once
    max_requests: int = 1024  # of all

    @property
    def name(self) -> AgentName:
        return AgentName(VENDOR, PRODUCT, self.instance)

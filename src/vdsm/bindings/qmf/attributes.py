# SPDX-License-Identifier: Apache-2.0
"""What this host says of itself in each heartbeat: nothing that not everybody on the bus may know."""

from __future__ import annotations

import time

from vdsm.protocols.qmf2.model import AgentAttributes

from .options import AgentOptions


class Attributes:
    """`epoch` counts the daemon's starts."""

    def __init__(self, options: AgentOptions, epoch: int) -> None:
        self._options = options
        self._epoch = epoch
        self._schema_updated = time.time_ns()  # consoles look again; equal hashes tell them that nothing changed
        self.state = "ok"
        self.last_event = 0  # that was told; 0: none, or events are not told

    def now(self) -> AgentAttributes:
        name = self._options.name
        return AgentAttributes(
            name=str(name),
            vendor=name.vendor,
            product=name.product,
            instance=name.instance,
            timestamp_ns=time.time_ns(),
            interval_s=self._options.heartbeat_s,
            epoch=self._epoch,
            schema_updated_ns=self._schema_updated,
            capability=1,
            others={
                "hostName": self._options.host_name,
                "version": self._options.version,
                "state": self.state,
                "lastEvent": self.last_event,
            },
        )

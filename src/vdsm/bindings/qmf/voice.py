# SPDX-License-Identifier: Apache-2.0
"""What is said to everybody on the bus, as messages under the right keys. Nothing here waits."""

from __future__ import annotations

from collections.abc import Sequence

from vdsm.amqp.bus import Bus
from vdsm.amqp.links import Settled
from vdsm.amqp.places import Topic
from vdsm.protocols.amqp import Message
from vdsm.protocols.qmf2 import writing
from vdsm.protocols.qmf2.model import AgentAttributes, DataObject, Event, SchemaId
from vdsm.protocols.qmf2.names import AgentName


class Voice:
    """Each method says whether the bus took it."""

    def __init__(self, bus: Bus, agent: AgentName) -> None:
        self._bus = bus
        self._agent = agent

    @property
    def agent(self) -> str:
        return str(self._agent)

    @property
    def heard(self) -> bool:
        return self._bus.up

    @property
    def connection(self) -> int:
        """Another number for each connection to the broker."""
        return self._bus.counters.connections

    def heartbeat(self, attributes: AgentAttributes) -> bool:
        return self._send(writing.heartbeat(attributes))

    def data(self, schema: SchemaId, objects: Sequence[DataObject]) -> bool:
        taken = [self._send(message) for message in writing.data_indications(self._agent, schema, objects)]
        return all(taken)

    def event(self, schema: SchemaId, event: Event, settled: Settled) -> bool:
        return self._send(writing.event_indication(self._agent, schema, event), settled)

    def _send(self, message: Message, settled: Settled | None = None) -> bool:
        return self._bus.send(Topic(message.subject or ""), message, settled)

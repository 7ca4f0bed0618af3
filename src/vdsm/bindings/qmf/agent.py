# SPDX-License-Identifier: Apache-2.0
"""The agent: a host on a bus. It hears what is sent to its name and to all agents, and tells what happens here."""

from __future__ import annotations

import logging

from vdsm.amqp.bus import Bus
from vdsm.amqp.places import Direct, ReplyTo, Topic
from vdsm.core.bridge import Bridge
from vdsm.protocols.amqp import Message
from vdsm.protocols.qmf2 import names, writing
from vdsm.protocols.qmf2.forms import attributes_map
from vdsm.protocols.qmf2.model import Locate, MethodCall, OldSchemaRequest, Query, Refused
from vdsm.protocols.qmf2.reading import parse

from .attributes import Attributes
from .calls import Calls
from .objects import Objects
from .options import AgentOptions
from .publisher import Publisher
from .queries import Queries
from .requests import Requests
from .schema import Schemata
from .voice import Voice

log = logging.getLogger(__name__)


class Agent:
    """Opens and closes the bus it is given. `epoch` counts the daemon's starts; `since` is the id of the last event
    that happened before this one."""

    def __init__(self, bridge: Bridge, bus: Bus, options: AgentOptions, *, epoch: int, since: int) -> None:
        self._bus = bus
        self._closing = False
        self._name = str(options.name)
        schemata = Schemata()
        objects = Objects(bridge, self._name)
        self._attributes = Attributes(options, epoch)
        calls = Calls(bridge, schemata, self._name)
        self._requests = Requests(bus, calls, Queries(schemata, objects), schemata, options)
        voice = Voice(bus, options.name)
        self._publisher = Publisher(bridge, voice, schemata, objects, self._attributes, options, since)

    @property
    def name(self) -> str:
        return self._name

    @property
    def under_way(self) -> int:
        """Requests that are not answered yet."""
        return self._requests.under_way

    async def open(self) -> None:
        """Returns at once, whatever the broker does."""
        self._bus.watch(self._up, self._down)
        self._bus.listen(Direct(self._name), self._hear)
        self._bus.listen(Topic(names.TO_AGENTS), self._hear)
        self._publisher.start()
        await self._bus.open()

    async def close(self) -> None:
        """Say good-bye; calls under way are cut off, so let them end before."""
        self._closing = True
        await self._publisher.close()
        await self._requests.close()
        await self._bus.close()

    def _up(self) -> None:
        log.info("on the bus as %s", self._name)
        self._publisher.up()

    def _down(self, reason: str) -> None:
        if not self._closing:
            log.warning("off the bus: %s", reason)
        self._publisher.down()

    def _hear(self, message: Message) -> None:
        request = parse(message)
        match request:
            case Locate():
                self._be_found(message, request)
            case Query() | MethodCall() | OldSchemaRequest():
                self._requests.take(message, request)
            case Refused(answerable=True) if message.reply_to:
                self._requests.take(message, request)
            case Refused():
                self._requests.complain(message, request.text)
            case _:
                self._requests.complain(message, f"an agent is not told a {type(request).__name__}")

    def _be_found(self, message: Message, request: Locate) -> None:
        attributes = self._attributes.now()
        if not message.reply_to:
            self._requests.complain(message, "it looks for agents and says not where to answer")
        elif request.where.holds(attributes_map(attributes)):
            self._bus.send(ReplyTo(message.reply_to), writing.located(message, attributes))
            self._publisher.located()

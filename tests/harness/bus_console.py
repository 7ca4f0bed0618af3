# SPDX-License-Identifier: Apache-2.0
"""A console for tests of agents: the codec over a real bus, and nothing that would hide what came."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec

from harness.until import BUSY
from vdsm.amqp.address import BusAddress
from vdsm.amqp.bus import Bus
from vdsm.amqp.places import Direct, Inbox, Topic
from vdsm.protocols.amqp import Message
from vdsm.protocols.qmf2 import writing
from vdsm.protocols.qmf2.guard import CONSOLE_LIMITS
from vdsm.protocols.qmf2.model import (
    DataIndication,
    DataObject,
    Event,
    EventIndication,
    Fault,
    Heartbeat,
    MethodAnswer,
    MethodCall,
    ObjectId,
    Query,
    QueryAnswer,
    What,
)
from vdsm.protocols.qmf2.predicates import Predicate
from vdsm.protocols.qmf2.reading import parse

T = TypeVar("T")
_ANSWER_S = 20.0


class Refused(Exception):
    """A fault came for an answer."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.text)
        self.fault = fault
        self.slug = str(fault.others.get("type", "")).rpartition(":")[2]


class Console:
    """It knows one agent by name. `heard` is every indication of that agent, in order."""

    def __init__(self, url: str, agent: str, domain: str = "default") -> None:
        self.bus = Bus(BusAddress.parse(url), domain=domain)
        self.agent = agent
        self.heard: list[Heartbeat | DataIndication | EventIndication] = []
        self.answers: dict[object, list[Any]] = {}  # by correlation id, all that ever came
        self._numbers = itertools.count(1)

    async def open(self) -> None:
        self.bus.listen(Inbox(), self._answered)
        self.bus.listen(Topic("agent.ind.#"), self._told)
        await self.bus.open()
        await self.bus.wait_up(30 * BUSY)

    async def close(self) -> None:
        await self.bus.close()

    def _answered(self, message: Message) -> None:
        self.answers.setdefault(message.correlation_id, []).append(parse(message, CONSOLE_LIMITS))

    def _told(self, message: Message) -> None:
        said = parse(message, CONSOLE_LIMITS)
        if isinstance(said, Heartbeat | DataIndication | EventIndication) and said.agent == self.agent:
            self.heard.append(said)

    @property
    def reply_to(self) -> str:
        assert self.bus.reply_address is not None
        return self.bus.reply_address

    def number(self) -> str:
        return str(next(self._numbers))

    # ---- requests --------------------------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        assert self.bus.send(Direct(self.agent), message)

    async def ask(self, message: Message) -> list[Any]:
        """All parts of the answer. Raises Refused."""
        self.answers.pop(message.correlation_id, None)
        self.send(message)
        await until(lambda: _complete(self.answers.get(message.correlation_id, [])))
        parts = self.answers[message.correlation_id]
        if isinstance(parts[-1], Fault):
            raise Refused(parts[-1])
        return parts

    async def call(self, method: str, on: str = "", **arguments: Any) -> Any:
        """The arguments of the answer."""
        said = self.calling(method, on, **arguments)
        (answer,) = await self.ask(said)
        assert isinstance(answer, MethodAnswer)
        return answer.arguments

    def calling(self, method: str, on: str = "", **arguments: Any) -> Message:
        target = ObjectId(on, self.agent) if on else None
        call = MethodCall(name=method, object_id=target, arguments=arguments)
        return writing.call(call, self.reply_to, self.number())

    async def query(self, query: Query) -> list[Any]:
        parts = await self.ask(writing.query(query, self.reply_to, self.number()))
        assert all(isinstance(part, QueryAnswer) for part in parts)
        return [found for part in parts for found in part.found]

    async def locate(self, where: Predicate = Predicate()) -> None:  # noqa: B008 it cannot be changed
        message = writing.locate(where, self.reply_to)
        message.correlation_id = self.number()
        assert self.bus.send(Topic(message.subject or ""), message)

    # ---- what was told ---------------------------------------------------------------------------------------------

    @property
    def events(self) -> list[Event]:
        return [event for said in self.heard if isinstance(said, EventIndication) for event in said.events]

    @property
    def objects(self) -> list[DataObject]:
        return [each for said in self.heard if isinstance(said, DataIndication) for each in said.objects]

    @property
    def heartbeats(self) -> list[Heartbeat]:
        return [said for said in self.heard if isinstance(said, Heartbeat)]


def _complete(parts: list[Any]) -> bool:
    return bool(parts) and not getattr(parts[-1], "partial", False)


async def until(ask: Callable[[], T], seconds: float = _ANSWER_S) -> T:
    """The first answer of `ask` that is true, asked while the loop runs on."""
    async with asyncio.timeout(seconds * BUSY):
        while not (answer := ask()):
            await asyncio.sleep(0.01)
    return answer


@asynccontextmanager
async def console(url: str, agent: str, domain: str = "default") -> AsyncIterator[Console]:
    made = Console(url, agent, domain)
    try:
        await made.open()
        yield made
    finally:
        await made.close()


def everything(what: What = What.OBJECT) -> Query:
    return Query(what=what)


def altered(message: Message, **changes: Any) -> Message:
    return msgspec.structs.replace(message, **changes)

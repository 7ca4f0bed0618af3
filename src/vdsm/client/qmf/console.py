# SPDX-License-Identifier: Apache-2.0
"""A console: one process's view of all hosts on a bus. It hears them, asks them, and notices when they are gone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from vdsm.amqp.bus import Bus
from vdsm.amqp.places import Direct, Inbox, Target, Topic
from vdsm.amqp.subscription import Subscription
from vdsm.protocols.amqp import Message
from vdsm.protocols.qmf2 import names, reading, writing
from vdsm.protocols.qmf2.guard import CONSOLE_LIMITS
from vdsm.protocols.qmf2.model import (
    DataObject,
    Event,
    EventIndication,
    Fault,
    Heartbeat,
    MethodAnswer,
    MethodCall,
    Query,
    QueryAnswer,
)
from vdsm.protocols.qmf2.predicates import EVERYTHING, Predicate, equal

from .hosts import Change, Hosts, KnownHost, State, Unknown, text_of
from .requests import SOON, Answer, Requests

log = logging.getLogger(__name__)

LOOK_EVERY = 0.5  # seconds between two looks at who has gone silent
LOCATE_FIRST, LOCATE_LONGEST = 1.0, 10.0  # seconds after which a host that is looked for is called again
QUIET = 1.0  # seconds without an answer after which all who hear us are taken to have answered
LONGEST_NAME = 200  # characters of a name that hosts are asked for
SETTLE = 0.5  # seconds in which every host that is meant by a name should have answered
ONE_BY_ONE = 40  # hosts are asked by name, so that the others need not answer; more are asked all together

EventHandler = Callable[[Sequence[Event]], None]


class Console:
    """Open it, or use it in an `async with`. It belongs to one event loop. The bus is its own from then on."""

    def __init__(self, bus: Bus) -> None:
        self.hosts = Hosts()
        self._bus = bus
        self._requests = Requests()
        self._heard: list[Subscription] = []
        self._hearers: dict[str, list[EventHandler]] = {}
        self._ager: asyncio.Task[None] | None = None
        self._news = asyncio.Event()  # a host was found
        self._names: dict[str, str] = {}  # what hosts were looked for by, and who was meant
        self._unheard: set[str] = set()  # agents that have said nothing yet since the bus came up
        self.down_for = ""  # why the bus is down, if it is
        self.hosts.watch(self._changed)

    async def __aenter__(self) -> Console:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Begin to listen; returns at once."""
        self._bus.watch(self._came_up, self._went_down)
        self._heard = [
            self._bus.listen(Inbox(), self._take),
            self._bus.listen(Topic(names.HEARTBEATS), self._take),
        ]
        self._ager = asyncio.create_task(self._age(), name="ageing of hosts")
        await self._bus.open()

    async def close(self) -> None:
        if self._ager is not None:
            self._ager.cancel()
            await asyncio.gather(self._ager, return_exceptions=True)
        await self._bus.close()

    async def wait_up(self, seconds: float) -> None:
        """Raises BusDown."""
        await self._bus.wait_up(seconds)

    @property
    def up(self) -> bool:
        return self._bus.up

    # ---- hosts -----------------------------------------------------------------------------------------------------

    def locate(self, where: Predicate = EVERYTHING) -> bool:
        """Ask the hosts whose attributes are so to say that they are there; they then also tell all they have."""
        reply_to = self._bus.reply_address
        return reply_to is not None and self._send(Topic(names.LOCATE_KEY), writing.locate(where, reply_to))

    async def discover(self, seconds: float) -> None:
        """Return when the hosts that are there have answered: none came for a while, or `seconds` are over."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + seconds
        self.locate()
        quiet = seconds if not len(self.hosts) else QUIET
        while (left := ends - loop.time()) > 0:
            self._news.clear()
            try:
                async with asyncio.timeout(min(quiet, left)):
                    await self._news.wait()
            except TimeoutError:
                return
            quiet = QUIET

    async def find(self, text: str, seconds: float | None) -> KnownHost:
        """The host of that id; else, when all had time to answer, of that name, or whose name or id begins so.

        `seconds`: None for as long as it takes. Raises Unknown.
        """
        loop = asyncio.get_running_loop()
        begun = loop.time()
        ends = float("inf") if seconds is None else begun + seconds
        settled, again, pause = float("inf"), begun, LOCATE_FIRST
        while True:
            if (host := self._found(text)) is not None:
                return host
            now = loop.time()
            if now >= min(settled, ends):
                try:
                    host = self.hosts.find(text)
                except Unknown:
                    if now >= ends:
                        raise
                else:
                    self._names[text] = host.agent
                    return host
            self._news.clear()
            if now >= again:
                sent = self.locate(called(text[:LONGEST_NAME]))
                settled = min(settled, now + SETTLE) if sent else settled
                again, pause = (now + pause, min(pause * 2, LOCATE_LONGEST)) if sent else (now + SOON, pause)
            wake = min(again, ends, settled if settled > now else again)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, wake - now)):
                    await self._news.wait()

    def _found(self, text: str) -> KnownHost | None:
        """Without a doubt: by its id, or because it was found before and is still there."""
        host = self.hosts.get(text) or self.hosts.of_instance(text) or self.hosts.get(self._names.get(text, ""))
        return host if host is not None and (host.state is State.UP or text in (host.agent, host.instance)) else None

    # ---- questions -------------------------------------------------------------------------------------------------

    async def query(self, agent: str, query: Query, seconds: float) -> list[DataObject]:
        """The objects of that host which the query wants. Raises NoAnswer, Lost, Refusal."""
        parts = await self._ask(agent, partial(writing.query, query), seconds)
        found = [each for part in parts if isinstance(part, QueryAnswer) for each in part.found]
        return [each for each in found if isinstance(each, DataObject)]

    async def call(self, agent: str, call: MethodCall, seconds: float | None) -> MethodAnswer:
        """`seconds`: None for as long as the host gives signs of life. Sent again when its answer may be lost, so it
        must be one that is done once, or can be done twice. Raises NoAnswer, Lost, Refusal."""
        (answer,) = await self._ask(agent, partial(writing.call, call), seconds)
        assert isinstance(answer, MethodAnswer)
        return answer

    async def _ask(self, agent: str, write: Callable[[str, str], Message], seconds: float | None) -> Sequence[Answer]:
        def send(number: str) -> bool:
            reply_to = self._bus.reply_address
            return reply_to is not None and self._send(Direct(agent), write(reply_to, number))

        parts = await self._requests.ask(agent, send, seconds, lambda: self._lost(agent))
        if isinstance(parts[-1], Fault):
            raise Refusal(parts[-1])
        return parts

    def _lost(self, agent: str) -> str:
        host = self.hosts.get(agent)
        if not self._bus.up:
            return f"the bus is down: {self.down_for}" if self.down_for else "the bus is down"
        if host is None:
            return "it was never heard"
        if host.state is State.SILENT:
            return f"it has been silent for {host.age(time.monotonic()):.0f} s"
        return "its daemon was stopped" if text_of(host.attributes, "state") == "stopping" else ""

    def _send(self, where: Target, message: Message) -> bool:
        # A host believes only what the broker has checked, and the broker checks only what is said.
        message.user_id = self._bus.identity
        return self._bus.send(where, message)

    # ---- events ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def hearing(self, agent: str, handler: EventHandler) -> Iterator[None]:
        """Hand over that host's events as they come, and none at each heartbeat. Some may be lost on the way."""
        if len(self._heard) == 2:  # a console that wants no events is not sent any
            self._heard.append(self._bus.listen(Topic(names.EVENTS), self._take))
        handlers = self._hearers.setdefault(agent, [])
        handlers.append(handler)
        try:
            yield
        finally:
            handlers.remove(handler)

    # ---- what comes ------------------------------------------------------------------------------------------------

    def _take(self, message: Message) -> None:
        now = time.monotonic()
        match said := reading.parse(message, CONSOLE_LIMITS):
            case Heartbeat(located=False) | EventIndication() if not _is_own(said.agent, message.subject):
                log.warning("dropped what says it is from %.80s: it came as %.80s", said.agent, message.subject)
            case Heartbeat():
                self.hosts.hear(said.attributes, now)
                if said.agent in self._unheard:  # a broker forgets what it had for somebody who was away
                    self._unheard.discard(said.agent)
                    self._requests.nudge(said.agent)
                self._hand_over(said.agent, ())
                if said.located:
                    self._news.set()
            case MethodAnswer() | QueryAnswer() | Fault():
                self.hosts.sign_of_life(said.agent, now)
                self._requests.answered(message.correlation_id, said)
            case EventIndication():
                self.hosts.sign_of_life(said.agent, now)
                self._hand_over(said.agent, said.events)
            case _:
                log.debug("passed over: %r", said)

    def _hand_over(self, agent: str, events: Sequence[Event]) -> None:
        for handler in list(self._hearers.get(agent, [])):
            handler(events)

    def _came_up(self) -> None:
        self.down_for = ""
        self.hosts.forgive(time.monotonic())
        self._unheard = {host.agent for host in self.hosts}
        self._requests.nudge()
        self._news.set()
        # What the hosts that are followed told meanwhile is missed: the answer says how far they are.
        concerned = {*(agent for agent, handlers in self._hearers.items() if handlers), *self._requests.agents()}
        if len(concerned) > ONE_BY_ONE:
            self.locate()
        elif concerned:
            self.locate(Predicate(["or", *(equal("_name", agent) for agent in sorted(concerned))]))

    def _went_down(self, reason: str) -> None:
        self.down_for = reason

    def _changed(self, change: Change, host: KnownHost) -> None:
        self._news.set()
        if change in (Change.RESTARTED, Change.BACK):
            self._requests.nudge(host.agent)

    async def _age(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if self._bus.up:  # otherwise it is we who do not hear
                self.hosts.pass_time(time.monotonic())


def called(text: str) -> Predicate:
    """Whether a host's name or id is `text`, or begins so."""
    beginning = re.escape(text)
    return Predicate(
        [
            "or",
            equal("_name", text),
            equal("_instance", text),
            equal("hostName", text),
            ["re_match", "_instance", ["quote", beginning]],
            ["re_match", "hostName", ["quote", beginning]],
        ]
    )


def _is_own(agent: str, key: str | None) -> bool:
    """Whether a broadcast came under its sender's own key; a broker can be told to let a host use no other."""
    try:
        own = names.heartbeat_key(names.AgentName.parse(agent)).removeprefix("agent.ind.heartbeat")
    except ValueError:
        return False
    return key is None or key.endswith(own)  # some brokers route by the address instead


class Refusal(Exception):
    """A host answered with an exception."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.text)
        self.fault = fault

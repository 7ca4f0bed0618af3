# SPDX-License-Identifier: Apache-2.0
"""Requests of consoles, each in a task of its own: what hangs, hangs alone. Too many at once are refused, not kept."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterable

from vdsm.amqp.bus import Bus
from vdsm.amqp.places import ReplyTo
from vdsm.contract.errors import TooBusy
from vdsm.protocols.amqp import Message
from vdsm.protocols.qmf2 import writing
from vdsm.protocols.qmf2.model import Fault, MethodCall, OldSchemaRequest, Query, Refused

from .calls import Calls, fault_of
from .options import AgentOptions
from .queries import Queries
from .replays import Answer, Replays, key_of
from .schema import Schemata
from .sending import deliver

log = logging.getLogger(__name__)

_SILENCE_S = 10.0  # between two lines of the log about messages that cannot be taken
_SHOWN = 200
_LAST_ANSWER_S = 1.0


class Requests:
    def __init__(self, bus: Bus, calls: Calls, queries: Queries, schemata: Schemata, options: AgentOptions) -> None:
        self._bus = bus
        self._calls = calls
        self._queries = queries
        self._schemata = schemata
        self._options = options
        self._agent = str(options.name)
        self._working: set[asyncio.Task[None]] = set()
        self._senders: Counter[str] = Counter()
        self._replays = Replays()
        self._complained = float("-inf")

    def take(self, message: Message, request: Query | MethodCall | OldSchemaRequest | Refused) -> None:
        """Returns at once; the answer goes where the message says."""
        if not message.reply_to:
            self.complain(message, "it wants an answer and says not where to")
            return
        sender = message.user_id or ""  # reply addresses are free: they would be a way around the limit
        if len(self._working) >= self._options.max_requests or self._senders[sender] >= self._options.max_calls:
            self._say(message, [self._fault(message, fault_of(TooBusy(what="requests over the bus"), self._agent))])
            return
        self._senders[sender] += 1
        task = asyncio.create_task(self._serve(message, request))
        self._working.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._working.discard(task)
            self._senders[sender] -= 1
            self._senders += Counter()  # drops the zeros

        task.add_done_callback(done)

    def complain(self, message: Message, reason: str) -> None:
        """One line, and not again for a while: whoever sends nonsense does not fill the disk."""
        now = time.monotonic()
        if now - self._complained >= _SILENCE_S:
            self._complained = now
            who = message.user_id or message.reply_to or "somebody"
            log.warning("a message on the bus from %.*s is not taken: %.*s", _SHOWN, who, _SHOWN, reason)

    @property
    def under_way(self) -> int:
        return len(self._working)

    async def close(self) -> None:
        """Answers that are ready may still leave."""
        if self._working:
            await asyncio.wait(self._working, timeout=_LAST_ANSWER_S)
        for task in self._working:
            task.cancel()
        await asyncio.gather(*self._working, return_exceptions=True)

    async def _serve(self, message: Message, request: Query | MethodCall | OldSchemaRequest | Refused) -> None:
        try:
            messages = await self._messages(message, request)
        except Exception as error:  # the last net: each request is answered
            messages = [self._fault(message, fault_of(error, self._agent))]
        await deliver(self._bus, ReplyTo(message.reply_to or ""), messages)

    async def _messages(
        self, message: Message, request: Query | MethodCall | OldSchemaRequest | Refused
    ) -> list[Message]:
        match request:
            case Query():
                found = await self._queries.answer(request, lambda: self._options.users.caller(message.user_id))
                return [*writing.query_answers(message, self._agent, request.what, found)]
            case MethodCall():
                return [self._answer(message, await self._call(message, request))]
            case OldSchemaRequest():
                schema = self._schemata.old(request.schema)
                return [writing.old_schema_answer(message, self._agent, request, schema)]
            case Refused():
                self.complain(message, request.text)
                return [writing.fault(message, self._agent, request.code, request.text)]

    async def _call(self, message: Message, call: MethodCall) -> Answer:
        caller = self._options.users.caller(message.user_id)
        verb = self._calls.verb(call)
        key = key_of(message, call) if verb.mutates else None
        if key is not None and (earlier := self._replays.earlier(key)) is not None:
            return await asyncio.shield(earlier)
        answer = asyncio.ensure_future(self._calls.answer(verb, call, caller))
        if key is not None:
            self._replays.keep(key, answer)
        return await answer

    def _answer(self, message: Message, answer: Answer) -> Message:
        if isinstance(answer, Fault):
            return self._fault(message, answer)
        return writing.method_answer(message, self._agent, answer.arguments)

    def _fault(self, message: Message, fault: Fault) -> Message:
        return writing.fault(message, self._agent, fault.code, fault.text, fault.others)

    def _say(self, message: Message, messages: Iterable[Message]) -> None:
        """At once or not at all."""
        for each in messages:
            self._bus.send(ReplyTo(message.reply_to or ""), each)

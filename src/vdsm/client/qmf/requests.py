# SPDX-License-Identifier: Apache-2.0
"""Requests that wait for their answer: sent again when it may have been lost, put together when it comes in parts."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from vdsm.protocols.qmf2.model import Fault, MethodAnswer, QueryAnswer

AGAIN = 15.0  # seconds without an answer after which a request is sent again
SOON = 0.5  # seconds until the next attempt, where the bus did not take it
PATIENCE = 20.0  # seconds that the way to an agent, or the agent itself, may be gone before nobody waits for it
Answer = MethodAnswer | QueryAnswer | Fault


class NoAnswer(Exception):
    """Nothing came in time."""


class Lost(NoAnswer):
    """Nothing came, and nothing will: the text says what became of the other side."""


@dataclass(slots=True)
class Pending:
    """One request. `send` gives it to the bus under an id, and says whether it could."""

    agent: str
    send: Callable[[str], bool]
    done: asyncio.Future[Sequence[Answer]]
    woken: asyncio.Event = field(default_factory=asyncio.Event)  # answered, or nudged to be sent again
    ids: list[str] = field(default_factory=list)
    parts: dict[str, list[Answer]] = field(default_factory=dict)  # by the id they answer


class Requests:
    """What a console has asked and not been told yet.

    Each sending has an id of its own, since an agent may take a second message of one id for the first delivered twice.
    Nobody can guess it: every agent that was ever asked knows where we want our answers.
    """

    def __init__(self) -> None:
        self._asked: list[Pending] = []
        self._pending: dict[str, Pending] = {}  # by the ids under which they were sent

    def __len__(self) -> int:
        return len(self._asked)

    def agents(self) -> set[str]:
        """Those that have not answered yet."""
        return {pending.agent for pending in self._asked}

    async def ask(
        self, agent: str, send: Callable[[str], bool], seconds: float | None, lost: Callable[[], str]
    ) -> Sequence[Answer]:
        """The parts of the answer. `seconds`: None for as long as the agent is there.

        `lost` says why there can be no answer now, if that is so. Raises NoAnswer, Lost.
        """
        loop = asyncio.get_running_loop()
        pending = Pending(agent, send, loop.create_future())
        self._asked.append(pending)
        ends = None if seconds is None else loop.time() + seconds
        lost_since: float | None = None
        try:
            while not pending.done.done():
                now, reason = loop.time(), lost()
                lost_since = (lost_since or now) if reason else None
                if ends is None and lost_since is not None and now - lost_since >= PATIENCE:
                    raise Lost(reason)
                if ends is not None and now >= ends:
                    raise Lost(reason) if reason else NoAnswer(f"no answer came within {seconds:g} s")
                pause = AGAIN if self._send(pending) else SOON
                await self._wait(pending, pause if ends is None else min(pause, ends - now))
            return pending.done.result()
        finally:
            self._asked = [other for other in self._asked if other is not pending]
            for number in pending.ids:
                del self._pending[number]

    def answered(self, number: object, answer: Answer) -> None:
        """An answer came. One that nobody asked for, or that comes from somebody else, is passed over."""
        pending = self._pending.get(number) if isinstance(number, str) else None
        if pending is None or answer.agent != pending.agent or pending.done.done():
            return
        assert isinstance(number, str)
        parts = pending.parts.setdefault(number, [])
        parts.append(answer)
        if not (isinstance(answer, QueryAnswer) and answer.partial):
            pending.done.set_result(parts)
            pending.woken.set()

    def nudge(self, agent: str | None = None) -> None:
        """What this agent (None: every one) was asked may be lost: ask again."""
        for pending in self._asked:
            if agent in (None, pending.agent):
                pending.woken.set()

    def _send(self, pending: Pending) -> bool:
        pending.woken.clear()
        number = secrets.token_hex(12)
        sent = pending.send(number)
        if sent:
            pending.ids.append(number)
            self._pending[number] = pending
        return sent

    async def _wait(self, pending: Pending, seconds: float) -> None:
        """Until it is answered or nudged, or `seconds` are over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await pending.woken.wait()

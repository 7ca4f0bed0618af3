# SPDX-License-Identifier: Apache-2.0
"""Events of one host, each once and in order: as they come over the bus, and what was missed by asking.

A host numbers its events without a hole. One that comes next is handed on as it is; any other, or a heartbeat that
speaks of a newer one, means that something was missed, and the host's journal is read from where we are.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from vdsm.client.exchange import Options
from vdsm.contract import event as verbs
from vdsm.contract.codec import from_plain, to_plain
from vdsm.contract.errors import HostUnreachable, InvalidParams, Problem
from vdsm.contract.events import EVENTS, EventFilter, EventRecord, Gap
from vdsm.protocols.qmf2.model import Event

from . import calls
from .console import Console
from .hosts import KnownHost

PAGE = 1000
WAITING = 4096  # events that came and were not taken yet; more are read from the journal later
FAR = 2**53 - 1  # the largest id there can be
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds
ASK_SECONDS = 30.0
POLL_SECONDS = 2.0  # between two looks into the journal of a host that tells no events on the bus
_OF_RECORD = {"eventId": "id", **{name: name for name in ("time", "notifyTime", "severity", "subject", "flowId")}}

Item = EventRecord | Gap
Step = tuple[int, Item | None]
"""The id up to which nothing is left to tell, and what there is to tell."""
Cut = Callable[[str], None]


async def follow(
    console: Console,
    host: str,
    wanted: EventFilter,
    *,
    since: int | None = None,
    on_cut: Cut | None = None,
    patient: bool = False,
) -> AsyncGenerator[Item, None]:
    """Events of the host of that name after the id `since` (0: the oldest kept; None: from now on), for ever.

    Across cuts and restarts, of which `on_cut` is told. Raises Problem; that a host cannot be reached only at first,
    and if `patient` not even then.
    """
    known = await (console.find(host, None) if patient else calls.find(console, host))
    journal, news = _Journal(console, known, wanted), _News(known)
    position, begun, pause = since, patient, FIRST_PAUSE
    with console.hearing(known.agent, news.heard):
        while True:
            news.caught_up()
            try:
                position = await journal.newest() if position is None else position
                async for reached, item in journal.read(position):
                    position, begun, pause = reached, True, FIRST_PAUSE
                    if item is not None:
                        yield item
            except Problem as problem:
                if not begun or not problem.retryable:
                    raise
                if on_cut is not None and pause == FIRST_PAUSE:
                    on_cut(str(problem))
                await asyncio.sleep(pause * (50 + secrets.randbelow(51)) / 100)  # many consoles, one host: spread them
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            async for reached, item in news.read(position):
                position = reached
                if item is not None and wanted.matches(item):
                    yield item


class _Journal:
    """A host's events of the past, by calls."""

    def __init__(self, console: Console, host: KnownHost, wanted: EventFilter) -> None:
        self._console = console
        self._host = host
        self._wanted = to_plain(wanted)

    async def newest(self) -> int:
        """Its id. Raises Problem."""
        gap, _, last = await self._page(FAR)
        return gap.until if gap is not None else last

    async def read(self, position: int) -> AsyncIterator[Step]:
        """What there is after `position`, up to now. Raises Problem."""
        while True:
            gap, records, last = await self._page(position)
            if gap is not None:
                yield gap.until, gap
            for record in records:
                if record is not None:
                    yield record.id, record
            yield last, None
            if last == position or not records:
                return
            position = last

    async def _page(self, since: int) -> tuple[Gap | None, list[EventRecord | None], int]:
        params = {**self._wanted, "since": since, "limit": PAGE}
        options = Options(deadline=ASK_SECONDS)
        page: Any = await calls.ask(self._console, self._host, verbs.list_, params, options)
        try:
            gap = from_plain(page.get("gap"), Gap) if page.get("gap") else None
            return gap, [_record(each) for each in page["events"]], int(page["last"])
        except (InvalidParams, KeyError, TypeError, ValueError, AttributeError) as error:
            raise HostUnreachable(host=self._host.name, reason=f"its journal cannot be read: {error!r}") from None


class _News:
    """A host's events as they come. Some may be lost on the way, and some come twice."""

    def __init__(self, host: KnownHost) -> None:
        self._host = host
        self._waiting: deque[tuple[int, EventRecord | None]] = deque()
        self._wake = asyncio.Event()
        self._missed = False
        self._told_of = 0  # the newest event that a heartbeat spoke of when the journal was read last

    def heard(self, events: Sequence[Event]) -> None:
        """Also called without an event, for each other sign of life."""
        for event in events:
            event_id = event.values.get("eventId")
            if not isinstance(event_id, int) or "until" in event.values or len(self._waiting) >= WAITING:
                self._missed = True  # the host says that it lost some, or we have no room
            else:
                self._waiting.append((event_id, _of_event(event)))
        self._wake.set()

    def caught_up(self) -> None:
        """The journal is read now, so that what was missed up to here does not count any more."""
        self._missed = False
        self._told_of = self._host.last_event

    async def read(self, position: int) -> AsyncIterator[tuple[int, EventRecord | None]]:
        """What comes after `position`; ends where something may be missing."""
        while True:
            self._wake.clear()
            while self._waiting and self._waiting[0][0] <= position + 1:
                event_id, record = self._waiting.popleft()
                if event_id == position + 1:
                    position = event_id
                    yield event_id, record
            if self._waiting or self._missed or self._host.last_event > max(position, self._told_of):
                return
            try:
                async with asyncio.timeout(None if self._host.last_event else POLL_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                return


def _record(plain: Mapping[str, Any]) -> EventRecord | None:
    """None for an event of a type that this version lacks. Raises InvalidParams."""
    return from_plain(plain, EventRecord) if plain["data"]["type"] in EVENTS else None


def _of_event(event: Event) -> EventRecord | None:
    """The event of a journal that was broadcast. None for one of a type that this version lacks."""
    name = event.schema.name if event.schema is not None else ""
    values = event.values
    plain = {wire: values.get(name) for name, wire in _OF_RECORD.items()}
    plain["data"] = {"type": name, **{n: v for n, v in values.items() if n not in _OF_RECORD}}
    try:
        return _record(plain)
    except InvalidParams:
        return None

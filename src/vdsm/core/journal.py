# SPDX-License-Identifier: Apache-2.0
"""The journal of events: published here, written in order, handed to every subscriber only once it is on disk.

A subscriber is a position in the journal, not a queue: a slow one holds no memory and delays nobody. It reads from the
ring of recent records while it keeps up and from the log when it does not; what the log has dropped, it is told as a
gap.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator

from vdsm.contract.errors import StateUnavailable
from vdsm.contract.events import Event, EventFilter, EventRecord, EventsLost, Gap

from .ports.store import EventDraft, EventLog

log = logging.getLogger(__name__)

RING = 4096
BATCH = 512
QUEUE_LIMIT = 20_000
RETRY = 1.0  # seconds between attempts to write while the disk refuses


def monotonic_ms() -> int:
    """The clock of `notifyTime` and `statusTime`: both must be the same one (the published readers compare them)."""
    return time.monotonic_ns() // 1_000_000


class Journal:
    """Call `start` before the first subscriber, `close` to write what is queued."""

    def __init__(self, event_log: EventLog) -> None:
        self._log = event_log
        self._drafts: deque[EventDraft] = deque()
        self._lost = 0
        self._ring: deque[EventRecord] = deque(maxlen=RING)
        self._last = 0
        self._news: asyncio.Future[None] | None = None
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None

    @property
    def last(self) -> int:
        """Id of the newest event."""
        return self._last

    async def start(self) -> None:
        _, self._last = await self._log.bounds()
        self._idle.set()
        self._writer = asyncio.create_task(self._write(), name="journal")

    async def close(self) -> None:
        """Write what is queued, as far as the disk allows."""
        if self._writer is None:
            return
        try:
            async with asyncio.timeout(5):
                await self.flush()
        except TimeoutError:
            log.error("%d events could not be written before the end", len(self._drafts))
        self._writer.cancel()
        await asyncio.gather(self._writer, return_exceptions=True)

    def publish(self, event: Event, *, flow_id: str = "") -> None:
        """Take note of an event; it reaches subscribers when it is written."""
        if len(self._drafts) >= QUEUE_LIMIT:  # the disk has refused for long: say so instead of eating memory
            self._drafts.popleft()
            self._lost += 1
        self._drafts.append(_draft(event, flow_id))
        self._idle.clear()
        self._work.set()

    async def flush(self) -> None:
        """Wait until everything published so far is written."""
        await self._idle.wait()

    async def _write(self) -> None:
        while True:
            await self._work.wait()
            batch = [self._drafts.popleft() for _ in range(min(BATCH, len(self._drafts)))]
            records = await self._append(batch)
            self._ring.extend(records)
            self._last = records[-1].id
            if not self._drafts:
                self._work.clear()
                self._idle.set()
            if self._news is not None:
                self._news.set_result(None)
                self._news = None

    async def _append(self, batch: list[EventDraft]) -> list[EventRecord]:
        while True:
            lost = self._lost
            try:
                records = await self._log.append([_draft(EventsLost(count=lost), ""), *batch] if lost else batch)
            except StateUnavailable as problem:
                log.error("events wait: %s", problem)
                await asyncio.sleep(RETRY)
                continue
            self._lost -= lost
            return records

    async def read(self, since: int, limit: int) -> tuple[list[EventRecord], Gap | None]:
        """Up to `limit` events after `since`, and what is missing in between."""
        gap: Gap | None = None
        if since > self._last:
            gap = Gap(since=since, until=self._last, reason="the journal begins anew: that event is not in it")
            return [], gap
        if self._ring and self._ring[0].id <= since + 1:
            start = since + 1 - self._ring[0].id
            return [self._ring[i] for i in range(start, min(start + limit, len(self._ring)))], None
        first, _ = await self._log.bounds()
        if 0 < since < first - 1:
            gap = Gap(since=since, until=first - 1, reason="those events are older than what is kept")
        # The log may be ahead of this loop: handed out before `last` has moved, an id would look like another's.
        records = await self._log.read(max(since, first - 1), limit)
        return [record for record in records if record.id <= self._last], gap

    def follow(self, wanted: EventFilter, since: int | None) -> AsyncIterator[EventRecord | Gap]:
        """Events after `since` (None: from now on), for ever."""
        return self._follow(wanted, self._last if since is None else since)

    async def _follow(self, wanted: EventFilter, position: int) -> AsyncIterator[EventRecord | Gap]:
        while True:
            records, gap = await self.read(position, BATCH)
            if gap is not None:
                position = gap.until
                yield gap
            for record in records:
                position = record.id
                if wanted.matches(record):
                    yield record
            if not records and position >= self._last:
                await self._wait()

    async def _wait(self) -> None:
        if self._news is None:
            self._news = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._news)


def _draft(event: Event, flow_id: str) -> EventDraft:
    return EventDraft(
        time=time.time(),
        notify_time=monotonic_ms(),
        severity=event.severity,
        subject=event.subject,
        flow_id=flow_id,
        data=event,
    )

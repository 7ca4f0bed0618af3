# SPDX-License-Identifier: Apache-2.0
"""The journal of events: implements `EventLog`."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence

import msgspec

from vdsm.contract import codec
from vdsm.contract.events import EventRecord
from vdsm.core.ports.store import EventDraft

from . import schema
from .database import Database

log = logging.getLogger(__name__)


class Events:
    def __init__(self, database: Database, keep: int) -> None:
        self._database = database
        self._keep = keep

    async def append(self, drafts: Sequence[EventDraft]) -> list[EventRecord]:
        """Write them together, in order, and drop the oldest beyond the retention."""
        if not drafts:
            return []
        return await self._database.write(lambda connection: self._append(connection, drafts))

    def _append(self, connection: sqlite3.Connection, drafts: Sequence[EventDraft]) -> list[EventRecord]:
        first = schema.take(connection, "event", len(drafts))
        records = [_record(first + i, draft) for i, draft in enumerate(drafts)]
        connection.executemany(
            "INSERT INTO events VALUES (?, ?)", [(record.id, codec.to_json(record).decode()) for record in records]
        )
        connection.execute("DELETE FROM events WHERE id <= ?", (records[-1].id - self._keep,))
        return records

    async def read(self, since: int, limit: int) -> list[EventRecord]:
        """The oldest `limit` kept events with an id above `since`; fewer only at the end, or of a later version's."""
        while True:
            rows = await self._rows(since, limit)
            records = [record for id_, text in rows if (record := _decode(id_, text))]
            if records or not rows:
                return records
            since = rows[-1][0]  # nothing readable here is not the end

    async def _rows(self, since: int, limit: int) -> list[tuple[int, str]]:
        return await self._database.read(
            lambda connection: connection.execute(
                "SELECT id, record FROM events WHERE id > ? ORDER BY id LIMIT ?", (since, limit)
            ).fetchall()
        )

    async def bounds(self) -> tuple[int, int]:
        """Ids of the oldest and the newest kept event; with none kept, (next id, next id - 1)."""
        return await self._database.read(_bounds)


def _bounds(connection: sqlite3.Connection) -> tuple[int, int]:
    (oldest, newest) = connection.execute(
        "SELECT (SELECT min(id) FROM events), (SELECT value FROM counters WHERE name = 'event')"
    ).fetchone()
    return (newest + 1 if oldest is None else oldest, newest)


def _record(id_: int, draft: EventDraft) -> EventRecord:
    return EventRecord(
        id=id_,
        time=draft.time,
        notify_time=draft.notify_time,
        severity=draft.severity,
        subject=draft.subject,
        flow_id=draft.flow_id,
        data=draft.data,
    )


def _decode(id_: int, text: str) -> EventRecord | None:
    """None for an event of a later version, whose type this one does not know: after a downgrade."""
    try:
        return codec.from_json(text, EventRecord)
    except msgspec.ValidationError as error:
        log.warning("event %d cannot be read by this version: %s", id_, error)
        return None

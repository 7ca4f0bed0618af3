# SPDX-License-Identifier: Apache-2.0
"""Reading the journal a stretch at a time."""

from __future__ import annotations

from vdsm.contract import event
from vdsm.contract.event import EventPage
from vdsm.contract.events import EventFilter, EventRecord, Gap, Severity

from .handlers import Context, handles
from .journal import BATCH, Journal


class Events:
    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    @handles(event.list_)
    async def list_(
        self,
        ctx: Context,
        *,
        since: int = 0,
        limit: int = 1000,
        types: list[str] = [],  # noqa: B006 as in the contract; it is not written to
        subjects: list[str] = [],  # noqa: B006
        severities: list[Severity] = [],  # noqa: B006
    ) -> EventPage:
        wanted = EventFilter(types=types, subjects=subjects, severities=severities)
        found: list[EventRecord] = []
        first_gap: Gap | None = None
        if since <= self._journal.last:  # an id beyond asks where the journal ends now, and not a moment later
            await self._journal.flush()  # whoever has just changed something finds it here
        while len(found) < limit:
            records, gap = await self._journal.read(since, BATCH)
            first_gap = first_gap or gap
            if not records:
                since = gap.until if gap else since
                break
            for record in records:
                since = record.id
                if wanted.matches(record):
                    found.append(record)
                    if len(found) == limit:
                        break
        return EventPage(events=found, last=since, gap=first_gap)
